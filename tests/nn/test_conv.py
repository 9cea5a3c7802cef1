"""Convolution: formula, sizes, the transposed convolution, Winograd, and wrong arguments.

Derivatives are tested in test_certificate.py.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import given, settings
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor, nn
from tinycv.engine import reduce
from tinycv.engine.check import agree
from tinycv.engine.fused import PAIRS
from tinycv.nn import conv_few, winograd
from tinycv.nn.functional import conv2d, conv_transpose2d

RNG = np.random.default_rng(0)
drawn = settings(max_examples=60, deadline=None, derandomize=True)


def draw(*shape):
    return RNG.normal(size=shape)


def by_formula(x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """y[n, o, h, w] = Σ_c Σ_i Σ_j K[o, c, i, j] x[n, c, s h + d i - p, s w + d j - p], each number
    for itself."""
    (n, _, height, width), (o, c, *window) = x.shape, weight.shape
    size = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip((height, width), window, stride, padding, dilation, strict=True)
    ]
    y = np.zeros((n, o, *size))
    for b, to, h, w, fro, i, j in np.ndindex(*y.shape, c, *window):
        row = stride[0] * h + dilation[0] * i - padding[0]
        column = stride[1] * w + dilation[1] * j - padding[1]
        if 0 <= row < height and 0 <= column < width:
            y[b, to, h, w] += (
                weight[to, fro, i, j] * x[b, to // (o // groups) * c + fro, row, column]
            )
    return y


# ── what it computes ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("half", ["kernel", "definition"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": (2, 3)},
        {"padding": (2, 1)},
        {"dilation": (2, 1)},
        {"groups": 2},
        {"stride": (2, 1), "padding": (1, 3), "dilation": (1, 2), "groups": 2},
    ],
    ids=str,
)
def test_conv2d_equals_its_formula(device, half, options):
    x, weight = draw(2, 4, 6, 7), draw(6, 4 // options.get("groups", 1), 3, 2)
    f = conv2d if half == "kernel" else conv2d.definition
    y = f(Tensor(x, device=device), Tensor(weight, device=device), **options).numpy()
    np.testing.assert_allclose(y, by_formula(x, weight, **options), rtol=1e-12, atol=1e-12)


def test_conv2d_does_not_flip_the_window(device):
    x, weight = (
        np.zeros((1, 1, 3, 3), np.float32),
        np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3),
    )
    x[0, 0, 1, 1] = 1
    y = conv2d(Tensor(x, device=device), Tensor(weight, device=device), padding=1).numpy()
    # the image of a single point is the window in reverse
    assert (y[0, 0] == weight[0, 0, ::-1, ::-1]).all()
    assert (
        conv_transpose2d(Tensor(x, device=device), Tensor(weight, device=device), padding=1).numpy()
        == weight
    ).all()


def test_a_window_of_one_pixel_is_a_linear_layer_at_every_pixel(device):
    x, weight, bias = draw(2, 3, 4, 5), draw(6, 3, 1, 1), draw(6)
    y = conv2d(*(Tensor(a, device=device) for a in (x, weight, bias))).numpy()
    expected = np.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0]) + bias[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "window, dilation", [((3, 3), 1), ((2, 4), 1), ((2, 3), (3, 2)), ((1, 1), 5)]
)
def test_same_keeps_the_size_and_pads_more_at_the_end(device, window, dilation):
    x, weight = draw(1, 2, 5, 6), draw(3, 2, *window)
    y = conv2d(
        Tensor(x, device=device), Tensor(weight, device=device), padding="same", dilation=dilation
    ).numpy()
    down, across = (dilation, dilation) if isinstance(dilation, int) else dilation
    reach = down * (window[0] - 1), across * (window[1] - 1)
    padded = np.pad(x, ((0, 0), (0, 0), *[(n // 2, n - n // 2) for n in reach]))
    assert y.shape == (1, 3, 5, 6)
    np.testing.assert_allclose(
        y, by_formula(padded, weight, dilation=(down, across)), rtol=1e-12, atol=1e-12
    )


def test_padding_valid_means_no_padding():
    x, weight = Tensor(draw(1, 2, 5, 6)), Tensor(draw(3, 2, 3, 3))
    assert (conv2d(x, weight, padding="valid").numpy() == conv2d(x, weight).numpy()).all()


def test_a_shifted_image_gives_a_shifted_result(device):
    layer, x = nn.Conv2d(2, 3, 3).to(device), draw(1, 2, 9, 9).astype(np.float32)
    y, z = (layer(Tensor(a, device=device)).numpy() for a in (x, np.roll(x, (1, 2), (2, 3))))
    np.testing.assert_allclose(z[..., 1:, 2:], y[..., :-1, :-2], rtol=1e-4, atol=1e-6)


# ── the transpose ────────────────────────────────────────────────────────────────────────────────

walks = st.fixed_dictionaries(
    {
        "stride": st.tuples(*[st.integers(1, 3)] * 2),
        "padding": st.tuples(*[st.integers(0, 2)] * 2),
        "dilation": st.tuples(*[st.integers(1, 2)] * 2),
        "groups": st.integers(1, 3),
    }
)
sides, windows = st.tuples(*[st.integers(1, 7)] * 2), st.tuples(*[st.integers(1, 3)] * 2)


def fits(side, window, walk):
    return all(
        n + 2 * p > d * (k - 1)
        for n, k, p, d in zip(side, window, walk["padding"], walk["dilation"], strict=True)
    )


@drawn
@given(st.integers(0, 2), sides, windows, walks)
def test_conv_transpose2d_is_the_transpose(n, side, window, walk):
    """<conv2d(x), y> = <x, conv_transpose2d(y)>, once output_padding says which of the sizes x
    has."""
    if not fits(side, window, walk):
        with pytest.raises(ValueError, match="do not fit"):
            conv2d(
                Tensor(draw(n, walk["groups"], *side)),
                Tensor(draw(walk["groups"], 1, *window)),
                **walk,
            )
        return
    x, weight = draw(n, 2 * walk["groups"], *side), draw(walk["groups"], 2, *window)
    y = conv2d(Tensor(x), Tensor(weight), **walk).numpy()
    g = draw(*y.shape)
    extra = tuple(
        (m + 2 * p - d * (k - 1) - 1) % s
        for m, k, s, p, d in zip(
            side, window, walk["stride"], walk["padding"], walk["dilation"], strict=True
        )
    )
    z = conv_transpose2d(Tensor(g), Tensor(weight), output_padding=extra, **walk).numpy()
    assert z.shape == x.shape
    assert (y * g).sum() == pytest.approx((x * z).sum(), rel=1e-11, abs=1e-11)


@drawn
@given(
    st.integers(0, 2),
    sides,
    windows,
    walks,
    st.sampled_from(["rows", "columns", "backwards"]),
    st.sampled_from([np.float32, np.float64]),
)
def test_kernel_and_definition_agree_on_all_shapes(n, side, window, walk, layout, dtype):
    groups = walk["groups"]
    arrays = draw(n, 2 * groups, *side), draw(groups, 2, *window), draw(groups)
    order = {"rows": np.ascontiguousarray, "columns": np.asfortranarray, "backwards": np.flip}[
        layout
    ]
    x, weight, bias = (order(a.astype(dtype)) for a in arrays)
    if fits(side, window, walk):
        agree(
            lambda *a: conv2d(*a, **walk),
            lambda *a: conv2d.definition(*a, **walk),
            x,
            weight,
            bias,
            name="conv2d",
        )
    x = order(draw(n, groups, *side).astype(dtype))
    bias = order(draw(2 * groups).astype(dtype))
    transposed = PAIRS["conv_transpose2d"]
    if all(
        (m - 1) * s + d * (k - 1) + 1 > 2 * p
        for m, k, s, p, d in zip(
            side, window, walk["stride"], walk["padding"], walk["dilation"], strict=True
        )
    ):
        agree(
            lambda *a: transposed(*a, **walk),
            lambda *a: transposed.definition(*a, **walk),
            x,
            weight,
            bias,
            name="conv_transpose2d",
        )


@pytest.mark.parametrize(
    "n, k, s, p, extra, d",
    [(14, 4, 2, 1, 0, 1), (5, 3, 2, 1, 1, 1), (4, 3, 1, 0, 1, 2), (1, 1, 1, 0, 0, 1)],
)
def test_a_transposed_image_has_the_size_of_the_formula(n, k, s, p, extra, d):
    y = conv_transpose2d(tinycv.ones(1, 1, n, n), tinycv.ones(1, 1, k, k), None, s, p, extra, 1, d)
    side = s * (n - 1) + d * (k - 1) + 1 - 2 * p + extra
    assert y.shape == (1, 1, side, side)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2), (2, 4, 5, 5)),
        (nn.Conv2d(3, 2, 3, padding="same", bias=False), (1, 3, 4, 4)),
        (nn.ConvTranspose2d(4, 6, (3, 2), 2, 1, 1, 2), (2, 4, 3, 3)),
        (nn.ConvTranspose2d(3, 2, 2, 2, bias=False), (1, 3, 3, 3)),
    ],
    ids=repr,
)
def test_a_layer_is_certified(layer, shape):
    certify_layer(layer, draw(*shape))


def test_layers_give_the_documented_shapes(device):
    x = tinycv.ones(2, 6, 8, 8, device=device)
    down, up = (
        nn.Conv2d(6, 9, 3, stride=2, padding=1, groups=3).to(device),
        nn.ConvTranspose2d(9, 6, 4, 2, 1).to(device),
    )
    assert down.weight.shape == (9, 2, 3, 3) and up.weight.shape == (9, 6, 4, 4)
    assert down(x).shape == (2, 9, 4, 4) and up(down(x)).shape == (2, 6, 8, 8)


@pytest.mark.statistical
def test_weights_start_within_one_over_the_root_of_the_fan_in():
    for layer in (nn.Conv2d(32, 64, 5, groups=2), nn.ConvTranspose2d(64, 32, 5, groups=2)):
        bound = 1 / math.sqrt(16 * 25)
        for p in (layer.weight, layer.bias):
            # the largest of n draws is below it once in e^20 times
            reached = bound * (1 - 20 / p.size)
            assert reached < np.abs(p.numpy()).max() <= bound


def test_a_convolution_never_waits_for_the_gpu(double):
    import cupy_double

    x = tinycv.ones(2, 3, 6, 6, device="gpu", requires_grad=True)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1)).to("gpu")
    weight = tinycv.ones(2, 3, 6, 6, device="gpu")
    with cupy_double.counting() as waits:
        layers(x).backward(weight)
    assert waits.count == 0


# ── what it refuses ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "shapes, options, message",
    [
        (
            ((2, 3, 4, 4), (6, 2, 3, 3)),
            {},
            r"\(2, 3, 4, 4\) has 3 channels.*\(6, 2, 3, 3\) in 1 groups takes 2",
        ),
        (
            ((2, 4, 4, 4), (6, 2, 3, 3)),
            {"groups": 4},
            r"groups is 4; it must divide axis 0 .*\(6, 2, 3, 3\)",
        ),
        (
            ((3, 4, 4), (6, 3, 3, 3)),
            {},
            r"\(3, 4, 4\) and weight of shape \(6, 3, 3, 3\).*four axes",
        ),
        (
            ((2, 3, 4, 4), (6, 3, 3, 3), (5,)),
            {},
            r"bias has shape \(5,\); .*\(6, 3, 3, 3\) it must be \(6,\)",
        ),
        (((2, 3, 4, 4), (6, 3, 5, 5)), {}, r"window of \(5, 5\).*\(4, 4\)"),
        (
            ((2, 3, 4, 4), (6, 3, 3, 3)),
            {"dilation": 2},
            r"reaches over \(5, 5\) pixels.*\(4, 4\).*pad more",
        ),
        (((2, 3, 4, 4), (6, 3, 0, 1)), {}, r"\(6, 3, 0, 1\) has no taps"),
        (((2, 3, 4, 4), (6, 3, 3, 3)), {"stride": 0}, "stride is 0; .* 1 or more"),
        (((2, 3, 4, 4), (6, 3, 3, 3)), {"padding": (1, -1)}, r"padding is \(1, -1\); .* 0 or more"),
        (((2, 3, 4, 4), (6, 3, 3, 3)), {"dilation": (1, 2, 3)}, r"dilation is \(1, 2, 3\)"),
        (((2, 3, 4, 4), (6, 3, 3, 3)), {"stride": 1.5}, "stride is 1.5"),
        (
            ((2, 3, 4, 4), (6, 3, 3, 3)),
            {"padding": "some"},
            "padding is 'some'; it must be 'same', 'valid'",
        ),
        (
            ((2, 3, 4, 4), (6, 3, 3, 3)),
            {"padding": "same", "stride": 2},
            r"'same'.*stride \(2, 2\)",
        ),
    ],
)
def test_conv2d_names_what_does_not_fit(device, shapes, options, message):
    with pytest.raises(ValueError, match="conv2d: .*" + message):
        conv2d(*(tinycv.ones(*s, device=device) for s in shapes), **options)


@pytest.mark.parametrize(
    "shapes, options, message",
    [
        (
            ((2, 3, 4, 4), (6, 3, 3, 3)),
            {},
            r"\(2, 3, 4, 4\) has 3 channels.*\(6, 3, 3, 3\) in 1 groups takes 6",
        ),
        (((2, 6, 4, 4), (6, 3, 3, 3), (3,)), {"groups": 2}, r"bias has shape \(3,\).* \(6,\)"),
        (
            ((2, 6, 4, 4), (6, 3, 3, 3)),
            {"output_padding": 1},
            r"output_padding is \(1, 1\); .*stride \(1, 1\)",
        ),
        (
            ((2, 6, 1, 1), (6, 3, 2, 2)),
            {"padding": 1},
            r"padding .* cuts .*\(1, 1\) stamps of \(2, 2\) taps down to \(0, 0\)",
        ),
        (((2, 6, 4, 4), (6, 3, 3, 3)), {"padding": "same"}, "padding is 'same'; it must be an int"),
    ],
)
def test_conv_transpose2d_names_what_does_not_fit(device, shapes, options, message):
    with pytest.raises(ValueError, match="conv_transpose2d: .*" + message):
        conv_transpose2d(*(tinycv.ones(*s, device=device) for s in shapes), **options)


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [0, 2])
def test_groups_that_do_not_divide_the_channels_are_refused(layer, groups):
    with pytest.raises(ValueError, match=f"{groups} groups do not divide 4 channels in and 3 out"):
        layer(4, 3, 1, groups=groups)


# ── each way through the kernels, against the definition ──────────────────────────────────────────


@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize(
    "channels, window, side", [(1, 2, 9), (1, 3, 12), (4, 3, 5), (6, 2, 4)], ids=str
)
def test_columns_written_in_either_order_give_the_same_results(
    channels, window, side, images, device, monkeypatch
):
    rng = np.random.default_rng(0)
    x, w = (
        rng.normal(size=(images, channels, side, side)),
        rng.normal(size=(3, channels, window, window)),
    )
    # one image at a time, some and a rest, all
    for block in (1, 60, 1 << 15):
        monkeypatch.setattr(reduce, "BLOCK", block)
        agree(
            partial(PAIRS["conv2d"], padding=1),
            partial(PAIRS["conv2d"].definition, padding=1),
            x,
            w,
            device=device,
        )


@pytest.mark.parametrize(
    "channels, out, padding, side",
    [(64, 64, 1, (4, 8)), (64, 64, 0, (10, 9)), (64, 64, "same", (8, 7)), (80, 48, 2, (6, 6))],
    ids=str,
)
def test_winograd_equals_the_definition(channels, out, padding, side, monkeypatch):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, channels, *side)), rng.normal(size=(out, channels, 3, 3))
    options, taken = {"padding": padding}, []
    monkeypatch.setattr(
        winograd, "windows", lambda *a, way=winograd.windows: taken.append(1) or way(*a)
    )
    # one image at a time, some and a rest, all
    for block in (1, 1 << 12, 1 << 15):
        monkeypatch.setattr(winograd, "BLOCK", block)
        monkeypatch.setattr(reduce, "BLOCK", block)
        agree(
            partial(PAIRS["conv2d"], **options),
            partial(PAIRS["conv2d"].definition, **options),
            x,
            w,
            device="cpu",
        )
    assert len(taken) >= 2 * 3


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": (2, 3)}, {"padding": (2, 1)}, {"dilation": (2, 1)}, {"padding": "same"}],
    ids=str,
)
@pytest.mark.parametrize("channels, out, images", [(1, 6, 16), (8, 16, 17), (3, 2, 20)], ids=str)
def test_few_channels_equal_the_definition(channels, out, images, options, monkeypatch):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(images, channels, 8, 7)), rng.normal(size=(out, channels, 3, 3))
    bias, taken = rng.normal(size=out), []
    monkeypatch.setattr(
        conv_few, "windows", lambda *a, way=conv_few.windows: taken.append(1) or way(*a)
    )
    # one row of the result at a time, and all
    for block in (1, 1 << 15):
        monkeypatch.setattr(conv_few, "BLOCK", block)
        agree(
            partial(PAIRS["conv2d"], **options),
            partial(PAIRS["conv2d"].definition, **options),
            x,
            w,
            bias,
            device="cpu",
        )
    assert len(taken) >= 2 * 3  # forward, dL/dx and dL/dw


def test_few_channels_transposed_equal_the_definition():
    rng = np.random.default_rng(0)
    x, w, bias = rng.normal(size=(16, 4, 5, 6)), rng.normal(size=(4, 3, 3, 2)), rng.normal(size=3)
    assert conv_few.pays(np, 16, 3, 4)
    for options in ({}, {"stride": 2, "padding": 1, "output_padding": 1}, {"dilation": (1, 2)}):
        agree(
            partial(PAIRS["conv_transpose2d"], **options),
            partial(PAIRS["conv_transpose2d"].definition, **options),
            x,
            w,
            bias,
            device="cpu",
        )


def test_with_few_channels_a_nan_reaches_only_the_windows_that_see_it():
    x = np.zeros((16, 1, 6, 6), np.float32)
    x[3, 0, 2, 1] = np.nan
    y = conv2d(Tensor(x), tinycv.ones(2, 1, 3, 3)).numpy()
    expected = np.zeros(y.shape, bool)
    expected[3, :, 0:3, 0:2] = True
    assert (np.isnan(y) == expected).all()


def test_winograd_loses_little_precision_in_float32():
    rng = np.random.default_rng(0)
    x, w = (
        rng.normal(size=(4, 64, 16, 16)).astype("float32"),
        rng.normal(size=(64, 64, 3, 3)).astype("float32"),
    )
    assert winograd.pays(np, (3, 3), (1, 1), (1, 1), 64, 64, (16, 16))
    exact = conv2d(Tensor(x.astype("float64")), Tensor(w.astype("float64")), padding=1).numpy()
    error = conv2d(Tensor(x), Tensor(w), padding=1).numpy() - exact
    # 1.91e-6 to 2.03e-6, by the BLAS kernel of the CPU
    assert np.abs(error).max() < 3e-6 * np.abs(exact).max()


@pytest.mark.parametrize(
    "window, size, pays",
    [
        ((3, 3), (8, 8), True),
        ((4, 4), (8, 8), False),
        ((3, 3), (2, 2), False),
        ((5, 5), (8, 8), False),
        ((2, 3), (8, 8), False),
    ],
    ids=str,
)
def test_winograd_is_chosen_only_where_it_pays(window, size, pays):
    assert winograd.pays(np, window, (1, 1), (1, 1), 64, 128, size) == pays
    assert not winograd.pays(np, window, (1, 1), (2, 2), 64, 128, size)  # dilated
    assert not winograd.pays(np, window, (2, 2), (1, 1), 64, 128, size)  # with a stride
    # too few channels to be worth it
    assert not winograd.pays(np, window, (1, 1), (1, 1), 4, 128, size)


@pytest.mark.parametrize(
    "stride, padding, dilation",
    [
        (1, 0, 1),
        (2, 1, 1),
        (3, 2, 1),
        (1, 1, 2),
        ((1, 2), (0, 1), 1),
        (2, 2, 2),
        (2, 1, 3),
        (4, 1, 1),
    ],
)
def test_many_channels_to_one_and_one_channel_to_many(stride, padding, dilation, device):
    rng = np.random.default_rng(0)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    for channels, out in ((16, 1), (1, 16), (4, 6)):
        x, w = rng.normal(size=(3, channels, 9, 8)), rng.normal(size=(out, channels, 3, 3))
        agree(
            partial(PAIRS["conv2d"], **options),
            partial(PAIRS["conv2d"].definition, **options),
            x,
            w,
            device=device,
        )


@pytest.mark.parametrize("padding", [2, 3, 4])
def test_padding_wider_than_the_window_with_few_output_channels(padding):
    """Pixels that no window of the image's own touches, where the quick way for few channels would
    look outside."""
    rng = np.random.default_rng(0)
    x, w = (
        Tensor(rng.normal(size=shape), requires_grad=True)
        for shape in ((2, 64, 9, 8), (1, 64, 3, 3))
    )
    weight = rng.normal(size=(2, 1, 7 + 2 * padding, 6 + 2 * padding))
    found = [
        (y, *tinycv.grad(y, (x, w), Tensor(weight)))
        for y in (f(x, w, None, 1, padding) for f in (conv2d, conv2d.definition))
    ]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}], ids=str)
@pytest.mark.parametrize(
    "transposed, x, w",
    [
        (True, (1, 0, 5, 5), (0, 3, 3, 3)),
        (True, (1, 3, 5, 5), (3, 0, 3, 3)),
        (False, (1, 0, 5, 5), (3, 0, 3, 3)),
        (False, (1, 3, 5, 5), (0, 3, 3, 3)),
        (False, (0, 3, 5, 5), (2, 3, 3, 3)),
        (True, (0, 3, 5, 5), (3, 2, 3, 3)),
    ],
)
def test_empty_channels_and_batches_behave_as_in_the_definition(transposed, x, w, options, device):
    pair = PAIRS["conv_transpose2d" if transposed else "conv2d"]
    for function in (pair, pair.definition):
        a, b = (Tensor(np.ones(shape, "f4"), device=device, requires_grad=True) for shape in (x, w))
        y = function(a, b, **options)
        y.sum().backward()
        assert a.grad.shape == x and b.grad.shape == w
        assert not (y.numpy().any() or a.grad.numpy().any() or b.grad.numpy().any())


@pytest.mark.parametrize(
    "images, channels, out, pays",
    [(16, 8, 16, True), (15, 8, 16, False), (16, 9, 1, False), (16, 1, 17, False)],
)
def test_images_lie_last_only_where_channels_are_few(images, channels, out, pays):
    assert conv_few.pays(np, images, channels, out) == pays


@pytest.mark.parametrize("channels", [1, 2])
def test_rows_that_no_window_sees_leave_the_gradient_of_few_channels_as_it_is(channels):
    """With output_padding, the result of conv_transpose2d has rows and columns without a stamp."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, channels, 6, 9)), rng.normal(size=(channels, 16, 3, 1))
    options = {"output_padding": (1, 2), "dilation": (2, 3)}
    pair = PAIRS["conv_transpose2d"]
    agree(partial(pair, **options), partial(pair.definition, **options), x, w)
