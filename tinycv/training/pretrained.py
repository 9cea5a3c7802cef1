"""Pretrained weights: files of trained models that ship, and the record of each training.

    python demos/06_vit.py                 trains, and writes out/06_vit.safetensors
    python demos/06_vit.py --pretrained    trains nothing: it reads the file that ships

    from tinycv.training import pretrained
    from tinycv.vision import ViT

    weights = pretrained.read("06_vit")    the file of this demo, wherever it is installed
    model = weights.build("vit", ViT)      ViT(**weights.config["vit"]), with its weights

One safetensors file holds all models of a demo. Its arrays are called MODEL/NAME, such as
"vit/head.weight"; its state (checkpoint.py) holds how each model is built and the record of the
run: demo, hash of the script, size, seed, figures, versions, CPU. No date: the same run writes the
same bytes, except for the seconds that it took.

Float16 halves a file. A demo rounds the parameters of its models to float16 right after training
(``round_to_half``), and only then measures: so its figures are those of the file, whatever the
rounding costs. ``write`` stores as float16 exactly the arrays that lose nothing by it, and the
others as float32: the buffers of batch norm, for example. ``read`` returns float32.

Read first: checkpoint.py.   Used by: show/demo.py, and the demos that have --pretrained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinycv
from tinycv.data import inputs
from tinycv.engine.arguments import listed, shown
from tinycv.engine.backend import to_device, to_numpy
from tinycv.nn.module import Module
from tinycv.training import checkpoint
from tinycv.training.checkpoint import CheckpointError

PACKAGE = Path(tinycv.__file__).parent
# a wheel has the first folder; a clone has the second one
FOLDERS = PACKAGE / "weights", PACKAGE.parent / "demos" / "weights"
Record = dict[str, Any]
KEYS = "demo", "script", "size", "seed", "config", "training", "rows", "versions", "cpu"


@dataclass(frozen=True)
class Weights:
    """A file of weights, read."""

    path: Path
    arrays: dict[str, np.ndarray]  # by MODEL/NAME; float32
    record: Record

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """For each model the keyword arguments that build it."""
        return self.record["config"]

    @property
    def training(self) -> Any:
        """What only the training could measure: its seconds, and curves over its steps."""
        return self.record["training"]

    def value(self, metric: str) -> Any:
        """The figure of this name, a number or a list, in the record of the run."""
        for row in self.record["rows"]:
            if row["metric"] == metric:
                return row["value"]
        metrics = listed([shown(row["metric"]) for row in self.record["rows"]])
        raise ValueError(
            f"Weights.value: {self.path} has no figure {shown(metric)}; it has {metrics}"
        )

    def build(self, name: str, kind: Callable[..., Module]) -> Module:
        """kind(**config) with the weights of the model ``name``, on the CPU, in eval mode."""
        arguments = self.config.get(self._known(name))
        if arguments is None:
            raise ValueError(
                f"Weights.build: {self.path} does not say how its model {name!r} is built; make "
                "it yourself, and use load"
            )
        model = kind(**arguments)
        self.load(name, model)
        return model.eval()

    def load(self, name: str, model: Module) -> None:
        """Copy the weights of the model ``name`` into a model that was built with its config.
        CheckpointError if names or shapes do not fit; the model then stays as it was."""
        start = f"{self._known(name)}/"
        arrays = {}
        for key, array in self.arrays.items():
            if key.startswith(start):
                arrays[key.removeprefix(start)] = array
        try:
            nans = checkpoint.with_nan(arrays)
            if nans:
                raise ValueError(f"NaN in {listed(nans)}")
            model.load_state_dict(arrays)
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {error}") from error

    def _known(self, name: str) -> str:
        """The name of a model, or ValueError for one that the file does not have."""
        names = list(dict.fromkeys(key.split("/")[0] for key in self.arrays))
        if name not in names:
            raise ValueError(f"{self.path} has no model {shown(name)}; it has {listed(names)}")
        return name

    def __str__(self) -> str:
        return str(self.path)


def find(name: str) -> Path:
    """The file of a demo's weights: in the installed package, or in demos/weights of a clone."""
    name = inputs.text(name, "pretrained.find: name").removesuffix(".safetensors")
    for folder in FOLDERS:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    shipped = sorted(path.stem for folder in FOLDERS for path in folder.glob("*.safetensors"))
    raise FileNotFoundError(
        f"there are no weights called {name!r} here; `python demos/{name}.py`, in a clone, trains "
        f"them and writes out/{name}.safetensors. These weights ship: {listed(shipped) or 'none'}"
    )


def read(name_or_path: str | os.PathLike) -> Weights:
    """The weights of a demo by its name, such as "06_vit", or those in a file of yours, whose path
    ends with .safetensors.

    FileNotFoundError as of ``find``; CheckpointError as of ``checkpoint.load``, and for a file that
    no demo wrote."""
    path = inputs.path(name_or_path, "pretrained.read: name_or_path")
    if path.suffix != ".safetensors":
        if path.name != str(path):
            raise FileNotFoundError(
                f"pretrained.read: {path}: the name of a file of weights ends with .safetensors"
            )
        path = find(str(path))
    arrays, record = checkpoint.load(path)
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise CheckpointError(
            f"{path}: no demo wrote this file: its state has no {listed(missing)}; "
            "checkpoint.load reads it"
        )
    record["config"] = {name: _with_tuples(config) for name, config in record["config"].items()}
    for name, array in list(arrays.items()):
        if array.dtype == np.float16:
            arrays[name] = array.astype(np.float32)
    return Weights(path, arrays, record)


def round_to_half(model: Module) -> None:
    """Round each parameter to the nearest number that float16 has, in place. It stays float32.
    A parameter with a number too large for float16 stays as it is."""
    _require_module(model, "round_to_half: model")
    for parameter in model.parameters():
        with np.errstate(over="ignore"):
            rounded = to_numpy(parameter._data).astype(np.float16).astype(parameter.dtype)
        if np.isfinite(rounded).all():
            parameter.data = to_device(rounded, parameter.device)


def arrays_of(models: Mapping[str, Module]) -> dict[str, np.ndarray]:
    """A copy of the parameters and buffers of all models, by MODEL/NAME: float16 where that loses
    nothing. A tied weight is there once."""
    if not isinstance(models, Mapping):
        raise TypeError(
            f"arrays_of: models is {shown(models)}; it must be a dict of Modules by name"
        )
    arrays = {}
    for name, model in models.items():
        _require_module(model, f"arrays_of: models[{shown(name)}]")
        for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
            arrays[f"{name}/{path}"] = _smallest(to_numpy(tensor._data))
    return arrays


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], record: Record) -> None:
    """Write a file of weights, atomically. arrays: of ``arrays_of``. record: a dict with the KEYS
    above, which JSON can hold."""
    if not isinstance(record, dict):
        raise TypeError(f"pretrained.write: record is {shown(record)}; it must be a dict")
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise ValueError(f"pretrained.write: record has no {listed(missing)}")
    checkpoint.save(path, arrays, record)


def _require_module(value: object, what: str) -> None:
    if not isinstance(value, Module):
        raise TypeError(f"{what} is {shown(value)}; it must be a Module")


def _smallest(array: np.ndarray) -> np.ndarray:
    """A copy, as float16 if every number stays the same."""
    if array.dtype == np.float32:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if (half == array).all():
            return half
    return array.copy()


def _with_tuples(value: Any) -> Any:
    """JSON has one kind of list, and sizes of models are tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(part) for key, part in value.items()}
    if isinstance(value, list):
        return tuple(_with_tuples(part) for part in value)
    return value
