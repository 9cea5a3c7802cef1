"""04, the whole protocol: dates, the lecture's sentences and strings in reverse, from three seeds.

This is the demo, three times.          python demos/04_attention.py --full
"""

import numpy as np

from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("04_attention", __doc__, full=True)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))
demo = runs[0]

# %% Draw: the mean of all seeds, and a thin line for each
figure = draw.figure("Strings in reverse: three seeds and their mean", 9, 5)
ax = figure.subplots()
lines = {}
colours = (draw.BLUE, draw.RED, draw.ORANGE)
for name, colour in zip(demo.by_length, colours, strict=True):
    found = [run.by_length[name] for run in runs]
    for of_one_seed in found:
        ax.plot(demo.lengths, of_one_seed, color=colour, linewidth=0.8, alpha=0.7)
    lines[name] = (demo.lengths, np.mean(found, axis=0))
demo.draw_by_length(ax, lines)
show.finish(figure)
