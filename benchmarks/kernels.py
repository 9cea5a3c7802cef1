"""The suite "kernels": every CUDA kernel of tinycv beside the array calls that it replaces, and
beside PyTorch, on one GPU.

"array calls" is the same function without its kernel: the pair's own NumPy text run by CuPy. A
kernel that loses to it is to be deleted. Rows are forward and backward, at three sizes: a small
model's, where launches decide, a large model's, where bytes do, and the digits' in between. The
optimisers' rows change all parameters of a small ViT, and of one of 86 million.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.backends import gpu
from benchmarks.device import Waited, on_tinycv, on_torch, same_tf32
from benchmarks.inputs import INPUTS, OPTIONS, SIZES, TINY, Size
from benchmarks.ops import torch_function
from benchmarks.optimisers import by_kernel, by_torch
from benchmarks.row import Row, Work
from benchmarks.work import pair_by

LARGE = {
    "ViT-Base": Size(32, 197, 768, 12, 3072, 1000, (100, 128, 128, 512), (128, 128, 32)),
    **SIZES,
}
RTOL = 1e-3


def rows(quick: bool = False) -> list[Row]:
    sizes = TINY if quick else LARGE
    return [
        *(optimiser(label, shapes) for label, shapes in parameters(quick).items()),
        *(pair(name, label, size) for label, size in sizes.items() for name in with_kernel()),
    ]


def with_kernel() -> list[str]:
    """The pairs that have a CUDA kernel of their own, and the two that share convolution's."""
    from tinycv.engine.dispatch import member
    from tinycv.engine.fused import PAIRS

    return [
        *(name for name, pair in PAIRS.items() if member(pair.place)),
        "conv2d",
        "conv_transpose2d",
    ]


def places() -> list[str]:
    """Where the CUDA members of pairs, convolutions and optimisers are found: see
    tinycv/engine/dispatch.py."""
    from tinycv.engine.fused import PAIRS

    maps = [f"conv_kernel.{name}" for name in ("forward", "to_input", "to_weight")]
    return [*(pair.place for pair in PAIRS.values()), *maps, "adam.adam", "adam.adamw"]


def pair(name: str, label: str, size: Size) -> Row:
    return Row(
        name,
        label,
        (
            gpu("CUDA kernel", pair_on_gpu, (name, size, True)),
            gpu("array calls", pair_on_gpu, (name, size, False)),
            gpu("PyTorch on the GPU", pair_by_torch, (name, size)),
        ),
        rtol=RTOL,
    )


def parameters(quick: bool) -> dict[str, list[tuple]]:
    from tinycv.vision import ViT

    if quick:
        return {"two small arrays": [(3, 4), (5,)]}
    block = [
        (2304, 768),
        (2304,),
        (768, 768),
        (768,),
        (3072, 768),
        (3072,),
        (768, 3072),
        (768,),
        *[(768,)] * 4,
    ]
    return {
        "ViT(28, 7, 10)": [p.shape for p in ViT(28, 7, 10).parameters()],
        "ViT-Base": block * 12,
    }


def optimiser(label: str, shapes: list[tuple]) -> Row:
    return Row(
        "AdamW",
        label,
        (
            gpu("CUDA kernel", adamw_on_gpu, (shapes, True)),
            gpu("array calls", adamw_on_gpu, (shapes, False)),
            gpu("PyTorch on the GPU", adamw_by_torch, (shapes,)),
        ),
        "step",
        rtol=RTOL,
    )


def array_calls() -> AbstractContextManager:
    """Inside, no pair, convolution or optimiser takes its CUDA kernel: CuPy runs what NumPy
    runs."""
    from tinycv.engine import dispatch

    return mock.patch.dict(dispatch.OVERRIDES, dict.fromkeys(places()))


def by_arrays(kernel: bool, work: Work) -> Waited:
    """A Work on tinycv's GPU; its every call without kernels, unless they are wanted."""

    def queue() -> dict[str, Any]:
        with array_calls():
            return work()

    return on_tinycv(work if kernel else queue, lambda: None, "gpu")


def pair_on_gpu(name: str, size: Size, kernel: bool) -> Waited:
    from tinycv import Tensor
    from tinycv.engine.fused import PAIRS

    made = partial(
        pair_by,
        partial(PAIRS[name], **OPTIONS.get(name, {})),
        INPUTS[name](size),
        partial(Tensor, device="gpu"),
    )
    return by_arrays(kernel, made())


def pair_by_torch(name: str, size: Size) -> Waited:
    import torch

    same_tf32()
    return on_torch(
        pair_by(torch_function(name), INPUTS[name](size), partial(torch.tensor, device="cuda")),
        lambda: None,
    )


def adamw_on_gpu(shapes: list[tuple], kernel: bool) -> Waited:
    return by_arrays(kernel, by_kernel(shapes, "gpu"))


def adamw_by_torch(shapes: list[tuple]) -> Waited:
    return on_torch(by_torch(shapes, "cuda"), lambda: None)
