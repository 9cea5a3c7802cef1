"""Losses: one number that says how wrong a batch of predictions is.

    cross-entropy      L = -Σ_c q_c log p_c,   p = softmax(scores)
    label smoothing    q_c = (1 - ε) [c = target] + ε / C            Szegedy et al. 2016, section 7
    squared error      L = mean (x - y)²

Read next: binary_cross_entropy.py, for two outcomes.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from tinycv.engine.arguments import choice, number, shown
from tinycv.engine.backend import array_module
from tinycv.engine.fused import fused
from tinycv.engine.methods import astype
from tinycv.engine.ops import where
from tinycv.engine.reduce import exp_rows
from tinycv.engine.shards import divisor
from tinycv.engine.tensor import Parameter, Tensor, as_array, bare
from tinycv.nn.checks import array, index_of
from tinycv.nn.module import Module
from tinycv.nn.softmax import log_softmax


@fused(whole="target")
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
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
    q, counts, counted = target_distribution(
        target, bare(input), weight, ignore_index, label_smoothing
    )
    logp = log_softmax(where(counted, input, 0.0))  # (N, C)
    nothing = (bare(q) == 0) & (bare(logp) == -inf)
    loss = -(q * where(nothing, 0.0, logp)).sum(axis=-1)  # (N,)
    return (
        loss
        if reduction == "none"
        else loss.sum()
        if reduction == "sum"
        else loss.sum() / not_zero(divisor(counts))
    )


def target_distribution(
    target: Any, scores: Any, weight: Any, ignore_index: int, label_smoothing: float
) -> tuple:
    """What each row is asked to match, w q (N, C); what the mean divides by; and which scores
    count."""
    if getattr(weight, "requires_grad", False):
        no_gradient()
    xp, classes = array_module(scores), scores.shape[-1]
    weight = xp.ones(classes, scores.dtype) if weight is None else bare(weight).astype(scores.dtype)
    if target.dtype.kind == "f":
        q = target * (1 - label_smoothing) + label_smoothing / classes
        q = q * asked_for(weight, q)
        # in a row that counts for nothing only NaN and infinite scores are left out: the target's
        # gradient needs the others
        counted = (bare(q) != 0).any(axis=-1, keepdims=True)
        return q, scores.shape[0], counted | xp.isfinite(scores)
    target = bare(target)
    counted, there = target != ignore_index, (target >= 0) & (target < classes)
    # (N, C), one 1 a row
    q = (xp.arange(classes) == target[:, None]).astype(scores.dtype)
    q = q * (1 - label_smoothing) + label_smoothing / classes
    q = q * asked_for(weight, q)
    q = xp.where(counted[:, None], xp.where(there[:, None], q, xp.nan), 0.0).astype(scores.dtype)
    total = xp.where(
        counted, xp.where(there, weight[xp.where(there, target, 0)], xp.nan), 0.0
    ).sum()
    return q, total.astype(scores.dtype), (q != 0).any(axis=-1, keepdims=True)


def asked_for(weight: Any, q: Any) -> Any:
    """weight, but 0 where it has no bound and q is 0: inf * 0 would be NaN.

    A weight of 1 / (how often the class occurs) is infinite for a class that does not occur.
    """
    nothing = (bare(q) == 0) & ~array_module(bare(weight)).isfinite(bare(weight))
    return where(nothing, 0.0, weight)


def not_zero(total: Any) -> Any:
    """What a mean divides by, NaN in place of 0: the sum may be more than 0, by label smoothing,
    where all weights of the rows' own classes are 0. The mean over no rows is NaN too."""
    xp = array_module(total)
    return total or nan if xp is np else xp.where(total == 0, np.nan, total).astype(total.dtype)


def no_gradient() -> None:
    """TypeError if the class weights require a gradient."""
    raise TypeError(
        "cross_entropy: weight requires a gradient, but it is data and gets none; give "
        "weight.detach()"
    )


def check_reduction(reduction: str) -> None:
    """An error for a reduction that there is not."""
    if type(reduction) is not str or reduction not in ("mean", "sum", "none"):
        choice(reduction, "reduction", ("mean", "sum", "none"))


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
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
    input, target = (x if x.dtype.kind == "f" else astype(x) for x in (input, target))
    error = (input - target) ** 2
    return error if reduction == "none" else error.sum() if reduction == "sum" else error.mean()


class CrossEntropyLoss(Module):
    """``cross_entropy`` with its settings kept; weight is a buffer.

    differs: PyTorch's deprecated size_average and reduce are not accepted: pass all but weight by
    name.
    """

    def __init__(
        self,
        weight: Any = None,
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

    def forward(self, input: Any, target: Any) -> Any:
        return cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


def buffer(value: Any, what: str) -> Tensor | None:
    """Weights as a Tensor that does not learn. A Tensor that is none already is taken as it is.
    TypeError for one that requires a gradient: it would get none."""
    if value is None:
        return None
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"{what} requires a gradient, but it is data and gets none; give weight.detach()"
        )
    if not isinstance(value, (list, tuple)):
        array(value, what)
    return (
        value
        if isinstance(value, Tensor) and not isinstance(value, Parameter)
        else Tensor(as_array(value, what=what))
    )


def class_number(value: Any, what: str) -> int:
    """A whole number of either sign."""
    whole = index_of(value)
    if whole is None:
        raise TypeError(f"{what} is {shown(value)}; it must be a whole number")
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{what} is {whole}; it must fit into an integer of 64 bits")
    return whole


class MSELoss(Module):
    """``mse_loss`` with its reduction kept.

    differs: PyTorch's deprecated size_average and reduce are not accepted: pass reduction by name.
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = choice(reduction, "MSELoss: reduction", ("mean", "sum", "none"))

    def forward(self, input: Any, target: Any) -> Any:
        return mse_loss(input, target, self.reduction)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@cross_entropy.kernel
def _cross_entropy(
    xp, input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    ignore_index, smoothing = check(
        xp, input, target, weight, ignore_index, reduction, label_smoothing
    )
    if target.dtype.kind == "f":
        return against_shares(xp, input, target, weight, reduction, smoothing)
    classes, rows, weighed = input.shape[1], xp.arange(len(input)), weight is not None
    counted, share, plain = target != ignore_index, smoothing / classes, weight is None and xp is np
    # share: of each class, own: of the one asked for
    counts, own = counted.sum().astype(input.dtype), 1 - smoothing
    if not plain:
        there, target = (target >= 0) & (target < classes), xp.clip(target, 0, classes - 1)
        weight = xp.ones(classes, input.dtype) if weight is None else weight.astype(input.dtype)
        # NaN: out of range
        own = xp.where(counted, xp.where(there, weight[target], xp.nan), 0).astype(input.dtype)
        counts, own = own.sum(), own * (1 - smoothing)
        # a weight may be infinite
        share = weight * share if smoothing else xp.zeros_like(weight)
        counted = counted & ((own != 0) | (share != 0).any())
    every = xp is np and bool(counted.all())
    x, target = (
        (input, target)
        if every
        else (xp.where(counted[:, None], input, 0), xp.where(counted, target, 0))
    )
    p = xp.empty_like(x)
    total, top = exp_rows(xp, x, out=p)
    p /= total
    asked, whole = (x - top)[rows, target], 1 if plain else own + share.sum()
    if plain:
        loss = xp.log(total)[:, 0] - (asked * own if own else 0)
        if smoothing:
            loss -= (x - top).mean(axis=-1) * smoothing
    else:
        loss = (
            xp.log(total)[:, 0] * whole
            - xp.where(own == 0, 0, asked) * own
            - xp.where(share == 0, 0, x - top) @ share
        )
    loss = loss if every else xp.where(counted, loss, 0)  # (N,)
    counts = divisor(counts) if reduction == "mean" else None
    counts = not_zero(counts) if (weighed or xp is np) and reduction == "mean" else counts
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / counts

    def pull(g):  # softmax - q, and times g
        g = g if reduction != "mean" else g / counts
        g = xp.broadcast_to(g if every else xp.where(counted, g, 0), len(x))
        slope = p.copy() if plain else p * whole[:, None]
        if smoothing:
            slope -= share
        slope[rows, target] -= own
        slope *= g[:, None]
        return slope, None, no_gradient

    return y, pull


def against_shares(xp, input, target, weight, reduction, label_smoothing):
    """The kernel for a target of probabilities (N, C), which may itself want a gradient."""
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
    p = xp.empty_like(x)
    total, top = exp_rows(xp, x, out=p)
    p /= total
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


def check(
    xp: Any,
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[int, float]:
    """An error for arguments of cross_entropy that do not fit. Nothing on a GPU is looked at.
    Returns the two numbers."""
    check_reduction(reduction)
    if type(ignore_index) is not int or abs(ignore_index) > 2**62:
        ignore_index = class_number(ignore_index, "ignore_index")
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = number(label_smoothing, "label_smoothing", 0, 1)
    if array(input, "input").ndim != 2:
        raise ValueError(
            f"scores of shape {input.shape}: they must be (N, C); reshape others to (-1, C)"
        )
    array(target, "target", "iuf", "an array of class numbers, or one of probabilities")
    wanted = input.shape if target.dtype.kind == "f" else input.shape[:1]
    if target.shape != wanted:
        raise ValueError(
            f"scores of shape {input.shape} need a target of shape {wanted}; it has "
            f"{target.shape}, {target.dtype}"
        )
    if weight is not None and array(weight, "weight").shape != input.shape[1:]:
        raise ValueError(
            f"scores of shape {input.shape} need a weight of shape {input.shape[1:]}, one for each "
            f"class; it has {weight.shape}"
        )
    if xp is np and target.dtype.kind in "iu":
        bad = ((target < 0) | (target >= input.shape[1])) & (target != ignore_index)
        if bad.any():
            row = int(bad.argmax())
            raise IndexError(
                f"class {target[row]} in row {row} is out of range: there are {input.shape[1]} "
                f"classes, 0 to {input.shape[1] - 1}"
            )
    return ignore_index, label_smoothing
