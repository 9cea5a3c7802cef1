"""Distributions, and those of pixels of a few levels (nn/discretized.py): derivatives, sums of
probabilities, tails, samples and KL divergences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import tinycv
from tinycv import Tensor, nn
from tinycv.engine.backward import grad
from tinycv.engine.check import certify
from tinycv.nn.discretized import (
    discretized_logistic_log_prob,
    discretized_logistic_sample,
    discretized_normal_log_prob,
    discretized_normal_sample,
    logistic_mixture_log_prob,
    logistic_mixture_sample,
)
from tinycv.nn.distributions import (
    bernoulli_log_prob,
    bernoulli_sample,
    categorical_log_prob,
    categorical_sample,
    kl_bernoulli,
    kl_categorical,
    kl_normal,
    logistic_log_prob,
    logistic_sample,
    normal_log_prob,
    normal_sample,
)

RNG = np.random.default_rng(0)
DRAWS = 40_000
LABELS = np.array([2, 0, 3, 1, 1])


def normals(*shape):
    return RNG.normal(size=shape)


def grid(levels, dtype=np.float64):
    """All levels of a pixel."""
    return np.linspace(-1, 1, levels).astype(dtype)


def on_grid(levels, *shape):
    """Pixels, with the first and the last level among them."""
    x = RNG.choice(grid(levels), shape)
    x.flat[0], x.flat[-1] = -1, 1
    return x


# ── derivatives ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "function, inputs",
    [
        (normal_log_prob, [normals(3, 4), normals(4), normals(3, 1)]),
        (lambda m, v: normal_sample(m, v, NOISE), [normals(3, 4), normals(4)]),
        (kl_normal, [normals(3, 4), normals(4), normals(3, 1), normals(3, 4)]),
        (kl_normal, [normals(3, 4), normals(4)]),
        (bernoulli_log_prob, [RNG.uniform(0.1, 0.9, (3, 1)), normals(3, 4)]),
        (lambda logits: bernoulli_log_prob(BITS, logits), [3 * normals(3, 4)]),
        (kl_bernoulli, [2 * normals(3, 4), 2 * normals(4)]),
        (lambda logits: categorical_log_prob(LABELS, logits), [normals(2, 5, 4)]),
        (kl_categorical, [normals(3, 4), normals(4)]),
        (logistic_log_prob, [normals(3, 4), normals(4), normals(3, 1)]),
        (lambda m, s: logistic_sample(m, s, UNIFORM), [normals(3, 4), normals(4)]),
    ],
)
def test_derivatives_agree_with_finite_differences_to_second_order(function, inputs):
    certify(function, *inputs, order=2)


NOISE, UNIFORM = normals(3, 4), RNG.uniform(0.1, 0.9, (3, 4))
BITS = (NOISE > 0).astype(float)


@pytest.mark.parametrize("f", [discretized_logistic_log_prob, discretized_normal_log_prob])
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_derivatives_of_discretised_densities_agree_with_finite_differences(f, levels):
    x = on_grid(levels, 4, 6)
    for log_scale in (-3.0, -1.0, 0.5):
        mean, scale = 0.5 * normals(4, 6), log_scale + 0.3 * normals(4, 1)
        certify(lambda m, s: f(x, m, s, levels), mean, scale, order=2)


def test_derivatives_of_a_logistic_mixture_agree_with_finite_differences():
    x = on_grid(17, 5)
    parts = normals(5, 3), 0.5 * normals(5, 3), normals(5, 3) - 1
    certify(lambda *parts: logistic_mixture_log_prob(x, *parts, 17), *parts, order=2)


def curvature(f, mean):
    """d² f / d mean² at each number."""
    m = Tensor(mean, requires_grad=True)
    (slope,) = grad([f(m).sum()], [m], create_graph=True)
    return grad([slope.sum()], [m])[0].numpy()


def test_the_curvature_of_a_discretised_normal_is_right_at_the_centre_and_at_the_edges_of_a_bin():
    """There z = |x - mean| / σ has a corner, and the formula changes; log P has no corner."""
    for log_var in (-6.0, -2.0, 1.0):

        def log_p(m, log_var=log_var):
            return discretized_normal_log_prob(np.zeros(3), m, np.full(3, log_var), 3)

        at = np.array([0.0, 0.5, -0.5])  # the centre of the middle bin, and its edges
        sides = [curvature(log_p, at + step) for step in (-1e-5, 1e-5)]
        np.testing.assert_allclose(curvature(log_p, at), (sides[0] + sides[1]) / 2, rtol=1e-4)


# ── probabilities sum to 1, and agree with scipy ─────────────────────────────────────────────────

SCALES = [-9.0, -5.0, -2.0, 0.0, 3.0, 12.0]
MEANS = np.array([0.0, 0.31, -0.99, 1.5, -7.0, 40.0])


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("dtype, allowed", [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("f", [discretized_logistic_log_prob, discretized_normal_log_prob])
def test_the_probabilities_of_all_levels_sum_to_1(f, dtype, allowed, levels):
    x = grid(levels, dtype)[:, None]
    for log_scale in SCALES:
        log_p = f(Tensor(x), Tensor(MEANS.astype(dtype)), log_scale, levels).numpy()
        assert log_p.dtype == dtype
        np.testing.assert_allclose(np.exp(log_p.astype(float)).sum(axis=0), 1, atol=allowed)


@pytest.mark.parametrize("dtype, allowed", [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_the_probabilities_of_a_mixture_sum_to_1(dtype, allowed):
    x = grid(256, dtype)[:, None]
    parts = [Tensor(p.astype(dtype)) for p in (2 * normals(7, 5), normals(7, 5), normals(7, 5) - 3)]
    log_p = logistic_mixture_log_prob(Tensor(x), *parts, 256).numpy()
    assert log_p.shape == (256, 7)
    np.testing.assert_allclose(np.exp(log_p.astype(float)).sum(axis=0), 1, atol=allowed)


def test_the_probabilities_of_all_classes_and_of_both_bits_sum_to_1():
    logits = 5 * normals(3, 4)
    all_classes = np.exp([categorical_log_prob(np.full(3, k), logits) for k in range(4)])
    np.testing.assert_allclose(all_classes.sum(axis=0), 1, rtol=1e-12)
    both = np.exp(bernoulli_log_prob(0.0, logits)) + np.exp(bernoulli_log_prob(1.0, logits))
    np.testing.assert_allclose(both, 1, rtol=1e-12)


def test_log_densities_equal_scipys():
    x, mean, s = 3 * normals(4, 5), normals(5), normals(4, 1)
    near = {"rtol": 1e-10, "atol": 1e-10}
    expected = stats.norm.logpdf(x, mean, np.exp(s / 2))
    np.testing.assert_allclose(normal_log_prob(x, mean, s), expected, **near)
    expected = stats.logistic.logpdf(x, mean, np.exp(s))
    np.testing.assert_allclose(logistic_log_prob(x, mean, s), expected, **near)


@pytest.mark.parametrize(
    "f, law", [(discretized_logistic_log_prob, stats.logistic), (discretized_normal_log_prob, None)]
)
@pytest.mark.parametrize("log_scale", [-4.0, -1.0, 1.0])
def test_discretised_probabilities_equal_differences_of_scipys_distribution_functions(
    f, law, log_scale
):
    levels, mean, scale = 17, 0.1, math.exp(log_scale)
    law, given = (law, log_scale) if law else (stats.norm, 2 * log_scale)
    x, h = grid(levels), 1 / (levels - 1)
    # on the right side of the mean, with the survival function, which keeps its digits there
    upper, lower = (x + h - mean) / scale, (x - h - mean) / scale
    upper[-1], lower[0] = np.inf, -np.inf
    expected = np.where(lower > 0, law.sf(lower) - law.sf(upper), law.cdf(upper) - law.cdf(lower))
    known = expected > 1e-290
    found = f(x, mean, given, levels)
    np.testing.assert_allclose(found[known], np.log(expected[known]), rtol=1e-7)


def test_the_tail_of_a_discretised_normal_equals_scipys_logarithm_of_the_survival_function():
    """The last bin reaches to infinity: log P = log Φ((mean - x + h) / σ)."""
    for distance in (1.0, 10.0, 100.0, 1e4):
        found = discretized_normal_log_prob(np.ones(1), 1 - distance, 0.0, 17)
        expected = stats.norm.logsf(distance - 1 / 16)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


# ── far from the data ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("f", [discretized_logistic_log_prob, discretized_normal_log_prob])
@pytest.mark.parametrize("log_scale", [-1e4, -40.0, -7.0, 0.0, 7.0, 40.0, 1e4])
@pytest.mark.parametrize("mean", [-1e5, -30.0, -1.0, 0.0, 0.5, 1.0, 30.0, 1e5])
def test_far_from_the_data_log_probabilities_and_gradients_are_finite_in_float32(
    f, log_scale, mean
):
    x = Tensor(np.array([-1, -0.875, 0, 0.125, 1], np.float32))
    m, s = (
        Tensor(np.full(5, v, np.float32), requires_grad=True)
        for v in (mean, log_scale if f is discretized_logistic_log_prob else 2 * log_scale)
    )
    log_p = f(x, m, s, 17)
    slopes = grad([log_p.sum()], [m, s])
    assert all(np.isfinite(a.numpy()).all() for a in (log_p, *slopes))
    assert (log_p.numpy() <= 1e-6).all()


def test_the_gradient_far_from_the_data_leads_back_to_it():
    """Differences of two sigmoids would be 0 there, and the gradient 0 or NaN."""
    for f, scale in ((discretized_logistic_log_prob, -3.0), (discretized_normal_log_prob, -6.0)):
        m = Tensor(np.array([-50.0, 50], np.float32), requires_grad=True)
        log_p = f(Tensor(np.zeros(2, np.float32)), m, scale, 17)
        (slope,) = grad([log_p.sum()], [m])
        assert slope.numpy()[0] > 1 and slope.numpy()[1] < -1
        if f is discretized_logistic_log_prob:
            np.testing.assert_allclose(slope.numpy(), [math.exp(3), -math.exp(3)], rtol=1e-5)


def test_a_scale_far_below_a_bin_gives_the_bin_of_the_mean_probability_1():
    for f in (discretized_logistic_log_prob, discretized_normal_log_prob):
        log_p = f(grid(17), 0.01, -25.0, 17)
        assert np.exp(log_p[8]) == 1 and (log_p[np.arange(17) != 8] < -1e6).all()


def test_a_bernoulli_that_is_nearly_certain_keeps_its_digits():
    logits = np.array([30.0, -30, 200, -200], np.float32)
    found = bernoulli_log_prob(np.array([1.0, 0, 0, 1], np.float32), logits)
    np.testing.assert_allclose(found, [-math.exp(-30), -math.exp(-30), -200, -200], rtol=1e-5)


def test_impossible_classes_have_log_probability_minus_infinity_and_no_gradient_but_0():
    logits = Tensor(np.array([[0.0, -np.inf, 1]]), requires_grad=True)
    assert categorical_log_prob(np.array([1]), logits).numpy() == -np.inf
    prior = Tensor(np.array([[0.0, -np.inf, 0]]))
    kl = kl_categorical(logits, prior)
    p = 1 / (1 + math.e)
    assert kl.item() == pytest.approx(p * math.log(2 * p) + (1 - p) * math.log(2 - 2 * p))
    (slope,) = grad([kl.sum()], [logits])
    assert slope.numpy()[0, 1] == 0 and np.isfinite(slope.numpy()).all()


def test_what_q_excludes_costs_nothing_and_what_only_p_excludes_costs_infinity():
    inf = math.inf
    assert kl_bernoulli(np.array([inf]), np.array([inf])) == 0
    assert kl_bernoulli(np.array([inf]), np.array([0.0])) == pytest.approx(math.log(2))
    assert kl_bernoulli(np.array([0.0]), np.array([inf])) == inf


# ── samples ──────────────────────────────────────────────────────────────────────────────────────


def assert_moments(drawn, mean, variance, fourth):
    """Mean and variance of independent draws, within five standard errors. fourth: the fourth
    central moment over the squared variance."""
    n = len(drawn)
    assert abs(drawn.mean() - mean) < 5 * math.sqrt(variance / n)
    assert abs(drawn.var() - variance) < 5 * variance * math.sqrt((fourth - 1) / n)


@pytest.mark.statistical
def test_normal_and_logistic_samples_have_the_moments_of_their_densities():
    mean, scale = np.full(DRAWS, 1.5), math.log(0.7)
    assert_moments(normal_sample(mean, 2 * scale), 1.5, 0.49, 3)
    assert_moments(logistic_sample(mean, scale), 1.5, 0.49 * math.pi**2 / 3, 4.2)


def assert_frequencies(drawn, p):
    """Counts of class numbers agree with probabilities by chi-squared, within five deviations."""
    expected = len(drawn) * np.asarray(p, float)
    seen = np.bincount(drawn, minlength=len(expected))
    assert seen[expected == 0].sum() == 0
    rare = expected < 10
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum() + 1e-300)
    chi_squared = ((seen - expected) ** 2 / expected).sum()
    assert chi_squared - len(seen) < 5 * math.sqrt(2 * len(seen))


@pytest.mark.statistical
def test_samples_have_the_frequencies_of_their_probabilities():
    logits = np.array([0.0, 2, -1, 0.5, -np.inf])
    drawn = categorical_sample(np.broadcast_to(logits, (DRAWS, 5)))
    assert_frequencies(drawn, np.exp(logits) / np.exp(logits).sum())
    bits = bernoulli_sample(np.full(DRAWS, 1.2, np.float32))
    assert set(np.unique(bits)) == {0, 1} and bits.dtype == np.float32
    assert_frequencies(bits.astype(int), [1 / (1 + math.exp(1.2)), 1 / (1 + math.exp(-1.2))])


@pytest.mark.statistical
@pytest.mark.parametrize("levels", [2, 17])
@pytest.mark.parametrize("mean, log_scale", [(0.1, -2.0), (0.9, 0.0)])
def test_samples_of_discretised_densities_have_the_frequencies_of_their_probabilities(
    levels, mean, log_scale
):
    for draw, f, s in (
        (discretized_logistic_sample, discretized_logistic_log_prob, log_scale),
        (discretized_normal_sample, discretized_normal_log_prob, 2 * log_scale),
    ):
        x = draw(np.full(DRAWS, mean), s, levels)
        assert_frequencies(level_numbers(x, levels), np.exp(f(grid(levels), mean, s, levels)))


def level_numbers(x, levels):
    return np.rint((x + 1) / 2 * (levels - 1)).astype(int)


@pytest.mark.statistical
def test_the_probabilities_of_a_mixture_sum_to_1_if_its_arguments_broadcast():
    levels, weights = 5, np.zeros((3, 1))
    means, log_scales = np.array([[-0.5, 0.5]]), np.full((1, 2), -1.0)
    x = np.linspace(-1, 1, levels)[:, None]  # (5, 1), against 3 mixtures
    p = np.exp(logistic_mixture_log_prob(x, weights, means, log_scales, levels))
    np.testing.assert_allclose(p.sum(axis=0), 1, rtol=1e-12)


def test_kl_of_other_numbers_of_classes_is_refused():
    with pytest.raises(ValueError, match="kl_categorical: logits has 3 classes and prior_logits 1"):
        kl_categorical(np.zeros((1, 3)), np.zeros((1, 1)))


def test_samples_of_a_logistic_mixture_have_the_frequencies_of_its_probabilities():
    parts = np.array([1.0, 0, -1]), np.array([-0.8, 0, 0.9]), np.array([-3.0, -2, -4])
    x = logistic_mixture_sample(*(np.broadcast_to(p, (DRAWS, 3)) for p in parts), 17)
    log_p = logistic_mixture_log_prob(grid(17), *parts, 17)
    assert_frequencies(level_numbers(x, 17), np.exp(log_p))


def test_a_sample_is_accepted_as_data_by_its_log_probability():
    for levels in (2, 17, 256, 1000):
        x = discretized_logistic_sample(normals(500).astype(np.float32), 0.0, levels)
        assert x.dtype == np.float32 and abs(x).max() <= 1
        assert np.isfinite(discretized_logistic_log_prob(x, 0.0, 0.0, levels)).all()


def test_each_number_of_a_sample_has_its_own_noise_also_along_broadcast_axes():
    column, row = np.zeros((2, 1)), np.zeros(3)
    for draw in (normal_sample, logistic_sample):
        for sample in (draw(column, row), draw(row, column), draw(0.0, column + row)):
            assert sample.shape == (2, 3) and len(np.unique(sample)) == 6


def test_uniform_noise_of_exactly_0_or_1_gives_no_infinite_sample(monkeypatch):
    """The generators draw exactly 0 about once in 17 million float32 numbers."""
    ends = logistic_sample(0.0, 0.0, np.array([0.0, 1.0], np.float32))
    assert np.isfinite(ends).all() and ends[0] < -16 and ends[1] > 16
    monkeypatch.setattr(
        "tinycv.engine.backend.uniform", lambda shape, like, dtype: np.zeros(shape, dtype)
    )
    assert categorical_sample(np.array([[-np.inf, 0.0, -np.inf]])) == [1]


def test_a_seed_determines_the_samples_and_gradients_reach_the_parameters_of_the_reparametrised():
    m = Tensor(normals(5), requires_grad=True)
    for draw in (normal_sample, logistic_sample):
        tinycv.manual_seed(3)
        first = draw(m, 0.0)
        tinycv.manual_seed(3)
        again = draw(m, 0.0)
        assert (first.numpy() == again.numpy()).all() and (
            first.numpy() != draw(m, 0.0).numpy()
        ).any()
        (slope,) = grad([first.sum()], [m])
        assert (slope.numpy() == 1).all()
    logits = Tensor(normals(5, 3), requires_grad=True)
    for draw in (bernoulli_sample, categorical_sample):
        assert not draw(logits).requires_grad


# ── KL divergences ───────────────────────────────────────────────────────────────────────────────


def test_kl_is_0_between_equals_and_positive_otherwise():
    a, b, c, d = (normals(50) for _ in range(4))
    for kl, same in (
        (kl_normal(a, b, c, d), kl_normal(a, b, a, b)),
        (kl_bernoulli(a, b), kl_bernoulli(a, a)),
        (kl_categorical(a.reshape(10, 5), b.reshape(10, 5)), kl_categorical(a, a)),
    ):
        assert (kl > 0).all() and abs(same).max() < 1e-14


def test_the_kl_of_a_standard_normal_prior_is_the_sum_that_papers_print():
    mean, log_var = normals(3, 4), normals(3, 4)
    expected = -0.5 * (1 + log_var - mean**2 - np.exp(log_var))
    np.testing.assert_allclose(kl_normal(mean, log_var), expected, rtol=1e-12)


@pytest.mark.statistical
def test_kl_equals_the_mean_of_the_difference_of_log_probabilities_over_samples():
    z = normal_sample(np.full(DRAWS, 0.4), -0.5)
    ratio = normal_log_prob(z, 0.4, -0.5) - normal_log_prob(z, -0.2, 0.3)
    kl = kl_normal(0.4, -0.5, -0.2, 0.3)
    assert abs(ratio.mean() - kl) < 5 * ratio.std() / math.sqrt(DRAWS)


def test_kl_of_discrete_distributions_equals_the_sum_over_their_values():
    q, p = 3 * normals(6, 4), 3 * normals(6, 4)
    terms = [
        np.exp(categorical_log_prob(np.full(6, k), q))
        * (categorical_log_prob(np.full(6, k), q) - categorical_log_prob(np.full(6, k), p))
        for k in range(4)
    ]
    np.testing.assert_allclose(kl_categorical(q, p), sum(terms), rtol=1e-10)
    bits = [
        np.exp(bernoulli_log_prob(x, q)) * (bernoulli_log_prob(x, q) - bernoulli_log_prob(x, p))
        for x in (0.0, 1.0)
    ]
    np.testing.assert_allclose(kl_bernoulli(q, p), sum(bits), rtol=1e-10)


# ── shapes, dtypes, devices, wrong values ────────────────────────────────────────────────────────


def test_arguments_broadcast_and_the_result_has_their_common_shape():
    x, logits = np.ones((2, 1, 3)), normals(4, 1)
    assert bernoulli_log_prob(x, logits).shape == (2, 4, 3)
    assert normal_log_prob(x, logits, 0.0).shape == (2, 4, 3)
    assert normal_sample(x, logits).shape == logistic_sample(x, logits).shape == (2, 4, 3)
    assert discretized_logistic_log_prob(x, logits, 0.0, 2).shape == (2, 4, 3)
    assert discretized_normal_log_prob(x, logits, 0.0, 2).shape == (2, 4, 3)
    assert categorical_log_prob(LABELS, normals(3, 5, 4)).shape == (3, 5)
    assert categorical_log_prob(np.zeros((3, 1), int), normals(5, 4)).shape == (3, 5)
    assert kl_categorical(normals(3, 1, 4), normals(5, 4)).shape == (3, 5)


def test_a_log_probability_of_broadcast_arguments_is_that_of_each_pair():
    x, logits = (RNG.random((2, 1)) > 0.5).astype(float), normals(3)
    for i, j in np.ndindex(2, 3):
        expected = bernoulli_log_prob(x[i, 0], logits[j])
        assert bernoulli_log_prob(x, logits)[i, j] == pytest.approx(float(expected))


CALLS = {
    "normal": lambda t: normal_log_prob(t(NOISE), t(NOISE), t(NOISE)),
    "kl_normal": lambda t: kl_normal(t(NOISE), t(NOISE)),
    "bernoulli": lambda t: bernoulli_log_prob(t(BITS), t(NOISE)),
    "kl_bernoulli": lambda t: kl_bernoulli(t(NOISE), t(NOISE[::-1])),
    "categorical": lambda t: categorical_log_prob(t(LABELS[:3]), t(NOISE)),
    "kl_categorical": lambda t: kl_categorical(t(NOISE), t(NOISE[::-1])),
    "logistic": lambda t: logistic_log_prob(t(NOISE), t(NOISE), t(NOISE)),
    "discretized_logistic": lambda t: discretized_logistic_log_prob(
        t(2 * BITS - 1), t(NOISE), t(NOISE), 3
    ),
    "discretized_normal": lambda t: discretized_normal_log_prob(
        t(2 * BITS - 1), t(NOISE), t(NOISE), 3
    ),
    "mixture": lambda t: logistic_mixture_log_prob(
        t(2 * BITS[:, 0] - 1), t(NOISE), t(NOISE), t(NOISE), 3
    ),
}


class On:
    """Makes Tensors on a device, each array once."""

    def __init__(self, device, dtype=np.float32):
        self.device, self.dtype, self.made = device, dtype, {}

    def __call__(self, array):
        key = array.tobytes(), array.shape
        if key not in self.made:
            dtype = self.dtype if array.dtype.kind == "f" else array.dtype
            self.made[key] = Tensor(array.astype(dtype), device=self.device)
        return self.made[key]


@pytest.mark.parametrize("name", CALLS)
def test_results_on_a_gpu_equal_those_on_the_cpu(name, double):
    on_gpu = CALLS[name](On("gpu"))
    assert on_gpu.device == "gpu:0"
    np.testing.assert_allclose(on_gpu.numpy(), CALLS[name](On("cpu")).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CALLS)
def test_a_log_probability_never_waits_for_the_gpu(name, double):
    import cupy_double

    make = On("gpu")
    CALLS[name](make)  # moves the arrays to the GPU
    with cupy_double.counting() as waits:
        CALLS[name](make)
    assert waits.count == 0


@pytest.mark.parametrize("name", CALLS)
def test_float16_is_computed_and_returned_in_float32(name):
    half, single = CALLS[name](On("cpu", np.float16)), CALLS[name](On("cpu"))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half.numpy(), single.numpy(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", CALLS)
def test_arrays_without_a_tensor_give_arrays(name):
    result = CALLS[name](lambda array: array)
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result, CALLS[name](On("cpu", np.float64)).numpy(), rtol=1e-12)


def test_samples_are_drawn_on_the_device_of_the_parameters(device):
    logits = Tensor(NOISE.astype(np.float32), device=device)
    for drawn in (
        normal_sample(logits, 0.0),
        logistic_sample(0.0, logits),
        bernoulli_sample(logits),
        categorical_sample(logits),
        discretized_logistic_sample(logits, 0.0, 17),
        discretized_normal_sample(logits, 0.0, 17),
        logistic_mixture_sample(logits, logits, logits, 17),
    ):
        assert drawn.device == logits.device


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_a_bernoulli_of_no_probability_is_refused_and_becomes_nan_on_a_gpu(wrong, double):
    x = np.array([0.0, wrong], np.float32)
    with pytest.raises(ValueError, match="bernoulli_log_prob: x holds .*between 0 and 1"):
        bernoulli_log_prob(x, 0.0)
    on_gpu = bernoulli_log_prob(Tensor(x, device="gpu"), 0.0).numpy()
    assert np.isnan(on_gpu).tolist() == [False, True]


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_that_is_no_class_is_refused_and_becomes_nan_on_a_gpu(wrong, double):
    labels, logits = np.array([0, wrong]), np.zeros((2, 3), np.float32)
    with pytest.raises(IndexError, match=f"labels holds {wrong}; 3 classes are numbered"):
        categorical_log_prob(labels, logits)
    found = categorical_log_prob(Tensor(labels, device="gpu"), Tensor(logits, device="gpu"))
    assert np.isnan(found.numpy()).tolist() == [False, True]


def test_a_label_of_two_classes_that_is_no_class_is_an_index_error_too():
    with pytest.raises(IndexError, match="labels holds 2; 2 classes"):
        categorical_log_prob(np.array([2]), np.zeros((1, 2)))


@pytest.mark.parametrize("wrong", [0.05, 1.125, -3.0, np.nan, np.inf])
@pytest.mark.parametrize("f", [discretized_logistic_log_prob, discretized_normal_log_prob])
def test_a_pixel_that_is_no_level_is_refused_and_becomes_nan_on_a_gpu(f, wrong, double):
    """A discretised likelihood of continuous data is a common mistake."""
    x = np.array([0.0, wrong, 1], np.float32)
    with pytest.raises(ValueError, match="x holds .*; it must be one of 17 levels"):
        f(x, 0.0, 0.0, 17)
    assert np.isnan(f(Tensor(x, device="gpu"), 0.0, 0.0, 17).numpy()).tolist() == [
        False,
        True,
        False,
    ]


def test_images_from_0_to_1_in_place_of_minus_1_to_1_are_refused():
    with pytest.raises(ValueError, match="it must be one of 256 levels, evenly spaced from -1"):
        discretized_logistic_log_prob(np.arange(256) / 255, 0.0, 0.0, 256)


def test_numbers_of_components_that_differ_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shapes do not fit"):
        logistic_mixture_log_prob(np.ones(2), np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3)), 2)
    with pytest.raises(ValueError, match=r"x has shape \(3,\) for components \(2, 3\)"):
        logistic_mixture_log_prob(np.ones(3), *[np.ones((2, 3))] * 3, 2)


def test_a_decoder_with_a_free_variance_gains_without_end_on_a_constant_pixel():
    log_p = [float(normal_log_prob(0.3, 0.3, log_var)) for log_var in (0.0, -10.0, -100.0)]
    np.testing.assert_allclose(np.diff(log_p), [5, 45])


def test_no_function_of_distributions_is_missing_from_the_list_of_nn():
    assert "distributions.py" in (nn.__doc__ or "")


def test_nothing_is_drawn_from_logits_that_are_nan():
    with pytest.raises(ValueError, match="categorical_sample: logits .* holds NaN"):
        categorical_sample(np.array([[0.0, np.nan], [0.0, 1.0]]))
    assert np.isnan(bernoulli_sample(np.array([np.nan, 0.0]))).tolist() == [True, False]
