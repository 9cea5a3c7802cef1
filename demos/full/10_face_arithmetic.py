"""10, the whole protocol: three seeds, every attribute asked, and neighbours farther away.

The demo is run from each seed. Then each attribute is asked, not only glasses, with one to ten
vectors per concept; and noise of growing strength is added to the answers.
python demos/10_face_arithmetic.py --full
"""

import numpy as np

from tinycv.adversarial.arithmetic import arithmetic, neighbours
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("10_face_arithmetic", __doc__, full=True)
COUNTS = show.choose(quick=(1, 3), full=(1, 3, 10))
NOISES = (0.0, 0.25, 0.5, 1.0, 2.0)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))
names = runs[0].names
rng = np.random.default_rng(show.seed)


# %% Each attribute asked. c differs from a and b in woman, or, if woman is asked, in glasses
def asked_of(run, asked, n):
    """The score of many answers of one seed, with the mean of n vectors per concept."""
    context = run.glasses if asked == run.woman else run.woman
    vectors, expected = run.picked_triples(n, asked, context)
    return run.scored(arithmetic(*(v.mean(axis=1) for v in vectors)), expected, asked)


flips = np.empty((len(runs), len(names), len(COUNTS)))
kept = np.empty_like(flips)
for i, run in enumerate(runs):
    for asked in range(len(names)):
        for j, n in enumerate(COUNTS):
            found = asked_of(run, asked, n)
            flips[i, asked, j], kept[i, asked, j] = found.flips, found.kept
for j, n in enumerate(COUNTS):
    metric = f"mean of {n}, each attribute asked ({', '.join(names)}), mean of all seeds"
    show.measured(f"{metric}: share of answers with it", flips[:, :, j].mean(axis=0).tolist())
    show.measured(f"{metric}: share of all others kept", kept[:, :, j].mean(axis=0).tolist())

# %% Neighbours: noise added to answers of the mean of three
around = np.empty((len(runs), len(NOISES)))  # share with glasses
for i, run in enumerate(runs):
    vectors, expected = run.picked_triples(3)
    answers = arithmetic(*(v.mean(axis=1) for v in vectors))
    for j, noise in enumerate(NOISES):
        moved = np.concatenate([neighbours(z, 1, rng, noise) for z in answers])
        around[i, j] = run.scored(moved, expected).flips
show.measured(
    f"answers with noise of +-{', '.join(map(str, NOISES))}: share with glasses, mean of all seeds",
    around.mean(axis=0).tolist(),
    "DCGAN adds +-0.25",
)

# %% Draw: by the number of vectors, by attribute, by noise
three = COUNTS.index(3)
of_three, of_one = flips[:, :, three].mean(), flips[:, :, 0].mean()
figure = draw.figure(
    f"Face arithmetic, mean of 3 vectors: {of_three:.0%} of answers have the asked attribute,\n"
    f"with one vector each {of_one:.0%} (synthetic faces, six attributes, {len(runs)} seeds)",
    11,
    4.6,
)
by_count, by_name, by_noise = figure.subplots(1, 3)
lines = {
    "asked": (COUNTS, flips.mean(axis=(0, 1))),
    "others\nkept": (COUNTS, kept.mean(axis=(0, 1))),
}
draw.curves(by_count, lines, "vectors per concept", "share")
for colour, values in zip((draw.BLUE, draw.RED), (flips, kept), strict=True):
    by_count.plot(COUNTS, values.mean(axis=1).T, color=colour, linewidth=0.7, alpha=0.6)
by_count.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS)
by_count.minorticks_off()
by_count.set_title("Thin lines: each seed", fontsize=11)

height = 0.4
for shift, j, colour in ((-height / 2, 0, draw.SKY), (height / 2, three, draw.BLUE)):
    places = np.arange(len(names)) + shift
    by_name.barh(places, flips[:, :, j].mean(axis=0), height, color=colour)
by_name.set(yticks=np.arange(len(names)), yticklabels=names, xlabel="share of answers with it")
by_name.invert_yaxis()
by_name.set_title("light: 1 vector, dark: mean of 3", fontsize=11)

draw.curves(by_noise, {"glasses": (NOISES, around.mean(axis=0))}, "noise, +-", "share with glasses")
by_noise.set_ylim(0, 1.02)
by_noise.set_title("Neighbours of the answers", fontsize=11)
show.finish(figure)
