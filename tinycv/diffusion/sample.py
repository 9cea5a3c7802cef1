"""Sampling from the command line: a trained diffusion model draws the digit that you ask for.

    python -m tinycv.diffusion.sample --label 7 --n 16 --out seven.png
    python -m tinycv.diffusion.sample

The first command writes a picture of sixteen digits that are all meant to be a 7, the second one of
forty, four of each. The U-Net of demos/17_diffusion_digits.py draws them; its weights come with
tinycv. Sampling starts from noise and takes some steps of DDIM (Song, Meng & Ermon 2021, eq. 12),
with classifier-free guidance towards the label (Ho & Salimans 2022, eq. 6):

    D(x_t) = clip((1 + w) D(x_t, label) - w D(x_t, no label), -1, 1)
    x_s    = a_s D(x_t) + σ_s (x_t - a_t D(x_t)) / σ_t

``digits`` below is all of it. The command also prints how many of its digits the ViT of
demos/06_vit.py, which never saw a generated digit, reads as their label.

Needs Pillow.   Read first: denoising.py, samplers.py, guidance.py.
See at work: demos/17_diffusion_digits.py.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tinycv.data import atomic, inputs
from tinycv.data.extra import import_extra
from tinycv.diffusion.denoising import clipped, denoiser
from tinycv.diffusion.guidance import guided
from tinycv.diffusion.samplers import ddim_step, sample
from tinycv.diffusion.schedule import cosine_schedule
from tinycv.diffusion.unet import UNet
from tinycv.engine import backend
from tinycv.engine.arguments import number
from tinycv.engine.create import randn
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.module import Module
from tinycv.training import pretrained
from tinycv.vision import inputs as vision_inputs
from tinycv.vision.recipe import probabilities
from tinycv.vision.vit import ViT

LABELS, NO_LABEL = 10, 10  # the classes 0 to 9, and the number that means "no label"
SIDE = 28
MOST = 1000  # digits, and steps: those of the schedule
BATCH = 50  # digits that are sampled at once: more would need more memory, and are no faster


def digits(
    model: Module, labels: np.ndarray, steps: int = 20, w: float = 1.0, device: str = "cpu"
) -> np.ndarray:
    """Digits with these labels (N,), from 0 to 9: (N, 1, 28, 28) float32 with pixels from 0 to 1.

    model: the U-Net of demo 17, which predicts v. w: the strength of guidance; 0 is none. The noise
    follows from ``tinycv.manual_seed``.
    """
    vision_inputs.model(model, "digits: model")
    labels = inputs.class_numbers(labels, "digits: labels", LABELS)
    steps = inputs.whole(steps, "digits: steps", 1, MOST)
    w, device = number(w, "digits: w", 0, 100), inputs.text(device, "digits: device")
    schedule = cosine_schedule(MOST)
    predicted = denoiser(model, schedule, "v")
    made: list[np.ndarray] = [np.zeros((0, 1, SIDE, SIDE), np.float32)]
    for start in range(0, len(labels), BATCH):
        batch = Tensor(labels[start : start + BATCH], device=device)  # (B,)
        step = partial(ddim_step, clipped(guided(predicted, batch, NO_LABEL, w), -1, 1), schedule)
        noise = randn(len(batch), 1, SIDE, SIDE, device=device)
        with no_grad():
            x = sample(step, noise, schedule.times(steps))  # (B, 1, 28, 28), from -1 to 1
        made.append(np.clip(x.numpy() / 2 + 0.5, 0, 1))
    return np.concatenate(made)


def save_sheet(path: str | Path, images: np.ndarray, columns: int) -> None:
    """Write a PNG of digits (N, 1, H, W), row by row: dark ink on white paper, each three times as
    large as its pixels."""
    file = atomic.file_path(path, "save_sheet: path")
    images = inputs.images(images, "save_sheet: images", floats=True)
    inputs.refuse_other_ranges(images, "save_sheet: images")
    columns = inputs.whole(columns, "save_sheet: columns", 1, MOST)
    if not len(images) or images.shape[1] != 1:
        raise ValueError(
            f"save_sheet: images has shape {images.shape}; it must be (N, 1, H, W), at least one"
        )
    image = import_extra("PIL.Image", "Pillow")
    scale, gap = 3, 8
    height, width = (scale * side for side in images.shape[2:])
    rows = -(-len(images) // columns)
    sheet = image.new("L", (columns * (width + gap) + gap, rows * (height + gap) + gap), 225)
    for i, picture in enumerate(images[:, 0]):
        row, column = divmod(i, columns)
        grey = np.rint(255 * (1 - np.clip(picture, 0, 1))).astype(np.uint8)
        tile = image.fromarray(grey).resize((width, height), image.Resampling.BICUBIC)
        sheet.paste(tile, (gap + column * (width + gap), gap + row * (height + gap)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    atomic.write(file, buffer.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: read the options, sample, write the picture, print two lines. An error is
    printed in one line, with exit status 1."""
    options = parser().parse_args(arguments)
    try:
        lines = report(options)
    except (ValueError, OSError, ModuleNotFoundError, backend.GpuUnavailable) as error:
        sys.exit(f"sample: {error}")
    # A console may not be able to show all letters of a path; they are replaced.
    encoding = sys.stdout.encoding or "ascii"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding))


def report(options: argparse.Namespace) -> list[str]:
    """Sample, and write the picture. The lines to print: what was made, and how it is read."""
    labels = _labels(options)
    _expect_range("steps", options.steps, 1, MOST)
    _expect_range("guidance", options.guidance, 0, 100)
    _expect_range("seed", options.seed, 0, 2**63 - 1)
    device = backend.resolve(options.device)
    import_extra("PIL.Image", "Pillow")  # before seconds of sampling
    out = atomic.file_path(options.out, "--out")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: the picture is a PNG, so the name must end in .png")
    inputs.make_folder_of(out, "--out")
    model = pretrained.read("17_diffusion_digits").build("unet", UNet).to(device)
    reader = pretrained.read("06_vit").build("vit", ViT)
    backend.manual_seed(options.seed)
    started = time.perf_counter()
    images = digits(model, labels, options.steps, options.guidance, device)
    seconds = time.perf_counter() - started
    columns = math.ceil(len(labels) ** 0.5) if options.label is not None else LABELS
    save_sheet(out, images, min(columns, len(labels)))
    what = f"{len(labels)} digits" if len(labels) > 1 else "1 digit"
    right = int((probabilities(reader, images).argmax(axis=1) == labels).sum())
    return [
        f"{out}: {what} in {options.steps} steps of DDIM, guidance {options.guidance:g}, seed "
        f"{options.seed}: {seconds:.1f} s on {device}",
        f"The ViT of demos/06_vit.py reads {right} of {len(labels)} as their label.",
    ]


def _labels(options: argparse.Namespace) -> np.ndarray:
    """The labels (N,) of the digits: all the same, or 0 to 9 again and again."""
    if options.n is not None:
        _expect_range("n", options.n, 1, MOST)
    if options.label is None:
        return np.arange(options.n or 4 * LABELS) % LABELS
    _expect_range("label", options.label, 0, LABELS - 1)
    return np.full(options.n or 16, options.label)


def _expect_range(flag: str, value: float, least: int, most: int) -> None:
    """ValueError for the value of a flag that is out of range, or NaN."""
    if not least <= value <= most:
        raise ValueError(f"--{flag} {value}: it must be at least {least} and at most {most}")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m tinycv.diffusion.sample",
        description="Draw digits with a diffusion model that comes with tinycv.",
    )
    options.add_argument("--label", type=int, help="which digit, 0 to 9 (default: all ten)")
    options.add_argument(
        "--n", type=int, help="how many digits (default: 16 of a label, 40 of all)"
    )
    options.add_argument("--out", default="digits.png", help="the picture (default: digits.png)")
    options.add_argument("--steps", type=int, default=20, help="steps of DDIM (default: 20)")
    options.add_argument(
        "--guidance", type=float, default=1.0, help="strength w of guidance; 0: none (default: 1)"
    )
    options.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    options.add_argument("--device", default="cpu", help="cpu, gpu or auto (default: cpu)")
    return options


if __name__ == "__main__":
    main()
