"""What every demo has in common: its flags, its record of measured figures, and where its picture
goes.

    show = Demo("06_vit", __doc__)     reads --quick --full --device --half --seed --out
    show.measured("test accuracy", 0.987, target=">= 0.985")
    show.finish(figure)                writes out/06_vit.png and out/06_vit.json, prints the figures

A flag of its own is one more argument, whose value is its help:

    show = Demo("06_vit", __doc__, data="folder with your IDX files")       --data FOLDER; show.data is it, or None

--half asks for float16 (training/half.py); a demo that can train so says it by half=True, every
other refuses the flag. A demo is quick (a test of seconds), full (the whole protocol, cut to an
hour at most), or neither (some minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from tinycv.data import inputs
from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.show import doctor

WITH_HALF = "06_vit", "17_diffusion_digits"


class Demo:
    """One run of one demo. Attributes: quick, full, device, half, seed, out (a Path), plus
    ``choose``."""

    def __init__(
        self,
        name: str,
        story: str,
        arguments: list[str] | None = None,
        half: bool = False,
        **flags: str,
    ):
        _expect_a_demo(name, story, arguments, half)
        parser = argparse.ArgumentParser(
            prog=f"demos/{name}.py",
            description=ascii_only(story),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        size = parser.add_mutually_exclusive_group()
        size.add_argument(
            "--quick",
            action="store_true",
            help="seconds, to see that it works; the figures mean nothing",
        )
        size.add_argument(
            "--full", action="store_true", help="the whole protocol: up to an hour on two cores"
        )
        parser.add_argument(
            "--device", default="cpu", help="cpu, gpu, gpu:1 or auto (default: cpu)"
        )
        parser.add_argument(
            "--half",
            action="store_true",
            help="train in float16, with float32 master weights: for a GPU"
            if half
            else argparse.SUPPRESS,
        )
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--out", type=Path, default=Path("out"), help="folder for the picture and the figures"
        )
        for flag, meaning in flags.items():
            inputs.text(meaning, f"Demo: {flag}")
            parser.add_argument(f"--{flag}", help=meaning)
        given = parser.parse_args(arguments)
        if not 0 <= given.seed < 2**63:
            parser.exit(
                2, f"--seed {given.seed}: it must be a whole number, at least 0 and below 2^63\n"
            )
        if given.half and not half:
            parser.exit(
                2,
                f"demos/{name}.py trains in float32 alone; --half is a flag of "
                f"{' and '.join(WITH_HALF)}\n",
            )
        try:
            self.device = backend.resolve(given.device)
        except (backend.GpuUnavailable, ValueError) as error:
            parser.exit(2, f"{error}\n")
        self.name, self.quick, self.full, self.seed, self.out = (
            name,
            given.quick,
            given.full,
            given.seed,
            given.out,
        )
        self.half = given.half
        for flag in flags:
            setattr(self, flag, getattr(given, flag))
        self.started, self.rows = time.perf_counter(), []
        backend.manual_seed(self.seed)
        print(ascii_only(story).strip().splitlines()[0], flush=True)

    def choose(self, quick: Any, default: Any, full: Any = None) -> Any:
        """The value for this size of run; ``full`` is as ``default`` where left out."""
        return quick if self.quick else full if self.full and full is not None else default

    def measured(self, metric: str, value: Any, reference: str = "", target: str = "") -> None:
        """Note a figure. reference: the published figure with its source; target: what it ought to
        be. NaN is noted like any other: it says that the demo failed."""
        metric, reference, target = (
            inputs.text(v, f"measured: {what}")
            for what, v in (("metric", metric), ("reference", reference), ("target", target))
        )
        found = inputs.array(value, "measured: value", "a number or a list of numbers")
        if found.ndim > 1 or (
            found.ndim and not isinstance(value, (list, tuple)) and found.size != 1
        ):
            raise ValueError(
                f"measured: value has shape {found.shape}; it must be a number or a list of numbers"
            )
        if not found.size:
            raise ValueError(
                f"measured: value is {shown(value)}; it must be a number or a list of at least one"
            )
        plain = (
            found.astype(float).tolist()
            if isinstance(value, (list, tuple))
            else float(found.reshape(-1)[0])
        )
        self.rows.append(
            {"metric": metric, "value": plain, "reference": reference, "target": target}
        )

    def finish(self, figure: Any = None, **more: Any) -> dict:
        """Write the picture and the JSON, print the figures. Returns what was written."""
        self.out.mkdir(parents=True, exist_ok=True)
        facts = doctor.report()
        record = {
            "demo": self.name,
            "size": self.choose("quick", "default", "full"),
            "rows": self.rows,
            "seed": self.seed,
            "device": self.device,
            "half": self.half,
            "seconds": round(time.perf_counter() - self.started, 1),
            "peak_memory_mib": peak_memory_mib(),
            "versions": facts["versions"],
            "cpu": facts["cpu"],
            "blas": facts["blas"],
            **more,
        }
        target = self.out / f"{self.name}.json"
        partial = target.with_suffix(".json.part")
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, target)
        for row in self.rows:
            value = row["value"]
            shown = (
                ", ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else f"{value:.6g}"
            )
            print(
                f"  {row['metric']}: {shown}"
                + (f"   (target {row['target']})" if row["target"] else "")
                + (f"   [{row['reference']}]" if row["reference"] else "")
            )
        print(
            f"  {record['seconds']} s, {record['peak_memory_mib']} MiB, seed {self.seed}, "
            f"{self.device}" + ", float16" * self.half
        )
        if figure is not None:
            from tinycv.show import draw

            print(f"  picture: {draw.save(figure, self.out / f'{self.name}.png')}")
        return record


def _expect_a_demo(name: Any, story: Any, arguments: Any, half: Any) -> None:
    """An error for what Demo does not take."""
    (
        inputs.text(name, "Demo: name"),
        inputs.text(story, "Demo: story"),
        inputs.flag(half, "Demo: half"),
    )
    if not story.strip() or not name or Path(name).name != name:
        raise ValueError(
            f"Demo: name is {shown(name)} and story {shown(story)}; they must be a file's name and "
            "a story that begins with a line about it"
        )
    if arguments is not None and not (
        isinstance(arguments, (list, tuple)) and all(isinstance(word, str) for word in arguments)
    ):
        raise TypeError(
            f"Demo: arguments is {shown(arguments)}; it must be a list of texts, or None: the "
            "command line"
        )


def peak_memory_mib() -> int:
    """The most memory that this process has held so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def ascii_only(text: str) -> str:
    """For consoles that cannot print more."""
    text = inputs.text(text, "ascii_only: text")
    return text.replace("·", "-").encode("ascii", "replace").decode()
