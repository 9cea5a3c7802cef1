"""Score matching: learn ∇ log p from points of p alone (explicit, sliced and denoising).

The aim is a model ψ(x) of the score ∇ log p(x) with a small Fisher divergence
½ E |ψ(x) - ∇ log p(x)|², but ∇ log p is unknown.  The four objectives below need only points of p.
The first three equal the Fisher divergence up to a constant that does not depend on ψ:

    explicit    E [½ |ψ(x)|² + tr ∇ψ(x)]                             Hyvärinen 2005, eq. 4
    sliced      E [½ (v·ψ(x))² + v·∇(v·ψ(x))],   E v vᵀ = I          Song et al. 2019, eq. 7
    sliced_vr   E [½ |ψ(x)|² + v·∇(v·ψ(x))]                          ibid., eq. 8 (reduced variance)
    denoising   ½ E |ψ(x + σz) + z/σ|²,   z ~ N(0, I)                Vincent 2011, eq. 9 to 11

The explicit objective needs one backward pass per axis for the trace; the sliced ones need one
backward pass in total, along a random direction v.  Denoising needs no derivative of ψ, but it
learns something else, the score of the *noised* density p_σ: the objective equals
½ E |ψ - ∇ log p_σ|² up to such a constant.  Its terms grow as 1/σ², so for training on many noise
levels each is weighted by σ² (Song & Ermon 2019, eq. 6): the network then predicts the noise.

The constants matter when you read a loss curve, because no objective has its minimum at 0.  With
the exact score the first three are -½ E |∇ log p|², and denoising is ½ (D/σ² - E |∇ log p_σ|²).
That is half the variance of z/σ given the noised point, which no model can predict (denoising.py).
tests/diffusion/test_score.py checks all four minima on a Gaussian.

Each function returns one value per point, (B,); the mean is the objective.  A score is any function
of x, or of x and σ (B,).
Read first: engine/backward.py (grad).   Read next: langevin.py.
See at work: demos/14_score_matching.py.
Shapes: B points, D axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinycv.diffusion.schedule import Times, like
from tinycv.diffusion.tweedie import Score
from tinycv.engine.arguments import shown
from tinycv.engine.backward import grad
from tinycv.engine.create import eye, randn_like, zeros_like
from tinycv.engine.ops import expand
from tinycv.engine.tensor import Tensor, enable_grad, recording
from tinycv.nn.inputs import Examples, answering, batch, per_example, within

Field = Callable[[Tensor], Tensor]  # a vector for each point: x (B, D) -> (B, D)


def explicit(score: Field, x: Examples) -> Tensor:
    """½ |ψ|² + tr ∇ψ at each point of x (B, D): (B,). It takes D backward passes, and training
    differentiates through them."""
    psi, trace = with_divergence(answering(score, "explicit: score"), batch(x, "explicit: x", 2))
    return 0.5 * (psi * psi).sum(axis=-1) + trace


def sliced(score: Field, x: Examples, v: Examples | None = None) -> Tensor:
    """½ (v·ψ)² + v·∇(v·ψ) at each point of x (B, D): (B,). v (B, D): directions, by default drawn
    from N(0, I)."""
    v = _given_or_drawn(batch(x, "sliced: x", 2), v, "sliced: v")
    psi, slope_along_v = with_slope_along(answering(score, "sliced: score"), x, v)
    along = (psi * v).sum(axis=-1)
    return 0.5 * along * along + slope_along_v


def sliced_vr(score: Field, x: Examples, v: Examples | None = None) -> Tensor:
    """½ |ψ|² + v·∇(v·ψ) at each point of x (B, D): (B,). The first term is computed exactly, so the
    random v adds variance to the second term alone."""
    v = _given_or_drawn(batch(x, "sliced_vr: x", 2), v, "sliced_vr: v")
    psi, slope_along_v = with_slope_along(answering(score, "sliced_vr: score"), x, v)
    return 0.5 * (psi * psi).sum(axis=-1) + slope_along_v


def denoising(score: Score, x: Examples, sigma: Times, z: Examples | None = None) -> Examples:
    """½ |ψ(x + σz, σ) + z/σ|² at each point of x (B, ...): (B,). sigma: one number, or (B,). z:
    noise of the shape of x, by default drawn from N(0, I)."""
    z = _given_or_drawn(batch(x, "denoising: x"), z, "denoising: z")
    score = answering(score, "denoising: score")
    levels = like(x, per_example(sigma, x, "denoising: sigma"))  # (B,)
    if getattr(sigma, "shape", ()) == (len(x),):
        levels = sigma  # the score receives the very array or Tensor that the user passed
    # on a GPU a level that is not above 0 becomes NaN
    levels = within(levels, "denoising: sigma", above=0)
    column = levels.reshape((-1,) + (1,) * (x.ndim - 1))  # (B, 1, ...)
    # -z/σ is the gradient of log N(x + σz; x, σ² I) at the noised point
    error = score(x + column * z, levels) + z / column
    return 0.5 * (error * error).reshape((len(x), -1)).sum(axis=-1)


# ── derivatives of a vector field, for the objectives above and for likelihoods (ode.py) ─────────


def with_divergence(field: Field, x: Examples) -> tuple[Tensor, Tensor]:
    """The vectors (B, D) of the field at the points x (B, D), and its divergence tr ∇field there,
    (B,): exact, by one backward pass per axis.

    The vector at each point must depend on that point alone. The result is differentiable if ops
    are being recorded.
    """
    field = answering(field, "with_divergence: field")
    vectors, x, record = _at_leaf(field, batch(x, "with_divergence: x", 2), "with_divergence")
    axes = eye(x.shape[1], x.dtype, x.device)
    trace: Any = sum(
        _pulled(vectors, x, expand(axes[d], x.shape), record)[:, d] for d in range(x.shape[1])
    )
    return (vectors, trace) if record else (vectors.detach(), trace)


def with_slope_along(field: Field, x: Examples, v: Examples) -> tuple[Tensor, Tensor]:
    """The vectors (B, D) of the field at the points x (B, D), and vᵀ ∇field v, (B,), for directions
    v (B, D).

    The mean of the second over v ~ N(0, I), or over random signs, is the divergence (Hutchinson
    1990). It takes one backward pass, however large D is.
    """
    field = answering(field, "with_slope_along: field")
    vectors, x, record = _at_leaf(field, batch(x, "with_slope_along: x", 2), "with_slope_along")
    v = _given_or_drawn(x, v, "with_slope_along: v")
    slope = (_pulled(vectors, x, v, record) * v).sum(axis=-1)
    return (vectors, slope) if record else (vectors.detach(), slope)


def _at_leaf(field: Field, x: Examples, who: str) -> tuple[Tensor, Tensor, bool]:
    """(field(x), x as a leaf, whether ops are being recorded). A leaf has no history, so that the
    backward pass ends at x."""
    leaf = Tensor(x, requires_grad=True)  # the values of x without its history
    record = recording()
    with enable_grad():
        vectors = field(leaf)
    if not isinstance(vectors, Tensor):
        raise TypeError(
            f"{who}: field returned {shown(vectors)}; it is differentiated, so it must return a "
            "Tensor"
        )
    return vectors, leaf, record


def _pulled(y: Tensor, x: Tensor, v: Examples, record: bool) -> Tensor:
    """vᵀ dy/dx (a vector-Jacobian product); 0 if y does not depend on x."""
    if not y.requires_grad:
        return zeros_like(x)
    with enable_grad():
        (g,) = grad(y, x, v, retain_graph=True, create_graph=record, allow_unused=True)
    return zeros_like(x) if g is None else g


def _given_or_drawn(x: Examples, z: Examples | None, what: str) -> Examples:
    """z, if it has the shape of x; for None, a draw from N(0, I) with the shape, dtype and device
    of x."""
    if z is None:
        return randn_like(Tensor(x))
    if tuple(batch(z, what).shape) != tuple(x.shape):
        raise ValueError(
            f"{what} has shape {tuple(z.shape)} and x {tuple(x.shape)}; they must be equal"
        )
    return z
