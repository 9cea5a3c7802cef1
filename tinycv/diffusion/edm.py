"""EDM: diffusion with one knob, the noise level σ (Karras et al. 2022). The network is wrapped so
that its task is equally hard at every σ.

    x = x_0 + σ ε,  ε ~ N(0, I)                  the noised data: a = 1, s = σ, and σ is the time
    D(x; σ) = c_skip x + c_out F(c_in x; c_noise)                      Karras et al. 2022, eq. 7
    c_skip = σ_d²/(σ² + σ_d²)             c_out = σ σ_d/√(σ² + σ_d²)     table 1, column "Ours"
    c_in   = 1/√(σ² + σ_d²)               c_noise = ¼ ln σ
    E λ(σ) |D(x_0 + σ ε; σ) - x_0|²,   λ = 1/c_out²,   ln σ ~ N(-1.2, 1.2²)               eq. 8

σ_d is the standard deviation of the data.  F sees numbers of variance 1 and is asked for numbers of
variance 1.  Where there is little noise D is x and a small correction; where there is much, F
paints all of it.

    dx/dσ = (x - D(x; σ)) / σ = ε̂                             eq. 1 with σ(t) = t, and eq. 3
    σ_i = (σ_max^(1/ρ) + i/(N - 1) (σ_min^(1/ρ) - σ_max^(1/ρ)))^ρ,   σ_N = 0,  ρ = 7      eq. 5

is the way back: an ordinary differential equation, whose slope is the noise that D finds in x.
Heun's method (the mean of the slopes at both ends of a step) is of second order along it, for two
calls of D.  Large steps at much noise, small ones near the image.

Variance preserving diffusion is the same thing in other units: x/√(1 + σ²) has a = 1/√(1 + σ²) and
s = σ/√(1 + σ²), and for σ_d = 1 F is asked for -v.

Read before: schedule.py, denoising.py, samplers.py.   See at work: demos/19_gan_or_diffusion.py.
Shapes: x, x0 (B, ...); σ (B,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.diffusion.denoising import Network, to_noise
from tinycv.diffusion.schedule import Schedule, Times, like, made_for, refuse_another
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.backend import standard_normal
from tinycv.engine.create import randn_like
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import (
    Examples,
    answering,
    batch,
    finite,
    in_dtype_of,
    is_number,
    per_example,
    reals,
    within,
)
from tinycv.nn.losses import mse_loss


class EDM(Schedule):
    """a = 1 and s = σ: the time is the noise level itself. Its times for sampling are Karras'."""

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
        sigma_min = finite(sigma_min, "EDM: sigma_min", above=0)
        sigma_max = finite(sigma_max, "EDM: sigma_max", above=sigma_min)
        self.sigma_min, self.last = sigma_min, sigma_max
        self.rho = finite(rho, "EDM: rho", above=0)

    def is_same_as(self, other: Schedule) -> bool:
        """Is the other's time its noise level too? Where it ends does not matter."""
        return isinstance(other, EDM)

    def time(self, t: Any, what: str) -> float:
        """A noise level as a float, at least 0 and finite."""
        return finite(t, what, low=0)

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """1 and σ, for a noise level, or levels (B,)."""
        if is_number(t) and not isinstance(t, Tensor):
            return 1.0, self.time(t, "EDM.marginal: t")
        if number_kind(t) not in ("f", "i", "u"):
            raise TypeError(
                f"EDM.marginal: t is {shown(t)}; it must be a noise level, or an array or a Tensor "
                "of such"
            )
        sigma = within(t, "EDM.marginal: t", low=0)
        return 0 * sigma + 1.0, sigma

    def random_times(self, x: Examples, mean: float = -1.2, std: float = 1.2) -> Examples:
        """A noise level for each of x (B, ...), on its device: ln σ ~ N(mean, std²)."""
        z = standard_normal(len(batch(x, "EDM.random_times: x")), x, x.dtype)
        return like(x, ops.exp(mean + std * z))

    def times(self, steps: int) -> list[float]:
        """``edm_sigmas``: steps + 1 noise levels, down to 0."""
        return edm_sigmas(steps, self.sigma_min, self.last, self.rho)


def preconditioning(sigma: Times, sigma_data: float) -> tuple[Any, Any, Any]:
    """c_skip, c_out and c_in for noise levels of any shape: a number, or an array or Tensor. Whole
    numbers are read as floats. ValueError for a level that is negative, infinite or NaN (on a GPU,
    NaN in its place)."""
    reals("preconditioning", sigma=sigma)
    sigma_data = finite(sigma_data, "preconditioning: sigma_data", above=0)
    if isinstance(sigma, (int, float, np.generic)):
        sigma = finite(sigma, "preconditioning: sigma", low=0)
        most = max(sigma, sigma_data)
    else:
        sigma = sigma if sigma.dtype.kind == "f" else sigma.astype("float64")
        sigma = within(sigma, "preconditioning: sigma", low=0)
        # a unit, and so a constant: its derivatives cancel
        most = ops.maximum(sigma.detach() if isinstance(sigma, Tensor) else sigma, sigma_data)
    # squares of at most 1, which no dtype loses
    noise, data = sigma / most, sigma_data / most
    total = (noise * noise + data * data) ** 0.5  # √(σ² + σ_d²) / most
    return (data / total) ** 2, sigma_data * noise / total, 1 / (most * total)


def edm_denoiser(model: Network, sigma_data: float = 0.5) -> Denoiser:
    """D(x, σ, *condition) by a network F(c_in x, c_noise, *condition): σ a number, or one for each
    of x (B, ...)."""
    model = answering(model, "edm_denoiser: model")
    sigma_data = finite(sigma_data, "edm_denoiser: sigma_data", above=0)

    def denoise(x: Examples, sigma: Times, *condition: Any) -> Examples:
        level, beside = noise_levels(sigma, x, "edm_denoiser")
        c_skip, c_out, c_in = preconditioning(beside, sigma_data)
        c_noise = ops.log(level) / 4  # (B,)
        if not isinstance(c_noise, Tensor):
            c_noise = Tensor(c_noise)
        answer = model(c_in * x, c_noise, *condition)
        return c_skip * x + c_out * answer

    return made_for(denoise, EDM())


def noise_levels(
    sigma: Times, x: Examples, name: str = "noise_levels"
) -> tuple[Examples, Examples]:
    """σ on the device of x (B, ...): (B,), and (B, 1, ...) to stand beside x. A Tensor keeps its
    history.

    ValueError for a σ that is not above 0 (on a GPU the results are NaN instead: to look would be
    to wait).
    """
    batch(x, f"{name}: x")
    level = within(per_example(sigma, x, f"{name}: sigma"), f"{name}: sigma", above=0)
    return level, level.reshape((len(x),) + (1,) * (x.ndim - 1))


def edm_loss(
    model: Network,
    x0: Examples,
    *condition: Any,
    sigma_data: float = 0.5,
    mean: float = -1.2,
    std: float = 1.2,
) -> Tensor:
    """Mean squared error of F against what would make D the data: (x_0 - c_skip x)/c_out (Karras et
    al. 2022, eq. 8).

    Equal to the error of D, weighted by λ = 1/c_out². ln σ ~ N(mean, std²).
    """
    model = answering(model, "edm_loss: model")
    sigma_data = finite(sigma_data, "edm_loss: sigma_data", above=0)
    mean, std = finite(mean, "edm_loss: mean"), finite(std, "edm_loss: std", low=0)
    sigma = EDM().random_times(batch(x0, "edm_loss: x0"), mean, std)
    level, beside = noise_levels(sigma, x0, "edm_loss")
    c_skip, c_out, c_in = preconditioning(beside, sigma_data)
    x = x0 + beside * randn_like(Tensor(x0))
    answer = model(c_in * x, Tensor(ops.log(level) / 4), *condition)
    return mse_loss(answer, (x0 - c_skip * x) / c_out)


def edm_sigmas(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> list[float]:
    """σ_0 = sigma_max ... σ_{N-1} = sigma_min, σ_N = 0, for N = steps: N + 1 numbers (eq. 5)."""
    steps, rho = size(steps, "edm_sigmas: steps"), finite(rho, "edm_sigmas: rho", above=0)
    sigma_min = finite(sigma_min, "edm_sigmas: sigma_min")
    sigma_max = finite(sigma_max, "edm_sigmas: sigma_max")
    if steps < 2 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"edm_sigmas: steps={steps} must be at least 2, and 0 < sigma_min={sigma_min} < "
            f"sigma_max={sigma_max}"
        )
    # Eq. 5 in units of σ_max: (1 + i/(N - 1) (q - 1))^ρ with q = (σ_min/σ_max)^(1/ρ). No power of a
    # σ leaves the floats.
    share = np.arange(1, steps - 1) / (steps - 1)
    fall = np.expm1((np.log(sigma_min) - np.log(sigma_max)) / rho)  # q - 1
    return [sigma_max, *(sigma_max * np.exp(rho * np.log1p(share * fall))).tolist(), sigma_min, 0.0]


def heun_step(denoise: Denoiser, x: Examples, sigma: float, lower: float) -> Examples:
    """One step of algorithm 1 (no new noise): along the slope here, then again along the mean of
    both ends' slopes.

    For samplers.sample, with edm_sigmas as times, from x = sigma_max ε."""
    refuse_another(denoise, EDM(), "heun_step", "denoise")
    denoise = answering(denoise, "heun_step: denoise")
    batch(x, "heun_step: x")
    sigma = finite(sigma, "heun_step: sigma", above=0)
    lower = finite(lower, "heun_step: lower", low=0)
    slope = _slope(denoise, x, sigma)
    there = in_dtype_of(x, x + (lower - sigma) * slope)  # Euler's step
    if not lower:
        return there  # at 0 the slope divides by 0
    mean = 0.5 * (slope + _slope(denoise, there, lower))
    return in_dtype_of(x, x + (lower - sigma) * mean)


def _slope(denoise: Denoiser, x: Examples, sigma: float) -> Examples:
    """dx/dσ: the noise that the denoiser finds in x."""
    level = like(x, per_example(sigma, x, "heun_step: sigma"))
    return to_noise(denoise(x, level), x, 1.0, sigma)
