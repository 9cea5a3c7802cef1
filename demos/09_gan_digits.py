"""09 · Can a DCGAN, a GAN of convolutions, learn to write digits?
python demos/09_gan_digits.py      9 min on one core

The generator learns from 4,000 real digits. The picture shows what it makes of the same ten noise
vectors during training, walks from one noise vector to another, and the nearest training digits of
ten samples, which tell whether it copies. A judge (a classifier trained on the real digits)
measures how far the samples are from real digits: Frechet distance, precision and recall.
--full stacks three digits as one colour image: how many of the 1,000 kinds are found?
--pretrained trains nothing: it uses the weights that ship.
Read first: tinycv/adversarial/networks.py, recipe.py.
Radford et al. 2016 (DCGAN); Goodfellow et al. 2014.
"""

import numpy as np

import tinycv
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, images_of, train_dcgan
from tinycv.data import DataLoader, mnist_5k
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import Judge, judge_of
from tinycv.show.metrics import kernel_distance, precision_recall, squared_distances
from tinycv.show.motion import captioned, ink_sheet, save_gif
from tinycv.vision import ConvNet

show = Demo("09_gan_digits", __doc__, pretrained=True)
EPOCHS = show.choose(quick=2, default=60)
LOOKS = show.choose(quick=2, default=6)
LATENT = 64  # length of a noise vector

# %% Data: 4,000 training digits, and held-out digits to compare with
x, y, test, _ = mnist_5k(seed=show.seed)
count = show.choose(quick=256, default=4000)
x, y, test = x[:count], y[:count], test[:count]  # (N, 1, 28, 28), (N,)
loader = DataLoader(x, batch_size=64, drop_last=True, seed=show.seed)

# %% A judge: its features measure how far generated digits are from real ones
JUDGE = {"num_classes": 10, "image_size": 28}
if show.pretrained:
    judge = Judge(ConvNet(**JUDGE))
else:
    judge = judge_of(x, y, epochs=show.choose(quick=1, default=8))  # half a minute the first time

# %% Models: the generator turns noise into an image, the discriminator rates how real an image is
width = show.as_trained(quick=4, default=32)
SIZES = {"side": 28, "latent": LATENT, "channels": 1, "width": width}
tinycv.manual_seed(show.seed)
generator = DCGANGenerator(**SIZES).to(show.device)
discriminator = DCGANDiscriminator(28, channels=1, width=width)

# %% Training: they take turns, as in demo 08, and are evaluated six times
rng = np.random.default_rng(show.seed)
same_noise = rng.normal(size=(40, LATENT)).astype(np.float32)
many_vectors = rng.normal(size=(len(x), LATENT)).astype(np.float32)
snapshots = []  # at each look, what is made of the same noise: (40, 1, 28, 28)


def figures_of(generated):
    """The figures by name, of digits (N, 1, 28, 28)."""
    held_out = judge.features(test)
    precision, recall = precision_recall(held_out, judge.features(generated[: len(test)]))
    return {
        "frechet multiple": float(judge.frechet_multiple(generated, x, test)),
        "precision": float(precision),
        "recall": float(recall),
    }


def look(generator):
    """The figures, which the history keeps."""
    snapshots.append(images_of(generator, same_noise))
    return figures_of(images_of(generator, many_vectors))


def train():
    """Returns the seconds, and the figures at each look."""
    history = train_dcgan(
        generator,
        discriminator,
        loader,
        EPOCHS,
        seed=show.seed,
        evaluate=look,
        evaluate_every=max(1, EPOCHS // LOOKS),
        device=show.device,
    )
    names = "epoch", "frechet multiple", "precision", "recall"
    return {
        "seconds": history.seconds,
        "looks": {name: [looked[name] for looked in history.metrics] for name in names},
    }


# train(), or with --pretrained the weights that an earlier run of this page has written
notes = show.trained(
    train,
    {"generator": generator, "judge": judge.model},
    {"generator": SIZES, "judge": JUDGE},
)
looks = notes["looks"]

# %% Measure: how far are generated digits from real ones?
generated = images_of(generator, many_vectors)
end = figures_of(generated)
held_out = judge.features(test)
learned = judge.features(x[: len(test)])
real_precision, real_recall = precision_recall(held_out, learned)
show.measured(
    "Frechet distance to held-out digits, as a multiple of the training digits'",
    end["frechet multiple"],
    "1: as good as real ones; in our judge's features, so no paper has this scale",
    "lower is better",
)
show.measured(
    "precision: share of generated digits that look real (k = 3)",
    end["precision"],
    f"training digits: {real_precision:.3f}",
)
show.measured(
    "recall: share of real digits that could have been generated (k = 3)",
    end["recall"],
    f"training digits: {real_recall:.3f}",
)
show.measured("precision of the training digits (k = 3)", real_precision)
show.measured("recall of the training digits (k = 3)", real_recall)
real_kernel = kernel_distance(learned, held_out)
show.measured(
    "kernel distance of generated to held-out digits",
    kernel_distance(judge.features(generated[: len(test)]), held_out),
    f"training digits: {real_kernel:.3g}; unbiased, so about 0 for equal distributions",
)
show.measured("kernel distance of training to held-out digits", real_kernel)
show.measured("seconds to train, evaluations included", notes["seconds"])


# %% Measure: does it copy? The distance to the nearest training digit, beside that of held-out
# real digits
def squared_to_training(images):
    """The squared distance to each training digit: (N, 4000)."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return squared_distances(flat, x.reshape(len(x), -1).astype(np.float64))


nearest_to_generated = squared_to_training(generated[: len(test)]).min(axis=1) ** 0.5
nearest_to_real = squared_to_training(test).min(axis=1) ** 0.5
median_of_generated = np.median(nearest_to_generated)
median_of_real = np.median(nearest_to_real)
show.measured(
    "median distance of generated digits to the nearest training digit, in pixel brightness",
    median_of_generated,
    f"held-out real digits: {median_of_real:.2f}; a copy: 0",
    "not below the real digits",
)
show.measured(
    "median distance of held-out real digits to the nearest training digit, in pixel brightness",
    median_of_real,
)

# %% Walks: from three noise vectors to three others, in equal steps
share = np.linspace(0, 1, 10, dtype=np.float32)[:, None]
walks = []
for start, end_noise in zip(same_noise[:3], same_noise[3:6], strict=True):
    walks.append(images_of(generator, (1 - share) * start + share * end_noise))

# %% Draw: training, walks and the nearest real digits; below, the figures over the epochs
figure = draw.figure(
    f"A DCGAN learns to write digits: after {notes['seconds']:.0f} s, their Frechet distance\n"
    f"(a squared one) to held-out digits is {end['frechet multiple']:.1f} times that of real ones",
    7.6,
    11,
)
upper, lower = figure.subfigures(2, 1, height_ratios=(3, 1))
over_time, on_walks, beside = upper.subplots(3, 1, height_ratios=(4, 3, 2.4))
epochs = looks["epoch"]
if show.pretrained:
    digits = np.clip(images_of(generator, same_noise), 0, 1)
    rows = {f"noise {10 * i + 1} to {10 * i + 10}": digits[10 * i :][:10] for i in range(4)}
    about_rows = "Forty noise vectors after training (without --pretrained: on the way)"
else:
    four = np.linspace(0, len(snapshots) - 1, min(4, len(snapshots))).round().astype(int)
    rows = {f"epoch {epochs[i]}": np.clip(snapshots[i][:10], 0, 1) for i in four}
    about_rows = "Each column: the same noise vector during training"
draw.image_rows(over_time, rows)
over_time.set_title(about_rows, fontsize=11)

rows = {f"walk {i}": np.clip(walk, 0, 1) for i, walk in enumerate(walks, 1)}
draw.image_rows(on_walks, rows)
on_walks.set_title("Walks from one noise vector (left) to another (right)", fontsize=11)

nearest = x[squared_to_training(generated[:10]).argmin(axis=1)]
rows = {"generated": np.clip(generated[:10], 0, 1), "nearest\ntraining digit": nearest}
draw.image_rows(beside, rows, [f"{distance:.1f}" for distance in nearest_to_generated[:10]])
beside.tick_params(labeltop=False, labelbottom=True)
beside.set_title("Are they copies?", fontsize=11)
beside.set_xlabel(
    f"distance in pixel brightness; medians: generated digits {median_of_generated:.1f}, "
    f"held-out real digits {median_of_real:.1f}",
    fontsize=10,
)

distance, precision_axes, recall_axes = lower.subplots(1, 3)


def over_epochs(name):
    return epochs, looks[name]


def draw_beside_real(ax, name, y, real, log=False):
    """A figure over the epochs, in blue, and that of real digits, dashed."""
    draw.curves(ax, {"GAN": over_epochs(name)}, "epoch", y, log)
    ax.axhline(real, color=draw.INK, linestyle="--", linewidth=1.2, label="real")
    ax.set_title(f"{end[name]:.2g}  (real digits: {real:.2g})", fontsize=11)


draw_beside_real(distance, "frechet multiple", "squared distance / real", 1, log=True)
distance.set(ylim=(0.8, None), yticks=(1, 3, 10, 30), yticklabels=(1, 3, 10, 30))
distance.minorticks_off()
draw_beside_real(precision_axes, "precision", "precision", real_precision)
draw_beside_real(recall_axes, "recall", "recall", real_recall)
for ax in (precision_axes, recall_axes):
    ax.set_ylim(0, 1)
for ax in (distance, precision_axes, recall_axes):
    draw.label_lines(ax, gap=0.1)
show.finish(figure)

# %% Draw: forty digits during training. With --pretrained there was none
if not show.pretrained:
    frames = []
    for epoch, digits in zip(epochs, snapshots, strict=True):
        text = f"A DCGAN writes digits: {epoch} epochs of {EPOCHS}"
        frames.append(captioned(ink_sheet(digits, columns=10), text, 18))
    path = save_gif(frames, show.out / "09_gan_digits.gif", 0.8, last=3, colours=32)
    print(f"  moving picture: {path}")
