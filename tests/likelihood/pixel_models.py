"""Small models of 3 x 3 images with random weights, all images of a size, a chi-squared test."""

from __future__ import annotations

from itertools import product

import numpy as np

import tinycv
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixel_by_pixel import PixelModel, spiral_order
from tinycv.likelihood.pixelcnn import GatedPixelCNN, PixelCNN

SMALL = {"d_model": 8, "nhead": 2, "num_layers": 2}
MODELS = {
    "MADE": lambda: MADE(3, (12,)),
    "MADE of two layers, in a spiral": lambda: MADE(3, (12, 9), spiral_order(3), direct=False),
    "MADE of many orders": lambda: MADE(3, (12,), masks=4, agnostic=True),
    "PixelCNN": lambda: PixelCNN(3, 6, 2, 3),
    "PixelCNN of 3 levels": lambda: PixelCNN(3, 6, 1, 3, levels=3),
    "gated PixelCNN": lambda: GatedPixelCNN(3, 4, 3),
    "gated PixelCNN of one channel": lambda: GatedPixelCNN(3, 1, 3),
    "gated PixelCNN of 3 levels": lambda: GatedPixelCNN(3, 3, 2, levels=3),
    "PixelCNN of logistics": lambda: PixelCNN(3, 4, 1, 3, levels=3, mixture=2),
    "image GPT": lambda: ImageGPT(3, **SMALL),
    "image GPT in a spiral": lambda: ImageGPT(3, order=spiral_order(3), **SMALL),
    "image GPT of one patch": lambda: ImageGPT(3, patch=3, **SMALL),
}


def small_model(name: str) -> PixelModel:
    """The model in float64, with random weights that are large enough to matter."""
    tinycv.manual_seed(0)
    return randomised(MODELS[name]()).eval()


def randomised(model: PixelModel, seed: int = 0) -> PixelModel:
    """The model in float64, with weights from N(0, 0.5²)."""
    model.to("float64")
    for number, weight in enumerate(model.parameters()):
        weight.data = 0.5 * np.random.default_rng((seed, number)).normal(size=weight.shape)
    return model


def all_images(side: int, levels: int) -> np.ndarray:
    """All images (levels^(side²), 1, side, side). Image number n has the digits of n as pixels, the
    first pixel as its last digit."""
    digits = np.arange(levels**side**2)[:, None] // levels ** np.arange(side**2) % levels
    return digits.reshape(-1, 1, side, side).astype(float)


def bars_and_stripes(side: int) -> np.ndarray:
    """The 2^(side + 1) - 2 images in which each row is constant, or each column."""
    lines = np.array(list(product((0, 1), repeat=side)))
    bars = np.repeat(lines[:, None, :], side, axis=1)
    images = np.concatenate([bars, bars.swapaxes(1, 2)])
    return np.unique(images, axis=0)[:, None].astype(np.float32)


def chi_squared_excess(counts: np.ndarray, expected: np.ndarray) -> float:
    """How many standard deviations chi-squared is above its mean. Rare images count as one."""
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    freedom = max(len(counts) - 1, 1)
    return float((chi_squared - freedom) / np.sqrt(2 * freedom))
