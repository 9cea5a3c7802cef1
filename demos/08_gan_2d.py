"""08 · Why do GANs forget, and what helps?
python demos/08_gan_2d.py      54 s on two cores

A generator should fill 25 little Gaussians. The plain game forgets some and wanders; a penalty on
the discriminator's slope (R1) makes it find them all. The picture shows both games over time, on
top of what their discriminators believe, and, in one dimension, the end that theory promises:
nobody can tell. --full fills PacGAN's table 1, and goes on where it was stopped: with PacGAN's own
networks, in 1.5 % of its steps, Pac4 on the grid reaches a share of 0.019 within 3 sigma (paper:
0.936).
Read first: tinycv/adversarial/gan.py, adversarial/turns.py.
Goodfellow et al. 2014; Lin et al. 2018 (PacGAN); Mescheder et al. 2018.
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

# %% Data: 25 Gaussians on a grid, a new batch at every step; and noises and places to look at
density = grid()
loader = DrawnLoader(lambda n, rng: (density.sample(n, rng),), 256, STEPS, show.seed)

noise = np.random.default_rng(show.seed).standard_normal((2500, 2)).astype(np.float32)
noise = tinycv.Tensor(noise, device=show.device)

axis = np.linspace(-5, 5, 60, dtype=np.float32)
places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
places = tinycv.Tensor(places, device=show.device)


# %% Training: the whole loop. The noise has as many numbers as a point
def play(generator, discriminator, loader, epochs, g_rate, d_rate, betas, penalty=None, look=None):
    """Both sides learn in turns. look(step) is called after every epoch."""
    g_optimizer = Adam(generator.parameters(), lr=g_rate, betas=betas)
    d_optimizer = Adam(discriminator.parameters(), lr=d_rate, betas=betas)
    schedule = warmup_cosine(epochs * len(loader))
    for step, (real,) in steps(loader, epochs, seed=show.seed, device=show.device):
        g_optimizer.param_groups[0]["lr"] = g_rate * schedule(step)
        d_optimizer.param_groups[0]["lr"] = d_rate * schedule(step)
        fake = generator(tinycv.randn_like(real))

        # the discriminator's turn: the fakes are constants to it
        d_loss = tell_apart(discriminator(real), discriminator(fake.detach()))
        if penalty is not None:
            d_loss = d_loss + penalty(discriminator, real, fake.detach())
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # the generator's turn, against the discriminator that has just learned
        g_loss = non_saturating(discriminator(fake))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()

        if (step + 1) % len(loader) == 0:
            losses = f"D {read_loss(d_loss, step):.3g}, G {read_loss(g_loss, step):.3g}"
            say(f"step {step + 1}: losses {losses}")
            if look is not None:
                look(step + 1)


# %% The plain game and the best cure on the grid, watched
@dataclass
class Scene:
    step: int
    points: np.ndarray  # (2500, 2): made of the same noise at every look
    belief: np.ndarray  # (60, 60): how real a point there is, to the discriminator
    modes: Modes


def watched(penalty):
    """A game of two small networks from its start. Returns a Scene for each look."""
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
    # slopes by the width of a mode: sigma ∇D is penalised
    "R1": watched(penalty=R1(20 * density.sigma**2)),
}

# %% In one dimension theory says what the end is: p_G = p, and D = 1/2
# D learns ten times as fast: two time scales
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


def from_the_line(n, rng):
    return (rng.normal(1, 0.5, (n, 1)).astype(np.float32),)


line_loader = DrawnLoader(from_the_line, 256, show.choose(quick=30, default=1500), show.seed)
play(generator, discriminator, line_loader, 1, g_rate=1e-3, d_rate=1e-2, betas=(0.5, 0.9))

line = np.linspace(-1, 3, 201, dtype=np.float32)[:, None]
with tinycv.no_grad():
    belief = tinycv.sigmoid(discriminator(tinycv.Tensor(line, device=show.device))).numpy()[:, 0]
    painted = generator(tinycv.randn(20_000, 1).to(show.device)).numpy()[:, 0]

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
    "one dimension: |D - 1/2| where the data are, at most",
    np.abs(belief - 0.5)[where_data_are].max(),
    "0 at the optimum: Goodfellow et al. 2014, figure 1",
    "<= 0.05",
)


# %% Draw: both games over time, how many modes, how unevenly, and the end in one dimension
def draw_scene(ax, scene, caption):
    ax.contourf(axis, axis, scene.belief, levels=np.linspace(0, 1, 13), cmap="RdBu", alpha=0.6)
    ax.plot(density.means[:, 0], density.means[:, 1], "+", color=draw.GOOD, markersize=8)
    points = scene.points[:1500]
    ax.plot(points[:, 0], points[:, 1], ".", color=draw.INK, markersize=1.5)
    ax.set(xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[])
    ax.set_title(caption, fontsize=10)


def said(scene):
    return f"{scene.modes.covered} of 25 modes, KL {scene.modes.reverse_kl:.2g}"


figure = draw.figure(
    f"The plain GAN fills modes unevenly: {said(games['GAN'][-1])}; "
    f"with a penalty on D's slope, {said(games['R1'][-1])}",
    13,
    9,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1.1))
five = np.linspace(0, LOOKS - 1, 5).round().astype(int)
for row, (name, scenes) in zip(top.subplots(2, 5), games.items(), strict=True):
    row[0].set_ylabel(f"{name}     (blue: D says real, red: fake)", fontsize=10)
    for ax, i in zip(row, five, strict=True):
        draw_scene(ax, scenes[i], f"step {scenes[i].step:,}")

left, middle, right = bottom.subplots(1, 3)
covered = {}
uneven = {}
for name, scenes in games.items():
    at = [scene.step for scene in scenes]
    covered[name] = (at, [scene.modes.covered for scene in scenes])
    uneven[name] = (at, [scene.modes.reverse_kl for scene in scenes])
draw.curves(left, covered, "step", "modes covered, of 25")
draw.curves(middle, uneven, "step", "how unevenly: reverse KL, nats", log=True)

right.hist(painted, 60, range=(-1, 3), density=True, color=draw.PALE, label="G's points")
true_density = np.exp(-2 * (line - 1) ** 2) * np.sqrt(2 / np.pi)
right.plot(line, true_density, color=draw.GOOD, label="the data")
right.plot(line, belief, color=draw.BAD, label="D: how real")
right.axhline(0.5, color=draw.INK, linewidth=0.6, linestyle=":")
right.set(xlabel="x, in one dimension, at the end of the game", ylim=(0, 1.25))
right.legend(frameon=False, fontsize=9, loc="upper left")


def frames(moving):
    for i in range(LOOKS):
        moving.clear()
        for ax, (name, scenes) in zip(moving.subplots(1, 2), games.items(), strict=True):
            scene = scenes[i]
            caption = f"{name}, step {scene.step:,}: {scene.modes.covered} of 25"
            draw_scene(ax, scene, caption)
        yield moving


moving = draw.figure("", 5.6, 3.1)
path = save_gif(frames(moving), show.out / "08_gan_2d.gif", 0.5, colours=32)
print(f"  moving picture: {path}")
show.finish(figure)
