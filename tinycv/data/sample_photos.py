"""sample_photo: photographs and textures that ship with scikit-learn and scikit-image.

    x = sample_photo("china", size=96)                      the square in the middle
    x = sample_photo("flower", size=96, box=(110, 220, 190))     one part of it, magnified

All of them are files of the two packages, so nothing is downloaded (other pictures of
skimage.data would be). The textures are grey; they come with three equal channels.

china and flower (scikit-learn) are licensed CC BY 2.0, which demands that the authors are named
wherever the photos are shown: ``credit``. The pictures of scikit-image are in the public domain,
CC0, or free of known restrictions, as its documentation says.
"""

from __future__ import annotations

import numpy as np

from tinycv.data import inputs
from tinycv.data.extra import import_extra
from tinycv.data.photos import LARGEST_SIDE, square
from tinycv.engine.arguments import choice, shown, sizes

# who made each picture
PHOTOS = {
    "china": "danielbuechele, CC BY 2.0",
    "flower": "vultilion, CC BY 2.0",
    "astronaut": "NASA",
    "chelsea": "Stefan van der Walt, CC0",
    "coffee": "Rachel Michetti, CC0",
    "rocket": "SpaceX",
    "hubble_deep_field": "NASA",
    "immunohistochemistry": "CMMI",
    "retina": "Mikael Haggstrom, CC0",
}
TEXTURES = {
    "brick": "CC0Textures, CC0",
    "grass": "linolafett, CC0",
    "gravel": "CC0Textures, CC0",
}
ALL = PHOTOS | TEXTURES
OF_SCIKIT_LEARN = ("china", "flower")


def sample_photo(
    name: str, size: int | None = None, box: tuple[int, int, int] | None = None
) -> np.ndarray:
    """A photo or texture as (3, H, W) float32 in [0, 1].

    name: one of PHOTOS or TEXTURES. box: (top, left, side), the square of pixels to cut out. size:
    the side of the square that is returned; without a box it shows the middle of the photo. Without
    size the pixels are not scaled.
    """
    choice(name, "sample_photo: name", ALL)
    if size is not None:
        size = inputs.whole(size, "sample_photo: size", 1, LARGEST_SIDE)
    pixels = _pixels(name)  # (H, W, 3), uint8
    if box is not None:
        pixels = _cut(pixels, name, box)
    if size is None:
        return np.divide(pixels.transpose(2, 0, 1), 255, dtype=np.float32)
    return square(import_extra("PIL.Image", "Pillow").fromarray(pixels), size, resample="lanczos")


def credit(names: list[str] | tuple[str, ...]) -> str:
    """The authors of the photos, for the picture that shows them: "china: danielbuechele, ..."."""
    if isinstance(names, str) or not isinstance(names, (list, tuple)):
        raise TypeError(f"credit: names is {shown(names)}; it must be a list of names of photos")
    for name in names:
        choice(name, "credit: names", ALL)
    return "; ".join(f"{name}: {ALL[name]}" for name in dict.fromkeys(names))


def _pixels(name: str) -> np.ndarray:
    """The whole photo, (H, W, 3) uint8."""
    if name in OF_SCIKIT_LEARN:
        return import_extra("sklearn.datasets", "scikit-learn").load_sample_image(f"{name}.jpg")
    pixels = getattr(import_extra("skimage.data", "scikit-image"), name)()
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _cut(pixels: np.ndarray, name: str, box: tuple[int, int, int]) -> np.ndarray:
    """The square ``box`` of the photo."""
    top, left, side = sizes(box, "sample_photo: box", 3)
    height, width = pixels.shape[:2]
    if side < 1 or top + side > height or left + side > width:
        raise ValueError(
            f"sample_photo: box is {(top, left, side)}, a square of {side} pixels from row {top}, "
            f"column {left}; it must lie inside {name}, which is {height} x {width}"
        )
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


class PhotoCrops:
    """Random square crops of some photos, at random sizes, mirrored at random: for training.

    pictures: (3, H, W) floats from 0 to 1, as ``sample_photo`` returns them. size: the side of a
    crop. Each photo is also kept at a half, a quarter, ... of its size, down to twice the size of a
    crop.
    """

    def __init__(self, pictures: list[np.ndarray], size: int):
        self.size = inputs.whole(size, "PhotoCrops: size", 1, LARGEST_SIDE)
        if not isinstance(pictures, (list, tuple)) or not pictures:
            raise TypeError(
                f"PhotoCrops: pictures is {shown(pictures)}; it must be a list of at least one "
                "photo (3, H, W)"
            )
        self.scales = [
            halvings(_picture(picture, f"PhotoCrops: pictures[{i}]", self.size), 2 * self.size)
            for i, picture in enumerate(pictures)
        ]

    def __call__(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray]:
        """(crops (n, 3, size, size),), drawn by the generator, as DrawnLoader takes them."""
        n = inputs.drawn("PhotoCrops", n, rng)
        crops = np.empty((n, 3, self.size, self.size), np.float32)
        for i in range(n):
            scales = self.scales[rng.integers(len(self.scales))]
            picture = scales[rng.integers(len(scales))]
            _, height, width = picture.shape
            top = rng.integers(height - self.size + 1)
            left = rng.integers(width - self.size + 1)
            crop = picture[:, top : top + self.size, left : left + self.size]
            crops[i] = crop[:, :, ::-1] if rng.random() < 0.5 else crop
        return (crops,)


def _picture(value: np.ndarray, what: str, least: int) -> np.ndarray:
    """A photo (3, H, W), floats from 0 to 1, with sides of at least ``least``."""
    picture = inputs.array(value, what, "a photo (3, H, W), floats", "f", ndim=3)
    if picture.shape[0] != 3 or min(picture.shape[1:]) < least:
        raise ValueError(
            f"{what} has shape {picture.shape}; it must be (3, H, W), with H and W at least {least}"
        )
    if not ((picture >= 0) & (picture <= 1)).all():  # also refuses NaN
        raise ValueError(
            f"{what} runs from {picture.min():g} to {picture.max():g}; it must be a photo (3, H, W)"
            " of floats from 0 to 1"
        )
    return picture


def halvings(picture: np.ndarray, least: int) -> list[np.ndarray]:
    """The picture (3, H, W), at its size, half of it, and so on while both sides have at least
    ``least`` pixels."""
    least = inputs.whole(least, "halvings: least", 1)
    scales = [_picture(picture, "halvings: picture", 1)]
    while min(scales[-1].shape[1:]) // 2 >= least:
        _, height, width = scales[-1].shape
        even = scales[-1][:, : height // 2 * 2, : width // 2 * 2]
        blocks = even.reshape(3, height // 2, 2, width // 2, 2)
        scales.append(blocks.mean(axis=(2, 4), dtype=np.float32))
    return scales
