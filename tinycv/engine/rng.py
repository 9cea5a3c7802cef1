"""Random number generators: one seed, and independent streams for weights and for noise.

Initial weights and shuffles are drawn on the host, so that CPU and GPU start from the same numbers.
The noise of each step is drawn on the device that uses it (``backend.standard_normal``,
``backend.uniform``).

All threads of a process share its streams, except for the shards of a batch (shards.py).  Each
shard has its own streams, which ``split`` creates: they depend on the seed, on the number of splits
since then, and on the number of the shard, but not on which thread is faster.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

import numpy as np

from tinycv.engine import arguments, capturing


class _Streams:
    """The independent streams of one seed: one on the host for weights and shuffles, one on the
    host for noise, and one for noise on each GPU.

    They are separate so that noise, on whichever device, never changes a shuffle. Each is created
    at its first draw, so reseeding costs nothing in a step that draws nothing. Without
    ``manual_seed`` the seed is 0.
    """

    def __init__(self, seed: tuple[int, ...] = (0,), shard: tuple[int, ...] = ()):
        self.seed, self.shard, self.splits = seed, shard, 0
        self.host: np.random.Generator | None = None
        self.host_noise: np.random.Generator | None = None
        self.gpu_noise: dict[str, Any] = {}  # "gpu:0" -> cupy.random.Generator
        self.blocks = 0  # the number of ``marked`` blocks so far
        self.block: tuple[int, ...] = ()  # the number of the current block; empty outside any

    def sequence(self, *stream: int) -> np.random.SeedSequence:
        """NumPy's seed for one stream: a different one for each stream, shard and block."""
        # The length of the seed goes in first: SeedSequence pads with zeros, so without it 7 and
        # (7, 0) would be the same seed.
        return np.random.SeedSequence(
            (len(self.seed), *self.seed), spawn_key=(*stream, *self.shard)
        )


# the streams of the process
_streams = _Streams()
# those of a shard, or of the second run of a checkpoint; None elsewhere
_local_streams: ContextVar[_Streams | None] = ContextVar("tinycv_streams", default=None)


def _current() -> _Streams:
    """The streams to draw from here: those of this thread's shard, or those of the process."""
    return _local_streams.get() or _streams


def split(shards: int) -> list[_Streams]:
    """Streams for each shard of a batch; each shard then calls ``use`` with its own."""
    shards = arguments.size(shards, "split: shards")
    # The lock keeps two groups of threads from getting the same number, and so the same noise.
    with _splitting:
        _streams.splits += 1
        seed, number = _streams.seed, _streams.splits
    return [_Streams(seed, (number, i)) for i in range(shards)]


def position() -> tuple[int, ...]:
    """The seed and the number of splits since then. If they are equal in two processes, ``split``
    creates the same streams in both."""
    streams = _current()
    return *streams.seed, streams.splits


def discarded() -> _Streams:
    """Streams for numbers that nobody will use, so that drawing them changes no other stream."""
    return _Streams()


def _new_lock() -> None:
    """Make the lock of ``split``. A forked process makes its own: if another thread held the lock
    at the fork, that thread does not exist in the child, and could never release it."""
    global _splitting
    _splitting = Lock()


_new_lock()
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_new_lock)


# use(streams): draw from these streams in the current context, that of a shard
use = _local_streams.set


def manual_seed(seed: int | tuple[int, ...]) -> None:
    """Restart all streams of random numbers, on all devices. seed: an int >= 0, or a tuple of them.

    After manual_seed((seed, step)) before each step, its noise depends on these two numbers only,
    which is all that is needed to resume a run. All threads share the streams. Those of shards are
    derived from them, so set the seed before a batch is split.
    """
    _begin("manual_seed", _Streams(_seed_numbers(seed, "manual_seed: seed")))


def _begin(caller: str, streams: _Streams) -> None:
    """Make these the streams of the process."""
    global _streams
    if _local_streams.get() is not None:
        raise RuntimeError(
            f"{caller} inside a shard of a batch, or inside nn.checkpoint: seed before the "
            "batch is split, and outside nn.checkpoint"
        )
    capturing.refuse(caller, "seed before the call")
    _streams = streams


def host_generator() -> np.random.Generator:
    """The generator for initial weights and shuffles: a NumPy Generator on the host, so that they
    do not depend on the device."""
    if capturing.current() is not None:
        capturing.refuse(
            "a random number of the host", "draw it before the call, and pass it as an argument"
        )
    streams = _current()
    if streams.host is None:
        streams.host = np.random.Generator(np.random.PCG64(streams.sequence(0)))
    return streams.host


def host_noise() -> np.random.Generator:
    """The generator for noise on the CPU; SFC64 is the fastest that NumPy has."""
    if capturing.current() is not None:
        capturing.refuse(
            "a random number of the host", "draw it on the GPU (backend.standard_normal, dropout)"
        )
    streams = _current()
    if streams.host_noise is None:
        streams.host_noise = np.random.Generator(np.random.SFC64(streams.sequence(1)))
    return streams.host_noise


def gpu_noise(device: str) -> Any:
    """The generator for noise on ``device`` ("gpu:0"), which must be CuPy's current device."""
    streams = _current()
    if device not in streams.gpu_noise:
        capturing.refuse(
            "a new stream of noise, which nn.checkpoint creates for a function that draws noise",
            "call the function without nn.checkpoint",
        )
        random, number = sys.modules["cupy"].random, int(device.partition(":")[2])
        streams.gpu_noise[device] = random.Generator(
            random.Philox4x3210(streams.sequence(2 + number, *streams.block))
        )
    generator = streams.gpu_noise[device]
    # A recorded step uses this very generator, so it has to be recorded again after a new seed.
    if (recording := capturing.current()) is not None:
        recording.depends(lambda: _current().gpu_noise.get(device) is generator)
    return generator


@contextmanager
def marked() -> Iterator[tuple]:
    """``with marked() as mark:`` notes the state of the noise at the start of the block. Later,
    ``with replayed(mark):`` draws the same noise again.

    The noise on the host continues as if there were no block. The state of CuPy's generators can be
    neither read nor set, so inside a marked block a GPU's noise comes from a new generator, which
    belongs to this block and is created at its first draw.
    """
    streams = _current()
    streams.blocks += 1
    noise = streams.host_noise
    before = streams.gpu_noise, streams.block
    streams.gpu_noise, streams.block = {}, (streams.blocks,)
    try:
        yield (
            streams.seed,
            streams.shard,
            streams.blocks,
            None if noise is None else noise.bit_generator.state,
        )
    finally:
        streams.gpu_noise, streams.block = before


@contextmanager
def replayed(mark: tuple) -> Iterator[None]:
    """Draw the same noise as in the block that returned ``mark``. The streams outside this block
    are not changed."""
    seed, shard, number, noise = mark
    streams = _Streams(seed, shard)
    streams.blocks, streams.block = number, (number,)
    token = _local_streams.set(streams)
    try:
        if noise is not None:
            host_noise().bit_generator.state = noise
        yield
    finally:
        _local_streams.reset(token)


def forget_gpu_noise() -> None:
    """Drop the generators of all GPUs; the next draw creates them again from the seed."""
    _streams.gpu_noise.clear()


def get_rng_state() -> dict[str, Any]:
    """The state of the two streams on the host, in a form that JSON can store. Of the noise on a
    GPU only the seed is included, because CuPy's generators cannot be read."""
    return {
        "seed": list(_streams.seed),
        "splits": _streams.splits,
        "host": host_generator().bit_generator.state,
        "noise": _plain(host_noise().bit_generator.state),
    }


DAMAGED = (
    "set_rng_state: state is damaged: it is not what get_rng_state returns; "
    "the random streams stay as they are"
)


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue from a state that ``get_rng_state`` returned. ValueError for anything else; the
    streams are not changed then.

    The noise on a GPU restarts from the seed, because CuPy's generators cannot be read. A program
    that has to resume exactly on a GPU calls manual_seed((seed, step)) before each step.
    """
    loading_rng_state(state)()


def loading_rng_state(state: dict[str, Any]) -> Callable[[], None]:
    """Check the whole state, and return the function that will set the streams to it. Raises the
    errors of ``set_rng_state``."""
    if not isinstance(state, dict) or not {"seed", "host", "noise"} <= set(state) <= {
        "seed",
        "splits",
        "host",
        "noise",
    }:
        raise ValueError(DAMAGED)
    try:
        streams = _Streams(_seed_numbers([*state["seed"]], "seed"))
        streams.splits = state.get("splits", 0)  # states from older versions have no splits
        streams.host = np.random.Generator(np.random.PCG64(0))
        streams.host.bit_generator.state = state["host"]
        streams.host_noise = np.random.Generator(np.random.SFC64(0))
        streams.host_noise.bit_generator.state = _packed(state["noise"])
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError, IndexError) as error:
        raise ValueError(DAMAGED) from error
    accepted = streams.host.bit_generator.state, _plain(streams.host_noise.bit_generator.state)
    if accepted != (state["host"], state["noise"]) or not _are_valid(
        streams.splits, *(s["has_uint32"] for s in accepted)
    ):
        # NumPy accepts 1.5 as 1, and ignores further entries of the dict.
        raise ValueError(DAMAGED)

    return lambda: _begin("set_rng_state", streams)


def _are_valid(splits: Any, *flags: int) -> bool:
    """Is ``splits`` a count, and is each flag 0 or 1? (NumPy's flag ``has_uint32`` says whether
    half of a 64-bit number is left over for the next draw.)"""
    return type(splits) is int and splits >= 0 and set(flags) <= {0, 1}


def _seed_numbers(seed: Any, what: str) -> tuple[int, ...]:
    """A seed as a tuple of ints >= 0."""
    if not isinstance(seed, (tuple, list)):
        return (arguments.whole(seed, what),)
    if not seed:
        raise ValueError(
            f"{what} is {seed!r}; it must be a whole number, at least 0, or a tuple of such numbers"
        )
    return tuple(arguments.whole(part, f"{what}[{i}]") for i, part in enumerate(seed))


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of SFC64 with its array of four uint64 as a list, which JSON stores exactly."""
    return dict(state) | {"state": {"state": state["state"]["state"].tolist()}}


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of _plain."""
    return dict(state) | {"state": {"state": np.array(state["state"]["state"], np.uint64)}}
