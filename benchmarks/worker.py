"""A contender's process: it does nothing, and uses no core, unless asked."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.compare import OUTSIDERS
from benchmarks.device import apart
from benchmarks.gate import Refused, array_of
from benchmarks.machine import about
from benchmarks.memory import peak

if TYPE_CHECKING:
    from benchmarks.measure import Contender, Effort, Work


class Worker:
    """Our end of a contender's process. Ask it for "results", a "turn", "memory", times "apart", or "about" itself."""

    def __init__(self, contender: Contender):
        self.name = contender.name
        context = multiprocessing.get_context("spawn")          # a fresh Python: a fork would inherit this one's BLAS
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, contender), daemon=True)
        with environment_variables(settings(contender)):
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


def settings(contender: Contender) -> dict[str, str]:
    """Environment variables of the contender's process: its own, and the BLAS kernel that tinycv chooses for this processor.

    Whoever imports tinycv before NumPy gets that kernel. A contender cannot: to be started at all, it needs this file.
    """
    from tinycv import blas  # in our process alone, which times nothing
    kernel, _ = blas.choice()
    chosen = {blas.VARIABLE: kernel} if kernel and not contender.name.startswith(OUTSIDERS) else {}
    return chosen | contender.env


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
               "turn": lambda effort: turn(work, effort), "about": about,
               "memory": lambda: peak(partial(contender.make, *contender.args)),
               "apart": lambda: apart(partial(contender.make, *contender.args))}
    work = None
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            what, args = pipe.recv()
            try:
                if what not in ("memory", "apart"):             # which make their own
                    work = work or contender.make(*contender.args)
                pipe.send((answers[what](*args), None))
            except Exception as error:                          # of any kind: it is the contender's, not ours
                pipe.send((None, f"{type(error).__name__}: {error}"))


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
