"""Optimisers: the step from gradients to better weights; and what is done around it.

    SGD:     w <- w - lr g                                   with momentum, g becomes a running sum of gradients
    Adam:    w <- w - lr m / (sqrt(v) + eps)                 m, v: running means of g and of g squared, bias corrected
    AdamW:   as Adam, and each step shrinks w by lr * weight_decay, apart from the gradient

Each is a pair, as in engine/fused.py: a definition, which gives new arrays, and a kernel, which
changes them in place. Names, defaults and results follow PyTorch; float16 weights are updated in
float32, see optimizer.py.
Read next: optimizer.py (groups, state), ema.py (averaged weights).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from tinycv import optim_cuda
from tinycv.engine import capturing
from tinycv.engine.arguments import flag, number, shown, size
from tinycv.engine.backend import array_module
from tinycv.engine.cuda import suits
from tinycv.engine.tensor import Tensor, wrap
from tinycv.optimizer import Optimizer
from tinycv.optimizer_state import finite, wide

Schedule = Callable[[int], float]               # step, counted from 0 -> factor of the learning rate


# ── the rules: weights p, gradients g, what is remembered; step counts from 1 ─────────────────────────

def sgd(p: Any, g: Any, b: Any, step: int, lr: float, momentum: float, dampening: float, weight_decay: float,
        nesterov: bool) -> tuple[Any, Any]:
    """(new p, new b): see SGD. step: the number of this step among those with momentum."""
    g = g + weight_decay * p
    if momentum:
        b = g if step == 1 else momentum * b + (1 - dampening) * g
        g = g + momentum * b if nesterov else b
    return p - lr * g, b


def adam(p: Any, g: Any, m: Any, v: Any, step: int, lr: float, betas: tuple[float, float], eps: float,
         weight_decay: float) -> tuple[Any, Any, Any]:
    """(new p, new m, new v): see Adam."""
    beta1, beta2 = betas
    g = g + weight_decay * p                    # the gradient of weight_decay/2 |p|²
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1 ** step)             # both began at 0: this takes that share out of the means
    v_hat = v / (1 - beta2 ** step)
    return p - lr * m_hat / (v_hat ** 0.5 + eps), m, v


def adamw(p: Any, g: Any, m: Any, v: Any, step: int, lr: float, betas: tuple[float, float], eps: float,
          weight_decay: float) -> tuple[Any, Any, Any]:
    """(new p, new m, new v): see AdamW."""
    p = p - lr * weight_decay * p               # not through g, which Adam divides by sqrt(v)
    return adam(p, g, m, v, step, lr, betas, eps, weight_decay=0.0)


# ── the optimisers ────────────────────────────────────────────────────────────────────────────────────

class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked:  b <- momentum b + (1 - dampening) g,  w <- w - lr b.

    nesterov looks one step ahead: g + momentum b in place of b. weight_decay adds weight_decay * w to g.
    Sutskever et al. 2013, "On the importance of initialization and momentum", section 2.
    differs: as in PyTorch, lr multiplies b and not g. The first b, at the first step with momentum,
    is g itself, undampened; nothing is remembered of a parameter before that step.
    """

    arrays, definition = ("momentum_buffer",), staticmethod(sgd)
    steady = 1                                  # only the first step is another

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                  "weight_decay": weight_decay, "nesterov": nesterov})

    @staticmethod
    def counts(options: dict[str, Any]) -> bool:
        """A step without momentum leaves b as it is, and is not counted."""
        return bool(options["momentum"])

    def loading(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """The function that loads ``state_dict``. Where there is no momentum, a buffer of zeros
        has not begun, whatever step is saved beside it.
        """
        load = super().loading(state_dict)

        def load_what_has_begun() -> None:
            load()
            for slab in self._slabs:
                if not self.counts(slab.options()):
                    buffers = slab.views_of_state["momentum_buffer"]
                    slab.steps = [step if step and b.any() else 0
                                  for step, b in zip(slab.steps, buffers, strict=True)]
        return load_what_has_begun


class Adam(Optimizer):
    """Adam: each weight gets its own step length, from the running means m of g and v of g².

    Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """

    arrays, definition = ("exp_avg", "exp_avg_sq"), staticmethod(adam)

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})


class AdamW(Adam):
    """Adam with decoupled weight decay: every weight shrinks at the same rate, however large its gradients.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    differs: as in PyTorch, the decay is lr * weight_decay, where the paper's lambda stands apart from alpha.
    """

    definition = staticmethod(adamw)

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


# ── the kernels: the same in place, for a block of weights that stays in cache; g is left as it is ────

@SGD.kernel
def _(xp, p, g, b, step, lr, momentum, dampening, weight_decay, nesterov):
    spare = xp.empty_like(p)
    if weight_decay:
        xp.multiply(p, weight_decay, out=spare)
        g = xp.add(g, spare, out=spare)
    if momentum:
        b *= momentum
        b += g if step == 1 or not dampening else xp.multiply(g, 1 - dampening, out=spare)
    if not momentum or nesterov:
        p -= xp.multiply(g, lr, out=spare)
    if momentum:
        p -= xp.multiply(b, lr * momentum if nesterov else lr, out=spare)


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
    correction = math.sqrt(1 - beta2 ** step)
    xp.sqrt(v, out=spare)
    spare += eps * correction
    xp.divide(m, spare, out=spare)
    spare *= lr * correction / (1 - beta1 ** step)
    p -= spare


@AdamW.kernel
def _(xp, p, g, m, v, step, lr, betas, eps, weight_decay):
    if weight_decay:
        p *= 1 - lr * weight_decay
    adam_kernel(xp, p, g, m, v, step, lr, betas, eps, 0.0)


Adam.cuda(optim_cuda.adam, optim_cuda.send)
AdamW.cuda(partial(optim_cuda.adam, decoupled=True), partial(optim_cuda.send, decoupled=True))


# ── the learning rate over a training ─────────────────────────────────────────────────────────────

def constant(warmup: int = 0) -> Schedule:
    """Factor 1, after a rise in equal steps over the first ``warmup`` steps."""
    return partial(_rise, warmup=size(warmup, "constant: warmup"))


def warmup_cosine(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A rise over ``warmup`` steps, then half a cosine from 1 down to ``final`` at step ``total``.

    A warmup that is as long as the total or longer, as in a short trial of a long recipe, leaves no room for the fall:
    training ends during the rise.
    Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    return partial(_cosine, **_decay("warmup_cosine", total, warmup, final))


def warmup_linear(total: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A rise over ``warmup`` steps, then a straight line from 1 down to ``final`` at step ``total``."""
    return partial(_linear, **_decay("warmup_linear", total, warmup, final))


def warmup_inverse_sqrt(warmup: int) -> Schedule:
    """A rise in equal steps to 1 at the ``warmup``-th step, then down as 1/√step: to a half after four times as many.

    lr = d_model^(-1/2) min(n^(-1/2), n warmup^(-3/2)),   n = 1, 2, ...         Vaswani et al. 2017, eq. 3

    is this schedule with an optimiser's lr of (d_model warmup)^(-1/2), the greatest that it comes to. No total is needed.
    """
    return partial(_inverse_sqrt, warmup=size(warmup, "warmup_inverse_sqrt: warmup", 1))


def _decay(name: str, total: int, warmup: int, final: float) -> dict[str, Any]:
    """The arguments of a schedule that ends, checked. final: a share of the learning rate, which
    may also grow.
    """
    return {"total": size(total, f"{name}: total", 1), "warmup": size(warmup, f"{name}: warmup"),
            "final": finite(final, f"{name}: final", 0)}


# Schedules are partials of these, and not functions in functions, so that pickle can save them.

def _cosine(step: int, total: int, warmup: int, final: float) -> float:
    step = number(step, "schedule: step", 0)
    return _rise(step, warmup) * (
        final + (1 - final) * 0.5 * (1 + math.cos(math.pi * _passed(step, total, warmup))))


def _linear(step: int, total: int, warmup: int, final: float) -> float:
    step = number(step, "schedule: step", 0)
    return _rise(step, warmup) * (1 + (final - 1) * _passed(step, total, warmup))


def _inverse_sqrt(step: int, warmup: int) -> float:
    step = number(step, "schedule: step", 0)
    return min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


def _rise(step: int, warmup: int) -> float:
    step = number(step, "schedule: step", 0)
    return min(1.0, (step + 1) / (warmup + 1))      # the first step learns too, and the first after warmup is at 1


def _passed(step: int, total: int, warmup: int) -> float:
    return min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)


# ── gradients that are too long ───────────────────────────────────────────────────────────────────

def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float,
                    norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place by one factor, so that together, as one vector, they are at most
    ``max_norm`` long.

    norm_type: p of the p-norm that is meant by length; infinity stands for the largest number.
    Returns the length before, a Tensor of shape () on the device: nothing waits for it.
    error_if_nonfinite: RuntimeError if that length is NaN or infinite; the gradients are then left
    as they were. To know that is to wait for the device.
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    differs: as in PyTorch, 1e-6 is added to the length. The length of float16 gradients is summed
    and returned in float32, where PyTorch's overflows at 65504.
    """
    max_norm = number(max_norm, "clip_grad_norm_: max_norm", 0)
    norm_type = number(norm_type, "clip_grad_norm_: norm_type", above=0)
    error_if_nonfinite = flag(error_if_nonfinite, "clip_grad_norm_: error_if_nonfinite")
    grads = _gradients("clip_grad_norm_", parameters)
    if not grads:
        return Tensor(0.0)
    xp = array_module(grads[0])
    if error_if_nonfinite:
        capturing.refuse("clip_grad_norm_ with error_if_nonfinite, which waits for the GPU,", "leave it out there")
    elif norm_type == 2 and xp is not np and suits(grads) and all(g.flags.c_contiguous for g in grads):
        return wrap(optim_cuda.clip(xp, grads, max_norm), None)
    flat = xp.concatenate([g.reshape(-1) for g in grads])
    norm = _length(xp, flat.astype(wide(flat.dtype), copy=False), norm_type)
    if error_if_nonfinite and not bool(xp.isfinite(norm)):
        raise RuntimeError(f"clip_grad_norm_: the gradients are {float(norm)} long together, so they "
                           "cannot be scaled; `with tinycv.debug():` shows which op made it")
    factor = xp.minimum(_held(max_norm, norm.dtype) / (norm + 1e-6), 1.0)
    for g in grads:
        g *= factor                                 # by 1 where they are short: a test would wait for the device
    return wrap(norm, None)


def _held(value: float, dtype: np.dtype) -> float:
    """The number, or infinity in place of one that is infinite in this dtype."""
    return value if value <= float(np.finfo(dtype).max) else math.inf


def _length(xp: Any, flat: Any, norm_type: float) -> Any:
    """The p-norm of a flat array, of shape ()."""
    if norm_type == 2 or not flat.size:
        return xp.sqrt((flat * flat).sum())
    if _held(norm_type, flat.dtype) == math.inf:
        return xp.abs(flat).max()
    return (xp.abs(flat) ** norm_type).sum() ** (1 / norm_type)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Move every number of all gradients that is outside [-clip_value, clip_value] to its end, in
    place.
    """
    clip_value = number(clip_value, "clip_grad_value_: clip_value", 0)
    for g in _gradients("clip_grad_value_", parameters):
        most = _held(clip_value, g.dtype)
        array_module(g).clip(g, -most, most, out=g)


def _gradients(who: str, parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    """The arrays of the gradients that are there. A step that is being recorded learns that they
    are read.
    """
    takes = f"{who}: parameters must be a Tensor or several, such as model.parameters()"
    if not isinstance(parameters, Tensor) and (
            not isinstance(parameters, Iterable) or isinstance(parameters, (str, dict)) or hasattr(parameters, "dtype")):
        raise TypeError(f"{takes}; it is {shown(parameters)}")
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in parameters:
        if not isinstance(p, Tensor):
            raise TypeError(f"{takes}; one of them is {shown(p)}")
        if p.grad is not None and not isinstance(p.grad, Tensor):
            raise TypeError(f"{who}: a parameter of shape {p.shape} has a gradient that is "
                            f"{shown(p.grad)}; it must be a "
                            "Tensor, or None")
        if p.grad is not None and p.grad.dtype.kind != "f":
            raise TypeError(f"{who}: a parameter of shape {p.shape} has a gradient of "
                            f"{p.grad.dtype}; it must be floats")
        if p.grad is not None and isinstance(p.grad._data, np.ndarray) and not p.grad._data.flags.writeable:
            raise ValueError(f"{who}: a parameter of shape {p.shape} has a gradient in read-only memory, which cannot be "
                             f"changed in place: p.grad = Tensor(array.copy())")
    if (recording := capturing.current()) is not None:
        recording.reads_gradients(parameters)
    return [p.grad._data for p in parameters if p.grad is not None]
