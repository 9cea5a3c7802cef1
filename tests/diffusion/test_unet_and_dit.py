"""U-Net and DiT: their derivatives are certified, they use the time and the label, and they refuse
images and labels that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from near import near

import tinycv
from tinycv import Tensor
from tinycv.diffusion import DiT, UNet
from tinycv.diffusion.dit import DiTBlock, modulated
from tinycv.diffusion.embedding import TimeAndLabel
from tinycv.diffusion.unet import PixelAttention, ResBlock
from tinycv.engine.check import certify
from tinycv.vision import patchify, unpatchify

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 1, 4, 4)).astype(np.float32)
TIMES, LABELS = np.array([1.0, 400.0, 1000.0]), np.array([0, 2, 3])  # 3: no label
NETWORKS = {
    "unet": lambda **more: UNet(1, (8, 16), 1, heads=2, embed_dim=8, **more),
    "patches": lambda **more: UNet(1, (8, 8), 2, heads=2, embed_dim=8, **more),
    "dit": lambda **more: DiT(4, 2, dim=8, depth=2, heads=2, **more),
}


def with_random_weights(network):
    """The network with random weights in the layers that start at 0, so that every part affects the
    result."""
    for p in network.parameters():
        if not p.data.any():
            p.data = tinycv.randn(*p.shape, dtype=p.dtype, device=p.device).data * 0.3
    return network


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param](num_classes=3)


def answers(network, x=IMAGES, t=TIMES, labels=LABELS, device="cpu"):
    return network(
        *(None if a is None else Tensor(a, device=device) for a in (x, t, labels))
    ).numpy()


# ── what both networks should do ─────────────────────────────────────────────────────────────────


def test_the_result_has_the_shape_of_the_images_and_is_0_at_first(network, device):
    out = answers(network.to(device), device=device)
    assert out.shape == IMAGES.shape and out.dtype == np.float32
    assert not out.any()


def test_an_image_does_not_depend_on_its_batch(network, device):
    with_random_weights(network.to(device))
    np.testing.assert_allclose(
        answers(network, IMAGES[:1], TIMES[:1], LABELS[:1], device),
        answers(network, device=device)[:1],
        rtol=1e-3,
        atol=1e-5,
    )


def test_every_pixel_reaches_every_pixel(network):
    x = Tensor(IMAGES, requires_grad=True)
    with_random_weights(network)(x, Tensor(TIMES), Tensor(LABELS))[:, :, 0, 0].sum().backward()
    assert (np.abs(x.grad.numpy()) > 0).all()


@pytest.mark.parametrize(
    "what, other", [("t", np.array([2.0, 401.0, 999.0])), ("labels", np.array([1, 0, 2]))]
)
def test_the_result_depends_on_the_time_and_the_label_of_each_image(network, what, other):
    with_random_weights(network)
    moved = np.abs(answers(network) - answers(network, **{what: other})).reshape(3, -1).max(axis=1)
    assert (moved > 1e-3).all()


def test_no_label_equals_the_label_num_classes(network):
    with_random_weights(network)
    np.testing.assert_array_equal(
        answers(network, labels=None), answers(network, labels=np.array([3, 3, 3]))
    )


def test_times_may_be_whole_numbers(network):
    with_random_weights(network)
    near(answers(network, t=TIMES.astype(int)), answers(network))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_and_gradients_have_the_dtype_of_images_and_weights(network, device, dtype):
    with_random_weights(network.to(device).to(dtype))
    out = network(
        Tensor(IMAGES.astype(dtype), device=device),
        Tensor(TIMES, device=device),
        Tensor(LABELS, device=device),
    )
    (out * out).sum().backward()
    assert {t.dtype.name for t in [out, *(p.grad for p in network.parameters())]} == {dtype}


def test_every_parameter_has_a_finite_gradient_that_is_not_zero(network):
    out = with_random_weights(network)(Tensor(IMAGES), Tensor(TIMES), Tensor(LABELS))
    (out * Tensor(RNG.normal(size=IMAGES.shape).astype(np.float32))).sum().backward()
    for name, p in network.named_parameters():
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name


# ── certificates ─────────────────────────────────────────────────────────────────────────────────

X, E = RNG.normal(size=(2, 8, 2, 2)), RNG.normal(size=(2, 8))


@pytest.mark.parametrize(
    "layer, inputs",
    [
        (lambda: ResBlock(8, 16, 8), (X, E)),
        (lambda: ResBlock(8, 8, 8), (X, E)),
        (lambda: PixelAttention(8, 2), (X,)),
        (lambda: DiTBlock(8, 2), (RNG.normal(size=(2, 3, 8)), E)),
    ],
    ids=["wider", "as wide", "attention", "DiT block"],
)
def test_every_block_is_certified(layer, inputs):
    certify_layer(with_random_weights(layer()), *inputs)


def test_the_whole_network_is_certified_in_its_images(network):
    with_random_weights(network.to("float64"))
    certify(lambda x: network(x, Tensor(TIMES[:2]), Tensor(LABELS[:2])), IMAGES[:2])


def test_groups_of_norms_have_four_channels():
    """With one channel per group, the norm would remove what the embedding has added to it."""
    assert ResBlock(16, 32, 8).norm2.num_groups == 8


# ── the parts ────────────────────────────────────────────────────────────────────────────────────


def test_blocks_start_as_the_identity(device):
    x, e = Tensor(X.astype(np.float32), device=device), Tensor(E.astype(np.float32), device=device)
    np.testing.assert_array_equal(ResBlock(8, 8, 8).to(device)(x, e).numpy(), x.numpy())
    z = Tensor(RNG.normal(size=(2, 3, 8)).astype(np.float32), device=device)
    np.testing.assert_array_equal(DiTBlock(8, 2).to(device)(z, e).numpy(), z.numpy())


def test_modulated_is_layer_norm_then_scale_and_shift(device):
    z = Tensor(RNG.normal(size=(2, 3, 8)), device=device)
    plain = (z.numpy() - z.numpy().mean(-1, keepdims=True)) / z.numpy().std(-1, keepdims=True)
    np.testing.assert_allclose(modulated(z, 0.0, 0.0).numpy(), plain, rtol=1e-4)
    np.testing.assert_allclose(modulated(z, 0.25, 0.5).numpy(), 1.5 * plain + 0.25, rtol=1e-4)


def test_pixel_attention_returns_every_pixel_to_its_place():
    """Attention does not depend on positions: if the pixels are permuted, so are the results."""
    layer, x, order = PixelAttention(8, 2).to("float64"), X.reshape(2, 8, 4), [2, 0, 3, 1]
    moved = layer(Tensor(x[:, :, order].reshape(X.shape))).numpy().reshape(x.shape)
    np.testing.assert_allclose(moved, layer(Tensor(X)).numpy().reshape(x.shape)[:, :, order])


def test_unpatchify_is_the_inverse_of_patchify(device):
    images = Tensor(RNG.normal(size=(2, 3, 4, 6)), device=device)
    np.testing.assert_array_equal(
        unpatchify(patchify(images, 2), 2, images.shape).numpy(), images.numpy()
    )


def test_times_are_encoded_as_the_positions_of_the_transformer():
    embed = TimeAndLabel(6).to("float64")
    t, place = np.array([0.0, 7.0]), np.arange(3)
    turns = t[:, None] * 10000.0 ** (-2 * place / 6)
    clocks = np.stack([np.sin(turns), np.cos(turns)], axis=-1).reshape(2, 6)
    w1, b1, w2, b2 = (p.numpy() for p in embed.parameters())
    hidden = clocks @ w1.T + b1
    np.testing.assert_allclose(embed(Tensor(t)).numpy(), hidden / (1 + np.exp(-hidden)) @ w2.T + b2)


# ── images and labels that do not fit ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "network, images, text",
    [
        (UNet(1, (8, 8), 2), (2, 1, 6, 8), r"\(2, 1, 6, 8\).*must be multiples of 4"),
        (DiT(4, 2, dim=8), (2, 1, 4, 6), r"\(2, 1, 4, 6\); this network takes images of 4 x 4"),
    ],
)
def test_images_of_unsuitable_sides_are_refused(network, images, text):
    with pytest.raises(ValueError, match=text):
        network(tinycv.ones(*images), Tensor([1.0, 1.0]))


def test_a_dit_whose_patches_do_not_fill_the_image_is_refused():
    with pytest.raises(
        ValueError, match="image_size 28 does not divide into patches of patch_size 5"
    ):
        DiT(28, 5)


def test_a_label_for_a_model_without_classes_is_refused():
    with pytest.raises(ValueError, match="built without classes; build it with num_classes"):
        UNet(1, (8,), 1, heads=2)(tinycv.ones(1, 1, 4, 4), Tensor([1.0]), Tensor([0]))
