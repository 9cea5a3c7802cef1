"""23, the whole protocol: three seeds, and the table of five families of generative models.

The demo is run from each seed. Then VAE, flow, autoregressive model, GAN, diffusion and latent
diffusion learn the same 1,500 digits of 8 x 8 pixels, and the same figures are measured for each:
bits per dimension of unseen digits with 17 gray levels, nats of binarised digits, the quality of
samples, and seconds. Exact models without a network are measured beside them. The lecture says one
sentence about each family; here each sentence becomes a figure with a target, which is met or not.
The picture shows samples of each family, and at which noise a diffusion model spends its bits.
python demos/23_latent_score.py --full
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor, nn
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, images_of, train_dcgan
from tinycv.data import DataLoader, split_digits_8x8
from tinycv.diffusion import DiT, ScoreMLP
from tinycv.diffusion.bound import log_variances, posterior_mean, variational_bound
from tinycv.diffusion.denoising import denoiser, diffusion_loss
from tinycv.diffusion.latent import LatentDiffusion, bound_of
from tinycv.diffusion.ode import log_likelihood, solve
from tinycv.diffusion.samplers import ddpm_step, sample
from tinycv.diffusion.schedule import DDPM
from tinycv.diffusion.sde import VP
from tinycv.diffusion.tweedie import score_of
from tinycv.engine.backend import Stopwatch, to_device, to_numpy
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.baselines import (
    ChowLiuTree,
    GaussianDensity,
    IndependentPixels,
    ProbabilisticPCA,
)
from tinycv.likelihood.flow import ImageRealNVP
from tinycv.likelihood.pixelcnn import GatedPixelCNN
from tinycv.likelihood.units import bits_per_dim, dequantize, log_prob_of_levels, quantize
from tinycv.likelihood.vae import VAE, bounds_of, vae_loss
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.show.metrics import precision_recall
from tinycv.training.progress import read_loss, say, steps

show = Demo("23_latent_score", __doc__, full=True)
PIXELS, LEVELS, LATENT = 64, 17, 16
FIVE = "VAE", "flow", "autoregressive", "GAN", "diffusion"
FIRST = 1e-3  # the first time of the probability flow; its noise is a tenth of a level
TRANSFORMER = show.choose(
    quick={"dim": 8, "depth": 1, "heads": 2}, full={"dim": 96, "depth": 3, "heads": 4}
)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))

# %% Data: digits of 8 x 8 pixels with 17 gray levels; binarised, a pixel is 1 from level 8 on
count = show.choose(quick=150, full=1500)
images, labels, test_images, _ = split_digits_8x8()
images, labels, test_images = images[:count], labels[:count], test_images[:count]
judge = judge_of(images, labels, epochs=show.choose(quick=1, full=30))


def in_levels(x, levels):
    """Images (N, 1, 8, 8) as whole numbers, 0 to levels - 1: 17 levels, or 2."""
    gray = quantize(x, LEVELS)
    return gray if levels == LEVELS else (gray >= 8).astype(np.int64)


# %% Training: one loop for all families but the GAN. (The settings were chosen with the last 200
# training digits held out.)
@dataclass
class Fitted:
    """What one family learned. nats: levels (N, 1, 8, 8) -> -log P of each image, or a bound on it.
    sample: n -> images (n, 1, 8, 8) in [0, 1]."""

    nats: Callable | None
    sample: Callable
    seconds: float
    parameters: int


def train(name, model, loss_of, levels, total, rate):
    """Train on loss_of(whole numbers (B, 1, 8, 8)) for ``total`` steps. Returns the seconds."""
    model.to(show.device).train()
    total = show.choose(quick=2, full=total)
    loader = DataLoader(in_levels(images, levels), batch_size=50, drop_last=True, seed=show.seed)
    optimizer, ema = Adam(model.parameters(), lr=rate), EMA(model, decay=0.995)
    schedule = warmup_cosine(total, warmup=total // 20)
    epochs = -(-total // len(loader))
    with Stopwatch(show.device) as watch:
        for step, (counts,) in steps(loader, epochs, seed=show.seed, device=show.device):
            if step == total:
                break
            optimizer.param_groups[0]["lr"] = rate * schedule(step)
            optimizer.zero_grad()
            loss = loss_of(counts)
            loss.backward()
            optimizer.step()
            ema.update()
            if (step + 1) % max(1, total // 4) == 0:
                say(f"{name}, step {step + 1}  loss {read_loss(loss, step):.4g}")
    model.load_state_dict(ema.state_dict())
    model.eval()
    return watch.seconds


def size_of(*models):
    """The number of weights."""
    return sum(p.size for model in models for p in model.parameters())


def on_device(counts):
    return Tensor(counts, device=show.device)


def from_density(log_density, counts, levels, repeats=8):
    """-log P of images of levels, bounded by the log-density of the dequantised images: the mean
    over several draws of the noise, (N,)."""
    draws = []
    for _ in range(show.choose(quick=1, full=repeats)):
        with tinycv.no_grad():
            draws.append(to_numpy(log_density(dequantize(on_device(counts), levels))))
    return -log_prob_of_levels(np.mean(draws, axis=0, dtype=np.float64), levels, PIXELS)


def as_images(x):
    """Samples in [0, 1] (n, ...), rounded to the nearest gray level as digits are stored."""
    x = x.numpy() if isinstance(x, Tensor) else x
    x = np.clip(x, 0, 1).reshape(-1, 1, 8, 8)
    return (np.round(x * (LEVELS - 1)) / (LEVELS - 1)).astype(np.float32)


def level_images(y):
    """Samples of a model of dequantised images: the gray level in whose bin each pixel lies."""
    y = y.numpy() if isinstance(y, Tensor) else y
    levels_of_y = quantize(np.clip(y, 0, 1).reshape(-1, 1, 8, 8), LEVELS)
    return (levels_of_y / (LEVELS - 1)).astype(np.float32)


# %% VAE: 17 levels by a Gaussian decoder on dequantised images, 2 levels by a Bernoulli decoder
def fit_vae(levels):
    tinycv.manual_seed(show.seed)
    decoder = "gaussian" if levels == LEVELS else "bernoulli"
    vae = VAE(PIXELS, LATENT, hidden=show.choose(quick=(16,), full=(200, 200)), decoder=decoder)

    def in_units(counts):
        return dequantize(counts, LEVELS) if levels == LEVELS else counts.astype("float32")

    seconds = train("VAE", vae, lambda counts: vae_loss(vae, in_units(counts)), levels, 6000, 1e-3)

    def nats(counts):
        if levels == LEVELS:
            return from_density(partial(bounds_of, vae), counts, levels)
        draws = [bounds_of(vae, in_units(on_device(counts))) for _ in range(8)]
        return -np.mean(draws, axis=0)

    def mean_images(n):
        """The decoder's mean images, as is usual for pictures."""
        with tinycv.no_grad():
            pixels = vae.pixels(tinycv.randn(n, LATENT, device=show.device))
        return level_images(pixels) if levels == LEVELS else as_images(pixels)

    return vae, Fitted(nats, mean_images, seconds, size_of(vae))


# %% Flow: RealNVP on dequantised images
def fit_flow(levels):
    tinycv.manual_seed(show.seed)
    flow = ImageRealNVP(1, 8, hidden=show.choose(quick=4, full=32))

    def loss_of(counts):
        return -flow.log_prob(dequantize(counts, levels)).mean()

    seconds = train("flow", flow, loss_of, levels, 2000, 1e-3)
    nats = partial(from_density, flow.log_prob, levels=levels)
    return flow, Fitted(nats, lambda n: level_images(flow.sample(n)), seconds, size_of(flow))


# %% Autoregressive: a gated PixelCNN with a softmax over 17 levels, MADE for 2 levels
def fit_autoregressive(levels):
    tinycv.manual_seed(show.seed)
    if levels == LEVELS:
        width, depth = show.choose(quick=4, full=32), show.choose(quick=1, full=4)
        model, total, rate = GatedPixelCNN(8, width, depth, levels=levels), 1200, 2e-3
    else:
        model, total, rate = MADE(8, (show.choose(quick=8, full=500),)), 2000, 3e-3

    def loss_of(counts):
        return -model.log_prob(counts).mean()

    seconds = train("autoregressive", model, loss_of, levels, total, rate)

    def nats(counts):
        with tinycv.no_grad():
            return -model.log_prob(on_device(counts)).numpy().astype(np.float64)

    def draw_images(n):
        return as_images(model.sample(n).numpy() / (levels - 1))

    return model, Fitted(nats, draw_images, seconds, size_of(model))


# %% GAN: a DCGAN. It has no likelihood
def fit_gan():
    tinycv.manual_seed(show.seed)
    width = show.choose(quick=4, full=64)
    generator = DCGANGenerator(8, 32, channels=1, width=width)
    discriminator = DCGANDiscriminator(8, channels=1, width=width)
    loader = DataLoader(images, batch_size=50, drop_last=True, seed=show.seed)
    epochs = show.choose(quick=1, full=100)
    history = train_dcgan(
        generator, discriminator, loader, epochs, seed=show.seed, device=show.device
    )

    def draw_images(n):
        noise = np.random.default_rng(show.seed).normal(size=(n, 32)).astype(np.float32)
        return as_images(images_of(generator, noise))

    return Fitted(None, draw_images, history.seconds, size_of(generator, discriminator))


# %% Diffusion: DDPM in T steps, with the noise levels of the VP SDE
vp = VP()


def in_steps(count):
    """DDPM's schedule with the noise of VP at the times 0, 1 / T ... 1."""
    return DDPM(np.array([vp.signal(i / count) ** 2 for i in range(count + 1)]))


class LevelDenoiser(nn.Module):
    """A denoiser that knows that pixels have levels l_1 ... l_K. By Bayes' rule, for each pixel,

        p(level k | x_t)  ∝  p_k  exp(-(x_t - a l_k)² / 2 σ²)

    where p_k is the probability of level k given the other pixels. The second factor is known. A
    network predicts log p_k from the second factors of all pixels: its output is added to the
    logarithm of how often the pixel has level k, so that an output of 0 gives the best denoiser of
    independent pixels. It is trained by the cross-entropy of the levels, and D is the mean level.
    Where there is little noise, D is then almost exactly one level, which a network that predicts
    D directly could only approximate.
    """

    def __init__(self, levels):
        self.levels = levels
        self.network = DiT(8, 2, levels, **TRANSFORMER)
        self.values = Tensor(np.linspace(-1, 1, levels, dtype=np.float32).reshape(1, levels, 1, 1))
        shares = IndependentPixels(in_levels(images, levels), levels).p  # (64, K)
        log_shares = np.log(shares).astype(np.float32).T.reshape(1, levels, 8, 8)
        self.log_shares = Tensor(log_shares)

    def forward(self, x, t):
        """Logits of the levels (B, K, 8, 8) for x (B, 1, 8, 8) and t (B,) from 0 to 1."""
        a, sigma = vp.marginal_for(x, t)
        evidence = -0.5 * ((x - a * self.values) / sigma) ** 2
        shares = nn.functional.softmax(evidence + self.log_shares, axis=1)
        return self.network(shares, 1000 * t) + self.log_shares + evidence

    def loss(self, counts):
        """Cross-entropy of the levels of images (B, 1, 8, 8) at random times, most of them early,
        where the noise is smaller than the signal."""
        x0 = counts.astype("float32") * (2 / (self.levels - 1)) - 1
        t = vp.random_times(x0) ** 2
        logits = self(vp.perturb(x0, t, tinycv.randn_like(x0)), t)
        rows = logits.reshape((len(x0), self.levels, PIXELS)).swapaxes(1, 2)
        return nn.functional.cross_entropy(rows.reshape((-1, self.levels)), counts.reshape((-1,)))

    def shares(self, x, t):
        """The probability of each level (B, K, 8, 8), given x_t."""
        return nn.functional.softmax(self(on_device(x), on_device(t).astype("float32")), axis=1)

    def of_steps(self, count):
        """D(x, t) and v(x, t) for DDPM's times t = 1 ... T.

        v stands for the variance r² of x_{t-1} given x_t, which makes the bound smallest. By the
        law of total variance it is β̃ + w² Var[x_0 | x_t], where w is the weight of x_0 in the mean.
        """
        schedule = in_steps(count)

        def denoise(x, t):
            return (self.shares(x, t / count) * self.values).sum(axis=1, keepdims=True)

        def between(x, t):
            shares = self.shares(x, t / count)
            mean = (shares * self.values).sum(axis=1, keepdims=True)
            of_x0 = (shares * (self.values - mean) ** 2).sum(axis=1, keepdims=True)
            log_large, log_small = log_variances(schedule, x, t)
            weight = posterior_mean(schedule, 0 * x + 1, 0 * x, t)
            # The smaller variance β̃ is 0 in the last step, to t = 0.
            rest = (t > 1).reshape((-1, 1, 1, 1)) * np.e**log_small
            best = tinycv.log(rest + weight**2 * of_x0 + 1e-6)
            return (best - log_small) / (log_large - log_small)

        return denoise, between


def bound_on(model, counts, variance="own"):
    """The terms of the variational bound of images (N, 1, 8, 8). variance: "own" is that of
    ``LevelDenoiser.of_steps``."""
    x0 = on_device(counts.astype(np.float32) * (2 / (model.levels - 1)) - 1)
    denoise, between = model.of_steps(STEPS)
    variance = between if variance == "own" else variance
    return variational_bound(denoise, x0, in_steps(STEPS), variance, model.levels)


STEPS = show.choose(quick=4, full=100)  # of the bound
DRAWS = show.choose(quick=4, full=100)  # of sampling


def fit_diffusion(levels):
    tinycv.manual_seed(show.seed)
    model = LevelDenoiser(levels)
    seconds = train("diffusion", model, model.loss, levels, 1500, 2e-3)

    def nats(counts):
        return to_numpy(bound_on(model, counts).total).astype(np.float64)

    def draw_images(n):
        schedule = in_steps(DRAWS)
        denoise, between = model.of_steps(DRAWS)
        step = partial(ddpm_step, denoise, schedule, variance=between)
        x = sample(step, tinycv.randn(n, 1, 8, 8, device=show.device), schedule.times())
        return as_images((x.numpy() + 1) / 2)

    return model, Fitted(nats, draw_images, seconds, size_of(model))


# %% Diffusion again, with an exact density: the probability flow, for dequantised images
class FlowOfDiffusion(nn.Module):
    """Predicts v for images with continuous pixels, from -1 to 1."""

    def __init__(self):
        self.network = DiT(8, 2, 1, **TRANSFORMER)

    def forward(self, x, t):
        """x (B, 64), t (B,) from 0 to 1. Returns v (B, 64)."""
        return self.network(x.reshape((len(x), 1, 8, 8)), 1000 * t).reshape(x.shape)


def fit_probability_flow():
    tinycv.manual_seed(show.seed)
    model = FlowOfDiffusion()

    def in_units(y):
        """Dequantised images from 0 to 1 as rows of numbers from -1 to 1."""
        return 2 * y.reshape((len(y), PIXELS)) - 1

    def loss_of(counts):
        return diffusion_loss(
            model, in_units(dequantize(counts, LEVELS)), schedule=vp, predicts="v"
        )

    seconds = train("probability flow", model, loss_of, LEVELS, 2000, 2e-3)
    score = score_of(denoiser(model, vp, "v"), vp)
    times = FIRST + (1 - FIRST) * np.linspace(0, 1, show.choose(quick=3, full=26)) ** 2

    def log_density(y):
        x = in_units(y)
        found = log_likelihood(vp, score, x, times, along=tinycv.randn_like(x))
        return found + PIXELS * math.log(2)  # x = 2 y - 1

    def draw_images(n):
        x = vp.prior((n, PIXELS), to_device(np.zeros(1, np.float32), show.device))
        return level_images((to_numpy(solve(vp.flow(score), x, times[::-1])) + 1) / 2)

    nats = partial(from_density, log_density, levels=LEVELS, repeats=1)
    return Fitted(nats, draw_images, seconds, size_of(model))


# %% Latent diffusion: two stages, on the codes of the VAE above
def fit_latent(vae, of_vae, levels):
    tinycv.manual_seed(show.seed)
    network = ScoreMLP(LATENT, hidden=show.choose(quick=8, full=256), depth=3)
    model = LatentDiffusion(vae, network).to(show.device)
    continuous = levels == LEVELS

    def in_units(counts):
        return dequantize(counts, LEVELS) if continuous else counts.astype("float32")

    model.standardise(in_units(on_device(in_levels(images, levels))))

    def loss_of(counts):
        return model.loss(in_units(counts))

    seconds = train("latent diffusion", network, loss_of, levels, 4000, 2e-3)

    def log_density(x):
        likelihood, entropy, cross_entropy = bound_of(model, x, show.choose(quick=1, full=10))
        return likelihood + entropy - cross_entropy

    def nats(counts):
        if continuous:
            return from_density(log_density, counts, levels)
        return -log_density(in_units(on_device(counts)))

    def mean_images(n):
        images = model.sample(n)
        return level_images(images) if continuous else as_images(images)

    both = of_vae.seconds + seconds
    return Fitted(nats, mean_images, both, of_vae.parameters + size_of(network))


# %% Every family, with 17 levels and with 2
fitted, binary = {}, {}  # by family
for levels, found in ((LEVELS, fitted), (2, binary)):
    vae, found["VAE"] = fit_vae(levels)
    flow, found["flow"] = fit_flow(levels)
    autoregressive, found["autoregressive"] = fit_autoregressive(levels)
    diffusion, found["diffusion"] = fit_diffusion(levels)
    found["latent diffusion"] = fit_latent(vae, found["VAE"], levels)
    if levels == LEVELS:
        found["GAN"] = fit_gan()
        found["diffusion, probability flow"] = fit_probability_flow()
        flow_of_levels, diffusion_of_levels = flow, diffusion

order = *FIVE, "diffusion, probability flow", "latent diffusion"
fitted = {family: fitted[family] for family in order}

# %% Measure likelihoods: bits per dimension of 17 levels, nats of binarised images
KINDS = {
    "VAE": "bound (ELBO)",
    "flow": "exact density; a bound for levels",
    "autoregressive": "exact",
    "diffusion": "bound (DDPM)",
    "diffusion, probability flow": "density by an ODE, estimated; a bound for levels",
    "latent diffusion": "bound",
}
unseen, seen = in_levels(test_images, LEVELS), in_levels(images[:150], LEVELS)
bits = {}
for family, of_family in fitted.items():
    if of_family.nats is None:
        continue
    for name, counts in (("unseen", unseen), ("training", seen)):
        tinycv.manual_seed(show.seed)
        found = bits_per_dim(-of_family.nats(counts).mean(), PIXELS)
        show.measured(f"{family}: bits/dim of {name} digits, 17 levels", found, KINDS[family])
        if name == "unseen":
            bits[family] = found

unseen_binary = in_levels(test_images, 2)
seen_binary = in_levels(images[:150], 2)
for family, of_family in binary.items():
    for name, counts in (("unseen", unseen_binary), ("training", seen_binary)):
        tinycv.manual_seed(show.seed)
        found = of_family.nats(counts).mean()
        show.measured(f"{family}: nats of {name} digits, binarised", found, KINDS[family])

# %% Measure models without a network, beside them
tinycv.manual_seed(show.seed)
levels_of_all, continuous = in_levels(images, LEVELS), dequantize(in_levels(images, LEVELS), LEVELS)
exact_bits = {
    "independent pixels": IndependentPixels(levels_of_all, LEVELS).log_prob(unseen),
    "Chow-Liu tree": ChowLiuTree(levels_of_all, LEVELS).log_prob(unseen),
}
dequantised = dequantize(unseen, LEVELS)
densities = {
    "Gaussian": GaussianDensity(continuous),
    "probabilistic PCA, 30 directions": ProbabilisticPCA(continuous, 30),
}
for name, density in densities.items():
    exact_bits[name] = log_prob_of_levels(density.log_prob(dequantised), LEVELS, PIXELS)
for name, log_p in exact_bits.items():
    metric = f"{name}: bits/dim of unseen digits, 17 levels"
    show.measured(metric, bits_per_dim(log_p.mean(), PIXELS), "no network")
for name, model in {"independent pixels": IndependentPixels, "Chow-Liu tree": ChowLiuTree}.items():
    found = -model(in_levels(images, 2)).log_prob(unseen_binary).mean()
    show.measured(f"{name}: nats of unseen digits, binarised", found, "no network")


# %% Measure samples, with the features of a judge of digits
def sharpness(x):
    """The mean difference between neighbouring pixels."""
    return np.abs(np.diff(x, axis=2)).mean() + np.abs(np.diff(x, axis=3)).mean()


class Quality:
    """What is measured on samples (n, 1, 8, 8)."""

    def __init__(self, made):
        equal = made[: len(test_images)]
        of_real, of_made = judge.features(test_images), judge.features(equal)
        self.multiple = judge.frechet_multiple(made, images, test_images)
        self.precision, self.recall = precision_recall(of_real, of_made)
        self.sharpness = sharpness(made) / sharpness(test_images)


many = show.choose(quick=64, full=1000)
quality, seconds_to_sample, shown_digits = {}, {}, {}
for family, of_family in fitted.items():
    tinycv.manual_seed(show.seed)
    with Stopwatch(show.device) as watch:
        made = of_family.sample(many)
    found = quality[family] = Quality(made)
    seconds_to_sample[family] = watch.seconds
    shown_digits[family] = made[:12]
    show.measured(f"{family}: Frechet multiple", found.multiple, "1: real digits")
    show.measured(f"{family}: precision", found.precision)
    show.measured(f"{family}: recall", found.recall)
    show.measured(f"{family}: sharpness, divided by that of real digits", found.sharpness)
    show.measured(f"{family}: seconds of training", of_family.seconds)
    show.measured(f"{family}: seconds to sample 1,000 digits", watch.seconds * 1000 / many)
    show.measured(f"{family}: parameters", of_family.parameters)
real = Quality(images[np.random.default_rng(show.seed).permutation(len(images))])
show.measured("training digits: precision", real.precision)
show.measured("training digits: recall", real.recall)

# %% Measure: what the lecture says of each family
LECTURE = "the lecture, of"


def best_of_others(values, family, best):
    """The best value of the other four families."""
    return best(values[name] for name in FIVE if name != family and name in values)


multiples = {family: found.multiple for family, found in quality.items()}
recalls = {family: found.recall for family, found in quality.items()}
show.measured(
    f"{LECTURE} VAE, blurry: its sharpness, divided by that of real digits",
    quality["VAE"].sharpness,
    target="< 0.95",
)
x = dequantize(on_device(unseen), LEVELS)
with tinycv.no_grad():
    z, _ = flow_of_levels(x)
    round_trip = abs(flow_of_levels.inverse(z).numpy() - x.numpy()).max()
show.measured(
    f"{LECTURE} flow, exact: largest error of a pixel after the flow and its inverse",
    round_trip,
    target="<= 0.001",
)
show.measured(
    f"{LECTURE} flow, keeps the dimension: numbers in z, divided by those of the VAE's",
    z.size / len(z) / LATENT,
    target="> 1",
)
show.measured(
    f"{LECTURE} autoregressive, best likelihood: its bits/dim, minus the best of the others",
    bits["autoregressive"] - best_of_others(bits, "autoregressive", min),
    target="< 0",
)
show.measured(
    f"{LECTURE} autoregressive, slow: its seconds of sampling, divided by the VAE's",
    seconds_to_sample["autoregressive"] / seconds_to_sample["VAE"],
    target=">= 10",
)
show.measured(
    f"{LECTURE} GAN, sharp: its sharpness, divided by that of real digits",
    quality["GAN"].sharpness,
    target=">= 0.95",
)
show.measured(
    f"{LECTURE} GAN, drops modes: its recall, minus that of diffusion",
    recalls["GAN"] - recalls["diffusion"],
    target="< -0.05",
)
show.measured(
    f"{LECTURE} diffusion, quality: its Frechet multiple, divided by the best of the others",
    multiples["diffusion"] / best_of_others(multiples, "diffusion", min),
    target="<= 1",
)
show.measured(
    f"{LECTURE} diffusion, coverage: its recall, minus the best of the others",
    recalls["diffusion"] - best_of_others(recalls, "diffusion", max),
    target=">= 0",
)
show.measured(
    f"{LECTURE} diffusion, slow: its seconds of sampling, divided by the GAN's",
    seconds_to_sample["diffusion"] / seconds_to_sample["GAN"],
    target=">= 10",
)

# %% Measure: where a diffusion model spends its bits
TO_BITS = 1 / (PIXELS * math.log(2))
parts = {}  # of the bound, by variance
for variance in ("large", "small", "own"):
    tinycv.manual_seed(show.seed)
    parts[variance] = bound_on(diffusion_of_levels, unseen, variance)
    name = f"diffusion, {variance} variance, {STEPS} steps"
    found = TO_BITS * to_numpy(parts[variance].total).mean()
    show.measured(f"{name}: bits/dim of unseen digits", found)
    for term in ("prior", "decoder"):
        share = TO_BITS * to_numpy(getattr(parts[variance], term)).mean()
        show.measured(f"{name}: bits/dim in L_{'T' if term == 'prior' else '0'}", share)
schedule = in_steps(STEPS)
per_step = TO_BITS * to_numpy(parts["own"].steps).mean(axis=0)  # t = 2 ... T
ratio = np.array([schedule.noise(t) / schedule.signal(t) for t in range(2, STEPS + 1)])
total_of_steps = per_step.sum()
half = ratio[np.searchsorted(np.cumsum(per_step), total_of_steps / 2)]
below_one = per_step[ratio < 1].sum() / total_of_steps
show.measured("diffusion: noise / signal below which half of the bits of the steps lie", half)
show.measured("diffusion: share of the bits of the steps at noise below signal", below_one)
show.measured(
    "diffusion: share of the steps at noise below signal", (ratio < 1).mean(), "the same steps"
)

# %% Draw: samples of each family, and the bits of a diffusion model over the noise
figure = draw.figure(
    f"Five families on one set of digits: {bits['autoregressive']:.2f} bits per pixel for the\n"
    f"autoregressive model, at most {bits['diffusion']:.2f} for diffusion, of which "
    f"{below_one:.0%} at noise below signal",
    8.4,
    9.6,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.75, 1))
rows = {"real digits": test_images[:12], **shown_digits}
draw.image_rows(top.subplots(), {name.replace(", ", ",\n"): row for name, row in rows.items()})
left, right = bottom.subplots(1, 2, width_ratios=(1.2, 1))
decades = np.abs(np.gradient(np.log10(ratio)))  # of noise, from step to step
LABELS = {"large": r"variance $\beta$", "small": r"variance $\tilde\beta$", "own": "own variance"}
for (variance, found), colour in zip(
    parts.items(), (draw.RED, draw.ORANGE, draw.BLUE), strict=True
):
    of_steps = TO_BITS * to_numpy(found.steps).mean(axis=0)
    label = f"{LABELS[variance]}: {TO_BITS * to_numpy(found.total).mean():.2f} bits"
    left.plot(ratio, of_steps / decades, color=colour, label=label)
left.set(xlabel="noise / signal of x_t", ylabel="bits per pixel and decade of noise")
left.spines[["top", "right"]].set_visible(False)
left.set_xscale("log")
left.legend(frameon=False, fontsize=9)
left.set_title("Where the bits of diffusion go", fontsize=11)
names = [*bits, "Chow-Liu tree", "independent pixels"]
values = [*bits.values()]
values += [bits_per_dim(exact_bits[name].mean(), PIXELS) for name in names[len(bits) :]]
ranking = np.argsort(values)
colours = [draw.BLUE if names[i] in bits else draw.PALE for i in ranking]
right.barh(
    [names[i].replace(", ", ",\n") for i in ranking], [values[i] for i in ranking], color=colours
)
for place, i in enumerate(ranking):
    right.text(values[i], place, f" {values[i]:.2f}", va="center", fontsize=9)
right.invert_yaxis()
right.set(xlabel="bits per pixel of unseen digits", xlim=(0, 1.2 * max(values)))
right.spines[["top", "right"]].set_visible(False)
right.tick_params(labelsize=9)
show.finish(figure)
