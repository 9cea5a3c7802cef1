"""The training loop: what a step gets, what is evaluated and when, and that a killed training loses
nothing."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared import Prepared
from seeds import SEED

from tinycv.data import DataLoader
from tinycv.engine import backend
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.module import Module
from tinycv.optim import SGD, AdamW, clip_grad_norm_, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.training import progress as progress_module
from tinycv.training.checkpoint import CheckpointError, load, load_model
from tinycv.training.loop import fit

rng = np.random.default_rng(0)
X = rng.standard_normal((22, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)
BATCHES = 6  # per epoch: 22 samples in batches of 4


class Line(Module):
    def __init__(self, width=3):
        self.weight = Parameter(np.zeros((width, 1), np.float32))
        self.bias = Parameter(np.zeros(1, np.float32))

    def forward(self, x):
        return x @ self.weight + self.bias


def noisy_loss(model, x, y):
    """Draws random numbers at every step, as dropout and diffusion do."""
    noise = Tensor(backend.standard_normal(x.shape, like=x._data))
    return ((model(x + 0.1 * noise) - y) ** 2).mean()


def train(epochs=3, model=None, loss_fn=noisy_loss, seed=0, device="cpu", **options):
    model = (model or Line()).to(device)
    optimizer = AdamW(model.named_parameters(), lr=0.1)
    loader = DataLoader(X, Y, batch_size=4, seed=3)
    options = {
        "schedule": warmup_cosine(18, warmup=4),
        "clip": 1.0,
        "ema": EMA(model, 0.9),
        "progress": False,
    } | options
    return model, fit(model, optimizer, loss_fn, loader, epochs, seed=seed, **options)


def test_a_loop_over_steps_ends_with_the_same_bits_as_fit():
    """Data, noise, learning rate, clipping and EMA as in fit, written out."""
    fitted, history = train(epochs=3)
    model = Line()
    optimizer, ema = AdamW(model.named_parameters(), lr=0.1), EMA(model, 0.9)
    schedule = warmup_cosine(18, warmup=4)
    losses = []
    loader = DataLoader(X, Y, batch_size=4, seed=3)
    for step, (x, y) in progress_module.steps(loader, 3, progress=False):
        assert step == len(losses)
        optimizer.param_groups[0]["lr"] = 0.1 * schedule(step)
        optimizer.zero_grad()
        loss = noisy_loss(model, x, y)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update()
        losses.append(loss.item())
    assert losses == history.losses
    for name, weight in fitted.state_dict().items():
        assert (model.state_dict()[name].numpy() == weight.numpy()).all()


def test_steps_refuses_wrong_epochs_devices_and_loaders():
    loader = DataLoader(X, Y, batch_size=4)
    with pytest.raises(ValueError, match="steps: epochs"):
        progress_module.steps(loader, -1)
    with pytest.raises(TypeError, match="steps: device"):
        progress_module.steps(loader, 1, device=3)
    with pytest.raises(TypeError, match="steps: loader"):
        progress_module.steps([X], 1)


def same_but_seconds(a, b):
    (arrays, state), (others, other) = load(a), load(b)
    for s in (state, other):
        s["history"].pop("seconds")
    return (
        state == other
        and arrays.keys() == others.keys()
        and all(x.tobytes() == others[name].tobytes() for name, x in arrays.items())
    )


class Stop(Exception):
    """Raised by a loss, to simulate a crash."""


def stopping_at(step):
    calls = iter(range(10**6))

    def loss_fn(model, x, y):
        if next(calls) == step:
            raise Stop
        return noisy_loss(model, x, y)

    return loss_fn


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


# ── learning ──


@pytest.mark.statistical
def test_fit_learns_a_line(device):
    model, history = train(epochs=30, schedule=None, seed=SEED, device=device)
    assert len(history.losses) == 30 * BATCHES
    assert np.mean(history.losses[-2 * BATCHES :]) < 0.15 < history.losses[0]
    assert json.loads(json.dumps(history.to_dict())) == history.to_dict() and history.seconds > 0


def test_the_history_holds_every_loss_for_every_log_every():
    losses = [train(log_every=every)[1].losses for every in (1, 4, 1000)]
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 3 * BATCHES


def test_steps_between_two_reads_of_the_loss_do_not_wait_for_the_gpu(double):
    waits = []

    def loss_fn(model, x, y):
        waits.append(double.synchronisations)
        return ((model(x) - y) ** 2).mean()

    train(epochs=1, loss_fn=loss_fn, device="gpu", log_every=4)
    assert waits[0] == waits[3] and waits[4] == waits[5] == waits[3] + 1


def test_noise_is_a_function_of_seed_and_step():
    assert train(seed=1)[1].losses == train(seed=1)[1].losses != train(seed=2)[1].losses


def test_the_learning_rate_schedule_sets_the_lr_of_each_group():
    model = Line()
    optimizer = SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}], lr=0.1)
    fit(
        model,
        optimizer,
        noisy_loss,
        DataLoader(X, Y, batch_size=4),
        1,
        schedule=lambda step: 1 / (1 + step),
        progress=False,
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.1 / 6, 0.5 / 6]


def test_the_model_is_moved_to_the_device_named(double):
    model = Line()
    fit(
        model,
        SGD(model.parameters(), lr=0.1),
        noisy_loss,
        DataLoader(X, Y, batch_size=4),
        1,
        device="gpu",
        ema=EMA(model),
        progress=False,
    )
    assert model.weight.device == "gpu:0"


# ── Evaluation ──


def test_evaluation_sees_the_averaged_weights_in_eval_mode_without_recording():
    seen = []

    def evaluate(model):
        seen.append((model.training, (model.weight * 2).requires_grad, model.weight._data.copy()))
        return {"error": Tensor(np.float32(0.5)), "steps": 7}

    model = Line()
    ema = EMA(model, 0.9)
    _, history = train(epochs=1, model=model, ema=ema, evaluate=evaluate)
    assert seen[0][:2] == (False, False) and model.training
    np.testing.assert_array_equal(seen[0][2], ema.state_dict()["weight"])
    assert (model.weight._data != seen[0][2]).any() and (seen[0][2] != 0).all()
    assert history.metrics == [{"epoch": 1, "error": 0.5, "steps": 7.0}]


def test_evaluation_comes_every_few_epochs_and_at_the_end():
    _, history = train(epochs=5, evaluate=lambda model: {"one": 1}, evaluate_every=2)
    assert [m["epoch"] for m in history.metrics] == [2, 4, 5]


@pytest.mark.parametrize("tqdm", [True, False])
def test_one_line_per_epoch_is_printed_with_tqdm_and_without(tqdm, capsys, monkeypatch):
    if not tqdm:
        monkeypatch.setattr(progress_module, "find_spec", lambda name: None)
    train(epochs=2, evaluate=lambda model: {"error": 0.25}, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("error 0.25" in line and line.isascii() for line in lines)


# ── Errors ──


def test_a_loss_that_is_not_finite_is_named_by_its_step_and_not_saved(path):
    def loss_fn(model, x, y):
        return noisy_loss(model, x, y) * float("nan" if len(seen) == 8 else seen.append(0) or 1)

    seen = []
    with pytest.raises(FloatingPointError, match=r"nan at step 8 \(epoch 2, batch 2\).*debug"):
        train(loss_fn=loss_fn, checkpoint=path, checkpoint_every=1, log_every=1000)
    assert load(path)[1]["step"] == 8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_read_loss_refuses_a_loss_that_is_not_finite(value):
    assert progress_module.read_loss(Tensor(np.float32(0.5)), 7) == 0.5
    with pytest.raises(FloatingPointError, match=rf"is {value} at step 8 or before: .*debug.* lr"):
        progress_module.read_loss(Tensor(np.float32(value)), 8)


def test_weights_that_are_not_finite_are_not_saved(path):
    def loss_fn(model, x, y):
        # its value is 0, its derivative is not a number
        return ((model.weight * 0) ** 0.5).sum()

    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="weight is not finite after step 0"),
    ):
        train(loss_fn=loss_fn, clip=None, checkpoint=path, checkpoint_every=1)
    assert not path.exists()


@pytest.mark.parametrize("below", ["a", "new/a"])
def test_a_checkpoint_below_a_file_is_refused_before_the_first_step(below, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    model = Line()
    with pytest.raises(NotADirectoryError, match=f"fit: checkpoint: .*: {file} is a file"):
        train(model=model, checkpoint=file / below)
    assert file.read_text() == "mine" and not model.weight._data.any()


def test_a_loss_that_is_not_a_tensor_is_refused():
    with pytest.raises(TypeError, match="not float"):
        train(loss_fn=lambda model, x, y: 1.0)


# ── Stopping and resuming ──


def noise_and_weight(model):
    return {"noise": backend.standard_normal(1)[0] + model.weight._data.sum()}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole"
    train(checkpoint=path, evaluate=noise_and_weight)
    return path


@pytest.mark.parametrize("stop", [1, 5, 6, 7, 13, 17])
@pytest.mark.parametrize("every", [1, 4, None])
def test_a_stopped_training_ends_with_the_same_bits(stop, every, never_stopped, path):
    options = {"checkpoint": path, "evaluate": noise_and_weight, "checkpoint_every": every}
    with pytest.raises(Stop):
        train(loss_fn=stopping_at(stop), **options)
    train(**options)
    assert same_but_seconds(never_stopped, path)


def test_a_training_resumes_on_the_device_too(path, device):
    whole, history = train(device=device)
    with pytest.raises(Stop):
        train(device=device, checkpoint=path, checkpoint_every=5, loss_fn=stopping_at(8))
    model, resumed = train(device=device, checkpoint=path)
    assert resumed.losses == history.losses
    np.testing.assert_array_equal(
        backend.to_numpy(model.weight._data), backend.to_numpy(whole.weight._data)
    )


def test_a_finished_training_returns_at_once_with_its_weights_and_its_history(path):
    model, history = train(checkpoint=path)
    again, loaded = train(checkpoint=path, loss_fn=stopping_at(0))
    np.testing.assert_array_equal(again.weight._data, model.weight._data)
    assert loaded.losses == history.losses


def test_more_epochs_continue_a_finished_training(path):
    _, whole = train(epochs=4)
    train(epochs=3, checkpoint=path)
    assert train(epochs=4, checkpoint=path)[1].losses == whole.losses


def test_load_model_reads_the_trained_weights(path):
    model, _ = train(checkpoint=path)
    other = Line()
    load_model(path, other)
    np.testing.assert_array_equal(other.weight._data, model.weight._data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"ema": None}, "ema decay is 0.9 there and None here"),
        ({"model": Line(width=2)}, r"weight is \(3, 1\), should be \(2, 1\)"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(change, words, path):
    train(epochs=1, checkpoint=path)
    with pytest.raises(CheckpointError, match=words):
        train(checkpoint=path, **change)


def test_a_checkpoint_that_does_not_fit_changes_nothing(path):
    train(epochs=1, checkpoint=path)
    model = Line()
    # there: "weight", "bias"; here: "0", "1"
    unnamed = AdamW(model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="parameters '0', '1', saved are 'weight', 'bias'"):
        fit(
            model,
            unnamed,
            noisy_loss,
            DataLoader(X, Y, batch_size=4, seed=3),
            1,
            ema=EMA(model, 0.9),
            checkpoint=path,
        )
    assert (model.weight._data == 0).all() and not unnamed.state_dict()["state"]


def test_ctrl_c_saves_a_whole_step_before_leaving(path):
    def loss_fn(model, x, y):
        if len(seen) == 7:
            signal.raise_signal(signal.SIGINT)
        seen.append(0)
        return noisy_loss(model, x, y)

    seen = []
    with pytest.raises(KeyboardInterrupt, match="after step 8 of 18"):
        train(checkpoint=path, loss_fn=loss_fn)
    assert (
        load(path)[1]["step"] == 8 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    assert train(checkpoint=path)[1].losses == train()[1].losses


def test_ctrl_c_pressed_twice_stops_at_once(path):
    def loss_fn(model, x, y):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=path, loss_fn=loss_fn)
    assert not path.exists()


# ── kill -9 ──

START = f"""
import os, sys, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]}
import test_train as t
true, calls = os.fsync, iter(range(1, 1000))
def noted(file):
    print("writing", flush=True)
    if next(calls) == hangs_at:
        time.sleep(600)
    true(file)
def slow_loss(model, x, y):
    time.sleep(0.02)
    return t.noisy_loss(model, x, y)
"""
PROGRAM = """
os.fsync, hangs_at = noted, {hangs_at}
t.train(checkpoint={path!r}, checkpoint_every=2, loss_fn=slow_loss)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    with Prepared(START, tmp_path_factory.mktemp("prepared")) as process:
        yield process


def started(prepared, path, hangs_at=0):
    """(pid, output) of a training in its own process, whose ``hangs_at``-th fsync never returns."""
    return prepared.begin(PROGRAM.format(path=str(path), hangs_at=hangs_at))


def killed(prepared, pid, said):
    os.kill(pid, signal.SIGKILL)  # the process cannot react to this signal
    assert prepared.ended() == -signal.SIGKILL
    said.close()


def finished(path, tmp_path):
    train(checkpoint=path)
    train(checkpoint=tmp_path / "whole")
    return same_but_seconds(path, tmp_path / "whole")


# fsync runs twice per write: for the file, and for its folder
@pytest.mark.parametrize("writes", [1, 2, 4])
def test_a_training_killed_inside_a_write_loses_nothing(writes, prepared, path, tmp_path):
    pid, said = started(prepared, path, hangs_at=2 * writes - 1)
    for _ in range(2 * writes - 1):
        assert said.readline() == "writing\n"
    killed(prepared, pid, said)
    # half a file was left behind
    assert len(list(tmp_path.glob(".run.safetensors.*.partial"))) == 1
    assert path.exists() == (writes > 1) and (
        writes == 1 or load(path)[1]["step"] == 2 * writes - 2
    )
    assert finished(path, tmp_path) and not list(tmp_path.glob("*.partial"))


def test_a_training_killed_at_random_moments_ends_with_the_same_bits(prepared, path, tmp_path):
    moments = random.Random(5)
    for _ in range(4):
        pid, said = started(prepared, path)
        said.readline()  # returns after the first write
        time.sleep(moments.uniform(0, 0.1))
        killed(prepared, pid, said)
        if path.exists():
            load(path)  # the file is complete at any moment
    assert finished(path, tmp_path)


# ── Loaders and metrics of users ──


class CountedLoader:
    """A loader with 3 batches per epoch that yields ``gives`` batches, whatever the start."""

    def __init__(self, gives, **says):
        self.gives = gives
        vars(self).update({"samples": 12, "batch_size": 4} | says)

    def __len__(self):
        return 3

    def epoch(self, number, start=0):
        return iter([(X[:4], Y[:4])] * (self.gives - start))


def fit_with(loader, epochs=2, **options):
    model = Line()
    return fit(
        model,
        SGD(model.parameters(), lr=0.1),
        noisy_loss,
        loader,
        epochs,
        progress=False,
        **options,
    )


@pytest.mark.parametrize("gives", [0, 1, 2, 4, 9])
def test_a_loader_that_yields_more_or_fewer_batches_than_its_length_is_refused(gives):
    gave = gives if gives < 3 else "more than 3"
    with pytest.raises(
        RuntimeError,
        match=rf"epoch\(0, 0\) of the CountedLoader gave {gave} batches; with a length of 3",
    ):
        fit_with(CountedLoader(gives))
    assert len(fit_with(CountedLoader(3)).losses) == 6


def test_a_loader_that_ignores_start_is_refused_when_resuming(path):
    class IgnoresStart(CountedLoader):
        def epoch(self, number, start=0):
            return super().epoch(number)

    with pytest.raises(RuntimeError, match="gave 2 batches"):
        fit_with(CountedLoader(2), 1, checkpoint=path, checkpoint_every=1)
    with pytest.raises(RuntimeError, match="gave more than 1 batches"):
        fit_with(IgnoresStart(3, samples=12), 1, checkpoint=path)


@pytest.mark.parametrize(
    "says",
    [
        {"samples": np.int64(12)},
        {"batch_size": np.array(4)},
        {"shuffle": np.True_},
        {"seed": np.uint64(2**63)},
    ],
)
def test_a_loader_whose_attributes_are_numpy_numbers_can_be_saved_and_resumed(says, path):
    fit_with(CountedLoader(3, **says), 1, checkpoint=path)
    assert len(fit_with(CountedLoader(3, **says), 2, checkpoint=path).losses) == 6


def test_a_loader_that_json_cannot_describe_is_refused_before_the_first_step(path):
    loader = CountedLoader(3, seed=np.random.default_rng(0))
    with pytest.raises(TypeError, match="loader's seed is Generator.* must be a number, a word"):
        fit_with(loader, checkpoint=path)
    assert len(fit_with(loader).losses) == 6 and not path.exists()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ({"epoch": 0.5}, ValueError, 'the name "epoch" is taken'),
        ({1: 0.5}, TypeError, "1 is one of the names"),
        ({"a": 1j}, TypeError, "a is 1j"),
        ({"a": np.array(1j)}, TypeError, "a is array"),
        ({"a": 10**400}, ValueError, "no float can hold"),
        ({"a": None}, TypeError, "a is None"),
    ],
)
def test_metrics_that_a_checkpoint_could_not_restore_are_refused(answer, error, words, path):
    with pytest.raises(error, match=f"evaluate must return a dict of numbers by name; .*{words}"):
        train(1, evaluate=lambda _: answer, checkpoint=path)


NUMBERS = st.one_of(
    st.floats(),
    st.integers(-(2**80), 2**80),
    st.booleans(),
    st.floats(width=32).map(np.float32),
    st.floats(width=32).map(Tensor),
    st.floats(width=16).map(lambda x: np.array([x], np.float16)),
)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "epoch"), NUMBERS, max_size=3)
)
def test_accepted_metrics_can_be_resumed(tmp_path_factory, answer):
    path = tmp_path_factory.mktemp("metrics") / "c"
    there = train(1, evaluate=lambda _: answer, checkpoint=path)[1].metrics
    again = train(1, evaluate=lambda _: answer, checkpoint=path)[1].metrics
    # compared as strings, because NaN != NaN
    assert str(again) == str(there) and set(there[0]) == {"epoch", *answer}
