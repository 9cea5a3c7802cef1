"""The forward process, what a network may be asked for, and the loss: against closed forms of a
Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.diffusion.denoising import (
    asked_for,
    clipped,
    denoiser,
    diffusion_loss,
    to_noise,
    to_x0,
)
from tinycv.diffusion.edm import EDM
from tinycv.diffusion.schedule import DDPM, alpha_bar_of, cosine_schedule, linear_schedule
from tinycv.diffusion.sde import VE, VP, SubVP

RNG = np.random.default_rng(SEED)
MEAN, VAR = 0.7, 0.3  # the data's: a Gaussian
# three steps, so far apart that one step too many shows
STEPS = DDPM(alpha_bar_of([0.2, 0.5, 0.9]))
PREDICTS = ["eps", "x0", "v"]


def best(x, a, s):
    """E[x_0 | x_t = x] for data N(MEAN, VAR): the mean of a Gaussian given another that it is
    correlated with."""
    return MEAN + a * VAR / (a * a * VAR + s * s) * (x - a * MEAN)


# ── schedules ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("schedule", [linear_schedule, cosine_schedule])
def test_a_schedule_has_the_image_at_time_0_and_one_entry_a_step_after_it(schedule):
    alpha_bar = schedule(40).alpha_bar
    assert alpha_bar.shape == (41,)
    assert alpha_bar[0] == 1
    assert (np.diff(alpha_bar) < 0).all()


def test_the_linear_schedules_betas_are_those_of_the_paper():
    betas = 1 - (alpha_bar := linear_schedule().alpha_bar)[1:] / alpha_bar[:-1]
    np.testing.assert_allclose(betas[[0, 1, -1]], [1e-4, 1e-4 + 0.0199 / 999, 0.02], rtol=1e-9)


def test_after_a_thousand_linear_steps_an_images_pixels_are_noise_to_1e_5_bits():
    """Ho et al. 2020, section 4: the KL divergence of q(x_T | x_0) from N(0, I) is about 1e-5 bits
    a dimension."""
    left = linear_schedule().alpha_bar[-1]  # for a pixel of square 1/4, between black and white
    assert 0.5 * (left * 0.25 - left - np.log(1 - left)) / np.log(2) < 1e-5


def test_the_cosine_schedule_is_cos_squared_where_no_beta_is_cut_off():
    t = np.array([0, 1, 250, 500, 900])
    f = np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine_schedule().alpha_bar[t], f / f[0], rtol=1e-12)


def test_no_beta_of_the_cosine_schedule_exceeds_the_largest():
    betas = 1 - (alpha_bar := cosine_schedule(100).alpha_bar)[1:] / alpha_bar[:-1]
    assert betas.max() == pytest.approx(0.999, rel=1e-6)


@pytest.mark.parametrize("betas", [[], [0.1, 1.0], [0.0], [0.1, np.nan], [-0.1]])
def test_betas_that_are_no_shares_of_variance_are_refused(betas):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        alpha_bar_of(betas)


# ── there ────────────────────────────────────────────────────────────────────────────────────────


def test_one_leap_is_as_all_steps_together():
    """Mean and variance of x_t after t steps of q(x_t | x_{t-1}), carried on one by one."""
    mean, var = 1.0, 0.0
    for t, beta in enumerate([0.2, 0.5, 0.9], 1):
        mean, var = np.sqrt(1 - beta) * mean, (1 - beta) * var + beta
        a, s = STEPS.marginal(t)
        assert (a, s * s) == pytest.approx((mean, var))


def test_every_image_is_diffused_to_its_own_time(device):
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


# ── what is asked for ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("predicts", PREDICTS)
@pytest.mark.parametrize("t", [1, 2, np.array([1, 3, 2])], ids=["early", "late", "each its own"])
def test_every_answer_gives_back_the_image_and_the_noise(device, predicts, t):
    x0, noise = (Tensor(RNG.normal(size=(3, 4)), device=device) for _ in range(2))
    a, s = STEPS.beside(x0, t if isinstance(t, int) else Tensor(t, device=device))
    x = a * x0 + s * noise
    found = to_x0(predicts, asked_for(predicts, x0, noise, a, s), x, a, s)
    np.testing.assert_allclose(found.numpy(), x0.numpy(), atol=1e-12)
    np.testing.assert_allclose(to_noise(found, x, a, s).numpy(), noise.numpy(), atol=1e-12)


def test_v_turns_signal_and_noise_by_a_quarter():
    """(x_t, v) is (x_0, ε) turned by the angle whose cosine is a: lengths stay (Salimans & Ho 2022,
    appendix D)."""
    x0, noise, (a, s) = 3.0, 4.0, STEPS.marginal(2)
    assert np.hypot(a * x0 + s * noise, asked_for("v", x0, noise, a, s)) == pytest.approx(5.0)


@pytest.mark.parametrize(
    "function", [lambda: asked_for("score", 0, 0, 1, 0), lambda: to_x0("score", 0, 0, 1, 0)]
)
def test_a_question_that_there_is_not_is_refused(function):
    with pytest.raises(ValueError, match="predicts is 'score'; it must be one of 'eps', 'x0', 'v'"):
        function()


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────


def answering(predicts, error=0.0):
    """A model that knows the best answer for data N(MEAN, VAR), and makes an error if told to."""

    def model(x, t):
        a, s = STEPS.beside(x, t)
        x0 = best(x, a, s)
        return asked_for(predicts, x0, to_noise(x0, x, a, s), a, s) + error

    return model


def least(predicts):
    """The smallest loss there is: x_0 given x_t has variance VAR s²/(a² VAR + s²), whatever x_t
    is."""
    a2 = STEPS.alpha_bar[1:]
    left = VAR * (1 - a2) / (a2 * VAR + 1 - a2)
    return np.mean({"eps": left * a2 / (1 - a2), "x0": left, "v": left / (1 - a2)}[predicts])


@pytest.mark.statistical
@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_loss_of_the_best_answer_is_the_variance_that_nobody_can_know(device, predicts):
    x0 = Tensor(MEAN + VAR**0.5 * RNG.normal(size=(200_000, 1)), device=device)
    loss = diffusion_loss(answering(predicts), x0, schedule=STEPS, predicts=predicts)
    # 5.2 standard errors of "eps", 7 of the others
    assert loss.item() == pytest.approx(least(predicts), rel=0.025)


@pytest.mark.statistical
@pytest.mark.parametrize("predicts", PREDICTS)
def test_an_answer_that_is_off_by_d_costs_d_squared_more(predicts):
    x0 = Tensor(MEAN + VAR**0.5 * RNG.normal(size=(200_000, 1)))
    loss = diffusion_loss(answering(predicts, error=0.5), x0, schedule=STEPS, predicts=predicts)
    assert loss.item() == pytest.approx(least(predicts) + 0.25, rel=0.02)


@pytest.mark.statistical
def test_every_time_from_1_to_the_last_is_as_likely_and_there_are_no_others(device):
    times = STEPS.random_times(Tensor(np.zeros((30_000, 1), np.float32), device=device))
    counts = np.bincount(tinycv.Tensor(times).numpy())
    assert len(counts) == 4 and counts[0] == 0
    np.testing.assert_allclose(counts[1:], 10_000, atol=5 * np.sqrt(30_000 * 2 / 9))


def test_the_loss_hands_the_condition_on_and_is_the_same_for_the_same_seed(device):
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
def test_v_is_refused_where_signal_and_noise_are_no_cosine_and_sine(schedule):
    with pytest.raises(ValueError, match="predicts is 'v', which needs a schedule with"):
        denoiser(lambda x, t: x, schedule, "v")


def test_on_vp_v_is_learned_and_denoised_as_on_ddpm(device):
    """Trained and asked on one schedule of continuous time: the loss is 0 where the answer is
    right."""
    x0 = Tensor(np.full((5, 2), 0.3), device=device)

    def model(x, t):
        a, s = VP().beside(x, t)
        return asked_for("v", x0, (x - a * x0) / s, a, s)

    assert diffusion_loss(model, x0, schedule=VP(), predicts="v").item() < 1e-12
    x = VP().perturb(x0, 0.4, tinycv.randn_like(x0))
    np.testing.assert_allclose(denoiser(model, VP(), "v")(x, 0.4).numpy(), x0.numpy(), rtol=1e-6)


# ── the denoiser ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_denoiser_is_the_mean_of_what_may_have_been(device, predicts):
    x = Tensor(RNG.normal(size=(3, 1)), device=device)
    denoise = denoiser(answering(predicts), STEPS, predicts)
    a, s = STEPS.marginal(2)
    np.testing.assert_allclose(denoise(x, 2).numpy(), best(x.numpy(), a, s))
    t = np.array([1, 2, 3])
    each = denoise(x, Tensor(t, device=device)).numpy()
    for i in range(3):
        np.testing.assert_allclose(each[i], best(x.numpy()[i], *STEPS.marginal(t[i])))


def test_a_clipped_denoiser_stays_in_the_range_of_images(device):
    denoise = clipped(lambda x, t: 3.0 * x)
    assert denoise(Tensor([-1.0, 0.1, 2.0], device=device), 1).numpy().tolist() == pytest.approx(
        [-1.0, 0.3, 1.0]
    )
