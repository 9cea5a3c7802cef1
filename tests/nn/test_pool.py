"""Pooling: the maximum or the mean of each window."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, nn
from tinycv.certificate.families import ladder
from tinycv.engine.check import certify
from tinycv.nn.functional import avg_pool2d, max_pool2d

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "pool, expected", [(max_pool2d, [[5, 7], [13, 15]]), (avg_pool2d, [[2.5, 4.5], [10.5, 12.5]])]
)
def test_four_pixels_become_one(device, pool, expected):
    x = Tensor(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), device=device)
    assert pool(x, 2).numpy()[0, 0].tolist() == expected


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.MaxPool2d(2), (2, 3, 3, 2)),
        (nn.MaxPool2d(3, 2, 1), (2, 3, 4, 3)),
        (nn.AvgPool2d((2, 5), (1, 2), (1, 2)), (2, 3, 8, 3)),
        (nn.AvgPool2d(1), (2, 3, 7, 5)),
    ],
    ids=["halves", "overlapping", "pairs", "one pixel"],
)
def test_pooling_gives_the_sizes_of_a_convolution(layer, shape):
    assert layer(tinycv.ones(2, 3, 7, 5)).shape == shape


def test_padding_is_never_the_maximum_and_counts_in_the_mean(device):
    x = tinycv.full((1, 1, 2, 2), -1.0, device=device)
    assert (max_pool2d(x, 2, 2, 1).numpy() == -1).all()
    assert (avg_pool2d(x, 2, 2, 1).numpy() == -0.25).all()


def test_kernel_and_definition_agree_on_the_mean_of_integers(device):
    x = Tensor(np.arange(16).reshape(1, 1, 4, 4), device=device)
    kernel, definition = avg_pool2d(x, 2), avg_pool2d.definition(x, 2)
    assert kernel.dtype == definition.dtype and np.array_equal(kernel.numpy(), definition.numpy())


def test_the_maximum_gets_the_gradient_and_ties_share_it(device):
    x = Tensor(np.array([[[[1.0, 2, 4, 4], [0, 1, 3, 3]]]]), device=device, requires_grad=True)
    max_pool2d(x, 2).sum().backward()
    assert x.grad.numpy()[0, 0].tolist() == [[0, 1, 0.5, 0.5], [0, 0, 0, 0]]


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (1, 2), "stride": (2, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [2, 0])
def test_pooling_is_certified(device, pool, options, n):
    certify(partial(pool, **options), ladder(RNG, n, 2, 5, 4), device=device)


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((3, 4, 4), {"kernel_size": 2}, r"x of shape \(3, 4, 4\).*four axes"),
        (
            (1, 3, 4, 4),
            {"kernel_size": 2, "padding": 2},
            r"window \(2, 2\), padding 2.*at most half",
        ),
        ((1, 3, 4, 4), {"kernel_size": 5}, r"\(5, 5\).*\(4, 4\)"),
        ((1, 3, 4, 4), {"kernel_size": 0}, "kernel_size is 0"),
        ((1, 3, 4, 4), {"kernel_size": 2, "stride": 0}, "stride is 0"),
    ],
)
@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
def test_pooling_names_what_does_not_fit(pool, shape, options, message):
    with pytest.raises(ValueError, match=message):
        pool(tinycv.ones(*shape), **options)
