"""Group and batch normalisation compared with PyTorch: values, gradients, running statistics,
names."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, agree_as_layers, equal, twins

import tinycv
from tinycv import Tensor, nn
from tinycv.nn import functional as F

TF = torch.nn.functional
RNG = np.random.default_rng(0)
ROWS, SERIES, IMAGES = (
    2 + 3 * RNG.normal(size=shape) for shape in ((5, 6), (4, 6, 7), (3, 6, 9, 8))
)
WEIGHT, BIAS = RNG.normal(size=6), RNG.normal(size=6)

pytestmark = pytest.mark.parametrize("dtype", DTYPES)

LAYERS = {
    "GroupNorm": (lambda m: m.GroupNorm(3, 6), IMAGES),
    "GroupNorm of one group": (lambda m: m.GroupNorm(1, 6), SERIES),
    "GroupNorm of one channel each": (lambda m: m.GroupNorm(6, 6, eps=0.1), IMAGES),
    "GroupNorm of rows": (lambda m: m.GroupNorm(2, 6), ROWS),
    "GroupNorm without weight": (lambda m: m.GroupNorm(2, 6, affine=False), IMAGES),
    "BatchNorm2d": (lambda m: m.BatchNorm2d(6), IMAGES),
    "BatchNorm2d without weight": (lambda m: m.BatchNorm2d(6, 1e-3, 0.3, affine=False), IMAGES),
    "BatchNorm2d without running": (lambda m: m.BatchNorm2d(6, track_running_stats=False), IMAGES),
    "BatchNorm1d of rows": (lambda m: m.BatchNorm1d(6), ROWS),
    "BatchNorm1d of series": (lambda m: m.BatchNorm1d(6), SERIES),
}
FUNCTIONS = {
    "group_norm": (lambda F, x, w, b: F.group_norm(x, 2, w, b), [IMAGES, WEIGHT, BIAS]),
    "batch_norm in training": (
        lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True),
        [IMAGES, WEIGHT, BIAS],
    ),
    "batch_norm after": (
        lambda F, x, w, b: F.batch_norm(x, b.detach(), (w * w).detach(), w, b),
        [IMAGES, WEIGHT, BIAS],
    ),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_value_gradients_and_buffers_of_a_norm_match_pytorch(name, mode, dtype):
    make, x = LAYERS[name]
    ours, theirs = getattr(make(nn), mode)(), getattr(make(torch.nn), mode)()
    # at the second call, the buffers have already changed
    for _ in range(2):
        agree_as_layers(ours, theirs, [x], dtype)
        theirs.zero_grad()
        ours.zero_grad()
        state = theirs.state_dict()
        assert list(ours.state_dict()) == list(state)
        for key, value in ours.state_dict().items():
            equal(value, state[key], key)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functional_norm_matches_pytorch(name, dtype):
    function, inputs = FUNCTIONS[name]
    agree(lambda *xs: function(F, *xs), lambda *xs: function(TF, *xs), inputs, dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_second_derivative_of_a_norm_matches_pytorch(name, dtype):
    function, inputs = FUNCTIONS[name]
    pairs, cube = [twins(x, dtype) for x in inputs], RNG.normal(size=IMAGES.shape).astype(dtype)
    (a, *ours), (b, *theirs) = zip(*pairs, strict=True)
    (g,) = tinycv.grad(((function(F, a, *ours) * cube) ** 2).sum(), a, create_graph=True)
    (h,) = torch.autograd.grad(
        ((function(TF, b, *theirs) * torch.tensor(cube)) ** 2).sum(), b, create_graph=True
    )
    equal(g, h)
    again = zip(
        tinycv.grad((g**2).sum(), [a, ours[0]]),
        torch.autograd.grad((h**2).sum(), [b, theirs[0]]),
        strict=True,
    )
    for mine, other in again:
        scale = np.abs(other.numpy()).max()
        assert (
            np.abs(mine.numpy() - other.numpy()).max()
            <= {"float32": 2e-4, "float64": 1e-10}[dtype] * scale
        )


def test_the_functional_batch_norm_takes_running_statistics(dtype):
    (mean, mean_), (var, var_) = (
        [Tensor(a.astype(dtype)), torch.tensor(a.astype(dtype))] for a in (BIAS, WEIGHT**2)
    )
    F.batch_norm(Tensor(IMAGES.astype(dtype)), mean, var, training=True, momentum=0.25)
    TF.batch_norm(torch.tensor(IMAGES.astype(dtype)), mean_, var_, training=True, momentum=0.25)
    equal(mean, mean_)
    equal(var, var_)
