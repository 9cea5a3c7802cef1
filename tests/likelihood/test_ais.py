"""Annealed importance sampling: unbiased weights, checked where log p(x) is a closed form."""

from __future__ import annotations

from itertools import pairwise
from math import log, pi

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.likelihood.ais import (
    Position,
    ais,
    ais_log_prob,
    at,
    hmc_step,
    sigmoid_schedule,
    tune_steps,
)
from tinycv.likelihood.vae import VAE, bounds_of

MEAN, SIGMA, SCALE = 1.5, 0.5, 7.0  # f = 7 N(u; 1.5, 0.5²) along each of two axes


def log_f(u: Tensor) -> Tensor:
    away = (u - MEAN) / SIGMA
    return -0.5 * (away * away).sum(axis=-1) - log(2 * pi * SIGMA**2) + log(SCALE)


def drawn(n: int) -> Tensor:
    return tinycv.randn(n, 2, dtype="float64")


def linear_vae(good_encoder: bool = True) -> tuple[VAE, np.ndarray, np.ndarray]:
    """A linear VAE with random weights in float64, 20 images drawn from it, and their log p(x).

    A good encoder has the mean of the exact posterior, and a wrong variance; the other is random.
    """
    vae = VAE(8, 2, hidden=(), decoder="gaussian", sigma=0.4).to("float64")
    w, b = vae.decoder[0].weight.numpy(), vae.decoder[0].bias.numpy()
    x = vae.sample(20).numpy()
    covariance = w @ w.T + 0.16 * np.eye(8)
    squares = np.einsum("ni,ij,nj->n", x - b, np.linalg.inv(covariance), x - b)
    if good_encoder:
        pull = np.linalg.solve(w.T @ w + 0.16 * np.eye(2), w.T)  # (2, 8): x - b to E[z|x]
        vae.encoder[0].weight.data = np.concatenate([pull, np.zeros((2, 8))])
        vae.encoder[0].bias.data = np.concatenate([-pull @ b, np.full(2, log(0.3))])
    return vae, x, -0.5 * (squares + np.linalg.slogdet(2 * pi * covariance)[1])


def test_the_schedule_rises_from_0_to_1_with_short_steps_at_the_ends():
    betas = sigmoid_schedule(10)
    steps = [b - a for a, b in pairwise(betas)]
    assert len(betas) == 11
    assert betas[0] == 0
    assert betas[-1] == 1
    assert min(steps) > 0
    assert steps[0] < steps[4] > steps[-1]


def test_a_step_leaves_its_density_unchanged():
    """Chains that start as samples of f keep its mean and variance, also with long steps."""
    tinycv.manual_seed(0)
    with tinycv.no_grad():
        here = at(log_f, MEAN + SIGMA * drawn(20_000))
        for _ in range(5):
            here, moved = hmc_step(log_f, here, 1.0, 0.6, 3)
    u = here.u.numpy()
    assert 0.2 < moved.numpy().mean() < 0.99  # some steps are refused, so the test tests refusing
    np.testing.assert_allclose(u.mean(axis=0), MEAN, atol=0.03)
    np.testing.assert_allclose(u.var(axis=0), SIGMA**2, rtol=0.1)


def test_a_step_between_two_densities_leaves_their_geometric_mean_unchanged():
    """f_t of β = 0.5 is a Gaussian: precision (1 + 1/σ²) / 2, mean (MEAN/σ²) / (1 + 1/σ²)."""
    tinycv.manual_seed(0)
    precision = 0.5 * (1 + 1 / SIGMA**2)
    middle = 0.5 * MEAN / SIGMA**2 / precision
    with tinycv.no_grad():
        here = at(log_f, middle + precision**-0.5 * drawn(20_000))
        for _ in range(5):
            here, _ = hmc_step(log_f, here, 0.5, 0.7, 3)
    u = here.u.numpy()
    np.testing.assert_allclose(u.mean(axis=0), middle, atol=0.05)
    np.testing.assert_allclose(u.var(axis=0), 1 / precision, rtol=0.1)


def test_a_chain_that_would_reach_nan_stays_where_it_is():
    def broken(u: Tensor) -> Tensor:
        return tinycv.where(u[:, 0] > 0, float("nan"), 0.0 * u[:, 0])

    u = Tensor(-np.ones((50, 2)))
    with tinycv.no_grad():
        here = Position(u, Tensor(np.zeros(50)), Tensor(np.zeros((50, 2))))
        there, moved = hmc_step(broken, here, 1.0, 2.0, 1)
    assert (there.u.numpy()[:, 0] <= 0).all()
    assert 0 < moved.numpy().mean() < 1


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_the_mean_weight_is_the_integral_of_f(steps):
    """Unbiased for any number of steps: within 5 standard errors of 7."""
    tinycv.manual_seed(0)
    betas = sigmoid_schedule(steps)
    log_weight, _ = ais(log_f, drawn(4000), betas, [0.3] * steps)
    weights = np.exp(log_weight.numpy())
    assert abs(weights.mean() - SCALE) < 5 * weights.std() / np.sqrt(4000)


def test_more_densities_make_a_tighter_bound():
    tinycv.manual_seed(0)
    bounds = []
    for steps in (2, 10, 50):
        log_weight, _ = ais(log_f, drawn(1000), sigmoid_schedule(steps), [0.3] * steps)
        bounds.append(log_weight.numpy().mean())
    assert bounds[0] < bounds[1] < bounds[2] < log(SCALE) + 0.05


def test_the_pilot_run_finds_steps_of_which_about_two_thirds_are_accepted():
    tinycv.manual_seed(0)
    betas = sigmoid_schedule(60)
    found = tune_steps(log_f, drawn(500), betas)
    _, moved = ais(log_f, drawn(500), betas, found)
    assert 0.5 < moved.numpy()[30:].mean() < 0.8


@pytest.mark.parametrize("start", ["prior", "encoder"])
def test_the_estimate_of_a_linear_decoder_is_unbiased(start):
    """exp(estimate - log p) has the mean 1, within 5 standard errors over the images."""
    tinycv.manual_seed(1)
    vae, x, log_p = linear_vae()
    estimates = ais_log_prob(vae, x, chains=50, steps=30, start=start)
    ratios = np.exp(estimates - log_p)
    assert abs(ratios.mean() - 1) < 5 * ratios.std() / np.sqrt(len(x))


def test_with_enough_densities_the_estimate_of_a_linear_decoder_is_exact_to_a_tenth_of_a_nat():
    tinycv.manual_seed(1)
    vae, x, log_p = linear_vae()
    estimates = ais_log_prob(vae, x, chains=30, steps=60, start="prior")
    assert abs((estimates - log_p).mean()) < 0.1


def test_from_a_poor_encoder_it_is_far_tighter_than_importance_sampling():
    tinycv.manual_seed(1)
    vae, x, log_p = linear_vae(good_encoder=False)
    assert bounds_of(vae, x, 30).mean() < log_p.mean() - 1
    assert ais_log_prob(vae, x, chains=30, steps=60, start="prior").mean() > log_p.mean() - 0.2


def test_it_runs_on_every_device_and_takes_labels(device):
    vae = VAE(6, 2, hidden=(3,), classes=2).to(device)
    x = (np.random.default_rng(0).random((3, 6)) < 0.5).astype(np.float32)
    found = ais_log_prob(vae, x, np.array([0, 1, 1]), chains=2, steps=2, leapfrog=2)
    assert found.shape == (3,)
    assert np.isfinite(found).all()


def test_a_numpy_array_of_starting_points_gives_the_weights_of_the_tensor():
    found = []
    u = np.random.default_rng(0).standard_normal((5, 2))
    for start in (u, Tensor(u)):
        tinycv.manual_seed(0)
        step_sizes = tune_steps(log_f, start, [0.0, 0.5, 1.0])
        found.append(ais(log_f, start, [0.0, 0.5, 1.0], step_sizes)[0].numpy())
    assert np.array_equal(*found)


def test_betas_that_fall_or_do_not_reach_1_are_refused():
    for betas in ([0.0, 0.5], [0.0, 0.6, 0.4, 1.0], [0.2, 1.0]):
        with pytest.raises(ValueError, match="ais: betas goes from .* it must rise from 0 to 1"):
            ais(log_f, drawn(3), betas, [0.1] * (len(betas) - 1))


def test_a_step_size_is_needed_for_each_density():
    with pytest.raises(ValueError, match="step_sizes holds 1 numbers and betas 3"):
        ais(log_f, drawn(3), [0.0, 0.5, 1.0], [0.1])
