"""Spectral norm: a layer's weight is divided by its greatest singular value, so that the layer stretches nothing.

    W_SN = W / σ(W),   σ(W) = max |W h| / |h|                       Miyato et al. 2018, eq. 6-8
    u <- W v / |W v|,   v <- Wᵀ u / |Wᵀ u|,   σ = uᵀ W v            ibid., algorithm 1: power iteration

A network of such layers and of ReLUs has a slope of at most 1 anywhere (in the norm of vectors).  W changes little from
step to step, so u and v are kept, and one iteration a step follows σ.   Read before: linear.py, conv.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.backend import array_module
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.conv import Conv2d
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module

FIRST = 15                                      # iterations before the first step, as PyTorch


class SpectralNorm(Module):
    """``layer``, a Linear or a Conv2d, with its weight W as a matrix (out, all the rest) divided by σ(W).

    The gradient goes through σ too, with u and v taken as constants. A step of the power iteration is made at each call
    while training, none after. differs: PyTorch's spectral_norm changes the layer itself; here it is wrapped.
    """

    def __init__(self, layer: Module):
        if not isinstance(layer, (Linear, Conv2d)):
            raise TypeError(f"spectral norm is for a Linear or a Conv2d, whose weight is (out, in, ...), not for "
                            f"{type(layer).__name__}")
        self.layer = layer
        self.u, self.v = (Tensor(init.normal((n,)).detach()) for n in _matrix(layer.weight).shape)
        for _ in range(FIRST):
            self._iterate()

    def _iterate(self) -> None:
        w = bare(_matrix(self.layer.weight.detach()))
        xp = array_module(w)

        def unit(x):
            return x / (xp.sqrt((x * x).sum()) + 1e-12)

        for vector, matrix, other in ((self.v, w.T, self.u), (self.u, w, self.v)):
            vector._data[...] = unit(matrix @ bare(other))          # in place, so that a recorded step goes on too
            vector.mark_changed()

    def sigma(self) -> Tensor:
        """The greatest singular value, as well as u and v know it."""
        u, v = (Tensor(vector._data.copy()) for vector in (self.u, self.v))         # as they are now: a graph keeps them
        return u @ (_matrix(self.layer.weight) @ v)

    def forward(self, x: Any) -> Any:
        """As the layer's, with W / σ(W)."""
        if self.training:
            self._iterate()
        weight = self.layer.weight
        self.layer.weight = weight / self.sigma()                   # for this call only: what is learned is W
        try:
            return self.layer(x)
        finally:
            self.layer.weight = weight


def spectral_norm(network: Module) -> Module:
    """``network`` with every Linear and Conv2d in it under spectral norm. In place; returns it, or the wrapped layer."""
    if isinstance(network, (Linear, Conv2d)):
        return SpectralNorm(network)
    for name, part in list(vars(network).items()):
        if isinstance(part, Module):
            setattr(network, name, spectral_norm(part))
        elif isinstance(part, list):
            part[:] = [spectral_norm(p) if isinstance(p, Module) else p for p in part]
    return network


def _matrix(weight: Any) -> Any:
    """A weight (out, ...) as a matrix (out, all the rest)."""
    return weight.reshape((weight.shape[0], -1))
