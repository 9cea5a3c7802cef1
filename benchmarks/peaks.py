"""Peak FLOP/s: the fastest matrix product measured on this machine, with which rows are compared.

It is measured in the same kind of process, and with the same clock, as every row.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.device import on_tinycv
from benchmarks.gate import Refused
from benchmarks.row import Contender, Effort, Work
from benchmarks.work import threads
from benchmarks.worker import Processes, interleaved

EFFORT = Effort(rounds=2, samples=3, sample=0.1, warm=0.2, settle=0.25)
ON_GPU = replace(EFFORT, sample=0.05, warm=0.1, settle=0.0)
QUICK = Effort(rounds=1, samples=2, sample=0.001, warm=0.002, settle=0.0)
# (m, k, n); the last is a linear layer applied to the tokens of a batch
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (6400, 128, 512))
TF32 = {"CUPY_TF32": "1"}
GPU = "GPU"  # the entry "threads" of a product on the GPU
SIDE = 8192  # of the square matrices on the GPU


def peaks(quick: bool = False) -> dict[str, Any]:
    """For the record's environment: matrix products on all cores, with their FLOP/s."""
    shapes, effort = (((256, 256, 256),), QUICK) if quick else (SHAPES, EFFORT)
    libraries = ["NumPy", *(["PyTorch"] if importlib.util.find_spec("torch") else [])]
    products = []
    for library in libraries:
        with Processes() as processes:
            for shape in shapes:
                facts = {"library": library, "threads": threads(), "shape": shape}
                contender = Contender(library, product, (library, shape))
                products.append(facts | speed(contender, shape, effort, processes))
    return {"products": products}


def peaks_of_gpu(processes: Processes) -> dict[str, Any]:
    """Matrix products on the GPU in four precisions; none if there is no GPU."""
    from tinycv.engine import backend

    if backend.gpu_problem() is not None:
        return {"products": []}
    shape, products = (SIDE, SIDE, SIDE), []
    for name, dtype, env in (
        ("float32", "float32", {}),
        ("tf32", "float32", TF32),
        ("float16", "float16", {}),
        ("float64", "float64", {}),
    ):
        facts = {"library": f"CuPy, {name}", "threads": GPU, "shape": shape}
        contender = Contender("the device", product_on_gpu, (dtype, SIDE), env)
        products.append(facts | speed(contender, shape, ON_GPU, processes))
    return {"products": products}


def speed(
    contender: Contender, shape: tuple[int, int, int], effort: Effort, processes: Processes
) -> dict[str, Any]:
    """{"gflops", "seconds"} of a product, or {"missing": the reason}."""
    try:
        with processes.working(contender) as worker:
            seconds = interleaved([worker], effort)[worker.name]
    except Refused as reason:
        return {"missing": str(reason)}
    flops = 2 * np.prod(shape, dtype=float)
    return {"gflops": 1e-9 * flops / float(np.median(seconds)), "seconds": seconds.tolist()}


def product(library: str, shape: tuple[int, int, int]) -> Work:
    m, k, n = shape
    if library == "PyTorch":
        import torch

        torch.set_num_threads(threads())
        a, b = torch.ones(m, k), torch.ones(k, n)
        c = torch.empty(m, n)
        return lambda: {"product": torch.mm(a, b, out=c)}
    x, y, z = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)
    return lambda: {"product": np.matmul(x, y, out=z)}


def product_on_gpu(dtype: str, side: int) -> Work:
    """A product of square matrices. For float32, ``tf32_allowed`` decides whether it uses TF32."""
    from tinycv.engine import backend

    xp = backend.module_for("gpu")
    a, b = (backend.standard_normal((side, side), xp).astype(dtype) for _ in range(2))
    return on_tinycv(lambda: {"product": a @ b}, lambda: None, "gpu")


# ── A row compared with the peak ──────────────────────────────────────────────────────────────────


def compute_peak(measured: dict[str, Any], on_gpu: str | None = None) -> float | None:
    """The FLOP/s of the fastest product of any library: float32 on the CPU or, if on_gpu is a
    dtype, that dtype on the GPU."""
    speeds = [
        1e9 * p["gflops"]
        for p in measured["products"]
        if "gflops" in p and (p["library"] == f"CuPy, {on_gpu}" if on_gpu else p["threads"] != GPU)
    ]
    return max(speeds, default=None)


def standing(
    record: dict[str, Any], row: dict[str, Any], contender: dict[str, Any]
) -> dict[str, float]:
    """The "gflops" that a contender achieved, and their "share" of the peak, as far as both are
    known."""
    measured = record["environment"].get("peaks")
    seconds, flops = contender.get("median"), row.get("flops")
    if seconds is None or not flops:
        return {}
    achieved = {"gflops": flops / seconds * 1e-9}
    on_device = row.get("dtype", "float32") if contender.get("on_device") else None
    peak = compute_peak(measured, on_device) if measured else None
    if peak:
        achieved["share"] = flops / seconds / peak
    return achieved
