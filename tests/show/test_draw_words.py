"""Attention maps: every word is at its row or column, in characters that this machine can draw."""

import warnings

import numpy as np
import pytest

from tinycv.data.pinyin import is_chinese
from tinycv.show import draw
from tinycv.show import words as draw_words

SOURCE, TARGET = list("3月5日"), ["March", " ", "5"]
# (layers, heads, T, S)
WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 3, 3))


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def warnings_of(figure, path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draw.save(figure, path)
    return [str(warning.message) for warning in caught]


@pytest.fixture
def no_font(monkeypatch):
    monkeypatch.setattr(draw_words, "chinese_font", lambda: None)


def test_without_a_chinese_font_the_words_are_romanised_and_all_can_be_drawn(no_font, tmp_path):
    figure = draw.figure("title")
    ax = figure.subplots()
    draw.alignment(ax, WEIGHTS[0, 0], SOURCE, TARGET, "caption")
    assert labels(ax.xaxis) == ["3", "yuè", "5", "rì"]
    assert labels(ax.yaxis) == ["March", "\u2423", "5"]
    assert [text.get_rotation() for text in ax.get_xticklabels()] == [0, 90, 0, 0]
    assert ax.get_title() == "caption"
    # matplotlib warns if a glyph is missing
    assert not warnings_of(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 4000


def test_with_a_chinese_font_the_words_are_drawn_in_it(monkeypatch):
    monkeypatch.setattr(draw_words, "chinese_font", lambda: "SimHei")
    ax = draw.figure("title").subplots()
    draw.alignment(ax, WEIGHTS[0, 0], SOURCE, TARGET)
    assert labels(ax.xaxis) == SOURCE
    assert "SimHei" in ax.get_xticklabels()[0].get_fontfamily()
    assert "SimHei" not in ax.get_yticklabels()[0].get_fontfamily()


@pytest.mark.parametrize(
    "known, chosen",
    [(["DejaVu Sans", "SimHei", "PingFang SC"], "PingFang SC"), (["DejaVu Sans"], None)],
)
def test_the_chinese_font_is_the_first_of_the_list_that_matplotlib_finds(
    monkeypatch, known, chosen
):
    monkeypatch.setattr(draw_words.font_manager, "get_font_names", lambda: known)
    assert draw_words.chinese_font.__wrapped__() == chosen


def test_no_glyph_is_missing_with_the_fonts_of_this_machine(tmp_path):
    figure = draw.figure("title")
    draw.alignment(figure.subplots(), WEIGHTS[0, 0], SOURCE, TARGET)
    assert not warnings_of(figure, tmp_path / "a.png")


def test_a_row_is_what_was_written_and_a_column_what_was_read():
    ax = draw.figure("title").subplots()
    draw.alignment(ax, WEIGHTS[0, 0], SOURCE, TARGET)
    np.testing.assert_array_equal(np.asarray(ax.images[0].get_array()), WEIGHTS[0, 0])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("read", "written")


def test_a_gloss_is_centred_over_the_symbols_of_its_word():
    ax = draw.figure("title").subplots()
    draw.alignment(ax, WEIGHTS[0, 0], SOURCE, TARGET)
    draw.glosses(ax, [("month", 2), ("", 1), ("day", 1)])
    places = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert places == {"month": 0.5, "day": 3}
    ends = [tuple(line.get_xdata()) for line in ax.get_lines()]
    assert ends == [(-0.35, 1.35), (2.65, 3.35)]


def test_a_gloss_that_takes_no_symbol_is_refused():
    ax = draw.figure("title").subplots()
    with pytest.raises(ValueError, match="glosses: words, how many symbols"):
        draw.glosses(ax, [("month", 0)])


def test_heads_are_drawn_in_a_grid_of_layers_by_heads(no_font):
    figure = draw.figure("title")
    draw.heads(figure, WEIGHTS, SOURCE, TARGET)
    shown = np.array([np.asarray(ax.images[0].get_array()) for ax in figure.axes]).reshape(
        WEIGHTS.shape
    )
    np.testing.assert_array_equal(shown, WEIGHTS)
    assert [ax.get_title() for ax in figure.axes] == ["head 1", "head 2", "head 3", "", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["layer 1", "", "", "layer 2", "", ""]
    assert not any(is_chinese(word) for ax in figure.axes for word in labels(ax.xaxis))


def test_a_matrix_that_does_not_fit_its_words_is_refused():
    ax = draw.figure("title").subplots()
    with pytest.raises(
        ValueError, match=r"a matrix \(3, 4\) has no place for 3 symbols written and 5 read"
    ):
        draw.alignment(ax, WEIGHTS[0, 0], [*SOURCE, "!"], TARGET)


@pytest.mark.parametrize("shape", [(3, 3, 4), (0, 3, 3, 4), (1, 0, 3, 4)])
def test_weights_without_layers_or_heads_are_refused(shape):
    with pytest.raises(ValueError, match=r"must be \(layers, heads, T, S\)"):
        draw.heads(draw.figure("title"), np.zeros(shape), SOURCE, TARGET)
