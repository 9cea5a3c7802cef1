"""A crew of threads that compute the shards of a batch, and the meetings at which they exchange
arrays.

Each shard's work runs in a thread of its own; where it calls one of the two primitives of shards.py
its thread waits in a ``Meeting`` until all have come.

A fork: the child process has a copy of the group and none of its threads.  A group that the child
uses starts threads of its own; a child that was forked inside a shard, whose fellow shards it
lacks, gets an error instead of waiting for them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import reduce
from operator import add
from queue import SimpleQueue
from threading import Condition, Lock, RLock, Thread
from typing import Any, NamedTuple

import numpy as np

from tinycv.engine import arguments, rng
from tinycv.engine.shards import member


class Meeting:
    """Where the threads of one batch exchange arrays: round by round, each bringing one.

    Whoever comes last does the round's work, while the others wait, and all leave with its result.
    """

    def __init__(self, size: int):
        self.brought: list[Any] = [None] * size
        self.rounds, self.here, self.left, self.result = 0, 0, False, None
        self.stranded: set[int] = set()  # ranks that waited for one who had left
        # taken as itself: a Ctrl-C in Condition's __enter__ would keep it
        self.lock = RLock()
        self.changed, self.process, self.working = Condition(self.lock), os.getpid(), False

    def met(self, rank: int, kind: str, x: Any, work: Callable[[list], Any]) -> Any:
        """Wait for the others, then return ``work(what all have brought)``, which one of them has
        done."""
        self.refuse_a_fork()
        with self.lock:
            if self.working:
                raise RuntimeError(
                    f"{kind} inside a function that one shard runs for all of them: the others "
                    "wait for it"
                )
            this = self.rounds
            self.brought[rank] = kind, x
            self.here += 1
            if self.here == len(self.brought):
                self._finish(work)
            else:
                self.changed.wait_for(lambda: self.rounds != this or self.left)
            if self.rounds == this:
                self.stranded.add(rank)
                raise RuntimeError(
                    f"another shard ended before it took part in this {kind}. Each shard must call "
                    "it equally often, so no branch around it may depend on the shard's own data"
                )
            return self.result

    def _finish(self, work: Callable[[list], Any]) -> None:
        kinds = {kind for kind, _ in self.brought}
        if len(kinds) > 1:
            raise RuntimeError(
                f"the shards met for different things, {' and '.join(sorted(kinds))}: each shard "
                "must call the same layers in the same order"
            )
        self.working = True
        try:
            self.result = work([x for _, x in self.brought])
        finally:
            self.working = False
        self.here, self.rounds = 0, self.rounds + 1
        self.changed.notify_all()

    def all_reduce(self, rank: int, x: Any) -> Any:
        """The sum of what all shards bring, in the order of ranks whoever came first."""
        # for each its own: a kernel may work on it in place
        return copy.copy(self.met(rank, "all_reduce", x, _sum))

    def once(self, rank: int, work: Callable[[], Any]) -> Any:
        """What shard 0's ``work()`` returns. It runs when all shards have come, and they go on when
        it is done."""
        return self.met(
            rank,
            "change of state",
            (copy_context(), work),
            lambda brought: brought[0][0].run(brought[0][1]),
        )

    def leave(self) -> None:
        """One shard has ended, well or badly: let nobody wait for it."""
        # nobody does; and the lock may have been copied while it was held
        if os.getpid() != self.process:
            return
        with self.lock:
            self.left = True
            self.changed.notify_all()

    def refuse_a_fork(self) -> None:
        """RuntimeError in a process that was forked inside a shard: the other shards' threads are
        not in it."""
        if os.getpid() != self.process:
            raise RuntimeError(
                "this process was forked inside a shard of a batch, and the other shards are not "
                "in it: leave it with os._exit, or fork before the batch is split"
            )


def _sum(arrays: list) -> Any:
    shapes = {np.shape(x) for x in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"the shards brought shapes {sorted(shapes)} to an all_reduce; they must be equal, so "
            "nothing in them may depend on the number of examples"
        )
    return reduce(add, arrays)


class InCrew(NamedTuple):
    """One shard, as the others of its crew see it: the Member of shards.py."""

    rank: int
    meeting: Meeting
    weight: float | None = None

    def all_reduce(self, x: Any) -> Any:
        return self.meeting.all_reduce(self.rank, x)

    def once(self, work: Callable[[], Any]) -> Any:
        return self.meeting.once(self.rank, work)


class Job:
    """A shard's work, in a copy of the caller's context: no_grad and debug hold in its thread
    too."""

    def __init__(self, work: Callable, me: InCrew, streams: Any):
        self.work, self.me, self.streams = work, me, streams
        self.result, self.error = None, None
        self.context: Context = copy_context()

    def run(self) -> None:
        try:
            self.result = self.context.run(self._inside)
        except BaseException as error:  # kept for the caller, who raises it
            self.error = error
        finally:
            self.me.meeting.leave()

    def in_thread(self) -> None:
        """As ``run``, in a thread of the crew."""
        self.run()
        # or the child process would wait for jobs that nobody sends
        self.me.meeting.refuse_a_fork()

    def _inside(self) -> Any:
        member.set(self.me)
        rng.use(self.streams)
        return self.work()


class Crew:
    """The calling thread and ``size - 1`` more, which stay until ``close``.

    A job goes to its thread through a SimpleQueue and its end comes back through another: 20 us
    there and back, where concurrent.futures takes 40.
    """

    def __init__(self, size: int):
        self.size = arguments.size(size, "Crew: size", 1)
        self._start()

    def _start(self) -> None:
        # of the batch whose jobs may still be with the threads
        self.under_way: Meeting | None = None
        self.inboxes: list[SimpleQueue] = [SimpleQueue() for _ in range(self.size - 1)]
        # two batches at once could wait for each other's threads
        self.busy = Lock()
        self.threads = [
            Thread(target=_serve, args=(inbox,), name=f"tinycv shard {i}", daemon=True)
            for i, inbox in enumerate(self.inboxes, 1)
        ]
        for thread in self.threads:
            thread.start()
        self.process = os.getpid()

    def run(self, works: Sequence[Callable], weights: Sequence[float] | None = None) -> list[Any]:
        """The results of the works, at most one per thread, all at the same time; one alone is
        simply called.

        Raises what the first of them raised, after all have ended. weights: see shards.Member.
        """
        self._refuse_odd(works, weights)
        if len(works) == 1:
            return [works[0]()]
        if member.get() is not None:
            raise RuntimeError(
                "inside a shard the batch cannot be split again: its threads are at work already"
            )
        # a fork copies this object, but not its threads
        if self.process != os.getpid():
            self._start()
        with self.busy:
            self._end_the_batch()
            meeting = Meeting(len(works))
            jobs = []
            for rank, (work, streams) in enumerate(zip(works, rng.split(len(works)), strict=True)):
                me = InCrew(rank, meeting, None if weights is None else weights[rank])
                jobs.append(Job(work, me, streams))
            self._do(jobs, meeting)
        failed = [job for job in jobs if job.error is not None]
        # who was left waiting only echoes another's error, if there is one
        if failed:
            first: Any = min(failed, key=lambda job: job.me.rank in meeting.stranded)
            raise first.error
        return [job.result for job in jobs]

    def _do(self, jobs: list[Job], meeting: Meeting) -> None:
        """Run the jobs, the first one in the calling thread, and return when all have ended."""
        done: SimpleQueue = SimpleQueue()
        self.under_way = meeting
        try:
            for inbox, job in zip(self.inboxes, jobs[1:], strict=False):
                inbox.put((job.in_thread, done))
            jobs[0].run()
            # or this would wait for threads that are not in this process
            meeting.refuse_a_fork()
            for _ in jobs[1:]:
                done.get()
            self.under_way = None
        finally:
            self._end_the_batch()

    def _refuse_odd(self, works: Any, weights: Any) -> None:
        """TypeError for works or weights that ``run`` does not take."""
        if not isinstance(works, Sequence) or not 0 < len(works) <= self.size:
            raise TypeError(
                f"Crew.run: works is {arguments.shown(works)}; it must be a list of 1 to "
                f"{self.size} functions"
            )
        for i, work in enumerate(works):
            arguments.function(work, f"Crew.run: works[{i}]")
        if weights is not None and (
            not isinstance(weights, Sequence) or len(weights) != len(works)
        ):
            raise TypeError(
                f"Crew.run: weights is {arguments.shown(weights)}; it must be None or a list of "
                f"{len(works)} numbers, one for each of the works"
            )
        for i, weight in enumerate(weights or ()):
            arguments.number(weight, f"Crew.run: weights[{i}]")

    def _end_the_batch(self) -> None:
        """Of a batch that was left early, by Ctrl-C for instance: wait until no thread is at it.

        A second Ctrl-C may end this too. Then the next batch begins here.
        """
        if self.under_way is None or self.under_way.process != os.getpid():
            return
        # so that no shard waits for one that has gone
        self.under_way.leave()
        ended: SimpleQueue = SimpleQueue()
        # a thread that answers has done all that came before
        for inbox in self.inboxes:
            inbox.put((nothing, ended))
        for _ in self.inboxes:
            ended.get()
        self.under_way = None

    def dismiss(self) -> None:
        """Tell the threads to end, after what they are at."""
        if self.process == os.getpid():  # a fork's child has none of them
            if self.under_way is not None:
                # a shard of it may wait for one that has gone
                self.under_way.leave()
            for inbox in self.inboxes:
                inbox.put(None)

    def close(self) -> None:
        """End the threads, after what they are at."""
        self.dismiss()
        for thread in self.threads if self.process == os.getpid() else ():
            thread.join()


def nothing() -> None:
    """The work of a thread that is only asked whether it has come so far."""


def _serve(inbox: SimpleQueue) -> None:
    """A thread's life: do the work that comes into its inbox until None comes."""
    while (order := inbox.get()) is not None:
        work, done = order
        work()
        done.put(True)
        # or a batch would stay in memory until the next one
        del order, work, done
