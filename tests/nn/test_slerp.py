"""Slerp: the arc from one vector to another keeps the length and has equal angles, for arrays and
Tensors of any shape; and the path of vector arithmetic is the same arc."""

from __future__ import annotations

import numpy as np
import pytest
from seeds import SEED
from wrong_calls import riddles

import tinycv
from tinycv import Tensor
from tinycv.adversarial.arithmetic import spherical_path
from tinycv.nn.slerp import slerp

RNG = np.random.default_rng(SEED)
A, B = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)


def test_the_ends_of_the_arc_are_the_two_vectors():
    np.testing.assert_allclose(slerp(A, B, [0, 1]), [A, B], atol=1e-6)


def test_two_right_angles_on_a_circle():
    x, y = np.eye(2)
    np.testing.assert_allclose(slerp(x, y, [1 / 3])[0], [3**0.5 / 2, 0.5], rtol=1e-12)


def test_the_arc_between_unit_vectors_has_length_1_and_equal_angles():
    unit_a, unit_b = A / np.linalg.norm(A), B / np.linalg.norm(B)
    points = slerp(unit_a, unit_b, np.linspace(0, 1, 6)).reshape(6, -1)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-5)
    cosines = (points[1:] * points[:-1]).sum(axis=1)
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-4)


def test_parallel_vectors_are_joined_by_a_line():
    np.testing.assert_allclose(slerp(A, 3 * A, [0.25])[0], 1.5 * A, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_tensor_stays_on_its_device_in_its_dtype(device, dtype):
    a, b = Tensor(A.astype(dtype), device=device), Tensor(B.astype(dtype), device=device)
    points = slerp(a, b, [0.5])
    assert isinstance(points, Tensor)
    assert (points.device, points.dtype, points.shape) == (a.device, dtype, (1, 3, 4, 4))
    np.testing.assert_allclose(points.numpy(), slerp(A, B, [0.5]), atol=4e-3)


def test_the_path_of_vector_arithmetic_is_this_arc_bit_for_bit():
    a, b = RNG.normal(size=(2, 20))
    of_path = spherical_path(a, b, 7)
    np.testing.assert_array_equal(of_path, slerp(a, b, np.linspace(0, 1, 7)).astype(np.float32))


@pytest.mark.parametrize(
    "b, problem",
    [
        (-A, "point in opposite directions"),
        (0 * A, "is the zero vector"),
        (np.nan * A, "is not finite"),
        (A[0], "they must have one shape"),
    ],
)
def test_a_vector_to_which_there_is_no_arc_is_refused(b, problem):
    with pytest.raises(ValueError, match=f"slerp: .*{problem}"):
        slerp(A, b, [0.5])


def test_a_wrong_argument_is_named_in_the_error():
    tinycv.manual_seed(0)
    found = riddles(slerp, {"a": A, "b": B, "shares": [0.0, 0.5]}, "slerp")
    assert not found, "\n".join(found)
