"""Pairs: the kernel equals the definition, and only the definition runs when a gradient is
differentiated."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.certificate.cases import cases
from tinycv.engine import fused as mechanism
from tinycv.engine import ops
from tinycv.engine.check import SAME, agree, compare
from tinycv.engine.fused import PAIRS, fused

RNG = np.random.default_rng(0)
NAMES = [
    "softmax",
    "log_softmax",
    "cross_entropy",
    "gelu",
    "linear",
    "layer_norm",
    "scaled_dot_product_attention",
    "lstm",
]
NAMES += [
    "conv2d",
    "conv_transpose2d",
    "binary_cross_entropy_with_logits",
    "leaky_relu",
    "silu",
    "max_pool2d",
    "avg_pool2d",
]
CLASSES = np.array([1, 0, 3])


def floats(dtype, inputs):
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]


def draw(*shape, scale=1.0):
    return RNG.normal(size=shape) * scale


def results(y):
    return list(y) if isinstance(y, tuple) else [y]


# ── kernel and definition ────────────────────────────────────────────────────────────────────────


# float64 on a GPU is compared with the CPU in test_certificate.py
places = pytest.mark.parametrize(
    "device, dtype",
    [("cpu", "float32"), ("cpu", "float64"), ("gpu", "float32")],
    indirect=["device"],
)


@places
@pytest.mark.parametrize("name", sorted({*NAMES, *PAIRS}))
def test_kernel_is_definition_in_every_case(name, dtype, device):
    pair = PAIRS[name]
    tried = list(zip(cases(name), cases(name, pair.definition), strict=True))
    for kernel, definition in tried:
        agree(kernel.call, definition.call, *floats(dtype, kernel.inputs), name=name, device=device)
    assert len(tried) >= 10


AROUND = {
    "binary_cross_entropy_with_logits",
    "conv_transpose2d",
    "lstm",
    "scaled_dot_product_attention",
}


# left out: these also compute something outside their kernels
@pytest.mark.parametrize("name", sorted(set(PAIRS) - AROUND))
def test_float16_on_the_cpu_is_computed_in_float32_and_rounded_once(name):
    tried = 0
    for case in cases(name):
        inputs = floats(np.float16, case.inputs)
        found, wide = [], floats(np.float32, inputs)
        for given in (inputs, wide):
            tensors = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in given]
            ys = results(case.call(*tensors))
            wrt = [t for t in tensors if t.requires_grad]
            found.append(
                [
                    *ys,
                    *tinycv.grad(
                        ys, wrt, [Tensor(np.ones(y.shape, y.dtype)) for y in ys], allow_unused=True
                    ),
                ]
            )
        for half, single in zip(*found, strict=True):
            assert half is single is None or half.dtype == np.float16
            assert half is None or np.array_equal(
                half.numpy(), single.numpy().astype(np.float16), equal_nan=True
            )
            tried += half is not None and half.size > 0
    assert tried > 10


LARGE = {
    "softmax": ([draw(3, 4, scale=1e4)], {}),
    "log_softmax": ([draw(3, 4, scale=1e4)], {}),
    "softmax: other axis": ([draw(3, 4, scale=1e4)], {"axis": 0}),
    "cross_entropy": ([draw(3, 4, scale=1e4), CLASSES], {}),
    "gelu": ([draw(3, 4, scale=1e4)], {}),
    "gelu: tanh": ([draw(3, 4, scale=1e4)], {"approximate": "tanh"}),
    "linear": ([draw(3, 4, scale=1e4), draw(2, 4, scale=1e4), draw(2)], {}),
    "layer_norm": ([draw(3, 4, scale=1e4), draw(4), draw(4)], {}),
    "scaled_dot_product_attention": (
        [draw(1, 2, 3, 4, scale=1e4), draw(1, 2, 5, 4), draw(1, 2, 5, 4)],
        {},
    ),
    "lstm": (
        [
            draw(3, 2, 4, scale=1e4),
            draw(2, 3),
            draw(2, 3),
            draw(12, 4),
            draw(12, 3),
            draw(12),
            draw(12),
        ],
        {},
    ),
    "conv2d": ([draw(2, 3, 4, 4, scale=1e4), draw(2, 3, 3, 3), draw(2)], {"padding": 1}),
    "conv_transpose2d": ([draw(2, 3, 4, 4, scale=1e4), draw(3, 2, 3, 3), draw(2)], {"stride": 2}),
    "binary_cross_entropy_with_logits": (
        [draw(3, 4, scale=1e4), RNG.uniform(size=(3, 4))],
        {"reduction": "none"},
    ),
    "binary_cross_entropy_with_logits: weighted": (
        [draw(3, 4, scale=1e4), RNG.uniform(size=(3, 4)), RNG.uniform(size=4), RNG.uniform(size=4)],
        {},
    ),
    "max_pool2d": ([draw(2, 3, 4, 4, scale=1e4)], {"kernel_size": 3, "stride": 1, "padding": 1}),
    "avg_pool2d": ([draw(2, 3, 4, 4, scale=1e4)], {"kernel_size": 3, "stride": 1, "padding": 1}),
    "leaky_relu": ([draw(3, 4, scale=1e4)], {}),
    "silu": ([draw(3, 4, scale=1e4)], {}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("label", LARGE)
def test_kernel_is_definition_on_large_values(label, dtype, device):
    inputs, options = LARGE[label]
    pair = PAIRS[label.split(":")[0]]
    found = results(pair(*[Tensor(x, device=device) for x in floats(dtype, inputs)], **options))
    assert all(np.isfinite(y.numpy()).all() for y in found)
    # Rounding errors are relative to a score, but softmax depends on differences of scores, so
    # scores of 1e4 cost four digits.
    rtol = None if "attention" not in label else 1e-2 if dtype == np.float32 else 1e-9
    kernel, definition = partial(pair, **options), partial(pair.definition, **options)
    agree(kernel, definition, *floats(dtype, inputs), device=device, rtol=rtol)


@places
@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_definition_on_tiny_values(name, dtype, device):
    for kernel, definition in zip(cases(name), cases(name, PAIRS[name].definition), strict=True):
        inputs = [1e-30 * x if x.dtype.kind == "f" else x for x in kernel.inputs]
        agree(kernel.call, definition.call, *floats(dtype, inputs), name=name, device=device)


@pytest.mark.parametrize("name", NAMES)
def test_a_pull_can_run_twice_and_does_not_change_the_inputs(name, device):
    for case in cases(name):
        tensors = [
            Tensor(x.copy(), device=device, requires_grad=x.dtype.kind == "f") for x in case.inputs
        ]
        ys, leaves = results(case.call(*tensors)), [t for t in tensors if t.requires_grad]
        given = [RNG.normal(size=y.shape) for y in ys]
        weights = [Tensor(w.copy(), device=device) for w in given]
        once, again = (
            tinycv.grad(ys, leaves, weights, retain_graph=True, allow_unused=True) for _ in range(2)
        )
        assert all(
            np.array_equal(a.numpy(), b.numpy())
            for a, b in zip(once, again, strict=True)
            if a is not None
        )
        assert all(np.array_equal(t.numpy(), x) for t, x in zip(tensors, case.inputs, strict=True))
        assert all(np.array_equal(t.numpy(), w) for t, w in zip(weights, given, strict=True))


@places
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_without_a_gradient_a_pair_returns_what_its_kernel_returns(name, dtype, device):
    large = [
        (partial(PAIRS[name], **options), inputs)
        for label, (inputs, options) in LARGE.items()
        if label.split(":")[0] == name
    ]
    for call, inputs in [*((case.call, case.inputs) for case in cases(name)), *large]:
        given = floats(dtype, [np.asarray(x) for x in inputs])
        tensors = [
            Tensor(x.copy(), device=device, requires_grad=x.dtype.kind == "f") for x in given
        ]
        recorded = results(call(*tensors))
        with tinycv.no_grad():
            alone = results(call(*tensors))
        for y, expected in zip(alone, recorded, strict=True):
            assert (y.shape, y.dtype) == (expected.shape, expected.dtype) and not y.requires_grad
            y, expected = y.numpy(), expected.numpy()
            bound = SAME[expected.dtype.char]
            size = np.abs(expected[np.isfinite(expected)]).max(initial=0)
            assert np.allclose(y, expected, bound, bound * size, equal_nan=True)
        assert all(np.array_equal(t.numpy(), x) for t, x in zip(tensors, given, strict=True))


@places
@pytest.mark.parametrize("name", sorted(n for n, pair in PAIRS.items() if pair.recorded_pull))
def test_a_derivative_in_ops_is_that_of_the_definition_to_second_order(
    monkeypatch, name, dtype, device
):
    for case in cases(name):
        found = []
        given = floats(dtype, case.inputs)
        for pull in (PAIRS[name].recorded_pull, None):
            monkeypatch.setattr(PAIRS[name], "recorded_pull", pull)
            xs = [Tensor(x, device=device, requires_grad=x.dtype.kind == "f") for x in given]
            ys, leaves = results(case.call(*xs)), [x for x in xs if x.requires_grad]
            u = [Tensor(np.cos(np.arange(y.size)).reshape(y.shape), y.dtype, device) for y in ys]
            first = tinycv.grad(ys, leaves, u, create_graph=True)
            total = sum((g * g).sum() for g in first)
            second = tinycv.grad(total, leaves, allow_unused=True)
            found.append([*first, *[g for g in second if g is not None]])
            monkeypatch.undo()
        for g, expected in zip(*found, strict=True):
            bound = SAME[expected.dtype.char]
            size = np.abs(expected.numpy()).max(initial=0)
            assert np.allclose(g.numpy(), expected.numpy(), bound, bound * size)


def test_compare_checks_kernel_and_definition_against_finite_differences(device):
    x, weight = draw(3, 4), draw(2, 4)
    assert compare(PAIRS["linear"], x, weight, draw(2), device=device) < 1e-14
    assert compare(PAIRS["softmax"], x, axis=0, device=device) < 1e-14


# ── attention: queries whose keys are all masked ─────────────────────────────────────────────────


@pytest.mark.parametrize("member", ["kernel", "definition"])
def test_a_query_whose_keys_are_all_masked_returns_zeros_and_has_zero_gradient(member, device):
    pair = PAIRS["scaled_dot_product_attention"]
    q, k, v = (Tensor(draw(1, 2, 3, 4), device=device, requires_grad=True) for _ in range(3))
    mask = np.ones((3, 3), bool)
    mask[1] = False
    y = (pair if member == "kernel" else pair.definition)(q, k, v, Tensor(mask, device=device))
    dq, dk, dv = (
        g.numpy() for g in tinycv.grad(y, (q, k, v), Tensor(np.ones(y.shape), device=device))
    )
    assert (y.numpy()[:, :, 1] == 0).all() and (y.numpy()[:, :, 0] != 0).all()
    assert (dq[:, :, 1] == 0).all() and (dq[:, :, 0] != 0).any()
    assert all(np.isfinite(g).all() for g in (dq, dk, dv))


# ── the mechanism ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def spy(monkeypatch):
    """A pair x² that notes which of kernel, pull and definition ran."""
    monkeypatch.setattr(mechanism, "PAIRS", {})  # so that it is not listed among the real pairs
    log = []

    @fused
    def square(x, scale=1.0):
        log.append("definition")
        return x * x * scale

    @square.kernel
    def _(xp, x, scale=1.0):
        log.append("kernel")
        return x * x * scale, lambda g: log.append("pull") or 2 * g * x * scale

    return square, log


def test_first_order_runs_only_the_kernel(spy, device):
    square, log = spy
    square(Tensor([3.0], device=device, requires_grad=True)).backward()
    assert log == ["kernel", "pull"]


def test_a_differentiated_gradient_runs_the_definition_and_not_the_pull(spy, device):
    square, log = spy
    x = Tensor([3.0], device=device, requires_grad=True)
    (slope,) = tinycv.grad(square(x, scale=2.0), x, create_graph=True)
    assert log == ["kernel", "definition"] and slope.item() == 12
    assert tinycv.grad(slope, x)[0].item() == 4


def test_the_derivatives_of_a_pair_continue_through_the_graph_of_its_input(spy):
    square, _ = spy
    x = Tensor([0.5], dtype="float64", requires_grad=True)
    third = square(x.exp()).log()  # 2x
    (slope,) = tinycv.grad(third, x, create_graph=True)
    assert slope.item() == pytest.approx(2) and tinycv.grad(slope, x)[0].item() == pytest.approx(
        0, abs=1e-14
    )


def test_on_arrays_a_pair_runs_its_kernel_and_returns_an_array(spy):
    square, log = spy
    y = square(np.array([3.0]))
    assert type(y) is np.ndarray and y[0] == 9 and log == ["kernel"]


def test_under_no_grad_a_pair_records_nothing(spy):
    square, _ = spy
    with tinycv.no_grad():
        assert not square(Tensor([3.0], requires_grad=True)).requires_grad
    assert not square(Tensor([3.0])).requires_grad


@pytest.mark.parametrize("requires_grad", [True, False])
def test_the_member_for_inference_runs_only_where_nothing_is_recorded(spy, device, requires_grad):
    square, log = spy

    @square.inference
    def _(xp, x, scale=1.0):
        log.append("inference")
        return x * x * scale

    x = Tensor([3.0], device=device, requires_grad=requires_grad)
    assert square(x).item() == 9
    with tinycv.no_grad():
        assert square(x, 2.0).item() == 18
    assert log == ["kernel" if requires_grad else "inference", "inference"]


@pytest.mark.parametrize(
    "args, options",
    [((), {}), ((1.0, 2.0, 3.0), {}), ((1.0,), {"scael": 2.0}), ((1.0,), {"x": 1.0})],
)
def test_the_error_for_wrong_arguments_names_the_function_and_its_arguments(spy, args, options):
    with pytest.raises(TypeError, match=r"square\(x, scale\)"):
        spy[0](*args, **options)


@pytest.fixture
def polar(monkeypatch):
    """A pair with two results, whose gradients are computed only if they are needed."""
    monkeypatch.setattr(mechanism, "PAIRS", {})
    asked = []

    @fused
    def split_sum(x, y):
        return x * y, x + ops.sin(y)

    @split_sum.kernel
    def _(xp, x, y):
        def pull(g):
            product, total = g

            def part(name, of_product, of_total):
                asked.append(name)
                return (0 if product is None else product * of_product) + (
                    0 if total is None else total * of_total
                )

            return lambda: part("x", y, 1.0), lambda: part("y", x, xp.cos(y))

        return (x * y, x + xp.sin(y)), pull

    return split_sum, asked


def test_a_pair_with_several_results_is_certified_in_each_and_in_all_of_them(polar, device):
    pair, _ = polar
    x, y = draw(3), draw(3)
    assert compare(pair, x, y, device=device) < 1e-14
    for i in (0, 1):
        agree(
            lambda x, y, i=i: pair(x, y)[i],
            lambda x, y, i=i: pair.definition(x, y)[i],
            x,
            y,
            device=device,
        )


def test_only_needed_gradients_are_computed(polar):
    pair, asked = polar
    x, y = (Tensor(draw(3), requires_grad=True) for _ in range(2))
    tinycv.grad(pair(x, y)[0].sum(), y)
    assert asked == ["y"]
    pair(x, y.detach())[1].sum().backward()
    assert asked == ["y", "x"]


@pytest.mark.parametrize("way", ["kernel", "definition"])
def test_sums_of_float16_may_exceed_the_range_of_float16_in_between(way, device):
    """Also on a GPU without a CUDA kernel: the mean of four pixels of 30,000 each."""
    x = Tensor(np.full((1, 1, 2, 2), 30_000, np.float16), requires_grad=True, device=device)
    pool = PAIRS["avg_pool2d"]
    y = (pool if way == "kernel" else pool.definition)(x, 2)
    y.backward(Tensor(np.full((1, 1, 1, 1), 8, np.float16), device=device))
    assert y.numpy().item() == 30_000 and (x.grad.numpy() == 2).all()
