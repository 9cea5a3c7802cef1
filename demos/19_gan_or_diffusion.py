"""19 · A GAN or diffusion?
python demos/19_gan_or_diffusion.py      4 min on two cores

The lecture's table, measured: which is stable, which forgets nothing, which is fast. The plain GAN,
one of demo 08's best games and diffusion learn a grid of 25 little Gaussians
from several seeds. A generator has 33,666 parameters, the
network of diffusion 39,298. The picture shows the worst seed of each, the KL divergence of every
seed while it learned, and the table. --full: ten seeds.
Read first: tinycv/adversarial/turns.py, diffusion/edm.py.
Lin et al. 2018 (PacGAN: data, GAN, figures); Karras et al. 2022 (EDM).
"""

from functools import partial

import numpy as np

import tinycv
from tinycv.adversarial import fit_gan
from tinycv.adversarial.plane import METHODS, learners, networks
from tinycv.data import DrawnLoader
from tinycv.data.shapes import grid, ring
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.diffusion.samplers import sample
from tinycv.engine.backend import Stopwatch
from tinycv.optim import Adam, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import modes_covered
from tinycv.training.loop import fit

show = Demo("19_gan_or_diffusion", __doc__)
seeds, moments, many = show.choose(1, 3, 10), show.choose(2, 5), show.choose(100, 40_000)
gan_steps, diffusion_steps, heun_steps = show.choose((6, 10, 2), (6000, 12_000, 32))


# %% two ways to learn a density. Each returns how it went, what makes points of noise (N, 2), its
# size and its calls
def gan(density, seed, look, method):
    """A game of demo 08, between small networks: the plain one, or R1, one of the two best
    there."""
    generator, discriminator = networks(pacgan=False)
    loader = DrawnLoader(lambda n, rng: (density.sample(n, rng),), 256, gan_steps // moments, seed)
    history = fit_gan(
        generator,
        discriminator,
        *learners(generator, discriminator),
        loader,
        moments,
        evaluate=look,
        schedule=warmup_cosine(gan_steps),
        **METHODS[method](density.sigma),
        seed=seed,
        progress=False,
        device=show.device,
    )
    return history, generator, generator.num_parameters(), 1


def diffusion(density, seed, look):
    """EDM: places and noise levels as waves, and then Heun's method for the way back."""
    model = ScoreMLP(2, hidden=128, depth=3, place_features=14).to(show.device)
    # to a standard deviation of 1/2
    scale = 2 * float(density.sample(10_000, np.random.default_rng(0)).std())
    loader = DrawnLoader(
        lambda n, rng: (density.sample(n, rng) / scale,), 256, diffusion_steps // moments, seed
    )
    ema, sigmas = EMA(model, 0.995), edm_sigmas(heun_steps)

    def make(z):
        return scale * sample(partial(heun_step, edm_denoiser(model)), sigmas[0] * z, sigmas)

    history = fit(
        model,
        Adam(model.parameters(), lr=3e-3),
        partial(edm_loss, mean=-2.0, std=1.5),
        loader,
        moments,
        ema=ema,
        schedule=warmup_cosine(diffusion_steps, 100),
        evaluate=lambda _: look(make),
        progress=False,
        seed=seed,
    )
    model.load_state_dict(ema.state_dict())
    return history, make, model.num_parameters(), 2 * heun_steps - 1


def learned(name, density, seed):
    """One training: the figures of PacGAN at its end, reverse KL at each moment, points, seconds,
    parameters, calls."""
    tinycv.manual_seed(seed)
    z = tinycv.Tensor(
        np.random.default_rng(seed).normal(size=(many, 2)).astype(np.float32), device=show.device
    )
    history, make, parameters, calls = WAYS[name](
        density,
        seed,
        lambda make: modes_covered(make(z).numpy(), density.means, density.sigma)._asdict(),
    )
    with tinycv.no_grad(), Stopwatch(show.device) as watch:
        points = make(z).numpy()
    last = history.metrics[-1]
    print(
        f"{name}, seed {seed}: {last['covered']:.0f} modes of {len(density.means)}, "
        f"{last['share']:.3f} within 3 sigma, reverse KL {last['reverse_kl']:.4f}, "
        f"{history.seconds:.0f} s",
        flush=True,
    )
    return {
        "points": points,
        "kl": [m["reverse_kl"] for m in history.metrics],
        "seconds": history.seconds,
        "sampling": watch.seconds,
        "parameters": parameters,
        "calls": calls,
        **last,
    }


# %% train, and measure
WAYS = {
    "GAN": partial(gan, method="GAN"),
    "GAN, R1": partial(gan, method="R1"),
    "diffusion": diffusion,
}
runs = {name: [learned(name, grid(), show.seed + i) for i in range(seeds)] for name in WAYS}
table = {
    name: {
        key: np.array([run[key] for run in tries], float)
        for key in tries[0]
        if key not in ("points", "kl")
    }
    for name, tries in runs.items()
}
PACGAN = (
    "PacGAN table 1, 400,000 steps, 10 trials: GAN 17.3 modes, 94.8 %, KL 0.70; "
    "Pac4 24.8, 93.6 %, 0.04"
)
WANTED = {
    "covered": ("modes of 25", ">= 25"),
    "share": ("share within three sigma", ">= 0.96"),
    "reverse_kl": ("reverse KL, nats", "<= 0.01"),
    "seconds": ("seconds of training and looks", "<= 120"),
    "sampling": (f"seconds for {many:,} points", ""),
    "parameters": ("parameters of what makes points", ""),
}
for name, columns in table.items():
    for key, (what, target) in WANTED.items():
        show.measured(
            f"grid, {name}: {what}, each seed",
            list(columns[key]),
            PACGAN if key == "covered" else "",
            target if name == "diffusion" else "",
        )
kl, cost = (
    {name: columns[key].mean() for name, columns in table.items()}
    for key in ("reverse_kl", "sampling")
)
for name in ("GAN", "GAN, R1"):
    show.measured(
        f"{name}: its mean KL by diffusion's",
        kl[name] / kl["diffusion"],
        f"by chance: {12 / many:.4f}",
        ">= 10",
    )
show.measured(
    "diffusion's seconds of sampling by the GAN's", cost["diffusion"] / cost["GAN"], "", ">= 50"
)
run = learned("diffusion", ring(), show.seed)
for key, target in (("covered", ">= 8"), ("share", ">= 0.96"), ("reverse_kl", "<= 0.01")):
    show.measured(f"ring, diffusion: {key}", run[key], "", target)

# %% draw
figure = draw.figure(
    "GANs sample fast and depend on the seed; diffusion samples slowly and hardly depends on it",
    15,
    7.5,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.8, 1))
axes = top.subplots(1, 4)
for ax, (name, tries), colour in zip(axes, runs.items(), draw.LINES, strict=False):
    worst = max(tries, key=lambda run: run["reverse_kl"])
    ax.scatter(*worst["points"][:2500].T, s=2, color=colour, linewidths=0)
    ax.set(aspect="equal", xlim=(-5, 5), ylim=(-5, 5), title=f"{name}, the worst seed of {seeds}")
    for i, run in enumerate(tries):
        axes[3].plot(
            run["seconds"] * np.arange(1, moments + 1) / moments,
            np.maximum(run["kl"], 1e-4),
            ".-",
            color=colour,
            label="" if i else name,
        )
axes[3].set(
    yscale="log",
    xlabel="seconds of training",
    ylabel="reverse KL, nats",
    title="every seed, while it learned",
)
axes[3].legend(frameon=False)
ROWS = {
    "stable? reverse KL, best and worst seed": lambda t: (
        f"{t['reverse_kl'].min():.4f}  to  {t['reverse_kl'].max():.4f}"
    ),
    "forgets nothing? modes of 25, worst seed": lambda t: f"{t['covered'].min():.0f}",
    "sharp? share within 3 sigma (data: 0.989)": lambda t: (
        f"{t['share'].min():.3f}  to  {t['share'].max():.3f}"
    ),
    f"fast? seconds for {many:,} points": lambda t: f"{t['sampling'].mean():.3g}",
    "calls of the network for them": lambda t: f"{t['calls'][0]:.0f}",
    "dear to train? seconds, looks included": lambda t: f"{t['seconds'].mean():.0f}",
}
(ax := bottom.subplots()).axis("off")
cells = ax.table(
    [[cell(columns) for columns in table.values()] for cell in ROWS.values()],
    rowLabels=list(ROWS),
    colLabels=list(table),
    bbox=(0.3, 0, 0.65, 1),
    cellLoc="center",
    edges="horizontal",
)
cells.set_fontsize(11)
show.finish(figure)
