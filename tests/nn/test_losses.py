"""Losses: all forms of cross-entropy, and mean squared error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.nn import CrossEntropyLoss, MSELoss
from tinycv.nn.functional import cross_entropy, mse_loss

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 4)).astype(np.float32)
CLASSES = np.array([0, 3, 1, 1, 2, 0])
SHARES = RNG.dirichlet(np.ones(4), size=6).astype(np.float32)


def by_hand(scores, shares):
    """-Σ_c q_c log p_c for each row, with plain exp and log in float64."""
    p = np.exp(scores.astype(float))
    return -(shares * np.log(p / p.sum(axis=-1, keepdims=True))).sum(axis=-1)


def loss_of(device, scores, target, **options):
    return cross_entropy(
        Tensor(scores, device=device), Tensor(target, device=device), **options
    ).numpy()


# ── cross-entropy ────────────────────────────────────────────────────────────────────────────────


def test_the_loss_of_even_scores_is_the_log_of_the_number_of_classes(device):
    assert loss_of(device, np.zeros((3, 10)), np.array([0, 5, 9])) == pytest.approx(
        math.log(10), rel=1e-6
    )


def test_cross_entropy_is_minus_the_log_probability_of_the_class(device):
    expected = by_hand(SCORES, np.eye(4)[CLASSES])
    near(loss_of(device, SCORES, CLASSES, reduction="none"), expected)


def test_cross_entropy_takes_probabilities_too(device):
    expected = by_hand(SCORES, SHARES)
    near(loss_of(device, SCORES, SHARES, reduction="none"), expected)


def test_a_one_hot_target_equals_a_class_number(device):
    one_hot = np.eye(4, dtype=np.float32)[CLASSES]
    assert loss_of(device, SCORES, one_hot) == pytest.approx(
        loss_of(device, SCORES, CLASSES), rel=1e-6
    )


@pytest.mark.parametrize("target", [CLASSES, SHARES], ids=["classes", "shares"])
def test_smoothing_mixes_the_target_with_the_even_distribution(device, target):
    q = np.eye(4)[CLASSES] if target is CLASSES else SHARES
    expected = by_hand(SCORES, 0.9 * q + 0.1 / 4).mean()
    assert loss_of(device, SCORES, target, label_smoothing=0.1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ignored_rows_do_not_change_the_loss(device, smoothing):
    target = np.where(np.arange(6) % 2, -100, CLASSES)
    expected = loss_of(device, SCORES[::2], CLASSES[::2], label_smoothing=smoothing)
    assert loss_of(device, SCORES, target, label_smoothing=smoothing) == pytest.approx(
        expected, rel=1e-6
    )


def test_an_ignored_row_gets_no_gradient_and_the_others_do(device):
    scores = Tensor(SCORES, device=device, requires_grad=True)
    cross_entropy(scores, Tensor(CLASSES, device=device), ignore_index=1).backward()
    assert ((scores.grad.numpy() == 0).all(axis=1) == (CLASSES == 1)).all()


def test_reductions_are_the_sum_and_the_mean_of_the_rows(device):
    rows = loss_of(device, SCORES, CLASSES, reduction="none")
    assert rows.shape == (6,)
    assert loss_of(device, SCORES, CLASSES, reduction="sum") == pytest.approx(rows.sum(), rel=1e-6)
    assert loss_of(device, SCORES, CLASSES, reduction="mean") == pytest.approx(
        rows.mean(), rel=1e-6
    )


def test_the_gradient_is_the_prediction_minus_the_target(device):
    scores = Tensor(SCORES, device=device, requires_grad=True)
    cross_entropy(scores, Tensor(CLASSES, device=device), reduction="sum").backward()
    p = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores.grad.numpy(), p - np.eye(4)[CLASSES], rtol=1e-4, atol=1e-6)


def test_huge_scores_give_the_exact_loss_and_finite_gradients(device):
    scores = Tensor(
        np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), device=device, requires_grad=True
    )
    loss = cross_entropy(scores, Tensor(np.array([0, 0]), device=device), reduction="none")
    loss.sum().backward()
    assert loss.numpy().tolist() == [0, 2e4]
    assert scores.grad.numpy().tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("bad", [4, -1])
def test_on_the_cpu_a_class_out_of_range_is_named_with_its_row(bad):
    with pytest.raises(
        IndexError, match=f"class {bad} in row 2 is out of range: there are 4 classes"
    ):
        cross_entropy(Tensor(SCORES), np.array([0, 1, bad, 0, 0, 0]))


@pytest.mark.parametrize("bad", [4, -1])
def test_on_a_gpu_a_class_out_of_range_makes_the_loss_nan(double, bad):
    target = np.where(np.arange(6) == 2, bad, CLASSES)
    assert (np.isnan(loss_of("gpu", SCORES, target, reduction="none")) == (np.arange(6) == 2)).all()
    assert np.isnan(loss_of("gpu", SCORES, target))


def test_cross_entropy_never_waits_for_the_gpu(double):
    import cupy_double

    scores, target = Tensor(SCORES, device="gpu", requires_grad=True), Tensor(CLASSES, device="gpu")
    with cupy_double.counting() as waits:
        cross_entropy(scores, target).backward()
    assert waits.count == 0


@pytest.mark.parametrize(
    "scores, target, message",
    [
        ((6, 4, 2), CLASSES, r"\(6, 4, 2\).*reshape"),
        ((6, 4), CLASSES[:5], r"\(6, 4\) need a target of shape \(6,\); it has \(5,\)"),
        ((6, 4), CLASSES[:, None], r"target of shape \(6,\); it has \(6, 1\)"),
        ((6, 4), SHARES[:, :3], r"target of shape \(6, 4\); it has \(6, 3\)"),
    ],
)
def test_wrong_shapes_are_named(scores, target, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy(tinycv.zeros(*scores), target)


def test_an_unknown_reduction_is_refused_by_name():
    with pytest.raises(ValueError, match="reduction is 'median'"):
        cross_entropy(Tensor(SCORES), CLASSES, reduction="median")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_smoothing": 0.1},
        {"ignore_index": 1},
        {"reduction": "sum"},
        {"reduction": "none"},
    ],
    ids=str,
)
def test_cross_entropy_with_classes_is_certified(options):
    certify(lambda scores: cross_entropy(scores, CLASSES, **options), SCORES)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"reduction": "none"}], ids=str)
def test_cross_entropy_with_probabilities_is_certified_in_both_arguments(options):
    certify(lambda scores, shares: cross_entropy(scores, shares, **options), SCORES, SHARES)


def test_cross_entropy_loss_keeps_its_settings():
    kept = CrossEntropyLoss(label_smoothing=0.1, reduction="sum", ignore_index=1)(
        Tensor(SCORES), CLASSES
    )
    given = cross_entropy(
        Tensor(SCORES), CLASSES, label_smoothing=0.1, reduction="sum", ignore_index=1
    )
    assert kept.item() == given.item()


# ── squared error ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "reduction, expected", [("none", [[0, 4], [1, 9]]), ("sum", 14), ("mean", 3.5)]
)
def test_squared_error_by_hand(device, reduction, expected):
    x, y = Tensor([[1.0, 2], [3, 4]], device=device), Tensor([[1.0, 4], [2, 1]], device=device)
    assert mse_loss(x, y, reduction).numpy().tolist() == expected
    assert MSELoss(reduction)(x, y).numpy().tolist() == expected


def test_squared_error_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\)"):
        mse_loss(tinycv.zeros(4), tinycv.zeros(4, 1))


def test_squared_error_refuses_an_unknown_reduction():
    with pytest.raises(ValueError, match="reduction is 'median'"):
        mse_loss(tinycv.zeros(4), tinycv.zeros(4), "median")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_squared_error_is_certified_in_both_arguments(reduction):
    certify(lambda x, y: mse_loss(x, y, reduction), SCORES, SHARES)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "uint32", "uint64", "bool"])
def test_mse_of_integers_does_not_overflow(dtype):
    a, b = np.array([0, 1, 100]).astype(dtype), np.array([1, 0, 3]).astype(dtype)
    right = float(((a.astype(float) - b.astype(float)) ** 2).mean())
    for x, y in ((a, b), (Tensor(a), b), (Tensor(a), Tensor(b)), (Tensor(b), Tensor(a))):
        assert float(mse_loss(x, y)) == pytest.approx(right)


@pytest.mark.parametrize("function", [cross_entropy, cross_entropy.definition], ids=["run", "read"])
def test_the_mean_is_nan_if_all_class_weights_are_0_even_with_label_smoothing(function, device):
    x = Tensor(np.ones((2, 3), np.float32), device=device, requires_grad=True)
    loss = function(
        x,
        Tensor(np.array([1, 1]), device=device),
        Tensor([1.0, 0.0, 2.0], device=device),
        label_smoothing=0.1,
    )
    loss.backward()
    assert np.isnan(loss.item()) and np.isnan(x.grad.numpy()).all()  # PyTorch 2.13's
