"""The suites models, scale and backends: their contenders do the same work, and its cost is counted right."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))       # benchmarks is no part of the installed package

from benchmarks import backends, functional, measure, models, networks, scale
from benchmarks.tasks import Score, Transformer
from tinycv.engine.tensor import Tensor

ROWS = [*models.every(models.TINY), *scale.rows(True), *backends.rows(True)]
EVERY = [*models.rows(), *scale.rows(), *backends.rows()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.name}")
def test_the_contenders_of_every_tiny_row_agree(row):
    ran = [c for c in row.contenders if not c.missing]
    results = {c.name: {name: numbers(a) for name, a in c.make(*c.args)().items()} for c in ran}
    assert ran[0].name == row.contenders[0].name, "the first contender is never missing"
    measure.gate(results)
    gradients = [a for name, a in results[ran[0].name].items() if name.startswith("gradient")]
    assert all(np.abs(a).max() > 0 for a in gradients)
    assert bool(gradients) == (row.of == "step" or "training" in row.name)


def numbers(value):
    return np.array(value.detach().numpy() if hasattr(value, "detach") else value)      # a copy: steps change in place


def test_a_row_says_why_a_contender_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for row in models.every(models.TINY):
        reasons = {c.name: c.missing for c in row.contenders}
        assert reasons["HIPS autograd"] and reasons["MyGrad"], row
    assert models.lacks(models.Mlp(), True, "autograd") == "autograd and scipy not installed"


def test_without_a_gpu_its_contender_says_so():
    from tinycv.engine.backend import gpu_problem
    problem = gpu_problem()
    for row in backends.rows(True):
        assert [c.name for c in row.contenders] == ["NumPy", "CuPy"]
        assert row.contenders[1].missing == ("" if problem is None else str(problem))


def test_every_row_has_a_cost_and_a_name_of_its_own():
    assert all(row.flops or row.bytes for row in EVERY)
    assert len({(row.group, row.name) for row in EVERY}) == len(EVERY)
    assert len({row.point for row in scale.rows()}) > 20


def test_the_memory_of_every_training_step_is_measured_unless_a_compiler_would_be():
    for row in (row for row in models.rows() if row.memory != row.name.startswith("training step")):
        assert row.group.startswith("compiled") and not row.memory


def test_every_task_has_a_network_and_those_of_autograd_a_function():
    kinds = {type(task) for task in models.TASKS.values()}
    assert kinds == {type(task) for task in models.TINY.values()} == set(networks.NETWORKS)
    assert kinds - set(functional.NETWORKS) == set(models.NO_AUTOGRAD)


def test_the_cost_of_a_recurrence_and_of_a_causal_mask():
    into, across, head = 4 * 3 * 2 * 20, 4 * 2 * 5 * 20, 4 * 5 * 3
    assert models.TINY["tiny LSTM"].flops(True) == 2 * (2 * into + 3 * across + 3 * head)
    full = Transformer(1, 6, 8, 2, 16, 1, 7).flops(False)
    seen, all_pairs = 6 * 7 // 2, 36
    assert full == 2 * (6 * 8 * 4 * 8 + 2 * seen * 8 + 2 * 6 * 8 * 16 + 6 * 8 * 7) < full + 2 * 2 * (all_pairs - seen) * 8


def test_the_score_that_is_matched_has_its_exact_divergence():
    """Hyvarinen's loss of a network, beside finite differences of the network itself."""
    from benchmarks.libraries import tinycv_parts
    task, lib = Score(4, 8), tinycv_parts()
    model = networks.build(lib, task).to("float64")
    (x,) = (a.astype(np.float64) for a in task.examples())
    score, step = lambda a: model(Tensor(a)).numpy(), 1e-5
    trace = sum((score(x + step * e)[:, i] - score(x - step * e)[:, i]) / (2 * step) for i, e in enumerate(np.eye(2)))
    expected = ((score(x) ** 2).sum(axis=1) / 2 + trace).mean()
    assert networks.match_score(lib, model, Tensor(x)).item() == pytest.approx(expected, rel=1e-7)
