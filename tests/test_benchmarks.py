"""The benchmarks run, keep every sample, and give no figures for wrong results. Nothing here is
timed.

Comparing runs, charts and tables, memory and peaks are tested in test_benchmark_tools.py.
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
sys.path.insert(0, str(ROOT))  # benchmarks is not part of the installed package

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


# ── the command ───────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_every_sample_of_the_selected_rows(tmp_path):
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


def test_a_word_that_matches_no_row_is_reported(capsys):
    assert command.main(["run", "ops", "--quick", "--only", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_the_memory_of_long_attention_is_measured():
    """That rows with memory=True have a peak memory is tested in test_benchmark_tools.py."""
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
def test_every_contender_runs_in_a_process_and_those_of_other_libraries_without_tinycv(outside):
    """For every quick row of the suites that run on a CPU. Importing the libraries takes seconds,
    so one process does the work of all contenders, one after another."""
    suites = (ops, models, scale, backends)
    rows = [row for suite in suites for row in suite.rows(quick=True)]
    others = ("PyTorch", "HIPS autograd", "MyGrad")
    selected = [
        contender
        for row in rows
        for contender in row.contenders
        if contender.name.startswith(others) == outside
    ]
    ran = [contender for contender in selected if not contender.missing]
    if outside and not ran:  # none of the libraries is installed
        reasons = {contender.missing for contender in selected if contender.name == "PyTorch"}
        assert reasons == {"PyTorch is not installed"}
        return
    with Worker(ran[0]) as worker:
        for contender in ran:
            worker.request("take", contender.make, contender.args)
            assert worker.request("results"), contender
        about = worker.request("about")
        assert worker.request("memory")
    assert ("memory" in about) != outside, "tinycv's malloc setting must not help PyTorch"


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────


def test_a_contender_with_wrong_results_gets_no_figures(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        ops, "rows", lambda quick: [row(Contender("wrong", works.numbers, (0.01,)))]
    )
    assert command.main(["run", "ops", "--quick", "--out", str(tmp_path / "ops.json")]) == 1
    (refused,) = json.loads((tmp_path / "ops.json").read_text())["rows"]
    assert "wrong disagrees with right: result differs by 0.01" in refused["refused"]
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
        ({"y": A, "g": A + np.float32(1e-3)}, "g differs by 0.001"),
        ({"y": A}, "only one of them has ['g']"),
        ({"y": A, "g": np.full_like(A, np.nan)}, "g differs by nan"),
        ({"y": A, "g": A[:1]}, "g is float32[1], not float32[2]"),
        ({"y": A.astype(np.float64), "g": A}, "y is float64[2], not float32[2]"),
    ],
)
def test_the_gate_compares_values_names_shapes_and_dtypes_and_finds_nan(other, said):
    with pytest.raises(gate.Refused) as refusal:
        gate.gate({"one": {"y": A, "g": A}, "other": other})
    assert said in str(refusal.value)


def test_the_gate_accepts_rounding_and_a_row_may_set_its_tolerance():
    gate.gate({"one": {"y": A}, "other": {"y": A * np.float32(1 + 1e-6)}})
    gate.gate({"one": {"y": A}, "other": {"y": A + np.float32(1e-3)}}, rtol=1e-3)
    wrong = Contender("wrong", works.numbers, (0.01,))
    assert "refused" not in measure.measure(replace(row(wrong), rtol=0.01), QUICK)


# ── the BLAS kernel ───────────────────────────────────────────────────────────────────────────────

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
        Path, "read_text", lambda path, **_: ZEN4 if str(path) == "/proc/cpuinfo" else 1 / 0
    )
    for name in (blas.VARIABLE, "TINYCV_BLAS_KERNEL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_contender_of_tinycv_gets_the_blas_kernel_that_tinycv_would_choose(zen4):
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
def test_a_blas_kernel_set_by_the_user_applies_to_every_contender(zen4, name, value):
    zen4.setenv(name, value)
    assert not any(settings(Contender(who, None)) for who in OURS)


def test_the_blas_kernel_reaches_the_process_and_the_record(zen4):
    # every x86_64 processor can run this kernel
    zen4.setattr(blas, "kernel_for", lambda facts: "NEHALEM")
    with Processes() as processes:
        record = measure.measure(row(Contender("PyTorch", works.numbers)), QUICK, processes)
        seen = {}
        for worker in processes.workers.values():
            worker.request("take", works.blas_kernel, ())
            seen[worker.name] = worker.request("results")["kernel"]
    assert seen == {"right": "NEHALEM", "PyTorch": "none"}
    assert [c["env"] for c in record["contenders"]] == [{"OPENBLAS_CORETYPE": "NEHALEM"}, {}]


# ── the rows ──────────────────────────────────────────────────────────────────────────────────────


def test_every_pair_has_a_row_with_inputs():
    import tinycv  # noqa: F401  (importing its chapters registers the pairs)
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
def test_the_contenders_of_every_row_agree_and_have_gradients(row):
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


def test_without_pytorch_its_contenders_are_reported_as_missing(monkeypatch):
    monkeypatch.setattr(work, "NO_TORCH", "PyTorch is not installed")
    record = measure.measure(ops.one_op()[1], QUICK)
    assert "samples" in record["contenders"][0]
    assert "not measured: PyTorch is not installed" in report.row_lines(record)[1]


# ── the figures ───────────────────────────────────────────────────────────────────────────────────


def test_the_ratio_and_its_interval_for_drifting_and_for_shuffled_rounds():
    noisy = np.random.default_rng(0).normal(1.0, 0.05, (12, 5))
    # both contenders drift alike in each round, so the interval has no width
    twice = statistics.figures((2 * noisy).tolist(), noisy.tolist())
    assert twice["ratio"] == pytest.approx(0.5) and twice["interval"] == pytest.approx([0.5, 0.5])
    low, high = statistics.bootstrap(noisy, noisy[::-1])
    assert low < 1 < high and high - low < 0.1


def test_a_slower_first_contender_is_listed_as_slower():
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
