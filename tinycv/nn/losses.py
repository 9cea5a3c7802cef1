"""Losses: one number that says how wrong a batch of predictions is.

    cross-entropy      L = -Σ_c q_c log p_c,   p = softmax(scores)
    label smoothing    q_c = (1 - ε) [c = target] + ε / C            Szegedy et al. 2016, section 7
    squared error      L = mean (x - y)²

Read next: binary_cross_entropy.py, for two outcomes.
"""

from __future__ import annotations

from math import inf, nan

import numpy as np

from tinycv.engine.arguments import choice, number
from tinycv.engine.create import one_hot
from tinycv.engine.fused import fused
from tinycv.engine.methods import astype
from tinycv.engine.ops import isfinite, where
from tinycv.engine.reduce import exp_rows
from tinycv.engine.shards import divisor
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.checks import array, buffer, check_cross_entropy, class_number, no_gradient
from tinycv.nn.module import Module
from tinycv.nn.softmax import log_softmax


@fused(whole="target")
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """How surprised softmax(input) is by target, in nats: -Σ_c w_c q_c log p_c for each row.

    input (N, C) scores; target (N,) class numbers, or (N, C) probabilities. weight: how much each
    class counts, (C,), or None for 1 each. Rows whose class is ignore_index count for nothing, and
    neither does what has weight 0 or probability
    0: whatever their scores are, NaN and infinity too, they reach neither loss nor gradient (0 log
    0 is 0).
    reduction: "mean" (over the rows that count, those of all shards in training/parallel.py; with
    class numbers and weights, the sum divided by the weights of these rows' classes), "sum", or
    "none" for (N,). Where no row counts, the mean is NaN, as PyTorch's, and the gradient 0.

    differs: PyTorch multiplies by 0, so that a class that is masked by a score of -inf makes the
    loss against probabilities NaN. PyTorch's deprecated size_average and reduce are not accepted,
    so pass ignore_index and what follows it by name. weight is data: it gets no gradient.
    IndexError names a class outside 0 ... C-1 (on a GPU the loss is NaN instead: to look would be
    to wait).
    """
    if getattr(weight, "requires_grad", False):
        no_gradient()
    if target.dtype.kind == "f":
        q, counts, counted = of_probabilities(target, input, weight, label_smoothing)
    else:
        q, counts, counted = of_classes(target, input, weight, label_smoothing, ignore_index)
    logp = log_softmax(where(counted, input, 0.0))  # (N, C)
    nothing = (q == 0) & (logp == -inf)
    loss = -(q * where(nothing, 0.0, logp)).sum(axis=-1)  # (N,)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return loss.sum() / not_zero(divisor(counts))


# Both return: w q (N, C), what each row is asked to match; what the mean divides by; and which
# scores count (N, C), or (N, 1).


def of_probabilities(
    target: Tensor, input: Tensor, weight: Tensor | None, label_smoothing: float
) -> tuple[Tensor, int, Tensor]:
    """For a target of probabilities (N, C)."""
    q = target * (1 - label_smoothing) + label_smoothing / input.shape[-1]
    q = q if weight is None else q * asked_for(weight, q)
    # In a row that counts for nothing only NaN and infinite scores are left out: the target's
    # gradient needs the others.
    counted = (q != 0).any(axis=-1, keepdims=True) | isfinite(input)
    return q, input.shape[0], counted


def of_classes(
    target: Tensor, input: Tensor, weight: Tensor | None, label_smoothing: float, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For a target of class numbers (N,). On a GPU a class out of range makes NaN: see one_hot."""
    target = target if isinstance(target, Tensor) else Tensor(target)
    counted = target != ignore_index  # (N,)
    hit = one_hot(where(counted, target, 0), input.shape[-1]).astype(input.dtype)  # (N, C)
    q = hit * (1 - label_smoothing) + label_smoothing / input.shape[-1]
    if weight is not None:
        q, hit = q * asked_for(weight, q), hit * asked_for(weight, hit)
    q = where(counted[:, None], q, 0.0)
    total = where(counted, hit.sum(axis=-1), 0.0).sum()
    return q, total, (q != 0).any(axis=-1, keepdims=True)


def asked_for(weight: ArrayLike, q: ArrayLike) -> ArrayLike:
    """weight, but 0 where it has no bound and q is 0: inf * 0 would be NaN.

    A weight of 1 / (how often the class occurs) is infinite for a class that does not occur.
    """
    return where((q == 0) & ~isfinite(weight), 0.0, weight)


def not_zero(total: ArrayLike) -> ArrayLike:
    """What a mean divides by, NaN in place of 0: the sum may be more than 0, by label smoothing,
    where all weights of the rows' own classes are 0. The mean over no rows is NaN too."""
    if isinstance(total, (int, np.generic)):
        return total or nan
    return where(total == 0, nan, total)


def mse_loss(input: Tensor, target: Tensor | np.ndarray, reduction: str = "mean") -> Tensor:
    """Mean squared error of two arrays of one shape. Integers and bools are taken as float32.

    differs: the shapes are equal, and none broadcasts. reduction is the third argument: PyTorch's
    deprecated size_average and reduce are not accepted, nor is weight.
    """
    array(input, "mse_loss: input")
    if input.shape != array(target, "mse_loss: target").shape:
        raise ValueError(
            f"mse_loss: input has shape {input.shape}, target {target.shape}; they must be equal"
        )
    choice(reduction, "mse_loss: reduction", ("mean", "sum", "none"))
    # integers would wrap
    input = input if input.dtype.kind == "f" else astype(input)
    target = target if target.dtype.kind == "f" else astype(target)
    error = (input - target) ** 2
    return error if reduction == "none" else error.sum() if reduction == "sum" else error.mean()


class CrossEntropyLoss(Module):
    """``cross_entropy`` with its settings kept; weight is a buffer.

    differs: PyTorch's deprecated size_average and reduce are not accepted: pass all but weight by
    name.
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        self.weight = buffer(weight, "CrossEntropyLoss: weight")
        if self.weight is not None and self.weight.ndim != 1:
            raise ValueError(
                f"CrossEntropyLoss: weight has shape {self.weight.shape}; it must be (C,), one for "
                "each class"
            )
        self.ignore_index = class_number(ignore_index, "CrossEntropyLoss: ignore_index")
        self.reduction = choice(reduction, "CrossEntropyLoss: reduction", ("mean", "sum", "none"))
        self.label_smoothing = number(label_smoothing, "CrossEntropyLoss: label_smoothing", 0, 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input (N, C) scores, target (N,) or (N, C). Returns the loss in nats."""
        return cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class MSELoss(Module):
    """``mse_loss`` with its reduction kept.

    differs: PyTorch's deprecated size_average and reduce are not accepted: pass reduction by name.
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = choice(reduction, "MSELoss: reduction", ("mean", "sum", "none"))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input and target of one shape. Returns the mean squared error."""
        return mse_loss(input, target, self.reduction)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@cross_entropy.kernel
def _cross_entropy(
    xp, input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    ignore_index, smoothing = check_cross_entropy(
        xp, input, target, weight, ignore_index, reduction, label_smoothing
    )
    if target.dtype.kind == "f":
        return against_shares(xp, input, target, weight, reduction, smoothing)
    if weight is None and xp is np:
        return against_classes(input, target, ignore_index, reduction, smoothing)
    return against_weighted_classes(xp, input, target, weight, ignore_index, reduction, smoothing)


def against_classes(input, target, ignore_index, reduction, smoothing):
    """The kernel for class numbers without weights, on the CPU."""
    rows, counted = np.arange(len(input)), target != ignore_index
    counts = counted.sum().astype(input.dtype)
    if counted.all():
        x, counted = input, None
    else:
        x, target = np.where(counted[:, None], input, 0), np.where(counted, target, 0)
    p, total, top = softmax_rows(np, x)
    own = 1 - smoothing
    loss = np.log(total)[:, 0] - ((x - top)[rows, target] * own if own else 0)
    if smoothing:
        loss -= (x - top).mean(axis=-1) * smoothing

    def slope():  # softmax - q
        d = p.copy()
        if smoothing:
            d -= smoothing / input.shape[1]
        d[rows, target] -= own
        return d

    counts = not_zero(divisor(counts)) if reduction == "mean" else None
    return reduced(np, loss, slope, counted, counts, reduction)


def against_weighted_classes(xp, input, target, weight, ignore_index, reduction, smoothing):
    """The kernel for class numbers with weights, and on a GPU. own (N,): the weight of a row's own
    class, less what smoothing takes of it; share (C,): what smoothing gives to each class."""
    classes, rows, counted = input.shape[1], xp.arange(len(input)), target != ignore_index
    there, target = (target >= 0) & (target < classes), xp.clip(target, 0, classes - 1)
    w = xp.ones(classes, input.dtype) if weight is None else weight.astype(input.dtype)
    # NaN: the class is out of range
    own = xp.where(counted, xp.where(there, w[target], xp.nan), 0).astype(input.dtype)
    counts, own = own.sum(), own * (1 - smoothing)
    # a weight may be infinite
    share = w * (smoothing / classes) if smoothing else xp.zeros_like(w)
    counted = counted & ((own != 0) | (share != 0).any())
    if xp is np and counted.all():
        x, counted = input, None
    else:
        x, target = xp.where(counted[:, None], input, 0), xp.where(counted, target, 0)
    p, total, top = softmax_rows(xp, x)
    whole = own + share.sum()
    loss = xp.log(total)[:, 0] * whole
    loss = loss - xp.where(own == 0, 0, (x - top)[rows, target]) * own
    loss = loss - xp.where(share == 0, 0, x - top) @ share

    def slope():  # w (softmax - q)
        d = p * whole[:, None]
        if smoothing:
            d -= share
        d[rows, target] -= own
        return d

    if reduction == "mean":
        counts = divisor(counts)
        counts = counts if weight is None and xp is not np else not_zero(counts)
    return reduced(xp, loss, slope, counted, counts, reduction)


def softmax_rows(xp, x):
    """softmax(x) of rows (N, C); and log Σ exp(x) = log(total) + top."""
    p = xp.empty_like(x)
    total, top = exp_rows(xp, x, out=p)
    p /= total
    return p, total, top


def reduced(xp, loss, slope, counted, counts, reduction):
    """(y, pull) from the losses (N,) of rows. slope(): their gradients (N, C); counted (N,): rows
    that count, None for all; counts: what the mean divides by."""
    loss = loss if counted is None else xp.where(counted, loss, 0)
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / counts

    def pull(g):
        g = g / counts if reduction == "mean" else g
        g = xp.broadcast_to(g if counted is None else xp.where(counted, g, 0), len(loss))
        d = slope()
        d *= g[:, None]
        return d, None, no_gradient

    return y, pull


def against_shares(xp, input, target, weight, reduction, label_smoothing):
    """The kernel for a target of probabilities (N, C), which may itself require a gradient."""
    q = target * (1 - label_smoothing) + label_smoothing / input.shape[1]
    if weight is not None:
        weight = asked_for(weight, q)
        q = q * weight
    left_out = ~(q != 0).any(axis=-1, keepdims=True)
    x = (
        input
        if xp is np and not left_out.any()
        else xp.where(left_out & ~xp.isfinite(input), 0, input)
    )
    p, total, top = softmax_rows(xp, x)
    logp = x - top - xp.log(total)
    logp = xp.where((q == 0) & (logp == -inf), 0, logp)  # 0 log 0 = 0
    loss = -(q * logp).sum(axis=-1)  # (N,)
    counts = not_zero(divisor(len(input))) if reduction == "mean" else None
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / counts

    def pull(g):
        g = g[:, None] if reduction == "none" else g if reduction == "sum" else g / counts

        def along_target():
            slope = -logp * ((1 - label_smoothing) * g)
            return slope if weight is None else slope * weight

        return (p * q.sum(axis=-1, keepdims=True) - q) * g, along_target, no_gradient

    return y, pull
