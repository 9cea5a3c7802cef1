"""Dtypes and devices: float32 stays float32; a gradient has the dtype and device of its input."""

from __future__ import annotations

import numpy as np
import pytest

from tinycv import Tensor, grad
from tinycv.certificate.cases import cases, names
from tinycv.engine import backward, ops


def leaf(data, device="cpu", dtype="float64"):
    return Tensor(np.array(data), dtype=dtype, device=device, requires_grad=True)


@pytest.mark.parametrize("name", [n for n in names() if n != "astype"])
def test_float32_stays_float32_in_every_forward_and_backward_step(name, device, monkeypatch):
    widened, send = [], backward.add_piece

    def watched(piece, parent, *rest):
        if not callable(piece) and piece.dtype != parent.dtype:
            widened.append((name, piece.dtype))
        send(piece, parent, *rest)

    monkeypatch.setattr(backward, "add_piece", watched)
    for case in cases(name):
        inputs = [
            Tensor(x, dtype="float32" if x.dtype.kind == "f" else None, device=device)
            for x in case.inputs
        ]
        leaves = [x for x in inputs if x.dtype.kind == "f"]
        for x in leaves:
            x.requires_grad = True
        result = case.call(*inputs)
        for y in result if isinstance(result, (list, tuple)) else [result]:
            assert y.dtype.kind != "f" or y.dtype == np.float32
            if y.requires_grad:
                weight = Tensor(np.ones(y.shape, np.float32), device=y.device)
                gradients = grad(y, leaves, weight, retain_graph=True, allow_unused=True)
                assert all(g.dtype == np.float32 for g in gradients if g is not None)
    assert not widened


@pytest.mark.parametrize("scalar", [2.0, 2, np.float64(2), np.float32(2), np.int64(2)])
def test_a_scalar_of_any_kind_does_not_widen_float32(scalar, device):
    x = leaf([1.0, 4.0], device, "float32")
    results = [
        x * scalar,
        scalar * x,
        x / scalar,
        scalar / x,
        x + scalar,
        scalar - x,
        x**scalar,
        scalar**x,
        ops.maximum(x, scalar),
        ops.where(x > scalar, x, scalar),
        x.clip(scalar, None),
    ]
    assert {y.dtype for y in results} == {np.dtype(np.float32)}
    for y in results:
        assert grad(y.sum(), x)[0].dtype == np.float32


@pytest.mark.parametrize("mask", ["float32", "float64", "float16", "int64", "bool"])
def test_the_dtype_of_a_mask_does_not_affect_the_result(mask, device):
    c = Tensor(np.array([1, 0]), dtype=mask, device=device)
    assert ops.where(c, 0.5, 2).dtype == np.float32
    assert ops.where(c, 0.5, np.int64(2)).dtype == np.float32
    assert ops.where(c, leaf([1.0, 2.0], device, "float32"), 2.0).dtype == np.float32


def test_each_leaf_gets_its_own_dtype_back(device):
    a, b = leaf([[1.0, 2.0]], device, "float32"), leaf([[3.0], [4.0]], device, "float64")
    for y in (a * b, b @ a, ops.maximum(a, b), ops.concatenate(a, b.reshape(1, 2))):
        assert y.dtype == np.float64
        da, db = grad(y.sum(), (a, b))
        assert (da.dtype, db.dtype, da.shape, db.shape) == (np.float32, np.float64, (1, 2), (2, 1))


def test_the_gradient_of_astype_has_the_dtype_of_the_input(device):
    for source, target in (("float32", "float64"), ("float64", "float32")):
        x = leaf([1.0, 2.0], device, source)
        (x.to(target) ** 2).sum().backward()
        assert x.grad.dtype == source and x.grad.numpy().tolist() == [2, 4]


def test_a_gradient_is_on_the_device_of_its_input(device):
    x = leaf([1.0, 2.0], "cpu")
    y = x.to(device)
    (y * y).sum().backward()
    assert y.device == device and x.grad.device == "cpu" and x.grad.numpy().tolist() == [2, 4]
