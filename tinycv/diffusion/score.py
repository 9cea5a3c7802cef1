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

from tinycv.engine.backward import grad
from tinycv.engine.create import eye, randn_like, zeros_like
from tinycv.engine.ops import expand
from tinycv.engine.tensor import Tensor, enable_grad, recording
from tinycv.nn.inputs import answering, batch, is_number, per_example, within


def explicit(score: Callable, x: Any) -> Any:
    """½ |s|² + tr ∇s at each of x (B, D): (B,). D walks back, each of which can be walked back
    again."""
    s, trace = with_divergence(answering(score, "explicit: score"), batch(x, "explicit: x", 2))
    return 0.5 * (s * s).sum(axis=-1) + trace


def sliced(score: Callable, x: Any, v: Any = None) -> Any:
    """½ (v·s)² + v·∇(v·s) at each of x (B, D): (B,). v (B, D): directions, from N(0, I) where left
    out."""
    v = _drawn(batch(x, "sliced: x", 2), v, "sliced: v")
    s, curved = with_slope_along(answering(score, "sliced: score"), x, v)
    along = (v * s).sum(axis=-1)
    return 0.5 * along * along + curved


def sliced_vr(score: Callable, x: Any, v: Any = None) -> Any:
    """½ |s|² + v·∇(v·s) at each of x (B, D): (B,). The half that needs no v is exact, so v disturbs
    the other one only."""
    v = _drawn(batch(x, "sliced_vr: x", 2), v, "sliced_vr: v")
    s, curved = with_slope_along(answering(score, "sliced_vr: score"), x, v)
    return 0.5 * (s * s).sum(axis=-1) + curved


def denoising(score: Callable, x: Any, sigma: Any, z: Any = None) -> Any:
    """½ |s(x + σz, σ) + z/σ|² at each of x (B, ...): (B,). sigma (B,), or one number; z as x, from
    N(0, I) where left out."""
    z = _drawn(batch(x, "denoising: x"), z, "denoising: z")
    score = answering(score, "denoising: score")
    level = per_example(sigma, x, "denoising: sigma")
    # else the score sees sigma as it was given
    if is_number(sigma) or tuple(sigma.shape) != (len(x),):
        sigma = level if isinstance(level, Tensor) or not isinstance(x, Tensor) else Tensor(level)
    # on a GPU NaN stands where it is not
    sigma = within(sigma, "denoising: sigma", above=0)
    level = sigma.reshape((-1,) + (1,) * (x.ndim - 1))  # (B, 1, ...)
    # -z/σ is the slope of log N(x + σz; x, σ² I)
    error = score(x + level * z, sigma) + z / level
    return 0.5 * (error * error).reshape((len(x), -1)).sum(axis=-1)


# ── derivatives of a vector field, for these and for likelihoods (ode.py) ────────────────────────


def with_divergence(field: Callable, x: Any) -> tuple:
    """The field at x (B, D), (B, D), and its divergence tr ∇field there, (B,): exact, by one walk
    back an axis.

    Each point's vector must depend on that point alone. Recorded, so differentiable, if ops are
    being recorded.
    """
    field = answering(field, "with_divergence: field")
    s, x, record = _at_leaf(field, batch(x, "with_divergence: x", 2))
    axes = eye(x.shape[1], x.dtype, x.device)
    trace = sum(_pulled(s, x, expand(axes[d], x.shape), record)[:, d] for d in range(x.shape[1]))
    return (s, trace) if record else (s.detach(), trace)


def with_slope_along(field: Callable, x: Any, v: Any) -> tuple:
    """The field at x (B, D), (B, D), and vᵀ ∇field v, (B,), for directions v (B, D). Over v ~ N(0,
    I) or random signs its mean is the divergence (Hutchinson 1990); it takes one walk back,
    whatever D is."""
    field = answering(field, "with_slope_along: field")
    s, x, record = _at_leaf(field, batch(x, "with_slope_along: x", 2))
    v = _drawn(x, v, "with_slope_along: v")
    slope = (_pulled(s, x, v, record) * v).sum(axis=-1)
    return (s, slope) if record else (s.detach(), slope)


def _at_leaf(field: Callable, x: Any) -> tuple:
    """(field(x), x as a leaf that nothing came before, is anybody recording): so a walk back ends
    at x."""
    x = Tensor(x, requires_grad=True)  # the values alone
    record = recording()
    with enable_grad():
        return field(x), x, record


def _pulled(y: Any, x: Tensor, v: Any, record: bool) -> Any:
    """vᵀ dy/dx, 0 where y does not depend on x."""
    if not y.requires_grad:
        return zeros_like(x)
    with enable_grad():
        (g,) = grad(y, x, v, retain_graph=True, create_graph=record, allow_unused=True)
    return zeros_like(x) if g is None else g


def _drawn(x: Any, z: Any, what: str) -> Any:
    """z, which must have the shape of x, or where it was left out N(0, I) of the shape, dtype and
    device of x."""
    if z is None:
        return randn_like(Tensor(x))
    if tuple(batch(z, what).shape) != tuple(x.shape):
        raise ValueError(
            f"{what} has shape {tuple(z.shape)} and x {tuple(x.shape)}; they must be equal"
        )
    return z
