"""DDPM's forward process, the three prediction targets, and the loss: against closed forms for
Gaussian data."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.diffusion.denoising import (
    clipped,
    denoiser,
    diffusion_loss,
    target_for,
    to_noise,
    to_x0,
)
from tinycv.diffusion.edm import EDM
from tinycv.diffusion.schedule import DDPM, alpha_bar_of, cosine_schedule, linear_schedule
from tinycv.diffusion.sde import VE, VP, SubVP

RNG = np.random.default_rng(SEED)
MEAN, VAR = 0.7, 0.3  # of the data, a Gaussian
# three steps with such large betas that an error of one step shows
STEPS = DDPM(alpha_bar_of([0.2, 0.5, 0.9]))
PREDICTS = ["eps", "x0", "v"]


def best(x, a, sigma):
    """E[x_0 | x_t = x] for data N(MEAN, VAR): the conditional mean of two jointly Gaussian
    variables."""
    return MEAN + a * VAR / (a * a * VAR + sigma * sigma) * (x - a * MEAN)


# ── schedules ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])
def test_alpha_bar_is_1_at_time_0_and_falls_with_every_step(schedule):
    alpha_bar = schedule(40).alpha_bar
    assert alpha_bar.shape == (41,)
    assert alpha_bar[0] == 1
    assert (np.diff(alpha_bar) < 0).all()


def test_the_betas_of_the_linear_schedule_equal_the_papers_values():
    betas = 1 - (alpha_bar := linear_schedule().alpha_bar)[1:] / alpha_bar[:-1]
    np.testing.assert_allclose(betas[[0, 1, -1]], [1e-4, 1e-4 + 0.0199 / 999, 0.02], rtol=1e-9)


def test_after_a_thousand_linear_steps_less_than_1e_5_bits_per_pixel_are_left():
    """Ho et al. 2020, section 4: the KL divergence of q(x_T | x_0) from N(0, I) is about 1e-5 bits
    per dimension."""
    left = linear_schedule().alpha_bar[-1]  # for a pixel of square 1/4, between black and white
    assert 0.5 * (left * 0.25 - left - np.log(1 - left)) / np.log(2) < 1e-5


def test_the_cosine_schedule_is_cos_squared_where_no_beta_is_clipped():
    t = np.array([0, 1, 250, 500, 900])
    f = np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine_schedule().alpha_bar[t], f / f[0], rtol=1e-12)


def test_no_beta_of_the_cosine_schedule_exceeds_the_largest():
    betas = 1 - (alpha_bar := cosine_schedule(100).alpha_bar)[1:] / alpha_bar[:-1]
    assert betas.max() == pytest.approx(0.999, rel=1e-6)


@pytest.mark.parametrize("betas", [[0.1, 1.0], [0.0], [0.1, np.nan], [-0.1], [1.5]])
def test_betas_outside_0_to_1_are_refused_with_the_range_that_they_have(betas):
    said = f"from {np.min(betas)} to {np.max(betas)}; all must be above 0 and below 1"
    with pytest.raises(ValueError, match=said):
        alpha_bar_of(betas)


def test_an_empty_list_of_betas_is_refused():
    with pytest.raises(ValueError, match="betas is empty"):
        alpha_bar_of([])


# ── the forward process ──────────────────────────────────────────────────────────────────────────


def test_noising_in_one_step_equals_noising_step_by_step():
    """Mean and variance of x_t after t steps of q(x_t | x_{t-1}), computed step by step."""
    mean, var = 1.0, 0.0
    for t, beta in enumerate([0.2, 0.5, 0.9], 1):
        mean, var = np.sqrt(1 - beta) * mean, (1 - beta) * var + beta
        a, sigma = STEPS.marginal(t)
        assert (a, sigma * sigma) == pytest.approx((mean, var))


def test_perturb_noises_each_image_to_its_own_time(device):
    x0, noise, t = RNG.normal(size=(3, 1, 2, 2)), RNG.normal(size=(3, 1, 2, 2)), np.array([3, 0, 1])
    got = STEPS.perturb(
        Tensor(x0, device=device), Tensor(t, device=device), Tensor(noise, device=device)
    ).numpy()
    for i in range(3):
        np.testing.assert_allclose(
            got[i],
            STEPS.alpha_bar[t[i]] ** 0.5 * x0[i] + (1 - STEPS.alpha_bar[t[i]]) ** 0.5 * noise[i],
        )
    np.testing.assert_array_equal(got[1], x0[1])


# ── what the network predicts ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("predicts", PREDICTS)
@pytest.mark.parametrize("t", [1, 2, np.array([1, 3, 2])], ids=["early", "late", "each its own"])
def test_every_target_determines_the_image_and_the_noise(device, predicts, t):
    x0, noise = (Tensor(RNG.normal(size=(3, 4)), device=device) for _ in range(2))
    a, sigma = STEPS.marginal_for(x0, t if isinstance(t, int) else Tensor(t, device=device))
    x = a * x0 + sigma * noise
    found = to_x0(predicts, target_for(predicts, x0, noise, a, sigma), x, a, sigma)
    np.testing.assert_allclose(found.numpy(), x0.numpy(), atol=1e-12)
    np.testing.assert_allclose(to_noise(found, x, a, sigma).numpy(), noise.numpy(), atol=1e-12)


def test_x_t_and_v_are_a_rotation_of_image_and_noise():
    """(x_t, v) is (x_0, ε) rotated by the angle whose cosine is a, so its length is the same
    (Salimans & Ho 2022, appendix D)."""
    x0, noise, (a, sigma) = 3.0, 4.0, STEPS.marginal(2)
    assert np.hypot(a * x0 + sigma * noise, target_for("v", x0, noise, a, sigma)) == pytest.approx(
        5.0
    )


@pytest.mark.parametrize(
    "function", [lambda: target_for("score", 0, 0, 1, 0), lambda: to_x0("score", 0, 0, 1, 0)]
)
def test_an_unknown_target_is_refused(function):
    with pytest.raises(ValueError, match="predicts is 'score'; it must be one of 'eps', 'x0', 'v'"):
        function()


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────


def answering(predicts, error=0.0):
    """A model that makes the best prediction for data N(MEAN, VAR), plus a constant error."""

    def model(x, t):
        a, sigma = STEPS.marginal_for(x, t)
        x0 = best(x, a, sigma)
        return target_for(predicts, x0, to_noise(x0, x, a, sigma), a, sigma) + error

    return model


def least(predicts):
    """The minimum of the loss: x_0 given x_t has the variance VAR σ²/(a² VAR + σ²), whatever x_t
    is. For "eps" this gives a² VAR/(a² VAR + σ²), the formula of denoising.py."""
    a2 = STEPS.alpha_bar[1:]
    left = VAR * (1 - a2) / (a2 * VAR + 1 - a2)
    return np.mean({"eps": left * a2 / (1 - a2), "x0": left, "v": left / (1 - a2)}[predicts])


@pytest.mark.statistical
@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_minimum_of_the_loss_on_a_gaussian_is_the_posterior_variance(device, predicts):
    x0 = Tensor(MEAN + VAR**0.5 * RNG.normal(size=(200_000, 1)), device=device)
    loss = diffusion_loss(answering(predicts), x0, schedule=STEPS, predicts=predicts)
    # the bound is 5.2 standard errors for "eps" and 7 for the other two
    assert loss.item() == pytest.approx(least(predicts), rel=0.025)


@pytest.mark.statistical
@pytest.mark.parametrize("predicts", PREDICTS)
def test_a_prediction_that_is_off_by_d_costs_d_squared_more(predicts):
    x0 = Tensor(MEAN + VAR**0.5 * RNG.normal(size=(200_000, 1)))
    loss = diffusion_loss(answering(predicts, error=0.5), x0, schedule=STEPS, predicts=predicts)
    assert loss.item() == pytest.approx(least(predicts) + 0.25, rel=0.02)


@pytest.mark.statistical
def test_random_times_are_uniform_from_1_to_the_last(device):
    times = STEPS.random_times(Tensor(np.zeros((30_000, 1), np.float32), device=device))
    counts = np.bincount(tinycv.Tensor(times).numpy())
    assert len(counts) == 4 and counts[0] == 0
    np.testing.assert_allclose(counts[1:], 10_000, atol=5 * np.sqrt(30_000 * 2 / 9))


def test_the_loss_passes_the_condition_on_and_is_reproducible(device):
    x0, seen = Tensor(np.ones((5, 1, 2, 2), np.float32), device=device), []

    def model(x, t, label):
        seen.append(label)
        return x * t.reshape((5, 1, 1, 1)).astype(x.dtype)

    losses = []
    for seed in (1, 1, 2):
        tinycv.manual_seed(seed)
        losses.append(diffusion_loss(model, x0, "label", schedule=STEPS).item())
    assert losses[0] == losses[1] != losses[2]
    assert seen == ["label"] * 3


@pytest.mark.parametrize("schedule", [VE(), SubVP(), EDM()], ids=["VE", "SubVP", "EDM"])
def test_v_is_refused_for_schedules_that_do_not_preserve_variance(schedule):
    with pytest.raises(ValueError, match="predicts is 'v', which needs a schedule with"):
        denoiser(lambda x, t: x, schedule, "v")


def test_v_prediction_works_on_vp_as_on_ddpm(device):
    """On a noise schedule of continuous time the loss is 0 for a model that knows the image, and
    the denoiser made from this model returns the image."""
    x0 = Tensor(np.full((5, 2), 0.3), device=device)

    def model(x, t):
        a, sigma = VP().marginal_for(x, t)
        return target_for("v", x0, (x - a * x0) / sigma, a, sigma)

    assert diffusion_loss(model, x0, schedule=VP(), predicts="v").item() < 1e-12
    x = VP().perturb(x0, 0.4, tinycv.randn_like(x0))
    np.testing.assert_allclose(denoiser(model, VP(), "v")(x, 0.4).numpy(), x0.numpy(), rtol=1e-6)


# ── the denoiser ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_denoiser_is_the_posterior_mean(device, predicts):
    x = Tensor(RNG.normal(size=(3, 1)), device=device)
    denoise = denoiser(answering(predicts), STEPS, predicts)
    a, sigma = STEPS.marginal(2)
    np.testing.assert_allclose(denoise(x, 2).numpy(), best(x.numpy(), a, sigma))
    t = np.array([1, 2, 3])
    each = denoise(x, Tensor(t, device=device)).numpy()
    for i in range(3):
        np.testing.assert_allclose(each[i], best(x.numpy()[i], *STEPS.marginal(t[i])))


def test_a_clipped_denoiser_stays_in_the_range_of_images(device):
    denoise = clipped(lambda x, t: 3.0 * x)
    assert denoise(Tensor([-1.0, 0.1, 2.0], device=device), 1).numpy().tolist() == pytest.approx(
        [-1.0, 0.3, 1.0]
    )
