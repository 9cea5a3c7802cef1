"""How Tensors and Modules look in a notebook (Jupyter): shape, statistics and a small picture of a
Tensor; a collapsible tree of a Module.

A notebook calls ``x._repr_html_()`` for the last value of a cell.  ``tinycv`` gives Tensor and
Module this method when it is imported (``register``), because the engine does not know this file.
Nothing is computed with the model, and of a large array, on a GPU above all, only a sample is read.
The colours of the text are those of the notebook, so it can be read in a light and a dark theme.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.tensor import LEAF, Parameter, Tensor
from tinycv.nn.module import Module

SAMPLE = 1_000_000  # values of a Tensor that are read for its statistics
MOST_VALUES = 64  # a larger Tensor does not show its values one by one
MOST_PICTURES, LONGEST_SIDE, SHOWN_SIDE = 8, 256, 120  # pictures in a row; pixels
# Colours of an attention map from 0 to its largest value: black, purple, orange, pale yellow
HEAT = np.array([(0, 0, 4), (120, 28, 109), (237, 105, 37), (252, 255, 164)], float)
MONO = "font-family:monospace"


def register() -> None:
    """Give Tensor and Module the method that a notebook calls."""
    # setattr, because the classes do not declare the method
    setattr(Tensor, "_repr_html_", tensor_html)  # noqa: B010
    setattr(Module, "_repr_html_", module_html)  # noqa: B010


def tensor_html(x: Tensor) -> str:
    """A Tensor: what it is, its statistics, and its values or a picture if they are small."""
    from html import escape

    lines = [f"<b>{type(x).__name__.lower()}</b> {escape(description(x))}"]
    lines.append(escape(statistics(x)))
    if 0 < x.size <= MOST_VALUES:
        values = np.array2string(backend.to_numpy(x._data), separator=", ", precision=4)
        lines.append(f'<pre style="margin:4px 0">{escape(values)}</pre>')
    images = pictures(x)
    if images:
        lines.append("".join(picture_html(image) for image in images))
    return f'<div style="{MONO};line-height:1.5">{"<br>".join(lines)}</div>'


def description(x: Tensor) -> str:
    """Shape, dtype, device and origin, as in "(2, 3) float32 on cpu, op mul"."""
    origin = ""
    if x._node is LEAF:
        origin = ", requires_grad"
    elif x._node is not None:
        origin = f", op {x._node.row.name}"
    return f"{x.shape} {x.dtype} on {x.device}{origin}"


def statistics(x: Tensor) -> str:
    """Smallest value, mean and largest value, and how many are NaN or infinite."""
    if not x.size:
        return "no values"
    sample = sampled(x._data, SAMPLE)
    of = "" if sample.size == x.size else f" (of {sample.size:,} of {x.size:,} values)"
    if sample.dtype.kind == "b":
        return f"{int(sample.sum()):,} True, {int((~sample).sum()):,} False{of}"
    finite = sample[np.isfinite(sample)]
    words = []
    if finite.size:
        low, high, mean = finite.min(), finite.max(), finite.mean(dtype=np.float64)
        words.append(f"min {low:.4g}, mean {mean:.4g}, max {high:.4g}")
    nans = int(np.isnan(sample).sum())
    infinite = sample.size - finite.size - nans
    words += [f"{count:,} {name}" for count, name in ((nans, "NaN"), (infinite, "Inf")) if count]
    return ", ".join(words) + of


def sampled(array: Any, most: int) -> np.ndarray:
    """At most about ``most`` values, evenly spaced along every axis, as a NumPy array. The slices
    are a view, so no more than these values is copied."""
    steps = [1] * array.ndim
    while array.ndim and np.prod([-(-n // s) for n, s in zip(array.shape, steps, strict=True)]) > (
        most
    ):
        longest = max(range(array.ndim), key=lambda i: array.shape[i] / steps[i])
        steps[longest] *= 2
    return backend.to_numpy(array[tuple(slice(None, None, step) for step in steps)])


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def pictures(x: Tensor) -> list[np.ndarray]:
    """The pictures of an attention map, an image or a batch of images, each (H, W, 3) uint8. Empty
    if x looks like none of these.

    An attention map has values of at least 0 that sum to 1 in each row; an image (..., C, H, W) has
    1 or 3 channels.
    """
    if x.ndim < 2 or not x.size or x.dtype.kind not in "fiub" or min(x.shape[-2:]) < 2:
        return []
    first = x._data
    while first.ndim > 4:
        first = first[0]
    if first.dtype.kind == "f":
        maps = attention_maps(first)
        if maps:
            return maps
    is_image = first.ndim >= 3 and first.shape[-3] in (1, 3) and min(first.shape[-2:]) >= 4
    if not is_image:
        return []
    batch = first if first.ndim == 4 else first[None]
    return [to_rgb(small(image)) for image in batch[:MOST_PICTURES]]


def attention_maps(array: Any) -> list[np.ndarray]:
    """The maps of the first example, (T, S) each, as pictures; empty if they are no attention."""
    while array.ndim > 3:
        array = array[0]
    maps = array[:MOST_PICTURES] if array.ndim == 3 else array[None]
    rows = maps[:, :LONGEST_SIDE]
    if rows.size > SAMPLE:  # the sum of a row needs all of it
        return []
    weights = backend.to_numpy(rows).astype(np.float64)
    sums = weights.sum(axis=-1)
    # written so that NaN is refused, as every comparison with NaN is false
    if not (weights.min() >= 0 and np.abs(sums - 1).max() < 1e-2):
        return []
    return [heat(small(one_map)) for one_map in weights]


def small(image: Any) -> np.ndarray:
    """An image (..., H, W) with sides of at most LONGEST_SIDE, as a NumPy array."""
    steps = [max(1, -(-n // LONGEST_SIDE)) for n in image.shape[-2:]]
    return backend.to_numpy(image[..., :: steps[0], :: steps[1]])


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(1 or 3, H, W) as bytes (H, W, 3). Values from 0 to 1, and bytes, are shown as they are;
    all others from their smallest to their largest."""
    pixels = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = pixels.min(), pixels.max()
    if image.dtype == np.uint8:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    half = high / 2 - low / 2 or 1.0  # half of the range, which may be too large for float64
    grey = np.clip((pixels / 2 - low / 2) / half * 255, 0, 255).astype(np.uint8)
    return np.broadcast_to(np.moveaxis(grey, 0, -1), (*grey.shape[1:], 3))


def heat(values: np.ndarray) -> np.ndarray:
    """(T, S) from 0 to the largest value, in the colours of HEAT."""
    t = values / max(values.max(), np.finfo(float).tiny) * (len(HEAT) - 1)
    stops = np.arange(len(HEAT))
    return np.stack([np.interp(t, stops, HEAT[:, i]) for i in range(3)], axis=-1).astype(np.uint8)


def picture_html(pixels: np.ndarray) -> str:
    """An <img> that holds the picture itself. Small pictures are enlarged, pixel by pixel."""
    height, width = pixels.shape[:2]
    factor = max(1, SHOWN_SIDE // max(height, width))
    data = base64.b64encode(png(pixels)).decode()
    return (
        f'<img src="data:image/png;base64,{data}" width="{width * factor}" '
        f'height="{height * factor}" alt="{height} x {width} pixels" '
        'style="display:inline-block;margin:4px 4px 0 0;image-rendering:pixelated">'
    )


def png(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) of bytes as a PNG file (W3C, "Portable Network Graphics"): a header, the
    rows, each behind a 0 that says "not filtered", compressed by zlib, and an end."""
    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    eight_bits_rgb = 8, 2, 0, 0, 0
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, *eight_bits_rgb)),
        (b"IDAT", zlib.compress(rows.tobytes())),
        (b"IEND", b""),
    )
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        file += struct.pack(">I", len(data)) + name + data + checksum
    return file


# ── modules ──────────────────────────────────────────────────────────────────────────────────────


def module_html(model: Module) -> str:
    """A tree of the modules inside, which can be folded, with the shapes of their own Parameters
    and buffers, and the number of Parameters below each."""
    return f'<div style="{MONO};line-height:1.5">{tree("", model, set(), is_open=True)}</div>'


def tree(name: str, module: Module, shown: set[int], is_open: bool) -> str:
    """One module and those inside it. shown: the ids of the modules above; one that was shown is
    not shown again, because it may refer back to a module around it."""
    from html import escape

    label = f"{escape(name)}: " if name else ""
    head = f"{label}<b>{escape(type(module).__name__)}</b>"
    if id(module) in shown:
        return f'<div style="margin-left:1.2em">{head} (shared, see above)</div>'
    shown.add(id(module))
    count = module.num_parameters()
    head += f' <span style="opacity:0.65">{count:,} parameters</span>' if count else ""
    lines = []
    for part_name, part in module.named_parts():
        if isinstance(part, Module):
            lines.append(tree(part_name, part, shown, is_open=False))
        else:
            kind = "" if isinstance(part, Parameter) else " buffer"
            frozen = " frozen" if isinstance(part, Parameter) and not part.requires_grad else ""
            note = f'<span style="opacity:0.65">{kind}{frozen}</span>' if kind or frozen else ""
            lines.append(
                f'<div style="margin-left:1.2em">{escape(part_name)} {part.shape}{note}</div>'
            )
    if not lines:
        return f'<div style="margin-left:1.2em">{head}</div>'
    opened = " open" if is_open else ""
    return (
        f'<details{opened} style="margin-left:{0 if not name else 1.2}em">'
        f"<summary>{head}</summary>{''.join(lines)}</details>"
    )
