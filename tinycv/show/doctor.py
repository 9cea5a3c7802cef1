"""What does this machine compute with?           python -m tinycv.show.doctor

Prints the facts that decide the speed and that a bug report needs. ``report()`` returns the same
facts to benchmarks. The doctor only reads: it changes no setting.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

import numpy as np
import threadpoolctl

from tinycv.engine import blas as kernels
from tinycv.engine import memory
from tinycv.engine.backend import gpu_problem
from tinycv.gpu.gemm import tf32_allowed

# The name in setup.py. The package "tinycv" on the public index is not this one.
DISTRIBUTION = "tinycv-from-scratch"
# OpenBLAS kernels that do not use AVX-512
_OLDER_KERNELS = ("haswell", "zen", "sandybridge", "nehalem", "prescott", "core2")


def report() -> dict[str, Any]:
    """The facts in a form that JSON can hold: device, gpu, blas, versions, cpu, and leads: settings
    that are worth measuring."""
    cpu, blas = _cpu(), _blas()
    flags = cpu.pop("flags")
    return {
        "device": "cpu" if gpu_problem() else "gpu:0",
        "gpu": _gpu(),
        "blas": blas,
        "cpu": cpu,
        "blas_kernel": kernels.STATUS,
        "memory": memory.STATUS,
        "versions": _versions(),
        "leads": _leads(blas, flags),
    }


def main() -> None:
    """Print the report in ASCII, one fact per line."""
    print("\n".join(_lines(report())))


def _lines(facts: dict[str, Any]) -> list[str]:
    gpu, blas, cpu = facts["gpu"], facts["blas"], facts["cpu"]
    gpus = (
        [*gpu["names"], "TF32 allowed" if gpu["tf32"] else "float32 without TF32"]
        if gpu["usable"]
        else [f"{gpu['cause']}: {gpu['cure']}"]
    )
    lines = [
        "backend     " + ("NumPy and CuPy" if gpu["usable"] else "NumPy only"),
        "GPU         " + ", ".join(gpus),
        f"BLAS        {blas['library']} {blas['version']}, kernel {blas['kernel']}, "
        f"threads {blas['threads']}",
        f"CPU         {cpu['model']}, {cpu['cores']} cores usable, {cpu['machine']}",
    ]
    lines += [f"BLAS kernel {facts['blas_kernel']}", f"memory      {facts['memory']}"]
    lines += [f"{name:<11} {version}" for name, version in facts["versions"].items()]
    lines += [f"lead        {lead}" for lead in facts["leads"]]
    return [line.encode("ascii", "replace").decode() for line in lines]


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────


def _gpu() -> dict[str, Any]:
    problem = gpu_problem()
    if problem is not None:
        return {"usable": False, "cause": problem.cause, "cure": str(problem)}
    runtime = sys.modules["cupy"].cuda.runtime
    names = [
        runtime.getDeviceProperties(i)["name"].decode() for i in range(runtime.getDeviceCount())
    ]
    return {
        "usable": True,
        "names": names,
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "tf32": tf32_allowed(),
    }


def _blas() -> dict[str, Any]:
    """The library with which NumPy multiplies matrices, its kernel and its threads."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    if pools:  # SciPy may have loaded a BLAS of its own
        pool = next((pool for pool in pools if "numpy" in pool["filepath"]), pools[0])
        return {
            "library": pool["internal_api"],
            "version": pool["version"],
            "threads": pool["num_threads"],
            "kernel": pool.get("architecture", "unknown"),
            "source": "threadpoolctl",
        }
    # A BLAS that threadpoolctl does not know, such as Apple's Accelerate.
    built = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {
        "library": built.get("name", "unknown"),
        "version": built.get("version", "unknown"),
        "kernel": "unknown",
        "threads": "unknown",
        "source": "numpy.show_config",
    }


def _cpu() -> dict[str, Any]:
    """The model, the cores that this process may use and, on Linux, the instruction sets."""
    processor = kernels.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": processor.get("model name") or platform.processor() or "unknown",
        "cores": cores,
        "machine": f"{platform.system()} {platform.machine()}",
        "flags": processor.get("flags", "").split(),
    }


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version(), "NumPy": np.__version__}
    cupy = sys.modules.get("cupy")  # gpu_problem() has imported CuPy, if it can be imported
    versions["CuPy"] = cupy.__version__ if cupy else "not installed"
    for name, distribution, absent in (
        ("safetensors", "safetensors", "not installed"),
        ("tinycv", DISTRIBUTION, "not installed, run from its source"),
    ):
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = absent
    return versions


# ── leads: settings that may help, to be measured ─────────────────────────────────────────────────


def _leads(blas: dict[str, Any], flags: list[str]) -> list[str]:
    leads = []
    if _avx512_unused(blas, flags):
        cure = (
            "import tinycv before numpy, or set"
            if kernels.STATUS.startswith(kernels.LATE)
            else "set"
        )
        leads.append(
            f"this CPU has AVX-512 and OpenBLAS does not use it: {cure} OPENBLAS_CORETYPE=SKYLAKEX "
            "before Python starts; it may be faster, measure it"
        )
    return leads


def _avx512_unused(blas: dict[str, Any], flags: list[str]) -> bool:
    # SKYLAKEX kernels need these five instruction sets. A CPU that lacks one of them would stop at
    # an illegal instruction.
    return (
        set(flags) >= kernels.AVX512
        and blas["library"] == "openblas"
        and blas["kernel"].lower() in _OLDER_KERNELS
    )


if __name__ == "__main__":
    main()
