"""14 · Can the slope of an unknown density be learned?
python demos/14_score_matching.py      56 s on two cores

A network sees points of a density and nothing else, and learns its score, the arrows that point to
where points are more frequent. Here the density is known, so its arrows can be laid under the
learned ones, and four ways of learning compared.
Read first: tinycv/diffusion/score.py.
Hyvarinen 2005; Vincent 2011; Song et al. 2019; Song & Ermon 2019 (NCSN).
"""

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, Mixture, gaussian
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.score import denoising, explicit, sliced, sliced_vr
from tinycv.engine.backend import standard_normal
from tinycv.nn import Linear
from tinycv.optim import Adam, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.loop import fit

show = Demo("14_score_matching", __doc__)
density = Mixture(
    [[-1.5, -1.0], [1.5, -0.8], [0.0, 1.5]],
    weights=[0.4, 0.35, 0.25],
    covariance=[[[0.25, 0.1], [0.1, 0.3]], [[0.3, -0.12], [-0.12, 0.2]], [[0.5, 0], [0, 0.15]]],
)
LEVELS, LOW, HIGH, REACH = (0.2, 0.5, 1.2), 0.1, 2.0, 3.6
WAYS, many = (
    {"explicit": explicit, "sliced": sliced, "sliced_vr": sliced_vr},
    show.choose(2000, 20_000),
)


def learn(model, objective, steps, batch, source=density, lr=5e-3):
    """Make the mean of objective(x) small, x drawn anew at every step; keep the averaged
    weights."""
    loader, ema = (
        DrawnLoader(lambda n, rng: (source.sample(n, rng),), batch, steps, show.seed),
        EMA(model, decay=0.99),
    )
    fit(
        model,
        Adam(model.parameters(), lr=lr),
        lambda model, x: objective(x).mean(),
        loader,
        1,
        schedule=warmup_cosine(steps, steps // 20),
        ema=ema,
        seed=show.seed,
    )
    model.load_state_dict(ema.state_dict())


def level(n, sigma):
    return tinycv.full((n,), sigma, device=show.device)


def at_level(x, sigma):
    """One network for all noise levels. It is asked for -z; the score is 1/sigma of that."""
    return models["denoising"](x, sigma.log()) / sigma[:, None]


def both_ways(x):
    """Denoising at a random level, weighted by sigma^2. Each x is moved by z and by -z, whose
    errors partly cancel."""
    sigma = LOW * (HIGH / LOW) ** tinycv.rand(len(x), device=show.device)
    z = Tensor(standard_normal(x.shape, x.data))
    return sigma**2 * (denoising(at_level, x, sigma, z) + denoising(at_level, x, sigma, -z)) / 2


tinycv.manual_seed(show.seed)
models = {name: ScoreMLP(2).to(show.device) for name in ("denoising", *WAYS)}
learn(models["denoising"], both_ways, show.choose(20, 3000, 10000), 512)
# no noise: the networks are always told the same level
for name, objective in WAYS.items():
    plain = models[name]
    learn(
        plain,
        lambda x, f=objective, s=plain: f(lambda x: s(x, level(len(x), 1.0)), x),
        show.choose(20, 2000, 6000),
        256,
    )

# %% measure: the relative Fisher divergence E|s - grad log p|^2 / E|grad log p|^2, on points that
# were not trained on
rng = np.random.default_rng(1000 + show.seed)


def learned(name, x, sigma):
    x, score = (
        Tensor(x.astype(np.float32), device=show.device),
        at_level if name == "denoising" else models[name],
    )
    with tinycv.no_grad():
        return score(x, level(len(x), sigma or 1.0)).numpy()


found = {}
for name, sigma in [("denoising", sigma) for sigma in LEVELS] + [(name, 0.0) for name in WAYS]:
    x = density.sample(many, rng) + sigma * rng.normal(size=(many, 2))
    truth = density.score(x, sigma)
    error = ((learned(name, x, sigma) - truth) ** 2).sum(axis=1) / (truth**2).sum(axis=1).mean()
    # the rarest points first
    found[name, sigma] = error[np.argsort(density.log_density(x, sigma))]
    show.measured(
        f"relative Fisher divergence, {name}" + (f", noise level {sigma}" if sigma else ""),
        error.mean(),
        target="<= 0.01" if sigma else "<= 0.03",
    )

# %% a linear score of a Gaussian: theory says that its matrix is minus the inverse covariance
normal = gaussian([0, 0], [[1.0, 0.5], [0.5, 0.8]])
for name, objective in (
    WAYS | {"denoising": lambda s, x: denoising(lambda x, sigma: s(x), x, level(len(x), 0.5))}
).items():
    line = Linear(2, 2).to(show.device)
    learn(line, lambda x, f=objective, s=line: f(s, x), show.choose(20, 800), 2000, normal, 0.05)
    truth = -np.linalg.inv(normal.covariance + (0.25 * np.eye(2) if name == "denoising" else 0))
    show.measured(
        f"inverse covariance by {name}, relative error",
        np.linalg.norm(line.weight.numpy() - truth) / np.linalg.norm(truth),
        target="<= 0.02",
    )

# %% how far one point's value is from the objective, its mean, with the true score in it
sigmas, spread = np.geomspace(0.02, 2, 13), {name: [] for name in ("denoising", *WAYS)}
for sigma in sigmas:
    x, z, s = (
        density.sample(many, rng).astype(float),
        rng.normal(size=(many, 2)),
        Tensor(np.full(many, sigma)),
    )
    with tinycv.no_grad():
        values = [denoising(density.score, Tensor(x), s, Tensor(z))] + [
            f(lambda x, sigma=sigma: density.score(x, sigma), Tensor(x + sigma * z))
            for f in WAYS.values()
        ]
    for name, value in zip(spread, values, strict=True):
        spread[name].append(float(np.std(value.numpy())))
spread["denoising, weighted"] = list(np.array(spread["denoising"]) * sigmas**2)

# %% draw
figure = draw.figure(
    "A score is learned from points alone: the red arrows (learned) lie on the black ones (true)",
    12,
    8.2,
)
top, bottom = figure.subplots(2, 3, height_ratios=(1.25, 1))
points, fine = draw.plane(0.93 * REACH, 15), draw.plane(REACH, 120)
for ax, sigma in zip(top, LEVELS, strict=True):
    draw.density(ax, lambda x, sigma=sigma: density.log_density(x, sigma), REACH)
    draw.arrows(ax, points, density.score(points, sigma), draw.INK, 0.5, "true score", 0.006)
    draw.arrows(ax, points, learned("denoising", points, sigma), draw.BAD, 0.5, "learned", 0.0025)
    ax.set_title(
        f"noise level {sigma}: relative error {100 * found['denoising', sigma].mean():.2f} %",
        fontsize=10,
    )
top[0].legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, fontsize=9)
draw.curves(
    bottom[0],
    {name: (sigmas, y) for name, y in spread.items()},
    "noise level",
    "spread of one point's value",
    True,
)
bottom[0].set_xscale("log")
bottom[0].set_title("denoising is noisy at low noise, unless weighted", fontsize=10)
draw.curves(
    bottom[1],
    {
        name: (np.arange(5, 100, 10), [part.mean() for part in np.split(error, 10)])
        for (name, sigma), error in found.items()
        if sigma in (0.0, 0.2)
    },
    "points, from the rarest to the most frequent, %",
    "relative squared error",
    True,
)
bottom[1].set_title("the error is where points are rare", fontsize=10)
wrong = np.log10(((learned("sliced_vr", fine, 0) - density.score(fine)) ** 2).sum(axis=1)).reshape(
    120, 120
)
bottom[2].contourf(
    *[np.linspace(-REACH, REACH, 120)] * 2, wrong, range(-3, 4), cmap="inferno", extend="both"
)
draw.scatter(
    bottom[2],
    density.sample(300, rng),
    REACH,
    "white",
    "squared error of sliced_vr's score; white: points",
)
show.finish(figure)
