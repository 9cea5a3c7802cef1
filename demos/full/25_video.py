"""25, the whole protocol: three seeds, films from a text, other lengths and sizes, two balls.

The demo is run from each seed. Then a larger model of the plane is trained for longer, and a model
without time positions shows what these are for. A sliding window makes films four times as long as
those of training. A text sets the speed and direction with which a ball starts. Two balls collide,
and frames are 32 x 32. Models of pixels, with joint and with factorised attention, are compared
with the model of codes; one of them learns three lengths and sizes at once. It runs on every
length and size, but in this time it has not learned the motion. "Larger and longer" is a larger
network that was trained for longer.
python demos/25_video.py --full
"""

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DataLoader, DrawnLoader
from tinycv.data.balls import (
    ALL_MOTIONS,
    captioned_balls,
    draw_balls,
    motion_caption,
    motion_words,
    motions_of,
    random_balls,
    simulate,
)
from tinycv.data.text import PAD
from tinycv.data.tokenizer import WordTokenizer
from tinycv.diffusion import VideoDiffusion, VideoDiT
from tinycv.diffusion.guidance import without_some
from tinycv.diffusion.video import first_frames, video_loss
from tinycv.show import draw
from tinycv.show.ball_parser import BallParser, ball_figures, straight_on, velocity_errors
from tinycv.show.demo import Demo

show = Demo("25_video", __doc__, full=True)

# %% The demo from each seed
demo, *_ = show.repeat_demo(range(show.choose(quick=1, full=3)))
GIVEN, FRAMES, LATENT = demo.GIVEN, demo.FRAMES, demo.LATENT
TUBELET = (4, 1, 1)  # the codes of four frames
TESTS = show.choose(quick=6, full=300)
SEED = 900_000  # of all films below for tests
parser = demo.parser


def count(steps):
    """Training steps; two in a quick run."""
    return show.choose(quick=2, full=steps)


errors = {}  # name: velocity error


def judged(name, model, truth, videos, target="", balls=1):
    """Predict the films, read them, and record the velocity error. Returns the films."""
    made = demo.predicted(model, videos, videos.shape[1])
    tracks = BallParser(balls).read(made)
    found = ball_figures(tracks, truth, GIVEN)
    show.measured(f"{name}: velocity error, px per frame", found["velocity error"], "", target)
    errors[name] = found["velocity error"]
    for metric in ("velocity error at bounces", "mass kept", "lost"):
        if np.isfinite(found[metric]):
            show.measured(f"{name}: {metric}", found[metric])
    return made


def baselines(name, truth):
    """Record the velocity errors of a ball that stays, and of one that flies straight on."""
    real = np.diff(truth.centres, axis=1)[:, GIVEN - 1 :]
    flies_on = np.diff(straight_on(truth, GIVEN).centres, axis=1)[:, GIVEN - 1 :]
    show.measured(
        f"{name}: velocity error of a ball that stays", np.linalg.norm(real, axis=-1).mean()
    )
    straight = np.linalg.norm(flies_on - real, axis=-1).mean()
    show.measured(f"{name}: velocity error of one that flies straight on", straight)


# %% A larger model of the plane, trained for longer
tinycv.manual_seed(show.seed)
wide = show.choose(quick=(16,), full=(400, 200))
vae, _ = demo.train_vae("VAE, longer", demo.training["plane"], wide, count(4000))
larger = show.choose(
    quick={"dim": 12, "depth": 1, "heads": 2}, full={"dim": 96, "depth": 4, "heads": 4}
)
longer = VideoDiffusion(VideoDiT(TUBELET, LATENT, **larger), vae)
seconds = demo.train("plane, longer", longer, demo.training["plane"], count(6000))
show.measured("plane, longer: seconds of training the video model", seconds)
truth, videos = demo.films(TESTS, SEED, axes=2)
judged("plane, larger and longer", longer, truth, videos, "<= 0.3")
for i, (kind, ranges) in enumerate(demo.UNUSUAL.items()):
    judged(f"plane, larger and longer, {kind}", longer, *demo.films(TESTS, SEED + i, 2, **ranges))

# %% Without time positions, the frames are a set without an order (here each frame is a token)
tinycv.manual_seed(show.seed)
timeless = VideoDiT((1, 1, 1), LATENT, time_positions=False, **demo.NETWORK)
timeless = VideoDiffusion(timeless, demo.vaes["line"])
demo.train("line, no time positions", timeless, demo.training["line"], count(300))
truth, videos = demo.films(TESTS, SEED, axes=1)
judged("line, without time positions", timeless, truth, videos, ">= 0.5")

# %% Longer films by a sliding window. (An untrained model may lose every ball: in a quick run only
# given frames are certain to have one.)
LONG = show.choose(quick=10, full=32)
start = random_balls(TESTS, np.random.default_rng(SEED), axes=2)
truth = simulate(start, LONG)
videos = draw_balls(truth)
tinycv.manual_seed(show.seed)
given = Tensor(videos[:, :GIVEN], device=show.device)
long_films = longer.extend(given, LONG, FRAMES, GIVEN, steps=demo.HEUN).numpy().clip(0, 1)
tracks = parser.read(long_films)
place_errors = np.nanmean(np.linalg.norm(tracks.centre - truth.centres, axis=-1), axis=(0, 2))
of_velocity = velocity_errors(tracks, truth, GIVEN).mean(axis=(0, 2))
for frame in show.choose(quick=(GIVEN,), full=(8, 16, 32)):
    show.measured(f"sliding window: place error in frame {frame}, px", place_errors[frame - 1])
speeds = np.linalg.norm(tracks.velocity, axis=-1)
speed_kept = np.nanmean(speeds[:, -FRAMES:]) / np.nanmean(speeds[:, :FRAMES])
show.measured("sliding window: speed at the end / at the start", speed_kept)
show.measured("sliding window: balls lost at the end", 1 - tracks.there[:, -1].mean())

# %% From a text: the speed and direction with which the ball starts
words = WordTokenizer(motion_words())
LENGTH = 6


def captioned_films(count, seed):
    """Films of captioned balls: motions, ids (N, 6) of English captions, videos."""
    rng = np.random.default_rng(seed)
    motions = [ALL_MOTIONS[i] for i in rng.integers(0, len(ALL_MOTIONS), count)]
    ids = words.encode([motion_caption(motion) for motion in motions], LENGTH)
    return motions, ids, draw_balls(simulate(captioned_balls(motions, rng), FRAMES))


def share_right(videos, motions):
    """The share of films whose ball starts with the motion of its caption."""
    first = np.nan_to_num(parser.read(videos).velocity[:, 0, 0])  # (N, 2)
    found = motions_of(first)
    return np.mean([a == b for a, b in zip(found, motions, strict=True)])


tinycv.manual_seed(show.seed)
network = VideoDiT(TUBELET, LATENT, words=len(words), length=LENGTH, **demo.NETWORK)
from_text = VideoDiffusion(network, vae)
from_text.to(show.device)
_, ids, videos = captioned_films(demo.FILMS, 1)
from_text.standardise(Tensor(videos, device=show.device))
codes = from_text.encode(Tensor(videos, device=show.device)).numpy()
known = np.random.default_rng(show.seed).choice([0, GIVEN], len(codes))  # first frames given
seen = first_frames(known, FRAMES)
loader = DataLoader(codes, seen, ids, batch_size=demo.BATCH, drop_last=True, seed=show.seed)


def loss_with_text(y, seen, ids):
    return video_loss(network, y, seen, without_some(ids, PAD, 0.1), demo.NOISE)


seconds = demo.descend("text", network, loss_with_text, loader, count(2500), 6e-3)
show.measured("text: seconds of training", seconds)
motions, ids, videos = captioned_films(TESTS, SEED)
show.measured(
    "text: share of real films with the motion of their caption", share_right(videos, motions)
)
nothing = Tensor(videos[:, :0], device=show.device)
text_videos, rights = {}, {}
for w in (0.0, 1.0, 3.0):
    tinycv.manual_seed(show.seed)
    films = from_text.predict(nothing, FRAMES, Tensor(ids, device=show.device), demo.HEUN, w)
    text_videos[w] = films.numpy().clip(0, 1)
    right = rights[w] = share_right(text_videos[w], motions)
    show.measured(f"text, guidance w = {w:g}: share with the motion of their caption", right)
mixed = [motions[i] for i in np.random.default_rng(0).permutation(len(motions))]
show.measured("text: the same films, shuffled captions", share_right(text_videos[1.0], mixed))

# %% Two balls that collide
start = random_balls(demo.FILMS, np.random.default_rng(2), balls=2, radius=(1.5, 2.2))
tinycv.manual_seed(show.seed)
videos = draw_balls(simulate(start, FRAMES))
of_two, _ = demo.train_vae("VAE, two balls", videos, wide, count(4000), latent=2 * LATENT)
two = VideoDiffusion(VideoDiT(TUBELET, 2 * LATENT, **demo.NETWORK), of_two)
demo.train("two balls", two, videos, count(4000))
start = random_balls(TESTS, np.random.default_rng(SEED), balls=2, radius=(1.5, 2.2))
truth = simulate(start, FRAMES)
videos = draw_balls(truth)
floor = velocity_errors(BallParser(2).read(videos), truth, GIVEN).mean()
show.measured("two balls: velocity error of the parser, px per frame", floor)
baselines("two balls", truth)
two_made = judged("two balls", two, truth, videos, balls=2)
two_true = videos

# %% Frames of 32 x 32: radius and speed are twice as large
LARGE = {"box": (32, 32), "radius": (3.0, 5.0), "speed": (0.8, 3.2)}
tinycv.manual_seed(show.seed)
_, videos = demo.films(show.choose(quick=20, full=8000), 3, 2, **LARGE)
of_large, _ = demo.train_vae("VAE, 32 x 32", videos, wide, count(2500))
large = VideoDiffusion(VideoDiT(TUBELET, LATENT, **demo.NETWORK), of_large)
demo.train("32 x 32", large, videos, count(2500))
truth, videos = demo.films(TESTS, SEED, 2, **LARGE)
baselines("32 x 32", truth)
judged("32 x 32", large, truth, videos)

# %% Pixels instead of codes: tubelets of 2 frames x 4 x 4 pixels, joint and factorised attention
PATCH = (2, 4, 4)
demo.NOISE = 1.0  # more noise than for codes: neighbouring pixels say much about each other
pixel_films = demo.training["plane"]
truth, videos = demo.films(TESTS, SEED, 2)
pixel_models = {}
for attention in ("joint", "factorised"):
    tinycv.manual_seed(show.seed)
    network = VideoDiT(PATCH, attention=attention, summary=True, **demo.NETWORK)
    pixel_models[attention] = VideoDiffusion(network)
    seconds = demo.train(
        f"pixels, {attention}",
        pixel_models[attention],
        pixel_films,
        count(2400),
        batch=24,
        rate=3e-3,
    )
    show.measured(f"pixels, {attention}: seconds of training", seconds)
    judged(f"pixels, {attention}", pixel_models[attention], truth, videos)

# %% Three lengths and sizes in one model of pixels
SHAPES = {  # name: (frames, box)
    "8 frames of 16 x 16": (8, (16, 16)),
    "4 frames of 16 x 24": (4, (16, 24)),
    "12 frames of 12 x 16": (12, (12, 16)),
}
UNSEEN = {"10 frames of 16 x 20, not trained": (10, (16, 20))}


def shaped(count, seed, frames, box):
    truth = simulate(random_balls(count, np.random.default_rng(seed), box=box), frames)
    return truth, draw_balls(truth)


tinycv.manual_seed(show.seed)
network = VideoDiT(PATCH, summary=True, **demo.NETWORK)
flexible = VideoDiffusion(network)
flexible.to(show.device)
flexible.standardise(Tensor(pixel_films[:1000], device=show.device))
shape_sets = []
for frames, box in SHAPES.values():
    _, videos = shaped(show.choose(quick=24, full=6000), 4, frames, box)
    shape_sets.append(flexible.encode(Tensor(videos, device=show.device)).numpy())


def draw_shape(batch_size, rng):
    """A batch of films of one of the shapes."""
    y = shape_sets[rng.integers(len(shape_sets))]
    return (y[rng.integers(len(y), size=batch_size)],)


def flexible_loss(y):
    seen = first_frames(np.full(len(y), GIVEN), y.shape[1])
    return video_loss(network, y, seen)


loader = DrawnLoader(draw_shape, batch_size=24, batches=count(2000), seed=show.seed)
demo.descend("three shapes", network, flexible_loss, loader, count(2000), 3e-3)
for name, (frames, box) in {**SHAPES, **UNSEEN}.items():
    truth, videos = shaped(TESTS, SEED, frames, box)
    baselines(name, truth)
    judged(name, flexible, truth, videos)


# %% Draw: errors, the sliding window, films from a text, two balls
figure = draw.figure(
    f"Trained for longer, the model errs by {errors['plane, larger and longer']:.2f} px per frame, "
    f"and still by {errors['plane, larger and longer, faster']:.2f} for faster balls;\n"
    f"a text is obeyed in {100 * rights[1.0]:.0f} % of its films",
    12,
    9.5,
)
above, below = figure.subfigures(2, 1, height_ratios=(1.25, 1))
bars, window = above.subplots(1, 2, width_ratios=(1.3, 1))
bars.barh(list(errors), list(errors.values()), color=draw.BLUE)
bars.invert_yaxis()
for row, error in enumerate(errors.values()):
    bars.text(error, row, f" {error:.2f}", va="center", fontsize=9)
bars.tick_params(axis="y", labelsize=8)
bars.set_xlim(0, 1.15 * max(errors.values()))
bars.set_xlabel("velocity error, px per frame")
bars.spines[["top", "right"]].set_visible(False)
after = np.arange(GIVEN + 1, LONG + 1)
draw.curves(
    window,
    {
        "place": (after, place_errors[GIVEN:]),
        "velocity": (after, of_velocity),
    },
    "frame (training films have 8)",
    "error, px and px per frame",
)
window.set_title("A sliding window: small errors add up", fontsize=11)
text_axes, two_axes = below.subplots(1, 2, width_ratios=(1, 1))
chosen = [motions.index(motion) for motion in ALL_MOTIONS if motion in motions]
text_rows = [demo.strip(text_videos[1.0], i) for i in chosen]
text_axes.imshow(np.concatenate(text_rows), cmap="gray", vmin=0, vmax=1)
middles = demo.SIDE * (np.arange(len(chosen)) + 0.5)
text_axes.set_yticks(middles, [motion_caption(motions[i]) for i in chosen], fontsize=8)
text_axes.set_xticks([])
text_axes.set_title("Films from a text alone, w = 1", fontsize=11)
two_rows, names = [], []
for i in range(4):
    two_rows += [demo.strip(two_true, i), demo.strip(two_made, i)]
    names += ["true", "model"]
two_axes.imshow(np.concatenate(two_rows), cmap="gray", vmin=0, vmax=1)
two_axes.set_yticks(demo.SIDE * (np.arange(8) + 0.5), names, fontsize=8)
two_axes.set_xticks([])
two_axes.axvline(GIVEN * (demo.SIDE + 1) - 1, color=draw.RED, linewidth=1.5)
two_axes.set_title("Two balls: after the red line predicted", fontsize=11)
show.finish(figure)
