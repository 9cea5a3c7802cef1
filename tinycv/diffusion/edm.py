"""EDM (Karras et al. 2022): the noise level as the time, preconditioning, and Heun's sampler.

    x = x_0 + σ ε,  ε ~ N(0, I)                  the noised data: a = 1, and σ itself is the time
    D(x; σ) = c_skip x + c_out F(c_in x; c_noise)                      Karras et al. 2022, eq. 7
    c_skip = σ_d²/(σ² + σ_d²)             c_out = σ σ_d/√(σ² + σ_d²)     table 1, column "Ours"
    c_in   = 1/√(σ² + σ_d²)               c_noise = ¼ ln σ
    E λ(σ) |D(x_0 + σ ε; σ) - x_0|²,   λ = 1/c_out²,   ln σ ~ N(-1.2, 1.2²)               eq. 8

σ_d is the standard deviation of the data.  The coefficients (the preconditioning) are chosen so
that the input and the target of the network F have variance 1 at every σ.  At little noise D is x
with a small correction; at much noise the whole image comes from F.

Sampling follows an ordinary differential equation from σ_max down to 0.  Its slope is the noise
that D finds in x:

    dx/dσ = (x - D(x; σ)) / σ = ε̂                             eq. 1 with σ(t) = t, and eq. 3
    σ_i = (σ_max^(1/ρ) + i/(N - 1) (σ_min^(1/ρ) - σ_max^(1/ρ)))^ρ,   σ_N = 0,  ρ = 7      eq. 5

Heun's method takes the mean of the slopes at both ends of a step; it is of second order and calls D
twice per step.  The noise levels σ_i make large steps at much noise and small ones near the image.

Variance preserving diffusion (VP, DDPM) is the same thing in other units: x/√(1 + σ²) has the
signal level 1/√(1 + σ²) and the noise level σ/√(1 + σ²), and for σ_d = 1 the target of F is -v.

Read first: schedule.py, denoising.py, samplers.py.   See at work: demos/19_gan_or_diffusion.py.
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
    """EDM's noise schedule: a = 1, and the time is the noise level σ itself. A sampler gets the
    noise levels of ``edm_sigmas``."""

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
        sigma_min = finite(sigma_min, "EDM: sigma_min", above=0)
        sigma_max = finite(sigma_max, "EDM: sigma_max", above=sigma_min)
        self.sigma_min, self.last = sigma_min, sigma_max
        self.rho = finite(rho, "EDM: rho", above=0)

    def is_same_as(self, other: Schedule) -> bool:
        """Is the other noise schedule an EDM too? Where it ends does not matter."""
        return isinstance(other, EDM)

    def time(self, t: Any, what: str) -> float:
        """A noise level as a float; ValueError unless it is finite and at least 0."""
        return finite(t, what, low=0)

    def marginal(self, t: Times) -> tuple[Any, Any]:
        """a = 1 and σ, for a noise level or noise levels (B,)."""
        if is_number(t) and not isinstance(t, Tensor):
            return 1.0, self.time(t, "EDM.marginal: t")
        if number_kind(t) not in ("f", "i", "u"):
            raise TypeError(
                f"EDM.marginal: t is {shown(t)}; it must be a noise level, or an array or a Tensor "
                "of noise levels"
            )
        sigma = within(t, "EDM.marginal: t", low=0)
        return 0 * sigma + 1.0, sigma

    def random_times(self, x: Examples, mean: float = -1.2, std: float = 1.2) -> Examples:
        """One random noise level per example of x (B, ...), with ln σ ~ N(mean, std²): (B,), on the
        device of x."""
        z = standard_normal(len(batch(x, "EDM.random_times: x")), x, x.dtype)
        return like(x, ops.exp(mean + std * z))

    def times(self, steps: int) -> list[float]:
        """``edm_sigmas``: steps + 1 noise levels from the last down to 0."""
        return edm_sigmas(steps, self.sigma_min, self.last, self.rho)


def preconditioning(sigma: Times, sigma_data: float) -> tuple[Any, Any, Any]:
    """c_skip, c_out and c_in for noise levels sigma: a number, or an array or Tensor of any shape.

    Whole numbers are converted to floats. ValueError for a level that is negative, infinite or NaN
    (on a GPU the results are NaN instead).
    """
    reals("preconditioning", sigma=sigma)
    sigma_data = finite(sigma_data, "preconditioning: sigma_data", above=0)
    if isinstance(sigma, (int, float, np.generic)):
        sigma = finite(sigma, "preconditioning: sigma", low=0)
        most = max(sigma, sigma_data)
    else:
        sigma = sigma if sigma.dtype.kind == "f" else sigma.astype("float64")
        sigma = within(sigma, "preconditioning: sigma", low=0)
        # ``most`` is only a unit: it cancels in all three results, and so does its derivative.
        # Detached, it costs nothing in the backward pass.
        most = ops.maximum(sigma.detach() if isinstance(sigma, Tensor) else sigma, sigma_data)
    # In units of ``most`` both are at most 1, so that no square can overflow.
    noise, data = sigma / most, sigma_data / most
    total = (noise * noise + data * data) ** 0.5  # √(σ² + σ_d²) / most
    return (data / total) ** 2, sigma_data * noise / total, 1 / (most * total)


def edm_denoiser(model: Network, sigma_data: float = 0.5) -> Denoiser:
    """The denoiser D(x, σ, *condition) from a network F(c_in x, c_noise, *condition). σ: a number,
    or one per example (B,)."""
    model = answering(model, "edm_denoiser: model")
    sigma_data = finite(sigma_data, "edm_denoiser: sigma_data", above=0)

    def denoise(x: Examples, sigma: Times, *condition: Any) -> Examples:
        level, column = noise_levels(sigma, x, "edm_denoiser")
        c_skip, c_out, c_in = preconditioning(column, sigma_data)
        c_noise = ops.log(level) / 4  # (B,)
        if not isinstance(c_noise, Tensor):
            c_noise = Tensor(c_noise)
        answer = model(c_in * x, c_noise, *condition)
        return c_skip * x + c_out * answer

    return made_for(denoise, EDM())


def noise_levels(
    sigma: Times, x: Examples, name: str = "noise_levels"
) -> tuple[Examples, Examples]:
    """σ on the device of x (B, ...), twice: as (B,), and as (B, 1, ...), which multiplies x. A
    Tensor keeps its history.

    ValueError for a σ that is not above 0. On a GPU the results are NaN instead, because a check
    would have to wait for the device.
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
    """Mean squared error of F against (x_0 - c_skip x)/c_out, the target with which D would return
    the data (Karras et al. 2022, eq. 8).

    It equals the squared error of D weighted by λ = 1/c_out². ln σ ~ N(mean, std²).
    """
    model = answering(model, "edm_loss: model")
    sigma_data = finite(sigma_data, "edm_loss: sigma_data", above=0)
    mean, std = finite(mean, "edm_loss: mean"), finite(std, "edm_loss: std", low=0)
    sigma = EDM().random_times(batch(x0, "edm_loss: x0"), mean, std)
    level, column = noise_levels(sigma, x0, "edm_loss")
    c_skip, c_out, c_in = preconditioning(column, sigma_data)
    x = x0 + column * randn_like(Tensor(x0))
    answer = model(c_in * x, Tensor(ops.log(level) / 4), *condition)
    return mse_loss(answer, (x0 - c_skip * x) / c_out)


def edm_sigmas(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> list[float]:
    """The noise levels of a sampler with N = steps steps: σ_0 = sigma_max ... σ_{N-1} = sigma_min,
    σ_N = 0 (Karras et al. 2022, eq. 5)."""
    steps, rho = size(steps, "edm_sigmas: steps"), finite(rho, "edm_sigmas: rho", above=0)
    sigma_min = finite(sigma_min, "edm_sigmas: sigma_min")
    sigma_max = finite(sigma_max, "edm_sigmas: sigma_max")
    if steps < 2 or not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"edm_sigmas: steps={steps} must be at least 2, and 0 < sigma_min={sigma_min} < "
            f"sigma_max={sigma_max}"
        )
    # Eq. 5 in units of σ_max is (1 + i/(N - 1) (q - 1))^ρ with q = (σ_min/σ_max)^(1/ρ). In this
    # form no power of a σ can overflow.
    share = np.arange(1, steps - 1) / (steps - 1)
    fall = np.expm1((np.log(sigma_min) - np.log(sigma_max)) / rho)  # q - 1
    return [sigma_max, *(sigma_max * np.exp(rho * np.log1p(share * fall))).tolist(), sigma_min, 0.0]


def heun_step(denoise: Denoiser, x: Examples, sigma: float, lower: float) -> Examples:
    """One step of Heun's method from the noise level sigma to ``lower``: along the mean of the
    slope here and the slope where Euler's step would end (algorithm 1 of the paper, which adds no
    noise).

    Use it with samplers.sample, with edm_sigmas as times, from x = sigma_max ε.
    """
    refuse_another(denoise, EDM(), "heun_step", "denoise")
    denoise = answering(denoise, "heun_step: denoise")
    batch(x, "heun_step: x")
    sigma = finite(sigma, "heun_step: sigma", above=0)
    lower = finite(lower, "heun_step: lower", low=0)
    slope = _slope(denoise, x, sigma)
    there = in_dtype_of(x, x + (lower - sigma) * slope)  # Euler's step
    if not lower:
        return there  # the slope there, (x - D) / σ, would divide by 0
    mean = 0.5 * (slope + _slope(denoise, there, lower))
    return in_dtype_of(x, x + (lower - sigma) * mean)


def _slope(denoise: Denoiser, x: Examples, sigma: float) -> Examples:
    """dx/dσ = ε̂, the noise that the denoiser finds in x."""
    level = like(x, per_example(sigma, x, "heun_step: sigma"))
    return to_noise(denoise(x, level), x, 1.0, sigma)
