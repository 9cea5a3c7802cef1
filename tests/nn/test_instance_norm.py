"""Instance norm and AdaIN: constants become exactly 0, statistics, precision, wrong arguments.

Derivatives are tested by certificates, and equality with PyTorch in tests/parity.
"""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor, nn
from tinycv.engine.check import certify
from tinycv.nn import functional as F

RNG = np.random.default_rng(0)


def finite(width):
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


def sides():
    return st.tuples(st.integers(1, 40), st.integers(1, 40)).filter(lambda side: side != (1, 1))


@given(value=finite(32), sides=sides())
def test_a_constant_float32_map_becomes_exactly_0(value, sides):
    assert not F.instance_norm(np.full((1, 2, *sides), value, np.float32)).any()


@given(value=finite(64), sides=sides())
def test_a_constant_float64_map_becomes_exactly_0(value, sides):
    assert not F.instance_norm(np.full((1, 2, *sides), value, np.float64)).any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [0.1, -1 / 3, 6e4, 1e-7])
def test_a_constant_map_becomes_exactly_bias_in_every_channel(value, dtype, device):
    x = Tensor(np.full((2, 3, 7, 5), value, dtype), device=device)
    weight, bias = (Tensor(RNG.normal(size=3).astype(dtype), device=device) for _ in "wb")
    y = F.instance_norm(x, weight, bias)
    assert y.dtype == dtype
    assert (y.numpy() == bias.numpy()[:, None, None]).all()


def test_a_constant_map_that_lies_channels_last_becomes_exactly_0():
    x = np.full((2, 6, 7, 3), 0.1, np.float32).transpose(0, 3, 1, 2)
    assert not F.instance_norm(x).any()


def test_it_is_the_formula_written_with_loops():
    x, weight, bias = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=3), RNG.normal(size=3)
    y = F.instance_norm(x, weight, bias, eps=0.1)
    for n in range(2):
        for c in range(3):
            m, v = x[n, c].mean(), x[n, c].var()
            expected = weight[c] * (x[n, c] - m) / np.sqrt(v + 0.1) + bias[c]
            np.testing.assert_allclose(y[n, c], expected, rtol=1e-12, atol=1e-12)


def test_brightness_and_contrast_of_an_image_change_nothing():
    x = RNG.normal(size=(2, 3, 8, 8))
    contrast, brightness = RNG.uniform(0.5, 2, size=(2, 3, 1, 1)), RNG.normal(size=(2, 3, 1, 1))
    a, b = F.instance_norm(x, eps=0.0), F.instance_norm(contrast * x + brightness, eps=0.0)
    np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("dtype, bound", [("float16", 2e-3), ("float32", 2e-6)])
@pytest.mark.parametrize("outlier", [0.0, 1e4, -6e4])
def test_the_first_pixel_may_lie_far_from_the_others(outlier, dtype, bound):
    x = RNG.normal(size=(2, 3, 32, 32)).astype(dtype)
    x[:, :, 0, 0] = outlier
    exact = F.instance_norm(x.astype(np.float64))
    y = F.instance_norm(Tensor(x)).numpy()
    assert np.abs(y - exact).max() <= bound * np.abs(exact).max()


def test_float16_numbers_whose_difference_overflows_are_normalised():
    x = np.array([6e4, -6e4, 0.0, 1e4], np.float16).reshape(1, 1, 2, 2)
    assert np.isfinite(F.instance_norm(Tensor(x)).numpy()).all()


@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 2, 3, 4), (1, 2, 2, 1, 3)])
def test_instance_norm_is_certified(shape, device):
    weight, bias = RNG.normal(size=(2, shape[1]))
    certify(F.instance_norm, RNG.normal(size=shape), weight, bias, device=device)


@pytest.mark.parametrize("affine", [False, True])
def test_the_layer_is_certified(affine):
    certify_layer(nn.InstanceNorm2d(2, affine=affine), RNG.normal(size=(2, 2, 3, 3)))


def test_at_a_constant_map_the_derivatives_are_certified_too():
    certify(lambda x: F.instance_norm(x, eps=1.0), np.full((1, 2, 3, 2), 0.7))


def test_without_affine_the_layer_has_no_parameters():
    assert list(nn.InstanceNorm2d(3).state_dict()) == []
    assert list(nn.InstanceNorm2d(3, affine=True).state_dict()) == ["weight", "bias"]


def test_training_and_evaluation_are_the_same():
    layer, x = nn.InstanceNorm2d(3), RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)
    assert (layer(Tensor(x)).numpy() == layer.eval()(Tensor(x)).numpy()).all()


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    x = RNG.normal(size=(5, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(F.instance_norm(x)[2:3], F.instance_norm(x[2:3]), atol=1e-6)


# ── adaptive instance norm ────────────────────────────────────────────────────────────────────────


def maps(*shape, mean=0.0, deviation=1.0, dtype="float32"):
    return (mean + deviation * RNG.normal(size=shape)).astype(dtype)


def test_the_result_has_the_mean_and_the_standard_deviation_of_style(device):
    content = Tensor(maps(2, 3, 16, 12, mean=4, deviation=3), device=device)
    style = Tensor(maps(2, 3, 9, 21, mean=-2, deviation=2), device=device)
    y = F.adaptive_instance_norm(content, style).numpy().astype("f8")
    target = style.numpy().astype("f8")
    assert y.shape == (2, 3, 16, 12)
    np.testing.assert_allclose(y.mean((2, 3)), target.mean((2, 3)), atol=1e-5)
    np.testing.assert_allclose(y.std((2, 3)), target.std((2, 3)), atol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.3])
def test_eps_changes_the_variance_as_the_docstring_says(eps):
    content, style = maps(2, 3, 5, 5, dtype="float64"), maps(2, 3, 4, 7, dtype="float64")
    v, v_style = content.var((2, 3)), style.var((2, 3))
    y = F.adaptive_instance_norm(content, style, eps)
    np.testing.assert_allclose(y.var((2, 3)), (v_style + eps) * v / (v + eps), rtol=1e-10)


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_an_image_in_its_own_style_stays_as_it_is(eps):
    x = maps(2, 3, 6, 5, mean=3, dtype="float64")
    np.testing.assert_allclose(F.adaptive_instance_norm(x, x, eps), x, atol=1e-12)


def test_a_constant_channel_becomes_constant_at_the_mean_of_style(device):
    content = Tensor(np.full((1, 2, 7, 5), 0.1, np.float32), device=device)
    style = Tensor(maps(1, 2, 4, 4, mean=5), device=device)
    y = F.adaptive_instance_norm(content, style).numpy()
    assert (y == y[:, :, :1, :1]).all()
    np.testing.assert_allclose(y[:, :, 0, 0], style.numpy().mean((2, 3)), rtol=1e-6)


def test_a_style_of_one_pixel_gives_its_value_at_nearly_no_contrast():
    style = np.full((1, 1, 1, 1), 2.0)
    y = F.adaptive_instance_norm(maps(1, 1, 8, 8, dtype="float64"), style, eps=1e-10)
    np.testing.assert_allclose(y, 2.0, atol=1e-4)


def test_a_float16_style_whose_variance_overflows_gives_its_contrast():
    style = np.array([-1000, 1000, -1000, 1000], np.float16).reshape(1, 1, 2, 2)
    y = F.adaptive_instance_norm(Tensor(style), Tensor(style))
    assert y.dtype == "float16"
    np.testing.assert_allclose(y.numpy(), style, rtol=2e-3)


def test_adaptive_instance_norm_is_certified_in_both_arguments(device):
    content, style = RNG.normal(size=(2, 2, 3, 2)), RNG.normal(size=(2, 2, 2, 4))
    certify(F.adaptive_instance_norm, content, style, device=device)


# ── wrong arguments ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: F.instance_norm(tinycv.ones(2, 3, 1, 1)), "x has shape .*, one pixel per channel"),
        (lambda: F.instance_norm(tinycv.ones(2, 3)), r"x has shape \(2, 3\); it must be \(N, C"),
        (lambda: F.instance_norm(tinycv.ones(2, 3, 4), tinycv.ones(2)), r"weight has shape \(2,\)"),
        (
            lambda: nn.InstanceNorm2d(3)(tinycv.ones(2, 4, 5, 5)),
            r"InstanceNorm2d: x is .*it must have shape \(N, C, H, W\), with C = num_features = 3",
        ),
        (
            lambda: nn.InstanceNorm2d(3, track_running_stats=True),
            "InstanceNorm2d: track_running_stats is True; it must be False",
        ),
        (
            lambda: F.adaptive_instance_norm(tinycv.ones(2, 3, 4, 4), tinycv.ones(1, 3, 4, 4)),
            r"content has shape \(2, 3, 4, 4\) and style \(1, 3, 4, 4\)",
        ),
        (
            lambda: F.adaptive_instance_norm(tinycv.ones(2, 3, 4, 4), tinycv.ones(2, 3, 4)),
            "they must have as many axes",
        ),
        (
            lambda: F.adaptive_instance_norm(tinycv.ones(2, 3, 1, 1), tinycv.ones(2, 3, 4, 4)),
            "content has shape .*, one pixel per channel",
        ),
    ],
    ids=range(8),
)
def test_a_wrong_call_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_map_without_pixels_gives_an_empty_result():
    assert F.instance_norm(tinycv.ones(2, 3, 0, 4)).shape == (2, 3, 0, 4)
    assert F.instance_norm(tinycv.ones(0, 3, 2, 4)).shape == (0, 3, 2, 4)
