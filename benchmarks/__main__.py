"""python -m benchmarks run SUITE           measure, print a table, write out/SUITE.json, draw
python -m benchmarks run ops --quick          only shows that it works: the figures mean nothing
python -m benchmarks run ops --only softmax   the rows whose group or name has this word
python -m benchmarks report FILE.json ...     print the table again, draw beside the file
python -m benchmarks compare A.json B.json    is B slower? 0: no, 1: surely, 2: not comparable
python -m benchmarks bounds                   what LSTM and convolution spend their time on
python -m benchmarks session --minutes 6      all that a machine with a GPU can tell in 6 minutes
OMP_NUM_THREADS=1 python -m benchmarks ...    every contender on one core (on a shared machine)
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, report, tables
from benchmarks.row import FULL, QUICK, Row

SUITES = ("ops", "models", "scale", "backends", "kernels")


def main(arguments: list[str] | None = None) -> int:
    """The exit code. ``run`` returns 1 where a row was refused: losing is a result, disagreeing is
    a fault. 2: the command is wrong."""
    given = parser().parse_args(arguments)
    return given.call(given)


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
    run.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains this")
    run.add_argument("--rounds", type=at_least_one, help="turns of each contender (default: 12)")
    run.add_argument("--out", type=Path, metavar="FILE.json", help="default: out/SUITE.json")
    run.set_defaults(call=run_suite)

    again = commands.add_parser("report", help="tables and pictures of records")
    again.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    again.set_defaults(call=report_files)

    compare = commands.add_parser("compare", help="two records of one suite: is the second slower?")
    compare.add_argument("a", type=Path, metavar="A.json")
    compare.add_argument("b", type=Path, metavar="B.json")
    compare.add_argument("--threshold", type=float, default=0.05, help="let pass (default: 0.05)")
    compare.set_defaults(call=compare_files)

    bounds = commands.add_parser("bounds", help="what bounds LSTM and convolution, shape by shape")
    bounds.add_argument("--out", type=Path, default=Path("out/bounds.json"), metavar="FILE.json")
    bounds.set_defaults(call=find_bounds)

    session = commands.add_parser("session", help="what a GPU can do, in ten minutes")
    session.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    session.add_argument("--minutes", type=float, default=10.0, help="all of it (default: 10)")
    session.add_argument("--only", default="", metavar="PARTS", help="of session.py: tests,demos")
    session.set_defaults(call=run_session)
    return top


# ── run ───────────────────────────────────────────────────────────────────────────────────────────


def run_suite(given: argparse.Namespace) -> int:
    suite = importlib.import_module(f"benchmarks.{given.suite}")
    rows = [row for row in suite.rows(given.quick) if has_word(row, given.only)]
    if not rows:
        print(f"no row of {given.suite} contains {given.only!r}", file=sys.stderr)
        return 2
    effort = QUICK if given.quick else FULL
    effort = replace(effort, rounds=given.rounds or effort.rounds)
    record: dict[str, Any] = {
        "suite": given.suite,
        "quick": given.quick,
        "effort": vars(effort),
        "environment": machine.environment(),
        "rows": [],
    }
    if refusal := of_the_double(record):
        print(refusal, file=sys.stderr)
        return 2
    print("\n".join(report.head(record)), flush=True)
    if any(row.flops for row in rows):
        record["environment"]["peaks"] = peaks_for(rows, given.quick)
    out = given.out or Path("out") / f"{given.suite}.json"
    for row in rows:
        record["rows"].append(measure.measure(row, effort))
        print("\n".join(report.row_lines(record["rows"][-1])), flush=True)
        record["environment"]["load_at_end"] = machine.load()
        write(record, out)  # each time: a run may be stopped
    print("\n".join(report.verdicts(record) + tables.paying(record)))
    print(f"raw samples: {out}")
    draw(record, out)
    return 1 if any("refused" in row for row in record["rows"]) else 0


def has_word(row: Row, word: str) -> bool:
    return word.lower() in f"{row.group} {row.name}".lower()


def peaks_for(rows: list[Row], quick: bool) -> dict[str, Any]:
    """What the rows' FLOP/s are held against: the CPU's peak, and a GPU's where one takes part."""
    from benchmarks.peaks import peaks, peaks_of_gpu
    from benchmarks.worker import Processes

    found = peaks(quick)
    if any(contender.on_device for row in rows for contender in row.contenders):
        with Processes() as processes:
            found["products"] += peaks_of_gpu(processes)["products"]
    return found


def of_the_double(record: dict[str, Any]) -> str:
    """Why a record must not be published: it was taken on the double of CuPy, which tests use in
    place of a GPU. Empty for every other record, and for a quick one."""
    names = record["environment"].get("gpu", {}).get("names", [])
    if record["quick"] or not any("double" in name for name in names):
        return ""
    return "the GPU is a double of CuPy on NumPy: its times mean nothing, and are not published"


def draw(record: dict[str, Any], file: Path) -> None:
    """The pictures of a record, beside its file."""
    if not importlib.util.find_spec("matplotlib"):
        print("no pictures: matplotlib is not installed (pip install matplotlib)")
        return
    from benchmarks import charts

    for picture in charts.draw(record, file.parent, file.stem):
        print(f"picture: {picture}")


# ── the other commands ────────────────────────────────────────────────────────────────────────────


def report_files(given: argparse.Namespace) -> int:
    for file in given.files:
        record = read(file)
        if refusal := of_the_double(record):
            print(f"{file}: {refusal}", file=sys.stderr)
            return 2
        rows = [line for row in record["rows"] for line in report.row_lines(row)]
        lines = [*report.head(record), *rows, *report.verdicts(record), *tables.paying(record)]
        print("\n".join(lines))
        draw(record, file)
    return 0


def compare_files(given: argparse.Namespace) -> int:
    from benchmarks.compare import compare

    code, lines = compare(read(given.a), read(given.b), given.threshold)
    print("\n".join(lines))
    return code


def find_bounds(given: argparse.Namespace) -> int:
    from benchmarks import bounds

    record = {"environment": machine.environment(), **bounds.measured()}
    write(record, given.out)
    print(report.machine(record["environment"]), bounds.table(record), sep="\n\n")
    print(f"\nwritten: {given.out}")
    return 0


def run_session(given: argparse.Namespace) -> int:
    from benchmarks.session import session

    return session(given.out, given.minutes, given.only)


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
