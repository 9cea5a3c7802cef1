"""Matrix products on a GPU: no needless copies, float16 summed in float32, TF32 only on request."""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
import pytest
from cupy_double import blas
from cupy_double.world import WORLD
from hypothesis import given, settings
from hypothesis import strategies as st

import tinycv
from tinycv.engine.gemm import matrix_product
from tinycv.gpu import cublas, gemm

RTOL = {"e": 1e-3, "f": 1e-5, "d": 1e-12}


def stack(rng, lead, rows, columns, layout, dtype):
    """A stack (*lead, rows, columns) that lies in memory as its layout says."""
    if layout == "turned":
        return rng.normal(size=(*lead, columns, rows)).astype(dtype).swapaxes(-1, -2)
    # out of a wider one, as q, k and v
    if layout == "cut":
        return rng.normal(size=(*lead, rows, 3 * columns)).astype(dtype)[..., columns : 2 * columns]
    # every second entry: no flag can say this
    if layout == "scattered":
        return rng.normal(size=(*lead, rows, 2 * columns)).astype(dtype)[..., ::2]
    # (B, T, H, D) seen as (B, H, T, D)
    if layout == "heads" and lead:
        *outer, heads = lead
        return rng.normal(size=(*outer, rows, heads, columns)).astype(dtype).swapaxes(-2, -3)
    return rng.normal(size=(*lead, rows, columns)).astype(dtype)


layouts = st.sampled_from(["plain", "turned", "cut", "scattered", "heads"])


def on_gpu(xp, host):
    """The same values with the same strides."""
    base = host if host.base is None else host.base
    device = xp.asarray(base)
    assert device.flags.c_contiguous and base.flags.c_contiguous
    offset = (host.ctypes.data - base.ctypes.data) // host.itemsize
    flat = xp.lib.stride_tricks.as_strided(device.reshape(-1)[offset:], host.shape, host.strides)
    assert flat.strides == host.strides and (flat.get() == host).all()
    return flat


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 3), max_size=3),
    *[st.integers(1, 4)] * 3,
    layouts,
    layouts,
    st.sampled_from("efd"),
    st.integers(0, 99),
)
def test_a_product_equals_numpys_for_any_layout_of_its_factors(
    lead, m, k, n, of_a, of_b, char, seed
):
    import cupy_double

    xp, rng = cupy_double.install(), np.random.default_rng(seed)
    try:
        a, b = stack(rng, lead, m, k, of_a, char), stack(rng, lead, k, n, of_b, char)
        y = matrix_product(on_gpu(xp, a), on_gpu(xp, b))
    finally:
        cupy_double.uninstall()
    expected = a.astype("float64") @ b.astype("float64")
    assert y.dtype == char and np.allclose(
        y.get(), expected, rtol=RTOL[char], atol=RTOL[char] * 4 * k
    )


@pytest.mark.parametrize(
    ("of_a", "of_b", "launches"),
    [
        ("plain", "plain", 1),
        ("turned", "plain", 1),
        ("plain", "turned", 1),
        ("turned", "turned", 1),
        ("cut", "cut", 1),
        ("scattered", "plain", 2),
        ("heads", "plain", 2),
        ("heads", "heads", 3),
    ],
)
def test_only_operands_that_cublas_cannot_describe_are_copied(double, of_a, of_b, launches):
    rng = np.random.default_rng(0)
    a, b = (on_gpu(double, stack(rng, (2, 3), 4, 5, *of)) for of in ((of_a, "f"), (of_b, "f")))
    before = WORLD.launches
    matrix_product(a, b.swapaxes(-1, -2))
    assert WORLD.launches - before == launches


def test_one_matrix_for_a_whole_stack_is_not_copied(double):
    a, b = double.ones((6, 2, 3), "float32"), double.ones((1, 3, 4), "float32")
    before = WORLD.launches
    assert (matrix_product(a, b).get() == 3).all() and WORLD.launches - before == 1


def test_empty_sums_are_zero_and_empty_products_are_empty(double):
    assert (
        matrix_product(double.ones((2, 3, 0), "float32"), double.ones((2, 0, 4), "float32")).get()
        == 0
    ).all()
    assert matrix_product(
        double.ones((2, 0, 3), "float32"), double.ones((2, 3, 4), "float32")
    ).shape == (
        2,
        0,
        4,
    )


def test_shapes_that_do_not_fit_are_named(double):
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) @ \(2, 3, 4\)"):
        matrix_product(double.ones((2, 3, 4), "float32"), double.ones((2, 3, 4), "float32"))


def test_without_cublas_cupy_computes_the_product(double, monkeypatch):
    monkeypatch.setattr(cublas, "library", lambda xp: None)
    WORLD.products.clear()
    assert (
        matrix_product(double.ones((2, 3, 4), "float32"), double.ones((2, 4, 3), "float32")).get()
        == 4
    ).all()
    assert not WORLD.products


def test_products_of_tensors_and_their_gradients_use_only_cublas(double):
    q, k = (
        tinycv.Tensor(np.ones((2, 3, 4, 5), "float32"), device="gpu", requires_grad=True)
        for _ in range(2)
    )
    WORLD.products.clear()
    (q @ k.swapaxes(-1, -2)).sum().backward()
    assert len(WORLD.products) == 3 and q.grad.shape == k.grad.shape == (2, 3, 4, 5)


# ── TF32 ───────────────────────────────────────────────────────────────────────────────────────

# CUBLAS_COMPUTE_32F and CUBLAS_COMPUTE_32F_FAST_TF32
FLOAT32, TF32 = 68, 77


@pytest.fixture
def choice(double, monkeypatch):
    monkeypatch.setattr(gemm, "choices", {})
    monkeypatch.setattr(gemm, "BY_ENVIRONMENT", False)
    WORLD.products.clear()
    yield double
    WORLD.compute_types.clear()


def test_tf32_is_used_only_after_allow_tf32(choice):
    a = choice.ones((2, 3, 3), "float32")
    for allowed in (None, True, False):
        if allowed is not None:
            tinycv.allow_tf32(allowed)
        matrix_product(a, a)
    assert WORLD.products == [FLOAT32, TF32, FLOAT32]


def test_allow_tf32_also_applies_to_cupys_own_products(choice):
    tinycv.allow_tf32(True)
    assert WORLD.compute_types == {"f": 7}  # COMPUTE_TYPE_TF32
    tinycv.allow_tf32(False)
    assert WORLD.compute_types == {"f": 1}  # COMPUTE_TYPE_DEFAULT


def test_the_environment_variable_counts_until_allow_tf32_is_called(choice, monkeypatch):
    assert not gemm.tf32_allowed()
    monkeypatch.setattr(gemm, "BY_ENVIRONMENT", True)
    assert gemm.tf32_allowed()
    tinycv.allow_tf32(False)
    assert not gemm.tf32_allowed()


def test_tf32_changes_no_other_dtype(choice):
    tinycv.allow_tf32(True)
    for char in "ed":
        matrix_product(choice.ones((2, 3, 3), char), choice.ones((2, 3, 3), char))
    assert WORLD.products == [FLOAT32, 70]


def test_without_a_gpu_the_choice_is_remembered(monkeypatch):
    monkeypatch.setattr(gemm, "choices", {})
    monkeypatch.setattr(gemm, "gpu_problem", lambda: RuntimeError("none"))
    tinycv.allow_tf32(True)
    assert gemm.tf32_allowed()


# ── cuBLAS itself: what it is handed, played on the host ─────────────────────────────────────────


class Played:
    """libcublas as ctypes calls it. cublasGemmEx and its sister do what they say, by
    tests/cupy_double/blas.py."""

    def __init__(self):
        self.calls = []
        for name in ("cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2"):
            setattr(self, name, lambda *given, name=name: self.calls.append((name, given)) or 0)

    def cublasGemmEx(self, *given):
        *start, a, kind, row_a, b, kind_b, row_b, beta, y, kind_y, row_y, sums, how = given
        assert kind == kind_b == kind_y and how == cublas.DEFAULT
        none = ctypes.c_longlong(0)
        return self.cublasGemmStridedBatchedEx(
            *start,
            a,
            kind,
            row_a,
            none,
            b,
            kind,
            row_b,
            none,
            beta,
            y,
            kind,
            row_y,
            none,
            1,
            sums,
            how,
        )

    def cublasGemmStridedBatchedEx(
        self,
        handle,
        turn_a,
        turn_b,
        m,
        n,
        k,
        alpha,
        a,
        kind,
        row_a,
        step_a,
        b,
        _,
        row_b,
        step_b,
        beta,
        y,
        __,
        row_y,
        step_y,
        count,
        sums,
        how,
    ):
        self.calls.append(("product", (count, sums)))
        blas.Cublas().product(
            None,
            (turn_a, turn_b),
            (m, n, k),
            alpha._obj.value,
            (a.value, row_a, step_a.value),
            (b.value, row_b, step_b.value),
            (y.value, row_y, step_y.value),
            kind,
            count,
            sums,
            bool(beta._obj.value),
        )
        return 0


@pytest.fixture
def played(double, monkeypatch):
    library = Played()
    monkeypatch.setattr(ctypes, "CDLL", lambda file: library)
    made = cublas.Cublas("libcublas.so.13")
    monkeypatch.setattr(cublas, "library", lambda xp: made)
    return library


@pytest.mark.parametrize("char", "efd")
@pytest.mark.parametrize("lead", [(), (3,)])
def test_cublas_gets_the_arguments_that_its_manual_describes(double, played, char, lead):
    rng = np.random.default_rng(0)
    a, b, y = (rng.normal(size=(*lead, *shape)).astype(char) for shape in ((4, 5), (3, 5), (4, 3)))
    out = double.asarray(y)
    found = matrix_product(
        double.asarray(a), double.asarray(b).swapaxes(-1, -2), 0.5, out, add=True
    )
    assert found is out and np.allclose(
        found.get(), y + 0.5 * a @ b.swapaxes(-1, -2), rtol=RTOL[char], atol=10 * RTOL[char]
    )
    assert played.calls[-1] == ("product", (3 if lead else 1, gemm.SUMS[char]))


def test_each_thread_and_stream_has_one_handle_with_a_workspace(double, played):
    a = double.ones((2, 2), "float32")
    for _ in range(2):
        matrix_product(a, a)
    made = [name for name, _ in played.calls if name != "product"]
    assert made == ["cublasCreate_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2"]
    thread = threading.Thread(target=matrix_product, args=(a, a))
    thread.start()
    thread.join()
    assert len([name for name, _ in played.calls if name == "cublasCreate_v2"]) == 2


def test_a_cublas_error_is_raised_with_its_status():
    with pytest.raises(RuntimeError, match=r"status 3 \(often: no memory is left\)"):
        cublas.checked(3)
    cublas.checked(0)


def test_library_is_none_if_cublas_is_not_installed(double, monkeypatch):
    def missing(file):
        raise OSError(file)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    cupy_double = sys.modules["cupy_double"]
    assert cupy_double._true_library.__wrapped__(double) is None


def test_a_sum_over_nothing_adds_nothing_whatever_lies_in_fresh_memory(double, monkeypatch):
    empty = double.empty
    monkeypatch.setattr(
        double,
        "empty",
        lambda *args: double.full(*args[:1], np.nan, *args[1:]) if args else empty(),
    )
    out = double.ones((3, 2), "float32").T  # in pieces
    matrix_product(
        double.ones((2, 0), "float32"), double.ones((0, 3), "float32"), out=out, add=True
    )
    assert (out.get() == 1).all()


def test_an_out_that_does_not_fit_is_refused(double):
    a, b = double.ones((2, 3), "float32"), double.ones((3, 4), "float32")
    for shape, dtype in (((2, 4), "float64"), ((4, 2), "float32"), ((2, 2, 4), "float32")):
        with pytest.raises(ValueError, match="matmul: out is"):
            matrix_product(a, b, out=double.empty(shape, dtype))


def test_sizes_beyond_32_bits_are_refused():
    for a, b in (((2**31, 1), (1, 1)), ((1, 2**31), (2**31, 1)), ((2**16, 2**15, 1, 1), (1, 1))):
        with pytest.raises(ValueError, match="32 bits"):
            gemm.fitted(a, b)
    assert gemm.lies((2, 2), (4 * 2**31, 4), (), 4) is None  # a copy lies closer


def test_a_bias_of_another_shape_is_refused_and_not_read_past_its_end(double):
    x, weight = np.ones((2, 3), "float32"), np.ones((4, 3), "float32")
    for shape in ((), (1,), (1, 4), (2, 4), (2, 1)):
        bias = np.arange(np.prod(shape), dtype="float32").reshape(shape)
        with pytest.raises(ValueError, match=r"linear: bias has shape .*; it must be \(4,\)"):
            tinycv.nn.functional.linear(
                *(tinycv.Tensor(a, device="gpu") for a in (x, weight, bias))
            )
