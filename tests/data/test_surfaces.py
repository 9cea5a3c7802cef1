"""Surfaces: samples are uniform over the area, and the nearest point is found."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED

from tinycv.data.surfaces import moebius, swiss_roll

SURFACES = {"moebius": moebius(), "swiss_roll": swiss_roll()}


@pytest.fixture(params=SURFACES)
def surface(request):
    return SURFACES[request.param]


def places(surface, n):
    rng = np.random.default_rng(SEED)
    return rng.uniform(surface.start, surface.end, n), rng.uniform(-surface.half, surface.half, n)


def test_the_area_element_agrees_with_finite_differences(surface):
    u, v = places(surface, 50)
    h = 1e-6
    along = (surface.points(u + h, v) - surface.points(u - h, v)) / (2 * h)
    np.testing.assert_allclose(
        surface.area(u, v), np.linalg.norm(np.cross(along, surface.rod(u)), axis=1), rtol=1e-8
    )
    np.testing.assert_allclose(np.linalg.norm(surface.rod(u), axis=1), 1)


@pytest.mark.statistical
def test_samples_are_uniform_over_the_area(surface):
    n, share = 10_000, surface.cell_shares(20, 4)
    x = surface.sample(n, np.random.default_rng(SEED + 1))
    count = np.bincount(surface.cell(x, 20, 4), minlength=80)
    # chi-squared, 79 degrees of freedom: 3e-7 outside
    assert 31 < ((count - n * share) ** 2 / (n * share)).sum() < 159
    assert surface.distance(x[:500]).max() < 1e-6


@pytest.mark.statistical
def test_uniform_parameters_are_not_uniform_over_the_area(surface):
    x = surface.points(*places(surface, 10_000))
    count, expected = (
        np.bincount(surface.cell(x, 20, 4), minlength=80),
        10_000 * surface.cell_shares(20, 4),
    )
    assert ((count - expected) ** 2 / expected).sum() > 150


def test_no_point_of_a_fine_mesh_is_nearer_than_the_nearest_point(surface):
    x = np.random.default_rng(2).uniform(-1.5, 1.5, (60, 3))
    mesh = surface.points(*surface._centres(2000, 60))
    to_mesh = np.array([np.linalg.norm(mesh - point, axis=1).min() for point in x])
    assert (surface.distance(x) <= to_mesh + 1e-12).all()
    np.testing.assert_allclose(surface.distance(x), to_mesh, atol=0.02)


def test_a_point_moved_off_the_sheet_has_the_distance_of_the_move(surface):
    u, v = places(surface, 200)
    h = 1e-6
    normal = np.cross(
        (surface.points(u + h, v) - surface.points(u - h, v)) / (2 * h), surface.rod(u)
    )
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    np.testing.assert_allclose(
        surface.distance(surface.points(u, v) + 0.05 * normal), 0.05, rtol=1e-4
    )


def test_a_swiss_roll_winds_from_a_third_of_its_outer_radius_2_and_is_2_wide():
    x = swiss_roll().points(np.array([1.5, 3.0, 4.5]) * np.pi, np.array([-1.0, 0, 1.0]))
    np.testing.assert_allclose(x, [[0, -1, -2 / 3], [-4 / 3, 0, 0], [0, 1, 2]], atol=1e-3)


def test_a_moebius_band_joins_itself_after_half_a_turn():
    band = moebius()
    v = np.linspace(-0.4, 0.4, 5)
    np.testing.assert_allclose(
        band.points(np.full(5, 2 * np.pi), v), band.points(np.zeros(5), -v), atol=1e-12
    )


def test_at_the_seam_a_point_is_in_the_last_cell_or_mirrored_in_the_first():
    """Because of rounding the nearest point is found slightly before or slightly after a full
    round."""
    band, v = (
        moebius(),
        np.repeat([-0.3, -0.1, 0.1, 0.3], 20) + np.tile(np.linspace(-0.09, 0.09, 20), 4),
    )
    found, across = (
        band.cell(band.points(np.full(80, 2 * np.pi), v), 20, 4),
        np.repeat(np.arange(4), 20),
    )
    assert ((found == 19 * 4 + across) | (found == 3 - across)).all()


@pytest.mark.parametrize("call", ["nearest", "distance", "cell"])
def test_masked_points_are_refused(call):
    points = np.ma.masked_array(np.ones((2, 3)), [[True, False, False]] * 2)
    with pytest.raises(TypeError, match=f"Surface.{call}: x is MaskedArray .* a plain NumPy array"):
        getattr(moebius(), call)(points, *(3, 4) * (call == "cell"))
