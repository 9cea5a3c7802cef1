"""TextDiT and TextUNet: their derivatives are certified, every word reaches every place, padding
reaches none, and the attention maps say how much each place reads each word."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.diffusion import TextDiT, TextUNet
from tinycv.diffusion.cross_attention import CrossAttention, PixelCrossAttention, TextDiTBlock
from tinycv.diffusion.dit import DiTBlock
from tinycv.engine.check import certify

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 1, 4, 4)).astype(np.float32)
TIMES = np.array([-1.0, 0.1, 1.0])
IDS = np.array([[3, 4, 5, 6], [5, 4, 0, 0], [0, 0, 0, 0]])  # the last: no text
NETWORKS = {
    "dit": lambda: TextDiT(4, 2, 1, words=7, length=4, dim=8, depth=2, heads=2),
    "unet": lambda: TextUNet(1, (8, 8), words=7, length=4, patch_size=1, dim=8, heads=2),
    "patches": lambda: TextUNet(1, (8,), words=7, length=4, patch_size=2, dim=4, heads=2),
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
    return NETWORKS[request.param]()


def answers(network, x=IMAGES, t=TIMES, ids=IDS, device="cpu"):
    return network(*(None if a is None else Tensor(a, device=device) for a in (x, t, ids))).numpy()


# ── the networks ─────────────────────────────────────────────────────────────────────────────────


def test_the_result_has_the_shape_of_the_images_and_is_0_at_first(network, device):
    out = answers(network.to(device), device=device)
    assert out.shape == IMAGES.shape and out.dtype == np.float32
    assert not out.any()


def test_an_image_does_not_depend_on_its_batch(network, device):
    with_random_weights(network.to(device))
    np.testing.assert_allclose(
        answers(network, IMAGES[:1], TIMES[:1], IDS[:1], device),
        answers(network, device=device)[:1],
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("word", range(4))
def test_every_word_reaches_every_pixel(network, word):
    with_random_weights(network)
    other = IDS.copy()
    other[0, word] = 5 if IDS[0, word] != 5 else 3
    assert (np.abs(answers(network, ids=other) - answers(network))[0] > 1e-6).all()


def test_the_order_of_the_words_counts(network):
    with_random_weights(network)
    moved = np.abs(answers(network, ids=IDS[:, [1, 0, 2, 3]]) - answers(network))
    assert (moved[:2].reshape(2, -1).max(axis=1) > 1e-4).all()


def test_padding_does_not_matter_at_all(network):
    """Bit for bit: what the table of words has for PAD reaches only images without a text."""
    with_random_weights(network)
    before = answers(network, IMAGES[:2], TIMES[:2], IDS[:2])
    network.embed.text.embed.weight._data[0] = np.nan
    np.testing.assert_array_equal(answers(network, IMAGES[:2], TIMES[:2], IDS[:2]), before)


def test_more_padding_changes_nothing():
    network = with_random_weights(NETWORKS["dit"]().to("float64"))
    x, t = IMAGES[1:2].astype(float), TIMES[1:2]
    short = answers(network, x, t, IDS[1:2, :2])
    np.testing.assert_allclose(answers(network, x, t, IDS[1:2]), short, atol=1e-12)


def test_no_text_equals_a_text_of_padding(network):
    with_random_weights(network)
    np.testing.assert_allclose(
        answers(network, ids=None), answers(network, ids=0 * IDS), rtol=1e-4, atol=1e-5
    )


def test_the_result_depends_on_the_time_of_each_image(network):
    with_random_weights(network)
    moved = np.abs(answers(network, t=TIMES + 0.5) - answers(network)).reshape(3, -1).max(axis=1)
    assert (moved > 1e-4).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_and_gradients_have_the_dtype_of_images_and_weights(network, device, dtype):
    with_random_weights(network.to(device).to(dtype))
    arguments = IMAGES.astype(dtype), TIMES, IDS
    out = network(*(Tensor(a, device=device) for a in arguments))
    (out * out).sum().backward()
    assert {t.dtype.name for t in [out, *(p.grad for p in network.parameters())]} == {dtype}


def test_every_parameter_has_a_finite_gradient_that_is_not_zero(network):
    out = with_random_weights(network)(Tensor(IMAGES), Tensor(TIMES), Tensor(IDS))
    (out * Tensor(RNG.normal(size=IMAGES.shape).astype(np.float32))).sum().backward()
    for name, p in network.named_parameters():
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name


# ── attention maps ───────────────────────────────────────────────────────────────────────────────


def test_there_is_a_map_for_each_cross_attention():
    sizes = {"dit": [(4, 4)] * 2, "unet": [(4, 4), (4, 4), (16, 4)], "patches": [(4, 4)] * 2}
    for name, expected in sizes.items():
        maps = NETWORKS[name]().attention_maps(Tensor(IMAGES), Tensor(TIMES), Tensor(IDS))
        assert [m.shape for m in maps] == [(3, 2, *size) for size in expected], name


def test_attention_maps_sum_to_1_over_the_words(network, device):
    with_random_weights(network.to(device))
    arguments = (Tensor(a, device=device) for a in (IMAGES, TIMES, IDS))
    for weights in network.attention_maps(*arguments):
        np.testing.assert_allclose(weights.numpy().sum(axis=-1), 1, rtol=1e-5)


def test_attention_maps_are_0_at_padding(network):
    with_random_weights(network)
    for weights in network.attention_maps(Tensor(IMAGES), Tensor(TIMES), Tensor(IDS)):
        assert not weights.numpy()[1, :, :, 2:].any()


def test_attention_maps_leave_the_result_as_it_is(network):
    with_random_weights(network)
    maps = []
    seen = network.run(Tensor(IMAGES), Tensor(TIMES), Tensor(IDS), maps).numpy()
    np.testing.assert_array_equal(seen, answers(network))


# ── the parts ────────────────────────────────────────────────────────────────────────────────────

Z, E, X = (RNG.normal(size=shape) for shape in ((2, 3, 4), (2, 4), (2, 4, 2, 1)))
TOKENS, MASK = RNG.normal(size=(2, 3, 4)), np.array([[1, 1, 1], [1, 0, 0]], bool)[:, None, None]


def masked(layer):
    """The layer as a function of float inputs alone."""
    kind = type(layer)
    layer.__class__ = type(
        kind.__name__, (kind,), {"forward": lambda s, *a: kind.forward(s, *a, MASK)}
    )
    return with_random_weights(layer)


@pytest.mark.parametrize(
    "layer, inputs",
    [
        (lambda: CrossAttention(4, 2), (Z, TOKENS)),
        (lambda: TextDiTBlock(4, 2), (Z, E, TOKENS)),
        (lambda: PixelCrossAttention(4, 4, 2), (X, TOKENS)),
    ],
    ids=["cross-attention", "DiT block", "pixels"],
)
def test_every_block_is_certified(layer, inputs):
    certify_layer(masked(layer()), *inputs)


def test_the_whole_network_is_certified_in_its_images(network):
    with_random_weights(network.to("float64"))
    certify(lambda x: network(x, Tensor(TIMES[1:]), Tensor(IDS[1:])), IMAGES[1:])


def test_blocks_start_as_the_identity(device):
    z, e, tokens, mask, x = (Tensor(a, device=device) for a in (Z, E, TOKENS, MASK, X))
    block, pixels = TextDiTBlock(4, 2), PixelCrossAttention(4, 4, 2)
    block.to(device).to("float64")
    pixels.to(device).to("float64")
    np.testing.assert_array_equal(block(z, e, tokens, mask.data).numpy(), Z)
    np.testing.assert_array_equal(pixels(x, tokens, mask.data).numpy(), X)


def test_without_cross_attention_a_block_is_a_dit_block():
    """Cross-attention starts as 0, so the rest must be the block of dit.py."""
    block, plain = TextDiTBlock(4, 2), DiTBlock(4, 2)
    for layer in ("modulation", "attention", "linear1", "linear2"):
        part = getattr(block, layer)
        setattr(plain, layer, with_random_weights(part))
    block.to("float64")
    expected = plain(Tensor(Z), Tensor(E)).numpy()
    got = block(Tensor(Z), Tensor(E), Tensor(TOKENS), MASK).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)


# ── what does not fit ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name, x, ids, text",
    [
        ("dit", (2, 1, 4, 6), (2, 4), r"TextDiT: x has shape \(2, 1, 4, 6\).*4 x 4 pixels"),
        ("unet", (2, 1, 4, 5), (2, 4), r"TextUNet: x has shape \(2, 1, 4, 5\).*multiples of 2"),
        ("unet", (2, 3, 4, 4), (2, 4), r"TextUNet: x has shape .* images with 1 channels"),
        ("dit", (2, 1, 4, 4), (3, 4), r"TextDiT: x has shape .* ids \(3, 4\).*one text per image"),
        ("dit", (2, 1, 4, 4), (2, 5), "positions for 4 tokens, but x ends at 5"),
    ],
)
def test_images_and_texts_that_do_not_fit_are_refused(name, x, ids, text):
    with pytest.raises(ValueError, match=text):
        NETWORKS[name]()(tinycv.ones(*x), Tensor([1.0, 1.0]), np.full(ids, 3))


def test_a_word_that_the_network_does_not_have_is_refused(network):
    with pytest.raises(IndexError, match="id 7 is out of range"):
        network(Tensor(IMAGES), Tensor(TIMES), Tensor(IDS + 4))
