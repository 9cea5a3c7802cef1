"""Step hooks: functions that ``fit`` calls after every step, for logs, plots and measurements.

    fit(model, optimizer, loss_fn, loader, 10, on_step=[CSVWriter("log.csv"), print])

A hook receives a ``Step``.  On a GPU the loss of a step is known only when the device has computed
it, so ``Step.loss`` waits for the device, and a hook that reads it at every step slows the training
down.  ``Step.loss_is_known`` says whether it is there already: every ``log_every`` steps, at the
end of an epoch and before a checkpoint is saved, the loop has read all losses so far.  A writer
keeps the Steps until then (writers.py).

A checkpoint is saved after the hooks of its step have run.  So a training that was killed and
resumes calls its hooks again for the steps that it takes again, beginning with the first of them.
If every rank of a group runs the program (MPI), the hooks run in rank 0 alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinycv.engine.arguments import shown

if TYPE_CHECKING:
    from tinycv.data.loader import Batch
    from tinycv.training.loop import Run


@dataclass(frozen=True)
class Step:
    """One step of a training.

    step: counted from 0; total: the number of steps of the whole training. epoch: counted from 1.
    lr: the learning rate of the first parameter group of the first optimiser. seconds: since the
    training began, without the time between a stop and a resumption. examples: those of the batch.
    metrics: what ``evaluate`` returned after this step, at the end of an epoch; otherwise empty.
    """

    step: int
    total: int
    epoch: int
    lr: float
    seconds: float
    examples: int
    metrics: dict[str, float]
    run: Run = field(repr=False, compare=False)

    @property
    def loss(self) -> float | list[float]:
        """The loss of this step; for a GAN, the losses of both networks. On a GPU this waits for
        the device if ``loss_is_known`` is False. FloatingPointError if a loss is not finite."""
        if not self.loss_is_known:
            self.run.read_losses()
        return self.run.history.losses[self.step]

    @property
    def loss_is_known(self) -> bool:
        return self.step < len(self.run.history.losses)


Hook = Callable[[Step], object]


def checked_hooks(caller: str, on_step: Any) -> list[Hook]:
    """``on_step`` as a list of functions: it may be None, one function, or a list of them."""
    takes = "it must be a function that takes a Step, a list of such functions, or None"
    if on_step is None or callable(on_step):
        hooks = [] if on_step is None else [on_step]
    elif isinstance(on_step, (list, tuple)):
        hooks = list(on_step)
    else:
        raise TypeError(f"{caller}: on_step is {shown(on_step)}; {takes}")
    for i, hook in enumerate(hooks):
        if not callable(hook) or isinstance(hook, type):
            raise TypeError(f"{caller}: on_step[{i}] is {shown(hook)}; {takes}")
    return hooks


class Hooks:
    """The hooks of one training: ``with Hooks(...) as hooks:`` closes those that have a method
    ``close``, however the training ends."""

    def __init__(self, run: Run, hooks: Sequence[Hook], total: int):
        self.run, self.hooks, self.total = run, hooks, total

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *_: object) -> None:
        if self.run.group.rank == 0:
            for hook in self.hooks:
                close = getattr(hook, "close", None)
                if callable(close):
                    close()

    def call(self, batch: Batch, saves: bool) -> None:
        """Call the hooks after the step on this batch. saves: a checkpoint of this step will be
        saved next."""
        if not self.hooks:
            return
        if saves:  # the losses are saved too; the writers write what the checkpoint counts as done
            self.run.read_losses()
        # an error in a hook reaches all ranks, which would otherwise wait for this one
        self.run.group.first(lambda: self._call_all(self._step(batch)))

    def _step(self, batch: Batch) -> Step:
        run = self.run
        step = run.step - 1
        epoch, batch_number = divmod(step, len(run.loader))
        is_last = batch_number == len(run.loader) - 1
        metrics = run.history.metrics[-1] if is_last and run.history.metrics else {}
        if metrics.get("epoch") != epoch + 1:  # this epoch was not evaluated
            metrics = {}
        return Step(
            step=step,
            total=self.total,
            epoch=epoch + 1,
            lr=float(next(iter(run.optimizers.values())).param_groups[0]["lr"]),
            seconds=run.history.seconds + time.perf_counter() - run.started,
            examples=run.examples or len(batch[0]),
            metrics={name: value for name, value in metrics.items() if name != "epoch"},
            run=run,
        )

    def _call_all(self, step: Step) -> None:
        for hook in self.hooks:
            try:
                hook(step)
            except Exception as error:
                name = getattr(hook, "__qualname__", None) or shown(hook)
                error.add_note(f"fit: the hook {name} raised this after step {step.step}")
                raise
