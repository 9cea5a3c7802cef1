"""Random filters at several scales: their sizes, what they see, and that they are not learned."""

import numpy as np
import pytest
from near import near

import tinycv
from tinycv import Tensor
from tinycv.vision import RandomFilters, luminance
from tinycv.vision.style_filters import (
    from_opponent_colours,
    halve,
    opponent_colours,
    random_filters,
)

RNG = np.random.default_rng(0)


def photo(side=32):
    return Tensor(RNG.uniform(0, 1, (2, 3, side, side)).astype(np.float32))


def test_each_level_has_maps_of_all_sizes_of_filters_at_half_the_size(device):
    filters = RandomFilters(per_size=4, sizes=(3, 5), levels=3).to(device)
    features = filters(Tensor(photo().numpy(), device=device))
    assert [maps.shape for maps in features.style] == [
        (2, 8, 32, 32),
        (2, 8, 16, 16),
        (2, 8, 8, 8),
    ]
    assert all((maps.numpy() >= 0).all() for maps in features.style)


def test_the_content_is_the_brightness():
    x = photo()
    near(RandomFilters(4, (3,), 2)(x).content.numpy(), luminance(x).numpy())


def test_filters_are_not_learned():
    assert not list(RandomFilters(4).parameters())


def test_one_seed_gives_the_same_filters_and_another_seed_others():
    def first_weight(seed):
        tinycv.manual_seed(seed)
        return RandomFilters(4).filters[0].numpy()

    assert (first_weight(1) == first_weight(1)).all()
    assert (first_weight(1) != first_weight(2)).all()


def test_half_of_the_filters_do_not_see_a_constant():
    weight = random_filters(6, 5).numpy()
    sums = np.abs(weight.sum(axis=(2, 3)))
    assert sums[:3].max() < 1e-5 < sums[3:].min()


@pytest.mark.parametrize("side", [3, 7])
def test_a_mirrored_image_gives_the_response_of_the_middle_at_its_edge(side):
    """A constant image has the same response everywhere: nothing dark is added at the edges."""
    filters = RandomFilters(4, (side,), 1)
    maps = filters(tinycv.full((1, 3, 16, 16), 0.7)).style[0].numpy()
    near(maps, np.broadcast_to(maps[:, :, 8:9, 8:9], maps.shape))


def test_opponent_colours_can_be_turned_back():
    x = photo()
    near(from_opponent_colours(opponent_colours(x)).numpy(), x.numpy())


def test_grey_has_no_opponent_colours():
    grey = Tensor(np.repeat(photo().numpy()[:, :1], 3, axis=1))
    assert np.abs(opponent_colours(grey).numpy()[:, 1:]).max() < 1e-5


def test_halving_keeps_the_mean_of_a_constant():
    near(halve(tinycv.full((1, 3, 8, 8), 0.3)).numpy(), np.full((1, 3, 4, 4), 0.3))


@pytest.mark.parametrize("sizes", [(), (2,), (3, 4), (101,)])
def test_sizes_of_filters_without_a_middle_are_refused(sizes):
    with pytest.raises(ValueError, match="RandomFilters: sizes is .*; it must be odd numbers"):
        RandomFilters(4, sizes)


def test_an_image_smaller_than_the_coarsest_filter_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="x is 32 x 32 pixels; both sides must be at least 56"):
        RandomFilters(4)(photo())
