"""Pretrained ViT weights: load files of timm, torchvision or Hugging Face, and save models so that
these libraries can load them.

    model, about = load_vit("model.safetensors")      # or .pt; the file says how large the model is
    save_vit("mine.safetensors", model, "torchvision")      # PyTorch loads it by name, strict=True

A weight file does not contain everything.  The number of heads cannot be seen in any shape: see
HEADS.  The ε of the norms and the normalisation of the pixels are missing too.  They come from a
note that tinycv writes into its files, from a config.json next to the file, or else from the
defaults of the library (LIBRARY_DEFAULTS).

Read first: layouts.py, for the names; training/checkpoint.py, for the kinds of files and why
reading them is safe.
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

from tinycv.data import inputs as data_inputs
from tinycv.data.atomic import file_path
from tinycv.engine.arguments import choice, listed, size
from tinycv.training.checkpoint import CheckpointError, load, save, with_nan
from tinycv.training.safetensors_header import too_many_values
from tinycv.training.torch_pickle import short
from tinycv.vision import inputs
from tinycv.vision.layouts import (
    LAYOUTS,
    OLD_NAMES,
    amount,
    depth_of,
    layout_of,
    rows,
    to_library,
    to_tinycv,
)
from tinycv.vision.resize import resized
from tinycv.vision.vit import ViT

# Mean and standard deviation of red, green and blue in ImageNet.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# In bytes. A config with the 21,843 labels of ImageNet-21k has 2 million.
LONGEST_CONFIG = 8_000_000
HEADS = "the rule of timm and torchvision: width / 64, but at most 16"


@dataclass(frozen=True)
class LibraryDefaults:
    """The defaults of a library, for what its files do not contain. crop, resample: how a photo is
    made square, see data/photos.py. mean, std: one number per channel; the model reads (pixel -
    mean) / std."""

    layer_norm_eps: float
    crop: float
    resample: str
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)


LIBRARY_DEFAULTS = {
    # For the "augreg" weights of timm. The DeiT weights use the mean and std of IMAGENET.
    "timm": LibraryDefaults(1e-6, 0.9, "bicubic"),
    "torchvision": LibraryDefaults(1e-6, 224 / 256, "bilinear", *IMAGENET),
    # crop 0: the whole photo is squeezed into a square.
    "huggingface": LibraryDefaults(1e-12, 0, "bilinear"),
}


def load_vit(
    path: str | os.PathLike, heads: int | None = None, image_size: int | None = None
) -> tuple[ViT, dict[str, Any]]:
    """Load a ViT from a file in any of LAYOUTS. Returns (model in eval mode, about).

    heads: see HEADS; a Hugging Face file needs this argument, or its config.json in the same
    folder. image_size: a side in pixels other than the one the weights were trained for; the
    positions are then resized.
    about: a dict with layout, heads, heads_from (the source of that number), labels (a list of
    names, or None), the fields of LibraryDefaults, and whatever else was passed to ``save_vit``.
    The CheckpointError for a wrong file lists tensors that are missing, unexpected, of a wrong
    shape, not floats, or NaN.
    """
    path = data_inputs.path(path, "load_vit: path")
    heads = None if heads is None else size(heads, "load_vit: heads")
    image_size = (
        None
        if image_size is None
        else data_inputs.whole(image_size, "load_vit: image_size", 0, 2**14)
    )
    layout, tensors, note = _read(path)
    depth = depth_of(layout, tensors)
    sizes = sizes_of(path, layout, depth, tensors)
    config = config_beside(path) if layout == "huggingface" else {}
    about = model_info(path, layout, config | note, sizes)
    sources = {
        "the argument": heads,
        "a note in the file": note.get("heads"),
        "config.json": config.get("heads"),
    }
    about |= heads_of(path, layout, sources, sizes["D"])
    weights = to_tinycv(layout, depth, tensors)
    side, patch = isqrt(sizes["N"] - 1), sizes["P"]
    if image_size is not None:
        side = patches_across(image_size, patch)
        weights["pos_embed"] = resized(weights["pos_embed"], side)
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
    model.load_state_dict(weights)
    model.eval()
    return model, about


def _read(path: Path) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """(the layout, the tensors by the newest names of that library, the note that tinycv left in
    the file)."""
    tensors, note = load(path)
    layout = layout_of(tensors)
    if layout is None:
        raise CheckpointError(
            f"{path}: no ViT in a layout of {', '.join(LAYOUTS)}; it holds "
            f"{listed(sorted(tensors))} (to read a file of save_model, build the model yourself "
            "and call load_model)"
        )
    for old, new in OLD_NAMES.items():
        tensors = {name.replace(old, new): a for name, a in tensors.items()}
    return layout, tensors, note


def patches_across(image_size: int, patch: int) -> int:
    """The number of patches along one side of an image. Raises ValueError if they do not fill
    it."""
    if image_size < patch or image_size % patch:
        raise ValueError(
            f"load_vit: image_size {image_size} does not divide into patches of {patch} x {patch}, "
            "which this model has"
        )
    return image_size // patch


def save_vit(path: str | os.PathLike, model: ViT, layout: str = "timm", **about: Any) -> None:
    """Write the weights under the names of a library, as safetensors. about: labels, mean, std,
    ..., which load_vit returns again.

    The library uses its own ε in the norms, so a model with another ε gives slightly different
    scores there; load_vit restores the ε. A NaN weight raises ValueError, because ``load_vit``
    would refuse it.
    """
    path, model = file_path(path, "save_vit: path"), inputs.model(model, "save_vit: model", ViT)
    choice(layout, "save_vit: layout", LAYOUTS)
    if model.pool != "cls":
        raise ValueError(f"save_vit: pool {model.pool!r}: all layouts read the class from CLS")
    if model.has_stem:
        raise ValueError(
            f"save_vit: the model has a convolutional stem, and no layout of {', '.join(LAYOUTS)} "
            "has names for one; save it with tinycv.training.checkpoint.save_model"
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
    weights = {name: t.numpy() for name, t in model.state_dict().items()}
    nans = with_nan(weights)
    if nans:
        raise ValueError(f"save_vit: the model was not saved; NaN in: {listed(nans)}")
    note = {
        "layout": layout,
        "heads": model.blocks[0].self_attn.num_heads,
        "layer_norm_eps": model.norm.eps,
        **about,
    }
    save(path, to_library(layout, len(model.blocks), weights, sizes), note)


# ── what the file says ────────────────────────────────────────────────────────────────────────────


def sizes_of(
    path: Path, layout: str, depth: int, tensors: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """The number that each letter of the table means, taken from the first tensor that shows it.
    All other tensors must agree with it."""
    sizes: dict[str, int] = {}
    missing: list[str] = []
    misshaped: list[str] = []
    known_names: set[str] = set()
    for _, letters, names in rows(layout, depth):
        for name in names:
            known_names.add(name)
            if name not in tensors:
                missing.append(name)
                continue
            shape = tensors[name].shape
            learn_sizes(sizes, letters, shape)
            expected = expected_shape(letters, sizes, len(names))
            if shape != expected:
                misshaped.append(
                    f"{short(name)} is {shape}, should be ({', '.join(map(str, expected))})"
                )
    problems = {
        "missing": missing,
        "unexpected": [short(name) for name in tensors if name not in known_names],
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
    """Raises CheckpointError with every list of names that is not empty."""
    complaints = [f"{what}: {listed(names)}" for what, names in problems.items() if names]
    if complaints:
        raise CheckpointError(
            f"{path}: no complete ViT in the layout of {layout}; " + "; ".join(complaints)
        )


def learn_sizes(sizes: dict[str, int], letters: Sequence[str], shape: Sequence[int]) -> None:
    """Add to ``sizes`` the letters of this shape that are not known yet."""
    if len(shape) != len(letters):
        return
    lengths = dict(zip(letters, shape, strict=True))
    sizes.update({x: n for x, n in lengths.items() if x.isalpha() and x not in sizes})


def expected_shape(
    letters: Sequence[str], sizes: Mapping[str, int], parts: int
) -> tuple[int | str, ...]:
    """The shape of one of ``parts`` tensors that are stacked along the first axis in tinycv; "?"
    for sizes that are not known."""
    first, *rest = (amount(text, sizes) for text in letters)
    return first // parts if isinstance(first, int) else first, *rest


def is_square_of_patches(sizes: Mapping[str, int]) -> bool:
    """Whether N is the number of patches in a square, plus one for CLS."""
    count = sizes["N"] - 1
    return min(sizes.values()) >= 1 and count >= 1 and isqrt(count) ** 2 == count


def config_beside(path: Path) -> dict[str, Any]:
    """The entries of Hugging Face's config.json in the folder of ``path``, under the names of
    tinycv; empty if there is no such file."""
    file = path.parent / "config.json"
    if not file.exists():
        return {}
    try:
        text = _read_small_text(file)
        config = json.loads(text)
        entries = {
            "heads": config["num_attention_heads"],
            "layer_norm_eps": config.get("layer_norm_eps", 1e-12),
        }
        names = config.get("id2label", {})
        if names:
            entries["labels"] = [names[str(i)] for i in range(len(names))]
        activation = config.get("hidden_act", "gelu")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: not the config.json of a ViT: {type(error).__name__}: {short(error)}; move "
            "it away and pass heads="
        ) from error
    if activation != "gelu":
        raise CheckpointError(
            f"{file}: the activation of the MLP is {activation!r}; this ViT has gelu"
        )
    return entries


def _read_small_text(file: Path) -> str:
    """The text of a JSON file. Raises ValueError for one that is expensive to parse, or that is
    not a file (reading a pipe would wait)."""
    if not file.is_file():
        raise ValueError("it is not an ordinary file")
    if file.stat().st_size > LONGEST_CONFIG:
        raise ValueError(f"it has {file.stat().st_size} bytes; the most is {LONGEST_CONFIG}")
    text = file.read_text(encoding="utf-8")
    if too_many_values(text):
        raise ValueError(f"its {len(text)} characters hold more values than a config needs")
    return text


def heads_of(path: Path, layout: str, sources: Mapping[str, Any], width: int) -> dict[str, Any]:
    """A dict with heads and heads_from: the number of heads from the first source that has one, or
    else from the rule HEADS."""
    source = next((source for source, heads in sources.items() if heads is not None), HEADS)
    heads = sources.get(source, min(width // 64, 16))
    if source == HEADS and (layout == "huggingface" or width % 64):
        raise CheckpointError(
            f"{path}: nothing says how many heads share the width of {width}: pass heads= "
            "(--heads), or put the config.json of the model into the same folder"
        )
    if type(heads) is not int or heads < 1 or width % heads:
        raise CheckpointError(
            f"{path}: {heads!r} heads (from {source}) cannot share a width of {width} equally"
        )
    return {"heads": heads, "heads_from": source}


def model_info(
    path: Path, layout: str, entries: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The defaults of the library, overridden by the entries of the file or its config."""
    defaults = LIBRARY_DEFAULTS[layout]
    about = {**vars(defaults), "labels": None, **entries, "layout": layout}
    eps, labels = about["layer_norm_eps"], about["labels"]
    if type(eps) is not float or not 0 < eps < 1:
        raise CheckpointError(
            f"{path}: its layer_norm_eps is {short(eps)}; it must be between 0 and 1"
        )
    if labels is not None and not (
        isinstance(labels, list)
        and len(labels) == sizes["K"]
        and all(isinstance(label, str) for label in labels)
    ):
        raise CheckpointError(
            f"{path}: its labels must be a list of {sizes['K']} words, one per class"
        )
    crop, mean, std = about["crop"], about["mean"], about["std"]
    lists = isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple))
    if not lists or not all(type(n) in (int, float) for n in (crop, *mean, *std)):
        raise CheckpointError(
            f"{path}: its crop, mean, std are {short([crop, mean, std])}; they must be a number "
            "and two lists of numbers"
        )
    return about
