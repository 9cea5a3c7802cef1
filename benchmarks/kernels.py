"""The suite "kernels": every CUDA kernel of tinycv against the array calls that it replaces, and
against PyTorch, on one GPU.

"array calls" is the same function without its CUDA kernel: CuPy runs the NumPy code of the pair. A
CUDA kernel that loses to it should be deleted. The rows are forward and backward, at the sizes of a
small model, where the launches take the time, of a large one, where the memory traffic does, and of
one in between. The rows of the optimiser update all parameters of a small ViT, and of one with 86
million.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.backends import gpu
from benchmarks.device import Waited, on_tinycv, on_torch, same_tf32
from benchmarks.inputs import INPUTS, OPTIONS, SIZES, TINY, Size
from benchmarks.ops import torch_function
from benchmarks.optimisers import TINY as FEW_PARAMETERS
from benchmarks.optimisers import Shapes, by_kernel, by_torch, small_vit
from benchmarks.row import Row, Work
from benchmarks.work import pair_by

LARGE = {
    "ViT-Base": Size(32, 197, 768, 12, 3072, 1000, (100, 128, 128, 512), (128, 128, 32)),
    **SIZES,
}
# the shapes of the parameters of one encoder block of ViT-Base
BLOCK = [(2304, 768), (2304,), (768, 768), (768,), (3072, 768), (3072,), (768, 3072), (768,)]
BLOCK += [(768,)] * 4
RTOL = 1e-3


def rows(quick: bool = False) -> list[Row]:
    parameters = FEW_PARAMETERS if quick else small_vit() | {"ViT-Base": BLOCK * 12}
    result = [
        row("AdamW", label, adamw_on_gpu, adamw_by_torch, (shapes,), "step")
        for label, shapes in parameters.items()
    ]
    for label, size in (TINY if quick else LARGE).items():
        result += [
            row(name, label, pair_on_gpu, pair_by_torch, (name, size)) for name in with_kernel()
        ]
    return result


def row(
    name: str,
    label: str,
    make_tinycv: Callable,
    make_torch: Callable,
    args: tuple,
    of: str = "call",
) -> Row:
    contenders = (
        gpu("CUDA kernel", make_tinycv, (*args, True)),
        gpu("array calls", make_tinycv, (*args, False)),
        gpu("PyTorch on the GPU", make_torch, args),
    )
    return Row(name, label, contenders, of, rtol=RTOL)


def with_kernel() -> list[str]:
    """The pairs that have a CUDA kernel."""
    from tinycv.engine.dispatch import member
    from tinycv.engine.fused import PAIRS

    return [name for name, pair in PAIRS.items() if member(pair.place)]


def dispatch_names() -> list[str]:
    """The names under which tinycv/engine/dispatch.py finds the CUDA kernels of pairs, convolutions
    and optimisers."""
    from tinycv.engine.fused import PAIRS

    maps = [f"conv_kernel.{name}" for name in ("forward", "to_input", "to_weight")]
    return [*(pair.place for pair in PAIRS.values()), *maps, "adam.adam", "adam.adamw"]


def array_calls() -> AbstractContextManager:
    """Inside this context no pair, convolution or optimiser uses its CUDA kernel: CuPy runs the
    same array calls as NumPy."""
    from tinycv.engine import dispatch

    return mock.patch.dict(dispatch.OVERRIDES, dict.fromkeys(dispatch_names()))


def with_or_without_kernel(kernel: bool, work: Work) -> Waited:
    """The Work on the GPU, with tinycv's CUDA kernels if ``kernel`` is true, else without them."""

    def queue() -> dict[str, Any]:
        with array_calls():
            return work()

    return on_tinycv(work if kernel else queue, lambda: None, "gpu")


def pair_on_gpu(name: str, size: Size, kernel: bool) -> Waited:
    from tinycv import Tensor
    from tinycv.engine.fused import PAIRS

    function = partial(PAIRS[name], **OPTIONS.get(name, {}))
    return with_or_without_kernel(
        kernel, pair_by(function, INPUTS[name](size), partial(Tensor, device="gpu"))
    )


def pair_by_torch(name: str, size: Size) -> Waited:
    import torch

    same_tf32()
    tensor = partial(torch.tensor, device="cuda")
    return on_torch(pair_by(torch_function(name), INPUTS[name](size), tensor), lambda: None)


def adamw_on_gpu(shapes: Shapes, kernel: bool) -> Waited:
    return with_or_without_kernel(kernel, by_kernel(shapes, "gpu"))


def adamw_by_torch(shapes: Shapes) -> Waited:
    return on_torch(by_torch(shapes, "cuda"), lambda: None)
