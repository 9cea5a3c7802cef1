"""Group norm and batch norm: precision, running statistics, overflow, wrong arguments.

Derivatives are tested by the certificate, and equality with PyTorch in tests/parity.
"""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from near import near

from tinycv import Tensor, nn
from tinycv.certificate.cases import cases
from tinycv.engine.check import agree
from tinycv.engine.fused import PAIRS
from tinycv.nn import functional as F
from tinycv.nn import image_rows, norm

RNG = np.random.default_rng(0)
NORMS = {
    "group": lambda x: F.group_norm(x, 2),
    "batch": lambda x: F.batch_norm(x, None, None, training=True),
    "instance": F.instance_norm,
    "group, by definition": lambda x: PAIRS["group_norm"].definition(x, 2),
    "batch, by definition": lambda x: PAIRS["batch_standard"].definition(x, 8 * 36)[0],
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("far", [0.0, 1e3, -3e4])
def test_a_mean_far_from_0_costs_no_extra_precision_in_float32(name, far, device):
    x = (far + RNG.normal(size=(8, 4, 6, 6))).astype(np.float32)
    y = NORMS[name](Tensor(x, device=device)).numpy()
    exact = NORMS[name](Tensor(x.astype(np.float64))).numpy()  # of the same rounded numbers
    assert y.dtype == np.float32 and np.abs(y - exact).max() < 1e-5 + 4e-7 * abs(far)


@pytest.mark.parametrize("name", ["group", "batch", "instance"])
def test_the_gradient_of_large_numbers_is_that_of_small_ones_divided_by_their_scale(name):
    x, g = RNG.normal(size=(2, 8, 4, 6, 6)).astype(np.float32)
    slopes = []
    for scale in (np.float32(1), np.float32(1e17)):
        t = Tensor(x * scale, requires_grad=True)
        NORMS[name](t).backward(g)
        slopes.append(t.grad.numpy() * scale)
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-3, atol=1e-4)


def test_the_variance_of_a_group_of_a_million_numbers_is_exact_to_5_digits():
    """BLAS would add up its equal squares one after the other, each time with the same error."""
    x = np.full((1, 32, 1 << 15), 0.7, np.float32)
    x[..., ::2] *= -1
    assert np.abs(np.abs(F.group_norm(x, 1, eps=1e-12)) - 1).max() < 1e-5


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("block", [1, 70, 1 << 20])
def test_the_block_size_changes_only_the_rounding(block, channels_last, monkeypatch):
    def run():
        x, w, b = (Tensor(a, requires_grad=True) for a in (X, X[0, :, 0], X[1, :, 0]))
        results = [F.group_norm(x, 2, w, b), F.batch_norm(x, None, None, w, b, True)]
        (results[0] * results[1] ** 2).sum().backward()
        return [r.detach().numpy() for r in results] + [t.grad.numpy() for t in (x, w, b)]

    X = (
        RNG.normal(size=(7, 5, 4)).transpose(0, 2, 1)
        if channels_last
        else RNG.normal(size=(7, 4, 5))
    )
    whole = run()
    monkeypatch.setitem(image_rows.IMAGES, "size", block)
    for a, b in zip(run(), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("block", [1, 8, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_norm_in_blocks_of_rows_equals_its_definition(block, dtype, monkeypatch):
    monkeypatch.setattr(norm, "FEW", 1)
    monkeypatch.setattr(norm, "ROWS", block)
    pair = PAIRS["layer_norm"]
    for kernel, definition in zip(
        cases("layer_norm"), cases("layer_norm", pair.definition), strict=True
    ):
        inputs = [x.astype(dtype) for x in kernel.inputs]
        agree(kernel.call, definition.call, *inputs, name="layer_norm")


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
        (lambda: nn.BatchNorm2d(3), (2, 3, 2, 2)),
        (lambda: nn.BatchNorm1d(3).eval(), (4, 3)),
        (lambda: nn.BatchNorm1d(3, affine=False), (4, 3)),
    ],
)
def test_a_norm_layer_is_certified(layer, shape):
    certify_layer(layer(), RNG.normal(size=shape))


def test_running_statistics_become_those_of_the_data_and_are_used_in_evaluation(device):
    layer = nn.BatchNorm1d(2, momentum=0.5).to(device)
    x = Tensor((5 + 3 * RNG.normal(size=(64, 2))).astype(np.float32), device=device)
    for _ in range(30):
        y = layer(x)
    values = x.numpy()
    near(layer.running_mean.numpy(), values.mean(axis=0))
    near(layer.running_var.numpy(), values.var(axis=0, ddof=1))
    assert layer.num_batches_tracked.item() == 30 and layer.running_mean.device == device
    before = layer.running_mean.numpy().copy()
    # n - 1 instead of n
    np.testing.assert_allclose(layer.eval()(x).numpy(), y.numpy(), rtol=0.02, atol=0.02)
    assert (layer.running_mean.numpy() == before).all() and layer.num_batches_tracked.item() == 30


def test_buffers_are_saved_and_not_learned():
    layer = nn.BatchNorm2d(3)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert list(layer.state_dict()) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]
    assert list(nn.BatchNorm2d(3, affine=False, track_running_stats=False).state_dict()) == []


def test_without_running_statistics_the_batch_statistics_are_always_used():
    layer, x = nn.BatchNorm1d(2, track_running_stats=False), Tensor(RNG.normal(size=(9, 2)))
    assert (layer.eval()(x).numpy() == layer.train()(x).numpy()).all()


# of 4 channels; at once, by definition, and in layers
WHOLE = {
    "layer": F.layer_norm,
    "layer, by definition": PAIRS["layer_norm"].definition,
    **NORMS,
    "batch, by definition": lambda x: PAIRS["batch_standard"].definition(x, x.size // 4)[0],
    "batch, by running statistics": lambda x: F.batch_norm(
        x,
        Tensor(np.zeros(4, np.float32)).to(x.device),
        Tensor(
            np.where(np.isfinite(x.numpy().var(axis=(0, 2, 3))), 1, np.inf).astype(np.float32)
        ).to(x.device),
    ),
}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("far", [1e22, 1e30, 3e37])
def test_numbers_whose_squares_overflow_float32_become_nan_and_not_0(name, far, device):
    x = RNG.normal(size=(2, 4, 3, 2)).astype(np.float32)
    whole = WHOLE[name](Tensor(x, device=device)).numpy()
    assert np.isfinite(whole).all()
    where = (
        (0, slice(0, 1), 0)
        if "layer" in name
        else (0, slice(0, 2))
        if "group" in name
        else (slice(None), 0)
    )
    x[where] *= far
    leaf = Tensor(x, device=device, requires_grad=True)
    y = WHOLE[name](leaf)
    y.backward(Tensor(RNG.normal(size=y.shape).astype(np.float32), device=device))
    lost = np.zeros(x.shape, bool)
    lost[where] = True
    assert (np.isnan(y.numpy()) == lost).all() and np.isnan(leaf.grad.numpy()[lost]).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: F.batch_norm(Tensor(np.ones((1, 3))), None, None, training=True),
            r"shape \(1, 3\) has 1 value per channel",
        ),
        (lambda: F.group_norm(Tensor(np.ones((2, 5))), 2), "C a multiple of num_groups, 2"),
        (lambda: F.group_norm(Tensor(np.ones(4)), 2), r"must be \(N, C"),
        (lambda: nn.GroupNorm(2, 5), "num_channels 5 must be a multiple of num_groups 2"),
        (
            lambda: nn.BatchNorm2d(3)(Tensor(np.ones((2, 3)))),
            r"BatchNorm2d takes 4 axes, x has shape \(2, 3\)",
        ),
        (lambda: nn.BatchNorm1d(3)(Tensor(np.ones((2, 3, 4, 4)))), "takes 2 or 3 axes"),
        (
            lambda: nn.BatchNorm1d(3)(Tensor(np.ones((2, 4)))),
            "has 4 channels along axis 1; num_features is 3",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
