"""03, the whole protocol: sums of two and of three digits, and strings in reverse from three seeds.

The demo itself, whose sums have three seeds; its strings from two more seeds; and sums of three
digits, learned by its functions, from one seed.
python demos/03_seq2seq.py --full
"""

import numpy as np

from tinycv.data import addition
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("03_seq2seq", __doc__, full=True)

# %% The demo
(demo,) = show.repeat_demo([show.seed])

# %% Strings in reverse, from two more seeds
by_length = {}  # a list of shares for each seed
for hidden in demo.SIZES:
    name = f"H = {hidden}"
    by_length[name] = [demo.by_length[name]]
    for seed in demo.SEEDS[1:]:
        by_length[name].append(demo.share_right_by_length(hidden, seed))
    metric = f"strings in reverse, H = {hidden}, mean share right of {len(demo.SEEDS)} seeds"
    at_lengths = ", ".join(map(str, demo.lengths))
    show.measured(f"{metric}, at lengths {at_lengths}", list(np.mean(by_length[name], axis=0)))

# %% Sums of three digits
for order in demo.ORDERS:
    pairs, unseen = addition(3, reverse_source=order == "read backwards", seed=show.seed)
    pairs = pairs[: show.choose(quick=256)]
    unseen = unseen[: show.choose(quick=50)]
    model = demo.new(pairs, hidden=128, seed=show.seed)
    epochs = show.choose(quick=1, full=28)
    demo.train(model, pairs, epochs, batch_size=128, rate=3e-3, seed=show.seed)
    metric = f"unseen sums of 3 digits, {order}, share right"
    show.measured(metric, demo.share_right(model, unseen))

# %% Draw: the mean of all seeds, and a thin line for each
figure = draw.figure(
    "Seq2seq: how long a string one vector holds, three seeds and their mean", 9, 5
)
ax = figure.subplots()
lines = {}
for (name, found), colour in zip(by_length.items(), (draw.BLUE, draw.RED), strict=True):
    for of_one_seed in found:
        ax.plot(demo.lengths, of_one_seed, color=colour, linewidth=0.8, alpha=0.7)
    lines[name] = (demo.lengths, np.mean(found, axis=0))
demo.draw_by_length(ax, lines)
show.finish(figure)
