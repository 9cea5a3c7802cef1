"""VGG19Features compared with the layers of torchvision's vgg19, built from PyTorch's, with weights
loaded by name from the same file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import equal

sys.path.insert(0, str(Path(__file__).parent.parent / "vision"))
from vgg_file import vgg_arrays

from tinycv import Tensor
from tinycv.vision import VGG19Features
from tinycv.vision.vgg import UNUSED
from tinycv.vision.weights import IMAGENET

# "cfg E" of torchvision: channels of the convolutions, and where it pools
CONFIG = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
STYLE, CONTENT = (1, 6, 11, 20, 29), 22  # the ReLUs after conv1_1, ..., conv5_1, and conv4_2


def twin(pooling: str) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    channels = 3
    for width in CONFIG:
        if isinstance(width, str):
            layers.append((torch.nn.MaxPool2d if pooling == "max" else torch.nn.AvgPool2d)(2, 2))
            continue
        layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
        channels = width
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("pooling, ending", [("max", "safetensors"), ("average", "pt")])
def test_features_of_a_file_match_pytorch(tmp_path, pooling, ending):
    from tinycv.training.checkpoint import save

    theirs = twin(pooling)
    names = dict(theirs.state_dict())
    arrays = {f"features.{name}": value.numpy() for name, value in names.items()} | vgg_arrays()
    assert all(UNUSED.fullmatch(name) for name in set(arrays) - set(vgg_arrays()))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    theirs.load_state_dict({name.removeprefix("features."): t for name, t in tensors.items()})
    path = tmp_path / f"vgg19.{ending}"
    torch.save(tensors, path) if ending == "pt" else save(path, arrays)

    x = np.random.default_rng(0).uniform(0, 1, (2, 3, 32, 32)).astype(np.float32)
    ours = VGG19Features(path, pooling)(Tensor(x))
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    y, outputs = (torch.from_numpy(x) - mean) / std, []
    for layer in theirs:
        y = layer(y)
        outputs.append(y)
    for maps, i in zip(ours.style, STYLE, strict=True):
        equal(maps, outputs[i], f"layer {i}")
    equal(ours.content, outputs[CONTENT], "content")
