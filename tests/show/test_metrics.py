"""Metrics: their values in cases where the right answer is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from seeds import SEED

from tinycv.show.metrics import (
    frechet_distance,
    kernel_distance,
    modes_covered,
    precision_recall,
    reverse_kl,
    squared_distances,
)

RNG = np.random.default_rng(SEED)
CENTRES = np.array([[x, y] for x in (-2.0, 0, 2) for y in (-2.0, 0, 2)])


def draw(n, centres=CENTRES, sigma=0.05):
    return centres[RNG.integers(len(centres), size=n)] + sigma * RNG.normal(size=(n, 2))


# ── modes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.statistical
def test_the_real_mixture_covers_its_modes_evenly_and_has_its_share_within_three_sigma():
    covered, share, kl = modes_covered(draw(20_000), CENTRES, 0.05)
    assert covered == 9
    assert share == pytest.approx(1 - np.exp(-4.5), abs=0.004)  # 5.4 standard errors
    assert 0 < kl < 0.002


def test_samples_of_one_mode_out_of_nine_cover_one_mode_and_have_a_kl_of_log_nine():
    covered, share, kl = modes_covered(draw(500, CENTRES[4:5], 0.0), CENTRES, 0.05)
    assert (covered, share) == (1, 1.0)
    assert kl == pytest.approx(np.log(9))


def test_samples_between_the_modes_count_only_for_the_kl():
    samples = np.repeat(CENTRES + 0.4, 3, axis=0)  # 0.57 away: three sigma is 0.15
    assert modes_covered(samples, CENTRES, 0.05) == (0, 0.0, 0.0)


def test_a_sample_at_three_sigma_is_no_longer_good():
    samples = np.array([[0.149, 0.0], [0.151, 0.0]])
    assert modes_covered(samples, CENTRES, 0.05).share == 0.5


def test_reverse_kl_equals_its_definition_computed_by_hand():
    assert reverse_kl([3, 1], [0.5, 0.5]) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert reverse_kl([3, 1], [6, 2]) == 0
    assert reverse_kl([0, 4]) == pytest.approx(np.log(2))
    assert reverse_kl([1, 1], [1, 0]) == np.inf


@pytest.mark.statistical
def test_the_bias_of_the_kl_with_few_samples_is_that_of_the_docstring():
    values = [reverse_kl(np.bincount(RNG.integers(25, size=500), minlength=25)) for _ in range(400)]
    assert np.mean(values) == pytest.approx(24 / 1000, rel=0.1)  # 7 standard errors


def test_generated_samples_are_compared_with_the_given_shares_of_the_modes():
    uneven = np.repeat(CENTRES[:2], [30, 10], axis=0)
    assert modes_covered(uneven, CENTRES[:2], 0.05, [0.75, 0.25]).reverse_kl == 0
    assert modes_covered(uneven, CENTRES[:2], 0.05).reverse_kl > 0.1


# ── Frechet ──────────────────────────────────────────────────────────────────────────────────────


def test_a_shift_of_the_mean_moves_frechet_by_exactly_its_squared_length():
    a, shift = RNG.normal(size=(300, 20)), RNG.normal(size=20)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, a + shift) == pytest.approx(shift @ shift, rel=1e-10)


def test_frechet_of_known_gaussians_is_its_closed_form():
    a = RNG.normal(size=(40, 5))
    # covariance: I, exactly
    a = (a - a.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a, rowvar=False))).T
    scale = np.array([1.0, 2, 3, 0.5, 1])
    assert frechet_distance(a, a * scale) == pytest.approx(((scale - 1) ** 2).sum(), rel=1e-9)


def test_frechet_agrees_with_the_square_root_of_the_product_of_matrices():
    from scipy.linalg import sqrtm

    a, b = RNG.normal(size=(60, 6)) @ RNG.normal(size=(6, 6)), RNG.normal(size=(50, 6)) + 1
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(axis=0) - b.mean(axis=0)
    known = gap @ gap + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert frechet_distance(a, b) == pytest.approx(known, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(known, rel=1e-9)


def test_frechet_works_with_constant_features_and_with_more_features_than_samples():
    a, b = RNG.normal(size=(8, 30)), RNG.normal(size=(8, 30))
    a[:, 3:6] = b[:, 3:6] = 0
    assert np.isfinite(frechet_distance(a, b)) and frechet_distance(a, a) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.statistical
def test_the_distance_of_two_halves_of_real_data_shrinks_with_their_number():
    small, large = (
        np.mean(
            [frechet_distance(RNG.normal(size=(n, 8)), RNG.normal(size=(n, 8))) for _ in range(40)]
        )
        for n in (100, 400)
    )
    assert 4 * large / small == pytest.approx(1, rel=0.35)


# ── kernel distance ──────────────────────────────────────────────────────────────────────────────


def test_kernel_distance_equals_its_definition_pair_by_pair():
    a, b = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3))
    k = lambda x, y: (x @ y / 3 + 1) ** 3  # noqa: E731
    own = [
        np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])
        for s in (a, b)
    ]
    assert kernel_distance(a, b) == pytest.approx(
        sum(own) - 2 * np.mean([k(x, y) for x in a for y in b])
    )


@pytest.mark.statistical
def test_kernel_distance_of_one_distribution_is_zero_on_average_and_sees_a_shift():
    same = [kernel_distance(RNG.normal(size=(50, 4)), RNG.normal(size=(50, 4))) for _ in range(60)]
    assert abs(np.mean(same)) < 5 * np.std(same) / 60**0.5
    assert kernel_distance(RNG.normal(size=(200, 4)), RNG.normal(size=(200, 4)) + 1) > 10 * np.std(
        same
    )


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_results_do_not_depend_on_the_block_size(monkeypatch, rows):
    a, b = RNG.normal(size=(33, 4)), RNG.normal(size=(20, 4))
    whole, both, modes = kernel_distance(a, b), precision_recall(a, b), modes_covered(a, b, 0.4)
    apart = squared_distances(a, b)
    monkeypatch.setattr("tinycv.show.metrics.BLOCK", rows)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)
    assert precision_recall(a, b) == both
    assert modes_covered(a, b, 0.4) == modes
    np.testing.assert_allclose(squared_distances(a, b), apart, rtol=1e-12)


MANY = np.random.default_rng(0).normal(size=(3000, 2))


@pytest.mark.parametrize(
    "call, answer",
    [
        (lambda: modes_covered(MANY, MANY[:1000], 0.1), 0),
        (lambda: modes_covered(MANY[:1000], MANY, 0.1), 0),
        (lambda: kernel_distance(MANY, MANY[:5]), 0),
        (lambda: kernel_distance(MANY[:3], MANY), 0),
        (lambda: precision_recall(MANY, MANY[:50]), 0),
        (lambda: frechet_distance(MANY, MANY), 0),
        (lambda: squared_distances(MANY, MANY), 3000 * 3000 * 8),
        (lambda: squared_distances(np.ones((1000, 2)), np.ones((3000, 2))), 1000 * 3000 * 8),
    ],
    ids=range(8),
)
def test_memory_beside_the_result_does_not_grow_with_the_number_of_pairs(call, answer, monkeypatch):
    # 4 * 64² numbers are 0.13 MB, and all pairs 24 to 72 MB
    monkeypatch.setattr("tinycv.show.metrics.BLOCK", 64)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - answer < 2e6


# ── precision and recall ─────────────────────────────────────────────────────────────────────────


def test_real_data_against_themselves_have_precision_and_recall_one():
    # far from the origin, where rounding is coarse
    a = RNG.normal(size=(200, 16)) + 1000
    assert precision_recall(a, a) == (1.0, 1.0)
    copies = np.repeat(RNG.normal(size=(20, 16)), 10, axis=0)  # balls of radius 0
    assert precision_recall(copies, copies) == (1.0, 1.0)


@pytest.mark.statistical
def test_two_samples_of_one_distribution_have_high_precision_and_recall():
    p, r = precision_recall(RNG.normal(size=(500, 4)), RNG.normal(size=(500, 4)))
    assert p > 0.85 and r > 0.85


@pytest.mark.statistical
def test_a_generator_of_one_mode_has_precision_but_no_recall_and_noise_has_neither():
    real = np.concatenate([RNG.normal(size=(250, 4)), RNG.normal(size=(250, 4)) + 20])
    p, r = precision_recall(real, RNG.normal(size=(500, 4)))
    # the half that it leaves out is not recalled
    assert p > 0.85 and 0.3 < r < 0.55
    assert precision_recall(real, 100 * RNG.normal(size=(500, 4)))[0] < 0.05


def test_the_region_is_a_union_of_balls_that_reach_the_kth_neighbour():
    real = np.array([[0.0], [1.0], [3.0], [7.0]])  # to the 1st neighbour: 1, 1, 2, 4
    assert precision_recall(real, np.array([[-1.0], [-1.01], [10.9], [11.1]]), k=1)[0] == 0.5


@pytest.mark.parametrize("far", [0.0, 1.0, 5e4, 1e8])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("beside", [0.0, 0.05])
def test_precision_and_recall_equal_their_definition_if_one_point_is_far_away(far, which, beside):
    """Two small clouds, in the same place or side by side. A far point may enlarge only its own
    ball."""
    clouds = 1e-3 * RNG.normal(size=(150, 2)), 1e-3 * RNG.normal(size=(150, 2)) + [beside, 0]
    clouds[which][0] += [far, 0]
    real, fake = clouds
    own = [np.sort(((c[:, None] - c) ** 2).sum(-1), axis=1)[:, 3] for c in clouds]
    between = ((fake[:, None] - real) ** 2).sum(-1)
    expected = (between <= own[0]).any(axis=1).mean(), (own[1] >= between.T).any(axis=1).mean()
    assert precision_recall(real, fake) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_distances_are_right_to_a_few_digits_however_far_from_0_the_rows_are(offset, dtype):
    x, y = (
        (offset + RNG.normal(size=(n, 3)) * 10.0 ** RNG.uniform(-6, 1, size=(n, 1))).astype(dtype)
        for n in (40, 30)
    )
    y[:5] = x[:5]
    wide = (((x[:, None].astype(np.longdouble) - y) ** 2).sum(axis=-1)).astype(np.float64)
    found = squared_distances(x, y)
    np.testing.assert_allclose(found, wide, rtol=1e-4 if dtype == np.float32 else 1e-10)
    assert (found[np.arange(5), np.arange(5)] == 0).all()


# ── bad input ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, precision_recall])
def test_features_of_two_widths_or_too_few_are_refused_with_both_shapes(function):
    with pytest.raises(ValueError, match=r"shapes \(9, 3\) and \(9, 4\)"):
        function(np.zeros((9, 3)), np.zeros((9, 4)))
    with pytest.raises(ValueError, match="at least"):
        function(np.zeros((9, 3)), np.zeros((1, 3)))


def test_bad_samples_and_counts_are_refused():
    with pytest.raises(
        ValueError, match=r"samples of shape \(5, 3\) and centres of shape \(9, 2\)"
    ):
        modes_covered(np.zeros((5, 3)), CENTRES, 0.1)
    with pytest.raises(ValueError, match="at least one sample"):
        modes_covered(np.zeros((0, 2)), CENTRES, 0.1)
    with pytest.raises(ValueError, match="there must be a sample"):
        reverse_kl([0, 0])
    with pytest.raises(ValueError, match=r"shares of shape \(3,\)"):
        reverse_kl([1, 1], [1, 1, 1])
