"""The training curve does not depend on who computes the shards."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from carriers import TRAININGS, curve

from tinycv.training import parallel


@cache
def losses(name: str, carrier=None) -> list[float]:
    """The training curve by two workers; without a carrier, by the whole batch at once."""
    if carrier is None:
        return curve(name)
    with carrier(2) as group:
        return curve(name, group)


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("carrier", [parallel.threads, parallel.processes])
def test_two_workers_train_like_the_whole_batch(name, carrier):
    np.testing.assert_allclose(losses(name, carrier), losses(name), rtol=1e-5)
    assert np.std(losses(name)) > 1e-3  # it does learn


@pytest.mark.parametrize("name", TRAININGS)
def test_threads_and_processes_give_the_same_bits(name):
    assert losses(name, parallel.threads) == losses(name, parallel.processes)
