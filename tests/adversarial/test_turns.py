"""The GAN training loop computes what algorithm 1 of Goodfellow et al. 2014 says, the state of one
side never leaks into the other, and the same comparison catches the usual bugs when planted."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial import turns as module
from tinycv.adversarial.gan import (
    HINGE,
    NON_SATURATING,
    R1,
    WASSERSTEIN,
    Conditional,
    GradientPenalty,
    Packed,
)
from tinycv.adversarial.turns import Players, fit_gan, restore_buffers
from tinycv.adversarial.unrolled import unrolled
from tinycv.data import DataLoader, DrawnLoader
from tinycv.engine import backend
from tinycv.engine.check import certify
from tinycv.nn.module import parts_in
from tinycv.optim import SGD, Adam, warmup_linear
from tinycv.optim.averaged import EMA
from tinycv.training.checkpoint import CheckpointError, load

RATE = 0.1
X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32) + 1
LABELS = np.random.default_rng(1).integers(3, size=20)


class SmallGenerator(nn.Sequential):
    """With batch norm, as the discriminator: running statistics must not leak either."""

    latent = 3

    def __init__(self, extra=0):
        super().__init__(nn.Linear(3 + extra, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))


class SmallDiscriminator(nn.Sequential):
    def __init__(self, extra=0):
        super().__init__(nn.Linear(2 + extra, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))


def sides(seed=0):
    tinycv.manual_seed(seed)
    return SmallGenerator(), SmallDiscriminator()


def loader(**options):
    return DataLoader(X, batch_size=5, seed=3, **options)


def play(generator, discriminator, epochs=2, optimizer=SGD, **options):
    rates = {"lr": RATE} if optimizer is SGD else {"lr": 0.01}
    return fit_gan(
        generator,
        discriminator,
        optimizer(generator.named_parameters(), **rates),
        optimizer(discriminator.named_parameters(), **rates),
        options.pop("loader", loader()),
        epochs,
        progress=False,
        **options,
    )


# ── what the loop should compute: each side against a copy of the other side ─────────────────────


def algorithm_1(generator, discriminator, game=NON_SATURATING, epochs=2, critic_steps=1):
    """Goodfellow et al. 2014, algorithm 1. Returns the losses; moves both networks."""
    losses, batches = [], [x for number in range(epochs) for (x,) in loader().epoch(number)]
    for step, x in enumerate(batches):
        backend.manual_seed((0, step))
        z = Tensor(backend.standard_normal((len(x), 3)))
        paints = (step + 1) % critic_steps == 0
        fake = copy.deepcopy(generator)(z).numpy()
        on_real, on_fake = discriminator(Tensor(x)), discriminator(Tensor(fake))
        d_loss, g_loss = game.discriminator(on_real, on_fake), game.generator(on_fake.detach())
        descend(discriminator, d_loss)
        if paints:
            g_loss = game.generator(copy.deepcopy(discriminator)(generator(z)))
            descend(generator, g_loss)
        losses.append([d_loss.item(), g_loss.item()])
    return losses


def descend(network, loss):
    network.zero_grad()
    loss.backward()
    for p in network.parameters():
        p.data = p._data - RATE * p.grad._data
    network.zero_grad()


def check_equals_algorithm_1(run, **options):
    """AssertionError unless ``run`` ends with the weights, statistics and losses of algorithm 1."""
    ours, book = sides(), sides()
    expected, found = algorithm_1(*book, **options), run(*ours, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg="losses")
    for side, mine, theirs in zip(("generator", "discriminator"), ours, book, strict=True):
        for (name, t), (_, known) in zip(mine.named_tensors(), theirs.named_tensors(), strict=True):
            np.testing.assert_allclose(
                t.numpy(), known.numpy(), rtol=1e-4, atol=1e-5, err_msg=f"{side}'s {name}"
            )


def losses_of(generator, discriminator, **options):
    return play(generator, discriminator, **options).losses


@pytest.mark.parametrize(
    "options", [{}, {"critic_steps": 3}, {"game": HINGE}, {"game": WASSERSTEIN, "critic_steps": 2}]
)
def test_the_loop_does_what_algorithm_1_says(options):
    check_equals_algorithm_1(losses_of, **options)


# ── the usual bugs, in the loop that most people write ───────────────────────────────────────────


def usual_loop(bug=None):
    """A loop with backward, zero_grad and detach, right where ``bug`` is None."""

    def run(generator, discriminator):
        losses = []
        both = bug == "one optimiser for both"
        g_opt = SGD([*generator.parameters(), *(discriminator.parameters() if both else ())], RATE)
        d_opt = SGD(discriminator.parameters(), RATE)
        for step, x in enumerate(x for number in range(2) for (x,) in loader().epoch(number)):
            backend.manual_seed((0, step))
            fake = generator(Tensor(backend.standard_normal((len(x), 3))))
            shown = fake if bug == "fake not detached" else fake.detach()
            d_loss = NON_SATURATING.discriminator(discriminator(Tensor(x)), discriminator(shown))
            if bug != "discriminator's gradient kept":
                d_opt.zero_grad()
            d_loss.backward(retain_graph=True)
            d_opt.step()
            if bug != "fake not detached":
                g_opt.zero_grad()
            with (
                nullcontext()
                if bug == "statistics leak"
                else restore_buffers(discriminator, record=True)
            ):
                on_fake = discriminator(fake)
                g_loss = NON_SATURATING.generator(on_fake)
                if bug == "loss overwritten":
                    g_loss = NON_SATURATING.discriminator(discriminator(Tensor(x)), on_fake)
            g_loss.backward()
            g_opt.step()
            g_opt.zero_grad()
            losses.append([d_loss.item(), g_loss.item()])
        return losses

    return run


def test_the_usual_loop_is_right_without_a_bug():
    check_equals_algorithm_1(usual_loop())


@pytest.mark.parametrize(
    "bug",
    [
        "one optimiser for both",
        "fake not detached",
        "discriminator's gradient kept",
        "loss overwritten",
        "statistics leak",
    ],
)
def test_a_bug_in_the_usual_loop_is_caught(bug):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_equals_algorithm_1(usual_loop(bug))


MUTANTS = {
    "the generator's loss is the discriminator's": (
        "g_loss = game.generator(discriminator(fake, *condition))",
        "g_loss = -game.generator(discriminator(fake, *condition))",
    ),
    "the discriminator's statistics move in the generator's turn": (
        "restore_buffers(discriminator, record=True)",
        "nullcontext()",
    ),
    "the generator's statistics move in the discriminator's turn": (
        "restore_buffers(generator)",
        "no_grad()",
    ),
    "the wrong side moves": (
        'descend(run.optimizers["g_optimizer"], g_loss)',
        'descend(run.optimizers["d_optimizer"], g_loss)',
    ),
    "the generator paints every time": ("% critic_steps == 0", "% 1 == 0"),
    "the generator plays against the discriminator of before": (
        'descend(run.optimizers["d_optimizer"], objective)',
        'descend(run.optimizers["d_optimizer"], 0 * objective)',
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_planted_in_take_turns_is_caught(name, monkeypatch):
    source = inspect.getsource(module.take_turns)
    before, after = MUTANTS[name]
    assert source.count(before) == 1
    scope = dict(vars(module))
    exec(source.replace(before, after), scope)
    monkeypatch.setattr(module, "take_turns", scope["take_turns"])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_equals_algorithm_1(losses_of, critic_steps=2)


def test_fakes_with_their_history_would_not_change_the_result_of_take_turns(monkeypatch):
    # the gradient is taken with respect to the weights of one side alone
    monkeypatch.setattr(Tensor, "detach", lambda self: self)
    check_equals_algorithm_1(losses_of)


# ── each side's turn leaves the other alone ──────────────────────────────────────────────────────


def test_no_gradient_is_left_on_any_parameter():
    generator, discriminator = sides()
    play(generator, discriminator)
    assert all(p.grad is None for side in (generator, discriminator) for p in side.parameters())


def test_an_optimiser_that_does_not_hold_exactly_the_weights_of_its_side_is_refused():
    generator, discriminator = sides()
    g, d = SGD(generator.parameters()), SGD(discriminator.parameters())
    both = SGD([*generator.parameters(), *discriminator.parameters()])
    few = SGD(list(discriminator.parameters())[:1])
    for pair, name in (
        ((both, d), "g_optimizer"),
        ((d, g), "g_optimizer"),
        ((g, few), "d_optimizer"),
    ):
        with pytest.raises(ValueError, match=f"{name} must hold the parameters of the"):
            fit_gan(generator, discriminator, *pair, loader(), 1, progress=False)


def test_a_weight_that_both_sides_have_is_refused():
    generator, discriminator = sides()
    discriminator[1].weight = nn.BatchNorm1d(6).weight
    generator[1] = discriminator[1]
    with pytest.raises(ValueError, match="generator and discriminator have weights in common"):
        play(generator, discriminator)


def test_an_average_of_another_network_is_refused():
    generator, discriminator = sides()
    with pytest.raises(ValueError, match="EMA"):
        play(generator, discriminator, ema=EMA(discriminator))


def test_restore_buffers_restores_running_statistics():
    generator, _ = sides()
    before = generator.state_dict()["1.running_mean"].numpy().copy()
    with restore_buffers(generator):
        y = generator(tinycv.randn(9, 3))
    assert not y.requires_grad
    assert (generator.state_dict()["1.running_mean"].numpy() == before).all()


# ── penalties, averages, conditions, rates ───────────────────────────────────────────────────────


@pytest.mark.parametrize("penalty", [R1(1.0), GradientPenalty(1.0)])
def test_a_penalty_changes_the_discriminators_step_and_the_loop_runs_on_every_device(
    penalty, device
):
    plain, soft = sides(), sides()
    options = {"device": device, "epochs": 1, "optimizer": Adam}
    first, second = play(*plain, **options), play(*soft, penalty=penalty, **options)
    assert first.losses[0] != second.losses[0] or first.losses[1] != second.losses[1]
    assert np.isfinite(second.losses).all() and len(second.losses) == 4


def test_a_packed_discriminator_can_be_trained(device):
    generator = sides()[0]
    teacher = Packed(nn.Sequential(nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 1)), 5)
    assert np.isfinite(play(generator, teacher, device=device).losses).all()


@pytest.mark.statistical
def test_a_conditional_generator_makes_points_of_the_class_it_is_given():
    """Real points of class c lie at 3c - 3; a generator that takes c learns to put points there."""
    generator = Conditional(nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1)), 3)
    generator.latent = 2
    discriminator = Conditional(
        nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)), 3
    )

    def draw(n, rng):
        y = rng.integers(3, size=n)
        return (3.0 * y[:, None] - 3 + 0.1 * rng.normal(size=(n, 1))).astype(np.float32), y

    adams = (Adam(side.parameters(), 1e-2, (0.5, 0.9)) for side in (generator, discriminator))
    fit_gan(
        generator,
        discriminator,
        *adams,
        DrawnLoader(draw, 64, 200, SEED),
        1,
        penalty=R1(0.1),
        progress=False,
    )
    for c in range(3):
        made = generator(tinycv.randn(200, 2), Tensor(np.full(200, c))).numpy()
        assert made.mean() == pytest.approx(3 * c - 3, abs=1)


def test_the_average_is_updated_once_per_generator_step():
    generator, discriminator = sides()
    # with decay 0 the average is the generator itself
    ema = EMA(generator, 0.0)
    seen = []
    play(
        generator,
        discriminator,
        ema=ema,
        evaluate=lambda g: seen.append(type(g).__name__) or {"one": 1.0},
    )
    assert seen == ["SmallGenerator", "SmallGenerator"]
    for name, array in ema.state_dict().items():
        np.testing.assert_array_equal(array, generator.state_dict()[name].numpy())


def test_a_schedule_changes_both_learning_rates():
    generator, discriminator = sides()
    g, d = SGD(generator.parameters(), lr=0.1), SGD(discriminator.parameters(), lr=0.4)
    fit_gan(generator, discriminator, g, d, loader(), 1, schedule=warmup_linear(4), progress=False)
    assert (g.param_groups[0]["lr"], d.param_groups[0]["lr"]) == pytest.approx((0.025, 0.1))


# ── unrolling ────────────────────────────────────────────────────────────────────────────────────


def test_unrolling_zero_steps_changes_nothing():
    plain, same = sides(), sides()
    assert play(*plain).losses == play(*same, unroll=0).losses


def test_the_unrolled_discriminator_has_the_weights_of_k_steps_later_and_is_restored():
    teacher = nn.Linear(2, 1).to("float64")
    other = copy.deepcopy(teacher)
    x = Tensor(X.astype(np.float64))
    before = teacher.weight

    def loss(network):
        return (network(x) ** 2).mean()

    with unrolled(teacher, lambda: loss(teacher), steps=3, lr=RATE):
        for _ in range(3):
            descend(other, loss(other))
        np.testing.assert_allclose(teacher.weight.numpy(), other.weight.numpy(), rtol=1e-12)
    assert teacher.weight is before


def test_the_gradient_through_unrolled_steps_agrees_with_finite_differences():
    tinycv.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).to("float64")
    real, fake = Tensor(X[:4].astype(np.float64)), X[4:8].astype(np.float64)

    def value(fake):
        with unrolled(
            teacher,
            lambda: NON_SATURATING.discriminator(teacher(real), teacher(fake)),
            steps=2,
            lr=0.5,
        ):
            return NON_SATURATING.generator(teacher(fake))

    certify(value, fake, order=1)


def test_an_unrolled_gan_can_be_trained(device):
    generator, discriminator = sides()
    history = play(generator, discriminator, unroll=2, unroll_lr=0.1, device=device, epochs=1)
    assert np.isfinite(history.losses).all()


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────


class Stop(Exception):
    pass


def stopping(step):
    calls = iter(range(1000))

    def penalty(discriminator, real, fake):
        if next(calls) == step:
            raise Stop
        return R1(0.5)(discriminator, real, fake)

    return penalty


@pytest.mark.parametrize("killed_at", [2, 5, 7])
def test_a_killed_training_resumes_and_ends_with_the_same_bits(tmp_path, killed_at):
    def run(path, penalty):
        generator, discriminator = sides()
        return play(
            generator,
            discriminator,
            epochs=3,
            optimizer=Adam,
            critic_steps=2,
            penalty=penalty,
            ema=EMA(generator, 0.9),
            checkpoint=path,
            checkpoint_every=1,
            schedule=warmup_linear(12),
        )

    whole = run(tmp_path / "whole", stopping(-1))
    with pytest.raises(Stop):
        run(tmp_path / "killed", stopping(killed_at))
    resumed = run(tmp_path / "killed", stopping(-1))
    assert resumed.losses == whole.losses and len(whole.losses) == 12
    (a, _), (b, _) = load(tmp_path / "whole"), load(tmp_path / "killed")
    assert a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)
    assert {name.split("/")[0] for name in a} == {"model", "ema", "g_optimizer", "d_optimizer"}


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    play(*sides(), checkpoint=tmp_path / "a")
    with pytest.raises(CheckpointError, match="g_optimizer is 'SGD' there and 'Adam' here"):
        play(*sides(), optimizer=Adam, checkpoint=tmp_path / "a")


def test_a_loss_that_is_not_finite_is_reported():
    generator, discriminator = sides()
    generator[3].bias.data = np.full(2, np.nan, np.float32)
    with pytest.raises(FloatingPointError, match="at step 0"):
        play(generator, discriminator)


def test_a_checkpoint_names_both_networks():
    assert {name.split(".")[0] for name in Players(*sides()).state_dict()} == {
        "generator",
        "discriminator",
    }


class Tied(nn.Module):
    """A network whose first weight is also its last. Its last layer sits in one of the containers
    in which a Module finds its parts."""

    def __init__(self, place):
        rng = np.random.default_rng(0)
        w, b = (tinycv.Parameter(rng.normal(size=shape)) for shape in ((3, 3), (3,)))
        self.weight, self.frozen, self.unused = (
            w,
            tinycv.Parameter(np.ones(3)),
            tinycv.Parameter(np.ones(3)),
        )
        self.frozen.requires_grad = False
        layer = nn.Linear(3, 3, bias=False).to("float64")
        layer.weight = w
        places = {
            "attribute": layer,
            "list": [layer],
            "dict": {"a": {"b": layer}},
            "tuple": ([layer],),
            "deque": deque([1, (layer,)]),
        }
        self.bias, self.parts = b, places[place]

    def forward(self, x):
        (layer,) = [m for m in self.modules() if isinstance(m, nn.Linear)]
        return layer(tinycv.tanh(x @ self.weight + self.bias)) * self.frozen


@pytest.mark.parametrize("place", ["attribute", "list", "dict", "tuple", "deque"])
def test_a_tied_weight_stays_one_weight_in_the_unrolled_network(place):
    network, x = Tied(place), Tensor(np.random.default_rng(1).normal(size=(5, 3)))
    before = {path: dict(vars(part)) for path, part in network.named_modules()}

    def loss_at(w, b):
        # the same network, written with one weight
        return ((tinycv.tanh(x @ w + b) @ w.T) ** 2).mean()

    w, b = (Tensor(t.numpy().copy(), requires_grad=True) for t in (network.weight, network.bias))
    for _ in range(3):
        slopes = tinycv.grad(loss_at(w, b), [w, b], create_graph=True)
        w, b = w - 0.3 * slopes[0], b - 0.3 * slopes[1]
    with unrolled(network, lambda: (network(x) ** 2).mean(), steps=3, lr=0.3):
        np.testing.assert_allclose(
            (network(x) ** 2).mean().item(), loss_at(w, b).item(), rtol=1e-10
        )
    for path, part in network.named_modules():
        assert all(value is before[path][name] for name, value in vars(part).items())


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        deque,
        lambda held: {"a": held},
        lambda held: deque([held]),
        lambda held: {"a": deque(held)},
    ],
)
def test_a_parameter_in_any_container_is_unrolled(kind):
    @dataclass
    # compares by value, so it has no hash
    class Holder(nn.Module):
        held: object

        def forward(self, x):
            (weight,) = [part for _, part in parts_in("", self.held)]
            return (x * weight).sum()

    network, x = (
        Holder(kind([tinycv.Parameter(np.ones(1))])),
        Tensor(np.ones(1), requires_grad=True),
    )
    network.part = Holder([])
    with unrolled(network, lambda: network(x), steps=1, lr=0.5):
        found = network(x)
        assert found.item() == 0.5  # 1 - lr x, times x = 1
        assert tinycv.grad(found, [x])[0].item() == 0  # of x (1 - lr x): 1 - 2 lr x
    assert network(x).item() == 1


def test_the_original_weights_are_back_after_an_error_in_the_loss():
    network, calls = Tied("list"), iter(range(9))
    weight, parts = network.weight, network.parts

    def loss():
        if next(calls) == 2:
            raise ZeroDivisionError
        return (network(Tensor(np.ones((2, 3)))) ** 2).mean()

    with pytest.raises(ZeroDivisionError), unrolled(network, loss, steps=3, lr=0.1):
        raise AssertionError
    assert network.weight is weight and network.parts is parts


def test_unrolling_inside_a_shard_is_refused():
    network = Tied("list")

    def work(x):
        with unrolled(network, lambda: (network(x) ** 2).mean(), 1, 0.1):
            return network(x)

    with (
        tinycv.training.parallel.threads(2) as group,
        pytest.raises(RuntimeError, match="unrolled: inside a shard"),
    ):
        group.map(work, Tensor(np.ones((4, 3))))
