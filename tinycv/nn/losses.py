"""Losses: cross-entropy (with label smoothing and class weights) and mean squared error.

    cross-entropy      L = -Σ_c q_c log p_c,   p = softmax(scores)
    label smoothing    q_c = (1 - ε) [c = target] + ε / C            Szegedy et al. 2016, section 7
    squared error      L = mean (x - y)²

Shapes: N rows (examples), C classes; scores, p and q are (N, C).
Read first: softmax.py.   Read next: binary_cross_entropy.py, for two outcomes.
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
    """Cross-entropy in nats between the target and softmax(input): -Σ_c w_c q_c log p_c per row.

    input (N, C) scores. target (N,) class numbers, or (N, C) probabilities. weight (C,): how much
    each class counts, w_c, or None for 1 each. ignore_index: rows of this class are left out.
    reduction: "none" gives one loss per row, (N,); "sum" adds them up; "mean" divides the sum by N
    for a target of probabilities, and by the number of rows that are not left out for a target of
    class numbers (with weights, by the sum of the weights of these rows' classes). In data-parallel
    training the mean is over the rows of all shards (training/parallel.py).

    NaN and infinity. A term with w_c q_c = 0 should contribute 0, but in floating point 0 * inf and
    0 * NaN are NaN. So such terms are selected away instead of multiplied by 0:
    - A row that is left out, or in which every w_c q_c is 0, may have any scores, even NaN and
      infinity. They reach neither the loss nor the gradient.
    - In any other row a class with w_c q_c = 0 may have the score -inf, as from a mask: its term is
      0 (0 log 0 = 0). A NaN or +inf anywhere in such a row makes the row's loss NaN.
    - If no row counts, the mean is NaN, as in PyTorch, and the gradient is 0.
    - A class number outside 0 ... C-1 is an IndexError. On a GPU the loss is NaN instead, because
      checking the value would mean waiting for the GPU.

    differs: PyTorch multiplies by 0, so against probabilities a score of -inf makes its loss NaN.
    PyTorch's deprecated size_average and reduce are not accepted, so pass ignore_index and the
    arguments after it by name. weight is data: it gets no gradient.
    """
    if getattr(weight, "requires_grad", False):
        no_gradient()
    if target.dtype.kind == "f":
        q, counts, counted = of_probabilities(target, input, weight, label_smoothing)
    else:
        q, counts, counted = of_classes(target, input, weight, label_smoothing, ignore_index)
    logp = log_softmax(where(counted, input, 0.0))  # (N, C)
    vanishing = (q == 0) & (logp == -inf)  # 0 log 0
    loss = -(q * where(vanishing, 0.0, logp)).sum(axis=-1)  # (N,)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return loss.sum() / not_zero(divisor(counts))


# The next two functions return q, counts, counted: the weighted target w q (N, C); the divisor of
# the mean; and which scores are used, bools (N, C) or (N, 1).


def of_probabilities(
    target: Tensor, input: Tensor, weight: Tensor | None, label_smoothing: float
) -> tuple[Tensor, int, Tensor]:
    """For a target of probabilities (N, C)."""
    q = target * (1 - label_smoothing) + label_smoothing / input.shape[-1]
    q = q if weight is None else q * weight_where_used(weight, q)
    # In a row with q = 0 everywhere only NaN and infinite scores are left out: the gradient of the
    # target, -log p, needs the finite ones.
    counted = (q != 0).any(axis=-1, keepdims=True) | isfinite(input)
    return q, input.shape[0], counted


def of_classes(
    target: Tensor, input: Tensor, weight: Tensor | None, label_smoothing: float, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For a target of class numbers (N,). On a GPU, one_hot turns a class that is out of range into
    NaN."""
    target = target if isinstance(target, Tensor) else Tensor(target)
    counted = target != ignore_index  # (N,)
    hit = one_hot(where(counted, target, 0), input.shape[-1]).astype(input.dtype)  # (N, C)
    q = hit * (1 - label_smoothing) + label_smoothing / input.shape[-1]
    if weight is not None:
        q, hit = q * weight_where_used(weight, q), hit * weight_where_used(weight, hit)
    q = where(counted[:, None], q, 0.0)
    total = where(counted, hit.sum(axis=-1), 0.0).sum()
    return q, total, (q != 0).any(axis=-1, keepdims=True)


def weight_where_used(weight: ArrayLike, q: ArrayLike) -> ArrayLike:
    """weight, but 0 where it is infinite or NaN and q is 0, since inf * 0 would be NaN.

    Infinite weights do occur: 1 / (number of examples of the class), for a class without examples.
    """
    return where((q == 0) & ~isfinite(weight), 0.0, weight)


def not_zero(total: ArrayLike) -> ArrayLike:
    """The divisor of a mean, with NaN instead of 0, so that the mean is NaN and not infinite.

    The divisor is 0 if there are no rows, or if all their classes have weight 0. In the second case
    label smoothing may still make the sum positive, and sum / 0 would be infinite.
    """
    if isinstance(total, (int, np.generic)):
        return total or nan
    return where(total == 0, nan, total)


def mse_loss(input: Tensor, target: Tensor | np.ndarray, reduction: str = "mean") -> Tensor:
    """Mean squared error between two arrays of the same shape. Integers and bools are converted to
    float32.

    reduction: "mean", "sum", or "none" for the squared error of each entry.
    differs: the shapes have to be equal; nothing broadcasts. reduction is the third argument, since
    PyTorch's deprecated size_average and reduce are not accepted. PyTorch's weight is not either.
    """
    array(input, "mse_loss: input")
    if input.shape != array(target, "mse_loss: target").shape:
        raise ValueError(
            f"mse_loss: input has shape {input.shape}, target {target.shape}; they must be equal"
        )
    choice(reduction, "mse_loss: reduction", ("mean", "sum", "none"))
    # squares of integers would overflow, and wrap around
    input = input if input.dtype.kind == "f" else astype(input)
    target = target if target.dtype.kind == "f" else astype(target)
    error = (input - target) ** 2
    return error if reduction == "none" else error.sum() if reduction == "sum" else error.mean()


class CrossEntropyLoss(Module):
    """``cross_entropy`` as a layer that keeps the settings. weight is a buffer.

    differs: PyTorch's deprecated size_average and reduce are not accepted, so pass every argument
    after weight by name.
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
    """``mse_loss`` as a layer that keeps the reduction.

    differs: PyTorch's deprecated size_average and reduce are not accepted, so pass reduction by
    name.
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = choice(reduction, "MSELoss: reduction", ("mean", "sum", "none"))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input and target of the same shape. Returns the mean squared error."""
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
    """The kernel for class numbers without class weights, on a CPU."""
    rows, counted = np.arange(len(input)), target != ignore_index
    count = np.count_nonzero(counted)
    counts = input.dtype.type(count)
    if count == len(input):
        x, counted = input, None
    else:
        x, target = np.where(counted[:, None], input, 0), np.where(counted, target, 0)
    p, total, top = softmax_rows(np, x)
    target_share = 1 - smoothing  # q of the target's class, before smoothing adds its part
    loss = np.log(total)[:, 0]
    if target_share:
        own = x[rows, target] - (top if top.ndim == 0 else top[:, 0])
        loss -= own if target_share == 1 else own * target_share
    if smoothing:
        loss -= (x - top).mean(axis=-1) * smoothing

    def slope():  # softmax - q
        d = p.copy()
        if smoothing:
            d -= smoothing / input.shape[1]
        d[rows, target] -= target_share
        return d

    counts = not_zero(divisor(counts)) if reduction == "mean" else None
    return reduced(np, loss, slope, counted, counts, reduction)


def against_weighted_classes(xp, input, target, weight, ignore_index, reduction, smoothing):
    """The kernel for class numbers with class weights, and for all class numbers on a GPU.

    The weighted target w q is kept as two parts, so that no (N, C) array is needed for it:
    own_weight (N,) is w (1 - ε) at the row's own class, and share (C,) is w ε / C at every class,
    from label smoothing.
    """
    classes, rows, counted = input.shape[1], xp.arange(len(input)), target != ignore_index
    in_range, target = (target >= 0) & (target < classes), xp.clip(target, 0, classes - 1)
    w = xp.ones(classes, input.dtype) if weight is None else weight.astype(input.dtype)
    # a class that is out of range makes NaN
    own_weight = xp.where(counted, xp.where(in_range, w[target], xp.nan), 0).astype(input.dtype)
    counts, own_weight = own_weight.sum(), own_weight * (1 - smoothing)
    # 0 without smoothing, and not w * 0, which is NaN for an infinite weight
    share = w * (smoothing / classes) if smoothing else xp.zeros_like(w)
    counted = counted & ((own_weight != 0) | (share != 0).any())
    if xp is np and counted.all():
        x, counted = input, None
    else:
        x, target = xp.where(counted[:, None], input, 0), xp.where(counted, target, 0)
    p, total, top = softmax_rows(xp, x)
    row_weight = own_weight + share.sum()  # Σ_c w_c q_c
    loss = xp.log(total)[:, 0] * row_weight
    loss = loss - xp.where(own_weight == 0, 0, (x - top)[rows, target]) * own_weight
    loss = loss - xp.where(share == 0, 0, x - top) @ share

    def slope():  # w (softmax - q)
        d = p * row_weight[:, None]
        if smoothing:
            d -= share
        d[rows, target] -= own_weight
        return d

    if reduction == "mean":
        counts = divisor(counts)
        counts = counts if weight is None and xp is not np else not_zero(counts)
    return reduced(xp, loss, slope, counted, counts, reduction)


def softmax_rows(xp, x):
    """(p, total, top) of rows x (N, C): p = softmax(x), and log Σ exp(x) = log(total) + top."""
    p = xp.empty_like(x)
    total, top = exp_rows(xp, x, out=p)
    p /= total
    return p, total, top


def reduced(xp, loss, slope, counted, counts, reduction):
    """(y, pull) from the losses of the rows (N,). slope() returns their gradients (N, C). counted
    (N,): the rows that are not left out, None for all. counts: the divisor of the mean."""
    loss = loss if counted is None else xp.where(counted, loss, 0)
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / counts

    def pull(g):
        g = g / counts if reduction == "mean" else g
        g = g if counted is None else xp.where(counted, g, 0)
        d = slope()
        d *= g[:, None] if g.ndim else g
        return d, None, no_gradient

    return y, pull


def against_shares(xp, input, target, weight, reduction, label_smoothing):
    """The kernel for a target of probabilities (N, C), which may itself require a gradient."""
    q = target * (1 - label_smoothing) + label_smoothing / input.shape[1]
    if weight is not None:
        weight = weight_where_used(weight, q)
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
