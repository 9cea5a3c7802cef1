"""11, the whole protocol: the demo from three seeds, with other scenes, weights and judges each.

SPADE's norm is batch norm, and the rival's is instance norm. So a third generator learns too, with
concatenated labels and batch norm: it shows how much of SPADE's lead is due to the norm alone.

Cut: drawn scenes of 32 x 32 pixels and a few minutes per generator, where the paper takes photos.
python demos/11_label_to_image.py --full
"""

import numpy as np

from tinycv.adversarial.spade import paint_maps, styles_of
from tinycv.show import draw
from tinycv.show.demo import Demo

show = Demo("11_label_to_image", __doc__, full=True)
runs = show.repeat_demo(seeds=range(show.choose(quick=1, full=3)))

# %% What the demo measured, by seed
FIGURES = {
    "mean IoU / real": "relative",
    "uniform maps:\nshare as asked": "asked",
    "uniform sky against grass:\nlargest difference": "contrast",
}
by_norm = {
    name: {title: [getattr(run, figure)[norm] for run in runs] for title, figure in FIGURES.items()}
    for norm, name in runs[0].NAMES.items()
}
for title in FIGURES:
    spade, concat = (np.array(found[title]) for found in by_norm.values())
    show.measured(
        f"{' '.join(title.split())}: SPADE minus concatenated labels, the smallest of all seeds",
        (spade - concat).min(),
        target=">= 0.1",
    )

# %% The control: concatenated labels with SPADE's own norm, batch norm
NAME = "concatenated, batch norm"
by_norm[NAME] = {title: [] for title in FIGURES}
for run in runs:
    painter = run.learn("concat_batch")
    z = styles_of(painter, run.test_images)
    painted = paint_maps(painter, z, run.test_labels)
    uniform = paint_maps(painter, z[run.style_of_uniform], run.uniform_maps)
    relative, asked, contrast = by_norm[NAME].values()
    relative.append(run.iou(painted, run.test_labels) / run.real_iou)
    asked.append(run.share_as_asked(uniform, run.uniform_maps))
    contrast.append(run.sky_against_grass(uniform))
for title, values in by_norm[NAME].items():
    show.measured(f"labels {NAME}: {' '.join(title.split())}, by seed", values)

# %% Draw: a dot for each seed, a bar for the mean
lowest = min(by_norm["SPADE"]["mean IoU / real"])
figure = draw.figure(
    f"SPADE against concatenated labels, from {len(runs)} seeds:\n"
    f"SPADE reaches at least {np.floor(100 * lowest):.0f} % of the mean IoU of real scenes",
    10,
    4,
)
for ax, title in zip(figure.subplots(1, 3), FIGURES, strict=True):
    for place, (name, found) in enumerate(by_norm.items()):
        colour = draw.BLUE if name == "SPADE" else draw.ORANGE
        ax.bar(place, np.mean(found[title]), color=colour, alpha=0.5)
        ax.plot([place] * len(runs), found[title], "o", color=draw.INK, markersize=5)
    ax.set_xticks(range(len(by_norm)), [name.replace(" ", "\n") for name in by_norm])
    ax.set_ylim(0, 1.05)
    ax.set_title(title, fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
show.finish(figure)
