"""The frame of every demo: command-line flags, a record of measured figures, and where the picture
is saved.

    show = Demo("06_vit", __doc__)     reads --quick --full --device --half --seed --out
    show.measured("test accuracy", 0.987, target=">= 0.985")
    show.finish(figure)                writes out/06_vit.png and out/06_vit.json, prints the figures

The record is the JSON file: the demo's name, a hash of its script, size, title of the picture, rows
(metric, value, reference, target), seed, device, seconds, peak memory, versions, CPU and BLAS.

A demo adds a flag with one more argument, whose value is the flag's help:

    show = Demo("06_vit", __doc__, data="folder with your IDX files")
                                       --data FOLDER; show.data is the folder, or None

--half selects float16 (training/half.py). Only a demo that passes half=True can train in float16;
every other demo refuses the flag.

--parallel threads, processes or mpi lets several workers share each batch (training/parallel.py).
It is a flag of the demos that pass parallel=True and compute their gradients by ``show.backward``.
Under mpiexec every rank runs the demo; rank 0 alone prints and writes:

    mpiexec -n 2 python demos/06_vit.py --parallel mpi

--pretrained trains nothing and reads the weights that ship (training/pretrained.py), or those of a
file of yours. It is a flag of the demos that pass pretrained=True and train by ``show.trained``. A
run that trains writes such a file: out/NAME.safetensors.

    def train():                                 trains the model; returns what only it can measure
    notes = show.trained(train, {"vit": model}, {"vit": SIZES})

A demo runs in one of three sizes: quick (a test of seconds), full (the whole protocol, up to two
hours; the default where the demo has no other) and the default between them (minutes). If
demos/full has a script of the same name, that script is the protocol: it makes its Demo with
full=True, and the demo's ``--full`` runs it. The protocol runs the demo to get its figures from
several seeds and to use its functions:

    demo, *_ = show.repeat_demo(seeds=range(3))
    model = demo.train(...)
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tinycv.data import inputs
from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.module import Module
from tinycv.show import doctor
from tinycv.show.demo_flags import (
    ascii_only,
    flag_parser,
    group_and_device,
    read_flags,
    refuse_what_this_demo_lacks,
    weights_of,
)
from tinycv.training import pretrained as shipped

try:
    import resource
except ImportError:  # Windows
    resource = None

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Demo:
    """One run of one demo.

    Attributes: quick, full, device, half, seed, out (a Path), one for each flag that the demo adds,
    group (the workers of --parallel, or None), pretrained (the Weights of --pretrained, or None),
    and script (the script_hash of the file that runs; the record holds it).

    half: the demo can train in float16. full: the script is a protocol in demos/full. parallel:
    several workers can share its batches. pretrained: its weights ship. flags: the name and help of
    each flag that the demo adds.
    """

    def __init__(
        self,
        name: str,
        story: str,
        arguments: list[str] | None = None,
        half: bool = False,
        full: bool = False,
        parallel: bool = False,
        pretrained: bool = False,
        **flags: str,
    ):
        _expect_a_demo(name, story, arguments, half, full)
        inputs.flag(parallel, "Demo: parallel")
        inputs.flag(pretrained, "Demo: pretrained")
        for flag, meaning in flags.items():
            inputs.text(meaning, f"Demo: {flag}")
        parser = flag_parser(name, story, half, full, parallel, pretrained, flags)
        given = read_flags(parser, arguments, full)
        if given.full and not full and arguments is None:
            _hand_over(name)
        self.pretrained = weights_of(parser, given, pretrained)
        refuse_what_this_demo_lacks(parser, given, half, parallel)
        group, self.device = group_and_device(parser, given)
        self.group = group
        if not self.is_first:
            sys.stdout = io.StringIO()  # what this rank prints is never shown
        self.name = name
        self.quick = given.quick
        self.full = given.full or (full and not given.quick)
        self.half = given.half
        self.seed = given.seed
        self.out = given.out
        for flag in flags:
            setattr(self, flag, getattr(given, flag))
        called = Path(sys.argv[0])
        self.script = script_hash(called) if called.stem == name and called.is_file() else None
        self.rows = []
        self._arrays: dict[str, np.ndarray] = {}  # the weights of ``trained``
        self._of_training: dict[str, Any] = {}
        self._uses_less = False  # with --pretrained: than the run that trained
        self.started = time.perf_counter()
        backend.manual_seed(self.seed)
        print(ascii_only(story).strip().splitlines()[0], flush=True)
        if self.pretrained and self.pretrained.record["script"] != self.script:
            print(f"  {self.pretrained} was written by another version of this page")

    @property
    def is_first(self) -> bool:
        """Is this the process that prints and writes? Always, except in an MPI rank above 0."""
        return self.group is None or self.group.rank == 0

    def backward(self, optimizer: Any, loss_of: Callable[..., Tensor], *batch: Any) -> Tensor:
        """``loss = loss_of(*batch)``, then ``optimizer.backward(loss)``; with --parallel, the
        workers share the batch. Returns the loss."""
        if self.group is not None:
            return self.group.backward(loss_of, *batch)
        loss = loss_of(*batch)
        optimizer.backward(loss)
        return loss

    def refuse(self, flag: str, problem: str) -> NoReturn:
        """End the run, with one line about the value of a flag and exit status 2."""
        inputs.text(flag, "refuse: flag")
        inputs.text(problem, "refuse: problem")
        print(f"--{flag} {getattr(self, flag, '')}: {problem}", file=sys.stderr)
        sys.exit(2)

    @contextmanager
    def reading(self, flag: str) -> Iterator[None]:
        """Around code that reads what the user gave for a flag: an error ends the run with one line
        that names the flag."""
        inputs.text(flag, "reading: flag")
        try:
            yield
        except (ValueError, OSError) as error:
            self.refuse(flag, str(error))

    def trained(
        self,
        train: Callable[[], Any],
        models: Mapping[str, Module],
        config: Mapping[str, dict[str, Any]] | None = None,
    ) -> Any:
        """Call train(), which trains the models in place; with --pretrained, load their weights
        instead. Either way the weights are then those of a file: rounded to float16.

        Returns what train() returns: what only a training can measure, such as its seconds or a
        curve over its steps, as JSON can hold it. The file keeps that too. config: the keyword
        arguments that build each model again.
        """
        if self.pretrained:
            with self.reading("pretrained"):
                for name, model in models.items():
                    self.pretrained.load(name, model)
            found = self.pretrained.training
        else:
            found = train()
            for model in models.values():
                shipped.round_to_half(model)
            self._arrays = shipped.arrays_of(models)
            self._of_training = {"config": dict(config or {}), "training": found}
            self._write_weights(self._record())  # the figures follow when the run ends
        for model in models.values():
            model.eval()
        backend.manual_seed(self.seed)  # what follows draws the same noise after either way
        return found

    def _write_weights(self, record: dict[str, Any]) -> None:
        if self._arrays and self.is_first:
            path = self.out / f"{self.name}.safetensors"
            shipped.write(path, self._arrays, record | self._of_training)

    def as_trained(self, quick: Any, default: Any = None, full: Any = None) -> Any:
        """The value for this size of run, of what belongs to the weights, such as the width of a
        network: with --pretrained always the default, because the weights that ship have it."""
        return default if self.pretrained else self.choose(quick, default, full)

    def choose(
        self, quick: Any, default: Any = None, full: Any = None, pretrained: Any = None
    ) -> Any:
        """The value for this size of run. If ``full`` or ``pretrained`` is left out, a full run or
        one with --pretrained takes the default."""
        if self.quick:
            return quick
        if self.pretrained and pretrained is not None:
            self._uses_less = True
            return pretrained
        if self.full and full is not None:
            return full
        return default

    def measured(
        self, metric: str, value: ArrayLike, reference: str = "", target: str = ""
    ) -> None:
        """Record a figure. reference: the published figure and its source; target: what the figure
        should be. NaN is recorded like any number: it shows that the demo failed."""
        row = {
            "metric": inputs.text(metric, "measured: metric"),
            "value": _plain(value),
            "reference": inputs.text(reference, "measured: reference"),
            "target": inputs.text(target, "measured: target"),
        }
        self.rows.append(row)

    def repeat_demo(self, seeds: Iterable[int]) -> list[ModuleType]:
        """Run the demo of this protocol once for each seed. Returns the runs as modules: run.train
        is the demo's function ``train``, and run.model is the model that it trained.

        Records the demo's figures, unchanged if there is one seed. Otherwise a number becomes a
        list by seed, and a list (shares by length, for example) becomes its mean over the seeds.
        """
        if not isinstance(seeds, Iterable):
            raise TypeError(
                f"repeat_demo: seeds is {shown(seeds)}; it must be a list of whole numbers"
            )
        runs = [_run_demo(self, inputs.whole(seed, "repeat_demo: seeds", 0)) for seed in seeds]
        if not runs:
            raise ValueError("repeat_demo: seeds is empty; there must be at least one seed")
        if len(runs) == 1:
            self.rows += runs[0].show.rows
            return runs
        for i, row in enumerate(runs[0].show.rows):
            # (seeds, length of the list); a number is a list of one
            values = np.array([np.atleast_1d(run.show.rows[i]["value"]) for run in runs])
            if values.shape[1] == 1:
                metric, found = f"{row['metric']}, by seed", values[:, 0]
            else:
                metric, found = f"{row['metric']}, mean of all seeds", values.mean(axis=0)
            self.measured(metric, list(found), row["reference"], row["target"])
        return runs

    def finish(self, figure: Figure | None = None, **more: Any) -> dict[str, Any]:
        """Write the picture and the JSON, and print the figures. Returns the record."""
        workers = ""
        if self.group is not None:
            workers = more["workers"] = f"{self.group.size} of parallel.{self.group.carrier}"
            self.group.close()
        if not self.is_first:
            return {}
        title = " ".join(figure.get_suptitle().split()) if figure is not None else ""
        if self.pretrained:
            more["pretrained"] = self.pretrained.path.name
        record = self._record(title) | more
        self._write_weights(record)
        self.out.mkdir(parents=True, exist_ok=True)
        target = self.out / f"{self.name}.json"
        partial = target.with_suffix(".json.part")
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, target)
        for row in self.rows:
            print(_line(row))
        peak = record["peak_memory_mib"]
        memory = "peak memory unknown" if peak is None else f"{peak} MiB"
        print(
            f"  {record['seconds']} s, {memory}, seed {self.seed}, "
            f"{self.device}" + ", float16" * self.half + f", {workers}" * bool(workers)
        )
        if self.pretrained:
            print(
                f"  --pretrained: nothing was trained. The weights are those of {self.pretrained}, "
                "and so\n  are the seconds of training and all curves over its steps"
            )
        if self._uses_less:
            print(
                "  It uses fewer examples than the run that trained, so shares and distances are "
                "less exact, and\n  a distance between two sets depends on their sizes. Figures of "
                f"that run: demos/figures/{self.name}.md"
            )
        if self.quick:
            print("  --quick: everything ran, but the figures and the picture mean nothing")
        if figure is not None:
            from tinycv.show import draw

            if self.quick:
                figure.text(0.995, 0.002, "--quick: means nothing", ha="right", fontsize=8)
            print(f"  picture: {draw.save(figure, self.out / f'{self.name}.png')}")
        return record

    def _record(self, title: str = "") -> dict[str, Any]:
        """What this run has found so far, and everything that it depends on."""
        facts = doctor.report()
        return {
            "demo": self.name,
            "script": self.script,
            "size": self.choose(quick="quick", default="default", full="full"),
            "title": title,
            "rows": self.rows,
            "seed": self.seed,
            "device": self.device,
            "half": self.half,
            "seconds": round(time.perf_counter() - self.started, 1),
            "peak_memory_mib": peak_memory_mib(),
            "versions": facts["versions"],
            "cpu": facts["cpu"],
            "blas": facts["blas"],
        }


def _hand_over(name: str) -> None:
    """Run demos/full/NAME.py if it exists beside the demo that was called, then exit."""
    page = Path(sys.argv[0]).resolve().parent / "full" / f"{name}.py"
    if page.exists():
        sys.argv[0] = str(page)
        runpy.run_path(str(page), run_name="__main__")
        sys.exit()


def _run_demo(page: Demo, seed: int) -> ModuleType:
    """Import demos/NAME.py, which runs it, in the size of the protocol and on the same device. Its
    picture and its record go to OUT/NAME/seed_0 (or another seed)."""
    demo = Path(sys.argv[0]).resolve().parent.parent / f"{page.name}.py"
    if not demo.is_file():
        raise FileNotFoundError(
            f"repeat_demo: there is no demo {demo}; its page is full/{demo.name}"
        )
    flags = ["--seed", str(seed), "--device", page.device]
    flags += ["--out", str(page.out / page.name / f"seed_{seed}")]
    if page.quick:
        flags.append("--quick")
    spec = importlib.util.spec_from_file_location(page.name, demo)
    assert spec is not None and spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    before = sys.argv
    sys.argv = [str(demo), *flags]
    try:
        spec.loader.exec_module(run)
    finally:
        sys.argv = before
    return run


def _expect_a_demo(name: Any, story: Any, arguments: Any, half: Any, full: Any) -> None:
    """Raise an error for arguments that Demo does not take."""
    inputs.text(name, "Demo: name")
    inputs.text(story, "Demo: story")
    inputs.flag(half, "Demo: half")
    inputs.flag(full, "Demo: full")
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


def _plain(value: Any) -> float | list[float]:
    """A measured value as JSON can hold it: a number or a list of numbers."""
    found = inputs.array(value, "measured: value", "a number or a list of numbers")
    is_list = isinstance(value, (list, tuple))
    one_number = found.ndim == 0 or (not is_list and found.size == 1)
    if found.ndim > 1 or not (is_list or one_number):
        raise ValueError(
            f"measured: value has shape {found.shape}; it must be a number or a list of numbers"
        )
    if not found.size:
        raise ValueError(
            f"measured: value is {shown(value)}; it must be a number or a list of at least one"
        )
    if is_list:
        return found.astype(float).tolist()
    return float(found.reshape(-1)[0])


def _line(row: dict[str, Any]) -> str:
    """The printed line of a measured figure."""
    value = row["value"]
    if isinstance(value, list):
        said = ", ".join(f"{v:.4g}" for v in value)
    else:
        said = f"{value:.6g}"
    line = f"  {row['metric']}: {said}"
    if row["target"]:
        line += f"   (target {row['target']})"
    if row["reference"]:
        line += f"   [{row['reference']}]"
    return line


def script_hash(path: Path | str) -> str:
    """A short hash of what a script does: of its lines without docstrings, comment lines and empty
    lines. A test compares it with the record of each committed picture, so that no picture is older
    than its script.
    """
    path = inputs.path(path, "script_hash: path")
    if path.is_dir():
        raise ValueError(f"script_hash: path is the folder {str(path)!r}; it must be a Python file")
    if not path.exists():
        raise FileNotFoundError(f"script_hash: there is no file {str(path)!r}")
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if ast.get_docstring(node) is not None:
            docstring = node.body[0]
            end = docstring.end_lineno or docstring.lineno
            lines[docstring.lineno - 1 : end] = [""] * (end - docstring.lineno + 1)
    kept = [line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:16]


def peak_memory_mib() -> int | None:
    """The peak memory of this process so far, in MiB. None on Windows, where the standard library
    does not know it."""
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)
