"""Score matching: each objective is the Fisher divergence up to a constant, its minimum on a
Gaussian has the closed form of theory, and planted mistakes are caught."""

from __future__ import annotations

import numpy as np
import pytest
from mutants import mutant

import tinycv
from tinycv import Tensor
from tinycv.data.shapes import two_moons
from tinycv.diffusion import score as matching
from tinycv.engine.backend import to_numpy
from tinycv.engine.check import certify

RNG = np.random.default_rng(0)
COVARIANCE, SIGMA = np.array([[1.0, 0.5], [0.5, 0.8]]), 0.7
# four directions whose mean is exactly 0 and whose E v vᵀ is exactly I
SIGNS = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
NAMES = ["explicit", "sliced", "sliced_vr", "denoising"]


def white(n):
    """n points whose mean is exactly 0 and whose covariance is exactly I, so that the minima over
    them are those of theory."""
    z = RNG.normal(size=(n, 2))
    z -= z.mean(axis=0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T


X = white(100) @ np.linalg.cholesky(COVARIANCE).T


def objective(module, name, score, x=X):
    """The mean over all points and over all four SIGNS as the random vector, so that nothing is
    random."""
    if name == "explicit":
        return module.explicit(score, Tensor(x)).mean()
    x, v = Tensor(np.repeat(x, 4, axis=0)), Tensor(np.tile(SIGNS, (len(x), 1)))
    if name == "denoising":
        return module.denoising(
            lambda x, sigma: score(x), x, Tensor(np.full(len(x), SIGMA)), v
        ).mean()
    return getattr(module, name)(score, x, v).mean()


def check_minimum(module, name):
    """For ψ(x) = A x + b the objectives are quadratic in A and b, so one Newton step from 0 ends in
    the minimum. Its value is -½ E |∇ log p|², plus ½ D/σ² for denoising (score.py)."""

    def at(w):
        w = Tensor(w, requires_grad=True)
        a, b = w[:4].reshape((2, 2)), w[4:]
        value = objective(module, name, lambda x: x @ a.swapaxes(0, 1) + b)
        return value.item(), tinycv.grad(value, w)[0].numpy()

    slope = at(np.zeros(6))[1]
    w = np.linalg.solve(np.stack([at(e)[1] - slope for e in np.eye(6)]), -slope)
    noise = SIGMA**2 * np.eye(2) if name == "denoising" else 0 * np.eye(2)
    precision = np.linalg.inv(COVARIANCE + noise)
    np.testing.assert_allclose(w, [*-precision.ravel(), 0, 0], atol=1e-9)
    expected = -0.5 * np.trace(precision) + (2 / SIGMA**2 / 2 if name == "denoising" else 0)
    assert at(w)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_linear_score_of_a_gaussian_and_its_objective_have_their_closed_form(name):
    check_minimum(matching, name)


MISTAKES = {
    "explicit": [
        ("0.5 * (psi * psi).sum(axis=-1) + trace", "(psi * psi).sum(axis=-1) + trace"),
        ("0.5 * (psi * psi).sum(axis=-1) + trace", "0.5 * (psi * psi).sum(axis=-1) - trace"),
        ("record)[:, d] for", "record)[:, 0] for"),
    ],
    "sliced": [
        ("0.5 * along * along + slope", "along * along + slope"),
        ("along + slope_along_v", "along - slope_along_v"),
    ],
    "sliced_vr": [
        ("0.5 * (psi * psi).sum(axis=-1) + slope", "(psi * psi).sum(axis=-1) + slope"),
        ("(_pulled(vectors, x, v, record) * v)", "_pulled(vectors, x, v, record)"),
    ],
    "denoising": [
        ("levels) + z / column", "levels) - z / column"),
        ("levels) + z / column", "levels) + z / column ** 2"),
        ("x + column * z, levels", "x + column ** 2 * z, levels"),
        ("0.5 * (error * error)", "(error * error)"),
    ],
}


@pytest.mark.parametrize(
    "name, right, wrong", [(name, *pair) for name in NAMES for pair in MISTAKES[name]]
)
def test_a_wrong_sign_and_a_missing_half_are_seen(name, right, wrong):
    with pytest.raises(AssertionError):
        check_minimum(mutant(matching, right, wrong), name)


@pytest.mark.parametrize("name", ["explicit", "sliced", "sliced_vr"])
def test_the_objective_is_the_fisher_divergence_up_to_a_constant(name):
    # integrals over N(0, 1), by quadrature
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    z = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    share = np.outer(weights, weights).ravel() / weights.sum() ** 2
    root = np.linalg.cholesky(COVARIANCE)
    x, truth = z @ root.T, -z @ np.linalg.inv(root)
    w = Tensor(RNG.normal(size=(2, 2)))

    def score(x):
        return (0.5 * x @ w).tanh() + x[:, :1] * x

    value = (
        matching.explicit(score, x).numpy()
        if name == "explicit"
        else np.mean(
            [
                getattr(matching, name)(score, x, Tensor(np.tile(v, (len(x), 1)))).numpy()
                for v in SIGNS
            ],
            axis=0,
        )
    )
    fisher = 0.5 * ((score(Tensor(x)).numpy() - truth) ** 2).sum(axis=1)
    assert share @ value == pytest.approx(
        share @ fisher - share @ (0.5 * (truth**2).sum(axis=1)), rel=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_certified_for_the_weights_of_the_score(name):
    certify(
        lambda w, b: objective(matching, name, lambda x: (x @ w).tanh() @ b, X[:5]),
        RNG.normal(size=(2, 3)),
        RNG.normal(size=(3, 2)),
        name=name,
    )


@pytest.mark.parametrize("name", ["sliced", "sliced_vr", "denoising"])
def test_default_noise_is_drawn_on_the_device_of_the_points_from_the_backends_generator(
    name, device
):
    x, sigma = Tensor(X, device=device), Tensor(np.full(len(X), 0.5), device=device)
    rest = [sigma] if name == "denoising" else []

    def values():
        tinycv.manual_seed(3)
        return getattr(matching, name)(lambda x, *_: -0.5 * x, x, *rest)

    found = values()
    assert found.shape == (len(X),) and found.device == x.device
    np.testing.assert_array_equal(found.numpy(), values().numpy())
    assert np.std(found.numpy()) > 0.1


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["sliced", "sliced_vr"])
def test_default_directions_have_covariance_i(name):
    """At x = 0 a linear score A x is 0, so the objective is E vᵀ A v = tr A if E v vᵀ = I."""
    for matrix, trace in ((np.diag([3.0, -1.0]), 2), (np.array([[0, 1.0], [1, 0]]), 0)):
        value = getattr(matching, name)(
            lambda x, matrix=matrix: x @ Tensor(matrix), Tensor(np.zeros((40_000, 2)))
        ).numpy()
        assert value.mean() == pytest.approx(trace, abs=5 * value.std() / 200)


def test_each_image_has_its_own_noise_level_and_all_its_pixels_count():
    x, z, sigma = RNG.normal(size=(3, 2, 2)), RNG.normal(size=(3, 2, 2)), np.array([0.1, 1.0, 3.0])
    value = matching.denoising(
        lambda x, sigma: -x * sigma.reshape((3, 1, 1)), Tensor(x), Tensor(sigma), Tensor(z)
    ).numpy()
    by_hand = [0.5 * ((-s * (x[i] + s * z[i]) + z[i] / s) ** 2).sum() for i, s in enumerate(sigma)]
    np.testing.assert_allclose(value, by_hand, rtol=1e-12)


@pytest.mark.statistical
def test_default_noise_has_variance_1_on_every_axis():
    seen = []
    matching.denoising(
        lambda x, sigma: seen.append(x.numpy()) or x,
        Tensor(np.zeros((40_000, 2))),
        Tensor(np.ones(40_000)),
    )
    np.testing.assert_allclose(np.cov(seen[0].T), np.eye(2), atol=5 * 2**0.5 / 200)


def test_the_divergence_is_the_trace_of_the_jacobian_and_its_estimate_is_right_on_average(device):
    density = two_moons(0.3, 20)
    x, h = X[:20], 1e-5
    by_differences = sum(
        (density.score(x + h * e)[:, d] - density.score(x - h * e)[:, d]) / (2 * h)
        for d, e in enumerate(np.eye(2))
    )
    where = tinycv.Tensor(x, device=device)
    with tinycv.no_grad():
        field, exact = matching.with_divergence(density.score, where)
        along = [
            matching.with_slope_along(
                density.score, where, Tensor(np.tile(v, (20, 1)), device=device)
            )[1].numpy()
            for v in SIGNS
        ]
    np.testing.assert_allclose(field.numpy(), density.score(x), rtol=1e-10)
    np.testing.assert_allclose(exact.numpy(), by_differences, rtol=1e-6)
    np.testing.assert_allclose(np.mean(along, axis=0), by_differences, rtol=1e-6)
    assert not exact.requires_grad and not field.requires_grad


def test_a_constant_field_has_no_divergence():
    _, trace = matching.with_divergence(lambda x: Tensor(np.ones((3, 2))), np.zeros((3, 2)))
    assert to_numpy(trace.data).tolist() == [0, 0, 0]
