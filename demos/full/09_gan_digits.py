"""09, the whole protocol: stacked MNIST. Of 1,000 kinds of images, how many does a DCGAN find?

A DCGAN learns images of 14 x 14 pixels that hold three real digits, in red, green and blue. A judge
of digits names each colour of 25,600 generated images. All other figures are in the demo's record.
python demos/09_gan_digits.py --full
"""

import numpy as np

import tinycv
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, images_of, train_dcgan
from tinycv.data import DrawnLoader, halved, mnist_5k, stacked_digits
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.show.metrics import reverse_kl

show = Demo("09_gan_digits", __doc__, full=True)
LATENT = 64
EPOCHS = show.choose(quick=1, full=30)
BATCHES = show.choose(quick=3, full=200)  # per epoch
COUNT = show.choose(quick=100, full=25_600)

# %% Data: three digits drawn at random, half as large, stacked
x, y, _, _ = mnist_5k(seed=show.seed)
count = show.choose(quick=256, full=4000)
small, labels = halved(x[:count]), y[:count]  # (N, 1, 14, 14), (N,)
judge = judge_of(small, labels, epochs=show.choose(quick=1, full=16))


def stacked(n, rng):
    images, _ = stacked_digits(small, labels, n, rng)
    return (images,)


loader = DrawnLoader(stacked, 64, BATCHES, show.seed)

# %% The training of the demo, with three channels and networks twice as wide
tinycv.manual_seed(show.seed)
width = show.choose(quick=4, full=64)
generator = DCGANGenerator(14, LATENT, channels=3, width=width)
discriminator = DCGANDiscriminator(14, channels=3, width=width)
history = train_dcgan(generator, discriminator, loader, EPOCHS, seed=show.seed, device=show.device)

# %% Measure: the number that each image shows, 0 to 999
noise = np.random.default_rng(show.seed).normal(size=(COUNT, LATENT)).astype(np.float32)
images = images_of(generator, noise)  # (N, 3, 14, 14)
digits = judge.labels(images.reshape(-1, 1, 14, 14)).reshape(-1, 3)
counts = np.bincount(digits @ np.array([100, 10, 1]), minlength=1000)
show.measured(
    "stacked digits, 14 x 14: kinds found of 1,000, in 25,600 images",
    (counts > 0).sum(),
    "PacGAN table 2, 28 x 28 or larger: DCGAN 78.9, PacDCGAN2 1000",
    ">= 900",
)
metric = "stacked digits, 14 x 14: reverse KL, nats"
show.measured(metric, reverse_kl(counts), "PacGAN table 2: DCGAN 4.50, PacDCGAN2 0.06", "<= 0.5")
show.measured("stacked digits: seconds to train", history.seconds)

# %% Draw: how often each kind was generated
figure = draw.figure(
    f"Stacked digits: {(counts > 0).sum()} of 1,000 numbers were generated,\n"
    f"the most frequent {counts.max()} times",
    8,
    5,
)
ax = figure.subplots()
ax.axhline(COUNT / 1000, color=draw.INK, linestyle="--", label="evenly")
lines = {"DCGAN": (np.arange(1000), np.sort(counts)[::-1])}
draw.curves(ax, lines, "numbers, the most frequent first", "images")
draw.label_lines(ax)
show.finish(figure)
