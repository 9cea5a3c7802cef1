"""certify_layer notices a parameter whose derivative is wrong, and leaves the layer unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

from tinycv import Parameter
from tinycv.engine.check import CertificateError
from tinycv.engine.ops import exp
from tinycv.nn import Linear, Module, Sequential

X = np.random.default_rng(0).normal(size=(3, 4))


class Scaled(Module):
    def __init__(self, forgets):
        self.weight, self.forgets = Parameter(np.full(4, 1.5)), forgets

    def forward(self, x):
        return exp(x * (self.weight.detach() if self.forgets else self.weight))


def test_a_correct_layer_passes():
    certify_layer(Scaled(forgets=False), X)


def test_a_parameter_outside_the_graph_is_noticed():
    with pytest.raises(CertificateError, match="input 1"):
        certify_layer(Scaled(forgets=True), X)


def test_a_wrong_parameter_of_a_nested_layer_is_noticed():
    with pytest.raises(CertificateError, match="input 3"):
        certify_layer(Sequential(Linear(4, 4), Sequential(Scaled(forgets=True))), X)


def test_the_layer_keeps_its_own_parameters():
    layer = Linear(4, 2)
    before = list(layer.parameters())
    certify_layer(layer, X)
    assert [p is q for p, q in zip(layer.parameters(), before, strict=True)] == [True, True]
