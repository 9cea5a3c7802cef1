"""Data parallelism: the class ``Group``, and what threads, processes and MPI have in common.

A batch of N examples is cut into shards, and each worker of a group computes one of them. Shard i
has n_i examples. The loss is a mean over the examples, so it is the weighted sum of the shards'
losses L_i, and its gradient is the weighted sum of their gradients:

    L = Σ_i (n_i / N) L_i                     dL/dw = Σ_i (n_i / N) dL_i/dw

The sum is always taken in the order of the shards. So two runs give the same bits, whichever worker
was faster, and threads and processes give the same bits too. The result differs from that of the
whole batch by rounding, and because dropout draws other random numbers in each shard.

A carrier (threads.py, processes.py, mpi.py) says how the shards are computed. It is a subclass of
``Group`` with three methods: ``_gradients``, ``_results`` and ``close``.
How layers such as batch norm exchange sums between shards: engine/shards.py.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tinycv.engine import arguments, backend, state
from tinycv.engine.backward import accumulate, list_of_tensors, sweep
from tinycv.engine.methods import concatenate
from tinycv.engine.shards import member
from tinycv.engine.tensor import LEAF, Tensor, as_array, no_grad, wrap

MOST = 1024  # workers per group; a larger number is refused as a mistake


class Share(NamedTuple):
    """One shard's part of a batch: how many examples it has, and its rows of each array."""

    examples: int
    arrays: list


class Step(NamedTuple):
    """What the workers compute together in one call of ``backward``."""

    loss_of: Callable[..., Tensor]
    shares: list[Share]
    weights: list[float]  # of each shard's loss: n_i / N, or 1 if losses are sums
    # the weights that layers see (shards.Member.weight); None if losses are sums
    shard_weights: list[float] | None
    inputs: set[Tensor] | None  # the leaves whose gradients are wanted; None: all of them

    def of_shard(self, i: int) -> tuple[Any, dict]:
        """The loss of shard i and its weighted gradients, computed by the worker that calls
        this."""
        arrays, weight = self.shares[i].arrays, self.weights[i]
        return loss_and_gradients(self.loss_of, arrays, weight, self.inputs)


class Group(ABC):
    """A group of workers among which a batch is split. Only one thread at a time may use a group,
    and not from inside a shard.

    size: the number of workers. rank: the number of the worker that runs this program; it is 0
    unless every worker runs the whole program, as with MPI.
    ``close`` ends the workers. They also end when Python collects a group that is no longer used.
    """

    size: int
    rank: int = 0
    # the name of the function in parallel.py that opens such a group; messages contain it
    carrier: str = ""
    # may the batch be on a GPU?
    takes_gpus: bool = False
    # may a worker load only its own rows of each batch? It may if every worker runs the program
    loads_own_rows: bool = False
    # cleans up after the group, when it is closed or collected; ``alive`` while the group is open
    _end: weakref.finalize

    # -- what a carrier says ----------------------------------------------------------------------

    @abstractmethod
    def _gradients(self, step: Step) -> tuple[Any, dict]:
        """The loss of the whole batch, an array of one number, and its gradients: {leaf: gradient},
        both summed in the order of the shards."""

    @abstractmethod
    def _results(self, function: Callable[..., Tensor], shares: list[Share]) -> list[Any]:
        """The results of ``function(*arrays)`` for all shards, in their order."""

    @abstractmethod
    def close(self) -> None:
        """End the workers, and restore the number of threads that BLAS had."""

    # -- what users call --------------------------------------------------------------------------

    def backward(
        self,
        loss_of: Callable[..., Tensor],
        *batch: Tensor | np.ndarray,
        reduction: str = "mean",
        examples: int | None = None,
        inputs: Iterable[Tensor] | None = None,
    ) -> Tensor:
        """Compute ``loss = loss_of(*batch); loss.backward()`` with all workers. Returns the loss,
        without a graph.

        batch: arrays and Tensors of equal length along axis 0, along which they are cut into nearly
        equal parts (views). They are on the CPU; with mpi they may be on a GPU.
        loss_of: a function that is called for each shard, loss_of(*parts), and returns one number:
        the mean over its examples or, with reduction="sum", their sum. cross_entropy averages over
        all rows of the whole batch that count (ignore_index), even if one shard has more of them
        than another. If loss_of itself selects rows and averages over them, use "sum", and divide
        by one number that is the same for all shards.
        examples: with mpi, ``batch`` may be only the rows of this rank (``Group.rows``); then this
        is the number of examples of the whole batch. Otherwise None.
        inputs: the leaves that receive a gradient; None: all of them.

        TypeError or ValueError if the batch cannot be cut so, or if loss_of does not return one
        number. If loss_of fails, the exception of the first failing shard is raised; ``.grad`` and
        the buffers of the layers then stay as they were. An exception of another process that
        pickle cannot send (its class has an __init__ of its own, perhaps) is raised as a
        RuntimeError with its name and text.
        """
        arguments.choice(reduction, "Group.backward: reduction", ("mean", "sum"))
        arguments.function(loss_of, "Group.backward: loss_of")
        parts = self._shares(batch, "Group.backward", examples)
        total = sum(share.examples for share in parts)
        mean = reduction == "mean" and total > 0  # a batch without examples has no mean
        weights = [share.examples / total if mean else 1.0 for share in parts]
        wanted = None if inputs is None else set(list_of_tensors(inputs, "Group.backward: inputs"))
        step = Step(loss_of, parts, weights, weights if mean else None, wanted)
        with self._one_batch():
            loss, gradients = self._gradients(step)
        with no_grad():
            accumulate(gradients)
        return wrap(loss, None)

    def map(self, function: Callable[..., Tensor], *batch: Tensor | np.ndarray) -> Tensor:
        """Compute ``function(*batch)`` with all workers, without recording. The function returns a
        Tensor with one row for each example of its shard, otherwise a TypeError is raised. The rows
        of all shards are concatenated along axis 0."""
        arguments.function(function, "Group.map: function")
        parts = self._shares(batch, "Group.map")
        with no_grad(), self._one_batch():
            results = self._results(function, parts)
            for share, y in zip(parts, results, strict=True):
                refuse_other_rows(y, share.examples)
            return concatenate(results) if len(results) > 1 else results[0]

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- where every worker runs the whole program (MPI) ------------------------------------------

    # If one program calls all workers, these five are trivial. mpi.py overrides all but ``rows``.

    def first(self, work: Callable[[], Any]) -> Any:
        """``work()``, which the worker of rank 0 runs; every worker receives its result, or its
        exception. For what must happen once, such as writing a file."""
        return work()

    def agree(self, flag: bool) -> bool:
        """Is the flag True in any of the workers? For what all of them must do at the same step,
        such as ending after Ctrl-C."""
        return flag

    def compare(self, what: str, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """The facts. RuntimeError in all workers unless they are equal in all of them. what: the
        name of the thing that they describe, for the message."""
        return facts

    def rows(self, examples: int) -> tuple[int, int]:
        """The first row of a batch that this worker computes, and the one after its last."""
        return own_rows(examples, self.rank, self.size)

    def place(self, device: str | None) -> str | None:
        """The device of this worker, if the program runs on ``device``."""
        return device

    # -- helpers ----------------------------------------------------------------------------------

    def _shares(self, batch: tuple, caller: str, examples: int | None = None) -> list[Share]:
        """The parts of the batch, one per shard. examples: see ``backward``; the parts of the other
        workers then have no arrays."""
        if examples is not None:
            return self._own_share(batch, caller, examples)
        parts = list(shares(batch, self.size, caller))
        if not self.takes_gpus:
            for i, x in enumerate(batch):
                on_cpu(getattr(x, "_data", x), f"{caller}: argument {i} of the batch")
        return parts

    def _own_share(self, batch: tuple, caller: str, examples: int) -> list[Share]:
        """The shares of a batch of which only the rows of this worker are here."""
        if not self.loads_own_rows:
            raise ValueError(
                f"{caller}: examples is {examples}; among {self.carrier or 'one worker'} it must "
                "be None, because the batch is whole"
            )
        (own,) = shares(batch, 1, caller)
        arguments.size(examples, f"{caller}: examples")
        start, end = own_rows(examples, self.rank, self.size)
        if own.examples != end - start:
            raise ValueError(
                f"{caller}: of a batch of {examples} examples, rank {self.rank} of {self.size} got "
                f"{own.examples} rows; it must get {end - start}"
            )
        if examples == 0:
            return [own]
        parts = []
        for rank in range(min(self.size, examples)):
            first, last = own_rows(examples, rank, self.size)
            parts.append(Share(last - first, own.arrays if first == start else []))
        return parts

    @contextmanager
    def _one_batch(self) -> Iterator[None]:
        """For a block that computes one batch: refuses a group that cannot. If the block fails, the
        buffers of the layers (running statistics) are restored."""
        if not self._end.alive:
            raise RuntimeError(
                f"this group of {self.carrier} is closed: open another one, with "
                f"parallel.{self.carrier}()"
            )
        if member.get() is not None:
            raise RuntimeError(
                "inside a shard the batch cannot be split again, because all workers are busy"
            )
        state.refuse_in_checkpoint(f"a batch cannot be split among {self.carrier}")
        with state.kept_if_done():
            yield


class Alone(Group):
    """A group of one worker, this process itself: the whole batch is its only shard."""

    size, takes_gpus = 1, True

    def __init__(self) -> None:
        self._end = weakref.finalize(self, _nothing)

    def _gradients(self, step: Step) -> tuple[Any, dict]:
        return summed([step.of_shard(0)], step.weights)

    def _results(self, function: Callable[..., Tensor], shares: list[Share]) -> list[Any]:
        return [function(*shares[0].arrays)]

    def close(self) -> None:
        """Nothing: there is no worker to end."""


def _nothing() -> None:
    """Cleans up after a group without workers: there is nothing to do."""


def checked_workers(size: int, carrier: str) -> int:
    """The number of workers. TypeError or ValueError unless it is from 1 to MOST."""
    size = arguments.size(size, f"{carrier}: size", 1)
    if size > MOST:
        raise ValueError(
            f"{carrier}: size is {size}; it must be a whole number, at least 1 and at most {MOST}"
        )
    return size


# ── the shards of a batch ────────────────────────────────────────────────────────────────────────


def shares(batch: tuple, size: int, caller: str = "shares") -> Iterator[Share]:
    """The parts of all arrays, shard by shard. There are ``size`` shards, or one per example if
    there are fewer examples. The parts are views, not copies."""
    for i, x in enumerate(batch):
        refuse_what_has_no_rows(x, f"{caller}: argument {i} of the batch")
    lengths = [len(x) for x in batch]
    if not batch:
        raise ValueError(f"{caller}: a batch needs at least one array")
    if len(set(lengths)) != 1:
        raise ValueError(
            f"{caller}: the arrays of a batch must have equal lengths, but have {lengths} examples"
        )
    n = lengths[0]
    size = max(1, min(size, n))
    for rank in range(size):
        start, end = own_rows(n, rank, size)
        yield Share(end - start, [x if size == 1 else _rows(x, start, end) for x in batch])


def own_rows(n: int, rank: int, size: int) -> tuple[int, int]:
    """The first row of shard ``rank``, and the one after its last, if n examples are cut into
    ``size`` shards. If there are fewer examples than shards, a rank without a shard has the rows of
    shard 0."""
    size = max(1, min(size, n))
    rank = rank if rank < size else 0
    return rank * n // size, (rank + 1) * n // size


def refuse_what_has_no_rows(x: Any, what: str) -> None:
    """TypeError or ValueError for anything that cannot be split along axis 0."""
    if not isinstance(x, (Tensor, np.ndarray)) and backend.array_module(x) is np:
        raise TypeError(
            f"{what} is of type {type(x).__name__}: only arrays and Tensors can be split. "
            "What is the same for all examples belongs inside the function"
        )
    if isinstance(x, np.ndarray):
        # refuses masked arrays, strings, dates and objects
        as_array(x, what=what)
    if isinstance(x, Tensor) and x._node not in (None, LEAF):
        raise ValueError(
            f"{what}, of shape {x.shape}, was computed by a recorded op: several workers cannot "
            "run backward through one graph. Compute it inside the function, or detach() it"
        )
    if not x.ndim:
        raise TypeError(f"{what} is a single number: it has no axis 0 along which to split it")


def on_cpu(array: Any, what: str) -> None:
    """ValueError for an array on a GPU: the workers would only wait for each other at the device.
    what: the array's name in the message."""
    device = backend.device_of(array)
    if device != "cpu":
        raise ValueError(
            f"{what} is on {device}: a GPU already works in parallel, and one thread keeps it "
            "busy; call the function on the whole batch"
        )


def _rows(x: Any, start: int, end: int) -> Any:
    """A view of some rows. If x collects a gradient, the slice is recorded, so that the gradient
    reaches x."""
    if isinstance(x, Tensor) and x._node is None:
        return wrap(x._data[start:end], None)
    return x[start:end]


def refuse_other_rows(y: Any, n: int) -> None:
    """TypeError unless y, which the function of ``map`` made of n examples, is a Tensor of n
    rows."""
    if not isinstance(y, Tensor) or y.shape[:1] != (n,):
        found = f"a Tensor of shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(
            f"Group.map: of {n} examples the function made {found}; it must return a Tensor with "
            f"{n} rows"
        )


def loss_and_gradients(
    loss_of: Callable, part: list, weight: float, inputs: set[Tensor] | None = None
) -> tuple[Any, dict]:
    """The loss of one shard, and its weighted gradients for the leaves ``inputs`` (None: for all),
    in a dict. ``.grad`` is not touched, so workers that share memory do not disturb each other."""
    loss = loss_of(*part)
    if not isinstance(loss, Tensor) or loss.size != 1:
        found = (
            f"a Tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        )
        raise TypeError(
            f"Group.backward: loss_of must return the loss, a Tensor of one number, not {found}"
        )
    # The backward pass starts from the weight instead of 1, so every gradient comes out weighted.
    seed = backend.array_module(loss._data).full_like(loss._data, weight)
    gradients = sweep([loss], [seed], None, keep=False, record=False)
    return loss._data, only(gradients, inputs)


def only(gradients: dict, inputs: set[Tensor] | None) -> dict:
    """The gradients of these leaves; all of them if ``inputs`` is None."""
    if inputs is None:
        return gradients
    return {leaf: g for leaf, g in gradients.items() if leaf in inputs}


def summed(results: Sequence[tuple[Any, dict]], weights: list[float]) -> tuple[Any, dict]:
    """The loss of the batch and its gradients, from those of the shards: sums over all shards, in
    their order. The gradients carry their weights already (``loss_and_gradients``); they are added
    up in the memory of the first shard's gradients."""
    loss = sum(loss * weight for (loss, _), weight in zip(results, weights, strict=True))
    total = results[0][1]
    for _, gradients in results[1:]:
        for leaf, g in gradients.items():
            if leaf in total:
                total[leaf]._data += g._data
            else:
                total[leaf] = g
    return loss, total
