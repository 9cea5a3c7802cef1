"""python -m benchmarks run ops                     measure, print a table, write out/ops.json (some ten minutes)
python -m benchmarks run ops --quick             seconds, to see that it works; the figures mean nothing
python -m benchmarks run ops --only softmax      the rows whose group or name has this word
OMP_NUM_THREADS=1 python -m benchmarks ...       every contender on one core (where the machine is shared)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, report

SUITES = ("ops",)


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where a row was refused, 0 otherwise: losing is a result, disagreeing is a fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure a suite")
    run.add_argument("suite", choices=SUITES)
    run.add_argument("--rounds", type=at_least_one, help=f"turns of each contender (default: {measure.FULL.rounds})")
    run.add_argument("--quick", action="store_true", help="tiny sizes, one row a group")
    run.add_argument("--only", default="", metavar="TEXT", help="rows whose group or name contains this")
    run.add_argument("--out", type=Path, metavar="FILE.json", help="default: out/SUITE.json")
    run.set_defaults(call=run_suite)
    given = parser.parse_args(arguments)
    return given.call(given)


def run_suite(given: argparse.Namespace) -> int:
    from benchmarks import ops
    rows = [row for row in ops.rows(given.quick) if given.only.lower() in f"{row.group} {row.name}".lower()]
    if not rows:
        print(f"no row of {given.suite} contains {given.only!r}", file=sys.stderr)
        return 2
    effort = measure.QUICK if given.quick else measure.FULL
    effort = replace(effort, rounds=given.rounds or effort.rounds)
    record: dict[str, Any] = {"suite": given.suite, "quick": given.quick, "effort": vars(effort),
                              "environment": machine.environment(), "rows": []}
    print("\n".join(report.head(record)), flush=True)
    for row in rows:
        record["rows"].append(measure.measure(row, effort))
        print("\n".join(report.row_lines(record["rows"][-1])), flush=True)
    record["environment"]["load_at_end"] = machine.load()
    out = given.out or Path("out") / f"{given.suite}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join([*report.verdicts(record), f"raw samples: {out}"]))
    return 1 if any("refused" in row for row in record["rows"]) else 0


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


if __name__ == "__main__":                      # guarded: every contender's process imports this file again
    sys.exit(main())
