"""Tests on a real GPU, or without one on the double of CuPy, to show that the tests themselves run.

    pytest tests/card            the tests that tell the most come first

``python -m benchmarks session`` starts with these tests. A failure shows the device, shapes and
dtypes, and where the arrays first differ.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cupy_double
import numpy as np
import pytest
from conftest import REAL_GPU
from cupy_double import counting
from cupy_double.world import WORLD

# benchmarks is no part of the installed package
sys.path.insert(0, str(Path(__file__).parents[2]))

import tinycv
from benchmarks import contenders, tasks
from tinycv import Tensor
from tinycv.certificate import table
from tinycv.certificate.cases import cases, names
from tinycv.engine import backend
from tinycv.engine.fused import PAIRS
from tinycv.engine.tensor import no_grad
from tinycv.show import doctor

# s that the GPU is kept busy; a warm step takes the host some 10 ms
SPIN = 1


@pytest.fixture(autouse=True)
def gpu(request):
    if not REAL_GPU:
        request.getfixturevalue("double")
    yield "gpu:0"
    backend.manual_seed(0)


@contextmanager
def on_the_double():
    """The double in the place of whatever CuPy there is."""
    cupy_double.install()
    backend.forget_probe()
    try:
        yield
    finally:
        cupy_double.uninstall()
        backend.forget_probe()


def alike(what, found, expected, rtol, atol):
    """AssertionError with the facts that tell a wrong kernel from rounding."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), (
        f"{what}: {found.dtype} {found.shape}, not {expected.dtype} {expected.shape}"
    )
    wrong = np.argwhere(~np.isclose(found, expected, rtol=rtol, atol=atol, equal_nan=True))
    first = "; ".join(
        f"at {tuple(map(int, i))} {found[tuple(i)]!r}, not {expected[tuple(i)]!r}"
        for i in wrong[:4]
    )
    assert not len(wrong), (
        f"{what}: {found.dtype} {found.shape}: {len(wrong)} of {found.size} entries differ: {first}"
    )


# ── is it right? ─────────────────────────────────────────────────────────────────────────────────


def answers(name, device):
    """Results and gradients of every case of a pair, in float32."""
    made = []
    for case in cases(name):
        floats = [x.dtype.kind == "f" for x in case.inputs]
        inputs = [
            Tensor(x.astype("float32") if f else x, device=device, requires_grad=f)
            for x, f in zip(case.inputs, floats, strict=True)
        ]
        y = case.call(*inputs)
        ys = list(y) if isinstance(y, tuple) else [y]
        weights = [
            Tensor(np.cos(np.arange(y.size)).reshape(y.shape).astype("float32"), device=device)
            for y in ys
        ]
        found = tinycv.grad(ys, [x for x in inputs if x.requires_grad], weights, allow_unused=True)
        made += [t.numpy() for t in (*ys, *found) if t is not None]
    return made


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_numpy_the_gpu_and_the_double_agree(name):
    read, ran = answers(name, "cpu"), answers(name, "gpu")
    with on_the_double():
        played = answers(name, "gpu")
    for what, others in (("gpu:0", ran), ("the double", played)):
        for i, (x, y) in enumerate(zip(read, others, strict=True)):
            alike(
                f"{name} on {what}, array {i}",
                y,
                x,
                1e-4,
                1e-5 * max(1.0, np.abs(x).max(initial=0.0)),
            )


TASKS = {
    "MLP": tasks.Mlp(16, (20, 16, 10)),
    "LSTM": tasks.Lstm(8, 6, 4, 16, 5),
    "Transformer": tasks.Transformer(4, 12, 16, 2, 32, 2, 11),
    "ViT": tasks.Vit(8, 8, 4, 16, 2, 2, 5),
    "LeNet": tasks.LeNet(4, (2, 3)),
    "GAN": tasks.Gan(4, 5, 2),
    "U-Net": tasks.UNet(4, 8, 16),
    "score, second order": tasks.Score(16, 12),
}


@pytest.mark.parametrize("name", TASKS)
def test_50_training_steps_equal_those_on_the_cpu(name):
    # the double is NumPy, and slow at it
    steps = 50 if REAL_GPU or name != "U-Net" else 10
    losses = []
    for device in ("cpu", "gpu:0"):
        work = contenders.by_tinycv(TASKS[name], True, device=device)
        losses.append(
            [
                [float(v.numpy()) for key, v in work().items() if key.startswith("loss")]
                for _ in range(steps)
            ]
        )
    cpu, gpu = map(np.array, losses)
    assert cpu[-1, 0] != cpu[0, 0] and np.isfinite(gpu).all()
    alike(f"{name} on gpu:0, losses of the first steps", gpu[:3], cpu[:3], 1e-4, 1e-5)
    # rounding grows from step to step
    alike(f"{name} on gpu:0, losses", gpu, cpu, 2e-2, 1e-3)


def test_training_in_halves_follows_float32():
    losses = []
    for device, half in (("cpu", False), ("gpu:0", True)):
        work = contenders.by_tinycv(TASKS["ViT"], True, device=device, half=half)
        losses.append([float(work()["loss"].numpy()) for _ in range(20)])
    cpu, gpu = map(np.array, losses)
    assert cpu[-1] != cpu[0] and np.any(cpu != gpu)
    alike("ViT in halves on gpu:0, losses", gpu, cpu, 2e-2, 5e-3)


@pytest.mark.parametrize("name", TASKS)
def test_a_captured_step_equals_the_step(name):
    losses = []
    for captured in (False, True):
        backend.manual_seed(0)
        work = contenders.by_tinycv(
            TASKS[name], True, device="gpu:0", wait=False, captured=captured
        )
        found = [
            [float(v.numpy()) for key, v in work().items() if key.startswith("loss")]
            for _ in range(10)
        ]
        losses.append(found)
    alike(
        f"{name} on gpu:0, losses of captured steps", *map(np.array, reversed(losses)), 1e-3, 1e-4
    )


def test_a_captured_step_takes_new_arguments_and_learning_rates_and_counts_its_steps():
    ended = []
    for captured in (False, True):
        weight = tinycv.Parameter(Tensor(np.ones((3, 4), "float32"), device="gpu"))
        optimizer = tinycv.optim.AdamW([weight], lr=0.1)

        def step(x, weight=weight, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (x @ weight).sum().exp().log()
            loss.backward()
            optimizer.step()
            return loss

        run, losses = tinycv.captured(step) if captured else step, []
        for i in range(8):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
            losses.append(run(Tensor(np.full((2, 3), 0.1 * i, "float32"), device="gpu")))
        ended.append(
            (
                weight.numpy(),
                np.array([loss.numpy() for loss in losses]),
                optimizer.state_dict()["state"]["0"]["step"],
            )
        )
    alike("weights after captured steps", ended[1][0], ended[0][0], 1e-5, 1e-6)
    alike("losses of captured steps", ended[1][1], ended[0][1], 1e-5, 1e-6)
    assert ended[0][2] == ended[1][2] == 8


def test_random_numbers_in_a_captured_step_continue_from_call_to_call():
    draw = tinycv.captured(
        lambda: Tensor(backend.standard_normal((1000,), backend.module_for("gpu"))), "gpu"
    )
    seen = [draw().numpy() for _ in range(7)]
    assert all(abs(np.corrcoef(a, b)[0, 1]) < 0.2 for a, b in zip(seen, seen[1:], strict=False))


def test_a_captured_step_refuses_what_a_graph_cannot_hold():
    # the double has no graphs: tests/gpu/test_capture.py
    if not REAL_GPU:
        return
    step = tinycv.captured(lambda x: x * x.sum().item())
    x = Tensor(np.ones(3, "float32"), device="gpu")
    for _ in range(3):
        step(x)
    with pytest.raises(RuntimeError, match="cannot be part of a step that tinycv.captured records"):
        step(x)
    assert (x + 1).numpy().tolist() == [2, 2, 2]  # and life goes on


@pytest.mark.parametrize("name", TASKS)
def test_a_training_step_waits_for_nothing(name):
    """The GPU is kept busy for a while, and the host is to be done with a step before."""
    work = contenders.by_tinycv(TASKS[name], True, device="gpu:0", wait=False)
    # kernels are compiled, and memory is in the pool
    for _ in range(3):
        work()
    if not REAL_GPU:
        with counting() as seen:
            work()
        assert seen.count == 0
        return
    xp = backend.module_for("gpu")
    spin = xp.RawKernel(
        'extern "C" __global__ void spin(long long ns) { long long t, s; asm volatile('
        '"mov.u64 %0, %globaltimer;" : "=l"(s)); do asm volatile("mov.u64 %0, %globaltimer;" : '
        '"=l"(t)); while (t - s < ns); }',
        "spin",
    )
    spin((1,), (1,), (1000,))
    backend.synchronize("gpu")
    spin((1,), (1,), (SPIN * 10**9,))
    started = time.perf_counter()
    work()
    host = time.perf_counter() - started
    backend.synchronize("gpu")
    whole = time.perf_counter() - started
    assert whole > 0.9 * SPIN, f"the GPU was busy for {whole:.2f} s only"
    assert host < SPIN / 2, (
        f"the host needed {host:.2f} s for a step of {name}: it waited for the GPU"
    )


# ── random numbers ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_drawn_on_the_gpu_has_the_moments_of_its_distribution_and_repeats_by_its_seed(dtype):
    xp, draws = backend.module_for("gpu"), []
    for _ in range(2):
        tinycv.manual_seed((1, 2))
        draws.append(
            [
                backend.to_numpy(draw((200_000,), xp, dtype))
                for draw in (backend.standard_normal, backend.uniform)
            ]
        )
    assert all((a == b).all() for a, b in zip(*draws, strict=True))
    normal, flat = draws[0]
    moments = [np.mean(normal), np.std(normal), np.mean(normal**3), np.mean(normal**4)]
    assert np.allclose(moments, [0, 1, 0, 3], atol=[0.01, 0.01, 0.04, 0.1])
    assert (
        flat.min() >= 0
        and flat.max() < 1
        and np.allclose([np.mean(flat), np.var(flat)], [1 / 2, 1 / 12], atol=3e-3)
    )


# ── memory, and two backends in one process ──────────────────────────────────────────────────────


def test_out_of_memory_is_reported_with_the_op_the_sizes_and_the_device(monkeypatch):
    monkeypatch.setattr(WORLD, "memory", 1 << 20)  # the double's: a megabyte
    total = sys.modules["cupy"].cuda.Device(0).mem_info[1]
    n = int((total / 4) ** 0.5 * 1.5)
    column, row = (Tensor(np.ones(shape, "float32"), device="gpu") for shape in ((n, 1), (1, n)))
    with pytest.raises(
        MemoryError,
        match=rf"mul: out of memory on gpu:0 with float32 \({n}, 1\).*\(1, {n}\).*bytes",
    ):
        column * row
    assert (column + 1).numpy().sum() == 2 * n  # and life goes on


def test_both_backends_work_in_one_process_and_do_not_mix():
    cpu, gpu = (
        Tensor([1.0, 2.0], requires_grad=True),
        Tensor([1.0, 2.0], device="gpu", requires_grad=True),
    )
    for x in (cpu, gpu, cpu):
        (x * x).sum().backward()
    assert cpu.grad.numpy().tolist() == [4, 8] and gpu.grad.numpy().tolist() == [2, 4]
    assert (cpu.grad.device, gpu.grad.device) == ("cpu", "gpu:0")
    with pytest.raises(ValueError, match=r"live on different devices .* move one"):
        cpu + gpu


def test_float16_and_tf32_are_close_to_float32():
    a, b = (
        Tensor(np.random.default_rng(i).normal(size=(3, 64, 64)).astype("float32"), device="gpu")
        for i in range(2)
    )
    expected = a.numpy().astype("float64") @ b.numpy()
    with no_grad():
        for dtype, allowed, atol in (
            ("float32", False, 1e-3),
            ("float32", True, 0.1),
            ("float16", False, 0.2),
        ):
            tinycv.allow_tf32(allowed)
            assert np.allclose((a.to(dtype) @ b.to(dtype)).numpy(), expected, atol=atol)
    tinycv.allow_tf32(False)


def test_the_doctor_names_the_gpu():
    report = doctor.report()["gpu"]
    assert report["usable"] and report["names"] and report["tf32"] is False


# of the double all are, by tests/engine
@pytest.mark.parametrize("name", names() if REAL_GPU else ["matmul", "softmax"])
def test_every_derivative_is_certified_on_the_gpu(name):
    line, failure = table.row(name, ["gpu"])
    assert not failure, f"{line}\n{failure}"
