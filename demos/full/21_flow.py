"""21, the whole protocol: three seeds, SurVAE's protocol in the plane, and Glow on the digits.

The demo is run from each seed. Then RealNVP is trained as in the code of SurVAE (Nielsen et al.
2020): 128,000 fixed points, 10 epochs in batches of 128, Adam with a constant rate of 1e-3. Last,
Glow learns the digits by the demo's training loop.
python demos/21_flow.py --full
"""

import numpy as np

import tinycv
from tinycv.data import DataLoader, checkerboard, corners, eight_gaussians, entropy
from tinycv.likelihood.flow import RealNVP
from tinycv.likelihood.glow import Glow
from tinycv.optim import Adam
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps

show = Demo("21_flow", __doc__, full=True)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))

# %% SurVAE's protocol: four couplings, and no schedule
TRIALS = {
    "checkerboard": (checkerboard(), 3.660),
    "eight Gaussians": (eight_gaussians(), 3.035),
    "corners": (corners(), 3.209),
}
number_of_points = show.choose(quick=512, full=128_000)
epochs = show.choose(quick=1, full=10)
many = show.choose(quick=50, full=50_000)
rng = np.random.default_rng(2000 + show.seed)


def learned_by_protocol(density):
    tinycv.manual_seed(show.seed)
    model = RealNVP(2, couplings=4, hidden=(200, 100)).to(show.device)
    optimizer = Adam(model.parameters(), lr=1e-3)
    points = density.sample(number_of_points, rng)
    loader = DataLoader(points, batch_size=128, seed=show.seed)
    for step, (x,) in steps(loader, epochs, seed=show.seed, device=show.device):
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        optimizer.step()
        if (step + 1) % len(loader) == 0:
            say(f"step {step + 1}  loss {read_loss(loss, step):.4g}")
    return model


floors = {}
reached = {}
for name, (density, trial) in TRIALS.items():
    model = learned_by_protocol(density)
    x = density.sample(many, rng)
    with tinycv.no_grad():
        log_p = model.log_prob(tinycv.Tensor(x, device=show.device)).numpy()
    gap = density.log_density(x.astype(float)) - log_p
    floors[name] = entropy(density, 5, show.choose(quick=50, full=1000))
    reached[name] = floors[name] + gap.mean()
    show.measured(
        f"{name}, SurVAE's protocol: negative log-likelihood, nats",
        reached[name],
        f"the floor is {floors[name]:.3f}; a trial reached {trial}",
        f"{floors[name] - 0.02:.3f} to {trial + 0.03:.3f}",
    )

# %% Glow on the digits, with the training of the demo
run = runs[0]
tinycv.manual_seed(show.seed)
glow = Glow(1, 8, levels=2, steps=show.choose(quick=1, full=4), hidden=run.hidden).to(show.device)
loader = DataLoader(run.counts, batch_size=run.BATCH, seed=show.seed, drop_last=True)
run.train(glow, loader, run.image_loss, run.IMAGE_RATE, run.epochs)


def glow_log_p(x):
    with tinycv.no_grad():
        return glow.log_prob(tinycv.Tensor(x, device=show.device)).numpy()


bits_of_glow = run.bits(glow_log_p, run.counts), run.bits(glow_log_p, run.test_counts)
PUBLISHED = (
    "not comparable, MNIST 28 x 28: RealNVP 1.06, Glow 1.05, MAF 1.89, FFJORD 0.99, Residual 0.97 "
    "(Kobyzev et al., table 5)"
)
show.measured("digits, Glow: bits per dimension, training images", bits_of_glow[0])
show.measured("digits, Glow: bits per dimension, test images", bits_of_glow[1], PUBLISHED)

# %% Draw: the excess by seed, the protocol, and the digits
worst = max(excess.mean for run in runs for excess in run.flow_excess.values())
figure = draw.figure(
    f"RealNVP: at most {worst:.2f} nats above the entropy of known densities in {len(runs)} runs;\n"
    f"digits: Glow takes {bits_of_glow[1]:.2f} bits per dimension on test images",
    11,
    4.4,
)
by_seed, by_protocol, by_model = figure.subplots(1, 3)
names = list(run.DATA)
for colour, label, kind in (
    (draw.BLUE, "RealNVP", "flow_excess"),
    (draw.ORANGE, "flow matching", "matched_excess"),
):
    for i, one in enumerate(runs):
        values = [getattr(one, kind)[name].mean for name in names]
        by_seed.plot(
            values, range(len(names)), "o", color=colour, alpha=0.7, label=label if i == 0 else None
        )
by_seed.set(yticks=range(len(names)), yticklabels=names, xlabel="nats above the floor")
by_seed.set_xlim(left=0)
by_seed.legend(frameon=False)
by_seed.set_title("One point per seed", fontsize=11)

places = np.arange(len(TRIALS))
by_protocol.barh(places, [reached[name] - floors[name] for name in TRIALS], color=draw.BLUE)
for i, (name, (_, trial)) in enumerate(TRIALS.items()):
    by_protocol.plot([trial - floors[name]] * 2, [i - 0.4, i + 0.4], "--", color=draw.INK)
by_protocol.set(yticks=places, yticklabels=list(TRIALS), xlabel="nats above the floor")
by_protocol.set_title("SurVAE's protocol (dashed: a trial)", fontsize=11)

found = {**run.found, "Glow": bits_of_glow}
for i, name in enumerate(found):
    for shift, value, colour in zip((-0.2, 0.2), found[name], (draw.SKY, draw.BLUE), strict=True):
        by_model.barh(i + shift, value, 0.38, color=colour)
        by_model.text(value + 0.05, i + shift, f"{value:.2f}", va="center", fontsize=10)
by_model.set(yticks=range(len(found)), yticklabels=list(found), xlabel="bits per dimension")
by_model.set_xlim(0, 1.2 * max(value for pair in found.values() for value in pair))
by_model.set_title("digits; light: training, dark: test", fontsize=11)
show.finish(figure)
