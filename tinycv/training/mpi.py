"""Data parallelism with MPI: every rank runs the whole program, on one machine or on many.

    mpiexec -n 2 python demos/06_vit.py --parallel mpi  # as many ranks as cores, not more

    with parallel.mpi() as group:                       # in train.py: mpiexec -n 2 python train.py
        for images, labels in loader:                   # the same batch in all ranks
            optimizer.zero_grad()
            group.backward(lambda x, y: cross_entropy(model(x), y), images, labels)
            optimizer.step()                            # the same step in all ranks

With threads and processes, one program calls the workers. With MPI the program itself runs once per
rank, each time with a model of its own. Rank r computes shard r of the batch. The gradients are
packed into one array per dtype (packed.py) and summed (messages.py), so all ranks take the same
step with the same bits, and their models stay equal. Each rank must make the same calls on batches
of the same length. If one rank does not, all ranks raise an error that says so, and also if the
weights of one rank differ. All weights are compared when the ranks first meet them, and a part of
them at each step, because a rank may load weights or clip gradients alone.

order="rank" (the default) adds in the order of the shards: the same bits as threads and processes
with as many shards. order="any" uses MPI's Allreduce, which adds in an order of its own, so that
the last bits may depend on the number of ranks and the size of the model. Both send the same number
of bytes; Allreduce needs fewer messages, which helps with many ranks. Times on one machine:
python -m benchmarks run parallel.

If there are fewer examples than ranks, a rank without a shard computes shard 0 a second time, so
that its model gets the same state (running statistics); its results are not counted.

A rank that fails raises its error in all ranks. An error that nobody catches ends the program in
all ranks. If a rank is killed, mpiexec ends the others.

On GPUs, rank r of a machine computes on GPU r modulo the number of its GPUs (device="gpu"), and
NCCL adds, in an order of its own (nccl.py). NCCL refuses two ranks on one GPU. Then arrays are
copied to the host and summed there, in the order that ``order`` says.
Without mpiexec there is one rank, and the batch is computed as a whole.
Read first: groups.py.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np

from tinycv.engine import backend, blocks, rng
from tinycv.engine.arguments import choice
from tinycv.engine.shards import member
from tinycv.engine.tensor import Tensor, wrap
from tinycv.training.groups import Group, Share, Step, refuse_other_rows
from tinycv.training.messages import Call, Messages
from tinycv.training.nccl import Nccl, device_for, own_gpus
from tinycv.training.packed import Packing, checksum


class Ranks(Group):
    """A group of MPI ranks."""

    carrier, takes_gpus, loads_own_rows = "mpi", True, True

    def __init__(self, order: str = "rank"):
        choice(order, "mpi: order", ("rank", "any"))
        self.messages = Messages(order)
        self.size, self.rank = self.messages.size, self.messages.rank
        self.packing = Packing(self.size)
        # what adds arrays on GPUs; None until there is one to add
        self.on_gpus: Nccl | Staged | None = None
        self.is_working = False  # is this rank inside a function that a layer passed to ``once``?
        self._end = weakref.finalize(self, _nothing)
        if self.size > 1:
            self._end = weakref.finalize(self, _limited(self.messages.local_size))
            atexit.register(_at_exit, self.messages)
        self._end.atexit = False  # at the end of the program, nothing needs to be restored

    # -- one batch --------------------------------------------------------------------------------

    def _gradients(self, step: Step) -> tuple[Any, dict]:
        count = len(step.shares)
        own = self._own(count)
        weight = step.shard_weights[own] if step.shard_weights else None
        loss, gradients = self._in_shard(partial(step.of_shard, own), own, count, weight)
        loss = (loss * step.weights[own]).reshape(())
        if self.size == 1:
            return loss, gradients
        gradients = self.packing.lasting(gradients)
        leaves = self.packing.ordered(gradients)
        # Weights that have no number yet, as all weights in the first step, are compared by a
        # checksum; of the others only a part, because a checksum of all takes time.
        unknown = self.packing.unknown(gradients)
        counts = [share.examples for share in step.shares]
        what = (counts, self.packing.description(leaves, gradients))
        sums = checksum(unknown), self.packing.piece(leaves)
        self.messages.meet(Call("backward", what, rng.position(), *sums))
        self.packing.learn(unknown)
        return self.packing.summed(loss, leaves, gradients, partial(self.sum, count=count))

    def _results(self, function: Callable[..., Tensor], shares: list[Share]) -> list[Any]:
        own = self._own(len(shares))

        def work() -> Tensor:
            y = function(*shares[own].arrays)
            refuse_other_rows(y, shares[own].examples)
            return y

        y = self._in_shard(work, own, len(shares), None)
        if self.size == 1:
            return [y]
        counts = [share.examples for share in shares]
        per_rank = counts + [0] * (self.size - len(counts))  # a rank without a shard sends no row
        self.messages.meet(Call("map", (per_rank, y.shape[1:], str(y.dtype)), rng.position()))
        rows = self.messages.rows(backend.to_numpy(y._data), per_rank)
        results, start = [], 0
        for count in counts:
            part = rows[start : start + count]
            results.append(wrap(backend.to_device(part, y.device), None))
            start += count
        return results

    def _own(self, count: int) -> int:
        """The shard that this rank computes; if there is none for it, shard 0 again."""
        return self.rank if self.rank < count else 0

    def _in_shard(self, work: Callable, own: int, count: int, weight: float | None) -> Any:
        """``work()`` as shard ``own`` of ``count``. Its error is raised in all ranks."""
        if member.get() is not None:
            raise RuntimeError(
                "inside a shard the batch cannot be split again, because all ranks are busy"
            )
        if count == 1:
            inside = work  # draws from the streams of the process, as without a group
        else:
            inside = partial(
                _as_member, InRank(self, own, count, weight), rng.split(count)[own], work
            )
        self.messages.shared_error = None
        try:
            return copy_context().run(inside)
        except BaseException as error:
            self.is_working = False
            if self.messages.shared_error is None:  # the other ranks do not know of it yet
                self.messages.meet(Call("backward"), error=error)
            # If the error came through an op of this rank, the op has wrapped it in an explanation
            # of its own. The error that all ranks share is raised instead.
            raise self.messages.shared_error or error from None

    # -- sums -------------------------------------------------------------------------------------

    def sum(self, x: Any, count: int) -> Any:
        """The sum of x over the first ``count`` ranks. All ranks have met before (Messages.meet). x
        is contiguous, and may be overwritten."""
        if backend.array_module(x) is np:
            return self.messages.sum(x, count)
        return self._gpus(x).sum(x, count)

    def broadcast(self, x: Any) -> Any:
        """x of rank 0. x is contiguous, and is overwritten."""
        if backend.array_module(x) is np:
            self.messages.broadcast(x)
        else:
            self._gpus(x).broadcast(x)
        return x

    def _gpus(self, x: Any) -> Nccl | Staged:
        """What adds arrays on GPUs. Collective at the first call."""
        if self.on_gpus is None:
            device = backend.device_of(x)
            alone = own_gpus(self.messages, device)
            self.on_gpus = Nccl(self.messages, device) if alone else Staged(self.messages)
        return self.on_gpus

    # -- what all ranks do together ---------------------------------------------------------------

    def first(self, work: Callable[[], Any]) -> Any:
        result, error = None, None
        if self.rank == 0:
            try:
                result = work()
            except BaseException as found:  # raised in all ranks by ``meet``
                error = found
        self.messages.meet(Call("first"), error=error)
        return self.messages.value(result)

    def agree(self, flag: bool) -> bool:
        return self.messages.meet(Call("agree"), flag)

    def compare(self, what: str, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        self.messages.meet(Call(what, tuple(facts.items())))
        return facts

    def place(self, device: str | None) -> str | None:
        return device and device_for(self.messages, device)

    def close(self) -> None:
        """Wait until all ranks close the group, and restore the number of threads that BLAS had."""
        if self._end.alive:
            self._end()
            self.messages.meet(Call("close"))
            self.messages.are_over = True

    def __exit__(self, kind: Any = None, error: BaseException | None = None, *_: object) -> None:
        if error is None or not self._end.alive:
            self.close()
            return
        self._end()
        self.messages.are_over = True
        if self.messages.shared_error is None:  # the other ranks do not know of it yet
            self.messages.meet(Call("close"), error=error)


class InRank:
    """The shard of a rank; it has the interface Member of shards.py. count: how many shards the
    batch has."""

    def __init__(self, group: Ranks, rank: int, count: int, weight: float | None):
        self.group, self.rank, self.count, self.weight = group, rank, count, weight

    def all_reduce(self, x: Any) -> Any:
        """The sum of x, an array or a number, over all shards."""
        if self.group.is_working:
            raise RuntimeError(
                "all_reduce inside a function that one shard runs for all of them: the other "
                "shards wait for that function, so they cannot take part"
            )
        is_array = hasattr(x, "dtype")
        if is_array:
            # a copy, because the sum may overwrite it
            array = backend.array_module(x).array(x, order="C", copy=True)
        else:
            array = np.array(x, np.int64 if type(x) in (int, bool) else np.float64)
        what = (type(x).__name__, array.shape, str(array.dtype))
        self.group.messages.meet(Call("all_reduce", what))
        total = self.group.sum(array, self.count)
        if isinstance(x, np.generic):
            return total[()]  # a NumPy number again, and not an array without axes
        return total if is_array else total.item()

    def once(self, work: Callable[[], Any], store: Callable[[Any], None] | None = None) -> Any:
        """The result of ``work()`` of shard 0.

        Only rank 0 computes what counts. The other ranks run ``work`` too, to have arrays of the
        right shapes that the arrays of rank 0 then overwrite. These runs draw random numbers that
        are thrown away, so that the streams of the ranks stay equal. Each rank stores the result.
        """
        self.group.is_working = True
        result = work() if self.group.rank == 0 else copy_context().run(_discarding, work)
        self.group.is_working = False
        arrays = _contiguous(result)
        self.group.messages.meet(
            Call("change of state", [(x.shape, str(x.dtype)) for x in arrays or ()])
        )
        if arrays is None:
            result = self.group.messages.value(result)
        else:
            result = [self.group.broadcast(x) for x in arrays]
        if store is not None:
            store(result)
        return result


class Staged:
    """Sums of arrays on GPUs that are copied to the host and back: where ranks share a GPU."""

    def __init__(self, messages: Messages):
        self.messages = messages

    def sum(self, x: Any, count: int) -> Any:
        return backend.to_device(
            self.messages.sum(backend.to_numpy(x), count), backend.device_of(x)
        )

    def broadcast(self, x: Any) -> None:
        host = backend.to_numpy(x)
        self.messages.broadcast(host)
        x[...] = backend.to_device(host, backend.device_of(x))


def _as_member(shard: InRank, streams: Any, work: Callable) -> Any:
    member.set(shard)
    rng.use(streams)
    return work()


def _discarding(work: Callable) -> Any:
    rng.use(rng.discarded())
    return work()


def _contiguous(result: Any) -> list | None:
    """New contiguous arrays with the values of a list of arrays; None for anything else."""
    if not isinstance(result, Sequence) or not all(hasattr(x, "nbytes") for x in result):
        return None
    return [backend.array_module(x).array(x, order="C", copy=True) for x in result]


def _nothing() -> None:
    """Cleans up after a group of one rank: there is nothing to do."""


def _limited(ranks: int) -> Callable[[], None]:
    """Give each of the ``ranks`` on this machine its share of the cores, in BLAS and in blocks.py.
    Returns the function that restores the old limits."""
    from threadpoolctl import threadpool_limits

    blocks.sharers = ranks
    limits = threadpool_limits(limits=max(1, blocks.available_cores() // ranks), user_api="blas")
    return partial(_restore, limits)


def _restore(limits: Any) -> None:
    blocks.sharers = 1
    limits.restore_original_limits()


def _at_exit(messages: Messages) -> None:
    """At the end of a program that did not close its group: the other ranks may wait for this
    one."""
    if not messages.are_over and not messages.mpi.Is_finalized():
        with messages.or_abort():
            messages.meet(Call("the end of the program"))
