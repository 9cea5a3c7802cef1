"""A judge of generated digits: a classifier trained on real digits, whose features are compared.

Pixels are a poor measure: a digit that is moved by one pixel is far from itself. So images are
compared by the features that a classifier computes in its last layer but one, and metrics.py
measures distances between sets of such features. This is the recipe of the Frechet Inception
distance (FID, Heusel et al. 2017) with a network of our own. Its scale is therefore our own too,
and a distance alone says nothing. It becomes readable as a multiple of the distance between two
sets of real images:

    frechet multiple = frechet(generated, held-out) / frechet(training, held-out)
                       1: as good as real images

The judge saw the training images while it learned, but never the held-out ones. Both distances
have the held-out images on one side.
Read first: metrics.py, vision/convnet.py.   See at work: demos/09_gan_digits.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from tinycv.data.augment import random_affine
from tinycv.data.disk_cache import cached
from tinycv.data.loader import DataLoader
from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.backend import get_rng_state, manual_seed, set_rng_state
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.losses import cross_entropy
from tinycv.nn.softmax import softmax
from tinycv.optim import AdamW, warmup_cosine
from tinycv.show.metrics import frechet_distance
from tinycv.training.loop import fit
from tinycv.vision.convnet import ConvNet

# Raise this number whenever the training of a judge changes: cached judges of an older recipe are
# then no longer used.
RECIPE = 1


class Judge:
    """A trained classifier on the CPU. Takes NumPy images (N, C, S, S) in [0, 1], returns NumPy
    arrays."""

    def __init__(self, model: ConvNet):
        if not isinstance(model, ConvNet):
            raise TypeError(f"Judge: model is {shown(model)}; it must be a ConvNet")
        model.eval()
        self.model = model

    def features(self, images: np.ndarray) -> np.ndarray:
        """The output of the last layer but one: (N, F)."""
        return self._in_parts(self.model.features, images)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """The probability of each class: (N, classes)."""
        return self._in_parts(lambda x: softmax(self.model(x)), images)

    def labels(self, images: np.ndarray) -> np.ndarray:
        """The most probable class of each image: (N,)."""
        return self.probabilities(images).argmax(axis=1)

    def frechet_multiple(self, fake: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
        """Frechet distance from fake to test, divided by that from train to test.

        The distance depends on the number of images, so equally many of fake and train are used.
        """
        fake, train = images_in(fake, "Judge: fake"), images_in(train, "Judge: train")
        n, held_out = min(len(fake), len(train)), self.features(test)
        generated, real = (
            frechet_distance(self.features(images[:n]), held_out) for images in (fake, train)
        )
        if real == 0:
            raise ValueError(
                "Judge: the Frechet distance between train and test is 0, so there is no "
                "multiple of it; are they the same images?"
            )
        return generated / real

    def _in_parts(self, function: Callable[[Tensor], Tensor], images: np.ndarray) -> np.ndarray:
        images = images_in(images, "Judge: images")
        channels, side = self.model.in_channels, self.model.image_size
        if images.shape[1:] != (channels, side, side):
            raise ValueError(
                f"Judge: images have shape {images.shape}; this judge takes (N, {channels}, "
                f"{side}, {side})"
            )
        # All images at once would need gigabytes.
        parts = np.array_split(images, -(-len(images) // 256))
        with no_grad():
            return np.concatenate([function(Tensor(part)).numpy() for part in parts])


def images_in(images: np.ndarray, what: str) -> np.ndarray:
    """Images as an array (N, C, S, S) of finite floats, at least one. NaN is refused because the
    classifier would take it for some digit."""
    if not isinstance(images, np.ndarray) or number_kind(images) != "f":
        raise TypeError(
            f"{what} is {shown(images)}; it must be a plain NumPy array of floats, 0 to 1"
        )
    if images.ndim != 4 or not images.size or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"{what} has shape {images.shape}; it must be (N, C, S, S), with at least one image"
        )
    if not np.isfinite(images).all():
        raise ValueError(
            f"{what} of shape {images.shape} holds {(~np.isfinite(images)).sum()} numbers that are "
            "NaN or infinite; all must be finite"
        )
    return images


def judge_of(images: np.ndarray, labels: np.ndarray, epochs: int = 8, seed: int = 0) -> Judge:
    """A judge trained on images (N, C, S, S) float32 in [0, 1] and labels (N,). For 4,000 digits of
    MNIST this takes half a minute.

    The judge is kept in the cache folder and loaded from there the next time, if data, seed and
    recipe are the same. The state of the random number generators is restored afterwards, whether
    the judge was loaded or trained.
    """
    images, epochs = images_in(images, "judge_of: images"), size(epochs, "judge_of: epochs")
    seed = size(seed, "judge_of: seed")
    if (
        not isinstance(labels, np.ndarray)
        or number_kind(labels) not in ("i", "u")
        or labels.shape != (len(images),)
    ):
        raise TypeError(
            f"judge_of: labels are {shown(labels)}; they must be a plain NumPy array of integers "
            f"({len(images)},), one for each image"
        )
    if labels.min() < 0:
        raise IndexError(f"judge_of: labels hold {labels.min()}; classes are numbered from 0")
    print_of_images = zlib.crc32(np.ascontiguousarray(images).data)
    print_of_data = zlib.crc32(np.ascontiguousarray(labels).data, print_of_images)
    before = get_rng_state()
    try:
        manual_seed(seed)
        model = ConvNet(int(labels.max()) + 1, images.shape[-1], images.shape[1])

        def learn() -> dict[str, np.ndarray]:
            train(model, images, labels, epochs, seed)
            return {name: t.numpy().astype(np.float32) for name, t in model.state_dict().items()}

        shapes = {name: t.shape for name, t in model.state_dict().items()}
        made_with = f"{images.shape[-1]}-{epochs}-{seed}-{print_of_data:08x}"
        name = f"judge-{RECIPE}-{made_with}-numpy{np.__version__}"
        model.load_state_dict(cached(name, learn, shapes, "float32"))
    finally:
        set_rng_state(before)
    return Judge(model)


def train(model: ConvNet, images: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> None:
    """Train on digits that are rotated, moved and scaled a little, differently in every epoch."""
    loader = DataLoader(
        images,
        labels,
        batch_size=64,
        seed=seed,
        drop_last=len(images) >= 64,
        transform=lambda x, rng: random_affine(x, rng, degrees=10, translate=0.07),
    )
    optimizer = AdamW(model.parameters(), lr=3e-3)
    fit(
        model,
        optimizer,
        lambda m, x, y: cross_entropy(m(x), y, label_smoothing=0.05),
        loader,
        epochs,
        seed=seed,
        schedule=warmup_cosine(max(epochs, 1) * len(loader), warmup=len(loader) // 4),
        progress=False,
    )
