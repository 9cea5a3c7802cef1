"""Peak memory of a step: by how much the process grows, at most, beyond the model and its inputs.

Counted are pages that are resident, so it is what the system must really give: activations, gradients, temporaries, and
an optimiser's state, which is made at the first step. Not counted is what comes before the step or with any library:
BLAS and oneDNN take buffers for each thread at their first product, so each multiplies once before the count starts;
malloc gives back the pages that it keeps free; and code that is read from disk meanwhile is subtracted again.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.measure import Work

STEPS = 3                                       # the first makes what is kept; the next has it beside its temporaries
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(work: Work) -> dict[str, Any]:
    """{"bytes", "how"} of ``STEPS`` calls of the work, or {"missing"} with the reason. In a process of its own."""
    first_products()
    gc.collect()
    with contextlib.suppress(OSError):          # where the system has no /proc, or forbids to reset the peak
        return by_proc(work)
    return by_getrusage(work)


def first_products() -> None:
    """One product and one convolution, large enough that every thread of the library takes part."""
    a = np.ones((512, 512), np.float32)
    a @ a
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.ones(512, 512) @ torch.ones(512, 512)
        torch.nn.functional.conv2d(torch.ones(8, 8, 16, 16), torch.ones(8, 8, 3, 3))


def by_proc(work: Work) -> dict[str, Any]:
    give_back()
    RESET.write_text("5", encoding="ascii")     # the peak, VmHWM, becomes what is resident now
    before = resident()
    for _ in range(STEPS):
        work()
    after = resident()
    from_disk = max(0, after["RssFile"] - before["RssFile"])
    grown = max(0, after["VmHWM"] - before["VmRSS"] - from_disk)
    return {"bytes": grown, "how": f"VmHWM of {STEPS} steps, less what was resident before and pages of files"}


def give_back() -> None:
    """Free pages that malloc keeps would be used again unseen. glibc only: elsewhere they stay, and are not counted."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident() -> dict[str, int]:
    """Of this process, in bytes."""
    pairs = (line.split(":") for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines())
    return {name: 1024 * int(value.split()[0]) for name, value in pairs if name in ("VmHWM", "VmRSS", "RssFile")}


def by_getrusage(work: Work) -> dict[str, Any]:
    """Where the peak cannot be reset: growth beyond the highest so far, so at least as much as this was needed."""
    try:
        import resource
    except ModuleNotFoundError:
        return {"missing": f"{sys.platform} tells no peak of resident memory"}
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(STEPS):
        work()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"bytes": unit * grown, "how": f"ru_maxrss of {STEPS} steps, less the same before them: at least this"}
