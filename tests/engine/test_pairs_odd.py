"""Pairs on unusual inputs: integers, bools, float16, mixed dtypes, NaN and infinity, and Tensors in
place of settings.

Kernel and definition return the same values, dtypes and gradients, on the CPU and on a GPU, or both
raise an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.certificate.cases import cases
from tinycv.engine.fused import PAIRS

inf, nan = float("inf"), float("nan")
NAMES = sorted(PAIRS)
CLOSE = {"e": 2e-3, "f": 1e-4, "d": 1e-10}
MOST = 12  # the largest number of cases per pair

# Pairs in which NaN or infinity may be masked or ignored, or whose kernel adds a product with 0
# that the definition does not have. The tests of these pairs say which entries stay finite.
BESIDE_A_MASK = {
    "cross_entropy",
    "binary_cross_entropy_with_logits",
    "scaled_dot_product_attention",
    "lstm",
    "conv_transpose2d",
    "batch_standard",
    "conv2d",
}


def real(xs: list, change: Callable) -> list:
    """The inputs, with change(position, input) applied to those that are floats."""
    return [change(i, x) if x.dtype.kind == "f" else x for i, x in enumerate(xs)]


def whole(dtype: str, most: int) -> Callable:
    """A change of the first ``most`` inputs into integers of a dtype, small enough to fit."""

    def change(i: int, x: np.ndarray) -> np.ndarray:
        rounded = np.round(3 * (np.abs(x) if dtype.startswith("u") else x)).astype("int64")
        return rounded.astype(dtype) if i < most else x.astype("float32")

    return lambda xs: real(xs, change)


def poisoned(value: float) -> Callable:
    """A change that sets one entry of the first input to this value."""

    def change(i: int, x: np.ndarray) -> np.ndarray:
        x = np.array(x, "f4")
        if i == 0 and x.size:
            x.flat[x.size // 2] = value
        return x

    return lambda xs: real(xs, change)


KINDS = {
    **{
        f"first {d}": whole(d, 1)
        for d in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16")
    },
    **{f"all {d}": whole(d, 9) for d in ("int64", "uint8")},
    "halves": lambda xs: real(xs, lambda i, x: x.astype("float16")),
    "float64 among float32": lambda xs: real(
        xs, lambda i, x: x.astype("float64" if i % 2 else "float32")
    ),
    "halves among float32": lambda xs: real(
        xs, lambda i, x: x.astype("float16" if i % 2 else "float32")
    ),
}


def outcome(call: Callable, inputs: list, device: str = "cpu") -> list | Exception:
    """The results and gradients as arrays, or the error that was raised."""
    tensors = [Tensor(x, device=device, requires_grad=x.dtype.kind == "f") for x in inputs]
    try:
        ys = call(*tensors)
    except (ValueError, TypeError, IndexError) as error:
        return error
    ys = list(ys) if isinstance(ys, tuple) else [ys]
    leaves, used = [t for t in tensors if t.requires_grad], [y for y in ys if y.requires_grad]
    weights = [Tensor(np.ones(y.shape, y.dtype), device=device) for y in used]
    slopes = tinycv.grad(used, leaves, weights, allow_unused=True) if used else []
    return [y.numpy() for y in ys] + [None if g is None else g.numpy() for g in slopes]


def refuse_difference(found: list | Exception, reference: list | Exception, what: str) -> None:
    """AssertionError if two outcomes differ by more than rounding errors. If the kernel refuses the
    inputs, the definition never gets them."""
    if isinstance(found, Exception):
        return
    assert not isinstance(reference, Exception), f"{what}: {found!r} and {reference!r}"
    # the tolerance of the least precise dtype among them
    close = max((CLOSE[z.dtype.char] for z in reference if z is not None), default=0.0)
    for y, z in zip(found, reference, strict=True):
        assert (y is None) == (z is None), what
        if y is not None:
            assert (y.dtype, y.shape) == (z.dtype, z.shape), what
            finite = z[np.isfinite(z)].astype("f8")
            atol = close * max(1.0, np.abs(finite).max(initial=0.0))
            assert np.allclose(y.astype("f8"), z.astype("f8"), close, atol, equal_nan=True), what


def halves_of(name: str) -> list:
    """(kernel's case, definition's case) of one pair."""
    return list(zip(cases(name), cases(name, PAIRS[name].definition), strict=True))[:MOST]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_kernel_and_definition_agree_for_every_dtype(name, kind):
    for kernel, definition in halves_of(name):
        inputs = KINDS[kind](list(kernel.inputs))
        found = outcome(kernel.call, inputs)
        refuse_difference(found, outcome(definition.call, inputs), f"{name}, {kind}")
        assert isinstance(found, Exception) or all(y is None or y.dtype.kind == "f" for y in found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", ["first uint8", "first bool", "all int64", "float64 among float32"]
)
@pytest.mark.parametrize("name", NAMES)
def test_the_gpu_agrees_with_the_cpu_for_every_dtype(name, kind, double):
    for kernel, definition in halves_of(name)[:5]:
        inputs = KINDS[kind](list(kernel.inputs))
        for call in (kernel.call, definition.call):
            on_gpu, on_cpu = outcome(call, inputs, "gpu"), outcome(call, inputs)
            assert isinstance(on_gpu, Exception) == isinstance(on_cpu, Exception), (
                f"{name}, {kind}: {on_gpu!r}"
            )
            refuse_difference(on_gpu, on_cpu, f"{name}, {kind}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("name", sorted(set(NAMES) - BESIDE_A_MASK))
def test_nan_and_infinity_appear_in_the_same_entries_of_kernel_and_definition(name, value):
    for kernel, definition in halves_of(name):
        inputs = poisoned(value)(list(kernel.inputs))
        refuse_difference(
            outcome(kernel.call, inputs), outcome(definition.call, inputs), f"{name}, {value}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_integers_give_the_same_results_as_in_float32(name):
    for kernel, _ in halves_of(name):
        inputs = [x for x in KINDS["first int16"](list(kernel.inputs))]
        floats = [
            x.astype("float32") if i == 0 and x.dtype.kind == "i" else x
            for i, x in enumerate(inputs)
        ]
        found, reference = outcome(kernel.call, inputs), outcome(kernel.call, floats)
        if not isinstance(reference, Exception):
            refuse_difference(found[:1], reference[:1], name)


SETTINGS = [
    (name, parameter.name)
    for name in NAMES
    for parameter in inspect.signature(PAIRS[name]).parameters.values()
    if isinstance(parameter.default, (bool, int, float, str))
]


@pytest.mark.parametrize("half", ["kernel", "definition"])
@pytest.mark.parametrize("name, setting", SETTINGS)
def test_a_tensor_as_a_setting_is_refused_because_no_gradient_would_reach_it(name, setting, half):
    pair, case = PAIRS[name], halves_of(name)[0][0]
    call = pair if half == "kernel" else pair.definition
    required = [p.name for p in inspect.signature(pair).parameters.values() if p.default is p.empty]
    named = dict(zip(required, (*map(Tensor, case.inputs), 2, 2), strict=False))
    with pytest.raises(TypeError, match=f"{name}: {setting} is .*no gradient would reach"):
        call(**named, **{setting: Tensor(0.5, requires_grad=True)})


def test_numpy_numbers_as_settings_do_not_widen_the_result():
    x = Tensor(np.array([-1.0, 2.0], np.float32))
    for slope in (np.float64(0.2), np.float32(0.2), np.array(0.2)):
        assert PAIRS["leaky_relu"](x, slope).dtype == np.float32


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16"])
@pytest.mark.parametrize(
    "name",
    ["gelu", "silu", "softmax", "layer_norm", "avg_pool2d", "binary_cross_entropy_with_logits"],
)
def test_a_pair_with_unusual_dtypes_can_be_differentiated_twice(name, dtype):
    """If another input requires a gradient, the definition is traced with the unusual input."""
    first = halves_of(name)[0][0]
    x = Tensor(first.inputs[0].astype("float32"), requires_grad=True)
    odd = Tensor(np.round(first.inputs[0]).astype(dtype))
    y = first.call(x * odd, *map(Tensor, first.inputs[1:]))
    (slope,) = tinycv.grad((y * y).sum(), x, create_graph=True)
    (again,) = tinycv.grad((slope * slope).sum(), x)
    (plain,) = tinycv.grad((first.call(x * odd, *map(Tensor, first.inputs[1:])) ** 2).sum(), x)
    assert again.dtype == slope.dtype == np.float32 and np.allclose(
        slope.numpy(), plain.numpy(), rtol=1e-4, atol=1e-5
    )


def test_float16_in_the_other_byte_order_is_float16():
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float16")
    other, target = x.astype(x.dtype.newbyteorder()), np.array([0, 1, 2])
    for pair, rest in ((PAIRS["softmax"], ()), (PAIRS["cross_entropy"], (target,))):
        for run in (pair, pair.definition):
            expected, found = run(x, *rest), run(other, *rest)
            assert found.dtype == x.dtype and np.array_equal(
                np.asarray(expected), np.asarray(found)
            )
    swapped = target.astype(target.dtype.newbyteorder())
    expected = PAIRS["cross_entropy"](x, target)
    assert np.array_equal(expected, PAIRS["cross_entropy"](x, swapped))
