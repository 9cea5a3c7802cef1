"""Can this process use a GPU? Asked once, in steps, each with its own sentence and its cure.

CuPy imports without a driver, and its own errors then mislead ("driver version is insufficient" to
somebody without a GPU); so the steps go from the package to a product, and the first that fails
names the cause.
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
    """What keeps this process from using a GPU, with the command that mends it; None when one
    works."""
    for step in (_package_problem, _driver_problem, _device_problem, _library_problem):
        problem = step()
        if problem is not None:
            return problem
    return None


def missing_number(number: int) -> GpuUnavailable | None:
    """The problem with ``number`` when GPUs work, but fewer are visible; None when that one is
    there."""
    count = sys.modules["cupy"].cuda.runtime.getDeviceCount()
    if number < count:
        return None
    seen = ", ".join(f'"gpu:{i}"' for i in range(count))
    return GpuUnavailable(
        "device",
        f'this process sees {seen} and no "gpu:{number}": choose one of these, '
        "or set CUDA_VISIBLE_DEVICES to show more",
    )


def _package_problem() -> GpuUnavailable | None:
    """CuPy cannot be imported: not there, or there and broken."""
    try:
        importlib.import_module("cupy")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return GpuUnavailable(
                "package",
                'CuPy is not installed: pip install "cupy-cuda13x[ctk]" for CUDA 13, '
                'or pip install "cupy-cuda12x[ctk]" for CUDA 12',
            )
        # found but broken: half installed, or two CuPys at once
        return _library_missing(error)
    return None


def _driver_problem() -> GpuUnavailable | None:
    """No driver, or one that is older than CuPy's CUDA."""
    runtime = sys.modules["cupy"].cuda.runtime
    try:
        driver, wanted = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    # CuPy's own classes: their words go into the message
    except Exception as error:
        return _library_missing(error)
    if driver == 0:
        return GpuUnavailable(
            "driver",
            "there is no NVIDIA driver, or no NVIDIA GPU: install the driver, "
            "until nvidia-smi lists the GPU",
        )
    have, need = driver // 1000, wanted // 1000
    if have >= need:
        return None
    cure = (
        'pip uninstall -y cupy-cuda13x, then pip install "cupy-cuda12x[ctk]"'
        if have == 12
        else "install a newer driver, until nvidia-smi shows that version"
    )
    return GpuUnavailable(
        "old_driver", f"CuPy needs CUDA {need}, the NVIDIA driver knows {have}: {cure}"
    )


def _device_problem() -> GpuUnavailable | None:
    """A driver that shows this process no GPU."""
    try:
        count = sys.modules["cupy"].cuda.runtime.getDeviceCount()
    # cudaErrorNoDevice: it raises rather than count to 0
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
    """A GPU on which a sum or a product fails."""
    # cupy.is_available() says True with NVRTC or cuBLAS missing: only doing the work proves that it
    # works.
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
    """The cause "library", with the first line of what CuPy said."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    problem = GpuUnavailable(
        "library",
        f"CuPy is installed but does not work ({said}): "
        "pip uninstall -y cupy cupy-cuda12x cupy-cuda13x, then "
        'pip install "cupy-cuda13x[ctk]" (or "cupy-cuda12x[ctk]" for CUDA 12), '
        "which brings the CUDA libraries",
    )
    problem.__cause__ = error
    return problem
