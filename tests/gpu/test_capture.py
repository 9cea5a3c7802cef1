"""Training steps recorded as CUDA graphs: what is refused, sent before a launch, or counted.

Only a real GPU can show that a replay computes the same as the step: see tests/card. Here the
double of CuPy stands in for a GPU, and its graph is the function itself, which is called again.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import nn, optim
from tinycv.adversarial import turns
from tinycv.engine import backend, capturing
from tinycv.gpu import adam, capture, recording
from tinycv.nn.spectral_norm import SpectralNorm
from tinycv.optim.averaged import EMA


@pytest.fixture
def graphs(double, monkeypatch):
    """Streams that capture: what is done while they do is done once, and again at every launch but
    the first."""
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


def test_without_a_tensor_argument_a_device_is_required(double):
    with pytest.raises(ValueError, match=r"captured\(function, device\)"):
        tinycv.captured(lambda: 1)()
    assert tinycv.captured(lambda: 1, "cpu")() == 1


@pytest.mark.parametrize("wrong", [None, "step", 3])
def test_an_argument_that_is_not_a_function_is_refused_at_once(wrong):
    with pytest.raises(TypeError, match=f"captured takes a function, not {type(wrong).__name__}"):
        tinycv.captured(wrong)


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
    assert calls[-1] == (1,) and len(captured.recordings) == 1  # other shapes are recorded again


def test_arguments_are_copied_to_the_recorded_ones_and_results_are_copies(graphs):
    captured = tinycv.captured(lambda x: {"y": (x, [x.detach()])})
    for i in range(5):
        found = captured(moved([i]))
    recording = next(iter(captured.recordings.values()))
    assert recording.inputs[0].numpy().tolist() == [4]
    assert (
        found["y"][0].numpy().tolist() == [4]
        and found["y"][0]._data is not recording.inputs[0]._data
    )
    captured(moved([9]))
    assert found["y"][0].numpy().tolist() == [4]


REFUSED = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "if": lambda x: bool(x.sum() > 0),
    "numpy": lambda x: x.numpy(),
    "from the host": lambda x: x + tinycv.Tensor(np.ones(2, "float32"), device="gpu"),
    "index": lambda x: x[np.array([0, 1])],
    "list": lambda x: x[[0, 1]],
    "seed": lambda x: tinycv.manual_seed(1),
    "host noise": lambda x: tinycv.randn(2),
    "new noise": lambda x: backend.standard_normal((2,), x._data),
}


@pytest.mark.parametrize("name", REFUSED)
def test_python_actions_that_would_not_be_repeated_are_refused_with_an_explanation(graphs, name):
    captured = tinycv.captured(REFUSED[name])
    x = moved([1.0, 2.0])
    for _ in range(3):
        backend.manual_seed(0)
        captured(x)
    backend.manual_seed(0)
    with pytest.raises(
        RuntimeError, match="cannot be part of a step that tinycv.captured records.*: "
    ) as caught:
        captured(x)
    assert "capture.py" in caught.value.__notes__[0] and capturing.current() is None
    assert not captured.recordings


def test_a_table_copied_from_the_host_is_kept(graphs):
    table = np.arange(3, dtype="float32")
    captured = tinycv.captured(
        lambda x: x + tinycv.Tensor(backend.constant(backend.array_module(x._data), table))
    )
    for _ in range(5):
        assert captured(moved([1.0, 1, 1])).numpy().tolist() == [1, 2, 3]
    assert len(next(iter(captured.recordings.values())).kept) == 1


class Recorder(recording.Notes):
    """A Recording without a graph."""

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
def test_adam_counts_its_steps_and_sends_its_options_before_every_launch(double, make):
    """The recorded kernel, launched by hand, must do what the same steps do that nobody
    recorded."""
    optimizer, recorder = recorded(lambda ps: make(ps, lr=0.1, weight_decay=0.1))
    twin, _ = recorded(lambda ps: make(ps, lr=0.1, weight_decay=0.1))
    sent = []
    for factor in (1, 1, 0.5):
        optimizer.param_groups[0]["lr"] = 0.1 * factor
        for change in recorder.changes:
            change()
        sent.append(optimizer.state_dict()["state"]["0"]["step"])
    assert sent == [1, 2, 3] and recorder.stands() and twin.state_dict()["state"]["0"]["step"] == 1


def test_sent_settings_replace_those_of_the_call(double):
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    ended = []
    for sending in (False, True):
        p, g, m, v = (double.full(5, value, "float32") for value in (1.0, 0.5, 0.0, 0.0))
        sent = double.empty(8, "float64") if sending else None
        if sending:
            adam.adamw.send(m, sent, 3, **options)
        wrong = options | {"lr": 9.0, "betas": (0.1, 0.1), "weight_decay": 5.0}
        rule = adam.adam if sending else adam.adamw
        rule(
            double,
            [p],
            [g],
            [0],
            m,
            v,
            7 if sending else 3,
            sent,
            **(wrong if sending else options),
        )
        ended.append([a.get() for a in (p, m, v)])
    for a, b in zip(*ended, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_recording_with_sgd_is_valid_while_its_options_stay_the_same(double):
    optimizer, recorder = recorded(lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9))
    # the first step differs: its momentum is g itself
    assert not recorder.stands()
    recorder = Recorder()
    with capturing.by(recorder):
        optimizer.step()
    for counted in (2, 3, 4):
        recorder.changes[0]()
        assert recorder.stands() and optimizer.state_dict()["state"]["0"]["step"] == counted
    optimizer.param_groups[0]["lr"] = 0.2
    assert not recorder.stands()


def test_a_recorded_step_without_momentum_is_not_counted(double):
    optimizer, recorder = recorded(lambda ps: optim.SGD(ps, lr=0.1))
    for _ in range(3):
        recorder.changes[0]()
        assert recorder.stands() and optimizer.state_dict()["state"] == {}
    optimizer.param_groups[0]["momentum"] = 0.9
    assert not recorder.stands()


def test_a_rule_that_reads_its_step_number_is_recorded_again(double):
    class Slower(optim.Optimizer):
        definition = staticmethod(lambda p, g, step, lr: (p - lr / step * g,))

    optimizer, recorder = recorded(lambda ps: Slower(ps, {"lr": 0.1}))
    assert not recorder.stands()


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_recording_is_invalid_once_a_parameter_has_another_array(double, make):
    optimizer, recorder = recorded(lambda ps: make(ps, lr=0.1))
    parameter = optimizer.parameters()[0]
    parameter.data = parameter._data.copy()
    assert not recorder.stands()


def test_recording_adam_for_a_parameter_that_is_not_contiguous_is_refused(double):
    parameter = nn.Parameter(tinycv.Tensor(double.ones((4, 4), "float32")[:, ::2]))
    parameter.grad = tinycv.Tensor(double.ones((4, 2), "float32"))
    optimizer = optim.Adam([parameter])
    with pytest.raises(RuntimeError, match="contiguous in memory"), capturing.by(Recorder()):
        optimizer.step()


# ── what Python keeps, and a launch forgets ───────────────────────────────────────────────────────


def weights(*values):
    return nn.Parameter(moved(values))


def test_gradients_of_a_launch_can_be_used_by_a_step_outside(graphs):
    p = weights(1.0, 2.0)
    optimizer = optim.SGD([p], lr=0.1)
    forward = tinycv.captured(lambda x: (p * x).sum().backward())
    for i in range(6):
        forward(moved([1.0, 2.0]))
        assert p.grad is not None and len(forward.recordings) == (i >= 3)
        optimizer.step()
        optimizer.zero_grad()
    assert np.allclose(p.numpy(), [0.4, 0.8]) and len(graphs) == 1


def test_a_step_that_adds_to_earlier_gradients_is_refused(graphs):
    p = weights(1.0, 2.0)
    forward = tinycv.captured(lambda x: (p * x).sum().backward())
    for _ in range(3):
        forward(moved([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="from before the step"):
        forward(moved([1.0, 2.0]))


def test_a_gradient_that_was_not_there_when_it_was_recorded_is_added_to(graphs):
    p = weights(1.0, 2.0)
    forward = tinycv.captured(lambda x: (p * x).sum().backward())
    for _ in range(4):
        p.grad = None
        forward(moved([1.0, 2.0]))
    forward(moved([1.0, 2.0]))
    assert p.grad.numpy().tolist() == [2, 4]


@pytest.mark.parametrize("last", [False, True])
def test_a_step_that_clears_its_gradients_is_recorded_once(graphs, last):
    p = weights(1.0, 2.0)
    optimizer = optim.Adam([p], lr=0.1)

    def step(x):
        if not last:
            optimizer.zero_grad()
        for _ in range(2):  # gradients are added up in here
            (p * x).sum().backward()
        optim.clip_grad_norm_([p], 1.0)
        optimizer.step()
        if last:
            optimizer.zero_grad()

    captured = tinycv.captured(step)
    for _ in range(7):
        captured(moved([1.0, 2.0]))
        assert (p.grad is None) == last
    assert len(graphs) == 1 and graphs[0].launches == 4
    assert optimizer.state_dict()["state"]["0"]["step"] == 7


def test_a_step_that_reads_outside_gradients_is_never_launched_with_old_ones(graphs):
    p = weights(1.0, 2.0)
    optimizer = optim.SGD([p], lr=0.1)
    step = tinycv.captured(optimizer.step, "gpu")
    for _ in range(8):
        p.grad = moved([1.0, 1.0])
        step()
    assert np.allclose(p.numpy(), [0.2, 1.2]) and all(graph.launches == 1 for graph in graphs)


def test_gradients_of_arguments_reach_the_arguments(graphs):
    captured = tinycv.captured(lambda x: (x * x).sum().backward())
    for _ in range(6):
        x = tinycv.Tensor(moved([1.0, 2.0]), requires_grad=True)
        captured(x)
        assert x.grad.numpy().tolist() == [2, 4]
    assert len(graphs) == 1


@pytest.mark.parametrize("change", ["cast and back", "loaded twice", "frozen", "eval"])
def test_a_changed_module_is_recorded_again(graphs, change):
    layer = nn.Linear(2, 2).to("gpu")
    answer, state = tinycv.captured(lambda x: layer(x).detach()), None
    for _ in range(4):
        answer(moved([[1.0, 2.0]]))
    if change == "cast and back":
        layer.to("cpu").to("gpu")
    # so that the first array's place may be taken again
    elif change == "loaded twice":
        state = {name: t.numpy() + 1 for name, t in layer.state_dict().items()}
        layer.load_state_dict(state)
        layer.load_state_dict(state)
    elif change == "frozen":
        layer.requires_grad_(False)
    else:
        layer.eval()
    expected = layer(moved([[1.0, 2.0]])).numpy()
    for _ in range(3):
        assert np.array_equal(answer(moved([[1.0, 2.0]])).numpy(), expected)
    assert len(graphs) == 2 and graphs[0].launches == 1 and graphs[1].launches == 2


def test_the_averaged_weights_that_are_selected_are_used(graphs):
    layer = nn.Linear(2, 2).to("gpu")
    ema, answer = EMA(layer), tinycv.captured(lambda x: layer(x).detach())
    for _ in range(4):
        answer(moved([[1.0, 2.0]]))
    layer.weight._data[...] += 1
    x = moved([[1.0, 2.0]])
    with ema.applied():
        assert np.array_equal(answer(x).numpy(), layer(x).numpy())


def test_a_seed_set_between_launches_takes_effect(graphs):
    draw = tinycv.captured(
        lambda: tinycv.Tensor(backend.standard_normal((3,), sys.modules["cupy"])), "gpu"
    )
    tinycv.manual_seed(7)
    first = draw().numpy()
    for _ in range(3):
        draw()
    assert len(graphs) == 1
    tinycv.manual_seed(7)
    assert np.array_equal(draw().numpy(), first)


ARRAYS = {
    "t.data": lambda p, x: setattr(p, "data", p.data - 0.1 * x.data),
    "given": lambda p, x: setattr(p, "data", x.data),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_giving_a_tensor_another_array_is_refused(graphs, name):
    p = weights(1.0, 2.0)
    captured = tinycv.captured(lambda x: ARRAYS[name](p, x))
    for _ in range(3):
        captured(moved([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="t.data = another array"):
        captured(moved([1.0, 2.0]))


def test_changing_a_tensor_in_its_own_memory_is_allowed(graphs):
    p = weights(1.0, 2.0)

    def step(x):
        p.data -= x.data

    captured = tinycv.captured(step)
    for _ in range(5):
        captured(moved([1.0, 2.0]))
    assert len(graphs) == 1


def test_an_argument_changed_in_place_is_refused(graphs):
    def step(x):
        x *= 2

    captured = tinycv.captured(step)
    for _ in range(3):
        captured(moved([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="an argument was changed in place"):
        captured(moved([1.0, 2.0]))


def test_arguments_that_a_recording_cannot_take_are_refused_at_the_first_call(graphs):
    p, x = weights(1.0, 2.0), moved([1.0, 2.0])
    captured = tinycv.captured(lambda *args: None)
    for args, error, words in (
        ((p * 2,), ValueError, "has a history"),
        ((x, tinycv.tensor([1.0])), ValueError, "lie on"),
        ((x, (x, x)), TypeError, "in a tuple"),
        ((x, [1]), TypeError, "plain values, not list"),
    ):
        with pytest.raises(error, match=words):
            captured(*args)
    with tinycv.no_grad():
        captured(p * 2)
    assert not captured.recordings


def test_equal_numbers_of_different_types_are_different_arguments(graphs):
    captured = tinycv.captured(lambda x, k: x * k)
    x = tinycv.Tensor(np.array([1, 2]), device="gpu")
    for k in (1, 1.0):
        for _ in range(5):
            assert captured(x, k).dtype == (x * k).dtype
    for _ in range(5):
        captured(x, float("nan"))
    assert len(captured.recordings) == 3


def test_a_result_with_a_history_says_from_the_first_call_on_that_it_has_none(graphs):
    p = weights(1.0, 2.0)
    captured = tinycv.captured(lambda x: p * x)
    for _ in range(5):
        y = captured(moved([1.0, 2.0]))
        with pytest.raises(RuntimeError, match="what a captured function returned"):
            (y * weights(1.0, 1.0)).sum().backward()


def test_bare_arrays_are_copied_too_and_other_objects_are_refused(graphs):
    captured = tinycv.captured(lambda x: (x._data, 3, None))
    found = [captured(moved([i]))[0] for i in range(6)]
    assert [int(a[0].get()) for a in found] == list(range(6))
    with pytest.raises(TypeError, match="returned a object"):
        tinycv.captured(lambda x: object())(moved([1.0]))


def test_two_steps_in_one_function_are_counted_one_by_one(double, monkeypatch):
    p = weights(1.0, 2.0)
    optimizer, recorder, sent = optim.Adam([p], lr=0.1), Recorder(), []
    p.grad = moved([1.0, 1.0])
    monkeypatch.setattr(
        adam.Rule, "send", lambda rule, state, array, step, **options: sent.append(step)
    )
    with capturing.by(recorder):
        optimizer.step()
        optimizer.step()
    for _ in range(2):
        for change in recorder.changes:
            change()
    assert sent == [1, 2, 3, 4]


def test_steps_made_outside_invalidate_a_recording(double):
    optimizer, recorder = recorded(lambda ps: optim.Adam(ps, lr=0.1))
    first, second = optimizer.parameters()
    kept, first.grad = first.grad, None
    optimizer.step()  # of the second alone
    first.grad = kept
    assert not recorder.stands()


def test_buffers_of_spectral_norm_in_a_held_network_keep_their_memory(double):
    network = SpectralNorm(nn.Linear(2, 3)).to("gpu")
    before = [(t, t._data, t.numpy()) for t in (network.u, network.v)]
    with turns.restore_buffers(network):
        network(moved([[1.0, 2.0]]))
    for t, array, values in before:
        assert t._data is array and np.array_equal(t.numpy(), values)


@pytest.mark.parametrize("how", [lambda f: f, nn.checkpoint])
def test_a_recorded_step_updates_the_state_of_layers_like_a_normal_one(graphs, how):
    nets, x = [], np.random.default_rng(0).normal(size=(5, 3)).astype("f")
    for captured in (False, True):
        tinycv.manual_seed(0)
        net = nn.Sequential(nn.BatchNorm1d(3), SpectralNorm(nn.Linear(3, 2))).to("gpu")

        def step(x, net=net):
            net.zero_grad()
            (how(net)(x) ** 2).sum().backward()

        run = tinycv.captured(step) if captured else step
        for _ in range(capture.WARM + 1):
            run(moved(x))
        nets.append(net)
    assert len(graphs) == 1 and nets[1][0].num_batches_tracked.item() == capture.WARM + 1
    for a, b in zip(*(net.state_dict().values() for net in nets), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        near(a.grad.numpy(), b.grad.numpy())


def test_buffers_that_were_moved_or_cast_are_followed_by_their_averages(double):
    norm = nn.BatchNorm1d(2)
    ema = EMA(norm)
    for target in ("gpu", "float64", "cpu"):
        norm.to(target)
        norm(
            tinycv.Tensor(
                backend.to_device(np.arange(6.0).reshape(3, 2), norm.weight.device),
                dtype=norm.weight.dtype,
            )
        )
        ema.update()
        kept = ema.state_dict()["running_mean"]
        assert (
            kept.dtype == norm.running_mean.dtype
            and backend.device_of(kept) == norm.running_mean.device
        )
        assert np.array_equal(backend.to_numpy(kept), norm.running_mean.numpy())


def test_a_leaf_made_in_the_step_does_not_cause_another_recording(graphs):
    def step(x):
        inner, other = tinycv.Tensor(x, requires_grad=True), x.detach()
        other.requires_grad = True
        (inner * other).sum().backward()
        return inner.grad + other.grad

    captured = tinycv.captured(step)
    for _ in range(6):
        assert captured(moved([1.0, 2.0])).numpy().tolist() == [2, 4]
    assert len(graphs) == 1
