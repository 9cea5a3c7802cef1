"""Diffusion: noise is poured over an image, step by step, until nothing of it is left; a network
learns the way back.

    forward      q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t I)       Ho, Jain & Abbeel 2020, eq. 2
    in one leap  q(x_t | x_0) = N(√ᾱ_t x_0, (1 - ᾱ_t) I)   ibid., eq. 4;  ᾱ_t = Π_{s <= t} (1 - β_s)
    the loss     E |ε - ε_θ(√ᾱ_t x_0 + √(1 - ᾱ_t) ε, t)|²,  t uniform        ibid., eq. 14, L_simple

So x_t = a x_0 + s ε with a² + s² = 1: a is how much signal is left, s how much noise came.  A
network that sees x_t may be asked for either of the two, or for a mixture; each answer gives the
others, since x_t is known:

    ε                    "eps"   the noise: easy where there is much of it, and x_0 = (x_t - s ε) / a fails as a -> 0
    x_0                  "x0"    the image: the other way round
    v = a ε - s x_0      "v"     good at either end                    Salimans & Ho 2022, section 4

What is best in squared error is an average of all that may have been: E[x_0 | x_t], a blurred
image.  Everything that samples asks for that and no more: a denoiser, D(x, t) = E[x_0 | x_t = x].
It is the score, in other words: ∇ log p_t(x) = (a D(x, t) - x) / s² (Tweedie's formula; Efron
2011), which score.py learns for its own sake.

A schedule is the array of ᾱ_0 ... ᾱ_T, with ᾱ_0 = 1: time 0 is the image itself, time T the noise.

Read before: score.py.   Read next: samplers.py, unet.py, edm.py.
See at work: demos/17_diffusion_digits.py.
Shapes: B images, of any shape (B, ...); T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.data.inputs import kind_of
from tinycv.engine import backend
from tinycv.engine.arguments import choice, number, shown, size
from tinycv.engine.backend import array_module, constant, from_host
from tinycv.engine.ops import clip, where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.inputs import answer as returned
from tinycv.nn.inputs import answering, batch, finite, reals, whole_time
from tinycv.nn.losses import mse_loss

# D(x, t) -> x_0: t a number, the same for all, or one for each (B,)
Denoiser = Callable[..., Any]

# ── schedules ─────────────────────────────────────────────────────────────────────────────────────


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """ᾱ (T + 1,) of β_1 ... β_T on a straight line from ``first`` to ``last`` (Ho et al. 2020,
    section 4)."""
    steps = size(steps, "linear_schedule: steps", 1)
    first, last = (
        finite(beta, f"linear_schedule: {name}", above=0, below=1)
        for name, beta in (("first", first), ("last", last))
    )
    return alpha_bar_of(np.linspace(first, last, steps))


def cosine_schedule(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """ᾱ (T + 1,) of cos²: noise comes more slowly at both ends (Nichol & Dhariwal 2021, eq. 17).

    ᾱ_t = f(t) / f(0),  f(t) = cos²((t / T + offset) / (1 + offset) π / 2);  no β is larger than
    ``largest``.
    """
    steps = size(steps, "cosine_schedule: steps", 1)
    offset = finite(offset, "cosine_schedule: offset", low=0, high=1)
    largest = finite(largest, "cosine_schedule: largest", above=0, below=1)
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return alpha_bar_of(np.minimum(1 - f[1:] / f[:-1], largest))


def alpha_bar_of(betas: np.ndarray) -> np.ndarray:
    """ᾱ_0 ... ᾱ_T (T + 1,) of β_1 ... β_T (T,): ᾱ_0 = 1, ᾱ_t = (1 - β_t) ᾱ_{t-1}."""
    betas = real_row(betas, "alpha_bar_of: betas")
    if not len(betas) or not ((betas > 0) & (betas < 1)).all():
        raise ValueError(
            f"alpha_bar_of: betas of shape {betas.shape}, from {betas.min(initial=1)} to "
            f"{betas.max(initial=0)}: there must be one for each step at least, all above 0 and "
            "below 1"
        )
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def real_row(values: Any, what: str) -> np.ndarray:
    """A NumPy array or a list of real numbers, one axis, as float64."""
    plain = isinstance(values, (list, tuple)) and all(
        isinstance(v, (int, float, np.number)) for v in values
    )
    array = np.asarray(values) if plain else values
    if type(array) is not np.ndarray or array.dtype.kind not in ("f", "i", "u"):
        raise TypeError(f"{what} is {shown(values)}; it must be a NumPy array of real numbers")
    if array.ndim != 1:
        raise ValueError(f"{what} has shape {array.shape}; it must have one axis")
    return array.astype(np.float64, copy=False)


def schedule(alpha_bar: Any, what: str) -> np.ndarray:
    """ᾱ_0 ... ᾱ_T in float64, if it is one: from 1 down to no less than 0, and never up."""
    alpha_bar = real_row(alpha_bar, f"{what}: alpha_bar")
    if (
        len(alpha_bar) < 2
        or alpha_bar[0] != 1
        or not alpha_bar[-1] >= 0
        or not (np.diff(alpha_bar) <= 0).all()
    ):
        raise ValueError(
            f"{what}: alpha_bar holds {len(alpha_bar)} numbers that are no schedule: it must begin "
            "with 1, fall from step to step, and stay at or above 0; linear_schedule and "
            "cosine_schedule make one"
        )
    return alpha_bar


def signal_and_noise(alpha_bar: np.ndarray, t: Any, x: Any) -> tuple[Any, Any]:
    """a = √ᾱ_t and s = √(1 - ᾱ_t): numbers for a number t, else arrays that stand beside x (B,
    ...), for t (B,).

    IndexError names a time outside 0 ... T (on a GPU the result is NaN instead: to look would be to
    wait).
    """
    return _signal_and_noise("signal_and_noise", alpha_bar, t, x)


def _signal_and_noise(who: str, alpha_bar: np.ndarray, t: Any, x: Any) -> tuple[Any, Any]:
    """The same for who asked for it, which the errors name."""
    alpha_bar, kind = schedule(alpha_bar, who), kind_of(t)
    if kind is None or (kind in "iu" and t.ndim == 0 and array_module(bare(t)) is np):
        t = whole_time(t, f"{who}: t", len(alpha_bar) - 1)
        return float(alpha_bar[t] ** 0.5), float((1 - alpha_bar[t]) ** 0.5)
    x, t = bare(batch(x, f"{who}: x")), bare(t)
    if kind not in "iu":
        raise TypeError(
            f"{who}: t is {shown(t)}; times are whole numbers, from 0 to {len(alpha_bar) - 1}"
        )
    if t.shape not in ((), (len(x),)):
        raise ValueError(
            f"{who}: t has shape {t.shape} and x {x.shape}; t must be a number, or one for each "
            "of x"
        )
    xp, last = array_module(x), len(alpha_bar) - 1
    wrong = (t < 0) | (t > last)
    if array_module(t) is np and wrong.any():
        raise IndexError(f"{who}: t holds {t[wrong][0]}; the schedule has the times 0 to {last}")
    ends_in_nan = np.append(alpha_bar, np.nan)  # for a wrong time on a GPU
    of_time = np.stack([ends_in_nan, 1 - ends_in_nan]) ** 0.5  # (2, T + 2)
    t = from_host(xp, t) if array_module(t) is np else xp.where(wrong, last + 1, t)
    a, s = constant(xp, of_time.astype(x.dtype))[:, t].reshape((2, -1) + (1,) * (x.ndim - 1))
    return a, s


# ── there ─────────────────────────────────────────────────────────────────────────────────────────


def diffused(alpha_bar: np.ndarray, x0: Any, t: Any, noise: Any) -> Any:
    """x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε: the images x0 (B, ...) at time t, with ``noise`` of their
    shape."""
    batch(x0, "diffused: x0")
    a, s = _signal_and_noise("diffused", alpha_bar, t, x0)
    returned(noise, x0.shape, "diffused: what drew the noise")
    # one time for all: what has no weight is not read
    if isinstance(s, float) and 0 in (a, s):
        return a * x0 if s == 0 else s * noise
    return a * x0 + s * noise


def normal_like(x: Any) -> Tensor:
    """N(0, I) of the shape, dtype and device of x."""
    own = bare(batch(x, "normal_like: x"))
    return Tensor(backend.standard_normal(own.shape, own, own.dtype))


# ── what the network is asked for ─────────────────────────────────────────────────────────────────


KINDS = "eps", "x0", "v"


def asked_for(predicts: str, x0: Any, noise: Any, a: Any, s: Any) -> Any:
    """The right answer, "eps", "x0" or "v", for x_t = a x_0 + s ε."""
    choice(predicts, "asked_for: predicts", KINDS)
    reals("asked_for", x0=x0, noise=noise, a=a, s=s)
    if predicts == "eps":
        return noise
    return x0 if predicts == "x0" else a * noise - s * x0


def to_x0(predicts: str, answer: Any, x: Any, a: Any, s: Any) -> Any:
    """The image in x = a x_0 + s ε, by an answer to ``asked_for``."""
    choice(predicts, "to_x0: predicts", KINDS)
    reals("to_x0", answer=answer, x=x, a=a, s=s)
    if predicts == "eps":
        return (x - s * answer) / a
    # a (a x_0 + s ε) - s (a ε - s x_0) = (a² + s²) x_0
    return answer if predicts == "x0" else a * x - s * answer


def to_noise(x0: Any, x: Any, a: Any, s: Any) -> Any:
    """The noise in x = a x_0 + s ε, where x_0 is known."""
    reals("to_noise", x0=x0, x=x, a=a, s=s)
    return (x - a * x0) / s


def diffusion_loss(
    model: Callable, x0: Any, *condition: Any, alpha_bar: np.ndarray, predicts: str = "eps"
) -> Tensor:
    """Squared error of the model's answer at random times, each of 1 ... T as likely: L_simple
    where it is "eps".

    model(x, t, *condition) sees x (B, ...), t (B,) and what else is known of each image, a label
    for example. The three answers differ in the loss by a factor alone: |Δε|² = (a/s)² |Δx_0|² and
    |Δv|² = |Δx_0|² / s².
    """
    choice(predicts, "diffusion_loss: predicts", KINDS)
    batch(x0, "diffusion_loss: x0")
    model = answering(model, "diffusion_loss: model")
    t = random_times(schedule(alpha_bar, "diffusion_loss"), x0)
    a, s = signal_and_noise(alpha_bar, t, x0)
    noise = normal_like(x0)
    answer = model(a * x0 + s * noise, Tensor(t), *condition)
    return mse_loss(answer, asked_for(predicts, x0, noise, a, s))


def random_times(alpha_bar: np.ndarray, x: Any) -> Any:
    """An integer of 1 ... T for each of x (B, ...), on its device."""
    steps = len(schedule(alpha_bar, "random_times")) - 1
    u = backend.uniform(len(batch(x, "random_times: x")), bare(x))
    return array_module(u).minimum((u * steps).astype("int64"), steps - 1) + 1


def denoiser(model: Callable, alpha_bar: np.ndarray, predicts: str = "eps") -> Denoiser:
    """D(x, t, *condition) = E[x_0 | x_t = x], by a model that was trained with
    ``diffusion_loss``."""
    choice(predicts, "denoiser: predicts", KINDS)
    model, alpha_bar = answering(model, "denoiser: model"), schedule(alpha_bar, "denoiser")

    def denoise(x: Any, t: Any, *condition: Any) -> Any:
        a, s = signal_and_noise(alpha_bar, t, x)
        if predicts == "eps" and alpha_bar[-1] == 0:
            a = _image_left(a, t)
        times = bare(t)
        # a number: the same time for all
        if isinstance(a, float):
            times = array_module(bare(x)).full(len(x), int(t))
        elif times.ndim == 0:
            times = array_module(times).broadcast_to(times, (len(x),))
        return to_x0(predicts, model(x, Tensor(times), *condition), x, a, s)

    return denoise


def _image_left(a: Any, t: Any) -> Any:
    """a, the share of the image that is left at the times t: ValueError where it is 0 (on a GPU,
    NaN in its place)."""
    if not isinstance(a, float) and array_module(bare(a)) is not np:
        return where(bare(a) == 0, math.nan, a)
    if np.any(a == 0):
        raise ValueError(
            f"denoiser: at time {shown(t)} nothing is left of the image (alpha_bar is 0), so its "
            'noise does not tell it; train the model for "v" or "x0"'
        )
    return a


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """The same, but no pixel leaves the range that images have: an early error is not carried on
    (Ho et al.'s code)."""
    denoise = answering(denoise, "clipped: denoise")
    if not number(low, "clipped: low") < number(high, "clipped: high"):
        raise ValueError(f"clipped: low is {low} and high is {high}; low must be below high")
    return lambda x, t, *condition: clip(denoise(x, t, *condition), low, high)
