"""An oracle for models of video: films of linear motion are a Gaussian process, whose best denoiser
is known, and with it EDM's sampler makes films with exact velocities.

    p_t = p_0 + v t,   p_0 ~ N(M, S²),   v ~ N(V, U²)        for each axis of each film
    p ~ N(m, K),       m_t = M + V t,    K_st = S² + U² s t

If some frames are given, the others have a conditional mean and covariance C, and the best denoiser
of the others is D(x; σ) = mean + C (C + σ² I)⁻¹ (x - mean).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from seeds import SEED

from tinycv import Tensor
from tinycv.diffusion.edm import edm_denoiser, edm_sigmas, heun_step, preconditioning
from tinycv.diffusion.samplers import sample

M, S, V, U = 8.0, 3.0, 0.5, 1.2
FRAMES, AXES = 8, 2
TIME = np.arange(FRAMES)
MEAN = M + V * TIME
COVARIANCE = S**2 + U**2 * np.outer(TIME, TIME)
# The noise of the start has to hide the films, whose coordinates go up to about 50.
LARGEST = 2000.0
# Rounding in float64, of numbers up to LARGEST. The sampler adds no error to the velocities: what
# is not a straight line has no variance, and the last step of Heun's method removes it.
EXACT = 1e-9


def conditional(given):
    """The mean (N, T - g, axes) and covariance of the frames after the given ones, (N, g, axes).
    The given frames may determine all others, so the inverse is a pseudo-inverse."""
    g = given.shape[1]
    gain = COVARIANCE[g:, :g] @ np.linalg.pinv(COVARIANCE[:g, :g], rcond=1e-10)
    mean = MEAN[g:, None] + np.einsum("ts,nsd->ntd", gain, given - MEAN[:g, None])
    return mean, COVARIANCE[g:, g:] - gain @ COVARIANCE[:g, g:]


def best_denoiser(given):
    """D(x, σ) for films (N, T - g, axes) whose first frames are given."""
    mean, covariance = conditional(given)
    variances, axes = np.linalg.eigh(covariance)
    variances = np.where(variances > 1e-9, variances, 0.0)  # the others are rounding

    def denoise(x, sigma):
        share = variances / (variances + float(np.asarray(sigma).flat[0]) ** 2)
        pull = axes * share @ axes.T  # C (C + σ² I)⁻¹
        return mean + np.einsum("ts,nsd->ntd", pull, x - mean)

    return denoise


def as_network(denoise, sigma_data):
    """The network F for which edm_denoiser(F) is this denoiser."""

    def network(x, c_noise):
        sigma = float(np.exp(4 * c_noise.numpy().flat[0]))
        c_skip, c_out, c_in = preconditioning(sigma, sigma_data)
        noised = (x if isinstance(x, np.ndarray) else x.numpy()) / c_in
        return (denoise(noised, sigma) - c_skip * noised) / c_out

    return network


def truth(n, seed=SEED):
    rng = np.random.default_rng(seed)
    start = M + S * rng.normal(size=(n, 1, AXES))
    return start + (V + U * rng.normal(size=(n, 1, AXES))) * TIME[:, None]


def made(given, steps=30, seed=SEED + 1, denoise=None):
    """Films (N, T, axes) whose first frames are given and whose others are sampled."""
    n, g = given.shape[:2]
    noise = np.random.default_rng(seed).normal(size=(n, FRAMES - g, AXES))
    step = partial(heun_step, denoise or best_denoiser(given))
    rest = sample(step, LARGEST * noise, edm_sigmas(steps, sigma_max=LARGEST))
    return np.concatenate([given, np.asarray(rest)], axis=1)


@pytest.mark.parametrize("given", [2, 3, 5])
def test_with_two_frames_or_more_every_velocity_is_the_given_one(given):
    films = truth(50)
    velocity = np.diff(made(films[:, :given]), axis=1)
    expected = np.diff(films, axis=1)
    np.testing.assert_allclose(velocity, expected, atol=EXACT)


def test_the_same_films_are_made_through_the_preconditioning_of_edm():
    films = truth(50)
    network = as_network(best_denoiser(films[:, :3]), sigma_data=0.5)
    found = made(films[:, :3], denoise=edm_denoiser(network, 0.5))
    np.testing.assert_allclose(np.diff(found, axis=1), np.diff(films, axis=1), atol=EXACT)


@pytest.mark.parametrize("given", [0, 1])
def test_with_fewer_frames_every_film_still_moves_in_a_straight_line(given):
    """The velocity is then the sampler's choice, but one for the whole film."""
    velocity = np.diff(made(truth(50)[:, :given]), axis=1)  # (N, T - 1, axes)
    np.testing.assert_allclose(velocity, velocity[:, :1].repeat(FRAMES - 1, axis=1), atol=EXACT)
    assert velocity[:, 0].std() > 0.5


@pytest.mark.statistical
def test_with_one_frame_the_velocities_have_their_mean_and_deviation():
    velocity = np.diff(made(truth(4000)[:, :1]), axis=1)[:, 0].reshape(-1)
    assert velocity.mean() == pytest.approx(V, abs=0.08)  # 6 standard errors
    assert velocity.std() == pytest.approx(U, rel=0.06)


@pytest.mark.statistical
def test_without_given_frames_starts_and_velocities_have_theirs():
    films = made(truth(4000)[:, :0])
    velocity, start = np.diff(films, axis=1)[:, 0].reshape(-1), films[:, 0].reshape(-1)
    assert (start.mean(), velocity.mean()) == pytest.approx((M, V), abs=0.2)
    assert (start.std(), velocity.std()) == pytest.approx((S, U), rel=0.06)
    assert np.corrcoef(start, velocity)[0, 1] == pytest.approx(0, abs=0.06)


def test_the_conditional_mean_is_the_straight_line_through_the_given_frames():
    films = truth(20)
    mean, covariance = conditional(films[:, :3])
    np.testing.assert_allclose(mean, films[:, 3:], atol=EXACT)
    assert np.abs(covariance).max() < EXACT


def test_tensors_give_the_same_films(device):
    films = truth(5)
    denoise = best_denoiser(films[:, :3])

    def on_device(x, sigma):
        return Tensor(denoise(x.numpy(), sigma.numpy()), device=device)

    noise = Tensor(np.random.default_rng(0).normal(size=(5, 5, AXES)), device=device)
    rest = sample(partial(heun_step, on_device), 80.0 * noise, edm_sigmas(6)).numpy()
    np.testing.assert_allclose(rest, films[:, 3:], atol=EXACT)
