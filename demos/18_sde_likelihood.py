"""18 · How probable is a point, to a diffusion model?
python demos/18_sde_likelihood.py      5 min on two cores

A diffusion model draws samples, and can say how probable each point is: its noisy path has the same
densities as a path without chance, along which the log-density changes by the divergence of the
flow. Here that is held to densities that are known, two with sharp edges: three processes, the
exact score (right to 0.01 nats) and a learned one (to 0.05).
Read first: tinycv/diffusion/sde.py, diffusion/ode.py.
Song et al. 2021, sections 3.4, 4 and appendix D; Grathwohl et al. 2019.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np

from tinycv.data import DrawnLoader, checkerboard, corners, eight_gaussians, entropy, two_moons
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss
from tinycv.diffusion.ode import euler, heun, log_likelihood, rk4, solve
from tinycv.diffusion.sde import VE, VP, SubVP, euler_maruyama, predictor_corrector
from tinycv.diffusion.tweedie import score_of
from tinycv.engine.backend import manual_seed, standard_normal, to_device, to_numpy
from tinycv.optim import Adam, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import modes_covered
from tinycv.training.loop import fit

show = Demo("18_sde_likelihood", __doc__)
rng = np.random.default_rng(1000 + show.seed)
DATA = {
    "eight Gaussians": eight_gaussians(),
    "two moons": two_moons(0.15, 60),
    "corners": corners(),
    "checkerboard": checkerboard(),
}
SDES = {"VE": VE(0.01, 50.0), "VP": VP(), "sub-VP": SubVP()}
# at noise 0.005: edges have no score without any
FIRST = {"VE": 0.0131, "VP": 0.000244, "sub-VP": 0.0179}
many, side, fine, n = show.choose((60, 16, 8, 20), (1500, 180, 50, 200))
steps = show.choose(20, 8000, 24_000)

# %% learn each score, for all noise levels: one network serves all three processes


def learn(density):
    """Something with a score(x, noise), as the density itself has one. Slow waves of the places
    keep the network smooth."""
    manual_seed(show.seed)
    model = ScoreMLP(2, place_features=8, fastest=8.0).to(show.device)
    # of the data, in these units, the deviation is 1/2
    unit = float(2 * density.sample(10_000, rng).std())
    loader, ema = (
        DrawnLoader(lambda n, rng: (density.sample(n, rng) / unit,), 1024, steps, show.seed),
        EMA(model, 0.998),
    )
    fit(
        model,
        Adam(model.parameters(), lr=5e-3),
        partial(edm_loss, mean=-2.4, std=1.6),
        loader,
        1,
        schedule=warmup_cosine(steps, steps // 20),
        ema=ema,
        seed=show.seed,
    )
    model.load_state_dict(ema.state_dict())
    in_units = edm_denoiser(model)

    def denoise(x, sigma):
        return unit * in_units(x / unit, sigma / unit)

    return SimpleNamespace(score=score_of(denoise, EDM()))


def clock(first, n):
    """From ``first`` to 1 in n steps, short ones where there is little noise."""
    return first + (1 - first) * np.linspace(0, 1, n + 1) ** 2


learned, points = [
    {name: f(density) for name, density in DATA.items()}
    for f in (learn, lambda d: d.sample(many, rng))
]

# %% the log-likelihood of unseen points, minus the truth for the same points: on average, minus the
# KL divergence
for name, density in DATA.items():
    x, truth = to_device(points[name], show.device), density.log_density(points[name].astype(float))
    show.measured(
        f"{name}: entropy, nats",
        entropy(density, 5, show.choose(200, 1000)),
        "the floor: minus the true mean",
    )
    for kind, sde in SDES.items():
        for which, its, target in (
            ("exact", density, "within 0.01"),
            ("learned", learned[name], "-0.05 to 0 + 2 errors"),
        ):
            gap = (
                to_numpy(log_likelihood(sde, sde.score_of(its), x, clock(FIRST[kind], fine)))
                - truth
            )
            show.measured(
                f"{name}, {kind}, {which} score: mean log-likelihood minus the truth, nats",
                gap.mean(),
                f"standard error {gap.std() / many**0.5:.4f}",
                target,
            )

# %% the divergence along one random direction a point (Hutchinson), beside the exact one
vp, eight, truth = SDES["VP"], learned["eight Gaussians"], DATA["eight Gaussians"]
x = to_device(points["eight Gaussians"], show.device)
exact, guess = [
    to_numpy(log_likelihood(vp, vp.score_of(eight), x, clock(FIRST["VP"], fine), along))
    for along in (None, standard_normal(x.shape, x))
]
show.measured(
    "Hutchinson's estimate minus the exact one, in standard errors",
    (guess - exact).mean() / (guess - exact).std() * many**0.5,
    target="|.| <= 2",
)

# %% how many steps: error of the likelihood with the exact score, by rule
counts, errors, few = (5, 10, 20, 40), {}, points["eight Gaussians"][:200].astype(float)
for rule in (euler, heun, rk4):
    errors[rule.__name__] = [
        np.abs(
            log_likelihood(vp, vp.score_of(truth), few, clock(0, count), step=rule)
            - truth.log_density(few)
        ).mean()
        for count in counts
    ]

# %% samples by the learned score: with noise, with noise and a corrector, and without noise
start, score, walks, samples = vp.prior((many, 2), x), vp.score_of(eight), {}, {}
samples["reverse SDE"], walks["reverse SDE"] = euler_maruyama(
    vp.reverse(score), start, clock(1e-3, n)[::-1], 1
)
samples["predictor-corrector"] = predictor_corrector(
    vp, score, start, clock(1e-3, n // 2)[::-1], snr=0.1
)
walks["flow (ODE)"] = [start]
for t, then in zip((times := clock(1e-3, n // 4)[::-1]), times[1:], strict=False):
    walks["flow (ODE)"].append(solve(vp.flow(score), walks["flow (ODE)"][-1], (t, then), heun))
samples["flow (ODE)"] = walks["flow (ODE)"][-1]
for way, x in samples.items():
    modes = modes_covered(to_numpy(x), truth.means, truth.sigma)
    show.measured(
        f"{way}: share within 3 sigma of a mode", modes.share, "0.989 for the data", ">= 0.96"
    )
    show.measured(f"{way}: KL of the shares of the modes", modes.reverse_kl, "", "<= 0.01")

# %% draw
figure = draw.figure(
    "The flow without chance has the densities of the noisy process, and tells log p of each point",
    12,
    7,
)
top, bottom = figure.subplots(2, 4)
for pair, name in ((top[:2], "eight Gaussians"), (top[2:], "checkerboard")):
    # no point on an edge
    plane, score = draw.plane(4.475, side), vp.score_of(learned[name])
    found = to_numpy(
        log_likelihood(vp, score, to_device(plane, show.device), clock(FIRST["VP"], fine))
    )
    show.measured(
        f"{name}: integral of the learned density over the plane",
        np.exp(found).sum() * (plane[1, 0] - plane[0, 0]) ** 2,
        target="1 +- 0.005",
    )
    draw.density(pair[0], DATA[name].log_density, 4.475)
    draw.density(pair[1], lambda x, found=found: found, 4.475, side=side)
    pair[0].set_title(f"{name}: the true log p", fontsize=10)
    pair[1].set_title("learned, along the flow", fontsize=10)
for ax, (way, walk) in zip(bottom[:2], walks.items(), strict=True):
    draw.scatter(ax, to_numpy(samples[way]), 4.5, draw.PALE, f"{way}: from noise to a sample")
    for path, colour in zip(
        np.stack([to_numpy(x[:5]) for x in walk], axis=1), draw.LINES, strict=True
    ):
        ax.plot(*path.T, color=colour, linewidth=1)
        ax.plot(*path[-1], "o", color=colour, markersize=5)
draw.curves(
    bottom[2],
    {name: (counts, error) for name, error in errors.items()},
    "steps",
    "error of log p, nats",
    True,
)
bottom[2].set_xscale("log", base=2)
bottom[2].set_xticks(counts, counts)
bottom[2].set_title("better rules need fewer steps", fontsize=10)
bottom[3].hist(guess - exact, bins=np.linspace(-8, 8, 41), color=draw.LINES[0])
bottom[3].set(xlabel="estimated minus exact log p, nats", ylabel="points")
bottom[3].set_title("one random direction: right on average", fontsize=10)
show.finish(figure)
