"""Wrong arguments of every public name in tinycv.nn: the error names function and argument."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from wrong_calls import riddles

import tinycv
from tinycv import Tensor, nn, sequence
from tinycv.nn import functional as F
from tinycv.nn import init

pytestmark = pytest.mark.filterwarnings("ignore")


def floats(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype("f4"))


IMAGE, CLASSES, TABLE = (2, 4, 6, 6), Tensor(np.array([1, 0, 2])), floats(5, 3)
BATCH = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
WALK = {"stride": 1, "padding": 1, "dilation": 1}

# A good call of each: all of its arguments, by name. A layer has two: how it is made, and what it
# is called with.
FUNCTIONS = {
    "adaptive_instance_norm": {
        "content": floats(2, 4, 3, 3),
        "style": floats(2, 4, 2, 5),
        "eps": 1e-5,
    },
    "avg_pool2d": {"x": floats(*IMAGE), "kernel_size": 2, "stride": 2, "padding": 1},
    "batch_norm": {
        "x": floats(4, 3),
        "running_mean": floats(3),
        "running_var": floats(3) ** 2,
        "weight": floats(3),
        "bias": floats(3),
        "training": True,
        "momentum": 0.1,
        "eps": 1e-5,
    },
    "binary_cross_entropy_with_logits": {
        "input": floats(3, 2),
        "target": floats(3, 2),
        "weight": floats(3, 2),
        "pos_weight": floats(2),
        "reduction": "mean",
    },
    "conv2d": {
        "x": floats(*IMAGE),
        "weight": floats(6, 2, 3, 3),
        "bias": floats(6),
        **WALK,
        "groups": 2,
    },
    "conv_transpose2d": {
        "x": floats(*IMAGE),
        "weight": floats(4, 3, 3, 3),
        "bias": floats(6),
        **WALK,
        "output_padding": 0,
        "groups": 2,
    },
    "cross_entropy": {
        "input": floats(3, 4),
        "target": CLASSES,
        "weight": floats(4),
        "ignore_index": -100,
        "reduction": "mean",
        "label_smoothing": 0.1,
    },
    "dropout": {"x": floats(3, 2), "p": 0.5, "training": True},
    "embedding": {"ids": CLASSES, "weight": TABLE, "padding_idx": 0},
    "gelu": {"x": floats(3), "approximate": "tanh"},
    "group_norm": {
        "x": floats(2, 4, 3),
        "num_groups": 2,
        "weight": floats(4),
        "bias": floats(4),
        "eps": 1e-5,
    },
    "gumbel_softmax": {
        "logits": floats(2, 3),
        "tau": 0.5,
        "hard": True,
        "axis": 1,
        "noise": floats(2, 3),
    },
    "instance_norm": {
        "x": floats(2, 4, 3),
        "weight": floats(4),
        "bias": floats(4),
        "eps": 1e-5,
    },
    "interpolate": {
        "x": floats(*IMAGE),
        "size": (3, 4),
        "scale_factor": None,
        "mode": "bilinear",
        "align_corners": True,
    },
    "layer_norm": {"x": floats(2, 4), "weight": floats(4), "bias": floats(4), "eps": 1e-5},
    "leaky_relu": {"x": floats(3), "negative_slope": 0.1},
    "linear": {"x": floats(2, 4), "weight": floats(3, 4), "bias": floats(3)},
    "log_softmax": {"x": floats(2, 3), "axis": -1},
    "max_pool2d": {"x": floats(*IMAGE), "kernel_size": 2, "stride": 2, "padding": 1},
    "mse_loss": {"input": floats(3, 2), "target": floats(3, 2), "reduction": "mean"},
    "pad": {"x": floats(*IMAGE), "pad": (1, 2, 0, 1), "mode": "constant", "value": 0.5},
    "pixel_shuffle": {"x": floats(1, 4, 2, 3), "upscale_factor": 2},
    "pixel_unshuffle": {"x": floats(1, 1, 4, 6), "downscale_factor": 2},
    "relu": {"x": floats(3)},
    "sigmoid": {"x": floats(3)},
    "silu": {"x": floats(3)},
    "softmax": {"x": floats(2, 3), "axis": -1},
    "softplus": {"x": floats(3)},
    "tanh": {"x": floats(3)},
}
LAYERS = {
    "AvgPool2d": ({"kernel_size": 2, "stride": 2, "padding": 1}, [IMAGE]),
    "BCEWithLogitsLoss": (
        {"weight": floats(2), "reduction": "sum", "pos_weight": floats(2)},
        [(3, 2), (3, 2)],
    ),
    "BatchNorm1d": ({"num_features": 3, **BATCH}, [(4, 3)]),
    "BatchNorm2d": ({"num_features": 4, **BATCH}, [IMAGE]),
    "Conv2d": (
        {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **WALK, "groups": 2, "bias": True},
        [IMAGE],
    ),
    "ConvTranspose2d": (
        {
            "in_channels": 4,
            "out_channels": 6,
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "output_padding": 1,
            "groups": 2,
            "bias": True,
            "dilation": 1,
        },
        [IMAGE],
    ),
    "CrossEntropyLoss": (
        {"weight": floats(4), "ignore_index": -100, "reduction": "sum", "label_smoothing": 0.1},
        [(3, 4), CLASSES],
    ),
    "Dropout": ({"p": 0.5}, [(3, 2)]),
    "Embedding": ({"num_embeddings": 5, "embedding_dim": 3, "padding_idx": 0}, [CLASSES]),
    "Flatten": ({}, [IMAGE]),
    "GELU": ({"approximate": "none"}, [(3,)]),
    "GroupNorm": ({"num_groups": 2, "num_channels": 4, "eps": 1e-5, "affine": True}, [IMAGE]),
    "Identity": ({}, [(3,)]),
    "InstanceNorm2d": (
        {
            "num_features": 4,
            "eps": 1e-5,
            "momentum": 0.1,
            "affine": True,
            "track_running_stats": False,
        },
        [IMAGE],
    ),
    "LayerNorm": ({"normalized_shape": (6, 6), "eps": 1e-5, "bias": True}, [IMAGE]),
    "LeakyReLU": ({"negative_slope": 0.1}, [(3,)]),
    "Linear": ({"in_features": 4, "out_features": 3, "bias": True}, [(2, 4)]),
    "MSELoss": ({"reduction": "sum"}, [(3, 2), (3, 2)]),
    "MaskedConv2d": (
        {"in_channels": 4, "out_channels": 3, "kernel_size": 3, "mask_type": "A", "bias": True},
        [IMAGE],
    ),
    "MaskedLinear": (
        {"in_features": 4, "out_features": 3, "mask": np.tri(3, 4, dtype=bool), "bias": True},
        [(2, 4), Tensor(np.tri(3, 4, 1, dtype=bool))],
    ),
    "MaxPool2d": ({"kernel_size": 2, "stride": 2, "padding": 1}, [IMAGE]),
    "PixelShuffle": ({"upscale_factor": 2}, [(1, 4, 2, 3)]),
    "PixelUnshuffle": ({"downscale_factor": 2}, [(1, 1, 4, 6)]),
    "ReLU": ({}, [(3,)]),
    "ReflectionPad2d": ({"padding": (1, 2, 0, 1)}, [IMAGE]),
    "ReplicationPad2d": ({"padding": 2}, [IMAGE]),
    "SiLU": ({}, [(3,)]),
    "Sigmoid": ({}, [(3,)]),
    "Softmax": ({"axis": 1}, [(2, 3)]),
    "Softplus": ({}, [(3,)]),
    "SpectralNorm": ({"layer": nn.Linear(4, 3)}, [(2, 4)]),
    "Tanh": ({}, [(3,)]),
    "Upsample": (
        {"size": None, "scale_factor": 2.0, "mode": "bilinear", "align_corners": False},
        [IMAGE],
    ),
    "VectorQuantizer": ({"codes": 4, "dim": 3, "commitment": 0.5}, [(2, 3)]),
    "ZeroPad2d": ({"padding": 1}, [IMAGE]),
}
STARTS = {
    "fans": {"shape": (3, 4)},
    "kaiming_normal": {"shape": (3, 4), "a": 0.1},
    "kaiming_uniform": {"shape": (3, 4), "a": 0.1},
    "normal": {"shape": (3, 4), "std": 1.0, "mean": 0.0},
    "ones": {"shape": (3,)},
    "zeros": {"shape": (3,)},
    "trunc_normal": {"shape": (3, 4), "std": 0.1, "limit": 2.0},
    "uniform": {"shape": (3,), "bound": 0.1},
    "xavier_normal": {"shape": (3, 4), "gain": 1.0},
    "xavier_uniform": {"shape": (3, 4), "gain": 1.0},
}
# test_containers.py and others
ELSEWHERE = {"Module", "Parameter", "Sequential", "checkpoint", "functional", "init"}


def test_the_tables_list_every_public_name():
    assert set(FUNCTIONS) == set(F.__all__)
    assert set(LAYERS) | ELSEWHERE == set(nn.__all__)
    assert set(STARTS) == {
        name
        for name, f in vars(init).items()
        if inspect.isfunction(f) and f.__module__ == init.__name__ and not name.startswith("_")
    }


@pytest.mark.parametrize(
    "table", [FUNCTIONS, LAYERS, STARTS], ids=["functions", "layers", "starts"]
)
def test_every_good_call_passes_every_argument(table):
    home = {id(FUNCTIONS): F, id(LAYERS): nn, id(STARTS): init}[id(table)]
    for name, good in table.items():
        good = good[0] if isinstance(good, tuple) else good
        named = set(inspect.signature(getattr(home, name)).parameters)
        named.discard("unknown")  # any other argument, which is refused by name
        # relu and its like are rows of the engine's table
        assert "args" in named or set(good) == named, name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_argument_of_a_function_is_named_in_the_error(name):
    names = (name, "batch_standard") if name == "batch_norm" else (name,)
    function = getattr(F, name)
    # rows of the engine's table: inputs by position
    if name in ("relu", "sigmoid", "softplus", "tanh"):
        found = riddles(lambda x: function(x), FUNCTIONS[name], name)
    else:
        found = riddles(function, FUNCTIONS[name], *names)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", LAYERS)
def test_a_wrong_argument_of_a_layer_is_named_in_the_error(name):
    found = riddles(getattr(nn, name), LAYERS[name][0], name, "spectral norm", "ones: shape is")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", LAYERS)
def test_a_wrong_input_of_a_layer_is_named_in_the_error(name):
    options, inputs = LAYERS[name]
    layer = getattr(nn, name)(**options)
    inputs = [floats(*x) if isinstance(x, tuple) else x for x in inputs]
    names = inspect.signature(layer.forward).parameters
    if "args" in names:
        return
    function = {
        "BatchNorm1d": "batch_",
        "BatchNorm2d": "batch_",
        "SpectralNorm": "linear",
        "GELU": "gelu",
        "SiLU": "silu",
        "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
        "MSELoss": "mse_loss",
        "Conv2d": "conv2d",
        "MaskedConv2d": "conv2d",
        "MaskedLinear": "linear",
        "CrossEntropyLoss": "cross_entropy",
        "LeakyReLU": "leaky_relu",
        "LayerNorm": "layer_norm",
        "GroupNorm": "group_norm",
        "ConvTranspose2d": "conv_transpose2d",
        "MaxPool2d": "max_pool2d",
        "AvgPool2d": "avg_pool2d",
        "InstanceNorm2d": "instance_norm",
        "Upsample": "interpolate",
        "PixelShuffle": "pixel_shuffle",
        "PixelUnshuffle": "pixel_unshuffle",
        "ReflectionPad2d": "pad",
        "ReplicationPad2d": "pad",
        "ZeroPad2d": "pad",
    }.get(name, name.lower())
    found = riddles(layer, dict(zip(names, inputs, strict=True)), function, name)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", STARTS)
def test_a_wrong_argument_of_an_initialiser_is_named_in_the_error(name):
    found = riddles(getattr(init, name), STARTS[name])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("whole", [np.int64, np.int8, np.uint16, lambda n: np.array(n)])
def test_a_size_may_be_any_integer_type(whole):
    two, three, four = whole(2), whole(3), whole(4)
    assert nn.Linear(four, three)(tinycv.ones(1, 4)).shape == (1, 3)
    assert nn.Embedding(four, three, two)([1, 3]).shape == (2, 3)
    assert nn.LayerNorm((three, four))(tinycv.ones(2, 3, 4)).shape == (2, 3, 4)
    assert nn.LayerNorm(four)(tinycv.ones(2, 4)).shape == (2, 4)
    assert nn.GroupNorm(two, four)(tinycv.ones(2, 4, 3)).shape == (2, 4, 3)
    assert nn.Conv2d(four, two, three, two, whole(1), whole(1), two)(
        tinycv.ones(1, 4, 5, 5)
    ).shape == (1, 2, 3, 3)
    assert nn.Conv2d(four, two, (three, two), (two, two))(tinycv.ones(1, 4, 5, 5)).shape == (
        1,
        2,
        2,
        2,
    )
    assert nn.ConvTranspose2d(four, two, three, two)(tinycv.ones(1, 4, 2, 2)).shape == (1, 2, 5, 5)
    assert nn.MaxPool2d(two, two, whole(1))(tinycv.ones(1, 4, 4, 4)).shape == (1, 4, 3, 3)
    assert nn.BatchNorm1d(four)(tinycv.ones(2, 4)).shape == (2, 4)
    assert nn.Softmax(whole(1))(tinycv.ones(2, 4)).shape == (2, 4)
    assert init.zeros((two, three)).shape == (2, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.linear(floats(2, 4), floats(3, 4), floats(4)),
        lambda: F.linear(floats(2, 4), floats(3, 4), floats(3, 1)),
        lambda: F.layer_norm(floats(2, 4), floats(3)),
        lambda: F.layer_norm(floats(2, 4), None, floats(1)),
        lambda: F.group_norm(floats(2, 4), 2, floats(2)),
        lambda: F.group_norm(floats(2, 4), 2, None, floats(1, 4)),
        lambda: F.conv2d(floats(1, 2, 3, 3), floats(3, 2, 1, 1), floats(2)),
    ],
    ids=range(7),
)
def test_a_weight_or_bias_that_does_not_fit_is_named_with_both_shapes(call):
    with pytest.raises(ValueError, match=r"(weight|bias) has shape \(.*it must be \("):
        call()


LAYER_NORM = {
    "tuple": lambda x, w: F.layer_norm(x, (2,), w, w),
    "list": lambda x, w: F.layer_norm(x, [2]),
    "number": lambda x, w: F.layer_norm(x, 2),
    "two axes": lambda x, w: F.layer_norm(x, (3, 2)),
    "shape": lambda x, w: F.layer_norm(x, x.shape[1:], w, w, 1e-5),
    "weight by name": lambda x, w: F.layer_norm(x, (2,), weight=w),
    "by name": lambda x, w: F.layer_norm(x, normalized_shape=(2,)),
    "all by name": lambda x, w: F.layer_norm(input=x, normalized_shape=(2,), weight=w),
}


@pytest.mark.parametrize("call", LAYER_NORM)
def test_the_error_for_pytorchs_call_of_layer_norm_explains_the_difference(call):
    x, w = Tensor(np.ones((3, 2), np.float32)), Tensor(np.ones(2, np.float32))
    with pytest.raises(
        TypeError,
        match="^layer_norm: (weight is .*; it must be an array or a Tensor, or None|"
        "normalized_shape was given). It always normalises over the last axis",
    ):
        LAYER_NORM[call](x, w)


@pytest.mark.parametrize("method", ["named_parameters", "named_buffers"])
@pytest.mark.parametrize(
    "value", ["layer", "", 1, None], ids=["a prefix", "empty", "number", "None"]
)
def test_remove_duplicate_must_be_a_bool(method, value):
    with pytest.raises(
        TypeError, match=f"^{method}: remove_duplicate is .*; it must be True or False$"
    ):
        getattr(nn.Linear(2, 2), method)(value)


def test_prefix_must_be_a_string():
    with pytest.raises(TypeError, match=r"^named_modules: prefix is set\(\); it must be a string$"):
        list(nn.Linear(2, 2).named_modules(set()))


NOT_FLAGS = {
    "word": "no",
    "0": 0,
    "1": 1,
    "None": None,
    "array": np.array([True, False]),
    "list": [],
}


@pytest.mark.parametrize("value", NOT_FLAGS.values(), ids=NOT_FLAGS)
@pytest.mark.parametrize(
    "call",
    [
        lambda layer, flag: layer.load_state_dict({}, strict=flag),
        lambda layer, flag: layer.named_parameters(flag),
        lambda layer, flag: layer.named_buffers(flag),
        lambda layer, flag: layer.named_tensors(flag),
        lambda layer, flag: layer.named_modules(remove_duplicate=flag),
        lambda layer, flag: layer.train(flag),
        lambda layer, flag: layer.requires_grad_(flag),
    ],
    ids=[
        "load_state_dict",
        "named_parameters",
        "named_buffers",
        "named_tensors",
        "named_modules",
        "train",
        "requires_grad_",
    ],
)
def test_a_wrong_flag_is_refused_when_the_method_is_called(call, value):
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="it must be True or False"):
        call(layer, value)
    assert layer.training and layer.weight.requires_grad


def test_wrong_names_and_functions_for_a_module_are_refused():
    layer = nn.Sequential(nn.Linear(2, 2))
    assert [name for name, _ in layer.named_modules("a", np.False_)] == ["a", "a.0"]
    for wrong in (3, None, b"a"):
        with pytest.raises(TypeError, match="named_modules: prefix is"):
            layer.named_modules(wrong)
    for wrong in (None, 3, "word"):
        with pytest.raises(TypeError, match="apply: function is"):
            layer.apply(wrong)


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "b"]),
        np.array([[None]]),
        np.ones((2, 2), complex),
        np.zeros(2, "M8[s]"),
        np.ma.masked_array(np.ones((2, 2)), np.eye(2)),
        np.zeros(2, "i4,f4"),
    ],
    ids=["texts", "objects", "complex", "dates", "masked", "records"],
)
def test_only_numbers_are_flattened(value):
    with pytest.raises(TypeError, match="Flatten: x: an? .* cannot become a Tensor"):
        nn.Flatten()(value)


class Kind:
    """As torch.dtype: a dtype without a kind."""


class Foreign:
    """As an array of PyTorch."""

    ndim, dtype, shape = 2, Kind(), (4, 3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: nn.BatchNorm1d(3)(x), "BatchNorm1d: x is Foreign"),
        (lambda x: F.batch_norm(x, None, None), "batch_norm: x is"),
        (
            lambda x: F.batch_norm(floats(4, 3), *[vector(x)] * 2),
            "batch_norm: running_mean is Foreign",
        ),
        (lambda x: nn.Flatten()(x), "Flatten: x"),
        (lambda x: nn.Embedding(5, 3, x), "padding_idx is Foreign"),
        (lambda x: nn.Sequential(nn.Tanh())[x], "Sequential: index is Foreign"),
        (lambda x: F.cross_entropy(floats(3, 4), CLASSES, ignore_index=x), "cross_entropy"),
        (lambda x: sequence.gru(x, *[floats(2, 2)] * 5), "gru: x is"),
        (lambda x: sequence.rnn(x, *[floats(2, 2)] * 5), "rnn: x is"),
    ],
    ids=["layer", "x", "running", "flatten", "padding_idx", "index", "ignore_index", "gru", "rnn"],
)
def test_an_array_of_another_library_is_refused_with_a_clear_error(call, words):
    with pytest.raises((TypeError, ValueError), match=words) as error:
        call(Foreign())
    assert "has no attribute" not in str(error.value)


def vector(x):
    found = type(x)()
    found.shape, found.ndim = (3,), 1
    return found


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: nn.Embedding(5, 3, int), "padding_idx is <class 'int'>"),
        (lambda: F.softmax(floats(2), int), "axis is <class"),
        (lambda: nn.Sequential(nn.Tanh())[int], "index is <class 'int'>"),
        (lambda: nn.CrossEntropyLoss(ignore_index=int), "ignore_index is <class 'int'>"),
    ],
    ids=["padding_idx", "axis", "index", "ignore_index"],
)
def test_the_type_int_is_not_accepted_as_a_number(call, words):
    with pytest.raises(TypeError, match=words + ".* it must be a whole number"):
        call()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "loss",
    [
        lambda x: F.mse_loss(x, np.zeros((0, 2), "f4")),
        lambda x: F.cross_entropy(x, np.zeros(0, int)),
        lambda x: F.cross_entropy(x, np.zeros((0, 2), "f4")),
        lambda x: F.cross_entropy(x, np.zeros(0, int), np.ones(2, "f4")),
        lambda x: F.binary_cross_entropy_with_logits(x, np.zeros((0, 2), "f4")),
    ],
    ids=["mse", "classes", "probabilities", "weights", "binary"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_over_no_examples_is_nan_without_a_warning(loss, dtype):
    x = Tensor(np.zeros((0, 2), dtype), requires_grad=True)
    y = loss(x)
    assert np.isnan(y.numpy()) and y.dtype == dtype and y.shape == ()
    assert tinycv.grad(y, x)[0].shape == (0, 2)


@pytest.mark.filterwarnings("error")
def test_if_all_rows_are_ignored_the_mean_is_nan_and_the_gradient_0():
    x = floats(2, 3)
    x.requires_grad = True
    y = F.cross_entropy(x, np.array([-100, -100]))
    y.backward()
    assert np.isnan(y.numpy()) and not x.grad.numpy().any()


@pytest.mark.parametrize("eps", [1e300, 1e39, np.inf])
@pytest.mark.parametrize(
    "call",
    [
        lambda e: nn.LayerNorm(2, e),
        lambda e: nn.GroupNorm(1, 2, e),
        lambda e: nn.BatchNorm1d(2, e),
        lambda e: F.layer_norm(floats(2, 2), eps=e),
    ],
    ids=["LayerNorm", "GroupNorm", "BatchNorm1d", "layer_norm"],
)
def test_an_eps_that_float32_cannot_hold_is_refused(call, eps):
    with pytest.raises(ValueError, match="eps is .* at most 3.40282e.38"):
        call(eps)


def test_running_statistics_in_read_only_memory_are_named():
    array = np.ones(3, "f4")
    array.flags.writeable = False
    with pytest.raises(
        ValueError, match="batch_norm: running_mean of shape .* is read-only memory"
    ):
        F.batch_norm(floats(4, 3), Tensor(array), Tensor(array), training=True)
    F.batch_norm(floats(4, 3), Tensor(array), Tensor(array))
