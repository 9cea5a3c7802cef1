"""AdaIN style transfer: an encoder with an exact inverse, the statistics of its result, and that
the decoder learns."""

import numpy as np
import pytest
from near import near

from tinycv import Tensor
from tinycv.engine.check import certify
from tinycv.nn.functional import adaptive_instance_norm
from tinycv.optim import Adam
from tinycv.vision import AdaINTransfer, RandomFilters, adain_loss
from tinycv.vision.adain import PatchCosines, cosines, statistics, statistics_loss

RNG = np.random.default_rng(0)


def photos(count=1, side=16):
    return Tensor(RNG.uniform(0.1, 0.9, (count, 3, side, side)).astype(np.float32))


def test_cosines_are_orthonormal():
    basis = cosines(8).reshape(64, 64)
    near(basis @ basis.T, np.eye(64), rtol=1e-5)


def test_the_encoder_has_an_exact_inverse(device):
    x = photos(2)
    encoder = PatchCosines().to(device)
    features = encoder(Tensor(x.numpy(), device=device))
    assert features.shape == (2, 192, 5, 5)
    near(encoder.inverse(features).numpy(), x.numpy())


def test_the_features_after_adain_have_the_mean_and_deviation_of_the_style():
    model, content, style = AdaINTransfer(width=2), photos(), photos(side=24)
    found = statistics(model.target(content, style))
    expected = statistics(model.encoder(style))
    for a, b in zip(found, expected, strict=True):
        # the deviations are equal but for the epsilon that both divisions add
        near(a.numpy(), b.numpy(), rtol=2e-4)


def test_the_content_in_its_own_style_keeps_its_features():
    model, x = AdaINTransfer(width=2), photos()
    near(model.target(x, x).numpy(), model.encoder(x).numpy(), rtol=1e-4)


def test_alpha_0_keeps_the_features_of_the_content_whatever_the_style_is():
    model, content = AdaINTransfer(width=2), photos()
    near(model.target(content, photos(), alpha=0).numpy(), model.encoder(content).numpy())


@pytest.mark.parametrize("side", [16, 20])
def test_the_decoder_returns_an_image_of_the_size_that_was_encoded(device, side):
    model = AdaINTransfer(width=2).to(device)
    x = model(*(Tensor(photos(2, side).numpy(), device=device) for _ in range(2))).numpy()
    assert x.shape == (2, 3, side, side)
    assert 0 <= x.min() <= x.max() <= 1


def test_images_of_other_sizes_than_the_style_keep_their_size():
    assert AdaINTransfer(width=2)(photos(side=20), photos(side=32)).shape == (1, 3, 20, 20)


def test_only_the_decoder_is_learned():
    model = AdaINTransfer(width=2)
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"decoder"}


def test_the_statistics_loss_of_an_image_with_itself_is_0():
    maps = [Tensor(RNG.normal(size=(2, 3, 4, 4)))]
    assert statistics_loss(maps, maps).item() < 1e-4


def test_the_painted_image_is_certified():
    model = AdaINTransfer(width=1).to("float64")
    model.decoder.conv4.weight.data = RNG.normal(size=(3, 1, 3, 3)) * 0.01

    def painted(content, style):
        # of low contrast: no pixel of the result is clipped
        return model(0.4 + 0.2 * content, 0.4 + 0.2 * style)

    certify(painted, *(photos(1, 8).numpy().astype(float) for _ in range(2)), order=1)


def test_the_statistics_loss_is_certified():
    maps, targets = RNG.normal(size=(2, 2, 3, 4, 4))
    certify(lambda a, b: statistics_loss([a], [b]), maps, targets)


@pytest.mark.statistical
def test_training_brings_the_statistics_nearer_to_those_of_the_style():
    """For one pair, whose loss the decoder can lower by nothing but painting."""
    content = Tensor(np.clip(0.5 + 0.1 * RNG.normal(size=(1, 3, 16, 16)), 0, 1).astype(np.float32))
    style = Tensor(np.kron(RNG.uniform(0, 1, (1, 3, 4, 4)), np.ones((4, 4))).astype(np.float32))
    model, critic = AdaINTransfer(width=4), RandomFilters(4, (3,), 2)

    def distance():
        return statistics_loss(critic(model(content, style)).style, critic(style).style).item()

    before = distance()
    optimizer = Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        adain_loss(model, content, style, critic, style_weight=100.0).backward()
        optimizer.step()
    assert distance() < 0.8 * before


def test_adain_of_pixels_gives_each_colour_the_mean_and_deviation_of_the_style():
    content, style = photos(), photos()
    near(
        statistics(adaptive_instance_norm(content, style, 0.0))[0].numpy(),
        statistics(style)[0].numpy(),
    )


def test_an_image_whose_sides_are_no_multiples_of_4_is_refused():
    with pytest.raises(ValueError, match="x is 18 x 18 pixels; both sides must be multiples of 4"):
        AdaINTransfer(width=2)(photos(side=18), photos())


def test_an_extractor_that_returns_no_features_is_refused():
    with pytest.raises(TypeError, match="adain_loss: extractor returned .* must return Features"):
        adain_loss(AdaINTransfer(width=2), photos(), photos(), lambda x: x)
