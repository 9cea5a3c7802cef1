"""Processes: what differs from threads. No value is stale in a worker, a worker that is killed is
named, and none is left behind."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from prepared import FORKING, Prepared

import tinycv
from tinycv import Tensor, nn
from tinycv.data import DataLoader
from tinycv.engine import ops, shards
from tinycv.engine.fused import fused
from tinycv.nn import functional as F
from tinycv.optim import AdamW
from tinycv.training import parallel
from tinycv.training.links import KEPT, Link
from tinycv.training.loop import fit
from tinycv.training.shared_memory import Arena, Exchange

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
TWO = np.ones(2)  # one example for each of two shards
SCALE = 1.0
STEP = np.square
TABLE = {"scale": 1.0}
SETTINGS: Any = ModuleType("settings")  # as a module of the user's program


@pytest.fixture
def pair():
    with parallel.processes(2) as group:
        yield group


def by_worker(group, function):
    """What the worker makes of a row of ones."""
    first, second = group.map(function, TWO).numpy()
    assert first == second
    return second


# ── nothing is stale ──


class Settings:
    scale = 1.0


class Scaled(nn.Module):
    """Multiplies by several numbers, each kept in another kind of place."""

    of_class = 1.0
    in_class = [1.0]
    object_in_class = Settings()

    def __init__(self):
        self.weight, self.plain = tinycv.Parameter(np.ones(())), 1.0
        self.buffer = Tensor(np.ones(()))
        self.array = np.ones(1000)

    def forward(self, x):
        return Tensor(x) * self.weight * self.buffer * self.plain * self.array[7] * self.of_own()

    def of_own(self):
        in_class = self.in_class[0] * self.object_in_class.scale
        return self.of_class * in_class * SCALE * SETTINGS.SCALE * scale_of_table()


def scale_of_table():
    return TABLE["scale"]


def set_global(model):
    global SCALE
    SCALE = 3.0


CHANGES = {
    "a weight, in place": lambda m: m.weight.data.__setitem__((), 3.0),
    "a weight, by load_state_dict": lambda m: m.load_state_dict(
        {"weight": np.array(3.0), "buffer": np.ones(())}
    ),
    "a weight, by another array": lambda m: setattr(m.weight, "data", np.array(3.0)),
    "another parameter": lambda m: setattr(m, "weight", tinycv.Parameter(np.array(3.0))),
    "a dtype": lambda m: m.to("float32").weight.data.__setitem__((), 3.0),
    "a buffer": lambda m: m.buffer.data.__setitem__((), 3.0),
    "an array": lambda m: m.array.__setitem__(7, 3.0),
    "an attribute": lambda m: setattr(m, "plain", 3.0),
    "an attribute of the class": lambda m: setattr(Scaled, "of_class", 3.0),
    "a list of the class": lambda m: Scaled.in_class.__setitem__(0, 3.0),
    "an object of the class": lambda m: setattr(Scaled.object_in_class, "scale", 3.0),
    "a method": lambda m: setattr(Scaled, "of_own", lambda self: 3.0),
    "a variable of a module": lambda m: setattr(SETTINGS, "SCALE", 3.0),
    "a global variable": set_global,
    "a dict in a global variable of another function": lambda m: TABLE.update(scale=3.0),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_reaches_the_workers(pair, what, monkeypatch):
    for name in ("of_class", "of_own"):
        monkeypatch.setattr(Scaled, name, vars(Scaled)[name])
    monkeypatch.setattr(Scaled, "in_class", [1.0])
    monkeypatch.setitem(TABLE, "scale", 1.0)
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    monkeypatch.setattr(SETTINGS, "SCALE", 1.0, raising=False)
    monkeypatch.setattr(Scaled, "object_in_class", Settings())
    model = Scaled()
    assert by_worker(pair, model) == by_worker(pair, lambda x: model(x)) == 1
    CHANGES[what](model)
    assert by_worker(pair, model) == by_worker(pair, lambda x: model(x)) == 3


def test_a_global_function_that_is_replaced_and_restored_reaches_the_workers(pair, monkeypatch):
    for function, expected in ((np.square, 1), (lambda x: x + 4, 5), (np.square, 1)):
        monkeypatch.setitem(globals(), "STEP", function)
        assert by_worker(pair, lambda x: Tensor(STEP(x))) == expected


def test_what_a_function_changes_in_its_own_objects_is_forgotten_with_the_batch(pair):
    for _ in range(3):
        calls, scratch = [], np.zeros(1000)

        def counted(x):
            calls.append(x)  # noqa: B023  it is called in this pass of the loop
            scratch[3] += 1  # noqa: B023
            return Tensor(x) * len(calls) * scratch[3]  # noqa: B023

        assert by_worker(pair, counted) == 1


def test_each_worker_changes_its_own_copy_of_an_array_and_of_a_buffer():
    scratch, buffer = np.zeros(1000), Tensor(np.zeros(3))

    def counted(x):
        scratch[3] += 1
        buffer.data[0] += 1
        shards.all_reduce(1)  # now all shards have changed what they hold
        return Tensor(x * scratch[3] * buffer.data[0])

    with parallel.processes(4) as group:
        for i in range(3):  # only shard 0 changes what stays
            assert group.map(counted, np.ones(4)).numpy().tolist() == [(i + 1) ** 2] * 4


def test_each_shard_draws_numbers_of_its_own(pair):
    generator = np.random.default_rng(0)
    draws = [
        lambda: np.random.normal(),
        lambda: random.random(),
        lambda: generator.normal(),
        lambda: tinycv.randn(1).item(),
    ]
    for draw in draws:
        rows = [pair.map(lambda x: Tensor(x) * draw(), TWO).numpy() for _ in range(2)]  # noqa: B023
        assert len(set(np.concatenate(rows).tolist())) == 4


@pytest.mark.parametrize("carrier", ["threads", "processes"])
def test_a_leaf_that_reaches_the_loss_in_two_ways_gets_both_gradients(carrier):
    x = Tensor(np.arange(5.0), requires_grad=True)
    with getattr(parallel, carrier)(2) as group:
        group.backward(lambda a, b: (a * b * b * x.sum()).sum(), x, x, reduction="sum")
    cubes, total = (x.numpy() ** 3).sum(), x.numpy().sum()
    assert np.allclose(x.grad.numpy(), 3 * x.numpy() ** 2 * total + cubes)


@pytest.mark.parametrize("carrier", ["threads", "processes"])
def test_two_threads_of_the_program_may_use_one_group(carrier):
    with getattr(parallel, carrier)(2) as group, ThreadPoolExecutor(2) as users:
        found = users.map(partial(results_of_a_user, group), range(2))
        assert all(found)


def results_of_a_user(group, seed):
    """Are all gradients and results right?"""
    rng = np.random.default_rng(seed)
    x, right = rng.normal(size=(8, 200)), []
    for _ in range(30):
        w = Tensor(rng.normal(size=(200, 100)), requires_grad=True)
        group.backward(lambda a: (a @ w).sum(), x, reduction="sum")  # noqa: B023
        y = group.map(lambda a: a @ w, Tensor(x))  # noqa: B023
        right += [
            np.allclose(w.grad.numpy(), x.sum(0)[:, None]),
            np.allclose(y.numpy(), x @ w.numpy()),
        ]
    return all(right)


def test_closures_defaults_and_new_functions_reach_the_workers(pair):
    for scale in (1.0, 2.0, 3.0):

        def default(x, scale=scale):
            return Tensor(x * scale)

        def closure(x):
            return Tensor(x * scale)  # noqa: B023  it is called in this pass of the loop

        new = eval(f"lambda x: Tensor(x * {scale})", {"Tensor": Tensor})
        for function in (default, closure, new):
            assert by_worker(pair, function) == scale


def test_a_class_that_is_defined_after_the_fork_reaches_the_workers(pair):
    by_worker(pair, Tensor)

    class Late(nn.Module):
        def forward(self, x):
            return super().__call__ and Tensor(x * 2)

    assert by_worker(pair, Late()) == 2


def test_a_pair_reaches_the_workers_with_the_members_that_it_has_now(pair, monkeypatch):
    monkeypatch.setattr("tinycv.engine.fused.PAIRS", {})  # the new pair is not listed for good

    @fused
    def scaled(x):
        return x * SCALE

    @scaled.kernel
    def _(xp, x):
        return x * SCALE, lambda g: g * SCALE

    assert by_worker(pair, lambda x: scaled(Tensor(x))) == 1
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert by_worker(pair, lambda x: scaled(Tensor(x))) == 2
    monkeypatch.setattr(scaled, "run", lambda xp, x: (x * 3, None))
    assert by_worker(pair, lambda x: scaled(Tensor(x))) == 3
    # a pair that is no longer what its module has under its name
    softmax = F.softmax
    monkeypatch.setattr("tinycv.nn.softmax.softmax", softmax.definition)
    assert by_worker(pair, lambda x: softmax(Tensor(x))) == 1


def test_a_function_that_calls_itself_reaches_the_workers(pair):
    def factorial(x):
        return x * factorial(x - 1) if x[0] > 1 else x

    assert pair.map(lambda x: Tensor(factorial(x)), np.full(2, 4.0)).numpy().tolist() == [24, 24]


def test_eval_mode_and_another_dropout_reach_the_workers(pair):
    model = nn.Dropout(0.9)
    x = np.ones((2, 1000), "f")
    assert (pair.map(model, Tensor(x)).numpy() == 0).mean(axis=1).min() > 0.8
    model.p = 0.1
    assert (pair.map(model, Tensor(x)).numpy() == 0).mean(axis=1).max() < 0.2
    assert (pair.map(model.eval(), Tensor(x)).numpy() == 1).all()


def test_more_functions_than_a_worker_keeps_may_take_turns(pair):
    def times(scale):
        return lambda x: Tensor(x * scale)

    for _ in range(2):
        for scale in range(KEPT + 2):
            assert by_worker(pair, times(scale)) == scale


def test_frozen_parameters_get_no_gradient_from_a_worker(pair):
    a, b = (tinycv.Parameter(np.ones(())) for _ in range(2))

    def loss_of(x):
        return (x * a * b).mean()

    pair.backward(loss_of, Tensor(TWO))
    a.requires_grad, a.grad = False, None
    pair.backward(loss_of, Tensor(TWO))
    assert a.grad is None and b.grad.item() == 2


def test_no_grad_debug_and_errstate_hold_in_the_workers(pair):
    def infinite(x):
        return (tinycv.log(Tensor(x, requires_grad=True))).mean()

    x = np.array([1.0, 0.0])
    with np.errstate(divide="raise"), pytest.raises(RuntimeError, match="divide by zero"):
        pair.backward(infinite, x)
    with (
        np.errstate(all="ignore"),
        tinycv.debug(),
        pytest.raises(FloatingPointError, match="forward: 'log'"),
    ):
        pair.backward(infinite, x)
    w = tinycv.Parameter(np.ones(()))
    assert not pair.map(lambda x: Tensor(x * (Tensor(x) * w).requires_grad), TWO).numpy().any()


# ── numbers ──


def test_large_results_and_large_sums_arrive_whole(pair):
    x = np.arange(2.0)

    def large(x):
        total = shards.all_reduce(np.full(300_000, x[0]))
        return Tensor(np.tile(total + x[0], (1, 1)))

    for _ in range(3):  # the first time there is no room yet
        assert (pair.map(large, x).numpy() == [[1.0], [2.0]]).all()


SUMMANDS = {
    "a number": lambda rank: 0.1 * rank,
    "an array without axes": lambda rank: np.array(0.1 * rank),
    "an empty array": lambda rank: np.ones((0, 3)),
    "an array": lambda rank: np.random.default_rng(rank).normal(size=(40, 3)).astype("f"),
    "a transposed array": lambda rank: np.random.default_rng(rank).normal(size=(3, 40)).T,
    "an array of two orders": lambda rank: np.full((4, 3), 0.1, order="CF"[rank == 1]),
    "an array of two dtypes": lambda rank: np.full((4, 3), 0.1, "df"[rank == 1]),
    "an array that outgrows its room": lambda rank: np.full(100_000, 0.1 * rank),
}


@pytest.mark.parametrize("what", SUMMANDS)
def test_sums_have_the_bits_and_the_type_that_they_have_with_threads(what):
    summand, threads, processes = SUMMANDS[what], [], []

    def reduced(x, found=None):
        total = shards.all_reduce(summand(shards.rank()))
        if shards.rank() == 0 and found is not None:
            found.append(total)
        row = [type(total).__name__ == "ndarray", np.sum(total), np.size(total)]
        return Tensor(np.array([row], np.float64))

    rows = []
    for carrier, found in ((parallel.threads, threads), (parallel.processes, processes)):
        with carrier(3) as group:
            for _ in range(2):  # the second time there is room for a large array
                rows.append(group.map(partial(reduced, found=found), np.ones(3)).numpy())
    assert all((row == rows[0][0]).all() for row in rows)
    for a, b in zip(threads, processes, strict=True):
        assert type(a) is type(b) and np.shape(a) == np.shape(b) and np.all(a == b)
        assert getattr(a, "strides", ()) == getattr(b, "strides", ())


def test_sums_stay_right_while_a_slow_shard_reads_and_a_fast_one_changes_its_own():
    def reduced(x):
        wrong = 0
        for i in range(60):
            total = shards.all_reduce(np.full(2000, i + shards.rank()))
            if i % 3 == shards.rank():
                time.sleep(0.001)
            wrong += (total != 3 * i + 3).sum()
            total += 1  # it belongs to this shard
        return Tensor(x + wrong)

    with parallel.processes(3) as group:
        assert (group.map(reduced, np.ones(3)).numpy() == 1).all()


def test_a_fast_shard_does_not_overwrite_what_a_slow_one_reads():
    arena = Arena()
    offset = arena.reserve(4 * 64)
    fast, slow = (Exchange(arena, rank, 2, offset, 64) for rank in range(2))
    shown = [shard.show(np.full(4, shard.rank + 1.0)) for shard in (fast, slow)]
    ones, twos = slow.read_all(*shown[0])
    fast.read_all(*shown[1])
    fast.show(np.zeros(4))
    assert ones.tolist() == [1] * 4 and twos.tolist() == [2] * 4
    assert fast.show(np.zeros(9)) is None


def test_results_and_gradients_stay_as_they_are_in_later_batches(pair):
    v, w = (tinycv.Parameter(np.ones(3)) for _ in range(2))

    def loss_of(x):  # w gets no gradient from shard 0
        return (Tensor(x) * (w if shards.rank() else v)).sum()

    first = pair.map(Tensor, np.ones((2, 3)))
    pair.backward(loss_of, np.ones((2, 3)))
    gradient, w.grad = w.grad, None
    pair.map(Tensor, np.zeros((2, 3)))
    pair.backward(loss_of, np.zeros((2, 3)))
    assert (first.numpy() == 1).all()
    assert gradient.numpy().tolist() == [0.5, 0.5, 0.5]


def test_a_message_that_only_wakes_is_passed_over():
    near, far = (Link(end, looks=0) for end in socket.socketpair())
    near.wake()
    near.send("job", 1)
    near.wake()
    near.send("job", 2)
    assert [far.receive(), far.receive()] == [("job", 1), ("job", 2)]
    near.socket.close()
    far.socket.close()


def test_batches_of_many_sizes_take_each_others_place_in_memory(pair):
    model, used = nn.Linear(3, 2), []
    for _ in range(3):
        for n in range(2, 40):
            constant = np.ones(n * 100)

            def loss_of(x, constant=constant):
                return (model(x) ** 2).mean() + constant[0]

            pair.backward(loss_of, Tensor(np.ones((n, 3), "f")))
        used.append(pair._workers.slots.arena.used)
    assert used[0] > 30_000 and used[2] <= used[0] + 10_000


def test_a_transposed_batch_and_one_without_rows_of_numbers_arrive_as_they_are(pair):
    x = np.arange(12.0).reshape(3, 4).T
    assert (pair.map(Tensor, x).numpy() == x).all()
    assert pair.map(Tensor, np.ones((4, 0))).shape == (4, 0)


def test_batch_norm_counts_a_batch_once(pair):
    norm, x = nn.BatchNorm1d(3), np.random.default_rng(0).normal(size=(6, 3)).astype("f")
    one = nn.BatchNorm1d(3)
    for _ in range(3):
        pair.backward(lambda x: (norm(x) ** 2).mean(), Tensor(x))
        one(Tensor(x))
    assert norm.num_batches_tracked.item() == 3
    np.testing.assert_allclose(norm.running_var.numpy(), one.running_var.numpy(), rtol=1e-5)


# ── errors ──


def killed(rank):
    if shards.rank() == rank:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("meets", [False, True])
def test_a_killed_worker_is_named_and_changes_nothing(meets):
    norm, w = nn.BatchNorm1d(1), tinycv.Parameter(np.ones(()))

    def loss_of(x, die):
        y = norm(Tensor(x) * w)
        if die[0]:
            killed(1)
        return ops.all_reduce(y.mean()) if meets else y.mean()

    x, alive = np.arange(6.0, dtype="f").reshape(6, 1), np.zeros(6)
    with parallel.processes(3) as group:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="computed shard 1 of a batch was .* SIGKILL"):
                group.backward(loss_of, x, alive + 1)
            assert w.grad is None and norm.num_batches_tracked.item() == 0
        group.backward(loss_of, x, alive)
        assert w.grad is not None and norm.num_batches_tracked.item() == 1


def test_a_worker_that_is_killed_between_two_batches_is_replaced(pair):
    by_worker(pair, Tensor)
    pid = pair._workers.workers[0].pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until it has ended; it stays a zombie
    assert by_worker(pair, Tensor) == 1


def test_the_error_of_a_worker_comes_with_its_traceback(pair):
    def guilty_function(x):
        return Tensor(x) if x[0] else {}["missing"]

    with pytest.raises(KeyError, match="missing") as caught:
        pair.map(guilty_function, np.array([1.0, 0.0]))
    assert "guilty_function" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_sent_is_described(pair):
    class Local(Exception):
        pass

    def fails(x):
        if x[0]:
            raise Local("only here")
        return Tensor(x)

    with pytest.raises(RuntimeError, match="Local: only here"):
        pair.map(fails, np.array([0.0, 1.0]))


class Positive:
    """A number that the worker refuses if it is negative."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return positive, (self.number,)


def positive(number):
    if number < 0:
        raise LookupError("it is negative")
    return Positive(number)


def test_a_function_that_a_worker_cannot_make_fails_each_time(pair):
    """The worker does not run an older function instead, which has the same number there."""

    def times(factor):
        return lambda x: Tensor(x * factor.number)

    for i in range(KEPT):
        assert by_worker(pair, times(Positive(i))) == i
    for _ in range(2):
        with pytest.raises(LookupError, match="it is negative"):
            pair.map(times(Positive(-1)), TWO)
    assert by_worker(pair, times(Positive(5))) == 5


def test_a_worker_that_is_killed_while_it_waits_for_a_shard_that_fails_is_named(pair):
    def fails(x):
        if shards.rank() == 1:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
            shards.all_reduce(x)
        time.sleep(0.3)
        raise ValueError("of shard 0")

    with pytest.raises(RuntimeError, match="computed shard 1 of a batch was ended by SIGKILL"):
        pair.map(fails, TWO)
    assert by_worker(pair, Tensor) == 1


def test_what_cannot_be_sent_is_refused(pair):
    numbers, w = (i for i in range(9)), tinycv.Parameter(np.ones(()))
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        pair.map(lambda x: Tensor(x * next(numbers)), TWO)
    computed = w * 2
    with pytest.raises(ValueError, match="computed by a recorded op"):
        pair.backward(lambda x: (x * computed).mean(), Tensor(TWO))


# ── ends ──


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # Linux: Z is a process that has ended, and is still listed
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", ["close", "drop", "fail"])
def test_no_process_is_left_behind(how):
    group = parallel.processes(3)
    group.map(Tensor, np.ones(3))
    pids = [worker.pid for worker in group._workers.workers]
    assert len(pids) == 2 and all(map(is_running, pids))
    if how == "close":
        group.close()
        group.close()
        with pytest.raises(RuntimeError, match="this group of processes is closed"):
            group.map(Tensor, TWO)
    elif how == "drop":
        holder = [group]
        holder.append(holder)
        del group, holder
        gc.collect()
    else:
        with pytest.raises(RuntimeError):
            group.map(lambda x: Tensor(x * killed(2)), np.ones(3))
    assert not any(map(is_running, pids))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with Prepared(FORKING, tmp_path_factory.mktemp("forking")) as process:
        yield process.says


def test_the_workers_of_a_program_that_is_killed_end_too(run):
    said = run(
        """
        group = parallel.processes(3)
        batch()
        print(*[worker.pid for worker in group._workers.workers], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        code=-signal.SIGKILL,
    )
    pids, deadline = [int(pid) for pid in said.split()], time.monotonic() + 20
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(pids) == 2 and not any(map(is_running, pids))


def test_an_open_group_works_in_a_forked_child_and_in_its_parent(run):
    run("""
    with parallel.processes(2) as group:
        batch()
        assert in_child(batch) == 0
        assert in_child(lambda: (batch(), group.close())) == 0
        batch()
    """)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_fork_inside_a_shard_raises_an_error_when_it_meets_the_other_shards(run, rank):
    said = run(f"""
    def forks(x):
        if shards.rank() == {rank}:
            assert in_child(lambda: shards.all_reduce(1)) == 7
        return Tensor(x * shards.all_reduce(1))
    with parallel.processes(2) as group:
        assert (group.map(forks, x).numpy() == 2).all()
    """)
    assert "RuntimeError this process was forked inside a shard" in said


def test_ctrl_c_ends_a_batch_and_the_group_works_again(run):
    run("""
    def slow(x):
        if shards.rank() == 1:
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(20)
        return Tensor(x)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with parallel.processes(2) as group:
        batch()
        begin = time.monotonic()
        try:
            group.map(slow, x)
        except KeyboardInterrupt:
            assert time.monotonic() - begin < 10
            batch()
        else:
            raise AssertionError("no KeyboardInterrupt")
    """)


# ── a training that ends early ──


DIES_AT = [99]


def train(path, at=None):
    tinycv.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3))
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 4)).astype("f"), generator.integers(0, 3, 20)
    steps = [0]

    def loss_fn(model, x, y):
        steps[0] += 1
        if steps[0] == at:
            killed(1)
        return F.cross_entropy(model(x), y)

    with parallel.processes(2) as group:
        fit(
            model,
            AdamW(model.named_parameters(), lr=0.01),
            loss_fn,
            DataLoader(x, y, batch_size=4, seed=1),
            3,
            checkpoint=path,
            checkpoint_every=2,
            progress=False,
            parallel=group,
        )
    return [t.numpy().copy() for t in model.state_dict().values()]


def test_a_training_whose_worker_was_killed_resumes_and_ends_with_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="SIGKILL"):
        train(tmp_path / "killed", at=8)
    assert (tmp_path / "killed").exists()
    again = train(tmp_path / "killed")
    assert all((a == b).all() for a, b in zip(again, whole, strict=True))


def test_pythons_random_numbers_in_a_worker_follow_from_the_seed():
    """Python gives each forked process a new seed by chance."""

    def noise(x):
        return Tensor(np.full(len(x), random.random()))

    found = []
    for _ in range(2):
        random.seed(0)
        with parallel.processes(3) as group:
            found.append(group.map(noise, np.zeros(3)).numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert len(set(found[0])) == 3  # each shard draws numbers of its own
