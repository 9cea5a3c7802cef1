"""Pictures need no screen, and show the numbers that they were given."""

import numpy as np
import pytest

import tinycv
from tinycv.show import draw


def words(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_picture_is_written_without_a_screen_or_pyplot(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    figure = draw.figure("title")
    draw.curves(figure.subplots(), {"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "x", "y")
    path = draw.save(figure, tmp_path / "folder" / "picture.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted(words(figure)) == ["a", "b"]


@pytest.mark.parametrize("below", ["picture.png", "new/picture.png"])
def test_a_picture_below_a_file_is_refused_in_one_sentence_and_the_file_stays(below, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    said = f"save: path: .*{below} cannot be written: {file} is a file, not a folder"
    with pytest.raises(NotADirectoryError, match=said):
        draw.save(draw.figure("title", 1, 1), file / below)
    assert file.read_text() == "mine"


def test_a_large_picture_is_stored_with_fewer_colours_and_looks_the_same(tmp_path, monkeypatch):
    from matplotlib.image import imread

    figure = draw.figure("noise", 4, 4)
    draw.image(figure.subplots(), np.random.default_rng(0).random((3, 64, 64)))
    plain = draw.save(figure, tmp_path / "plain.png")
    monkeypatch.setattr(draw, "LARGE", 1000)
    small = draw.save(figure, tmp_path / "small.png")
    assert small.stat().st_size < 0.6 * plain.stat().st_size
    # Noise is the worst case for a palette of 256 colours.
    assert np.abs(imread(small)[..., :3] - imread(plain)[..., :3]).mean() < 0.05


def test_a_line_is_labelled_at_its_end_in_its_colour_and_no_two_labels_overlap():
    figure = draw.figure("three lines, two of which end together")
    ax = figure.subplots()
    draw.curves(
        ax, {"low": ([1, 2], [9, 1]), "a": ([1, 2], [1, 9]), "b": ([1, 2], [1, 9.1])}, "x", "y"
    )
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    assert heights["low"] + 0.5 < heights["a"] < heights["b"]
    assert heights["b"] - heights["a"] == pytest.approx(0.075)
    colours = {line.get_label(): line.get_color() for line in ax.get_lines()}
    assert all(text.get_color() == colours[text.get_text()] for text in ax.texts)
    assert ax.get_legend() is None


def test_the_longest_arrow_has_the_given_length_and_all_keep_their_direction():
    from tinycv.data import two_modes

    density, figure = two_modes(), draw.figure("field")
    ax = figure.subplots()
    draw.density(ax, density.log_density, 9.0)
    points = draw.plane(8.0, 5)
    assert points.shape == (25, 2) and points.min() == -8 and points.max() == 8
    draw.arrows(ax, points, density.score(points), draw.INK, 0.5)
    arrows = ax.collections[-1]
    assert np.hypot(arrows.U, arrows.V).max() == pytest.approx(0.5)
    assert np.allclose(
        arrows.U * density.score(points)[:, 1], arrows.V * density.score(points)[:, 0], atol=1e-5
    )


def test_the_graph_shows_every_op_once_and_leaves_by_name():
    x = tinycv.tensor(2.0, requires_grad=True)
    y = tinycv.tanh(x) * x + x
    figure = draw.figure("graph")
    draw.graph(figure.subplots(), y, {"x": x})
    assert sorted(w for w in words(figure) if w) == ["add", "mul", "tanh", "x"]


def test_a_node_has_a_higher_level_than_its_parents():
    x = tinycv.tensor(2.0, requires_grad=True)
    y = tinycv.exp(tinycv.tanh(x)) + x
    level = draw.levels(y)
    assert all(
        level[parent] < level[node]
        for node in level
        for parent in node.parents
        if parent is not None
    )


def test_a_tensor_without_a_graph_cannot_be_drawn():
    with pytest.raises(ValueError, match="no graph to draw"):
        draw.levels(tinycv.tensor(1.0))


def test_patches_show_the_picture_cut_in_reading_order():
    picture = np.arange(16.0).reshape(1, 4, 4) / 15
    figure = draw.figure("patches")
    draw.patches(figure, picture, 2)
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert words(figure) == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(shown[1], picture[0, :2, 2:])
    np.testing.assert_array_equal(shown[2], picture[0, 2:, :2])


def test_a_grid_has_a_place_for_every_picture_and_its_caption():
    figure = draw.figure("grid")
    draw.image_grid(figure, np.zeros((5, 1, 3, 3)), list("abcde"), columns=3)
    assert [ax.get_title() for ax in figure.axes if ax.images] == list("abcde")


def test_maps_are_drawn_in_rows_with_a_gap_between_them():
    figure = draw.figure("maps")
    pictures = np.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    draw.maps(figure.subplots(), pictures, "six")
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert shown.shape == (5, 8) and words(figure) == []
    np.testing.assert_array_equal(shown[3:, 3:5], pictures[1, 1])
    assert (
        np.isnan(shown[2]).all()
        and np.isnan(shown[:, [2, 5]]).all()
        and np.isfinite(shown).sum() == 24
    )


def test_an_overlay_covers_the_whole_picture_whatever_the_size_of_the_heat():
    figure = draw.figure("overlay")
    ax = figure.subplots()
    draw.overlay(ax, np.zeros((1, 8, 6)), np.ones((2, 2)))
    assert tuple(ax.images[1].get_extent()) == (-0.5, 5.5, 7.5, -0.5)


def test_tiles_are_drawn_row_by_row_with_a_white_gap_around_each():
    ax = draw.figure("tiles").subplots()
    pictures = np.arange(5)[:, None, None, None] / 10 * np.ones((1, 1, 2, 3))
    draw.tiles(ax, pictures, columns=2)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (3 * 4, 2 * 5)
    for i in range(5):
        row, column = divmod(i, 2)
        np.testing.assert_allclose(
            sheet[4 * row + 1 : 4 * row + 3, 5 * column + 1 : 5 * column + 4], i / 10, atol=1e-6
        )
    assert (sheet[::4] == 1).all() and (sheet[8:, 5:] == 1).all()


def test_rows_of_pictures_have_their_names_beside_them_and_captions_above(tmp_path):
    figure = draw.figure("rows", 4, 3)
    ax = figure.subplots()
    pictures = np.random.default_rng(0).random((3, 1, 5, 7))
    draw.image_rows(ax, {"there": pictures, "back": pictures[::-1]}, ["a", "b", "c"])
    draw.save(figure, tmp_path / "rows.png")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["there", "back"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    sheet = ax.images[0].get_array()
    # the first picture of the second row
    np.testing.assert_allclose(sheet[8:13, 1:8], pictures[2, 0], rtol=1e-6)
    assert list(ax.get_yticks()) == [3.5, 10.5]


@pytest.mark.parametrize(
    "low, high, some", [(5.5, 30.0, {"10", "20"}), (0.11, 0.9, {"0.2", "0.5"}), (5.5, 1e6, set())]
)
def test_a_short_logarithmic_axis_labels_numbers_without_exponents(low, high, some):
    figure = draw.figure("", 4, 4)
    ax = figure.subplots()
    draw.curves(ax, {"": ([0, 1], [low, high])}, "", "", log=True)
    figure.canvas.draw()
    labels = {
        label.get_text() for which in (True, False) for label in ax.get_yticklabels(minor=which)
    }
    has_exponents = any("10^" in label or "e" in label for label in labels)
    assert some <= labels and has_exponents == (not some)


def test_a_line_that_leaves_the_panel_is_labelled_at_its_edge():
    ax = draw.figure("a logarithmic axis has no 0").subplots()
    ax.plot([1, 2], [1, 0], label="ends at 0")
    ax.plot([1, 2], [1, 50], label="ends above")
    ax.set(yscale="log", ylim=(0.1, 10))
    draw.label_lines(ax)
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    assert heights == {"ends at 0": 0, "ends above": 1}
