"""Small Works for the tests of the benchmarks. A contender's process imports this file, which
imports little, so that the process starts quickly."""

from __future__ import annotations

import os

import numpy as np


def numbers(offset: float = 0.0):
    """A Work whose result is off by ``offset``."""
    return lambda: {"result": np.arange(3, dtype=np.float32) + np.float32(offset)}


def raises():
    raise ValueError("no such op")


def dies():
    os._exit(7)


def blas_kernel():
    """A Work that returns the BLAS kernel that the environment of its process names."""
    return lambda: {"kernel": os.environ.get("OPENBLAS_CORETYPE", "none")}


def holds(megabytes: int, made_before: int = 0):
    """A Work whose call needs ``megabytes`` at its peak. made_before: megabytes that are allocated
    and freed earlier, which must not hide that peak."""
    if made_before:
        import tinycv  # noqa: F401  (its malloc keeps what is freed)

        np.ones(made_before << 17)
    return lambda: {"sum": np.ones(megabytes << 17).sum()}


def forks(megabytes: int):
    """A Work that forks a process at its first call, which holds ``megabytes`` and waits."""
    forked: list[int] = []

    def work():
        if not forked:
            (ready, write), (end, held_open) = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                os.close(held_open)
                held = np.ones(megabytes << 17)
                os.write(write, b"1")
                os.read(end, 1)  # returns when the process that forked this one ends
                os._exit(int(held[0]))
            forked.append(child)
            os.read(ready, 1)
        return {"children": np.array(len(forked))}

    return work
