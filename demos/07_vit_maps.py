"""07 · What does a ViT look at, and does it matter?
python demos/07_vit_maps.py      10 min on two cores

A small ViT learns 4,000 digits, each cut into 49 patches, and is opened: where CLS looks, block by
block and head by head; what flowed to it in all (rollout); what it has learned of places, which
nobody told it; what its first layer asks of a patch. Beside every figure stands its control: ViTs
that have learned nothing, patches painted over in a random order. Painting over what the map names
first hurts about as much as painting over the most ink (chance left: 0.1692, 0.1746). Read first:
tinycv/vision/inside.py.  Abnar & Zuidema 2020; Dosovitskiy et al. 2021, figures 6, 7; Petsiuk et
al. 2018.
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
x, y, test, labels = (a[: show.choose(200, None)] for a in mnist_5k(seed=show.seed))


def new(seed=show.seed, **options):
    tinycv.manual_seed(seed)
    return ViT(image_size=28, patch_size=4, num_classes=10, dim=48, depth=4, heads=4, **options)


def learn(model):
    """All learn from the same digits, in as many steps. Moved by up to 6 pixels, so that ink falls
    on every patch."""
    train_classifier(
        model.to(show.device),
        x,
        y,
        show.choose(1, 20),
        seed=show.seed,
        batch_size=32,
        transform=partial(random_shift, pixels=6),
    )


# %% train: one that is read at CLS, one read at the mean of its patches, one that is not told where
# a patch stands
model, by_mean, placeless = new(), new(pool="mean"), new()
# a constant now: there is nothing to learn
placeless.pos_embed = tinycv.zeros(*model.pos_embed.shape)
for each in (model, by_mean, placeless):
    learn(each)
blanks = [new(show.seed + i).to(show.device).eval() for i in range(1, 6)]
show.measured("accuracy on unseen digits, read at CLS", accuracy(model, test, labels))
show.measured(
    "accuracy on unseen digits, read at the mean of all patches", accuracy(by_mean, test, labels)
)

# %% measure: is it the ink that CLS was told of?
count = show.choose(8, 200)
seen, ink, answers = test[:count], test[:count, 0] > 0.5, labels[:count]
images = tinycv.Tensor(seen, device=show.device)
with tinycv.no_grad():
    maps = model.attention_maps(images)
    rolled, rolled_mean = inside.patch_rollout(model, images), inside.patch_rollout(by_mean, images)
    blank = [inside.patch_rollout(each, images) for each in blanks]
on = inside.enrichment
show.measured(
    "rollout: its share on ink, over ink's share of the image", on(rolled, ink).mean(), "", ">= 1.5"
)
show.measured(
    "the same of five untrained ViTs", np.mean([on(each, ink) for each in blank]), "", "about 1"
)
show.measured("the same where the mean is read, not CLS", on(rolled_mean, ink).mean())
asked = inside.cls_attention(maps)  # (L, B, H, T)
on_ink = [[on(head[:, 1:], ink).mean() for head in block.swapaxes(0, 1)] for block in asked]
show.measured(
    "what CLS asks, by block: share on ink over ink's share", [np.mean(heads) for heads in on_ink]
)
far, even = (
    inside.attention_distance(m, model.patch_size).mean(axis=1) for m in (maps, [0 * maps[0] + 1])
)
show.measured(
    "how far patches look, by block, in pixels",
    list(far),
    f"a look at all patches alike: {even[0]:.1f}",
)

# %% measure: does it matter? Paint patches black, one after the other, and ask again
chance = np.random.default_rng(show.seed)
orders = {
    "rollout says most": rolled,
    "most ink": patchify(seen * ink[:, None], 4).sum(axis=2),
    "an untrained ViT's rollout says": blank[0],
    "at random": chance.random(rolled.shape),
}
left = {
    name: inside.deletion_curve(
        partial(probabilities, model), seen, answers, np.argsort(-by, axis=1, kind="stable")
    )
    for name, by in orders.items()
}
for name, curve in left.items():
    show.measured(
        f"chance of the right answer, mean while patches go, first: {name}",
        curve.mean(),
        "",
        "less than at random" if name == "rollout says most" else "",
    )

# %% measure: has it learned where patches lie, and does it need that?
show.measured(
    "positions: Spearman of their likeness with nearness",
    inside.nearness_learned(model),
    "",
    ">= 0.5",
)
show.measured(
    "the same of five untrained ViTs",
    np.mean([inside.nearness_learned(each) for each in blanks]),
    "",
    "about 0",
)
order = chance.random((len(test), 49)).argsort(axis=1)[:, :, None]  # another for each image
jumbled = unpatchify(np.take_along_axis(patchify(test, 4), order, axis=1), 4, test.shape)
places = {"knows places": model, "knows none": placeless}
in_order, in_none = (
    [accuracy(each, of, labels) for each in places.values()] for of in (test, jumbled)
)
show.measured("accuracy, patches in order: with positions, without", in_order)
show.measured("accuracy, patches shuffled: with positions, without", in_none)

# %% draw
figure = draw.figure(
    "What a ViT looks at in a digit: painting that over hurts, as much as painting over ink", 16, 11
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
above, deletion = top.subfigures(1, 2, width_ratios=(1.5, 1))
first = [
    int(np.flatnonzero(answers == digit)[0]) if (answers == digit).any() else digit
    for digit in range(8)
]
above.suptitle("rollout: how much of each patch reached CLS, all blocks together", fontsize=12)
digits, *rows = above.subplots(3, 8)
for ax, i in zip(digits, first, strict=True):
    draw.image(ax, seen[i])
for row, name, mass in zip(rows, ("learned", "untrained"), (rolled, blank[0]), strict=True):
    for ax, i in zip(row, first, strict=True):
        draw.overlay(ax, seen[i], mass[i].reshape(7, 7), most=rolled[first].max())
    row[0].set_ylabel(f"{name}\n{on(mass, ink).mean():.2f} x on ink", fontsize=11)
draw.curves(
    ax := deletion.subplots(),
    {name: (range(50), curve) for name, curve in left.items()},
    "patches painted black",
    "chance of the right answer",
)
ax.legend(title="first goes what ...", frameon=False, fontsize=9)
heads, positions, small, bars = bottom.subfigures(1, 4, width_ratios=(1.15, 1.2, 0.65, 0.9))
heads.suptitle("what CLS asks, block by block and head by head", fontsize=12)
five = first[5]
for block, row in enumerate(heads.subplots(4, 4)):
    for head, ax in enumerate(row):
        draw.overlay(
            ax,
            seen[five],
            asked[block, five, head, 1:].reshape(7, 7),
            f"{on_ink[block][head]:.1f} x on ink",
        )
    row[0].set_ylabel(f"block {block + 1}")
alike, blank_alike = (
    inside.position_similarity(each).reshape(7, 7, 7, 7) for each in (model, blanks[0])
)
draw.maps(
    positions.subplots(),
    alike,
    "which places are like this one? A map for each of 7 x 7 patches\n"
    f"(rank correlation with nearness {inside.nearness_learned(model):.2f})",
)
untrained, filters = small.subplots(2, 1)
draw.maps(untrained, blank_alike, f"the same, untrained ({inside.nearness_learned(blanks[0]):.2f})")
shapes, shares = inside.patch_filters(model, 8)
draw.maps(
    filters,
    shapes.reshape(2, 4, 4, 4),
    f"what the first layer asks of a patch:\n8 components, {100 * shares.sum():.0f} % of it",
    "gray",
)
ax = bars.subplots()
for i, (name, scores) in enumerate((("patches in order", in_order), ("patches shuffled", in_none))):
    ax.bar_label(
        ax.bar(np.arange(2) + 0.4 * i, scores, 0.38, label=name, color=draw.LINES[i]),
        fmt="%.3f",
        fontsize=9,
    )
ax.set_xticks(np.arange(2) + 0.2, places)
ax.set_ylabel("accuracy on unseen digits")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
ax.spines[["top", "right"]].set_visible(False)
show.finish(figure)
