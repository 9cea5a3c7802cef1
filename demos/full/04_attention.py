"""04, the whole protocol: dates, the lecture's sentences and strings in reverse, from three seeds.

A training is that of the demo, made by ``fit``.          python demos/04_attention.py --full
"""

from dataclasses import replace

import numpy as np

import tinycv
from tinycv.data import DataLoader, alignment_error, dates, lecture, reversal
from tinycv.optim import Adam, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("04_attention", __doc__, full=True)
SEEDS = range(show.choose(quick=2, full=3))
MEAN = "mean of three seeds"


# %% The demo's model and training, from a seed
def new(pairs, attention, hidden, dropout, seed):
    """The same network with attention or without: a state of ``hidden`` numbers, of which either
    direction has half."""
    tinycv.manual_seed(seed)
    return Seq2Seq(
        len(pairs.source_words),
        len(pairs.target_words),
        embedding_dim=32,
        hidden_size=hidden,
        bidirectional=True,
        attention=attention,
        dropout=dropout,
    ).to(show.device)


def train(
    pairs, steps, seed, attention="general", hidden=32, batch_size=64, rate=1e-2, dropout=0.0
):
    model = new(pairs, attention, hidden, dropout, seed)
    loader = DataLoader(
        pairs.source, pairs.target, batch_size=batch_size, seed=seed, drop_last=True
    )
    epochs = max(1, show.choose(quick=4, full=steps) // len(loader))
    fit(
        model,
        Adam(model.parameters(), lr=rate),
        next_symbol_loss,
        loader,
        epochs,
        clip=1.0,
        seed=seed,
        schedule=warmup_cosine(epochs * len(loader), warmup=50),
    )
    return model.eval()


def looked(model, pairs):
    """Where it looked for each symbol of the true answers: (N, T, S)."""
    found = []
    for part in np.array_split(np.arange(len(pairs)), 1 + len(pairs) // 500):
        source = tinycv.Tensor(pairs.source[part], device=show.device)
        found.append(model.alignments(source, pairs.target[part, 1:]))
    return np.concatenate(found)


# %% Dates
right = []  # of each seed: with attention; without, greedy; without, beam of 4
errors = []
for seed in SEEDS:
    pairs, days = dates(seed)
    pairs = pairs[: show.choose(quick=256)]
    days = days[: show.choose(quick=64)]
    without = train(pairs, 1200, seed, attention=None)
    translator = train(pairs, 1200, seed)
    greedy = exact_match(without, days, 1).mean()
    beam = exact_match(without, days, 4).mean()
    right.append([exact_match(translator, days).mean(), greedy, beam])
    weights = looked(translator, days)
    errors.append([alignment_error(weights, days, slack) for slack in (0, 1)])
right = np.mean(right, axis=0)
exact, near = np.mean(errors, axis=0)
show.measured(f"unseen dates, share right, {MEAN}", right[0], target=">= 0.995")
show.measured(
    f"unseen dates without attention: greedy, beam of 4, {MEAN}",
    list(right[1:]),
    "Bahdanau et al. 2015, trained to 50 words: BLEU 17.82 without, 26.75 with",
)
show.measured(f"copied figures of dates: alignment error, {MEAN}", exact, target="<= 0.05")
show.measured(f"the same, where one place beside counts too, {MEAN}", near, target="<= 0.05")


# %% The lecture's sentences, and a bag of their words
def as_a_bag(pairs):
    return replace(pairs, source=-np.sort(-pairs.source))  # PAD, the least, stays last


ordered = []
sorted_words = []
for seed in SEEDS:
    pairs, test = lecture(seed)
    pairs = pairs[: show.choose(quick=128)]
    test = test[: show.choose(quick=64)]
    options = {"hidden": 64, "batch_size": 32, "dropout": 0.3}
    reader = train(pairs, 2000, seed, **options)
    counter = train(as_a_bag(pairs), 2000, seed, **options)
    ordered.append(exact_match(reader, test).mean())
    sorted_words.append(exact_match(counter, as_a_bag(test)).mean())
metric = f"the lecture's sentences, held-out combinations, share right, {MEAN}"
show.measured(metric, np.mean(ordered), target=">= 1")
metric = f"a bag of words: the same network, the symbols sorted, {MEAN}"
show.measured(metric, np.mean(sorted_words))

# %% Strings in reverse
longest = show.choose(quick=4, full=20)
lengths = show.choose(quick=[2, 4, 8], full=[2, 5, 10, 15, 20, 22, 25, 30, 35, 40])
count = show.choose(quick=300, full=192_000)
asked = show.choose(quick=20, full=200)


def shares_right(attention, steps, seed):
    """The share of strings that is right, at each length."""
    strings = reversal(range(1, longest + 1), n=count, seed=seed)
    model = train(strings[: 64 * steps], steps, seed, attention, hidden=128, rate=5e-3)
    found = []
    for length in lengths:
        unseen = reversal([length], n=asked, seed=100 + seed)
        found.append(exact_match(model, unseen).mean())
    return found


def measure_reversal(name, attention, steps, target=""):
    """Returns the mean share at each length."""
    found = np.array([shares_right(attention, steps, seed) for seed in SEEDS])
    mean = found.mean(axis=0)
    metric = f"in reverse, {name}: share right at lengths {', '.join(map(str, lengths))}"
    show.measured(metric, list(mean))
    lost = found[:, lengths.index(longest)] - found[:, lengths.index(2 * longest)]
    metric = f"lost from {longest} to {2 * longest} letters, {name}, by seed"
    show.measured(metric, list(lost), target=target)
    return mean


by_length = {}
name = "without attention"
by_length[name] = measure_reversal(name, None, steps=3000, target=">= 0.3")
name = "attention by content"
by_length[name] = measure_reversal(name, "additive", steps=500)
name = "by content and location"
by_length[name] = measure_reversal(name, "location", steps=500, target="<= 0.05")

# %% Draw
figure = draw.figure("Strings in reverse, by their length: the mean of all seeds", 8, 5)
ax = figure.subplots()
lines = {name: (lengths, found) for name, found in by_length.items()}
draw.curves(ax, lines, "letters to write in reverse", "share of strings without a mistake")
ax.axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
show.finish(figure)
