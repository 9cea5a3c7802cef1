"""Adam and AdamW: each weight has its own step length, from what its gradients were like.

    Adam:    w <- w - lr m / (sqrt(v) + eps)
             m, v: running means of g and of g squared, bias corrected
    AdamW:   as Adam, and each step shrinks w by lr * weight_decay, apart from the gradient

Each is a pair, as in engine/fused.py: a definition, which gives new arrays, and a kernel, which
changes them in place.
Read before: sgd.py.   Read next: optimizer.py (groups, state), averaged.py (averaged weights).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinycv.engine.backend import Array
from tinycv.optim.inputs import Parameters
from tinycv.optim.optimizer import Optimizer


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """(new p, new m, new v): see Adam."""
    beta1, beta2 = betas
    g = g + weight_decay * p  # the gradient of weight_decay/2 |p|²
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    # both began at 0: this takes that share out of the means
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    return p - lr * m_hat / (v_hat**0.5 + eps), m, v


def adamw(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Array, Array, Array]:
    """(new p, new m, new v): see AdamW."""
    p = p - lr * weight_decay * p  # not through g, which Adam divides by sqrt(v)
    return adam(p, g, m, v, step, lr, betas, eps, weight_decay=0.0)


class Adam(Optimizer):
    """Adam: each weight gets its own step length, from the running means m of g and v of g².

    Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """

    arrays, definition = ("exp_avg", "exp_avg_sq"), staticmethod(adam)

    def __init__(
        self,
        params: Iterable[Parameters],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: every weight shrinks at the same rate, however large its
    gradients.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    differs: as in PyTorch, the decay is lr * weight_decay, where the paper's lambda stands apart
    from alpha.
    """

    definition = staticmethod(adamw)

    def __init__(
        self,
        params: Iterable[Parameters],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


# ── the kernel: the same in place, for a block of weights that stays in cache; g is left as it is ─


@Adam.kernel
def adam_kernel(xp, p, g, m, v, step, lr, betas, eps, weight_decay):
    """The bias corrections go into lr and eps, as the end of the paper's section 2 recommends."""
    (beta1, beta2), spare = betas, xp.empty_like(p)
    if weight_decay:
        g = g + weight_decay * p
    m *= beta1
    m += xp.multiply(g, 1 - beta1, out=spare)
    v *= beta2
    xp.multiply(g, g, out=spare)
    spare *= 1 - beta2
    v += spare
    correction = math.sqrt(1 - beta2**step)
    xp.sqrt(v, out=spare)
    spare += eps * correction
    xp.divide(m, spare, out=spare)
    spare *= lr * correction / (1 - beta1**step)
    p -= spare


@AdamW.kernel
def _(xp, p, g, m, v, step, lr, betas, eps, weight_decay):
    if weight_decay:
        p *= 1 - lr * weight_decay
    adam_kernel(xp, p, g, m, v, step, lr, betas, eps, 0.0)
