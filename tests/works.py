"""Small Works for contenders, whose own processes import this file to find them: it imports little,
so that they start at once."""

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


def asked_for():
    """A Work that tells which BLAS kernel its process was asked to take."""
    return lambda: {"kernel": os.environ.get("OPENBLAS_CORETYPE", "none")}


def holds(megabytes: int, made_before: int = 0):
    """A Work whose call holds so much at its peak. What is made and freed before must not hide
    it."""
    if made_before:
        import tinycv  # noqa: F401  (its malloc keeps what is freed)

        np.ones(made_before << 17)
    return lambda: {"sum": np.ones(megabytes << 17).sum()}
