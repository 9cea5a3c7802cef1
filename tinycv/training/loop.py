"""fit, the training loop for every model that learns from one loss.

    history = fit(model, optimizer, loss_fn, loader, epochs=10, evaluate=accuracy,
                  checkpoint="out/vit.safetensors")

``fit`` defines one step: compute the loss, its gradients, and the update of the weights. ``Run`` is
the loop around the steps, and does not depend on what a step does. ``Run.through`` is that loop:

    for each batch:  take the step
                     every log_every steps: read the losses, and stop at a NaN
                     at the end of an epoch: evaluate, and print a line
                     call the hooks
                     every checkpoint_every steps, and at Ctrl-C: save a checkpoint

(GANs alternate two losses. They take different steps in the same loop: adversarial/turns.py.)

What a step computes is a function of the weights, the seed and the step's number: batches come from
``loader.epoch(number, start)``, and noise from ``manual_seed((seed, step))``. So a training that
was killed resumes from its checkpoint and ends with the same bits as one that was not (resume.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data.loader import Batch, Loader, parts
from tinycv.engine import backend
from tinycv.engine.arguments import flag, number, shown, whole
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.optim import EMA, Optimizer, Schedule, clip_grad_norm_
from tinycv.training.groups import Alone, Group
from tinycv.training.half import Half
from tinycv.training.hooks import Hook, Hooks, checked_hooks
from tinycv.training.inputs import (
    Pace,
    arrays_of,
    check_functions,
    check_participants,
    check_plain_values,
    check_same_model,
    checked_pace,
    checkpoint_path,
    device_name,
    metrics_of,
    rate,
    refuse_closure,
)
from tinycv.training.parallel import opened
from tinycv.training.progress import CtrlC, Progress, not_finite
from tinycv.training.resume import identity, resume_run, save_run

PLAIN = (bool, int, float, str, type(None))  # equal values of these look alike in all ranks
Evaluate = Callable[[Any], Mapping[str, float]]  # evaluate(model) -> numbers by name


# -- One step: the loss, its gradients, the update of the weights ----------------------------------


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
    on_step: Hook | Sequence[Hook] | None = None,
    parallel: str | Group | None = None,
) -> History:
    """Train ``model`` for ``epochs`` passes through ``loader``. Returns the history.

    loss_fn(model, *batch) returns the loss; batch holds Tensors on ``device`` (None: the device of
    the model).
    schedule: a learning-rate schedule, the factor of each group's lr by step. clip: the maximal
    norm of the gradient.
    evaluate(model) returns numbers by name. It is called every ``evaluate_every`` epochs and at the
    end, in eval mode, without recording, and with the EMA's weights if there is an EMA.
    checkpoint: a file, written every ``checkpoint_every`` steps (None: every epoch), at the end,
    and at Ctrl-C. If the file exists already, training resumes from it, with the learning rates in
    the file. CheckpointError if the file belongs to another training.
    log_every: how often, in steps, the losses are read; on a GPU, nothing else waits for the
    device. FloatingPointError if a loss, or a weight to be saved, is not finite.
    on_step: a function, or a list of them, that is called after every step with a Step (hooks.py),
    such as CSVWriter("log.csv").
    parallel: None, or "threads" or "processes" to split each batch among the cores, or "mpi" if
    mpiexec runs this program (each rank then loads its rows of each batch alone), or an open group,
    such as parallel.threads(2) (parallel.py); the loss must then be the mean over the examples.
    Resuming with the same number of shards is exact, whoever computes them; resuming with another
    number works, but changes the rounding and the noise of dropout.
    """
    check_participants("fit", model, {"optimizer": optimizer}, loader, ema)
    check_same_model("fit", model, optimizer, ema)
    refuse_closure("fit", optimizer)
    check_functions("fit", {"loss_fn": loss_fn}, {"schedule": schedule, "evaluate": evaluate})
    checked_pace("fit", epochs, evaluate_every, checkpoint_every, log_every)
    hooks = checked_hooks("fit", on_step)
    seed, path = whole(seed, "fit: seed"), checkpoint_path("fit", checkpoint)
    device_name("fit", device)  # raises its errors before a group is opened
    progress = flag(progress, "fit: progress")
    clip = None if clip is None else number(clip, "fit: clip", above=0)

    with opened(parallel, "fit") as group:
        if group.size > 1 and isinstance(optimizer, Half):
            raise ValueError(
                f"fit: optimizer is a Half, which scales the loss of a whole batch, and parallel "
                f"opened {group.size} workers: train in float32, or with one worker"
            )
        device = device_name("fit", group.place(device))
        model.to(device or optimizer.parameters()[0].device)
        run = Run(model, {"optimizer": optimizer}, loader, seed, ema, path, group)
        learn = partial(_learn, run, optimizer, loss_fn=loss_fn, schedule=schedule, clip=clip)
        return run.through(
            learn,
            epochs,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            checkpoint_every=checkpoint_every,
            progress=progress,
            log_every=log_every,
            on_step=hooks,
        )


def _learn(
    run: Run,
    optimizer: Optimizer | Half,
    batch: list[Tensor],
    *,
    loss_fn: Callable[..., Tensor],
    schedule: Schedule | None,
    clip: float | None,
) -> np.ndarray:
    """One step. Returns its loss, an array on the device; nothing here waits for the device."""
    set_learning_rates(optimizer, schedule, run.step)
    optimizer.zero_grad()
    if run.group.size == 1:
        loss = loss_fn(run.model, *batch)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"fit: loss_fn must return the loss, a Tensor of one number, not "
                f"{type(loss).__name__}"
            )
        optimizer.backward(loss)
    else:
        loss = run.group.backward(
            partial(loss_fn, run.model),
            *batch,
            examples=run.examples,
            inputs=optimizer.parameters(),
        )
    if clip is not None:
        clip_grad_norm_(optimizer.parameters(), clip)
    optimizer.step()
    if run.ema is not None:
        run.ema.update()
    return loss._data.reshape(())


def set_learning_rates(optimizer: Optimizer | Half, schedule: Schedule | None, step: int) -> None:
    """Set the lr of every group to its initial lr times the schedule's factor at this step."""
    if schedule is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate(group.setdefault("initial_lr", group["lr"]), schedule, step)


# -- The loop around the steps ---------------------------------------------------------------------


@dataclass
class History:
    """What happened in a training, as values that JSON can hold."""

    # one loss per step; for a GAN, one list per step with the losses of both networks
    losses: list = field(default_factory=list)
    # one {"epoch": 1, ...} per evaluation
    metrics: list[dict[str, float]] = field(default_factory=list)
    # spent on training, evaluation and saving, including the time before each resumption
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("losses", self.losses), ("metrics", self.metrics)):
            if not isinstance(value, list):
                raise TypeError(f"History: {name} is {shown(value)}; it must be a list")
        self.seconds = number(self.seconds, "History: seconds", 0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Run:
    """A training in progress: its model, optimisers, loader and EMA, and how far it has got.

    optimizers: a dict; its keys are the names in the checkpoint. path: the checkpoint file, or
    None. group: the workers that compute a step. If each of them runs the whole program, the worker
    of rank 0 alone reads and writes the checkpoint and prints.
    """

    def __init__(
        self,
        model: Module,
        optimizers: Mapping[str, Optimizer | Half],
        loader: Loader,
        seed: int,
        ema: EMA | None,
        path: str | os.PathLike | None,
        group: Group | None = None,
    ):
        check_participants("Run", model, optimizers, loader, ema)
        self.model = model
        self.optimizers = optimizers
        self.loader = loader
        self.seed = whole(seed, "Run: seed")
        self.ema = ema
        self.path: Path | None = checkpoint_path("Run", path)
        if group is not None and not isinstance(group, Group):
            raise TypeError(
                f"Run: group is {shown(group)}; it must be an open group, such as "
                "parallel.threads(2), or None"
            )
        self.group = Alone() if group is None else group
        self.first = next(iter(optimizers.values())).parameters()[0]
        self.device = self.first.device
        if self.path is not None:
            check_plain_values(identity(self))
        self.step = 0
        # the number of examples of the batch, if only the rows of this worker were loaded
        self.examples: int | None = None
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
        on_step: Hook | Sequence[Hook] | None = None,
    ) -> History:
        """Take all remaining steps. learn(batch) takes one, and returns its losses, an array on the
        device. Resumes from the checkpoint if there is one. The other arguments are those of
        ``fit``."""
        check_functions("Run.through", {"learn": learn}, {"evaluate": evaluate})
        pace = checked_pace("Run.through", epochs, evaluate_every, checkpoint_every, log_every)
        functions = checked_hooks("Run.through", on_step)
        total = pace.epochs * len(self.loader)
        has_resumed = resume_run(self)
        facts = {**identity(self), "steps in all": total, "steps done": self.step}
        self.group.compare("fit", {name: x for name, x in facts.items() if type(x) in PLAIN})
        self.model.train()
        with (
            Progress(total, self.step, progress and self.group.rank == 0) as display,
            CtrlC(self.path is not None) as ctrl_c,
            Hooks(self, functions, total) as hooks,
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
                pressed = self.path is not None and self.group.agree(ctrl_c.pressed)
                saves = self.path is not None and (self.is_due(pace, total) or pressed)
                hooks.call(batch, saves)
                if self.path and saves:
                    self.group.first(partial(save_run, self, self.path))
                if pressed:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {total}, saved to {self.path}"
                    )
        self.seconds()
        return self.history

    def end_epoch(self, epoch: int, pace: Pace, evaluate: Evaluate | None) -> str:
        """Evaluate if this epoch is due. Returns the line that is printed about the epoch."""
        if evaluate and (epoch % pace.evaluate_every == 0 or epoch == pace.epochs):
            self.measure(evaluate, epoch)
        return f"epoch {epoch}/{pace.epochs}  {self.summary(epoch)}"

    def is_due(self, pace: Pace, total: int) -> bool:
        """Whether a checkpoint is due after this step."""
        save_every = pace.checkpoint_every or len(self.loader)
        return self.step % save_every == 0 or self.step == total

    def take_step(self, learn: Callable[[list[Tensor]], Any], batch: Batch) -> None:
        """One step. Its noise is a function of the seed and of the step's number."""
        backend.manual_seed((self.seed, self.step))
        tensors = [Tensor(array, device=self.device) for array in arrays_of(batch)]
        self.unread.append(learn(tensors))
        self.step += 1

    def batches(self, total: int) -> Iterator[Batch]:
        """The batches from the current step to ``total``, starting in mid-epoch if the previous run
        stopped there.

        RuntimeError if the loader yields more or fewer batches than its length says.
        """
        while self.step < total:
            epoch, start = divmod(self.step, len(self.loader))
            left = len(self.loader) - start
            count = 0
            for count, (examples, batch) in enumerate(self._rows_of(epoch, start), 1):
                if count > left:
                    break
                self.examples = examples
                yield batch
            if count != left:
                gave = f"more than {left}" if count > left else count
                raise RuntimeError(
                    f"loader: epoch({epoch}, {start}) of the {type(self.loader).__name__} gave "
                    f"{gave} batches; with a length of {len(self.loader)} it must give {left}"
                )

    def _rows_of(self, epoch: int, start: int) -> Iterator[tuple[int | None, Batch]]:
        """None and a whole batch, for each batch; or its number of examples and the rows of this
        worker, if each worker runs the whole program."""
        if self.group.size > 1 and self.group.loads_own_rows:
            yield from parts(self.loader, epoch, start, self.group.rows)
        else:
            for batch in self.loader.epoch(epoch, start):
                yield None, batch

    # -- evaluation -------------------------------------------------------------------------------

    def measure(self, evaluate: Evaluate, epoch: int) -> None:
        """Call ``evaluate`` in eval mode, without recording, and with the EMA's weights if there is
        an EMA; add what it returns to the history."""
        self.model.eval()
        try:
            with no_grad(), self.ema.applied() if self.ema else nullcontext():
                metrics = metrics_of(evaluate(self.model))
        finally:
            self.model.train()
        # If each worker evaluates, all of them note what the worker of rank 0 found.
        metrics = self.group.first(lambda: metrics)
        self.history.metrics.append({"epoch": epoch, **metrics})

    # -- history ----------------------------------------------------------------------------------

    def read_losses(self) -> float | list[float]:
        """Wait for the losses that are still on the device. Returns the loss of the last step.

        FloatingPointError if one of them is not finite.
        """
        if self.unread:
            losses = backend.to_numpy(backend.array_module(self.unread[0]).stack(self.unread))
            self.unread.clear()
            first = len(self.history.losses)
            self.history.losses += losses.tolist()
            self._check_finite(losses, first)
        return self.history.losses[-1]

    def _check_finite(self, losses: np.ndarray, first: int) -> None:
        """FloatingPointError unless all losses are finite. first: the step of the first of them."""
        for step, loss in enumerate(losses, first):
            if not np.isfinite(loss).all():
                epoch, batch = divmod(step, len(self.loader))
                raise not_finite(loss, f"at step {step} (epoch {epoch + 1}, batch {batch})")

    def seconds(self) -> float:
        """The time spent so far; it is also stored in the history."""
        now = time.perf_counter()
        self.history.seconds += now - self.started
        self.started = now
        return self.history.seconds

    def summary(self, epoch: int) -> str:
        """An epoch's mean loss, the metrics at its end, and the time so far, as text."""
        mean_loss = np.mean(self.history.losses[-len(self.loader) :], axis=0)
        words = ["loss " + ", ".join(f"{loss:.4g}" for loss in np.atleast_1d(mean_loss))]
        metrics = self.history.metrics[-1] if self.history.metrics else {}
        if metrics.get("epoch") == epoch:
            words += [f"{name} {value:.4g}" for name, value in metrics.items() if name != "epoch"]
        return "  ".join([*words, f"{self.seconds():.1f} s"])
