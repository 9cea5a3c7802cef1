"""Every test starts from one seed. ``device``: a test that takes it runs on the CPU, and on a GPU
or CuPy's strict double. Never skipped."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import cupy_double
import pytest
from hypothesis import settings
from seeds import SEED

from tinycv.engine import backend

# a shell may start background jobs with Ctrl-C ignored
signal.signal(signal.SIGINT, signal.default_int_handler)

# an example may take as long as a busy machine needs: no test here is of time
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_GPU = backend.gpu_problem() is None
STARTS: dict = {}  # of the generators of modules


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Every test draws its random numbers from one seed on, 0 unless TINYCV_TEST_SEED says another,
    whatever ran before.

    A module's own RNG starts for each test where it stood after the import.
    """
    backend.manual_seed(SEED)
    if (rng := getattr(request.module, "RNG", None)) is not None:
        rng.bit_generator.state = STARTS.setdefault(request.module, rng.bit_generator.state)


@pytest.fixture
def double() -> Iterator[object]:
    """The strict double of CuPy, installed for this test even where there is a real GPU."""
    backend.forget_probe()
    yield cupy_double.install()
    cupy_double.uninstall()
    backend.forget_probe()


@pytest.fixture
def cp(double: object) -> object:
    """The same, where a test uses it as one uses CuPy."""
    return double


@pytest.fixture(params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> str:
    """ "cpu", then "gpu:0"."""
    if request.param == "cpu":
        return "cpu"
    if not REAL_GPU:
        request.getfixturevalue("double")
    return "gpu:0"
