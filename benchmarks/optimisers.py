"""Rows for AdamW: one step on the parameters of a model, with fixed gradients; used by the suites
"ops" and "kernels".

The definition updates one parameter after another, as one would write it; the kernel updates blocks
that span all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.inputs import normal
from benchmarks.row import Contender, Row, Work
from benchmarks.work import pytorch, threads

Shapes = list[tuple[int, ...]]
# the lr is large, so that the gate notices a mistake
OPTIONS = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}
TINY: dict[str, Shapes] = {"two small arrays": [(3, 4), (5,)]}
MLP: dict[str, Shapes] = {
    "MLP 784-256-256-10": [(256, 784), (256,), (256, 256), (256,), (10, 256), (10,)]
}


def small_vit() -> dict[str, Shapes]:
    from tinycv.vision import ViT

    return {"ViT(28, 7, 10)": [p.shape for p in ViT(28, 7, 10).parameters()]}


def optimisers(quick: bool = False) -> list[Row]:
    result = []
    for name, shapes in (TINY if quick else small_vit() | MLP).items():
        contenders = (
            Contender("kernel", by_kernel, (shapes,)),
            Contender("definition", by_definition, (shapes,)),
            pytorch(by_torch, shapes),
        )
        result.append(Row("optimiser", f"AdamW, {name}", contenders, "step"))
    return result


def by_kernel(shapes: Shapes, device: str = "cpu") -> Work:
    from tinycv import Tensor
    from tinycv.nn import Parameter
    from tinycv.optim import AdamW

    def tensor(a: Any) -> Any:
        return Tensor(a, device=device)

    params = [Parameter(tensor(a)) for a in normal(*shapes)]
    return stepping(params, tensor, AdamW(params, **OPTIONS).step)


def by_definition(shapes: Shapes) -> Work:
    from tinycv import Tensor
    from tinycv.nn import Parameter
    from tinycv.optim.adam import adamw

    params = [Parameter(a) for a in normal(*shapes)]
    moments = [(0.0, 0.0) for _ in shapes]
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        for i, p in enumerate(params):
            p.data, m, v = adamw(p._data, p.grad._data, *moments[i], count, **OPTIONS)
            moments[i] = m, v

    return stepping(params, Tensor, step)


def by_torch(shapes: Shapes, device: str = "cpu") -> Work:
    import torch

    torch.set_num_threads(threads())

    def tensor(a: Any) -> Any:
        return torch.from_numpy(a).to(device)

    params = [torch.nn.Parameter(tensor(a)) for a in normal(*shapes)]
    return stepping(params, tensor, torch.optim.AdamW(params, **OPTIONS, fused=True).step)


def stepping(params: list, tensor: Callable, step: Callable[[], Any]) -> Work:
    """The Work of one step. Two steps are taken before it, with other gradients, because the first
    step of Adam depends only on the signs of the gradients."""
    gradients = normal(*[tuple(p.shape) for p in reversed(params)])[::-1]
    for factor in (3, -0.1, 1):
        for p, g in zip(params, gradients, strict=True):
            p.grad = tensor(g * g.dtype.type(factor))
        if factor != 1:
            step()

    def work() -> dict[str, Any]:
        step()
        return {f"parameter {i}": p for i, p in enumerate(params)}

    return work
