"""Peak memory of a step: the most by which the process grows beyond the model and its inputs.

It counts resident pages, which are what the system really has to provide: activations, gradients,
temporaries, and the optimiser's state, which is created at the first step. It does not count what a
library allocates once, whatever the model: BLAS and oneDNN buffers for each thread, and 30 MB of
modules that PyTorch imports at its first backward pass. So the work is done once, and then a second
work (a new model, a new optimiser) is built and measured while the first one stays in memory.
Before the measurement, malloc returns the pages that it keeps free. Code that is read from disk
during the measurement is subtracted. Of processes that the work forks (parallel.processes), the
pages that they have written are added: those are no longer shared with this process.
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

# the first step creates what is kept, such as Adam's state; the later ones need their temporaries
# in addition
STEPS = 3
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(make: Callable[[], Work]) -> dict[str, Any]:
    """{"bytes", "how"}: the peak memory of ``STEPS`` calls of a Work; or {"missing": the reason}.
    It must run in a fresh process."""
    if not RESET.exists():
        return {"missing": f"{sys.platform} cannot reset the peak of resident memory (Linux can)"}
    first = make()
    first()
    work = make()
    gc.collect()
    return_free_pages()
    RESET.write_text("5", encoding="ascii")  # sets the peak, VmHWM, to what is resident now
    older, before = children(), resident()
    for _ in range(STEPS):
        work()
    after, forked = resident(), children() - older
    from_disk = max(0, after["RssFile"] - before["RssFile"])
    grown = max(0, after["VmHWM"] - before["VmRSS"] - from_disk)
    return {
        "bytes": grown + sum(written(child) for child in forked),
        "how": f"VmHWM after {STEPS} steps, minus what was resident before and pages of files",
    }


def children() -> set[str]:
    """The numbers of the processes that this one has forked and that still run."""
    lists = Path("/proc/self/task").glob("*/children")
    return {child for file in lists for child in file.read_text(encoding="ascii").split()}


def written(process: str) -> int:
    """How many bytes a process has written since it was forked, in pages of its own. malloc keeps
    what tinycv frees, so this is nearly the peak."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    (line,) = [line for line in rollup.splitlines() if line.startswith("Private_Dirty:")]
    return 1024 * int(line.split()[1])


def return_free_pages() -> None:
    """Make malloc return its free pages to the system: if it reused them, the process would not
    grow, and they would not be counted. This works with glibc only."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident() -> dict[str, int]:
    """The peak, the current and the file-backed resident memory of this process, in bytes."""
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(fields[name].split()[0]) for name in ("VmHWM", "VmRSS", "RssFile")}
