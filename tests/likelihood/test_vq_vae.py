"""Discrete VAE and VQ-VAE: images become codes and codes images, the KL is exact, both learn."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, no_grad
from tinycv.likelihood.vq_vae import (
    VQVAE,
    DiscreteVAE,
    PatchDecoder,
    PatchEncoder,
    codes_in_use,
    falling_tau,
    kl_from_uniform,
)
from tinycv.nn.distributions import kl_categorical
from tinycv.optim import Adam

RNG = np.random.default_rng(0)
MODELS = {"dVAE": DiscreteVAE, "VQ-VAE": VQVAE}
SMALL = {"shape": (2, 4, 6), "codes": 5, "patch_size": 2, "features": 4}
LEVELS = np.array([-1.0, 0.0, 1.0], np.float32)


def small(name, **options):
    return MODELS[name](**{**SMALL, **options})


def patches(count, seed=0):
    """Images (count, 1, 4, 4) whose four patches each have one of three gray values."""
    grays = LEVELS[np.random.default_rng(seed).integers(0, 3, (count, 1, 2, 2))]
    return grays.repeat(2, axis=2).repeat(2, axis=3)


def learned(name, steps=300):
    tinycv.manual_seed(1)
    model = MODELS[name]((1, 4, 4), 6, 2, 8, 0, 0.2)
    optimizer = Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        images = patches(32, step)
        optimizer.zero_grad()
        if name == "dVAE":
            loss = model.loss(images, falling_tau(step, steps), beta=0.1)
        else:
            loss = model.loss(images)
        loss.backward()
        optimizer.step()
        if name == "VQ-VAE":
            model.revive(images)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_an_image_becomes_one_code_per_patch_and_back(name):
    model = small(name)
    codes = model.codes_of(RNG.normal(size=(3, 2, 4, 6)).astype("f4"))
    assert codes.shape == (3, model.tokens) == (3, 6) and codes.dtype == np.int64
    assert codes.min() >= 0 and codes.max() < 5
    assert model.images_of(codes).shape == (3, 2, 4, 6)


@pytest.mark.parametrize("name", MODELS)
def test_codes_are_numbered_row_by_row(name):
    """Without 3 x 3 convolutions, a code depends on its own patch, and changes no other patch."""
    model = small(name, blocks=0)
    codes = np.zeros((1, 6), np.int64)
    changed = codes.copy()
    changed[0, 4] = 3  # row 1, column 1 of 2 x 3
    with no_grad():
        difference = (model.images_of(changed) - model.images_of(codes)).numpy()[0]
    moved = abs(difference).max(axis=0) > 0
    expected = np.zeros((4, 6), bool)
    expected[2:, 2:4] = True
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("name", MODELS)
def test_the_codebook_shows_the_patch_that_a_code_draws(name):
    model = small(name, blocks=0)
    looks = model.codebook()
    assert looks.shape == (5, 2, 2, 2)
    with no_grad():
        drawn = model.images_of(np.array([[0, 1, 2, 3, 4, 0]])).numpy()[0]
    np.testing.assert_allclose(looks[4], drawn[:, 2:, 2:4], rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_sees_the_surroundings_of_a_patch_with_blocks_and_only_then(name):
    x = Tensor(RNG.normal(size=(1, 2, 4, 6)), requires_grad=True)
    for blocks, sees in ((0, False), (1, True)):
        model = small(name, blocks=blocks).to("float64")
        (gradient,) = tinycv.grad((model.encoder(x)[:, :, 0, 0] ** 2).sum(), x)
        outside = gradient.numpy()[0, :, :2, 2:4]
        assert (abs(outside).max() > 0) == sees


@pytest.mark.parametrize("name", MODELS)
def test_training_learns_to_copy_images(name):
    """Six codes are enough for three gray values."""
    model, images = learned(name), patches(64, 999)
    error = ((model.eval()(images).numpy() - images) ** 2).mean()
    assert error < 0.03 * images.var()


@pytest.mark.parametrize("name", MODELS)
def test_starting_at_patches_brings_most_codes_into_use(name):
    tinycv.manual_seed(0)
    images = RNG.normal(size=(100, 2, 4, 6)).astype("f4")
    model = small(name, codes=40, features=12)
    before = codes_in_use(model.codes_of(images), 40)[0]
    model.start_at_patches(images)
    after = codes_in_use(model.codes_of(images), 40)[0]
    assert after >= 30 and after > before


@pytest.mark.parametrize("name", MODELS)
def test_a_patch_at_which_a_code_starts_has_that_code(name):
    """As many codes as different patches: each patch then has a code of its own."""
    images = RNG.normal(size=(2, 2, 4, 6))
    model = small(name, codes=12, features=8).to("float64")
    model.start_at_patches(images)
    assert codes_in_use(model.codes_of(images), 12)[0] == 12


def test_all_gray_values_have_codes_of_their_own_after_training():
    model, images = learned("dVAE"), patches(64, 999)
    codes = model.codes_of(images).reshape(-1)
    grays = images[:, 0, ::2, ::2].reshape(-1)
    found = [set(codes[grays == gray].tolist()) for gray in LEVELS]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])


def test_the_kl_from_uniform_is_that_of_two_categorical_distributions():
    logits = RNG.normal(size=(3, 5))
    np.testing.assert_allclose(
        kl_from_uniform(Tensor(logits)).numpy(),
        kl_categorical(Tensor(logits), Tensor(np.zeros((3, 5)))).numpy(),
        rtol=1e-12,
    )


@pytest.mark.parametrize(("scale", "nats"), [(0.0, 0.0), (1e4, log(5))])
def test_the_kl_runs_from_0_for_uniform_to_log_k_for_certain_codes(scale, nats):
    logits = scale * np.eye(5)[:2]
    np.testing.assert_allclose(kl_from_uniform(Tensor(logits)).numpy(), nats, atol=1e-12)


def test_the_loss_of_a_discrete_vae_is_error_plus_beta_times_kl():
    model = small("dVAE").to("float64")
    x = RNG.normal(size=(3, 2, 4, 6))
    losses = []
    for beta in (0.0, 1.0, 3.0):
        tinycv.manual_seed(4)
        losses.append(float(model.loss(x, 0.5, beta).numpy()))
    kl = kl_from_uniform(model.logits(x), axis=1).numpy().sum() / 3
    np.testing.assert_allclose(np.diff(losses), [kl, 2 * kl], rtol=1e-9)


def test_the_error_is_the_log_density_of_the_pixels_up_to_its_constant():
    model = small("dVAE", sigma=0.5).to("float64")
    x, drawn = RNG.normal(size=(2, 3, 2, 4, 6))
    expected = ((x - drawn) ** 2).sum() / (2 * 0.25) / 3
    np.testing.assert_allclose(model.error(Tensor(x), Tensor(drawn)).numpy(), expected)


def test_hard_codes_are_decoded_in_training_as_they_are_afterwards():
    """With logits that leave no doubt, the loss is the error of the image drawn from its codes."""
    model = small("dVAE").to("float64")
    model.to_logits.weight.data = 1e6 * model.to_logits.weight.numpy()
    x = RNG.normal(size=(3, 2, 4, 6))
    with no_grad():
        expected = model.error(Tensor(x), model(x)).numpy()
        np.testing.assert_allclose(model.loss(x, 1.0, 0.0, hard=True).numpy(), expected)


def test_tau_falls_from_1_to_its_last_value_and_stays_there():
    taus = [falling_tau(step, 100) for step in range(121)]
    assert taus[0] == 1 and taus[100] == taus[120] == 1 / 16
    assert all(later < earlier for earlier, later in zip(taus[:100], taus[1:101], strict=True))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([3, 3, 3], (1, 1.0)), ([0, 1, 2, 3], (4, 4.0)), ([[0, 0], [0, 1]], (2, 1.7548))],
)
def test_codes_in_use_are_counted_and_weighed(codes, expected):
    count, perplexity = codes_in_use(np.array(codes), 6)
    assert count == expected[0]
    np.testing.assert_allclose(perplexity, expected[1], rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_saved_weights_give_the_same_codes(name):
    model, other = small(name), small(name)
    other.load_state_dict(model.state_dict())
    x = RNG.normal(size=(3, 2, 4, 6))
    np.testing.assert_array_equal(model.codes_of(x), other.codes_of(x))


@pytest.mark.parametrize("name", MODELS)
def test_the_models_run_on_each_device(name, device):
    model = small(name).to(device)
    x = tinycv.randn(3, 2, 4, 6, device=device)
    model.loss(x).backward()
    assert all(p.grad is None or p.grad.device == x.device for p in model.parameters())
    assert model.images_of(model.codes_of(x)).device == x.device


def test_on_a_gpu_an_image_that_is_not_finite_has_no_code(double):
    for name in MODELS:
        model = small(name).to("gpu")
        x = tinycv.randn(2, 2, 4, 6).numpy()
        x[1, 0, 0, 0] = np.nan
        codes = model.codes_of(Tensor(x, device="gpu"))
        assert (codes.get()[0] >= 0).all() and (codes.get()[1] == -1).all()
        drawn = model.images_of(codes).numpy()
        assert np.isfinite(drawn[0]).all() and np.isnan(drawn[1]).any()


X = np.zeros((2, 2, 4, 6), np.float32)
NAN = np.full((2, 2, 4, 6), np.nan, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small("dVAE", patch_size=4), "DiscreteVAE: patch_size is 4; it must divide the"),
        (lambda: small("VQ-VAE", shape=(4, 4)), "VQVAE: shape has 2 numbers; it must have 3"),
        (lambda: small("dVAE", shape=16), r"DiscreteVAE: shape is 16; it must be \(C, H, W\)"),
        (lambda: small("dVAE").codes_of(X[:, :1]), r"images has shape .* \(B, 2, 4, 6\)"),
        (lambda: small("dVAE").loss(NAN), "loss: images holds NaN or infinity"),
        (lambda: small("VQ-VAE").loss(X.astype(int)), "it must be a Tensor or a plain array of f"),
        (lambda: small("dVAE").loss(X, 0), "DiscreteVAE.loss: tau is 0; it must be"),
        (lambda: small("dVAE").images_of(np.full((1, 6), 5)), "codes holds 5; .* from 0 to 4"),
        (lambda: small("VQ-VAE").images_of(np.full((1, 6), -1)), "codes holds -1; .* from 0 to 4"),
        (lambda: small("VQ-VAE").images_of(np.zeros((1, 5), int)), r"shape \(1, 5\); .* \(B, 6\)"),
        (
            lambda: small("dVAE", blocks=0).start_at_patches(X),
            "have 1 different patches; .* at least 5",
        ),
        (lambda: codes_in_use([5], 5), "codes run from 5 to 5; 5 codes"),
        (lambda: falling_tau(-1, 5), "falling_tau: step is -1"),
        (lambda: PatchEncoder(0, 2, 4), "PatchEncoder: channels is 0"),
        (lambda: PatchDecoder(1, 2, 4, -1), "PatchDecoder: blocks is -1"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call()


@pytest.mark.parametrize("name", MODELS)
def test_no_graph_leads_through_the_choice_of_codes(name):
    images = np.random.default_rng(3).normal(size=(2, 2, 4, 6)).astype(np.float32)
    assert not small(name)(images).requires_grad
