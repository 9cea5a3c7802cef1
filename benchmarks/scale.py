"""The suite "scale": time and memory as a function of size, to show where one library overtakes
another.

Each group is one sweep, with one row per size; the row's ``point`` names the axis and the size.
Models do a training step, as in the suite "models". Attention and convolution are measured without
a model around them, forward and backward, with gradients of inputs and weights, as in the suite
"ops".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.inputs import SIZES, Size
from benchmarks.models import way
from benchmarks.ops import pair_by_tinycv, pair_by_torch
from benchmarks.row import Contender, Row
from benchmarks.tasks import Lstm, Task, Transformer, Vit
from benchmarks.work import pytorch

BATCHES, WIDTHS = (8, 16, 32, 64, 128, 256), (32, 64, 128, 256)
TOKENS, STEPS, SIDES = (128, 256, 512, 1024, 2048, 4096), (16, 32, 64, 128, 256), (8, 16, 32, 64)
HEADS, HEAD = 4, 32  # heads and their width, of the attention without a model; its batch is 1
IMAGES, CHANNELS = 16, 32  # of the convolution without a model


def rows(quick: bool = False) -> list[Row]:
    """All sweeps; if quick, one tiny size of attention, convolution and the LSTM."""
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
    result = []
    for size, task in tasks.items():
        tinycv = Contender("tinycv", by_tinycv, (task, True, way(task, True)))
        result.append(row(group, size, task.flops(True), tinycv, pytorch(by_torch, task, True)))
    return result


def attention(sizes: Iterable[int]) -> list[Row]:
    result = []
    for t in sizes:
        flops = 2.0 * 3 * 2 * HEADS * t * t * HEAD
        size = SIZES["MNIST ViT"]._replace(batch=1, tokens=t, width=HEADS * HEAD, heads=HEADS)
        result.append(
            single_function("attention: tokens", t, "scaled_dot_product_attention", size, flops)
        )
    return result


def convolution(sizes: Iterable[int]) -> list[Row]:
    result = []
    for s in sizes:
        flops = 2.0 * 3 * IMAGES * s * s * 9 * CHANNELS**2
        size = SIZES["MNIST ViT"]._replace(conv=(IMAGES, CHANNELS, s))
        result.append(single_function("convolution 3 x 3: side", s, "conv2d", size, flops))
    return result


def single_function(group: str, axis_value: int, name: str, size: Size, flops: float) -> Row:
    """A row for one function, without a model around it."""
    tinycv = Contender("tinycv", pair_by_tinycv, (name, "kernel", size))
    return row(group, axis_value, flops, tinycv, pytorch(pair_by_torch, name, size))


def row(group: str, size: int, flops: float, tinycv: Contender, torch: Contender) -> Row:
    """A row at one size. The name of the group ends with its axis, as in "ViT: batch"."""
    axis = group.rpartition(": ")[2]
    return Row(
        group,
        f"{axis} {size}",
        (tinycv, torch),
        "step",
        flops=flops,
        point=(axis, size),
        memory=True,
    )
