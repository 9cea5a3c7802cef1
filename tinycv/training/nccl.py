"""NCCL: sums over several GPUs, each driven by one MPI rank.

NCCL, a library of NVIDIA, adds up arrays that lie on different GPUs without copying them to the
host: over NVLink or PCIe within a machine, and over the network between machines.  CuPy calls it in
cupyx.distributed.  The GPUs find each other through MPI (``use_mpi=True``).  Without that, CuPy
starts a TCP server for it, which fails on some machines.

NCCL chooses the order in which it adds.  The order depends on the number of GPUs and on how they
are connected, and is the same in each run on the same machines.
Used by: mpi.py.  This file has not yet run on two real GPUs.  The tests in tests/mpi run it on a
double of cupyx.distributed; where there are two GPUs, tests/card/test_two_gpus.py uses them.
"""

from __future__ import annotations

import importlib
from typing import Any

from tinycv.engine.find_gpu import gpu_problem
from tinycv.training.messages import Messages


class Nccl:
    """Sums and broadcasts of arrays on GPUs. Every rank must have a GPU of its own."""

    def __init__(self, messages: Messages, device: str):
        self.messages, self.device = messages, device
        self.cupy = importlib.import_module("cupy")
        if not importlib.import_module("cupy.cuda.nccl").available:
            raise ImportError(
                "parallel.mpi on several GPUs needs the library NCCL, which CuPy does not find: "
                "pip install nvidia-nccl-cu13 (or nvidia-nccl-cu12, for CUDA 12)"
            )
        backend = importlib.import_module("cupyx.distributed").NCCLBackend
        # NCCL and CuPy work on the current GPU
        self.cupy.cuda.Device(int(device.partition(":")[2])).use()
        # collective: it returns when all ranks have come here
        self.backend = backend(messages.size, messages.rank, use_mpi=True)

    def sum(self, x: Any, count: int) -> Any:
        """The sum of x over the first ``count`` ranks, in every rank. x is contiguous; it is
        overwritten."""
        if self.messages.rank >= count:
            x[...] = 0
        self.messages.sent += x.nbytes * 2 * (self.messages.size - 1) // self.messages.size
        with self.messages.or_abort():
            self.backend.all_reduce(x, x, op="sum")
        return x

    def broadcast(self, x: Any) -> None:
        """Overwrite x, which is contiguous, with x of rank 0."""
        self.messages.sent += x.nbytes if self.messages.rank == 0 else 0
        with self.messages.or_abort():
            self.backend.broadcast(x, 0)


def own_gpus(messages: Messages, device: str) -> bool:
    """Has every rank a GPU of its own? Collective; ``device`` is the GPU of this rank."""
    if messages.size == 1:
        return True
    place = messages.mpi.Get_processor_name(), device
    places = messages.comm.allgather(place)
    return len(set(places)) == len(places)


def device_for(messages: Messages, device: str) -> str:
    """The GPU of this rank, which becomes CuPy's current one: "gpu" is the one with the number of
    the rank on its machine, modulo the number of GPUs there. Any other device is taken as it is."""
    if device not in ("gpu", "cuda") or gpu_problem() is not None:
        return device  # if there is no GPU, whoever uses the device says why
    cuda = importlib.import_module("cupy").cuda
    number = messages.local_rank % cuda.runtime.getDeviceCount()
    cuda.Device(number).use()
    return f"gpu:{number}"
