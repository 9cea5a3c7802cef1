"""EDM: the preconditioning meets the conditions that define it, and the loss and Heun's method
agree with closed forms for a Gaussian."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.diffusion.edm import edm_denoiser, edm_loss, edm_sigmas, heun_step, preconditioning
from tinycv.diffusion.samplers import sample

RNG = np.random.default_rng(SEED)
MEAN, STD = 0.7, 0.5  # of the data


def best(x, sigma):
    """E[y | y + σ n = x] for y ~ N(MEAN, STD²), σ (B,) for x (B, 1), or (B, 1)."""
    sigma = sigma.reshape((len(x), 1))
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


# ── preconditioning ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_input_and_target_of_the_network_have_variance_1(sigma):
    """The two conditions of Karras et al. 2022, appendix B.6, for data of standard deviation
    0.5."""
    c_skip, c_out, c_in = preconditioning(sigma, 0.5)
    assert c_in**2 * (0.5**2 + sigma**2) == pytest.approx(1)
    assert ((1 - c_skip) ** 2 * 0.5**2 + c_skip**2 * sigma**2) / c_out**2 == pytest.approx(1)


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_c_skip_minimises_c_out(sigma):
    """c_skip is chosen so that c_out, which scales the errors of the network, is as small as
    possible if the target has variance 1 (appendix B.6)."""

    def c_out(c_skip):
        return ((1 - c_skip) ** 2 * 0.5**2 + c_skip**2 * sigma**2) ** 0.5

    c_skip, least, _ = preconditioning(sigma, 0.5)
    assert least == pytest.approx(c_out(c_skip))
    assert least < min(c_out(c_skip - 0.01), c_out(c_skip + 0.01))


def test_the_denoiser_is_the_wrapped_network(device):
    x, seen = Tensor(RNG.normal(size=(3, 2)), device=device), []

    def model(x, c_noise, label):
        seen.append((x.numpy(), c_noise.numpy(), label))
        return 0 * x + 2.0

    for sigma in (3.0, np.array([3.0, 0.5, 0.1])):
        got = edm_denoiser(model, 0.5)(
            x, sigma if isinstance(sigma, float) else Tensor(sigma, device=device), "label"
        )
        levels = np.broadcast_to(sigma, 3)
        c_skip, c_out, c_in = (c[:, None] for c in preconditioning(levels, 0.5))
        np.testing.assert_allclose(got.numpy(), c_skip * x.numpy() + c_out * 2.0)
        np.testing.assert_allclose(seen[-1][0], c_in * x.numpy())
        np.testing.assert_allclose(seen[-1][1], np.log(levels) / 4)
        assert seen[-1][2] == "label"


def test_for_data_of_variance_1_the_target_of_edm_is_minus_v():
    sigma, y, n = 1.7, 0.3, -0.8
    a, s = 1 / np.sqrt(1 + sigma**2), sigma / np.sqrt(1 + sigma**2)
    c_skip, c_out, _ = preconditioning(sigma, 1.0)
    assert (y - c_skip * (y + sigma * n)) / c_out == pytest.approx(-(a * n - s * y))


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.statistical
def test_a_network_that_returns_0_has_loss_1_on_gaussian_data(device):
    """For y ~ N(0, σ_d²) the skip term is already the best denoiser, and the target is noise of
    variance 1 at every σ."""
    y = Tensor(0.5 * RNG.normal(size=(100_000, 1)), device=device)
    losses = []
    for answer in (0.0, 0.1):
        tinycv.manual_seed(SEED + 1)
        losses.append(edm_loss(lambda x, c, answer=answer: answer * x, y).item())
    assert losses[0] == pytest.approx(1, rel=0.025)  # 5.6 standard errors
    # an output of 0.1 x, where x has variance 1, adds 0.1²
    assert losses[1] - losses[0] == pytest.approx(0.01, abs=0.004)


@pytest.mark.statistical
def test_the_loss_of_the_best_denoiser_is_the_weighted_posterior_variance(device):
    """E λ(σ) Var[y | x] = E (σ² + σ_d²)/(σ² σ_d²) · σ² STD²/(σ² + STD²), over ln σ ~ N(-1.2,
    1.2²)."""
    sigma = np.exp(-1.2 + 1.2 * np.linspace(-6, 6, 4001))
    weight = np.exp(-(np.linspace(-6, 6, 4001) ** 2) / 2)
    least = np.average((sigma**2 + 1) * STD**2 / (sigma**2 + STD**2), weights=weight)

    def model(x, c_noise):
        level = np.exp(4 * c_noise.numpy().astype("float64"))[:, None]
        c_skip, c_out, c_in = preconditioning(level, 1.0)
        noised = x.numpy() / c_in
        return Tensor((best(noised, level) - c_skip * noised) / c_out, device=device)

    y = Tensor(MEAN + STD * RNG.normal(size=(200_000, 1)), device=device)
    assert edm_loss(model, y, sigma_data=1.0).item() == pytest.approx(least, rel=0.02)


@pytest.mark.statistical
def test_log_noise_levels_have_the_mean_and_deviation_of_the_paper(device):
    seen = []

    def model(x, c_noise):
        seen.append(4 * c_noise.numpy())
        return x

    edm_loss(model, Tensor(np.zeros((50_000, 1)), device=device))
    assert seen[0].mean() == pytest.approx(-1.2, abs=0.03)
    assert seen[0].std() == pytest.approx(1.2, rel=0.02)


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────


def test_noise_levels_fall_from_the_largest_to_0_as_in_equation_5():
    sigmas = edm_sigmas(18)
    assert len(sigmas) == 19 and sigmas[-1] == 0
    assert (sigmas[0], sigmas[17]) == pytest.approx((80, 0.002))
    assert sigmas[9] == pytest.approx(
        (80 ** (1 / 7) + 9 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    )
    assert np.diff(sigmas).max() < 0


@pytest.mark.parametrize(
    "options", [{"steps": 1}, {"steps": 5, "sigma_min": 0.0}, {"steps": 5, "sigma_max": 0.001}]
)
def test_unsuitable_noise_levels_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 2, and 0 < sigma_min"):
        edm_sigmas(**options)


def error_of(steps, halved=False):
    """How far Heun's path from σ = 5 to 0.5 ends from the true one, x - MEAN ~ √(σ² + STD²)."""
    sigmas = np.geomspace(5, 0.5, steps + 1).tolist()
    x = sample(partial(heun_step, best), Tensor(np.array([[3.0]])), sigmas)
    return abs(x.item() - MEAN - (3.0 - MEAN) * np.sqrt((0.5**2 + STD**2) / (5**2 + STD**2)))


def test_heuns_method_is_of_second_order():
    errors = [error_of(steps) for steps in (8, 16, 32, 64)]
    assert [a / b for a, b in zip(errors, errors[1:], strict=False)][-2:] == pytest.approx(
        [4, 4], rel=0.1
    )


def test_18_steps_map_gaussian_noise_to_the_gaussian_data(device):
    """35 calls of D, as in the paper; each x = 80 n goes to MEAN + STD n."""
    calls = []

    def counted(x, sigma):
        calls.append(sigma)
        return best(x, sigma)

    n = RNG.normal(size=(100, 1))
    got = sample(partial(heun_step, counted), Tensor(80 * n, device=device), edm_sigmas(18)).numpy()
    assert len(calls) == 35
    np.testing.assert_allclose((got - MEAN) / STD, n, rtol=0.07, atol=0.01)
    finer = sample(partial(heun_step, best), Tensor(80 * n, device=device), edm_sigmas(36)).numpy()
    np.testing.assert_allclose((finer - MEAN) / STD, n, rtol=0.02, atol=0.01)


@pytest.mark.statistical
def test_loss_network_and_sampler_together_learn_a_gaussian(device):
    """Loss, network and sampler together: the least network for it, F = w x + b with c_noise
    unread."""
    from tinycv.optim import Adam

    layer = tinycv.nn.Linear(1, 1).to(device)
    # far from the end
    layer.weight.data, layer.bias.data = layer.weight.data * 0 + 1, layer.bias.data * 0 + 1
    optimizer, data = Adam(layer.parameters(), lr=0.02), np.random.default_rng(SEED + 1)
    for _ in range(300):
        y = Tensor((0.5 * data.normal(size=(512, 1))).astype(np.float32), device=device)
        optimizer.zero_grad()
        edm_loss(lambda x, c: layer(x), y).backward()
        optimizer.step()
    denoise = edm_denoiser(lambda x, c: layer(x))
    start = Tensor(80 * data.normal(size=(2000, 1)).astype(np.float32), device=device)
    assert sample(
        partial(heun_step, denoise), start, edm_sigmas(18)
    ).numpy().std() == pytest.approx(0.5, rel=0.2)


LEVELS = st.one_of(st.just(0.0), st.floats(1e-3, 6e4))


@given(
    LEVELS,
    st.floats(0.01, 100),
    st.sampled_from(["float16", "float32", "float64", "int", "uint8", "int64", "number"]),
)
def test_preconditioning_equals_its_formula_in_every_dtype(sigma, sigma_data, dtype):
    """Squares of noise levels leave a half's range, and wrap in whole numbers."""
    sigma = round(sigma) % 256 if "int" in dtype else sigma
    value = sigma if dtype in ("int", "number") else np.array([sigma], dtype)
    sigma = float(np.asarray(value).flat[0])
    total = sigma**2 + sigma_data**2
    exact = sigma_data**2 / total, sigma * sigma_data / total**0.5, 1 / total**0.5
    for found, right in zip(preconditioning(value, sigma_data), exact, strict=True):
        rtol, atol = {"float16": (8e-3, 1e-6), "float32": (1e-5, 0)}.get(dtype, (1e-12, 0))
        np.testing.assert_allclose(np.asarray(found, float).flat[0], right, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "sigma, sigma_data",
    [
        (-1.0, 0.5),
        (np.nan, 0.5),
        (np.inf, 0.5),
        (np.array([-1]), 0.5),
        (np.array([1.0, np.nan]), 0.5),
        (0, 0),
        (1.0, -1.0),
        (1.0, np.nan),
        (np.matrix([[1.0]]), 0.5),
        (np.ma.masked_array([1.0], [True]), 0.5),
        ("a", 0.5),
        (1.0, np.ones(2)),
    ],
)
def test_preconditioning_refuses_what_is_not_a_noise_level(sigma, sigma_data):
    with pytest.raises((TypeError, ValueError), match="preconditioning: sigma"):
        preconditioning(sigma, sigma_data)


@given(st.integers(2, 30), st.floats(-12, 2), st.floats(1e-9, 6), st.floats(-4, 20))
def test_sigmas_fall_from_end_to_end_whatever_rho(steps, low, decades, rho):
    least, most = 10.0**low, 10.0 ** (low + decades)
    if least == most:
        return
    *sigmas, zero = edm_sigmas(steps, least, most, 10.0**rho)
    assert len(sigmas) == steps and (sigmas[0], sigmas[-1], zero) == (most, least, 0.0)
    assert (
        all(np.isfinite(sigmas))
        and (np.diff(sigmas) <= 1e-15 * most).all()
        and min(sigmas) >= least * (1 - 1e-9)
    )
