"""Seq2Seq: padding changes nothing, step by step equals teacher forcing, and a small model learns
to reverse."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from certified import certify_layer
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import Tensor
from tinycv.data.text import EOS, PAD, SOS, Pairs, Vocabulary
from tinycv.nn.functional import log_softmax
from tinycv.optim import Adam
from tinycv.sequence import GPT, Seq2Seq, Transformer, exact_match, next_symbol_loss, seq2seq
from tinycv.sequence.decode import beam_search

SOURCES = [[3, 4, 5, 6, EOS], [7, EOS], [4, 4, 3, EOS]]
TARGETS = [[SOS, 5, EOS], [SOS, 3, 4, 5, 6, EOS], [SOS, 6, 6, EOS]]
KINDS = {
    f"{attention}, {cell}{', both ways' * both}": {
        "attention": attention,
        "cell": cell,
        "bidirectional": both,
    }
    for attention, cell, both in [
        (None, "lstm", False),
        (None, "gru", True),
        ("additive", "gru", True),
        ("additive", "lstm", False),
        ("location", "gru", True),
        ("location", "lstm", False),
        ("dot", "lstm", True),
        ("general", "gru", False),
    ]
}
# each attention, each cell and each number of directions
FEW = [
    "None, lstm",
    "additive, gru, both ways",
    "location, lstm",
    "dot, lstm, both ways",
    "general, gru",
]
LOOKING = [name for name in KINDS if "None" not in name]
everywhere = pytest.mark.parametrize(
    "device, kind",
    [("cpu", kind) for kind in KINDS] + [("gpu", kind) for kind in FEW],
    indirect=["device"],
)


def padded(rows):
    longest = max(map(len, rows))
    return np.array([row + [PAD] * (longest - len(row)) for row in rows])


SOURCE, TARGET = padded(SOURCES), padded(TARGETS)


def make(kind, device="cpu", **options):
    return Seq2Seq(8, 7, embedding_dim=4, hidden_size=6, **KINDS[kind], **options).to(device)


def near(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "device, layers, kind",
    [("cpu", layers, kind) for layers in (1, 2) for kind in KINDS]
    + [("gpu", 2, kind) for kind in FEW],
    indirect=["device"],
)
def test_a_padded_batch_equals_its_sentences_one_by_one(device, kind, layers):
    model = make(kind, device, num_layers=layers)
    batched = model(Tensor(SOURCE, device=device), Tensor(TARGET, device=device)).numpy()
    assert batched.shape == (*TARGET.shape, 7)
    for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = model(
            Tensor(np.array([source]), device=device), Tensor(np.array([target]), device=device)
        ).numpy()
        near(batched[i, : len(target)], alone[0])


@everywhere
def test_loss_and_gradients_do_not_depend_on_the_amount_of_padding(device, kind):
    model, slopes = make(kind, device), []
    for more in (0, 3):
        source, target = (
            Tensor(np.pad(a, ((0, 0), (0, more))), device=device) for a in (SOURCE, TARGET)
        )
        loss = next_symbol_loss(model, source, target)
        slopes.append(
            [loss.numpy()] + [g.numpy() for g in tinycv.grad(loss, list(model.parameters()))]
        )
    for a, b in zip(*slopes, strict=True):
        near(a, b)


@everywhere
def test_step_by_step_equals_the_whole_target_and_the_model_stores_no_state(device, kind):
    model = make(kind, device, num_layers=2)
    source, target = Tensor(SOURCE, device=device), Tensor(TARGET, device=device)
    scores, state = model(source, target), model.start(source)
    for t in range(TARGET.shape[1]):
        log_probs, after = model.step(target[:, t], state)
        again, _ = model.step(target[:, t], state)
        # the model did not store the step before
        assert (log_probs.numpy() == again.numpy()).all()
        near(log_probs.numpy(), log_softmax(scores[:, t]).numpy())
        state = after


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_depends_on_the_whole_source_but_not_on_later_target_symbols(kind):
    model, later, other = make(kind), TARGET.copy(), SOURCE.copy()
    later[:, 2:] = 4
    other[:, 0] = 5
    before, after, elsewhere = (
        model(Tensor(s), Tensor(t)).numpy()
        for s, t in ((SOURCE, TARGET), (SOURCE, later), (other, TARGET))
    )
    near(before[:, :2], after[:, :2])
    assert (before[:, 2:] != after[:, 2:]).any() and (before != elsewhere).any(axis=-1).all()


@everywhere
def test_the_free_running_model_reads_what_it_wrote(device, kind):
    """No score depends on later symbols, so the whole answer can be read at once."""
    model, source = make(kind, device), Tensor(SOURCE, device=device)
    written = model.translate(source, max_length=9)
    read = np.concatenate([np.full((3, 1), SOS), written[:, :-1]], axis=1)
    scores = model(source, Tensor(read, device=device)).numpy()
    # PAD and SOS are never written
    for row, best in zip(written.tolist(), EOS + scores[..., EOS:].argmax(-1), strict=True):
        expected = best.tolist()
        if EOS in expected:
            expected = expected[: expected.index(EOS) + 1]
        assert len(expected) == 9 or expected[-1] == EOS
        assert row == expected + [PAD] * (len(row) - len(expected))


@everywhere
def test_the_scores_of_a_beam_are_the_log_probabilities_of_its_answers(device, kind):
    """So each unfinished answer was continued from its own state, although it may have moved within
    the beam."""
    model, source = make(kind, device, num_layers=2), Tensor(SOURCE, device=device)
    found, likely = beam_search(model.step, model.start(source), 3, 5, beam=3, length_penalty=0.0)
    read = np.concatenate([np.full((3, 1), SOS), found[:, :-1]], axis=1)
    log_probs = log_softmax(model(source, Tensor(read, device=device))).numpy()
    each = np.take_along_axis(log_probs, found[..., None], axis=-1)[..., 0] * (found != PAD)
    near(each.sum(axis=-1), likely)
    assert model.translate(source, max_length=5, beam=3).shape[0] == 3


@pytest.mark.parametrize("kind", LOOKING)
def test_alignments_are_the_weights_of_free_running_and_are_0_on_padding(device, kind):
    model, source = make(kind, device), Tensor(SOURCE, device=device)
    written = model.translate(source, max_length=4)
    weights = model.alignments(source, written)
    assert weights.shape == (3, written.shape[1], SOURCE.shape[1])
    near(weights.sum(axis=-1), 1)
    assert (weights * (SOURCE == PAD)[:, None] == 0).all() and (weights[0] > 0).all()
    state, read = model.start(source), np.full((3, 1), SOS)
    for t in range(written.shape[1]):
        _, state, at = model.decoder(Tensor(read, device=device), state)
        near(at.numpy()[:, 0], weights[:, t])
        read = written[:, t : t + 1]


def test_location_aware_attention_receives_the_weights_of_the_previous_step():
    model = make("location, lstm")
    source, sos = Tensor(SOURCE), Tensor(np.full((3, 1), SOS))
    _, state, weights = model.decoder(sos, model.start(source))
    assert not model.start(source)["last"].numpy().any()
    assert (state["last"].numpy() == weights.numpy()[:, 0]).all()
    scores, elsewhere = (
        model.decoder(sos, {**state, "last": last})[0].numpy()
        for last in (state["last"], model.start(source)["last"])
    )
    assert (scores != elsewhere).all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_without_attention_the_decoder_receives_only_the_last_state(cell):
    model = Seq2Seq(8, 7, 4, 6, cell=cell)
    state = model.start(Tensor(SOURCE))
    parts = state["state"] if cell == "lstm" else (state["state"],)
    assert list(state) == ["state"] and all(part.shape == (3, 1, 6) for part in parts)
    last = model.encoder(Tensor(SOURCE))[0].numpy()[np.arange(3), [len(s) - 1 for s in SOURCES]]
    near(parts[0].numpy()[:, 0], last)


def test_two_directions_share_the_width_and_both_last_states_are_passed_on():
    model = Seq2Seq(8, 7, 4, 6, bidirectional=True, attention="dot")
    memory, (h, _), _ = model.encoder(Tensor(SOURCE))
    for i, source in enumerate(SOURCES):
        near(
            h.numpy()[i, 0],
            np.concatenate([memory.numpy()[i, len(source) - 1, :3], memory.numpy()[i, 0, 3:]]),
        )


def reversing(device, steps):
    """A small model after some steps, its sources and their targets."""
    rows = [[a, b, c] for a in (3, 4, 5) for b in (3, 4, 5) for c in (3, 4, 5)]
    source = Tensor(np.array([row + [EOS] for row in rows]), device=device)
    target = np.array([[SOS, *row[::-1], EOS] for row in rows])
    model = Seq2Seq(6, 6, 8, 16, attention="general").to(device)
    optimizer = Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        next_symbol_loss(model, source, Tensor(target, device=device)).backward()
        optimizer.step()
    return model, source, target


@pytest.mark.statistical
def test_a_small_one_learns_to_reverse():
    model, source, target = reversing("cpu", 60)
    for beam in (1, 3):
        written = model.translate(source, max_length=4, beam=beam)
        assert written.shape == (27, 4) and (written == target[:, 1:]).mean() > 0.9


def test_every_device_takes_the_same_steps(device):
    taken = []
    for place in ("cpu", device):
        tinycv.manual_seed(0)
        taken.append(reversing(place, 5)[0].state_dict())
    for name, weights in taken[0].items():
        near(taken[1][name].numpy(), weights.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Seq2Seq(8, 7, 4, 6),
        lambda: GPT(8, 20, 8, 2),
        lambda: Transformer(8, 7, 8, 2, 1, 1, 8),
    ],
    ids=["Seq2Seq", "GPT", "Transformer"],
)
def test_translate_and_exact_match_pass_the_beam_width_on(make, monkeypatch):
    model = make().eval()
    monkeypatch.setattr(
        sys.modules["tinycv.sequence.decode"],
        "beam_search",
        lambda *arguments: (arguments[2:], None),
    )
    assert model.translate(Tensor(SOURCE), 5, beam=7) == (3, 5, 7)
    monkeypatch.setattr(
        type(model),
        "translate",
        lambda model, source, longest, beam: np.full((len(source), 1), beam),
    )
    pairs = Pairs(SOURCE, np.array([[SOS, 7, PAD]] * 3), Vocabulary("abcde"), Vocabulary("abcd"))
    assert exact_match(model, pairs, beam=7).all() and not exact_match(model, pairs, beam=6).any()


def test_an_answer_is_correct_only_if_it_matches_to_the_last_symbol(device):
    model, words = make("general, gru", device), Vocabulary("abcde")
    written = model.translate(Tensor(SOURCE, device=device), max_length=6)
    truth = np.pad(written, ((0, 0), (1, 6 - written.shape[1])))
    longer, wrong = truth.copy(), truth.copy()
    longer[:, -1] = EOS if written.shape[1] < 6 else 7 - truth[:, -1]
    wrong[1, 1] = 7 - truth[1, 1]
    for target, expected in (
        (truth, [True] * 3),
        (wrong, [True, False, True]),
        (longer, [False] * 3),
    ):
        assert (
            exact_match(model, Pairs(SOURCE, target, words, words), at_once=2).tolist() == expected
        )


@pytest.mark.parametrize(
    "answer",
    [
        np.full((1, 2), 3),
        np.full((3, 6), 3),
        np.full((3, 1, 2), 3),
        np.full(3, 3),
        np.full((3, 2), 3.0),
        [[3, 2]] * 3,
        None,
        "abc",
    ],
)
def test_an_answer_of_a_wrong_shape_is_refused(answer):
    class Model(tinycv.nn.Linear):
        def translate(self, source, max_length, beam=1):
            return answer

    target, words = np.array([[SOS, 3, 3]] * 3), Vocabulary("abcde")
    with pytest.raises(
        (TypeError, ValueError),
        match=r"exact_match: translate returned .*integers \(3, at most 2\)",
    ):
        exact_match(Model(1, 1), Pairs(SOURCE, target, words, words))


@given(
    st.lists(st.lists(st.sampled_from([PAD, 3, 4]), min_size=5, max_size=5), min_size=1, max_size=3)
)
def test_a_source_with_padding_before_a_symbol_is_refused(rows):
    """With padding on the left, or a gap in the middle, the last symbols would not be read."""
    source, model = np.array(rows), Seq2Seq(8, 7, 2, 2)
    # sorted is stable, so it only moves PAD to the end
    ended = all(row == sorted(row, key=lambda symbol: symbol == PAD) for row in rows)
    if ended:
        assert model(source, np.full((len(rows), 1), SOS)).shape == (len(rows), 1, 7)
        return
    with pytest.raises(
        ValueError, match=r"Encoder: source: row \d has PAD \(0\) before its last symbol"
    ):
        model(source, np.full((len(rows), 1), SOS))


def test_padding_before_a_symbol_is_refused_on_a_gpu_too(cp):
    with pytest.raises(ValueError, match="Encoder: source: row 1 has PAD"):
        make("dot, lstm, both ways", "gpu").translate(
            Tensor(np.array([[3, 4, 2], [0, 4, 2]]), device="gpu"), 3
        )


def test_label_smoothing_gives_every_symbol_a_share_at_every_position_that_counts():
    model, counted = make("dot, lstm, both ways"), TARGET[:, 1:] != PAD
    log_p = log_softmax(model(Tensor(SOURCE), Tensor(TARGET[:, :-1]))).numpy()
    plain, smooth = (
        next_symbol_loss(model, Tensor(SOURCE), Tensor(TARGET), share).item()
        for share in (0.0, 0.1)
    )
    assert smooth == pytest.approx(
        0.9 * plain - 0.1 * log_p.mean(axis=-1)[counted].mean(), rel=1e-5
    )


@pytest.mark.parametrize("kind", ["additive, lstm", "location, lstm"])
def test_the_query_is_the_state_of_the_last_layer(kind):
    model, sos = make(kind, num_layers=2), Tensor(np.full((3, 1), SOS))
    before, looked = model.start(Tensor(SOURCE)), []
    for moved in ([0, 0], [1, 0], [0, 1]):
        h, c = before["state"]  # (B, L, H)
        h = h + np.array(moved, np.float32)[:, None]
        looked.append(model.decoder(sos, {**before, "state": (h, c)})[2].numpy())
    assert (looked[0] == looked[1]).all() and (looked[0] != looked[2])[:1].all()


def test_dropout_is_applied_to_the_inputs_of_recurrent_layers_and_of_the_output_layer(monkeypatch):
    fallen = []
    monkeypatch.setattr(
        seq2seq,
        "dropout",
        lambda x, share, training: fallen.append((x.shape, share, training)) or x,
    )
    model = make("dot, lstm, both ways", num_layers=2, dropout=0.25)
    model(Tensor(SOURCE), Tensor(TARGET))
    assert fallen == [((3, 5, 4), 0.25, True), ((3, 6, 4), 0.25, True), ((3, 6, 6), 0.25, True)]
    assert model.encoder.rnn.dropout == model.decoder.rnn.dropout == 0.25


@everywhere
def test_dropout_changes_the_scores_only_in_training(device, kind):
    model, inputs = (
        make(kind, device, dropout=0.5),
        (Tensor(SOURCE, device=device), Tensor(TARGET, device=device)),
    )
    assert (model(*inputs).numpy() != model(*inputs).numpy()).any()
    model.eval()
    assert (model(*inputs).numpy() == model(*inputs).numpy()).all()


def test_no_sentences_give_no_scores_and_one_symbol_is_enough():
    for attention in (None, "additive", "location", "general"):
        model = Seq2Seq(8, 7, 4, 6, attention=attention)
        assert model(Tensor(np.zeros((0, 3), int)), Tensor(np.zeros((0, 2), int))).shape == (
            0,
            2,
            7,
        )
        assert np.isfinite(
            model(Tensor(np.array([[EOS]])), Tensor(np.array([[SOS]]))).numpy()
        ).all()


def test_wrong_options_and_empty_sentences_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"attention is 'cosine'.*'additive', 'dot', 'general', 'location'"
    ):
        Seq2Seq(8, 7, 4, 6, attention="cosine")
    with pytest.raises(ValueError, match=r"cell is 'rnn'.*'gru', 'lstm'"):
        Seq2Seq(8, 7, 4, 6, cell="rnn")
    with pytest.raises(ValueError, match="hidden_size is 5; two directions"):
        Seq2Seq(8, 7, 4, 5, bidirectional=True)
    for source, target in ((SOURCE[:, :0], TARGET), (SOURCE, TARGET[:, :0])):
        with pytest.raises(ValueError, match=r"has shape \(3, 0\), no symbol at all"):
            Seq2Seq(8, 7, 4, 6, attention="location")(Tensor(source), Tensor(target))
    with pytest.raises(ValueError, match="no attention, so it has no weights"):
        Seq2Seq(8, 7, 4, 6).alignments(Tensor(SOURCE), TARGET)


@pytest.mark.parametrize("kind", FEW)
def test_the_whole_model_is_certified_to_second_order(kind):
    class Sizes(Seq2Seq):
        def __init__(self):
            super().__init__(8, 7, embedding_dim=2, hidden_size=2, **KINDS[kind])

    certify_layer(Sizes(), np.array([[7, EOS, PAD], [4, 3, EOS]]), np.array([[SOS, 3]] * 2))
