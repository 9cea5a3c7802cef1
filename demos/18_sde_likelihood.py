"""18 · Score SDE: what is the likelihood of a point under a diffusion model?
python demos/18_sde_likelihood.py      10 min on one core

A diffusion model draws samples, and it can also tell how probable each point is. Its noisy process
has the same densities as a process without noise, the probability flow ODE, along which the
log-density changes by the divergence of the flow. Here that log p is compared with densities that
are known, two of them with sharp edges, for three processes (VE, VP, sub-VP): with the exact score
it is right to 0.01 nats, with a learned score to 0.05.
Read first: tinycv/diffusion/sde.py, diffusion/ode.py.
Song et al. 2021 (score SDE), sections 3.4, 4 and appendix D; Grathwohl et al. 2019 (FFJORD).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

import tinycv
from tinycv.data import DrawnLoader, checkerboard, corners, eight_gaussians, entropy, two_moons
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss
from tinycv.diffusion.ode import euler, heun, log_likelihood, rk4, solve
from tinycv.diffusion.sde import VE, VP, SubVP, euler_maruyama, predictor_corrector
from tinycv.diffusion.tweedie import score_of
from tinycv.engine.backend import standard_normal, to_device, to_numpy
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import modes_covered
from tinycv.training.progress import read_loss, say, steps

show = Demo("18_sde_likelihood", __doc__)
RATE = 5e-3
total = show.choose(quick=10, default=8000, full=24_000)
many = show.choose(quick=20, default=1500)
rng = np.random.default_rng(1000 + show.seed)

# %% Data: four known densities, two of them with sharp edges
DATA = {
    "eight Gaussians": eight_gaussians(),
    "two moons": two_moons(0.15, 60),
    "corners": corners(),
    "checkerboard": checkerboard(),
}


# %% Model: a network that removes noise. Its score has the same name and arguments as a density's
@dataclass
class Learned:
    score: Callable  # (x, noise level) -> (N, 2)


def learned_score(model, unit):
    """The score of the data, from a network that sees points divided by ``unit``."""
    in_units = edm_denoiser(model)

    def denoise(x, sigma):
        return unit * in_units(x / unit, sigma / unit)

    return Learned(score_of(denoise, EDM()))


# %% Training: the whole loop. One network serves all noise levels, and so all three processes
def learn(density):
    """Train on the density. Low frequencies of the place alone keep the network smooth."""
    tinycv.manual_seed(show.seed)
    model = ScoreMLP(2, place_features=8, fastest=8.0).to(show.device)
    optimizer = Adam(model.parameters(), lr=RATE)
    schedule = warmup_cosine(total, warmup=total // 20)
    ema = EMA(model, decay=0.998)
    unit = float(2 * density.sample(10_000, rng).std())  # in these units the deviation is 1/2
    loader = DrawnLoader(lambda n, rng: (density.sample(n, rng) / unit,), 1024, total, show.seed)
    for step, (x,) in steps(loader, 1, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = RATE * schedule(step)
        optimizer.zero_grad()
        loss = edm_loss(model, x, mean=-2.4, std=1.6)
        loss.backward()
        optimizer.step()
        ema.update()
        if (step + 1) % (total // 10) == 0:
            say(f"step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
    model.load_state_dict(ema.state_dict())
    return learned_score(model, unit)


learned = {name: learn(density) for name, density in DATA.items()}

# %% Three processes, and the times of their steps
vp = VP()
SDES = {"VE": VE(0.01, 50.0), "VP": vp, "sub-VP": SubVP()}
# The first time of each process is where its noise is 0.005: without noise an edge has no score.
FIRST = {"VE": 0.0131, "VP": 0.000244, "sub-VP": 0.0179}
fine = show.choose(quick=4, default=50)  # steps


def clock(first, count):
    """Times from ``first`` to 1 in ``count`` steps, which are short where there is little noise."""
    return first + (1 - first) * np.linspace(0, 1, count + 1) ** 2


def log_p(kind, density, x, along=None):
    """log p of points x (N, 2) along the probability flow of this process: (N,).

    density: anything with a score: a known density, or a Learned. along: one random direction per
    point, if the divergence is to be estimated.
    """
    sde = SDES[kind]
    x = to_device(x, show.device)
    times = clock(FIRST[kind], fine)
    return to_numpy(log_likelihood(sde, sde.score_of(density), x, times, along))


# %% The log-likelihood of unseen points minus the truth: on average, minus the KL divergence
points = {name: density.sample(many, rng) for name, density in DATA.items()}
exact_gaps = {}  # by density and process: (N,)
learned_gaps = {}
for name, density in DATA.items():
    truth = density.log_density(points[name].astype(float))
    for kind in SDES:
        exact_gaps[name, kind] = log_p(kind, density, points[name]) - truth
        learned_gaps[name, kind] = log_p(kind, learned[name], points[name]) - truth

# %% The divergence along one random direction per point (Hutchinson), and the exact divergence
eight = learned["eight Gaussians"]
ring_points = to_device(points["eight Gaussians"], show.device)
exact = log_p("VP", eight, ring_points)
guess = log_p("VP", eight, ring_points, along=standard_normal(ring_points.shape, ring_points))

# %% How many steps? The error of the likelihood with the exact score, by solver
COUNTS = (5, 10, 20, 40)
SOLVERS = {"euler": euler, "heun": heun, "rk4": rk4}
density = DATA["eight Gaussians"]
points_200 = points["eight Gaussians"][:200].astype(float)
truth = density.log_density(points_200)
errors = {}
for solver, one_step in SOLVERS.items():
    errors[solver] = []
    for count in COUNTS:
        found = log_likelihood(vp, vp.score_of(density), points_200, clock(0, count), step=one_step)
        errors[solver].append(np.abs(found - truth).mean())

# %% Samples with the learned score: reverse SDE, predictor-corrector, and probability flow ODE
score = vp.score_of(eight)
noise = vp.prior((many, 2), ring_points)
count = show.choose(quick=8, default=200)  # steps

made, path = euler_maruyama(vp.reverse(score), noise, clock(1e-3, count)[::-1], keep_every=1)
corrected = predictor_corrector(vp, score, noise, clock(1e-3, count // 2)[::-1], snr=0.1)

straight = [noise]
for t, then in pairwise(clock(1e-3, count // 4)[::-1]):
    x = solve(vp.flow(score), straight[-1], (t, then), heun)
    straight.append(x)

samples = {
    "reverse SDE": to_numpy(made),
    "predictor-corrector": to_numpy(corrected),
    "probability flow ODE": to_numpy(straight[-1]),
}
walks = {
    "reverse SDE": path,
    "probability flow ODE": straight,
}

# %% The learned density on the whole plane
REACH = 4.475  # chosen so that no point lies on an edge of the checkerboard
side = show.choose(quick=8, default=180)
plane = draw.plane(REACH, side)
on_plane = {name: log_p("VP", learned[name], plane) for name in ("eight Gaussians", "checkerboard")}


# %% Measure
def measure_gap(metric, gap, target):
    error = gap.std() / many**0.5
    show.measured(metric, gap.mean(), f"standard error {error:.4f}", target)


gap_is = "mean log-likelihood minus the truth, nats"
for name, density in DATA.items():
    floor = entropy(density, 5, show.choose(quick=50, default=1000))
    show.measured(f"{name}: entropy, nats", floor, "the floor: minus the true mean")
    for kind in SDES:
        gap = exact_gaps[name, kind]
        measure_gap(f"{name}, {kind}, exact score: {gap_is}", gap, "within 0.01")
        gap = learned_gaps[name, kind]
        two_errors = 2 * gap.std() / many**0.5
        target = f"-0.05 to {two_errors:.4f}"
        measure_gap(f"{name}, {kind}, learned score: {gap_is}", gap, target)

off = guess - exact
show.measured(
    "Hutchinson's estimate minus the exact one, in standard errors",
    off.mean() / off.std() * many**0.5,
    target="|.| <= 2",
)
ring = DATA["eight Gaussians"]
for way, x in samples.items():
    modes = modes_covered(x, ring.means, ring.sigma)
    metric = f"{way}: share within 3 sigma of a mode"
    show.measured(metric, modes.share, "0.989 for the data", ">= 0.96")
    show.measured(f"{way}: KL of the shares of the modes", modes.reverse_kl, "", "<= 0.01")

cell = (plane[1, 0] - plane[0, 0]) ** 2  # its area
for name, found in on_plane.items():
    metric = f"{name}: integral of the learned density over the plane"
    show.measured(metric, np.exp(found).sum() * cell, target="1 +- 0.005")

# %% Draw: log p, true and learned, and the error where the truth is above the last shade
FLOOR = 9.0  # nats below the greatest log p: what lies lower is white
truth_on_plane = {name: DATA[name].log_density(plane.astype(float)) for name in on_plane}
error_on_plane = {}  # NaN where the truth is white
for name, found in on_plane.items():
    truth = truth_on_plane[name]
    error_on_plane[name] = np.where(truth > truth.max() - FLOOR, found - truth, np.nan)
typical = {}  # the median of the error's size at points of the data
for name in on_plane:
    typical[name] = np.median(np.abs(learned_gaps[name, "VP"]))


def learned_log_p(name, _):
    """For draw.density, which asks for log p on the same points as ``plane``."""
    return on_plane[name]


figure = draw.figure(
    "Score SDE: the probability flow ODE gives log p of every point.\n"
    f"Median error: {typical['eight Gaussians']:.2f} nats (Gaussians), "
    f"{typical['checkerboard']:.2f} (checkerboard)",
    8.2,
    9.2,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1.05))
rows = top.subplots(2, 3)
for row, name in zip(rows, on_plane, strict=True):
    true_axes, learned_axes, error_axes = row
    draw.density(true_axes, DATA[name].log_density, REACH, FLOOR)
    true_axes.set_ylabel(name, fontsize=12)
    draw.density(learned_axes, partial(learned_log_p, name), REACH, FLOOR, side=side)
    error = np.clip(error_on_plane[name].reshape(side, side), -1, 1)
    shades = error_axes.imshow(
        error,
        cmap="RdBu",
        vmin=-1,
        vmax=1,
        origin="lower",
        extent=(-REACH, REACH, -REACH, REACH),
    )
    error_axes.set(xticks=[], yticks=[], facecolor=draw.PALE)
for ax, title in zip(rows[0], ("true log p", "learned log p", "learned - true"), strict=True):
    ax.set_title(title, fontsize=12)
rows[1, 2].set_xlabel("grey: hardly any data", fontsize=11)
bar = top.colorbar(shades, ax=rows[:, 2], fraction=0.06, pad=0.03)
bar.set_ticks((-1, -0.5, 0, 0.5, 1), labels=("<= -1", "-0.5", "0", "0.5", ">= 1"))
bar.set_label("error of log p, nats", fontsize=11)


# %% Draw: from noise to samples, and what steps cost
def draw_walk(ax, way):
    """Where all samples ended, and the paths of five."""
    draw.scatter(ax, samples[way], 4.5, draw.SKY)
    five = np.stack([to_numpy(x[:5]) for x in walks[way]])  # (T, 5, 2)
    for i in range(5):
        ax.plot(five[:, i, 0], five[:, i, 1], color=draw.RED, linewidth=0.9)
        ax.plot(five[0, i, 0], five[0, i, 1], "o", color="white", markeredgecolor=draw.INK)
        ax.plot(five[-1, i, 0], five[-1, i, 1], "o", color=draw.INK, markersize=6)
    ax.set_title(way, fontsize=12)
    ax.set_xlabel("noise (white) to sample (black)", fontsize=10)


left, middle, right = bottom.subplots(1, 3, width_ratios=(1, 1, 1))
draw_walk(left, "reverse SDE")
draw_walk(middle, "probability flow ODE")
lines = {solver: (COUNTS, error) for solver, error in errors.items()}
draw.curves(right, lines, "steps", "error of log p, nats", log=True)
right.set_xscale("log", base=2)
right.set_xticks(COUNTS, COUNTS)
right.set_title("exact score, by solver", fontsize=12)
show.finish(figure)
