"""Attention, the encoder block and a whole ViT compared with PyTorch, with weights loaded by name
in both directions."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, agree_as_layers, equal, randomised

from tinycv import Tensor
from tinycv.nn.functional import cross_entropy
from tinycv.sequence import (
    MultiheadAttention,
    TransformerEncoderLayer,
    scaled_dot_product_attention,
)
from tinycv.vision import ViT

RNG = np.random.default_rng(0)
Q, K, V = (
    RNG.normal(size=(2, 3, 5, 4)),
    RNG.normal(size=(2, 3, 7, 4)),
    RNG.normal(size=(2, 3, 7, 6)),
)
X, MEMORY = RNG.normal(size=(2, 5, 12)), RNG.normal(size=(2, 7, 12))
MASK = RNG.random((5, 7)) < 0.6
# a query that may attend to nothing gives NaN in PyTorch, and 0 here
MASK[:, 0] = True
SQUARE = MASK[:, :5]

pytestmark = pytest.mark.parametrize("dtype", DTYPES)

# PyTorch has two conventions: in scaled_dot_product_attention, True means "may attend", as here; in
# MultiheadAttention and TransformerEncoderLayer, True means "may not attend". That is why the masks
# of these two are inverted with ~ below.
HIDDEN, HIDDEN_SQUARE = ~torch.tensor(MASK), ~torch.tensor(SQUARE)
FUTURE = ~torch.ones(5, 5, dtype=torch.bool).tril()


# ── attention ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "mask, causal", [(None, False), (MASK, False), (None, True)], ids=["all", "mask", "causal"]
)
def test_scaled_dot_product_attention_matches_pytorch(mask, causal, dtype):
    theirs = torch.nn.functional.scaled_dot_product_attention
    agree(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, mask, causal),
        lambda q, k, v: theirs(
            q, k, v, None if mask is None else torch.tensor(mask), is_causal=causal
        ),
        [Q, K, V],
        dtype,
    )


def test_a_float_mask_added_to_the_scores_as_in_alibi_matches_pytorch(dtype):
    slopes = 2.0 ** -np.arange(1, 4)
    # (heads, T, S)
    added = -slopes[:, None, None] * np.abs(np.arange(5)[:, None] - np.arange(7))
    theirs = torch.nn.functional.scaled_dot_product_attention
    agree(
        scaled_dot_product_attention,
        lambda q, k, v, mask: theirs(q, k, v, attn_mask=mask),
        [Q, K, V, added],
        dtype,
    )


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    "options, theirs_options",
    [
        ({}, {}),
        ({"attn_mask": SQUARE}, {"attn_mask": HIDDEN_SQUARE}),
        ({"is_causal": True}, {"attn_mask": FUTURE}),
        ({"attn_mask": SQUARE, "is_causal": True}, {"attn_mask": HIDDEN_SQUARE | FUTURE}),
    ],
    ids=["all", "mask", "causal", "both"],
)
def test_self_attention_matches_pytorch(bias, options, theirs_options, dtype):
    ours, theirs = (
        MultiheadAttention(12, 3, bias=bias),
        torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True),
    )
    agree_as_layers(
        ours,
        theirs,
        [X],
        dtype,
        lambda x: ours(x, **options),
        lambda x: theirs(x, x, x, **theirs_options)[0],
    )


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "mask"])
def test_cross_attention_matches_pytorch(mask, dtype):
    ours, theirs = MultiheadAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    hidden = None if mask is None else HIDDEN
    agree_as_layers(
        ours,
        theirs,
        [X, MEMORY, MEMORY + 1],
        dtype,
        lambda q, k, v: ours(q, k, v, mask),
        lambda q, k, v: theirs(q, k, v, attn_mask=hidden)[0],
    )


def test_attention_weights_match_pytorch(dtype):
    ours, theirs = MultiheadAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    agree_as_layers(
        ours,
        theirs,
        [X, MEMORY],
        dtype,
        lambda q, k: ours.weights(q, k, MASK),
        lambda q, k: theirs(q, k, k, attn_mask=HIDDEN, average_attn_weights=False)[1],
    )


# ── the encoder block ─────────────────────────────────────────────────────────────────────────────


def blocks(norm_first, activation):
    return (
        TransformerEncoderLayer(12, 3, 20, 0.0, activation, norm_first),
        torch.nn.TransformerEncoderLayer(
            12, 3, 20, 0.0, activation, norm_first=norm_first, batch_first=True
        ),
    )


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize(
    "options, hidden",
    [({}, None), ({"src_mask": SQUARE}, HIDDEN_SQUARE), ({"is_causal": True}, FUTURE)],
    ids=["all", "mask", "causal"],
)
def test_the_encoder_block_with_the_weights_of_pytorch_matches_it(
    activation, norm_first, options, hidden, dtype
):
    ours, theirs = blocks(norm_first, activation)
    agree_as_layers(
        ours, theirs, [X], dtype, lambda x: ours(x, **options), lambda x: theirs(x, src_mask=hidden)
    )


@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_the_encoder_block_of_pytorch_with_our_weights_matches_ours(norm_first, dtype):
    ours, theirs = blocks(norm_first, "gelu")
    ours.to(dtype)
    theirs.to(getattr(torch, dtype)).load_state_dict(
        {name: torch.tensor(t.numpy()) for name, t in ours.state_dict().items()}, strict=True
    )
    mine = dict(ours.named_parameters())
    agree(
        ours, theirs, [X], dtype, [(name, (mine[name], p)) for name, p in theirs.named_parameters()]
    )


# ── the whole network ─────────────────────────────────────────────────────────────────────────────


class TorchViT(torch.nn.Module):
    """The ViT of Dosovitskiy et al. 2021 from PyTorch layers, with tinycv's parameter names."""

    def __init__(self, patch, count, channels, dim, depth, heads, mlp_dim, classes):
        super().__init__()
        self.patch = patch
        self.patch_embed = torch.nn.Linear(channels * patch * patch, dim)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, count + 1, dim))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                dim, heads, mlp_dim, 0.0, "gelu", norm_first=True, batch_first=True
            )
            for _ in range(depth)
        )
        self.norm = torch.nn.LayerNorm(dim)
        self.head = torch.nn.Linear(dim, classes)

    def forward(self, images):
        # (B, N, C P P)
        patches = torch.nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        x = (
            torch.cat([self.cls_token.expand(len(images), 1, -1), self.patch_embed(patches)], 1)
            + self.pos_embed
        )
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def both_vits():
    ours = ViT(
        image_size=12, patch_size=4, num_classes=5, channels=3, dim=16, depth=3, heads=4, mlp_dim=24
    )
    return ours, TorchViT(4, 9, 3, 16, 3, 4, 24, 5)


IMAGES, LABELS = RNG.normal(size=(6, 3, 12, 12)), np.array([0, 4, 2, 1, 3, 4])


def test_the_scores_and_gradients_of_a_vit_match_pytorch(dtype):
    agree_as_layers(*both_vits(), [IMAGES], dtype)


def test_the_loss_of_a_vit_and_its_gradients_match_pytorch(dtype):
    ours, theirs = both_vits()
    labels = torch.tensor(LABELS)
    agree_as_layers(
        ours,
        theirs,
        [IMAGES],
        dtype,
        lambda x: cross_entropy(ours(x), LABELS, label_smoothing=0.1),
        lambda x: torch.nn.functional.cross_entropy(theirs(x), labels, label_smoothing=0.1),
    )


def test_a_vit_in_eval_mode_matches_the_fast_path_of_pytorch(dtype):
    ours, theirs = both_vits()
    theirs = randomised(theirs.to(getattr(torch, dtype))).eval()
    ours.to(dtype).load_state_dict(theirs.state_dict())
    images = IMAGES.astype(dtype)
    with torch.no_grad():
        equal(ours.eval()(Tensor(images)), theirs(torch.tensor(images)))
