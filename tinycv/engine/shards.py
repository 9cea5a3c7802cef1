"""Shards: one batch, cut into parts that are computed at the same time, each by a thread.

NumPy lets go of Python's lock while it computes, so threads do run side by side, on one model in
one memory.  A shard works alone but for two primitives, at which the shards meet:

    all_reduce(x)  the sum of x over all shards, which every shard gets, and the same bits of it
    once(work)     work() is run by one shard while the others wait, and every shard gets its result

With all_reduce a layer can compute something of the whole batch (nn/batch_norm.py does).  The loss
of the batch is the sum of the shards' losses, so dL/dx in one shard is the sum over the shards of
what reaches their copies of the result: all_reduce is its own transpose, and a row of ops.py.
Outside of any shard it is the identity.  ``once`` is how layers change what they keep: see
state.py.

A way to compute in parallel supplies a ``Member``, put into ``member``: crew.py does so with
threads, and it could be MPI or NCCL as well.
Read next: crew.py; training/parallel.py, what users type.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from tinycv.engine.backend import Array


class Member(Protocol):
    """One shard among others, as its layers see it."""

    @property
    def rank(self) -> int:
        """Its number: 0, 1, ..."""
        ...

    @property
    def weight(self) -> float | None:
        """Of its loss in the sum of the batch's: its share of the examples."""
        ...

    def all_reduce(self, x: Any) -> Any:
        """The sum of what all shards bring."""
        ...

    def once(self, work: Callable[[], Any]) -> Any:
        """What one shard's ``work()`` returns, while the others wait."""
        ...


# None: nothing is being shared out
member: ContextVar[Member | None] = ContextVar("tinycv_member", default=None)


def all_reduce(x: Any) -> Any:
    """The sum of x, an array or a number, over all shards; x itself where there is only one."""
    me = member.get()
    return x if me is None else me.all_reduce(x)


def once(work: Callable[[], Any]) -> Any:
    """``work()``, once per batch: one shard runs it while the others wait, and all get its
    result."""
    me = member.get()
    return work() if me is None else me.once(work)


def divisor(count: Array | float) -> Array | float:
    """What a mean over ``count`` rows of this shard divides its sum by; outside of shards, count
    itself.

    The batch's loss is the sum of the shards' losses, each times its ``weight``. With S_i /
    (weight_i Σ_j count_j) from every shard that is Σ_i S_i / Σ_j count_j, the mean over the rows
    that count in the whole batch, however unevenly they lie (ignore_index, class weights).
    """
    me = member.get()
    return count if me is None or me.weight is None else me.all_reduce(count) * me.weight


def rank() -> int:
    """The number of this shard. What must happen once a batch, not once a shard, happens where it
    is 0."""
    me = member.get()
    return 0 if me is None else me.rank
