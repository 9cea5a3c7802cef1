"""ScoreMLP and its Fourier features: each result depends on one point and its time alone."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv.diffusion.mlp import ScoreMLP, fourier_features


def test_a_score_network_is_certified_to_second_order():
    tinycv.manual_seed(0)
    rng = np.random.default_rng(0)
    for places in (0, 2):
        certify_layer(
            ScoreMLP(2, 6, 2, time_features=4, place_features=places),
            rng.normal(size=(3, 2)),
            rng.normal(size=3),
        )


def test_each_point_is_treated_independently_at_its_own_time(device):
    tinycv.manual_seed(0)
    model = ScoreMLP(3, hidden=8, depth=2, place_features=4).to(device)
    x, t = tinycv.randn(5, 3, device=device), tinycv.rand(5, device=device)
    whole = model(x, t).numpy()
    assert whole.shape == (5, 3)
    np.testing.assert_allclose(whole[2:3], model(x[2:3], t[2:3]).numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(model(x, t + 0.1).numpy() - whole).min(axis=1).max() > 1e-3


def test_times_that_differ_by_a_hundredth_have_distinct_features():
    t = np.linspace(-2, 2, 401)
    waves = fourier_features(t)
    assert waves.shape == (401, 16)
    gaps = np.linalg.norm(waves[:, None] - waves[None], axis=-1) + np.eye(401)
    assert gaps.min() > 0.1


def test_features_of_points_are_waves_of_each_axis_from_the_slowest_to_the_fastest():
    waves = fourier_features(np.array([[0.1, 0.2]]), 6, slowest=1.0, fastest=4.0)
    angles = np.array([0.1, 0.2, 0.4, 0.2, 0.4, 0.8])
    np.testing.assert_allclose(waves, [[*np.sin(angles), *np.cos(angles)]])


@pytest.mark.parametrize("fastest", [8.0, 64.0])
def test_a_score_network_equals_its_equations(
    fastest,
):
    def waves(v, slowest, fastest):
        angle = (v[..., None] * np.geomspace(slowest, fastest, 2)).reshape(len(v), -1)
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    rng = np.random.default_rng(0)
    x, t, model = rng.normal(size=(3, 2)), rng.normal(size=3), ScoreMLP(2, 5, 3, 4, 4, fastest)
    h, parameters = (
        np.concatenate([x, waves(t, 0.5, 16), waves(x, 1, fastest)], axis=1),
        model.to("float64").parameters(),
    )
    *hidden, weight, bias = (p.numpy() for p in parameters)
    assert len(hidden) == 2 * 3
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        h = h @ w.T + b
        h = h / (1 + np.exp(-h))
    np.testing.assert_allclose(model(x, t).numpy(), h @ weight.T + bias, rtol=1e-12)
