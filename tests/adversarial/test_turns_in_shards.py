"""fit_gan with a group of workers: the training of the whole batch, whoever computes the shards.
(The curves of a DCGAN: tests/training/test_carriers.py; with MPI: tests/mpi.)"""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv import nn
from tinycv.adversarial.gan import (
    R1,
    WASSERSTEIN,
    Conditional,
    Game,
    GradientPenalty,
    Packed,
)
from tinycv.adversarial.turns import fit_gan
from tinycv.data import DataLoader
from tinycv.optim import SGD, Adam
from tinycv.optim.averaged import EMA
from tinycv.training import parallel

CARRIERS = [parallel.threads, parallel.processes]
X = np.random.default_rng(0).normal(size=(20, 2)) + 1
LABELS = np.random.default_rng(1).integers(3, size=20)


def network(inputs, outputs):
    # No bias before batch norm: its gradient is 0 but for rounding, which Adam would enlarge.
    first = nn.Linear(inputs, 6, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, outputs)).to("float64")


def sides(classes=0, pack=1):
    """A generator and a discriminator of points, with batch norm."""
    tinycv.manual_seed(0)
    generator, discriminator = network(3 + classes, 2), network((2 + classes) * pack, 1)
    if classes:
        generator, discriminator = (Conditional(n, classes) for n in (generator, discriminator))
    generator.latent = 3
    return generator, Packed(discriminator, pack) if pack > 1 else discriminator


def play(pair, group=None, optimizer=Adam, classes=0, batch_size=7, **options):
    """The losses of a training, and all weights, running statistics and averages at its end."""
    generator, discriminator = pair
    arrays = (X, LABELS) if classes else (X,)
    ema = EMA(generator, 0.9)
    history = fit_gan(
        generator,
        discriminator,
        optimizer(generator.named_parameters(), lr=0.01),
        optimizer(discriminator.named_parameters(), lr=0.01),
        DataLoader(*arrays, batch_size=batch_size, seed=3),
        options.pop("epochs", 2),
        ema=ema,
        progress=False,
        parallel=group,
        **options,
    )
    tensors = [t.numpy().copy() for side in pair for t in side.state_dict().values()]
    return [np.array(history.losses), *tensors, *ema.state_dict().values()]


def by(carrier, size=2, classes=0, pack=1, **options):
    with carrier(size) as group:
        return play(sides(classes, pack), group, classes=classes, **options)


def near(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def same_bits(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"critic_steps": 2}, {"penalty": R1(1.0), "critic_steps": 3}, {"classes": 3}],
    ids=["plain", "critic steps", "R1", "classes"],
)
def test_losses_weights_statistics_and_averages_are_those_of_the_whole_batch(carrier, options):
    near(by(carrier, **options), play(sides(options.get("classes", 0)), **options))


def test_three_shards_and_a_batch_of_fewer_examples_than_shards_are_the_whole_batch():
    # 20 examples in batches of 6: the last one has 2
    near(by(parallel.threads, 3, batch_size=6), play(sides(), batch_size=6))


def test_the_noise_of_a_penalty_is_that_of_the_shard_whoever_computes_it():
    options = {"penalty": GradientPenalty(1.0)}
    two = by(parallel.threads, **options)
    same_bits(by(parallel.processes, **options), two)
    assert (two[0] != play(sides(), **options)[0]).any()


def test_packs_of_examples_are_those_of_the_whole_batch_if_they_divide_the_shards():
    near(by(parallel.threads, pack=2, batch_size=4), play(sides(pack=2), batch_size=4))


def test_a_shard_that_does_not_divide_into_packs_is_refused():
    with pytest.raises(ValueError, match="Packed: a shard of 5 does not divide into packs of 2"):
        by(parallel.threads, pack=2, batch_size=10)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_after_an_error_in_the_generators_turn_every_weight_still_learns(carrier):
    def fails(fake):
        if fake.requires_grad:
            raise ZeroDivisionError("in the turn of the generator")
        return fake.mean()

    pair = sides()
    with carrier(2) as group:
        with pytest.raises(ZeroDivisionError, match="in the turn of the generator"):
            play(pair, group, game=Game(WASSERSTEIN.discriminator, fails))
        assert all(p.requires_grad and p.grad is None for side in pair for p in side.parameters())
        assert np.isfinite(play(pair, group)[0]).all()


@pytest.mark.parametrize("carriers", [CARRIERS, CARRIERS[::-1]], ids=["threads first", "last"])
def test_a_training_resumes_with_another_carrier_and_ends_with_the_same_bits(carriers, tmp_path):
    options = {"penalty": GradientPenalty(1.0), "critic_steps": 2, "checkpoint_every": 2}
    whole = by(carriers[1], epochs=3, **options)
    by(carriers[0], epochs=1, checkpoint=tmp_path / "run", **options)
    same_bits(by(carriers[1], epochs=3, checkpoint=tmp_path / "run", **options), whole)


def test_unrolled_steps_cannot_be_split():
    with pytest.raises(ValueError, match="fit_gan: unroll is 2 and parallel is 'threads'; "):
        play(sides(), "threads", unroll=2)


@pytest.mark.parametrize("value, error", [("fork", ValueError), (2, TypeError)])
def test_fit_gan_names_the_carriers_if_it_gets_another_value(value, error):
    with pytest.raises(error, match=r"fit_gan: parallel is .*; it must be None, \"threads\""):
        play(sides(), value)


def test_a_group_of_one_worker_trains_with_the_bits_of_none():
    same_bits(by(parallel.threads, 1, optimizer=SGD), play(sides(), optimizer=SGD))
