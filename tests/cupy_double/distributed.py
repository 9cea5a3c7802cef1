"""cupyx.distributed for the double: NCCL's sums and broadcasts, over real MPI messages.

It refuses what NCCL refuses: two ranks on one GPU, an array that is not contiguous, of another
dtype, or on another GPU than the communicator. It also refuses to start without MPI, because
CuPy's own TCP server fails on some machines.
"""

from __future__ import annotations

import importlib
from typing import Any

from .array import ndarray, unwrap
from .world import WORLD

DTYPES = ("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")


class NCCLBackend:
    """cupyx.distributed.NCCLBackend. calls: what was called, for tests."""

    def __init__(
        self,
        n_devices: int,
        rank: int,
        host: str = "127.0.0.1",
        port: int = 13333,
        use_mpi: bool = False,
    ):
        if not use_mpi:
            raise ConnectionError("the double starts NCCL through MPI alone: use_mpi=True")
        self.mpi = importlib.import_module("mpi4py.MPI")
        self.comm = self.mpi.COMM_WORLD
        if (n_devices, rank) != (self.comm.size, self.comm.rank):
            raise RuntimeError("NCCL_ERROR_INVALID_ARGUMENT: the ranks of MPI are others")
        self.device, self.calls = WORLD.device, []
        devices = self.comm.allgather(self.device)
        if len(set(devices)) != len(devices):
            raise RuntimeError(f"NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected: {devices}")

    def all_reduce(
        self, in_array: Any, out_array: Any, op: str = "sum", stream: Any = None
    ) -> None:
        if op not in ("sum", "prod", "max", "min"):
            raise RuntimeError(f"Unknown op {op} for NCCL")
        source, target = self._checked(in_array), self._checked(out_array)
        reduced = self.comm.allreduce(source, {"sum": self.mpi.SUM}[op])  # the others are not used
        target[...] = reduced
        self.calls.append(("all_reduce", in_array.nbytes))

    def broadcast(self, in_out_array: Any, root: int = 0, stream: Any = None) -> None:
        array = self._checked(in_out_array)
        array[...] = self.comm.bcast(array, root)
        self.calls.append(("broadcast", in_out_array.nbytes))

    def _checked(self, array: Any) -> Any:
        """The host array inside a double of an array."""
        if not isinstance(array, ndarray):
            raise AttributeError(f"{type(array).__name__} has no attribute 'data.ptr'")
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            raise RuntimeError("NCCL requires arrays to be either c- or f-contiguous")
        if array.dtype.name not in DTYPES:
            raise TypeError(f"Unknown dtype {array.dtype} for NCCL")
        if not array.device.id == WORLD.device == self.device:
            raise RuntimeError(
                f"NCCL_ERROR_INVALID_ARGUMENT: the array is on GPU {array.device.id}, the current "
                f"one is {WORLD.device}, and the communicator's {self.device}"
            )
        return unwrap(array)
