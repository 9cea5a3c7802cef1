"""Work in blocks: long elementwise work on all cores.

NumPy's elementwise functions use one core.  But NumPy releases Python's global lock (the GIL) while
it computes.  So a large array is cut into blocks, and several threads run a chain of such functions
at the same time, each on a block of its own:

    def work(at):                           # at: a slice of the rows
        np.exp(x[at], out=y[at])
        y[at] += 1

    in_blocks(np, work, len(x))

Each block writes only its own part of the result, so the result does not depend on the number of
cores.  Blocks are large, because between two functions a thread needs Python's lock.  Waiting for
it takes longer than what a small block saves by staying in the cache.

Inside a shard of data-parallel training (shards.py) only one thread works, since the other cores
compute other shards.  Forked processes: the child starts threads of its own.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from math import ceil
from queue import SimpleQueue
from threading import Lock, RLock, Thread
from typing import Any

import numpy as np

from tinycv.engine.reduce import blocks
from tinycv.engine.shards import member

# Work on fewer numbers than this takes less time than waking another thread.
LEAST = 1 << 16
# The same for work that is a single pass over memory: on all cores it gains less, because they
# share the memory.
LARGE = 1 << 19
# The largest block of elementwise work, in numbers
BLOCK = 1 << 18
# The size of NumPy's buffer while blocks are computed, in numbers; otherwise it is 8,192. In
# operations like x - mean, on arrays of different shapes, NumPy copies rows into its buffer if two
# of them fit. So rows of more than 512 numbers are not copied, which saves a third of the time.
BUFFER = 1 << 10
# How many processes on this machine run this program and share its cores (training/mpi.py)
sharers = 1


def available_cores() -> int:
    """How many cores this process may use: all cores of the machine, or fewer in a container or
    under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores() -> int:
    """How many cores work on blocks: those available, divided among the MPI ranks of this machine.
    OMP_NUM_THREADS limits them, as it limits BLAS."""
    count = max(1, available_cores() // sharers)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(count, int(limit)) if limit.isdigit() and int(limit) else count


def in_blocks(
    xp: Any,
    work: Callable[[slice], Any],
    rows: int,
    width: int = 1,
    size: int | None = None,
    least: int = LEAST,
    products: bool = False,
) -> None:
    """Call ``work(at)`` for slices ``at`` that cut ``rows`` rows of ``width`` numbers into blocks.

    work: a function that writes only into its own block of the results.
    size: how many numbers a block has. By default the blocks are equal, and each core gets the same
    number of them. The result for a row must then not depend on where the blocks begin.
    least: from so many numbers on, all cores take part.
    products: work multiplies matrices. BLAS would use all cores for each product, and the threads
    would wait for each other, so BLAS is limited to one thread until all blocks are done.
    """
    total = rows * width
    is_small = 0 < total <= (size or BLOCK) and total < min(least, LEAST)
    # On a GPU each further block would be another launch. Short work on a CPU needs neither blocks
    # nor a buffer of another size.
    if xp is not np or is_small:
        work(slice(0, rows))
        return
    before = np.setbufsize(BUFFER)
    try:
        share_blocks(work, rows, width, size, least, products)
    finally:
        np.setbufsize(before)


def share_blocks(
    work: Callable[[slice], Any],
    rows: int,
    width: int,
    size: int | None,
    least: int,
    products: bool,
) -> None:
    """``in_blocks`` for many numbers, on one core or on several."""
    total = rows * width
    helpers = None
    # MPI ranks share the cores of a machine (``sharers``), so there may be one for each of them.
    if total >= least and member.get() is None and (sharers == 1 or cores() > 1):
        helpers = Helpers.of_this_process()
    threads = 1 if helpers is None else 1 + len(helpers.inboxes)
    slices = equal_blocks(rows, width, threads) if size is None else blocks(np, rows, width, size)
    # If another thread of the program uses the helpers now, this one works alone.
    if threads == 1 or len(slices) < 2 or not helpers or not helpers.busy.acquire(blocking=False):
        for at in slices:
            work(at)
        return
    if products:
        one_thread_of_blas.enter()
    try:
        helpers.run(work, slices)
    finally:
        helpers.busy.release()
        if products:
            one_thread_of_blas.leave()


def equal_blocks(rows: int, width: int, threads: int) -> list[slice]:
    """Slices that cut the rows into equally large blocks of at most BLOCK numbers, and the same
    number of blocks for each thread."""
    per_thread = ceil(rows * width / (threads * BLOCK))
    step = max(1, ceil(rows / max(1, threads * per_thread)))
    # The last slice may end after the last row; NumPy leaves out what is not there.
    return [slice(start, start + step) for start in range(0, rows, step)]


class Job:
    """The blocks of one call of ``in_blocks``. Each thread takes the next one that is left."""

    def __init__(self, work: Callable[[slice], Any], slices: list[slice]):
        self.work, self.left = work, deque(slices)
        # From the helpers, one entry per block: None or the error that it raised
        self.ended: SimpleQueue = SimpleQueue()

    def next(self) -> slice | None:
        """The next block that is left, or None. Several threads may call it at the same time,
        because they may call popleft."""
        try:
            return self.left.popleft()
        except IndexError:
            return None

    def help(self) -> None:
        """Work on blocks until none is left; what a helper does."""
        at = self.next()
        while at is not None:
            try:
                self.work(at)
                self.ended.put(None)
            except BaseException as error:  # the calling thread raises it
                self.ended.put(error)
            at = self.next()


class Helpers:
    """Threads that help the calling thread: one for each core, except one for the caller. They run
    until the process ends."""

    current: Helpers | None = None

    def __init__(self) -> None:
        self.process, self.busy = os.getpid(), Lock()
        self.inboxes: list[SimpleQueue] = [SimpleQueue() for _ in range(cores() - 1)]
        for inbox in self.inboxes:
            Thread(target=_serve, args=(inbox,), name="tinycv blocks", daemon=True).start()

    @classmethod
    def of_this_process(cls) -> Helpers:
        """The helpers, which are started when they are first needed. A fork copies the object, but
        not its threads, so a child starts its own."""
        if cls.current is None or cls.current.process != os.getpid():
            cls.current = cls()
        return cls.current

    def run(self, work: Callable[[slice], Any], slices: list[slice]) -> None:
        """Call ``work`` for each slice, in this thread and in the helpers. Returns, or raises the
        first error, when no thread works on a block any more."""
        job, errors = Job(work, slices), []
        taken = 0  # how many blocks the helpers cannot take any more
        # A copy of the context, so that np.errstate and np.setbufsize hold in the other threads too
        for inbox in self.inboxes:
            inbox.put((copy_context(), job))
        at = job.next()
        while at is not None:
            taken += 1
            try:
                if not errors:  # after an error, this thread takes the blocks and drops them
                    work(at)
            except BaseException as error:
                errors.append(error)
            at = job.next()
        errors += [job.ended.get() for _ in range(len(slices) - taken)]
        for error in errors:
            if error is not None:
                raise error


def _serve(inbox: SimpleQueue) -> None:
    """What a helper runs: the jobs in its inbox, one after the other."""
    while True:
        order: tuple[Context, Job] = inbox.get()
        context, job = order
        context.run(job.help)
        # Without this, the job would keep its arrays in memory until the next job.
        del order, context, job


class OneThreadOfBlas:
    """Limits BLAS to one thread between ``enter`` and ``leave``. If several parts of the program
    enter it, the old limit is restored when the last one leaves."""

    def __init__(self) -> None:
        self.open = 0
        self.controller: Any = None
        self.old_limits: Any = None
        # Reentrant: while this thread holds the lock, Python may collect a dropped group of
        # training/groups.py, which calls ``leave`` in the same thread.
        self.lock = RLock()

    def enter(self) -> None:
        # imported here, because threadpoolctl is needed only for work on several cores
        from threadpoolctl import ThreadpoolController

        with self.lock:
            if self.open == 0:
                if self.controller is None:
                    # This searches all loaded libraries for a BLAS, which takes a millisecond.
                    self.controller = ThreadpoolController()
                self.old_limits = self.controller.limit(limits=1, user_api="blas")
            self.open += 1

    def leave(self) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0:
                self.old_limits.restore_original_limits()


one_thread_of_blas = OneThreadOfBlas()
