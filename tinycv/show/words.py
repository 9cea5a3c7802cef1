"""Attention maps with words on both axes: where a model looked while it wrote. Used as
draw.alignment, draw.glosses and draw.heads.

Chinese characters are drawn if matplotlib finds a Chinese font. Otherwise they are written in
pinyin: 年 becomes nián.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from tinycv.data import inputs as given
from tinycv.data.pinyin import is_chinese, romanised
from tinycv.engine.arguments import number, shown
from tinycv.engine.tensor import ArrayLike
from tinycv.show import inputs
from tinycv.show.colours import INK

# Fonts with Chinese characters that systems ship: Linux, macOS, Windows.
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "AR PL UMing CN",
    "Noto Serif CJK SC",
    "PingFang SC",
    "PingFang HK",
    "Hiragino Sans GB",
    "Heiti SC",
    "Heiti TC",
    "STHeiti",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "SimHei",
    "DengXian",
    "SimSun",
)


def alignment(
    ax: Axes,
    matrix: ArrayLike,
    source: Sequence[str],
    target: Sequence[str],
    caption: str = "",
    size: float = 10,
) -> None:
    """Heat map of attention: one row per symbol written, one column per symbol read.

    matrix (T, S): row t sums to 1; source: the S symbols read; target: the T symbols written;
    size: of the symbols, in points.
    """
    size = number(size, "alignment: size", 0.1, 1000)
    _heat(ax, matrix, source, target, size, "alignment")
    caption = given.text(caption, "alignment: caption")
    ax.set_xlabel("read", fontsize=10)
    ax.xaxis.set_label_position("top")
    ax.set_ylabel("written", fontsize=10)
    if caption:
        ax.set_title(caption, fontsize=12)


def glosses(ax: Axes, words: Sequence[tuple[str, int]], size: float = 10) -> None:
    """Write what the symbols read mean between the symbols and the matrix of ``alignment``.

    words: (meaning, how many symbols it takes) from the left on, for example [("I", 1),
    ("Beijing", 2)]. A line joins the symbols of one word. Where the meaning is "", nothing is
    drawn.
    """
    ax, size = inputs.axes(ax, "glosses"), number(size, "glosses: size", 0.1, 1000)
    if not isinstance(words, (list, tuple)) or not all(
        isinstance(word, (list, tuple)) and len(word) == 2 for word in words
    ):
        raise TypeError(
            f"glosses: words is {shown(words)}; it must be a list of pairs (meaning, how many "
            "symbols)"
        )
    # matplotlib's pad is the space between an axis and its symbols, in points
    ax.tick_params(axis="x", length=0, pad=1.9 * size)
    axis = ax.get_xaxis_transform()  # x counts symbols; y is 0 at the matrix's bottom, 1 at its top
    first = 0
    for meaning, count in words:
        meaning = given.text(meaning, "glosses: words, a meaning")
        count = given.whole(count, "glosses: words, how many symbols", 1)
        last = first + count - 1
        ends = first - 0.35, last + 0.35
        middle = (first + last) / 2
        if meaning:
            ax.plot(ends, (1.015, 1.015), color=INK, linewidth=1, transform=axis, clip_on=False)
            ax.text(middle, 1.03, meaning, transform=axis, ha="center", va="bottom", fontsize=size)
        first = last + 1


def heads(
    place: FigureBase, weights: ArrayLike, source: Sequence[str], target: Sequence[str]
) -> None:
    """One heat map for each head (columns) of each layer (rows). Only the maps at the left and at
    the top show the words.

    weights (layers, heads, T, S). place: an empty figure or subfigure.
    """
    place = inputs.place(place, "heads")
    weights = given.array(weights, "heads: weights", "numbers (layers, heads, T, S)")
    if weights.ndim != 4 or 0 in weights.shape[:2] or max(weights.shape[:2]) > 100:
        raise ValueError(
            f"heads: weights have shape {weights.shape}; they must be (layers, heads, T, S), one "
            "to a hundred of each"
        )
    axes = place.subplots(*weights.shape[:2], squeeze=False)
    for layer, row in enumerate(axes):
        for head, ax in enumerate(row):
            _heat(ax, weights[layer, head], source, target, 6, "heads")
            ax.tick_params(labelleft=head == 0, labeltop=layer == 0)
            if layer == 0:
                ax.set_title(f"head {head + 1}", fontsize=10)
            if head == 0:
                ax.set_ylabel(f"layer {layer + 1}", fontsize=10)


def heat(
    ax: Axes, matrix: ArrayLike, source: Sequence[str], target: Sequence[str], size: float = 8
) -> None:
    """A matrix (written, read) as shades, with a symbol at every row and column. It raises
    ValueError if the matrix has another number of rows or columns than there are symbols."""
    _heat(ax, matrix, source, target, number(size, "heat: size", 0.1, 1000), "heat")


def _heat(ax: Axes, matrix: ArrayLike, source: Any, target: Any, size: float, who: str) -> None:
    """``heat``, with the caller's name ``who`` in its error messages."""
    ax, matrix = (
        inputs.axes(ax, who),
        inputs.from_0_to_1(matrix, f"{who}: matrix", "numbers (written, read)", 2),
    )
    source, target = inputs.names(source, f"{who}: source"), inputs.names(target, f"{who}: target")
    if matrix.shape != (len(target), len(source)):
        raise ValueError(
            f"{who}: a matrix {matrix.shape} has no place for {len(target)} symbols written and "
            f"{len(source)} read; it must be (written, read): cut off what belongs to PAD"
        )
    ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    across, family = readable(source)
    down, also = readable(target)
    ax.set_xticks(range(len(across)), across, fontsize=size, fontfamily=family)
    ax.set_yticks(range(len(down)), down, fontsize=size, fontfamily=also)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=2)
    for label in ax.get_xticklabels():  # the labels at the top, since tick_params moved them
        label.set_rotation(90 if len(label.get_text()) > 2 else 0)


def readable(symbols: Sequence[str]) -> tuple[list[str], list[str]]:
    """The symbols as this machine can draw them, and the fonts to use. A blank is drawn as an open
    box (U+2423)."""
    symbols = inputs.names(symbols, "readable: symbols")
    drawn = ["\u2423" if symbol == " " else symbol for symbol in symbols]
    font = chinese_font()
    if not any(map(is_chinese, drawn)):
        return drawn, ["DejaVu Sans"]
    if font:
        return drawn, ["DejaVu Sans", font]
    return [romanised(symbol) for symbol in drawn], ["DejaVu Sans"]


@cache
def chinese_font() -> str | None:
    """The name of a font with Chinese characters, or None if matplotlib finds no such font."""
    known = set(font_manager.get_font_names())
    return next((name for name in CHINESE_FONTS if name in known), None)
