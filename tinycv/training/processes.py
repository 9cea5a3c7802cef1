"""Data parallelism with processes: each process computes the loss and the gradient of its share of
a batch.

The workers are forks of this process, and each process has a lock of its own: where threads wait
for each other between two calls of NumPy, processes do not.  The price is copying.  In each batch
the weights and the examples are copied into shared memory, and so are the losses and the gradients
of the workers (shared_memory.py).  The function itself is sent as bytes (sending.py).

    this process, shard 0                            a worker, shard 1, 2, ...
    make bytes of the function              ->       wake up
    copy weights and examples to shared memory
    send the function                       ->       make the function from its bytes
    compute the loss and the gradient                compute the loss and the gradient
    add up the losses and gradients         <-       copy both to shared memory
    calling_side.py                                  worker_side.py

The workers are forked at the first batch, and again if a function uses code that they do not have.
A batch that is interrupted (Ctrl-C, or a worker that is killed) ends all workers, and the next
batch forks new ones.  A worker ends when it can no longer read from this process, so no worker is
left behind, even if this process is killed.

What a function changes in Python objects (a list that it appends to, an array) changes in this
process for shard 0 alone; the other shards change copies, and each batch has new copies.  Only
weights, Tensors that collect a gradient, are not copied for each worker: a function must not change
them in place.  From a generator of random numbers each shard draws numbers of its own.  Layers
change their state through ``once`` (state.py), which works here too.
Read first: groups.py.  Read next: workers.py.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinycv.engine.blocks import one_thread_of_blas
from tinycv.engine.tensor import Tensor
from tinycv.training.groups import Group, Share, Step, checked_workers, only, summed
from tinycv.training.workers import Workers


class Processes(Group):
    """A group of processes: this one, which computes shard 0, and ``size - 1`` workers."""

    carrier = "processes"

    def __init__(self, size: int):
        self.size = checked_workers(size, self.carrier)
        if not hasattr(os, "fork"):
            raise RuntimeError(
                "processes: this system cannot fork a process, which parallel.processes needs: use "
                "parallel.threads()"
            )
        self._workers = Workers(self.size - 1)
        one_thread_of_blas.enter()
        self._end = weakref.finalize(self, _end, self._workers, os.getpid())

    def _gradients(self, step: Step) -> tuple[Any, dict]:
        if len(step.shares) == 1:  # this process computes it alone
            return summed([step.of_shard(0)], step.weights)
        parts = [share.arrays for share in step.shares]
        results = self._workers.run(step.loss_of, parts, step.weights, step.shard_weights)
        loss, gradients = summed(results, step.weights)
        return loss, only(gradients, step.inputs)

    def _results(self, function: Callable[..., Tensor], shares: list[Share]) -> list[Any]:
        if len(shares) == 1:
            return [function(*shares[0].arrays)]
        return self._workers.run(function, [share.arrays for share in shares])

    @contextmanager
    def _one_batch(self) -> Iterator[None]:
        with super()._one_batch(), self._workers.busy:
            yield

    def close(self) -> None:
        """End the processes, and restore the number of threads that BLAS had."""
        self._end()


def _end(workers: Workers, process: int) -> None:
    """Clean up after a group that was closed or collected, or at the end of the program."""
    if os.getpid() == process:
        workers.close()
        one_thread_of_blas.leave()
