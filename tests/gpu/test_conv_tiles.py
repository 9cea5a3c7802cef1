"""Convolution by tiles: the CUDA text, compiled by g++, equals conv_kernel.py; when it is used."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from cupy_double.world import WORLD

from tinycv.gpu import conv_kernel, gemm
from tinycv.gpu import conv_tiles as tiles
from tinycv.gpu.cuda import Kernels, compiled
from tinycv.nn import conv_kernel as numpy_maps
from tinycv.nn.layout import channels_first, channels_last
from tinycv.nn.window import output_size, transposed_output_size

RNG = np.random.default_rng(0)
PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
AROUND = ((1, 1), (1, 1))


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def walk(**options):
    return {**PLAIN, **options}


def close(got, expected):
    """As far as float32 goes: of thousands of draws the worst is off by 3e-6."""
    assert got.shape == expected.shape and got.dtype == "float32"
    assert np.abs(got - expected).max(initial=0) <= 1.5e-5 * max(1, np.abs(expected).max(initial=0))


def by_tiles(double, n, c, o, sides, window, stride, padding, dilation, bias=False, extra=(0, 0)):
    """The three maps by tiles, and by conv_kernel.py in float64: two lists of arrays. extra: rows
    no window reaches."""
    x, w = draw(n, c, *sides), draw(o, c, *window)
    size = output_size(
        [s + sum(p) for s, p in zip(sides, padding, strict=True)], window, stride, dilation
    )
    g, down, up = draw(n, o, *size), draw(o) if bias else None, draw(c) if bias else None
    sides = sides[0] + extra[0], sides[1] + extra[1]
    far, (gx, gg, gw) = (
        stride,
        (double.asarray(np.ascontiguousarray(a)) for a in (channels_last(x), channels_last(g), w)),
    )
    gdown, gup = (None if a is None else double.asarray(a) for a in (down, up))
    got = [
        channels_first(tiles.forward(double, gx, gw, size, far, padding, dilation, gdown)),
        channels_first(tiles.to_input(double, gg, gw, sides, far, padding, dilation, gup)),
        tiles.to_weight(double, gg, gx, w.shape, far, padding, dilation),
    ]
    x, w, g, down, up = (None if a is None else a.astype("float64") for a in (x, w, g, down, up))
    options = stride, padding, dilation, 1
    return [a.get() for a in got], [
        numpy_maps.forward(np, x, w, *options, down),
        numpy_maps.to_input(np, g, w, (n, c, *sides), *options, up),
        numpy_maps.to_weight(np, g, x, w.shape, *options),
    ]


# ── what they compute ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "window, stride, padding, dilation",
    [
        *product(
            [(3, 3), (2, 4)],
            [(1, 1), (2, 2), (3, 3), (1, 2)],
            [((0, 0), (0, 0)), ((1, 1), (2, 0))],
            [(1, 1), (2, 1)],
        ),
        ((1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1)),
        ((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
        ((5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
        ((5, 1), (4, 1), ((3, 0), (0, 3)), (1, 1)),
        ((3, 3), (4, 2), ((2, 2), (2, 2)), (2, 2)),
        ((4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1)),
        ((2, 2), (3, 4), ((0, 1), (5, 0)), (2, 3)),
    ],
    ids=str,
)
def test_tiles_equal_the_kernel_for_all_strides_paddings_and_dilations(
    double, window, stride, padding, dilation
):
    for got, expected in zip(
        *by_tiles(double, 2, 8, 16, (9, 7), window, stride, padding, dilation, bias=True),
        strict=True,
    ):
        close(got, expected)


@pytest.mark.parametrize(
    "c, o", [(8, 8), (8, 40), (24, 72), (64, 32), (40, 136), (136, 24), (16, 200)]
)
def test_tiles_that_are_partly_full(double, c, o):
    for n, sides in ((1, (3, 2)), (3, (11, 12))):
        for got, expected in zip(
            *by_tiles(double, n, c, o, sides, (3, 2), (1, 1), AROUND, (1, 1)), strict=True
        ):
            close(got, expected)


@pytest.mark.parametrize("wide", tiles.SHAPES)
def test_tiles_of_every_width_are_right(double, monkeypatch, wide):
    monkeypatch.setattr(tiles, "width", lambda *_: wide)
    for stride in ((1, 1), (2, 2)):
        for got, expected in zip(
            *by_tiles(double, 2, 40, 136, (9, 10), (3, 3), stride, AROUND, (1, 1), bias=True),
            strict=True,
        ):
            close(got, expected)


def test_one_long_row_and_many_short_ones(double):
    none = PLAIN["padding"]
    for sides, window, padding in (
        ((1, 300), (1, 3), AROUND),
        ((300, 1), (3, 1), AROUND),
        ((2, 2), (2, 2), none),
    ):
        for got, expected in zip(
            *by_tiles(double, 3, 8, 8, sides, window, (1, 1), padding, (1, 1)), strict=True
        ):
            close(got, expected)


def test_rows_that_no_window_reaches_get_only_the_bias(double):
    got, expected = by_tiles(
        double, 1, 8, 8, (5, 5), (2, 2), (3, 3), PLAIN["padding"], (1, 1), bias=True, extra=(2, 1)
    )
    close(got[1], expected[1])


def test_the_weight_gradient_is_summed_in_shares_of_the_pixels(double, monkeypatch):
    """As many as keep a GPU busy: here 4,400 pixels in shares of 256, the last one of 48."""
    spans = []
    launch = tiles.launch
    monkeypatch.setattr(tiles, "launch", lambda *a: (spans.append(a[3:6]), launch(*a)))
    x, g = draw(4, 50, 22, 8), draw(4, 50, 22, 8)
    got = tiles.to_weight(
        double, double.asarray(g), double.asarray(x), (8, 8, 3, 3), (1, 1), AROUND, (1, 1)
    )
    assert [(grid, span) for grid, _, span in spans] == [((1, 18), 256)]
    close(
        got.get(),
        numpy_maps.to_weight(
            np,
            *(channels_first(a.astype("float64")) for a in (g, x)),
            (8, 8, 3, 3),
            (1, 1),
            AROUND,
            (1, 1),
            1,
        ),
    )


def test_two_runs_give_the_same_bits(double):
    x, g, w = (
        double.asarray(draw(*shape)) for shape in ((3, 20, 20, 16), (3, 20, 20, 24), (24, 16, 3, 3))
    )
    maps = (
        lambda: tiles.forward(double, x, w, (20, 20), (1, 1), AROUND, (1, 1)),
        lambda: tiles.to_input(double, g, w, (20, 20), (1, 1), AROUND, (1, 1)),
        lambda: tiles.to_weight(double, g, x, w.shape, (1, 1), AROUND, (1, 1)),
    )
    for one in maps:
        assert one().get().tobytes() == one().get().tobytes()


def test_nan_and_infinity_stay_in_the_windows_that_see_them(double):
    """Numbers of the next image, or share, are not multiplied by 0 where they are not wanted: 0 x
    inf would be no number."""
    x, w = draw(2, 8, 4, 5), draw(16, 8, 3, 3)
    x[1] = np.inf
    y = channels_first(
        tiles.forward(
            double,
            double.asarray(np.ascontiguousarray(channels_last(x))),
            double.asarray(w),
            (4, 5),
            (1, 1),
            AROUND,
            (1, 1),
        )
    ).get()
    assert np.isfinite(y[0]).all()


def test_weights_that_are_not_aligned_to_16_bytes_are_copied(double, monkeypatch):
    """A kernel reads 16 bytes at once, and would stop a GPU with "misaligned address"."""
    starts, launch = [], tiles.launch
    monkeypatch.setattr(tiles, "launch", lambda *a: (starts.append(a[6].data.ptr % 16), launch(*a)))
    x, room = double.asarray(draw(1, 5, 5, 8)), double.asarray(draw(9 * 8 * 16 + 1))
    for start in (0, 1):
        w = room[start : start + 9 * 8 * 16].reshape(3, 3, 8, 16).transpose(3, 2, 0, 1)
        tiles.forward(double, x, w, (5, 5), (1, 1), AROUND, (1, 1))
    assert starts == [0, 0]


# ── through conv_kernel: layouts, and which way ───────────────────────────────────────────────────


@pytest.fixture
def small(monkeypatch):
    """Tiles for small answers too. Gives a list, to which each call adds its way."""
    taken, way = [], conv_kernel.way
    monkeypatch.setattr(tiles, "MANY", 1)
    monkeypatch.setattr(conv_kernel, "way", lambda *a: (taken.append(way(*a)), taken[-1])[1])
    return taken


def three(xp, module, x, g, w, options, bias=None):
    return [
        module.forward(xp, x, w, *options, bias),
        module.to_weight(xp, g, x, w.shape, *options),
        module.to_input(xp, g, w, x.shape, *options),
    ]


LAYOUTS = {
    "channels first": lambda a: a,
    "channels last": lambda a: channels_first(np.ascontiguousarray(channels_last(a))),
    "columns": np.asfortranarray,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_may_have_any_memory_layout(double, small, layout):
    x, g, w, bias = draw(2, 40, 6, 7), draw(2, 16, 6, 7), draw(16, 40, 3, 3), draw(16)
    options = (1, 1), AROUND, (1, 1), 1
    lies = LAYOUTS[layout]
    got = three(
        double,
        conv_kernel,
        *(double.asarray(lies(a)) for a in (x, g, w)),
        options,
        double.asarray(bias),
    )
    for a, b in zip(got, three(np, numpy_maps, x, g, w, options, bias), strict=True):
        np.testing.assert_allclose(a.get(), b, rtol=1e-4, atol=1e-4)
    assert small == ["tiles"] * 3


@pytest.mark.parametrize(
    "c, o, window, stride, padding, dilation, groups, ways",
    [
        (16, 24, 3, 1, 1, 1, 1, ["tiles"] * 3),
        (16, 24, 3, 2, 1, 1, 1, ["tiles"] * 3),
        (16, 24, 2, 4, 0, 1, 1, ["tiles"] * 3),
        # a stride with too many classes
        (16, 24, 2, 5, 0, 1, 1, ["columns"] * 3),
        # a linear layer at every pixel: and back
        (16, 24, 1, 1, 0, 1, 1, ["columns"] * 3 + ["columns"]),
        (16, 24, 1, 2, 0, 1, 1, ["columns"] * 3),
        (12, 24, 3, 1, 1, 1, 1, ["columns"] * 3),
        (16, 20, 3, 1, 1, 1, 1, ["columns"] * 3),
        (1, 24, 3, 1, 1, 1, 1, ["columns"] * 3),
        (16, 32, 3, 1, 1, 1, 2, ["columns"] * 3),
        (64, 1, 3, 1, 1, 1, 1, ["turned", "columns"] * 3),
        (64, 8, 3, 1, (0, 2), 2, 1, ["turned", "columns"] * 3),
        (64, 1, 3, 2, 1, 1, 1, ["columns"] * 3),
        (64, 1, 3, 1, 3, 1, 1, ["columns"] * 3),
    ],
)
def test_each_convolution_takes_the_expected_way_and_is_right(
    double, small, c, o, window, stride, padding, dilation, groups, ways
):
    padding = ((padding, padding),) * 2 if isinstance(padding, int) else (padding, padding[::-1])
    options = (stride,) * 2, padding, (dilation,) * 2, groups
    x, w = draw(2, c, 9, 8), draw(o, c // groups, window, window)
    g = draw(
        2,
        o,
        *output_size(
            [s + sum(p) for s, p in zip((9, 8), padding, strict=True)],
            (window,) * 2,
            (stride,) * 2,
            (dilation,) * 2,
        ),
    )
    bias = draw(o)
    got = three(double, conv_kernel, *map(double.asarray, (x, g, w)), options, double.asarray(bias))
    expected = three(np, numpy_maps, x, g, w, options, bias)
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    expected[0] = numpy_maps.forward(
        np, padded, w, options[0], ((0, 0), (0, 0)), *options[2:], bias
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.get(), b, rtol=1e-4, atol=1e-4)
    assert small == ways


def test_a_transposed_convolution_with_output_padding_is_not_turned(double, small):
    g, w = draw(2, 2, 4, 4), draw(2, 16, 3, 3)
    options = (1, 1), ((0, 0), (0, 0)), (2, 2), 1
    shape = 2, 16, *transposed_output_size((4, 4), (3, 3), *options[:2], (1, 0), options[2])
    got = conv_kernel.to_input(double, double.asarray(g), double.asarray(w), shape, *options)
    assert small == ["columns"]
    expected = numpy_maps.to_input(np, g, w, shape, *options)
    np.testing.assert_allclose(got.get(), expected, rtol=1e-4, atol=1e-4)


def test_tiles_are_for_float32_without_tensor_cores(double, small, monkeypatch):
    options = (2, 4, 4), (4, 4), 1 << 30, (1, 1), AROUND, (1, 1), 1
    for dtype, expected in (("float32", "tiles"), ("float16", "columns"), ("float64", "columns")):
        assert conv_kernel.way(np.zeros(1, dtype), (16, 16, 3, 3), *options) == expected
    monkeypatch.setitem(gemm.choices, "tf32", True)
    assert conv_kernel.way(np.zeros(1, "float32"), (16, 16, 3, 3), *options) == "columns"


def test_tiles_are_not_used_for_little_work_or_too_large_arrays():
    assert not tiles.suits(np.dtype("float32"), 16, 16, (3, 3), (1, 1), 1, tiles.MANY - 1, 5)
    assert tiles.suits(np.dtype("float32"), 16, 16, (3, 3), (1, 1), 1, tiles.MANY, 5)
    assert not tiles.suits(np.dtype("float32"), 16, 16, (3, 3), (1, 1), 1, tiles.MANY, 1 << 31)


def test_an_empty_batch(double, small):
    options = (1, 1), AROUND, (1, 1), 1
    monkey = three(
        double,
        conv_kernel,
        *(double.asarray(draw(*s)) for s in ((0, 16, 5, 5), (0, 16, 5, 5), (16, 16, 3, 3))),
        options,
    )
    assert [a.shape for a in monkey] == [(0, 16, 5, 5), (16, 16, 3, 3), (0, 16, 5, 5)]
    assert not monkey[1].get().any() and "tiles" not in small


@pytest.mark.parametrize(
    "count, wide, shares",
    [(9, 128, 29), (5, 64, 105), (1000, 128, 1), (144, 128, 7), (264, 128, 1)],
)
def test_shares_fill_the_gpu(count, wide, shares):
    assert tiles.shares_of(count, wide) == shares


@pytest.mark.parametrize(
    "outputs, tall, wide",
    [
        (128, 1000, 128),
        (128, 100, 64),
        (64, 1000, 64),
        (192, 1000, 64),
        (32, 1000, 32),
        (256, 140, 128),
        (8, 9999, 32),
        (96, 1000, 128),
    ],
)
def test_tiles_have_the_cheapest_width(outputs, tall, wide):
    assert tiles.width(outputs, tall) == wide


def test_each_pixel_is_in_one_class_and_collects_from_every_window_that_saw_it():
    for side, taps, stride, pad, dilation in product(
        (1, 2, 7), (1, 2, 5), (1, 2, 3, 4), (0, 1, 4), (1, 2, 3)
    ):
        heard = {}
        for axis in tiles.seen_from(side, taps, stride, (pad, pad), dilation):
            begin, every, count, step, shift, move, tap, after, many = axis
            assert step == 1
            for q in range(count):
                heard[begin + q * every] = {
                    (tap + t * after, q + shift + t * move) for t in range(many)
                }
        assert sorted(heard) == list(range(side))
        for h, pairs in heard.items():
            steps = {
                (t, (h + pad - t * dilation) // stride)
                for t in range(taps)
                if (h + pad - t * dilation) % stride == 0
            }
            assert pairs == steps


# ── the double: threads of a block that meet ─────────────────────────────────────────────────────

MEETS = Kernels(r"""
KERNEL reverse(Int n, const T* x, T* y) {
    __shared__ T held[64];
    held[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * 64 + threadIdx.x] = held[63 - threadIdx.x];
}
KERNEL hurry(Int n, const T* x, T* y) {
    __shared__ T held[64];
    held[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    y[blockIdx.x * 64 + threadIdx.x] = held[63 - threadIdx.x];
}
KERNEL leave_early(Int n, const T* x, T* y) {
    if (threadIdx.x >= n) return;
    __syncthreads();
    y[threadIdx.x] = sum(x[threadIdx.x]);
}
""")


def run(double, name, blocks, *arguments):
    compiled(double, MEETS.source, "f", name)((blocks,), (64,), arguments)


def test_syncthreads_makes_threads_wait_for_each_other(double):
    x, y, before = double.asarray(draw(3 * 64)), double.zeros(3 * 64, "float32"), WORLD.launches
    run(double, "reverse", 3, 64, x, y)
    assert (y.get().reshape(3, 64) == x.get().reshape(3, 64)[:, ::-1]).all()
    assert WORLD.launches == before + 1


def test_a_missing_syncthreads_is_detected(double):
    x, y = double.asarray(draw(64)), double.zeros(64, "float32")
    run(double, "hurry", 1, 64, x, y)
    assert (y.get() != x.get()[::-1]).any()


def test_threads_that_have_left_are_not_waited_for_and_a_warp_that_is_not_whole_is_named(double):
    x, y = double.ones(64, "float32"), double.zeros(64, "float32")
    run(double, "leave_early", 1, 32, x, y)
    assert y.get().tolist() == [32] * 32 + [0] * 32
    with pytest.raises(
        RuntimeError, match="leave_early: threads of a block wait for each other forever"
    ):
        run(double, "leave_early", 1, 40, x, y)


# ── the checks are checked ───────────────────────────────────────────────────────────────────────

MISTAKES = [
    ("h < l.height && v >= 0", "h <= l.height && v >= 0"),
    ("seen[slab % 2], taps[slab % 2]", "seen[0], taps[0]"),
    ("i * down.next", "i"),
    ("h * down.every", "h"),
    ("[4 * q + e] + more[e]", "[4 * q + e]"),
    ("image[r]++", "image[r] += 2"),
    ("threadIdx.x % 32 / 16 * 2", "threadIdx.x % 32 / 16"),
    ("total += shares[s * entries + i]", "total = shares[s * entries + i]"),
]


@pytest.mark.parametrize("right, wrong", MISTAKES, ids=[right for right, _ in MISTAKES])
def test_a_mistake_in_a_kernel_is_detected(double, monkeypatch, right, wrong):
    for kernels in tiles.kernels.values():
        assert right in kernels.source
        monkeypatch.setattr(kernels, "source", kernels.source.replace(right, wrong))
    got, expected = by_tiles(double, 3, 16, 24, (19, 10), (4, 3), (2, 1), AROUND, (1, 1), bias=True)
    assert any(
        np.isnan(a).any() or np.abs(a - b).max() > 1e-3 for a, b in zip(got, expected, strict=True)
    )
