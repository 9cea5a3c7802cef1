"""NumPy and CuPy behind one small face: detect, move, draw random numbers, wait, time.

Both live in one process, so that CPU and GPU can be compared in one run. Nothing here imports CuPy
until somebody asks for a GPU; who owns an array is read off the array. Devices are written "cpu",
"gpu:0", "gpu:1".
"""

from __future__ import annotations

import importlib
import math
import re
import sys
import time
import warnings
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import capturing, rng
from tinycv.engine.arguments import is_array, shown, sizes
from tinycv.engine.erf import erf as _host_erf
from tinycv.engine.erf import normal_cdf as _host_normal_cdf
from tinycv.engine.find_gpu import GpuUnavailable, gpu_problem, missing_number
from tinycv.engine.rng import get_rng_state, host_generator, manual_seed, set_rng_state

__all__ = [
    "GpuUnavailable",
    "Stopwatch",
    "add_at",
    "array_module",
    "constant",
    "device_of",
    "erf",
    "forget_probe",
    "from_host",
    "get_rng_state",
    "gpu_problem",
    "host_generator",
    "log1p",
    "manual_seed",
    "module_for",
    "normal_cdf",
    "resolve",
    "set_rng_state",
    "standard_normal",
    "synchronize",
    "to_device",
    "to_numpy",
    "uniform",
]

# np.ndarray or cupy.ndarray: the second is known only where CuPy is installed
Array = Any
# what stands between x[ and ]: plain_index in door.py says what that may be
Index = Any


# ── whose array is this ───────────────────────────────────────────────────────────────────────────


def array_module(array: object) -> ModuleType:
    """The module that owns ``array``: numpy, or cupy. Scalars and lists belong to numpy."""
    if type(array) is np.ndarray:
        return np
    cupy = sys.modules.get("cupy")  # never imported here: no CuPy, no CuPy array
    return cupy if cupy and isinstance(array, getattr(cupy, "ndarray", ())) else np


def device_of(array: Array) -> str:
    """Where ``array`` lives: "cpu", or "gpu:0" with the number of its GPU."""
    return "cpu" if array_module(array) is np else f"gpu:{array.device.id}"


# ── which device does the user mean ───────────────────────────────────────────────────────────────


def resolve(device: str = "cpu", who: str = "resolve") -> str:
    """The canonical name of ``device``: "cpu" or "gpu:N".

    Takes "cpu", "gpu", "gpu:N", PyTorch's "cuda" and "cuda:N", and "auto": the first GPU, or the
    CPU with a warning that says why. Raises GpuUnavailable when a GPU is named and cannot be used,
    ValueError for any other word, in the name of ``who``.
    """
    match = (
        re.fullmatch(r"cpu|auto|(?:gpu|cuda)(?::(\d{1,4}))?", device)
        if isinstance(device, str)
        else None
    )
    if match is None:
        raise ValueError(
            f'{who}: device is {shown(device)}; it must be "cpu", "gpu", "gpu:N" or "auto"'
        )
    if device == "cpu":
        return device
    if device == "auto":
        return _gpu_or_cpu()
    number = int(match[1] or 0)
    problem = gpu_problem() or missing_number(number)
    if problem is not None:
        # the instance is kept: it must not drag old frames along
        raise problem.with_traceback(None)
    return f"gpu:{number}"


def module_for(device: str, who: str = "module_for") -> ModuleType:
    """numpy for "cpu", cupy for a GPU. Errors as ``resolve``."""
    return np if resolve(device, who) == "cpu" else sys.modules["cupy"]


def _gpu_or_cpu() -> str:
    """The first GPU, or the CPU with a warning that names the cause and its cure."""
    problem = gpu_problem()
    if problem is None:
        return "gpu:0"
    # our caller
    warnings.warn(f'device "auto" uses the CPU: {problem}.', RuntimeWarning, stacklevel=3)
    return "cpu"


def forget_probe() -> None:
    """Ask again at the next use of a GPU. For tests, and after something was mended in a running
    session."""
    gpu_problem.cache_clear()
    # generators of a CuPy that may be another one next time
    rng.forget_gpu_noise()


# ── move ──────────────────────────────────────────────────────────────────────────────────────────


def to_numpy(array: Array) -> np.ndarray:
    """``array`` on the host. Waits for the GPU when it lives there; no copy when it is NumPy's
    already."""
    xp = array_module(array)
    if xp is np:
        return np.asarray(array)
    capturing.refuse(
        "an array that is read from the GPU", "return the Tensor, and read it after the call"
    )
    return xp.asnumpy(array)


def to_device(array: Array, device: str) -> Array:
    """``array`` on ``device``; the same object when it is there already. Errors as ``resolve``."""
    device = resolve(device)
    if device == "cpu":
        return to_numpy(array)
    xp = array_module(array)
    if xp is not np and device_of(array) == device:
        return array
    capturing.refuse(
        "an array that is copied to the GPU",
        "make it a Tensor there before, and pass it as an argument",
    )
    with _gpu(device):  # both land on the current GPU
        return sys.modules["cupy"].asarray(array) if xp is np else array.copy()


def from_host(xp: ModuleType, array: Any) -> Any:
    """A NumPy array among xp's arrays, on its current device; all else as it is. A step that is
    recorded refuses it."""
    if xp is np or not isinstance(array, np.ndarray):
        return array
    capturing.refuse(
        "an array of the host", "make it a Tensor on the GPU before, and pass it as an argument"
    )
    return xp.asarray(array)


def constant(xp: ModuleType, array: np.ndarray) -> Array:
    """The same for a table that will be the same at every step: a step that is recorded keeps
    it."""
    recording = capturing.current()
    return (
        array if xp is np else xp.asarray(array) if recording is None else recording.constant(array)
    )


def _gpu(device: str) -> Any:
    """CuPy's context for ``device`` ("gpu:N")."""
    return sys.modules["cupy"].cuda.Device(int(device.partition(":")[2]))


# ── wait, time ────────────────────────────────────────────────────────────────────────────────────


def synchronize(device: str = "cpu") -> None:
    """Wait until ``device`` has done all its work. The CPU is never behind."""
    device = resolve(device, "synchronize")
    if device != "cpu":
        _gpu(device).synchronize()


class Stopwatch:
    """Times a block truly: waits before it reads a clock, and asks the GPU's own events.

    with Stopwatch("gpu") as watch:
        y = model(x)
    watch.seconds            # s, until the device had finished
    watch.host_seconds       # s, until Python had queued the work; equals ``seconds`` on the CPU
    """

    seconds = host_seconds = float("nan")

    def __init__(self, device: str = "cpu"):
        self.device = resolve(device, "Stopwatch")

    def __enter__(self) -> Stopwatch:
        synchronize(self.device)
        if self.device != "cpu":
            self._begun = self._event()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = self.host_seconds = time.perf_counter() - self._started
        if self.device != "cpu":
            ended = self._event()
            ended.synchronize()
            milliseconds = sys.modules["cupy"].cuda.get_elapsed_time(self._begun, ended)
            self.seconds = milliseconds / 1000

    def _event(self) -> Any:
        with _gpu(self.device):
            event = sys.modules["cupy"].cuda.Event()
            event.record()
        return event


# ── randomness ────────────────────────────────────────────────────────────────────────────────────


def standard_normal(
    shape: int | tuple[int, ...], like: Array | ModuleType = np, dtype: DTypeLike = "float32"
) -> Array:
    """Draws from N(0, 1), of ``shape``, made on the device of ``like``: numpy, cupy or an array."""
    return _noise("standard_normal", "standard_normal", shape, like, dtype)


def uniform(
    shape: int | tuple[int, ...], like: Array | ModuleType = np, dtype: DTypeLike = "float32"
) -> Array:
    """Uniform draws from [0, 1), of ``shape``, made on the device of ``like``: numpy, cupy or an
    array."""
    drawn = _noise("uniform", "random", shape, like, dtype)
    # the generators' own float32 and float64 are below 1
    return below_one(drawn) if drawn.dtype.char == "e" else drawn


def below_one(draws: Array) -> Array:
    """Draws from [0, 1) that were rounded to their dtype, where 1 may come of it: the number before
    1 stands there."""
    return draws.clip(None, float(1 - np.finfo(draws.dtype).epsneg))


def _noise(who: str, method: str, shape: int | tuple[int, ...], like: Any, dtype: Any) -> Array:
    """Draws by a method that both libraries' generators have, in float32 or float64, then cast to
    ``dtype``."""
    try:
        found = None if is_array(dtype) else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.kind != "f":
        raise TypeError(
            f"{who}: dtype is {shown(dtype)}; noise is of floats, so it must be float32, float64 "
            "or float16"
        )
    dtype = found
    # the generators know these two only
    drawn = dtype if dtype == np.float64 else np.dtype(np.float32)
    if not (is_array(like) or like is np or like is sys.modules.get("cupy", np)):
        raise TypeError(f"{who}: like is {shown(like)}; it must be an array, numpy or cupy")
    if isinstance(like, ModuleType):
        device = "cpu" if like is np else f"gpu:{like.cuda.Device().id}"
    else:
        device = device_of(getattr(like, "_data", like))  # of a Tensor, its array's
    if device == "cpu":
        try:
            return getattr(rng.host_noise(), method)(shape, dtype=drawn).astype(dtype, copy=False)
        except (TypeError, ValueError, AttributeError):
            sizes(shape, f"{who}: shape")  # says what is wrong with it
            raise
    with _gpu(device):
        return getattr(rng.gpu_noise(device), method)(shape, dtype=drawn).astype(dtype, copy=False)


# ── what the two libraries spell differently ──────────────────────────────────────────────────────


def erf(xp: ModuleType, x: Array) -> Array:
    """erf(x) = 2/sqrt(pi) integral of exp(-t^2) from 0 to x, elementwise, in the float type of
    ``x``."""
    return _host_erf(x) if xp is np else importlib.import_module("cupyx.scipy.special").erf(x)


def normal_cdf(xp: ModuleType, x: Array) -> Array:
    """The share of N(0, 1) below x, elementwise, in the float type of ``x``."""
    return (
        _host_normal_cdf(x) if xp is np else importlib.import_module("cupyx.scipy.special").ndtr(x)
    )


def log1p(xp: ModuleType, x: Array) -> Array:
    """log(1 + x) for 0 <= x <= 1. In float32 NumPy's own takes twice as long as this: log(u) x / (u
    - 1) with u = 1 + x rounded, whose two errors cancel (Goldberg 1991, theorem 4)."""
    if xp is not np or x.dtype != np.float32:
        return xp.log1p(x)
    u = 1 + x
    d = u - 1
    # 0 / 0 where x is lost in 1 + x: there the answer is x
    with np.errstate(invalid="ignore"):
        return np.where(d == 0, x, np.log(u) * x / d)


def add_at(xp: ModuleType, target: Array, index: Index, value: Array) -> None:
    """target[index] += value in place, where an index that repeats counts each time.

    On NumPy the same to the last bit in every run, and an index outside raises IndexError. CuPy
    adds in any order, so float sums vary in their last digits, and an index outside wraps silently:
    check on the host. Halves are added up in float32, and rounded once.
    """
    if target.dtype.char == "e":
        wide = target.astype("float32")
        add_at(xp, wide, index, value)
        target[...] = wide
        return
    if xp is np and target.ndim > 1 and target.flags.c_contiguous and _is_rows(index):
        _add_rows(target, index, value)
    else:
        xp.add.at(target, index, value)


def _is_rows(index: Any) -> bool:
    """Does one array of integers choose rows? (add_at's fast way takes nothing else.)"""
    return type(index) is np.ndarray and index.dtype.kind in "iu"


def _add_rows(target: np.ndarray, rows: np.ndarray, value: Any) -> None:
    """add_at for rows of an array in one piece, by their flat positions; IndexError for a row
    outside."""
    # np.add.at is fast in one dimension only, so the rows become flat positions. Measured on an
    # embedding's gradient (4096 of 1000 rows, width 128): rows 6.5 ms, stable argsort and
    # np.add.reduceat 2.6, flat 1.2.
    count, width = len(target), math.prod(target.shape[1:])
    if rows.size and not -count <= rows.min() <= rows.max() < count:
        raise IndexError(
            f"rows {rows.min()} to {rows.max()} are asked for, but the target has {count}"
        )
    value = np.broadcast_to(np.asarray(value, target.dtype), rows.shape + target.shape[1:])
    # row -1: -width to -1
    position = rows.reshape(-1, 1).astype(np.intp) * width + np.arange(width)
    np.add.at(target.reshape(-1), position.reshape(-1), value.reshape(-1))
