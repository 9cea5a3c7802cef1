"""GPU detection: can this process use a GPU, and if not, why, and what to install?

CuPy can be imported without a driver, and its errors then mislead ("driver version is insufficient"
on a machine without a GPU).  So the check goes step by step, from the package over the driver to a
matrix product, and the first step that fails gives the cause and the command that helps.  The
result is cached.
"""

from __future__ import annotations

import functools
import importlib
import sys


class GpuUnavailable(RuntimeError):
    """No GPU can be used. ``cause`` is "package", "driver", "old_driver", "device" or "library"."""

    def __init__(self, cause: str, message: str):
        super().__init__(message)
        self.cause = cause


@functools.cache
def gpu_problem() -> GpuUnavailable | None:
    """Why this process cannot use a GPU, and what helps; None if it can."""
    for step in (_package_problem, _driver_problem, _device_problem, _library_problem):
        problem = step()
        if problem is not None:
            return problem
    return None


def missing_number(number: int) -> GpuUnavailable | None:
    """The problem if this process can use GPUs, but there is no GPU of that number; otherwise
    None."""
    count = sys.modules["cupy"].cuda.runtime.getDeviceCount()
    if number < count:
        return None
    visible = ", ".join(f'"gpu:{i}"' for i in range(count))
    return GpuUnavailable(
        "device",
        f'this process sees {visible} and no "gpu:{number}": choose one of these, '
        "or set CUDA_VISIBLE_DEVICES to show more",
    )


def _package_problem() -> GpuUnavailable | None:
    """CuPy cannot be imported, because it is not installed or its installation is broken."""
    try:
        importlib.import_module("cupy")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return GpuUnavailable(
                "package",
                'CuPy is not installed: pip install "cupy-cuda13x[ctk]" for CUDA 13, '
                'or pip install "cupy-cuda12x[ctk]" for CUDA 12',
            )
        # It is installed but broken: only in part, or two CuPy packages at once.
        return _library_missing(error)
    return None


def _driver_problem() -> GpuUnavailable | None:
    """There is no driver, or it is too old for the CUDA version of CuPy."""
    runtime = sys.modules["cupy"].cuda.runtime
    try:
        driver, required = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    # CuPy has its own classes of errors; their text becomes part of the message.
    except Exception as error:
        return _library_missing(error)
    if driver == 0:
        return GpuUnavailable(
            "driver",
            "there is no NVIDIA driver, or no NVIDIA GPU: install the driver, "
            "until nvidia-smi lists the GPU",
        )
    have, need = driver // 1000, required // 1000
    if have >= need:
        return None
    cure = (
        'pip uninstall -y cupy-cuda13x, then pip install "cupy-cuda12x[ctk]"'
        if have == 12
        else "install a newer driver, until nvidia-smi shows that version"
    )
    return GpuUnavailable(
        "old_driver", f"CuPy needs CUDA {need}, but the NVIDIA driver supports {have}: {cure}"
    )


def _device_problem() -> GpuUnavailable | None:
    """There is a driver, but it shows this process no GPU."""
    try:
        count = sys.modules["cupy"].cuda.runtime.getDeviceCount()
    # With no GPU, getDeviceCount raises cudaErrorNoDevice instead of returning 0.
    except Exception:
        count = 0
    if count:
        return None
    return GpuUnavailable(
        "device",
        "the driver shows no GPU to this process: unset CUDA_VISIBLE_DEVICES, "
        "or set it to a number that nvidia-smi -L lists",
    )


def _library_problem() -> GpuUnavailable | None:
    """There is a GPU, but a sum or a matrix product fails on it."""
    # cupy.is_available() returns True even if NVRTC or cuBLAS is missing. Only an actual
    # computation shows that everything works.
    cupy = sys.modules["cupy"]
    try:
        two = cupy.ones((2, 2), "float32")
        two = two + two  # compiles: needs NVRTC
        total = (two @ two).sum().item()  # needs cuBLAS, and a GPU that answers
    # ImportError, DynamicLibNotFoundError, CompileException, ...
    except Exception as error:
        return _library_missing(error)
    return (
        None
        if total == 32
        else _library_missing(ArithmeticError(f"a sum of 32 came out as {total}"))
    )


def _library_missing(error: Exception) -> GpuUnavailable:
    """The problem with cause "library", which quotes the first line of CuPy's error."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    problem = GpuUnavailable(
        "library",
        f"CuPy is installed but does not work ({reason}): "
        "pip uninstall -y cupy cupy-cuda12x cupy-cuda13x, then "
        'pip install "cupy-cuda13x[ctk]" (or "cupy-cuda12x[ctk]" for CUDA 12), '
        "which brings the CUDA libraries",
    )
    problem.__cause__ = error
    return problem
