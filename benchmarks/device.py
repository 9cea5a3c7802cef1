"""What one figure of a GPU hides, told apart: the first call, the copying, what the host and what the device need.

    cold         the first call of a process: kernels are compiled or loaded, and memory is asked for
    host         until Python has put the work into the device's queue;   device    until it was done, by the device's clock
    transfer     the inputs from the host;   end to end    inputs there, work, and one result back: what a caller waits for
    memory       what the pool holds after some calls that began with an empty one, model and inputs included
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

CALLS = 10


class Waited:
    """A Work that is done when the device is. The library's own parts: ``queue`` does not wait, ``send`` copies the inputs
    to the device again, ``timed(call)`` gives (host, device) seconds, ``held()`` the bytes of the library's pool."""

    def __init__(self, queue: Callable, send: Callable, wait: Callable, timed: Callable, held: Callable):
        self.queue, self.send, self.wait, self.timed, self.held = queue, send, wait, timed, held

    def __call__(self) -> dict[str, Any]:
        result = self.queue()
        self.wait()
        return result

    def end_to_end(self) -> Any:
        from benchmarks.worker import array_of
        self.send()
        return array_of(next(iter(self.queue().values())))


def on_tinycv(queue: Callable, send: Callable, device: str) -> Waited:
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


def apart(make: Callable[[], Waited]) -> dict[str, Any]:
    """Seconds and bytes by the names above; medians of CALLS calls but for the first. In a process of its own."""
    work = make()
    started = time.perf_counter()
    work()
    cold = time.perf_counter() - started
    warm = np.median([work.timed(work.queue) for _ in range(CALLS)], axis=0)
    return {"cold_s": cold, "host_s": float(warm[0]), "device_s": float(warm[1]), "transfer_s": waited(work, work.send),
            "end_to_end_s": waited(work, work.end_to_end),
            "memory": {"bytes": work.held(), "how": "the pool's total, model and inputs included"}}


def waited(work: Waited, call: Callable) -> float:
    taken = []
    for _ in range(CALLS):
        work.wait()
        started = time.perf_counter()
        call()
        work.wait()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def torch_problem() -> str:
    """Why PyTorch cannot be measured on a GPU here; empty where it can."""
    import importlib.util
    if not importlib.util.find_spec("torch"):
        return "PyTorch is not installed"
    import torch
    return "" if torch.cuda.is_available() else "PyTorch sees no GPU"


def same_tf32() -> None:
    """PyTorch rounds factors to TF32 where tinycv does: its own default differs between products and convolutions."""
    import torch

    from tinycv.engine.gemm import tf32_allowed
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32_allowed()
