"""Rows and contenders: what a benchmark compares with what, and how long it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gate import RTOL

# The names of contenders begin with one of these if their code is not part of this project.
OUTSIDERS = ("PyTorch", "plain NumPy", "HIPS autograd", "MyGrad")
# A Work does the work to be timed once. It returns, by name, the results that the gate compares.
Work = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """One way to do a row's work. ``make(*args)``, called in the contender's own process, returns
    its Work. make must be defined at the top level of a module, so that it can be pickled.

    env: environment variables for that process; worker.settings may add one.
    missing: why it cannot be measured here, or "".
    memory: whether its peak memory is of interest, in a row that measures memory.
    on_device: its Work is a device.Waited: host, device and transfer are timed separately too, and
    its memory is that of the device.
    """

    name: str
    make: Callable[..., Work] | None
    args: tuple = ()
    env: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    on_device: bool = False
    memory: bool = True


@dataclass(frozen=True)
class Row:
    """One comparison. Every contender must compute the same results as the first one, and is
    compared with its time.

    of, per: one call of the Work does ``per`` units of what ``of`` names; times, flops and bytes
    are given per unit.
    flops: those of the matrix products; a multiplication and its addition count as 2.
    point: for example ("sequence length", 1024): the rows of a group that have one form a curve.
    dtype: with the peak of this dtype, a GPU's FLOP/s are compared.
    rtol: the tolerance of the gate. memory: also measure the peak memory of a call.
    """

    group: str
    name: str
    contenders: tuple[Contender, ...]
    of: str = "call"
    per: int = 1
    flops: float | None = None
    point: tuple[str, float] | None = None
    rtol: float = RTOL
    dtype: str = "float32"
    memory: bool = False


@dataclass(frozen=True)
class Effort:
    """How long to measure. All times are in seconds.

    rounds: turns per contender. A turn warms up for ``warm``, then takes ``samples`` samples of
    about ``sample`` each.
    settle: the wait before a turn, because OpenMP threads keep spinning for up to 0.2 s after the
    last one.
    longest: the limit for a turn; if one call takes long, fewer samples are taken.
    """

    rounds: int
    samples: int
    sample: float
    warm: float
    settle: float
    longest: float = float("inf")


FULL = Effort(rounds=12, samples=5, sample=0.01, warm=0.05, settle=0.25)
QUICK = Effort(rounds=2, samples=2, sample=0.001, warm=0.002, settle=0.0)
