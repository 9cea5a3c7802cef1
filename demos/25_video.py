"""25 · Does a model of video learn the laws of motion?
python demos/25_video.py      4 min on one core

Sora generates videos, and its authors see such models as a path to "world simulators". Here the
world is a ball that flies straight on and bounces off walls, so the right answer is known. Three
frames are given, and a diffusion Transformer (DiT) predicts five more. A VAE turns each frame into
four numbers, and four successive frames are one token (a tubelet of codes). A parser reads the
centre of the ball from the pixels, and velocities are compared with those of an exact simulator.
The picture shows what PhyWorld (Kang et al. 2024) found with far larger models. At the speeds of
training, the model follows the ball, bounces included. In the predicted films a faster ball slows
down, and a slower ball speeds up: the model returns to what it has seen, and does not apply a law
of motion. So a low error on films like those of training does not show that a model simulates the
world. Larger and smaller balls are drawn wrongly by the VAE alone, whose errors are also printed;
some fade until they are lost. A lost ball counts as at rest.
For comparison: a ball that stays where it is, one that flies straight on through the walls, and a
network whose tokens are single frames that cannot attend to each other.
--full adds films from a text, other lengths and sizes, two balls, and pixels instead of codes.
Read first: tinycv/data/balls.py, tinycv/vision/tubelets.py, tinycv/diffusion/video.py.
Brooks et al. 2024 (Sora); Kang et al. 2024 (PhyWorld); Peebles & Xie 2023 (DiT).
"""

from contextlib import nullcontext

import numpy as np

import tinycv
from tinycv import Tensor, nn
from tinycv.data import DataLoader
from tinycv.data.balls import SPEED, draw_balls, random_balls, simulate
from tinycv.diffusion import VideoDiffusion, VideoDiT
from tinycv.diffusion.video import first_frames, video_loss
from tinycv.engine.backend import Stopwatch
from tinycv.likelihood.vae import VAE, vae_loss
from tinycv.optim import EMA, Adam, clip_grad_norm_, warmup_cosine
from tinycv.show import draw
from tinycv.show.ball_parser import (
    BallParser,
    ball_figures,
    speed_ratios,
    straight_on,
    velocity_errors,
)
from tinycv.show.demo import Demo
from tinycv.show.motion import captioned, ink_sheet, save_gif
from tinycv.training import parallel
from tinycv.training.progress import read_loss, say, steps

show = Demo("25_video", __doc__)
FRAMES, GIVEN, SIDE = 8, 3, 16
LATENT = 4  # numbers per frame
HEUN = show.choose(quick=2, default=16)  # sampling steps
FILMS = show.choose(quick=40, default=20_000)  # for training
TESTS = show.choose(quick=6, default=500)
BATCH = show.choose(quick=8, default=256)
WORLDS = {"line": 1, "plane": 2}  # name: axes along which the ball moves
# Films outside the training distribution: what differs in them
UNUSUAL = {
    "faster": {"speed": (2.0, 2.6)},
    "slower": {"speed": (0.05, 0.25)},
    "larger": {"radius": (3.0, 3.5)},
    "smaller": {"radius": (1.0, 1.2)},
}


# %% Data: films of one ball, from an exact simulator
def films(count, seed, axes, **ranges):
    """The states of the ball, and the videos (N, 8, 1, 16, 16)."""
    start = random_balls(count, np.random.default_rng(seed), axes=axes, **ranges)
    truth = simulate(start, FRAMES)
    return truth, draw_balls(truth)


TRAIN_SEED, TEST_SEED = 1000 * show.seed + 1, 1000 * show.seed + 500  # never the same films
parser = BallParser()
tests = {}  # (world, kind): (truth, videos)
for world, axes in WORLDS.items():
    for i, (kind, ranges) in enumerate({"as trained": {}, **UNUSUAL}.items()):
        tests[world, kind] = films(TESTS, TEST_SEED + i, axes, **ranges)
        if kind == "as trained" or "speed" not in ranges:
            truth, videos = tests[world, kind]
            floor = velocity_errors(parser.read(videos), truth, GIVEN).mean()
            show.measured(f"{world}, {kind}: velocity error of the parser, px per frame", floor)


# %% The VAE: a frame becomes four numbers
def descend(name, learned, loss_of, loader, total, rate):
    """Train the module ``learned`` for ``total`` steps. On a CPU all cores share each batch.
    Returns the seconds."""
    optimizer = Adam(learned.parameters(), lr=rate)
    schedule = warmup_cosine(total, warmup=max(1, total // 20))
    ema = EMA(learned, decay=0.995)
    epochs = -(-total // len(loader))
    all_cores = parallel.threads() if show.device == "cpu" else nullcontext()
    with all_cores as group, Stopwatch(show.device) as watch:
        for step, batch in steps(loader, epochs, seed=show.seed, device=show.device):
            if step == total:
                break
            optimizer.param_groups[0]["lr"] = rate * schedule(step)
            optimizer.zero_grad()
            if group is None:
                loss = loss_of(*batch)
                loss.backward()
            else:
                loss = group.backward(loss_of, *batch)
            clip_grad_norm_(learned.parameters(), 1.0)
            optimizer.step()
            ema.update()
            if (step + 1) % max(1, total // 4) == 0:
                say(f"{name}, step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
    learned.load_state_dict(ema.state_dict())
    return watch.seconds


def train_vae(name, videos, hidden, total, latent=LATENT, beta=0.2):
    """A VAE of single frames, and the seconds it took. beta < 1: sharper frames."""
    frames = videos.reshape(-1, *videos.shape[2:])
    vae = VAE(frames[0].size, latent, hidden)
    for part in ("encoder", "decoder"):  # SiLU instead of tanh: more exact frames
        layers = [nn.SiLU() if isinstance(x, nn.Tanh) else x for x in getattr(vae, part)]
        setattr(vae, part, nn.Sequential(*layers))
    vae.to(show.device)
    loader = DataLoader(frames, batch_size=BATCH // 2, drop_last=True, seed=show.seed)
    seconds = descend(name, vae, lambda x: vae_loss(vae, x, beta=beta), loader, total, 2e-3)
    return vae, seconds


# %% The video model: a DiT whose tokens are the codes of the frames, trained by EDM's loss on the
# five frames that are not given
NETWORK = show.choose(
    quick={"dim": 12, "depth": 1, "heads": 2}, default={"dim": 64, "depth": 4, "heads": 4}
)


# ln of the noise levels of training is drawn from N(NOISE, 1.2^2)
NOISE = 0.3


def train(name, model, videos, total, rate=6e-3, batch=BATCH, given=GIVEN):
    """Train the network of a VideoDiffusion on videos. Returns the seconds."""
    model.to(show.device)
    model.standardise(Tensor(videos, device=show.device))
    y = model.encode(Tensor(videos, device=show.device)).numpy()
    seen = first_frames(np.full(len(y), given), y.shape[1])
    loader = DataLoader(y, seen, batch_size=batch, drop_last=True, seed=show.seed)

    def loss_of(y, seen):
        return video_loss(model.network, y, seen, mean=NOISE)

    return descend(name, model.network, loss_of, loader, total, rate)


STEPS = {  # name: (world, attention, training steps)
    "line": ("line", "joint", show.choose(quick=2, default=1000)),
    "line, frames alone": ("line", "frames", show.choose(quick=2, default=200)),
    "plane": ("plane", "joint", show.choose(quick=2, default=2000)),
}
hidden = show.choose(quick=(16,), default=(200, 100))
vae_steps = show.choose(quick=2, default=1500)
training, vaes = {}, {}
for world, axes in WORLDS.items():
    tinycv.manual_seed(show.seed)
    _, training[world] = films(FILMS, TRAIN_SEED, axes)
    vaes[world], seconds = train_vae(f"VAE, {world}", training[world], hidden, vae_steps)
    show.measured(f"{world}: seconds of training the VAE", seconds)
models = {}
for name, (world, attention, total) in STEPS.items():
    tinycv.manual_seed(show.seed)
    # A token holds the codes of four frames. In the control, no frame attends to another one, so
    # each frame has its own token. It needs few steps: without the given frames there is no more to
    # learn than where balls can be.
    patch = (4, 1, 1) if attention == "joint" else (1, 1, 1)
    network = VideoDiT(patch, LATENT, attention=attention, **NETWORK)
    models[name] = VideoDiffusion(network, vaes[world])
    seconds = train(name, models[name], training[world], total)
    show.measured(f"{name}: seconds of training the video model", seconds)


# %% Measure: three frames are given, five are predicted, and the parser reads them
def predicted(model, videos, frames=FRAMES, given=GIVEN):
    """The videos with all frames after the given ones replaced by the model's: NumPy."""
    start = Tensor(videos[:, :given], device=show.device)
    tinycv.manual_seed(show.seed)
    return model.predict(start, frames, steps=HEUN).numpy().clip(0, 1)


def measured_if_there(metric, value, reference="", target=""):
    """Record a mean over balls, unless all balls are lost, as can happen in a quick run."""
    if np.isfinite(value):
        show.measured(metric, value, reference, target)


made = {}  # (name of the model, kind): videos
figures = {}  # the same: what the parser says (ball_figures)
errors_by_frame = {}  # name: mean velocity error of each predicted frame
TARGETS = {"line": "<= 0.15", "plane": "<= 0.55"}
for name, (world, _, _) in STEPS.items():
    for kind in ("as trained", *UNUSUAL) if name in WORLDS else ("as trained",):
        truth, videos = tests[world, kind]
        made[name, kind] = predicted(models[name], videos)
        tracks = parser.read(made[name, kind])
        found = figures[name, kind] = ball_figures(tracks, truth, GIVEN)
        if kind == "as trained":
            errors_by_frame[name] = velocity_errors(tracks, truth, GIVEN).mean(axis=(0, 2))
            show.measured(
                f"{name}: velocity error, px per frame",
                found["velocity error"],
                "" if name != "line" else "PhyWorld, its own films: DiT-S, 30,000 films 0.022",
                TARGETS.get(name, ""),
            )
            for metric in list(found)[1:]:
                measured_if_there(f"{name}: {metric}", found[metric])
            continue
        show.measured(
            f"{name}, {kind} than trained: velocity error, px per frame",
            found["velocity error"],
            "PhyWorld, its own films: 0.427" if (name, kind) == ("line", "faster") else "",
        )
        for metric in ("mass kept", "lost"):
            measured_if_there(f"{name}, {kind} than trained: {metric}", found[metric])

# %% Measure: what errors to expect from a ball that stays, one that flies straight on, and the VAE
for world in WORLDS:
    truth, videos = tests[world, "as trained"]
    still = np.minimum(np.arange(FRAMES), GIVEN - 1)  # the last given frame stays
    stays = velocity_errors(parser.read(videos[:, still]), truth, GIVEN)
    real = np.diff(truth.centres, axis=1)[:, GIVEN - 1 :]
    flies_on = np.diff(straight_on(truth, GIVEN).centres, axis=1)[:, GIVEN - 1 :]
    straight = np.linalg.norm(flies_on - real, axis=-1)
    errors_by_frame[f"{world}: stays"] = stays.mean(axis=(0, 2))
    errors_by_frame[f"{world}: straight on"] = straight.mean(axis=(0, 2))
    show.measured(f"{world}: velocity error of a ball that stays", stays.mean())
    show.measured(f"{world}: velocity error of one that flies straight on", straight.mean())
    for kind in ("as trained", *UNUSUAL):
        truth, videos = tests[world, kind]
        codes = models[world].encode(Tensor(videos, device=show.device))
        again = models[world].decode(codes, (1, SIDE, SIDE)).numpy()
        of_vae = velocity_errors(parser.read(again), truth, GIVEN).mean()
        show.measured(f"{world}, {kind}: velocity error of the VAE alone", of_vae)

# %% Measure: out of distribution, and the control
for world in WORLDS:
    inside = figures[world, "as trained"]["velocity error"]
    show.measured(
        f"{world}: velocity error, faster / as trained",
        figures[world, "faster"]["velocity error"] / inside,
        target=">= 3",
    )
    for kind, target in (("slower", "> 1"), ("faster", "< 1")):
        measured_if_there(
            f"{world}, {kind} than trained: speed made / speed asked for",
            figures[world, kind]["speed ratio"],
            "PhyWorld: films return to the speeds of training",
            target,
        )
show.measured(
    f"line, velocity error: frames that do not see each other ({STEPS['line, frames alone'][2]} "
    f"steps) / joint attention ({STEPS['line'][2]} steps)",
    errors_by_frame["line, frames alone"].mean() / errors_by_frame["line"].mean(),
    target=">= 3",
)

# %% Measure: the speed in the predicted films, for true speeds from 0 to 3
asked = np.linspace(0.05, 3.0, show.choose(quick=3, default=25))
speeds = {}  # world: (speeds asked for, the median of those made)
for world, axes in WORLDS.items():
    medians = []
    for i, speed in enumerate(asked):
        truth, videos = films(show.choose(2, 60), TEST_SEED + 20 + i, axes, speed=(speed, speed))
        ratio = speed_ratios(parser.read(predicted(models[world], videos)), truth, GIVEN)
        read = ratio[np.isfinite(ratio)]  # of balls that are not lost
        medians.append(speed * np.median(read) if len(read) else np.nan)
    speeds[world] = asked, np.array(medians)

# %% Draw: films as strips of frames, then errors by frame, and the speeds
error = figures["plane", "as trained"]["velocity error"]
worse = figures["plane", "faster"]["velocity error"] / error
figure = draw.figure(
    f"In the plane, predicted velocities err by {error:.2f} px per frame at training speeds;\n"
    f"faster balls slow down in the predicted films, and their error is {worse:.1f} times as large",
    11,
    10,
)
films_part, curves_part = figure.subfigures(2, 1, height_ratios=(1.55, 1))
films_part.suptitle(
    f"One film of each kind; the frames left of the red line are given. Errors and speeds: means "
    f"over {TESTS} films",
    fontsize=11,
)
kinds = ("as trained", *UNUSUAL)


def strip(videos, which):
    """The frames of one film in a row (16, 8 x 17), with a gray line between two frames."""
    padded = np.pad(videos[which, :, 0], ((0, 0), (0, 0), (0, 1)), constant_values=0.5)
    return np.concatenate(list(padded), axis=1)[:, :-1]


for half, world in zip(films_part.subfigures(1, 2), WORLDS, strict=True):
    for ax, kind in zip(half.subplots(len(kinds), 1), kinds, strict=True):
        truth, videos = tests[world, kind]
        # The first film whose ball bounces in the middle of the prediction, if there is one
        bounces = np.asarray(truth.bounced)[:, GIVEN + 1 : -1, 0] > 0
        which = bounces.any(axis=1).argmax()
        film = np.concatenate([strip(videos, which), strip(made[world, kind], which)])
        ax.imshow(film, cmap="gray", vmin=0, vmax=1)
        ax.axhline(SIDE - 0.5, color=draw.SKY, linewidth=1)
        ax.axvline(GIVEN * (SIDE + 1) - 1, color=draw.RED, linewidth=1.5)
        ax.set(xticks=[], yticks=[SIDE / 2, 1.5 * SIDE])
        ax.set_yticklabels(["true", "model"], fontsize=8)
        found = figures[world, kind]
        title = f"{world}, {kind}: mean error {found['velocity error']:.2f} px per frame"
        if "speed" in UNUSUAL.get(kind, {}):
            title += f", {found['speed ratio']:.2f} x the true speed"
        ax.set_title(title, fontsize=10)

by_frame, by_speed = curves_part.subplots(1, 2)
numbers = np.arange(GIVEN + 1, FRAMES + 1)
lines = {
    "plane": errors_by_frame["plane"],
    "line": errors_by_frame["line"],
    "plane: straight on": errors_by_frame["plane: straight on"],
    "line, frames alone": errors_by_frame["line, frames alone"],
    "plane: stays": errors_by_frame["plane: stays"],
}
draw.curves(
    by_frame,
    {name: (numbers, errors) for name, errors in lines.items()},
    f"frame ({GIVEN} are given)",
    "velocity error, px per frame",
    log=True,
)
by_frame.set_xticks(numbers)
by_frame.set_title("Velocity error of the model, of its control and of baselines", fontsize=11)
by_speed.axvspan(*SPEED, color=draw.PALE)
by_speed.plot(asked, asked, color=draw.INK, linestyle="--", linewidth=1)
draw.curves(
    by_speed,
    {world: speeds[world] for world in ("plane", "line")},
    "true speed, px per frame along each axis",
    "median speed in the predicted films",
)
by_speed.set_title("Dashed: the true speed. Gray: speeds of training", fontsize=11)
show.finish(figure)

# %% Draw: an animation, true films above predicted ones
rows = []
for kind in ("as trained", "faster"):
    rows += [tests["plane", kind][1][:8], made["plane", kind][:8]]
sheet = np.concatenate(rows)  # (4 x 8, 8, 1, 16, 16)
framed = np.pad(sheet, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.4)
count = len(rows[0])
frames = []
for t in range(FRAMES):
    state = "given" if t < GIVEN else "predicted"
    caption = (
        f"Frame {t + 1} of {FRAMES}, {state}. Rows 1 and 2: true, and\n"
        "predicted. Rows 3 and 4: likewise, but faster than in training"
    )
    frames.append(captioned(ink_sheet(framed[:, t], columns=count, scale=4), caption, 16))
path = save_gif(frames, show.out / "25_video.gif", 0.35, last=1.2, colours=16)
print(f"  moving picture: {path}")
