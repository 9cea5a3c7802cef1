"""Binary cross-entropy: its formula, its precision for near-certain predictions, its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import Tensor
from tinycv.nn import BCEWithLogitsLoss
from tinycv.nn.functional import binary_cross_entropy_with_logits

RNG = np.random.default_rng(0)
SCORES, TARGET = (
    RNG.normal(size=(5, 3)).astype(np.float32),
    RNG.uniform(size=(5, 3)).astype(np.float32),
)


def loss_of(device, *arrays, **options):
    return binary_cross_entropy_with_logits(
        *(Tensor(a, device=device) for a in arrays), **options
    ).numpy()


def test_binary_cross_entropy_equals_its_formula(device):
    p = 1 / (1 + np.exp(-SCORES.astype(float)))
    expected = -(TARGET * np.log(p) + (1 - TARGET) * np.log(1 - p))
    for reduction, result in (
        ("none", expected),
        ("sum", expected.sum()),
        ("mean", expected.mean()),
    ):
        near(loss_of(device, SCORES, TARGET, reduction=reduction), result)


def test_a_score_of_0_costs_one_bit(device):
    assert loss_of(device, np.zeros(4), np.array([0.0, 1, 0.5, 0.2])) == pytest.approx(
        math.log(2), rel=1e-12
    )


def test_weight_scales_every_entry_and_pos_weight_the_term_of_target_1(device):
    weight, pos = RNG.uniform(size=(5, 1)), RNG.uniform(size=3)
    p = 1 / (1 + np.exp(-SCORES.astype(float)))
    expected = -weight * (pos * TARGET * np.log(p) + (1 - TARGET) * np.log(1 - p))
    near(loss_of(device, SCORES, TARGET, weight, pos, reduction="none"), expected)


@pytest.mark.parametrize("half", ["kernel", "definition"])
def test_near_certain_predictions_keep_their_digits(device, half):
    """-log sigmoid(20) = log(1 + exp(-20)): 1 + exp(-20) is 1 in float32. And nothing overflows."""
    f = (
        binary_cross_entropy_with_logits
        if half == "kernel"
        else binary_cross_entropy_with_logits.definition
    )
    scores, target = (
        np.array([20.0, -20, 1e4, -1e4, 1e4], np.float32),
        np.array([1, 0, 1, 0, 0], np.float32),
    )
    x = Tensor(scores, device=device, requires_grad=True)
    y = f(x, Tensor(target, device=device), reduction="none")
    y.sum().backward()
    np.testing.assert_allclose(y.numpy(), [math.exp(-20), math.exp(-20), 0, 0, 1e4], rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy()[1:], [math.exp(-20), 0, 0, 1], rtol=1e-6)


def test_the_gradient_is_the_prediction_minus_the_target(device):
    x = Tensor(SCORES, device=device, requires_grad=True)
    binary_cross_entropy_with_logits(x, Tensor(TARGET, device=device)).backward()
    np.testing.assert_allclose(
        x.grad.numpy(), (1 / (1 + np.exp(-SCORES)) - TARGET) / 15, rtol=1e-5, atol=1e-8
    )


def test_the_layer_keeps_its_settings(device):
    pos = Tensor([1.0, 2, 3], device=device)
    layer = BCEWithLogitsLoss(reduction="sum", pos_weight=pos)
    assert set(layer.state_dict()) == {"pos_weight"} and not list(layer.parameters())
    assert layer(
        Tensor(SCORES, device=device), Tensor(TARGET, device=device)
    ).item() == pytest.approx(
        float(loss_of(device, SCORES, TARGET, pos_weight=pos, reduction="sum"))
    )


def test_binary_cross_entropy_never_waits_for_the_gpu(double):
    import cupy_double

    scores, target = Tensor(SCORES, device="gpu", requires_grad=True), Tensor(TARGET, device="gpu")
    with cupy_double.counting() as waits:
        binary_cross_entropy_with_logits(scores, target).backward()
    assert waits.count == 0


def test_a_target_of_another_shape_and_an_unknown_reduction_are_refused():
    with pytest.raises(ValueError, match=r"scores of shape \(4, 1\) and target of shape \(4,\)"):
        binary_cross_entropy_with_logits(tinycv.zeros(4, 1), tinycv.zeros(4))
    with pytest.raises(ValueError, match="reduction is 'median'"):
        binary_cross_entropy_with_logits(tinycv.zeros(4), tinycv.zeros(4), reduction="median")


def test_the_largest_scores_overflow_nowhere():
    scores = np.float32([3e38, -3e38, 3e38])
    with np.errstate(all="raise", under="ignore"):
        losses = binary_cross_entropy_with_logits(
            Tensor(scores), Tensor([1.0, 0.0, 0.0]), reduction="none"
        )
    assert losses.numpy().tolist() == [0, 0, scores[2]]
