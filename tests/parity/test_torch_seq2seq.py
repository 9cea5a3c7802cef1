"""Attention and Seq2Seq compared with the same networks built from PyTorch layers, with weights
loaded by name."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from twin import DTYPES, agree, agree_as_layers

from tinycv.data.text import EOS, PAD, SOS
from tinycv.sequence import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    LocationAttention,
    Seq2Seq,
)

RNG = np.random.default_rng(0)
QUERY, MEMORY = RNG.normal(size=(3, 4, 6)), RNG.normal(size=(3, 5, 6))
MASK = np.arange(5) < np.array([[5], [2], [1]])
SOURCE = np.array([[3, 4, 5, EOS], [5, EOS, PAD, PAD], [4, 4, EOS, PAD]])
TARGET = np.array([[SOS, 5, PAD], [SOS, 3, 6], [SOS, 6, 6]])

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


def looked(score, memory, mask):
    weights = score.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
    return torch.cat([weights @ memory, weights], -1)


def ours(layer):
    from tinycv import concatenate

    return lambda query, memory: concatenate(layer(query, memory, MASK), axis=-1)


class Additive(nn.Module):
    def __init__(self):
        super().__init__()
        self.W, self.U, self.v = (
            nn.Linear(6, 7, bias=False),
            nn.Linear(6, 7, bias=False),
            nn.Parameter(torch.rand(7)),
        )

    def score(self, query, memory):
        return torch.einsum(
            "btsa,a->bts", torch.tanh(self.W(query)[:, :, None] + self.U(memory)[:, None]), self.v
        )


class Location(Additive):
    def __init__(self):
        super().__init__()
        self.F, self.V = nn.Conv2d(1, 3, (1, 5), padding=(0, 2), bias=False), nn.Linear(3, 7)

    def forward(self, query, memory, mask):
        results, last = [], torch.zeros(memory.shape[:2], dtype=memory.dtype)
        for t in range(query.shape[1]):
            location = self.V(
                nn.functional.conv1d(last[:, None], self.F.weight[:, :, 0], padding=2).mT
            )
            hidden = torch.tanh(self.W(query[:, t : t + 1]) + self.U(memory) + location)
            results.append(looked((hidden @ self.v)[:, None], memory, mask))
            last = results[-1][:, 0, memory.shape[-1] :]
        return torch.cat(results, 1)


class General(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 6))

    def score(self, query, memory):
        return torch.einsum("btq,qm,bsm->bts", query, self.weight, memory)


@pytest.mark.parametrize(
    "layer, theirs",
    [(lambda: AdditiveAttention(6, 6, 7), Additive), (lambda: GeneralAttention(6, 6), General)],
    ids=["additive", "general"],
)
def test_additive_and_general_attention_match_pytorch(layer, theirs, dtype):
    layer, theirs = layer(), theirs()
    agree_as_layers(
        layer,
        theirs,
        [QUERY, MEMORY],
        dtype,
        ours(layer),
        lambda query, memory: looked(theirs.score(query, memory), memory, torch.tensor(MASK)),
    )


def test_location_aware_attention_matches_pytorch(dtype):
    layer, theirs = LocationAttention(6, 6, 7, filters=3), Location()
    agree_as_layers(
        layer,
        theirs,
        [QUERY, MEMORY],
        dtype,
        ours(layer),
        lambda query, memory: theirs(query, memory, torch.tensor(MASK)),
    )


def test_dot_attention_matches_scaled_attention_of_pytorch_with_scale_one(dtype):
    agree(
        lambda query, memory: DotAttention()(query, memory, MASK)[0],
        lambda query, memory: nn.functional.scaled_dot_product_attention(
            query, memory, memory, torch.tensor(MASK)[:, None], scale=1.0
        ),
        [QUERY, MEMORY],
        dtype,
    )


class Reader(nn.Module):
    """An encoder from PyTorch's embedding and LSTM over packed sequences; the last states of both
    directions are joined."""

    def __init__(self, ways, layers):
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.rnn = nn.LSTM(4, 6 // ways, layers, batch_first=True, bidirectional=ways == 2)

    def forward(self, source):
        lengths = (source != PAD).sum(1)
        packed = pack_padded_sequence(
            self.embedding(source), lengths, batch_first=True, enforce_sorted=False
        )
        memory, state = self.rnn(packed)
        ways = 1 + self.rnn.bidirectional
        state = [torch.cat([part[way::ways] for way in range(ways)], -1) for part in state]
        return pad_packed_sequence(memory, batch_first=True)[0], state


class Writer(nn.Module):
    def __init__(self, attention, layers):
        super().__init__()
        self.embedding, self.out = nn.Embedding(7, 4), nn.Linear(6, 7)
        self.rnn = nn.LSTM(4, 6, layers, batch_first=True)
        self.join = nn.Linear(12, 6, bias=False) if attention else None
        self.attention = General() if attention == "general" else None

    def forward(self, target, memory, state, mask):
        y, _ = self.rnn(self.embedding(target), state)
        if self.join is not None:
            score = self.attention.score(y, memory) if self.attention else y @ memory.mT
            context = looked(score, memory, mask)[..., :6]
            y = torch.tanh(self.join(torch.cat([context, y], -1)))
        return self.out(y)


class Theirs(nn.Module):
    def __init__(self, attention, ways, layers):
        super().__init__()
        self.encoder, self.decoder = Reader(ways, layers), Writer(attention, layers)

    def forward(self, source, target):
        return self.decoder(target, *self.encoder(source), source != PAD)


@pytest.mark.parametrize("attention", [None, "dot", "general"])
@pytest.mark.parametrize("ways, layers", [(1, 1), (2, 1), (2, 2)])
def test_seq2seq_matches_the_same_network_in_pytorch(attention, ways, layers, dtype):
    model = Seq2Seq(8, 7, 4, 6, layers, bidirectional=ways == 2, attention=attention)
    agree_as_layers(model, Theirs(attention, ways, layers), [SOURCE, TARGET], dtype)
