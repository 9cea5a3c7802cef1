"""Training in shards: the same step as without shards, the same bits every time, no deadlock."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor, nn
from tinycv.data import DataLoader
from tinycv.engine import backend, crew, ops, shards
from tinycv.engine.tensor import mode, recording
from tinycv.nn import functional as F
from tinycv.optim import AdamW
from tinycv.training import parallel
from tinycv.training.groups import shares
from tinycv.training.loop import fit
from tinycv.vision import ViT

RNG = np.random.default_rng(0)
SIZES = [1, 2, 3, 5]
CARRIERS = [parallel.threads, parallel.processes]
IMAGES, LABELS = RNG.normal(size=(7, 1, 8, 8)), np.array([2, 0, 1, 1, 2, 0, 0])


@pytest.fixture(
    params=[(c, n) for c in CARRIERS for n in SIZES],
    ids=lambda p: f"{p[1]} {p[0].__name__}",
)
def group(request):
    carrier, size = request.param
    with carrier(size) as group:
        yield group


@pytest.fixture(params=CARRIERS)
def pair(request):
    with request.param(2) as group:
        yield group


@pytest.fixture
def pair_of_threads():
    with parallel.threads(2) as group:
        yield group


def vit(dropout=0.0, dtype="float64"):
    tinycv.manual_seed(0)
    return ViT(8, 4, 3, dim=8, depth=2, heads=2, dropout=dropout).to(dtype)


def entropy_of(model):
    return lambda x, y: F.cross_entropy(model(x), y)


def gradients(model):
    return {
        name: None if p.grad is None else p.grad.numpy().copy()
        for name, p in model.named_parameters()
    }


def near(ours, theirs, rtol=1e-12):
    assert ours.keys() == theirs.keys()
    for name, a in ours.items():
        assert np.abs(a - theirs[name]).max() <= rtol * max(np.abs(theirs[name]).max(), 1e-2), name


# ── the same step ──


@pytest.mark.parametrize("n", [1, 2, 4, 7])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_vit_step_in_shards_equals_the_step_of_the_whole_batch(group, n, reduction):
    model, x, y = vit(), Tensor(IMAGES[:n]), LABELS[:n]
    whole = F.cross_entropy(model(x), y, reduction=reduction)
    whole.backward()
    expected = gradients(model)
    model.zero_grad()
    loss = group.backward(
        lambda x, y: F.cross_entropy(model(x), y, reduction=reduction), x, y, reduction=reduction
    )
    assert loss.shape == () and loss.dtype == np.float64 and not loss.requires_grad
    assert loss.item() == pytest.approx(whole.item(), rel=1e-13)
    near(gradients(model), expected)


def test_gradients_of_repeated_backward_calls_accumulate(group):
    model = vit()
    group.backward(entropy_of(model), IMAGES, LABELS)
    once = gradients(model)
    group.backward(entropy_of(model), IMAGES, LABELS)
    near(gradients(model), {name: 2 * g for name, g in once.items()})


def test_an_unused_parameter_gets_no_gradient_and_one_used_in_a_single_shard_gets_its_own(
    pair,
):
    unused, late = (tinycv.Parameter(np.ones(())) for _ in range(2))

    def loss_of(x):
        return (x * late).mean() if x[0] > 1 else Tensor(x, requires_grad=True).mean()

    pair.backward(loss_of, np.array([0.0, 0, 2, 4]))
    assert unused.grad is None and late.grad.item() == 1.5


def test_a_batch_that_requires_a_gradient_gets_it(group):
    x = Tensor(RNG.normal(size=(7, 2)), requires_grad=True)
    group.backward(lambda x: (x**3).sum(axis=1).mean(), x)
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.numpy() ** 2 / 7, rtol=1e-14)


def test_the_parts_are_views_and_nearly_equal():
    x = np.arange(14.0).reshape(7, 2)
    for array in (x, Tensor(x)):
        parts = [part[0] for _, part in shares((array,), 3)]
        assert [len(p) for p in parts] == [2, 2, 3]
        assert all(np.shares_memory(getattr(p, "_data", p), x) for p in parts)


def test_map_applies_the_function_without_recording(group):
    model = vit().eval()
    scores = group.map(model, Tensor(IMAGES))
    assert not scores.requires_grad
    np.testing.assert_allclose(scores.numpy(), model(Tensor(IMAGES)).numpy(), rtol=1e-12)


def test_threads_compute_at_the_same_time(pair_of_threads):
    together = threading.Barrier(2, timeout=30)  # breaks unless both threads are inside at once

    def loss_of(x):
        together.wait()
        return Tensor(x, requires_grad=True).mean()

    assert pair_of_threads.backward(loss_of, np.arange(4.0)).item() == 1.5


# ── the same bits ──


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_runs_with_dropout_have_the_bits_of_threads_unless_seed_or_step_differ(carrier, size):
    def run(seed, carrier):
        model = vit(dropout=0.3, dtype="float32")
        tinycv.manual_seed(seed)
        with carrier(size) as group:
            for _ in range(3):
                group.backward(entropy_of(model), IMAGES.astype("f"), LABELS)
        return b"".join(g.tobytes() for g in gradients(model).values())

    assert run((1, 2), carrier) == run((1, 2), parallel.threads) != run((1, 3), carrier)


def test_each_shard_and_each_split_draws_its_own_noise_and_the_process_keeps_its_stream(
    pair,
):
    def noise(x):
        return Tensor(backend.standard_normal(x.shape, x))

    tinycv.manual_seed(5)
    expected = backend.standard_normal(3, np)
    tinycv.manual_seed(5)
    first, second = (pair.map(noise, np.zeros(4, "f")).numpy() for _ in range(2))
    assert len({*first, *second}) == 8
    assert (backend.standard_normal(3, np) == expected).all()
    tinycv.manual_seed(5)
    assert (pair.map(noise, np.zeros(4, "f")).numpy() == first).all()


def test_the_number_of_splits_is_part_of_the_random_state(pair):
    def noise(x):
        return Tensor(backend.uniform(x.shape, x))

    tinycv.manual_seed(5)
    pair.map(noise, np.zeros(4))
    state = backend.get_rng_state()
    expected = pair.map(noise, np.zeros(4)).numpy()
    backend.set_rng_state(state)
    assert (pair.map(noise, np.zeros(4)).numpy() == expected).all()


def test_seeding_inside_a_shard_is_refused(pair):
    with pytest.raises(RuntimeError, match="seed before the batch is split"):
        pair.map(lambda x: tinycv.manual_seed(1), np.zeros(4))


# ── training ──


class Stop(Exception):
    """Raised by a loss, to simulate a crash."""


def train(path=None, size=2, stop=None, carrier=parallel.threads):
    model = vit(dropout=0.2, dtype="float32")
    optimizer = AdamW(model.named_parameters(), lr=0.01)

    def loss_fn(model, x, y):
        if stop is not None and stop():
            raise Stop
        return F.cross_entropy(model(x), y)

    with carrier(size) as group:
        history = fit(
            model,
            optimizer,
            loss_fn,
            DataLoader(IMAGES.astype("f"), LABELS, batch_size=3, seed=1),
            3,
            seed=4,
            checkpoint=path,
            checkpoint_every=2,
            progress=False,
            parallel=group,
        )
    return history.losses, [p.numpy().copy() for p in model.parameters()]


def test_a_stopped_training_with_threads_and_dropout_ends_with_the_same_bits(tmp_path):
    whole = train()
    calls = iter(range(1000))
    with pytest.raises(Stop):
        train(tmp_path / "run", stop=lambda: next(calls) > 8)
    again = train(tmp_path / "run")
    assert again[0] == whole[0]
    assert all((a == b).all() for a, b in zip(again[1], whole[1], strict=True))


def test_a_training_may_resume_with_another_number_of_threads(tmp_path):
    calls = iter(range(1000))
    with pytest.raises(Stop):
        train(tmp_path / "run", stop=lambda: next(calls) > 8)
    assert len(train(tmp_path / "run", size=3)[0]) == 9


def test_a_training_that_fails_restores_the_threads_of_blas():
    before = blas_threads()
    with pytest.raises(Stop):
        train(stop=lambda: True)
    assert blas_threads() == before


@pytest.mark.parametrize(
    "value, error", [("fork", ValueError), (2, TypeError), (["threads"], TypeError)]
)
def test_fit_names_the_carriers_if_it_gets_another_value(value, error):
    model = vit()
    with pytest.raises(error, match=r"fit: parallel is .*; it must be None, \"threads\""):
        loader = DataLoader(IMAGES, LABELS, batch_size=3)
        fit(model, AdamW(model.named_parameters()), entropy_of, loader, 1, parallel=value)


def test_a_group_opened_by_its_name_is_closed_at_the_end_and_an_open_one_is_not(pair_of_threads):
    with parallel.opened("threads") as named, parallel.opened(pair_of_threads) as same:
        assert named.map(Tensor, np.ones(4)).shape == same.map(Tensor, np.ones(4)).shape
    with pytest.raises(RuntimeError, match="this group of threads is closed"):
        named.map(Tensor, np.ones(4))
    assert same is pair_of_threads and same.map(Tensor, np.ones(4)).shape == (4,)


def test_a_group_of_this_process_alone_computes_the_step_of_the_whole_batch():
    model = vit()
    F.cross_entropy(model(Tensor(IMAGES)), LABELS).backward()
    expected = gradients(model)
    model.zero_grad()
    with parallel.opened(None) as group:
        group.backward(entropy_of(model), IMAGES, LABELS)
        assert group.map(model, IMAGES).shape == (7, 3)
    near(gradients(model), expected)


def test_inputs_are_the_only_leaves_that_receive_a_gradient(group):
    def loss_of(x, y):
        x = Tensor(x, requires_grad=True)  # a leaf that each shard has for itself
        return F.cross_entropy(model(x), y)

    model = vit()
    head = [model.head.weight, model.head.bias]
    loss = group.backward(loss_of, IMAGES, LABELS, inputs=head)
    found = [p.grad.numpy() for p in head]
    assert all(p.grad is None for p in model.parameters() if p not in set(head))
    model.zero_grad()
    whole = F.cross_entropy(model(Tensor(IMAGES)), LABELS)
    whole.backward()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-12)
    for a, p in zip(found, head, strict=True):
        np.testing.assert_allclose(a, p.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_inputs_that_are_not_tensors_are_refused(pair):
    with pytest.raises(TypeError, match=r"Group.backward: inputs is 3; it must be a Tensor or a"):
        pair.backward(entropy_of(vit()), IMAGES, LABELS, inputs=3)


# ── Errors ──


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("culprit", [0, 1, 2])
@pytest.mark.parametrize("meetings", [0, 1, 2])
def test_the_error_of_a_shard_reaches_the_caller_and_no_shard_hangs(carrier, culprit, meetings):
    def loss_of(x):
        y = Tensor(x, requires_grad=True).mean()
        if meetings == 2:
            y = ops.all_reduce(y)
        if x[0] == culprit:
            raise ZeroDivisionError(f"in {culprit}")
        return ops.all_reduce(y) if meetings else y

    with carrier(3) as group:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError, match=f"in {culprit}"):
                group.backward(loss_of, np.arange(3.0))
        assert (
            group.backward(lambda x: Tensor(x, requires_grad=True).mean(), np.arange(3.0)).item()
            == 1
        )


class Interrupts:
    """Ctrl-C at chosen lines of crew.py that this thread runs: the first such line, the second, ...

    Not at `with` and `try`, where Python does not look for signals.
    """

    def __init__(self, *lines):
        self.lines, self.passed = set(lines), 0

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != crew.__file__:
            return None
        line = linecache.getline(crew.__file__, frame.f_lineno).strip()
        if event == "line" and not line.startswith(("with ", "try:")):
            self.passed += 1
            if self.passed in self.lines:
                raise KeyboardInterrupt
        return self


def in_time(work):
    """The result of ``work()``; it fails if ``work`` hangs."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(30)
    assert results, "it hangs, or has failed"
    return results[0]


def interrupted(batch, *lines):
    """Whether Ctrl-C at these lines reached the caller of ``batch()``; None if there are fewer
    lines."""
    interrupts, before = Interrupts(*lines), sys.gettrace()
    sys.settrace(interrupts)
    try:
        batch()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return None if interrupts.passed < lines[0] else False


@pytest.mark.parametrize("again", [(), (1,), (4,), (9,)])
def test_ctrl_c_anywhere_in_a_batch_leaves_a_group_that_works_and_closes(again):
    """again: how many lines later Ctrl-C is pressed a second time."""
    norm, x = nn.BatchNorm1d(6), np.random.default_rng(0).normal(size=(8, 6)).astype("f4")

    def walk():
        line, tracked = 0, norm.num_batches_tracked
        while True:
            line += 1
            group = parallel.threads(2)

            def batch(group=group):
                return group.backward(lambda x: (norm(Tensor(x)) ** 2).mean(), x).item()

            before = tracked.item()
            found = interrupted(batch, line, *(line + more for more in again))
            if line % 2 and found:  # otherwise the group is closed as the interrupt left it
                assert batch() == pytest.approx(1, abs=1e-3) and tracked.item() == before + 1
            group.close()
            if found is None:
                return line
            assert found

    assert in_time(walk) > 50


def test_grad_is_as_it_was_after_an_error(pair):
    w = tinycv.Parameter(np.ones(()))

    def loss_of(x):
        if x[0]:
            raise ValueError("no")
        return (x * w).mean()

    with pytest.raises(ValueError, match="no"):
        pair.backward(loss_of, np.array([0.0, 1]))
    assert w.grad is None


def test_a_shard_that_calls_all_reduce_more_often_than_the_others_fails(pair):
    def unequal(x):
        return Tensor(shards.all_reduce(x) if x[0] else x)

    with pytest.raises(RuntimeError, match="equally often"):
        pair.map(unequal, np.array([0.0, 1]))


def test_all_reduce_refuses_shapes_that_differ_between_shards(pair):
    with pytest.raises(ValueError, match=r"\[\(1,\), \(2,\)\]"):
        pair.map(lambda x: Tensor(shards.all_reduce(x)), np.arange(3.0))


@pytest.mark.parametrize(
    "batch, error, words",
    [
        ((np.ones(3), 2.0), TypeError, "argument 1 of the batch is of type float"),
        ((np.ones(3), [1, 2, 3]), TypeError, "of type list"),
        ((np.ones(()),), TypeError, "single number"),
        ((np.ones(3), np.ones((4, 2))), ValueError, r"\[3, 4\] examples"),
        ((), ValueError, "at least one array"),
        ((Tensor(np.ones(3), requires_grad=True) * 2,), ValueError, "detach"),
    ],
)
def test_a_batch_that_cannot_be_split_is_refused(group, batch, error, words):
    with pytest.raises(error, match=words):
        group.backward(lambda *xs: Tensor(1.0, requires_grad=True), *batch)


@pytest.mark.parametrize(
    "made, words", [(lambda x: 1.0, "not float"), (lambda x: Tensor(x), r"shape \(2,\)")]
)
def test_a_loss_that_is_not_a_number_is_refused(pair, made, words):
    with pytest.raises(TypeError, match=words):
        pair.backward(made, np.ones(4))


def test_map_needs_one_row_per_example_and_backward_a_known_reduction(pair):
    with pytest.raises(TypeError, match=r"of 2 examples the function made a Tensor of shape \(\)"):
        pair.map(lambda x: Tensor(x).mean(), np.ones(4))
    with pytest.raises(ValueError, match="reduction is 'none'"):
        pair.backward(lambda x: x, np.ones(4), reduction="none")


def test_a_shard_cannot_split_again(pair):
    with pytest.raises(RuntimeError, match="cannot be split again"):
        pair.map(lambda x: pair.map(Tensor, x), np.ones(4))


def test_a_batch_on_a_gpu_is_refused(pair, double):
    for x in (Tensor(np.ones(4), device="gpu"), backend.to_device(np.ones(4), "gpu")):
        with pytest.raises(ValueError, match="argument 0 of the batch is on gpu:0"):
            pair.backward(lambda x: x.mean(), x)


@pytest.mark.parametrize(
    "size, error",
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)],
)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_group_has_at_least_one_worker(carrier, size, error):
    words = f"{carrier.__name__}: size is .*; it must be a whole number, at least 1"
    with pytest.raises(error, match=words):
        carrier(size)
    with carrier(np.int64(2)) as group:
        assert group.size == 2


# ── BLAS, closing, debug ──


def blas_threads():
    return [
        pool["num_threads"]
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    ]


@pytest.mark.parametrize("error", [None, Stop])
def test_blas_has_one_thread_in_a_group_and_its_old_number_afterwards(error):
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        try:
            with parallel.threads(2):
                assert set(blas_threads()) == {1}
                if error:
                    raise error
        except Stop:
            pass
        assert blas_threads() == before and 2 in before


def test_a_closed_group_leaves_no_threads_behind_and_may_be_closed_again():
    before = threading.active_count()
    group = parallel.threads(3)
    assert threading.active_count() == before + 2
    group.close()
    group.close()
    assert threading.active_count() == before


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["open", "close", "drop"]), st.integers(0, 3)), max_size=8)
)
def test_blas_has_one_thread_while_any_group_is_open_whatever_the_order(moves):
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before, running, groups = blas_threads(), threading.active_count(), []
        for move, i in moves:
            if move == "open":
                groups.append(parallel.threads(2))
            elif groups:
                group = groups.pop(i % len(groups))
                if move == "close":
                    group.close()
                del group
            assert blas_threads() == ([1] * len(before) if groups else before)
        while groups:
            groups.pop(0).close()
        assert blas_threads() == before
        assert in_time(lambda: all_ended(running + 1))


def all_ended(running):
    while threading.active_count() > running:
        time.sleep(0.001)
    return True


def test_a_group_collected_in_a_cycle_ends_its_threads_and_restores_blas():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before, running = blas_threads(), threading.active_count()
        holder = [parallel.threads(3)]
        holder.append(holder)
        holder[0].map(Tensor, np.ones(3))
        del holder
        gc.collect()
        assert blas_threads() == before and in_time(lambda: all_ended(running + 1))


def test_none_means_all_cores():
    with parallel.threads() as group:
        assert group.size == parallel.available_cores() >= 1


def test_debug_and_no_grad_apply_inside_the_threads(pair_of_threads):
    seen = []

    def note(x):
        seen.append((mode.get(), recording()))
        return Tensor(x)

    with tinycv.debug():
        pair_of_threads.map(note, np.ones(2))
        expected = mode.get()
        with pytest.raises(FloatingPointError, match="forward: 'log'"), np.errstate(all="ignore"):
            pair_of_threads.backward(
                lambda x: tinycv.log(Tensor(x, requires_grad=True)).mean(), np.array([1.0, 1, 1, 0])
            )
    with tinycv.no_grad(), pytest.raises(RuntimeError, match="no_grad"):
        pair_of_threads.backward(lambda x: (tinycv.Parameter(np.ones(())) * x).mean(), np.ones(4))
    assert len(seen) == 2 and all(not on and now & ~1 == expected & ~1 for now, on in seen)


# ── all_reduce ──


def test_all_reduce_gives_every_shard_its_own_copy_of_the_sum(group):
    def run(x):
        total = shards.all_reduce(x.sum(keepdims=True) * 1.0)
        total += shards.rank()  # must not change the copies of the other shards
        return Tensor(np.full(len(x), total[0] - shards.rank()))

    assert (group.map(run, np.arange(6.0)).numpy() == 15).all()


def test_all_reduce_outside_of_shards_is_the_identity():
    x = np.ones(3)
    assert shards.all_reduce(x) is x and shards.all_reduce(3) == 3 and shards.rank() == 0


def penalty_of(w, total):
    """A loss with a gradient in it: Σ_i |d(Σ_j f_j)/dx_i|², where each f_j depends on the whole
    batch's sum."""

    def loss_of(x):
        x = Tensor(x, requires_grad=True)
        sums = total((x * x).sum(axis=0))  # over the whole batch
        f = (tinycv.tanh(x * w) * sums).sum()
        (slope,) = tinycv.grad(f, x, create_graph=True)
        return f + (slope * slope).sum()

    return loss_of


def test_both_derivatives_of_all_reduce_equal_those_of_the_whole_batch(group):
    w, x = tinycv.Parameter(RNG.normal(size=3)), RNG.normal(size=(7, 3))
    whole = penalty_of(w, lambda s: s)(x)
    whole.backward()
    expected, w.grad = w.grad.numpy(), None
    loss = group.backward(penalty_of(w, ops.all_reduce), x, reduction="sum")
    assert loss.item() == pytest.approx(whole.item(), rel=1e-13)
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12)


# ── batch normalisation in shards ──


def normed(seed=0):
    tinycv.manual_seed(seed)
    return nn.Sequential(
        nn.BatchNorm2d(2),
        nn.Flatten(),
        nn.Linear(2 * 9, 4),
        nn.BatchNorm1d(4, affine=False),
        nn.Tanh(),
        nn.Linear(4, 3),
    ).to("float64")


@pytest.mark.parametrize("n", [2, 7])
def test_batch_norm_in_shards_equals_that_of_the_whole_batch(group, n):
    x, y = 3 + 2 * RNG.normal(size=(n, 2, 3, 3)), LABELS[:n]
    alone, shared = normed(), normed()
    for _ in range(2):
        whole = F.cross_entropy(alone(Tensor(x)), y)
        whole.backward()
        loss = group.backward(entropy_of(shared), Tensor(x), y)
        assert loss.item() == pytest.approx(whole.item(), rel=1e-13)
    near(gradients(shared), gradients(alone))
    near(
        {k: v.numpy() for k, v in shared.state_dict().items()},
        {k: v.numpy() for k, v in alone.state_dict().items()},
    )
    assert shared[0].num_batches_tracked.item() == 2


def test_a_gradient_penalty_through_batch_norm_in_shards_equals_that_of_the_whole_batch(group):
    x = 1 + RNG.normal(size=(5, 2, 3))
    weight, bias = (tinycv.Parameter(RNG.normal(size=2)) for _ in range(2))

    def loss_of(x):
        x = Tensor(x, requires_grad=True)
        f = (F.batch_norm(x, None, None, weight, bias, training=True) ** 3).sum()
        (slope,) = tinycv.grad(f, x, create_graph=True)
        return f + (slope * slope).sum()

    loss_of(x).backward()
    expected = weight.grad.numpy(), bias.grad.numpy()
    weight.grad = bias.grad = None
    group.backward(loss_of, x, reduction="sum")
    np.testing.assert_allclose(weight.grad.numpy(), expected[0], rtol=1e-11)
    np.testing.assert_allclose(bias.grad.numpy(), expected[1], rtol=1e-11)


def test_a_closed_group_refuses_work():
    group = parallel.threads(2)
    group.close()
    for call in (
        lambda: group.map(Tensor, np.ones(4)),
        lambda: group.backward(entropy_of(vit()), IMAGES, LABELS),
    ):
        with pytest.raises(RuntimeError, match="this group of threads is closed"):
            call()


# ── Means over rows that are unevenly distributed among the shards ──

SCORES, CLASSES = RNG.normal(size=(8, 4)), RNG.integers(0, 4, 8)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ignored=st.lists(st.booleans(), min_size=8, max_size=8), smoothing=st.sampled_from([0.0, 0.2])
)
def test_cross_entropy_with_ignored_rows_equals_that_of_the_whole_batch(group, ignored, smoothing):
    w, y = tinycv.Parameter(np.eye(4)), np.where(ignored, -100, CLASSES)
    # if no row counts, the mean is NaN, as without shards
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = F.cross_entropy(Tensor(SCORES) @ w, y, label_smoothing=smoothing)
        whole.backward()
        expected, w.grad = w.grad.numpy(), None
        loss = group.backward(
            lambda x, y: F.cross_entropy(x @ w, y, label_smoothing=smoothing), Tensor(SCORES), y
        )
    np.testing.assert_allclose(loss.numpy(), whole.numpy(), rtol=1e-12)
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("target", [CLASSES, np.eye(4)[CLASSES] * 0.7 + 0.1])
def test_cross_entropy_of_selected_rows_equals_that_of_the_whole_batch(group, target):
    w, chosen = tinycv.Parameter(np.eye(4)), np.array([1, 1, 0, 0, 0, 1, 0, 1], bool)

    def loss_of(x, y, chosen):
        return F.cross_entropy((x @ w)[chosen], Tensor(y)[chosen] if y.ndim == 2 else y[chosen])

    whole = loss_of(Tensor(SCORES), target, chosen)
    whole.backward()
    expected, w.grad = w.grad.numpy(), None
    assert group.backward(loss_of, Tensor(SCORES), target, chosen).item() == pytest.approx(
        whole.item(), rel=1e-12
    )
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_the_definition_of_cross_entropy_agrees_in_shards_and_has_a_second_derivative(group):
    w, y = tinycv.Parameter(np.eye(4)), np.where(np.arange(8) < 4, -100, CLASSES)

    def penalty(loss):
        def loss_of(x, y):
            x = Tensor(x, requires_grad=True)
            (slope,) = tinycv.grad(loss(x @ w, y), x, create_graph=True)
            return (slope * slope).sum()

        return loss_of

    expected = []
    for loss in (F.cross_entropy, F.cross_entropy.definition):
        penalty(loss)(SCORES, y).backward()
        expected.append(w.grad.numpy())
        w.grad = None
    np.testing.assert_allclose(*expected, rtol=1e-9)
    # all rows of the first shard are ignored, so its gradients are 0
    with parallel.threads(2) as two:
        two.backward(lambda x, y: penalty(F.cross_entropy)(x, y), SCORES, y)
    assert np.isfinite(w.grad.numpy()).all()


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda w: lambda x, y: F.mse_loss(x @ w, Tensor(np.eye(4)[y])),
        lambda w: (
            lambda x, y: F.binary_cross_entropy_with_logits(
                x @ w, Tensor(np.eye(4)[y]), Tensor(np.arange(4.0))
            )
        ),
    ],
)
def test_other_means_equal_those_of_the_whole_batch(group, loss_of):
    w = tinycv.Parameter(np.eye(4))
    whole = loss_of(w)(Tensor(SCORES), CLASSES)
    whole.backward()
    expected, w.grad = w.grad.numpy(), None
    assert group.backward(loss_of(w), Tensor(SCORES), CLASSES).item() == pytest.approx(
        whole.item(), rel=1e-12
    )
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-10)


# ── Many threads, one leaf ──


def test_no_gradient_is_lost_when_many_threads_add_to_one_leaf(monkeypatch):
    """Each thread reads .grad, and has to wait before it writes the sum: without a lock, gradients
    of the other threads would be lost."""
    leaf, lost = tinycv.Parameter(np.zeros(3)), tinycv.Tensor.__add__

    def slow(self, other):
        time.sleep(0.002)
        return lost(self, other)

    monkeypatch.setattr(tinycv.Tensor, "__add__", slow)

    def work():
        for _ in range(10):
            (leaf * 1.0).sum().backward()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert leaf.grad.numpy().tolist() == [40.0] * 3


@pytest.mark.parametrize(
    "batch",
    [
        np.ma.masked_array([1.0, 2.0], [True, False]),
        np.array(["a", "b"]),
        np.zeros(2, "M8[s]"),
        np.array([None, 1]),
        np.zeros(2, "i4,f4"),
        np.ones(2, complex),
    ],
    ids=["masked", "texts", "dates", "objects", "records", "complex"],
)
def test_only_arrays_of_numbers_are_split(batch):
    with parallel.threads(2) as group:
        for name, call in (("map", group.map), ("backward", group.backward)):
            with pytest.raises(
                TypeError,
                match=rf"Group.{name}: argument 1 of the batch: an? .* cannot become a Tensor",
            ):
                call(lambda x, y: x, np.ones(2), batch)
