"""The benchmark runs, keeps its samples, and refuses to give the speed of a wrong answer. Nothing
here is timed.

Comparing two runs, what it draws and what it measures of a machine are in test_benchmark_tools.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import works

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks is no part of the installed package

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import (  # noqa: E402
    backends,
    gate,
    measure,
    models,
    ops,
    report,
    scale,
    statistics,
    work,
)
from benchmarks.row import QUICK, Contender, Row  # noqa: E402
from benchmarks.worker import Processes, Worker, settings  # noqa: E402
from tinycv.engine import blas  # noqa: E402


def row(*others: Contender) -> Row:
    return Row("test", "three numbers", (Contender("right", works.numbers), *others))


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_every_sample_of_the_rows_asked_for(tmp_path):
    file = tmp_path / "ops.json"
    words = ["-m", "benchmarks", "run", "ops", "--quick", "--rounds", "3", "--only"]
    done = subprocess.run(
        [sys.executable, *words, "8 x 8", "--out", file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(file.read_text())
    facts = {"commit", "load", "cpu", "blas", "versions", "settings"}
    assert facts <= set(record["environment"])
    (row,) = record["rows"]
    assert row["group"] == "one op"
    for entry in row["contenders"]:
        if "missing" in entry:
            assert (entry["name"], entry["missing"]) == ("PyTorch", "PyTorch is not installed")
            continue
        samples = np.array(entry["samples"])
        assert samples.shape == (3, QUICK.samples) and (samples > 0).all()
        assert entry["n"] == samples.size and entry["median"] == pytest.approx(np.median(samples))
        assert entry["interval"][0] <= entry["interval"][1]
        about = entry["about"]
        assert about["kernels"] and ("blas_kernel" in about) == ("memory" in about)
        assert ("memory" in about) == (entry["name"] != "PyTorch"), (
            "tinycv's malloc setting must not help PyTorch"
        )
    assert row["name"] in done.stdout and row["name"] in "\n".join(report.row_lines(row))


def test_an_unknown_word_is_told(capsys):
    assert command.main(["run", "ops", "--quick", "--only", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_the_memory_of_long_attention_is_measured():
    """What it means that a row asks for it is tested in test_benchmark_tools.py."""
    for quick in (True, False):
        assert all(row.memory for row in ops.long_attention(quick))


def test_a_quick_run_has_a_row_of_every_group():
    assert [row.group for row in ops.rows(quick=True)] == [
        "one op",
        "pair",
        "MultiheadAttention",
        "long attention",
        "reduce",
        "optimiser",
        "ViT train step",
    ]


@pytest.mark.parametrize("outside", [False, True], ids=["tinycv", "other libraries"])
def test_every_contender_does_its_work_in_a_process_and_others_without_tinycv(outside):
    """Of every quick row of the suites that a CPU runs. A process imports its libraries, which
    takes seconds; so one process does the work of all contenders, one after the other."""
    suites = (ops, models, scale, backends)
    rows = [row for suite in suites for row in suite.rows(quick=True)]
    others = ("PyTorch", "HIPS autograd", "MyGrad")
    asked = [
        contender
        for row in rows
        for contender in row.contenders
        if contender.name.startswith(others) == outside
    ]
    ran = [contender for contender in asked if not contender.missing]
    if outside and not ran:  # none of them is installed, and PyTorch's say so
        told = {contender.missing for contender in asked if contender.name == "PyTorch"}
        assert told == {"PyTorch is not installed"}
        return
    with Worker(ran[0]) as worker:
        for contender in ran:
            worker.ask("take", contender.make, contender.args)
            assert worker.ask("results"), contender
        about = worker.ask("about")
        assert worker.ask("memory")
    assert ("memory" in about) != outside, "tinycv's malloc setting must not help PyTorch"


# ── the gate ─────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_contender_gets_no_speed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        ops, "rows", lambda quick: [row(Contender("wrong", works.numbers, (0.01,)))]
    )
    assert command.main(["run", "ops", "--quick", "--out", str(tmp_path / "ops.json")]) == 1
    (refused,) = json.loads((tmp_path / "ops.json").read_text())["rows"]
    assert "wrong disagrees with right: result is 0.01 apart" in refused["refused"]
    assert not any({"samples", "median"} & set(c) for c in refused["contenders"])
    printed = capsys.readouterr().out
    assert "REFUSED: wrong disagrees with right" in printed and " us" not in printed


@pytest.mark.parametrize(
    "make, said",
    [
        (works.raises, "other failed: ValueError: no such op"),
        (works.dies, "the process of other ended with code 7"),
    ],
)
def test_a_contender_that_fails_is_named(make, said):
    assert measure.measure(row(Contender("other", make)), QUICK)["refused"] == said


A = np.array([1.0, -2.0], np.float32)


@pytest.mark.parametrize(
    "other, said",
    [
        ({"y": A, "g": A + np.float32(1e-3)}, "g is 0.001"),
        ({"y": A}, "only one of them has ['g']"),
        ({"y": A, "g": np.full_like(A, np.nan)}, "g is nan"),
        ({"y": A, "g": A[:1]}, "g is float32[1], not float32[2]"),
        ({"y": A.astype(np.float64), "g": A}, "y is float64[2], not float32[2]"),
    ],
)
def test_the_gate_sees_values_names_shapes_dtypes_and_nan(other, said):
    with pytest.raises(gate.Refused) as refusal:
        gate.gate({"one": {"y": A, "g": A}, "other": other})
    assert said in str(refusal.value)


def test_the_gate_lets_rounding_pass_and_a_row_may_let_more():
    gate.gate({"one": {"y": A}, "other": {"y": A * np.float32(1 + 1e-6)}})
    gate.gate({"one": {"y": A}, "other": {"y": A + np.float32(1e-3)}}, rtol=1e-3)
    wrong = Contender("wrong", works.numbers, (0.01,))
    assert "refused" not in measure.measure(replace(row(wrong), rtol=0.01), QUICK)


# ── the BLAS kernel ──────────────────────────────────────────────────────────────────────────────

ZEN4 = (
    "vendor_id : AuthenticAMD\nflags : lm avx512f avx512cd avx512bw avx512dq avx512vl avx512_bf16\n"
)
OURS, OTHERS = (
    ("tinycv", "kernel", "helper", "NumPy"),
    ("PyTorch, channels last", "plain NumPy", "HIPS autograd", "MyGrad"),
)


@pytest.fixture
def zen4(monkeypatch):
    monkeypatch.setattr(
        Path, "read_text", lambda path: ZEN4 if str(path) == "/proc/cpuinfo" else 1 / 0
    )
    for name in (blas.VARIABLE, "TINYCV_BLAS_KERNEL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_contender_of_tinycv_gets_the_kernel_that_tinycv_would_choose(zen4):
    assert all(
        settings(Contender(name, None)) == {"OPENBLAS_CORETYPE": "COOPERLAKE"} for name in OURS
    )
    assert not any(settings(Contender(name, None)) for name in OTHERS)
    assert settings(Contender("tinycv", None, env={"A": "1", blas.VARIABLE: "ZEN"})) == {
        "A": "1",
        blas.VARIABLE: "ZEN",
    }
    assert blas.VARIABLE not in os.environ


@pytest.mark.parametrize(
    "name, value", [("OPENBLAS_CORETYPE", "HASWELL"), ("TINYCV_BLAS_KERNEL", "0")]
)
def test_the_users_own_kernel_is_every_contenders(zen4, name, value):
    zen4.setenv(name, value)
    assert not any(settings(Contender(who, None)) for who in OURS)


def test_the_kernel_reaches_the_process_and_the_record(zen4):
    # every x86_64 can run it
    zen4.setattr(blas, "kernel_for", lambda facts: "NEHALEM")
    with Processes() as processes:
        record = measure.measure(row(Contender("PyTorch", works.numbers)), QUICK, processes)
        seen = {}
        for worker in processes.workers.values():
            worker.ask("take", works.asked_for, ())
            seen[worker.name] = worker.ask("results")["kernel"]
    assert seen == {"right": "NEHALEM", "PyTorch": "none"}
    assert [c["env"] for c in record["contenders"]] == [{"OPENBLAS_CORETYPE": "NEHALEM"}, {}]


# ── the rows ─────────────────────────────────────────────────────────────────────────────────────


def test_every_pair_has_a_row_with_inputs():
    import tinycv  # noqa: F401  (its chapters make the pairs)
    from tinycv.engine.fused import PAIRS

    assert set(ops.INPUTS) == set(PAIRS), (
        "a kernel stays only while a row of benchmarks/ops.py shows that it wins"
    )


ROWS = [
    *ops.one_op(),
    *ops.pairs(ops.TINY),
    *ops.reductions(ops.TINY),
    *ops.optimisers(True),
    *ops.train_steps((2,)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.name}")
def test_the_contenders_of_every_row_agree_and_go_backward(row):
    ours = {c.name: c.make(*c.args)() for c in row.contenders if c.name != "PyTorch"}
    results = {
        name: {k: gate.array_of(v) for k, v in result.items()} for name, result in ours.items()
    }
    gate.gate(results)
    if row.group not in ("reduce", "optimiser") and row.name.split(", ")[-1] != "forward":
        assert any(
            k.startswith("gradient") and np.abs(v).max() > 0
            for k, v in next(iter(results.values())).items()
        )


def test_without_pytorch_its_rows_say_so(monkeypatch):
    monkeypatch.setattr(work, "NO_TORCH", "PyTorch is not installed")
    record = measure.measure(ops.one_op()[1], QUICK)
    assert "samples" in record["contenders"][0]
    assert "not measured: PyTorch is not installed" in report.row_lines(record)[1]


# ── the figures ──────────────────────────────────────────────────────────────────────────────────


def test_the_ratio_and_its_interval():
    noisy = np.random.default_rng(0).normal(1.0, 0.05, (12, 5))
    # each round drifts alike: no doubt is left
    twice = statistics.figures((2 * noisy).tolist(), noisy.tolist())
    assert twice["ratio"] == pytest.approx(0.5) and twice["interval"] == pytest.approx([0.5, 0.5])
    low, high = statistics.bootstrap(noisy, noisy[::-1])
    assert low < 1 < high and high - low < 0.1


def test_a_slower_first_contender_is_named_as_a_loser():
    fast, slow = [[1.0, 1.0]] * 4, [[3.0, 3.0]] * 4
    entries = [
        {"name": name, **statistics.figures(x, slow)}
        for name, x in (("helper", slow), ("plain NumPy", fast))
    ]
    said = report.verdicts(
        {"rows": [{"group": "reduce", "name": "sum_last", "contenders": entries}]}
    )
    assert "slower (1 of 1 comparisons):" in said and any(
        "helper against plain NumPy: 3.00" in line for line in said
    )
