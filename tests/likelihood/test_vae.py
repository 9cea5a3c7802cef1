"""A VAE: its bounds are sums in nats, a linear one is probabilistic PCA, and posterior collapse
happens where the theory says."""

from __future__ import annotations

from math import log, pi

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.likelihood.vae import (
    SIGMA_FLOOR,
    VAE,
    active_units,
    bounds_of,
    codes_of,
    elbo,
    elbo_terms,
    iwae_bound,
    linear_elbo,
    log_weights,
    start_at_mean,
    vae_loss,
)
from tinycv.nn import Module
from tinycv.nn.distributions import normal_log_prob
from tinycv.optim import LBFGS
from tinycv.training import parallel

IMAGES = (np.random.default_rng(0).random((6, 1, 3, 4)) < 0.5).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def small_vae(**options) -> VAE:
    return VAE(12, 3, **{"hidden": (5,), **options})


def gaussian_data(n: int = 400, dims: int = 6) -> np.ndarray:
    """Points whose covariance has eigenvalues 4, 2, 1, 0.2, 0.1, 0.1 along random axes, float64."""
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    scales = np.sqrt([4, 2, 1, 0.2, 0.1, 0.1])[:dims]
    return rng.normal(size=(n, dims)) * scales @ axes.T + rng.normal(size=dims)


def pca_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, and eigenvectors in columns, of the covariance (by 1/N) of x."""
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return values[::-1], vectors[:, ::-1]


def log_normal_of(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """log N(x; mean, covariance) of the rows of x."""
    away = x - mean
    squares = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    return -0.5 * (squares + np.linalg.slogdet(2 * pi * covariance)[1])


def linear_vae_at_optimum(x: np.ndarray, q: int) -> tuple[VAE, np.ndarray]:
    """A linear VAE whose weights are those of probabilistic PCA, and log p(x) of the rows of x.

    With W = U (Λ - σ²)^½, the posterior of z is N(M⁻¹ Wᵀ (x - b), σ² M⁻¹), and M = Wᵀ W + σ² = Λ.
    """
    values, vectors = pca_of(x)
    noise = values[q:].mean()
    w = vectors[:, :q] * np.sqrt(values[:q] - noise)
    vae = VAE(x.shape[1], q, hidden=(), decoder="gaussian").to("float64")
    pull = (w / values[:q]).T  # (q, D): from x - b to the mean of z
    assert vae.log_variance is not None
    vae.load_state_dict(
        {
            "encoder.0.weight": np.concatenate([pull, np.zeros_like(pull)]),
            "encoder.0.bias": np.concatenate([-pull @ x.mean(axis=0), np.log(noise / values[:q])]),
            "decoder.0.weight": w,
            "decoder.0.bias": x.mean(axis=0),
            "log_variance": np.log([noise - SIGMA_FLOOR**2]),
        }
    )
    covariance = w @ w.T + noise * np.eye(x.shape[1])
    return vae, log_normal_of(x, x.mean(axis=0), covariance)


def fit_exactly(vae: VAE, x: np.ndarray) -> None:
    """Maximise the exact ELBO of a linear VAE on all of x."""
    optimizer = LBFGS(vae.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -linear_elbo(vae, x).mean()
        value.backward()
        return value

    optimizer.step(loss)


# ── the sums ─────────────────────────────────────────────────────────────────────────────────────


def test_the_log_likelihood_is_summed_over_the_pixels():
    vae = small_vae()
    z = tinycv.randn(6, 3)
    p = vae.pixels(z).numpy().astype(np.float64)
    x = IMAGES.reshape(6, 12)
    expected = np.log(np.where(x == 1, p, 1 - p)).sum(axis=1)
    np.testing.assert_allclose(vae.log_likelihood(IMAGES, z).numpy(), expected, rtol=1e-5)


def test_the_kl_is_summed_over_the_latents():
    vae = small_vae()
    _, kl = elbo_terms(vae, IMAGES)
    mean, log_var = (t.numpy().astype(np.float64) for t in vae.encode(IMAGES))
    expected = 0.5 * (mean**2 + np.exp(log_var) - log_var - 1).sum(axis=1)
    np.testing.assert_allclose(kl.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_images_that_appear_twice_double_the_pixels_and_the_log_likelihood():
    once, twice = small_vae(), VAE(24, 3, hidden=(5,))
    weights = once.state_dict()
    for name in ("decoder.2.weight", "decoder.2.bias"):
        weights[name] = tinycv.concatenate([weights[name]] * 2, axis=0)
    weights["encoder.0.weight"] = twice.state_dict()["encoder.0.weight"]
    twice.load_state_dict(weights)
    z, x = tinycv.randn(6, 3), IMAGES.reshape(6, 12)
    both = twice.log_likelihood(np.concatenate([x, x], axis=1), z).numpy()
    np.testing.assert_allclose(both, 2 * once.log_likelihood(x, z).numpy(), rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_kl_in_the_loss(beta):
    vae = small_vae()
    tinycv.manual_seed(1)
    loss = vae_loss(vae, IMAGES, beta=beta).item()
    tinycv.manual_seed(1)
    log_likelihood, kl = elbo_terms(vae, IMAGES)
    assert loss == pytest.approx((beta * kl - log_likelihood).mean().item(), rel=1e-5)


def test_free_bits_replace_the_kl_of_latents_below_them():
    vae = small_vae()
    tinycv.manual_seed(1)
    plain = vae_loss(vae, IMAGES, beta=0.0).item()
    tinycv.manual_seed(1)
    loss = vae_loss(vae, IMAGES, free_bits=50.0).item()
    assert loss == pytest.approx(plain + 3 * 50.0, rel=1e-5)


def test_free_bits_take_the_gradient_of_the_kl_away_below_them():
    vae = VAE(12, 3, hidden=())
    vae.decoder[0].weight.data = np.zeros((12, 3), np.float32)  # z has no influence on the image
    vae_loss(vae, IMAGES, free_bits=50.0).backward()
    weight = vae.encoder[0].weight
    assert weight.grad is not None and (weight.grad.numpy() == 0).all()


def test_free_bits_count_the_kl_of_the_whole_batch_if_threads_compute_shards_of_it():
    vae = VAE(12, 1, hidden=(), sigma=1.0, decoder="gaussian")
    vae.decoder[0].weight.data = np.zeros((12, 1), np.float32)  # z has no influence on the image
    vae.encoder[0].weight.data = np.full((2, 12), [[0.1], [0.0]], np.float32)
    vae.encoder[0].bias.data = np.zeros(2, np.float32)
    # The KL is 0.72 in the first half and 0 in the second, on average 0.36: below the free bits.
    images = np.repeat(np.array([1, 0], np.float32), 3)[:, None] * np.ones((6, 12), np.float32)
    with parallel.threads(2) as group:
        group.backward(lambda x: vae_loss(vae, x, free_bits=0.5), images)
    weight = vae.encoder[0].weight
    assert weight.grad is not None and (weight.grad.numpy() == 0).all()


class Terms(Module):
    """The two terms of the ELBO for fixed noise, as a layer."""

    def __init__(self, vae: VAE):
        self.vae, self.noise = vae, tinycv.randn(6, 3, dtype="float64")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return elbo_terms(self.vae, x, noise=self.noise)


def test_the_derivatives_of_the_elbo_are_those_of_finite_differences():
    certify_layer(Terms(small_vae(decoder="gaussian")), IMAGES.astype(np.float64))


# ── importance weighting ─────────────────────────────────────────────────────────────────────────


def test_the_bound_of_one_sample_is_the_elbo_in_expectation():
    vae = small_vae()
    x = np.repeat(IMAGES[:1], 4000, axis=0)
    with tinycv.no_grad():
        one, with_kl = iwae_bound(vae, x, 1).numpy(), elbo(vae, x).numpy()
    error = np.sqrt(one.var() / 4000 + with_kl.var() / 4000)
    assert abs(one.mean() - with_kl.mean()) < 5 * error


def test_the_bound_is_the_log_of_the_mean_weight():
    vae = small_vae()
    tinycv.manual_seed(2)
    weights = np.exp(log_weights(vae, IMAGES, 7).numpy().astype(np.float64))
    tinycv.manual_seed(2)
    bound = iwae_bound(vae, IMAGES, 7).numpy()
    np.testing.assert_allclose(bound, np.log(weights.mean(axis=0)), rtol=1e-5)


def test_the_bound_grows_with_k_and_stays_below_log_p():
    x = gaussian_data()
    vae, log_p = linear_vae_at_optimum(x, 3)
    vae.encoder[0].bias.data = vae.encoder[0].bias.numpy() + 0.3  # q(z|x) is no longer p(z|x)
    means = [bounds_of(vae, x, k).mean() for k in (1, 5, 50)]
    assert means[0] < means[1] < means[2] < log_p.mean() + 0.01


def test_with_the_exact_posterior_every_weight_is_p_of_x():
    x = gaussian_data()
    vae, log_p = linear_vae_at_optimum(x, 3)
    weights = log_weights(vae, x, 4).numpy()
    np.testing.assert_allclose(weights, np.broadcast_to(log_p, weights.shape), rtol=1e-9)


# ── the linear VAE is probabilistic PCA ──────────────────────────────────────────────────────────


@pytest.mark.parametrize("q", [1, 3, 5])
def test_at_the_weights_of_pca_the_elbo_of_a_linear_vae_is_log_p(q):
    x = gaussian_data()
    vae, log_p = linear_vae_at_optimum(x, q)
    np.testing.assert_allclose(linear_elbo(vae, x).numpy(), log_p, rtol=1e-9)


def test_other_weights_of_a_linear_vae_have_a_lower_elbo_than_pca():
    x = gaussian_data()
    vae, log_p = linear_vae_at_optimum(x, 3)
    weights = {name: value.numpy() for name, value in vae.state_dict().items()}
    rng = np.random.default_rng(5)
    for size in (0.01, 0.1, 1.0) * 10:
        moved = {n: w + size * rng.normal(size=w.shape) for n, w in weights.items()}
        vae.load_state_dict(moved)
        assert linear_elbo(vae, x).numpy().mean() < log_p.mean()


def test_the_exact_elbo_of_a_linear_vae_is_the_mean_of_sampled_ones():
    vae = VAE(6, 2, hidden=(), decoder="gaussian").to("float64")
    x = np.repeat(gaussian_data(1), 5000, axis=0)
    with tinycv.no_grad():
        exact, sampled = linear_elbo(vae, x).numpy()[0], elbo(vae, x).numpy()
    assert abs(sampled.mean() - exact) < 5 * sampled.std() / np.sqrt(5000)


def test_a_trained_linear_vae_finds_the_subspace_of_pca_and_its_likelihood():
    x = gaussian_data()
    _, log_p = linear_vae_at_optimum(x, 3)
    vae = VAE(6, 3, hidden=(), decoder="gaussian").to("float64")
    fit_exactly(vae, x)
    assert log_p.mean() - 0.01 < linear_elbo(vae, x).numpy().mean() <= log_p.mean()
    learned = np.linalg.qr(vae.decoder[0].weight.numpy())[0]
    cosines = np.linalg.svd(learned.T @ pca_of(x)[1][:, :3])[1]
    assert cosines.min() > 0.999


# ── decoders ─────────────────────────────────────────────────────────────────────────────────────


def test_a_variance_of_its_own_has_no_optimum_for_a_constant_pixel():
    """Each halving of σ adds log 2 to the log density of a pixel that never changes."""
    pixel, log_vars = np.zeros(1), 2 * np.log(0.5 ** np.arange(40))
    densities = [normal_log_prob(pixel, pixel, np.full(1, v)).item() for v in log_vars]
    np.testing.assert_allclose(np.diff(densities), log(2), rtol=1e-6)


def test_the_learned_variance_stays_above_its_floor_on_constant_images():
    vae = VAE(12, 2, hidden=(), decoder="gaussian")
    assert vae.log_variance is not None
    vae.log_variance.data = np.full(1, -1e4, np.float32)
    assert float(vae.log_var_of_pixels().numpy()[0]) == pytest.approx(2 * log(SIGMA_FLOOR))


def test_a_fixed_sigma_is_the_width_of_the_gaussian():
    vae = small_vae(decoder="gaussian", sigma=0.5)
    z = tinycv.zeros(6, 3)
    away = IMAGES.reshape(6, 12) - vae.decode(z).numpy()
    expected = -0.5 * (away**2 / 0.25 + log(2 * pi * 0.25)).sum(axis=1)
    np.testing.assert_allclose(vae.log_likelihood(IMAGES, z).numpy(), expected, rtol=1e-5)


def test_samples_of_a_bernoulli_decoder_are_zeros_and_ones_with_its_probabilities():
    vae = VAE(2, 1, hidden=())
    vae.decoder[0].weight.data = np.zeros((2, 1), np.float32)
    vae.decoder[0].bias.data = np.array([0.0, log(3)], np.float32)
    drawn = vae.sample(4000).numpy()
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(axis=0), [0.5, 0.75], atol=0.05)


def test_samples_of_a_linear_gaussian_vae_have_the_covariance_of_pca():
    x = gaussian_data()
    vae, _ = linear_vae_at_optimum(x, 3)
    drawn = vae.sample(20_000).numpy()
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), atol=0.2)


# ── classes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_conditional_vae_depends_on_the_label():
    vae = small_vae(classes=3)
    z = tinycv.zeros(6, 3)
    decoded = vae.decode(z, LABELS).numpy()
    assert (decoded[0] == decoded[3]).all()
    assert (decoded[0] != decoded[1]).any()


@pytest.mark.parametrize("k", [1, 4])
def test_a_conditional_vae_has_the_bounds_of_one_vae_per_class(k):
    vae = small_vae(classes=3)
    bound = bounds_of(vae, np.repeat(IMAGES[:1], 3, axis=0), k, np.array([0, 1, 2]))
    assert bound.shape == (3,)
    assert len(set(bound)) == 3


# ── posterior collapse ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("sigma", "active"), [(0.5, 3), (1.2, 2), (1.7, 1), (2.5, 0)])
def test_a_linear_vae_collapses_to_the_directions_that_vary_more_than_sigma(sigma, active):
    """The eigenvalues are about 4, 2, 1 and 0.2: latents are active where they exceed σ²."""
    x = gaussian_data()
    vae = VAE(6, 3, hidden=(), decoder="gaussian", sigma=sigma).to("float64")
    vae.decoder[0].bias.data = x.mean(axis=0)
    fit_exactly(vae, x)
    assert active_units(vae, x) == active


def test_a_latent_that_ignores_the_image_is_not_active():
    vae = small_vae()
    weight = vae.encoder[2].weight.numpy().copy()
    weight[1] = 0  # the mean of the second latent
    weight[0] *= 100
    weight[2] *= 100
    vae.encoder[2].weight.data = weight
    assert active_units(vae, IMAGES) == 2


@pytest.mark.parametrize(("deviation", "active"), [(0.09, 0), (0.11, 1)])
def test_the_variance_of_a_code_and_not_its_deviation_makes_it_active(deviation, active):
    vae = small_vae(decoder="gaussian", hidden=())
    weight = np.zeros((6, 12), np.float32)
    weight[0, 0] = deviation  # the first mean is the first pixel, times this
    vae.encoder[0].weight.data = weight
    images = np.zeros((2, 12), np.float32)
    images[:, 0] = -1, 1
    assert active_units(vae, images) == active


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────


def test_codes_and_bounds_in_parts_equal_those_of_all_images(monkeypatch):
    vae = small_vae()
    whole = codes_of(vae, IMAGES)
    monkeypatch.setattr("tinycv.likelihood.vae.AT_ONCE", 4)
    np.testing.assert_allclose(codes_of(vae, IMAGES), whole, rtol=1e-6)
    assert bounds_of(vae, IMAGES, 2).shape == (6,)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_a_vae_can_start_at_the_mean_image(device, decoder):
    vae = VAE(2, 1, hidden=(), decoder=decoder).to(device)
    start_at_mean(vae, np.array([[1, 0.5], [1, 1], [1, 0.5], [0, 1]], np.float32))
    mean_image = vae.pixels(tinycv.zeros(1, 1, device=device)).numpy()
    np.testing.assert_allclose(mean_image, [[0.75, 0.75]], rtol=1e-5)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_a_vae_gives_finite_losses_and_gradients_on_every_device(device, decoder):
    vae = small_vae(decoder=decoder, classes=3).to(device)
    x = Tensor(IMAGES, device=device)
    labels = Tensor(LABELS, device=device)
    (vae_loss(vae, x, labels) - iwae_bound(vae, x, 2, labels).mean()).backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in vae.parameters())
    assert vae.sample(6, labels).shape == (6, 12)


def test_a_pixel_above_1_is_refused_by_a_bernoulli_decoder():
    with pytest.raises(ValueError, match=r"VAE.encode: x holds 255.0; every pixel must be from 0"):
        elbo(small_vae(), 255 * IMAGES)


def test_nan_is_refused_by_a_gaussian_decoder():
    with pytest.raises(ValueError, match="x holds nan; every pixel must be finite"):
        elbo(small_vae(decoder="gaussian"), IMAGES * np.float32("nan"))


def test_labels_without_classes_and_classes_without_labels_are_refused():
    with pytest.raises(ValueError, match="no labels: it has no classes"):
        elbo(small_vae(), IMAGES, LABELS)
    with pytest.raises(ValueError, match="labels is None; this VAE takes labels"):
        elbo(small_vae(classes=3), IMAGES)


def test_the_bounds_have_the_dtype_of_the_weights():
    assert vae_loss(small_vae(), IMAGES.astype("float64")).dtype == np.float32


def test_a_label_out_of_range_is_refused():
    with pytest.raises(IndexError, match="holds 3; it must hold whole numbers from 0 to 2"):
        elbo(small_vae(classes=3), IMAGES, LABELS + 1)


def test_noise_of_another_shape_than_the_codes_is_refused():
    with pytest.raises(ValueError, match=r"elbo_terms: noise has shape \(6, 1\); it must be"):
        elbo_terms(small_vae(), IMAGES, noise=Tensor(np.zeros((6, 1), np.float32)))


def test_no_image_has_no_mean_and_one_image_no_variance():
    with pytest.raises(ValueError, match="start_at_mean: images is empty"):
        start_at_mean(small_vae(), IMAGES[:0])
    with pytest.raises(ValueError, match="active_units: images holds one image"):
        active_units(small_vae(), IMAGES[:1])
