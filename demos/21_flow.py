"""21 · Normalizing flows: how probable is a point, exactly?
python demos/21_flow.py      4 min on one core

A normalizing flow is an invertible network that turns data into noise. Each layer says by how much
it stretches space, so the flow gives the exact log p of every point, and its inverse turns noise
into samples. RealNVP learns four known densities in the plane, so its mean -log p can be compared
with their entropy, which no model can beat (the floor). Beside it is flow matching: a network of
the same size, from twice as many points, learns a velocity without invertible layers. Then RealNVP
learns images of digits, and its bits per dimension are compared with those of a Gaussian.
Read first: tinycv/likelihood/flow.py, tinycv/diffusion/flow_matching.py.
Dinh et al. 2017 (RealNVP); Kingma & Dhariwal 2018 (Glow); Lipman et al. 2023 (flow matching).
"""

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import (
    DataLoader,
    DrawnLoader,
    checkerboard,
    eight_gaussians,
    entropy,
    rings,
    split_digits_8x8,
    two_moons,
)
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.flow_matching import flow_matching_loss, velocity
from tinycv.diffusion.ode import flow_log_likelihood
from tinycv.engine.backend import to_device, to_numpy
from tinycv.likelihood.baselines import GaussianDensity, ProbabilisticPCA
from tinycv.likelihood.flow import ImageRealNVP, RealNVP
from tinycv.likelihood.units import bits_per_dim, dequantize, log_prob_of_levels, quantize
from tinycv.optim import EMA, Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("21_flow", __doc__)
rng = np.random.default_rng(1000 + show.seed)

# %% Data: four known densities in the plane
DATA = {
    "eight Gaussians": eight_gaussians(),
    "two moons": two_moons(0.15, 60),
    "rings": rings(),
    "checkerboard": checkerboard(),
}


# %% Training: the whole loop, for all models of this page
def train(model, loader, loss_of, rate, epochs=1):
    """Train by Adam with warm-up and a cosine schedule. The model ends with its average (EMA)."""
    optimizer = Adam(model.parameters(), lr=rate)
    total = epochs * len(loader)
    schedule = warmup_cosine(total, warmup=total // 20)
    ema = EMA(model, decay=0.99)
    for step, (x,) in steps(loader, epochs, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        loss = loss_of(model, x)
        loss.backward()
        optimizer.step()
        ema.update()
        if (step + 1) % max(1, total // 4) == 0:
            say(f"step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
    model.load_state_dict(ema.state_dict())
    return model.eval()


def negative_log_likelihood(model, x):
    """The loss of a flow: the mean of -log p(x), exact, in nats."""
    return -model.log_prob(x).mean()


# %% RealNVP: four affine couplings. Flow matching: one network with as many parameters. Fourier
# features of the coordinates (place_features) let it learn sharp edges
total = show.choose(quick=4, default=3000)


def learn(density, model, loss_of, batch_size, rate):
    def points(n, rng):
        return (density.sample(n, rng),)

    return train(model, DrawnLoader(points, batch_size, total, show.seed), loss_of, rate)


flows = {}
velocities = {}
for name, density in DATA.items():
    tinycv.manual_seed(show.seed)
    flow = RealNVP(2, couplings=4, hidden=(200, 100)).to(show.device)
    network = ScoreMLP(2, hidden=196, place_features=8, fastest=8.0).to(show.device)
    flows[name] = learn(density, flow, negative_log_likelihood, 128, 2e-3)
    velocities[name] = velocity(learn(density, network, flow_matching_loss, 256, 5e-3))
show.measured("parameters of RealNVP in the plane", flow.num_parameters())
show.measured("parameters of the velocity", network.num_parameters())


# %% log p of points (N, 2): RealNVP in one pass, flow matching by solving an ODE from data to noise
def flow_log_p(name, x):
    with tinycv.no_grad():
        return to_numpy(flows[name].log_prob(Tensor(to_device(x, show.device))))


ode_times = np.linspace(0, 1, show.choose(quick=3, default=13))


def matched_log_p(name, x):
    x = to_device(x, show.device)
    return to_numpy(flow_log_likelihood(velocities[name], x, ode_times))


# %% Measure: the floor, the excess over it (the KL divergence), and whether p integrates to 1
many = show.choose(quick=20, default=20_000)
few = show.choose(quick=8, default=2000)  # for the ODE, which takes longer
REACH = 8.0
side = show.choose(quick=8, default=400)
plane = draw.plane(REACH, side)
TRIALS = {"eight Gaussians": 0.203, "checkerboard": 0.194}  # in 10,000 steps, at a constant rate


@dataclass
class Excess:
    mean: float  # nats above the floor: KL(truth || model)
    error: float  # its standard error


def excess_of(log_p_of, name, n):
    x = DATA[name].sample(n, rng)
    gap = DATA[name].log_density(x.astype(float)) - log_p_of(name, x)
    return Excess(gap.mean(), gap.std() / n**0.5)


flow_excess = {}
matched_excess = {}
integral = {}
for name, density in DATA.items():
    floor = entropy(density, 5, show.choose(quick=50, default=1000))
    flow_excess[name] = excess_of(flow_log_p, name, many)
    matched_excess[name] = excess_of(matched_log_p, name, few)
    cell = (2 * REACH / (side - 1)) ** 2
    integral[name] = np.exp(flow_log_p(name, plane)).sum() * cell
    show.measured(f"{name}: entropy, nats", floor, "the floor of every model")
    show.measured(
        f"{name}, RealNVP: negative log-likelihood, nats",
        floor + flow_excess[name].mean,
        f"standard error {flow_excess[name].error:.4f}",
        f">= {floor - 3 * flow_excess[name].error:.4f}",
    )
    trial = TRIALS.get(name)
    show.measured(
        f"{name}, RealNVP: nats above the floor",
        flow_excess[name].mean,
        f"a trial with 10,000 steps: {trial}" if trial else "",
        f"-0.02 to {trial + 0.03:.3f}" if trial else ">= -0.02",
    )
    show.measured(
        f"{name}, flow matching: nats above the floor",
        matched_excess[name].mean,
        f"standard error {matched_excess[name].error:.4f}",
        ">= -0.02",
    )
    show.measured(
        f"{name}, RealNVP: integral of p over the plane", integral[name], target="1 +- 0.005"
    )

# %% Measure: the inverse in float64, for points of the data that go to z and back to x
worst = 0.0
for name, density in DATA.items():
    exact = copy.deepcopy(flows[name]).to("float64")
    x = to_device(density.sample(few, rng).astype(float), show.device)
    with tinycv.no_grad():
        z, _ = exact(x)
        worst = max(worst, np.abs(exact.inverse(z).numpy() - to_numpy(x)).max())
show.measured("largest error of the inverse, float64", worst, target="< 1e-10")

# %% Images: 8 x 8 digits, 17 levels. Uniform noise turns levels into numbers in [0, 1)
LEVELS = 17
DIMS = 64
x_train, _, x_test, _ = split_digits_8x8()
if show.quick:
    x_train, x_test = x_train[:60], x_test[:10]
counts = quantize(x_train, LEVELS)  # (N, 1, 8, 8), whole numbers 0 ... 16
test_counts = quantize(x_test, LEVELS)


def image_loss(model, counts):
    """The noise is drawn again for each batch."""
    return negative_log_likelihood(model, dequantize(counts, LEVELS))


# The number of steps was chosen on the last 200 training images, with the flow trained on the
# other 1,300. After 2,000 steps the training images still become more probable, but the held-out
# images hardly do.
BATCH = 60
IMAGE_RATE = 1e-3
epochs = show.choose(quick=1, default=80)
hidden = show.choose(quick=2, default=32)
tinycv.manual_seed(show.seed)
image_flow = ImageRealNVP(1, 8, scales=2, hidden=hidden).to(show.device)
loader = DataLoader(counts, batch_size=BATCH, seed=show.seed, drop_last=True)
train(image_flow, loader, image_loss, IMAGE_RATE, epochs)


# %% Measure: an upper bound on the bits per dimension of levels, by a few draws of the noise
def bits(log_p_of, counts):
    """The mean bits per dimension of images of levels. log_p_of: from (N, 1, 8, 8) to (N,)."""
    draws = [log_p_of(dequantize(counts, LEVELS)) for _ in range(show.choose(quick=1, default=5))]
    return bits_per_dim(log_prob_of_levels(np.mean(draws, axis=0), LEVELS, DIMS), DIMS).mean()


def image_log_p(x):
    with tinycv.no_grad():
        return to_numpy(image_flow.log_prob(Tensor(to_device(x, show.device))))


noised = np.concatenate([dequantize(counts, LEVELS) for _ in range(5)]).reshape(-1, DIMS)
gaussian = GaussianDensity(noised)
pca = ProbabilisticPCA(noised, q=min(30, len(counts) - 2))


def gaussian_log_p(x):
    return gaussian.log_prob(x.reshape(-1, DIMS))


def pca_log_p(x):
    return pca.log_prob(x.reshape(-1, DIMS))


found = {}  # (train, test) bits per dimension
models = {
    "pPCA, 30 factors": pca_log_p,
    "Gaussian": gaussian_log_p,
    "RealNVP": image_log_p,
}
for name, log_p_of in models.items():
    found[name] = (bits(log_p_of, counts), bits(log_p_of, test_counts))
    show.measured(f"digits, {name}: bits per dimension, training images", found[name][0])
    target = f"< {found['Gaussian'][1]:.3f}" if name == "RealNVP" else ""
    show.measured(f"digits, {name}: bits per dimension, test images", found[name][1], "", target)
gap = found["RealNVP"][1] - found["RealNVP"][0]
show.measured("digits, RealNVP: test minus training, bits per dimension", gap)

drawn = np.clip(image_flow.sample(40).numpy(), 0, 1)
samples = quantize(drawn, LEVELS) / (LEVELS - 1)

# %% Draw: the densities
farthest = max(excess.mean for excess in flow_excess.values())
matched_farthest = max(excess.mean for excess in matched_excess.values())
figure = draw.figure(
    f"RealNVP has exact likelihoods: at most {farthest:.2f} nats above the entropy (flow matching: "
    f"{matched_farthest:.2f}).\nDigits cost {found['RealNVP'][1]:.2f} bits per dimension, under a "
    f"Gaussian {found['Gaussian'][1]:.2f}",
    9.2,
    12.2,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(3.2, 1.05, 1.25))
VIEWS = {"two moons": 2.6}  # half the width of a panel; 4.6 for the others
sides = show.choose(quick=(6, 6), default=(160, 70))  # points per side: RealNVP, flow matching
rows = top.subplots(3, 4)
for column, name in enumerate(DATA):
    true_axes, flow_axes, matched_axes = rows[:, column]
    view = VIEWS.get(name, 4.6)
    draw.density(true_axes, DATA[name].log_density, view)
    draw.density(flow_axes, partial(flow_log_p, name), view, side=sides[0])
    draw.density(matched_axes, partial(matched_log_p, name), view, side=sides[1])
    true_axes.set_title(name, fontsize=12)
    flow_axes.set_xlabel(f"{flow_excess[name].mean:.3f} nats above the floor", fontsize=11)
    matched_axes.set_xlabel(f"{matched_excess[name].mean:.3f} nats above the floor", fontsize=11)
for ax, title in zip(rows[:, 0], ("true log p", "RealNVP", "flow matching"), strict=True):
    ax.set_ylabel(title, fontsize=12)


# %% Draw: how the couplings bend the plane, from the noise to the data
BENT = "two moons"


def stages(z):
    """z, and where the inverse of each coupling takes it, the last coupling first."""
    found = [z]
    with tinycv.no_grad():
        for layer in reversed(flows[BENT].layers):
            found.append(layer.inverse(found[-1]))
    return [x.numpy() for x in found]


ticks = np.linspace(-2.4, 2.4, 17)
along = np.linspace(-2.4, 2.4, 121)
horizontal = np.stack(np.meshgrid(along, ticks), axis=-1)  # (lines, points, 2)
lines = np.concatenate([horizontal, horizontal[..., ::-1]]).astype(np.float32)
path = stages(Tensor(to_device(lines.reshape(-1, 2), show.device)))
colours = [draw.SKY] * len(ticks) + [draw.RED] * len(ticks)


def draw_lines(ax, x, width=0.7):
    for line, colour in zip(x.reshape(lines.shape), colours, strict=True):
        ax.plot(line[:, 0], line[:, 1], color=colour, linewidth=width)
    ax.set(xlim=(-3.2, 3.2), ylim=(-2.6, 2.6), xticks=[], yticks=[])
    ax.set_aspect("equal")


for i, (ax, x) in enumerate(zip(middle.subplots(1, len(path)), path, strict=True)):
    draw_lines(ax, x)
    captions = {0: "noise z", len(path) - 1: "two moons"}
    ax.set_title(captions.get(i, f"coupling {len(path) - i} undone"), fontsize=11)

# %% Draw: digits, real and drawn, and the bits per dimension
sample_axes, bit_axes = bottom.subplots(1, 2, width_ratios=(1.5, 1))
draw.image_rows(
    sample_axes,
    {
        "real": x_test[:10],
        "RealNVP (1)": samples[:10],
        "RealNVP (2)": samples[10:20],
        "RealNVP (3)": samples[20:30],
    },
)
for i, name in enumerate(found):
    for shift, value, colour in zip((-0.2, 0.2), found[name], (draw.SKY, draw.BLUE), strict=True):
        bit_axes.barh(i + shift, value, 0.38, color=colour)
        bit_axes.text(value + 0.05, i + shift, f"{value:.2f}", va="center", fontsize=10)
bit_axes.set(yticks=range(len(found)), yticklabels=list(found), xlabel="bits per dimension")
bit_axes.set_xlim(0, 1.2 * max(value for pair in found.values() for value in pair))
bit_axes.set_title("light: training, dark: test", fontsize=11)
show.finish(figure)

# %% Draw: the same lines in motion. A coupling moves each point along one axis
frames_per_coupling = show.choose(quick=1, default=8)


def frames(moving):
    ax = moving.subplots()
    for i, (before, after) in enumerate(zip(path, path[1:], strict=False)):
        for part in np.arange(frames_per_coupling) / frames_per_coupling:
            ax.clear()
            draw_lines(ax, before + part * (after - before), 1.0)
            moving.suptitle(f"RealNVP, from noise to moons: coupling {4 - i}", fontsize=11)
            yield moving
    ax.clear()
    draw_lines(ax, path[-1], 1.0)
    moving.suptitle("RealNVP, from noise to moons", fontsize=11)
    yield moving


moving = draw.figure("", 3.8, 3.4)
path_of_gif = save_gif(frames(moving), show.out / "21_flow.gif", 0.1, colours=32)
print(f"  moving picture: {path_of_gif}")
