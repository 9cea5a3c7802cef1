"""Guidance mixes the predictions with and without a label; inpainting keeps the known pixels and
fills in the rest to match them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.diffusion import guidance, inpaint, samplers
from tinycv.diffusion.denoising import denoiser
from tinycv.diffusion.guidance import guided, without_some
from tinycv.diffusion.inpaint import inpainting
from tinycv.diffusion.samplers import ddim_step, ddpm_step, sample, sampling_times
from tinycv.diffusion.schedule import cosine_schedule

SCHEDULE = cosine_schedule(1000)
LABELS = np.array([0, 1, 1])


# ── guidance ─────────────────────────────────────────────────────────────────────────────────────


def shift_by_label(x, t, label):
    """A denoiser that returns x + 10 for label 0, x + 20 for label 1, and x + 5 for no label
    (2)."""
    shift = np.array([10.0, 20.0, 5.0])[tinycv.Tensor(label).numpy()]
    return x + Tensor(shift[:, None].astype(x.dtype), device=x.device)


@pytest.mark.parametrize(
    "w, expected",
    [(0.0, [10, 20, 20]), (1.0, [15, 35, 35]), (-1.0, [5, 5, 5]), (3.0, [25, 65, 65])],
)
def test_guidance_extrapolates_from_no_label_to_the_label_by_w(device, w, expected):
    """w = 0 is the conditional model and w = -1 the unconditional one: the paper's convention."""
    x = Tensor(np.zeros((3, 1)), device=device)
    denoise = guided(shift_by_label, Tensor(LABELS, device=device), nobody=2, w=w)
    for t in (7, Tensor(np.array([7, 8, 9]), device=device)):
        assert denoise(x, t).numpy().ravel().tolist() == expected


def test_guiding_the_image_equals_guiding_the_noise():
    """(1 + w) D(x, c) - w D(x) is the image for the noise (1 + w) ε(x, c) - w ε(x) of equation 6 in
    the paper."""
    conditional, unconditional, x, w = 0.8, -0.5, Tensor(np.array([[0.3]])), 2.0

    def eps(x, t, label):
        return 0 * x + Tensor(np.where(np.asarray(label) == 0, conditional, unconditional)[:, None])

    got = guided(denoiser(eps, SCHEDULE, "eps"), np.array([0]), nobody=1, w=w)(x, 300)
    mixed = denoiser(
        lambda x, t: 0 * x + (1 + w) * conditional - w * unconditional, SCHEDULE, "eps"
    )(x, 300)
    assert got.item() == pytest.approx(mixed.item())


@pytest.mark.statistical
@pytest.mark.parametrize("options, share", [({"share": 0.2}, 0.2), ({}, 0.1)])
def test_labels_are_dropped_with_the_given_share_or_one_in_ten(device, options, share):
    labels = np.arange(20_000) % 10
    got = without_some(Tensor(labels, device=device), nobody=10, **options).numpy()
    assert (got == 10).mean() == pytest.approx(share, abs=0.015)
    assert (got[got != 10] == labels[got != 10]).all()


def test_no_label_is_dropped_at_share_0_and_every_label_at_share_1():
    assert without_some(Tensor(LABELS), 9, 0.0).numpy().tolist() == [0, 1, 1]
    assert without_some(Tensor(LABELS), 9, 1.0).numpy().tolist() == [9, 9, 9]


# ── inpainting ───────────────────────────────────────────────────────────────────────────────────

# data: pairs from a Gaussian of variance 1 and this correlation
RHO = 0.8


def denoise_pairs(x, t):
    """E[x_0 | x_t = x] for N(0, Σ): a Σ (a² Σ + σ² I)^{-1} x."""
    cov, a2 = np.array([[1, RHO], [RHO, 1]]), SCHEDULE.alpha_bar[int(t[0].item())]
    gain = a2**0.5 * cov @ np.linalg.inv(a2 * cov + (1 - a2) * np.eye(2))
    return x @ Tensor(gain.T.astype(x.dtype), device=x.device)


def painted(device, step, repeats, count=4000, steps=50):
    """Pairs of which the first number is known to be 1.5, and the second is filled in."""
    known = Tensor(np.tile([True, False], (count, 1)), device=device)
    image = Tensor(np.tile([1.5, 99.0], (count, 1)), device=device)
    start = Tensor(np.random.default_rng(SEED).normal(size=(count, 2)), device=device)
    step = inpainting(partial(step, denoise_pairs, SCHEDULE), SCHEDULE, image, known, repeats)
    return sample(step, start, sampling_times(SCHEDULE, steps)).numpy()


@pytest.mark.parametrize("step", [ddpm_step, ddim_step])
@pytest.mark.parametrize("repeats", [1, 3])
def test_known_pixels_do_not_change(device, step, repeats):
    x = painted(device, step, repeats, count=5, steps=10)
    assert (x[:, 0] == 1.5).all()
    assert np.abs(x[:, 1]).max() < 10  # the 99 behind the mask has not been used


@pytest.mark.statistical
def test_repeats_make_the_unknown_part_match_the_known_part(device):
    """Given 1.5, the other number of the pair is N(1.5 RHO, 1 - RHO²). Without repeats its mean is
    too small."""
    once, often = (
        painted(device, partial(ddpm_step, variance="small"), repeats)[:, 1] for repeats in (1, 10)
    )
    assert often.mean() == pytest.approx(1.5 * RHO, abs=0.12)
    assert often.var() == pytest.approx(1 - RHO**2, rel=0.35)
    assert once.mean() < often.mean() - 0.3


def test_a_fully_known_image_is_returned_unchanged():
    image = Tensor(np.array([[0.25, -0.5]]))
    step = inpainting(
        partial(ddpm_step, denoise_pairs, SCHEDULE), SCHEDULE, image, Tensor(np.ones((1, 2), bool))
    )
    assert (
        sample(step, tinycv.randn(1, 2, dtype="float64"), sampling_times(SCHEDULE, 10)).numpy()
        == image.numpy()
    ).all()


@pytest.mark.statistical
def test_a_repeated_step_starts_at_the_noise_level_of_its_time(monkeypatch):
    """The second run of a step sees the same noise level as the first: a² x_0² + σ² = 1 for x_0 of
    ±1."""
    seen = []
    rng = np.random.default_rng(SEED)
    monkeypatch.setattr(inpaint, "randn_like", lambda x: Tensor(rng.normal(size=x.shape)))

    def watched(x, t, s):
        seen.append(x.numpy().std())
        return x

    image = Tensor(np.tile([[1.0], [-1.0]], (20_000, 1)))
    step = inpainting(watched, SCHEDULE, image, Tensor(np.ones(image.shape, bool)), repeats=3)
    step(image, 500, 300)
    assert seen[1:] == pytest.approx([1, 1], rel=0.02)


def test_all_noise_comes_from_the_backends_generator():
    assert guidance.backend is tinycv.engine.backend
    assert inpaint.randn_like is samplers.randn_like is tinycv.randn_like
