"""``python -m tinycv.diffusion.sample``: it draws the digits that were asked for into one picture,
and a wrong option is answered by one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from seeds import SEED
from wrong_calls import riddles

import tinycv
from tinycv.diffusion import UNet
from tinycv.diffusion.sample import digits, main, save_sheet
from tinycv.training import pretrained
from tinycv.vision import ViT, probabilities

SIZES = {"channels": 1, "widths": (8,), "patch_size": 4, "num_classes": 10}
READER = {"image_size": 28, "patch_size": 14, "num_classes": 10, "dim": 8, "depth": 1, "heads": 1}


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """Small models without training in place of those that ship: what they draw is noise."""
    tinycv.manual_seed(0)
    for name, model, kind, sizes in (
        ("17_diffusion_digits", "unet", UNet, SIZES),
        ("06_vit", "vit", ViT, READER),
    ):
        record = dict.fromkeys(pretrained.KEYS) | {"config": {model: sizes}, "rows": []}
        arrays = pretrained.arrays_of({model: kind(**sizes)})
        pretrained.write(tmp_path / "weights" / f"{name}.safetensors", arrays, record)
    monkeypatch.setattr(pretrained, "FOLDERS", (tmp_path / "weights",))
    monkeypatch.chdir(tmp_path)


def printed(capsys, *arguments):
    main([*map(str, arguments), "--steps", "1"])
    return capsys.readouterr().out


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    assert "\n" not in str(caught.value.code)
    return caught.value.code


def test_sixteen_digits_of_a_label_fill_a_square(untrained, capsys):
    assert "seven.png: 16 digits" in printed(capsys, "--label", 7, "--out", "seven.png")
    assert Image.open("seven.png").size == (4 * 92 + 8, 4 * 92 + 8)


def test_without_a_label_there_are_ten_columns_one_per_digit(untrained, capsys):
    assert re.search(r"40 digits .*\n.* reads \d+ of 40 as", printed(capsys))
    assert Image.open("digits.png").size == (10 * 92 + 8, 4 * 92 + 8)


def test_the_same_seed_writes_the_same_picture_and_another_seed_another(untrained, capsys):
    written = []
    for seed in (0, 0, 1):
        printed(capsys, "--n", 1, "--seed", seed)
        written.append(Path("digits.png").read_bytes())
    assert written[0] == written[1] != written[2]


def test_a_digit_does_not_depend_on_how_many_labels_are_guided_with_it():
    tinycv.manual_seed(0)
    model = UNet(**SIZES).eval()
    made = {}
    for count in (2, 3):
        tinycv.manual_seed(1)
        made[count] = digits(model, np.arange(count), steps=2, w=1.0)
    np.testing.assert_allclose(made[2], made[3][:2], atol=1e-4)


def test_digits_are_pixels_from_0_to_1_on_every_device(device):
    tinycv.manual_seed(0)
    images = digits(UNet(**SIZES).to(device).eval(), np.array([3, 7]), 2, 0.5, device)
    assert images.shape == (2, 1, 28, 28) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.05


def test_the_sheet_shows_each_digit_in_its_place_dark_on_white(tmp_path):
    images = np.zeros((3, 1, 28, 28), np.float32)
    images[2] = 1
    save_sheet(tmp_path / "sheet.png", images, columns=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 92 + 8, 2 * 92 + 8)
    first, second, third, nothing = sheet[50, 50], sheet[50, 142], sheet[142, 50], sheet[142, 142]
    assert first == second == 255 and third == 0 and nothing == sheet[0, 0] == 225


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--label", 10), "--label 10: it must be at least 0 and at most 9"),
        (("--label", -1), "--label -1: it must be"),
        (("--n", 0), "--n 0: it must be at least 1"),
        (("--n", 1001), "--n 1001: it must be at least 1 and at most 1000"),
        (("--steps", 0), "--steps 0: it must be"),
        (("--steps", 1001), "--steps 1001: it must be"),
        (("--guidance", "nan"), "--guidance nan: it must be"),
        (("--guidance", -0.5), "--guidance -0.5: it must be"),
        (("--seed", -1), "--seed -1: it must be"),
        (("--device", "moon"), "moon"),
        (("--out", "seven.jpg"), "--out seven.jpg: the picture is a PNG"),
        (("--out", "a.txt/seven.png"), "a.txt is a file, not a folder"),
    ],
)
def test_a_wrong_option_is_answered_in_one_sentence(arguments, words, untrained):
    Path("a.txt").write_text("")
    assert words in refused(*arguments)


def test_without_weights_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDERS", (tmp_path,))
    monkeypatch.chdir(tmp_path)
    assert "there are no weights called '17_diffusion_digits'" in refused()


def test_without_pillow_it_says_how_to_install_it(untrained, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "this needs Pillow, which is not installed: pip install Pillow" in refused()


def test_wrong_arguments_of_save_sheet_are_named_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = {"path": "a.png", "images": np.zeros((3, 1, 28, 28), np.float32), "columns": 2}
    assert not riddles(save_sheet, good, "save_sheet")


def test_neither_command_imports_matplotlib():
    code = (
        "import sys, tinycv.diffusion.sample, tinycv.vision.classify; "
        "print([m for m in ('matplotlib', 'sklearn', 'scipy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.statistical
def test_the_weights_that_ship_draw_digits_that_the_classifier_reads_as_their_label():
    model = pretrained.read("17_diffusion_digits").build("unet", UNet)
    reader = pretrained.read("06_vit").build("vit", ViT)
    labels = np.arange(20) % 10
    tinycv.manual_seed(SEED)
    found = probabilities(reader, digits(model, labels, steps=10)).argmax(axis=1)
    assert (found == labels).sum() >= 15, found  # without the label, two would be right by chance
