"""Fixtures of all tests: every test starts from the same seed; a test that takes ``device`` runs on
the CPU, and on a GPU or on the strict double of CuPy, and is never skipped."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import cupy_double
import pytest
from hypothesis import settings
from seeds import SEED

from tinycv.engine import backend

# a shell may start background jobs so that they ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

# no deadline: on a busy machine, an example may take long, and no test here measures time
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_GPU = backend.gpu_problem() is None
STARTS: dict = {}  # module -> the state of its RNG after the import


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Every test starts from the same seed, whatever ran before it: TINYCV_TEST_SEED, or 0.

    If a module has its own RNG, every test starts with the state that it had after the import.
    """
    backend.manual_seed(SEED)
    if (rng := getattr(request.module, "RNG", None)) is not None:
        rng.bit_generator.state = STARTS.setdefault(request.module, rng.bit_generator.state)


@pytest.fixture
def double() -> Iterator[object]:
    """The strict double of CuPy, installed for this test even if there is a real GPU."""
    backend.forget_probe()
    yield cupy_double.install()
    cupy_double.uninstall()
    backend.forget_probe()


@pytest.fixture
def cp(double: object) -> object:
    """The same as ``double``, for tests that use it as one uses CuPy."""
    return double


@pytest.fixture(params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> str:
    """ "cpu", then "gpu:0"."""
    if request.param == "cpu":
        return "cpu"
    if not REAL_GPU:
        request.getfixturevalue("double")
    return "gpu:0"
