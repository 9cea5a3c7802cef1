"""Consistency distillation: a diffusion model that samples in 1 to 4 steps (Song et al. 2023), with
its guidance built in (Meng et al. 2023; latent consistency models, Luo et al. 2023).

    f(x, σ) = c_skip x + c_out F(c_in x; c_noise)                           the consistency function
    c_skip = σ_d²/((σ - σ_min)² + σ_d²)       c_out = (σ - σ_min) σ_d/√(σ² + σ_d²)       appendix C
    f(x, σ_min) = x                           since c_skip = 1 and c_out = 0: the boundary condition

    x = x_0 + σ_n ε                           a training image with noise
    x̂ = x, moved from σ_n down to the next level σ_{n+1} by one step of the teacher's ODE
    loss = E |f_θ(x, σ_n) - f_{θ⁻}(x̂, σ_{n+1})|²                          definition 1, algorithm 2
    θ⁻ = μ θ⁻ + (1 - μ) θ                     the target: a moving average, without a gradient

F is the student's network with the weights θ, σ_d the standard deviation of the data, and μ the
decay.  The sampler of edm.py follows an ODE from noise to an image.  All points of one path end at
the same image, and f is meant to return this image at once, from any point of the path.  The loss
compares f at two neighbouring points of a path.  At the last level f returns x itself.  This
boundary condition rules out the trivial solution that f is constant, and from there the right
values spread, level by level, to more and more noise.  (This is like temporal-difference learning:
f is corrected towards its own value one step later.)

Guidance needs two passes of the network at each step.  If the teacher is guided, the student learns
the paths of the guided sampler, and needs only one pass per step.

With a perfect f one step is enough.  Otherwise more steps can help: new noise of a lower level is
added to the image, and f removes it (algorithm 1).

differs: the levels are counted from the noise down to the image, as in edm.py (Song et al. count
them upwards).  The student learns one strength of guidance (Meng et al. and Luo et al. make w an
input of the network, and draw it at random in training).

    student = ConsistencyModel(network, sigma_data=0.5)             starts as a copy of the teacher
    teacher = with_guidance(edm_denoiser(network), nobody=PAD, w=2.0)
    loss = student.loss(teacher, images, ids); loss.backward(); optimizer.step(); student.update()
    images = student.sample(randn(64, 3, 16, 16), 4, ids)

Read first: edm.py, guidance.py.   See at work: demos/full/24_text_to_image.py.
Shapes: x, x0 (B, ...); σ (B,); conditions such as labels (B,) or ids (B, T).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any

from tinycv.diffusion.denoising import Network
from tinycv.diffusion.edm import EDM, edm_sigmas, noise_levels, preconditioning
from tinycv.diffusion.guidance import guided
from tinycv.diffusion.mixed_score import module_in
from tinycv.diffusion.samplers import sample
from tinycv.diffusion.schedule import like, made_for, refuse_another
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import flag, number, shown, size
from tinycv.engine.backend import array_module, uniform
from tinycv.engine.create import randn_like
from tinycv.engine.tensor import Parameter, Tensor, bare, no_grad
from tinycv.nn.inputs import (
    Examples,
    answer,
    answering,
    batch,
    finite,
    function,
    in_dtype_of,
    numbers,
)
from tinycv.nn.losses import mse_loss
from tinycv.nn.module import Module

# ── the function, the teacher's step, the loss ───────────────────────────────────────────────────


def consistency_function(
    model: Network, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> Denoiser:
    """f(x, σ, *condition) from a network F(c_in x, c_noise, *condition), which is the network of an
    ``edm_denoiser``. σ: a number or (B,); below sigma_min f returns x too."""
    model = answering(model, "consistency_function: model")
    sigma_data = finite(sigma_data, "consistency_function: sigma_data", above=0)
    sigma_min = finite(sigma_min, "consistency_function: sigma_min", above=0)

    def f(x: Examples, sigma: Any, *condition: Any) -> Examples:
        level, column = noise_levels(sigma, x, "consistency_function")
        _, c_out, c_in = preconditioning(column, sigma_data)
        # Rounding can put σ slightly below σ_min; the maximum keeps the boundary condition exact.
        above = ops.maximum(column - sigma_min, 0.0)  # (B, 1, ...)
        c_skip = 1 / (1 + (above / sigma_data) ** 2)
        c_out = c_out * (above / column)  # (σ - σ_min) σ_d/√(σ² + σ_d²)
        return c_skip * x + c_out * model(c_in * x, Tensor(ops.log(level) / 4), *condition)

    return made_for(f, EDM())


def with_guidance(denoise: Denoiser, nobody: int, w: float) -> Denoiser:
    """A teacher D(x, σ, labels) that is guided with the strength w (guidance.py). labels: (B,), or
    texts (B, T)."""
    refuse_another(denoise, EDM(), "with_guidance", "denoise")
    denoise = answering(denoise, "with_guidance: denoise")
    nobody, w = size(nobody, "with_guidance: nobody"), finite(w, "with_guidance: w")

    def guide(x: Examples, sigma: Any, labels: Any) -> Examples:
        level, _ = noise_levels(sigma, x, "with_guidance")
        return guided(denoise, labels, nobody, w)(x, like(x, level))

    return made_for(guide, EDM())


def teacher_step(
    denoise: Denoiser,
    x: Examples,
    sigma: Any,
    lower: Any,
    *condition: Any,
    second_order: bool = True,
) -> Examples:
    """One step of the ODE dx/dσ = (x - D)/σ from the levels sigma (B,) to ``lower`` (B,), all above
    0. It is Heun's step as in edm.heun_step, or Euler's; every example has its own levels."""
    second_order = flag(second_order, "teacher_step: second_order")
    refuse_another(denoise, EDM(), "teacher_step", "denoise")
    denoise = answering(denoise, "teacher_step: denoise")
    level, column = noise_levels(sigma, x, "teacher_step")
    lower_level, lower_column = noise_levels(lower, x, "teacher_step")
    slope = (x - denoise(x, like(x, level), *condition)) / column
    there = x + (lower_column - column) * slope  # Euler's step
    if second_order:
        slope_there = (there - denoise(there, like(x, lower_level), *condition)) / lower_column
        there = x + (lower_column - column) * 0.5 * (slope + slope_there)
    return in_dtype_of(x, there)


def consistency_loss(
    f: Denoiser,
    target: Denoiser,
    step: Callable[..., Examples],
    x0: Examples,
    *condition: Any,
    levels: Sequence[float],
) -> Tensor:
    """The mean squared difference between f at a noised image and ``target`` one step further down
    (definition 1 of the paper with d = squared error and λ = 1). No gradient reaches the target.

    f, target: consistency functions. step: (x, σ (B,), lower (B,), *condition) -> x at the level
    ``lower``, such as partial(teacher_step, D). levels: noise levels from large to small, such as
    edm_sigmas(18)[:-1]; each image gets one of them at random.
    """
    f = answering(f, "consistency_loss: f")
    target = answering(target, "consistency_loss: target")
    function(step, "consistency_loss: step")
    xp = array_module(bare(batch(x0, "consistency_loss: x0")))
    levels = numbers(levels, "consistency_loss: levels", 2, above=0)
    if not all(high > low for high, low in pairwise(levels)):
        raise ValueError(
            f"consistency_loss: levels is {shown(levels)}; noise levels must fall from the first "
            "to the last"
        )
    falling = xp.asarray(levels, dtype=x0.dtype)
    index = (uniform(len(x0), bare(x0), x0.dtype) * (len(levels) - 1)).astype("int64")
    sigma, lower = falling[index], falling[index + 1]  # (B,)
    _, column = noise_levels(sigma, x0, "consistency_loss")
    x = x0 + column * randn_like(Tensor(x0))
    with no_grad():
        moved = step(x, Tensor(sigma), Tensor(lower), *condition)
        moved = answer(moved, x.shape, "consistency_loss: step")
        goal = target(moved, Tensor(lower), *condition)
    return mse_loss(f(x, Tensor(sigma), *condition), goal)


def consistency_step(f: Denoiser, x: Examples, sigma: float, lower: float) -> Examples:
    """A step of the multistep sampler (algorithm 1): f turns x into an image, and new noise brings
    it to the level ``lower``. At lower = 0 none is added.

    Use it with samplers.sample, with ``consistency_sigmas`` as times, from x = σ_max ε.
    differs: the image counts as free of noise (the paper counts it as having σ_min).
    """
    refuse_another(f, EDM(), "consistency_step", "f")
    f = answering(f, "consistency_step: f")
    batch(x, "consistency_step: x")
    sigma = finite(sigma, "consistency_step: sigma", above=0)
    lower = finite(lower, "consistency_step: lower", low=0)
    image = f(x, sigma)
    return in_dtype_of(x, image + lower * randn_like(Tensor(x)) if lower else image)


def consistency_sigmas(
    steps: int, lowest: float = 0.5, sigma_max: float = 80.0, rho: float = 7.0
) -> list[float]:
    """The steps + 1 noise levels of a sampler with ``consistency_step``: ``steps`` of them from
    sigma_max down, as far apart as those of ``edm_sigmas`` on the way to ``lowest``, and 0.

    lowest: σ_d is a good value. The content of an image is decided above this level; new noise of a
    lower level would only have to be removed again.
    """
    steps = size(steps, "consistency_sigmas: steps", 1)
    lowest = finite(lowest, "consistency_sigmas: lowest", above=0)
    sigma_max = finite(sigma_max, "consistency_sigmas: sigma_max", above=lowest)
    rho = finite(rho, "consistency_sigmas: rho", above=0)
    return [*edm_sigmas(steps + 1, lowest, sigma_max, rho)[:steps], 0.0]


# ── the student ──────────────────────────────────────────────────────────────────────────────────


class ConsistencyModel(Module):
    """A student with its target, both starting as copies of the teacher's network
    F(c_in x, c_noise, *condition).

    Only the parameters of ``network`` should be given to the optimizer. The target is the moving
    average f_θ⁻ of the loss; call ``update`` after each step of the optimizer.
    schedule: the noise levels of the teacher, by default EDM().
    steps: how many steps the teacher takes from sigma_max to sigma_min. More steps follow the ODE
    more closely, but the right values need longer to spread to the highest level.
    If the network was trained on images - centre, as in a TextToImage with a centre, give images -
    centre to ``loss`` too, and add centre to what ``sample`` returns.
    """

    def __init__(
        self,
        network: Module,
        sigma_data: float = 0.5,
        schedule: EDM | None = None,
        steps: int = 17,
        decay: float = 0.95,
    ):
        if type(module_in(network, "ConsistencyModel")).forward is Module.forward:
            raise TypeError(
                f"ConsistencyModel: network is {shown(network)}, which cannot be called; it must "
                "be the network F(x, c_noise, ...) itself, such as model.network"
            )
        self.network = deepcopy(network)
        self.target = deepcopy(network)
        self.sigma_data = finite(sigma_data, "ConsistencyModel: sigma_data", above=0)
        if schedule is not None and not isinstance(schedule, EDM):
            raise TypeError(
                f"ConsistencyModel: schedule is {shown(schedule)}; it must be an EDM, such as "
                "EDM(0.002, 80.0)"
            )
        self.schedule = schedule or EDM()
        self.levels = self.schedule.times(size(steps, "ConsistencyModel: steps", 1) + 1)[:-1]
        self.decay = number(decay, "ConsistencyModel: decay", 0, below=1)

    def function(self) -> Denoiser:
        """f(x, σ, *condition) of the student."""
        return consistency_function(self.network, self.sigma_data, self.schedule.sigma_min)

    def loss(self, teacher: Denoiser, x0: Examples, *condition: Any) -> Tensor:
        """``consistency_loss`` on images x0 (B, ...), with Heun's steps of the teacher
        D(x, σ, *condition)."""
        if isinstance(teacher, Module):
            raise TypeError(
                f"ConsistencyModel.loss: teacher is {shown(teacher)}, a network; it must be a "
                "denoiser D(x, σ, ...), such as edm_denoiser(network)"
            )
        target = consistency_function(self.target, self.sigma_data, self.schedule.sigma_min)
        step = partial(teacher_step, teacher)
        return consistency_loss(self.function(), target, step, x0, *condition, levels=self.levels)

    @no_grad()
    def update(self) -> None:
        """Move the target towards the student: θ⁻ = μ θ⁻ + (1 - μ) θ. Buffers are copied."""
        named = dict(self.network.named_tensors())
        for name, average in self.target.named_tensors():
            new = named[name]
            if isinstance(average, Parameter):
                new = self.decay * average + (1 - self.decay) * new
            average.data = new.data

    def sample(self, noise: Examples, steps: int, *condition: Any) -> Examples:
        """Images from noise (B, ...) of N(0, I), in ``steps`` steps, each of which calls the
        network once."""
        batch(noise, "ConsistencyModel.sample: noise")
        steps = size(steps, "ConsistencyModel.sample: steps", 1)
        f = self.function()

        def step(x: Examples, sigma: float, lower: float) -> Examples:
            return consistency_step(lambda x, level: f(x, level, *condition), x, sigma, lower)

        schedule = self.schedule
        lowest = min(self.sigma_data, schedule.last / 2)
        times = consistency_sigmas(steps, lowest, schedule.last, schedule.rho)
        return sample(step, schedule.last * noise, times)
