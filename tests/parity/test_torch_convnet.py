"""ConvNet compared with the same network built from PyTorch layers, with weights and running
statistics loaded by name."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree_as_layers, equal

from tinycv.vision import ConvNet

# a side of 11 is halved to 5, then to 2, so the last row and column are dropped
IMAGES = np.random.default_rng(0).normal(size=(4, 2, 11, 11))


class Twin(torch.nn.Module):
    def __init__(self, num_classes: int, side: int, channels: int, width: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.norm2 = torch.nn.BatchNorm2d(2 * width)
        self.hidden = torch.nn.Linear(2 * width * (side // 4) ** 2, 4 * width)
        self.head = torch.nn.Linear(4 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool, relu = torch.nn.functional.max_pool2d, torch.relu
        x = pool(relu(self.norm2(self.conv2(pool(relu(self.norm1(self.conv1(x))), 2)))), 2)
        return self.head(relu(self.hidden(x.flatten(1))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "after"])
def test_a_conv_net_matches_the_same_layers_in_pytorch(training, dtype):
    ours, theirs = ConvNet(3, 11, 2, 4).train(training), Twin(3, 11, 2, 4).train(training)
    # at the second call, the buffers have already changed
    for _ in range(2):
        agree_as_layers(ours, theirs, [IMAGES], dtype)
        ours.zero_grad()
        theirs.zero_grad()
        assert set(ours.state_dict()) == set(theirs.state_dict())
        for name, value in theirs.state_dict().items():
            equal(ours.state_dict()[name], value, name)
