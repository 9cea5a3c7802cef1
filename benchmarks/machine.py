"""The machine and its settings: everything that benchmark figures depend on, for the record."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

ROOT = Path(__file__).parent.parent
# Environment variables with these prefixes change the speed of tinycv, NumPy or PyTorch.
PREFIXES = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES")
PREFIXES += ("NPY_", "NUMPY_", "TORCH_", "TINYCV_")
IGNORED = "KMP_DUPLICATE_LIB_OK"  # scikit-learn sets it, and it changes no speed


def environment() -> dict[str, Any]:
    """What the figures depend on, as seen by this process. Each contender's process adds its own
    facts, with ``about``."""
    from tinycv.show import doctor

    names = [name for name in sorted(os.environ) if name.startswith(PREFIXES) and name != IGNORED]
    return {
        **doctor.report(),
        "settings": {name: os.environ[name] for name in names},
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(changes()),
        "load": load(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def about() -> dict[str, Any]:
    """The versions, threads and BLAS kernels in a contender's process."""
    kernels = {
        Path(pool["filepath"]).name: pool.get("architecture", "unknown")
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    facts: dict[str, Any] = {"numpy": np.__version__, "kernels": kernels}
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        facts |= {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    if "tinycv" in sys.modules:
        from tinycv import blas, memory

        facts |= {"memory": memory.STATUS, "blas_kernel": blas.STATUS}
    return facts


def load() -> list[float] | None:
    """The load averages over 1, 5 and 15 minutes, which show how busy other programs keep the
    machine. None if the system has no load average."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def changes(folder: Path = ROOT) -> str | None:
    """What differs from the last commit, a line per file. The records of benchmarks/results do not
    count: ``python -m benchmarks record`` writes one after the other, and they change no code."""
    paths = ".", ":(exclude)benchmarks/results"
    return git("status", "--porcelain", "--", *paths, folder=folder)


def git(*command: str, folder: Path = ROOT) -> str | None:
    """What a git command prints; None without git, or outside a repository."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            ["git", *command], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
    return None
