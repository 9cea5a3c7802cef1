"""A small convolutional network: the classifier that knows, before it has seen anything, that
images are local.

    convolution    the same small window of weights at every place     LeCun et al. 1998, II.A
    max pooling    the largest answer of each 2 x 2 is kept, so half the side is left
    twice that; what is left is read by two layers that see all of it

Built into it, and not into a ViT: neighbours belong together, and a stroke means the same wherever
it lies.  Dosovitskiy et al. 2021 (section 3.1) call this inductive bias: with few images it stands
in for what would have to be learned, and with many it is no longer needed.
differs: batch norm and ReLU, where the network of 1998 had neither.
Read before: nn/conv.py, nn/pool.py, nn/batch_norm.py.   See at work: demos/06_vit.py --full.
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
    """Images (B, C, S, S) to class scores (B, num_classes).

    image_size: the side S in pixels, 4 at least. width: channels of the first convolution; the
    second has 2 width, and there are F = 4 width features.  The norms go by the batch while
    training: call ``eval()`` before you ask it.
    """

    def __init__(self, num_classes: int, image_size: int, in_channels: int = 1, width: int = 16):
        num_classes = whole(num_classes, "ConvNet: num_classes", 1)
        image_size = whole(image_size, "ConvNet: image_size")
        in_channels = whole(in_channels, "ConvNet: in_channels", 1)
        width = whole(width, "ConvNet: width", 1)
        if image_size < 4:
            raise ValueError(
                f"ConvNet: image_size {image_size}: nothing is left of an image below 4 x 4, "
                "halved twice"
            )
        self.image_size, self.in_channels = image_size, in_channels
        # a norm's bias follows
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(2 * width)
        self.flatten = Flatten()
        self.hidden = Linear(2 * width * (image_size // 4) ** 2, 4 * width)
        self.head = Linear(4 * width, num_classes)

    def forward(self, images: ArrayLike) -> Tensor:
        """images (B, C, S, S). Returns the scores (B, num_classes); softmax makes them
        probabilities."""
        return self.head(self.features(images))

    def features(self, images: ArrayLike) -> Tensor:
        """What the head reads: (B, F), none below 0. Two sets of images can be compared by them
        (Frechet distance)."""
        images = inputs.images(
            images, "ConvNet", (self.in_channels, self.image_size, self.image_size)
        )
        # (B, width, S / 2, S / 2)
        x = max_pool2d(relu(self.norm1(self.conv1(images))), 2)
        # (B, 2 width, S / 4, S / 4)
        x = max_pool2d(relu(self.norm2(self.conv2(x))), 2)
        return relu(self.hidden(self.flatten(x)))  # (B, F)
