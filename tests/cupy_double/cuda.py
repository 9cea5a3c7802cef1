"""cupy.cuda and cupy.random for the double, and how each cause of an unusable GPU shows there."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from .array import ndarray, unwrap, wrap
from .world import NAMES, WORLD, Device


class CUDARuntimeError(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError."""


def driver_version() -> int:
    return {"driver": 0, "old_driver": 12080}.get(WORLD.cause, 13000)


def device_count() -> int:
    if WORLD.cause in ("driver", "old_driver"):
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    if WORLD.cause == "device":
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return WORLD.devices


class Stream:
    """cupy.cuda.Stream: all work is done at once, when it is called."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False):
        self.ptr = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing, since no work is ever queued."""

    def synchronize(self) -> None:
        WORLD.wait()

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Always True, since all work is done at once."""


Stream.null = Stream(null=True)


class Event:
    """cupy.cuda.Event: holds the host's clock at the time of ``record``."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ):
        self.at: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        WORLD.wait()

    done = True


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds between two recorded events."""
    return (end.at - start.at) * 1000


class MemoryPool:
    """cupy's memory pool. It is always empty."""

    def used_bytes(self) -> int:
        return 0

    total_bytes = free_bytes = n_free_blocks = used_bytes

    def malloc(self, size: int) -> None:
        raise NotImplementedError("the double's arrays get their memory from NumPy")

    def free_all_blocks(self) -> None:
        """Does nothing, since the pool holds no memory."""


def cuda_modules() -> dict[str, ModuleType]:
    """The modules cupy.cuda and cupy.cuda.runtime, under their full names."""
    runtime, cuda, device = (
        ModuleType(name) for name in ("cupy.cuda.runtime", "cupy.cuda", "cupy.cuda.device")
    )
    device.get_cublas_handle = lambda: 0
    nccl = ModuleType("cupy.cuda.nccl")
    nccl.available = True
    runtime.__dict__.update(
        CUDARuntimeError=CUDARuntimeError,
        CUDA_R_16F=2,
        CUDA_R_32F=0,
        CUDA_R_64F=1,
        driverGetVersion=driver_version,
        runtimeGetVersion=lambda: 13000,
        getDeviceCount=device_count,
        getDevice=lambda: WORLD.device,
        deviceSynchronize=WORLD.wait,
        getDeviceProperties=lambda number: {
            "name": b"strict double of a GPU",
            "major": 9,
            "minor": 0,
            "totalGlobalMem": 2**31,
        },
    )
    cuda.__dict__.update(
        runtime=runtime,
        device=device,
        nccl=nccl,
        Device=Device,
        Stream=Stream,
        Event=Event,
        MemoryPool=MemoryPool,
        using_allocator=lambda allocator=None: nullcontext(),
        get_allocator=lambda: None,
        get_elapsed_time=get_elapsed_time,
        get_current_stream=lambda: Stream.null,
        is_available=lambda: WORLD.cause in (None, "library"),
    )
    return {
        "cupy.cuda": cuda,
        "cupy.cuda.runtime": runtime,
        "cupy.cuda.device": device,
        "cupy.cuda.nccl": nccl,
    }


# ── random numbers ────────────────────────────────────────────────────────────────────────────────


class Philox4x3210:
    """A bit generator: holds a seed, which cannot be read."""

    def __init__(self, seed: Any = None, *, size: int = 1000 * 256):
        sequence = (
            seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        )
        self._host = np.random.PCG64(sequence)


FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Generator:
    """cupy.random.Generator: the methods of CuPy 14.2 with its arguments. The numbers differ from
    NumPy's, as they do in CuPy."""

    def __init__(self, bit_generator: Philox4x3210):
        if not isinstance(bit_generator, Philox4x3210):
            raise TypeError(f"a bit generator of CuPy's, not {type(bit_generator)}")
        self._host = np.random.Generator(bit_generator._host)

    def __getattr__(self, name: str) -> Any:
        params = NAMES["cupy.random.Generator"].get(name)
        if params is None or not hasattr(np.random.Generator, name):
            raise AttributeError(
                f"cupy.random.Generator has no {name!r} in CuPy {NAMES['version']}"
            )
        return self._drawer(name, params[1:])

    def _drawer(self, name: str, params: list[str]) -> Any:
        act = getattr(self._host, name)
        native = name in (
            "random",
            "standard_normal",
            "standard_exponential",
            "standard_gamma",
            "integers",
        )

        def draw(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(params, args, strict=False)) | kwargs
            if len(args) > len(params) or set(given) - set(params):
                raise TypeError(f"cupy.random.Generator.{name} takes {params}, not {args} {kwargs}")
            if (
                name in ("random", "standard_normal")
                and np.dtype(given.get("dtype", float)) not in FLOATS
            ):
                raise TypeError(f"Unsupported dtype {given['dtype']} for {name}")
            out, dtype = given.get("out"), None if native else given.pop("dtype", None)
            result = act(**{key: unwrap(part) for key, part in given.items()})
            return out if out is not None else wrap(np.asarray(result, dtype))

        return draw


def _legacy(name: str, host: np.random.RandomState) -> Any:
    def draw(*args: Any, **kwargs: Any) -> ndarray:
        dtype = kwargs.pop("dtype", None)
        return wrap(np.asarray(getattr(host, name)(*map(unwrap, args), **kwargs), dtype))

    return draw


def random_module() -> ModuleType:
    """cupy.random: the generator, and a few of the old functions."""
    module, host = ModuleType("cupy.random"), np.random.RandomState(0)
    module.__dict__.update(
        Generator=Generator,
        Philox4x3210=Philox4x3210,
        seed=host.seed,
        default_rng=lambda seed=None: Generator(Philox4x3210(seed)),
    )
    for name in (
        "rand",
        "randn",
        "randint",
        "random",
        "random_sample",
        "normal",
        "standard_normal",
        "uniform",
        "permutation",
    ):
        setattr(module, name, _legacy(name, host))
    return module
