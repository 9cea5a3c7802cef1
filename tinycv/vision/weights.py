"""A ViT that somebody else trained: its weights in, by the names of timm, torchvision or Hugging
Face, and ours out.

    model, about = load_vit("model.safetensors")      # or .pt; the file says how large the model is
    save_vit("mine.safetensors", model, "torchvision")      # PyTorch loads it by name, strict=True

A file of weights does not say everything.  How many heads share the width leaves no trace in any
shape: see HEADS. Nor does the ε of the norms, nor what was done to the pixels: those are the
library's habits (HABITS), where neither our own note in the file nor a config.json beside it says
otherwise.

Read before: layouts.py, what others call the parts; training/checkpoint.py, which kinds of file are
read, and why safely.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from tinycv.data import inputs as given
from tinycv.data.atomic import file_path
from tinycv.engine.arguments import choice, listed, size
from tinycv.training.checkpoint import CheckpointError, load, save, with_nan
from tinycv.training.safetensors_header import too_many_values
from tinycv.training.torch_pickle import short
from tinycv.vision import inputs
from tinycv.vision.layouts import (
    LAYOUTS,
    OLDER,
    amount,
    depth_of,
    layout_of,
    rows,
    to_ours,
    to_theirs,
)
from tinycv.vision.resize import resized
from tinycv.vision.vit import ViT

# mean and spread of ImageNet's red, green and blue
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# bytes; one with the 21,843 labels of ImageNet-21k has 2 million
LONGEST_CONFIG = 8_000_000
HEADS = "the rule of timm and torchvision: width / 64, but at most 16"


@dataclass(frozen=True)
class Habits:
    """What a library does where its file says nothing. crop, resample: how a photo becomes a
    square, see data/photos.py;
    mean, std: of each channel, by which (pixel - mean) / std is what the model reads."""

    layer_norm_eps: float
    crop: float
    resample: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)


# the "augreg" weights; DeiT's have IMAGENET's mean and std
HABITS = {
    "timm": Habits(1e-6, 0.9, "bicubic"),
    "torchvision": Habits(1e-6, 224 / 256, "bilinear", *IMAGENET),
    "huggingface": Habits(1e-12, 0, "bilinear"),
}  # the whole photo, squeezed


def load_vit(
    path: str | os.PathLike, heads: int | None = None, image_size: int | None = None
) -> tuple[ViT, dict[str, Any]]:
    """(the model in eval mode, what is known about it) from a file in any of LAYOUTS.

    heads: see HEADS; a Hugging Face file needs it, or its config.json beside it. image_size:
    another side in pixels than the weights were trained for; positions are then resized.  What is
    known: layout, heads, heads_from (who said so), labels (a list of names, or None), the library's
    Habits, and what else ``save_vit`` was told. CheckpointError lists what is missing, unexpected,
    misshaped, of integers or NaN.
    """
    path = given.path(path, "load_vit: path")
    heads = None if heads is None else size(heads, "load_vit: heads")
    image_size = (
        None if image_size is None else given.whole(image_size, "load_vit: image_size", 0, 2**14)
    )
    layout, tensors, note = _read(path)
    depth = depth_of(layout, tensors)
    sizes = measured(path, layout, depth, tensors)
    config = config_beside(path) if layout == "huggingface" else {}
    about = known(path, layout, config | note, sizes)
    sources = {
        "the argument": heads,
        "a note in the file": note.get("heads"),
        "config.json": config.get("heads"),
    }
    about |= heads_of(path, layout, sources, sizes["D"])
    ours = to_ours(layout, depth, tensors)
    side, patch = isqrt(sizes["N"] - 1), sizes["P"]
    if image_size is not None:
        side = patches_across(image_size, patch)
        ours["pos_embed"] = resized(ours["pos_embed"], side)
    model = ViT(
        side * patch,
        patch,
        sizes["K"],
        sizes["C"],
        sizes["D"],
        depth,
        about["heads"],
        sizes["M"],
        layer_norm_eps=about["layer_norm_eps"],
    )
    model.load_state_dict(ours)
    model.eval()
    return model, about


def _read(path: Path) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """(whose layout, the tensors by that library's newest names, our own note in the file)."""
    tensors, note = load(path)
    layout = layout_of(tensors)
    if layout is None:
        raise CheckpointError(
            f"{path}: no ViT in a layout of {', '.join(LAYOUTS)}; it holds "
            f"{listed(sorted(tensors))} (a file of save_model goes into a model that you build, by "
            "load_model)"
        )
    for old, new in OLDER.items():
        tensors = {name.replace(old, new): a for name, a in tensors.items()}
    return layout, tensors, note


def patches_across(image_size: int, patch: int) -> int:
    """How many patches lie on a side of an image; ValueError where they do not fill it."""
    if image_size < patch or image_size % patch:
        raise ValueError(
            f"load_vit: image_size {image_size} does not divide into this model's patches of "
            f"{patch} x {patch}"
        )
    return image_size // patch


def save_vit(path: str | os.PathLike, model: ViT, layout: str = "timm", **about: Any) -> None:
    """Write the weights under a library's names, as safetensors. about: labels, mean, std, ...:
    load_vit gives it back.

    That library norms with its own ε: a model with another ε gives slightly other scores there, and
    the same here. ValueError for a weight that is NaN, which ``load_vit`` would refuse.
    """
    path, model = file_path(path, "save_vit: path"), inputs.model(model, "save_vit: model", ViT)
    choice(layout, "save_vit: layout", LAYOUTS)
    if model.pool != "cls":
        raise ValueError(f"save_vit: pool {model.pool!r}: all layouts read the class off CLS")
    if model.has_stem:
        raise ValueError(
            f"save_vit: the model has a convolutional stem, and no layout of {', '.join(LAYOUTS)} "
            "has names for one; tinycv.training.checkpoint.save_model writes it under our names"
        )
    width, count = model.pos_embed.shape[2], model.pos_embed.shape[1]
    sizes = {
        "D": width,
        "N": count,
        "C": model.channels,
        "P": model.patch_size,
        "K": model.head.weight.shape[0],
        "M": model.blocks[0].linear1.weight.shape[0],
    }
    ours = {name: t.numpy() for name, t in model.state_dict().items()}
    if nans := with_nan(ours):
        raise ValueError(f"save_vit: the model was not saved; NaN in: {listed(nans)}")
    note = {
        "layout": layout,
        "heads": model.blocks[0].self_attn.num_heads,
        "layer_norm_eps": model.norm.eps,
        **about,
    }
    save(path, to_theirs(layout, len(model.blocks), ours, sizes), note)


# ── what the file says ────────────────────────────────────────────────────────────────────────────


def measured(
    path: Path, layout: str, depth: int, tensors: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """What each letter of the table stands for, by the first tensor that shows it; all others must
    agree."""
    sizes: dict[str, int] = {}
    missing: list[str] = []
    misshaped: list[str] = []
    expected: set[str] = set()
    for _, letters, names in rows(layout, depth):
        for name in names:
            expected.add(name)
            if name not in tensors:
                missing.append(name)
                continue
            shape = tensors[name].shape
            learn_sizes(sizes, letters, shape)
            wanted = wanted_shape(letters, sizes, len(names))
            if shape != wanted:
                misshaped.append(
                    f"{short(name)} is {shape}, should be ({', '.join(map(str, wanted))})"
                )
    problems = {
        "missing": missing,
        "unexpected": [short(name) for name in tensors if name not in expected],
        "of another shape": misshaped,
        "not of real numbers": [
            f"{short(name)} ({a.dtype})" for name, a in tensors.items() if a.dtype.kind != "f"
        ],
    }
    _raise_problems(path, layout, problems)
    count = ", ".join(f"{letter} = {n}" for letter, n in sizes.items())
    problems = {
        "NaN": with_nan(tensors),
        "not a square of patches": [] if is_square_of_patches(sizes) else [count],
    }
    _raise_problems(path, layout, problems)
    return sizes


def _raise_problems(path: Path, layout: str, problems: Mapping[str, Sequence[str]]) -> None:
    """CheckpointError with every list of names that is not empty."""
    said = [f"{what}: {listed(names)}" for what, names in problems.items() if names]
    if said:
        raise CheckpointError(f"{path}: no whole ViT in {layout}'s layout; " + "; ".join(said))


def learn_sizes(sizes: dict[str, int], letters: Sequence[str], shape: Sequence[int]) -> None:
    """Add to ``sizes`` what a tensor of this shape says about letters that are not known yet."""
    if len(shape) != len(letters):
        return
    lengths = dict(zip(letters, shape, strict=True))
    sizes.update({x: n for x, n in lengths.items() if x.isalpha() and x not in sizes})


def wanted_shape(
    letters: Sequence[str], sizes: Mapping[str, int], parts: int
) -> tuple[int | str, ...]:
    """The shape of one of ``parts`` tensors that lie one under the other in ours; "?" where it is
    not known."""
    first, *others = (amount(text, sizes) for text in letters)
    return first // parts if isinstance(first, int) else first, *others


def is_square_of_patches(sizes: Mapping[str, int]) -> bool:
    """Is N the number of patches in a square, and one more for CLS?"""
    count = sizes["N"] - 1
    return min(sizes.values()) >= 1 and count >= 1 and isqrt(count) ** 2 == count


def config_beside(path: Path) -> dict[str, Any]:
    """What Hugging Face's config.json says, in our words."""
    file = path.parent / "config.json"
    if not file.exists():
        return {}
    try:
        text = _modest_text(file)
        config = json.loads(text)
        said = {
            "heads": config["num_attention_heads"],
            "layer_norm_eps": config.get("layer_norm_eps", 1e-12),
        }
        names = config.get("id2label", {})
        if names:
            said["labels"] = [names[str(i)] for i in range(len(names))]
        activation = config.get("hidden_act", "gelu")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: not the config.json of a ViT: {type(error).__name__}: {short(error)}; move "
            "it away and give heads="
        ) from error
    if activation != "gelu":
        raise CheckpointError(f"{file}: the MLP's activation is {activation!r}; this ViT has gelu")
    return said


def _modest_text(file: Path) -> str:
    """A JSON file's text; ValueError for one that would be dear to read, or is waited for (a
    pipe)."""
    if not file.is_file():
        raise ValueError("it is not an ordinary file")
    if file.stat().st_size > LONGEST_CONFIG:
        raise ValueError(f"it has {file.stat().st_size} bytes, and {LONGEST_CONFIG} are the most")
    text = file.read_text(encoding="utf-8")
    if too_many_values(text):
        raise ValueError(f"its {len(text)} letters have more values than a config needs")
    return text


def heads_of(path: Path, layout: str, sources: Mapping[str, Any], width: int) -> dict[str, Any]:
    """{"heads", "heads_from"}: the first source that says a number, else the rule."""
    source = next((source for source, said in sources.items() if said is not None), HEADS)
    heads = sources.get(source, min(width // 64, 16))
    if source == HEADS and (layout == "huggingface" or width % 64):
        raise CheckpointError(
            f"{path}: nothing says how many heads share the width of {width}: give heads= "
            "(--heads), or put the model's config.json beside the file"
        )
    if type(heads) is not int or heads < 1 or width % heads:
        raise CheckpointError(
            f"{path}: {heads!r} heads (from {source}) cannot share a width of {width} equally"
        )
    return {"heads": heads, "heads_from": source}


def known(
    path: Path, layout: str, told: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The library's habits, and above them what the file or its config says of this model."""
    habits = HABITS[layout]
    about = {**vars(habits), "labels": None, **told, "layout": layout}
    eps, labels = about["layer_norm_eps"], about["labels"]
    if type(eps) is not float or not 0 < eps < 1:
        raise CheckpointError(
            f"{path}: its layer_norm_eps is {short(eps)}, no small number above 0"
        )
    if labels is not None and not (
        isinstance(labels, list)
        and len(labels) == sizes["K"]
        and all(isinstance(label, str) for label in labels)
    ):
        raise CheckpointError(f"{path}: its labels are no list of {sizes['K']} words, one a class")
    crop, mean, std = about["crop"], about["mean"], about["std"]
    lists = isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple))
    if not lists or not all(type(n) in (int, float) for n in (crop, *mean, *std)):
        raise CheckpointError(
            f"{path}: its crop, mean, std are {short([crop, mean, std])}: a number, and two lists "
            "of numbers"
        )
    return about
