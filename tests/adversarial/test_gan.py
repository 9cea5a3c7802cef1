"""GAN losses, gradient penalties, packing and conditioning: against the equations of their papers,
finite differences and each other."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial import gan
from tinycv.adversarial.gan import R1, Conditional, GradientPenalty, Packed, slopes
from tinycv.engine.check import certify

RNG = np.random.default_rng(SEED)
REAL, FAKE = RNG.normal(size=(6, 1)), RNG.normal(size=(6, 1))
GAMES = {
    "minimax": gan.MINIMAX,
    "non-saturating": gan.NON_SATURATING,
    "least squares": gan.LEAST_SQUARES,
    "hinge": gan.HINGE,
    "Wasserstein": gan.WASSERSTEIN,
}
P, Q = (1 / (1 + np.exp(-d)) for d in (REAL, FAKE))
KNOWN = {  # the losses as the papers write them
    "minimax": (-np.log(P).mean() - np.log(1 - Q).mean(), np.log(1 - Q).mean()),
    "non-saturating": (-np.log(P).mean() - np.log(1 - Q).mean(), -np.log(Q).mean()),
    "least squares": (
        ((REAL - 1) ** 2).mean() / 2 + (FAKE**2).mean() / 2,
        ((FAKE - 1) ** 2).mean() / 2,
    ),
    "hinge": (np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(), -FAKE.mean()),
    "Wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
}


# ── losses ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", GAMES)
def test_a_loss_equals_the_formula_of_its_paper(name, device):
    real, fake = Tensor(REAL, device=device), Tensor(FAKE, device=device)
    game = GAMES[name]
    assert game.discriminator(real, fake).item() == pytest.approx(KNOWN[name][0], rel=1e-12)
    assert game.generator(fake).item() == pytest.approx(KNOWN[name][1], rel=1e-12)


@pytest.mark.parametrize("name", GAMES)
def test_a_loss_is_certified_to_second_order(name):
    certify(GAMES[name].discriminator, REAL, FAKE)
    certify(GAMES[name].generator, FAKE)


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_large_logits_give_no_infinity(name):
    sure = Tensor(np.full((3, 1), 500.0, np.float32), requires_grad=True)
    losses = [
        GAMES[name].discriminator(-sure, sure),
        GAMES[name].generator(sure),
        GAMES[name].generator(-sure),
    ]
    for loss in losses:
        assert np.isfinite(loss.item()) and np.isfinite(tinycv.grad(loss, sure)[0].numpy()).all()


def test_where_fakes_are_bad_only_the_non_saturating_generator_has_a_gradient():
    fake = Tensor(np.full((4, 1), -20.0), requires_grad=True)
    still, moving = (
        tinycv.grad(GAMES[name].generator(fake), fake)[0].numpy()
        for name in ("minimax", "non-saturating")
    )
    assert np.abs(still).sum() < 1e-8 and np.abs(moving).sum() == pytest.approx(1)


def test_the_best_discriminator_for_known_densities_has_the_loss_of_theorem_1():
    """p and p_G on three symbols: D = p / (p + p_G), and V = -log 4 + 2 JS (theorem 1)."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    scores = Tensor(np.log(p / q), requires_grad=True)  # the logit of p / (p + q)

    def value(s):
        return (p * tinycv.softplus(-s)).sum() + (q * tinycv.softplus(s)).sum()

    assert np.abs(tinycv.grad(value(scores), scores)[0].numpy()).max() < 1e-12
    js = sum(0.5 * (a * np.log(a / (0.5 * p + 0.5 * q))).sum() for a in (p, q))
    assert value(scores).item() == pytest.approx(np.log(4) - 2 * js, rel=1e-12)


# ── penalties ────────────────────────────────────────────────────────────────────────────────────


class Plane(nn.Module):
    """A linear discriminator, d(x) = w · x: its slope is w everywhere."""

    def __init__(self, *w):
        self.w = nn.Parameter(np.array(w, np.float64)[:, None])

    def forward(self, x):
        return x @ self.w


X, Y = RNG.normal(size=(2, 5, 2))


@pytest.mark.parametrize("w", [(0.6, 0.8), (3.0, 4.0), (0.0, 0.0)])
def test_the_penalties_of_a_linear_discriminator_have_their_closed_form(w, device):
    plane, x, y = Plane(*w).to(device), Tensor(X, device=device), Tensor(Y, device=device)
    length = np.hypot(*w)
    assert GradientPenalty(10)(plane, x, y).item() == pytest.approx(
        10 * (length - 1) ** 2, abs=1e-9
    )
    assert R1(10)(plane, x, y).item() == pytest.approx(5 * length**2, abs=1e-9)


def test_the_gradient_penalty_moves_a_steep_discriminator_towards_slope_one():
    plane = Plane(3.0, 4.0)
    (g,) = tinycv.grad(GradientPenalty(1)(plane, Tensor(X), Tensor(Y)), plane.w)
    np.testing.assert_allclose(g.numpy()[:, 0], 2 * (5 - 1) * np.array([3, 4]) / 5)


@pytest.mark.statistical
def test_the_gradient_penalty_is_taken_between_real_and_fake_and_r1_at_the_real():
    seen = []

    def spy(x):
        seen.append(x.numpy())
        return (x * x).sum(axis=1)

    GradientPenalty()(spy, Tensor(np.zeros((400, 1))), Tensor(np.ones((400, 1))))
    R1()(spy, Tensor(X), Tensor(Y))
    assert 0 <= seen[0].min() < 0.05 and 0.95 < seen[0].max() <= 1 and 0.4 < seen[0].mean() < 0.6
    np.testing.assert_array_equal(seen[1], X)


class Critic(nn.Module):
    """Two convolutions and a linear layer, with smooth activations: no kink can disturb a finite
    difference."""

    def __init__(self):
        self.a, self.b, self.c = (
            nn.Conv2d(2, 3, 3, stride=2, padding=1),
            nn.Conv2d(3, 2, 2),
            nn.Linear(8, 1),
        )
        self.flatten = nn.Flatten()

    def forward(self, x):
        return self.c(self.flatten(tinycv.tanh(self.b(tinycv.tanh(self.a(x))))))


class Penalised(nn.Module):
    """The penalty as a layer, so that it can be certified for the weights of D and for images."""

    def __init__(self, critic, penalty):
        self.critic, self.penalty = critic, penalty

    def forward(self, x, y):
        # the same points between x and y each time
        tinycv.manual_seed(0)
        share = Tensor(np.array([0.2, 0.9]).reshape(2, 1, 1, 1))
        return self.penalty(self.critic, share * x + (1 - share) * y)


def penalty_with_history(critic, x, weight=10.0):
    """As gan.slopes, but x keeps its history, so that the penalty can be differentiated by it."""
    (slope,) = tinycv.grad(critic(x).sum(), x, create_graph=True)
    return weight * ((tinycv.norm(slope.reshape((len(x), -1)), axis=-1) - 1) ** 2).mean()


def test_the_gradient_penalty_of_a_conv_net_is_certified_to_second_order():
    images = RNG.normal(size=(2, 2, 2, 6, 6))
    certify_layer(Penalised(Critic(), penalty_with_history), *images)


@pytest.mark.parametrize("penalty", [GradientPenalty(10), R1(10)])
def test_a_penalty_trains_every_weight_of_a_conv_net_by_its_finite_differences(penalty):
    critic, (x, y) = Critic().to("float64"), RNG.normal(size=(2, 3, 2, 6, 6))

    def value():
        tinycv.manual_seed(0)
        return penalty(critic, Tensor(x), Tensor(y))

    found = tinycv.grad(value(), list(critic.parameters()), allow_unused=True)
    for p, g in zip(critic.parameters(), found, strict=True):
        way = RNG.normal(size=p.shape)
        values = []
        for h in (1e-5, -1e-5):
            p.data = p._data + h * way
            values.append(value().item())
            p.data = p._data - h * way
        # the slope does not depend on the last bias
        slope = 0.0 if g is None else (g.numpy() * way).sum()
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_slopes_of_a_conditional_network_are_with_respect_to_the_image_alone():
    plane = Conditional(Plane(1.0, 2.0, 5.0, 7.0), 2)
    np.testing.assert_allclose(
        slopes(plane, Tensor(X), Tensor(np.array([0, 1, 1, 0, 0]))).numpy(), [[1, 2]] * 5
    )


# ── packing and conditions ───────────────────────────────────────────────────────────────────────


def test_packs_hold_consecutive_examples_side_by_side(device):
    seen = Packed(nn.Identity(), 3)(Tensor(np.arange(12.0).reshape(6, 2), device=device))
    assert seen.numpy().tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    images = RNG.normal(size=(4, 3, 5, 5))
    packed = Packed(nn.Identity(), 2)(Tensor(images)).numpy()
    np.testing.assert_array_equal(packed[1], np.concatenate([images[2], images[3]]))


def test_a_class_is_one_hot_features_or_constant_channels(device):
    labels = Tensor(np.array([2, 0]), device=device)
    told = Conditional(nn.Identity(), 3)(Tensor(np.array([[5.0], [6]]), device=device), labels)
    assert told.numpy().tolist() == [[5, 0, 0, 1], [6, 1, 0, 0]]
    images = Conditional(nn.Identity(), 3)(tinycv.zeros(2, 1, 2, 2, device=device), labels).numpy()
    assert images.shape == (2, 4, 2, 2) and images.sum(axis=(2, 3)).tolist() == [
        [0, 0, 0, 4],
        [0, 4, 0, 0],
    ]


def test_a_batch_that_does_not_divide_into_packs_is_refused():
    with pytest.raises(ValueError, match="a batch of 5 does not divide into packs of 2"):
        Packed(nn.Identity(), 2)(Tensor(X))
    with pytest.raises(
        ValueError, match="Packed: size is 0; it must be a whole number, at least 1"
    ):
        Packed(nn.Identity(), 0)


def test_both_sides_of_a_game_are_functions():
    for sides in (("a", gan.minimax), (gan.hinge, None), (3, 4)):
        with pytest.raises(
            TypeError, match="Game: (discriminator|generator) is .* it must be a function"
        ):
            gan.Game(*sides)
    assert gan.Game(gan.hinge, gan.minimax).generator is gan.minimax
