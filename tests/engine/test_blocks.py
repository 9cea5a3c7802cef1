"""Blocks of elementwise work on several threads."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tinycv import Tensor
from tinycv.engine import blocks, shards
from tinycv.engine.blocks import BLOCK, LEAST, Helpers, equal_blocks, in_blocks
from tinycv.engine.fused import PAIRS
from tinycv.nn import image_rows, norm, softmax

N = 4 * LEAST + 3


@pytest.fixture
def two_cores(monkeypatch):
    """Helpers for two cores, whatever the machine has."""
    monkeypatch.setattr(blocks, "cores", lambda: 2)
    monkeypatch.setattr(Helpers, "current", None)


def threads_used(rows=N, expected=1):
    """The names of the threads that work on the blocks. The first one waits for the second, if two
    are expected."""
    names, joined = set(), threading.Event()

    def work(at):
        names.add(threading.current_thread().name)
        if len(names) >= expected:
            joined.set()
        joined.wait(10)

    in_blocks(np, work, rows, size=LEAST // 4)
    return names


@pytest.mark.parametrize("rows, width", [(0, 1), (1, 1), (N, 1), (7, 3), (1000, 999), (5, 0)])
@pytest.mark.parametrize("size", [None, 1000])
def test_the_blocks_cut_the_rows_without_gap_or_overlap(rows, width, size, two_cores):
    counted = np.zeros(rows, int)

    def work(at):
        counted[at] += 1

    in_blocks(np, work, rows, width, size=size)
    assert (counted == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_equal_blocks_are_small_enough_and_equally_many_for_each_thread(threads):
    for rows in (10 * threads, 3 * BLOCK, 17 * BLOCK + 5):
        sizes = [len(range(*at.indices(rows))) for at in equal_blocks(rows, 1, threads)]
        assert max(sizes) <= BLOCK and len(sizes) % threads == 0 and sum(sizes) == rows


def test_large_work_uses_a_second_thread_and_small_work_does_not(two_cores):
    assert len(threads_used(expected=2)) == 2
    assert len(threads_used(rows=LEAST - 1)) == 1


def test_inside_a_shard_one_thread_works(two_cores):
    token = shards.member.set(object())
    try:
        assert threads_used() == {threading.current_thread().name}
    finally:
        shards.member.reset(token)


def test_the_result_is_the_same_to_the_last_bit_on_one_and_on_two_cores(monkeypatch):
    x, found = np.random.default_rng(0).normal(size=N).astype(np.float32), []
    for count in (1, 2, 3):
        monkeypatch.setattr(blocks, "cores", lambda count=count: count)
        monkeypatch.setattr(Helpers, "current", None)
        y = np.empty_like(x)
        in_blocks(np, lambda at, y=y: np.tanh(x[at] * x[at], out=y[at]), N)
        found.append(y)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def images(channels_last):
    """(8, 16, 35, 35), in one of the two orders in memory."""
    x = normal(8, 35, 35, 16) if channels_last else normal(8, 16, 35, 35)
    return x.transpose(0, 3, 1, 2) if channels_last else x


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


PAIRS_IN_BLOCKS = {
    "softmax": lambda: [normal(4000, 49)],
    "log_softmax": lambda: [normal(4000, 49)],
    "layer_norm": lambda: [normal(4000, 49), normal(49), normal(49)],
    "group_norm": lambda: [images(False), 4, normal(16), normal(16)],
    "group_norm, channels last": lambda: [images(True), 4, normal(16), normal(16)],
    "batch_standard": lambda: [images(False), 8 * 35**2, normal(16), normal(16)],
    "batch_standard, channels last": lambda: [images(True), 8 * 35**2, normal(16), normal(16)],
}


@pytest.mark.parametrize("label", PAIRS_IN_BLOCKS)
def test_a_pair_returns_the_same_bits_on_one_and_on_two_cores(label, monkeypatch):
    monkeypatch.setattr(softmax, "ROWS", LEAST)
    monkeypatch.setattr(norm, "LARGE", LEAST)
    monkeypatch.setitem(image_rows.IMAGES, "size", LEAST)
    monkeypatch.setitem(image_rows.IMAGES, "least", LEAST)
    pair, found = PAIRS[label.split(",")[0]], []
    for count in (1, 2):
        monkeypatch.setattr(blocks, "cores", lambda count=count: count)
        monkeypatch.setattr(Helpers, "current", None)
        inputs = [
            a if isinstance(a, int) else Tensor(a, requires_grad=True)
            for a in PAIRS_IN_BLOCKS[label]()
        ]
        y = pair(*inputs)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(Tensor(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)))
        found.append([y, *[a.grad for a in inputs if isinstance(a, Tensor)]])
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("rows", [10, 4 * LEAST])
def test_numpys_buffer_has_its_old_size_again_after_the_blocks(rows, two_cores):
    def fail(at):
        raise KeyError("a block")

    before = np.getbufsize()
    in_blocks(np, lambda at: None, rows)
    with pytest.raises(KeyError):
        in_blocks(np, fail, rows)
    assert np.getbufsize() == before


def test_errstate_holds_in_the_other_threads(two_cores):
    x, y = np.zeros(N, np.float32), np.empty(N, np.float32)
    with np.errstate(divide="ignore"):
        in_blocks(np, lambda at: np.divide(1, x[at], out=y[at]), N, size=1024)
    assert np.isinf(y).all()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        in_blocks(np, lambda at: np.divide(1, x[at], out=y[at]), N, size=1024)


def test_an_error_in_a_block_is_raised_here_and_the_helpers_work_on(two_cores):
    def work(at):
        if at.start > N // 2:
            raise ValueError("in a block")

    for _ in range(3):
        with pytest.raises(ValueError, match="in a block"):
            in_blocks(np, work, N, size=1024)
    assert len(threads_used(expected=2)) == 2


def test_after_an_error_no_thread_works_on_a_block_any_more(two_cores):
    caller, begun, ended = threading.current_thread(), threading.Event(), []

    def work(at):
        if threading.current_thread() is caller:
            begun.wait(10)  # until the helper works on a block
            raise ValueError("in a block")
        begun.set()
        time.sleep(0.05)
        ended.append(at)

    with pytest.raises(ValueError, match="in a block"):
        in_blocks(np, work, N, size=N // 4)
    assert begun.is_set() and len(ended) > 0


def test_work_inside_a_block_and_in_a_second_thread_of_the_program_does_not_wait(two_cores):
    done = []
    in_blocks(np, lambda at: in_blocks(np, lambda _: done.append(1), N, size=LEAST), N, size=LEAST)
    assert len(done) == 25


def in_child(results):
    results.put(len(threads_used(expected=2)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_threads_of_its_own(two_cores):
    assert len(threads_used(expected=2)) == 2
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_child, args=(results,))
    child.start()
    assert results.get(timeout=30) == 2
    child.join(30)
    assert child.exitcode == 0


def test_omp_num_threads_limits_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert blocks.cores() == 1


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_while_the_blocks_multiply_matrices_and_its_own_number_after(two_cores):
    before, during = blas_threads(), []
    in_blocks(np, lambda at: during.extend(blas_threads()), N, products=True)
    assert set(during) == {1} and blas_threads() == before


def test_blas_gets_its_threads_back_when_a_block_fails(two_cores):
    before = blas_threads()
    with pytest.raises(ZeroDivisionError):
        in_blocks(np, lambda at: 1 / 0, N, products=True)
    assert blas_threads() == before
