"""Four small trainings, each of 50 steps, that every carrier of data parallelism must repeat: MLP,
ViT, DCGAN with batch norm, U-Net. MPI's ranks import this file too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial.networks import DCGANDiscriminator, DCGANGenerator
from tinycv.diffusion.unet import UNet
from tinycv.nn import functional as F
from tinycv.optim import Adam
from tinycv.vision import ViT

STEPS, BATCH = 50, 7
Backward = Callable[..., Tensor]  # backward(loss_of, *batch) -> loss


def alone(loss_of: Callable, *batch: np.ndarray) -> Tensor:
    """The whole batch at once, without a group."""
    loss = loss_of(*(x if x.dtype.kind == "i" else Tensor(x) for x in batch))
    loss.backward()
    return loss


def batches(*shapes: tuple, classes: int = 0):
    """STEPS batches of random numbers and, with classes, of labels."""
    generator = np.random.default_rng(1)
    for _ in range(STEPS):
        arrays = [generator.normal(size=(BATCH, *shape)) for shape in shapes]
        if classes:
            arrays.append(generator.integers(0, classes, BATCH))
        yield arrays


def classifier(model: nn.Module, shape: tuple, backward: Backward) -> list[float]:
    def loss_of(x, y):
        return F.cross_entropy(model(x), y)

    optimizer, losses = Adam(model.parameters(), lr=1e-3), []
    for x, y in batches(shape, classes=3):
        optimizer.zero_grad()
        losses.append(backward(loss_of, x, y).item())
        optimizer.step()
    return losses


def mlp(backward: Backward) -> list[float]:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to("float64")
    return classifier(model, (6,), backward)


def vit(backward: Backward) -> list[float]:
    model = ViT(8, 4, 3, dim=8, depth=1, heads=2, dropout=0.0).to("float64")
    return classifier(model, (1, 8, 8), backward)


def dcgan(backward: Backward) -> list[float]:
    """The two losses take turns, as in adversarial/turns.py."""
    g = DCGANGenerator(latent=4, channels=1, side=8, width=4).to("float64")
    d = DCGANDiscriminator(channels=1, side=8, width=4).to("float64")
    g_adam, d_adam = Adam(g.parameters(), lr=2e-4), Adam(d.parameters(), lr=2e-4)
    losses = []

    def d_loss(real, z):
        fake = g(z).detach()
        return F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean()

    def g_loss(z):
        return F.softplus(-d(g(z))).mean()

    for z, real in batches((4,), (1, 8, 8)):
        d_adam.zero_grad()
        losses.append(backward(d_loss, real, z).item())
        d_adam.step()
        g_adam.zero_grad()
        losses.append(backward(g_loss, z).item())
        g_adam.step()
    return losses


def unet(backward: Backward) -> list[float]:
    """Denoising: the network learns the noise."""
    model = UNet(widths=(4, 8), patch_size=1, heads=2, embed_dim=8).to("float64")
    optimizer, losses = Adam(model.parameters(), lr=1e-3), []

    def loss_of(x, noise, t):
        return ((model(x + noise, t) - noise) ** 2).mean()

    for x, noise, t in batches((1, 4, 4), (1, 4, 4), ()):
        optimizer.zero_grad()
        losses.append(backward(loss_of, x, noise, np.abs(t)).item())
        optimizer.step()
    return losses


TRAININGS = {"MLP": mlp, "ViT": vit, "DCGAN": dcgan, "U-Net": unet}


def curve(name: str, group=None) -> list[float]:
    """The losses of a training by a group; without one, of the whole batch at once."""
    tinycv.manual_seed(0)
    return TRAININGS[name](alone if group is None else partial(_by, group))


def _by(group, loss_of: Callable, *batch: np.ndarray) -> Tensor:
    return group.backward(loss_of, *(x if x.dtype.kind == "i" else Tensor(x) for x in batch))
