"""The encoder block: where the norms stand, what masks hide, when dropout drops."""
from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.sequence import TransformerEncoderLayer
from tinycv.sequence.attention import causal_mask

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
SHIFT = np.random.default_rng(1).normal(size=(2, 2, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def seeded():
    tinycv.manual_seed(0)
    yield
    tinycv.manual_seed(0)


def block(norm_first=False, activation="relu", dropout=0.0):
    return TransformerEncoderLayer(8, 2, 16, dropout, activation, norm_first)


def test_post_norm_normalises_each_sum(device):
    layer, x = block().to(device), Tensor(X, device=device)
    middle = layer.norm1(x + layer.self_attn(x))
    assert (layer(x).numpy() == layer.norm2(middle + layer.linear2(layer.linear1(middle).relu())).numpy()).all()


def test_pre_norm_normalises_inside_the_branch(device):
    layer, x = block(norm_first=True).to(device), Tensor(X, device=device)
    middle = x + layer.self_attn(layer.norm1(x))
    end = middle + layer.linear2(layer.linear1(layer.norm2(middle)).relu())
    assert (layer(x).numpy() == end.numpy()).all()


def test_a_pre_norm_block_whose_branches_are_silent_is_the_identity(device):
    layer = block(norm_first=True).to(device)
    for last in (layer.self_attn.out_proj, layer.linear2):
        last.load_state_dict({name: np.zeros(t.shape) for name, t in last.state_dict().items()})
    assert (layer(Tensor(X, device=device)).numpy() == X).all()


def test_what_leaves_a_post_norm_block_has_mean_0_and_variance_1(device):
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
def test_the_causal_mask_given_as_a_mask_does_the_same(device, norm_first):
    layer, x = block(norm_first).to(device), Tensor(X, device=device)
    assert (layer(x, causal_mask(5)).numpy() == layer(x, is_causal=True).numpy()).all()


def test_without_a_mask_permuting_tokens_permutes_the_result(device):
    layer, order = block().to(device), [3, 0, 4, 1, 2]
    np.testing.assert_allclose(layer(Tensor(X[:, order], device=device)).numpy(),
                               layer(Tensor(X, device=device)).numpy()[:, order], rtol=1e-4, atol=1e-5)


def test_dropout_changes_the_result_in_training_alone(device):
    layer, x = block(dropout=0.5).to(device), Tensor(X, device=device)
    assert (layer(x).numpy() != layer(x).numpy()).any()
    layer.eval()
    assert (layer(x).numpy() == layer(x).numpy()).all()


def test_an_unknown_activation_is_refused_by_name():
    with pytest.raises(ValueError, match=r"activation is 'swish'.*'gelu', 'relu'"):
        block(activation="swish")


@pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])
def test_the_block_is_certified(norm_first):
    certify_layer(block(norm_first, "gelu"), X)
