"""MPI messages between ranks: sums in rank order, broadcasts, and errors that reach every rank.

An MPI program runs as N processes, its ranks.  A collective call, such as Allreduce, returns when
every rank has made it.  If one rank has failed, or has made another call, the others wait forever.
So before each exchange all ranks meet: after one Allreduce of four numbers each rank knows whether

    another rank has failed          then its error is raised in every rank
    the ranks made different calls   then every rank raises an error that says who called what
    a flag is set in any rank        Ctrl-C, for instance

Sums have one of two orders:

    rank order   Σ_r x_r = ((x_0 + x_1) + x_2) + ...: the same bits as with threads. A large array
                 is cut into N slices; rank r receives slice r of all ranks, adds them up in rank
                 order, and all slices are gathered. Each rank sends 2 (N - 1)/N of the array.
    any order    MPI's Allreduce, which may choose another order for another N or array size. It
                 sends as many bytes in fewer messages, which helps with many ranks.

Used by: mpi.py.  A GPU's arrays: nccl.py.
"""

from __future__ import annotations

import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from tinycv.engine.arguments import shown

INSTALL = "parallel.mpi needs mpi4py and an MPI library: pip install mpi4py mpich"
# Of arrays with at most so many bytes, every rank gathers the whole array of every other rank. That
# takes one exchange; slices take two.
SMALL = 1 << 14
# If all ranks have the error of one rank, the others wait so many seconds, while that rank prints
# it and ends the program.
PATIENCE = 1.0


class Call(NamedTuple):
    """What a rank is about to do with the others. All ranks must do the same."""

    kind: str  # "backward", "all_reduce", ...
    what: Any = ()  # shapes and dtypes
    seed: Any = ()  # of the random numbers
    weights: int = 0  # a checksum of the weights that no rank has checked before
    piece: int = 0  # a checksum of a piece of those that have been checked


class Messages:
    """What the ranks of an MPI program send to each other. order: that of sums, "rank" or "any"."""

    def __init__(self, order: str = "rank"):
        self.mpi = _mpi()
        self.order = order
        # a copy, so that the messages of the user's own MPI calls are never mixed with these
        self.comm = self.mpi.COMM_WORLD.Dup()
        self.size, self.rank = self.comm.size, self.comm.rank
        local = self.comm.Split_type(self.mpi.COMM_TYPE_SHARED)
        # the number of this rank on its machine, and how many ranks that machine has
        self.local_rank, self.local_size = local.rank, local.size
        local.Free()
        self.sent = 0  # bytes of arrays that this rank has sent
        self.are_over = False  # has the group been closed?
        # what the last meeting raised in every rank
        self.shared_error: BaseException | None = None
        # the four numbers of a meeting: those of this rank, and the largest of all ranks
        self._mine, self._all = np.zeros((2, 4), np.int64)
        _end_all_at_an_error(self)

    # -- meetings ---------------------------------------------------------------------------------

    def meet(self, call: Call, flag: bool = False, error: BaseException | None = None) -> bool:
        """Wait until all ranks have come here with the same call. Returns whether the flag is set
        in any of them.

        error: what prevents this rank from making the call. Every rank then raises the error of the
        first rank that has one.
        """
        if self.size == 1:
            self.shared_error = error
            if error is not None:
                raise error
            return flag
        number = crc32(repr(call).encode())
        # The first rank that has failed sends the largest number.
        failed = 0 if error is None else self.size - self.rank
        with self.or_abort():
            self._mine[:] = number, -number, flag, failed
            # One maximum answers all questions. The largest -number is that of the smallest number:
            # if the largest and the smallest number are equal, all are.
            self.comm.Allreduce(self._mine, self._all, self.mpi.MAX)
            largest, minus_smallest, flags, failed = self._all.tolist()
            found = None
            if failed:
                found = self._error_of(self.size - failed, error)
            elif largest != -minus_smallest:
                found = RuntimeError(_difference(self.comm.allgather(call)))
            self.shared_error = found
        if found is not None:
            raise found
        return bool(flags)

    def _error_of(self, culprit: int, error: BaseException | None) -> BaseException:
        """The error of the rank ``culprit``, as every rank raises it."""
        packed = self.comm.bcast(_packed(error) if self.rank == culprit else None, culprit)
        if self.rank != culprit or error is None:
            error = _unpacked(packed)
        error.add_note(f"raised by rank {culprit} of {self.size}")
        vars(error)["tinycv_rank"] = culprit
        return error

    @contextmanager
    def or_abort(self) -> Iterator[None]:
        """An error inside the block ends all ranks, because some of them wait for a message that
        this rank can no longer send."""
        try:
            yield
        except BaseException as error:
            if self.size > 1:
                self.abort(error)
            raise

    def abort(self, error: BaseException) -> None:
        """Print the error and end the program in all ranks."""
        # If all ranks have this error, only the rank that raised it should print it. The others
        # wait, and usually it has ended them before they go on.
        if self.rank != getattr(error, "tinycv_rank", 0):
            time.sleep(PATIENCE)
        traceback.print_exception(error)
        print(f"rank {self.rank} of {self.size} ends all ranks", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Abort(130 if isinstance(error, KeyboardInterrupt) else 1)

    # -- exchanges; each of them follows a meeting ------------------------------------------------

    def sum(self, x: np.ndarray, count: int) -> np.ndarray:
        """The sum of x over the first ``count`` ranks, in every rank. x is contiguous; it may be
        overwritten."""
        if self.size == 1:
            return x
        with self.or_abort():
            in_any_order = self.order == "any" and x.dtype != np.float16  # MPI has no float16
            if x.nbytes <= SMALL and not in_any_order:
                self.sent += x.nbytes * (self.size - 1)
                return _added(self._gathered(x)[:count], np.empty_like(x))
            self.sent += x.nbytes * 2 * (self.size - 1) // self.size
            if not in_any_order:
                return self._sum_of_slices(x, count)
            if self.rank >= count:
                x[...] = 0
            self.comm.Allreduce(self.mpi.IN_PLACE, x)
            return x

    def _sum_of_slices(self, x: np.ndarray, count: int) -> np.ndarray:
        """``sum`` in rank order: each rank adds up one slice."""
        width = -(-x.size // self.size)  # the size of a slice, rounded up
        padded = np.empty(width * self.size, x.dtype)
        padded[: x.size] = x.reshape(-1)
        padded[x.size :] = 0
        slices = np.empty((self.size, width), x.dtype)
        own = padded[self.rank * width : (self.rank + 1) * width]
        byte = self.mpi.BYTE
        self.comm.Alltoall([padded, byte], [slices, byte])
        _added(slices[:count], own)
        self.comm.Allgather(self.mpi.IN_PLACE, [padded, byte])
        return padded[: x.size].reshape(x.shape)

    def _gathered(self, x: np.ndarray) -> np.ndarray:
        """x of all ranks: (size, *x.shape)."""
        everyone = np.empty((self.size, *x.shape), x.dtype)
        self.comm.Allgather([x, self.mpi.BYTE], [everyone, self.mpi.BYTE])
        return everyone

    def broadcast(self, x: np.ndarray) -> None:
        """Overwrite x, which is contiguous, with x of rank 0."""
        if self.size > 1:
            with self.or_abort():
                self.sent += x.nbytes if self.rank == 0 else 0
                self.comm.Bcast([x, self.mpi.BYTE])

    def value(self, x: Any) -> Any:
        """x of rank 0, in every rank; x can be anything that can be pickled."""
        if self.size == 1:
            return x
        with self.or_abort():
            return self.comm.bcast(x if self.rank == 0 else None)

    def rows(self, own: np.ndarray, counts: list[int]) -> np.ndarray:
        """The rows of all ranks, in rank order; rank r has counts[r] of them."""
        if self.size == 1:
            return own
        with self.or_abort():
            own = np.ascontiguousarray(own[: counts[self.rank]])
            everyone = np.empty((sum(counts), *own.shape[1:]), own.dtype)
            width = int(np.prod(own.shape[1:])) * own.itemsize  # bytes of a row
            self.sent += own.nbytes
            self.comm.Allgatherv(
                [own, self.mpi.BYTE], [everyone, [n * width for n in counts], self.mpi.BYTE]
            )
            return everyone


def _added(arrays: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The sum of the arrays, in their order, in ``out``."""
    out[...] = arrays[0]
    for array in arrays[1:]:
        out += array
    return out


def _difference(calls: list[Call]) -> str:
    """The sentence about ranks that did not make the same call. calls: those of all ranks."""
    other = next(rank for rank, call in enumerate(calls) if call != calls[0])
    a, b = calls[0], calls[other]
    if a.kind != b.kind:
        return (
            f"the ranks made different calls at the same time: rank 0 {a.kind}, rank {other} "
            f"{b.kind}; each rank must run the same program on the same batches"
        )
    if a.what != b.what:
        first, second = _first_difference(a.what, b.what)
        return (
            f"{a.kind}: the ranks have different models or batches: {shown(first)} in rank 0, "
            f"{shown(second)} in rank {other}; each rank must build the same model and use the "
            "same layers for each batch"
        )
    if a.seed != b.seed:
        return (
            f"{a.kind}: the ranks have different random seeds, {a.seed} in rank 0 and {b.seed} in "
            f"rank {other}: call tinycv.manual_seed with the same seed in all ranks; each shard "
            "draws its own numbers all the same"
        )
    if a.weights != b.weights:
        return (
            f"{a.kind}: the weights of rank {other} are not those of rank 0: call "
            "tinycv.manual_seed with the same seed in all ranks before the model is made, or load "
            "the same file in all; if the loss makes tensors that require a gradient, pass "
            "inputs=model.parameters()"
        )
    return (
        f"{a.kind}: the weights of rank {other} are no longer those of rank 0: since the last step "
        "or an earlier one, all ranks must change their weights in the same way, with the same "
        "learning rate, clipping and files"
    )


def _first_difference(a: Any, b: Any) -> tuple[Any, Any]:
    """The first parts of two nested tuples that differ, so that a message can show them whole."""
    nested = (tuple, list)
    while isinstance(a, nested) and isinstance(b, nested):
        if not all(isinstance(part, nested) for part in (*a, *b)):
            break  # a shape, for instance
        different = [pair for pair in zip(a, b, strict=False) if pair[0] != pair[1]]
        if not different:
            break
        a, b = different[0]
    return a, b


def _packed(error: BaseException | None) -> bytes:
    """The error in bytes, for other ranks: the error itself, if it can be pickled, or its text."""
    text = "".join(traceback.format_exception_only(error)).strip()
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:  # classes decide for themselves what pickle may raise
        return pickle.dumps(RuntimeError(text))
    return packed


def _unpacked(packed: bytes) -> BaseException:
    return pickle.loads(packed)


# ── the MPI library, and how a program ends ──────────────────────────────────────────────────────


def _mpi() -> Any:
    """The module mpi4py.MPI, which starts MPI when it is first imported."""
    try:
        mpi4py = import_module("mpi4py")
    except ImportError:
        raise ImportError(INSTALL) from None
    if "mpi4py.MPI" not in sys.modules:
        # One thread calls at a time. With locks for several, each message takes longer.
        mpi4py.rc.thread_level = "serialized"
    try:
        return import_module("mpi4py.MPI")
    except (ImportError, RuntimeError) as error:  # no MPI library, or one of another kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ImportError(f"{INSTALL} (mpi4py found none: {reason})") from None


# The newest Messages, through which an error that nobody catches ends all ranks. Empty until there
# are any; then Python's excepthook is ``_hook``.
_hooks: list[Any] = []


def _end_all_at_an_error(messages: Messages) -> None:
    """From now on an error that nobody catches ends all ranks: otherwise the other ranks would wait
    forever for the next message of this one."""
    if messages.size == 1:
        return
    if not _hooks:
        sys.excepthook = partial(_hook, sys.excepthook)
    _hooks[:] = [messages]


def _hook(usual: Callable, kind: type, error: BaseException, trace: Any) -> None:
    messages = _hooks[0]
    if messages.mpi.Is_finalized():
        usual(kind, error, trace)
    else:
        messages.abort(error)
