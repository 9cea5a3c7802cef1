"""Decoder block, stacks and the whole encoder-decoder compared with PyTorch, with weights loaded by
name; PyTorch's padding masks are inverted."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree_as_layers, equal, randomised

from tinycv import Tensor
from tinycv.nn import LayerNorm
from tinycv.sequence import (
    GPT,
    MultiheadAttention,
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    length_mask,
)

RNG = np.random.default_rng(0)
X, MEMORY = RNG.normal(size=(2, 5, 12)), RNG.normal(size=(2, 7, 12))
MASK, SQUARE = RNG.random((5, 7)) < 0.6, RNG.random((5, 5)) < 0.6
# a query that may attend to nothing gives NaN in PyTorch, and 0 here
MASK[:, 0] = SQUARE[:, 0] = True
# (B, 1, 1, T or S), True where a query may attend
OWN, SEEN = length_mask([5, 3], 5), length_mask([4, 7], 7)
# PyTorch's masks are True where a query may not attend, and have other argument names.
FUTURE = ~torch.ones(5, 5, dtype=torch.bool).tril()
OWN_PADDING, SEEN_PADDING = (~torch.tensor(m[:, 0, 0]) for m in (OWN, SEEN))

pytestmark = pytest.mark.parametrize("dtype", DTYPES)
both_orders = pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])


def hidden(mask):
    return ~torch.tensor(mask)


@pytest.mark.parametrize(
    "ours_masks, theirs_masks",
    [
        ({"attn_mask": SEEN}, {"key_padding_mask": SEEN_PADDING}),
        ({"attn_mask": SEEN & MASK}, {"key_padding_mask": SEEN_PADDING, "attn_mask": hidden(MASK)}),
    ],
    ids=["padding", "both"],
)
def test_attention_with_a_padding_mask_matches_pytorch(ours_masks, theirs_masks, dtype):
    ours, theirs = MultiheadAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    agree_as_layers(
        ours,
        theirs,
        [X, MEMORY],
        dtype,
        lambda q, k: ours(q, k, **ours_masks),
        lambda q, k: theirs(q, k, k, **theirs_masks)[0],
    )


def test_self_attention_with_a_padding_and_a_causal_mask_matches_pytorch(dtype):
    ours, theirs = MultiheadAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    agree_as_layers(
        ours,
        theirs,
        [X],
        dtype,
        lambda x: ours(x, attn_mask=OWN, is_causal=True),
        lambda x: theirs(x, x, x, key_padding_mask=OWN_PADDING, attn_mask=FUTURE)[0],
    )


def test_cross_attention_with_cached_keys_and_values_matches_pytorch(dtype):
    ours, theirs = MultiheadAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    agree_as_layers(
        ours,
        theirs,
        [X, MEMORY],
        dtype,
        lambda q, m: ours.recall(q, ours.remember(m), SEEN),
        lambda q, m: theirs(q, m, m, key_padding_mask=SEEN_PADDING)[0],
    )


DECODER_MASKS = pytest.mark.parametrize(
    "options, theirs_options",
    [
        ({}, {}),
        ({"tgt_is_causal": True}, {"tgt_mask": FUTURE}),
        (
            {"tgt_mask": SQUARE, "memory_mask": MASK},
            {"tgt_mask": hidden(SQUARE), "memory_mask": hidden(MASK)},
        ),
        (
            {"tgt_mask": OWN, "tgt_is_causal": True, "memory_mask": SEEN},
            {
                "tgt_mask": FUTURE,
                "tgt_key_padding_mask": OWN_PADDING,
                "memory_key_padding_mask": SEEN_PADDING,
            },
        ),
    ],
    ids=["all", "causal", "masks", "padding"],
)


@both_orders
@DECODER_MASKS
def test_the_decoder_block_matches_pytorch(norm_first, options, theirs_options, dtype):
    ours = TransformerDecoderLayer(12, 3, 20, 0.0, "gelu", norm_first)
    theirs = torch.nn.TransformerDecoderLayer(
        12, 3, 20, 0.0, "gelu", norm_first=norm_first, batch_first=True
    )
    agree_as_layers(
        ours,
        theirs,
        [X, MEMORY],
        dtype,
        lambda x, m: ours(x, m, **options),
        lambda x, m: theirs(x, m, **theirs_options),
    )


@both_orders
@pytest.mark.parametrize("normed", [False, True], ids=["no norm", "norm"])
def test_a_stack_of_encoder_blocks_matches_pytorch(norm_first, normed, dtype):
    layer, last = (
        TransformerEncoderLayer(12, 3, 20, 0.0, "relu", norm_first),
        LayerNorm(12) if normed else None,
    )
    ours = TransformerEncoder(layer, 3, last)
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(
            12, 3, 20, 0.0, "relu", norm_first=norm_first, batch_first=True
        ),
        3,
        torch.nn.LayerNorm(12) if normed else None,
        enable_nested_tensor=False,
    )
    agree_as_layers(
        ours,
        theirs,
        [X],
        dtype,
        lambda x: ours(x, OWN),
        lambda x: theirs(x, src_key_padding_mask=OWN_PADDING),
    )


@both_orders
@pytest.mark.parametrize("normed", [False, True], ids=["no norm", "norm"])
def test_a_stack_of_decoder_blocks_matches_pytorch(norm_first, normed, dtype):
    layer, last = (
        TransformerDecoderLayer(12, 3, 20, 0.0, "relu", norm_first),
        LayerNorm(12) if normed else None,
    )
    ours = TransformerDecoder(layer, 3, last)
    theirs = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(
            12, 3, 20, 0.0, "relu", norm_first=norm_first, batch_first=True
        ),
        3,
        torch.nn.LayerNorm(12) if normed else None,
    )
    agree_as_layers(
        ours,
        theirs,
        [X, MEMORY],
        dtype,
        lambda x, m: ours(x, m, memory_mask=SEEN, tgt_is_causal=True),
        lambda x, m: theirs(x, m, tgt_mask=FUTURE, memory_key_padding_mask=SEEN_PADDING),
    )


# ── The whole ─────────────────────────────────────────────────────────────────────────────────────

SOURCE, TARGET = (
    np.array([[3, 4, 5, 6, 2], [5, 3, 2, 0, 0]]),
    np.array([[1, 3, 3, 4], [1, 5, 2, 0]]),
)


class TorchTransformer(torch.nn.Transformer):
    """torch.nn.Transformer between embeddings and scores, with tinycv's parameter names."""

    def __init__(self, words, d, heads, depth, middle, norm_first):
        super().__init__(
            d, heads, depth, depth, middle, 0.0, norm_first=norm_first, batch_first=True
        )
        self.source_embed, self.target_embed = (
            torch.nn.Embedding(words, d),
            torch.nn.Embedding(words, d),
        )
        self.out = torch.nn.Linear(d, words)

    def placed(self, embed, ids):
        d, x = self.d_model, embed(ids)
        angle = torch.arange(ids.shape[1])[:, None] / 10000 ** (
            torch.arange(0, d, 2, dtype=torch.float64) / d
        )
        table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        return d**0.5 * x + table.to(x.dtype)

    def forward(self, source, target):
        padding, future = source == 0, ~torch.ones(2 * target.shape[1:], dtype=torch.bool).tril()
        return self.out(
            super().forward(
                self.placed(self.source_embed, source),
                self.placed(self.target_embed, target),
                tgt_mask=future,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )
        )


@both_orders
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_transformers_scores_and_gradients_match_pytorch(norm_first, dtype):
    ours = Transformer(7, 7, 12, 3, 2, 2, 20, 0.0, norm_first=norm_first)
    agree_as_layers(ours, TorchTransformer(7, 12, 3, 2, 20, norm_first), [SOURCE, TARGET], dtype)


class TorchGPT(torch.nn.Module):
    """GPT from PyTorch's encoder with a causal mask, learned positions and tied word embeddings,
    with tinycv's parameter names."""

    def __init__(self, words, length, d, heads, depth):
        super().__init__()
        self.embed, self.position = torch.nn.Embedding(words, d), torch.nn.Embedding(length, d)
        block = torch.nn.TransformerEncoderLayer(
            d, heads, 4 * d, 0.0, "gelu", norm_first=True, batch_first=True
        )
        self.blocks = torch.nn.TransformerEncoder(
            block, depth, torch.nn.LayerNorm(d), enable_nested_tensor=False
        )

    def forward(self, ids):
        future = ~torch.ones(2 * ids.shape[1:], dtype=torch.bool).tril()
        x = self.embed(ids) + self.position.weight[: ids.shape[1]]
        return self.blocks(x, mask=future) @ self.embed.weight.mT


def test_the_scores_and_gradients_of_gpt_match_pytorch(dtype):
    agree_as_layers(GPT(7, 6, 12, 3, 2, 0.0), TorchGPT(7, 6, 12, 3, 2), [SOURCE], dtype)


@both_orders
def test_in_eval_mode_the_encoder_matches_the_fast_path_of_pytorch_except_at_padding(
    norm_first, dtype
):
    ours = TransformerEncoder(TransformerEncoderLayer(12, 3, 20, 0.0, "relu", norm_first), 2)
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(
            12, 3, 20, 0.0, "relu", norm_first=norm_first, batch_first=True
        ),
        2,
        enable_nested_tensor=False,
    )
    theirs = randomised(theirs.to(getattr(torch, dtype))).eval()
    ours.to(dtype).load_state_dict(theirs.state_dict())
    x = X.astype(dtype)
    with torch.no_grad():
        equal(ours.eval()(Tensor(x)), theirs(torch.tensor(x)))
