"""Gradient check: every derivative against finite differences, to second order.

    python -m tinycv.engine.check                 every op and pair; exits with 1 if one fails
    python -m tinycv.engine.check tanh softmax --device cpu

For a function f and random weights u, let L(x, u) = Σ u · f(x), a single number.  Its derivatives
along random directions v and w are compared:

    order 1    v · dL/dx                     with   (L(x + hv) - L(x - hv)) / 2h, refined to h⁴
    order 2    w · d(v · dL/dx)/d(x, u)      with   the same difference of v · dL/dx

Order 2 also differentiates with respect to u, because every pull is a function of it.  So there is
something to check even for a linear f, whose second derivative in x is 0.  Only f is computed by
the engine; sums and weights are computed by NumPy.

Griewank & Walther 2008, section 2.1, on finite differences.  The inputs that are tried for each op
are in certificate/cases.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinycv.engine.backward import grad
from tinycv.engine.tensor import Tensor

# The step h of the differences. Their error is about h⁴ from the formula and eps / h from rounding;
# for this h the two are about equally small.
STEP = 1e-3
# The relative rounding error of a sum of some terms, each the result of a few operations.
ROUNDING = 16 * np.finfo(np.float64).eps
# The relative tolerance for two ways of computing the same number, by dtype (float64, float32).
SAME = {"d": 1e-12, "f": 1e-5}


class CertificateError(AssertionError):
    """A derivative differs from finite differences, or from another that it should equal."""


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
    """Check the derivatives of a function. Returns the worst relative error for each order.
    CertificateError if one is larger than ``rtol``.

    inputs: arrays, and any other arguments. Float arrays are differentiated, in float64; other
    arrays are passed as Tensors.
    directions: the number of random directions for each input and (in order 2) for the weights of
    each result.
    If the function returns a tuple, all its results are checked.
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
    """Check a pair's kernel and definition against finite differences, and against each other.
    Returns the worst relative difference between the two."""
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
    """Compare the results and first gradients of two functions, in the dtype of the inputs. Returns
    the worst relative difference; CertificateError if one is larger than ``rtol``.

    A gradient may be exactly 0 in one function and a rounding error in the other. It is a sum of
    terms of about the size |u · y| / max(1, |x|), so a difference below rtol times that size is
    taken for rounding.
    """
    tested, reference = (Trial(f, inputs, device, name, dtype=None) for f in (kernel, definition))
    ys, expected = tested.results(tested.xs), reference.results(reference.xs)
    rng = np.random.default_rng(seed)
    us = [direction(rng, y).astype(y.dtype) for y in expected]
    gradients = tested.gradients(tested.xs, us)
    expected_gradients = reference.gradients(reference.xs, us)
    worst = 0.0
    for i, (y, e) in enumerate(zip(ys, expected, strict=True)):
        worst = max(worst, tested.compared(f"result {i}", y, e, 0.0, rtol))
    largest = max((float(np.abs(y).max()) for y in expected if y.size), default=0.0)
    for i, (g, e) in enumerate(zip(gradients, expected_gradients, strict=True)):
        terms = largest / max(1.0, float(np.abs(tested.xs[i]).max(initial=0.0)))
        worst = max(worst, tested.compared(f"gradient of input {i}", g, e, terms, rtol))
    return worst


def direction(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    """A random direction in the shape of ``like``: each entry is between 0.5 and 1 in size, with a
    random sign. So every entry takes part, and none moves further than the step, which keeps the
    step away from corners of f."""
    return np.asarray(rng.uniform(0.5, 1.0, like.shape) * rng.choice([-1.0, 1.0], like.shape))


class Trial:
    """A function, its float inputs ``xs``, which are the point where it is differentiated, and the
    rest of its inputs.

    In the methods, us are the weights of the results, and vs and ws are directions (see the top of
    this file).
    """

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
        pairs = list(zip(inputs, self.floats, strict=True))
        self.xs = [x.astype(dtype or x.dtype, copy=False) for x, is_float in pairs if is_float]
        self.rest = [
            Tensor(x, device=device) if isinstance(x, np.ndarray) else x
            for x, is_float in pairs
            if not is_float
        ]
        shapes = ", ".join(
            f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else repr(x) for x in inputs
        )
        self.name = f"{name or getattr(function, '__name__', 'function')}({shapes})"

    def run(self, xs: Sequence[np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
        """(the float inputs as leaves, the results), at the point xs."""
        leaves = [Tensor(x, device=self.device, requires_grad=True) for x in xs]
        floats, rest = iter(leaves), iter(self.rest)
        y = self.function(*(next(floats if is_float else rest) for is_float in self.floats))
        return leaves, list(y) if isinstance(y, (tuple, list)) else [y]

    def results(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """f(xs) as arrays."""
        return [y.numpy() for y in self.run(xs)[1]]

    def gradients(self, xs: Sequence[np.ndarray], us: Sequence[np.ndarray]) -> list[np.ndarray]:
        """dL/dx for each x; 0 if no result depends on it."""
        leaves, ys = self.run(xs)
        used = [(y, u) for y, u in zip(ys, us, strict=True) if y.requires_grad]
        slopes = grad(
            [y for y, _ in used],
            leaves,
            [Tensor(u, device=y.device) for y, u in used],
            allow_unused=True,
        )
        gradients = zeros_for_none(slopes, xs)
        for i, (g, x) in enumerate(zip(gradients, xs, strict=True)):
            if g.shape != x.shape or g.dtype != x.dtype:
                raise CertificateError(
                    f"{self.name}: the gradient of input {i} is {g.dtype} {g.shape}"
                )
        return gradients

    def second_derivatives(
        self, xs: Sequence[np.ndarray], us: Sequence[np.ndarray], vs: Sequence[np.ndarray]
    ) -> tuple:
        """(dL/dx, d(v · dL/dx)/d(x, u)), by differentiating a recorded backward pass."""
        leaves, ys = self.run(xs)
        weights = [
            Tensor(u, device=y.device, requires_grad=True) for y, u in zip(ys, us, strict=True)
        ]
        used = [(y, u) for y, u in zip(ys, weights, strict=True) if y.requires_grad]
        traced = grad(
            [y for y, _ in used], leaves, [u for _, u in used], create_graph=True, allow_unused=True
        )
        varying = [
            (g, Tensor(v, device=self.device))
            for g, v in zip(traced, vs, strict=True)
            if g is not None and g.requires_grad
        ]
        second = grad(
            [g for g, _ in varying], [*leaves, *weights], [v for _, v in varying], allow_unused=True
        )
        return zeros_for_none(traced, xs), zeros_for_none(second, (*xs, *us))

    def first(self, us: list, vs: list, rtol: float) -> float:
        """Check order 1 along one direction in each input. Returns the worst relative error."""
        worst = 0.0
        for i, (g, v) in enumerate(zip(self.gradients(self.xs, us), vs, strict=True)):
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
        """Check order 2 along one direction in each input, and in the weights of each result.
        Returns the worst relative error."""
        n, worst = len(self.xs), 0.0
        traced, second = self.second_derivatives(self.xs, us, vs)
        plain, magnitude = total(vs, self.gradients(self.xs, us))
        recorded, _ = total(vs, traced)
        self.judge(
            "recorded against plain",
            recorded,
            plain,
            magnitude,
            SAME["d"],
            ROUNDING * total(us, us)[1],
        )
        for i, (h, w) in enumerate(zip(second, ws, strict=True)):
            about, noise = difference(
                lambda zs: total(vs, self.gradients(zs[:n], zs[n:])), [*self.xs, *us], i, w
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
        """Compare y with e, the result of the definition, which is a sum of terms of that size.
        CertificateError if they differ, also in shape or dtype. Returns the relative error."""
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
        """|exact - about|, relative to the size of the terms that were added to compute it.
        CertificateError if it is larger than ``rtol``.

        It is not relative to the sum, which may be 0 by cancellation. The terms may be exactly 0
        too, so the rounding error of the difference, ``noise``, is added to their size: a
        difference cannot show that a number smaller than this is not 0.
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


def zeros_for_none(
    gradients: Sequence[Tensor | None], like: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Gradients as arrays, with zeros in the shape of ``like`` for None."""
    return [
        np.zeros_like(x) if g is None else g.numpy() for g, x in zip(gradients, like, strict=True)
    ]


def total(weights: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> tuple[float, float]:
    """(Σ weights · ys, Σ |weights · ys|). The second number limits how accurate the first can
    be."""
    terms = [u * y for u, y in zip(weights, ys, strict=True)]
    return sum(float(np.sum(t)) for t in terms), sum(float(np.sum(np.abs(t))) for t in terms)


def difference(
    function: Callable, zs: list[np.ndarray], i: int, along: np.ndarray
) -> tuple[float, float]:
    """(d function / d zs[i] along a direction, its possible rounding error), by finite differences.

    With four points the error is of the fourth order in the step. For small inputs the step is
    proportional to their size; it is never larger than STEP, because the functions here are curved
    on a scale of 1.
    """
    size = float(np.sqrt(np.mean(zs[i] ** 2))) if zs[i].size else 0.0
    step = STEP * (min(size, 1.0) or 1.0)
    moved = (np.asarray(zs[i] + k * step * along) for k in (1, -1, 2, -2))
    (a, m), (b, _), (c, _), (d, _) = (function([*zs[:i], z, *zs[i + 1 :]]) for z in moved)
    return (8 * (a - b) - (c - d)) / (12 * step), ROUNDING * m / step


# certificate/ is a floor above the engine, so it is imported only if this file is run as a program.
if __name__ == "__main__":
    from tinycv.certificate.table import main

    sys.exit(main())
