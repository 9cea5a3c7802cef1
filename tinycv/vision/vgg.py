"""VGG-19 features for style transfer, from a weight file that you have (Simonyan & Zisserman 2015).

    vgg = VGG19Features("vgg19.safetensors")          or .pt, with the names of torchvision
    goal = StyleObjective(content, style, vgg, alpha=...)

    style      conv1_1, conv2_1, conv3_1, conv4_1, conv5_1      Gatys et al. 2016
    content    conv4_2
    name in the file    features.0.weight, features.0.bias, features.2.weight, ...

VGG-19 is a stack of 3 x 3 convolutions with ReLUs, halved in size five times. It was trained to
classify photos. Gatys et al. take the outputs of the layers after their ReLU. They replace max
pooling by average pooling, which they find gives slightly better pictures: pooling="average".

No weights ship with tinycv. A file that torchvision's vgg19 has saved fits; its classifier, and the
convolutions after conv5_1, are not needed and may be missing.
differs: Gatys et al. rescaled the weights so that each channel's mean activation is 1. Here they
stay as they are in the file, so other α and w_l suit them.
Read first: style.py.   Shapes: images (N, 3, H, W) from 0 to 1.
"""

from __future__ import annotations

import os
import re

import numpy as np

from tinycv.data import inputs as data_inputs
from tinycv.engine.arguments import choice, listed
from tinycv.engine.ops import relu
from tinycv.engine.tensor import Tensor
from tinycv.nn.conv import conv2d
from tinycv.nn.module import Module
from tinycv.nn.pool import avg_pool2d, max_pool2d
from tinycv.training.checkpoint import CheckpointError, load
from tinycv.vision.inputs import photo
from tinycv.vision.style import Features
from tinycv.vision.weights import IMAGENET

# Each block: its convolutions, all with equally many channels. Pooling stands between two blocks.
# (name of the convolution, its number in the file)
BLOCKS = (
    (64, (("conv1_1", 0), ("conv1_2", 2))),
    (128, (("conv2_1", 5), ("conv2_2", 7))),
    (256, (("conv3_1", 10), ("conv3_2", 12), ("conv3_3", 14), ("conv3_4", 16))),
    (512, (("conv4_1", 19), ("conv4_2", 21), ("conv4_3", 23), ("conv4_4", 25))),
    (512, (("conv5_1", 28),)),
)
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CONTENT = "conv4_2"
# What a file of torchvision also holds: conv5_2 to conv5_4, and the classifier.
UNUSED = re.compile(r"features\.(30|32|34)\.(weight|bias)|classifier\..*")
LEAST = 16  # the smallest side of an image: four poolings leave one pixel
POOLINGS = {"max": max_pool2d, "average": avg_pool2d}


class VGG19Features(Module):
    """An extractor for StyleObjective. The weights are buffers: they are not learned.

    path: the weight file. pooling: "max", as VGG-19 was trained, or "average".
    CheckpointError for a file with other names or shapes, or with NaN or infinity.
    """

    def __init__(self, path: str | os.PathLike, pooling: str = "max"):
        self.pooling = choice(pooling, "VGG19Features: pooling", POOLINGS)
        path = data_inputs.path(path, "VGG19Features: path")
        tensors, _ = load(path)
        expect_vgg19(str(path), tensors)
        self.layers = {
            name: Convolution(tensors[f"features.{i}.weight"], tensors[f"features.{i}.bias"])
            for _, convolutions in BLOCKS
            for name, i in convolutions
        }
        mean, std = (np.array(values, np.float32)[:, None, None] for values in IMAGENET)
        self.mean, self.std = Tensor(mean), Tensor(std)  # (3, 1, 1)

    def forward(self, x: Tensor) -> Features:
        """x (N, 3, H, W). Returns Features with the maps of STYLE and of CONTENT."""
        x = (photo(x, "VGG19Features: x", LEAST) - self.mean) / self.std
        maps = {}
        for block, (_, convolutions) in enumerate(BLOCKS):
            x = POOLINGS[self.pooling](x, 2) if block else x
            for name, _ in convolutions:
                x = relu(self.layers[name](x))
                maps[name] = x
        return Features([maps[name] for name in STYLE], maps[CONTENT])


class Convolution(Module):
    """A 3 x 3 convolution, padded to keep the size, with weights that are not learned."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray):
        self.weight = Tensor(weight.astype(np.float32))
        self.bias = Tensor(bias.astype(np.float32))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W). Returns (N, O, H, W)."""
        return conv2d(x, self.weight, self.bias, padding=1)


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that is needed, by its name in the file."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for width, convolutions in BLOCKS:
        for _, i in convolutions:
            shapes[f"features.{i}.weight"] = (width, channels, 3, 3)
            shapes[f"features.{i}.bias"] = (width,)
            channels = width
    return shapes


def expect_vgg19(path: str, tensors: dict[str, np.ndarray]) -> None:
    """CheckpointError, with what is there and what is taken, unless this is VGG-19."""
    shapes = expected_shapes()
    problems = {
        "missing": [name for name in shapes if name not in tensors],
        "unexpected": [n for n in tensors if n not in shapes and not UNUSED.fullmatch(n)],
        "of another shape": [
            f"{name} is {tensors[name].shape}, should be {shape}"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        ],
        "not of real numbers": [
            f"{name} ({tensors[name].dtype})"
            for name in shapes
            if name in tensors and tensors[name].dtype.kind != "f"
        ],
        "NaN or infinity": [
            name
            for name in shapes
            if name in tensors
            and tensors[name].dtype.kind == "f"
            and not np.isfinite(tensors[name]).all()
        ],
    }
    complaints = [f"{what}: {listed(names, 4)}" for what, names in problems.items() if names]
    if complaints:
        raise CheckpointError(
            f"{path}: not VGG-19 by the names of torchvision (features.0.weight to "
            f"features.28.bias); {'; '.join(complaints)}"
        )
