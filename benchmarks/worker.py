"""A contender's process: it does nothing, and uses no core, unless asked."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks.device import apart, forget
from benchmarks.gate import Refused, array_of
from benchmarks.machine import about
from benchmarks.memory import peak
from benchmarks.profile import profiled
from benchmarks.row import OUTSIDERS

if TYPE_CHECKING:
    from benchmarks.row import Contender, Effort, Work


MOST = 1 << 18  # entries of an array that the gate sees


class Processes:
    """Processes that stay from row to row, one for each contender's name, as starting one takes
    seconds on a GPU.

    Each contender still has a process of its own, and does one row's work at a time. Whoever failed
    is replaced, and so is whoever needs more than ``patience`` seconds for an answer.
    """

    def __init__(self, patience: float | None = None) -> None:
        self.workers: dict[tuple, Worker] = {}
        self.patience = patience

    @contextlib.contextmanager
    def working(self, contender: Contender) -> Iterator[Worker]:
        """The process of this name, with this contender's work."""
        key = contender.name, *sorted(contender.env.items())
        worker = self.workers.pop(key, None) or Worker(contender, self.patience)
        try:
            worker.ask("take", contender.make, contender.args)
            yield worker
            # so that it holds no memory while others work
            worker.ask("take", contender.make, contender.args)
        except BaseException:
            worker.__exit__()
            raise
        self.workers[key] = worker

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End them all. Whoever is needed later is started anew."""
        while self.workers:
            self.workers.popitem()[1].__exit__()


class Worker:
    """Our end of a contender's process. Ask it for "results", a "turn", "memory", times "apart", a
    "profile", or "about" itself.

    Tell it to "take" (make, args): from then on it does this work, in the same process.
    """

    def __init__(self, contender: Contender, patience: float | None = None):
        self.name, self.patience = contender.name, patience
        # a fresh Python: a fork would inherit this one's BLAS
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, contender), daemon=True)
        with mock.patch.dict(os.environ, settings(contender)):
            self.process.start()
        # so that the pipe breaks if the process dies
        theirs.close()

    def ask(self, what: str, *args: Any) -> Any:
        try:
            self.pipe.send((what, args))
            if not self.pipe.poll(self.patience):
                raise Refused(f"{self.name} gave no answer within {self.patience:g} s")
            answer, error = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Refused(
                f"the process of {self.name} ended with code {self.process.exitcode}"
            ) from None
        if error:
            raise Refused(f"{self.name} failed: {error}")
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()  # serve() ends there
        self.process.join(timeout=5)
        self.process.kill()


def settings(contender: Contender) -> dict[str, str]:
    """Environment variables of the contender's process: its own, and the BLAS kernel that tinycv
    chooses for this processor.

    Whoever imports tinycv before NumPy gets that kernel. A contender cannot: to be started at all,
    it needs this file.
    """
    from tinycv import blas  # in our process alone, which times nothing

    kernel, _ = blas.choice()
    chosen = {blas.VARIABLE: kernel} if kernel and not contender.name.startswith(OUTSIDERS) else {}
    return chosen | contender.env


def serve(pipe: Any, contender: Contender) -> None:
    """The contender's side: answer (result, error) until the pipe is closed."""
    make, work = partial(contender.make, *contender.args), None

    def take(function: Callable[..., Work], args: tuple) -> None:
        nonlocal make
        make = partial(function, *args)

    answers = {
        "results": lambda: {name: thinned(array_of(value)) for name, value in work().items()},
        "turn": lambda effort: turn(work, effort),
        "pace": lambda: pace(work),
        "about": about,
        "take": take,
        "memory": lambda: peak(make),
        "apart": lambda: apart(work),
        "profile": lambda: profiled(work),
    }
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            what, args = pipe.recv()
            try:
                if what in ("take", "memory"):  # memory makes its own
                    work = None
                    forget()
                elif work is None:
                    work = make()
                pipe.send((answers[what](*args), None))
            # of any kind: it is the contender's, not ours
            except Exception as error:
                pipe.send((None, f"{type(error).__name__}: {error}"))


def thinned(array: np.ndarray) -> np.ndarray:
    """Every so manieth entry of a large array: to send all gradients of a large network takes
    longer than its step."""
    return array.reshape(-1)[:: array.size // MOST] if array.size >= 2 * MOST else array


def turn(work: Work, effort: Effort) -> list[float]:
    """Seconds a call: ``effort.samples`` samples, after a warm-up that also tells how many calls a
    sample needs.

    A device is waited for at the end of a sample, as nothing waits between the steps of a training.
    """
    queue, wait = getattr(work, "queue", work), getattr(work, "wait", lambda: None)
    calls, elapsed, started = 0, 0.0, time.perf_counter()
    while elapsed < effort.warm or calls < min(2, effort.samples):
        queue()
        wait()
        calls += 1
        elapsed = time.perf_counter() - started
    calls, taken = max(1, round(calls * effort.sample / elapsed)), []
    for _ in range(effort.samples):
        started = time.perf_counter()
        for _ in range(calls):
            queue()
        wait()
        taken.append((time.perf_counter() - started) / calls)
    return taken


def pace(work: Work) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(workers: list[Worker], effort: Effort) -> dict[str, np.ndarray]:
    """Seconds a call, (rounds, samples), of each worker; fewer samples where a turn would take more
    than ``longest``."""
    efforts = {worker.name: effort for worker in workers}
    if effort.longest < float("inf"):
        for worker in workers:
            samples = int(effort.longest / worker.ask("pace")) - 1
            efforts[worker.name] = replace(effort, samples=max(1, min(effort.samples, samples)))
    taken: dict[str, list] = {worker.name: [] for worker in workers}
    for _ in range(effort.rounds):
        for worker in workers:
            time.sleep(effort.settle)
            taken[worker.name].append(worker.ask("turn", efforts[worker.name]))
    return {name: np.array(rounds) for name, rounds in taken.items()}
