"""Shards: one batch, cut into parts that are computed at the same time, each by a thread.

NumPy lets go of Python's lock while it computes, so threads do run side by side, on one model in one memory.  A shard
works alone but for one primitive:

    all_reduce(x)           the sum of x over all shards, which every shard gets, and the same bits of it

With it a layer can say something of the whole batch (nn/batch_norm.py does).  The loss of the batch is the sum of
the shards' losses, so dL/dx in one shard is the sum over the shards of what reaches their copies of the result: all_reduce
is its own transpose, and a row of ops.py.  Outside of any shard it is the identity.

It is all that a way to compute in parallel has to supply: an object with ``rank`` and ``all_reduce``, put into ``member``,
may as well speak MPI or NCCL.   Read next: parallel.py, what users type.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from functools import reduce
from operator import add
from queue import SimpleQueue
from threading import Condition, Lock, Thread
from typing import Any, NamedTuple

import numpy as np

from tinycv.engine import rng


class Meeting:
    """Where the threads of one batch exchange arrays: round by round, each bringing one."""

    def __init__(self, size: int):
        self.brought: list[Any] = [None] * size
        self.rounds, self.here, self.left, self.total = 0, 0, False, None
        self.stranded: set[int] = set()                 # ranks that waited for one who had left
        self.changed = Condition()

    def all_reduce(self, rank: int, x: Any) -> Any:
        """Wait for the others, then return the sum, in the order of ranks whoever came first."""
        with self.changed:
            this = self.rounds
            self.brought[rank] = x
            self.here += 1
            if self.here == len(self.brought):
                self._add()
            else:
                self.changed.wait_for(lambda: self.rounds != this or self.left)
            if self.rounds == this:
                self.stranded.add(rank)
                raise RuntimeError("another shard ended before it took part in this all_reduce. Each shard must call it "
                                   "equally often, so no branch around it may depend on the shard's own data")
            return copy.copy(self.total)                # for each its own: a kernel may work on it in place

    def _add(self) -> None:
        shapes = {np.shape(x) for x in self.brought}
        if len(shapes) > 1:
            raise ValueError(f"the shards brought shapes {sorted(shapes)} to an all_reduce; they must be equal, so nothing "
                             "in them may depend on the number of examples")
        self.total = reduce(add, self.brought)
        self.here, self.rounds = 0, self.rounds + 1
        self.changed.notify_all()

    def leave(self) -> None:
        """One shard has ended, well or badly: let nobody wait for it."""
        with self.changed:
            self.left = True
            self.changed.notify_all()


class Member(NamedTuple):
    """One shard among others, as those see it."""

    rank: int
    meeting: Meeting

    def all_reduce(self, x: Any) -> Any:
        return self.meeting.all_reduce(self.rank, x)


member: ContextVar[Member | None] = ContextVar("tinycv_member", default=None)      # None: nothing is being shared out


def all_reduce(x: Any) -> Any:
    """The sum of x, an array or a number, over all shards; x itself where there is only one."""
    me = member.get()
    return x if me is None else me.all_reduce(x)


def rank() -> int:
    """The number of this shard. What must happen once a batch, not once a shard, happens where it is 0."""
    me = member.get()
    return 0 if me is None else me.rank


class Job:
    """A shard's work, in a copy of the caller's context: no_grad and debug hold in its thread too."""

    def __init__(self, work: Callable, me: Member, streams: Any):
        self.work, self.me, self.streams = work, me, streams
        self.result, self.error = None, None
        self.context: Context = copy_context()

    def run(self) -> None:
        try:
            self.result = self.context.run(self._inside)
        except BaseException as error:                  # kept for the caller, who raises it
            self.error = error
        finally:
            self.me.meeting.leave()

    def _inside(self) -> Any:
        member.set(self.me)
        rng.use(self.streams)
        return self.work()


class Crew:
    """The calling thread and ``size - 1`` more, which stay until ``close``.

    A job goes to its thread through a SimpleQueue and its end comes back through another: 20 us there and back, where
    concurrent.futures takes 40.
    """

    def __init__(self, size: int):
        self.inboxes: list[SimpleQueue] = [SimpleQueue() for _ in range(size - 1)]
        self.busy = Lock()                              # two batches at once could wait for each other's threads
        self.threads = [Thread(target=_serve, args=(inbox,), name=f"tinycv shard {i}", daemon=True)
                        for i, inbox in enumerate(self.inboxes, 1)]
        for thread in self.threads:
            thread.start()

    def run(self, works: Sequence[Callable]) -> list[Any]:
        """The results of the works, at most one a thread, all at the same time; one alone is simply called.

        Raises what the first of them raised, after all have ended.
        """
        if len(works) == 1:
            return [works[0]()]
        if member.get() is not None:
            raise RuntimeError("inside a shard the batch cannot be split again: its threads are at work already")
        with self.busy:
            meeting, done = Meeting(len(works)), SimpleQueue()
            jobs = [Job(work, Member(i, meeting), streams)
                    for i, (work, streams) in enumerate(zip(works, rng.split(len(works)), strict=True))]
            for inbox, job in zip(self.inboxes, jobs[1:], strict=False):
                inbox.put((job, done))
            jobs[0].run()
            for _ in jobs[1:]:
                done.get()
        failed = [job for job in jobs if job.error is not None]
        if failed:                                      # who was left waiting only echoes another's error, if there is one
            raise min(failed, key=lambda job: job.me.rank in meeting.stranded).error
        return [job.result for job in jobs]

    def close(self) -> None:
        """End the threads, after what they are at."""
        for inbox in self.inboxes:
            inbox.put(None)
        for thread in self.threads:
            thread.join()


def _serve(inbox: SimpleQueue) -> None:
    """A thread's life: do the jobs of its inbox until None comes."""
    while (order := inbox.get()) is not None:
        job, done = order
        job.run()
        done.put(True)
        del order, job, done                            # or a batch would stay in memory until the next one
