"""Contrastive loss of CLIP (InfoNCE): in a batch, each image finds its text, each text its image.

    s_ij = exp(t) u_i · v_j                  u_i, v_j: unit vectors of image i and of text j
    L    = ½ [CE over texts of s_i·  +  CE over images of s_·j],   target: i = j

                                             Radford et al. 2021 (CLIP), figure 3
                                             van den Oord et al. 2018 (InfoNCE), eq. 4

CE is the cross-entropy.  Two encoders turn images and texts into vectors of one space.  There is no
target for the vectors themselves.  An image only has to be nearer to its own text than to the other
texts of the batch, and a text nearer to its own image.  The learned number t sets the temperature
exp(-t).  Cosines lie between -1 and 1, so without the factor exp(t) no probability of the softmax
could come close to 0 or 1.

False negatives.  If image 1 also fits text 2, the loss still pushes them apart, which is wrong.
Texts that are equal word for word do no harm: their vectors are equal, so the loss is the same as
if both were accepted.  But a text and its translation differ, and so do "a left of b" and "b right
of a".  With ``groups`` the target is spread evenly over all partners that fit (Yang et al. 2022,
UniCL):

    q_ij = [group i = group j] / how many j are in the group of i

What the loss measures: the mean over i of log N - CE is a lower bound of the mutual information of
images and texts (van den Oord et al. 2018, section 2.3), so it never exceeds log N.

Read first: losses.py.   Used in: vision/clip.py.
Shapes: N pairs, E width of the vectors.
"""

from __future__ import annotations

from math import log

from tinycv.engine import shards
from tinycv.engine.arguments import number
from tinycv.engine.create import arange, one_hot, zeros
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import all_reduce, clip, exp, maximum, norm
from tinycv.engine.tensor import ArrayLike, Tensor, bare
from tinycv.nn.checks import array
from tinycv.nn.inputs import batch, integers, reals
from tinycv.nn.losses import cross_entropy

FIRST_SCALE = log(1 / 0.07)  # Radford et al. 2021, section 2.5: the temperature starts at 0.07
MOST_SCALE = log(100)  # ibid.: no cosine is multiplied by more than 100
MOST_SHARDS = 1024  # the length of the vector in which the shards exchange their numbers of pairs


def normalize(x: Tensor, axis: int = -1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|, eps) along ``axis``: unit vectors. Same shape as x.

    differs: PyTorch's second argument is p, the norm; here it is always the Euclidean one.
    """
    eps = number(eps, "normalize: eps", 0)
    array(x, "normalize: x", "f", "an array or a Tensor of floats")
    return x / maximum(norm(x, axis=axis, keepdims=True), eps)


def contrastive_loss(
    images: Tensor, texts: Tensor, log_scale: ArrayLike | float, groups: ArrayLike | None = None
) -> Tensor:
    """The symmetric cross-entropy of N pairs, in nats.

    images, texts: vectors (N, E), made unit vectors here; row i of both is a pair. log_scale: t,
    clipped here at log 100, above which its gradient is 0, so that t stays there (differs: CLIP
    clips the parameter itself).
    groups: None, or integers (N,), equal for pairs that fit each other, such as a text and its
    translation. In data-parallel training an image is compared with the texts of all shards.
    """
    count = _check_pairs(images, texts, log_scale, groups)
    scale = exp(clip(log_scale, None, MOST_SCALE))
    u, v = normalize(images), normalize(texts)  # (n, E), those of this shard
    start, total = _place_in_batch(count)
    all_u, all_v = _gathered(u, start, total), _gathered(v, start, total)  # (N, E)
    if groups is None:
        partner = arange(start, start + count, device=u.device)  # (n,) class numbers
    else:
        partner = _shares(groups, start, total, u)  # (n, N) probabilities
    of_images = cross_entropy(scale * (u @ all_v.T), partner)
    of_texts = cross_entropy(scale * (v @ all_u.T), partner)
    return (of_images + of_texts) / 2


def _check_pairs(
    images: Tensor, texts: Tensor, log_scale: ArrayLike | float, groups: ArrayLike | None
) -> int:
    """The number of pairs. Raises if the arguments do not fit each other."""
    batch(images, "contrastive_loss: images", 2)
    batch(texts, "contrastive_loss: texts", 2)
    if images.shape != texts.shape or not images.size:
        raise ValueError(
            f"contrastive_loss: images has shape {tuple(images.shape)} and texts "
            f"{tuple(texts.shape)}; they must be equal, (N, E), with at least one pair"
        )
    reals("contrastive_loss", log_scale=log_scale)
    if getattr(log_scale, "size", 1) != 1:
        raise ValueError(
            f"contrastive_loss: log_scale has shape {tuple(getattr(log_scale, 'shape', ()))}; it "
            "must be one number"
        )
    if groups is not None:
        integers(groups, "contrastive_loss: groups", len(images))
    return len(images)


def _shares(groups: ArrayLike, start: int, total: int, like: Tensor) -> Tensor:
    """q (n, N): for each pair of this shard, equal shares for all pairs of its group."""
    own = Tensor(bare(groups)).astype("int64")
    everyone = _gathered(own[:, None], start, total)  # (N, 1)
    same = (own[:, None] == everyone.T).astype(like.dtype)
    return same / same.sum(axis=1, keepdims=True)


# ── data parallelism: the pairs of all shards ────────────────────────────────────────────────────


def _place_in_batch(count: int) -> tuple[int, int]:
    """The number of the first pair of this shard in the batch, and the size of the batch."""
    if shards.member.get() is None:
        return 0, count
    rank = shards.rank()
    counts = all_reduce(one_hot(arange(rank, rank + 1), MOST_SHARDS) * count)[0]
    return int(counts[:rank].sum().item()), int(counts.sum().item())


def _gathered(x: Tensor, start: int, total: int) -> Tensor:
    """The rows (N, ...) of all shards, in their order in the batch, from those of this shard.

    Each shard adds its rows to zeros. all_reduce is differentiable, so the gradient comes back to
    the shard that the row is from.
    """
    if len(x) == total:  # there is one shard
        return x
    before = zeros((start, x.shape[1]), dtype=x.dtype, device=x.device)
    after = zeros((total - start - len(x), x.shape[1]), dtype=x.dtype, device=x.device)
    return all_reduce(concatenate([before, x, after]))
