"""13 · What does noise do to a picture, and can it be undone?
python demos/13_brownian.py      2 min on two cores

A drop of dye spreads in water because every particle is pushed at random: its variance grows as
2Dt. The same happens to the ink of a photograph: order becomes a Gaussian. Run the process
backwards, up the score, and fresh noise becomes the photograph again. Then the same with images of
digits, where each pixel is a coordinate. Nothing is learned here: the scores are exact, computed
from the stored pictures, so what comes back are stored pictures, and no new ones.
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
xp, rng = module_for(show.device), np.random.default_rng(show.seed)

# %% dye in water: every particle is pushed again and again, each time by any amount up to a limit,
# each way
particles, steps, h, dt = show.choose(5_000, 200_000), show.choose(60, 400), 0.05, 0.01
# Einstein: pushes of variance h^2 every dt have this D
diffusion = h * h / (2 * dt)
dye, spread, drops = xp.zeros((particles, 2), "float32"), [], {}
for i in range(steps):
    dye = dye + 12**0.5 * h * (uniform(dye.shape, dye) - 0.5)  # uniform, of variance h^2
    spread.append(dye.var())
    if i + 1 in (1, steps // 16, steps // 4, steps):
        drops[(i + 1) * dt] = to_numpy(dye[:3000])
times, spread = dt * np.arange(1, steps + 1), to_numpy(xp.stack(spread)).astype(float)
slope = (times @ spread) / (times @ times)
z = to_numpy(dye).ravel() / np.sqrt(spread[-1])
show.measured(
    "variance of the dye per unit of time, beside 2D",
    slope / 2 / diffusion,
    "1 (Einstein 1905)",
    "1 within 1 %",
)
show.measured(
    "excess kurtosis of where the dye is (0: Gaussian)", (z**4).mean() - 3, target="|.| <= 0.05"
)

# %% the ink of a photograph: where it is dark, there are many points
photo = load_sample_image("china.jpg")[18:402, 60:372].mean(axis=-1) / 255
cell = show.choose(24, 6)
dark = (
    np.clip(0.62 - photo.reshape(384 // cell, cell, 312 // cell, cell).mean(axis=(1, 3)), 0, None)
    ** 1.3
)
ink, sde = picture(dark, width=3.2), VP(0.1, 12.0)
points = to_device(ink.sample(show.choose(1000, 7000), rng), show.device)
# short steps where there is detail
clock = np.linspace(0, 1, show.choose(17, 97)) ** 2
every = show.choose(2, 3)
gone, forth = euler_maruyama(sde, points, clock, keep_every=every)
# new noise: nothing is left of the points above
fresh = sde.prior(points.shape, points)
come, back = euler_maruyama(sde.reverse(sde.score_of(ink)), fresh, clock[::-1], keep_every=every)
forth, back = [[to_numpy(x) for x in path] for path in ([*forth, gone], [*back, come])]
# points are compared under a slight blur
blur = 0.05
own, again, noise = [
    ink.log_density(x.astype(float), blur).mean() for x in (forth[0], back[-1], back[0])
]
show.measured(
    "width and height of the ink at the end, in standard deviations",
    list(forth[-1].std(axis=0)),
    target="1: the Gaussian",
)
show.measured(
    "log-likelihood of what came back, minus that of the ink itself, nats",
    again - own,
    target=">= -0.05",
)
show.measured("the same of the noise it came from", noise - own)

# %% images: every pixel is a coordinate, and each of 1,797 digits a point in 64 dimensions
digits = 2 * digits_8x8()[0].reshape(-1, 64) - 1
album = Mixture(digits, sigma=0.01)
begin = to_device(digits[[0, 1, 2, 3]], show.device)
ends, fading = euler_maruyama(sde, begin, clock, keep_every=len(clock) // 6)
found, rising = euler_maruyama(
    sde.reverse(sde.score_of(album)), ends, clock[::-1], keep_every=len(clock) // 6
)
rows = [
    np.stack([to_numpy(x) for x in path], axis=1).reshape(4, -1, 8, 8) / 2 + 0.5
    for path in ([*fading, ends], [*rising, found])
]
gap = np.linalg.norm(to_numpy(found)[:, None] - digits, axis=-1)
show.measured(
    "distance from what came back to the nearest digit, per pixel",
    gap.min(axis=1).mean() / 8,
    target="<= 0.03: noise is gone",
)
show.measured(
    "of 4 images, how many came back as themselves",
    (gap.argmin(axis=1) == [0, 1, 2, 3]).sum(),
    "about 0: the end remembers nothing of the beginning",
)

# %% draw
figure = draw.figure(
    "Noise turns pictures into a Gaussian; up the exact score, it becomes stored pictures", 11.5, 10
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1, 1.75, 0.95))
*drop_axes, line = top.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
for ax, (t, x) in zip(drop_axes, drops.items(), strict=True):
    ax.scatter(*x.T, s=0.4, color=draw.LINES[0], linewidths=0)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"t = {t:.2f}", fontsize=10)
top.suptitle("dye in water: every particle is pushed at random, again and again", fontsize=11)
draw.curves(
    line,
    {"measured": (times, spread), "2 D t": (times, 2 * diffusion * times)},
    "time t",
    "variance of the dye",
)
line.lines[1].set_linestyle("--")
draw.note(line, f"slope / 2D = {slope / (2 * diffusion):.4f}", "lower right")
middle.suptitle(
    "the ink of a photograph (danielbuechele, CC BY 2.0):  above, order becomes noise;  below, "
    "fresh noise becomes order, by the reverse SDE",
    fontsize=11,
)
shown = (0, 0.15, 0.3, 0.5, 1)
for row, path in zip(middle.subplots(2, 5), (forth, back), strict=True):
    for ax, share in zip(row, shown if path is forth else 1 - np.array(shown[::-1]), strict=True):
        i = round(share * (len(path) - 1))
        t = (
            clock[min(i * every, len(clock) - 1)]
            if path is forth
            else clock[max(len(clock) - 1 - i * every, 0)]
        )
        ax.scatter(*path[i][:5000].T, s=0.6, color=draw.INK, linewidths=0)
        ax.set(xlim=(-2.6, 2.6), ylim=(-2.1, 2.1), aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"t = {t:.2f}", fontsize=10)
left, right = bottom.subfigures(1, 2)
for place, strip, name in (
    (left, rows[0], "images of 64 pixels fade into noise"),
    (right, rows[1], "and from there, the reverse SDE finds other stored images"),
):
    place.suptitle(name, fontsize=11)
    draw.image_grid(
        place,
        np.clip(strip[:3, np.linspace(0, strip.shape[1] - 1, 7).astype(int)], 0, 1).reshape(
            -1, 8, 8
        ),
        columns=7,
    )
show.finish(figure)


def frame(x, side=220):
    """Points as dark pixels of a small picture."""
    seen = np.histogram2d(-x[:, 1], x[:, 0], bins=side, range=[[-2.4, 2.4]] * 2)[0]
    return 1 - np.minimum(seen, 2) / 2


save_gif([frame(x) for x in [*forth, *back]], show.out / "13_brownian.gif", 0.08)
