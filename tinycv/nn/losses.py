"""Losses: one number that says how wrong a batch of predictions is.

    cross-entropy      L = -Σ_c q_c log p_c,   p = softmax(scores)
    label smoothing    q_c = (1 - ε) [c = target] + ε / C            Szegedy et al. 2016, section 7
    binary             L = -[t log p + (1 - t) log (1 - p)],   p = sigmoid(score)
    squared error      L = mean (x - y)²
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.backend import array_module
from tinycv.engine.fused import fused
from tinycv.engine.ops import softplus
from tinycv.engine.reduce import exp_rows
from tinycv.engine.shards import divisor
from tinycv.engine.tensor import bare
from tinycv.nn.module import Module
from tinycv.nn.softmax import log_softmax


@fused(whole="target")
def cross_entropy(input: Any, target: Any, label_smoothing: float = 0.0, reduction: str = "mean",
                  ignore_index: int = -100) -> Any:
    """How surprised softmax(input) is by target, in nats.

    input (N, C) scores; target (N,) class numbers, or (N, C) probabilities. Rows whose class is ignore_index count
    for nothing. reduction: "mean" (over the rows that count, those of all shards in parallel.py), "sum", or "none" for (N,).
    differs: where no row counts, the mean is NaN as PyTorch's, and so is its gradient, which is 0 there.
    IndexError names a class outside 0 ... C-1 (on a GPU the loss is NaN instead: to look would be to wait).
    """
    q, counts = target_distribution(target, bare(input), label_smoothing, ignore_index)
    loss = -(q * log_softmax(input)).sum(axis=-1)                   # (N,)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / divisor(counts)


def target_distribution(target: Any, scores: Any, label_smoothing: float, ignore_index: int) -> tuple:
    """(q, how many rows count): the distribution (N, C) that each row is asked to match."""
    xp, classes = array_module(scores), scores.shape[-1]
    if target.dtype.kind == "f":
        return target * (1 - label_smoothing) + label_smoothing / classes, scores.shape[0]
    target = bare(target)
    counted = target != ignore_index
    q = (xp.arange(classes) == target[:, None]).astype(scores.dtype)                 # (N, C), one 1 a row
    q = q * (1 - label_smoothing) + label_smoothing / classes
    wrong = ((target < 0) | (target >= classes)) & counted
    q = xp.where(wrong[:, None], xp.nan, q * counted[:, None]).astype(scores.dtype)
    return q, counted.sum().astype(scores.dtype)


@fused
def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, pos_weight: Any = None,
                                     reduction: str = "mean") -> Any:
    """How surprised sigmoid(input) is by target, a probability, at every entry, in nats: GAN's losses, with 0 and 1.

    input (...) scores, target the same shape, 0 to 1; weight scales entries, pos_weight those of target 1; both
    broadcast to input. reduction: "mean", "sum", or "none" for the shape of input.
    differs: pos_weight is the fourth argument and reduction the fifth; PyTorch has obsolete ones between.
    """
    on, off = softplus(-input), softplus(input)                     # -log p and -log (1 - p), where p may round to 0 or 1
    loss = (target if pos_weight is None else target * pos_weight) * on + (1 - target) * off
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def check_reduction(reduction: str) -> None:
    """ValueError for a reduction that there is not."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Mean squared error of two arrays of one shape."""
    if input.shape != target.shape:
        raise ValueError(f"mse_loss: input has shape {input.shape}, target {target.shape}; they must be equal")
    check_reduction(reduction)
    error = (input - target) ** 2
    return error if reduction == "none" else error.sum() if reduction == "sum" else error.mean()


class CrossEntropyLoss(Module):
    """``cross_entropy`` with its settings kept."""

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean", ignore_index: int = -100):
        self.label_smoothing, self.reduction, self.ignore_index = label_smoothing, reduction, ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return cross_entropy(input, target, self.label_smoothing, self.reduction, self.ignore_index)


class BCEWithLogitsLoss(Module):
    """``binary_cross_entropy_with_logits`` with its settings kept; weight and pos_weight are buffers."""

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None):
        self.weight, self.pos_weight, self.reduction = weight, pos_weight, reduction

    def forward(self, input: Any, target: Any) -> Any:
        return binary_cross_entropy_with_logits(input, target, self.weight, self.pos_weight, self.reduction)


class MSELoss(Module):
    """``mse_loss`` with its reduction kept."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        return mse_loss(input, target, self.reduction)


# ── below this line: speed. The definition above is what it must equal ───────────────────────────


@cross_entropy.kernel
def _cross_entropy(xp, input, target, label_smoothing=0.0, reduction="mean", ignore_index=-100):
    check(xp, input, target, reduction, ignore_index)
    if target.dtype.kind == "f":
        return against_shares(xp, input, target, label_smoothing, reduction)
    n, classes = input.shape
    counted, rows = target != ignore_index, xp.arange(n)
    weight = xp.where((target >= 0) & (target < classes), 1.0, xp.nan).astype(input.dtype)      # NaN: out of range
    weight = xp.where(counted, weight, 0.0)
    p, target = xp.empty_like(input), xp.where(counted, target, 0)
    total, top = exp_rows(xp, input, out=p)
    p /= total
    loss = xp.log(total)[:, 0] - (input - top)[rows, target] * (1 - label_smoothing)
    if label_smoothing:
        loss -= (input - top).mean(axis=-1) * label_smoothing
    loss *= weight                                                  # (N,)
    counts = divisor(counted.sum().astype(input.dtype)) if reduction == "mean" else None
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / counts

    def pull(g):                                                    # softmax - q, and times g
        g = weight * (g if reduction != "mean" else g / counts)
        slope = p - label_smoothing / classes if label_smoothing else p.copy()
        slope[rows, target] -= 1 - label_smoothing
        slope *= g[:, None]
        return slope

    return y, pull


def against_shares(xp, input, target, label_smoothing, reduction):
    """The kernel for a target of probabilities (N, C), which may itself want a gradient."""
    p = xp.empty_like(input)
    total, top = exp_rows(xp, input, out=p)
    p /= total
    logp = input - top - xp.log(total)
    q = target * (1 - label_smoothing) + label_smoothing / input.shape[1]
    loss = -(q * logp).sum(axis=-1)                                 # (N,)
    counts = divisor(len(input)) if reduction == "mean" else None
    y = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / counts

    def pull(g):
        g = g[:, None] if reduction == "none" else g if reduction == "sum" else g / counts
        return (p * q.sum(axis=-1, keepdims=True) - q) * g, lambda: -logp * ((1 - label_smoothing) * g)

    return y, pull


def check(xp: Any, input: Any, target: Any, reduction: str, ignore_index: int) -> None:
    """ValueError or IndexError for scores, targets and class numbers that do not fit. Nothing on a GPU is looked at."""
    check_reduction(reduction)
    if input.ndim != 2:
        raise ValueError(f"scores of shape {input.shape}: they must be (N, C); reshape others to (-1, C)")
    wanted = input.shape if target.dtype.kind == "f" else input.shape[:1]
    if target.shape != wanted:
        raise ValueError(f"scores of shape {input.shape} want a target of shape {wanted}; it has {target.shape}, "
                         f"{target.dtype}")
    if xp is np and target.dtype.kind in "iu":
        bad = ((target < 0) | (target >= input.shape[1])) & (target != ignore_index)
        if bad.any():
            row = int(bad.argmax())
            raise IndexError(f"class {target[row]} in row {row} is out of range: there are {input.shape[1]} classes, "
                             f"0 to {input.shape[1] - 1}")


@binary_cross_entropy_with_logits.kernel
def _binary_cross_entropy_with_logits(xp, input, target, weight=None, pos_weight=None, reduction="mean"):
    check_reduction(reduction)
    if input.shape != target.shape:
        raise ValueError(f"scores of shape {input.shape} and target of shape {target.shape}: they must be equal")
    e = xp.exp(-xp.abs(input))                                      # never overflows; loss and gradient are made of it
    loss, rest, on, total = xp.maximum(input, 0), backend.log1p(xp, e), target, None
    if pos_weight is not None:                                      # on, total: what an entry of target 1, and any, weighs
        on = target * pos_weight
        total = on + (1 - target)
        loss *= total
        rest *= total
    loss -= input * on                                              # before rest is added, which is small beside it
    loss += rest
    full = loss if weight is None else loss * weight
    y = full if reduction == "none" else full.sum() if reduction == "sum" else full.mean()

    def pull(g):
        g = g / input.size if reduction == "mean" else g
        h = g if weight is None else g * weight

        def along_input():
            slope = xp.where(input >= 0, 1.0, e)
            slope /= 1 + e                                          # sigmoid(input)
            if total is not None:
                slope *= total
            slope -= on
            slope *= h
            return slope

        def along_target():
            return -input * h if pos_weight is None else (pos_weight * softplus(-input) - softplus(input)) * h

        return along_input, along_target, lambda: loss * g, lambda: target * softplus(-input) * h

    return y, pull
