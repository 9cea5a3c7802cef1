"""The suite "backends": the same tinycv code on NumPy and on CuPy, over sizes, so that the crossover is seen.

NumPy is the first contender. A GPU's work is waited for inside what is timed, and its data is there beforehand, as in
training: a step copies nothing but what it returns. Models on NumPy go in a part for each core where that pays
(models.py, is_split), and whole on CuPy, whose GPU is one device. Without a GPU its times are "not measured", and why.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.contenders import by_tinycv, finished
from benchmarks.inputs import normal
from benchmarks.measure import Contender, Row, Work
from benchmarks.models import is_split
from benchmarks.tasks import Lstm, Mlp, Task, Transformer, UNet, Vit

LENGTH = 8                                      # ops in a row, so that a GPU's queue fills as in a network
SIDES, COUNTS = (64, 256, 1024, 4096), (10 ** 4, 10 ** 5, 10 ** 6, 10 ** 7)
BATCHES = (8, 32, 128, 512)
MODELS: dict[str, Callable[[int], Task]] = {
    "MLP": Mlp, "LSTM": Lstm, "Transformer": Transformer, "ViT": Vit,
    "wide ViT": partial(Vit, patch=4, width=128, heads=8), "U-Net": UNet}
TINY: dict[str, Callable[[int], Task]] = {"tiny MLP": partial(Mlp, widths=(6, 5, 3))}
RTOL = 1e-3                                     # a GPU sums in another order, over more parts


def rows(quick: bool = False) -> list[Row]:
    """Every sweep; if quick, one tiny place of each kind."""
    sides, counts, batches, of = ((8,), (100,), (4,), TINY) if quick else (SIDES, COUNTS, BATCHES, MODELS)
    products = [row("matrix product", "side", n, (chain, "matmul", (n, n)), flops=2.0 * LENGTH * n ** 3) for n in sides]
    elements = [row("elementwise", "elements", n, (chain, "elementwise", (n,)), bytes=4.0 * n * LENGTH / 2 * (3 + 2))
                for n in counts]
    return [*products, *elements, *(model(name, make(batch)) for name, make in of.items() for batch in batches)]


def row(group: str, axis: str, size: int, work: tuple, **cost: float) -> Row:
    make, *args = work
    return Row(group, f"{axis} {size}", pair(make, tuple(args), tuple(args)), point=(axis, size), rtol=RTOL, memory=True,
               **cost)


def model(name: str, task: Task) -> Row:
    numpy, cupy = (task, True, is_split(task)), (task, True, False)
    return Row(f"{name} training step", f"batch {task.batch}", pair(by_tinycv, numpy, cupy), "step",
               flops=task.flops(True), point=("batch", task.batch), rtol=RTOL, memory=True)


def pair(make: Callable[..., Work], numpy: tuple, cupy: tuple) -> tuple[Contender, Contender]:
    from tinycv.engine import backend
    problem = backend.gpu_problem()
    return (Contender("NumPy", make, (*numpy, "cpu")),
            Contender("CuPy", make, (*cupy, "gpu"), missing="" if problem is None else str(problem)))


def chain(kind: str, shape: tuple[int, ...], device: str) -> Work:
    """LENGTH ops, each of the one before; none lets the values grow. Additions move 3 arrays, scalings 2."""
    import tinycv
    from tinycv.engine import backend
    x, w = (tinycv.Tensor(a, device=device) for a in normal(shape, shape))
    w = w / shape[0] ** 0.5 if kind == "matmul" else w

    def forward() -> dict[str, Any]:
        y = x
        with tinycv.no_grad():
            for _ in range(LENGTH if kind == "matmul" else LENGTH // 2):
                y = y @ w if kind == "matmul" else (y + w) * 0.5
        return {"result": y}
    return finished(forward, partial(backend.synchronize, device))
