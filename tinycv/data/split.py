"""Train-test split by class (stratified): hold images out for the test, without copies in training.

    train, test = split_by_class(images, labels, held_out=0.2, seed=0)

The same share of each class is held out, so a rare class is tested too. A folder of photos often
holds the same photo twice. If one copy were in the training part and the other in the test, the
accuracy would be too high; so all images with the same pixels stay on one side.
"""

from __future__ import annotations

import warnings
from hashlib import blake2b

import numpy as np

from tinycv.data import inputs
from tinycv.engine.arguments import number

Part = tuple[np.ndarray, np.ndarray]  # images (N, ...) and labels (N,)


def split_by_class(
    images: np.ndarray, labels: np.ndarray, held_out: float = 0.2, seed: int = 0
) -> tuple[Part, Part]:
    """(train_images, train_labels), (test_images, test_labels), both in random order.

    images (N, ...), labels (N,) class numbers. held_out: the share of each class in the test part,
    rounded to whole images, but both parts get at least one.
    A warning says how many images have copies, how many copies have different labels (no answer to
    these would be right, so they are in the training part), and which classes cannot be tested,
    because all their other images are copies of one (it is in the training part) or there are none.
    """
    images = inputs.array(images, "split_by_class: images", "images (N, C, H, W)")
    if not images.ndim or not len(images):
        raise ValueError(
            f"split_by_class: images has shape {images.shape}; there must be at least one image"
        )
    labels = inputs.class_numbers(labels, "split_by_class: labels", count=len(images))
    held_out = number(held_out, "split_by_class: held_out", above=0, below=1)
    rng = np.random.default_rng(inputs.whole(seed, "split_by_class: seed", most=2**63))
    groups = _copies(images)
    contradictory = [group for group in groups if len(set(labels[group].tolist())) > 1]
    by_class: dict[int, list[list[int]]] = {int(label): [] for label in np.unique(labels)}
    for group in groups:
        if group not in contradictory:
            by_class[int(labels[group[0]])].append(group)
    is_test = np.zeros(len(images), bool)
    untested = []
    for label, own in by_class.items():
        count = int((labels == label).sum())
        if not own or (len(own) == 1 and len(own[0]) == count):  # nothing would be left to learn
            untested.append(label)
            continue
        wanted = min(max(round(held_out * count), 1), count - 1)
        is_test[_some([own[i] for i in rng.permutation(len(own))], wanted)] = True
    _report(sum(len(group) - 1 for group in groups), sum(map(len, contradictory)), untested)
    train = rng.permutation(np.flatnonzero(~is_test))
    test = rng.permutation(np.flatnonzero(is_test))
    return (images[train], labels[train]), (images[test], labels[test])


def digest_of(image: np.ndarray) -> bytes:
    """A fingerprint of the pixels: images have the same fingerprint only if they are equal."""
    return blake2b(np.ascontiguousarray(image).data.cast("B"), digest_size=16).digest()


def _copies(images: np.ndarray) -> list[list[int]]:
    """The numbers of the images, those with the same pixels together."""
    groups: dict[bytes, list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault(digest_of(image), []).append(i)
    return list(groups.values())


def _some(groups: list[list[int]], wanted: int) -> list[int]:
    """Members of whole groups, at most ``wanted`` of them; or one group, the smallest, if each has
    more."""
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    return chosen or min(groups, key=len)


def _report(copies: int, contradictory: int, untested: list[int]) -> None:
    """Warnings about images that the split cannot treat as any other."""
    reports = []
    if copies:
        reports.append(
            f"some images are copies of others ({copies}); all copies of an image are on one side"
        )
    if contradictory:
        reports.append(
            f"images of several classes have the same pixels ({contradictory}); they are in the "
            "training part, because no answer to them would be right"
        )
    if untested:
        reports.append(
            f"nothing is tested of classes {untested}, which have only one image, copies of one, "
            "or only images that other classes have too; they are in the training part"
        )
    for report in reports:
        warnings.warn(f"split_by_class: {report}", RuntimeWarning, stacklevel=3)
