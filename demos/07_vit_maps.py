"""07 · Where does a Vision Transformer look (attention maps, rollout), and does it matter?
python demos/07_vit_maps.py      11 min on one core

A small ViT learns 4,000 digits, each cut into 49 patches. Then we look inside. Where does CLS look
in each block? How much of each patch reached CLS in the end (attention rollout)? What has the model
learned about positions, whose embeddings start at random? The main figures have controls: untrained
ViTs, and patches that are painted black in other orders. The ink control matters most: painting
over the patches with the largest rollout hurts about as much as painting over the most ink (chance
of the right digit: 0.1690, 0.1697). The map shows little that the ink does not show. There are
two pictures: 07_vit_maps.png shows where the model looks, 07_vit_maps_control.png the controls.
Read first: tinycv/vision/inside.py.
Abnar & Zuidema 2020; Dosovitskiy et al. 2021, figures 6, 7; Petsiuk et al. 2018.
"""

from functools import partial

import numpy as np

import tinycv
from tinycv.data import mnist_5k, random_shift
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.vision import (
    ViT,
    accuracy,
    inside,
    patchify,
    probabilities,
    train_classifier,
    unpatchify,
)

show = Demo("07_vit_maps", __doc__)
EPOCHS = show.choose(quick=1, default=20)
OPENED = show.choose(quick=8, default=200)  # test digits whose attention maps are measured
DEPTH = 4
HEADS = 4
PATCH = 4  # pixels: 7 x 7 patches

# %% Data: 4,000 digits to learn, 1,000 to test
x, y, test, labels = mnist_5k(seed=show.seed)  # (N, 1, 28, 28), (N,)
if show.quick:
    x = x[:80]
    y = y[:80]
    test = test[:80]
    labels = labels[:80]


# %% Models: three that are trained, and five that are not
def new_vit(seed, pool="cls"):
    tinycv.manual_seed(seed)
    return ViT(
        image_size=28,
        patch_size=PATCH,
        num_classes=10,
        dim=48,
        depth=DEPTH,
        heads=HEADS,
        pool=pool,
    )


model = new_vit(show.seed)  # its head reads CLS
mean_model = new_vit(show.seed, pool="mean")  # its head reads the mean of all patches
no_positions = new_vit(show.seed)  # it cannot know where a patch is
no_positions.pos_embed = tinycv.zeros(*model.pos_embed.shape)  # a constant, which is not trained

untrained = []
for i in range(1, 6):
    untrained.append(new_vit(show.seed + i).to(show.device).eval())


# %% Training: the same digits and equally many steps for each (06_vit.py shows the loop)
def learn(vit):
    """Train on digits that are shifted by up to 6 pixels, so that ink falls on every patch."""
    train_classifier(
        vit.to(show.device),
        x,
        y,
        EPOCHS,
        seed=show.seed,
        batch_size=32,
        transform=partial(random_shift, pixels=6),
    )


learn(model)
learn(mean_model)
learn(no_positions)
show.measured("accuracy on unseen digits, read at CLS", accuracy(model, test, labels))
show.measured(
    "accuracy on unseen digits, read at the mean of all patches", accuracy(mean_model, test, labels)
)

# %% Look inside: the attention of every block, and what reached CLS through all blocks (rollout)
digits = test[:OPENED]
answers = labels[:OPENED]
ink = digits[:, 0] > 0.5  # (B, 28, 28)
images = tinycv.Tensor(digits, device=show.device)
with tinycv.no_grad():
    maps = model.attention_maps(images)  # for each block: (B, H, T, T)
    rollout = inside.patch_rollout(model, images)  # (B, 49)
    mean_rollout = inside.patch_rollout(mean_model, images)
    untrained_rollouts = [inside.patch_rollout(vit, images) for vit in untrained]
from_cls = inside.cls_attention(maps)  # where CLS looks: (L, B, H, T)

# %% Measure: is it the ink that reached CLS? The share of attention on ink, over the share of the
# image that is ink: 1 if a model looks everywhere evenly
on_ink = inside.enrichment(rollout, ink).mean()
on_ink_untrained = [inside.enrichment(mass, ink).mean() for mass in untrained_rollouts]
on_ink_mean = inside.enrichment(mean_rollout, ink).mean()
metric = "rollout: its share on ink, over ink's share of the image"
show.measured(metric, on_ink, target=">= 1.5")
show.measured(f"{metric}, mean of five untrained ViTs", np.mean(on_ink_untrained), "", "about 1")
show.measured(f"{metric}, head on the mean", on_ink_mean)

cls_on_ink = np.zeros((DEPTH, HEADS))
for block in range(DEPTH):
    for head in range(HEADS):
        mass = from_cls[block, :, head, 1:]  # (B, 49): without the attention of CLS to itself
        cls_on_ink[block, head] = inside.enrichment(mass, ink).mean()
show.measured(
    "attention of CLS: its share on ink over ink's share, at blocks 1, 2, 3, 4",
    list(cls_on_ink.mean(axis=1)),
)

# %% Measure: how far do patches look?
distance = inside.attention_distance(maps, PATCH).mean(axis=1)  # (L,)
even_maps = [0 * maps[0] + 1]  # a block that looks at all patches evenly
even_distance = inside.attention_distance(even_maps, PATCH).mean()
show.measured(
    "how far patches look, in pixels, at blocks 1, 2, 3, 4",
    list(distance),
    f"looking at all patches evenly: {even_distance:.1f}",
)

# %% Measure: does it matter? Paint patches black, one after the other, and classify again
rng = np.random.default_rng(show.seed)
ink_per_patch = patchify(digits * ink[:, None], PATCH).sum(axis=2)
importance = {  # (B, 49): the patch with the largest value goes first
    "rollout says most": rollout,
    "most ink": ink_per_patch,
    "an untrained ViT's rollout says": untrained_rollouts[0],
    "at random": rng.random(rollout.shape),
}
chance_left = {}  # the chance of the right answer after 0, 1, ... 49 patches are black
for name, importance_per_patch in importance.items():
    order = np.argsort(-importance_per_patch, axis=1, kind="stable")
    chance_left[name] = inside.deletion_curve(partial(probabilities, model), digits, answers, order)
    show.measured(
        f"chance of the right answer, mean while patches go, first: {name}",
        chance_left[name].mean(),
        target="less than at random" if name == "rollout says most" else "",
    )

# %% Measure: has the model learned which patches are neighbours?
near = inside.nearness_learned(model)
near_untrained = [inside.nearness_learned(vit) for vit in untrained]
metric = "positions: Spearman correlation of similarity and nearness"
show.measured(metric, near, target=">= 0.5")
show.measured(f"{metric}, mean of five untrained ViTs", np.mean(near_untrained), "", "about 0")

# %% Measure: does it need that? The patches of each image are shuffled, each image in its own way
order = rng.random((len(test), 49)).argsort(axis=1)
patches = np.take_along_axis(patchify(test, PATCH), order[:, :, None], axis=1)
shuffled = unpatchify(patches, PATCH, test.shape)
in_order = {}
in_disorder = {}
for name, vit in {"with positions": model, "without positions": no_positions}.items():
    in_order[name] = accuracy(vit, test, labels)
    in_disorder[name] = accuracy(vit, shuffled, labels)
    show.measured(f"accuracy {name}, patches in order", in_order[name])
    show.measured(f"accuracy {name}, patches shuffled", in_disorder[name])

# %% Draw: where it looks
figure = draw.figure(
    f"Attention rollout of a ViT puts {on_ink:.2f} times as much on ink as an even spread would",
    10,
    11,
)
above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))


def first_with(digit):
    """Which image is the first of this digit. (A quick run may have none: then any image.)"""
    found = np.flatnonzero(answers == digit)
    return found[0] if len(found) else digit


examples = [first_with(digit) for digit in (0, 2, 3, 4, 5)]
most = rollout[examples].max()  # one scale of colours for all


def draw_rollout(row, mass, name):
    for ax, i in zip(row, examples, strict=True):
        draw.overlay(ax, digits[i], mass[i].reshape(7, 7), most=most)
    share = inside.enrichment(mass, ink).mean()
    row[0].set_ylabel(f"{name}\n{share:.2f} x on ink", fontsize=12)


above.suptitle("rollout: how much of each patch reached CLS through all blocks", fontsize=13)
plain_row, trained_row, untrained_row = above.subplots(3, len(examples))
for ax, i in zip(plain_row, examples, strict=True):
    draw.image(ax, digits[i])
draw_rollout(trained_row, rollout, "trained")
draw_rollout(untrained_row, untrained_rollouts[0], "untrained")

left, right = below.subfigures(1, 2, width_ratios=(1, 1.05))
left.suptitle("where CLS looks, block by block,\nmean of its heads", fontsize=13)
five = first_with(5)
for block, ax in enumerate(left.subplots(2, 2).ravel()):
    mass = from_cls[block, five, :, 1:].mean(axis=0).reshape(7, 7)
    share = cls_on_ink[block].mean()
    draw.overlay(ax, digits[five], mass, f"block {block + 1}: {share:.1f} x on ink")
similarity = inside.position_similarity(model).reshape(7, 7, 7, 7)
draw.maps(right.subplots(), similarity)
right.suptitle(
    f"learned positions: which are similar to\nthis one? Correlation with nearness {near:.2f}",
    fontsize=13,
)

# %% Draw: the controls
control = draw.figure(
    "Ink control: with the inkiest patches painted black first, the mean chance of the right\n"
    f"answer is {chance_left['most ink'].mean():.3f}; with those that rollout names, "
    f"{chance_left['rollout says most'].mean():.3f}",
    10,
    5.6,
)
left, right = control.subplots(1, 2, width_ratios=(1.1, 1))
labels_of_lines = ("rollout", "most ink", "untrained rollout", "at random")
lines = {}
for label, curve in zip(labels_of_lines, chance_left.values(), strict=True):
    lines[label] = (range(50), curve)
left.set_ylim(0, 1)
draw.curves(left, lines, "patches painted black", "chance of the right answer")
left.set_title("which patches are painted first?", fontsize=12)


def draw_bars(places, scores, name, colour):
    bars = right.bar(places, list(scores.values()), 0.38, color=colour)
    right.bar_label(bars, [f"{name}\n{score:.2f}" for score in scores.values()], fontsize=10)


draw_bars([0.0, 1.0], in_order, "in order", draw.BLUE)
draw_bars([0.4, 1.4], in_disorder, "shuffled", draw.ORANGE)
right.axhline(0.1, color=draw.INK, linestyle="--", linewidth=1.2)
right.text(1.02, 0.1, "guessing", transform=right.get_yaxis_transform(), va="center", fontsize=11)
right.set_xticks([0.2, 1.2], list(in_order), fontsize=11)
right.set_ylim(0, 1.1)
right.set_ylabel("accuracy on unseen digits")
right.set_title("are the patches' positions needed?", fontsize=12)
right.spines[["top", "right"]].set_visible(False)
draw.save(control, show.out / "07_vit_maps_control.png")
show.finish(figure)
