"""09 · Can a GAN learn to write digits?
python demos/09_gan_digits.py      9 min on two cores

A generator of convolutions learns to write from 4,000 real digits. The picture shows the same 14
noises over training, walks from one noise to another, and for some of its digits the most similar
real ones: it has not copied them. A judge, trained on the real digits, says how far the written
ones are from them. --full stacks three digits: 1,000 kinds, how many are found?
Read first: tinycv/adversarial/networks.py, recipe.py.
Radford et al. 2016 (DCGAN); Goodfellow et al. 2014.
"""

import numpy as np

import tinycv
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, images_of, train_dcgan
from tinycv.data import DataLoader, mnist_5k
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.show.metrics import kernel_distance, precision_recall, squared_distances

show = Demo("09_gan_digits", __doc__)
EPOCHS = show.choose(quick=2, default=60)
LOOKS = show.choose(quick=2, default=6)
LATENT = 64  # numbers in a noise

# %% Data: digits to learn, and others to compare with
x, y, test, _ = mnist_5k(seed=show.seed)
few = show.choose(quick=256, default=4000)
x, y, test = x[:few], y[:few], test[:few]  # (N, 1, 28, 28), (N,)
loader = DataLoader(x, batch_size=64, drop_last=True, seed=show.seed)

# %% A judge: its features say how far written digits are from real ones
judge = judge_of(x, y, epochs=show.choose(quick=1, default=8))  # half a minute the first time
unseen = judge.features(test)
learned = judge.features(x[: len(test)])

# %% Models: a generator makes an image of noise, a discriminator says how real an image is
width = show.choose(quick=4, default=32)
tinycv.manual_seed(show.seed)
generator = DCGANGenerator(28, LATENT, channels=1, width=width)
discriminator = DCGANDiscriminator(28, channels=1, width=width)

# %% Training: they take turns, as in demo 08, and are looked at from time to time
rng = np.random.default_rng(show.seed)
same_noise = rng.normal(size=(16, LATENT)).astype(np.float32)
many_noises = rng.normal(size=(len(x), LATENT)).astype(np.float32)
scenes = []  # at each look, what is made of the same noise: (16, 1, 28, 28)


def look(generator):
    """Figures by name, for the history."""
    written = images_of(generator, many_noises)
    scenes.append(images_of(generator, same_noise))
    precision, recall = precision_recall(unseen, judge.features(written[: len(test)]))
    return {
        "frechet multiple": judge.frechet_multiple(written, x, test),
        "precision": precision,
        "recall": recall,
    }


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

# %% Measure: how far are written digits from real ones?
written = images_of(generator, many_noises)
end = history.metrics[-1]
show.measured(
    "Frechet distance to held-out digits, as a multiple of the training digits'",
    end["frechet multiple"],
    "1: as good as real ones; in our judge's features, so no paper has this scale",
    "lower is better",
)
show.measured(
    "precision: written digits that look real (k = 3)", end["precision"], "real digits: see below"
)
show.measured("recall: real digits that could have been written", end["recall"])
show.measured(
    "precision and recall of real digits that the judge learned from",
    precision_recall(unseen, learned),
)
show.measured(
    "kernel distance, and that of the training digits",
    [
        kernel_distance(judge.features(written[: len(test)]), unseen),
        kernel_distance(learned, unseen),
    ],
)
show.measured("seconds to train, with the looks", history.seconds)


# %% Measure: does it copy? How far a written digit is from the nearest real one, and, to compare,
# how far a held-out real one is
def squared_to_training(images):
    """The squared distance to each training digit: (N, 4000)."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return squared_distances(flat, x.reshape(len(x), -1).astype(np.float64))


nearest_to_written = squared_to_training(written[: len(test)]).min(axis=1)
nearest_to_real = squared_to_training(test).min(axis=1)
show.measured(
    "distance to the nearest training digit, in pixels' brightness: written, held-out real "
    "(medians)",
    [np.median(nearest_to_written) ** 0.5, np.median(nearest_to_real) ** 0.5],
    "",
    "written ones no nearer than real ones",
)

# %% Walks: from four noises to four others, in equal steps
share = np.linspace(0, 1, 14, dtype=np.float32)[:, None]
walks = []
for start, end_noise in zip(same_noise[:4], same_noise[4:8], strict=True):
    walks.append(images_of(generator, (1 - share) * start + share * end_noise))

# %% Draw: the looks and the walks on the left; the nearest real digits and the figures on the right
figure = draw.figure(
    f"After {history.seconds:.0f} s of learning, the Frechet distance (a squared one) of written "
    f"digits to unseen ones is {end['frechet multiple']:.1f} times that of real ones",
    13,
    8,
)
left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1))
upper, lower = left.subplots(2, 1, height_ratios=(len(scenes), 4))
fourteen = np.concatenate([scene[:14] for scene in scenes])
title = "the same noises over training, the last look below"
draw.tiles(upper, fourteen, columns=14, caption=title)
title = "walks from one noise (left) to another (right), in equal steps"
draw.tiles(lower, np.concatenate(walks), columns=14, caption=title)

beside, below = right.subfigures(2, 1, height_ratios=(1.5, 1))
nearest = squared_to_training(written[:10]).argsort(axis=1)[:, :3]
tiles = []
for image, three in zip(written[:10], nearest, strict=True):
    tiles += [image, *x[three]]
title = "columns 1 and 5: written; beside it, the three nearest real digits"
draw.tiles(beside.subplots(), tiles, columns=8, caption=title)

distance, shares = below.subplots(1, 2)
epochs = [looked["epoch"] for looked in history.metrics]


def over_epochs(name):
    return epochs, [looked[name] for looked in history.metrics]


lines = {"frechet multiple": over_epochs("frechet multiple")}
draw.curves(distance, lines, "epoch", "Frechet distance, in multiples of real", log=True)
lines = {name: over_epochs(name) for name in ("precision", "recall")}
draw.curves(shares, lines, "epoch", "share")
show.finish(figure)
