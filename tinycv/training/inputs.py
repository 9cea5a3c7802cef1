"""Checks for the training loop: what fit and Run are given, before the first step, and what
loaders, schedules and evaluate return, when they return it.

``who`` is the function that the user called; it begins the sentence of an error.
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


def check_parts(who: str, model: Any, optimizers: Any, loader: Any, ema: Any) -> None:
    """TypeError or ValueError unless these can be parts of one training."""
    if not isinstance(model, Module):
        raise TypeError(f"{who}: model is {shown(model)}; it must be a Module")
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise TypeError(
            f"{who}: optimizers is {shown(optimizers)}; it must be a dict of optimisers by name"
        )
    for role, optimizer in optimizers.items():
        if isinstance(optimizer, type) or not all(hasattr(optimizer, name) for name in OPTIMIZER):
            raise TypeError(
                f"{who}: {role} is {shown(optimizer)}; it must be an optimiser, as "
                f"AdamW(model.parameters())"
            )
    if (
        not callable(getattr(loader, "epoch", None))
        or not hasattr(loader, "__len__")
        or isinstance(loader, type)
    ):
        raise TypeError(
            f"{who}: loader is {shown(loader)}; it must have a length and epoch(number, start), as "
            "tinycv.data.DataLoader has"
        )
    if len(loader) < 1:
        raise ValueError(f"{who}: loader has no batches")
    if ema is not None and not isinstance(ema, EMA):
        raise TypeError(f"{who}: ema is {shown(ema)}; it must be an EMA, or None")


def arrays_of(batch: Any) -> Any:
    """What a loader gave, if it is a tuple or list of at least one array: one array alone would
    come apart by its rows."""
    if not isinstance(batch, (tuple, list)) or not batch:
        raise TypeError(
            f"loader: epoch(...) gave {shown(batch)} for a batch; it must give tuples of arrays, "
            "(x, y) or (x,)"
        )
    return batch


def check_belonging(who: str, model: Module, optimizer: Any, ema: EMA | None) -> None:
    """ValueError where the optimiser, or the average, is of another model than the one that is
    trained.
    """
    # a Half's own are the model's, in halves
    own = getattr(optimizer, "own", None) or optimizer.parameters()
    learned = set(model.parameters())
    if learned.isdisjoint(own):
        raise ValueError(
            f"{who}: optimizer has none of the model's parameters, so the {type(model).__name__} "
            "would not learn: make it of model.parameters()"
        )
    if ema is not None and ema.model is not model:
        raise ValueError(
            f"{who}: ema is of another {type(ema.model).__name__} than the model: EMA(model)"
        )


def check_saved_as_json(identity: Mapping[str, Any]) -> None:
    """TypeError where a checkpoint could not say which training it is of."""
    for what, value in identity.items():
        if value is not None and type(value) not in (bool, int, float, str):
            raise TypeError(
                f"{what} is {shown(value)}; a checkpoint names it, so it must be a number, a word, "
                "True, False or None"
            )


def check_functions(who: str, needed: dict[str, Any], perhaps: dict[str, Any]) -> None:
    """TypeError unless these are functions, by name; ``perhaps``: or None."""
    for name, function in (needed | perhaps).items():
        if not callable(function) and (name in needed or function is not None):
            ending = "" if name in needed else ", or None"
            raise TypeError(f"{who}: {name} is {shown(function)}; it must be a function{ending}")


@dataclass(frozen=True)
class Pace:
    """How long a training is, and how often the loop looks up from it."""

    epochs: int
    evaluate_every: int  # epochs
    checkpoint_every: int | None  # steps; None: once per epoch
    log_every: int  # steps


def check_loop(
    who: str, epochs: int, evaluate_every: int, checkpoint_every: int | None, log_every: int
) -> Pace:
    """All of these as Python's ints."""
    every = checkpoint_every
    if every is not None:
        every = size(every, f"{who}: checkpoint_every", 1)
    return Pace(
        epochs=size(epochs, f"{who}: epochs"),
        evaluate_every=size(evaluate_every, f"{who}: evaluate_every", 1),
        checkpoint_every=every,
        log_every=size(log_every, f"{who}: log_every", 1),
    )


def checkpoint_path(who: str, path: str | os.PathLike | None) -> Path | None:
    """Where the checkpoint goes, or None."""
    return None if path is None else atomic.file_path(path, f"{who}: checkpoint")


def device_name(who: str, device: Any) -> str | None:
    """The device's whole name, or None. GpuUnavailable where it names a GPU that cannot be used."""
    if device is not None and not isinstance(device, str):
        raise TypeError(
            f'{who}: device is {shown(device)}; it must be "cpu", "gpu", "gpu:N", "auto" or None'
        )
    try:
        return None if device is None else backend.resolve(device)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None


def metrics_of(answer: Any) -> dict[str, float]:
    """What ``evaluate`` returned, as Python's floats by name.

    NaN and infinity are taken: there are scores of nothing, and of models that have failed.
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
                f"{takes}; epoch, one of the names, is where the history counts epochs: choose "
                "another"
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
    """One number as Python's float."""
    try:
        return float(value.item() if hasattr(value, "item") else value)  # of shape (1,), too
    except OverflowError:
        raise ValueError(f"{what} is {shown(value)}, which no float can hold") from None


def rate(initial: Any, schedule: Any, step: int) -> float:
    """The learning rate that a schedule makes of the first one, at this step."""
    return finite(initial, "initial_lr", 0) * finite(schedule(step), f"schedule({step})", 0)
