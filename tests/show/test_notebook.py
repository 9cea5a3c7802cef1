"""How Tensors and Modules look in a notebook: what is written is true, no Tensor and no Module
makes it fail, and a large array is not read as a whole."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from cupy_double import counting
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

sys.path.insert(0, __file__.rsplit("/", 2)[0] + "/engine")

from test_state import LAYERS  # every layer of the package, with inputs

import tinycv
from tinycv import Parameter, Tensor, nn
from tinycv.show import notebook

VOID = {"br", "img"}


class Reader(HTMLParser):
    """Checks that tags are nested correctly; text and tags are collected."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(value):
    return Reader(value._repr_html_())


def images(page):
    found = []
    for tag, attributes in page.tags:
        if tag == "img":
            head, _, data = attributes["src"].partition(",")
            assert head == "data:image/png;base64"
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                found.append(np.asarray(image))
    return found


# ── Tensors ──────────────────────────────────────────────────────────────────────────────────────


def test_a_tensor_says_its_shape_dtype_device_and_statistics():
    text = read(Tensor(np.array([[1.0, 2.0], [3.0, 6.0]], np.float32))).text
    assert text.startswith("tensor (2, 2) float32 on cpu")
    assert "min 1, mean 3, max 6" in text and "[3., 6.]" in text


def test_a_leaf_a_result_and_a_parameter_say_what_they_are():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert "on cpu, requires_grad" in read(x).text
    assert "on cpu, op mul" in read(x * 2).text
    assert read(Parameter(np.ones(2, np.float32))).text.startswith("parameter (2,)")


def test_nan_and_infinity_are_counted_and_left_out_of_the_statistics():
    values = np.array([1.0, np.nan, 3.0, np.inf, -np.inf], np.float32)
    assert "min 1, mean 2, max 3, 1 NaN, 2 Inf" in read(Tensor(values)).text


@pytest.mark.parametrize(
    "values, said",
    [
        (np.zeros((0, 3), np.float32), "no values"),
        (np.array(2.5, np.float32), "min 2.5, mean 2.5, max 2.5"),
        (np.array([True, False, True]), "2 True, 1 False"),
        (np.array([1, 2, 3]), "min 1, mean 2, max 3"),
        (np.full(3, np.nan, np.float32), "3 NaN"),
        (np.array([60000, 60000], np.float16), "mean 6e+04"),
    ],
    ids=["empty", "0-d", "bool", "int", "all NaN", "float16"],
)
def test_special_tensors_have_their_sentence(values, said):
    assert said in read(Tensor(values)).text


@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    )
)
def test_no_tensor_fails_and_all_tags_are_closed(values):
    assert read(Tensor(values)).text.startswith("tensor (")


@pytest.mark.parametrize("value", [5.0, -60000.0, 1e308])
def test_an_image_of_one_value_is_black_and_raises_no_warning(value):
    with np.errstate(all="raise"):
        assert not notebook.to_rgb(np.full((3, 4, 4), value)).any()


def test_an_image_whose_range_is_larger_than_the_largest_float_has_black_and_white():
    image = np.full((1, 4, 4), 1e308)
    image[0, 0] = -1e308
    with np.errstate(all="raise"):
        assert np.unique(notebook.to_rgb(image)).tolist() == [0, 255]


def test_a_large_tensor_is_sampled_and_says_so():
    x = Tensor(np.zeros((3000, 1000), np.float32))
    assert "values)" in read(x).text and "of 3,000,000 values" in read(x).text
    assert 250_000 <= notebook.sampled(x._data, notebook.SAMPLE).size <= notebook.SAMPLE


def test_of_a_large_array_on_a_gpu_only_a_sample_is_copied(double, monkeypatch):
    sizes = []
    to_numpy = notebook.backend.to_numpy

    def watched(array):
        sizes.append(array.size)
        return to_numpy(array)

    x = Tensor(np.zeros((8, 3, 640, 640), np.float32), device="gpu")
    monkeypatch.setattr(notebook.backend, "to_numpy", watched)
    page = read(x)
    assert "on gpu:0" in page.text and len(images(page)) == 8
    assert sum(sizes) < 3 * notebook.SAMPLE < x.size


def test_to_show_a_module_on_a_gpu_reads_no_array(double):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to("gpu")
    with counting() as seen:
        read(model)
    assert (seen.count, seen.launches) == (0, 0)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────

RNG = np.random.default_rng(0)


def test_an_image_is_shown_with_its_own_pixels():
    pixels = RNG.random((3, 5, 7)).astype(np.float32)
    (shown,) = images(read(Tensor(pixels)))
    assert np.array_equal(shown, (np.moveaxis(pixels, 0, -1).astype(float) * 255).astype(np.uint8))


def test_bytes_are_shown_as_they_are():
    pixels = RNG.integers(0, 256, (1, 6, 5), dtype=np.uint8)
    (shown,) = images(read(Tensor(pixels)))
    assert np.array_equal(shown, np.repeat(pixels[0, ..., None], 3, axis=-1))


def test_other_values_are_shown_from_the_smallest_to_the_largest():
    (shown,) = images(read(Tensor(RNG.normal(size=(1, 8, 8)).astype(np.float32))))
    assert (shown.min(), shown.max()) == (0, 255)


def test_of_a_batch_at_most_eight_images_are_shown():
    assert len(images(read(Tensor(RNG.random((20, 1, 8, 8)).astype(np.float32))))) == 8


def test_a_large_image_is_shown_small():
    (shown,) = images(read(Tensor(np.zeros((1, 1000, 600), np.float32))))
    assert shown.shape == (250, 200, 3)


def test_an_attention_map_is_shown_brighter_where_more_is_looked_at():
    weights = nn.functional.softmax(Tensor(RNG.normal(size=(2, 3, 6, 5)).astype(np.float32)))
    shown = images(read(weights))
    assert [image.shape for image in shown] == [(6, 5, 3)] * 3
    order = np.argsort(weights.data[0, 1].ravel())
    brightness = shown[1].astype(int).sum(axis=-1).ravel()[order]
    assert (np.diff(brightness) >= -3).all() and brightness[-1] > 500


@pytest.mark.parametrize(
    "values",
    [RNG.normal(size=(8, 8)), RNG.random((5, 8, 8)), np.full((8, 8), np.nan), np.ones((64, 10))],
)
def test_a_matrix_that_is_neither_is_not_shown_as_a_picture(values):
    assert not images(read(Tensor(values.astype(np.float32))))


# ── Modules ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", LAYERS)
def test_every_module_is_a_tree_with_its_parameters(name):
    model = LAYERS[name][0]()
    page = read(model)
    assert type(model).__name__ in page.text
    for path, t in model.named_tensors():
        assert f"{path.rpartition('.')[2]} {t.shape}" in page.text
    if model.num_parameters():
        assert f"{model.num_parameters():,} parameters" in page.text


def test_a_module_is_not_run():
    class Refusing(nn.Module):
        def forward(self):
            raise AssertionError("it ran")

    assert "Refusing" in read(Refusing()).text


def test_names_are_escaped():
    class Named(nn.Module):
        def __init__(self):
            self.parts = {"<script>": nn.Linear(2, 2)}

    assert "parts.<script>: Linear" in read(Named()).text
    assert "<script>" not in Named()._repr_html_()


def test_a_module_that_refers_back_to_one_around_it_is_shown_once():
    outer = nn.Sequential(nn.Linear(2, 2))
    outer[0].parent = outer
    assert read(outer).text.count("shared, see above") == 1


def test_buffers_and_frozen_parameters_are_marked():
    text = read(nn.Sequential(nn.BatchNorm1d(3).requires_grad_(False))).text
    assert "weight (3,) frozen" in text and "running_mean (3,) buffer" in text


def test_it_needs_neither_matplotlib_nor_a_module_of_html_when_tinycv_is_imported():
    code = (
        "import sys, tinycv; print([m for m in ('html', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_colour_is_fixed_so_a_dark_theme_can_be_read():
    page = Tensor(RNG.random((1, 8, 8)).astype(np.float32))._repr_html_()
    page += nn.Linear(2, 2)._repr_html_() + tinycv.summary(nn.Linear(2, 2), (1, 2))._repr_html_()
    assert not re.findall(r"[;\"](?:color|background)[^\"]*:", page)
