"""A profile of a training step on a GPU, kernel by kernel; a part of the session.

PyTorch's profiler sees every kernel that its process launches, including those of CuPy, so it
measures both libraries in the same way:

    wall        seconds per step, when steps follow each other without the profiler
    busy        the seconds of a step in which a kernel ran
    host        the seconds until Python has queued a step
    launches    kernels, copies and fills per step
    kernels     [name, launches per step, seconds per step], the longest first

If busy is close to wall, the kernels limit the speed; if host is close to wall, launching them
does.
"""

from __future__ import annotations

import time
from typing import Any

STEPS = 3  # steps under the profiler
MOST = 12  # kernels that are listed
UNPROFILED = 10  # steps that are timed as a whole, without the profiler


def profiled(work: Any) -> dict[str, Any]:
    """The figures of one step, as named above. work: a device.Waited."""
    for _ in range(STEPS):
        work()
    started = time.perf_counter()
    for _ in range(UNPROFILED):
        work.queue()
    work.wait()
    wall = (time.perf_counter() - started) / UNPROFILED
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
    """(name, launches per step, seconds per step) of everything that ran on the device."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as watch:
        for _ in range(STEPS):
            work.queue()
        work.wait()
    kernels = [
        (e.key, e.count / STEPS, 1e-6 * e.self_device_time_total / STEPS)
        for e in watch.key_averages()
        if e.device_type == DeviceType.CUDA
    ]
    return sorted(kernels, key=lambda kernel: -kernel[2])


def lines(title: str, step: dict[str, Any]) -> list[str]:
    """A profile as lines for the console."""
    if "wall_s" not in step:
        return [f"{title}: {step}"]
    wall, host, busy = (1e3 * step[key] for key in ("wall_s", "host_s", "busy_s"))
    summary = f"{title}: wall {wall:.3g} ms, host {host:.3g} ms, kernels {busy:.3g} ms"
    kernels = [
        f"    {1e3 * seconds:8.3f} ms {count:6.0f} x  {kernel[:100]}"
        for kernel, count, seconds in step["kernels"]
    ]
    return [f"{summary} in {step['launches']:.0f} launches", *kernels]
