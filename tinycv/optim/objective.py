"""Objective: the loss as a function of one vector of all weights, for optimisers such as L-BFGS.

    x (n,)  ->  f(x) and its gradient g (n,)

L-BFGS is written for one vector x. Objective copies x into the parameters, calls the user's
closure, and collects the gradients into one vector again.
Used by: lbfgs.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinycv.engine.arguments import shown
from tinycv.engine.backend import Array
from tinycv.engine.flat import Flat, alike
from tinycv.engine.tensor import Tensor
from tinycv.optim.inputs import refuse_unfit
from tinycv.optim.line_search import Point
from tinycv.optim.optimizer import Optimizer, loss_of


class Objective:
    """The loss as a function of one vector, all parameters side by side.

    x (n,): the weights of the last iteration that was completed.   evaluations: calls so far.
    """

    def __init__(self, optimizer: Optimizer, closure: Callable[[], Tensor]):
        self.optimizer, self.closure = optimizer, closure
        self.flat = one_vector(optimizer.parameters())
        self.x = self.weights()
        self.at = self.x  # the weights that the parameters have now
        self.evaluations = 0

    def weights(self) -> Array:
        """A copy of all parameters, (n,)."""
        x = self.flat.zeros()
        self.flat.gather([p._data for p in self.flat.tensors], x)
        return x

    def put(self, x: Array) -> None:
        """Set all parameters to x."""
        self.at = x
        for p, part in zip(self.flat.tensors, self.flat.views(x), strict=True):
            p._data[...] = part
            p.mark_changed()

    def move(self, d: Array, t: float) -> float:
        """Complete an iteration: move x by t d. Returns the largest change of a weight."""
        before, self.x = self.x, self.x + t * d
        self.put(self.x)
        return largest(self.x - before)

    def along(self, d: Array, t: float) -> Point:
        """φ(t) = f(x + t d), with its slope and the gradient. A trial may overflow."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self.put(self.x + t * d)
            loss, g = self.evaluate()
            return Point(t, float(loss), float(g @ d), g)

    def evaluate(self) -> tuple[Tensor, Array]:
        """The loss that the closure returns, and the gradient (n,), at the current weights."""
        self.optimizer.zero_grad()  # or a closure that forgets it would add gradients up
        loss = loss_of(self.closure, "LBFGS")
        self.evaluations += 1
        if not isinstance(loss, Tensor) or loss.size != 1 or loss.dtype.kind != "f":
            raise TypeError(
                f"LBFGS.step: closure returned {shown(loss)}; it must return the loss, a Tensor of "
                "one float"
            )
        refuse_unfit(self.optimizer)
        if all(p.grad is None for p in self.flat.tensors):
            raise RuntimeError(
                "LBFGS.step: closure computed no gradient of any parameter; it must compute the "
                "loss from the parameters and call loss.backward()"
            )
        now = self.weights()
        if not bool(((now == self.at) | (now != now)).all()):  # NaN is not equal to itself
            raise RuntimeError(
                "LBFGS.step: closure changed the parameters; L-BFGS chooses the weights at which "
                "it evaluates the loss, so change them (clip them, for example) between two steps"
            )
        g = self.flat.zeros()
        for p, part in zip(self.flat.tensors, self.flat.views(g), strict=True):
            if p.grad is not None:
                part[...] = p.grad._data
        return loss, g


def one_vector(parameters: list[Tensor]) -> Flat:
    """The layout of all parameters in one vector. ValueError if they have several dtypes or devices
    or are float16, in which a difference of two gradients has hardly a digit that is right.
    """
    kinds = [f"{group[0].dtype} on {group[0].device}" for group in alike(parameters)]
    if len(kinds) > 1 or parameters[0].dtype == np.float16:
        raise ValueError(
            f"LBFGS: the parameters are {' and '.join(kinds)}; they must all be float32 or all be "
            "float64, and on one device"
        )
    return Flat(parameters)


def check_finite(loss: float, g: Array, where: str) -> None:
    """FloatingPointError if the loss or the gradient is NaN or infinite."""
    if not (math.isfinite(loss) and math.isfinite(largest(g))):
        raise FloatingPointError(
            f"LBFGS.step: {where}, the loss is {loss:g} and the largest gradient {largest(g):g}; "
            "the weights are those of the last iteration that was completed, if there was one"
        )


def largest(a: Array) -> float:
    """The largest absolute value; NaN if there is one. Waits for a GPU."""
    return float(abs(a).max())
