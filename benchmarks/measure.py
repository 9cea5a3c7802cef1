"""How a row is measured: each contender in a process of its own, turn by turn, after all were seen
to agree.

A process each, because threads that one library leaves spinning slow whatever runs next beside
them: a pair timed in one process came out wrong by 1.4x. Turn by turn (A B C A B C ...), because a
machine's speed drifts: what slows one contender then slows all. Memory has yet another process
each, fresh, for what was freed before hides what is used.

pyperf is the well-kept alternative, and was not taken: it runs one benchmark after the other, each
a main script of its own, so nothing is turn by turn and no gate can hold results side by side.
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
    """The row's record for the JSON: samples and figures of each contender, or under "refused" why
    there are none.

    processes: processes to do it in, which stay for the next row; else each has a new one.
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
            results = {worker.name: worker.ask("results") for worker in workers}
            gate(results, row.rtol)
            samples = interleaved(workers, effort)
            for entry, contender, worker in zip(present, runners, workers, strict=True):
                entry |= {
                    "about": worker.ask("about"),
                    "samples": (samples[contender.name] / row.per).tolist(),
                }
                if contender.on_device:
                    entry |= worker.ask("apart")
    except Refused as reason:
        return record | {"refused": str(reason)}
    for entry, contender in zip(present, runners, strict=True):
        entry |= figures(entry["samples"], present[0]["samples"])
        if row.memory and not contender.on_device and not processes:
            entry["memory"] = peak_memory(contender)
    return record


def described(row: Row) -> dict[str, Any]:
    """What is known of a row before it is measured."""
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
    """Of a process in which nothing was done before."""
    try:
        with Worker(contender) as fresh:
            return fresh.ask("memory")
    except Refused as reason:
        return {"missing": str(reason)}
