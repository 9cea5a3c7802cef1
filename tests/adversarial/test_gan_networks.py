"""Generators and discriminators: their shapes, their initial weights, and that a GAN of them learns
a Gaussian until the discriminator can only guess."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import pytest
from certified import certify_layer
from near import near
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Maxout,
    PointDiscriminator,
    PointGenerator,
    PointMLP,
    start_small,
)
from tinycv.adversarial.turns import fit_gan
from tinycv.data import DrawnLoader
from tinycv.optim import Adam, warmup_cosine

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("side", [5, 8, 14, 15, 28, 32])
def test_dcgan_makes_and_judges_images_of_even_and_odd_sides(side, device):
    generator, discriminator = (
        DCGANGenerator(side, 6, 2, width=4),
        DCGANDiscriminator(side, 2, width=4),
    )
    images = generator.to(device)(tinycv.randn(3, 6).to(device))
    assert images.shape == (3, 2, side, side)
    assert images.numpy().min() > 0 and images.numpy().max() < 1
    assert discriminator.to(device)(images).shape == (3, 1)


@pytest.mark.parametrize("side", [4, 1, 0])
def test_a_side_too_small_to_be_halved_is_refused(side):
    for network in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(ValueError, match=f"side is {side}; it must be at least 5"):
            network(side)


def test_channels_double_as_the_side_halves():
    convolutions = [
        m for m in DCGANDiscriminator(28, 3, width=8).modules() if isinstance(m, nn.Conv2d)
    ]
    assert [m.weight.shape[:2] for m in convolutions] == [(8, 3), (16, 8), (32, 16)]
    transposed = [
        m for m in DCGANGenerator(28, 5, 3, width=8).modules() if isinstance(m, nn.ConvTranspose2d)
    ]
    assert [m.weight.shape[:2] for m in transposed] == [(32, 16), (16, 8), (8, 3)]


def test_point_networks_have_the_sizes_of_pacgan():
    """Discriminator: three layers of 200 outputs with five pieces each. Generator: four layers of
    400 without bias, each with the scale and shift of its batch norm."""
    assert PointDiscriminator().num_parameters() == (2 + 1) * 1000 + 2 * (200 + 1) * 1000 + 201
    assert PointGenerator().num_parameters() == 2 * 400 + 3 * 400 * 400 + 4 * 2 * 400 + 802
    assert PointDiscriminator()(PointGenerator()(tinycv.randn(5, 2))).shape == (5, 1)


def test_point_mlp_treats_each_point_independently():
    network = PointMLP(2, 1, width=8, depth=2)
    assert network.num_parameters() == 3 * 8 + 9 * 8 + 9 and network.latent == 2
    z = tinycv.randn(5, 2)
    near(network(z).numpy()[3:4], network(z[3:4]).numpy())


@pytest.mark.statistical
def test_initial_weights_are_small_and_initial_biases_are_zero():
    network = nn.Sequential(nn.Linear(300, 200), nn.Conv2d(20, 20, 5), nn.Linear(3, 2, bias=False))
    start_small(network)
    for layer in network[:2]:
        assert (
            layer.weight.numpy().std() == pytest.approx(0.02, rel=0.05)
            and not layer.bias.numpy().any()
        )
    assert network[2].bias is None


def test_maxout_is_the_largest_of_its_linear_pieces_and_is_certified():
    layer = Maxout(3, 2, 4)
    x = RNG.normal(size=(5, 3))
    planes = x @ layer.linear.weight.numpy().T.astype(float) + layer.linear.bias.numpy()
    near(layer(Tensor(x)).numpy(), planes.reshape(5, 4, 2).max(axis=1))
    certify_layer(layer, x)


@pytest.mark.parametrize("lead", [(), (4,), (4, 5), (0,), (0, 5), (4, 0, 2)])
def test_maxout_acts_on_the_last_axis_alone(lead):
    layer, x = Maxout(2, 3, 2), RNG.normal(size=(*lead, 2)).astype(np.float32)
    x = x[None] if not lead else x
    found = layer(Tensor(x)).numpy()
    assert found.shape == (*x.shape[:-1], 3)
    near(found.reshape(-1, 3), layer(Tensor(x.reshape(-1, 2))).numpy())


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: DCGANGenerator(8, 2, 1, width=2), (3, 2)),
        (lambda: DCGANDiscriminator(8, 1, width=2), (3, 1, 8, 8)),
    ],
)
def test_dcgan_networks_are_certified(make, shape):
    # With this seed no kink of a ReLU lies within the step of a finite difference (five of six
    # seeds are like that).
    network = make()
    start_small(network, 0.5)  # with 0.02 the network is nearly linear
    certify_layer(network, np.random.default_rng(0).normal(size=shape))


def gaussian(n, rng):
    return (rng.normal(1, 0.5, (n, 1)).astype(np.float32),)


def chance_of_real(discriminator, x):
    return tinycv.sigmoid(discriminator(Tensor(x.astype(np.float32)[:, None]))).numpy()[:, 0]


def small_discriminator():
    return nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))


@pytest.mark.statistical
def test_against_a_fixed_generator_the_discriminator_converges_to_p_over_p_plus_p_g():
    """Goodfellow et al. 2014, eq. 2, for p = N(1, 0.5²) and a generator that stays at N(0, 1),
    because its learning rate is 0."""
    generator = nn.Linear(1, 1)
    generator.latent = 1
    generator.weight.data, generator.bias.data = (
        np.ones((1, 1), np.float32),
        np.zeros(1, np.float32),
    )
    discriminator = small_discriminator()
    fit_gan(
        generator,
        discriminator,
        Adam(generator.parameters(), 0.0),
        Adam(discriminator.parameters(), 1e-2),
        DrawnLoader(gaussian, 256, 800, SEED),
        1,
        schedule=warmup_cosine(800),
        progress=False,
    )
    x = np.linspace(-1, 2, 31)  # where there are data
    # both densities are multiplied by the root of 2 pi, which cancels below
    p, q = 2 * np.exp(-2 * (x - 1) ** 2), np.exp(-0.5 * x**2)
    assert np.abs(chance_of_real(discriminator, x) - p / (p + q)).max() < 0.12


@pytest.mark.statistical
def test_at_the_optimum_the_discriminator_says_one_half():
    """Both sides learn, as in figure 1 of Goodfellow et al. 2014. The generator finds the Gaussian.
    The discriminator, which learns ten times as fast (two time scales), ends near one half wherever
    there are data."""
    generator = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    generator.latent = 1
    discriminator = nn.Sequential(
        nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )
    adams = (
        Adam(side.parameters(), rate, (0.5, 0.9))
        for side, rate in ((generator, 1e-3), (discriminator, 1e-2))
    )
    fit_gan(
        generator,
        discriminator,
        *adams,
        DrawnLoader(gaussian, 256, 1500, SEED),
        1,
        schedule=warmup_cosine(1500),
        progress=False,
    )
    samples = np.sort(generator(tinycv.randn(4000, 1)).numpy()[:, 0])
    below = np.array([0.5 * (1 + erf((x - 1) / 0.5 / sqrt(2))) for x in samples])
    # the Kolmogorov-Smirnov distance between the samples and the Gaussian
    assert np.abs(below - (np.arange(4000) + 0.5) / 4000).max() < 0.1
    assert np.abs(chance_of_real(discriminator, np.linspace(0, 2, 41)) - 0.5).max() < 0.15
