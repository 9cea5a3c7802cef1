"""Optimisers compared with the rules of their papers in plain float64; learning-rate schedules,
clipping, EMA."""

import pickle

import cupy_double
import numpy as np
import pytest

from tinycv.engine.backend import to_device, to_numpy
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.module import Module
from tinycv.optim import (
    SGD,
    Adam,
    AdamW,
    clip_grad_norm_,
    constant,
    slab,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_linear,
)
from tinycv.optim import optimizer as shared
from tinycv.optim.averaged import EMA

SHAPES = [(3, 4), (5,), (), (2, 3, 4)]
STEPS = 20


class Net(Module):
    def __init__(self, device="cpu", dtype=np.float32):
        rng = np.random.default_rng(0)
        self.weight = Parameter(to_device(rng.standard_normal((3, 4)).astype(dtype), device))
        self.bias = Parameter(to_device(rng.standard_normal(4).astype(dtype), device))
        self.count = Tensor(np.array(7.0, dtype), device=device)


def parameters(device="cpu", dtype=np.float64):
    rng = np.random.default_rng(1)
    return [
        Parameter(to_device(np.asarray(rng.standard_normal(shape), dtype), device))
        for shape in SHAPES
    ]


def give_gradients(params, step):
    rng = np.random.default_rng([2, step])
    for p in params:
        g = np.asarray(rng.standard_normal(p.shape) * 10.0 ** rng.uniform(-3, 2), p.dtype)
        p.grad = Tensor(to_device(g, p.device))


def values(params):
    return [to_numpy(p._data).copy() for p in params]


# ── The rules as in the papers ──


def sgd(w, gradients, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """momentum: one number, or one per step; b is created at the first step where it is not 0."""
    b = None
    for g, m in zip(gradients, np.broadcast_to(momentum, len(gradients)), strict=True):
        g = g + weight_decay * w
        if m:
            b = g if b is None else m * b + (1 - dampening) * g
        w = w - lr * ((g + m * b if nesterov else b) if m else g)
    return w


def adam(w, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m = v = 0
    for t, g in enumerate(gradients, 1):
        if decoupled:
            w = w - lr * weight_decay * w
        else:
            g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


RULES = [
    (SGD, sgd, {"lr": 0.1}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    (Adam, adam, {}),
    (Adam, adam, {"lr": 0.01, "betas": (0.5, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, lambda w, g, **o: adam(w, g, decoupled=True, **{"weight_decay": 1e-2, **o}), {}),
    (AdamW, lambda w, g, **o: adam(w, g, decoupled=True, **o), {"lr": 0.05, "weight_decay": 0.2}),
]


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize(("kind", "rule", "options"), RULES)
def test_twenty_steps_follow_the_rule(kind, rule, options, dtype, rtol, device):
    params = parameters(device, dtype)
    optimizer, start, gradients = kind(params, **options), values(params), []
    for step in range(STEPS):
        give_gradients(params, step)
        gradients.append([to_numpy(p.grad._data).astype(np.float64) for p in params])
        optimizer.step()
    for i, (p, w) in enumerate(zip(values(params), start, strict=True)):
        expected = rule(w.astype(np.float64), [g[i] for g in gradients], **({"lr": 1e-3} | options))
        np.testing.assert_allclose(p, expected, rtol=rtol, atol=rtol * np.abs(w).max())


MOMENTA = {
    "late": [0, 0, 0.9, 0.9],
    "off again": [0.9, 0.9, 0, 0.9],
    "on, off, on": [0, 0.5, 0, 0.9],
    "last": [0, 0, 0, 0.9],
    "never": [0, 0, 0, 0],
    "always": [0.9, 0.5, 0.3, 0.1],
}


@pytest.mark.parametrize("how", ["in one go", "saved", "pickled", "moved"])
@pytest.mark.parametrize("make", ["kernel", "definition"])
@pytest.mark.parametrize("momenta", MOMENTA)
def test_momentum_may_be_switched_on_and_off(momenta, make, how, device):
    """At the first step with momentum, whenever that is, b is g itself."""
    momenta, options = MOMENTA[momenta], {"lr": 0.1, "dampening": 0.5, "weight_decay": 0.01}
    kind = SGD if make == "kernel" else by_definition(SGD)
    params = parameters(device, np.float64)
    optimizer, start, gradients = kind(params, **options), values(params), []
    for step, momentum in enumerate(momenta):
        optimizer.param_groups[0]["momentum"] = momentum
        give_gradients(params, step)
        gradients.append([to_numpy(p.grad._data).copy() for p in params])
        optimizer.step()
        if how == "saved":
            state, optimizer = optimizer.state_dict(), kind(params, **options)
            optimizer.load_state_dict(state)
        elif how == "pickled" and make == "kernel":
            optimizer = pickle.loads(pickle.dumps(optimizer))
            params = optimizer.parameters()
        elif how == "moved":
            params[0].data = params[0]._data.copy()
    for i, (p, w) in enumerate(zip(values(params), start, strict=True)):
        wanted = sgd(w, [g[i] for g in gradients], momentum=momenta, **options)
        np.testing.assert_allclose(p, wanted, rtol=1e-12)
    state = optimizer.state_dict()["state"]
    assert {entry["step"] for entry in state.values()} == (
        {np.count_nonzero(momenta)} if any(momenta) else set()
    )


@pytest.mark.parametrize(
    ("momentum", "buffer", "first"),
    [(0.0, 0.0, 1.0), (0.0, 2.0, 0.9 * 2 + 0.5), (0.9, 0.0, 0.5), (0.9, 2.0, 0.9 * 2 + 0.5)],
)
def test_a_state_with_step_counts_but_no_momentum_loads(momentum, buffer, first):
    """A saved buffer of zeros counts as used only if the saved momentum is not 0."""
    p = Parameter(np.ones(1))
    optimizer = SGD([p], lr=0.1, momentum=momentum, dampening=0.5)
    optimizer.load_state_dict(
        optimizer.state_dict()
        | {"state": {"0": {"step": 2, "momentum_buffer": np.full(1, buffer)}}}
    )
    optimizer.param_groups[0]["momentum"] = 0.9
    p.grad = Tensor(np.ones(1))
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), 1 - 0.1 * first)


def test_parameters_cast_to_one_dtype_train_on():
    ps = [Parameter(np.ones(2, np.float32)), Parameter(np.ones(3))]
    optimizer = SGD(ps, lr=0.5, momentum=0.9)
    for dtype in (None, np.float64, np.float32):
        for p in ps:
            p.data = p._data if dtype is None else p._data.astype(dtype)
            p.grad = Tensor(np.ones_like(p._data))
        optimizer.step()
    for p in ps:
        np.testing.assert_allclose(p.numpy(), 1 - 0.5 * (1 + 1.9 + 2.71), rtol=1e-6)


def by_definition(kind):
    return type(kind.__name__, (kind,), {"run": vars(shared.Optimizer)["run"]})


@pytest.mark.parametrize(("block", "large"), [(1 << 18, 1 << 15), (7, 4)])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize(("kind", "rule", "options"), RULES)
def test_kernel_and_definition_agree(
    kind, rule, options, dtype, rtol, block, large, device, monkeypatch
):
    monkeypatch.setattr(shared, "BLOCK", block)
    monkeypatch.setattr(slab, "LARGE", large)
    assert "run" in vars(kind), "it has its own kernel"
    sides = [
        (params := parameters(device, dtype), make(params, **options))
        for make in (kind, by_definition(kind))
    ]
    for step in range(STEPS):
        for params, optimizer in sides:
            give_gradients(params, step)
            given = values([p.grad for p in params])
            optimizer.step()
            # the rule does not change the gradients
            np.testing.assert_equal(values([p.grad for p in params]), given)
    kernel, definition = (
        [
            *values(params),
            *(
                to_numpy(entry[name])
                for entry in optimizer.state_dict()["state"].values()
                for name in kind.arrays
            ),
        ]
        for params, optimizer in sides
    )
    for a, b in zip(kernel, definition, strict=True):
        assert a.dtype == b.dtype == dtype
        # SGD without momentum has no state
        if options.get("momentum") or kind is not SGD or a.any():
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_a_large_noncontiguous_parameter_is_changed_in_place(monkeypatch):
    monkeypatch.setattr(slab, "LARGE", 4)
    memory = np.arange(12, dtype=np.float32).reshape(4, 3)
    for array in (memory, memory.T):
        p, start = Parameter(array), memory.copy()
        p.grad = Tensor(np.ones_like(array))
        SGD([p, Parameter(np.ones(2, np.float32))], lr=0.5).step()
        assert p._data is array
        np.testing.assert_array_equal(memory, start - 0.5)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_step_never_waits_for_the_gpu(kind, double):
    params = parameters("gpu:0", np.float32)
    optimizer = kind(params, lr=0.1)
    give_gradients(params, 0)
    with cupy_double.counting() as waits:
        clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert waits.count == 0


def test_a_parameter_without_gradient_stays_and_its_steps_are_not_counted():
    params, twins = parameters(), parameters()
    optimizer, optimizer_of_one = Adam(params, lr=0.1), Adam([twins[1]], lr=0.1)
    for step in range(6):
        give_gradients(params, step)
        twins[1].grad = params[1].grad
        if step in (0, 3, 4):
            params[1].grad = twins[1].grad = None
        optimizer.step()
        optimizer_of_one.step()
    np.testing.assert_array_equal(params[1]._data, twins[1]._data)
    assert (
        optimizer.state_dict()["state"]["1"]["step"] == 3
        and optimizer.state_dict()["state"]["0"]["step"] == 6
    )


def test_groups_have_their_own_options():
    params = parameters()
    before = values(params)
    optimizer = AdamW(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.0, "weight_decay": 0.0}], lr=0.1
    )
    give_gradients(params, 0)
    optimizer.step()
    changed = [bool((a != b).any()) for a, b in zip(before, values(params), strict=True)]
    assert changed == [True, True, False, False]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-2, 0.0]


def test_a_graph_recorded_before_a_step_refuses_to_run_backward_after_it():
    w = Parameter(np.ones(3, np.float32))
    loss = (w * w).sum()
    w.grad = Tensor(np.ones(3, np.float32))
    SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_state_dict_continues_with_the_same_bits(kind, device):
    def trained(stop):
        model = Net(device)
        optimizer = kind([{"params": model.named_parameters()}], lr=0.1)
        for step in range(10):
            if step == stop:
                weights, state = model.state_dict(), optimizer.state_dict()
                model = Net(device)
                model.load_state_dict(weights)
                optimizer = kind([{"params": model.named_parameters()}], lr=0.3)
                optimizer.load_state_dict(state)
            give_gradients(model.parameters(), step)
            optimizer.step()
        return values(model.parameters())

    for a, b in zip(trained(None), trained(5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_dict_has_readable_names():
    model = Net()
    optimizer = Adam(model.named_parameters())
    give_gradients(model.parameters(), 0)
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["params"] == ["weight", "bias"]
    assert set(optimizer.state_dict()["state"]["weight"]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_model_cast_or_moved_after_the_first_step_trains_on(double):
    model = Net()
    optimizer = Adam(model.parameters(), lr=0.1)
    for step, dtype_or_device in enumerate(("cpu", "float64", "gpu")):
        model.to(dtype_or_device)
        give_gradients(model.parameters(), step)
        optimizer.step()
    state = optimizer.state_dict()["state"]["0"]
    assert (
        state["step"] == 3
        and state["exp_avg"].dtype == np.float64
        and not isinstance(state["exp_avg"], np.ndarray)
    )


def broken(state):
    yield "param_groups", {**state, "param_groups": state["param_groups"] * 2}
    group = state["param_groups"][0]
    yield "parameters", {**state, "param_groups": [{**group, "params": group["params"][::-1]}]}
    yield "options", {**state, "param_groups": [{k: v for k, v in group.items() if k != "eps"}]}
    changes = {
        "shape": {"exp_avg": np.zeros(9)},
        "missing": {"exp_avg_sq": None},
        "step": {"step": 1.5},
    }
    for name, change in changes.items():
        entry = {k: v for k, v in {**state["state"]["1"], **change}.items() if v is not None}
        yield name, {**state, "state": {**state["state"], "1": entry}}


def test_a_state_that_does_not_fit_changes_nothing():
    params = parameters()
    optimizer = Adam(params, lr=0.1)
    give_gradients(params, 0)
    optimizer.step()
    for what, wrong in broken(optimizer.state_dict()):
        before = {
            name: kept["exp_avg"].copy() for name, kept in optimizer.state_dict()["state"].items()
        }
        with pytest.raises(ValueError, match="left unchanged"):
            optimizer.load_state_dict(wrong)
        after = optimizer.state_dict()["state"]
        assert all((before[name] == after[name]["exp_avg"]).all() for name in before), what


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: SGD([]), ValueError, "no parameters"),
        (lambda p: SGD(p), TypeError, "iterable"),
        (lambda p: SGD([np.ones(3)]), TypeError, "not ndarray"),
        (lambda p: SGD([p * 2]), TypeError, "computed"),
        (lambda p: SGD([p, p]), ValueError, "twice"),
        (
            lambda p: SGD([("w", p), ("w", Parameter(np.ones(2, np.float32)))]),
            ValueError,
            "same name",
        ),
        (lambda p: SGD([p], lr=-1), ValueError, "SGD: lr is -1; it must be a number, at least 0"),
        (lambda p: SGD([p], lr=float("nan")), ValueError, "SGD: lr is nan"),
        (lambda p: SGD([p], nesterov=True), ValueError, "nesterov"),
        (lambda p: Adam([p], betas=(0.9, 1.0)), ValueError, "betas"),
        (
            lambda p: Adam([{"params": [p], "momentum": 0.9}]),
            ValueError,
            "unknown: \\['momentum'\\]",
        ),
        (lambda p: Adam([{"lr": 0.1}]), ValueError, "params"),
    ],
)
def test_wrong_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make(Parameter(np.ones(3, np.float32)))


def test_a_gradient_of_another_shape_is_refused_before_anything_changes(monkeypatch):
    monkeypatch.setattr(slab, "LARGE", 4)
    params = [Parameter(np.ones(shape, np.float32)) for shape in ((3,), (2, 3))]
    for p in params:
        p.grad = Tensor(np.ones(p.shape[::-1], np.float32))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        SGD(params).step()
    assert (params[0]._data == 1).all()


def test_learning_rate_schedules_have_the_expected_factors():
    cosine, linear = warmup_cosine(110, warmup=10, final=0.1), warmup_linear(110, warmup=10)
    for schedule in (cosine, linear, constant(10)):
        rise = [schedule(step) for step in range(11)]
        np.testing.assert_allclose(np.diff(rise), 1 / 11)
        assert rise[10] == 1
    np.testing.assert_allclose([cosine(60), cosine(110), cosine(500)], [0.55, 0.1, 0.1])
    np.testing.assert_allclose([linear(60), linear(110), linear(500)], [0.5, 0, 0], atol=1e-12)
    assert [constant()(step) for step in (0, 999)] == [1, 1] and warmup_cosine(10)(0) == 1


@pytest.mark.parametrize(("d_model", "warmup"), [(512, 4000), (64, 10), (64, 1)])
def test_warmup_inverse_sqrt_is_equation_3_of_vaswani_et_al(d_model, warmup):
    schedule, lr = warmup_inverse_sqrt(warmup), (d_model * warmup) ** -0.5
    for step in (1, 2, warmup, warmup + 1, 4 * warmup, 100_000):
        assert lr * schedule(step - 1) == pytest.approx(
            d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        )
    assert schedule(warmup - 1) == 1 and schedule(4 * warmup - 1) == pytest.approx(0.5)


def test_warmup_inverse_sqrt_needs_a_warmup():
    with pytest.raises(ValueError, match="warmup is 0"):
        warmup_inverse_sqrt(0)


@pytest.mark.parametrize("max_norm", [1e-3, 1e9])
def test_clipping_scales_down_only_long_gradients(max_norm, device):
    params = parameters(device)[:3]
    give_gradients(params, 0)
    before = np.concatenate([to_numpy(p.grad._data).ravel() for p in params])
    norm = float(clip_grad_norm_(params, max_norm))
    after = np.concatenate([to_numpy(p.grad._data).ravel() for p in params])
    assert norm == pytest.approx(np.linalg.norm(before))
    np.testing.assert_allclose(after, before * min(1, max_norm / (norm + 1e-6)), rtol=1e-12)


def test_clipping_no_gradients_returns_norm_zero():
    assert float(clip_grad_norm_(parameters(), 1.0)) == 0


def test_ema_follows_its_equation_and_copies_buffers(device):
    model = Net(device, np.float64)
    ema, wanted = EMA(model, decay=0.9), to_numpy(model.weight._data).copy()
    for step in range(5):
        model.weight.data = model.weight._data + step
        model.count.data = model.count._data * 2
        ema.update()
        wanted = 0.9 * wanted + 0.1 * to_numpy(model.weight._data)
    np.testing.assert_allclose(to_numpy(ema.state_dict()["weight"]), wanted, rtol=1e-12)
    assert float(to_numpy(ema.state_dict()["count"])) == 7 * 2**5


def test_ema_keeps_its_own_copy_of_a_buffer():
    model = Net()
    ema = EMA(model)
    model.count._data += 1
    with ema.applied():
        assert float(model.count) == 7
    assert float(model.count) == 8


def test_applied_restores_the_weights_even_after_an_error(device):
    model = Net(device)
    ema, start = EMA(model, decay=0.5), to_numpy(model.weight._data).copy()
    weights = model.weight.data = model.weight._data + 2
    ema.update()
    with pytest.raises(KeyError), ema.applied() as inside:
        np.testing.assert_allclose(to_numpy(inside.weight._data), start + 1, rtol=1e-6)
        inside.weight.data = inside.weight._data * 0  # lost when the context ends
        raise KeyError
    assert model.weight._data is weights
    np.testing.assert_allclose(to_numpy(ema.state_dict()["weight"]), start + 1, rtol=1e-6)


def test_an_ema_state_loads_completely_or_not_at_all():
    ema, other = EMA(Net()), EMA(Net())
    other.model.weight.data = other.model.weight._data + 1
    other.update()
    ema.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(ema.state_dict()["weight"], other.state_dict()["weight"])
    for wrong in (
        {},
        {**ema.state_dict(), "bias": np.ones(9)},
        {**ema.state_dict(), "more": np.ones(1)},
    ):
        with pytest.raises(ValueError, match="left unchanged"):
            ema.load_state_dict(wrong)
    with pytest.raises(ValueError, match="decay"):
        EMA(Net(), decay=1.0)


# ── Optimisers of users, which extend Adam ────────────────────────────────────────────────────────


class Falling(Adam):
    """An optimiser of a user that defines its own kernel."""


@Falling.kernel
def _(xp, p, g, m, v, step, lr, betas, eps, weight_decay):
    p -= 7.0


class Rising(Adam):
    """An optimiser of a user that defines only its own definition."""

    @staticmethod
    def definition(p, g, m, v, step, lr, betas, eps, weight_decay):
        return p + 7.0, m, v


@pytest.mark.parametrize("kind, end", [(Falling, -20.0), (Rising, 22.0)])
def test_a_subclass_with_its_own_rule_runs_on_every_device(kind, end, device):
    p = Tensor(np.ones(2, "float32"), device=device, requires_grad=True)
    optimizer = kind([p])
    p.grad = Tensor(np.ones(2, "float32"), device=device)
    for _ in range(3):
        optimizer.step()
    assert p.numpy().tolist() == [end, end]
