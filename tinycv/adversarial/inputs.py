"""Input checks of fit_gan: its networks, optimisers and optional arguments, before the first batch.

Used by: turns.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinycv.adversarial.gan import Game
from tinycv.engine.arguments import shown, size
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import function
from tinycv.nn.module import Module
from tinycv.optim.averaged import EMA
from tinycv.optim.optimizer import Optimizer


def check_sides(
    generator: Module,
    discriminator: Module,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    game: Game,
) -> None:
    """TypeError unless networks, optimisers and game are what fit_gan takes. ValueError unless each
    optimiser holds the weights of its side, and the sides have no weights in common."""
    for name, value, kind in (
        ("generator", generator, Module),
        ("discriminator", discriminator, Module),
        ("g_optimizer", g_optimizer, Optimizer),
        ("d_optimizer", d_optimizer, Optimizer),
        ("game", game, Game),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"fit_gan: {name} is {shown(value)}; it must be a {kind.__name__}")
    latent_of(generator)
    _check_weights("g_optimizer", g_optimizer, generator)
    _check_weights("d_optimizer", d_optimizer, discriminator)
    common = set(generator.parameters()) & set(discriminator.parameters())
    if any(p.requires_grad for p in common):
        raise ValueError(
            "fit_gan: generator and discriminator have weights in common, and each side may change "
            "only its own: give them weights of their own"
        )


def latent_of(generator: Module) -> int:
    """The size of the noise that the generator takes: its attribute latent. ValueError or TypeError
    if there is none, or if it is no whole number above 0."""
    latent = getattr(generator, "latent", None)
    if latent is None:
        raise ValueError(
            "fit_gan: generator has no attribute latent, the size of its noise; set "
            "generator.latent = 64, for example"
        )
    return size(latent, "fit_gan: generator.latent", 1)


def _check_weights(name: str, optimizer: Optimizer, network: Module) -> None:
    """ValueError for an optimiser that lacks a weight of its side, or holds one of the other."""
    if set(optimizer.parameters()) != set(network.parameters()):
        raise ValueError(
            f"fit_gan: {name} must hold the parameters of the {type(network).__name__} that it "
            "trains, all of them and no others"
        )


def check_extras(
    loader: Any, penalty: Callable | None, schedule: Callable | None, evaluate: Callable | None
) -> None:
    """TypeError unless loader gives batches, and the others are functions or None."""
    for name, value in (("penalty", penalty), ("schedule", schedule), ("evaluate", evaluate)):
        if value is not None:
            function(value, f"fit_gan: {name}")
    if not hasattr(loader, "epoch"):
        raise TypeError(
            f"fit_gan: loader is {shown(loader)}; it must be a DataLoader, or a DrawnLoader"
        )


def check_ema(ema: EMA | None, generator: Module) -> None:
    """TypeError or ValueError unless ``ema`` averages the weights of the generator, or is None."""
    if ema is None:
        return
    if not isinstance(ema, EMA):
        raise TypeError(
            f"fit_gan: ema is {shown(ema)}; it must be an EMA of the generator, or None"
        )
    if ema.model is not generator:
        raise ValueError("fit_gan: ema must be of the generator: EMA(generator)")


def check_shapes(fake: Tensor, real: Tensor) -> None:
    """ValueError unless fakes have the shape of real examples."""
    if tuple(fake.shape) != tuple(real.shape):
        raise ValueError(
            f"fit_gan: generator made fakes of shape {tuple(fake.shape)}, and the real examples "
            f"have shape {tuple(real.shape)}; they must be equal"
        )
