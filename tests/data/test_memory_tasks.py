"""The adding and copying problems: targets, the losses without memory, and reproducible draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from seeds import SEED

from tinycv.data import DrawnLoader, adding, copying
from tinycv.data.memory import ADDING_WITHOUT_MEMORY, copying_without_memory


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("steps", [2, 3, 50])
def test_the_sum_is_that_of_the_two_marked_numbers(steps):
    x, y = adding(200, steps, rng())
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((200, steps, 2), np.float32, (200,), np.float32)
    assert set(np.unique(x[..., 1])) <= {0, 1} and (x[..., 1].sum(axis=1) == 2).all()
    assert (x[..., 0] >= 0).all() and (x[..., 0] <= 1).all()
    np.testing.assert_allclose((x[..., 0] * x[..., 1]).sum(axis=1), y, rtol=1e-6)


@pytest.mark.statistical
def test_the_marks_are_uniform_over_the_steps():
    x, _ = adding(20000, 5, rng(SEED))
    np.testing.assert_allclose(x[..., 1].mean(axis=0), 2 / 5, atol=0.02)
    pairs = x[..., 1].T @ x[..., 1] / 20000
    np.testing.assert_allclose(pairs[~np.eye(5, dtype=bool)], 1 / 10, atol=0.012)


@pytest.mark.statistical
def test_always_answering_1_has_a_mean_squared_error_of_a_sixth():
    _, y = adding(100000, 10, rng(SEED))
    assert np.mean((y - 1) ** 2) == pytest.approx(ADDING_WITHOUT_MEMORY, rel=0.02)


@pytest.mark.parametrize("wait", [1, 7])
def test_the_symbols_are_repeated_after_the_first_nine(wait):
    x, y = copying(300, wait, rng())
    assert x.shape == y.shape == (300, wait + 20) and x.dtype == y.dtype == np.int64
    assert set(np.unique(x[:, :10])) == set(range(1, 9))
    assert (
        (x[:, 10 : wait + 9] == 0).all()
        and (x[:, wait + 9 :] == 9).all()
        and x[:, wait + 9 :].shape[1] == 11
    )
    assert (y[:, -10:] == x[:, :10]).all() and (y[:, :-10] == 0).all()


def test_copying_without_memory_is_the_cross_entropy_of_guessing():
    _, y = copying(500, 30, rng())
    # the probability that a guess gives to the right symbol, at each step
    chance = np.where(np.arange(50) < 40, 1.0, 1 / 8)
    assert -np.log(np.broadcast_to(chance, y.shape)).mean() == pytest.approx(
        copying_without_memory(30)
    )
    assert (
        copying_without_memory(1000)
        == pytest.approx(10 * math.log(8) / 1020)
        == pytest.approx(0.0204, abs=1e-4)
    )


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="steps=1: there must be at least 2"):
        adding(3, 1, rng())
    with pytest.raises(ValueError, match="wait=0: there must be at least 1"):
        copying(3, 0, rng())


# ── DrawnLoader: endless data ────────────────────────────────────────────────────────────────────


def drawn(**options):
    return DrawnLoader(
        lambda n, rng: adding(n, 4, rng), **{"batch_size": 3, "batches": 4, "seed": 1, **options}
    )


def test_drawn_batches_are_reproducible_from_any_start():
    whole, rest = list(drawn().epoch(2)), list(drawn().epoch(2, start=3))
    assert len(whole) == len(drawn()) == 4 and len(rest) == 1
    assert all((a == b).all() for a, b in zip(whole[3], rest[0], strict=True))


def test_batches_epochs_and_seeds_draw_different_data():
    firsts = [
        next(loader.epoch(epoch, start))[0].tobytes()
        for loader in (drawn(), drawn(seed=2))
        for epoch in (0, 1, 2)
        for start in (0, 1)
    ]
    assert len(set(firsts)) == 12


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batches": 0}, {"seed": -1}])
def test_settings_that_make_no_batch_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}"):
        drawn(**wrong)
