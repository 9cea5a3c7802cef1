"""13 · What does noise do to a picture, and can it be undone?
python demos/13_brownian.py      2 min on two cores

A drop of dye spreads in water because every particle is pushed at random: its variance grows as
2Dt. The same happens to the ink of a photograph: order becomes a Gaussian. Run the process
backwards, up the score, and fresh noise becomes the photograph again. Then the same is done with
images of digits, where each pixel is a coordinate. Nothing is learned here: the scores are exact,
computed from the stored pictures, so what comes back are stored pictures, and no new ones.
Read first: tinycv/diffusion/sde.py.
Einstein 1905; Anderson 1982; Song et al. 2021, "Score-Based Generative Modeling".
Photograph: danielbuechele, CC BY 2.0, as it ships with scikit-learn.
"""

import numpy as np
from sklearn.datasets import load_sample_image

from tinycv.data import Mixture, digits_8x8, picture
from tinycv.diffusion.sde import VP, euler_maruyama
from tinycv.engine.backend import module_for, to_device, to_numpy, uniform
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif

show = Demo("13_brownian", __doc__)
xp = module_for(show.device)
rng = np.random.default_rng(show.seed)

# %% Dye in water: at every step each particle is pushed by any amount up to a limit, either way
PARTICLES = show.choose(quick=5_000, default=200_000)
STEPS = show.choose(quick=60, default=400)
PUSH = 0.05  # standard deviation of one push
DT = 0.01
two_d = PUSH * PUSH / DT  # Einstein: 2D is the variance of a push over the time between two

looks = (1, STEPS // 16, STEPS // 4, STEPS)
dye = xp.zeros((PARTICLES, 2), "float32")  # all in one drop
variances = []
drops = {}  # time -> the first particles
for step in range(1, STEPS + 1):
    # a uniform number from -1/2 to 1/2 has the variance 1/12
    dye = dye + 12**0.5 * PUSH * (uniform(dye.shape, dye) - 0.5)
    variances.append(dye.var())
    if step in looks:
        drops[step * DT] = to_numpy(dye[:3000])

# %% Measure: does the variance grow as 2Dt, and is the drop a Gaussian in the end?
times = DT * np.arange(1, STEPS + 1)
variances = to_numpy(xp.stack(variances)).astype(float)
slope = (times @ variances) / (times @ times)  # of the line through 0, by least squares
z = to_numpy(dye).ravel() / np.sqrt(variances[-1])
show.measured(
    "variance of the dye per unit of time, beside 2D",
    slope / two_d,
    "1 (Einstein 1905)",
    "1 within 1 %",
)
show.measured(
    "excess kurtosis of where the dye is (0: Gaussian)", (z**4).mean() - 3, target="|.| <= 0.05"
)

# %% Data: the ink of a photograph. Where it is dark, there are many points
photo = load_sample_image("china.jpg")[18:402, 60:372].mean(axis=-1) / 255
cell = show.choose(quick=24, default=6)  # cell x cell pixels of the photograph become one
coarse = photo.reshape(384 // cell, cell, 312 // cell, cell).mean(axis=(1, 3))
dark = np.clip(0.62 - coarse, 0, None) ** 1.3
ink = picture(dark, width=3.2)
points = to_device(ink.sample(show.choose(quick=1000, default=7000), rng), show.device)

# %% Forward, order becomes noise; backward, up the exact score, fresh noise becomes order
sde = VP(0.1, 12.0)
# squared: short steps where there is detail
clock = np.linspace(0, 1, show.choose(quick=17, default=97)) ** 2
KEEP_EVERY = show.choose(quick=2, default=3)


def watched(process, start, clock, keep_every):
    """The points at the first of these times, after every so many steps, and at the last."""
    end, before = euler_maruyama(process, start, clock, keep_every=keep_every)
    return [*before, end]


def on_host(path):
    return [to_numpy(points) for points in path]


forth = on_host(watched(sde, points, clock, KEEP_EVERY))
fresh = sde.prior(points.shape, points)  # new noise: nothing is left of the points above
back = on_host(watched(sde.reverse(sde.score_of(ink)), fresh, clock[::-1], KEEP_EVERY))


# %% Measure: has all order gone, and has it come back?
def likelihood(points):
    """Mean log-likelihood under the ink, in nats, by a slight blur."""
    return ink.log_density(points.astype(float), 0.05).mean()


own = likelihood(forth[0])
show.measured(
    "width and height of the ink at the end, in standard deviations",
    list(forth[-1].std(axis=0)),
    target="1: the Gaussian",
)
show.measured(
    "log-likelihood of what came back, minus that of the ink itself, nats",
    likelihood(back[-1]) - own,
    target=">= -0.05",
)
show.measured("the same of the noise it came from", likelihood(back[0]) - own)

# %% Images: every pixel is a coordinate, and each of 1,797 digits a point in 64 dimensions
digits = 2 * digits_8x8()[0].reshape(-1, 64) - 1  # from -1 to 1
album = Mixture(digits, sigma=0.01)  # a tiny Gaussian around each digit
begin = to_device(digits[[0, 1, 2, 3]], show.device)
sixth = len(clock) // 6
fading = watched(sde, begin, clock, sixth)
noise = fading[-1]
rising = watched(sde.reverse(sde.score_of(album)), noise, clock[::-1], sixth)

# %% Measure: which digits came back?
found = to_numpy(rising[-1])
distances = np.linalg.norm(found[:, None] - digits, axis=-1)  # (4, 1797)
show.measured(
    "distance from what came back to the nearest digit, per pixel",
    distances.min(axis=1).mean() / 8,
    target="<= 0.03: noise is gone",
)
show.measured(
    "of 4 images, how many came back as themselves",
    (distances.argmin(axis=1) == [0, 1, 2, 3]).sum(),
    "about 0: the end remembers nothing of the beginning",
)


# %% Draw: the dye, the ink there and back, the digits there and back
def draw_points(ax, points, time, size, colour, reach):
    across, up = reach
    ax.scatter(points[:, 0], points[:, 1], s=size, color=colour, linewidths=0)
    ax.set(xlim=(-across, across), ylim=(-up, up), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"t = {time:.2f}", fontsize=10)


def draw_path(row, path, clock, shares):
    """The points after these shares of the kept steps."""
    for ax, share in zip(row, shares, strict=True):
        i = round(share * (len(path) - 1))
        time = clock[::KEEP_EVERY][i]
        draw_points(ax, path[i][:5000], time, 0.6, draw.INK, reach=(2.6, 2.1))


def draw_digits(place, path, name):
    """Three of the images, one a row, at seven times."""
    place.suptitle(name, fontsize=11)
    images = np.stack(on_host(path), axis=1).reshape(4, -1, 8, 8) / 2 + 0.5
    seven = np.linspace(0, images.shape[1] - 1, 7).astype(int)
    strips = np.clip(images[:3, seven], 0, 1)
    draw.image_grid(place, strips.reshape(-1, 8, 8), columns=7)


figure = draw.figure(
    "Noise turns pictures into a Gaussian; up the exact score, it becomes stored pictures", 11.5, 10
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1, 1.75, 0.95))

top.suptitle("dye in water: every particle is pushed at random, again and again", fontsize=11)
*drop_axes, line = top.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
for ax, (time, particles) in zip(drop_axes, drops.items(), strict=True):
    draw_points(ax, particles, time, 0.4, draw.LINES[0], reach=(3, 3))
lines = {
    "measured": (times, variances),
    "2 D t": (times, two_d * times),
}
draw.curves(line, lines, "time t", "variance of the dye")
line.lines[1].set_linestyle("--")
draw.note(line, f"slope / 2D = {slope / two_d:.4f}", "lower right")

middle.suptitle(
    "the ink of a photograph (danielbuechele, CC BY 2.0):  above, order becomes noise;  below, "
    "fresh noise becomes order, by the reverse SDE",
    fontsize=11,
)
above, below = middle.subplots(2, 5)
draw_path(above, forth, clock, shares=(0, 0.15, 0.3, 0.5, 1))
draw_path(below, back, clock[::-1], shares=(0, 0.5, 0.7, 0.85, 1))

left, right = bottom.subfigures(1, 2)
draw_digits(left, fading, "images of 64 pixels fade into noise")
draw_digits(right, rising, "and from there, the reverse SDE finds other stored images")


def frame(points, side=220):
    """Points as dark pixels of a small picture."""
    reach = [-2.4, 2.4]
    counts, _, _ = np.histogram2d(-points[:, 1], points[:, 0], bins=side, range=[reach, reach])
    return 1 - np.minimum(counts, 2) / 2


frames = [frame(points) for points in [*forth, *back]]
path = save_gif(frames, show.out / "13_brownian.gif", 0.08)
print(f"  moving picture: {path}")
show.finish(figure)
