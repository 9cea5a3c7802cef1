"""The learning rate over a training: a factor of it, as a function of the step, counted from 0.

for step, batch in enumerate(batches):
    optimizer.param_groups[0]["lr"] = lr * schedule(step)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from tinycv.engine.arguments import number, size
from tinycv.optim.inputs import finite

# step, counted from 0 -> factor of the learning rate
Schedule = Callable[[int], float]


def constant(warmup: int = 0) -> Schedule:
    """Factor 1, after a rise in equal steps over the first ``warmup`` steps."""
    return partial(_rise, warmup=size(warmup, "constant: warmup"))


def warmup_cosine(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A rise over ``warmup`` steps, then half a cosine from 1 down to ``final`` at step ``total``.

    A warmup that is as long as the total or longer, as in a short trial of a long recipe, leaves no
    room for the fall: training ends during the rise.
    Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    return partial(_cosine, **_decay("warmup_cosine", total, warmup, final))


def warmup_linear(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A rise over ``warmup`` steps, then a straight line from 1 down to ``final`` at step
    ``total``."""
    return partial(_linear, **_decay("warmup_linear", total, warmup, final))


def warmup_inverse_sqrt(warmup: int) -> Schedule:
    """A rise in equal steps to 1 at the ``warmup``-th step, then down as 1/√step: to a half after
    four times as many.

    lr = d_model^(-1/2) min(n^(-1/2), n warmup^(-3/2)),   n = 1, 2, ...   Vaswani et al. 2017, eq. 3

    is this schedule with an optimiser's lr of (d_model warmup)^(-1/2), the greatest that it comes
    to. No total is needed.
    """
    return partial(_inverse_sqrt, warmup=size(warmup, "warmup_inverse_sqrt: warmup", 1))


def _decay(name: str, total: int, warmup: int, final: float) -> dict[str, Any]:
    """The arguments of a schedule that ends, checked. final: a share of the learning rate, which
    may also grow.
    """
    return {
        "total": size(total, f"{name}: total", 1),
        "warmup": size(warmup, f"{name}: warmup"),
        "final": finite(final, f"{name}: final", 0),
    }


# Schedules are partials of these, and not functions in functions, so that pickle can save them.


def _cosine(step: int, total: int, warmup: int, final: float) -> float:
    at = number(step, "schedule: step", 0)
    return _rise(at, warmup) * (
        final + (1 - final) * 0.5 * (1 + math.cos(math.pi * _passed(at, total, warmup)))
    )


def _linear(step: int, total: int, warmup: int, final: float) -> float:
    at = number(step, "schedule: step", 0)
    return _rise(at, warmup) * (1 + (final - 1) * _passed(at, total, warmup))


def _inverse_sqrt(step: int, warmup: int) -> float:
    at = number(step, "schedule: step", 0)
    return min((at + 1) / warmup, math.sqrt(warmup / (at + 1)))


def _rise(step: float, warmup: int) -> float:
    at = number(step, "schedule: step", 0)
    # the first step learns too, and the first after warmup is at 1
    return min(1.0, (at + 1) / (warmup + 1))


def _passed(step: float, total: int, warmup: int) -> float:
    return min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
