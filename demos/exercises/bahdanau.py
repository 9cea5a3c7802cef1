"""Bahdanau attention: scores, weights and context

    e_ts = v . tanh(q_t + k_s)                              Bahdanau et al. 2015, app. A.1.2
    a_ts = exp(e_ts) / sum over s of exp(e_ts)              ibid., eq. 6
    c_t  = sum over s of a_ts h_s                           ibid., eq. 5

q_t = W (decoder state t) is a query, and k_s = U (encoder state s) is a key. The score e_ts is
computed by a small network with one hidden layer. The context c_t is an average of the encoder
states h_s, with most weight where the score is highest. Padding must get the weight 0, and the
other weights of the sentence must still sum to 1.

Shapes: B sentences, T decoder steps, S encoder steps, A width of q and k, M width of h.
"""

import numpy as np

from demos.exercises.exercise import Definition, Exercise, Wrong
from tinycv import exp, tanh, where
from tinycv.sequence import align


def bahdanau_score(query, key, v):
    """query (B, T, A), key (B, S, A), v (A,). Returns the scores (B, T, S)."""
    return tanh(query[:, :, None] + key[:, None]) @ v


def bahdanau_context(score, memory, mask):
    """score (B, T, S), memory (B, S, M): the states h. mask: bool (B, S), True at words, False at
    padding; at least one is True in each row. Returns the context (B, T, M) and the weights
    (B, T, S). where(mask, a, b) takes a where mask is True, and b elsewhere."""
    score = where(mask[:, None], score, -1e9)
    e = exp(score - score.max(axis=-1, keepdims=True))
    weights = e / e.sum(axis=-1, keepdims=True)
    return weights @ memory, weights


normal = np.random.default_rng(10).standard_normal


def score_case(b, t, s, a):
    """Arguments of bahdanau_score."""
    return normal((b, t, a)), normal((b, s, a)), normal(a)


def context_case(b, t, s, m, padding=0, scale=1.0, shift=0.0):
    """Arguments of bahdanau_context; the last sentence ends with this many steps of padding. shift:
    what is added to all scores."""
    mask = np.ones((b, s), bool)
    mask[-1, s - padding :] = False
    return scale * normal((b, t, s)) + shift, normal((b, s, m)), mask


EXERCISE = Exercise(
    parts=[
        Definition(
            bahdanau_score,
            reference=align.additive_score,
            cases=[score_case(2, 3, 4, 5), score_case(1, 3, 3, 2), score_case(3, 1, 2, 3)],
            wrong=[
                Wrong(
                    "a transposed result",
                    "query[:, :, None] + key[:, None]",
                    "query[:, None] + key[:, :, None]",
                    "Your scores are (B, S, T). Queries go along axis 1, keys along axis 2.",
                ),
                Wrong(
                    "tanh is missing",
                    "tanh(query[:, :, None] + key[:, None])",
                    "(query[:, :, None] + key[:, None])",
                    "Without tanh the query adds the same number to all scores of a row, which "
                    "softmax cancels.",
                ),
                Wrong(
                    "tanh of each part",
                    "tanh(query[:, :, None] + key[:, None])",
                    "(tanh(query[:, :, None]) + tanh(key[:, None]))",
                    "You add two tanh. Add query and key first, and take tanh once.",
                ),
                Wrong(
                    "a product in place of a sum",
                    "query[:, :, None] + key[:, None]",
                    "query[:, :, None] * key[:, None]",
                    "Additive attention adds query and key. You multiply them, as Luong does.",
                ),
                Wrong(
                    "v inside tanh",
                    "tanh(query[:, :, None] + key[:, None]) @ v",
                    "tanh((query[:, :, None] + key[:, None]) @ v)",
                    "tanh comes first, then the product with v.",
                ),
                Wrong(
                    "v is missing",
                    " @ v",
                    ".sum(axis=-1)",
                    "You add up the hidden units. v weights each of them.",
                ),
            ],
        ),
        Definition(
            bahdanau_context,
            reference=align.weighted_average,
            cases=[
                context_case(1, 2, 3, 4),
                context_case(2, 3, 3, 3, padding=1),
                context_case(2, 2, 4, 3, padding=2),
                context_case(3, 4, 2, 1, padding=1),
            ],
            extremes=[
                context_case(2, 3, 4, 2, padding=1, scale=1000.0),
                context_case(2, 2, 3, 2, padding=1, shift=-1e5),
            ],
            wrong=[
                Wrong(
                    "a score of padding that is not low enough",
                    "-1e9",
                    "-1e4",
                    "It is right for ordinary scores. But if all scores of a step are lower than "
                    "the number that you give to padding, it gets all the weight. Use -1e9, or "
                    '-float("inf").',
                ),
                Wrong(
                    "the mask after the softmax",
                    "    score = where(mask[:, None], score, -1e9)\n"
                    "    e = exp(score - score.max(axis=-1, keepdims=True))\n"
                    "    weights = e / e.sum(axis=-1, keepdims=True)\n",
                    "    e = exp(score - score.max(axis=-1, keepdims=True))\n"
                    "    weights = where(mask[:, None], e / e.sum(axis=-1, keepdims=True), 0.0)\n",
                    "Padding has the weight 0, but the other weights no longer sum to 1. Hide the "
                    "scores of padding before the softmax.",
                ),
                Wrong(
                    "the mask is missing",
                    "    score = where(mask[:, None], score, -1e9)\n",
                    "",
                    "Padding gets weight too. Give its scores a large negative number before the "
                    "softmax.",
                ),
                Wrong(
                    "the mask is turned round",
                    "where(mask[:, None], score, -1e9)",
                    "where(mask[:, None], -1e9, score)",
                    "The mask is True at words. You hide the words and look at padding.",
                ),
                Wrong(
                    "padding with the score 0",
                    "score, -1e9)",
                    "score, 0.0)",
                    "exp(0) is 1, so padding still gets weight. Its score must be very negative.",
                ),
                Wrong(
                    "an axis",
                    "e / e.sum(axis=-1, keepdims=True)",
                    "e / e.sum(axis=1, keepdims=True)",
                    "The weights of one query sum to 1 over the encoder steps, the last axis. You "
                    "sum over the queries.",
                ),
                Wrong(
                    "the largest score",
                    "exp(score - score.max(axis=-1, keepdims=True))",
                    "exp(score)",
                    "It is right for small scores, but exp of large scores is infinite. Subtract "
                    "the largest score of each row first.",
                ),
                Wrong(
                    "weights that do not sum to 1",
                    "e / e.sum(axis=-1, keepdims=True)",
                    "e",
                    "Divide exp by its sum over the encoder steps.",
                ),
                Wrong(
                    "the order of the results",
                    "return weights @ memory, weights",
                    "return weights, weights @ memory",
                    "Return the context first, then the weights.",
                ),
            ],
        ),
    ],
    names=("exp", "tanh", "where"),
    hint="query[:, :, None] is (B, T, 1, A) and key[:, None] is (B, 1, S, A): their sum "
    "broadcasts.",
    read="tinycv/sequence/align.py, additive_score and weighted_average.",
)
