"""16 · Do pictures fill their space, or a thin sheet in it?
python demos/16_manifold.py      41 s on two cores

Pictures are few among all arrays of pixels. The manifold hypothesis says that they lie on a sheet
of low dimension. Here the sheet can be seen: a Moebius band and a Swiss roll in space. A network
learns the score of their noised points; up that score, points from anywhere are pulled onto the
sheet, and are spread over it evenly. The nearer they are, the stronger the pull.
Read first: tinycv/data/surfaces.py, tinycv/diffusion/edm.py.
Song & Ermon 2019, section 3.2.1; Karras et al. 2022.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, moebius, swiss_roll
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.diffusion.samplers import trajectory
from tinycv.diffusion.tweedie import score_of
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("16_manifold", __doc__)
RATE = 5e-3
LEAST = 0.02  # noise levels
MOST = 10.0
total = show.choose(quick=10, default=4000, full=12_000)
many = show.choose(quick=100, default=4000)

# %% Data: two sheets in space, whose points can be drawn
SHEETS = {
    "Moebius band": moebius(),
    "Swiss roll": swiss_roll(),
}
rng = np.random.default_rng(1000 + show.seed)


# %% Training: the whole loop. One denoiser for all noise levels (diffusion/edm.py)
def learn(sheet, size):
    """A network learns points of the sheet, of this standard deviation. Returns its denoiser."""
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


# %% What is asked of a denoiser: where noise goes along its flow, and its score at noised points
ladder = edm_sigmas(show.choose(quick=8, default=32), LEAST, MOST)[:-1]  # the last would be 0
levels = np.geomspace(LEAST, 3, 9)


def pulled(denoise):
    """Noise of level MOST taken down to LEAST: where it is at each level of the ladder."""
    noise = MOST * tinycv.randn_like(tinycv.zeros(many, 3, device=show.device))
    step = partial(heun_step, denoise)
    return [x.numpy() for _, x in trajectory(step, noise, ladder)]


@dataclass
class Pull:
    sigma: float
    points: np.ndarray  # (N, 3): of the sheet, with noise of level sigma
    score: np.ndarray  # (N, 3)


def pull_at(sigma, sheet, denoise):
    points = sheet.sample(many, rng) + sigma * rng.normal(size=(many, 3))
    x = Tensor(points.astype(np.float32), device=show.device)
    score = score_of(denoise, EDM())(x, float(sigma)).numpy()
    return Pull(sigma, points, score)


# %% For each sheet: learn it, and ask
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
    """Chi^2 of the points over 16 x 3 cells, along and across the sheet."""
    count = np.bincount(sheet.cell(points, 16, 3), minlength=48)
    expected = many * sheet.cell_shares(16, 3)
    return ((count - expected) ** 2 / expected).sum()


strength = {}  # the mean length of the score, at each noise level
for name, sheet in SHEETS.items():
    end = paths[name][-1]
    show.measured(
        f"{name}: median distance from the sheet, in least noise levels",
        np.median(sheet.distance(end)) / LEAST,
        "0.674 for points of the sheet with that noise",
        "<= 1.5",
    )
    show.measured(
        f"{name}: chi^2 of {many} points over 48 cells of the sheet",
        unevenness(sheet, end),
        "47 on average, if they are even",
        "<= 72.4: not rejected at 1 %",
    )
    strength[name] = [np.linalg.norm(pull.score, axis=1).mean() for pull in pulls[name]]
    slope, _ = np.polyfit(np.log(levels[:4]), np.log(strength[name][:4]), 1)
    show.measured(
        f"{name}: slope of log |score| against log noise level, below 0.15",
        slope,
        "-1 (a flat sheet)",
        "-1 +- 0.1",
    )
    least = pulls[name][0]
    show.measured(
        f"{name}: E |score|^2 sigma^2 at the least level: directions that lead off the sheet",
        (least.score**2).sum(axis=1).mean() * LEAST**2,
        "3 less 2, and the edges' 0.03",
        "1 +- 0.1",
    )

# %% How strong the pull is on points that are so far from the Moebius band
BINS = np.linspace(0, 2.5, 11)  # edges of the bins: distances, in noise levels


def force_by_distance(sheet, pull):
    """The mean length of score x noise level in each bin; NaN where no point is."""
    bins = np.digitize(sheet.distance(pull.points) / pull.sigma, BINS) - 1
    force = np.linalg.norm(pull.score, axis=1) * pull.sigma
    means = []
    for i in range(len(BINS) - 1):
        inside = bins == i
        means.append(force[inside].mean() if inside.any() else np.nan)
    return means


profile = {}
for pull in pulls["Moebius band"][0:5:2]:
    profile[pull.sigma] = force_by_distance(SHEETS["Moebius band"], pull)


# %% Draw: noise on its way to each sheet
@dataclass
class View:
    enlarged: float
    azimuth: float  # degrees


VIEWS = {
    "Moebius band": View(enlarged=1.35, azimuth=-60),
    "Swiss roll": View(enlarged=1.0, azimuth=-75),
}


def draw_in_space(ax, name, x, turned=0.0):
    """Points in a box, coloured by where they are. turned: by so many degrees."""
    view = VIEWS[name]
    x = x * view.enlarged
    x = x[(np.abs(x) < 2.6).all(axis=1)]
    place = x[:, 2] + 0.5 * x[:, 1]
    ax.scatter(*x.T, s=2, c=place, cmap="viridis", linewidths=0, vmin=-1.6, vmax=1.6)
    ax.set(xlim=(-2, 2), ylim=(-2, 2), zlim=(-2, 2))
    ax.set_box_aspect((1, 1, 1), zoom=1.35)
    ax.view_init(35, view.azimuth + turned)
    ax.set_axis_off()


def nearest_level(sigma):
    """Its place in the ladder."""
    return int(np.argmin(np.abs(np.array(ladder) - sigma)))


figure = draw.figure(
    "Up the learned score, noise is pulled onto a thin sheet: so may pictures among all pixels",
    12.5,
    11,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
four = [nearest_level(sigma) for sigma in (2.0, 0.7, 0.25, LEAST)]
rows = top.subplots(2, 4, subplot_kw={"projection": "3d"})
for row, (name, path) in zip(rows, paths.items(), strict=True):
    for ax, i in zip(row, four, strict=True):
        draw_in_space(ax, name, path[i])
        ax.set_title(f"{name}, noise level {ladder[i]:.2g}", fontsize=10)

# %% Draw: the pull by noise level, and by distance
left, right = bottom.subplots(1, 2)
lines = {name: (levels, lengths) for name, lengths in strength.items()}
# off a flat sheet in space a point is as far as one normal number: E |z| = sqrt(2 / pi) = 0.798
lines["0.8 / noise level"] = (levels, np.sqrt(2 / np.pi) / levels)
draw.curves(left, lines, "noise level", "mean length of the score", log=True)
left.set_xscale("log")
left.set_title("near the sheet the pull grows as 1 / noise level", fontsize=10)

lines = {}
middles = (BINS[:-1] + BINS[1:]) / 2
for sigma, means in profile.items():
    lines[f"Moebius band, level {sigma:.2g}"] = (middles, means)
lines["a flat sheet"] = (BINS, BINS)
draw.curves(
    right, lines, "distance from the sheet, in noise levels", "length of the score x noise level"
)
right.set_title("at one noise level it is as strong as the point is far", fontsize=10)
show.finish(figure)

# %% Draw: points on their way to the Moebius band, which then turns a while
last = len(ladder) - 1
on_the_way = [*range(four[0], last + 1), *[last] * 16]


def frames(moving):
    ax = moving.add_subplot(projection="3d")
    for turn, i in enumerate(on_the_way):
        ax.clear()
        draw_in_space(ax, "Moebius band", paths["Moebius band"][i][:1500], 3 * turn)
        yield moving


moving = draw.figure("", 3.2, 3.2)
save_gif(frames(moving), show.out / "16_manifold.gif", 0.12, colours=32)
