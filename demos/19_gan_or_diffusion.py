"""19 · A GAN or diffusion?
python demos/19_gan_or_diffusion.py      4 min on two cores

The lecture's table, measured: which is stable, which forgets nothing, which is fast. The plain GAN,
one of demo 08's best games and diffusion learn a grid of 25 little Gaussians from several seeds. A
generator has 33,666 parameters, the network of diffusion 39,298. The picture shows the worst seed
of each, the KL divergence of every seed while it learned, and the table. --full: ten seeds.
Read first: tinycv/adversarial/turns.py, diffusion/edm.py.
Lin et al. 2018 (PacGAN: data, GAN, figures); Karras et al. 2022 (EDM).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import tinycv
from tinycv.adversarial import PointMLP, fit_gan
from tinycv.adversarial.gan import R1
from tinycv.data import DrawnLoader
from tinycv.data.shapes import grid, ring
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.diffusion.samplers import sample
from tinycv.engine.backend import Stopwatch
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import modes_covered
from tinycv.training import fit

show = Demo("19_gan_or_diffusion", __doc__)
seeds = show.choose(quick=1, default=3, full=10)
looks = show.choose(quick=2, default=5)  # at each training while it goes on: one per epoch
many = show.choose(quick=100, default=40_000)  # points at each look


# %% What a training ends with, whichever way was taken
@dataclass
class Maker:
    points: Callable  # of noise (N, 2): (N, 2)
    parameters: int
    calls: int  # of its network, for points


# %% A GAN: a game of demo 08 between small networks, the plain one or R1, one of the two best there
GAN_STEPS = show.choose(quick=6, default=6000)
GAN_RATE = 2e-3


def play(density, seed, look, penalised):
    """look(make) is called after every epoch, with what makes points of noise."""
    generator = PointMLP(2, 2).to(show.device)
    discriminator = PointMLP(2, 1, slope=0.2).to(show.device)
    # slopes by the width of a mode: sigma ∇D is penalised
    penalty = R1(20 * density.sigma**2) if penalised else None
    loader = DrawnLoader(lambda n, rng: (density.sample(n, rng),), 256, GAN_STEPS // looks, seed)
    fit_gan(
        generator,
        discriminator,
        Adam(generator.parameters(), lr=GAN_RATE, betas=(0.0, 0.9)),
        Adam(discriminator.parameters(), lr=GAN_RATE, betas=(0.0, 0.9)),
        loader,
        epochs=looks,
        penalty=penalty,
        schedule=warmup_cosine(GAN_STEPS),
        evaluate=look,
        seed=seed,
    )
    return Maker(generator, generator.num_parameters(), calls=1)


# %% Diffusion by EDM: places and noise levels as waves, and then Heun's method for the way back
DIFFUSION_STEPS = show.choose(quick=10, default=12_000)
DIFFUSION_RATE = 3e-3
HEUN_STEPS = show.choose(quick=2, default=32)


def diffuse(density, seed, look):
    """look(make) is called after every epoch, with what makes points of noise."""
    model = ScoreMLP(2, hidden=128, depth=3, place_features=14).to(show.device)
    # the network sees points of a standard deviation of 1/2
    scale = 2 * float(density.sample(10_000, np.random.default_rng(0)).std())

    def scaled(n, rng):
        return (density.sample(n, rng) / scale,)

    def make(z):
        sigmas = edm_sigmas(HEUN_STEPS)
        step = partial(heun_step, edm_denoiser(model))
        return scale * sample(step, sigmas[0] * z, sigmas)

    ema = EMA(model, decay=0.995)
    fit(
        model,
        Adam(model.parameters(), lr=DIFFUSION_RATE),
        partial(edm_loss, mean=-2.0, std=1.5),
        DrawnLoader(scaled, 256, DIFFUSION_STEPS // looks, seed),
        epochs=looks,
        schedule=warmup_cosine(DIFFUSION_STEPS, warmup=100),
        ema=ema,
        evaluate=lambda model: look(make),
        seed=seed,
    )
    model.load_state_dict(ema.state_dict())
    return Maker(make, model.num_parameters(), calls=2 * HEUN_STEPS - 1)


WAYS = {
    "GAN": partial(play, penalised=False),
    "GAN, R1": partial(play, penalised=True),
    "diffusion": diffuse,
}


# %% Train each from several seeds, and look at the points that it makes
@dataclass
class Trial:
    modes: list  # PacGAN's figures (show/metrics.py), at each look
    points: np.ndarray  # (N, 2), at the end
    seconds: float  # of training and looks
    sampling: float  # seconds for these points
    maker: Maker

    @property
    def end(self):
        return self.modes[-1]


def tried(name, density, seed):
    """One training from its start."""
    print(f"{name}, seed {seed}", flush=True)
    tinycv.manual_seed(seed)
    noise = np.random.default_rng(seed).normal(size=(many, 2)).astype(np.float32)
    noise = tinycv.Tensor(noise, device=show.device)
    modes = []

    def look(make):
        points = make(noise).numpy()
        modes.append(modes_covered(points, density.means, density.sigma))
        return modes[-1]._asdict()

    with Stopwatch(show.device) as training:
        maker = WAYS[name](density, seed, look)
    with tinycv.no_grad(), Stopwatch(show.device) as sampling:
        points = maker.points(noise).numpy()
    return Trial(modes, points, training.seconds, sampling.seconds, maker)


runs = {}
for name in WAYS:
    runs[name] = [tried(name, grid(), show.seed + i) for i in range(seeds)]
on_the_ring = tried("diffusion", ring(), show.seed)

# %% Measure
PACGAN = (
    "PacGAN table 1, 400,000 steps, 10 trials: GAN 17.3 modes, 94.8 %, KL 0.70; "
    "Pac4 24.8, 93.6 %, 0.04"
)


def measure(name, what, values, published="", target=""):
    """One value for each seed. The target is diffusion's alone."""
    target = target if name == "diffusion" else ""
    show.measured(f"grid, {name}: {what}, each seed", values, published, target)


for name, trials in runs.items():
    covered = [trial.end.covered for trial in trials]
    measure(name, "modes of 25", covered, PACGAN, ">= 25")
    share = [trial.end.share for trial in trials]
    measure(name, "share within three sigma", share, target=">= 0.96")
    kl = [trial.end.reverse_kl for trial in trials]
    measure(name, "reverse KL, nats", kl, target="<= 0.01")
    seconds = [trial.seconds for trial in trials]
    measure(name, "seconds of training and looks", seconds, target="<= 120")
    sampling = [trial.sampling for trial in trials]
    measure(name, f"seconds for {many:,} points", sampling)
    parameters = [trial.maker.parameters for trial in trials]
    measure(name, "parameters of what makes points", parameters)


def mean_kl(name):
    return np.mean([trial.end.reverse_kl for trial in runs[name]])


def mean_sampling(name):
    return np.mean([trial.sampling for trial in runs[name]])


for name in ("GAN", "GAN, R1"):
    times = mean_kl(name) / mean_kl("diffusion")
    show.measured(
        f"{name}: its mean KL by diffusion's", times, f"by chance: {12 / many:.4f}", ">= 10"
    )
times = mean_sampling("diffusion") / mean_sampling("GAN")
show.measured("diffusion's seconds of sampling by the GAN's", times, "", ">= 50")

end = on_the_ring.end
show.measured("ring, diffusion: covered", end.covered, "", ">= 8")
show.measured("ring, diffusion: share", end.share, "", ">= 0.96")
show.measured("ring, diffusion: reverse_kl", end.reverse_kl, "", "<= 0.01")

# %% Draw: the worst seed of each, and every seed while it learned
figure = draw.figure(
    "GANs sample fast and depend on the seed; diffusion samples slowly and hardly depends on it",
    15,
    7.5,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.8, 1))
*places, learning = top.subplots(1, 4)
colours = dict(zip(WAYS, draw.LINES, strict=False))
for ax, (name, trials) in zip(places, runs.items(), strict=True):
    worst = max(trials, key=lambda trial: trial.end.reverse_kl)
    x, y = worst.points[:2500].T
    ax.scatter(x, y, s=2, color=colours[name], linewidths=0)
    ax.set(aspect="equal", xlim=(-5, 5), ylim=(-5, 5), title=f"{name}, the worst seed of {seeds}")

for name, trials in runs.items():
    for i, trial in enumerate(trials):
        seconds = trial.seconds * np.arange(1, looks + 1) / looks
        kl = [max(modes.reverse_kl, 1e-4) for modes in trial.modes]
        label = "" if i else name
        learning.plot(seconds, kl, ".-", color=colours[name], label=label)
learning.set(yscale="log", xlabel="seconds of training", ylabel="reverse KL, nats")
learning.set_title("every seed, while it learned")
learning.legend(frameon=False)

# %% Draw: the lecture's table
QUESTIONS = [
    "stable? reverse KL, best and worst seed",
    "forgets nothing? modes of 25, worst seed",
    "sharp? share within 3 sigma (data: 0.989)",
    f"fast? seconds for {many:,} points",
    "calls of the network for them",
    "dear to train? seconds, looks included",
]


def answers(name):
    """A column of the table."""
    trials = runs[name]
    covered = [trial.end.covered for trial in trials]
    share = [trial.end.share for trial in trials]
    kl = [trial.end.reverse_kl for trial in trials]
    seconds = [trial.seconds for trial in trials]
    return [
        f"{min(kl):.4f}  to  {max(kl):.4f}",
        f"{min(covered)}",
        f"{min(share):.3f}  to  {max(share):.3f}",
        f"{mean_sampling(name):.3g}",
        f"{trials[0].maker.calls}",
        f"{np.mean(seconds):.0f}",
    ]


columns = [answers(name) for name in runs]
ax = bottom.subplots()
ax.axis("off")
table = ax.table(
    list(zip(*columns, strict=True)),
    rowLabels=QUESTIONS,
    colLabels=list(runs),
    bbox=(0.3, 0, 0.65, 1),
    cellLoc="center",
    edges="horizontal",
)
table.set_fontsize(11)
show.finish(figure)
