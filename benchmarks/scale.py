"""The suite "scale": time and memory against size, so that a crossover is seen and not one lucky
speed-up.

Each group is one sweep: a row a size, ``point`` its axis and place on it. Models take a training
step as the suite "models" does; attention and convolution stand alone, forward and backward, to
inputs and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.inputs import normal
from benchmarks.models import is_split
from benchmarks.row import Contender, Row, Work
from benchmarks.tasks import Lstm, Task, Transformer, Vit
from benchmarks.work import NO_TORCH, there_and_back, threads, weight_for

BATCHES, WIDTHS = (8, 16, 32, 64, 128, 256), (32, 64, 128, 256)
TOKENS, STEPS, SIDES = (128, 256, 512, 1024, 2048, 4096), (16, 32, 64, 128, 256), (8, 16, 32, 64)
HEADS, HEAD = 4, 32  # of the attention alone, and its batch of 1
IMAGES, CHANNELS = 16, 32  # of the convolution alone


def rows(quick: bool = False) -> list[Row]:
    """Every sweep; if quick, the first place of each function that stands alone, and of the LSTM,
    all tiny."""
    if quick:
        return [
            *attention((8,)),
            *convolution((8,)),
            *models("LSTM: steps", "steps", ((4, Lstm(2, 4, 2, 4, 3)),)),
        ]
    return [
        *models("ViT: batch", "batch", ((n, Vit(n)) for n in BATCHES)),
        *models("ViT: width", "width", ((d, Vit(32, patch=4, width=d)) for d in WIDTHS)),
        *models("Transformer: batch", "batch", ((n, Transformer(n)) for n in BATCHES)),
        *models(
            "Transformer: width", "width", ((d, Transformer(width=d, mlp=4 * d)) for d in WIDTHS)
        ),
        *models("LSTM: steps", "steps", ((t, Lstm(32, t, 28, 128)) for t in STEPS)),
        *attention(TOKENS),
        *convolution(SIDES),
    ]


def models(group: str, axis: str, sizes: Iterable[tuple[int, Task]]) -> list[Row]:
    return [
        row(
            group,
            axis,
            size,
            task.flops(True),
            by_tinycv,
            (task, True, is_split(task)),
            by_torch,
            (task, True),
        )
        for size, task in sizes
    ]


def attention(sizes: Iterable[int]) -> list[Row]:
    return [
        row(
            "attention: tokens",
            "tokens",
            t,
            2.0 * 3 * 2 * HEADS * t * t * HEAD,
            alone_by_tinycv,
            ("scaled_dot_product_attention", t),
            alone_by_torch,
            ("scaled_dot_product_attention", t),
        )
        for t in sizes
    ]


def convolution(sizes: Iterable[int]) -> list[Row]:
    return [
        row(
            "convolution 3 x 3: side",
            "side",
            s,
            2.0 * 3 * IMAGES * s * s * 9 * CHANNELS**2,
            alone_by_tinycv,
            ("conv2d", s),
            alone_by_torch,
            ("conv2d", s),
        )
        for s in sizes
    ]


def row(
    group: str,
    axis: str,
    size: int,
    flops: float,
    ours: Callable,
    our_args: tuple,
    theirs: Callable,
    their_args: tuple,
) -> Row:
    return Row(
        group,
        f"{axis} {size}",
        (
            Contender("tinycv", ours, our_args),
            Contender("PyTorch", theirs, their_args, missing=NO_TORCH),
        ),
        "step",
        flops=flops,
        point=(axis, size),
        memory=True,
    )


# ── a function alone ──────────────────────────────────────────────────────────────────────────────


def inputs(name: str, size: int) -> list[np.ndarray]:
    if name == "conv2d":
        return normal((IMAGES, CHANNELS, size, size), (CHANNELS, CHANNELS, 3, 3), (CHANNELS,))
    return normal(*[(1, HEADS, size, HEAD)] * 3)


def alone_by_tinycv(name: str, size: int) -> Work:
    import tinycv

    home = tinycv.nn.functional if name == "conv2d" else tinycv.sequence
    return alone(
        getattr(home, name),
        name,
        [tinycv.Tensor(a, requires_grad=True) for a in inputs(name, size)],
        tinycv.Tensor,
    )


def alone_by_torch(name: str, size: int) -> Work:
    import torch

    torch.set_num_threads(threads())
    return alone(
        getattr(torch.nn.functional, name),
        name,
        [torch.tensor(a, requires_grad=True) for a in inputs(name, size)],
        torch.tensor,
    )


def alone(function: Callable, name: str, leaves: list, tensor: Callable) -> Work:
    how: dict[str, Any] = {"padding": 1} if name == "conv2d" else {}
    return there_and_back(
        lambda *xs: function(*xs, **how), leaves, weight_for(function(*leaves, **how), tensor)
    )
