"""The double of CuPy behaves as real CuPy does: both get the same calls and must return the same.

On a machine without a GPU the calls go to the double twice, to show that the calls themselves work.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import cupy_double
import numpy as np
import pytest
from conftest import REAL_GPU
from cupy_double.trace import MODULES, Call, Host, difference, traced

sys.path.insert(0, str(Path(__file__).parents[2]))

import tinycv
from benchmarks import contenders, tasks
from tinycv import Tensor
from tinycv.certificate import cases
from tinycv.engine import backend

TASKS = {
    "MLP": tasks.Mlp(4, (6, 5, 3)),
    "LSTM": tasks.Lstm(3, 3, 2, 4, 3),
    "Transformer": tasks.Transformer(2, 4, 8, 2, 8, 1, 5),
    "ViT": tasks.Vit(2, 4, 2, 8, 2, 1, 3),
    "LeNet": tasks.LeNet(2, (2, 3)),
    "GAN": tasks.Gan(2, 3, 2),
    "U-Net": tasks.UNet(2, 4, 8),
    "score, second order": tasks.Score(3, 4),
}
TRUE = {name: importlib.import_module(name) for name in MODULES} if REAL_GPU else {}
KINDS = ["training steps", "ops and pairs", "second order"]


def asked(kind: str) -> list[Call]:
    """What these parts of tinycv ask of CuPy."""
    cupy_double.install()
    backend.forget_probe()
    try:
        backend.resolve("gpu")
        with traced() as calls:
            if kind == "training steps":
                for task in TASKS.values():
                    work = contenders.by_tinycv(task, True, device="gpu:0", wait=False)
                    work(), work()
            else:
                for name in cases.names():
                    for case in cases.cases(name):
                        there_and_back(case, second=kind == "second order")
        return calls
    finally:
        cupy_double.uninstall()
        backend.forget_probe()


def there_and_back(case, second):
    inputs = [Tensor(x, device="gpu", requires_grad=x.dtype.kind == "f") for x in case.inputs]
    y = case.call(*inputs)
    ys = [y for y in (y if isinstance(y, tuple | list) else [y]) if y.requires_grad]
    wanted = [x for x in inputs if x.requires_grad]
    if not ys or not wanted:
        return
    found = tinycv.grad(
        ys, wanted, [tinycv.ones_like(y) for y in ys], create_graph=second, allow_unused=True
    )
    if second and (smooth := [g for g in found if g is not None and g.requires_grad]):
        tinycv.grad(smooth, wanted, [tinycv.ones_like(g) for g in smooth], allow_unused=True)


@pytest.mark.parametrize("kind", KINDS)
def test_cupy_and_the_double_give_the_same_results(kind):
    calls = asked(kind)
    assert len(calls) > 100
    if TRUE:
        problems = [f"{call} {problem}" for call in calls if (problem := difference(call, TRUE))]
    else:
        modules = {name: sys.modules[name] for name in installed()}
        problems = [f"{call} {problem}" for call in calls if (problem := difference(call, modules))]
        cupy_double.uninstall()
    assert not problems, f"{len(problems)} of {len(calls)} calls:\n" + "\n".join(problems[:60])


def installed():
    cupy_double.install()
    return MODULES


def test_a_wrong_result_of_the_double_is_detected():
    """A result of another value, dtype or shape, an error in place of a result, and the other way
    round."""
    modules = {name: None for name in installed()} | {"cupy": sys.modules["cupy"]}
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    true = Call("cupy", "sum", (Host(x),), {"axis": 0}, Host(x.sum(0)), (Host(x),), None)
    assert difference(true, modules) == ""
    for lie in (Host(x.sum(0) + 1), Host(x.sum(0).astype("float64")), Host(x.sum(0)[:2]), 3.0):
        assert "the double" in difference(true._replace(result=lie), modules)
    assert "where the double raised TypeError" in difference(
        true._replace(error=TypeError), modules
    )
    assert "raised TypeError" in difference(true._replace(words={"no": 1}), modules)
    changed = Call("ndarray", "__iadd__", (Host(x), 1), {}, Host(x + 1), (Host(x), 1), None)
    assert "left argument 0 otherwise" in difference(changed, modules)
    cupy_double.uninstall()
