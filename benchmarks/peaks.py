"""What this machine can do at best, as measured here: the roofs that a row's figures are held
against.

Products of large matrices give the peak of arithmetic, copies of arrays the bandwidth of memory and
of the caches. A copy counts what it reads and what it writes. The clock and the processes are those
of every other row.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.device import on_tinycv
from benchmarks.gate import Refused
from benchmarks.row import Contender, Effort, Work
from benchmarks.work import threads
from benchmarks.worker import Processes, Worker, interleaved
from tinycv.engine import backend

EFFORT = Effort(rounds=2, samples=3, sample=0.1, warm=0.2, settle=0.25)
ON_GPU = replace(EFFORT, sample=0.05, warm=0.1, settle=0.0)
# (m, k, n); the last: a layer over tokens
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (6400, 128, 512))
# Bytes of source and target together: in a core's cache, in the shared one, in neither. C's memcpy
# passes by the caches where that pays, and within them it is ten times too slow on some processors
# (Zen 3, for some addresses).
COPIES = (("scale", 256 << 10), ("scale", 4 << 20), ("scale", 256 << 20), ("memcpy", 256 << 20))
ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
TF32 = {"CUPY_TF32": "1"}
# stands in place of a number of threads; of a large matrix there
GPU, SIDE = "GPU", 8192
# bytes a thread copies in a call, in turns: starting a thread costs too
AGAIN = 32 << 20


def peaks(quick: bool = False) -> dict[str, Any]:
    """For the record's environment: every product and every copy with its median. Half a minute, or
    seconds if quick."""
    shapes, copied = (((256,) * 3,), COPIES[:1]) if quick else (SHAPES, COPIES)
    effort = (
        replace(EFFORT, rounds=1, samples=2, sample=0.001, warm=0.002, settle=0.0)
        if quick
        else EFFORT
    )
    libraries = ["NumPy", *(["PyTorch"] if importlib.util.find_spec("torch") else [])]
    counts = sorted({1, threads()})
    products = [
        measured(
            effort,
            2e-9 * np.prod(shape, dtype=float),
            "gflops",
            product,
            (library, shape, count),
            {"library": library, "threads": count, "shape": shape},
        )
        for library in libraries
        for count in counts
        for shape in shapes
    ]
    copies = [
        measured(
            effort,
            1e-9 * count * round_trip(size, count),
            "gbs",
            copy,
            (how, size, count),
            {"how": how, "threads": count, "bytes": size},
        )
        for count in counts
        for how, size in copied
    ]
    return {"products": products, "copies": copies}


def peaks_of_gpu(processes: Processes) -> dict[str, Any]:
    """Products on the GPU in four precisions, and copies within its cache and beyond; nothing where
    there is no GPU."""
    if backend.gpu_problem() is not None:
        return {"products": [], "copies": []}
    products = [
        measured(
            ON_GPU,
            2e-9 * SIDE**3,
            "gflops",
            product_on_gpu,
            (dtype, SIDE),
            {"library": f"CuPy, {name}", "threads": GPU, "shape": (SIDE,) * 3},
            processes,
            env,
        )
        for name, dtype, env in (
            ("float32", "float32", {}),
            ("tf32", "float32", TF32),
            ("float16", "float16", {}),
            ("float64", "float64", {}),
        )
    ]
    copies = [
        measured(
            ON_GPU,
            2e-9 * size,
            "gbs",
            copy_on_gpu,
            (size,),
            {"how": "copy", "threads": GPU, "bytes": 2 * size},
            processes,
        )
        for size in (8 << 20, 1 << 30)
    ]
    return {"products": products, "copies": copies}


def measured(
    effort: Effort,
    amount: float,
    unit: str,
    make: Any,
    args: tuple,
    facts: dict[str, Any],
    processes: Processes | None = None,
    env: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The facts with ``amount`` a second, or with the reason why it could not be measured."""
    env = {**(ONE if facts["threads"] == 1 else {}), **(env or {})}
    contender = Contender("the device" if processes else str(facts), make, args, env)
    try:
        with processes.working(contender) if processes else Worker(contender) as worker:
            seconds = interleaved([worker], effort)[worker.name]
    except Refused as reason:
        return facts | {"missing": str(reason)}
    return facts | {unit: amount / float(np.median(seconds)), "seconds": seconds.tolist()}


def product(library: str, shape: tuple[int, int, int], count: int) -> Work:
    m, k, n = shape
    if library == "PyTorch":
        import torch

        torch.set_num_threads(count)
        a, b = torch.ones(m, k), torch.ones(k, n)
        c = torch.empty(m, n)
        return lambda: {"product": torch.mm(a, b, out=c)}
    x, y, z = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)
    return lambda: {"product": np.matmul(x, y, out=z)}


def product_on_gpu(dtype: str, side: int) -> Work:
    """float32 with TF32 or without it, as ``tf32_allowed`` says."""
    xp = backend.module_for("gpu")
    a, b = (backend.standard_normal((side, side), xp).astype(dtype) for _ in range(2))
    return on_tinycv(lambda: {"product": a @ b}, lambda: None, "gpu")


def copy_on_gpu(size: int) -> Work:
    """From one array to another; counted are the bytes read and those written."""
    xp = backend.module_for("gpu")
    a, b = xp.ones(size // 4, "float32"), xp.zeros(size // 4, "float32")
    return on_tinycv(lambda: b.__setitem__(..., a) or {"copied": b[:4]}, lambda: None, "gpu")


def copy(how: str, size: int, count: int) -> Work:
    """Each thread copies its own part of an array again and again. NumPy lets go of the interpreter
    while it copies."""
    once = {
        "memcpy": lambda a, b: np.copyto(b, a),
        "scale": lambda a, b: np.multiply(a, np.float32(2), out=b),
    }[how]
    parts = [
        (np.ones(size // count // 8, np.float32), np.zeros(size // count // 8, np.float32))
        for _ in range(count)
    ]
    times, pool = max(1, AGAIN // (size // count)), ThreadPoolExecutor(count)

    def many(part: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(times):
            once(*part)

    return lambda: {"copies": list(pool.map(many, parts))}


def round_trip(size: int, count: int) -> float:
    """Bytes that one thread reads and writes in a call of ``copy``."""
    return max(1, AGAIN // (size // count)) * (size // count // 8) * 8.0


# ── a row beneath its roofs ───────────────────────────────────────────────────────────────────────


def compute_peak(found: dict[str, Any], on_gpu: str | None = None) -> float | None:
    """FLOP/s of the fastest product, of any library: of float32 on the CPU, or of this dtype on the
    GPU."""
    return max(
        (
            1e9 * p["gflops"]
            for p in found["products"]
            if "gflops" in p
            and (p["library"] == f"CuPy, {on_gpu}" if on_gpu else p["threads"] != GPU)
        ),
        default=None,
    )


def bandwidth(found: dict[str, Any], size: float, on_gpu: bool = False) -> float | None:
    """B/s of the fastest copy, among the largest that is no larger than ``size`` bytes and those
    beyond it.

    What is smaller may lie in a faster cache; so this is never too low, and a floor made from it
    never too high.
    """
    copies = [c for c in found["copies"] if "gbs" in c and (c["threads"] == GPU) == on_gpu]
    smallest = min((c["bytes"] for c in copies), default=0)
    nearest = max((c["bytes"] for c in copies if c["bytes"] <= max(size, smallest)), default=0)
    return max((1e9 * c["gbs"] for c in copies if c["bytes"] >= nearest), default=None)


def standing(
    record: dict[str, Any], row: dict[str, Any], contender: dict[str, Any]
) -> dict[str, float]:
    """Achieved "gflops", its "share" of the peak, the "floor_s" in seconds, "times_floor"; without
    what is not known."""
    found, seconds = record["environment"].get("peaks"), contender.get("median")
    flops, moved = row.get("flops"), row.get("bytes")
    if seconds is None or not (flops or moved):
        return {}
    made = {"gflops": flops / seconds * 1e-9} if flops else {}
    on_device = contender.get("on_device", False)
    top = compute_peak(found, row.get("dtype", "float32") if on_device else None) if found else None
    if top and flops:
        made["share"] = flops / seconds / top
    speed = bandwidth(found, moved, on_device) if found and moved else None
    floors = [
        amount / limit for amount, limit in ((flops, top), (moved, speed)) if amount and limit
    ]
    return made | ({"floor_s": max(floors), "times_floor": seconds / max(floors)} if floors else {})
