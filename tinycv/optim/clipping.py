"""Gradient clipping: scale all gradients down to a maximal norm, or clip each number by value.

A rare, very large gradient would otherwise undo many steps of training. Clipping by norm keeps the
direction of the step and limits its length; clipping by value changes the direction too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinycv.engine import capturing
from tinycv.engine.arguments import flag, number, shown
from tinycv.engine.backend import Array, array_module
from tinycv.engine.dispatch import on_gpu
from tinycv.engine.tensor import Tensor, wrap
from tinycv.optim.state import wide


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients in place by one factor, so that the norm of all of them, taken as one
    vector, is at most ``max_norm``.

    norm_type: the p of the p-norm; infinity means the largest absolute value.
    Returns the norm before clipping, a Tensor of shape () on the device. On a GPU nothing waits
    for it.
    error_if_nonfinite: RuntimeError if that norm is NaN or infinite; the gradients then stay as
    they were. This check waits for the device.
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    differs: as in PyTorch, 1e-6 is added to the norm. The norm of float16 gradients is summed and
    returned in float32; in PyTorch it overflows at 65504.
    """
    max_norm = number(max_norm, "clip_grad_norm_: max_norm", 0)
    norm_type = number(norm_type, "clip_grad_norm_: norm_type", above=0)
    error_if_nonfinite = flag(error_if_nonfinite, "clip_grad_norm_: error_if_nonfinite")
    grads = _gradients("clip_grad_norm_", parameters)
    if not grads:
        return Tensor(0.0)
    xp = array_module(grads[0])
    if error_if_nonfinite:
        capturing.refuse(
            "clip_grad_norm_ with error_if_nonfinite, which waits for the GPU,",
            "leave that argument out",
        )
    elif norm_type == 2 and xp is not np and all(g.flags.c_contiguous for g in grads):
        run = on_gpu(scaled_down, grads)
        if run is not None:
            return wrap(run(xp, grads, max_norm), None)
    return wrap(scaled_down(xp, grads, max_norm, norm_type, error_if_nonfinite), None)


def scaled_down(
    xp: Any,
    grads: list[Array],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Array:
    """clip_grad_norm_ of arrays, in place. Returns the norm before clipping, of shape ()."""
    flat = xp.concatenate([g.reshape(-1) for g in grads])
    norm = _norm(xp, flat.astype(wide(flat.dtype), copy=False), norm_type)
    if error_if_nonfinite and not bool(xp.isfinite(norm)):
        raise RuntimeError(
            f"clip_grad_norm_: the norm of all gradients is {float(norm)}, so they "
            "cannot be scaled; `with tinycv.debug():` shows which op made it"
        )
    factor = xp.minimum(_or_infinity(max_norm, norm.dtype) / (norm + 1e-6), 1.0)
    for g in grads:
        # short gradients are multiplied by 1: an `if` would wait for the device
        g *= factor
    return norm


def _or_infinity(value: float, dtype: np.dtype) -> float:
    """``value``, or infinity if ``value`` is larger than every number of this dtype."""
    return value if value <= float(np.finfo(dtype).max) else math.inf


def _norm(xp: Any, flat: Array, norm_type: float) -> Array:
    """The p-norm of a flat array, of shape ()."""
    if norm_type == 2 or not flat.size:
        return xp.sqrt((flat * flat).sum())
    if _or_infinity(norm_type, flat.dtype) == math.inf:
        return xp.abs(flat).max()
    return (xp.abs(flat) ** norm_type).sum() ** (1 / norm_type)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every number of all gradients to [-clip_value, clip_value], in place."""
    clip_value = number(clip_value, "clip_grad_value_: clip_value", 0)
    for g in _gradients("clip_grad_value_", parameters):
        limit = _or_infinity(clip_value, g.dtype)
        array_module(g).clip(g, -limit, limit, out=g)


def _gradients(who: str, parameters: Tensor | Iterable[Tensor]) -> list[Array]:
    """The arrays of the gradients, of those parameters that have one. If a CUDA graph is being
    recorded, it notes that these gradients are read.
    """
    takes = f"{who}: parameters must be a Tensor or several, such as model.parameters()"
    if not isinstance(parameters, Tensor) and (
        not isinstance(parameters, Iterable)
        or isinstance(parameters, (str, dict))
        or hasattr(parameters, "dtype")
    ):
        raise TypeError(f"{takes}; it is {shown(parameters)}")
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in parameters:
        if not isinstance(p, Tensor):
            raise TypeError(f"{takes}; one of them is {shown(p)}")
        if p.grad is not None and not isinstance(p.grad, Tensor):
            raise TypeError(
                f"{who}: a parameter of shape {p.shape} has a gradient that is {shown(p.grad)}; it "
                "must be a Tensor, or None"
            )
        if p.grad is not None and p.grad.dtype.kind != "f":
            raise TypeError(
                f"{who}: a parameter of shape {p.shape} has a gradient of "
                f"{p.grad.dtype}; it must be floats"
            )
        if (
            p.grad is not None
            and isinstance(p.grad._data, np.ndarray)
            and not p.grad._data.flags.writeable
        ):
            raise ValueError(
                f"{who}: a parameter of shape {p.shape} has a gradient in read-only memory, which "
                "cannot be changed in place: p.grad = Tensor(array.copy())"
            )
    recording = capturing.current()
    if recording is not None:
        recording.reads_gradients(parameters)
    return [p.grad._data for p in parameters if p.grad is not None]
