"""Resizing images: nearest and bilinear, their algebra, their derivatives, wrong arguments."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, nn
from tinycv.engine.check import certify
from tinycv.nn.functional import avg_pool2d, interpolate

RNG = np.random.default_rng(0)
MODES = [
    {"mode": "nearest"},
    {"mode": "bilinear"},
    {"mode": "bilinear", "align_corners": True},
]


def row(*values, **options):
    """The resized image of one row, with the height kept."""
    x = np.array(values, np.float32).reshape(1, 1, 1, -1)
    return interpolate(Tensor(x), **options).numpy()[0, 0, 0].tolist()


@pytest.mark.parametrize(
    "width, expected",
    [(6, [1, 1, 2, 2, 3, 3]), (5, [1, 1, 2, 2, 3]), (4, [1, 1, 2, 3]), (2, [1, 2]), (1, [1])],
)
def test_nearest_copies_the_old_pixel_in_which_the_new_one_begins(width, expected):
    assert row(1, 2, 3, size=(1, width)) == expected


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"scale_factor": (1, 2)}, [0, 1, 3, 4]),
        ({"size": (1, 4)}, [0, 1, 3, 4]),
        ({"size": (1, 5), "align_corners": True}, [0, 1, 2, 3, 4]),
        ({"size": (1, 1)}, [2]),
        ({"size": (1, 1), "align_corners": True}, [0]),
    ],
)
def test_bilinear_mixes_the_two_neighbours(options, expected):
    assert row(0, 4, mode="bilinear", **options) == expected


# ── nearest upsampling and average pooling are transposes of each other ───────────────────────────


@pytest.mark.parametrize("k", [1, 2, 3, (2, 5)])
def test_the_gradient_of_nearest_by_k_is_average_pooling_times_k_squared(k, device):
    down, across = (k, k) if isinstance(k, int) else k
    x = Tensor(RNG.normal(size=(2, 3, 4, 5)), device=device, requires_grad=True)
    g = Tensor(RNG.normal(size=(2, 3, 4 * down, 5 * across)), device=device)
    interpolate(x, scale_factor=k).backward(g)
    pooled = down * across * avg_pool2d(g, (down, across)).numpy()
    np.testing.assert_allclose(x.grad.numpy(), pooled, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3])
def test_the_gradient_of_average_pooling_times_k_squared_is_nearest_by_k(k, device):
    x = Tensor(RNG.normal(size=(2, 3, 4 * k, 5 * k)), device=device, requires_grad=True)
    g = Tensor(RNG.normal(size=(2, 3, 4, 5)), device=device)
    (avg_pool2d(x, k) * k**2).backward(g)
    upsampled = interpolate(g, scale_factor=k).numpy()
    np.testing.assert_allclose(x.grad.numpy(), upsampled, rtol=1e-12)


@pytest.mark.parametrize("size", [(8, 10), (6, 7), (3, 2)])
@pytest.mark.parametrize("options", MODES, ids=str)
def test_the_pull_is_the_transpose_of_the_matrix(options, size):
    """<A x, g> = <x, Aᵀ g> for every x and g."""
    x = Tensor(RNG.normal(size=(1, 2, 4, 5)), requires_grad=True)
    g = RNG.normal(size=(1, 2, *size))
    y = interpolate(x, size, **options)
    y.backward(g)
    np.testing.assert_allclose((y.detach().numpy() * g).sum(), (x * x.grad).sum().item())


# ── what interpolation reproduces ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(12, 10), (9, 13), (3, 4)])
def test_bilinear_reproduces_a_linear_ramp(size, align_corners, device):
    """a + b i + c j stays a ramp, at the places p_i of the file's formula; beyond the outer pixels
    it is cut off."""
    old = (6, 5)
    places = []
    for o, n in zip(old, size, strict=True):
        i = np.arange(n)
        p = i * (o - 1) / (n - 1) if align_corners else (i + 0.5) * o / n - 0.5
        places.append(np.clip(p, 0, o - 1))
    ramp = lambda i, j: 2 + 3 * i[:, None] - 0.5 * j[None]  # noqa: E731
    x = Tensor(ramp(*map(np.arange, old))[None, None], device=device)
    y = interpolate(x, size, mode="bilinear", align_corners=align_corners).numpy()[0, 0]
    np.testing.assert_allclose(y, ramp(*places), atol=1e-12)


@pytest.mark.parametrize("size", [(9, 4), (2, 13), (1, 2)])
@pytest.mark.parametrize("options", MODES, ids=str)
def test_a_constant_image_stays_constant(options, size):
    y = interpolate(tinycv.full((1, 2, 5, 6), 0.3), size, **options).numpy()
    np.testing.assert_allclose(y, 0.3, rtol=1e-6)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_the_same_size_gives_the_same_image_to_the_last_bit(options):
    x = RNG.normal(size=(2, 3, 7, 6)).astype(np.float32)
    assert (interpolate(Tensor(x), (7, 6), **options).numpy() == x).all()
    assert (interpolate(Tensor(x), scale_factor=1.0, **options).numpy() == x).all()
    assert (interpolate(Tensor(x), scale_factor=1.1, **options).numpy() == x).all()


def test_align_corners_keeps_the_four_corners():
    x = RNG.normal(size=(1, 2, 4, 6)).astype(np.float32)
    y = interpolate(Tensor(x), (9, 7), mode="bilinear", align_corners=True).numpy()
    assert (y[:, :, ::8, ::6] == x[:, :, ::3, ::5]).all()


def test_doubling_and_halving_by_nearest_gives_the_image_back():
    x = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    twice = interpolate(Tensor(x), scale_factor=2)
    assert (interpolate(twice, scale_factor=0.5).numpy() == x).all()


@pytest.mark.parametrize("k", [2, 3, 7, 41, 47])
def test_nearest_by_a_whole_factor_is_exact(k):
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5)
    y = interpolate(Tensor(x), (1, 5 * k)).numpy()[0, 0, 0]
    assert (y == np.repeat(np.arange(5), k)).all()


@pytest.mark.parametrize("size", [(8, 10), (3, 7)])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float16", "float64"])
def test_nearest_keeps_the_dtype(dtype, size):
    labels = RNG.integers(2, size=(1, 1, 4, 5)).astype(dtype)
    y = interpolate(Tensor(labels), size)
    assert y.dtype == dtype and set(np.unique(y.numpy())) <= {0, 1}


def test_bilinear_turns_integers_into_float32():
    y = interpolate(Tensor(np.array([[[[0, 1]]]])), (1, 4), mode="bilinear")
    assert y.dtype == "float32" and y.numpy()[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]


def test_in_nearest_mode_a_bad_pixel_stays_where_it_is():
    x = np.zeros((1, 1, 3, 3), np.float32)
    x[0, 0, 1, 1] = np.nan
    for size, count in (((6, 6), 4), ((4, 4), 1)):
        assert np.isnan(interpolate(Tensor(x), size).numpy()).sum() == count


def test_an_image_that_lies_channels_last_stays_so_when_it_is_doubled():
    x = np.ascontiguousarray(RNG.normal(size=(2, 4, 5, 3))).transpose(0, 3, 1, 2)
    y = interpolate(Tensor(x), scale_factor=2).numpy()
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


# ── derivatives ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize(
    "size",
    [{"scale_factor": 2}, {"size": (7, 2)}, {"scale_factor": (0.7, 1.6)}, {"size": (1, 1)}],
    ids=str,
)
def test_resizing_is_certified(device, options, size):
    certify(partial(interpolate, **size, **options), RNG.normal(size=(2, 2, 3, 4)), device=device)


def test_no_images_give_no_images():
    for options in MODES:
        x = Tensor(np.zeros((0, 2, 3, 4), np.float32), requires_grad=True)
        y = interpolate(x, (5, 6), **options)
        y.sum().backward()
        assert y.shape == (0, 2, 5, 6) and x.grad.shape == (0, 2, 3, 4)


# ── the layer, and wrong arguments ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("size", [{"size": 7}, {"scale_factor": (2, 3)}, {"scale_factor": 1.5}])
def test_the_layer_is_the_function_with_its_settings(options, size):
    x = Tensor(RNG.normal(size=(1, 2, 4, 5)))
    y = nn.Upsample(**size, **options)(x).numpy()
    assert (y == interpolate(x, **size, **options).numpy()).all()


X = tinycv.ones(1, 2, 4, 5)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: interpolate(X), "size is None and scale_factor is None; exactly one"),
        (lambda: interpolate(X, 3, 2.0), "size is 3 and scale_factor is 2.0; exactly one"),
        (lambda: nn.Upsample(), "Upsample: size is None and scale_factor is None"),
        (lambda: interpolate(X, (3, 0)), r"size is \(3, 0\); it must be an int or a pair of ints"),
        (
            lambda: interpolate(X, scale_factor=0.1),
            r"image of \(4, 5\) cannot become one of \(0, 0",
        ),
        (lambda: interpolate(X, scale_factor=-1.0), "scale_factor is -1.0.* more than 0"),
        (lambda: interpolate(X, scale_factor=(1, 2, 3)), "scale_factor has 3 numbers"),
        (lambda: interpolate(X, 3, mode="bicubic"), "mode is 'bicubic'; it must be one of"),
        (lambda: interpolate(X, 3, align_corners=False), "align_corners is False; it must be None"),
        (lambda: nn.Upsample(3, align_corners=True), "Upsample: align_corners is True"),
        (lambda: interpolate(X[0], 3), r"x has shape \(2, 4, 5\); it must be \(N, C, H, W\)"),
        (
            lambda: interpolate(tinycv.ones(1, 2, 0, 5), 3),
            r"image of \(0, 5\) cannot become one of \(3, 3\)",
        ),
    ],
    ids=range(12),
)
def test_a_wrong_call_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
