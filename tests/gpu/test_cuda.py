"""CUDA kernels without a GPU: their text, compiled by g++, equals the definitions.

They run in warps of 1 lane and of 32 lanes.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cupy_double import raw
from cupy_double.world import WORLD
from near import near

import tinycv
from tinycv import Tensor, optim
from tinycv.certificate.cases import cases
from tinycv.engine.dispatch import OVERRIDES, member, suits
from tinycv.engine.fused import PAIRS
from tinycv.gpu import (
    activation,
    adam,
    attention,
    clipping,
    conv_kernel,
    cuda,
    losses,
    lstm,
    norm,
    norm_strips,
    softmax,
)

NAMES = sorted(name for name, pair in PAIRS.items() if member(pair.place))
# of the largest entry; float32 is off by 1.1e-6 at most, under four kernels of OpenBLAS: room for
# more
ALLOWED = {"float32": 5e-6, "float16": 2e-3, "float64": 1e-14}


def normal(*shape, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def attention_inputs(b, h, t, s, d, scale=1.0):
    return [normal(b, h, n, d, scale=scale, seed=i) for i, n in enumerate((t, s, s))]


def lstm_inputs(t, b, i, h, scale=1.0):
    shapes = (t, b, i), (b, h), (b, h), (4 * h, i), (4 * h, h), (4 * h,), (4 * h,)
    return [
        normal(*shape, scale=scale if k == 0 else 0.5, seed=k) for k, shape in enumerate(shapes)
    ]


BLIND = np.random.default_rng(1).random((2, 1, 33, 40)) > 0.5
BLIND[0, 0, 3] = BLIND[1] = False  # queries that may look nowhere
# beside certificate/cases.py: long rows, huge, tiny, one, none
MORE = {
    "softmax": [
        ([normal(5, 257)], {}),
        ([normal(3, 70, scale=1e4)], {}),
        ([normal(3, 70, scale=1e-30)], {}),
        ([normal(1, 1)], {}),
        ([normal(0, 5)], {}),
        ([np.full((2, 9), -3e38)], {}),
        ([normal(33, 3, 2)], {"axis": 0}),
    ],
    "log_softmax": [
        ([normal(5, 257)], {}),
        ([normal(3, 70, scale=1e4)], {}),
        ([normal(1, 1)], {}),
        ([normal(0, 5)], {}),
    ],
    "cross_entropy": [
        ([normal(40, 100), np.arange(40)], {"label_smoothing": 0.1}),
        ([normal(40, 100, scale=1e4), np.arange(40)], {}),
        ([normal(4, 33), np.array([-100, 3, -100, 32])], {}),
        ([normal(1, 1), np.array([0])], {}),
        ([normal(0, 3), np.zeros(0, int)], {"reduction": "sum"}),
    ],
    "linear": [
        ([normal(7, 5), normal(8, 5, seed=1), normal(8, seed=2)], {}),
        ([normal(2, 3, 5), normal(7, 5, seed=1), normal(7, seed=2)], {}),
        ([normal(4, 3), normal(9, 3)], {}),
        ([normal(0, 3), normal(4, 3), normal(4)], {}),
        ([normal(2, 0), normal(4, 0), normal(4)], {}),
    ],
    "layer_norm": [
        ([normal(7, 300), normal(300, seed=1), normal(300, seed=2)], {}),
        ([normal(3, 50, scale=1e4), normal(50, seed=1)], {}),
        ([normal(1, 1)], {}),
        ([normal(0, 4)], {}),
    ],
    "group_norm": [
        ([normal(*shape), groups], {})
        for shape, groups in (((2, 4, 33), 2), ((1, 1), 1), ((0, 4, 2), 2))
    ]
    + [
        ([normal(2, 4, 9, scale=1e4), 4], {}),
        ([normal(3, 5, 7, 12).swapaxes(1, 3), 3, normal(12)], {}),
        ([normal(2, 12, 5, 7), 4, normal(12, seed=1), normal(12, seed=2)], {}),
        # several strips, channels first
        ([normal(1, 4, 1100), 2, normal(4)], {}),
        # and last
        ([normal(2, 9, 5, 40).transpose(0, 3, 1, 2), 4, None, normal(40)], {}),
    ],
    "batch_standard": [
        ([normal(4, 3, 5, 7), 140, normal(3, seed=1), normal(3, seed=2)], {}),
        ([normal(9, 4), 9], {}),
        ([normal(4, 5, 6, 3).transpose(0, 3, 1, 2), 120, None, normal(3)], {"eps": 0.1}),
        ([normal(5, 2, 3, scale=100.0), 15], {}),
        ([1 + normal(2, 3, 700), 1400, normal(3)], {}),
        ([normal(2, 9, 5, 40).transpose(0, 3, 1, 2), 90, normal(40), normal(40, seed=1)], {}),
    ],
    "conv2d": [
        ([normal(3, 4, 9, 8), normal(6, 4, 3, 3, seed=1), normal(6, seed=2)], options)
        for options in ({}, {"stride": 2, "padding": 1}, {"padding": "same", "dilation": 2})
    ]
    + [
        (
            [normal(2, 9, 8, 4).transpose(0, 3, 1, 2), normal(6, 2, 2, 3, seed=1)],
            {"groups": 2, "stride": (2, 3)},
        ),
        ([normal(0, 2, 4, 4), normal(3, 2, 1, 1)], {}),
    ],
    "conv_transpose2d": [
        ([normal(3, 4, 5, 4), normal(4, 6, 4, 4, seed=1), normal(6, seed=2)], options)
        for options in (
            {},
            {"stride": 2, "padding": 1},
            {"dilation": 2, "stride": 3, "output_padding": 1},
        )
    ]
    + [
        (
            [normal(2, 4, 3, 3), normal(4, 2, 2, 3, seed=1), normal(4)],
            {"groups": 2, "stride": (2, 1)},
        )
    ],
    "silu": [
        ([normal(1000, scale=4.0)], {}),
        ([normal(5, scale=1e4)], {}),
        ([normal(2, 3, 4).T], {}),
    ],
    "leaky_relu": [
        ([normal(1000)], {"negative_slope": 0.2}),
        ([normal(2, 3, 4).swapaxes(0, 1)], {}),
    ],
    "gelu": [([normal(1000, scale=4.0)], {"approximate": how}) for how in ("none", "tanh")]
    + [
        ([normal(5, scale=1e4)], {}),
        ([normal(5, scale=1e-30)], {}),
        ([normal(0)], {}),
        ([np.array(0.3)], {}),
    ],
    "scaled_dot_product_attention": [
        *[
            ([*attention_inputs(2, 3, 33, 40, 8), *mask], {"is_causal": causal})
            for mask in ([], [BLIND])
            for causal in (False, True)
        ],
        ([*[a[:, 0] for a in attention_inputs(2, 1, 33, 40, 8)], BLIND[:, 0]], {}),
        (attention_inputs(1, 1, 1, 1, 1), {}),
        ([*[a[0] for a in attention_inputs(1, 3, 4, 5, 2)], np.zeros((4, 5), bool)], {}),
    ],
    "lstm": [
        (lstm_inputs(5, 3, 7, 40), {}),
        (lstm_inputs(3, 2, 4, 5, scale=10.0), {}),
        (lstm_inputs(1, 1, 1, 1), {}),
        (
            [*lstm_inputs(4, 3, 2, 5), np.arange(4)[:, None, None] < np.array([4, 0, 2])[:, None]],
            {},
        ),
    ],
}


def values_and_gradients(function, inputs, dtype, device, options):
    """Results and the gradients of every float input, for weights that are the same wherever it is
    computed."""
    tensors = [
        Tensor(
            x,
            dtype=dtype if x.dtype.kind == "f" else None,
            device=device,
            requires_grad=x.dtype.kind == "f",
        )
        if isinstance(x, np.ndarray)
        else x
        for x in inputs
    ]
    y = function(*tensors, **options)
    ys = y if isinstance(y, tuple) else (y,)
    weights = [
        Tensor(normal(*y.shape, seed=9 + i), dtype=dtype, device=device) for i, y in enumerate(ys)
    ]
    found = tinycv.grad(
        list(ys),
        [t for t in tensors if getattr(t, "requires_grad", False)],
        weights,
        allow_unused=True,
    )
    return [None if t is None else t.numpy().astype("float64") for t in (*ys, *found)]


def rounded(x, dtype):
    """As the kernel gets it, so that the comparison is of what is calculated, not of what was
    rounded on the way in."""
    return x.astype(dtype).astype("float64") if is_float(x) else x


def is_float(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def worst(pair, inputs, dtype, options):
    """The greatest difference from the definition in float64, relative to the greatest entry of
    what is compared."""
    got = values_and_gradients(pair, inputs, dtype, "gpu:0", options)
    expected = values_and_gradients(
        pair.definition, [rounded(x, dtype) for x in inputs], "float64", "cpu", options
    )
    return max(
        float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))
        for a, b in zip(got, expected, strict=True)
        if b is not None
    )


def test_every_pair_with_a_cuda_version_is_tested_here():
    # whose linear maps alone are of two kinds
    assert set(MORE) == {*NAMES, "conv2d", "conv_transpose2d"}


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize(
    "name, i", [(name, i) for name, tried in MORE.items() for i in range(len(tried))]
)
def test_a_cuda_kernel_equals_its_definition(double, name, i, dtype):
    inputs, options = MORE[name][i]
    if dtype == "float16":  # its numbers end at 65504
        inputs = [np.asarray(np.clip(x, -1e3, 1e3)) if is_float(x) else x for x in inputs]
    # NumPy adds halves in halves
    steps = 5 if dtype == "float16" and name in ("lstm", "conv2d", "conv_transpose2d") else 1
    assert worst(PAIRS[name], inputs, dtype, options) < ALLOWED[dtype] * steps


@pytest.mark.parametrize("name", ["silu", "gelu", "leaky_relu"])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_arrays_may_start_and_end_at_any_address(double, name, start):
    x = normal(1030).astype("float32")
    whole, part = (
        PAIRS[name](Tensor(a)).numpy() for a in (double.asarray(x), double.asarray(x)[start:1027])
    )
    assert (part == whole[start:1027]).all()


def test_a_strip_that_starts_with_a_number_far_from_the_others(double, monkeypatch):
    # one lane alone would go by that number
    monkeypatch.setattr(WORLD, "lanes", 32)
    first = 100 + normal(2, 4, 20, 30)
    first[..., 0, 0] = 0
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(first, 1, -1)), -1, 1)
    for name, option in (("group_norm", 2), ("batch_standard", 1200)):
        assert max(worst(PAIRS[name], [x, option], "float32", {}) for x in (first, last)) < 1e-5


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(
    "name, options", [("layer_norm", []), ("group_norm", [2]), ("batch_standard", [5])]
)
@pytest.mark.parametrize("lanes", [1, 32])
def test_an_infinite_variance_gives_nan_as_in_the_definition(
    double, monkeypatch, name, options, lanes
):
    monkeypatch.setattr(WORLD, "lanes", lanes)
    x = normal(5, 4)
    x[0 if name == "layer_norm" else slice(None), :2] *= 1e25
    y, *_, slope = values_and_gradients(PAIRS[name], [x, *options], "float32", "gpu:0", {})
    read, *_, read_slope = values_and_gradients(
        PAIRS[name].definition, [x, *options], "float32", "cpu", {}
    )
    assert (np.isnan(y) == np.isnan(read)).all() and (np.isnan(slope) == np.isnan(read_slope)).all()
    assert np.isnan(y).any() and np.isfinite(y).any()


@pytest.mark.parametrize("of_classes", [True, False])
@pytest.mark.parametrize("rows, width", [(9000, 20), (70000, 3)])
def test_the_mean_of_float16_losses_is_finite_even_if_their_sum_overflows(
    double, of_classes, rows, width
):
    """65504 is the largest half: fewer than the rows, or than what their losses come to."""
    x = normal(rows, width, scale=4.0).astype("float16")
    classes = np.random.default_rng(1).integers(0, width, rows)
    target = classes if of_classes else np.eye(width, dtype="float16")[classes]
    (got, slope), (read, read_slope) = (
        values_and_gradients(PAIRS["cross_entropy"], [x, target], "float16", device, {})[:2]
        for device in ("gpu:0", "cpu")
    )
    assert np.isfinite(got) and got == read
    assert np.abs(slope).max() > 0 and np.abs(slope - read_slope).max() <= 6e-8


# few rows: 32 threads that meet at every sum are slow
SHORT = {
    "softmax": ([normal(2, 70)], {}),
    "log_softmax": ([normal(2, 70)], {}),
    "layer_norm": ([normal(2, 70), normal(70)], {}),
    "cross_entropy": ([normal(2, 70), np.array([69, 3])], {"label_smoothing": 0.1}),
    "gelu": ([normal(3, 70)], {}),
    "group_norm": ([normal(1, 4, 40), 2, normal(4)], {}),
    "batch_standard": ([normal(9, 4), 9], {}),
    "conv2d": ([normal(1, 5, 3, 3), normal(2, 5, 3, 3)], {"padding": 1}),
    "scaled_dot_product_attention": (attention_inputs(1, 1, 2, 40, 3), {"is_causal": True}),
    "lstm": (lstm_inputs(2, 2, 3, 20), {}),
}


@pytest.mark.parametrize("name", [*NAMES, "conv2d"])
def test_a_warp_of_32_lanes_does_what_one_lane_does(double, monkeypatch, name):
    monkeypatch.setattr(WORLD, "lanes", 32)
    inputs, options = SHORT.get(name) or (cases(name)[0].inputs, {})
    assert worst(PAIRS[name], inputs, "float32", options) < ALLOWED["float32"]


# ── the checks are checked ───────────────────────────────────────────────────────────────────────

MISTAKES = [
    ("softmax", softmax, "exp(below) * share", "exp(below)"),
    ("softmax", softmax, "a * (b - total)", "a * (b + total)"),
    ("cross_entropy", losses, "j == r.target ? A(1 - smoothing)", "j == r.target ? A(1)"),
    ("layer_norm", norm, "across += h * n;", "across += h;"),
    (
        "group_norm",
        norm_strips,
        "keep(of, my, total, dots * scales[group], found)",
        "keep(of, my, total, dots, found)",
    ),
    ("conv2d", conv_kernel, "up / w.stride_down >= w.rows", "up / w.stride_down > w.rows"),
    ("conv2d", conv_kernel, "right + tap % across * w.step_across", "right + tap % across"),
    ("gelu", activation, "v * A(0.3989422804014327)", "A(0.3989422804014327)"),
    (
        "scaled_dot_product_attention",
        attention,
        "j <= query) && (!in || in[j * by_key])",
        "j < query) && (!in || in[j * by_key])",
    ),
    ("lstm", lstm, "to_cell * A(c[now]) * f", "to_cell * A(c[now + n]) * f"),
    ("lstm", lstm, "carried[at] = T(going ? A(0) : dh)", "carried[at] = T(A(0))"),
]


@pytest.mark.parametrize(
    "name, module, right, wrong", MISTAKES, ids=[f"{m[0]}: {m[3][:30]}" for m in MISTAKES]
)
def test_a_mistake_in_a_kernel_is_detected(double, monkeypatch, name, module, right, wrong):
    assert module.kernels.source.count(right) == 1
    monkeypatch.setattr(module.kernels, "source", module.kernels.source.replace(right, wrong))
    assert (
        max(worst(PAIRS[name], inputs, "float64", options) for inputs, options in MORE[name]) > 1e-3
    )


# ── Adam and clipping, of many parameters at once ────────────────────────────────────────────────

# more than one launch takes
SHAPES = [(3, 4), (1,), (), (0, 2), (1024,), (1025,), (40, 70)] + [(2,)] * 100


def trained(kind, device, dtype, steps=3, **options):
    rng = np.random.default_rng(0)
    params = [
        Tensor(rng.normal(size=s), dtype=dtype, device=device, requires_grad=True) for s in SHAPES
    ]
    optimizer = getattr(optim, kind)(params, lr=0.01, **options)
    for step in range(steps):
        for i, p in enumerate(params):
            g = Tensor(rng.normal(size=p.shape), dtype=dtype, device=device)
            # this one falls a step behind the others
            p.grad = None if (i, step) == (4, 1) else g
        optimizer.step()
    states = optimizer.state_dict()["state"]
    return [p.numpy() for p in params] + [
        tinycv.Tensor(s[k]).numpy() for s in states.values() for k in optimizer.arrays
    ]


@pytest.mark.parametrize(
    "kind, options",
    [("Adam", {}), ("Adam", {"weight_decay": 0.1}), ("AdamW", {"weight_decay": 0.1})],
)
@pytest.mark.parametrize("dtype, rtol", [("float32", 2e-6), ("float64", 1e-13)])
def test_adam_in_one_launch_equals_adam_for_each_parameter(double, kind, options, dtype, rtol):
    read = trained(kind, "cpu", "float64", **options)
    for got, expected in zip(trained(kind, "gpu", dtype, **options), read, strict=True):
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


def test_adam_takes_a_launch_for_each_96_parameters(double):
    params = [Tensor(np.ones(5, "float32"), device="gpu", requires_grad=True) for _ in range(97)]
    optimizer = optim.Adam(params)
    for p in params:
        p.grad = Tensor(np.ones(5, "float32"), device="gpu")
    before = WORLD.launches
    optimizer.step()
    assert WORLD.launches - before == 2


def test_adam_also_steps_a_parameter_that_is_not_contiguous(double):
    whole = Tensor(np.ones((3, 4), "float32"), device="gpu", requires_grad=True)
    turned = Tensor(double.ones((4, 3), "float32").T, requires_grad=True)
    optimizer = optim.Adam([whole, turned], lr=0.1)
    for p in (whole, turned):
        p.grad = Tensor(np.arange(12, dtype="float32").reshape(3, 4), device="gpu")
    optimizer.step()
    assert np.allclose(whole.numpy(), turned.numpy())


def clipped(device, max_norm, dtype="float32"):
    rng = np.random.default_rng(0)
    params = [Tensor(np.zeros(s), dtype=dtype, device=device, requires_grad=True) for s in SHAPES]
    for p in params:
        p.grad = Tensor(rng.normal(size=p.shape), dtype=dtype, device=device)
    norm = optim.clip_grad_norm_(params, max_norm)
    assert norm.shape == () and norm.dtype == dtype
    return [norm.numpy(), *(p.grad.numpy() for p in params)]


@pytest.mark.parametrize("max_norm, lanes", [(0.5, 1), (1e9, 1), (0.5, 32)])
def test_clipping_in_one_launch_equals_clipping_by_array_calls(
    double, monkeypatch, max_norm, lanes
):
    monkeypatch.setattr(WORLD, "lanes", lanes)
    for got, expected in zip(
        clipped("gpu", max_norm), clipped("cpu", max_norm, "float64"), strict=True
    ):
        near(got, expected, rtol=2e-6)


def test_gradients_that_are_all_empty_have_norm_0(double):
    p = Tensor(np.zeros((0, 3), "float32"), device="gpu", requires_grad=True)
    p.grad = Tensor(np.zeros((0, 3), "float32"), device="gpu")
    assert optim.clip_grad_norm_([p], 1.0).item() == 0


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("A(s.eps * s.bend)", "A(s.eps)"),
        ("first <= row", "first < row"),
        ("sums[row] = total", "sums[row] = 0"),
        ("* A(s.shrink)", ""),
    ],
)
def test_a_mistake_in_a_kernel_for_many_parameters_is_detected(double, monkeypatch, right, wrong):
    assert [each.kernels.source.count(right) for each in (adam, clipping)].count(1) >= 1
    for each in (adam, clipping):
        monkeypatch.setattr(each.kernels, "source", each.kernels.source.replace(right, wrong))
    decay = {"eps": 1e-2, "weight_decay": 0.1}
    found = [
        *zip(
            trained("AdamW", "gpu", "float64", **decay),
            trained("AdamW", "cpu", "float64", **decay),
            strict=True,
        ),
        *zip(clipped("gpu", 0.5, "float64"), clipped("cpu", 0.5, "float64"), strict=True),
    ]
    assert not all(np.allclose(got, expected) for got, expected in found)


# ── which member runs ────────────────────────────────────────────────────────────────────────────


def test_arrays_of_two_float_types_are_converted_to_the_wider_one(double, monkeypatch):
    pair, given = PAIRS["layer_norm"], []
    run = member(pair.place)
    monkeypatch.setitem(
        OVERRIDES, pair.place, lambda xp, *arrays: given.extend(arrays) or run(xp, *arrays)
    )
    x = Tensor(np.ones((2, 3), "float32"), device="gpu")
    assert pair(x, Tensor(np.ones(3), dtype="float64", device="gpu")).dtype == "float64"
    assert [a.dtype for a in given[:2]] == ["float64", "float64"]


def test_the_cpu_never_sees_a_kernel_for_the_gpu(monkeypatch):
    monkeypatch.setitem(OVERRIDES, PAIRS["softmax"].place, lambda *_: pytest.fail("on the CPU"))
    assert PAIRS["softmax"](Tensor([[1.0, 1.0]])).numpy().tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    "arrays, answer",
    [
        (["f"], True),
        (["f", "f"], True),
        (["f", "d"], False),
        ([], False),
        (["g"], False),
        (["f", "i"], True),
    ],
)
def test_suits_requires_a_single_float_type(arrays, answer):
    assert suits([np.ones(2, char) for char in arrays] + [None, 3, np.float64(2.0)]) is answer


# ── what the double refuses where CUDA would read other memory ───────────────────────────────────

PLAIN = cuda.Kernels("""
KERNEL copy(Int n, double factor, bool yes, const T* x, const Int* order, T* y) {
    EACH_ENTRY(i, n) y[order[i]] = T(yes ? A(factor) * A(x[i]) : A(0));
}""")


def test_a_users_own_kernel_runs(double):
    x, order, y = (
        double.arange(40, dtype="float32"),
        double.arange(39, -1, -1),
        double.empty(40, "float32"),
    )
    PLAIN.copy(x, cuda.warps_for(40), 40, 2.0, True, x, order, y)
    assert y.get().tolist() == (2 * np.arange(40)[::-1]).tolist()


@pytest.mark.parametrize(
    "change, error",
    [
        ({0: 4.0}, "arrives as double where C has Int"),
        ({1: 2}, "arrives as Int where C has double"),
        ({3: 1}, r"arrives as Int where C has const T\*"),
        ({0: np.int64(3)}, "Unsupported type"),
        ({4: "float32"}, "float32 stands where C has const Int"),
        ({3: "pieces"}, "lies in pieces"),
    ],
)
def test_a_wrong_argument_is_named(double, change, error):
    arguments = [
        4,
        1.0,
        True,
        double.ones(4, "float32"),
        double.arange(4),
        double.ones(4, "float32"),
    ]
    named = {"float32": double.ones(4, "float32"), "pieces": double.ones(8, "float32")[::2]}
    for i, value in change.items():
        arguments[i] = named[value] if isinstance(value, str) else value
    with pytest.raises((TypeError, ValueError), match=error):
        PLAIN.copy(arguments[5], 1, *arguments)


def test_too_few_arguments_and_an_unknown_kernel_are_named(double):
    x = double.ones(4, "float32")
    with pytest.raises(TypeError, match="6 parameters, and 1 arguments"):
        PLAIN.copy(x, 1, 4)
    with pytest.raises(AttributeError, match="no kernel 'paste'"):
        PLAIN.paste(x, 1, 4)


def test_without_a_compiler_the_double_says_what_to_install(double, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    raw.library.cache_clear()
    with pytest.raises(RuntimeError, match=r"no g\+\+ here: install it"):
        raw.library("nothing", 1)


def test_compiler_errors_are_passed_on(double):
    x = double.ones(4, "float32")
    with pytest.raises(RuntimeError, match="nonsense"):
        cuda.Kernels("KERNEL f(Int n) { nonsense; }").f(x, 1, 4)


def test_zero_rows_cause_no_launch(double):
    x, before = double.ones(4, "float32"), WORLD.launches
    PLAIN.copy(x, 0)
    assert WORLD.launches == before
