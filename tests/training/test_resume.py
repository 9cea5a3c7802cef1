"""Whatever is damaged in a saved training, resuming fails with one clear sentence and changes
nothing at all.
"""

import copy
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinycv
from tinycv import nn
from tinycv.data import DataLoader
from tinycv.engine import backend
from tinycv.engine.tensor import Tensor
from tinycv.optim import SGD, AdamW, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.training.checkpoint import CheckpointError, load, save
from tinycv.training.half import Half
from tinycv.training.loop import fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype(np.float32)
Y = RNG.normal(size=(8, 2)).astype(np.float32)


def loss_of(model, x, y):
    return ((model(x) - y) ** 2).mean()


class Training:
    """A small model with buffers, an optimiser of two groups, and an average; ``fit`` is its
    loop.
    """

    def __init__(self, half=False, seed=0):
        tinycv.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        make = partial(AdamW, lr=0.01)
        self.optimizer = (
            Half(self.model, make, scale=2.0**10)
            if half
            else AdamW(
                [
                    {"params": [self.model[0].weight]},
                    {"params": list(self.model.parameters())[1:], "lr": 0.02},
                ],
                lr=0.01,
            )
        )
        self.ema = EMA(self.model, 0.9)

    def fit(self, path, epochs=2):
        return fit(
            self.model,
            self.optimizer,
            loss_of,
            DataLoader(X, Y, batch_size=4),
            epochs,
            ema=self.ema,
            schedule=warmup_cosine(8),
            evaluate=lambda model: {"one": 1.0},
            checkpoint=path,
            progress=False,
        )

    def bits(self):
        """The complete state of the training, bit for bit."""

        def plain(value):
            if isinstance(value, dict):
                return {key: plain(v) for key, v in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(v) for v in value]
            if isinstance(value, Tensor):
                value = value._data
            return (
                (value.dtype.str, value.shape, value.tobytes())
                if isinstance(value, np.ndarray)
                else value
            )

        return plain(
            [
                self.model.state_dict(),
                self.optimizer.state_dict(),
                self.ema.state_dict(),
                backend.get_rng_state(),
                self.model.training,
            ]
        )


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "half"])
def saved(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run.safetensors"
    Training(request.param).fit(path)
    return request.param, path, load(path)


def places(tree, path=()):
    """The path to every value in a tree of dicts and lists."""
    if path:
        yield path
    if isinstance(tree, (dict, list)):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from places(tree[key], (*path, key))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


VALUES = [
    None,
    "word",
    [],
    {},
    [1],
    {"a": 1},
    -1,
    10**9,
    1e9,
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    True,
]


def damaged_state(state, draw):
    """(the state with one value removed, replaced or added, a description of the change)."""
    state = copy.deepcopy(state)
    *before, last = draw(st.sampled_from(list(places(state))))
    parent, how = at(state, before), draw(st.sampled_from(["remove", "replace", "add"]))
    if how == "remove":
        del parent[last]
    elif how == "add" and isinstance(parent, dict):
        parent["unknown"] = draw(st.sampled_from(VALUES))
    else:
        parent[last] = draw(st.sampled_from(VALUES))
    return state, (how, *before, last)


def damaged_tensors(tensors, draw):
    name = draw(st.sampled_from(sorted(tensors)))
    array, changed = tensors[name], dict(tensors)
    kinds = {
        "missing": None,
        "shape": array[None],
        "shorter": array.reshape(-1)[:-1],
        "dtype": array.astype(np.float64 if array.dtype != np.float64 else np.float32),
        "bool": array.astype(bool),
        "empty": array[None][:0],
        "renamed": array,
        "another": array,
        "nan": np.full_like(array, np.nan) if array.dtype.kind == "f" else None,
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    if kind == "another":
        others = [
            "more",
            "model/more",
            "ema/more",
            "optimizer/more",
            "optimizer/0/exp",
            "x/y",
            "/",
            "",
        ]
        changed[draw(st.sampled_from(others))] = array
        return changed, (kind, name)
    del changed[name]
    if kind != "missing" and kinds[kind] is not None:
        changed[name + "x" if kind == "renamed" else name] = kinds[kind]
    return changed, (kind, name)


HARMLESS = {
    "metrics",
    "seconds",
    "lr",
    "initial_lr",
    "eps",
    "weight_decay",
    "one",
    "epoch",
    "loss_scale",
    "good_steps",
    "losses",
    "seed",
    "splits",
    "host",
    "noise",
    "state",
    "inc",
    "uinteger",
    "has_uint32",
}


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_resuming_from_any_damaged_checkpoint_fails_and_changes_nothing(
    saved, tmp_path_factory, data
):
    half, path, (tensors, state) = saved
    of_state = data.draw(st.booleans())
    other, what = (damaged_state if of_state else damaged_tensors)(
        state if of_state else tensors, data.draw
    )
    wrong = path.with_name("wrong.safetensors")
    save(wrong, tensors if of_state else other, other if of_state else state)
    training = Training(half, seed=1)
    before = training.bits()
    try:
        training.fit(wrong)
    except CheckpointError as error:
        assert training.bits() == before, what
        text = str(error)
        assert "\n" not in text and str(wrong) in text and len(text) < 700, (what, text)
    else:  # another valid number, at a place where every number is valid
        assert of_state and (
            HARMLESS & set(map(str, what)) or json.dumps(other) == json.dumps(state)
        ), what


@pytest.mark.parametrize(
    "change",
    [
        {"step": 10**9},
        {"step": 1e9},
        {"step": float("nan")},
        {"step": True},
        {"step": -1},
        {"step": "4"},
        {"rng": {}},
        {"rng": None},
        {"history": None},
        {"history": {"losses": [1.0] * 4}},
        {"unknown": 1},
        {"training": []},
        {"optimizer": {}},
    ],
)
def test_one_wrong_key_of_the_state_is_refused(saved, change):
    half, path, (tensors, state) = saved
    wrong = path.with_name("wrong.safetensors")
    save(wrong, tensors, {**state, **change})
    training = Training(half, seed=1)
    before = training.bits()
    with pytest.raises(CheckpointError, match="or damaged|not the checkpoint of a training"):
        training.fit(wrong)
    assert training.bits() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1),
        ("lr", float("nan")),
        ("lr", "0.1"),
        ("lr", None),
        ("betas", [2, 2]),
        ("betas", [0.9]),
        ("eps", -1e-8),
        ("weight_decay", float("inf")),
        ("more", 1),
    ],
)
def test_an_option_out_of_range_is_refused(saved, name, value):
    half, path, (tensors, state) = saved
    state = copy.deepcopy(state)
    state["optimizer"]["param_groups"][0][name] = value
    wrong = path.with_name("wrong.safetensors")
    save(wrong, tensors, state)
    training = Training(half, seed=1)
    before = training.bits()
    with pytest.raises(CheckpointError, match=name):
        training.fit(wrong)
    assert training.bits() == before


def test_an_undamaged_checkpoint_resumes(saved):
    half, path, (tensors, state) = saved
    training = Training(half, seed=1)
    training.fit(path)
    assert all(
        (training.model.state_dict()[name].numpy() == tensors[f"model/{name}"]).all()
        for name in training.model.state_dict()
    )
    assert backend.get_rng_state() == state["rng"]


# ── Each part separately ──


def entries(optimizer):
    return copy.deepcopy(optimizer.state_dict())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_an_optimiser_state_loads_completely_or_not_at_all(data):
    training = Training()
    for p in training.model.parameters():
        p.grad = Tensor(np.ones(p.shape, np.float32))
    training.optimizer.step()
    before = training.bits()
    state = entries(training.optimizer)
    name = data.draw(st.sampled_from(list(state["state"])))
    key = data.draw(st.sampled_from(["step", "exp_avg", "exp_avg_sq"]))
    shape = np.shape(state["state"][name][key])
    state["state"][name][key] = data.draw(
        st.sampled_from(
            [
                None,
                "word",
                [1, "a"],
                np.full(shape, "a"),
                np.full(shape, None),
                np.full(shape, 1j),
                np.ones((7, 7)),
                np.ma.ones((9,)),
                object(),
                -1,
                float("nan"),
                1.5,
                [[1], [2, 3]],
            ]
        )
    )
    with pytest.raises(ValueError, match="left unchanged"):
        training.optimizer.load_state_dict(state)
    assert training.bits() == before


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_ema_state_changes_nothing(data):
    training = Training()
    before, state = training.bits(), copy.deepcopy(training.ema.state_dict())
    name = data.draw(st.sampled_from(list(state)))
    shape = state[name].shape
    state[name] = data.draw(
        st.sampled_from(
            [
                None,
                "word",
                np.full(shape, "a"),
                np.full(shape, None),
                np.full(shape, 1j),
                np.ones((7, 7)),
                object(),
                [[1], [2, 3]],
            ]
        )
    )
    with pytest.raises(ValueError, match=f"left unchanged.*{name}"):
        training.ema.load_state_dict(state)
    assert training.bits() == before


@pytest.mark.parametrize(
    "state",
    [
        None,
        3,
        [],
        {},
        {"state": {}},
        {"state": [], "param_groups": [{}]},
        {"state": {}, "param_groups": 3},
        {"state": {}, "param_groups": [3]},
    ],
)
def test_a_state_of_another_kind_is_refused_with_a_clear_error(state):
    for half in (False, True):
        training = Training(half)
        before = training.bits()
        for part in (training.optimizer, training.ema):
            with pytest.raises(ValueError, match="left unchanged"):
                part.load_state_dict(state)
        assert training.bits() == before


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_random_state_loads_completely_or_not_at_all(data):
    backend.manual_seed(7)
    backend.standard_normal(3)
    state, before = backend.get_rng_state(), backend.get_rng_state()
    other, _ = damaged_state(state, data.draw)
    try:
        backend.set_rng_state(other)
    except ValueError as error:
        assert (
            "the random streams stay as they are" in str(error)
            and backend.get_rng_state() == before
        )
    else:
        assert backend.get_rng_state() == {"splits": 0, **other}


def test_sgd_without_momentum_loads_its_own_state():
    model = nn.Linear(2, 2)
    optimizer = SGD(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.grad = Tensor(np.ones(p.shape, np.float32))
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("optimizer/0/exp_avg", np.inf, "exp_avg is not finite"),
        ("optimizer/0/exp_avg_sq", -1, "means of squares below 0"),
        ("model/1.running_var", -1, "1.running_var: a variance"),
        ("ema/1.running_var", -5, "1.running_var: a variance"),
        ("model/1.num_batches_tracked", -3, "1.num_batches_tracked: a variance, or a count"),
        ("ema/0.weight", np.inf, "0.weight is not finite"),
        ("ema/2.bias", -np.inf, "2.bias is not finite"),
    ],
)
def test_numbers_that_no_training_could_have_written_are_refused(saved, name, value, words):
    half, path, (tensors, state) = saved
    names = [
        key for key in tensors if key == name or half and key == name.replace("/0/", "/0.weight/")
    ]
    wrong = path.with_name("wrong.safetensors")
    save(wrong, tensors | {key: np.full_like(tensors[key], value) for key in names}, state)
    training = Training(half, seed=1)
    before = training.bits()
    with pytest.raises(CheckpointError, match=words):
        training.fit(wrong)
    assert names and training.bits() == before


def test_metrics_of_future_epochs_are_refused(saved):
    half, path, (tensors, state) = saved
    wrong = path.with_name("wrong.safetensors")
    save(
        wrong,
        tensors,
        {**state, "history": {**state["history"], "metrics": [{"epoch": 99, "one": 1.0}]}},
    )
    with pytest.raises(
        CheckpointError, match="metrics of epoch 99, and is at step 4 with 2 steps per epoch"
    ):
        Training(half).fit(wrong)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_state_that_could_not_be_resumed_is_not_saved(tmp_path):
    """The square of a gradient of 1e30 is infinite in float32, and its weight would never learn
    again."""
    training = Training()
    training.fit(tmp_path / "c", epochs=1)
    good = (tmp_path / "c").read_bytes()

    def spike(model, x, y):
        return loss_of(model, x, y) + 1e30 * (model[0].bias - model[0].bias.detach()).sum()

    with pytest.raises(FloatingPointError, match="exp_avg_sq is not finite after step 3"):
        fit(
            training.model,
            training.optimizer,
            spike,
            DataLoader(X, Y, batch_size=4),
            2,
            ema=training.ema,
            checkpoint=tmp_path / "c",
            progress=False,
        )
    assert (tmp_path / "c").read_bytes() == good
