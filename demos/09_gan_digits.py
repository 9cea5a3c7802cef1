"""09 · Can a GAN learn to write digits?
python demos/09_gan_digits.py      9 min on two cores

A generator of convolutions learns to write from 4,000 real digits. The picture shows the same 16
noises over training, walks from one noise to another, and for some of its digits the most similar
real ones: it has not copied them. A judge, trained on the real digits, says how far the written
ones are from them. --full stacks three digits: 1,000 kinds, how many are found?
Read first: nn/conv.py, adversarial/networks.py.
Radford et al. 2016 (DCGAN); Goodfellow et al. 2014.
"""

import numpy as np

import tinycv
from tinycv.adversarial import DCGANDiscriminator, DCGANGenerator, fit_gan
from tinycv.data import DataLoader, mnist_5k
from tinycv.optim import Adam, warmup_linear
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.show.metrics import kernel_distance, precision_recall, squared_distances

show = Demo("09_gan_digits", __doc__)
rng = np.random.default_rng(show.seed)
x, y, test, _ = mnist_5k(seed=show.seed)
few = show.choose(quick=256, default=4000)
x, y, test = x[:few], y[:few], test[:few]  # (N, 1, 28, 28), (N,)
judge = judge_of(x, y, epochs=show.choose(quick=1, default=8))  # half a minute the first time

# %% the game: a DCGAN, the non-saturating loss, rates that fall to 0, and an average of the
# generator


def write(generator, z):
    """Images (N, C, S, S) as NumPy arrays, from noise (N, latent)."""
    generator.eval()
    with tinycv.no_grad():
        parts = [
            generator(tinycv.Tensor(part, device=show.device)).numpy()
            for part in np.array_split(z, -(-len(z) // 250))
        ]
    return np.concatenate(parts)


same = rng.normal(size=(16, 64)).astype(np.float32)
many = rng.normal(size=(len(x), 64)).astype(np.float32)
scenes = []  # what is made of the same noises, look by look


def look(generator):
    """Figures by name, for the history."""
    written = write(generator, many)
    scenes.append(write(generator, same))
    precision, recall = precision_recall(judge.features(test), judge.features(written[: len(test)]))
    return {
        "frechet multiple": judge.frechet_multiple(written, x, test),
        "precision": precision,
        "recall": recall,
    }


EPOCHS = show.choose(quick=2, default=60)
LOOKS = show.choose(quick=2, default=6)
WIDTH = show.choose(quick=4, default=32)
tinycv.manual_seed(show.seed)
generator = DCGANGenerator(28, 64, 1, WIDTH)
discriminator = DCGANDiscriminator(28, 1, WIDTH)
ema = EMA(generator, 0.99)
loader = DataLoader(x, batch_size=64, drop_last=True, seed=show.seed)
history = fit_gan(
    generator,
    discriminator,
    Adam(generator.parameters(), 1e-3, (0.0, 0.9)),
    Adam(discriminator.parameters(), 1e-3, (0.0, 0.9)),
    loader,
    EPOCHS,
    ema=ema,
    seed=show.seed,
    schedule=warmup_linear(EPOCHS * len(loader)),
    evaluate=look,
    evaluate_every=max(1, EPOCHS // LOOKS),
    device=show.device,
)
generator.load_state_dict(ema.state_dict())

# %% measure: how far are written digits from real ones?
written = write(generator, many)
end = history.metrics[-1]
seconds = history.seconds
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
real = precision_recall(judge.features(test), judge.features(x[: len(test)]))
show.measured("precision and recall of real digits that the judge learned from", list(real))
show.measured(
    "kernel distance, and that of the training digits",
    [
        kernel_distance(judge.features(written[: len(test)]), judge.features(test)),
        kernel_distance(judge.features(x[: len(test)]), judge.features(test)),
    ],
)
show.measured("seconds to train, with the looks", seconds)


# %% does it copy? the nearest real digit of a written one, and, as a measure, of a held-out real
# one
def flat(images):
    return images.reshape(len(images), -1).astype(np.float64)


def nearest_distance(images):
    """The median distance to the nearest training digit."""
    return float(np.median(squared_distances(flat(images), flat(x)).min(axis=1)) ** 0.5)


nearest = squared_distances(flat(written[:10]), flat(x)).argsort(axis=1)[:, :3]
show.measured(
    "distance to the nearest training digit, in pixels' brightness: written, held-out real "
    "(medians)",
    [nearest_distance(written[: len(test)]), nearest_distance(test)],
    "",
    "written ones no nearer than real ones",
)

# %% draw
figure = draw.figure(
    f"After {seconds:.0f} s of learning, the Frechet distance (a squared one) of written digits to "
    f"unseen ones is {end['frechet multiple']:.1f} times that of real ones",
    13,
    8,
)
left, right = figure.subfigures(1, 2, width_ratios=(1.2, 1))
upper, lower = left.subplots(2, 1, height_ratios=(len(scenes), 4))
draw.tiles(
    upper,
    np.concatenate([scene[:14] for scene in scenes]),
    14,
    "the same noises over training, the last look below",
)
share = np.linspace(0, 1, 14, dtype=np.float32)[:, None]
walks = np.concatenate(
    [(1 - share) * a + share * b for a, b in zip(same[:4], same[4:8], strict=True)]
)
draw.tiles(
    lower,
    write(generator, walks),
    14,
    "walks from one noise (left) to another (right), in equal steps",
)
top, bottom = right.subfigures(2, 1, height_ratios=(1.5, 1))
pairs = [image for i in range(10) for image in (written[i], *x[nearest[i]])]
draw.tiles(
    top.subplots(),
    pairs,
    8,
    "columns 1 and 5: written; beside it, the three nearest real digits: akin, not copied",
)
for ax, names in zip(
    bottom.subplots(1, 2), (["frechet multiple"], ["precision", "recall"]), strict=True
):
    draw.curves(
        ax,
        {
            name: ([m["epoch"] for m in history.metrics], [m[name] for m in history.metrics])
            for name in names
        },
        "epoch",
        "Frechet distance, in multiples of real" if len(names) == 1 else "share",
        log=len(names) == 1,
    )
show.finish(figure)
