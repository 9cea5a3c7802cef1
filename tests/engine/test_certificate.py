"""Every derivative against finite differences, for the table of cases and for random shapes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinycv.certificate import table
from tinycv.certificate.cases import BY_WAY_OF, CASES, COMPOSED, cases, names
from tinycv.certificate.families import between, ladder, normal, positive
from tinycv.engine import methods, ops
from tinycv.engine.check import CertificateError, Trial, agree, certify, compare, direction
from tinycv.engine.fused import PAIRS
from tinycv.engine.record import OPS

drawn = settings(max_examples=200, deadline=None, derandomize=True)


# ── the table ────────────────────────────────────────────────────────────────────────────────────


def test_every_op_and_every_pair_has_cases_and_every_case_has_an_op():
    assert set(CASES) == {*OPS, *PAIRS, *COMPOSED}
    assert set(BY_WAY_OF) <= set(OPS) and len(PAIRS) >= 7


def test_every_op_has_the_name_of_its_variable():
    assert {name for name, op in vars(ops).items() if hasattr(op, "row")} == set(OPS)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("device", ["cpu"])
def test_it_is_certified_to_second_order(name, device):
    tried = cases(name)
    for case in tried:
        certify(case.call, *case.inputs, name=name, device=device)
    assert len(tried) >= 4


def numbers(case, name, device):
    """The results, the gradients, and the gradients of a weighted sum of these, on one device."""
    trial, rng = Trial(case.call, case.inputs, device, name), np.random.default_rng(0)
    values = trial.results(trial.xs)
    us = [direction(rng, y) for y in values]
    vs = [direction(rng, x) for x in trial.xs]
    traced, second = trial.second_derivatives(trial.xs, us, vs)
    return [*values, *trial.gradients(trial.xs, us), *traced, *second]


@pytest.mark.parametrize("device", ["gpu"], indirect=True)
@pytest.mark.parametrize("name", names())
def test_a_gpu_has_the_values_and_both_derivatives_that_are_certified(name, device):
    for case in cases(name):
        found, certified = numbers(case, name, device), numbers(case, name, "cpu")
        for a, b in zip(found, certified, strict=True):
            assert a.dtype == b.dtype
            largest = float(np.abs(b).max(initial=0.0)) if b.dtype.kind == "f" else 0.0
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * max(largest, 1.0))


@pytest.mark.parametrize("device", ["gpu"], indirect=True)
@pytest.mark.parametrize("name", ["matmul", "softmax", "layer_norm"])
def test_finite_differences_on_a_gpu_agree(name, device):
    for case in cases(name):
        certify(case.call, *case.inputs, name=name, device=device)


@pytest.mark.parametrize("name", sorted(OPS))
def test_exactly_the_step_functions_have_no_pull(name):
    flat = {
        "equal",
        "not_equal",
        "greater",
        "greater_equal",
        "less",
        "less_equal",
        "logical_and",
        "logical_or",
        "logical_not",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "bitwise_not",
        "sign",
        "isfinite",
        "argmax",
        "argmin",
        "floor_divide",
        "truncate",
        "any",
        "all",
    }
    pulls = OPS[name].row.pulls
    assert any(pulls) != (name in flat)
    # The mask of ``where`` is the only other input without a pull.
    assert all(pulls) or name in flat | {"where"}


# ── random shapes and memory layouts ─────────────────────────────────────────────────────────────


def laid_out(layout: str, array: np.ndarray) -> np.ndarray:
    """The same numbers in another memory layout."""
    if layout == "columns":
        return np.asfortranarray(array)
    if layout == "backwards":
        return np.flip(np.asarray(np.flip(array)).copy())
    if layout == "gaps":
        room = np.zeros([2 * n for n in array.shape])
        room[tuple(slice(None, None, 2) for _ in array.shape)] = array
        return room[tuple(slice(None, None, 2) for _ in array.shape)]
    return array


LAYOUTS = st.sampled_from(["rows", "columns", "backwards", "gaps"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
BROADCAST = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3)
SEEDS = st.integers(0, 2**16)
ELEMENTWISE = [
    ("add", normal, normal),
    ("sub", normal, normal),
    ("mul", normal, normal),
    ("div", normal, positive),
    ("power", positive, positive),
    ("maximum", ladder, between),
    ("minimum", ladder, between),
]


@drawn
@given(st.sampled_from(ELEMENTWISE), BROADCAST, LAYOUTS, LAYOUTS, SEEDS)
def test_elementwise_ops_are_certified_on_all_shapes_that_broadcast(
    op, shapes, first, second, seed
):
    (name, draw_a, draw_b), (a, b), rng = op, shapes.input_shapes, np.random.default_rng(seed)
    certify(
        OPS[name],
        laid_out(first, draw_a(rng, *a)),
        laid_out(second, draw_b(rng, *b)),
        name=name,
        seed=seed,
    )


@drawn
@given(
    st.sampled_from(
        [
            "exp",
            "tanh",
            "sigmoid",
            "softplus",
            "erf",
            "sin",
            "cos",
            "neg",
            "relu",
            "abs",
            "sqrt",
            "log",
        ]
    ),
    SHAPES,
    LAYOUTS,
    SEEDS,
)
def test_functions_of_one_number_are_certified_on_all_shapes(name, shape, layout, seed):
    draw = {"sqrt": positive, "log": positive, "relu": ladder, "abs": ladder}.get(name, normal)
    certify(
        OPS[name], laid_out(layout, draw(np.random.default_rng(seed), *shape)), name=name, seed=seed
    )


@drawn
@given(
    st.data(),
    st.sampled_from(["sum", "mean", "var", "max", "min", "logsumexp", "norm"]),
    LAYOUTS,
    SEEDS,
)
def test_reductions_are_certified_over_all_axes(data, name, layout, seed):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=3))
    axes = (
        st.none()
        | st.integers(-len(shape), len(shape) - 1)
        | hnp.valid_tuple_axes(len(shape), min_size=1)
    )
    draw = {"max": ladder, "min": ladder, "norm": positive}.get(name, normal)
    certify(
        partial(OPS[name], axis=data.draw(axes), keepdims=data.draw(st.booleans())),
        laid_out(layout, draw(np.random.default_rng(seed), *shape)),
        name=name,
        seed=seed,
    )


@drawn
@given(
    hnp.mutually_broadcastable_shapes(
        signature="(m?,n),(n,p?)->(m?,p?)", max_dims=2, min_side=0, max_side=3
    ),
    LAYOUTS,
    LAYOUTS,
    SEEDS,
)
def test_matmul_is_certified_on_all_ranks(shapes, first, second, seed):
    rng = np.random.default_rng(seed)
    a, b = (normal(rng, *shape) for shape in shapes.input_shapes)
    certify(methods.matmul, laid_out(first, a), laid_out(second, b), seed=seed)


@drawn
@given(st.data(), LAYOUTS, SEEDS)
def test_indexing_is_certified_with_slices_and_with_arrays_of_integers(data, layout, seed):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
        | hnp.integer_array_indices(shape)
        | hnp.arrays(bool, shape)
    )
    certify(
        partial(methods.getitem, index=index),
        laid_out(layout, normal(np.random.default_rng(seed), *shape)),
        name=f"getitem {index}",
        seed=seed,
    )


# ── the gradient check itself ────────────────────────────────────────────────────────────────────


def test_it_says_which_op_which_direction_and_both_numbers():
    def wrong(x, y):
        return x * y.detach() + 2 * y  # forgets a path

    with pytest.raises(
        CertificateError,
        match=r"wrong\(float64 \(3,\), float64 \(3,\)\): order 1, along input 1: "
        r"[-\d.]+ is not [-\d.]+; relative error .*, allowed 1e-06",
    ):
        certify(wrong, np.arange(3.0) + 1, np.arange(3.0) - 1)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0])
def test_a_relative_error_of_one_in_ten_thousand_is_found_at_any_scale(scale):
    def nearly(x):
        return x * x.detach() * 1.0002 + x * x * (1 - 0.0002 - 0.5) - (x * x).detach() * 0.5

    with pytest.raises(CertificateError):
        certify(nearly, np.array([0.7, -1.3]) * scale, order=1)


def test_a_derivative_that_is_exactly_zero_passes_and_a_false_zero_does_not():
    certify(lambda x: x.logsumexp() - x.logsumexp() + 0 * x.sum(), np.arange(4.0))
    with pytest.raises(CertificateError):
        certify(lambda x: x.detach() + 0 * x, np.arange(4.0))


def test_masks_and_integers_are_passed_through(device):
    seen = []

    def function(x, mask, number):
        seen.append((mask.dtype, mask.requires_grad, number))
        return ops.where(mask, x, 0.0)

    certify(function, np.arange(3.0), np.array([True, False, True]), 7, device=device)
    assert set(seen) == {(np.dtype(bool), False, 7)}


def test_a_function_with_several_results_is_certified_in_all_of_them():
    certify(lambda x: (x.exp(), x.sum()), np.arange(3.0))
    with pytest.raises(CertificateError, match="order 1"):
        certify(lambda x: (x.exp(), x.detach().sum() + 0 * x.sum()), np.arange(3.0))


def test_compare_returns_how_far_kernel_and_definition_are_apart(device):
    x = np.random.default_rng(0).normal(size=(3, 4))
    assert compare(PAIRS["softmax"], x, device=device, axis=0) < 1e-14


def test_agree_refuses_a_value_a_gradient_and_a_dtype_that_differ():
    x = np.array([0.3, 0.7])
    for other, what in (
        (lambda x: x.tanh() + 1e-8, "result 0"),
        (lambda x: x.tanh().detach() + 0 * x, "gradient"),
        (lambda x: x.tanh().astype(np.float32), "float32"),
    ):
        with pytest.raises(CertificateError, match=what):
            agree(other, lambda x: x.tanh(), x)


def test_the_command_prints_one_row_per_op_and_exits_with_0(capsys):
    assert table.main(["tanh", "softmax", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert text.isascii() and [line.split()[0] for line in text.splitlines()[2:4]] == [
        "tanh",
        "softmax",
    ]


def test_the_command_exits_with_1_if_an_op_fails(capsys, monkeypatch):
    monkeypatch.setattr(OPS["tanh"].row, "pulls", (lambda g, y: -g * (1 - y * y),))
    assert table.main(["tanh", "--device", "cpu"]) == 1
    assert "FAILED" in (text := capsys.readouterr().out) and "CertificateError" in text


def test_the_command_refuses_an_unknown_name(capsys):
    with pytest.raises(SystemExit):
        table.main(["tahn"])
    assert "no op or pair is called tahn" in capsys.readouterr().err
