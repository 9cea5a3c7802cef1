"""Optimisers: the step from gradients to better weights; and what is done around it.

    SGD:     w <- w - lr g                                   with momentum, g becomes a running sum of gradients
    Adam:    w <- w - lr m / (sqrt(v) + eps)                 m, v: running means of g and of g squared, bias corrected
    AdamW:   as Adam, and each step shrinks w by lr * weight_decay, apart from the gradient

A rule stands in ``update``: p is all weights in one flat array, g their gradients, and both change in place.
Names, defaults and results are PyTorch's.   Read next: optimizer.py (groups, state), ema.py (averaged weights).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from tinycv.engine.backend import array_module
from tinycv.engine.tensor import Tensor, wrap
from tinycv.optimizer import Optimizer

Schedule = Callable[[int], float]               # step, counted from 0 -> factor of the learning rate


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked:  b <- momentum b + (1 - dampening) g,  w <- w - lr b.

    nesterov looks one step ahead: g + momentum b in place of b. weight_decay adds weight_decay * w to g.
    Sutskever et al. 2013, "On the importance of initialization and momentum", section 2.
    differs: as in PyTorch, lr multiplies b and not g, and the first b is g itself, undampened.
    """

    arrays = ("momentum_buffer",)

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                  "weight_decay": weight_decay, "nesterov": nesterov})

    def update(self, xp: Any, p: Any, g: Any, spare: Any, state: dict[str, Any], step: int, group: dict) -> None:
        momentum, b = group["momentum"], state["momentum_buffer"]
        if group["weight_decay"]:
            g += xp.multiply(p, group["weight_decay"], out=spare)
        if momentum:
            b *= momentum
            b += g if step == 1 else xp.multiply(g, 1 - group["dampening"], out=spare)
            if group["nesterov"]:
                g += xp.multiply(b, momentum, out=spare)
            else:
                g = b
        p -= xp.multiply(g, group["lr"], out=spare)


class Adam(Optimizer):
    """Adam: each weight gets its own step length, from the running means m of g and v of g².

    Kingma & Ba 2015, algorithm 1, in the order of computation that the end of section 2 recommends:
    both bias corrections go into the step length. Their epsilon-hat is scaled too, so the result is algorithm 1's.
    """

    arrays = ("exp_avg", "exp_avg_sq")

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def update(self, xp: Any, p: Any, g: Any, spare: Any, state: dict[str, Any], step: int, group: dict) -> None:
        m, v, (beta1, beta2) = state["exp_avg"], state["exp_avg_sq"], group["betas"]
        if group["weight_decay"]:
            self.decay(xp, p, g, spare, group)
        m *= beta1
        m += xp.multiply(g, 1 - beta1, out=spare)
        v *= beta2
        g *= g
        v += xp.multiply(g, 1 - beta2, out=g)
        correction = math.sqrt(1 - beta2 ** step)
        xp.sqrt(v, out=spare)
        spare += group["eps"] * correction
        xp.divide(m, spare, out=spare)
        spare *= group["lr"] * correction / (1 - beta1 ** step)
        p -= spare

    def decay(self, xp: Any, p: Any, g: Any, spare: Any, group: dict) -> None:
        """The gradient of weight_decay/2 |w|², added to g: so it is divided by sqrt(v), as g is."""
        g += xp.multiply(p, group["weight_decay"], out=spare)


class AdamW(Adam):
    """Adam with decoupled weight decay: every weight shrinks at the same rate, however large its gradients.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    differs: as in PyTorch, the decay is lr * weight_decay, where the paper's lambda stands apart from alpha.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def decay(self, xp: Any, p: Any, g: Any, spare: Any, group: dict) -> None:
        p *= 1 - group["lr"] * group["weight_decay"]


# ── the learning rate over a training ─────────────────────────────────────────────────────────────

def constant(warmup: int = 0) -> Schedule:
    """Factor 1, after a rise in equal steps over the first ``warmup`` steps."""
    return lambda step: _rise(step, warmup)


def warmup_cosine(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A rise over ``warmup`` steps, then half a cosine from 1 down to ``final`` at step ``total``.

    Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    return lambda step: _rise(step, warmup) * (
        final + (1 - final) * 0.5 * (1 + math.cos(math.pi * _passed(step, total, warmup))))


def warmup_linear(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A rise over ``warmup`` steps, then a straight line from 1 down to ``final`` at step ``total``."""
    return lambda step: _rise(step, warmup) * (1 + (final - 1) * _passed(step, total, warmup))


def _rise(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / (warmup + 1))      # the first step learns too, and the first after warmup is at 1


def _passed(step: int, total: int, warmup: int) -> float:
    return min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)


# ── gradients that are too long ───────────────────────────────────────────────────────────────────

def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients in place by one factor, so that together, as one vector, they are at most ``max_norm`` long.

    Returns the length before, a Tensor of shape () on the device: nothing waits for it.
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    differs: as in PyTorch, 1e-6 is added to the length.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad._data for p in parameters if p.grad is not None]
    if not grads:
        return Tensor(0.0)
    xp = array_module(grads[0])
    flat = xp.concatenate([g.reshape(-1) for g in grads])
    norm = xp.sqrt((flat * flat).sum())
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for g in grads:
        g *= factor                                 # by 1 where they are short: a test would wait for the device
    return wrap(norm, None)
