"""Right answers in another form are accepted, and wrong ones that no exercise knows are refused."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest

from demos.exercises.diagnose import check
from demos.exercises.exercise import drawing, load, source_of
from tinycv.diffusion import langevin

# exercise: one function of its answer, written otherwise
RIGHT = {
    "attention": """
        def attention(q, k, v, mask):
            score = einsum("bhtd,bhsd->bhts", q, k) * q.shape[-1] ** -0.5
            score = score + where(mask, 0.0, -1e30)
            score = score - score.max(axis=3, keepdims=True)
            total = einsum("bhts->bht", exp(score)).unsqueeze(-1)
            return einsum("bhts,bhsd->bhtd", exp(score), v) / total
        """,
    "multi_head": """
        def split_heads(x, heads):
            return stack(split(x, heads, axis=-1), axis=1)
        """,
    "positions": """
        def sinusoidal_positions(positions, width):
            even = arange(0, width, 2, dtype=positions.dtype)
            angles = positions.unsqueeze(1) * (10000 ** (-even / width))
            return stack([sin(angles), cos(angles)], axis=-1).reshape((len(positions), width))
        """,
    "patches": """
        def patchify(images, p):
            b, c, h, w = images.shape
            patches = []
            for i in range(0, h, p):
                for j in range(0, w, p):
                    patch = images[:, :, i : i + p, j : j + p]
                    patches.append(patch.reshape((b, c * p * p)))
            return stack(patches, axis=1)
        """,
    "gan": """
        def discriminator_loss(real, fake):
            def cross_entropy(logit, target):
                large = (logit + abs(logit)) / 2
                return (large - target * logit + log(1 + exp(-abs(logit)))).mean()

            return cross_entropy(real, 1) + cross_entropy(fake, 0)
        """,
    "wgan_gp": """
        def gradient_penalty(critic, w, real, fake, share, penalty_weight):
            between = fake + share * (real - fake)
            between.requires_grad = True
            value = critic(between, w).sum()
            lengths = norm(grad(value, between, create_graph=True)[0], axis=1)
            return penalty_weight * (lengths * lengths - 2 * lengths + 1).sum() / len(lengths)
        """,
    "score_matching": """
        def denoising_loss(score, x, sigma, z):
            noised = (x.T + sigma * z.T).T
            error = (sigma * score(noised, sigma).T + z.T) / sigma
            return (error**2).sum(axis=0) / 2
        """,
    "langevin": """
        def langevin_step(score, x, delta, z):
            root = delta**0.5
            return x + root * (root * score(x) + 2**0.5 * z)
        """,
    # the product of two normal densities: their precisions are added
    "ddpm": """
        def posterior(x0, x, t, betas):
            beta, before = betas[t - 1], alpha_bar(betas, t - 1)
            variance = 1 / ((1 - beta) / beta + 1 / (1 - before))
            forward = (1 - beta) ** 0.5 / beta * x
            return variance * (forward + before**0.5 / (1 - before) * x0), variance
        """,
    "ddim": """
        def ddim_step(x, eps, abar_t, abar_s, eta, z):
            ratio = (abar_s / abar_t) ** 0.5
            variance = eta**2 * (1 - abar_s) * (1 - abar_t / abar_s) / (1 - abar_t)
            change = (1 - abar_s - variance) ** 0.5 - ratio * (1 - abar_t) ** 0.5
            return ratio * x + change * eps + variance**0.5 * z
        """,
    "guidance": """
        def guided(eps, x, t, labels, nobody, w):
            both = concatenate([labels, 0 * labels + nobody])
            with_label, without = split(eps(concatenate([x, x]), t, both), 2)
            return with_label + w * (with_label - without)
        """,
    "vae": """
        def kl(mu, log_var):
            return -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(axis=1)
        """,
    "realnvp": """
        def coupling(network, b, x):
            kept = b.astype(x.dtype)
            s, t = split(network(kept * x), 2, axis=1)
            s = (1 - kept) * tanh(s)
            return exp(s) * x + (1 - kept) * t, s.sum(axis=-1)
        """,
}

# exercise: text of its answer, and what stands there in a wrong answer that it does not know
WRONG = {
    "attention": ("q.shape[-1] ** 0.5", "k.shape[-2] ** 0.5"),
    "multi_head": (
        "(b, t, heads, e // heads)).swapaxes(1, 2)",
        "(heads, b, t, -1)).swapaxes(0, 1)",
    ),
    "positions": ("10000 **", "1000 **"),
    "patches": ("(0, 2, 4, 1, 3, 5)", "(0, 4, 2, 1, 5, 3)"),
    "gan": ("softplus(-real).mean()", "softplus(0.9 - real).mean()"),
    "wgan_gp": ("(length - 1) ** 2", "(length - 2) ** 2"),
    "score_matching": ("score(x + column * z, sigma)", "score(x + column * z, sigma * sigma)"),
    "langevin": ("delta * score(x)", "delta * score(x + z)"),
    "ddpm": ("of_x = (1 - beta) ** 0.5", "of_x = (1 + beta) ** 0.5"),
    "ddim": ("abar_s**0.5 * x0", "x0"),
    "guidance": ("(1 + w) * with_label", "(1 + w * w) * with_label"),
    "vae": ("exp(log_var) -", "exp(2 * log_var) -"),
    "realnvp": ("x * exp(s) + t)", "x * exp(s) + t * t)"),
}


def answer_with(name: str, function: str) -> str:
    """The answer of an exercise with one of its functions replaced."""
    exercise, text = load(name), dedent(function).lstrip()
    (part,) = [part for part in exercise.parts if text.startswith(f"def {part.name}(")]
    return exercise.solution().replace(source_of(part.function), text)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_in_another_form_is_accepted(name):
    verdict = check(load(name), answer_with(name, RIGHT[name]))
    assert verdict.solved, verdict.text


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_that_no_exercise_knows_is_refused(name):
    right, wrong = WRONG[name]
    solution = load(name).solution()
    assert solution.count(right) == 1
    verdict = check(load(name), solution.replace(right, wrong))
    assert not verdict.solved and not verdict.faults
    assert "What is wrong with" in verdict.text


def test_a_wrong_number_is_not_called_a_factor_of_the_right_one():
    solution = load("gan").solution().replace("softplus(-real)", "1.5 * softplus(-real)")
    words = " ".join(check(load("gan"), solution).text.split())
    assert "It is none of the mistakes" in words


def test_a_step_in_float32_is_named():
    function = RIGHT["positions"].replace(", dtype=positions.dtype", "")
    verdict = check(load("positions"), answer_with("positions", function))
    words = " ".join(verdict.text.split())
    assert not verdict.solved and "a step is computed in float32" in words


def test_a_wrong_gradient_of_a_right_value_is_shown():
    solution = load("wgan_gp").solution().replace(", create_graph=True)", ")")
    verdict = check(load("wgan_gp"), solution)
    assert "its gradient by w, entry" in verdict.text


def test_the_package_draws_its_own_noise_again_after_an_error():
    draw = langevin._normal
    with pytest.raises(ZeroDivisionError), drawing(langevin, "_normal", 3.0):
        assert langevin._normal(np.zeros(2)) == 3.0
        raise ZeroDivisionError
    assert langevin._normal is draw


# right for ordinary numbers: (exercise, a function that overflows at large ones)
OVERFLOWS = {
    "rnn_step": """
        def rnn_step(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
            e = (2 * (x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)).exp()
            return (e - 1) / (e + 1)
        """,
    "lstm_cell": """
        def lstm_cell(x, h, c, weight_ih, weight_hh, bias):
            def gate(y):
                return y.exp() / (1 + y.exp())

            i, f, g, o = split(x @ weight_ih.T + h @ weight_hh.T + bias, 4, axis=-1)
            c = gate(f) * c + gate(i) * tanh(g)
            return gate(o) * tanh(c), c
        """,
    "vae": """
        def reparametrise(mu, log_var, eps):
            return mu + exp(log_var + 200) ** 0.5 / exp(100 + 0 * mu) * eps
        """,
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_an_answer_that_overflows_is_refused(name):
    verdict = check(load(name), answer_with(name, OVERFLOWS[name]))
    assert not verdict.solved
    assert "NaN or infinity where the right result is finite" in " ".join(verdict.text.split())
