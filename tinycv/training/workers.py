"""The worker processes of a group: they are forked, used for one batch after the other, and ended.

A batch that is interrupted (Ctrl-C, a worker that was killed) ends all workers, because there may
still be messages on their way between the processes. The next batch forks new workers.

Read first: processes.py.  Read next: calling_side.py, one batch in this process; worker_side.py, a
worker.
"""

from __future__ import annotations

import os
import random
import select
import socket
import sys
import weakref
from collections.abc import Callable
from threading import RLock
from typing import Any

from tinycv.engine.blocks import available_cores
from tinycv.training.calling_side import Batch
from tinycv.training.links import Link, Worker
from tinycv.training.receiving import Receiver
from tinycv.training.sending import Known, packed
from tinycv.training.shared_memory import Arena, Slots, aligned
from tinycv.training.worker_side import serve

# How often a process looks for a message before it sleeps until there is one. To wake up takes tens
# of microseconds, which each all_reduce would have to wait for.
LOOKS = 2000
# The bytes of shared memory that are reserved for each array of an all_reduce. After a larger array
# it is more. Pages that nobody writes to take no memory.
ROOM = 1 << 16


class Workers:
    """The worker processes of a group, and the memory that they share with this process."""

    def __init__(self, count: int):
        self.count, self.room = count, ROOM
        self.known = Known()
        self._forget()
        EVERYWHERE.add(self)

    def _forget(self) -> None:
        """Begin without workers. A forked child does this too: the workers belong to its parent."""
        self.workers: list[Worker] = []
        self.poll = select.poll()
        self.slots: Slots | None = None
        # one batch at a time, until its results, which lie in shared memory, are added up
        self.busy = RLock()
        self.under_way = False

    def run(
        self,
        function: Callable,
        parts: list[list],
        weights: list[float] | None = None,
        shard_weights: list[float] | None = None,
    ) -> list[Any]:
        """What ``function`` makes of each shard's part of the batch; with weights, the losses and
        the gradients (groups.loss_and_gradients). If several shards fail, the error of the first of
        them is raised.

        weights: the weight of each shard's loss; None in ``map``. shard_weights: the weights that
        layers see (shards.Member.weight): the same ones if the loss is a mean, otherwise None.
        """
        if self.under_way or self._have_ended():
            self.end()
        try:
            self._wake(len(parts) - 1)
        except OSError:  # a worker has ended just now
            self.end()
        if self.slots is None:
            self.slots = Slots(Arena())
        data, sender = packed(function, self.known, self.slots)
        if self.known.is_new or not self.workers:
            self._fork(self.slots.arena)
        for view, array in sender.copies:
            view[...] = array
        self.under_way = True
        batch = Batch(self.workers, self.slots.arena, sender, parts, weights, self.room)
        try:
            # An error of the function is not raised here, but by ``outcome``: after it, the workers
            # can go on. What is raised here is an interruption.
            outcome = batch.run(function, data, shard_weights)
        except BaseException:
            batch.refuse_a_fork()
            self.end()
            raise
        self.under_way, self.room = False, aligned(batch.room)
        return outcome()

    def _have_ended(self) -> bool:
        """Has a worker ended since the last batch? Between batches a worker sends nothing, so there
        is only something to read (the end of the connection) if it has ended."""
        return bool(self.poll.poll(0))

    def _wake(self, count: int) -> None:
        """Wake the workers of the next batch while this process makes bytes of the function. Where
        there are fewer cores than processes, a worker would only go back to sleep."""
        for worker in self.workers[:count]:
            if worker.link.looks:
                worker.link.wake()

    def _fork(self, arena: Arena) -> None:
        """Fork the workers: all that this process knows now exists in them too."""
        self.end()
        sys.stdout.flush()
        sys.stderr.flush()
        looks = LOOKS if available_cores() > self.count else 0
        # In a child, ``_in_child`` has already emptied this object. So what the child needs is in
        # local variables.
        known, count = self.known, self.count
        random_state = random.getstate()  # Python gives a forked process a seed by chance
        self.under_way = True
        for rank in range(1, self.count + 1):
            near_end, far_end = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                near_end.close()
                random.setstate(random_state)
                receiver = Receiver(known.objects, arena, rank, is_alone=count == 1)
                serve(Link(far_end, looks), receiver, rank)
            far_end.close()
            self.workers.append(Worker(rank, pid, Link(near_end, looks)))
            self.poll.register(near_end, select.POLLIN)
        self.known.is_new = self.under_way = False

    def end(self) -> None:
        """End all workers at once."""
        while self.workers:
            worker = self.workers[-1]
            worker.kill()
            self.workers.pop()
        self.poll = select.poll()
        self.under_way = False

    def close(self) -> None:
        self.end()
        self.slots = None


# All Workers of this process, for ``_in_child``
EVERYWHERE: weakref.WeakSet[Workers] = weakref.WeakSet()


def _in_child() -> None:
    """In a forked process: close what belongs to the workers of the parent, because a worker ends
    when nobody can write to it."""
    for workers in EVERYWHERE:
        for worker in workers.workers:
            worker.link.socket.close()
        workers._forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_in_child)
