"""05, the whole protocol: sorting and dates from three seeds; other tasks from one.

Cut to one seed: dates to English with label smoothing, dates to ISO, addition, and reversal, then
asked of strings longer than any that it was shown. A training is that of the demo, made by ``fit``.
python demos/05_transformer.py --full
"""

from functools import partial

import numpy as np

import tinycv
from tinycv.data import DataLoader, addition, dates, reversal, sorting
from tinycv.optim import EMA, AdamW, warmup_inverse_sqrt
from tinycv.sequence import GPT, Transformer, exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("05_transformer", __doc__, full=True)
SEEDS = range(show.choose(quick=2, full=3))
PEAK = 3e-3  # the greatest learning rate, at the end of the warm-up


# %% The demo's models: a Transformer reads and writes; a GPT reads question and answer as one text
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


def continuer(pairs):
    return GPT(len(pairs.target_words), pairs.source.shape[1] + pairs.target.shape[1])


def text_loss(model, source, target):
    """The GPT is asked for the answer alone."""

    def answers(s, t):
        return model(tinycv.concatenate([s, t], axis=1))[:, s.shape[1] :]

    return next_symbol_loss(answers, source, target)


# %% The demo's training, from a seed
def train(make, pairs, epochs, seed, loss_fn=next_symbol_loss):
    tinycv.manual_seed(seed)
    pairs = pairs[: show.choose(quick=128)]
    model = make(pairs).to(show.device)
    loader = DataLoader(pairs.source, pairs.target, batch_size=64, seed=seed, drop_last=True)
    epochs = show.choose(quick=1, full=epochs)
    decay = 0.1 if isinstance(model, GPT) else 0.0
    optimizer = AdamW(model.parameters(), PEAK, betas=(0.9, 0.98), eps=1e-9, weight_decay=decay)
    ema = EMA(model, decay=0.99)
    fit(
        model,
        optimizer,
        loss_fn,
        loader,
        epochs,
        schedule=warmup_inverse_sqrt(1 + epochs * len(loader) // 10),
        clip=1.0,
        ema=ema,
        seed=seed,
    )
    model.eval().load_state_dict(ema.state_dict())
    return model


def measure(name, tasks, epochs, target="", make=translator, loss_fn=next_symbol_loss):
    """tasks: training and test pairs of each seed. Returns the first seed's model."""
    print(name, flush=True)
    models = []
    right = []
    for seed, (pairs, test) in enumerate(tasks):
        test = test[: show.choose(quick=20)]
        models.append(train(make, pairs, epochs, seed, loss_fn))
        right.append(exact_match(models[-1], test).mean())
    metric = f"{name}: share of {len(test)} unseen answers without mistake"
    if len(tasks) > 1:
        show.measured(f"{metric}, by seed", right, target=target)
    else:
        show.measured(metric, right[0], target=target)
    return models[0]


# %% The demo's tasks
digits = [sorting(seed=seed) for seed in SEEDS]
days = [dates(seed, "english") for seed in SEEDS]
measure("sort, Transformer", digits, 150, "1", make=partial(translator, dropout=0.1))
measure("sort, GPT", digits, 300, "1", make=continuer, loss_fn=text_loss)
hard = measure("dates to English", days, 5, ">= 0.995")

# %% What label smoothing costs: among how many equally likely symbols it chooses
softer = partial(next_symbol_loss, label_smoothing=0.1)
soft = measure("dates to English, label smoothing 0.1", days[:1], 5, loss_fn=softer)
_, unseen = days[0]
unseen = unseen[: show.choose(quick=50)]
source = tinycv.Tensor(unseen.source, device=show.device)
target = tinycv.Tensor(unseen.target, device=show.device)
for smoothing, model in {"0": hard, "0.1": soft}.items():
    with tinycv.no_grad():
        perplexity = np.exp(next_symbol_loss(model, source, target).item())
    show.measured(
        f"perplexity of unseen dates, label smoothing {smoothing}",
        perplexity,
        "Vaswani et al. 2017, table 3: 4.67 without, 4.92 with 0.1",
        "higher with than without",
    )

# %% Other tasks, from one seed
seed = SEEDS[0]
measure("dates to ISO", [dates(seed)], 3, ">= 0.995")
measure("sums of two digits", [addition(2, seed=seed)], 40, ">= 0.99")
strings = reversal(range(1, 17), n=show.choose(quick=200, full=20_000), seed=seed)
unseen = reversal([16], n=500, seed=100)
reverser = measure("reversal of 16 letters", [(strings, unseen)], 10)

# %% Strings longer than any that it was shown
lengths = show.choose(quick=[1, 20], full=[1, 2, 4, 8, 12, 15, 16, 17, 18, 20, 24, 32])
asked = show.choose(quick=20, full=200)
right = []
for length in lengths:
    unseen = reversal([length], n=asked, seed=1000 + length)
    right.append(exact_match(reverser, unseen).mean())
metric = f"reversal of {', '.join(map(str, lengths))} letters, trained on 1 to 16"
show.measured(metric, right)

# %% Draw
figure = draw.figure("A Transformer reverses no string longer than those it was shown", 8, 5)
lines = {"": (lengths, right)}
draw.curves(
    figure.subplots(), lines, "letters to reverse (trained on 1 to 16)", "share without mistake"
)
show.finish(figure)
