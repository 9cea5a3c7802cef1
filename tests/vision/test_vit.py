"""The Vision Transformer: the order of patches, what CLS depends on, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from near import near

import tinycv
from tinycv import Tensor
from tinycv.nn.functional import cross_entropy
from tinycv.vision import ViT, patchify

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 2, 6, 6)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])


def small(depth=2, **options):
    return ViT(
        image_size=6,
        patch_size=2,
        num_classes=3,
        channels=2,
        dim=8,
        depth=depth,
        heads=2,
        mlp_dim=12,
        **options,
    )


# ── patches ───────────────────────────────────────────────────────────────────────────────────────


def test_patches_are_read_row_by_row_from_the_top_left(device):
    image = np.array([[[[0, 1, 2, 3], [4, 5, 6, 7]]]], np.float32)
    assert patchify(Tensor(image, device=device), 2).numpy().tolist() == [
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    ]


def test_a_patch_is_flattened_by_channel_then_row_then_column(device):
    images = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
    slow = [
        [
            [images[b, c, y + i, x + j] for c in range(3) for i in range(2) for j in range(2)]
            for y in range(0, 4, 2)
            for x in range(0, 6, 2)
        ]
        for b in range(2)
    ]
    assert patchify(Tensor(images, device=device), 2).numpy().tolist() == np.array(slow).tolist()


def test_an_image_that_does_not_divide_into_patches_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="image of 6 x 7 cannot be divided into patches of 3 x 3"):
        patchify(IMAGES[:, :, :, [0, 1, 2, 3, 4, 5, 5]], 3)


# ── sizes ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_vit_whose_patches_do_not_fill_the_image_is_refused():
    with pytest.raises(ValueError, match="image_size 28 .* patch_size 5, but 3 pixels"):
        ViT(image_size=28, patch_size=5, num_classes=10)


@pytest.mark.parametrize("shape", [(4, 2, 6, 8), (4, 1, 6, 6), (2, 6, 6)])
def test_images_of_another_size_are_refused_with_both_sizes(shape):
    with pytest.raises(ValueError) as caught:
        small()(tinycv.ones(*shape))
    assert str(shape) in str(caught.value)
    assert "(B, 2, 6, 6)" in str(caught.value)


@pytest.mark.parametrize("batch", [0, 1, 4])
def test_every_image_gets_a_score_for_every_class(device, batch):
    assert small().to(device)(Tensor(IMAGES[:batch], device=device)).shape == (batch, 3)


def test_an_image_does_not_depend_on_its_batch(device):
    model = small().to(device)
    np.testing.assert_allclose(
        model(Tensor(IMAGES[:1], device=device)).numpy(),
        model(Tensor(IMAGES, device=device)).numpy()[:1],
        rtol=1e-4,
        atol=1e-6,
    )


# ── CLS and maps ──────────────────────────────────────────────────────────────────────────────────


def rearranged(images, order):
    """6 x 6 images with their 2 x 2 patches in another order."""
    cut = (
        images.reshape(-1, 2, 3, 2, 3, 2)
        .transpose(0, 2, 4, 1, 3, 5)
        .reshape(-1, 9, 2, 2, 2)[:, order]
    )
    return cut.reshape(-1, 3, 3, 2, 2, 2).transpose(0, 3, 1, 4, 2, 5).reshape(images.shape)


def test_permuting_patches_with_their_positions_does_not_change_cls(device):
    model, order = small().to(device), RNG.permutation(9)
    before = model(Tensor(IMAGES, device=device)).numpy()
    model.pos_embed.data = model.pos_embed.data[:, [0, *(1 + order)]]
    np.testing.assert_allclose(
        model(Tensor(rearranged(IMAGES, order), device=device)).numpy(),
        before,
        rtol=1e-4,
        atol=1e-5,
    )


def test_permuting_patches_without_their_positions_changes_the_scores(device):
    model, order = small().to(device), RNG.permutation(9)
    # positions start with a deviation of 0.02, which could be too small to see
    model.pos_embed.data = 50 * model.pos_embed.data
    assert not np.allclose(
        model(Tensor(IMAGES, device=device)).numpy(),
        model(Tensor(rearranged(IMAGES, order), device=device)).numpy(),
        atol=1e-3,
    )


def test_every_patch_reaches_the_scores(device):
    model, images = small().to(device), Tensor(IMAGES, device=device, requires_grad=True)
    model(images).sum().backward()
    assert (np.abs(patchify(images.grad, 2).numpy()).max(axis=-1) > 0).all()


def test_pool_mean_reads_the_mean_of_the_patches(device):
    model, images = small(pool="mean").to(device), Tensor(IMAGES, device=device)
    mean = model.tokens(images)[:, 1:].mean(axis=1)
    near(model(images).numpy(), model.head(mean).numpy())
    by_cls = small().to(device)
    # the same parameters, but reading CLS
    by_cls.load_state_dict(model.state_dict())
    assert not np.allclose(model(images).numpy(), by_cls(images).numpy(), atol=1e-3)


def test_an_unknown_pool_is_refused_with_its_name():
    with pytest.raises(ValueError, match="ViT: pool is 'max'; it must be one of 'cls', 'mean'"):
        small(pool="max")


def test_attention_maps_are_probabilities_for_every_block_image_head_and_token(device):
    maps = small().to(device).attention_maps(Tensor(IMAGES, device=device))
    assert [m.shape for m in maps] == [(4, 2, 10, 10)] * 2
    for m in maps:
        np.testing.assert_allclose(m.numpy().sum(axis=-1), 1, rtol=1e-5)
        assert (m.numpy() > 0).all()


def test_attention_maps_belong_to_the_blocks_of_the_forward_pass():
    model, x = small(), Tensor(IMAGES)
    tokens = model.blocks[0](model.embed(x))
    second = model.blocks[1].self_attn.weights(model.blocks[1].norm1(tokens))
    assert (model.attention_maps(x)[1].numpy() == second.numpy()).all()


def test_attention_maps_are_the_weights_that_the_values_were_averaged_with(device):
    model, images = small().to(device), Tensor(IMAGES, device=device)
    x, attend = model.embed(images), model.blocks[0].self_attn
    read = model.blocks[0].norm1(x)
    values = attend.split_heads(attend.project(read, None, None)[2])
    by_map = attend.out_proj(attend.merge_heads(model.attention_maps(images)[0] @ values))
    np.testing.assert_allclose(attend(read).numpy(), by_map.numpy(), rtol=1e-4, atol=1e-6)


# ── learning ──────────────────────────────────────────────────────────────────────────────────────


def steps(model, device, count, rate, dtype="float32"):
    """The losses before each step of plain gradient descent on one batch, and the squared lengths
    of its gradients."""
    x, labels, losses, squares = (
        Tensor(IMAGES.astype(dtype), device=device),
        Tensor(LABELS, device=device),
        [],
        [],
    )
    for _ in range(count + 1):
        loss = cross_entropy(model(x), labels)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        squares.append(sum((p.grad.numpy() ** 2).sum() for p in model.parameters()))
        for p in model.parameters():
            p.data = p.data - rate * p.grad.data
    return np.array(losses), np.array(squares)


def test_a_small_step_lowers_the_loss_by_its_rate_times_the_square_of_the_gradient(device):
    losses, squares = steps(
        small().to(device).to("float64"), device, count=5, rate=1e-5, dtype="float64"
    )
    np.testing.assert_allclose(losses[:-1] - losses[1:], 1e-5 * squares[:-1], rtol=0.02)


@pytest.mark.statistical
def test_it_learns_with_dropout_too():
    model, x, labels = small(dropout=0.1), Tensor(IMAGES), Tensor(LABELS)
    before = cross_entropy(model.eval()(x), labels).item()
    steps(model.train(), "cpu", count=60, rate=0.02)
    assert cross_entropy(model.eval()(x), labels).item() / before < 0.7


def test_a_model_trained_with_dropout_is_deterministic_in_eval_mode(device):
    model, x = small(dropout=0.1).to(device), Tensor(IMAGES, device=device)
    steps(model.train(), device, count=3, rate=0.02)
    trained, again, first, second = [
        model.train(mode)(x).numpy() for mode in (True, True, False, False)
    ]
    assert (trained != again).any() and (first == second).all()


def test_dropout_makes_two_passes_of_training_differ(device):
    model, x = small(dropout=0.5).to(device), Tensor(IMAGES, device=device)
    assert (model(x).numpy() != model(x).numpy()).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_and_gradients_have_the_dtype_of_images_and_weights(device, dtype):
    model = small().to(device).to(dtype)
    scores = model(Tensor(IMAGES.astype(dtype), device=device))
    cross_entropy(scores, Tensor(LABELS, device=device)).backward()
    assert {t.dtype.name for t in [scores, *(p.grad for p in model.parameters())]} == {dtype}


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(device):
    model = small().to(device)
    cross_entropy(model(Tensor(IMAGES, device=device)), Tensor(LABELS, device=device)).backward()
    for name, p in model.named_parameters():
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name


@pytest.mark.parametrize("pool, depth", [("cls", 2), ("mean", 1)])
def test_the_whole_network_is_certified(pool, depth):
    model = small(pool=pool, depth=depth)
    # larger than 0.02, where everything is almost linear
    for p in (model.cls_token, model.pos_embed):
        p.data = 20 * p.data
    certify_layer(model, IMAGES[:2])
