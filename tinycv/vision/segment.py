"""Semantic segmentation: a small fully convolutional network (U-Net), and mean IoU.

    scores        one class score for each pixel and class        Long et al. 2015 (FCN)
    skip          features of full size join those of half size   Ronneberger et al. 2015 (U-Net)
    IoU_k         |predicted k and truly k| / |predicted k or truly k|, over all pixels of all maps
    mean IoU      the mean of IoU_k over the classes

Convolutions at half the size see more of the image around each pixel, and the skip connection keeps
the edges sharp.  Mean IoU gives a small class the same weight as a large one.

Read first: convnet.py.   See at work: demos/11_label_to_image.py, as the judge of painted images.
Shapes: B images, H and W even, K classes.
"""

from __future__ import annotations

import numpy as np

from tinycv.data import inputs as given
from tinycv.engine.arguments import shown
from tinycv.engine.methods import concatenate
from tinycv.engine.tensor import ArrayLike, Tensor, no_grad
from tinycv.nn.activation import ReLU
from tinycv.nn.batch_norm import BatchNorm2d
from tinycv.nn.conv import Conv2d
from tinycv.nn.losses import cross_entropy
from tinycv.nn.module import Module
from tinycv.nn.sequential import Sequential
from tinycv.nn.upsample import interpolate
from tinycv.vision import inputs

AT_ONCE = 100  # the largest batch of ``segment``


class Segmenter(Module):
    """Images (B, 3, H, W) to class scores (B, num_classes, H, W). width: channels at full size; at
    half the size there are 3 width. Call ``eval()`` before inference, for the batch norms."""

    def __init__(self, num_classes: int, width: int = 12):
        num_classes = given.whole(num_classes, "Segmenter: num_classes", 1)
        width = given.whole(width, "Segmenter: width", 1)
        self.full = _block(3, width)
        self.half = Sequential(
            _block(width, 2 * width, stride=2),
            _block(2 * width, 3 * width),
            _block(3 * width, 3 * width),
        )
        self.joined = _block(4 * width, 2 * width)
        self.head = Conv2d(2 * width, num_classes, 1)

    def forward(self, images: ArrayLike) -> Tensor:
        """images (B, 3, H, W), H and W even. Returns the scores (B, num_classes, H, W)."""
        shape: tuple = tuple(getattr(images, "shape", ()))
        if len(shape) != 4 or shape[1] != 3 or 0 in shape[2:] or shape[2] % 2 or shape[3] % 2:
            raise ValueError(
                f"Segmenter: images is {shown(images)}; it must be float images (B, 3, H, W), with "
                "H and W even"
            )
        images = inputs.images(images, "Segmenter", shape[1:])
        full = self.full(images)  # (B, width, H, W)
        half = self.half(full)  # (B, 3 width, H / 2, W / 2)
        return self.head(
            self.joined(concatenate([full, interpolate(half, scale_factor=2)], axis=1))
        )


def _block(before: int, after: int, stride: int = 1) -> Sequential:
    """A convolution, which halves the size if stride is 2, batch norm and ReLU."""
    kernel = 3 if stride == 1 else 4
    return Sequential(
        Conv2d(before, after, kernel, stride=stride, padding=1, bias=False),
        BatchNorm2d(after),
        ReLU(),
    )


def pixel_cross_entropy(scores: Tensor, labels: Tensor | np.ndarray) -> Tensor:
    """The cross-entropy of scores (B, K, H, W) with label maps (B, H, W), averaged over all
    pixels."""
    shape: tuple = tuple(getattr(scores, "shape", ()))
    of_labels = tuple(getattr(labels, "shape", ()))
    if len(shape) != 4 or of_labels != (shape[0], *shape[2:]):
        raise ValueError(
            f"pixel_cross_entropy: scores is {shown(scores)} and labels {shown(labels)}; they must "
            "be (B, K, H, W) and (B, H, W)"
        )
    rows = scores.transpose((0, 2, 3, 1)).reshape((-1, shape[1]))  # (B H W, K)
    return cross_entropy(rows, labels.reshape((-1,)))


def segment(model: Module, images: np.ndarray) -> np.ndarray:
    """The most probable class of each pixel: images (N, C, H, W) to label maps (N, H, W), as NumPy
    arrays. The model computes on its own device and should be in eval mode."""
    if not isinstance(model, Module):
        raise TypeError(f"segment: model is {shown(model)}; it must be a Module")
    images = given.images(images, "segment: images", floats=True)
    if not len(images):
        raise ValueError(f"segment: images has shape {images.shape}; there must be at least one")
    devices = [p.device for p in model.parameters()]
    device = devices[0] if devices else "cpu"
    found = []
    with no_grad():
        for start in range(0, len(images), AT_ONCE):
            x = images[start : start + AT_ONCE]
            found.append(_class_of_each_pixel(model(Tensor(x, device=device)), x.shape))
    return np.concatenate(found)


def _class_of_each_pixel(scores: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """The label maps (B, H, W) of scores (B, K, H, W) for images of this shape. A NaN is refused,
    because argmax would take it for the largest score."""
    b, _, h, w = shape
    found: tuple = tuple(getattr(scores, "shape", ()))
    if len(found) != 4 or not found[1] or found != (b, found[1], h, w):
        raise ValueError(
            f"segment: model returned {shown(scores)}; it must return class scores ({b}, K, {h}, "
            f"{w}), K being the number of classes"
        )
    values = scores.numpy()
    if np.isnan(values).any():
        raise ValueError("segment: model returned scores with NaN; images or weights may hold NaN")
    return values.argmax(axis=1)


def iou_by_class(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """IoU of each class, (num_classes,), for label maps of one shape (N, H, W). NaN for a class
    that neither has."""
    num_classes = given.whole(num_classes, "iou_by_class: num_classes", 1, 10_000)
    predicted, labels = (
        _classes(array, f"iou_by_class: {name}", num_classes)
        for array, name in ((predicted, "predicted"), (labels, "labels"))
    )
    if predicted.shape != labels.shape:
        raise ValueError(
            f"iou_by_class: predicted has shape {predicted.shape} and labels {labels.shape}; they "
            "must be equal"
        )
    pairs = labels.astype(np.int64) * num_classes + predicted.astype(np.int64)
    count = np.bincount(pairs.ravel(), minlength=num_classes**2)
    count = count.reshape(num_classes, num_classes)  # [true class, predicted class]
    both = np.diag(count)
    either = count.sum(axis=0) + count.sum(axis=1) - both
    return np.divide(both, either, out=np.full(num_classes, np.nan), where=either > 0)


def mean_iou(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """The mean IoU over the classes that occur in either of two arrays of label maps."""
    found = iou_by_class(predicted, labels, num_classes)
    if np.isnan(found).all():
        raise ValueError("iou_by_class: predicted has no pixels; there must be at least one")
    return float(np.nanmean(found))


def _classes(value: np.ndarray, what: str, num_classes: int) -> np.ndarray:
    """Whole numbers from 0 to num_classes - 1."""
    array = given.array(value, what, "label maps (N, H, W) of integers", "iu", ndim=3)
    if array.size and not 0 <= array.min() <= array.max() < num_classes:
        raise IndexError(
            f"{what} holds numbers from {array.min()} to {array.max()}; {num_classes} classes are "
            f"numbered from 0 to {num_classes - 1}"
        )
    return array
