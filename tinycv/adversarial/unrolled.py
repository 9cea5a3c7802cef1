"""Unrolled GAN: the painter thinks ahead, of what the teacher will have learned by the time the
painting is shown.

    θ_D^(k+1) = θ_D^k - η d(loss_D)/dθ_D  (θ_G, θ_D^k)               Metz et al. 2017, eq. 5
    the generator's loss is taken at θ_D^K, which itself depends on θ_G: the gradient passes through
    all K steps, eq. 8

A generator that goes to one mode wins against the teacher of now and loses against the one of K
steps later; so it does not go.  The price: K steps, and their second derivatives, for each of the
generator's.
differs: plain gradient steps, where the paper unrolls Adam.   Read before: gan.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tinycv.engine.arguments import function, shown, size
from tinycv.engine.backward import grad
from tinycv.engine.shards import member
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.inputs import finite
from tinycv.nn.module import Module, parts_in
from tinycv.nn.parts import exchanged


@contextmanager
def unrolled(
    network: Module, loss_of: Callable[[], Tensor], steps: int, lr: float
) -> Iterator[None]:
    """Inside, ``network`` has the weights that it would have after ``steps`` steps down
    ``loss_of()``, as functions of all that the loss depends on; after, its own again. A weight that
    stands in several places is one weight in all of them; one that is frozen, or that the loss does
    not depend on, stays as it is."""
    function(loss_of, "unrolled: loss_of")
    steps, lr = size(steps, "unrolled: steps"), finite(lr, "unrolled: lr", low=0)
    if not isinstance(network, Module):
        raise TypeError(f"unrolled: network is {shown(network)}; it must be a Module")
    if member.get() is not None:
        raise RuntimeError(
            "unrolled: inside a shard of a batch, other shards compute with the weights that it "
            "exchanges"
        )
    places = [
        (module, name, value)
        for module in network.modules()
        for name, value in vars(module).items()
        if any(isinstance(part, Parameter) for _, part in parts_in(name, value))
    ]
    own = [p for p in network.parameters() if p.requires_grad]
    # what stands in the place of each of them
    now = {id(p): p for p in own}
    try:
        for _ in range(steps):
            slopes = (
                grad(loss_of(), list(now.values()), create_graph=True, allow_unused=True)
                if own
                else ()
            )
            for p, slope in zip(own, slopes, strict=True):
                now[id(p)] = now[id(p)] if slope is None else now[id(p)] - lr * slope
            for module, name, value in places:
                setattr(module, name, exchanged(value, lambda part: now.get(id(part), part)))
        yield
    finally:
        for module, name, value in places:
            setattr(module, name, value)
