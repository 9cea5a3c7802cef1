"""04 · What does attention look at?               python demos/04_attention.py               2 min on two cores

A decoder that may look back at every symbol read translates dates, Chinese sentences that differ in word order alone, and
writes strings in reverse. Beside it, each time, the same network without attention. The picture shows where it looked
while it wrote, and how each does on strings longer than any it was trained on.
--full trains from three seeds.
Read first: tinycv/sequence/align.py, seq2seq.py.     Bahdanau et al. 2015, figure 3; Luong et al. 2015, section 3.1.
"""

from dataclasses import replace

import numpy as np

import tinycv
from tinycv import draw
from tinycv.data import DataLoader, alignment_error, dates, lecture, reversal
from tinycv.demo import Demo
from tinycv.optim import Adam, warmup_cosine
from tinycv.sequence import Seq2Seq, exact_match, next_symbol_loss
from tinycv.train import fit

show = Demo("04_attention", __doc__)
SEEDS, ROUTES = range(3) if show.full else [show.seed], {"general": "with attention", None: "without"}
MEAN = ", mean of three seeds" if show.full else ""

# %% the pieces: the model, how it learns, and where it looks


def learn(pairs, steps, seed, attention, hidden=32, batch=64, rate=1e-2):
    """The same network with attention or without. Both have a state of ``hidden`` numbers, and half as many each way."""
    tinycv.manual_seed(seed)
    model = Seq2Seq(len(pairs.source_words), len(pairs.target_words), embedding_dim=32, hidden_size=hidden,
                    bidirectional=True, attention=attention).to(show.device)
    loader = DataLoader(pairs.source, pairs.target, batch_size=batch, seed=seed, drop_last=True)
    epochs = max(1, show.choose(4, steps) // len(loader))
    fit(model, Adam(model.parameters(), lr=rate), next_symbol_loss, loader, epochs, clip=1.0, seed=seed,
        schedule=warmup_cosine(epochs * len(loader), warmup=50))
    return model.eval()


def looked(model, pairs):
    """Where it looked for each symbol of the true answers: (N, T, S)."""
    parts = np.array_split(np.arange(len(pairs)), 1 + len(pairs) // 500)
    return np.concatenate([model.alignments(tinycv.Tensor(pairs.source[part], device=show.device), pairs.target[part, 1:])
                           for part in parts])


def few(pairs, n):
    return pairs[:show.choose(n, len(pairs))]


# %% dates: written in 20 ways in Chinese and English, to be written in one. The test's days are in no training pair
right, errors = {}, []
for seed in SEEDS:
    train, test = (few(pairs, 256) for pairs in dates(seed))
    for attention, name in ROUTES.items():
        model = learn(train, 1200, seed, attention)
        right.setdefault(name, []).append(exact_match(model, test).mean())
        if attention:
            weights = looked(model, test)
            errors.append([alignment_error(weights, test, slack) for slack in (0, 1)])
            translator, days = model, test
show.measured("unseen dates, share right" + MEAN, np.mean(right["with attention"]), "", ">= 0.995")
show.measured("unseen dates without attention" + MEAN, np.mean(right["without"]),
              "Bahdanau et al. 2015, trained to 50 words: BLEU 17.82 without, 26.75 with")
show.measured("copied figures of dates: alignment error" + MEAN, np.mean(errors, axis=0)[0], "", "<= 0.05")
show.measured("the same, where one place beside counts too" + MEAN, np.mean(errors, axis=0)[1], "", "<= 0.05")

# %% the lecture's sentences: the same words in another order mean something else. A bag of words: the same, sorted


def as_bag(pairs):
    return replace(pairs, source=-np.sort(-pairs.source, axis=1))          # EOS and PAD, the least numbers, stay last


order, bag = [], []
for seed in SEEDS:
    train, test = (few(pairs, 128) for pairs in lecture(seed))
    reader = learn(train, 1000, seed, "general", hidden=128, batch=32, rate=5e-3)
    order.append(exact_match(reader, test).mean())
    bag.append(exact_match(learn(as_bag(train), 1000, seed, "general", 128, 32, 5e-3), as_bag(test)).mean())
show.measured("the lecture's sentences, held-out combinations, share right" + MEAN, np.mean(order), "", ">= 1")
show.measured("a bag of words: the same network, the symbols sorted" + MEAN, np.mean(bag))

# %% strings in reverse: trained on 1 to 20 letters, asked for up to 40
longest = show.choose(4, 20)
lengths = show.choose([2, 4, 8], [2, 5, 10, 15, 20, 22, 25, 30, 35, 40])
by_length = {name: np.zeros(len(lengths)) for name in ROUTES.values()}
for seed in SEEDS:
    strings = reversal(range(1, longest + 1), symbols=26, n=show.choose(300, 20_000), seed=seed)
    asked = [reversal([length], 26, show.choose(20, 200), seed=100 + seed) for length in lengths]
    for attention, name in ROUTES.items():
        model = learn(strings, 1500, seed, attention, rate=5e-3)
        by_length[name] += [exact_match(model, pairs).mean() / len(SEEDS) for pairs in asked]
for name, target in (("with attention", "<= 0.05"), ("without", ">= 0.3")):
    trained, doubled = by_length[name][[lengths.index(longest), -1]]
    show.measured(f"strings in reverse {name}, share right at lengths {', '.join(map(str, lengths))}", list(by_length[name]))
    show.measured(f"lost from length {longest} to {2 * longest} {name}", trained - doubled, "", target)

# %% draw
sentences = {"".join(test.texts(i)[0]): i for i in range(len(test))}
chosen = [sentences.get(f"我要离开{a}去{b}。", k) for k, (a, b) in enumerate([("北京", "天津"), ("天津", "北京")])]
chinese = next((i for i in range(len(days)) if "星" in days.texts(i)[0]), 0)
english = next((i for i in range(len(days)) if "," in days.texts(i)[0]), 1)
figure = draw.figure("It looks where the answer comes from: digits at digits, cities at cities, in either order", 13, 8.5)
above, below = figure.subfigures(2, 1)
maps = [*above.subplots(1, 2, width_ratios=(1, 1.6)), *(axes := below.subplots(1, 3, width_ratios=(1, 1, 1.3)))[:2]]
for ax, model, pairs, i in zip(maps, (translator, translator, reader, reader), (days, days, test, test),
                               (chinese, english, *chosen), strict=True):
    (read, written), one = pairs.texts(i), pairs[i:i + 1]
    draw.alignment(ax, looked(model, one)[0, :len(written) + 1, :len(read) + 1], [*read, "end"], [*written, "end"])
draw.curves(axes[2], {name: (lengths, values) for name, values in by_length.items()}, "letters to write in reverse",
            "share of strings without a mistake")
axes[2].axvspan(0, longest, color=draw.PALE, alpha=0.5, zorder=0)
axes[2].set_title("grey: the lengths it was trained on", fontsize=10)
show.finish(figure)
