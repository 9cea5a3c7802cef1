"""19 · GAN vs diffusion: which is stable, which covers all modes, which is fast?
python demos/19_gan_or_diffusion.py      17 min on one core

The table of the lecture, measured. The plain GAN, the R1 GAN of demo 08 and a diffusion model learn
a grid of 25 small Gaussians from several seeds. A generator has 33,666 parameters, the
diffusion network 39,298. The picture shows the worst seed of each, the KL divergence of every
seed during training, the table, and digits of both kinds. The digits are not trained here: they are
the last frames that demos 09 and 17 wrote, read from the --out folder or from demos/gallery.
--full: ten seeds.
Read first: tinycv/adversarial/turns.py, diffusion/edm.py.
Lin et al. 2018 (PacGAN: data, GAN, figures); Karras et al. 2022 (EDM).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

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
looks = show.choose(quick=2, default=5)  # evaluations during a training: one per epoch
many = show.choose(quick=100, default=40_000)  # points at each evaluation


# %% What a training returns, for a GAN and for diffusion
@dataclass
class Maker:
    points: Callable  # noise (N, 2) -> points (N, 2)
    parameters: int
    calls: int  # network calls per point


# %% A GAN: a game of demo 08 between two small networks, plain or with the R1 penalty
GAN_STEPS = show.choose(quick=6, default=6000)
GAN_RATE = 2e-3


def play(density, seed, look, penalised):
    """look(make) is called after every epoch; make(noise) returns points."""
    generator = PointMLP(2, 2).to(show.device)
    discriminator = PointMLP(2, 1, slope=0.2).to(show.device)
    # the gradient is measured in widths of a mode: R1 penalises |sigma ∇D|²
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


# %% Diffusion by EDM: Fourier features of places and noise levels; Heun's method for sampling
DIFFUSION_STEPS = show.choose(quick=10, default=12_000)
DIFFUSION_RATE = 3e-3
HEUN_STEPS = show.choose(quick=2, default=32)


def diffuse(density, seed, look):
    """look(make) is called after every epoch; make(noise) returns points."""
    model = ScoreMLP(2, hidden=128, depth=3, place_features=14).to(show.device)
    # the network sees points with a standard deviation of 1/2
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


# %% Train each from several seeds, and evaluate the points that it makes
@dataclass
class Trial:
    modes: list  # PacGAN's figures (show/metrics.py), at each evaluation
    points: np.ndarray  # (N, 2), at the end
    seconds: float  # of training and evaluations
    sampling: float  # seconds for these points
    maker: Maker

    @property
    def end(self):
        return self.modes[-1]


def run_trial(name, density, seed):
    """Train one of WAYS from scratch. Returns a Trial."""
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
    runs[name] = [run_trial(name, grid(), show.seed + i) for i in range(seeds)]
on_the_ring = run_trial("diffusion", ring(), show.seed)

# %% Measure
PACGAN = (
    "PacGAN table 1, 400,000 steps, 10 trials: GAN 17.3 modes, 94.8 %, KL 0.70; "
    "Pac4 24.8, 93.6 %, 0.04"
)


def measure(name, what, values, published="", target=""):
    """One value per seed. The target applies to diffusion only."""
    target = target if name == "diffusion" else ""
    show.measured(f"grid, {name}: {what}, by seed", values, published, target)


for name, trials in runs.items():
    covered = [trial.end.covered for trial in trials]
    measure(name, "modes of 25", covered, PACGAN, ">= 25")
    share = [trial.end.share for trial in trials]
    measure(name, "share within three sigma", share, target=">= 0.96")
    kl = [trial.end.reverse_kl for trial in trials]
    measure(name, "reverse KL, nats", kl, target="<= 0.01")
    seconds = [trial.seconds for trial in trials]
    measure(name, "seconds of training and evaluations", seconds, target="<= 120")
    sampling = [trial.sampling for trial in trials]
    measure(name, f"seconds for {many:,} points", sampling)
    parameters = [trial.maker.parameters for trial in trials]
    measure(name, "parameters of the network that makes points", parameters)


def mean_kl(name):
    return np.mean([trial.end.reverse_kl for trial in runs[name]])


def mean_sampling(name):
    return np.mean([trial.sampling for trial in runs[name]])


for name in ("GAN", "GAN, R1"):
    times = mean_kl(name) / mean_kl("diffusion")
    show.measured(
        f"mean KL of {name}, divided by that of diffusion",
        times,
        f"KL of as many points of the data, by chance: {12 / many:.4f}",
        ">= 10",
    )
times_as_long = mean_sampling("diffusion") / mean_sampling("GAN")
show.measured("seconds of sampling: diffusion divided by GAN", times_as_long, "", ">= 50")

end = on_the_ring.end
show.measured("ring, diffusion: modes of 8", end.covered, "", ">= 8")
show.measured("ring, diffusion: share within three sigma", end.share, "", ">= 0.96")
show.measured("ring, diffusion: reverse KL, nats", end.reverse_kl, "", "<= 0.01")


# %% Digits: the last frames of demos 09 (a DCGAN) and 17 (diffusion)
@dataclass
class Digits:
    title: str
    sheet: np.ndarray  # (224, 560, 3): four rows of ten digits, 56 pixels wide each


def digits_of(demo, title):
    """The digits that a demo wrote into --out or, failing that, into the gallery; or None."""
    for folder in (show.out, Path(__file__).parent / "gallery"):
        gif = folder / f"{demo}.gif"
        if gif.is_file():
            break
    else:
        return None
    with Image.open(gif) as frames:
        frames.seek(frames.n_frames - 1)
        last = np.asarray(frames.convert("RGB"))
    if last.shape[0] < 224 or last.shape[1] != 560:
        return None  # written by an older version of that demo
    return Digits(title, last[-224:])


# Their Frechet multiples are not compared: demo 09 measures 4,000 images and demo 17 only 500, and
# the multiple depends on the number of images.
digits = [
    digits_of("09_gan_digits", "GAN (demo 09)"),
    digits_of("17_diffusion_digits", "diffusion (demo 17)"),
]

# %% Draw: the worst seed of each, and every seed during training
kl_of = {name: [trial.end.reverse_kl for trial in trials] for name, trials in runs.items()}
worst_kl = {name: f"{max(kl_of_seeds):.2g}" for name, kl_of_seeds in kl_of.items()}
figure = draw.figure(
    f"GAN vs diffusion: the reverse KL of the worst seed is {worst_kl['GAN']} for the GAN\n"
    f"and {worst_kl['diffusion']} for diffusion; its sampling takes {times_as_long:.0f} x as long",
    8.2,
    11,
)
top, middle, bottom, last_row = figure.subfigures(4, 1, height_ratios=(1.12, 1, 1.05, 0.82))
colours = dict(zip(WAYS, draw.LINES, strict=False))
centres = grid().means
for ax, (name, trials) in zip(top.subplots(1, 3), runs.items(), strict=True):
    worst = max(trials, key=lambda trial: trial.end.reverse_kl)
    x, y = worst.points[:2500].T
    true = {"color": draw.INK, "fillstyle": "none", "markersize": 10, "markeredgewidth": 0.8}
    ax.plot(*centres.T, "o", **true)
    ax.scatter(x, y, s=3, color=colours[name], linewidths=0)
    ax.set(aspect="equal", xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[])
    ax.set_title(f"{name}: {worst.end.covered} of 25 modes", fontsize=12)
top.supxlabel(f"the worst of {seeds} seeds; circles: the modes of the data", fontsize=11)

learning = middle.subplots()
for name, trials in runs.items():
    for i, trial in enumerate(trials):
        seconds = trial.seconds * np.arange(1, looks + 1) / looks
        kl = [max(modes.reverse_kl, 1e-4) for modes in trial.modes]
        label = "_" if i else name
        learning.plot(seconds, kl, ".-", color=colours[name], label=label, markersize=8)
learning.set(yscale="log", xlabel="seconds of training", ylabel="reverse KL, nats")
learning.set_title("How unevenly are the modes filled? Every seed", fontsize=12)
learning.grid(True, color=draw.PALE, linewidth=0.6)
learning.spines[["top", "right"]].set_visible(False)
draw.label_lines(learning)

# %% Draw: the lecture's table
QUESTIONS = [
    "stable? reverse KL, best to worst seed",
    "all modes? of 25, worst seed",
    "sharp? share within 3 sigma (data: 0.989)",
    f"fast? seconds for {many:,} points",
    "network calls per point",
    "cheap? seconds of training",
]


def answers(name):
    """A column of the table."""
    trials = runs[name]
    covered = [trial.end.covered for trial in trials]
    share = [trial.end.share for trial in trials]
    kl = [trial.end.reverse_kl for trial in trials]
    seconds = [trial.seconds for trial in trials]
    return [
        f"{min(kl):.2g} to {max(kl):.2g}",
        f"{min(covered)}",
        f"{min(share):.3f} to {max(share):.3f}",
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
    bbox=(0.43, 0, 0.57, 1),
    cellLoc="center",
    edges="horizontal",
)
table.auto_set_font_size(False)
table.set_fontsize(11)

# %% Draw: the digits
for ax, found in zip(last_row.subplots(1, 2), digits, strict=True):
    ax.axis("off")
    if found is None:
        ax.text(0.5, 0.5, "run demos 09 and 17 first", fontsize=12, ha="center")
    else:
        ax.imshow(found.sheet)
        ax.set_title(found.title, fontsize=12)
last_row.supxlabel("both learned from the same 4,000 real digits", fontsize=11)
show.finish(figure)
