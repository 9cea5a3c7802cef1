"""OpenBLAS on AMD processors: choose its AVX-512 kernels before NumPy loads it.

OpenBLAS contains kernels for several generations of processors, and chooses one when it is loaded.
In a virtual machine it once mistook an AMD processor with AVX-512 (Zen 5) for a Haswell, and matrix
products took twice as long.  By OpenBLAS's own rule, an AMD processor with AVX-512 gets the kernel
COOPERLAKE if it has AVX512_BF16, and SKYLAKEX if not (in NumPy's wheels the two are the same).
This file applies that rule to the processor flags that Linux reports; where OpenBLAS chooses
correctly, nothing changes.  On a Zen 4, which computes 512 bits in two halves, the choice hardly
matters: large products become 5 % slower, small ones 25 % faster.

It applies only to AMD processors: OpenBLAS recognises Intel's by their models, and has kernels for
them that the flags do not reveal.  It never chooses a kernel that the processor does not support.
It works only on Linux, where the flags can be read, and only if NumPy is not imported yet.  If the
user has set OPENBLAS_CORETYPE, that is kept; TINYCV_BLAS_KERNEL=0 turns this file off.  A NumPy
with another BLAS ignores the setting.  SciPy has an OpenBLAS of its own, which this does not
affect; tinycv uses NumPy's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE, LATE = "OPENBLAS_CORETYPE", "too late"
# the instruction sets that SKYLAKEX kernels are compiled for
AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def processor() -> dict[str, str]:
    """What Linux reports about the first processor: vendor_id, model name, flags, ... Empty if it
    reports nothing."""
    try:
        first = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        )
    except OSError:
        return {}
    return {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in first.splitlines())
    }


def kernel_for(facts: dict[str, str]) -> str | None:
    """The kernel for this processor, or None to let OpenBLAS choose."""
    flags = set(facts.get("flags", "").split())
    # The flag lm (long mode) means 64 bits.
    if facts.get("vendor_id") != "AuthenticAMD" or not flags >= AVX512 | {"lm"}:
        return None
    return "COOPERLAKE" if "avx512_bf16" in flags else "SKYLAKEX"


def choice() -> tuple[str | None, str]:
    """(the kernel to set, or None; a description), which respects the user's settings. This sets
    nothing yet."""
    if os.environ.get("TINYCV_BLAS_KERNEL") == "0":
        return None, "off (TINYCV_BLAS_KERNEL=0)"
    if VARIABLE in os.environ:
        return None, f"left to the user's own {VARIABLE}={os.environ[VARIABLE]}"
    kernel = kernel_for(processor())
    return kernel, f"{kernel} asked for" if kernel else "left to OpenBLAS"


def choose() -> str:
    """Set the kernel, if one is to be set. Returns a description of what was done, which
    ``python -m tinycv.show.doctor`` prints."""
    kernel, description = choice()
    if kernel is None:
        return description
    if "numpy" in sys.modules:
        return f"{LATE} for {kernel}: NumPy was imported before tinycv"
    os.environ[VARIABLE] = kernel
    return description


def clear() -> None:
    """Remove the setting again once NumPy is loaded, so that programs started by this process do
    not inherit it."""
    if STATUS.endswith("asked for"):
        os.environ.pop(VARIABLE, None)


STATUS = choose()
