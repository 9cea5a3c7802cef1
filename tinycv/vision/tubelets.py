"""Tubelets, the spacetime patches of a video: boxes of t frames x h x w pixels, which become the
tokens of a Transformer (ViViT, Sora).

    video (B, T, C, H, W)  ->  tokens (B, N, C t h w),   N = (T / t) (H / h) (W / w)
                                             Arnab et al. 2021 (ViViT), section 3.2

ViT cuts an image into squares.  A video is also cut along a third axis, time.  A token then
contains a little motion: with t = 2 it shows a ball in two successive frames, and a linear
projection can already read a velocity from it.  Sora calls these boxes spacetime patches, and cuts
a compressed video into them (Brooks et al. 2024).  The tokens are a plain sequence, so one
Transformer reads videos of any length and size.  It also needs the place of each box in time,
height and width (``tubelet_grid`` here; sequence/positions.py and sequence/rotary.py).

Read first: vit.py, whose ``patchify`` is the case of one frame.
Shapes: B videos, T frames, C channels, H x W pixels; (t, h, w) the sides of a tubelet; N tubelets.
"""

from __future__ import annotations

from tinycv.engine.arguments import sizes
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.vision import inputs

VIDEO_AXES = ("frames", "rows of pixels", "columns of pixels")


def patchify_video(video: ArrayLike, patch_size: tuple[int, int, int]) -> Tensor:
    """Cut videos (B, T, C, H, W) into tubelets of patch_size = (t, h, w) and flatten each tubelet:
    (B, N, C t h w). The tubelets are ordered by time, then row by row from the top left.

    A tubelet is flattened in the order channel, frame, row, column, like the weights of a 3-D
    convolution whose stride is the size of a tubelet.
    """
    x = inputs.array_like(video, "patchify_video: video", "videos (B, T, C, H, W)", 5)
    t, h, w = sizes(patch_size, "patchify_video: patch_size", 3, least=1)
    frames, rows, columns = tubelet_grid(x.shape, (t, h, w), "patchify_video")
    b, c = x.shape[0], x.shape[2]
    cut = x.reshape((b, frames, t, c, rows, h, columns, w))  # (B, T/t, t, C, H/h, h, W/w, w)
    ordered = cut.transpose((0, 1, 4, 6, 3, 2, 5, 7))  # (B, T/t, H/h, W/w, C, t, h, w)
    return ordered.reshape((b, frames * rows * columns, c * t * h * w))


def unpatchify_video(
    patches: ArrayLike, patch_size: tuple[int, int, int], shape: tuple[int, ...]
) -> Tensor:
    """The inverse of ``patchify_video``: tubelets (B, N, C t h w) to videos of ``shape``,
    (B, T, C, H, W)."""
    x = inputs.array_like(patches, "unpatchify_video: patches", "tubelets (B, N, C t h w)", 3)
    t, h, w = sizes(patch_size, "unpatchify_video: patch_size", 3, least=1)
    b, time, c, height, width = sizes(shape, "unpatchify_video: shape", 5)
    frames, rows, columns = tubelet_grid((b, time, c, height, width), (t, h, w), "unpatchify_video")
    if tuple(x.shape) != (b, frames * rows * columns, c * t * h * w):
        raise ValueError(
            f"unpatchify_video: patches of shape {tuple(x.shape)} do not fill videos of shape "
            f"{(b, time, c, height, width)} with patch_size {(t, h, w)}; they must be "
            f"{(b, frames * rows * columns, c * t * h * w)}, as patchify_video returns"
        )
    cut = x.reshape((b, frames, rows, columns, c, t, h, w))  # (B, T/t, H/h, W/w, C, t, h, w)
    ordered = cut.transpose((0, 1, 5, 4, 2, 6, 3, 7))  # (B, T/t, t, C, H/h, h, W/w, w)
    return ordered.reshape((b, time, c, height, width))


def tubelet_grid(
    shape: tuple[int, ...], patch_size: tuple[int, int, int], who: str = "tubelet_grid"
) -> tuple[int, int, int]:
    """How many tubelets a video of ``shape``, (B, T, C, H, W), has along time, height and width:
    (T / t, H / h, W / w). who: the function that an error names.

    ValueError unless the tubelets fill the video exactly.
    """
    shape = sizes(shape, f"{who}: shape", 5)
    sides = sizes(patch_size, f"{who}: patch_size", 3, least=1)
    whole = shape[1], shape[3], shape[4]  # T, H, W
    for name, length, side in zip(VIDEO_AXES, whole, sides, strict=True):
        if length % side:
            longer = length + side - length % side
            cut = f"cut it to {length - length % side}, " if length > side else ""
            raise ValueError(
                f"{who}: a video of {length} {name} cannot be divided into tubelets of {side}; "
                f"{cut}pad it to {longer}, or choose another patch_size"
                f"{channels_first_hint(shape)}"
            )
    frames, rows, columns = (length // side for length, side in zip(whole, sides, strict=True))
    return frames, rows, columns


def channels_first_hint(shape: tuple[int, ...]) -> str:
    """How to move the channels, if ``shape`` looks like (B, T, H, W, C) instead of (B, T, C, H, W):
    more channels than columns, and at most four columns. Otherwise an empty text."""
    if shape[4] > 4 or shape[2] <= shape[4]:
        return ""
    return (
        f"; if {tuple(shape)} is (B, T, H, W, C), make it (B, T, C, H, W) by "
        "video.transpose((0, 1, 4, 2, 3))"
    )
