"""Inpainting with RePaint: part of the image is known, and any sampler fills in the rest to match.

    x_s = m ⊙ x_s^known + (1 - m) ⊙ x_s^unknown               Lugmayr et al. 2022 ("RePaint"), eq. 8
    x_s^known   ~ q(x_s | x_0), the known pixels with the noise of time s
    x_s^unknown ~ p(x_s | x_t), an ordinary step of any sampler

m is 1 where the image is known.  No network needs to be trained for inpainting.  The sampler's step
does not see what the known pixels will be at time s, so the two parts do not quite match.  RePaint
therefore adds noise to go back to time t, x_t ~ q(x_t | x_s), and repeats the step; each repetition
lets the unknown part adapt to the known one (ibid., algorithm 1, with jumps of one step).

Read first: samplers.py.   See at work: demos/17_diffusion_digits.py.
Shapes: x, image, known (B, ...).
"""

from __future__ import annotations

from tinycv.diffusion.samplers import Step, checked_step
from tinycv.diffusion.schedule import Schedule, schedule_in
from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.create import randn_like
from tinycv.engine.ops import where
from tinycv.engine.tensor import Tensor
from tinycv.nn.inputs import Examples, answer, batch, function, in_dtype_of


def inpainting(
    step: Step, schedule: Schedule, image: Examples, known: Examples, repeats: int = 5
) -> Step:
    """A step of a sampler, changed so that it keeps ``image`` where ``known`` is True.

    image, known: of the shape of x and on its device; known is bool. repeats: how often each step
    is taken. The values of ``image`` where it is not known are never read; they may be NaN.
    """
    function(step, "inpainting: step")
    schedule = schedule_in(schedule, "inpainting")
    batch(image, "inpainting: image")
    if number_kind(known) != "b":
        raise TypeError(
            f"inpainting: known is {shown(known)}; it must be an array or a Tensor of bools: True "
            "where the image is known"
        )
    image_shape = tuple(image.shape)
    if tuple(known.shape) != image_shape:
        raise ValueError(
            f"inpainting: image has shape {image_shape} and known {tuple(known.shape)}; they must "
            "be equal"
        )
    repeats = size(repeats, "inpainting: repeats", 1)

    def paint(x: Examples, t: float, s: float) -> Examples:
        t, s = checked_step("inpainting", schedule, x, t, s)
        if tuple(x.shape) != image_shape:
            raise ValueError(
                f"inpainting: x has shape {tuple(x.shape)} and image {image_shape}; they must be "
                "equal"
            )
        alpha, beta = schedule.between(t, s)
        for repeat in range(repeats):
            noised = schedule.perturb(image, s, randn_like(Tensor(x)))
            painted = where(known, noised, answer(step(x, t, s), x.shape, "inpainting: step"))
            painted = in_dtype_of(x, painted)
            if repeat < repeats - 1:
                # back to time t: q(x_t | x_s) covers all time steps between s and t at once
                x = alpha * painted + beta**0.5 * randn_like(Tensor(x))
        return painted

    return paint
