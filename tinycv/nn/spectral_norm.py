"""Spectral norm: divides a weight by an estimate of its largest singular value, σ.

    W_SN = W / σ(W),   σ(W) = max |W h| / |h|                    Miyato et al. 2018, eq. 6-8
    u <- W v / |W v|,   v <- Wᵀ u / |Wᵀ u|,   σ = uᵀ W v         ibid., algorithm 1: power iteration

With the exact σ a Linear layer lengthens no vector, and a network of such layers and ReLUs has a
Lipschitz constant of at most 1.  The power iteration estimates σ from below; at first the estimate
is 1 to 5 % too small.

For a Conv2d the bound is weaker.  As in the paper and in PyTorch, σ is taken of the weight as a
matrix (out, in kH kW), which maps one window to one pixel; but a pixel lies in up to kH kW windows.
So the convolution as a map of images has a norm of up to √(kH kW) σ (stride 1).  For example, a
3 x 3 kernel whose nine entries are 1/3 has σ = 1, but as a map of 20 x 20 images (padding 1) its
norm is 2.96.  A Lipschitz constant of at most √(kH kW) per layer is still a bound, which is what a
GAN needs.

W changes little from one training step to the next.  So u and v are kept, and a single iteration
per step is enough for the estimate to follow σ.

Read first: linear.py, conv.py; engine/state.py, which updates u and v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinycv.engine.arguments import shown
from tinycv.engine.backend import array_module
from tinycv.engine.state import kept_if_done, read_state, renew
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.conv import Conv2d
from tinycv.nn.linear import Linear
from tinycv.nn.module import Module
from tinycv.nn.parts import exchanged

FIRST = 15  # iterations at construction, as in PyTorch


class SpectralNorm(Module):
    """A Linear or Conv2d ``layer`` whose weight W, as a matrix (out, all other axes), is divided by
    σ(W).

    The gradient also flows through σ, with u and v taken as constants. In training mode each batch
    makes one step of the power iteration; in evaluation mode u and v stay as they are.
    differs: PyTorch's spectral_norm changes the layer itself; here the layer is wrapped.
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
        """One step of the power iteration, once per batch even if shards call it several times.
        Returns the new arrays u and v."""
        w, u = bare(_matrix(self.layer.weight.detach())), self.u
        xp = array_module(w)

        def unit(x: Tensor) -> Tensor:
            return x / (xp.sqrt((x * x).sum()) + 1e-12)

        def iterated() -> tuple:
            v = unit(w.T @ bare(u))
            return unit(w @ v), v

        return renew((self.u, self.v), iterated)

    def sigma(self) -> Tensor:
        """The largest singular value of W, estimated from u and v."""
        # copies: a graph saves them, and a later step of the power iteration changes u and v
        return self._sigma([read_state(vector)._data.copy() for vector in (self.u, self.v)])

    def _sigma(self, vectors: Sequence[Any]) -> Tensor:
        u, v = (Tensor(vector) for vector in vectors)
        return u @ (_matrix(self.layer.weight) @ v)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's forward with the weight W / σ(W)."""
        # if the layer refuses x, u and v keep their old values
        with kept_if_done():
            sigma = self._sigma(self._iterate()) if self.training else self.sigma()
            # A shallow copy of the layer with the divided weight, for this call only. self.layer
            # itself keeps W, which threads that share it need.
            layer = object.__new__(type(self.layer))
            vars(layer).update(vars(self.layer), weight=self.layer.weight / sigma)
            return layer(x)


def spectral_norm(network: Module) -> Module:
    """Wraps every Linear and Conv2d of ``network`` in SpectralNorm, in place, and returns the
    network. If the network is itself a Linear or Conv2d, returns the wrapped layer.

    A layer that is used in several places is wrapped once. Layers that already have spectral norm
    are left alone.
    """
    if not isinstance(network, Module):
        raise TypeError(f"spectral_norm: network is {shown(network)}; it must be a Module")
    # Each module and its replacement. By id, because a Module that is a dataclass compares by
    # value.
    replacements: dict[int, Module] = {}

    def normed(part: Any) -> Any:
        if not isinstance(part, Module) or isinstance(part, SpectralNorm):
            return part
        if id(part) not in replacements:
            wrapped = isinstance(part, (Linear, Conv2d))
            # entered before its parts are visited, since a part may refer back to this module
            replacements[id(part)] = SpectralNorm(part) if wrapped else part
            for name, value in list(vars(part).items()) if not wrapped else ():
                setattr(part, name, exchanged(value, normed))
        return replacements[id(part)]

    return normed(network)


def _matrix(weight: Tensor) -> Tensor:
    """A weight (out, ...) as a matrix (out, all other axes)."""
    return weight.reshape((weight.shape[0], -1))
