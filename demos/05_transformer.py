"""05 · How does a Transformer translate a date?          python demos/05_transformer.py          5 min on two cores

An encoder reads a date in Chinese, a decoder writes it in English, and with every letter looks back
at all that was read. It is asked for days that it has never seen. Beside it minGPT's task, to sort
six digits, for both a Transformer and a GPT. The picture shows where it looked, what each head of
each block looks at, and how loss and learning rate went. --full trains from three seeds: sorting,
and dates to English. Cut to one seed: dates to English with label smoothing, dates to ISO,
addition, and reversal, then asked of strings longer than any that it was shown.
Read first: tinycv/sequence/transformer.py, encoder_decoder.py.
Vaswani et al. 2017, "Attention Is All You Need".
"""

from functools import partial

import numpy as np

import tinycv
from tinycv.data import PAD, DataLoader, addition, dates, reversal, sorting
from tinycv.optim import AdamW, warmup_inverse_sqrt
from tinycv.optim.averaged import EMA
from tinycv.sequence import GPT, Transformer, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("05_transformer", __doc__)
SEEDS = range(3) if show.full else [show.seed]
# the greatest learning rate, at the end of the warm-up
PEAK = 3e-3

# %% the pieces: two models, and how they learn


def translator(pairs, dropout=0.0):
    return Transformer(
        len(pairs.source_words),
        len(pairs.target_words),
        d_model=64,
        nhead=4,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dim_feedforward=128,
        dropout=dropout,
        norm_first=True,
    )


def continuer(pairs):  # a GPT reads question and answer as one text
    return GPT(len(pairs.target_words), pairs.source.shape[1] + pairs.target.shape[1])


def text_loss(model, source, target):  # and is asked for the answer alone
    return next_symbol_loss(
        lambda s, t: model(tinycv.concatenate([s, t], axis=1))[:, s.shape[1] :], source, target
    )


def learn(make, loss, pairs, epochs, seed):
    """As the paper: its Adam, learning rate (5.3) and averaged weights (6.1). Weight decay for the
    GPT alone, as minGPT."""
    tinycv.manual_seed(seed)
    model, pairs = make(pairs).to(show.device), pairs[: show.choose(128, None)]
    loader = DataLoader(pairs.source, pairs.target, batch_size=64, seed=seed, drop_last=True)
    schedule, ema = warmup_inverse_sqrt(1 + epochs * len(loader) // 10), EMA(model, decay=0.99)
    optimizer = AdamW(
        model.parameters(),
        PEAK,
        betas=(0.9, 0.98),
        eps=1e-9,
        weight_decay=0.1 * isinstance(model, GPT),
    )
    history = fit(
        model, optimizer, loss, loader, epochs, schedule=schedule, clip=1.0, ema=ema, seed=seed
    )
    model.eval().load_state_dict(ema.state_dict())
    return model, history.losses, [PEAK * schedule(step) for step in range(len(history.losses))]


def measure(name, tasks, epochs, target="", make=translator, loss=next_symbol_loss):
    """Learn from the first of each pair, be asked for the second: a pair a seed. Returns (model,
    losses, rates) of each."""
    print(name)
    runs = [
        learn(make, loss, train, show.choose(1, epochs), seed)
        for seed, (train, _) in zip(SEEDS, tasks, strict=False)
    ]
    tests = [test[: show.choose(20, None)] for _, test in tasks]
    scores = [exact_match(run[0], test).mean() for run, test in zip(runs, tests, strict=True)]
    show.measured(
        f"{name}: share of {len(tests[0])} unseen answers without mistake"
        + ", by seed" * (len(scores) > 1),
        scores if len(scores) > 1 else scores[0],
        target=target,
    )
    return runs


def here(array):
    return tinycv.Tensor(array, device=show.device)


def perplexity(model, pairs):  # among how many equally likely symbols it chooses
    with tinycv.no_grad():
        return np.exp(float(next_symbol_loss(model, here(pairs.source), here(pairs.target))))


# %% sort six digits (there are 729 such questions, each is asked once), and translate dates
digits, days = [sorting(seed=seed) for seed in SEEDS], [dates(seed, "english") for seed in SEEDS]
measure("sort, Transformer", digits, 150, "1", partial(translator, dropout=0.1))
measure("sort, GPT", digits, 300, "1", continuer, text_loss)
runs = measure("dates to English", days, 5, ">= 0.995")

# %% --full: what label smoothing costs, other tasks, and strings longer than those that it has seen
if show.full:
    lengths = 1, 2, 4, 8, 12, 15, 16, 17, 18, 20, 24, 32
    softer = partial(next_symbol_loss, label_smoothing=0.1)
    smooth = measure("dates to English, label smoothing 0.1", days[:1], 5, loss=softer)
    for name, (run, *_) in (("0", runs), ("0.1", smooth)):
        show.measured(
            f"perplexity of unseen dates, label smoothing {name}",
            perplexity(run[0], days[0][1]),
            "Vaswani et al. 2017, table 3: 4.67 without, 4.92 with 0.1",
            "higher with than without",
        )
    measure("dates to ISO", [dates(SEEDS[0])], 3, ">= 0.995")
    measure("sums of two digits", [addition(2, seed=SEEDS[0])], 40, ">= 0.99")
    strings = [(reversal(range(1, 17), n=20_000, seed=SEEDS[0]), reversal([16], n=500, seed=100))]
    ((reverser, *_),) = measure("reversal of 16 letters", strings, 10)
    by_length = [exact_match(reverser, reversal([n], n=200, seed=1000 + n)).mean() for n in lengths]
    show.measured(
        f"reversal of {', '.join(map(str, lengths))} letters, trained on 1 to 16", by_length
    )

# %% draw: where it looked while it wrote a date that it has never seen
# a short date that has a day of the week:
(model, losses, rates), pairs = runs[0], days[0][1]
chosen = min(
    (i for i in range(len(pairs)) if pairs.texts(i)[1].count(",") == 2),
    key=lambda i: len(pairs.texts(i)[1]),
)
source, target = (
    ids[chosen : chosen + 1, : (ids[chosen] != PAD).sum()] for ids in (pairs.source, pairs.target)
)
read, written = ([*text, "end"] for text in pairs.texts(chosen))
# (blocks, heads, T, S)
maps = {
    name: np.stack([block.numpy()[0] for block in blocks])
    for name, blocks in model.attention_maps(here(source), here(target[:, :-1])).items()
}
figure = draw.figure(
    "A Transformer translates a date: to write a letter, it looks at what the letter is made of",
    15,
    15,
)
left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
whole, curves = left.subfigures(2, 1, height_ratios=(1.4, 1))
draw.alignment(
    whole.subplots(),
    maps["cross"].mean(axis=(0, 1)),
    read,
    written,
    "cross-attention, mean of all heads",
)
for place, (name, caption, columns, rows) in zip(
    right.subfigures(3, 1, height_ratios=(1.3, 1, 1.3)),
    (
        ("cross", "cross-attention: what is written looks at what was read", read, written),
        ("encoder", "encoder: what was read looks at itself", read, read),
        (
            "decoder",
            "decoder: what is written looks back at itself",
            ["start", *written[:-1]],
            written,
        ),
    ),
    strict=True,
):
    place.suptitle(caption, fontsize=12)
    draw.heads(place, maps[name], columns, rows)
axes = curves.subplots(2 + show.full, 1)
draw.curves(axes[0], {"": (range(len(losses)), losses)}, "step", "nats a letter", log=True)
draw.curves(axes[1], {"": (range(len(rates)), rates)}, "step", "learning rate")
if show.full:
    draw.curves(
        axes[2],
        {"": (lengths, by_length)},
        "letters to reverse (trained on 1 to 16)",
        "share without mistake",
    )
show.finish(figure)
