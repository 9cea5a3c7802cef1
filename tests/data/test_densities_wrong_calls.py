"""Densities, shapes, surfaces and the lecture's sentences: a wrong argument gets a sentence that names it."""
from __future__ import annotations

import numpy as np
import pytest
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
    "lecture": (lecture, {"seed": 0, "held": 5}),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_call_gets_a_sentence(name):
    function, good = CALLS[name]
    function(**good)
    found = riddles(function, good, name)
    assert not found, "\n".join(found)


def test_the_nearest_place_to_nan_is_refused():
    with pytest.raises(ValueError, match="Surface.cell: x holds NaN or infinity"):
        BAND.cell(np.array([[0.0, np.nan, 1.0]]), 4, 2)
