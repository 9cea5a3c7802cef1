"""What limits the speed of LSTM and convolution, and of the inference of five models: matrix
products, calls or elementwise work, shape by shape.

    python -m benchmarks bounds

Forward and backward of a kernel, or the inference of a model, are timed in one thread, and also
what can be timed separately: the matrix products, with the same shapes and as often; and the calls,
by running the same code on tiny arrays, which shows what Python and NumPy cost before they compute.
The rest is elementwise work (of a ViT: GELU, softmax and layer norm) and copying. The floor is the
time that the products would take at the highest speed of this machine.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.inputs import conv_inputs, lstm_inputs, normal
from benchmarks.tables import markdown
from benchmarks.tasks import LeNet, Lstm, Mlp, Score, Task, Vit

# steps, batch, width of the input, width of the hidden state
LSTMS = [(28, 128, 28, 128), (100, 32, 2, 128), (50, 64, 256, 256), (20, 1, 16, 32)]
# images, channels, side, output channels, window, stride, padding
CONVS = [
    (64, 32, 28, 32, 3, 1, 1),
    (64, 64, 14, 64, 3, 1, 1),
    (32, 128, 16, 128, 3, 1, 1),
    (64, 1, 28, 32, 4, 2, 1),
    (64, 32, 16, 64, 4, 2, 1),
]
# The batch is what one of two workers has of the batch in the suite "models". With each model, its
# smallest form: as many layers, tokens and steps, and the fewest examples with which the same
# kernels run.
MODELS: dict[str, tuple[Task, Task]] = {
    "ViT, 17 tokens of 64": (Vit(64), Vit(1, image=4, patch=1, width=4)),
    "LeNet": (LeNet(64), LeNet(16, (1, 1))),
    "MLP 784-256-256-10": (Mlp(64), Mlp(1, (1, 1, 1, 1))),
    "LSTM, 100 steps of 2": (Lstm(16, 100, 2), Lstm(1, 100, 1, 1, 1)),
    "Score matching in the plane": (Score(256), Score(1, 1)),
}


class Products(NamedTuple):
    """``count`` matrix products of a (rows, inner) and a (inner, columns) matrix, one after the
    other; or as many stacks of products, each of which is one call of NumPy."""

    rows: int
    inner: int
    columns: int
    count: int = 1
    stack: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns * self.count * self.stack


class Case(NamedTuple):
    """work: a kernel, forward and backward, or the inference of a model. calls: the same on tiny
    arrays."""

    name: str
    work: Callable[[], Any]
    products: list[Products]
    calls: Callable[[], Any]


def lstm_case(steps: int, batch: int, width: int, hidden: int) -> Case:
    gates, rows = 4 * hidden, steps * batch
    products = [
        Products(gates, hidden + width + 1, batch, steps),
        Products(hidden, gates, batch, steps),
        Products(gates, rows, hidden),
        Products(gates, rows, width),
        Products(rows, gates, width),
    ]
    name = f"LSTM, {steps} steps, batch {batch}, {width} to {hidden}"
    work, calls = lstm_work(steps, batch, width, hidden), lstm_work(steps, 1, 1, 1)
    return Case(name, work, products, calls)


def lstm_work(steps: int, batch: int, width: int, hidden: int) -> Callable[[], Any]:
    from tinycv.sequence.lstm import lstm

    inputs = lstm_inputs(steps, batch, width, hidden)
    g = normal((steps, batch, hidden))[0]
    return forward_and_backward(lambda: lstm.run(np, *inputs), (g, None))


def conv_case(
    images: int, channels: int, side: int, out: int, window: int, stride: int, padding: int
) -> Case:
    from tinycv.engine import reduce
    from tinycv.nn import winograd
    from tinycv.nn.window import as_walk, output_size

    _, pads, _ = as_walk(stride, padding, 1, (window, window))
    size = output_size([side + sum(p) for p in pads], (window, window), (stride, stride), (1, 1))[0]
    taps, steps, count = window * window * channels, size * size, images
    if winograd.pays(np, (window, window), (stride, stride), (1, 1), channels, out, (size, size)):
        # the products of Winograd convolution: smaller ones, N² per image
        taps = channels
        steps = winograd.tiled((size, size))[0] ** 2
        count = images * winograd.N**2
    sizes = (steps, taps, out), (taps, steps, out), (steps, out, taps)
    products = [Products(*three, count) for three in sizes]
    # as few channels as run the same kernel: with 8 or fewer, nn/conv_few.py would run
    tiny = conv_work(images, 9, window, 9, window, stride, padding)

    def calls() -> Any:
        # With this block size, each image is a block of its own, as in the full-size kernel.
        old_block, reduce.BLOCK = reduce.BLOCK, 1
        try:
            return tiny()
        finally:
            reduce.BLOCK = old_block

    shape = f"{window} x {window}, stride {stride}, {images} of {side} x {side}"
    work = conv_work(images, channels, side, out, window, stride, padding)
    return Case(f"conv {shape}, {channels} to {out}", work, products, calls)


def conv_work(
    images: int, channels: int, side: int, out: int, window: int, stride: int, padding: int
) -> Callable[[], Any]:
    from tinycv.nn.conv import conv2d

    x = conv_inputs(images, channels, side)[0]
    weight, bias = normal((out, channels, window, window), (out,))

    def forward() -> tuple:
        return conv2d.run(np, x, weight, bias, stride, padding)

    return forward_and_backward(forward, np.ones_like(forward()[0]))


def forward_and_backward(forward: Callable[[], tuple], g: Any) -> Callable[[], Any]:
    """A kernel's forward and its pull. A gradient that the pull returns as a function is computed
    by calling it."""

    def work() -> list[Any]:
        _, pull = forward()
        return [gradient() if callable(gradient) else gradient for gradient in pull(g)]

    return work


def model_case(name: str, task: Task, tiny: Task) -> Case:
    products = inference_products(task)
    return Case(f"{name}: inference of {task.batch}", inference(task), products, inference(tiny))


def inference_products(task: Any) -> list[Products]:
    """The matrix products of a model's forward pass."""
    match task:
        case Vit():
            return vit_products(task)
        case LeNet():
            return lenet_products(task)
        case Lstm():
            return lstm_products(task)
        case Mlp():
            return dense_products(task.batch, task.widths)
        case Score():
            return dense_products(task.batch, (2, task.hidden, task.hidden, 2))
    raise TypeError(f"inference_products: task is {task!r}; its products are not written down")


def dense_products(batch: int, widths: tuple[int, ...]) -> list[Products]:
    return [Products(batch, a, b) for a, b in pairwise(widths)]


def lstm_products(task: Lstm) -> list[Products]:
    """As the kernel multiplies: one product per step, of all gates' weights and [h; x; 1]
    (sequence/lstm_kernel.py), and then the head."""
    inner = task.hidden + task.inputs + 1
    return [
        Products(4 * task.hidden, inner, task.batch, task.steps),
        Products(task.batch, task.hidden, task.classes),
    ]


def inference(task: Task) -> Callable[[], Any]:
    from benchmarks.libraries import tinycv_parts
    from benchmarks.networks import build
    from tinycv import Tensor, no_grad

    model, x = build(tinycv_parts(), task).eval(), Tensor(task.examples()[0])

    def work() -> Any:
        with no_grad():
            return model(x)

    return work


def vit_products(task: Vit) -> list[Products]:
    d, tokens = task.width, task.patches + 1
    rows, heads = task.batch * tokens, task.batch * task.heads
    return [
        Products(task.batch * task.patches, task.patch**2, d),
        Products(rows, d, 3 * d, task.layers),
        Products(tokens, d // task.heads, tokens, task.layers, heads),  # the scores
        Products(tokens, tokens, d // task.heads, task.layers, heads),  # the weighted values
        Products(rows, d, d, task.layers),
        Products(rows, d, 4 * d, task.layers),
        Products(rows, 4 * d, d, task.layers),
        Products(task.batch, d, task.classes),
    ]


def lenet_products(task: LeNet) -> list[Products]:
    """The convolutions multiply row by row of the result (nn/conv_few.py)."""
    n, (a, b) = task.batch, task.channels
    layers = (16 * b, 120), (120, 84), (84, 10)
    return [
        Products(a, 25, 24 * n, 24),
        Products(b, 25 * a, 8 * n, 8),
        *(Products(n, inputs, outputs) for inputs, outputs in layers),
    ]


def products_work(products: list[Products]) -> Callable[[], Any]:
    def of_a_call(p: Products, *shape: int) -> tuple[int, ...]:
        """The shape of an array in one call of NumPy."""
        return shape if p.stack == 1 else (p.stack, *shape)

    factors = [
        normal(of_a_call(p, p.rows, p.inner), of_a_call(p, p.inner, p.columns)) for p in products
    ]
    results = [np.empty(of_a_call(p, p.rows, p.columns), np.float32) for p in products]

    def work() -> None:
        for (a, b), out, p in zip(factors, results, products, strict=True):
            for _ in range(p.count):
                np.matmul(a, b, out=out)

    return work


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS, and for elementwise work (engine/blocks.py)."""
    from threadpoolctl import threadpool_limits

    from tinycv.engine import blocks

    before, blocks.sharers = blocks.sharers, blocks.cores()
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        blocks.sharers = before


def seconds(work: Callable[[], Any], calls: int = 9) -> float:
    """Median seconds per call, after a first call that is not counted."""
    work()
    durations = []
    for _ in range(calls):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return median(durations)


def faults(work: Callable[[], Any]) -> int:
    """How many memory pages the system had to provide during one call that was not the first."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def measured() -> dict[str, Any]:
    """{"peak": GFLOP/s of one thread, "rows": [{"shape", "total", "products", "calls", "rest",
    "floor" (s), "faults"}]}"""
    import tinycv  # noqa: F401  (its malloc setting must be in place before anything is timed)

    with one_thread():
        square = Products(1024, 1024, 1024)
        peak = square.flops / min(seconds(products_work([square])) for _ in range(3))
        cases = [lstm_case(*shape) for shape in LSTMS] + [conv_case(*shape) for shape in CONVS]
        cases += [model_case(name, *tasks) for name, tasks in MODELS.items()]
        return {"peak": peak / 1e9, "rows": [breakdown(case, peak) for case in cases]}


def breakdown(case: Case, peak: float) -> dict[str, Any]:
    """The row of one case. peak: FLOP/s of one thread."""
    total, calls = seconds(case.work), seconds(case.calls)
    products = seconds(products_work(case.products))
    flops = sum(p.flops for p in case.products)
    return {
        "shape": case.name,
        "total": total,
        "products": products,
        "calls": calls,
        "rest": total - products - calls,
        "floor": flops / peak,
        "faults": faults(case.work),
    }


def bound(row: dict[str, Any]) -> str:
    """What takes the most time."""
    shares = {"BLAS": row["products"], "ufuncs and copies": row["rest"], "Python": row["calls"]}
    return max(shares, key=shares.__getitem__)


def table(record: dict[str, Any]) -> str:
    """The record as a Markdown table."""
    head = "one thread | total | products | calls | ufuncs, copies"
    head += " | page faults | bound by | total / floor"
    lines = []
    for row in record["rows"]:
        times = [f"{1e3 * row[key]:.2f} ms" for key in ("total", "products", "calls", "rest")]
        floor = f"{row['total'] / row['floor']:.1f}"
        lines.append([row["shape"], *times, str(row["faults"]), bound(row), floor])
    text = f"The floor: the products at {record['peak']:.0f} GFLOP/s, the best of one thread."
    return "\n".join([*markdown(head, lines), "", text])
