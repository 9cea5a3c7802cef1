"""The suite "parallel": what a second worker gains, by carrier (threads, processes, MPI), and what
it costs to exchange the gradients.

    python -m benchmarks run parallel

A worker has one core, and BLAS has one thread in it. For each model there is one row, a training
step of the whole batch:

    strong scaling   t(1 worker, batch b) / (2 t(2 workers, batch b))      the batch stays
    weak scaling     t(1 worker, batch b/2) / t(2 workers, batch b)        the batch grows too

The rows of the group "all-reduce" time the exchange itself, for arrays of 8 bytes to 64 MB.
What a step sends is counted, not timed (``sent``). The model of many workers that follows from
these figures: costs.py. The tables and the picture: scaling.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.contenders import by_tinycv, opened
from benchmarks.models import TASKS as MODELS
from benchmarks.models import TINY
from benchmarks.ranks import by_ranks, problem
from benchmarks.row import Contender, Row, Work
from benchmarks.tasks import Task
from benchmarks.work import NO_FORK

WORKERS = 2
# the models whose steps are measured; Score and LeNet would add little
NAMES = (
    "MLP 784-256-256-10",
    "LSTM, 28 steps of 28",
    "Transformer, 64 tokens",
    "ViT, 17 tokens of 64",
    "GAN, 32 x 32",
    "U-Net, 28 x 28",
)
CARRIERS = ("threads", "processes", "mpi")
ONE, HALF = "1 worker", "1 worker, half of the batch"
TWO = {"threads": "2 threads", "processes": "2 processes", "mpi": "2 MPI ranks"}
IN_ANY_ORDER = "2 MPI ranks, any order"
ALL_REDUCE = "all-reduce"
# bytes of an array, and how often it is exchanged in one call: the call around it must not count
SIZES = {8: 200, 1 << 10: 200, 1 << 15: 100, 1 << 20: 20, 1 << 23: 4, 1 << 26: 2}


def rows(quick: bool = False) -> list[Row]:
    """One row per model, and one per size of the array that is exchanged. quick: one of each, with
    tiny sizes."""
    if quick:
        return [step("tiny MLP", TINY["tiny MLP"]), all_reduce(8, 2)]
    steps = [step(name, MODELS[name]) for name in NAMES]
    return steps + [all_reduce(size, repeats) for size, repeats in SIZES.items()]


def facts(quick: bool = False) -> dict[str, Any]:
    """What the record says beside its rows: {"sent": {model: what a step sends}}."""
    tasks = {"tiny MLP": TINY["tiny MLP"]} if quick else {name: MODELS[name] for name in NAMES}
    return {"sent": {name: sent(task) for name, task in tasks.items()}}


# ── A training step ──────────────────────────────────────────────────────────────────────────────


def step(name: str, task: Task) -> Row:
    one_worker = functools.partial(by_tinycv, workers=1)
    contenders = [
        Contender(ONE, one_worker, (task, True, "threads")),
        Contender(HALF, half_of_the_batch, (task,)),
        *(by_carrier(carrier, by_tinycv, (task, True, carrier)) for carrier in CARRIERS),
    ]
    return Row(name, f"training step, batch {task.batch}", tuple(contenders), "step")


def by_carrier(carrier: str, make: Callable[..., Work], args: tuple) -> Contender:
    """A contender of two workers."""
    if carrier == "mpi":
        return Contender(TWO[carrier], by_ranks, (WORKERS, make, *args), missing=problem())
    missing = NO_FORK if carrier == "processes" else ""
    return Contender(TWO[carrier], functools.partial(make, workers=WORKERS), args, missing=missing)


def half_of_the_batch(task: Task) -> Work:
    """One worker trains with half of the batch. Its results would differ from those of the other
    contenders, so the gate, which compares them, gets the results of the whole batch."""
    half = replace(task, batch=task.batch // 2)
    return Half(*(by_tinycv(t, True, "threads", workers=1) for t in (task, half)))


class Half:
    """A Work whose results are those of ``whole``, and whose time is that of ``half``: worker.py
    times the attribute ``queue`` where there is one."""

    def __init__(self, whole: Work, half: Work):
        self.whole, self.queue = whole, half

    def __call__(self) -> dict[str, Any]:
        return self.whole()


# ── The exchange itself ──────────────────────────────────────────────────────────────────────────


def all_reduce(size: int, repeats: int) -> Row:
    contenders = [by_carrier(c, exchanged, (c, size, repeats)) for c in CARRIERS]
    any_order = functools.partial(exchanged, order="any")
    work = (WORKERS, any_order, "mpi", size, repeats)
    contenders.append(Contender(IN_ANY_ORDER, by_ranks, work, missing=problem()))
    return Row(
        ALL_REDUCE,
        f"{size:,} bytes",
        tuple(contenders),
        "all-reduce",
        per=repeats,
        point=("bytes", size),
    )


def exchanged(
    carrier: str, size: int, repeats: int, workers: int | None = None, **options: Any
) -> Work:
    """The Work of ``repeats`` exchanges of an array of ``size`` bytes."""
    group = opened(carrier, workers, **options)
    examples = np.zeros((WORKERS, 1), np.float32)  # one per worker
    function = functools.partial(often_reduced, size=size, repeats=repeats)
    return lambda: {"result": group.map(function, examples)}


def often_reduced(example: Any, size: int, repeats: int) -> Any:
    """What each worker runs. The result, of shape (1, 1), is the mean of the last sum: 2, if two
    workers have added up their ones."""
    from tinycv import Tensor
    from tinycv.engine import shards

    x = ones(size // 4)
    total = x
    for _ in range(repeats):
        total = shards.all_reduce(x)
    return Tensor(np.full((1, 1), total.mean(), np.float32))


@functools.cache
def ones(length: int) -> np.ndarray:
    """Kept, because making 64 MB of ones takes longer than exchanging them."""
    return np.ones(length, np.float32)


# ── What a step sends ────────────────────────────────────────────────────────────────────────────


def sent(task: Task) -> dict[str, int]:
    """What each worker gives to the others in a step, counted in a group of two threads:
    {"gradients", "statistics" (bytes), "exchanges" (how many)}.

    Gradients travel as one array per backward pass. Statistics are what layers exchange with
    all_reduce (batch norm, the number of rows of a cross-entropy).
    """
    from tinycv.engine.crew import InCrew
    from tinycv.training.threads import Threads

    count = {"gradients": 0, "statistics": 0, "exchanges": 0}
    all_reduce, gradients_of = InCrew.all_reduce, Threads._gradients

    def counting_all_reduce(shard: InCrew, x: Any) -> Any:
        if shard.rank == 0:
            count["statistics"] += getattr(x, "nbytes", 8)
            count["exchanges"] += 1
        return all_reduce(shard, x)

    def counting_gradients(group: Threads, *args: Any) -> Any:
        loss, gradients = gradients_of(group, *args)
        count["gradients"] += sum(g._data.nbytes for g in gradients.values())
        count["exchanges"] += 1
        return loss, gradients

    work = by_tinycv(task, True, "threads", workers=WORKERS)
    with (
        mock.patch.object(InCrew, "all_reduce", counting_all_reduce),
        mock.patch.object(Threads, "_gradients", counting_gradients),
    ):
        work()
    return count
