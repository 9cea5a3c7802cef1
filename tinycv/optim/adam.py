"""Adam and AdamW: optimisers in which each weight gets its own step length.

    Adam:    w <- w - lr m / (sqrt(v) + eps)
             m, v: running means of g and of g squared, bias corrected
    AdamW:   the same, and each step also shrinks w by the factor 1 - lr * weight_decay

Where the gradient is steady, the step is lr, whatever the size of the gradient. Each optimiser is a
pair, as in engine/fused.py: a definition, which returns new arrays, and a kernel, which changes the
arrays in place.
Read first: sgd.py.   Read next: optimizer.py (groups, state), averaged.py (averaged weights).
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
    """Returns (new p, new m, new v). The class Adam names the paper."""
    beta1, beta2 = betas
    g = g + weight_decay * p  # the gradient of weight_decay/2 |p|²
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    # m and v start at 0, so early means are too small by the factor 1 - beta**step: divide by it
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
    """Returns (new p, new m, new v). The class AdamW names the paper."""
    # the decay does not go through g, because Adam divides g by sqrt(v)
    p = p - lr * weight_decay * p
    return adam(p, g, m, v, step, lr, betas, eps, weight_decay=0.0)


class Adam(Optimizer):
    """Adam: each weight gets its own step length, from the running means m of g and v of g².

    Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """

    arrays = ("exp_avg", "exp_avg_sq")
    definition = staticmethod(adam)

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
    differs: as in PyTorch, the decay is lr * weight_decay; in the paper, lambda is not multiplied
    by the learning rate alpha.
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


# ── The kernel: the same rule in place, on one block of weights that fits the cache. g is only read


@Adam.kernel
def adam_kernel(xp, p, g, m, v, step, lr, betas, eps, weight_decay):
    """The bias corrections are folded into lr and eps, as the end of the paper's section 2
    recommends.
    """
    beta1, beta2 = betas
    scratch = xp.empty_like(p)
    if weight_decay:
        g = g + weight_decay * p
    m *= beta1
    m += xp.multiply(g, 1 - beta1, out=scratch)
    v *= beta2
    xp.multiply(g, g, out=scratch)
    scratch *= 1 - beta2
    v += scratch
    correction = math.sqrt(1 - beta2**step)
    xp.sqrt(v, out=scratch)
    scratch += eps * correction
    xp.divide(m, scratch, out=scratch)
    scratch *= lr * correction / (1 - beta1**step)
    p -= scratch


@AdamW.kernel
def _(xp, p, g, m, v, step, lr, betas, eps, weight_decay):
    if weight_decay:
        p *= 1 - lr * weight_decay
    adam_kernel(xp, p, g, m, v, step, lr, betas, eps, 0.0)
