"""How a row is measured: each contender in a process of its own, turn by turn, after all were seen to agree.

A process each, because threads that one library leaves spinning slow whatever runs next beside them: a pair timed in one
process came out wrong by 1.4x. Turn by turn (A B C A B C ...), because a machine's speed drifts: what slows one
contender then slows all. A row whose contenders disagree gets no figures: the speed of a wrong answer is no speed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.machine import about, load

Work = Callable[[], dict[str, Any]]             # does the work once; returns what the gate compares, by name
RTOL = 1e-4                                     # of the largest magnitude in an array of float32


@dataclass(frozen=True)
class Contender:
    """``make(*args)``, called in the contender's own process, returns its Work. It must be a module's own function.

    env: environment variables for that process. missing: why it cannot be measured here, if it cannot.
    """

    name: str
    make: Callable[..., Work] | None
    args: tuple = ()
    env: dict[str, str] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class Row:
    """One comparison. All agree with the first contender, and are compared with its time.

    per: how many of ``of`` one call of the Work does; times are of one.
    """

    group: str
    name: str
    contenders: tuple[Contender, ...]
    of: str = "call"
    per: int = 1
    flops: float | None = None
    bytes: float | None = None
    point: tuple[str, float] | None = None
    rtol: float = 1e-4
    memory: bool = False


@dataclass(frozen=True)
class Effort:
    """rounds: turns of each contender; a turn warms up for ``warm`` s, then takes ``samples`` of about ``sample`` s each.

    settle: s to wait before a turn. OpenMP's threads go on spinning for up to 0.2 s after the last turn.
    """

    rounds: int
    samples: int
    sample: float
    warm: float
    settle: float


FULL = Effort(rounds=12, samples=5, sample=0.01, warm=0.05, settle=0.25)
QUICK = Effort(rounds=2, samples=2, sample=0.001, warm=0.002, settle=0.0)


def measure(row: Row, effort: Effort) -> dict[str, Any]:
    """The row's record for the JSON: samples and figures of each contender, or under "refused" why there are none."""
    record = {"group": row.group, "name": row.name, "of": row.of, "load": load(), "contenders": [
        {"name": c.name, "missing": c.missing} if c.missing else {"name": c.name, "env": c.env} for c in row.contenders]}
    present = [entry for entry in record["contenders"] if "missing" not in entry]
    try:
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(Worker(c)) for c in row.contenders if not c.missing]
            results = {worker.name: worker.ask("results") for worker in workers}
            gate(results)
            samples = interleaved(workers, effort)
            for entry, worker in zip(present, workers, strict=True):
                entry |= {"about": worker.ask("about"), "samples": (samples[worker.name] / row.per).tolist()}
    except Refused as reason:
        return record | {"refused": str(reason)}
    for entry in present:
        entry |= figures(entry["samples"], present[0]["samples"])
    return record


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────

class Refused(Exception):
    """Why a row gets no figures."""


def gate(results: dict[str, dict[str, np.ndarray]]) -> None:
    """Raises Refused unless every contender's outputs and gradients are the first one's, in name, shape, dtype, value."""
    names = list(results)
    for name in names[1:]:
        problem = disagreement(results[names[0]], results[name])
        if problem:
            raise Refused(f"{name} disagrees with {names[0]}: {problem}")


def disagreement(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> str | None:
    if a.keys() != b.keys():
        return f"only one of them has {sorted(a.keys() ^ b.keys())}"
    for name, x in a.items():
        y = b[name]
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"{name} is {y.dtype}{list(y.shape)}, not {x.dtype}{list(x.shape)}"
        largest, apart = np.abs(x).max(initial=0.0), np.abs(x - y).max(initial=0.0)
        if not apart <= RTOL * largest:         # so written, NaN is refused too
            return f"{name} is {apart:.3g} apart, where the largest value is {largest:.3g}"
    return None


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────

class Worker:
    """A contender's process. It does nothing, and uses no core, unless asked."""

    def __init__(self, contender: Contender):
        self.name = contender.name
        context = multiprocessing.get_context("spawn")          # a fresh Python: a fork would inherit this one's BLAS
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, contender), daemon=True)
        with environment_variables(contender.env):
            self.process.start()
        theirs.close()                                          # so that the pipe breaks if the process dies

    def ask(self, what: str, *args: Any) -> Any:
        try:
            self.pipe.send((what, args))
            answer, error = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Refused(f"the process of {self.name} ended with code {self.process.exitcode}") from None
        if error:
            raise Refused(f"{self.name} failed: {error}")
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()                                       # serve() ends there
        self.process.join(timeout=5)
        self.process.kill()


@contextlib.contextmanager
def environment_variables(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def serve(pipe: Any, contender: Contender) -> None:
    """The contender's side: answer (result, error) until the pipe is closed."""
    answers = {"results": lambda: {name: array_of(value) for name, value in work().items()},
               "turn": lambda effort: turn(work, effort), "about": about}
    work = None
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            what, args = pipe.recv()
            try:
                work = work or contender.make(*contender.args)
                pipe.send((answers[what](*args), None))
            except Exception as error:                          # of any kind: it is the contender's, not ours
                pipe.send((None, f"{type(error).__name__}: {error}"))


def array_of(value: Any) -> np.ndarray:
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)       # tinycv's and PyTorch's alike


def turn(work: Work, effort: Effort) -> list[float]:
    """Seconds a call: ``effort.samples`` samples, after a warm-up that also tells how many calls a sample needs."""
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < effort.warm or calls < 2:
        work()
        calls += 1
    calls, taken = max(1, round(calls * effort.sample / elapsed)), []
    for _ in range(effort.samples):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        taken.append((time.perf_counter() - started) / calls)
    return taken


def interleaved(workers: list[Worker], effort: Effort) -> dict[str, np.ndarray]:
    """Seconds a call, (rounds, samples), of each worker."""
    taken: dict[str, list] = {worker.name: [] for worker in workers}
    for _ in range(effort.rounds):
        for worker in workers:
            time.sleep(effort.settle)
            taken[worker.name].append(worker.ask("turn", effort))
    return {name: np.array(rounds) for name, rounds in taken.items()}


# ── figures ───────────────────────────────────────────────────────────────────────────────────────

def figures(samples: list, first: list) -> dict[str, Any]:
    """Median and quartiles, and the first contender's median over this one's with a 95 % interval (1 is even)."""
    q1, median, q3 = np.quantile(samples, (0.25, 0.5, 0.75))
    low, high = bootstrap(np.array(first), np.array(samples))
    return {"median": median, "q1": q1, "q3": q3, "n": np.size(samples), "ratio": np.median(first) / median,
            "interval": [low, high]}


def bootstrap(a: np.ndarray, b: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of median(a) / median(b). Whole rounds are drawn, the same of both: samples of a round are alike."""
    chosen = np.random.default_rng(0).integers(0, len(a), (draws, len(a)))
    of_a, of_b = (np.median(x[chosen].reshape(draws, -1), axis=1) for x in (a, b))
    low, high = np.quantile(of_a / of_b, (0.025, 0.975))
    return float(low), float(high)
