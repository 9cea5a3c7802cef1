"""Wrong calls of the functions that draw, of Demo and of the progress bar: each ends in one plain
sentence."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from wrong_calls import riddles

import tinycv
from tinycv.data import DataLoader
from tinycv.show import confusion, demo, draw, graph_text, live
from tinycv.show import fields as draw_fields
from tinycv.show import graph as draw_graph
from tinycv.show import images as draw_images
from tinycv.show import motion as draw_motion
from tinycv.show import words as draw_words
from tinycv.training import progress

GREY, RED = np.random.default_rng(0).random((8, 8)), np.random.default_rng(1).random((3, 8, 8))
POINTS = np.random.default_rng(2).normal(size=(5, 2))
AX = draw.figure("a").subplots()
LEAF = tinycv.tensor(2.0, requires_grad=True)
RESULT = tinycv.tanh(LEAF) * LEAF
LOADER = DataLoader(POINTS, batch_size=2)


def fresh(function):
    """``function``, but it draws into a new figure if ``place`` is a figure."""

    def call(place, **options):
        return function(
            draw.figure("b") if isinstance(place, type(AX.figure)) else place, **options
        )

    return call


def log_density(points):
    return -(points**2).sum(axis=1)


def begun(**options):
    """Make a Demo. argparse refuses an unknown command line by exiting with status 2."""
    try:
        demo.Demo(**options)
    except SystemExit as ended:
        assert ended.code == 2


GOOD = {
    "figure": (draw.figure, {"title": "a", "width": 3, "height": 2.0}),
    "save": (draw.save, {"fig": draw.figure("c", 1, 1), "path": "a.png", "dpi": 20}),
    "image": (draw.image, {"ax": AX, "picture": RED, "caption": "a", "colour": draw.INK}),
    "confusion": (
        draw.confusion,
        {"ax": AX, "matrix": np.eye(2, dtype=int), "names": ["a", "b"], "caption": "c"},
    ),
    "confusion_matrix": (
        confusion.confusion_matrix,
        {"labels": np.arange(3), "predicted": np.arange(3), "classes": 3},
    ),
    "image_grid": (
        fresh(draw.image_grid),
        {
            "place": AX.figure,
            "pictures": [GREY, RED],
            "captions": ["a", "b"],
            "colours": ["red", draw.INK],
            "columns": 2,
        },
    ),
    "tiles": (
        draw.tiles,
        {"ax": AX, "pictures": np.stack([RED, RED]), "columns": 2, "caption": "a"},
    ),
    "image_rows": (
        draw.image_rows,
        {"ax": AX, "rows": {"a": [RED, RED], "b": [RED, RED]}, "captions": ["c", "d"]},
    ),
    "patches": (fresh(draw.patches), {"place": AX.figure, "picture": RED, "patch_size": 4}),
    "curves": (
        draw.curves,
        {"ax": AX, "lines": {"a": ([1, 2], [3, 4])}, "x": "x", "y": "y", "log": False},
    ),
    "overlay": (
        draw.overlay,
        {"ax": AX, "picture": RED, "heat": GREY, "caption": "a", "most": 1.0},
    ),
    "maps": (
        draw.maps,
        {"ax": AX, "values": GREY.reshape(2, 2, 4, 4), "caption": "a", "cmap": "viridis"},
    ),
    "label_lines": (draw.label_lines, {"ax": AX, "gap": 0.1}),
    "note": (draw.note, {"ax": AX, "text": "a", "corner": "upper left"}),
    "graph": (draw.graph, {"ax": AX, "result": RESULT, "names": {"x": LEAF}}),
    "levels": (draw.levels, {"result": RESULT}),
    "to_dot": (graph_text.to_dot, {"result": RESULT, "names": {"a": LEAF}}),
    "to_mermaid": (graph_text.to_mermaid, {"result": RESULT, "names": {"a": LEAF}}),
    "to_svg": (graph_text.to_svg, {"result": RESULT, "names": {"a": LEAF}}),
    "LivePlot": (live.LivePlot, {"path": "a.png", "seconds": 1.0}),
    "plane": (draw.plane, {"reach": 2.0, "side": 3}),
    "density": (
        draw.density,
        {"ax": AX, "log_density": log_density, "reach": 2.0, "floor": 9.0, "side": 8},
    ),
    "arrows": (
        draw.arrows,
        {
            "ax": AX,
            "points": POINTS,
            "vectors": POINTS,
            "colour": "red",
            "longest": 1.0,
            "label": "a",
            "width": 0.01,
        },
    ),
    "scatter": (
        draw.scatter,
        {"ax": AX, "points": POINTS, "reach": 2.0, "colour": "red", "title": "a", "size": 2.0},
    ),
    "alignment": (
        draw.alignment,
        {
            "ax": AX,
            "matrix": GREY[:2, :3],
            "source": ["a", "b", "c"],
            "target": ["d", "e"],
            "caption": "a",
            "size": 8.0,
        },
    ),
    "glosses": (draw.glosses, {"ax": AX, "words": [("a", 2), ("b", 1)], "size": 8.0}),
    "heads": (
        fresh(draw.heads),
        {
            "place": AX.figure,
            "weights": GREY[:2, :3][None, None],
            "source": ["a", "b", "c"],
            "target": ["d", "e"],
        },
    ),
    "heat": (
        draw_words.heat,
        {
            "ax": AX,
            "matrix": GREY[:2, :3],
            "source": ["a", "b", "c"],
            "target": ["d", "e"],
            "size": 8,
        },
    ),
    "readable": (draw_words.readable, {"symbols": ["a", "b"]}),
    "captioned": (draw_motion.captioned, {"frame": GREY, "caption": "a", "size": 8}),
    "ink_sheet": (
        draw_motion.ink_sheet,
        {"images": GREY.reshape(1, 1, 8, 8), "columns": 1, "scale": 2, "shades": 4},
    ),
    "save_gif": (
        draw_motion.save_gif,
        {
            "frames": [GREY, GREY],
            "path": "a.gif",
            "seconds_per_frame": 0.1,
            "last": 1.0,
            "colours": 16,
        },
    ),
    "pixels": (draw_motion.pixels, {"frame": RED}),
    "Demo": (
        begun,
        {
            "name": "00_none",
            "story": "A story.",
            "arguments": [],
            "half": False,
            "full": False,
            "parallel": False,
        },
    ),
    "measured": (
        demo.Demo("00_none", "A story.", []).measured,
        {"metric": "a", "value": 1.0, "reference": "b", "target": "c"},
    ),
    "ascii_only": (demo.ascii_only, {"text": "a"}),
    "script_hash": (demo.script_hash, {"path": __file__}),
    "Progress": (progress.Progress, {"total": 3, "done": 1}),
    "steps": (progress.steps, {"loader": LOADER, "epochs": 2, "seed": 0, "device": "cpu"}),
    "say": (progress.say, {"text": "a"}),
    "read_loss": (progress.read_loss, {"loss": RESULT, "step": 3}),
    "not_finite": (progress.not_finite, {"loss": float("nan"), "when": "at step 3"}),
}
GOOD["Progress"] = (
    lambda total, done: progress.Progress(total, done, False),
    {"total": 3, "done": 1},
)
WITHOUT_ARGUMENTS = {"chinese_font", "peak_memory_mib", "CtrlC", "shared_palette"}
ALSO = {
    "pixels": ("save_gif",),
    "captioned": ("save_gif",),
    "image_grid": ("image:",),
    "tiles": ("image:",),
    "image_rows": ("tiles:",),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    # A wrong path may still be writable, so the test runs in a temporary folder.
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GOOD)
def test_every_wrong_call_ends_in_a_sentence_that_names_the_function(name):
    function, good = GOOD[name]
    function(**good)
    assert not riddles(function, good, name, *ALSO.get(name, ()))
    AX.clear()


def test_no_public_function_is_left_out():
    found = set()
    for module in (
        draw,
        draw_fields,
        draw_graph,
        draw_images,
        draw_motion,
        draw_words,
        confusion,
        demo,
        progress,
    ):
        found |= {
            name
            for name, thing in vars(module).items()
            if inspect.isfunction(thing) or inspect.isclass(thing)
            if thing.__module__ == module.__name__ and not name.startswith("_")
        }
    # of graph_text.py, live.py and demo_flags.py, whose other functions get checked arguments
    in_other_files = {"levels", "to_dot", "to_mermaid", "to_svg", "LivePlot", "ascii_only"}
    assert found - WITHOUT_ARGUMENTS == set(GOOD) - {"measured"} - in_other_files


# ── values that would be drawn wrongly ────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["u1", "i4", "i8", "?", "f2", "f4", "f8"]), most=st.sampled_from([1, 255])
)
def test_pictures_of_any_dtype_are_drawn_as_they_are_or_refused(kind, most):
    values = (
        np.random.default_rng(0).integers(0, 2, (4, 4)) * (1 if kind == "?" else most)
    ).astype(kind)
    ax = draw.figure("a").subplots()
    if most == 255 and kind[0] in "ui":
        for call in (
            lambda: draw.image(ax, values),
            lambda: draw.tiles(ax, values[None, None], 1),
            lambda: draw_motion.pixels(values),
            lambda: draw.overlay(ax, values, np.ones((2, 2))),
        ):
            with pytest.raises(ValueError, match="divide bytes by 255"):
                call()
        return
    draw.image(ax, values)
    np.testing.assert_array_equal(ax.images[-1].get_array(), values.astype(float))
    np.testing.assert_array_equal(draw_motion.pixels(values)[..., 0] > 127, values > 0)


def test_masks_and_nan_are_refused_where_they_would_be_drawn_as_something():
    masked = np.ma.masked_array(GREY, GREY > 0.5)
    for call in (
        lambda: draw.image(AX, masked),
        lambda: draw.tiles(AX, masked[None, None], 1),
        lambda: draw_motion.pixels(masked),
        lambda: draw.curves(AX, {"a": (masked[0], masked[1])}, "x", "y"),
    ):
        with pytest.raises(TypeError, match="is a masked array"):
            call()
    with pytest.raises(ValueError, match="NaN"):
        draw_motion.pixels(GREY * np.nan)


def test_rows_of_different_lengths_would_put_pictures_into_the_wrong_row():
    with pytest.raises(ValueError, match=r"image_rows: rows have the lengths \[2, 4\]"):
        draw.image_rows(AX, {"a": [RED] * 2, "b": [RED] * 4})


def test_a_picture_that_is_no_square_of_patches_is_refused_and_one_in_colour_keeps_it():
    with pytest.raises(ValueError, match="patches: a picture of 8 x 6 is not cut"):
        draw.patches(draw.figure("a"), RED[:, :, :6], 2)
    figure = draw.figure("a")
    draw.patches(figure, RED, 4)
    assert figure.axes[1].images[0].get_array().shape == (4, 4, 3)


def test_a_field_of_zeros_is_drawn_without_a_warning(recwarn):
    draw.arrows(AX, POINTS, POINTS * 0, "red", 1.0)
    assert not [w for w in recwarn if "divide" in str(w.message) or "invalid" in str(w.message)]


def test_a_gap_in_a_line_is_a_gap():
    ax = draw.figure("a").subplots()
    draw.curves(ax, {"a": ([1, 2, 3], [1.0, None, 3.0])}, "x", "y")
    assert np.isnan(ax.lines[0].get_ydata()[1])


@pytest.mark.parametrize("seed", ["-1", "9223372036854775808"])
def test_an_invalid_seed_ends_a_demo_with_one_line(seed, capsys):
    with pytest.raises(SystemExit):
        demo.Demo("00_none", "A story.", ["--seed", seed])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_gif_of_numpy_sizes_is_read_back(tmp_path):
    path = draw_motion.save_gif(
        [GREY > 0.5] * 2, tmp_path / "a.gif", np.float64(0.1), colours=np.int64(4)
    )
    with Image.open(path) as found:
        assert found.size == (8, 8)
