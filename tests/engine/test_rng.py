"""Random numbers: they depend only on the seed, and each purpose and device has its own stream."""

from __future__ import annotations

import json

import cupy_double
import numpy as np
import pytest

import tinycv
from tinycv.engine import backend


class Ones:
    """A generator that always returns the largest number below 1."""

    def random(self, shape, dtype=np.float64):
        return np.full(shape, np.nextafter(np.ones((), dtype), np.zeros((), dtype)))


@pytest.fixture(autouse=True)
def seed_zero():
    yield
    backend.manual_seed(0)


def noise(device, n=5):
    return backend.to_numpy(backend.standard_normal(n, backend.module_for(device)))


def test_noise_is_a_function_of_seed_and_step(device):
    backend.manual_seed((3, 7))
    first = noise(device)
    noise(device)
    backend.manual_seed((3, 8))
    other = noise(device)
    backend.manual_seed((3, 7))
    assert (noise(device) == first).all()
    assert (other != first).any()


@pytest.mark.parametrize(("a", "b"), [(5, (5, 0)), ((5, 0), (5, 0, 0)), ((1, 2), (2, 1)), (0, 1)])
def test_different_seeds_give_different_numbers(a, b):
    draws = []
    for seed in (a, b):
        backend.manual_seed(seed)
        draws.append((backend.host_generator().random(), noise("cpu")[0]))
    assert draws[0][0] != draws[1][0]
    assert draws[0][1] != draws[1][1]


def test_noise_on_a_device_never_changes_weights_and_shuffles(device):
    backend.manual_seed(1)
    expected = backend.host_generator().permutation(10)
    backend.manual_seed(1)
    noise(device)
    assert (backend.host_generator().permutation(10) == expected).all()


@pytest.mark.parametrize("draw", [backend.standard_normal, backend.uniform])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_noise_has_the_shape_dtype_and_device_of_the_array_it_is_like(device, draw, dtype):
    like = backend.to_device(np.ones(2), device)
    for home in (like, backend.array_module(like)):
        x = draw((2, 3), home, dtype)
        assert (x.shape, x.dtype, backend.device_of(x)) == ((2, 3), dtype, device)
    assert draw((), like).shape == ()
    assert draw(3, like).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_draws_stay_below_one_in_every_dtype(dtype, device, monkeypatch):
    before_one = np.nextafter(np.ones((), dtype), np.zeros((), dtype))
    assert (
        backend.to_numpy(backend.uniform(10**5, backend.module_for(device), dtype)).max()
        <= before_one
    )
    monkeypatch.setattr(backend, "host_generator", Ones)
    monkeypatch.setattr(backend.rng, "host_noise", Ones)
    for drawn in (tinycv.rand(3, dtype=dtype).numpy(), backend.uniform(3, np, dtype)):
        assert drawn.dtype == dtype and (drawn == before_one).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keeping_uniform_draws_below_one_does_not_change_other_draws(dtype):
    backend.manual_seed(0)
    expected = backend.host_generator().random(1000)
    backend.manual_seed(0)
    assert (tinycv.rand(1000, dtype=dtype).numpy() == expected.astype(dtype)).all()


def test_noise_is_drawn_on_the_gpu_of_the_array(double):
    like = backend.to_device(np.ones(2), "gpu:1")
    assert backend.device_of(backend.standard_normal(3, like)) == "gpu:1"


def test_two_gpus_draw_different_noise(double):
    a, b = (
        backend.standard_normal(5, backend.to_device(np.ones(1), name))
        for name in ("gpu:0", "gpu:1")
    )
    assert (a.get() != b.get()).all()


@pytest.mark.statistical
def test_noise_has_the_right_mean_and_variance(device):
    xp = backend.module_for(device)
    normal, flat = (
        backend.to_numpy(draw(40_000, xp)) for draw in (backend.standard_normal, backend.uniform)
    )
    assert abs(normal.mean()) < 0.03  # 6 standard errors
    assert abs(normal.std() - 1) < 0.03
    assert abs(flat.mean() - 0.5) < 0.01
    assert 0 <= flat.min() <= flat.max() < 1


def test_drawing_noise_never_waits(double):
    with cupy_double.counting() as waits:
        backend.standard_normal((4, 4), double)
        backend.uniform((4, 4), double)
    assert waits.count == 0


def test_the_state_survives_json_and_continues_exactly():
    backend.manual_seed((4, 2))
    backend.host_generator().random(3)
    noise("cpu", 3)
    state = json.loads(json.dumps(backend.get_rng_state()))
    expected = backend.host_generator().random(4), noise("cpu", 4)
    backend.manual_seed(9)
    backend.set_rng_state(state)
    assert (backend.host_generator().random(4) == expected[0]).all()
    assert (noise("cpu", 4) == expected[1]).all()


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), ((), ValueError), ((1, -2), ValueError), (1.5, TypeError), ("7", TypeError)],
)
def test_a_seed_that_is_no_natural_number_is_refused(seed, error):
    with pytest.raises(error):
        backend.manual_seed(seed)
