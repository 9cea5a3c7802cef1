"""Glow: actnorm's first batch, the LU form of the 1 x 1 convolution, and planted mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from mutants import mutant

import tinycv
from tinycv import Tensor, nn
from tinycv.likelihood import glow
from tinycv.likelihood.glow import ActNorm, Glow, InvertibleConv1x1, inverse_of_lower, lu_factors

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3, 4, 5)) * [[[2.0]], [[0.1]], [[30.0]]] + [[[5.0]], [[0.0]], [[-9.0]]]


def log_det_of_jacobian(layer, x):
    x = Tensor(x, requires_grad=True)
    flat = layer(x)[0].reshape((len(x), -1))
    rows = []
    for d in range(flat.shape[1]):
        (g,) = tinycv.grad(flat[:, d].sum(), x, retain_graph=True)
        rows.append(g.numpy().reshape(len(x), -1))
    return np.linalg.slogdet(np.stack(rows, axis=1))[1]


def perturbed(layer):
    rng = np.random.default_rng(7)
    for p in layer.to("float64").parameters():
        p.data = p._data + 0.3 * rng.normal(size=p.shape)
    return layer


# ── actnorm ──────────────────────────────────────────────────────────────────────────────────────


def test_the_first_batch_comes_out_with_mean_0_and_variance_1_per_channel(device):
    layer = ActNorm(3).to("float64").to(device)
    y = layer(Tensor(X, device=device))[0].numpy()
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-12)


def test_only_the_first_batch_in_training_mode_sets_the_statistics():
    layer = ActNorm(3).to("float64")
    layer.eval()
    np.testing.assert_array_equal(layer(Tensor(X))[0].numpy(), X)  # until then it is the identity
    layer.train()
    layer(Tensor(X))
    layer(Tensor(9 * X + 1))
    layer.eval()
    np.testing.assert_allclose(layer.mean.numpy(), X.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(layer.deviation.numpy(), X.std(axis=(0, 2, 3)))


def test_the_statistics_are_saved_and_loaded():
    layer, other = ActNorm(3), ActNorm(3)
    layer(Tensor(X.astype(np.float32)))
    other.load_state_dict(layer.state_dict())
    other(Tensor(5 * X.astype(np.float32)))  # not its first batch any more
    np.testing.assert_array_equal(other.mean.numpy(), layer.mean.numpy())


def test_a_channel_that_is_constant_in_the_first_batch_keeps_its_scale():
    layer = ActNorm(2)
    x = np.stack([np.full((4, 3, 3), 7.0), RNG.normal(size=(4, 3, 3))], axis=1).astype(np.float32)
    layer(Tensor(x))
    assert layer.deviation.numpy()[0] == 1
    y, log_det = layer(Tensor(2 * x))
    assert np.isfinite(y.numpy()).all() and np.isfinite(log_det.numpy()).all()


@pytest.mark.parametrize("x", [X, X[:, :, 0, 0]])
def test_actnorm_has_the_inverse_and_the_log_determinant_of_its_jacobian(x):
    layer = perturbed(ActNorm(3))
    layer(Tensor(x))
    y, log_det = layer(Tensor(2 * x[:3]))
    assert np.abs(layer.inverse(y).numpy() - 2 * x[:3]).max() < 1e-10
    np.testing.assert_allclose(log_det.numpy(), log_det_of_jacobian(layer, 2 * x[:3]), rtol=1e-12)


def test_actnorm_is_certified_to_second_order():
    layer = perturbed(ActNorm(3))
    layer(Tensor(X))
    certify_layer(layer, X[:2, :, :2, :2])


def test_a_batch_with_nan_leaves_actnorm_as_it_was():
    layer, bad = ActNorm(3), X.astype(np.float32)
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(
        ValueError, match="ActNorm: the first batch holds values that are not finite"
    ):
        layer(Tensor(bad))
    assert layer.batches.item() == 0 and not layer.mean.numpy().any()


def test_a_batch_without_numbers_is_refused():
    with pytest.raises(ValueError, match="ActNorm: x has shape"):
        ActNorm(3)(Tensor(X[:0]))


# ── the invertible 1 x 1 convolution ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n", [1, 2, 3, 8, 20])
def test_the_factors_multiply_to_the_matrix(n):
    a = RNG.normal(size=(n, n))
    p, lower, upper = lu_factors(a)
    np.testing.assert_allclose(p @ lower @ upper, a, atol=1e-12)
    assert (p.sum(axis=0) == 1).all() and (p.sum(axis=1) == 1).all()
    assert (np.diag(lower) == 1).all() and not np.triu(lower, 1).any()
    assert not np.tril(upper, -1).any() and np.abs(lower).max() <= 1


def weight(layer):
    lower, upper = layer.factors()
    return (layer.permutation @ lower @ upper).numpy()


@pytest.mark.parametrize("channels", [1, 2, 12])
def test_the_convolution_starts_as_a_rotation(channels):
    layer = InvertibleConv1x1(channels)
    w = weight(layer)
    np.testing.assert_allclose(w @ w.T, np.eye(channels), atol=1e-5)
    _, log_det = layer(Tensor(np.ones((2, channels, 3, 3), np.float32)))
    np.testing.assert_allclose(log_det.numpy(), 0, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_the_convolution_has_the_inverse_and_the_log_determinant_of_its_jacobian(channels, device):
    layer, x = perturbed(InvertibleConv1x1(channels)), RNG.normal(size=(2, channels, 2, 3))
    expected = log_det_of_jacobian(layer, x)
    np.testing.assert_allclose(6 * np.linalg.slogdet(weight(layer))[1], expected, rtol=1e-10)
    layer.to(device)
    y, log_det = layer(Tensor(x, device=device))
    np.testing.assert_allclose(log_det.numpy(), expected, rtol=1e-10)
    assert np.abs(layer.inverse(y).numpy() - x).max() < 1e-10


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("x.shape[2] * x.shape[3] * self.log_s.sum()", "self.log_s.sum()"),
        ("self.log_s.sum()", "(-self.log_s.sum())"),
        ("prod(x.shape[2:]) * (self", "(self"),
        ("self.log_scale - log(deviation)", "self.log_scale + log(deviation)"),
    ],
)
def test_a_mistake_in_a_log_determinant_is_seen(right, wrong):
    m, off = mutant(glow, right, wrong), 0
    for make in (m.ActNorm, m.InvertibleConv1x1):
        layer = perturbed(make(3))
        layer(Tensor(X))
        off = max(off, np.abs(layer(Tensor(X))[1].numpy() - log_det_of_jacobian(layer, X)).max())
    assert off > 1e-2


def test_the_convolution_and_its_inverse_are_certified_to_second_order():
    class Inverse(nn.Module):
        def __init__(self):
            self.layer = perturbed(InvertibleConv1x1(3))

        def forward(self, y):
            return self.layer.inverse(y)

    x = RNG.normal(size=(2, 3, 2, 2))
    certify_layer(perturbed(InvertibleConv1x1(3)), x)
    certify_layer(Inverse(), x)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_forward_substitution_inverts_a_triangular_matrix(n):
    m = np.tril(RNG.normal(size=(n, n)), -1) + np.diag(RNG.uniform(0.5, 2, n))
    np.testing.assert_allclose(inverse_of_lower(Tensor(m)).numpy(), np.linalg.inv(m), atol=1e-10)


def test_no_step_of_training_changes_the_sign_of_the_determinant():
    layer = InvertibleConv1x1(4).to("float64")
    sign, _ = np.linalg.slogdet(weight(layer))
    y, _ = layer(Tensor(RNG.normal(size=(2, 4, 3, 3))))
    (y * y * y).sum().backward()
    assert layer.permutation.grad is None and layer.sign.grad is None
    for p in layer.parameters():
        p.data = p._data - 0.1 * p.grad._data
    assert np.linalg.slogdet(weight(layer))[0] == sign


# ── the whole model ──────────────────────────────────────────────────────────────────────────────


def test_glow_normalises_all_its_actnorms_in_the_first_batch():
    model = Glow(1, 8, 2, 2, 4)
    x = Tensor(RNG.uniform(size=(16, 1, 8, 8)).astype(np.float32))
    model(x)
    norms = [m for m in model.modules() if isinstance(m, ActNorm)]
    assert len(norms) == 4 and all(norm.batches.item() == 1 for norm in norms)
    z, _ = model(x)
    assert np.abs(z.numpy()).max() < 10


def test_a_trained_glow_that_was_saved_gives_the_same_density():
    model, other = Glow(1, 4, 1, 1, 3), Glow(1, 4, 1, 1, 3)
    x = Tensor(RNG.uniform(size=(5, 1, 4, 4)).astype(np.float32))
    model(x)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.log_prob(x).numpy(), model.log_prob(x).numpy())


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Glow(1, 6, 2), "Glow: side is 6; it must be a multiple of 4"),
        (lambda: ActNorm(2)(X), r"ActNorm: x has shape \(6, 3, 4, 5\); it must be \(B, 2, ...\)"),
        (lambda: InvertibleConv1x1(3)(X[:, :, 0]), r"it must be \(B, 3, H, W\)"),
        (lambda: InvertibleConv1x1(2).inverse(X), r"inverse: y has shape"),
        (lambda: ActNorm(0), "channels is 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
