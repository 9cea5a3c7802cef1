"""Input checks of the training loop: the arguments of fit and Run, before the first step.

What loaders, learning-rate schedules and evaluate return is checked here too, when they return it.
``caller`` is the function that the user called; an error message begins with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinycv.data import atomic
from tinycv.engine import backend
from tinycv.engine.arguments import shown, size
from tinycv.nn.module import Module
from tinycv.optim.averaged import EMA
from tinycv.optim.inputs import finite

OPTIMIZER = "parameters", "param_groups", "zero_grad", "backward", "step", "state_dict", "loading"


def check_participants(caller: str, model: Any, optimizers: Any, loader: Any, ema: Any) -> None:
    """TypeError or ValueError unless these are a model, optimisers, a loader with at least one
    batch, and an EMA or None."""
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: model is {shown(model)}; it must be a Module")
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise TypeError(
            f"{caller}: optimizers is {shown(optimizers)}; it must be a dict of optimisers by name"
        )
    for role, optimizer in optimizers.items():
        if isinstance(optimizer, type) or not all(hasattr(optimizer, name) for name in OPTIMIZER):
            raise TypeError(
                f"{caller}: {role} is {shown(optimizer)}; it must be an optimiser, such as "
                f"AdamW(model.parameters())"
            )
    if (
        not callable(getattr(loader, "epoch", None))
        or not hasattr(loader, "__len__")
        or isinstance(loader, type)
    ):
        raise TypeError(
            f"{caller}: loader is {shown(loader)}; it must have a length and a method "
            "epoch(number, start), as tinycv.data.DataLoader has"
        )
    if len(loader) < 1:
        raise ValueError(f"{caller}: loader has no batches")
    if ema is not None and not isinstance(ema, EMA):
        raise TypeError(f"{caller}: ema is {shown(ema)}; it must be an EMA, or None")


def refuse_closure(caller: str, optimizer: Any) -> None:
    """TypeError for an optimiser such as LBFGS, which evaluates the loss several times per step."""
    if getattr(optimizer, "needs_closure", False):
        raise TypeError(
            f"{caller}: optimizer is {type(optimizer).__name__}, which evaluates the loss several "
            f"times per step, and {caller} computes it once per batch: call "
            "optimizer.step(closure) in a loop of your own"
        )


def arrays_of(batch: Any) -> Any:
    """``batch``, checked to be a tuple or list of at least one array. A bare array is refused: to
    iterate over it would yield its rows."""
    if not isinstance(batch, (tuple, list)) or not batch:
        raise TypeError(
            f"loader: epoch(...) gave {shown(batch)} for a batch; it must give tuples of arrays, "
            "such as (x, y) or (x,)"
        )
    return batch


def check_same_model(caller: str, model: Module, optimizer: Any, ema: EMA | None) -> None:
    """ValueError if the optimiser, or the EMA, belongs to a model other than the one that is
    trained.
    """
    # Half.parameters() are its float32 master weights; Half.own are the model's parameters
    optimized = getattr(optimizer, "own", None) or optimizer.parameters()
    learned = set(model.parameters())
    if learned.isdisjoint(optimized):
        raise ValueError(
            f"{caller}: optimizer has none of the model's parameters, so the "
            f"{type(model).__name__} would not learn: make it from model.parameters()"
        )
    if ema is not None and ema.model is not model:
        raise ValueError(
            f"{caller}: ema is of another {type(ema.model).__name__}, not of the model: pass "
            "EMA(model)"
        )


def check_plain_values(identity: Mapping[str, Any]) -> None:
    """TypeError if a value that identifies the training in its checkpoint is not a plain one."""
    for what, value in identity.items():
        if value is not None and type(value) not in (bool, int, float, str):
            raise TypeError(
                f"{what} is {shown(value)}; it is saved in the checkpoint, so it must be a number, "
                "a word, True, False or None"
            )


def check_functions(caller: str, required: dict[str, Any], optional: dict[str, Any]) -> None:
    """TypeError unless these arguments, given by name, are functions; ``optional`` ones may be
    None."""
    for name, function in (required | optional).items():
        if not callable(function) and (name in required or function is not None):
            ending = "" if name in required else ", or None"
            raise TypeError(f"{caller}: {name} is {shown(function)}; it must be a function{ending}")


@dataclass(frozen=True)
class Pace:
    """How long a training runs, and how often it evaluates, saves and logs."""

    epochs: int
    evaluate_every: int  # epochs
    checkpoint_every: int | None  # steps; None: once per epoch
    log_every: int  # steps


def checked_pace(
    caller: str, epochs: int, evaluate_every: int, checkpoint_every: int | None, log_every: int
) -> Pace:
    """These arguments, checked, as Python ints."""
    if checkpoint_every is not None:
        checkpoint_every = size(checkpoint_every, f"{caller}: checkpoint_every", 1)
    return Pace(
        epochs=size(epochs, f"{caller}: epochs"),
        evaluate_every=size(evaluate_every, f"{caller}: evaluate_every", 1),
        checkpoint_every=checkpoint_every,
        log_every=size(log_every, f"{caller}: log_every", 1),
    )


def checkpoint_path(caller: str, path: str | os.PathLike | None) -> Path | None:
    """The path of the checkpoint file, or None. NotADirectoryError if it can never be written,
    before a step is taken."""
    if path is None:
        return None
    path = atomic.file_path(path, f"{caller}: checkpoint")
    problem = atomic.obstacle(path)
    if problem and not path.is_dir():  # a folder is refused where it is read
        raise NotADirectoryError(f"{caller}: checkpoint: {path} cannot be written: {problem}")
    return path


def device_name(caller: str, device: Any) -> str | None:
    """The device's full name, or None. GpuUnavailable if it names a GPU that cannot be used."""
    if device is not None and not isinstance(device, str):
        raise TypeError(
            f'{caller}: device is {shown(device)}; it must be "cpu", "gpu", "gpu:N", "auto" or None'
        )
    try:
        return None if device is None else backend.resolve(device)
    except ValueError as error:
        raise ValueError(f"{caller}: {error}") from None


def metrics_of(answer: Any) -> dict[str, float]:
    """What ``evaluate`` returned, as Python floats by name.

    NaN and infinity are accepted: a score may be computed from no examples, or for a model that
    has diverged.
    """
    takes = "evaluate must return a dict of numbers by name"
    if not isinstance(answer, Mapping):
        raise TypeError(f"{takes}, not {shown(answer)}")
    metrics = {}
    for name, value in answer.items():
        if not isinstance(name, str):
            raise TypeError(f"{takes}; {shown(name)} is one of the names")
        if name == "epoch":
            raise ValueError(
                f'{takes}; the name "epoch" is taken, because the history counts epochs under it: '
                "choose another"
            )
        if (
            getattr(value, "size", 1) != 1
            or isinstance(value, (str, bytes))
            or not hasattr(value, "__float__")
            or (getattr(getattr(value, "dtype", None), "kind", None) == "c")
        ):
            raise TypeError(f"{takes}; {name} is {shown(value)}")
        metrics[str(name)] = metric(value, f"{takes}; {name}")
    return metrics


def metric(value: Any, what: str) -> float:
    """One number as a Python float."""
    try:
        # item() also works for an array of shape (1,)
        return float(value.item() if hasattr(value, "item") else value)
    except OverflowError:
        raise ValueError(f"{what} is {shown(value)}, which no float can hold") from None


def rate(initial: Any, schedule: Any, step: int) -> float:
    """The learning rate at this step: the initial one times the schedule's factor."""
    return finite(initial, "initial_lr", 0) * finite(schedule(step), f"schedule({step})", 0)
