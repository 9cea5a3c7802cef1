"""17 · How does a diffusion model (DDPM, DDIM) turn noise into digits?
python demos/17_diffusion_digits.py      21 min on one core

The forward process adds noise to 4,000 digits, and a small U-Net learns to remove it. Sampling then
starts from pure noise, and classifier-free guidance steers it to the label that was asked for. (The
lecture samples images by Langevin dynamics; this demo runs the diffusion process in reverse.) The
picture shows one digit on its way to noise and another one on its way back, new digits beside the
nearest training digits, lower halves painted by inpainting, and how many steps each sampler needs
(Frechet multiple: Frechet distance to unseen digits, divided by that of the training digits; DDPM
after 20 steps has 4.9 in one run, 4.8 in another training from the same seed).
--full samples with up to 1,000 steps. --pretrained trains nothing: it uses the weights that ship.
Read first: tinycv/diffusion/schedule.py, denoising.py, samplers.py, unet.py.
Ho et al. 2020 (DDPM); Song et al. 2021 (DDIM); Ho & Salimans 2022 (guidance).
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
from tinycv.show.judge import Judge, judge_of
from tinycv.show.metrics import frechet_distance, precision_recall, squared_distances
from tinycv.show.motion import captioned, ink_sheet, save_gif
from tinycv.training import parallel
from tinycv.training.half import Half
from tinycv.training.progress import read_loss, say, steps
from tinycv.vision import ConvNet

show = Demo("17_diffusion_digits", __doc__, half=True, pretrained=True)
EPOCHS = show.choose(quick=2, default=50)
RATE = 2e-3
NO_LABEL = 10  # the eleventh class: "no label given"
WALK = show.choose(quick=5, default=50, pretrained=20)  # sampling steps, unless stated otherwise

# %% Data: digits with pixels from -1 to 1
count = show.choose(quick=64, default=4000)
x, y, test, test_y = (part[:count] for part in mnist_5k())  # (N, 1, 28, 28), (N,)
loader = DataLoader(2 * x - 1, y, batch_size=64, drop_last=True, seed=show.seed)

# %% Model: the schedule sets how much signal and how much noise there is at each time. The U-Net
# predicts v = alpha * noise - sigma * image from the noisy image, the time and the label
schedule = cosine_schedule(1000)
widths = show.as_trained(quick=(8, 8), default=(32, 64))
SIZES = {"channels": 1, "widths": widths, "patch_size": 2, "num_classes": 10}
model = UNet(**SIZES).to(show.device)

# A judge names the digits that are made, and its features compare them with unseen ones: a
# classifier of the training digits
JUDGE = {"num_classes": 10, "image_size": 28}
if show.pretrained:
    judge = Judge(ConvNet(**JUDGE))
else:
    judge = judge_of(x, y, epochs=show.choose(quick=1, default=8))


def loss_of(images, labels):
    """The squared error of v at random times. One label in ten is replaced by NO_LABEL."""
    labels = without_some(labels, NO_LABEL, 0.1)
    return diffusion_loss(model, images, labels, schedule=schedule, predicts="v")


# %% Training: the whole loop. On a CPU all cores share each batch
all_cores = show.device == "cpu" and not show.half
group = parallel.threads() if all_cores else None
adam = partial(AdamW, lr=RATE, weight_decay=0.0)
optimizer = Half(model, adam) if show.half else adam(model.parameters())
rate = warmup_cosine(EPOCHS * len(loader), warmup=50)
ema = EMA(model, decay=0.998)


def train():
    """The model ends with its averaged weights (EMA). Returns the seconds."""
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
    return watch.seconds


# train(), or with --pretrained the weights that an earlier run of this page has written
seconds = show.trained(
    train, {"unet": model, "judge": judge.model}, {"unet": SIZES, "judge": JUDGE}
)


# %% Sampling: from noise, step by step to earlier times, guided by the image the model predicts
def predicted_image(labels, w=0.0, most=1.0):
    """D(x, t), the denoised image for these labels with guidance w, clipped to +-``most``."""
    return clipped(guided(denoiser(model, schedule, "v"), labels, NO_LABEL, w), -most, most)


def noise(count):
    return tinycv.randn(count, 1, 28, 28, device=show.device)


def to_pixels(images):
    """From the model's range, -1 to 1, to pixels from 0 to 1, as NumPy."""
    return images.numpy() / 2 + 0.5


def generated(labels, count, w=0.0, most=1.0, one_step=ddim_step):
    """Digits (N, 1, 28, 28) of these labels after ``count`` steps. Every call starts from the same
    noise, so that samplers can be compared. Sampling in two halves needs half the memory."""

    def walk(x, labels):
        step = partial(one_step, predicted_image(labels, w, most), schedule)
        return sample(step, x, schedule.times(count))

    tinycv.manual_seed(show.seed)
    halves = [Tensor(part, device=show.device) for part in np.array_split(labels, 2)]
    starts = [noise(len(half)) for half in halves]
    made = []
    for start, half in zip(starts, halves, strict=True):
        x = group.map(walk, start, half) if all_cores else walk(start, half)
        made.append(to_pixels(x))
    return np.concatenate(made)


if show.pretrained:
    say("  new digits: 100 in 20 steps. (The run that wrote the weights made 500 in 50 steps.)")
wanted = np.arange(show.choose(quick=20, default=500, pretrained=100)) % 10
with tinycv.no_grad():
    digits = generated(wanted, WALK, w=1.0)
    unguided = generated(wanted, WALK)

# %% The same with other samplers, with few and with many steps
SAMPLERS = {
    "DDIM, eta 0": ddim_step,
    "DDIM, eta 1": partial(ddim_step, eta=1.0),
    "DDPM, larger variance": ddpm_step,
}
counts = show.as_trained(quick=(2, 3), default=(10, 20, 50), full=(10, 20, 50, 100, 1000))
by_sampler = {}  # images after each count of steps
if not show.pretrained:  # it takes minutes
    with tinycv.no_grad():
        for name, one_step in SAMPLERS.items():
            by_sampler[name] = []
            for count in counts:
                images = generated(wanted, count, most=np.inf, one_step=one_step)
                by_sampler[name].append(images)


# %% On the way: four digits of each label at every time, and for the first ten of them the image
# that the model predicts from the noisy one
@dataclass
class Moment:
    t: int
    x: np.ndarray  # (40, 1, 28, 28)
    predicted: np.ndarray  # (10, 1, 28, 28)


path = []
with tinycv.no_grad():
    step = partial(ddim_step, predicted_image(np.arange(40) % 10, w=1.0), schedule)
    denoise = predicted_image(np.arange(10), w=1.0)
    for t, x_t in trajectory(step, noise(40), schedule.times(2 * WALK)):
        x_0 = denoise(x_t[:10], t) if t else x_t[:10]
        path.append(Moment(t, to_pixels(x_t), to_pixels(x_0)))

# %% Inpainting: the upper half is given, and the lower half is sampled three times
given = np.repeat(test[:3], 3, axis=0)  # (9, 1, 28, 28)
upper = np.broadcast_to(np.arange(28)[:, None] < 14, given.shape)
with tinycv.no_grad():
    paint = inpainting(
        partial(ddpm_step, predicted_image(np.full(9, NO_LABEL)), schedule),
        schedule,
        Tensor(2 * given - 1, device=show.device),
        Tensor(upper, device=show.device),
        repeats=5,
    )
    painted = to_pixels(sample(paint, noise(9), schedule.times(WALK)))
if all_cores:
    group.close()

# %% Measure: the judge names the new digits, and its features compare them with unseen ones
n = len(wanted)
unseen = judge.features(test)
real_distance = frechet_distance(judge.features(x[:n]), unseen)


def measure_names(name, images, labels):
    right = (judge.labels(images) == labels).mean()
    sure = judge.probabilities(images).max(axis=1).mean()
    show.measured(f"{name}: share that the judge names as labelled", right)
    show.measured(f"{name}: mean probability that the judge gives to its answer", sure)
    return right


def measure_precision_recall(name, images, reference=("", "")):
    precision, recall = precision_recall(unseen[:n], judge.features(images))
    show.measured(f"{name}: precision", precision, reference[0])
    show.measured(f"{name}: recall", recall, reference[1])
    return f"real digits: {precision:.2f}", f"real digits: {recall:.2f}"


def frechet_multiple(images):
    """The multiple of the training digits' distance, and its standard error.

    The error is a jackknife: the figure is computed again without each tenth of the images.
    """
    features = judge.features(images)
    without_a_tenth = []
    for tenth in np.array_split(np.arange(len(features)), 10):
        rest = np.delete(features, tenth, axis=0)
        without_a_tenth.append(frechet_distance(rest, unseen) / real_distance)
    error = np.std(without_a_tenth) * 9**0.5
    return frechet_distance(features, unseen) / real_distance, error


real_figures = measure_precision_recall("training digits", x[:n])
for name, images in {"guidance w = 1": digits, "no guidance": unguided}.items():
    as_wanted = measure_names(name, images, wanted)
    multiple, error = frechet_multiple(images)
    show.measured(f"{name}: Frechet multiple", multiple, "training digits: 1")
    show.measured(f"{name}: Frechet multiple, standard error", error)
    measure_precision_recall(name, images, real_figures)
    if name == "guidance w = 1":
        named_as_wanted = as_wanted
measure_names("real digits, unseen", test, test_y)

PAPER = {
    "DDIM, eta 0": "13.4, 6.84, 4.67, 4.16, 4.04",
    "DDIM, eta 1": "41.1, 18.4, 8.01, 5.78, 4.73",
    "DDPM, larger variance": "367, 133, 32.7, 9.99, 3.17",
}
multiples = {}
standard_errors = {}
at_steps = f"at {', '.join(map(str, counts))} steps"
for name in SAMPLERS:
    metric = f"{name}: Frechet multiple, {at_steps}"
    of_error = f"standard error of {name}, {at_steps}"
    if show.pretrained:  # as measured by the run that wrote the weights
        multiples[name] = show.pretrained.value(metric)
        standard_errors[name] = show.pretrained.value(of_error)
    else:
        found = [frechet_multiple(images) for images in by_sampler[name]]
        multiples[name] = [multiple for multiple, _ in found]
        standard_errors[name] = [error for _, error in found]
    show.measured(
        metric,
        multiples[name],
        f"DDIM, table 1, FID on CIFAR-10 after 10, 20, 50, 100, 1000: {PAPER[name]}",
        "the same order",
    )
    show.measured(of_error, standard_errors[name])

# %% Measure: does it copy? The distance to the nearest training digit, beside that of unseen digits
both = np.concatenate([digits, test]).reshape(-1, 784)
distances = squared_distances(both, x.reshape(-1, 784))  # to each training digit
nearest = distances.min(axis=1) ** 0.5
median_of_new = np.median(nearest[: len(digits)])
median_of_unseen = np.median(nearest[len(digits) :])
show.measured(
    "distance to the nearest training digit, divided by that of unseen real digits (medians)",
    median_of_new / median_of_unseen,
    "a copy: 0",
    "not near 0",
)
show.measured("seconds of training", seconds, target="<= 240")

# %% Draw: there and back, new digits and the nearest real ones, halves, and the number of steps
figure = draw.figure(
    "A diffusion model turns noise into digits, and the judge reads\n"
    f"{100 * named_as_wanted:.0f} % of them as the label that was asked for",
    7.6,
    9.4,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.9, 2.8, 2.6))
ways_axes, new_axes = top.subplots(), middle.subplots()
halves_axes, chart = bottom.subplots(1, 2, width_ratios=(1.1, 1))
eight = [path[i] for i in np.linspace(0, len(path) - 1, 8).round().astype(int)]
one_noise = noise(1).numpy()[0]
one_digit = 2 * test[0] - 1
there = []
for moment in eight[::-1]:
    noisy = schedule.perturb(one_digit, moment.t, one_noise)
    there.append(noisy / 2 + 0.5)
ways = {
    "noise is\nadded": np.clip(there, 0, 1),
    "sampling:\nback from\nnoise": np.clip([moment.x[5] for moment in eight], 0, 1),
    "the image\nit predicts\nfrom that": np.clip([moment.predicted[5] for moment in eight], 0, 1),
}
draw.image_rows(ways_axes, ways)
ways_axes.set_title(
    "First row: t = 0 (left) to 1000 (right). Below: t = 1000 (left) to 0", fontsize=11
)

nearest_ten = x[distances[:10].argmin(axis=1)]
rows = {
    "new digits": digits[10:20],
    "new digits ": digits[:10],
    "nearest\ntraining digits": nearest_ten,
}
draw.image_rows(new_axes, rows, [f"{distance:.1f}" for distance in nearest[:10]])
new_axes.tick_params(labeltop=False, labelbottom=True)
new_axes.set_title("New digits by label 0 to 9 (guidance w = 1): are they copies?", fontsize=11)
new_axes.set_xlabel(
    f"distance in pixel brightness; median of all {n} new digits {median_of_new:.1f}, "
    f"of unseen real digits {median_of_unseen:.1f}",
    fontsize=10,
)

tiles = []
for i in (0, 3, 6):
    tiles += [given[i] * upper[0], *painted[i : i + 3], given[i]]
draw.tiles(halves_axes, np.clip(tiles, 0, 1), columns=5)
halves_axes.set_title(
    "Inpainting: upper half given, three\nlower halves, the real digit", fontsize=11
)

chart.axhline(1, color=draw.INK, linestyle="--", linewidth=1.2, label="real digits")
lines = {}
for name, values in multiples.items():
    lines[name.removesuffix(", larger variance")] = (counts, values)
draw.curves(chart, lines, "sampling steps", "Frechet multiple", log=True)
for (name, values), colour in zip(multiples.items(), draw.LINES, strict=False):
    chart.errorbar(counts, values, standard_errors[name], fmt="o", color=colour, capsize=4)
chart.set(xscale="log", xticks=counts, xticklabels=counts)
chart.set(yticks=(1, 2, 5, 10), yticklabels=(1, 2, 5, 10))
chart.minorticks_off()
show.finish(figure)


# %% Draw: four digits of each label come out of noise
def frames():
    for i in np.unique(np.linspace(0, len(path) - 1, 21).round().astype(int)):
        text = f"A diffusion model writes digits: t = {path[i].t} of 1000"
        yield captioned(ink_sheet(path[i].x, columns=10), text, 18)


path_of_gif = save_gif(frames(), show.out / "17_diffusion_digits.gif", 0.12, last=4, colours=32)
print(f"  moving picture: {path_of_gif}")
