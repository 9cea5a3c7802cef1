"""04 · What does attention look at?               python demos/04_attention.py   2 min on two cores

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
from tinycv.optim import Adam, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("04_attention", __doc__)
SEEDS, MEAN = (range(3), ", mean of three seeds") if show.full else ([show.seed], "")

# %% the pieces: the model, how it learns, and where it looks


def learn(pairs, steps, seed, attention="general", hidden=32, batch=64, rate=1e-2, dropout=0.0):
    """The same network with attention or without: a state of ``hidden`` numbers, of which either
    direction has half."""
    tinycv.manual_seed(seed)
    model = Seq2Seq(
        len(pairs.source_words),
        len(pairs.target_words),
        embedding_dim=32,
        hidden_size=hidden,
        bidirectional=True,
        attention=attention,
        dropout=dropout,
    ).to(show.device)
    loader = DataLoader(pairs.source, pairs.target, batch_size=batch, seed=seed, drop_last=True)
    epochs = max(1, show.choose(4, steps) // len(loader))
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
    parts = np.array_split(np.arange(len(pairs)), 1 + len(pairs) // 500)
    return np.concatenate(
        [
            model.alignments(
                tinycv.Tensor(pairs.source[part], device=show.device), pairs.target[part, 1:]
            )
            for part in parts
        ]
    )


# %% dates: written in 20 ways in Chinese and English, to be written in one. The test's days are in
# no training pair
right, errors = [], []
for seed in SEEDS:
    train, test = (pairs[: show.choose(256, None)] for pairs in dates(seed))
    without, translator, days = (
        learn(train, 1200, seed, attention=None),
        learn(train, 1200, seed),
        test,
    )
    right.append(
        [
            exact_match(translator, days).mean(),
            *(exact_match(without, days, beam).mean() for beam in (1, 4)),
        ]
    )
    weights = looked(translator, days)
    errors.append([alignment_error(weights, days, slack) for slack in (0, 1)])
show.measured("unseen dates, share right" + MEAN, np.mean(right, axis=0)[0], "", ">= 0.995")
show.measured(
    "unseen dates without attention: greedy, beam of 4" + MEAN,
    list(np.mean(right, axis=0)[1:]),
    "Bahdanau et al. 2015, trained to 50 words: BLEU 17.82 without, 26.75 with",
)
show.measured(
    "copied figures of dates: alignment error" + MEAN, np.mean(errors, axis=0)[0], "", "<= 0.05"
)
show.measured(
    "the same, where one place beside counts too" + MEAN, np.mean(errors, axis=0)[1], "", "<= 0.05"
)

# %% the lecture's sentences: the same words in another order mean something else. A bag of words:
# the same, sorted
order, bag = [], []
for seed in SEEDS:
    train, test = (pairs[: show.choose(128, None)] for pairs in lecture(seed))
    # PAD, the least, stays last
    bags = [replace(pairs, source=-np.sort(-pairs.source)) for pairs in (train, test)]
    reader, counter = (
        learn(pairs, 2000, seed, hidden=64, batch=32, dropout=0.3) for pairs in (train, bags[0])
    )
    order.append(exact_match(reader, test).mean())
    bag.append(exact_match(counter, bags[1]).mean())
show.measured(
    "the lecture's sentences, held-out combinations, share right" + MEAN, np.mean(order), "", ">= 1"
)
show.measured("a bag of words: the same network, the symbols sorted" + MEAN, np.mean(bag))

# %% strings in reverse: trained on 1 to 20 letters, asked for up to 40. Without attention it learns
# six times as long
longest, lengths = show.choose((4, [2, 4, 8]), (20, [2, 5, 10, 15, 20, 22, 25, 30, 35, 40]))
ways = {
    "without attention": (None, 3000),
    "attention by content": ("additive", 500),
    "by content and location": ("location", 500),
}
by_length, reversers = {name: [] for name in ways}, {}  # for each seed, for each length
for seed in SEEDS:
    strings = reversal(range(1, longest + 1), n=show.choose(300, 192_000), seed=seed)
    asked = [reversal([length], n=show.choose(20, 200), seed=100 + seed) for length in lengths]
    for name, (attention, steps) in ways.items():
        reversers[name] = learn(
            strings[: 64 * steps], steps, seed, attention, hidden=128, rate=5e-3
        )
        by_length[name].append([exact_match(reversers[name], pairs).mean() for pairs in asked])
for name, runs in by_length.items():
    by_length[name] = values = np.mean(runs, axis=0)
    show.measured(
        f"in reverse, {name}: share right at lengths {', '.join(map(str, lengths))}", list(values)
    )
    lost = np.subtract(*np.array(runs)[:, [lengths.index(longest), lengths.index(2 * longest)]].T)
    show.measured(
        f"lost from {longest} to {2 * longest} letters, {name}" + ", by seed" * show.full,
        list(lost),
        "",
        {None: ">= 0.3", "location": "<= 0.05"}.get(ways[name][0], ""),
    )

# %% draw
sentences = {"".join(test.texts(i)[0]): i for i in range(len(test))}
chosen = [
    sentences.get(f"我要离开{a}去{b}。", k)
    for k, (a, b) in enumerate([("北京", "天津"), ("天津", "北京")])
]
chinese = next((i for i in range(len(days)) if "星" in days.texts(i)[0]), 0)
english = next((i for i in range(len(days)) if "," in days.texts(i)[0]), 1)
figure = draw.figure(
    "It looks where the answer comes from: digits at digits, cities at cities, in either order",
    13,
    13,
)
above, middle, below = figure.subfigures(3, 1, height_ratios=(1, 1, 1.25))
axes = below.subplots(1, 3, width_ratios=(1, 1, 1.2))
places = [*above.subplots(1, 2, width_ratios=(1, 1.6)), *middle.subplots(1, 2), *axes[:2]]
by_content, by_location = (
    (model, asked[-1], 0, name) for name, model in reversers.items() if model.decoder.attention
)
for ax, (model, pairs, i, caption) in zip(
    places,
    (
        (translator, days, chinese, ""),
        (translator, days, english, ""),
        (reader, test, chosen[0], ""),
        (reader, test, chosen[1], ""),
        by_content,
        by_location,
    ),
    strict=True,
):
    (read, written), one = pairs.texts(i), pairs[i : i + 1]
    draw.alignment(
        ax,
        looked(model, one)[0, : len(written) + 1, : len(read) + 1],
        [*read, "end"],
        [*written, "end"],
        caption,
    )
draw.curves(
    axes[2],
    {name: (lengths, values) for name, values in by_length.items()},
    "letters to write in reverse",
    "share of strings without a mistake",
)
axes[2].axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
axes[2].set_title("grey: the lengths it was trained on", fontsize=10)
show.finish(figure)
