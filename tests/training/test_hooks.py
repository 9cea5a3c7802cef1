"""Step hooks: what a hook receives and when, that it makes no GPU wait, and what the writers leave
in their files if a training is killed and resumes."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from cupy_double import counting

import tinycv
from tinycv import nn
from tinycv.adversarial import fit_gan
from tinycv.adversarial.networks import PointDiscriminator, PointGenerator
from tinycv.data import DataLoader
from tinycv.optim import SGD, AdamW, warmup_cosine
from tinycv.training import CSVWriter, Step, TensorBoardWriter, fit, hooks

X = np.random.default_rng(0).normal(size=(22, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)
BATCHES = 6  # per epoch: 22 samples in batches of 4


def squared(model, x, y):
    return ((model(x) - y) ** 2).mean()


def train(on_step=None, epochs=3, device="cpu", **options):
    tinycv.manual_seed(0)
    model = nn.Linear(3, 1).to(device)
    optimizer = SGD(model.named_parameters(), lr=0.1)
    loader = DataLoader(X, Y, batch_size=4, seed=3)
    options = {"progress": False, "schedule": warmup_cosine(18, warmup=4)} | options
    return fit(model, optimizer, squared, loader, epochs, on_step=on_step, **options)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Killed(BaseException):
    """Ends a training as a kill does: nothing in the package catches it."""


def dying_at(step):
    def hook(record):
        if record.step == step:
            raise Killed

    return hook


# ── what a hook receives ─────────────────────────────────────────────────────────────────────────


def test_a_hook_receives_every_step_with_its_loss_and_learning_rate():
    seen = []
    history = train(seen.append)
    assert all(isinstance(step, Step) for step in seen)
    assert [step.step for step in seen] == list(range(18))
    assert [step.epoch for step in seen] == [1] * 6 + [2] * 6 + [3] * 6
    assert [step.loss for step in seen] == history.losses
    assert [step.examples for step in seen[:6]] == [4, 4, 4, 4, 4, 2]
    schedule = warmup_cosine(18, warmup=4)
    assert [step.lr for step in seen] == pytest.approx([0.1 * schedule(i) for i in range(18)])
    assert {step.total for step in seen} == {18}
    seconds = [step.seconds for step in seen]
    assert seconds == sorted(seconds) and 0 < seconds[-1] <= history.seconds


def test_metrics_come_with_the_last_step_of_an_evaluated_epoch():
    seen = []
    train(seen.append, evaluate=lambda model: {"one": 1.0}, evaluate_every=2)
    assert {step.step: step.metrics for step in seen if step.metrics} == {
        11: {"one": 1.0},
        17: {"one": 1.0},
    }


def test_hooks_are_called_in_their_order():
    seen = []
    train([lambda step: seen.append("a"), lambda step: seen.append("b")], epochs=1)
    assert seen == ["a", "b"] * BATCHES


def test_a_loss_is_known_where_the_loop_reads_it_and_before_a_checkpoint(tmp_path):
    known = []
    train(
        lambda step: known.append(step.loss_is_known),
        epochs=2,
        log_every=4,
        checkpoint=tmp_path / "a",
        checkpoint_every=5,
    )
    assert [i for i, yes in enumerate(known) if yes] == [3, 4, 5, 7, 9, 11]


def test_several_threads_call_a_hook_once_per_step():
    seen = []
    train(seen.append, epochs=1, parallel="threads")
    assert [step.step for step in seen] == list(range(BATCHES))
    assert [step.examples for step in seen] == [4, 4, 4, 4, 4, 2]


def test_a_training_with_a_hook_ends_with_the_same_losses():
    assert train(lambda step: step.loss).losses == train().losses


def test_a_gan_gives_the_losses_of_both_networks():
    seen = []
    generator, discriminator = PointGenerator(2, 2, width=4), PointDiscriminator(2, width=4)
    history = fit_gan(
        generator,
        discriminator,
        AdamW(generator.named_parameters(), lr=0.01),
        AdamW(discriminator.named_parameters(), lr=0.01),
        DataLoader(X[:, :2].copy(), batch_size=8),
        1,
        progress=False,
        on_step=seen.append,
    )
    assert [step.loss for step in seen] == history.losses and len(seen[0].loss) == 2


def test_a_hook_that_reads_no_loss_adds_no_wait_on_a_gpu(double):
    def waits(on_step):
        with counting() as seen:
            train(on_step, device="gpu")
        return seen.count

    waits(None)
    quiet = waits(None)
    assert waits(lambda step: step.lr) == quiet
    assert waits(lambda step: step.loss) > quiet


def test_the_csv_writer_adds_no_wait_on_a_gpu(double, tmp_path):
    def waits(on_step):
        with counting() as seen:
            train(on_step, device="gpu")
        return seen.count

    waits(None)
    assert waits(CSVWriter(tmp_path / "a.csv")) == waits(None)


def test_an_error_in_a_hook_ends_the_training_and_names_the_hook():
    def broken_hook(step):
        raise KeyError("colour")

    with pytest.raises(KeyError, match="colour") as caught:
        train(broken_hook)
    (note,) = caught.value.__notes__
    assert note.startswith("fit: the hook ") and note.endswith(
        "broken_hook raised this after step 0"
    )


def test_a_hook_with_a_method_close_is_closed_also_after_an_error():
    class Closing:
        closed = 0

        def __call__(self, step):
            if step.step == 3:
                raise ValueError("stop")

        def close(self):
            self.closed += 1

    hook = Closing()
    with pytest.raises(ValueError, match="stop"):
        train(hook)
    assert hook.closed == 1


def test_only_rank_0_calls_hooks_and_closes_them():
    from tinycv.training.groups import Alone

    class Second(Alone):
        rank = 1

        def first(self, work):
            return None

    class Closing(list):
        def __call__(self, step):
            self.append(step)

        def close(self):
            self.append("closed")

    class Training:
        group = Second()

    called = Closing()
    with hooks.Hooks(Training(), [called], 1) as under_test:
        under_test.call((X,), False)
    assert called == []


@pytest.mark.parametrize("wrong", [3, "print", [print, 3], {"a": print}, [Step], Step])
def test_anything_but_functions_is_refused_in_one_sentence(wrong):
    if wrong is Step:
        wrong = [3.5]
    with pytest.raises(TypeError, match=r"fit: on_step.* is .*; it must be a function"):
        train(wrong)


# ── CSVWriter ────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_a_row_per_step_and_a_column_per_metric(tmp_path):
    path = tmp_path / "deep" / "log.csv"
    history = train(CSVWriter(path), evaluate=lambda model: {"one": 1.0, "loss": 2.0})
    rows = rows_of(path)
    assert [int(row["step"]) for row in rows] == list(range(18))
    assert [float(row["loss"]) for row in rows] == history.losses
    assert list(rows[0])[:6] == ["step", "epoch", "loss", "lr", "seconds", "examples"]
    assert [row["one"] for row in rows] == (["", "", "", "", "", "1.0"] * 3)
    assert rows[5]["evaluated loss"] == "2.0"


@pytest.mark.parametrize("dies_at", [0, 4, 5, 8, 13, 17])
def test_a_killed_training_that_resumes_writes_every_step_once(dies_at, tmp_path):
    whole, path = tmp_path / "whole.csv", tmp_path / "log.csv"
    options = {
        "checkpoint_every": 5,
        "log_every": 4,
        "evaluate": lambda model: {"weight": float(model.weight.data[0, 0])},
    }
    train(CSVWriter(whole), **options)
    # the writer comes first: its rows are there when the training dies
    with pytest.raises(Killed):
        train([CSVWriter(path), dying_at(dies_at)], checkpoint=tmp_path / "a", **options)
    train(CSVWriter(path), checkpoint=tmp_path / "a", **options)
    first, second = rows_of(whole), rows_of(path)
    for row in (*first, *second):
        del row["seconds"]
    assert second == first


def test_a_row_that_a_kill_cut_off_is_written_again(tmp_path):
    path = tmp_path / "log.csv"
    with pytest.raises(Killed):
        train([CSVWriter(path), dying_at(8)], checkpoint=tmp_path / "a", log_every=1)
    text = path.read_text()
    path.write_text(text[: text.rindex("\n") - 3])
    train(CSVWriter(path), checkpoint=tmp_path / "a")
    assert [int(row["step"]) for row in rows_of(path)] == list(range(18))


def test_rows_are_in_the_file_while_the_training_runs(tmp_path):
    path, counts = tmp_path / "log.csv", []
    train([CSVWriter(path), lambda step: counts.append(path.exists() and len(rows_of(path)))])
    # written at the end of an epoch and every 10 steps
    assert counts == [0] * 5 + [6] * 4 + [10, 10] + [12] * 6 + [18]


def test_a_new_training_replaces_the_table_of_an_old_one(tmp_path):
    writer = CSVWriter(tmp_path / "log.csv")
    train(writer)
    train(writer, epochs=1)
    assert len(rows_of(tmp_path / "log.csv")) == BATCHES


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_losses_before_one_that_is_not_finite_are_written(tmp_path):
    path = tmp_path / "log.csv"

    def exploding(model, x, y):
        return squared(model, x, y) * (float("inf") if len(x) == 2 else 1.0)

    model = nn.Linear(3, 1)
    with pytest.raises(FloatingPointError, match="step 5"):
        fit(
            model,
            SGD(model.named_parameters(), lr=0.1),
            exploding,
            DataLoader(X, Y, batch_size=4, shuffle=False),
            1,
            progress=False,
            on_step=CSVWriter(path),
        )
    assert [row["step"] for row in rows_of(path)] == ["0", "1", "2", "3", "4"]


OTHER_FILES = [
    *(b"a,b\n1,2\n", b"step,epoch\nx,1\n", b"\xff\x00\n", b"hello"),
    b"step,epoch,train_loss\n0,1,0.5\n",  # of another logger
]


@pytest.mark.parametrize("content", OTHER_FILES)
def test_a_file_of_another_kind_is_not_touched(content, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a file that no CSVWriter wrote"):
        train(CSVWriter(path))
    assert path.read_bytes() == content


def test_a_path_that_cannot_be_written_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="CSVWriter: path: .* cannot be written"):
        CSVWriter(tmp_path / "file" / "log.csv")
    with pytest.raises(TypeError, match="CSVWriter: path is 3; it must be a str or a Path"):
        CSVWriter(3)


# ── TensorBoardWriter ────────────────────────────────────────────────────────────────────────────


def events(folder: Path):
    """(step, name, value) of every scalar in the event files, in the order in which they were
    written. A record is: its length (8 bytes), a checksum (4), the message, a checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            if event.session_log.status:
                found.append((event.step, "purged from here on", event.session_log.status))
            data = data[16 + length :]
    return found


def test_tensorboard_gets_loss_lr_and_metrics(tmp_path):
    history = train(TensorBoardWriter(tmp_path), evaluate=lambda model: {"one": 1.0})
    found = events(tmp_path)
    losses = [value for _, name, value in found if name == "loss"]
    assert losses == pytest.approx(history.losses)
    assert [step for step, name, _ in found if name == "lr"] == list(range(18))
    assert [step for step, name, _ in found if name == "one"] == [5, 11, 17]


def test_a_resumed_training_purges_the_steps_that_it_takes_again(tmp_path):
    folder, checkpoint = tmp_path / "board", tmp_path / "a"
    options = {"checkpoint": checkpoint, "checkpoint_every": 5, "log_every": 1}
    with pytest.raises(Killed):
        train([TensorBoardWriter(folder), dying_at(8)], **options)
    train(TensorBoardWriter(folder), **options)
    found = events(folder)
    purged = [i for i, (_, name, _) in enumerate(found) if name == "purged from here on"]
    assert [found[i][0] for i in purged] == [5]
    steps = [step for step, name, _ in found[purged[0] :] if name == "loss"]
    assert steps == list(range(5, 18))


def test_without_tensorboardx_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[log\]"'):
        TensorBoardWriter(tmp_path)


def test_a_folder_must_be_a_path():
    with pytest.raises(TypeError, match="TensorBoardWriter: folder is 3; it must be a str"):
        TensorBoardWriter(3)
