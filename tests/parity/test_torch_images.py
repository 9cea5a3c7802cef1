"""Instance norm, resizing, shuffling and padding of images compared with PyTorch, both ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, agree_as_layers

from tinycv import Tensor, nn
from tinycv.nn import functional as F

TF = torch.nn.functional
RNG = np.random.default_rng(0)
X, FAR = RNG.normal(size=(2, 3, 5, 7)), 10 + RNG.normal(size=(2, 3, 4, 6))
W, B = RNG.normal(size=3), RNG.normal(size=3)

every_dtype = pytest.mark.parametrize("dtype", DTYPES)

NORMS = {
    "plain": (F.instance_norm, TF.instance_norm, [X]),
    "of rows": (F.instance_norm, TF.instance_norm, [X[:, :, 0]]),
    "of volumes": (F.instance_norm, TF.instance_norm, [X.reshape(2, 3, 5, 7, 1)]),
    "weighted": (F.instance_norm, lambda x, w, b: TF.instance_norm(x, None, None, w, b), [X, W, B]),
    "with a large eps": (
        lambda x: F.instance_norm(x, eps=0.5),
        lambda x: TF.instance_norm(x, eps=0.5),
        [FAR],
    ),
}


@every_dtype
@pytest.mark.parametrize("name", NORMS)
def test_instance_norm_and_its_gradients_match_pytorch(name, dtype):
    agree(*NORMS[name], dtype)


@every_dtype
@pytest.mark.parametrize("affine", [False, True])
def test_the_instance_norm_layer_with_the_weights_of_pytorch_matches_it(affine, dtype):
    agree_as_layers(
        nn.InstanceNorm2d(3, affine=affine), torch.nn.InstanceNorm2d(3, affine=affine), [FAR], dtype
    )


@every_dtype
def test_adain_and_both_gradients_match_the_formula_in_pytorch(dtype):
    def theirs(content, style, eps=1e-5):
        def statistics(x):
            return x.mean((2, 3), True), (x.var((2, 3), correction=0, keepdim=True) + eps).sqrt()

        (mean, deviation), (target_mean, target) = statistics(content), statistics(style)
        return target * (content - mean) / deviation + target_mean

    agree(F.adaptive_instance_norm, theirs, [X, FAR], dtype)


def test_pytorch_refuses_a_single_pixel_too():
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        TF.instance_norm(torch.ones(2, 3, 1, 1))
    with pytest.raises(ValueError, match="one pixel per channel"):
        F.instance_norm(Tensor(np.ones((2, 3, 1, 1))))


MODES = {
    "nearest": {"mode": "nearest"},
    "bilinear": {"mode": "bilinear"},
    "bilinear, False": {"mode": "bilinear", "align_corners": False},
    "bilinear, True": {"mode": "bilinear", "align_corners": True},
}
SIZES = [
    *({"size": s} for s in ((5, 7), (10, 14), (10, 7), (3, 4), (1, 1), (13, 2), 4, (11, 15))),
    *({"scale_factor": f} for f in (2, 0.5, 1.5, (2, 3), (0.7, 1.3), 2.3, 1.0, 0.3, 3.0, 2.05)),
]


@every_dtype
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_resized_image_and_its_gradient_match_pytorch(size, mode, dtype):
    options = {**size, **MODES[mode]}
    agree(lambda x: F.interpolate(x, **options), lambda x: TF.interpolate(x, **options), [X], dtype)


def rows_taken(old, **options):
    """([the old row that each new row copies], the same in PyTorch)."""
    numbers = np.arange(old, dtype=np.float32).reshape(1, 1, old, 1)
    taken = F.interpolate(Tensor(numbers), **options).numpy()
    theirs = TF.interpolate(torch.tensor(numbers), **options).numpy()
    return taken.ravel().tolist(), theirs.ravel().tolist()


def test_nearest_takes_the_same_rows_as_pytorch_at_all_sizes_up_to_40():
    for old, new in itertools.product(range(1, 41), repeat=2):
        taken, theirs = rows_taken(old, size=(new, 1))
        assert taken == theirs, (old, new)


def test_nearest_takes_the_same_rows_as_pytorch_at_many_scale_factors():
    for old, factor in itertools.product(range(1, 20), np.arange(0.1, 5, 0.11).tolist()):
        if int(old * factor):
            taken, theirs = rows_taken(old, scale_factor=(factor, 1.0))
            assert taken == theirs, (old, factor)


def test_align_corners_is_refused_in_nearest_mode_as_in_pytorch():
    for function, x in ((F.interpolate, Tensor(X)), (TF.interpolate, torch.tensor(X))):
        with pytest.raises(ValueError, match="align_corners"):
            function(x, size=3, mode="nearest", align_corners=False)


@every_dtype
@pytest.mark.parametrize("mode", MODES)
def test_the_upsample_layer_matches_pytorch(mode, dtype):
    agree(
        nn.Upsample(scale_factor=2, **MODES[mode]),
        torch.nn.Upsample(scale_factor=2, **MODES[mode]),
        [X],
        dtype,
    )


SQUARES = RNG.normal(size=(2, 9, 6, 12))


@every_dtype
@pytest.mark.parametrize("r", [1, 2, 3])
def test_pixel_unshuffle_and_its_gradient_match_pytorch(r, dtype):
    agree(nn.PixelUnshuffle(r), torch.nn.PixelUnshuffle(r), [SQUARES], dtype)


@every_dtype
@pytest.mark.parametrize("r", [1, 3])
def test_pixel_shuffle_and_its_gradient_match_pytorch(r, dtype):
    agree(nn.PixelShuffle(r), torch.nn.PixelShuffle(r), [SQUARES], dtype)


PADS = [(0, 0, 0, 0), (1, 2, 3, 4), (4, 0, 0, 1), (6, 6, 4, 4)]


@every_dtype
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("amounts", PADS, ids=str)
def test_padding_and_its_gradient_match_pytorch(amounts, mode, dtype):
    agree(lambda x: F.pad(x, amounts, mode), lambda x: TF.pad(x, amounts, mode), [X], dtype)


@every_dtype
@pytest.mark.parametrize("padding", [2, (1, 0, 2, 3)], ids=str)
@pytest.mark.parametrize("name", ["ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d"])
def test_a_padding_layer_matches_pytorch(name, padding, dtype):
    agree(getattr(nn, name)(padding), getattr(torch.nn, name)(padding), [X], dtype)


def test_a_value_other_than_0_matches_pytorch():
    ours = F.pad(Tensor(X), (1, 1, 2, 0), value=-2.5)
    theirs = TF.pad(torch.tensor(X), (1, 1, 2, 0), value=-2.5)
    assert (ours.numpy() == theirs.numpy()).all()
