"""GANs in the plane: what each method changes, when a trial is evaluated, and that a trial is
reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from tinycv import nn
from tinycv.adversarial.gan import HINGE, R1, WASSERSTEIN, GradientPenalty, Packed
from tinycv.adversarial.plane import METHODS, networks, play, tournament
from tinycv.data.shapes import grid, ring
from tinycv.show.metrics import Modes


def test_each_method_has_the_arguments_that_its_name_says():
    arguments = {name: options(0.05) for name, options in METHODS.items()}
    assert (
        arguments["GAN"] == {}
        and arguments["Pac2"] == {"pack": 2}
        and arguments["Pac4"] == {"pack": 4}
    )
    assert arguments["WGAN-GP"]["game"] is WASSERSTEIN and isinstance(
        arguments["WGAN-GP"]["penalty"], GradientPenalty
    )
    assert isinstance(arguments["R1"]["penalty"], R1) and arguments["R1"][
        "penalty"
    ].weight == pytest.approx(0.05)
    assert arguments["spectral norm"] == {"game": HINGE, "spectral": True}


@pytest.mark.parametrize("pacgan", [False, True])
def test_networks_are_packed_and_have_spectral_norm_on_request(pacgan):
    generator, discriminator = networks(pacgan, pack=3, spectral=True)
    assert generator.latent == 2 and isinstance(discriminator, Packed) and discriminator.size == 3
    inner = [m for m in discriminator.modules() if isinstance(m, nn.Linear)]
    assert len(inner) == 4 == sum(isinstance(m, nn.SpectralNorm) for m in discriminator.modules())
    assert inner[0].weight.shape[1] == 6


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_is_evaluated_at_every_moment_and_is_reproducible(method, device):
    def watch(step, points, discriminator):
        looks.append((step, points.shape))

    looks = []
    evaluations = play(ring(), method, 6, 2, seed=3, device=device, watch=watch)
    assert looks == [(3, (2500, 2)), (6, (2500, 2))] and [step for step, _ in evaluations] == [3, 6]
    assert play(ring(), method, 6, 2, seed=3, device=device) == evaluations


def test_the_judged_points_depend_on_the_seed():
    points = {}
    for seed in (0, 1):
        play(
            grid(),
            "GAN",
            1,
            seed=seed,
            watch=lambda step, p, d, seed=seed: points.update({seed: p}),
        )
    assert not np.allclose(points[0], points[1])


def test_a_tournament_resumes_without_repeating_trials(tmp_path, monkeypatch):
    path = tmp_path / "new" / "trials.json"
    first = tournament(2, 1, path)
    assert set(first) == {f"{name}, {method}" for name in ("grid", "ring") for method in METHODS}
    monkeypatch.setattr(
        "tinycv.adversarial.plane.play",
        lambda density, method, steps, moments, trial, *_: (
            [(steps, Modes(trial, 0.5, 0.25))] if trial else pytest.fail("it was played before")
        ),
    )
    second = tournament(2, 2, path)
    for row, values in second.items():
        assert values.shape == (2, 4) and values[1, :3].tolist() == [1, 0.5, 0.25]
        np.testing.assert_array_equal(values[0], first[row][0])
    assert not list(path.parent.glob("*.part"))
    # trials of the other networks are stored under other keys, so they are run
    with pytest.raises(pytest.fail.Exception, match="played before"):
        tournament(2, 1, path, pacgan=True)
