"""Annealed importance sampling (AIS) with Hamiltonian Monte Carlo: log p(x) of a decoder.

    log w = Σ_t (β_t - β_{t-1}) log [f(u_{t-1}) / N(u_{t-1}; 0, I)],   0 = β_0 < ... < β_T = 1
    E w = ∫ f(u) du                                                Neal 2001
    for a decoder: f(z) = p(x|z) p(z), whose integral is p(x)      Wu et al. 2017

The probability of an image under a VAE is an integral over all codes.  Importance sampling draws
codes from N(0, I) or from the encoder, and most of them miss the few codes that explain the image.
AIS moves its samples there: it starts from samples u_0 of N(0, I) and goes through densities that
change little by little from N(u; 0, I) to f,

    f_t(u) = N(u; 0, I)^(1 - β_t) f(u)^β_t

After each change one step of a Markov chain, which leaves f_t unchanged, takes u_{t-1} to u_t.
Each change contributes one factor to the weight w.  The expectation of w is exactly the integral of
f, which is p(x), however badly the chain mixes.  So by Jensen's inequality log w is in expectation
a lower bound on log p(x), and so is the log of the mean weight of several chains ("stochastic"
bounds, because one estimate may lie above).  More densities and more chains make it tighter.

The step is Hamiltonian Monte Carlo (HMC; Neal 2011).  u gets a random momentum r ~ N(0, I) and
moves for a few leapfrog steps, in which r changes along the gradient of log f_t, and u along r.
With H = ½ |r|² - log f_t(u), the end is accepted with the probability min(1, e^-ΔH); otherwise u
stays where it was.  The step sizes are chosen in a pilot run, so that about 65 % of the steps are
accepted.  The weights come from a second run with these step sizes fixed: a chain that adapts its
steps to its own past would no longer leave f_t unchanged.

The codes are z = μ + s u.  With μ = 0 and s = 1 the chain starts at the prior, and the encoder has
no part in the estimate (Wu et al. 2017).  With μ and s of the encoder it starts at q(z|x), which is
closer to its end, and u has the same scale along each axis.  In general f(u) = p(x|z) p(z) Π_j s_j,
whose integral over u is p(x) for any μ and s > 0, so the bound holds for any of them.

Read first: vae.py.   See at work: demos/20_vae.py.
Shapes: N chains of D numbers each; for B images with C chains each, N = C B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp as exp_of
from math import log, pi
from typing import Any

import numpy as np

from tinycv.engine.arguments import choice, function
from tinycv.engine.create import ones_like, rand_like, randn_like, zeros_like
from tinycv.engine.methods import stack
from tinycv.engine.ops import exp, logsumexp, where
from tinycv.engine.ops import log as log_of
from tinycv.engine.products import vjp
from tinycv.engine.tensor import Tensor, no_grad
from tinycv.likelihood.vae import VAE, of_vae, parts_of
from tinycv.nn.inputs import answer, batch, finite, numbers, whole

ACCEPTED = 0.65  # the share of accepted steps that the pilot run aims at
PILOT = 20  # images of the pilot run
ROWS = 1000  # chains that run at a time

LogDensity = Callable[[Tensor], Tensor]  # points u (N, D) to log f(u), (N,)


def sigmoid_schedule(steps: int, steepness: float = 4.0) -> list[float]:
    """β_0 = 0 to β_T = 1 for T = ``steps``: a sigmoid between -steepness and steepness, rescaled,
    with short steps at both ends, where the density changes most (Wu et al. 2017)."""
    (steps,) = whole("sigmoid_schedule", 1, steps=steps)
    steepness = finite(steepness, "sigmoid_schedule: steepness", above=0, high=100)
    curve = [1 / (1 + exp_of(steepness * (1 - 2 * t / steps))) for t in range(steps + 1)]
    return [(value - curve[0]) / (curve[-1] - curve[0]) for value in curve]


@dataclass
class Position:
    """Where N chains are: the points u (N, D), log f(u) (N,) and its gradient (N, D)."""

    u: Tensor
    log_f: Tensor
    slope: Tensor


def at(log_f: LogDensity, u: Tensor) -> Position:
    """The Position of chains at the points u: log f and its gradient are computed there."""
    u = u if isinstance(u, Tensor) else Tensor(u)
    value, slope = vjp(log_f, u, ones_like(u[..., 0]))
    return Position(u, value, slope)


def log_normal(u: Tensor) -> Tensor:
    """log N(u; 0, I) of points (N, D): (N,)."""
    return -0.5 * (u * u + log(2 * pi)).sum(axis=-1)


def hmc_step(
    log_f: LogDensity, here: Position, beta: float, step_size: float, leapfrog: int
) -> tuple[Position, Tensor]:
    """One step of Hamiltonian Monte Carlo on f_t = N(0, I)^(1 - β) f^β, by ``leapfrog`` steps of
    length ``step_size``. Returns the new position and which chains moved, (N,) of 0 and 1."""

    def slope(place: Position) -> Tensor:
        return beta * place.slope - (1 - beta) * place.u

    def minus_energy(place: Position, momentum: Tensor) -> Tensor:
        log_f_t = beta * place.log_f + (1 - beta) * log_normal(place.u)
        return log_f_t - 0.5 * (momentum * momentum).sum(axis=-1)

    momentum = randn_like(here.u)
    before = minus_energy(here, momentum)
    there = here
    momentum = momentum + 0.5 * step_size * slope(here)
    for i in range(leapfrog):
        there = at(log_f, there.u + step_size * momentum)
        last = i == leapfrog - 1
        momentum = momentum + (0.5 if last else 1.0) * step_size * slope(there)
    gain = minus_energy(there, momentum) - before
    # A comparison with NaN is false, so a path that left the range of floats is not accepted.
    moved = log_of(rand_like(gain)) < gain  # (N,)
    u = where(moved[..., None], there.u, here.u)
    log_f_u = where(moved, there.log_f, here.log_f)
    slope_u = where(moved[..., None], there.slope, here.slope)
    return Position(u, log_f_u, slope_u), moved.astype(gain.dtype)


def ais(
    log_f: LogDensity,
    u: Tensor,
    betas: Sequence[float],
    step_sizes: Sequence[float],
    leapfrog: int = 5,
) -> tuple[Tensor, Tensor]:
    """Run N chains from u (N, D), which should be samples of N(0, I). Returns log w (N,), and the
    share of chains that moved at each step (T,).

    log_f: the log of the density f, which need not be normalised: points (N, D) to (N,).
    betas: β_0 = 0 to β_T = 1. step_sizes: T of them, for the HMC steps (tune_steps).
    """
    betas, (leapfrog,) = _betas(betas, "ais"), whole("ais", 1, leapfrog=leapfrog)
    step_sizes = numbers(step_sizes, "ais: step_sizes", above=0)
    if len(step_sizes) != len(betas) - 1:
        raise ValueError(
            f"ais: step_sizes holds {len(step_sizes)} numbers and betas {len(betas)}; there must "
            "be one step size for each beta after the first"
        )
    log_f = _densities(log_f, "ais: log_f")
    moved_at = []
    with no_grad():
        here = at(log_f, batch(u, "ais: u", 2))
        log_weight = zeros_like(here.log_f)
        for t, step_size in enumerate(step_sizes, 1):
            log_weight = log_weight + (betas[t] - betas[t - 1]) * (here.log_f - log_normal(here.u))
            here, moved = hmc_step(log_f, here, betas[t], step_size, leapfrog)
            moved_at.append(moved.mean())
    return log_weight, stack(moved_at)


def tune_steps(
    log_f: LogDensity, u: Tensor, betas: Sequence[float], leapfrog: int = 5, first: float = 0.1
) -> list[float]:
    """Step sizes for ``ais``, (T,), from a pilot run of the chains u (N, D). The first step has the
    size ``first``. If more than 65 % of the chains accept a step, the next one is longer, otherwise
    shorter."""
    betas, (leapfrog,) = _betas(betas, "tune_steps"), whole("tune_steps", 1, leapfrog=leapfrog)
    step_size = finite(first, "tune_steps: first", above=0)
    log_f = _densities(log_f, "tune_steps: log_f")
    found = []
    with no_grad():
        here = at(log_f, batch(u, "tune_steps: u", 2))
        for beta in betas[1:]:
            here, moved = hmc_step(log_f, here, beta, step_size, leapfrog)
            found.append(step_size)
            step_size *= exp_of(0.5 * (moved.mean().item() - ACCEPTED))
    return found


def ais_log_prob(
    vae: VAE,
    images: Any,
    labels: Any = None,
    chains: int = 4,
    steps: int = 100,
    leapfrog: int = 5,
    start: str = "encoder",
) -> np.ndarray:
    """AIS estimates of log p(x) in nats for images (N, ...): a NumPy array (N,) of float64. In
    expectation they are lower bounds.

    labels: (N,), if the VAE has classes. chains: how many per image. steps: T, the number of
    densities after the first. start: "encoder", to start the codes at q(z|x), or "prior", to start
    them at N(0, I).
    """
    chains, steps, leapfrog = whole(
        "ais_log_prob", 1, chains=chains, steps=steps, leapfrog=leapfrog
    )
    choice(start, "ais_log_prob: start", ("encoder", "prior"))
    betas = sigmoid_schedule(steps)
    found, step_sizes = [], None
    for x, y in parts_of(vae, images, labels, max(1, ROWS // chains), "ais_log_prob"):
        if step_sizes is None:
            few = None if y is None else y[:PILOT]
            log_f, u = density_of_codes(vae, x[:PILOT], few, chains, start)
            step_sizes = tune_steps(log_f, u, betas, leapfrog)
        log_f, u = density_of_codes(vae, x, y, chains, start)
        log_weight, _ = ais(log_f, u, betas, step_sizes, leapfrog)
        log_weight = log_weight.reshape((chains, len(x)))
        found.append((logsumexp(log_weight, axis=0) - log(chains)).numpy())
    return np.concatenate(found).astype(np.float64)


def density_of_codes(
    vae: VAE, x: Tensor, labels: Any, chains: int, start: str
) -> tuple[LogDensity, Tensor]:
    """log f for C chains per image, f(u) = p(x|z) p(z) |dz/du| with z = μ + s u, and the points u
    (C · B, latent) from N(0, I) at which the chains start. start: as in ``ais_log_prob``."""
    with no_grad():
        mean, log_var = of_vae(vae, "density_of_codes").encode(x, labels)
        if start == "prior":
            mean, log_var = zeros_like(mean), zeros_like(log_var)
        scale, log_scale = exp(0.5 * log_var), 0.5 * log_var.sum(axis=-1)
    shape = (chains, *mean.shape)

    def log_f(u: Tensor) -> Tensor:
        z = mean + scale * u.reshape(shape)  # (C, B, latent)
        log_prior = log_normal(z.reshape(u.shape)).reshape(shape[:2])  # (C, B)
        return (vae.log_likelihood(x, z, labels) + log_prior + log_scale).reshape((-1,))

    return log_f, randn_like(mean.expand(shape)).reshape((-1, vae.latent))


# ── argument checks ──────────────────────────────────────────────────────────────────────────────


def _betas(betas: Sequence[float], who: str) -> list[float]:
    """betas; a ValueError unless they rise from 0 to 1."""
    found = numbers(betas, f"{who}: betas", least=2, low=0, high=1)
    if found[0] != 0 or found[-1] != 1 or any(a > b for a, b in pairwise(found)):
        raise ValueError(
            f"{who}: betas goes from {found[0]} to {found[-1]}; it must rise from 0 to 1"
        )
    return found


def _densities(log_f: LogDensity, what: str) -> LogDensity:
    """log_f, wrapped so that its result is checked to be one number per point."""
    function(log_f, what)
    return lambda u: answer(log_f(u), u.shape[:1], what)
