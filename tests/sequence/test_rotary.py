"""Rotary positions: products depend on the distance alone, on one axis and on several, and lengths
do not change."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.sequence import MultiheadAttention, RotaryAttention, grid_positions, rotary

RNG = np.random.default_rng(0)
Q, K = RNG.normal(size=(2, 3, 6, 8)), RNG.normal(size=(2, 3, 6, 8))
GRID = grid_positions((3, 1, 2))  # (6, 3)
shifts = st.integers(-1000, 1000)


def scores(positions, base=10000.0):
    q, k = (rotary(Tensor(x), positions, base).numpy() for x in (Q, K))
    return q @ k.swapaxes(-1, -2)  # (B, H, T, T)


@given(shifts)
def test_on_one_axis_the_scores_depend_on_the_distance_alone(shift):
    np.testing.assert_allclose(scores(np.arange(6) + shift), scores(np.arange(6)), atol=1e-9)


@given(shifts, shifts, shifts)
def test_on_three_axes_the_scores_depend_on_the_offsets_alone(time, row, column):
    np.testing.assert_allclose(scores(GRID + [time, row, column]), scores(GRID), atol=1e-9)


@pytest.mark.parametrize("axis", range(3))
def test_each_axis_of_the_grid_changes_the_scores(axis):
    places = GRID.copy()
    places[0, axis] += 1  # one token moves along one axis
    assert np.abs(scores(places) - scores(GRID)).max() > 0.1


def test_a_rotation_keeps_the_length_of_every_pair():
    turned = rotary(Tensor(Q), np.arange(6)).numpy()
    lengths = [np.hypot(x[..., 0::2], x[..., 1::2]) for x in (turned, Q)]
    np.testing.assert_allclose(*lengths, rtol=1e-12)
    assert np.abs(turned - Q).max() > 0.1


def test_the_position_0_is_not_rotated():
    np.testing.assert_array_equal(rotary(Tensor(Q), np.zeros(6)).numpy(), Q)


def test_pairs_are_complex_numbers_times_the_phases_of_the_paper():
    turned = rotary(Tensor(Q), np.arange(6)).numpy()
    phase = np.exp(1j * np.arange(6)[:, None] * 10000.0 ** (-2 * np.arange(4) / 8))
    expected = (Q[..., 0::2] + 1j * Q[..., 1::2]) * phase
    np.testing.assert_allclose(turned[..., 0::2] + 1j * turned[..., 1::2], expected, atol=1e-12)


def test_each_axis_turns_its_own_share_of_the_pairs():
    """4 pairs for 3 axes: 2, 1 and 1."""
    for axis, pairs in enumerate(([0, 1], [2], [3])):
        places = np.zeros((6, 3))
        places[:, axis] = 1
        turned = rotary(Tensor(Q), places).numpy()
        moved = np.abs(turned - Q).reshape(-1, 4, 2).max(axis=(0, 2)) > 0
        assert np.flatnonzero(moved).tolist() == pairs


def test_positions_of_a_million_are_as_exact_as_the_first():
    x = Tensor(Q.astype(np.float32))
    far = rotary(x, np.arange(6) + 1_000_000).numpy()
    exact = rotary(Tensor(Q.astype(np.float32).astype(float)), np.arange(6) + 1_000_000).numpy()
    np.testing.assert_allclose(far, exact, atol=1e-6)


def test_the_dtype_and_the_device_of_x_are_kept(device):
    for dtype in ("float32", "float64"):
        x = Tensor(Q.astype(dtype), device=device)
        y = rotary(x, GRID)
        assert y.dtype == x.dtype and y.device == x.device
        np.testing.assert_allclose(y.numpy(), rotary(Tensor(Q), GRID).numpy(), atol=1e-6)


def test_rotary_is_certified():
    certify(lambda x: rotary(x, GRID), Q[:1, :1])


def test_rotary_attention_is_certified():
    certify_layer(
        Placed(RotaryAttention(12, 2), GRID), RNG.normal(size=(1, 6, 12)).astype(np.float32)
    )


class Placed(tinycv.nn.Module):
    """RotaryAttention with fixed positions, which are no input of the gradient check."""

    def __init__(self, layer, positions):
        self.layer, self.positions = layer, positions

    def forward(self, x):
        return self.layer(x, self.positions)


def test_at_equal_positions_rotary_attention_is_plain_attention(device):
    rotated, plain = RotaryAttention(8, 2).to(device), MultiheadAttention(8, 2).to(device)
    plain.load_state_dict(rotated.state_dict())
    x = Tensor(RNG.normal(size=(2, 6, 8)).astype(np.float32), device=device)
    np.testing.assert_allclose(
        rotated(x, np.full(6, 7.0)).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-6
    )


def test_rotary_attention_can_tell_the_order_of_its_tokens():
    """Without positions, tokens in another order give the same results in that order."""
    layer, x, order = RotaryAttention(8, 2), RNG.normal(size=(1, 6, 8)).astype(np.float32), [1, 0]
    swapped = x[:, [*order, 2, 3, 4, 5]]
    difference = layer(Tensor(swapped), np.arange(6))[:, 5] - layer(Tensor(x), np.arange(6))[:, 5]
    assert np.abs(difference.numpy()).max() > 1e-3


def test_a_hidden_token_has_no_influence(device):
    layer = RotaryAttention(8, 2).to(device)
    x = RNG.normal(size=(1, 6, 8)).astype(np.float32)
    changed, mask = x.copy(), np.ones((6, 6), bool)
    changed[:, 3], mask[:, 3] = 9.0, False
    first, second = (
        layer(Tensor(z, device=device), np.arange(6), Tensor(mask, device=device)).numpy()
        for z in (x, changed)
    )
    others = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(first[:, others], second[:, others], atol=1e-5)


@pytest.mark.parametrize("width, axes", [(7, 1), (4, 3)])
def test_a_head_that_is_odd_or_narrower_than_its_axes_is_refused(width, axes):
    with pytest.raises(
        ValueError, match=f"must be even, with at least one pair for each of {axes}"
    ):
        rotary(tinycv.zeros(1, 1, 6, width), np.zeros((6, axes)))


def test_one_position_per_token_is_needed():
    with pytest.raises(ValueError, match=r"positions has shape \(5,\); it must be \(6,\)"):
        rotary(Tensor(Q), np.arange(5))
