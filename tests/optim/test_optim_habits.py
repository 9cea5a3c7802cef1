"""What users of PyTorch's optimisers do every day: copies, groups added later, float16,
gradients set by hand.
"""

import copy
import json
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinycv
from tinycv import nn, optim
from tinycv.engine.backend import to_device, to_numpy
from tinycv.engine.mode import recording
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.optim import SGD, Adam, AdamW, clip_grad_norm_, clip_grad_value_
from tinycv.optim.averaged import EMA
from tinycv.training.half import Half

KINDS = {
    "SGD": partial(SGD, lr=0.1),
    "momentum": partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": partial(Adam, lr=0.1, weight_decay=0.1),
    "AdamW": partial(AdamW, lr=0.1),
}
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}


def network(device="cpu", dtype="float32"):
    tinycv.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(dtype).to(device)


def steps(model, optimizer, ema, start, stop):
    """Steps whose gradients depend on the step's number; returns all weights and averages."""
    for step in range(start, stop):
        rng = np.random.default_rng(step)
        if isinstance(optimizer, Half):
            x = Tensor(rng.normal(size=(5, 3)).astype("float32"))
            optimizer.zero_grad()
            optimizer.backward((model(x) ** 2).sum())
        else:
            for p in model.parameters():
                p.grad = Tensor(to_device(rng.normal(size=p.shape).astype(p.dtype), p.device))
        optimizer.step()
        ema.update()
    return [to_numpy(t._data).copy() for _, t in model.named_tensors()] + [
        to_numpy(array).copy() for array in ema.state_dict().values()
    ]


def same(a, b):
    return len(a) == len(b) and all((x == y).all() for x, y in zip(a, b, strict=True))


# ── pickle and deepcopy ──


@pytest.mark.parametrize(
    "make",
    [*KINDS.values(), lambda named: Half(named, partial(Adam, lr=0.1), scale=64.0)],
    ids=[*KINDS, "Half"],
)
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_model_optimiser_and_ema_trains_independently(make, how):
    model = network()
    optimizer = make(model) if make not in KINDS.values() else make(model.named_parameters())
    ema = EMA(model, 0.5)
    steps(model, optimizer, ema, 0, 3)
    twin, its_optimizer, its_ema = COPIES[how]((model, optimizer, ema))
    assert its_ema.model is twin
    own = set(twin.parameters())
    assert set(getattr(its_optimizer, "own", its_optimizer.parameters())) == own and own.isdisjoint(
        model.parameters()
    )
    kept = steps(model, optimizer, ema, 3, 3)
    ended = steps(twin, its_optimizer, its_ema, 3, 6)
    assert same(kept, steps(model, optimizer, ema, 3, 3)) and not same(kept, ended)
    assert same(ended, steps(model, optimizer, ema, 3, 6))


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_optimiser_or_ema_has_its_own_parameters(how):
    model = network()
    for part in (AdamW(model.parameters()), EMA(model), Half(network(), Adam)):
        copied = COPIES[how](part)
        assert type(copied) is type(part)
        if not isinstance(part, EMA):
            assert set(copied.parameters()).isdisjoint(part.parameters())
            assert copied.param_groups[0]["lr"] == part.param_groups[0]["lr"]
            assert all(
                a is b
                for a, b in zip(copied.param_groups[0]["params"], copied.parameters(), strict=True)
            )
        else:
            assert (
                copied.model is not part.model
                and copied.state_dict().keys() == part.state_dict().keys()
            )


@pytest.mark.parametrize("how", COPIES)
def test_a_model_in_half_precision_is_copied_with_its_half(how):
    model = network()
    half = Half(model, partial(Adam, lr=0.1), scale=64.0)
    twin = COPIES[how](model)
    x = Tensor(np.ones((5, 3), np.float32))
    assert (twin(x).numpy() == model(x).numpy()).all() and twin(x).dtype == np.float32
    its_half = next(iter(twin.parameters())).master
    assert its_half is not None and all(its_half is not master for master in half.masters)


@pytest.mark.parametrize(
    "make",
    [
        partial(optim.constant, 3),
        partial(optim.warmup_cosine, 10, 2, 0.1),
        partial(optim.warmup_linear, 10, 2),
        partial(optim.warmup_inverse_sqrt, 4),
    ],
)
@pytest.mark.parametrize("how", COPIES)
def test_a_learning_rate_schedule_can_be_copied(make, how):
    assert [COPIES[how](make())(i) for i in range(12)] == [make()(i) for i in range(12)]


# ── Groups that are added later ──


@pytest.mark.parametrize("kind", KINDS)
def test_added_parameters_train_as_in_a_new_optimiser(kind, device):
    model, other = network(device), network(device)
    first, late = list(model.parameters())[:2], list(model.parameters())[2:]
    other_first, other_late = list(other.parameters())[:2], list(other.parameters())[2:]
    one_optimiser, two_optimisers = (
        KINDS[kind](first),
        (KINDS[kind](other_first), KINDS[kind](other_late, lr=0.5)),
    )
    for step in range(6):
        if step == 3:
            one_optimiser.add_param_group({"params": iter(late), "lr": 0.5})
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            g = np.random.default_rng(step).normal(size=p.shape).astype(np.float32)
            p.grad, q.grad = Tensor(to_device(g, p.device)), Tensor(to_device(g, q.device))
        one_optimiser.step()
        two_optimisers[0].step()
        if step >= 3:
            two_optimisers[1].step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(to_numpy(p._data), to_numpy(q._data), rtol=1e-5, atol=1e-6)
    one_optimiser.load_state_dict(one_optimiser.state_dict())
    assert (
        len(one_optimiser.parameters()) == len(list(model.parameters()))
        and one_optimiser.param_groups[1]["lr"] == 0.5
    )


@pytest.mark.parametrize(
    "group",
    [
        None,
        {},
        {"lr": 1},
        {"params": [], "lr": -1},
        {"params": "ab"},
        {"params": [3]},
        {"params": [], "momentum": 1},
    ],
)
def test_a_group_that_cannot_be_added_changes_nothing(group):
    p = Parameter(np.ones(2, np.float32))
    optimizer = Adam([p])
    for wrong in (
        group,
        {"params": [p]},
        {"params": [("0", Parameter(np.ones(2, np.float32)))]},
        {"params": [Parameter(np.ones(2, np.float32)), p]},
    ):
        with pytest.raises((TypeError, ValueError), match="Adam: "):
            optimizer.add_param_group(wrong)
    assert (
        optimizer.parameters() == [p]
        and len(optimizer.param_groups) == 1
        and len(optimizer._slabs) == 1
    )


def test_parameters_put_into_a_group_by_hand_are_refused():
    p = Parameter(np.ones(2, np.float32))
    optimizer = Adam([p])
    optimizer.param_groups[0]["params"].append(Parameter(np.ones(2, np.float32)))
    with pytest.raises(ValueError, match="add_param_group"):
        optimizer.step()


def test_zero_grad_can_leave_zeros(device):
    p = Parameter(to_device(np.ones(2, np.float32), device))
    optimizer = SGD([p])
    p.grad = Tensor(to_device(np.ones(2, np.float32), device))
    optimizer.zero_grad(set_to_none=False)
    assert to_numpy(p.grad._data).tolist() == [0, 0]
    optimizer.zero_grad()
    assert p.grad is None


# ── float16 ──


@pytest.mark.parametrize("kind", KINDS)
def test_float16_weights_train_like_float32_weights(kind, device):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float16) for shape in ((3, 4), (5,), (70_000,))]
    halves = [Parameter(to_device(a, device)) for a in start]
    full = [Parameter(to_device(a.astype(np.float32), device)) for a in start]
    mine, other = KINDS[kind](halves), KINDS[kind](full)
    for _ in range(10):
        for p, q in zip(halves, full, strict=True):
            g = (rng.normal(size=p.shape) * 10.0 ** rng.uniform(-7, 1, p.shape)).astype(np.float16)
            p.grad, q.grad = (
                Tensor(to_device(g, device)),
                Tensor(to_device(g.astype(np.float32), device)),
            )
        mine.step()
        other.step()
    for p, q in zip(halves, full, strict=True):
        assert p.dtype == np.float16
        np.testing.assert_allclose(to_numpy(p._data), to_numpy(q._data), rtol=2e-3, atol=1e-2)
    assert {
        array.dtype
        for entry in mine.state_dict()["state"].values()
        for key, array in entry.items()
        if key != "step"
        # plain SGD has no state
    } == (set() if kind == "SGD" else {np.dtype("float32")})


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_of_zero_leaves_float16_weights_finite(kind, device):
    p = Parameter(to_device(np.ones(3, np.float16), device))
    optimizer = KINDS[kind]([p], weight_decay=0.0)
    for _ in range(3):
        p.grad = Tensor(to_device(np.zeros(3, np.float16), device))
        optimizer.step()
    assert to_numpy(p._data).tolist() == [1, 1, 1]


def test_the_average_of_float16_weights_moves_by_steps_too_small_for_float16(device):
    model = nn.Linear(1, 1, bias=False).to("float16").to(device)
    model.weight.data[...] = 1.0
    ema = EMA(model, 0.9999)
    model.weight.data[...] = 2.0
    for _ in range(100):
        ema.update()
    assert float(to_numpy(ema.state_dict()["weight"]).item()) == pytest.approx(
        2 - 0.9999**100, abs=1e-4
    )
    with ema.applied():
        assert model.weight.dtype == np.float16


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(-3e4, 3e4)), min_size=1, max_size=4),
    st.floats(0.01, 1e6),
)
def test_float16_gradients_are_clipped_by_their_float32_norm(pieces, most):
    ps = [Parameter(np.zeros(n, np.float16)) for n, _ in pieces]
    for p, (n, value) in zip(ps, pieces, strict=True):
        p.grad = Tensor(np.full(n, value, np.float16))
    given = np.concatenate([p.grad.numpy() for p in ps]).astype(np.float64)
    length = np.sqrt((given**2).sum())
    found = clip_grad_norm_(ps, most)
    assert found.item() == pytest.approx(length, rel=1e-5) and np.isfinite(found.item())
    after = np.concatenate([p.grad.numpy() for p in ps]).astype(np.float64)
    np.testing.assert_allclose(after, given * min(1, most / (length + 1e-6)), rtol=1e-3, atol=1e-7)


def test_float16_gradients_are_clipped_alike_on_a_device(device):
    p = Parameter(to_device(np.zeros(4, np.float16), device))
    p.grad = Tensor(to_device(np.full(4, 200, np.float16), device))
    length = clip_grad_norm_([p], 1.0)
    assert float(to_numpy(length._data)) == 400 and to_numpy(p.grad._data).tolist() == [0.5] * 4


# ── clipping ──


@pytest.mark.parametrize("value", [np.inf, np.nan, -np.inf])
def test_error_if_nonfinite_refuses_a_norm_that_is_not_finite(value, device):
    p = Parameter(to_device(np.zeros(3, np.float32), device))
    before = np.array([1, value, 2], np.float32)
    p.grad = Tensor(to_device(before, device))
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            RuntimeError, match="clip_grad_norm_: the norm of all gradients is (inf|nan)"
        ),
    ):
        clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(to_numpy(p.grad._data), before)
    p.grad = Tensor(to_device(np.array([3, 4, 0], np.float32), device))
    assert float(to_numpy(clip_grad_norm_([p], 1.0, error_if_nonfinite=True)._data)) == 5


@pytest.mark.parametrize("kind", [1, 2, 2.0, 3.5, np.inf])
def test_other_norms_agree_with_numpy(kind, device):
    p, empty = (Parameter(to_device(np.zeros(n, np.float32), device)) for n in (4, 0))
    given = np.array([3, -4, 0, 1], np.float32)
    p.grad = Tensor(to_device(given.copy(), device))
    empty.grad = Tensor(to_device(np.zeros(0, np.float32), device))
    length = np.linalg.norm(given, kind)
    assert float(to_numpy(clip_grad_norm_([p, empty], 1.0, kind)._data)) == pytest.approx(length)
    np.testing.assert_allclose(to_numpy(p.grad._data), given / (length + 1e-6), rtol=1e-5)
    assert float(to_numpy(clip_grad_norm_(empty, 1.0, kind)._data)) == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_clipped_values_are_inside_the_limits(dtype, device):
    p = Parameter(to_device(np.zeros(5, dtype), device))
    given = np.array([-3, -0.25, 0, 0.5, 9], dtype)
    p.grad = Tensor(to_device(given, device))
    assert clip_grad_value_(p, 0.5) is None
    assert to_numpy(p.grad._data).tolist() == np.clip(given, -0.5, 0.5).tolist()


# ── parameters and gradients that a user has changed ──


@pytest.mark.parametrize(
    "grad",
    [
        np.ones(3, np.float32),
        1.0,
        [1, 2, 3],
        Tensor(np.ones(4, np.float32)),
        "word",
        Tensor(np.ones((3, 1), np.float32)),
        Tensor(np.ones(3)),
        Tensor(np.ones(3, np.float16)),
        Tensor(np.ones(3, np.int64)),
        Tensor(1.0),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_does_not_fit_is_refused_and_nothing_changes(grad, kind):
    ps = [Parameter(np.ones(3, np.float32)) for _ in range(2)]
    optimizer = KINDS[kind]([("good", ps[0]), ("bad", ps[1])])
    ps[0].grad = Tensor(np.ones(3, np.float32))
    ps[1].grad = grad
    with pytest.raises((TypeError, ValueError), match=r"step: parameter bad of shape \(3,\)"):
        optimizer.step()
    assert all((p.numpy() == 1).all() for p in ps) and not optimizer.state_dict()["state"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(4,), (3, 1), (), (2, 3)])
def test_a_parameter_of_another_shape_is_refused(kind, shape):
    p = Parameter(np.ones(3, np.float32))
    optimizer = KINDS[kind]([p])
    for _ in range(2):
        p.data = np.ones(shape, np.float32)
        p.grad = Tensor(np.ones(shape, np.float32))
        with pytest.raises(ValueError, match=r"parameter 0 of shape .* had shape \(3,\)"):
            optimizer.step()
        p.data = np.ones(3, np.float32)
        p.grad = Tensor(np.ones(3, np.float32))
        optimizer.step()
    model = nn.Linear(3, 1, bias=False)
    ema = EMA(model)
    model.weight.data = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="EMA: weight has shape"):
        ema.update()


def test_the_average_of_a_tied_weight_loads_under_any_name_but_not_with_two_values():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    ema, array = EMA(model), np.ones((2, 2), np.float32)
    for i, names in enumerate([["0.weight"], ["1.weight"], ["0.weight", "1.weight"]], 2):
        ema.load_state_dict({name: i * array for name in names})
        assert [(average == i).all() for average in ema.state_dict().values()] == [True]
    with pytest.raises(
        ValueError, match="0.weight and 1.weight are one tied weight, but have two values"
    ):
        ema.load_state_dict({"0.weight": array, "1.weight": 9 * array})
    with pytest.raises(ValueError, match="missing: 0.weight"):
        ema.load_state_dict({})
    assert (ema.state_dict()["0.weight"] == 4).all()


def test_a_learning_rate_set_by_hand_takes_effect_at_once():
    p, q = (Parameter(np.ones(3, np.float32)) for _ in range(2))
    a, b = SGD([p], lr=0.1), SGD([q], lr=0.5)
    a.param_groups[0]["lr"] = np.float64(0.5)
    for parameter, optimizer in ((p, a), (q, b)):
        parameter.grad = Tensor(np.ones(3, np.float32))
        optimizer.step()
    assert (p.numpy() == q.numpy()).all() and p.dtype == np.float32


@pytest.mark.parametrize(
    "params",
    [
        [],
        (),
        iter(()),
        {},
        None,
        3,
        "ab",
        np.ones(3),
        [np.ones(3)],
        [1.0],
        [None],
        [Tensor(np.ones(3, np.float32))],
        [Tensor(np.ones(3, np.int64))],
        [("a", 3)],
        [("a",)],
        [(1, Tensor(1.0))],
        [{"params": []}, 3],
        {1, 2},
    ],
)
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_anything_but_a_list_of_parameters_is_refused_with_a_clear_error(kind, params):
    with pytest.raises((TypeError, ValueError), match=f"^{kind.__name__}: "):
        kind(params)


def test_frozen_parameters_generators_and_single_parameters_are_accepted():
    model = network()
    model.requires_grad_(False)
    assert len(SGD(p for p in model.parameters()).parameters()) == 6
    assert len(SGD([{"params": next(model.parameters())}]).parameters()) == 1
    assert len(SGD([Tensor(np.ones(3, np.float32), requires_grad=True)]).parameters()) == 1


HOLDERS = {
    "array": lambda: np.array(0.1),
    "float32": lambda: np.array(0.1, np.float32),
    "Tensor": lambda: Tensor(0.1),
}


@pytest.mark.parametrize("option", ["lr", "weight_decay", "betas"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_an_option_changed_in_place_takes_effect_like_one_that_is_set(option, holder, device):
    ps = [Parameter(to_device(np.ones(3, np.float32), device)) for _ in range(2)]
    changed_in_place, set_again = (AdamW([p]) for p in ps)
    value = HOLDERS[holder]()
    changed_in_place.param_groups[0][option] = (value, 0.9) if option == "betas" else value
    for factor in (1, 0.5, 0.25):
        value *= factor
        set_again.param_groups[0][option] = (
            (value.item(), 0.9) if option == "betas" else value.item()
        )
        for p, optimizer in zip(ps, (changed_in_place, set_again), strict=True):
            p.grad = Tensor(to_device(np.arange(1, 4, dtype=np.float32), device))
            optimizer.step()
        assert (to_numpy(ps[0]._data) == to_numpy(ps[1]._data)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"lr": np.float32(0.5)},
        {"lr": np.array(0.5)},
        {"lr": Tensor(0.5)},
        {"lr": np.int64(1)},
        {"initial_lr": np.array(1.0)},
        {"momentum": np.float16(0.5)},
        {"nesterov": np.True_, "momentum": np.float32(0.5)},
    ],
)
def test_every_accepted_option_is_saved_as_json_can_hold_it(change):
    p = Parameter(np.ones(3, np.float32))
    optimizer = SGD([p])
    optimizer.param_groups[0].update(change)
    p.grad = Tensor(np.ones(3, np.float32))
    optimizer.step()
    saved = optimizer.state_dict()["param_groups"]
    assert json.loads(json.dumps(saved)) == saved
    assert all(saved[0][name] == value for name, value in change.items())


def test_betas_of_numpy_are_saved_as_numbers():
    optimizer = Adam([Parameter(np.ones(3, np.float32))])
    optimizer.param_groups[0]["betas"] = (np.float32(0.5), np.array(0.25))
    assert json.dumps(optimizer.state_dict()["param_groups"][0]["betas"]) == "[0.5, 0.25]"


# ── EMA of a model that has changed ──


def test_two_weights_with_one_name_are_refused():
    class Keys(nn.Module):
        def __init__(self):
            self.d = {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}

    with pytest.raises(ValueError, match="Keys: two tensors have the name 'd.1.weight'"):
        EMA(Keys())


def put_weight(model):
    model[0].weight = Parameter(np.ones((4, 3), np.float32))


def put_layer(model):
    model[0] = nn.Linear(3, 4, bias=False)


def put_more(model):
    model.append(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("change", "name"), [(put_weight, "0.weight"), (put_layer, "0.weight"), (put_more, "3.weight")]
)
def test_an_ema_refuses_a_model_that_got_new_parameters(change, name):
    model = network()
    ema = EMA(model)
    change(model)
    before = {key: t.numpy().copy() for key, t in model.state_dict().items()}
    words = (
        f"the Sequential has new Parameters, and there are no averages of {name}.*: "
        "make another EMA"
    )
    with pytest.raises(ValueError, match=f"EMA.applied: {words}"), ema.applied():
        pass
    with pytest.raises(ValueError, match=f"EMA.state_dict: {words}"):
        ema.state_dict()
    assert all((before[key] == t.numpy()).all() for key, t in model.state_dict().items())


def test_replacing_a_buffer_does_not_count_as_a_new_parameter():
    model = network()
    ema = EMA(model)
    model[1].running_mean = Tensor(np.full(4, 7, np.float32))
    with ema.applied():
        assert (model[1].running_mean.numpy() == 7).all()


def test_an_ema_starts_from_weights_that_a_half_has_not_copied_yet(device):
    model = network(device)
    half = Half(model, partial(SGD, lr=0.1))
    master = to_numpy(half.masters[1]._data).copy()
    model[0].weight.data = to_device(np.full((4, 3), 0.5, np.float16), device)
    averages = EMA(model).state_dict()
    assert (to_numpy(averages["0.weight"]) == 0.5).all() and averages[
        "0.weight"
    ].dtype == np.float32
    assert (to_numpy(averages["0.bias"]) == master).all()  # not rounded to float16


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_state_can_be_moved_and_copied_but_not_loaded(value, double):
    """A state that is not finite survives a move to another device, but load_state_dict refuses
    it."""
    p = Parameter(np.ones(3, np.float32))
    optimizer = Adam([p])
    for _ in range(2):
        p.grad = Tensor(to_device(np.ones(3, np.float32), p.device))
        optimizer.step()
        optimizer.state_dict()["state"]["0"]["exp_avg"][...] = value
        p.data = to_device(p._data, "gpu:0")
    assert pickle.loads(pickle.dumps(optimizer)).state_dict()["state"]["0"]["step"] == 2
    with pytest.raises(ValueError, match="Adam was left unchanged; 0: exp_avg is not finite"):
        optimizer.load_state_dict(optimizer.state_dict())


# plain SGD has no state
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "SGD"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_moments_that_are_not_finite_or_negative_are_refused(kind, value):
    model = network()
    optimizer = KINDS[kind](list(model.named_parameters()))
    steps(model, optimizer, EMA(model), 0, 2)
    names = [key for key in optimizer.arrays if value != -1 or key == "exp_avg_sq"]
    for key in names:
        state = copy.deepcopy(optimizer.state_dict())
        state["state"]["0.bias"][key][1] = value
        with pytest.raises(
            ValueError,
            match=f"left unchanged; 0.bias: {key} (is not finite|has means of squares below 0)",
        ):
            optimizer.load_state_dict(state)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_averages_that_are_not_finite_are_refused_but_buffers_load(value):
    model = network()
    ema = EMA(model)
    with pytest.raises(ValueError, match="EMA was left unchanged; 2.weight is not finite"):
        ema.load_state_dict({**ema.state_dict(), "2.weight": np.full((2, 4), value, np.float32)})
    ema.load_state_dict({**ema.state_dict(), "1.running_mean": np.full(4, value, np.float32)})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("master", np.nan, "0.weight are not finite as float16"),
        ("master", 1e6, "0.weight are not finite as float16"),
        ("loss_scale", 1e300, "loss_scale is 1e"),
        ("loss_scale", 1e-30, "loss_scale is 1e-30"),
        ("good_steps", -1, "good_steps"),
    ],
)
def test_a_state_that_a_half_cannot_continue_from_is_refused(name, value, words):
    half = Half(network(), partial(SGD, lr=0.1))
    state = copy.deepcopy(half.state_dict())
    if name == "master":
        state["state"]["0.weight"]["master"][...] = value
    else:
        state["param_groups"][0][name] = value
    with pytest.raises(ValueError, match=f"Half was left unchanged; .*{words}"):
        half.load_state_dict(state)
    if name == "loss_scale":
        with pytest.raises(ValueError, match="Half: scale is 1e"):
            Half(network(), partial(SGD, lr=0.1), scale=value)


# ── closures ──


def closure_of(model, optimizer, x, log, backward=None):
    def closure():
        log.append(recording())
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        (backward or Tensor.backward)(loss)
        return loss

    return closure


@pytest.mark.parametrize("block", [tinycv.no_grad, tinycv.enable_grad])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "Half"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_calls_its_closure_once_with_recording_on_and_returns_its_loss(kind, half, block):
    x, log = Tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32")), []
    models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ours, plain = (
        Half(model, KINDS[kind], scale=64.0) if half else KINDS[kind](model.parameters())
        for model in models
    )
    for _ in range(3):
        plain.zero_grad()
        wanted = (models[1](x) ** 2).mean()
        plain.backward(wanted)
        assert plain.step() is None
        with block():
            loss = ours.step(closure_of(models[0], ours, x, log, ours.backward if half else None))
            assert recording() == (block is tinycv.enable_grad)
        assert loss.item() == wanted.item() and loss.dtype == "float32"
    assert log == [True] * 3
    assert same(*([p.numpy() for p in model.parameters()] for model in models))


def test_a_half_refuses_a_closure_that_does_not_scale_and_skips_one_that_overflows():
    model = nn.Linear(3, 1)
    half, x = Half(model, partial(SGD, lr=0.1), scale=2.0**100), Tensor(np.ones((2, 3), "float32"))
    before, log = model.weight.numpy().copy(), []
    loss = half.step(closure_of(model, half, x, log, half.backward))
    assert half.skipped == 1 and np.isfinite(loss.item()) and half.scale == 2.0**99
    with pytest.raises(
        RuntimeError, match=r"Half.step: .* call half.backward\(loss\), not loss.backward\(\)"
    ):
        half.step(closure_of(model, half, x, log))
    assert len(log) == 2 and (model.weight.numpy() == before).all()


@pytest.mark.parametrize(
    "closure", [3, "loss", Tensor(1.0), [len]], ids=["int", "str", "Tensor", "list"]
)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "Half"])
def test_anything_but_a_function_as_closure_is_refused_with_a_clear_error(half, closure):
    model = nn.Linear(3, 1)
    optimizer = Half(model, SGD) if half else SGD(model.parameters())
    with pytest.raises(TypeError, match="^(SGD|Half).step: closure is .*; it must be a function$"):
        optimizer.step(closure)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_an_error_in_a_closure_changes_nothing(kind):
    p = Parameter(np.ones(3, np.float32))
    optimizer = kind([p])
    p.grad = Tensor(np.ones(3, np.float32))
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert (p.numpy() == 1).all() and optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_integer_names_and_string_names_are_distinguished(kind):
    """PyTorch calls its parameters 0, 1, ...; tinycv calls them '0', '1'."""
    optimizer = kind([Parameter(np.ones(2, np.float32)) for _ in range(2)])
    state = optimizer.state_dict()
    state["param_groups"][0]["params"] = [0, 1]
    state["state"] = {0: {"step": 1}}
    with pytest.raises(
        ValueError,
        match="group 0 has parameters '0', '1', saved are 0, 1; no parameters are called 0$",
    ):
        optimizer.load_state_dict(state)
