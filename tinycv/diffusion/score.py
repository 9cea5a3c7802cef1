"""Score matching: learn ∇ log p from points of p alone (explicit, sliced and denoising).

What one would like to make small is the Fisher divergence ½ E |s(x) - ∇ log p(x)|², but nobody
knows ∇ log p.  Up to a constant that the score s cannot change, the first three of these are
equal to it, and all four need points only:

    explicit    E [½ |s(x)|² + tr ∇s(x)]                             Hyvärinen 2005, eq. 4
    sliced      E [½ (v·s(x))² + v·∇(v·s(x))],   E v vᵀ = I          Song et al. 2019, eq. 7
    sliced_vr   E [½ |s(x)|² + v·∇(v·s(x))]                          ibid., eq. 8 (reduced variance)
    denoising   ½ E |s(x + σz) + z/σ|²,   z ~ N(0, I)                Vincent 2011, eq. 9 to 11

The first pays for the trace with one walk back per axis, the second looks along one random
direction v instead.  The last needs no derivative at all, at a price: it equals, up to such a
constant, the divergence from the score of the *noised* density p_σ, and that is what it learns.
Its terms grow as 1/σ², so over many noise levels each is weighted by σ² (Song & Ermon 2019, eq. 6):
the network's task is then to name the noise.

Each function returns one value a point, (B,); the mean is the objective.  A score is any function
of x, or of x and σ (B,).
Read before: engine/backward.py (grad).   Read next: langevin.py.
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
    """½ |s|² + tr ∇s at each of x (B, D): (B,). D walks back, each of which can be walked back
    again."""
    s, trace = with_divergence(answering(score, "explicit: score"), batch(x, "explicit: x", 2))
    return 0.5 * (s * s).sum(axis=-1) + trace


def sliced(score: Field, x: Examples, v: Examples | None = None) -> Tensor:
    """½ (v·s)² + v·∇(v·s) at each of x (B, D): (B,). v (B, D): directions, from N(0, I) where left
    out."""
    v = _drawn(batch(x, "sliced: x", 2), v, "sliced: v")
    s, curved = with_slope_along(answering(score, "sliced: score"), x, v)
    along = (s * v).sum(axis=-1)
    return 0.5 * along * along + curved


def sliced_vr(score: Field, x: Examples, v: Examples | None = None) -> Tensor:
    """½ |s|² + v·∇(v·s) at each of x (B, D): (B,). The half that needs no v is exact, so v disturbs
    the other one only."""
    v = _drawn(batch(x, "sliced_vr: x", 2), v, "sliced_vr: v")
    s, curved = with_slope_along(answering(score, "sliced_vr: score"), x, v)
    return 0.5 * (s * s).sum(axis=-1) + curved


def denoising(score: Score, x: Examples, sigma: Times, z: Examples | None = None) -> Examples:
    """½ |s(x + σz, σ) + z/σ|² at each of x (B, ...): (B,). sigma (B,), or one number; z as x, from
    N(0, I) where left out."""
    z = _drawn(batch(x, "denoising: x"), z, "denoising: z")
    score = answering(score, "denoising: score")
    levels = like(x, per_example(sigma, x, "denoising: sigma"))  # (B,)
    if getattr(sigma, "shape", ()) == (len(x),):
        levels = sigma  # the score sees them as they were given
    # on a GPU NaN stands in place of a level that is not above 0
    levels = within(levels, "denoising: sigma", above=0)
    beside = levels.reshape((-1,) + (1,) * (x.ndim - 1))  # (B, 1, ...)
    # -z/σ is the slope of log N(x + σz; x, σ² I)
    error = score(x + beside * z, levels) + z / beside
    return 0.5 * (error * error).reshape((len(x), -1)).sum(axis=-1)


# ── derivatives of a vector field, for these and for likelihoods (ode.py) ────────────────────────


def with_divergence(field: Field, x: Examples) -> tuple[Tensor, Tensor]:
    """The field at x (B, D), (B, D), and its divergence tr ∇field there, (B,): exact, by one walk
    back an axis.

    Each point's vector must depend on that point alone. Recorded, so differentiable, if ops are
    being recorded.
    """
    field = answering(field, "with_divergence: field")
    s, x, record = _at_leaf(field, batch(x, "with_divergence: x", 2), "with_divergence")
    axes = eye(x.shape[1], x.dtype, x.device)
    trace: Any = sum(
        _pulled(s, x, expand(axes[d], x.shape), record)[:, d] for d in range(x.shape[1])
    )
    return (s, trace) if record else (s.detach(), trace)


def with_slope_along(field: Field, x: Examples, v: Examples) -> tuple[Tensor, Tensor]:
    """The field at x (B, D), (B, D), and vᵀ ∇field v, (B,), for directions v (B, D). Over v ~ N(0,
    I) or random signs its mean is the divergence (Hutchinson 1990); it takes one walk back,
    whatever D is."""
    field = answering(field, "with_slope_along: field")
    s, x, record = _at_leaf(field, batch(x, "with_slope_along: x", 2), "with_slope_along")
    v = _drawn(x, v, "with_slope_along: v")
    slope = (_pulled(s, x, v, record) * v).sum(axis=-1)
    return (s, slope) if record else (s.detach(), slope)


def _at_leaf(field: Field, x: Examples, who: str) -> tuple[Tensor, Tensor, bool]:
    """(field(x), x as a leaf that nothing came before, is anybody recording): so a walk back ends
    at x."""
    leaf = Tensor(x, requires_grad=True)  # the values alone
    record = recording()
    with enable_grad():
        s = field(leaf)
    if not isinstance(s, Tensor):
        raise TypeError(
            f"{who}: field returned {shown(s)}; it is differentiated, so it must return a Tensor"
        )
    return s, leaf, record


def _pulled(y: Tensor, x: Tensor, v: Examples, record: bool) -> Tensor:
    """vᵀ dy/dx, 0 where y does not depend on x."""
    if not y.requires_grad:
        return zeros_like(x)
    with enable_grad():
        (g,) = grad(y, x, v, retain_graph=True, create_graph=record, allow_unused=True)
    return zeros_like(x) if g is None else g


def _drawn(x: Examples, z: Examples | None, what: str) -> Examples:
    """z, which must have the shape of x, or where it was left out N(0, I) of the shape, dtype and
    device of x."""
    if z is None:
        return randn_like(Tensor(x))
    if tuple(batch(z, what).shape) != tuple(x.shape):
        raise ValueError(
            f"{what} has shape {tuple(z.shape)} and x {tuple(x.shape)}; they must be equal"
        )
    return z
