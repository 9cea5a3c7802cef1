"""18 · How probable is a point, to a diffusion model?
python demos/18_sde_likelihood.py      5 min on two cores

A diffusion model draws samples, and can say how probable each point is: its noisy path has the same
densities as a path without chance, along which the log-density changes by the divergence of the
flow. Here that is compared with densities that are known, two of them with sharp edges, for three
processes: with the exact score (right to 0.01 nats) and with a learned one (to 0.05).
Read first: tinycv/diffusion/sde.py, diffusion/ode.py.
Song et al. 2021, sections 3.4, 4 and appendix D; Grathwohl et al. 2019.
"""

from collections.abc import Callable
from dataclasses import dataclass
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

# %% Data: four densities that are known, two with sharp edges
DATA = {
    "eight Gaussians": eight_gaussians(),
    "two moons": two_moons(0.15, 60),
    "corners": corners(),
    "checkerboard": checkerboard(),
}


# %% Model: a network that takes noise out; its score has the name and arguments of a density's own
@dataclass
class Learned:
    score: Callable  # (x, noise level) -> (N, 2)


def with_its_score(model, unit):
    """Of points that the network sees divided by ``unit``."""
    in_units = edm_denoiser(model)

    def denoise(x, sigma):
        return unit * in_units(x / unit, sigma / unit)

    return Learned(score_of(denoise, EDM()))


# %% Training: the whole loop. One network serves all noise levels, and so all three processes
def learn(density):
    """Slow waves of the places keep the network smooth."""
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
    return with_its_score(model, unit)


learned = {name: learn(density) for name, density in DATA.items()}

# %% Three processes, and the times at which a path is looked at
vp = VP()
SDES = {"VE": VE(0.01, 50.0), "VP": vp, "sub-VP": SubVP()}
# the first time of each: where its noise is 0.005, as an edge has no score without noise
FIRST = {"VE": 0.0131, "VP": 0.000244, "sub-VP": 0.0179}
fine = show.choose(quick=4, default=50)  # steps


def clock(first, count):
    """From ``first`` to 1 in so many steps, short ones where there is little noise."""
    return first + (1 - first) * np.linspace(0, 1, count + 1) ** 2


def log_p(kind, density, x, along=None):
    """Of points x (N, 2), along the flow of this process, by the score of a density or a Learned.

    along: one direction for each point, to estimate the divergence.
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

# %% The divergence along one random direction a point (Hutchinson), beside the exact one
eight = learned["eight Gaussians"]
some = to_device(points["eight Gaussians"], show.device)
exact = log_p("VP", eight, some)
guess = log_p("VP", eight, some, along=standard_normal(some.shape, some))

# %% How many steps: the error of the likelihood with the exact score, by rule
COUNTS = (5, 10, 20, 40)
RULES = {"euler": euler, "heun": heun, "rk4": rk4}
density = DATA["eight Gaussians"]
few = points["eight Gaussians"][:200].astype(float)
truth = density.log_density(few)
errors = {}
for rule, one_step in RULES.items():
    errors[rule] = []
    for count in COUNTS:
        found = log_likelihood(vp, vp.score_of(density), few, clock(0, count), step=one_step)
        errors[rule].append(np.abs(found - truth).mean())

# %% Samples by the learned score: with noise, with noise and a corrector, and without noise
score = vp.score_of(eight)
noise = vp.prior((many, 2), some)
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
    "flow (ODE)": to_numpy(straight[-1]),
}
walks = {
    "reverse SDE": path,
    "flow (ODE)": straight,
}

# %% The learned density on the whole plane
REACH = 4.475  # so that no point of it is on an edge of the checkerboard
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
        measure_gap(f"{name}, {kind}, learned score: {gap_is}", gap, "-0.05 to 0 + 2 errors")

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

# %% Draw: true and learned densities
figure = draw.figure(
    "The flow without chance has the densities of the noisy process, and tells log p of each point",
    12,
    7,
)
top, bottom = figure.subplots(2, 4)


def draw_densities(true, found, name):
    draw.density(true, DATA[name].log_density, REACH)
    true.set_title(f"{name}: the true log p", fontsize=10)
    draw.density(found, lambda _: on_plane[name], REACH, side=side)
    found.set_title("learned, along the flow", fontsize=10)


draw_densities(top[0], top[1], "eight Gaussians")
draw_densities(top[2], top[3], "checkerboard")


# %% Draw: from noise to samples
def draw_walk(ax, way):
    """Where all ended, and the ways of five."""
    title = f"{way}: from noise to a sample"
    draw.scatter(ax, samples[way], 4.5, draw.PALE, title=title)
    five = np.stack([to_numpy(x[:5]) for x in walks[way]])  # (T, 5, 2)
    for i, colour in zip(range(5), draw.LINES, strict=True):
        ax.plot(five[:, i, 0], five[:, i, 1], color=colour, linewidth=1)
        ax.plot(five[-1, i, 0], five[-1, i, 1], "o", color=colour, markersize=5)


draw_walk(bottom[0], "reverse SDE")
draw_walk(bottom[1], "flow (ODE)")

# %% Draw: what steps and random directions cost
middle, right = bottom[2:]
lines = {rule: (COUNTS, error) for rule, error in errors.items()}
draw.curves(middle, lines, "steps", "error of log p, nats", log=True)
middle.set_xscale("log", base=2)
middle.set_xticks(COUNTS, COUNTS)
middle.set_title("better rules need fewer steps", fontsize=10)

right.hist(off, bins=np.linspace(-8, 8, 41), color=draw.LINES[0])
right.set(xlabel="estimated minus exact log p, nats", ylabel="points")
right.set_title("one random direction: right on average", fontsize=10)
show.finish(figure)
