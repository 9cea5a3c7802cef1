"""The DCGAN recipe: train_dcgan has the documented settings, and images_of makes the images of the
given noise."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, fit_gan
from tinycv.adversarial.recipe import images_of, train_dcgan
from tinycv.data import DataLoader
from tinycv.optim import EMA, Adam, warmup_linear

IMAGES = np.random.default_rng(0).random((24, 1, 8, 8)).astype(np.float32)
NOISE = np.random.default_rng(1).standard_normal((7, 4)).astype(np.float32)


def pair():
    tinycv.manual_seed(3)
    return DCGANGenerator(8, 4, 1, width=2), DCGANDiscriminator(8, 1, width=2)


def loader():
    return DataLoader(IMAGES, batch_size=8, seed=2)


def test_train_dcgan_is_fit_gan_with_the_documented_settings_and_leaves_averaged_weights(capsys):
    generator, discriminator = pair()
    history = train_dcgan(generator, discriminator, loader(), 2, seed=5)
    other, its_discriminator = pair()
    ema = EMA(other, 0.99)
    expected = fit_gan(
        other,
        its_discriminator,
        Adam(other.parameters(), 1e-3, (0.0, 0.9)),
        Adam(its_discriminator.parameters(), 1e-3, (0.0, 0.9)),
        loader(),
        2,
        ema=ema,
        seed=5,
        schedule=warmup_linear(6),
    )
    assert history.losses == expected.losses and not generator.training
    for name, weight in ema.state_dict().items():
        assert (generator.state_dict()[name].numpy() == weight).all()


def test_images_are_the_same_in_batches_of_any_size(device, monkeypatch):
    generator = pair()[0].to(device).eval()
    whole = images_of(generator, NOISE)
    assert isinstance(whole, np.ndarray) and whole.shape == (7, 1, 8, 8)
    monkeypatch.setattr("tinycv.adversarial.recipe.AT_ONCE", 3)
    np.testing.assert_allclose(images_of(generator, NOISE), whole, atol=1e-6)


def test_an_empty_batch_of_noise_is_refused():
    with pytest.raises(ValueError, match=r"images_of: noise has shape \(0, 4\)"):
        images_of(pair()[0], NOISE[:0])
