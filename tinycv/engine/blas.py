"""Choose the kernel that OpenBLAS multiplies matrices with, before NumPy loads it.

OpenBLAS carries kernels for several generations of processors and chooses one when it is loaded.
An AMD processor with AVX-512 (Zen 5) was once taken for a Haswell, in a virtual machine, and
products took twice as long.  A Zen 4, which computes 512 bits in two halves, multiplies as fast
either way: 5 % slower in large products, 25 % faster in small ones.  By its own rule it should have
been COOPERLAKE with AVX512_BF16 and SKYLAKEX without; NumPy's wheels have one kernel for both.  So
that rule is applied here to what the operating system says, and where OpenBLAS chose well nothing
changes.

Only AMD's processors: OpenBLAS knows Intel's by their models, and has kernels for them that no flag
here tells of. Never a kernel that the processor lacks.  Only on Linux, where the flags can be read,
and only before NumPy is imported: afterwards it is too late.  OPENBLAS_CORETYPE of the user's own
wins; TINYCV_BLAS_KERNEL=0 turns this off.  A NumPy with another BLAS ignores it.  SciPy brings an
OpenBLAS of its own, and chooses for itself: tinycv multiplies with NumPy's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE, LATE = "OPENBLAS_CORETYPE", "too late"
# what SKYLAKEX kernels are compiled for
AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def processor() -> dict[str, str]:
    """Linux's words about the first processor: vendor_id, model name, flags, ... Empty where it has
    none."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    return {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in first.splitlines())
    }


def kernel_for(facts: dict[str, str]) -> str | None:
    """The kernel that this processor should have, or None where OpenBLAS is left to choose."""
    flags = set(facts.get("flags", "").split())
    # lm: 64 bits
    if facts.get("vendor_id") != "AuthenticAMD" or not flags >= AVX512 | {"lm"}:
        return None
    return "COOPERLAKE" if "avx512_bf16" in flags else "SKYLAKEX"


def choice() -> tuple[str | None, str]:
    """(the kernel to ask for, None if none; that in words), after the user's settings. Nothing is
    set yet."""
    if os.environ.get("TINYCV_BLAS_KERNEL") == "0":
        return None, "off (TINYCV_BLAS_KERNEL=0)"
    if VARIABLE in os.environ:
        return None, f"left to the user's own {VARIABLE}={os.environ[VARIABLE]}"
    kernel = kernel_for(processor())
    return kernel, f"{kernel} asked for" if kernel else "left to OpenBLAS"


def choose() -> str:
    """Set the kernel if there is one to set. Returns what was done, in words, for
    ``python -m tinycv.show.doctor``."""
    kernel, said = choice()
    if kernel is None:
        return said
    if "numpy" in sys.modules:
        return f"{LATE} for {kernel}: NumPy was imported before tinycv"
    os.environ[VARIABLE] = kernel
    return said


def clear() -> None:
    """Once NumPy is loaded: unset what was set, for other programs that this process may start."""
    if STATUS.endswith("asked for"):
        os.environ.pop(VARIABLE, None)


STATUS = choose()
