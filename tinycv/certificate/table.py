"""Gradient check of every op and pair from the command line: ``python -m tinycv.engine.check``.

It prints one line per op and pair.
"""

from __future__ import annotations

import argparse

from tinycv.certificate.cases import CASES, cases, names
from tinycv.engine import backend
from tinycv.engine.check import agree, certify
from tinycv.engine.fused import PAIRS

LINE = "{:<29} {:>7} {:>7} {:>11} {:>6}  {:<9}  {}"


def row(name: str, devices: list[str]) -> tuple[str, str]:
    """(the table's line for one op or pair, a description of the failure, or "")."""
    halves = [cases(name)]
    if name in PAIRS:
        halves.append(cases(name, PAIRS[name].definition))
    errors, difference = [(0.0, 0.0)], 0.0
    try:
        for device in devices:
            errors += [
                certify(c.call, *c.inputs, name=name, device=device)
                for half in halves
                for c in half
            ]
            if name in PAIRS:
                for kernel, definition in zip(*halves, strict=True):
                    difference = max(
                        difference,
                        agree(
                            kernel.call,
                            definition.call,
                            *kernel.inputs,
                            name=name,
                            device=device,
                        ),
                    )
    # an op that crashes has failed, and the next op is tried
    except Exception as error:
        return LINE.format(
            name, "FAILED", "", "", "", "", ""
        ), f"{name} on {device}: {type(error).__name__}: {error}"
    first, second = (f"{max(worst):.0e}" for worst in zip(*errors, strict=True))
    return LINE.format(
        name,
        first,
        second,
        f"{difference:.0e}" if name in PAIRS else "",
        len(halves[0]),
        "+".join(devices),
        CASES[name].note,
    ), ""


def main(arguments: list[str] | None = None) -> int:
    """Print the table. Returns 1 if a derivative is wrong, else 0."""
    parser = argparse.ArgumentParser(
        "python -m tinycv.engine.check",
        description="Compare every derivative with finite differences.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help="ops and pairs to check (default: all)"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        help="check on this device only (default: the CPU, and the GPU if there is one)",
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"no op or pair is called {', '.join(sorted(unknown))}")
    problem = None
    if options.device:
        devices = [options.device]
    else:
        problem = backend.gpu_problem()
        devices = ["cpu"] if problem else ["cpu", "gpu"]
    print(
        "Largest relative error against central finite differences, in float64 (allowed: 1e-06 at "
        "order 1, 1e-05 at order 2)."
    )
    if problem:
        print(f"on the CPU only: no GPU ({problem})")
    print(LINE.format("op", "order 1", "order 2", "kernel=def.", "cases", "devices", "note"))
    failures = []
    for name in options.names or names():
        line, failure = row(name, devices)
        print(line.rstrip(), flush=True)
        if failure:
            failures.append(failure)
    print("", *(failures or ["Every derivative is correct."]), sep="\n")
    return 1 if failures else 0
