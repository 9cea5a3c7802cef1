"""The convolutional stem: its tokens, the window that each of them sees, and a ViT with a stem."""

import numpy as np
import pytest
from certified import certify_layer
from wrong_calls import riddles

import tinycv
from tinycv import Tensor
from tinycv.nn.functional import conv2d, cross_entropy
from tinycv.optim import AdamW
from tinycv.training.checkpoint import load_model, save_model
from tinycv.vision import ConvStem, ViT, patch_filters, patch_rollout, save_vit
from tinycv.vision.recipe import groups

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 2, 10, 10)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])
# 10 pixels, halved twice: 5, then 3
TOKENS = 3 * 3


def small(**options):
    return ViT(
        image_size=10,
        patch_size=4,
        num_classes=3,
        channels=2,
        dim=8,
        depth=2,
        heads=2,
        mlp_dim=12,
        stem=(3, 4),
        **options,
    )


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "height, width, tokens", [(28, 28, 16), (32, 32, 16), (8, 8, 1), (1, 9, 2), (33, 8, 5)]
)
def test_three_convolutions_give_one_token_per_eight_pixels_rounded_up(
    device, height, width, tokens
):
    stem = ConvStem(1, (2, 3, 4), dim=5).to(device)
    images = Tensor(np.ones((2, 1, height, width), np.float32), device=device)
    assert stem(images).shape == (2, tokens, 5)


def test_a_stem_is_convolutions_norms_and_relus_followed_by_a_projection(device):
    stem = ConvStem(2, (3, 4), dim=5).to(device).eval()
    for norm in stem.norms:
        norm.running_mean.data = norm.running_mean.data + 0.1  # from 0
        norm.running_var.data = norm.running_var.data * 4  # from 1
    x = IMAGES
    for conv in stem.convs:
        x = conv2d(Tensor(x), Tensor(conv.weight.numpy()), stride=2, padding=1).numpy()
        x = np.maximum((x - 0.1) / np.sqrt(4 + 1e-5), 0)  # weights are 1, biases 0
    matrix = stem.project.weight.numpy()[:, :, 0, 0]
    tokens = np.einsum("bchw,dc->bhwd", x, matrix) + stem.project.bias.numpy()
    np.testing.assert_allclose(
        stem(Tensor(IMAGES, device=device)).numpy(),
        tokens.reshape(4, TOKENS, 5),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_token_sees_exactly_its_window_which_overlaps_with_its_neighbours():
    stem = ConvStem(1, (2, 2, 2), dim=3).to("float64")
    image = Tensor(RNG.normal(size=(2, 1, 32, 32)), requires_grad=True)
    stem.eval()(image).reshape((2, 4, 4, 3))[0, 1, 2].sum().backward()
    seen = image.grad.numpy()[0, 0] != 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert 8 - 7 <= rows[0] < rows[-1] <= 8 + 7  # its centre: row 8, column 16
    assert 16 - 7 <= columns[0] < columns[-1] <= 16 + 7
    assert len(rows) > 8 and len(columns) > 8


# ── a ViT with a stem ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_every_image_gets_a_score_for_every_class_and_a_map_for_every_token(device, pool):
    model = small(pool=pool).to(device).eval()
    images = Tensor(IMAGES, device=device)
    assert model(images).shape == (4, 3)
    assert [m.shape for m in model.attention_maps(images)] == [(4, 2, TOKENS + 1, TOKENS + 1)] * 2
    assert patch_rollout(model, images).shape == (4, TOKENS)


def test_after_training_an_image_does_not_depend_on_its_batch(device):
    model, images = small().to(device), Tensor(IMAGES, device=device)
    model(images)  # moves the running statistics
    alone = model.eval()(Tensor(IMAGES[:1], device=device)).numpy()
    np.testing.assert_allclose(alone, model(images).numpy()[:1], rtol=1e-4, atol=1e-6)


def test_without_a_stem_the_names_of_the_weights_do_not_change():
    plain = ViT(image_size=6, patch_size=2, num_classes=3, depth=1)
    assert {name for name in plain.state_dict() if not name.startswith("blocks.0.")} == {
        "patch_embed.weight",
        "patch_embed.bias",
        "cls_token",
        "pos_embed",
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }
    with pytest.raises(ValueError, match="patch_embed"):
        small().load_state_dict(plain.state_dict())


def test_a_stem_is_saved_and_loaded_by_name_with_its_running_statistics(tmp_path):
    model, other = small(), small()
    model(Tensor(IMAGES))
    save_model(tmp_path / "a.safetensors", model)
    load_model(tmp_path / "a.safetensors", other)
    assert (model.eval()(Tensor(IMAGES)).numpy() == other.eval()(Tensor(IMAGES)).numpy()).all()


def test_convolutions_and_matrices_of_the_stem_decay_and_its_norms_do_not():
    model = small()
    names = {p: name for name, p in model.named_parameters() if name.startswith("patch_embed")}
    decay, others = (
        {names[p] for p in group["params"] if p in names}
        for group in groups(list(model.parameters()), 0.05)
    )
    assert decay == {
        "patch_embed.convs.0.weight",
        "patch_embed.convs.1.weight",
        "patch_embed.project.weight",
    }
    assert len(others) == 2 * 2 + 1  # weight and bias of two norms, and the bias of the projection


def test_steps_on_a_fixed_batch_lower_the_loss_and_every_parameter_gets_a_gradient(device):
    model = small().to(device)
    x, labels = Tensor(IMAGES, device=device), Tensor(LABELS, device=device)
    optimizer, losses = AdamW(model.parameters(), lr=3e-3), []
    for _ in range(15):
        loss = cross_entropy(model(x), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        gradients = [p.grad.numpy() for p in model.parameters()]
        assert all(np.isfinite(g).all() and g.any() for g in gradients)
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("training", [True, False], ids=["training", "after"])
def test_the_stem_is_certified(training):
    # A seed for which no kink of a ReLU lies within a finite difference, as for 5 seeds in 6.
    tinycv.manual_seed(2)
    certify_layer(
        ConvStem(2, (2, 2), dim=2).train(training),
        np.random.default_rng(2).normal(size=(3, 2, 3, 3)),
    )


# ── wrong arguments ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "patch_size, stem, message",
    [
        (7, (4, 8, 16), r"ViT: patch_size is 7, and stem=\(4, 8, 16\) .* must then be 8"),
        (4, (4, 8, 16), "patch_size must then be 8"),
        (4, (4, 0), r"ViT: stem\[1\] is 0"),
        (4, (4, 2.5), r"ViT: stem\[1\] is 2.5"),
        (4, "word", "ViT: stem is 'word'"),
        (1, (), "widths is empty"),
    ],
)
def test_wrong_widths_are_refused_in_words(patch_size, stem, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ViT(image_size=28, patch_size=patch_size, num_classes=10, stem=stem)


def test_wrong_arguments_of_a_stem_raise_a_plain_sentence():
    too_large = "Maximum allowed dimension exceeded"  # the error of NumPy for 10^30 channels
    assert not riddles(ConvStem, {"channels": 1, "widths": (2, 3), "dim": 4}, "ConvStem", too_large)


@pytest.mark.parametrize("shape", [(4, 1, 10, 10), (2, 10, 10), (4, 2, 10)])
def test_images_with_a_wrong_number_of_channels_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError) as caught:
        ConvStem(2, (3,), 4)(Tensor(np.ones(shape, np.float32)))
    assert str(shape) in str(caught.value) and "(B, 2, H, W)" in str(caught.value)


def test_save_vit_and_patch_filters_refuse_a_stem(tmp_path):
    with pytest.raises(
        ValueError, match="save_vit: the model has a convolutional stem, .*save_model"
    ):
        save_vit(tmp_path / "a.safetensors", small())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="patch_filters: the model has a convolutional stem"):
        patch_filters(small(), 1)
