"""The double of CuPy is strict: it refuses everything that CuPy 14.2 refuses or does not have."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cupy_double import NAMES

HOST = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def x(cp):
    return cp.asarray(HOST)


# ── mixing with NumPy ─────────────────────────────────────────────────────────────────────────────


def test_conversion_to_numpy_must_be_explicit(x):
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray([x, x])
    assert (x.get() == HOST).all()


@pytest.mark.parametrize("host", [HOST, np.array(2.0, np.float32)], ids=["2-D", "0-d"])
def test_no_operator_mixes_with_a_numpy_array(x, host):
    for mix in (
        lambda: x + host,
        lambda: host + x,
        lambda: x @ HOST.T,
        lambda: HOST.T @ x,
        lambda: x < host,
    ):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError):
        x += host


@pytest.mark.parametrize(
    "call",
    [np.exp, np.sum, np.add.reduce, lambda x: np.concatenate([x, x]), np.shape],
    ids=["ufunc", "function", "reduce", "sequence", "shape"],
)
def test_a_numpy_function_on_a_double_raises(x, call):
    with pytest.raises(TypeError, match="call the array's own module"):
        call(x)


def test_a_cupy_function_on_a_numpy_array_raises(cp, x):
    for call in (cp.exp, cp.sum, lambda h: cp.concatenate([h, x]), lambda h: cp.where(x > 0, h, 0)):
        with pytest.raises(TypeError):
            call(HOST)


def test_a_cupy_function_on_a_list_raises(cp):
    for call in (cp.exp, cp.sum, cp.argmax, cp.swapaxes):
        with pytest.raises(TypeError):
            call([1.0, 2.0])


def test_scalars_are_accepted_with_the_dtype_rules_of_numpy_2(x):
    assert (x + 2).dtype == (2.0 * x).dtype == (np.float32(2) * x).dtype == np.float32
    assert (x * np.float64(2)).dtype == (np.float64(2) * x).dtype == np.float64
    assert type(np.float32(2) * x) is type(x)


def test_a_host_value_cannot_be_assigned(x):
    for value in (HOST, HOST[0], [1.0, 2.0, 3.0]):
        with pytest.raises(TypeError):
            x[:] = value


def test_a_foreign_class_that_opts_out_gets_its_reflected_operator(x):
    class Tensor:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "radd"

        def __rmatmul__(self, other):
            return "rmatmul"

        def __gt__(self, other):
            return "gt"

    assert (x + Tensor(), x @ Tensor(), x < Tensor()) == ("radd", "rmatmul", "gt")


def test_a_cupy_function_refuses_a_foreign_class(cp):
    class Tensor:
        __array_ufunc__ = None

    with pytest.raises(TypeError, match="Unsupported type"):
        cp.exp(Tensor())
    with pytest.raises(TypeError, match="Unsupported type"):
        cp.sum(Tensor())


# ── names and arguments that CuPy lacks ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "errstate",
        "einsum_path",
        "vecdot",
        "matvec",
        "block",
        "insert",
        "geomspace",
        "frompyfunc",
        "scatter_add",
        "nothing_of_the_sort",
    ],
)
def test_a_name_that_cupy_lacks_is_missing(cp, name):
    with pytest.raises(AttributeError, match="in CuPy 14.2.0"):
        getattr(cp, name)


def test_every_public_name_of_the_double_exists_in_cupy(cp):
    for module in ("cupy", "cupy.linalg", "cupy.lib.stride_tricks", "cupyx", "cupyx.scipy.special"):
        offered = {name for name in vars(sys.modules[module]) if not name.startswith("_")}
        assert offered - {"scipy"} <= set(NAMES[module]), module
    assert {name for name in dir(cp.ndarray) if not name.startswith("_")} <= set(
        NAMES["cupy.ndarray"]
    )


def test_a_name_that_the_double_does_not_simulate_says_so(cp, x):
    with pytest.raises(AttributeError, match="does not simulate"):
        _ = cp.mgrid
    with pytest.raises(AttributeError, match="does not simulate"):
        _ = x.flat


def test_an_array_attribute_that_cupy_lacks_is_missing(x):
    for name in ("__index__", "__array_interface__", "newbyteorder", "ctypes"):
        assert not hasattr(x, name)
    with pytest.raises(AttributeError):
        x.note = "a new attribute"


def test_an_array_cannot_be_a_python_index(x):
    with pytest.raises(TypeError):
        range(x.argmax())
    with pytest.raises(TypeError):
        x.sum(axis=x.argmax())
    with pytest.raises(TypeError):
        "abc"[x.argmax()]


def test_ufuncs_do_not_accept_where(cp, x):
    with pytest.raises(TypeError, match="Wrong arguments"):
        cp.divide(x, x, where=x != 0)


@pytest.mark.parametrize("word", ["where", "initial"])
@pytest.mark.parametrize("name", ["sum", "max", "mean", "var"])
def test_reductions_accept_neither_where_nor_initial(cp, x, name, word):
    with pytest.raises(TypeError, match="has no argument"):
        getattr(cp, name)(x, **{word: 1})
    with pytest.raises(TypeError, match="has no argument"):
        getattr(x, name)(**{word: 1})


def test_only_add_and_multiply_reduce_and_accumulate(cp, x):
    assert cp.add.reduce(x, axis=1).tolist() == [3, 12]
    assert cp.multiply.accumulate(x, axis=1).shape == (2, 3)
    for method in ("reduce", "accumulate"):
        with pytest.raises(NotImplementedError):
            getattr(cp.maximum, method)(x)


def test_add_at_counts_repeats_and_refuses_small_integers(cp):
    a = cp.zeros(3, "float32")
    cp.add.at(a, cp.asarray([0, 0, 2]), 1.0)
    assert a.tolist() == [2, 0, 1]
    with pytest.raises(TypeError):
        cp.add.at(cp.zeros(3, "int8"), cp.asarray([0]), 1)


def test_matmul_has_no_in_place_form(cp):
    a = cp.eye(2)
    with pytest.raises(TypeError, match="no in-place @="):
        a @= a


@pytest.mark.parametrize(
    "name", ["normal", "choice", "permutation", "shuffle", "spawn", "permuted"]
)
def test_the_generator_lacks_the_methods_that_cupy_lacks(cp, name):
    with pytest.raises(AttributeError):
        getattr(cp.random.Generator(cp.random.Philox4x3210(0)), name)


def test_the_generator_draws_float32_into_out(cp):
    generator, out = cp.random.Generator(cp.random.Philox4x3210(0)), cp.empty(4, "float32")
    assert generator.standard_normal(4, dtype="float32", out=out) is out
    assert generator.random((2, 2), dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError):
        generator.standard_normal(4, dtype="float16")
    with pytest.raises(TypeError):
        generator.standard_normal(4, method="zig")


@pytest.mark.parametrize("name", ["ElementwiseKernel", "RawKernel", "ReductionKernel"])
def test_a_kernel_raises_at_once(cp, name):
    with pytest.raises(NotImplementedError, match="by RawModule only"):
        getattr(cp, name)("float32 x", "float32 y", "y = x", "copy")
