"""The probability flow ODE: on Gaussians its end and its likelihood have closed forms; on a mixture
it is compared with SciPy's integrator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mutants import mutant

import tinycv
from tinycv.data.shapes import checkerboard, eight_gaussians, gaussian
from tinycv.diffusion import ode, samplers
from tinycv.diffusion import sde as sdes
from tinycv.diffusion.ode import euler, heun, log_likelihood, rk4, solve
from tinycv.diffusion.sde import VE, VP, SubVP
from tinycv.engine.backend import to_numpy

SDES = {"VE": VE(0.1, 5.0), "VP": VP(0.1, 8.0), "SubVP": SubVP(0.1, 8.0)}
V, RNG = 0.6, np.random.default_rng(0)


@pytest.fixture(params=SDES)
def sde(request):
    return SDES[request.param]


def spread(sde, t):
    scale, std = sde.marginal(t)
    return np.sqrt(scale**2 * V + std**2)


def flow(sde, make=sdes):
    return make.SDE.flow(sde, lambda x, t: -x / spread(sde, t)[:, None] ** 2)


def error(sde, step, steps, v=None, m=ode):
    """Along the flow of a Gaussian each point stays at the same number of standard deviations."""
    end = m.solve(v or flow(sde), np.ones((1, 1)), np.linspace(0.8, 0.2, steps + 1), step)
    return abs(float(end[0, 0]) / (spread(sde, 0.2) / spread(sde, 0.8)) - 1)


@pytest.mark.parametrize("step, order", [(euler, 1), (heun, 2), (rk4, 4)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(sde, step, order):
    coarse, fine = error(sde, step, 40), error(sde, step, 80)
    assert fine < 0.1**order * 2
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_a_missing_half_and_a_wrong_sign_in_the_flow_are_seen():
    right = "self.drift(x, t) - 0.5 * self.diffusion(t) ** 2 * slope"
    for wrong in (
        right.replace("0.5 * ", ""),
        right.replace("- 0.5", "+ 0.5"),
        right.replace("self.drift(x, t)", "0 * x"),
    ):
        assert error(SDES["VP"], rk4, 80, flow(SDES["VP"], mutant(sdes, right, wrong))) > 0.05


def test_a_schedule_off_by_one_is_seen(monkeypatch):
    right, wrong = "zip(times, times[1:], strict", "zip(times[1:], times[2:], strict"
    monkeypatch.setattr(ode, "sample", mutant(samplers, right, wrong).sample)
    assert error(SDES["VE"], rk4, 80) > 1e-3


DENSITY = gaussian([0.5, -0.3], [[0.8, 0.3], [0.3, 0.5]])


def off(m, sde, steps, along=None):
    """The error of the log-likelihood, without the part that comes from the prior not being exactly
    p_1, which is known."""
    x, times = (
        DENSITY.sample(50, np.random.default_rng(1)).astype(np.float64),
        np.linspace(0, 1, steps + 1),
    )
    score, (scale, std) = sde.score_of(DENSITY), sde.marginal(1.0)
    end = solve(sde.flow(score), x, times, rk4)
    prior_error = sde.log_prior(end) - (
        DENSITY.log_density(end / scale, std / scale) - 2 * math.log(scale)
    )
    return m.log_likelihood(sde, score, x, times, along) - DENSITY.log_density(x) - prior_error


def test_the_likelihood_of_a_gaussian_is_its_density(sde):
    coarse, fine = (np.abs(off(ode, sde, n)).max() for n in (40, 80))
    assert fine < 1e-4 and coarse / fine > 10


def test_the_likelihood_accepts_a_tensor():
    sde, x, times = VP(0.05, 25.0), DENSITY.sample(4, RNG), np.linspace(0, 1, 40)
    found = log_likelihood(sde, sde.score_of(DENSITY), tinycv.Tensor(x), times)
    np.testing.assert_allclose(to_numpy(found), DENSITY.log_density(x.astype(float)), atol=5e-3)


def test_the_likelihood_on_any_device_is_the_same(device):
    sde, x, times = VP(0.1, 8.0), DENSITY.sample(4, RNG), np.linspace(0, 1, 6)
    found, expected = (
        to_numpy(log_likelihood(sde, sde.score_of(DENSITY), tinycv.Tensor(x, device=place), times))
        for place in (device, "cpu")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("bare(prior) + end[:, dim]", "bare(prior) - end[:, dim]"),
        ("log_prior(end[:, :dim])", "log_prior(x)"),
    ],
)
def test_a_mistake_in_the_likelihood_is_seen(right, wrong):
    assert np.abs(off(mutant(ode, right, wrong), SDES["VE"], 30)).max() > 0.1


@pytest.mark.parametrize(("sde", "t"), [(VP(0.1, 20.0), 0.02), (SubVP(0.1, 20.0), 0.08)])
def test_a_likelihood_from_time_t_on_is_that_of_the_data_with_the_noise_of_t(sde, t):
    """At the time t the points are scale x_0 + std z. log_likelihood takes x to that scale and
    returns the density at the scale of the data."""
    board, (scale, std) = checkerboard(), sde.marginal(t)
    x = np.array([[1.0, 1.0], [-1.9, -0.3], [0.1, 3.9], [3.95, 2.1], [-0.02, 0.5]])
    found = log_likelihood(sde, sde.score_of(board), x, t + (1 - t) * np.linspace(0, 1, 41) ** 2)
    np.testing.assert_allclose(found, board.log_density(x, std / scale), atol=2e-3)


def test_a_likelihood_with_falling_times_is_refused():
    sde = SDES["VP"]
    with pytest.raises(ValueError, match="times run from 1.0 to 0.0; they must rise"):
        log_likelihood(sde, sde.score_of(DENSITY), np.zeros((2, 2)), np.linspace(1, 0, 5))


def test_the_estimate_along_random_directions_is_right_on_average():
    # with their opposites, which give the same, these are all four directions of signs
    signs = np.array([[1.0, 1.0], [1.0, -1.0]])
    sde = VP(0.1, 12.0)
    exact, both = off(ode, sde, 40), [off(ode, sde, 40, np.tile(v, (50, 1))) for v in signs]
    np.testing.assert_allclose(np.mean(both, axis=0), exact, atol=1e-9)
    assert np.abs(both[0] - exact).max() > 0.01


def test_flow_and_likelihood_agree_with_scipy(sde):
    from scipy.integrate import solve_ivp

    density = eight_gaussians()
    x, v = density.sample(6, RNG).astype(np.float64), sde.flow(sde.score_of(density))

    def both(t, state):
        at = state.reshape(6, 3)[:, :2]
        h = 1e-5
        div = sum(
            (v(at + h * e, t) - v(at - h * e, t))[:, d] / (2 * h) for d, e in enumerate(np.eye(2))
        )
        return np.concatenate([v(at, t), div[:, None]], axis=1).ravel()

    start = np.concatenate([x, np.zeros((6, 1))], axis=1).ravel()
    end = solve_ivp(both, (0.01, 1), start, rtol=1e-8, atol=1e-8).y[:, -1].reshape(6, 3)
    times = np.linspace(0.01, 1, 161)
    np.testing.assert_allclose(solve(v, x, times, rk4), end[:, :2], rtol=1e-4, atol=1e-4)
    # x is a point at time 0.01 for solve, but log_likelihood takes a point at the scale of the data
    scale = sde.marginal(0.01)[0]
    found = log_likelihood(sde, sde.score_of(density), x / scale, times) - 2 * math.log(scale)
    np.testing.assert_allclose(found, sde.log_prior(end[:, :2]) + end[:, 2], atol=1e-3)
