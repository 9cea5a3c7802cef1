"""09, the whole protocol: three digits stacked as colours are 1,000 kinds; how many are found?

A DCGAN learns images of 14 x 14 with three real digits in red, green and blue; a judge of digits
names each colour of 25,600 written images. The rest of the table is the demo's own record.
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
few = show.choose(quick=256, full=4000)
small, labels = halved(x[:few]), y[:few]  # (N, 1, 14, 14), (N,)
judge = judge_of(small, labels, epochs=show.choose(quick=1, full=16))


def stacked(n, rng):
    images, _ = stacked_digits(small, labels, n, rng)
    return (images,)


loader = DrawnLoader(stacked, 64, BATCHES, show.seed)

# %% The demo's game, with three channels and twice its width
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
    "stacked digits, 14 x 14: kinds found of 1,000, in 25,600",
    (counts > 0).sum(),
    "PacGAN table 2, 28 x 28 or larger: DCGAN 78.9, PacDCGAN2 1000",
    ">= 900",
)
metric = "stacked digits, 14 x 14: reverse KL, nats"
show.measured(metric, reverse_kl(counts), "the same: 4.50, 0.06", "<= 0.5")
show.measured("stacked digits: seconds to train", history.seconds)

# %% Draw: how often each kind was written
figure = draw.figure("Stacked digits: how often each of 1,000 numbers was written", 9, 5)
ax = figure.subplots()
lines = {"written": (np.arange(1000), np.sort(counts)[::-1])}
draw.curves(ax, lines, "numbers, the most frequent first", "images")
ax.axhline(COUNT / 1000, color=draw.INK, linestyle=":")
show.finish(figure)
