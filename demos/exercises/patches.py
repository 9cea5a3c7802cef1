"""ViT patches: cut an image into patches, and flatten each patch

    x (H, W, C)  ->  x_p (N, P P C),   N = H W / P^2        Dosovitskiy et al. 2021, x_p of eq. 1

A Vision Transformer reads an image as a sequence of patches of P x P pixels, as a text model reads
words. Patches are ordered like words on a page: row by row from the top left. Inside a patch the
order here is channel, row, column, like that of a convolution's weights (the paper's is row,
column, channel):

    patches[b, i (W/P) + j, (c P + y) P + x] = images[b, c, i P + y, j P + x]

i and j count the rows and columns of patches, y and x those of pixels inside a patch.

Shapes: B images, C channels, H x W pixels, both multiples of P.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv.vision.vit import patchify as patchify_of_package


def patchify(images, p):
    """images (B, C, H, W). p: P, the side of a patch. Returns (B, N, C P P)."""
    b, c, h, w = images.shape
    cut = images.reshape((b, c, h // p, p, w // p, p))  # (B, C, i, y, j, x)
    ordered = cut.transpose((0, 2, 4, 1, 3, 5))  # (B, i, j, C, y, x)
    return ordered.reshape((b, (h // p) * (w // p), c * p * p))


normal = np.random.default_rng(23).standard_normal
EXERCISE = Exercise(
    parts=[
        Definition(
            patchify,
            reference=patchify_of_package,
            cases=[
                (normal((1, 1, 4, 4)), 2),
                (normal((2, 3, 4, 6)), 2),
                (normal((1, 2, 6, 3)), 3),
                (normal((2, 2, 3, 2)), 1),
            ],
            order=1,
            wrong=[
                Wrong(
                    "a reshape alone",
                    "cut.transpose((0, 2, 4, 1, 3, 5))",
                    "cut",
                    "reshape never moves a number, so your patches are strips of pixels. First "
                    "cut H into (H/P, P) and W into (W/P, P), then bring the axes into the order "
                    "of the result, and only then flatten.",
                ),
                Wrong(
                    "the channels last",
                    "(0, 2, 4, 1, 3, 5)",
                    "(0, 2, 4, 3, 5, 1)",
                    "Inside a patch your order is row, column, channel. Here it is channel, row, "
                    "column.",
                ),
                Wrong(
                    "patches column by column",
                    "(0, 2, 4, 1, 3, 5)",
                    "(0, 4, 2, 1, 3, 5)",
                    "Your patches go down the columns of the image. They are read like text, row "
                    "by row.",
                ),
                Wrong(
                    "transposed patches",
                    "(0, 2, 4, 1, 3, 5)",
                    "(0, 2, 4, 1, 5, 3)",
                    "The patches are in the right order, but each one is transposed: inside a "
                    "patch rows come before columns.",
                ),
                Wrong(
                    "pixels far apart in one patch",
                    "images.reshape((b, c, h // p, p, w // p, p))",
                    "images.reshape((b, c, p, h // p, p, w // p)).transpose((0, 1, 3, 2, 5, 4))",
                    "Your patches take every (H/P)-th row and every (W/P)-th column. Neighbouring "
                    "pixels belong together: cut H into (H/P, P), in this order.",
                ),
            ],
        )
    ],
    names=("concatenate", "stack", "split", "einsum"),
    hint="one reshape to six axes, one transpose, one reshape to three axes.",
    read="tinycv/vision/vit.py: its docstring and the function patchify.",
)
