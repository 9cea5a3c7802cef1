"""15 · Why must Langevin dynamics be annealed?
python demos/15_langevin.py      75 s on two cores

Walkers climb the score and are kicked by noise, and so come to rest as the density wants. Only, of
two modes with nothing between them, each walker takes the nearer: half of them end in a mode that
should hold 80 %. If the noise level starts high and falls, they share out rightly; with a learned
score too. Below: what a step of finite size does, and how to mend it.
Read first: tinycv/diffusion/langevin.py.
Song & Ermon 2019 (NCSN), figure 3; Roberts & Tweedie 1996.
"""

import numpy as np

from tinycv import Tensor
from tinycv.data import DrawnLoader, gaussian, two_modes
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.langevin import annealed, geometric, mala, ula
from tinycv.diffusion.score import denoising
from tinycv.engine.backend import manual_seed, module_for, standard_normal, to_device, to_numpy
from tinycv.optim import Adam, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif
from tinycv.training.loop import fit

show = Demo("15_langevin", __doc__)
density, SIGMAS, EPS, REACH = two_modes(), geometric(20, 1, 10), 0.1, 10.0
walkers, steps, seeds = 1280, show.choose(10, 100), show.choose(1, 5)

# %% a score for all ten noise levels, learned from points (denoising, weighted by sigma^2)
manual_seed(show.seed)
network = ScoreMLP(2).to(show.device)


def learned(x, sigma):
    """The network sees points of about unit size, and is asked for -z; the score is 1/sigma of
    that."""
    x, sigma = [Tensor(part, device=show.device) for part in (x, sigma)]
    return network(x / (sigma * sigma + 26)[:, None] ** 0.5, sigma.log()) / sigma[:, None]


def objective(model, x, sigma):
    return (sigma**2 * denoising(learned, x, sigma)).mean()


batches, ema = show.choose(20, 3000), EMA(network, decay=0.99)
loader = DrawnLoader(
    lambda n, rng: (density.sample(n, rng), rng.choice(np.float32(SIGMAS), n)),
    512,
    batches,
    show.seed,
)
fit(
    network,
    Adam(network.parameters(), lr=5e-3),
    objective,
    loader,
    1,
    schedule=warmup_cosine(batches, batches // 20),
    ema=ema,
    seed=show.seed,
)
network.load_state_dict(ema.state_dict())

# %% NCSN's protocol: 1,280 walkers from U[-8, 8]^2; plain 1,000 steps of 0.1; annealed 100 at each
# of ten levels The paper's step is x + (a / 2) score + sqrt(a) z, so ULA's step size is half of a.
plans = {
    "plain": lambda x: ula(density.score, x, EPS / 2, 10 * steps, max(1, steps // 10)),
    "annealed": lambda x: annealed(density.score, x, SIGMAS, steps, EPS, max(1, steps // 10)),
    "annealed, learned score": lambda x: annealed(
        learned, x, SIGMAS, steps, EPS, max(1, steps // 10)
    ),
}
published = "NCSN figure 3 shows it, without a number"
chains, mass = {}, {}
for name, plan in plans.items():
    for seed in range(seeds):
        manual_seed((show.seed, seed))
        start = (
            np.random.default_rng((show.seed, seed)).uniform(-8, 8, (walkers, 2)).astype(np.float32)
        )
        chains[name] = plan(to_device(start, show.device))
        mass.setdefault(name, []).append((to_numpy(chains[name].x).sum(axis=1) > 0).mean())
    show.measured(
        f"share in the heavy mode, {name}, mean of {seeds} seeds (truth: 0.80)",
        np.mean(mass[name]),
        published,
        {"plain": "0.49 to 0.52: wrong", "annealed": "0.78 to 0.80"}.get(name, "0.80 +- 0.03"),
    )
paths = {
    name: np.stack([to_numpy(x) for x in [*chain.path, chain.x]]) for name, chain in chains.items()
}

# %% what a step of finite size does, on N(0, 1): ULA's variance is 1 / (1 - eps / 2); MALA's is 1
one, n, taken = gaussian([0], [[1]]), show.choose(20_000, 200_000), []
begin, variance = standard_normal((n, 1), module_for(show.device)), {"ULA": [], "MALA": []}
sizes = (0.1, 0.25, 0.5, 1.0, 1.5)
for eps in sizes:
    long = show.choose(60, 80 if eps > 0.1 else 120)
    adjusted = mala(one.log_density, one.score, begin, eps, long // 2)
    taken.append(np.mean(adjusted.history("acceptance")))
    for name, x in (("ULA", ula(one.score, begin, eps, long).x), ("MALA", adjusted.x)):
        variance[name].append(to_numpy(x).astype(float).var())
    if eps in (0.1, 0.5, 1.0):
        show.measured(
            f"ULA's variance at step {eps}, beside {1 / (1 - eps / 2):.4f}",
            variance["ULA"][-1] * (1 - eps / 2),
            target="1 within 1 %",
        )
        show.measured(
            f"MALA's variance at step {eps}: off by how many standard errors",
            (variance["MALA"][-1] - 1) / (2 / n) ** 0.5,
            target="|.| <= 2",
        )

# %% draw
figure = draw.figure(
    "Plain Langevin dynamics fills the nearer mode; annealed, each as full as it should be", 12.5, 8
)
top, bottom = figure.subplots(2, 3, height_ratios=(1.25, 1))
for ax, name in zip(top, ("plain", "annealed"), strict=False):
    draw.density(ax, density.log_density, REACH, floor=12)
    draw.scatter(
        ax,
        paths[name][-1],
        REACH,
        draw.INK,
        f"{name}: {100 * np.mean(mass[name]):.0f} % in the heavy mode",
    )
    for i, colour in zip((5, 1, 2, 8, 9) if name == "plain" else (5, 1), draw.LINES, strict=False):
        ax.plot(*paths[name][:, i].T, color=colour, linewidth=0.9, alpha=0.8)
        ax.plot(*paths[name][0, i], "o", color=colour, markersize=7, markeredgecolor="white")
    draw.note(
        ax, "lines: some walkers, from\nwhere they began; black:\nwhere 1,280 ended", "upper left"
    )
clock = np.linspace(0, 10 * steps, len(paths["plain"]))
draw.curves(
    top[2],
    {name: (clock, (path.sum(axis=-1) > 0).mean(axis=1)) for name, path in paths.items()}
    | {"truth": ([0, 10 * steps], [0.8, 0.8])},
    "step",
    "share in the heavy mode",
)
top[2].set_ylim(0.35, 0.9)
top[2].set_title("walkers move while there is still one mode", fontsize=10)
fine = np.linspace(0.01, 1.6, 100)
draw.curves(
    bottom[0],
    {"1 / (1 - eps / 2)": (fine, 1 / (1 - fine / 2)), "truth": (fine, 1 + 0 * fine)},
    "step size eps",
    "variance of the walkers, on N(0, 1)",
)
for (name, values), mark in zip(variance.items(), "os", strict=True):
    bottom[0].plot(
        sizes, values, mark, color=draw.INK, fillstyle="none" if mark == "s" else "full", label=name
    )
bottom[0].legend(frameon=False, fontsize=9)
bottom[0].set_title("long steps spread too far; Metropolis mends it", fontsize=10)
draw.curves(
    bottom[1],
    {"acceptance": (sizes, taken)},
    "step size eps",
    "share of MALA's steps that are taken",
)
bottom[1].set_title("the price: long steps are refused more often", fontsize=10)
draw.curves(
    bottom[2],
    {name: (range(10 * steps), chains[name].history("drift")) for name in ("plain", "annealed")},
    "step",
    "length of the pull / length of the kick",
    True,
)
bottom[2].set_title("near 1 it climbs, far below it diffuses", fontsize=10)
show.finish(figure)


def frame(i):
    """Plain on the left, annealed on the right, points as dark pixels."""
    return np.concatenate(
        [
            1 - np.minimum(np.histogram2d(-x[i][:, 1], x[i][:, 0], 180, [[-12, 12]] * 2)[0], 2) / 2
            for x in (paths["plain"], paths["annealed"])
        ],
        axis=1,
    )


save_gif([frame(i) for i in range(0, len(clock), 2)], show.out / "15_langevin.gif", 0.1)
