"""vjp and hvp: vector-Jacobian and Hessian-vector products, without ever building the matrix.

A backward pass computes vᵀ J, the product of a row vector with the Jacobian.  The gradient of
(dL/dx · v) is H v, the product of the Hessian with a vector (Pearlmutter 1994).
Read first: walk.py.
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
    """(y, vᵀ J) for y = function(*inputs) and the Jacobian J = dy/d(inputs).

    v: the weights of y's entries, in its shape; 1 by default if y is a single number.
    create_graph: record the backward pass, so that vᵀ J can be differentiated.
    """
    inputs, single = new_leaves(inputs, "vjp")
    with enable_grad():
        y = arguments.function(function, "vjp: function")(*inputs)
    outputs = list_of_tensors(y, "vjp: what function returned")
    pulled = grad_for("vjp", outputs, inputs, v, create_graph=create_graph, allow_unused=True)
    if not create_graph:
        y = y.detach() if isinstance(y, Tensor) else tuple(part.detach() for part in outputs)
    return y, pulled[0] if single else pulled


def hvp(function: Callable, inputs: Tensor | Sequence[Tensor], v: ArrayLike) -> tuple:
    """(y, H v) for y = function(*inputs), a single number, and H, its matrix of second derivatives.

    H v = d/dx (dy/dx · v), so two backward passes are enough. If y is linear in an input, the
    product is 0 there.
    """
    inputs, single = new_leaves(inputs, "hvp")
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
                f"hvp: function returned {arguments.shown(y)}; it must return a Tensor that holds "
                "a single number"
            )
        gradients = grad_for("hvp", y, inputs, create_graph=True, allow_unused=True)
        # A gradient without a Node is constant, so it adds nothing to the second derivative.
        varying, weights = [], []
        for gradient, weight in zip(gradients, vs, strict=True):
            if gradient is not None and gradient._node is not None:
                varying.append(gradient)
                weights.append(weight)
        products = grad_for("hvp", varying, inputs, weights, allow_unused=True)
    products = tuple(
        wrap(0.0 * x._data, None) if product is None else product
        for x, product in zip(inputs, products, strict=True)
    )
    return y.detach(), products[0] if single else products


def new_leaves(inputs: Tensor | Sequence[Tensor], caller: str) -> tuple[list[Tensor], bool]:
    """(new leaves with the values of the inputs, was it a single Tensor?). With new leaves, vjp and
    hvp do not touch the caller's graph."""
    leaves = []
    for i, x in enumerate(list_of_tensors(inputs, f"{caller}: inputs")):
        if x.dtype.kind != "f":
            raise TypeError(f"{caller}: input {i} is of {x.dtype}; only floats have a derivative")
        leaves.append(Tensor(x.detach(), requires_grad=True))
    if not leaves:
        raise ValueError(f"{caller}: inputs is empty; it must have at least one Tensor")
    return leaves, isinstance(inputs, Tensor)
