"""The suite "parallel": its workers compute the same step, what they send is counted exactly, and
the model on paper is the closed form of the ring."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import works

# benchmarks is not part of the installed package
sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import costs, gate, models, networks, parallel, ranks, scaling, worker
from benchmarks.row import QUICK

NET = costs.Network("a network", 3.0, 5.0)  # 3 s per message, 5 bytes/s
TEN = costs.Traffic(10.0, 1)  # 10 bytes in one exchange


# ── the model on paper ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "workers, in_rank_order, seconds",
    [
        (1, True, 0.0),  # a worker alone sends nothing
        (2, True, 2 * 3 + 10 / 5),  # 2 messages, each of half of the bytes
        (4, True, 6 * 3 + 1.5 * 10 / 5),
        (4, False, 4 * 3 + 1.5 * 10 / 5),  # log2(4) = 2 messages there, and 2 back
        (5, False, 6 * 3 + 1.6 * 10 / 5),  # log2(5), rounded up to 3
    ],
)
def test_the_time_of_an_exchange_is_the_closed_form(workers, in_rank_order, seconds):
    assert costs.exchange(workers, TEN, NET, in_rank_order) == pytest.approx(seconds, rel=1e-12)


def test_every_exchange_of_a_step_pays_the_latency_and_the_bytes_pay_once():
    three = costs.Traffic(10.0, 3)
    assert costs.exchange(2, three, NET) == pytest.approx(3 * 2 * 3 + 10 / 5)


def test_efficiency_is_the_share_of_the_time_in_which_a_worker_computes():
    # an exchange between two workers takes 8 s
    assert costs.weak(2, 24.0, TEN, NET) == pytest.approx(24 / 32)
    assert costs.strong(2, 24.0, TEN, NET) == pytest.approx(24 / (2 * (12 + 8)))


@pytest.mark.parametrize("workers", [2, 64])
def test_at_the_break_even_batch_half_of_the_time_is_lost(workers):
    batch = costs.break_even(workers, 0.25, TEN, NET)
    assert costs.weak(workers, 0.25 * batch, TEN, NET) == pytest.approx(0.5)


def test_latency_and_bandwidth_are_found_in_the_times_of_two_workers():
    sizes = [4.0, 100.0, 1000.0]
    seconds = [costs.exchange(2, costs.Traffic(n, 1), NET) for n in sizes]
    found = costs.fitted("found", sizes, seconds)
    assert found.bandwidth == pytest.approx(NET.bandwidth)
    # the smallest array is taken for nothing but latency
    assert found.latency == pytest.approx(NET.latency + 4 / 5 / 2)


# ── the workers ──────────────────────────────────────────────────────────────────────────────────


def test_a_step_sends_every_gradient_once_and_the_count_of_the_labels():
    task = models.TINY["tiny MLP"]
    numbers = sum(int(np.prod(shape)) for shape in networks.shapes_of(task).values())
    assert parallel.sent(task) == {"gradients": 4 * numbers, "statistics": 4, "exchanges": 2}


def test_batch_norm_sends_statistics():
    """The tiny GAN: three norms of 8, 4 and 2 channels. The generator runs twice forward, where a
    norm sends two sums per channel, and once backward."""
    task = models.TINY["tiny GAN"]
    numbers = sum(int(np.prod(shape)) for shape in networks.shapes_of(task).values())
    found = parallel.sent(task)
    assert found["gradients"] == 4 * numbers
    assert found["statistics"] >= 3 * 4 * 2 * (8 + 4 + 2)


def contenders():
    step, exchange = parallel.rows(quick=True)
    return [(row, c) for row in (step, exchange) for c in row.contenders]


@pytest.mark.parametrize("row, contender", contenders(), ids=lambda x: getattr(x, "name", None))
def test_every_carrier_computes_what_the_first_one_computes(row, contender):
    if contender.missing:
        assert contender.missing in (ranks.problem(), parallel.NO_FORK)
        return
    first = row.contenders[0]
    expected, found = (
        {name: np.array(gate.array_of(a)) for name, a in c.make(*c.args)().items()}
        for c in (first, contender)
    )
    gate.gate({"first": expected, "other": found})


def test_the_exchanged_array_is_the_sum_over_the_workers():
    work = parallel.exchanged("threads", 8, 3, workers=2)
    assert gate.array_of(work()["result"]).tolist() == [[2.0], [2.0]]


def test_half_of_the_batch_is_timed_and_the_whole_batch_is_checked():
    calls = []
    half = parallel.Half(lambda: calls.append("whole") or {}, lambda: calls.append("half") or {})
    half()
    assert calls == ["whole"]
    worker.turn(half, replace(QUICK, samples=1))
    assert set(calls[1:]) == {"half"}


def test_ranks_that_end_are_reported():
    if ranks.problem():
        assert "not installed" in ranks.problem()
        return
    with pytest.raises(RuntimeError, match="the MPI ranks ended with code"):
        ranks.by_ranks(2, works.dies)


# ── tables and picture ───────────────────────────────────────────────────────────────────────────


def entry(name, median):
    return {"name": name, "median": median}


def record():
    """One worker needs 8 s for 4 examples; 2 threads need 5 s. An exchange takes 2 s + a second per
    5 bytes."""
    times = [entry("1 worker", 8.0), entry("1 worker, half of the batch", 4.0)]
    step = {
        "group": "MLP",
        "name": "training step, batch 4",
        "contenders": [*times, entry("2 threads", 5.0), {"name": "2 processes", "missing": "no"}],
    }
    rows = [step]
    for size in (0, 10, 100):
        both = [entry("2 threads", 2 + size / 5), entry("2 MPI ranks", 2 + size / 5)]
        rows.append(
            {"group": "all-reduce", "name": "", "point": ["bytes", size], "contenders": both}
        )
    return {
        "suite": "parallel",
        "quick": False,
        "environment": {
            "cpu": {"model": "a CPU", "cores": 2},
            "blas": {"library": "b", "version": "1", "kernel": "k", "threads": 2},
            "versions": {"Python": "3", "NumPy": "2"},
            "commit": None,
            "uncommitted_changes": False,
        },
        "rows": rows,
        "sent": {"MLP": {"gradients": 1_500_000, "statistics": 0, "exchanges": 1}},
    }


def test_the_table_shows_strong_and_weak_scaling_and_latency_and_bandwidth():
    text = scaling.parallel_table(record())
    assert "| MLP, batch 4 | 8 s | 5 s: 80%, 80% | - | - | 1.5 MB | 0 kB | 1 |" in text
    assert "| 2 threads | 2 s | 4 s | 22 s | 1 s | 5e-09 GB/s |" in text


def test_the_table_shows_the_batch_at_which_communication_takes_as_long_as_computation():
    (row,) = scaling.steps(record())
    traffic, per_example = scaling.costs(record(), row)
    assert (traffic, per_example) == ((1_500_000, 1), 2.0)
    here = costs.Network("", 1.0, 5.0)
    batch = costs.break_even(8, 2.0, traffic, here)
    assert batch == pytest.approx((14 + 1.75 * 1_500_000 / 5) / 2)
    assert f" | {scaling.examples(batch)}, " in scaling.parallel_table(record())


def test_the_picture_is_drawn(tmp_path):
    file = scaling.draw(record(), tmp_path / "parallel.png")
    assert file.exists() and "64 workers" in scaling.sentence(record(), costs.NETWORKS[0])
