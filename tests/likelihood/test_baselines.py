"""Exact baselines: probabilities that sum to 1, known likelihoods, samples that agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tinycv.data import split_digits_8x8
from tinycv.data.extra import import_extra
from tinycv.likelihood.baselines import (
    ChowLiuTree,
    GaussianDensity,
    IndependentPixels,
    ProbabilisticPCA,
    largest_tree,
    mutual_information,
    pair_probabilities,
)
from tinycv.likelihood.units import binarize, quantize

RNG = np.random.default_rng(0)
DIGITS = split_digits_8x8()
TRAIN, TEST = (binarize(images, 0.5) for images in DIGITS[::2])
ALL_3x3 = np.array(list(itertools.product([0, 1], repeat=9)), float).reshape(-1, 3, 3)


def small_images(n: int = 200) -> np.ndarray:
    """Binary 3 x 3 images whose pixels depend on each other: blurred noise above a threshold."""
    noise = RNG.normal(size=(n, 4, 4))
    return (noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1] > 0.3).astype(np.float32)


@pytest.mark.parametrize("model", [IndependentPixels, ChowLiuTree])
@pytest.mark.parametrize("pseudo", [0.0, 0.5])
def test_the_probabilities_of_all_images_sum_to_1(model, pseudo):
    log_p = model(small_images(), pseudo=pseudo).log_prob(ALL_3x3)
    assert log_p.shape == (512,)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("model", [IndependentPixels, ChowLiuTree])
def test_the_probabilities_of_all_images_of_three_levels_sum_to_1(model):
    x = RNG.integers(0, 3, (50, 4))
    every = np.array(list(itertools.product(range(3), repeat=4)))
    assert np.exp(model(x, levels=3).log_prob(every)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("pseudo", [0.0, 0.5, 3.0])
def test_pairs_and_single_pixels_agree_also_with_pseudo_counts(pseudo):
    """The margins of every pair of pixels are the probabilities of the single pixels."""
    x = RNG.integers(0, 3, (20, 4))
    pairs, single = pair_probabilities(x, 3, pseudo), IndependentPixels(x, 3, pseudo).p
    for i, j in np.ndindex(4, 4):
        np.testing.assert_allclose(pairs[i, j].sum(axis=1), single[i], rtol=1e-12)
        np.testing.assert_allclose(pairs[i, j].sum(axis=0), single[j], rtol=1e-12)
        if i == j:
            assert (pairs[i, j] == np.diag(np.diag(pairs[i, j]))).all()


def test_a_chow_liu_tree_never_loses_to_independent_pixels_on_its_training_data():
    for n in (1, 2, 5, 30, 200):
        x = small_images(n)
        tree, pixels = (m(x, pseudo=0).log_prob(x).mean() for m in (ChowLiuTree, IndependentPixels))
        assert tree >= pixels - 1e-12


def test_the_gain_of_the_tree_is_the_sum_of_the_mutual_informations_of_its_edges():
    x = small_images()
    tree = ChowLiuTree(x, pseudo=0)
    information = mutual_information(pair_probabilities(x.reshape(-1, 9).astype(int), 2, 0))
    gain = sum(information[tree.parent[child], child] for child in tree.order[1:])
    pixels = IndependentPixels(x, pseudo=0).log_prob(x).mean()
    assert tree.log_prob(x).mean() - pixels == pytest.approx(gain, abs=1e-12)


def test_no_other_spanning_tree_of_five_pixels_has_more_information():
    weights = RNG.random((5, 5))
    weights = weights + weights.T
    order, parent = largest_tree(weights)
    found = sum(weights[parent[child], child] for child in order[1:])
    # by Prufer's theorem, the sequences of three numbers are the trees of five nodes
    best = max(
        sum(weights[i, j] for i, j in edges_of(sequence))
        for sequence in itertools.product(range(5), repeat=3)
    )
    assert found == pytest.approx(best, abs=1e-12)


def edges_of(sequence: tuple[int, ...]) -> list[tuple[int, int]]:
    """The edges of the tree that a Prufer sequence describes."""
    rest, nodes, edges = list(sequence), set(range(len(sequence) + 2)), []
    while rest:
        leaf = min(nodes - set(rest))
        edges.append((leaf, rest.pop(0)))
        nodes.remove(leaf)
    i, j = nodes
    return [*edges, (i, j)]


def test_a_parent_comes_before_its_children():
    tree = ChowLiuTree(TRAIN)
    place = np.argsort(tree.order)
    assert sorted(tree.order) == list(range(64)) and tree.parent[tree.order[0]] == -1
    assert all(place[tree.parent[child]] < place[child] for child in tree.order[1:])


def test_a_chain_of_pixels_is_found_as_a_chain():
    """Each pixel copies its left neighbour with probability 0.9, in an order that is shuffled."""
    steps = RNG.random((5000, 6)) < 0.1
    chain = np.cumsum(steps, axis=1) % 2
    shuffled = RNG.permutation(6)
    tree = ChowLiuTree(chain[:, np.argsort(shuffled)])  # pixel shuffled[i] is link i of the chain
    edges = {frozenset((child, tree.parent[child])) for child in tree.order[1:]}
    assert edges == {frozenset((shuffled[i], shuffled[i + 1])) for i in range(5)}


def test_the_binarised_digits_cost_25_21_nats_as_independent_pixels_and_20_79_in_a_tree():
    assert -IndependentPixels(TRAIN).log_prob(TEST).mean() == pytest.approx(25.21, abs=0.01)
    assert -ChowLiuTree(TRAIN).log_prob(TEST).mean() == pytest.approx(20.79, abs=0.01)


@pytest.mark.parametrize("model", [IndependentPixels, ChowLiuTree])
@pytest.mark.statistical
def test_frequencies_of_samples_agree_with_the_probabilities(model):
    fitted, n = model(small_images()), 20_000
    drawn = fitted.sample(n, RNG)
    assert drawn.shape == (n, 3, 3) and drawn.dtype == np.float32
    numbers = drawn.reshape(n, 9).astype(int) @ (2 ** np.arange(8, -1, -1))
    seen = np.bincount(numbers, minlength=512)
    expected = n * np.exp(fitted.log_prob(ALL_3x3))
    rare = expected < 5  # these are counted as one
    if rare.any():
        seen = np.append(seen[~rare], seen[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    chi_squared = ((seen - expected) ** 2 / expected).sum()
    freedom = len(seen) - 1
    assert abs(chi_squared - freedom) < 5 * math.sqrt(2 * freedom)


def test_probabilistic_pca_equals_scikit_learns_up_to_its_divisor():
    """scikit-learn divides the covariance by N - 1, and the maximum of the likelihood by N."""
    x = RNG.normal(size=(60, 12)) @ RNG.normal(size=(12, 12))
    reference = import_extra("sklearn.decomposition", "scikit-learn").PCA(4).fit(x)
    reference.explained_variance_ *= 59 / 60
    reference.noise_variance_ *= 59 / 60
    ours = ProbabilisticPCA(x, 4)
    np.testing.assert_allclose(ours.log_prob(x), reference.score_samples(x), rtol=0, atol=1e-8)
    assert ours.sigma2 == pytest.approx(reference.noise_variance_, rel=1e-10)


def test_the_covariance_of_probabilistic_pca_is_w_w_transposed_plus_the_noise():
    x = RNG.normal(size=(50, 6)) * np.arange(1, 7)
    model = ProbabilisticPCA(x, 2)
    covariance = model.W @ model.W.T + model.sigma2 * np.eye(6)
    as_gaussian = GaussianDensity(x)
    as_gaussian.variances, as_gaussian.axes = np.linalg.eigh(covariance)
    np.testing.assert_allclose(model.log_prob(x), as_gaussian.log_prob(x), rtol=1e-10)


def test_no_small_change_of_w_sigma_or_mean_raises_the_likelihood():
    x = RNG.normal(size=(80, 5)) @ RNG.normal(size=(5, 5))
    model = ProbabilisticPCA(x, 2)
    best = model.log_prob(x).mean()

    def changed(w, sigma2, mean):
        other = GaussianDensity(x)
        other.mean = mean
        other.variances, other.axes = np.linalg.eigh(w @ w.T + sigma2 * np.eye(5))
        return other.log_prob(x).mean()

    assert changed(model.W, model.sigma2, model.mean) == pytest.approx(best, rel=1e-12)
    for _ in range(20):
        for size in (1e-3, 0.1):
            w = model.W + size * RNG.normal(size=model.W.shape)
            assert changed(w, model.sigma2, model.mean) < best
            assert changed(model.W, model.sigma2 * (1 + size), model.mean) < best
            assert changed(model.W, model.sigma2 / (1 + size), model.mean) < best
            assert changed(model.W, model.sigma2, model.mean + size) < best


def test_dequantised_digits_have_14_00_nats_under_probabilistic_pca_with_8_latents():
    """The noise moves the mean of 1,500 images by about 0.02."""
    counts = quantize(DIGITS[0], 17)
    y = (counts + RNG.random(counts.shape)) / 16
    assert ProbabilisticPCA(y, 8).log_prob(y).mean() == pytest.approx(14.00, abs=0.1)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_a_gaussian_equals_the_formula_with_a_determinant_and_an_inverse(shrinkage):
    x = RNG.normal(size=(40, 2, 3)) * np.arange(1, 4)
    rows = x.reshape(40, 6)
    covariance = np.cov(rows.T, bias=True)
    mixed = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 6 * np.eye(6)
    away = rows - rows.mean(axis=0)
    squares = np.einsum("ni,ij,nj->n", away, np.linalg.inv(mixed), away)
    expected = -0.5 * (squares + np.linalg.slogdet(2 * np.pi * mixed)[1])
    np.testing.assert_allclose(GaussianDensity(x, shrinkage).log_prob(x), expected, rtol=1e-10)


@pytest.mark.statistical
@pytest.mark.parametrize("make", [GaussianDensity, lambda x: ProbabilisticPCA(x, 2)])
def test_samples_have_the_mean_and_the_covariance_of_the_model(make):
    model = make(RNG.normal(size=(300, 2, 2)) @ np.array([[2.0, 0.5], [0, 1]]) + 3)
    drawn = model.sample(40_000, RNG)
    assert drawn.shape == (40_000, 2, 2) and drawn.dtype == np.float32
    rows = drawn.reshape(-1, 4).astype(float)
    covariance = model.axes * model.variances @ model.axes.T
    deviation = np.sqrt(np.diag(covariance))
    # five standard errors: deviation / 200 for a mean, and at most sqrt(2) of it for a covariance
    assert (abs(rows.mean(axis=0) - model.mean) < 5 * deviation / 200).all()
    error = abs(np.cov(rows.T) - covariance) / np.outer(deviation, deviation)
    assert error.max() < 5 * math.sqrt(2) / 200


def test_a_covariance_without_an_inverse_is_refused():
    x = np.zeros((5, 3))
    x[:, 0] = range(5)
    with pytest.raises(ValueError, match="GaussianDensity: the covariance of x is singular"):
        GaussianDensity(x)
    GaussianDensity(x, 0.1)
    with pytest.raises(ValueError, match="ProbabilisticPCA: the covariance of x is singular"):
        ProbabilisticPCA(x, 1)


@pytest.mark.parametrize("model", [IndependentPixels, ChowLiuTree])
@pytest.mark.parametrize("wrong", [0.5, 2, -1, np.nan, np.inf])
def test_pixels_that_are_no_levels_are_refused(model, wrong):
    with pytest.raises(ValueError, match="holds .*; it must hold whole numbers from 0 to 1"):
        model(np.array([[0, wrong], [1, 0]]))
    with pytest.raises(ValueError, match=r"log_prob: x holds .*; it must hold whole numbers"):
        model(small_images()).log_prob(np.full((1, 3, 3), wrong))


@pytest.mark.parametrize(
    "model", [IndependentPixels, ChowLiuTree, GaussianDensity, lambda x: ProbabilisticPCA(x, 2)]
)
def test_images_of_another_shape_and_nan_are_refused(model):
    fitted = model(small_images())
    with pytest.raises(ValueError, match=r"log_prob: x has shape \(5, 9\); it must be images of"):
        fitted.log_prob(np.zeros((5, 9)))
    with pytest.raises(ValueError, match="log_prob: x holds"):
        fitted.log_prob(np.full((1, 3, 3), np.nan))
    with pytest.raises(TypeError, match="sample: rng is 0; it must be a NumPy Generator"):
        fitted.sample(3, 0)
    with pytest.raises(ValueError, match=r"x has shape \(0, 3, 3\)"):
        model(small_images()[:0])
