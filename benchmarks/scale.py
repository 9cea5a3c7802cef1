"""The suite "scale": time and memory against size, so that a crossover is seen and not one lucky
speed-up.

Each group is one sweep: one row per size, ``point`` its axis and place on it. Models take a
training step as the suite "models" does; attention and convolution stand alone, forward and
backward, to inputs and weights, as the suite "ops" has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.inputs import SIZES, Size
from benchmarks.models import is_split
from benchmarks.ops import pair_by_tinycv, pair_by_torch
from benchmarks.row import Contender, Row
from benchmarks.tasks import Lstm, Task, Transformer, Vit
from benchmarks.work import pytorch

BATCHES, WIDTHS = (8, 16, 32, 64, 128, 256), (32, 64, 128, 256)
TOKENS, STEPS, SIDES = (128, 256, 512, 1024, 2048, 4096), (16, 32, 64, 128, 256), (8, 16, 32, 64)
HEADS, HEAD = 4, 32  # of the attention alone, and its batch of 1
IMAGES, CHANNELS = 16, 32  # of the convolution alone


def rows(quick: bool = False) -> list[Row]:
    """Every sweep; if quick, the first place of each function that stands alone, and of the LSTM,
    all tiny."""
    if quick:
        lstm = Lstm(2, 4, 2, 4, 3)
        return [*attention((8,)), *convolution((8,)), *models("LSTM: steps", {4: lstm})]
    wide = {d: Transformer(width=d, mlp=4 * d) for d in WIDTHS}
    return [
        *models("ViT: batch", {n: Vit(n) for n in BATCHES}),
        *models("ViT: width", {d: Vit(32, patch=4, width=d) for d in WIDTHS}),
        *models("Transformer: batch", {n: Transformer(n) for n in BATCHES}),
        *models("Transformer: width", wide),
        *models("LSTM: steps", {t: Lstm(32, t, 28, 128) for t in STEPS}),
        *attention(TOKENS),
        *convolution(SIDES),
    ]


def models(group: str, tasks: Mapping[int, Task]) -> list[Row]:
    """A training step at each size."""
    made = []
    for size, task in tasks.items():
        ours = Contender("tinycv", by_tinycv, (task, True, is_split(task)))
        made.append(row(group, size, task.flops(True), ours, pytorch(by_torch, task, True)))
    return made


def attention(sizes: Iterable[int]) -> list[Row]:
    made = []
    for t in sizes:
        flops = 2.0 * 3 * 2 * HEADS * t * t * HEAD
        size = SIZES["MNIST ViT"]._replace(batch=1, tokens=t, width=HEADS * HEAD, heads=HEADS)
        made.append(alone("attention: tokens", t, "scaled_dot_product_attention", size, flops))
    return made


def convolution(sizes: Iterable[int]) -> list[Row]:
    made = []
    for s in sizes:
        flops = 2.0 * 3 * IMAGES * s * s * 9 * CHANNELS**2
        size = SIZES["MNIST ViT"]._replace(conv=(IMAGES, CHANNELS, s))
        made.append(alone("convolution 3 x 3: side", s, "conv2d", size, flops))
    return made


def alone(group: str, place: int, name: str, size: Size, flops: float) -> Row:
    """A function without a model around it."""
    ours = Contender("tinycv", pair_by_tinycv, (name, "kernel", size))
    return row(group, place, flops, ours, pytorch(pair_by_torch, name, size))


def row(group: str, size: int, flops: float, ours: Contender, theirs: Contender) -> Row:
    """The group's name ends in its axis: "ViT: batch"."""
    axis = group.rpartition(": ")[2]
    return Row(
        group,
        f"{axis} {size}",
        (ours, theirs),
        "step",
        flops=flops,
        point=(axis, size),
        memory=True,
    )
