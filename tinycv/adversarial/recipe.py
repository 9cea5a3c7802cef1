"""How a small DCGAN is trained, and asked for images: the recipe of demo 09.

    Adam, lr 1e-3, beta 0, 0.9         for both sides, with the non-saturating loss
    rates fall to 0 along a line       the game comes to rest
    averaged weights are kept          EMA 0.99, of the generator

differs: Radford et al. 2016, section 4, have lr 2e-4 and beta1 0.5, and no average.
Read before: turns.py, networks.py.   See at work: demos/09_gan_digits.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.adversarial.turns import fit_gan
from tinycv.data import inputs as given
from tinycv.data.loader import DataLoader, DrawnLoader
from tinycv.engine.arguments import shown, size
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.optim import Adam, warmup_linear
from tinycv.optim.averaged import EMA
from tinycv.training.loop import History

AT_ONCE = 250  # images made in one batch, at most


def train_dcgan(
    generator: Module,
    discriminator: Module,
    loader: DataLoader | DrawnLoader,
    epochs: int,
    *,
    seed: int = 0,
    evaluate: Callable[[Module], dict[str, Any]] | None = None,
    evaluate_every: int = 1,
    device: str | None = None,
) -> History:
    """Play ``epochs`` passes through ``loader``. All arguments as ``fit_gan``'s.

    Leaves the averaged weights in the generator, in eval mode.
    """
    for name, side in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(side, Module):
            raise TypeError(f"train_dcgan: {name} is {shown(side)}; it must be a Module")
    if not isinstance(loader, DataLoader | DrawnLoader):
        raise TypeError(
            f"train_dcgan: loader is {shown(loader)}; it must be a DataLoader, or a DrawnLoader"
        )
    epochs = size(epochs, "train_dcgan: epochs", 1)
    ema = EMA(generator, decay=0.99)
    history = fit_gan(
        generator,
        discriminator,
        Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9)),
        Adam(discriminator.parameters(), lr=1e-3, betas=(0.0, 0.9)),
        loader,
        epochs,
        ema=ema,
        seed=seed,
        schedule=warmup_linear(epochs * len(loader)),
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        device=device,
    )
    generator.eval().load_state_dict(ema.state_dict())
    return history


def images_of(generator: Module, noise: np.ndarray) -> np.ndarray:
    """What the generator makes of noise (N, latent): images (N, C, H, W), as NumPy.

    They are made in nearly equal batches, on the generator's device, and nothing is recorded.
    """
    if not isinstance(generator, Module):
        raise TypeError(f"images_of: generator is {shown(generator)}; it must be a Module")
    noise = given.array(noise, "images_of: noise", "noise (N, latent)", ndim=2)
    if not len(noise):
        raise ValueError(f"images_of: noise has shape {noise.shape}; it must have a row at least")
    devices = [p.device for p in generator.parameters()]
    device = devices[0] if devices else "cpu"
    made = []
    with no_grad():
        for part in np.array_split(noise, -(-len(noise) // AT_ONCE)):
            made.append(generator(Tensor(part, device=device)).numpy())
    return np.concatenate(made)
