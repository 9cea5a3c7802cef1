"""parallel.mpi where there is no second rank: how gradients are packed, the sentences about ranks
that differ, and what happens without mpi4py."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinycv
from tinycv.engine.tensor import wrap
from tinycv.training import parallel
from tinycv.training.groups import own_rows, shares
from tinycv.training.messages import Call, _difference
from tinycv.training.packed import Packing, checksum

ROOT = Path(__file__).parents[2]


def leaves(*shapes, dtype="f"):
    return [tinycv.Parameter(np.zeros(shape, dtype)) for shape in shapes]


def filled(some):
    """A gradient of 1s for the first leaf, of 2s for the second, ..."""
    return {leaf: wrap(np.full(leaf.shape, i, leaf.dtype), None) for i, leaf in enumerate(some, 1)}


# ── packing ──


def test_gradients_and_loss_travel_in_one_array_per_dtype_of_equal_slices():
    packing, sent = Packing(4), []
    gradients = filled(leaves((2, 3), (5,))) | filled(leaves((3,), dtype="d"))

    def add(flat):
        sent.append((flat.dtype.name, flat.size))
        return flat * 2

    loss, total = packing.summed(np.float32(7).reshape(()), list(gradients), gradients, add)
    assert sent == [("float32", 12), ("float64", 4)]  # 6 + 5 + the loss; 3, filled up to 4
    assert loss == 14 and loss.shape == ()
    for leaf, g in gradients.items():
        np.testing.assert_array_equal(total[leaf].numpy(), 2 * g.numpy())
        assert total[leaf].dtype == leaf.dtype


def test_gradients_are_packed_in_the_order_in_which_their_leaves_were_first_seen():
    packing, (a, b, c) = Packing(2), leaves((1,), (2,), (3,))
    packing.learn([b, a])
    gradients = filled([a, b, c])
    # compared by id, because == compares the values of Tensors
    assert [id(leaf) for leaf in packing.ordered(gradients)] == [id(b), id(a), id(c)]
    assert packing.description([b, a, c], gradients) == (
        (0, (2,), "float32"),
        (1, (1,), "float32"),
        (-1, (3,), "float32"),
    )


def test_a_leaf_that_is_gone_is_forgotten():
    packing = Packing(2)
    some = leaves((1,), (2,))
    packing.learn(some)
    del some
    gc.collect()
    assert not packing.numbers and not packing.alive


def test_the_checksum_depends_on_every_weight():
    some = leaves((2, 3), (4,))
    before = checksum(some)
    some[1].data[3] = 1e-30
    assert checksum(some) != before


# ── ranks that differ ──


@pytest.mark.parametrize(
    "other, words",
    [
        (Call("map", 1, 2, 3), "different calls at the same time: rank 0 backward, rank 1 map"),
        (Call("backward", 9, 2, 3), "different models or batches: 1 in rank 0, 9 in rank 1"),
        (Call("backward", 1, 9, 3), "different random seeds, 2 in rank 0 and 9 in rank 1"),
        (Call("backward", 1, 2, 9), "the weights of rank 1 are not those of rank 0: call tinycv.m"),
    ],
)
def test_the_sentence_names_the_first_rank_that_differs_and_what_differs(other, words):
    calls = [Call("backward", 1, 2, 3)]
    assert words in _difference([*calls, other])
    assert words.replace("rank 1", "rank 2") in _difference([*calls, *calls, other, other])


# ── rows ──


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_own_rows_are_those_of_shares_and_a_rank_without_a_shard_has_those_of_shard_0(n, size):
    x = np.arange(n)
    parts = [share.arrays[0].tolist() for share in shares((x,), size)]
    for rank in range(size):
        start, end = own_rows(n, rank, size)
        assert x[start:end].tolist() == parts[rank if rank < len(parts) else 0]


def test_threads_refuse_a_share_of_a_batch():
    with (
        parallel.threads(2) as group,
        pytest.raises(ValueError, match="examples is 4; among threads it must be None"),
    ):
        group.backward(lambda x: x.mean(), np.ones(2), examples=4)


# ── without mpi4py ──


def test_without_mpi4py_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(
        ImportError, match=r"needs mpi4py and an MPI library: pip install mpi4py mpich"
    ):
        parallel.mpi()


@pytest.mark.parametrize("order", ["ring", None, 1])
def test_mpi_refuses_another_order(order):
    with pytest.raises((TypeError, ValueError), match="mpi: order is .*; it must be"):
        parallel.mpi(order)


NO_MPI = """
import sys
sys.modules["mpi4py"] = None
import importlib.util, pytest
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "mpi4py" else find(name, *rest)
sys.exit(pytest.main(["tests/mpi", "-q", "-p", "no:cacheprovider", "--collect-only"]))
"""


@pytest.mark.parametrize("required, code", [("0", 5), ("1", 4)])  # 5: no tests collected
def test_without_mpi4py_its_tests_are_left_out_and_ci_refuses_that(required, code):
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "TINYCV_REQUIRE_MPI": required}
    done = subprocess.run(
        [sys.executable, "-c", NO_MPI], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    output = done.stdout + done.stderr
    assert done.returncode == code and "skipped" not in output
    assert ("requires mpi4py" in output) == (required == "1")
