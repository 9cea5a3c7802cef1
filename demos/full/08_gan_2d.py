"""08, the whole protocol: PacGAN's table 1 beside ours, with two sizes of networks.

Six methods on grid and ring, three trials each; every trial is written down as soon as it is done,
and is not played again when the protocol was stopped. Cut: 10,000 and 6,000 steps (the paper has
400,000), 3 trials (10). What else differs: tinycv/adversarial/plane.py.
python demos/08_gan_2d.py --full
"""

import numpy as np

from tinycv.adversarial.plane import tournament
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("08_gan_2d", __doc__, full=True)
TRIALS = show.choose(quick=2, full=3)
PUBLISHED = {
    "ring, GAN": "6.3, 0.982, 0.45",
    "ring, Pac2": "7.9, 0.956, 0.07",
    "ring, Pac4": "7.8, 0.959, 0.07",
    "grid, GAN": "17.3, 0.948, 0.70",
    "grid, Pac2": "23.8, 0.913, 0.13",
    "grid, Pac4": "24.8, 0.936, 0.04",
}
TARGETS = {
    "grid": {"modes": ">= 24.5", "share": ">= 0.9", "reverse KL": "<= 0.1"},
    "ring": {"modes": "8", "share": ">= 0.9", "reverse KL": "<= 0.1"},
}


# %% A table for each size of networks
def measure_table(size, steps, pacgan):
    """A row for each method: means and standard errors of modes, share, reverse KL and seconds;
    then the best method and its targets. Returns {"grid, R1": (trials, 4), ...}."""
    print(f"cut: {size}, {steps} steps (PacGAN: 400,000), {TRIALS} trials (10)")
    path = show.out / f"08_gan_2d_{size.split()[0]}.json"
    found = tournament(steps, TRIALS, path, pacgan, show.device)
    for row, values in found.items():
        mean = np.mean(values, axis=0)
        error = np.std(values, axis=0, ddof=1) / TRIALS**0.5
        show.measured(
            f"{size}, {row}: modes, share within 3 sigma, reverse KL, seconds; standard errors",
            [*mean, *error],
            f"PacGAN table 1: {PUBLISHED[row]}" if row in PUBLISHED else "",
        )
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
figure = draw.figure("How unevenly modes are filled, by method: the mean of all trials", 12, 6)
for ax, (size, found) in zip(figure.subplots(1, 2, sharey=True), tables.items(), strict=True):
    ax.barh(list(found), [values[:, 2].mean() for values in found.values()], color=draw.PALE)
    ax.set(xscale="log", xlabel="reverse KL, nats", title=size)

# the seconds of all trials, however often the protocol was stopped
spent = 0.0
for found in tables.values():
    spent += sum(values[:, 3].sum() for values in found.values())
show.finish(figure, seconds=round(spent, 1))
