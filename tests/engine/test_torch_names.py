"""What a user of PyTorch types first works, or the error says what to type; and each hint runs."""

import copy
import pickle
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from torch_idioms import IDIOMS, names

import tinycv
from tinycv import data, nn, optim
from tinycv.engine.torch_names import HINTS, LEFT_OUT, RENAMED, hint, renamed, with_hints
from tinycv.nn import functional
from tinycv.training import checkpoint

ARRAY = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)
PLACES = {
    "tinycv": tinycv,
    "nn": nn,
    "nn.functional": functional,
    "nn.init": nn.init,
    "optim": optim,
    "data": data,
}
ALL = [(place, name) for place, hints in HINTS.items() for name in hints]


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """The names that lines of code use."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), ord(name)).save(f"photos/{name}/1.png")
    checkpoint.save_model("model.safetensors", nn.Linear(3, 2))
    found = names(tinycv, "model.safetensors", ARRAY)
    images = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    more = {"a": found["x"][0], "b": found["y"][0], "images": images, "np": np, "tinycv": tinycv}
    return {**found, **more}


# ── the idioms ───────────────────────────────────────────────────────────────────────────────────


def test_there_are_enough_idioms_and_none_comes_twice():
    assert len(IDIOMS) == len(set(IDIOMS)) > 250


@pytest.mark.parametrize("line", IDIOMS)
def test_an_idiom_works_or_its_error_says_what_to_type(line, typed):
    try:
        eval(line, typed)
    except (AttributeError, TypeError) as error:
        said = str(error)
        assert ": type " in said or "PyTorch's normalized_shape is no argument" in said
        assert "\n" not in said


# ── the hints ────────────────────────────────────────────────────────────────────────────────────


def code_of(place: str, name: str) -> str:
    suggestion = HINTS[place][name]
    return suggestion if isinstance(suggestion, str) else suggestion[0]


@pytest.mark.parametrize("place, name", ALL, ids=lambda value: value)
def test_what_a_hint_says_can_be_typed(place, name, typed, double):
    del double  # a strict double of CuPy, for hints that move something to a GPU
    exec(code_of(place, name), typed)


@pytest.mark.parametrize("place, name", ALL, ids=lambda value: value)
def test_a_name_with_a_hint_is_missing_where_it_is_looked_for(place, name, typed):
    owner = {**PLACES, "Tensor": typed["x"], "Module": typed["model"]}[place]
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    assert str(caught.value).endswith(f"has no attribute {name!r}{hint(place, name)}")
    assert not hasattr(owner, name) and getattr(owner, name, 3) == 3


@pytest.mark.parametrize("owner", [*PLACES.values(), tinycv.tensor(1.0), nn.Linear(1, 1)])
def test_other_names_have_pythons_own_error(owner):
    kind = f"module {owner.__name__!r}" if isinstance(owner, ModuleType) else ""
    expected = kind or f"{type(owner).__name__!r} object"
    with pytest.raises(AttributeError, match=f"^{expected} has no attribute 'nonsense'$"):
        _ = owner.nonsense


def test_an_attribute_error_inside_a_property_is_not_hidden():
    class Broken(nn.Module):
        @property
        def width(self):
            return self.weights.shape

    with pytest.raises(AttributeError, match="'weights'"):
        _ = Broken().width


def test_a_hint_does_not_hide_an_error_in_a_property_of_the_same_name():
    class Halves(nn.Module):
        @property
        def half(self):
            return self.width // 2

    with pytest.raises(AttributeError, match="no attribute 'width'$"):
        _ = Halves().half


def test_the_layers_of_a_sequential_have_hints_too():
    with pytest.raises(AttributeError, match=r'cuda.: type model\.to\("gpu"\)'):
        _ = nn.Sequential(nn.ReLU()).cuda


# ── arguments ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line, words",
    [
        ("x.mean(dim=1, keepdim=True)", "type axis= instead of dim= and keepdims= instead of keep"),
        ("x.std(dim=1)", "type axis= instead of dim="),
        ("torch.stack([x], dim=0)", "stack: there is no argument dim: type axis= instead of dim="),
        ("x.split(1, dim=0)", "split: .*: type axis= instead of dim="),
        ("F.softmax(x, dim=1)", "type axis= instead of dim="),
        ("nn.Softmax(dim=1)", "Softmax: .*: type axis= instead of dim="),
        (
            "nn.ReLU(inplace=True)",
            "ReLU: it takes no arguments, .*: type the call without inplace=",
        ),
        ("nn.Flatten(start_dim=1)", r"Flatten: .*: type the call without start_dim= \(all axes"),
        (
            "tinycv.data.DataLoader(array, batch_size=2, num_workers=2)",
            r"DataLoader: .*: type the call without num_workers= \(the arrays are in memory\)",
        ),
    ],
)
def test_an_argument_of_pytorch_has_a_hint(line, words, typed):
    with pytest.raises(TypeError, match=words):
        eval(line, typed)


def test_only_the_unknown_arguments_are_called_unknown():
    with pytest.raises(TypeError, match="^DataLoader: there is no argument num_workers: type"):
        tinycv.data.DataLoader([0, 1], batch_size=2, num_workers=2)  # type: ignore[call-arg]


def test_a_function_may_really_have_an_argument_that_is_called_as_in_pytorch():
    assert with_hints(lambda x, dim: (x, dim))(1, dim=2) == (1, 2)


def test_arguments_are_renamed_or_left_out_and_others_have_no_hint():
    assert not RENAMED.keys() & LEFT_OUT.keys()
    assert renamed(["colour"]) == "" and renamed([]) == ""


def test_a_layer_without_arguments_refuses_them_by_name():
    with pytest.raises(TypeError, match="^ReLU: it takes no arguments, but got 3$"):
        nn.ReLU(3)


def test_another_base_class_gets_its_arguments():
    class Named:
        def __init__(self, name):
            self.name = name

    class Layer(nn.Module, Named):
        pass

    assert Layer("a").name == Layer(name="a").name == "a"


@pytest.mark.parametrize("axis, words", [((), r"type x\.shape$"), ((0,), r"type x\.shape\[0\]$")])
def test_calling_size_says_what_to_type(axis, words):
    with pytest.raises(TypeError, match=words):
        tinycv.zeros(2, 3).size(*axis)


# ── nothing else has changed ─────────────────────────────────────────────────────────────────────


COPIES = [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]


def test_size_is_a_whole_number_as_before():
    size = tinycv.zeros(2, 3).size
    assert size == 6 and isinstance(size, int) and f"{size} {size!r}" == "6 6"
    assert np.zeros(size).shape == (6,) and tinycv.zeros(size).shape == (6,)
    assert pickle.loads(pickle.dumps(size)) == 6


@pytest.mark.parametrize(
    "made", [lambda: tinycv.ones(2), lambda: nn.Parameter(np.ones(2, np.float32))]
)
@pytest.mark.parametrize("copied", COPIES)
def test_tensors_are_copied_and_pickled(copied, made):
    x = made()
    assert type(copied(x)) is type(x) and copied(x).numpy().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("copied", COPIES)
def test_modules_are_copied_and_pickled(copied):
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    assert list(copied(model).state_dict()) == list(model.state_dict())


def test_numpy_sees_the_same_tensor():
    x = tinycv.ones(2, 3)
    assert np.asarray(x).shape == np.array(x).shape == np.shape(x) == (2, 3)
    assert np.ndim(x) == 2 and np.result_type(x.numpy(), np.float32) == np.float32
