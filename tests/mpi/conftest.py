"""Tests of several MPI ranks. They need mpi4py and mpiexec: pip install -e ".[mpi]". Without them
they are not collected; with TINYCV_REQUIRE_MPI=1, as in CI, that is a failure."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

if find_spec("mpi4py") is None or shutil.which("mpiexec") is None:
    if os.environ.get("TINYCV_REQUIRE_MPI") == "1":
        raise RuntimeError(
            "TINYCV_REQUIRE_MPI=1 requires mpi4py and mpiexec, and one of them is missing: "
            "pip install -e '.[mpi]'"
        )
    collect_ignore_glob = ["test_*.py"]
