"""LivePlot draws in a notebook, replaces its picture at most as often as it should, and does
something sensible elsewhere. The notebook is simulated: two modules in place of IPython."""

from __future__ import annotations

import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinycv import nn
from tinycv.data import DataLoader
from tinycv.optim import SGD
from tinycv.show import live
from tinycv.training import fit

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)


def train(hook, **options):
    model = nn.Linear(3, 1)
    optimizer = SGD(model.named_parameters(), lr=0.1)
    loader = DataLoader(X, batch_size=4)
    return fit(
        model,
        optimizer,
        lambda model, x: (model(x) ** 2).mean(),
        loader,
        2,
        progress=False,
        on_step=hook,
        **options,
    )


class Notebook(ModuleType):
    """IPython, as a notebook has it. shown: what was displayed and updated."""

    def __init__(self, has_kernel=True):
        super().__init__("IPython")
        self.version_info = (9, 0)  # matplotlib looks at it
        self.shown = []
        shell = SimpleNamespace(kernel=1) if has_kernel else SimpleNamespace()
        self.get_ipython = lambda: shell
        self.display = SimpleNamespace(Image=lambda data, format: data, display=self._display)

    def _display(self, image, display_id):
        self.shown.append(("display", image))
        return SimpleNamespace(update=lambda image: self.shown.append(("update", image)))


@pytest.fixture
def notebook(monkeypatch):
    made = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", made)
    return made


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test sets ``now``."""
    made = SimpleNamespace(now=100.0)
    monkeypatch.setattr(live, "clock", lambda: made.now)
    return made


def test_in_a_notebook_one_picture_is_shown_and_then_replaced(notebook):
    train(live.LivePlot(seconds=0), log_every=4)
    # at steps 3, 5 (end of the epoch), 7 and 11, and at the end
    assert [how for how, _ in notebook.shown] == ["display"] + ["update"] * 4
    with Image.open(io.BytesIO(notebook.shown[-1][1])) as picture:
        assert picture.width > 400 and len(np.unique(np.asarray(picture))) > 10


def test_pictures_come_at_most_once_in_the_given_time_and_at_the_end(notebook, clock):
    train(
        [live.LivePlot(seconds=5), lambda step: setattr(clock, "now", clock.now + 1)], log_every=1
    )
    # 12 steps of a second: drawn at 0, 5 and 10 seconds, and at the end
    assert len(notebook.shown) == 4


def test_a_second_training_gets_a_picture_of_its_own(notebook, clock):
    plot = live.LivePlot()
    train(plot)
    train(plot)
    assert [how for how, _ in notebook.shown].count("display") == 2


@pytest.mark.parametrize("module", [None, Notebook(has_kernel=False)], ids=["Python", "terminal"])
def test_outside_a_notebook_one_line_says_that_nothing_is_drawn(module, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    if module is not None:
        monkeypatch.setitem(sys.modules, "IPython", module)
    train(live.LivePlot())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("LivePlot: the program does not run in a notebook")
    assert "LivePlot('loss.png')" in line


def test_with_a_path_the_picture_is_written_to_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    path = tmp_path / "out" / "loss.png"
    train(live.LivePlot(path), evaluate=lambda model: {"accuracy": 0.5})
    with Image.open(path) as picture:
        assert len(np.unique(np.asarray(picture))) > 10
    assert capsys.readouterr().out == ""


def test_the_title_says_the_last_loss_and_how_many_steps_are_done():
    fig = live.figure_of([[2.0, 1.0], [1.5, 0.25]], [], 10)
    assert fig.get_suptitle() == "The loss is 1.5, 0.25 after 2 of 10 steps."
    assert len(fig.axes[0].lines) == 2


def test_a_long_curve_is_drawn_as_means_of_equal_parts():
    steps, values = live.thinned(np.arange(100_000.0))
    assert len(values) == live.POINTS and np.allclose(steps, values)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="LivePlot: path"):
        live.LivePlot(3)
    with pytest.raises(ValueError, match="LivePlot: seconds is -1; it must be a number"):
        live.LivePlot(seconds=-1)
