"""Binary cross-entropy of scores: the loss of two outcomes, and of the discriminator of a GAN.

    L = -[t log p + (1 - t) log (1 - p)],   p = sigmoid(score)

Read before: losses.py.
"""

from __future__ import annotations

from math import inf

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import choice
from tinycv.engine.fused import fused
from tinycv.engine.ops import isfinite, softplus, where
from tinycv.engine.reduce import mean_over
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.checks import buffer, check_binary
from tinycv.nn.losses import asked_for
from tinycv.nn.module import Module


@fused
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """How surprised sigmoid(input) is by target, a probability, at every entry, in nats: GAN's
    losses, with 0 and 1.

    input (...) scores, target the same shape, 0 to 1; weight scales entries, pos_weight those of
    target 1; both broadcast to input. reduction: "mean", "sum", or "none" for the shape of input.
    Entries of weight 0 count for nothing, whatever score and target are: NaN and infinity reach
    neither loss nor gradient. pos_weight may be infinite where target is 0, as none / 0 is where
    nothing has the target 1.
    differs: pos_weight is the fourth argument and reduction the fifth. PyTorch's deprecated
    size_average and reduce are not accepted, so pass both by name. A score that is infinite, and
    right, costs 0, where PyTorch says NaN.
    """
    counted = counted_entries(input, target, weight, pos_weight)
    if counted is not None:
        input, target = where(counted, input, 0.0), where(counted, target, 0.0)
    if pos_weight is None:
        one, other = target, 1 - target
    else:
        one, other = target * asked_for(pos_weight, target), 1 - target
    # -log p, -log (1 - p)
    on, off = without_infinity(softplus(-input), one), without_infinity(softplus(input), other)
    loss = one * on + other * off
    loss = loss if counted is None else where(counted, loss, 0.0)
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def counted_entries(
    input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None
) -> Tensor | None:
    """Where an entry counts; None for everywhere. One of weight 0 is only left out if score or
    target is not finite."""
    if weight is None and pos_weight is None:
        return None
    counts = True if weight is None else weight != 0
    if pos_weight is not None:
        counts = counts & ((target != 1) | (target * pos_weight != 0))
    return counts | (isfinite(input) & isfinite(target))


def without_infinity(surprise: Tensor, share: Tensor) -> Tensor:
    """0 where the surprise is infinite at something that has no share: 0 log 0 = 0."""
    return where((share == 0) & (surprise == inf), 0.0, surprise)


class BCEWithLogitsLoss(Module):
    """``binary_cross_entropy_with_logits`` with its settings kept; weight and pos_weight are
    buffers.

    differs: PyTorch's deprecated size_average and reduce are not accepted: pass all but weight by
    name.
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        reduction: str = "mean",
        pos_weight: ArrayLike | None = None,
    ):
        self.weight = buffer(weight, "BCEWithLogitsLoss: weight")
        self.pos_weight = buffer(pos_weight, "BCEWithLogitsLoss: pos_weight")
        self.reduction = choice(reduction, "BCEWithLogitsLoss: reduction", ("mean", "sum", "none"))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input (...) scores, target of the same shape, 0 to 1. Returns the loss in nats."""
        return binary_cross_entropy_with_logits(
            input, target, self.weight, self.pos_weight, self.reduction
        )


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@binary_cross_entropy_with_logits.kernel
def _binary_cross_entropy_with_logits(
    xp, input, target, weight=None, pos_weight=None, reduction="mean"
):
    check_binary(input, target, weight, pos_weight, reduction)
    if xp is np:
        y, pull = binary_loss(xp, input, target, weight, pos_weight, reduction)
        if np.isfinite(y.sum()):
            return y, pull
    return with_infinities(xp, input, target, weight, pos_weight, reduction)


def binary_loss(xp, input, target, weight, pos_weight, reduction):
    """The kernel for finite scores and targets."""
    # never overflows; loss and gradient are made of it
    e = xp.exp(-xp.abs(input))
    loss, rest, on, total = xp.maximum(input, 0), backend.log1p(xp, e), target, None
    # on, total: what an entry of target 1, and any, weighs
    if pos_weight is not None:
        on = target * pos_weight
        total = on + (1 - target)
        loss *= total
        rest *= total
    # before rest is added, which is small beside it
    loss -= input * on
    loss += rest
    full = loss if weight is None else loss * weight
    y = full if reduction == "none" else full.sum() if reduction == "sum" else mean_over(xp, full)

    def pull(g):
        g = g / max(input.size, 1) if reduction == "mean" else g
        h = g if weight is None else g * weight

        def along_input():
            slope = xp.where(input >= 0, 1.0, e)
            slope /= 1 + e  # sigmoid(input)
            if total is not None:
                slope *= total
            slope -= on
            slope *= h
            return slope

        def along_target():
            return (
                -input * h
                if pos_weight is None
                else (pos_weight * softplus(-input) - softplus(input)) * h
            )

        return along_input, along_target, lambda: loss * g, lambda: target * softplus(-input) * h

    return y, pull


def with_infinities(xp, input, target, weight, pos_weight, reduction):
    """The kernel for scores and targets that may be infinite or NaN: these are left out where they
    have no weight."""
    counted = counted_entries(input, target, weight, pos_weight)
    x, t = (a if counted is None else xp.where(counted, a, 0) for a in (input, target))
    pos_weight = None if pos_weight is None else asked_for(pos_weight, t)
    one, other = t if pos_weight is None else t * pos_weight, 1 - t
    on, off = (
        xp.where((share == 0) & (surprise == inf), 0, surprise)
        for share, surprise in ((one, softplus(-x)), (other, softplus(x)))
    )
    loss = one * on + other * off
    loss = loss if counted is None else xp.where(counted, loss, 0)
    full = loss if weight is None else loss * weight
    y = full if reduction == "none" else full.sum() if reduction == "sum" else mean_over(xp, full)

    def pull(g):
        g = g / max(input.size, 1) if reduction == "mean" else g
        h = g if weight is None else g * weight
        h = h if counted is None else xp.where(counted, h, 0)
        e = xp.exp(-xp.abs(x))
        share = xp.where(x >= 0, 1, e) / (1 + e)  # sigmoid(x)
        return (
            lambda: (share * (one + other) - one) * h,
            lambda: ((on if pos_weight is None else pos_weight * on) - off) * h,
            lambda: loss * g,
            lambda: t * on * h,
        )

    return y, pull
