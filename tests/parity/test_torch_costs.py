"""The FLOPs that the benchmarks assume are those that PyTorch counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
# benchmarks is no part of the installed package
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks import models
from benchmarks.contenders import by_torch
from benchmarks.tasks import Lstm, Score, Task, Transformer


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "task",
    [t for t in models.TINY.values() if not isinstance(t, (Lstm, Transformer))],
    ids=lambda task: type(task).__name__,
)
def test_the_flops_are_those_that_pytorch_counts(task: Task, train: bool, monkeypatch):
    """Except for the LSTM, which PyTorch does not count, and causal attention, for which PyTorch
    counts twice what is needed."""
    # PyTorch's fast path runs a whole block as one op, which is not counted
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    # PyTorch also computes the gradient of x
    to_x = 2 * task.batch * 2 * task.hidden if isinstance(task, Score) and train else 0
    assert task.flops(train) + to_x == counted_by_torch(by_torch(task, train))


def counted_by_torch(work) -> int:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    counted = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if function._overloadpacket in flop_registry:
                result = function(*args, **kwargs)
                counted.append(
                    flop_registry[function._overloadpacket](*args, **kwargs, out_val=result)
                )
                return result
            # for an op that is composed of other ops, those are counted
            with self:
                result = function.decompose(*args, **kwargs)
            return function(*args, **kwargs) if result is NotImplemented else result

    # the flash kernel computes the scores again in the backward pass
    with sdpa_kernel(SDPBackend.MATH), Count():
        work()
    return sum(counted)
