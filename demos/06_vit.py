"""06 · How does a Transformer read a digit?
python demos/06_vit.py      4 min on two cores

A Vision Transformer, written here down to the last derivative, learns 4,000 handwritten digits and
is tested on 1,000 others. A convolutional stem makes its 16 tokens of windows that overlap (Xiao et
al. 2021): it reaches in 30 epochs what a ViT of patches needs 80 for (demos/records). The picture
shows the windows, the loss, and answers right and wrong. --full trains three seeds, cross-validates
on the 8 x 8 digits beside an SVM, and compares how many digits ViTs of both kinds and a conv
net need; if stopped, it goes on where it was (out/06_vit). --data FOLDER learns your
(Fashion-)MNIST.
Read first: tinycv/vision/vit.py, stem.py, recipe.py.
Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".
"""

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import tinycv
from tinycv.data import DataLoader, idx_folder, mixup, mnist_5k, one_hot, random_affine
from tinycv.engine.backend import Stopwatch
from tinycv.nn.functional import cross_entropy
from tinycv.optim import EMA, AdamW, clip_grad_norm_, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.half import Half
from tinycv.training.progress import read_loss, say, steps
from tinycv.vision import ViT, accuracy, probabilities
from tinycv.vision.recipe import groups

show = Demo(
    "06_vit",
    __doc__,
    half=True,
    data="folder with the four IDX files of (Fashion-)MNIST, to learn those instead",
)
EPOCHS = show.choose(quick=2, default=15 if show.data else 30)
RATE = 1.5e-3

# %% Data: digits turned, moved and blended in pairs, each time differently
if show.data:
    x, y, test, labels = idx_folder(show.data)
else:
    x, y, test, labels = mnist_5k(seed=show.seed)  # (N, 1, 28, 28), (N,)
few = show.choose(quick=512, default=len(x))
loader = DataLoader(
    x[:few],
    one_hot(y[:few], 10),
    batch_size=64,
    seed=show.seed,
    drop_last=True,
    transform=partial(random_affine, degrees=15, translate=0.1, scale=(0.8, 1.2), shear=15),
    mix=mixup,
)
total = EPOCHS * len(loader)

# %% Model: a stem, three encoder blocks (one fewer than with patches, as Xiao et al.), the head
tinycv.manual_seed(show.seed)
model = ViT(
    image_size=28,
    patch_size=8,
    num_classes=10,
    dim=64,
    depth=3,
    heads=4,
    stem=(16, 32, 64),
).to(show.device)


def adam(named):
    """Matrices and windows decay; a bias, a norm, CLS or a position does not."""
    return AdamW(groups([weight for _, weight in named], weight_decay=0.05), lr=RATE)


optimizer = Half(model, adam) if show.half else adam(model.named_parameters())
schedule = warmup_cosine(total, warmup=total // 20)
ema = EMA(model, decay=max(0.0, 1 - 12 / total))  # of about the last twelfth of the steps


def test_accuracy():
    """Of the averaged weights."""
    model.eval()
    with ema.applied():
        score = accuracy(model, test, labels)
    model.train()
    return score


# %% Training: the whole loop
losses = []
curve = {}  # accuracy by epoch
with Stopwatch(show.device) as watch:
    for step, (images, chances) in steps(loader, EPOCHS, seed=show.seed, device=show.device):
        for group in optimizer.param_groups:
            group["lr"] = RATE * schedule(step)
        optimizer.zero_grad()
        loss = cross_entropy(model(images), chances, label_smoothing=0.05)
        optimizer.backward(loss)  # loss.backward(); in float16 the loss is scaled first
        clip_grad_norm_(optimizer.parameters(), 1.0)
        optimizer.step()
        ema.update()
        losses.append(loss.detach())
        epoch, rest = divmod(step + 1, len(loader))
        if rest == 0 and (epoch % max(1, EPOCHS // 20) == 0 or epoch == EPOCHS):
            curve[epoch] = test_accuracy()
            said = f"loss {read_loss(loss, step):.4g}  accuracy {curve[epoch]:.4g}"
            say(f"epoch {epoch}/{EPOCHS}  {said}")
model.eval().load_state_dict(ema.state_dict())

# %% Measure
noun = "images" if show.data else "digits"
score = accuracy(model, test, labels)
if show.data:
    published = "s-chh's from-scratch ViT: MNIST 99.5 %, Fashion-MNIST 92.3 %"
    target = "MNIST >= 0.985, Fashion-MNIST >= 0.88"
else:
    published = "no published figure for these 5,000 digits"
    target = ">= 0.985"
show.measured(f"accuracy on {len(test):,} unseen {noun}", score, published, target)
show.measured("seed by seed", [score])
limit = "<= 720" if show.data else "<= 240"
show.measured("seconds of one training", watch.seconds, target=limit)

# %% What it says of images that it has never seen
chances = probabilities(model, test)
guess = chances.argmax(axis=1)
sure = chances.max(axis=1)
missed = np.flatnonzero(guess != labels)
wrong = missed[np.argsort(-sure[missed])][:8]
right = []
for digit in range(1, 9):
    known = np.flatnonzero((guess == labels) & (labels == digit))
    right.extend(known[:1])

# %% Draw: the windows, the loss, and answers right and wrong
figure = draw.figure(
    f"A Vision Transformer reads {len(test)} unseen {noun}: {100 * score:.1f} % right", 12, 7
)
top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
left, middle = top.subfigures(1, 2, width_ratios=(1, 2.4))

left.suptitle("what it reads: 16 windows that overlap", fontsize=11)
padded = np.pad(test[labels == 8][0, 0], (7, 4))
windows = sliding_window_view(padded, (15, 15))[::8, ::8]  # every 8 pixels one: (4, 4, 15, 15)
draw.patches(left, windows.swapaxes(1, 2).reshape(1, 60, 60), 15)

falling, rising = middle.subplots(1, 2)
by_epoch = np.reshape([loss.item() for loss in losses], (EPOCHS, -1)).mean(axis=1)
lines = {"training": (range(1, EPOCHS + 1), by_epoch)}
draw.curves(falling, lines, "epoch", "cross-entropy of blended images, nats")
lines = {"test": (list(curve), list(curve.values()))}
draw.curves(rising, lines, "epoch", f"accuracy on unseen {noun}")
draw.note(rising, f"this training: {score:.3f} after {watch.seconds:.0f} s", "lower right")


def draw_answers(place, chosen, colour, name):
    place.suptitle(f"{name}:  its answer, how sure it is, (the label)", fontsize=11, color=colour)
    captions = [f"{guess[i]}   {100 * sure[i]:.0f} %   ({labels[i]})" for i in chosen]
    draw.image_grid(place, test[chosen], captions, [colour] * len(chosen))


upper, lower = bottom.subfigures(2, 1)
draw_answers(upper, right, draw.GOOD, "right")
draw_answers(lower, wrong, draw.BAD, "wrong, the surest first")
show.finish(figure)
