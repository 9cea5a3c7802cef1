"""A fork while a group of threads is open: the child can compute or raises an error; it never waits
for threads that do not exist in it."""

from __future__ import annotations

import os

import pytest
from prepared import FORKING, Prepared

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with Prepared(FORKING, tmp_path_factory.mktemp("forking")) as process:
        yield process.says


@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_open_group_works_in_the_child_and_in_the_parent(run, size):
    run(f"""
    with parallel.threads({size}) as group:
        batch()
        def again():
            batch()
            assert in_child(batch) == 0                 # a child of the child
            batch()
        assert in_child(batch) == 0
        assert in_child(again) == 0
        batch()
    """)


def test_a_group_may_be_closed_in_the_child(run):
    run("""
    with parallel.threads(2) as group:
        assert in_child(group.close) == 0
        assert in_child(lambda: (batch(), group.close(), group.close())) == 0
        batch()
    """)


def test_processes_of_multiprocessing_can_use_the_parents_group(run):
    run("""
    with parallel.threads(2) as group:
        process = multiprocessing.get_context("fork").Process(target=batch)
        process.start()
        process.join(20)
        assert process.exitcode == 0
    """)


def test_a_child_that_exits_normally_ends(run):
    run("""
    group = parallel.threads(3)
    batch()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        batch()
        sys.exit(0)                                     # with atexit, and threads that are joined
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """)


def test_a_fork_while_another_thread_is_inside_a_batch(run):
    run("""
    with parallel.threads(2) as group:
        inside, go = threading.Event(), threading.Event()
        def slow(x):
            inside.set()
            go.wait(20)
            return Tensor(x)
        other = threading.Thread(target=group.map, args=(slow, x))
        other.start()
        inside.wait(20)
        assert in_child(batch) == 0
        go.set()
        other.join()
        batch()
    """)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_fork_inside_a_shard_raises_an_error_when_it_meets_the_other_shards(run, rank):
    said = run(f"""
    def forks(x):
        if shards.rank() == {rank}:
            assert in_child(lambda: shards.all_reduce(1)) == 7
            assert in_child(lambda: group.map(layer, x)) == 7
        return Tensor(x * shards.all_reduce(1))
    with parallel.threads(2) as group:
        assert (group.map(forks, x).numpy() == 2).all()
    """)
    assert (
        "RuntimeError this process was forked inside a shard" in said
        and "cannot be split again" in said
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_a_child_that_returns_from_the_shard_ends_with_an_error(run, rank):
    said = run(f"""
    children, parent = [], os.getpid()
    def forks(x):
        if shards.rank() == {rank}:
            children.append(os.fork())
            if children[-1] == 0:
                signal.alarm(20)
        return Tensor(x)
    with parallel.threads(2) as group:
        try:
            group.map(forks, x)
        except RuntimeError as error:
            assert os.getpid() != parent
            print(error, file=sys.stderr, flush=True)
            os._exit(0)
        assert os.waitpid(children[0], 0)[1] == 0       # the alarm would make it 14
    """)
    assert "this process was forked inside a shard" in said


def test_a_child_can_compute_gradients_even_if_a_thread_held_the_lock_at_the_fork(run):
    run("""
    group = parallel.threads(2)
    with backward._accumulating:
        def child():
            batch()
            (layer(Tensor(x)) ** 2).mean().backward()
        pid = []
        other = threading.Thread(target=lambda: pid.append(in_child(child)))
        other.start()
        other.join()
    assert pid == [0]
    """)
