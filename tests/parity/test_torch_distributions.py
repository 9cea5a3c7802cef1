"""nn/distributions.py and nn/discretized.py compared with torch.distributions: log-probabilities,
KL, their gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.distributions import (
    Bernoulli,
    Categorical,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
    kl_divergence,
)

from tinycv import Tensor
from tinycv.nn import distributions as D
from tinycv.nn.discretized import (
    discretized_logistic_log_prob,
    discretized_normal_log_prob,
    logistic_mixture_log_prob,
)

RNG = np.random.default_rng(0)
A, B, C, E = (RNG.normal(size=(4, 5)) for _ in range(4))
BITS = (A > 0).astype(float)
LABELS = RNG.integers(0, 5, 4)
LEVELS = np.linspace(-1, 1, 17)[RNG.integers(0, 17, (4, 5))]
LEVELS[0, :2] = -1, 1
H = 1 / 16


def normal(mean, log_var):
    return Normal(mean, (0.5 * log_var).exp())


def logistic(mean, log_scale):
    """The logistic distribution: log u - log(1 - u) of a uniform u, scaled and shifted."""
    flow = [
        SigmoidTransform().inv,
        torch.distributions.AffineTransform(mean, log_scale.exp()),
    ]
    zero = torch.zeros_like(mean)
    return TransformedDistribution(Uniform(zero, zero + 1, validate_args=False), flow)


def discretized(law, x):
    """log of a difference of distribution functions: exact in float64 near the mean."""
    inside = law.cdf(x + H) - law.cdf(x - H)
    edges = torch.where(x < 0, law.cdf(x + H), 1 - law.cdf(x - H))
    return torch.where(abs(x) > 1 - H, edges, inside).log()


def mixture(x, weights, means, log_scales):
    parts = discretized(logistic(means, log_scales), x[..., None].expand(means.shape))
    return torch.logsumexp(torch.log_softmax(weights, -1) + parts, -1)


CASES = {
    "normal_log_prob": (
        D.normal_log_prob,
        lambda x, m, v: normal(m, v).log_prob(x),
        [A, B, C],
    ),
    "kl_normal": (
        D.kl_normal,
        lambda m, v, n, w: kl_divergence(normal(m, v), normal(n, w)),
        [A, B, C, E],
    ),
    "kl_normal to N(0, 1)": (
        D.kl_normal,
        lambda m, v: kl_divergence(normal(m, v), Normal(0.0, 1.0)),
        [A, B],
    ),
    "bernoulli_log_prob": (
        lambda logits: D.bernoulli_log_prob(BITS, logits),
        lambda logits: Bernoulli(logits=logits).log_prob(torch.tensor(BITS)),
        [A],
    ),
    "kl_bernoulli": (
        D.kl_bernoulli,
        lambda q, p: kl_divergence(Bernoulli(logits=q), Bernoulli(logits=p)),
        [A, B],
    ),
    "categorical_log_prob": (
        lambda logits: D.categorical_log_prob(LABELS, logits),
        lambda logits: Categorical(logits=logits).log_prob(torch.tensor(LABELS)),
        [A],
    ),
    "kl_categorical": (
        D.kl_categorical,
        lambda q, p: kl_divergence(Categorical(logits=q), Categorical(logits=p)),
        [A, B],
    ),
    "logistic_log_prob": (
        D.logistic_log_prob,
        lambda x, m, s: logistic(m, s).log_prob(x),
        [A, B, C],
    ),
    "discretized_logistic_log_prob": (
        lambda m, s: discretized_logistic_log_prob(LEVELS, m, s, 17),
        lambda m, s: discretized(logistic(m, s), torch.tensor(LEVELS)),
        [0.5 * A, B - 1],
    ),
    "discretized_normal_log_prob": (
        lambda m, v: discretized_normal_log_prob(LEVELS, m, v, 17),
        lambda m, v: discretized(normal(m, v), torch.tensor(LEVELS)),
        [0.5 * A, B - 1],
    ),
    "logistic_mixture_log_prob": (
        lambda w, m, s: logistic_mixture_log_prob(LEVELS[:, 0], w, m, s, 17),
        lambda w, m, s: mixture(torch.tensor(LEVELS[:, 0]), w, m, s),
        [A, 0.5 * B, C - 1],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_those_of_torch(name):
    function, reference, inputs = CASES[name]
    ours = [Tensor(x, requires_grad=True) for x in inputs]
    theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    found, expected = function(*ours), reference(*theirs)
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    weights = RNG.normal(size=found.shape)
    (found * Tensor(weights)).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-8, atol=1e-10)
