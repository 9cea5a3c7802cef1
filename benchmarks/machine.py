"""Where it was measured: what figures depend on, and what a reader needs to know before comparing them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# Environment variables that begin so change the speed of tinycv, NumPy or PyTorch.
TELLING = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "NPY_", "TORCH_", "TINYCV_KEEP")


def environment() -> dict[str, Any]:
    """What the figures depend on, of this process. Each contender adds its own: ``about``."""
    from tinycv import doctor
    settings = {name: value for name, value in sorted(os.environ.items()) if name.startswith(TELLING)}
    return {**doctor.report(), "settings": settings, "commit": git("rev-parse", "HEAD"),
            "uncommitted_changes": bool(git("status", "--porcelain")), "load": load(),
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def about() -> dict[str, Any]:
    """Versions and threads in a contender's process."""
    facts: dict[str, Any] = {"numpy": np.__version__}
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        facts |= {"torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    if "tinycv" in sys.modules:
        facts["memory"] = sys.modules["tinycv"].memory.STATUS
    return facts


def load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes: how busy others keep the machine. None where the system has none."""
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


def git(*command: str) -> str | None:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=True).stdout.strip()
    return None
