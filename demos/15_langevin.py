"""15 · Why must Langevin dynamics be annealed?
python demos/15_langevin.py      67 s on one core

Langevin dynamics moves walkers up the score and adds noise, so that in the end they are distributed
as the density is. But where two modes have nothing between them, each walker takes the nearer one:
half of them end in a mode that should hold 80 %. Annealed Langevin dynamics starts at a high noise
level and lowers it; then the shares are right, with a learned score too. The last two panels show
the error of a finite step (ULA) and the accept-reject step that removes it (MALA). The lecture
samples images by Langevin dynamics; demo 17 samples them by the reverse diffusion process instead.
Read first: tinycv/diffusion/langevin.py.
Song & Ermon 2019 (NCSN), figure 3; Roberts & Tweedie 1996 (ULA, MALA).
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
from tinycv.show.motion import captioned, save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("15_langevin", __doc__)
RATE = 5e-3

# %% Data: points of two modes, each with one of ten noise levels between 20 and 1
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
    """The score of the density with noise of level sigma (N,), at x (N, 2).

    The network sees points scaled to about unit size and predicts -z; the score is -z / sigma.
    """
    x = Tensor(x, device=show.device)
    sigma = Tensor(sigma, device=show.device)
    mean_square = 26  # of the data: modes at 5 and -5, each with variance 1
    size = (sigma * sigma + mean_square)[:, None] ** 0.5  # (N, 1)
    return network(x / size, sigma.log()) / sigma[:, None]


# %% Training: the whole loop. Denoising score matching, each level weighted by sigma^2
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

# %% Three walks, set up as in NCSN: plain, 1,000 steps of size 0.1; annealed, 100 steps at each of
# ten noise levels
EPS = 0.1
per_level = show.choose(quick=10, default=100)
walk_steps = len(SIGMAS) * per_level
keep_every = max(1, per_level // 10)


def plain_walk(x):
    """The paper's step is x + (a / 2) score + sqrt(a) z, so ULA's step size is half of a."""
    return ula(density.score, x, EPS / 2, walk_steps, keep_every)


def annealed_walk(x):
    return annealed(density.score, x, SIGMAS, per_level, EPS, keep_every)


def annealed_walk_with_learned_score(x):
    return annealed(learned, x, SIGMAS, per_level, EPS, keep_every)


WALKS = {
    "plain": plain_walk,
    "annealed": annealed_walk,
    "annealed, learned score": annealed_walk_with_learned_score,
}


# %% 1,280 walkers that start anywhere in [-8, 8]^2, from several seeds
def share_in_the_heavy_mode(x):
    """The share of the points (..., N, 2) on the heavy mode's side of the middle."""
    return (x.sum(axis=-1) > 0).mean(axis=-1)


seeds = show.choose(quick=1, default=5)
shares = {}  # by walk: one for each seed
shares_over_time = {}  # by walk: one line per seed, each (T,)
paths = {}  # by walk: where the walkers of the last seed were, from first to last: (T, 1280, 2)
for name, walk in WALKS.items():
    shares[name] = []
    shares_over_time[name] = []
    for seed in range(seeds):
        tinycv.manual_seed((show.seed, seed))
        rng = np.random.default_rng((show.seed, seed))
        start = rng.uniform(-8, 8, (1280, 2)).astype(np.float32)
        chain = walk(to_device(start, show.device))
        path = np.stack([to_numpy(x) for x in [*chain.path, chain.x]])
        share = share_in_the_heavy_mode(path)
        shares_over_time[name].append(share)
        shares[name].append(share[-1])
    paths[name] = path

# %% The error of a finite step, on N(0, 1): ULA's variance is 1 / (1 - step / 2), MALA's is 1
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
    show.measured(f"share in the heavy mode, {name}, by seed", found)
for eps in (0.1, 0.5, 1.0):
    show.measured(
        f"ULA's variance at step size {eps}, divided by {1 / (1 - eps / 2):.4f}",
        ula_variance[eps] * (1 - eps / 2),
        "1: the theory of a finite step",
        "1 within 1 %",
    )
    show.measured(
        f"MALA's variance at step size {eps}, minus 1, in standard errors",
        (mala_variance[eps] - 1) / (2 / n) ** 0.5,
        target="|.| <= 2",
    )
show.measured(
    f"share of MALA's steps that are accepted, at step sizes {', '.join(map(str, SIZES))}",
    list(acceptance.values()),
)

# %% Draw: where the walkers went
REACH = 10.0
in_percent = {name: f"{100 * np.mean(found):.0f} %" for name, found in shares.items()}
figure = draw.figure(
    f"Langevin dynamics: {in_percent['plain']} of the plain walkers end in the mode\n"
    f"that holds 80 %; of the annealed walkers {in_percent['annealed']}",
    7.6,
    10.2,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.5, 1, 1))
walk_axes = top.subplots(1, 2)
top.supxlabel(
    "blue: the density   black: where 1,280 walkers ended   lines: some paths", fontsize=11
)


def draw_walkers(ax, name, followed):
    """Where all walkers ended, and the paths of some, chosen by their numbers."""
    path = paths[name]
    draw.density(ax, density.log_density, REACH, floor=12)
    title = f"{name}: {in_percent[name]} in the upper mode"
    draw.scatter(ax, path[-1], REACH, draw.INK, size=3)
    ax.set_title(title, fontsize=12)
    for i, colour in zip(followed, (draw.RED, draw.ORANGE, draw.SKY), strict=False):
        ax.plot(path[:, i, 0], path[:, i, 1], color=colour, linewidth=1, alpha=0.9)
        x, y = path[0, i]
        ax.plot(x, y, "o", color=colour, markersize=9, markeredgecolor=draw.INK)


from_the_middle = np.linalg.norm(paths["plain"][0], axis=1).argsort()
draw_walkers(walk_axes[0], "plain", followed=from_the_middle[:3])
draw_walkers(walk_axes[1], "annealed", followed=from_the_middle[:1])

share_axes = middle.subplots()
steps_kept = np.linspace(0, walk_steps, len(paths["plain"]))
share_axes.axhline(0.8, color=draw.INK, linestyle="--", linewidth=1.4, label="truth")
for (name, lines), colour in zip(shares_over_time.items(), draw.LINES, strict=False):
    for seed, line in enumerate(lines):
        label = "_" if seed else name
        share_axes.plot(steps_kept, line, color=colour, linewidth=1, label=label)
share_axes.set(xlabel="step", ylabel="share in the upper mode", ylim=(0.4, 0.9))
share_axes.set_title(
    f"Annealed walkers change modes while noise joins them ({seeds} seeds)", fontsize=12
)
share_axes.grid(True, color=draw.PALE, linewidth=0.6)
share_axes.spines[["top", "right"]].set_visible(False)
draw.label_lines(share_axes)

# %% Draw: the error of a finite step, and what removing it costs
ula_axes, mala_axes = bottom.subplots(1, 2, sharey=True)
fine = np.linspace(0.01, 1.55, 100)
ula_axes.plot(fine, 1 / (1 - fine / 2), color=draw.BLUE, linewidth=1.4)
ula_axes.plot(SIZES, list(ula_variance.values()), "o", color=draw.BLUE, markersize=8)
ula_axes.text(0.15, 2.6, "line: 1 / (1 - step / 2)\ndots: measured", fontsize=11, color=draw.BLUE)
ula_axes.set_title("ULA: every step is accepted", fontsize=12)
mala_axes.plot(SIZES, list(mala_variance.values()), "s", color=draw.RED, markersize=8)
for i, (eps, share) in enumerate(acceptance.items()):
    height = (0.45, 1.3)[i % 2]  # below and above in turn, so that neighbours do not overlap
    mala_axes.text(eps, height, f"{100 * share:.0f} %", fontsize=11, color=draw.RED, ha="center")
mala_axes.text(
    0.15,
    2.6,
    "squares: measured; beside\nthem: share of steps accepted",
    fontsize=11,
    color=draw.RED,
)
mala_axes.set_title("MALA: accept or reject each step", fontsize=12)
for ax in (ula_axes, mala_axes):
    ax.axhline(1, color=draw.INK, linestyle="--", linewidth=1.4)
    ax.set(xlabel="step size", xlim=(0, 1.65), ylim=(0, 4.6))
    ax.grid(True, color=draw.PALE, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
ula_axes.set_ylabel("variance on N(0, 1)\n(dashed: truth)")
show.finish(figure)


# %% Draw: both walks as they go, plain on the left, annealed on the right; points are dark pixels
def dots(points):
    """Points (N, 2) on [-12, 12]^2 as an image (240, 240) of 120 x 120 dots."""
    counts, _, _ = np.histogram2d(-points[:, 1], points[:, 0], 120, [[-12, 12], [-12, 12]])
    image = 1 - np.minimum(counts, 2) / 2
    image[:, -1] = 0.7  # an edge between both sides
    return image.repeat(2, axis=0).repeat(2, axis=1)


frames = []
for i in range(0, len(steps_kept), 2):
    sides = [dots(paths["plain"][i]), dots(paths["annealed"][i])]
    shares_now = [share_in_the_heavy_mode(paths[name][i]) for name in ("plain", "annealed")]
    # plain Langevin has no noise level; the annealed walk takes per_level steps at each
    level = SIGMAS[min(int(steps_kept[i]) // per_level, len(SIGMAS) - 1)]
    text = (
        f"step {steps_kept[i]:.0f}: share in the upper mode (truth: 0.80)\n"
        f"plain Langevin: {shares_now[0]:.2f}      annealed, noise {level:.1f}: {shares_now[1]:.2f}"
    )
    frames.append(captioned(np.concatenate(sides, axis=1), text, 17))
path = save_gif(frames, show.out / "15_langevin.gif", 0.12, last=3, colours=16)
print(f"  moving picture: {path}")
