"""Data parallelism: several cores compute the loss and the gradient of one batch.

    with parallel.threads() as group:                   # as many as there are cores to use
        for images, labels in loader:
            optimizer.zero_grad()
            group.backward(lambda x, y: cross_entropy(model(x), y), images, labels)
            optimizer.step()
        scores = group.map(model, images)

The batch is cut into shards, one per worker, and the gradients of the shards are added up: the step
is that of the whole batch. In a training, ``fit(..., parallel="threads")`` does the same; fit_gan
too.

    threads      share this process's memory and Python's lock: threads.py
    processes    have no lock in common; numbers are copied to and fro: processes.py
    mpi          processes that each run the whole program, on one machine or many: mpi.py
                 (mpiexec -n 4 python train.py)

Which one? If a step takes less than about 4 ms by itself, no group: it costs more than it gains.
Otherwise processes: a model of many small operations would wait for the lock, and large layers are
as fast with either. Threads need less memory, and serve where a system cannot fork (Windows) or
where the loss writes to Python objects. Try both: it takes one word, and gradients have the same
bits. What was measured: benchmarks/README.md.

Random numbers: tinycv.randn and dropout draw other numbers in each shard, the same with all three.
A NumPy generator that the loss function uses repeats its numbers in each process and each rank.

What they have in common, and the formula: groups.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinycv.engine.arguments import shown
from tinycv.training.groups import Alone, Group, cores
from tinycv.training.processes import Processes
from tinycv.training.threads import Threads


def threads(size: int | None = None) -> Group:
    """Open a group of ``size`` threads (None: one for each core that this process may use). Close
    it after use, or open it in a ``with`` statement. If the process forks while a group is open,
    the group works in both processes."""
    return Threads(cores() if size is None else size)


def processes(size: int | None = None) -> Group:
    """Open a group of ``size`` processes (None: one for each core that this process may use): this
    one, and workers that are forked from it at the first batch. What a function changes in Python
    objects stays in the process that computes the shard. RuntimeError on a system that cannot fork
    (Windows)."""
    return Processes(cores() if size is None else size)


def mpi(order: str = "rank") -> Group:
    """Open the group of all ranks of an MPI program, each of which runs the whole program:
    ``mpiexec -n 4 python train.py``. Without mpiexec it is a group of one rank. Print and write
    files only if group.rank == 0; call ``backward`` and ``map`` in all ranks.

    order: "rank" adds in the order of the shards, with the bits of threads and processes; "any"
    uses MPI's Allreduce, which sends fewer messages when there are many ranks (mpi.py).
    ImportError if mpi4py is not installed.
    """
    from tinycv.training.mpi import Ranks  # here, because it is an extra

    return Ranks(order)


CARRIERS = {"threads": threads, "processes": processes, "mpi": mpi}


@contextmanager
def opened(parallel: str | Group | None, caller: str = "opened") -> Iterator[Group]:
    """The group that an argument ``parallel`` names: with "threads", a group that is closed at the
    end of the block; an open group, which stays open; with None, a group of this process alone."""
    if isinstance(parallel, Group):
        yield parallel
        return
    with Alone() if parallel is None else CARRIERS[_carrier(parallel, caller)]() as group:
        yield group


def _carrier(parallel: Any, caller: str) -> str:
    """The name of a carrier; TypeError or ValueError for anything else."""
    if isinstance(parallel, str) and parallel in CARRIERS:
        return parallel
    words = ", ".join(f'"{name}"' for name in CARRIERS)
    kind = ValueError if isinstance(parallel, str) else TypeError
    raise kind(
        f"{caller}: parallel is {shown(parallel)}; it must be None, {words}, or an open group, "
        "such as parallel.threads(2)"
    )
