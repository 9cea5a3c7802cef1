"""The contrastive loss of CLIP: known values, false negatives, shards, derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from near import near
from wrong_calls import riddles

from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.nn.contrastive import MOST_SCALE, contrastive_loss, normalize
from tinycv.training import parallel

RNG = np.random.default_rng(0)
U, V = RNG.normal(size=(2, 7, 5))
GROUPS = np.array([0, 1, 0, 2, 3, 1, 0])


def loss_of(u, v, log_scale=1.0, groups=None):
    return contrastive_loss(Tensor(u), Tensor(v), log_scale, groups).item()


def gradients(u, v, groups=None):
    u, v = Tensor(u, requires_grad=True), Tensor(v, requires_grad=True)
    contrastive_loss(u, v, 1.0, groups).backward()
    return u.grad.numpy(), v.grad.numpy()


def by_hand(u, v, log_scale, q):
    """Both cross-entropies against q (N, N), with plain exp and log."""
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    s = math.exp(log_scale) * u @ v.T
    rows, columns = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (s, s.T))
    return -((q * rows).sum() + (q * columns).sum()) / 2 / len(u)


# ── values ───────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_is_the_mean_of_both_cross_entropies(device):
    found = contrastive_loss(Tensor(U, device=device), Tensor(V, device=device), 1.3).numpy()
    near(found, by_hand(U, V, 1.3, np.eye(7)))


def test_with_groups_the_target_is_spread_over_all_that_fit(device):
    same = GROUPS[:, None] == GROUPS
    q = same / same.sum(axis=1, keepdims=True)
    groups = Tensor(GROUPS, device=device)
    found = contrastive_loss(Tensor(U, device=device), Tensor(V, device=device), 1.3, groups)
    near(found.numpy(), by_hand(U, V, 1.3, q))


def test_vectors_that_are_all_equal_give_the_log_of_the_number_of_pairs():
    same = np.ones((9, 4))
    assert loss_of(same, same) == pytest.approx(math.log(9))


def test_perfect_pairs_at_right_angles_give_the_loss_of_their_cosines():
    expected = math.log(1 + 4 * math.exp(-3.0))  # the own cosine is 1, the four others are 0
    assert loss_of(np.eye(5), np.eye(5), math.log(3.0)) == pytest.approx(expected)


def test_images_and_texts_may_be_exchanged():
    assert loss_of(U, V) == pytest.approx(loss_of(V, U))


def test_the_lengths_of_the_vectors_do_not_matter():
    lengths = RNG.uniform(0.1, 10, (7, 1))
    assert loss_of(U * lengths, V * 3) == pytest.approx(loss_of(U, V))


def test_groups_of_one_are_no_groups():
    assert loss_of(U, V, 1.0, np.arange(7)) == pytest.approx(loss_of(U, V))


def test_the_order_of_the_pairs_does_not_matter():
    order = RNG.permutation(7)
    assert loss_of(U[order], V[order], 1.0, GROUPS[order]) == pytest.approx(
        loss_of(U, V, 1, GROUPS)
    )


# ── false negatives ──────────────────────────────────────────────────────────────────────────────


def test_texts_that_are_equal_word_for_word_need_no_groups():
    """Equal texts have equal vectors. The loss and all gradients are then the same with groups and
    without."""
    texts = RNG.normal(size=(4, 5))[GROUPS]
    assert loss_of(U, texts, 1.0, GROUPS) == pytest.approx(loss_of(U, texts), rel=1e-12)
    with_groups, without = gradients(U, texts, GROUPS), gradients(U, texts)
    np.testing.assert_allclose(with_groups[0], without[0], atol=1e-12)
    # the texts of a group are one text, whose gradient is the sum
    for group in range(4):
        at = group == GROUPS
        np.testing.assert_allclose(
            with_groups[1][at].sum(axis=0), without[1][at].sum(axis=0), atol=1e-12
        )


def test_translations_that_agree_are_pushed_apart_without_groups_only():
    """Pairs 0 and 1 are one scene in two languages. All four vectors point the same way, but text 1
    a little aside."""
    u = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    v = np.array([[1.0, 0, 0], [1, 0, 0.3], [0, 1, 0]])
    groups = np.array([0, 0, 1])
    # the gradient of image 0 along the axis by which the texts differ: descent goes the other way
    assert gradients(u, v)[0][0, 2] > 0.01  # away from text 1, which fits it
    assert abs(gradients(u, v, groups)[0][0, 2]) < 0.01


def test_equal_vectors_within_each_group_reach_the_least_loss_there_is():
    vectors = np.eye(4)[GROUPS]
    sizes = np.bincount(GROUPS)[GROUPS]
    entropy = np.log(sizes).mean()
    assert loss_of(vectors, vectors, MOST_SCALE, GROUPS) == pytest.approx(entropy, abs=1e-9)
    assert loss_of(vectors, RNG.normal(size=(7, 4)), 1.0, GROUPS) > entropy


# ── the temperature ──────────────────────────────────────────────────────────────────────────────


def test_beyond_100_the_scale_has_no_effect_and_no_gradient():
    assert loss_of(U, V, 6.0) == pytest.approx(loss_of(U, V, MOST_SCALE))
    scale = Tensor(6.0, requires_grad=True)
    contrastive_loss(Tensor(U), Tensor(V), scale).backward()
    assert scale.grad.item() == 0


def test_the_scale_grows_while_pairs_that_fit_are_told_apart():
    scale = Tensor(1.0, requires_grad=True)
    contrastive_loss(Tensor(np.eye(5)), Tensor(np.eye(5)), scale).backward()
    assert scale.grad.item() < 0


# ── derivatives and shards ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("groups", [None, GROUPS[:4]], ids=["pairs", "groups"])
def test_derivatives_agree_with_finite_differences(groups):
    certify(
        lambda u, v, scale: contrastive_loss(u, v, scale, groups),
        U[:4, :3],
        V[:4, :3],
        np.array(0.7),
        name="contrastive_loss",
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["pairs", "groups"])
def test_shards_compare_each_image_with_the_texts_of_all_shards(size, groups):
    weight = Tensor(RNG.normal(size=(5, 4)), requires_grad=True)
    batch = (U, V) if groups is None else (U, V, groups)

    def loss_of_shard(u, v, *rest):
        return contrastive_loss(Tensor(u) @ weight, Tensor(v) @ weight, 1.0, *rest)

    whole = loss_of_shard(*batch)
    whole.backward()
    expected, weight.grad = weight.grad.numpy(), None
    with parallel.threads(size) as group:
        loss = group.backward(loss_of_shard, *batch)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-12)
    np.testing.assert_allclose(weight.grad.numpy(), expected, atol=1e-12)


# ── unit vectors ─────────────────────────────────────────────────────────────────────────────────


def test_normalised_vectors_have_length_one(device):
    y = normalize(Tensor(U, device=device), axis=0).numpy()
    np.testing.assert_allclose((y**2).sum(axis=0), 1, rtol=1e-6)


def test_a_zero_vector_stays_zero_and_its_gradient_is_finite():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    y = normalize(x)
    y.sum().backward()
    assert (y.numpy() == 0).all() and np.isfinite(x.grad.numpy()).all()


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────

GOOD = {
    "contrastive_loss": (
        contrastive_loss,
        {"images": Tensor(U), "texts": Tensor(V), "log_scale": 1.0, "groups": GROUPS},
    ),
    "normalize": (normalize, {"x": Tensor(U), "axis": -1, "eps": 1e-12}),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_error_of_a_wrong_call_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    found = riddles(function, good, name, "norm: axis")
    assert not found, "\n".join(found)


def test_a_batch_without_its_texts_is_refused():
    with pytest.raises(ValueError, match=r"images has shape \(7, 5\) and texts \(6, 5\)"):
        loss_of(U, V[:6])
