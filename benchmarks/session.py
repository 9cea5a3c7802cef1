"""Ten minutes on a machine with a GPU, and all that they can tell, in one JSON:     python -m benchmarks session

    1  tests/gpu                        is it right?              at most 4 minutes, most of them for compiling
    2  products of large matrices       the roof                  seconds
    3  the suite "backends"             how fast?                 rows that begin in 4 minutes, the reference's first

The file is named after the GPU; it says which rows were left out: python -m benchmarks run backends --only GROUP has these.
Run it once plainly, and once with CUPY_TF32=1, which is another roof.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE, PRODUCTS = 8192, 10
TESTING, MEASURING = 240, 4                     # seconds, minutes: with what begins late, ten minutes in all
ROOT = Path(__file__).parent.parent


def session(folder: Path, main: Callable[[list[str]], int]) -> int:
    """2 without a GPU; 1 where a test failed or a row was refused."""
    from tinycv import doctor
    from tinycv.engine import backend
    if (problem := backend.gpu_problem()) is not None:
        print(f"GPU: not measured. {problem}", file=sys.stderr)
        return 2
    gpu = doctor.report()["gpu"]
    name = re.sub(r"\W+", "_", gpu["names"][0]) + ("_tf32" if gpu["tf32"] else "")
    file = folder / f"backends_{name}.json"
    right = tested()
    print(right["output"], flush=True)
    roofs = {kind: roof(kind) for kind in ("float32", "float16", "float64")}
    print(f"products of {SIDE} x {SIDE}, TFLOP/s: {roofs}; TF32 {'on' if gpu['tf32'] else 'off'}", flush=True)
    code = main(["run", "backends", "--rounds", "3", "--minutes", str(MEASURING), "--out", str(file)])
    if file.exists():
        record = json.loads(file.read_text(encoding="utf-8"))
        record |= {"tests": right, "tflops_of_large_products": roofs}
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return max(code, int(right["failed"]))


def tested() -> dict[str, Any]:
    """Did tests/gpu pass, and the end of what they said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTING)
    except subprocess.TimeoutExpired as late:
        return {"failed": True, "output": f"tests/gpu took more than {TESTING} s\n{(late.stdout or b'')[-2000:]!r}"}
    return {"failed": bool(done.returncode), "output": done.stdout[-4000:]}


def roof(dtype: str) -> float:
    """TFLOP/s of a large product, by the device's clock, once it is warm."""
    from tinycv.engine import backend
    xp = backend.module_for("gpu")
    a, b = (backend.standard_normal((SIDE, SIDE), xp).astype(dtype) for _ in range(2))
    for _ in range(2):
        a @ b
    with backend.Stopwatch("gpu") as watch:
        for _ in range(PRODUCTS):
            a @ b
    return round(2e-12 * SIDE ** 3 * PRODUCTS / watch.seconds, 1)
