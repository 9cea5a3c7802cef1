"""The suites models, scale and backends: their contenders do the same work, and its cost is counted right."""
from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cupy_double import blas, counting

sys.path.insert(0, str(Path(__file__).parent.parent))       # benchmarks is no part of the installed package

from benchmarks import __main__ as command
from benchmarks import backends, capture, contenders, device, functional, measure, models, networks, report, scale, session
from benchmarks.tasks import Score, Transformer
from tinycv.engine import backend
from tinycv.engine.tensor import Tensor

ROWS = [*models.every(models.TINY), *scale.rows(True), *backends.rows(True)]
EVERY = [*models.rows(), *scale.rows(), *backends.rows()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.name}")
def test_the_contenders_of_every_tiny_row_agree(row):
    ran = [c for c in row.contenders if not c.missing]
    results = {c.name: {name: numbers(a) for name, a in c.make(*c.args)().items()} for c in ran}
    assert ran[0].name == row.contenders[0].name, "the first contender is never missing"
    measure.gate(results)
    gradients = [a for name, a in results[ran[0].name].items() if name.startswith("gradient")]
    assert all(np.abs(a).max() > 0 for a in gradients)
    assert bool(gradients) == (row.of == "step" or "training" in row.name)


def numbers(value):
    return np.array(value.detach().numpy() if hasattr(value, "detach") else value)      # a copy: steps change in place


def test_a_row_says_why_a_contender_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for row in models.every(models.TINY):
        reasons = {c.name: c.missing for c in row.contenders}
        assert reasons["HIPS autograd"] and reasons["MyGrad"], row
    assert models.lacks(models.Mlp(), True, "autograd") == "autograd and scipy not installed"


def test_without_a_gpu_its_contenders_say_so():
    from benchmarks.device import torch_problem
    from tinycv.engine.backend import gpu_problem
    reasons = {"CuPy": str(gpu_problem() or ""), "PyTorch on the GPU": torch_problem()}
    for row in backends.rows(True):
        assert [c.name for c in row.contenders] == ["NumPy", "CuPy", "PyTorch", "PyTorch on the GPU"]
        assert {c.name: c.missing for c in row.contenders if c.on_device} == reasons


@pytest.mark.parametrize("make", [partial(contenders.by_tinycv, models.TINY["tiny ViT"], True, False, "gpu:0"),
                                  partial(backends.chain, "matrix product", 8, "tinycv", "gpu:0")])
def test_what_a_figure_of_a_gpu_hides_is_told_apart(double, make):
    found = device.apart(make)
    assert {"cold_s", "host_s", "device_s", "transfer_s", "end_to_end_s", "memory"} == set(found)
    assert all(found[part] > 0 for part in report.APART)
    assert found["device_s"] >= 0.9 * found["host_s"] and found["end_to_end_s"] > 0.5 * found["device_s"]


def test_a_work_on_a_gpu_is_waited_for_and_its_queue_is_not(double):
    work = contenders.by_tinycv(models.TINY["tiny MLP"], True, False, "gpu:0")
    for call, waits in ((work, 1), (work.queue, 0), (work.send, 0), (work.end_to_end, 1)):
        with counting() as seen:
            call()
        assert seen.count == waits


def test_a_record_of_the_double_is_not_published(tmp_path, capsys):
    record = {"suite": "backends", "quick": False, "rows": [],
              "environment": {"gpu": {"usable": True, "names": ["strict double of a GPU"]}}}
    (tmp_path / "double.json").write_text(json.dumps(record))
    assert command.main(["report", str(tmp_path / "double.json")]) == 2
    assert "times mean nothing" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


def test_the_suite_is_not_run_on_the_double(double, capsys):
    backend.resolve("gpu")
    assert command.main(["run", "backends", "--only", "MLP"]) == 2
    assert "double of CuPy" in capsys.readouterr().err


def test_a_session_without_a_gpu_says_not_measured_and_why(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backend, "gpu_problem", lambda: "no driver")
    assert command.main(["session", "--out", str(tmp_path)]) == 2
    assert "GPU: not measured. no driver" in capsys.readouterr().err


def told(monkeypatch, tmp_path, tests, graphs, suite):
    """(code, record) of a session whose three steps are these functions."""
    def run(file, passed):
        assert 0 <= passed < 60
        file.write_text('{"rows": []}')
        return suite()
    monkeypatch.setattr(session, "tested", tests)
    monkeypatch.setattr(capture, "captured", graphs)
    monkeypatch.setattr(session, "suite", run)
    code = session.session(tmp_path)
    return code, json.loads((tmp_path / "backends_strict_double_of_a_GPU.json").read_text())


PASSED, GRAPHS = {"failed": False, "output": "12 passed"}, {"elementwise": {"error": "no\nNotImplementedError: graphs"}}


@pytest.mark.parametrize("failed, refused, code", [(False, 0, 0), (True, 0, 1), (False, 1, 1)])
def test_a_session_names_its_file_after_the_gpu_and_keeps_all_steps(double, monkeypatch, tmp_path, capsys, failed, refused,
                                                                    code):
    tests = PASSED | {"failed": failed}
    found, record = told(monkeypatch, tmp_path, lambda: tests, lambda: GRAPHS, lambda: {"code": refused})
    assert found == code and record == {"rows": [], "tests": tests, "captured": GRAPHS, "suite": {"code": refused},
                                        "judged": session.judged({})}
    said = capsys.readouterr().out
    assert "12 passed" in said and "elementwise, captured: NotImplementedError: graphs" in said


@pytest.mark.parametrize("place", range(3))
def test_a_step_of_a_session_that_fails_leaves_its_error_and_the_others(double, monkeypatch, tmp_path, place):
    def fails():
        raise OSError("the disk is full")
    steps = [lambda: PASSED, lambda: GRAPHS, lambda: {"code": 0}]
    steps[place] = fails
    code, record = told(monkeypatch, tmp_path, *steps)
    expected = {"tests": PASSED, "captured": GRAPHS, "suite": {"code": 0}}
    expected[list(expected)[place]] = {"error": "OSError: the disk is full"}
    assert code == 1 and record == {"rows": [], **expected, "judged": session.judged({})}


def test_a_session_judges_steps_by_pytorch_and_products_by_the_roof():
    def row(name, of, ours, theirs, **more):
        contenders = [{"name": "CuPy", "on_device": True, "median": ours}, {"name": "PyTorch", "ratio": ours / theirs}]
        return dict(group="reference", name=name, of=of, flops=1e9, dtype="float32", contenders=contenders) | more
    peak = {"library": "CuPy, float32", "threads": "GPU", "gflops": 4.0}
    found = session.judged({"environment": {"peaks": {"products": [peak], "copies": []}}, "rows": [
        row("ViT-Base", "step", 1.0, 2.0), row("LSTM", "step", 4.0, 2.0), row("products", "call", 0.5, 0.5),
        row("in halves", "step", 1.0, 9.0, dtype="float16"), {**row("MLP", "step", 1, 9), "group": "MLP"},
        {"group": "reference", "name": "refused", "of": "step", "contenders": [{"name": "CuPy"}, {"name": "PyTorch"}]}]})
    assert found["step / PyTorch eager's"] == {"ViT-Base": 0.5, "LSTM": 2.0} and found["geometric mean"] == pytest.approx(1)
    assert found["share of the roof"] == {"ViT-Base": 0.25, "LSTM": 0.0625, "products": 0.5, "in halves": None}


@pytest.mark.parametrize("device", ["cpu", "gpu:0"])
def test_the_products_of_a_block_are_its_forward_and_backward(double, device):
    row, task = backends.products_row("tiny ViT", models.TINY["tiny ViT"]), models.TINY["tiny ViT"]
    assert row.flops * task.layers < task.flops(True)               # the rest: the patches and the head
    found = {name: numbers(a) for name, a in backends.products(task, "tinycv", device)().items()}
    assert found["weights"].shape == (3 * task.width, task.width) and len(found) == 7
    measure.gate({"cpu": {n: numbers(a) for n, a in backends.products(task, "tinycv", "cpu")().items()}, device: found})


def test_a_step_in_halves_is_near_to_one_in_float32(double):
    task = models.TINY["tiny ViT"]
    losses = [numbers(contenders.by_tinycv(task, True, device=device, half=half)()["loss"])
              for device, half in (("cpu", False), ("cpu", True), ("gpu:0", True))]
    assert len({float(loss) for loss in losses}) > 1 and np.allclose(losses, losses[0], rtol=5e-3)


def test_what_an_earlier_session_left_is_not_taken_for_this_ones(double, monkeypatch, tmp_path):
    (tmp_path / "backends_strict_double_of_a_GPU.json").write_text('{"rows": ["old"]}')
    monkeypatch.setattr(session, "tested", lambda: PASSED)
    monkeypatch.setattr(capture, "captured", lambda: GRAPHS)
    monkeypatch.setattr(session, "suite", lambda file, passed: {"code": 2})
    assert session.session(tmp_path) == 1
    assert "rows" not in json.loads((tmp_path / "backends_strict_double_of_a_GPU.json").read_text())


def test_a_suite_begins_no_row_late_and_is_stopped_where_it_hangs(monkeypatch, tmp_path):
    asked = []

    def run(command, cwd, timeout):
        asked.append((float(command[command.index("--minutes") + 1]) * 60, timeout))
        return SimpleNamespace(returncode=1)
    monkeypatch.setattr(session.subprocess, "run", run)
    assert session.suite(tmp_path / "a.json", 30.0) == session.suite(tmp_path / "a.json", 520.0) == {"code": 1}
    assert asked == [(480.0, 560.0), (0.0, 70.0)]
    monkeypatch.undo()
    found = session.outcome(lambda: session.suite(tmp_path / "a.json", session.ENDING))
    assert found["error"].startswith("TimeoutExpired")


def test_tests_that_hang_are_stopped_and_said_to_have(monkeypatch):
    monkeypatch.setattr(session, "TESTING", 0.01)
    found = session.tested()
    assert found["failed"] and "took more than 0.01 s" in found["output"]


# ── captured steps ───────────────────────────────────────────────────────────────────────────────

def not_captured(why):
    found = capture.captured()
    assert found == {name: {"missing": f"GPU: not measured. {why}"} for name in capture.attempts()}
    return {capture.sentence(*pair) for pair in found.items()}


def test_without_a_gpu_no_capture_is_measured(monkeypatch):
    monkeypatch.setattr(backend, "gpu_problem", lambda: "no driver")
    assert "elementwise, captured: GPU: not measured. no driver" in not_captured("no driver")


def test_on_the_double_no_capture_is_measured(double):
    not_captured("this CuPy has no streams that capture")


def sgemm(handle, turn_a, turn_b, m, n, k, alpha, a, down_a, b, down_b, beta, c, down_c):
    """cublasSgemm_v2 on the host, as ctypes hands it over."""
    left, right = (blas.columns(x.value, 0, *shape, 0, 1) for x, shape in ((a, (m, k, down_a)), (b, (k, n, down_b))))
    blas.columns(c.value, 0, m, n, down_c, 0, 1)[...] = alpha._obj.value * left @ right
    assert (turn_a, turn_b, beta._obj.value) == (0, 0, 0)
    return 0


CUBLAS = SimpleNamespace(cublasSetStream_v2=lambda *_: 0, cublasSetWorkspace_v2=lambda *_: 0, cublasSgemm_v2=sgemm)


@pytest.mark.parametrize("name", capture.attempts())
@pytest.mark.parametrize("replays", [True, False])
def test_a_replay_is_held_against_the_eager_result(double, monkeypatch, name, replays):
    """On streams that note what was run; one of them forgets it."""
    work, make = [], capture.attempts()[name]

    def noted(xp):
        run, held = make(xp)
        work.append(run)
        return run, held
    graph = SimpleNamespace(launch=lambda: work[0]() if replays else None)
    monkeypatch.setattr(capture, "attempts", lambda: {name: noted})
    monkeypatch.setattr(capture, "SIDE", 16)
    monkeypatch.setattr(capture, "CALLS", 2)
    monkeypatch.setattr(capture, "libcublas", lambda: CUBLAS)
    monkeypatch.setattr(double.cuda.Stream, "begin_capture", lambda self: None, raising=False)
    monkeypatch.setattr(double.cuda.Stream, "end_capture", lambda self: graph, raising=False)
    found = capture.attempted(name)
    assert found["agree"] == replays and all(found[how]["device_s"] > 0 for how in ("eager", "replayed"))
    assert ("results agree" if replays else "results DIFFER") in capture.sentence(name, found)


def test_the_product_past_cupy_is_the_product(double, monkeypatch):
    monkeypatch.setattr(capture, "SIDE", 4)
    monkeypatch.setattr(capture, "libcublas", lambda: CUBLAS)
    ended = []
    for attempt in (capture.product, capture.product_past_cupy):
        backend.manual_seed(0)
        run, (x,) = attempt(double)
        run()
        ended.append(x.get())
    np.testing.assert_allclose(ended[1], ended[0], rtol=1e-5, atol=1e-7)


def test_an_attempt_that_crashes_or_hangs_leaves_its_error_and_the_next_one_its_chance(monkeypatch):
    assert "KeyError: 'no such attempt'" in capture.sentence("x", capture.in_its_own_process("no such attempt")) or (
        backend.gpu_problem() is not None)
    monkeypatch.setattr(capture, "LIMIT", 0.01)
    assert capture.in_its_own_process("elementwise") == {"error": "it took more than 0.01 s"}


def test_rows_that_did_not_begin_in_time_are_named(monkeypatch, tmp_path, capsys):
    command.main(["run", "scale", "--quick", "--minutes", "-1", "--out", str(tmp_path / "s.json")])
    assert "left out: " in capsys.readouterr().out


def test_every_row_has_a_cost_and_a_name_of_its_own():
    assert all(row.flops or row.bytes for row in EVERY)
    assert len({(row.group, row.name) for row in EVERY}) == len(EVERY)
    assert len({row.point for row in scale.rows()}) > 20


def test_the_memory_of_every_training_step_is_measured_unless_a_compiler_would_be():
    for row in (row for row in models.rows() if row.memory != row.name.startswith("training step")):
        assert row.group.startswith("compiled") and not row.memory


def test_every_task_has_a_network_and_those_of_autograd_a_function():
    kinds = {type(task) for task in models.TASKS.values()}
    assert kinds == {type(task) for task in models.TINY.values()} == set(networks.NETWORKS)
    assert kinds - set(functional.NETWORKS) == set(models.NO_AUTOGRAD)


def test_the_cost_of_a_recurrence_and_of_a_causal_mask():
    into, across, head = 4 * 3 * 2 * 20, 4 * 2 * 5 * 20, 4 * 5 * 3
    assert models.TINY["tiny LSTM"].flops(True) == 2 * (2 * into + 3 * across + 3 * head)
    full = Transformer(1, 6, 8, 2, 16, 1, 7).flops(False)
    seen, all_pairs = 6 * 7 // 2, 36
    assert full == 2 * (6 * 8 * 4 * 8 + 2 * seen * 8 + 2 * 6 * 8 * 16 + 6 * 8 * 7) < full + 2 * 2 * (all_pairs - seen) * 8


def test_the_score_that_is_matched_has_its_exact_divergence():
    """Hyvarinen's loss of a network, beside finite differences of the network itself."""
    from benchmarks.libraries import tinycv_parts
    task, lib = Score(4, 8), tinycv_parts()
    model = networks.build(lib, task).to("float64")
    (x,) = (a.astype(np.float64) for a in task.examples())
    score, step = lambda a: model(Tensor(a)).numpy(), 1e-5
    trace = sum((score(x + step * e)[:, i] - score(x - step * e)[:, i]) / (2 * step) for i, e in enumerate(np.eye(2)))
    expected = ((score(x) ** 2).sum(axis=1) / 2 + trace).mean()
    assert networks.match_score(lib, model, Tensor(x)).item() == pytest.approx(expected, rel=1e-7)
