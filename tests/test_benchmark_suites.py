"""The suites models, scale and backends: their contenders do the same work, and its FLOPs are
correct."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cupy_double import counting

# benchmarks is not part of the installed package
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import __main__ as command
from benchmarks import (
    backends,
    contenders,
    device,
    functional,
    kernels,
    measure,
    models,
    networks,
    ops,
    optimisers,
    peaks,
    profile,
    report,
    scale,
    session,
    tiles,
    worker,
)
from benchmarks.row import QUICK, Contender, Effort, Row
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
    # a copy, because steps change the parameters in place
    return np.array(value.detach().numpy() if hasattr(value, "detach") else value)


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
        assert [c.name for c in row.contenders][:4] == [
            "NumPy",
            "CuPy",
            "PyTorch",
            "PyTorch on the GPU",
        ]
        assert reasons.items() <= {c.name: c.missing for c in row.contenders if c.on_device}.items()


@pytest.mark.parametrize(
    "make",
    [
        partial(contenders.by_tinycv, models.TINY["tiny ViT"], True, None, "gpu:0"),
        partial(backends.chain, "matrix product", 8, "tinycv", "gpu:0"),
    ],
)
def test_host_device_and_transfer_times_of_a_gpu_are_measured_separately(double, make):
    found = device.device_times(make())
    assert {"host_s", "device_s", "transfer_s", "end_to_end_s", "memory"} == set(found)
    assert all(found[part] > 0 for part in report.DEVICE_TIMES)
    assert found["device_s"] >= 0.9 * found["host_s"]


def test_end_to_end_includes_copying_and_the_work():
    """The work sleeps, and a sleep is never shorter than requested. Comparing two real timings
    would be a matter of luck."""
    work = device.Waited(
        lambda: time.sleep(0.02) or {"y": np.zeros(1)},
        lambda: time.sleep(0.01),
        lambda: None,
        lambda call: (call() and 0.02, 0.02),
        lambda: 5,
    )
    found = device.device_times(work)
    assert found["end_to_end_s"] >= 0.03 and found["transfer_s"] >= 0.01
    assert found["memory"]["bytes"] == 5


def test_a_work_on_a_gpu_waits_and_its_queue_does_not(double):
    work = contenders.by_tinycv(models.TINY["tiny MLP"], True, None, "gpu:0")
    for call, waits in ((work, 1), (work.queue, 0), (work.send, 0), (work.end_to_end, 1)):
        with counting() as seen:
            call()
        assert seen.count == waits


def test_a_record_of_the_double_is_not_published(tmp_path, capsys):
    record = {
        "suite": "backends",
        "quick": False,
        "rows": [],
        "environment": {"gpu": {"usable": True, "names": ["strict double of a GPU"]}},
    }
    (tmp_path / "double.json").write_text(json.dumps(record))
    assert command.main(["report", str(tmp_path / "double.json")]) == 2
    assert "times mean nothing" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


def test_the_suite_is_not_run_on_the_double(double, capsys):
    backend.resolve("gpu")
    assert command.main(["run", "backends", "--only", "MLP"]) == 2
    assert "double of CuPy" in capsys.readouterr().err


def test_a_session_without_a_gpu_says_why_nothing_was_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backend, "gpu_problem", lambda: "no driver")
    assert command.main(["session", "--out", str(tmp_path)]) == 2
    assert "GPU: not measured. no driver" in capsys.readouterr().err


CARD = "gpu_strict_double_of_a_GPU.json"


def visited(monkeypatch, tmp_path, parts, **options):
    """(exit code, record) of a session with these parts: functions of the seconds that they may
    take."""
    monkeypatch.setattr(
        session,
        "PARTS",
        {
            name: (lambda visit, seconds, part=part: part(seconds), 10.0)
            for name, part in parts.items()
        },
    )
    code = session.session(tmp_path, **options)
    return code, json.loads((tmp_path / CARD).read_text())


PASSED = {"failed": False, "output": "12 passed"}


@pytest.mark.parametrize(
    "found, code",
    [(PASSED, 0), (PASSED | {"failed": True}, 1), ({"measured": 1, "refused": ["a"]}, 1)],
)
def test_a_session_names_its_file_after_the_gpu_and_keeps_every_part(
    double, monkeypatch, tmp_path, found, code
):
    ended, record = visited(
        monkeypatch, tmp_path, {"tests": lambda _: found, "profile": lambda _: {"x": 1}}
    )
    assert ended == code and record["rows"] == [] and record["left_out"] == []
    assert {
        name: {k: v for k, v in part.items() if k != "took_s"}
        for name, part in record["parts"].items()
    } == {"tests": found, "profile": {"x": 1}}
    assert record["judged"] == session.judged({}) and record["sources"] == session.sources()


@pytest.mark.parametrize("place", range(2))
def test_a_part_that_fails_writes_its_error_and_the_others_still_run(
    double, monkeypatch, tmp_path, place
):
    def fails(_):
        raise OSError("the disk is full")

    parts = [lambda _: PASSED, lambda _: {"x": 1}]
    parts[place] = fails
    code, record = visited(monkeypatch, tmp_path, {"tests": parts[0], "profile": parts[1]})
    names = ["tests", "profile"]
    assert code == 1 and record["parts"][names[place]]["error"] == "OSError: the disk is full"
    assert "error" not in record["parts"][names[1 - place]]


def test_a_part_gets_the_remaining_time_and_none_starts_without_time(double, monkeypatch, tmp_path):
    given, clock = [], [100.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: clock[0])

    def part(seconds):
        given.append(seconds)
        clock[0] += 7
        return PASSED

    _, record = visited(monkeypatch, tmp_path, dict.fromkeys("abc", part), minutes=16 / 60)
    assert given == [pytest.approx(10), pytest.approx(9)] and record["left_out"] == ["c"]
    given.clear()
    visited(monkeypatch, tmp_path, dict.fromkeys("abc", part), only="c,a:6", minutes=1)
    assert given == [pytest.approx(10), pytest.approx(6)]


def test_an_unknown_part_is_named(double, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(session, "PARTS", {"tests": (None, 1)})
    assert session.session(tmp_path, only="test") == 2
    assert "--only takes parts among tests; not test" in capsys.readouterr().err
    for wrong in ("tests:soon", "tests:nan", "tests:-3"):
        assert session.session(tmp_path, only=wrong) == 2
        assert (
            f"seconds of a part as a whole number, as in reference:90; not {wrong}"
            in capsys.readouterr().err
        )


def test_convolution_by_tiles_agrees_with_convolution_by_columns(double):
    found = list(tiles.rows(double, [(2, 16, 24, 9, 3, 2, 1), (2, 16, 16, 9, 3, 1, 1)], 1, 1))
    assert [row["map"] for row in found] == ["forward", "to_input", "to_weight"] * 2
    assert all(row["error"] < 1e-5 and row["same_bits"] and row["tiles_ms"] > 0 for row in found)


def test_a_wrong_output_path_is_refused_before_anything_is_measured(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        assert session.session(folder) == 2
        assert f"name a folder for the record: {file} is a file" in capsys.readouterr().err
    assert tiles.main(tmp_path) == 2
    assert f"name a file for the record: {tmp_path} is a folder" in capsys.readouterr().err
    assert command.main(["run", "ops", "--quick", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} is a folder, not a file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["bounds", "--out", str(file / "bounds.json")])
    assert f"cannot be written: {file} is a file" in capsys.readouterr().err


def test_without_a_gpu_no_tiles_are_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backend, "gpu_problem", lambda: "no driver")
    assert (
        tiles.main(tmp_path / "a.json") == 2
        and "no driver" in capsys.readouterr().err
        and not list(tmp_path.iterdir())
    )


def rows_of(visit, rows):
    return list(visit.measured(rows, QUICK, 60))


def test_rows_measured_with_the_same_sources_are_not_measured_again(double, monkeypatch, tmp_path):
    measured_names = []

    def measured(row, effort, processes):
        measured_names.append(row.name)
        return {
            "group": row.group,
            "name": row.name,
            "contenders": [],
            **({"refused": "no"} if row.name == "b" else {}),
        }

    monkeypatch.setattr(session, "measure", measured)
    rows = [Row("g", name, ()) for name in "abc"]
    rows_of(session.Visit(tmp_path, 1), rows[:2])
    rows_of(session.Visit(tmp_path, 1), rows)
    # a row that was refused is measured again
    assert measured_names == ["a", "b", "b", "c"]
    monkeypatch.setattr(session, "sources", lambda: "other sources")
    rows_of(session.Visit(tmp_path, 1), rows[:1])
    assert measured_names[-1] == "a"


def test_rows_that_do_not_start_in_time_are_listed(double, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "measure", lambda row, *_: pytest.fail("it began"))
    visit = session.Visit(tmp_path, 1)
    assert list(visit.measured([Row("g", "a", ())], QUICK, -1)) == []
    assert visit.record["left_out"] == ["g: a"]


def test_tests_that_take_too_long_are_stopped_and_report_what_failed(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # options of the outer pytest
    (tmp_path / "test_slow.py").write_text(
        "import time\n\ndef test_a():\n    assert 0, 'the reason'\n\n"
        "def test_b():\n    time.sleep(600)\n"
    )
    for limit in (3, 15, 60):  # on a busy machine, pytest needs longer to start
        found = session.pytest_run([str(tmp_path), "-p", "no:xdist"], limit)
        if "the reason" in found["output"]:
            break
    assert found["failed"] and "the reason" in found["output"]
    assert found["output"].startswith(f"the tests took more than {limit} s")


def test_a_session_records_the_figures_and_seconds_of_a_demo(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "ROOT", tmp_path)
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "07_x.py").write_text(
        "import json, sys\nfrom pathlib import Path\nout = Path(sys.argv[4])\n"
        "out.mkdir()\nrows = [{'metric': 'm', 'value': 1.5}]\n"
        "(out / '07_x.json').write_text(json.dumps({'seconds': 2, 'rows': rows}))\n"
    )
    visit = SimpleNamespace(file=tmp_path / "record.json")
    assert session.demo(visit, "07_x", (), 60) == {"seconds": 2, "figures": {"m": 1.5}}
    assert "No such file" in session.demo(visit, "08_y", (), 60)["error"]
    monkeypatch.setattr(session, "DEMOS", (("07_x", ()), ("07_x", ("--half",))))
    monkeypatch.setattr(session, "NEEDED", ())
    assert session.demos(visit, 60)["07_x --half"] == {"seconds": 2, "figures": {"m": 1.5}}
    assert session.demos(visit, 1)["07_x --half"] == {"missing": "no time was left"}
    monkeypatch.setattr(session, "NEEDED", ("nowhere_to_be_found",))
    assert session.demos(visit, 60) == {"missing": "nowhere_to_be_found not installed"}


def test_a_session_compares_steps_with_pytorch_and_products_with_the_peak():
    def row(name, of, ours, theirs, **more):
        contenders = [
            {"name": "CuPy", "on_device": True, "median": ours},
            {"name": "PyTorch", "ratio": ours / theirs},
        ]
        return (
            dict(
                group="reference",
                name=name,
                of=of,
                flops=1e9,
                dtype="float32",
                contenders=contenders,
            )
            | more
        )

    peaks = [
        {"library": f"CuPy, {kind}", "threads": "GPU", "gflops": gflops}
        for kind, gflops in (("float32", 4), ("tf32", 8))
    ]
    found = session.judged(
        {
            "environment": {"peaks": {"products": peaks}},
            "rows": [
                row("ViT-Base", "step", 1.0, 2.0),
                row("LSTM", "step", 4.0, 2.0),
                row("products", "call", 0.5, 0.5),
                row("ViT-Base", "step", 1.0, 9.0, dtype="tf32", group="reference, TF32"),
                {**row("MLP", "step", 1, 9), "group": "MLP"},
                {
                    "group": "reference",
                    "name": "refused",
                    "of": "step",
                    "contenders": [{"name": "CuPy"}, {"name": "PyTorch"}],
                },
            ],
        }
    )
    plain, tf32 = found["reference"], found["reference, TF32"]
    assert plain["step / PyTorch's eager step"] == {"ViT-Base": 0.5, "LSTM": 2.0} and plain[
        "geometric mean"
    ] == pytest.approx(1)
    assert plain["share of the GPU's peak"] == {"ViT-Base": 0.25, "LSTM": 0.0625, "products": 0.5}
    assert (
        tf32["share of the GPU's peak"] == {"ViT-Base": 0.125}
        and found["reference, float16"]["geometric mean"] is None
    )


@pytest.mark.parametrize("row", kernels.rows(True), ids=lambda row: row.group)
def test_a_cuda_kernel_its_array_calls_and_pytorch_do_the_same(double, row):
    ours = [c for c in row.contenders if not c.name.startswith("PyTorch")]
    assert [c.name for c in ours] == ["CUDA kernel", "array calls"]
    results = {c.name: {name: numbers(a) for name, a in c.make(*c.args)().items()} for c in ours}
    # PyTorch's contender is run on the CPU, which is enough to test its calls
    if importlib.util.find_spec("torch"):
        make = optimisers.by_torch if row.group == "AdamW" else ops.pair_by_torch
        results["PyTorch"] = {
            name: numbers(a) for name, a in make(*row.contenders[2].args)().items()
        }
    measure.gate(results, row.rtol)


def test_array_calls_use_no_cuda_kernel(double):
    from tinycv.engine.fused import PAIRS

    x = Tensor(np.ones((2, 3), "float32"), device="gpu")
    with counting() as with_kernel:
        PAIRS["softmax"](x)
    with kernels.array_calls(), counting() as without:
        PAIRS["softmax"](x)
    assert with_kernel.launches == 1 < without.launches
    with counting() as again:
        PAIRS["softmax"](x)
    assert again.launches == 1


def test_a_profile_lists_its_kernels():
    step = {"wall_s": 2e-3, "host_s": 1e-3, "busy_s": 1.5e-3, "launches": 12}
    said = profile.lines("tinycv, LSTM", step | {"kernels": [("gemm", 3.0, 1e-3)]})
    assert said[0] == "tinycv, LSTM: wall 2 ms, host 1 ms, kernels 1.5 ms in 12 launches"
    assert "gemm" in said[1]
    assert profile.lines("x", {"error": "OSError"}) == ["x: {'error': 'OSError'}"]


def test_a_profile_without_a_gpu_has_no_launches():
    nothing = (lambda: None,) * 2
    work = device.Waited(dict, *nothing, lambda call: (0, 0), lambda: 0)
    if not importlib.util.find_spec("torch"):  # the profiler is part of PyTorch
        with pytest.raises(ModuleNotFoundError):
            profile.profiled(work)
        return
    found = profile.profiled(work)
    assert found["launches"] == 0 < found["host_s"] and found["kernels"] == []


def test_the_profiles_of_a_session_are_of_steps_and_a_failure_is_one_steps_alone(
    double, monkeypatch, tmp_path
):
    contenders = Contender("a", peaks.product, ("NumPy",)), Contender("b", None, missing="no GPU")
    rows = [Row("reference", "LSTM", contenders, "step"), Row("reference", "x", contenders)]
    monkeypatch.setattr(backends, "rows", lambda: rows)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    visit = session.Visit(tmp_path, 1)
    found = session.profiles(visit, 600)
    assert found["torch"] == {"LSTM": {"missing": "no GPU"}} and list(found["tinycv"]) == ["LSTM"]
    assert "a failed: TypeError" in found["tinycv"]["LSTM"]["error"]
    assert session.profiles(visit, -1) == {"tinycv": {}, "torch": {}}
    assert visit.record["left_out"] == ["profile: LSTM, tinycv", "profile: LSTM, torch"]


# arguments of peaks.product: its process starts quickly, without importing this test file
PRODUCT = "NumPy", (4, 4, 4)


def test_a_contender_keeps_its_process_from_row_to_row_until_it_fails():
    rows = [
        Row("g", "x", (Contender("a", peaks.product, args),))
        for args in (PRODUCT, PRODUCT, ("NumPy",))
    ]
    seen = []
    with worker.Processes(patience=60) as processes:
        for row in rows:
            found = measure.measure(row, QUICK, processes)
            seen.append([each.process.pid for each in processes.workers.values()])
    assert len(seen[0]) == 1 and seen[1] == seen[0] and not seen[2]
    assert "a failed: TypeError" in found["refused"]


def test_a_contender_that_gives_no_answer_is_given_up():
    with worker.Processes(patience=0.5) as processes:
        row = Row("g", "x", (Contender("a", time.sleep, (60,)),))
        assert measure.measure(row, QUICK, processes)["refused"] == "a gave no answer within 0.5 s"


def test_fewer_samples_are_taken_if_a_call_takes_long():
    effort = Effort(rounds=2, samples=5, sample=0.001, warm=0.001, settle=0.0, longest=0.5)
    with (
        worker.Worker(Contender("slow", partial, (time.sleep, 0.2))) as one,
        worker.Worker(Contender("fast", partial, (time.sleep, 0))) as other,
    ):
        found = worker.interleaved([one, other], effort)
    assert found["slow"].shape == (2, 1) and found["fast"].shape == (2, 5)


@pytest.mark.parametrize("device", ["cpu", "gpu:0"])
def test_the_products_of_a_block_are_its_forward_and_backward(double, device):
    row, task = backends.products_row("tiny ViT", models.TINY["tiny ViT"]), models.TINY["tiny ViT"]
    # the rest of the step: the patch embedding and the head
    assert row.flops * task.layers < task.flops(True)
    found, on_cpu = (
        {name: numbers(a) for name, a in backends.products_of_block(task, "tinycv", d)().items()}
        for d in (device, "cpu")
    )
    assert found["weights"].shape == (3 * task.width, task.width) and len(found) == 7
    measure.gate({"cpu": on_cpu, device: found})


def test_a_step_in_half_precision_is_close_to_one_in_float32(double):
    task = models.TINY["tiny ViT"]
    losses = [
        numbers(contenders.by_tinycv(task, True, device=device, half=half)()["loss"])
        for device, half in (("cpu", False), ("cpu", True), ("gpu:0", True))
    ]
    assert len({float(loss) for loss in losses}) > 1 and np.allclose(losses, losses[0], rtol=5e-3)


def test_every_model_has_flops_and_every_row_a_unique_name():
    assert all(row.flops for row in EVERY if row.of in ("step", "batch"))
    assert len({(row.group, row.name) for row in EVERY}) == len(EVERY)
    assert len({row.point for row in scale.rows()}) > 20


def test_the_memory_of_every_training_step_is_measured_unless_a_compiler_would_be():
    for row in (row for row in models.rows() if row.memory != row.name.startswith("training step")):
        assert row.group.startswith("compiled") and not row.memory


def test_every_task_has_a_network_for_each_library_that_supports_it():
    kinds = {type(task) for task in models.TASKS.values()}
    assert kinds == {type(task) for task in models.TINY.values()} == set(networks.NETWORKS)
    assert kinds - set(functional.NETWORKS) == set(models.CANNOT["autograd"])


def test_the_flops_of_a_recurrence_and_of_a_causal_mask():
    into, across, head = 4 * 3 * 2 * 20, 4 * 2 * 5 * 20, 4 * 5 * 3
    assert models.TINY["tiny LSTM"].flops(True) == 2 * (2 * into + 3 * across + 3 * head)
    full = Transformer(1, 6, 8, 2, 16, 1, 7).flops(False)
    seen, all_pairs = 6 * 7 // 2, 36
    assert (
        full
        == 2 * (6 * 8 * 4 * 8 + 2 * seen * 8 + 2 * 6 * 8 * 16 + 6 * 8 * 7)
        < full + 2 * 2 * (all_pairs - seen) * 8
    )


def test_score_matching_uses_the_exact_divergence_of_the_score():
    """Hyvarinen's loss of a network, compared with finite differences of the network."""
    from benchmarks.libraries import tinycv_parts

    task, lib = Score(4, 8), tinycv_parts()
    model = networks.build(lib, task).to("float64")
    (x,) = (a.astype(np.float64) for a in task.examples())
    score, step = lambda a: model(Tensor(a)).numpy(), 1e-5
    trace = sum(
        (score(x + step * e)[:, i] - score(x - step * e)[:, i]) / (2 * step)
        for i, e in enumerate(np.eye(2))
    )
    expected = ((score(x) ** 2).sum(axis=1) / 2 + trace).mean()
    assert networks.match_score(lib, model, Tensor(x)).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("width", [64, 256])
def test_no_hidden_unit_of_the_transformer_is_so_close_to_0_that_rounding_decides_its_gradient(
    width,
):
    """In float64. With weights around 0, the closest of four million units was 6e-8 from ReLU's
    kink, and float32 rounds these units by 5e-7."""
    task = Transformer(4, 64, width, 4, 4 * width)
    start = task.weights(networks.shapes_of(task))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1 << 11, width))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    x = x * start["blocks.0.norm1.weight"] + start["blocks.0.norm1.bias"]
    weight, bias = start["blocks.0.linear1.weight"], start["blocks.0.linear1.bias"]
    units = x @ weight.T.astype(float) + bias
    assert np.abs(units).min() > 1e-5
    assert 0.4 < (units > 0).mean() < 0.6, "half of the units pass their gradient, half stop it"
