"""06, the whole protocol: three seeds, cross-validation, and how many digits each network needs.

The training of the demo from three seeds; the 8 x 8 digits in five folds, beside an SVM; and two
kinds of ViT beside a conv net, each learning from 250 to 4,000 digits. Each training is that of the
demo, made by ``train_classifier`` (tinycv/vision/recipe.py), and kept in out/06_vit: if stopped, it
goes on where it was.          python demos/06_vit.py --full
"""

from functools import partial

import numpy as np
from sklearn.svm import SVC

import tinycv
from tinycv.data import (
    digits_8x8,
    idx_folder,
    mixup,
    mnist_5k,
    random_affine,
    random_shift,
    stratified_folds,
)
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.vision import ConvNet, ViT, accuracy, train_classifier

show = Demo(
    "06_vit",
    __doc__,
    half=True,
    full=True,
    data="folder with the four IDX files of (Fashion-)MNIST, to learn those instead",
)
SEEDS = range(show.choose(quick=1, full=3))
PATCHES = {"image_size": 28, "patch_size": 7, "dim": 64, "depth": 4, "heads": 4}
STEM = PATCHES | {"patch_size": 8, "depth": 3, "stem": (16, 32, 64)}

spent = []  # seconds of every training, however often it was stopped


# %% A network whose first weights are a function of the seed, and a training that is kept
def new(kind, seed, **sizes):
    tinycv.manual_seed(seed)
    return kind(num_classes=10, **sizes).to(show.device)


def train(model, x, y, epochs, name, **options):
    """``train_classifier``, which goes on from the file of that name. Returns the seconds."""
    checkpoint = None if show.quick else show.out / "06_vit" / f"{name}.safetensors"
    history = train_classifier(
        model, x, y, epochs, half=show.half, checkpoint=checkpoint, **options
    )
    spent.append(history.seconds)
    return history.seconds


# %% The demo's training, from each seed; a seed holds out its own 1,000 digits
scores = []
seconds = []
for seed in SEEDS:
    x, y, test, labels = idx_folder(show.data) if show.data else mnist_5k(seed=seed)
    few = show.choose(quick=128, full=len(x))
    model = new(ViT, seed, **STEM)
    took = train(
        model,
        x[:few],
        y[:few],
        epochs=show.choose(quick=1, full=15 if show.data else 30),
        name=f"stem, seed {seed}",
        seed=seed,
        transform=partial(random_affine, degrees=15, translate=0.1, scale=(0.8, 1.2), shear=15),
        mix=mixup,
        held_out=(test, labels),
    )
    seconds.append(took)
    scores.append(accuracy(model, test, labels))

noun = "images" if show.data else "digits"
if show.data:
    published = "s-chh's from-scratch ViT: MNIST 99.5 %, Fashion-MNIST 92.3 %"
    target = "MNIST >= 0.985, Fashion-MNIST >= 0.88"
else:
    published = "no published figure for these 5,000 digits"
    target = ">= 0.985"
metric = f"accuracy on {len(test):,} unseen {noun}, mean of three seeds"
show.measured(metric, np.mean(scores), published, target)
show.measured("seed by seed", scores)
limit = "<= 720" if show.data else "<= 240"
show.measured("seconds of one training", np.mean(seconds), target=limit)

# %% scikit-learn's 8 x 8 digits: every image is tested once
images, digits = digits_8x8()
few = show.choose(quick=200, full=len(images))
images, digits = images[:few], digits[:few]
pixels = 16 * images.reshape(len(images), -1)  # as scikit-learn's example has them, 0 to 16
vit = []
svm = []
for fold, (learnt, rest) in enumerate(stratified_folds(digits, folds=5, seed=0)):
    model = new(ViT, show.seed, image_size=8, patch_size=2, dim=64, depth=4, heads=4)
    train(
        model,
        images[learnt],
        digits[learnt],
        epochs=show.choose(quick=1, full=100),
        name=f"fold {fold}",
        transform=partial(random_affine, degrees=10, translate=0.06, scale=(0.9, 1.1), shear=5),
        mix=mixup,
    )
    vit.append(accuracy(model, images[rest], digits[rest]))
    machine = SVC(gamma=0.001).fit(pixels[learnt], digits[learnt])
    svm.append(machine.score(pixels[rest], digits[rest]))
metric = "8 x 8 digits, accuracy in 5-fold cross-validation"
show.measured(metric, np.mean(vit), target=">= 0.975")
show.measured(
    "8 x 8 digits, an SVM under the same protocol",
    np.mean(svm),
    "scikit-learn's own example of it: 0.97, trained on one half and tested on the other",
)

# %% How many digits does it take? As many steps and the same small shifts for all
counts = show.choose(quick=[64, 128], full=[250, 500, 1000, 2000, 4000])
STEPS = show.choose(quick=2, full=960)
asked = show.choose(quick=100, full=1000)
networks = {
    "ViT of patches": partial(new, ViT, **PATCHES),
    "ViT with a stem": partial(new, ViT, **STEM),
    "conv net": partial(new, ConvNet, image_size=28),
}
learnt_by_count = {}
for name, make in networks.items():
    found = np.zeros((len(SEEDS), len(counts)))
    for seed in SEEDS:
        x, y, test, labels = mnist_5k(seed=seed)
        for i, count in enumerate(counts):
            model = make(seed=seed)
            train(
                model,
                x[:count],
                y[:count],
                epochs=STEPS // (count // 64),
                name=f"{name} {count} {seed}",
                seed=seed,
                transform=random_shift,
            )
            found[seed, i] = accuracy(model, test[:asked], labels[:asked])
    learnt_by_count[name] = found
    show.measured(
        f"learnt from {', '.join(map(str, counts))} digits: {name}, mean of three seeds",
        list(found.mean(axis=0)),
        "930 to 960 steps each, the same shifts",
    )

# %% Draw
figure = draw.figure("How many digits does it take? The mean of three seeds", 8, 5)
ax = figure.subplots()
lines = {name: (counts, found.mean(axis=0)) for name, found in learnt_by_count.items()}
draw.curves(ax, lines, "digits to learn from", "accuracy on unseen digits")
ax.set_xscale("log")
ax.set_xticks(counts, counts)
ax.minorticks_off()
more = {
    f"accuracy of the {name}, seed by number of digits": found.tolist()
    for name, found in learnt_by_count.items()
}
show.finish(figure, **more, seconds=round(sum(spent), 1))
