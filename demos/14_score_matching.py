"""14 · Score matching: can the score of an unknown density be learned from its points?
python demos/14_score_matching.py      2 min on one core

The score is the gradient of log p: arrows that point to where points are more frequent. A network
sees points of a density and nothing else, and learns its score. Here the density is known, so the
learned arrows can be compared with the true ones, and four objectives with each other: explicit,
sliced, and sliced score matching with reduced variance learn the score of the density itself;
denoising score matching learns the score of the density with noise added.
Read first: tinycv/diffusion/score.py.
Hyvarinen 2005; Vincent 2011; Song et al. 2019; Song & Ermon 2019 (NCSN).
"""

from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, Mixture, gaussian
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.score import denoising, explicit, sliced, sliced_vr
from tinycv.engine.backend import standard_normal
from tinycv.nn import Linear
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("14_score_matching", __doc__)
LOW = 0.1  # the lowest noise level that the denoising network learns
HIGH = 2.0  # the highest
LEVELS = (0.2, 0.5, 1.2)  # the levels at which it is measured
MANY = show.choose(quick=2000, default=20_000)  # points to measure on

# %% Data: three Gaussians in the plane, with different covariances
density = Mixture(
    [[-1.5, -1.0], [1.5, -0.8], [0.0, 1.5]],
    weights=[0.4, 0.35, 0.25],
    covariance=[
        [[0.25, 0.1], [0.1, 0.3]],
        [[0.3, -0.12], [-0.12, 0.2]],
        [[0.5, 0], [0, 0.15]],
    ],
)

# %% Models: one network per objective. Each takes points (B, 2) and the log of a noise level (B,)
WITHOUT_NOISE = {"explicit": explicit, "sliced": sliced, "sliced_vr": sliced_vr}
OBJECTIVES = ("denoising", *WITHOUT_NOISE)
tinycv.manual_seed(show.seed)
networks = {name: ScoreMLP(2).to(show.device) for name in OBJECTIVES}


def repeated(number, count):
    """The same noise level for ``count`` points: (count,)."""
    return tinycv.full((count,), number, device=show.device)


def noised_score(x, sigma):
    """The score of the density with noise of level sigma (B,).

    One network serves all levels: it predicts -z, and the score is -z / sigma.
    """
    return networks["denoising"](x, sigma.log()) / sigma[:, None]


def noised_score_at(sigma):
    """The score at one noise level, as a function of x alone."""
    return lambda x: noised_score(x, repeated(sigma, len(x)))


def plain_score(name):
    """The score of the density itself. There is no noise, so the network always gets level 1."""
    return lambda x: networks[name](x, repeated(1.0, len(x)))


# %% Training: the whole loop
def learn(name, model, objective, source, updates, batch_size, rate):
    """Minimise the mean of objective(x), with new points x of the source at every step.

    In the end the model holds the averaged weights.
    """
    loader = DrawnLoader(lambda n, rng: (source.sample(n, rng),), batch_size, updates, show.seed)
    optimizer = Adam(model.parameters(), lr=rate)
    schedule = warmup_cosine(updates, warmup=updates // 20)
    ema = EMA(model, decay=0.99)
    for step, (x,) in steps(loader, 1, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = objective(x).mean()
        loss.backward()
        optimizer.step()
        ema.update()
        if (step + 1) % (updates // 5) == 0:
            say(f"{name}, step {step + 1}/{updates}: loss {read_loss(loss, step):.4g}")
    model.load_state_dict(ema.state_dict())


# %% Denoising score matching: random noise levels, weighted by sigma^2
def denoising_both_ways(x):
    """Each point is moved by z and by -z, because the errors of both partly cancel."""
    sigma = LOW * (HIGH / LOW) ** tinycv.rand(len(x), device=show.device)
    z = Tensor(standard_normal(x.shape, x.data))
    forward = denoising(noised_score, x, sigma, z)
    opposite = denoising(noised_score, x, sigma, -z)
    return sigma**2 * (forward + opposite) / 2


learn(
    "denoising",
    networks["denoising"],
    denoising_both_ways,
    density,
    updates=show.choose(quick=20, default=3000, full=10_000),
    batch_size=512,
    rate=5e-3,
)

# %% The other three objectives need no noise
for name, objective in WITHOUT_NOISE.items():
    learn(
        name,
        networks[name],
        partial(objective, plain_score(name)),
        density,
        updates=show.choose(quick=20, default=2000, full=6000),
        batch_size=256,
        rate=5e-3,
    )

# %% Measure: the relative Fisher divergence E|s - grad log p|^2 / E|grad log p|^2, on new points
rng = np.random.default_rng(1000 + show.seed)


def evaluated(score, x):
    """A learned score at the points x, as NumPy: (N, 2)."""
    with tinycv.no_grad():
        return score(Tensor(x.astype(np.float32), device=show.device)).numpy()


def noised_points(sigma):
    return density.sample(MANY, rng) + sigma * rng.normal(size=(MANY, 2))


def relative_errors(score, x, sigma):
    """Squared errors at the points x, divided by the mean square of the true score there: (N,)."""
    truth = density.score(x, sigma)
    squared = ((evaluated(score, x) - truth) ** 2).sum(axis=1)
    return squared / (truth**2).sum(axis=1).mean()


def rarest_first(errors, x, sigma):
    return errors[np.argsort(density.log_density(x, sigma))]


by_level = {}  # the mean error of denoising
by_rareness = {}  # the errors of each objective, the rarest points first
for sigma in LEVELS:
    x = noised_points(sigma)
    errors = relative_errors(noised_score_at(sigma), x, sigma)
    by_level[sigma] = errors.mean()
    if sigma == LEVELS[0]:
        by_rareness["denoising"] = rarest_first(errors, x, sigma)
    metric = f"relative Fisher divergence, denoising, noise level {sigma}"
    show.measured(metric, errors.mean(), target="<= 0.01")
for name in WITHOUT_NOISE:
    x = noised_points(0.0)
    errors = relative_errors(plain_score(name), x, 0.0)
    by_rareness[name] = rarest_first(errors, x, 0.0)
    show.measured(f"relative Fisher divergence, {name}", errors.mean(), target="<= 0.03")

# %% A linear score of a Gaussian: in theory its matrix is minus the inverse covariance
normal = gaussian([0, 0], [[1.0, 0.5], [0.5, 0.8]])


def denoising_at_one_level(score, x):
    """The noise level is always 0.5, so the linear score needs no level."""
    return denoising(lambda x, sigma: score(x), x, repeated(0.5, len(x)))


for name, objective in [*WITHOUT_NOISE.items(), ("denoising", denoising_at_one_level)]:
    linear = Linear(2, 2).to(show.device)
    learn(
        f"linear, {name}",
        linear,
        partial(objective, linear),
        normal,
        updates=show.choose(quick=20, default=800),
        batch_size=2000,
        rate=0.05,
    )
    covariance = normal.covariance
    if name == "denoising":
        covariance = covariance + 0.5**2 * np.eye(2)  # of the points with noise
    truth = -np.linalg.inv(covariance)
    show.measured(
        f"inverse covariance by {name}, relative error",
        np.linalg.norm(linear.weight.numpy() - truth) / np.linalg.norm(truth),
        target="<= 0.02",
    )

# %% How noisy is each objective? The spread of its value from point to point, at the true score
levels = np.geomspace(0.02, 2, 13)
spread = {name: [] for name in OBJECTIVES}  # a standard deviation for each level
for sigma in levels:
    x = density.sample(MANY, rng).astype(float)
    z = rng.normal(size=(MANY, 2))
    with tinycv.no_grad():
        level = Tensor(np.full(MANY, sigma))
        found = {"denoising": denoising(density.score, Tensor(x), level, Tensor(z))}
        true_score = partial(density.score, noise=sigma)
        for name, objective in WITHOUT_NOISE.items():
            found[name] = objective(true_score, Tensor(x + sigma * z))
    for name, value in found.items():
        spread[name].append(float(np.std(value.numpy())))
spread["denoising, weighted"] = levels**2 * np.array(spread["denoising"])

# %% Draw, from left to right: the points, the learned field, its error
REACH = 3.6  # of the drawn plane, from its middle
SIGMA = LEVELS[0]
figure = draw.figure(
    "Score matching: from points alone, a network learns the arrows\n"
    f"to where points are frequent (relative error {100 * by_level[SIGMA]:.1f} %)",
    8.4,
    7.2,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
left, middle, right = top.subplots(1, 3)

draw.scatter(left, noised_points(SIGMA)[:1500], REACH, draw.INK, size=4)
left.set_title("1. What it sees: points", fontsize=12)

places = draw.plane(0.9 * REACH, 11)  # a little inside, so that no arrow leaves the picture
true = density.score(places, SIGMA)
learned = evaluated(noised_score_at(SIGMA), places)
draw.density(middle, partial(density.log_density, noise=SIGMA), REACH)
draw.arrows(middle, places, true, draw.INK, longest=0.75, width=0.014)
draw.arrows(middle, places, learned, draw.ORANGE, longest=0.75, width=0.006)
middle.set_title("2. What it learns", fontsize=12)
middle.set_xlabel("orange: learned   black: true", fontsize=11)

axis = np.linspace(-REACH, REACH, 120)
places = draw.plane(REACH, 120)
difference = evaluated(noised_score_at(SIGMA), places) - density.score(places, SIGMA)
wrong = np.log10((difference**2).sum(axis=1)).reshape(120, 120)
shades = right.contourf(axis, axis, wrong, range(-3, 4), cmap="Reds", extend="both")
draw.scatter(right, noised_points(SIGMA)[:300], REACH, draw.INK, size=3)
right.set_title("3. The squared error", fontsize=12)
right.set_xlabel("black: 300 points", fontsize=11)
bar = top.colorbar(shades, ax=right, fraction=0.05, pad=0.02)
bar.set_ticks(range(-3, 4), labels=[f"$10^{{{power}}}$" for power in range(-3, 4)])

# %% Draw: where the errors of all objectives are, and how noisy the objectives are
left, right = bottom.subplots(1, 2)
tenths = np.arange(5, 100, 10)  # their middles, in %
lines = {}
for name, errors in by_rareness.items():
    lines[name] = (tenths, errors.reshape(10, -1).mean(axis=1))
draw.curves(left, lines, "points, from rare to frequent, %", "relative squared error", log=True)
left.set_title("Error against how frequent points are", fontsize=12)

lines = {name: (levels, line) for name, line in spread.items()}
draw.curves(right, lines, "noise level", "spread of the objective", log=True)
right.set_xscale("log")
right.set_title("Spread against the noise level", fontsize=12)
show.finish(figure)
