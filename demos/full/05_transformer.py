"""05, the whole protocol: sorting and dates from three seeds; other tasks from one.

The demo from three seeds. By its functions, and cut to one seed: dates to English with label
smoothing, dates to ISO, addition, and reversal, then asked of strings longer than any that it was
shown.          python demos/05_transformer.py --full
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
    """Train a model and note how much it has right. Returns it."""
    print(name, flush=True)
    pairs = pairs[: show.choose(quick=64)]
    test = test[: show.choose(quick=8)]
    tinycv.manual_seed(seed)
    model = demo.translator(pairs).to(show.device)
    demo.train(model, pairs, show.choose(quick=1, full=epochs), loss_fn)
    metric = f"{name}: share of {len(test)} unseen answers without mistake"
    show.measured(metric, exact_match(model, test).mean(), target=target)
    return model


# %% What label smoothing costs: among how many equally likely symbols it chooses
softer = partial(next_symbol_loss, label_smoothing=0.1)
pairs, unseen = dates(seed, "english")
soft = measure("dates to English, label smoothing 0.1", pairs, unseen, 5, loss_fn=softer)
unseen = unseen[: show.choose(quick=8)]
source = tinycv.Tensor(unseen.source, device=show.device)
target = tinycv.Tensor(unseen.target, device=show.device)
for smoothing, model in {"0": demo.model, "0.1": soft}.items():
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

# %% Strings longer than any that it was shown
lengths = show.choose(quick=[1, 20], full=[1, 2, 4, 8, 12, 15, 16, 17, 18, 20, 24, 32])
asked = show.choose(quick=8, full=200)
right = []
for length in lengths:
    unseen = reversal([length], n=asked, seed=1000 + length)
    right.append(exact_match(reverser, unseen).mean())
metric = f"reversal of {', '.join(map(str, lengths))} letters, trained on 1 to 16"
show.measured(metric, right)

# %% Draw
figure = draw.figure(
    "Strings in reverse: does a Transformer go beyond the lengths it was shown?", 8, 5
)
lines = {"": (lengths, right)}
ax = figure.subplots()
draw.curves(ax, lines, "letters to reverse (trained on 1 to 16)", "share without mistake")
ax.set_ylim(-0.02, 1.05)
show.finish(figure)
