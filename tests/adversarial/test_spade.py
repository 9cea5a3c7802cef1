"""SPADE: what instance norm wipes out and SPADE does not, its gradients, and its losses."""

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.adversarial.spade import (
    SPADE,
    ConcatNorm,
    Discriminator,
    Generator,
    LabelToImage,
    ResBlock,
    StyleEncoder,
    discriminator_loss,
    feature_matching,
    generator_loss,
    kl_to_normal,
    label_planes,
    paint_maps,
    styles_of,
)
from tinycv.adversarial.turns import descend
from tinycv.nn.instance_norm import instance_norm
from tinycv.optim import Adam

SKY, GRASS = 1, 5
RNG = np.random.default_rng(0)


def uniform(label, count=2, side=32):
    """Label maps that are all of one class, one-hot: (count, 6, side, side)."""
    return label_planes(np.full((count, side, side), label), 6)


def random_maps(count=2, classes=6, side=32, seed=0):
    """Label maps of 4 x 4 squares of random classes: (count, side, side)."""
    small = np.random.default_rng(seed).integers(0, classes, (count, side // 4, side // 4))
    return small.repeat(4, axis=1).repeat(4, axis=2)


def generator_with_large_weights(norm, seed, factor):
    tinycv.manual_seed(seed)
    generator = Generator(6, norm, widths=(8, 8, 6, 6)).eval()
    for weight in generator.parameters():
        weight.data[...] *= factor
    return generator


def difference_of_sky_and_grass(norm, seed, factor):
    generator = generator_with_large_weights(norm, seed, factor)
    z = tinycv.randn((2, 8))
    with tinycv.no_grad():
        sky, grass = (generator(z, uniform(label)).numpy() for label in (SKY, GRASS))
    return np.abs(sky - grass).max()


# ── what a norm does to a uniform label map ──────────────────────────────────────────────────────


@pytest.mark.parametrize("label", range(6))
def test_instance_norm_of_a_uniform_label_map_is_zero(label):
    assert (instance_norm(uniform(label)).numpy() == 0).all()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_concatenated_labels_paint_uniform_sky_and_grass_alike(seed, factor):
    assert difference_of_sky_and_grass("concat", seed, factor) <= 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_spade_paints_uniform_sky_and_grass_differently(seed):
    assert difference_of_sky_and_grass("spade", seed, 3.0) > 0.01


def test_concatenated_labels_do_change_an_image_where_they_change():
    generator = generator_with_large_weights("concat", 0, 3.0)
    z = tinycv.randn((2, 8))
    with tinycv.no_grad():
        first, second = (
            generator(z, label_planes(random_maps(seed=seed), 6)).numpy() for seed in (0, 1)
        )
    assert np.abs(first - second).max() > 0.01


def test_zero_padding_would_break_the_theorem_at_the_edge(monkeypatch):
    from tinycv.adversarial import spade

    def zeros_around(x):
        return spade.pad(x, (1, 1, 1, 1))

    monkeypatch.setattr(spade, "mirrored", zeros_around)
    assert difference_of_sky_and_grass("concat", 0, 3.0) > 1e-3


def test_spade_scales_and_shifts_after_the_norm():
    layer = SPADE(3, 2, hidden=4)
    h, m = tinycv.randn((2, 3, 8, 8)), label_planes(random_maps(classes=2, side=8), 2)
    layer.gamma_beta.weight.data[...] = 0
    layer.gamma_beta.bias.data[...] = [1, 2, 3, 10, 20, 30]  # γ of the channels, then β
    normed = (h - h.mean(axis=(0, 2, 3), keepdims=True)) / h.std(axis=(0, 2, 3), keepdims=True)
    expected = np.array([2, 3, 4])[:, None, None] * normed.numpy()
    expected += np.array([10, 20, 30])[:, None, None]
    np.testing.assert_allclose(layer(h, m).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_larger_label_map_is_resized_to_the_nearest_pixel():
    layer, h = SPADE(3, 2, hidden=4), tinycv.randn((2, 3, 4, 4))
    labels = random_maps(classes=2, side=16)
    np.testing.assert_array_equal(
        layer(h, label_planes(labels, 2)).numpy(),
        layer(h, label_planes(labels[:, ::4, ::4], 2)).numpy(),
    )


def test_the_layers_have_correct_first_and_second_derivatives():
    m = label_planes(random_maps(count=1, classes=2, side=4), 2).numpy().astype(np.float64)
    h = RNG.normal(size=(1, 2, 4, 4))
    tinycv.manual_seed(0)
    for layer in (SPADE(2, 2, hidden=3), ConcatNorm(2, 2)):
        certify_layer(OnMap(layer, m), h)


class OnMap(tinycv.nn.Module):
    """A layer with a fixed label map, so that it takes h alone."""

    def __init__(self, layer, m):
        self.layer, self.m = layer, Tensor(m)

    def forward(self, h):
        return self.layer(h, self.m.astype(h.dtype))


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_label_planes_are_one_hot():
    labels = random_maps()
    planes = label_planes(labels, 6).numpy()
    assert planes.shape == (2, 6, 32, 32) and (planes.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(planes.argmax(axis=1), labels)


def test_labels_counted_from_one_are_refused():
    with pytest.raises(IndexError, match="labels holds 6; 6 classes are numbered from 0 to 5"):
        label_planes(np.full((1, 8, 8), 6), 6)


def test_a_map_with_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"m has shape .* a one-hot label map of 6 classes"):
        SPADE(3, 6)(tinycv.randn((2, 3, 8, 8)), label_planes(random_maps(classes=5), 5))


# ── networks ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("norm", ["spade", "concat", "concat_batch"])
def test_networks_return_the_shapes_that_they_promise(norm):
    painter, discriminator = LabelToImage(6, norm, widths=(4, 4, 4, 4)), Discriminator(6, width=4)
    x, m = tinycv.rand((2, 3, 32, 32)), label_planes(random_maps(), 6)
    fake, mean, log_variance = painter(x, m)
    logits, features = discriminator(fake, m)
    assert fake.shape == (2, 3, 32, 32)
    assert mean.shape == log_variance.shape == (2, 8)
    assert logits.shape == (2, 1, 8, 8)
    assert [f.shape[1] for f in features] == [4, 8, 8]
    assert 0 <= fake.numpy().min() <= fake.numpy().max() <= 1


def test_evaluation_paints_what_training_painted():
    """The running statistics of batch norm, once they have settled, are those of the batch."""
    tinycv.manual_seed(0)
    layer = SPADE(3, 6, hidden=4)
    h, m = 5 + 2 * tinycv.randn((4, 3, 32, 32)), label_planes(random_maps(4), 6)
    with tinycv.no_grad():
        for _ in range(100):
            in_training = layer(h, m).numpy()
        in_evaluation = layer.eval()(h, m).numpy()
    np.testing.assert_allclose(in_evaluation, in_training, atol=5e-3)


def test_a_painter_in_training_mode_is_refused_and_its_statistics_stay():
    painter = LabelToImage(6, widths=(4, 4), side=8)
    before = {name: t.numpy().copy() for name, t in painter.state_dict().items()}
    with pytest.raises(ValueError, match=r"paint_maps: .*; call painter.eval\(\) first"):
        paint_maps(painter, np.zeros((2, 8), np.float32), np.zeros((2, 8, 8), np.int64))
    assert all((t.numpy() == before[name]).all() for name, t in painter.state_dict().items())


def test_an_image_does_not_depend_on_its_batch():
    generator = Generator(6, widths=(4, 4, 4, 4)).eval()
    z, m = tinycv.randn((3, 8)), label_planes(random_maps(3), 6)
    with tinycv.no_grad():
        of_batch, alone = generator(z, m).numpy(), generator(z[:1], m[:1]).numpy()
    np.testing.assert_allclose(of_batch[:1], alone, atol=1e-5)


def test_both_generators_have_the_same_convolutions_but_for_the_labels():
    spade, concat = (Generator(6, norm, widths=(4, 4, 4, 4)) for norm in ("spade", "concat"))
    for a, b in zip(spade.blocks, concat.blocks, strict=True):
        for first, second in ((a.conv_0, b.conv_0), (a.conv_1, b.conv_1)):
            (out, channels, *window), other = first.layer.weight.shape, second.layer.weight.shape
            assert tuple(other) == (out, channels + 6, *window)


# ── losses ───────────────────────────────────────────────────────────────────────────────────────


def test_kl_is_summed_over_the_latents_and_averaged_over_the_images():
    mean, log_variance = np.array([[1.0, 2.0], [0.0, 0.0]]), np.log([[1.0, 4.0], [1.0, 1.0]])
    # first image: 1/2, and (4 + 4 - 1 - log 4) / 2; second image: 0
    expected = (0.5 + (7 - np.log(4)) / 2) / 2
    found = kl_to_normal(Tensor(mean), Tensor(log_variance)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_feature_matching_of_equal_features_is_zero_and_has_no_gradient_to_the_real_ones():
    fake, real = (
        Tensor(RNG.normal(size=(2, 3)), requires_grad=True),
        Tensor(RNG.normal(size=(2, 3)), requires_grad=True),
    )
    assert feature_matching([real], [real]).numpy() == 0
    feature_matching([fake], [real]).backward()
    assert fake.grad is not None and real.grad is None


def test_a_turn_of_each_side_changes_only_its_own_weights():
    tinycv.manual_seed(0)
    painter, discriminator = LabelToImage(6, widths=(4, 4, 4, 4)), Discriminator(6, width=4)
    x, m = tinycv.rand((2, 3, 32, 32)), label_planes(random_maps(), 6)
    fake, mean, log_variance = painter(x, m)

    def weights(network):
        return [p.numpy().copy() for p in network.parameters()]

    def changed(network, before):
        pairs = zip(network.parameters(), before, strict=True)
        return [bool((p.numpy() != b).any()) for p, b in pairs]

    of_painter, of_discriminator = weights(painter), weights(discriminator)
    descend(
        Adam(discriminator.parameters(), lr=1e-3), discriminator_loss(discriminator, x, fake, m)
    )
    assert any(changed(discriminator, of_discriminator)) and not any(changed(painter, of_painter))
    of_discriminator = weights(discriminator)
    loss = generator_loss(discriminator, x, fake, m, mean, log_variance)
    descend(Adam(painter.parameters(), lr=1e-3), loss)
    assert not any(changed(discriminator, of_discriminator)) and any(changed(painter, of_painter))


def test_maps_are_painted_in_batches_as_one_by_one():
    painter = LabelToImage(6, widths=(4, 4, 4, 4)).eval()
    images = RNG.random((103, 3, 32, 32), np.float32)
    z, labels = styles_of(painter, images), random_maps(103)
    painted = paint_maps(painter, z, labels)
    assert z.shape == (103, 8) and painted.shape == (103, 3, 32, 32)
    np.testing.assert_allclose(
        painted[101:102], paint_maps(painter, z[101:102], labels[101:102]), atol=1e-5
    )


def test_a_side_that_does_not_halve_is_refused():
    with pytest.raises(ValueError, match="Generator: side is 30 and widths has 4 entries"):
        Generator(6, side=30)
    with pytest.raises(ValueError, match="StyleEncoder: side is 30; it must be a multiple of 8"):
        StyleEncoder(side=30)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="ResBlock: norm is 'batch'"):
        ResBlock(4, 4, 6, "batch")


def test_widths_that_are_no_whole_numbers_are_refused():
    with pytest.raises(TypeError, match=r"Generator: widths\[1\] is 4.7"):
        Generator(6, widths=(4, 4.7))


def test_a_style_with_nan_is_refused():
    painter = LabelToImage(6, widths=(4, 4, 4, 4)).eval()
    with pytest.raises(ValueError, match="paint_maps: z holds NaN"):
        paint_maps(painter, np.full((1, 8), np.nan, np.float32), random_maps(1))
