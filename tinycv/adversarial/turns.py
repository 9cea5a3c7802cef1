"""GAN training loop: generator and discriminator take turns, and neither changes the other's state.

    for each batch x:   one step of D, on x and on fakes G(z), which are constants here
                        after every ``critic_steps`` batches one step of G, on D(G(z)), where the
                        weights of D are constants

Why does a discriminator step detach the generator's images?  The loss of D falls when fakes become
easier to recognise.  If they kept their history, ``d_loss.backward()`` would go on through the
fakes into G and add this gradient to the ``.grad`` of G's weights, and the next step of G would
make its fakes easier to recognise.  Clearing the gradients of G in time avoids that, but then each
step of D still pays for a backward pass through G whose result is thrown away, and this pass frees
the graph that the step of G needs.

Bugs in such a loop raise no error, so here the code rules them out:
- each side takes the gradient of its loss with respect to its weights alone (``grad``, not
  ``backward``), so nothing is left behind in the ``.grad`` of the other side; an optimiser that
  holds a weight of the other side is refused;
- D sees fakes without their history (``detach``);
- the running statistics of batch norm, and all other buffers of a network, change only in the turn
  of that network.

With ``parallel``, several workers take each turn together: each of them computes the losses for its
rows of the batch, and the gradients are added up (training/groups.py).  A graph does not outlive
its turn there, so each turn makes the fakes itself; see below the ruled line.

Goodfellow et al. 2014, algorithm 1.
Two time scales (Heusel et al. 2017): give the optimisers different rates.
Read first: gan.py, training/loop.py.
Test: tests/adversarial/test_turns.py plants these bugs in a loop and checks that they are caught.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from tinycv.adversarial.gan import NON_SATURATING, Game, Penalty
from tinycv.adversarial.inputs import check_ema, check_extras, check_shapes, check_sides, latent_of
from tinycv.adversarial.unrolled import unrolled
from tinycv.data.loader import DataLoader, DrawnLoader
from tinycv.engine import backend
from tinycv.engine.arguments import flag, shown
from tinycv.engine.arguments import whole as whole_number
from tinycv.engine.backend import Array
from tinycv.engine.backward import grad
from tinycv.engine.create import zeros
from tinycv.engine.methods import stack
from tinycv.engine.shards import all_reduce, member
from tinycv.engine.state import renew
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.inputs import finite, whole
from tinycv.nn.module import Module
from tinycv.optim import Schedule
from tinycv.optim.averaged import EMA
from tinycv.optim.optimizer import Optimizer
from tinycv.training.groups import Group
from tinycv.training.half import Half
from tinycv.training.hooks import Hook, checked_hooks
from tinycv.training.inputs import checkpoint_path, device_name
from tinycv.training.loop import History, Run, set_learning_rates
from tinycv.training.parallel import opened


class Players(Module):
    """Both networks as one Module, so that one checkpoint holds them: ``generator.*`` and
    ``discriminator.*``."""

    def __init__(self, generator: Module, discriminator: Module):
        self.generator, self.discriminator = generator, discriminator


def fit_gan(  # noqa: PLR0913  as many arguments as training.fit
    generator: Module,
    discriminator: Module,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    loader: DataLoader | DrawnLoader,
    epochs: int,
    *,
    game: Game = NON_SATURATING,
    penalty: Penalty | None = None,
    critic_steps: int = 1,
    unroll: int = 0,
    unroll_lr: float = 1e-3,
    schedule: Schedule | None = None,
    ema: EMA | None = None,
    evaluate: Callable[[Module], Mapping[str, float]] | None = None,
    evaluate_every: int = 1,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool = True,
    log_every: int = 10,
    on_step: Hook | Sequence[Hook] | None = None,
    parallel: str | Group | None = None,
) -> History:
    """Train both networks for ``epochs`` passes through ``loader``. Returns the history;
    losses[i] is [discriminator's loss, generator's loss].

    loader: gives batches of real examples, (x,), or (x, y) if both sides take a class y
    (gan.Conditional). generator(z, *y) turns noise z (B, generator.latent), N(0, I), into fakes;
    discriminator(x, *y) returns logits.
    game: the pair of losses. penalty(discriminator, real, fake, *y): is added to the loss of the
    discriminator. critic_steps: steps of the discriminator for each step of the generator.
    unroll: how many steps of the discriminator, of rate unroll_lr, the generator looks ahead
    (unrolled.py). ema: averages the weights of the generator. evaluate(generator) and all other
    arguments: as in training.fit. Resuming from a checkpoint gives the same bits.
    parallel: None, "threads", "processes", "mpi" or an open group, as in training.fit. The losses
    of the game and the penalty must then be means over the examples. The noise z is drawn for the
    whole batch, so it does not depend on the workers. Noise that a network or a penalty draws
    itself (dropout, the points of GradientPenalty) depends on the number of shards, and each turn
    of a batch draws its own.
    ValueError if an optimiser does not hold exactly the weights of its side, or if unroll is
    combined with parallel.
    """
    epochs, unroll = whole("fit_gan", 0, epochs=epochs, unroll=unroll)
    critic_steps, evaluate_every = whole(
        "fit_gan", 1, critic_steps=critic_steps, evaluate_every=evaluate_every
    )
    unroll_lr = finite(unroll_lr, "fit_gan: unroll_lr", above=0)
    seed, progress = whole_number(seed, "fit_gan: seed"), flag(progress, "fit_gan: progress")
    checkpoint = checkpoint_path("fit_gan", checkpoint)
    check_sides(generator, discriminator, g_optimizer, d_optimizer, game)
    check_extras(loader, penalty, schedule, evaluate)
    check_ema(ema, generator)
    hooks = checked_hooks("fit_gan", on_step)
    device_name("fit_gan", device)  # raises its errors before a group is opened
    if unroll and parallel is not None:
        raise ValueError(
            f"fit_gan: unroll is {unroll} and parallel is {shown(parallel)}; unrolled steps of the "
            "discriminator cannot be split among workers: set unroll to 0, or parallel to None"
        )
    with opened(parallel, "fit_gan") as group:
        device = device_name("fit_gan", group.place(device))
        players = Players(generator, discriminator).to(device or d_optimizer.parameters()[0].device)
        optimizers = {"d_optimizer": d_optimizer, "g_optimizer": g_optimizer}
        run = Run(players, optimizers, loader, seed, ema, checkpoint, group)
        if group.size == 1:
            look_ahead = partial(unrolled, discriminator, steps=unroll, lr=unroll_lr)
            learn = partial(take_turns, run, game, penalty, critic_steps, look_ahead, schedule)
        else:
            losses = zeros((2,), dtype=run.first.dtype, device=run.device)
            learn = partial(share_turns, run, game, penalty, critic_steps, losses, schedule)
        return run.through(
            learn,
            epochs,
            evaluate=evaluate and (lambda players: evaluate(players.generator)),
            evaluate_every=evaluate_every,
            checkpoint_every=checkpoint_every,
            progress=progress,
            log_every=log_every,
            on_step=hooks,
        )


def take_turns(
    run: Run,
    game: Game,
    penalty: Penalty | None,
    critic_steps: int,
    look_ahead: Callable[[Callable[[], Tensor]], AbstractContextManager[None]],
    schedule: Schedule | None,
    batch: list[Tensor],
) -> Array:
    """One batch: a step of the discriminator and, if it is due, one of the generator. Returns both
    losses, an array (2,) on the device."""
    players = run.model
    assert isinstance(players, Players)
    generator, discriminator = players.generator, players.discriminator
    real, *condition = batch
    for optimizer in run.optimizers.values():
        set_learning_rates(optimizer, schedule, run.step)
    z = noise_for(run, generator, real)
    generator_turn = (run.step + 1) % critic_steps == 0
    with nullcontext() if generator_turn else restore_buffers(generator):
        fake = generator(z, *condition)
    check_shapes(fake, real)
    constant_fake = fake.detach()  # so that nothing in D's step reaches G: see the docstring above
    d_loss, g_loss = both_losses(game, discriminator, real, constant_fake, condition)
    objective = d_loss
    if penalty is not None:
        objective = d_loss + penalty(discriminator, real, constant_fake, *condition)
    descend(run.optimizers["d_optimizer"], objective)

    if generator_turn:
        with (
            restore_buffers(discriminator, record=True),
            look_ahead(
                lambda: game.discriminator(
                    discriminator(real, *condition), discriminator(fake, *condition)
                )
            ),
        ):
            g_loss = game.generator(discriminator(fake, *condition))
        descend(run.optimizers["g_optimizer"], g_loss)
        if run.ema is not None:
            run.ema.update()
    return stack([d_loss.detach(), g_loss.detach()]).data


def noise_for(run: Run, generator: Module, real: Tensor) -> Tensor:
    """The noise z of N(0, I) for the examples in ``real``, (B, latent). It is drawn for the whole
    batch, also where ``real`` holds only the rows of this worker."""
    examples = len(real) if run.examples is None else run.examples
    z = backend.standard_normal((examples, latent_of(generator)), like=real.data)
    if run.examples is not None:
        first, end = run.group.rows(examples)
        z = z[first:end]
    return Tensor(z)


def both_losses(
    game: Game, discriminator: Module, real: Tensor, fake: Tensor, condition: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of the discriminator; and, for the history alone, the loss that the generator has
    against this discriminator."""
    on_real, on_fake = discriminator(real, *condition), discriminator(fake, *condition)
    return game.discriminator(on_real, on_fake), game.generator(on_fake.detach())


def descend(optimizer: Optimizer | Half, loss: Tensor) -> None:
    """One optimiser step down the loss, for the weights that the optimiser holds and no others."""
    weights = optimizer.parameters()
    for p, g in zip(weights, grad(loss, weights, allow_unused=True), strict=True):
        p.grad = g
    optimizer.step()
    optimizer.zero_grad()


@contextmanager
def restore_buffers(network: Module, record: bool = False) -> Iterator[None]:
    """Inside, the network runs as in training; at the end its buffers (running statistics) have the
    values that they had before.

    record: whether ops are recorded, so that a gradient can pass through the network to its inputs.
    """
    if member.get() is not None:
        raise RuntimeError(
            "restore_buffers: inside a shard of a batch, other shards compute with the buffers "
            "that it would restore; call it outside"
        )
    copies = [(t, t.data.copy()) for t in network.buffers()]
    try:
        with nullcontext() if record else no_grad():
            yield
    finally:
        for t, array in copies:
            # in place: a training step recorded on a GPU replays this copy too
            t.data[...] = array
            t.mark_changed()


# ── The same turns, taken by a group of workers ──────────────────────────────────────────────────


def share_turns(
    run: Run,
    game: Game,
    penalty: Penalty | None,
    critic_steps: int,
    losses: Tensor,
    schedule: Schedule | None,
    batch: list[Tensor],
) -> Array:
    """``take_turns``, in which each worker computes the losses of its rows. losses: where the
    discriminator's turn notes both losses, (2,)."""
    players = run.model
    assert isinstance(players, Players)
    generator, discriminator = players.generator, players.discriminator
    real, *condition = batch
    for optimizer in run.optimizers.values():
        set_learning_rates(optimizer, schedule, run.step)
    z = noise_for(run, generator, real)
    examples = len(real) if run.examples is None else run.examples

    networks = generator, discriminator
    objective = partial(discriminator_objective, *networks, game, penalty, losses, examples)
    with restore_buffers(generator, record=True):
        descend_with(run, "d_optimizer", objective, [real, z, *condition])
    both = losses.data.copy()

    if (run.step + 1) % critic_steps == 0:
        objective = partial(generator_objective, *networks, game)
        with restore_buffers(discriminator, record=True), frozen(discriminator):
            both[1] = descend_with(run, "g_optimizer", objective, [z, *condition]).data
        if run.ema is not None:
            run.ema.update()
    return both


def discriminator_objective(
    generator: Module,
    discriminator: Module,
    game: Game,
    penalty: Penalty | None,
    losses: Tensor,
    examples: int,
    real: Tensor,
    z: Tensor,
    *condition: Tensor,
) -> Tensor:
    """What the discriminator minimises, for some rows of a batch of ``examples``. Writes the losses
    of the whole batch to ``losses``, without the penalty."""
    with no_grad():
        fake = generator(z, *condition)
    check_shapes(fake, real)
    d_loss, g_loss = both_losses(game, discriminator, real, fake, condition)
    share = len(real) / examples
    sums = all_reduce(share * stack([d_loss.detach(), g_loss]).data)
    renew([losses], lambda: [sums])
    if penalty is None:
        return d_loss
    return d_loss + penalty(discriminator, real, fake, *condition)


def generator_objective(
    generator: Module, discriminator: Module, game: Game, z: Tensor, *condition: Tensor
) -> Tensor:
    """What the generator minimises, for some rows of a batch."""
    return game.generator(discriminator(generator(z, *condition), *condition))


def descend_with(
    run: Run, role: str, loss_of: Callable[..., Tensor], batch: list[Tensor]
) -> Tensor:
    """One optimiser step down the loss, whose gradient all workers compute. Returns the loss."""
    optimizer = run.optimizers[role]
    optimizer.zero_grad()
    weights = optimizer.parameters()
    loss = run.group.backward(loss_of, *batch, examples=run.examples, inputs=weights)
    optimizer.step()
    optimizer.zero_grad()
    return loss


@contextmanager
def frozen(network: Module) -> Iterator[None]:
    """Inside, the weights of ``network`` are constants: a gradient passes through the network, and
    none is computed for its weights."""
    weights = [p for p in network.parameters() if p.requires_grad]
    try:
        for p in weights:
            p.requires_grad = False
        yield
    finally:
        for p in weights:
            p.requires_grad = True
