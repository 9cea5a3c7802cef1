"""no_grad and enable_grad, as blocks and decorators, in threads, generators and coroutines."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading

import numpy as np
import pytest

from tinycv import Tensor, debug, enable_grad, grad, no_grad
from tinycv.engine.mode import RECORD, entered, mode


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


def test_no_grad_ends_when_an_exception_leaves_the_block():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (leaf(1.0) * 2).requires_grad


def test_no_grad_decorates_a_function():
    @no_grad()
    def double(x):
        return x * 2

    assert [double(leaf(1.0)).requires_grad for _ in range(2)] == [False, False]


def records() -> bool:
    return (leaf(1.0) * 2).requires_grad


def test_a_decorator_sets_the_mode_when_the_function_runs_and_not_when_it_is_decorated():
    with debug():

        @no_grad
        def made_inside(x):
            return (x - 2).log(), records()

    # Debug mode is off again.
    assert made_inside(leaf(3.0))[1] is False and np.isnan(made_inside(leaf(1.0))[0].item())
    with debug(), pytest.raises(FloatingPointError, match="'log'"):
        made_inside(leaf(1.0))
    with no_grad():
        made_inside(leaf(3.0))
        assert not records()
    with no_grad():
        assert enable_grad()(records)() and not records()


def test_a_generator_runs_in_its_mode_and_does_not_change_the_callers():
    @no_grad()
    def steps(n):
        """A docstring, which the decorator keeps."""
        for _ in range(n):
            sent = yield records()
            if sent is not None:
                yield sent, records()
        return "end"

    running = steps(3)
    assert steps.__name__ == "steps" and steps.__doc__
    for _ in range(2):
        assert next(running) is False and records()
    assert running.send("x") == ("x", False) and records()
    with pytest.raises(KeyError):
        running.throw(KeyError)
    assert records() and list(steps(2)) == [False, False]

    def delegates():
        return (yield from steps(1))

    outer = delegates()
    next(outer)
    with pytest.raises(StopIteration, match="end"):
        next(outer)
    left = steps(2)
    next(left)
    left.close()
    assert records()


def test_one_block_object_may_be_nested_and_used_by_two_threads():
    off, barrier, seen = no_grad(), threading.Barrier(2, timeout=10), []

    def work():
        for _ in range(3):
            with off:
                barrier.wait()
                with off:
                    seen.append(records())
                seen.append(records())
                barrier.wait()
            barrier.wait()
            assert records()
            barrier.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert seen == [False] * 12 and records()


def test_each_coroutine_runs_in_its_own_mode():
    @no_grad()
    async def off():
        await asyncio.sleep(0)
        return records()

    async def both():
        task = asyncio.create_task(off())
        await asyncio.sleep(0)
        return records(), await task

    assert asyncio.run(both()) == (True, False)


def test_debug_ends_with_its_block_and_changes_nothing_else():
    with no_grad():
        with debug():
            assert not records()
        assert not records()
        checking = debug()
    assert records()
    with pytest.raises(FloatingPointError):
        (leaf(1.0) - 2).log()
    checking.__exit__()
    assert np.isnan((leaf(1.0) - 2).log().item())


@pytest.mark.parametrize("wrong", [3, "f", Tensor, type("C", (), {})], ids=str)
def test_only_functions_are_decorated(wrong):
    with pytest.raises(TypeError, match="no_grad: the decorator takes a function"):
        no_grad()(wrong)


def test_no_grad_affects_only_its_own_thread():
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
    seen["here, at the same time"] = (x * x).requires_grad
    checked.set()
    thread.join()
    assert seen == {
        "started under no_grad": True,
        "in its own no_grad": False,
        "here, at the same time": True,
    }


def test_the_backward_pass_records_nothing():
    x = leaf([1.0, 2.0])
    x.exp().sum().backward()
    assert not x.grad.requires_grad and not grad((x * x).sum(), x)[0].requires_grad


def test_an_asynchronous_generator_is_refused():
    with pytest.raises(
        TypeError, match="no_grad: the decorator does not take an asynchronous generator"
    ):

        @no_grad()
        async def numbers():
            yield 1


# ── one block used by several tasks, and functions that only look like plain ones ────────────────


def test_one_block_entered_by_two_tasks_keeps_their_modes_separate():
    block, x = no_grad(), leaf(1.0)

    async def first():
        with block:
            await asyncio.sleep(0.005)
        return (x * 2).requires_grad

    async def second():
        with no_grad():
            with block:
                await asyncio.sleep(0.02)
            return (x * 2).requires_grad

    async def both():
        return await asyncio.gather(first(), second())

    assert asyncio.run(both()) == [True, False]


class Resumed:
    def __call__(self, x):
        yield x * 2


@pytest.mark.parametrize(
    "function", [staticmethod(lambda x: (yield x * 2)), Resumed()], ids=["staticmethod", "object"]
)
def test_generators_in_methods_and_callable_objects_are_recognised(function):
    assert not next(no_grad()(function)(leaf(1.0))).requires_grad


def test_a_decorated_function_keeps_its_attributes_and_a_block_can_be_copied():
    def function():
        return mode.get()

    function.tag = "kept"
    assert no_grad()(function).tag == "kept"
    for copied in (copy.deepcopy(no_grad()), pickle.loads(pickle.dumps(enable_grad()))):
        with copied:
            assert mode.get() & RECORD == copied.bit
        assert mode.get() & RECORD


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_blocks_may_be_exited_in_any_order_and_in_a_context_that_never_entered_them(order):
    token, blocks = mode.set(mode.get()), [no_grad(), enable_grad(), no_grad()]
    for block in blocks:
        block.__enter__()
    for i in order:
        blocks[i].__exit__(None, None, None)
    blocks[0].__exit__(None, None, None)  # has no effect here
    assert entered.get() == ()
    mode.reset(token)
