"""03, the whole protocol: sums of two digits and strings from three seeds, sums of three digits.

A training is that of the demo, made by ``fit``; sums of three digits are learnt from one seed.
python demos/03_seq2seq.py --full
"""

import numpy as np

import tinycv
from tinycv.data import DataLoader, addition, reversal
from tinycv.optim import Adam, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("03_seq2seq", __doc__, full=True)
SEEDS = range(show.choose(quick=2, full=3))
WAYS = ("read backwards", "read forwards")


# %% The demo's model and training, from a seed
def train(pairs, epochs, seed, hidden, batch_size, rate):
    tinycv.manual_seed(seed)
    model = Seq2Seq(
        len(pairs.source_words),
        len(pairs.target_words),
        embedding_dim=32,
        hidden_size=hidden,
    ).to(show.device)
    loader = DataLoader(
        pairs.source, pairs.target, batch_size=batch_size, seed=seed, drop_last=True
    )
    fit(
        model,
        Adam(model.parameters(), lr=rate),
        next_symbol_loss,
        loader,
        epochs,
        clip=1.0,
        seed=seed,
        schedule=warmup_cosine(epochs * len(loader), warmup=100),
    )
    return model.eval()


# %% Sums, each question read backwards and forwards
def sums_right(digits, way, epochs, seed):
    """The share of unseen sums that is right."""
    pairs, unseen = addition(digits, reverse_source=way == "read backwards", seed=seed)
    pairs = pairs[: show.choose(quick=256)]
    unseen = unseen[: show.choose(quick=50)]
    model = train(pairs, epochs, seed, hidden=128, batch_size=128, rate=3e-3)
    return exact_match(model, unseen).mean()


keras = "Keras's example: 99 % of characters, not of sums"
two = {}
for way in WAYS:
    epochs = show.choose(quick=1, full=80)
    two[way] = [sums_right(2, way, epochs, seed) for seed in SEEDS]
three = {}
for way in WAYS:
    three[way] = [sums_right(3, way, show.choose(quick=1, full=28), SEEDS[0])]

metric = "unseen sums of 2 digits, read backwards, share right, by seed"
show.measured(metric, two["read backwards"], keras, ">= 0.99")
show.measured("unseen sums of 2 digits, read forwards, share right, by seed", two["read forwards"])
metric = "unseen sums of 3 digits, read backwards, share right"
show.measured(metric, three["read backwards"], keras)
show.measured("unseen sums of 3 digits, read forwards, share right", three["read forwards"])
show.measured(
    "two digits: backwards less forwards, by seed",
    list(np.subtract(two["read backwards"], two["read forwards"])),
    "Sutskever et al. 2014, translation: BLEU 30.6 with the source reversed, 25.9 without",
    "> 0",
)

# %% Strings of 1 to 20 letters to be written in reverse, then longer ones
longest = show.choose(quick=3, full=20)
lengths = show.choose(quick=[2, 4], full=[2, 5, 8, 11, 14, 17, 20, 22, 25, 30, 35, 40])
count = show.choose(quick=300, full=20_000)
asked = show.choose(quick=20, full=200)
by_length = {}
for hidden in (32, 128):
    found = np.zeros((len(SEEDS), len(lengths)))
    for seed in SEEDS:
        strings = reversal(range(1, longest + 1), n=count, seed=seed)
        epochs = show.choose(quick=1, full=8)
        model = train(strings, epochs, seed, hidden=hidden, batch_size=64, rate=5e-3)
        for i, length in enumerate(lengths):
            unseen = reversal([length], n=asked, seed=100 + seed)
            found[seed, i] = exact_match(model, unseen).mean()
    by_length[f"H = {hidden}"] = found.mean(axis=0)
    metric = f"strings in reverse, H = {hidden}, share right at lengths"
    show.measured(f"{metric} {', '.join(map(str, lengths))}", list(found.mean(axis=0)))

# %% Draw
figure = draw.figure(
    "Strings in reverse: how long a string a vector holds, mean of all seeds", 8, 5
)
ax = figure.subplots()
lines = {name: (lengths, found) for name, found in by_length.items()}
draw.curves(ax, lines, "letters to write in reverse", "share of strings without a mistake")
ax.axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
show.finish(figure)
