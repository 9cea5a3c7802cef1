"""10 · GAN: what is "man with glasses - man + woman"?
python demos/10_face_arithmetic.py      4 min on one core

Vector arithmetic on faces (人脸的向量运算). A DCGAN learns to make faces from noise, without any
label. A sum of noise vectors is a noise vector again, so it too makes a face: which one? All faces
here are synthetic, drawn by tinycv/data/faces.py with six attributes that are independent. "Woman"
is nothing but long hair and a narrow jaw, "man" short hair and a square jaw. A judge, which learned
from labels, finds vectors whose faces show a concept, and checks the answer. For comparison there
are a random vector of equal length, three ways to find one vector that puts glasses on any face,
and the same sum of pixels, which the judge accepts too, although it lies farther from any face.
--faces FOLDER takes your own faces: photos, and attributes.csv with the columns file,glasses,woman
and, if you like, smile,blond,beard,hat. --pretrained trains nothing: it uses the weights that ship.
Read first: tinycv/adversarial/arithmetic.py, tinycv/data/faces.py.
Radford et al. 2016 (DCGAN), section 6.3.2.
"""

from itertools import product

import numpy as np

import tinycv
from tinycv import nn
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, fit_gan, images_of
from tinycv.adversarial.arithmetic import (
    arithmetic,
    concepts_of_triples,
    count_shown,
    difference_of_means,
    judge_gradient,
    linear_classifier,
    linear_path,
    neighbours,
    pick,
    random_direction,
    regression_direction,
    score,
    spherical_path,
)
from tinycv.adversarial.gan import HINGE
from tinycv.data import DataLoader, faces, faces_from_folder
from tinycv.data.faces import BINARY
from tinycv.nn.spectral_norm import spectral_norm
from tinycv.optim import EMA, Adam, warmup_linear
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.metrics import squared_distances
from tinycv.vision import ConvNet, attribute_probabilities, train_attributes

show = Demo(
    "10_face_arithmetic",
    __doc__,
    pretrained=True,
    faces="folder with at least 100 photos of faces, and attributes.csv (file,glasses,woman,...)",
)
if show.faces and show.pretrained:
    show.refuse("faces", "the weights that ship know drawn faces only; leave --pretrained out")
LATENT = 16  # length of a noise vector
TRIPLES = show.choose(quick=6, default=500)
CONFIDENT = show.choose(quick=0.0, default=0.95)  # the judge's probability of every attribute
rng = np.random.default_rng(show.seed)

# %% Data: faces to learn from, and held-out ones
count = show.choose(quick=64, default=20_000, pretrained=64)  # --pretrained learns from none
held_out = show.choose(quick=32, default=2000)
if show.faces:
    with show.reading("faces"):
        x, attributes = faces_from_folder(show.faces, columns=("glasses", "woman"))
    if len(x) < show.choose(quick=40, default=100):
        show.refuse("faces", f"it has {len(x)} photos; a GAN needs more, at least 100")
    order = rng.permutation(len(x))
    learned, unseen = np.split(order, [len(x) * 4 // 5])
    x, x_test = x[learned], x[unseen]
    test_attributes = {name: values[unseen] for name, values in attributes.items()}
    attributes = {name: values[learned] for name, values in attributes.items()}
    names = tuple(name for name in BINARY if name in attributes)
else:
    x, attributes = faces(count, seed=10 * show.seed)  # (N, 3, 32, 32), and (N,) by name
    x_test, test_attributes = faces(held_out, seed=10 * show.seed + 1)
    names = BINARY
kind = "own faces" if show.faces else "synthetic faces"
glasses, woman = names.index("glasses"), names.index("woman")


def targets(attributes):
    """What the judge learns, (N, A): 0 or 1, and last, for drawn faces, the turn from 0 to 1."""
    columns = [attributes[name] for name in names]
    if "turn" in attributes:
        columns.append((attributes["turn"] + 1) / 2)
    return np.stack(columns, axis=1).astype(np.float32)


# %% A judge, which learns the labels. The GAN never sees them
def noisy(images, rng):
    """Images with noise, of a random strength for each: what a GAN makes is never quite clean."""
    strength = rng.uniform(0, 0.15, (len(images), 1, 1, 1))
    return np.clip(images + strength * rng.normal(size=images.shape), 0, 1).astype(np.float32)


tinycv.manual_seed(show.seed)
JUDGE = {"num_classes": targets(attributes).shape[1], "image_size": 32, "in_channels": 3}
JUDGE |= {"width": 8}
judge = ConvNet(**JUDGE).to(show.device)


def train_judge():
    part = slice(show.choose(quick=64, default=6000))  # enough for it
    train_attributes(
        judge,
        x[part],
        targets(attributes)[part],
        show.choose(quick=1, default=3),
        seed=show.seed,
        transform=noisy,
        device=show.device,
    )


def judged(images):
    """The probability of each attribute with two values: (N, A)."""
    return attribute_probabilities(judge, images)[:, : len(names)]


# %% The GAN: it learns the same faces, without labels
class Centred(nn.Module):
    """Images from -1 to 1, as the paper has them, instead of 0 to 1."""

    def forward(self, x):
        return 2 * x - 1


# With the recipe of demo 09 the discriminator won in trials, and the faces stayed noisy. Spectral
# norm bounds its slope, so it may even learn twice as fast as the generator.
width = show.as_trained(quick=2, default=32)
tinycv.manual_seed(show.seed)
SIZES = {"side": 32, "latent": LATENT, "channels": 3, "width": width}
generator = DCGANGenerator(**SIZES).to(show.device)
discriminator = nn.Sequential(
    Centred(), DCGANDiscriminator(32, channels=3, width=width, batch_norm=False)
)
discriminator = spectral_norm(discriminator)
epochs = show.choose(quick=1, default=3)


def train():
    """Train the judge, then the GAN, whose generator ends with its averaged weights. Returns the
    seconds of the GAN."""
    train_judge()
    loader = DataLoader(x, batch_size=32, drop_last=True, seed=show.seed)
    ema = EMA(generator, decay=0.99)
    history = fit_gan(
        generator,
        discriminator,
        Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9)),
        Adam(discriminator.parameters(), lr=2e-3, betas=(0.0, 0.9)),
        loader,
        epochs,
        game=HINGE,
        ema=ema,
        seed=show.seed,
        schedule=warmup_linear(epochs * len(loader)),
        device=show.device,
    )
    generator.load_state_dict(ema.state_dict())
    return history.seconds


# train(), or with --pretrained the weights that an earlier run of this page has written
seconds = show.trained(
    train, {"generator": generator, "judge": judge}, {"generator": SIZES, "judge": JUDGE}
)

# %% Measure: the judge itself
accuracy = ((judged(x_test) > 0.5) == (targets(test_attributes)[:, : len(names)] > 0.5)).mean(
    axis=0
)
show.measured(
    f"accuracy of the judge on held-out faces: {', '.join(names)}",
    accuracy.tolist(),
    f"{kind}; chance: 0.5",
    ">= 0.99",
)
show.measured("seconds to train the GAN", seconds)

# %% Noise vectors for the equation. The judge says what their faces show
z = rng.normal(size=(show.choose(quick=64, default=15_000), LATENT)).astype(np.float32)
p = judged(images_of(generator, z))  # (N, A)
sure = (np.maximum(p, 1 - p) >= CONFIDENT).all(axis=1)
show.measured(
    f"share of {len(z)} faces in whose attributes the judge is all sure (>= {CONFIDENT:g})",
    sure.mean(),
    "only these are picked as examples of a concept",
)
every = np.array(list(product((0, 1), repeat=len(names))))  # all combinations: (2^A, A)
ENOUGH = 10  # sure faces of a combination, as many as the largest mean needs
how_many = count_shown(p, every, CONFIDENT)  # sure examples of each
show.measured(
    f"share of the {len(every)} combinations of attributes with at least {ENOUGH} such faces",
    (how_many >= ENOUGH).mean(),
    "the other combinations are not used",
)


NOT_SURE = (
    "the judge is sure of fewer than {n} of the GAN's faces for what the equation needs; give more "
    "photos, or train longer"
)


def picked_triples(n, asked=glasses, context=woman):
    """For each of many triples, n noise vectors of each concept, three arrays (T, n, LATENT); and
    the attributes (T, A) that the answer should have. A triple is left out if one of its
    combinations of attributes is so rare that the GAN makes fewer than 10 sure faces of it."""
    concepts = concepts_of_triples(2 * TRIPLES, len(names), asked, context, rng)
    row = 2 ** np.arange(len(names))[::-1]  # a combination as a binary number is its row in every
    counts = [how_many[concept @ row] for concept in concepts]
    there = np.flatnonzero(np.min(counts, axis=0) >= ENOUGH)[:TRIPLES]
    concepts = [concept[there] for concept in concepts]
    if not len(there):
        show.refuse("faces" if show.faces else "seed", NOT_SURE.format(n=ENOUGH))
    vectors = [z[pick(p, concept, n, rng, CONFIDENT)] for concept in concepts]
    return vectors, arithmetic(*concepts)


def scored(noise, expected, asked=glasses):
    """What the judge says about the faces of this noise."""
    return score(judged(images_of(generator, noise)), expected, asked)


# %% Measure: man with glasses - man + woman, for several numbers of vectors per concept
COUNTS = (1, 3, 10)
IN_THE_PAPER = {
    1: "; DCGAN, section 6.3.2: unstable",
    3: "; DCGAN, section 6.3.2: stable",
    10: "",
}
TARGETS = {1: "lower than the mean of 3", 3: ">= 0.88", 10: ">= 0.95"}
by_count = {}
for n in COUNTS:
    vectors, expected = picked_triples(n)
    noise = arithmetic(*(v.mean(axis=1) for v in vectors))
    by_count[n] = found = scored(noise, expected)
    metric = "man with glasses - man + woman, " + (f"mean of {n}" if n > 1 else "one vector each")
    paper = f"{kind}, by the judge" + IN_THE_PAPER[n]
    target = TARGETS[n]
    show.measured(f"{metric}: share of answers with glasses", found.flips, paper, target)
    show.measured(f"{metric}: share of all other attributes kept", found.kept, paper, target)
    show.measured(f"{metric}: share of answers with all others kept", found.all_kept)

# %% Controls, with the mean of three: nothing added, a random vector added, pixels instead of noise
vectors, expected = picked_triples(3)
a, b, c = (v.mean(axis=1) for v in vectors)  # (T, LATENT)
nothing = scored(c, expected)
by_chance = c + random_direction(a - b, rng)
chance = scored(by_chance, expected)
answers = images_of(generator, arithmetic(a, b, c))
sums = len(answers)  # 500


def mean_images(vectors):
    """The mean face of each concept, pixel by pixel, of vectors (T, n, LATENT)."""
    images = images_of(generator, vectors.reshape(-1, LATENT))
    return images.reshape(*vectors.shape[:2], *images.shape[1:]).mean(axis=1)


pixel_answers = np.clip(arithmetic(*(mean_images(v) for v in vectors)), 0, 1)
pixels = score(judged(pixel_answers), expected, glasses)
show.measured("nothing added: share of answers with glasses", nothing.flips, "", "<= 0.02")
show.measured(
    "a random vector of equal length added: share of answers with glasses",
    chance.flips,
    "the control",
    "<= 0.25",
)
show.measured("pixel arithmetic: share of answers with glasses", pixels.flips, "fools the judge")
show.measured("pixel arithmetic: share of all other attributes kept", pixels.kept)


# %% Measure: pixel arithmetic fools the judge, so ask how far its answers are from any face
BLOCKS = 1 if show.faces else show.choose(quick=1, default=10)
faces_beside = f"{len(x)} training" if show.faces else f"{BLOCKS * held_out:,}"


def distances_to_faces(images):
    """The distance of each image to the nearest of 20,000 faces that no network learned from (with
    own faces: to the nearest of those that the GAN learned from)."""
    flat = images.reshape(len(images), -1)
    nearest = np.full(len(flat), np.inf)
    for block in range(BLOCKS):
        more = x if show.faces else faces(held_out, seed=1_000_000 + 10 * show.seed + block)[0]
        squared = squared_distances(flat, more.reshape(len(more), -1))
        nearest = np.minimum(nearest, squared.min(axis=1))
    return np.sqrt(nearest)


images_of_kinds = {
    "held-out faces": x_test[:TRIPLES],
    "the GAN's faces": images_of(generator, z[:TRIPLES]),
    "arithmetic": answers,
    "pixel arithmetic": pixel_answers,
}
stops = np.cumsum([len(images) for images in images_of_kinds.values()])[:-1]
distances = np.split(distances_to_faces(np.concatenate(list(images_of_kinds.values()))), stops)
medians = {name: np.median(d) for name, d in zip(images_of_kinds, distances, strict=True)}
for name, median in medians.items():
    show.measured(
        f"median distance to the nearest of {faces_beside} faces: {name}",
        median,
        "root of the summed squares over all pixels, each from 0 to 1",
    )

# %% Directions: one vector for glasses, learned from other noise, then added to faces without them
z_other = rng.normal(size=(show.choose(quick=32, default=3000), LATENT)).astype(np.float32)
p_other = attribute_probabilities(judge, images_of(generator, z_other))
has = p_other[:, glasses] > 0.5
if show.quick:  # a few steps of training make no glasses
    has = np.arange(len(has)) % 2 == 0
some = z_other[: show.choose(quick=4, default=500)]
directions = {
    "difference of means": difference_of_means(z_other, has),
    "linear classifier": linear_classifier(z_other, has),
    "judge's gradient": judge_gradient(generator, judge, some, glasses).mean(axis=0),
}
LENGTHS = (0, 1, 2, 3, 4)
without = np.flatnonzero(p[:, glasses] <= 1 - CONFIDENT)[:TRIPLES]
expected = (p[without] > 0.5).astype(int)
expected[:, glasses] = 1
# the control: another random vector for each face
directions["random"] = rng.normal(size=(len(without), LATENT))
along = {}  # by name, the scores at each length
for name, direction in directions.items():
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    along[name] = [scored(z[without] + length * unit, expected) for length in LENGTHS]
    metric = f"{name}, steps of length {', '.join(map(str, LENGTHS))}"
    show.measured(f"{metric}: share with glasses", [found.flips for found in along[name]])
    show.measured(f"{metric}: share of all others kept", [found.kept for found in along[name]])

# %% A turn vector: faces that look right, minus faces that look left (own faces: women minus men)
turned = "woman" if show.faces else "turn"
values = p_other[:, woman] if show.faces else 2 * p_other[:, -1] - 1
order = np.argsort(values)
quarter = len(order) // 4
ends = np.concatenate([order[:quarter], order[-quarter:]])  # looking left, looking right
turn = difference_of_means(z_other[ends], np.arange(2 * quarter) >= quarter)
fitted = regression_direction(z_other, values)
show.measured(
    f"{turned} vector: cosine of the difference of means with the least-squares slope",
    turn @ fitted / np.linalg.norm(turn) / np.linalg.norm(fitted),
)
SHARES = np.linspace(-1, 1, 5)
judged_turn = []
for share in SHARES:
    found = attribute_probabilities(judge, images_of(generator, z[:TRIPLES] + share * turn))
    value = found[:, woman] if show.faces else 2 * found[:, -1] - 1
    judged_turn.append(value.mean())
show.measured(f"{turned}, by the judge, of faces plus -1, -0.5, 0, 0.5, 1 times it", judged_turn)

# %% Draw: the equation, with the three faces of each concept, and the answer with its neighbours
plain = [np.zeros((1, len(names)), int) for _ in range(3)]  # no beard, no hat, ...
plain[0][:, glasses] = plain[2][:, woman] = 1
if min(count_shown(p, concept, CONFIDENT)[0] for concept in plain) < 3:
    show.refuse("faces" if show.faces else "seed", NOT_SURE.format(n=3))
three = [z[pick(p, concept, 3, rng, CONFIDENT)[0]] for concept in plain]  # (3, LATENT) each
answer = arithmetic(*(v.mean(axis=0) for v in three))
around = images_of(generator, np.insert(neighbours(answer, 8, rng), 4, answer, axis=0))
by_pixels = np.clip(arithmetic(*(images_of(generator, v).mean(axis=0) for v in three)), 0, 1)
no_direction = three[2].mean(axis=0) + random_direction(three[0].mean(0) - three[1].mean(0), rng)

best = by_count[3]
figure = draw.figure(
    f"GAN: man with glasses - man + woman wears glasses in {best.flips:.0%} of {sums} sums,\n"
    f"and keeps {best.kept:.0%} of everything else ({kind}, mean of 3 vectors each)",
    9,
    11.4,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.3, 3.2, 2.6))
grid = top.add_gridspec(2, 6, height_ratios=(1, 2.4), width_ratios=(1, 1, 1, 1.9, 1, 1))
for i, (concept, vectors) in enumerate(
    zip(("man, glasses", "- man", "+ woman"), three, strict=True)
):
    ax = top.add_subplot(grid[0, i])
    draw.tiles(ax, images_of(generator, vectors), 3, concept)
    mean = images_of(generator, vectors.mean(axis=0, keepdims=True))
    draw.image(top.add_subplot(grid[1, i]), mean[0], "the mean vector")
draw.tiles(top.add_subplot(grid[:, 3]), around, 3, "= the answer, and\nits 8 neighbours")
draw.image(top.add_subplot(grid[1, 4]), by_pixels, "the same sum\nof pixels")
random_face = images_of(generator, no_direction[None])[0]
draw.image(top.add_subplot(grid[1, 5]), random_face, "woman + a\nrandom vector")


# %% Draw: walks from a face with none of the attributes to one with all but a beard; turned faces
def clearest(concept):
    """The noise whose face shows the concept (A,) most clearly."""
    return z[np.where(concept == 1, p, 1 - p).min(axis=1).argmax()]


walks, turns = middle.subplots(2, 1)
STEPS = 9
rows = {}
first, last = clearest(np.zeros(len(names))), clearest(np.array(names) != "beard")
for name, path in (("line", linear_path), ("arc", spherical_path)):
    rows[name] = images_of(generator, path(first, last, STEPS))
draw.image_rows(walks, rows)
walks.set_title("From one face to another: along a straight line, and along an arc", fontsize=11)
steps = np.linspace(-1, 1, STEPS)[:, None]
rows = {f"face {i + 1}": images_of(generator, z[sure][i] + steps * turn) for i in range(2)}
draw.image_rows(turns, rows, [f"{step:+.2g}" for step in steps[:, 0]])
turns.tick_params(labeltop=False, labelbottom=True)
turns.set_title(f"A face plus these multiples of the {turned} vector", fontsize=11)

# %% Draw: the figures
by_number, far, on_directions = bottom.subplots(1, 3)
draw.curves(
    by_number,
    {
        "glasses": (COUNTS, [found.flips for found in by_count.values()]),
        "others\nkept": (COUNTS, [found.kept for found in by_count.values()]),
        "random\nvector": (COUNTS, [chance.flips] * len(COUNTS)),
    },
    "vectors per concept",
    "share",
)
by_number.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS, ylim=(0, 1.02))
by_number.minorticks_off()
by_number.set_title("A mean is stable", fontsize=11)
colours = [draw.INK, draw.SKY, draw.BLUE, draw.RED]
bars = far.barh(list(medians), list(medians.values()), color=colours)
far.bar_label(bars, fmt="%.1f", padding=2, fontsize=9)
far.spines[["top", "right"]].set_visible(False)
far.margins(x=0.2)
far.invert_yaxis()
far.set(xlabel="distance to the nearest face")
far.set_title("How far from any face?", fontsize=11)
lines = {
    name: ([found.flips for found in scores], [found.kept for found in scores])
    for name, scores in along.items()
}
draw.curves(on_directions, lines, "share with glasses", "share of others kept")
on_directions.set_title("Three ways to one vector", fontsize=11)
show.finish(figure)
