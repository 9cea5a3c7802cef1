"""Fixtures for all tests: one seed, and the devices.

A test with the argument ``device`` runs twice: on the CPU, and on a GPU or, if there is none, on
the simulated CuPy in cupy_double. It is never skipped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import cupy_double
import pytest
from hypothesis import settings
from seeds import SEED

from tinycv.engine import backend

# A shell may start background jobs with Ctrl-C ignored; the tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example of hypothesis may take any time on a busy machine; no test here measures time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_GPU = backend.gpu_problem() is None
STARTS: dict = {}  # the state of each module's RNG after its import


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Every test starts from the same seed, whatever ran before: 0, or TINYCV_TEST_SEED.

    If a test module has a generator RNG, it is reset to its state after the import.
    """
    backend.manual_seed(SEED)
    if (rng := getattr(request.module, "RNG", None)) is not None:
        rng.bit_generator.state = STARTS.setdefault(request.module, rng.bit_generator.state)


@pytest.fixture
def double() -> Iterator[object]:
    """The simulated CuPy, installed for this test even if there is a real GPU."""
    backend.forget_probe()
    yield cupy_double.install()
    cupy_double.uninstall()
    backend.forget_probe()


@pytest.fixture
def cp(double: object) -> object:
    """The same, for tests that use it like the module cupy."""
    return double


@pytest.fixture(params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> str:
    """ "cpu", then "gpu:0"."""
    if request.param == "cpu":
        return "cpu"
    if not REAL_GPU:
        request.getfixturevalue("double")
    return "gpu:0"
