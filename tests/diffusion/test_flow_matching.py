"""Flow matching on Gaussians, where least loss, samples and likelihoods have closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from mutants import mutant

from tinycv import Tensor
from tinycv.data.shapes import gaussian, two_moons
from tinycv.diffusion import ScoreMLP, flow_matching
from tinycv.diffusion.flow_matching import flow_matching_loss, velocity
from tinycv.diffusion.ode import flow_log_likelihood, log_standard_normal, rk4, solve
from tinycv.engine.backend import to_numpy
from tinycv.optim import Adam

RNG = np.random.default_rng(0)
MEAN, S = 0.7, 1.6  # the data are N(MEAN, S²) along each axis
TIMES = np.linspace(0, 1, 41)


def exact(x, t):
    """E[z - x_0 | x_t = x] for such data. x (B, D), t (B,)."""
    t = t[:, None]
    variance = (1 - t) ** 2 * S**2 + t**2
    covariance = t - (1 - t) * S**2  # of z - x_0 with x_t
    return covariance / variance * (x - (1 - t) * MEAN) - MEAN


def least_loss():
    """The variance of z - x_0 given x_t, averaged over t."""
    t = (np.arange(2000) + 0.5) / 2000
    left = 1 + S**2 - (t - (1 - t) * S**2) ** 2 / ((1 - t) ** 2 * S**2 + t**2)
    return left.mean()


def data(n):
    return (MEAN + S * RNG.normal(size=(n, 2))).astype(np.float32)


@pytest.mark.statistical
def test_the_exact_velocity_has_the_least_loss():
    found = flow_matching_loss(exact, Tensor(data(100_000))).item()
    assert found == pytest.approx(least_loss(), rel=0.03)
    assert flow_matching_loss(lambda x, t: exact(x, t) + 0.3, Tensor(data(100_000))).item() > found


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("t, *condition), z - x0)", "t, *condition), x0 - z)"),
        ("(1 - column) * x0 + column * z", "column * x0 + (1 - column) * z"),
    ],
)
def test_a_line_that_runs_the_other_way_is_seen(right, wrong):
    m = mutant(flow_matching, right, wrong)
    assert m.flow_matching_loss(exact, Tensor(data(20_000))).item() > 1.5 * least_loss()


def test_the_network_sees_points_of_the_line_from_the_data_to_the_given_noise():
    x0, z = data(50), RNG.normal(size=(50, 2)).astype(np.float32)

    def on_the_line(x, t):
        np.testing.assert_allclose(x.numpy(), x0 + t.numpy()[:, None] * (z - x0), atol=1e-5)
        assert len(set(t.numpy().tolist())) == 50  # another time for each example
        return Tensor(z - x0)

    assert flow_matching_loss(on_the_line, x0, noise=z).item() == 0


def test_the_flow_takes_noise_to_the_data():
    z = RNG.normal(size=(30, 2))
    found = solve(velocity(exact), z, TIMES[::-1], rk4)
    # each point stays at the same number of standard deviations
    np.testing.assert_allclose(found, MEAN + S * z, atol=1e-5)


def test_the_likelihood_is_that_of_the_gaussian():
    x = data(30).astype(np.float64)
    found = flow_log_likelihood(velocity(exact), x, TIMES)
    truth = gaussian([MEAN, MEAN], S**2 * np.eye(2)).log_density(x)
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_along_random_directions_the_likelihood_is_right_for_a_velocity_without_shear():
    x = data(10).astype(np.float64)
    signs = RNG.choice([-1.0, 1.0], size=x.shape)  # v is a multiple of x, so each sign is exact
    np.testing.assert_allclose(
        flow_log_likelihood(velocity(exact), x, TIMES, along=signs),
        flow_log_likelihood(velocity(exact), x, TIMES),
        atol=1e-9,
    )


def test_a_velocity_is_a_denoiser_in_other_units():
    """v = (x - D(x, t)) / t, with D from the score of a density that has many modes."""
    density, x = two_moons(0.3, 10), RNG.normal(size=(10, 2))

    def from_score(x, t):
        level = t / (1 - t)  # of the noise in x / (1 - t)
        scaled = x / (1 - t)[:, None]
        denoised = scaled + level[:, None] ** 2 * density.score(scaled, level)
        return (x - denoised) / t[:, None]

    # From t to almost 1, where p is N(0, I) but for the data, which are still in it a little.
    times = np.linspace(0.05, 0.999, 80)
    found = flow_log_likelihood(velocity(from_score), x, times)
    a, sigma = 0.95, 0.05
    truth = density.log_density(x / a, sigma / a) - 2 * np.log(a)
    np.testing.assert_allclose(found, truth, atol=0.06)


def test_another_prior_may_stand_at_the_end():
    """A velocity of 0 leaves the prior as it is."""
    prior = gaussian([1.0, 2.0], np.diag([2.0, 3.0]))
    x = RNG.normal(size=(5, 2))
    found = flow_log_likelihood(lambda x, t: Tensor(0 * x), x, [0, 1], prior.log_density)
    np.testing.assert_allclose(found, prior.log_density(x))
    np.testing.assert_allclose(
        log_standard_normal(x), gaussian([0, 0], np.eye(2)).log_density(x), rtol=1e-12
    )


def test_a_condition_reaches_the_network():
    seen = []

    def model(x, t, labels):
        seen.append(labels)
        return x

    labels, x = np.array([1, 2]), Tensor(data(2))
    flow_matching_loss(model, x, labels)
    velocity(model, labels)(x, 0.5)
    assert seen[0] is labels and seen[1] is labels


@pytest.mark.statistical
def test_a_small_network_learns_to_move_noise_to_the_data():
    model = ScoreMLP(2, hidden=32, depth=2)
    optimizer = Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 200)
        optimizer.zero_grad()
        flow_matching_loss(model, Tensor(data(256))).backward()
        optimizer.step()
    drawn = solve(velocity(model), RNG.normal(size=(1000, 2)).astype(np.float32), TIMES[::4][::-1])
    assert np.abs(drawn.mean(axis=0) - MEAN).max() < 0.5
    assert np.abs(drawn.std(axis=0) / S - 1).max() < 0.3


def test_the_loss_and_the_likelihood_run_on_every_device(device):
    model, x = ScoreMLP(2, hidden=4, depth=1).to(device), Tensor(data(3), device=device)
    flow_matching_loss(model, x).backward()
    found = flow_log_likelihood(velocity(model), x, [0, 0.5, 1])
    model.to("cpu")
    expected = flow_log_likelihood(velocity(model), x.numpy(), [0, 0.5, 1])
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: flow_matching_loss(exact, data(3), noise=data(2)), "noise has shape"),
        (lambda: flow_matching_loss(lambda x, t: x[:1], Tensor(data(3))), "model returned"),
        (lambda: velocity(exact)(Tensor(data(3)), np.nan), "velocity: t is nan"),
        (
            lambda: flow_log_likelihood(velocity(exact), data(3), [0, 1], along=data(2)),
            "flow_log_likelihood: along has shape",
        ),
        (
            lambda: flow_log_likelihood(velocity(exact), data(3), [0, 1], lambda x: x),
            "flow_log_likelihood: log_prior returned",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
