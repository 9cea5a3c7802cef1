"""One interface to NumPy and CuPy: devices, transfers, random numbers, synchronisation, timing.

Both can be used in one process, so that CPU and GPU can be compared in one run.  The type of an
array says to which of the two it belongs.  CuPy is not imported before a GPU is used.  Devices are
called "cpu", "gpu:0", "gpu:1".
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

# np.ndarray or cupy.ndarray; the latter cannot be named here, as CuPy may not be installed
Array = Any
# the index in x[index]; plain_index in door.py says what it may be
Index = Any


# ── the library and the device of an array ───────────────────────────────────────────────────────


def array_module(array: object) -> ModuleType:
    """The module that owns ``array``: numpy, or cupy. Scalars and lists belong to numpy."""
    if type(array) is np.ndarray:
        return np
    cupy = sys.modules.get("cupy")  # never imported here: no CuPy, no CuPy array
    return cupy if cupy and isinstance(array, getattr(cupy, "ndarray", ())) else np


def device_of(array: Array) -> str:
    """The device that ``array`` is on: "cpu", or "gpu:N" with the number of the GPU."""
    return "cpu" if array_module(array) is np else f"gpu:{array.device.id}"


# ── names of devices ─────────────────────────────────────────────────────────────────────────────


def resolve(device: str = "cpu", who: str = "resolve") -> str:
    """The canonical name of ``device``: "cpu" or "gpu:N".

    Takes "cpu", "gpu", "gpu:N", PyTorch's "cuda" and "cuda:N", and "auto", which means the first
    GPU, or else the CPU with a warning that says why. Raises GpuUnavailable if a GPU is named that
    cannot be used, and ValueError, in the name of the function ``who``, for any other value.
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
        # ``gpu_problem`` caches this exception; without its traceback it keeps no old frames alive.
        raise problem.with_traceback(None)
    return f"gpu:{number}"


def module_for(device: str, who: str = "module_for") -> ModuleType:
    """numpy for "cpu", cupy for a GPU. Raises the errors of ``resolve``."""
    return np if resolve(device, who) == "cpu" else sys.modules["cupy"]


def _gpu_or_cpu() -> str:
    """The first GPU, or the CPU with a warning that says why there is no GPU and what helps."""
    problem = gpu_problem()
    if problem is None:
        return "gpu:0"
    # stacklevel=3: the warning shows the line that called ``resolve``.
    warnings.warn(f'device "auto" uses the CPU: {problem}.', RuntimeWarning, stacklevel=3)
    return "cpu"


def forget_probe() -> None:
    """Check again for a GPU when one is next used. For tests, and for sessions in which an
    installation has been repaired."""
    gpu_problem.cache_clear()
    # The next CuPy may be another installation, which cannot use the old generators.
    rng.forget_gpu_noise()


# ── transfers between devices ────────────────────────────────────────────────────────────────────


def to_numpy(array: Array) -> np.ndarray:
    """``array`` as a NumPy array. A CuPy array is copied, which waits for the GPU; a NumPy array is
    returned as it is."""
    xp = array_module(array)
    if xp is np:
        return np.asarray(array)
    capturing.refuse(
        "an array that is read from the GPU", "return the Tensor, and read it after the call"
    )
    return xp.asnumpy(array)


def to_device(array: Array, device: str) -> Array:
    """``array`` on ``device``; the same object if it is there already. Raises the errors of
    ``resolve``."""
    device = resolve(device)
    if device == "cpu":
        return to_numpy(array)
    xp = array_module(array)
    if xp is not np and device_of(array) == device:
        return array
    capturing.refuse(
        "an array that is copied to the GPU",
        "copy it to the GPU before the call, and pass it as an argument",
    )
    with _gpu(device):  # both functions return an array on the current GPU
        return sys.modules["cupy"].asarray(array) if xp is np else array.copy()


def from_host(xp: ModuleType, array: Any) -> Any:
    """A NumPy array as an array of ``xp``, on its current device; anything else as it is. Refused
    in a step that is recorded."""
    if xp is np or not isinstance(array, np.ndarray):
        return array
    capturing.refuse(
        "an array of the host", "copy it to the GPU before the call, and pass it as an argument"
    )
    return xp.asarray(array)


def constant(xp: ModuleType, array: np.ndarray) -> Array:
    """A NumPy array as an array of ``xp``, for a table that is the same at every step. A step that
    is recorded keeps it."""
    if xp is np:
        return array
    recording = capturing.current()
    return xp.asarray(array) if recording is None else recording.constant(array)


def _gpu(device: str) -> Any:
    """CuPy's context for ``device`` ("gpu:N")."""
    return sys.modules["cupy"].cuda.Device(int(device.partition(":")[2]))


# ── synchronisation and timing ───────────────────────────────────────────────────────────────────


def synchronize(device: str = "cpu") -> None:
    """Wait until ``device`` has finished all its work. On the CPU there is nothing to wait for."""
    device = resolve(device, "synchronize")
    if device != "cpu":
        _gpu(device).synchronize()


class Stopwatch:
    """Measure the time of a block, including the work that a GPU still has to do when Python is
    done. The GPU's time is measured with CUDA events.

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


# ── random numbers ───────────────────────────────────────────────────────────────────────────────


def standard_normal(
    shape: int | tuple[int, ...], like: Array | ModuleType = np, dtype: DTypeLike = "float32"
) -> Array:
    """Random numbers from N(0, 1), drawn on the device of ``like``: numpy, cupy or an array."""
    return _noise("standard_normal", "standard_normal", shape, like, dtype)


def uniform(
    shape: int | tuple[int, ...], like: Array | ModuleType = np, dtype: DTypeLike = "float32"
) -> Array:
    """Uniform random numbers in [0, 1), drawn on the device of ``like``: numpy, cupy or an
    array."""
    numbers = _noise("uniform", "random", shape, like, dtype)
    # The float32 and float64 numbers of the generators are below 1; rounded to float16 they may
    # become 1.
    return below_one(numbers) if numbers.dtype.char == "e" else numbers


def below_one(numbers: Array) -> Array:
    """Numbers from [0, 1) that were rounded to their dtype. Where this made them 1, they become the
    largest number below 1."""
    return numbers.clip(None, float(1 - np.finfo(numbers.dtype).epsneg))


def _noise(who: str, method: str, shape: int | tuple[int, ...], like: Any, dtype: Any) -> Array:
    """Random numbers by a method that the generators of NumPy and CuPy have in common, drawn in
    float32 or float64 and then converted to ``dtype``. who: the public function, for errors."""
    try:
        floats = None if is_array(dtype) else np.dtype(dtype)
    except TypeError:
        floats = None
    if floats is None or floats.kind != "f":
        raise TypeError(
            f"{who}: dtype is {shown(dtype)}; it must be float32, float64 or float16, because "
            "noise consists of floats"
        )
    dtype = floats
    # The generators draw in these two dtypes only.
    drawn = dtype if dtype == np.float64 else np.dtype(np.float32)
    if not (is_array(like) or like is np or like is sys.modules.get("cupy", np)):
        raise TypeError(f"{who}: like is {shown(like)}; it must be an array, numpy or cupy")
    if isinstance(like, ModuleType):
        device = "cpu" if like is np else f"gpu:{like.cuda.Device().id}"
    else:
        device = device_of(getattr(like, "_data", like))  # ``like`` may be a Tensor
    if device == "cpu":
        try:
            return getattr(rng.host_noise(), method)(shape, dtype=drawn).astype(dtype, copy=False)
        except (TypeError, ValueError, AttributeError):
            sizes(shape, f"{who}: shape")  # raises a clearer error if the shape is wrong
            raise
    with _gpu(device):
        return getattr(rng.gpu_noise(device), method)(shape, dtype=drawn).astype(dtype, copy=False)


# ── functions that differ between NumPy and CuPy ─────────────────────────────────────────────────


def erf(xp: ModuleType, x: Array) -> Array:
    """The error function erf(x) = 2/sqrt(pi) ∫ exp(-t^2) dt from 0 to x, elementwise, in the float
    dtype of x."""
    return _host_erf(x) if xp is np else importlib.import_module("cupyx.scipy.special").erf(x)


def normal_cdf(xp: ModuleType, x: Array) -> Array:
    """The normal distribution function: the probability that a number from N(0, 1) is below x,
    elementwise, in the float dtype of x."""
    return (
        _host_normal_cdf(x) if xp is np else importlib.import_module("cupyx.scipy.special").ndtr(x)
    )


def log1p(xp: ModuleType, x: Array) -> Array:
    """log(1 + x) for 0 <= x <= 1.

    In float32 NumPy's log1p takes many times as long as the formula used here, the series of
    log(1 + x) = 2 artanh(s / 2) with s = x / (1 + x / 2), which is s (1 + s²/12 + s⁴/80 + ...).
    With its four last coefficients changed to fit s <= 2/3, it can stop at s⁸: error 5e-9.
    """
    if xp is not np or x.dtype != np.float32:
        return xp.log1p(x)
    s = x * 0.5
    s += 1
    s = x / s
    squared = s * s
    y = squared * 0.00054735
    for coefficient in (0.00218743, 0.01250678, 0.08333302):
        y += coefficient
        y *= squared
    y += 1
    y *= s
    return y


def add_at(xp: ModuleType, target: Array, index: Index, value: Array) -> None:
    """target[index] += value in place, where an index that occurs twice is added twice.

    With NumPy the result is the same to the last bit in every run, and an index out of range raises
    IndexError. CuPy adds in any order, so sums of floats vary in their last digits, and an index
    out of range silently wraps, so check it on the host. float16 is added in float32 and rounded
    once.
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
    """Is the index one array of integers, which selects rows? Only then can ``_add_rows`` be
    used."""
    return type(index) is np.ndarray and index.dtype.kind in "iu"


def _add_rows(target: np.ndarray, rows: np.ndarray, value: Any) -> None:
    """``add_at`` for rows of a contiguous array. IndexError for a row out of range."""
    # np.add.at is fast in one dimension only, so rows are turned into positions in the flattened
    # array. Measured on an embedding's gradient (4096 of 1000 rows, width 128): by rows 6.5 ms,
    # with a stable argsort and np.add.reduceat 2.6 ms, flattened 1.2 ms.
    count, width = len(target), math.prod(target.shape[1:])
    if rows.size and not -count <= rows.min() <= rows.max() < count:
        raise IndexError(
            f"rows {rows.min()} to {rows.max()} are out of range: there are {count} rows"
        )
    value = np.broadcast_to(np.asarray(value, target.dtype), rows.shape + target.shape[1:])
    # A negative row works too: row -1 becomes the positions -width to -1.
    position = rows.reshape(-1, 1).astype(np.intp) * width + np.arange(width)
    np.add.at(target.reshape(-1), position.reshape(-1), value.reshape(-1))
