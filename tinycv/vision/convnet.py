"""A small convolutional network (CNN), for comparison with the ViT: a classifier that assumes from
the start that images are local.

    convolution    the same small window of weights at every position  LeCun et al. 1998, II.A
    max pooling    keeps the largest value of each 2 x 2, which halves the sides
    both of these twice, then two fully connected layers

A CNN, unlike a ViT, has two assumptions built in: neighbouring pixels belong together, and a stroke
means the same wherever it is.  Dosovitskiy et al. 2021 (section 3.1) call this inductive bias.
With few images it replaces what a ViT would have to learn; with many it is no longer needed.
differs: this network has batch norm and ReLU; the network of 1998 had neither.

Read first: nn/conv.py, nn/pool.py, nn/batch_norm.py.   Demo: demos/06_vit.py --full.
Shapes: B images, C channels, side S, F features.
"""

from __future__ import annotations

from tinycv.data.inputs import whole
from tinycv.engine.ops import relu
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn.batch_norm import BatchNorm2d
from tinycv.nn.conv import Conv2d
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.pool import max_pool2d
from tinycv.nn.sequential import Flatten
from tinycv.vision import inputs


class ConvNet(Module):
    """Takes images (B, C, S, S) and returns class scores (B, num_classes).

    image_size: the side S in pixels, at least 4. width: channels of the first convolution; the
    second has 2 width channels, and there are F = 4 width features. In training, the norms use the
    statistics of the batch; call ``eval()`` before inference.
    """

    def __init__(self, num_classes: int, image_size: int, in_channels: int = 1, width: int = 16):
        num_classes = whole(num_classes, "ConvNet: num_classes", 1)
        image_size = whole(image_size, "ConvNet: image_size")
        in_channels = whole(in_channels, "ConvNet: in_channels", 1)
        width = whole(width, "ConvNet: width", 1)
        if image_size < 4:
            raise ValueError(
                f"ConvNet: image_size is {image_size}; it must be at least 4, because the image is "
                "halved twice"
            )
        self.image_size, self.in_channels = image_size, in_channels
        # The convolutions need no bias, because the norms after them have one.
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(2 * width)
        self.flatten = Flatten()
        self.hidden = Linear(2 * width * (image_size // 4) ** 2, 4 * width)
        self.head = Linear(4 * width, num_classes)

    def forward(self, images: ArrayLike) -> Tensor:
        """images (B, C, S, S). Returns the scores (B, num_classes); their softmax is the
        probabilities."""
        return self.head(self.features(images))

    def features(self, images: ArrayLike) -> Tensor:
        """The input of the head: (B, F), at least 0. They can be used to compare two sets of images
        (Fréchet distance)."""
        images = inputs.images(
            images, "ConvNet", (self.in_channels, self.image_size, self.image_size)
        )
        x = max_pool2d(relu(self.norm1(self.conv1(images))), 2)  # (B, width, S / 2, S / 2)
        x = max_pool2d(relu(self.norm2(self.conv2(x))), 2)  # (B, 2 width, S / 4, S / 4)
        return relu(self.hidden(self.flatten(x)))  # (B, F)
