"""Every row of the derivative table compared with PyTorch: values, gradients, dtypes, and the
conventions at corners."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, equal, twins

import tinycv
from tinycv.engine import ops
from tinycv.engine.record import OPS

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
ROW, COLUMN, CUBE = RNG.normal(size=4), RNG.normal(size=(3, 1)), RNG.normal(size=(2, 3, 4))
POSITIVE = np.abs(Z) + 0.5
TIES = np.array([[2.0, 1, 2, 0], [0, 0, 0, 0], [-1, 3, 3, 3]])
BOOL, OTHER = X > 0, Z > 0
IDS = np.array([2, 0, 2])
A, C = RNG.normal(size=(2, 1, 3, 4)), RNG.normal(size=(5, 4, 2))

# name of the op, with a remark if it has several entries: (tinycv's function, PyTorch's, inputs)
SMOOTH = {
    "add": (ops.add, torch.add, [X, ROW]),
    "sub": (ops.sub, torch.sub, [X, COLUMN]),
    "sub: number first": (lambda x: 2.5 - x, lambda x: 2.5 - x, [X]),
    "mul": (ops.mul, torch.mul, [COLUMN, ROW]),
    "mul: an input twice": (lambda x: x * x * x, lambda x: x * x * x, [X]),
    "mul: of a number": (ops.mul, torch.mul, [np.array(1.5), CUBE]),
    "div": (ops.div, torch.div, [X, POSITIVE]),
    "div: number first": (lambda x: 2.5 / x, lambda x: 2.5 / x, [POSITIVE]),
    "neg": (ops.neg, torch.neg, [X]),
    "remainder": (ops.remainder, torch.remainder, [X, POSITIVE]),
    "power": (ops.power, torch.pow, [POSITIVE, X]),
    "power: number first": (lambda x: 2.5**x, lambda x: 2.5**x, [X]),
    "pow": (lambda x: x**3, lambda x: x**3, [X]),
    "pow: root": (lambda x: x**-0.5, lambda x: x**-0.5, [POSITIVE]),
    "exp": (ops.exp, torch.exp, [X]),
    "expm1": (ops.expm1, torch.expm1, [X]),
    "log": (ops.log, torch.log, [POSITIVE]),
    "log1p": (ops.log1p, torch.log1p, [POSITIVE]),
    "sqrt": (ops.sqrt, torch.sqrt, [POSITIVE]),
    "tanh": (ops.tanh, torch.tanh, [X]),
    "sigmoid": (ops.sigmoid, torch.sigmoid, [X]),
    "sigmoid: far out": (ops.sigmoid, torch.sigmoid, [np.array([-200.0, -30, 30, 200])]),
    "softplus": (ops.softplus, torch.nn.functional.softplus, [X]),
    "erf": (ops.erf, torch.erf, [3 * X]),
    "sin": (ops.sin, torch.sin, [X]),
    "cos": (ops.cos, torch.cos, [X]),
    "relu": (ops.relu, torch.relu, [X]),
    "abs": (ops.abs, torch.abs, [X]),
    "where": (
        lambda x, z: ops.where(BOOL, x, z),
        lambda x, z: torch.where(torch.tensor(BOOL), x, z),
        [X, COLUMN],
    ),
    "where: a number": (
        lambda x: ops.where(BOOL, x, 0.5),
        lambda x: torch.where(torch.tensor(BOOL), x, 0.5),
        [X],
    ),
    "maximum": (ops.maximum, torch.maximum, [X, ROW]),
    "minimum": (ops.minimum, torch.minimum, [X, ROW]),
    "clip": (lambda x: ops.clip(x, -0.5, 0.8), lambda x: torch.clamp(x, -0.5, 0.8), [X]),
    "clip: below only": (lambda x: ops.clip(x, 0.1), lambda x: torch.clamp(x, 0.1), [X]),
    "sum": (ops.sum, torch.sum, [X]),
    "sum: two axes": (lambda x: x.sum(axis=(0, -1)), lambda x: x.sum((0, -1)), [CUBE]),
    "sum: keepdims": (
        lambda x: x.sum(axis=1, keepdims=True),
        lambda x: x.sum(1, keepdim=True),
        [CUBE],
    ),
    "mean": (ops.mean, torch.mean, [X]),
    "mean: axes": (lambda x: x.mean(axis=(0, 2)), lambda x: x.mean((0, 2)), [CUBE]),
    "var": (ops.var, lambda x: torch.var(x, correction=0), [X]),
    "var: sample": (lambda x: x.var(axis=1, ddof=1), lambda x: x.var(1), [CUBE]),
    "max": (lambda x: x.max(axis=-1), lambda x: x.amax(-1), [CUBE]),
    "min": (lambda x: x.min(axis=(0, 1)), lambda x: x.amin((0, 1)), [CUBE]),
    "logsumexp": (lambda x: x.logsumexp(axis=1), lambda x: x.logsumexp(1), [CUBE]),
    "logsumexp: large": (lambda x: x.logsumexp(), lambda x: x.logsumexp((0, 1, 2)), [1e3 * CUBE]),
    "norm": (ops.norm, torch.linalg.vector_norm, [X]),
    "norm: axes": (
        lambda x: x.norm(axis=(1, 2), keepdims=True),
        lambda x: torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True),
        [CUBE],
    ),
    "cumsum": (lambda x: x.cumsum(axis=1), lambda x: x.cumsum(1), [CUBE]),
    "reshape": (lambda x: x.reshape(4, 6), lambda x: x.reshape(4, 6), [CUBE]),
    "transpose": (lambda x: x.transpose(2, 0, 1), lambda x: x.permute(2, 0, 1), [CUBE]),
    "transpose: all": (lambda x: x.T, lambda x: x.permute(2, 1, 0), [CUBE]),
    "swapaxes": (lambda x: x.swapaxes(0, -1), lambda x: x.swapaxes(0, -1), [CUBE]),
    "expand": (lambda x: x.expand(2, 3, 5), lambda x: x.expand(2, 3, 5), [COLUMN]),
    "squeeze": (lambda x: x.squeeze(1), lambda x: x.squeeze(1), [COLUMN]),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(-1), [X]),
    "flip": (lambda x: ops.flip(x, (0, 2)), lambda x: x.flip((0, 2)), [CUBE]),
    "pad": (
        lambda x: ops.pad(x, ((0, 0), (1, 2)), 0.5),
        lambda x: torch.nn.functional.pad(x, (1, 2), value=0.5),
        [X],
    ),
    "getitem": (lambda x: x[:, 1, ::2], lambda x: x[:, 1, ::2], [CUBE]),
    "getitem: repeated rows": (lambda x: x[IDS], lambda x: x[torch.tensor(IDS)], [X]),
    "getitem: pairs": (lambda x: x[IDS, [1, 1, 1]], lambda x: x[torch.tensor(IDS), [1, 1, 1]], [X]),
    "getitem: mask": (lambda x: x[BOOL], lambda x: x[torch.tensor(BOOL)], [X]),
    "getitem: mixed": (
        lambda x: x[..., None, IDS],
        lambda x: x[..., None, torch.tensor(IDS)],
        [CUBE],
    ),
    "scatter": (
        lambda x: ops.scatter(x, index=IDS, shape=(5, 4)),
        lambda x: torch.zeros(5, 4, dtype=x.dtype).index_add(0, torch.tensor(IDS), x),
        [X],
    ),
    "concatenate": (
        lambda x, z: tinycv.concatenate([x, z, x], axis=1),
        lambda x, z: torch.cat([x, z, x], 1),
        [X, COLUMN],
    ),
    "stack": (
        lambda x, z: tinycv.stack([x, z], axis=-1),
        lambda x, z: torch.stack([x, z], -1),
        [X, Z],
    ),
    "alias": (ops.alias, torch.clone, [X]),
    "astype": (lambda x: x.astype(np.float64), lambda x: x.double(), [X]),
    "to": (lambda x: x.to("cpu"), lambda x: x.to("cpu"), [X]),
    "matmul": (tinycv.matmul, torch.matmul, [X, RNG.normal(size=(4, 5))]),
    "matmul: vectors": (tinycv.matmul, torch.matmul, [ROW, Z[0]]),
    "matmul: vector first": (tinycv.matmul, torch.matmul, [ROW, C]),
    "matmul: vector last": (tinycv.matmul, torch.matmul, [CUBE, ROW]),
    "matmul: many by one": (tinycv.matmul, torch.matmul, [CUBE, C[0]]),
    "matmul: one by many": (tinycv.matmul, torch.matmul, [X, C]),
    "matmul: broadcast": (tinycv.matmul, torch.matmul, [A, C]),
    "einsum": (
        lambda *xs: tinycv.einsum("bij,jk->bik", *xs),
        lambda *xs: torch.einsum("bij,jk->bik", *xs),
        [CUBE, C[0]],
    ),
    "einsum: three": (
        lambda *xs: tinycv.einsum("bij,kj,i->bk", *xs),
        lambda *xs: torch.einsum("bij,kj,i->bk", *xs),
        [CUBE, X, RNG.normal(size=3)],
    ),
    "einsum: a letter summed in one": (
        lambda *xs: tinycv.einsum("ij,kl->i", *xs),
        lambda *xs: torch.einsum("ij,kl->i", *xs),
        [X, C[0]],
    ),
    "einsum: diagonal": (
        lambda x: tinycv.einsum("bii->bi", x),
        lambda x: torch.einsum("bii->bi", x),
        [RNG.normal(size=(2, 3, 3))],
    ),
    "einsum: dots": (
        lambda *xs: tinycv.einsum("...ij,...jk->...ik", *xs),
        lambda *xs: torch.einsum("...ij,...jk->...ik", *xs),
        [A, C],
    ),
}

STEPS = {
    "equal": (ops.equal, torch.eq, [TIES, np.zeros(4)]),
    "not_equal": (ops.not_equal, torch.ne, [TIES, np.zeros(4)]),
    "greater": (ops.greater, torch.gt, [TIES, np.zeros(4)]),
    "greater_equal": (ops.greater_equal, torch.ge, [TIES, np.zeros(4)]),
    "less": (ops.less, torch.lt, [TIES, np.zeros(4)]),
    "less_equal": (ops.less_equal, torch.le, [TIES, np.zeros(4)]),
    "logical_and": (ops.logical_and, torch.logical_and, [BOOL, OTHER]),
    "logical_or": (ops.logical_or, torch.logical_or, [BOOL, OTHER]),
    "logical_not": (ops.logical_not, torch.logical_not, [BOOL]),
    **{
        name: (getattr(ops, name), getattr(torch, name), [BOOL, OTHER])
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
    },
    "bitwise_not": (ops.bitwise_not, torch.bitwise_not, [BOOL]),
    "sign": (ops.sign, torch.sign, [TIES]),
    "floor_divide": (ops.floor_divide, torch.floor_divide, [TIES, POSITIVE]),
    "truncate": (lambda x: x.astype("int64"), lambda x: x.to(torch.int64), [3 * X]),
    "any": (lambda x: ops.any(x, axis=1), lambda x: x.any(1), [TIES]),
    "all": (lambda x: ops.all(x, axis=1), lambda x: x.all(1), [TIES]),
    "isfinite": (ops.isfinite, torch.isfinite, [np.array([0, np.inf, -np.inf, np.nan])]),
    "argmax": (lambda x: x.argmax(axis=1), lambda x: x.argmax(1), [X]),
    "argmax: all": (ops.argmax, torch.argmax, [X]),
    "argmin": (lambda x: x.argmin(axis=0), lambda x: x.argmin(0), [X]),
}

ZEROS = np.zeros((2, 3))
CORNERS = {
    "relu at 0": (ops.relu, torch.relu, [TIES]),
    "abs at 0": (ops.abs, torch.abs, [TIES]),
    "clip at its bounds": (lambda x: ops.clip(x, 0, 2), lambda x: torch.clamp(x, 0, 2), [TIES]),
    "maximum of equals": (ops.maximum, torch.maximum, [TIES, np.array([2.0, 0, 3, 0])]),
    "minimum of equals": (ops.minimum, torch.minimum, [TIES, np.array([2.0, 0, 3, 0])]),
    "max over ties": (lambda x: x.max(axis=1), lambda x: x.amax(1), [TIES]),
    "max over ties of all": (lambda x: x.max(), lambda x: x.amax(), [TIES]),
    "min over ties": (
        lambda x: x.min(axis=0, keepdims=True),
        lambda x: x.amin(0, keepdim=True),
        [TIES],
    ),
    "norm at 0": (lambda x: x.norm(axis=1), lambda x: torch.linalg.vector_norm(x, dim=1), [TIES]),
    "sqrt at 0": (ops.sqrt, torch.sqrt, [np.abs(TIES)]),
    "0 ** 0": (lambda x: x**0, lambda x: x**0, [TIES]),
    "0 ** 1": (lambda x: x**1, lambda x: x**1, [TIES]),
    "0 ** 2": (lambda x: x**2, lambda x: x**2, [TIES]),
    "0 ** 0.5": (lambda x: x**0.5, lambda x: x**0.5, [np.abs(TIES)]),
    "0 ** b, by both": (ops.power, torch.pow, [ZEROS, np.array([0.0, 1, 2])]),
    "negative ** whole": (ops.power, torch.pow, [X, np.array([0.0, 1, 2, 3])]),
    "sum of nothing": (lambda x: x.sum(axis=0), lambda x: x.sum(0), [np.zeros((0, 3))]),
    "log at 0": (ops.log, torch.log, [np.abs(TIES)]),
    "std of equals": (lambda x: x.std(axis=1), lambda x: torch.std(x, 1, correction=0), [ZEROS]),
}


def test_every_row_of_the_table_is_compared():
    # all_reduce sums over shards (torch.distributed in PyTorch): tests/training/test_parallel.py
    ours = {"all_reduce"}
    assert {name.partition(":")[0] for name in (*SMOOTH, *STEPS)} == set(OPS) - ours


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_the_value_gradient_and_dtype_of_an_op_match_pytorch(name, dtype):
    agree(*SMOOTH[name], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STEPS)
def test_the_values_of_an_op_without_derivative_match_pytorch(name, dtype):
    ours, theirs, inputs = STEPS[name]
    pairs = [twins(x, dtype) for x in inputs]
    equal(ours(*(a for a, _ in pairs)), theirs(*(b for _, b in pairs)))


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CORNERS)
def test_the_derivative_at_a_corner_matches_pytorch(name, dtype):
    agree(*CORNERS[name], dtype)


def test_a_row_of_minus_infinities_has_derivative_zero_while_logsumexp_of_pytorch_gives_nan():
    ours, theirs = twins(np.full((2, 3), -np.inf), "float32")
    y, z = ours.logsumexp(axis=1), theirs.logsumexp(1)
    equal(y, z)
    y.sum().backward()
    z.sum().backward()
    assert (ours.grad.numpy() == 0).all()
    assert theirs.grad.isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_second_derivative_matches_pytorch(dtype):
    (x, theirs) = twins(X, dtype)
    y, z = (x.tanh() * x.exp()).norm(axis=1).sum(), (theirs.tanh() * theirs.exp()).norm(dim=1).sum()
    (g,), (h,) = (
        tinycv.grad(y, x, create_graph=True),
        torch.autograd.grad(z, theirs, create_graph=True),
    )
    equal(g, h)
    equal(*tinycv.grad((g * g).sum(), x), *torch.autograd.grad((h * h).sum(), theirs))
