"""Unrolled GAN: the generator takes its loss against the discriminator K training steps ahead.

    θ_D^(k+1) = θ_D^k - η d(loss_D)/dθ_D (θ_G, θ_D^k)                Metz et al. 2017, eq. 5
    the generator's loss is taken at θ_D^K, which itself depends on θ_G: the gradient passes through
    all K steps, eq. 8

A generator that moves all its samples to one mode may fool the present discriminator, but not the
one that has had K steps to respond.  Its gradient therefore no longer points towards collapse.  The
price: each step of the generator costs K steps of the discriminator and their second derivatives.
differs: plain gradient steps, where the paper unrolls Adam.   Read first: gan.py.
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
    """Inside, ``network`` has the weights that it would have after ``steps`` gradient steps down
    ``loss_of()``, and these weights are differentiable functions of all that the loss depends on.
    Afterwards it has its original weights again.

    A weight that is used in several places (tied) stays one weight in all of them. Frozen weights,
    and weights on which the loss does not depend, stay as they are.
    """
    function(loss_of, "unrolled: loss_of")
    steps, lr = size(steps, "unrolled: steps"), finite(lr, "unrolled: lr", low=0)
    if not isinstance(network, Module):
        raise TypeError(f"unrolled: network is {shown(network)}; it must be a Module")
    if member.get() is not None:
        raise RuntimeError(
            "unrolled: inside a shard of a batch, other shards compute with the weights that it "
            "would exchange; call it outside"
        )
    holders = [
        (module, name, value)
        for module in network.modules()
        for name, value in vars(module).items()
        if any(isinstance(part, Parameter) for _, part in parts_in(name, value))
    ]
    trained = [p for p in network.parameters() if p.requires_grad]
    # the id of each original weight -> the Tensor that stands in for it at the present step
    stand_ins: dict[int, Tensor] = {id(p): p for p in trained}
    try:
        for _ in range(steps):
            slopes = (
                grad(loss_of(), list(stand_ins.values()), create_graph=True, allow_unused=True)
                if trained
                else ()
            )
            for p, slope in zip(trained, slopes, strict=True):
                if slope is not None:
                    stand_ins[id(p)] = stand_ins[id(p)] - lr * slope
            # ``value`` holds the original weights at every step, so each step replaces those, not
            # the stand-ins of the step before
            for module, name, value in holders:
                setattr(module, name, exchanged(value, lambda part: stand_ins.get(id(part), part)))
        yield
    finally:
        for module, name, value in holders:
            setattr(module, name, value)
