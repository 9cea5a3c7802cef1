"""06 · How does a Transformer read a digit?          python demos/06_vit.py      4 min on two cores

A Vision Transformer, written here down to the last derivative, learns 4,000 handwritten digits and
is tested on 1,000 others. A convolutional stem makes its 16 tokens of windows that overlap (Xiao et
al. 2021): it reaches in 30 epochs what a ViT of patches needs 80 for (demos/records). The picture
shows the windows, the loss, and answers right and wrong. --full trains three seeds, cross-validates
on the 8 x 8 digits beside an SVM, and compares how many digits ViTs of both kinds
and a conv net need; if stopped, it goes on where it was (out/06_vit).    --data FOLDER learns your (Fashion-)MNIST.
Read first: tinycv/vision/vit.py, stem.py, recipe.py.
Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".
"""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
from tinycv.vision import ConvNet, ViT, accuracy, probabilities, train_classifier

show = Demo(
    "06_vit",
    __doc__,
    half=True,
    data="folder with the four IDX files of (Fashion-)MNIST, to learn those instead",
)
learn = partial(train_classifier, half=show.half)


def new(kind, seed, **sizes):
    """A network whose first weights are a function of the seed."""
    tinycv.manual_seed(seed)
    return kind(num_classes=10, **sizes).to(show.device)


def kept(name):
    """Where --full keeps a training, to go on from there if it is stopped."""
    return show.out / "06_vit" / f"{name}.safetensors" if show.full else None


# %% train on MNIST's 28 x 28 digits, turned, moved and blended in pairs, each time differently;
# --full: from three seeds
Patches = partial(ViT, image_size=28, patch_size=7, dim=64, depth=4, heads=4)
# one block fewer, as Xiao
Stem = partial(ViT, image_size=28, patch_size=8, dim=64, depth=3, heads=4, stem=(16, 32, 64))
turned = partial(random_affine, degrees=15, translate=0.1, scale=(0.8, 1.2), shear=15)
few, epochs, runs = show.choose(512, None), show.choose(2, 15 if show.data else 30), []
noun = "images" if show.data else "digits"
for seed in range(3) if show.full else [show.seed]:
    # a seed holds out its own 1,000
    x, y, test, labels = idx_folder(show.data) if show.data else mnist_5k(seed=seed)
    x, y, model = x[:few], y[:few], new(Stem, seed)
    history = learn(
        model,
        x,
        y,
        epochs,
        seed=seed,
        transform=turned,
        mix=mixup,
        held_out=(test, labels),
        checkpoint=kept(f"stem, seed {seed}"),
    )
    runs.append((accuracy(model, test, labels), history.seconds))
# of every training, however often it was stopped
spent = [seconds for _, seconds in runs]
scores = [score for score, _ in runs]
show.measured(
    f"accuracy on {len(test):,} unseen {noun}" + (", mean of three seeds" if show.full else ""),
    np.mean(scores),
    "s-chh's from-scratch ViT: MNIST 99.5 %, Fashion-MNIST 92.3 %"
    if show.data
    else "no published figure for these 5,000 digits",
    "MNIST >= 0.985, Fashion-MNIST >= 0.88" if show.data else ">= 0.985",
)
show.measured("seed by seed", scores)
show.measured("seconds of one training", np.mean(spent), "", "<= 720" if show.data else "<= 240")

# %% --full: scikit-learn's 8 x 8 digits, every image tested once
if show.full:
    from sklearn.svm import SVC

    (small, digits), vit, svm = digits_8x8(), [], []
    for fold, (learnt, rest) in enumerate(stratified_folds(digits, folds=5, seed=0)):
        reader = new(ViT, show.seed, image_size=8, patch_size=2, dim=64, depth=4, heads=4)
        spent.append(
            learn(
                reader,
                small[learnt],
                digits[learnt],
                100,
                mix=mixup,
                checkpoint=kept(f"fold {fold}"),
                transform=partial(
                    random_affine, degrees=10, translate=0.06, scale=(0.9, 1.1), shear=5
                ),
            ).seconds
        )
        vit.append(accuracy(reader, small[rest], digits[rest]))
        # the pixels as that example has them, 0 to 16
        flat = 16 * small.reshape(len(small), -1)
        svm.append(
            SVC(gamma=0.001).fit(flat[learnt], digits[learnt]).score(flat[rest], digits[rest])
        )
    show.measured("8 x 8 digits, accuracy in 5-fold cross-validation", np.mean(vit), "", ">= 0.975")
    show.measured(
        "8 x 8 digits, an SVM under the same protocol",
        np.mean(svm),
        "scikit-learn's own example of it: 0.97, trained on one half and tested on the other",
    )

# %% --full: how many digits does it take? As many steps and the same small shifts for all
counts = 250, 500, 1000, 2000, 4000
learners = {
    "ViT of patches": Patches,
    "ViT with a stem": Stem,
    "conv net": partial(ConvNet, image_size=28),
}
known = {name: np.zeros((3, len(counts))) for name in learners}
for name, kind in learners.items() if show.full else ():
    for seed, i in np.ndindex(known[name].shape):
        x, y, unseen, asked = mnist_5k(seed=seed)
        learner, few = new(kind, seed), counts[i]
        spent.append(
            learn(
                learner,
                x[:few],
                y[:few],
                960 // (few // 64),
                seed=seed,
                transform=random_shift,
                checkpoint=kept(f"{name} {few} {seed}"),
            ).seconds
        )
        known[name][seed, i] = accuracy(learner, unseen, asked)
    show.measured(
        f"learnt from {', '.join(map(str, counts))} digits: {name}, mean of three seeds",
        list(known[name].mean(axis=0)),
        "930 to 960 steps each, the same shifts",
    )

# %% draw: the windows, the loss, and what the model says of images that it has never seen
guess, sure = (p := probabilities(model, test)).argmax(axis=1), p.max(axis=1)
wrong = np.flatnonzero(guess != labels)
wrong = wrong[np.argsort(-sure[wrong])][:8]
right = np.concatenate(
    [np.flatnonzero((guess == labels) & (labels == digit))[:1] for digit in range(1, 9)]
)
figure = draw.figure(
    f"A Vision Transformer reads {len(test)} unseen {noun}: {100 * np.mean(scores):.1f} % right",
    15 if show.full else 12,
    7,
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
left, middle = top.subfigures(1, 2, width_ratios=(1, 3.4 if show.full else 2.4))
left.suptitle("what it reads: 16 windows that overlap", fontsize=11)
# every 8 pixels a window of 15 x 15: see stem.py
padded = np.pad(test[labels == 8][0, 0], (7, 4))
windows = sliding_window_view(padded, (15, 15))[::8, ::8]  # (4, 4, 15, 15)
draw.patches(left, windows.swapaxes(1, 2).reshape(1, 60, 60), 15)
loss, curve, *more = middle.subplots(1, 2 + show.full)
losses = np.mean(np.reshape(history.losses, (epochs, -1)), axis=1)
draw.curves(
    loss,
    {"training": (range(1, epochs + 1), losses)},
    "epoch",
    "cross-entropy of blended images, nats",
)
draw.curves(
    curve,
    {"test": ([m["epoch"] for m in history.metrics], [m["accuracy"] for m in history.metrics])},
    "epoch",
    f"accuracy on unseen {noun}",
)
draw.note(curve, f"this training: {scores[-1]:.3f} after {history.seconds:.0f} s", "lower right")
for ax in more:
    draw.curves(
        ax,
        {name: (counts, found.mean(axis=0)) for name, found in known.items()},
        "digits to learn from",
        "accuracy on unseen digits",
    )
    ax.set_xscale("log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
for place, chosen, colour, name in zip(
    bottom.subfigures(2, 1),
    (right, wrong),
    (draw.GOOD, draw.BAD),
    ("right", "wrong, the surest first"),
    strict=True,
):
    place.suptitle(f"{name}:  its answer, how sure it is, (the label)", fontsize=11, color=colour)
    draw.image_grid(
        place,
        test[chosen],
        [f"{guess[i]}   {100 * sure[i]:.0f} %   ({labels[i]})" for i in chosen],
        [colour] * len(chosen),
    )
more = {
    f"accuracy of the {name}, seed by number of digits": found.tolist()
    for name, found in known.items()
}
show.finish(figure, **more, seconds=round(sum(spent), 1)) if show.full else show.finish(figure)
