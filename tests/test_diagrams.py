"""The diagrams for the README are written, and show the numbers that tinycv computes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinycv
from tinycv.sequence import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).parent.parent))  # demos is no part of the installed package
from demos import diagrams


def drawn_table(ax):
    """The numbers in the cells of a table, (rows, columns)."""
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text for text in ax.texts}
    rows, columns = np.max(list(cells), axis=0) + 1
    table = np.empty((rows, columns))
    for cell, text in cells.items():
        table[cell] = float(text.get_text())
    return table


@pytest.fixture(scope="module")
def tables():
    names = ("Q", "K", "V", "scores", "weights", "output")
    axes = diagrams.attention_diagram().axes
    return {name: drawn_table(ax) for name, ax in zip(names, axes, strict=True)}


def test_the_drawn_output_is_that_of_scaled_dot_product_attention(tables):
    q, k, v = (
        tinycv.tensor(table[None, None], dtype="float32")
        for table in (tables["Q"], tables["K"].T, tables["V"])
    )
    output = scaled_dot_product_attention(q, k, v).numpy()[0, 0]
    np.testing.assert_allclose(tables["output"], output, atol=0.0051)


def test_the_drawn_weights_are_what_attention_gives_for_values_of_one_hot_rows(tables):
    q, k = (
        tinycv.tensor(table[None, None], dtype="float32") for table in (tables["Q"], tables["K"].T)
    )
    one_hot = tinycv.tensor(np.eye(3)[None, None], dtype="float32")
    weights = scaled_dot_product_attention(q, k, one_hot).numpy()[0, 0]
    np.testing.assert_allclose(tables["weights"], weights, atol=0.0051)


def test_the_drawn_scores_are_products_of_queries_and_keys_over_the_square_root_of_d(tables):
    np.testing.assert_allclose(tables["scores"], tables["Q"] @ tables["K"] / 2, atol=0.0051)


def test_both_diagrams_are_written_and_fit_a_page(tmp_path):
    diagrams.main(tmp_path)
    for name in ("diagram_attention.png", "diagram_gan.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width == 900
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 20, "the picture is blank"
