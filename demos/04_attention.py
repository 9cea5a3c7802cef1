"""04 · What does attention (Bahdanau, Luong) look at?
python demos/04_attention.py      9 min on one core

A sequence-to-sequence decoder with attention can look back at every symbol that was read. Here it
translates the lecture's sentences, which use the same Chinese characters in different orders, and
dates. The same network without attention, which has only one vector, learns the dates too. Then
three networks write strings in reverse, up to twice as long as any string in training: one without
attention, one with Bahdanau's additive attention, which finds a symbol by its content, and one with
location-aware attention, which also knows where it looked last. The picture shows where the decoder
looked while it wrote, and how many strings came out right at each length. --full trains from three
seeds.
Read first: tinycv/sequence/align.py, seq2seq.py.
Bahdanau et al. 2015, figure 3; Luong et al. 2015, section 3.1; Chorowski et al. 2015, section 2.2.
"""

from dataclasses import replace

import numpy as np

import tinycv
from tinycv.data import DataLoader, alignment_error, dates, lecture, reversal
from tinycv.optim import Adam, clip_grad_norm_, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("04_attention", __doc__)


# %% Model
def new(pairs, attention, hidden, dropout):
    """The same network with attention or without it. Its state has ``hidden`` numbers, half of
    them for each reading direction."""
    tinycv.manual_seed(show.seed)
    return Seq2Seq(
        len(pairs.source_words),
        len(pairs.target_words),
        embedding_dim=32,
        hidden_size=hidden,
        bidirectional=True,
        attention=attention,
        dropout=dropout,
    ).to(show.device)


# %% Training: the whole loop
def train(
    pairs, number_of_steps, attention="general", hidden=32, batch_size=64, rate=1e-2, dropout=0.0
):
    """A new model, trained for ``number_of_steps``, rounded down to whole epochs.

    attention: "general" is Luong's bilinear score, "additive" is Bahdanau's, "location" is
    Chorowski's, and None leaves attention out.
    """
    model = new(pairs, attention, hidden, dropout)
    loader = DataLoader(
        pairs.source, pairs.target, batch_size=batch_size, seed=show.seed, drop_last=True
    )
    epochs = max(1, show.choose(quick=2, default=number_of_steps) // len(loader))
    optimizer = Adam(model.parameters(), lr=rate)
    schedule = warmup_cosine(epochs * len(loader), warmup=50)
    for step, (source, target) in steps(loader, epochs, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = next_symbol_loss(model, source, target)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % len(loader) == 0:
            epoch = (step + 1) // len(loader)
            say(f"epoch {epoch}/{epochs}  loss {read_loss(loss, step):.4g}")
    return model.eval()


def alignments_of(model, pairs):
    """Where the model looks as it writes each symbol of the true answers: (N, T, S)."""
    found = []
    for part in np.array_split(np.arange(len(pairs)), 1 + len(pairs) // 500):
        source = tinycv.Tensor(pairs.source[part], device=show.device)
        found.append(model.alignments(source, pairs.target[part, 1:]))
    return np.concatenate(found)


def share_right(model, pairs, beam=1):
    """The share of answers without a mistake."""
    return exact_match(model, pairs, beam).mean()


# %% The lecture's sentences: in another order, the same characters mean something else. Beijing and
# Tianjin never meet in a training sentence
def as_bags(pairs):
    """The same pairs with the characters of each sentence sorted: their order is lost."""
    return replace(pairs, source=-np.sort(-pairs.source))  # PAD, the smallest, stays last


pairs, held_out = lecture(show.seed)
pairs = pairs[: show.choose(quick=64)]
test = held_out[: show.choose(quick=64)]
reader = train(pairs, 2000, hidden=64, batch_size=32, dropout=0.3)
bag_reader = train(as_bags(pairs), 2000, hidden=64, batch_size=32, dropout=0.3)
metric = "the lecture's sentences, held-out combinations, share right"
show.measured(metric, share_right(reader, test), target=">= 1")
metric = "the same network, characters sorted (a bag of words), share right"
show.measured(metric, share_right(bag_reader, as_bags(test)))

# %% Dates: written in 20 Chinese and English formats, to be written as 1976-04-16. The days of the
# test are in no training pair
pairs, days = dates(show.seed)
pairs = pairs[: show.choose(quick=64)]
days = days[: show.choose(quick=64)]
without = train(pairs, 1200, attention=None)
translator = train(pairs, 1200)
published = "Bahdanau et al. 2015, trained to 50 words: BLEU 17.82 without, 26.75 with"
show.measured("unseen dates, share right", share_right(translator, days), target=">= 0.995")
metric = "unseen dates without attention, share right"
show.measured(f"{metric}, greedy", share_right(without, days), published)
show.measured(f"{metric}, beam of 4", share_right(without, days, beam=4), published)
weights = alignments_of(translator, days)
metric = "copied digits of dates, alignment error"
date_error = alignment_error(weights, days, 0)
show.measured(metric, date_error, target="<= 0.05")
error = alignment_error(weights, days, 1)
show.measured(f"{metric}, neighbours allowed", error, target="<= 0.05")

# %% Strings in reverse: trained on 1 to 20 letters, tested on up to 40. Without attention the
# network trains six times as long
longest = show.choose(quick=4, default=20)
lengths = show.choose(quick=[2, 4, 8], default=[2, 5, 10, 15, 20, 22, 25, 30, 35, 40])
count = show.choose(quick=64, default=192_000)
tested = show.choose(quick=8, default=200)
strings = reversal(range(1, longest + 1), n=count, seed=show.seed)
unseen = [reversal([length], n=tested, seed=100 + show.seed) for length in lengths]


def reverser(attention, number_of_steps):
    """A model trained on strings, each of which it sees once."""
    return train(
        strings[: 64 * number_of_steps],
        number_of_steps,
        attention=attention,
        hidden=128,
        rate=5e-3,
    )


reversers = {
    "no attention": reverser(attention=None, number_of_steps=3000),
    "additive (Bahdanau)": reverser(attention="additive", number_of_steps=500),
    "with location (Chorowski)": reverser(attention="location", number_of_steps=500),
}
targets = {"no attention": ">= 0.3", "with location (Chorowski)": "<= 0.05"}
by_length = {}
for name, model in reversers.items():
    found = [share_right(model, pairs) for pairs in unseen]
    by_length[name] = found
    metric = f"in reverse, {name}: share right, at lengths {', '.join(map(str, lengths))}"
    show.measured(metric, found)
    lost = found[lengths.index(longest)] - found[lengths.index(2 * longest)]
    metric = f"in reverse, {name}: share lost from {longest} to {2 * longest} letters"
    show.measured(metric, lost, target=targets.get(name, ""))

# %% Which sentences the picture shows, with their words in English
FROM_BEIJING = {
    "我": "I",
    "要": "will",
    "离开": "leave",
    "北京": "Beijing",
    "去": "go to",
    "天津": "Tianjin",
    "。": ".",
}
FROM_TIANJIN = {
    "我": "I",
    "要": "will",
    "离开": "leave",
    "天津": "Tianjin",
    "去": "go to",
    "北京": "Beijing",
    "。": ".",
}


def index_of(sentence, pairs):
    texts = ["".join(pairs.texts(i)[0]) for i in range(len(pairs))]
    return texts.index(sentence)


def first_with(sign, pairs):
    """The first pair whose source contains this sign. (A quick run may have none: then pair 0.)"""
    for i in range(len(pairs)):
        if sign in pairs.texts(i)[0]:
            return i
    return 0


def attention_map(model, pairs, i):
    """What pair i reads, what it writes, and the weights (written, read)."""
    read, written = pairs.texts(i)
    read = [*read, "end"]
    written = [*written, "end"]
    weights = alignments_of(model, pairs[i : i + 1])[0, : len(written), : len(read)]
    return read, written, weights


# %% Draw: where the decoder looked, and how many strings came out right
figure = draw.figure("", 11, 10.5)
above, below = figure.subfigures(2, 1, height_ratios=(1, 1))
cities_found = 0
for ax, words in zip(above.subplots(1, 2), (FROM_BEIJING, FROM_TIANJIN), strict=True):
    sentence = "".join(words)
    read, written, weights = attention_map(reader, held_out, index_of(sentence, held_out))
    draw.alignment(ax, weights, read, written, size=13)
    draw.glosses(ax, [(meaning, len(word)) for word, meaning in words.items()], size=11)
    for word in ("北京", "天津"):
        row = written.index(words[word])
        column = sentence.index(word)
        cities_found += weights[row].argmax() in (column, column + 1)
figure.suptitle(
    f"Attention: {cities_found} of 4 English city names look most at their own Chinese characters",
    fontsize=16,
)


def draw_by_length(ax, lines):
    """The share of strings that are right, by their length; grey: the lengths of training."""
    ax.set_xlim(0, max(lengths) + 1)
    ax.set_ylim(-0.03, 1.05)
    draw.curves(ax, lines, "letters to write in reverse", "share of strings without a mistake")
    ax.axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
    ax.text(longest / 2, 0.1, "lengths of training", ha="center", fontsize=11)


left, right = below.subplots(1, 2)
read, written, weights = attention_map(translator, days, first_with(",", days))
caption = f"a date (alignment error of all dates: {100 * date_error:.1f} %)"
draw.alignment(left, weights, read, written, caption, size=12)
lines = {name: (lengths, found) for name, found in by_length.items()}
draw_by_length(right, lines)
right.set_title("strings in reverse, by their length", fontsize=12)
show.finish(figure)
