"""Where a training step's time goes on a GPU, kernel by kernel.

python -m benchmarks.profile tinycv   (or torch)

PyTorch's profiler sees every kernel that its process launches, CuPy's too, so both libraries are
held to one measure:

    wall        seconds a step, when steps follow each other unwatched
    busy        of these, how long a kernel ran
    host        until Python has queued a step
    launches    kernels, copies and fills of a step
    kernels     [name, launches a step, seconds a step], the longest first

Where busy is near wall, the kernels decide; where host is near wall, launching them does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS, MOST = 3, 12  # steps that are watched; kernels that are named
UNWATCHED = 10  # steps that are timed as a whole


def profiled(library: str) -> dict[str, dict[str, Any]]:
    """Every step of the reference by its name; or its error."""
    from benchmarks.backends import REFERENCE
    from benchmarks.contenders import by_tinycv, by_torch
    from benchmarks.device import forget

    by, device = {"tinycv": (by_tinycv, "gpu"), "torch": (by_torch, "cuda")}[library]
    found = {}
    for name, task in REFERENCE.items():
        work = None
        forget()
        try:
            work = by(task, True, device=device)
            found[name] = watched(work)
        # of any kind: the next step is to be watched too
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


def watched(work: Any) -> dict[str, Any]:
    """One step's figures, see above."""
    for _ in range(STEPS):
        work()
    started = time.perf_counter()
    for _ in range(UNWATCHED):
        work.queue()
    work.wait()
    wall = (time.perf_counter() - started) / UNWATCHED
    started = time.perf_counter()
    work.queue()
    host = time.perf_counter() - started
    work.wait()
    kernels = kernels_of(work)
    return {
        "wall_s": wall,
        "host_s": host,
        "busy_s": sum(seconds for _, _, seconds in kernels),
        "launches": sum(count for _, count, _ in kernels),
        "kernels": kernels[:MOST],
    }


def kernels_of(work: Any) -> list[tuple[str, float, float]]:
    """(name, launches a step, seconds a step) of everything that ran on the device."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as watch:
        for _ in range(STEPS):
            work.queue()
        work.wait()
    seen = [
        (e.key, e.count / STEPS, 1e-6 * e.self_device_time_total / STEPS)
        for e in watch.key_averages()
        if e.device_type == DeviceType.CUDA
    ]
    return sorted(seen, key=lambda kernel: -kernel[2])


def both(seconds: float) -> dict[str, dict[str, Any]]:
    """Each library in a process of its own, one after the other, for at most so many seconds
    each."""
    return {library: in_its_own_process(library, seconds) for library in ("tinycv", "torch")}


def in_its_own_process(library: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.profile", library]
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"it took more than {seconds:g} s"}
    if done.returncode:
        return {"error": f"ended with code {done.returncode}: {done.stderr.strip()[-1000:]}"}
    return json.loads(done.stdout.splitlines()[-1])


def lines(found: dict[str, dict[str, Any]]) -> list[str]:
    """For the console."""
    made = []
    for library, steps in found.items():
        for name, step in steps.items():
            if not isinstance(step, dict) or "wall_s" not in step:
                made.append(f"{library}, {name}: {step}")
                continue
            wall, host, busy = (1e3 * step[key] for key in ("wall_s", "host_s", "busy_s"))
            made.append(
                f"{library}, {name}: wall {wall:.3g} ms, host {host:.3g} ms, kernels {busy:.3g} ms "
                f"in {step['launches']:.0f} launches"
            )
            for kernel, count, seconds in step["kernels"]:
                made.append(f"    {1e3 * seconds:8.3f} ms {count:6.0f} x  {kernel[:100]}")
    return made


if __name__ == "__main__":
    print(json.dumps(profiled(sys.argv[1])))
