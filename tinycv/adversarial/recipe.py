"""Training recipe for a small DCGAN, and how images are made with it: what demo 09 uses.

    Adam, lr 1e-3, betas 0 and 0.9     for both sides, with the non-saturating loss
    learning rates fall to 0           along a straight line, so that the game comes to rest
    averaged weights                   EMA with decay 0.99, of the generator

differs: Radford et al. 2016, section 4, use lr 2e-4 and beta1 0.5, and no average.
Read first: turns.py, networks.py.   See at work: demos/09_gan_digits.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.adversarial.turns import fit_gan
from tinycv.data import inputs
from tinycv.data.loader import DataLoader, DrawnLoader
from tinycv.engine.arguments import shown, size
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.optim import Adam, warmup_linear
from tinycv.optim.averaged import EMA
from tinycv.training.groups import Group
from tinycv.training.loop import History

AT_ONCE = 250  # the largest batch in which images are made


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
    parallel: str | Group | None = None,
) -> History:
    """Train both networks for ``epochs`` passes through ``loader``. All arguments as in
    ``fit_gan``.

    At the end the generator has the averaged weights and is in eval mode.
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
        parallel=parallel,
    )
    generator.eval().load_state_dict(ema.state_dict())
    return history


def images_of(generator: Module, noise: np.ndarray) -> np.ndarray:
    """The images (N, C, H, W), as a NumPy array, that the generator makes of noise (N, latent).

    They are made in batches of nearly equal size, on the device of the generator, under no_grad.
    """
    if not isinstance(generator, Module):
        raise TypeError(f"images_of: generator is {shown(generator)}; it must be a Module")
    noise = inputs.array(noise, "images_of: noise", "noise (N, latent)", ndim=2)
    if not len(noise):
        raise ValueError(f"images_of: noise has shape {noise.shape}; it must have at least one row")
    devices = [p.device for p in generator.parameters()]
    device = devices[0] if devices else "cpu"
    images = []
    batches = -(-len(noise) // AT_ONCE)  # rounded up
    with no_grad():
        for part in np.array_split(noise, batches):
            images.append(generator(Tensor(part, device=device)).numpy())
    return np.concatenate(images)
