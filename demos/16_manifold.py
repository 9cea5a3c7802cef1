"""16 · The manifold hypothesis: do images fill the space of pixels, or a thin sheet in it?
python demos/16_manifold.py      64 s on one core

Images are few among all arrays of pixels. The manifold hypothesis says that they lie on a sheet of
low dimension. In three dimensions such a sheet can be seen: a Moebius band and a Swiss roll. A
network learns the score of their noised points; this score pulls points from anywhere onto the
sheet and spreads them over it evenly. The nearer the points are, the stronger the pull. The
manifold of the lecture is one of images, so the last row measures real digits: the distances to
their nearest neighbours tell in how many directions they vary, among 784 pixels.
Read first: tinycv/data/surfaces.py, tinycv/diffusion/edm.py.
Song & Ermon 2019, section 3.2.1; Karras et al. 2022 (EDM); Levina & Bickel 2004 (dimension).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, mnist_5k, moebius, swiss_roll
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.diffusion.samplers import trajectory
from tinycv.diffusion.tweedie import score_of
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import squared_distances
from tinycv.show.motion import save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("16_manifold", __doc__)
RATE = 5e-3
LEAST = 0.02  # the lowest noise level
MOST = 10.0  # the highest
total = show.choose(quick=10, default=4000, full=12_000)
many = show.choose(quick=100, default=4000)

# %% Data: two sheets in space, which can be drawn
SHEETS = {
    "Moebius band": moebius(),
    "Swiss roll": swiss_roll(),
}
rng = np.random.default_rng(1000 + show.seed)


# %% Training: the whole loop. One denoiser for all noise levels (diffusion/edm.py)
def learn(sheet, size):
    """Train on points of the sheet, whose standard deviation is ``size``. Returns a denoiser."""
    tinycv.manual_seed(show.seed)
    model = ScoreMLP(3).to(show.device)
    optimizer = Adam(model.parameters(), lr=RATE)
    schedule = warmup_cosine(total, warmup=total // 20)
    ema = EMA(model, decay=0.99)
    loader = DrawnLoader(lambda n, rng: (sheet.sample(n, rng),), 512, total, show.seed)
    for step, (x,) in steps(loader, 1, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = RATE * schedule(step)
        optimizer.zero_grad()
        loss = edm_loss(model, x, sigma_data=size, mean=-1.7, std=1.5)
        loss.backward()
        optimizer.step()
        ema.update()
        if (step + 1) % (total // 10) == 0:
            say(f"step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
    model.load_state_dict(ema.state_dict())
    return edm_denoiser(model, size)


# %% What to do with a denoiser: follow noise along its flow, and take its score at noised points
ladder = edm_sigmas(show.choose(quick=8, default=32), LEAST, MOST)[:-1]  # without the last, 0
levels = np.geomspace(LEAST, 3, 9)


def pulled(denoise):
    """Noise taken from level MOST down to LEAST: the points at each level of the ladder."""
    noise = MOST * tinycv.randn_like(tinycv.zeros(many, 3, device=show.device))
    step = partial(heun_step, denoise)
    return [x.numpy() for _, x in trajectory(step, noise, ladder)]


@dataclass
class Pull:
    sigma: float
    points: np.ndarray  # (N, 3): points of the sheet with noise of level sigma
    score: np.ndarray  # (N, 3)


def pull_at(sigma, sheet, denoise):
    points = sheet.sample(many, rng) + sigma * rng.normal(size=(many, 3))
    x = Tensor(points.astype(np.float32), device=show.device)
    score = score_of(denoise, EDM())(x, float(sigma)).numpy()
    return Pull(sigma, points, score)


# %% For each sheet: train, then sample and take scores
paths = {}
pulls = {}
for name, sheet in SHEETS.items():
    size = float(sheet.sample(10_000, rng).std())
    denoise = learn(sheet, size)
    with tinycv.no_grad():
        paths[name] = pulled(denoise)
        pulls[name] = [pull_at(sigma, sheet, denoise) for sigma in levels]


# %% Measure: are the points on the sheet, do they fill it evenly, and how strong is the pull?
def unevenness(sheet, points):
    """Chi^2 of the numbers of points in 16 x 3 cells along and across the sheet."""
    count = np.bincount(sheet.cell(points, 16, 3), minlength=48)
    expected = many * sheet.cell_shares(16, 3)
    return ((count - expected) ** 2 / expected).sum()


strength = {}  # the mean length of the score, at each noise level
for name, sheet in SHEETS.items():
    end = paths[name][-1]
    show.measured(
        f"{name}: median distance from the sheet, divided by the lowest noise level",
        np.median(sheet.distance(end)) / LEAST,
        "points of the sheet with that noise: 0.674",
        "<= 1.5",
    )
    show.measured(
        f"{name}: chi^2 of {many} points over 48 cells of the sheet",
        unevenness(sheet, end),
        "evenly spread points: 47 on average",
        "<= 72.4: not rejected at 1 %",
    )
    strength[name] = [np.linalg.norm(pull.score, axis=1).mean() for pull in pulls[name]]
    slope, _ = np.polyfit(np.log(levels[:4]), np.log(strength[name][:4]), 1)
    show.measured(
        f"{name}: slope of log |score| against log noise level, for levels below 0.15",
        slope,
        "-1 (a flat sheet)",
        "-1 +- 0.1",
    )
    least = pulls[name][0]
    show.measured(
        f"{name}: E |score|^2 sigma^2 at the lowest level: the number of directions off the sheet",
        (least.score**2).sum(axis=1).mean() * LEAST**2,
        "3 - 2, and 0.03 from the edges",
        "1 +- 0.1",
    )

# %% The local dimension of a set of points, by maximum likelihood (Levina & Bickel 2004, eq. 8).
# In d dimensions the number of neighbours within a distance r grows as r^d. So d is one over the
# mean of log(T_k / T_j), where T_j is the distance to the j-th nearest neighbour, j < k.
NEIGHBOURS = 20


def local_dimensions(points):
    """One dimension per point, from its nearest neighbours."""
    flat = points.reshape(len(points), -1).astype(np.float64)
    squared = squared_distances(flat, flat)
    nearest = np.sort(squared, axis=1)[:, 1 : NEIGHBOURS + 1] ** 0.5  # column 0 is the point itself
    return 1 / np.log(nearest[:, -1:] / nearest[:, :-1]).mean(axis=1)


def dimension(estimates):
    """Their harmonic mean: the estimates of many points as one (MacKay & Ghahramani 2005)."""
    return 1 / np.mean(1 / estimates)


x, y, _, _ = mnist_5k()
count = show.choose(quick=400, default=4000)
x, y = x[:count], y[:count]  # (N, 1, 28, 28), (N,)
dimension_of_digit = []  # by label
one_of_each = []
for label in range(10):
    of_label = x[y == label]
    dimension_of_digit.append(dimension(local_dimensions(of_label)))
    one_of_each.append(of_label[0])
for name, sheet in SHEETS.items():
    show.measured(
        f"{name}: local dimension of its points, from {NEIGHBOURS} neighbours",
        dimension(local_dimensions(sheet.sample(count, rng))),
        "2",
        "2 +- 0.15",
    )
show.measured(
    f"local dimension of real digits, from {NEIGHBOURS} neighbours, by label 0 to 9",
    dimension_of_digit,
    "784 pixels",
    "far below 784",
)


# %% Draw: noise on its way to each sheet
@dataclass
class View:
    enlarged: float
    azimuth: float  # degrees


VIEWS = {
    "Moebius band": View(enlarged=1.35, azimuth=-60),
    "Swiss roll": View(enlarged=1.0, azimuth=-75),
}

BY_HEIGHT = LinearSegmentedColormap.from_list("height", [draw.BLUE, draw.SKY, draw.ORANGE])


def draw_in_space(ax, name, x, turned=0.0, size=2.5):
    """Points in a box, coloured by their height and depth. turned: the view, in degrees."""
    view = VIEWS[name]
    x = x * view.enlarged
    x = x[(np.abs(x) < 2.6).all(axis=1)]
    place = x[:, 2] + 0.5 * x[:, 1]
    ax.scatter(*x.T, s=size, c=place, cmap=BY_HEIGHT, linewidths=0, vmin=-1.6, vmax=1.6)
    ax.set(xlim=(-2, 2), ylim=(-2, 2), zlim=(-2, 2))
    ax.set_box_aspect((1, 1, 1), zoom=1.35)
    ax.view_init(35, view.azimuth + turned)
    ax.set_axis_off()


def nearest_level(sigma):
    """The index in the ladder of the level nearest to sigma."""
    return int(np.argmin(np.abs(np.array(ladder) - sigma)))


lowest, highest = min(dimension_of_digit), max(dimension_of_digit)
figure = draw.figure(
    "The manifold hypothesis: the score pulls noise onto a thin sheet.\n"
    f"Digits have 784 pixels, but vary in about {lowest:.0f} to {highest:.0f} directions",
    7.6,
    10.4,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.15, 0.62, 1))
three = [nearest_level(sigma) for sigma in (1.0, 0.25, LEAST)]
rows = top.subplots(2, 3, subplot_kw={"projection": "3d"})
for row, (name, path) in zip(rows, paths.items(), strict=True):
    for ax, i in zip(row, three, strict=True):
        draw_in_space(ax, name, path[i])
        ax.set_title(f"{name}, noise {ladder[i]:.2g}", fontsize=12)

# %% Draw: the digits with their dimensions, and the pull by noise level
digit_axes = middle.subplots()
captions = [f"{found:.1f}" for found in dimension_of_digit]
draw.image_rows(digit_axes, {"real\ndigits": one_of_each}, captions)
digit_axes.tick_params(axis="x", labeltop=False, labelbottom=True, labelsize=12)
digit_axes.set_title("Local dimension of each digit, from its nearest neighbours", fontsize=12)

pull_axes = bottom.subplots()
# Off a flat sheet in space a point is as far as one normal number: E |z| = sqrt(2 / pi) = 0.798.
flat_sheet = np.sqrt(2 / np.pi) / levels
pull_axes.plot(
    levels, flat_sheet, color=draw.INK, linestyle="--", linewidth=1.4, label="flat sheet"
)
lines = {name: (levels, lengths) for name, lengths in strength.items()}
draw.curves(pull_axes, lines, "noise level", "mean length of the score", log=True)
pull_axes.set_xscale("log")
pull_axes.set_title("How strong is the pull?", fontsize=12)
show.finish(figure)

# %% Draw: points on their way to the Moebius band, which then turns a while
last = len(ladder) - 1
first = nearest_level(2.0)
on_the_way = [*range(first, last + 1), *[last] * 16]


def frames(moving):
    ax = moving.add_subplot(projection="3d")
    for turn, i in enumerate(on_the_way):
        ax.clear()
        draw_in_space(ax, "Moebius band", paths["Moebius band"][i][:1500], 3 * turn, size=7)
        moving.suptitle(f"Up the learned score: noise level {ladder[i]:.2f}", fontsize=11)
        yield moving


moving = draw.figure("", 3.4, 3.5)
path_of_gif = save_gif(frames(moving), show.out / "16_manifold.gif", 0.12, colours=64)
print(f"  moving picture: {path_of_gif}")
