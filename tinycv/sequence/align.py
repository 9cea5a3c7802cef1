"""Attention before the Transformer: a decoder that looks back at all the states of its encoder.

    e_ij = v^T tanh(W s_{i-1} + U h_j)               additive     Bahdanau et al. 2015, app. A.1.2
    e_ij = v^T tanh(W s_{i-1} + U h_j + V f_ij + b)  location     Chorowski et al. 2015, section 2.2
    f_i  = F * α_{i-1}                                            ibid.; * is convolution along j
    e_ij = s_i^T h_j                                 dot          Luong et al. 2015, section 3.1
    e_ij = s_i^T W h_j                               general      ibid.
    α_ij = exp(e_ij) / Σ_k exp(e_ik)                 the weights  Bahdanau et al. 2015, eq. 6
    c_i  = Σ_j α_ij h_j                              the context  ibid., eq. 5

h_j is what the encoder knew after symbol j of the source, s_i the decoder's state at symbol i of
its answer. The score e_ij says how well they match; the context c_i is an average of the h_j, most
of it from where the match is best. So the sentence need not fit into one vector: its states stay
where they are, and are fetched when they are wanted. A score of s and h alone finds a place by what
stands there. f_ij says how near to place j it looked one step before, and so "the next one" can be
found too, in a sentence of any length. attention.py does the same with queries, keys and values,
divides the dot by √d, and needs no recurrence around it.

Read before: softmax in nn/softmax.py.   Read next: seq2seq.py.
Seen at work: demos/04_attention.py.
Shapes: B batch, T steps of the decoder, S of the encoder, Q width of a query s, M of the memory h,
A of the match.
"""

from __future__ import annotations

from tinycv.engine.arguments import number_kind, shown, size
from tinycv.engine.create import zeros
from tinycv.engine.methods import concatenate
from tinycv.engine.ops import tanh, where
from tinycv.engine.tensor import ArrayLike, Tensor
from tinycv.nn import init
from tinycv.nn.conv import Conv2d
from tinycv.nn.linear import Linear, linear
from tinycv.nn.module import Module
from tinycv.nn.softmax import softmax
from tinycv.sequence.inputs import is_numeric
from tinycv.sequence.masks import beside, hidden_scores


def additive_score(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
    """query W s (B, T, A), key U h (B, S, A), v (A,): the score (B, T, S) of a network with one
    hidden layer."""
    hidden = tanh(query[:, :, None] + key[:, None])  # (B, T, S, A)
    return hidden @ v  # (B, T, S)


def dot_score(query: Tensor, key: Tensor) -> Tensor:
    """query s (B, T, Q), key h or W h (B, S, Q): the score (B, T, S), all of it in one product."""
    return query @ key.swapaxes(-1, -2)  # (B, T, S)


def look(score: Tensor, memory: Tensor, mask: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
    """From scores (B, T, S) to the context (B, T, M) and the weights (B, T, S), which sum to 1
    along S.

    memory (B, S, M); mask: bool (B, S), True where one may look, False on padding (the opposite of
    PyTorch's key_padding_mask). Where a whole source is padding, weights and context are 0. What
    stands in the padding of the memory must be finite: 0 * NaN is NaN. ``Attention.forward`` makes
    it so.
    """
    found = checked_mask(mask, memory, "look: mask")
    if found is None:
        weights = softmax(score, axis=-1)
    else:
        seen = found[:, None]  # (B, 1, S)
        seen_scores = where(seen, score, hidden_scores(seen, score.dtype))
        weights = where(seen, softmax(seen_scores, axis=-1), 0.0)
    return weights @ memory, weights


def checked(owner: str, query: Tensor, memory: Tensor) -> None:
    """TypeError or ValueError for a query or memory that is not (B, T, Q) and (B, S, M), S at least
    1: no weights over nothing sum to 1."""
    for name, x, letters in (("query", query, "(B, T, Q)"), ("memory", memory, "(B, S, M)")):
        if not is_numeric(x) or len(x.shape) != 3:
            raise (ValueError if is_numeric(x) else TypeError)(
                f"{owner}: {name} is {shown(x)}; it must be a Tensor {letters}"
            )
    if query.shape[0] != memory.shape[0] and 1 not in (query.shape[0], memory.shape[0]):
        raise ValueError(
            f"{owner}: query is {query.shape} and memory {memory.shape}; both must be of one batch"
        )
    if memory.shape[1] == 0:
        raise ValueError(
            f"{owner}: attention over a memory of shape {memory.shape}: there is nothing to look "
            "at; a source needs one symbol at least, if only EOS"
        )


def checked_mask(mask: ArrayLike | None, memory: Tensor, what: str) -> Tensor | None:
    """The mask as bools beside the memory, or None. what: whose mask it is, for errors."""
    if mask is None:
        return None
    mask = beside(memory, mask)
    kind = number_kind(mask)
    if kind != "b" or mask.shape != memory.shape[:2]:
        raise (ValueError if kind == "b" else TypeError)(
            f"{what} is {shown(mask)}; it must be bool of shape {memory.shape[:2]}, (B, S), as the "
            "memory"
        )
    return mask


def check_keys(owner: str, keys: Tensor, memory: Tensor) -> None:
    """TypeError or ValueError for keys that cannot have been made of this memory."""
    right = is_numeric(keys) and len(keys.shape) == 3
    if not right or keys.shape[1] != memory.shape[1] or keys.shape[0] not in (1, memory.shape[0]):
        raise (ValueError if is_numeric(keys) else TypeError)(
            f"{owner}: keys is {shown(keys)}; it must be what the attention's keys(...) made "
            f"of the memory, (B, S, ...) with (B, S) = {tuple(memory.shape[:2])}"
        )


def check_memory(
    owner: str, memory: Tensor, keys: Tensor, mask: ArrayLike | None, batch: int
) -> None:
    """TypeError or ValueError for what a decoder of ``batch`` sentences cannot look at."""
    right = is_numeric(memory) and len(memory.shape) == 3
    if not right or memory.shape[0] not in (1, batch):
        raise (ValueError if is_numeric(memory) else TypeError)(
            f"{owner}: memory is {shown(memory)}; it must be a Tensor (B, S, H), B being {batch}"
        )
    checked_mask(mask, memory, f"{owner}: mask")
    check_keys(owner, keys, memory)


class Attention(Module):
    """What the four have in common. A subclass defines ``score``, and ``keys`` where the memory is
    projected first."""

    def keys(self, memory: Tensor) -> Tensor:
        """What queries are compared with, (B, S, ...). It depends on the source alone: once a
        sentence is enough."""
        return memory

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q) and ``keys(memory)``. Returns the scores (B, T, S)."""
        raise TypeError(f"{type(self).__name__} must define score()")

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        mask: ArrayLike | None = None,
        keys: Tensor | None = None,
        last: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """query (B, T, Q) looks at memory (B, S, M). keys: ``self.keys(memory)`` where it is known
        already. last (B, S): where the query before the first one looked; LocationAttention asks
        that, the others do not.

        Returns the context (B, T, M) and the weights (B, T, S); see ``look`` for the mask. What
        stands in the padding reaches neither of them, nor any gradient.
        """
        owner = type(self).__name__
        checked(owner, query, memory)
        mask = checked_mask(mask, memory, f"{owner}: mask")
        if keys is not None:
            check_keys(owner, keys, memory)
        if mask is not None:
            memory = where(mask[:, :, None], memory, 0.0)
            keys = keys if keys is None else where(mask[:, :, None], keys, 0.0)
        return self.found(query, memory, mask, self.keys(memory) if keys is None else keys, last)

    def found(
        self,
        query: Tensor,
        memory: Tensor,
        mask: ArrayLike | None,
        keys: Tensor,
        last: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """``forward`` of arguments that are checked, where what stands in the padding is finite."""
        return look(self.score(query, keys), memory, mask)


class AdditiveAttention(Attention):
    """v^T tanh(W s + U h). Parameters W.weight (A, Q), U.weight (A, M), v (A,), started as a
    Linear's.

    differs: Bahdanau et al. start W and U from N(0, 0.001²) and v at 0 (appendix B.1).
    """

    def __init__(self, query_size: int, memory_size: int, attention_size: int):
        owner = type(self).__name__
        query_size = size(query_size, f"{owner}: query_size", 1)
        memory_size = size(memory_size, f"{owner}: memory_size", 1)
        attention_size = size(attention_size, f"{owner}: attention_size", 1)
        self.W = Linear(query_size, attention_size, bias=False)
        self.U = Linear(memory_size, attention_size, bias=False)
        self.v = init.uniform((attention_size,), 1 / attention_size**0.5)

    def keys(self, memory: Tensor) -> Tensor:
        """U h: memory (B, S, M) to (B, S, A)."""
        return self.U(memory)  # (B, S, A)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q), keys (B, S, A). Returns (B, T, S)."""
        return additive_score(self.W(query), keys, self.v)


class DotAttention(Attention):
    """s^T h: nothing to learn here, so encoder and decoder must learn to speak of the same things.
    Q equals M."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q), keys (B, S, Q). Returns (B, T, S)."""
        one_width(self, query, keys, "make them equal, or take GeneralAttention")
        return dot_score(query, keys)


class LocationAttention(AdditiveAttention):
    """v^T tanh(W s + U h + V f + b): also asks where it looked one step before, in a window of
    ``reach`` places around each.

    Besides W, U and v: F.weight (filters, 1, 1, reach), V.weight (A, filters), V.bias (A,), which
    is b.
    differs: the letters are Bahdanau's, and V is the new one; Chorowski et al. write w, W, V, U for
    v, W, U, V.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        attention_size: int,
        filters: int = 8,
        reach: int = 5,
    ):
        super().__init__(query_size, memory_size, attention_size)
        filters = size(filters, "LocationAttention: filters", 1)
        reach = size(reach, "LocationAttention: reach", 1)
        self.F = Conv2d(1, filters, (1, reach), padding="same", bias=False)
        self.V = Linear(filters, attention_size)

    def found(
        self,
        query: Tensor,
        memory: Tensor,
        mask: ArrayLike | None,
        keys: Tensor,
        last: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """One query after another. last None: it has looked nowhere before."""
        last = nowhere(memory) if last is None else last
        if not is_numeric(last) or last.dtype.kind != "f" or last.shape != memory.shape[:2]:
            raise ValueError(
                f"LocationAttention: last is {shown(last)}; it must be weights of shape "
                f"{memory.shape[:2]}, (B, S), as the memory"
            )
        # nobody looked at the padding, whatever stands there
        last = last if mask is None else where(mask, last, 0.0)
        steps = [(memory[:, :0], last[:, None][:, :0])]  # of no queries: none
        for t in range(query.shape[1]):
            steps.append(
                super().found(query[:, t : t + 1], memory, mask, keys + self.around(last), None)
            )
            last = steps[-1][1][:, 0]  # (B, S)
        contexts, weights = zip(*steps, strict=True)
        return concatenate(contexts, axis=1), concatenate(weights, axis=1)

    def around(self, last: Tensor) -> Tensor:
        """V (F * α) + b, of weights (B, S): what the score (B, S, A) is told of them at each
        place."""
        f = self.F(last[:, None, None])  # (B, filters, 1, S)
        return self.V(f[:, :, 0].swapaxes(1, 2))  # (B, S, A)


def nowhere(memory: Tensor) -> Tensor:
    """The weights (B, S) of one that has not looked yet."""
    like = Tensor(memory)
    return zeros(like.shape[:2], dtype=like.dtype, device=like.device)


class GeneralAttention(Attention):
    """s^T W h: W translates what the encoder says into what the decoder asks. Parameter weight (Q,
    M)."""

    def __init__(self, query_size: int, memory_size: int):
        query_size = size(query_size, "GeneralAttention: query_size", 1)
        memory_size = size(memory_size, "GeneralAttention: memory_size", 1)
        self.weight = init.kaiming_uniform((query_size, memory_size), a=5**0.5)

    def keys(self, memory: Tensor) -> Tensor:
        """W h: memory (B, S, M) to (B, S, Q)."""
        return linear(memory, self.weight)  # (B, S, Q)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q), keys (B, S, Q). Returns (B, T, S)."""
        one_width(self, query, keys, "that is this layer's query_size")
        return dot_score(query, keys)


def one_width(owner: Attention, query: Tensor, keys: Tensor, cure: str) -> None:
    """ValueError for a query and keys whose dot product has no meaning."""
    if query.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"{type(owner).__name__}: the query is {query.shape[-1]} wide and the memory "
            f"{keys.shape[-1]}; their dot product needs one width: {cure}"
        )
