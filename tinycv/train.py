"""Training: one loop for every model that learns from one loss.

    history = fit(model, optimizer, loss_fn, loader, epochs=10, evaluate=accuracy, checkpoint="out/vit.safetensors")

What a step computes is a function of the weights, the seed and the step's number: batches come from
``loader.epoch(number, start)``, noise from ``manual_seed((seed, step))``.  So a training that was killed goes on from
its checkpoint and ends with the same bits as one that was not.  (GANs, which alternate two losses, have their own.)
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tinycv import parallel
from tinycv.checkpoint import CheckpointError, load, save
from tinycv.ema import EMA
from tinycv.engine import backend
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.optim import Schedule, clip_grad_norm_
from tinycv.optimizer import Optimizer
from tinycv.progress import CtrlC, Progress


@dataclass
class History:
    """What happened. losses[i]: the loss of step i. metrics: one {"epoch": 1, ...} an evaluation. JSON holds it."""

    losses: list[float] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0                        # of training, evaluation and saving, over all resumptions

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    model.to(device or optimizer.parameters()[0].device)
    run = _Run(model, optimizer, loader, seed, ema, checkpoint and Path(checkpoint))
    total, resumed = epochs * len(loader), run.resume()
    model.train()
    with Progress(total, run.step, progress) as shown, CtrlC(checkpoint is not None) as ctrl_c, (
            nullcontext() if threads == 1 else parallel.threads(threads)) as run.group:
        if resumed:
            shown.line(f"resumed at step {run.step} of {total} from {checkpoint}")
        for batch in run.batches(total):
            _learn(run, loss_fn, batch, schedule, clip)
            shown.advance()
            epoch, rest = divmod(run.step, len(loader))
            if run.step % log_every == 0 or rest == 0:
                shown.loss(run.read_losses())
            if rest == 0:
                if evaluate and (epoch % evaluate_every == 0 or run.step == total):
                    run.history.metrics.append({"epoch": epoch, **_evaluated(run, evaluate)})
                shown.line(_epoch_line(run, epoch, epochs))
            due = run.step % (checkpoint_every or len(loader)) == 0 or run.step == total
            if checkpoint and (due or ctrl_c.pressed):
                run.save()
            if ctrl_c.pressed:
                raise KeyboardInterrupt(f"stopped after step {run.step} of {total}, saved to {checkpoint}")
    run.seconds()
    return run.history


def _learn(run: _Run, loss_fn: Callable, batch: tuple, schedule: Schedule | None, clip: float | None) -> None:
    """One step. Nothing in it waits for the device."""
    backend.manual_seed((run.seed, run.step))
    if schedule is not None:
        for group in run.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * schedule(run.step)
    run.optimizer.zero_grad()
    batch = [Tensor(array, device=run.device) for array in batch]
    if run.group is None:
        loss = loss_fn(run.model, *batch)
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss_fn must return the loss, a Tensor of one number, not {type(loss).__name__}")
        loss.backward()
    else:
        loss = run.group.backward(partial(loss_fn, run.model), *batch)
    if clip is not None:
        clip_grad_norm_(run.optimizer.parameters(), clip)
    run.optimizer.step()
    if run.ema is not None:
        run.ema.update()
    run.unread.append(loss._data.reshape(()))
    run.step += 1


def _evaluated(run: _Run, evaluate: Callable) -> dict[str, float]:
    run.model.eval()
    try:
        with no_grad(), run.ema.applied() if run.ema else nullcontext():
            return {name: float(value) for name, value in evaluate(run.model).items()}
    finally:
        run.model.train()


class _Run:
    """A training under way: all that a checkpoint holds."""

    def __init__(self, model: Module, optimizer: Optimizer, loader: Any, seed: int, ema: EMA | None, path: Path | None):
        self.model, self.optimizer, self.loader, self.seed, self.ema, self.path = (
            model, optimizer, loader, seed, ema, path)
        self.device = optimizer.parameters()[0].device
        self.history, self.step, self.unread, self.group = History(), 0, [], None
        self.started = time.perf_counter()

    def batches(self, total: int) -> Iterator[tuple]:
        """From the present step to ``total``; in mid-epoch where the last run stopped there."""
        while self.step < total:
            yield from self.loader.epoch(*divmod(self.step, len(self.loader)))

    def seconds(self) -> float:
        """Time spent so far, noted in the history."""
        self.history.seconds, self.started = (self.history.seconds + time.perf_counter() - self.started,
                                              time.perf_counter())
        return self.history.seconds

    def read_losses(self) -> float:
        """Wait for the losses that are still on the device. Returns the last of all."""
        if self.unread:
            losses = backend.to_numpy(backend.array_module(self.unread[0]).stack(self.unread)).tolist()
            self.unread.clear()
            first = len(self.history.losses)
            self.history.losses += losses
            for step, loss in enumerate(losses, first):
                if not math.isfinite(loss):
                    epoch, batch = divmod(step, len(self.loader))
                    raise FloatingPointError(
                        f"the loss is {loss} at step {step} (epoch {epoch + 1}, batch {batch}): run it again inside "
                        "`with tinycv.debug():` to see which op made it; a lower lr, warmup or clip often helps")
        return self.history.losses[-1]

    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to be the same training."""
        kinds = {"model": type(self.model).__name__, "optimizer": type(self.optimizer).__name__,
                 "dtype": str(self.optimizer.parameters()[0].dtype), "ema decay": self.ema and self.ema.decay}
        loader = {f"loader's {name}": getattr(self.loader, name, None)
                  for name in ("samples", "batch_size", "shuffle", "seed")}
        return {"seed": self.seed, "batches an epoch": len(self.loader), **kinds, **loader}

    def save(self) -> None:
        self.read_losses()                      # before all else: a NaN must not replace a good checkpoint
        optimizer = self.optimizer.state_dict()
        tensors = {f"model/{name}": t._data for name, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": array for name, array in self.ema.state_dict().items()}
        for name, kept in optimizer["state"].items():
            tensors |= {f"optimizer/{name}/{key}": kept[key] for key in kept if key != "step"}
        tensors = {name: backend.to_numpy(array) for name, array in tensors.items()}
        self._refuse_broken_weights(tensors)
        steps = {name: kept["step"] for name, kept in optimizer["state"].items()}
        self.seconds()
        save(self.path, tensors, {
            "training": self.identity(), "step": self.step, "history": self.history.to_dict(),
            "optimizer": {"steps": steps, "param_groups": optimizer["param_groups"]}, "rng": backend.get_rng_state()})

    def _refuse_broken_weights(self, tensors: dict[str, Any]) -> None:
        for name, _ in self.model.named_parameters():
            if not math.isfinite(tensors[f"model/{name}"].sum(dtype="float64")):
                raise FloatingPointError(
                    f"{name} is not finite after step {self.step - 1}, though the loss was: nothing was saved. Run it "
                    "again inside `with tinycv.debug():` to see which derivative made it")

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one. CheckpointError if it does not fit; nothing is changed then."""
        if self.path is None or not self.path.exists():
            return False
        tensors, state = load(self.path)
        if "training" not in state:
            raise CheckpointError(f"{self.path} is no training's checkpoint; weights alone go through load_model")
        there, here = state["training"], json.loads(json.dumps(self.identity()))
        differ = [f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
                  for key in here | there if there.get(key) != here.get(key)]
        if differ:
            raise CheckpointError(f"{self.path} is of another training: {'; '.join(differ)}. "
                                  "Choose another path, or remove it to begin anew")
        self._load({self.model: _under("model/", tensors),
                    self.optimizer: _optimizer_state(tensors, state["optimizer"]), self.ema: _under("ema/", tensors)})
        self.step, self.history = state["step"], History(**state["history"])
        backend.set_rng_state(state["rng"])
        return True

    def _load(self, states: dict[Any, dict]) -> None:
        """All of them or none."""
        loaded = []
        try:
            for part, state in states.items():
                if part is not None:
                    before = part.state_dict()  # keeps its arrays: to load is to make new ones
                    part.load_state_dict(state)
                    loaded.append((part, before))
        except ValueError as error:
            for part, before in loaded:
                part.load_state_dict(before)
            raise CheckpointError(f"{self.path} is of another training: {error}") from error


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _optimizer_state(tensors: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, dict] = {name: {"step": step} for name, step in saved["steps"].items()}
    for path, array in _under("optimizer/", tensors).items():
        name, _, key = path.rpartition("/")
        state[name][key] = array
    return {"state": state, "param_groups": saved["param_groups"]}


def _epoch_line(run: _Run, epoch: int, epochs: int) -> str:
    losses = run.history.losses[-len(run.loader):]
    metrics = run.history.metrics[-1] if run.history.metrics else {}
    shown = "".join(f"  {name} {value:.4g}" for name, value in metrics.items()
                    if name != "epoch" and metrics["epoch"] == epoch)
    return f"epoch {epoch}/{epochs}  loss {sum(losses) / len(losses):.4g}{shown}  {run.seconds():.1f} s"
