"""Random numbers: one seed, independent streams for the host and for the noise of each device.

Initial weights and shuffles come from the host's stream, so that CPU and GPU start equal; per-step
noise is drawn where it is used (``backend.standard_normal``, ``backend.uniform``).

The streams are the process's.  A shard of a batch (shards.py) draws from streams of its own, which
``split`` makes: they depend on the seed, on how many splits there were since, and on the shard's
number, but not on which thread is faster.
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
    """Independent streams of one seed: a host's for weights and shuffles, and the noise of each
    device.

    They are apart, so that noise drawn on one device or another never changes a shuffle. Each is
    made at its first draw, so a step without noise pays nothing for reseeding. Never seeded means
    seed 0.
    """

    def __init__(self, seed: tuple[int, ...] = (0,), shard: tuple[int, ...] = ()):
        self.seed, self.shard, self.splits = seed, shard, 0
        self.host: np.random.Generator | None = None
        self.host_noise: np.random.Generator | None = None
        self.gpu_noise: dict[str, Any] = {}  # "gpu:0" -> cupy.random.Generator
        # blocks marked so far; which one we are in, if any
        self.blocks = 0
        self.block: tuple[int, ...] = ()

    def sequence(self, *stream: int) -> np.random.SeedSequence:
        # The length goes in first: SeedSequence pads with zeros, and 7 and (7, 0) would be the same
        # seed.
        return np.random.SeedSequence(
            (len(self.seed), *self.seed), spawn_key=(*stream, *self.shard)
        )


_streams = _Streams()
# a shard's, or replayed ones
_own: ContextVar[_Streams | None] = ContextVar("tinycv_streams", default=None)


def _here() -> _Streams:
    """The streams of this thread's shard, or the process's own."""
    return _own.get() or _streams


def split(shards: int) -> list[_Streams]:
    """Streams for each shard of a batch, to be taken up by ``use`` inside the shard."""
    shards = arguments.size(shards, "split: shards")
    # two groups at once must not get the same number, and the same noise
    with _splitting:
        _streams.splits += 1
        seed, number = _streams.seed, _streams.splits
    return [_Streams(seed, (number, i)) for i in range(shards)]


def _new_lock() -> None:
    """Also in a forked process, where nobody would ever release the one that another thread
    held."""
    global _splitting
    _splitting = Lock()


_new_lock()
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_new_lock)


# in the shard's own context: what draws there draws from these streams
use = _own.set


def manual_seed(seed: int | tuple[int, ...]) -> None:
    """Start every stream of random numbers anew, on all devices. ``seed``: an int >= 0, or a tuple
    of them.

    manual_seed((seed, step)) before a step makes its noise a function of the two only: resume needs
    no more. Streams are the process's, not a thread's; a shard's are made from the process's, so
    seed before a batch is split.
    """
    _begin("manual_seed", _Streams(_seed_numbers(seed, "manual_seed: seed")))


def _begin(caller: str, streams: _Streams) -> None:
    """Let these be the process's streams."""
    global _streams
    if _own.get() is not None:
        raise RuntimeError(
            f"{caller} inside one shard of a batch, or inside nn.checkpoint: seed before the batch "
            "is split"
        )
    capturing.refuse(caller, "seed before the call")
    _streams = streams


def host_generator() -> np.random.Generator:
    """The generator of initial weights and shuffles: NumPy's, on the host, the same whatever the
    device."""
    if capturing.current() is not None:
        capturing.refuse(
            "a random number of the host", "draw it before, and pass it as an argument"
        )
    streams = _here()
    if streams.host is None:
        streams.host = np.random.Generator(np.random.PCG64(streams.sequence(0)))
    return streams.host


def host_noise() -> np.random.Generator:
    """The generator of noise drawn on the CPU. SFC64: the fastest that NumPy has."""
    if capturing.current() is not None:
        capturing.refuse(
            "a random number of the host", "draw it on the GPU (backend.standard_normal, dropout)"
        )
    streams = _here()
    if streams.host_noise is None:
        streams.host_noise = np.random.Generator(np.random.SFC64(streams.sequence(1)))
    return streams.host_noise


def gpu_noise(device: str) -> Any:
    """The generator of noise drawn on ``device`` ("gpu:0"), which must be CuPy's current one."""
    streams = _here()
    if device not in streams.gpu_noise:
        capturing.refuse(
            "a new stream of noise, as nn.checkpoint makes for what draws noise in it",
            "leave it out there",
        )
        random, number = sys.modules["cupy"].random, int(device.partition(":")[2])
        streams.gpu_noise[device] = random.Generator(
            random.Philox4x3210(streams.sequence(2 + number, *streams.block))
        )
    generator = streams.gpu_noise[device]
    # which is held, and stands until somebody sets a seed
    if (recording := capturing.current()) is not None:
        recording.depends(lambda: _here().gpu_noise.get(device) is generator)
    return generator


@contextmanager
def marked() -> Iterator[tuple]:
    """``with marked() as mark:``, and later ``with replayed(mark):`` draws the same noise once
    more.

    The host's noise goes on as if nothing were marked. CuPy's generators cannot be read, nor set
    back, so inside each marked block a GPU's noise comes from a generator of the block's own, made
    at its first draw.
    """
    streams = _here()
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
    """Draw noise as the block did that gave the mark; the streams outside stand still meanwhile."""
    seed, shard, number, noise = mark
    streams = _Streams(seed, shard)
    streams.blocks, streams.block = number, (number,)
    token = _own.set(streams)
    try:
        if noise is not None:
            host_noise().bit_generator.state = noise
        yield
    finally:
        _own.reset(token)


def forget_gpu_noise() -> None:
    """Drop the GPUs' generators; the next draw makes them anew from the seed."""
    _streams.gpu_noise.clear()


def get_rng_state() -> dict[str, Any]:
    """Where the host's two streams stand, as JSON can hold it. Of a GPU's noise only the seed can
    be told."""
    return {
        "seed": list(_streams.seed),
        "splits": _streams.splits,
        "host": host_generator().bit_generator.state,
        "noise": _plain(host_noise().bit_generator.state),
    }


DAMAGED = (
    "set_rng_state: state is damaged, it is not what get_rng_state gives; "
    "the random streams stay as they are"
)


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue from ``get_rng_state``. ValueError for what it has not written; the streams then
    stay as they are.

    CuPy's generators cannot be read, so a GPU's noise starts at its seed again: a program that must
    resume exactly on a GPU calls manual_seed((seed, step)) before each step.
    """
    loading_rng_state(state)()


def loading_rng_state(state: dict[str, Any]) -> Callable[[], None]:
    """The function that sets the streams to ``state``, which has been checked whole. Errors as
    there.
    """
    if not isinstance(state, dict) or not {"seed", "host", "noise"} <= set(state) <= {
        "seed",
        "splits",
        "host",
        "noise",
    }:
        raise ValueError(DAMAGED)
    try:
        streams = _Streams(_seed_numbers([*state["seed"]], "seed"))
        streams.splits = state.get("splits", 0)  # a state of before there were shards has none
        streams.host = np.random.Generator(np.random.PCG64(0))
        streams.host.bit_generator.state = state["host"]
        streams.host_noise = np.random.Generator(np.random.SFC64(0))
        streams.host_noise.bit_generator.state = _packed(state["noise"])
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError, IndexError) as error:
        raise ValueError(DAMAGED) from error
    taken = streams.host.bit_generator.state, _plain(streams.host_noise.bit_generator.state)
    if taken != (state["host"], state["noise"]) or not _counts(
        streams.splits, *(s["has_uint32"] for s in taken)
    ):
        # NumPy takes 1.5 for 1, and does not look at what else a dict holds
        raise ValueError(DAMAGED)

    return lambda: _begin("set_rng_state", streams)


def _counts(splits: Any, *halves: int) -> bool:
    """Are these a number of splits, and whether half of a 64-bit draw is left over?"""
    return type(splits) is int and splits >= 0 and set(halves) <= {0, 1}


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
    """SFC64's state with its array of four uint64 as a list, which JSON holds exactly."""
    return dict(state) | {"state": {"state": state["state"]["state"].tolist()}}


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of _plain."""
    return dict(state) | {"state": {"state": np.array(state["state"]["state"], np.uint64)}}
