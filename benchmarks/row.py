"""What a suite is made of: rows of contenders, and how much effort a row is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gate import RTOL

# how the names of contenders begin that this project does not make
OUTSIDERS = ("PyTorch", "plain NumPy", "HIPS autograd", "MyGrad")
# does the work once; returns what the gate compares, by name
Work = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """``make(*args)``, called in the contender's own process, returns its Work. It must be a
    module's own function.

    env: environment variables for that process; worker.settings may add one. missing: why it cannot
    be measured here.
    on_device: its Work is a device.Waited, whose parts are told apart; its memory is the device's.
    """

    name: str
    make: Callable[..., Work] | None
    args: tuple = ()
    env: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    on_device: bool = False


@dataclass(frozen=True)
class Row:
    """One comparison. All agree with the first contender, and are compared with its time.

    per: how many of ``of`` one call of the Work does; times, flops and bytes are of one.
    flops: of its matrix products, where a multiplication with its addition is 2.
    point: ("sequence length", 1024): the rows of a group that have one form a curve.
    dtype: by whose roof a GPU's figures are measured.
    rtol: of the gate. memory: measure also the peak memory of a call.
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
    """rounds: turns of each contender; a turn warms up for ``warm`` s, then takes ``samples`` of
    about ``sample`` s each.

    settle: s to wait before a turn. OpenMP's threads go on spinning for up to 0.2 s after the last
    turn.
    longest: s that a turn should not exceed: where one call takes long, fewer samples are taken.
    """

    rounds: int
    samples: int
    sample: float
    warm: float
    settle: float
    longest: float = float("inf")


FULL = Effort(rounds=12, samples=5, sample=0.01, warm=0.05, settle=0.25)
QUICK = Effort(rounds=2, samples=2, sample=0.001, warm=0.002, settle=0.0)
