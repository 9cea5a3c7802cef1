"""A file of VGG-19 with random weights, by the names of torchvision: no real weights are needed."""

from pathlib import Path

import numpy as np

from tinycv.training.checkpoint import save
from tinycv.vision.vgg import expected_shapes


def vgg_arrays() -> dict[str, np.ndarray]:
    """Weights that keep the size of the signal from layer to layer, and small biases."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in expected_shapes().items():
        is_weight = len(shape) == 4
        std = (2 / (shape[1] * 9)) ** 0.5 if is_weight else 0.1
        arrays[name] = rng.standard_normal(shape, np.float32) * np.float32(std)
    return arrays


def vgg_file(folder: Path) -> Path:
    """The path of a new file with ``vgg_arrays``."""
    path = folder / "vgg19.safetensors"
    save(path, vgg_arrays())
    return path
