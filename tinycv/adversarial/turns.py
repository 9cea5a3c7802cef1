"""The two sides of a GAN take turns, and neither touches what is the other's.

    for each batch x:   D learns from x and from fakes G(z), which are constants to it
                        after ``critic_steps`` batches, G learns from D(G(z)), where D's weights
                        are constants

What goes wrong in such loops goes wrong silently, so here it cannot happen:
- each side asks for the gradient of its own loss by its own weights alone (``grad``, not
  ``backward``): nothing is left behind in the other's ``.grad``, and its optimiser is refused if it
  holds a weight of the other;
- D sees fakes without their history (``detach``);
- batch norm's running statistics, and whatever else a network keeps, move in its own turn only.

Goodfellow et al. 2014, algorithm 1.
Two time scales (Heusel et al. 2017): give the optimisers different rates.
Read before: gan.py, training/loop.py.
Test: tests/adversarial/test_turns.py plants those bugs and sees them caught.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from tinycv.adversarial.gan import NON_SATURATING, Game, Penalty
from tinycv.adversarial.unrolled import unrolled
from tinycv.data.loader import DataLoader, DrawnLoader
from tinycv.engine import backend
from tinycv.engine.arguments import flag, size
from tinycv.engine.arguments import shown as say
from tinycv.engine.arguments import whole as whole_number
from tinycv.engine.backward import grad
from tinycv.engine.methods import stack
from tinycv.engine.shards import member
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.nn.inputs import finite, function, whole
from tinycv.nn.module import Module
from tinycv.optim import Schedule
from tinycv.optim.averaged import EMA
from tinycv.optim.optimizer import Optimizer
from tinycv.training.half import Half
from tinycv.training.inputs import checkpoint_path, device_name
from tinycv.training.loop import History, Run, scheduled


class Players(Module):
    """Both sides under one roof: what a checkpoint holds, as ``generator.*`` and
    ``discriminator.*``."""

    def __init__(self, generator: Module, discriminator: Module):
        self.generator, self.discriminator = generator, discriminator


def fit_gan(  # noqa: PLR0913  as fit's
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
) -> History:
    """Play ``epochs`` passes through ``loader``. Returns the history; losses[i] is
    [discriminator's, generator's].

    loader gives real x, (x,), or (x, y) where both sides are told y (gan.Conditional). generator(z,
    *y) makes fakes of noise z (B, generator.latent), N(0, I); discriminator(x, *y) returns logits.
    game: whose losses. penalty(discriminator, real, fake, *y): added to the discriminator's.
    critic_steps: batches that the discriminator learns from for each of the generator's steps.
    unroll: steps of the discriminator, of rate unroll_lr, that the generator looks ahead
    (unrolled.py). ema: of the generator. evaluate(generator), and all else as in training.fit;
    resuming from a checkpoint gives the same bits. ValueError if an optimiser does not hold exactly
    its own side's weights.
    """
    epochs, unroll = whole("fit_gan", 0, epochs=epochs, unroll=unroll)
    critic_steps, evaluate_every = whole(
        "fit_gan", 1, critic_steps=critic_steps, evaluate_every=evaluate_every
    )
    unroll_lr = finite(unroll_lr, "fit_gan: unroll_lr", above=0)
    seed, progress = whole_number(seed, "fit_gan: seed"), flag(progress, "fit_gan: progress")
    checkpoint = checkpoint_path("fit_gan", checkpoint)
    _check_sides(generator, discriminator, g_optimizer, d_optimizer, game)
    _check_extras(loader, penalty, schedule, evaluate, ema)
    device = device_name("fit_gan", device)
    players = Players(generator, discriminator).to(device or d_optimizer.parameters()[0].device)
    _check_weights("g_optimizer", g_optimizer, generator)
    _check_weights("d_optimizer", d_optimizer, discriminator)
    if ema is not None and ema.model is not generator:
        raise ValueError("fit_gan: ema must be of the generator: EMA(generator)")
    run = Run(
        players,
        {"d_optimizer": d_optimizer, "g_optimizer": g_optimizer},
        loader,
        seed,
        ema,
        checkpoint,
    )
    look_ahead = partial(unrolled, discriminator, steps=unroll, lr=unroll_lr)
    return run.through(
        partial(take_turns, run, game, penalty, critic_steps, look_ahead, schedule),
        epochs,
        evaluate=evaluate and (lambda players: evaluate(players.generator)),
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        progress=progress,
        log_every=log_every,
    )


def _check_sides(
    generator: Module,
    discriminator: Module,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    game: Game,
) -> None:
    """Are all of these what ``fit_gan`` takes them for?"""
    for name, value, kind in (
        ("generator", generator, Module),
        ("discriminator", discriminator, Module),
        ("g_optimizer", g_optimizer, Optimizer),
        ("d_optimizer", d_optimizer, Optimizer),
        ("game", game, Game),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"fit_gan: {name} is {say(value)}; it must be a {kind.__name__}")
    _latent_of(generator)


def _latent_of(generator: Module) -> int:
    """The size of the noise that the generator takes."""
    latent = getattr(generator, "latent", None)
    if latent is None:
        raise ValueError(
            "fit_gan: generator has no attribute latent, the size of its noise; set "
            "generator.latent = 64, for example"
        )
    return size(latent, "fit_gan: generator.latent", 1)


def _check_extras(
    loader: DataLoader | DrawnLoader,
    penalty: Penalty | None,
    schedule: Schedule | None,
    evaluate: Callable | None,
    ema: EMA | None,
) -> None:
    """Are the batches, and what may be left out, what ``fit_gan`` takes them for?"""
    for name, value in (("penalty", penalty), ("schedule", schedule), ("evaluate", evaluate)):
        if value is not None:
            function(value, f"fit_gan: {name}")
    if ema is not None and not isinstance(ema, EMA):
        raise TypeError(f"fit_gan: ema is {say(ema)}; it must be an EMA of the generator, or None")
    if not hasattr(loader, "epoch"):
        raise TypeError(
            f"fit_gan: loader is {say(loader)}; it must be a DataLoader, or a DrawnLoader"
        )


def _check_weights(name: str, optimizer: Optimizer, network: Module) -> None:
    """ValueError for an optimiser that misses a weight of its side, or holds another's."""
    if set(optimizer.parameters()) != set(network.parameters()):
        raise ValueError(
            f"fit_gan: {name} must hold the parameters of the {type(network).__name__} that it "
            "is for, all of them and no others"
        )


def take_turns(
    run: Run,
    game: Game,
    penalty: Penalty | None,
    critic_steps: int,
    look_ahead: Callable[[Callable[[], Tensor]], AbstractContextManager[None]],
    schedule: Schedule | None,
    batch: list[Tensor],
) -> Tensor:
    """One batch. Returns both losses, an array (2,) on the device."""
    players = run.model
    assert isinstance(players, Players)
    generator, discriminator = players.generator, players.discriminator
    real, *told = batch
    for optimizer in run.optimizers.values():
        scheduled(optimizer, schedule, run.step)
    z = Tensor(backend.standard_normal((len(real), _latent_of(generator)), like=real.data))
    # is it the generator's turn too?
    paints = (run.step + 1) % critic_steps == 0
    with nullcontext() if paints else held(generator):
        fake = generator(z, *told)

    if tuple(fake.shape) != tuple(real.shape):
        raise ValueError(
            f"fit_gan: generator made fakes of shape {tuple(fake.shape)}, and the real examples "
            f"have shape {tuple(real.shape)}; they must be equal"
        )
    shown = fake.detach()
    d_loss, g_loss = teach(game, discriminator, real, shown, told)
    learn(
        run.optimizers["d_optimizer"],
        d_loss if penalty is None else d_loss + penalty(discriminator, real, shown, *told),
    )

    if paints:
        with (
            held(discriminator, record=True),
            look_ahead(
                lambda: game.discriminator(discriminator(real, *told), discriminator(fake, *told))
            ),
        ):
            g_loss = game.generator(discriminator(fake, *told))
        learn(run.optimizers["g_optimizer"], g_loss)
        if run.ema is not None:
            run.ema.update()
    return stack([d_loss.detach(), g_loss.detach()]).data


def teach(
    game: Game, discriminator: Module, real: Tensor, fake: Tensor, told: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The discriminator's loss, and, for the record, what the generator's would be against the same
    discriminator."""
    on_real, on_fake = discriminator(real, *told), discriminator(fake, *told)
    return game.discriminator(on_real, on_fake), game.generator(on_fake.detach())


def learn(optimizer: Optimizer | Half, loss: Tensor) -> None:
    """One step down the loss, of the optimiser's own weights and no others."""
    own = optimizer.parameters()
    for p, g in zip(own, grad(loss, own, allow_unused=True), strict=True):
        p.grad = g
    optimizer.step()
    optimizer.zero_grad()


@contextmanager
def held(network: Module, record: bool = False) -> Iterator[None]:
    """Inside, the network runs as in training, but what it keeps (running statistics) is put back
    at the end.

    record: so that a gradient can pass through it to its inputs.
    """
    if member.get() is not None:
        raise RuntimeError(
            "held: inside a shard of a batch, other shards compute with the state that it puts back"
        )
    kept = [(t, t.data.copy()) for t in network.buffers()]
    try:
        with nullcontext() if record else no_grad():
            yield
    finally:
        for t, array in kept:
            t.data[...] = array  # in place, so that a recorded step puts it back too
            t.mark_changed()
