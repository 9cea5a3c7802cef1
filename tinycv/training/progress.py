"""steps, for a training loop of your own; its progress bar; Ctrl-C ends it after a whole step.

    for step, (x, y) in steps(loader, epochs=10, seed=0, device="cpu"):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if (step + 1) % len(loader) == 0:
            say(f"step {step + 1}  loss {read_loss(loss, step):.4g}")

ends with the same bits as ``fit`` (loop.py). ``fit`` can also save checkpoints and use all cores.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.arguments import flag, shown, size, whole
from tinycv.engine.tensor import Tensor
from tinycv.training.inputs import arrays_of, device_name


def steps(
    loader: Any, epochs: int, *, seed: int = 0, device: str = "cpu", progress: bool = True
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the number of each step, from 0, and its batch: Tensors on ``device``.

    loader: a DataLoader or a DrawnLoader, through which ``epochs`` passes are made. Before each
    step, ``manual_seed((seed, step))`` makes noise and dropout a function of both numbers, as in
    ``fit``. progress: show a progress bar if the output is a terminal.
    """
    if not hasattr(loader, "epoch") or not hasattr(loader, "__len__") or isinstance(loader, type):
        raise TypeError(
            f"steps: loader is {shown(loader)}; it must be a DataLoader or a DrawnLoader"
        )
    epochs, seed = size(epochs, "steps: epochs"), whole(seed, "steps: seed")
    device_or_none, progress = device_name("steps", device), flag(progress, "steps: progress")
    # The generator is a separate function, so that wrong arguments raise here and not at the first
    # step.
    return _steps(loader, epochs, seed, device_or_none, progress)


def _steps(
    loader: Any, epochs: int, seed: int, device: str | None, progress: bool
) -> Iterator[tuple[int, list[Tensor]]]:
    step = 0
    with Progress(epochs * len(loader), 0, progress) as display:
        for epoch in range(epochs):
            for batch in loader.epoch(epoch):
                backend.manual_seed((seed, step))
                yield step, [Tensor(array, device=device) for array in arrays_of(batch)]
                display.advance()
                step += 1


def say(text: str) -> None:
    """Print a line, above the progress bar if there is one."""
    if not isinstance(text, str):
        raise TypeError(f"say: text is {shown(text)}; it must be a string")
    if find_spec("tqdm"):
        from tqdm import tqdm

        tqdm.write(text)
    else:
        print(text, flush=True)


def read_loss(loss: Tensor, step: int) -> float:
    """The loss of this step as a number. On a GPU this waits for the device, so a loop should read
    the loss only when it prints it.

    FloatingPointError if the loss is not finite. A NaN stays in the weights, so an earlier step may
    have caused it. (Training in half precision skips such a step: half.py.)
    """
    if not isinstance(loss, Tensor) or loss.size != 1:
        raise TypeError(f"read_loss: loss is {shown(loss)}; it must be a Tensor of one number")
    step, value = size(step, "read_loss: step"), loss.item()
    if not np.isfinite(value):
        raise not_finite(value, f"at step {step} or before")
    return value


def not_finite(loss: Any, when: str) -> FloatingPointError:
    """The error for a loss that is NaN or infinite. when: for example "at step 8"."""
    return FloatingPointError(
        f"the loss is {loss} {when}: run the training again inside `with tinycv.debug():` to see "
        "which op made it; a lower lr, warmup or clip often helps"
    )


class Progress:
    """Prints one line per epoch and, at a terminal with tqdm installed, a progress bar below."""

    def __init__(self, total: int, done: int, enabled: bool):
        total, done = size(total, "Progress: total"), size(done, "Progress: done")
        self.enabled, self.bar = enabled, None
        if enabled and find_spec("tqdm"):
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, unit="step", disable=None, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def loss(self, value: float | list[float]) -> None:
        if self.bar is not None:
            values = value if isinstance(value, list) else [value]
            self.bar.set_postfix_str("loss " + ", ".join(f"{v:.4g}" for v in values), refresh=False)

    def line(self, text: str) -> None:
        if self.enabled:
            print(text, flush=True) if self.bar is None else self.bar.write(text)


class CtrlC:
    """Makes Ctrl-C wait for the end of the step, so that the checkpoint holds a whole step. Pressed
    a second time, it stops at once."""

    def __init__(self, enabled: bool):
        self.pressed = False
        # Python handles signals in the main thread only, and a handler that the user has installed
        # stays in place.
        self.installed = (
            enabled
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def __enter__(self) -> CtrlC:
        if self.installed:
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self.installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _press(self, *_: object) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
