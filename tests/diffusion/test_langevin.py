"""Langevin samplers on Gaussians, where the distribution at the end is known for every step
size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mutants import mutant
from seeds import SEED

import tinycv
from tinycv.data.shapes import gaussian, two_modes
from tinycv.diffusion import langevin
from tinycv.engine.backend import to_numpy

RNG = np.random.default_rng(SEED)


@pytest.fixture
def unit_noise(monkeypatch):
    """Replaces the noise of step i by a one in row i, so that the result holds the weight of the
    noise of each step at the end."""

    def patch_noise(module):
        steps = iter(range(10**6))
        monkeypatch.setattr(
            module, "standard_normal", lambda shape, like, dtype: np.eye(*shape, -next(steps))
        )
        return module

    return patch_noise


def start_and_noise_weights(run, steps):
    """The exact weight of the start and variance of the noise at the end of a linear sampler. The
    last row is the start."""
    x = np.zeros((steps + 1, 1))
    x[-1] = 1
    x = run(x)[:, 0]
    return x[-1], (x[:-1] ** 2).sum()


def ula_variance(module, unit_noise, sigma, step, steps=400):
    module = unit_noise(module)
    left, variance = start_and_noise_weights(
        lambda x: module.ula(lambda x: -x / sigma**2, x, step, steps).x, steps
    )
    assert abs(left) < 1e-6
    return variance


@pytest.mark.parametrize(
    "sigma, step", [(1.0, 0.1), (1.0, 0.5), (1.0, 1.0), (0.5, 0.2), (3.0, 1.0)]
)
def test_ula_converges_to_the_variance_of_the_docstring(unit_noise, sigma, step):
    expected = sigma**2 / (1 - step / (2 * sigma**2))
    assert ula_variance(langevin, unit_noise, sigma, step) == pytest.approx(expected, rel=1e-6)


def test_halving_the_step_halves_the_bias_of_ula(unit_noise):
    coarse, fine = (ula_variance(langevin, unit_noise, 1.0, step, 800) - 1 for step in (0.04, 0.02))
    assert coarse / fine == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("math.sqrt(2 * step) * _normal(x)", "math.sqrt(step) * _normal(x)"),
        ("in_dtype_of(x, x + drift", "in_dtype_of(x, x - drift"),
        ("drift = step * score(x)", "drift = 0.5 * step * score(x)"),
    ],
)
def test_a_wrong_half_and_a_wrong_sign_in_ula_are_seen(unit_noise, right, wrong):
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        assert ula_variance(mutant(langevin, right, wrong), unit_noise, 1.0, 0.1) == pytest.approx(
            1 / 0.95, rel=1e-6
        )


def check_annealed(module, unit_noise, eps=0.3, sigmas=(3.0, 1.0, 0.5), steps=40):
    """On data N(0, 1) the score at level i is -x / (1 + σ_i²), and the step size is α/2 with
    α = ε σ_i² / σ_L²."""
    module = unit_noise(module)
    left, variance = start_and_noise_weights(
        lambda x: module.annealed(lambda x, s: -x / (1 + s[:, None] ** 2), x, sigmas, steps, eps).x,
        steps * len(sigmas),
    )
    mean, expected = 1.0, 0.0
    for sigma in sigmas:
        alpha = eps * sigma**2 / sigmas[-1] ** 2
        for _ in range(steps):
            shrink = 1 - alpha / 2 / (1 + sigma**2)
            mean, expected = shrink * mean, shrink**2 * expected + alpha
    assert (left, variance) == (pytest.approx(mean, abs=1e-12), pytest.approx(expected, rel=1e-9))


def test_annealed_langevin_takes_the_steps_of_ncsn(unit_noise):
    check_annealed(langevin, unit_noise)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("x, alpha / 2, steps", "x, alpha, steps"),
        ("(sigma / sigmas[-1]) ** 2", "(sigma / sigmas[-1])"),
        ("(sigma / sigmas[-1])", "(sigma / sigmas[0])"),
        ("[*sigmas, 0.0]", "[*sigmas[1:], 0.0]"),
    ],
)
def test_a_mistake_in_the_annealing_is_seen(unit_noise, right, wrong):
    with pytest.raises(AssertionError):
        check_annealed(mutant(langevin, right, wrong), unit_noise)


def biased_by(module, step=0.8, n=4000, steps=60, thinned=10):
    """By how many standard errors the variances of MALA are wrong, on a Gaussian with axes of
    different lengths. The chains start from samples of it."""
    density = gaussian([1.0, -0.5], [[1.0, 0.3], [0.3, 0.5]])
    tinycv.manual_seed(SEED + 1)
    x = density.sample(n, np.random.default_rng(SEED + 5)).astype(np.float64)
    with np.errstate(all="ignore"):
        chain = module.mala(density.log_density, density.score, x, step, steps)
    square = (chain.x - [1.0, -0.5]) ** 2
    return chain, (square.mean(axis=0) - [1.0, 0.5]) / (square.std(axis=0) / math.sqrt(n))


@pytest.mark.statistical
def test_mala_is_unbiased_where_ula_is_not():
    chain, errors = biased_by(langevin)
    assert np.abs(errors).max() < 5
    assert 0.4 < np.mean(chain.history("acceptance")) < 0.95
    square = langevin.ula(gaussian([0], [[0.5]]).score, RNG.normal(size=(4000, 1)), 0.8, 60).x ** 2
    # 0.5 / (1 - 0.8) = 2.5
    assert square.mean() > 0.5 + 20 * square.std() / math.sqrt(4000)


@pytest.mark.statistical
@pytest.mark.parametrize(
    "right, wrong",
    [
        ("log_p_y - log_p - (", "log_p_y - log_p + ("),
        ("/ (4 * step)", "/ (2 * step)"),
        ("log_p_y - log_p -", "-"),
        ("back = chain.x - y - step * slope_y", "back = chain.x - y + step * slope_y"),
        ("< log_ratio", "> log_ratio"),
        ("log_p = where(taken, log_p_y, log_p)", "log_p = log_p_y"),
    ],
)
def test_a_mistake_in_the_metropolis_rule_biases_it(right, wrong):
    # measured with these mistakes: at least 15
    assert np.abs(biased_by(mutant(langevin, right, wrong))[1]).max() > 8


@pytest.mark.statistical
def test_mala_accepts_nearly_all_tiny_steps():
    assert np.mean(biased_by(langevin, step=1e-3, steps=5)[0].history("acceptance")) > 0.98


WALKS = {
    "ula": lambda d, x: langevin.ula(d.score, x, 0.1, 30, keep_every=10),
    "mala": lambda d, x: langevin.mala(d.log_density, d.score, x, 0.1, 30, keep_every=10),
    "annealed": lambda d, x: langevin.annealed(d.score, x, [0.3, 0.2, 0.1], 10, 0.2, keep_every=10),
}


@pytest.mark.statistical
@pytest.mark.parametrize("walk", WALKS)
def test_a_chain_records_its_path_and_its_drift(walk, device):
    x = tinycv.Tensor(np.full((50, 2), 30.0), dtype="float32", device=device)
    chain = WALKS[walk](gaussian([0, 0], np.eye(2)), x)
    path, drift = [to_numpy(points) for points in chain.path], chain.history("drift")
    assert len(path) == 3 and (path[0] == 30).all() and len(drift) == 30
    assert drift[0] > 5 > 0.6 > drift[-1]
    assert (
        path[1].mean() < 20 and (path[1] != path[2]).any() and (path[2] != to_numpy(chain.x)).any()
    )
    assert to_numpy(chain.x).dtype == np.float32 and np.abs(to_numpy(chain.x)).max() < 8


@pytest.mark.statistical
@pytest.mark.parametrize("sampler", ["ula", "annealed"])
def test_plain_langevin_stays_in_its_first_mode_and_annealed_does_not(sampler, device):
    density, x = (
        two_modes(),
        tinycv.Tensor(RNG.uniform(-8, 8, (2000, 2)), dtype="float32", device=device),
    )
    if sampler == "ula":
        x = langevin.ula(density.score, x, 0.05, 100).x
    else:
        x = langevin.annealed(density.score, x, langevin.geometric(20, 1, 10), 30, 0.1).x
    heavy = (to_numpy(x).sum(axis=1) > 0).mean()
    assert heavy < 0.62 if sampler == "ula" else heavy > 0.68


@pytest.mark.parametrize(
    "walk, said",
    [
        (
            lambda x: langevin.ula(lambda x: -x, x, -0.1, 3),
            "ula: step is -0.1; it must be a number, more than 0",
        ),
        (
            lambda x: langevin.mala(lambda x: 0 * x[:, 0], lambda x: -x, x, 0.1, -3),
            "mala: steps is -3; it must be a whole",
        ),
        (
            lambda x: langevin.annealed(lambda x, s: -x, x, [], 3, 0.1),
            "annealed: sigmas holds 0 numbers",
        ),
        (
            lambda x: langevin.annealed(lambda x, s: -x, x, [1.0, 0.0], 3, 0.1),
            r"annealed: sigmas\[1\] is 0.0; it must",
        ),
        (
            lambda x: langevin.geometric(20, 1, 1),
            "geometric: count is 1; it must be a whole number, at least 2",
        ),
        (
            lambda x: langevin.geometric(20, 0, 5),
            "geometric: last is 0; it must be a number, more than 0",
        ),
    ],
)
def test_unsuitable_steps_and_noise_levels_are_refused(walk, said):
    with pytest.raises(ValueError, match=said):
        walk(np.zeros((2, 1)))


def test_geometric_noise_levels_fall_by_equal_ratios():
    np.testing.assert_allclose(langevin.geometric(20, 1, 10), np.geomspace(20, 1, 10))
    np.testing.assert_allclose(langevin.geometric(1e-300, 1e300, 3), [1e-300, 1, 1e300])
    np.testing.assert_allclose(
        langevin.geometric(1e300, 1e-300, 5), [1e300, 1e150, 1, 1e-150, 1e-300]
    )


@pytest.mark.filterwarnings("error")
def test_a_chain_of_no_points_gives_no_warning():
    none = np.zeros((0, 2), np.float32)
    for chain in (
        langevin.ula(lambda x: -x, none, 0.1, 3),
        langevin.mala(lambda x: -(x * x).sum(axis=-1), lambda x: -2 * x, none, 0.1, 3),
        langevin.annealed(lambda x, sigma: -x, none, [1.0, 0.1], 2, 0.1),
    ):
        assert (
            chain.x.shape == (0, 2)
            and np.isnan(chain.drift).all()
            and np.isnan(chain.acceptance).all()
        )
