"""Data parallelism with processes: each process computes the loss and the gradient of its share of
a batch.

The workers are forks of this process, so they have no lock in common: where threads wait for each
other between two calls of NumPy, processes do not.  The price is that numbers are copied: at each
batch the weights and the examples go into shared memory, and the gradients come back
(shared_memory.py).  The function itself goes as bytes (sent_functions.py).

    this process, shard 0                            a worker, shard 1, 2, ...
    copy weights and examples to shared memory
    send the function                       ->       make the function from its bytes
    compute the loss and the gradient                compute the loss and the gradient
    add up the gradients                    <-       copy the gradient to shared memory

The workers are forked at the first batch, and again if a function mentions code that they do not
have.  A batch that is interrupted (Ctrl-C, or a worker that is killed) ends all workers, and the
next one forks new ones.  A worker ends when it can no longer read from this process, so none is
left behind, even if this process is killed.

What a function changes in Python objects (a list that it appends to) changes in this process for
shard 0 alone; the other shards change copies.  Layers change their state through ``once``
(state.py), which works here too.
Read first: groups.py.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import sys
import traceback
import weakref
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from struct import Struct
from threading import Lock
from typing import Any, NoReturn

import numpy as np

from tinycv.engine import arguments, rng
from tinycv.engine.blocks import one_thread_of_blas
from tinycv.engine.crew import DIFFERENT_CALLS, FORKED, INSIDE_ONCE, LEFT, sum_of
from tinycv.engine.shards import member, stored
from tinycv.engine.tensor import LEAF, Tensor, mode, wrap
from tinycv.training.groups import (
    MOST,
    Group,
    Share,
    cores,
    loss_and_gradients,
    refuse_other_rows,
    summed,
)
from tinycv.training.sent_functions import Known, Received, Receiver, Sender, Slots, packed
from tinycv.training.shared_memory import ALIGNMENT, Arena, Place, nbytes_of

# How often a process looks for a message before it sleeps until there is one. To wake up takes
# about 50 us, which would be paid at each all_reduce.
LOOKS = 2000
KEPT = 16  # functions that a worker keeps


class Processes(Group):
    """A group of processes: this one, which computes shard 0, and ``size - 1`` workers."""

    carrier = "processes"

    def __init__(self, size: int):
        self.size = arguments.size(size, "processes: size", 1)
        if self.size > MOST:
            raise ValueError(
                f"processes: size is {self.size}; it must be a whole number, at least 1 and at "
                f"most {MOST}"
            )
        if not hasattr(os, "fork"):
            raise RuntimeError(
                "processes: this system cannot fork a process, which parallel.processes needs: use "
                "parallel.threads()"
            )
        self._workers = Workers(self.size - 1)
        one_thread_of_blas.enter()
        self._end = weakref.finalize(self, _end, self._workers, os.getpid())

    def _gradients(
        self, loss_of: Callable[..., Tensor], shares: list[Share], weights: list[float], mean: bool
    ) -> tuple[Any, dict]:
        if len(shares) == 1:
            return summed([loss_and_gradients(loss_of, shares[0].arrays, weights[0])], weights)
        results = self._workers.run(
            loss_of, [share.arrays for share in shares], weights, weights if mean else None
        )
        return summed(results, weights)

    def _results(self, function: Callable[..., Tensor], shares: list[Share]) -> list[Any]:
        if len(shares) == 1:
            return [function(*shares[0].arrays)]
        return self._workers.run(function, [share.arrays for share in shares])

    def close(self) -> None:
        """End the processes, and restore the number of threads that BLAS had."""
        self._end()


def _end(workers: Workers, process: int) -> None:
    """Clean up after a group that was closed or collected, or at the end of the program."""
    if os.getpid() == process:
        workers.close()
        one_thread_of_blas.leave()


# ── This process ─────────────────────────────────────────────────────────────────────────────────


class Link:
    """One end of a connection between two processes, through which Python objects are sent."""

    LENGTH = Struct("=Q")

    def __init__(self, end: socket.socket, looks: int):
        self.socket, self.looks = end, looks
        self.poll = select.poll()
        self.poll.register(end, select.POLLIN)

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message, 5)
        self.socket.sendall(self.LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """The next message. EOFError if the other process has ended."""
        wait_for(self.poll, self.looks)
        (length,) = self.LENGTH.unpack(self._read(self.LENGTH.size))
        return pickle.loads(self._read(length))

    def _read(self, length: int) -> bytes:
        data = self.socket.recv(length)
        if len(data) == length:
            return data
        parts = [data]
        while data and len(data) < length:
            length -= len(data)
            data = self.socket.recv(min(length, 1 << 20))
            parts.append(data)
        if not data:
            raise EOFError
        return b"".join(parts)


def wait_for(poll: Any, looks: int) -> list:
    """The connections from which something can be read: look often, then sleep until there is
    one."""
    for _ in range(looks):
        found = poll.poll(0)
        if found:
            return found
    return poll.poll()


class Worker:
    """A worker, as this process sees it."""

    def __init__(self, rank: int, pid: int, link: Link):
        self.rank, self.pid, self.link = rank, pid, link
        self.functions: dict[bytes, int] = {}  # those that the worker keeps, and their numbers
        self.sent = 0
        self.capacity = 0  # bytes of the last results of ``map``
        self.ended: str | None = None

    def number_of(self, function: bytes) -> tuple[int, bytes | None]:
        """The number under which the worker keeps a function, and its bytes if they are new."""
        number = self.functions.get(function)
        if number is not None:
            return number, None
        number = self.sent % KEPT
        self.functions = {f: n for f, n in self.functions.items() if n != number}
        self.functions[function], self.sent = number, self.sent + 1
        return number, function

    def kill(self) -> str:
        """End the worker at once, unless it has ended. Returns how it ended, in words."""
        if self.ended is None:
            self.link.socket.close()
            try:
                # A worker that has ended keeps its number until waitpid, so this kills no other.
                os.kill(self.pid, signal.SIGKILL)
                self.ended = in_words(os.waitpid(self.pid, 0)[1])
            except (ProcessLookupError, ChildProcessError):
                self.ended = "ended in an unknown way"  # another part of the program waited for it
        return self.ended


def in_words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


class Workers:
    """The worker processes of a group, and the memory that they share with this process."""

    def __init__(self, count: int):
        self.count = count
        self.known = Known()
        self._forget()
        EVERYWHERE.add(self)

    def _forget(self) -> None:
        """Begin without workers. A forked child does this too: the workers belong to its parent."""
        self.workers: list[Worker] = []
        self.poll = select.poll()
        self.slots: Slots | None = None
        self.busy = Lock()  # one batch at a time
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
        them is raised."""
        with self.busy:
            if self.under_way or self._have_ended():
                self.end()
            if self.slots is None:
                self.slots = Slots(Arena())
            data, sender = packed(function, self.known, self.slots)
            if self.known.is_new or not self.workers:
                self._fork(self.slots.arena)
            for view, array in sender.copies:
                view[...] = array
            self.under_way = True
            batch = Batch(self, self.slots.arena, sender, parts, weights)
            try:
                outcome = batch.run(function, data, shard_weights)
            except BaseException:
                batch.refuse_a_fork()
                self.end()
                raise
            self.under_way = False
        return outcome()

    def _have_ended(self) -> bool:
        """Has a worker ended since the last batch? Otherwise there is nothing to read from it."""
        return bool(self.poll.poll(0))

    def _fork(self, arena: Arena) -> None:
        """Fork the workers: all that this process knows now exists in them too."""
        self.end()
        sys.stdout.flush()
        sys.stderr.flush()
        looks = LOOKS if cores() > self.count else 0
        known = self.known  # which _in_child does not touch
        self.under_way = True
        for rank in range(1, self.count + 1):
            near_end, far_end = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                near_end.close()
                serve(Link(far_end, looks), Receiver(known, arena), rank)
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


class Batch:
    """One batch, in this process: it sends the jobs, computes shard 0, and brings the shards
    together. It has the interface Member of shards.py, for shard 0."""

    rank = 0

    def __init__(
        self,
        workers: Workers,
        arena: Arena,
        sender: Sender,
        parts: list[list],
        weights: list[float] | None,
    ):
        self.poll, self.arena = select.poll(), arena
        self.workers: dict[int, Worker] = {}
        for worker in workers.workers[: len(parts) - 1]:
            self.poll.register(worker.link.socket, select.POLLIN)
            self.workers[worker.link.socket.fileno()] = worker
        self.looks = workers.workers[0].link.looks
        self.sender, self.parts, self.weights = sender, parts, weights
        self.waiting: dict[int, tuple[str, Any]] = {}  # {rank: the call at which it waits}
        self.ended: dict[int, Any] = {}  # {rank: its last message}
        self.weight: float | None = None
        self.process, self.working, self.stranded = os.getpid(), False, False
        self.dead: RuntimeError | None = None  # the error of a worker that has ended
        self.outputs: dict[int, tuple[int, int]] = {}  # {rank: (offset, bytes) for its results}
        self.inputs: list[Place] = []

    def run(
        self, function: Callable, data: bytes, shard_weights: list[float] | None
    ) -> Callable[[], list]:
        """Run the batch. Returns a function that returns the results or raises an error."""
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
            size = sum(aligned(leaf.nbytes) for leaf in leaves)
        self.outputs[rank] = self.arena.reserve(size), size
        number, function = worker.number_of(data)
        settings = streams, mode.get(), np.geterr(), weights and weights[rank]
        try:
            worker.link.send(number, function, part, weight, self.outputs[rank], settings)
        except OSError:
            self._lost(worker)

    def _sent(self, x: Any) -> tuple[Place, str]:
        """Copy a part of the batch into shared memory. Returns its place, and what it is."""
        array = x._data if isinstance(x, Tensor) else x
        place = self.arena.place(array)
        self.inputs.append(place)
        self.arena.view(place)[...] = array
        if not isinstance(x, Tensor):
            return place, "array"
        return place, "leaf" if requires_grad(x) else "tensor"

    def _result(self, rank: int, mine: Any) -> Any:
        """What a worker has made of its shard."""
        (_, result), (offset, _) = self.ended[rank], self.outputs[rank]
        if self.weights is None:
            if isinstance(result, np.ndarray):  # there was not enough room for it
                self._worker(rank).capacity = aligned(result.nbytes)
                return wrap(result, None)
            return wrap(self.arena.view(Place(offset, *result)), None)
        loss, indices = result
        gradients = {}
        for i in indices:
            leaf = self._leaf(rank, i)
            array = leaf._data
            g = self.arena.view(Place(offset, array.shape, contiguous(array), array.dtype.str))
            offset += aligned(array.nbytes)
            if i < 0:
                leaf, g = whole_gradient(leaf, g, self.parts, rank)
            gradients[leaf] = wrap(g if leaf in mine[1] else g.copy(), None)
        return loss, gradients

    def _leaf(self, rank: int, i: int) -> Tensor:
        """The leaf with the index i: a Tensor of the function, or a part of the batch."""
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
        return self._answered(sum_of(self._gathered("all_reduce", x)))

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        """Run the work of shard 0, once all shards have arrived, and give all of them its
        result."""
        self._gathered("change of state", None)
        self.working = True
        try:
            return self._answered(stored(work, store))
        finally:
            self.working = False

    def _gathered(self, kind: str, x: Any) -> list[Any]:
        """What all shards contribute, when all have arrived."""
        self.refuse_a_fork()
        if self.working:
            raise RuntimeError(INSIDE_ONCE.format(kind))
        while len(self.waiting) + len(self.ended) < len(self.workers):
            self._listen()
        if self.ended:
            self.stranded = True
            raise RuntimeError(LEFT.format(kind))
        kinds = {kind, *(other for other, _ in self.waiting.values())}
        if len(kinds) > 1:
            raise RuntimeError(DIFFERENT_CALLS.format(" and ".join(sorted(kinds))))
        return [x, *(self.waiting[rank][1] for rank in sorted(self.waiting))]

    def _answered(self, result: Any) -> Any:
        """Send the result to all shards, which wait for it."""
        self.waiting.clear()
        for worker in self.workers.values():
            try:
                worker.link.send("result", result)
            except OSError:
                self._lost(worker)
        return result

    def _let_go(self) -> None:
        """Tell the shards that wait that not all shards will come."""
        for worker in self.workers.values():
            if worker.rank in self.waiting:
                del self.waiting[worker.rank]
                worker.link.send("left", None)

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
    return isinstance(x, Tensor) and x._node is not None


def aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def contiguous(array: np.ndarray) -> tuple[int, ...]:
    """The strides of an array of this shape and dtype in C order."""
    strides, step = [], array.itemsize
    for n in reversed(array.shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def whole_gradient(
    part: Tensor, g: np.ndarray, parts: list[list], rank: int
) -> tuple[Tensor, np.ndarray]:
    """The leaf of which ``part`` is a slice, and its gradient, which is 0 outside the slice."""
    leaf = part._node.parents[0]
    start = sum(len(shard[0]) for shard in parts[:rank])
    whole = np.zeros_like(leaf._data)
    whole[start : start + len(g)] = g
    return leaf, whole


def computed(function: Callable, part: list, weight: float | None) -> Any:
    """The work of one shard: with a weight, its loss and gradients; otherwise its rows."""
    if weight is not None:
        return loss_and_gradients(function, part, weight)
    y = function(*part)
    refuse_other_rows(y, len(part[0]))
    return y


# ── A worker ─────────────────────────────────────────────────────────────────────────────────────


class InWorker:
    """A shard that a worker computes; it has the interface Member of shards.py."""

    def __init__(self, link: Link, rank: int, weight: float | None):
        self.link, self.rank, self.weight = link, rank, weight
        self.process, self.stranded = os.getpid(), False

    def all_reduce(self, x: Any) -> Any:
        return self._met("all_reduce", x)

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        result = self._met("change of state", None)
        if store is not None:
            store(result)  # in the copy of the state that is in shared memory
        return result

    def _met(self, kind: str, x: Any) -> Any:
        """Contribute x, and wait for the result."""
        if os.getpid() != self.process:
            raise RuntimeError(FORKED)
        self.link.send("meet", kind, x)
        word, result = self.link.receive()
        if word == "left":
            self.stranded = True
            raise RuntimeError(LEFT.format(kind))
        return result


def serve(link: Link, receiver: Receiver, rank: int) -> NoReturn:
    """What a worker runs: it does the jobs that are sent to it, until the other process ends."""
    # Ctrl-C at a terminal reaches all processes; the calling process alone decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # so that the garbage collector does not write to memory shared with the parent
    functions: dict[int, Received] = {}
    process = os.getpid()
    try:
        while True:
            number, data, *job = link.receive()
            message = Context().run(_done, link, receiver, rank, functions, number, data, *job)
            if os.getpid() != process:
                print(FORKED, file=sys.stderr, flush=True)
                os._exit(1)
            sys.stdout.flush()
            _report(link, *message)
    except (EOFError, OSError):
        os._exit(0)  # the other process has closed the group, or has ended
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _report(link: Link, word: str, *rest: Any) -> None:
    """Send the last message of a job. An error that cannot be sent becomes a RuntimeError."""
    if word == "failed":
        error, stranded = rest
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            rest = RuntimeError(f"{type(error).__name__}: {error}"), stranded
    link.send(word, *rest)


def _done(
    link: Link,
    receiver: Receiver,
    rank: int,
    functions: dict[int, Received],
    number: int,
    data: bytes | None,
    part: list,
    weight: float | None,
    output: tuple[int, int],
    settings: tuple,
) -> tuple:
    """Do one job. Returns the message that reports it."""
    streams, mode_bits, floating_errors, shard_weight = settings
    shard = InWorker(link, rank, shard_weight)
    member.set(shard)
    rng.use(streams)
    mode.set(mode_bits)
    np.seterr(**floating_errors)
    try:
        if data is not None:
            functions[number] = receiver.received(data)
        function = functions[number].ready()
        arrays = [_part(receiver.arena, *what) for what in part]
        result = computed(function, arrays, weight)
    except BaseException as error:
        return "failed", error, shard.stranded
    if weight is None:
        return "done", _placed(receiver.arena, result._data, output)
    loss, gradients = result
    leaves = {id(t): i for i, t in enumerate(functions[number].tensors)}
    leaves |= {id(x): -1 - i for i, x in enumerate(arrays)}
    return "done", (loss, _stored_gradients(receiver.arena, gradients, leaves, output[0]))


def _part(arena: Arena, place: Place, kind: str) -> Any:
    """One array of the batch, as the calling process has it."""
    array = arena.view(place)
    return array if kind == "array" else wrap(array, LEAF if kind == "leaf" else None)


def _placed(arena: Arena, y: np.ndarray, output: tuple[int, int]) -> Any:
    """Write the rows of a shard into shared memory. Returns how to read them there; the rows
    themselves if there is not enough room."""
    offset, size = output
    if y.nbytes > size or not y.nbytes:
        return y
    strides = contiguous(y)
    arena.view(Place(offset, y.shape, strides, y.dtype.str))[...] = y
    return y.shape, strides, y.dtype.str


def _stored_gradients(arena: Arena, gradients: dict, leaves: dict, offset: int) -> list[int]:
    """Write the gradients into shared memory, one after the other. Returns the indices of their
    leaves. A leaf that the function has made itself is not among them: nobody else has it."""
    stored = []
    for leaf, g in gradients.items():
        if id(leaf) in leaves:
            array = g._data
            place = Place(offset, array.shape, contiguous(array), array.dtype.str)
            arena.view(place)[...] = array
            offset += aligned(array.nbytes)
            stored.append(leaves[id(leaf)])
    return stored
