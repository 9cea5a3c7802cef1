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
from types import SimpleNamespace
from typing import Any, NamedTuple

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.device import on_tinycv, on_torch, same_tf32, torch_problem
from benchmarks.inputs import normal
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
# rtol where factors have 10 bits: 0.052 was seen (ViT-Base on an H100)
ROUNDED = 0.15
RTOL = 1e-3  # a GPU sums in another order, over more parts


class Sweep(NamedTuple):
    """One op over sizes: shapes of y and w at a size, a link of the chain y <- link(F, y, w), and
    what a link costs."""

    axis: str
    sizes: tuple[int, ...]
    shapes: Callable[[int], tuple[tuple, tuple]]
    link: Callable[[Any, Any, Any], Any]
    flops: Callable[[int], float] | None = None
    bytes: Callable[[int], float] | None = None


SWEEPS = {
    "matrix product": Sweep(
        "side",
        (64, 256, 1024, 2048),
        lambda n: ((n, n), (n, n)),
        lambda F, y, w: y @ w,
        flops=lambda n: 2.0 * n**3,
    ),
    "elementwise": Sweep(
        "elements",
        COUNTS,
        lambda n: ((n,), (n,)),
        lambda F, y, w: (y + w) * 0.5,
        bytes=lambda n: 4.0 * n * (3 + 2),
    ),
    "GELU": Sweep(
        "elements",
        COUNTS,
        lambda n: ((n,), (1,)),
        lambda F, y, w: F.gelu(y),
        bytes=lambda n: 4.0 * n * 2,
    ),
    "softmax of 256": Sweep(
        "rows",
        (10, 100, 1000, 10_000, 100_000),
        lambda n: ((n, 256), (1,)),
        lambda F, y, w: F.softmax(y, -1),
        bytes=lambda n: 4.0 * n * 256 * 2,
    ),
    "attention, 8 x 64 x 32": Sweep(
        "sequences",
        FEW,
        lambda n: ((n, 8, 64, 32), (1,)),
        lambda F, y, w: F.scaled_dot_product_attention(y, y, y),
        flops=lambda n: 2.0 * n * 8 * 64 * 64 * 32 * 2,
    ),
    "convolution, 32 x 28 x 28": Sweep(
        "images",
        FEW,
        lambda n: ((n, 32, 28, 28), (32, 32, 3, 3)),
        lambda F, y, w: F.conv2d(y, w, None, 1, 1),
        flops=lambda n: 2.0 * n * 28 * 28 * 32 * 32 * 9,
    ),
}


def rows(quick: bool = False) -> list[Row]:
    """Every sweep; if quick, one tiny place of each kind. The reference first: a session on a GPU
    may run out of time."""
    large = {} if quick else REFERENCE
    batches, of = ((4,), TINY) if quick else (BATCHES, MODELS)
    base = [] if quick else [products_row("ViT-Base", BASE)]
    return [
        *base,
        *(
            reference(name, task, group)
            for groups in (REFERENCES[:2], REFERENCES[2:])
            for name, task in large.items()
            for group in groups
            if not ("float16" in group and isinstance(task, Gan))
        ),
        *(row(name, n) for name, sweep in SWEEPS.items() for n in ((2,) if quick else sweep.sizes)),
        *(model(name, make(batch)) for name, make in of.items() for batch in batches),
    ]


def row(name: str, n: int) -> Row:
    """An op at one size."""
    sweep = SWEEPS[name]
    cost = {
        kind: LENGTH * each(n)
        for kind, each in (("flops", sweep.flops), ("bytes", sweep.bytes))
        if each
    }
    contenders = [
        Contender("NumPy", chain, (name, n, "tinycv", "cpu")),
        gpu("CuPy", chain, (name, n, "tinycv", "gpu")),
        Contender("PyTorch", chain, (name, n, "torch", "cpu"), missing=NO_TORCH),
        gpu("PyTorch on the GPU", chain, (name, n, "torch", "cuda")),
    ]
    return Row(
        name,
        f"{sweep.axis} {n}",
        tuple(contenders),
        point=(sweep.axis, n),
        rtol=RTOL,
        memory=True,
        **cost,
    )


def model(name: str, task: Task) -> Row:
    contenders = [
        Contender("NumPy", by_tinycv, (task, True, False, "cpu")),
        gpu("CuPy", by_tinycv, (task, True, False, "gpu")),
        Contender("PyTorch", by_torch, (task, True), missing=NO_TORCH),
        gpu("PyTorch on the GPU", by_torch, (task, True, False, False, "cuda")),
        gpu("CuPy, captured", by_tinycv, (task, True, False, "gpu", True, False, True)),
    ]
    if is_split(task) and task.batch >= threads():
        contenders.append(Contender("NumPy, a shard a core", by_tinycv, (task, True, True, "cpu")))
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
    half, env, captured = "float16" in group, TF32 if "TF32" in group else {}, "captured" in group
    dtype = "float16" if half else "tf32" if env else "float32"
    return Row(
        group,
        f"{name}, batch {task.batch}",
        (
            gpu(
                "CuPy, captured" if captured else "CuPy",
                by_tinycv,
                (task, True, False, "gpu", True, half, captured),
                env,
            ),
            gpu(
                "PyTorch on the GPU",
                by_torch,
                (task, True, False, False, "cuda", half, "both" in group),
                env,
            ),
        ),
        "step",
        flops=task.flops(True),
        rtol=0.05 if dtype == "float32" else ROUNDED,
        dtype=dtype,
    )


def products_row(name: str, task: Vit) -> Row:
    tokens = task.patches + 1
    cost = sum(
        2.0 * p.terms * (1 + p.pulls)
        for p in block(task.batch, tokens, task.width, 4 * task.width, tokens**2)
    )
    return Row(
        "reference",
        f"products of a block of {name}, batch {task.batch}",
        (
            gpu("CuPy", products, (task, "tinycv", "gpu")),
            gpu("PyTorch on the GPU", products, (task, "torch", "cuda")),
        ),
        flops=cost,
        rtol=0.05,
    )


def gpu(
    name: str, make: Callable[..., Work], args: tuple, env: dict[str, str] | None = None
) -> Contender:
    from tinycv.engine import backend

    problem = torch_problem() if name.startswith("PyTorch") else backend.gpu_problem()
    return Contender(name, make, args, env or {}, missing=str(problem or ""), on_device=True)


def parts(library: str, device: str) -> SimpleNamespace:
    """F, no_grad, ``there(array)``, and ``timed(queue, send)``, by which a Work on a device can be
    waited for."""
    if library == "torch":
        import torch

        same_tf32()
        return SimpleNamespace(
            F=torch.nn.functional,
            no_grad=torch.no_grad,
            timed=on_torch,
            there=lambda a: torch.from_numpy(a).to(device),
        )
    import tinycv

    functions = {
        **vars(tinycv.nn.functional),
        "scaled_dot_product_attention": tinycv.sequence.scaled_dot_product_attention,
    }
    return SimpleNamespace(
        F=SimpleNamespace(**functions),
        no_grad=tinycv.no_grad,
        timed=partial(on_tinycv, device=device),
        there=lambda a: tinycv.Tensor(a, device=device),
    )


def chain(name: str, n: int, library: str, device: str) -> Work:
    """LENGTH links of a sweep, each of the one before; w is scaled so that no value grows."""
    lib, sweep = parts(library, device), SWEEPS[name]
    x, w = normal(*sweep.shapes(n))
    hosts = [x, w / prod(w.shape[1:]) ** 0.5]
    x, w = map(lib.there, hosts)

    def forward() -> dict[str, Any]:
        y = x
        with lib.no_grad():
            for _ in range(LENGTH):
                y = sweep.link(lib.F, y, w)
        return {"result": y}

    return forward if device == "cpu" else lib.timed(forward, lambda: [lib.there(a) for a in hosts])


def products(task: Vit, library: str, device: str) -> Work:
    """The products of one encoder block, forward and backward, and nothing between them: x W, q Kᵀ,
    p V, and their pulls."""
    lib, d, tokens = parts(library, device), task.width, task.patches + 1
    of_all, heads = task.batch * tokens, (task.batch, task.heads, tokens, d // task.heads)
    linears = [
        [*map(lib.there, normal((of_all, m), (n, m), (of_all, n)))]
        for m, n in ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
    ]
    q, k, v, g = map(lib.there, normal(*[heads] * 4))
    p, ds = map(lib.there, normal(*[(*heads[:2], tokens, tokens)] * 2))

    def turned(a: Any) -> Any:
        return a.swapaxes(-1, -2)

    def work() -> dict[str, Any]:
        with lib.no_grad():
            pulls = [(x @ turned(w), g @ w, turned(g) @ x)[2] for x, w, g in linears]
            scores, y = q @ turned(k), p @ v
            back = g @ turned(v), turned(p) @ g, ds @ k, turned(ds) @ q
        return {
            "weights": pulls[0],
            "scores": scores[0],
            "y": y[0],
            **{f"pull {i}": a[0] for i, a in enumerate(back)},
        }

    return work if device == "cpu" else lib.timed(work, lambda: None)
