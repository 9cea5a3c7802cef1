"""Vector quantisation (VQ): each vector is replaced by the nearest vector of a learned codebook.

    k = argmin_j ||z - e_j||²,   q = e_k                            van den Oord et al. 2017
    L = ||sg[z] - e_k||² + β ||z - sg[e_k]||²                       its codebook and commitment loss
    the gradient by q passes to z unchanged                         straight-through (gumbel.py)

z is a vector of the encoder, e_j are the vectors of the codebook, and sg is the stop-gradient
(``detach``).  The number k is the code of z.  An image whose patches have become codes is a text,
which a GPT can learn to write.  The choice of the nearest vector has no gradient, so the gradient
with respect to q is passed to z, as if q were z.

The codebook itself then gets no gradient through q.  The first term of L, the codebook loss, moves
each chosen e_k towards the vectors that chose it.  The second, the commitment loss, keeps the
vectors near their codes, so that the encoder does not keep changing its choice.

Dead codes.  A code that is never the nearest gets no gradient, and may never be chosen again.
``revive`` counts for how many batches each code has not been chosen, and moves codes that have been
idle for too long to random vectors of the batch.  (Many implementations have such a rule; the paper
has none.)

Read first: gumbel.py.   Used in: likelihood/vq_vae.py.
Shapes: z (..., D), codes (...), the codebook (K, D).
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.arguments import shown
from tinycv.engine.backend import Array, array_module, from_host, host_generator, to_numpy
from tinycv.engine.create import zeros
from tinycv.engine.ops import argmin
from tinycv.engine.tensor import ArrayLike, Tensor, bare, no_grad
from tinycv.nn import init
from tinycv.nn.checks import array, count
from tinycv.nn.gumbel import straight_through
from tinycv.nn.inputs import Examples, finite, whole
from tinycv.nn.linear import embedding
from tinycv.nn.module import Module


class VectorQuantizer(Module):
    """A codebook of K vectors, and the choice of the nearest one.

    codes: K. dim: D. commitment: β. weight (K, D) starts uniform within ±1/K. idle (K,) is a buffer
    that ``revive`` uses: for how many of its calls each code has not been chosen.
    """

    def __init__(self, codes: int, dim: int, commitment: float = 0.25):
        codes = count(codes, "VectorQuantizer: codes", 1)
        dim = count(dim, "VectorQuantizer: dim", 1)
        self.commitment = finite(commitment, "VectorQuantizer: commitment", low=0)
        self.weight = init.uniform((codes, dim), 1 / codes)
        self.register_buffer("idle", zeros(codes))

    def forward(self, z: Examples) -> tuple[Tensor, Array, Tensor]:
        """Vectors z (..., D). Returns the nearest vectors of the codebook (..., D), whose gradient
        passes to z; their codes (...), a bare array; and the loss L, a mean over the numbers of z.
        """
        z = self.vectors_of(z, "VectorQuantizer: z")
        codes = self.codes_of(z)
        nearest = embedding(codes, self.weight)  # (..., D)
        to_codebook, to_vectors = z.detach() - nearest, z - nearest.detach()
        loss = (to_codebook * to_codebook).mean()
        loss = loss + self.commitment * (to_vectors * to_vectors).mean()
        return straight_through(nearest, z), codes, loss

    def codes_of(self, z: Examples) -> Array:
        """The number of the nearest vector of the codebook, for each vector of z (..., D). Returns
        a bare array (...) of int64. If several are equally near, it is the first of them.
        ValueError for NaN and infinity; on a GPU their code is -1."""
        z = self.vectors_of(z, "VectorQuantizer.codes_of: z")
        with no_grad():
            # Both are taken relative to the mean of the codebook, which loses less to rounding.
            middle = self.weight.mean(axis=0)
            e, z = self.weight - middle, z - middle
            # ||z - e||² = ||z||² - 2 z·e + ||e||², where ||z||² is the same for all e
            distance = (e * e).sum(axis=1) - 2 * (z @ e.swapaxes(0, 1))  # (..., K)
            codes = bare(argmin(distance, axis=-1)).astype(np.int64)
        xp = array_module(codes)
        valid = xp.isfinite(bare(z)).all(axis=-1)
        if xp is not np:
            return xp.where(valid, codes, -1)
        if not valid.all():
            raise ValueError(
                "VectorQuantizer.codes_of: z, or the codebook, holds NaN or infinity; both must be "
                "finite"
            )
        return codes

    def vectors_at(self, codes: ArrayLike) -> Tensor:
        """The vectors of the codebook with these numbers: codes (...). Returns (..., D)."""
        return embedding(codes, self.weight)

    def revive(self, z: Examples, patience: int = 20) -> int:
        """Count which codes the vectors z (..., D) of a batch choose, and move each code that has
        not been chosen in ``patience`` calls in a row to a random vector of z. Returns how many
        have been moved. Call it once per training step, after ``optimizer.step()``."""
        (patience,) = whole("VectorQuantizer.revive", 1, patience=patience)
        z = self.vectors_of(z, "VectorQuantizer.revive: z")
        total, width = self.weight.shape
        vectors = bare(z).reshape((-1, width))
        if not len(vectors):
            raise ValueError(f"VectorQuantizer.revive: z is {shown(z)}; it holds no vector")
        if not np.isfinite(to_numpy(vectors)).all():
            raise ValueError(
                "VectorQuantizer.revive: z holds NaN or infinity; its vectors become codes, so all "
                "must be finite"
            )
        chosen = np.zeros(total, bool)
        chosen[to_numpy(self.codes_of(z)).reshape(-1)] = True
        idle = np.where(chosen, 0, self.idle.numpy() + 1)
        dead = np.flatnonzero(idle >= patience)
        idle[dead] = 0
        xp = array_module(vectors)
        self.idle = Tensor(from_host(xp, idle.astype(self.idle.dtype)))
        if len(dead):
            rows = from_host(xp, host_generator().integers(0, len(vectors), len(dead)))
            weight = bare(self.weight).copy()
            weight[from_host(xp, dead)] = vectors[rows]
            self.weight.data = weight
        return len(dead)

    def vectors_of(self, z: Examples, what: str) -> Tensor:
        """z as a Tensor in the dtype of the codebook, if it is floats (..., D)."""
        array(z, what, "f", "an array or a Tensor of floats (..., D)")
        if not z.ndim or z.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"{what} has shape {tuple(z.shape)}; it must be (..., {self.weight.shape[1]})"
                f"{channels_last_hint(tuple(z.shape), self.weight.shape[1])}"
            )
        z = z if isinstance(z, Tensor) else Tensor(z, device=self.weight.device)
        return z if z.dtype == self.weight.dtype else z.astype(self.weight.dtype)


def channels_last_hint(shape: tuple[int, ...], width: int) -> str:
    """How to move the axis, if a z of this shape, (B, D, ...), has its D = ``width`` channels
    first, as a convolution returns them; otherwise an empty text."""
    if len(shape) < 3 or shape[1] != width:
        return ""
    last = ", ".join(str(i) for i in (0, *range(2, len(shape)), 1))
    return f", channels last: move its axis 1 to the end with z.transpose(({last}))"
