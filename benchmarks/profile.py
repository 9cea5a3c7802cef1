"""Where a training step's time goes on a GPU, kernel by kernel; a part of the session.

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

import time
from typing import Any

STEPS, MOST = 3, 12  # steps that are watched; kernels that are named
UNWATCHED = 10  # steps that are timed as a whole


def profiled(work: Any) -> dict[str, Any]:
    """One step's figures, see above. work: a device.Waited."""
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


def lines(title: str, step: dict[str, Any]) -> list[str]:
    """For the console."""
    if "wall_s" not in step:
        return [f"{title}: {step}"]
    wall, host, busy = (1e3 * step[key] for key in ("wall_s", "host_s", "busy_s"))
    said = f"{title}: wall {wall:.3g} ms, host {host:.3g} ms, kernels {busy:.3g} ms"
    kernels = [
        f"    {1e3 * seconds:8.3f} ms {count:6.0f} x  {kernel[:100]}"
        for kernel, count, seconds in step["kernels"]
    ]
    return [f"{said} in {step['launches']:.0f} launches", *kernels]
