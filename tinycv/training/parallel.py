"""All cores at one batch: each thread computes the loss and the gradient of its share of the
examples.

    with parallel.threads() as group:                   # as many as there are cores to use
        for images, labels in loader:
            optimizer.zero_grad()
            group.backward(lambda x, y: cross_entropy(model(x), y), images, labels)
            optimizer.step()
        scores = group.map(model, images)

The loss of N examples is a mean, so it is the shards' losses L_i, of n_i examples each, weighted:

    L = Σ_i (n_i / N) L_i            and so is its gradient:          dL/dw = Σ_i (n_i / N) dL_i/dw

The sum has always the same order, that of the shards: two runs give the same bits, whichever thread
was faster.  The result differs from that of the whole batch by rounding alone, and, of course, by
other random numbers in dropout.

BLAS can use all cores too, and does where nobody stops it, but only inside one product of matrices;
what lies between two products then has one core.  Shards keep all cores at work all the time; while
a group is open, BLAS has one thread in each.   How shards speak to each other: engine/shards.py.
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

MOST = 1024  # most threads per group


def threads(size: int | None = None) -> Group:
    """Open a group of ``size`` threads (None: one for each core that this process may use). Close
    it after use, or open it in a ``with``. A group that is open when the process forks serves both
    processes."""
    return Group(cores() if size is None else size)


def cores() -> int:
    """How many cores this process may use: those of the machine, or fewer in a container or under
    taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OneThreadOfBlas:
    """BLAS has one thread while any group of the process is open; then it has again what it had
    before the first."""

    def __init__(self) -> None:
        self.open = 0
        self.before: Any = None
        # of this kind, as a dropped group may end inside of it
        self.lock = RLock()

    def enter(self) -> None:
        # imported here, so that it is only needed once a group opens
        from threadpoolctl import threadpool_limits

        with self.lock:
            if self.open == 0:
                # looks through all loaded libraries
                self.before = threadpool_limits(limits=1, user_api="blas")
            self.open += 1

    def leave(self) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0:
                self.before.restore_original_limits()


_blas = OneThreadOfBlas()


class Group:
    """Threads that share out a batch. It may be used by one thread at a time, and not inside a
    shard.

    ``close`` ends them. So does dropping the group, whenever Python collects it.
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
        self._end.atexit = False  # a program that ends needs nothing back

    def _run(self, works: list[Callable], weights: list[float] | None = None) -> list[Any]:
        """The crew's results. What layers keep (running statistics) is put back if one of the works
        fails."""
        if not self._end.alive:
            raise RuntimeError(
                "this group of threads is closed: open another one, with parallel.threads()"
            )
        state.refuse_in_checkpoint("a batch cannot be split among threads")
        with state.kept_if_done():
            return self._crew.run(works, weights)

    def backward(
        self, loss_of: Callable[..., Tensor], *batch: Tensor | np.ndarray, reduction: str = "mean"
    ) -> Tensor:
        """As ``loss = loss_of(*batch); loss.backward()``, by all threads. Returns the loss, without
        history.

        batch: arrays and Tensors on the CPU, equally long along axis 0, where they are cut into
        nearly equal parts (views). loss_of(*parts) is called in each thread, and returns one
        number: the mean over its examples or, with reduction="sum", their sum. cross_entropy's own
        mean is over the rows that count in the whole batch (ignore_index). A mean that loss_of
        takes itself over rows that it selects needs "sum", and one number to divide by. Raises what
        loss_of raised in the first shard that failed; ``.grad``, and what layers keep, are then as
        they were.
        """
        arguments.choice(reduction, "Group.backward: reduction", ("mean", "sum"))
        arguments.function(loss_of, "Group.backward: loss_of")
        parts = list(shares(batch, self.size, "Group.backward"))
        total = sum(n for n, _ in parts)
        mean = reduction == "mean" and total
        weights = [n / total if mean else 1.0 for n, _ in parts]
        done = self._run(
            [
                partial(_there_and_back, loss_of, part, w)
                for (_, part), w in zip(parts, weights, strict=True)
            ],
            weights if mean else None,
        )
        with no_grad():
            accumulate(_summed([gradients for _, gradients in done]))
        return wrap(sum(loss * w for (loss, _), w in zip(done, weights, strict=True)), None)

    def map(self, function: Callable[..., Tensor], *batch: Tensor | np.ndarray) -> Tensor:
        """As ``function(*batch)``, by all threads and without recording: a result for each example,
        joined along axis 0."""
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
                        f"Group.map: of {n} examples the function made {found}; it must be a "
                        f"Tensor with {n} rows"
                    )
            return concatenate(results) if len(results) > 1 else results[0]

    def close(self) -> None:
        """End the threads, and give BLAS back those that it had."""
        if self._end.alive:
            self._crew.close()
            self._end()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(crew: Crew) -> None:
    """What is left of a group that was closed or dropped."""
    crew.dismiss()
    _blas.leave()


def shares(batch: tuple, size: int, caller: str = "shares") -> Iterator[tuple[int, list]]:
    """(number of examples, the parts of each array) for each shard: ``size`` of them, or one per
    example if those are fewer. No part is copied."""
    for i, x in enumerate(batch):
        refuse_what_has_no_rows(x, f"{caller}: argument {i} of the batch")
    lengths = [len(x) for x in batch]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"{caller}: a batch needs one array at least"
            if not batch
            else f"{caller}: the arrays of a batch must be equally long, but have {lengths} "
            "examples"
        )
    n = lengths[0]
    size = max(1, min(size, n))
    ends = [i * n // size for i in range(size + 1)]
    for start, end in zip(ends, ends[1:], strict=False):
        yield end - start, [x if size == 1 else _rows(x, start, end) for x in batch]


def refuse_what_has_no_rows(x: Any, what: str) -> None:
    """TypeError or ValueError for what cannot be shared out along axis 0."""
    if not isinstance(x, (Tensor, np.ndarray)) and backend.array_module(x) is np:
        raise TypeError(
            f"{what} is of type {type(x).__name__}: only arrays and Tensors can be shared out. "
            "What is the same for all examples belongs inside the function"
        )
    if isinstance(x, np.ndarray):
        # masked arrays, texts, dates and objects end at the door
        as_array(x, what=what)
    if isinstance(x, Tensor) and x._node not in (None, LEAF):
        raise ValueError(
            f"{what}, of shape {x.shape}, was computed by a recorded op: threads cannot walk one "
            "graph together. Compute it inside the function, or detach() it"
        )
    if not x.ndim:
        raise TypeError(f"{what} is a single number: it has no axis 0 to be shared out along")
    on_cpu(getattr(x, "_data", x), what)


def on_cpu(array: Any, what: str) -> None:
    """ValueError for an array on a GPU, with ``what`` it is in the message: threads would only
    queue for the device."""
    if (device := backend.device_of(array)) != "cpu":
        raise ValueError(
            f"{what} is on {device}: a GPU does its work side by side as it is, and is fed by one "
            "thread; call the function on the whole batch"
        )


def _rows(x: Any, start: int, end: int) -> Any:
    """A view; recorded where x collects a gradient, so that it arrives in x."""
    return (
        wrap(x._data[start:end], None)
        if isinstance(x, Tensor) and x._node is None
        else x[start:end]
    )


def _there_and_back(loss_of: Callable, part: list, weight: float) -> tuple[Any, dict]:
    """The loss of one shard, and its weighted gradients: nothing of it is seen by the other
    threads."""
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
    """The sums over all shards, in the shards' order, into the first one's memory."""
    total, *others = gradients
    for found in others:
        for leaf, g in found.items():
            if leaf in total:
                total[leaf]._data += g._data
            else:
                total[leaf] = g
    return total
