"""The training loop: one for every model that learns from one loss.

    history = fit(model, optimizer, loss_fn, loader, epochs=10, evaluate=accuracy,
                  checkpoint="out/vit.safetensors")

``fit`` says what a step is: a loss, its gradients, a change of the weights. ``Run`` is the loop
around the steps, whatever a step may be; ``Run.through`` is that loop:

    for each batch:  take the step
                     now and then: read the losses, and refuse NaN
                     at the end of an epoch: evaluate, and print a line
                     now and then, and at Ctrl-C: save a checkpoint

(GANs, which alternate two losses, make other steps in the same loop: adversarial/turns.py.)

What a step computes is a function of the weights, the seed and the step's number: batches come from
``loader.epoch(number, start)``, noise from ``manual_seed((seed, step))``. So a training that was
killed goes on from its checkpoint and ends with the same bits as one that was not (resume.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data.loader import Batch, Loader
from tinycv.engine import backend
from tinycv.engine.arguments import flag, number, shown, size, whole
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.optim import EMA, Optimizer, Schedule, clip_grad_norm_
from tinycv.training import parallel
from tinycv.training.half import Half
from tinycv.training.inputs import (
    Pace,
    arrays_of,
    check_belonging,
    check_functions,
    check_loop,
    check_parts,
    check_saved_as_json,
    checkpoint_path,
    device_name,
    metrics_of,
    rate,
)
from tinycv.training.progress import CtrlC, Progress, not_finite
from tinycv.training.resume import identity, resume_run, save_run

Evaluate = Callable[[Any], Mapping[str, float]]  # of the model, whatever class it has


# -- one step: a loss, its gradients, a change of the weights -------------------------------------


def fit(  # noqa: PLR0913  all but the first five have names and defaults
    model: Module,
    optimizer: Optimizer | Half,
    loss_fn: Callable[..., Tensor],
    loader: Loader,
    epochs: int,
    *,
    schedule: Schedule | None = None,
    clip: float | None = None,
    ema: EMA | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 1,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool = True,
    log_every: int = 10,
    threads: int | None = 1,
) -> History:
    """Train ``model`` for ``epochs`` passes through ``loader``. Returns the history.

    loss_fn(model, *batch) returns the loss; batch holds Tensors on ``device`` (None: where the
    model is).
    schedule: factor of each group's lr, by step. clip: the most that the gradient's norm may be.
    evaluate(model): numbers by name, asked every ``evaluate_every`` epochs and at the end, in eval
    mode, without recording, with the EMA's weights if there is one.
    checkpoint: a file, written every ``checkpoint_every`` steps (None: every epoch), at the end,
    and at Ctrl-C. If it is there already, training goes on from it; its learning rates win.
    CheckpointError if it is another training's.
    log_every: steps between two looks at the loss, on a GPU the only waits. FloatingPointError when
    it, or a weight to be saved, is not finite.
    threads: share each batch out over so many (None: all cores; see parallel.py); the loss must be
    the mean over its examples. Resuming is exact with the same number; another one changes rounding
    and dropout's noise, and may resume.
    """
    check_parts("fit", model, {"optimizer": optimizer}, loader, ema)
    check_belonging("fit", model, optimizer, ema)
    check_functions("fit", {"loss_fn": loss_fn}, {"schedule": schedule, "evaluate": evaluate})
    check_loop("fit", epochs, evaluate_every, checkpoint_every, log_every)
    seed, path = whole(seed, "fit: seed"), checkpoint_path("fit", checkpoint)
    device, progress = device_name("fit", device), flag(progress, "fit: progress")
    threads = None if threads is None else size(threads, "fit: threads", 1)
    clip = None if clip is None else number(clip, "fit: clip", above=0)

    model.to(device or optimizer.parameters()[0].device)
    run = Run(model, {"optimizer": optimizer}, loader, seed, ema, path)
    with nullcontext() if threads == 1 else parallel.threads(threads) as group:
        learn = partial(
            _learn, run, optimizer, loss_fn=loss_fn, schedule=schedule, clip=clip, group=group
        )
        return run.through(
            learn,
            epochs,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            checkpoint_every=checkpoint_every,
            progress=progress,
            log_every=log_every,
        )


def _learn(
    run: Run,
    optimizer: Optimizer | Half,
    batch: list[Tensor],
    *,
    loss_fn: Callable[..., Tensor],
    schedule: Schedule | None,
    clip: float | None,
    group: parallel.Group | None,
) -> np.ndarray:
    """One step. Returns its loss, an array on the device; nothing here waits for the device."""
    scheduled(optimizer, schedule, run.step)
    optimizer.zero_grad()
    if group is None:
        loss = loss_fn(run.model, *batch)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"fit: loss_fn must return the loss, a Tensor of one number, not "
                f"{type(loss).__name__}"
            )
        optimizer.backward(loss)
    else:
        loss = group.backward(partial(loss_fn, run.model), *batch)
    if clip is not None:
        clip_grad_norm_(optimizer.parameters(), clip)
    optimizer.step()
    if run.ema is not None:
        run.ema.update()
    return loss._data.reshape(())


def scheduled(optimizer: Optimizer | Half, schedule: Schedule | None, step: int) -> None:
    """Set every group's lr to what the schedule makes of it at this step."""
    if schedule is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate(group.setdefault("initial_lr", group["lr"]), schedule, step)


# -- the loop around the steps --------------------------------------------------------------------


@dataclass
class History:
    """What happened in a training. JSON holds it."""

    # of every step; of a game, a list of both sides' losses
    losses: list = field(default_factory=list)
    # one {"epoch": 1, ...} per evaluation
    metrics: list[dict[str, float]] = field(default_factory=list)
    # of training, evaluation and saving, over all resumptions
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("losses", self.losses), ("metrics", self.metrics)):
            if not isinstance(value, list):
                raise TypeError(f"History: {name} is {shown(value)}; it must be a list")
        self.seconds = number(self.seconds, "History: seconds", 0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Run:
    """A training under way: what takes part in it, and how far it has got.

    optimizers: by the names that they have in the checkpoint. path: of the checkpoint, or None.
    """

    def __init__(
        self,
        model: Module,
        optimizers: Mapping[str, Optimizer | Half],
        loader: Loader,
        seed: int,
        ema: EMA | None,
        path: str | os.PathLike | None,
    ):
        check_parts("Run", model, optimizers, loader, ema)
        self.model = model
        self.optimizers = optimizers
        self.loader = loader
        self.seed = whole(seed, "Run: seed")
        self.ema = ema
        self.path: Path | None = checkpoint_path("Run", path)
        self.first = next(iter(optimizers.values())).parameters()[0]
        self.device = self.first.device
        if self.path is not None:
            check_saved_as_json(identity(self))
        self.step = 0
        self.history = History()
        self.unread: list[np.ndarray] = []  # losses that are still on the device
        self.started = time.perf_counter()

    def through(
        self,
        learn: Callable[[list[Tensor]], Any],
        epochs: int,
        *,
        evaluate: Evaluate | None = None,
        evaluate_every: int = 1,
        checkpoint_every: int | None = None,
        progress: bool = True,
        log_every: int = 10,
    ) -> History:
        """Make all steps that are left: learn(batch) makes one, and returns its losses, an array on
        the device. Goes on from the checkpoint if there is one. All else as in ``fit``."""
        check_functions("Run.through", {"learn": learn}, {"evaluate": evaluate})
        pace = check_loop("Run.through", epochs, evaluate_every, checkpoint_every, log_every)
        total = pace.epochs * len(self.loader)
        has_resumed = resume_run(self)
        self.model.train()
        with (
            Progress(total, self.step, progress) as display,
            CtrlC(self.path is not None) as ctrl_c,
        ):
            if has_resumed:
                display.line(f"resumed at step {self.step} of {total} from {self.path}")
            for batch in self.batches(total):
                self.take_step(learn, batch)
                display.advance()
                epoch, rest = divmod(self.step, len(self.loader))
                if rest == 0 or self.step % pace.log_every == 0:
                    display.loss(self.read_losses())
                if rest == 0:
                    display.line(self.end_epoch(epoch, pace, evaluate))
                if self.path and (self.is_due(pace, total) or ctrl_c.pressed):
                    save_run(self, self.path)
                if ctrl_c.pressed:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {total}, saved to {self.path}"
                    )
        self.seconds()
        return self.history

    def end_epoch(self, epoch: int, pace: Pace, evaluate: Evaluate | None) -> str:
        """Evaluate where it is time to. Returns what there is to say of the epoch."""
        if evaluate and (epoch % pace.evaluate_every == 0 or epoch == pace.epochs):
            self.measure(evaluate, epoch)
        return f"epoch {epoch}/{pace.epochs}  {self.described(epoch)}"

    def is_due(self, pace: Pace, total: int) -> bool:
        """Is it time for a checkpoint?"""
        save_every = pace.checkpoint_every or len(self.loader)
        return self.step % save_every == 0 or self.step == total

    def take_step(self, learn: Callable[[list[Tensor]], Any], batch: Batch) -> None:
        """One step, whose noise is a function of the seed and its number."""
        backend.manual_seed((self.seed, self.step))
        tensors = [Tensor(array, device=self.device) for array in arrays_of(batch)]
        self.unread.append(learn(tensors))
        self.step += 1

    def batches(self, total: int) -> Iterator[Batch]:
        """From the present step to ``total``; in mid-epoch where the last run stopped there.

        RuntimeError where the loader gives more or fewer batches than its length says.
        """
        while self.step < total:
            epoch, start = divmod(self.step, len(self.loader))
            left, given = len(self.loader) - start, 0
            for given, batch in enumerate(self.loader.epoch(epoch, start), 1):
                if given > left:
                    break
                yield batch
            if given != left:
                gave = f"more than {left}" if given > left else given
                raise RuntimeError(
                    f"loader: epoch({epoch}, {start}) of the {type(self.loader).__name__} gave "
                    f"{gave} batches; with a length of {len(self.loader)} it must give {left}"
                )

    # -- evaluation -------------------------------------------------------------------------------

    def measure(self, evaluate: Evaluate, epoch: int) -> None:
        """Note what ``evaluate`` says of the model, in eval mode, without recording, with the EMA's
        weights if there is one."""
        self.model.eval()
        try:
            with no_grad(), self.ema.applied() if self.ema else nullcontext():
                metrics = metrics_of(evaluate(self.model))
        finally:
            self.model.train()
        self.history.metrics.append({"epoch": epoch, **metrics})

    # -- history ----------------------------------------------------------------------------------

    def read_losses(self) -> float | list[float]:
        """Wait for the losses that are still on the device. Returns the last of all.

        FloatingPointError where one of them is not finite.
        """
        if self.unread:
            losses = backend.to_numpy(backend.array_module(self.unread[0]).stack(self.unread))
            self.unread.clear()
            first = len(self.history.losses)
            self.history.losses += losses.tolist()
            self._check_finite(losses, first)
        return self.history.losses[-1]

    def _check_finite(self, losses: np.ndarray, first: int) -> None:
        """Losses of the steps from number ``first`` on."""
        for step, loss in enumerate(losses, first):
            if not np.isfinite(loss).all():
                epoch, batch = divmod(step, len(self.loader))
                raise not_finite(loss, f"at step {step} (epoch {epoch + 1}, batch {batch})")

    def seconds(self) -> float:
        """Time spent so far, noted in the history."""
        now = time.perf_counter()
        self.history.seconds += now - self.started
        self.started = now
        return self.history.seconds

    def described(self, epoch: int) -> str:
        """An epoch's mean loss, what was measured at its end, and the time until then, in words."""
        of_epoch = np.mean(self.history.losses[-len(self.loader) :], axis=0)
        words = ["loss " + ", ".join(f"{loss:.4g}" for loss in np.atleast_1d(of_epoch))]
        metrics = self.history.metrics[-1] if self.history.metrics else {}
        if metrics.get("epoch") == epoch:
            words += [f"{name} {value:.4g}" for name, value in metrics.items() if name != "epoch"]
        return "  ".join([*words, f"{self.seconds():.1f} s"])
