"""The certificate's table, a line for every op and pair:    python -m tinycv.engine.check"""

from __future__ import annotations

import argparse

from tinycv.certificate.cases import CASES, cases, names
from tinycv.engine import backend
from tinycv.engine.check import agree, certify
from tinycv.engine.fused import PAIRS

LINE = "{:<29} {:>7} {:>7} {:>11} {:>6}  {:<9}  {}"


def row(name: str, devices: list[str]) -> tuple[str, str]:
    """The table's line for one op or pair, and what failed ("" where nothing did)."""
    halves = [cases(name)] + ([cases(name, PAIRS[name].definition)] if name in PAIRS else [])
    errors, apart = [(0.0, 0.0)], 0.0
    try:
        for device in devices:
            errors += [
                certify(c.call, *c.inputs, name=name, device=device)
                for half in halves
                for c in half
            ]
            for ours, read in zip(*halves, strict=True) if name in PAIRS else ():
                apart = max(
                    apart, agree(ours.call, read.call, *ours.inputs, name=name, device=device)
                )
    # a crash fails the op; the others are still tried
    except Exception as error:
        return LINE.format(
            name, "FAILED", "", "", "", "", ""
        ), f"{name} on {device}: {type(error).__name__}: {error}"
    first, second = (f"{max(worst):.0e}" for worst in zip(*errors, strict=True))
    return LINE.format(
        name,
        first,
        second,
        f"{apart:.0e}" if name in PAIRS else "",
        len(halves[0]),
        "+".join(devices),
        CASES[name].note,
    ), ""


def main(arguments: list[str] | None = None) -> int:
    """Print the certificate's table; 1 where a derivative fails it."""
    parser = argparse.ArgumentParser(
        "python -m tinycv.engine.check", description="Certify every derivative."
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help="ops and pairs to certify (all of them)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), help="only this one (all that can be used)"
    )
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - set(names())
    if unknown:
        parser.error(f"no op or pair is called {', '.join(sorted(unknown))}")
    problem = None if chosen.device else backend.gpu_problem()
    devices = [chosen.device] if chosen.device else ["cpu"] if problem else ["cpu", "gpu"]
    print(
        "Worst relative error against central finite differences, float64 (allowed: order 1 1e-06, "
        "order 2 1e-05)."
    )
    if problem:
        print(f"cpu only: no GPU ({problem})")
    print(
        LINE.format(
            "op", "order 1", "order 2", "kernel=def.", "shapes", "backends", "stepped around"
        )
    )
    failures = []
    for name in chosen.names or names():
        line, failure = row(name, devices)
        print(line.rstrip(), flush=True)
        failures += [failure] if failure else []
    print("", *(failures or ["Every derivative is certified."]), sep="\n")
    return 1 if failures else 0
