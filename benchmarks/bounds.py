"""python -m benchmarks bounds      what LSTM and convolution spend their time on, shape by shape

Forward and backward of the kernel, and beside it what can be timed alone: its matrix products, of
the same shapes and as many; and its calls, by the same kernel on arrays of next to nothing, which
is what Python and NumPy cost before they compute. The rest is elementwise work and copying. The
floor is what the products would take at this machine's best.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.inputs import conv_inputs, lstm_inputs, normal
from benchmarks.tables import markdown

# Steps, batch, input, hidden; and images, channels, side, channels out, window, stride, padding.
LSTMS = [(28, 128, 28, 128), (100, 32, 2, 128), (50, 64, 256, 256), (20, 1, 16, 32)]
CONVS = [
    (64, 32, 28, 32, 3, 1, 1),
    (64, 64, 14, 64, 3, 1, 1),
    (32, 128, 16, 128, 3, 1, 1),
    (64, 1, 28, 32, 4, 2, 1),
    (64, 32, 16, 64, 4, 2, 1),
]


class Case(NamedTuple):
    """work: the kernel, forward and backward. products: (rows, inner, columns, how often). calls:
    the same, tiny."""

    name: str
    work: Callable[[], Any]
    products: list[tuple[int, int, int, int]]
    calls: Callable[[], Any]


def lstm_case(steps: int, batch: int, width: int, hidden: int) -> Case:
    gates, rows = 4 * hidden, steps * batch
    products = [
        (gates, hidden + width + 1, batch, steps),
        (hidden, gates, batch, steps),
        (gates, rows, hidden, 1),
        (gates, rows, width, 1),
        (rows, gates, width, 1),
    ]
    name = f"LSTM, {steps} steps, batch {batch}, {width} to {hidden}"
    work, calls = lstm_work(steps, batch, width, hidden), lstm_work(steps, 1, 1, 1)
    return Case(name, work, products, calls)


def lstm_work(steps: int, batch: int, width: int, hidden: int) -> Callable[[], Any]:
    from tinycv.sequence.lstm import lstm

    inputs, (g,) = lstm_inputs(steps, batch, width, hidden), normal((steps, batch, hidden))
    return there_and_back(lambda: lstm.run(np, *inputs), (g, None))


def conv_case(
    images: int, channels: int, side: int, out: int, window: int, stride: int, padding: int
) -> Case:
    from tinycv.engine import reduce
    from tinycv.nn import winograd
    from tinycv.nn.window import settled, walked

    _, pads, _ = settled(stride, padding, 1, (window, window))
    size = walked([side + sum(p) for p in pads], (window, window), (stride, stride), (1, 1))[0]
    taps, steps, often = window * window * channels, size * size, images
    if winograd.pays(np, (window, window), (stride, stride), (1, 1), channels, out, (size, size)):
        # fewer products
        taps, steps, often = channels, winograd.tiled((size, size))[0] ** 2, images * winograd.N**2
    products = [(steps, taps, out, often), (taps, steps, out, often), (steps, out, taps, often)]
    tiny = conv_work(images, 1, window, 1, window, stride, padding)

    def calls() -> Any:
        # so that each image is a block of its own
        kept, reduce.BLOCK = reduce.BLOCK, 1
        try:
            return tiny()
        finally:
            reduce.BLOCK = kept

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

    return there_and_back(forward, np.ones_like(forward()[0]))


def there_and_back(forward: Callable[[], tuple], g: Any) -> Callable[[], Any]:
    return lambda: [piece() if callable(piece) else piece for piece in forward()[1](g)]


def products_work(products: list[tuple[int, int, int, int]]) -> Callable[[], Any]:
    factors = [normal((m, k), (k, n)) for m, k, n, _ in products]
    results = [np.empty((m, n), np.float32) for m, _, n, _ in products]

    def work() -> None:
        for (a, b), out, (*_, often) in zip(factors, results, products, strict=True):
            for _ in range(often):
                np.matmul(a, b, out=out)

    return work


def seconds(work: Callable[[], Any], times: int = 9) -> float:
    work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def faults(work: Callable[[], Any]) -> int:
    """Pages that the system had to hand out during one call, after it was called before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def measured() -> dict[str, Any]:
    """{"peak": GFLOP/s of one thread, "rows": [{"shape", "total", "products", "calls", "rest",
    "floor" (s), "faults"}]}"""
    from threadpoolctl import threadpool_limits

    import tinycv  # noqa: F401  (first: its malloc setting)

    with threadpool_limits(1, user_api="blas"):
        square = products_work([(1024, 1024, 1024, 1)])
        peak = 2 * 1024**3 / min(seconds(square) for _ in range(3))
        cases = [lstm_case(*shape) for shape in LSTMS] + [conv_case(*shape) for shape in CONVS]
        return {"peak": peak / 1e9, "rows": [parts(case, peak) for case in cases]}


def parts(case: Case, peak: float) -> dict[str, Any]:
    total, calls = seconds(case.work), seconds(case.calls)
    products = seconds(products_work(case.products))
    flops = sum(2 * m * k * n * often for m, k, n, often in case.products)
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
    """What takes the most."""
    shares = {"BLAS": row["products"], "ufuncs and copies": row["rest"], "Python": row["calls"]}
    return max(shares, key=shares.__getitem__)


def table(record: dict[str, Any]) -> str:
    """Markdown."""
    head = "forward and backward, one thread | takes | products | calls | ufuncs, copies"
    head += " | faults | bound by | times the floor"
    lines = []
    for row in record["rows"]:
        times = [f"{1e3 * row[key]:.2f} ms" for key in ("total", "products", "calls", "rest")]
        floor = f"{row['total'] / row['floor']:.1f}"
        lines.append([row["shape"], *times, str(row["faults"]), bound(row), floor])
    said = f"The floor: the products at {record['peak']:.0f} GFLOP/s, the best of one thread."
    return "\n".join([*markdown(head, lines), "", said])
