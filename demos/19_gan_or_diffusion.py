"""19 · A GAN or diffusion?          python demos/19_gan_or_diffusion.py          4 min on two cores

The lecture's table, measured: which of the two is stable, which forgets nothing, which is fast. Both learn a grid of 25
little Gaussians, with networks of as many parameters, from several seeds. The picture shows the worst seed of each, the KL
divergence of every seed while it learned, and the table. --full: ten seeds.
Read first: tinycv/generative/turns.py, edm.py.   Lin et al. 2018 (PacGAN: data, GAN, figures); Karras et al. 2022 (EDM).
"""

from functools import partial

import numpy as np

import tinycv
from tinycv import draw
from tinycv.data import DrawnLoader
from tinycv.data.shapes import grid, ring
from tinycv.demo import Demo
from tinycv.ema import EMA
from tinycv.engine.backend import Stopwatch
from tinycv.generative import PointDiscriminator, PointGenerator, ScoreMLP, fit_gan
from tinycv.generative.edm import edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.generative.gan import R1
from tinycv.generative.samplers import sample
from tinycv.metrics import modes_covered
from tinycv.optim import Adam, warmup_cosine
from tinycv.train import fit

show = Demo("19_gan_or_diffusion", __doc__)
seeds, moments, many = show.choose(1, 2, 10), show.choose(2, 8), show.choose(100, 10_000)
gan_steps, diffusion_steps, heun_steps = show.choose((6, 10, 2), (4000, 4000, 32))


# %% two ways to learn a density. Each returns how it went, and what makes points of noise (N, 2)
def gan(density, seed, look):
    """PacGAN's networks under R1, which demo 08 found to be the best game."""
    generator, discriminator = PointGenerator(), PointDiscriminator()
    loader = DrawnLoader(lambda n, rng: (density.sample(n, rng),), 100, gan_steps // moments, seed)
    adams = (Adam(side.parameters(), lr=1e-3, betas=(0.5, 0.999)) for side in (generator, discriminator))
    history = fit_gan(generator, discriminator, *adams, loader, moments, penalty=R1(0.01), seed=seed, device=show.device,
                      schedule=warmup_cosine(gan_steps), evaluate=look, progress=False)
    return history, generator.eval(), generator.num_parameters(), 1


def diffusion(density, seed, look, steps=diffusion_steps, hidden=392, depth=4, lr=1e-3):
    """EDM: places and noise levels as waves, and then Heun's method for the way back."""
    model = ScoreMLP(2, hidden, depth, place_features=14).to(show.device)
    scale = 2 * float(density.sample(10_000, np.random.default_rng(0)).std())       # to a standard deviation of 1/2
    loader = DrawnLoader(lambda n, rng: (density.sample(n, rng) / scale,), 256, steps // moments, seed)
    ema, sigmas = EMA(model, 0.995), edm_sigmas(heun_steps)

    def make(z):
        return scale * sample(partial(heun_step, edm_denoiser(model)), sigmas[0] * z, sigmas)

    history = fit(model, Adam(model.parameters(), lr=lr), partial(edm_loss, mean=-2.0, std=1.5), loader, moments, ema=ema,
                  schedule=warmup_cosine(steps, 100), evaluate=lambda _: look(make), progress=False, seed=seed)
    model.load_state_dict(ema.state_dict())
    return history, make, model.num_parameters(), 2 * heun_steps - 1


def learned(method, density, seed, **options):
    """One training: {"modes", "share", "kl"} at each moment, points, seconds of training and of sampling, ..."""
    tinycv.manual_seed(seed)
    z = tinycv.Tensor(np.random.default_rng(seed).normal(size=(many, 2)).astype(np.float32), device=show.device)
    history, make, parameters, calls = method(density, seed, lambda make: modes_covered(
        make(z).numpy(), density.means, density.sigma)._asdict(), **options)
    with tinycv.no_grad(), Stopwatch(show.device) as watch:
        points = make(z).numpy()
    last = history.metrics[-1]
    print(f"{method.__name__}, seed {seed}: {last['covered']:.0f} modes, {last['share']:.3f} within 3 sigma, KL "
          f"{last['reverse_kl']:.4f}, {history.seconds:.0f} s", flush=True)
    return {"points": points, "kl": [m["reverse_kl"] for m in history.metrics], "seconds": history.seconds,
            "sampling": watch.seconds, "parameters": parameters, "calls": calls, **last}


# %% train, and measure
runs = {method.__name__: [learned(method, grid(), show.seed + i) for i in range(seeds)] for method in (gan, diffusion)}
small = {name: learned(diffusion, density, show.seed, steps=show.choose(10, 10_000), hidden=128, depth=3, lr=3e-3)
         for name, density in (("ring", ring()), ("grid", grid()))}
table = {name: {key: np.array([run[key] for run in runs[name]], float) for key in (
    "covered", "share", "reverse_kl", "seconds", "sampling", "parameters", "calls")} for name in runs}
PACGAN = "PacGAN table 1, 400,000 steps, 10 trials: GAN 17.3 modes, 94.8 %, KL 0.70; Pac4 24.8, 93.6 %, 0.04"
for name, columns in table.items():
    for key, what in (("covered", "modes of 25"), ("share", "share within three sigma"), ("reverse_kl", "reverse KL, nats"),
                      ("seconds", "seconds of training"), ("sampling", f"seconds for {many:,} points")):
        show.measured(f"{name}: {what}, each seed", list(columns[key]), PACGAN if (name, key) == ("gan", "covered") else "")
    show.measured(f"{name}: parameters of what makes points", columns["parameters"][0])
mean = {name: {key: column.mean() for key, column in columns.items()} for name, columns in table.items()}
slower = mean["diffusion"]["sampling"] / mean["gan"]["sampling"]
show.measured("the GAN's KL by diffusion's, means", mean["gan"]["reverse_kl"] / mean["diffusion"]["reverse_kl"], "", ">= 10")
show.measured("diffusion's seconds of sampling by the GAN's, means", slower, "", ">= 50")
for name, run in small.items():
    show.measured(f"{name}, 3 x 128, diffusion: modes, share within three sigma, KL, seconds", [
        run["covered"], run["share"], run["reverse_kl"], run["seconds"]], "", "all; >= 0.96; <= 0.01; <= 120")

# %% draw
figure = draw.figure("Diffusion finds all modes with every seed; a GAN makes points in one call of its network", 13, 7.5)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.8, 1))
axes = top.subplots(1, 3)
for ax, (name, tries), colour in zip(axes, runs.items(), draw.LINES, strict=False):
    worst = max(tries, key=lambda run: run["reverse_kl"])
    ax.scatter(*worst["points"][:2500].T, s=2, color=colour, linewidths=0)
    ax.set(aspect="equal", xlim=(-5, 5), ylim=(-5, 5), title=f"{name}, the worst seed of {seeds}")
    for i, run in enumerate(tries):
        axes[2].plot(run["seconds"] * np.arange(1, moments + 1) / moments, np.maximum(run["kl"], 1e-4), ".-", color=colour,
                     label="" if i else name)
axes[2].set(yscale="log", xlabel="seconds of training", ylabel="reverse KL, nats", title="every seed, while it learned")
axes[2].legend(frameon=False)
ROWS = {"stable? reverse KL, best and worst seed": lambda t: f"{t['reverse_kl'].min():.4f}  to  {t['reverse_kl'].max():.4f}",
        "forgets nothing? modes of 25, worst seed": lambda t: f"{t['covered'].min():.0f}",
        "sharp? share within 3 sigma (data: 0.989)": lambda t: f"{t['share'].mean():.3f}",
        "fast? seconds for 10,000 points": lambda t: f"{t['sampling'].mean():.3g}",
        "calls of the network for them": lambda t: f"{t['calls'][0]:.0f}",
        "dear to train? seconds": lambda t: f"{t['seconds'].mean():.0f}"}
(ax := bottom.subplots()).axis("off")
cells = ax.table([[cell(columns) for columns in table.values()] for cell in ROWS.values()], rowLabels=list(ROWS),
                 colLabels=list(table), bbox=(0.38, 0, 0.55, 1), cellLoc="center", edges="horizontal")
cells.set_fontsize(11)
show.finish(figure)
