"""What is on this photo?     python -m tinycv.vision.classify photo.jpg --weights model.safetensors

A ViT that somebody trained (weights.py says in which files) looks at a photo, and the five
likeliest classes are printed:

    softmax(scores)_k,   scores = ViT((pixel - mean) / std)

The photo is brought to the square that the weights were trained on as their library does it: timm
and torchvision scale its shorter side and cut out the middle, Hugging Face squeezes it.  The names
of the classes are those noted in the file, in config.json beside it, or in a list: --labels
names.txt, a line a class.

Read before: vit.py, weights.py; data/photos.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data import inputs as given
from tinycv.data.photos import FILTERS, open_photo, square
from tinycv.engine import backend
from tinycv.engine.arguments import shown
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.vision import inputs
from tinycv.vision.recipe import scores_of
from tinycv.vision.weights import HABITS, load_vit


def classify(
    model: Module, image: np.ndarray, top: int = 5, device: str = "cpu"
) -> list[tuple[int, float]]:
    """The ``top`` likeliest classes of one image (C, H, W), likeliest first: (number,
    probability)."""
    inputs.model(model, "classify: model")
    image = given.array(image, "classify: image", "an image (C, H, W) of floats", "f", ndim=3)
    top, device = given.whole(top, "classify: top", 1), given.text(device, "classify: device")
    with no_grad():
        chances = softmax(scores_of(model, Tensor(image[None], device=device), "classify")).numpy()[
            0
        ]
    if np.isnan(chances).any():
        raise ValueError(
            "classify: the model's scores of this image are NaN or inf, so no class is likelier "
            "than another"
        )
    return [(int(i), float(chances[i])) for i in np.argsort(-chances)[:top]]


def prepared(path: str | Path, size: int, channels: int, about: Mapping[str, Any]) -> np.ndarray:
    """The photo as a model reads it: (channels, size, size) float32. about: crop, resample, mean,
    std."""
    size = given.whole(size, "prepared: size", 1)
    channels = given.whole(channels, "prepared: channels", 1)
    lacking = [
        name
        for name in ("crop", "resample", "mean", "std")
        if not isinstance(about, Mapping) or name not in about
    ]
    if lacking:
        raise TypeError(
            f"prepared: about is {shown(about)}; it must be a dictionary that has "
            f"{', '.join(lacking)}"
        )
    mean, std = (
        given.array(about[name], f"prepared: {name}", "numbers, one per channel").astype(np.float32)
        for name in ("mean", "std")
    )
    if mean.shape != (channels,) or std.shape != (channels,) or not (std > 0).all():
        raise ValueError(
            f"prepared: mean {about['mean']} and std {about['std']} must be {channels} numbers "
            "each, one per channel, std above 0: give --mean and --std"
        )
    image = square(open_photo(path, channels), size, about["crop"], about["resample"])
    return (image - mean[:, None, None]) / std[:, None, None]


def read_labels(path: str | Path, classes: int) -> list[str]:
    """The lines of a text file, one per class."""
    path = given.file(path, "read_labels: path")
    classes = given.whole(classes, "read_labels: classes", 1)
    try:
        labels = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"read_labels: {path}: not a text in UTF-8: {error.reason}") from error
    if len(labels) != classes:
        raise ValueError(
            f"read_labels: {path}: {len(labels)} lines; the model knows {classes} classes, and "
            "each needs one"
        )
    return labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, look, print. What cannot be done is said in one line, and the exit
    status is 1."""
    options = parser().parse_args(arguments)
    try:
        lines = report(options)
    except (ValueError, OSError, ModuleNotFoundError, backend.GpuUnavailable) as error:
        sys.exit(f"classify: {error}")
    # a console may lack a label's letters
    encoding = sys.stdout.encoding or "ascii"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding))


def report(options: argparse.Namespace) -> list[str]:
    """What is printed: a line about the model, then a line a class."""
    if options.top < 1:
        raise ValueError(f"--top {options.top}: at least 1 class is printed")
    device = backend.resolve(options.device)
    model, about = load_vit(options.weights, options.heads, options.image_size)
    given = {name: getattr(options, name) for name in ("mean", "std", "crop", "resample")}
    about |= {name: value for name, value in given.items() if value is not None}
    classes, width = model.head.weight.shape
    labels = read_labels(options.labels, classes) if options.labels else about["labels"]
    image = prepared(options.photo, model.image_size, model.channels, about)
    found = classify(model.to(device), image, options.top, device)
    names = [labels[i] if labels else f"class {i}" for i, _ in found]
    return [
        f"{options.weights}: a ViT in {about['layout']}'s layout, {len(model.blocks)} blocks of "
        f"width {width}, {about['heads']} heads ({about['heads_from']}), {model.image_size} x "
        f"{model.image_size} pixels",
        *(f"{100 * chance:5.1f} %  {name}" for name, (_, chance) in zip(names, found, strict=True)),
    ]


def parser() -> argparse.ArgumentParser:
    """The options of the command, with the habits of each layout in their help."""
    habits = "; ".join(f"{layout}: {{}}" for layout in HABITS)
    asks = argparse.ArgumentParser(
        prog="python -m tinycv.vision.classify", description="What is on this photo?"
    )
    asks.add_argument("photo", help="an image that Pillow reads")
    asks.add_argument(
        "--weights", required=True, help=f"safetensors or .pt, in the layout of {', '.join(HABITS)}"
    )
    asks.add_argument(
        "--labels", help="a text file, a line a class (else those noted with the weights)"
    )
    asks.add_argument("--top", type=int, default=5, help="how many classes to print")
    asks.add_argument("--heads", type=int, help="attention heads, where the file does not say")
    asks.add_argument("--image-size", type=int, help="side in pixels, where not that of training")
    for name, words in (
        ("mean", "of each channel"),
        ("std", "of each channel"),
        ("crop", "part of the shorter side that is looked at, 0: the photo squeezed"),
    ):
        told = habits.format(*(getattr(habit, name) for habit in HABITS.values()))
        asks.add_argument(
            f"--{name}", type=float, nargs=None if name == "crop" else "+", help=f"{words} ({told})"
        )
    asks.add_argument(
        "--resample", choices=FILTERS, help="how pixels are mixed when the photo is scaled"
    )
    asks.add_argument("--device", default="cpu", help="cpu, gpu or auto")
    return asks


if __name__ == "__main__":
    main()
