"""13 · Brownian motion: what does noise do to a picture, and can a reverse SDE undo it?
python demos/13_brownian.py      2 min on one core

A drop of dye spreads in water because every particle is pushed at random: its variance grows as
2Dt. The same happens to the ink of a photograph: order becomes a Gaussian. The reverse SDE then
leads the same particles up the score, and the photograph is there again. The lecture says that the
particles return to where they began. They do not, and the demo measures it: each ends in a new
place, and only their distribution returns. Images of digits, in which each pixel is a coordinate,
behave in the same way. Nothing is learned here: the scores are exact, computed from the stored
pictures, so only stored pictures can come back, and no new ones.
Read first: tinycv/diffusion/sde.py.
Einstein 1905; Anderson 1982 (the reverse SDE); Song et al. 2021 (score SDE).
Photograph: danielbuechele, CC BY 2.0, as it ships with scikit-learn.
"""

import numpy as np
from sklearn.datasets import load_sample_image

from tinycv.data import Mixture, digits_8x8, picture
from tinycv.diffusion.sde import VP, euler_maruyama
from tinycv.engine.backend import module_for, to_device, to_numpy, uniform
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import captioned, save_gif

show = Demo("13_brownian", __doc__)
xp = module_for(show.device)
rng = np.random.default_rng(show.seed)

# %% Dye in water: at every step each particle is pushed by a uniform random amount
PARTICLES = show.choose(quick=5_000, default=200_000)
STEPS = show.choose(quick=60, default=400)
PUSH = 0.05  # standard deviation of one push
DT = 0.01  # time between two pushes
two_d = PUSH * PUSH / DT  # Einstein: 2D is the variance of a push over the time between two

looks = (STEPS // 16, STEPS // 4, STEPS)
dye = xp.zeros((PARTICLES, 2), "float32")  # all particles in one drop
variances = []
drops = {}  # by time: the first particles
for step in range(1, STEPS + 1):
    # a uniform number from -1/2 to 1/2 has the variance 1/12
    dye = dye + 12**0.5 * PUSH * (uniform(dye.shape, dye) - 0.5)
    variances.append(dye.var())
    if step in looks:
        drops[step * DT] = to_numpy(dye[:3000])

# %% Measure: does the variance grow as 2Dt, and is the drop a Gaussian in the end?
times = DT * np.arange(1, STEPS + 1)
variances = to_numpy(xp.stack(variances)).astype(float)
slope = (times @ variances) / (times @ times)  # of the line through 0, by least squares
z = to_numpy(dye).ravel() / np.sqrt(variances[-1])
show.measured(
    "growth of the dye's variance per unit of time, divided by 2D",
    slope / two_d,
    "1 (Einstein 1905)",
    "1 within 1 %",
)
show.measured(
    "excess kurtosis of the dye's positions (0: Gaussian)", (z**4).mean() - 3, target="|.| <= 0.05"
)

# %% Data: the ink of a photograph. There are many points where it is dark
photo = load_sample_image("china.jpg")[18:402, 60:372].mean(axis=-1) / 255
cell = show.choose(quick=24, default=6)  # cell x cell pixels of the photograph are averaged
coarse = photo.reshape(384 // cell, cell, 312 // cell, cell).mean(axis=(1, 3))
dark = np.clip(0.62 - coarse, 0, None) ** 1.3
ink = picture(dark, width=3.2)
points = to_device(ink.sample(show.choose(quick=1000, default=7000), rng), show.device)

# %% Forward, order becomes noise. Backward, up the exact score, the same particles become order
sde = VP(0.1, 12.0)
# squared, so that steps are short near t = 0, where there is detail
clock = np.linspace(0, 1, show.choose(quick=17, default=97)) ** 2
KEEP_EVERY = show.choose(quick=2, default=3)


def path_of(process, start, clock, keep_every):
    """The points at the first time, after every ``keep_every`` steps, and at the last time."""
    end, before = euler_maruyama(process, start, clock, keep_every=keep_every)
    return [*before, end]


def on_host(path):
    return [to_numpy(points) for points in path]


there = path_of(sde, points, clock, KEEP_EVERY)
back = on_host(path_of(sde.reverse(sde.score_of(ink)), there[-1], clock[::-1], KEEP_EVERY))
there = on_host(there)


# %% Measure: is all order gone, and does the distribution come back?
def likelihood(points):
    """Mean log-likelihood under the slightly blurred ink, in nats."""
    return ink.log_density(points.astype(float), 0.05).mean()


own = likelihood(there[0])
likelihood_back = likelihood(back[-1]) - own
likelihood_of_noise = likelihood(back[0]) - own
for side, deviation in zip(("width", "height"), there[-1].std(axis=0), strict=True):
    show.measured(
        f"{side} of the ink after the forward process, in standard deviations",
        deviation,
        "1: the Gaussian",
        "1 +- 0.05",
    )
show.measured(
    "log-likelihood of the ink that came back, minus that of the ink itself, nats",
    likelihood_back,
    target=">= -0.05",
)
show.measured(
    "log-likelihood of the noise, minus that of the ink itself, nats", likelihood_of_noise
)


# %% Measure: does each particle return to where it began?
def median_distance(a, b):
    return np.median(np.linalg.norm(a - b, axis=1))


began, ended = there[0], back[-1]
own_distance = median_distance(ended, began)
distance_to_another = median_distance(ended, rng.permutation(began))
show.measured(
    "median distance of a particle's end from its own beginning",
    own_distance,
    "from the beginning of another particle: the next row",
)
show.measured(
    "median distance of a particle's end from the beginning of another particle",
    distance_to_another,
)
show.measured(
    "the first distance divided by the second (0: particles return; 1: nothing is remembered)",
    own_distance / distance_to_another,
    "the lecture: 0",
    "1 +- 0.1",
)

# %% Images: every pixel is a coordinate, so each of 1,797 digits is a point in 64 dimensions
digits = 2 * digits_8x8()[0].reshape(-1, 64) - 1  # from -1 to 1
album = Mixture(digits, sigma=0.01)  # a tiny Gaussian around each digit
begin = to_device(digits[[0, 1, 2, 3]], show.device)
sixth = len(clock) // 6
fading = path_of(sde, begin, clock, sixth)
noise = fading[-1]
rising = path_of(sde.reverse(sde.score_of(album)), noise, clock[::-1], sixth)

# %% Measure: which digits came back?
found = to_numpy(rising[-1])
distances = np.linalg.norm(found[:, None] - digits, axis=-1)  # (4, 1797)
show.measured(
    "distance from what came back to the nearest digit, per pixel",
    distances.min(axis=1).mean() / 8,
    target="<= 0.03: the noise is gone",
)
came_back_as_themselves = (distances.argmin(axis=1) == [0, 1, 2, 3]).sum()
show.measured(
    "images, of 4, that came back as themselves",
    came_back_as_themselves,
    "about 0: the noise remembers nothing of the beginning",
)


# %% Draw: the dye; the ink there and back, coloured by where each particle began; the digits
LEFT_OF_MIDDLE = began[:, 0] < np.median(began[:, 0])


def draw_points(ax, points, colours, time, size, reach):
    across, up = reach
    ax.scatter(points[:, 0], points[:, 1], s=size, c=colours, linewidths=0)
    ax.set(xlim=(-across, across), ylim=(-up, up), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"t = {time:.2f}", fontsize=11)


def draw_ink(row, path, clock, shares):
    """The particles after these shares of the kept steps, blue if they began on the left."""
    colours = np.where(LEFT_OF_MIDDLE, draw.BLUE, draw.ORANGE)[:5000]
    for ax, share in zip(row, shares, strict=True):
        i = round(share * (len(path) - 1))
        time = clock[::KEEP_EVERY][i]
        draw_points(ax, path[i][:5000], colours, time, 1.3, reach=(2.1, 2.1))


def strips(path):
    """Two of the images at six times: (2, 6, 1, 8, 8)."""
    images = np.stack(on_host(path), axis=1).reshape(4, -1, 1, 8, 8) / 2 + 0.5
    six = np.linspace(0, images.shape[1] - 1, 6).round().astype(int)
    return np.clip(images[[0, 2]][:, six], 0, 1)


do_they_return = "do not return" if own_distance > 0.9 * distance_to_another else "come nearer"
figure = draw.figure(
    "Brownian motion and its reverse (exact score, nothing learned):\n"
    f"the ink returns to within {abs(likelihood_back):.2f} nats, its particles {do_they_return}",
    7.6,
    10.6,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.05, 2.2, 1))

top.suptitle("Dye in water: every particle is pushed at random", fontsize=12)
*drop_axes, line = top.subplots(1, 4, width_ratios=(1, 1, 1, 1.4))
for ax, (time, particles) in zip(drop_axes, drops.items(), strict=True):
    draw_points(ax, particles, draw.BLUE, time, 0.8, reach=(3, 3))
draw.curves(line, {"variance": (times, variances)}, "time t", "variance")
line.plot(times, two_d * times, color=draw.INK, linestyle="--", linewidth=1.4)
line.text(0.05, 0.92, "dashed: 2Dt", transform=line.transAxes, va="top", fontsize=11)
draw.note(line, f"slope / 2D = {slope / two_d:.3f}", "lower right")

middle.suptitle("The ink of a photograph. Blue began on the left, orange on the right", fontsize=12)
above, below = middle.subplots(2, 4)
draw_ink(above, there, clock, shares=(0, 0.3, 0.5, 1))
draw_ink(below, back, clock[::-1], shares=(0, 0.5, 0.7, 1))
above[0].set_ylabel("forward", fontsize=12)
below[0].set_ylabel("reverse SDE", fontsize=12)
middle.supxlabel(
    f"median distance of a particle's end from its beginning: {own_distance:.2f}; "
    f"from another's: {distance_to_another:.2f}",
    fontsize=11,
)

bottom.suptitle(
    f"Images of 64 pixels: {came_back_as_themselves} of 4 came back as themselves", fontsize=12
)
left, right = bottom.subplots(1, 2)
draw.tiles(left, strips(fading).reshape(-1, 1, 8, 8), columns=6)
draw.tiles(right, strips(rising).reshape(-1, 1, 8, 8), columns=6)
left.set_title("noise is added", fontsize=11)
right.set_title("reverse SDE", fontsize=11)


# %% Draw: the ink as it goes, as a picture in which each particle is a dark pixel
def frame(points, side=240):
    """Points on [-2.4, 2.4]^2, blue or orange by where they began: (240, 240, 3) uint8."""
    reach = [-2.4, 2.4]
    sheet = np.full((side, side, 3), 255.0)
    for is_part, colour in ((LEFT_OF_MIDDLE, draw.BLUE), (~LEFT_OF_MIDDLE, draw.ORANGE)):
        x, y = points[is_part].T
        counts, _, _ = np.histogram2d(-y, x, bins=side, range=[reach, reach])
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        sheet[counts > 0] = rgb
    return sheet.astype(np.uint8)


def frames():
    for way, path, path_clock in (("forward", there, clock), ("reverse", back, clock[::-1])):
        times_kept = [*path_clock[::KEEP_EVERY], path_clock[-1]]
        for time, points in zip(times_kept, path, strict=False):
            yield captioned(frame(points), f"{way} SDE, t = {time:.2f}", 14)


path = save_gif(frames(), show.out / "13_brownian.gif", 0.1, colours=16)
print(f"  moving picture: {path}")
show.finish(figure)
