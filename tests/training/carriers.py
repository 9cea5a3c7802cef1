"""Small trainings of 50 steps that every carrier of data parallelism must repeat: MLP, ViT, DCGAN
with batch norm, U-Net, and the DCGAN by fit_gan. MPI's ranks import this file too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, fit_gan
from tinycv.adversarial.gan import HINGE, R1
from tinycv.data import DataLoader
from tinycv.diffusion.unet import UNet
from tinycv.nn import functional as F
from tinycv.nn.spectral_norm import spectral_norm
from tinycv.optim import Adam
from tinycv.training import parallel
from tinycv.vision import ViT

STEPS, BATCH = 50, 7


def backward(group: parallel.Group | None, loss_of: Callable, *batch: np.ndarray) -> Tensor:
    """The loss of a batch and its gradients, by a group; without one, of the whole batch at
    once."""
    parts = [x if x.dtype.kind == "i" else Tensor(x) for x in batch]
    if group is not None:
        return group.backward(loss_of, *parts)
    loss = loss_of(*parts)
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


def classifier(model: nn.Module, shape: tuple, group: parallel.Group | None) -> list[float]:
    def loss_of(x, y):
        return F.cross_entropy(model(x), y)

    optimizer, losses = Adam(model.parameters(), lr=1e-3), []
    for x, y in batches(shape, classes=3):
        optimizer.zero_grad()
        losses.append(backward(group, loss_of, x, y).item())
        optimizer.step()
    return losses


def mlp(group: parallel.Group | None) -> list[float]:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to("float64")
    return classifier(model, (6,), group)


def vit(group: parallel.Group | None) -> list[float]:
    model = ViT(8, 4, 3, dim=8, depth=1, heads=2, dropout=0.0).to("float64")
    return classifier(model, (1, 8, 8), group)


def dcgan(group: parallel.Group | None) -> list[float]:
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
        losses.append(backward(group, d_loss, real, z).item())
        d_adam.step()
        g_adam.zero_grad()
        losses.append(backward(group, g_loss, z).item())
        g_adam.step()
    return losses


def unet(group: parallel.Group | None) -> list[float]:
    """Denoising: the network learns the noise."""
    model = UNet(widths=(4, 8), patch_size=1, heads=2, embed_dim=8).to("float64")
    optimizer, losses = Adam(model.parameters(), lr=1e-3), []

    def loss_of(x, noise, t):
        return ((model(x + noise, t) - noise) ** 2).mean()

    for x, noise, t in batches((1, 4, 4), (1, 4, 4), ()):
        optimizer.zero_grad()
        losses.append(backward(group, loss_of, x, noise, np.abs(t)).item())
        optimizer.step()
    return losses


def dcgan_by_fit_gan(group: parallel.Group | None, steps: int = STEPS, **options) -> list[float]:
    """The losses of both sides, step by step. At side 12 both networks have batch norm."""
    g = DCGANGenerator(latent=4, channels=1, side=12, width=4)
    d = DCGANDiscriminator(channels=1, side=12, width=4)
    d = spectral_norm(d) if "penalty" in options else d
    images = np.random.default_rng(1).normal(size=(10 * BATCH - 2, 1, 12, 12))
    history = fit_gan(
        g.to("float64"),
        d.to("float64"),
        Adam(g.parameters(), lr=2e-4),
        Adam(d.parameters(), lr=2e-4),
        DataLoader(images, batch_size=BATCH),
        steps // 10,
        progress=False,
        parallel=group,
        **options,
    )
    return np.ravel(history.losses).tolist()


def penalised(group: parallel.Group | None) -> list[float]:
    """20 steps with R1, whose second derivatives pass through batch norm and spectral norm."""
    return dcgan_by_fit_gan(group, 20, game=HINGE, penalty=R1(1.0), critic_steps=2)


TRAININGS = {
    "MLP": mlp,
    "ViT": vit,
    "DCGAN": dcgan,
    "U-Net": unet,
    "fit_gan": dcgan_by_fit_gan,
    "fit_gan with R1": penalised,
}


def curve(name: str, group: parallel.Group | None = None) -> list[float]:
    """The losses of a training by a group; without one, of the whole batch at once."""
    tinycv.manual_seed(0)
    return TRAININGS[name](group)
