"""Latent score models (cross_entropy.py, mixed_score.py, latent.py): theorem 1 of LSGM meets closed
forms for Gaussian codes, its gradient meets finite differences, and both models train, resume, and
sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mutants import mutant
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion import cross_entropy as module
from tinycv.diffusion.cross_entropy import LatentVP, score_cross_entropy
from tinycv.diffusion.latent import LSGM, LatentDiffusion, bound_of, joined
from tinycv.diffusion.mixed_score import MixedScore, VelocityNoise
from tinycv.diffusion.sde import VP
from tinycv.likelihood.vae import VAE
from tinycv.optim import Adam

RNG = np.random.default_rng(SEED)
SIGMA_0 = math.sqrt(0.001)
GRID = 4000  # times of a midpoint rule


def times_on_a_grid(sde, weighting="ll", m=module):
    """t and w(t) / r(t) for u in the middle of GRID equal parts of [0, 1], instead of random u."""
    u = (np.arange(GRID) + 0.5) / GRID
    before = m.uniform
    m.uniform = lambda *_: u
    try:
        return sde.weighted_times(np.zeros((GRID, 1)), weighting)
    finally:
        m.uniform = before


def standard_normal_score(sde):
    """ε̂ = σ z: the score -z, that of N(0, I) at all times."""
    return lambda z, t: sde.marginal_for(z, t)[1] * z


def gaussian_prior(sde, mean, std):
    """ε̂ of the exact score, if the prior at t = 0 is N(mean, std²) per latent."""

    def predict_noise(z, t):
        a, sigma = sde.marginal_for(z, t)
        # the prior at t = 0 has the noise σ_0 in it, so its codes have std² - σ_0²
        variance = a * a * (std**2 - sde.sigma_0**2) + sigma * sigma
        return sigma * (z - a * mean) / variance

    return predict_noise


def cross_entropy(predict_noise, sde, mean, std, m=module):
    """Theorem 1 for q = N(mean, std²), (D,) each: a mean over a grid of times and, for the
    Gaussian integrals over z_0 and ε, over the 3^2 points of a Gauss-Hermite rule per latent."""
    t, weight = times_on_a_grid(sde, m=m)
    # three nodes are exact for polynomials up to degree 5; the error is quadratic in z_0 and ε
    nodes, chances = np.array([-math.sqrt(3), 0, math.sqrt(3)]), np.array([1, 4, 1]) / 6
    total = 0.0
    for i, first in zip(nodes, chances, strict=True):
        for j, second in zip(nodes, chances, strict=True):
            z = Tensor(np.tile(mean + std * i, (GRID, 1)))
            noise = Tensor(np.full(z.shape, j))
            found = m.score_cross_entropy(predict_noise, sde, z, t, weight, noise)
            total = total + first * second * found.numpy().mean()
    return total


# ── theorem 1 ────────────────────────────────────────────────────────────────────────────────────


def check_one_latent(m):
    """.5 ln 2π + .5 (m² + s² + σ_0²) = 1.84444 for m = 1.3, s = .4, σ_0² = .001."""
    sde = m.LatentVP(sigma_0=SIGMA_0)
    exact = 0.5 * math.log(2 * math.pi) + 0.5 * (1.3**2 + 0.4**2 + 0.001)
    assert exact == pytest.approx(1.84444, abs=5e-6)
    found = cross_entropy(standard_normal_score(sde), sde, np.array([1.3]), np.array([0.4]), m)
    assert found == pytest.approx(exact, abs=2e-6)


def test_theorem_1_gives_the_cross_entropy_with_a_standard_normal():
    check_one_latent(module)


def test_without_the_last_kl_the_cross_entropy_is_too_small_by_its_value():
    """The paper drops KL(q(z_1|z_0) || p(z_1)): 1.84440 instead of 1.84444."""
    right = "+ (entropy + last_kl)"
    m = mutant(module, right, "+ (entropy + 0 * last_kl)")
    sde = m.LatentVP(sigma_0=SIGMA_0)
    found = cross_entropy(standard_normal_score(sde), sde, np.array([1.3]), np.array([0.4]), m)
    assert found == pytest.approx(1.84440, abs=5e-6)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("0.5 * weight * error", "weight * error"),
        ("2 * pi * e * sigma_0**2", "2 * pi * sigma_0**2"),
        ("+ (self.sigma_0 * a) ** 2", "+ (0.5 * self.sigma_0 * a) ** 2"),
        ("log(last / first) / (1 - variance)", "log(last / first) / (1 - 0 * variance)"),
        ("(self.beta_min**2 + 2 * rise * integral)", "(self.beta_min**2 + rise * integral)"),
    ],
)
def test_a_mistake_in_theorem_1_is_seen(right, wrong):
    with pytest.raises(AssertionError):
        check_one_latent(mutant(module, right, wrong))


def test_theorem_1_adds_up_over_latents_for_any_gaussian_prior():
    """CE(N(m, s² + σ_0²) || N(μ, v²)) = ½ ln 2πv² + ((m - μ)² + s² + σ_0²) / 2v² per latent."""
    sde = LatentVP(sigma_0=0.05)
    mean, std = np.array([0.3, -1.0, 2.0]), np.array([0.2, 1.0, 0.5])
    prior_mean, prior_std = np.array([0.0, 0.5, 1.0]), np.array([0.4, 1.5, 1.0])
    exact = 0.5 * np.log(2 * np.pi * prior_std**2)
    exact += ((mean - prior_mean) ** 2 + std**2 + 0.05**2) / (2 * prior_std**2)
    found = cross_entropy(gaussian_prior(sde, prior_mean, prior_std), sde, mean, std)
    # at t = 1 the exact prior is not N(0, σ² I) yet, by a_1² = 4e-5
    assert found == pytest.approx(exact.sum(), abs=3e-4)


def test_a_wrong_score_costs_more_than_the_right_one():
    """q is the prior itself, so by Gibbs' inequality its own score gives the smallest value: its
    entropy."""
    sde = LatentVP(sigma_0=0.05)
    mean, std = np.array([0.5]), np.array([0.6])
    own = gaussian_prior(sde, mean, np.sqrt(std**2 + 0.05**2))
    entropy = 0.5 * math.log(2 * math.pi * math.e * (0.6**2 + 0.05**2))
    assert cross_entropy(own, sde, mean, std) == pytest.approx(entropy, abs=1e-4)
    shifted = gaussian_prior(sde, mean + 0.1, np.sqrt(std**2 + 0.05**2))
    assert cross_entropy(shifted, sde, mean, std) == pytest.approx(
        entropy + 0.1**2 / (2 * (0.6**2 + 0.05**2)), abs=1e-4
    )


@pytest.mark.statistical
def test_random_times_give_the_same_cross_entropy(device):
    sde = LatentVP(sigma_0=0.1)
    z = Tensor(1.3 + 0.4 * RNG.normal(size=(40_000, 1)), device=device)
    t, weight = sde.weighted_times(z)
    values = score_cross_entropy(standard_normal_score(sde), sde, z, t, weight).numpy()
    exact = 0.5 * math.log(2 * math.pi) + 0.5 * (1.3**2 + 0.4**2 + 0.1**2)
    assert values.mean() == pytest.approx(exact, abs=5 * values.std() / 200)


# ── the process and its times ────────────────────────────────────────────────────────────────────


def test_signal_and_noise_solve_the_moment_equations_from_noise_sigma_0():
    """a' = f a and (σ²)' = 2 f σ² + g², from a = 1 and σ = σ_0."""
    sde, h = LatentVP(0.2, 9.0, 0.3), 1e-5
    assert sde.marginal(0.0) == (1.0, 0.3)
    for t in (0.1, 0.5, 0.9):
        (a0, s0), (a, s), (a1, s1) = (sde.marginal(u) for u in (t - h, t, t + h))
        assert (a1 - a0) / (2 * h) == pytest.approx(sde.rate(t) * a, rel=1e-7)
        assert (s1**2 - s0**2) / (2 * h) == pytest.approx(
            2 * sde.rate(t) * s * s + sde.diffusion(t) ** 2, rel=1e-7
        )


@pytest.mark.parametrize("betas", [(0.1, 20.0), (0.0, 8.0), (3.0, 3.0)])
def test_time_of_inverts_the_variance(betas):
    sde, t = LatentVP(*betas, 0.05), np.linspace(0, 1, 21)
    np.testing.assert_allclose(sde.time_of(sde.noise(t) ** 2), t, atol=2e-6)


@pytest.mark.parametrize("weighting", ["ll", "un", "re"])
def test_weighted_times_integrate_the_weight_of_the_loss(weighting):
    """The mean of w / r times f(t) is the integral of w f, here for f = (1 - σ²)²."""
    sde = LatentVP(sigma_0=0.05)
    t, weight = times_on_a_grid(sde, weighting)
    fine = (np.arange(200_000) + 0.5) / 200_000
    variance, beta = sde.noise(fine) ** 2, sde.beta(fine)
    w = {"ll": beta / variance, "un": 1.0, "re": beta}[weighting]
    assert (weight * (1 - sde.noise(t) ** 2) ** 2).mean() == pytest.approx(
        (w * (1 - variance) ** 2).mean(), rel=1e-5
    )


# ── the mixed score ──────────────────────────────────────────────────────────────────────────────


def mixed(alpha_logit, latent=2, dtype="float64", sde=None, hidden=6):
    tinycv.manual_seed(SEED)
    network = ScoreMLP(latent, hidden=hidden, depth=2, time_features=4)
    return MixedScore(network, latent, sde, alpha_logit).to(dtype)


def test_with_alpha_0_the_prior_has_the_score_of_the_standard_normal():
    prior, z, t = mixed(-1e4), Tensor(RNG.normal(size=(5, 2))), np.linspace(0.01, 1, 5)
    sigma = prior.sde.noise(t)[:, None]
    np.testing.assert_array_equal(prior(z, Tensor(t)).numpy(), sigma * z.numpy())


def test_the_mixed_score_weighs_the_normal_and_the_network_by_alpha():
    prior, z, t = mixed(0.7), RNG.normal(size=(5, 2)), RNG.random(5)
    alpha, sigma = 1 / (1 + math.exp(-0.7)), prior.sde.noise(t)[:, None]
    expected = sigma * (1 - alpha) * z + alpha * prior.network(z, t).numpy()
    np.testing.assert_allclose(prior(Tensor(z), Tensor(t)).numpy(), expected)


def test_without_a_mixing_logit_the_network_alone_predicts():
    prior, z, t = mixed(None), Tensor(RNG.normal(size=(5, 2))), Tensor(RNG.random(5))
    np.testing.assert_array_equal(prior(z, t).numpy(), prior.network(z, t).numpy())
    assert "mixing_logit" not in prior.state_dict()


def test_velocity_noise_of_a_network_that_answers_0_is_the_score_of_the_standard_normal():
    sde, z, t = LatentVP(), RNG.normal(size=(5, 2)), np.linspace(0.1, 1, 5)
    found = VelocityNoise(Exact(), sde)(Tensor(z), Tensor(t)).numpy()
    np.testing.assert_allclose(found, sde.noise(t)[:, None] * z)


def test_the_gradient_reaches_alpha_and_the_network():
    prior = mixed(-1.0)
    prior.loss(Tensor(RNG.normal(size=(8, 2))), "re").backward()
    assert all(np.abs(p.grad.numpy()).max() > 0 for p in prior.parameters())


# ── LSGM ─────────────────────────────────────────────────────────────────────────────────────────


def small_lsgm(alpha_logit=-3.0, dtype="float64", decoder="bernoulli"):
    tinycv.manual_seed(SEED)
    vae = VAE(6, 2, hidden=(5,), decoder=decoder)
    network = ScoreMLP(2, hidden=8, depth=1, time_features=4)
    return LSGM(vae, network, LatentVP(sigma_0=0.05), alpha_logit).to(dtype)


IMAGES = np.random.default_rng(1).random((8, 6))


def test_with_alpha_0_cross_entropy_minus_entropy_is_the_kl_of_the_vae():
    """CE - H = KL(N(μ, s² + σ_0²) || N(0, I)), the closed form of an ordinary VAE."""
    model = small_lsgm(-1e4)
    mean, log_var = model.vae.encode(Tensor(IMAGES[:1]))
    mean, std = mean.numpy()[0], np.exp(0.5 * log_var.numpy()[0])
    sde = model.prior.sde
    _, entropy = model.encode(Tensor(IMAGES[:1]))
    found = cross_entropy(model.prior, sde, mean, std) - entropy.item()
    variance = std**2 + 0.05**2
    kl = 0.5 * (mean**2 + variance - np.log(variance) - 1).sum()
    assert found == pytest.approx(kl, abs=1e-5)


def test_the_gradient_of_the_bound_for_the_encoder_meets_finite_differences():
    """With the seed of codes, times and noise fixed, the loss is a function of the weights."""
    model = small_lsgm(-0.5)

    def loss():
        tinycv.manual_seed(SEED + 5)
        return model.loss(Tensor(IMAGES), beta=0.7)

    weights = list(model.vae.encoder.parameters())
    model.zero_grad()
    loss().backward()
    directions = [RNG.normal(size=p.shape) for p in weights]
    slope = sum((p.grad.numpy() * d).sum() for p, d in zip(weights, directions, strict=True))
    values = []
    for h in (1e-5, -2e-5):
        for p, d in zip(weights, directions, strict=True):
            p.data = p.data + h * d
        values.append(loss().item())
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_the_encoder_is_trained_by_the_likelihood_weight_even_if_the_prior_is_not():
    """The reweighted loss of the prior takes detached codes, so that the gradient of the encoder
    is that of the bound."""
    model = small_lsgm(-0.5)
    tinycv.manual_seed(SEED)
    model.loss(Tensor(IMAGES)).backward()
    of_encoder = [p.grad.numpy().copy() for p in model.vae.encoder.parameters()]
    of_prior = [p.grad.numpy().copy() for p in model.prior.parameters()]
    model.prior.zero_grad()
    z, _ = model.encode(Tensor(IMAGES))
    model.prior.loss(z.detach(), "re").backward()
    for before, p in zip(of_encoder, model.vae.encoder.parameters(), strict=True):
        np.testing.assert_array_equal(before, p.grad.numpy())
    assert any(
        np.abs(before - p.grad.numpy()).max() > 1e-3
        for before, p in zip(of_prior, model.prior.parameters(), strict=True)
    )


def test_the_decoder_gets_the_noise_sigma_0_too():
    tinycv.manual_seed(SEED)
    vae = VAE(6, 2, hidden=(), decoder="gaussian", sigma=1.0)
    vae.encoder[0].bias.data = np.array([0, 0, -60, -60], np.float32)  # codes without noise
    vae.encoder[0].weight.data = np.zeros((4, 6), np.float32)
    model = LSGM(vae.to("float64"), ScoreMLP(2, 4, 1).to("float64"), LatentVP(sigma_0=0.5))
    n = 40_000
    likelihood, _, _ = model.terms(np.repeat(IMAGES[:1], n, axis=0))
    without = vae.log_likelihood(IMAGES[:1], np.zeros((1, 2))).item()
    # E |x - W ε|² / 2 exceeds |x|² / 2 by σ_0² |W|² / 2 for codes that are noise alone
    lost = 0.5 * 0.5**2 * (vae.decoder[0].weight.numpy() ** 2).sum()
    found = likelihood.numpy()
    assert abs(found.mean() - (without - lost)) < 5 * found.std() / n**0.5
    assert lost > 20 * found.std() / n**0.5  # so that the noise would be missed


def test_the_bound_is_the_sum_of_its_terms_per_image():
    model = small_lsgm()
    tinycv.manual_seed(SEED)
    likelihood, entropy, cross = model.terms(Tensor(IMAGES))
    tinycv.manual_seed(SEED)
    loss = model.loss(Tensor(IMAGES), beta=0.2).item()
    assert likelihood.shape == entropy.shape == cross.shape == (8,)
    expected = (0.2 * (cross - entropy) - likelihood).numpy().mean()
    assert loss == pytest.approx(expected)


@pytest.mark.statistical
def test_lsgm_draws_codes_of_its_prior(device):
    """With α = 0 the codes are N(0, I), whatever the network says."""
    model = small_lsgm(-1e4, "float32").to(device)
    z = model.sample_latents(4000, 20).numpy()
    assert z.shape == (4000, 2) and z.dtype == np.float32
    assert z.mean() == pytest.approx(0, abs=0.06)
    assert z.std() == pytest.approx(1, abs=0.05)
    assert model.sample(3, 2).shape == (3, 6)


@pytest.mark.statistical
def test_training_the_prior_lowers_the_cross_entropy_to_the_entropy_of_the_codes():
    """The codes are two points, ±1.5. The best prior has the cross entropy ln 2 + that of the
    noise, 0.91 nats; N(0, 1), where training starts, has 2.09."""
    prior = mixed(-1.0, 1, "float32", LatentVP(sigma_0=0.3), hidden=32)
    optimizer, data = Adam(prior.parameters(), lr=1e-2), np.random.default_rng(SEED)

    def codes(n):
        return Tensor(data.choice([-1.5, 1.5], size=(n, 1)).astype(np.float32))

    def estimate():
        z = codes(20_000)
        t, weight = prior.sde.weighted_times(z)
        with tinycv.no_grad():
            return score_cross_entropy(prior, prior.sde, z, t, weight).numpy().mean()

    for _ in range(400):
        optimizer.zero_grad()
        prior.loss(codes(256)).backward()
        optimizer.step()
    entropy = math.log(2) + 0.5 * math.log(2 * math.pi * math.e * 0.3**2)
    normal = 0.5 * math.log(2 * math.pi) + 0.5 * (1.5**2 + 0.3**2)
    assert entropy - 0.15 < estimate() < entropy + 0.75 * (normal - entropy)


# ── two stages ───────────────────────────────────────────────────────────────────────────────────


class Exact(nn.Module):
    """F of the best denoiser if the codes are N(0, I): with sigma_data = 1 the skip term is it."""

    def forward(self, y, c_noise):
        return 0 * y


def two_stage(dtype="float64", network=None):
    tinycv.manual_seed(SEED)
    model = LatentDiffusion(VAE(6, 2, hidden=(5,)), network or Exact()).to(dtype)
    model.standardise(IMAGES.astype(dtype))
    return model


def test_standardised_codes_have_mean_0_and_variance_1():
    model = two_stage()
    y, _ = model.encode(np.tile(IMAGES, (2000, 1)))
    np.testing.assert_allclose(y.numpy().mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(y.numpy().std(axis=0), 1, atol=0.05)


@pytest.mark.statistical
def test_two_stages_refuse_codes_that_nobody_has_standardised():
    model = LatentDiffusion(VAE(6, 2, (5,)), ScoreMLP(2, 8, 1))
    for call in (
        lambda: model.loss(IMAGES.astype("float32")),
        lambda: model.sample(2, 2),
        lambda: joined(model),
    ):
        with pytest.raises(ValueError, match="call standardise"):
            call()


def test_one_image_has_no_standard_deviation():
    model = LatentDiffusion(VAE(6, 2, (5,)), ScoreMLP(2, 8, 1))
    with pytest.raises(ValueError, match="standardise: images holds 1; a standard deviation"):
        model.standardise(IMAGES[:1].astype("float32"))


def test_the_cross_entropy_of_two_stages_is_that_of_its_gaussian_prior():
    """With the denoiser of N(0, I), CE - H is KL(q(y|x) || N(0, 1 + σ_min²)) summed over latents,
    averaged over images."""
    model, copies = two_stage(), 2500
    _, entropy, cross = bound_of(model, np.tile(IMAGES, (copies, 1)))
    with tinycv.no_grad():
        mean, log_var = model.vae.encode(IMAGES)
    first = model.schedule.sigma_min
    shifted = (mean - model.mean).numpy() / model.std.numpy()
    variance = np.exp(log_var.numpy()) / model.std.numpy() ** 2 + first**2
    exact = 0.5 * (np.log(2 * np.pi * (1 + first**2)) + (shifted**2 + variance) / (1 + first**2))
    standard_error = cross.std() / len(cross) ** 0.5
    assert cross.mean() == pytest.approx(exact.sum(axis=1).mean(), abs=5 * standard_error)
    assert standard_error < 0.2
    of_one = 0.5 * np.log(2 * np.pi * np.e * variance).sum(axis=1)
    np.testing.assert_allclose(entropy, np.tile(of_one, copies))


@pytest.mark.statistical
def test_two_stages_draw_codes_with_the_mean_and_spread_of_the_images_codes(device):
    model = two_stage("float32").to(device)
    z = model.sample_latents(4000, 18).numpy()
    np.testing.assert_allclose(z.mean(axis=0), model.mean.numpy(), atol=0.1)
    np.testing.assert_allclose(z.std(axis=0), model.std.numpy(), rtol=0.1)
    assert model.sample(3, 2).shape == (3, 6)


def test_the_loss_of_two_stages_passes_no_gradient_to_the_vae():
    model = two_stage(network=ScoreMLP(2, hidden=8, depth=1, time_features=4))
    model.loss(Tensor(IMAGES)).backward()
    assert all(p.grad is None for p in model.vae.parameters())
    assert all(p.grad is not None for p in model.network.parameters())


# ── from two stages to LSGM ──────────────────────────────────────────────────────────────────────


def test_joined_keeps_the_images_and_standardises_the_codes():
    model = two_stage(network=ScoreMLP(2, hidden=8, depth=1, time_features=4).to("float64"))
    model.mean, model.std = Tensor(np.array([0.3, -0.2])), Tensor(np.array([0.5, 2.0]))
    lsgm = joined(model)
    mean, log_var = model.vae.encode(Tensor(IMAGES))
    new_mean, new_log_var = lsgm.vae.encode(Tensor(IMAGES))
    y = (mean - model.mean) / model.std
    np.testing.assert_allclose(new_mean.numpy(), y.numpy())
    expected = log_var.numpy() - 2 * np.log(model.std.numpy())
    np.testing.assert_allclose(new_log_var.numpy(), expected)
    np.testing.assert_allclose(lsgm.vae.decode(y).numpy(), model.vae.decode(mean).numpy())


def test_joined_has_the_score_of_the_edm_in_the_units_of_vp():
    """z_t / a is a code with the noise level σ / a, so ε̂ of VP is (x - D(x, σ/a)) / (σ/a)."""
    model = two_stage(network=ScoreMLP(2, hidden=8, depth=1, time_features=4).to("float64"))
    prior, z, t = joined(model, 50.0).prior, RNG.normal(size=(5, 2)), np.linspace(0.1, 0.9, 5)
    a, sigma = (level[:, None] for level in prior.sde.marginal(t))
    x, level = z / a, (sigma / a)[:, 0]
    expected = (x - model.denoiser()(Tensor(x), Tensor(level)).numpy()) / level[:, None]
    np.testing.assert_allclose(prior(Tensor(z), Tensor(t)).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_training_the_joined_model_leaves_the_two_stages_alone():
    model = two_stage(network=ScoreMLP(2, hidden=8, depth=1, time_features=4).to("float64"))
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    lsgm = joined(model)
    lsgm.loss(Tensor(IMAGES)).backward()
    for p in lsgm.parameters():
        p.data = p.data - 0.1 * p.grad.data
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


# ── saving, and wrong arguments ──────────────────────────────────────────────────────────────────


def test_a_saved_model_gives_the_same_bound():
    def terms(model):
        tinycv.manual_seed(SEED)
        return [term.numpy() for term in model.terms(Tensor(IMAGES))]

    for make in (small_lsgm, lambda: two_stage(network=ScoreMLP(2, 8, 1, 4))):
        model, other = make(), make()
        for p in model.parameters():
            p.data = p.data + 0.1
        other.load_state_dict(model.state_dict())
        for one, two in zip(terms(model), terms(other), strict=True):
            np.testing.assert_array_equal(one, two)


def test_lsgm_resumes_bit_for_bit(tmp_path):
    from tinycv.data import DataLoader
    from tinycv.training import fit

    data = IMAGES.astype(np.float32)

    def run(epochs, **options):
        model = small_lsgm(-1.0, "float32")
        optimizer = Adam(model.parameters(), lr=1e-2)
        loader = DataLoader(data, batch_size=4, seed=0)
        fit(model, optimizer, lambda m, x: m.loss(x), loader, epochs, progress=False, **options)
        return model.state_dict()

    whole = run(4)
    run(2, checkpoint=tmp_path / "c.safetensors")
    resumed = run(4, checkpoint=tmp_path / "c.safetensors")
    for name, value in whole.items():
        np.testing.assert_array_equal(value.numpy(), resumed[name].numpy())


def test_a_network_made_for_another_sde_is_refused():
    network = VelocityNoise(ScoreMLP(2, 8, 1), LatentVP(sigma_0=0.1))
    with pytest.raises(ValueError, match="LSGM: sde differs"):
        LSGM(VAE(6, 2, (5,)), network, LatentVP(sigma_0=0.01))


def test_a_schedule_without_first_noise_is_refused():
    z = Tensor(RNG.normal(size=(3, 2)))
    with pytest.raises(ValueError, match="the cross entropy is infinite; give a later time"):
        score_cross_entropy(lambda z, t: z, VP(), z, 0.5, 1.0)
    assert score_cross_entropy(lambda z, t: z, VP(), z, 0.5, 1.0, first=0.01).shape == (3,)


@pytest.mark.parametrize("make", [LSGM, LatentDiffusion])
def test_a_vae_with_classes_is_refused(make):
    with pytest.raises(ValueError, match="takes a VAE without classes"):
        make(VAE(6, 2, hidden=(5,), classes=3), ScoreMLP(2))


def test_codes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="this prior takes codes"):
        mixed(-1.0)(np.zeros((3, 4)), np.full(3, 0.5))
