"""SGD, stochastic gradient descent:   w <- w - lr g

With momentum, g becomes a running sum of gradients.

An optimiser is a pair, as in engine/fused.py: a definition, which gives new arrays, and a kernel,
which changes them in place.  Names, defaults and results follow PyTorch; float16 weights are
updated in float32, see optimizer.py. Read next: adam.py, optimizer.py (groups, state).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tinycv.engine.backend import Array
from tinycv.optim.inputs import Options, Parameters, StateDict
from tinycv.optim.optimizer import Optimizer


def sgd(
    p: Array,
    g: Array,
    b: Array,
    step: int,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Array, Array]:
    """(new p, new b): see SGD. step: the number of this step among those with momentum."""
    g = g + weight_decay * p
    if momentum:
        b = g if step == 1 else momentum * b + (1 - dampening) * g
        g = g + momentum * b if nesterov else b
    return p - lr * g, b


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked:  b <- momentum b + (1 - dampening) g,  w
    <- w - lr b.

    nesterov looks one step ahead: g + momentum b in place of b. weight_decay adds weight_decay * w
    to g. Sutskever et al. 2013, "On the importance of initialization and momentum", section 2.
    differs: as in PyTorch, lr multiplies b and not g. The first b, at the first step with momentum,
    is g itself, undampened; nothing is remembered of a parameter before that step.
    """

    arrays, definition = ("momentum_buffer",), staticmethod(sgd)
    steady = 1  # only the first step is another

    def __init__(
        self,
        params: Iterable[Parameters],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    @staticmethod
    def counts(options: Options) -> bool:
        """A step without momentum leaves b as it is, and is not counted."""
        return bool(options["momentum"])

    def loading(self, state_dict: StateDict) -> Callable[[], None]:
        """The function that loads ``state_dict``. Where there is no momentum, a buffer of zeros
        has not begun, whatever step is saved beside it.
        """
        load = super().loading(state_dict)

        def load_what_has_begun() -> None:
            load()
            for slab in self._slabs:
                if not self.counts(slab.options()):
                    buffers = slab.views_of_state["momentum_buffer"]
                    slab.steps = [
                        step if step and b.any() else 0
                        for step, b in zip(slab.steps, buffers, strict=True)
                    ]

        return load_what_has_begun


# ── the kernel: the same in place, for a block of weights that stays in cache; g is left as it is ─


@SGD.kernel
def _(xp, p, g, b, step, lr, momentum, dampening, weight_decay, nesterov):
    spare = xp.empty_like(p)
    if weight_decay:
        xp.multiply(p, weight_decay, out=spare)
        g = xp.add(g, spare, out=spare)
    if momentum:
        b *= momentum
        b += g if step == 1 or not dampening else xp.multiply(g, 1 - dampening, out=spare)
    if not momentum or nesterov:
        p -= xp.multiply(g, lr, out=spare)
    if momentum:
        p -= xp.multiply(b, lr * momentum if nesterov else lr, out=spare)
