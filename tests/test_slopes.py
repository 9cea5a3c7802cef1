"""The checks are checked: finite differences must notice a derivative that is wrong."""
from __future__ import annotations

import numpy as np
import pytest
from slopes import certify_layer

from tinycv import Parameter, Tensor
from tinycv.engine.fused import fused
from tinycv.engine.ops import exp
from tinycv.nn import Module

X = np.random.default_rng(0).normal(size=(3, 4))


@pytest.fixture(autouse=True)
def unlisted(monkeypatch):
    """The wrong pairs made here must not join the list of those that others check."""
    monkeypatch.setattr("tinycv.engine.fused.PAIRS", {})


class Scaled(Module):
    """function(x * weight)."""

    def __init__(self, function):
        self.function, self.weight = function, Parameter(np.ones(4))

    def forward(self, x):
        return self.function(x * self.weight)


def cube(slope):
    """x³ as a pair whose kernel takes ``slope`` x² for its derivative; the definition is right."""
    pair = fused(lambda x: x * x * x)
    pair.kernel(lambda xp, x: (x * x * x, lambda g: slope * g * x * x))
    return pair


def test_a_right_layer_passes():
    certify_layer(Scaled(cube(3)), X)


def test_a_kernel_that_is_off_by_a_hundred_thousandth_is_noticed():
    with pytest.raises(AssertionError, match="input 0"):
        certify_layer(Scaled(cube(3 * (1 + 1e-5))), X)


def test_a_parameter_that_the_graph_forgets_is_noticed():
    layer = Scaled(exp)
    layer.function = lambda x: exp(x) * Tensor(layer.weight.detach())
    with pytest.raises(AssertionError, match="weight"):
        certify_layer(layer, X)


def test_a_definition_that_is_another_function_is_noticed():
    pair = fused(lambda x: x * x * x * 1.001)
    pair.kernel(lambda xp, x: (x * x * x, lambda g: 3 * g * x * x))
    with pytest.raises(AssertionError, match="order 2"):
        certify_layer(Scaled(pair), X)
