"""07 · What does a ViT look at, and does it matter?
python demos/07_vit_maps.py      10 min on two cores

A small ViT learns 4,000 digits, each cut into 49 patches, and is opened: where CLS looks, block by
block and head by head; how much of each patch reached CLS in the end (rollout); what the model has
learned about places, which it was never given; what its first layer looks for in a patch. Every
figure stands beside its control: ViTs that have learned nothing, patches painted over in a random
order. Painting over what the map names first hurts about as much as painting over the most ink
(chance left: 0.1692, 0.1746).
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
OPENED = show.choose(quick=8, default=200)  # test digits that are looked into
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


# %% Models: three that learn, and five that do not
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


model = new_vit(show.seed)  # its answer is read at CLS
by_mean = new_vit(show.seed, pool="mean")  # its answer is read at the mean of all patches
placeless = new_vit(show.seed)  # it is not given where a patch stands
placeless.pos_embed = tinycv.zeros(*model.pos_embed.shape)  # a constant: nothing to learn

untrained = []
for i in range(1, 6):
    untrained.append(new_vit(show.seed + i).to(show.device).eval())


# %% Training: the same digits and as many steps for each (the loop itself is in 06_vit.py)
def learn(vit):
    """Digits are moved by up to 6 pixels, so that ink falls on every patch."""
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
learn(by_mean)
learn(placeless)
show.measured("accuracy on unseen digits, read at CLS", accuracy(model, test, labels))
show.measured(
    "accuracy on unseen digits, read at the mean of all patches", accuracy(by_mean, test, labels)
)

# %% Look inside: every block's attention, and what flowed to the answer through all blocks together
seen = test[:OPENED]
answers = labels[:OPENED]
ink = seen[:, 0] > 0.5  # (B, 28, 28)
images = tinycv.Tensor(seen, device=show.device)
with tinycv.no_grad():
    maps = model.attention_maps(images)  # of each block: (B, H, T, T)
    rolled = inside.patch_rollout(model, images)  # (B, 49)
    rolled_to_mean = inside.patch_rollout(by_mean, images)
    rolled_untrained = [inside.patch_rollout(vit, images) for vit in untrained]
asked = inside.cls_attention(maps)  # (L, B, H, T)

# %% Measure: is it the ink that reached CLS?
on_ink = inside.enrichment(rolled, ink).mean()
on_ink_untrained = [inside.enrichment(mass, ink) for mass in rolled_untrained]
on_ink_to_mean = inside.enrichment(rolled_to_mean, ink).mean()
show.measured("rollout: its share on ink, over ink's share of the image", on_ink, target=">= 1.5")
show.measured("the same of five untrained ViTs", np.mean(on_ink_untrained), target="about 1")
show.measured("the same where the mean is read, not CLS", on_ink_to_mean)

asked_on_ink = np.zeros((DEPTH, HEADS))
for block in range(DEPTH):
    for head in range(HEADS):
        mass = asked[block, :, head, 1:]  # (B, 49): without what CLS asks of itself
        asked_on_ink[block, head] = inside.enrichment(mass, ink).mean()
show.measured(
    "what CLS asks, by block: share on ink over ink's share", list(asked_on_ink.mean(axis=1))
)

# %% Measure: how far do patches look?
far = inside.attention_distance(maps, PATCH).mean(axis=1)  # (L,)
evenly = [0 * maps[0] + 1]  # a block that looks at all patches alike
far_if_even = inside.attention_distance(evenly, PATCH).mean()
show.measured(
    "how far patches look, by block, in pixels",
    list(far),
    f"a look at all patches alike: {far_if_even:.1f}",
)

# %% Measure: does it matter? Paint patches black, one after the other, and ask again
chance = np.random.default_rng(show.seed)
importance = {  # (B, 49): the largest goes first
    "rollout says most": rolled,
    "most ink": patchify(seen * ink[:, None], PATCH).sum(axis=2),
    "an untrained ViT's rollout says": rolled_untrained[0],
    "at random": chance.random(rolled.shape),
}
left = {}  # the chance of the right answer that is left after 0, 1, ... 49 patches
for name, by in importance.items():
    order = np.argsort(-by, axis=1, kind="stable")
    left[name] = inside.deletion_curve(partial(probabilities, model), seen, answers, order)
    show.measured(
        f"chance of the right answer, mean while patches go, first: {name}",
        left[name].mean(),
        target="less than at random" if name == "rollout says most" else "",
    )

# %% Measure: has it learned where patches lie?
near = inside.nearness_learned(model)
near_untrained = [inside.nearness_learned(vit) for vit in untrained]
show.measured("positions: Spearman of their likeness with nearness", near, target=">= 0.5")
show.measured("the same of five untrained ViTs", np.mean(near_untrained), target="about 0")

# %% Measure: does it need that? The patches of each image are shuffled, each image in its own way
order = chance.random((len(test), 49)).argsort(axis=1)
patches = np.take_along_axis(patchify(test, PATCH), order[:, :, None], axis=1)
shuffled = unpatchify(patches, PATCH, test.shape)
in_order = [accuracy(model, test, labels), accuracy(placeless, test, labels)]
in_disorder = [accuracy(model, shuffled, labels), accuracy(placeless, shuffled, labels)]
show.measured("accuracy, patches in order: with positions, without", in_order)
show.measured("accuracy, patches shuffled: with positions, without", in_disorder)

# %% Draw: rollout; deletion; CLS head by head; positions; first layer; accuracy without order
figure = draw.figure(
    "What a ViT looks at in a digit: painting that over hurts, as much as painting over ink", 16, 11
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
above, deletion = top.subfigures(1, 2, width_ratios=(1.5, 1))
heads, positions, small, bars = bottom.subfigures(1, 4, width_ratios=(1.15, 1.2, 0.65, 0.9))


def first_with(digit):
    """Which image is the first of this digit. (A quick run may have none: then any image.)"""
    found = np.flatnonzero(answers == digit)
    return found[0] if len(found) else digit


examples = [first_with(digit) for digit in range(8)]
most = rolled[examples].max()  # one scale of colours for all


def draw_rollout(row, mass, name):
    for ax, i in zip(row, examples, strict=True):
        draw.overlay(ax, seen[i], mass[i].reshape(7, 7), most=most)
    share = inside.enrichment(mass, ink).mean()
    row[0].set_ylabel(f"{name}\n{share:.2f} x on ink", fontsize=11)


above.suptitle("rollout: how much of each patch reached CLS, all blocks together", fontsize=12)
digits, learned_row, untrained_row = above.subplots(3, 8)
for ax, i in zip(digits, examples, strict=True):
    draw.image(ax, seen[i])
draw_rollout(learned_row, rolled, "learned")
draw_rollout(untrained_row, rolled_untrained[0], "untrained")

ax = deletion.subplots()
lines = {name: (range(50), curve) for name, curve in left.items()}
draw.curves(ax, lines, "patches painted black", "chance of the right answer")
ax.legend(title="first goes what ...", frameon=False, fontsize=9)

heads.suptitle("what CLS asks, block by block and head by head", fontsize=12)
five = examples[5]
axes = heads.subplots(DEPTH, HEADS)
for block in range(DEPTH):
    for head in range(HEADS):
        mass = asked[block, five, head, 1:].reshape(7, 7)
        caption = f"{asked_on_ink[block, head]:.1f} x on ink"
        draw.overlay(axes[block, head], seen[five], mass, caption)
    axes[block, 0].set_ylabel(f"block {block + 1}")

alike = inside.position_similarity(model).reshape(7, 7, 7, 7)
draw.maps(
    positions.subplots(),
    alike,
    "which places are like this one? A map for each of 7 x 7 patches\n"
    f"(rank correlation with nearness {near:.2f})",
)
upper, lower = small.subplots(2, 1)
alike = inside.position_similarity(untrained[0]).reshape(7, 7, 7, 7)
draw.maps(upper, alike, f"the same, untrained ({near_untrained[0]:.2f})")
filters, shares = inside.patch_filters(model, 8)
draw.maps(
    lower,
    filters.reshape(2, 4, PATCH, PATCH),
    f"what the first layer asks of a patch:\n8 components, {100 * shares.sum():.0f} % of it",
    "gray",
)


def draw_bars(ax, scores, shift, name, colour):
    drawn = ax.bar(np.arange(2) + shift, scores, 0.38, label=name, color=colour)
    ax.bar_label(drawn, fmt="%.3f", fontsize=9)


ax = bars.subplots()
draw_bars(ax, in_order, 0.0, "patches in order", draw.LINES[0])
draw_bars(ax, in_disorder, 0.4, "patches shuffled", draw.LINES[1])
ax.set_xticks(np.arange(2) + 0.2, ["knows places", "knows none"])
ax.set_ylabel("accuracy on unseen digits")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
ax.spines[["top", "right"]].set_visible(False)
show.finish(figure)
