"""Module: how parameters are found and named; modes, moves, and saved state."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from near import near

import tinycv
from tinycv import Parameter, Tensor
from tinycv.nn import Dropout, Embedding, Linear, Module, Sequential


class House(Module):
    """One of everything that a module may hold."""

    def __init__(self):
        self.door = Linear(2, 3)
        self.floors = [Linear(3, 3), [Linear(3, 3, bias=False)]]
        self.rooms = {"left": Linear(3, 1), "right": Dropout(0.5)}
        self.scale = Tensor(np.ones(3))  # a buffer
        self.gain = Parameter(np.ones(3, np.float32))
        self.visits = Tensor(np.array(7))  # a buffer of integers
        self.address = "no tensor at all"

    def forward(self, x):
        x = self.door(x) * self.scale * self.gain
        for floor in (self.floors[0], self.floors[1][0]):
            x = floor(x)
        return self.rooms["left"](x)


NAMES = {
    "door.weight",
    "door.bias",
    "floors.0.weight",
    "floors.0.bias",
    "floors.1.0.weight",
    "rooms.left.weight",
    "rooms.left.bias",
    "gain",
}


def values(model):
    return {name: t.numpy().copy() for name, t in model.state_dict().items()}


def same(one, other):
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


# ── parts, by name ───────────────────────────────────────────────────────────────────────────────


def test_parameters_are_named_by_their_path_through_attributes_lists_and_dicts():
    assert {name for name, _ in House().named_parameters()} == NAMES


def test_a_tensor_that_is_no_parameter_is_saved_but_not_learned():
    house = House()
    assert set(house.state_dict()) - NAMES == {"scale", "visits"}
    assert all(p is not house.scale for p in house.parameters())


def test_modules_are_listed_outermost_first_in_the_order_of_assignment():
    assert [name for name, _ in House().named_modules()] == [
        "",
        "door",
        "floors.0",
        "floors.1.0",
        "rooms.left",
        "rooms.right",
    ]


def test_a_layer_used_in_two_places_is_listed_once_under_its_first_name():
    model = Module()
    model.here = model.there = Linear(2, 2)
    assert [name for name, _ in model.named_parameters()] == ["here.weight", "here.bias"]


def test_a_weight_tied_between_two_layers_is_listed_once_and_collects_both_gradients():
    model = Module()
    model.table, model.out = Embedding(5, 3), Linear(3, 5, bias=False)
    model.out.weight = model.table.weight
    assert [name for name, _ in model.named_parameters()] == ["table.weight"]
    model.out(model.table(np.array([1]))).sum().backward()
    table = model.table.weight.numpy()
    # from the product: once for every class
    expected = np.tile(table[1], (5, 1))
    expected[1] += table.sum(axis=0)  # from the look-up: row 1 alone
    near(model.table.weight.grad.numpy(), expected)


def test_the_number_of_parameters_counts_entries_and_leaves_buffers_out():
    assert House().num_parameters() == (6 + 3) + (9 + 3) + 9 + (3 + 1) + 3


def test_sequential_names_its_layers_by_position():
    model = Sequential(Linear(2, 3), Dropout(), Linear(3, 1))
    assert [name for name, _ in model.named_parameters()] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="Module must define forward"):
        Module()(1)


def test_a_call_without_forward_names_the_methods_there_are():
    class Sampler(Module):
        def sample(self):
            return 1

        def _hidden(self):
            return 2

    class Better(Sampler):
        def loss(self):
            return 3

    with pytest.raises(TypeError, match=r"^Better has no forward\(\), .* methods loss, sample$"):
        Better()(1)


def test_repr_shows_every_part_with_its_name_and_shapes():
    text = repr(House())
    for part in (
        "House(scale(3,), gain(3,)",
        "(door): Linear(weight(3, 2), bias(3,))",
        "(floors.1.0): Linear(weight(3, 3))",
        "(rooms.right): Dropout()",
    ):
        assert part in text


# ── modes ────────────────────────────────────────────────────────────────────────────────────────


def test_eval_and_train_reach_every_submodule():
    house = House()
    assert house.eval() is house
    assert not any(m.training for m in house.modules())
    house.train()
    assert all(m.training for m in house.modules())


def test_a_frozen_submodule_gets_no_gradient_and_the_rest_does():
    house = House()
    house.door.requires_grad_(False)
    house(Tensor(np.ones((4, 2)))).sum().backward()
    assert house.door.weight.grad is None
    assert house.gain.grad is not None
    assert {name for name, _ in house.named_parameters()} == NAMES


def test_an_unfrozen_submodule_gets_its_gradient_again():
    house = House().requires_grad_(False).requires_grad_()
    house(Tensor(np.ones((4, 2)))).sum().backward()
    assert all(p.grad is not None for p in house.parameters())


def test_zero_grad_clears_every_gradient():
    house = House()
    house(Tensor(np.ones((4, 2)))).sum().backward()
    house.zero_grad()
    assert all(p.grad is None for p in house.parameters())


# ── moves ────────────────────────────────────────────────────────────────────────────────────────


def test_to_a_dtype_casts_floats_and_leaves_integers():
    house = House().to(tinycv.float64)
    assert {name for name, t in house.state_dict().items() if t.dtype != np.float64} == {"visits"}


def test_to_a_device_moves_parameters_and_buffers_and_keeps_their_values(device):
    house = House()
    before = values(house)
    house.to(device)
    assert {t.device for t in house.state_dict().values()} == {device}
    assert same(values(house), before)


def test_a_moved_model_still_learns(device):
    house = House().to(device)
    house(Tensor(np.ones((4, 2)), device=device)).sum().backward()
    assert {p.grad.device for p in house.parameters()} == {device}


def test_moving_drops_gradients():
    house = House()
    house(Tensor(np.ones((4, 2)))).sum().backward()
    assert all(p.grad is None for p in house.to("float64").parameters())


# ── saved state ──────────────────────────────────────────────────────────────────────────────────


def test_state_dict_shares_memory_with_the_model():
    house = House()
    saved = house.state_dict()
    with tinycv.no_grad():
        house.gain *= 2.0
    assert (saved["gain"].numpy() == 2).all()


def test_a_loaded_model_computes_what_the_saved_one_did(device):
    x = Tensor(np.ones((4, 2)), device=device)
    saved, other = House().to(device), House().to(device)
    assert (saved(x).numpy() != other(x).numpy()).any()
    assert other.load_state_dict(saved.state_dict()) == ([], [])
    assert (saved(x).numpy() == other(x).numpy()).all()


def test_loading_copies_so_that_models_share_no_memory():
    saved, other = House(), House()
    other.load_state_dict(saved.state_dict())
    with tinycv.no_grad():
        saved.gain *= 2.0
    assert (other.gain.numpy() == 1).all()


def test_loading_keeps_the_models_own_dtype_and_device(device):
    house = House().to(device)
    house.load_state_dict(
        {name: array.astype(np.float64) for name, array in values(House()).items()}
    )
    assert (house.gain.dtype, house.gain.device) == (np.float32, device)


def broken(state):
    """One name missing, one too many, one of another shape."""
    state = {name: array + 1 for name, array in state.items() if name != "door.bias"}
    return state | {"attic.weight": np.ones(1), "gain": np.ones((3, 1), np.float32)}


def test_loading_what_does_not_fit_lists_every_misfit():
    with pytest.raises(ValueError) as caught:
        House().load_state_dict(broken(values(House())))
    for part in (
        "House",
        "missing: door.bias",
        "unexpected: attic.weight",
        "gain is (3, 1), should be (3,)",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("strict", [True, False])
def test_loading_what_does_not_fit_leaves_the_model_unchanged(strict):
    house = House()
    before = values(house)
    with pytest.raises(ValueError, match="left unchanged"):
        house.load_state_dict(broken(before), strict=strict)
    assert same(values(house), before)


def test_loading_with_strict_false_loads_what_fits_and_returns_the_rest():
    house = House()
    before = values(house)
    state = {"gain": np.full(3, 5.0), "attic.weight": np.ones(1)}
    missing, unexpected = house.load_state_dict(state, strict=False)
    assert set(missing) == set(before) - {"gain"}
    assert unexpected == ["attic.weight"]
    assert same(values(house), before | {"gain": np.full(3, 5.0)})


def test_backward_through_a_graph_from_before_a_load_is_refused():
    house = House()
    y = house(Tensor(np.ones((4, 2)))).sum()
    house.load_state_dict(House().state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# ── to: a device or a dtype ──

SPELLINGS = {
    "half": np.float16,
    "e": np.float16,
    "f2": np.float16,
    "single": np.float32,
    "f": np.float32,
    "<f4": np.float32,
    "float": np.float64,
    "double": np.float64,
    "d": np.float64,
    ">f8": np.float64,
    "=f8": np.float64,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_float_type_means_the_same_everywhere(spelling, device):
    wanted = np.dtype(SPELLINGS[spelling])
    layer = Linear(2, 3).to(device).to(spelling)
    x = Tensor(np.ones(2, np.float32), device=device).to(spelling)
    named = np.str_(spelling)
    assert Linear(2, 3).to(np.str_("cpu")).weight.device == x.to(np.str_("cpu")).device == "cpu"
    others = (
        Linear(2, 3).to(named).weight,
        x.to(named),
        x.astype(spelling),
        tinycv.zeros(2, dtype=spelling),
    )
    for made in (layer.weight, x, *others):
        assert made.dtype == wanted and made.dtype.isnative
    assert layer.to(np.dtype(spelling)).weight.dtype == wanted and layer.weight.device == x.device


@given(
    st.text(max_size=6)
    | st.sampled_from(
        [
            "cpu",
            "cuda",
            "gpux",
            "cpu:0",
            "float31",
            "half ",
            "GPU",
            "auto:1",
            "e4",
            "f,f",
            "int8",
            "bool",
            "U",
            "complex",
            "half",
        ]
    )
)
def test_tensors_and_modules_agree_which_words_are_dtypes_or_devices(word):
    """A module takes no integers, and says so; all else is as a tensor has it."""

    def outcome(thing, t):
        try:
            t = thing.to(word) if thing is t else thing.to(word).weight
            return t.dtype, t.device
        except (TypeError, ValueError, tinycv.GpuUnavailable) as error:
            assert "numpy" not in str(error).lower()
            return type(error)

    x, layer = Tensor(np.ones(2, np.float32)), Linear(2, 2)
    with warnings.catch_warnings():
        # of NumPy's old spellings; "auto" without a GPU
        warnings.simplefilter("ignore")
        tensor, module = outcome(x, x), outcome(layer, layer.weight)
    integers = isinstance(tensor, tuple) and tensor[0].kind != "f"
    assert module == (TypeError if integers else tensor)


@pytest.mark.parametrize("word", ["word", "", "gpux", "float31", "cpu:0"])
def test_an_error_for_neither_device_nor_dtype_names_both(word):
    for x, who in ((Tensor([1.0]), "to"), (Linear(1, 1), "Linear.to")):
        with pytest.raises(
            ValueError, match=f"^{who}: unknown device or dtype '{word}': choose 'cpu'"
        ):
            x.to(word)


@pytest.mark.parametrize(
    "target",
    [None, 3, Tensor([1.0]), np.ones(2), np.float32(1), "int64", "bool", "U", "complex", "f,f"],
    ids=["None", "int", "Tensor", "array", "number", "int64", "bool", "U", "complex", "struct"],
)
def test_a_module_can_only_become_a_float_type(target):
    with pytest.raises(TypeError, match="Linear.to: target is .*; it must be a device"):
        Linear(1, 1).to(target)
