"""Bahdanau (additive), Luong (dot, general) and location-aware attention: a recurrent decoder looks
back at all states of its encoder.

    e_ij = v^T tanh(W s_{i-1} + U h_j)               additive     Bahdanau et al. 2015, app. A.1.2
    e_ij = v^T tanh(W s_{i-1} + U h_j + V f_ij + b)  location     Chorowski et al. 2015, section 2.2
    f_i  = F * α_{i-1}                                            ibid.; * is convolution along j
    e_ij = s_i^T h_j                                 dot          Luong et al. 2015, section 3.1
    e_ij = s_i^T W h_j                               general      ibid.
    α_ij = exp(e_ij) / Σ_k exp(e_ik)                 the weights  Bahdanau et al. 2015, eq. 6
    c_i  = Σ_j α_ij h_j                              the context  ibid., eq. 5

h_j is the encoder state after symbol j of the source.  s_i is the decoder state after symbol i of
the answer; the code calls it ``query``.  All h_j together are the encoder output; PyTorch calls it
*memory*, and so does the code.  The score e_ij measures how well query and encoder state match.
The context c_i is a weighted average of the h_j, with most weight where the match is best.  So the
sentence need not fit into one vector: all states are kept, and the decoder looks up what it needs.

A score that depends only on the two states finds a position by its content.  f_ij adds how much the
decoder looked near position j one step before.  With it, the decoder can also find "the next
position", in a sentence of any length.

attention.py does the same with queries, keys and values.  It divides the dot product by √d and
needs no recurrent network around it.

Read first: softmax in nn/softmax.py.   Read next: seq2seq.py.   Demo: demos/04_attention.py.
Shapes: B batch, T decoder steps, S encoder steps, Q width of a query (a decoder state), M width of
an encoder state h, A width of the hidden layer that compares them.
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
from tinycv.sequence.masks import hidden_scores, on_device_of


def additive_score(query: Tensor, key: Tensor, v: Tensor) -> Tensor:
    """The scores (B, T, S), computed by a network with one hidden layer. query (B, T, A) and key
    (B, S, A): decoder and encoder states, projected by W and U; v (A,)."""
    hidden = tanh(query[:, :, None] + key[:, None])  # (B, T, S, A)
    return hidden @ v  # (B, T, S)


def dot_score(query: Tensor, key: Tensor) -> Tensor:
    """The scores (B, T, S), in one matrix product. query (B, T, Q): decoder states; key (B, S, Q):
    encoder states h, or W h."""
    return query @ key.swapaxes(-1, -2)  # (B, T, S)


def weighted_average(
    score: Tensor, memory: Tensor, mask: ArrayLike | None = None
) -> tuple[Tensor, Tensor]:
    """From scores (B, T, S) to the context (B, T, M) and the weights (B, T, S), which sum to 1
    along S.

    memory (B, S, M): the encoder output. mask: bool (B, S), True where a query may look, False on
    padding (the opposite of PyTorch's key_padding_mask). If a whole source is padding, its weights
    and context are 0. The padding of memory must be finite, since 0 * NaN is NaN;
    ``Attention.forward`` makes sure of it.
    """
    visible = checked_mask(mask, memory, "weighted_average: mask")
    if visible is None:
        weights = softmax(score, axis=-1)
    else:
        visible = visible[:, None]  # (B, 1, S)
        visible_scores = where(visible, score, hidden_scores(visible, score.dtype))
        weights = where(visible, softmax(visible_scores, axis=-1), 0.0)
    return weights @ memory, weights


def check_query_and_memory(owner: str, query: Tensor, memory: Tensor) -> None:
    """Raises TypeError or ValueError unless query is (B, T, Q) and memory is (B, S, M) with S at
    least 1: weights over nothing cannot sum to 1."""
    for name, x, letters in (("query", query, "(B, T, Q)"), ("memory", memory, "(B, S, M)")):
        if not is_numeric(x) or len(x.shape) != 3:
            raise (ValueError if is_numeric(x) else TypeError)(
                f"{owner}: {name} is {shown(x)}; it must be a Tensor {letters}"
            )
    if query.shape[0] != memory.shape[0] and 1 not in (query.shape[0], memory.shape[0]):
        raise ValueError(
            f"{owner}: query is {query.shape} and memory {memory.shape}; both must have the same "
            "batch size"
        )
    if memory.shape[1] == 0:
        raise ValueError(
            f"{owner}: memory has shape {memory.shape}, so there is nothing to look at; a source "
            "needs at least one symbol, if only EOS"
        )


def checked_mask(mask: ArrayLike | None, memory: Tensor, what: str) -> Tensor | None:
    """The mask as bools on the device of memory, or None. what: the name of the argument, for
    errors."""
    if mask is None:
        return None
    mask = on_device_of(memory, mask)
    kind = number_kind(mask)
    if kind != "b" or mask.shape != memory.shape[:2]:
        raise (ValueError if kind == "b" else TypeError)(
            f"{what} is {shown(mask)}; it must be bool of shape {memory.shape[:2]}, (B, S), like "
            "memory"
        )
    return mask


def check_keys(owner: str, keys: Tensor, memory: Tensor) -> None:
    """Raises TypeError or ValueError for keys that cannot have been computed from this memory."""
    right = is_numeric(keys) and len(keys.shape) == 3
    if not right or keys.shape[1] != memory.shape[1] or keys.shape[0] not in (1, memory.shape[0]):
        raise (ValueError if is_numeric(keys) else TypeError)(
            f"{owner}: keys is {shown(keys)}; it must be what attention.keys(memory) returned, "
            f"(B, S, ...) with (B, S) = {tuple(memory.shape[:2])}"
        )


def check_memory(
    owner: str, memory: Tensor, keys: Tensor, mask: ArrayLike | None, batch: int
) -> None:
    """Raises TypeError or ValueError if a decoder of ``batch`` sentences cannot look at this
    memory."""
    right = is_numeric(memory) and len(memory.shape) == 3
    if not right or memory.shape[0] not in (1, batch):
        raise (ValueError if is_numeric(memory) else TypeError)(
            f"{owner}: memory is {shown(memory)}; it must be a Tensor (B, S, H) with B = {batch}"
        )
    checked_mask(mask, memory, f"{owner}: mask")
    check_keys(owner, keys, memory)


class Attention(Module):
    """The base class of the four attentions. A subclass defines ``score``, and also ``keys`` if the
    memory is projected first."""

    def keys(self, memory: Tensor) -> Tensor:
        """What queries are compared with, (B, S, ...). It depends only on the source, so it can be
        computed once per sentence."""
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
        """query (B, T, Q) attends to memory (B, S, M), the encoder output. keys:
        ``self.keys(memory)``, if it has been computed already. last (B, S): the weights of the step
        before the first query; only LocationAttention uses it.

        Returns the context (B, T, M) and the weights (B, T, S). For the mask see
        ``weighted_average``. The content of the padding affects neither the results nor any
        gradient.
        """
        owner = type(self).__name__
        check_query_and_memory(owner, query, memory)
        mask = checked_mask(mask, memory, f"{owner}: mask")
        if keys is not None:
            check_keys(owner, keys, memory)
        if mask is not None:
            memory = where(mask[:, :, None], memory, 0.0)
            keys = keys if keys is None else where(mask[:, :, None], keys, 0.0)
        keys = self.keys(memory) if keys is None else keys
        return self.attend(query, memory, mask, keys, last)

    def attend(
        self,
        query: Tensor,
        memory: Tensor,
        mask: ArrayLike | None,
        keys: Tensor,
        last: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """``forward`` for arguments that have been checked and whose padding is finite."""
        return weighted_average(self.score(query, keys), memory, mask)


class AdditiveAttention(Attention):
    """Bahdanau (additive) attention: v^T tanh(W query + U h). Parameters W.weight (A, Q), U.weight
    (A, M), v (A,), initialised like those of a Linear.

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
    """Luong dot attention: query^T h. It has no parameters, so encoder and decoder must learn
    states that can be compared directly, and Q must equal M."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q), keys (B, S, Q). Returns (B, T, S)."""
        check_same_width(self, query, keys, "make them equal, or use GeneralAttention")
        return dot_score(query, keys)


class LocationAttention(AdditiveAttention):
    """Location-aware attention (Chorowski et al. 2015): v^T tanh(W query + U h + V f + b). The
    score also depends on the weights of the previous step, in a window of ``reach`` positions.

    Parameters besides W, U and v: F.weight (filters, 1, 1, reach), V.weight (A, filters), and
    V.bias (A,), which is b.
    differs: the letters follow Bahdanau et al., with V added; Chorowski et al. write w, W, V, U for
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

    def attend(
        self,
        query: Tensor,
        memory: Tensor,
        mask: ArrayLike | None,
        keys: Tensor,
        last: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """One query after another, because each needs the weights of the one before. last: None
        before the first step."""
        last = zero_weights(memory) if last is None else last
        if not is_numeric(last) or last.dtype.kind != "f" or last.shape != memory.shape[:2]:
            raise ValueError(
                f"LocationAttention: last is {shown(last)}; it must be weights of shape "
                f"{memory.shape[:2]}, (B, S), like memory"
            )
        # The weights on padding are 0, whatever values the caller has there.
        last = last if mask is None else where(mask, last, 0.0)
        # Empty results come first, so that zero queries give results of zero steps.
        contexts, weights = [memory[:, :0]], [last[:, None][:, :0]]
        for t in range(query.shape[1]):
            step_keys = keys + self.location_term(last)  # U h + V f + b, (B, S, A)
            context, weight = super().attend(query[:, t : t + 1], memory, mask, step_keys, None)
            contexts.append(context)
            weights.append(weight)
            last = weight[:, 0]  # (B, S)
        return concatenate(contexts, axis=1), concatenate(weights, axis=1)

    def location_term(self, last: Tensor) -> Tensor:
        """V (F * α) + b, the part of the score's hidden layer that depends on the previous weights
        α: (B, S) to (B, S, A)."""
        f = self.F(last[:, None, None])  # (B, filters, 1, S)
        return self.V(f[:, :, 0].swapaxes(1, 2))  # (B, S, A)


def zero_weights(memory: Tensor) -> Tensor:
    """The attention weights (B, S) before the first step: all zero."""
    like = Tensor(memory)
    return zeros(like.shape[:2], dtype=like.dtype, device=like.device)


class GeneralAttention(Attention):
    """Luong general attention: query^T W h. W maps an encoder state to a vector that a decoder
    state can be compared with. Parameter: weight (Q, M)."""

    def __init__(self, query_size: int, memory_size: int):
        query_size = size(query_size, "GeneralAttention: query_size", 1)
        memory_size = size(memory_size, "GeneralAttention: memory_size", 1)
        self.weight = init.kaiming_uniform((query_size, memory_size), a=5**0.5)

    def keys(self, memory: Tensor) -> Tensor:
        """W h: memory (B, S, M) to (B, S, Q)."""
        return linear(memory, self.weight)  # (B, S, Q)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """query (B, T, Q), keys (B, S, Q). Returns (B, T, S)."""
        check_same_width(self, query, keys, "it must be the query_size of this layer")
        return dot_score(query, keys)


def check_same_width(owner: Attention, query: Tensor, keys: Tensor, remedy: str) -> None:
    """Raises ValueError if query and keys have different widths and so have no dot product."""
    if query.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"{type(owner).__name__}: the query is {query.shape[-1]} wide and the memory "
            f"{keys.shape[-1]}; a dot product needs equal widths: {remedy}"
        )
