"""15 · Why must Langevin dynamics be annealed?
python demos/15_langevin.py      75 s on two cores

Walkers climb the score and are kicked by noise, so that in the end they are distributed as the
density is. But where two modes have nothing between them, each walker takes the nearer one: half of
them end in a mode that should hold 80 %. If the noise level starts high and falls, the shares are
right, with a learned score too. Below: the error of a step of finite size, and its cure.
Read first: tinycv/diffusion/langevin.py.
Song & Ermon 2019 (NCSN), figure 3; Roberts & Tweedie 1996.
"""

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, gaussian, two_modes
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.langevin import annealed, geometric, mala, ula
from tinycv.diffusion.score import denoising
from tinycv.engine.backend import module_for, standard_normal, to_device, to_numpy
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("15_langevin", __doc__)
RATE = 5e-3

# %% Data: points of two modes, each with one of ten noise levels that fall from 20 to 1
density = two_modes()  # the heavy mode holds 80 %
SIGMAS = geometric(20, 1, 10)
total = show.choose(quick=20, default=3000)


def points_and_levels(n, rng):
    """(n, 2) and (n,)."""
    return density.sample(n, rng), rng.choice(np.float32(SIGMAS), n)


loader = DrawnLoader(points_and_levels, 512, total, show.seed)

# %% Model: one network for the score at all ten levels
tinycv.manual_seed(show.seed)
network = ScoreMLP(2).to(show.device)
optimizer = Adam(network.parameters(), lr=RATE)
schedule = warmup_cosine(total, warmup=total // 20)
ema = EMA(network, decay=0.99)


def learned(x, sigma):
    """The score at x (N, 2), noised by sigma (N,).

    The network sees points of about unit size, and is asked for -z; the score is 1/sigma of that.
    """
    x = Tensor(x, device=show.device)
    sigma = Tensor(sigma, device=show.device)
    mean_square = 26  # of the data: modes at 5 and -5, each with variance 1
    size = (sigma * sigma + mean_square)[:, None] ** 0.5
    return network(x / size, sigma.log()) / sigma[:, None]


# %% Training: the whole loop. By denoising, each level weighted by sigma^2
for step, (x, sigma) in steps(loader, 1, seed=show.seed, device=show.device):
    optimizer.param_groups[0]["lr"] = RATE * schedule(step)
    optimizer.zero_grad()
    loss = (sigma**2 * denoising(learned, x, sigma)).mean()
    loss.backward()
    optimizer.step()
    ema.update()
    if (step + 1) % (total // 10) == 0:
        say(f"step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
network.load_state_dict(ema.state_dict())

# %% Three walks by NCSN's protocol: plain, 1,000 steps of 0.1; annealed, 100 at each of ten levels
EPS = 0.1
per_level = show.choose(quick=10, default=100)
walk_steps = len(SIGMAS) * per_level
keep_every = max(1, per_level // 10)


def plain_walk(x):
    """The paper's step is x + (a / 2) score + sqrt(a) z, so ULA's step size is half of a."""
    return ula(density.score, x, EPS / 2, walk_steps, keep_every)


def annealed_walk(x):
    return annealed(density.score, x, SIGMAS, per_level, EPS, keep_every)


def annealed_walk_up_the_learned_score(x):
    return annealed(learned, x, SIGMAS, per_level, EPS, keep_every)


WALKS = {
    "plain": plain_walk,
    "annealed": annealed_walk,
    "annealed, learned score": annealed_walk_up_the_learned_score,
}


# %% 1,280 walkers from anywhere in [-8, 8]^2, several times
def share_in_the_heavy_mode(x):
    """Of points (..., N, 2): those above the line between both modes."""
    return (x.sum(axis=-1) > 0).mean(axis=-1)


seeds = show.choose(quick=1, default=5)
shares = {}  # by walk: one for each seed
chains = {}  # by walk: the last seed's
paths = {}  # and where its walkers were, from first to last: (T, 1280, 2)
for name, walk in WALKS.items():
    shares[name] = []
    for seed in range(seeds):
        tinycv.manual_seed((show.seed, seed))
        rng = np.random.default_rng((show.seed, seed))
        start = rng.uniform(-8, 8, (1280, 2)).astype(np.float32)
        chain = walk(to_device(start, show.device))
        shares[name].append(share_in_the_heavy_mode(to_numpy(chain.x)))
    chains[name] = chain
    paths[name] = np.stack([to_numpy(x) for x in [*chain.path, chain.x]])

# %% What a step of finite size does, on N(0, 1): ULA's variance is 1 / (1 - eps / 2); MALA's is 1
bell = gaussian([0], [[1]])
SIZES = (0.1, 0.25, 0.5, 1.0, 1.5)
n = show.choose(quick=20_000, default=200_000)
start = standard_normal((n, 1), module_for(show.device))


def variance(chain):
    return to_numpy(chain.x).astype(float).var()


ula_variance = {}  # by step size
mala_variance = {}
acceptance = {}
for eps in SIZES:
    count = show.choose(quick=60, default=80 if eps > 0.1 else 120)
    adjusted = mala(bell.log_density, bell.score, start, eps, count // 2)
    mala_variance[eps] = variance(adjusted)
    acceptance[eps] = np.mean(adjusted.history("acceptance"))
    ula_variance[eps] = variance(ula(bell.score, start, eps, count))

# %% Measure
TARGETS = {
    "plain": "0.49 to 0.52: wrong",
    "annealed": "0.78 to 0.80",
    "annealed, learned score": "0.80 +- 0.03",
}
for name, found in shares.items():
    show.measured(
        f"share in the heavy mode, {name}, mean of {seeds} seeds (truth: 0.80)",
        np.mean(found),
        "NCSN figure 3 shows it, without a number",
        TARGETS[name],
    )
for eps in (0.1, 0.5, 1.0):
    show.measured(
        f"ULA's variance at step {eps}, beside {1 / (1 - eps / 2):.4f}",
        ula_variance[eps] * (1 - eps / 2),
        target="1 within 1 %",
    )
    show.measured(
        f"MALA's variance at step {eps}: off by how many standard errors",
        (mala_variance[eps] - 1) / (2 / n) ** 0.5,
        target="|.| <= 2",
    )

# %% Draw: where walkers went
REACH = 10.0
figure = draw.figure(
    "Plain Langevin dynamics fills the nearer mode; annealed, each as full as it should be", 12.5, 8
)
top, bottom = figure.subplots(2, 3, height_ratios=(1.25, 1))


def draw_walkers(ax, name, followed):
    """Where all ended, and the ways of some, by their numbers."""
    path = paths[name]
    title = f"{name}: {100 * np.mean(shares[name]):.0f} % in the heavy mode"
    draw.density(ax, density.log_density, REACH, floor=12)
    draw.scatter(ax, path[-1], REACH, draw.INK, title=title)
    for i, colour in zip(followed, draw.LINES, strict=False):
        ax.plot(path[:, i, 0], path[:, i, 1], color=colour, linewidth=0.9, alpha=0.8)
        x, y = path[0, i]
        ax.plot(x, y, "o", color=colour, markersize=7, markeredgecolor="white")
    text = "lines: some walkers, from\nwhere they began; black:\nwhere 1,280 ended"
    draw.note(ax, text, "upper left")


draw_walkers(top[0], "plain", followed=(5, 1, 2, 8, 9))
draw_walkers(top[1], "annealed", followed=(5, 1))

clock = np.linspace(0, walk_steps, len(paths["plain"]))
lines = {name: (clock, share_in_the_heavy_mode(path)) for name, path in paths.items()}
lines["truth"] = ([0, walk_steps], [0.8, 0.8])
draw.curves(top[2], lines, "step", "share in the heavy mode")
top[2].set_ylim(0.35, 0.9)
top[2].set_title("walkers move while there is still one mode", fontsize=10)

# %% Draw: what a step of finite size does, and what mending it costs
left, middle, right = bottom
fine = np.linspace(0.01, 1.6, 100)
lines = {
    "1 / (1 - eps / 2)": (fine, 1 / (1 - fine / 2)),
    "truth": (fine, np.ones(100)),
}
draw.curves(left, lines, "step size eps", "variance of the walkers, on N(0, 1)")
left.plot(SIZES, list(ula_variance.values()), "o", color=draw.INK, fillstyle="full", label="ULA")
left.plot(SIZES, list(mala_variance.values()), "s", color=draw.INK, fillstyle="none", label="MALA")
left.legend(frameon=False, fontsize=9)
left.set_title("long steps spread too far; Metropolis mends it", fontsize=10)

lines = {"acceptance": (SIZES, list(acceptance.values()))}
draw.curves(middle, lines, "step size eps", "share of MALA's steps that are taken")
middle.set_title("the price: long steps are refused more often", fontsize=10)

lines = {}
for name in ("plain", "annealed"):
    lines[name] = (range(walk_steps), chains[name].history("drift"))
draw.curves(right, lines, "step", "length of the pull / length of the kick", log=True)
right.set_title("near 1 it climbs, far below it diffuses", fontsize=10)
show.finish(figure)


# %% Draw: both walks as they go, plain on the left, annealed on the right; points are dark pixels
def dots(points):
    """Points (N, 2) on [-12, 12]^2 as an image (180, 180): two in one pixel make it black."""
    counts, _, _ = np.histogram2d(-points[:, 1], points[:, 0], 180, [[-12, 12], [-12, 12]])
    return 1 - np.minimum(counts, 2) / 2


frames = []
for i in range(0, len(clock), 2):
    sides = [dots(paths["plain"][i]), dots(paths["annealed"][i])]
    frames.append(np.concatenate(sides, axis=1))
save_gif(frames, show.out / "15_langevin.gif", 0.1)
