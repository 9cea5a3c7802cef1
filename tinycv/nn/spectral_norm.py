"""Spectral norm: divides a layer's weight by an estimate of its largest singular value (Miyato et
al. 2018).

    W_SN = W / σ(W),   σ(W) = max |W h| / |h|                    Miyato et al. 2018, eq. 6-8
    u <- W v / |W v|,   v <- Wᵀ u / |Wᵀ u|,   σ = uᵀ W v         ibid., algorithm 1: power iteration

With the exact σ a Linear stretches no vector, and a network of such layers and of ReLUs has a slope
of at most 1.  The power iteration estimates σ from below, by 1 to 5 % at first.
Neither holds for a Conv2d.  σ is taken of its weight as a matrix (out, in kH kW), which maps one
window to one pixel, as Miyato et al. chose and PyTorch does; but a pixel lies in up to kH kW
windows.  So the convolution as a map of images has a norm of up to √(kH kW) σ (stride 1): a 3 x 3
kernel of nine times 1/3 has σ = 1, but as a map of 20 x 20 images (padding 1) a norm of 2.96.  A
slope of at most √(kH kW) per layer is still a bound, which is what a GAN needs.

W changes little from step to step, so u and v are kept, and one iteration per step follows σ.
Read before: linear.py, conv.py; engine/state.py, how u and v move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinycv.engine.arguments import shown
from tinycv.engine.backend import array_module
from tinycv.engine.state import kept_if_done, renew, seen
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.conv import Conv2d
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.parts import exchanged

FIRST = 15  # iterations before the first step, as PyTorch


class SpectralNorm(Module):
    """``layer``, a Linear or a Conv2d, with its weight W as a matrix (out, all the rest) divided by
    σ(W).

    The gradient goes through σ too, with u and v taken as constants. A step of the power iteration
    is made once per batch while training, none after. differs: PyTorch's spectral_norm changes the
    layer itself; here it is wrapped.
    """

    def __init__(self, layer: Module):
        if not isinstance(layer, (Linear, Conv2d)):
            raise TypeError(
                f"SpectralNorm: layer is {shown(layer)}; it must be a Linear or a Conv2d, whose "
                "weight is (out, in, ...)"
            )
        self.layer = layer
        self.u, self.v = (Tensor(init.normal((n,)).detach()) for n in _matrix(layer.weight).shape)
        for _ in range(FIRST):
            self._iterate()

    def _iterate(self) -> Sequence[Any]:
        """One step of the power iteration, once per batch. Returns the arrays u and v as they are
        then."""
        w, u = bare(_matrix(self.layer.weight.detach())), self.u
        xp = array_module(w)

        def unit(x: Tensor) -> Tensor:
            return x / (xp.sqrt((x * x).sum()) + 1e-12)

        def iterated() -> tuple:
            v = unit(w.T @ bare(u))
            return unit(w @ v), v

        return renew((self.u, self.v), iterated)

    def sigma(self) -> Tensor:
        """The largest singular value, as u and v estimate it."""
        # a graph keeps them
        return self._sigma([seen(vector)._data.copy() for vector in (self.u, self.v)])

    def _sigma(self, vectors: Sequence[Any]) -> Tensor:
        u, v = (Tensor(vector) for vector in vectors)
        return u @ (_matrix(self.layer.weight) @ v)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's, with W / σ(W)."""
        # an x that the layer refuses leaves u and v as they were
        with kept_if_done():
            sigma = self._sigma(self._iterate()) if self.training else self.sigma()
            # a layer for this call only: the other threads' one keeps W
            layer = object.__new__(type(self.layer))
            vars(layer).update(vars(self.layer), weight=self.layer.weight / sigma)
            return layer(x)


def spectral_norm(network: Module) -> Module:
    """``network`` with every Linear and Conv2d in it under spectral norm. In place; returns it, or
    the wrapped layer.

    A layer that stands in several places is wrapped once; what is under spectral norm already stays
    as it is.
    """
    if not isinstance(network, Module):
        raise TypeError(f"spectral_norm: network is {shown(network)}; it must be a Module")
    # by id: a Module may compare by value, as a dataclass does
    made: dict[int, Module] = {}

    def normed(part: Any) -> Any:
        if not isinstance(part, Module) or isinstance(part, SpectralNorm):
            return part
        if id(part) not in made:
            wrapped = isinstance(part, (Linear, Conv2d))
            # before its parts: one may know the whole
            made[id(part)] = SpectralNorm(part) if wrapped else part
            for name, value in list(vars(part).items()) if not wrapped else ():
                setattr(part, name, exchanged(value, normed))
        return made[id(part)]

    return normed(network)


def _matrix(weight: Tensor) -> Tensor:
    """A weight (out, ...) as a matrix (out, all the rest)."""
    return weight.reshape((weight.shape[0], -1))
