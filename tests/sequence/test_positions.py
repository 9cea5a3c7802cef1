"""Positional encodings: the formula of the paper, its properties, learned tables, and both on
grids of several axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.sequence import (
    FactorisedPositions,
    GridSinusoidalPositions,
    LearnedPositions,
    SinusoidalPositions,
    grid_positions,
)
from tinycv.sequence.positions import sinusoidal

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


def table(start, count, width):
    return sinusoidal(np, np.arange(start, start + count, dtype=float), width)


def test_the_table_equals_the_formula_of_the_paper():
    for pos, row in enumerate(table(0, 30, 6)):
        for i in range(3):
            angle = pos / 10000 ** (2 * i / 6)
            assert row[2 * i : 2 * i + 2] == pytest.approx(
                [math.sin(angle), math.cos(angle)], abs=1e-12
            )


def test_a_shift_rotates_each_pair_by_an_angle_that_does_not_depend_on_the_position():
    here, there = (table(start, 40, 8).reshape(40, 4, 2) for start in (0, 7))
    for i in range(4):
        s, c = math.sin(7 / 10000 ** (i / 4)), math.cos(7 / 10000 ** (i / 4))
        np.testing.assert_allclose(
            here[:, i] @ np.array([[c, -s], [s, c]]), there[:, i], atol=1e-12
        )


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64])
def test_integers_become_floats_before_the_table_is_added(dtype, device):
    x = np.ones((1, 5, 6), dtype)
    expected = SinusoidalPositions()(Tensor(x.astype(np.float64))).numpy()
    found = SinusoidalPositions()(Tensor(x, device=device)).numpy()
    assert found.dtype.kind == "f"
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_ten_thousand_positions_are_all_different():
    places = table(0, 10000, 16)
    nearest = [np.linalg.norm(places[:i] - places[i], axis=1).min() for i in range(1, 10000, 301)]
    assert min(nearest) > 0.1


def test_an_odd_width_ends_with_a_sine():
    assert (table(0, 4, 5) == table(0, 4, 5)).all() and table(0, 4, 5).shape == (4, 5)
    np.testing.assert_allclose(table(0, 4, 5)[:, 4], np.sin(np.arange(4) / 10000 ** (4 / 5)))


@pytest.mark.parametrize(
    "make", [SinusoidalPositions, lambda: LearnedPositions(9, 8)], ids=["sinusoidal", "learned"]
)
def test_a_sequence_in_two_pieces_gets_the_same_positions_as_the_whole(device, make):
    position, x = make(), Tensor(X, device=device)
    position.to(device)
    pieces = tinycv.concatenate([position(x[:, :2]), position(x[:, 2:], 2)], axis=1)
    whole = position(x)
    assert whole.dtype == np.float32 and (pieces.numpy() == whole.numpy()).all()
    assert (whole.numpy() != X).any() and position(x[:, :0]).shape == (2, 0, 8)


def test_distant_positions_are_as_exact_as_the_first():
    y = SinusoidalPositions()(Tensor(np.zeros((1, 1, 8), np.float32)), 123456).numpy()[0, 0]
    assert y[0] == pytest.approx(math.sin(123456), abs=1e-6)


def test_a_position_beyond_the_learned_table_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="positions for 6 tokens, but x ends at 7"):
        LearnedPositions(6, 8)(Tensor(X), 2)


@pytest.mark.parametrize(
    "make", [SinusoidalPositions, lambda: LearnedPositions(7, 8)], ids=["sinusoidal", "learned"]
)
def test_positions_are_certified(make):
    certify_layer(make(), X)


# ── grids of several axes ────────────────────────────────────────────────────────────────────────

VIDEO = (3, 2, 4)  # frames, rows, columns: 24 tokens
TOKENS = np.random.default_rng(1).normal(size=(2, 24, 12)).astype(np.float32)


class InGrid(tinycv.nn.Module):
    """A layer with a fixed grid, which is no input of the gradient check."""

    def __init__(self, layer, grid):
        self.layer, self.grid = layer, grid

    def forward(self, x):
        return self.layer(x, self.grid)


def test_the_coordinates_of_a_grid_count_its_last_axis_first():
    places = grid_positions((2, 1, 3))
    assert places.tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 0, 2],
        [1, 0, 0],
        [1, 0, 1],
        [1, 0, 2],
    ]


def test_each_axis_of_a_sinusoidal_grid_has_the_formula_of_the_paper():
    added = GridSinusoidalPositions()(Tensor(0 * TOKENS), VIDEO).numpy()[0].reshape(*VIDEO, 12)
    for axis in range(3):
        along = np.moveaxis(added[..., 4 * axis : 4 * axis + 4], axis, 0)
        expected = table(0, VIDEO[axis], 4)[:, None, None]
        np.testing.assert_allclose(along, np.broadcast_to(expected, along.shape), atol=1e-6)


def test_factorised_positions_are_the_sum_of_one_vector_per_axis():
    layer = FactorisedPositions(VIDEO, 12)
    time, row, column = (t.numpy() for t in layer.tables)
    found = layer(Tensor(0 * TOKENS), VIDEO).numpy()[1].reshape(*VIDEO, 12)
    np.testing.assert_allclose(found[2, 1, 3], time[2] + row[1] + column[3], rtol=1e-6)
    expected = time[:, None, None] + row[None, :, None] + column[None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


GRID_LAYERS = pytest.mark.parametrize(
    "make",
    [GridSinusoidalPositions, lambda: FactorisedPositions((4, 2, 5), 12)],
    ids=["sinusoidal", "factorised"],
)


@GRID_LAYERS
def test_a_shorter_and_narrower_video_gets_the_first_positions(device, make):
    layer = make()
    layer.to(device)
    added = layer(Tensor(0 * TOKENS, device=device), VIDEO).numpy().reshape(2, *VIDEO, 12)
    small = layer(Tensor(0 * TOKENS[:, :6], device=device), (2, 1, 3)).numpy()
    np.testing.assert_array_equal(small.reshape(2, 2, 1, 3, 12), added[:, :2, :1, :3])


@GRID_LAYERS
def test_positions_on_a_grid_are_certified(make):
    certify_layer(InGrid(make(), VIDEO), TOKENS[:1])


def test_a_grid_with_another_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"grid is \(3, 2, 3\); the grid must have as many tokens"):
        GridSinusoidalPositions()(Tensor(TOKENS), (3, 2, 3))


def test_a_grid_beyond_the_learned_tables_is_refused_with_both():
    with pytest.raises(ValueError, match=r"grid is \(3, 2, 4\), .* positions for \(4, 2, 3\) only"):
        FactorisedPositions((4, 2, 3), 12)(Tensor(TOKENS), VIDEO)
