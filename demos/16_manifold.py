"""16 · Do pictures fill their space, or a thin sheet in it?
python demos/16_manifold.py      41 s on two cores

Pictures are few among all arrays of pixels: they lie, so the manifold hypothesis, on a sheet of low
dimension. Here the sheet can be seen: a Moebius band and a Swiss roll in space. A network learns
the score of their noised points; up that score, points from anywhere are pulled onto the sheet, and
are spread over it evenly. The nearer, the stronger the pull.
Read first: tinycv/data/surfaces.py, tinycv/diffusion/edm.py.
Song & Ermon 2019, section 3.2.1; Karras et al. 2022.
"""

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, moebius, swiss_roll
from tinycv.diffusion import ScoreMLP
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_loss, edm_sigmas, heun_step
from tinycv.diffusion.tweedie import score_of
from tinycv.engine.backend import manual_seed, module_for, standard_normal, to_numpy
from tinycv.optim import Adam, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import save_gif
from tinycv.training.loop import fit

show = Demo("16_manifold", __doc__)
SHEETS = {"Moebius band": moebius(), "Swiss roll": swiss_roll()}
# cells: along and across a sheet
LEAST, MOST, CELLS, BINS = 0.02, 10.0, (16, 3), np.linspace(0, 2.5, 11)
rng = np.random.default_rng(1000 + show.seed)
steps, many, levels = (
    show.choose(20, 4000, 12000),
    show.choose(300, 4000),
    np.geomspace(LEAST, 3, 9),
)


def learn(sheet, size):
    manual_seed(show.seed)
    # one denoiser for all levels: see diffusion/edm.py
    model = ScoreMLP(3).to(show.device)
    loader, ema = (
        DrawnLoader(lambda n, rng: (sheet.sample(n, rng),), 512, steps, show.seed),
        EMA(model, decay=0.99),
    )
    fit(
        model,
        Adam(model.parameters(), lr=5e-3),
        lambda model, x: edm_loss(model, x, sigma_data=size, mean=-1.7, std=1.5),
        loader,
        1,
        schedule=warmup_cosine(steps, steps // 20),
        ema=ema,
        seed=show.seed,
    )
    model.load_state_dict(ema.state_dict())
    return edm_denoiser(model, size)


def score(denoise, x, sigma):
    x = Tensor(x.astype(np.float32), device=show.device)
    return score_of(denoise, EDM())(x, float(sigma)).numpy()


def pulled(denoise):
    """Points from noise of level MOST down to LEAST along the flow: those at every level."""
    path = [MOST * standard_normal((many, 3), module_for(show.device))]
    ladder = edm_sigmas(show.choose(8, 32), LEAST, MOST)[:-1]
    for sigma, lower in zip(ladder, ladder[1:], strict=False):
        path.append(heun_step(denoise, path[-1], sigma, lower).data)
    return ladder, [to_numpy(x) for x in path]


# %% for each sheet: learn, pull, measure
paths, strength, profile = {}, {}, {}
for name, sheet in SHEETS.items():
    denoise = learn(sheet, float(sheet.sample(10_000, rng).std()))
    with tinycv.no_grad():
        ladder, paths[name] = pulled(denoise)
        noisy = {
            sigma: sheet.sample(many, rng) + sigma * rng.normal(size=(many, 3)) for sigma in levels
        }
        pull = {sigma: score(denoise, x, sigma) for sigma, x in noisy.items()}
    end = paths[name][-1]
    count, expected = (
        np.bincount(sheet.cell(end, *CELLS), minlength=CELLS[0] * CELLS[1]),
        many * sheet.cell_shares(*CELLS),
    )
    show.measured(
        f"{name}: median distance from the sheet, in least noise levels",
        np.median(sheet.distance(end)) / LEAST,
        "0.674 for points of the sheet with that noise",
        "<= 1.5",
    )
    show.measured(
        f"{name}: chi^2 of {many} points over {len(count)} cells of the sheet",
        ((count - expected) ** 2 / expected).sum(),
        f"{len(count) - 1} on average, if they are even",
        "<= 72.4: not rejected at 1 %",
    )
    strength[name] = [np.linalg.norm(s, axis=1).mean() for s in pull.values()]
    show.measured(
        f"{name}: slope of log |score| against log noise level, below 0.15",
        np.polyfit(np.log(levels[:4]), np.log(strength[name][:4]), 1)[0],
        "-1 (a flat sheet)",
        "-1 +- 0.1",
    )
    show.measured(
        f"{name}: E |score|^2 sigma^2 at the least level: directions that lead off the sheet",
        (pull[LEAST] ** 2).sum(axis=1).mean() * LEAST**2,
        "3 less 2, and the edges' 0.03",
        "1 +- 0.1",
    )
    for sigma in levels[[0, 2, 4]] if name[0] == "M" else ():
        place = np.digitize(sheet.distance(noisy[sigma]) / sigma, BINS) - 1
        force = np.linalg.norm(pull[sigma], axis=1) * sigma
        profile[sigma] = [
            force[place == i].mean() if (place == i).any() else np.nan for i in range(len(BINS) - 1)
        ]

# %% draw


def in_space(ax, name, x, turned=0.0):
    """Points in a box, coloured by where they are."""
    # the Moebius band is the smaller sheet: enlarged
    x = x * (1.35 if name[0] == "M" else 1.0)
    x = x[(np.abs(x) < 2.6).all(axis=1)]
    ax.scatter(
        *x.T, s=2, c=x[:, 2] + 0.5 * x[:, 1], cmap="viridis", linewidths=0, vmin=-1.6, vmax=1.6
    )
    ax.set(xlim=(-2, 2), ylim=(-2, 2), zlim=(-2, 2))
    ax.set_box_aspect((1, 1, 1), zoom=1.35)
    ax.view_init(35, (-60 if name[0] == "M" else -75) + turned)
    ax.set_axis_off()


figure = draw.figure(
    "Up the learned score, noise is pulled onto a thin sheet: so may pictures among all pixels",
    12.5,
    11,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
shown = [int(np.argmin(np.abs(np.array(ladder) - sigma))) for sigma in (2.0, 0.7, 0.25, LEAST)]
for row, (name, path) in zip(
    top.subplots(2, 4, subplot_kw={"projection": "3d"}), paths.items(), strict=True
):
    for ax, i in zip(row, shown, strict=True):
        in_space(ax, name, path[i])
        ax.set_title(f"{name}, noise level {ladder[i]:.2g}", fontsize=10)
left, right = bottom.subplots(1, 2)
draw.curves(
    left,
    {name: (levels, norm) for name, norm in strength.items()}
    | {"0.8 / noise level": (levels, 0.798 / levels)},
    "noise level",
    "mean length of the score",
    True,
)
left.set_xscale("log")
left.set_title("near the sheet the pull grows as 1 / noise level", fontsize=10)
draw.curves(
    right,
    {f"Moebius band, level {sigma:.2g}": (BINS[:-1] + 0.125, y) for sigma, y in profile.items()}
    | {"a flat sheet": (BINS, BINS)},
    "distance from the sheet, in noise levels",
    "length of the score x noise level",
)
right.set_title("at one noise level it is as strong as the point is far", fontsize=10)
show.finish(figure)

movie, frames = draw.figure("", 3.2, 3.2), [*range(shown[0], len(ladder)), *[len(ladder) - 1] * 16]
ax = movie.add_subplot(projection="3d")


def frame(turn, i):
    ax.clear()
    in_space(ax, "Moebius band", paths["Moebius band"][i][:1500], 3 * turn)
    return movie


save_gif((frame(*at) for at in enumerate(frames)), show.out / "16_manifold.gif", 0.12, colours=32)
