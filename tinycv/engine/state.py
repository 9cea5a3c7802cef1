"""Layer state (running statistics, power iteration): the one way in which it may change.

Batch norm keeps running statistics, and spectral norm the vectors u and v of its power iteration.
If the forward pass simply wrote to them, two things would go wrong:

    in shards (training/parallel.py)   every shard runs the layer, so the state would be updated
                                       once per shard, while other shards compute with it
    in nn.checkpoint                   the function runs again in the backward pass, so the state
                                       would be updated twice, and the second run would compute
                                       something different from the first

So a layer passes a function that computes its new state, and uses the arrays that it gets back:

    u, v = renew((self.u, self.v), next_u_and_v)

Here next_u_and_v() returns the new arrays and writes nothing.

    once per batch                   the shards wait until all have arrived; then one of them runs
                                     next_u_and_v, its result is written once in each memory, and
                                     all shards receive the same arrays
    the second run in a checkpoint   writes nothing, and receives the arrays of the first run
    an error in any shard            restores the state from before the batch (parallel.Group does
                                     this with ``kept_if_done``)

A layer that reads state without changing it, as batch norm does in eval mode, calls
``read_state``.  In a checkpoint, the second run then reads the values that the first run read,
whatever was written in between.  No layer sets its own attributes in ``forward``:
tests/engine/test_state.py runs every layer of the package in shards and in a checkpoint, and
compares the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from tinycv.engine import shards
from tinycv.engine.backend import Array
from tinycv.engine.tensor import Tensor, wrap


def renew(tensors: Sequence[Tensor], new_values: Callable[[], Sequence[Array]]) -> Sequence[Array]:
    """Write ``new_values()``, one array per tensor, into the tensors, once per batch. Returns those
    arrays.

    The caller can safely compute with the returned arrays: later batches write into the tensors,
    never into these arrays. new_values must not call all_reduce, because only one shard runs it.
    """
    # once computes all arrays before any is written, so an error leaves the state as it was
    return _noted(partial(shards.once, new_values, partial(_write_all, tensors)))


def read_state(tensor: Any) -> Any:
    """The tensor. In a checkpoint, a copy of its values, which the second run receives again."""
    if journal() is None or not isinstance(tensor, Tensor) or tensor.requires_grad:
        # A checkpoint itself notices changes of a tensor that requires a gradient.
        return tensor
    return wrap(_noted(tensor._data.copy), None)


def same(value: object, what: str) -> None:
    """RuntimeError in the second run of a checkpoint if ``value`` is not what it was in the
    first."""
    if journal() is None:
        return
    before = _noted(lambda: value)
    if before != value:
        raise RuntimeError(
            f"checkpoint: {what} was {before} when the function first ran, and is {value} now that "
            "it runs again for its gradient, so the gradient would be wrong. Change it only after "
            "backward"
        )


def refuse_in_checkpoint(what: str) -> None:
    """RuntimeError inside a checkpoint's function, because ``what`` would happen in both runs."""
    if journal() is not None:
        raise RuntimeError(
            f"{what} inside nn.checkpoint, which runs its function twice: use nn.checkpoint inside "
            "the function that each shard computes, or split the batch without nn.checkpoint"
        )


@contextmanager
def kept_if_done() -> Iterator[None]:
    """If the block ends with an error, undo what ``renew`` wrote inside it, in all its shards."""
    written: list[tuple[Tensor, Any]] = []
    outer, token = _written_so_far.get(), _written_so_far.set(written)
    try:
        yield
    except BaseException:
        for tensor, array in reversed(written):
            _write(tensor, array)
        raise
    finally:
        _written_so_far.reset(token)
    if outer is not None:  # the block around this one may still fail
        outer.extend(written)


# The tensors written to since ``kept_if_done`` began, each with its old values. Shards run in
# copies of the caller's context, which contain the same list object.
_written_so_far: ContextVar[list | None] = ContextVar("tinycv_written", default=None)


def _write_all(tensors: Sequence[Tensor], arrays: Sequence[Array]) -> None:
    so_far = _written_so_far.get()
    for tensor, array in zip(tensors, arrays, strict=True):
        if so_far is not None:
            so_far.append((tensor, tensor._data.copy()))
        _write(tensor, array)


def _write(tensor: Tensor, array: Any) -> None:
    # In place, because a captured CUDA graph repeats writes to memory, but no assignments.
    tensor._data[...] = array
    tensor.mark_changed()


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────


class Journal:
    """The state values that a checkpoint's function read in its first run, in the order in which it
    read them.

    Checkpoints may be nested. Each run of the outer function is a first run for the inner
    checkpoint, so the inner one takes its values from the outer one, which knows whether they are
    new or replayed.
    """

    def __init__(self) -> None:
        self.outer, self.entries = journal(), []

    def next(self, read: Callable[[], Any]) -> Any:
        self.entries.append(read() if self.outer is None else self.outer.next(read))
        return self.entries[-1]


class Replay:
    """Returns the entries of a Journal again, one by one, in the second run."""

    def __init__(self, journal: Journal):
        self.remaining = iter(journal.entries)

    def next(self, read: Callable[[], Any]) -> Any:
        for entry in self.remaining:
            return entry
        raise RuntimeError(
            "checkpoint: when the function ran again, it called more layers that keep state than "
            "in the first run; it must do the same both times"
        )


_journal: ContextVar[Journal | Replay | None] = ContextVar("tinycv_journal", default=None)
# journal() is the Journal or Replay of the checkpoint whose function is running; None outside any
journal = _journal.get


def _noted(read: Callable[[], Any]) -> Any:
    """read(); in a checkpoint its result is noted in the first run, and returned in the second."""
    current = journal()
    return read() if current is None else current.next(read)


@contextmanager
def noted() -> Iterator[Journal]:
    """``with noted() as journal:`` around the first run, and later ``with replayed(journal):``
    around the second."""
    journal_of_run = Journal()
    token = _journal.set(journal_of_run)
    try:
        yield journal_of_run
    finally:
        _journal.reset(token)


@contextmanager
def replayed(journal: Journal) -> Iterator[None]:
    """Inside the block, ``renew`` and ``read_state`` return what the journal noted, and write
    nothing."""
    token = _journal.set(Replay(journal))
    try:
        yield
    finally:
        _journal.reset(token)
