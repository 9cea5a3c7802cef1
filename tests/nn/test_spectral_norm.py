"""Spectral norm: the estimate of the largest singular value, its gradient, and when it changes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
from certified import certify_layer
from near import near

import tinycv
from tinycv import Tensor, nn
from tinycv.nn import functional as F
from tinycv.nn.spectral_norm import SpectralNorm, spectral_norm

RNG = np.random.default_rng(0)
LAYERS = {"Linear": lambda: nn.Linear(30, 20), "Conv2d": lambda: nn.Conv2d(6, 8, 3)}


def greatest(layer):
    w = layer.weight.numpy()
    return np.linalg.svd(w.reshape(len(w), -1), compute_uv=False)[0]


@pytest.mark.parametrize("name", LAYERS)
def test_sigma_is_the_greatest_singular_value_within_one_percent_while_the_weight_moves(
    name, device
):
    normed = SpectralNorm(LAYERS[name]()).to(device)
    x = tinycv.zeros(*((2, 30) if name == "Linear" else (2, 6, 5, 5)), device=device)
    # a step of training now and then: W drifts
    for _ in range(60):
        w = normed.layer.weight
        w.data = (
            w.data + 0.002 * Tensor(RNG.normal(size=w.shape).astype(np.float32), device=device).data
        )
        normed(x)
    assert normed.sigma().item() == pytest.approx(greatest(normed.layer), rel=0.01)


@pytest.mark.parametrize("name", LAYERS)
def test_a_normed_layer_has_norm_one_whatever_its_scale(name):
    normed = SpectralNorm(LAYERS[name]())
    normed.layer.weight.data = 37 * normed.layer.weight.data
    for _ in range(200):
        normed._iterate()
    ones = normed.layer.weight / normed.sigma()
    assert np.linalg.svd(ones.numpy().reshape(len(ones), -1), compute_uv=False)[0] == pytest.approx(
        1, rel=1e-3
    )


def test_a_linear_layer_with_spectral_norm_lengthens_no_vector():
    normed, x = SpectralNorm(nn.Linear(30, 20)), RNG.normal(size=(50, 30)).astype(np.float32)
    for _ in range(50):
        y = normed(Tensor(x)).numpy()
    moved = np.linalg.norm(y[1:] - y[:-1], axis=1)
    assert (moved <= 1.01 * np.linalg.norm(x[1:] - x[:-1], axis=1)).all()


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_goes_through_sigma_and_is_certified(name):
    layer = nn.Linear(4, 3) if name == "Linear" else nn.Conv2d(2, 3, 2)
    shape = (2, 4) if name == "Linear" else (2, 2, 3, 3)
    # u and v stand still, as in the gradient
    normed = SpectralNorm(layer).eval()
    certify_layer(normed, RNG.normal(size=shape))


def test_u_changes_only_in_training_mode_and_is_saved():
    normed, x = SpectralNorm(nn.Linear(30, 20)), tinycv.zeros(1, 30)
    for training in (False, True):
        before = normed.u.numpy().copy()
        normed.train(training)(x)
        assert (normed.u.numpy() != before).any() == training
    assert set(normed.state_dict()) == {"u", "v", "layer.weight", "layer.bias"}
    assert {name for name, _ in normed.named_parameters()} == {"layer.weight", "layer.bias"}


def test_the_undivided_weight_is_the_parameter():
    normed = SpectralNorm(nn.Linear(3, 2))
    before = normed.layer.weight
    normed(tinycv.ones(1, 3)).sum().backward()
    assert normed.layer.weight is before and before.grad is not None


def test_a_network_with_spectral_norm_has_a_lipschitz_constant_of_at_most_one():
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
    with pytest.raises(
        TypeError, match="SpectralNorm: layer is ConvTranspose2d.*must be a Linear or a Conv2d"
    ):
        SpectralNorm(nn.ConvTranspose2d(2, 3, 2))


# ── spectral_norm(network): every place where a Module finds its parts ──


class Box(nn.Module):
    def __init__(self, parts):
        self.parts = parts


@pytest.mark.parametrize(
    "box",
    [
        lambda a, b: [a, b],
        lambda a, b: (a, b),
        lambda a, b: {"a": a, "b": b},
        lambda a, b: [[a], (b,)],
        lambda a, b: {"x": [{"y": (a,)}], "z": Box({"b": b})},
        lambda a, b: nn.Sequential(a, Box([b])),
        lambda a, b: Box((a, [b])),
        lambda a, b: deque([a, b]),
        lambda a, b: deque([(b,), {"a": deque([a])}], maxlen=2),
    ],
)
def test_layers_in_any_container_are_wrapped_once(box):
    a, b = nn.Linear(3, 3), nn.Conv2d(2, 2, 3)
    parts = box(a, b)
    network = Box([parts, a, parts])
    assert spectral_norm(network) is network
    found = [m for m in network.modules() if isinstance(m, SpectralNorm)]
    assert {id(m.layer) for m in found} == {id(a), id(b)} and len(found) == 2
    names = [n for n, _ in network.named_tensors()]
    spectral_norm(network)  # what is normed stays as it is
    assert names == [n for n, _ in network.named_tensors()]
    assert type(network.parts[0]) is type(parts)


def test_modules_that_compare_by_value_are_wrapped_too():
    @dataclass
    class Pair(nn.Module):
        first: nn.Module
        second: nn.Module

    one, other = Pair(nn.Linear(2, 2), nn.ReLU()), Pair(nn.Linear(2, 2), nn.ReLU())
    assert Pair.__hash__ is None
    network = spectral_norm(Box([one, other]))
    assert sum(isinstance(m, SpectralNorm) for m in network.modules()) == 2


def test_a_network_whose_submodules_refer_back_is_wrapped_too():
    network = Box([nn.Linear(2, 2)])
    network.parts.append(Box(network))
    assert sum(isinstance(m, SpectralNorm) for m in spectral_norm(network).modules()) == 1


def test_a_subclass_of_linear_keeps_its_own_forward_under_spectral_norm():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = Doubled(4, 3), Tensor(RNG.normal(size=(7, 4)).astype("f"))
    normed = SpectralNorm(layer).eval()
    want = 2 * F.linear(x, layer.weight / normed.sigma(), layer.bias)
    near(normed(x).numpy(), want.numpy())


def test_sigma_of_a_convolution_is_not_its_norm_as_a_map_of_images():
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    layer.weight.data = np.full((1, 1, 3, 3), 1 / 3, "f")
    normed, x = SpectralNorm(layer).eval(), np.ones((1, 1, 20, 20), "f")
    assert normed.sigma().item() == pytest.approx(1, rel=1e-5)
    # power iteration: this window is its own transpose
    for _ in range(60):
        x /= np.linalg.norm(x)
        x = normed(Tensor(x)).numpy()
    assert 2.9 < np.linalg.norm(x) < 3


def test_the_numbers_in_the_docstring_of_the_file_are_true():
    """Nine times 1/3 as a matrix (1, 9), and as a map of 20 x 20 images; and how far the first
    estimate of sigma is off."""
    size, kernel = 20, np.full((1, 1, 3, 3), 1 / 3)
    images = Tensor(np.eye(size * size).reshape(-1, 1, size, size))
    as_a_map = F.conv2d(images, Tensor(kernel), padding=1).numpy().reshape(size * size, -1)
    assert np.linalg.svd(kernel.reshape(1, 9), compute_uv=False)[0] == pytest.approx(1)
    assert round(np.linalg.svd(as_a_map, compute_uv=False)[0], 2) == 2.96
    exact = []
    for seed in range(5):
        tinycv.manual_seed(seed)
        normed = SpectralNorm(nn.Linear(256, 256))
        exact.append(
            np.linalg.svd(normed.layer.weight.numpy(), compute_uv=False)[0] / normed.sigma().item()
        )
    assert all(1 <= ratio < 1.1 for ratio in exact) and max(exact) > 1.005
