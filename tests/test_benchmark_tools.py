"""Comparing runs: two runs of the same code pass, and a slower one is reported. Tables and charts
show what was recorded. Nothing is timed."""

from __future__ import annotations

import json
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
    bounds,
    charts,
    machine,
    measure,
    memory,
    ops,
    peaks,
    report,
    statistics,
    tables,
    worker,
)
from benchmarks.compare import compare  # noqa: E402
from benchmarks.row import QUICK, Contender, Row  # noqa: E402
from benchmarks.tasks import LeNet, Lstm, Mlp, Score, Vit  # noqa: E402
from tinycv.engine import backend  # noqa: E402

# ── The machine and the commit ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("file", "counts"), [("tinycv/__init__.py", True), ("benchmarks/results/models.json", False)]
)
def test_a_record_is_no_change_of_the_code_that_it_measures(tmp_path, file, counts):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text("new")
    assert bool(machine.changes(tmp_path)) is counts


# ── Synthetic runs: the noise of benchmarks/results/ops.json on a quiet machine ───────────────────

PLACE = {
    "cpu": {"model": "a CPU", "cores": 2},
    "settings": {},
    "commit": None,
    "uncommitted_changes": False,
    "load": [0.1, 0.1, 0.1],
    "when": "2026-01-01T00:00:00Z",
    "versions": {"Python": "3", "NumPy": "2"},
    "blas": {"library": "a BLAS", "version": "1", "kernel": "k", "threads": 2},
}
ROWS = 12


def synthetic(
    seed: int, slower: dict[str, float] | None = None, outsiders: bool = True, drift: float = 0.1
) -> dict:
    """A run with random noise: drift of the machine, luck of each process, and scatter of the
    rounds, which the contenders of a row partly share, and of the samples."""
    rng = np.random.default_rng(seed)
    run, rows = rng.normal(0, drift), []
    for i in range(ROWS):
        shared, entries = rng.normal(0, 0.06, (12, 1)), []
        for name in ("kernel", "definition", *(["PyTorch"] if outsiders else [])):
            luck, own = rng.normal(0, 0.02), rng.normal(0, 0.04, (12, 1))
            log = (
                run
                + luck
                + shared
                + own
                + rng.normal(0, 0.04, (12, 5))
                + np.log((slower or {}).get(f"op {i}: {name}", 1))
            )
            samples = 1e-3 * np.exp(log)
            entries.append(
                {"name": name, "samples": samples.tolist(), "median": float(np.median(samples))}
            )
        rows.append({"group": "pair", "name": f"op {i}", "of": "call", "contenders": entries})
    return {"suite": "ops", "quick": False, "environment": PLACE, "rows": rows}


@pytest.mark.parametrize("outsiders, drift", [(True, 0.1), (False, 0.0)])
def test_a_second_run_of_the_same_code_passes(outsiders, drift):
    runs = [synthetic(seed, None, outsiders, drift) for seed in range(100)]
    alarms = sum(compare(a, b, 0.05)[0] for a, b in zip(runs[::2], runs[1::2], strict=True))
    assert alarms <= 2, f"{alarms} false alarms in 50 comparisons"


@pytest.mark.parametrize("n", [4, 7, 12])
def test_the_error_of_a_median_agrees_with_resampled_medians(n):
    rounds = np.random.default_rng(n).normal(size=n)
    medians = np.median(np.random.default_rng(1).choice(rounds, (20_000, n)), axis=1)
    expected = medians.std() * np.sqrt(n / (n - 1))
    assert statistics.error_of_median(rounds) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_only_the_slower_kernel_is_reported(seed):
    code, lines = compare(synthetic(seed), synthetic(seed + 100, {"op 3: kernel": 1.5}), 0.05)
    slower = [line for line in lines if line.endswith("SLOWER")]
    assert code == 1 and len(slower) == 1 and "pair: op 3: kernel" in slower[0]
    # a larger threshold lets it pass
    assert compare(synthetic(seed), synthetic(seed + 100, {"op 3: kernel": 1.5}), 1.0)[0] == 0
    code, lines = compare(synthetic(seed + 100, {"op 3: kernel": 1.5}), synthetic(seed), 0.05)
    assert code == 0 and sum(line.endswith("faster") for line in lines) == 1


def test_a_slowdown_of_30_percent_is_mostly_found():
    found = [
        compare(synthetic(seed), synthetic(seed + 100, {"op 7: kernel": 1.3}), 0.05)[0]
        for seed in range(20)
    ]
    assert sum(found) >= 15


def test_a_slower_machine_is_not_a_regression():
    record = synthetic(1)
    slow = json.loads(json.dumps(record))
    for entry in (c for row in slow["rows"] for c in row["contenders"]):
        entry["samples"] = (1.5 * np.array(entry["samples"])).tolist()
    code, lines = compare(record, slow, 0.05)
    assert code == 0 and any("drifted by +50.0%" in line for line in lines)
    assert not any(line.strip().startswith("1.5") for line in lines)


def test_runs_that_cannot_be_compared_are_reported():
    a = synthetic(1)
    other = {**a, "environment": {**PLACE, "cpu": {"model": "another CPU", "cores": 2}}}
    code, lines = compare(a, other, 0.05)
    assert (
        code == 2
        and "NOT THE SAME CPU" in lines[0]
        and "another CPU" in lines[-1]
        and "op 3" in "\n".join(lines)
    )
    assert compare(a, {**a, "suite": "models"}, 0.05)[0] == 2
    assert "2 rounds" in compare(a, {**a, "rows": [few(row) for row in a["rows"]]}, 0.05)[1][-1]
    assert compare(a, {**a, "rows": []}, 0.05)[0] == 2


def few(row: dict) -> dict:
    return {**row, "contenders": [{**c, "samples": c["samples"][:2]} for c in row["contenders"]]}


def test_a_newly_refused_row_is_a_failure_and_a_missing_row_is_reported():
    a = synthetic(1)
    refused = {"group": "pair", "name": "op 0", "of": "call", "refused": "wrong", "contenders": []}
    code, lines = compare(a, {**a, "rows": [refused, *a["rows"][2:]]}, 0.05)
    assert code == 1 and "refused now, but not before: pair: op 0" in lines
    assert "measured in only one run: pair: op 1: kernel" in lines


def test_two_real_runs_are_compared(monkeypatch, tmp_path, capsys):
    row = Row("g", "n", tuple(Contender(name, works.numbers) for name in ("ours", "plain NumPy")))
    monkeypatch.setattr(ops, "rows", lambda quick: [row])
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for file in files:
        assert command.main(["run", "ops", "--quick", "--rounds", "4", "--out", file]) == 0
    capsys.readouterr()
    # even a busy machine is not 21 times slower
    assert command.main(["compare", *files, "--threshold", "20"]) == 0
    printed = capsys.readouterr().out
    assert "g: n: ours" in printed and "1 contenders from outside" in printed
    assert "slower by more than 2000%, beyond doubt (0 of 1)" in printed
    assert command.main(["compare", files[0], files[0]]) == 0
    assert "1.00 [" in " ".join(capsys.readouterr().out.split())


# ── memory, peaks ─────────────────────────────────────────────────────────────────────────────────


def test_the_peak_memory_of_a_step_is_what_it_holds():
    """In a fresh process, and in one whose malloc keeps memory that was freed earlier."""
    with worker.Worker(Contender("holds", works.holds, (16,))) as process:
        for made_before in (0, 64):
            process.request("take", works.holds, (16, made_before))
            found = process.request("memory")
            if sys.platform != "linux":
                assert "cannot reset the peak" in found["missing"]
                return
            assert "VmHWM" in found["how"] and 15.5 * 2**20 < found["bytes"] < 20 * 2**20


def test_the_peak_memory_includes_what_forked_processes_have_written():
    if sys.platform != "linux":
        return
    with worker.Worker(Contender("forks", works.forks, (64,))) as process:
        found = process.request("memory")
    assert 63 * 2**20 < found["bytes"] < 80 * 2**20


def test_where_the_peak_cannot_be_reset_the_record_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "RESET", tmp_path / "no such folder" / "clear_refs")
    assert "cannot reset the peak" in memory.peak(lambda: dict)["missing"]


def test_the_peak_flops_are_measured():
    found = peaks.peaks(quick=True)
    assert all(p["gflops"] > 0 for p in found["products"])
    assert {p["library"] for p in found["products"]} >= {"NumPy"}


def test_a_row_is_compared_with_the_peak_of_its_device_and_dtype():
    record, row = {"environment": {"peaks": PEAKS}}, {"flops": 2e9}
    made = peaks.standing(record, row, {"median": 0.5})
    assert made == pytest.approx({"gflops": 4, "share": 0.04})
    assert peaks.standing(record, {"flops": None}, {"median": 1}) == {}
    # a contender on a GPU is not compared with the peak of the CPU
    on_gpu = {"median": 0.5, "on_device": True}
    assert peaks.standing(record, row, on_gpu) == {"gflops": 4}
    product = {"library": "CuPy, float32", "threads": peaks.GPU, "gflops": 40.0}
    products = [*PEAKS["products"], product, product | {"library": "CuPy, float16", "gflops": 90.0}]
    both = {"environment": {"peaks": {"products": products}}}
    assert peaks.standing(both, row, on_gpu)["share"] == pytest.approx(0.1)
    assert peaks.standing(both, row, {"median": 0.5}) == made
    assert peaks.standing({"environment": {}}, row, {"median": 0.5}) == {"gflops": 4}


PEAKS = {
    "products": [
        {"library": "NumPy", "threads": 2, "shape": [8, 8, 8], "gflops": 100.0},
        {"library": "PyTorch", "threads": 2, "shape": [8, 8, 8], "missing": "it failed"},
    ],
}


# ── reports ───────────────────────────────────────────────────────────────────────────────────────


def test_an_exponent_and_a_crossing_are_found():
    xs = [1, 2, 4, 8]
    assert statistics.exponent(xs, [3 * x**1.5 for x in xs]) == pytest.approx(1.5)
    assert statistics.exponent(xs[:2], [1, 2]) is None, "two points lie on any line"
    assert statistics.crossings(xs, [1, 2, 4, 8], [3, 3, 3, 3]) == pytest.approx([3])
    assert statistics.crossings(xs, [1] * 4, [2] * 4) == []


def test_the_size_from_which_a_gpu_is_faster_is_said_in_words():
    def sweep(group, cupy):
        return [
            {
                "group": group,
                "name": f"side {n}",
                "of": "call",
                "point": ["side", n],
                "contenders": [
                    {"name": "NumPy", "median": 1e-6 * n**2},
                    {"name": "CuPy", "median": cupy(n)},
                ],
            }
            for n in (4, 8, 16)
        ]

    rows = [
        *sweep("often", lambda n: 1e-4),
        *sweep("always", lambda n: 1e-7),
        *sweep("never", lambda n: 1.0),
        {
            "group": "no GPU",
            "name": "side 4",
            "of": "call",
            "point": ["side", 4],
            "contenders": [
                {"name": "NumPy", "median": 1.0},
                {"name": "CuPy", "missing": "no driver"},
            ],
        },
    ]
    assert tables.crossovers({"rows": rows}) == [
        "often: CuPy is faster than NumPy from side 10 on (side 4 to 16)",
        "always: CuPy is faster than NumPy at every side (side 4 to 16)",
        "never: CuPy is faster than NumPy at no side measured (side 4 to 16)",
    ]


def test_without_a_gpu_no_gpu_peak_is_measured(monkeypatch):
    monkeypatch.setattr(backend, "gpu_problem", lambda: "no driver")
    assert peaks.peaks_of_gpu(worker.Processes()) == {"products": []}


def curve(suite: str) -> dict:
    """A record with everything that a report can show."""
    rows = [
        {
            "group": "attention",
            "name": f"T = {t}",
            "of": "step",
            "flops": 1e6 * t,
            "point": ["sequence length", t],
            "contenders": [
                entry("tinycv", 1e-4 * t**2, 1e6 * t, 1e-4 * t**2),
                entry("PyTorch", 1e-3 * t, 2e6, 1e-4 * t**2),
                {"name": "CuPy", "missing": "no CUDA device"},
            ],
        }
        for t in (2, 4, 8, 16)
    ]
    rows.append(
        {
            "group": "attention",
            "name": "T = 32",
            "of": "step",
            "point": ["sequence length", 32],
            "refused": "they disagree",
            "contenders": [{"name": "x"}],
        }
    )
    return {"suite": suite, "quick": False, "environment": {**PLACE, "peaks": PEAKS}, "rows": rows}


def entry(name: str, seconds: float, held: float, first: float) -> dict:
    figures = statistics.figures([[seconds] * 2] * 3, [[first] * 2] * 3)
    return {"name": name, **figures, "memory": {"bytes": held, "how": "so"}}


def test_a_report_is_printed_and_drawn_from_a_record(tmp_path, capsys):
    file = tmp_path / "backends.json"
    file.write_text(json.dumps(curve("backends")))
    assert command.main(["report", str(file)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "backends-sizes.png"}
    said = capsys.readouterr().out
    assert "not measured: no CUDA device" in said and "REFUSED: they disagree" in said
    assert "slower (1 of 4 comparisons):" in said and "peak 2 MB" in said


def test_the_charts_show_the_numbers_of_the_record():
    record = curve("scale")
    fig = charts.panels(record, tables.curves(record), "Time over size")
    (ax,) = [ax for ax in fig.axes if ax.get_visible()]
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
    assert lines["PyTorch"] == [[t, pytest.approx(t)] for t in (2, 4, 8, 16)]
    assert set(lines) == {"tinycv", "PyTorch"} and ax.get_xlabel() == "sequence length"


def test_the_tables_show_models_growth_with_size_and_every_op():
    text, page = (
        tables.models_table(curve("models")),
        tables.ops_table(curve("ops"), curve("scale")),
    )
    assert page.index("| along x |") < (ops := page.index("| single op |"))
    assert "/ MyGrad" not in text, "an empty column"
    assert "| attention, T = 2 | 400 us | 2 ms | 0.20 [0.20, 0.20] | 2 MB, 2 MB | 5%, 1% |" in text
    assert "| attention, T = 16 | 25.6 ms | 16 ms | **1.60 [1.60, 1.60]** |" in text
    assert (
        "geometric mean of 4: 0.57. tinycv is faster beyond doubt in 3, and slower in 1. A dash "
        "means not measured: no CUDA device." in text
    )
    assert "Refused, because the contenders disagree: attention, T = 32." in text
    assert "Refused, because the contenders disagree: attention, T = 32; attention, T = 32." in page
    assert "| attention, 2 to 16 | 2.00, 1.00 | 1.00, 0.00 | 0.20, 1.60 |" in page
    assert (
        "| attention: T = 16 | 25.6 ms | 16 ms | **1.60 [1.60, 1.60]** |" in page[ops:]
        and "| attention: T = 2 | 400 us | 2 ms | 0.20 [0.20, 0.20] |" in page[ops:]
    )
    assert page.endswith("commit unknown.") and "ops, scale: a CPU, 2 cores" in page


def test_a_run_of_the_single_ops_ends_with_their_geometric_mean():
    *_, last = command.conclusions(curve("ops"))
    assert last.startswith("Single ops, tinycv / PyTorch, geometric mean of 4: 0.57.")


def test_the_table_says_which_way_is_the_recommended_one():
    names = ["tinycv", "tinycv, not split", "tinycv, threads", "PyTorch"]
    row = {"contenders": [{"name": name} for name in names]}
    assert tables.recommended(row) == ", processes"
    assert tables.recommended({"contenders": [{"name": "tinycv"}]}) == ""


def test_the_table_shows_the_fastest_pytorch_contender_and_a_separate_table_for_torch_compile():
    record, ours = curve("models"), entry("tinycv", 1.0, 1e6, 1.0)
    ways = [
        entry("tinycv, 1 shard", 0.1, 1e6, 1.0),
        entry("PyTorch", 2.0, 1e6, 1.0),
        entry("PyTorch, channels last", 0.5, 3e6, 1.0),
    ]
    record["rows"] = [
        {
            "group": "GAN",
            "name": "training step, batch 8",
            "of": "step",
            "contenders": [ours, *ways],
        },
        {
            "group": "compiled: GAN",
            "name": "training step, batch 8",
            "of": "step",
            "contenders": [ours, entry("PyTorch compile", 4.0, 1e6, 1.0)],
        },
    ]
    text = tables.models_table(record)
    assert "| GAN, batch 8 | 1 s | 500 ms | **2.00 [2.00, 2.00]** | 1 MB, 3 MB |" in text
    assert (
        "| torch.compile, training step |" in text
        and "| GAN, batch 8 | 1 s | 4 s | 0.25 [0.25, 0.25] |" in text
    )


def test_peak_memory_is_measured_only_for_rows_with_memory_true():
    row = Row("g", "n", (Contender("holds", works.holds, (1,)),), memory=True)
    record = measure.measure(row, QUICK)
    assert record["contenders"][0]["memory"]["bytes"] > 0
    assert record["contenders"][0]["memory"]["how"] and "peak" in report.row_lines(record)[0]
    record = measure.measure(replace(row, memory=False), QUICK)
    assert "memory" not in record["contenders"][0]


# ── What limits the speed of a kernel ─────────────────────────────────────────────────────────────


def test_bounds_measures_products_calls_and_the_rest_separately(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bounds, "LSTMS", [(3, 2, 4, 5)])
    monkeypatch.setattr(bounds, "CONVS", [(2, 3, 6, 4, 3, 1, 1)])
    vit, lstm_task = Vit(2, 4, 2, 8, 2, 2, 3), Lstm(2, 3, 4, 5, 3)
    tasks = [vit, LeNet(16, (2, 3)), Mlp(2, (3, 4, 5)), lstm_task, Score(2, 3)]
    monkeypatch.setattr(bounds, "MODELS", {str(task): (task, task) for task in tasks})
    assert command.main(["bounds", "--out", f"{tmp_path}/bounds.json"]) == 0
    record = json.loads((tmp_path / "bounds.json").read_text())
    lstm, conv, *models = record["rows"]
    products = 3 * 20 * 10 * 2, 3 * 5 * 20 * 2, 20 * 6 * (5 + 4 + 4)
    assert lstm["floor"] * record["peak"] * 1e9 == pytest.approx(2 * sum(products))
    assert conv["floor"] * record["peak"] * 1e9 == pytest.approx(3 * 2 * 2 * 36 * 27 * 4)
    # Lstm(2, 3, 4, 5, 3): 3 products (20, 10) @ (10, 2), and the head. The other models multiply
    # as often as their tasks say.
    flops = {task: task.flops(train=False) for task in tasks} | {lstm_task: 2 * (3 * 400 + 30)}
    for row, task in zip(models, tasks, strict=True):
        assert row["floor"] * record["peak"] * 1e9 == pytest.approx(flops[task])
    for row in record["rows"]:
        assert row["total"] == pytest.approx(row["products"] + row["calls"] + row["rest"])
        assert bounds.bound(row) in ("BLAS", "ufuncs and copies", "Python")
    assert "3 steps" in capsys.readouterr().out


# ── Tables of GPU sessions ────────────────────────────────────────────────────────────────────────


def session_of(ratios):
    """The record of a session in which a step takes PyTorch 1 s, and tinycv ``ratios`` seconds."""

    def row(group, name, times, of="step", **more):
        names, first = more.pop("names", ("CuPy", "PyTorch")), times[0]
        contenders = [
            {
                "name": n,
                "on_device": True,
                "median": t,
                "ratio": first / t,
                "interval": [0.9 * first / t] * 2,
                "memory": {"bytes": 2e9},
            }
            for n, t in zip(names, times, strict=True)
        ]
        return {
            "group": group,
            "name": name,
            "of": of,
            "flops": 1e9,
            "dtype": "float32",
            "contenders": contenders,
            **more,
        }

    names = "NumPy", "CuPy", "CuPy, captured"
    sweep = [
        row("MLP training step", f"batch {b}", (n, 1.0, 0.1), point=["batch", b], names=names)
        for b, n in ((1, 0.5), (8, 2.0))
    ]
    environment = {
        "peaks": {
            "products": [
                {"library": "CuPy, float32", "threads": "GPU", "gflops": 2.0, "shape": [1]}
            ]
        },
        "cpu": {"model": "a CPU", "cores": 2},
        "blas": {"library": "b", "version": "1", "kernel": "k", "threads": 2},
        "when": "2026-11-27T00:00:00Z",
        "versions": {"Python": "3", "NumPy": "2"},
        "commit": None,
        "uncommitted_changes": False,
        "gpu": {"usable": True, "names": ["a card"], "tf32": False},
    }
    return {
        "suite": "backends",
        "quick": False,
        "parts": {"tests": {"failed": False}},
        "environment": environment,
        "rows": [
            *(row(group, "LSTM", (r, 1.0)) for group, r in ratios.items()),
            row("reference", "products of x", (1.0, 2.0), "call"),
            *sweep,
        ],
    }


def test_the_table_of_sessions_shows_the_last_one_and_the_ratios_of_the_first():
    from benchmarks.gpu_tables import gpu_table

    text = gpu_table(
        [
            session_of({"reference": 9.0}),
            session_of({"reference": 1.5, "reference, captured": 0.5, "reference, float16": 2.0}),
        ]
    )
    assert (
        "| LSTM | 1 s | 1.5 s | **1.50 [1.35, 1.35]** | 500 ms | 0.50 [0.45, 0.45] | 9.00 | 2 GB, "
        "2 GB |" in text
    )
    assert "| geometric mean |  |  | 1.50 |  | 0.50 | 9.00 |  |" in text
    assert (
        "The products of x: tinycv reaches 50% of the chip's measured peak in float32, PyTorch 25%."
        in text
    )
    assert "LSTM in float16: tinycv 2 s, PyTorch's autocast 1 s" in text
    assert "tests/card passed" in text
    assert (
        "| MLP | 500 ms, 2 s | 1 s, 1 s | 100 ms, 100 ms | from batch 2.8 on | at every batch |"
        in text
    )


def test_a_session_without_captured_steps_shows_dashes():
    from benchmarks.gpu_tables import gpu_table

    assert "| LSTM | 1 s | 1.5 s | **1.50 [1.35, 1.35]** | - | - | 1.50 |" in gpu_table(
        [session_of({"reference": 1.5})]
    )


def test_training_steps_of_all_models_are_drawn_in_one_chart(tmp_path):
    record = session_of({})
    record["rows"] += [
        dict(row, group="LSTM training step")
        for row in record["rows"]
        if row["group"].startswith("MLP")
    ]
    fig = charts.panels(record, tables.curves(record), "A training step over the batch")
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["MLP", "LSTM"] and len(shown[0].get_lines()) == 3
    assert "NumPy: a CPU, 2 cores. CuPy: a card" in fig.get_suptitle()
    assert charts.draw(record, tmp_path, "x") == [tmp_path / "x-models.png"]
