"""Rollout, attention distance, positions, filters and deletion, each on a case whose answer is
known."""

import numpy as np
import pytest
from seeds import SEED

from tinycv import Tensor
from tinycv.vision import (
    ViT,
    attention_distance,
    attention_rollout,
    cls_attention,
    deletion_curve,
    enrichment,
    nearness_learned,
    patch_distance,
    patch_filters,
    patch_rollout,
    position_similarity,
    spearman,
)

RNG = np.random.default_rng(SEED)
IMAGES = RNG.normal(size=(3, 2, 6, 6)).astype(np.float32)


def small(**options):
    return ViT(
        image_size=6,
        patch_size=2,
        num_classes=3,
        channels=2,
        dim=8,
        depth=2,
        heads=2,
        mlp_dim=12,
        **options,
    )


def as_maps(device, *matrices, images=2, heads=3):
    """Maps for several blocks: each (T, T) is used for every head of every image."""
    return [
        Tensor(
            np.broadcast_to(np.asarray(m, np.float32), (images, heads, *np.shape(m))).copy(),
            device=device,
        )
        for m in matrices
    ]


# ── rollout ───────────────────────────────────────────────────────────────────────────────────────


def test_if_every_token_attends_to_itself_the_rollout_is_the_identity(device):
    rolled = attention_rollout(as_maps(device, *[np.eye(5)] * 3))
    assert (rolled == np.eye(5)).all() and rolled.shape == (2, 5, 5)


@pytest.mark.parametrize("depth", [1, 2, 5, 30])
def test_under_even_attention_every_block_halves_what_a_token_keeps_of_itself(device, depth):
    stays = 0.5**depth
    rolled = attention_rollout(as_maps(device, *[np.full((5, 5), 0.2)] * depth))
    np.testing.assert_allclose(
        rolled, np.broadcast_to((1 - stays) * 0.2 + stays * np.eye(5), (2, 5, 5)), rtol=1e-5
    )


def test_the_rollout_multiplies_the_blocks_in_their_order(device):
    from_one, from_two = np.eye(3), np.eye(3)
    # block 1: token 2 reads 1; block 2: token 0 reads 2
    from_one[2], from_two[0] = [0, 1, 0], [0, 0, 1]
    rolled = attention_rollout(as_maps(device, from_one, from_two))[0]
    np.testing.assert_allclose(rolled, [[0.5, 0.25, 0.25], [0, 1, 0], [0, 0.5, 0.5]])
    backwards = attention_rollout(as_maps(device, from_two, from_one))[0]
    np.testing.assert_allclose(
        backwards[0], [0.5, 0, 0.5]
    )  # in block 1, token 2 contains nothing of token 1 yet


def test_all_heads_have_the_same_weight_in_the_rollout():
    one, other = np.eye(2), np.array([[0, 1], [0, 1.0]])
    maps = [Tensor(np.stack([one, other])[None])]
    assert attention_rollout(maps)[0].tolist() == [[0.75, 0.25], [0, 1]]


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_patch_rollout_is_the_share_of_each_patch_in_what_the_head_reads(device, pool):
    model, images = small(pool=pool).to(device), Tensor(IMAGES, device=device)
    rolled = attention_rollout(model.attention_maps(images))
    np.testing.assert_allclose(rolled.sum(axis=2), 1, rtol=1e-5)
    read = rolled[:, 0] if pool == "cls" else rolled[:, 1:].mean(axis=1)
    np.testing.assert_allclose(
        patch_rollout(model, images), read[:, 1:] / (1 - read[:, :1]), rtol=1e-4
    )


def test_a_rollout_of_no_block_is_refused():
    with pytest.raises(ValueError, match="the map of at least one block"):
        attention_rollout([])


# ── where it looks ────────────────────────────────────────────────────────────────────────────────


def test_cls_attention_is_the_first_row_of_every_map(device):
    model, images = small().to(device), Tensor(IMAGES, device=device)
    cls_weights, maps = cls_attention(model.attention_maps(images)), model.attention_maps(images)
    assert cls_weights.shape == (2, 3, 2, 10)
    assert all((cls_weights[i] == m.numpy()[:, :, 0]).all() for i, m in enumerate(maps))


def test_the_distance_is_0_for_the_own_patch_and_one_patch_for_a_neighbour(
    device,
):
    right = np.zeros((10, 10))
    # patches 0 1 2 / 3 4 5 / 6 7 8 are tokens 1 to 9
    right[np.arange(10), [0, 2, 1, 2, 5, 4, 5, 8, 7, 8]] = 1
    distances = attention_distance(as_maps(device, np.eye(10), right), patch_size=4)
    np.testing.assert_allclose(distances, [[0, 0, 0], [4, 4, 4]])


def test_a_map_with_nan_has_no_distance():
    """But only for its own head."""
    maps = np.full((2, 2, 5, 5), 0.2, np.float32)
    maps[1, 0, 1:4] = np.nan
    found = attention_distance([Tensor(maps)], 2)[0]
    assert np.isnan(found[0]) and np.isfinite(found[1])


def test_attention_to_cls_does_not_count_in_the_distance():
    even, half = np.full((5, 5), 0.2), np.full((5, 5), 0.125)
    half[:, 0] = 0.5
    expected = (0 + 1 + 1 + 2**0.5) / 4
    np.testing.assert_allclose(
        attention_distance(as_maps("cpu", even, half), 1), expected, rtol=1e-6
    )


def test_patch_distance_is_the_distance_of_the_centres():
    assert patch_distance(2).tolist() == [
        [0, 1, 1, 2**0.5],
        [1, 0, 2**0.5, 1],
        [1, 2**0.5, 0, 1],
        [2**0.5, 1, 1, 0],
    ]


# ── what it has learned ───────────────────────────────────────────────────────────────────────────


def with_positions(device, positions):
    model = ViT(image_size=6, patch_size=2, num_classes=3, dim=9, heads=3).to(device)
    # CLS has no position among the patches
    full = np.concatenate([np.full((1, 9), 7.0), positions])[None].astype(np.float32)
    model.load_state_dict({**model.state_dict(), "pos_embed": full})
    return model


def test_orthogonal_positions_are_similar_only_to_themselves_whatever_their_length(device):
    lengths = RNG.uniform(0.5, 2, (9, 1))
    np.testing.assert_allclose(
        position_similarity(with_positions(device, lengths * np.eye(9))), np.eye(9), atol=1e-6
    )


@pytest.mark.statistical
def test_rho_is_nearly_1_if_similarity_falls_with_distance_and_near_0_if_positions_are_shuffled():
    # rows whose dot products are exactly these similarities
    positions = np.linalg.cholesky(np.exp(-(patch_distance(3) ** 2) / 8))
    # rounding makes equal similarities slightly different, so rho is not exactly 1
    assert nearness_learned(with_positions("cpu", positions)) > 0.98
    rhos = [nearness_learned(with_positions("cpu", RNG.permutation(positions))) for _ in range(60)]
    assert abs(np.mean(rhos)) < 0.15


@pytest.mark.statistical
def test_an_untrained_model_has_learned_nothing_about_positions():
    assert abs(nearness_learned(ViT(image_size=28, patch_size=4, num_classes=10))) < 0.2


def test_spearman_is_one_for_any_rising_function_and_minus_one_for_a_falling_one():
    x = RNG.normal(size=50)
    assert spearman(x, np.exp(x)) == pytest.approx(1) and spearman(x, -(x**3)) == pytest.approx(-1)


def test_spearman_with_ties_equals_scipy():
    from scipy.stats import spearmanr  # installed with scikit-learn

    a, b = RNG.integers(5, size=80), RNG.integers(7, size=80)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)


def test_filters_that_differ_in_one_direction_have_one_principal_component(device):
    model, way = small().to(device), RNG.normal(size=8)
    # and a common offset, which is not a component
    weight = np.outer(RNG.normal(size=8), way) + RNG.normal(size=8)
    model.load_state_dict({**model.state_dict(), "patch_embed.weight": weight.astype(np.float32)})
    filters, shares = patch_filters(model, 3)
    assert filters.shape == (3, 2, 2, 2) and shares == pytest.approx([1, 0, 0], abs=1e-5)
    assert abs((filters[0].ravel() * way).sum()) == pytest.approx(np.linalg.norm(way), rel=1e-4)


@pytest.mark.parametrize("count", [0, 9])
def test_more_components_than_there_are_are_refused(count):
    with pytest.raises(ValueError, match=rf"count is {count}; weights of shape \(8, 8\) have 8"):
        patch_filters(small(), count)


# ── whether it matters ────────────────────────────────────────────────────────────────────────────


def quarter():
    """Masks of 4 x 6 pixels whose upper left quarter is True: patch 0, if patches are 2 x 3."""
    mask = np.zeros((1, 4, 6), bool)
    mask[:, :2, :3] = True
    return mask


@pytest.mark.parametrize(
    "mass, times", [([1, 1, 1, 1], 1), ([5, 0, 0, 0], 4), ([0, 1, 1, 1], 0), ([1, 1, 0, 0], 2)]
)
def test_enrichment_is_the_share_of_mass_over_the_share_of_area(mass, times):
    assert enrichment(np.array([mass]), quarter()).tolist() == [times]


def test_a_patch_that_is_half_covered_counts_half():
    mask = quarter()
    mask[:, 1] = False
    # half the mass, on an eighth of the area
    assert enrichment(np.array([[1.0, 0, 0, 0]]), mask).tolist() == [4]


def test_an_empty_mask_is_refused_with_the_numbers_of_the_images():
    with pytest.raises(ValueError, match=r"empty in images \[1\]"):
        enrichment(np.ones((2, 4)), np.concatenate([quarter(), 0 * quarter()]))


def brightness_of_one_pixel(images):
    """A classifier whose probability of class 1 is the brightness of pixel (3, 1)."""
    chance = images[:, 0, 3, 1]
    return np.stack([1 - chance, chance], axis=1)


def test_the_deletion_curve_falls_when_the_patch_that_matters_is_removed():
    images, ones = np.full((2, 1, 4, 4), 0.75, np.float32), np.array([1, 1])
    # pixel (3, 1) lies in patch 2
    order = np.array([[2, 0, 1, 3], [0, 1, 2, 3]])
    curve = deletion_curve(brightness_of_one_pixel, images, ones, order, fill=0.25)
    assert curve.tolist() == [0.75, 0.5, 0.5, 0.25, 0.25]
    assert (images == 0.75).all()
    assert (
        deletion_curve(brightness_of_one_pixel, images, 1 - ones, order, fill=0.25) == 1 - curve
    ).all()


@pytest.mark.parametrize("order", [[[0, 1, 2]], [[0, 1, 2, 2]], [[1, 2, 3, 4]]])
def test_an_order_that_leaves_patches_out_is_refused(order):
    with pytest.raises(
        ValueError,
        match=r"order: 3 patches do not form a square|order of shape \(1, 4\): every row must hold",
    ):
        deletion_curve(
            brightness_of_one_pixel,
            np.ones((1, 1, 4, 4), np.float32),
            np.array([1]),
            np.array(order),
        )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "a, b",
    [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2.5, 2.5, 2.5]), ([0, 0], [0, 0])],
    ids=["a is equal", "b is equal", "both are equal"],
)
def test_spearman_of_constant_numbers_is_nan_without_a_warning(a, b):
    assert np.isnan(spearman(a, b))
