"""20 · How probable is a digit under a variational autoencoder (VAE), and which latents collapse?
python demos/20_vae.py      4 min on one core

A VAE gives a lower bound on log p(x), the ELBO. The first case is one in which the best log p(x) is
known: the best linear VAE is probabilistic PCA, and the ELBO of the trained one approaches it from
below. The second case is binary MNIST digits. A VAE switches off many of its latents (posterior
collapse), and most of them if it has more layers. There are two cures: free bits, and training by
the bound of an importance weighted autoencoder (IWAE), which also makes test digits more probable.
log p(x) is estimated in four ways, from loose to tight: by the ELBO, by the bounds of 5 and of 500
samples, and by annealed importance sampling (AIS). The ELBO alone would rank the IWAE behind the
VAE; but the encoder of the IWAE was trained for five samples, not for one.
Read first: tinycv/likelihood/vae.py, ais.py, baselines.py.
Kingma & Welling 2014; Burda et al. 2016, table 1; Tipping & Bishop 1999; Wu et al. 2017.
"""

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DataLoader, mnist_5k, split_digits_8x8
from tinycv.likelihood.ais import ais_log_prob
from tinycv.likelihood.baselines import ProbabilisticPCA
from tinycv.likelihood.units import binarize
from tinycv.likelihood.vae import (
    VAE,
    active_units,
    bounds_of,
    codes_of,
    iwae_bound,
    linear_elbo,
    start_at_mean,
    vae_loss,
)
from tinycv.optim import Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("20_vae", __doc__)
RATE = 4e-3
EPOCHS = show.choose(quick=1, default=60)
SHORT = show.choose(quick=1, default=25)  # epochs of the two small models
HIDDEN = show.choose(quick=(8,), default=(200, 200))
DEEP = show.choose(quick=(8, 8), default=(200, 200, 200, 200))
LATENT = show.choose(quick=4, default=50)
BATCH = 100


# %% Training: the whole loop
def train(
    vae, images, loss_of, epochs, prepare=None, labels=None, rate=RATE, batch=BATCH, look=None
):
    """Minimise loss_of(vae, x), or loss_of(vae, x, labels). prepare: a function that is applied to
    each batch first. look: called with the number of steps, thirty times during training."""
    optimizer = Adam(vae.parameters(), lr=rate)
    arrays = (images,) if labels is None else (images, labels)
    loader = DataLoader(*arrays, batch_size=batch, drop_last=True, seed=show.seed)
    total = epochs * len(loader)
    schedule = warmup_cosine(total, warmup=total // 50)
    for step, (x, *y) in steps(loader, epochs, seed=show.seed, device=show.device):
        x = x if prepare is None else prepare(x)
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = loss_of(vae, x, *y)
        loss.backward()
        optimizer.step()
        if look is not None and (step + 1) % max(1, total // 30) == 0:
            look(step + 1)
        if (step + 1) % max(1, total // 4) == 0:
            say(f"step {step + 1}/{total}  loss {read_loss(loss, step):.5g}")
    return vae


# %% The losses: minus the ELBO; the same with 0.1 nats of KL per latent for free; minus the bound
# of an IWAE with five samples of the code
def plain(vae, x, *labels):
    return vae_loss(vae, x, *labels)


def free_bits(vae, x):
    return vae_loss(vae, x, free_bits=0.1)


def iwae_5(vae, x):
    return -iwae_bound(vae, x, 5).mean()


# %% A case with a known answer: the best linear VAE is probabilistic PCA, whose log p(x) has a
# closed form
AXES = 8
digits, _, _, _ = split_digits_8x8()
digits = digits.reshape(len(digits), 64)[: show.choose(quick=200, default=1500)]
# Pixels are k / 16. Uniform noise that fills the gap to the next level makes them continuous.
noise = np.random.default_rng(0).random(digits.shape, np.float32)
digits = digits + noise / 16  # (N, 64)
pca = ProbabilisticPCA(digits, AXES)
floor = pca.log_prob(digits).mean()

tinycv.manual_seed(show.seed)
linear = VAE(64, AXES, hidden=(), decoder="gaussian").to(show.device)
start_at_mean(linear, digits)
gap_at = {}  # by step: log p(x) of PCA minus the exact ELBO of the linear VAE, in nats


def look_at_linear(step):
    with tinycv.no_grad():
        exact = linear_elbo(linear, Tensor(digits, device=show.device)).numpy()
    gap_at[step] = floor - exact.astype(np.float64).mean()


train(
    linear,
    digits,
    plain,
    show.choose(quick=1, default=1200),
    rate=0.03,
    batch=show.choose(quick=100, default=250),
    look=look_at_linear,
)
gap = list(gap_at.values())[-1]
learned_axes = np.linalg.qr(linear.decoder[0].weight.numpy().astype(np.float64))[0]
cosines = np.linalg.svd(learned_axes.T @ pca.axes[:, :AXES], compute_uv=False)
show.measured(
    "linear VAE on 8 x 8 digits: exact ELBO, nats (a density of pixels from 0 to 17/16)",
    floor - gap,
    f"probabilistic PCA, closed form: {floor:.4f}",
    "within 0.01 below, never above",
)
show.measured("log p(x) of probabilistic PCA minus this ELBO, nats", gap, "", "0 to 0.01")
show.measured(
    "least gap of the linear VAE to PCA during training, nats", min(gap_at.values()), "", ">= 0"
)
show.measured(
    "linear VAE: smallest cosine between its subspace and that of PCA",
    cosines.min(),
    "1",
    ">= 0.999",
)

# %% Data: MNIST digits as zeros and ones, drawn again in every step (dynamic binarisation)
x, y, test, test_y = mnist_5k()
x = x.reshape(len(x), 784)[: show.choose(quick=200, default=4000)]
y = y[: len(x)]
rng = np.random.default_rng(0)
test = test.reshape(len(test), 784)[: show.choose(quick=20, default=1000)]
test_y = test_y[: len(test)]
# All models are measured on the same draw, so that their figures can be compared.
test_binary = (rng.random(test.shape) < test).astype(np.float32)
train_binary = (rng.random(x.shape) < x).astype(np.float32)
few = show.choose(quick=5, default=200)  # images for the bounds that cost more


def new_vae(latent=LATENT, classes=0, hidden=HIDDEN):
    """An untrained VAE, whose decoder starts near the mean digit."""
    tinycv.manual_seed(show.seed)
    vae = VAE(784, latent, hidden, classes=classes)
    start_at_mean(vae, x)
    return vae.to(show.device)


# %% A VAE with four hidden layers on each side, one with two, and two that train with a cure
models = {
    "deep VAE": train(new_vae(hidden=DEEP), x, plain, EPOCHS, binarize),
    "VAE": train(new_vae(), x, plain, EPOCHS, binarize),
    "free bits": train(new_vae(), x, free_bits, EPOCHS, binarize),
    "IWAE-5": train(new_vae(), x, iwae_5, EPOCHS, binarize),
}

# %% Measure: four estimates of log p(x), from loose to tight, and how many latents are in use
SAMPLES = show.choose(quick=6, default=500)
BEST = f"L_{SAMPLES}"
PUBLISHED = {"VAE": "86.76, 19 active units", "IWAE-5": "85.54, 22 active units"}
estimates = {}  # by model: the mean log p(x) of `few` test digits, by each method
active = {}
for name, vae in models.items():
    estimates[name] = {
        "ELBO": bounds_of(vae, test_binary[:few], 1).mean(),
        "L_5": bounds_of(vae, test_binary[:few], 5).mean(),
        BEST: bounds_of(vae, test_binary[:few], SAMPLES).mean(),
    }
    active[name] = active_units(vae, test_binary)
for name in ("VAE", "IWAE-5"):
    annealed = ais_log_prob(
        models[name], test_binary[:few], chains=4, steps=show.choose(quick=2, default=60)
    )
    estimates[name]["AIS"] = annealed.mean()
for name, vae in models.items():
    published = ""
    if name in PUBLISHED:
        published = f"60k training digits, 3,280 epochs: {PUBLISHED[name]} (Burda et al. 2016)"
    show.measured(
        f"{name}, 5k set: -log p(x) of {few} test digits, nats, by {', '.join(estimates[name])}",
        [-value for value in estimates[name].values()],
        published,
    )
    in_order = list(estimates[name].values())
    show.measured(
        f"{name}: smallest gain in nats from one estimate of log p(x) to the next",
        np.diff(in_order).min(),
        target=">= 0",
    )
    show.measured(f"{name}: active units of {LATENT}", active[name])
    on_training = bounds_of(vae, train_binary[:few], SAMPLES).mean()
    show.measured(
        f"{name}: nats by which training digits are more probable than test digits ({BEST})",
        on_training - estimates[name][BEST],
    )


def gain(name, other):
    """By how many nats test digits are more probable under one model than under another."""
    return estimates[name][BEST] - estimates[other][BEST]


show.measured(
    f"IWAE-5 over the VAE: nats ({BEST})",
    gain("IWAE-5", "VAE"),
    "60k training digits: 1.22 (Burda et al. 2016, table 1)",
    ">= 2",
)

# %% Two latents, which can be drawn, and a VAE that is given the class of the digit
plane = train(new_vae(latent=2), x, plain, SHORT, binarize)
codes = codes_of(plane, test_binary)  # (N, 2)
conditional = train(new_vae(10, classes=10), x, plain, SHORT, binarize, labels=y)
show.measured(
    "VAE with 2 latents: minus the ELBO of all test digits, nats",
    -bounds_of(plane, test_binary).mean(),
)


# %% What the IWAE draws: reconstructions, samples, and interpolation from one digit to another
def pictures(vae, z, labels=None):
    """Mean images of codes (N, latent): (N, 1, 28, 28)."""
    with tinycv.no_grad():
        z = Tensor(z.astype(np.float32), device=show.device)
        return vae.pixels(z, labels).numpy().reshape(-1, 1, 28, 28)


best = models["IWAE-5"]
ten = np.array([np.flatnonzero(test_y == label)[0] for label in np.unique(test_y)])
found = codes_of(best, test_binary[ten])
share = np.linspace(0, 1, len(ten))[:, None]
rows = {
    "test digit": test_binary[ten].reshape(-1, 1, 28, 28),
    "decoded": pictures(best, found),
    "samples": pictures(best, rng.standard_normal((len(ten), LATENT))),
    "from 0 to 1": pictures(best, (1 - share) * found[0] + share * found[1]),
}
labels = np.arange(10)
for i in range(2):
    same_code = np.repeat(rng.standard_normal((1, 10)), 10, axis=0)
    by_class = pictures(conditional, same_code, labels)
    rows[f"one code,\nclasses 0-9 ({i + 1})"] = by_class[: len(ten)]

# %% Draw the figure: what the IWAE draws; the estimates and the collapse; the plane of two latents
figure = draw.figure(
    f"Posterior collapse: a VAE uses {active['VAE']} of its {LATENT} latents, a deeper one "
    f"{active['deep VAE']}.\n"
    f"Trained by the bound of the IWAE it uses {active['IWAE-5']}, and test digits become\n"
    f"{gain('IWAE-5', 'VAE'):.1f} nats more probable "
    f"({len(x):,} training digits; with 60,000: 1.2)",
    8.4,
    12,
)
upper, middle, lower = figure.subfigures(3, 1, height_ratios=(3.3, 2, 3))
draws = upper.subplots()
draw.image_rows(draws, rows)
draws.set_title("IWAE: decoded, sampled, interpolated; below, a conditional VAE", fontsize=11)

bounds_axes, collapse_axes, linear_axes = middle.subplots(1, 3)
with_ais = ("VAE", "IWAE-5")
methods = list(estimates["VAE"])
places = list(range(len(methods)))
nats = {name: (places, [-value for value in estimates[name].values()]) for name in with_ais}
draw.curves(bounds_axes, nats, "", "-log p(x), nats")
bounds_axes.set_xticks(places, methods)
bounds_axes.set_title("Each bound is tighter", fontsize=11)

colours = [draw.RED, draw.RED, draw.BLUE, draw.BLUE]
bars = collapse_axes.barh(list(active), list(active.values()), color=colours)
collapse_axes.bar_label(bars, [f"{-estimates[name][BEST]:.0f} nats" for name in active], fontsize=9)
collapse_axes.set(xlabel=f"active units of {LATENT}", xlim=(0, 1.5 * max(*active.values(), 1)))
collapse_axes.invert_yaxis()
collapse_axes.set_title("Collapse and two cures", fontsize=11)

draw.curves(
    linear_axes,
    {"gap": (list(gap_at), list(gap_at.values()))},
    "step",
    "nats below log p(x) of PCA",
    log=True,
)
linear_axes.axhline(0.01, color=draw.INK, linestyle="--", linewidth=1.2)
linear_axes.set_title("Linear VAE becomes PCA", fontsize=11)

codes_axes, plane_axes = lower.subplots(1, 2)
for label in range(10):
    of_label = codes[test_y == label]
    codes_axes.scatter(*of_label.T, s=3, color=draw.PALE)
    if len(of_label):
        codes_axes.text(*np.median(of_label, axis=0), str(label), fontsize=12, ha="center")
codes_axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xlabel="first latent", ylabel="second latent")
codes_axes.set_title("VAE with 2 latents: codes of test digits", fontsize=11)
SIDE = show.choose(quick=2, default=12)
line = np.linspace(-2.5, 2.5, SIDE)
grid = np.stack(np.meshgrid(line, line[::-1]), axis=-1).reshape(-1, 2)  # left to right, top down
draw.tiles(plane_axes, pictures(plane, grid), SIDE)
plane_axes.set_title("What it decodes from -2.5 to 2.5", fontsize=11)
show.finish(figure)
