"""Densities, shapes, surfaces and the lecture's sentences: the error for a wrong argument names
it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_calls import riddles

from tinycv.data import densities, shapes, surfaces
from tinycv.data.lecture import lecture

RNG, POINTS = np.random.default_rng(0), np.random.default_rng(1).standard_normal((4, 3))
RING, BOARD, BAND = shapes.ring(), shapes.checkerboard(), surfaces.moebius()
CALLS = {
    "gaussian": (shapes.gaussian, {"mean": [0.0, 1.0], "covariance": np.eye(2)}),
    "two_modes": (shapes.two_modes, {"distance": 5.0, "weight": 0.8}),
    "ring": (shapes.ring, {"modes": 8, "radius": 1.0, "sigma": 0.1}),
    "grid": (shapes.grid, {"side": 2, "step": 2.0, "sigma": 0.1}),
    "two_moons": (shapes.two_moons, {"sigma": 0.1, "points": 5}),
    "rings": (shapes.rings, {"radii": [1.0, 2.0], "sigma": 0.1, "points": 5}),
    "checkerboard": (shapes.checkerboard, {"squares": 4, "side": 2.0}),
    "picture": (shapes.picture, {"ink": np.eye(3), "width": 6.0, "blur": 0.5}),
    "Mixture": (densities.Mixture, {"means": [[0.0, 1.0]], "sigma": 0.5, "weights": [1.0]}),
    "Boxes:": (densities.Boxes, {"low": [[0.0, 0.0]], "high": [[1.0, 1.0]], "weights": [1.0]}),
    "Mixture.sample": (RING.sample, {"n": 3, "rng": RNG}),
    "Boxes.sample": (BOARD.sample, {"n": 3, "rng": RNG}),
    "Surface.sample": (BAND.sample, {"n": 3, "rng": RNG}),
    "Mixture: ": (RING.score, {"x": POINTS[:, :2], "noise": 0.5}),
    "Boxes: ": (BOARD.log_density, {"x": POINTS[:, :2], "noise": 0.5}),
    "entropy": (densities.entropy, {"density": RING, "reach": 2.0, "cells": 10}),
    "moebius": (surfaces.moebius, {"half": 0.4}),
    "swiss_roll": (surfaces.swiss_roll, {"half": 1.0}),
    "Surface.nearest": (BAND.nearest, {"x": POINTS, "rods": 20}),
    "Surface.distance": (BAND.distance, {"x": POINTS}),
    "Surface.cell": (BAND.cell, {"x": POINTS, "along": 4, "across": 2}),
    "Surface.cell_shares": (BAND.cell_shares, {"along": 4, "across": 2, "finer": 3}),
    "lecture": (lecture, {"seed": 0, "held_out": 5}),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_argument_is_named_in_the_error(name):
    function, good = CALLS[name]
    function(**good)
    found = riddles(function, good, name)
    assert not found, "\n".join(found)


def test_the_cell_of_a_nan_point_is_refused():
    with pytest.raises(ValueError, match="Surface.cell: x holds NaN or infinity"):
        BAND.cell(np.array([[0.0, np.nan, 1.0]]), 4, 2)


NOISE = {
    "float": lambda s: s,
    "float32": lambda s: np.float32(s),
    "0-d array": lambda s: np.array(s),
    "(N,)": lambda s: np.full(3, s),
    "(N, 1)": lambda s: np.full((3, 1), s, np.float32),
}


DENSITIES = [shapes.ring(), shapes.gaussian([0.0, 1.0], np.eye(2)), shapes.checkerboard()]


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize(
    "x",
    [np.zeros((3, 2), int), [[0.0, 1.0]], np.zeros((3, 2), complex), None, np.zeros((3, 2), bool)],
)
def test_points_of_whole_numbers_are_refused(density, x):
    for function in (density.score, density.log_density):
        with pytest.raises(TypeError, match="(Mixture|Boxes): x is"):
            function(x, 0.1)


@pytest.mark.parametrize("density", DENSITIES)
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.3, 0.0, -0.1, np.nan, np.inf]),
    st.sampled_from(["float", "float32", "0-d array", "(N,)", "(N, 1)"]),
)
def test_noise_that_is_no_standard_deviation_is_refused_in_every_container(density, value, kind):
    x, noise = np.array([[0.5, 0.5], [1.0, -1.0], [0.1, 0.2]]), NOISE[kind](value)
    if value == 0.3:
        np.testing.assert_allclose(
            density.score(x, noise), density.score(x, 0.3), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            density.log_density(x, noise), density.log_density(x, 0.3), rtol=1e-5, atol=1e-5
        )
    elif value != 0:
        with pytest.raises(ValueError, match="(Mixture|Boxes): noise"):
            density.log_density(x, noise)


@pytest.mark.parametrize(
    "make",
    [
        lambda: densities.Mixture([[0.0, np.nan]], 1.0),
        lambda: densities.Mixture([[0.0, 1.0]], np.nan),
        lambda: densities.Mixture([[0.0, 1.0]], "1"),
        lambda: densities.Mixture([[0.0, 1.0]], 1.0, [np.nan]),
        lambda: densities.Mixture([[0.0, 1.0]], covariance=[[1.0, np.nan], [np.nan, 1.0]]),
        lambda: densities.Mixture([[0.0, 1.0]], covariance=[[1.0, 0.5], [0.2, 1.0]]),
        lambda: densities.Mixture([[1j, 0]], 1.0),
        lambda: densities.Boxes([[0.0, 0.0]], [[1.0, np.inf]]),
        lambda: densities.Boxes([["a", "b"]], [[1.0, 1.0]]),
        lambda: shapes.ring(0),
        lambda: shapes.ring(2.5),
        lambda: shapes.grid(5, -1.0),
        lambda: shapes.two_moons(np.nan),
        lambda: shapes.rings([1.0, 0.0]),
        lambda: shapes.rings([]),
        lambda: shapes.checkerboard(0),
        lambda: shapes.picture(np.zeros((3, 3))),
        lambda: shapes.picture(np.full((3, 3), np.nan)),
        lambda: shapes.two_modes(weight=1.5),
        lambda: densities.entropy(shapes.ring(), 0.0),
        lambda: densities.entropy(shapes.ring(), 1.0, 0),
        lambda: shapes.ring().sample(2.0, np.random.default_rng(0)),
        lambda: shapes.ring().sample(2, 0),
        lambda: shapes.gaussian([0.0], np.eye(2)),
    ],
)
def test_arguments_that_make_no_density_are_refused(make):
    with pytest.raises((TypeError, ValueError), match=r"^\w+(\.\w+)?: "):
        make()
