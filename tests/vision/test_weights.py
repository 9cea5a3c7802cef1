"""Weights of other libraries: errors use the names in the file, and no model is loaded in part."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
import safetensors.numpy

from tinycv import Tensor
from tinycv.training import checkpoint
from tinycv.training.checkpoint import CheckpointError
from tinycv.vision import ViT, load_vit, save_vit
from tinycv.vision.layouts import LAYOUTS, TABLE, rows
from tinycv.vision.resize import bicubic, resized

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
HEAD = {"timm": "head", "torchvision": "heads.head", "huggingface": "classifier"}


def small(**options):
    return ViT(
        **{
            "image_size": 6,
            "patch_size": 2,
            "num_classes": 3,
            "channels": 2,
            "dim": 8,
            "depth": 2,
            "heads": 2,
            "mlp_dim": 12,
        }
        | options
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vit.safetensors"


def foreign(path, layout="timm", model=None, **change):
    """A file without the note of tinycv, with some entries changed by a function, or left out if it
    is None."""
    save_vit(path, model or small(), layout)
    arrays, _ = checkpoint.load(path)
    for name, how in change.items():
        array = arrays.pop(name, np.zeros(3, np.float32))
        if how is not None:
            arrays[name] = how(array)
    safetensors.numpy.save_file(arrays, path)
    return path


# ── the table ─────────────────────────────────────────────────────────────────────────────────────


@LAYOUT
def test_the_table_has_a_row_for_every_weight_of_a_vit(layout):
    model = small()
    assert [name for name, _, _ in rows(layout, 2)] and {
        name for name, _, _ in rows(layout, 2)
    } == set(model.state_dict())


@LAYOUT
def test_no_library_name_occurs_twice(layout):
    names = [name for _, _, parts in rows(layout, 3) for name in parts]
    assert len(names) == len(set(names))


def test_the_table_has_five_columns():
    assert {len(line.split()) for line in TABLE.strip().splitlines()} == {5}


# ── save and load ─────────────────────────────────────────────────────────────────────────────────


@LAYOUT
def test_a_saved_model_is_loaded_bit_for_bit_with_its_note(layout, path):
    model, labels = small(layer_norm_eps=1e-3), ["cat", "dog", "Zebra ü"]
    save_vit(path, model, layout, labels=labels, mean=[0.1, 0.2], std=[1.0, 2.0])
    again, about = load_vit(path)
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), t.numpy(), name)
    assert about["labels"] == labels and about["mean"] == [0.1, 0.2] and about["layout"] == layout
    assert (
        not again.training
        and again.blocks[1].norm2.eps == 1e-3
        and again.blocks[0].self_attn.num_heads == 2
    )


def test_a_model_can_be_saved_from_every_device(path, device):
    save_vit(path, small().to(device), "huggingface")
    assert load_vit(path)[0].head.weight.shape == (3, 8)


@LAYOUT
def test_save_vit_refuses_a_model_with_pool_mean(layout, path):
    with pytest.raises(ValueError, match="pool 'mean': .* read the class from CLS"):
        save_vit(path, small(pool="mean"), layout)
    assert not path.exists()


def test_a_layout_that_is_not_in_the_table_is_refused(path):
    with pytest.raises(
        ValueError, match="layout is 'keras'.* one of 'timm', 'torchvision', 'huggingface'"
    ):
        save_vit(path, small(), "keras")


# ── what no shape shows: heads, epsilon, labels ───────────────────────────────────────────────────


@pytest.mark.parametrize("layout", ["timm", "torchvision"])
@pytest.mark.parametrize("dim, heads", [(64, 1), (192, 3), (1280, 16)])
def test_heads_follow_the_rule_if_nothing_else_says(layout, dim, heads, path):
    model = small(dim=dim, depth=1, mlp_dim=2)
    model, about = load_vit(foreign(path, layout, model))
    assert about["heads"] == model.blocks[0].self_attn.num_heads == heads
    assert about["heads_from"] == "the rule of timm and torchvision: width / 64, but at most 16"


@pytest.mark.parametrize("layout, dim", [("timm", 8), ("torchvision", 8), ("huggingface", 64)])
def test_if_no_rule_applies_the_error_says_to_pass_heads(layout, dim, path):
    with pytest.raises(
        CheckpointError, match=rf"how many heads share the width of {dim}: pass heads="
    ):
        load_vit(foreign(path, layout, small(dim=dim)))


@pytest.mark.parametrize("heads", [-2, 2.0, True, "2"])
def test_wrong_values_of_heads_are_refused(heads, path):
    with pytest.raises(
        (TypeError, ValueError), match="load_vit: heads is .* whole number, at least 0"
    ):
        load_vit(foreign(path), heads=heads)


@pytest.mark.parametrize("heads", [3, 0, np.int64(3)])
def test_heads_that_do_not_divide_the_width_are_refused(heads, path):
    with pytest.raises(
        CheckpointError, match=rf"{heads} heads \(from the argument\) cannot share a width of 8"
    ):
        load_vit(foreign(path), heads=heads)


def config(path, **content):
    (path.parent / "config.json").write_text(json.dumps(content))


def test_the_config_of_hugging_face_gives_heads_epsilon_and_labels(path):
    foreign(path, "huggingface")
    config(
        path,
        num_attention_heads=4,
        layer_norm_eps=1e-5,
        id2label={"1": "b", "0": "a", "2": "c"},
        hidden_act="gelu",
    )
    model, about = load_vit(path)
    assert (about["heads"], model.norm.eps, about["labels"]) == (4, 1e-5, ["a", "b", "c"])


@pytest.mark.parametrize(
    "content, words",
    [
        ({}, "not the config.json of a ViT: KeyError: 'num_attention_heads'"),
        ([1], "not the config"),
        ("{", "not the config"),
        ({"num_attention_heads": 3}, "3 heads .from config.json. cannot share"),
        ({"num_attention_heads": "2"}, "'2' heads"),
        (
            {"num_attention_heads": 2, "hidden_act": "relu"},
            "activation of the MLP is 'relu'; this ViT has gelu",
        ),
        (
            {"num_attention_heads": 2, "layer_norm_eps": "no"},
            "layer_norm_eps is no; it must be between 0 and 1",
        ),
        ({"num_attention_heads": 2, "id2label": {"0": "a"}}, "labels must be a list of 3 words"),
        (
            {"num_attention_heads": 2, "id2label": {"a": "0"}},
            "not the config.json of a ViT: KeyError: '0'",
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(content, words, path):
    foreign(path, "huggingface")
    (path.parent / "config.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    with pytest.raises(CheckpointError, match=words):
        load_vit(path)


@pytest.mark.parametrize(
    "content, words",
    [
        ("[" + "[]," * 2_000_000 + "[]]", "its 6000004 characters hold more values"),
        (" " * 8_000_001, "it has 8000001 bytes; the most is 8000000"),
        ("[" * 100_000, "RecursionError"),
        (None, "it is not an ordinary file"),
    ],
)
def test_a_config_that_is_huge_or_a_pipe_is_refused(content, words, path):
    foreign(path, "huggingface")
    beside = path.parent / "config.json"
    os.mkfifo(beside) if content is None else beside.write_text(content)
    began = time.process_time()
    with pytest.raises(
        CheckpointError, match=f"config.json: not the config.json of a ViT: .*{words}"
    ):
        load_vit(path)
    assert time.process_time() - began < 2


def test_a_config_with_the_labels_of_imagenet_21k_is_read(path):
    names = {str(i): f"n{i:08}: a name of some words, and another" for i in range(21_843)}
    foreign(path, "huggingface", small(num_classes=len(names)))
    config(path, num_attention_heads=2, id2label=names, label2id={v: k for k, v in names.items()})
    assert load_vit(path)[1]["labels"] == list(names.values())


@LAYOUT
def test_a_model_with_a_nan_is_not_saved_over_a_good_file(layout, path):
    model = small()
    save_vit(path, model, layout)
    good, array = path.read_bytes(), model.norm.weight.numpy().copy()
    array[-1] = np.nan
    model.load_state_dict({"norm.weight": array}, strict=False)
    with pytest.raises(
        ValueError, match="^save_vit: the model was not saved; NaN in: norm.weight$"
    ):
        save_vit(path, model, layout)
    assert path.read_bytes() == good
    with pytest.raises(ValueError, match="save_vit: path is .*; it must name a file"):
        save_vit(f"{path}/", small(), layout)


def test_a_config_beside_a_file_of_another_layout_is_ignored(path):
    foreign(path, "timm")
    config(path, nonsense=1)
    assert load_vit(path, heads=2)[1]["heads"] == 2


@pytest.mark.parametrize(
    "note, words",
    [
        ({"labels": ["a"]}, "labels must be a list of 3 words"),
        ({"labels": "abc"}, "labels must be a list"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps is 0.0"),
        ({"heads": 3}, "3 heads .from a note in the file. cannot"),
        ({"mean": 0.5}, "crop, mean, std are .* two lists"),
        ({"std": ["1"]}, "crop, mean, std are"),
        ({"crop": "all"}, "crop, mean, std are"),
    ],
)
def test_a_wrong_note_is_refused(note, words, path):
    save_vit(path, small())
    arrays, state = checkpoint.load(path)
    checkpoint.save(path, arrays, state | note)
    with pytest.raises(CheckpointError, match=words):
        load_vit(path)


# ── wrong files ───────────────────────────────────────────────────────────────────────────────────


def grown(a):
    return np.concatenate([a, a])


@LAYOUT
def test_all_problems_are_listed_at_once_by_the_names_in_the_file(layout, path):
    head = HEAD[layout]
    foreign(
        path,
        layout,
        **{
            f"{head}.bias": None,
            f"{head}.weight": lambda a: a[:, :5],
            "stranger": lambda a: a,
            "counter": lambda a: np.arange(3),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        load_vit(path, heads=2)
    message = str(caught.value)
    assert message.startswith(
        f"{path}: no complete ViT in the layout of {layout}; missing: {head}.bias; unexpected: "
    )
    assert (
        "stranger" in message
        and f"of another shape: {head}.weight is (3, 5), should be (3, 8)" in message
    )
    assert "not of real numbers: counter (int64)" in message


@LAYOUT
def test_every_missing_tensor_is_reported(layout, path):
    save_vit(path, small(), layout)
    whole, _ = checkpoint.load(path)
    for name in whole:
        safetensors.numpy.save_file({other: a for other, a in whole.items() if other != name}, path)
        with pytest.raises(CheckpointError, match=r"missing: |no ViT in a layout") as caught:
            load_vit(path, heads=2)
        assert name in str(caught.value) or "no ViT in a layout" in str(caught.value)


@LAYOUT
def test_every_tensor_of_a_wrong_shape_is_reported(layout, path):
    save_vit(path, small(), layout)
    whole, _ = checkpoint.load(path)
    for name, a in whole.items():
        safetensors.numpy.save_file(whole | {name: grown(a)}, path)
        with pytest.raises(CheckpointError, match="of another shape|not a square of patches"):
            load_vit(path, heads=2)


@LAYOUT
def test_a_nan_is_refused_with_the_name_of_its_tensor(layout, path):
    foreign(path, layout, **{f"{HEAD[layout]}.weight": lambda a: a * np.float32("nan")})
    with pytest.raises(CheckpointError, match=rf"NaN: {HEAD[layout]}.weight$"):
        load_vit(path, heads=2)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"patch_embed.proj.weight": lambda a: a[:, :, :1]},
            r"proj.weight is \(8, 2, 1, 2\), should be \(8, 2, 2, 2\)",
        ),
        (
            {"patch_embed.proj.weight": lambda a: a[0]},
            r"patch_embed.proj.weight is \(2, 2, 2\), should be \(8, \?, \?, \?\)",
        ),
        (
            {"patch_embed.proj.weight": lambda a: a[:, :0]},
            "not a square of patches: D = 8, N = 10, C = 0",
        ),
        ({"pos_embed": lambda a: a[:, :9]}, "not a square of patches: D = 8, N = 9"),
        ({"pos_embed": lambda a: a[:, :1]}, "not a square of patches: D = 8, N = 1"),
        (
            {"blocks.1.attn.qkv.weight": lambda a: a[:16]},
            r"blocks.1.attn.qkv.weight is \(16, 8\), should be \(24, 8\)",
        ),
        (
            {"blocks.7.norm1.weight": lambda a: a},
            "missing: blocks.2.norm1.weight.* and 4 more; unexpected: blocks.7",
        ),
        ({"head.bias": lambda a: a.astype(np.int32)}, r"not of real numbers: head.bias \(int32\)"),
    ],
)
def test_a_file_that_is_almost_a_vit_is_refused_with_the_reason(change, words, path):
    with pytest.raises(CheckpointError, match=words):
        load_vit(foreign(path, "timm", **change), heads=2)


def test_a_file_of_another_model_is_refused_with_the_names_in_it(path):
    safetensors.numpy.save_file({f"layer{i}.weight": np.ones(2) for i in range(10)}, path)
    with pytest.raises(
        CheckpointError,
        match="a layout of timm, torchvision, huggingface; it holds layer0.weight, .* and 2 more",
    ):
        load_vit(path)


def test_a_file_of_save_model_is_refused_with_how_to_load_it(path):
    checkpoint.save_model(path, small())
    with pytest.raises(
        CheckpointError,
        match=r"to read a file of save_model, build the model yourself and call load_model",
    ):
        load_vit(path)


def test_a_shape_too_large_for_memory_is_refused_without_allocating(path):
    with pytest.raises(CheckpointError, match="of another shape"):
        load_vit(
            foreign(path, "timm", **{"cls_token": lambda a: np.zeros((1, 1, 100_000), np.float32)}),
            heads=2,
        )


# ── another image size ────────────────────────────────────────────────────────────────────────────


def test_a_model_for_another_image_size_reads_images_of_that_size(path):
    save_vit(path, small())
    model, _ = load_vit(path, image_size=10)
    assert model(Tensor(np.zeros((1, 2, 10, 10), np.float32))).shape == (1, 3)


@pytest.mark.parametrize(
    "image_size, words",
    [
        (7, "7 does not divide .* patches of 2 x 2"),
        (0, "0 does not divide"),
        (1, "1 does not divide"),
        (-2, "is -2; .* at least 0"),
    ],
)
def test_an_image_size_that_patches_do_not_fill_is_refused(image_size, words, path):
    save_vit(path, small())
    with pytest.raises(ValueError, match=f"load_vit: image_size {words}"):
        load_vit(path, image_size=image_size)


@pytest.mark.parametrize("old, new", [(1, 4), (3, 7), (14, 24), (24, 14)])
def test_resizing_keeps_a_constant_and_nearly_keeps_a_ramp_away_from_the_edges(old, new):
    mix = bicubic(old, new)
    np.testing.assert_allclose(mix.sum(axis=1), 1, rtol=1e-12)
    places = (np.arange(new) + 0.5) * old / new - 0.5
    inside = (places >= 1) & (places <= old - 2)
    # with a = -0.75 the interpolation is nearly linear
    np.testing.assert_allclose((mix @ np.arange(old))[inside], places[inside], atol=1 / 4)
    np.testing.assert_allclose(bicubic(old, old), np.eye(old), atol=1e-12)


def test_cls_keeps_its_position_and_rows_stay_rows():
    rows_only = np.repeat(np.arange(4.0), 4)[None, :, None]
    pos = np.concatenate([np.full((1, 1, 1), 9.0), rows_only], axis=1)
    grid = resized(pos, 8)[0, 1:, 0].reshape(8, 8)
    assert resized(pos, 8)[0, 0, 0] == 9
    assert (np.abs(grid - grid[:, :1]) < 1e-12).all() and (np.diff(grid[:, 0]) > 0).all()
