"""22 · How do autoregressive models draw an image, pixel by pixel?
python demos/22_autoregressive.py      2 min on one core

Three kinds of network predict each pixel of a digit from the pixels before it: MADE, an MLP with
masks; PixelCNN, plain and gated; and image GPT, a Transformer that predicts patches of 2 x 2 pixels
as words. Their likelihood is exact, so they can be compared in nats, also with independent pixels
and with a Chow-Liu tree, the best model in which each pixel depends on one other. The picture also
shows the blind spot of the plain PixelCNN, measured by gradients; what happens if its first mask
lets each pixel see itself; completions of half digits; and two orders of the pixels. "MADE, 8
orders" is an ensemble: one network that takes the mean of the probabilities in eight orders, and
trains three times as long. --pretrained trains nothing: it uses the weights that ship.
Read first: tinycv/likelihood/pixel_by_pixel.py, autoregressive.py, pixelcnn.py, image_gpt.py.
Germain et al. 2015 (MADE); van den Oord et al. 2016, 2016b (PixelCNN, gated); Chen et al. 2020.
"""

import numpy as np
from matplotlib.colors import ListedColormap

import tinycv
from tinycv.data import DataLoader, split_digits_8x8
from tinycv.engine.backend import Stopwatch
from tinycv.likelihood.autoregressive import MADE
from tinycv.likelihood.baselines import ChowLiuTree, IndependentPixels
from tinycv.likelihood.image_gpt import ImageGPT
from tinycv.likelihood.pixel_by_pixel import raster_order, receptive_field, spiral_order
from tinycv.likelihood.pixelcnn import GatedPixelCNN, PixelCNN
from tinycv.likelihood.units import binarize
from tinycv.optim import Adam, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import captioned, ink_sheet, save_gif
from tinycv.training.progress import read_loss, say, steps

show = Demo("22_autoregressive", __doc__, pretrained=True)
BATCH = show.choose(quick=16, default=64)
VALIDATION = 200  # the last of the training digits. They chose all settings below

# %% Data: black and white digits. A pixel is 1 if its count is at least 8 of 16
train, _, test, _ = split_digits_8x8()  # (1500, 1, 8, 8), (297, 1, 8, 8)
train, test = binarize(train, 0.5), binarize(test, 0.5)
train = train[: show.choose(quick=250, default=len(train))]


# %% Training: the whole loop, the same for all models
def learn(model, x, total, rate, log_prob=None, look=None, anneal=True):
    """Train for ``total`` steps on x. log_prob(x, step): what to maximise, None for model.log_prob.
    look(step) is called every 100 steps. anneal: let the rate fall to 0 (False: keep it constant).
    """
    model.to(show.device).train()
    optimizer = Adam(model.parameters(), lr=rate)
    schedule = warmup_cosine(total, warmup=max(1, total // 50))
    loader = DataLoader(x, batch_size=BATCH, drop_last=True, seed=show.seed)
    epochs = -(-total // len(loader))  # rounded up
    for step, (images,) in steps(loader, epochs, seed=show.seed, device=show.device):
        if step == total:
            break
        if anneal:
            optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        log_p = model.log_prob(images) if log_prob is None else log_prob(images, step)
        loss = -log_p.mean()
        loss.backward()
        optimizer.step()
        if (step + 1) % max(1, total // 4) == 0:
            say(f"{type(model).__name__} step {step + 1}/{total}  nats {read_loss(loss, step):.4g}")
        if look is not None and (step + 1) % 100 == 0:
            look(step + 1)
    return model.eval()


def nats_of(model, x):
    """The mean of -log p(x), in nats per image."""
    with tinycv.no_grad():
        return float(-model.log_prob(tinycv.Tensor(x, device=show.device)).numpy().mean())


# %% Models. The number of steps and the rate of each were chosen on validation digits
ORDERS = 8  # of the MADE that is trained in many orders
SHARE = show.choose(quick=0.002, default=1)  # of the steps
width = show.as_trained(quick=8, default=500)
channels = show.as_trained(quick=4, default=32)
gated_channels = show.as_trained(quick=2, default=24)
made = {"shape": 8, "hidden": (width,)}
pixelcnn = {"shape": 8, "width": channels, "kernel_size": 3}
gpt = show.as_trained(
    quick={"d_model": 8, "nhead": 2, "num_layers": 1},
    default={"d_model": 64, "nhead": 4, "num_layers": 2},
)
SIZES = {
    "PixelCNN": pixelcnn | {"depth": 4},
    "gated PixelCNN": {"shape": 8, "width": gated_channels, "depth": 4},
    "MADE": made,
    "MADE, spiral": made | {"order": spiral_order(8).tolist()},
    "MADE, 8 orders": made | {"masks": ORDERS, "agnostic": True},
    "image GPT": {"shape": 8, "patch": 2, "dropout": 0.1, **gpt},
    "first mask B": pixelcnn | {"depth": 1, "first_mask": "B"},  # a mistake, see below
}
RECIPES = {  # name: (kind, steps, rate)
    "PixelCNN": (PixelCNN, 1200, 5e-3),
    "gated PixelCNN": (GatedPixelCNN, 600, 5e-3),
    "MADE": (MADE, 2000, 3e-3),
    "MADE, spiral": (MADE, 2000, 3e-3),
    "MADE, 8 orders": (MADE, 6000, 3e-3),
    "image GPT": (ImageGPT, 900, 3e-3),
    "first mask B": (PixelCNN, 300, 5e-3),
}
models = {}
for name, (kind, _, _) in RECIPES.items():
    tinycv.manual_seed(show.seed)
    models[name] = kind(**SIZES[name]).to(show.device)


def learn_by_recipe(name):
    """Train the model of this name. Returns the seconds."""
    model = models[name]
    _, total, rate = RECIPES[name]

    def in_turn(images, step):  # the sets of masks of MADE take turns
        return model.log_prob(images, which=step % model.masks)

    several = getattr(model, "masks", 1) > 1
    tinycv.manual_seed(show.seed)
    with Stopwatch(show.device) as watch:
        learn(model, train, max(4, int(SHARE * total)), rate, in_turn if several else None)
    return watch.seconds


def overfit():
    """Without early stopping a MADE memorises the training digits. Returns (step, nats) by set."""
    curve = {"training digits": [], "validation digits": []}
    kept, left_out = train[:-VALIDATION], train[-VALIDATION:]
    tinycv.manual_seed(show.seed)
    overfitting = MADE(8, (width,))

    def note_nats(step):
        for name, digits in zip(curve, (kept, left_out), strict=True):
            curve[name].append((step, nats_of(overfitting, digits)))

    total = show.choose(quick=100, default=4000)
    learn(overfitting, kept, total, 3e-3, look=note_nats, anneal=False)
    return curve


def train_all():
    return {"seconds": {name: learn_by_recipe(name) for name in models}, "overfitting": overfit()}


# train_all(), or with --pretrained the weights that an earlier run of this page has written
notes = show.trained(train_all, models, SIZES)
seconds = notes["seconds"]
leaking = models.pop("first mask B")

# %% Measure: nats of unseen digits, beside those of two models without a network
FLOORS = {"independent pixels": IndependentPixels, "Chow-Liu tree": ChowLiuTree}
table = {}  # name: (nats of training digits, nats of test digits)
for name, kind in FLOORS.items():
    model = kind(train)
    table[name] = tuple(-model.log_prob(x).mean() for x in (train, test))
for name, model in models.items():
    table[name] = nats_of(model, train), nats_of(model, test)
tree = table["Chow-Liu tree"][1]
for name, (of_train, of_test) in table.items():
    reference = "an exact model" if name in FLOORS else f"training digits: {of_train:.2f}"
    show.measured(
        f"{name}: nats of test digits", of_test, reference, "" if name in FLOORS else "< 20.79"
    )
for name in models:
    show.measured(f"{name}: training nats minus test nats", table[name][0] - table[name][1])
    show.measured(f"{name}: seconds to train", seconds[name])

# %% Measure: without early stopping a MADE memorises the training digits
curves = {name: tuple(np.array(points).T) for name, points in notes["overfitting"].items()}
steps_of_best = curves["validation digits"][0][curves["validation digits"][1].argmin()]
show.measured("MADE at a constant rate: steps to its best validation nats", steps_of_best)

# %% Measure: a first mask of type B lets each pixel see itself, which is a mistake
leaked = nats_of(leaking, test)
show.measured("first mask of type B: 'nats' of test digits", leaked, "no likelihood", "<= 0.1")

# %% The blind spot: the gradient of one prediction with respect to all pixels
ROW, COLUMN = 5, 3
before = np.arange(64).reshape(8, 8) < 8 * ROW + COLUMN  # all pixels that come earlier
fields = {}
for name in ("PixelCNN", "gated PixelCNN"):
    fields[name] = receptive_field(models[name], ROW, COLUMN)
blind = {name: int((before & (field == 0)).sum()) for name, field in fields.items()}
for name, count in blind.items():
    show.measured(
        f"{name}: earlier pixels that a pixel does not see",
        count,
        f"of {before.sum()}",
        "<= 0" if name == "gated PixelCNN" else ">= 1",
    )

# %% Draw pixels: ten digits from each model, and completions of the upper halves of test digits
tinycv.manual_seed(show.seed)
drawn = {"test digits": test[:10]}
for name, model in {**models, "first mask B": leaking}.items():
    drawn[name] = model.sample(10).numpy()
known = np.arange(8)[:, None] < np.full(8, 4)  # the upper half
halves = np.where(known, test[10:20], 0.5)
completed = {"given": halves}
upper = tinycv.Tensor(test[10:20], device=show.device)
for i in range(3):
    completed[f"image GPT {i + 1}"] = models["image GPT"].sample(10, upper, known).numpy()
completed["in truth"] = test[10:20]

# %% Measure: how much time the cache of keys and values saves, for images of 28 x 28 pixels, that
# is 196 words
large = ImageGPT(show.choose(quick=4, default=28), 2, d_model=64, nhead=4).to(show.device).eval()
sampling = {}
for cached in (True, False):
    with Stopwatch(show.device) as watch:
        large.sample(10, cached=cached)
    sampling[cached] = watch.seconds
show.measured("image GPT, 196 words: seconds for 10 samples, with the cache", sampling[True])
show.measured("image GPT, 196 words: seconds for 10 samples, without", sampling[False])

# %% Which pixels cost most: the mean of -log p of each pixel, in two orders
pixel_nats = {}
for name in ("MADE", "MADE, spiral"):
    with tinycv.no_grad():
        of_pixels = models[name].pixel_log_probs(tinycv.Tensor(test, device=show.device))
    pixel_nats[name] = -of_pixels.numpy().mean(axis=0).reshape(8, 8)

# %% Draw: nats and overfitting above, samples and completions, then blind spots and orders
best = "MADE, 8 orders"  # on validation digits: 16.25 nats, image GPT 16.64, MADE 16.66
figure = draw.figure(
    f"Predicting a digit pixel by pixel: MADE in {ORDERS} orders needs {table[best][1]:.1f} nats\n"
    f"for an unseen one, a Chow-Liu tree {tree:.1f}, independent pixels "
    f"{table['independent pixels'][1]:.1f} (8 x 8, black and white)",
    10.5,
    11.5,
)
upper_part, middle, lower = figure.subfigures(3, 1, height_ratios=(1.1, 1.25, 0.95))
nats_axes, over_steps = upper_part.subplots(1, 2, width_ratios=(1.5, 1))
names = list(table)
of_train, of_test = np.array(list(table.values())).T
rows = np.arange(len(names))
nats_axes.hlines(rows, of_train, of_test, color=draw.PALE, linewidth=5)
nats_axes.plot(of_train, rows, "o", color=draw.SKY, markersize=9, label="training digits")
nats_axes.plot(of_test, rows, "o", color=draw.BLUE, markersize=9, label="test digits")
for row, value in zip(rows, of_test, strict=True):
    nats_axes.text(value + 0.3, row, f"{value:.2f}", va="center", fontsize=9)
nats_axes.axvline(tree, color=draw.INK, linestyle="--", linewidth=1)
nats_axes.set_yticks(rows, names, fontsize=10)
nats_axes.invert_yaxis()
nats_axes.set(
    xlim=(of_train.min() - 0.6, 1.08 * of_test.max()), xlabel="nats per digit (less is better)"
)
nats_axes.legend(loc="lower right", fontsize=9, frameon=False)
nats_axes.spines[["top", "right"]].set_visible(False)
nats_axes.set_title("Exact likelihood, in nats", fontsize=11)
draw.curves(over_steps, curves, "steps at a constant rate", "nats per digit")
over_steps.axvline(steps_of_best, color=draw.INK, linestyle=":", linewidth=1)
over_steps.set_title(f"MADE: after {steps_of_best:.0f} steps it overfits", fontsize=11)

samples, completions = middle.subplots(1, 2, width_ratios=(1.05, 1))
draw.image_rows(samples, drawn)
samples.set_title("Ten digits drawn from each model", fontsize=11)
draw.image_rows(completions, completed)
completions.set_title("The upper half is given, image GPT draws the lower", fontsize=11)

panels = lower.subplots(1, 4)
colours = ListedColormap([draw.PALE, draw.BLUE, draw.RED, draw.INK])
for ax, (name, field) in zip(panels[:2], fields.items(), strict=True):
    kind = np.where(before, np.where(field > 0, 1, 2), 0)
    kind[ROW, COLUMN] = 3
    ax.imshow(kind, cmap=colours, vmin=0, vmax=3)
    ax.set_title(f"{name}: {blind[name]} earlier\npixels are not seen (red)", fontsize=11)
    ax.set_xlabel("black: the predicted pixel", fontsize=9)
brightest = max(nats.max() for nats in pixel_nats.values())
for ax, name, order in zip(panels[2:], pixel_nats, (raster_order(8), spiral_order(8)), strict=True):
    ax.imshow(pixel_nats[name], cmap="Blues", vmin=0, vmax=brightest)
    down, across = np.divmod(order, 8)
    ax.plot(across, down, color=draw.RED, linewidth=0.8)
    ax.plot(across[0], down[0], "o", color=draw.RED, markersize=4)
    ax.set_title(f"{name}: {pixel_nats[name].sum():.2f} nats,\nby pixel (dark: many)", fontsize=11)
    ax.set_xlabel("red: the order of the pixels", fontsize=9)
for ax in panels:
    ax.set(xticks=[], yticks=[])
show.finish(figure)

# %% Draw: forty digits appear pixel by pixel, in both orders
tinycv.manual_seed(show.seed)
NOT_YET = 0.3  # grey, for pixels that are not drawn yet
digits = {name: models[name].sample(20).numpy() for name in ("MADE", "MADE, spiral")}
frames = []
for count in range(0, 65, 2):
    sheets = []
    for name, images in digits.items():
        is_drawn = np.isin(np.arange(64), models[name].order[:count]).reshape(8, 8)
        framed = np.pad(
            np.where(is_drawn, images, NOT_YET),
            ((0, 0), (0, 0), (1, 1), (1, 1)),
            constant_values=0.6,
        )
        sheets.append(ink_sheet(framed, columns=5, scale=5))
    gap = np.full((len(sheets[0]), 12, 3), 255, np.uint8)
    sheet = np.concatenate([sheets[0], gap, sheets[1]], axis=1)
    frames.append(
        captioned(sheet, f"left: row by row; right: in a spiral. {count} of 64 pixels", 16)
    )
path = save_gif(frames, show.out / "22_autoregressive.gif", 0.12, colours=16)
print(f"  moving picture: {path}")
