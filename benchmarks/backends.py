"""The suite "backends": the same tinycv code on NumPy and on CuPy, over sizes, so that the
crossover is seen; and PyTorch on each.

NumPy is the first contender. A GPU's work is waited for inside what is timed, and its data is there
beforehand, as in training; device.py tells the first call, the copying, and host and device apart.
Where it may pay, models on NumPy also go in a part for each core (models.py, is_split); the GPU is
held to the faster of the two. Without a GPU its times are "not measured", and why.  The rows
"reference" are of sizes for a GPU alone: CuPy first, against PyTorch's eager mode, in float32 with
the same TF32 setting; then ViT-Base's products alone, to be held to the roof, and its step in
float16.
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
from benchmarks.models import is_split
from benchmarks.peaks import TF32
from benchmarks.row import Contender, Row, Work
from benchmarks.tasks import Gan, Lstm, Mlp, Task, Transformer, UNet, Vit, block
from benchmarks.work import NO_TORCH, threads

# ops in a row, so that a GPU's queue fills as in a network
LENGTH = 8
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
# by_tinycv and by_torch have no scaled losses for the two optimisers of a GAN
NEVER = {"DCGAN": ("reference, float16",)}
PARTS = {"tinycv": tinycv_parts, "torch": torch_parts}
# rtol where factors have 10 bits: 0.052 was seen (ViT-Base on an H100)
ROUNDED = 0.15
RTOL = 1e-3  # a GPU sums in another order, over more parts


class Sweep(NamedTuple):
    """One op over sizes: shapes of y and w at a size, a link of the chain y <- link(lib, y, w), and
    what a link costs."""

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
    """Every sweep; if quick, one tiny place of each kind. The reference first: a session on a GPU
    may run out of time."""
    made = [] if quick else references()
    for name, sweep in SWEEPS.items():
        made += [row(name, n) for n in ((2,) if quick else sweep.sizes)]
    batches, models = ((4,), TINY) if quick else (BATCHES, MODELS)
    for name, make in models.items():
        made += [model(name, make(batch)) for batch in batches]
    return made


def references() -> list[Row]:
    """The products; then each model eager and captured; then in the other ways."""
    made = [products_row("ViT-Base", BASE)]
    for groups in (REFERENCES[:2], REFERENCES[2:]):
        for name, task in REFERENCE.items():
            made += [reference(name, task, g) for g in groups if g not in NEVER.get(name, ())]
    return made


def row(name: str, n: int) -> Row:
    """An op at one size."""
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
    if is_split(task) and task.batch >= threads():
        contenders.append(Contender("NumPy, a shard a core", partial(by_tinycv, split=True), step))
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
    """A training step of a size for a GPU alone: tinycv's, then PyTorch's. The group says how, see
    REFERENCES.

    Captured is one CUDA graph a step (tinycv.captured), beside PyTorch's eager step or its own
    graph. TF32 is allowed to both or to none. float16 has PyTorch's autocast beside it.
    """
    half, captured, both = "float16" in group, "captured" in group, "both" in group
    env = TF32 if "TF32" in group else {}
    dtype = "float16" if half else "tf32" if env else "float32"
    ours = partial(by_tinycv, device="gpu", half=half, captured=captured)
    theirs = partial(by_torch, device="cuda", half=half, captured=both)
    return Row(
        group,
        f"{name}, batch {task.batch}",
        (
            gpu("CuPy, captured" if captured else "CuPy", ours, (task, True), env),
            gpu("PyTorch on the GPU", theirs, (task, True), env),
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
    # not at the top: PyTorch's process reads this file too, and must not get tinycv's malloc
    from tinycv.engine import backend

    problem = torch_problem() if name.startswith("PyTorch") else backend.gpu_problem()
    return Contender(name, make, args, env or {}, missing=str(problem or ""), on_device=True)


def waited(queue: Callable, send: Callable, library: str, device: str) -> Work:
    """The Work of a queue, which is waited for where it is a GPU's."""
    if device == "cpu":
        return queue
    if library == "tinycv":
        return on_tinycv(queue, send, device)
    same_tf32()
    return on_torch(queue, send)


def chain(name: str, n: int, library: str, device: str) -> Work:
    """LENGTH links of a sweep, each of the one before; w is scaled so that no value grows."""
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
    """The products of one encoder block, forward and backward, and nothing between them: x W, q Kᵀ,
    p V, and their pulls."""
    lib, d, tokens = PARTS[library](), task.width, task.patches + 1

    def drawn(*shapes: tuple) -> list[Any]:
        return [lib.tensor(a, device) for a in normal(*shapes)]

    rows, heads = task.batch * tokens, (task.batch, task.heads, tokens, d // task.heads)
    sizes = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
    linears = [drawn((rows, m), (n, m), (rows, n)) for m, n in sizes]
    q, k, v, g = drawn(*[heads] * 4)
    p, ds = drawn(*[(*heads[:2], tokens, tokens)] * 2)

    def turned(a: Any) -> Any:
        return a.swapaxes(-1, -2)

    def work() -> dict[str, Any]:
        with lib.no_grad():
            pulls = [(x @ turned(w), g @ w, turned(g) @ x)[2] for x, w, g in linears]
            scores, y = q @ turned(k), p @ v
            back = g @ turned(v), turned(p) @ g, ds @ k, turned(ds) @ q
        pulled = {f"pull {i}": a[0] for i, a in enumerate(back)}
        return {"weights": pulls[0], "scores": scores[0], "y": y[0], **pulled}

    return waited(work, lambda: None, library, device)
