"""What a worker process does: it computes one shard of each batch, until the calling process closes
the group or ends.

The arrays of a shard lie in shared memory (shared_memory.py), and so do its results. Where layers
meet the other shards (engine/shards.py), the worker sends a message to the calling process and
waits for the answer. An array that the shards add up is not in the message: each shard shows its
own in shared memory (Exchange), and adds up those of all.

Read first: processes.py.  Read next: receiving.py, how bytes become a function again.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import sys
import traceback
from collections.abc import Callable
from contextvars import Context
from typing import Any, NoReturn

import numpy as np

from tinycv.engine import rng
from tinycv.engine.crew import FORKED, LEFT, sum_of
from tinycv.engine.shards import member
from tinycv.engine.tensor import LEAF, mode, wrap
from tinycv.training.groups import loss_and_gradients, refuse_other_rows
from tinycv.training.links import Job, Link
from tinycv.training.receiving import Received, Receiver
from tinycv.training.shared_memory import ALIGNMENT, Arena, Exchange, Place, aligned


class InWorker:
    """A shard that a worker computes; it has the interface Member of shards.py."""

    def __init__(self, link: Link, exchange: Exchange, weight: float | None):
        self.link, self.exchange, self.rank, self.weight = link, exchange, exchange.rank, weight
        self.process = os.getpid()
        self.stranded = False  # has this shard waited in vain for a shard that had ended?

    def all_reduce(self, x: Any) -> Any:
        self.refuse_a_fork()
        shown = self.exchange.show(x)
        total = self._met("all_reduce", x if shown is None else None, shown)
        if shown is not None and total is None:  # each shard adds up what all of them show
            return sum_of(self.exchange.read_all(*shown))
        return total

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        result = self._met("change of state", None)
        if store is not None:
            store(result)  # into the state that the layer has in this worker
        return result

    def _met(self, kind: str, x: Any, shown: Any = None) -> Any:
        """Contribute x, or what this shard shows, and wait for the result."""
        self.refuse_a_fork()
        self.link.send("meet", kind, x, shown)
        word, result = self.link.receive()
        if word == "left":
            self.stranded = True
            raise RuntimeError(LEFT.format(kind))
        return result

    def refuse_a_fork(self) -> None:
        """RuntimeError in a process that was forked inside the shard."""
        if os.getpid() != self.process:
            raise RuntimeError(FORKED)


def serve(link: Link, receiver: Receiver, rank: int) -> NoReturn:
    """What a worker runs: it does the jobs that are sent to it, until the other process ends."""
    # Ctrl-C at a terminal reaches all processes; the calling process alone decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # so that the garbage collector does not write to memory shared with the parent
    functions: dict[int, Received] = {}
    process = os.getpid()
    try:
        # Otherwise the streams of Python and NumPy would go on like those of the calling process,
        # and each shard would draw the same numbers.
        random.seed(random.getrandbits(64) + rank)
        np.random.seed([*np.random.randint(0, 2**32, 4, np.int64).tolist(), rank])
        while True:
            job = Job(*link.receive())
            exchange = Exchange(receiver.arena, rank, *job.exchange)
            shard = InWorker(link, exchange, job.shard_weight)
            message = Context().run(_done, job, shard, receiver, functions)
            if os.getpid() != process:
                print(FORKED, file=sys.stderr, flush=True)
                os._exit(1)
            sys.stdout.flush()
            _report(link, *message)
            # While the calling process adds up, make the function from its bytes again. The objects
            # that it holds are then new, and nothing that it has changed in the old ones remains.
            if job.number in functions:
                functions[job.number] = receiver.received(functions[job.number].data)
    except (EOFError, OSError):
        os._exit(0)  # the other process has closed the group, or has ended
    except BaseException:
        traceback.print_exc()
    finally:
        # A worker must not return into the program from which it was forked.
        os._exit(1)


def _done(job: Job, shard: InWorker, receiver: Receiver, functions: dict[int, Received]) -> tuple:
    """Do one job. Returns the message that reports it: ("done", how to read the results) or
    ("failed", the error, InWorker.stranded)."""
    member.set(shard)
    rng.use(job.streams)
    mode.set(job.mode)
    np.seterr(**job.floating_errors)
    try:
        if job.function is not None:
            functions[job.number] = receiver.received(job.function)
        received = functions[job.number]
        arrays = [_part(receiver.arena, *what) for what in job.part]
        result = computed(received.ready(), arrays, job.weight)
    except BaseException as error:
        return "failed", error, shard.stranded
    if job.weight is None:
        return "done", _placed(receiver.arena, result._data, job.output)
    loss, gradients = result
    offset = job.output[0]
    receiver.arena.block(offset, loss.shape, loss.dtype)[...] = loss
    # the index of each leaf: see Batch._leaf in calling_side.py
    leaves = {id(t): i for i, t in enumerate(received.tensors)}
    leaves |= {id(x): -1 - i for i, x in enumerate(arrays)}
    stored = _stored_gradients(receiver.arena, gradients, leaves, offset + ALIGNMENT)
    return "done", (loss.shape, loss.dtype.str, stored)


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


def _part(arena: Arena, place: Place, kind: str) -> Any:
    """One array of the batch, as the calling process has it."""
    array = arena.view(place)
    return array if kind == "array" else wrap(array, LEAF if kind == "leaf" else None)


def _placed(arena: Arena, y: np.ndarray, output: tuple[int, int]) -> Any:
    """Write the rows of a shard into shared memory. Returns how to read them there, or the rows
    themselves if there is not enough room for them."""
    offset, size = output
    if y.nbytes > size or not y.nbytes:
        return y
    arena.block(offset, y.shape, y.dtype)[...] = y
    return y.shape, y.dtype.str


def _stored_gradients(arena: Arena, gradients: dict, leaves: dict, offset: int) -> list[int]:
    """Write the gradients into shared memory, one after the other. Returns the indices of their
    leaves. A leaf that the function has made itself is not among them: nobody else has it."""
    stored = []
    for leaf, g in gradients.items():
        if id(leaf) in leaves:
            array = g._data
            arena.block(offset, array.shape, array.dtype)[...] = array
            offset += aligned(array.nbytes)
            stored.append(leaves[id(leaf)])
    return stored


def computed(function: Callable, part: list, weight: float | None) -> Any:
    """The work of one shard: with a weight, its loss and gradients; otherwise its rows."""
    if weight is not None:
        return loss_and_gradients(function, part, weight)
    y = function(*part)
    refuse_other_rows(y, len(part[0]))
    return y
