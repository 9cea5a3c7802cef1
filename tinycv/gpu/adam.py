"""optim/adam.py on a GPU: Adam and AdamW change up to 96 parameters in one launch (parts.py).

By array calls Adam is a dozen launches for every large parameter, and as many for all small ones
together. How they are written: cuda.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinycv.engine.backend import Array
from tinycv.gpu.cuda import Kernels, by_value, packed
from tinycv.gpu.parts import PARTED, tables

kernels = Kernels(
    PARTED
    + r"""
// rate and bend: lr and sqrt(1 - beta2^step), with the bias corrections in them; shrink: AdamW's
// decay, apart from g.
struct Settings { double rate, bend, beta1, beta2, eps, shrink, decay; };

// sent: settings that lie on the device, because a step that was recorded (capture.py) has those
// given for good.
KERNEL adam(Int rows, const Parts parts, Int count, A* m, A* v, const Settings given,
        const double* sent) {
    const Settings s = sent ? *(const Settings*)sent : given;
    EACH_ROW(row, rows) {
        const Part& part = of(row, parts, count);
        EACH_WEIGHT(i, row, part) {
            const Int at = part.offset + i;
            A p = A(part.p[i]) * A(s.shrink);
            const A g = A(part.g[i]) + A(s.decay) * p;
            const A mean = A(s.beta1) * m[at] + A(1 - s.beta1) * g;
            const A square = A(s.beta2) * v[at] + A(1 - s.beta2) * g * g;
            m[at] = mean;
            v[at] = square;
            part.p[i] = T(p - A(s.rate) * mean / (sqrt(square) + A(s.eps * s.bend)));
        }
    }
}

// Settings to where a recorded step reads them.
KERNEL put_settings(Int rows, const Settings given, double* sent) {
    EACH_ROW(row, rows) if (threadIdx.x == 0) *(Settings*)sent = given;
}
"""
)


SETTINGS = np.dtype(
    [(name, "f8") for name in ("rate", "bend", "beta1", "beta2", "eps", "shrink", "decay")]
)


class Rule:
    """Adam, or with ``decoupled`` AdamW: called it makes a step, and ``send`` tells a recorded step
    what to make."""

    def __init__(self, decoupled: bool):
        self.decoupled = decoupled

    def __call__(
        self,
        xp: Any,
        ps: Sequence[Array],
        gs: Sequence[Array],
        offsets: Sequence[int],
        m: Array,
        v: Array,
        step: int,
        sent: Array | None = None,
        **options: Any,
    ) -> None:
        """One step, in place, of parameters whose m and v lie at ``offsets`` of two flat arrays.

        m and v of halves are float32: the squares of small gradients are 0 in float16, and so is an
        eps of 1e-8.
        sent: an array of seven float64, which is read in place of the step and the options; see
        ``send``.
        """
        gs, given = packed(xp, *gs), settings(step, self.decoupled, **options)
        for rows, table, count in tables(ps, gs, offsets):
            kernels.adam(ps[0], rows, rows, table, count, m, v, given, sent)

    def send(self, m: Array, sent: Array, step: int, **options: Any) -> None:
        """Put the settings of this step where a recorded one reads them: a launch, and nothing
        waits. m: an array of a float type."""
        kernels.put_settings(m, 1, 1, settings(step, self.decoupled, **options), sent)


adam, adamw = Rule(decoupled=False), Rule(decoupled=True)


def settings(
    step: int,
    decoupled: bool,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> np.ndarray:
    """The kernel's struct Settings. decoupled: AdamW's decay."""
    beta1, beta2 = betas
    bend = (1 - beta2**step) ** 0.5
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    return by_value(
        np.array(
            [(lr * bend / (1 - beta1**step), bend, beta1, beta2, eps, shrink, decay)], SETTINGS
        )
    )
