"""Inpainting by RePaint: a part of the image is known, and any sampler paints a rest that fits it.

    x_s = m ⊙ x_s^known + (1 - m) ⊙ x_s^unknown               Lugmayr et al. 2022 ("RePaint"), eq. 8
    x_s^known   ~ q(x_s | x_0), the known pixels with the noise of time s
    x_s^unknown ~ p(x_s | x_t), an ordinary step of any sampler

No network is trained for that.
What was just painted did not know what the known pixels would be at time s, and the two do not
quite fit.  So one goes back, x_t ~ q(x_t | x_s), and paints again; with each repetition the two
halves speak to each other once more (ibid., algorithm 1, with jumps of one step).

Read before: samplers.py.   See at work: demos/17_diffusion_digits.py.
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
    """The sampler's step made into one that keeps ``image`` where ``known`` is True.

    image, known: of x's shape, on its device; known is bool. repeats: how often each step is
    painted. What stands in ``image`` where nothing is known is never looked at: it may be NaN.
    """
    function(step, "inpainting: step")
    schedule = schedule_in(schedule, "inpainting")
    batch(image, "inpainting: image")
    if number_kind(known) != "b":
        raise TypeError(
            f"inpainting: known is {shown(known)}; it must be an array or a Tensor of bools: True "
            "where the image is known"
        )
    answer_shape = tuple(image.shape)
    if tuple(known.shape) != answer_shape:
        raise ValueError(
            f"inpainting: image has shape {answer_shape}, known {tuple(known.shape)}; they must be "
            "equal"
        )
    repeats = size(repeats, "inpainting: repeats", 1)

    def paint(x: Examples, t: float, s: float) -> Examples:
        t, s = checked_step("inpainting", schedule, x, t, s)
        if tuple(x.shape) != answer_shape:
            raise ValueError(
                f"inpainting: x has shape {tuple(x.shape)}, image {answer_shape}; they must be "
                "equal"
            )
        alpha, beta = schedule.between(t, s)
        for left in reversed(range(repeats)):
            noised = schedule.perturb(image, s, randn_like(Tensor(x)))
            painted = where(known, noised, answer(step(x, t, s), x.shape, "inpainting: step"))
            painted = in_dtype_of(x, painted)
            if left:
                # q(x_t | x_s): all steps from s to t in one
                x = alpha * painted + beta**0.5 * randn_like(Tensor(x))
        return painted

    return paint
