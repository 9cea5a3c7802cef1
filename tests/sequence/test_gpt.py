"""GPT: no score depends on later words, and an answer continues the question."""

from __future__ import annotations

import numpy as np
import pytest
from certified import certify_layer

from tinycv import Tensor
from tinycv.nn.functional import log_softmax
from tinycv.sequence import GPT, gpt

IDS = np.array([[3, 4, 5, 1, 3, 2], [5, 5, 3, 1, 4, 4]])


def small(dropout=0.0):
    return GPT(6, 12, 8, 2, 2, dropout).eval()


def test_no_score_depends_on_later_words(device):
    model, other = small().to(device), IDS.copy()
    other[:, 4:] = 5
    before, after = (model(Tensor(ids, device=device)).numpy() for ids in (IDS, other))
    np.testing.assert_allclose(before[:, :4], after[:, :4], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[:, 4:], after[:, 4:])


def test_word_by_word_equals_all_at_once(device):
    model, ids = small().to(device), Tensor(IDS, device=device)
    whole = log_softmax(model(ids)).numpy()
    past = model.blocks.step(model.embed_with_positions(ids[:, :2]), [None, None])[1]
    for t in range(2, 6):
        scores, past = model.step(ids[:, t], past)
        np.testing.assert_allclose(scores.numpy(), whole[:, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beam", [1, 2])
def test_an_answer_continues_the_question(device, beam):
    model = small().to(device)
    answer = model.translate(Tensor(IDS[:, :3], device=device), 5, beam)
    assert answer.dtype == np.int64 and answer.shape[0] == 2 and answer.shape[1] <= 5
    text = np.concatenate([IDS[:, :3], np.ones((2, 1), np.int64), answer], axis=1)
    if beam == 1:
        first = model(Tensor(text[:, :4], device=device)).numpy()[:, -1].argmax(axis=-1)
        assert (answer[:, 0] == first).all()


def test_more_words_than_max_length_are_refused():
    with pytest.raises(ValueError, match="positions for 12 tokens"):
        small()(np.full((1, 13), 3))


def test_no_texts_and_single_words_work(device):
    model = small().to(device)
    assert model(Tensor(np.zeros((0, 3), np.int64), device=device)).shape == (0, 3, 6)
    assert model(Tensor(np.array([[1]]), device=device)).shape == (1, 1, 6)


def test_dropout_is_applied_to_words_with_positions(monkeypatch):
    fallen = []
    monkeypatch.setattr(
        gpt, "dropout", lambda x, share, training: fallen.append((x.shape, share, training)) or x
    )
    small(dropout=0.25).train()(IDS)
    assert fallen == [((2, 6, 8), 0.25, True)]


def test_gpt_is_certified():
    certify_layer(GPT(6, 4, 4, 2, 1, 0.0), IDS[:, :4])
