"""What a training shows while it runs, and how it is stopped."""

from __future__ import annotations

import signal
import threading
from importlib.util import find_spec

from tinycv.engine.arguments import size


class Progress:
    """A line an epoch; at a terminal, with tqdm installed, a bar below them."""

    def __init__(self, total: int, done: int, wanted: bool):
        total, done = size(total, "Progress: total"), size(done, "Progress: done")
        self.wanted, self.bar = wanted, None
        if wanted and find_spec("tqdm"):
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
        if self.wanted:
            print(text, flush=True) if self.bar is None else self.bar.write(text)


class CtrlC:
    """Ctrl-C waits for the end of the step, so that a whole one is saved; pressed again, it stops
    at once."""

    def __init__(self, wanted: bool):
        self.pressed = False
        self.ours = (
            wanted
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def __enter__(self) -> CtrlC:
        if self.ours:
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self.ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _press(self, *_: object) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
