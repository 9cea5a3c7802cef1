"""Transformer blocks and stacks: the positions of the norms, masks, dropout, and step-by-step
writing."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer
from near import near
from seeds import SEED

import tinycv
from tinycv import Tensor, concatenate
from tinycv.nn import LayerNorm, Module
from tinycv.sequence import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    attention,
    causal_mask,
    length_mask,
    transformer,
)

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
SHIFT = np.random.default_rng(1).normal(size=(2, 2, 8)).astype(np.float32)
MEMORY = np.random.default_rng(2).normal(size=(2, 4, 8)).astype(np.float32)


def block(norm_first=False, activation="relu", dropout=0.0):
    return TransformerEncoderLayer(8, 2, 16, dropout, activation, norm_first)


def decoder_block(norm_first=False, activation="relu", dropout=0.0):
    return TransformerDecoderLayer(8, 2, 16, dropout, activation, norm_first)


def with_different_norms(layer):
    """Gives each norm its own numbers (all start as 1 and 0), so that a test can tell which norm is
    used where."""
    for p in layer.parameters():
        p.data = p.data + 0.3 * tinycv.randn(*p.shape).data
    return layer


def test_post_norm_normalises_each_sum(device):
    layer, x = with_different_norms(block()).to(device), Tensor(X, device=device)
    middle = layer.norm1(x + layer.self_attn(x))
    assert (
        layer(x).numpy()
        == layer.norm2(middle + layer.linear2(layer.linear1(middle).relu())).numpy()
    ).all()


def test_pre_norm_normalises_inside_the_branch(device):
    layer, x = with_different_norms(block(norm_first=True)).to(device), Tensor(X, device=device)
    middle = x + layer.self_attn(layer.norm1(x))
    end = middle + layer.linear2(layer.linear1(layer.norm2(middle)).relu())
    assert (layer(x).numpy() == end.numpy()).all()


def test_a_pre_norm_block_whose_branches_return_0_is_the_identity(device):
    layer = block(norm_first=True).to(device)
    for last in (layer.self_attn.out_proj, layer.linear2):
        last.load_state_dict({name: np.zeros(t.shape) for name, t in last.state_dict().items()})
    assert (layer(Tensor(X, device=device)).numpy() == X).all()


def test_the_output_of_a_post_norm_block_has_mean_0_and_variance_1(device):
    y = block().to(device)(Tensor(100 * X, device=device)).numpy()
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-3)


@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_a_causal_block_keeps_the_future_out_of_the_past(device, norm_first):
    layer, later = block(norm_first).to(device), X.copy()
    later[:, 3:] += SHIFT
    before, after = (layer(Tensor(x, device=device), is_causal=True).numpy() for x in (X, later))
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_is_causal_equals_the_causal_mask(device, norm_first):
    layer, x = block(norm_first).to(device), Tensor(X, device=device)
    assert (layer(x, causal_mask(5)).numpy() == layer(x, is_causal=True).numpy()).all()


def test_without_a_mask_permuting_tokens_permutes_the_result(device):
    layer, order = block().to(device), [3, 0, 4, 1, 2]
    np.testing.assert_allclose(
        layer(Tensor(X[:, order], device=device)).numpy(),
        layer(Tensor(X, device=device)).numpy()[:, order],
        rtol=1e-4,
        atol=1e-5,
    )


def test_dropout_changes_the_result_only_in_training(device):
    layer, x = block(dropout=0.5).to(device), Tensor(X, device=device)
    assert (layer(x).numpy() != layer(x).numpy()).any()
    layer.eval()
    assert (layer(x).numpy() == layer(x).numpy()).all()


@pytest.mark.parametrize(
    "make, widths",
    [(block, [8, 16, 8]), (decoder_block, [8, 8, 16, 8])],
    ids=["encoder", "decoder"],
)
def test_dropout_is_applied_to_every_branch_and_inside_the_mlp(monkeypatch, make, widths):
    """Dropout before a branch is added: Vaswani et al. 2017, section 5.4. Dropout inside the MLP
    follows PyTorch."""
    fallen = []
    for module in (attention, transformer):
        monkeypatch.setattr(
            module,
            "dropout",
            lambda x, share, training: fallen.append((x.shape[-1], share, training)) or x,
        )
    layer, memory = make(dropout=0.25), [] if make is block else [Tensor(MEMORY)]
    layer(Tensor(X), *memory)
    assert fallen == [(width, 0.25, True) for width in widths]


def test_an_unknown_activation_is_refused_by_name():
    with pytest.raises(ValueError, match=r"activation is 'swish'.*'gelu', 'relu'"):
        block(activation="swish")


@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_the_block_is_certified(norm_first):
    certify_layer(block(norm_first, "gelu"), X)


# ── the decoder block ─────────────────────────────────────────────────────────────────────────────

PADDING = length_mask([4, 2], 4)
both_orders = pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])


def decoder(norm_first=False):
    return TransformerDecoder(decoder_block(norm_first), 3, LayerNorm(8))


def test_a_post_norm_decoder_block_normalises_each_of_three_sums(device):
    layer, x, memory = (
        t.to(device) for t in (with_different_norms(decoder_block()), Tensor(X), Tensor(MEMORY))
    )
    first = layer.norm1(x + layer.self_attn(x, is_causal=True))
    second = layer.norm2(first + layer.multihead_attn(first, memory, attn_mask=PADDING))
    third = layer.norm3(second + layer.linear2(layer.linear1(second).relu()))
    result = layer(x, memory, memory_mask=PADDING, tgt_is_causal=True)
    np.testing.assert_allclose(result.numpy(), third.numpy(), rtol=1e-4, atol=1e-5)


def test_a_pre_norm_decoder_block_normalises_inside_each_of_three_branches(device):
    layer, x, memory = (
        t.to(device)
        for t in (with_different_norms(decoder_block(norm_first=True)), Tensor(X), Tensor(MEMORY))
    )
    first = x + layer.self_attn(layer.norm1(x))
    second = first + layer.multihead_attn(layer.norm2(first), memory)
    third = second + layer.linear2(layer.linear1(layer.norm3(second)).relu())
    np.testing.assert_allclose(layer(x, memory).numpy(), third.numpy(), rtol=1e-4, atol=1e-5)


@both_orders
def test_a_decoder_attends_to_its_memory_but_not_to_the_padding(device, norm_first):
    layer, x = decoder_block(norm_first).to(device), Tensor(X, device=device)
    hidden, shown = MEMORY.copy(), MEMORY.copy()
    hidden[1, 2:] += SHIFT[1]
    shown[1, :2] += SHIFT[1]
    first, second, third = (
        layer(x, Tensor(m, device=device), memory_mask=PADDING).numpy()
        for m in (MEMORY, hidden, shown)
    )
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert not np.allclose(first[1], third[1])


@both_orders
def test_a_decoder_step_by_step_equals_the_decoder_at_once(device, norm_first):
    stack, x, memory = (
        t.to(device) for t in (with_different_norms(decoder(norm_first)), Tensor(X), Tensor(MEMORY))
    )
    whole = stack(x, memory, memory_mask=PADDING, tgt_is_causal=True).numpy()
    remembered, past = stack.remember(memory), [None] * 3
    for start, end in ((0, 1), (1, 2), (2, 5)):
        y, past = stack.step(x[:, start:end], remembered, past, PADDING)
        np.testing.assert_allclose(y.numpy(), whole[:, start:end], rtol=1e-4, atol=1e-5)


@both_orders
def test_a_causal_encoder_step_by_step_equals_the_encoder_at_once(device, norm_first):
    stack, x = (
        with_different_norms(TransformerEncoder(block(norm_first), 2)).to(device),
        Tensor(X, device=device),
    )
    whole, past = stack(x, is_causal=True).numpy(), [None, None]
    for t in range(5):
        y, past = stack.step(x[:, t : t + 1], past)
        np.testing.assert_allclose(y.numpy(), whole[:, t : t + 1], rtol=1e-4, atol=1e-5)


@both_orders
def test_the_maps_of_a_block_are_computed_from_the_output_of_the_blocks_before(norm_first):
    stack, x = with_different_norms(TransformerEncoder(block(norm_first), 2)), Tensor(X)
    for found, shown in zip(
        stack.attention_maps(x, is_causal=True),
        (x, stack.layers[0](x, is_causal=True)),
        strict=True,
    ):
        layer = stack.layers[0 if shown is x else 1]
        near(found.numpy(), layer.weights(shown, is_causal=True).numpy())


def test_every_norm_of_a_block_has_the_given_eps():
    layer = TransformerDecoderLayer(8, 2, 16, layer_norm_eps=0.5)
    assert [norm.eps for norm in (layer.norm1, layer.norm2, layer.norm3)] == [0.5] * 3


def test_names_in_a_stack_follow_pytorch():
    names = set(decoder().state_dict())
    assert {
        "layers.0.self_attn.in_proj_weight",
        "layers.2.multihead_attn.out_proj.bias",
        "layers.1.norm3.weight",
        "layers.0.linear2.bias",
        "norm.weight",
    } <= names and len(names) == 3 * (4 + 4 + 4 + 6) + 2


def test_a_stack_does_not_change_the_block_it_copies():
    original = block()
    before = {name: t.numpy().copy() for name, t in original.state_dict().items()}
    stack = TransformerEncoder(original, 2)
    for p in stack.parameters():
        p.data[...] = 7
    assert all((t.numpy() == before[name]).all() for name, t in original.state_dict().items())


@pytest.mark.parametrize(
    "stack, layer", [(TransformerEncoder, block), (TransformerDecoder, decoder_block)]
)
def test_a_stack_of_no_blocks_is_refused(stack, layer):
    with pytest.raises(ValueError, match="num_layers is 0"):
        stack(layer(), 0)


@pytest.mark.statistical
def test_at_the_start_gradients_of_the_last_block_shrink_with_depth_in_pre_norm_not_in_post_norm():
    """Xiong et al. 2020, theorem 1 and figure 3: the reason for the warm-up."""

    def length(norm_first, depth, draw):
        rng = np.random.default_rng(draw)
        x, weight = rng.normal(size=(2, 16, 8, 32)).astype(np.float32)
        tinycv.manual_seed(draw)
        stack = TransformerEncoder(
            TransformerEncoderLayer(32, 4, 64, 0.0, "relu", norm_first),
            depth,
            LayerNorm(32) if norm_first else None,
        )
        (stack(Tensor(x)) * weight).sum().backward()
        return float(np.linalg.norm(stack.layers[-1].linear2.weight.grad.numpy()))

    draws = range(8 * SEED, 8 * SEED + 8)
    post, pre = (
        np.mean([length(norm_first, 16, draw) / length(norm_first, 2, draw) for draw in draws])
        for norm_first in (False, True)
    )
    assert 0.65 < post < 1.35
    assert 0.33 < pre < 0.52  # √(2 / 16) is 0.35


@both_orders
def test_the_decoder_block_is_certified(norm_first):
    certify_layer(decoder_block(norm_first, "gelu"), X[:, :3], MEMORY)


def test_a_decoder_step_after_a_past_is_certified():
    class Steps(Module):
        def __init__(self):
            self.stack = TransformerDecoder(
                TransformerDecoderLayer(8, 2, 8, 0.0, "gelu", norm_first=True), 1, LayerNorm(8)
            )

        def forward(self, x, memory):
            remembered = self.stack.remember(memory)
            y, past = self.stack.step(x[:, :2], remembered, [None], PADDING)
            return concatenate([y, self.stack.step(x[:, 2:], remembered, past, PADDING)[0]], axis=1)

    certify_layer(Steps(), X[:, :3], MEMORY)
