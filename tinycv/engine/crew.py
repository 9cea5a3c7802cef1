"""Thread pool for data parallelism: the threads that compute shards, and how they exchange arrays.

Each shard is computed in its own thread.  If it calls one of the two primitives of shards.py
(all_reduce, once), its thread waits in a ``Meeting`` until all other shards have made the same
call.

Forked processes: a child process has a copy of the ``Crew`` object, but none of its threads.  When
the child uses the crew, it starts new threads.  If the fork happened inside a shard, the other
shards do not exist in the child, so it raises an error instead of waiting for them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial, reduce
from operator import add
from queue import SimpleQueue
from threading import Condition, Lock, RLock, Thread
from typing import Any, NamedTuple

import numpy as np

from tinycv.engine import arguments, rng
from tinycv.engine.shards import member, stored

# Messages of errors if shards do not meet; training/calling_side.py uses them too.
INSIDE_ONCE = (
    "{} inside a function that one shard runs for all of them: the other shards wait for that "
    "function, so they cannot take part"
)
LEFT = (
    "another shard ended before it took part in this {}. Every shard must call it equally often, "
    "so no branch around it may depend on the shard's data"
)
DIFFERENT_CALLS = (
    "the shards made different calls at the same time, {}: each shard must call the same layers in "
    "the same order"
)
FORKED = (
    "this process was forked inside a shard of a batch, and the other shards do not run in it: end "
    "it with os._exit, or fork before the batch is split"
)


class Meeting:
    """A barrier at which the threads of one batch exchange arrays. It is used round after round.

    In each round every thread contributes one value. The thread that arrives last computes the
    result from all of them while the others wait, and all of them return this result.
    """

    def __init__(self, size: int):
        self.contributions: list[Any] = [None] * size
        self.rounds = 0  # the number of finished rounds
        self.arrived = 0  # how many threads have arrived in this round
        self.left = False  # has any shard ended?
        self.result = None  # of the last round
        self.stranded: set[int] = set()  # the ranks that waited in vain for a shard that had ended
        self.working = False  # is a thread computing the result of this round?
        self.process = os.getpid()
        # The code below enters the lock itself, not the Condition: a Ctrl-C inside
        # Condition.__enter__, which is written in Python, would leave the lock held.
        self.lock = RLock()
        self.changed = Condition(self.lock)

    def met(self, rank: int, kind: str, x: Any, work: Callable[[list], Any]) -> Any:
        """Contribute x, wait for the other shards, and return ``work(contributions)``, which one of
        the threads has computed. kind: the name of the primitive, for errors."""
        self.refuse_a_fork()
        with self.lock:
            # The lock is reentrant, so the ``work`` of this very thread could come here.
            if self.working:
                raise RuntimeError(INSIDE_ONCE.format(kind))
            this_round = self.rounds
            self.contributions[rank] = kind, x
            self.arrived += 1
            if self.arrived == len(self.contributions):
                self._finish(work)
            else:
                self.changed.wait_for(lambda: self.rounds != this_round or self.left)
            if self.rounds == this_round:
                self.stranded.add(rank)
                raise RuntimeError(LEFT.format(kind))
            return self.result

    def _finish(self, work: Callable[[list], Any]) -> None:
        """Compute the result of this round, and wake the other threads."""
        kinds = {kind for kind, _ in self.contributions}
        if len(kinds) > 1:
            raise RuntimeError(DIFFERENT_CALLS.format(" and ".join(sorted(kinds))))
        self.working = True
        try:
            self.result = work([x for _, x in self.contributions])
        finally:
            self.working = False
        self.arrived, self.rounds = 0, self.rounds + 1
        self.changed.notify_all()

    def all_reduce(self, rank: int, x: Any) -> Any:
        """The sum of x over all shards. It is added in the order of ranks, so that the result does
        not depend on which thread is faster."""
        # Each shard gets a copy, because a kernel may change it in place.
        return copy.copy(self.met(rank, "all_reduce", x, sum_of))

    def once(self, rank: int, work: Callable[[], Any]) -> Any:
        """Run the ``work`` of shard 0, once all shards have arrived, in the thread that arrives
        last, and return its result to every shard."""
        return self.met(rank, "change of state", (copy_context(), work), _run_of_shard_0)

    def leave(self) -> None:
        """Note that a shard has ended, normally or with an error, so that no other shard waits for
        it."""
        # In a forked process no thread waits, and the copy of the lock may be held forever.
        if os.getpid() != self.process:
            return
        with self.lock:
            self.left = True
            self.changed.notify_all()

    def refuse_a_fork(self) -> None:
        """RuntimeError in a process that was forked inside a shard, because it does not contain the
        threads of the other shards."""
        if os.getpid() != self.process:
            raise RuntimeError(FORKED)


def sum_of(arrays: list) -> Any:
    """The sum of what the shards contributed to an all_reduce, in the order of the shards."""
    shapes = {np.shape(x) for x in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"all_reduce: the shards contributed arrays of shapes {sorted(shapes)}; they must be "
            "equal, so they must not depend on the number of examples in a shard"
        )
    return reduce(add, arrays)


def _run_of_shard_0(contributions: list[tuple[Context, Callable]]) -> Any:
    """The result of shard 0's function, run in the context of shard 0."""
    context, work = contributions[0]
    return context.run(work)


class InCrew(NamedTuple):
    """A shard that is computed by a thread of a Crew; it has the interface Member of shards.py."""

    rank: int
    meeting: Meeting
    weight: float | None = None

    def all_reduce(self, x: Any) -> Any:
        return self.meeting.all_reduce(self.rank, x)

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        return self.meeting.once(self.rank, partial(stored, work, store))


class Job:
    """The work of one shard. It runs in a copy of the caller's context, so that no_grad and debug
    hold in its thread too. streams: the random numbers that the shard draws."""

    def __init__(self, work: Callable, shard: InCrew, streams: Any):
        self.work, self.shard, self.streams = work, shard, streams
        self.result, self.error = None, None
        self.context: Context = copy_context()

    def run(self) -> None:
        try:
            self.result = self.context.run(self._inside)
        except BaseException as error:  # Crew.run raises it in the calling thread
            self.error = error
        finally:
            self.shard.meeting.leave()

    def in_thread(self) -> None:
        """``run``, for a thread of the crew."""
        self.run()
        # If the work forked, this thread continues in the child too, where it would wait forever
        # for its next job. The error ends it.
        self.shard.meeting.refuse_a_fork()

    def _inside(self) -> Any:
        member.set(self.shard)
        rng.use(self.streams)
        return self.work()


class Crew:
    """A pool of ``size`` threads: the calling thread and ``size - 1`` others, which run until
    ``close``.

    A job is sent to its thread through a SimpleQueue, and its end is reported through another.
    """

    def __init__(self, size: int):
        self.size = arguments.size(size, "Crew: size", 1)
        self._start()

    def _start(self) -> None:
        # the meeting of the batch that is being computed; None between batches
        self.under_way: Meeting | None = None
        self.inboxes: list[SimpleQueue] = [SimpleQueue() for _ in range(self.size - 1)]
        # One batch at a time: two could wait for each other's threads.
        self.busy = Lock()
        self.threads = [
            Thread(target=_serve, args=(inbox,), name=f"tinycv shard {i}", daemon=True)
            for i, inbox in enumerate(self.inboxes, 1)
        ]
        for thread in self.threads:
            thread.start()
        self.process = os.getpid()

    def run(self, works: Sequence[Callable], weights: Sequence[float] | None = None) -> list[Any]:
        """Call the functions ``works`` at the same time, at most one per thread, and return their
        results. A single function is simply called.

        If several raise errors, that of the first of them in ``works`` is raised here, after all
        have ended; errors of shards that waited in vain for another one come last.
        weights: see shards.Member.
        """
        self._refuse_wrong_arguments(works, weights)
        if len(works) == 1:
            return [works[0]()]
        if member.get() is not None:
            raise RuntimeError(
                "inside a shard the batch cannot be split again, because all threads are busy"
            )
        # A fork copies this object, but not its threads.
        if self.process != os.getpid():
            self._start()
        with self.busy:
            self._end_the_batch()
            meeting = Meeting(len(works))
            jobs = []
            for rank, (work, streams) in enumerate(zip(works, rng.split(len(works)), strict=True)):
                shard = InCrew(rank, meeting, None if weights is None else weights[rank])
                jobs.append(Job(work, shard, streams))
            self._do(jobs, meeting)
        failed = [job for job in jobs if job.error is not None]
        # A shard that waited in vain only reports that another has ended, so an error of the other
        # is raised first, if there is one.
        if failed:
            first: Any = min(failed, key=lambda job: job.shard.rank in meeting.stranded)
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
            # If the work forked, the threads do not exist in the child, so waiting would not end.
            meeting.refuse_a_fork()
            for _ in jobs[1:]:
                done.get()
            self.under_way = None
        finally:
            self._end_the_batch()

    def _refuse_wrong_arguments(self, works: Any, weights: Any) -> None:
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
        """If a batch was interrupted, by Ctrl-C for instance: wait until no thread works on it.

        A second Ctrl-C may interrupt this too; then the next batch begins by waiting here.
        """
        if self.under_way is None or self.under_way.process != os.getpid():
            return
        # Otherwise the other shards could wait forever for the one that was interrupted.
        self.under_way.leave()
        ended: SimpleQueue = SimpleQueue()
        # A thread answers this empty job after it has finished all earlier ones.
        for inbox in self.inboxes:
            inbox.put((nothing, ended))
        for _ in self.inboxes:
            ended.get()
        self.under_way = None

    def dismiss(self) -> None:
        """Send each thread the order to end after its current job."""
        if self.process == os.getpid():  # a forked child has no threads to end
            if self.under_way is not None:
                # A shard may be waiting for another that has ended.
                self.under_way.leave()
            for inbox in self.inboxes:
                inbox.put(None)

    def close(self) -> None:
        """End the threads after their current jobs, and wait until they have ended."""
        self.dismiss()
        for thread in self.threads if self.process == os.getpid() else ():
            thread.join()


def nothing() -> None:
    """An empty job, which shows that a thread has finished all earlier ones."""


def _serve(inbox: SimpleQueue) -> None:
    """What a thread of the crew runs: it does the jobs in its inbox, until it finds None."""
    order = inbox.get()
    while order is not None:
        work, done = order
        work()
        done.put(True)
        # Without this, the job would keep the arrays of its batch in memory until the next job.
        del order, work, done
        order = inbox.get()
