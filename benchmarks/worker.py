"""The process of a contender, which sleeps until it gets a request, so it disturbs no other one."""

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

from benchmarks.device import device_times, free_unused_memory
from benchmarks.gate import Refused, array_of
from benchmarks.machine import about
from benchmarks.memory import peak
from benchmarks.profile import profiled
from benchmarks.row import OUTSIDERS

if TYPE_CHECKING:
    from benchmarks.row import Contender, Effort, Work


MOST = 1 << 18  # about how many entries of an array are sent to the gate


class Processes:
    """Processes that are kept from row to row, one per name of a contender, because starting one
    takes seconds on a GPU.

    Each contender still has its own process, and does the work of one row at a time. A process that
    fails, or needs more than ``patience`` seconds for an answer, is replaced.
    """

    def __init__(self, patience: float | None = None) -> None:
        self.workers: dict[tuple, Worker] = {}
        self.patience = patience

    @contextlib.contextmanager
    def working(self, contender: Contender) -> Iterator[Worker]:
        """The process for contenders of this name, with this contender's work."""
        key = contender.name, *sorted(contender.env.items())
        worker = self.workers.pop(key, None) or Worker(contender, self.patience)
        try:
            worker.request("take", contender.make, contender.args)
            yield worker
            # "take" drops the old work, so that it holds no memory while other contenders run
            worker.request("take", contender.make, contender.args)
        except BaseException:
            worker.__exit__()
            raise
        self.workers[key] = worker

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes. One that is needed later is started again."""
        while self.workers:
            self.workers.popitem()[1].__exit__()


class Worker:
    """The parent's handle of a contender's process. ``request`` sends a message and returns the
    answer: "results", "turn", "pace", "memory", "device times", "profile" or "about".

    The request "take" with (make, args) replaces its work, in the same process.
    """

    def __init__(self, contender: Contender, patience: float | None = None):
        self.name, self.patience = contender.name, patience
        # spawn starts a fresh Python; a fork would inherit the BLAS of this process
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=serve, args=(child_pipe, contender), daemon=True)
        with mock.patch.dict(os.environ, settings(contender)):
            self.process.start()
        # with the child's end closed here, the pipe breaks if the child dies
        child_pipe.close()

    def request(self, what: str, *args: Any) -> Any:
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
        self.pipe.close()  # this ends serve() in the child
        self.process.join(timeout=5)
        self.process.kill()


def settings(contender: Contender) -> dict[str, str]:
    """Environment variables for the contender's process: its own ones, and the BLAS kernel that
    tinycv chooses for this processor.

    A program that imports tinycv before NumPy gets that kernel. A contender cannot do that, because
    its process imports this file first, and this file imports NumPy.
    """
    from tinycv import blas  # only in the parent process, where nothing is timed

    kernel, _ = blas.choice()
    variables = {}
    if kernel and not contender.name.startswith(OUTSIDERS):
        variables[blas.VARIABLE] = kernel
    return variables | contender.env


def serve(pipe: Any, contender: Contender) -> None:
    """The contender's side: answers each request with (result, error), until the pipe is closed."""
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
        "device times": lambda: device_times(work),
        "profile": lambda: profiled(work),
    }
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            what, args = pipe.recv()
            try:
                if what in ("take", "memory"):  # "memory" makes a fresh work of its own
                    work = None
                    free_unused_memory()
                elif work is None:
                    work = make()
                pipe.send((answers[what](*args), None))
            # whatever went wrong in the contender's code is its answer
            except Exception as error:
                pipe.send((None, f"{type(error).__name__}: {error}"))


def thinned(array: np.ndarray) -> np.ndarray:
    """Every k-th entry of a large array: sending all gradients of a large network would take longer
    than its training step."""
    return array.reshape(-1)[:: array.size // MOST] if array.size >= 2 * MOST else array


def turn(work: Work, effort: Effort) -> list[float]:
    """Seconds per call, in ``effort.samples`` samples, after a warm-up that also measures how many
    calls a sample needs.

    A sample waits for the device once, at its end, because a training does not wait between its
    steps either.
    """
    timed = getattr(work, "timed", partial(seconds_of, work))
    calls, elapsed = 0, 0.0
    while elapsed < effort.warm or calls < min(2, effort.samples):
        elapsed += timed(1)
        calls += 1
    calls = max(1, round(calls * effort.sample / elapsed))
    return [timed(calls) / calls for _ in range(effort.samples)]


def seconds_of(work: Work, calls: int) -> float:
    """How many seconds so many calls take, together with one wait for the device."""
    queue = getattr(work, "queue", work)
    wait = getattr(work, "wait", lambda: None)
    started = time.perf_counter()
    for _ in range(calls):
        queue()
    wait()
    return time.perf_counter() - started


def pace(work: Work) -> float:
    """How many seconds one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(workers: list[Worker], effort: Effort) -> dict[str, np.ndarray]:
    """Seconds per call of each worker, of shape (rounds, samples). The workers take turns; there
    are fewer samples if a turn would take longer than ``effort.longest``."""
    efforts = {worker.name: effort for worker in workers}
    if effort.longest < float("inf"):
        for worker in workers:
            samples = int(effort.longest / worker.request("pace")) - 1
            efforts[worker.name] = replace(effort, samples=max(1, min(effort.samples, samples)))
    turns: dict[str, list] = {worker.name: [] for worker in workers}
    for _ in range(effort.rounds):
        for worker in workers:
            time.sleep(effort.settle)
            turns[worker.name].append(worker.request("turn", efforts[worker.name]))
    return {name: np.array(rounds) for name, rounds in turns.items()}
