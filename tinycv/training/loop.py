"""The training loop: one for every model that learns from one loss.

    history = fit(model, optimizer, loss_fn, loader, epochs=10, evaluate=accuracy,
    checkpoint="out/vit.safetensors")

What a step computes is a function of the weights, the seed and the step's number: batches come from
``loader.epoch(number, start)``, noise from ``manual_seed((seed, step))``.  So a training that was
killed goes on from its checkpoint and ends with the same bits as one that was not.

``fit`` says what a step is; ``Run`` is what is done around the steps, whatever a step may be.
(GANs, which alternate two losses, make other steps in the same loop: adversarial/turns.py.)
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import flag, number, shown, size, whole
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.optim import EMA, Optimizer, Schedule, clip_grad_norm_
from tinycv.optim.state import plain
from tinycv.training import parallel
from tinycv.training.checkpoint import load, save, with_nan
from tinycv.training.inputs import (
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
from tinycv.training.progress import CtrlC, Progress
from tinycv.training.resume import resumed


def fit(
    model: Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., Tensor],
    loader: Any,
    epochs: int,
    *,
    schedule: Schedule | None = None,
    clip: float | None = None,
    ema: EMA | None = None,
    evaluate: Callable[[Module], dict[str, Any]] | None = None,
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
    epochs, evaluate_every, checkpoint_every, log_every = check_loop(
        "fit", epochs, evaluate, evaluate_every, checkpoint_every, log_every
    )
    seed, checkpoint = whole(seed, "fit: seed"), checkpoint_path("fit", checkpoint)
    device, progress = device_name("fit", device), flag(progress, "fit: progress")
    threads = None if threads is None else size(threads, "fit: threads", 1)
    clip = None if clip is None else number(clip, "fit: clip", above=0)
    model.to(device or optimizer.parameters()[0].device)
    run = Run(model, {"optimizer": optimizer}, loader, seed, ema, checkpoint)
    with nullcontext() if threads == 1 else parallel.threads(threads) as group:
        return run.through(
            epochs,
            partial(_learn, run, optimizer, loss_fn, schedule, clip, group),
            evaluate,
            evaluate_every,
            checkpoint_every,
            progress,
            log_every,
        )


def _learn(
    run: Run,
    optimizer: Optimizer,
    loss_fn: Callable,
    schedule: Schedule | None,
    clip: float | None,
    group: Any,
    batch: list[Tensor],
) -> Any:
    """One step; returns its loss. Nothing in it waits for the device."""
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


def scheduled(optimizer: Optimizer, schedule: Schedule | None, step: int) -> None:
    """Set every group's lr to what the schedule makes of it at this step."""
    if schedule is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate(group.setdefault("initial_lr", group["lr"]), schedule, step)


@dataclass
class History:
    """What happened. JSON holds it."""

    # of every step; of a game, a list of both sides' losses
    losses: list[Any] = field(default_factory=list)
    # one {"epoch": 1, ...} an evaluation
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
    """A training under way: all that a checkpoint holds, and what every loop does around its steps.

    optimizers: by the names that they have in the checkpoint. ``through`` is the loop.
    """

    def __init__(
        self,
        model: Module,
        optimizers: dict[str, Optimizer],
        loader: Any,
        seed: int,
        ema: EMA | None,
        path: Path | None,
    ):
        check_parts("Run", model, optimizers, loader, ema)
        seed, path = whole(seed, "Run: seed"), checkpoint_path("Run", path)
        self.model, self.optimizers, self.loader, self.seed, self.ema, self.path = (
            model,
            optimizers,
            loader,
            seed,
            ema,
            path,
        )
        self.first = next(iter(optimizers.values())).parameters()[0]
        self.device = self.first.device
        if path is not None:
            check_saved_as_json(self.identity())
        self.history, self.step, self.unread = History(), 0, []
        self.started = time.perf_counter()

    def through(
        self,
        epochs: int,
        learn: Callable[[list[Tensor]], Any],
        evaluate: Callable | None,
        evaluate_every: int,
        checkpoint_every: int | None,
        progress: bool,
        log_every: int,
    ) -> History:
        """All steps that are left: learn(batch) makes one, and returns its losses, an array on the
        device."""
        check_functions("Run.through", {"learn": learn}, {})
        epochs, evaluate_every, checkpoint_every, log_every = check_loop(
            "Run.through", epochs, evaluate, evaluate_every, checkpoint_every, log_every
        )
        total, has_resumed = epochs * len(self.loader), self.resume()
        self.model.train()
        with (
            Progress(total, self.step, progress) as display,
            CtrlC(self.path is not None) as ctrl_c,
        ):
            if has_resumed:
                display.line(f"resumed at step {self.step} of {total} from {self.path}")
            for batch in self.batches(total):
                backend.manual_seed((self.seed, self.step))
                self.unread.append(
                    learn([Tensor(array, device=self.device) for array in arrays_of(batch)])
                )
                self.step += 1
                display.advance()
                epoch, rest = divmod(self.step, len(self.loader))
                if self.step % log_every == 0 or rest == 0:
                    display.loss(self.read_losses())
                if rest == 0:
                    if evaluate and (epoch % evaluate_every == 0 or self.step == total):
                        self.history.metrics.append({"epoch": epoch, **self.evaluated(evaluate)})
                    display.line(_epoch_line(self, epoch, epochs))
                due = self.step % (checkpoint_every or len(self.loader)) == 0 or self.step == total
                if self.path and (due or ctrl_c.pressed):
                    self.save()
                if ctrl_c.pressed:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {total}, saved to {self.path}"
                    )
        self.seconds()
        return self.history

    def evaluated(self, evaluate: Callable) -> dict[str, float]:
        """What evaluate says of the model, in eval mode, without recording, with the EMA's weights
        if there is one."""
        self.model.eval()
        try:
            with no_grad(), self.ema.applied() if self.ema else nullcontext():
                return metrics_of(evaluate(self.model))
        finally:
            self.model.train()

    def batches(self, total: int) -> Iterator[tuple]:
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

    def seconds(self) -> float:
        """Time spent so far, noted in the history."""
        self.history.seconds, self.started = (
            self.history.seconds + time.perf_counter() - self.started,
            time.perf_counter(),
        )
        return self.history.seconds

    def read_losses(self) -> Any:
        """Wait for the losses that are still on the device. Returns the last of all."""
        if self.unread:
            losses = backend.to_numpy(backend.array_module(self.unread[0]).stack(self.unread))
            self.unread.clear()
            first = len(self.history.losses)
            self.history.losses += losses.tolist()
            for step, loss in enumerate(losses, first):
                if not np.isfinite(loss).all():
                    epoch, batch = divmod(step, len(self.loader))
                    raise FloatingPointError(
                        f"the loss is {loss} at step {step} (epoch {epoch + 1}, batch {batch}): "
                        "run it again inside `with tinycv.debug():` to see which op made it; a "
                        "lower lr, warmup or clip often helps"
                    )
        return self.history.losses[-1]

    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to be the same training."""
        kinds = {
            "model": type(self.model).__name__,
            **{key: type(o).__name__ for key, o in self.optimizers.items()},
            "dtype": str(self.first.dtype),
            "ema decay": self.ema and self.ema.decay,
        }
        loader = {
            f"loader's {name}": plain(getattr(self.loader, name, None))
            for name in ("samples", "batch_size", "shuffle", "seed")
        }
        return {"seed": self.seed, "batches an epoch": len(self.loader), **kinds, **loader}

    def save(self) -> None:
        # before all else: a NaN must not replace a good checkpoint
        self.read_losses()
        tensors = {f"model/{name}": t._data for name, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": array for name, array in self.ema.state_dict().items()}
        optimizers = {}
        for role, state in ((role, o.state_dict()) for role, o in self.optimizers.items()):
            for name, kept in state["state"].items():
                tensors |= {f"{role}/{name}/{key}": kept[key] for key in kept if key != "step"}
            optimizers[role] = {
                "steps": {name: kept["step"] for name, kept in state["state"].items()},
                "param_groups": state["param_groups"],
            }
        tensors = {name: backend.to_numpy(array) for name, array in tensors.items()}
        self._refuse_broken_weights(tensors)
        self.seconds()
        save(
            self.path,
            tensors,
            {
                "training": self.identity(),
                "step": self.step,
                "history": self.history.to_dict(),
                **optimizers,
                "rng": backend.get_rng_state(),
            },
        )

    def _refuse_broken_weights(self, tensors: dict[str, Any]) -> None:
        names = [f"model/{name}" for name, _ in self.model.named_parameters()]
        names += [name for name in tensors if name.partition("/")[0] in self.optimizers]
        broken = [
            name for name in names if not math.isfinite(tensors[name].sum(dtype="float64"))
        ] or with_nan(tensors)
        if broken:
            raise FloatingPointError(
                f"{broken[0].removeprefix('model/')} is not finite after step {self.step - 1}, "
                "though the loss was: nothing was saved. Run it again inside `with "
                "tinycv.debug():` to see which derivative made it"
            )

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one. CheckpointError if it does not fit; nothing
        is changed then."""
        if self.path is None or not self.path.exists():
            return False
        resumed(self, *load(self.path))()
        return True


def _epoch_line(run: Run, epoch: int, epochs: int) -> str:
    losses = np.atleast_1d(np.mean(run.history.losses[-len(run.loader) :], axis=0))
    metrics = run.history.metrics[-1] if run.history.metrics else {}
    measured = "".join(
        f"  {name} {value:.4g}"
        for name, value in metrics.items()
        if name != "epoch" and metrics["epoch"] == epoch
    )
    return f"epoch {epoch}/{epochs}  loss {', '.join(f'{loss:.4g}' for loss in losses)}{measured}  {run.seconds():.1f} s"
