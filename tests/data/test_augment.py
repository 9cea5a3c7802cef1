from functools import partial
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycv.data import affine, rand_augment, random_affine, random_crop, random_flip, random_shift

CHANGES = [
    random_affine,
    random_shift,
    random_flip,
    partial(random_crop, size=(9, 7), padding=2),
    rand_augment,
]
each_change = pytest.mark.parametrize(
    "change", CHANGES, ids=lambda f: getattr(f, "func", f).__name__
)


def images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def still(count):
    """No rotation, no translation, no scaling."""
    return np.zeros(count), np.zeros((count, 2)), np.ones(count)


def plain_bilinear(plane, row, column):
    total = 0.0
    for r in (floor(row), floor(row) + 1):
        for c in (floor(column), floor(column) + 1):
            if 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1]:
                total += plane[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


def plain_affine(plane, degrees, translate, scale, shear):
    """The definition, pixel by pixel: invert output = M (source - centre) + centre + translate."""
    angle = np.deg2rad(degrees)
    # on (x, y)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # y grows downwards
    turn = turn @ [[1, -np.tan(np.deg2rad(shear))], [0, 1]]
    centre = (np.array(plane.shape[::-1]) - 1) / 2
    out = np.empty(plane.shape)
    for row, column in np.ndindex(plane.shape):
        x, y = np.linalg.solve(turn, (column, row) - centre - translate) + centre
        out[row, column] = plain_bilinear(plane, y, x)
    return out


numbers = st.floats(-1, 1).map(lambda value: round(value, 3))


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.integers(1, 3),
    turn=numbers,
    right=numbers,
    down=numbers,
    size=st.floats(0.3, 3),
    lean=numbers,
)
def test_affine_equals_its_plain_definition(height, width, channels, turn, right, down, size, lean):
    x = images(2, channels, height, width)
    degrees, translate, scale = (
        [180 * turn, 20],
        [[right * width, down * height], [0.5, -0.25]],
        [size, 1.2],
    )
    shear = [60 * lean, -10]
    fast = affine(x, np.array(degrees), np.array(translate), np.array(scale), np.array(shear))
    for b, c in np.ndindex(2, channels):
        plain = plain_affine(x[b, c].astype(float), degrees[b], translate[b], scale[b], shear[b])
        # The plain sum is continuous, so a float32 source position moves it by about its own
        # rounding.
        np.testing.assert_allclose(fast[b, c], plain, atol=2e-4)


def test_an_identity_affine_map_returns_the_same_bits():
    x = images(3, 2, 5, 8)
    assert (affine(x, *still(3)) == x).all()


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("right, down", [(0, 0), (1, 0), (0, -1), (2, 1)])
def test_a_neighbour_of_weight_0_is_not_read(lost, right, down):
    x = images(2, 3, 5, 6)
    x[0, 1, 2, 3] = lost
    degrees, _, scale = still(2)
    moved = affine(x, degrees, np.array([[right, down]] * 2), scale)
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)))
    np.testing.assert_array_equal(moved, padded[:, :, 3 - down : 8 - down, 3 - right : 9 - right])


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_shift_of_half_a_pixel_spreads_a_bad_value_to_two_pixels_only(lost):
    x = images(1, 1, 5, 6)
    x[0, 0, 2, 3] = lost
    degrees, _, scale = still(1)
    bad = ~np.isfinite(affine(x, degrees, np.array([[0.5, 0]]), scale)[0, 0])
    assert np.argwhere(bad).tolist() == [[2, 3], [2, 4]]


def test_a_quarter_turn_is_rot90_clockwise():
    x = images(2, 1, 7, 7)
    _, move, size = still(2)
    np.testing.assert_allclose(
        affine(x, np.full(2, 90), move, size), np.rot90(x, -1, axes=(2, 3)), atol=1e-5
    )


def test_a_whole_number_of_pixels_moves_right_and_down():
    x = images(2, 1, 6, 7)
    turn, _, size = still(2)
    moved = affine(x, turn, np.full((2, 2), (2, 1)), size)
    assert (moved[:, :, 1:, 2:] == x[:, :, :-1, :-2]).all()
    assert (moved[:, :, :1] == 0).all() and (moved[:, :, :, :2] == 0).all()


def test_a_shear_of_45_degrees_moves_each_row_one_pixel_further_right_than_the_row_below():
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[..., 2] = 1
    leaning = affine(x, np.zeros(1), np.zeros((1, 2)), np.ones(1), np.array([45.0]))
    np.testing.assert_allclose(leaning[0, 0], np.eye(5)[::-1], atol=1e-6)


def test_pixels_that_leave_the_image_are_replaced_by_zeros():
    x = images(2, 1, 6, 7) + 1
    turn, _, size = still(2)
    assert (affine(x, turn, np.array([[7, 0], [0, -1e9]]), size) == 0).all()


def test_a_scale_of_2_shows_the_middle():
    x = images(1, 1, 9, 9)
    turn, move, _ = still(1)
    twice = affine(x, turn, move, np.array([2]))
    np.testing.assert_allclose(twice[..., ::2, ::2], x[..., 2:7, 2:7], atol=1e-6)


def test_each_image_has_its_own_angle():
    x = images(2, 1, 5, 5)
    together = affine(x, np.array([30, -50]), np.zeros((2, 2)), np.ones(2))
    alone = affine(x[1:], np.array([-50]), np.zeros((1, 2)), np.ones(1))
    assert (together[1:] == alone).all()


@each_change
def test_the_result_depends_on_the_generator_alone(change):
    x = images(8, 1, 9, 7)
    first, again, other = (change(x, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@each_change
@pytest.mark.parametrize("shape", [(8, 3, 9, 7), (0, 1, 9, 7)])
def test_shape_and_dtype_are_kept_and_the_argument_is_not_changed(change, shape):
    x = images(*shape)
    before = x.copy()
    y = change(x, np.random.default_rng(0))
    assert (y.shape, y.dtype, y.flags.c_contiguous) == (x.shape, x.dtype, True)
    assert (x == before).all()


@each_change
def test_the_memory_layout_does_not_matter(change):
    x = images(6, 9, 7, 2).transpose(0, 3, 1, 2)[:, :, ::-1]
    first, again = (change(array, np.random.default_rng(0)) for array in (x, x.copy()))
    assert (first == again).all()


def test_random_affine_draws_within_its_bounds(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "tinycv.data.augment.affine", lambda x, *parameters: drawn.append(parameters)
    )
    x = images(5000, 1, 10, 20)
    random_affine(
        x, np.random.default_rng(0), degrees=30, translate=0.2, scale=(0.5, 0.8), shear=10
    )
    degrees, translate, scale, shear = drawn[0]
    right, down = translate.T
    for values, low, high in [
        (degrees, -30, 30),
        (right, -4, 4),
        (down, -2, 2),
        (scale, 0.5, 0.8),
        (shear, -10, 10),
    ]:
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high >= values.max() > high - 0.01 * (high - low)


def test_random_shift_moves_whole_images_by_every_allowed_amount():
    x = np.zeros((2000, 2, 9, 9), np.float32)
    x[:, :, 4, 4] = 1
    y = random_shift(x, np.random.default_rng(0), pixels=2)
    places = {tuple(place) for place in np.argwhere(y)[:, 2:]}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}
    assert (y[:, 0] == y[:, 1]).all() and (y.sum((2, 3)) == 1).all()


def test_random_shift_fills_with_zeros():
    x = np.ones((500, 1, 4, 4), np.float32)
    sums = random_shift(x, np.random.default_rng(0), pixels=1).sum((1, 2, 3))
    assert set(sums) == {9, 12, 16}


def test_random_shift_by_zero_changes_nothing():
    x = images(3, 1, 5, 5)
    assert (random_shift(x, np.random.default_rng(0), pixels=0) == x).all()


@each_change
def test_images_without_a_channel_axis_are_refused(change):
    with pytest.raises(
        ValueError, match=r"x is float32 of shape \(8, 28, 28\); it must be images \(B, C, H, W\)"
    ):
        change(np.zeros((8, 28, 28), np.float32), np.random.default_rng(0))


def test_affine_of_integers_is_refused():
    with pytest.raises(TypeError, match="float images, not uint8; divide by 255"):
        random_affine(np.zeros((8, 1, 5, 5), np.uint8), np.random.default_rng(0))


BOUNDS = [
    ("degrees", -1),
    ("shear", -1),
    ("shear", 90),
    ("translate", -0.1),
    ("scale", (0, 1)),
    ("scale", (2, 1)),
]


@pytest.mark.parametrize("name, value", BOUNDS)
def test_unsuitable_bounds_are_refused(name, value):
    with pytest.raises(ValueError, match="random_affine: "):
        random_affine(images(2, 1, 5, 5), np.random.default_rng(0), **{name: value})


def test_a_negative_shift_is_refused():
    with pytest.raises(ValueError, match="random_shift: pixels is -1; .* at least 0"):
        random_shift(images(2, 1, 5, 5), np.random.default_rng(0), pixels=-1)


# ── flip and crop ────────────────────────────────────────────────────────────────────────────────


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    x = images(400, 2, 3, 4)
    y = random_flip(x, np.random.default_rng(0))
    mirrored, left = ((y == z).all(axis=(1, 2, 3)) for z in (x[..., ::-1], x))
    assert (mirrored ^ left).all() and 160 < mirrored.sum() < 240


@pytest.mark.parametrize("chance, mirrored", [(0, False), (1, True)])
def test_a_chance_of_0_or_1_mirrors_no_image_or_every_image(chance, mirrored):
    x = images(9, 1, 3, 4)
    assert (
        random_flip(x, np.random.default_rng(0), chance) == (x[..., ::-1] if mirrored else x)
    ).all()


def test_a_crop_is_a_window_of_the_image_and_every_position_occurs():
    x = np.arange(30.0).reshape(1, 1, 5, 6)
    cut = random_crop(np.repeat(x, 500, axis=0), np.random.default_rng(0), (2, 3))
    corners = cut[:, 0, 0, 0]
    assert (cut[:, 0] - corners[:, None, None] == [[0, 1, 2], [6, 7, 8]]).all()
    assert set(corners) == {6 * row + column for row in range(4) for column in range(4)}


def test_a_crop_of_the_full_padded_size_is_the_padded_image():
    x = images(2, 1, 3, 3)
    assert (
        random_crop(x, np.random.default_rng(0), 5, padding=1)
        == np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    ).all()


NO_FIT = "a window of .* does not fit into images of 7 x 7 with padding="


@pytest.mark.parametrize(
    "options, words",
    [
        ({"size": 8}, NO_FIT),
        ({"size": (2, 10), "padding": 1}, NO_FIT),
        ({"size": 0}, "size is 0"),
        ({"size": 3, "padding": -1}, "padding is -1"),
    ],
)
def test_a_window_that_does_not_fit_is_refused_with_both_sizes(options, words):
    with pytest.raises(ValueError, match=f"random_crop: .*{words}"):
        random_crop(images(2, 1, 7, 7), np.random.default_rng(0), **options)


@pytest.mark.parametrize("chance", [-0.1, 1.1])
def test_a_chance_outside_0_to_1_is_refused(chance):
    with pytest.raises(
        ValueError, match=f"random_flip: chance is {chance}; .* at least 0 and at most 1"
    ):
        random_flip(images(2, 1, 3, 3), np.random.default_rng(0), chance)
