"""LivePlot: the loss curve of a training, drawn while it runs, in a notebook or into a file.

    fit(model, optimizer, loss_fn, loader, 10, on_step=LivePlot())

In a notebook the picture below the cell is replaced, at most once per second.  The plot waits for
no GPU: it is drawn at the steps whose losses the loop has read (training/hooks.py).  Outside a
notebook, LivePlot("loss.png") writes the picture to a file.
Needs matplotlib. (Every notebook has IPython already.)
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tinycv.data import inputs as given
from tinycv.engine.arguments import number
from tinycv.show import draw
from tinycv.training.hooks import Step
from tinycv.training.progress import say

POINTS = 500  # of a curve; of a longer one the means of equal parts are drawn
clock = time.monotonic


class LivePlot:
    """A hook of ``fit`` that draws the losses so far and, below them, the metrics of the epochs.

    path: a PNG file that is written too. seconds: the shortest time between two pictures.
    """

    def __init__(self, path: str | os.PathLike | None = None, seconds: float = 1.0):
        self.path: Path | None = None if path is None else given.path(path, "LivePlot: path")
        self.seconds = number(seconds, "LivePlot: seconds", 0)
        self.latest: Step | None = None
        self.drawn_at: float | None = None
        self.picture: Any = None  # the picture in the notebook, which can be replaced

    def __call__(self, step: Step) -> None:
        if self.latest is None and self.path is None and display_of_notebook() is None:
            say(
                "LivePlot: the program does not run in a notebook, so nothing is drawn; "
                "LivePlot('loss.png') writes the picture to a file"
            )
        self.latest = step
        is_due = self.drawn_at is None or clock() - self.drawn_at >= self.seconds
        if step.loss_is_known and is_due:
            self.draw(step)

    def close(self) -> None:
        """Draw the last picture: the training has ended."""
        if self.latest is not None:
            self.draw(self.latest)
        self.latest, self.drawn_at, self.picture = None, None, None

    def draw(self, step: Step) -> None:
        """Draw all losses that are known, where they can be seen."""
        display = display_of_notebook()
        history = step.run.history
        if not history.losses or (display is None and self.path is None):
            return
        self.drawn_at = clock()
        fig = figure_of(history.losses, history.metrics, step.total)
        if self.path is not None:
            draw.save(fig, self.path)
        if display is not None:
            file = io.BytesIO()
            fig.savefig(file, format="png", dpi=90, facecolor="white")
            image = display.Image(data=file.getvalue(), format="png")
            if self.picture is None:
                self.picture = display.display(image, display_id=True)
            else:
                self.picture.update(image)


def display_of_notebook() -> Any:
    """IPython's module ``display`` if this program runs in a notebook, otherwise None."""
    if "IPython" not in sys.modules:  # a notebook has imported it before the first cell runs
        return None
    from IPython import display, get_ipython  # pyright: ignore[reportMissingImports]

    # IPython in a terminal has no kernel, and cannot show pictures
    return display if hasattr(get_ipython(), "kernel") else None


def figure_of(losses: list, metrics: list[dict[str, float]], total: int) -> Figure:
    """The curves of one loss or, for a GAN, of both; below them those of the metrics."""
    done = len(losses)
    table = np.array(losses, float).reshape(done, -1)  # (steps, 1) or (steps, 2)
    last = ", ".join(f"{value:.4g}" for value in table[-1])
    names = sorted({name for entry in metrics for name in entry} - {"epoch"})
    fig = draw.figure(
        f"The loss is {last} after {done} of {total} steps.", 7, 5.5 if names else 3.2
    )
    axes = np.atleast_1d(fig.subplots(2 if names else 1, 1))
    labels = ["loss"] if table.shape[1] == 1 else [f"loss {i}" for i in range(table.shape[1])]
    lines = {label: thinned(table[:, i]) for i, label in enumerate(labels)}
    draw.curves(axes[0], lines, "step", "loss")
    if names:
        curves = {}
        for name in names:
            entries = [entry for entry in metrics if name in entry]
            curves[name] = [e["epoch"] for e in entries], [e[name] for e in entries]
        draw.curves(axes[1], curves, "epoch", "metric")
    return fig


def thinned(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of a curve, with at most about POINTS points."""
    width = max(1, len(values) // POINTS)
    count = len(values) // width * width  # of the values that fill whole parts
    means = np.array(values[:count]).reshape(-1, width).mean(axis=1)
    return np.arange(len(means)) * width + (width - 1) / 2, means
