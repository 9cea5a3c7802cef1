"""17 · How does a digit come out of noise?
python demos/17_diffusion_digits.py      5 min on two cores

Noise is poured over 4,000 digits, and a small U-Net learns to see what was there. Then it is given
noise alone. The picture shows the way there and back, new digits and the nearest real ones, halves
painted anew, and what few steps cost each sampler (DDPM after 20 steps: Frechet multiple
5.7 in one run, 4.8 in another of the same model). --full: up to 1,000 steps.
Read first: tinycv/diffusion/schedule.py, denoising.py, samplers.py, unet.py.
Ho et al. 2020; Song et al. 2021 (DDIM).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DataLoader, mnist_5k
from tinycv.diffusion import UNet
from tinycv.diffusion.denoising import clipped, denoiser, diffusion_loss
from tinycv.diffusion.guidance import guided, without_some
from tinycv.diffusion.inpaint import inpainting
from tinycv.diffusion.samplers import ddim_step, ddpm_step, sample, trajectory
from tinycv.diffusion.schedule import cosine_schedule
from tinycv.engine.backend import Stopwatch
from tinycv.optim import EMA, AdamW, clip_grad_norm_, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.show.metrics import precision_recall, squared_distances
from tinycv.show.motion import save_gif
from tinycv.training import parallel
from tinycv.training.half import Half
from tinycv.training.progress import read_loss, say, steps

show = Demo("17_diffusion_digits", __doc__, half=True)
EPOCHS = show.choose(quick=2, default=50)
RATE = 2e-3
NOBODY = 10  # the label "nobody said"
WALK = show.choose(quick=5, default=50)  # steps of a sampler, where nothing else is said

# %% Data: digits with pixels from -1 to 1
few = show.choose(quick=64, default=4000)
x, y, test, test_y = (part[:few] for part in mnist_5k())  # (N, 1, 28, 28), (N,)
loader = DataLoader(2 * x - 1, y, batch_size=64, drop_last=True, seed=show.seed)

# %% Model: a schedule says how much signal and how much noise there is at each time; a U-Net is
# asked for v, which it tells from the noisy image, the time and the label
schedule = cosine_schedule(1000)
widths = show.choose(quick=(8, 8), default=(32, 64))
model = UNet(1, widths, patch_size=2, num_classes=10).to(show.device)


def loss_of(images, labels):
    """The squared error of v, at random times; one label in ten is not told."""
    labels = without_some(labels, NOBODY, 0.1)
    return diffusion_loss(model, images, labels, schedule=schedule, predicts="v")


# %% Training: the whole loop. All cores share a batch, except where a GPU or float16 computes
all_cores = show.device == "cpu" and not show.half
group = parallel.threads() if all_cores else None
adam = partial(AdamW, lr=RATE, weight_decay=0.0)
optimizer = Half(model, adam) if show.half else adam(model.parameters())
rate = warmup_cosine(EPOCHS * len(loader), warmup=50)
ema = EMA(model, decay=0.998)
with Stopwatch(show.device) as watch:
    for step, (images, labels) in steps(loader, EPOCHS, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = RATE * rate(step)
        optimizer.zero_grad()
        if all_cores:
            loss = group.backward(loss_of, images, labels)
        else:
            loss = loss_of(images, labels)
            optimizer.backward(loss)  # loss.backward(); in float16 the loss is scaled first
        clip_grad_norm_(optimizer.parameters(), 1.0)
        optimizer.step()
        ema.update()
        if (step + 1) % len(loader) == 0:
            epoch = (step + 1) // len(loader)
            say(f"epoch {epoch}/{EPOCHS}  loss {read_loss(loss, step):.4f}")
model.load_state_dict(ema.state_dict())


# %% Sampling: from noise, step by step to earlier times, by what the model believes to be there
def believed(labels, w=0.0, most=1.0):
    """D(x, t) for images of these labels, with guidance w; no pixel is beyond ``most``."""
    return clipped(guided(denoiser(model, schedule, "v"), labels, NOBODY, w), -most, most)


def noise(count):
    return tinycv.randn(count, 1, 28, 28, device=show.device)


def to_pixels(images):
    """From the model's range to pictures: NumPy, 0 to 1."""
    return images.numpy() / 2 + 0.5


def generated(labels, count, w=0.0, most=1.0, one_step=ddim_step):
    """Digits of these labels after so many steps, from the same noise whatever else is asked:
    (N, 1, 28, 28). They are made in two halves, which need half the memory."""

    def walk(x, labels):
        step = partial(one_step, believed(labels, w, most), schedule)
        return sample(step, x, schedule.times(count))

    tinycv.manual_seed(show.seed)
    halves = [Tensor(part, device=show.device) for part in np.array_split(labels, 2)]
    starts = [noise(len(half)) for half in halves]
    made = []
    for start, half in zip(starts, halves, strict=True):
        x = group.map(walk, start, half) if all_cores else walk(start, half)
        made.append(to_pixels(x))
    return np.concatenate(made)


asked = np.arange(show.choose(quick=20, default=500)) % 10
with tinycv.no_grad():
    digits = generated(asked, WALK, w=1.0)
    plain = generated(asked, WALK)

# %% The same by other samplers, in few steps and in many
SAMPLERS = {
    "DDIM, eta 0": ddim_step,
    "DDIM, eta 1": partial(ddim_step, eta=1.0),
    "DDPM, larger variance": ddpm_step,
}
counts = show.choose(quick=(2, 3), default=(10, 20, 50), full=(10, 20, 50, 100, 1000))
by_sampler = {}  # images after each count of steps
with tinycv.no_grad():
    for name, one_step in SAMPLERS.items():
        by_sampler[name] = []
        for count in counts:
            images = generated(asked, count, most=np.inf, one_step=one_step)
            by_sampler[name].append(images)


# %% On the way: x at each time, and the image that the model believes to be in it
@dataclass
class Moment:
    t: int
    x: np.ndarray  # (10, 1, 28, 28)
    x0: np.ndarray  # the same: what is believed to be in x


path = []
with tinycv.no_grad():
    denoise = believed(np.arange(10), w=1.0)
    step = partial(ddim_step, denoise, schedule)
    for t, x_t in trajectory(step, noise(10), schedule.times(2 * WALK)):
        x_0 = denoise(x_t, t) if t else x_t
        path.append(Moment(t, to_pixels(x_t), to_pixels(x_0)))

# %% Inpainting: the upper half is given, the lower half is painted, three times
given = np.repeat(test[:3], 3, axis=0)  # (9, 1, 28, 28)
upper = np.broadcast_to(np.arange(28)[:, None] < 14, given.shape)
with tinycv.no_grad():
    paint = inpainting(
        partial(ddpm_step, believed(np.full(9, NOBODY)), schedule),
        schedule,
        Tensor(2 * given - 1, device=show.device),
        Tensor(upper, device=show.device),
        repeats=5,
    )
    painted = to_pixels(sample(paint, noise(9), schedule.times(WALK)))
if all_cores:
    group.close()

# %% Measure: a judge that learned from the training digits names the new ones, and compares them
# with unseen ones
judge = judge_of(x, y, epochs=show.choose(quick=1, default=8))
n = len(asked)
unseen = judge.features(test[:n])
real = precision_recall(unseen, judge.features(x[:n]))


def measured_names(name, images, labels):
    right = (judge.labels(images) == labels).mean()
    sure = judge.probabilities(images).max(axis=1).mean()
    show.measured(f"{name}: share named as asked; how sure the judge is, on average", [right, sure])


for name, images in {"w = 1": digits, "w = 0": plain}.items():
    measured_names(name, images, asked)
    multiple = judge.frechet_multiple(images, x, test)
    show.measured(f"{name}: Frechet multiple", multiple, "training digits: 1")
    show.measured(
        f"{name}: precision, recall",
        precision_recall(unseen, judge.features(images)),
        "training digits: {:.2f}, {:.2f}".format(*real),
    )
measured_names("real, unseen", test, test_y)

PAPER = {
    "DDIM, eta 0": "13.4, 6.84, 4.67, 4.16, 4.04",
    "DDIM, eta 1": "41.1, 18.4, 8.01, 5.78, 4.73",
    "DDPM, larger variance": "367, 133, 32.7, 9.99, 3.17",
}
multiples = {}
for name, sets in by_sampler.items():
    multiples[name] = [judge.frechet_multiple(images, x, test) for images in sets]
    show.measured(
        f"{name}: Frechet multiple after {', '.join(map(str, counts))} steps",
        multiples[name],
        f"DDIM, table 1, FID on CIFAR-10 after 10, 20, 50, 100, 1000: {PAPER[name]}",
        "the same order",
    )

both = np.concatenate([digits, test]).reshape(-1, 784)
distances = squared_distances(both, x.reshape(-1, 784))  # to each training digit
nearest = distances.min(axis=1) ** 0.5
show.measured(
    "distance to the nearest training digit, by that of real ones",
    np.median(nearest[: len(digits)]) / np.median(nearest[len(digits) :]),
    "",
    "not near 0",
)
show.measured("seconds of training", watch.seconds, target="<= 240")

# %% Draw: there and back, new digits, halves, the nearest real ones, and what few steps cost
figure = draw.figure("Digits come out of noise, and are not those that were learned", 12, 10)
axes = figure.subplot_mosaic(
    [["ways"] * 2, ["new", "halves"], ["beside", "chart"]],
    width_ratios=(1.25, 1),
    height_ratios=(3.1, 3.2, 2),
)
some = path[:: len(path) // 10]
one_noise = noise(1).numpy()[0]
one_digit = 2 * test[0] - 1
there = []
for moment in some[::-1]:
    noisy = schedule.perturb(one_digit, moment.t, one_noise)
    there.append(noisy / 2 + 0.5)
ways = {
    "there:\nt = 0 to 1000": there,
    "back:\nt = 1000 to 0": [moment.x[5] for moment in some],
    "what it believes\nto be in it": [moment.x0[5] for moment in some],
}
draw.image_rows(axes["ways"], ways)
title = "asked for by label, with guidance w = 1"
draw.tiles(axes["new"], digits[:50], columns=10, caption=title)
nearest_ten = x[distances[:10].argmin(axis=1)]
draw.image_rows(axes["beside"], {"new": digits[:10], "nearest of\nthe learned": nearest_ten})

tiles = []
for i in (0, 3, 6):
    tiles += [given[i] * upper[0], *painted[i : i + 3], given[i]]
title = "upper half given, lower half painted, three times; last: the real one"
draw.tiles(axes["halves"], tiles, columns=5, caption=title)

chart = axes["chart"]
lines = {name: (counts, values) for name, values in multiples.items()}
draw.curves(chart, lines, "steps", "Frechet multiple", log=True)
chart.set(xscale="log", xticks=counts, xticklabels=counts)
chart.set(yticks=(1, 2, 5, 10), yticklabels=(1, 2, 5, 10))
chart.minorticks_off()
show.finish(figure)

frames = []
for moment in path[::5]:
    row = np.concatenate(np.clip(moment.x[:, 0], 0, 1), axis=1)
    frames.append(row.repeat(3, axis=0).repeat(3, axis=1))
save_gif(frames, show.out / "17_diffusion_digits.gif", 0.1, colours=16)
