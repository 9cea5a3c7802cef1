"""Gumbel-softmax: its corners have the distribution softmax(logits), its hard samples are one-hot
vectors with the gradient of the soft ones."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.nn import functional as F
from tinycv.nn.gumbel import gumbel_noise, gumbel_softmax, one_hot_of_largest, straight_through

RNG = np.random.default_rng(0)


def logits(*shape):
    return Tensor(RNG.normal(size=shape), requires_grad=True)


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
def test_the_frequencies_of_the_corners_are_the_softmax(tau):
    """Whatever the temperature: dividing by τ does not change which number is the largest."""
    scores = np.array([1.5, 0.0, -1.0, 0.3])
    draws = 40_000
    y = gumbel_softmax(Tensor(np.tile(scores, (draws, 1))), tau).numpy()
    frequencies = np.bincount(y.argmax(axis=1), minlength=4) / draws
    expected = np.exp(scores) / np.exp(scores).sum()
    # five standard deviations of a frequency
    assert (abs(frequencies - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)).all()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_samples_sum_to_1_along_the_axis(hard, axis):
    y = gumbel_softmax(logits(3, 4, 5), 0.5, hard, axis).numpy()
    np.testing.assert_allclose(y.sum(axis=axis), 1, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_hard_sample_is_the_corner_nearest_to_the_soft_one(axis):
    x, noise = logits(3, 4, 5), RNG.normal(size=(3, 4, 5))
    hard = gumbel_softmax(x, 0.5, True, axis, noise).numpy()
    soft = gumbel_softmax(x, 0.5, False, axis, noise).numpy()
    assert sorted(np.unique(hard)) == [0, 1]
    np.testing.assert_array_equal(hard.argmax(axis=axis), soft.argmax(axis=axis))


def test_a_hard_sample_has_the_gradient_of_the_soft_one():
    noise, weight = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    gradients = []
    for hard in (True, False):
        x = Tensor(np.linspace(-1, 1, 12).reshape(3, 4), requires_grad=True)
        (gumbel_softmax(x, 0.7, hard, noise=noise) * weight).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_array_equal(*gradients)
    assert abs(gradients[0]).max() > 0.01


def test_gradients_agree_with_finite_differences():
    noise = RNG.normal(size=(2, 3))
    certify(lambda x: gumbel_softmax(x, 0.7, noise=noise), RNG.normal(size=(2, 3)))


def test_the_noise_has_the_mean_and_variance_of_gumbels_distribution():
    noise = gumbel_noise(Tensor(np.zeros(200_000))).numpy()
    assert abs(noise.mean() - 0.5772) < 0.02  # Euler's constant
    assert abs(noise.var() - np.pi**2 / 6) < 0.05


def test_a_low_temperature_gives_nearly_one_hot_vectors():
    y = gumbel_softmax(logits(200, 5), 1e-3).numpy()
    assert np.median(y.max(axis=1)) > 1 - 1e-6


def test_straight_through_returns_exactly_the_hard_value():
    hard, soft = RNG.normal(size=1000).astype("f4"), RNG.normal(size=1000).astype("f4") * 1e6
    y = straight_through(Tensor(hard), Tensor(soft, requires_grad=True))
    np.testing.assert_array_equal(y.numpy(), hard)


def test_straight_through_passes_the_gradient_to_the_soft_value_alone():
    hard, soft = logits(4), logits(4)
    (straight_through(hard, soft) * np.arange(4.0)).sum().backward()
    assert hard.grad is None
    np.testing.assert_array_equal(soft.grad.numpy(), np.arange(4.0))


def test_the_largest_of_equal_numbers_is_the_first():
    x = Tensor(np.array([[1.0, 2, 2], [3, 3, 3]]))
    np.testing.assert_array_equal(one_hot_of_largest(x).numpy(), [[0, 1, 0], [1, 0, 0]])


def test_half_precision_is_computed_in_float32():
    assert gumbel_softmax(Tensor(np.zeros((2, 3), np.float16))).dtype == np.float32


def test_samples_run_on_each_device(device):
    x = tinycv.randn(4, 3, device=device, requires_grad=True)
    y = F.gumbel_softmax(x, 0.5, hard=True)
    (y * y).sum().backward()
    assert y.device == x.device == x.grad.device


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 0.0}, "tau is 0.0; it must be a number, more than 0"),
        ({"tau": float("inf")}, "tau is inf; it must be finite"),
        ({"axis": 2}, "axis is 2; logits has 2 axes, so it must be at least -2 and at most 1$"),
        ({"axis": 0.5}, "axis is 0.5; it must be a whole number"),
        ({"dim": 1}, "there is no argument dim; it takes .*axis.*PyTorch's dim is called axis"),
        ({"eps": 1e-9}, "there is no argument eps; it takes logits, tau, hard, axis, noise$"),
        ({"noise": np.zeros(3)}, r"noise is .*; it must have the shape \(2, 3\) of logits"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=f"gumbel_softmax: {message}"):
        gumbel_softmax(Tensor(np.zeros((2, 3))), **arguments)
