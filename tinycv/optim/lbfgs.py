"""L-BFGS (limited-memory BFGS): a quasi-Newton method, for a loss without noise.

    x <- x - t H g                       a step: t its length, g the gradient, and H a matrix that
                                         approximates the inverse of the Hessian
    s = x_new - x,  y = g_new - g        a secant pair: a step, and how it changed the gradient
    H y = s                              the secant equation: H must explain the newest pair
    H <- (I - ρ s yᵀ) H (I - ρ y sᵀ) + ρ s sᵀ,  ρ = 1 / yᵀs    the BFGS update         eq. 6.17
    H0 = γ I,  γ = sᵀy / yᵀy             H before the first update (newest s and y)    eq. 7.20

Nocedal & Wright 2006, "Numerical Optimization", chapters 6 and 7; Liu & Nocedal 1989, "On the
limited memory BFGS method for large scale optimization".

Gradient descent has one step length for all directions, and the direction of largest curvature
limits it. Newton's method multiplies the gradient by the inverse of the Hessian, the matrix of all
second derivatives, so that each direction gets the step length that its curvature allows. For n
weights that matrix has n² numbers. BFGS never computes it. If the loss is a quadratic function with
Hessian A, then y = A s: each step shows how the Hessian acts on one direction, at no extra cost.
The update changes H as little as possible so that it explains the new pair.

L-BFGS does not store H either. It keeps the last m pairs, and computes H g from them in about 4mn
multiplications (``two_loop``). γ estimates the scale of the inverse Hessian along the newest
step; because of it, t = 1 is usually a good step length.

If yᵀs > 0 for every pair, H is positive definite, and -H g points downhill. The strong Wolfe
conditions (line_search.py) guarantee yᵀs > 0. Without a line search, a step through a region where
the loss curves downwards gives a pair with yᵀs <= 0, and that pair is left out.

L-BFGS compares gradients of different steps, so all of them must belong to the same loss: the whole
data set, or an image whose pixels are the parameters. With a new mini-batch in every step, y would
mostly measure the difference between the batches; Adam (adam.py) is made for that.
Requires: line_search.py, objective.py (all weights as one vector), optimizer.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinycv.engine import capturing
from tinycv.engine.arguments import is_array
from tinycv.engine.backend import Array, array_module, device_of, to_device
from tinycv.engine.flat import Flat
from tinycv.engine.tensor import Tensor
from tinycv.optim.inputs import Group, Options, Parameters, StateDict
from tinycv.optim.line_search import Point, strong_wolfe
from tinycv.optim.objective import Objective, check_finite, largest, one_vector
from tinycv.optim.optimizer import Optimizer
from tinycv.optim.state import fitting_state


class Pair(NamedTuple):
    """A secant pair, with the two numbers that the recursion needs; ρ and γ have shape ()."""

    s: Array  # (n,)   a step
    y: Array  # (n,)   the change of the gradient over that step
    rho: Array  # 1 / yᵀs
    gamma: Array  # sᵀy / yᵀy


def secant_pair(s: Array, y: Array) -> Pair | None:
    """The Pair of s and y; None unless yᵀs is positive, and larger than its rounding error, because
    otherwise H would not be positive definite.
    """
    xp = array_module(s)
    ys, yy = y @ s, y @ y
    rounding = float(np.finfo(s.dtype).eps) * xp.sqrt(yy * (s @ s))
    if not bool(ys > rounding):
        return None
    return Pair(s, y, 1 / ys, ys / yy)


def two_loop(g: Array, pairs: list[Pair]) -> Array:
    """H g, without H: algorithm 7.4. g (n,); pairs: the oldest first. Returns (n,).

    The BFGS update is H <- Vᵀ H V + ρ s sᵀ with V = I - ρ y sᵀ. The first loop multiplies g by V of
    the newest pair, then by V of the pair before it, and so on to the oldest. Then H0 multiplies by
    γ. The second loop goes from the oldest pair to the newest: it multiplies by Vᵀ, and adds ρ s sᵀ
    times the vector that V of this pair received in the first loop (alpha is ρ sᵀ times it).
    """
    if not pairs:
        return g
    q, alphas = g, []
    for pair in reversed(pairs):
        alpha = pair.rho * (pair.s @ q)
        q = q - alpha * pair.y
        alphas.append(alpha)
    r = pairs[-1].gamma * q
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        beta = pair.rho * (pair.y @ r)
        r = r + (alpha - beta) * pair.s
    return r


class LBFGS(Optimizer):
    """L-BFGS, algorithm 7.5 of Nocedal & Wright. Each ``step(closure)`` makes up to ``max_iter``
    iterations, and calls the closure about once in each.

    lr: the step length t or, with a line search, the first t that is tried. While there is no pair,
    it is multiplied by min(1, 1 / sum |g|), because then H is the identity, without a scale.
    max_iter, max_eval: the most iterations and evaluations of one ``step``; max_eval is by default
    5/4 of max_iter. A line search is not interrupted, so it may go beyond max_eval.
    tolerance_grad: a step ends where no |g| is larger.   tolerance_change: it ends where no weight
    changed by more, or the loss changed by less, or the slope along -H g is less steep.
    history_size: how many pairs are kept. They need 2 * history_size * n numbers.
    line_search_fn: "strong_wolfe" (line_search.py), or None: every step has length lr. With None
    nothing makes sure that the loss falls, so "strong_wolfe" is the better choice for most losses.

    All parameters form one vector, so they must have one dtype and device, and be in one group. A
    parameter without a gradient counts as one whose gradient is 0, as in PyTorch. On a GPU the
    vectors stay on the device, and the host waits a few times per iteration: it has to read the
    loss, the slope and yᵀs before it knows what to do next.

    differs: a pair is kept if yᵀs > eps |y| |s|, with the eps of the dtype. PyTorch requires
    yᵀs > 1e-10, which the pairs of a small loss do not reach. s is the change of the weights since
    the last gradient, so it includes what was done to them between two steps. lr must be above 0. A
    loss that is NaN or infinite ends the step with an error, where PyTorch continues with NaN; in a
    line search it counts as a t that is too long. If a line search finds no lower loss, all pairs
    are forgotten, so that the next ``step`` begins with the gradient. float16 is refused.
    """

    needs_closure = True

    def __init__(
        self,
        params: Iterable[Parameters],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        self.pairs: list[Pair] = []  # the oldest first
        # The weights and the gradient of the last iteration, which form a pair with the next ones
        self.last: tuple[Array, Array] | None = None
        self.steps = 0  # calls of ``step``
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )
        one_vector(self.parameters())

    def add_param_group(self, param_group: Group) -> None:
        """The constructor calls this once. ValueError for a second group."""
        if self.param_groups:
            raise ValueError(
                "LBFGS: all parameters form one vector with one set of options, so it takes one "
                "group of parameters"
            )
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:
        """Minimise the loss, by up to max_iter iterations.

        closure: clears the gradients, computes the loss, calls backward, and returns the loss. It
        is called many times, with recording on even inside ``no_grad``; it must compute the same
        function each time, and leave the parameters as they are. Returns the loss of the first
        call. Without a line search, the last iteration moves the weights and does not evaluate the
        loss again; the next ``step`` does.
        FloatingPointError if the loss or a gradient is not finite. After any error, also one that
        the closure raises, the weights are those of the last iteration that was completed. The
        gradients are those of the last call.
        """
        if closure is None:
            raise TypeError(
                "LBFGS.step: closure is missing; it must be a function that clears the gradients, "
                "computes the loss, calls backward and returns the loss, because L-BFGS computes "
                "the loss several times per step; a training loop that calls step() cannot use it"
            )
        capturing.refuse("LBFGS.step, which reads the loss,", "record the forward pass alone")
        options = self._slabs[0].options()
        objective = Objective(self, closure)
        self._follow(objective.flat)
        try:
            first, g = objective.evaluate()
            check_finite(float(first), g, "at its first evaluation")
            self._iterate(objective, float(first), g, options)
        except BaseException:  # also Ctrl-C
            objective.put(objective.x)
            raise
        return first

    def _iterate(self, objective: Objective, loss: float, g: Array, options: Options) -> None:
        """Algorithm 7.5. loss, g: the loss and the gradient at the weights ``objective.x``."""
        self.steps += 1
        lr, tolerance = options["lr"], options["tolerance_change"]
        for iteration in range(1, options["max_iter"] + 1):
            if largest(g) <= options["tolerance_grad"]:
                return
            self._complete_pair(objective.x, g, options["history_size"])
            d = -two_loop(g, self.pairs)
            slope = float(g @ d)
            if not slope < 0:  # H is spoilt by rounding: the next step begins without pairs
                self.pairs = []
            if not slope < -tolerance:
                return
            t = lr if self.pairs else lr * min(1.0, 1 / float(abs(g).sum()))
            phi = partial(objective.along, d)
            if options["line_search_fn"] == "strong_wolfe":
                start = Point(0.0, loss, slope, g)
                new = strong_wolfe(phi, start, t, smallest=tolerance / largest(d))
            elif iteration < options["max_iter"]:
                new = phi(t)
                check_finite(new.loss, new.gradient, f"after an iteration with lr={lr}")
            else:
                new = Point(t, math.nan, math.nan)  # the next ``step`` evaluates the loss there
            if new.t == 0:  # the line search found no lower loss
                self.pairs = []
                objective.put(objective.x)
                return
            self.last = objective.x, g
            moved = objective.move(d, new.t)
            if (
                moved <= tolerance
                or abs(new.loss - loss) < tolerance
                or objective.evaluations >= options["max_eval"]
            ):
                return
            loss, g = new.loss, new.gradient

    def _complete_pair(self, x: Array, g: Array, history_size: int) -> None:
        """Make a pair of the last weights and gradient and the current ones, x and g."""
        if self.last is not None:
            last_x, last_g = self.last
            pair = secant_pair(x - last_x, g - last_g)
            self.last = None
            if pair is not None:
                self.pairs = [*self.pairs, pair][-history_size:]

    # ── Saving and loading ──

    def _follow(self, flat: Flat) -> None:
        """Bring the history to the device and dtype of the parameters, if they have been moved."""

        def moved(a: Array) -> Array:
            return to_device(a, flat.device).astype(flat.dtype, copy=False)

        vectors = [pair.s for pair in self.pairs] + [*(self.last or ())]
        if any(a.dtype != flat.dtype or device_of(a) != flat.device for a in vectors):
            pairs = [secant_pair(moved(pair.s), moved(pair.y)) for pair in self.pairs]
            self.pairs = [pair for pair in pairs if pair is not None]
            self.last = self.last and (moved(self.last[0]), moved(self.last[1]))

    def saved_shapes(self, p: Tensor, entry: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """The arrays that are saved for a parameter: its part of all s and all y, and of the last
        weights and gradient, if there are any (there are none after an iteration without a move).
        """
        s: Any = entry.get("s")
        count = s.shape[0] if is_array(s) and s.ndim else 0
        shapes = {"s": (count, *p.shape), "y": (count, *p.shape)}
        if "last_x" in entry or "last_g" in entry:
            shapes |= {"last_x": p.shape, "last_g": p.shape}
        return shapes

    def state_dict(self) -> StateDict:
        """{"state": {name: {"step": int, "s": (k, *shape), "y": (k, *shape), "last_x": shape,
        "last_g": shape}}, "param_groups": [options, "params": names]}, for k pairs."""
        saved = super().state_dict()
        if not self.steps:
            return saved
        flat = one_vector(self.parameters())
        self._follow(flat)
        vectors = {"s": [pair.s for pair in self.pairs], "y": [pair.y for pair in self.pairs]}
        for i, p in enumerate(flat.tensors):
            span = slice(flat.bounds[i], flat.bounds[i + 1])
            entry: StateDict = {"step": self.steps}
            for key, rows in vectors.items():
                entry[key] = flat.xp.zeros((len(rows), *p.shape), flat.dtype)
                for part, row in zip(entry[key], rows, strict=True):
                    part[...] = row[span].reshape(p.shape)
            if self.last is not None:
                entry["last_x"] = self.last[0][span].reshape(p.shape)
                entry["last_g"] = self.last[1][span].reshape(p.shape)
            saved["state"][self.names[p]] = entry
        return saved

    def loading(self, state_dict: StateDict) -> Callable[[], None]:
        """Check ``state_dict``, and return the function that loads it and can no longer fail. The
        errors are those of load_state_dict.
        """
        groups, kept = fitting_state(self, state_dict)
        history = self._history(kept)

        def load() -> None:
            self.param_groups[0].update(groups[0])
            self.pairs, self.last, self.steps = history

        return load

    def _history(self, kept: dict[str, StateDict]) -> tuple[list[Pair], Any, int]:
        """pairs, last and steps of a saved state. ValueError if its entries disagree."""
        entries = [kept.get(name, {"step": 0}) for name in self.names.values()]
        kinds = {(entry["step"], len(entry.get("s", ())), "last_x" in entry) for entry in entries}
        if len(kinds) > 1:
            raise ValueError(
                "load_state_dict: LBFGS was left unchanged; its parameters have different numbers "
                "of steps or pairs"
            )
        ((steps, count, has_last),) = kinds
        flat = one_vector(self.parameters())

        def vector(key: str, i: Any = ...) -> Array:
            parts = [to_device(entry[key], flat.device)[i].reshape(-1) for entry in entries]
            return flat.xp.concatenate(parts)

        pairs = []
        for i in range(count):
            pair = secant_pair(vector("s", i), vector("y", i))
            if pair is None:
                raise ValueError(
                    f"load_state_dict: LBFGS was left unchanged; pair {i} has no positive yᵀs"
                )
            pairs.append(pair)
        last = (vector("last_x"), vector("last_g")) if has_last else None
        return pairs, last, steps

    def _put(self, kept: dict[str, StateDict]) -> None:
        self.pairs, self.last, self.steps = self._history(kept)

    def __getstate__(self) -> StateDict:
        """For pickle and copy: the history is in "state" already."""
        return {**super().__getstate__(), "pairs": [], "last": None}
