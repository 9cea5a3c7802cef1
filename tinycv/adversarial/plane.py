"""Mode collapse in 2-D, by PacGAN's protocol: GAN, PacGAN, WGAN-GP, R1 and spectral norm compared.

    data       eight Gaussians on a ring or 25 on a grid (data/shapes.py);
               a mode counts as covered if one sample lies within 3 sigma of it
    PacGAN     the networks of the paper: a generator of four layers of 400 with batch norm against
               a discriminator of three maxout layers of 200; batches of 100
    small      three layers of 128 with ReLUs (leaky in D), and no batch norm; batches of 256

The batch size counts packs, as in PacGAN: where D sees four points at once, a batch has four times
as many points.
Lin et al. 2018, section 4.1; 2,500 samples are judged.
Read first: gan.py, turns.py.   See at work: demos/08_gan_2d.py.
With PacGAN's networks the grid is not reproduced: in the 6,000 steps of demo 08 --full (400,000 in
the paper) Pac4 puts a share of 0.019 of its points within 3 sigma, where the paper has 0.936
(demos/gallery/08_gan_2d_full.json).
differs: fresh points are drawn for every batch, where the paper has a fixed set of 100,000; the
learning rate of Adam falls from 2e-3 to 0 along a cosine, with betas 0 and 0.9, where the paper has
a constant 1e-4 with beta1 0.8 for 400,000 steps. All methods have the same settings here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.adversarial.gan import HINGE, R1, WASSERSTEIN, GradientPenalty, Packed
from tinycv.adversarial.networks import PointDiscriminator, PointGenerator, PointMLP
from tinycv.adversarial.turns import fit_gan
from tinycv.data.densities import Mixture
from tinycv.data.inputs import make_folder_of
from tinycv.data.loader import DrawnLoader
from tinycv.data.shapes import grid, ring
from tinycv.engine.arguments import choice, shown, size
from tinycv.engine.backend import Stopwatch, manual_seed
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import whole
from tinycv.nn.module import Module
from tinycv.nn.spectral_norm import spectral_norm
from tinycv.optim import Adam, warmup_cosine
from tinycv.show.metrics import Modes, modes_covered

# the width sigma of a mode -> the arguments in which a method differs from the plain GAN
METHODS: dict[str, Callable[[float], dict[str, Any]]] = {
    "GAN": lambda sigma: {},
    "Pac2": lambda sigma: {"pack": 2},
    "Pac4": lambda sigma: {"pack": 4},
    "WGAN-GP": lambda sigma: {"game": WASSERSTEIN, "penalty": GradientPenalty(0.1)},
    # the slope is measured in widths of a mode: the penalty is 10 |sigma dd/dx|²
    "R1": lambda sigma: {"penalty": R1(20 * sigma**2)},
    "spectral norm": lambda sigma: {"game": HINGE, "spectral": True},
}


def networks(
    pacgan: bool, pack: int = 1, spectral: bool = False
) -> tuple[PointGenerator | PointMLP, Module]:
    """A generator and a discriminator, of PacGAN's sizes or small ones."""
    pack = size(pack, "networks: pack", 1)
    pacgan, spectral = (
        choice(flag, f"networks: {name}", (True, False))
        for name, flag in (("pacgan", pacgan), ("spectral", spectral))
    )
    generator = PointGenerator() if pacgan else PointMLP(2, 2)
    discriminator = PointDiscriminator(2 * pack) if pacgan else PointMLP(2 * pack, 1, slope=0.2)
    discriminator = spectral_norm(discriminator) if spectral else discriminator
    return generator, Packed(discriminator, pack) if pack > 1 else discriminator


def learners(*sides: Module) -> list[Adam]:
    """Adam for each side, with the same settings for every method."""
    for side in sides:
        if not isinstance(side, Module):
            raise TypeError(f"learners: a side is {shown(side)}; it must be a Module")
    return [Adam(side.parameters(), lr=2e-3, betas=(0.0, 0.9)) for side in sides]


def play(
    density: Mixture,
    method: str,
    steps: int,
    moments: int = 1,
    seed: int = 0,
    pacgan: bool = False,
    device: str = "cpu",
    progress: bool = False,
    watch: Callable[[int, np.ndarray, Module], None] | None = None,
) -> list[tuple[int, Modes]]:
    """One trial of one of METHODS on a density (``ring()`` or ``grid()``). Returns a list of
    (step, Modes), one entry for each of ``moments`` evenly spaced evaluations.

    watch(step, points (2500, 2), discriminator) is called at each evaluation. Every method trains
    for the same number of steps.
    """
    steps, moments = whole("play", 1, steps=steps, moments=moments)
    seed, method = size(seed, "play: seed"), choice(method, "play: method", METHODS)
    if moments > steps:
        raise ValueError(
            f"play: steps is {steps} and moments is {moments}; moments must be at most steps"
        )
    sigma = check_density(density, "play: density")
    manual_seed(seed)
    options = METHODS[method](sigma)
    pack = options.pop("pack", 1)
    generator, discriminator = networks(pacgan, pack, options.pop("spectral", False))
    every = max(1, steps // moments)
    evaluations: list[tuple[int, Modes]] = []
    noise = np.random.default_rng(seed).standard_normal((2500, generator.latent)).astype(np.float32)

    def evaluate(generator: Module) -> dict[str, float]:
        points = generator(Tensor(noise, device=device)).numpy()
        step = every * (len(evaluations) + 1)
        modes = modes_covered(points, density.means, sigma)
        evaluations.append((step, modes))
        if watch is not None:
            watch(step, points, discriminator)
        return modes._asdict()

    loader = DrawnLoader(
        lambda n, rng: (density.sample(n, rng),), pack * (100 if pacgan else 256), every, seed
    )
    g_optimizer, d_optimizer = learners(generator, discriminator)
    fit_gan(
        generator,
        discriminator,
        g_optimizer,
        d_optimizer,
        loader,
        moments,
        seed=seed,
        evaluate=evaluate,
        schedule=warmup_cosine(every * moments),
        device=device,
        progress=progress,
        **options,
    )
    return evaluations


def check_density(density: Any, what: str) -> float:
    """The width of the modes of a density. TypeError unless it is a mixture with one width for all
    modes, such as ``ring()`` and ``grid()``."""
    width, means = getattr(density, "sigma", None), getattr(density, "means", None)
    if not callable(getattr(density, "sample", None)) or width is None or means is None:
        raise TypeError(
            f"{what} is {shown(density)}; it must be a Mixture with one sigma, such as ring() or "
            "grid()"
        )
    return width


def tournament(
    steps: int, trials: int, path: Path, pacgan: bool = False, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """``trials`` trials of each of METHODS on grid and ring. Returns {"grid, R1": (trials, 4), ...}
    with the columns modes, share, reverse KL and seconds.

    Every trial is written to ``path`` as soon as it is done. Trials that the file already holds are
    not repeated.
    """
    steps, trials = whole("tournament", 1, steps=steps, trials=trials)
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"tournament: path is {shown(path)}; it must be the path of a JSON file")
    path = Path(path)
    make_folder_of(path, "tournament: path")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = list(product((grid, ring), METHODS))
    sizes = "PacGAN's networks" if pacgan else "small networks"

    def key_of(density: Callable, method: str, trial: int) -> str:
        return f"{sizes}, {density.__name__}, {method}, {steps} steps, trial {trial}"

    for trial, (density, method) in product(range(trials), rows):
        key = key_of(density, method, trial)
        if key not in results:
            with Stopwatch(device) as watch:
                ((_, modes),) = play(density(), method, steps, 1, trial, pacgan, device)
            results[key] = [*modes, watch.seconds]
            text = json.dumps(results, indent=0)
            path.with_suffix(".part").write_text(text, encoding="utf-8")
            # replaced in one go, so that a killed process leaves the old file or the new one
            path.with_suffix(".part").replace(path)
            print(key, results[key], flush=True)
    return {
        f"{density.__name__}, {method}": np.array(
            [results[key_of(density, method, trial)] for trial in range(trials)]
        )
        for density, method in rows
    }
