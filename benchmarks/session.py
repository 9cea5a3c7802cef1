"""Ten minutes on a machine with a GPU, and all that they can tell, in one JSON:     python -m benchmarks session

    1  tests/gpu                        is it right?              at most 4 minutes, most of them for compiling
    2  capture.py                       can a step be captured?   a minute
    3  the suite "backends"             how fast?                 the GPU's roofs, then rows, the reference's first, while
                                                                  time is left; none begins after 8.5 minutes

A step that fails, or hangs, does not keep the others from being recorded: its error stands in its place.
The file is named after the GPU; it says which rows were left out: python -m benchmarks run backends --only GROUP has these.
Run it once plainly, and once with CUPY_TF32=1, which is another roof.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from benchmarks import capture
from benchmarks.peaks import standing

TESTING = 240                                   # seconds that the tests may take
BEGINNING, ENDING = 510, 590                    # seconds after the start: when the last row may begin, when all must end
ROOT = Path(__file__).parent.parent


def session(folder: Path) -> int:
    """2 without a GPU; 1 where a test, a row or a whole step failed."""
    from tinycv.engine import backend
    started = time.monotonic()
    if (problem := backend.gpu_problem()) is not None:
        print(f"GPU: not measured. {problem}", file=sys.stderr)
        return 2
    from tinycv import doctor
    gpu = doctor.report()["gpu"]
    name = re.sub(r"\W+", "_", gpu["names"][0]) + ("_tf32" if gpu["tf32"] else "")
    file = folder / f"backends_{name}.json"
    file.unlink(missing_ok=True)                                    # an earlier session's must not be taken for this one's
    found = {"tests": outcome(tested), "captured": outcome(capture.captured)}
    print(found["tests"].get("output", ""), *[capture.sentence(*pair) for pair in found["captured"].items()
                                              if isinstance(pair[1], dict)], sep="\n", flush=True)
    found["suite"] = outcome(lambda: suite(file, time.monotonic() - started))
    file.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found["judged"] = outcome(lambda: judged(record))
    file.write_text(json.dumps(record | found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["judged"], indent=1))
    print(f"all of it: {file}, {time.monotonic() - started:.0f} s")
    return int(any("error" in part for part in found.values()) or found["tests"]["failed"] or bool(found["suite"]["code"]))


def suite(file: Path, passed: float) -> dict[str, Any]:
    """Run the suite, ``passed`` seconds after the start. It writes every row to the file as soon as it is measured."""
    minutes = max(0.0, (BEGINNING - passed) / 60)
    return {"code": subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", "backends", "--rounds", "3", "--minutes", f"{minutes:.2f}",
         "--out", str(file.resolve())], cwd=ROOT, timeout=ENDING - passed).returncode}


def outcome(step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the step found, or its error."""
    try:
        return step()
    except Exception as error:                                      # of any kind: the next step is to be tried too
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def judged(record: dict[str, Any]) -> dict[str, Any]:
    """Of the rows "reference": a step's time as a share of PyTorch eager's, the mean of these, and shares of the roof."""
    times, shares = {}, {}
    for row in record.get("rows", []):
        ours = row["contenders"][0]
        if row["group"] != "reference" or "median" not in ours:
            continue
        shares[row["name"]] = standing(record, row, ours).get("share")
        if "ratio" in (theirs := row["contenders"][1]) and row["of"] == "step" and row["dtype"] == "float32":
            times[row["name"]] = theirs["ratio"]
    return {"step / PyTorch eager's": times, "geometric mean": prod(times.values()) ** (1 / len(times)) if times else None,
            "share of the roof": shares, "asked": "each step <= 1.2, their mean <= 1.0, the products' share >= 0.7"}


def tested() -> dict[str, Any]:
    """Did tests/gpu pass, and the end of what they said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTING)
    except subprocess.TimeoutExpired as late:
        return {"failed": True, "output": f"tests/gpu took more than {TESTING} s\n{(late.stdout or b'')[-2000:]!r}"}
    return {"failed": bool(done.returncode), "output": done.stdout[-4000:]}
