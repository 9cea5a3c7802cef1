"""Measures how far the bounds in the statistical tests are from the numbers that they bound:
``python tests/bounds.py --seeds 5 [files]``.

It runs the tests with each of the named OpenBLAS kernels, with one thread and with two, and with
each seed, and prints for each assertion the mean, the standard deviation and the extremes of its
numbers. A bound should be five standard deviations away from the mean (an error rate near 0 has a
long tail: look at its extremes). This file is also the pytest plugin that receives every assertion,
passed or failed, with its numbers written out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

NUMBER = r"-?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)"
HERE, FOUND = Path(__file__).parent, []


def numbers(words: str) -> list[float]:
    """The numbers in the first line of an assertion message; "np.float64" does not count as one."""
    first = re.sub(r"np\.float\d+", "", words.split("\n")[0])
    return [float(n) for n in re.findall(rf"(?<![\w.]){NUMBER}(?![\w.]*\w)", first)]


def pytest_assertion_pass(item, lineno, orig, expl):
    if item.get_closest_marker("statistical"):
        FOUND.append([item.nodeid, lineno, orig, numbers(expl)])


def pytest_runtest_makereport(item, call):
    if call.excinfo is not None and call.excinfo.errisinstance(AssertionError):
        entry = call.excinfo.traceback[-1]
        statement = str(entry.statement).strip()
        FOUND.append(
            [item.nodeid, entry.lineno + 1, statement, numbers(str(call.excinfo.value)), "failed"]
        )


def pytest_sessionfinish(session):
    if path := os.environ.get("TINYCV_BOUNDS"):
        Path(path).write_text(json.dumps(FOUND))


def run(kernel: str, threads: int, seed: int, extra: list[str]) -> list:
    """The assertions of one run. pytest caches the rewritten test modules in a separate folder,
    because here they also report assertions that pass."""
    with tempfile.TemporaryDirectory() as room:
        names = {
            "TINYCV_TEST_SEED": seed,
            "OPENBLAS_CORETYPE": kernel,
            "OPENBLAS_NUM_THREADS": threads,
            "TINYCV_BOUNDS": f"{room}/found.json",
            "PYTHONPYCACHEPREFIX": f"{tempfile.gettempdir()}/tinycv-bounds",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        }
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-m",
                "statistical",
                "-p",
                "bounds",
                "-p",
                "no:cacheprovider",
                "-o",
                "enable_assertion_pass_hook=true",
                *(extra or [str(HERE)]),
            ],
            env=os.environ | {k: str(v) for k, v in names.items()},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        return json.loads(Path(room, "found.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernels", default="Prescott,Sandybridge,Haswell,Zen")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seeds", type=int, default=5)
    options, extra = parser.parse_known_args()
    rows = defaultdict(list)
    runs = itertools.product(
        options.kernels.split(","), map(int, options.threads.split(",")), range(options.seeds)
    )
    for kernel, threads, seed in runs:
        # an assertion in a loop gets one row per iteration
        turns: Counter = Counter()
        for node, line, text, values, *failed in run(kernel, threads, seed, extra):
            turns[node, line] += 1
            rows[node, line, turns[node, line], text].append(values)
            if failed:
                print(
                    f"failed: {node}:{line} {text} {values} ({kernel}, threads {threads}, seed "
                    f"{seed})",
                    flush=True,
                )
    for (node, line, turn, text), values in rows.items():
        print(f"{node}:{line} ({turn})  {text}")
        for column in itertools.zip_longest(*values):
            v = np.array([x for x in column if x is not None])
            # the bound itself does not vary, and is not printed
            if v.std() > 1e-9 * abs(v.mean()):
                print(
                    f"    n {len(v)}  mean {v.mean():.5g}  sd {v.std():.3g}  from {v.min():.5g} to "
                    f"{v.max():.5g}"
                )


if __name__ == "__main__":
    main()
