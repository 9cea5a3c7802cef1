"""What a Module finds in its attributes, tied weights, and loading that is all or nothing."""

from __future__ import annotations

import copy
import pickle
from collections import ChainMap, UserDict, UserList, deque
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import Parameter, Tensor, nn
from tinycv.nn.module import parts_in
from tinycv.optim import SGD
from tinycv.optim.averaged import EMA
from tinycv.training import checkpoint


class Holder(nn.Module):
    """A module with one attribute."""

    def __init__(self, parts):
        self.parts = parts


class Tied(nn.Module):
    """A language model whose output layer is its table of words."""

    def __init__(self):
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))


class Classifier(nn.Sequential):
    """A Sequential with a layer, a buffer and a list of its own."""

    def __init__(self):
        super().__init__(nn.Linear(2, 3), nn.ReLU())
        self.head = nn.Linear(3, 1)
        self.offset = Tensor(np.zeros(1))
        self.others = [nn.Linear(1, 1)]

    def forward(self, x):
        return self.head(super().forward(x)) + self.offset


def names_of(model):
    return [name for name, _ in model.named_tensors()]


def values(model):
    return {name: t.numpy().copy() for name, t in model.state_dict().items()}


def same(one, other):
    return set(one) == set(other) and all(
        one[n].dtype == other[n].dtype and one[n].tobytes() == other[n].tobytes() for n in one
    )


# ── what is found ────────────────────────────────────────────────────────────────────────────────

LEAVES = st.sampled_from(["parameter", "buffer", "module", "word", "number"])
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    max_leaves=8,
)


def built(plan, path, expected):
    """The plan with real parts in place of their names, which are noted with their paths."""
    if isinstance(plan, str):
        expected.update(
            {
                "parameter": {path: True},
                "buffer": {path: False},
                "module": {f"{path}.weight": True},
            }.get(plan, {})
        )
        return {
            "parameter": lambda: Parameter(np.ones(2)),
            "buffer": lambda: Tensor(np.ones(2)),
            "module": lambda: nn.Linear(1, 1, bias=False),
        }.get(plan, lambda: plan)()
    if isinstance(plan, dict):
        return {key: built(item, f"{path}.{key}", expected) for key, item in plan.items()}
    return type(plan)(built(item, f"{path}.{i}", expected) for i, item in enumerate(plan))


@given(NESTED)
def test_parameters_buffers_and_modules_are_found_at_any_depth(plan):
    expected = {}
    model = Holder(built(plan, "parts", expected))
    assert {name: isinstance(t, Parameter) for name, t in model.named_tensors()} == expected
    assert set(model.state_dict()) == set(expected)
    assert len(list(model.parameters())) == sum(expected.values())
    assert len(list(model.buffers())) == len(expected) - sum(expected.values())


def test_a_parameter_in_a_list_learns_moves_and_is_saved(device):
    model = Holder([Parameter(np.ones(2, "f4")), {"b": Parameter(np.ones(2, "f4"))}]).to(device)
    assert {t.device for t in model.parameters()} == {device}
    sum((p * 3.0).sum() for p in model.parameters()).backward()
    SGD(model.parameters(), lr=1.0).step()
    assert {name: t.numpy().tolist() for name, t in model.state_dict().items()} == {
        "parts.0": [-2, -2],
        "parts.1.b": [-2, -2],
    }


@dataclass
class Record:
    """A part, perhaps in a list, and a word beside it."""

    part: object
    word: str = "a"


OTHERS = {
    "set": lambda part: {part},
    "frozenset": lambda part: frozenset([part]),
    "UserDict": lambda part: UserDict(a=part),
    "UserList": lambda part: UserList([part]),
    "mappingproxy": lambda part: MappingProxyType({"a": part}),
    "ChainMap": lambda part: ChainMap({"b": 1}, {"a": part}),
    "dict_values": lambda part: {"a": part}.values(),
    "dict_items": lambda part: {"a": part}.items(),
    "SimpleNamespace": lambda part: SimpleNamespace(a=part),
    "Record": Record,
    "an array": lambda part: in_an_array(part),
}


def in_an_array(part):
    array = np.full(2, None, object)
    array[1] = part
    return array


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("around", [lambda box: box, lambda box: [box], lambda box: {"x": (box,)}])
@given(plan=NESTED)
def test_parts_in_a_container_of_another_kind_are_refused(kind, around, plan):
    expected = {}
    content = built(plan, "", expected)
    if "set" in kind:
        content = nn.Linear(1, 1) if expected else "word"  # a set takes nothing that changes
    if kind == "an array" and isinstance(content, list):
        content = tuple(content)
    model = Holder(around(OTHERS[kind](content)))
    if has_part(content):
        with pytest.raises(
            TypeError, match=f"attribute parts.* of a Module is (a )?{kind} of parts"
        ):
            list(model.parameters())
    else:
        assert not list(model.parameters())


def has_part(content):
    return any(True for _ in parts_in("", content))


@pytest.mark.parametrize(
    "held",
    [
        Parameter(np.ones(2)),
        nn.Linear(1, 1),
        [nn.ReLU(), nn.Linear(1, 1)],
        {"a": {"b": nn.Linear(1, 1)}},
    ],
)
def test_a_parameter_in_the_body_of_a_class_is_refused(held):
    with pytest.raises(TypeError, match="Careless: held has Parameters but is defined in the body"):
        type("Careless", (nn.Module,), {"held": held})


def test_a_part_that_does_not_learn_may_be_in_the_body_of_a_class():
    careful = type(
        "Careful", (nn.Module,), {"act": nn.ReLU(), "mean": Tensor([0.5]), "sizes": [1, 2]}
    )
    assert not list(careful().parameters())


def test_repr_ends_if_a_submodule_refers_back():
    model = Holder([nn.ReLU()])
    model.me, model.parts[0].whole = model, model
    assert repr(model) == "Holder(\n  (parts.0): ReLU(\n    (whole): ...\n  )\n  (me): ...\n)"


def test_two_tensors_with_one_name_are_refused():
    with pytest.raises(ValueError, match="Holder: two tensors have the name 'parts.1'"):
        Holder({1: Tensor([1.0]), "1": Tensor([2.0])}).state_dict()


def test_a_submodule_may_refer_back_to_its_parent():
    model = Holder(nn.Linear(2, 2))
    model.parts.whole = model
    assert set(model.state_dict()) == {"parts.weight", "parts.bias"}
    assert len(list(model.modules())) == 2


def test_children_apply_and_buffers():
    model, seen = Classifier(), []
    assert [type(m).__name__ for m in model.children()] == ["Linear", "ReLU", "Linear", "Linear"]
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen[-1] == "Classifier" and len(seen) == 5
    assert [name for name, _ in model.named_buffers()] == ["offset"]
    model.register_buffer("mask", Tensor([True]))
    assert set(dict(model.named_buffers())) == {"offset", "mask"}
    for name, wrong in ((3, Tensor([1.0])), ("m", Parameter([1.0])), ("m", 3.0)):
        with pytest.raises(TypeError, match="register_buffer: "):
            model.register_buffer(name, wrong)


# ── Sequential ───────────────────────────────────────────────────────────────────────────────────


def test_a_subclass_of_sequential_keeps_its_own_layers():
    model = Classifier()
    assert names_of(model) == [
        "offset",
        "0.weight",
        "0.bias",
        "head.weight",
        "head.bias",
        "others.0.weight",
        "others.0.bias",
    ]
    assert len(model) == 2 and model(tinycv.ones(4, 2)).shape == (4, 1)
    model.eval()
    assert not model.head.training and not model.others[0].training
    fresh = Classifier()
    fresh.load_state_dict(model.state_dict())
    assert same(values(fresh), values(model))


@given(
    st.integers(1, 5),
    st.tuples(*[st.none() | st.integers(-6, 6)] * 2),
    st.sampled_from([None, 1, 2, -1]),
)
def test_a_slice_is_a_sequential_of_the_same_layers(count, ends, step):
    layers = [nn.Linear(2, 2) for _ in range(count)]
    part = nn.Sequential(*layers)[slice(*ends, step)]
    assert type(part) is nn.Sequential
    assert list(part) == layers[slice(*ends, step)]
    x = expected = tinycv.ones(1, 2)
    for layer in layers[slice(*ends, step)]:
        expected = layer(expected)
    assert (part(x).numpy() == expected.numpy()).all()


@given(
    st.integers(1, 5),
    st.tuples(*[st.none() | st.integers(-6, 6)] * 2),
    st.sampled_from([None, 1, 2, -1]),
)
def test_a_slice_of_layers_is_deleted(count, ends, step):
    layers = [nn.ReLU() for _ in range(count)]
    model, kept = nn.Sequential(*layers), list(layers)
    del model[slice(*ends, step)], kept[slice(*ends, step)]
    assert list(model) == kept


def test_assigning_to_a_slice_and_deleting_a_bad_slice_are_refused():
    model = nn.Sequential(nn.ReLU(), nn.Tanh())
    with pytest.raises(TypeError, match=r"index is slice\(0, 1, None\); a layer takes one place"):
        model[0:1] = nn.ReLU()
    with pytest.raises(
        TypeError, match="Sequential: start of the slice is 0.5; it must be a whole"
    ):
        del model[0.5:]
    assert len(model) == 2


def test_a_subclass_that_does_not_call_init_first_gets_a_clear_error():
    class Hasty(nn.Sequential):
        def __init__(self):
            self.append(nn.ReLU())

    with pytest.raises(AttributeError, match=r"Hasty: .* calls super\(\).__init__\(\) before"):
        Hasty()


@given(
    st.integers(1, 4),
    st.integers(-6, 6),
    st.sampled_from([int, np.int64, np.int8, lambda i: np.array(i)]),
)
def test_an_index_is_any_whole_number_in_range(count, i, kind):
    layers = [nn.Identity() for _ in range(count)]
    model = nn.Sequential(*layers)
    if -count <= i < count:
        assert model[kind(i)] is layers[i]
        model[kind(i)] = other = nn.ReLU()
        assert list(model) == [*layers[: i % count], other, *layers[i % count + 1 :]]
        del model[kind(i)]
        assert len(model) == count - 1
    else:
        with pytest.raises(
            IndexError, match=f"Sequential: index {i} is out of range: there are {count} layers"
        ):
            model[kind(i)]


@pytest.mark.parametrize("bad", [True, 1.0, None, "0", (0, 1)])
def test_an_index_of_another_kind_is_refused(bad):
    with pytest.raises(TypeError, match="Sequential: index is .* whole number or a slice"):
        nn.Sequential(nn.ReLU(), nn.ReLU())[bad]


@pytest.mark.parametrize("bad", [[nn.ReLU()], abs, None, 3, {"a": nn.ReLU()}])
def test_an_argument_that_is_not_a_layer_is_refused_when_it_is_passed(bad):
    with pytest.raises(TypeError, match="Sequential: layer 1 is .*; it must be a Module"):
        nn.Sequential(nn.ReLU(), bad)
    with pytest.raises(TypeError, match="Sequential: layer 0 is .*; it must be a Module"):
        nn.Sequential().append(bad)


def test_append_adds_a_layer_and_iteration_goes_through_all():
    model, last = nn.Sequential(nn.Linear(2, 3)), nn.Linear(3, 1)
    assert model.append(last) is model and list(model)[-1] is last and model[-1] is last
    assert names_of(model)[-1] == "1.bias"


def test_layers_is_the_list_of_steps_unless_a_subclass_defines_it():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert model.layers == list(model) and copy.deepcopy(model).layers[0].weight.shape == (3, 2)

    class Own(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(1, 1, bias=False))
            self.layers = [nn.Linear(2, 2, bias=False)]

    assert names_of(Own()) == ["0.weight", "layers.0.weight"] and len(Own()) == 1


# ── tied weights ─────────────────────────────────────────────────────────────────────────────────


def test_a_tied_weight_has_all_its_names_in_the_state_and_counts_once():
    model = Tied()
    assert set(model.state_dict()) == {"embed.weight", "head.weight"}
    assert names_of(model) == ["embed.weight"]
    assert model.num_parameters() == 15 and len(list(model.parameters())) == 1


def test_a_shared_layer_has_all_its_names_in_the_state():
    layer = nn.Linear(2, 2)
    assert set(nn.Sequential(layer, nn.ReLU(), layer).state_dict()) == {
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    }


@pytest.mark.parametrize(
    "names", [["embed.weight"], ["head.weight"], ["embed.weight", "head.weight"]]
)
def test_a_tied_weight_loads_under_any_of_its_names(names):
    model, array = Tied(), np.arange(15, dtype="f4").reshape(5, 3)
    array[0, 0] = np.nan
    assert model.load_state_dict({name: array.copy() for name in names}) == ([], [])
    assert model.head.weight is model.embed.weight
    np.testing.assert_array_equal(model.head.weight.numpy(), array)


def test_two_values_for_one_tied_weight_are_refused():
    model = Tied()
    before, array = values(model), np.ones((5, 3), "f4")
    with pytest.raises(
        ValueError, match="embed.weight and head.weight are one tied weight, but have two values"
    ):
        model.load_state_dict({"embed.weight": array, "head.weight": array + 1})
    assert same(values(model), before)


def test_a_missing_tied_weight_is_missing_under_all_its_names():
    assert Tied().load_state_dict({}, strict=False)[0] == ["embed.weight", "head.weight"]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_of_a_model_keep_tied_weights_tied(copied):
    other = copied(Tied())
    assert other.head.weight is other.embed.weight
    model = copied(Classifier())
    assert same(values(model), values(copied(model)))


def test_a_model_with_tied_weights_can_be_saved_and_loaded(tmp_path):
    model, other = Tied(), Tied()
    checkpoint.save_model(tmp_path / "tied.safetensors", model)
    checkpoint.load_model(tmp_path / "tied.safetensors", other)
    assert same(values(model), values(other)) and other.head.weight is other.embed.weight
    assert set(checkpoint.load(tmp_path / "tied.safetensors")[0]) == {"embed.weight", "head.weight"}


# ── all or nothing ───────────────────────────────────────────────────────────────────────────────


class Every(nn.Module):
    """A parameter, a buffer of floats, one of whole numbers and one of truth values."""

    def __init__(self):
        self.a, self.b = Parameter(np.ones((2, 2), "f4")), Tensor(np.ones(3, "f2"))
        self.c, self.d = Tensor(np.array(7)), Tensor(np.array([True, False]))


WRONG = [
    ("a", np.ones((2, 3)), r"a is \(2, 3\), should be \(2, 2\)"),
    ("a", np.ones((2, 2), complex), "a .*complex128"),
    ("a", np.array([["1", "2"], ["3", "4"]]), "a .*"),
    ("a", np.ones((2, 2), object), "a .*"),
    ("a", None, "a .*"),
    ("a", np.full((2, 2), 1e300), "a has numbers of float64 that float32 cannot hold"),
    ("a", np.zeros((2, 2), "datetime64[s]"), "a .*"),
    ("a", [[1, 2], [3]], "a .*"),
    ("a", "word", "a .*"),
    ("b", np.full(3, 1e6), "b has numbers of float64 that float16 cannot hold"),
    ("c", np.array(7.5), "c has numbers of float64 that int64 cannot hold"),
    ("c", np.array(np.nan), "c has numbers of float64 that int64 cannot hold"),
    ("d", np.array([2, 0]), "d has numbers of int64 that bool cannot hold"),
    ("e", np.ones(1), "unexpected: e"),
    (3, np.ones(1), "unexpected: 3"),
]


@pytest.mark.parametrize(
    "name, array, words", WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)]
)
def test_a_failed_load_leaves_the_module_unchanged(name, array, words):
    model = Every()
    before = values(model)
    state = {
        "a": np.zeros((2, 2)),
        "b": np.zeros(3),
        "c": np.array(0),
        "d": np.array([False, False]),
    } | {name: array}
    with pytest.raises(ValueError, match=f"Every was left unchanged; .*{words}"):
        model.load_state_dict(state)
    assert same(values(model), before)


def test_nan_infinity_and_types_that_lose_nothing_are_accepted():
    model = Every()
    model.load_state_dict(
        {
            "a": np.array([[np.nan, np.inf], [-np.inf, 1]]),
            "b": np.array([1, 2, 3]),
            "c": np.array(5.0),
            "d": np.array([1, 0]),
        }
    )
    assert np.isnan(model.a.numpy()[0, 0]) and model.a.numpy()[1].tolist() == [-np.inf, 1]
    assert model.b.numpy().tolist() == [1, 2, 3] and model.b.dtype == np.float16
    assert model.c.item() == 5 and model.d.numpy().tolist() == [True, False]


@pytest.mark.parametrize("bad", [None, 3, "word", [("a", 1)]])
def test_a_state_that_is_not_a_dict_is_refused(bad):
    with pytest.raises(TypeError, match="load_state_dict: state is .*; it must be a dict"):
        Every().load_state_dict(bad)


@pytest.mark.parametrize("bad", [3, None, "float33", "int64", np.int8, "word", object()])
def test_a_failed_move_leaves_the_module_unchanged(bad):
    model = Every()
    before = values(model)
    with pytest.raises((TypeError, ValueError)):
        model.to(bad)
    assert same(values(model), before)


@pytest.mark.parametrize("bad", [1, None, "train"])
def test_a_mode_is_a_bool(bad):
    with pytest.raises(TypeError, match="train: mode"):
        nn.ReLU().train(bad)


@pytest.mark.parametrize("part", [nn.Linear(2, 2), [nn.Linear(2, 2)]], ids=["layer", "list"])
def test_an_attribute_that_is_a_checkpoint_of_a_layer_is_refused(part):
    class Hidden(nn.Module):
        def __init__(self):
            self.b = nn.checkpoint(part if isinstance(part, nn.Module) else nn.Sequential(*part))

    with pytest.raises(TypeError, match=r"keep the part, and call nn.checkpoint\(self.b\)"):
        names_of(Hidden())


def test_moving_a_model_to_its_own_device_keeps_graphs_valid():
    model = nn.Linear(2, 1)
    loss = (model(tinycv.tensor([[1.0, 2.0]])) ** 2).sum()
    model.to("cpu").to("float32")
    loss.backward()
    assert model.weight.grad is not None


def test_a_list_is_loaded_in_the_dtype_of_its_weight():
    layer = nn.Linear(1, 2, bias=False).to("float64")
    layer.load_state_dict({"weight": [[0.1], [1e300]]})
    assert layer.weight.tolist() == [[0.1], [1e300]]
    ema = EMA(layer)
    ema.load_state_dict({"weight": [[0.3], [1e200]]})
    assert ema.state_dict()["weight"].tolist() == [[0.3], [1e200]]
