"""All six noise schedules have the same interface (times, signal and noise, training, sampling),
and on each Tweedie's formula links the exact score and the exact denoiser of a mixture."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.data import Mixture
from tinycv.diffusion.denoising import clipped, denoiser, diffusion_loss
from tinycv.diffusion.edm import EDM, edm_sigmas, heun_step
from tinycv.diffusion.guidance import guided
from tinycv.diffusion.samplers import ddim_step, ddpm_step, sample, sampling_times
from tinycv.diffusion.schedule import cosine_schedule, linear_schedule
from tinycv.diffusion.sde import VE, VP, SubVP, euler_maruyama, predictor_corrector
from tinycv.diffusion.tweedie import denoiser_of, score_of

SCHEDULES = {
    "linear": linear_schedule(1000),
    "cosine": cosine_schedule(1000),
    "VE": VE(0.01, 20.0),
    "VP": VP(),
    "SubVP": SubVP(),
    "EDM": EDM(sigma_max=20.0),
}
DENSITY = Mixture([[-1.0, 0.5], [1.2, -0.3]], sigma=0.3, weights=[0.3, 0.7])


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param]


def middle(schedule):
    """A time at which there is both signal and noise."""
    return schedule.times(10)[5]


def exact_denoiser(x, t, schedule):
    """E[x_0 | x_t = x] for the mixture, by Bayes' rule: the conditional mean of each component,
    weighted by the probability that x came from it."""
    a, sigma = schedule.marginal(t)
    variance = a * a * 0.3**2 + sigma * sigma
    away = x[:, None] - a * DENSITY.means  # (N, K, D)
    share = DENSITY.weights * np.exp(-0.5 * (away**2).sum(axis=-1) / variance)
    share /= share.sum(axis=1, keepdims=True)
    means = DENSITY.means + a * 0.3**2 / variance * away
    return (share[..., None] * means).sum(axis=1)


# ── Tweedie's formula ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [np.asarray, Tensor], ids=["array", "Tensor"])
def test_the_score_of_the_exact_denoiser_is_the_exact_score(schedule, kind):
    x, t = np.random.default_rng(SEED).normal(size=(6, 2)), middle(schedule)
    found = score_of(lambda x, t: kind(exact_denoiser(x_of(x), one(t), schedule)), schedule)
    exact = schedule.score_of(DENSITY)(x, t)
    np.testing.assert_allclose(x_of(found(kind(x), t)), exact, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", [np.asarray, Tensor], ids=["array", "Tensor"])
def test_the_denoiser_of_the_exact_score_is_the_exact_denoiser(schedule, kind):
    x, t = np.random.default_rng(SEED).normal(size=(6, 2)), middle(schedule)
    found = denoiser_of(schedule.score_of(DENSITY), schedule)(kind(x), t)
    np.testing.assert_allclose(x_of(found), exact_denoiser(x, t, schedule), rtol=1e-8, atol=1e-10)


def test_converting_a_denoiser_to_a_score_and_back_changes_nothing(schedule, device):
    x = Tensor(np.random.default_rng(SEED).normal(size=(4, 3)), device=device)
    t = schedule.times_for(x, middle(schedule))
    again = score_of(denoiser_of(lambda x, t: -0.7 * x, schedule), schedule)(x, t)
    np.testing.assert_allclose(again.numpy(), -0.7 * x.numpy(), rtol=1e-9)


def x_of(value):
    return value.numpy() if isinstance(value, Tensor) else value


def one(t):
    """The one time in times (B,) that are all equal."""
    return x_of(t)[0].item()


# ── the common interface ─────────────────────────────────────────────────────────────────────────


def test_times_fall_from_the_noise_to_the_data(schedule):
    walk = sampling_times(schedule, 7)
    assert len(walk) == 8 and walk[0] == schedule.last and walk[-1] == 0
    assert (np.diff(walk) < 0).all()
    assert schedule.marginal(walk[-1]) == (1.0, 0.0)


def test_the_times_of_edm_are_edm_sigmas():
    assert EDM(0.01, 5.0, 3.0).times(9) == edm_sigmas(9, 0.01, 5.0, 3.0)


def test_signal_and_noise_are_the_same_for_a_number_and_for_a_batch(schedule, device):
    x, t = Tensor(np.zeros((3, 1, 2)), device=device), middle(schedule)
    for given in (t, schedule.times_for(x, t)):
        a, sigma = (Tensor(part).numpy() for part in schedule.marginal_for(x, given))
        assert a.shape == sigma.shape == (3, 1, 1)
        np.testing.assert_allclose(a.ravel(), schedule.signal(t), rtol=1e-12)
        np.testing.assert_allclose(sigma.ravel(), schedule.noise(t), rtol=1e-12)


def test_two_noising_steps_equal_one(schedule):
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0)."""
    t, s = schedule.times(10)[2], schedule.times(10)[6]
    alpha, beta = schedule.between(t, s)
    assert alpha * schedule.signal(s) == pytest.approx(schedule.signal(t))
    variance = alpha**2 * schedule.noise(s) ** 2 + beta
    assert variance == pytest.approx(schedule.noise(t) ** 2)


@pytest.mark.statistical
def test_random_times_belong_to_the_schedule_and_have_noise(schedule, device):
    x = Tensor(np.zeros((2000, 1), np.float32), device=device)
    drawn = schedule.random_times(x).numpy()
    assert drawn.shape == (2000,) and (drawn >= 0).all()
    assert (schedule.noise(drawn[drawn > 0]) > 0).all()


def test_the_loss_and_the_denoiser_use_the_same_signal_and_noise(schedule, device):
    """A model that knows the data and predicts the noise has the loss 0, and its denoiser returns
    the data."""
    tinycv.manual_seed(SEED)
    x0 = Tensor(np.random.default_rng(SEED).normal(size=(1, 4)) * np.ones((8, 1)), device=device)

    def model(x, t):
        a, sigma = schedule.marginal_for(x, t)
        return (x - a * x0) / sigma

    assert diffusion_loss(model, x0, schedule=schedule).item() < 1e-10
    t = middle(schedule)
    x = schedule.perturb(x0, t, tinycv.randn_like(x0))
    found = denoiser(model, schedule)(x, t).numpy()
    np.testing.assert_allclose(found, x0.numpy(), rtol=1e-6)


STEPS = {
    "ddim": ddim_step,
    "ddim, eta 1": partial(ddim_step, eta=1.0),
    "ddpm, small": partial(ddpm_step, variance="small"),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", STEPS)
def test_every_denoiser_step_samples_on_every_schedule(schedule, name):
    """With the exact denoiser the samples have the right share in each of two components, and the
    right spread."""
    tinycv.manual_seed(SEED)
    start = Tensor(schedule.prior((4000, 2), np))
    denoise = denoiser_of(schedule.score_of(DENSITY), schedule)
    x = sample(partial(STEPS[name], denoise, schedule), start, schedule.times(100)).numpy()
    right = x[:, 0] > 0.1
    assert right.mean() == pytest.approx(0.7, abs=0.06)
    assert x[right].mean(axis=0) == pytest.approx([1.2, -0.3], abs=0.08)
    assert x[right].std(axis=0) == pytest.approx([0.3, 0.3], rel=0.15)


@pytest.mark.statistical
def test_the_reverse_sde_and_edm_sample_the_same_density():
    """One sampler uses the score and the other the denoiser, which determine each other."""
    tinycv.manual_seed(SEED)
    vp, edm = SCHEDULES["VP"], SCHEDULES["EDM"]
    score, clock = vp.score_of(DENSITY), np.linspace(1, 0.001, 201)
    start = vp.prior((4000, 2), np)
    ends = {
        "euler_maruyama": euler_maruyama(vp.reverse(score), start, clock)[0],
        "predictor_corrector": predictor_corrector(vp, score, start, clock[::2]),
    }
    denoise = denoiser_of(edm.score_of(DENSITY), edm)
    start = Tensor(edm.prior((4000, 2), np))
    ends["heun"] = sample(partial(heun_step, denoise), start, edm.times(30)).numpy()
    for x in ends.values():
        assert (x[:, 0] > 0.1).mean() == pytest.approx(0.7, abs=0.06)


@pytest.mark.parametrize("kind", [VE, VP, SubVP])
def test_the_time_derivative_of_perturb_at_time_0_agrees_with_finite_differences(kind):
    schedule = kind()
    x0, z = Tensor(np.full((3, 1), 1.5)), Tensor(np.full((3, 1), 2.0))
    at = np.array([0.2, 0.5, 0.9]) if kind is not SubVP else np.array([0.0, 0.5, 0.9])
    t = Tensor(at, requires_grad=True)
    (slope,) = tinycv.grad(schedule.perturb(x0, t, z).sum(), t)
    step = 1e-6
    for i, time in enumerate(at):
        # at time 0 the difference can only be taken forwards, so its error is of the order of step
        before = max(0.0, time - step)
        high = schedule.perturb(x0, time + step, z).numpy()[i, 0]
        low = schedule.perturb(x0, before, z).numpy()[i, 0]
        assert abs(slope.numpy()[i] - (high - low) / (time + step - before)) < 1e-3


def test_a_denoiser_is_differentiable_in_its_time():
    t = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    x = Tensor(np.zeros((3, 1)))
    # D = x - t (0 x + t) = -t²
    d = denoiser(lambda x, t: 0 * x + t.reshape((-1, 1)), EDM())(x, t)
    (slope,) = tinycv.grad(d.sum(), t)
    np.testing.assert_allclose(slope.numpy(), [-2.0, -4.0, -6.0])


def test_a_float16_score_does_not_overflow():
    x = tinycv.ones(2, 1, dtype="float16")
    score = score_of(lambda x, t: 0 * x, EDM())(x, np.array([300.0, 0.05], "float16"))
    np.testing.assert_allclose(score.numpy()[:, 0], [-1 / 300**2, -400.0], rtol=2e-2)
    back = denoiser_of(lambda x, t: -x / 300 / 300, EDM())(x, np.array([300.0, 300.0], "float16"))
    assert np.isfinite(back.numpy()).all()


def test_unsigned_times_do_not_wrap_around():
    x, z = np.ones((2, 1)), np.ones((2, 1))
    made = VE().perturb(x, np.array([0, 1], "uint8"), z)
    np.testing.assert_allclose(made, VE().perturb(x, np.array([0, 1]), z))


def test_a_time_outside_the_schedule_gives_nan_on_a_gpu_for_every_target(double):
    x = tinycv.ones(2, 1, device="gpu")
    t = Tensor(np.array([0.5, 2.0], "float32"), device="gpu")
    made = denoiser(lambda x, t: 0 * x, VP(), "x0")(x, t).numpy()
    assert made[0, 0] == 0 and np.isnan(made[1, 0])


# ── one schedule: what was made for another is refused ───────────────────────────────────────────

PAIRS_OF_SCHEDULES = {
    "cosine, linear": (cosine_schedule(20), linear_schedule(20)),
    "20 steps, 10 steps": (cosine_schedule(20), cosine_schedule(10)),
    "VP, sub-VP": (VP(), SubVP()),
    "VP of two slopes": (VP(0.1, 20.0), VP(1.0, 19.1)),
    "VE, EDM": (VE(), EDM()),
}


@pytest.mark.parametrize("pair", PAIRS_OF_SCHEDULES)
@pytest.mark.parametrize("way", ["plain", "clipped", "guided", "of a score"])
def test_a_denoiser_of_another_schedule_is_refused_by_every_step(pair, way):
    own, other = PAIRS_OF_SCHEDULES[pair]
    denoise = denoiser(lambda x, t, *label: x, own, "x0")
    if way == "clipped":
        denoise = clipped(denoise)
    if way == "guided":
        denoise = guided(denoise, np.zeros(3, int), 1)
    if way == "of a score":
        denoise = denoiser_of(score_of(denoise, own), own)
    x = np.ones((3, 2), np.float32)
    t, s = other.times(5)[1:3]
    for step in (ddim_step, ddpm_step):
        with pytest.raises(ValueError, match=f"{step.__name__}: denoise was made for another sch"):
            step(denoise, other, x, t, s)
    with pytest.raises(ValueError, match="score_of: denoiser was made for another schedule"):
        score_of(denoise, other)
    with pytest.raises(ValueError, match="denoiser_of: score was made for another schedule"):
        denoiser_of(score_of(denoise, own), other)
    t, s = own.times(5)[1:3]
    assert ddim_step(denoise, own, x, t, s).shape == x.shape


def test_partial_does_not_hide_the_schedule_of_a_denoiser():
    denoise = partial(partial(denoiser(lambda x, t, *label: x, cosine_schedule(20), "x0")))
    with pytest.raises(ValueError, match="DDPM, last time 20.*their signal or noise differ"):
        ddim_step(denoise, linear_schedule(20), np.ones((3, 2), np.float32), 10, 5)


def test_equal_schedules_and_functions_without_a_schedule_are_accepted():
    x = np.ones((3, 2), np.float32)
    for make in (cosine_schedule, linear_schedule, VP, SubVP, VE, EDM):
        first, second = make(), make()
        t, s = second.times(5)[1:3]
        ddim_step(denoiser(lambda x, t: x, first, "x0"), second, x, t, s)
        ddim_step(lambda x, t: x, second, x, t, s)


def test_a_score_of_another_process_is_refused():
    score = VP().score_of(DENSITY)
    for make in (SubVP().reverse, SubVP().flow, VP(0.2, 15.0).reverse):
        with pytest.raises(ValueError, match="score was made for another schedule"):
            make(score)
    VP().reverse(score)
