"""08, the whole protocol: table 1 of PacGAN beside ours, with two sizes of networks.

Six methods on the grid and the ring, three trials each. Every trial is written to a file as soon as
it is done, and is not repeated when the protocol is started again. Cuts: 10,000 and 6,000 steps
(the paper: 400,000), 3 trials (the paper: 10). Other differences: see tinycv/adversarial/plane.py.
python demos/08_gan_2d.py --full
"""

import numpy as np

from tinycv.adversarial.plane import tournament
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("08_gan_2d", __doc__, full=True)
TRIALS = show.choose(quick=2, full=3)
FIGURES = ("modes", "share within 3 sigma", "reverse KL", "seconds")
PUBLISHED = {  # PacGAN, table 1: modes, share, reverse KL
    "ring, GAN": ("6.3", "0.982", "0.45"),
    "ring, Pac2": ("7.9", "0.956", "0.07"),
    "ring, Pac4": ("7.8", "0.959", "0.07"),
    "grid, GAN": ("17.3", "0.948", "0.70"),
    "grid, Pac2": ("23.8", "0.913", "0.13"),
    "grid, Pac4": ("24.8", "0.936", "0.04"),
}
TARGETS = {
    "grid": {"modes": ">= 24.5", "share": ">= 0.9", "reverse KL": "<= 0.1"},
    "ring": {"modes": "8", "share": ">= 0.9", "reverse KL": "<= 0.1"},
}


# %% A table for each size of networks
def measure_table(size, steps, pacgan):
    """For each method the means of modes, share, reverse KL and seconds, with their standard
    errors; then the best method with its targets. Returns {"grid, R1": (trials, 4), ...}."""
    print(f"cut: {size}, {steps} steps (PacGAN: 400,000), {TRIALS} trials (10)")
    path = show.out / f"08_gan_2d_{size.split()[0]}.json"
    found = tournament(steps, TRIALS, path, pacgan, show.device)
    for row, values in found.items():
        means = np.mean(values, axis=0)
        errors = np.std(values, axis=0, ddof=1) / TRIALS**0.5
        published = PUBLISHED.get(row, ())
        for i, name in enumerate(FIGURES):
            reference = f"standard error {errors[i]:.3g}"
            if i < len(published):
                reference += f"; PacGAN table 1: {published[i]}"
            show.measured(f"{size}, {row}: {name}", means[i], reference)
    for density, targets in TARGETS.items():
        means = {row: np.mean(values, axis=0) for row, values in found.items() if density in row}
        best = min(means, key=lambda row: means[row][2])
        modes, share, reverse_kl, _ = means[best]
        metric = f"{size}, {best}, which has the lowest KL"
        show.measured(f"{metric}: modes", modes, target=targets["modes"])
        show.measured(f"{metric}: share", share, target=targets["share"])
        show.measured(f"{metric}: reverse KL", reverse_kl, target=targets["reverse KL"])
    return found


tables = {
    "small networks": measure_table(
        "small networks", show.choose(quick=5, full=10_000), pacgan=False
    ),
    "PacGAN's networks": measure_table(
        "PacGAN's networks", show.choose(quick=5, full=6000), pacgan=True
    ),
}

# %% Draw: how unevenly the modes are filled, by method
figure = draw.figure(
    "GAN mode collapse: how unevenly the modes are filled\n(bars: means, dots: all trials)", 9, 6
)
for ax, (size, found) in zip(figure.subplots(1, 2, sharey=True), tables.items(), strict=True):
    ax.barh(list(found), [values[:, 2].mean() for values in found.values()], color=draw.SKY)
    for row, values in found.items():
        ax.plot(values[:, 2], [row] * len(values), "o", color=draw.INK, markersize=4)
    ax.set(xscale="log", xlabel="reverse KL, nats (0: evenly)", title=size)

# The seconds of all trials, also of those that an earlier start of this protocol wrote down.
spent = 0.0
for found in tables.values():
    spent += sum(values[:, 3].sum() for values in found.values())
show.finish(figure, seconds=round(spent, 1))
