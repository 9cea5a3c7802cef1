"""Data parallelism with threads: each thread of this process computes the loss and the gradient of
its share of a batch.

NumPy releases Python's global lock (the GIL) while it computes, so threads really run at the same
time, on one model in one memory: nothing is copied.  Between two calls of NumPy a thread waits for
the lock, so a model of many small operations gains little; processes.py has no lock in common.

Without a group, all cores share one matrix product (BLAS) or one long elementwise function
(engine/blocks.py) at a time, and whatever is too short to be shared runs on one core. Shards keep
all cores busy all the time. So while a group is open, BLAS is limited to one thread per shard, and
in a shard elementwise functions use one core.
Read first: groups.py.  How the threads meet: engine/crew.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from tinycv.engine.blocks import one_thread_of_blas
from tinycv.engine.crew import Crew
from tinycv.engine.tensor import Tensor
from tinycv.training.groups import Group, Share, Step, checked_workers, on_cpu, summed


class Threads(Group):
    """A group of threads. If the process forks while it is open, it works in both processes."""

    carrier = "threads"

    def __init__(self, size: int):
        self.size = checked_workers(size, self.carrier)
        self._crew = Crew(self.size)
        one_thread_of_blas.enter()
        self._end = weakref.finalize(self, _end, self._crew)
        self._end.atexit = False  # at the end of the program, nothing needs to be restored

    def _gradients(self, step: Step) -> tuple[Any, dict]:
        works = [partial(step.of_shard, i) for i in range(len(step.shares))]
        results = self._crew.run(works, step.shard_weights)
        # The batch is on the CPU, but the function may have copied its shard to a GPU.
        for loss, _ in results:
            on_cpu(loss, "Group.backward: the loss")
        return summed(results, step.weights)

    def _results(self, function: Callable[..., Tensor], shares: list[Share]) -> list[Any]:
        return self._crew.run([partial(function, *share.arrays) for share in shares])

    def close(self) -> None:
        """End the threads, and restore the number of threads that BLAS had."""
        if self._end.alive:
            self._crew.close()
            self._end()


def _end(crew: Crew) -> None:
    """Clean up after a group that was closed or collected."""
    crew.dismiss()
    one_thread_of_blas.leave()
