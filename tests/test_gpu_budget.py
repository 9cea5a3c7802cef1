"""A training step on a GPU never waits for the device, and stays within its budget of launches,
counted on the double of CuPy.

The double counts at least one launch for each call that computes or copies; CuPy may need more
launches for some calls. So these numbers describe the double, not a GPU; how much time they save
can only be measured on a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cupy_double import counting

# benchmarks is no part of the installed package
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import contenders, kernels, tasks
from tinycv.engine import dispatch

# (task, the most launches of a training step (forward, backward, Adam) with CUDA kernels, the most
# launches without kernels)
BUDGETS = {
    "MLP": (tasks.Mlp(4, (6, 5, 5, 3)), 27, 94),
    "LSTM of 10 steps": (tasks.Lstm(4, 10, 2, 5, 3), 75, 297),
    "Transformer": (tasks.Transformer(4, 5, 8, 2, 16, 2, 7), 157, 422),
    "ViT": (tasks.Vit(4, 4, 2, 8, 2, 2, 3), 153, 395),
    "GAN": (tasks.Gan(4, 5, 2), 345, 1288),
    "U-Net": (tasks.UNet(4, 8, 16), 143, 624),
    "score, second order": (tasks.Score(4, 8), 146, 165),
}


def launches(task):
    """(waits, launches) of the second step; the first one also creates the optimiser's state."""
    work = contenders.by_tinycv(task, True, device="gpu:0", wait=False)
    work()
    with counting() as seen:
        work()
    return seen.count, seen.launches


@pytest.mark.parametrize("name", BUDGETS)
def test_a_training_step_never_waits_and_stays_within_its_launch_budget(double, name):
    task, most, _ = BUDGETS[name]
    waits, launched = launches(task)
    assert waits == 0
    assert launched <= most, f"{launched} launches"
    assert launched > 0.9 * most, f"{launched} launches: the budget can be lowered"


@pytest.mark.parametrize("name", BUDGETS)
def test_array_calls_without_kernels_need_more_launches(double, monkeypatch, name):
    for name_of_kernel in kernels.dispatch_names():
        monkeypatch.setitem(dispatch.OVERRIDES, name_of_kernel, None)
    task, with_kernels, without = BUDGETS[name]
    _, launched = launches(task)
    assert 0.9 * without <= launched <= without, f"{launched} launches"
    assert with_kernels < launched


def test_a_wait_in_a_step_is_seen(double, monkeypatch):
    name_of_kernel = "losses.cross_entropy"
    true = dispatch.member(name_of_kernel)
    monkeypatch.setitem(
        dispatch.OVERRIDES,
        name_of_kernel,
        lambda xp, x, *rest: (x.sum().item(), true(xp, x, *rest))[1],
    )
    assert launches(BUDGETS["MLP"][0])[0] == 1
