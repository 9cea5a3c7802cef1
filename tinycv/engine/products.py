"""Products with a matrix of derivatives that is never built: vector-Jacobian, Hessian-vector.

Read before: walk.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinycv.engine import arguments
from tinycv.engine.backward import grad_for, list_of_tensors, weight_for
from tinycv.engine.tensor import ArrayLike, Tensor, enable_grad, wrap


def vjp(
    function: Callable,
    inputs: Tensor | Sequence[Tensor],
    v: ArrayLike | None = None,
    create_graph: bool = False,
) -> tuple:
    """(function(*inputs), vᵀ J): the vector-Jacobian product, J = d(function)/d(inputs), without
    building J."""
    inputs, single = fresh(inputs, "vjp")
    with enable_grad():
        y = arguments.function(function, "vjp: function")(*inputs)
    outputs = list_of_tensors(y, "vjp: what function returned")
    pulled = grad_for("vjp", outputs, inputs, v, create_graph=create_graph, allow_unused=True)
    if not create_graph:
        y = y.detach() if isinstance(y, Tensor) else tuple(part.detach() for part in outputs)
    return y, pulled[0] if single else pulled


def hvp(function: Callable, inputs: Tensor | Sequence[Tensor], v: ArrayLike) -> tuple:
    """(function(*inputs), H v) for a function with one number as result; H, its matrix of second
    derivatives, is never built: H v = d/dx (dL/dx · v)  (Pearlmutter 1994). A result linear in its
    inputs has H v = 0."""
    inputs, single = fresh(inputs, "hvp")
    vs = [v] if single else list(v) if isinstance(v, (list, tuple)) else [v]
    if len(vs) != len(inputs):
        raise ValueError(
            f"hvp: {len(inputs)} inputs but {len(vs)} vectors in v; there must be one per input"
        )
    vs = [weight_for(x, w, False, "hvp: v") for x, w in zip(inputs, vs, strict=True)]
    with enable_grad():
        y = arguments.function(function, "hvp: function")(*inputs)
        if not isinstance(y, Tensor):
            raise TypeError(
                f"hvp: function returned {arguments.shown(y)}; it must return a Tensor of one "
                "number"
            )
        slopes = grad_for("hvp", y, inputs, create_graph=True, allow_unused=True)
        slopes = [
            (s, w) for s, w in zip(slopes, vs, strict=True) if s is not None and s._node is not None
        ]
        curved = grad_for(
            "hvp", [s for s, _ in slopes], inputs, [w for _, w in slopes], allow_unused=True
        )
    product = tuple(
        wrap(0.0 * x._data, None) if h is None else h for x, h in zip(inputs, curved, strict=True)
    )
    return y.detach(), product[0] if single else product


def fresh(inputs: Tensor | Sequence[Tensor], caller: str) -> tuple[list[Tensor], bool]:
    """Leaves with the same values, so that the products above leave the caller's graph alone."""
    leaves = []
    for i, x in enumerate(list_of_tensors(inputs, f"{caller}: inputs")):
        if x.dtype.kind != "f":
            raise TypeError(f"{caller}: input {i} is of {x.dtype}; only floats have a derivative")
        leaves.append(Tensor(x.detach(), requires_grad=True))
    if not leaves:
        raise ValueError(f"{caller}: inputs is empty; it must have at least one Tensor")
    return leaves, isinstance(inputs, Tensor)
