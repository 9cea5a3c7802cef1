"""A training's checkpoint: what is saved, and what must fit to go on from it.

A checkpoint holds the model, the averages, the optimisers, the random streams, and how far the
training had got. Nothing broken is saved: weights that are not finite do not replace a good
checkpoint. When a training resumes, all of its checkpoint is checked and converted before any of it
is loaded. If one part does not fit, or cannot be what a training wrote, all parts stay, bit for
bit, what they were.
Used by: loop.py, whose Run is saved and resumed here. The file itself: checkpoint.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import listed
from tinycv.engine.rng import loading_rng_state
from tinycv.nn.batch_norm import BatchNorm2d
from tinycv.nn.module import joined
from tinycv.optim.state import brief, plain, wide
from tinycv.training import checkpoint
from tinycv.training.checkpoint import CheckpointError, with_nan

if TYPE_CHECKING:
    from tinycv.training.loop import Run

Saved = dict[str, Any]
Arrays = dict[str, np.ndarray]
LARGEST = 2**1023


def identity(run: Run) -> Saved:
    """What must be equal for two runs to be the same training."""
    kinds = {
        "model": type(run.model).__name__,
        **{role: type(optimizer).__name__ for role, optimizer in run.optimizers.items()},
        "dtype": str(run.first.dtype),
        "ema decay": run.ema and run.ema.decay,
    }
    loader = {
        f"loader's {name}": plain(getattr(run.loader, name, None))
        for name in ("samples", "batch_size", "shuffle", "seed")
    }
    return {"seed": run.seed, "batches an epoch": len(run.loader), **kinds, **loader}


# -- saving ---------------------------------------------------------------------------------------


def save_run(run: Run, path: Path) -> None:
    """Write the checkpoint. FloatingPointError, and no file is touched, where the training is
    broken."""
    run.read_losses()  # before all else: a NaN must not replace a good checkpoint
    arrays = {f"model/{name}": t._data for name, t in run.model.state_dict().items()}
    if run.ema is not None:
        arrays |= {f"ema/{name}": array for name, array in run.ema.state_dict().items()}
    optimizers = {}
    for role, optimizer in run.optimizers.items():
        state = optimizer.state_dict()
        for name, kept in state["state"].items():
            arrays |= {f"{role}/{name}/{key}": kept[key] for key in kept if key != "step"}
        optimizers[role] = {
            "steps": {name: kept["step"] for name, kept in state["state"].items()},
            "param_groups": state["param_groups"],
        }
    arrays = {name: backend.to_numpy(array) for name, array in arrays.items()}
    _refuse_broken_weights(run, arrays)
    run.seconds()
    state = {
        "training": identity(run),
        "step": run.step,
        "history": run.history.to_dict(),
        **optimizers,
        "rng": backend.get_rng_state(),
    }
    checkpoint.save(path, arrays, state)


def _refuse_broken_weights(run: Run, arrays: Arrays) -> None:
    """FloatingPointError for weights, and what optimisers remember of them, that are not finite."""
    names = [f"model/{name}" for name, _ in run.model.named_parameters()]
    names += [name for name in arrays if name.partition("/")[0] in run.optimizers]
    broken = [name for name in names if not math.isfinite(arrays[name].sum(dtype="float64"))]
    if broken := broken or with_nan(arrays):
        raise FloatingPointError(
            f"{broken[0].removeprefix('model/')} is not finite after step {run.step - 1}, "
            "though the loss was: nothing was saved. Run it again inside `with "
            "tinycv.debug():` to see which derivative made it"
        )


# -- resuming -------------------------------------------------------------------------------------


def resume_run(run: Run) -> bool:
    """Go on from the checkpoint, if there is one. CheckpointError if it does not fit; nothing is
    changed then."""
    if run.path is None or not run.path.exists():
        return False
    resumed(run, *checkpoint.load(run.path))()
    return True


def resumed(run: Run, tensors: Arrays, state: Saved) -> Callable[[], None]:
    """The function that brings a Run to where the checkpoint was written. CheckpointError says what
    does not fit.
    """
    if "training" not in state:
        raise CheckpointError(
            f"{run.path} is no training's checkpoint; weights alone go through load_model"
        )
    try:
        _same_training(run, state["training"])
        _exactly(state, {"training", "step", "history", "rng", *run.optimizers}, "it")
        parts = _by_part(run, tensors)
        step, history = _progress(state, len(run.loader))
        _same_model(run.model, parts["model"])
        loads = [_loading(run, role, parts[role], state[role], step) for role in run.optimizers]
        if run.ema is not None:
            _dtypes_of(
                parts["ema"], {name: array.dtype for name, array in run.ema.state_dict().items()}
            )
            _possible_statistics(run.ema.model, parts["ema"])
            loads.append(run.ema.loading(parts["ema"]))
        if nans := with_nan(tensors):
            raise ValueError(f"NaN in {brief(nans)}")
        loads.append(loading_rng_state(state["rng"]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{run.path} is of another training, or damaged: {error}") from error

    def go_on() -> None:
        try:
            # all or nothing; what follows cannot fail any more
            run.model.load_state_dict(parts["model"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{run.path} is of another training: {error}") from error
        for load in loads:
            load()
        run.step, run.history = step, type(run.history)(**history)

    return go_on


def _same_training(run: Run, there: Any) -> None:
    if not isinstance(there, dict):
        raise ValueError("what it says of its training is no dict")
    here = json.loads(json.dumps(identity(run)))
    differ = [
        f"{key} is {there.get(key)!r:.60} there and {here.get(key)!r} here"
        for key in here | there
        if key not in here or there.get(key) != here.get(key)
    ]
    if differ:
        raise ValueError(
            f"{listed(differ, join='; ')}. Choose another path, or remove it to begin anew"
        )


def _exactly(saved: Any, wanted: set[str], what: str) -> None:
    """ValueError unless ``saved`` is a dict with these keys and no others."""
    if not isinstance(saved, dict):
        raise ValueError(
            f"{what} should be a dict with {sorted(wanted)}, and is a {type(saved).__name__}"
        )
    if set(saved) != wanted:
        raise ValueError(f"{what} should have {sorted(wanted)}, and has {brief(sorted(saved))}")


def _by_part(run: Run, tensors: Arrays) -> dict[str, Arrays]:
    """The tensors of the model, the averages and each optimiser, by the rest of their names."""
    parts: dict[str, Arrays] = {part: {} for part in ("model", "ema", *run.optimizers)}
    if run.ema is None:
        del parts["ema"]
    unknown = []
    for path, array in tensors.items():
        part, slash, name = path.partition("/")
        if slash and part in parts:
            parts[part][name] = array
        else:
            unknown.append(path)
    if unknown:
        raise ValueError(
            f"it has tensors that belong to no part of this training: {brief(unknown)}"
        )
    return parts


def _progress(state: Saved, length: int) -> tuple[int, Saved]:
    """(step, history): as many losses as steps, all of them numbers, no metrics of epochs that are
    still to come, and no time that runs backwards. length: of an epoch, in steps.
    """
    step, history = state["step"], state["history"]
    _exactly(history, {"losses", "metrics", "seconds"}, "its history")
    losses, metrics, seconds = history["losses"], history["metrics"], history["seconds"]
    if type(step) is not int or not isinstance(losses, list) or step != len(losses):
        raise ValueError(
            f"it is at step {step!r:.60}, and has "
            f"{len(losses) if isinstance(losses, list) else 'no'} losses"
        )
    widths = {len(loss) if isinstance(loss, list) else None for loss in losses}
    flat = (
        losses
        if widths <= {None}
        else [number for loss in losses for number in (loss if isinstance(loss, list) else [])]
    )
    if len(widths) > 1 or not all(_is_number(loss) and math.isfinite(loss) for loss in flat):
        raise ValueError("its losses are not all finite numbers")
    if not (isinstance(metrics, list) and all(_is_metric(entry) for entry in metrics)):
        raise ValueError("its metrics are not dicts of numbers with an epoch each")
    if late := [entry["epoch"] for entry in metrics if entry["epoch"] > step // length]:
        raise ValueError(
            f"it has metrics of epoch {late[0]}, and is at step {step} with {length} an epoch"
        )
    if not (_is_number(seconds) and 0 <= seconds < math.inf):
        raise ValueError(f"it took {seconds!r:.60} seconds")
    return step, history


def _is_number(value: Any) -> bool:
    """A float, or an int that has one: JSON's ints may be larger than every float."""
    return type(value) is float or type(value) is int and abs(value) <= LARGEST


def _is_metric(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(map(_is_number, entry.values()))
        and type(entry.get("epoch")) is int
        and entry["epoch"] >= 1
    )


def _same_model(model: Any, arrays: Arrays) -> None:
    """ValueError where a shape or a dtype is another, or a weight is not finite. Names are left to
    load_state_dict.
    """
    own = model.state_dict()
    learned = {name for name, _ in model.named_parameters()}
    problems = [
        f"{name} is {array.shape}, should be {own[name].shape}"
        for name, array in arrays.items()
        if name in own and array.shape != own[name].shape
    ]
    problems += [
        f"{name} is not finite"
        for name, array in arrays.items()
        if name in learned and array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if problems:
        raise ValueError(
            f"{listed(problems, join='; ')}; {type(model).__name__} was left unchanged"
        )
    _dtypes_of(arrays, {name: t.dtype for name, t in own.items()})
    _possible_statistics(model, arrays)


def _possible_statistics(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError where a batch norm would get a variance, or a count of batches, below 0."""
    names = [
        joined(path, name)
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, BatchNorm2d)
        for name in ("running_var", "num_batches_tracked")
    ]
    if wrong := [name for name in names if name in arrays and (arrays[name] < 0).any()]:
        raise ValueError(f"{brief(wrong)}: a variance, or a count of batches, is below 0")


def _dtypes_of(arrays: Mapping[str, np.ndarray], own: Mapping[str, Any]) -> None:
    """ValueError where numbers are of another type: they would be rounded, and the training would
    not be the same.
    """
    wrong = [
        f"{name} is {array.dtype}, should be {own[name]}"
        for name, array in arrays.items()
        if name in own and array.dtype != own[name]
    ]
    if wrong:
        raise ValueError(brief(wrong))


def _loading(run: Run, role: str, arrays: Arrays, saved: Any, step: int) -> Callable[[], None]:
    """The function that loads one optimiser, whose steps are not more than the training's."""
    optimizer = run.optimizers[role]
    _exactly(saved, {"steps", "param_groups"}, f"its {role}")
    steps = saved["steps"]
    if not isinstance(steps, dict):
        raise ValueError(f"the steps of its {role} are no dict")
    inner: Any = getattr(optimizer, "optimizer", optimizer)  # a Half has one inside
    named = {name: p for p, name in inner.names.items()}
    made = max((entry["step"] for entry in optimizer.state_dict()["state"].values()), default=0)
    state: dict[str, Saved] = {name: {"step": count} for name, count in steps.items()}
    for path, array in arrays.items():
        name, _, key = path.rpartition("/")
        if name not in state:
            raise ValueError(f"{role}/{path} is of a parameter that its {role} does not count")
        state[name][key] = array
        if name in named:
            _dtypes_of({path: array}, {path: wide(named[name].dtype)})
    late = [name for name, count in steps.items() if type(count) is int and count > step + made]
    if late:
        raise ValueError(
            f"{brief(late)} of its {role} had more steps than the training, which is at step {step}"
        )
    return optimizer.loading({"state": state, "param_groups": saved["param_groups"]})
