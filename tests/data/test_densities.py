"""The oracles themselves: a density integrates to 1, its score is its slope, its samples are its own, noise convolves."""
from __future__ import annotations

import math

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv.data.densities import Boxes, Mixture, entropy, log_tail
from tinycv.data.shapes import checkerboard, corners, eight_gaussians, gaussian, grid, picture, ring, two_modes, two_moons
from tinycv.engine.backend import to_numpy

RNG = np.random.default_rng(SEED)
FULL = Mixture([[0, 1], [2, -1], [-1, 0]], weights=[1, 2, 0.5],
               covariance=[[[1, 0.6], [0.6, 0.5]], [[0.2, 0], [0, 0.7]], [[0.4, -0.3], [-0.3, 0.9]]])
INK = np.array([[0, 1.0, 0.2], [0.5, 0, 1.0]])
NAMED = {"gaussian": gaussian([1, -0.5], [[0.8, 0.3], [0.3, 0.4]]), "two_modes": two_modes(2.0), "ring": ring(sigma=0.2),
         "grid": grid(3, 1.0, 0.2), "eight_gaussians": eight_gaussians(), "two_moons": two_moons(0.3, 15), "full": FULL,
         "checkerboard": checkerboard(), "corners": corners(), "picture": picture(INK)}


@pytest.fixture(params=NAMED)
def density(request):
    return NAMED[request.param]


def near(density, n=40, noise=0.4):
    return density.sample(n, np.random.default_rng(1)) + noise * np.random.default_rng(2).normal(size=(n, density.dim))


def test_a_density_integrates_to_one_with_noise_and_without(density):
    ticks = np.linspace(-8, 8, 401)[:-1] + 0.02
    x = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    for noise in (0.0, 0.5):
        assert np.exp(density.log_density(x, noise)).sum() * 0.04 ** 2 == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.7, 20.0])
def test_the_score_is_the_slope_of_the_log_density(density, noise):
    noise = 0.01 if isinstance(density, Boxes) and noise == 0 else noise         # a box has edges
    x, h = near(density), 1e-6 * max(noise, 0.05)
    slope = [(density.log_density(x + h * e, noise) - density.log_density(x - h * e, noise)) / (2 * h) for e in np.eye(2)]
    score = density.score(x, noise)
    np.testing.assert_allclose(score, np.stack(slope, axis=-1), rtol=1e-5, atol=1e-6 * abs(score).max())


@pytest.mark.statistical
def test_the_noised_density_is_the_average_of_the_density_around(density):
    x, z = near(density, 3), RNG.normal(size=(50_000, 2))
    for point in x:
        around = np.exp(density.log_density(point + 0.5 * z))
        expected = np.exp(density.log_density(point[None], 0.5))[0]
        assert around.mean() == pytest.approx(expected, abs=5 * around.std() / math.sqrt(len(z)) + 1e-9)


@pytest.mark.statistical
def test_samples_come_from_the_density(density):
    x = density.sample(40_000, np.random.default_rng(SEED + 3))
    assert x.dtype == np.float32 and x.shape == (40_000, 2)
    noised = x.astype(np.float64) + 0.3 * RNG.normal(size=x.shape)      # a score has mean 0, and E[x score] = -I (Stein)
    score = density.score(noised, 0.3)
    products = noised[:, :, None] * score[:, None]
    assert (np.abs(score.mean(axis=0)) < 5 * score.std(axis=0) / 200).all()
    assert (np.abs(products.mean(axis=0) + np.eye(2)) < 5 * products.std(axis=0) / 200).all()


def test_each_point_may_have_noise_of_its_own(density):
    x, noise = near(density, 5), np.array([0.1, 0.3, 0.2, 1.0, 2.0])
    for one, s, score, log_p in zip(x, noise, density.score(x, noise), density.log_density(x, noise), strict=True):
        np.testing.assert_allclose(density.score(one[None], float(s))[0], score, rtol=1e-9, atol=1e-12)
        assert density.log_density(one[None], float(s))[0] == pytest.approx(log_p, rel=1e-9)


def test_tensors_and_arrays_of_any_device_give_the_same_and_the_engine_finds_the_score(density, device):
    x = near(density, 6)
    tensor = tinycv.Tensor(x, device=device, requires_grad=True)
    found, = tinycv.grad(density.log_density(tensor, 0.4).sum(), tensor)
    np.testing.assert_allclose(found.numpy(), density.score(x, 0.4), rtol=1e-9, atol=1e-10)
    single = tinycv.Tensor(x.astype(np.float32), device=device).data
    score = density.score(single, 0.4)
    assert type(score) is type(single) and score.dtype == np.float32
    np.testing.assert_allclose(to_numpy(score), found.numpy(), atol=2e-4 * np.abs(found.numpy()).max())


def test_far_away_the_score_of_boxes_still_points_home():
    x = np.array([[400.0, -300.0], [4.0, 900.0]])
    assert np.isfinite(corners().log_density(x, 1.0)).all()
    nearest = np.array([[4.0, -2.0], [2.0, 4.0]])                   # the corners of a bar: 396 and 298 away
    np.testing.assert_allclose(corners().score(x, 1.0), nearest - x, rtol=1e-3, atol=0.5)


def test_the_tail_of_the_normal_distribution_keeps_its_digits():
    from scipy.stats import norm
    z = np.linspace(-6, 40, 93)
    np.testing.assert_allclose(log_tail(z), norm.logsf(z), rtol=1e-9, atol=1e-15)


# ── entropies, each by a second way ──────────────────────────────────────────────────────────────

def test_the_entropy_of_a_gaussian_is_its_formula():
    assert entropy(gaussian([0, 0], [[1, 0.3], [0.3, 0.5]]), 8, 400) == pytest.approx(
        0.5 * math.log((2 * math.pi * math.e) ** 2 * (0.5 - 0.09)), abs=1e-9)


def test_the_entropy_of_the_checkerboard_is_the_log_of_its_area():
    assert entropy(checkerboard(), 4, 400) == pytest.approx(math.log(32), abs=1e-9)
    assert round(math.log(32), 3) == 3.466


def test_the_entropy_of_the_corners_counts_where_their_bars_cross():
    once, twice = 1 / 8 / 3, 2 / 8 / 3                              # 8 bars of area 3; in 4 unit squares two of them cross
    by_hand = -(16 * once * math.log(once) + 4 * twice * math.log(twice))
    assert entropy(corners(), 5, 500) == pytest.approx(by_hand, abs=1e-9) and round(by_hand, 3) == 2.947


@pytest.mark.statistical
def test_the_entropy_of_eight_gaussians_is_the_mean_surprise_of_samples():
    density = eight_gaussians()
    surprise = -density.log_density(density.sample(400_000, np.random.default_rng(SEED + 4)).astype(np.float64))
    assert entropy(density, 5) == pytest.approx(surprise.mean(), abs=5 * surprise.std() / math.sqrt(len(surprise)))
    assert entropy(density, 5) == pytest.approx(2.832, abs=5e-4)


# ── the named ones are what their papers say ─────────────────────────────────────────────────────

def test_the_grid_and_the_ring_have_pacgans_modes():
    assert {tuple(m) for m in grid().means} == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert grid().sigma == 0.05 and ring().sigma == 0.01
    np.testing.assert_allclose(np.linalg.norm(ring().means, axis=1), 1)
    np.testing.assert_allclose(np.sort(np.linalg.norm(ring().means - ring().means[0], axis=1))[1], 2 * math.sin(math.pi / 8))


def test_the_checkerboard_is_ffjords_which_has_a_square_from_0_to_2_each_way_and_reaches_from_minus_4_to_4():
    inside, outside = [[1, 1], [-1, -1], [3.9, 3.9], [-3.9, -3.9], [1, -3]], [[1, -1], [-3, -1], [4.1, 3], [-3.9, 3.9]]
    for points, log_p in ((inside, -math.log(32)), (outside, -math.inf)):
        np.testing.assert_allclose(checkerboard().log_density(np.array(points, float)), log_p)


def test_the_two_modes_are_ncsns():
    density = two_modes()
    assert density.means.tolist() == [[5, 5], [-5, -5]] and density.sigma == 1
    np.testing.assert_allclose(density.weights, [0.8, 0.2])


def test_each_of_two_moons_begins_in_the_middle_of_the_other():
    upper, lower = np.split(two_moons().means, 2)
    np.testing.assert_allclose([upper[[0, 49, -1]], lower[[0, 49, -1]]],
                               [[[1, 0], [0, 1], [-1, 0]], [[0, 0.5], [1, -0.5], [2, 0.5]]], atol=0.02)


def test_two_moons_look_the_same_with_twice_as_many_points():
    x = near(two_moons(), 200, 0.2)
    np.testing.assert_allclose(two_moons(points=200).score(x), two_moons().score(x), rtol=2e-2, atol=0.1)


def test_a_picture_stands_upright_with_most_points_where_most_ink_is():
    density = picture(INK, width=3.0)
    assert density.log_density(np.array([[0.0, 0.5]])) > density.log_density(np.array([[1.0, 0.5]]))     # 1.0 against 0.2
    assert density.log_density(np.array([[-1.0, -0.5]])) > density.log_density(np.array([[-1.0, 0.5]]))  # 0.5 against 0


@pytest.mark.parametrize("make, message", [
    (lambda: Mixture([0, 1], 1.0), "either sigma or covariance"),
    (lambda: Mixture([[0, 1]]), "either sigma or covariance"),
    (lambda: Mixture([[0, 1]], -1.0), "at least 0"),
    (lambda: Mixture([[0, 1]], covariance=np.eye(3)), "must be"),
    (lambda: Mixture([[0, 1]], covariance=[[1, 2], [2, 1]]), "eigenvalue -1"),
    (lambda: Mixture([[0, 1]], 1.0, [1, 2]), "one for each of 1 "),
    (lambda: Boxes([[0, 1]], [[1, 1]]), "low the smaller"),
    (lambda: ring().score(np.zeros(2)), r"takes \(N, 2\)"),
    (lambda: ring().score(np.zeros((3, 2)), np.ones(2)), "one per point"),
    (lambda: corners().score(np.zeros((3, 2)), 0.0), "above 0"),
])
def test_a_wrong_argument_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
