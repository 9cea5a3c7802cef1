"""Diffusion: noise is poured over an image, step by step, until nothing of it is left; a network learns the way back.

    forward      q(x_t | x_{t-1}) = N(√(1 - β_t) x_{t-1}, β_t I)                Ho, Jain & Abbeel 2020, eq. 2
    in one leap  q(x_t | x_0) = N(√ᾱ_t x_0, (1 - ᾱ_t) I)                       ibid., eq. 4;  ᾱ_t = Π_{s <= t} (1 - β_s)
    the loss     E |ε - ε_θ(√ᾱ_t x_0 + √(1 - ᾱ_t) ε, t)|²,  t uniform          ibid., eq. 14, L_simple

So x_t = a x_0 + s ε with a² + s² = 1: a is how much signal is left, s how much noise came.  A network that sees x_t may
be asked for either of the two, or for a mixture; each answer gives the others, since x_t is known:

    ε                    "eps"   the noise: easy where there is much of it, and x_0 = (x_t - s ε) / a fails as a -> 0
    x_0                  "x0"    the image: the other way round
    v = a ε - s x_0      "v"     good at either end                             Salimans & Ho 2022, section 4

What is best in squared error is an average of all that may have been: E[x_0 | x_t], a blurred image.  Everything that
samples asks for that and no more: a denoiser, D(x, t) = E[x_0 | x_t = x].  It is the score, in other words:
∇ log p_t(x) = (a D(x, t) - x) / s² (Tweedie's formula; Efron 2011), which score.py learns for its own sake.

A schedule is the array of ᾱ_0 ... ᾱ_T, with ᾱ_0 = 1: time 0 is the image itself, time T the noise.

Read before: score.py.   Read next: samplers.py, unet.py, edm.py.   See at work: demos/17_diffusion_digits.py.
Shapes: B images, of any shape (B, ...); T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinycv.engine import backend
from tinycv.engine.backend import array_module, constant
from tinycv.engine.ops import clip
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.losses import mse_loss

Denoiser = Callable[..., Any]                   # D(x, t) -> x_0: t a number, the same for all, or one for each (B,)

# ── schedules ────────────────────────────────────────────────────────────────────────────────────────


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """ᾱ (T + 1,) of β_1 ... β_T on a straight line from ``first`` to ``last`` (Ho et al. 2020, section 4)."""
    return alpha_bar_of(np.linspace(first, last, steps))


def cosine_schedule(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """ᾱ (T + 1,) of cos²: noise comes more slowly at both ends (Nichol & Dhariwal 2021, eq. 17).

    ᾱ_t = f(t) / f(0),  f(t) = cos²((t / T + offset) / (1 + offset) π / 2);  no β is larger than ``largest``.
    """
    f = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return alpha_bar_of(np.minimum(1 - f[1:] / f[:-1], largest))


def alpha_bar_of(betas: np.ndarray) -> np.ndarray:
    """ᾱ_0 ... ᾱ_T (T + 1,) of β_1 ... β_T (T,): ᾱ_0 = 1, ᾱ_t = (1 - β_t) ᾱ_{t-1}."""
    betas = np.asarray(betas, dtype=np.float64)
    if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"betas of shape {betas.shape}, from {betas.min(initial=1)} to {betas.max(initial=0)}: there must "
                         "be one for each step at least, all above 0 and below 1")
    return np.concatenate([[1.0], np.cumprod(1 - betas)])


def signal_and_noise(alpha_bar: np.ndarray, t: Any, x: Any) -> tuple[Any, Any]:
    """a = √ᾱ_t and s = √(1 - ᾱ_t): numbers for a number t, else arrays that stand beside x (B, ...), for t (B,)."""
    if isinstance(t, (int, np.integer)):
        return float(alpha_bar[t] ** 0.5), float((1 - alpha_bar[t]) ** 0.5)
    x, t = bare(x), bare(t)
    xp = array_module(x)
    of_time = constant(xp, (np.stack([alpha_bar, 1 - alpha_bar]) ** 0.5).astype(x.dtype))            # (2, T + 1)
    a, s = of_time[:, t].reshape((2, len(x)) + (1,) * (x.ndim - 1))
    return a, s


# ── there ────────────────────────────────────────────────────────────────────────────────────────────


def diffused(alpha_bar: np.ndarray, x0: Any, t: Any, noise: Any) -> Any:
    """x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε: the images x0 (B, ...) at time t, with ``noise`` of their shape."""
    a, s = signal_and_noise(alpha_bar, t, x0)
    return a * x0 + s * noise


def normal_like(x: Any) -> Tensor:
    """N(0, I) of the shape, dtype and device of x."""
    return Tensor(backend.standard_normal(x.shape, bare(x), x.dtype))


# ── what the network is asked for ────────────────────────────────────────────────────────────────────


def asked_for(predicts: str, x0: Any, noise: Any, a: Any, s: Any) -> Any:
    """The right answer, "eps", "x0" or "v", for x_t = a x_0 + s ε."""
    if predicts == "eps":
        return noise
    if predicts == "x0":
        return x0
    if predicts == "v":
        return a * noise - s * x0
    raise ValueError(f'predicts is {predicts!r}; a network may be asked for "eps", "x0" or "v"')


def to_x0(predicts: str, answer: Any, x: Any, a: Any, s: Any) -> Any:
    """The image in x = a x_0 + s ε, by an answer to ``asked_for``."""
    if predicts == "eps":
        return (x - s * answer) / a
    if predicts == "x0":
        return answer
    if predicts == "v":
        return a * x - s * answer               # a (a x_0 + s ε) - s (a ε - s x_0) = (a² + s²) x_0
    raise ValueError(f'predicts is {predicts!r}; a network may be asked for "eps", "x0" or "v"')


def to_noise(x0: Any, x: Any, a: Any, s: Any) -> Any:
    """The noise in x = a x_0 + s ε, where x_0 is known."""
    return (x - a * x0) / s


def diffusion_loss(model: Callable, x0: Any, *condition: Any, alpha_bar: np.ndarray, predicts: str = "eps") -> Tensor:
    """Squared error of the model's answer at random times, each of 1 ... T as likely: L_simple where it is "eps".

    model(x, t, *condition) sees x (B, ...), t (B,) and what else is known of each image, a label for example.
    The three answers differ in the loss by a factor alone: |Δε|² = (a/s)² |Δx_0|² and |Δv|² = |Δx_0|² / s².
    """
    t = random_times(alpha_bar, x0)
    a, s = signal_and_noise(alpha_bar, t, x0)
    noise = normal_like(x0)
    answer = model(a * x0 + s * noise, Tensor(t), *condition)
    return mse_loss(answer, asked_for(predicts, x0, noise, a, s))


def random_times(alpha_bar: np.ndarray, x: Any) -> Any:
    """An integer of 1 ... T for each of x (B, ...), on its device."""
    steps = len(alpha_bar) - 1
    u = backend.uniform(len(x), bare(x))
    return array_module(u).minimum((u * steps).astype("int64"), steps - 1) + 1


def denoiser(model: Callable, alpha_bar: np.ndarray, predicts: str = "eps") -> Denoiser:
    """D(x, t, *condition) = E[x_0 | x_t = x], by a model that was trained with ``diffusion_loss``."""
    def denoise(x: Any, t: Any, *condition: Any) -> Any:
        a, s = signal_and_noise(alpha_bar, t, x)
        times = array_module(bare(x)).full(len(x), t) if isinstance(t, (int, np.integer)) else bare(t)
        return to_x0(predicts, model(x, Tensor(times), *condition), x, a, s)
    return denoise


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """The same, but no pixel leaves the range that images have: an early error is not carried on (Ho et al.'s code)."""
    return lambda x, t, *condition: clip(denoise(x, t, *condition), low, high)
