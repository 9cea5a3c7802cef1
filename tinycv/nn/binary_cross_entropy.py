"""Binary cross-entropy with logits: the loss for two outcomes, and of a GAN's discriminator.

    L = -[t log p + (1 - t) log (1 - p)],   p = sigmoid(score),  t the target

    -log p = softplus(-score) and -log (1 - p) = softplus(score), which never take the logarithm of
    a p that was rounded to 0 or 1.

Read first: losses.py.
"""

from __future__ import annotations

from math import inf

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import choice
from tinycv.engine.blocks import BLOCK, LARGE, in_blocks
from tinycv.engine.fused import fused
from tinycv.engine.ops import isfinite, softplus, where
from tinycv.engine.reduce import axes_by_stride, mean_over
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.checks import buffer, check_binary
from tinycv.nn.layout import flattened, unflattened
from tinycv.nn.losses import weight_where_used
from tinycv.nn.module import Module


@fused
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy in nats between target, a probability, and sigmoid(input), at every entry.
    With the targets 1 and 0 these are the losses of a GAN.

    input: scores of any shape. target: the same shape, 0 to 1. weight multiplies the loss of an
    entry, pos_weight only its term for target 1; both broadcast to the shape of input.
    reduction: "mean", "sum", or "none" for the shape of input.

    NaN and infinity. A term with the factor 0 is selected away instead of multiplied by 0, which
    could be NaN:
    - An entry of weight 0 may have any score and target, even NaN and infinity. They reach neither
      the loss nor the gradient.
    - An infinite score on the right side (p = 1 for target 1, p = 0 for target 0) costs 0.
    - pos_weight may be infinite where the target is 0. A pos_weight of (entries with target 0) /
      (entries with target 1) is infinite where no entry has the target 1.

    differs: pos_weight is the fourth argument and reduction the fifth, since PyTorch's deprecated
    size_average and reduce are not accepted; pass both by name. For an infinite score on the right
    side PyTorch returns NaN.
    """
    counted = counted_entries(input, target, weight, pos_weight)
    if counted is not None:
        input, target = where(counted, input, 0.0), where(counted, target, 0.0)
    if pos_weight is None:
        share_1, share_0 = target, 1 - target
    else:
        share_1, share_0 = target * weight_where_used(pos_weight, target), 1 - target
    loss_1 = without_infinity(softplus(-input), share_1)  # -log p
    loss_0 = without_infinity(softplus(input), share_0)  # -log (1 - p)
    loss = share_1 * loss_1 + share_0 * loss_0
    loss = loss if counted is None else where(counted, loss, 0.0)
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def counted_entries(
    input: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None
) -> Tensor | None:
    """Which entries count; None for all. An entry of weight 0 is left out only if its score or its
    target is not finite: otherwise its loss is multiplied by 0 anyway."""
    if weight is None and pos_weight is None:
        return None
    counts = True if weight is None else weight != 0
    if pos_weight is not None:
        counts = counts & ((target != 1) | (target * pos_weight != 0))
    return counts | (isfinite(input) & isfinite(target))


def without_infinity(surprise: Tensor, share: Tensor) -> Tensor:
    """The surprise -log p, but 0 where it is infinite and its share is 0: 0 log 0 = 0."""
    return where((share == 0) & (surprise == inf), 0.0, surprise)


class BCEWithLogitsLoss(Module):
    """``binary_cross_entropy_with_logits`` as a layer that keeps the settings. weight and
    pos_weight are buffers.

    differs: PyTorch's deprecated size_average and reduce are not accepted, so pass every argument
    after weight by name.
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
        """input: scores. target: the same shape, 0 to 1. Returns the loss in nats."""
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
        if weight is None and pos_weight is None and input.size:
            y, pull = unweighted_loss(input, target, reduction)
        else:
            y, pull = binary_loss(xp, input, target, weight, pos_weight, reduction)
        if np.isfinite(y.sum()):
            return y, pull
    return with_infinities(xp, input, target, weight, pos_weight, reduction)


def unweighted_loss(input, target, reduction):
    """The kernel for finite scores and targets without weights, in blocks: softplus(x) - x t, with
    the gradient sigmoid(x) - t computed in the same pass."""
    order = axes_by_stride(input)
    x, t = flattened(input, order), flattened(target, order)
    losses = np.empty_like(x) if reduction == "none" else None
    slope, sums = np.empty_like(x), {}

    def work(at):
        part, d = x[at], slope[at]
        loss = np.clip(part, 0, inf, out=None if losses is None else losses[at])  # max(x, 0)
        # The two large terms first: their difference may be small, and so is log(1 + e).
        loss -= np.multiply(part, t[at], out=d)
        e = np.abs(part)
        np.exp(np.negative(e, out=e), out=e)  # at most 1, so it never overflows
        loss += backend.log1p(np, e)
        sums[at.start] = float(loss.sum())
        d[...] = part >= 0
        np.maximum(d, e, out=d)
        e += 1
        d /= e  # sigmoid(x): 1 / (1 + e) where x >= 0, e / (1 + e) elsewhere
        d -= t[at]

    # Blocks of a fixed size, so that the sum does not depend on the number of cores
    in_blocks(np, work, x.size, size=BLOCK // 2)
    if reduction == "none":
        y = unflattened(losses, input, order)
    else:
        total = sum(sums[start] for start in sorted(sums))
        y = np.array(total / x.size if reduction == "mean" else total, x.dtype)

    def pull(g):
        g = g / x.size if reduction == "mean" else g
        if g.ndim:
            return lambda: unflattened(slope, input, order) * g, lambda: -input * g, None, None
        return lambda: scaled(slope, g), lambda: scaled(x, -g), None, None

    def scaled(values, number):
        product = np.empty_like(values)

        def work(at):
            np.multiply(values[at], number, out=product[at])

        in_blocks(np, work, x.size, least=LARGE)
        return unflattened(product, input, order)

    return y, pull


def binary_loss(xp, input, target, weight, pos_weight, reduction):
    """The kernel for finite scores and targets.

    softplus(x) = max(x, 0) + log(1 + e) with e = exp(-|x|), so the loss
    share_1 softplus(-x) + share_0 softplus(x) is (share_1 + share_0) softplus(x) - share_1 x.
    """
    # at most 1, so it never overflows; loss and gradient both use it
    e = xp.exp(-xp.abs(input))
    loss, rest = xp.maximum(input, 0), backend.log1p(xp, e)
    share_1, total = target, None  # total: share_1 + share_0, None for 1
    if pos_weight is not None:
        share_1 = target * pos_weight
        total = share_1 + (1 - target)
        loss *= total
        rest *= total
    # The two large terms first: their difference may be small, and so is rest. Added earlier, rest
    # would lose its last digits.
    loss -= input * share_1
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
            slope -= share_1
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
    """The kernel for scores and targets that may be infinite or NaN, with the rules of the
    definition."""
    counted = counted_entries(input, target, weight, pos_weight)
    x, t = (a if counted is None else xp.where(counted, a, 0) for a in (input, target))
    pos_weight = None if pos_weight is None else weight_where_used(pos_weight, t)
    share_1, share_0 = t if pos_weight is None else t * pos_weight, 1 - t
    loss_1, loss_0 = (
        xp.where((share == 0) & (surprise == inf), 0, surprise)
        for share, surprise in ((share_1, softplus(-x)), (share_0, softplus(x)))
    )
    loss = share_1 * loss_1 + share_0 * loss_0
    loss = loss if counted is None else xp.where(counted, loss, 0)
    full = loss if weight is None else loss * weight
    y = full if reduction == "none" else full.sum() if reduction == "sum" else mean_over(xp, full)

    def pull(g):
        g = g / max(input.size, 1) if reduction == "mean" else g
        h = g if weight is None else g * weight
        h = h if counted is None else xp.where(counted, h, 0)
        e = xp.exp(-xp.abs(x))
        sigmoid_x = xp.where(x >= 0, 1, e) / (1 + e)
        return (
            lambda: (sigmoid_x * (share_1 + share_0) - share_1) * h,
            lambda: ((loss_1 if pos_weight is None else pos_weight * loss_1) - loss_0) * h,
            lambda: loss * g,
            lambda: t * loss_1 * h,
        )

    return y, pull
