"""08 · Why do GANs forget, and what helps?          python demos/08_gan_2d.py     54 s on two cores

A generator should fill 25 little Gaussians. The plain game forgets some and wanders; a penalty on
the discriminator's slope (R1) makes it find them all. The picture shows both games over time, on
top of what their discriminators believe, and, in one dimension, the end that theory promises:
nobody can tell. --full fills PacGAN's table 1, and goes on where it was stopped: with PacGAN's own
networks, in 1.5 % of its steps, Pac4 on the grid reaches a share of 0.019 within 3 sigma (paper:
0.936).
Read first: tinycv/adversarial/gan.py, adversarial/turns.py.
Goodfellow et al. 2014; Lin et al. 2018 (PacGAN); Mescheder et al. 2018.
"""

import numpy as np

import tinycv
from tinycv import nn
from tinycv.adversarial import fit_gan
from tinycv.adversarial.plane import play, tournament
from tinycv.data import DrawnLoader
from tinycv.data.shapes import grid
from tinycv.optim import Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif

show = Demo("08_gan_2d", __doc__)
PUBLISHED = {
    "ring, GAN": "6.3, 0.982, 0.45",
    "ring, Pac2": "7.9, 0.956, 0.07",
    "ring, Pac4": "7.8, 0.959, 0.07",
    "grid, GAN": "17.3, 0.948, 0.70",
    "grid, Pac2": "23.8, 0.913, 0.13",
    "grid, Pac4": "24.8, 0.936, 0.04",
}


# %% --full: PacGAN's table 1 beside ours
def table(size, steps, trials):
    """A row for each method: means and standard errors of modes, share, reverse KL, seconds; then
    the best and the goal."""
    found = tournament(
        steps,
        trials,
        show.out / f"08_gan_2d_{size.split()[0]}.json",
        size != "small networks",
        show.device,
    )
    print(
        f"cut: {size}, {steps} steps (PacGAN: 400,000), {trials} trials (10); what else differs: "
        "adversarial/plane.py"
    )
    for row, values in found.items():
        mean, error = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / trials**0.5
        show.measured(
            f"{size}, {row}: modes, share within 3 sigma, reverse KL, seconds; standard errors",
            [*mean, *error],
            f"PacGAN table 1: {PUBLISHED[row]}" if row in PUBLISHED else "",
        )
    for density, modes in (("grid", ">= 24.5"), ("ring", "8")):
        of_all = {row: np.mean(values, axis=0) for row, values in found.items() if density in row}
        best = min(of_all, key=lambda row: of_all[row][2])
        goals = ("modes", modes), ("share", ">= 0.9"), ("reverse KL", "<= 0.1")
        # not of the seconds
        for value, (name, goal) in zip(of_all[best], goals, strict=False):
            show.measured(f"{size}, {best}, which has the lowest KL: {name}", value, target=goal)
    return sum(values[:, 3].sum() for values in found.values())


# seconds of trials
spent = (
    table("small networks", 10_000, 3) + table("PacGAN's networks", 6000, 3) if show.full else 0.0
)

# %% the plain game and the best cure on the grid, watched
density, steps, moments = grid(), show.choose(30, 8000), show.choose(3, 20)
looks = (
    ("modes of 25", "PacGAN table 1: GAN 17.3, Pac4 24.8", "25"),
    ("share within 3 sigma", "the data: 0.989", ">= 0.9"),
    ("reverse KL, nats", "PacGAN table 1: GAN 0.70, Pac4 0.04", "<= 0.1"),
)
scenes, games = {"GAN": [], "R1": []}, {}
axis = np.linspace(-5, 5, 60, dtype=np.float32)
places = tinycv.Tensor(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), device=show.device)
for method, kept in scenes.items():

    def watch(step, points, discriminator, kept=kept):
        kept.append(
            (step, points[:1500], tinycv.sigmoid(discriminator(places)).numpy().reshape(60, 60))
        )

    games[method] = play(
        density, method, steps, moments, show.seed, device=show.device, progress=True, watch=watch
    )
    for value, (name, other, goal) in zip(games[method][-1][1], looks, strict=True):
        show.measured(f"grid, {method}: {name}", value, other, "" if method == "GAN" else goal)

# %% in one dimension, where theory says what the end is: p_G = p, and D = 1/2. D learns ten times
# as fast: two time scales
generator = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1)).to(show.device)
discriminator = nn.Sequential(
    nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
).to(show.device)
generator.latent, rounds = 1, show.choose(30, 1500)
rates = (
    Adam(side.parameters(), rate, (0.5, 0.9))
    for side, rate in ((generator, 1e-3), (discriminator, 1e-2))
)
fit_gan(
    generator,
    discriminator,
    *rates,
    DrawnLoader(
        lambda n, rng: (rng.normal(1, 0.5, (n, 1)).astype(np.float32),), 256, rounds, show.seed
    ),
    1,
    schedule=warmup_cosine(rounds),
    seed=show.seed,
    progress=False,
)
line = np.linspace(-1, 3, 201, dtype=np.float32)[:, None]
chance = tinycv.sigmoid(discriminator(tinycv.Tensor(line, device=show.device))).numpy()[:, 0]
painted = generator(tinycv.randn(20_000, 1).to(show.device)).numpy()[:, 0]
show.measured(
    "one dimension: |D - 1/2| where the data are, at most",
    np.abs(chance - 0.5)[50:151].max(),
    "0 at the optimum: Goodfellow et al. 2014, figure 1",
    "<= 0.05",
)


# %% draw
def scene(ax, step, points, belief, caption=""):
    ax.contourf(axis, axis, belief, levels=np.linspace(0, 1, 13), cmap="RdBu", alpha=0.6)
    ax.plot(*density.means.T, "+", color=draw.GOOD, markersize=8)
    ax.plot(*points.T, ".", color=draw.INK, markersize=1.5)
    ax.set(xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[])
    ax.set_title(caption or f"step {step:,}", fontsize=10)


ends = {
    method: f"{seen[-1][1].covered} of 25 modes, KL {seen[-1][1].reverse_kl:.2g}"
    for method, seen in games.items()
}
figure = draw.figure(
    f"The plain GAN fills modes unevenly: {ends['GAN']}; with a penalty on D's slope, {ends['R1']}",
    13,
    9,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1.1))
for row, method in zip(top.subplots(2, 5), scenes, strict=True):
    row[0].set_ylabel(f"{method}     (blue: D says real, red: fake)", fontsize=10)
    for ax, i in zip(row, np.linspace(0, moments - 1, 5).round().astype(int), strict=True):
        scene(ax, *scenes[method][i])
left, middle, right = bottom.subplots(1, 3)
for ax, i, name in (
    (left, 0, "modes covered, of 25"),
    (middle, 2, "how unevenly: reverse KL, nats"),
):
    draw.curves(
        ax,
        {m: ([s for s, _ in g], [seen[i] for _, seen in g]) for m, g in games.items()},
        "step",
        name,
        log=i == 2,
    )
right.hist(painted, 60, range=(-1, 3), density=True, color=draw.PALE, label="G's points")
right.plot(
    line, np.exp(-2 * (line - 1) ** 2) * np.sqrt(2 / np.pi), color=draw.GOOD, label="the data"
)
right.plot(line, chance, color=draw.BAD, label="D: how real")
right.axhline(0.5, color=draw.INK, linewidth=0.6, linestyle=":")
right.set(xlabel="x, in one dimension, at the end of the game", ylim=(0, 1.25))
right.legend(frameon=False, fontsize=9, loc="upper left")


def frames(moving):
    for i in range(moments):
        moving.clear()
        for ax, (method, kept) in zip(moving.subplots(1, 2), scenes.items(), strict=True):
            scene(
                ax, *kept[i], f"{method}, step {kept[i][0]:,}: {games[method][i][1].covered} of 25"
            )
        yield moving


print(
    "  moving picture: "
    f"{save_gif(frames(draw.figure('', 5.6, 3.1)), show.out / '08_gan_2d.gif', 0.5, colours=32)}"
)
# however often it was stopped
show.finish(figure, seconds=round(spent, 1)) if show.full else show.finish(figure)
