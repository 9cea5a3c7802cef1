"""Grad mode: no_grad and enable_grad, one thread at a time."""
from __future__ import annotations

import threading

import numpy as np
import pytest

from tinycv import Tensor, enable_grad, grad, no_grad


def leaf(data, device="cpu", dtype="float64"):
    return Tensor(np.array(data), dtype=dtype, device=device, requires_grad=True)


def test_no_grad_records_nothing_and_enable_grad_records_inside_it(device):
    x = leaf(1.0, device)
    with no_grad():
        assert not (x * x).requires_grad
        with enable_grad():
            assert (x * x).requires_grad
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


def test_no_grad_ends_where_an_exception_leaves_it():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (leaf(1.0) * 2).requires_grad


def test_no_grad_decorates_a_function():
    @no_grad()
    def double(x):
        return x * 2

    assert [double(leaf(1.0)).requires_grad for _ in range(2)] == [False, False]


def test_no_grad_is_a_matter_of_one_thread():
    x, seen, inside, checked = leaf(1.0), {}, threading.Event(), threading.Event()

    def other():
        seen["started under no_grad"] = (x * x).requires_grad
        with no_grad():
            inside.set()
            checked.wait(10)
            seen["in its own no_grad"] = (x * x).requires_grad

    with no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
    seen["here, meanwhile"] = (x * x).requires_grad
    checked.set()
    thread.join()
    assert seen == {"started under no_grad": True, "in its own no_grad": False, "here, meanwhile": True}


def test_the_walk_itself_records_nothing():
    x = leaf([1.0, 2.0])
    x.exp().sum().backward()
    assert not x.grad.requires_grad and not grad((x * x).sum(), x)[0].requires_grad
