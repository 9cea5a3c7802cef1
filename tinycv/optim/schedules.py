"""Learning-rate schedules: warmup followed by cosine, linear or inverse square root decay.

A schedule is a function from the step, counted from 0, to a factor of the learning rate. ``fit``
takes one as ``schedule=``. In a loop of your own:

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
    """A constant factor of 1, after a linear warmup over the first ``warmup`` steps."""
    return partial(_warmup, warmup=size(warmup, "constant: warmup"))


def warmup_cosine(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Linear warmup over ``warmup`` steps, then half a cosine from 1 down to ``final`` at step
    ``total``.

    If the warmup is as long as the total or longer, as in a short trial of a long recipe, there is
    no decay: training ends during the warmup.
    Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    return partial(_cosine, **_decay("warmup_cosine", total, warmup, final))


def warmup_linear(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Linear warmup over ``warmup`` steps, then linear decay from 1 down to ``final`` at step
    ``total``."""
    return partial(_linear, **_decay("warmup_linear", total, warmup, final))


def warmup_inverse_sqrt(warmup: int) -> Schedule:
    """Linear warmup to 1 at the ``warmup``-th step, then decay as 1/√step: the factor is a half at
    step 4 ``warmup``. It needs no total.

    lr = d_model^(-1/2) min(n^(-1/2), n warmup^(-3/2)),   n = 1, 2, ...   Vaswani et al. 2017, eq. 3

    is this schedule with an optimiser whose lr is (d_model warmup)^(-1/2), which is the largest
    learning rate that it reaches.
    """
    return partial(_inverse_sqrt, warmup=size(warmup, "warmup_inverse_sqrt: warmup", 1))


def _decay(name: str, total: int, warmup: int, final: float) -> dict[str, Any]:
    """The checked arguments of a learning-rate schedule that ends. final: the factor at the end;
    it may be above 1.
    """
    return {
        "total": size(total, f"{name}: total", 1),
        "warmup": size(warmup, f"{name}: warmup"),
        "final": finite(final, f"{name}: final", 0),
    }


# A learning-rate schedule is a partial of one of these functions, not a closure, so that pickle can
# save it.


def _cosine(step: float, total: int, warmup: int, final: float) -> float:
    step = number(step, "schedule: step", 0)
    progress = _progress(step, total, warmup)
    return _warmup(step, warmup) * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def _linear(step: float, total: int, warmup: int, final: float) -> float:
    step = number(step, "schedule: step", 0)
    return _warmup(step, warmup) * (1 + (final - 1) * _progress(step, total, warmup))


def _inverse_sqrt(step: float, warmup: int) -> float:
    step = number(step, "schedule: step", 0)
    return min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


def _warmup(step: float, warmup: int) -> float:
    """The factor of a linear warmup: 1 / (warmup + 1) at step 0, and 1 from step ``warmup`` on."""
    step = number(step, "schedule: step", 0)
    # step + 1, so that the first step learns too
    return min(1.0, (step + 1) / (warmup + 1))


def _progress(step: float, total: int, warmup: int) -> float:
    """How far the decay has got: 0 at the end of the warmup, 1 at step ``total``."""
    return min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
