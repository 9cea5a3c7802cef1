"""17 · How does a digit come out of noise?          python demos/17_diffusion_digits.py          5 min on two cores

Noise is poured over 4,000 digits, and a small U-Net learns to see what was there. Then it is given
noise alone. The picture shows the way there and back, new digits and the nearest real ones, halves
painted anew, and what few steps cost each sampler (DDPM after 20 steps: Frechet multiple 5.7 in one
run, 4.8 in another of the same model). --full: up to 1,000 steps.
Read first: tinycv/diffusion/denoising.py, diffusion/samplers.py, diffusion/unet.py.
Ho et al. 2020; Song et al. 2021 (DDIM).
"""

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
from tinycv.optim import AdamW, warmup_cosine
from tinycv.optim.averaged import EMA
from tinycv.show import draw
from tinycv.show import motion as draw_motion
from tinycv.show.demo import Demo
from tinycv.show.judge import judge_of
from tinycv.show.metrics import precision_recall, squared_distances
from tinycv.training import parallel
from tinycv.training.half import Half
from tinycv.training.loop import fit

show = Demo("17_diffusion_digits", __doc__, half=True)
NOBODY = 10  # the label "nobody said"
schedule = cosine_schedule(1000)  # how much is left of an image at each time
cores = None if show.device == "cpu" and not show.half else 1  # None: all of them

# %% data: pixels from -1 to 1; model; training
few, epochs = show.choose((64, 2), (4000, 50))
x, y, test, test_y = (part[:few] for part in mnist_5k())
model = UNet(1, show.choose((8, 8), (32, 64)), patch_size=2, num_classes=10).to(show.device)
loader = DataLoader(2 * x - 1, y, batch_size=64, drop_last=True, seed=show.seed)
adam, ema = partial(AdamW, lr=2e-3, weight_decay=0.0), EMA(model, decay=0.998)
optimizer = Half(model, adam) if show.half else adam(model.parameters())
history = fit(
    model,
    optimizer,
    lambda model, images, labels: diffusion_loss(
        model, images, without_some(labels, NOBODY, 0.1), schedule=schedule, predicts="v"
    ),
    loader,
    epochs,
    clip=1.0,
    ema=ema,
    schedule=warmup_cosine(epochs * len(loader), 50),
    seed=show.seed,
    threads=cores,
    # a second run need not train again
    checkpoint=show.out / f"{show.name}_{few}{'_half' * show.half}.safetensors",
)


# %% what the trained model can be asked for
def believed(labels, w=0.0, most=1.0):
    """D(x, t) for images of these labels, with guidance w; no pixel is believed to be beyond
    ``most``."""
    return clipped(guided(denoiser(model, schedule, "v"), labels, NOBODY, w), -most, most)


def noise(count):
    return tinycv.randn(count, 1, 28, 28, device=show.device)


def seen(images):
    """From the model's range to pictures: NumPy, 0 to 1."""
    return images.numpy() / 2 + 0.5


def generated(labels, steps, w=0.0, most=1.0, kind=ddim_step, **options):
    """Digits of these labels, from the same noise whatever else is asked: (N, 1, 28, 28)."""

    def part(start, labels):
        return sample(
            partial(kind, believed(labels, w, most), schedule, **options),
            start,
            schedule.times(steps),
        )

    tinycv.manual_seed(show.seed)
    cut = [
        (noise(len(part)), Tensor(part, device=show.device)) for part in np.array_split(labels, 2)
    ]
    return np.concatenate([seen(part(*b) if cores else group.map(part, *b)) for b in cut])


asked = np.arange(show.choose(20, 500)) % 10
kinds = {
    "DDIM, eta 0": {},
    "DDIM, eta 1": {"eta": 1.0},
    "DDPM, larger variance": {"kind": ddpm_step},
}
walks, usual = show.choose((2, 3), (10, 20, 50), (10, 20, 50, 100, 1000)), show.choose(5, 50)
with ema.applied(), tinycv.no_grad(), parallel.threads(cores) as group:
    digits, plain = generated(asked, usual, w=1.0), generated(asked, usual)
    walked = {
        k: [generated(asked, steps, most=np.inf, **options) for steps in walks]
        for k, options in kinds.items()
    }
    denoise = believed(np.arange(10), w=1.0)
    path = [
        (t, seen(xt), seen(denoise(xt, t)) if t else seen(xt))
        for t, xt in trajectory(
            partial(ddim_step, denoise, schedule), noise(10), schedule.times(2 * usual)
        )
    ]
    given, half = (
        np.repeat(test[:3], 3, axis=0),
        np.broadcast_to(np.arange(28)[:, None] < 14, (9, 1, 28, 28)),
    )
    step = inpainting(
        partial(ddpm_step, believed(np.full(9, NOBODY)), schedule),
        schedule,
        *(Tensor(a, device=show.device) for a in (2 * given - 1, half)),
        repeats=5,
    )
    painted = seen(sample(step, noise(9), schedule.times(usual)))

# %% measure: a judge that learned from the training digits names the new ones, and compares them
# with unseen ones
judge, n = judge_of(x, y, epochs=show.choose(1, 8)), len(asked)
real = precision_recall(*map(judge.features, (test[:n], x[:n])))
for name, d, labels in (
    ("w = 1", digits, asked),
    ("w = 0", plain, asked),
    ("real, unseen", test, test_y),
):
    show.measured(
        f"{name}: share named as asked; how sure the judge is, on average",
        [(judge.labels(d) == labels).mean(), judge.probabilities(d).max(axis=1).mean()],
    )
    if d is not test:
        show.measured(
            f"{name}: Frechet multiple", judge.frechet_multiple(d, x, test), "training digits: 1"
        )
        show.measured(
            f"{name}: precision, recall",
            precision_recall(*map(judge.features, (test[:n], d))),
            "training digits: {:.2f}, {:.2f}".format(*real),
        )
multiples = {
    name: [judge.frechet_multiple(d, x, test) for d in sets] for name, sets in walked.items()
}
paper = iter(
    ("13.4, 6.84, 4.67, 4.16, 4.04", "41.1, 18.4, 8.01, 5.78, 4.73", "367, 133, 32.7, 9.99, 3.17")
)
for name, values in multiples.items():
    show.measured(
        f"{name}: Frechet multiple after {', '.join(map(str, walks))} steps",
        values,
        f"DDIM, table 1, FID on CIFAR-10 after 10, 20, 50, 100, 1000: {next(paper)}",
        "the same order",
    )
apart = squared_distances(np.concatenate([digits, test]).reshape(-1, 784), x.reshape(-1, 784))
near = [np.median(part.min(axis=1) ** 0.5) for part in np.split(apart, [len(digits)])]
show.measured(
    "distance to the nearest training digit, by that of real ones",
    near[0] / near[1],
    "",
    "not near 0",
)
show.measured("seconds of training", history.seconds, target="<= 240")

# %% draw
figure = draw.figure("Digits come out of noise, and are not those that were learned", 12, 10)
axes = figure.subplot_mosaic(
    [["ways"] * 2, ["new", "halves"], ["beside", "chart"]],
    width_ratios=(1.25, 1),
    height_ratios=(3.1, 3.2, 2),
)
some, one, digit = path[:: len(path) // 10], noise(1).numpy()[0], 2 * test[0] - 1
draw.image_rows(
    axes["ways"],
    {
        "there:\nt = 0 to 1000": [
            schedule.perturb(digit, t, one) / 2 + 0.5 for t, *_ in some[::-1]
        ],
        "back:\nt = 1000 to 0": [xt[5] for _, xt, _ in some],
        "what it believes\nto be in it": [x0[5] for *_, x0 in some],
    },
)
draw.tiles(axes["new"], digits[:50], 10, "asked for by label, with guidance w = 1")
draw.image_rows(
    axes["beside"], {"new": digits[:10], "nearest of\nthe learned": x[apart[:10].argmin(axis=1)]}
)
draw.tiles(
    axes["halves"],
    [d for i in (0, 3, 6) for d in (given[i] * half[0], *painted[i : i + 3], given[i])],
    5,
    "upper half given, lower half painted, three times; last: the real one",
)
ax = axes["chart"]
draw.curves(
    ax, {k: (walks, m) for k, m in multiples.items()}, "steps", "Frechet multiple", log=True
)
ax.set(
    xscale="log", xticks=walks, xticklabels=walks, yticks=(1, 2, 5, 10), yticklabels=(1, 2, 5, 10)
)
ax.minorticks_off()
show.finish(figure)
frames = [
    np.concatenate(np.clip(xt[:, 0], 0, 1), axis=1).repeat(3, 0).repeat(3, 1)
    for _, xt, _ in path[::5]
]
draw_motion.save_gif(frames, show.out / "17_diffusion_digits.gif", 0.1, colours=16)
