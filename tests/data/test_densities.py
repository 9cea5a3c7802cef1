"""Exact densities: each integrates to 1, its score is the gradient of log p, its samples follow it,
and noise convolves it."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv.data import components
from tinycv.data.densities import Boxes, Mixture, entropy
from tinycv.data.noised_box import mills, noised_box
from tinycv.data.shapes import (
    checkerboard,
    corners,
    eight_gaussians,
    gaussian,
    grid,
    picture,
    ring,
    rings,
    two_modes,
    two_moons,
)
from tinycv.engine import backend
from tinycv.engine.backend import to_numpy

RNG = np.random.default_rng(SEED)
FULL = Mixture(
    [[0, 1], [2, -1], [-1, 0]],
    weights=[1, 2, 0.5],
    covariance=[[[1, 0.6], [0.6, 0.5]], [[0.2, 0], [0, 0.7]], [[0.4, -0.3], [-0.3, 0.9]]],
)
INK = np.array([[0, 1.0, 0.2], [0.5, 0, 1.0]])
NAMED = {
    "gaussian": gaussian([1, -0.5], [[0.8, 0.3], [0.3, 0.4]]),
    "two_modes": two_modes(2.0),
    "ring": ring(sigma=0.2),
    "grid": grid(3, 1.0, 0.2),
    "eight_gaussians": eight_gaussians(),
    "two_moons": two_moons(0.3, 15),
    "rings": rings([1.0, 2.0], 0.3, 25),
    "full": FULL,
    "checkerboard": checkerboard(),
    "corners": corners(),
    "picture": picture(INK),
}


@pytest.fixture(params=NAMED)
def density(request):
    return NAMED[request.param]


def near(density, n=40, noise=0.4):
    return density.sample(n, np.random.default_rng(1)) + noise * np.random.default_rng(2).normal(
        size=(n, density.dim)
    )


def test_a_density_integrates_to_one_with_and_without_noise(density):
    ticks = np.linspace(-8, 8, 401)[:-1] + 0.02
    x = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    for noise in (0.0, 0.5):
        assert np.exp(density.log_density(x, noise)).sum() * 0.04**2 == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.7, 20.0])
def test_the_score_is_the_gradient_of_the_log_density(density, noise):
    noise = 0.01 if isinstance(density, Boxes) and noise == 0 else noise  # a box has edges
    x, h = near(density), 1e-6 * max(noise, 0.05)
    slope = [
        (density.log_density(x + h * e, noise) - density.log_density(x - h * e, noise)) / (2 * h)
        for e in np.eye(2)
    ]
    score = density.score(x, noise)
    np.testing.assert_allclose(
        score, np.stack(slope, axis=-1), rtol=1e-5, atol=1e-6 * abs(score).max()
    )


@pytest.mark.statistical
def test_the_noised_density_is_the_mean_density_at_noised_points(density):
    x, z = near(density, 3), RNG.normal(size=(50_000, 2))
    for point in x:
        around = np.exp(density.log_density(point + 0.5 * z))
        expected = np.exp(density.log_density(point[None], 0.5))[0]
        assert around.mean() == pytest.approx(
            expected, abs=5 * around.std() / math.sqrt(len(z)) + 1e-9
        )


@pytest.mark.statistical
def test_samples_come_from_the_density(density):
    x = density.sample(40_000, np.random.default_rng(SEED + 3))
    assert x.dtype == np.float32 and x.shape == (40_000, 2)
    # a score has mean 0, and E[x score] = -I (Stein)
    noised = x.astype(np.float64) + 0.3 * RNG.normal(size=x.shape)
    score = density.score(noised, 0.3)
    products = noised[:, :, None] * score[:, None]
    assert (np.abs(score.mean(axis=0)) < 5 * score.std(axis=0) / 200).all()
    assert (np.abs(products.mean(axis=0) + np.eye(2)) < 5 * products.std(axis=0) / 200).all()


def test_each_point_may_have_its_own_noise_level(density):
    x, noise = near(density, 5), np.array([0.1, 0.3, 0.2, 1.0, 2.0])
    for one, s, score, log_p in zip(
        x, noise, density.score(x, noise), density.log_density(x, noise), strict=True
    ):
        np.testing.assert_allclose(
            density.score(one[None], float(s))[0], score, rtol=1e-9, atol=1e-12
        )
        assert density.log_density(one[None], float(s))[0] == pytest.approx(log_p, rel=1e-9)


def test_arrays_and_tensors_of_any_device_agree_and_autograd_finds_the_score(density, device):
    x = near(density, 6)
    tensor = tinycv.Tensor(x, device=device, requires_grad=True)
    (found,) = tinycv.grad(density.log_density(tensor, 0.4).sum(), tensor)
    np.testing.assert_allclose(found.numpy(), density.score(x, 0.4), rtol=1e-9, atol=1e-10)
    single = tinycv.Tensor(x.astype(np.float32), device=device).data
    score = density.score(single, 0.4)
    assert type(score) is type(single) and score.dtype == np.float32
    np.testing.assert_allclose(
        to_numpy(score), found.numpy(), atol=2e-4 * np.abs(found.numpy()).max()
    )


def test_far_away_the_score_of_boxes_points_at_them():
    x = np.array([[400.0, -300.0], [4.0, 900.0]])
    assert np.isfinite(corners().log_density(x, 1.0)).all()
    # the corners of a bar: 396 and 298 away
    nearest = np.array([[4.0, -2.0], [2.0, 4.0]])
    np.testing.assert_allclose(corners().score(x, 1.0), nearest - x, rtol=1e-3, atol=0.5)


def test_mills_ratio_has_full_precision():
    from scipy.stats import norm

    z = np.linspace(0, 40, 401)
    np.testing.assert_allclose(mills(z), np.exp(norm.logsf(z) - norm.logpdf(z)), rtol=1e-11)


# ── entropies, each computed in a second way ─────────────────────────────────────────────────────


def test_the_entropy_of_a_gaussian_equals_its_formula():
    assert entropy(gaussian([0, 0], [[1, 0.3], [0.3, 0.5]]), 8, 400) == pytest.approx(
        0.5 * math.log((2 * math.pi * math.e) ** 2 * (0.5 - 0.09)), abs=1e-9
    )


def test_the_entropy_of_the_checkerboard_is_the_log_of_its_area():
    assert entropy(checkerboard(), 4, 400) == pytest.approx(math.log(32), abs=1e-9)
    assert round(math.log(32), 3) == 3.466


def test_the_entropy_of_the_corners_accounts_for_the_overlap_of_their_bars():
    # 8 bars of area 3; in 4 unit squares two of them cross
    once, twice = 1 / 8 / 3, 2 / 8 / 3
    by_hand = -(16 * once * math.log(once) + 4 * twice * math.log(twice))
    assert (
        entropy(corners(), 5, 500) == pytest.approx(by_hand, abs=1e-9)
        and round(by_hand, 3) == 2.947
    )


@pytest.mark.statistical
def test_the_entropy_of_eight_gaussians_is_the_mean_of_minus_log_p_over_samples():
    density = eight_gaussians()
    surprise = -density.log_density(
        density.sample(400_000, np.random.default_rng(SEED + 4)).astype(np.float64)
    )
    assert entropy(density, 5) == pytest.approx(
        surprise.mean(), abs=5 * surprise.std() / math.sqrt(len(surprise))
    )
    assert entropy(density, 5) == pytest.approx(2.832, abs=5e-4)


# ── the named densities agree with their papers ──────────────────────────────────────────────────


def test_the_grid_and_the_ring_have_the_modes_of_pacgan():
    assert {tuple(m) for m in grid().means} == {
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    }
    assert grid().sigma == 0.05 and ring().sigma == 0.01
    np.testing.assert_allclose(np.linalg.norm(ring().means, axis=1), 1)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(ring().means - ring().means[0], axis=1))[1],
        2 * math.sin(math.pi / 8),
    )


def test_the_checkerboard_is_that_of_ffjord_from_minus_4_to_4():
    inside, outside = (
        [[1, 1], [-1, -1], [3.9, 3.9], [-3.9, -3.9], [1, -3]],
        [[1, -1], [-3, -1], [4.1, 3], [-3.9, 3.9]],
    )
    for points, log_p in ((inside, -math.log(32)), (outside, -math.inf)):
        np.testing.assert_allclose(checkerboard().log_density(np.array(points, float)), log_p)


def test_two_modes_is_the_density_of_ncsn():
    density = two_modes()
    assert density.means.tolist() == [[5, 5], [-5, -5]] and density.sigma == 1
    np.testing.assert_allclose(density.weights, [0.8, 0.2])


def test_each_of_the_two_moons_starts_in_the_middle_of_the_other():
    upper, lower = np.split(two_moons().means, 2)
    np.testing.assert_allclose(
        [upper[[0, 49, -1]], lower[[0, 49, -1]]],
        [[[1, 0], [0, 1], [-1, 0]], [[0, 0.5], [1, -0.5], [2, 0.5]]],
        atol=0.02,
    )


def test_two_moons_look_the_same_with_twice_as_many_points():
    x = near(two_moons(), 200, 0.2)
    np.testing.assert_allclose(
        two_moons(points=200).score(x), two_moons().score(x), rtol=2e-2, atol=0.1
    )


def test_rings_are_round_and_equally_probable():
    density, angle = rings(), np.linspace(0, 6, 50)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for radius in (1, 2, 3):
        along = density.log_density(radius * circle)
        np.testing.assert_allclose(along, along[0], atol=1e-6)
        # a third of the mass, spread over a circle, under the peak of a Gaussian across it
        peak = 1 / 3 / (2 * np.pi * radius) / (0.15 * np.sqrt(2 * np.pi))
        assert along[0] == pytest.approx(np.log(peak), abs=0.02)


def test_a_picture_is_upright_and_has_most_points_where_the_ink_is_darkest():
    density = picture(INK, width=3.0)
    # 1.0 against 0.2
    assert density.log_density(np.array([[0.0, 0.5]])) > density.log_density(np.array([[1.0, 0.5]]))
    # 0.5 against 0
    assert density.log_density(np.array([[-1.0, -0.5]])) > density.log_density(
        np.array([[-1.0, 0.5]])
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Mixture([0, 1], 1.0), "either sigma or covariance"),
        (lambda: Mixture([[0, 1]]), "either sigma or covariance"),
        (lambda: Mixture([[0, 1]], -1.0), "at least 0"),
        (lambda: Mixture([[0, 1]], covariance=np.eye(3)), "must be"),
        (lambda: Mixture([[0, 1]], covariance=[[1, 2], [2, 1]]), "eigenvalue -1"),
        (lambda: Mixture([[0, 1]], 1.0, [1, 2]), "one for each of 1 "),
        (lambda: Boxes([[0, 1]], [[1, 1]]), "low must be below high"),
        (lambda: ring().score(np.zeros(2)), r"takes points \(N, 2\)"),
        (lambda: ring().score(np.zeros((3, 2)), np.ones(2)), "one per point"),
        (lambda: corners().score(np.zeros((3, 2)), 0.0), "above 0"),
    ],
)
def test_a_wrong_argument_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ── extreme noise levels and distances ───────────────────────────────────────────────────────────


def box_by_its_integral(x, s):
    """Log density and score of the box [0, 1] with noise of level s, at x (N,), both (N,), from
    p_s(x) = ∫ N(x; y, s²) dy in float64."""
    found = []
    nodes, shares = np.polynomial.legendre.leggauss(200)
    for point in x.astype(np.float64):
        nearest = min(max(point, 0.0), 1.0)
        # further away the integrand is negligible
        low, high = max(0.0, nearest - 14 * s), min(1.0, nearest + 14 * s)
        y = low + (high - low) * (nodes + 1) / 2
        exponents = -0.5 * ((point - y) / s) ** 2
        weights = shares * np.exp(exponents - exponents.max())
        total = weights.sum() * (high - low) / 2
        found.append(
            (
                math.log(total) + exponents.max() - math.log(s) - 0.5 * math.log(2 * math.pi),
                (weights * (y - point)).sum() / weights.sum() / s / s,
            )
        )
    return np.array(found).T


@pytest.mark.parametrize("dtype, bound", [("float32", 2e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("noise", [1e-6, 0.01, 0.4, 0.5, 0.6, 3.0, 1e3, 1e4, 1e6, 1e8, 1e15, 1e30])
@pytest.mark.parametrize("kind", ["number", "array"])
def test_a_noised_box_equals_its_integral_for_every_noise_level(dtype, bound, noise, kind, device):
    spread = np.array([-5, -1, -0.1, 0, 0.01, 0.3, 1, 2.5, 5])
    x = np.concatenate([0.5 + spread, 0.5 + noise * spread, 1 + noise * spread]).astype(dtype)
    with np.errstate(over="ignore"):
        # points that are further away are tested below
        x = x[np.abs((x - x.clip(0, 1)) / noise) < 30]
    s = np.full(len(x), noise, dtype)
    own = backend.to_device(s, device) if kind == "array" else float(s[0])
    boxes, points = Boxes([[0.0]], [[1.0]]), backend.to_device(x[:, None], device)
    log_p, score = box_by_its_integral(x, float(s[0]))
    found = to_numpy(boxes.score(points, own))[:, 0]
    # x - 1 has lost digits of x
    slack = 1 + np.abs(x) / noise if noise < 1 else 1
    assert found.dtype == dtype
    least = np.finfo(dtype).tiny
    assert (
        np.abs(found - score) <= bound * slack * (np.abs(score) + min(1, 1 / noise) / noise) + least
    ).all()
    assert (
        np.abs(to_numpy(boxes.log_density(points, own)) - log_p)
        <= bound * slack * (1 + np.abs(log_p))
    ).all()


def test_the_gradient_of_a_noised_box_is_its_score_where_the_two_formulas_meet():
    b = np.array([0.3, 0.9, 0.99, 1.0, 1.01, 2.0, 40.0])
    z = tinycv.Tensor(np.array([0.0, 0.5, 1.0, 3.0, 30.0])[:, None] + 0 * b, requires_grad=True)
    rest, slope = noised_box(z, tinycv.Tensor(b), np.log(2 * b))
    (found,) = tinycv.grad((rest - 0.5 * tinycv.maximum(z - b, 0.0) ** 2).sum(), z)
    np.testing.assert_allclose(found.numpy(), slope.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype, tiny", [("float32", 1e-20), ("float64", 1e-200)])
def test_with_almost_no_noise_the_score_outside_boxes_is_infinite(dtype, tiny):
    boxes = Boxes([[0, 0], [10, 10]], [[1, 1], [11, 11]])
    x = np.array([[2, 2], [9, 9], [0.5, 0.5], [-1, 0.5], [10.5, 12], [5.5, 5.5]], dtype)
    with np.errstate(invalid="ignore"):
        expected = (
            np.array([[-1, -1], [1, 1], [0, 0], [1, 0], [0, -1], [0, 0]]).astype(dtype) * np.inf
        )
    expected[np.isnan(expected)] = 0
    np.testing.assert_array_equal(boxes.score(x, tiny), expected)
    np.testing.assert_array_equal(boxes.score(x, np.full(6, tiny)), expected)
    np.testing.assert_allclose(
        boxes.log_density(x, tiny),
        [-np.inf, -np.inf, -np.log(2), -np.inf, -np.inf, -np.inf],
        rtol=1e-6,
    )


TWO_WIDTHS = Mixture([[0, 0], [1, 1]], covariance=[np.eye(2), 100 * np.eye(2)])


@pytest.mark.parametrize(
    "density, x, right",
    [
        (Mixture([[0, 0], [5, 5]], 1.0, [1, 0]), np.array([[300, 0]], "float16"), [[-300, 0]]),
        (Mixture([[0, 0], [5, 5]], 1.0, [1, 0]), np.array([[1e20, 0]], "float32"), [[-1e20, 0]]),
        (Mixture([[0, 0], [5, 5]], 1.0), np.array([[1e200, 3]]), [[-1e200, None]]),
        (Mixture([[0, 0]], 1e-25), np.zeros((1, 2), "float32"), [[0, 0]]),
        (Mixture([[0, 0]], 1e-50), np.array([[0, 1]], "float32"), [[0, -np.inf]]),
        (Mixture([[0, 0], [1, 1]], 1e-6), np.array([[1, 1]], "float16"), [[0, 0]]),
        (
            Mixture([[0, 0]], covariance=1e-60 * np.eye(2)),
            np.array([[0, 1]], "float32"),
            [[0, -np.inf]],
        ),
        (Mixture([[0, 0]], 1e30), np.array([[1e30, 0]], "float32"), [[-1e-30, 0]]),
        (TWO_WIDTHS, np.array([[300, 0]], "float16"), [[-2.99, 0.01]]),
        (TWO_WIDTHS, np.array([[1e20, 1], [3e38, 1]], "float32"), [[-1e18, 0], [-3e36, 0]]),
        (TWO_WIDTHS, np.array([[1e200, 1]]), [[-1e198, 0]]),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("noise", ["none", "number", "array"])
def test_the_score_of_a_mixture_is_right_at_the_limits_of_its_dtype(
    density, x, right, noise, device
):
    points = backend.to_device(x, device)
    given = {
        "none": 0.0,
        "number": 0,
        "array": backend.to_device(np.zeros(len(x), x.dtype), device),
    }[noise]
    found = to_numpy(density.score(points, given))
    expected = np.array(right, np.float64)
    known = ~np.isnan(expected)
    assert (
        found.dtype == x.dtype
        and not np.isnan(found).any()
        and not np.isnan(to_numpy(density.log_density(points, given))).any()
    )
    np.testing.assert_allclose(
        found[known].astype(np.float64),
        expected[known],
        rtol=2e-3 if x.dtype == "float16" else 1e-6,
    )


@pytest.mark.parametrize("name", ["full", "grid", "checkerboard"])
def test_float16_is_computed_in_float32_and_rounded_once(name):
    density, x = NAMED[name], near(NAMED[name]).astype(np.float16)
    for noise in (0.3, np.full(len(x), 0.3, np.float16)):
        wide = np.asarray(noise, np.float32) if isinstance(noise, np.ndarray) else noise
        for function in (density.score, density.log_density):
            halves = function(x, noise)
            assert halves.dtype == np.float16
            np.testing.assert_array_equal(
                halves, function(x.astype(np.float32), wide).astype(np.float16)
            )


def test_the_dtype_of_the_result_is_that_of_x(density):
    x = near(density, 5).astype(np.float32)
    for noise in (
        np.full(5, 0.3),
        np.ones(5, int),
        tinycv.Tensor(np.full(5, 0.3)),
        np.float64(0.3),
    ):
        assert density.score(x, noise).dtype == density.log_density(x, noise).dtype == np.float32


# ── memory ───────────────────────────────────────────────────────────────────────────────────────

MANY = np.random.default_rng(0).normal(size=(100_000, 2))
WIDE = Mixture(MANY[:50], covariance=np.tile(0.1 * np.eye(2), (50, 1, 1)))
STEEP = Mixture(np.zeros((1, 60)), covariance=np.eye(60))
MANY_BOXES = Boxes(MANY[:50], MANY[:50] + 0.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Mixture(MANY[:50], 0.1).log_density(MANY),
        lambda: Mixture(MANY[:50], 0.1).score(MANY),
        lambda: WIDE.log_density(MANY),
        lambda: WIDE.score(MANY, np.full(len(MANY), 0.3)),
        lambda: MANY_BOXES.log_density(MANY),
        lambda: MANY_BOXES.log_density(MANY[:50_000], 0.1),
        lambda: MANY_BOXES.score(MANY[:50_000], 0.1),
        lambda: STEEP.sample(20_000, np.random.default_rng(0)),
        lambda: entropy(Mixture(MANY[:5], 0.1), 1, 300),
    ],
    ids=range(9),
)
def test_memory_does_not_grow_with_the_number_of_points(call):
    # an array of all N K D numbers would be 80 MB
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize("noise", ["none", "number", "array"])
def test_the_block_size_does_not_matter(density, noise, monkeypatch):
    x = near(density, 50)
    given = {"none": 0.0, "number": 0.3, "array": np.linspace(0.1, 1, 50)}[noise]
    functions = [density.log_density] + ([density.score] if noise != "none" else [])
    expected = [f(x, given) for f in functions]
    monkeypatch.setattr(components, "BLOCK", 64)
    for f, right in zip(functions, expected, strict=True):
        np.testing.assert_allclose(f(x, given), right, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            f(tinycv.Tensor(x), given).numpy(), right, rtol=1e-12, atol=1e-12
        )
        assert f(x[:0], given if noise != "array" else given[:0]).shape == right[:0].shape
    assert density.sample(0, np.random.default_rng(0)).shape == (0, 2)


def test_the_block_size_does_not_change_the_samples(monkeypatch):
    expected = FULL.sample(100, np.random.default_rng(3))
    monkeypatch.setattr(components, "BLOCK", 12)
    np.testing.assert_array_equal(FULL.sample(100, np.random.default_rng(3)), expected)
