"""Steps recorded as CUDA graphs: what may not be in one is refused in words; what must be sent or counted, is.

Whether a replay does what the step does, only a GPU can tell: tests/gpu. Here the double plays a GPU whose graph is the
function itself, called again.
"""
from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinycv
from tinycv import nn, optim
from tinycv.engine import backend, capture, capturing


@pytest.fixture
def graphs(double, monkeypatch):
    """Streams that capture: what is done while they do is done once, and again at every launch but the first."""
    made = []

    class Graph:
        def __init__(self, again):
            self.again, self.launches = again, 0

        def launch(self):
            self.launches += 1
            if self.launches > 1:
                self.again()

    def end(stream):
        made.append(Graph(stream.again))
        return made[-1]
    stream = double.cuda.Stream
    monkeypatch.setattr(stream, "begin_capture", lambda self: None, raising=False)
    monkeypatch.setattr(stream, "end_capture", end, raising=False)
    monkeypatch.setattr(stream, "again", lambda self: None, raising=False)
    return made


def moved(x):
    return tinycv.Tensor(np.asarray(x, "float32"), device="gpu")


def test_on_the_cpu_a_captured_function_is_the_function():
    step = tinycv.captured(lambda x, k: x * k)
    assert step(tinycv.tensor([1.0, 2.0]), 3).numpy().tolist() == [3, 6] and not step.recordings


def test_without_a_tensor_the_device_must_be_said(double):
    with pytest.raises(ValueError, match=r"captured\(function, device\)"):
        tinycv.captured(lambda: 1)()
    assert tinycv.captured(lambda: 1, "cpu")() == 1


def test_it_runs_three_times_is_recorded_and_then_launched(graphs):
    calls = []

    def step(x):
        calls.append(x.shape)
        return x + 1
    captured = tinycv.captured(step)
    for i in range(6):
        result = captured(moved([i, i]))
        assert len(calls) == min(i + 1, 4) and result.shape == (2,)
    assert graphs[0].launches == 3
    captured(moved([1.0]))
    assert calls[-1] == (1,) and len(captured.recordings) == 1      # other shapes begin anew


def test_arguments_are_copied_to_the_recorded_ones_and_results_are_copies(graphs):
    captured = tinycv.captured(lambda x: {"y": (x, [x.detach()])})
    for i in range(5):
        found = captured(moved([i]))
    recording = next(iter(captured.recordings.values()))
    assert recording.inputs[0].numpy().tolist() == [4]
    assert found["y"][0].numpy().tolist() == [4] and found["y"][0]._data is not recording.inputs[0]._data
    captured(moved([9]))
    assert found["y"][0].numpy().tolist() == [4]


REFUSED = {
    "item": lambda x: x.sum().item(), "float": lambda x: float(x.sum()), "if": lambda x: bool(x.sum() > 0),
    "numpy": lambda x: x.numpy(), "from the host": lambda x: x + tinycv.Tensor(np.ones(2, "float32"), device="gpu"),
    "index": lambda x: x[np.array([0, 1])], "list": lambda x: x[[0, 1]], "seed": lambda x: tinycv.manual_seed(1),
    "host noise": lambda x: tinycv.randn(2), "new noise": lambda x: backend.standard_normal((2,), x._data),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_python_would_do_once_is_refused_in_words(graphs, name):
    captured = tinycv.captured(REFUSED[name])
    x = moved([1.0, 2.0])
    for _ in range(3):
        backend.manual_seed(0)
        captured(x)
    backend.manual_seed(0)
    with pytest.raises(RuntimeError, match="cannot be part of a step that tinycv.captured records.*: ") as caught:
        captured(x)
    assert "capture.py" in caught.value.__notes__[0] and capturing.current() is None
    assert not captured.recordings


def test_a_table_of_the_host_is_kept(graphs):
    table = np.arange(3, dtype="float32")
    captured = tinycv.captured(lambda x: x + tinycv.Tensor(backend.constant(backend.array_module(x._data), table)))
    for _ in range(5):
        assert captured(moved([1.0, 1, 1])).numpy().tolist() == [1, 2, 3]
    assert len(next(iter(captured.recordings.values())).kept) == 1


class Recorder(SimpleNamespace):
    """A Recording without a graph."""

    def __init__(self):
        super().__init__(changes=[], seen=[])

    before_launch, depends, stands = (vars(capture.Recording)[name] for name in ("before_launch", "depends", "stands"))

    def room(self, size, dtype):
        return sys.modules["cupy"].empty(size, dtype)


def recorded(make):
    """An optimiser of two parameters with gradients, whose step was recorded; and the recorder."""
    parameters = [nn.Parameter(moved([1.0, 2.0])), nn.Parameter(moved([[3.0]]))]
    for p in parameters:
        p.grad = moved(np.full(p.shape, 0.5))
    optimizer, recorder = make(parameters), Recorder()
    with capturing.by(recorder):
        optimizer.step()
    return optimizer, recorder


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW])
def test_adam_is_counted_and_its_options_are_sent_before_every_launch(double, make):
    """The recorded kernel, launched by hand, must do what the same steps do that nobody recorded."""
    optimizer, recorder = recorded(lambda ps: make(ps, lr=0.1, weight_decay=0.1))
    twin, _ = recorded(lambda ps: make(ps, lr=0.1, weight_decay=0.1))
    sent = []
    for factor in (1, 1, 0.5):
        optimizer.param_groups[0]["lr"] = 0.1 * factor
        for change in recorder.changes:
            change()
        sent.append(optimizer.state_dict()["state"]["0"]["step"])
    assert sent == [1, 2, 3] and recorder.stands() and twin.state_dict()["state"]["0"]["step"] == 1


def test_settings_that_were_sent_are_read_in_place_of_those_given(double):
    from tinycv import optim_cuda
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    ended = []
    for sending in (False, True):
        p, g, m, v = (double.full(5, value, "float32") for value in (1.0, 0.5, 0.0, 0.0))
        sent = double.empty(8, "float64") if sending else None
        if sending:
            optim_cuda.send(m, sent, 3, decoupled=True, **options)
        wrong = options | {"lr": 9.0, "betas": (0.1, 0.1), "weight_decay": 5.0}
        optim_cuda.adam(double, [p], [g], [0], m, v, 7 if sending else 3, sent, decoupled=not sending,
                        **(wrong if sending else options))
        ended.append([a.get() for a in (p, m, v)])
    for a, b in zip(*ended, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_optimisers_recording_stands_while_its_options_do(double):
    optimizer, recorder = recorded(lambda ps: optim.SGD(ps, lr=0.1))
    assert recorder.stands() and not recorder.changes
    optimizer.param_groups[0]["lr"] = 0.2
    assert not recorder.stands()


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_recording_does_not_stand_once_a_parameter_lies_elsewhere(double, make):
    optimizer, recorder = recorded(lambda ps: make(ps, lr=0.1))
    parameter = optimizer.parameters()[0]
    parameter.data = parameter._data.copy()
    assert not recorder.stands()


def test_adam_of_a_parameter_in_pieces_is_refused(double):
    parameter = nn.Parameter(tinycv.Tensor(double.ones((4, 4), "float32")[:, ::2]))
    parameter.grad = tinycv.Tensor(double.ones((4, 2), "float32"))
    optimizer = optim.Adam([parameter])
    with pytest.raises(RuntimeError, match="one piece of memory"), capturing.by(Recorder()):
        optimizer.step()
