"""Times of a GPU, measured separately: host, device, transfer, end to end, and memory.

host         until Python has put the work into the queue of the device
device       until the device has done the work, by the clock of the device
transfer     copying the inputs from the host to the device
end to end   copying the inputs, the work, and copying one result back: what a caller waits for
memory       what the memory pool holds after some calls, if it was empty before; model and inputs
             included
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gate import array_of
from benchmarks.work import NO_TORCH

# each time is the median of at most CALLS calls, which may take about SECONDS in all
CALLS, SECONDS = 10, 0.5


@dataclass
class Waited:
    """A Work on a GPU that returns when the device has finished. Its parts come from the library:
    ``queue`` does the work without waiting, ``send`` copies the inputs to the device again,
    ``timed(call)`` returns (host, device) seconds, ``pool_bytes()`` the size of the library's pool.
    """

    queue: Callable
    send: Callable
    wait: Callable
    timed: Callable
    pool_bytes: Callable

    def __call__(self) -> dict[str, Any]:
        result = self.queue()
        self.wait()
        return result

    def end_to_end(self) -> Any:
        self.send()
        return array_of(next(iter(self.queue().values())))


def on_tinycv(queue: Callable, send: Callable, device: str) -> Waited:
    # imported here, because the process of PyTorch must not get tinycv's malloc setting
    from tinycv.engine import backend

    def timed(call: Callable) -> tuple[float, float]:
        with backend.Stopwatch(device) as watch:
            call()
        return watch.host_seconds, watch.seconds

    pool = backend.module_for(device).get_default_memory_pool()
    return Waited(queue, send, lambda: backend.synchronize(device), timed, pool.total_bytes)


def on_torch(queue: Callable, send: Callable) -> Waited:
    import torch

    def timed(call: Callable) -> tuple[float, float]:
        begun = torch.cuda.Event(enable_timing=True)
        ended = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        started = time.perf_counter()
        begun.record()
        call()
        ended.record()
        host = time.perf_counter() - started
        ended.synchronize()
        return host, begun.elapsed_time(ended) / 1000

    return Waited(queue, send, torch.cuda.synchronize, timed, torch.cuda.max_memory_reserved)


def device_times(work: Waited) -> dict[str, Any]:
    """Seconds and bytes under the names above: medians of several calls, after a first one."""
    work()
    started = time.perf_counter()
    work()
    calls = max(2, min(CALLS, int(SECONDS / max(time.perf_counter() - started, 1e-6))))
    warm = np.median([work.timed(work.queue) for _ in range(calls)], axis=0)
    return {
        "host_s": float(warm[0]),
        "device_s": float(warm[1]),
        "transfer_s": waited(work, work.send, calls),
        "end_to_end_s": waited(work, work.end_to_end, calls),
        "memory": {
            "bytes": work.pool_bytes(),
            "how": "total of the pool, model and inputs included",
        },
    }


def free_unused_memory() -> None:
    """Return unused memory to the device and reset the peak, so that the next work starts with
    empty pools."""
    gc.collect()
    cupy, tinycv, torch = (sys.modules.get(name) for name in ("cupy", "tinycv", "torch"))
    if cupy and tinycv and tinycv.engine.backend.gpu_problem() is None:
        cupy.get_default_memory_pool().free_all_blocks()
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def waited(work: Waited, call: Callable, calls: int) -> float:
    """Median seconds of ``call``, each time waiting for the device."""
    seconds = []
    for _ in range(calls):
        work.wait()
        started = time.perf_counter()
        call()
        work.wait()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def torch_problem() -> str:
    """Why PyTorch cannot be measured on a GPU here; "" if it can."""
    if NO_TORCH:
        return NO_TORCH
    import torch

    return "" if torch.cuda.is_available() else "PyTorch sees no GPU"


def same_tf32() -> None:
    """Make PyTorch use TF32 exactly if tinycv does. PyTorch's own default differs between products
    and convolutions."""
    import torch

    from tinycv.gpu.gemm import tf32_allowed

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32_allowed()
