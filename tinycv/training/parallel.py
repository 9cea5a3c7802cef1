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
    processes    each have a lock and a model of their own; weights and gradients are copied between
                 them: processes.py
    mpi          processes that each run the whole program, on one machine or many: mpi.py
                 (mpiexec -n 2 python train.py, with one rank per core)

Which one?

    no group     if a step takes only a few milliseconds: the exchange costs more than it saves
    processes    for longer steps: they never wait for each other's lock
    threads      if memory is short, if the system cannot fork (Windows), or if the loss writes to
                 Python objects. The lock costs much in a model of many small operations, and little
                 in one of large layers
    mpi          on several machines, or on several GPUs

It is easy to try two of them: only one word changes, and with as many workers the gradients have
the same bits. What was measured, and on which machine: benchmarks/README.md.

Random numbers: tinycv.randn and dropout draw different numbers in each shard, and the same ones
whether threads, processes or MPI ranks compute the shards. A NumPy generator of your own is another
matter. Threads draw from it in an order that chance decides. In processes each shard draws numbers
of its own. MPI ranks that all seed it alike draw the same numbers, so their noise is not
independent.

Read next: groups.py, with the formula and what all groups have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinycv.engine.arguments import shown
from tinycv.engine.blocks import available_cores
from tinycv.training.groups import Alone, Group
from tinycv.training.processes import Processes
from tinycv.training.threads import Threads


def threads(size: int | None = None) -> Group:
    """Open a group of ``size`` threads, 1 to 1,024 (None: one for each core that this process may
    use). Close it after use, or open it in a ``with`` statement. If the process forks while a group
    is open, the group works in both processes."""
    return Threads(available_cores() if size is None else size)


def processes(size: int | None = None) -> Group:
    """Open a group of ``size`` processes, 1 to 1,024 (None: one for each core that this process may
    use): this one, and workers that are forked from it at the first batch. What a function changes
    in Python objects stays in the process that computes the shard. RuntimeError on a system that
    cannot fork (Windows)."""
    return Processes(available_cores() if size is None else size)


def mpi(order: str = "rank") -> Group:
    """Open the group of all ranks of an MPI program, each of which runs the whole program:
    ``mpiexec -n 2 python train.py``. Without mpiexec it is a group of one rank. Print and write
    files only if group.rank == 0; call ``backward`` and ``map`` in all ranks.

    order: "rank" adds in the order of the shards, with the bits of threads and processes; "any"
    uses MPI's Allreduce, which sends fewer messages when there are many ranks (mpi.py).
    ImportError if mpi4py is not installed.
    """
    from tinycv.training.mpi import Ranks  # here, because few programs need MPI

    return Ranks(order)


# What carries the shards of a batch, by the name that ``fit(..., parallel=...)`` takes
CARRIERS = {"threads": threads, "processes": processes, "mpi": mpi}


@contextmanager
def opened(parallel: str | Group | None, caller: str = "opened") -> Iterator[Group]:
    """The group that an argument ``parallel`` stands for.

    parallel: the name of a carrier, such as "threads": a new group, which is closed at the end of
    the block. An open group: that group, which stays open. None: a group of this process alone.
    Anything else is a TypeError or ValueError.
    caller: the name of the function that takes the argument, for errors.
    """
    if isinstance(parallel, Group):
        yield parallel
        return
    open_group = Alone if parallel is None else CARRIERS[_carrier(parallel, caller)]
    with open_group() as group:
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
