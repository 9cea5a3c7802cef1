"""20, the whole protocol: three seeds, VAE and IWAE with 1, 5 and 50 samples, fixed binarisation.

The demo is run from each seed. Then VAE and IWAE are trained with k = 1, 5 and 50 samples per image
with the same schedule for all: 15 epochs in batches of 20. (The paper has the same batches, and
3,280 epochs. With 50 samples a step decodes 50 codes per image, so this schedule is short; the
models of the demo train longer.) Last, the demo's VAE and IWAE are trained on digits that are
binarised once, not again in each step. That is another data set, so its figures have rows of their
own.
python demos/20_vae.py --full
"""

import numpy as np

from tinycv.likelihood.units import binarize
from tinycv.likelihood.vae import active_units, bounds_of, iwae_bound, log_weights
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("20_vae", __doc__, full=True)
COUNTS = show.choose(quick=(1, 2), full=(1, 5, 50))
EPOCHS = show.choose(quick=1, full=15)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))
run = runs[0]  # its data and functions serve the rest, from seed 0
few = run.few


def measure(name, vae, test, reference):
    """Record minus L_500 of the first 200 test digits, and the active units."""
    nats = -bounds_of(vae, test[:few], run.SAMPLES).mean()
    units = active_units(vae, test)
    show.measured(f"{name}: minus L_{run.SAMPLES} of {few} test digits, nats", nats, reference)
    show.measured(f"{name}: active units of {run.LATENT}", units)
    return nats, units


# %% VAE and IWAE with k samples. The VAE takes the mean of k log weights, the IWAE the log of the
# mean of k weights; with one sample they are the same
def vae_k(k):
    return lambda vae, x: -log_weights(vae, x, k).mean()


def iwae_k(k):
    return lambda vae, x: -iwae_bound(vae, x, k).mean()


PAPER = {  # Burda et al. 2016, table 1, dynamic binarisation: nats and active units
    ("VAE", 1): "86.76, 19 active units",
    ("VAE", 5): "86.47, 20 active units",
    ("VAE", 50): "86.35, 20 active units",
    ("IWAE", 1): "86.76, 19 active units",
    ("IWAE", 5): "85.54, 22 active units",
    ("IWAE", 50): "84.78, 25 active units",
}
found = {"VAE": [], "IWAE": []}  # for each k: minus L_500, active units
for k in COUNTS:
    for name, objective in (("VAE", vae_k), ("IWAE", iwae_k)):
        if name == "IWAE" and k == 1:
            found[name].append(found["VAE"][0])
            continue
        vae = run.train(run.new_vae(), run.x, objective(k), EPOCHS, binarize, batch=20)
        published = PAPER.get((name, k), "")
        reference = f"60k training digits: {published} (Burda et al. 2016, table 1, dynamic)"
        title = f"{name}, k = {k}, {EPOCHS} epochs, 5k set"
        found[name].append(measure(title, vae, run.test_binary, reference))

# %% Fixed binarisation: one draw of the training digits for all epochs. The test digits are drawn
# as for the other models, so here, unlike between papers, the figures may be compared
FIXED = {"VAE": (run.plain, "88.71"), "IWAE-5": (run.iwae_5, "87.63")}
fixed = {}
for name, (loss_of, published) in FIXED.items():
    vae = run.train(run.new_vae(), run.train_binary, loss_of, run.EPOCHS)
    reference = f"60k training digits, binarised once: {published} (Burda et al. 2016)"
    fixed[name] = measure(f"{name}, fixed binarisation, 5k set", vae, run.test_binary, reference)

# %% Draw: by the number of samples, nats and active units; the demo's models by seed
by_seed = {name: [-r.estimates[name][run.BEST] for r in runs] for name in run.models}
gain = np.mean(by_seed["VAE"]) - np.mean(by_seed["IWAE-5"])
figure = draw.figure(
    f"With five samples, the IWAE makes test digits {gain:.1f} nats more probable than the VAE\n"
    f"(4,000 training digits, mean of {len(runs)} seeds)",
    10,
    4.4,
)
by_k, units_axes, seeds_axes = figure.subplots(1, 3)
for i, ax in enumerate((by_k, units_axes)):
    lines = {name: (COUNTS, [row[i] for row in rows]) for name, rows in found.items()}
    draw.curves(ax, lines, "k, samples per image", ("-log p(x), nats", "active units")[i])
    ax.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS)
    ax.minorticks_off()
by_k.set_title(f"{EPOCHS} epochs each", fontsize=11)
units_axes.set_title(f"of {run.LATENT} latents", fontsize=11)
for place, (name, values) in enumerate(by_seed.items()):
    seeds_axes.scatter([place] * len(values), values, color=draw.BLUE, zorder=3)
    if name in fixed:
        seeds_axes.scatter([place], [fixed[name][0]], color=draw.ORANGE, marker="s", zorder=3)
seeds_axes.set_xticks(range(len(by_seed)), list(by_seed), fontsize=9)
seeds_axes.set(xlim=(-0.6, len(by_seed) - 0.4), ylabel="-log p(x), nats")
seeds_axes.set_title("The demo's models: blue by seed;\norange: digits binarised once", fontsize=11)
show.finish(figure)
