"""Data parallelism as layers see it: ``all_reduce`` and ``once``, by which the shards of a batch
exchange values.

A batch is cut into shards, and each shard is computed by a worker of its own: a thread, a process
or an MPI rank.  Shards work independently, except for two primitives at which they meet:

    all_reduce(x)  the sum of x over all shards. Every shard receives it, to the last bit the same.
    once(work)     one shard runs work() while the others wait. Every shard receives its result.
                   once(work, store) also calls store(result), once in each memory: once for all
                   threads of a process, and once in each process that has its own copy.

With all_reduce a layer can compute a statistic of the whole batch, as nn/batch_norm.py does.  It
can be differentiated: each shard has a copy of the sum, and the loss of the batch is the sum of the
shards' losses, so dL/dx in one shard is the sum, over the shards, of the gradients of those copies.
That sum is an all_reduce again: all_reduce is its own transpose (see its row in ops.py).  Outside
any shard it is the identity.  Layers change their state through ``once``: see state.py.

Whatever computes shards supplies an object with the interface ``Member``, and sets the variable
``member`` to it while a shard is computed:

    threads      InCrew in crew.py
    processes    Batch in training/calling_side.py for shard 0, and InWorker in
                 training/worker_side.py for the others
    MPI ranks    InRank in training/mpi.py

Read next: crew.py; training/parallel.py, which users call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from tinycv.engine.backend import Array


class Member(Protocol):
    """One shard of a batch, as the layers that compute it see it."""

    @property
    def rank(self) -> int:
        """The number of the shard: 0, 1, ..."""
        ...

    @property
    def weight(self) -> float | None:
        """The weight of the shard's loss in the loss of the batch: its share of the examples. None
        if the loss of the batch is not a mean but a sum, or if there is no loss."""
        ...

    def all_reduce(self, x: Any) -> Any:
        """The sum of x over all shards."""
        ...

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        """The result of ``work()``, which one shard runs while the others wait; ``store(result)``
        is called once in each memory."""
        ...


# The shard that is being computed in this context; None outside any shard
member: ContextVar[Member | None] = ContextVar("tinycv_member", default=None)


def all_reduce(x: Any) -> Any:
    """The sum of x, an array or a number, over all shards; x itself outside any shard."""
    shard = member.get()
    return x if shard is None else shard.all_reduce(x)


def once(work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
    """``work()``, once per batch: one shard runs it while the others wait, and every shard receives
    its result. store(result) is called once in each memory, before any shard goes on."""
    shard = member.get()
    return stored(work, store) if shard is None else shard.once(work, store)


def stored(work: Callable[[], Any], store: Callable[[Any], None] | None) -> Any:
    """The result of ``work()``, after ``store(result)``."""
    result = work()
    if store is not None:
        store(result)
    return result


def divisor(count: Array | float) -> Array | float:
    """The number by which a shard divides a sum over ``count`` of its rows, so that the batch's
    loss becomes the mean over the rows of all shards. Outside any shard: ``count``.

    The loss of the batch is Σ_i weight_i loss_i over the shards i. If shard i returns
    loss_i = S_i / (weight_i Σ_j count_j), that is Σ_i S_i / Σ_j count_j: the mean over all rows
    that count, even if some shards have more of these than others (ignore_index, class weights).
    """
    shard = member.get()
    if shard is None or shard.weight is None:
        return count
    return shard.all_reduce(count) * shard.weight


def rank() -> int:
    """The number of this shard; 0 outside any shard. To do something once per batch and not once
    per shard, do it where the rank is 0."""
    shard = member.get()
    return 0 if shard is None else shard.rank
