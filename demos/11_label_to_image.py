"""11 · Can a painted map of sky, sea and grass become an image, in any style?
python demos/11_label_to_image.py      5 min on one core

Label map to image (标签图到图像). A label map says what is where: cloud, sky, tree, mountain, sea
or grass. A SPADE generator turns it into an image, in the style of another image (day, sunset,
winter, night). A second generator learns for as many steps, but receives the labels as more
channels of its features. Instance norm removes whatever is constant over an image, so this one
paints the same image for a map of nothing but sky and for one of nothing but grass. It also removes
the brightness of an image, which is part of its style. All scenes are synthetic
(tinycv/data/scenes.py), so no figure can be compared with those of a paper. A judge, which segments
an image into the six classes, measures whether the image shows what the map asks for. It learned
from scenes in random colours, so it reads texture and shape.
--map FILE paints your own map too: a PNG of 32 x 32 pixels, or a multiple, in the legend's colours.
--full trains from three seeds, and also a generator with concatenated labels and SPADE's own norm,
batch norm. It reaches 92 to 94 % of the mean IoU of real scenes, SPADE 95 to 96 %, and concatenated
labels with instance norm 68 to 84 %. So most of the difference is due to what the norm removes.
Read first: tinycv/adversarial/spade.py, tinycv/data/scenes.py.
Park et al. 2019 (SPADE, GauGAN).
"""

import numpy as np

import tinycv
from tinycv.adversarial.spade import (
    Discriminator,
    LabelToImage,
    discriminator_loss,
    generator_loss,
    label_planes,
    paint_maps,
    styles_of,
)
from tinycv.adversarial.turns import descend
from tinycv.data import DataLoader, label_map_from_png, paint, scenes
from tinycv.data.scenes import (
    CLASSES,
    LEGEND,
    STYLES,
    label_maps,
    legend,
    patchworks,
    render,
    render_any_colours,
)
from tinycv.engine.backend import Stopwatch
from tinycv.nn.functional import cross_entropy
from tinycv.optim import EMA, Adam, AdamW, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps
from tinycv.vision.segment import Segmenter, mean_iou, pixel_cross_entropy, segment

show = Demo(
    "11_label_to_image",
    __doc__,
    map=f"a PNG of 32 x 32 pixels, or a multiple, to be painted in every style: {legend()}",
)
EPOCHS = show.choose(quick=1, default=2)
G_RATE, D_RATE = 1e-3, 4e-3  # of Adam, for the generator and the discriminator
COUNT = show.choose(quick=16, default=2400)  # training scenes
TESTS = show.choose(quick=16, default=300)  # held-out scenes
with show.reading("map"):  # a wrong file ends the demo here
    asked_map = label_map_from_png(show.map) if show.map else None

# %% Data: label maps, images and styles
labels, images, styles = scenes(COUNT, seed=2 * show.seed)  # (N, 32, 32), (N, 3, 32, 32), (N,)
test_labels, test_images, test_styles = scenes(TESTS, seed=2 * show.seed + 1)
loader = DataLoader(images, labels.astype(np.int64), batch_size=4, seed=show.seed, drop_last=True)
STEPS = EPOCHS * len(loader)

# %% A judge that reads texture and shape: it learns from scenes in random colours. Patchworks, maps
# that resemble no landscape, keep it from relying on places, such as the sky at the top
rng = np.random.default_rng(1000 + show.seed)
count = show.choose(quick=32, default=4000)
judge_labels = np.concatenate([label_maps(count, rng), patchworks(count // 8, rng)])
judge_images = render_any_colours(judge_labels, rng)
judge_loader = DataLoader(
    judge_images, judge_labels.astype(np.int64), batch_size=16, seed=show.seed, drop_last=True
)
epochs = show.choose(quick=1, default=3)
total = epochs * len(judge_loader)
tinycv.manual_seed(show.seed)
judge = Segmenter(len(CLASSES), width=show.choose(quick=2, default=12)).to(show.device)
optimizer = AdamW(judge.parameters(), lr=8e-3)
schedule = warmup_cosine(total, warmup=total // 5)
for step, (x, y) in steps(judge_loader, epochs, seed=show.seed, device=show.device):
    optimizer.param_groups[0]["lr"] = 8e-3 * schedule(step)
    optimizer.zero_grad()
    loss = pixel_cross_entropy(judge(x), y)
    loss.backward()
    optimizer.step()
    if (step + 1) % max(1, total // 4) == 0:
        say(f"judge: step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
judge.eval()


def iou(pictures, maps):
    """The mean IoU between what the judge sees in the pictures and the maps that were asked for."""
    return mean_iou(segment(judge, pictures), maps, len(CLASSES))


# %% A judge of colour alone, for comparison: it gives each of 16 x 16 x 16 colours the class that
# has this colour most often in the training scenes
def colour_numbers(pictures):
    red, green, blue = (np.minimum(pictures * 16, 15).astype(np.int64)).swapaxes(0, 1)
    return (red * 16 + green) * 16 + blue  # (N, 32, 32)


frequency = np.zeros((16**3, len(CLASSES)))
np.add.at(frequency, (colour_numbers(images).ravel(), labels.ravel()), 1)
class_of_colour = frequency.argmax(axis=1)


# %% A judge of styles: a linear classifier of the image in 8 x 8 pixels
def coarse(pictures):
    return pictures.reshape(len(pictures), 3, 8, 4, 8, 4).mean(axis=(3, 5)).reshape(-1, 192)


style_judge = tinycv.nn.Linear(192, len(STYLES))
optimizer = Adam(style_judge.parameters(), lr=0.01)
for _ in range(show.choose(quick=5, default=300)):
    optimizer.zero_grad()
    cross_entropy(style_judge(tinycv.tensor(coarse(images))), tinycv.tensor(styles)).backward()
    optimizer.step()


def seen_styles(pictures):
    with tinycv.no_grad():
        return style_judge(tinycv.tensor(coarse(pictures))).numpy().argmax(axis=1)


# %% Training: the whole loop. Both generators learn with the same steps, losses and rates
def share_of_rate(step):
    """1 for the first half of the training; then it falls to 0 along a straight line."""
    return min(1.0, 2 * (1 - step / STEPS))


def learn(norm):
    """Train an encoder and a generator with this norm, "spade" or "concat"."""
    tinycv.manual_seed(show.seed)
    width = show.choose(quick=4, default=32)
    widths = show.choose(quick=(4, 4, 4, 4), default=(48, 48, 32, 24))
    painter = LabelToImage(len(CLASSES), norm, widths=widths).to(show.device)
    discriminator = Discriminator(len(CLASSES), width).to(show.device)
    painter_adam = Adam(painter.parameters(), lr=G_RATE, betas=(0.0, 0.9))
    discriminator_adam = Adam(discriminator.parameters(), lr=D_RATE, betas=(0.0, 0.9))
    ema = EMA(painter, decay=0.99)
    for step, (x, y) in steps(loader, EPOCHS, seed=show.seed, device=show.device):
        painter_adam.param_groups[0]["lr"] = G_RATE * share_of_rate(step)
        discriminator_adam.param_groups[0]["lr"] = D_RATE * share_of_rate(step)
        m = label_planes(y, len(CLASSES))
        fake, mean, log_variance = painter(x, m)
        d_loss = discriminator_loss(discriminator, x, fake, m)
        descend(discriminator_adam, d_loss)
        g_loss = generator_loss(discriminator, x, fake, m, mean, log_variance)
        descend(painter_adam, g_loss)
        ema.update()
        if (step + 1) % max(1, STEPS // 10) == 0:
            losses = f"D {read_loss(d_loss, step):.3g}  G {read_loss(g_loss, step):.3g}"
            say(f"{norm}: step {step + 1}/{STEPS}  {losses}")
    painter.eval().load_state_dict(ema.state_dict())
    return painter


# %% Train both, and paint the maps of unseen scenes in the styles of their images
painters, seconds, painted, z = {}, {}, {}, {}
for norm in ("spade", "concat"):
    with Stopwatch(show.device) as watch:
        painters[norm] = learn(norm)
    seconds[norm] = watch.seconds
    z[norm] = styles_of(painters[norm], test_images)  # (N, 8)
    painted[norm] = paint_maps(painters[norm], z[norm], test_labels)

# %% Uniform maps: nothing but one class, in the styles of unseen images
per_class = TESTS // len(CLASSES)
uniform_labels = np.arange(len(CLASSES), dtype=np.uint8).repeat(per_class)
uniform_maps = np.broadcast_to(uniform_labels[:, None, None], (len(uniform_labels), 32, 32))
style_of_uniform = np.tile(np.arange(per_class), len(CLASSES))  # the same styles for each class
uniform = {
    norm: paint_maps(painter, z[norm][style_of_uniform], uniform_maps)
    for norm, painter in painters.items()
}


def share_as_asked(pictures, maps):
    """The share of pixels in which the judge sees the class that was asked for."""
    return (segment(judge, pictures) == maps).mean()


def sky_against_grass(pictures):
    """The largest difference between uniform sky and uniform grass in the same style."""
    of_class = pictures.reshape(len(CLASSES), per_class, 3, 32, 32)
    return np.abs(of_class[CLASSES.index("sky")] - of_class[CLASSES.index("grass")]).max()


# %% Styles: each unseen map in the style of another image, and in styles drawn from N(0, I)
rng = np.random.default_rng(show.seed)
other = (np.arange(TESTS) + TESTS // 2) % TESTS
differs = test_styles[other] != test_styles
drawn_z = rng.normal(size=z["spade"].shape).astype(np.float32)
swapped = {n: paint_maps(painters[n], z[n][other], test_labels) for n in painters}
drawn = {n: paint_maps(painters[n], drawn_z, test_labels) for n in painters}

# %% Measure: the judges themselves, on real scenes
real_iou = iou(test_images, test_labels)
colour_iou = mean_iou(class_of_colour[colour_numbers(test_images)], test_labels, len(CLASSES))
synthetic = "synthetic scenes, so no paper has this figure"
show.measured("mean IoU of the judge on real scenes", real_iou, synthetic, ">= 0.94")
show.measured("mean IoU of a judge of colour alone", colour_iou, synthetic, "<= 0.6")
show.measured(
    "accuracy of the judge of styles on real scenes",
    (seen_styles(test_images) == test_styles).mean(),
    synthetic,
    ">= 0.99",
)
real_uniform = render(uniform_maps, test_styles[style_of_uniform], rng)
show.measured(
    "uniform maps, drawn as real scenes are: share of pixels that the judge sees as asked",
    share_as_asked(real_uniform, uniform_maps),
    synthetic,
    ">= 0.95",
)

# %% Measure: both generators
NAMES = {"spade": "SPADE", "concat": "labels concatenated"}
relative = {norm: iou(pictures, test_labels) / real_iou for norm, pictures in painted.items()}
asked = {norm: share_as_asked(pictures, uniform_maps) for norm, pictures in uniform.items()}
contrast = {norm: sky_against_grass(pictures) for norm, pictures in uniform.items()}
TARGETS = {
    "spade": (">= 0.9", "> 0.5", "> 0.1"),
    "concat": ("", "", "<= 1e-4: equal, whatever the weights"),
}
for norm, name in NAMES.items():
    for_iou, for_asked, for_contrast = TARGETS[norm]
    show.measured(
        f"{name}: mean IoU of painted scenes, divided by that of real ones",
        relative[norm],
        "synthetic; the paper's mean IoU: COCO-Stuff 35.2, Cityscapes 62.3 (in percent, undivided)",
        for_iou,
    )
    show.measured(
        f"{name}: uniform maps, share of pixels painted as asked",
        asked[norm],
        f"{synthetic}; six equal pictures: exactly 1/6",
        for_asked,
    )
    show.measured(
        f"{name}: largest difference between uniform sky and uniform grass",
        contrast[norm],
        "pixels are 0 to 1",
        for_contrast,
    )
    took = (seen_styles(swapped[norm]) == test_styles[other])[differs]
    show.measured(
        f"{name}: swapped styles, share that have the style of the other image",
        took.mean() if len(took) else 0.0,
        synthetic,
        ">= 0.95" if norm == "spade" else "",
    )
    show.measured(
        f"{name}: swapped styles, mean IoU divided by that of real scenes",
        iou(swapped[norm], test_labels) / real_iou,
        synthetic,
    )
    shares = np.bincount(seen_styles(drawn[norm]), minlength=len(STYLES)) / TESTS
    show.measured(
        f"{name}: drawn styles, share of {', '.join(STYLES)}",
        shares.tolist(),
        "real scenes: 0.25 each",
    )
    show.measured(
        f"{name}: drawn styles, mean IoU divided by that of real scenes",
        iou(drawn[norm], test_labels) / real_iou,
        synthetic,
    )
    show.measured(f"{name}: seconds of one training", seconds[norm])

show.measured(
    "SPADE minus labels concatenated: mean IoU divided by that of real scenes",
    relative["spade"] - relative["concat"],
    synthetic,
    ">= 0.1",
)

# %% A map painted by hand: one letter for 2 x 2 pixels
LETTERS = {"c": "cloud", ".": "sky", "t": "tree", "m": "mountain", "~": "sea", "g": "grass"}
PAINTED = """
................
..cccc..........
.cccccc....ccc..
..........ccccc.
................
....m...........
...mmm.....m....
..mmmmm...mmm...
.mmmmmmm.mmmmmm.
~~~~~~~~~~~~~~~~
~~~~~~~~~~~~~tt~
gg~~~~~~~~~~tttt
gggg~~~~~~~gtttt
ggttgg~~~~gggttg
ggttggggggggggtg
gggggggggggggggg
"""
by_hand = np.array([[CLASSES.index(LETTERS[c]) for c in row] for row in PAINTED.split()], np.uint8)
by_hand = by_hand.repeat(2, axis=0).repeat(2, axis=1)  # (32, 32)
of_each_style = [int(np.argmax(test_styles == style)) for style in range(len(STYLES))]
six_z = {n: np.concatenate([z[n][of_each_style], drawn_z[:2]]) for n in painters}
CAPTIONS = [f"as {style}" for style in STYLES] + ["drawn", "drawn"]


def in_six_styles(norm, one_map):
    return paint_maps(painters[norm], six_z[norm], np.broadcast_to(one_map, (6, 32, 32)))


# %% Draw: a map in six styles; unseen maps; uniform maps; swapped styles
figure = draw.figure(
    f"SPADE paints synthetic scenes at {100 * relative['spade']:.0f} % of the mean IoU of real "
    f"ones,\nand {100 * asked['spade']:.0f} % of the pixels of uniform maps as asked; "
    f"concatenated labels: {100 * relative['concat']:.0f} % and {100 * asked['concat']:.0f} %",
    10,
    9.8,
)
first, second, third = figure.subfigures(3, 1, height_ratios=(1.9, 4.0, 2.8))
legend_axes, six_axes = first.subplots(1, 2, width_ratios=(1, 7))
for number, (name, colour) in enumerate(zip(CLASSES, LEGEND / 255, strict=True)):
    legend_axes.barh(-number, 1, color=colour)
    ink = "white" if colour.mean() < 0.5 else draw.INK
    legend_axes.text(0.5, -number, name, ha="center", va="center", fontsize=10, color=ink)
legend_axes.axis("off")
draw.image_rows(
    six_axes,
    {"SPADE": [paint(by_hand), *in_six_styles("spade", by_hand)]},
    ["painted by hand", *CAPTIONS],
)
six_axes.set_title("One map in six styles: of four images, and drawn from N(0, I)", fontsize=11)

shown = slice(0, 10)
on_tests = second.subplots()
rows = {
    "label map": paint(test_labels[shown]),
    "real": test_images[shown],
    "SPADE": painted["spade"][shown],
    "labels\nconcatenated": painted["concat"][shown],
}
draw.image_rows(on_tests, rows)
on_tests.set_title(
    f"Unseen maps, in the styles of their real images. Mean IoU by the judge: real {real_iou:.2f}, "
    f"SPADE {real_iou * relative['spade']:.2f}, concatenated {real_iou * relative['concat']:.2f}",
    fontsize=11,
)

on_uniform, on_swaps = third.subplots(1, 2)
one_each = np.arange(len(CLASSES)) * per_class
rows = {
    "asked for": paint(uniform_maps[one_each]),
    "SPADE": uniform["spade"][one_each],
    "labels\nconcatenated": uniform["concat"][one_each],
}
draw.image_rows(on_uniform, rows, list(CLASSES))
on_uniform.set_title(
    "Uniform maps, in the style of one unseen image. Painted\nas asked: SPADE "
    f"{100 * asked['spade']:.0f} %, concatenated {100 * asked['concat']:.0f} % (chance: 17 %)",
    fontsize=11,
)
six = np.flatnonzero(differs)[:6] if differs.any() else np.arange(6)
rows = {
    "map of": test_images[six],
    "style of": test_images[other[six]],
    "SPADE": swapped["spade"][six],
}
draw.image_rows(on_swaps, rows)
on_swaps.set_title("The map of one image, in the style of another", fontsize=11)

# %% Draw: your own map
if asked_map is not None:
    rows = {name: in_six_styles(norm, asked_map) for norm, name in NAMES.items()}
    own = draw.figure(f"{show.map}: your own map, painted in six styles", 9, 3.2)
    left, right = own.subplots(1, 2, width_ratios=(1, 3))
    draw.image(left, paint(asked_map), "the map")
    draw.image_rows(right, rows, CAPTIONS)
    print(f"  your map: {draw.save(own, show.out / '11_label_to_image_map.png')}")
show.finish(figure)
