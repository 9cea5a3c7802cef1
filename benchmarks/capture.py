"""Can CuPy capture work once, as a CUDA graph, and launch it as one?

python -m benchmarks.capture     (in `session` too)

A training step of a small model is hundreds of launches, and Python needs longer for each than the
GPU does. tinycv.captured (tinycv/gpu/capture.py) makes one launch of them. Here its parts are tried
alone: elementwise work, reductions and our kernels, random numbers, CuPy's product, which CuPy 14.2
refuses ("calling cuBLAS API during stream capture is currently unsupported"), the same product
asked of cuBLAS past CuPy, and training steps.

Each attempt has a process of its own: what fails while capturing may leave a context behind in
which nothing works. What comes back is the times of a call, eager and replayed, and whether the
results agree; or the error, word for word.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# calls of an attempt, side of a matrix, seconds of a process
CALLS, SIDE, LIMIT = 20, 1024, 30
OP_N = 0  # cuBLAS's number for a matrix as it is
# the work, on the device; and the arrays that it changes in place
Attempt = tuple[Callable[[], Any], list[Any]]


def elementwise(xp: Any) -> Attempt:
    x = xp.ones(SIDE * SIDE, "float32")

    def run() -> None:
        x[...] = xp.tanh(x * 0.9 + 0.2)

    return run, [x]


def all_but_products(xp: Any) -> Attempt:
    """Norm, softmax, GELU and sums, there and back, and SGD: our CUDA kernels, CuPy's elementwise
    ones and reductions."""
    import tinycv
    from tinycv import nn

    x = tinycv.Tensor(xp.asarray(np.linspace(-2, 2, 64 * 96, dtype="float32").reshape(64, 96)))
    norm = nn.LayerNorm(96).to("gpu")
    optimizer = tinycv.optim.SGD(norm.parameters(), lr=0.1)

    def run() -> None:
        optimizer.zero_grad()
        y = nn.functional.softmax(nn.functional.gelu(norm(x)) * 2 + x.sum(axis=0), -1)
        (y * y).mean().backward()
        optimizer.step()

    return run, [p._data for p in norm.parameters()]


def noise(xp: Any) -> Attempt:
    """A draw of random numbers by CuPy's Generator, which no result depends on: a replay goes on
    with its stream."""
    from tinycv.engine import backend

    x = xp.ones((SIDE, SIDE), "float32")

    def run() -> None:
        x[...] = 0.5 * x + 0 * backend.standard_normal((SIDE, SIDE), xp)

    return run, [x]


def product(xp: Any, multiply: Callable | None = None) -> Attempt:
    from tinycv.engine import backend

    a, x = (backend.standard_normal((SIDE, SIDE), xp) / SIDE**0.5 for _ in range(2))
    y, multiply = xp.empty_like(x), multiply or xp.matmul

    def run() -> None:
        multiply(a, x, out=y)
        x[...] = y

    return run, [x]


def product_past_cupy(xp: Any) -> Attempt:
    """By ctypes, with a workspace that is given beforehand: cuBLAS may not ask for memory while it
    is captured."""
    handle, workspace = xp.cuda.device.get_cublas_handle(), xp.empty(32 << 20, "uint8")
    # so that CuPy has loaded the library
    xp.ones((2, 2), "float32") @ xp.ones((2, 2), "float32")
    cublas = libcublas()
    one, zero, stream = ctypes.c_float(1), ctypes.c_float(0), xp.cuda.get_current_stream()
    pointer = ctypes.c_void_p
    for call, *arguments in (
        ("SetStream_v2", pointer(stream.ptr)),
        ("SetWorkspace_v2", pointer(workspace.data.ptr), ctypes.c_size_t(workspace.nbytes)),
    ):
        _checked(getattr(cublas, f"cublas{call}")(pointer(handle), *arguments))

    # our rows are its columns: see engine/gemm.py
    def multiply(a: Any, b: Any, out: Any) -> None:
        _checked(
            cublas.cublasSgemm_v2(
                pointer(handle),
                OP_N,
                OP_N,
                SIDE,
                SIDE,
                SIDE,
                ctypes.byref(one),
                pointer(b.data.ptr),
                SIDE,
                pointer(a.data.ptr),
                SIDE,
                ctypes.byref(zero),
                pointer(out.data.ptr),
                SIDE,
            )
        )

    multiply.workspace = workspace  # lives as long
    return product(xp, multiply)


def libcublas() -> ctypes.CDLL:
    """The one that this process has loaded."""
    words = Path("/proc/self/maps").read_text(encoding="utf-8").split()
    return ctypes.CDLL(next(word for word in words if "/libcublas.so" in word))


def _checked(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS answered with status {status}")


def training_step(xp: Any, task: Any) -> Attempt:
    """Forward, backward and SGD. (Adam's step number would be captured as it is.)"""
    import tinycv
    from benchmarks import networks
    from benchmarks.libraries import tinycv_parts

    lib = tinycv_parts()
    model = networks.build(lib, task).to("gpu")
    batch = [tinycv.Tensor(a, device="gpu") for a in task.examples()]
    optimizer = tinycv.optim.SGD(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        networks.loss_of(task)(lib, model, *batch).backward()
        optimizer.step()

    return run, [p._data for p in model.parameters()]


def attempts() -> dict[str, Callable[[Any], Attempt]]:
    from benchmarks.tasks import Mlp, Vit

    return {
        "elementwise": elementwise,
        "all but products": all_but_products,
        "noise": noise,
        "product by CuPy": product,
        "product past CuPy": product_past_cupy,
        "training step of the MLP": partial(training_step, task=Mlp(32)),
        "training step of the small ViT": partial(training_step, task=Vit(8)),
    }


def attempted(name: str) -> dict[str, Any]:
    """Seconds of a call, eager and replayed, by the host's and the device's clock, and whether both
    do the same."""
    from tinycv.engine import backend

    xp = backend.module_for("gpu")
    with xp.cuda.Stream(non_blocking=True) as stream:
        run, held = attempts()[name](xp)
        for _ in range(3):
            # kernels are compiled, and memory is in the pool
            run()
        start = [a.copy() for a in held]

        def timed(call: Callable) -> tuple[dict[str, float], list[np.ndarray]]:
            for a, first in zip(held, start, strict=True):
                a[...] = first
            with backend.Stopwatch("gpu") as watch:
                for _ in range(CALLS):
                    call()
            ended = [backend.to_numpy(a) for a in held]
            return {"host_s": watch.host_seconds / CALLS, "device_s": watch.seconds / CALLS}, ended

        eager, expected = timed(run)
        stream.begin_capture()
        run()
        graph = stream.end_capture()
        replayed, found = timed(graph.launch)
    moved = any(
        not np.array_equal(backend.to_numpy(a), b) for a, b in zip(start, expected, strict=True)
    )
    return {
        "eager": eager,
        "replayed": replayed,
        "agree": moved
        and all(
            np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(found, expected, strict=True)
        ),
    }


def captured() -> dict[str, dict[str, Any]]:
    """Every attempt by its name: what ``attempted`` found, or {"error": what was said} or
    {"missing": why not tried}."""
    from tinycv.engine import backend

    problem = backend.gpu_problem()
    if problem is None and not hasattr(backend.module_for("gpu").cuda.Stream, "begin_capture"):
        # nor has the double, on which tests run
        problem = "this CuPy has no streams that capture"
    return {
        name: in_its_own_process(name)
        if problem is None
        else {"missing": f"GPU: not measured. {problem}"}
        for name in attempts()
    }


def in_its_own_process(name: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.capture", name],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took more than {LIMIT} s"}
    # a crash leaves no traceback, but a negative number
    if done.returncode:
        return {"error": f"ended with code {done.returncode}: {done.stderr.strip()[-1000:]}"}
    return json.loads(done.stdout.splitlines()[-1])


def sentence(name: str, found: dict[str, Any]) -> str:
    """A line for the console."""
    if "eager" not in found:
        return f"{name}, captured: {found.get('missing') or found['error'].splitlines()[-1]}"
    host, device = (found["eager"][key] / found["replayed"][key] for key in ("host_s", "device_s"))
    return (
        f"{name}, captured: {1e6 * found['replayed']['device_s']:.3g} us a call, {device:.3g} "
        f"times faster than eager ({host:.3g} times for the host); results "
        f"{'agree' if found['agree'] else 'DIFFER'}"
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(attempted(sys.argv[1])))
    else:
        print("\n".join(sentence(name, found) for name, found in captured().items()))
