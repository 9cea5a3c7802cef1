"""Bits per dimension, dequantisation and binarisation."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.data import digits_8x8
from tinycv.likelihood.baselines import GaussianDensity
from tinycv.likelihood.units import (
    binarize,
    bits_per_dim,
    dequantize,
    log_prob_of_levels,
    quantize,
)

LEVELS = [2, 3, 10, 17, 49, 255, 256, 1000, 2**16]
SMALLEST, LARGEST = 0.0, float(np.nextafter(np.float32(1), np.float32(0)))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("noise", [SMALLEST, 1e-9, 0.5, LARGEST, 1.0])
def test_quantize_undoes_dequantize_exactly_for_every_level_and_the_extremes_of_noise(
    levels, noise
):
    counts = np.arange(levels)
    spread = dequantize(counts, levels, np.full(levels, noise))
    assert spread.dtype == np.float32 and spread.min() >= 0 and spread.max() < 1
    assert (quantize(spread, levels) == counts).all()


@pytest.mark.parametrize("levels", LEVELS)
def test_quantize_finds_the_levels_of_images_as_they_are_stored(levels):
    counts = np.arange(levels)
    # at 2^16 levels, the float32 number next to a level may belong to the next one
    for dtype in (np.float32, np.float64)[levels > 4096 :]:
        stored = np.divide(counts, levels - 1, dtype=dtype)
        assert (quantize(stored, levels) == counts).all()


def test_float16_is_refused_where_it_is_too_coarse():
    assert quantize(np.float16([0, 0.5, 1]), 17).tolist() == [0, 8, 16]
    with pytest.raises(TypeError, match="float16 is too coarse for 256 levels"):
        quantize(np.float16([0.5]), 256)


def test_the_digits_have_17_levels():
    images, _ = digits_8x8()
    counts = quantize(images, 17)
    assert set(np.unique(counts)) == set(range(17))
    assert (counts / 16 == images).all()


def test_functions_keep_the_kind_and_the_device_of_what_they_take(device):
    images = Tensor(np.array([[0, 0.25, 1]], np.float32), device=device)
    counts = quantize(images, 5)
    assert counts.device == device and counts.numpy().tolist() == [[0, 1, 4]]
    assert dequantize(counts, 5).device == binarize(images).device == device
    assert binarize(images, 0.25).numpy().tolist() == [[0, 1, 1]]
    assert (quantize(dequantize(counts, 5), 5).numpy() == counts.numpy()).all()
    bare = images.numpy()
    assert all(type(f) is np.ndarray for f in (quantize(bare, 5), binarize(bare)))


def test_values_out_of_range_become_nan_or_minus_1_on_a_gpu(double):
    images = Tensor(np.array([-0.1, 0.5, 1.5, np.nan], np.float32), device="gpu")
    assert np.isnan(binarize(images).numpy()).tolist() == [True, False, True, True]
    counts = quantize(images, 4)
    assert counts.numpy().tolist() == [-1, 2, -1, -1]
    assert np.isnan(dequantize(counts, 4).numpy()).tolist() == [True, False, True, True]


@pytest.mark.parametrize("wrong", [-0.01, 1.01, np.nan, np.inf])
def test_pixels_outside_0_to_1_are_refused(wrong):
    images = np.array([0.5, wrong], np.float32)
    for function in (lambda x: quantize(x, 17), binarize, lambda x: binarize(x, 0.5)):
        with pytest.raises(ValueError, match="holds .*; each must be between 0 and 1"):
            function(images)


def test_counts_that_are_no_levels_are_refused():
    for wrong in (-1, 17):
        with pytest.raises(ValueError, match=f"counts holds {wrong}; 17 levels are numbered"):
            dequantize(np.array([3, wrong]), 17)
    with pytest.raises(TypeError, match="dequantize: counts is .*whole numbers"):
        dequantize(np.array([0.5]), 17)


def test_dynamic_binarisation_draws_each_pixel_with_its_brightness_as_probability():
    tinycv.manual_seed(0)
    brightness = np.array([0, 0.1, 0.5, 0.9, 1], np.float32)
    drawn = binarize(np.tile(brightness, (20_000, 1)))
    assert set(np.unique(drawn)) == {0, 1}
    # five standard errors of a mean of 20,000 draws are at most 5 * 0.5 / 141 = 0.018
    np.testing.assert_allclose(drawn.mean(axis=0), brightness, atol=0.018)
    assert (drawn[:, 0] == 0).all() and (drawn[:, -1] == 1).all()


def test_dynamic_binarisation_differs_between_calls_and_a_threshold_does_not():
    images = np.full((8, 8), 0.5, np.float32)
    assert (binarize(images) != binarize(images)).any()
    assert (binarize(images, 0.5) == 1).all()


def test_a_black_pixel_is_never_drawn_white_even_if_the_uniform_number_is_0(monkeypatch):
    monkeypatch.setattr(
        "tinycv.engine.backend.uniform", lambda shape, like, dtype: np.zeros(shape, dtype)
    )
    assert binarize(np.array([0.0, 1e-30, 1.0])).tolist() == [0, 1, 1]


def test_one_bit_per_pixel_is_one_bit_per_dimension():
    assert bits_per_dim(-64 * math.log(2), 64) == pytest.approx(1)
    per_image = bits_per_dim(np.array([-64.0, -128]) * math.log(2), 64)
    np.testing.assert_allclose(per_image, [1, 2])


def test_a_positive_log_probability_of_levels_is_refused():
    with pytest.raises(ValueError, match="at most 0. Pass log P, not -log P"):
        bits_per_dim(13.0, 64)


def test_uniform_pixels_cost_the_logarithm_of_the_number_of_levels():
    """The density of uniform pixels in [0, 1) is 1, whatever the number of levels is."""
    for levels in (2, 17, 256):
        bound = log_prob_of_levels(0.0, levels, 64)
        assert bits_per_dim(bound, 64) == pytest.approx(math.log2(levels))


def test_the_dequantised_bound_is_at_most_the_log_probability_and_tight_for_flat_densities():
    """One pixel of 4 levels and a Gaussian density, whose integral over each bin is known: the mean
    over the noise is below log P by Jensen's inequality, and close to it for a wide Gaussian."""
    u = (np.arange(1000) + 0.5) / 1000
    for deviation, most in ((0.2, 0.5), (2.0, 0.002)):
        density = GaussianDensity(np.array([[0.5 - deviation], [0.5 + deviation]]))
        for count in range(4):
            y = (count + u) / 4
            log_p = density.log_prob(y[:, None])
            bound = log_prob_of_levels(log_p, 4, 1).mean()
            exact = math.log(np.exp(log_p).mean() / 4)
            assert 0 < exact - bound < most
