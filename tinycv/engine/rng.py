"""Random numbers: one seed, independent streams for the host and for the noise of each device.

Initial weights and shuffles come from the host's stream, so that CPU and GPU start equal; per-step noise is
drawn where it is used (``backend.standard_normal``, ``backend.uniform``).

The streams are the process's.  A shard of a batch (shards.py) draws from streams of its own, which ``split`` makes: they
depend on the seed, on how many splits there were since, and on the shard's number, but not on which thread is faster.
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinycv.engine import arguments, capturing


class _Streams:
    """Independent streams of one seed: a host's for weights and shuffles, and the noise of each device.

    They are apart, so that noise drawn on one device or another never changes a shuffle. Each is made at its
    first draw, so a step without noise pays nothing for reseeding. Never seeded means seed 0.
    """

    def __init__(self, seed: tuple[int, ...] = (0,), shard: tuple[int, ...] = ()):
        self.seed, self.shard, self.splits = seed, shard, 0
        self.host: np.random.Generator | None = None
        self.host_noise: np.random.Generator | None = None
        self.gpu_noise: dict[str, Any] = {}     # "gpu:0" -> cupy.random.Generator
        self.blocks, self.block = 0, ()         # blocks marked so far; which one we are in, if any

    def sequence(self, *stream: int) -> np.random.SeedSequence:
        # The length goes in first: SeedSequence pads with zeros, and 7 and (7, 0) would be the same seed.
        return np.random.SeedSequence((len(self.seed), *self.seed), spawn_key=(*stream, *self.shard))


_streams = _Streams()
_own: ContextVar[_Streams | None] = ContextVar("tinycv_streams", default=None)      # a shard's, or replayed ones


def _here() -> _Streams:
    """The streams of this thread's shard, or the process's own."""
    return _own.get() or _streams


def split(shards: int) -> list[_Streams]:
    """Streams for each shard of a batch, to be taken up by ``use`` inside the shard."""
    _streams.splits += 1
    return [_Streams(_streams.seed, (_streams.splits, i)) for i in range(shards)]


use = _own.set                             # in the shard's own context: what draws there draws from these streams


def manual_seed(seed: int | tuple[int, ...]) -> None:
    """Start every stream of random numbers anew, on all devices. ``seed``: an int >= 0, or a tuple of them.

    manual_seed((seed, step)) before a step makes its noise a function of the two only: resume needs no more.
    Streams are the process's, not a thread's; a shard's are made from the process's, so seed before a batch is split.
    """
    _begin("manual_seed", _Streams(_seed_of(seed, "manual_seed: seed")))


def _seed_of(seed: Any, what: str) -> tuple[int, ...]:
    """An int >= 0, or several, as a tuple."""
    if not isinstance(seed, (tuple, list)):
        return (arguments.size(seed, what),)
    if not seed:
        raise ValueError(f"{what} is {seed!r}; it must be a whole number, at least 0, or a tuple of such numbers")
    return arguments.sizes(seed, what)


def _begin(caller: str, streams: _Streams) -> None:
    """Let these be the process's streams."""
    global _streams
    if _own.get() is not None:
        raise RuntimeError(f"{caller} inside one shard of a batch, or inside nn.checkpoint: seed before the batch is split")
    capturing.refuse(caller, "seed before the call")
    _streams = streams


def host_generator() -> np.random.Generator:
    """The generator of initial weights and shuffles: NumPy's, on the host, the same whatever the device."""
    capturing.refuse("a random number of the host", "draw it before, and pass it as an argument")
    streams = _here()
    if streams.host is None:
        streams.host = np.random.Generator(np.random.PCG64(streams.sequence(0)))
    return streams.host


def host_noise() -> np.random.Generator:
    """The generator of noise drawn on the CPU. SFC64: the fastest that NumPy has."""
    capturing.refuse("a random number of the host", "draw it on the GPU (backend.standard_normal, dropout)")
    streams = _here()
    if streams.host_noise is None:
        streams.host_noise = np.random.Generator(np.random.SFC64(streams.sequence(1)))
    return streams.host_noise


def gpu_noise(device: str) -> Any:
    """The generator of noise drawn on ``device`` ("gpu:0"), which must be CuPy's current one."""
    streams = _here()
    if device not in streams.gpu_noise:
        capturing.refuse("a new stream of noise, as nn.checkpoint makes for what draws noise in it", "leave it out there")
        random, number = sys.modules["cupy"].random, int(device.partition(":")[2])
        streams.gpu_noise[device] = random.Generator(random.Philox4x3210(streams.sequence(2 + number, *streams.block)))
    generator = streams.gpu_noise[device]
    if (recording := capturing.current()) is not None:              # which is held, and stands until somebody sets a seed
        recording.depends(lambda: _here().gpu_noise.get(device) is generator)
    return generator


@contextmanager
def marked() -> Iterator[tuple]:
    """``with marked() as mark:``, and later ``with replayed(mark):`` draws the same noise once more.

    The host's noise goes on as if nothing were marked. CuPy's generators cannot be read, nor set back, so inside each
    marked block a GPU's noise comes from a generator of the block's own, made at its first draw.
    """
    streams = _here()
    streams.blocks += 1
    noise = streams.host_noise
    before = streams.gpu_noise, streams.block
    streams.gpu_noise, streams.block = {}, (streams.blocks,)
    try:
        yield streams.seed, streams.shard, streams.blocks, None if noise is None else noise.bit_generator.state
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
    """Where the host's two streams stand, as JSON can hold it. Of a GPU's noise only the seed can be told."""
    return {"seed": list(_streams.seed), "splits": _streams.splits, "host": host_generator().bit_generator.state,
            "noise": _plain(host_noise().bit_generator.state)}


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue from ``get_rng_state``.

    CuPy's generators cannot be read, so a GPU's noise starts at its seed again: a program that must resume
    exactly on a GPU calls manual_seed((seed, step)) before each step.
    """
    if not isinstance(state, Mapping) or not {"seed", "host", "noise"} <= set(state):
        found = f"the keys {sorted(map(str, state))}" if isinstance(state, Mapping) else arguments.shown(state)
        raise TypeError(f"set_rng_state: state is or has {found}; it must be what get_rng_state returned, with 'seed', "
                        "'splits', 'host' and 'noise'")
    streams = _Streams(_seed_of(state["seed"], "set_rng_state: state['seed']"))
    # A state from before there were shards has no splits.
    streams.splits = arguments.size(state.get("splits", 0), "set_rng_state: state['splits']")
    streams.host = np.random.Generator(np.random.PCG64(0))
    streams.host_noise = np.random.Generator(np.random.SFC64(0))
    _set(streams.host, state["host"], "host", dict)
    _set(streams.host_noise, state["noise"], "noise", _packed)
    _begin("set_rng_state", streams)                                # only now: an error above has changed nothing


def _set(generator: np.random.Generator, state: Any, name: str, packed: Callable) -> None:
    """Bring the generator to a state. It is read back, as NumPy rounds or wraps some numbers that can be no state."""
    try:
        generator.bit_generator.state = packed(state)
        stands = {**generator.bit_generator.state} if packed is dict else _plain(generator.bit_generator.state)
        good = stands == state
    except (TypeError, ValueError, LookupError, OverflowError):
        good = False
    if not good:
        raise ValueError(f"set_rng_state: state[{name!r}] is {arguments.shown(state)}; it must be what get_rng_state "
                         "returned there")


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """SFC64's state with its array of four uint64 as a list, which JSON holds exactly."""
    return state | {"state": {"state": state["state"]["state"].tolist()}}


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of _plain."""
    return state | {"state": {"state": np.array(state["state"]["state"], np.uint64)}}
