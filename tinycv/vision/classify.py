"""Image classification from the command line: which digit somebody drew, or the most likely classes
of a photo, according to a pretrained ViT.

    python -m tinycv.vision.classify seven.png
    python -m tinycv.vision.classify photo.jpg --weights model.safetensors

The first command reads one handwritten digit with the ViT of demos/06_vit.py, whose weights come
with tinycv. The picture may have any size, dark ink on light paper or light ink on dark:
data/drawn_digit.py makes an image like those of MNIST of it, and ``--show seen.png`` saves what the
model sees. The ViT was trained on digits only, so it reads every
scribble as some digit.

The second command prints the five most likely classes and their probabilities,

    softmax(scores)_k,   scores = ViT((pixel - mean) / std)

weights.py says which weight files can be read.  The photo is made square in the way of the library
that trained the weights: timm and torchvision scale the shorter side and cut out the middle,
Hugging Face squeezes the photo.  The names of the classes come from the weight file, from a
config.json in the same folder, or from a text file with one line per class: --labels names.txt.

Read first: vit.py, weights.py; data/photos.py, data/drawn_digit.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data import inputs as data_inputs
from tinycv.data.drawn_digit import drawn_digit, save_enlarged
from tinycv.data.photos import FILTERS, open_photo, square
from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.training import pretrained
from tinycv.vision import inputs
from tinycv.vision.recipe import scores_of
from tinycv.vision.vit import ViT
from tinycv.vision.weights import LIBRARY_DEFAULTS, load_vit

# options that describe a weight file, and have no use without one
OF_WEIGHTS = ("labels", "heads", "image_size", "mean", "std", "crop", "resample")


def classify(
    model: Module, image: np.ndarray, top: int = 5, device: str = "cpu"
) -> list[tuple[int, float]]:
    """The ``top`` most likely classes of one image (C, H, W), as (number, probability), the most
    likely first."""
    inputs.model(model, "classify: model")
    image = data_inputs.array(image, "classify: image", "an image (C, H, W) of floats", "f", ndim=3)
    top, device = (
        data_inputs.whole(top, "classify: top", 1),
        data_inputs.text(device, "classify: device"),
    )
    with no_grad():
        scores = scores_of(model, Tensor(image[None], device=device), "classify")  # (1, K)
        probabilities = softmax(scores).numpy()[0]
    if np.isnan(probabilities).any():
        raise ValueError(
            "classify: the scores of the model for this image are NaN or inf, so there is no most "
            "likely class"
        )
    return [(int(i), float(probabilities[i])) for i in np.argsort(-probabilities)[:top]]


def prepared(path: str | Path, size: int, channels: int, about: Mapping[str, Any]) -> np.ndarray:
    """The photo as the input of a model: float32 (channels, size, size). about: a dict with crop,
    resample, mean and std."""
    size = data_inputs.whole(size, "prepared: size", 1)
    channels = data_inputs.whole(channels, "prepared: channels", 1)
    missing = [
        name
        for name in ("crop", "resample", "mean", "std")
        if not isinstance(about, Mapping) or name not in about
    ]
    if missing:
        raise TypeError(
            f"prepared: about is {shown(about)}; it must be a dictionary that has "
            f"{', '.join(missing)}"
        )
    mean, std = (
        data_inputs.array(about[name], f"prepared: {name}", "numbers, one per channel").astype(
            np.float32
        )
        for name in ("mean", "std")
    )
    if mean.shape != (channels,) or std.shape != (channels,) or not (std > 0).all():
        raise ValueError(
            f"prepared: mean {about['mean']} and std {about['std']} must be {channels} numbers "
            "each, one per channel, std above 0: pass --mean and --std"
        )
    image = square(open_photo(path, channels), size, about["crop"], about["resample"])
    return (image - mean[:, None, None]) / std[:, None, None]


def read_labels(path: str | Path, classes: int) -> list[str]:
    """The lines of a text file, one per class."""
    path = data_inputs.file(path, "read_labels: path")
    classes = data_inputs.whole(classes, "read_labels: classes", 1)
    try:
        labels = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"read_labels: {path}: not a text in UTF-8: {error.reason}") from error
    if len(labels) != classes:
        raise ValueError(
            f"read_labels: {path}: {len(labels)} lines; the model has {classes} classes, and "
            "needs one line per class"
        )
    return labels


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: read the options, classify, print. An error is printed in one line, with exit
    status 1."""
    options = parser().parse_args(arguments)
    try:
        lines = report(options)
    except (ValueError, OSError, ModuleNotFoundError, backend.GpuUnavailable) as error:
        sys.exit(f"classify: {error}")
    # A console may not be able to show all letters of a label; they are replaced.
    encoding = sys.stdout.encoding or "ascii"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding))


def report(options: argparse.Namespace) -> list[str]:
    """The lines to print: one about the model, then one per class."""
    if options.top is not None and options.top < 1:
        raise ValueError(f"--top {options.top}: it must be at least 1")
    return digit_report(options) if options.weights is None else photo_report(options)


def digit_report(options: argparse.Namespace) -> list[str]:
    """The lines about a handwritten digit."""
    useless = [name for name in OF_WEIGHTS if getattr(options, name) is not None]
    if useless:
        flag = useless[0].replace("_", "-")
        raise ValueError(f"--{flag} describes a weight file of yours: pass --weights FILE too")
    device = backend.resolve(options.device)
    if options.show is not None:
        refuse_show(Path(options.show), Path(options.photo))
    image = drawn_digit(options.photo)  # (1, 28, 28)
    if options.show is not None:
        save_enlarged(options.show, image)
    weights = pretrained.read("06_vit")
    model = weights.build("vit", ViT).to(device)
    answers = classify(model, image, options.top or 3, device)
    digit, probability = answers[0]
    accuracy = 100 * weights.value("accuracy on 1,000 unseen digits")
    doubt = "" if probability >= 0.5 else ", but the model is not sure"
    lines = [
        f"{options.photo}: {digit}{doubt} (the ViT of demos/06_vit.py reads {accuracy:.1f} % of "
        "unseen MNIST digits right)"
    ]
    return lines + [f"{100 * probability:5.1f} %  {digit}" for digit, probability in answers]


def refuse_show(show: Path, photo: Path) -> None:
    """ValueError if --show names no PNG, or the photo itself, which would be lost."""
    if show.exists() and photo.exists() and show.samefile(photo):
        raise ValueError(f"--show {show}: this is your picture; choose another name")
    if show.suffix.lower() != ".png" and not show.is_dir():
        raise ValueError(f"--show {show}: it writes a PNG, so the name must end in .png")


def photo_report(options: argparse.Namespace) -> list[str]:
    """The lines about a photo, for a model in a weight file."""
    if options.show is not None:
        raise ValueError("--show shows a digit as the model sees it: leave --weights out")
    device = backend.resolve(options.device)
    model, about = load_vit(options.weights, options.heads, options.image_size)
    for name in ("mean", "std", "crop", "resample"):
        value = getattr(options, name)
        if value is not None:
            about[name] = value
    classes, width = model.head.weight.shape
    labels = read_labels(options.labels, classes) if options.labels else about["labels"]
    image = prepared(options.photo, model.image_size, model.channels, about)
    lines = [
        f"{options.weights}: a ViT in the layout of {about['layout']}, {len(model.blocks)} blocks "
        f"of width {width}, {about['heads']} heads ({about['heads_from']}), {model.image_size} x "
        f"{model.image_size} pixels"
    ]
    for number, probability in classify(model.to(device), image, options.top or 5, device):
        name = labels[number] if labels else f"class {number}"
        lines.append(f"{100 * probability:5.1f} %  {name}")
    return lines


def parser() -> argparse.ArgumentParser:
    """The options of the command. Their help shows the defaults of each layout."""
    options = argparse.ArgumentParser(
        prog="python -m tinycv.vision.classify",
        description="Print which digit was drawn; with --weights, the likely classes of a photo.",
    )
    options.add_argument("photo", help="an image that Pillow can read")
    options.add_argument(
        "--weights",
        help=f"safetensors or .pt, in the layout of {', '.join(LIBRARY_DEFAULTS)} (default: the "
        "digits that come with tinycv)",
    )
    options.add_argument("--show", help="a PNG to be written: the digit as the model sees it")
    options.add_argument(
        "--labels", help="a text file with one line per class (default: the labels in the weights)"
    )
    options.add_argument(
        "--top", type=int, help="how many classes to print (default: 3 digits, 5 of --weights)"
    )
    options.add_argument("--heads", type=int, help="attention heads, if the file does not say")
    options.add_argument("--image-size", type=int, help="side in pixels, if not as in training")
    for name, words in (
        ("mean", "of each channel"),
        ("std", "of each channel"),
        ("crop", "part of the shorter side that is used; 0 squeezes the whole photo"),
    ):
        defaults = "; ".join(
            f"{layout}: {getattr(values, name)}" for layout, values in LIBRARY_DEFAULTS.items()
        )
        options.add_argument(
            f"--{name}",
            type=float,
            nargs=None if name == "crop" else "+",
            help=f"{words} ({defaults})",
        )
    options.add_argument(
        "--resample", choices=FILTERS, help="how pixels are mixed when the photo is scaled"
    )
    options.add_argument("--device", default="cpu", help="cpu, gpu or auto")
    return options


if __name__ == "__main__":
    main()
