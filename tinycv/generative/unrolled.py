"""Unrolled GAN: the painter thinks ahead, of what the teacher will have learned by the time the painting is shown.

    θ_D^(k+1) = θ_D^k - η d(loss_D)/dθ_D  (θ_G, θ_D^k)               Metz et al. 2017, eq. 5
    the generator's loss is taken at θ_D^K, which itself depends on θ_G: the gradient passes through all K steps, eq. 8

A generator that goes to one mode wins against the teacher of now and loses against the one of K steps later; so it does
not go.  The price: K steps, and their second derivatives, for each of the generator's.
differs: plain gradient steps, where the paper unrolls Adam.   Read before: gan.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinycv.engine.tensor import Parameter
from tinycv.engine.walk import grad
from tinycv.nn.module import Module


@contextmanager
def unrolled(network: Module, loss_of: Callable[[], Any], steps: int, lr: float) -> Iterator[None]:
    """Inside, ``network`` has the weights that it would have after ``steps`` steps down ``loss_of()``, as functions of all
    that the loss depends on; after, its own again."""
    places = [(module, name, p) for module in network.modules() for name, p in vars(module).items()
              if isinstance(p, Parameter)]
    now = [p for _, _, p in places]
    try:
        for _ in range(steps):
            slopes = grad(loss_of(), now, create_graph=True)
            now = [p - lr * slope for p, slope in zip(now, slopes, strict=True)]
            for (module, name, _), p in zip(places, now, strict=True):
                setattr(module, name, p)
        yield
    finally:
        for module, name, p in places:
            setattr(module, name, p)
