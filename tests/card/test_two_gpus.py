"""Two MPI ranks on two real GPUs, which NCCL connects. Skipped where there are no two GPUs, or no
mpi4py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_GPU

sys.path.insert(0, str(Path(__file__).parents[1] / "mpi"))

import mpi_script

from tinycv.training import parallel


def gpus():
    return sys.modules["cupy"].cuda.runtime.getDeviceCount() if REAL_GPU else 0


@pytest.mark.skipif(
    gpus() < 2 or find_spec("mpi4py") is None or shutil.which("mpiexec") is None,
    reason="needs two GPUs, mpi4py and mpiexec",
)
def test_two_ranks_on_two_gpus_take_the_steps_of_two_threads(tmp_path):
    script = mpi_script.__file__
    command = ["mpiexec", "-n", "2", sys.executable, script, "real_gpus", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    with parallel.threads(2) as group:
        expected = mpi_script.steps_without_dropout(group)
    for rank in range(2):
        assert mpi_script.load(tmp_path, "nccl", rank)[0] == "Nccl"
        for a, b in zip(mpi_script.load(tmp_path, "own", rank), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
