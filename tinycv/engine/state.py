"""State that a layer keeps from batch to batch, and the one way in which it may change.

Batch norm keeps running statistics, spectral norm the vectors u and v of its power iteration.  A
forward pass that simply wrote to them would be wrong in two places:

    in shards (training/parallel.py)   every shard runs the layer, so the state would move once per
                                       shard, and while other shards compute with it
    in nn.checkpoint                   the function runs a second time on the way back, so the state
                                       would move twice, and the second run would compute another
                                       function than the first

So a layer hands over *how* its state moves, and computes with what it gets back:

    u, v = renew((self.u, self.v), next_u_and_v)

where next_u_and_v() returns the new arrays and writes nothing.

    once per batch                   the shards meet; when all have come, one of them runs
                                     next_u_and_v and writes the result; all of them leave with the
                                     same arrays
    the second run in a checkpoint   writes nothing, and gets the arrays that the first run got
    an error in any shard            puts the state back as it was before the batch (parallel.Group,
                                     through ``kept_if_done``)

A layer that reads state without changing it, as batch norm does in eval mode, calls ``seen``: in a
checkpoint the second run then reads what the first one read, whatever was written in between.  No
layer sets attributes of itself in ``forward``; tests/engine/test_state.py runs every layer of the
package in shards and in a checkpoint, and compares.
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

    They are the caller's to compute with: later batches write into the tensors, never into these
    arrays. new_values calls no all_reduce: of the shards one alone runs it.
    """
    return _noted(partial(shards.once, partial(_written, tensors, new_values)))


def seen(tensor: Any) -> Any:
    """The tensor; in a checkpoint its values as they are now, which the second run gets again."""
    if journal() is None or not isinstance(tensor, Tensor) or tensor.requires_grad:
        # what requires a gradient, a checkpoint watches itself
        return tensor
    return wrap(_noted(tensor._data.copy), None)


def same(value: object, what: str) -> None:
    """RuntimeError in a checkpoint's second run where ``value`` is not what it was in the first
    run."""
    if journal() is not None and (before := _noted(lambda: value)) != value:
        raise RuntimeError(
            f"checkpoint: {what} was {before} when the function ran first, and is {value} now that "
            "it runs again for its gradient, which would be of another function. Change it after "
            "backward"
        )


def refuse_in_checkpoint(what: str) -> None:
    """RuntimeError inside a checkpoint's function: ``what`` would happen in both of its runs."""
    if journal() is not None:
        raise RuntimeError(
            f"{what} inside nn.checkpoint, whose function runs twice: checkpoint what each shard "
            "computes, or split the batch without a checkpoint around it"
        )


@contextmanager
def kept_if_done() -> Iterator[None]:
    """Put back what ``renew`` wrote inside the block, also in its shards, if the block ends with an
    error."""
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


# What was written since kept_if_done began, with the values from before. Shards run in copies of
# the caller's context, which hold this same list.
_written_so_far: ContextVar[list | None] = ContextVar("tinycv_written", default=None)


def _written(
    tensors: Sequence[Tensor], new_values: Callable[[], Sequence[Array]]
) -> Sequence[Array]:
    # all of them first: an error in here has changed nothing
    arrays = new_values()
    so_far = _written_so_far.get()
    for tensor, array in zip(tensors, arrays, strict=True):
        if so_far is not None:
            so_far.append((tensor, tensor._data.copy()))
        _write(tensor, array)
    return arrays


def _write(tensor: Tensor, array: Any) -> None:
    # in place, so that a recorded step on a GPU does it too
    tensor._data[...] = array
    tensor.mark_changed()


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────


class Journal:
    """What the first run of a checkpoint's function saw, in its order.

    A checkpoint within a checkpoint runs its function first while the outer one runs for the first
    or second time; so what it does not know itself it takes from the outer one.
    """

    def __init__(self) -> None:
        self.outer, self.entries = journal(), []

    def next(self, look: Callable[[], Any]) -> Any:
        self.entries.append(look() if self.outer is None else self.outer.next(look))
        return self.entries[-1]


class Replay:
    """The journal's entries, handed out again."""

    def __init__(self, journal: Journal):
        self.left = iter(journal.entries)

    def next(self, look: Callable[[], Any]) -> Any:
        for entry in self.left:
            return entry
        raise RuntimeError(
            "checkpoint: the function called more layers that keep state when it ran again; it "
            "must do the same both times"
        )


_journal: ContextVar[Journal | Replay | None] = ContextVar("tinycv_journal", default=None)
# what the checkpoint whose function is running notes, or hands out again; None outside of any
journal = _journal.get


def _noted(look: Callable[[], Any]) -> Any:
    current = journal()
    return look() if current is None else current.next(look)


@contextmanager
def noted() -> Iterator[Journal]:
    """``with noted() as journal:`` around the first run, and later ``with replayed(journal):``
    around the second."""
    made = Journal()
    token = _journal.set(made)
    try:
        yield made
    finally:
        _journal.reset(token)


@contextmanager
def replayed(journal: Journal) -> Iterator[None]:
    """Hand out what the journal noted, and write nothing."""
    token = _journal.set(Replay(journal))
    try:
        yield
    finally:
        _journal.reset(token)
