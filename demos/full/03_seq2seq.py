"""03, the whole protocol: sums of two digits and strings from three seeds, sums of three digits.

The demo from three seeds. Sums of three digits are learnt by its functions, from one seed.
python demos/03_seq2seq.py --full
"""

import numpy as np

from tinycv.data import addition
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("03_seq2seq", __doc__, full=True)
SEEDS = range(show.choose(quick=1, full=3))

# %% The demo from each seed
runs = show.repeat_demo(SEEDS)
demo = runs[0]

# %% Sums of three digits
for way in demo.WAYS:
    pairs, unseen = addition(3, reverse_source=way == "read backwards", seed=SEEDS[0])
    pairs = pairs[: show.choose(quick=256)]
    unseen = unseen[: show.choose(quick=50)]
    model = demo.new(pairs, hidden=128)
    demo.train(model, pairs, epochs=show.choose(quick=1, full=28), batch_size=128, rate=3e-3)
    metric = f"unseen sums of 3 digits, {way}, share right"
    show.measured(metric, demo.share_right(model, unseen))

# %% Draw: the mean of all seeds
figure = draw.figure(
    "Strings in reverse: how long a string a vector holds, mean of all seeds", 8, 5
)
lines = {}
for name in demo.by_length:
    found = [run.by_length[name] for run in runs]
    lines[name] = (demo.lengths, np.mean(found, axis=0))
demo.draw_by_length(figure.subplots(), lines)
show.finish(figure)
