"""The benchmark commands: measure a suite, print and compare records, run a session on a GPU.

python -m benchmarks run SUITE                measure, print a table, write out/SUITE.json, draw
python -m benchmarks run ops --quick          only checks that it works: the figures mean nothing
python -m benchmarks run ops --only softmax   only the rows whose group or name contains this
python -m benchmarks report FILE.json ...     print the table again, draw next to the file
python -m benchmarks compare A.json B.json    is B slower? exit 0: no, 1: yes, 2: not comparable
python -m benchmarks bounds                   what kernels and models spend their time on
python -m benchmarks record                   every CPU suite, into the records behind the READMEs
python -m benchmarks session --minutes 6      the most useful GPU measurements that fit in 6 minutes
OMP_NUM_THREADS=1 python -m benchmarks ...    every contender on one core (on a shared machine)
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, report, scaling, tables
from benchmarks.row import FULL, QUICK, Row

SUITES = ("ops", "models", "scale", "parallel", "backends", "kernels")


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code: 2 if the command is wrong; ``run`` returns 1 if a row
    was refused, because being slow is a result, but computing different results is a bug."""
    options = parser().parse_args(arguments)
    return options.call(options)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True)

    run = commands.add_parser("run", help="measure a suite")
    run.add_argument("suite", choices=SUITES)
    run.add_argument("--quick", action="store_true", help="tiny sizes, one row per group")
    run.add_argument("--only", default="", metavar="TEXT", help="only rows that contain this text")
    run.add_argument("--rounds", type=at_least_one, help="turns per contender (default: 12)")
    run.add_argument("--out", type=Path, metavar="FILE.json", help="default: out/SUITE.json")
    run.set_defaults(call=run_suite)

    again = commands.add_parser("report", help="print and draw records again")
    again.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    again.set_defaults(call=report_files)

    compare = commands.add_parser(
        "compare", help="is the second of two records of a suite slower than the first?"
    )
    compare.add_argument("a", type=Path, metavar="A.json")
    compare.add_argument("b", type=Path, metavar="B.json")
    compare.add_argument(
        "--threshold", type=float, default=0.05, help="slowdown that passes (default: 0.05)"
    )
    compare.set_defaults(call=compare_files)

    bounds = commands.add_parser("bounds", help="what limits the speed of kernels and models")
    bounds.add_argument("--out", type=new_file, default="out/bounds.json", metavar="FILE.json")
    bounds.set_defaults(call=find_bounds)

    again = commands.add_parser("record", help="every CPU suite, into the committed records")
    again.add_argument("--rounds", type=at_least_one, help="turns per contender, in every suite")
    again.set_defaults(call=record_all)

    session = commands.add_parser("session", help="the most useful measurements on a GPU")
    session.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    session.add_argument(
        "--minutes", type=float, default=10.0, help="for the whole session (default: 10)"
    )
    session.add_argument(
        "--only", default="", metavar="PARTS", help="parts of session.py, such as tests,demos"
    )
    session.set_defaults(call=run_session)
    return top


def new_file(text: str) -> Path:
    """The path of a file to write; refused before anything is measured, if it cannot be written."""
    from tinycv.data.atomic import obstacle

    file = Path(text)
    problem = obstacle(file)
    if problem:
        raise argparse.ArgumentTypeError(f"cannot be written: {problem}")
    return file


# ── The command "run" ─────────────────────────────────────────────────────────────────────────────


def run_suite(options: argparse.Namespace) -> int:
    from tinycv.data.atomic import obstacle

    suite = importlib.import_module(f"benchmarks.{options.suite}")
    rows = [row for row in suite.rows(options.quick) if has_word(row, options.only)]
    if not rows:
        print(f"no row of {options.suite} contains {options.only!r}", file=sys.stderr)
        return 2
    effort = QUICK if options.quick else FULL
    effort = replace(effort, rounds=options.rounds or effort.rounds)
    record: dict[str, Any] = {
        "suite": options.suite,
        "quick": options.quick,
        "effort": vars(effort),
        "environment": machine.environment(),
        "rows": [],
    }
    out = options.out or Path("out") / f"{options.suite}.json"
    refusal = double_problem(record) or obstacle(out)
    if refusal:
        print(refusal, file=sys.stderr)
        return 2
    print("\n".join(report.head(record)), flush=True)
    if any(row.flops for row in rows):
        record["environment"]["peaks"] = peaks_for(rows, options.quick)
    if hasattr(suite, "facts"):
        record |= suite.facts(options.quick)
    for row in rows:
        record["rows"].append(measure.measure(row, effort))
        print("\n".join(report.row_lines(record["rows"][-1])), flush=True)
        record["environment"]["load_at_end"] = machine.load()
        write(record, out)  # after every row, because a run may be stopped
    print("\n".join(conclusions(record)))
    print(f"raw samples: {out}")
    draw(record, out)
    return 1 if any("refused" in row for row in record["rows"]) else 0


def conclusions(record: dict[str, Any]) -> list[str]:
    """What is printed after the rows. In the suite "parallel" the first contender is one worker,
    which should be slower than two, so there the tables say more."""
    if record["suite"] == "parallel":
        return scaling.lines(record)
    mean = [tables.ops_summary(record)] if record["suite"] == "ops" else []
    return report.verdicts(record) + tables.crossovers(record) + mean


def has_word(row: Row, word: str) -> bool:
    return word.lower() in f"{row.group} {row.name}".lower()


def peaks_for(rows: list[Row], quick: bool) -> dict[str, Any]:
    """The peaks with which the rows' FLOP/s are compared: the CPU's, and the GPU's if a contender
    runs on it."""
    from benchmarks.peaks import peaks, peaks_of_gpu
    from benchmarks.worker import Processes

    measured = peaks(quick)
    if any(contender.on_device for row in rows for contender in row.contenders):
        with Processes() as processes:
            measured["products"] += peaks_of_gpu(processes)["products"]
    return measured


def double_problem(record: dict[str, Any]) -> str:
    """Why a record must not be published: it was taken on the double of CuPy, which the tests use
    instead of a GPU. "" for every other record, and for a quick one."""
    names = record["environment"].get("gpu", {}).get("names", [])
    if record["quick"] or not any("double" in name for name in names):
        return ""
    return "the GPU is a double of CuPy on NumPy, so its times mean nothing and are not published"


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw the charts of a record, in the folder of its file."""
    if not importlib.util.find_spec("matplotlib"):
        print("no charts: matplotlib is not installed (pip install matplotlib)")
        return
    if record["suite"] == "parallel":
        if scaling.steps(record):
            print(f"chart: {scaling.draw(record, file.with_suffix('.png'))}")
        return
    from benchmarks import charts

    for picture in charts.draw(record, file.parent, file.stem):
        print(f"chart: {picture}")


# ── The other commands ────────────────────────────────────────────────────────────────────────────


def report_files(options: argparse.Namespace) -> int:
    for file in options.files:
        record = read(file)
        refusal = double_problem(record)
        if refusal:
            print(f"{file}: {refusal}", file=sys.stderr)
            return 2
        rows = [line for row in record["rows"] for line in report.row_lines(row)]
        print("\n".join([*report.head(record), *rows, *conclusions(record)]))
        draw(record, file)
    return 0


def compare_files(options: argparse.Namespace) -> int:
    from benchmarks.compare import compare

    code, lines = compare(read(options.a), read(options.b), options.threshold)
    print("\n".join(lines))
    return code


def find_bounds(options: argparse.Namespace) -> int:
    from benchmarks import bounds

    record = {"environment": machine.environment(), **bounds.measured()}
    write(record, options.out)
    print(report.machine(record["environment"]), bounds.table(record), sep="\n\n")
    print(f"\nwritten: {options.out}")
    return 0


# the suites of the committed records, with the turns per contender that settle most of their rows
RECORDED = {"models": 6, "scale": 4, "parallel": 4, "ops": 4}
RESULTS = Path(__file__).parent / "results"


def record_all(options: argparse.Namespace) -> int:
    """Measure every suite of the CPU tables again, and what bounds the kernels; and renew the
    tables. Returns 1 if a row was refused."""
    code = 0
    for suite, rounds in RECORDED.items():
        started = time.perf_counter()
        words = ["run", suite, "--out", str(RESULTS / f"{suite}.json")]
        code = max(code, main([*words, "--rounds", str(options.rounds or rounds)]))
        print(f"\n{suite}: {(time.perf_counter() - started) / 60:.1f} minutes\n", flush=True)
    main(["bounds", "--out", str(RESULTS / "bounds.json")])
    subprocess.run([sys.executable, "-m", "demos.readme"], cwd=RESULTS.parent.parent, check=True)
    return code


def run_session(options: argparse.Namespace) -> int:
    from benchmarks.session import session

    return session(options.out, options.minutes, options.only)


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def write(record: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
