"""SDEs and their samplers on a Gaussian N(0, v), where the distribution at the end has a closed
form, and the error falls with the step size as the order of the method says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mutants import mutant
from near import near
from seeds import SEED

import tinycv
from tinycv.data.shapes import checkerboard, eight_gaussians, gaussian
from tinycv.diffusion import samplers
from tinycv.diffusion import sde as module
from tinycv.diffusion.sde import VE, VP, SubVP, euler_maruyama, predictor_corrector
from tinycv.engine.backend import to_numpy

SDES = {
    "VE": lambda m: m.VE(0.1, 5.0),
    "VP": lambda m: m.VP(0.1, 8.0),
    "SubVP": lambda m: m.SubVP(0.1, 8.0),
}
V = 0.6  # the variance of the data


@pytest.fixture(params=SDES)
def name(request):
    return request.param


def variance(sde, t):
    scale, std = sde.marginal(t)
    return scale**2 * V + std**2


def gaussian_score(sde):
    return lambda x, t: -x / variance(sde, t)[:, None]


# ── the processes ────────────────────────────────────────────────────────────────────────────────


def check_marginal(m, name):
    """scale' = a scale and (std²)' = 2 a std² + g², from scale(0) = 1 and std(0) = 0."""
    sde, h = SDES[name](m), 1e-5
    assert sde.marginal(0.0) == (1, 0)
    for t in (0.1, 0.5, 0.9):
        (s0, d0), (s, d), (s1, d1) = (sde.marginal(u) for u in (t - h, t, t + h))
        assert (s1 - s0) / (2 * h) == pytest.approx(sde.rate(t) * s, rel=1e-7, abs=1e-9)
        assert (d1**2 - d0**2) / (2 * h) == pytest.approx(
            2 * sde.rate(t) * d * d + sde.diffusion(t) ** 2, rel=1e-7
        )


def test_signal_and_noise_levels_solve_the_moment_equations(name):
    check_marginal(module, name)


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("VE", "math.sqrt(2 * self.log_ratio)", "math.sqrt(self.log_ratio)"),
        ("VP", "return -0.5 * self.beta(t)", "return -self.beta(t)"),
        ("VP", "0.5 * (self.beta_max", "(self.beta_max"),
        ("SubVP", "-math.expm1(-2 * self.integral(t))", "-math.expm1(-self.integral(t))"),
    ],
)
def test_a_mistake_in_a_process_is_seen(name, right, wrong):
    with pytest.raises(AssertionError):
        check_marginal(mutant(module, right, wrong), name)


def test_times_may_be_numbers_or_arrays_or_tensors(name, device):
    sde, t = SDES[name](module), np.array([0.1, 0.6])
    for given in (t, tinycv.Tensor(t, device=device)):
        for i, value in enumerate(t):
            np.testing.assert_allclose(
                [to_numpy(getattr(p, "data", p))[i] for p in sde.marginal(given)],
                sde.marginal(float(value)),
                rtol=1e-12,
            )


def test_perturb_uses_the_levels_of_marginal(name, device):
    sde = SDES[name](module)
    x, t = tinycv.randn(3, 2, 2, device=device), tinycv.tensor([0.2, 0.5, 0.9], device=device)
    z = tinycv.randn(3, 2, 2, device=device)
    scale, std = sde.marginal(0.5)
    near(sde.perturb(x, t, z).numpy()[1], scale * x.numpy()[1] + std * z.numpy()[1])


@pytest.mark.parametrize(
    "density", [gaussian([0.5, -1], [[1, 0.4], [0.4, 0.6]]), eight_gaussians(), checkerboard()]
)
def test_score_of_is_the_score_of_scaled_and_noised_points(name, density):
    sde = SDES[name](module)
    scale, std = sde.marginal(0.4)
    x, h = np.random.default_rng(0).normal(size=(5, 2)), 1e-6

    # the density of scale X + std z, by change of variables
    def log_p(x):
        return density.log_density(x / scale, std / scale)

    slope = np.stack([(log_p(x + h * e) - log_p(x - h * e)) / (2 * h) for e in np.eye(2)], axis=-1)
    np.testing.assert_allclose(
        sde.score_of(density)(x, np.full(5, 0.4)), slope, rtol=1e-5, atol=1e-6
    )


@pytest.mark.statistical
def test_the_prior_is_the_end_of_the_process(name):
    sde = SDES[name](module)
    tinycv.manual_seed(SEED)
    x, std = sde.prior((20_000, 2), np), sde.marginal(1.0)[1]
    assert x.std() == pytest.approx(std, rel=0.02)
    log_p = gaussian([0, 0], std**2 * np.eye(2)).log_density(x.astype(float)[:50])
    np.testing.assert_allclose(sde.log_prior(x.astype(float)[:50]), log_p, rtol=1e-9)


# ── the samplers: exact variances, by the weight of the noise of each step at the end ─────────────


@pytest.fixture
def run(monkeypatch):
    """The variance at the end of a linear sampler that began with ``start``. Row i of x is the
    noise of step i, the last is the beginning."""

    def run(m, process, times, start):
        steps = iter(range(10**6))
        monkeypatch.setattr(
            m, "standard_normal", lambda shape, like, dtype: np.eye(*shape, -next(steps))
        )
        x = np.zeros((len(times), 1))
        x[-1] = math.sqrt(start)
        return float((m.euler_maruyama(process, x, times)[0] ** 2).sum())

    return run


def errors(run, m, name, backward, steps):
    sde = SDES[name](m)
    process, a, b = (sde.reverse(gaussian_score(sde)), 0.9, 0.3) if backward else (sde, 0.3, 0.9)
    return [
        run(m, process, np.linspace(a, b, n + 1), variance(sde, a)) / variance(sde, b) - 1
        for n in steps
    ]


@pytest.mark.parametrize("backward", [False, True])
def test_halving_the_step_of_euler_maruyama_halves_its_error(run, name, backward):
    coarse, fine = errors(run, module, name, backward, (200, 400))
    assert abs(fine) < 0.05
    assert coarse / fine == pytest.approx(2, rel=0.1)


def check_steps(run, m, name):
    """The variance after six coarse steps of the reverse SDE, computed by its recursion."""
    sde, times = SDES[name](m), np.linspace(0.8, 0.2, 7)
    expected = 1.3
    for t, dt in zip(times[:-1], np.diff(times), strict=True):
        slope = sde.rate(t) + sde.diffusion(t) ** 2 / variance(sde, t)
        expected = (1 + slope * dt) ** 2 * expected + sde.diffusion(t) ** 2 * abs(dt)
    assert run(m, sde.reverse(gaussian_score(sde)), times, 1.3) == pytest.approx(expected, rel=1e-9)


def test_every_step_of_the_reverse_sde_follows_its_formula(run, name):
    check_steps(run, module, name)


@pytest.mark.parametrize(
    "right, wrong",
    [
        (
            "self.sde.drift(x, t) - self.diffusion(t) ** 2",
            "self.sde.drift(x, t) + self.diffusion(t) ** 2",
        ),
        (
            "self.sde.drift(x, t) - self.diffusion(t) ** 2",
            "-self.sde.drift(x, t) - self.diffusion(t) ** 2",
        ),
        (
            "self.sde.drift(x, t) - self.diffusion(t) ** 2",
            "self.sde.drift(x, t) - 0.5 * self.diffusion(t) ** 2",
        ),
        ("math.sqrt(abs(dt)) * standard", "abs(dt) * standard"),
        ("process.drift(x, t) * dt", "process.drift(x, then) * dt"),
        ("process.diffusion(t) * math", "process.diffusion(then) * math"),
    ],
)
def test_a_wrong_sign_a_missing_half_and_a_time_off_by_one_are_seen(run, right, wrong):
    with pytest.raises(AssertionError):
        check_steps(run, mutant(module, right, wrong), "VP")


def test_a_schedule_off_by_one_is_seen(run, monkeypatch):
    right, wrong = "zip(times, times[1:], strict", "zip(times[1:], times[2:], strict"
    monkeypatch.setattr(module, "sample_and_keep", mutant(samplers, right, wrong).sample_and_keep)
    with pytest.raises(AssertionError):
        check_steps(run, module, "VP")


def check_corrector(monkeypatch, m, name):
    """One predictor step and one Langevin step at the time where it ends, with known noise, by
    algorithm 1 of Song et al. 2021."""
    sde, rng, (t, then), snr = SDES[name](m), np.random.default_rng(0), (0.7, 0.5), 0.3
    x, *noise = rng.normal(size=(3, 5, 2))
    drawn = iter(noise)
    monkeypatch.setattr(m, "standard_normal", lambda *_: next(drawn))
    found = m.predictor_corrector(sde, gaussian_score(sde), x, (t, then), snr)
    g2 = sde.diffusion(t) ** 2
    x = (
        x
        + (sde.rate(t) * x + g2 * x / variance(sde, t)) * (then - t)
        + math.sqrt(g2 * (t - then)) * noise[0]
    )
    slope = -x / variance(sde, then)
    step = (
        2
        * (snr * np.linalg.norm(noise[1], axis=1).mean() / np.linalg.norm(slope, axis=1).mean())
        ** 2
    )
    np.testing.assert_allclose(found, x + step * slope + math.sqrt(2 * step) * noise[1], rtol=1e-9)


def test_predictor_and_corrector_steps_follow_algorithm_1(monkeypatch, name):
    check_corrector(monkeypatch, module, name)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("corrector_step(sde, score, snr, x, s)", "corrector_step(sde, score, snr, x, t)"),
        ("step = 2 * (snr", "step = (snr"),
        ("(2 * step) ** 0.5 * z", "step ** 0.5 * z"),
        ("_length(z) / _length(slope)", "_length(slope) / _length(z)"),
        ("sum(axis=-1) ** 0.5).mean()", "sum(axis=-1).mean() ** 0.5)"),
    ],
)
def test_a_mistake_in_the_corrector_is_seen(monkeypatch, right, wrong):
    with pytest.raises(AssertionError):
        check_corrector(monkeypatch, mutant(module, right, wrong), "VP")


@pytest.mark.statistical
def test_corrector_steps_reduce_the_error_of_the_predictor(name):
    sde, x = SDES[name](module), np.random.default_rng(SEED).normal(size=(20_000, 2))
    start = math.sqrt(variance(sde, 1.0)) * x
    spread = []
    for corrections in (0, 4):
        tinycv.manual_seed(SEED)
        end = predictor_corrector(
            sde, gaussian_score(sde), start, np.linspace(1, 0.01, 8), 0.16, corrections
        )
        spread.append(abs(end.var() / variance(sde, 0.01) - 1))
    assert spread[0] - spread[1] > 0.025 and spread[1] < 0.11


@pytest.mark.statistical
def test_the_reverse_sde_turns_noise_into_data_on_any_device(device):
    density, sde = eight_gaussians(), VE(0.02, 8.0)
    tinycv.manual_seed(SEED)
    x = tinycv.Tensor(sde.prior((600, 2), np), device=device)
    end, path = euler_maruyama(
        sde.reverse(sde.score_of(density)), x, np.linspace(1, 0, 120), keep_every=40
    )
    end = to_numpy(end)
    assert end.dtype == np.float32 and len(path) == 3 and np.abs(to_numpy(path[0])).max() > 15
    gaps = np.linalg.norm(end[:, None] - density.means, axis=-1)
    assert (gaps.min(axis=1) < 4 * density.sigma).mean() > 0.98
    assert np.bincount(gaps.argmin(axis=1), minlength=8).min() > 30  # 75 on average


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: VE(1.0, 0.5), "below sigma_max"),
        (lambda: VP(3, 1), "at most beta_max"),
        (lambda: SubVP(0, 0), "at most beta_max"),
    ],
)
def test_a_process_without_noise_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
