"""The suite "backends": the same tinycv code on NumPy and on CuPy, over several sizes, and PyTorch
on CPU and GPU.

The sizes show from where on a GPU is faster. NumPy is the first contender. The time on a GPU
includes waiting for its result, but not copying the data to it, because in training the data are
already there; device.py measures copying, host and device separately. If splitting may help, models
on NumPy are also measured with one shard per core (models.py, way), and the GPU is compared
with the faster of the two. Without a GPU its rows say "not measured" and why.
The rows "reference" have sizes for a GPU alone. They compare CuPy with PyTorch's eager mode, in
float32 with the same TF32 setting; with CUDA graphs; and in float16. One row has only the matrix
products of ViT-Base, to compare them with the peak of the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.device import on_tinycv, on_torch, same_tf32, torch_problem
from benchmarks.inputs import normal
from benchmarks.libraries import tinycv_parts, torch_parts
from benchmarks.models import way
from benchmarks.peaks import TF32
from benchmarks.row import Contender, Row, Work
from benchmarks.tasks import Gan, Lstm, Mlp, Task, Transformer, UNet, Vit, block
from benchmarks.work import NO_TORCH, threads

LENGTH = 8  # ops in one chain, so that the queue of a GPU fills as it does in a network
COUNTS, FEW, BATCHES = (10**3, 10**4, 10**5, 10**6, 10**7), (1, 8, 64, 512), (1, 8, 64)
MODELS: dict[str, Callable[[int], Task]] = {
    "MLP": Mlp,
    "LSTM": Lstm,
    "Transformer": Transformer,
    "ViT": Vit,
    "wide ViT": partial(Vit, patch=4, width=128, heads=8),
    "U-Net": UNet,
}
TINY: dict[str, Callable[[int], Task]] = {"tiny MLP": partial(Mlp, widths=(6, 5, 3))}
BASE = Vit(64, 224, 16, 768, 12, 12, 1000)
REFERENCE: dict[str, Task] = {
    "ViT-Base": BASE,
    "Transformer": Transformer(32, 512, 512, 8, 2048, 6, 10_000),
    "DCGAN": Gan(128, 100, 64),
    "LSTM": Lstm(128, 100, 128, 512, 10),
    "U-Net": UNet(64, 64, 64),
}
REFERENCES = (
    "reference",
    "reference, captured",
    "reference, float16",
    "reference, both captured",
    "reference, TF32",
)
# Groups that a model does not have: by_tinycv and by_torch scale no loss for the two optimisers of
# a GAN.
NEVER = {"DCGAN": ("reference, float16",)}
PARTS = {"tinycv": tinycv_parts, "torch": torch_parts}
# rtol if factors have 10 bits of fraction; the largest error seen was 0.052 (ViT-Base on an H100)
ROUNDED = 0.15
RTOL = 1e-3  # a GPU adds up sums in another order


class Sweep(NamedTuple):
    """One op over several sizes. shapes(n): the shapes of y and w at size n. link: one step of the
    chain, y <- link(lib, y, w). flops(n): those of one step."""

    axis: str
    sizes: tuple[int, ...]
    shapes: Callable[[int], tuple[tuple, tuple]]
    link: Callable[[Any, Any, Any], Any]
    flops: Callable[[int], float] | None = None


SWEEPS = {
    "matrix product": Sweep(
        "side",
        (64, 256, 1024, 2048),
        lambda n: ((n, n), (n, n)),
        lambda lib, y, w: y @ w,
        flops=lambda n: 2.0 * n**3,
    ),
    "elementwise": Sweep(
        "elements", COUNTS, lambda n: ((n,), (n,)), lambda lib, y, w: (y + w) * 0.5
    ),
    "GELU": Sweep("elements", COUNTS, lambda n: ((n,), (1,)), lambda lib, y, w: lib.F.gelu(y)),
    "softmax of 256": Sweep(
        "rows",
        (10, 100, 1000, 10_000, 100_000),
        lambda n: ((n, 256), (1,)),
        lambda lib, y, w: lib.F.softmax(y, -1),
    ),
    "attention, 8 x 64 x 32": Sweep(
        "sequences",
        FEW,
        lambda n: ((n, 8, 64, 32), (1,)),
        lambda lib, y, w: lib.attention(y, y, y),
        flops=lambda n: 2.0 * n * 8 * 64 * 64 * 32 * 2,
    ),
    "convolution, 32 x 28 x 28": Sweep(
        "images",
        FEW,
        lambda n: ((n, 32, 28, 28), (32, 32, 3, 3)),
        lambda lib, y, w: lib.F.conv2d(y, w, None, 1, 1),
        flops=lambda n: 2.0 * n * 28 * 28 * 32 * 32 * 9,
    ),
}


def rows(quick: bool = False) -> list[Row]:
    """All rows; if quick, one tiny size of each kind. The reference rows come first, because a
    session on a GPU may run out of time."""
    result = [] if quick else references()
    for name, sweep in SWEEPS.items():
        result += [row(name, n) for n in ((2,) if quick else sweep.sizes)]
    batches, models = ((4,), TINY) if quick else (BATCHES, MODELS)
    for name, make in models.items():
        result += [model(name, make(batch)) for batch in batches]
    return result


def references() -> list[Row]:
    """First the products, then each model eager and captured, then each model in the other groups
    of REFERENCES."""
    result = [products_row("ViT-Base", BASE)]
    for groups in (REFERENCES[:2], REFERENCES[2:]):
        for name, task in REFERENCE.items():
            result += [reference(name, task, g) for g in groups if g not in NEVER.get(name, ())]
    return result


def row(name: str, n: int) -> Row:
    """One op at one size."""
    sweep = SWEEPS[name]
    return Row(
        name,
        f"{sweep.axis} {n}",
        (
            Contender("NumPy", chain, (name, n, "tinycv", "cpu")),
            gpu("CuPy", chain, (name, n, "tinycv", "gpu")),
            Contender("PyTorch", chain, (name, n, "torch", "cpu"), missing=NO_TORCH),
            gpu("PyTorch on the GPU", chain, (name, n, "torch", "cuda")),
        ),
        flops=LENGTH * sweep.flops(n) if sweep.flops else None,
        point=(sweep.axis, n),
        rtol=RTOL,
        memory=True,
    )


def model(name: str, task: Task) -> Row:
    step = (task, True)
    contenders = [
        Contender("NumPy", by_tinycv, step),
        gpu("CuPy", partial(by_tinycv, device="gpu"), step),
        Contender("PyTorch", by_torch, step, missing=NO_TORCH),
        gpu("PyTorch on the GPU", partial(by_torch, device="cuda"), step),
        gpu("CuPy, captured", partial(by_tinycv, device="gpu", captured=True), step),
    ]
    if way(task, True) and task.batch >= threads():
        contenders.append(
            Contender("NumPy, one shard per core", partial(by_tinycv, carrier="threads"), step)
        )
    return Row(
        f"{name} training step",
        f"batch {task.batch}",
        tuple(contenders),
        "step",
        flops=task.flops(True),
        point=("batch", task.batch),
        rtol=RTOL,
        memory=True,
    )


def reference(name: str, task: Task, group: str) -> Row:
    """A training step on a GPU by tinycv and by PyTorch. The name of the group says how, see
    REFERENCES.

    "captured": tinycv runs one CUDA graph per step (tinycv.captured), and PyTorch its eager step,
    or with "both" a CUDA graph too. TF32 is allowed to both or to neither. In float16, PyTorch uses
    autocast.
    """
    half, captured, both = "float16" in group, "captured" in group, "both" in group
    env = TF32 if "TF32" in group else {}
    dtype = "float16" if half else "tf32" if env else "float32"
    by_tinycv_step = partial(by_tinycv, device="gpu", half=half, captured=captured)
    by_torch_step = partial(by_torch, device="cuda", half=half, captured=both)
    return Row(
        group,
        f"{name}, batch {task.batch}",
        (
            gpu("CuPy, captured" if captured else "CuPy", by_tinycv_step, (task, True), env),
            gpu("PyTorch on the GPU", by_torch_step, (task, True), env),
        ),
        "step",
        flops=task.flops(True),
        rtol=0.05 if dtype == "float32" else ROUNDED,
        dtype=dtype,
    )


def products_row(name: str, task: Vit) -> Row:
    tokens = task.patches + 1
    products = block(task.batch, tokens, task.width, 4 * task.width, tokens**2)
    return Row(
        "reference",
        f"products of a block of {name}, batch {task.batch}",
        (
            gpu("CuPy", products_of_block, (task, "tinycv", "gpu")),
            gpu("PyTorch on the GPU", products_of_block, (task, "torch", "cuda")),
        ),
        flops=sum(2.0 * p.terms * (1 + p.pulls) for p in products),
        rtol=0.05,
    )


def gpu(
    name: str, make: Callable[..., Work], args: tuple, env: dict[str, str] | None = None
) -> Contender:
    # Imported here, because PyTorch's process imports this file too, and must not get tinycv's
    # malloc setting.
    from tinycv.engine import backend

    problem = torch_problem() if name.startswith("PyTorch") else backend.gpu_problem()
    return Contender(name, make, args, env or {}, missing=str(problem or ""), on_device=True)


def waited(queue: Callable, send: Callable, library: str, device: str) -> Work:
    """The Work of ``queue``. On a GPU it waits for the device."""
    if device == "cpu":
        return queue
    if library == "tinycv":
        return on_tinycv(queue, send, device)
    same_tf32()
    return on_torch(queue, send)


def chain(name: str, n: int, library: str, device: str) -> Work:
    """The Work of a chain: the op of a sweep, applied LENGTH times. w is scaled so that the values
    do not grow."""
    lib, sweep = PARTS[library](), SWEEPS[name]
    x, w = normal(*sweep.shapes(n))
    w /= prod(w.shape[1:]) ** 0.5

    def send() -> tuple[Any, Any]:
        return lib.tensor(x, device), lib.tensor(w, device)

    first, weight = send()

    def forward() -> dict[str, Any]:
        y = first
        with lib.no_grad():
            for _ in range(LENGTH):
                y = sweep.link(lib, y, weight)
        return {"result": y}

    return waited(forward, send, library, device)


def products_of_block(task: Vit, library: str, device: str) -> Work:
    """Only the matrix products of one encoder block, forward and backward: x W, q Kᵀ, p V, and the
    products of their gradients."""
    lib = PARTS[library]()
    d, tokens = task.width, task.patches + 1

    def drawn(*shapes: tuple) -> list[Any]:
        return [lib.tensor(a, device) for a in normal(*shapes)]

    rows, heads = task.batch * tokens, (task.batch, task.heads, tokens, d // task.heads)
    sizes = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
    linears = [drawn((rows, m), (n, m), (rows, n)) for m, n in sizes]
    q, k, v, g = drawn(*[heads] * 4)
    p, ds = drawn(*[(*heads[:2], tokens, tokens)] * 2)

    def transposed(a: Any) -> Any:
        return a.swapaxes(-1, -2)

    def work() -> dict[str, Any]:
        with lib.no_grad():
            # forward, gradient of x, gradient of the weight; only the last is kept
            weights = [(x @ transposed(w), g @ w, transposed(g) @ x)[2] for x, w, g in linears]
            scores, y = q @ transposed(k), p @ v
            # the gradients of p, v, q and k
            gradients = g @ transposed(v), transposed(p) @ g, ds @ k, transposed(ds) @ q
        pulled = {f"pull {i}": a[0] for i, a in enumerate(gradients)}
        return {"weights": weights[0], "scores": scores[0], "y": y[0], **pulled}

    return waited(work, lambda: None, library, device)
