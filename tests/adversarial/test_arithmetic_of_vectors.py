"""Vector arithmetic: in a linear generator it flips exactly what algebra says, and every direction
is found; and the judge's picks, scores and paths are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED

from tinycv import Tensor
from tinycv.adversarial.arithmetic import (
    arithmetic,
    concepts_of_triples,
    count_shown,
    difference_of_means,
    judge_gradient,
    linear_classifier,
    linear_path,
    neighbours,
    pick,
    random_direction,
    regression_direction,
    score,
    spherical_path,
)
from tinycv.adversarial.recipe import images_of
from tinycv.nn import Module
from tinycv.nn.init import normal
from tinycv.vision.attributes import attribute_probabilities

LATENT, A, SIDE = 8, 4, 6
CHANCE = np.random.default_rng(SEED)
Q, _ = np.linalg.qr(CHANCE.normal(size=(3 * SIDE * SIDE, LATENT)))  # orthonormal columns


class LinearGenerator(Module):
    """G(z) = Q z as an image: no nonlinearity, so that algebra says what every sum shows."""

    latent = LATENT

    def __init__(self):
        self.weight = normal((3 * SIDE * SIDE, LATENT), 1.0)
        self.weight.data[...] = Q

    def forward(self, z):
        return (z @ self.weight.T).reshape(len(z), 3, SIDE, SIDE)


class LinearJudge(Module):
    """The score of attribute k is 40 z_k, read off the image by Q transposed: almost certain."""

    def __init__(self):
        self.weight = normal((A, 3 * SIDE * SIDE), 1.0)
        self.weight.data[...] = 40 * Q.T[:A]

    def forward(self, x):
        return x.reshape(len(x), -1) @ self.weight.T


GENERATOR, JUDGE = LinearGenerator().eval(), LinearJudge().eval()
Z = CHANCE.normal(size=(4000, LATENT)).astype(np.float32)


def probabilities(z):
    return attribute_probabilities(JUDGE, images_of(GENERATOR, z.astype(np.float32)))


def of_attributes(attributes, rng):
    """Noise whose first A numbers have the sign of the attributes, and size 1; the rest varies."""
    z = rng.normal(size=(len(attributes), LATENT))
    z[:, :A] = 2 * attributes - 1
    return z


# ── The oracle: a linear generator ───────────────────────────────────────────────────────────────


def test_in_a_linear_generator_arithmetic_flips_exactly_what_algebra_says():
    """a - b + c has readings r_a - r_b + r_c: 1 + 1 - 1 for the asked attribute, the attribute of c
    for all others, whatever else the three images show."""
    rng = np.random.default_rng(SEED)
    a, b, c = concepts_of_triples(200, A, asked=0, context=1, rng=rng)
    z = arithmetic(*(of_attributes(concept, rng) for concept in (a, b, c)))
    expected = arithmetic(a, b, c)
    np.testing.assert_array_equal(probabilities(z) > 0.5, expected == 1)
    found = score(probabilities(z), expected, 0)
    assert (found.flips, found.kept, found.all_kept) == (1, 1, 1)


def test_in_a_linear_generator_the_image_of_a_sum_is_the_sum_of_the_images():
    a, b, c = Z[:5], Z[5:10], Z[10:15]
    images = [images_of(GENERATOR, z) for z in (a, b, c)]
    answers = images_of(GENERATOR, arithmetic(a, b, c))
    np.testing.assert_allclose(answers, arithmetic(*images), atol=1e-5)


def test_without_the_equation_nothing_flips():
    rng = np.random.default_rng(SEED)
    a, b, c = concepts_of_triples(200, A, 0, 1, rng)
    found = score(probabilities(of_attributes(c, rng)), arithmetic(a, b, c), 0)
    assert found.flips == 0 and found.kept == 1


def test_a_mean_of_more_vectors_keeps_more():
    """In a single z the accidents of three images add up; in a mean of ten they hardly matter."""
    rng = np.random.default_rng(SEED)
    a, b, c = concepts_of_triples(300, A, 0, 1, rng)
    of_z, found = probabilities(Z), {}
    for n in (1, 10):
        means = [Z[pick(of_z, concept, n, rng)].mean(axis=1) for concept in (a, b, c)]
        found[n] = score(probabilities(arithmetic(*means)), arithmetic(a, b, c), 0)
    assert found[10].flips > 0.97 and found[10].kept > 0.97
    assert found[1].kept < 0.9 < found[10].kept


def cosine(found, k):
    return found[k] / np.linalg.norm(found)


@pytest.mark.parametrize("direction", [difference_of_means, linear_classifier])
def test_a_direction_of_a_linear_reading_is_its_own_axis(direction):
    """The cosine with the axis is 1 up to the noise of 4,000 samples in 7 other directions."""
    assert cosine(direction(Z, Z[:, 2] > 0), 2) > 0.99


def test_the_turn_vector_of_a_linear_reading_is_exact():
    turn = 3 * Z[:, 1] - 2 * Z[:, 5] + 1
    np.testing.assert_allclose(
        regression_direction(Z, turn), 3 * np.eye(LATENT)[1] - 2 * np.eye(LATENT)[5], atol=1e-4
    )


def test_the_judges_gradient_through_a_linear_generator_is_the_product_of_the_matrices():
    slopes = judge_gradient(GENERATOR, JUDGE, Z[:300], 3)
    assert slopes.shape == (300, LATENT)
    np.testing.assert_allclose(slopes, np.tile(40 * np.eye(LATENT)[3], (300, 1)), atol=1e-3)


def test_the_judges_gradient_agrees_with_finite_differences():
    def squares(x):  # a judge that is not linear
        flat = x.reshape(len(x), -1)
        return (flat * flat) @ Tensor(np.ones((3 * SIDE * SIDE, 1), np.float32))

    found = judge_gradient(GENERATOR, squares, Z[:4], 0)
    np.testing.assert_allclose(found, 2 * Z[:4], atol=1e-3)  # Q is orthonormal: the score is |z|²


def test_a_linear_classifier_stands_still_where_its_loss_is_least():
    has = Z[:, 0] + Z[:, 1] + 0.5 * CHANCE.normal(size=len(Z)) > 0
    w = linear_classifier(Z, has, decay=0.01)
    centred = Z.astype(np.float64)
    b = 0.0
    for _ in range(200):  # the bias alone, for this w
        p = 1 / (1 + np.exp(-(centred @ w + b)))
        b -= (p - has).mean() / (p * (1 - p)).mean()
    p = 1 / (1 + np.exp(-(centred @ w + b)))
    slope = centred.T @ (p - has) / len(Z) + 0.01 * w
    assert np.abs(slope).max() < 1e-5


# ── Picking, scoring ─────────────────────────────────────────────────────────────────────────────


def test_concepts_differ_only_in_the_asked_attribute_and_the_context():
    a, b, c = concepts_of_triples(50, A, asked=2, context=0, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(a - b, np.tile([0, 0, 1, 0], (50, 1)))
    np.testing.assert_array_equal(c - b, np.tile([1, 0, 0, 0], (50, 1)))
    assert set(arithmetic(a, b, c).ravel()) == {0, 1}


def test_picks_are_different_images_that_show_the_concept_with_confidence():
    of_z = probabilities(Z * 0.02)  # scores about 1, so that many are not confident
    concepts = np.array([[1, 0, 0, 1], [0, 0, 1, 1]])
    picked = pick(of_z, concepts, 20, np.random.default_rng(0), threshold=0.6)
    for row, concept in zip(picked, concepts, strict=True):
        assert len(set(row)) == 20
        assert np.where(concept == 1, of_z[row], 1 - of_z[row]).min() >= 0.6


def test_as_many_images_are_counted_as_can_be_picked():
    of_z = probabilities(Z * 0.02)
    concept = np.array([[1, 0, 0, 1]])
    (count,) = count_shown(of_z, concept, 0.6)
    assert len(pick(of_z, concept, count, np.random.default_rng(0), 0.6)[0]) == count
    with pytest.raises(ValueError, match=f"pick: {count} of 4000 images show"):
        pick(of_z, concept, count + 1, np.random.default_rng(0), 0.6)


def test_too_few_images_of_a_concept_are_refused_with_their_number():
    with pytest.raises(
        ValueError, match=r"pick: 1 of 2 images show the concept \[1, 0\] .* n is 2"
    ):
        pick(np.array([[0.95, 0.05], [0.8, 0.1]]), np.array([[1, 0]]), 2, np.random.default_rng(0))


def test_kept_counts_all_attributes_but_the_asked_one():
    expected = np.array([[1, 0, 1], [1, 1, 1]])
    found = score(np.array([[0.9, 0.8, 0.7], [0.2, 0.6, 0.9]]), expected, asked=0)
    assert (found.flips, found.kept, found.all_kept) == (0.5, 0.75, 0.5)


def test_neighbours_lie_within_the_noise_on_every_axis():
    around = neighbours(Z[0], 200, np.random.default_rng(0), noise=0.25)
    assert around.shape == (200, LATENT)
    assert 0.2 < np.abs(around - Z[0]).max() <= 0.2501


def test_a_random_direction_has_the_same_length_and_another_direction():
    other = random_direction(Z[:50], np.random.default_rng(5))
    np.testing.assert_allclose(
        np.linalg.norm(other, axis=1), np.linalg.norm(Z[:50], axis=1), rtol=1e-5
    )
    assert np.abs((other * Z[:50]).sum(axis=1)).mean() < 0.6 * (Z[:50] ** 2).sum(axis=1).mean()


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [linear_path, spherical_path])
def test_a_path_leads_from_the_first_vector_to_the_second(path):
    steps = path(Z[0], Z[1], 5)
    np.testing.assert_allclose(steps[[0, -1]], Z[:2], atol=1e-5)


def test_a_linear_path_has_equal_steps():
    steps = np.diff(linear_path(Z[0], Z[1], 7), axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[0], (6, 1)), atol=1e-5)


def test_a_spherical_path_between_vectors_of_one_length_keeps_it_and_has_equal_angles():
    a, b = (2 * v / np.linalg.norm(v) for v in Z[:2])
    steps = spherical_path(a, b, 6)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 2, rtol=1e-5)
    cosines = (steps[1:] * steps[:-1]).sum(axis=1) / 4
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-4)


def test_a_spherical_path_between_parallel_vectors_is_a_line():
    np.testing.assert_allclose(spherical_path(Z[0], 2 * Z[0], 3)[1], 1.5 * Z[0], rtol=1e-5)


def test_opposite_vectors_have_no_spherical_path():
    with pytest.raises(ValueError, match="spherical_path: a and b point in opposite directions"):
        spherical_path(Z[0], -Z[0], 4)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"arithmetic: a, b and c have the shapes \(2,\)"):
        arithmetic(np.zeros(2), np.zeros(3), np.zeros(2))


def test_bytes_are_not_counted_round_the_clock():
    white, black = np.full(2, 255, np.uint8), np.zeros(2, np.uint8)
    assert arithmetic(white, black, white).tolist() == [510, 510]
    assert arithmetic(black, white, black).tolist() == [-255, -255]
