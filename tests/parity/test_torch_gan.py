"""GAN losses, penalties, spectral norm and a whole training compared with PyTorch; and
the arithmetic of convolutions for every small stride, padding, output padding and number of
groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, equal, randomised

import tinycv
from tinycv import nn
from tinycv.adversarial import gan
from tinycv.adversarial.turns import fit_gan
from tinycv.data import DataLoader
from tinycv.engine import backend
from tinycv.nn import functional as F
from tinycv.optim import Adam

TF = torch.nn.functional
RNG = np.random.default_rng(0)
REAL, FAKE = 3 * RNG.normal(size=(2, 9, 1))


def bce(logits, target):
    return TF.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


# (ours, theirs of the discriminator, of the generator)
GAMES = {
    "minimax": (gan.MINIMAX, lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda f: -bce(f, 0.0)),
    "non-saturating": (
        gan.NON_SATURATING,
        lambda r, f: bce(r, 1.0) + bce(f, 0.0),
        lambda f: bce(f, 1.0),
    ),
    "least squares": (
        gan.LEAST_SQUARES,
        lambda r, f: (TF.mse_loss(r, torch.ones_like(r)) + TF.mse_loss(f, 0 * f)) / 2,
        lambda f: TF.mse_loss(f, torch.ones_like(f)) / 2,
    ),
    "hinge": (
        gan.HINGE,
        lambda r, f: TF.relu(1 - r).mean() + TF.relu(1 + f).mean(),
        lambda f: -f.mean(),
    ),
    "Wasserstein": (gan.WASSERSTEIN, lambda r, f: f.mean() - r.mean(), lambda f: -f.mean()),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GAMES)
def test_the_losses_of_a_game_match_pytorch(name, dtype):
    game, discriminator, generator = GAMES[name]
    agree(game.discriminator, discriminator, [REAL, FAKE], dtype)
    agree(game.generator, generator, [FAKE], dtype)


def networks(normed=False):
    """A small convolutional critic in tinycv and in PyTorch, with the same weights."""

    def make(n):
        norm = [n.BatchNorm2d(5)] if normed else []
        return n.Sequential(
            n.Conv2d(2, 5, 3, 2, 1), *norm, n.LeakyReLU(0.2), n.Flatten(), n.Linear(45, 1)
        )

    theirs = randomised(make(torch.nn))
    ours = make(nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["gradient penalty", "R1"])
def test_a_penalty_and_its_gradients_match_pytorch(kind, dtype):
    ours, theirs = networks()
    ours.to(dtype), theirs.to(getattr(torch, dtype))
    real, fake = RNG.normal(size=(2, 4, 2, 6, 6)).astype(dtype)
    tinycv.manual_seed(3)
    share = backend.uniform((4, 1, 1, 1), dtype=dtype)
    tinycv.manual_seed(3)
    penalty = (gan.GradientPenalty if kind == "gradient penalty" else gan.R1)(4.0)
    y = penalty(ours, tinycv.Tensor(real), tinycv.Tensor(fake))
    x = torch.tensor(
        share * real + (1 - share) * fake if kind == "gradient penalty" else real,
        requires_grad=True,
    )
    (slope,) = torch.autograd.grad(theirs(x).sum(), x, create_graph=True)
    length = slope.reshape(4, -1).norm(dim=1)
    z = 4 * ((length - 1) ** 2).mean() if kind == "gradient penalty" else 2 * (length**2).mean()
    equal(y, z)
    y.backward()
    z.backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # the last bias has a gradient of 0 in PyTorch, and none here
        if q.grad is not None and p.grad is not None:
            equal(p.grad, q.grad, name)


@pytest.mark.parametrize("make", [lambda n: n.Linear(7, 5), lambda n: n.Conv2d(3, 4, 3)])
def test_spectral_norm_matches_pytorch(make):
    theirs = torch.nn.utils.parametrizations.spectral_norm(make(torch.nn), n_power_iterations=100)
    ours = nn.SpectralNorm(make(nn))
    ours.layer.load_state_dict(
        {"weight": theirs.parametrizations.weight.original.detach(), "bias": theirs.bias.detach()}
    )
    for _ in range(100):
        ours._iterate()
    theirs(torch.zeros(2, 7) if isinstance(theirs, torch.nn.Linear) else torch.zeros(1, 3, 3, 3))
    weight = ours.layer.weight / ours.sigma()
    np.testing.assert_allclose(weight.numpy(), theirs.weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_game_of_six_steps_ends_with_the_weights_of_the_pytorch_loop():
    """The loop of PyTorch's DCGAN example: both losses, detach, zero_grad; batch norm in the
    generator."""
    critic, their_critic = networks()

    def make(n):
        return n.Sequential(n.Linear(4, 72, bias=False), n.BatchNorm1d(72), n.Tanh())

    their_painter, painter = randomised(make(torch.nn)), make(nn)
    painter.load_state_dict(their_painter.state_dict())
    painter = Reshaped(painter)
    images = RNG.normal(size=(24, 2, 6, 6)).astype(np.float32)
    loader = DataLoader(images, batch_size=8, seed=1)
    rates = {"lr": 0.01, "betas": (0.5, 0.9)}
    history = fit_gan(
        painter,
        critic,
        Adam(painter.parameters(), **rates),
        Adam(critic.parameters(), **rates),
        loader,
        2,
        progress=False,
    )
    g_opt = torch.optim.Adam(their_painter.parameters(), **rates)
    d_opt = torch.optim.Adam(their_critic.parameters(), **rates)
    for step, x in enumerate(x for number in range(2) for (x,) in loader.epoch(number)):
        backend.manual_seed((0, step))
        fake = their_painter(torch.tensor(backend.standard_normal((8, 4)))).reshape(8, 2, 6, 6)
        d_opt.zero_grad()
        d_loss = bce(their_critic(torch.tensor(x)), 1.0) + bce(their_critic(fake.detach()), 0.0)
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = bce(their_critic(fake), 1.0)
        g_loss.backward()
        g_opt.step()
        assert history.losses[step] == pytest.approx([d_loss.item(), g_loss.item()], rel=1e-3)
    for ours, theirs in ((painter.network, their_painter), (critic, their_critic)):
        for name, known in theirs.state_dict().items():
            np.testing.assert_allclose(
                ours.state_dict()[name].numpy(), known.numpy(), rtol=1e-2, atol=2e-3, err_msg=name
            )


class Reshaped(nn.Module):
    latent = 4

    def __init__(self, network):
        self.network = network

    def forward(self, z):
        return self.network(z).reshape((len(z), 2, 6, 6))


X = RNG.normal(size=(2, 4, 7, 6))
# stride, padding, groups, dilation
ARITHMETIC = list(itertools.product((1, 2, 3), (0, 1, 2), (1, 2), (1, 2)))


@pytest.mark.parametrize("stride, padding, groups, dilation", ARITHMETIC)
def test_conv2d_matches_pytorch_for_every_small_stride_padding_and_dilation(
    stride, padding, groups, dilation
):
    options = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation}
    weight = RNG.normal(size=(6, 4 // groups, 3, 2))
    agree(
        lambda *a: F.conv2d(*a, **options),
        lambda *a: TF.conv2d(*a, **options),
        [X, weight, RNG.normal(size=6)],
        "float64",
    )


@pytest.mark.parametrize("stride, padding, groups, dilation", ARITHMETIC)
def test_conv_transpose2d_matches_pytorch_for_every_small_stride_and_output_padding(
    stride, padding, groups, dilation
):
    weight, bias = RNG.normal(size=(4, 3, 4, 3)), RNG.normal(size=3 * groups)
    for output_padding in range(max(stride, dilation)):
        options = {
            "stride": stride,
            "padding": padding,
            "groups": groups,
            "dilation": dilation,
            "output_padding": output_padding,
        }
        agree(
            lambda *a, o=options: F.conv_transpose2d(*a, **o),
            lambda *a, o=options: TF.conv_transpose2d(*a, **o),
            [X, weight, bias],
            "float64",
        )
