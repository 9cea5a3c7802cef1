"""DDPM's variational bound against closed forms. With the best denoiser of a Gaussian every term is
known, and for any model the bound lies above the entropy of the data."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.diffusion.bound import (
    decoder_term,
    denoiser_and_v,
    hybrid_loss,
    log_variance,
    log_variances,
    posterior_mean,
    prior_term,
    step_term,
    variational_bound,
)
from tinycv.diffusion.samplers import ddpm_step, sample, sampling_times
from tinycv.diffusion.schedule import DDPM, cosine_schedule, linear_schedule
from tinycv.engine.check import certify

LINEAR = linear_schedule(1000)
SHORT = linear_schedule(20, 0.01, 0.4)
RNG = np.random.default_rng(1)
ENTROPY = 0.5 * math.log(2 * math.pi * math.e)  # of N(0, 1), in nats


def best(schedule, var=1.0):
    """E[x_0 | x_t] for data N(0, var): a linear function of x_t."""

    def denoise(x, t):
        a, sigma = schedule.marginal_for(x, t)
        return a * var / (a * a * var + sigma * sigma) * x

    return denoise


def constant_v(value):
    return lambda x, t: 0 * x + value


def exact_terms(schedule, variance):
    """L_T, the L_{t-1} and L_0 for data N(0, 1) and the best denoiser. Its squared error is σ_t²,
    so that μ̃ is off by √ᾱ_{t-1} β_t / σ_t (in the root mean square)."""
    bar = schedule.alpha_bar
    beta = 1 - bar[1:] / bar[:-1]
    small = beta * (1 - bar[:-1]) / (1 - bar[1:])  # 0 for t = 1
    r2 = beta if variance == "large" else np.append(small[1], small[1:])
    prior = -0.5 * np.log(1 - bar[-1])  # E (a² x² + σ²) is 1
    squared_error = bar[:-1] * beta**2 / (1 - bar[1:])
    kl = 0.5 * (np.log(r2[1:] / small[1:]) + (small + squared_error)[1:] / r2[1:] - 1)
    decoder = 0.5 * (np.log(2 * np.pi * r2[0]) + beta[0] / r2[0])
    return prior, kl, decoder


def images(levels, shape=(6, 1, 2, 2)):
    """Random images with pixels at ``levels`` values from -1 to 1."""
    return RNG.integers(0, levels, shape) / (levels - 1) * 2 - 1


# ── the oracle: N(0, 1) ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variance, nats", [("large", ENTROPY), ("small", 1.997533)])
def test_the_closed_form_of_the_bound_on_a_normal_is_the_known_number(variance, nats):
    prior, steps, decoder = exact_terms(LINEAR, variance)
    assert prior + steps.sum() + decoder == pytest.approx(nats, abs=1e-6)


def within_noise(values, expected):
    """Is the mean of samples (N, ...) within five standard errors of what is expected?"""
    error = values.std(axis=0) / len(values) ** 0.5
    return (abs(values.mean(axis=0) - expected) <= 5 * error + 1e-6).all()


@pytest.mark.parametrize("schedule", [SHORT, cosine_schedule(30)], ids=["linear", "cosine"])
@pytest.mark.parametrize("variance", ["large", "small"])
def test_each_term_from_samples_is_its_closed_form(variance, schedule):
    prior, steps, decoder = exact_terms(schedule, variance)
    found = variational_bound(best(schedule), normal_points(20_000), schedule, variance)
    assert within_noise(found.prior, prior)
    assert within_noise(found.steps, steps)
    assert within_noise(found.decoder, decoder)


@pytest.mark.parametrize("variance, nats", [("large", ENTROPY), ("small", 1.997533)])
def test_1000_steps_from_samples_give_the_known_number(variance, nats):
    found = variational_bound(best(LINEAR), normal_points(2000), LINEAR, variance)
    assert found.steps.shape == (2000, 999)
    assert within_noise(found.total, nats)


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("var", [0.1, 1.0, 4.0])
def test_the_bound_is_never_below_the_entropy(value, var):
    """For any variance of the steps, and with the best denoiser, which makes L smallest."""
    x0 = var**0.5 * normal_points(4000)
    found = variational_bound(best(SHORT, var), x0, SHORT, constant_v(value)).total
    entropy = ENTROPY + 0.5 * math.log(var)
    assert found.mean() >= entropy - 5 * found.std() / 4000**0.5


@pytest.mark.parametrize("levels", [2, 5, 17])
def test_the_bound_of_random_pixels_is_above_the_logarithm_of_their_levels(levels):
    """No model can need fewer nats for uniform noise, least of all one that reads its own input."""
    x0 = images(levels, (2000, 1))
    for denoise in (best(SHORT, (x0**2).mean()), lambda x, t: x, lambda x, t: 0 * x):
        found = variational_bound(denoise, x0, SHORT, levels=levels).total
        assert found.mean() >= math.log(levels) - 5 * found.std() / 2000**0.5


def normal_points(count):
    return RNG.standard_normal((count, 1))


# ── the terms ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variance", ["large", "small", constant_v(0.3)])
def test_every_divergence_of_the_bound_is_at_least_0(variance):
    found = variational_bound(lambda x, t: 0.3 * x, normal_points(500), SHORT, variance)
    assert found.prior.min() >= 0 and found.steps.min() >= -1e-12


def test_l0_is_a_term_of_its_own_and_part_of_the_total():
    found = variational_bound(best(SHORT), images(5), SHORT, levels=5)
    assert found.decoder.shape == (6,) and (found.decoder > 0).all()
    np.testing.assert_allclose(
        found.total, found.prior + found.steps.sum(axis=1) + found.decoder, rtol=1e-12
    )


@pytest.mark.parametrize("log_var", [-9.0, -2.0, 1.0])
def test_the_probabilities_of_all_levels_sum_to_1(log_var):
    """Eq. 13 with the outer bins open: whatever the mean, even one outside the range of images."""
    levels = np.linspace(-1, 1, 17)[:, None]
    for mean in (-1.4, -0.3, 0.98):
        nats = decoder_term(levels, np.full((17, 1), mean), np.full((17, 1), log_var), 17)
        assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-6)


def test_without_levels_l0_is_the_density_of_a_normal():
    nats = decoder_term(np.array([[0.5, 2.0]]), np.array([[0.0, 1.0]]), np.zeros((1, 2)))
    assert nats == pytest.approx([math.log(2 * math.pi) + 0.5 * (0.25 + 1.0)])


def test_the_posterior_is_that_of_bayes_rule():
    """x_{t-1} ~ N(√ᾱ_{t-1} x_0, 1 - ᾱ_{t-1}) was seen through x_t = √α x_{t-1} + √β z: precisions
    add."""
    bar, t, x0, x = SHORT.alpha_bar, 7, np.array([[0.4]]), np.array([[-1.3]])
    alpha, before = bar[t] / bar[t - 1], 1 - bar[t - 1]
    precision = 1 / before + alpha / (1 - alpha)
    mean = (bar[t - 1] ** 0.5 * x0 / before + alpha**0.5 * x / (1 - alpha)) / precision
    np.testing.assert_allclose(posterior_mean(SHORT, x0, x, 7), mean, rtol=1e-12)
    large, small = log_variances(SHORT, x, 7)
    assert np.exp(small) == pytest.approx(1 / precision)
    assert np.exp(large) == pytest.approx(1 - alpha)


def test_the_decoder_takes_the_smaller_variance_of_the_second_step():
    x = np.zeros((2, 1))
    _, small = log_variances(SHORT, x, np.array([1, 2]))
    assert small[0, 0] == small[1, 0]


def test_a_perfect_denoiser_with_the_smaller_variance_leaves_only_the_ends():
    x0 = images(5)
    found = variational_bound(lambda x, t: x0 + 0 * x, x0, SHORT, "small", levels=5)
    np.testing.assert_allclose(found.steps, 0, atol=1e-12)
    assert (found.decoder < 0.3).all()


def test_float32_images_give_the_terms_of_float64_ones():
    """With 1,000 steps β̃ is 1e-4 and the weights of x_0 are as small."""
    x0, x = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
    for t in (2, 10, 1000):
        terms = []
        for dtype in ("float64", "float32"):
            at, xt = x0.astype(dtype), x.astype(dtype)
            large, _ = log_variances(LINEAR, xt, t)
            terms.append(step_term(LINEAR, at, xt, t, 0.5 * at, large))
        np.testing.assert_allclose(terms[1], terms[0], rtol=1e-3, atol=2e-6)


# ── learned variances ────────────────────────────────────────────────────────────────────────────


def test_v_runs_from_the_smaller_to_the_larger_variance():
    x = np.zeros((2, 3))
    large, small = log_variances(SHORT, x, 9)
    np.testing.assert_allclose(log_variance(SHORT, x, 9, constant_v(1.0)), large + 0 * x)
    np.testing.assert_allclose(log_variance(SHORT, x, 9, constant_v(0.0)), small + 0 * x)
    half = log_variance(SHORT, x, 9, constant_v(0.5))
    np.testing.assert_allclose(half, (large + small) / 2 + 0 * x)


@pytest.mark.parametrize("v, name", [(1.0, "large"), (0.0, "small")])
@pytest.mark.parametrize("t, s", [(20, 13), (5, 4), (3, 0)])
def test_a_ddpm_step_takes_a_learned_variance(v, name, t, s):
    x, steps = Tensor(RNG.standard_normal((3, 2))), []
    for variance in (constant_v(v), name):
        tinycv.manual_seed(3)
        steps.append(ddpm_step(best(SHORT), SHORT, x, t, s, variance).numpy())
    np.testing.assert_allclose(*steps, rtol=1e-12)


class TwoOutputs(nn.Module):
    """A network for learned variances: (B, 2 C) for points (B, C)."""

    def __init__(self, channels, width=16):
        self.hidden = nn.Linear(channels + 1, width)
        self.head = nn.Linear(width, 2 * channels)

    def forward(self, x, t):
        time = t.reshape((-1, 1)).astype("float32") / 20
        return self.head(tinycv.tanh(self.hidden(tinycv.concatenate([x, time], axis=1))))


def loss_of(prediction, v, x0, levels=None, weight=0.5):
    """hybrid_loss of a network that returns the given halves; the noise is always the same."""
    tinycv.manual_seed(5)
    return hybrid_loss(
        lambda x, t: tinycv.concatenate([prediction, v], axis=1),
        x0,
        schedule=SHORT,
        levels=levels,
        weight=weight,
    )


@pytest.mark.parametrize("levels", [None, 5])
def test_the_gradient_of_the_hybrid_loss_in_v_is_that_of_finite_differences(levels):
    x0 = Tensor(images(5, (30, 2)))  # 30 random times of 20: some are 1
    prediction = Tensor(0.3 * RNG.standard_normal((30, 2)))
    certify(lambda v: loss_of(prediction, v, x0, levels), RNG.uniform(0.2, 0.8, (30, 2)))


def test_the_bound_does_not_train_the_mean():
    prediction = Tensor(RNG.standard_normal((30, 2)), requires_grad=True)
    v, x0 = Tensor(RNG.random((30, 2))), Tensor(RNG.standard_normal((30, 2)))
    (with_bound,) = tinycv.grad(loss_of(prediction, v, x0, weight=1.0), prediction)
    (simple,) = tinycv.grad(loss_of(prediction, v, x0, weight=0.0), prediction)
    np.testing.assert_array_equal(with_bound.numpy(), simple.numpy())


def test_the_second_part_of_the_hybrid_loss_is_the_bound_per_dimension():
    """On average over random times, for the best prediction of N(0, 1) data and v = 1."""

    def model(x, t):
        sigma = Tensor(SHORT.marginal_for(x, t)[1])
        return tinycv.concatenate([sigma * x, 0 * x + 1], axis=1)

    x0, parts = Tensor(normal_points(20_000)), []
    for weight in (1.0, 0.0):
        tinycv.manual_seed(SEED)
        parts.append(hybrid_loss(model, x0, schedule=SHORT, weight=weight).item())
    _, steps, decoder = exact_terms(SHORT, "large")
    assert parts[0] - parts[1] == pytest.approx(steps.sum() + decoder, abs=0.12)


def test_the_bound_learns_the_larger_variance_for_a_normal_and_the_smaller_for_one_image():
    """The two extremes of Ho et al. 2020, section 3.2."""
    t = np.full(4000, 3)
    for x0, denoise, best_v in (
        (normal_points(4000), best(SHORT), 1.0),
        (np.full((4000, 1), 0.7), lambda x, t: 0 * x + 0.7, 0.0),
    ):
        x = SHORT.perturb(x0, 3, RNG.standard_normal((4000, 1)))
        v = Tensor(np.array(best_v), requires_grad=True)
        log_var = log_variance(SHORT, x, t, lambda x, t, v=v: v + Tensor(0 * x))
        nats = step_term(SHORT, Tensor(x0), Tensor(x), t, Tensor(denoise(x, t)), log_var)
        (slope,) = tinycv.grad(nats.mean(), v)
        assert abs(slope.item()) < 0.01


def test_training_with_the_hybrid_loss_lowers_the_bound():
    model, x0 = TwoOutputs(2), RNG.standard_normal((400, 2)).astype("float32")
    optimizer = tinycv.optim.Adam(model.parameters(), lr=1e-2)

    def nats():
        denoise, v = denoiser_and_v(model, SHORT)
        return variational_bound(denoise, x0, SHORT, v).total.mean()

    before = nats()
    for _ in range(150):
        optimizer.zero_grad()
        hybrid_loss(model, Tensor(x0), schedule=SHORT, weight=0.1).backward()
        optimizer.step()
    assert 2 * ENTROPY - 0.2 < nats() < before - 1


def test_a_model_with_learned_variances_draws_samples():
    denoise, v = denoiser_and_v(TwoOutputs(2), SHORT)
    step = partial(ddpm_step, denoise, SHORT, variance=v)
    made = sample(step, tinycv.randn(5, 2), sampling_times(SHORT, 10))
    assert made.shape == (5, 2) and np.isfinite(made.numpy()).all()


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


def test_pixels_between_the_levels_are_refused():
    """A probability of levels says nothing about continuous data, such as latents."""
    with pytest.raises(ValueError, match="x holds .* it must be one of 17 levels"):
        variational_bound(best(SHORT), RNG.standard_normal((3, 2)), SHORT, levels=17)


@pytest.mark.parametrize("value", [1.5, -1.25, math.nan])
def test_pixels_outside_the_range_are_refused(value):
    with pytest.raises(ValueError, match="x holds"):
        hybrid_loss(TwoOutputs(1), Tensor([[value]]), schedule=SHORT, levels=9)


def test_a_denoiser_of_another_schedule_is_refused():
    denoise, _ = denoiser_and_v(TwoOutputs(2), LINEAR)
    with pytest.raises(ValueError, match="another schedule"):
        variational_bound(denoise, np.zeros((1, 2)), SHORT)


@pytest.mark.parametrize("alpha_bar", [[1.0, 0.5], [1.0, 0.5, 0.5]])
def test_a_schedule_with_a_step_that_adds_no_noise_is_refused(alpha_bar):
    with pytest.raises(ValueError, match="at least two, and each must add noise"):
        variational_bound(best(SHORT), np.zeros((1, 2)), DDPM(np.array(alpha_bar)))


def test_the_noise_alone_is_refused_as_a_prediction_where_no_signal_is_left():
    schedule = DDPM(np.array([1.0, 0.5, 0.0]))
    with pytest.raises(ValueError, match="predicts is 'eps', but nothing is left"):
        hybrid_loss(TwoOutputs(2), Tensor(np.zeros((3, 2))), schedule=schedule)


def test_a_network_without_a_second_half_is_refused():
    with pytest.raises(ValueError, match=r"must return real numbers of shape \(3, 4\)"):
        hybrid_loss(lambda x, t: x, Tensor(np.zeros((3, 2))), schedule=SHORT)


@pytest.mark.parametrize("t", [0, 21])
def test_a_time_without_a_term_is_refused(t):
    with pytest.raises(IndexError, match=f"t holds {t}|21"):
        log_variances(SHORT, np.zeros((1, 2)), np.array([t]))


# ── on a GPU ─────────────────────────────────────────────────────────────────────────────────────


def test_the_terms_on_a_gpu_are_those_of_the_cpu(cp):
    x0, x, t = images(5, (4, 3)), RNG.standard_normal((4, 3)), np.array([2, 3, 9, 20])
    found = []
    for move in (np.asarray, cp.asarray):
        here, noised, times = move(x0), move(x), move(t)
        _, small = log_variances(SHORT, noised, times)
        steps = step_term(SHORT, here, noised, times, 0.5 * noised, small)
        ends = prior_term(SHORT, here), decoder_term(here, 0.5 * noised, small, 5)
        found.append([steps, *ends])
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(here, there.get(), rtol=1e-6)


def test_the_bound_and_the_loss_run_on_a_gpu(double):
    x0 = Tensor(images(5, (6, 2)).astype("float32"), device="gpu")
    model = TwoOutputs(2).to("gpu")
    loss = hybrid_loss(model, x0, schedule=SHORT, levels=5)
    loss.backward()
    denoise, v = denoiser_and_v(model, SHORT)
    found = variational_bound(denoise, x0, SHORT, v, levels=5)
    assert math.isfinite(loss.item()) and np.isfinite(found.total.get()).all()


def test_on_a_gpu_what_is_refused_on_the_host_becomes_nan(cp):
    x = cp.asarray(np.zeros((3, 2)))
    large, _ = log_variances(SHORT, x, cp.asarray(np.array([0, 5, 21])))
    assert np.isnan(large.get()[[0, 2]]).all() and np.isfinite(large.get()[1]).all()
    x0 = cp.asarray(np.array([[0.0, 0.1]]))
    assert np.isnan(variational_bound(best(SHORT), x0, SHORT, levels=5).total.get()).all()
