"""The Transformer: padding changes nothing, word by word equals all at once, and it learns."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from certified import certify_layer
from seeds import SEED

import tinycv
from tinycv import Tensor
from tinycv.nn.functional import cross_entropy, log_softmax
from tinycv.optim import Adam, warmup_inverse_sqrt
from tinycv.sequence import Transformer, encoder_decoder

SOURCE = np.array([[3, 4, 5, 6, 2], [5, 3, 2, 0, 0], [2, 0, 0, 0, 0]])
TARGET = np.array([[1, 3, 3, 4], [1, 5, 2, 0], [1, 4, 3, 2]])
LENGTHS = 5, 3, 1


def small(norm_first=False, dropout=0.0, depth=2):
    return Transformer(7, 6, 8, 2, depth, depth, 16, dropout, norm_first=norm_first).eval()


both_orders = pytest.mark.parametrize("norm_first", [False, True], ids=["post", "pre"])


@both_orders
def test_a_padded_batch_equals_its_sequences_one_by_one(device, norm_first):
    model = small(norm_first).to(device)
    batched = model(Tensor(SOURCE, device=device), Tensor(TARGET, device=device)).numpy()
    for i, n in enumerate(LENGTHS):
        alone = model(
            Tensor(SOURCE[i : i + 1, :n], device=device), Tensor(TARGET[i : i + 1], device=device)
        ).numpy()
        np.testing.assert_allclose(batched[i], alone[0], rtol=1e-4, atol=1e-5)


def test_padding_of_the_target_changes_no_score_before_it():
    model, other = small(), TARGET.copy()
    other[1, 3:] = 5
    before, after = (model(SOURCE, target).numpy()[1] for target in (TARGET, other))
    np.testing.assert_allclose(before[:3], after[:3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[3], after[3])


@both_orders
def test_word_by_word_equals_all_at_once(device, norm_first):
    model, source, target = (
        small(norm_first).to(device),
        Tensor(SOURCE, device=device),
        Tensor(TARGET, device=device),
    )
    whole, state = model(source, target).numpy(), model.start(source)
    for t in range(4):
        scores, state = model.step(target[:, t], state)
        np.testing.assert_allclose(
            scores.numpy(), log_softmax(Tensor(whole[:, t])).numpy(), rtol=1e-4, atol=1e-5
        )


def test_greedy_writes_the_most_likely_word_at_each_step(device):
    model, source = small().to(device), Tensor(SOURCE, device=device)
    written = model.translate(source, 6)
    assert isinstance(written, np.ndarray) and written.dtype == np.int64 and written.shape[1] <= 6
    read = np.concatenate([np.ones((3, 1), np.int64), written[:, :-1]], axis=1)
    scores = model(source, Tensor(read, device=device)).numpy()
    best = scores[:, :, 2:].argmax(axis=-1) + 2  # PAD and SOS are never written
    for row, words in zip(written, best, strict=True):
        end = int((row == 2).argmax()) + 1 if (row == 2).any() else len(row)
        assert (row[:end] == words[:end]).all() and (row[end:] == 0).all()


def test_a_beam_of_all_sentences_finds_the_most_likely(device):
    model = small().to(device)
    found = tuple(model.translate(Tensor(SOURCE[:1], device=device), 3, beam=100)[0].tolist())
    sentences = [(*words, 2) for n in range(3) for words in product((3, 4, 5), repeat=n)]
    read = np.array([(1, *words, 0, 0)[:3] for words in sentences])
    log_p = log_softmax(
        model(
            Tensor(np.repeat(SOURCE[:1], len(read), axis=0), device=device),
            Tensor(read, device=device),
        )
    )
    # Wu et al. 2016, eq. 14
    penalties = [((5 + len(words)) / 6) ** 0.6 for words in sentences]
    scores = [
        sum(row[t, word] for t, word in enumerate(words)) / penalty
        for row, words, penalty in zip(log_p.numpy(), sentences, penalties, strict=True)
    ]
    assert found == sentences[int(np.argmax(scores))]


def test_maps_are_probabilities_and_0_on_padding_and_future(device):
    maps = (
        small()
        .to(device)
        .attention_maps(Tensor(SOURCE, device=device), Tensor(TARGET, device=device))
    )
    sizes = {"encoder": (3, 2, 5, 5), "decoder": (3, 2, 4, 4), "cross": (3, 2, 4, 5)}
    assert {name: [m.shape for m in found] for name, found in maps.items()} == {
        n: [s, s] for n, s in sizes.items()
    }
    for found in maps.values():
        for m in found:
            np.testing.assert_allclose(m.numpy().sum(axis=-1), 1, rtol=1e-5)
    for name in ("encoder", "cross"):
        assert all(
            (m.numpy()[i, :, :, n:] == 0).all() for m in maps[name] for i, n in enumerate(LENGTHS)
        )
    assert all((np.triu(m.numpy(), 1) == 0).all() for m in maps["decoder"])


@both_orders
def test_the_maps_of_the_last_block_reproduce_its_output(norm_first):
    model = small(norm_first, depth=1)
    # make the norms different, since they all start equal
    for p in model.parameters():
        p.data = p.data + 0.3 * tinycv.randn(*p.shape).data
    (cross,), layer = model.attention_maps(SOURCE, TARGET)["cross"], model.decoder.layers[0]
    memory, mask = model.encode(SOURCE)
    x = model.embed_with_positions(model.target_embed, TARGET)
    x = layer.post_norm(
        layer.norm1, x + layer.self_attn(layer.pre_norm(layer.norm1, x), is_causal=True)
    )
    v = layer.multihead_attn.remember(memory)[1]
    found = layer.multihead_attn.out_proj(layer.multihead_attn.merge_heads(cross @ v))
    attended = layer.multihead_attn(layer.pre_norm(layer.norm2, x), memory, attn_mask=mask)
    np.testing.assert_allclose(found.numpy(), attended.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "source, target", [((0, 3), (0, 2)), ((2, 0), (2, 2)), ((2, 3), (2, 0)), ((2, 1), (2, 1))]
)
def test_empty_batches_sources_and_targets_and_single_words_work(device, source, target):
    model = small().to(device)
    source, target = (Tensor(np.full(shape, 3), device=device) for shape in (source, target))
    y = model(source, target).numpy()
    assert y.shape == (*target.shape, 6) and np.isfinite(y).all()
    assert model.translate(source, 4).shape[0] == len(source)


def test_dropout_is_applied_only_in_training():
    model = small(dropout=0.5)
    assert (model(SOURCE, TARGET).numpy() == model(SOURCE, TARGET).numpy()).all()
    model.train()
    assert (model(SOURCE, TARGET).numpy() != model(SOURCE, TARGET).numpy()).any()


def test_dropout_is_applied_to_words_with_positions_of_source_and_target(monkeypatch):
    fallen = []
    monkeypatch.setattr(
        encoder_decoder, "dropout", lambda x, *options: fallen.append((x.shape, *options)) or x
    )
    small(dropout=0.25).train()(SOURCE, TARGET)
    assert fallen == [((3, 5, 8), 0.25, True), ((3, 4, 8), 0.25, True)]


@pytest.mark.statistical
def test_embeddings_start_about_as_large_as_the_positions_added_to_them():
    """N(0, 1/d) times √d has variance 1; sines and cosines have 1/2."""
    model = Transformer(500, 400, 64, 2, 1, 1, 8)
    for embed in (model.source_embed, model.target_embed):
        # 5.6 standard errors
        assert (8 * embed.weight.numpy()).std() == pytest.approx(1, rel=0.025)


def test_no_two_blocks_start_equal():
    weights = [
        layer.linear1.weight.numpy()
        for stack in (small().encoder, small().decoder)
        for layer in stack.layers
    ]
    assert all((a != b).any() for i, a in enumerate(weights) for b in weights[:i])


def reversing(device, steps):
    """A model after some steps, its sources, their targets, and the losses on the way."""
    rng = np.random.default_rng(SEED)
    words = rng.integers(3, 6, (27 * 2, 3))
    source = np.concatenate([words, np.full((54, 1), 2)], axis=1)
    target = np.concatenate(
        [np.ones((54, 1), np.int64), words[:, ::-1], np.full((54, 1), 2)], axis=1
    )
    model = Transformer(6, 6, 16, 2, 1, 1, 32, 0.0, norm_first=True).to(device)
    optimizer, schedule = Adam(model.parameters(), lr=1e-2), warmup_inverse_sqrt(20)
    source, losses = Tensor(source, device=device), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * schedule(step)
        scores = model(source, Tensor(target[:, :-1], device=device))
        loss = cross_entropy(
            scores.reshape((-1, 6)),
            Tensor(target[:, 1:].reshape(-1), device=device),
            ignore_index=0,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), source, target, losses


@pytest.mark.statistical
def test_the_transformer_learns_to_reverse_three_words():
    model, source, target, _ = reversing("cpu", 80)
    written = model.translate(source, 4)
    assert written.shape == (54, 4) and (written == target[:, 1:]).mean() > 0.9


def test_every_device_takes_the_same_steps(device):
    taken = []
    for target_device in ("cpu", device):
        tinycv.manual_seed(0)
        taken.append(reversing(target_device, 8)[3])
    np.testing.assert_allclose(taken[1], taken[0], rtol=1e-4)
    assert taken[0][-1] < 0.9 * taken[0][0]


@both_orders
def test_the_whole_transformer_is_certified(norm_first):
    model = Transformer(5, 5, 4, 2, 1, 1, 6, 0.0, "gelu", norm_first)
    certify_layer(model, SOURCE[:2, 2:] % 5, TARGET[:2, :3] % 5)
