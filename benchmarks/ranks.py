"""A contender that consists of several MPI ranks.

The contender's own process starts them with mpiexec and sends them orders; each rank runs the whole
program, as MPI programs do, and rank 0 answers.

    contender's process  --- one line of JSON per order --->  rank 0  --- MPI --->  rank 1, 2, ...
                         <-- one line of JSON per answer ---

A rank that waits for a message of MPI keeps its core busy, which would slow down the contender
whose turn it is. So rank 0 waits for its standard input, and the others look for an order a hundred
times a second.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate import array_of
from benchmarks.row import Work
from benchmarks.worker import seconds_of

ROOT = Path(__file__).parent.parent
NAP = 0.01  # s between two looks for an order
ANSWER = "answer of rank 0: "


def mpiexec() -> str | None:
    """The path of mpiexec: beside this Python, where pip installs it, or where the shell finds
    it."""
    return shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")


def problem() -> str:
    """Why MPI cannot be measured here; "" if it can."""
    from importlib.util import find_spec

    if not find_spec("mpi4py"):
        return "mpi4py is not installed"
    return "" if mpiexec() else "mpiexec is not installed"


def by_ranks(size: int, make: Callable[..., Work], *args: Any) -> Ranks:
    """The Work ``make(*args)``, done by ``size`` ranks together."""
    return Ranks(size, make, args)


class Ranks:
    """The Work of several ranks. ``timed(calls)`` is called instead of measuring each call here, so
    that sending the order is not measured."""

    def __init__(self, size: int, make: Callable[..., Work], args: tuple):
        program = [sys.executable, "-m", f"{__package__}.ranks"]
        self.program = subprocess.Popen(
            [mpiexec() or "mpiexec", "-n", str(size), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.order("make", base64.b64encode(pickle.dumps((make, args))).decode())

    def __call__(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "results.npz"
            self.order("results", str(file))
            with np.load(file) as results:
                return dict(results)

    def timed(self, calls: int) -> float:
        return self.order("timed", calls)

    def order(self, what: str, argument: Any) -> Any:
        """Send an order, and return the answer of rank 0."""
        assert self.program.stdin and self.program.stdout
        try:
            self.program.stdin.write(json.dumps([what, argument]) + "\n")
            self.program.stdin.flush()
        except BrokenPipeError:
            pass  # the ranks have ended; there is no answer either, which is reported below
        for line in self.program.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise RuntimeError(f"the MPI ranks ended with code {self.program.wait()}")

    def close(self) -> None:
        """End the ranks: their orders have come to an end."""
        if self.program.stdin and not self.program.stdin.closed:
            self.program.stdin.close()
            self.program.wait(timeout=10)
            assert self.program.stdout
            self.program.stdout.close()

    def __del__(self) -> None:
        if hasattr(self, "program"):
            self.close()


def serve() -> None:
    """What each rank runs: the orders, until there are no more."""
    from mpi4py import MPI

    ranks = MPI.COMM_WORLD.Dup()
    work: Any = None
    while (order := next_order(ranks)) is not None:
        what, argument = order
        answer = None
        if what == "make":
            make, args = pickle.loads(base64.b64decode(argument))
            work = make(*args)
        elif what == "results":
            results = {name: array_of(value) for name, value in work().items()}
            if ranks.rank == 0:
                np.savez(argument, **results)
        else:
            ranks.Barrier()
            answer = seconds_of(work, argument)
        if ranks.rank == 0:
            print(ANSWER + json.dumps(answer), flush=True)


def next_order(ranks: Any) -> list | None:
    """The next order, in every rank; None at the end of the orders."""
    if ranks.rank == 0:
        line = sys.stdin.readline()
        order = json.loads(line) if line else None
        for rank in range(1, ranks.size):
            ranks.send(order, rank)
        return order
    while not ranks.Iprobe(source=0):
        time.sleep(NAP)
    return ranks.recv(source=0)


if __name__ == "__main__":
    serve()
