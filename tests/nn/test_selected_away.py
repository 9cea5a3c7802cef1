"""NaN and infinity in entries that do not count reach neither the loss nor the gradient.

This holds for the definition, the kernel and the CUDA kernel.
"""

from __future__ import annotations

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import Tensor
from tinycv.nn import functional as F

pytestmark = pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
NAN, INF = float("nan"), float("inf")
POISON = (NAN, INF, -INF)
HALVES = ["kernel", "definition", "gpu"]


def results(pair, half, inputs, options):
    """Value, gradient along the first input, and the gradient of that gradient's square, which the
    definition makes."""
    function = pair.definition if half == "definition" else pair
    x, *rest = (
        a if a is None else Tensor(a, device="gpu" if half == "gpu" else "cpu") for a in inputs
    )
    x.requires_grad = True
    y = function(x, *rest, **options)
    weights = Tensor(1 + np.arange(y.size, dtype=x.dtype).reshape(y.shape), device=x.device)
    (first,) = tinycv.grad(y, x, weights)
    y = function(x, *rest, **options)
    (traced,) = tinycv.grad(y, x, weights, create_graph=True)
    (second,) = tinycv.grad((traced**2).sum(), x)
    return [t.numpy().copy() for t in (y, first, traced, second)]


def the_same(pair, half, poisoned, clean, options, dtype):
    rtol = 2e-5 if dtype == "float32" else 1e-11
    names = "value", "gradient", "traced gradient", "second derivative"
    found, right = results(pair, half, poisoned, options), results(pair, "kernel", clean, options)
    for name, got, expected in zip(names, found, right, strict=True):
        np.testing.assert_allclose(
            got, expected, rtol=rtol, atol=rtol, err_msg=f"{name}, {half}, {options}"
        )


# ── cross-entropy ────────────────────────────────────────────────────────────────────────────────


def a_batch(seed, dtype):
    """(poisoned scores, the same with numbers in place of the poison, target, weight, options)."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 7)), int(rng.integers(2, 6))
    scores = rng.normal(size=(n, classes)).astype(dtype)
    target = rng.integers(0, classes, n)
    weight = rng.choice([0.0, 0.5, 2.0], classes).astype(dtype) if rng.random() < 0.5 else None
    smoothing = float(rng.choice([0.0, 0.0, 0.3]))
    options = {"reduction": str(rng.choice(["mean", "sum", "none"])), "label_smoothing": smoothing}
    if rng.random() < 0.5:
        options["ignore_index"] = int(rng.integers(0, classes))
    target[rng.random(n) < 0.3] = options.get("ignore_index", -100)
    # shares of classes, some of them 0
    if rng.random() < 0.4:
        q = rng.dirichlet(np.ones(classes), n) * (rng.random((n, classes)) < 0.6)
        target, options = q.astype(dtype), {k: v for k, v in options.items() if k != "ignore_index"}
    else:
        q = (
            np.eye(classes)[np.clip(target, 0, classes - 1)]
            * (target != options.get("ignore_index", -100))[:, None]
        )
    counts = q.any(axis=1) if target.ndim == 1 else np.ones(n, bool)
    q = (q * (1 - smoothing) + counts[:, None] * smoothing / classes) * (
        1 if weight is None else weight
    )
    poisoned = scores.copy()
    nothing = ~(q != 0).any(axis=1)
    poisoned[nothing] = rng.choice(POISON, (n, classes))[nothing]
    scores[nothing] = 0
    masked = (q == 0) & ~nothing[:, None] & (rng.random((n, classes)) < 0.7)
    poisoned[masked], scores[masked] = -INF, -1e4  # whose exp is 0
    if target.ndim == 1 and weight is not None and not weight[target[counts]].sum():
        options["reduction"] = "sum"  # a mean would divide by 0
    return poisoned, scores, target, weight, options


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_that_do_not_count_reach_neither_loss_nor_gradient(double, half, dtype):
    for seed in range(120 if half != "gpu" else 60):
        poisoned, clean, target, weight, options = a_batch(seed, dtype)
        the_same(
            F.cross_entropy,
            half,
            (poisoned, target, weight),
            (clean, target, weight),
            options,
            dtype,
        )


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("bad", POISON)
def test_an_ignored_row_changes_nothing(double, half, bad):
    scores, target = np.array([[1.0, 2.0], [bad, bad], [0.5, 0.0]], "f4"), np.array([1, -100, 0])
    got = results(F.cross_entropy, half, (scores, target), {})
    expected = results(F.cross_entropy, "kernel", (scores[::2], target[::2]), {})
    assert got[0] == pytest.approx(expected[0], rel=1e-6)
    for a, b in zip(got[1:], expected[1:], strict=True):
        near(a[::2], b)
        assert (a[1] == 0).all()


@pytest.mark.parametrize("half", HALVES)
def test_where_no_row_counts_the_mean_is_nan_and_the_gradient_0(double, half):
    value, first, traced, _ = results(
        F.cross_entropy, half, (np.ones((2, 3), "f4"), np.array([-100, -100])), {}
    )
    assert np.isnan(value) and (first == 0).all() and (traced == 0).all()


@pytest.mark.parametrize("half", HALVES)
def test_a_class_of_weight_0_does_not_count_even_as_a_target(double, half):
    scores, target = np.array([[NAN, NAN], [0.0, 1.0]]), np.array([0, 1])
    value, first, *_ = results(F.cross_entropy, half, (scores, target, np.array([0.0, 3.0])), {})
    assert value == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-6)
    assert (first[0] == 0).all() and np.isfinite(first).all()


@pytest.mark.parametrize("half", HALVES)
def test_smoothing_over_a_masked_class_is_infinite_with_a_finite_gradient(double, half):
    value, first, *_ = results(
        F.cross_entropy,
        half,
        (np.array([[-INF, 0.0, 1.0]]), np.array([2])),
        {"label_smoothing": 0.3},
    )
    assert value == INF
    np.testing.assert_allclose(first, [[-0.1, 0.2689414 - 0.1, 0.7310586 - 0.8]], atol=1e-6)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("bad", POISON)
def test_a_bad_score_in_a_row_that_counts_reaches_the_loss(double, half, bad):
    for target in (np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]])):
        value = results(
            F.cross_entropy,
            half,
            (np.array([[0.0, 1.0], [0.0, bad]]), target),
            {"reduction": "none"},
        )[0]
        assert np.isfinite(value[0]) and not np.isfinite(value[1])


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("bad", POISON)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_weight_of_a_class_that_does_not_occur_may_be_infinite_or_nan(
    double, half, bad, reduction
):
    scores = np.random.default_rng(0).normal(size=(3, 3)).astype("f4")
    poisoned, clean = (np.array([0.5, 2.0, w], "f4") for w in (bad, 1.0))
    shares = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "f4")
    for target in (np.array([0, 1, 0]), np.array([0, -100, 1]), shares):
        the_same(
            F.cross_entropy,
            half,
            (scores, target, poisoned),
            (scores, target, clean),
            {"reduction": reduction},
            "float32",
        )
    target = np.array([[1.0, 0.0, 0.0], [0.3, 1.0, 0.0], [0.0, 0.0, 0.0]], "f4")
    the_same(
        F.binary_cross_entropy_with_logits,
        half,
        (scores, target, None, poisoned),
        (scores, target, None, clean),
        {"reduction": reduction},
        "float32",
    )


@pytest.mark.parametrize("half", HALVES)
def test_label_smoothing_may_be_1(double, half):
    for target in (np.array([1]), np.array([[0.0, 1.0]])):
        for weight in (None, np.ones(2)):
            value = results(
                F.cross_entropy,
                half,
                (np.array([[0.0, 1.0]]), target, weight),
                {"label_smoothing": 1.0},
            )[0]
            assert value == pytest.approx(np.log(1 + np.e) - 0.5, rel=1e-6)
            value = results(
                F.cross_entropy,
                half,
                (np.array([[0.0, -INF]]), target, weight),
                {"label_smoothing": 1.0},
            )[0]
            assert value == INF


@pytest.mark.parametrize("target", [np.array([0, 1]), np.eye(2)], ids=["classes", "shares"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_class_weights_that_require_a_gradient_are_refused(target, create_graph):
    x, weight = Tensor(np.zeros((2, 2)), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(
        TypeError, match="cross_entropy: weight requires a gradient, but it is data"
    ):
        tinycv.grad(F.cross_entropy(x, target, weight), (x, weight), create_graph=create_graph)


# ── binary cross-entropy ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_entries_of_weight_0_reach_neither_binary_loss_nor_gradient(double, half, dtype, reduction):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(1, 6, 2)
        scores, target = (
            rng.normal(size=(n, m)).astype(dtype),
            rng.choice([0.0, 1.0, 0.3], (n, m)).astype(dtype),
        )
        weight = (
            rng.choice([0.0, 1.5], (n, 1) if seed % 2 else (n, m)).astype(dtype)
            if seed % 3
            else None
        )
        pos = rng.choice([0.0, 2.0], m).astype(dtype) if seed % 5 < 3 else None
        left_out = np.broadcast_to(np.False_ if weight is None else weight == 0, (n, m)).copy()
        if pos is not None:
            left_out |= (target == 1) & (pos == 0)
        poisoned, clean = scores.copy(), np.where(left_out, 0, scores)
        poisoned[left_out] = rng.choice(POISON, (n, m))[left_out]
        spoilt = np.where(
            left_out & (rng.random((n, m)) < 0.5) & (pos is None), NAN, target
        ).astype(dtype)
        the_same(
            F.binary_cross_entropy_with_logits,
            half,
            (poisoned, spoilt, weight, pos),
            (clean, target, weight, pos),
            {"reduction": reduction},
            dtype,
        )


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("pos", [None, np.array([2.0])])
def test_an_infinite_score_costs_0_or_infinity(double, half, pos):
    scores, target = np.array([INF, -INF, INF, -INF, 0.0]), np.array([1.0, 0.0, 0.0, 1.0, 0.0])
    value, first, *_ = results(
        F.binary_cross_entropy_with_logits, half, (scores, target, None, pos), {"reduction": "none"}
    )
    np.testing.assert_allclose(value, [0, 0, INF, INF, np.log(2)])
    assert np.isfinite(first).all() and (first[:2] == 0).all()


# ── dropout ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.statistical
@pytest.mark.parametrize("bad", POISON)
def test_dropped_entries_are_0_even_if_they_were_nan_or_infinite(device, bad):
    x = Tensor(np.full((40, 40), bad, "f4"), device=device, requires_grad=True)
    y = F.dropout(x, 0.5)
    (g,) = tinycv.grad(y, x, Tensor(np.full((40, 40), bad, "f4"), device=device))
    forgotten = y.numpy() == 0
    assert 0.4 < forgotten.mean() < 0.6 and not np.isfinite(y.numpy()[~forgotten]).any()
    assert (g.numpy()[forgotten] == 0).all()


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0, 2.0, -1.5])
def test_leaky_relu_of_infinity_equals_its_definition(slope, device):
    x = Tensor(np.array([np.inf, -np.inf, 0.0, -2.0, 3.0], np.float32), device=device)
    with np.errstate(invalid="ignore"):
        made = [f(x, slope).numpy() for f in (F.leaky_relu, F.leaky_relu.definition)]
    np.testing.assert_array_equal(*made)
    assert made[0][0] == np.inf
