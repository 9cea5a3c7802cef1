"""Training: one loop for every model that learns from one loss.

    history = fit(model, optimizer, loss_fn, loader, epochs=10, evaluate=accuracy, checkpoint="out/vit.safetensors")

What a step computes is a function of the weights, the seed and the step's number: batches come from
``loader.epoch(number, start)``, noise from ``manual_seed((seed, step))``.  So a training that was killed goes on from
its checkpoint and ends with the same bits as one that was not.   run.py: what is done around the steps.
(GANs, which alternate two losses, make other steps in the same loop: generative/turns.py.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from tinycv import parallel
from tinycv.ema import EMA
from tinycv.engine.arguments import flag, number, size, whole
from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module
from tinycv.optim import Schedule, clip_grad_norm_
from tinycv.optimizer import Optimizer
from tinycv.run import History, Run
from tinycv.training_arguments import (
    check_belonging,
    check_functions,
    check_loop,
    check_parts,
    checkpoint_path,
    device_name,
    rate,
)


def fit(model: Module, optimizer: Optimizer, loss_fn: Callable[..., Tensor], loader: Any, epochs: int, *,
        schedule: Schedule | None = None, clip: float | None = None, ema: EMA | None = None,
        evaluate: Callable[[Module], dict[str, Any]] | None = None, evaluate_every: int = 1,
        checkpoint: str | os.PathLike | None = None, checkpoint_every: int | None = None,
        seed: int = 0, device: str | None = None, progress: bool = True, log_every: int = 10,
        threads: int | None = 1) -> History:
    """Train ``model`` for ``epochs`` passes through ``loader``. Returns the history.

    loss_fn(model, *batch) returns the loss; batch holds Tensors on ``device`` (None: where the model is).
    schedule: factor of each group's lr, by step. clip: the most that the gradient's norm may be.
    evaluate(model): numbers by name, asked every ``evaluate_every`` epochs and at the end, in eval mode, without
    recording, with the EMA's weights if there is one.
    checkpoint: a file, written every ``checkpoint_every`` steps (None: every epoch), at the end, and at Ctrl-C. If it
    is there already, training goes on from it; its learning rates win. CheckpointError if it is another training's.
    log_every: steps between two looks at the loss, on a GPU the only waits. FloatingPointError when it, or a weight
    to be saved, is not finite.
    threads: share each batch out over so many (None: all cores; see parallel.py); the loss must be the mean over its
    examples. Resuming is exact with the same number; another one changes rounding and dropout's noise, and may resume.
    """
    check_parts("fit", model, {"optimizer": optimizer}, loader, ema)
    check_belonging("fit", model, optimizer, ema)
    check_functions("fit", {"loss_fn": loss_fn}, {"schedule": schedule, "evaluate": evaluate})
    epochs, evaluate_every, checkpoint_every, log_every = check_loop(
        "fit", epochs, evaluate, evaluate_every, checkpoint_every, log_every)
    seed, checkpoint = whole(seed, "fit: seed"), checkpoint_path("fit", checkpoint)
    device, progress = device_name("fit", device), flag(progress, "fit: progress")
    threads = None if threads is None else size(threads, "fit: threads", 1)
    clip = None if clip is None else number(clip, "fit: clip", above=0)
    model.to(device or optimizer.parameters()[0].device)
    run = Run(model, {"optimizer": optimizer}, loader, seed, ema, checkpoint)
    with nullcontext() if threads == 1 else parallel.threads(threads) as group:
        return run.through(epochs, partial(_learn, run, optimizer, loss_fn, schedule, clip, group), evaluate,
                           evaluate_every, checkpoint_every, progress, log_every)


def _learn(run: Run, optimizer: Optimizer, loss_fn: Callable, schedule: Schedule | None, clip: float | None, group: Any,
           batch: list[Tensor]) -> Any:
    """One step; returns its loss. Nothing in it waits for the device."""
    scheduled(optimizer, schedule, run.step)
    optimizer.zero_grad()
    if group is None:
        loss = loss_fn(run.model, *batch)
        if not isinstance(loss, Tensor):
            raise TypeError(f"fit: loss_fn must return the loss, a Tensor of one number, not "
                            f"{type(loss).__name__}")
        optimizer.backward(loss)
    else:
        loss = group.backward(partial(loss_fn, run.model), *batch)
    if clip is not None:
        clip_grad_norm_(optimizer.parameters(), clip)
    optimizer.step()
    if run.ema is not None:
        run.ema.update()
    return loss._data.reshape(())


def scheduled(optimizer: Optimizer, schedule: Schedule | None, step: int) -> None:
    """Set every group's lr to what the schedule makes of it at this step."""
    if schedule is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate(group.setdefault("initial_lr", group["lr"]), schedule, step)
