"""Convolution, pooling, binary cross-entropy and their layers compared with PyTorch, forward and
backward."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, agree_as_layers, equal, twins

import tinycv
from tinycv import nn
from tinycv.nn import functional as F

TF = torch.nn.functional
RNG = np.random.default_rng(0)
X, SCORES, TARGET = RNG.normal(size=(2, 4, 7, 6)), RNG.normal(size=(5, 4)), RNG.uniform(size=(5, 4))

pytestmark = pytest.mark.parametrize("dtype", DTYPES)

CONV = [
    {},
    {"stride": 2},
    {"stride": (3, 1)},
    {"padding": 2},
    {"padding": (0, 3)},
    {"dilation": (1, 2)},
    {"groups": 2},
    {"stride": 2, "padding": 1, "dilation": 2, "groups": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": (3, 2)},
    {"padding": "valid", "stride": 2},
]
TRANSPOSED = [
    {},
    {"stride": 2},
    {"stride": (3, 1), "output_padding": (2, 0)},
    {"padding": 1},
    {"dilation": 2, "output_padding": 1},
    {"groups": 2},
    {"stride": 2, "padding": (1, 0), "output_padding": 1, "groups": 2, "dilation": (1, 2)},
]
LAYERS = {
    "Conv2d": (lambda n: n.Conv2d(4, 6, 3, 2, 1), X),
    "Conv2d of groups, pairs": (lambda n: n.Conv2d(4, 6, (3, 2), (1, 2), (2, 1), (1, 2), 2), X),
    "Conv2d same, without bias": (lambda n: n.Conv2d(4, 3, 4, padding="same", bias=False), X),
    "ConvTranspose2d": (lambda n: n.ConvTranspose2d(4, 3, 4, 2, 1), X),
    "ConvTranspose2d of groups, pairs": (
        lambda n: n.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, 2),
        X,
    ),
    "MaxPool2d": (lambda n: n.MaxPool2d(2), X),
    "MaxPool2d overlapping": (lambda n: n.MaxPool2d(3, 2, 1), X),
    "AvgPool2d": (lambda n: n.AvgPool2d((2, 3)), X),
    "AvgPool2d overlapping": (lambda n: n.AvgPool2d(3, (2, 1), (1, 0)), X),
    "LeakyReLU": (lambda n: n.LeakyReLU(), X),
    "LeakyReLU of 0.2": (lambda n: n.LeakyReLU(0.2), X),
    "SiLU": (lambda n: n.SiLU(), 20 * X),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("window", [(3, 2), (1, 1)], ids=str)
@pytest.mark.parametrize("options", CONV, ids=str)
def test_conv2d_matches_pytorch(options, window, dtype):
    weight, bias = RNG.normal(size=(6, 4 // options.get("groups", 1), *window)), RNG.normal(size=6)
    agree(
        lambda *a: F.conv2d(*a, **options),
        lambda *a: TF.conv2d(*a, **options),
        [X, weight, bias],
        dtype,
    )


@pytest.mark.parametrize("window", [(3, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_conv_transpose2d_matches_pytorch(options, window, dtype):
    weight = RNG.normal(size=(4, 3, *window))
    bias = RNG.normal(size=3 * options.get("groups", 1))
    agree(
        lambda *a: F.conv_transpose2d(*a, **options),
        lambda *a: TF.conv_transpose2d(*a, **options),
        [X, weight, bias],
        dtype,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_the_weights_of_pytorch_has_its_value_and_gradients(name, dtype):
    make, x = LAYERS[name]
    agree_as_layers(make(nn), make(torch.nn), [x], dtype)


class TorchMaskedConv2d(torch.nn.Conv2d):
    """A convolution by PyTorch, with its weight multiplied by a mask."""

    def __init__(self, ins, outs, window, mask_type):
        super().__init__(ins, outs, window, padding="same")
        down, across = (window, window) if isinstance(window, int) else window
        mask = torch.zeros(down, across, dtype=torch.bool)
        mask[: down // 2] = True
        mask[down // 2, : across // 2 + (mask_type == "B")] = True
        self.register_buffer("mask", mask)

    def forward(self, x):
        return TF.conv2d(x, self.weight * self.mask, self.bias, padding="same")


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize("window", [3, 5, (1, 3)], ids=str)
def test_a_masked_convolution_matches_pytorchs_with_weight_times_mask(window, mask_type, dtype):
    arguments = 4, 5, window, mask_type
    agree_as_layers(nn.MaskedConv2d(*arguments), TorchMaskedConv2d(*arguments), [X], dtype)


class TorchMaskedLinear(torch.nn.Linear):
    """A linear layer by PyTorch, with its weight multiplied by a mask."""

    def __init__(self, ins, outs, mask):
        super().__init__(ins, outs)
        self.register_buffer("mask", torch.tensor(mask))

    def forward(self, x):
        return TF.linear(x, self.weight * self.mask, self.bias)


def test_a_masked_linear_layer_matches_pytorchs_with_weight_times_mask(dtype):
    mask = RNG.uniform(size=(3, 6)) < 0.5
    agree_as_layers(nn.MaskedLinear(6, 3, mask), TorchMaskedLinear(6, 3, mask), [X], dtype)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: n.Conv2d(32, 64, 5, groups=2),
        lambda n: n.ConvTranspose2d(64, 32, 5, groups=2),
        lambda n: n.ConvTranspose2d(16, 48, 3),
    ],
)
def test_initial_weights_fill_the_same_range_as_in_pytorch(make, dtype):
    ours, theirs = make(nn).to(dtype), make(torch.nn).to(getattr(torch, dtype))
    for name in ("weight", "bias"):
        a, b = (np.abs(getattr(m, name).detach().numpy()).max() for m in (ours, theirs))
        assert a == pytest.approx(b, rel=0.2 if name == "bias" else 0.01)


@pytest.mark.parametrize(
    "reduction, weight, pos",
    list(itertools.product(["mean", "sum", "none"], [None, (5, 1)], [None, (4,)])),
)
def test_binary_cross_entropy_and_both_gradients_match_pytorch(reduction, weight, pos, dtype):
    weights = [None if s is None else RNG.uniform(0.5, 2, s).astype(dtype) for s in (weight, pos)]
    ours, theirs = (
        [None if w is None else make(w) for w in weights] for make in (tinycv.Tensor, torch.tensor)
    )
    agree(
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, *ours, reduction),
        lambda x, t: TF.binary_cross_entropy_with_logits(
            x, t, theirs[0], reduction=reduction, pos_weight=theirs[1]
        ),
        [20 * SCORES, TARGET],
        dtype,
    )


def test_the_second_derivative_matches_pytorch(dtype):
    """As in the gradient penalty of a convolutional critic (Gulrajani et al. 2017)."""

    def penalty(x, w, v, conv2d, leaky_relu, gradient):
        (g,) = gradient(
            leaky_relu(conv2d(leaky_relu(conv2d(x, w, padding=1), 0.2), v, stride=2), 0.2).sum(), x
        )
        return ((g * g).sum() - 1) ** 2

    leaves = [
        twins(a, dtype) for a in (X, RNG.normal(size=(3, 4, 3, 3)), RNG.normal(size=(2, 3, 2, 2)))
    ]
    a, b = zip(*leaves, strict=True)
    y = penalty(*a, F.conv2d, F.leaky_relu, lambda y, x: tinycv.grad(y, x, create_graph=True))
    z = penalty(
        *b, TF.conv2d, TF.leaky_relu, lambda y, x: torch.autograd.grad(y, x, create_graph=True)
    )
    equal(y, z)
    for ours, theirs in zip(tinycv.grad(y, a[1:]), torch.autograd.grad(z, b[1:]), strict=True):
        equal(ours, theirs)
