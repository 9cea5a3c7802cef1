"""The suite "backends": the same tinycv code on NumPy and on CuPy, over sizes, so that the crossover is seen; and PyTorch
on each.

NumPy is the first contender. A GPU's work is waited for inside what is timed, and its data is there beforehand, as in
training; device.py tells the first call, the copying, and host and device apart. Models on NumPy go in a part for each core
where that pays (models.py, is_split), and whole on CuPy, whose GPU is one device. Without a GPU its times are "not
measured", and why.  The rows "reference" are of sizes for a GPU alone: CuPy first, against PyTorch's eager mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.device import on_tinycv, on_torch, same_tf32, torch_problem
from benchmarks.inputs import normal
from benchmarks.measure import Contender, Row, Work
from benchmarks.models import is_split
from benchmarks.ops import NO_TORCH
from benchmarks.tasks import Gan, Lstm, Mlp, Task, Transformer, UNet, Vit

LENGTH = 8                                      # ops in a row, so that a GPU's queue fills as in a network
SIDES, COUNTS = (64, 256, 1024, 4096), (10 ** 4, 10 ** 5, 10 ** 6, 10 ** 7)
BATCHES = (8, 32, 128, 512)
MODELS: dict[str, Callable[[int], Task]] = {
    "MLP": Mlp, "LSTM": Lstm, "Transformer": Transformer, "ViT": Vit,
    "wide ViT": partial(Vit, patch=4, width=128, heads=8), "U-Net": UNet}
TINY: dict[str, Callable[[int], Task]] = {"tiny MLP": partial(Mlp, widths=(6, 5, 3))}
REFERENCE: dict[str, Task] = {
    "ViT-Base": Vit(64, 224, 16, 768, 12, 12, 1000), "Transformer": Transformer(32, 512, 512, 8, 2048, 6, 10_000),
    "DCGAN": Gan(128, 100, 64), "LSTM": Lstm(128, 100, 128, 512, 10)}
RTOL = 1e-3                                     # a GPU sums in another order, over more parts


def rows(quick: bool = False) -> list[Row]:
    """Every sweep; if quick, one tiny place of each kind. The reference first: a session on a GPU may run out of time."""
    sides, counts, batches, of = ((8,), (100,), (4,), TINY) if quick else (SIDES, COUNTS, BATCHES, MODELS)
    products = [row("matrix product", "side", n, (chain, "matmul", (n, n)), flops=2.0 * LENGTH * n ** 3) for n in sides]
    elements = [row("elementwise", "elements", n, (chain, "elementwise", (n,)), bytes=4.0 * n * LENGTH / 2 * (3 + 2))
                for n in counts]
    large = {} if quick else REFERENCE
    return [*(reference(name, task) for name, task in large.items()), *products, *elements,
            *(model(name, make(batch)) for name, make in of.items() for batch in batches)]


def row(group: str, axis: str, size: int, work: tuple, **cost: float) -> Row:
    make, *args = work
    contenders = [Contender("NumPy", make, (*args, "tinycv", "cpu")), gpu("CuPy", make, (*args, "tinycv", "gpu")),
                  Contender("PyTorch", make, (*args, "torch", "cpu"), missing=NO_TORCH),
                  gpu("PyTorch on the GPU", make, (*args, "torch", "cuda"))]
    return Row(group, f"{axis} {size}", tuple(contenders), point=(axis, size), rtol=RTOL, memory=True, **cost)


def model(name: str, task: Task) -> Row:
    contenders = (Contender("NumPy", by_tinycv, (task, True, is_split(task), "cpu")),
                  gpu("CuPy", by_tinycv, (task, True, False, "gpu")),
                  Contender("PyTorch", by_torch, (task, True), missing=NO_TORCH),
                  gpu("PyTorch on the GPU", by_torch, (task, True, False, False, "cuda")))
    return Row(f"{name} training step", f"batch {task.batch}", contenders, "step", flops=task.flops(True),
               point=("batch", task.batch), rtol=RTOL, memory=True)


def reference(name: str, task: Task) -> Row:
    return Row("reference", f"{name}, batch {task.batch}", (
        gpu("CuPy", by_tinycv, (task, True, False, "gpu")),
        gpu("PyTorch on the GPU", by_torch, (task, True, False, False, "cuda"))), "step", flops=task.flops(True), rtol=0.05)


def gpu(name: str, make: Callable[..., Work], args: tuple) -> Contender:
    from tinycv.engine import backend
    problem = torch_problem() if name.startswith("PyTorch") else backend.gpu_problem()
    return Contender(name, make, args, missing=str(problem or ""), on_device=True)


def chain(kind: str, shape: tuple[int, ...], library: str, device: str) -> Work:
    """LENGTH ops, each of the one before; none lets the values grow. Additions move 3 arrays, scalings 2."""
    hosts = normal(shape, shape)
    if library == "torch":
        import torch
        same_tf32()
        lib, there = torch, lambda a: torch.from_numpy(a).to(device)
    else:
        import tinycv
        lib, there = tinycv, lambda a: tinycv.Tensor(a, device=device)
    x, w = map(there, hosts)
    w = w / shape[0] ** 0.5 if kind == "matmul" else w

    def forward() -> dict[str, Any]:
        y = x
        with lib.no_grad():
            for _ in range(LENGTH if kind == "matmul" else LENGTH // 2):
                y = y @ w if kind == "matmul" else (y + w) * 0.5
        return {"result": y}

    def send() -> list:
        return [there(a) for a in hosts]
    if device == "cpu":
        return forward
    return on_torch(forward, send) if library == "torch" else on_tinycv(forward, send, device)
