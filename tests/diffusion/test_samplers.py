"""DDPM and DDIM against the exact distribution of their samples: with the best denoiser of a
Gaussian every step is linear, so means and variances can be computed step by step."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.diffusion import samplers
from tinycv.diffusion.samplers import ddim_step, ddpm_step, sample, sampling_times, trajectory
from tinycv.diffusion.schedule import cosine_schedule, linear_schedule

MEAN, VAR = 0.7, 0.3  # of the data
SCHEDULE = cosine_schedule(1000)
ALPHA_BAR = SCHEDULE.alpha_bar
STEPS = {
    "ddpm, large": partial(ddpm_step, variance="large"),
    "ddpm, small": partial(ddpm_step, variance="small"),
    "ddim, eta 0": partial(ddim_step, eta=0.0),
    "ddim, eta 0.5": partial(ddim_step, eta=0.5),
    "ddim, eta 1": partial(ddim_step, eta=1.0),
}


def best(x, t, var=VAR):
    """E[x_0 | x_t = x] for data N(MEAN, var)."""
    a, sigma = SCHEDULE.marginal_for(x, t)
    return MEAN + a * var / (a * a * var + sigma * sigma) * (x - a * MEAN)


def drawing(monkeypatch, value):
    monkeypatch.setattr(samplers, "randn_like", lambda x: Tensor(np.full(x.shape, value)))


def linear_parts(monkeypatch, step, t, s):
    """(m, k, c) of x_s = m + k x_t + c z, measured on the step with the noise z = 0 and z = 1."""
    drawing(monkeypatch, 0.0)
    m, at_one = step(Tensor(np.array([0.0, 1.0])), t, s).numpy()
    drawing(monkeypatch, 1.0)
    return m, at_one - m, step(Tensor(np.array([0.0])), t, s).item() - m


def carried_on(monkeypatch, step, steps, var=1.0):
    """Mean and variance of the end of a trajectory that starts from N(0, var)."""
    mean, path = 0.0, sampling_times(SCHEDULE, steps)
    for t, s in zip(path, path[1:], strict=False):
        m, k, c = linear_parts(monkeypatch, step, t, s)
        mean, var = m + k * mean, k * k * var + c * c
    return mean, var


# ── one step ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("t, s", [(1000, 999), (500, 499), (2, 1), (700, 300)])
def test_a_ddpm_step_follows_bayes_rule(monkeypatch, t, s):
    """q(x_s | x_t, x_0): x_s ~ N(√ᾱ_s x_0, 1 - ᾱ_s) was seen through x_t = √α x_s + √β z.
    Precisions add."""
    alpha, x0, xt = ALPHA_BAR[t] / ALPHA_BAR[s], 0.4, -1.3
    precision = 1 / (1 - ALPHA_BAR[s]) + alpha / (1 - alpha)
    mean = (
        np.sqrt(ALPHA_BAR[s]) * x0 / (1 - ALPHA_BAR[s]) + np.sqrt(alpha) * xt / (1 - alpha)
    ) / precision
    step = partial(ddpm_step, lambda x, t: 0 * x + x0, SCHEDULE, variance="small")
    m, k, c = linear_parts(monkeypatch, step, t, s)
    assert (m + k * xt, c * c) == pytest.approx((mean, 1 / precision), rel=1e-9)


def test_the_large_variance_is_beta(monkeypatch):
    step = partial(ddpm_step, best, SCHEDULE, variance="large")
    assert linear_parts(monkeypatch, step, 400, 399)[2] ** 2 == pytest.approx(
        1 - ALPHA_BAR[400] / ALPHA_BAR[399]
    )


@pytest.mark.parametrize("t, s", [(1000, 999), (500, 300), (2, 1), (1, 0), (40, 0)])
def test_ddim_with_eta_1_is_ddpm_with_the_smaller_variance(monkeypatch, t, s):
    one, other = (
        linear_parts(monkeypatch, partial(step, best, SCHEDULE, **option), t, s)
        for step, option in ((ddim_step, {"eta": 1.0}), (ddpm_step, {"variance": "small"}))
    )
    assert one == pytest.approx(other, abs=1e-9)


def test_the_noise_of_ddim_is_proportional_to_eta(monkeypatch):
    half, whole = (
        linear_parts(monkeypatch, partial(ddim_step, best, SCHEDULE, eta=eta), 600, 500)[2]
        for eta in (0.5, 1)
    )
    assert half == pytest.approx(whole / 2)


@pytest.mark.parametrize("name", STEPS)
def test_with_a_known_image_every_step_reproduces_q_of_x_s_given_x_0(monkeypatch, name):
    """If D returns the image, x_t ~ q(x_t | x_0) becomes x_s ~ q(x_s | x_0). With DDPM's large
    variance x_s has too much noise."""
    m, k, c = linear_parts(
        monkeypatch, partial(STEPS[name], lambda x, t: 0 * x + 0.4, SCHEDULE), 600, 500
    )
    assert m + k * ALPHA_BAR[600] ** 0.5 * 0.4 == pytest.approx(ALPHA_BAR[500] ** 0.5 * 0.4)
    var = k * k * (1 - ALPHA_BAR[600]) + c * c
    assert (
        var > 1 - ALPHA_BAR[500]
        if name == "ddpm, large"
        else var == pytest.approx(1 - ALPHA_BAR[500])
    )


@pytest.mark.parametrize("name", STEPS)
def test_a_step_to_time_0_adds_no_noise(monkeypatch, name):
    assert linear_parts(monkeypatch, partial(STEPS[name], best, SCHEDULE), 30, 0)[2] == 0


def test_an_unknown_variance_is_refused():
    with pytest.raises(ValueError, match="variance is 'huge'; it must be one of 'large', 'small'"):
        ddpm_step(best, SCHEDULE, Tensor([0.0]), 2, 1, variance="huge")


# ── all steps ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", STEPS)
def test_a_whole_trajectory_ends_in_the_data_distribution(monkeypatch, name):
    mean, var = carried_on(monkeypatch, partial(STEPS[name], best, SCHEDULE), 1000)
    assert mean == pytest.approx(MEAN, rel=0.005)
    assert var == pytest.approx(VAR, rel=0.02)


@pytest.mark.parametrize("name", ["ddpm, small", "ddim, eta 0", "ddim, eta 1"])
def test_twice_as_many_steps_halve_the_error(monkeypatch, name):
    step = partial(STEPS[name], best, SCHEDULE)
    errors = [abs(carried_on(monkeypatch, step, steps)[1] - VAR) for steps in (50, 100, 200)]
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], rel=0.15)


def test_ddim_without_noise_maps_quantiles_to_quantiles():
    """In the limit of many steps the map x_T -> x_0 is, for a Gaussian, the linear function that
    maps each quantile to the same quantile."""
    start = Tensor(np.linspace(-2, 2, 5)[:, None])
    ends = sample(partial(ddim_step, best, SCHEDULE), start, sampling_times(SCHEDULE)).numpy()
    np.testing.assert_allclose(ends, MEAN + VAR**0.5 * start.numpy(), atol=0.01)


@pytest.mark.statistical
@pytest.mark.parametrize("name", STEPS)
def test_samples_have_the_computed_mean_and_variance(monkeypatch, device, name):
    step = partial(STEPS[name], best, SCHEDULE)
    tinycv.manual_seed(SEED + 3)
    start = Tensor(np.random.default_rng(SEED).normal(size=(20_000, 1)), device=device)
    got = sample(step, start, sampling_times(SCHEDULE, 25)).numpy()
    mean, var = carried_on(monkeypatch, step, 25)
    assert got.mean() == pytest.approx(mean, abs=5 * (var / 20_000) ** 0.5)
    assert got.var() == pytest.approx(var, rel=5 * (2 / 20_000) ** 0.5)


def test_samples_are_reproducible_from_a_seed(device):
    runs = []
    for seed in (1, 1, 2):
        tinycv.manual_seed(seed)
        start = Tensor(np.zeros((4, 1), np.float32), device=device)
        runs.append(
            sample(partial(ddpm_step, best, SCHEDULE), start, sampling_times(SCHEDULE, 10))
            .numpy()
            .tolist()
        )
    assert runs[0] == runs[1] != runs[2]


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────


def test_sampling_times_run_evenly_from_the_last_to_0():
    assert sampling_times(SCHEDULE, 4).tolist() == [1000, 750, 500, 250, 0]
    assert sampling_times(linear_schedule(7)).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert len(set(sampling_times(SCHEDULE, 333).tolist())) == 334


@pytest.mark.parametrize("steps", [0, 1001])
def test_zero_steps_and_more_steps_than_the_schedule_has_are_refused(steps):
    with pytest.raises(
        ValueError, match=f"steps is {steps}; a schedule of 1000 steps can be sampled in 1 to 1000"
    ):
        sampling_times(SCHEDULE, steps)


def test_a_trajectory_yields_every_time_and_ends_with_the_sample():
    step, start = partial(ddim_step, best, SCHEDULE), Tensor(np.array([[0.3], [-1.0]]))
    path = list(trajectory(step, start, sampling_times(SCHEDULE, 5)))
    assert [t for t, _ in path] == [1000, 800, 600, 400, 200, 0]
    assert path[0][1] is start
    assert (path[-1][1].numpy() == sample(step, start, sampling_times(SCHEDULE, 5)).numpy()).all()


def test_sampling_leaves_no_graph_behind():
    model = tinycv.nn.Linear(1, 1)
    x = sample(
        partial(ddim_step, lambda x, t: model(x), SCHEDULE),
        tinycv.randn(2, 1),
        sampling_times(SCHEDULE, 3),
    )
    assert not x.requires_grad
