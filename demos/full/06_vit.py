"""06, the whole protocol: three seeds, cross-validation, and how many digits each network needs.

The demo's training from three seeds; the 8 x 8 digits in five folds, beside an SVM; and two kinds
of ViT beside a conv net, each of which learns from 250 to 4,000 digits. ``train_classifier``
(tinycv/vision/recipe.py) trains exactly as the demo does, and saves to out/06_vit, so that a
stopped run continues where it was.          python demos/06_vit.py --full
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

training_seconds = []  # of every training, however often it was stopped


# %% A network whose initial weights depend on the seed only, and a training that is saved
def new(kind, seed, **sizes):
    tinycv.manual_seed(seed)
    return kind(num_classes=10, **sizes).to(show.device)


def train(model, x, y, epochs, name, **options):
    """Runs ``train_classifier``, which continues from the file ``name``. Returns the seconds."""
    checkpoint = None if show.quick else show.out / "06_vit" / f"{name}.safetensors"
    history = train_classifier(
        model, x, y, epochs, half=show.half, checkpoint=checkpoint, **options
    )
    training_seconds.append(history.seconds)
    return history.seconds


# %% The demo's training, from each seed. Each seed has its own 1,000 test digits
scores = []
seconds = []
for seed in SEEDS:
    x, y, test, labels = idx_folder(show.data) if show.data else mnist_5k(seed=seed)
    train_size = show.choose(quick=128, full=len(x))
    model = new(ViT, seed, **STEM)
    took = train(
        model,
        x[:train_size],
        y[:train_size],
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
show.measured(f"accuracy on {len(test):,} unseen {noun}, by seed", scores)
limit = "<= 720" if show.data else "<= 240"
show.measured("seconds of one training, mean", np.mean(seconds), target=limit)

# %% scikit-learn's 8 x 8 digits: every image is tested once
images, digits = digits_8x8()
image_count = show.choose(quick=200, full=len(images))
images = images[:image_count]
digits = digits[:image_count]
pixels = 16 * images.reshape(len(images), -1)  # from 0 to 16, as in scikit-learn's example
vit_scores = []
svm_scores = []
for fold, (train_part, test_part) in enumerate(stratified_folds(digits, folds=5, seed=0)):
    model = new(ViT, show.seed, image_size=8, patch_size=2, dim=64, depth=4, heads=4)
    train(
        model,
        images[train_part],
        digits[train_part],
        epochs=show.choose(quick=1, full=100),
        name=f"fold {fold}",
        transform=partial(random_affine, degrees=10, translate=0.06, scale=(0.9, 1.1), shear=5),
        mix=mixup,
    )
    vit_scores.append(accuracy(model, images[test_part], digits[test_part]))
    machine = SVC(gamma=0.001).fit(pixels[train_part], digits[train_part])
    svm_scores.append(machine.score(pixels[test_part], digits[test_part]))
metric = "8 x 8 digits, accuracy in 5-fold cross-validation"
show.measured(metric, np.mean(vit_scores), target=">= 0.975")
show.measured(
    "8 x 8 digits, an SVM under the same protocol",
    np.mean(svm_scores),
    "scikit-learn's own example of it: 0.97, trained on one half and tested on the other",
)

# %% How many digits does it take? Equally many steps and the same small shifts for all networks
counts = show.choose(quick=[64, 128], full=[250, 500, 1000, 2000, 4000])
STEPS = show.choose(quick=2, full=960)
test_size = show.choose(quick=100, full=1000)
networks = {
    "ViT of patches": partial(new, ViT, **PATCHES),
    "ViT with a stem": partial(new, ViT, **STEM),
    "conv net": partial(new, ConvNet, image_size=28),
}
accuracies = {}  # by name: (seeds, counts)
for name, make in networks.items():
    accuracies[name] = np.zeros((len(SEEDS), len(counts)))
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
            accuracies[name][seed, i] = accuracy(model, test[:test_size], labels[:test_size])
    show.measured(
        f"{name}, mean accuracy of all seeds, trained on digits: {', '.join(map(str, counts))}",
        list(accuracies[name].mean(axis=0)),
        "930 to 960 steps each, the same shifts",
    )

# %% Draw: the mean of all seeds, and a thin line for each
figure = draw.figure(
    "How many digits do ViTs and a conv net need? Three seeds and their mean", 9, 5
)
ax = figure.subplots()
ax.set_xscale("log")
lines = {}
colours = (draw.BLUE, draw.RED, draw.ORANGE)
for (name, found), colour in zip(accuracies.items(), colours, strict=True):
    for of_one_seed in found:
        ax.plot(counts, of_one_seed, color=colour, linewidth=0.8, alpha=0.7)
    lines[name] = (counts, found.mean(axis=0))
draw.curves(ax, lines, "digits in training", "accuracy on unseen digits")
ax.set_xticks(counts, counts)
ax.minorticks_off()
more = {}
for name, found in accuracies.items():
    more[f"accuracy of the {name}, seed by number of digits"] = found.tolist()
show.finish(figure, **more, seconds=round(sum(training_seconds), 1))
