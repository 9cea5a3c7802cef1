"""Logs of a training: CSVWriter writes a table with a row per step, TensorBoardWriter writes files
that TensorBoard shows.

    fit(model, optimizer, loss_fn, loader, 10, on_step=CSVWriter("out/log.csv"))
    fit(model, optimizer, loss_fn, loader, 10, on_step=TensorBoardWriter("out/runs/first"))

Both wait for no GPU: they keep the steps whose losses are still on the device, and write them when
the loop has read these losses (hooks.py).  A training that resumes from a checkpoint takes some
steps again; their old entries are removed from the table, and hidden in TensorBoard.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinycv.data import atomic
from tinycv.engine.arguments import shown
from tinycv.training.hooks import Step

# the names of a metric that would hide another column
TAKEN = {"step", "epoch", "loss", "lr", "seconds", "examples"}


class Writer:
    """Base class: collects steps until their losses are known. A subclass defines ``begin``, which
    runs before the first step of a training, and ``write``."""

    def __init__(self) -> None:
        self.waiting: list[Step] = []
        self.has_begun = False

    def __call__(self, step: Step) -> None:
        if not self.has_begun:
            self.begin(step.step)
            self.has_begun = True
        self.waiting.append(step)
        if step.loss_is_known:
            self.write_known()

    def close(self) -> None:
        """Write the steps whose losses are known: the training has ended."""
        self.write_known()
        self.waiting, self.has_begun = [], False

    def write_known(self) -> None:
        known = [step for step in self.waiting if step.loss_is_known]
        self.waiting = self.waiting[len(known) :]
        if known:
            self.write(known)

    def begin(self, first: int) -> None:
        raise TypeError(f"{type(self).__name__} must define begin(first)")

    def write(self, steps: list[Step]) -> None:
        raise TypeError(f"{type(self).__name__} must define write(steps)")


class CSVWriter(Writer):
    """A hook of ``fit`` that writes a CSV file: step, epoch, loss, lr, seconds, examples, and a
    column for each metric, which is empty except at the end of an epoch.

    A training that starts at step 0 replaces the file. One that resumes at step n keeps the rows
    before n, and appends. ValueError if the file was not written by a CSVWriter. The two losses of
    a GAN are the columns "loss 0" and "loss 1".
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path: Path = atomic.file_path(path, "CSVWriter: path")
        problem = atomic.obstacle(self.path)
        if problem:
            raise NotADirectoryError(f"CSVWriter: path: {self.path} cannot be written: {problem}")
        self.columns: list[str] = []

    def __repr__(self) -> str:
        return f"CSVWriter({str(self.path)!r})"

    def begin(self, first: int) -> None:
        """Keep the rows before step ``first``, and remove all others."""
        self.columns, rows = self.read() if self.path.exists() else ([], [])
        kept = [row for row in rows if int(row["step"]) < first]
        if kept:
            self.replace(kept)
        else:
            self.columns = []  # the first row that is written says which there are

    def write(self, steps: list[Step]) -> None:
        """Append a row per step. If there is a new column, the file is replaced by one that has
        it."""
        rows = [cells(step) for step in steps]
        new = [name for row in rows for name in row if name not in self.columns]
        if new:
            old = self.read()[1] if self.columns else []
            self.columns = [*self.columns, *dict.fromkeys(new)]
            self.replace([*old, *rows])
        else:
            # opened for each write, so the rows are in the file even if the process is killed
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(self.lines(rows))

    def read(self) -> tuple[list[str], list[dict[str, str]]]:
        """(the columns of the file, its rows). A last row that was cut off by a kill is left
        out."""
        text = self.path.read_bytes().decode("utf-8", "replace")
        whole = text[: text.rfind("\n") + 1]
        columns, *rows = list(csv.reader(io.StringIO(whole, newline=""))) or [[]]
        same_length = all(len(row) == len(columns) and row[0].isdecimal() for row in rows)
        is_ours = columns[:2] == ["step", "epoch"] and {"lr", "seconds", "examples"} <= {*columns}
        if text and not (is_ours and same_length):
            raise ValueError(
                f"CSVWriter: path is {self.path}, a file that no CSVWriter wrote: choose another "
                "path, or remove the file"
            )
        return columns, [dict(zip(columns, row, strict=True)) for row in rows]

    def replace(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write the whole file. A kill leaves the old one or the new one (atomic.py)."""
        head = self.lines([dict(zip(self.columns, self.columns, strict=True))])
        atomic.write(self.path, (head + self.lines(rows)).encode())

    def lines(self, rows: Iterable[dict[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue()


class TensorBoardWriter(Writer):
    """A hook of ``fit`` that writes loss, lr and metrics for TensorBoard: tensorboard --logdir
    FOLDER. Needs tensorboardX: pip install -e ".[log]".

    Each training needs a folder of its own, because TensorBoard shows all files of a folder as one
    training. One that resumes at step n hides the entries from n on.
    """

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(
                f"TensorBoardWriter: folder is {shown(folder)}; it must be a str or a Path"
            )
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                'TensorBoardWriter needs tensorboardX: pip install -e ".[log]"'
            ) from None
        self.make, self.folder = SummaryWriter, os.fspath(folder)
        self.board: Any = None

    def __repr__(self) -> str:
        return f"TensorBoardWriter({self.folder!r})"

    def begin(self, first: int) -> None:
        self.board = self.make(self.folder, purge_step=first or None)

    def write(self, steps: list[Step]) -> None:
        for step in steps:
            for name, value in scalars(step).items():
                self.board.add_scalar(name, value, step.step)
        self.board.flush()

    def close(self) -> None:
        super().close()
        if self.board is not None:
            self.board.close()
            self.board = None


def losses(step: Step) -> dict[str, float]:
    """The loss by name, or the losses of a GAN by number."""
    loss = step.loss
    if isinstance(loss, list):
        return {f"loss {i}": value for i, value in enumerate(loss)}
    return {"loss": loss}


def metrics(step: Step) -> dict[str, float]:
    """The metrics by name; "loss" becomes "evaluated loss", because that of the step is "loss"."""
    named = step.metrics.items()
    return {f"evaluated {name}" if name in TAKEN else name: value for name, value in named}


def scalars(step: Step) -> dict[str, float]:
    """What TensorBoard shows of a step."""
    return {**losses(step), "lr": step.lr, **metrics(step)}


def cells(step: Step) -> dict[str, Any]:
    """A row of the table. float's repr has all its digits."""
    return {
        "step": step.step,
        "epoch": step.epoch,
        **losses(step),
        "lr": step.lr,
        "seconds": round(step.seconds, 3),
        "examples": step.examples,
        **metrics(step),
    }
