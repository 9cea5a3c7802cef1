"""Masked layers: what a mask hides has no influence, no gradient, and no way to make a NaN."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor, nn
from tinycv.nn.functional import conv2d, linear
from tinycv.nn.masked import raster_mask

RNG = np.random.default_rng(0)
MASK = np.array([[True, False, True], [False, False, False]])
POISON = (np.nan, np.inf, -np.inf)


def masked_linear(bias=True):
    return nn.MaskedLinear(3, 2, MASK, bias).to("float64")


def test_a_masked_linear_layer_equals_a_linear_layer_whose_masked_weights_are_zero():
    layer, x = masked_linear(), RNG.normal(size=(5, 3))
    weight = layer.weight.numpy() * MASK
    expected = linear(Tensor(x), Tensor(weight), layer.bias).numpy()
    np.testing.assert_array_equal(layer(Tensor(x)).numpy(), expected)


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("window", [1, 3, 5, (1, 3), (5, 1)], ids=str)
def test_a_masked_convolution_equals_a_convolution_whose_masked_weights_are_zero(window, mask_type):
    layer = nn.MaskedConv2d(2, 4, window, mask_type).to("float64")
    x = Tensor(RNG.normal(size=(3, 2, 6, 5)))
    weight = Tensor(layer.weight.numpy() * raster_mask(window, mask_type))
    expected = conv2d(x, weight, layer.bias, padding="same").numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_mask_type_a_hides_the_centre_and_mask_type_b_shows_it():
    assert raster_mask(3, "A").astype(int).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert raster_mask(3, "B").astype(int).tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert raster_mask((1, 5), "A").astype(int).tolist() == [[1, 1, 0, 0, 0]]


def poisoned(layer):
    """The layer with NaN and infinity in all of its masked weights."""
    hidden = np.broadcast_to(~layer.mask.numpy(), layer.weight.shape)
    weight = layer.weight.numpy().copy()
    weight[hidden] = np.resize(POISON, hidden.sum())
    layer.weight.data = weight
    return hidden


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (masked_linear, (4, 3)),
        (lambda: nn.MaskedConv2d(2, 3, 3, "A").to("float64"), (2, 2, 5, 5)),
        (lambda: nn.MaskedConv2d(2, 3, (5, 3), "B").to("float64"), (2, 2, 5, 5)),
    ],
    ids=["linear", "conv A", "conv B"],
)
def test_nan_in_masked_weights_reaches_neither_result_nor_gradients(make, shape):
    x, results = RNG.normal(size=shape), []
    for poison in (False, True):
        tinycv.manual_seed(1)
        layer = make()
        if poison:
            poisoned(layer)
        inputs = Tensor(x, requires_grad=True)
        y = layer(inputs)
        (y * y).sum().backward()
        results.append([t.numpy() for t in (y, inputs.grad, layer.weight.grad, layer.bias.grad)])
    for clean, with_poison in zip(*results, strict=True):
        np.testing.assert_array_equal(clean, with_poison)


@pytest.mark.parametrize("mask_type", ["A", "B"])
def test_masked_weights_of_a_convolution_have_zero_gradient(mask_type):
    layer = nn.MaskedConv2d(2, 3, 5, mask_type)
    layer(tinycv.randn((2, 2, 6, 6))).sum().backward()
    hidden = np.broadcast_to(~raster_mask(5, mask_type), layer.weight.shape)
    gradient = layer.weight.grad.numpy()
    assert (gradient[hidden] == 0).all() and (gradient[~hidden] != 0).all()


def test_masked_weights_of_a_linear_layer_have_zero_gradient_even_if_the_gradient_is_infinite():
    layer = masked_linear()
    with np.errstate(all="ignore"):
        layer(Tensor(np.ones((1, 3)))).backward(Tensor(np.array([[np.inf, np.nan]])))
    assert (layer.weight.grad.numpy()[~MASK] == 0).all()


@pytest.mark.parametrize("mask_type", ["A", "B"])
def test_a_change_of_a_pixel_changes_no_result_before_it(mask_type):
    """With 32 channels and a 3 x 3 window, a plain convolution may use winograd.py, whose rounding
    would let later pixels change the last digits of earlier results."""
    layer = nn.MaskedConv2d(32, 32, 3, mask_type)
    x = RNG.normal(size=(8, 32, 8, 8)).astype(np.float32)
    before = layer(Tensor(x)).numpy().reshape(8, 32, 64)
    for pixel in (0, 19, 36, 63):
        changed = x.reshape(8, 32, 64).copy()
        changed[..., pixel] += 1000
        after = layer(Tensor(changed.reshape(x.shape))).numpy().reshape(8, 32, 64)
        end = pixel + (mask_type == "A")
        np.testing.assert_array_equal(after[..., :end], before[..., :end])
        assert (after[..., pixel] != before[..., pixel]).any() == (mask_type == "B")


def test_another_mask_for_one_call_replaces_the_mask_of_the_layer():
    layer, x = masked_linear(), Tensor(RNG.normal(size=(5, 3)))
    everything = linear(x, layer.weight, layer.bias).numpy()
    np.testing.assert_array_equal(layer(x, Tensor(np.ones((2, 3), bool))).numpy(), everything)
    assert (layer(x).numpy() != everything).any()


def test_the_mask_is_saved_and_loaded_with_the_weights():
    layer, other = masked_linear(), nn.MaskedLinear(3, 2, ~MASK).to("float64")
    other.load_state_dict(layer.state_dict())
    x = Tensor(RNG.normal(size=(5, 3)))
    np.testing.assert_array_equal(other(x).numpy(), layer(x).numpy())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.MaskedLinear(3, 2, MASK), (4, 3)),
        (lambda: nn.MaskedConv2d(2, 2, 3, "A"), (2, 2, 4, 3)),
        (lambda: nn.MaskedConv2d(2, 2, (1, 3), "B", bias=False), (2, 2, 2, 3)),
    ],
    ids=["linear", "conv A", "conv B"],
)
def test_the_derivatives_of_a_masked_layer_are_right(layer, shape):
    certify_layer(layer(), RNG.normal(size=shape))


def test_a_masked_layer_runs_on_a_gpu(device):
    for layer, shape in (
        (nn.MaskedLinear(3, 2, MASK), (4, 3)),
        (nn.MaskedConv2d(2, 3, 3, "A"), (2, 2, 5, 4)),
    ):
        x = RNG.normal(size=shape).astype(np.float32)
        expected = layer(Tensor(x)).numpy()
        found = layer.to(device)(Tensor(x, device=device)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [2, (3, 4), 0])
def test_a_window_without_a_centre_is_refused(window):
    with pytest.raises(ValueError, match="MaskedConv2d: kernel_size is"):
        nn.MaskedConv2d(1, 1, window)
