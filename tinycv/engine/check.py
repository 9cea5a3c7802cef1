"""The certificate: every derivative against finite differences, to second order.

    python -m tinycv.engine.check                 every op and pair; exits with 1 where one fails
    python -m tinycv.engine.check tanh softmax --device cpu

Along a direction v, for the number L(x, u) = Σ u · f(x) with random weights u:

    order 1    v · dL/dx                     against   (L(x + hv) - L(x - hv)) / 2h, refined to h⁴
    order 2    w · d(v · dL/dx)/d(x, u)      against   the same difference of v · dL/dx

u is differentiated in order 2 because every pull is a function of it: so a linear f, with no second
derivative in x, has something to prove too.  Nothing but f is asked of the engine: sums and weights
are NumPy's.

Griewank & Walther 2008, section 2.1, on differences.  What is tried for each op:
certificate/cases.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinycv.engine.backward import grad
from tinycv.engine.tensor import Tensor

# its fourth power is as small as what rounding leaves, eps / STEP
STEP = 1e-3
# of a sum of some terms, each the result of some operations
ROUNDING = 16 * np.finfo(np.float64).eps
# two ways to compute one thing differ by their rounding alone
SAME = {"d": 1e-12, "f": 1e-5}


class CertificateError(AssertionError):
    """A derivative is not what finite differences say, or two that should be equal are not."""


def certify(
    function: Callable,
    *inputs: Any,
    order: int = 2,
    rtol: Sequence[float] = (1e-6, 1e-5),
    seed: int = 0,
    directions: int = 1,
    name: str | None = None,
    device: str = "cpu",
) -> tuple[float, ...]:
    """The worst relative error of the function's derivatives, for each order; CertificateError
    where one is too large.

    inputs: arrays (floats are differentiated in float64, others passed on as Tensors) and anything
    else.
    directions: how many random ones, in each input and (at order 2) in each output's weights.
    A function made of several results (a tuple) is certified in all of them.
    """
    trial, rng = Trial(function, inputs, device, name), np.random.default_rng(seed)
    worst = [0.0] * order
    for _ in range(directions):
        us = [direction(rng, y) for y in trial.results(trial.xs)]
        vs = [direction(rng, x) for x in trial.xs]
        ws = [direction(rng, z) for z in (*trial.xs, *us)]
        worst[0] = max(worst[0], trial.first(us, vs, rtol[0]))
        if order == 2:
            worst[1] = max(worst[1], trial.second(us, vs, ws, rtol[1]))
    return tuple(worst)


def compare(
    pair: Any, *inputs: Any, order: int = 2, seed: int = 0, device: str = "cpu", **options: Any
) -> float:
    """Kernel against definition, each also against finite differences. Returns their worst relative
    difference."""
    kernel, definition = partial(pair, **options), partial(pair.definition, **options)
    certify(kernel, *inputs, order=order, seed=seed, device=device, name=pair.name)
    certify(
        definition, *inputs, order=order, seed=seed, device=device, name=f"{pair.name}, definition"
    )
    return agree(kernel, definition, *inputs, seed=seed, device=device, name=pair.name)


def agree(
    kernel: Callable,
    definition: Callable,
    *inputs: Any,
    rtol: float | None = None,
    seed: int = 0,
    name: str | None = None,
    device: str = "cpu",
) -> float:
    """Values and first gradients of two functions, in the inputs' own dtype. Returns their worst
    relative difference.

    A gradient may be exactly 0 in one and rounding in the other. It is the sum of terms as large as
    the result over the input's range, |u · y| / max(1, |x|), so differences below rtol times that
    are rounding too.
    """
    ours, read = (Trial(f, inputs, device, name, dtype=None) for f in (kernel, definition))
    ys, expected = ours.results(ours.xs), read.results(read.xs)
    rng = np.random.default_rng(seed)
    us = [direction(rng, y).astype(y.dtype) for y in expected]
    slopes = list(zip(ours.slopes(ours.xs, us), read.slopes(read.xs, us), strict=True))
    worst = 0.0
    for i, (y, e) in enumerate(zip(ys, expected, strict=True)):
        worst = max(worst, ours.compared(f"result {i}", y, e, 0.0, rtol))
    largest = max((float(np.abs(y).max()) for y in expected if y.size), default=0.0)
    for i, (g, e) in enumerate(slopes):
        terms = largest / max(1.0, float(np.abs(ours.xs[i]).max(initial=0.0)))
        worst = max(worst, ours.compared(f"gradient of input {i}", g, e, terms, rtol))
    return worst


def direction(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    """Every entry takes part, no two alike, and none goes further than 1: so a step keeps its
    distance from corners."""
    return np.asarray(rng.uniform(0.5, 1.0, like.shape) * rng.choice([-1.0, 1.0], like.shape))


class Trial:
    """A function, the point ``xs`` where it is tried (its float inputs), and its other inputs."""

    def __init__(
        self,
        function: Callable,
        inputs: Sequence[Any],
        device: str,
        name: str | None,
        dtype: Any = np.float64,
    ):
        inputs = [np.asarray(x) if isinstance(x, (Tensor, np.generic)) else x for x in inputs]
        self.function, self.device = function, device
        self.floats = [isinstance(x, np.ndarray) and x.dtype.kind == "f" for x in inputs]
        split = list(zip(inputs, self.floats, strict=True))
        self.xs = [x.astype(dtype or x.dtype, copy=False) for x, yes in split if yes]
        self.rest = [
            Tensor(x, device=device) if isinstance(x, np.ndarray) else x
            for x, yes in split
            if not yes
        ]
        shapes = ", ".join(
            f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else repr(x) for x in inputs
        )
        self.name = f"{name or getattr(function, '__name__', 'function')}({shapes})"

    def run(self, xs: Sequence[np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
        """The leaves at xs, and the results."""
        leaves = [Tensor(x, device=self.device, requires_grad=True) for x in xs]
        floats, rest = iter(leaves), iter(self.rest)
        y = self.function(*(next(floats if f else rest) for f in self.floats))
        return leaves, list(y) if isinstance(y, (tuple, list)) else [y]

    def results(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [y.numpy() for y in self.run(xs)[1]]

    def slopes(self, xs: Sequence[np.ndarray], us: Sequence[np.ndarray]) -> list[np.ndarray]:
        """dL/dx for each x; 0 where no result depends on it."""
        leaves, ys = self.run(xs)
        used = [(y, u) for y, u in zip(ys, us, strict=True) if y.requires_grad]
        found = grad(
            [y for y, _ in used],
            leaves,
            [Tensor(u, device=y.device) for y, u in used],
            allow_unused=True,
        )
        slopes = [
            np.zeros_like(x) if g is None else g.numpy() for g, x in zip(found, xs, strict=True)
        ]
        for i, (g, x) in enumerate(zip(slopes, xs, strict=True)):
            if g.shape != x.shape or g.dtype != x.dtype:
                raise CertificateError(
                    f"{self.name}: the gradient of input {i} is {g.dtype} {g.shape}"
                )
        return slopes

    def bends(
        self, xs: Sequence[np.ndarray], us: Sequence[np.ndarray], vs: Sequence[np.ndarray]
    ) -> tuple:
        """(dL/dx, d(v · dL/dx)/d(x, u)), by a recorded walk back."""
        leaves, ys = self.run(xs)
        weights = [
            Tensor(u, device=y.device, requires_grad=True) for y, u in zip(ys, us, strict=True)
        ]
        used = [(y, u) for y, u in zip(ys, weights, strict=True) if y.requires_grad]
        traced = grad(
            [y for y, _ in used], leaves, [u for _, u in used], create_graph=True, allow_unused=True
        )
        kept = [
            (g, Tensor(v, device=self.device))
            for g, v in zip(traced, vs, strict=True)
            if g is not None and g.requires_grad
        ]
        found = grad(
            [g for g, _ in kept], [*leaves, *weights], [v for _, v in kept], allow_unused=True
        )
        return tuple(
            [np.zeros_like(z) if g is None else g.numpy() for g, z in zip(gs, zs, strict=True)]
            for gs, zs in ((traced, xs), (found, (*xs, *us)))
        )

    def first(self, us: list, vs: list, rtol: float) -> float:
        """Order 1 along each input's own direction. Returns the worst relative error."""
        worst = 0.0
        for i, (g, v) in enumerate(zip(self.slopes(self.xs, us), vs, strict=True)):
            about, noise = difference(lambda xs: total(us, self.results(xs)), self.xs, i, v)
            worst = max(
                worst,
                self.judge(
                    f"order 1, along input {i}",
                    np.sum(g * v),
                    about,
                    float(np.linalg.norm(g * v)),
                    rtol,
                    noise,
                ),
            )
        return worst

    def second(self, us: list, vs: list, ws: list, rtol: float) -> float:
        """Order 2 along each input's, and each result's weights', own direction. Returns the worst
        relative error."""
        n, worst = len(self.xs), 0.0
        traced, bends = self.bends(self.xs, us, vs)
        plain, magnitude = total(vs, self.slopes(self.xs, us))
        recorded, _ = total(vs, traced)
        self.judge(
            "recorded against plain",
            recorded,
            plain,
            magnitude,
            SAME["d"],
            ROUNDING * total(us, us)[1],
        )
        for i, (h, w) in enumerate(zip(bends, ws, strict=True)):
            about, noise = difference(
                lambda zs: total(vs, self.slopes(zs[:n], zs[n:])), [*self.xs, *us], i, w
            )
            where = f"input {i}" if i < n else f"the weights of result {i - n}"
            worst = max(
                worst,
                self.judge(
                    f"order 2, along {where}",
                    np.sum(h * w),
                    about,
                    float(np.linalg.norm(h * w)),
                    rtol,
                    noise,
                ),
            )
        return worst

    def compared(
        self, what: str, y: np.ndarray, e: np.ndarray, terms: float, rtol: float | None
    ) -> float:
        """``judge`` of y, which by definition is e, a sum of ``terms``. CertificateError where
        shape or dtype differ."""
        if y.shape != e.shape or y.dtype != e.dtype:
            raise CertificateError(
                f"{self.name}, {what}: {y.dtype} {y.shape}, but by definition {e.dtype} {e.shape}"
            )
        largest = max(np.abs(e).max(initial=0.0), terms)
        what = f"{what}, by definition"
        return self.judge(what, y, e, largest, rtol or SAME[e.dtype.char], 0.0)

    def judge(
        self, what: str, exact: Any, about: Any, terms: float, rtol: float, noise: float
    ) -> float:
        """|exact - about| relative to the terms that were added to make it.

        Not relative to their sum, which may be 0 by cancellation; and a floor is added, since terms
        may themselves be exactly 0: ``noise``, what rounding does to the difference, below which it
        cannot tell 0 from something.
        """
        scale = terms + noise / rtol
        error = np.abs(exact - about)
        worst = float(np.max(error, initial=0.0)) if scale else float(np.any(error))
        relative = worst / scale if scale else worst
        if not relative <= rtol:
            at = np.unravel_index(np.argmax(error), error.shape) if np.ndim(error) else ()
            raise CertificateError(
                f"{self.name}: {what}: {np.asarray(exact)[at]:.12g} is not "
                f"{np.asarray(about)[at]:.12g}; relative error {relative:.1e}, allowed {rtol:.0e}"
            )
        return relative


def total(weights: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> tuple[float, float]:
    """Σ weights · ys, and the magnitude of its terms, which says how exactly it can be known."""
    terms = [u * y for u, y in zip(weights, ys, strict=True)]
    return sum(float(np.sum(t)) for t in terms), sum(float(np.sum(np.abs(t))) for t in terms)


def difference(
    function: Callable, zs: list[np.ndarray], i: int, along: np.ndarray
) -> tuple[float, float]:
    """(d function / d zs[i] along a direction, what rounding may have done to it).

    Four points cancel the error up to the fourth power of the step. The step is in proportion to
    the input's numbers where they are small, and never above STEP: functions here bend on a scale
    of 1.
    """
    size = float(np.sqrt(np.mean(zs[i] ** 2))) if zs[i].size else 0.0
    step = STEP * (min(size, 1.0) or 1.0)
    moved = (np.asarray(zs[i] + k * step * along) for k in (1, -1, 2, -2))
    (a, m), (b, _), (c, _), (d, _) = (function([*zs[:i], z, *zs[i + 1 :]]) for z in moved)
    return (8 * (a - b) - (c - d)) / (12 * step), ROUNDING * m / step


# the table of all: a floor above, and loaded only when it is asked for
if __name__ == "__main__":
    from tinycv.certificate.table import main

    sys.exit(main())
