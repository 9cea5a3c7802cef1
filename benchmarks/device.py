"""What one figure of a GPU hides, told apart: the copying, what the host and what the device need.

host         until Python has put the work into the device's queue
device       until it was done, by the device's clock
transfer     the inputs from the host
end to end   inputs there, work, and one result back: what a caller waits for
memory       what the pool holds after some calls that began with an empty one, model and inputs
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

CALLS, SECONDS = 10, 0.5  # at most; and about how long they may take together


@dataclass
class Waited:
    """A Work that is done when the device is. The library's own parts: ``queue`` does not wait,
    ``send`` copies the inputs to the device again, ``timed(call)`` gives (host, device) seconds,
    ``held()`` the bytes of the library's pool."""

    queue: Callable
    send: Callable
    wait: Callable
    timed: Callable
    held: Callable

    def __call__(self) -> dict[str, Any]:
        result = self.queue()
        self.wait()
        return result

    def end_to_end(self) -> Any:
        self.send()
        return array_of(next(iter(self.queue().values())))


def on_tinycv(queue: Callable, send: Callable, device: str) -> Waited:
    # not at the top: PyTorch's process must not get tinycv's malloc
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
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        started = time.perf_counter()
        begun.record()
        call()
        ended.record()
        host = time.perf_counter() - started
        ended.synchronize()
        return host, begun.elapsed_time(ended) / 1000

    return Waited(queue, send, torch.cuda.synchronize, timed, torch.cuda.max_memory_reserved)


def apart(work: Waited) -> dict[str, Any]:
    """Seconds and bytes by the names above; medians of some calls, after the work was done once."""
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
        "memory": {"bytes": work.held(), "how": "the pool's total, model and inputs included"},
    }


def forget() -> None:
    """Give memory that nobody uses back to the device, and forget the peak: the next work begins
    with empty pools."""
    gc.collect()
    cupy, tinycv, torch = (sys.modules.get(name) for name in ("cupy", "tinycv", "torch"))
    if cupy and tinycv and tinycv.engine.backend.gpu_problem() is None:
        cupy.get_default_memory_pool().free_all_blocks()
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def waited(work: Waited, call: Callable, calls: int) -> float:
    taken = []
    for _ in range(calls):
        work.wait()
        started = time.perf_counter()
        call()
        work.wait()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def torch_problem() -> str:
    """Why PyTorch cannot be measured on a GPU here; empty where it can."""
    if NO_TORCH:
        return NO_TORCH
    import torch

    return "" if torch.cuda.is_available() else "PyTorch sees no GPU"


def same_tf32() -> None:
    """PyTorch rounds factors to TF32 where tinycv does: its own default differs between products
    and convolutions."""
    import torch

    from tinycv.gpu.gemm import tf32_allowed

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32_allowed()
