"""04, the whole protocol: dates, the lecture's sentences and strings in reverse, from three seeds.

It is the demo, three times.          python demos/04_attention.py --full
"""

import numpy as np

from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("04_attention", __doc__, full=True)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))
demo = runs[0]

# %% Draw: the mean of all seeds
figure = draw.figure("Strings in reverse, by their length: the mean of all seeds", 8, 5)
lines = {}
for name in demo.by_length:
    found = [run.by_length[name] for run in runs]
    lines[name] = (demo.lengths, np.mean(found, axis=0))
demo.draw_by_length(figure.subplots(), lines)
show.finish(figure)
