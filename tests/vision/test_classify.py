"""``python -m tinycv.vision.classify``: photos are prepared as in each library, five classes are
printed, and errors are clear."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import tinycv
from tinycv import Tensor
from tinycv.engine.backend import resolve
from tinycv.nn.functional import softmax
from tinycv.vision import ViT, load_vit, save_vit
from tinycv.vision.classify import classify, main, prepared
from tinycv.vision.weights import IMAGENET, LIBRARY_DEFAULTS

LABELS = ["palace", "tree", "lake", "flower", "boat", "sky", "Zürich"]
SIZE = 32


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photo")
    # 640 x 427; no JPEG loss in between
    Image.fromarray(load_sample_image("china.jpg")).save(folder / "china.png")
    return folder / "china.png"


@pytest.fixture
def weights(tmp_path):
    return write(tmp_path)


def write(folder, layout="torchvision", **note):
    tinycv.manual_seed(0)
    model = ViT(SIZE, 8, 7, 3, 16, 2, 2)
    model.head.weight.data = 3 * model.head.weight.data
    save_vit(folder / "a.safetensors", model, layout, **({"labels": LABELS} | note))
    return folder / "a.safetensors"


def printed(capsys, *arguments):
    main([str(a) for a in arguments])
    return capsys.readouterr().out.splitlines()


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert "\n" not in str(caught.value.code)
    return caught.value.code


def by_hand(layout):
    """The photo china.png as each library prepares it for 32 pixels, with the numbers written
    out."""
    array, (mean, std) = Image.fromarray(load_sample_image("china.jpg")), ((0.5,) * 3, (0.5,) * 3)
    if layout == "huggingface":
        array = array.resize((32, 32), Image.Resampling.BILINEAR)
    # 32 / 0.9 = 35.6; 35 x 640 / 427 = 52.5
    elif layout == "timm":
        array = array.resize((52, 35), Image.Resampling.BICUBIC).crop((10, 2, 42, 34))
    # 32 x 256 / 224 = 36.6; 36 x 640 / 427 = 53.96
    else:
        array, (mean, std) = (
            array.resize((53, 36), Image.Resampling.BILINEAR).crop((10, 2, 42, 34)),
            IMAGENET,
        )
    return ((np.asarray(array) / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize("layout", LIBRARY_DEFAULTS)
def test_the_photo_is_prepared_as_in_each_library(layout, photo):
    np.testing.assert_allclose(
        prepared(photo, SIZE, 3, vars(LIBRARY_DEFAULTS[layout])), by_hand(layout), atol=1e-6
    )


def test_the_five_most_likely_classes_are_printed_with_their_probabilities(photo, weights, capsys):
    head, *lines = printed(capsys, photo, "--weights", weights)
    scores = load_vit(weights)[0](Tensor(by_hand("torchvision")[None]))
    chances = softmax(scores).numpy()[0]
    assert lines == [f"{100 * chances[i]:5.1f} %  {LABELS[i]}" for i in np.argsort(-chances)[:5]]
    assert chances.max() - chances.min() > 0.02
    assert head == (
        f"{weights}: a ViT in the layout of torchvision, 2 blocks of width 16, 2 heads (a note in "
        "the file), 32 x 32 pixels"
    )


def test_classify_works_on_every_device(weights, device):
    model, image = load_vit(weights)[0], by_hand("timm")
    on_cpu = classify(model, image, 3)
    elsewhere = classify(model.to(resolve(device)), image, 3, device)
    assert [i for i, _ in elsewhere] == [i for i, _ in on_cpu]
    np.testing.assert_allclose([p for _, p in elsewhere], [p for _, p in on_cpu], rtol=1e-4)


def test_labels_can_come_from_a_list_and_classes_without_names_have_numbers(
    photo, tmp_path, capsys
):
    weights, names = write(tmp_path, labels=None), tmp_path / "names.txt"
    names.write_text("".join(f"name {i}\n" for i in range(7)))
    numbered = printed(capsys, photo, "--weights", weights)[1:]
    named = printed(capsys, photo, "--weights", weights, "--labels", names)[1:]
    assert (
        all("class " in line for line in numbered)
        and [line.replace("class", "name") for line in numbered] == named
    )


def test_options_override_the_note_and_the_note_overrides_the_defaults_of_the_library(
    photo, tmp_path, capsys
):
    plain = write(tmp_path)
    habit = printed(capsys, photo, "--weights", plain)
    given = printed(
        capsys,
        photo,
        "--weights",
        plain,
        "--mean",
        0,
        0,
        0,
        "--std",
        1,
        1,
        1,
        "--crop",
        0,
        "--resample",
        "lanczos",
    )
    noted = write(tmp_path, mean=[0, 0, 0], std=[1, 1, 1], crop=0, resample="lanczos")
    assert given == printed(capsys, photo, "--weights", noted) != habit


def test_the_image_can_be_read_at_another_size(photo, weights, capsys):
    assert (
        "48 x 48 pixels"
        in printed(capsys, photo, "--weights", weights, "--image-size", 48, "--top", 1)[0]
    )


def test_it_runs_as_a_module_without_warnings(photo, weights):
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "tinycv.vision.classify",
            photo,
            "--weights",
            weights,
            "--top",
            "7",
        ],
        capture_output=True,
        env=None,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 8


def test_letters_that_the_console_lacks_are_replaced(photo, weights, capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "encoding", "ascii", raising=False)
    assert any(
        line.endswith("Z?rich") for line in printed(capsys, photo, "--weights", weights, "--top", 7)
    )


# ── errors ────────────────────────────────────────────────────────────────────────────────────────


def test_files_that_cannot_be_read_are_refused_in_one_line(photo, weights, tmp_path):
    words, short = tmp_path / "words.jpg", tmp_path / "short.txt"
    words.write_text("no picture")
    short.write_text("one\ntwo\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n" * 7)
    for arguments, message in [
        ((tmp_path / "none.jpg", "--weights", weights), "none.jpg: there is no such file"),
        ((words, "--weights", weights), "words.jpg: not an image"),
        ((photo, "--weights", tmp_path / "none.pt"), "none.pt: cannot be read"),
        ((photo, "--weights", photo), "not a safetensors file, but a PNG picture"),
        (
            (photo, "--weights", weights, "--labels", short),
            "short.txt: 2 lines; the model has 7 classes",
        ),
        (
            (photo, "--weights", weights, "--labels", tmp_path / "none.txt"),
            "none.txt: there is no such file",
        ),
        ((photo, "--weights", weights, "--labels", tmp_path / "latin.txt"), "not a text in UTF-8"),
        (
            (photo, "--weights", weights, "--mean", 0),
            "mean [0.0] and std (0.229, 0.224, 0.225) must be 3 numbers each",
        ),
        ((photo, "--weights", weights, "--std", 1, 0, 1), "above 0: pass --mean and --std"),
        ((photo, "--weights", weights, "--crop", 2), "crop is 2.0"),
        (
            (photo, "--weights", weights, "--heads", 3),
            "3 heads (from the argument) cannot share a width of 16",
        ),
        ((photo, "--weights", weights, "--image-size", 33), "image_size 33 does not divide"),
        ((photo, "--weights", weights, "--top", 0), "--top 0: it must be at least 1"),
        ((photo, "--weights", weights, "--device", "moon"), "moon"),
    ]:
        assert message in refused(*arguments), arguments


def test_a_model_of_two_channels_is_refused(photo, tmp_path):
    save_vit(tmp_path / "a.safetensors", ViT(8, 4, 3, 2, 8, 1, 2), mean=[0, 0], std=[1, 1])
    assert "a photo has 1 channel (grey) or 3 (RGB), not 2" in refused(
        photo, "--weights", tmp_path / "a.safetensors"
    )
