"""Spectral norm: the greatest singular value, its gradient, and when it moves."""
from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor, nn
from tinycv.nn.spectral_norm import SpectralNorm, spectral_norm

RNG = np.random.default_rng(0)
LAYERS = {"Linear": lambda: nn.Linear(30, 20), "Conv2d": lambda: nn.Conv2d(6, 8, 3)}


def greatest(layer):
    w = layer.weight.numpy()
    return np.linalg.svd(w.reshape(len(w), -1), compute_uv=False)[0]


@pytest.mark.parametrize("name", LAYERS)
def test_sigma_is_the_greatest_singular_value_within_one_percent_while_the_weight_moves(name, device):
    normed = SpectralNorm(LAYERS[name]()).to(device)
    x = tinycv.zeros(*((2, 30) if name == "Linear" else (2, 6, 5, 5)), device=device)
    for _ in range(60):                                             # a step of training now and then: W drifts
        w = normed.layer.weight
        w.data = w.data + 0.002 * Tensor(RNG.normal(size=w.shape).astype(np.float32), device=device).data
        normed(x)
    assert normed.sigma().item() == pytest.approx(greatest(normed.layer), rel=0.01)


@pytest.mark.parametrize("name", LAYERS)
def test_a_normed_layer_has_norm_one_whatever_its_scale(name):
    normed = SpectralNorm(LAYERS[name]())
    normed.layer.weight.data = 37 * normed.layer.weight.data
    for _ in range(200):
        normed._iterate()
    ones = normed.layer.weight / normed.sigma()
    assert np.linalg.svd(ones.numpy().reshape(len(ones), -1), compute_uv=False)[0] == pytest.approx(1, rel=1e-3)


def test_a_linear_layer_stretches_nothing():
    normed, x = SpectralNorm(nn.Linear(30, 20)), RNG.normal(size=(50, 30)).astype(np.float32)
    for _ in range(50):
        y = normed(Tensor(x)).numpy()
    moved = np.linalg.norm(y[1:] - y[:-1], axis=1)
    assert (moved <= 1.01 * np.linalg.norm(x[1:] - x[:-1], axis=1)).all()


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_goes_through_sigma_and_is_certified(name):
    layer = nn.Linear(4, 3) if name == "Linear" else nn.Conv2d(2, 3, 2)
    shape = (2, 4) if name == "Linear" else (2, 2, 3, 3)
    normed = SpectralNorm(layer).eval()                             # u and v stand still, as in the gradient
    certify_layer(normed, RNG.normal(size=shape))


def test_u_moves_in_training_alone_and_is_saved():
    normed, x = SpectralNorm(nn.Linear(30, 20)), tinycv.zeros(1, 30)
    for training in (False, True):
        before = normed.u.numpy().copy()
        normed.train(training)(x)
        assert (normed.u.numpy() != before).any() == training
    assert set(normed.state_dict()) == {"u", "v", "layer.weight", "layer.bias"}
    assert {name for name, _ in normed.named_parameters()} == {"layer.weight", "layer.bias"}


def test_the_weight_itself_is_what_is_learned():
    normed = SpectralNorm(nn.Linear(3, 2))
    before = normed.layer.weight
    normed(tinycv.ones(1, 3)).sum().backward()
    assert normed.layer.weight is before and before.grad is not None


def test_every_layer_of_a_network_is_wrapped_and_its_slope_is_then_at_most_one():
    inner = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2))
    network = spectral_norm(nn.Sequential(inner, nn.Flatten(), nn.Linear(8, 1)))
    assert sum(isinstance(m, SpectralNorm) for m in network.modules()) == 2
    for layer in (m for m in network.modules() if isinstance(m, nn.Linear)):
        layer.weight.data = 50 * layer.weight.data
    x = Tensor(RNG.normal(size=(200, 4)).astype(np.float32), requires_grad=True)
    for _ in range(100):
        y = network(x)
    (slope,) = tinycv.grad(y.sum(), x)
    assert 0.01 < np.linalg.norm(slope.numpy(), axis=1).max() < 1.001


def test_a_layer_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="not for ConvTranspose2d"):
        SpectralNorm(nn.ConvTranspose2d(2, 3, 2))
