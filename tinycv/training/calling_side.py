"""One batch in the calling process: it sends the jobs to the workers, computes shard 0, and brings
the shards together.

Read first: processes.py.  Read next: worker_side.py, which computes the other shards.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, NoReturn

import numpy as np

from tinycv.engine import rng
from tinycv.engine.crew import DIFFERENT_CALLS, FORKED, INSIDE_ONCE, LEFT, sum_of
from tinycv.engine.shards import member, stored
from tinycv.engine.tensor import LEAF, Tensor, mode, wrap
from tinycv.training.links import Job, Worker, wait_for
from tinycv.training.sending import Sender
from tinycv.training.shared_memory import ALIGNMENT, Arena, Exchange, Place, aligned, nbytes_of
from tinycv.training.worker_side import computed


class Batch:
    """One batch, in this process: it sends the jobs, computes shard 0, and brings the shards
    together. It has the interface Member of shards.py, for shard 0.

    parts: the arrays of each shard. weights: the weight of each shard's loss; None in ``map``.
    room: the bytes of the largest array that an all_reduce exchanges in shared memory.
    """

    rank = 0

    def __init__(
        self,
        workers: list[Worker],
        arena: Arena,
        sender: Sender,
        parts: list[list],
        weights: list[float] | None,
        room: int,
    ):
        self.poll, self.arena = select.poll(), arena
        self.workers: dict[int, Worker] = {}
        for worker in workers[: len(parts) - 1]:
            self.poll.register(worker.link.socket, select.POLLIN)
            self.workers[worker.link.socket.fileno()] = worker
        self.looks = workers[0].link.looks
        self.sender, self.parts, self.weights = sender, parts, weights
        # {rank: (the call at which it waits, what it contributes, what it shows)}
        self.waiting: dict[int, tuple[str, Any, Any]] = {}
        self.ended: dict[int, Any] = {}  # {rank: its last message}
        self.weight: float | None = None  # that of shard 0, as layers see it (shards.Member)
        self.process = os.getpid()
        self.working = False  # does shard 0 run a function for all shards (``once``)?
        self.stranded = False  # has shard 0 waited in vain for a shard that had ended?
        self.dead: RuntimeError | None = None  # the error of a worker that has ended
        # what is reserved in shared memory until the end of the batch
        self.outputs: dict[int, tuple[int, int]] = {}  # {rank: (offset, bytes) for its results}
        self.inputs: list[Place] = []
        # the bytes of all places of the Exchange: each shard has one for its array and one for its
        # next array
        self.exchanged = 2 * len(parts) * room
        self.exchange = Exchange(arena, 0, len(parts), arena.reserve(self.exchanged), room)
        self.room = room  # what the next batch needs: more, if a larger array is exchanged

    def run(
        self, function: Callable, data: bytes, shard_weights: list[float] | None
    ) -> Callable[[], list]:
        """Run the batch. Returns a function that returns the results, or raises the error of the
        first shard that failed."""
        streams = rng.split(len(self.parts))
        self.weight = shard_weights[0] if shard_weights else None
        try:
            for worker in self.workers.values():
                self._post(worker, data, streams[worker.rank], shard_weights)
            try:
                mine, error = copy_context().run(self._shard_0, function, streams[0]), None
            except Exception as caught:
                mine, error = None, caught
            self.refuse_a_fork()
            while len(self.ended) < len(self.workers):
                self._let_go()
                self._listen()
            failed = {rank: m[1:] for rank, m in self.ended.items() if m[0] == "failed"}
            for rank in failed:
                # It may have failed while it made the function, and so does not have it.
                self._worker(rank).functions.clear()
            if error is not None:
                failed[0] = error, self.stranded
            if failed:
                # An error that only says that another shard has ended comes last.
                first = min(failed, key=lambda rank: (failed[rank][1], rank))
                return partial(_raise, failed[first][0])
            results = [mine, *(self._result(rank, mine) for rank in sorted(self.ended))]
            return lambda: results
        finally:
            for place in self.inputs:
                self.arena.release(place.offset, nbytes_of(place))
            for block in self.outputs.values():
                self.arena.release(*block)
            self.arena.release(self.exchange.offset, self.exchanged)

    # -- the jobs of the workers ------------------------------------------------------------------

    def _post(self, worker: Worker, data: bytes, streams: Any, weights: list[float] | None) -> None:
        """Send its job to a worker."""
        rank = worker.rank
        part = [self._sent(x) for x in self.parts[rank]]
        if self.weights is None:
            weight, size = None, worker.capacity
        else:
            weight = self.weights[rank]
            leaves = [t._data for t in self.sender.tensors if t._node is LEAF]
            leaves += [x._data for x in self.parts[rank] if requires_grad(x)]
            size = ALIGNMENT + sum(aligned(leaf.nbytes) for leaf in leaves)  # with the loss
        self.outputs[rank] = self.arena.reserve(size), size
        shard_weight = weights[rank] if weights else None
        settings = streams, mode.get(), np.geterr(), shard_weight
        exchange = self.exchange.shards, self.exchange.offset, self.exchange.size
        job = Job(*worker.number_of(data), part, weight, self.outputs[rank], exchange, *settings)
        try:
            worker.link.send(*job)
        except OSError:
            self._lost(worker)

    def _sent(self, x: Any) -> tuple[Place, str]:
        """Copy one array of a shard into shared memory. Returns its place, and what it is: an
        "array"; a "tensor"; or a "leaf", a Tensor that collects a gradient."""
        array = x._data if isinstance(x, Tensor) else x
        place = self.arena.place(array)
        self.inputs.append(place)
        self.arena.view(place)[...] = array
        if not isinstance(x, Tensor):
            return place, "array"
        return place, "leaf" if requires_grad(x) else "tensor"

    def _result(self, rank: int, mine: Any) -> Any:
        """What a worker has made of its shard: in ``map`` its rows, otherwise its loss and its
        gradients. mine: the result of shard 0."""
        (_, result), (offset, _) = self.ended[rank], self.outputs[rank]
        if self.weights is None:
            if isinstance(result, np.ndarray):  # there was not enough room for it
                worker = self._worker(rank)
                worker.capacity = max(worker.capacity, aligned(result.nbytes))
                return wrap(result, None)
            shape, dtype = result
            return wrap(self.arena.block(offset, shape, np.dtype(dtype)), None)
        shape, dtype, indices = result
        loss = self.arena.block(offset, shape, np.dtype(dtype))
        offset += ALIGNMENT
        _, gradients_of_shard_0 = mine
        gradients = {}
        for i in indices:  # the gradients lie one after the other
            leaf = self._leaf(rank, i)
            array = leaf._data
            g = self.arena.block(offset, array.shape, array.dtype)
            offset += aligned(array.nbytes)
            if i < 0:
                leaf, g = whole_gradient(leaf, g, self.parts, rank)
            if leaf in gradients:  # it reached the function in two ways, as f(x, x)
                g = gradients[leaf]._data + g
            # ``summed`` adds g to the gradient of shard 0. If there is none, g itself becomes the
            # result, so it must not stay in shared memory, which the next batch overwrites.
            gradients[leaf] = wrap(g if leaf in gradients_of_shard_0 else g.copy(), None)
        return loss, gradients

    def _leaf(self, rank: int, i: int) -> Tensor:
        """The leaf with the index i: a Tensor of the function, or, for i = -1, -2, ..., the first,
        second, ... part of the batch."""
        return self.sender.tensors[i] if i >= 0 else self.parts[rank][-1 - i]

    def _worker(self, rank: int) -> Worker:
        return next(worker for worker in self.workers.values() if worker.rank == rank)

    # -- shard 0, which meets the other shards ----------------------------------------------------

    def _shard_0(self, function: Callable, streams: Any) -> Any:
        member.set(self)
        rng.use(streams)
        weight = None if self.weights is None else self.weights[0]
        return computed(function, self.parts[0], weight)

    def all_reduce(self, x: Any) -> Any:
        """The sum of x over all shards, in the order of ranks."""
        self.refuse_a_fork()
        shown = self.exchange.show(x)
        others = self._gathered("all_reduce")
        if shown is not None and all(shown == what for _, _, what in others):
            self._answered(None)  # each shard adds up what all of them show
            return sum_of(self.exchange.read_all(*shown))
        # An array came in a message if its shard could not show it. This process adds up, and sends
        # the sum to all shards.
        arrays = [x]
        for rank, (_, y, what) in enumerate(others, 1):
            arrays.append(y if what is None else self.exchange.read(rank, *what))
        self.room = max(self.room, *(getattr(array, "nbytes", 0) for array in arrays))
        return self._answered(sum_of(arrays))

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        """Run the work of shard 0, once all shards have arrived, and give all of them its
        result."""
        self._gathered("change of state")
        self.working = True
        try:
            return self._answered(stored(work, store))
        finally:
            self.working = False

    def _gathered(self, kind: str) -> list[tuple[str, Any, Any]]:
        """Wait until all shards have arrived. Returns the entries of ``waiting``, by rank."""
        self.refuse_a_fork()
        if self.working:
            raise RuntimeError(INSIDE_ONCE.format(kind))
        while len(self.waiting) + len(self.ended) < len(self.workers):
            self._listen()
        if self.ended:
            self.stranded = True
            raise RuntimeError(LEFT.format(kind))
        kinds = {kind, *(other for other, _, _ in self.waiting.values())}
        if len(kinds) > 1:
            raise RuntimeError(DIFFERENT_CALLS.format(" and ".join(sorted(kinds))))
        return [self.waiting[rank] for rank in sorted(self.waiting)]

    def _answered(self, result: Any) -> Any:
        """Send the result to all other shards, which wait for it, and return it."""
        self.waiting.clear()
        for worker in self.workers.values():
            try:
                worker.link.send("result", result)
            except OSError:
                self._lost(worker)
        return result

    def _let_go(self) -> None:
        """Shard 0 has ended. The shards that wait for it get a message that it will not come."""
        for worker in self.workers.values():
            if worker.rank in self.waiting:
                del self.waiting[worker.rank]
                try:
                    worker.link.send("left", None)
                except OSError:
                    self._lost(worker)

    def _listen(self) -> None:
        """Receive at least one message."""
        if self.dead is not None:
            raise self.dead
        for file, _ in wait_for(self.poll, self.looks):
            worker = self.workers[file]
            try:
                message = worker.link.receive()
            except (EOFError, OSError):
                self._lost(worker)
            if message[0] == "meet":
                self.waiting[worker.rank] = message[1:]
            else:
                self.ended[worker.rank] = message

    def _lost(self, worker: Worker) -> NoReturn:
        """Raise the error of a worker that has ended."""
        self.dead = RuntimeError(
            f"the process that computed shard {worker.rank} of a batch {worker.kill()}: the batch "
            "is not done, and nothing was changed by it. The next batch starts new processes"
        )
        raise self.dead

    def refuse_a_fork(self) -> None:
        """RuntimeError in a process that was forked inside shard 0."""
        if os.getpid() != self.process:
            raise RuntimeError(FORKED)


def _raise(error: BaseException) -> NoReturn:
    raise error


def requires_grad(x: Any) -> bool:
    """Is x a Tensor that collects a gradient?"""
    return isinstance(x, Tensor) and x._node is not None


def whole_gradient(
    part: Tensor, g: np.ndarray, parts: list[list], rank: int
) -> tuple[Tensor, np.ndarray]:
    """The leaf of which ``part`` is a slice, and its gradient, which is 0 outside the slice."""
    leaf = part._node.parents[0]
    start = sum(len(shard[0]) for shard in parts[:rank])
    whole = np.zeros_like(leaf._data)
    whole[start : start + len(g)] = g
    return leaf, whole
