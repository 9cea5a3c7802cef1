"""The simulated machine: CuPy's names, why a GPU may be unusable, the current device, and waits."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = json.loads(Path(__file__).parent.with_name("cupy-14.2.0-names.json").read_text())


class World:
    """The state of the simulated machine, and how often Python had to wait for it."""

    synchronisations = 0
    # kernels, copies and fills that were put into the GPU's queue, at least
    launches = 0
    # what each product of stacks was added up in, by cuBLAS's numbers
    products: list[int] = []
    # the dtype in which CuPy should sum up products of matrices
    compute_types: dict[str, int] = {}
    # of a warp, where a CUDA kernel is run: 1, or 32 threads
    lanes = 1
    cause: str | None = None  # the reason why this machine's GPU cannot be used
    memory = 1 << 31  # bytes, of which an array may have half
    device = 0  # the current one
    devices = 2

    def wait(self) -> None:
        self.synchronisations += 1


WORLD = World()


class Device:
    """cupy.cuda.Device: the current device inside its ``with`` block."""

    def __init__(self, device: int | None = None):
        self.id = WORLD.device if device is None else int(device)

    def __enter__(self) -> Device:
        self._outer, WORLD.device = WORLD.device, self.id
        return self

    def __exit__(self, *_: object) -> None:
        WORLD.device = self._outer

    def use(self) -> Device:
        WORLD.device = self.id
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None

    def synchronize(self) -> None:
        WORLD.wait()

    compute_capability = "90"
    mem_info = property(lambda self: (WORLD.memory // 2, WORLD.memory))
