"""TextToImage: guidance at its two ends, what sampling, inpainting and editing keep, and prompts
that cannot be drawn."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.data.text import PAD
from tinycv.data.tokenizer import WordTokenizer
from tinycv.diffusion import TextDiT, TextToImage
from tinycv.diffusion.denoising import clipped
from tinycv.diffusion.edm import edm_denoiser

RNG = np.random.default_rng(0)
WORDS = "a", "red", "blue", "circle", "square", "红色", "方块"
X = RNG.normal(size=(3, 3, 4, 4)).astype(np.float32)
TEXTS = ["a red circle", "a blue square", "红色方块"]


def small(trained=True, **more):
    """A model of random weights, or one whose network returns 0, as before training."""
    tokenizer = WordTokenizer(WORDS)
    network = TextDiT(4, 2, 3, len(tokenizer), 4, dim=8, depth=1, heads=2)
    for p in network.parameters() if trained else ():
        if not p.data.any():
            p.data = tinycv.randn(*p.shape, dtype=p.dtype).data * 0.3
    return TextToImage(network, tokenizer, **more)


def unguided(model, ids, sigma=2.0):
    denoise = clipped(edm_denoiser(model.network, model.sigma_data), -1.0, 1.0)
    return denoise(Tensor(X), sigma, ids).numpy()


# ── guidance ─────────────────────────────────────────────────────────────────────────────────────


def test_guidance_0_is_the_conditional_model_and_minus_1_the_unconditional_one():
    model = small()
    ids = model.ids_of(TEXTS)
    nothing = Tensor(np.full(ids.shape, PAD))
    for w, expected in ((0.0, ids), (-1.0, nothing)):
        got = model.denoiser(TEXTS, w)(Tensor(X), 2.0).numpy()
        np.testing.assert_array_equal(got, unguided(model, expected))


@pytest.mark.parametrize("w", [0.5, 2.0, 8.0])
def test_guidance_towards_no_text_is_the_unconditional_model(w):
    model, nothing = small(), np.full((3, 4), PAD)
    got = model.denoiser(nothing, w)(Tensor(X), 2.0).numpy()
    np.testing.assert_allclose(got, unguided(model, Tensor(nothing)), atol=1e-5)


def test_guidance_extrapolates_from_no_text_to_the_text():
    model = small(sigma_data=0.1)  # so small that nothing is clipped
    ids = model.ids_of(TEXTS)
    conditional, unconditional = (unguided(model, i) for i in (ids, Tensor(0 * ids.numpy())))
    got = model.denoiser(TEXTS, 2.0)(Tensor(X), 2.0).numpy()
    np.testing.assert_allclose(got, 3 * conditional - 2 * unconditional, atol=1e-5)


def test_with_every_text_dropped_only_padding_is_read():
    model = small()
    model.loss(Tensor(X), model.ids_of(TEXTS), drop=1.0).backward()
    gradient = model.network.embed.text.embed.weight.grad.numpy()
    assert gradient[PAD].any() and not gradient[PAD + 1 :].any()


def test_with_no_text_dropped_padding_is_never_read():
    model = small()
    model.loss(Tensor(X), model.ids_of(TEXTS), drop=0.0).backward()
    assert not model.network.embed.text.embed.weight.grad.numpy()[PAD].any()


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sampler, steps, error", [("heun", 60, 0.01), ("ddim", 400, 0.03)])
def test_a_network_that_returns_0_samples_a_gaussian_exactly(sampler, steps, error):
    """D = c_skip x is the exact denoiser of data from N(0, σ_d²). The ODE then shrinks x from
    √(σ_max² + σ_d²) to σ_d."""
    model = small(trained=False, sigma_data=0.1, sigma_min=1e-3, sigma_max=20.0)
    got = model.sample(TEXTS, Tensor(X), 2.0, steps, sampler).numpy()
    expected = X * 0.1 * 20 / (400 + 0.01) ** 0.5
    np.testing.assert_allclose(got, expected, rtol=error)


def test_a_shift_of_centre_and_pixels_together_changes_nothing():
    """Because a = 1, D(x) = centre + D'(x - centre) at every noise level."""
    plain, moved = small(), small(centre=-0.5)
    moved.load_state_dict(plain.state_dict())
    sigma = np.array([0.1, 1.0, 10.0], np.float32)
    x = np.clip(X / 6, -0.4, 0.4)
    losses = []
    for model, images in ((plain, x), (moved, x - 0.5)):
        tinycv.manual_seed(0)
        losses.append(model.loss(Tensor(images), model.ids_of(TEXTS)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    maps = [m.attention_maps(TEXTS, Tensor(i), sigma) for m, i in ((plain, x), (moved, x - 0.5))]
    np.testing.assert_allclose(maps[0][0].numpy(), maps[1][0].numpy(), rtol=1e-3)


def test_a_picture_depends_on_its_own_text_alone(device):
    model = small()
    model.to(device)
    noise = Tensor(X, device=device)
    before = model.sample(TEXTS, noise, 2.0, 3).numpy()
    after = model.sample([TEXTS[0], TEXTS[0], TEXTS[2]], noise, 2.0, 3).numpy()
    moved = np.abs(after - before).reshape(3, -1).max(axis=1)
    assert moved[1] > 1e-3 and (moved[[0, 2]] < 1e-4).all()


def test_one_prompt_may_be_a_text_and_ids_are_taken_as_they_are():
    model = small()
    noise = Tensor(X[:1])
    by_text = model.sample(TEXTS[0], noise, 1.0, 2).numpy()
    by_ids = model.sample(model.tokenizer.encode(TEXTS[0], 4), noise, 1.0, 2).numpy()
    np.testing.assert_array_equal(by_text, by_ids)


def test_inpainting_keeps_the_known_pixels_and_never_reads_the_others():
    model = small(sigma_min=1e-3)
    known = np.broadcast_to(np.arange(4)[:, None] < 2, X.shape)
    painted = model.inpaint(
        TEXTS, Tensor(np.where(known, X, np.nan)), Tensor(known), steps=4
    ).numpy()
    np.testing.assert_array_equal(painted[known], X[known])
    assert np.isfinite(painted).all()


def test_an_edit_with_little_noise_keeps_the_picture():
    model, picture = small(sigma_min=1e-4), np.clip(X / 3, -1, 1)
    edited = model.edit(TEXTS, Tensor(picture), sigma=1e-3, w=0.0, steps=3).numpy()
    np.testing.assert_allclose(edited, picture, atol=0.02)


def test_an_edit_with_more_noise_than_the_picture_forgets_it():
    model = small(trained=False, sigma_data=0.1, sigma_min=1e-3)
    results = []
    for picture in (X, 0 * X):
        tinycv.manual_seed(0)
        results.append(model.edit(TEXTS, Tensor(picture), sigma=1000.0, steps=20).numpy())
    np.testing.assert_allclose(*results, atol=1e-3)


def test_attention_maps_are_those_of_the_network_at_this_noise_level():
    model = small(sigma_data=0.5)
    sigma = np.array([0.1, 1.0, 10.0], np.float32)
    c_in = 1 / (sigma**2 + 0.25) ** 0.5
    x = Tensor(X * c_in[:, None, None, None])
    expected = model.network.attention_maps(x, Tensor(np.log(sigma) / 4), model.ids_of(TEXTS))
    got = model.attention_maps(TEXTS, Tensor(X), sigma)
    np.testing.assert_allclose(got[0].numpy(), expected[0].numpy(), rtol=1e-4)


# ── what cannot be drawn ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "prompt, text",
    [
        ("a rad circle", "does not know 'rad'.*'red'"),
        ("", "empty prompt"),
        ("красный круг", "does not know that language"),
        ("a red circle a red circle", "of 6 words; length is 4"),
    ],
)
def test_a_prompt_that_cannot_be_drawn_is_refused(prompt, text):
    with pytest.raises(ValueError, match=text):
        small().sample(prompt, Tensor(X[:1]))


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda m: m.sample(TEXTS, Tensor(X[:2])),
            ValueError,
            r"sample: .* 3 texts.*\(2, 3, 4, 4\)",
        ),
        (lambda m: m.inpaint(TEXTS, X[:2], X[:2] > 0), ValueError, "inpaint: .* 3 texts"),
        (lambda m: m.edit(TEXTS, X[:2], 1.0), ValueError, "edit: there are 3 texts, but images"),
        (lambda m: m.loss(X[:2], TEXTS), ValueError, "loss: there are 3 texts, but images has"),
        (lambda m: m.attention_maps(TEXTS, X[:2], 1.0), ValueError, "attention_maps: .* 3 texts"),
        (lambda m: m.sample(TEXTS, X, steps=1), ValueError, "sample: steps is 1; .* at least 2"),
        (lambda m: m.inpaint(TEXTS, X, X > 0, steps=0), ValueError, "inpaint: steps is 0"),
        (lambda m: m.edit(TEXTS, X, 1.0, steps=1), ValueError, "edit: steps is 1"),
        (lambda m: m.sample(TEXTS, X[:, :1]), ValueError, r"sample: noise has .*with 3 channels"),
        (lambda m: m.sample(TEXTS, X[..., :2]), ValueError, "sample: noise has .* 4 x 4 pixels"),
        (lambda m: m.loss(X[..., :2], TEXTS), ValueError, "loss: images has .* 4 x 4 pixels"),
        (lambda m: m.inpaint(TEXTS, X, X[:2] > 0), ValueError, "inpaint: known is .*shape of im"),
        (lambda m: m.edit(TEXTS, X, 1.0, w=None), TypeError, "edit: w is None"),
        (lambda m: m.sample(np.zeros((3, 5), int), X), ValueError, "sample: texts .*at most 4 w"),
        (lambda m: m.sample(TEXTS, Tensor(X), sampler="ddpm"), ValueError, "sampler is 'ddpm'"),
        (lambda m: m.sample(7, Tensor(X)), TypeError, "texts is 7"),
        (lambda m: m.edit(TEXTS, Tensor(X), 0.0), ValueError, "sigma is 0"),
        (lambda m: TextToImage(m.network, None), TypeError, "tokenizer is None"),
        (lambda m: TextToImage(m, m.tokenizer), TypeError, "network is TextToImage"),
        (lambda m: TextToImage(m.network, m.tokenizer, -1.0), ValueError, "sigma_data is -1"),
    ],
)
def test_wrong_arguments_are_refused(call, error, text):
    with pytest.raises(error, match=text):
        call(small())


def test_the_loss_of_texts_is_that_of_their_ids():
    model, losses = small(), []
    for texts in (TEXTS, model.ids_of(TEXTS), model.ids_of(TEXTS).numpy()):
        tinycv.manual_seed(0)
        losses.append(model.loss(X, texts, drop=0.5).item())
    assert losses[0] == losses[1] == losses[2]


def test_the_example_of_the_docstring_runs():
    lines = [line for line in TextToImage.__doc__.splitlines() if line.startswith(" " * 8)]
    names = {"tinycv": tinycv, "WordTokenizer": WordTokenizer, "TextDiT": TextDiT}
    names["TextToImage"] = TextToImage
    exec(textwrap.dedent("\n".join(lines)), names)
    assert names["pictures"].shape == (1, 3, 16, 16) and np.isfinite(names["loss"].item())


def test_a_tokenizer_with_more_words_than_the_network_is_refused():
    model = small()
    larger = WordTokenizer(["more", *WORDS])
    with pytest.raises(ValueError, match="build the network with words=len"):
        TextToImage(model.network, larger)


def test_ids_are_asked_for_where_texts_are_given():
    network = small().network
    x, t = X[:1], np.ones(1, np.float32)
    with pytest.raises(TypeError, match=r"a tokenizer makes them from texts"):
        network(x, t, ["a red circle"])
