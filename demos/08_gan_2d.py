"""08 · What is GAN mode collapse, and what prevents it?
python demos/08_gan_2d.py      4 min on one core

A generator should fill 25 small Gaussians, the modes. The plain GAN leaves some of them out and
fills the others unevenly; the R1 penalty on the discriminator's gradient lets it find them all. The
picture shows both games over time, on top of what their discriminators believe, and in one
dimension the equilibrium that theory predicts, where the discriminator answers 1/2 everywhere.
--full fills table 1 of PacGAN, and continues where it was stopped: with PacGAN's own networks and
1.5 % of the paper's steps, Pac4 on the grid reaches a share of 0.019 within 3 sigma (paper: 0.936).
Read first: tinycv/adversarial/gan.py, adversarial/turns.py.
Goodfellow et al. 2014; Lin et al. 2018 (PacGAN); Mescheder et al. 2018 (R1).
"""

from dataclasses import dataclass

import numpy as np

import tinycv
from tinycv import nn
from tinycv.adversarial.gan import R1, non_saturating, tell_apart
from tinycv.adversarial.networks import PointMLP
from tinycv.data import DrawnLoader
from tinycv.data.shapes import grid
from tinycv.optim import Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import Modes, modes_covered
from tinycv.show.motion import save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("08_gan_2d", __doc__)
LOOKS = show.choose(quick=3, default=20)
STEPS = show.choose(quick=10, default=400)  # between two looks

# %% Data: 25 Gaussians on a grid, with a new batch at every step; and fixed noise and places at
# which both networks are inspected
density = grid()
loader = DrawnLoader(lambda n, rng: (density.sample(n, rng),), 256, STEPS, show.seed)

noise = np.random.default_rng(show.seed).standard_normal((2500, 2)).astype(np.float32)
noise = tinycv.Tensor(noise, device=show.device)

axis = np.linspace(-5, 5, 60, dtype=np.float32)
places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
places = tinycv.Tensor(places, device=show.device)


# %% Training: the whole loop. A noise vector has two numbers, like a point
def play(generator, discriminator, loader, epochs, g_rate, d_rate, betas, penalty=None, look=None):
    """Both networks learn in turns. look(step) is called after every epoch."""
    g_optimizer = Adam(generator.parameters(), lr=g_rate, betas=betas)
    d_optimizer = Adam(discriminator.parameters(), lr=d_rate, betas=betas)
    schedule = warmup_cosine(epochs * len(loader))
    for step, (real,) in steps(loader, epochs, seed=show.seed, device=show.device):
        g_optimizer.param_groups[0]["lr"] = g_rate * schedule(step)
        d_optimizer.param_groups[0]["lr"] = d_rate * schedule(step)
        fake = generator(tinycv.randn_like(real))

        # The discriminator's turn. The fakes are detached: its loss must not change the generator,
        # and no gradient is computed for the generator's weights.
        d_loss = tell_apart(discriminator(real), discriminator(fake.detach()))
        if penalty is not None:
            d_loss = d_loss + penalty(discriminator, real, fake.detach())
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # The generator's turn, against the discriminator that has just learned. Its gradient flows
        # through the discriminator into the fakes.
        g_loss = non_saturating(discriminator(fake))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()

        if (step + 1) % len(loader) == 0:
            losses = f"D {read_loss(d_loss, step):.3g}, G {read_loss(g_loss, step):.3g}"
            say(f"step {step + 1}: losses {losses}")
            if look is not None:
                look(step + 1)


# %% Two games on the grid: the plain GAN, and the GAN with an R1 penalty
@dataclass
class Scene:
    step: int
    points: np.ndarray  # (2500, 2): made of the same noise every time
    belief: np.ndarray  # (60, 60): the probability "real" that the discriminator gives
    modes: Modes


def watched(penalty):
    """Train two small networks from scratch. Returns a Scene for every 400 steps."""
    tinycv.manual_seed(show.seed)
    generator = PointMLP(2, 2).to(show.device)
    discriminator = PointMLP(2, 1, slope=0.2).to(show.device)
    scenes = []

    def look(step):
        with tinycv.no_grad():
            points = generator(noise).numpy()
            belief = tinycv.sigmoid(discriminator(places)).numpy().reshape(60, 60)
        modes = modes_covered(points, density.means, density.sigma)
        scenes.append(Scene(step, points, belief, modes))
        say(f"    {modes.covered} of 25 modes, reverse KL {modes.reverse_kl:.3g}")

    play(
        generator,
        discriminator,
        loader,
        LOOKS,
        g_rate=2e-3,
        d_rate=2e-3,
        betas=(0.0, 0.9),
        penalty=penalty,
        look=look,
    )
    return scenes


games = {
    "GAN": watched(penalty=None),
    # the gradient is measured in widths of a mode: R1 penalises |sigma ∇D|²
    "R1": watched(penalty=R1(20 * density.sigma**2)),
}

# %% In one dimension theory predicts the equilibrium: p_G = p, and D = 1/2 everywhere.
# The discriminator learns ten times as fast (two time scales)
generator = nn.Sequential(
    nn.Linear(1, 16),
    nn.Tanh(),
    nn.Linear(16, 1),
).to(show.device)
discriminator = nn.Sequential(
    nn.Linear(1, 32),
    nn.Tanh(),
    nn.Linear(32, 32),
    nn.Tanh(),
    nn.Linear(32, 1),
).to(show.device)


def line_data(n, rng):
    return (rng.normal(1, 0.5, (n, 1)).astype(np.float32),)


line_loader = DrawnLoader(line_data, 256, show.choose(quick=30, default=1500), show.seed)
play(generator, discriminator, line_loader, 1, g_rate=1e-3, d_rate=1e-2, betas=(0.5, 0.9))

line = np.linspace(-1, 3, 201, dtype=np.float32)[:, None]
with tinycv.no_grad():
    belief = tinycv.sigmoid(discriminator(tinycv.Tensor(line, device=show.device))).numpy()[:, 0]
    generated = generator(tinycv.randn(20_000, 1).to(show.device)).numpy()[:, 0]

# %% Measure
for name, scenes in games.items():
    modes = scenes[-1].modes
    published = "PacGAN table 1: GAN 17.3, Pac4 24.8"
    target = "25" if name == "R1" else ""
    show.measured(f"grid, {name}: modes of 25", modes.covered, published, target)
    target = ">= 0.9" if name == "R1" else ""
    metric = f"grid, {name}: share within 3 sigma"
    show.measured(metric, modes.share, "the data: 0.989", target)
    published = "PacGAN table 1: GAN 0.70, Pac4 0.04"
    target = "<= 0.1" if name == "R1" else ""
    show.measured(f"grid, {name}: reverse KL, nats", modes.reverse_kl, published, target)
where_data_are = slice(50, 151)  # 0 to 2
show.measured(
    "one dimension: greatest |D - 1/2| where the data are",
    np.abs(belief - 0.5)[where_data_are].max(),
    "0 at the optimum: Goodfellow et al. 2014, figure 1",
    "<= 0.05",
)


# %% Draw: both games at three times; how many modes, how many points near one; one dimension
def draw_scene(ax, scene, caption):
    """Points of the generator on what the discriminator believes; the true modes are circles."""
    ax.contourf(axis, axis, scene.belief, levels=np.linspace(0, 1, 13), cmap="RdBu", alpha=0.55)
    points = scene.points[:1500]
    ax.plot(points[:, 0], points[:, 1], ".", color=draw.INK, markersize=2.5, markeredgewidth=0)
    true = {"color": draw.INK, "markersize": 11, "fillstyle": "none", "markeredgewidth": 0.9}
    ax.plot(density.means[:, 0], density.means[:, 1], "o", **true)
    ax.set(xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[], aspect="equal")
    ax.set_title(caption, fontsize=12)


def modes_of(scene):
    return f"{scene.modes.covered} of 25 modes"


NAMES = {"GAN": "plain GAN", "R1": "with R1 penalty"}
figure = draw.figure(
    f"GAN mode collapse: the plain GAN ends on {modes_of(games['GAN'][-1])},\n"
    f"with an R1 penalty on {modes_of(games['R1'][-1])}",
    7.6,
    10.4,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.16, 1))
top.supxlabel(
    "circles: the 25 modes of the data   dots: the generator's points\n"
    "background: what the discriminator believes, blue: real, red: fake",
    fontsize=11,
)
three = (0, LOOKS // 3, LOOKS - 1)
for row, (name, scenes) in zip(top.subplots(2, 3), games.items(), strict=True):
    row[0].set_ylabel(NAMES[name], fontsize=12)
    for ax, i in zip(row, three, strict=True):
        draw_scene(ax, scenes[i], f"step {scenes[i].step:,}: {scenes[i].modes.covered} modes")

steps_seen = [scene.step for scene in games["GAN"]]


def over_time(figure_of):
    """figure_of(modes) of each game at each look, for draw.curves."""
    lines = {}
    for name, scenes in games.items():
        lines[name] = (steps_seen, [figure_of(scene.modes) for scene in scenes])
    return lines


(left, middle), (uneven, right) = bottom.subplots(2, 2)
left.axhline(25, color=draw.INK, linestyle="--", linewidth=1.2, label="data")
left.set_ylim(0, 26)
draw.curves(left, over_time(lambda modes: modes.covered), "step", "modes found, of 25")
left.set_title("How many modes?", fontsize=12)

middle.axhline(0.989, color=draw.INK, linestyle="--", linewidth=1.2, label="data")
middle.set_ylim(0, 1.05)
draw.curves(middle, over_time(lambda modes: modes.share), "step", "share within 3 sigma")
middle.set_title("How many points near a mode?", fontsize=12)

draw.curves(uneven, over_time(lambda modes: modes.reverse_kl), "step", "reverse KL, nats", log=True)
uneven.set_title("How unevenly? (0: evenly)", fontsize=12)

right.hist(generated, 60, range=(-1, 3), density=True, color=draw.SKY, alpha=0.5)
true_density = np.exp(-2 * (line - 1) ** 2) * np.sqrt(2 / np.pi)
right.plot(line, true_density, color=draw.INK, linestyle="--", linewidth=1.4)
right.plot(line, belief, color=draw.RED)
right.text(1, 0.2, "generated", color=draw.BLUE, fontsize=10, ha="center")
right.text(1, 0.83, "data (dashed)", color=draw.INK, fontsize=10, ha="center")
right.text(-0.95, 0.54, "D: how real?", color=draw.RED, fontsize=10)
right.set(xlabel="x", ylabel="density; D", ylim=(0, 1.05))
right.spines[["top", "right"]].set_visible(False)
most = np.abs(belief - 0.5)[where_data_are].max()
right.set_title(f"One dimension: |D - 1/2| up to {most:.2f}", fontsize=12)


# %% Draw: both games as they go, each frame with its step
def frames(moving):
    for i in range(LOOKS):
        moving.clear()
        for ax, (name, scenes) in zip(moving.subplots(1, 2), games.items(), strict=True):
            draw_scene(ax, scenes[i], f"{NAMES[name]}: {modes_of(scenes[i])}")
        moving.suptitle(f"step {steps_seen[i]:,} of {steps_seen[-1]:,}", fontsize=12)
        yield moving


moving = draw.figure("", 5.6, 3.3)
path = save_gif(frames(moving), show.out / "08_gan_2d.gif", 0.5, colours=32)
print(f"  moving picture: {path}")
show.finish(figure)
