"""Wrong calls of functions that create and join Tensors: the error names function or argument."""

import warnings

import numpy as np
import pytest
from wrong_calls import riddles

import tinycv
from tinycv import Tensor

X = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
DTYPE, DEVICE = "dtype is", "device is"
CALLS = {
    "tensor": (
        tinycv.tensor,
        {"data": [1.0], "dtype": "float32", "device": "cpu", "requires_grad": False},
        "become a Tensor",
        DTYPE,
        DEVICE,
        "requires_grad",
    ),
    "Parameter": (
        tinycv.Parameter,
        {"data": [1.0], "requires_grad": True},
        "become a Tensor",
        "require",
    ),
    "zeros": (lambda shape: tinycv.zeros(shape), {"shape": (2, 3)}, "zeros"),
    "ones": (lambda shape: tinycv.ones(shape), {"shape": (2, 3)}, "ones"),
    "full": (
        tinycv.full,
        {"shape": (2,), "value": 1.0, "dtype": "float32", "device": "cpu"},
        "full",
        DTYPE,
        DEVICE,
    ),
    "eye": (tinycv.eye, {"n": 3, "dtype": "float32", "device": "cpu"}, "eye", DTYPE, DEVICE),
    "arange": (
        lambda start, stop, step: tinycv.arange(start, stop, step),
        {"start": 0, "stop": 3, "step": 1},
        "arange",
    ),
    "randn": (tinycv.randn, {"dtype": "float32", "device": "cpu"}, "randn", DTYPE, DEVICE),
    "rand": (lambda shape: tinycv.rand(shape), {"shape": (2, 3)}, "rand"),
    "zeros_like": (tinycv.zeros_like, {"x": X}, "zeros_like"),
    "full_like": (tinycv.full_like, {"x": X, "value": 2.0}, "full_like", "full"),
    "randn_like": (tinycv.randn_like, {"x": X}, "randn_like"),
    "rand_like": (tinycv.rand_like, {"x": X}, "rand_like"),
    "one_hot": (tinycv.one_hot, {"labels": tinycv.tensor([0, 1]), "num_classes": 2}, "one_hot"),
    "ones_like": (tinycv.ones_like, {"x": X}, "ones_like"),
    "concatenate": (
        lambda tensors: tinycv.concatenate(tensors),
        {"tensors": [X, X]},
        "concatenate",
    ),
    "stack": (lambda tensors: tinycv.stack(tensors), {"tensors": [X, X]}, "stack"),
    "split": (tinycv.split, {"x": X, "sections": 1, "axis": 0}, "split"),
    "take_along_axis": (
        tinycv.take_along_axis,
        {"x": X, "index": np.array([[0], [1]]), "axis": 1},
        "take_along_axis",
        "getitem",
        "out of range for an axis",
    ),
    "to": (lambda target: X.to(target), {"target": "float32"}, DTYPE, "unknown device or dtype"),
    "astype": (lambda dtype: X.astype(dtype), {"dtype": "float32"}, DTYPE),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_wrong_call_raises_a_clear_error(name):
    function, good, *names = CALLS[name]
    function(**good)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not riddles(function, good, *names)


def test_every_type_of_whole_number_is_accepted_as_a_size():
    for kind in (int, np.int64, np.uint8, lambda n: Tensor(np.array(n))):
        assert (
            tinycv.zeros(kind(2), kind(3)).shape == tinycv.ones((kind(2), kind(3))).shape == (2, 3)
        )
        assert (
            tinycv.randn(kind(2)).shape == (2,) and len(tinycv.split(X, kind(3), axis=kind(1))) == 3
        )
        assert tinycv.arange(kind(4)).tolist() == [0, 1, 2, 3] and tinycv.eye(kind(2)).shape == (
            2,
            2,
        )


def test_take_along_axis_broadcasts_as_in_numpy():
    values = np.arange(12.0).reshape(3, 4)
    for index, axis in (
        (np.array([[1, -1]]), 1),
        (np.array([[0, 2, 1, 0]]), 0),
        (np.array([[0], [1], [3]]), 1),
    ):
        np.testing.assert_array_equal(
            tinycv.take_along_axis(Tensor(values), index, axis).numpy(),
            np.take_along_axis(values, index, axis),
        )


def test_arange_returns_int64_or_float32():
    assert tinycv.arange(3).dtype == np.int64 and tinycv.arange(0, 1, 0.1).dtype == np.float32
    assert (
        tinycv.arange(0, 1, 0.1).shape == (10,)
        and tinycv.arange(3, dtype="float64").dtype == np.float64
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("make", [tinycv.randn_like, tinycv.rand_like])
def test_random_numbers_like_x_have_its_shape_dtype_and_device(device, make, dtype):
    x = tinycv.zeros(40, 50, dtype=dtype, device=device)
    made = make(x)
    assert (made.shape, made.dtype, made.device) == (x.shape, x.dtype, x.device)
    tinycv.manual_seed(3)
    first = make(x).numpy()
    tinycv.manual_seed(3)
    assert (make(x).numpy() == first).all()
    mean, spread = (0.0, 1.0) if make is tinycv.randn_like else (0.5, 12**-0.5)
    # The mean of 2,000 numbers has a standard error of spread / 45; the bound allows six of these.
    assert abs(float(first.mean(dtype="float64")) - mean) < 0.14 * spread
    assert abs(float(first.std(dtype="float64")) / spread - 1) < 0.15


def test_full_like_takes_the_value_and_the_dtype(device):
    made = tinycv.full_like(tinycv.zeros(2, 3, dtype="float64", device=device), 2.5)
    assert made.device == tinycv.zeros(1, device=device).device
    assert made.dtype == "float64" and made.numpy().tolist() == [[2.5] * 3] * 2


def test_one_hot_is_one_only_at_the_class(device):
    labels = tinycv.tensor([[2, 0], [1, 1]], device=device)
    made = tinycv.one_hot(labels, 3)
    assert made.dtype == "float32" and made.device == labels.device
    assert made.numpy().tolist() == np.eye(3)[[[2, 0], [1, 1]]].tolist()


def test_one_hot_of_an_unknown_class_is_refused_or_nan(device):
    labels = tinycv.tensor([0, 3], device=device)
    if device == "cpu":
        with pytest.raises(
            IndexError, match="one_hot: labels holds 3; 3 classes are numbered from 0 to 2"
        ):
            tinycv.one_hot(labels, 3)
    else:
        made = tinycv.one_hot(labels, 3).numpy()
        assert made[0].tolist() == [1, 0, 0] and np.isnan(made[1]).all()
