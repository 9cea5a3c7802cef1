"""MADE, the masked autoencoder for distribution estimation: an MLP that predicts every pixel from
the pixels before it.

    p(x) = Π_d p(x_d | x_<d)                                            Germain et al. 2015
    h = ReLU((W where M) x + b),   M[k, d] = 1 if m(k) >= m(d)          section 4
    logit(x_d = 1) = ((V where M') h + c)[d],   M'[d, k] = 1 if m(d) > m(k)

Every unit has a degree m.  The degree of pixel d is its place in the order, 1 ... D; a hidden unit
gets a random degree from 1 to D - 1.  A unit of degree m may depend on the first m pixels of the
order, so it takes units of degree at most m; and the prediction of pixel d takes units of a smaller
degree than that of d.  So no path leads from a pixel to its own prediction, and all D predictions
come from one pass through the network.

    direct       the predictions also take the pixels themselves, by one more masked matrix
    masks > 1    the hidden degrees are drawn ``masks`` times, and training uses these sets of masks
                 in turn, by log_prob(x, which) ("connectivity-agnostic")
    agnostic     each set also has an order of its own ("order-agnostic"): one network learns to
                 predict pixels in many orders

With several sets, p is the mean of their probabilities.  This mixture is normalised, because the
probabilities of each set are.

differs: the sets are drawn once and used in turn; the paper also draws new masks for every batch.
The paper's second matrix, from the mask to each hidden layer, is left out.

Read first: pixel_by_pixel.py, nn/masked.py.   See at work: demos/22_autoregressive.py.
Shapes: B images, D pixels, S sets of masks. Images are (B, 1, H, W) with pixels 0 and 1.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

from tinycv.data.inputs import whole as at_most
from tinycv.engine.arguments import flag, size, sizes
from tinycv.engine.methods import stack
from tinycv.engine.ops import logsumexp, relu
from tinycv.engine.rng import host_generator
from tinycv.engine.tensor import ArrayLike, Tensor, bare
from tinycv.likelihood.pixel_by_pixel import (
    PixelModel,
    draw_pixels,
    flat,
    levels_in,
    log_probs_of,
    start_of,
)
from tinycv.nn.inputs import Examples
from tinycv.nn.masked import MaskedLinear
from tinycv.nn.window import Pair


class MADE(PixelModel):
    """MADE for images with pixels 0 and 1.

    shape: (H, W), or the side of a square. hidden: the widths of the hidden layers. order: a
    permutation of the pixels, None for raster order. masks, agnostic, direct: see the top of the
    file; with ``agnostic``, the first set has the order ``order`` and the others have random ones.

    The degrees are drawn by the generator of the weights (tinycv.manual_seed), and saved with them.
    """

    def __init__(
        self,
        shape: Pair,
        hidden: tuple[int, ...] = (500,),
        order: ArrayLike | None = None,
        masks: int = 1,
        agnostic: bool = False,
        direct: bool = True,
    ):
        super().__init__(shape, 2, order)
        widths = sizes(hidden, "MADE: hidden", least=1)
        self.masks = size(masks, "MADE: masks", 1)
        agnostic, direct = flag(agnostic, "MADE: agnostic"), flag(direct, "MADE: direct")
        pixels = len(self.order)
        orders = [np.array(self.order)]
        while len(orders) < self.masks:
            orders.append(host_generator().permutation(pixels) if agnostic else orders[0])
        # degrees[s][l]: the degrees of layer l in set s, (width of layer l,). Layer 0: the pixels.
        self.degrees = [
            [Tensor(degrees) for degrees in draw_degrees(order, widths)] for order in orders
        ]
        sides = [pixels, *widths, pixels]
        first_set = self.masks_of(0)
        self.layers = [
            MaskedLinear(ins, outs, mask)
            for ins, outs, mask in zip(sides[:-1], sides[1:], first_set, strict=True)
        ]
        self.direct = None
        if direct:
            self.direct = MaskedLinear(pixels, pixels, self.direct_mask_of(0), bias=False)

    def masks_of(self, which: int) -> list[Any]:
        """The masks of all layers in set ``which``: bare arrays (out, in) of bools."""
        degrees = [bare(layer) for layer in self.degrees[which]]
        masks = [
            after[:, None] >= before
            for before, after in zip(degrees[:-1], degrees[1:], strict=True)
        ]
        return [*masks, degrees[0][:, None] > degrees[-1]]

    def direct_mask_of(self, which: int) -> Any:
        """The mask (D, D) from the pixels to the predictions."""
        degrees = bare(self.degrees[which][0])
        return degrees[:, None] > degrees

    def logits(self, x: Tensor, which: int = 0) -> Tensor:
        """The log-odds of each pixel by set ``which``. x (B, 1, H, W). Returns (B, D)."""
        pixels = flat(x)  # (B, D)
        *hidden_masks, last_mask = self.masks_of(which)
        h = pixels
        for layer, mask in zip(self.layers, hidden_masks, strict=False):
            h = relu(layer(h, Tensor(mask)))
        logits = self.layers[-1](h, Tensor(last_mask))  # (B, D)
        if self.direct is None:
            return logits
        return logits + self.direct(pixels, Tensor(self.direct_mask_of(which)))

    def log_prob(self, x: Examples, which: int | None = None) -> Tensor:
        """log p(x) in nats. x (B, 1, H, W). Returns (B,). which: the number of a set of masks, to
        use it alone; None for the mixture of all sets, log (1/S) Σ_s p_s(x)."""
        if which is not None or self.masks == 1:
            return self.pixel_log_probs(x, 0 if which is None else which).sum(axis=-1)
        of_sets = stack([self.log_prob(x, s) for s in range(self.masks)])  # (S, B)
        return logsumexp(of_sets, axis=0) - log(self.masks)

    def pixel_log_probs(self, x: Examples, which: int = 0) -> Tensor:
        """log p of each pixel, given those before it in the order of set ``which``: (B, D)."""
        which = at_most(which, "MADE: which", 0, self.masks - 1)
        x = levels_in(x, self, "MADE: x")
        return log_probs_of(x, self.logits(x, which), self.levels)

    def order_in(self, which: int) -> tuple[int, ...]:
        """The order of the pixels in set ``which``."""
        which = at_most(which, "MADE: which", 0, self.masks - 1)
        return tuple(np.argsort(self.degrees[which][0].numpy()).tolist())

    def sample(
        self,
        n: int,
        given: Examples | None = None,
        known: ArrayLike | None = None,
        which: int | None = None,
    ) -> Tensor:
        """n images drawn from p: (n, 1, H, W). given, known: as in PixelModel.sample.

        which: the number of a set of masks, to use it alone. If there are several sets, None draws
        a set for each image. A completion needs ``which``, because the known pixels make some sets
        more probable than others.
        """
        if which is None and self.masks > 1:
            if given is not None:
                raise ValueError(
                    f"MADE.sample: which is None; a completion by a model of {self.masks} sets of "
                    "masks needs the number of one of them"
                )
            return self.sample_mixture(n)
        which = 0 if which is None else which
        images, unknown = start_of(self, n, given, known, self.order_in(which))
        return draw_pixels(lambda x: self.logits(x, which), images, unknown, self.levels)

    def sample_mixture(self, n: int) -> Tensor:
        """Images (n, 1, H, W), each from a set of masks that is drawn at random."""
        images, _ = start_of(self, n, None, None, self.order)
        set_of_image = host_generator().integers(0, self.masks, n)
        for which in np.unique(set_of_image):
            rows = np.flatnonzero(set_of_image == which)
            images[rows] = bare(self.sample(len(rows), which=int(which)))
        return Tensor(images)


def draw_degrees(order: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    """The degrees of the pixels, (D,), and of the units of each hidden layer, (width,). The latter
    are drawn uniformly, from the smallest degree of the layer before to D - 1. With a smaller
    degree, a unit would have no input."""
    degrees = [np.empty(len(order), np.int64)]
    degrees[0][order] = np.arange(1, len(order) + 1)
    for width in widths:
        least = min(degrees[-1].min(), len(order) - 1)
        degrees.append(host_generator().integers(least, max(least, len(order) - 1) + 1, width))
    return degrees
