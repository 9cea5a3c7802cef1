"""SGD (stochastic gradient descent) with momentum, Nesterov momentum and weight decay.

    w <- w - lr g                                         without momentum
    b <- momentum b + (1 - dampening) g,  w <- w - lr b   with momentum: b is a running sum of g

An optimiser is a pair, as in engine/fused.py: a definition, which returns new arrays, and a kernel,
which changes the arrays in place. Names, defaults and results follow PyTorch; float16 weights are
updated in float32 (optimizer.py says why).
Read next: adam.py, optimizer.py (groups, state).
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
    """Returns (new p, new b). The class SGD explains the rule. step: the number of this step, from
    1, among the steps with momentum.
    """
    g = g + weight_decay * p
    if momentum:
        b = g if step == 1 else momentum * b + (1 - dampening) * g
        g = g + momentum * b if nesterov else b
    return p - lr * g, b


class SGD(Optimizer):
    """Stochastic gradient descent, with optional momentum:
    b <- momentum b + (1 - dampening) g,   w <- w - lr b.

    nesterov looks one step ahead: it moves w along g + momentum b instead of b. weight_decay adds
    weight_decay * w to g.
    Sutskever et al. 2013, "On the importance of initialization and momentum", section 2.
    differs: as in PyTorch, lr multiplies b, not g. At the first step with momentum, b is g itself,
    without dampening; before that step, a parameter has no saved state.
    """

    arrays = ("momentum_buffer",)
    definition = staticmethod(sgd)
    steady = 1  # the formula is the same from step 2 on: only the first step differs

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
        """Whether a step counts: one without momentum leaves b as it is and does not count."""
        return bool(options["momentum"])

    def loading(self, state_dict: StateDict) -> Callable[[], None]:
        """The function that loads ``state_dict``. Without momentum, a buffer of zeros means that
        momentum has not started yet, whatever step is saved beside it; that step becomes 0.
        """
        load = super().loading(state_dict)

        def load_and_reset_unused() -> None:
            load()
            for slab in self._slabs:
                if not self.counts(slab.options()):
                    buffers = slab.views_of_state["momentum_buffer"]
                    slab.steps = [
                        step if step and b.any() else 0
                        for step, b in zip(slab.steps, buffers, strict=True)
                    ]

        return load_and_reset_unused


# ── The kernel: the same rule in place, on one block of weights that fits the cache. g is only read


@SGD.kernel
def _(xp, p, g, b, step, lr, momentum, dampening, weight_decay, nesterov):
    scratch = xp.empty_like(p)
    if weight_decay:
        xp.multiply(p, weight_decay, out=scratch)
        g = xp.add(g, scratch, out=scratch)
    if momentum:
        b *= momentum
        b += g if step == 1 or not dampening else xp.multiply(g, 1 - dampening, out=scratch)
    if not momentum or nesterov:
        p -= xp.multiply(g, lr, out=scratch)
    if momentum:
        p -= xp.multiply(b, lr * momentum if nesterov else lr, out=scratch)
