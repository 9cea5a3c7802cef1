"""Weight initialisation: bounds, variances, and equal weights for equal seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv.nn import Embedding, LayerNorm, Linear, init
from tinycv.sequence import MultiheadAttention

SHAPE = (200, 100)  # fan_in 100, fan_out 200; 20,000 draws
KERNEL = (50, 20, 4, 5)  # fan_in 400, fan_out 1000; 20,000 draws


@pytest.fixture(autouse=True)
def seeded():
    tinycv.manual_seed(SEED + 1)
    yield
    tinycv.manual_seed(0)


def has_variance(parameter, expected, kurtosis=3.0):
    """Within five standard errors: Var(sample variance) = (kurtosis - 1) σ⁴ / n."""
    error = expected * math.sqrt((kurtosis - 1) / parameter.size)
    return abs(parameter.numpy().astype(float).var() - expected) < 5 * error


def is_uniform_within(parameter, bound):
    """Inside the bound, and reaching up to it: the largest of n draws misses it by 20 bound / n
    once in e^20 times."""
    largest = np.abs(parameter.numpy()).max()
    return bound * (1 - 20 / parameter.size) < largest <= bound * (1 + 1e-6) and has_variance(
        parameter, bound**2 / 3, kurtosis=1.8
    )


@pytest.mark.statistical
@pytest.mark.parametrize("shape, fan_in, fan_out", [(SHAPE, 100, 200), (KERNEL, 400, 1000)])
def test_variance_follows_from_the_fans(shape, fan_in, fan_out):
    assert has_variance(init.xavier_normal(shape, gain=3.0), 9 * 2 / (fan_in + fan_out))
    assert has_variance(init.kaiming_normal(shape), 2 / fan_in)
    assert has_variance(init.kaiming_normal(shape, a=2.0), 2 / (5 * fan_in))
    assert is_uniform_within(
        init.xavier_uniform(shape, gain=3.0), 3 * math.sqrt(6 / (fan_in + fan_out))
    )
    assert is_uniform_within(init.kaiming_uniform(shape), math.sqrt(6 / fan_in))
    assert is_uniform_within(init.kaiming_uniform(shape, a=2.0), math.sqrt(6 / (5 * fan_in)))


@pytest.mark.statistical
def test_normal_has_the_given_mean_and_standard_deviation():
    drawn = init.normal(SHAPE, std=0.5, mean=2.0)
    assert has_variance(drawn, 0.25)
    assert abs(drawn.numpy().mean() - 2.0) < 5 * 0.5 / math.sqrt(drawn.size)


@pytest.mark.statistical
def test_a_truncated_normal_ends_at_the_limit_and_is_not_clipped_to_it():
    drawn = np.abs(init.trunc_normal(SHAPE, std=0.5, limit=2.0).numpy())
    assert 0.99 < drawn.max() <= 1.0
    # clipping would pile up 4.6 % of the draws here: 910
    assert (drawn == drawn.max()).sum() <= 3


@pytest.mark.statistical
def test_a_truncated_normal_has_the_variance_of_theory():
    # 1 - 2 a φ(a) / (2 Φ(a) - 1) at a = 2
    expected = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    assert has_variance(init.trunc_normal(SHAPE, std=1.0), expected)


def test_fans_of_a_vector_are_refused():
    with pytest.raises(ValueError, match=r"two axes.*\(7,\)"):
        init.kaiming_normal((7,))


@pytest.mark.statistical
def test_linear_starts_as_in_pytorch():
    layer = Linear(100, 200)
    assert is_uniform_within(layer.weight, 0.1)
    assert is_uniform_within(Linear(100, 20_000).bias, 0.1)


def test_linear_with_no_input_features_returns_its_bias():
    layer = Linear(0, 3)
    y = layer(tinycv.zeros(5, 0))
    assert (y.numpy() == np.tile(layer.bias.numpy(), (5, 1))).all()


@pytest.mark.statistical
def test_embedding_starts_standard_normal():
    assert has_variance(Embedding(200, 100).weight, 1.0)


def test_layer_norm_starts_with_weight_1_and_bias_0():
    layer = LayerNorm(4)
    assert (layer.weight.numpy() == 1).all()
    assert (layer.bias.numpy() == 0).all()


@pytest.mark.statistical
def test_attention_starts_as_in_pytorch():
    layer = MultiheadAttention(64, 4)
    assert is_uniform_within(layer.in_proj_weight, math.sqrt(6 / (64 + 3 * 64)))
    assert is_uniform_within(layer.out_proj.weight, 1 / 8)
    assert (layer.in_proj_bias.numpy() == 0).all()
    assert (layer.out_proj.bias.numpy() == 0).all()


def test_parameters_start_in_float32_and_require_gradients():
    for make in (
        init.zeros,
        init.ones,
        init.normal,
        init.trunc_normal,
        init.xavier_uniform,
        init.kaiming_uniform,
    ):
        assert make((2, 2)).dtype == np.float32
        assert make((2, 2)).requires_grad


def test_the_same_seed_gives_the_same_weights_on_every_device(device):
    def weights(seed):
        tinycv.manual_seed(seed)
        return Linear(3, 4).to(device).weight.numpy()

    assert (weights(5) == weights(5)).all()
    assert (weights(5) != weights(6)).any()


def test_two_layers_do_not_start_equal():
    assert (Linear(3, 4).weight.numpy() != Linear(3, 4).weight.numpy()).any()
