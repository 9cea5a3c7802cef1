"""python -m benchmarks run SUITE       measure, print a table, write out/SUITE.json and its reports
python -m benchmarks run ops --quick     seconds, to see that it works; the figures mean nothing
python -m benchmarks run ops --only softmax      the rows whose group or name has this word
python -m benchmarks report FILE.json ...        CSV, Markdown and PNG from what a run wrote
python -m benchmarks bounds           what LSTM and convolution spend their time on; out/bounds.json
python -m benchmarks session --minutes 6 on a machine with a GPU: tests/card, steps beside PyTorch,
kernels, sizes, demos
python -m benchmarks compare A.json B.json      is B slower? 0: no, 1: surely, 2: cannot be compared
OMP_NUM_THREADS=1 python -m benchmarks ...   every contender on one core (on a shared machine)
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, report, tables
from benchmarks.row import FULL, QUICK

SUITES = ("ops", "models", "scale", "backends", "kernels")


def main(arguments: list[str] | None = None) -> int:
    """``run`` returns 1 where a row was refused: losing is a result, disagreeing is a fault. 2: the
    command is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure a suite")
    run.add_argument("suite", choices=SUITES)
    run.add_argument(
        "--rounds",
        type=at_least_one,
        help=f"turns of each contender (default: {FULL.rounds})",
    )
    run.add_argument("--quick", action="store_true", help="tiny sizes, one row a group")
    run.add_argument(
        "--only", default="", metavar="TEXT", help="rows whose group or name contains this"
    )
    run.add_argument(
        "--skip", default="", metavar="TEXT", help="not the rows that contain this: compiled, say"
    )
    run.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        help="no row begins later; the CPU has no peaks then",
    )
    run.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="default: out/SUITE.json; the reports go beside it",
    )
    run.set_defaults(call=run_suite)
    tell = commands.add_parser("report", help="CSV, Markdown and PNG from records")
    tell.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    tell.add_argument("--out", type=Path, metavar="FOLDER", help="default: beside each file")
    tell.set_defaults(call=report_files)
    session = commands.add_parser("session", help="what a GPU can do, in ten minutes")
    session.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    session.add_argument(
        "--minutes", type=float, default=10.0, help="from start to end (default: 10)"
    )
    session.add_argument(
        "--only",
        default="",
        metavar="PARTS",
        help="of the parts of session.py, with commas between",
    )
    session.set_defaults(
        call=lambda given: importlib.import_module("benchmarks.session").session(
            given.out, given.minutes, given.only
        )
    )
    bounds = commands.add_parser("bounds", help="what bounds LSTM and convolution, shape by shape")
    bounds.add_argument("--out", type=Path, default=Path("out/bounds.json"), metavar="FILE.json")
    bounds.set_defaults(call=find_bounds)
    compare = commands.add_parser("compare", help="two records of one suite: is the second slower?")
    compare.add_argument("a", type=Path, metavar="A.json")
    compare.add_argument("b", type=Path, metavar="B.json")
    compare.add_argument(
        "--threshold", type=float, default=0.05, help="slower by less is let pass (default: 0.05)"
    )
    compare.set_defaults(call=compare_files)
    given = parser.parse_args(arguments)
    return given.call(given)


def run_suite(given: argparse.Namespace) -> int:
    ends = time.monotonic() + 60 * given.minutes
    suite = importlib.import_module(f"benchmarks.{given.suite}")
    named = [(f"{row.group} {row.name}".lower(), row) for row in suite.rows(given.quick)]
    rows = [
        row
        for name, row in named
        if given.only.lower() in name and not (given.skip and given.skip.lower() in name)
    ]
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
    # else nothing would be held against them
    if any(row.flops or row.bytes for row in rows):
        from benchmarks.peaks import peaks, peaks_of_gpu
        from benchmarks.worker import Processes

        found = (
            peaks(given.quick) if given.minutes == float("inf") else {"products": [], "copies": []}
        )
        if any(c.on_device for row in rows for c in row.contenders):
            with Processes() as processes:
                found = {kind: found[kind] + more for kind, more in peaks_of_gpu(processes).items()}
        record["environment"]["peaks"] = found
    out = given.out or Path("out") / f"{given.suite}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        if time.monotonic() > ends:
            record["left_out"] = [f"{row.group}: {row.name}" for row in rows[i:]]
            print(f"{given.minutes:g} minutes are over; left out: " + "; ".join(record["left_out"]))
            break
        record["rows"].append(measure.measure(row, effort))
        print("\n".join(report.row_lines(record["rows"][-1])), flush=True)
        record["environment"]["load_at_end"] = machine.load()
        # each time: a run may be stopped
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join([*report.verdicts(record), *tables.paying(record), f"raw samples: {out}"]))
    write_reports(record, out.parent, out.stem)
    return 1 if any("refused" in row for row in record["rows"]) else 0


def report_files(given: argparse.Namespace) -> int:
    for file in given.files:
        if refusal := of_the_double(read(file)):
            print(f"{file}: {refusal}", file=sys.stderr)
            return 2
        write_reports(read(file), given.out or file.parent, file.stem)
    return 0


def of_the_double(record: dict[str, Any]) -> str:
    """Why a record must not be published: it was taken on the double of CuPy, which tests use in
    place of a GPU."""
    names = record["environment"].get("gpu", {}).get("names", [])
    return (
        "the GPU is a double of CuPy on NumPy: its times mean nothing, and are not published"
        * any("double" in name for name in names)
        * (not record["quick"])
    )


def write_reports(record: dict[str, Any], folder: Path, stem: str) -> None:
    made = [tables.write_csv(record, folder / f"{stem}.csv")]
    if importlib.util.find_spec("matplotlib"):
        from benchmarks import charts

        made += charts.draw(record, folder, stem)
    else:
        print("no pictures: matplotlib is not installed (pip install matplotlib)")
    made.append(
        tables.write_markdown(
            record, folder / f"{stem}.md", [path for path in made if path.suffix == ".png"]
        )
    )
    print("written: " + ", ".join(map(str, made)))


def find_bounds(given: argparse.Namespace) -> int:
    from benchmarks import bounds

    record = {"environment": machine.environment(), **bounds.measured()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(
        report.machine(record["environment"]),
        bounds.table(record),
        f"written: {given.out}",
        sep="\n\n",
    )
    return 0


def compare_files(given: argparse.Namespace) -> int:
    from benchmarks.compare import compare

    code, lines = compare(read(given.a), read(given.b), given.threshold)
    print("\n".join(lines))
    return code


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


# guarded: every contender's process imports this file again
if __name__ == "__main__":
    sys.exit(main())
