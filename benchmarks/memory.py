"""Peak memory of a step: by how much the process grows, at most, beyond the model and its inputs.

Counted are pages that are resident, so it is what the system must really give: activations,
gradients, temporaries, and an optimiser's state, which is made at the first step. Not counted is
what a library takes once, whatever the model: BLAS and oneDNN buffers for each thread, and PyTorch
imports 30 MB of modules at its first backward. So the work is done once, then a second one is built
(a fresh model, a fresh optimiser) beside the first, which keeps what it holds, and counted. Before
that malloc gives back the pages that it keeps free; code that is read from disk meanwhile is
subtracted again.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.row import Work

# the first makes what is kept; the next has it beside its temporaries
STEPS = 3
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(make: Callable[[], Work]) -> dict[str, Any]:
    """{"bytes", "how"} of ``STEPS`` calls of a Work, or {"missing"} with the reason. In a process
    of its own."""
    if not RESET.exists():
        return {"missing": f"{sys.platform} cannot reset the peak of resident memory; Linux can"}
    first = make()
    first()
    work = make()
    gc.collect()
    give_back()
    RESET.write_text("5", encoding="ascii")  # the peak, VmHWM, becomes what is resident now
    before = resident()
    for _ in range(STEPS):
        work()
    after = resident()
    from_disk = max(0, after["RssFile"] - before["RssFile"])
    grown = max(0, after["VmHWM"] - before["VmRSS"] - from_disk)
    return {
        "bytes": grown,
        "how": f"VmHWM of {STEPS} steps, less what was resident before and pages of files",
    }


def give_back() -> None:
    """Free pages that malloc keeps would be used again unseen. glibc only: elsewhere they stay, and
    are not counted."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident() -> dict[str, int]:
    """Of this process, in bytes."""
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(found[name].split()[0]) for name in ("VmHWM", "VmRSS", "RssFile")}
