"""04 · What does attention look at?
python demos/04_attention.py      2 min on two cores

A decoder that may look back at every symbol read translates dates, and Chinese sentences that
differ in word order alone. Beside it, the same network without attention. Then strings in reverse,
twice as long as any it was trained on: without attention; with attention that finds a place by what
stands there; and with one that also knows where it looked last. The picture shows where it looked
while it wrote, and how many of the strings came out right, by their length. --full trains from
three seeds.
Read first: tinycv/sequence/align.py, seq2seq.py.
Bahdanau et al. 2015, figure 3; Chorowski et al. 2015, section 2.2.
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
    """The same network with attention or without: a state of ``hidden`` numbers, of which either
    direction has half."""
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
    """A new model, trained for so many steps, rounded down to whole epochs."""
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
    """Where it looked for each symbol of the true answers: (N, T, S)."""
    found = []
    for part in np.array_split(np.arange(len(pairs)), 1 + len(pairs) // 500):
        source = tinycv.Tensor(pairs.source[part], device=show.device)
        found.append(model.alignments(source, pairs.target[part, 1:]))
    return np.concatenate(found)


# %% Dates: written in 20 ways in Chinese and English, to be written in one. The test's days are in
# no training pair
pairs, days = dates(show.seed)
pairs = pairs[: show.choose(quick=64)]
days = days[: show.choose(quick=64)]
without = train(pairs, 1200, attention=None)
translator = train(pairs, 1200)
show.measured("unseen dates, share right", exact_match(translator, days).mean(), target=">= 0.995")
show.measured(
    "unseen dates without attention: greedy, beam of 4",
    [exact_match(without, days, beam).mean() for beam in (1, 4)],
    "Bahdanau et al. 2015, trained to 50 words: BLEU 17.82 without, 26.75 with",
)
weights = alignments_of(translator, days)
error = alignment_error(weights, days, 0)
show.measured("copied figures of dates: alignment error", error, target="<= 0.05")
error = alignment_error(weights, days, 1)
show.measured("the same, where one place beside counts too", error, target="<= 0.05")


# %% The lecture's sentences: the same words in another order mean something else. A bag of words:
# the same, sorted
def as_a_bag(pairs):
    return replace(pairs, source=-np.sort(-pairs.source))  # PAD, the least, stays last


pairs, test = lecture(show.seed)
pairs = pairs[: show.choose(quick=64)]
test = test[: show.choose(quick=64)]
bags = as_a_bag(pairs)
reader = train(pairs, 2000, hidden=64, batch_size=32, dropout=0.3)
counter = train(bags, 2000, hidden=64, batch_size=32, dropout=0.3)
metric = "the lecture's sentences, held-out combinations, share right"
show.measured(metric, exact_match(reader, test).mean(), target=">= 1")
metric = "a bag of words: the same network, the symbols sorted"
show.measured(metric, exact_match(counter, as_a_bag(test)).mean())

# %% Strings in reverse: trained on 1 to 20 letters, asked for up to 40. Without attention it learns
# six times as long
longest = show.choose(quick=4, default=20)
lengths = show.choose(quick=[2, 4, 8], default=[2, 5, 10, 15, 20, 22, 25, 30, 35, 40])
count = show.choose(quick=64, default=192_000)
asked = show.choose(quick=8, default=200)
strings = reversal(range(1, longest + 1), n=count, seed=show.seed)
unseen = [reversal([length], n=asked, seed=100 + show.seed) for length in lengths]


def reverser(attention, number_of_steps):
    """Trained on strings of which it sees each once."""
    return train(
        strings[: 64 * number_of_steps],
        number_of_steps,
        attention=attention,
        hidden=128,
        rate=5e-3,
    )


reversers = {
    "without attention": reverser(attention=None, number_of_steps=3000),
    "attention by content": reverser(attention="additive", number_of_steps=500),
    "by content and location": reverser(attention="location", number_of_steps=500),
}
targets = {"without attention": ">= 0.3", "by content and location": "<= 0.05"}
by_length = {}
for name, model in reversers.items():
    found = [exact_match(model, pairs).mean() for pairs in unseen]
    by_length[name] = found
    metric = f"in reverse, {name}: share right at lengths {', '.join(map(str, lengths))}"
    show.measured(metric, found)
    lost = found[lengths.index(longest)] - found[lengths.index(2 * longest)]
    metric = f"lost from {longest} to {2 * longest} letters, {name}"
    show.measured(metric, [lost], target=targets.get(name, ""))


# %% Which sentences the picture shows
def first_with(sign, pairs, otherwise):
    """The first pair with this sign in what is read. (A quick run may have none.)"""
    for i in range(len(pairs)):
        if sign in pairs.texts(i)[0]:
            return i
    return otherwise


def index_of(sentence, pairs, otherwise):
    for i in reversed(range(len(pairs))):
        if "".join(pairs.texts(i)[0]) == sentence:
            return i
    return otherwise


# %% Draw: where it looked, and how many strings came out right
figure = draw.figure(
    "It looks where the answer comes from: digits at digits, cities at cities, in either order",
    13,
    13,
)
above, middle, below = figure.subfigures(3, 1, height_ratios=(1, 1, 1.25))


def draw_alignment(ax, model, pairs, i, caption=""):
    read, written = pairs.texts(i)
    weights = alignments_of(model, pairs[i : i + 1])[0, : len(written) + 1, : len(read) + 1]
    draw.alignment(ax, weights, [*read, "end"], [*written, "end"], caption)


def draw_by_length(ax, lines):
    """The share of strings that are right, by their length; grey: the lengths of training."""
    draw.curves(ax, lines, "letters to write in reverse", "share of strings without a mistake")
    ax.axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)


left, right = above.subplots(1, 2, width_ratios=(1, 1.6))
draw_alignment(left, translator, days, first_with("星", days, 0))
draw_alignment(right, translator, days, first_with(",", days, 1))
left, right = middle.subplots(1, 2)
draw_alignment(left, reader, test, index_of("我要离开北京去天津。", test, 0))
draw_alignment(right, reader, test, index_of("我要离开天津去北京。", test, 1))
left, right, shares = below.subplots(1, 3, width_ratios=(1, 1, 1.2))
for ax, name in ((left, "attention by content"), (right, "by content and location")):
    draw_alignment(ax, reversers[name], unseen[-1], 0, name)

lines = {name: (lengths, found) for name, found in by_length.items()}
draw_by_length(shares, lines)
shares.set_title("grey: the lengths it was trained on", fontsize=10)
show.finish(figure)
