"""Gumbel-softmax and the straight-through estimator: gradients through the choice of a class.

    g_k = -log(-log u_k),   u_k uniform in (0, 1)                   Gumbel noise
    argmax_k (l_k + g_k)  has the distribution softmax(l)           the Gumbel-max trick
    y = softmax((l + g) / τ)                                        Jang, Gu & Poole 2017;
                                                                    Maddison, Mnih & Teh 2017

l_k are the logits of K classes.  A network that has to choose one of them, such as a code of a
codebook, cannot be trained by gradients: argmax has the gradient 0 almost everywhere.
Gumbel-softmax replaces the argmax by a softmax with temperature τ.  The result is a point inside
the simplex (numbers of at least 0 whose sum is 1) instead of a one-hot vector, and it is a
differentiable function of the logits.  As τ goes to 0, it becomes the one-hot choice, and the
variance of its gradients grows.  For this reason τ starts near 1 and falls during training.

The straight-through estimator goes one step further: the forward pass uses the one-hot vector, and
the backward pass uses the gradient of the soft one (``hard=True``).  The gradient is biased, but
later layers see what they will see after training.  The same trick passes gradients through a
rounding or through the choice of the nearest vector (vector_quantizer.py).

Read first: softmax.py, distributions.py.   Read next: vector_quantizer.py.
Used in: likelihood/vq_vae.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import flag, shown
from tinycv.engine.backend import array_module
from tinycv.engine.errors import unknown_arguments
from tinycv.engine.ops import argmax, log
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.checks import array, axis_of
from tinycv.nn.distributions import open_interval
from tinycv.nn.inputs import Examples, finite
from tinycv.nn.softmax import softmax


def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    axis: int = -1,
    noise: Examples | None = None,
    **unknown: Any,
) -> Tensor:
    """A random point of the simplex near one of its corners, one for each row of logits along
    ``axis``. The corner has the distribution softmax(logits). Same shape as logits.

    tau: the temperature τ, more than 0. hard: return the corner itself, a one-hot vector; its
    gradient is that of the soft point (straight-through).
    noise: Gumbel noise in the shape of logits, to repeat a sample.
    differs: float16 is computed, and returned, in float32; axis is what PyTorch calls dim; there is
    no eps, which PyTorch ignores.
    """
    if unknown:
        known = ["logits", "tau", "hard", "axis", "noise"]
        hint = "; PyTorch's dim is called axis here" if "dim" in unknown else ""
        raise TypeError(
            f"gumbel_softmax: {unknown_arguments(unknown, 'gumbel_softmax', known)}{hint}"
        )
    tau, hard = finite(tau, "gumbel_softmax: tau", above=0), flag(hard, "gumbel_softmax: hard")
    array(logits, "gumbel_softmax: logits", "f", "an array or a Tensor of floats")
    axis = axis_of(axis, logits.ndim, "gumbel_softmax: axis", "logits")
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    logits = logits.astype(np.float32) if logits.dtype == np.float16 else logits
    if noise is None:
        noise = gumbel_noise(logits)
    array(noise, "gumbel_softmax: noise", "f", "an array or a Tensor of floats")
    if tuple(noise.shape) != tuple(logits.shape):
        raise ValueError(
            f"gumbel_softmax: noise is {shown(noise)}; it must have the shape {logits.shape} of "
            "logits"
        )
    noise = Tensor(bare(noise), dtype=logits.dtype, device=logits.device)
    soft = softmax((logits + noise) / tau, axis)
    return straight_through(one_hot_of_largest(soft, axis), soft) if hard else soft


def gumbel_noise(like: Tensor) -> Tensor:
    """-log(-log u) with u uniform in (0, 1), in the shape and dtype of a Tensor, on its device."""
    array(like, "gumbel_noise: like", "f", "an array or a Tensor of floats")
    numbers = bare(like)
    u = open_interval(Tensor(backend.uniform(numbers.shape, numbers, numbers.dtype)))
    return -log(-log(u))


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard`` with the gradient of ``soft``: the estimator of Bengio, Léonard &
    Courville 2013. Both have the same shape.

    The difference soft - soft is exactly 0, so the value is exactly that of ``hard``; the usual
    form soft + (hard - soft) would round.
    """
    for name, x in (("hard", hard), ("soft", soft)):
        array(x, f"straight_through: {name}", "f", "an array or a Tensor of floats")
    if tuple(hard.shape) != tuple(soft.shape):
        raise ValueError(
            f"straight_through: hard has shape {tuple(hard.shape)} and soft {tuple(soft.shape)}; "
            "they must be equal"
        )
    constant = soft.detach() if isinstance(soft, Tensor) else soft
    return Tensor(bare(hard)) + (soft - constant)


def one_hot_of_largest(x: Tensor, axis: int = -1) -> Tensor:
    """1 at the largest number along ``axis``, and 0 elsewhere: same shape and dtype as x. No
    gradient reaches x."""
    array(x, "one_hot_of_largest: x", "f", "an array or a Tensor of floats")
    axis = axis_of(axis, x.ndim, "one_hot_of_largest: axis")
    numbers = bare(x)
    xp = array_module(numbers)
    classes = xp.arange(numbers.shape[axis]).reshape([-1] + [1] * (numbers.ndim - 1 - axis))
    largest = xp.expand_dims(bare(argmax(Tensor(numbers), axis=axis)), axis)
    return Tensor((classes == largest).astype(numbers.dtype))
