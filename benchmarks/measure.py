"""Measures one row: each contender runs in its own process, they take turns, and all must compute
the same results first.

One process per contender, because threads that one library leaves spinning slow down whatever runs
next in the same process: two contenders timed in one process came out wrong by a factor of 1.4.
They take turns (A B C A B C ...), because the speed of a machine drifts: what slows down one
contender then slows down all. Memory is measured in yet another, fresh process, because memory that
was freed earlier would be reused unseen.

pyperf is the well-maintained alternative. It is not used here because it runs one benchmark after
another, each as its own script, so contenders cannot take turns, and no gate can compare their
results.
"""

from __future__ import annotations

import contextlib
from typing import Any

from benchmarks.gate import Refused, gate
from benchmarks.machine import load
from benchmarks.row import Contender, Effort, Row
from benchmarks.statistics import figures
from benchmarks.worker import Processes, Worker, interleaved, settings


def measure(row: Row, effort: Effort, processes: Processes | None = None) -> dict[str, Any]:
    """The row's record for the JSON file: the samples and figures of each contender, or the reason
    why there are none, under "refused".

    processes: existing processes to use, which stay for the next row; None starts new ones.
    """
    record = described(row)
    present = [entry for entry in record["contenders"] if "missing" not in entry]
    runners = [c for c in row.contenders if not c.missing]
    try:
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(processes.working(c) if processes else Worker(c))
                for c in runners
            ]
            results = {worker.name: worker.request("results") for worker in workers}
            gate(results, row.rtol)
            samples = interleaved(workers, effort)
            for entry, contender, worker in zip(present, runners, workers, strict=True):
                entry |= {
                    "about": worker.request("about"),
                    "samples": (samples[contender.name] / row.per).tolist(),
                }
                if contender.on_device:
                    entry |= worker.request("device times")
    except Refused as reason:
        return record | {"refused": str(reason)}
    for entry, contender in zip(present, runners, strict=True):
        entry |= figures(entry["samples"], present[0]["samples"])
        if row.memory and contender.memory and not contender.on_device and not processes:
            entry["memory"] = peak_memory(contender)
    return record


def described(row: Row) -> dict[str, Any]:
    """What is known about a row before it is measured."""
    return {
        "group": row.group,
        "name": row.name,
        "of": row.of,
        "flops": row.flops,
        "point": row.point,
        "rtol": row.rtol,
        "dtype": row.dtype,
        "load": load(),
        "contenders": [
            {
                "name": c.name,
                "on_device": c.on_device,
                **({"missing": c.missing} if c.missing else {"env": settings(c)}),
            }
            for c in row.contenders
        ],
    }


def peak_memory(contender: Contender) -> dict[str, Any]:
    """The peak memory, measured in a fresh process."""
    try:
        with Worker(contender) as fresh:
            return fresh.request("memory")
    except Refused as reason:
        return {"missing": str(reason)}
