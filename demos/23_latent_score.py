"""23 · What does a diffusion model gain by working on the codes of a VAE (latent diffusion, LSGM)?
python demos/23_latent_score.py      4 min on one core

A VAE encodes 4,000 digits as codes of 16 numbers. New codes from N(0, I) often lie where no digit
has its code, and the decoder does not turn them into digits. Latent diffusion solves this in two
stages, with the same decoder: a diffusion model learns where the codes are. LSGM goes further and
trains encoder, decoder and score together, by a bound on the likelihood. The picture shows the
digits of each prior, how far they are from real ones (Frechet multiple: the distance to unseen
digits, divided by that of the training digits), the bounds in nats, and the codes. For comparison,
a diffusion model of the pixels, with the same kind of network, is trained for a similar time. Its
digits are far worse, and even for the best quality that it reaches, its sampling takes longer than
latent diffusion. (The U-Net of demo 17 is trained far longer.) With 3 steps instead of 30, the
sampled codes of latent diffusion spread far too wide, and the decoder makes crisper digits of them.
Their Frechet multiple falls below that of the decoded training codes, so a low multiple alone does
not show that the codes are right.
The bounds are in nats of digits whose pixels are drawn as 0 or 1, with the gray value as the
probability of a 1 (dynamic binarisation, as in demo 20); the mean over these draws is computed
exactly. The encoder takes the gray values.
LSGM starts from the two trained stages. With the small weight of the KL its bound improves on
training digits. On unseen digits it is no better than that of the two stages: LSGM overfits.
Read first: tinycv/likelihood/vae.py, tinycv/diffusion/latent.py.
Vahdat, Kreis & Kautz 2021 (LSGM); Rombach et al. 2022 (latent diffusion); Karras et al. 2022 (EDM).
"""

from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor, nn
from tinycv.data import DataLoader, mnist_5k
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.diffusion.latent import LatentDiffusion, bound_of, joined
from tinycv.diffusion.samplers import sample
from tinycv.engine.backend import Stopwatch
from tinycv.likelihood.vae import VAE, elbo_terms, vae_loss
from tinycv.nn.distributions import normal_sample
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.training.progress import read_loss, say, steps

show = Demo("23_latent_score", __doc__)
LATENT = 16
BETA = 0.2  # the weight of the KL: with 1 the decoder blurs so much that the prior hardly matters
BATCH = show.choose(quick=64, default=128)
HEUN = show.choose(quick=3, default=30)  # sampling steps

# %% Data: training digits with pixels from 0 to 1, and unseen digits. (Every setting below was
# chosen with the last 500 training digits held out.)
count = show.choose(quick=200, default=4000)
x, y, test, _ = (part[:count] for part in mnist_5k())  # (N, 1, 28, 28), (N,)
judge = judge_of(x, y, epochs=show.choose(quick=1, default=8))  # half a minute the first time


# %% Training: one loop for all models
def train(name, learned, loss_of, epochs, batch_size, rate):
    """Train the module ``learned`` by loss_of(images). Returns the seconds."""
    loader = DataLoader(x, batch_size=batch_size, drop_last=True, seed=show.seed)
    optimizer = Adam(learned.parameters(), lr=rate)
    total = epochs * len(loader)
    schedule = warmup_cosine(total, warmup=total // 50)
    ema = EMA(learned, decay=0.998)
    with Stopwatch(show.device) as watch:
        for step, (images,) in steps(loader, epochs, seed=show.seed, device=show.device):
            optimizer.param_groups[0]["lr"] = rate * schedule(step)
            optimizer.zero_grad()
            loss = loss_of(images)
            loss.backward()
            optimizer.step()
            ema.update()
            if (step + 1) % max(1, total // 4) == 0:
                say(f"{name}, step {step + 1}  loss {read_loss(loss, step):.4g}")
    learned.load_state_dict(ema.state_dict())
    return watch.seconds


# %% The VAE, whose prior is N(0, I)
def with_silu(network):
    """The same layers with SiLU instead of tanh. With the same training, the digits are sharper."""
    return nn.Sequential(*[nn.SiLU() if isinstance(layer, nn.Tanh) else layer for layer in network])


tinycv.manual_seed(show.seed)
vae = VAE(784, LATENT, show.choose(quick=(16, 16), default=(400, 200)))
vae.encoder, vae.decoder = with_silu(vae.encoder), with_silu(vae.decoder)
vae.to(show.device)
vae_epochs = show.choose(quick=1, default=90)  # 40 steps each
seconds_of_vae = train("VAE", vae, partial(vae_loss, vae, beta=BETA), vae_epochs, 100, 2e-3)

# %% Two stages: the VAE stays as it is, and a diffusion model learns its codes (EDM)
network = ScoreMLP(LATENT, hidden=show.choose(quick=16, default=256), depth=3)
two_stages = LatentDiffusion(vae, network).to(show.device)
two_stages.standardise(Tensor(x, device=show.device))
code_epochs = show.choose(quick=1, default=240)  # 31 steps each
seconds_of_codes = train(
    "latent diffusion", two_stages.network, two_stages.loss, code_epochs, BATCH, 2e-3
)

# %% LSGM: starting from the two stages, encoder, decoder and score are trained together
lsgm = joined(two_stages)
lsgm_epochs = show.choose(quick=1, default=32)  # 31 steps each
seconds_of_lsgm = train("LSGM", lsgm, partial(lsgm.loss, beta=BETA), lsgm_epochs, BATCH, 5e-4)

# %% For comparison: diffusion of the pixels, with about as much training as the VAE and the codes
SPREAD = float(x.std())  # of the pixels
pixel_network = ScoreMLP(784, hidden=show.choose(quick=16, default=400), depth=3).to(show.device)


def pixel_loss(images):
    pixels = images.reshape((len(images), 784))
    return edm_loss(pixel_network, pixels, sigma_data=SPREAD, mean=-0.6, std=1.2)


pixel_epochs = show.choose(quick=1, default=80)  # 31 steps each
seconds_of_pixels = train("pixels", pixel_network, pixel_loss, pixel_epochs, BATCH, 2e-3)


# %% Sampling: as many images from each prior as there are training digits
def images_of(codes, vae=vae):
    """The decoder's mean images of codes (N, 16): NumPy (N, 1, 28, 28)."""
    return vae.pixels(codes).numpy().reshape(-1, 1, 28, 28)


def from_codes(count):
    """Latent diffusion in ``count`` steps."""
    return images_of(two_stages.sample_latents(len(x), count))


def from_pixels(count):
    """Diffusion of the pixels in ``count`` steps."""
    start = 20 * tinycv.randn(len(x), 784, device=show.device)
    step = partial(heun_step, edm_denoiser(pixel_network, SPREAD))
    levels = edm_sigmas(count, 0.01, 20.0)
    return sample(step, start, levels).numpy().clip(0, 1).reshape(-1, 1, 28, 28)


rng = np.random.default_rng(show.seed)
with tinycv.no_grad():
    tinycv.manual_seed(show.seed)
    mean, log_var = vae.encode(Tensor(x, device=show.device))
    code_means = mean.numpy()
    codes = normal_sample(mean, log_var)  # (N, 16)
    gaussian = rng.multivariate_normal(
        codes.numpy().mean(axis=0), np.cov(codes.numpy().T), len(x)
    ).astype(np.float32)
    standard = tinycv.randn_like(codes)
    latent_codes = two_stages.sample_latents(len(x), HEUN)
    lsgm_codes, _ = lsgm.encode(Tensor(x, device=show.device))
    made = {
        "N(0, I)": images_of(standard),
        "Gaussian": images_of(Tensor(gaussian, device=show.device)),
        "latent diffusion": images_of(latent_codes),
        "training codes": images_of(codes),
        "LSGM": images_of(lsgm.sample_latents(len(x), HEUN), lsgm.vae),
        "LSGM, training codes": images_of(lsgm_codes, lsgm.vae),
    }

# %% Measure: how far are the samples of each prior from unseen digits?
multiples = {name: judge.frechet_multiple(images, x, test) for name, images in made.items()}
WHAT = {
    "N(0, I)": "prior N(0, I)",
    "Gaussian": "prior: a Gaussian with mean and covariance of the codes",
    "latent diffusion": "two stages (latent diffusion), the same decoder",
    "training codes": "the codes of the training digits, decoded (the ceiling of this decoder)",
    "LSGM": "LSGM, trained end to end",
    "LSGM, training codes": "the codes of the training digits, decoded by LSGM (its ceiling)",
}
for name, multiple in multiples.items():
    show.measured(f"Frechet multiple, {WHAT[name]}", multiple, "1: real digits")
learned = multiples["latent diffusion"]
show.measured(
    "latent diffusion: its Frechet multiple / that of N(0, I)",
    learned / multiples["N(0, I)"],
    target="<= 0.333",
)
show.measured(
    "latent diffusion: its Frechet multiple / that of the Gaussian",
    learned / multiples["Gaussian"],
    target="< 1",
)
show.measured(
    "latent diffusion: its Frechet multiple / that of the decoded training codes",
    learned / multiples["training codes"],
    target="<= 2",
)
show.measured(
    "LSGM: its Frechet multiple / that of N(0, I) with the VAE",
    multiples["LSGM"] / multiples["N(0, I)"],
    target="<= 0.333",
)
show.measured(
    "LSGM: its Frechet multiple / that of its decoded training codes",
    multiples["LSGM"] / multiples["LSGM, training codes"],
    target="<= 2",
)


# %% Measure: bounds on -log p(x) in nats, of unseen and of training digits
def vae_bound(images):
    """-log p(x|z), KL(q(z|x) || N(0, I)) of each image, (N,)."""
    with tinycv.no_grad():
        likelihood, kl = elbo_terms(vae, Tensor(images, device=show.device))
    return -likelihood.numpy(), kl.numpy()


def diffusion_bound(model, images):
    """-log p(x|z) and CE(q(z|x) || p(z)) - H(q(z|x)) of each image, (N,), by theorem 1."""
    x_on_device = Tensor(images, device=show.device)
    likelihood, entropy, cross = bound_of(model, x_on_device, show.choose(quick=1, default=10))
    return -likelihood, cross - entropy


bounds = {}  # the parts of the bound on unseen digits, their means
for name, bound in {
    "VAE, prior N(0, I)": vae_bound,
    "latent diffusion": partial(diffusion_bound, two_stages),
    "LSGM": partial(diffusion_bound, lsgm),
}.items():
    tinycv.manual_seed(show.seed)
    distortion, rate = bound(test)
    total = distortion + rate
    in_training = np.add(*bound(x[: len(test)])).mean()
    bounds[name] = distortion.mean(), rate.mean()
    show.measured(
        f"{name}: bound on -log p(x) of unseen digits, nats",
        total.mean(),
        "LSGM on all of MNIST, dynamic binarisation: <= 78.47 (their table 5)",
    )
    show.measured(f"{name}: standard error of that bound", total.std() / len(total) ** 0.5)
    show.measured(f"{name}: -log p(x|z), unseen digits, nats", distortion.mean())
    show.measured(f"{name}: KL of encoder and prior, unseen digits, nats", rate.mean())
    show.measured(f"{name}: bound on -log p(x) of training digits, nats", in_training)
alpha = 1 / (1 + np.exp(-lsgm.prior.mixing_logit.numpy()))
show.measured("LSGM: share of the learned score, alpha, mean over the latents", alpha.mean())

# %% Measure: how fast each diffusion model samples digits of the same quality
COUNTS = show.choose(quick=(2, 3), default=(3, 5, 10, 30))  # Heun steps
by_seconds = {}  # model: (seconds, Frechet multiple) for each count of steps, (2, 4)
for name, sample_in in {"latent diffusion": from_codes, "pixel diffusion": from_pixels}.items():
    points = []
    for count in COUNTS:
        tinycv.manual_seed(show.seed)
        with tinycv.no_grad(), Stopwatch(show.device) as watch:
            images = sample_in(count)
        points.append((watch.seconds, judge.frechet_multiple(images, x, test)))
    by_seconds[name] = np.array(points).T
both_reach = max(multiple.min() for _, multiple in by_seconds.values())
fastest = {}
for name, (seconds, multiple) in by_seconds.items():
    fastest[name] = seconds[multiple <= both_reach].min()
    show.measured(f"{name}: Frechet multiple, {COUNTS} steps", list(multiple))
    show.measured(f"{name}: seconds to sample {len(x)} digits, {COUNTS} steps", list(seconds))
spreads = []  # 1 if the codes are spread as those of the training digits
for count in COUNTS:
    tinycv.manual_seed(show.seed)
    sampled = two_stages.sample_latents(len(x), count).numpy()
    spreads.append((sampled.std(axis=0) / codes.numpy().std(axis=0)).mean())
name = "latent diffusion: deviation of its codes, divided by that of training codes"
show.measured(f"{name}, {COUNTS} steps", spreads)
show.measured(
    f"seconds for a Frechet multiple of {both_reach:.1f}: pixel diffusion / latent diffusion",
    fastest["pixel diffusion"] / fastest["latent diffusion"],
    target="> 1",
)

# %% Measure: time
show.measured("seconds of training the VAE", seconds_of_vae)
show.measured("seconds of training the diffusion of its codes", seconds_of_codes)
show.measured("seconds of training LSGM, from the two stages on", seconds_of_lsgm)
show.measured("seconds of training the diffusion of the pixels", seconds_of_pixels)

# %% Draw: samples of each prior
n_vae, n_codes = multiples["N(0, I)"], multiples["latent diffusion"]
figure = draw.figure(
    "A diffusion model of the codes finds where digits are: with the same decoder,\n"
    f"the Frechet distance falls from {n_vae:.0f} to {n_codes:.0f} times that of real digits\n"
    f"({multiples['training codes']:.0f} times if the codes of real digits are decoded)",
    7.6,
    10,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(4.2, 2.5, 2.3))
samples_axes = top.subplots()
ROW_NAMES = (
    "N(0, I)",
    "Gaussian",
    "latent\ndiffusion",
    "training\ncodes",
    "LSGM",
    "LSGM,\ntraining\ncodes",
)
rows = {name: images[:12] for name, images in zip(ROW_NAMES, made.values(), strict=True)}
draw.image_rows(samples_axes, rows)
samples_axes.set_title("Twelve digits of each, not selected", fontsize=11)

# %% Draw: the codes, in the plane of their two main directions
_, _, directions = np.linalg.svd(code_means - code_means.mean(axis=0), full_matrices=False)
plane = directions[:2].T  # (16, 2)
on_plane = {
    "codes of digits": codes.numpy(),
    "N(0, I)": standard.numpy(),
    "latent diffusion": latent_codes.numpy(),
}
colours = draw.INK, draw.RED, draw.BLUE
for ax, (name, points), colour in zip(
    middle.subplots(1, 3), on_plane.items(), colours, strict=True
):
    draw.scatter(ax, points[:1500] @ plane, 5.0, colour, name, size=3.0)
middle.supxlabel("1,500 codes in the plane of their two main directions (PCA)", fontsize=10)


# %% Draw: the Frechet multiples and the bounds, as bars
def bars(ax, names, values, colours, left=0):
    """Horizontal bars, the first on top; each begins at ``left``."""
    ax.barh(names, values, left=left, color=colours)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.spines[["top", "right"]].set_visible(False)


distances_axes, bounds_axes = bottom.subplots(1, 2, width_ratios=(1.1, 1))
palette = draw.RED, draw.ORANGE, draw.BLUE, draw.PALE, draw.SKY, draw.PALE
bars(distances_axes, list(multiples), list(multiples.values()), palette)
for place, multiple in enumerate(multiples.values()):
    distances_axes.text(multiple, place, f" {multiple:.1f}", va="center", fontsize=9)
distances_axes.set_xlim(0, 1.2 * max(multiples.values()))
distances_axes.set_xlabel("Frechet multiple (1: real digits)")

names = [name.removesuffix(", prior N(0, I)") for name in bounds]
distortions, rates = np.array(list(bounds.values())).T
bars(bounds_axes, names, distortions, draw.PALE)
bars(bounds_axes, names, rates, draw.BLUE, distortions)
for place, (distortion, rate) in enumerate(bounds.values()):
    written = {"va": "center", "fontsize": 9}
    bounds_axes.text(distortion / 2, place, f"{distortion:.1f}", ha="center", **written)
    middle_of_rate = distortion + rate / 2
    bounds_axes.text(middle_of_rate, place, f"{rate:.1f}", ha="center", color="white", **written)
    bounds_axes.text(distortion + rate, place, f" {distortion + rate:.1f}", **written)
bounds_axes.set_xlim(0, 1.25 * (distortions + rates).max())
bounds_axes.set_xlabel("nats: -log p(x|z) + KL (blue)")
show.finish(figure)
