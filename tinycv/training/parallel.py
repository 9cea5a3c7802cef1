"""Data parallelism with threads: each core computes the loss and the gradient of its share of a
batch.

    with parallel.threads() as group:                   # as many as there are cores to use
        for images, labels in loader:
            optimizer.zero_grad()
            group.backward(lambda x, y: cross_entropy(model(x), y), images, labels)
            optimizer.step()
        scores = group.map(model, images)

The batch of N examples is cut into shards; shard i has n_i examples. The loss is a mean over the
examples, so it is the weighted sum of the shards' losses L_i, and so is its gradient:

    L = Σ_i (n_i / N) L_i                     dL/dw = Σ_i (n_i / N) dL_i/dw

The sum is always taken in the order of the shards, so two runs give the same bits, whichever thread
was faster. The result differs from that of the whole batch only by rounding, and because dropout
draws other random numbers.

BLAS uses all cores too, but only inside one matrix product; everything between two products then
runs on one core. Shards keep all cores busy all the time. While a group is open, BLAS is limited to
one thread per shard.
How layers such as batch norm exchange sums between shards: engine/shards.py.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from tinycv.engine import arguments, backend, state
from tinycv.engine.backward import accumulate, sweep
from tinycv.engine.crew import Crew
from tinycv.engine.methods import concatenate
from tinycv.engine.tensor import LEAF, Tensor, as_array, no_grad, wrap

MOST = 1024  # threads per group


def threads(size: int | None = None) -> Group:
    """Open a group of ``size`` threads (None: one for each core that this process may use). Close
    it after use, or open it in a ``with`` statement. If the process forks while a group is open,
    the group works in both processes."""
    return Group(cores() if size is None else size)


def cores() -> int:
    """How many cores this process may use: all cores of the machine, or fewer in a container or
    under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OneThreadOfBlas:
    """Limits BLAS to one thread while any group of the process is open, and restores the old limit
    when the last group closes."""

    def __init__(self) -> None:
        self.open = 0
        self.old_limits: Any = None
        # Reentrant: while this thread holds the lock, Python may collect a dropped group, which
        # calls ``leave`` in the same thread.
        self.lock = RLock()

    def enter(self) -> None:
        # imported here, because threadpoolctl is needed only if a group is opened
        from threadpoolctl import threadpool_limits

        with self.lock:
            if self.open == 0:
                # this call searches all loaded libraries for a BLAS
                self.old_limits = threadpool_limits(limits=1, user_api="blas")
            self.open += 1

    def leave(self) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0:
                self.old_limits.restore_original_limits()


_blas = OneThreadOfBlas()


class Group:
    """A group of threads among which a batch is split. Only one thread at a time may use a group,
    and not from inside a shard.

    ``close`` ends the threads. They also end when Python collects a group that is no longer used.
    """

    def __init__(self, size: int):
        self.size = arguments.size(size, "threads: size", 1)
        if self.size > MOST:
            raise ValueError(
                f"threads: size is {self.size}; it must be a whole number, at least 1 and at most "
                f"{MOST}"
            )
        self._crew = Crew(self.size)
        _blas.enter()
        self._end = weakref.finalize(self, _end, self._crew)
        self._end.atexit = False  # at the end of the program, nothing needs to be restored

    def _run(self, functions: list[Callable], weights: list[float] | None = None) -> list[Any]:
        """The results of the functions, each called in its own thread. If one fails, the buffers of
        the layers (running statistics) are restored."""
        if not self._end.alive:
            raise RuntimeError(
                "this group of threads is closed: open another one, with parallel.threads()"
            )
        state.refuse_in_checkpoint("a batch cannot be split among threads")
        with state.kept_if_done():
            return self._crew.run(functions, weights)

    def backward(
        self, loss_of: Callable[..., Tensor], *batch: Tensor | np.ndarray, reduction: str = "mean"
    ) -> Tensor:
        """Compute ``loss = loss_of(*batch); loss.backward()`` with all threads. Returns the loss,
        without a graph.

        batch: arrays and Tensors on the CPU, of equal length along axis 0, along which they are cut
        into nearly equal parts (views).
        loss_of(*parts) is called in each thread and returns one number: the mean over its examples
        or, with reduction="sum", their sum. The mean of cross_entropy is over all rows of the whole
        batch that count (ignore_index). If loss_of itself selects rows and averages over them, use
        "sum", and divide by one number that is the same for all shards.
        If loss_of fails, the exception of the first failing shard is raised; ``.grad`` and the
        buffers of the layers then stay as they were.
        """
        arguments.choice(reduction, "Group.backward: reduction", ("mean", "sum"))
        arguments.function(loss_of, "Group.backward: loss_of")
        parts = list(shares(batch, self.size, "Group.backward"))
        total = sum(n for n, _ in parts)
        mean = reduction == "mean" and total
        weights = [n / total if mean else 1.0 for n, _ in parts]
        results = self._run(
            [
                partial(_loss_and_gradients, loss_of, part, w)
                for (_, part), w in zip(parts, weights, strict=True)
            ],
            weights if mean else None,
        )
        with no_grad():
            accumulate(_summed([gradients for _, gradients in results]))
        return wrap(sum(loss * w for (loss, _), w in zip(results, weights, strict=True)), None)

    def map(self, function: Callable[..., Tensor], *batch: Tensor | np.ndarray) -> Tensor:
        """Compute ``function(*batch)`` with all threads, without recording. The function returns
        one result for each example; they are concatenated along axis 0."""
        arguments.function(function, "Group.map: function")
        parts = list(shares(batch, self.size, "Group.map"))
        with no_grad():
            results = self._run([partial(function, *part) for _, part in parts])
            for (n, _), y in zip(parts, results, strict=True):
                if not isinstance(y, Tensor) or y.shape[:1] != (n,):
                    found = (
                        f"a Tensor of shape {y.shape}"
                        if isinstance(y, Tensor)
                        else type(y).__name__
                    )
                    raise TypeError(
                        f"Group.map: of {n} examples the function made {found}; it must return a "
                        f"Tensor with {n} rows"
                    )
            return concatenate(results) if len(results) > 1 else results[0]

    def close(self) -> None:
        """End the threads, and restore the number of threads that BLAS had."""
        if self._end.alive:
            self._crew.close()
            self._end()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(crew: Crew) -> None:
    """Clean up after a group that was closed or collected."""
    crew.dismiss()
    _blas.leave()


def shares(batch: tuple, size: int, caller: str = "shares") -> Iterator[tuple[int, list]]:
    """(number of examples, the parts of all arrays) for each shard. There are ``size`` shards, or
    one per example if there are fewer examples. No part is copied."""
    for i, x in enumerate(batch):
        refuse_what_has_no_rows(x, f"{caller}: argument {i} of the batch")
    lengths = [len(x) for x in batch]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"{caller}: a batch needs at least one array"
            if not batch
            else f"{caller}: the arrays of a batch must have equal lengths, but have {lengths} "
            "examples"
        )
    n = lengths[0]
    size = max(1, min(size, n))
    ends = [i * n // size for i in range(size + 1)]
    for start, end in zip(ends, ends[1:], strict=False):
        yield end - start, [x if size == 1 else _rows(x, start, end) for x in batch]


def refuse_what_has_no_rows(x: Any, what: str) -> None:
    """TypeError or ValueError for anything that cannot be split along axis 0."""
    if not isinstance(x, (Tensor, np.ndarray)) and backend.array_module(x) is np:
        raise TypeError(
            f"{what} is of type {type(x).__name__}: only arrays and Tensors can be split. "
            "What is the same for all examples belongs inside the function"
        )
    if isinstance(x, np.ndarray):
        # refuses masked arrays, strings, dates and objects
        as_array(x, what=what)
    if isinstance(x, Tensor) and x._node not in (None, LEAF):
        raise ValueError(
            f"{what}, of shape {x.shape}, was computed by a recorded op: several threads cannot "
            "run backward through one graph. Compute it inside the function, or detach() it"
        )
    if not x.ndim:
        raise TypeError(f"{what} is a single number: it has no axis 0 along which to split it")
    on_cpu(getattr(x, "_data", x), what)


def on_cpu(array: Any, what: str) -> None:
    """ValueError for an array on a GPU: threads would only wait for each other at the device. what:
    the array's name in the message."""
    device = backend.device_of(array)
    if device != "cpu":
        raise ValueError(
            f"{what} is on {device}: a GPU already works in parallel, and one thread keeps it "
            "busy; call the function on the whole batch"
        )


def _rows(x: Any, start: int, end: int) -> Any:
    """A view of some rows. If x collects a gradient, the slice is recorded, so that the gradient
    reaches x."""
    return (
        wrap(x._data[start:end], None)
        if isinstance(x, Tensor) and x._node is None
        else x[start:end]
    )


def _loss_and_gradients(loss_of: Callable, part: list, weight: float) -> tuple[Any, dict]:
    """The loss of one shard, and its weighted gradients in a dict. ``.grad`` is not touched, so the
    threads do not write to shared memory."""
    loss = loss_of(*part)
    if not isinstance(loss, Tensor) or loss.size != 1:
        found = (
            f"a Tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        )
        raise TypeError(
            f"Group.backward: loss_of must return the loss, a Tensor of one number, not {found}"
        )
    on_cpu(loss._data, "Group.backward: the loss")
    return loss._data, sweep(
        [loss], [np.full_like(loss._data, weight)], None, keep=False, record=False
    )


def _summed(gradients: list[dict]) -> dict:
    """The sums over all shards, in the order of the shards. They are added up in the memory of the
    first shard's gradients."""
    total, *others = gradients
    for shard_gradients in others:
        for leaf, g in shard_gradients.items():
            if leaf in total:
                total[leaf]._data += g._data
            else:
                total[leaf] = g
    return total
