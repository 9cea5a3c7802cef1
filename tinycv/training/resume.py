"""Resuming training: what a checkpoint saves, so that training continues bit for bit.

A checkpoint holds the model, the EMA, the optimisers, the state of the random generators, and how
far the training had got. Weights that are not finite are never saved, so they cannot replace a good
checkpoint. When a training resumes, the whole checkpoint is checked and converted before any of it
is loaded. If one part does not fit, or cannot have been written by a training, everything stays as
it was, bit for bit.
Used by: loop.py, whose Run is saved and resumed here. The file format: checkpoint.py.
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
LARGEST = 2**1023  # an int up to here can be converted to a float


def identity(run: Run) -> Saved:
    """What must be equal in two runs for them to be the same training."""
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
    # the keys are saved in checkpoints, so they must not change
    return {"seed": run.seed, "batches an epoch": len(run.loader), **kinds, **loader}


# -- Saving ----------------------------------------------------------------------------------------


def save_run(run: Run, path: Path) -> None:
    """Write the checkpoint. FloatingPointError, without touching the file, if a loss or a weight is
    not finite."""
    run.read_losses()  # comes first: it raises if a loss is not finite
    arrays = {f"model/{name}": t._data for name, t in run.model.state_dict().items()}
    if run.ema is not None:
        arrays |= {f"ema/{name}": array for name, array in run.ema.state_dict().items()}
    optimizers = {}
    for role, optimizer in run.optimizers.items():
        state = optimizer.state_dict()
        for name, entry in state["state"].items():
            arrays |= {f"{role}/{name}/{key}": entry[key] for key in entry if key != "step"}
        optimizers[role] = {
            "steps": {name: entry["step"] for name, entry in state["state"].items()},
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
    """FloatingPointError if a weight, or the optimisers' state of a weight, is not finite."""
    names = [f"model/{name}" for name, _ in run.model.named_parameters()]
    names += [name for name in arrays if name.partition("/")[0] in run.optimizers]
    # a sum is not finite if one of its terms is not, and needs no array of booleans
    broken = [name for name in names if not math.isfinite(arrays[name].sum(dtype="float64"))]
    broken = broken or with_nan(arrays)
    if broken:
        raise FloatingPointError(
            f"{broken[0].removeprefix('model/')} is not finite after step {run.step - 1}, "
            "although the loss was: nothing was saved. Run the training again inside `with "
            "tinycv.debug():` to see which derivative made it"
        )


# -- Resuming --------------------------------------------------------------------------------------


def resume_run(run: Run) -> bool:
    """Resume from the checkpoint, if there is one. CheckpointError if it does not fit; then nothing
    is changed."""
    path = run.path
    if path is None:
        return False
    saved = run.group.first(lambda: checkpoint.load(path) if path.exists() else None)
    if saved is None:
        return False
    load_checkpoint = checked_loader(run, *saved)
    load_checkpoint()
    return True


def checked_loader(run: Run, tensors: Arrays, state: Saved) -> Callable[[], None]:
    """Check the content of a checkpoint, and return the function that loads it into ``run``.
    CheckpointError says what does not fit.
    """
    if "training" not in state:
        raise CheckpointError(
            f"{run.path} is not the checkpoint of a training; load weights alone with load_model"
        )
    try:
        _same_training(run, state["training"])
        _has_keys(state, {"training", "step", "history", "rng", *run.optimizers}, "it")
        parts = _by_part(run, tensors)
        step, history = _progress(state, len(run.loader))
        _same_model(run.model, parts["model"])
        loads = [_loading(run, role, parts[role], state[role], step) for role in run.optimizers]
        if run.ema is not None:
            _same_dtypes(
                parts["ema"], {name: array.dtype for name, array in run.ema.state_dict().items()}
            )
            _possible_statistics(run.ema.model, parts["ema"])
            loads.append(run.ema.loading(parts["ema"]))
        nans = with_nan(tensors)
        if nans:
            raise ValueError(f"NaN in {brief(nans)}")
        loads.append(loading_rng_state(state["rng"]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{run.path} is of another training, or damaged: {error}") from error

    def load_all() -> None:
        try:
            # loads everything or nothing; after it, nothing can fail
            run.model.load_state_dict(parts["model"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{run.path} is of another training: {error}") from error
        for load in loads:
            load()
        run.step, run.history = step, type(run.history)(**history)

    return load_all


def _same_training(run: Run, saved: Any) -> None:
    if not isinstance(saved, dict):
        raise ValueError("its entry about the training is not a dict")
    current = json.loads(json.dumps(identity(run)))
    differences = [
        f"{key} is {saved.get(key)!r:.60} there and {current.get(key)!r} here"
        for key in current | saved
        if key not in current or saved.get(key) != current.get(key)
    ]
    if differences:
        raise ValueError(
            f"{listed(differences, join='; ')}. Choose another path, or remove the file to start "
            "from the beginning"
        )


def _has_keys(saved: Any, keys: set[str], what: str) -> None:
    """ValueError unless ``saved`` is a dict with exactly these keys."""
    if not isinstance(saved, dict):
        raise ValueError(
            f"{what} must be a dict with {sorted(keys)}, and is a {type(saved).__name__}"
        )
    if set(saved) != keys:
        raise ValueError(f"{what} must have {sorted(keys)}, and has {brief(sorted(saved))}")


def _by_part(run: Run, tensors: Arrays) -> dict[str, Arrays]:
    """The tensors of the model, the EMA and each optimiser: "model/a" becomes "a" of "model"."""
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
        raise ValueError(f"it has tensors that do not belong to this training: {brief(unknown)}")
    return parts


def _progress(state: Saved, length: int) -> tuple[int, Saved]:
    """(step, history), checked: as many losses as steps, all of them finite, no metrics of future
    epochs, and no negative time. length: the number of steps per epoch.
    """
    step, history = state["step"], state["history"]
    _has_keys(history, {"losses", "metrics", "seconds"}, "its history")
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
        raise ValueError("its metrics are not all dicts of numbers with an epoch")
    future = [entry["epoch"] for entry in metrics if entry["epoch"] > step // length]
    if future:
        raise ValueError(
            f"it has metrics of epoch {future[0]}, and is at step {step} with {length} steps per "
            "epoch"
        )
    if not (_is_number(seconds) and 0 <= seconds < math.inf):
        raise ValueError(f"it took {seconds!r:.60} seconds")
    return step, history


def _is_number(value: Any) -> bool:
    """Whether it is a float, or an int that fits into one: an int in JSON may be larger than every
    float."""
    return type(value) is float or type(value) is int and abs(value) <= LARGEST


def _is_metric(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(map(_is_number, entry.values()))
        and type(entry.get("epoch")) is int
        and entry["epoch"] >= 1
    )


def _same_model(model: Any, arrays: Arrays) -> None:
    """ValueError if a shape or a dtype differs, or a weight is not finite. load_state_dict checks
    the names.
    """
    current = model.state_dict()
    learned = {name for name, _ in model.named_parameters()}
    problems = [
        f"{name} is {array.shape}, should be {current[name].shape}"
        for name, array in arrays.items()
        if name in current and array.shape != current[name].shape
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
    _same_dtypes(arrays, {name: t.dtype for name, t in current.items()})
    _possible_statistics(model, arrays)


def _possible_statistics(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError if a batch norm would get a negative variance or a negative count of batches."""
    names = [
        joined(path, name)
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, BatchNorm2d)
        for name in ("running_var", "num_batches_tracked")
    ]
    negative = [name for name in names if name in arrays and (arrays[name] < 0).any()]
    if negative:
        raise ValueError(f"{brief(negative)}: a variance, or a count of batches, is below 0")


def _same_dtypes(arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, Any]) -> None:
    """ValueError if an array has another dtype: converting it would round the numbers, and the
    training would not be the same.
    """
    wrong = [
        f"{name} is {array.dtype}, should be {dtypes[name]}"
        for name, array in arrays.items()
        if name in dtypes and array.dtype != dtypes[name]
    ]
    if wrong:
        raise ValueError(brief(wrong))


def _loading(run: Run, role: str, arrays: Arrays, saved: Any, step: int) -> Callable[[], None]:
    """Check the saved state of one optimiser, and return the function that loads it. step: how far
    the training had got; no parameter may have had more steps.
    """
    optimizer = run.optimizers[role]
    _has_keys(saved, {"steps", "param_groups"}, f"its {role}")
    steps = saved["steps"]
    if not isinstance(steps, dict):
        raise ValueError(f"the steps of its {role} are not a dict")
    inner: Any = getattr(optimizer, "optimizer", optimizer)  # a Half has an optimiser inside
    parameters = {name: p for p, name in inner.names.items()}
    # steps that the optimiser had taken before this training began
    earlier = max((entry["step"] for entry in optimizer.state_dict()["state"].values()), default=0)
    state: dict[str, Saved] = {name: {"step": count} for name, count in steps.items()}
    for path, array in arrays.items():
        name, _, key = path.rpartition("/")
        if name not in state:
            raise ValueError(
                f"{role}/{path} belongs to a parameter of which its {role} has no step count"
            )
        state[name][key] = array
        if name in parameters:
            _same_dtypes({path: array}, {path: wide(parameters[name].dtype)})
    ahead = [name for name, count in steps.items() if type(count) is int and count > step + earlier]
    if ahead:
        raise ValueError(
            f"{brief(ahead)} of its {role} had more steps than the training, which is at step "
            f"{step}"
        )
    return optimizer.loading({"state": state, "param_groups": saved["param_groups"]})
