"""Attention before the Transformer: a decoder that looks back at all the states of its encoder.

    e_ij = v^T tanh(W s_{i-1} + U h_j)                  additive        Bahdanau et al. 2015, appendix A.1.2
    e_ij = v^T tanh(W s_{i-1} + U h_j + V f_ij + b)     location        Chorowski et al. 2015, section 2.2
    f_i  = F * α_{i-1}                                                  ibid.; * is convolution along j
    e_ij = s_i^T h_j                                    dot             Luong et al. 2015, section 3.1
    e_ij = s_i^T W h_j                                  general         ibid.
    α_ij = exp(e_ij) / Σ_k exp(e_ik)                    the weights     Bahdanau et al. 2015, eq. 6
    c_i  = Σ_j α_ij h_j                                 the context     ibid., eq. 5

h_j is what the encoder knew after symbol j of the source, s_i the decoder's state at symbol i of its answer. The score
e_ij says how well they match; the context c_i is an average of the h_j, most of it from where the match is best. So
the sentence need not fit into one vector: its states stay where they are, and are fetched when they are wanted.
A score of s and h alone finds a place by what stands there. f_ij says how near to place j it looked one step before, and
so "the next one" can be found too, in a sentence of any length.
attention.py does the same with queries, keys and values, divides the dot by √d, and needs no recurrence around it.

Read before: softmax in nn/activation.py.   Read next: seq2seq.py.   Seen at work: demos/04_attention.py.
Shapes: B batch, T steps of the decoder, S of the encoder, Q width of a query s, M of the memory h, A of the match.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.backend import array_module
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import tanh, where
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn import init
from tinycv.nn.conv import Conv2d
from tinycv.nn.linear import Linear, linear
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.sequence.attention import moved
from tinycv.sequence.blockwise import NEVER


def additive_score(query: Any, key: Any, v: Any) -> Any:
    """query W s (B, T, A), key U h (B, S, A), v (A,): the score (B, T, S) of a network with one hidden layer."""
    hidden = tanh(query[:, :, None] + key[:, None])                 # (B, T, S, A)
    return hidden @ v                                               # (B, T, S)


def dot_score(query: Any, key: Any) -> Any:
    """query s (B, T, Q), key h or W h (B, S, Q): the score (B, T, S), all of it in one product."""
    return query @ key.swapaxes(-1, -2)                             # (B, T, S)


def look(score: Any, memory: Any, mask: Any = None) -> tuple:
    """From scores (B, T, S) to the context (B, T, M) and the weights (B, T, S), which sum to 1 along S.

    memory (B, S, M); mask: bool (B, S), True where one may look, False on padding (the opposite of PyTorch's
    key_padding_mask). Where a whole source is padding, weights and context are 0.
    """
    wanted(memory)
    if mask is None:
        weights = softmax(score, axis=-1)
    else:
        mask = moved(mask, array_module(bare(score)))
        if mask.shape != memory.shape[:2]:
            raise ValueError(f"mask is {mask.shape}; it must be {memory.shape[:2]}, (B, S), as the memory")
        mask = mask[:, None]                                        # (B, 1, S)
        weights = where(mask, softmax(where(mask, score, NEVER), axis=-1), 0.0)
    return weights @ memory, weights


def wanted(memory: Any) -> None:
    """ValueError for a memory (B, 0, M): no weights over nothing sum to 1."""
    if memory.shape[1] == 0:
        raise ValueError(f"attention over a memory of shape {memory.shape}: there is nothing to look at; a source needs "
                         "one symbol at least, if only EOS")


class Attention(Module):
    """What the four have in common. A subclass defines ``score``, and ``keys`` where the memory is projected first."""

    def keys(self, memory: Any) -> Any:
        """What queries are compared with, (B, S, ...). It depends on the source alone: once a sentence is enough."""
        return memory

    def score(self, query: Any, keys: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define score()")

    def forward(self, query: Any, memory: Any, mask: Any = None, keys: Any = None, last: Any = None) -> tuple:
        """query (B, T, Q) looks at memory (B, S, M). keys: ``self.keys(memory)`` where it is known already. last (B, S):
        where the query before the first one looked; LocationAttention asks that, the others do not.

        Returns the context (B, T, M) and the weights (B, T, S); see ``look`` for the mask.
        """
        return look(self.score(query, self.keys(memory) if keys is None else keys), memory, mask)


class AdditiveAttention(Attention):
    """v^T tanh(W s + U h). Parameters W.weight (A, Q), U.weight (A, M), v (A,), started as a Linear's.

    differs: Bahdanau et al. start W and U from N(0, 0.001²) and v at 0 (appendix B.1).
    """

    def __init__(self, query_size: int, memory_size: int, attention_size: int):
        self.W = Linear(query_size, attention_size, bias=False)
        self.U = Linear(memory_size, attention_size, bias=False)
        self.v = init.uniform((attention_size,), 1 / max(attention_size, 1) ** 0.5)

    def keys(self, memory: Any) -> Any:
        return self.U(memory)                                       # (B, S, A)

    def score(self, query: Any, keys: Any) -> Any:
        return additive_score(self.W(query), keys, self.v)


class DotAttention(Attention):
    """s^T h: nothing to learn here, so encoder and decoder must learn to speak of the same things. Q equals M."""

    def score(self, query: Any, keys: Any) -> Any:
        if query.shape[-1] != keys.shape[-1]:
            raise ValueError(f"DotAttention: the query is {query.shape[-1]} wide and the memory {keys.shape[-1]}; their "
                             "dot product needs one width: make them equal, or take GeneralAttention")
        return dot_score(query, keys)


class LocationAttention(AdditiveAttention):
    """v^T tanh(W s + U h + V f + b): also asks where it looked one step before, in a window of ``reach`` places around each.

    Besides W, U and v: F.weight (filters, 1, 1, reach), V.weight (A, filters), V.bias (A,), which is b.
    differs: the letters are Bahdanau's, and V is the new one; Chorowski et al. write w, W, V, U for v, W, U, V.
    """

    def __init__(self, query_size: int, memory_size: int, attention_size: int, filters: int = 8, reach: int = 5):
        super().__init__(query_size, memory_size, attention_size)
        self.F = Conv2d(1, filters, (1, reach), padding="same", bias=False)
        self.V = Linear(filters, attention_size)

    def forward(self, query: Any, memory: Any, mask: Any = None, keys: Any = None, last: Any = None) -> tuple:
        """As all do, but one query after another. last None: it has looked nowhere before."""
        wanted(memory)
        keys, last = self.keys(memory) if keys is None else keys, nowhere(memory) if last is None else last
        steps = [(memory[:, :0], last[:, None][:, :0])]             # of no queries: none
        for t in range(query.shape[1]):
            steps.append(super().forward(query[:, t:t + 1], memory, mask, keys + self.around(last)))
            last = steps[-1][1][:, 0]                               # (B, S)
        return tuple(concatenate(parts, axis=1) for parts in zip(*steps, strict=True))

    def around(self, last: Any) -> Any:
        """V (F * α) + b, of weights (B, S): what the score (B, S, A) is told of them at each place."""
        f = self.F(last[:, None, None])                             # (B, filters, 1, S)
        return self.V(f[:, :, 0].swapaxes(1, 2))                    # (B, S, A)


def nowhere(memory: Any) -> Any:
    """The weights (B, S) of one that has not looked yet."""
    return Tensor(array_module(bare(memory)).zeros(memory.shape[:2], bare(memory).dtype))


class GeneralAttention(Attention):
    """s^T W h: W translates what the encoder says into what the decoder asks. Parameter weight (Q, M)."""

    def __init__(self, query_size: int, memory_size: int):
        self.weight = init.kaiming_uniform((query_size, memory_size), a=5 ** 0.5)

    def keys(self, memory: Any) -> Any:
        return linear(memory, self.weight)                          # (B, S, Q)

    def score(self, query: Any, keys: Any) -> Any:
        return dot_score(query, keys)
