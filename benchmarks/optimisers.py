"""Of the suite "ops": a step of AdamW on the parameters of two models, with gradients that are
given.

The definition goes parameter by parameter, as one would write it; the kernel over blocks of all of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.inputs import normal
from benchmarks.row import Contender, Row, Work
from benchmarks.work import pytorch, threads

# a large lr: the gate must see a mistake
OPTIONS = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}
MLP = [(256, 784), (256,), (256, 256), (256,), (10, 256), (10,)]


def optimisers(quick: bool = False) -> list[Row]:
    from tinycv.vision import ViT

    models = (
        {"two small arrays": [(3, 4), (5,)]}
        if quick
        else {
            "ViT(28, 7, 10)": [p.shape for p in ViT(28, 7, 10).parameters()],
            "MLP 784-256-256-10": MLP,
        }
    )
    return [
        Row(
            "optimiser",
            f"AdamW, {name}",
            (
                Contender("kernel", by_kernel, (shapes,)),
                Contender("definition", by_definition, (shapes,)),
                pytorch(by_torch, shapes),
            ),
            "step",
        )
        for name, shapes in models.items()
    ]


def by_kernel(shapes: list[tuple], device: str = "cpu") -> Work:
    from tinycv import Tensor
    from tinycv.nn import Parameter
    from tinycv.optim import AdamW

    params = [Parameter(Tensor(a, device=device)) for a in normal(*shapes)]
    return stepping(params, partial(Tensor, device=device), AdamW(params, **OPTIONS).step)


def by_definition(shapes: list[tuple]) -> Work:
    from tinycv import Tensor
    from tinycv.nn import Parameter
    from tinycv.optim.adam import adamw

    params, state, steps = (
        [Parameter(a) for a in normal(*shapes)],
        [[0.0, 0.0] for _ in shapes],
        [0],
    )

    def step() -> None:
        steps[0] += 1
        for p, means in zip(params, state, strict=True):
            p.data, *means[:] = adamw(p._data, p.grad._data, *means, steps[0], **OPTIONS)

    return stepping(params, Tensor, step)


def by_torch(shapes: list[tuple], device: str = "cpu") -> Work:
    import torch

    torch.set_num_threads(threads())
    params = [torch.nn.Parameter(torch.from_numpy(a).to(device)) for a in normal(*shapes)]
    return stepping(
        params,
        lambda a: torch.from_numpy(a).to(device),
        torch.optim.AdamW(params, **OPTIONS, fused=True).step,
    )


def stepping(params: list, tensor: Callable, step: Callable[[], Any]) -> Work:
    """Steps, the first two before anything is compared: the very first follows only the gradients'
    signs."""
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
