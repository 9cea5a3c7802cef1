"""The palette survives colour blindness, simulated after Machado, Oliveira & Fernandes 2009."""

from itertools import combinations

import numpy as np
import pytest

from tinycv.show import colours

# Severity 1.0, on linear RGB: their table 1
SIMULATIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
# linear sRGB to CIE XYZ, and the white point D65
XYZ = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
WHITE = np.array([0.9505, 1.0, 1.0888])


def lab(colour, simulation):
    """CIE L*a*b* of a colour "#rrggbb", as an eye of this kind sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIMULATIONS[simulation]) @ linear, 0, 1)
    ratio = np.array(XYZ) @ seen / WHITE
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a, b, simulation):
    return np.linalg.norm(lab(a, simulation) - lab(b, simulation))


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_any_two_lines_can_be_told_apart(simulation):
    for a, b in combinations(colours.LINES, 2):
        assert distance(a, b, simulation) > 30, (a, b)


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_the_simulation_sees_that_red_and_green_are_close_to_one_another(simulation):
    red_and_green = distance("#b2182b", "#1b7837", simulation)
    assert (red_and_green > 90) == (simulation == "normal")
