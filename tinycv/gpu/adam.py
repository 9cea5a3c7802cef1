"""Adam and AdamW on a GPU: a step of up to 96 parameters in one launch (parts.py).

With array calls, Adam takes a dozen launches for every large parameter, and a dozen for all small
ones together.

Definition: optim/adam.py.   How kernels are written: cuda.py.
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
// With the bias corrections: rate = lr sqrt(1 - beta2^step) / (1 - beta1^step), and
// bend = sqrt(1 - beta2^step). shrink: the factor 1 - lr weight_decay of AdamW's decay, which is
// not part of g. decay: the weight decay of Adam, which is added to g.
struct Settings { double rate, bend, beta1, beta2, eps, shrink, decay; };

// sent: settings in the GPU's memory, or null to take ``given``. A recorded step (capture.py)
// repeats the arguments that it was recorded with, so its settings are changed there.
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

// Writes settings to where a recorded step reads them.
KERNEL put_settings(Int rows, const Settings given, double* sent) {
    EACH_ROW(row, rows) if (threadIdx.x == 0) *(Settings*)sent = given;
}
"""
)


SETTINGS = np.dtype(
    [(name, "f8") for name in ("rate", "bend", "beta1", "beta2", "eps", "shrink", "decay")]
)


class Rule:
    """Adam, or with ``decoupled`` AdamW. A call makes one step; ``send`` changes the settings of a
    recorded step."""

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
        """One step, in place. The m and v of each parameter lie in two flat arrays, from its offset
        on.

        m and v of float16 parameters are float32, because in float16 the squares of small gradients
        are 0, and so is an eps of 1e-8.
        sent: an array of seven float64, from which the kernel reads its settings instead of taking
        the step and the options; see ``send``.
        """
        gs, now = packed(xp, *gs), settings(step, self.decoupled, **options)
        for rows, table, count in tables(ps, gs, offsets):
            kernels.adam(ps[0], rows, rows, table, count, m, v, now, sent)

    def send(self, m: Array, sent: Array, step: int, **options: Any) -> None:
        """Write the settings of this step to where a recorded step reads them. It takes one launch,
        and does not wait for the GPU. m: an array, for its float type."""
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
    """The struct Settings of the kernel. decoupled: weight decay as in AdamW."""
    beta1, beta2 = betas
    bend = (1 - beta2**step) ** 0.5
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    return by_value(
        np.array(
            [(lr * bend / (1 - beta1**step), bend, beta1, beta2, eps, shrink, decay)], SETTINGS
        )
    )
