"""Scaled dot-product attention with a mask

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V         Vaswani et al. 2017, eq. 1

Each query is compared with every key. The softmax over the keys turns the scores of one query into
weights that sum to 1, and the result is the weighted average of the values. d is the width of a
query and of a key.

A mask says which keys a query may look at. A hidden key must get the weight 0, and the weights of
the other keys must still sum to 1. So its score is replaced before the softmax. Scores can be
large, and exp(1000) is infinite; the softmax does not change if the largest score of a query is
subtracted from all its scores.

Shapes: q (B, H, T, D), k (B, H, S, D), v (B, H, S, Dv): B batch, H heads, T queries, S keys.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import exp, where
from tinycv.sequence.attention import scaled_dot_product_attention


def attention(q, k, v, mask):
    """mask: bools that broadcast to (B, H, T, S), True where a query may look at a key; each
    query has at least one such key. Returns (B, H, T, Dv)."""
    score = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5  # (B, H, T, S)
    score = where(mask, score, -float("inf"))
    weight = exp(score - score.max(axis=-1, keepdims=True))
    weight = weight / weight.sum(axis=-1, keepdims=True)
    return weight @ v  # (B, H, T, Dv)


normal = np.random.default_rng(20).standard_normal


def case(
    b: int, h: int, t: int, s: int, d: int, dv: int, mask: np.ndarray, size: float = 1
) -> tuple:
    """Queries, keys and values of these shapes, and the mask."""
    return size * normal((b, h, t, d)), normal((b, h, s, d)), normal((b, h, s, dv)), mask


PADDING = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)[:, None, None, :]  # (B, 1, 1, S)
# All scores are far below 0: about -100,000.
Q, K, V, _ = case(1, 2, 3, 3, 4, 2, PADDING)
FAR_BELOW = 1e5 * (1 + abs(Q)), -1 - abs(K), V, np.tri(3, dtype=bool)
EXERCISE = Exercise(
    parts=[
        Definition(
            attention,
            reference=scaled_dot_product_attention,
            cases=[
                case(1, 1, 3, 3, 2, 2, np.ones((3, 3), bool)),
                case(2, 2, 3, 3, 4, 1, np.tri(3, dtype=bool)),
                case(2, 1, 2, 4, 3, 2, PADDING),
            ],
            extremes=[case(1, 2, 3, 3, 4, 2, np.tri(3, dtype=bool), size=1000), FAR_BELOW],
            order=1,
            wrong=[
                Wrong(
                    "a hidden score that is not low enough",
                    '-float("inf")',
                    "-1e4",
                    "It is right for ordinary scores. But if all scores of a query are lower than "
                    "the number that you give to hidden keys, these get all the weight. Use "
                    '-float("inf").',
                ),
                Wrong(
                    "the scale",
                    " / q.shape[-1] ** 0.5",
                    "",
                    "You do not divide by sqrt(d). A sum of d products has a variance of d, so "
                    "without the division the softmax becomes almost an argmax.",
                ),
                Wrong(
                    "a missing square root",
                    "q.shape[-1] ** 0.5",
                    "q.shape[-1]",
                    "You divide the scores by d. Divide them by sqrt(d).",
                ),
                Wrong(
                    "no mask",
                    '    score = where(mask, score, -float("inf"))\n',
                    "",
                    "The mask is not used: every query looks at every key.",
                ),
                Wrong(
                    "the mask, the wrong way round",
                    'where(mask, score, -float("inf"))',
                    'where(mask, -float("inf"), score)',
                    "You hide the keys that a query may look at. The mask is True where it may "
                    "look.",
                ),
                Wrong(
                    "the mask after the softmax",
                    '    score = where(mask, score, -float("inf"))\n'
                    "    weight = exp(score - score.max(axis=-1, keepdims=True))\n"
                    "    weight = weight / weight.sum(axis=-1, keepdims=True)\n",
                    "    weight = exp(score - score.max(axis=-1, keepdims=True))\n"
                    "    weight = weight / weight.sum(axis=-1, keepdims=True)\n"
                    "    weight = where(mask, weight, 0.0)\n",
                    "You set weights to 0 after the softmax, so those that are left no longer sum "
                    "to 1. Hide the scores before the softmax.",
                ),
                Wrong(
                    "hidden scores of 0",
                    '-float("inf")',
                    "0.0",
                    "A hidden key gets the score 0, and exp(0) is 1, so it still has a weight. "
                    "Its score must be -infinity, or a number far below all others.",
                ),
                Wrong(
                    "the axis of the softmax",
                    "weight / weight.sum(axis=-1, keepdims=True)",
                    "weight / weight.sum(axis=-2, keepdims=True)",
                    "Your weights sum to 1 over the queries. For each query they must sum to 1 "
                    "over the keys, which are the last axis.",
                ),
                Wrong(
                    "the mask after the exponential",
                    '    score = where(mask, score, -float("inf"))\n'
                    "    weight = exp(score - score.max(axis=-1, keepdims=True))\n",
                    "    weight = exp(score - score.max(axis=-1, keepdims=True))\n"
                    "    weight = where(mask, weight, 0.0)\n",
                    "That is right for small scores. But the largest score may be a hidden one; "
                    "if it is far above the others, they all become exp(-large) = 0, and the "
                    "division is 0 / 0. Hide scores before you take the largest.",
                ),
                Wrong(
                    "one largest score for all queries",
                    "score.max(axis=-1, keepdims=True)",
                    "score.max()",
                    "You subtract the largest score of all queries. A query whose scores are far "
                    "below it gets exp(-large) = 0 for every key. Each query needs its own: "
                    "axis=-1, keepdims=True.",
                ),
                Wrong(
                    "an overflow",
                    "exp(score - score.max(axis=-1, keepdims=True))",
                    "exp(score)",
                    "Large scores overflow in exp. Subtract the largest score of each query first.",
                ),
            ],
        )
    ],
    names=("exp", "where", "einsum"),
    hint='where(mask, score, -float("inf")) hides scores, because exp(-infinity) is 0.',
    read="tinycv/sequence/attention.py: scaled_dot_product_attention; tinycv/sequence/masks.py.",
)
