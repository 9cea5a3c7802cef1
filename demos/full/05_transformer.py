"""05, the whole protocol: sorting and dates from three seeds; other tasks from one.

The demo from three seeds. By its functions, and from one seed: dates to English with label
smoothing, dates to ISO, addition, and reversal, which is then tested on strings longer than any in
training.          python demos/05_transformer.py --full
"""

from functools import partial

import numpy as np

import tinycv
from tinycv.data import addition, dates, reversal
from tinycv.sequence import exact_match, next_symbol_loss
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("05_transformer", __doc__, full=True)
SEEDS = range(show.choose(quick=1, full=3))

# %% The demo from each seed
demo, *_ = show.repeat_demo(SEEDS)
seed = SEEDS[0]


# %% The demo's model and training, for other tasks
def measure(name, pairs, test, epochs, target="", loss_fn=next_symbol_loss):
    """Train a model and record the share of its answers that is right. Returns the model."""
    print(name, flush=True)
    pairs = pairs[: show.choose(quick=64)]
    test = test[: show.choose(quick=8)]
    tinycv.manual_seed(seed)
    model = demo.translator(pairs).to(show.device)
    demo.train(model, pairs, show.choose(quick=1, full=epochs), loss_fn)
    metric = f"{name}: share of {len(test)} unseen answers without a mistake"
    show.measured(metric, exact_match(model, test).mean(), target=target)
    return model


# %% What label smoothing costs: perplexity, among how many equally likely symbols a model chooses
smoothed_loss = partial(next_symbol_loss, label_smoothing=0.1)
pairs, unseen = dates(seed, "english")
smoothed = measure("dates to English, label smoothing 0.1", pairs, unseen, 5, loss_fn=smoothed_loss)
unseen = unseen[: show.choose(quick=8)]
source = tinycv.Tensor(unseen.source, device=show.device)
target = tinycv.Tensor(unseen.target, device=show.device)
for smoothing, model in {"0": demo.model, "0.1": smoothed}.items():
    with tinycv.no_grad():
        perplexity = np.exp(next_symbol_loss(model, source, target).item())
    show.measured(
        f"perplexity of unseen dates, label smoothing {smoothing}",
        perplexity,
        "Vaswani et al. 2017, table 3: 4.67 without, 4.92 with 0.1",
        "higher with than without",
    )

# %% Other tasks
pairs, unseen = dates(seed)
measure("dates to ISO", pairs, unseen, 3, ">= 0.995")
pairs, unseen = addition(2, seed=seed)
measure("sums of two digits", pairs, unseen, 40, ">= 0.99")
pairs = reversal(range(1, 17), n=show.choose(quick=64, full=20_000), seed=seed)
unseen = reversal([16], n=500, seed=100)
reverser = measure("reversal of 16 letters", pairs, unseen, 10)

# %% Strings longer than any in training
lengths = show.choose(quick=[1, 20], full=[1, 2, 4, 8, 12, 15, 16, 17, 18, 20, 24, 32])
test_size = show.choose(quick=8, full=200)
right = []
for length in lengths:
    unseen = reversal([length], n=test_size, seed=1000 + length)
    right.append(exact_match(reverser, unseen).mean())
metric = "strings in reverse, trained on 1 to 16 letters, share right"
show.measured(f"{metric}, at lengths {', '.join(map(str, lengths))}", right)

# %% Draw
in_training = np.mean([share for length, share in zip(lengths, right, strict=True) if length <= 16])
longer = np.mean([share for length, share in zip(lengths, right, strict=True) if length > 16])
figure = draw.figure(
    f"Transformer, strings in reverse: {100 * in_training:.0f} % right up to the longest in\n"
    f"training, {100 * longer:.0f} % right beyond",
    8,
    5,
)
ax = figure.subplots()
ax.set_ylim(-0.02, 1.05)
draw.curves(ax, {"": (lengths, right)}, "letters to write in reverse", "share without a mistake")
ax.axvspan(0, 16, color=draw.PALE, alpha=0.5, zorder=0)
ax.text(8, 0.5, "lengths of training", ha="center", fontsize=11)
show.finish(figure)
