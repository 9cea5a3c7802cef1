"""What it costs to exchange gradients among N workers: the model on paper of the suite "parallel".

A message of n bytes takes α + n/β seconds: α is the latency, β the bandwidth. An all-reduce gives
every worker the sum of the arrays of all workers. In a ring (Patarasuk & Yuan 2009) each worker
sends 2 (N - 1) messages to its neighbour, each an N-th of the array:

    t(N) = 2 (N - 1) α + 2 (N - 1)/N · n/β

The sum in rank order (training/mpi.py) costs the same: each worker sends one N-th of its array to
every other worker, adds up the N-ths that it receives, and sends the sum to every other worker.
MPI's Allreduce may halve the array at each message instead, and double it again (Rabenseifner 2004,
"Optimization of Collective Reduction Operations", ICCS). If N is a power of 2, that takes fewer
messages for the same bytes:

    t(N) = 2 ⌈log2 N⌉ α + 2 (N - 1)/N · n/β

A step of a training on N workers takes the time in which one worker computes its share of the
batch, plus the time of the exchanges. The model assumes that the two do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2
from typing import NamedTuple


class Network(NamedTuple):
    """latency: α, s per message. bandwidth: β, bytes/s that a worker sends while it receives as
    many."""

    name: str
    latency: float
    bandwidth: float


# The bandwidths are those in the names; that of NVLink 4 is NVIDIA's 900 GB/s per GPU, which counts
# both directions. All latencies are assumptions, of the usual order of magnitude.
NETWORKS = (
    Network("10 Gbit/s Ethernet", 30e-6, 10e9 / 8),
    Network("100 Gbit/s InfiniBand", 2e-6, 100e9 / 8),
    Network("NVLink 4", 5e-6, 450e9),
)


class Traffic(NamedTuple):
    """What the workers exchange in one step of a training: the bytes of all exchanges together, and
    the number of exchanges."""

    bytes: float
    exchanges: int


def messages(workers: int, in_rank_order: bool) -> int:
    """How many messages each worker sends, one after another, in an all-reduce."""
    return 2 * (workers - 1) if in_rank_order else 2 * ceil(log2(workers))


def exchange(workers: int, traffic: Traffic, network: Network, in_rank_order: bool = True) -> float:
    """Seconds that the exchanges of a step take."""
    latency = traffic.exchanges * messages(workers, in_rank_order) * network.latency
    return latency + 2 * (workers - 1) / workers * traffic.bytes / network.bandwidth


def weak(
    workers: int, compute: float, traffic: Traffic, network: Network, in_rank_order: bool = True
) -> float:
    """The efficiency of weak scaling: each worker keeps its batch, which it computes in ``compute``
    s. It is the share of the step in which a worker computes."""
    return compute / (compute + exchange(workers, traffic, network, in_rank_order))


def strong(
    workers: int, compute: float, traffic: Traffic, network: Network, in_rank_order: bool = True
) -> float:
    """The efficiency of strong scaling: the workers share one batch, which one worker alone
    computes in ``compute`` s."""
    return weak(workers, compute / workers, traffic, network, in_rank_order)


def break_even(
    workers: int, per_example: float, traffic: Traffic, network: Network, in_rank_order: bool = True
) -> float:
    """The examples per worker for which the exchange takes as long as the computation, so that half
    of the workers' time is lost. per_example: s that a worker computes for one example."""
    return exchange(workers, traffic, network, in_rank_order) / per_example


def fitted(name: str, sizes: Sequence[float], seconds: Sequence[float]) -> Network:
    """The latency and bandwidth of an exchange that was timed with two workers, for which
    t = 2 α + n/β: α from the smallest size, and β from the time that the largest one takes in
    addition."""
    (small, shortest), *_, (large, longest) = sorted(zip(sizes, seconds, strict=True))
    return Network(name, shortest / 2, (large - small) / (longest - shortest))
