"""24 · How does a model draw what a sentence says (DALL-E, Stable Diffusion)?
python demos/24_text_to_image.py      7 min on one core

A caption such as "a small green triangle top left" names shape, colour, size and place, in English
or in Chinese. Four of the 16 pairs of shape and colour are held out: no model here ever sees, for
example, a red square. Can it draw one? A rule reads each picture back to its caption, so the share
of pictures that follow their text can be measured.
There are two ways. The first is diffusion with a text encoder, cross-attention and classifier-free
guidance (DALL-E 2, Stable Diffusion). With guidance w = 1 or 2, more pictures follow their caption,
above all held-out ones; the cleanest come at w = 0.5 to 1, and large w spoils them. The second is a
discrete VAE and a GPT over words and image codes (DALL-E 1). The positions of its shapes vary as
much as in real drawings; in the pictures of diffusion they vary less, even without guidance. A CLIP
that is trained here chooses the best of 16.
The noise levels of training matter: place and colour are decided at strong noise, which EDM's
default for photographs rarely trains. Attention maps show where in the picture each word is read.
--prompt "a small green triangle top left" draws what you type. For this, and with --pretrained,
nothing is trained: the weights ship. --full: two objects with a relation, 32 x 32, editing by text,
captions of pictures.
Read first: tinycv/diffusion/cross_attention.py, text_to_image.py; tinycv/likelihood/dalle.py.
Ramesh et al. 2021 (DALL-E); Rombach et al. 2022 (Stable Diffusion); Ho & Salimans 2022 (guidance).
"""

import sys
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DataLoader
from tinycv.data.shapes_and_words import all_scenes, caption, draw_scenes, scene_of, words
from tinycv.data.tokenizer import WordTokenizer
from tinycv.diffusion import TextDiT, TextToImage
from tinycv.diffusion.samplers import trajectory
from tinycv.engine.backend import Stopwatch
from tinycv.likelihood.dalle import DALLE
from tinycv.likelihood.vq_vae import DiscreteVAE, codes_in_use, falling_tau
from tinycv.optim import EMA, AdamW, clip_grad_norm_, warmup_cosine
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.motion import captioned, save_gif
from tinycv.show.rule_judge import RuleJudge
from tinycv.training import parallel, pretrained
from tinycv.training.progress import read_loss, say, steps
from tinycv.vision.clip import CLIP, perfect_ranker, rerank

show = Demo(
    "24_text_to_image",
    __doc__,
    pretrained=True,
    prompt="draw one thing by its size, colour, shape and place, in English or Chinese, such as "
    '"a small green triangle top left"',
)
GUIDANCE = 2.0
STRENGTHS = show.choose(quick=(0.0, 2.0), default=(0.0, 0.5, 1.0, 2.0, 4.0, 8.0))
STEPS = show.choose(quick=2, default=12)  # of the DDIM sampler
LENGTH = 6  # words of a caption

# %% The words of all captions; a prompt is checked before anything is trained
seen, held_out = all_scenes(), all_scenes(held_out=True)  # 96 scenes, and 32 that nothing trains on
LANGUAGES = "en", "zh"
all_captions = [caption(scene, language) for scene in seen + held_out for language in LANGUAGES]
tokenizer = WordTokenizer([word for word in words() if word in " ".join(all_captions)])
if show.prompt is not None:
    with show.reading("prompt"):
        typed = tokenizer.encode(show.prompt, LENGTH)
    if not (tokenizer.encode(all_captions, LENGTH) == typed).all(axis=1).any():
        say(
            "  unlike the captions of the training: these name size, colour, shape and place, as in"
        )
        say('  "a small green triangle top left". So the pictures may show nothing')
    if not show.quick and not show.pretrained:  # a prompt needs no training
        with show.reading("prompt"):
            show.pretrained = pretrained.read(show.name)


def ids_of(scenes, language="en"):
    ids = tokenizer.encode([caption(scene, language) for scene in scenes], LENGTH)
    return Tensor(ids, device=show.device)


# %% Data: every seen scene many times, each time drawn elsewhere, in English or in Chinese
repeats = show.choose(quick=2, default=120, pretrained=2)
scenes = seen * repeats
pictures = 2 * draw_scenes(scenes, seed=show.seed) - 1  # (N, 3, 16, 16), from -1 to 1
in_english, in_chinese = ids_of(scenes).numpy(), ids_of(scenes, "zh").numpy()
is_chinese = np.arange(len(scenes))[:, None] // len(seen) % 2 == 1  # every second repetition
ids = np.where(is_chinese, in_chinese, in_english)  # (N, 6)
judge = RuleJudge()
group = parallel.threads() if show.device == "cpu" else None


# %% Training: one loop for all models
def train(module, loss_of, arrays, total, rate, batch_size, beta2=0.99, decay=None):
    """Train for ``total`` steps by loss_of(step, *batch). beta2: of AdamW. decay: of the moving
    average of the weights (EMA); None keeps the last weights. Returns the seconds."""
    optimizer = AdamW(module.parameters(), lr=rate, betas=(0.9, beta2), weight_decay=0.0)
    schedule = warmup_cosine(total, warmup=total // 20)
    loader = DataLoader(*arrays, batch_size=batch_size, drop_last=True, seed=show.seed)
    ema = EMA(module, decay) if decay else None
    with Stopwatch(show.device) as watch:
        epochs = -(-total // len(loader))  # rounded up
        for step, batch in steps(loader, epochs, seed=show.seed, device=show.device):
            if step == total:
                break
            optimizer.param_groups[0]["lr"] = rate * schedule(step)
            optimizer.zero_grad()
            if group:
                loss = group.backward(partial(loss_of, step), *batch)
            else:
                loss = loss_of(step, *batch)
                loss.backward()
            clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            if ema:
                ema.update()
            if (step + 1) % max(1, total // 4) == 0:
                name = type(module).__name__
                say(f"{name}, step {step + 1}  loss {read_loss(loss, step):.4f}")
    if ema:
        module.load_state_dict(ema.state_dict())
    return watch.seconds


# %% Diffusion with text: a DiT whose patches of 4 x 4 pixels attend to the words
dim, depth = show.as_trained(quick=(8, 1), default=(96, 4))
SIZES = {"network": {"image_size": 16, "patch_size": 4, "channels": 3}}
SIZES["network"] |= {"words": len(tokenizer), "length": LENGTH, "dim": dim, "depth": depth}


def new_model(mean=0.3, std=1.5):
    """A text-to-image model before training. ln sigma ~ N(mean, std^2) are its noise levels."""
    tinycv.manual_seed(show.seed)
    network = TextDiT(**SIZES["network"])
    model = TextToImage(network, tokenizer, mean=mean, std=std, sigma_max=20.0, centre=-1.0)
    model.to(show.device)
    return model


def train_diffusion(model, total):
    """EDM's loss; one caption in ten is hidden as a whole, which guidance needs."""
    return train(
        model,
        lambda step, images, ids: model.loss(images, ids),
        [pictures, ids],
        total,
        2e-3,
        show.choose(quick=8, default=64),
        beta2=0.999,
        decay=1 - 16 / (total + 16),
    )


model = new_model()

# %% DALL-E 1: a discrete VAE turns each patch of 2 x 2 pixels into one of CODES codes, and a GPT
# writes the 64 codes of a picture after the words of its caption
CODES = show.as_trained(quick=8, default=128)
features, dim, layers = show.as_trained(quick=(8, 8, 1), default=(48, 64, 3))
SIZES["dvae"] = {"shape": (3, 16, 16), "codes": CODES, "patch_size": 2, "blocks": 0}
SIZES["dvae"] |= {"features": features}
dvae = DiscreteVAE(**SIZES["dvae"]).to(show.device)
SIZES["gpt"] = {"words": len(tokenizer), "text_length": LENGTH, "codes": CODES}
SIZES["gpt"] |= {"image_tokens": dvae.tokens, "dim": dim, "heads": 2, "layers": layers}
gpt = DALLE(**SIZES["gpt"]).to(show.device)
small_batch = show.choose(quick=8, default=32)
dvae_steps = show.choose(quick=2, default=500)


def dvae_loss(step, images):
    """The temperature of the Gumbel-softmax falls from 1 to 1/16 in the first 80 % of the steps."""
    return dvae.loss(images, falling_tau(step, max(1, int(0.8 * dvae_steps))), beta=0.3)


def train_dvae():
    start = np.random.default_rng(show.seed).permutation(len(pictures))[:300]
    dvae.start_at_patches(Tensor(pictures[start], device=show.device))
    return train(dvae, dvae_loss, [pictures], dvae_steps, 5e-3, small_batch)


def codes_of_pictures():
    """The codes of all pictures, (N, 64)."""
    parts = np.array_split(pictures, -(-len(pictures) // 1000))
    codes = [Tensor(dvae.codes_of(Tensor(part, device=show.device))).numpy() for part in parts]
    return np.concatenate(codes)


def train_gpt():
    gpt.start_at_codebook(dvae.codebook())  # codes that look alike start alike
    return train(
        gpt,
        lambda step, ids, codes: gpt.loss(ids, codes),
        [ids, codes_of_pictures()],
        show.choose(quick=2, default=3000),
        3e-3,
        show.choose(quick=8, default=16),
    )


# %% CLIP, trained on the same drawings: pictures of one scene share their captions
SIZES["clip"] = {"image_size": 16, "channels": 3, "words": len(tokenizer), "length": LENGTH}
SIZES["clip"] |= {"dim": show.as_trained(quick=8, default=64)}
clip = CLIP(**SIZES["clip"]).to(show.device)


def train_clip():
    return train(
        clip,
        lambda step, images, ids, groups: clip.loss(images, ids, groups),
        [pictures, ids, np.arange(len(scenes)) % len(seen)],
        show.choose(quick=2, default=300),
        1e-3,
        show.choose(quick=8, default=64),
    )


# %% Train them, or with --pretrained read the weights that an earlier run of this page has written
diffusion_steps = show.choose(quick=2, default=1300)


def train_all():
    """Returns the seconds by name."""
    seconds = {"diffusion": train_diffusion(model, diffusion_steps)}
    for name, training in {
        "discrete VAE": train_dvae,
        "GPT": train_gpt,
        "CLIP": train_clip,
    }.items():
        tinycv.manual_seed(show.seed)
        seconds[name] = training()
    return seconds


networks = {"network": model.network, "dvae": dvae, "gpt": gpt, "clip": clip}
seconds = show.trained(train_all, networks, SIZES)


# %% Sampling: all pictures start from the same noise, whatever draws them
def sampled(model, ids, w=GUIDANCE):
    """A picture of each caption, (N, 3, 16, 16) with pixels from 0 to 1."""

    def walk(noise, ids):
        return model.sample(ids, noise, w, STEPS, "ddim")

    tinycv.manual_seed(show.seed)
    noise = tinycv.randn(len(ids), 3, 16, 16, device=show.device)
    parts = []
    with tinycv.no_grad():
        for start in range(0, len(ids), 64):
            part = noise[start : start + 64], ids[start : start + 64]
            parts.append((group.map(walk, *part) if group else walk(*part)).numpy())
    return np.concatenate(parts) / 2 + 0.5


# %% --prompt: draw what the user typed, and stop here
if show.prompt is not None:
    prompt_ids = Tensor(tokenizer.encode([show.prompt] * 8, LENGTH), device=show.device)
    drawn = sampled(model, prompt_ids)
    readings = [caption(scene) if scene else "nothing" for scene in judge.read(drawn)]
    for reading in readings:
        print(f"  drawn: {reading}")
    figure = draw.figure("Eight pictures of one prompt, and what the judge reads in them", 9, 5.4)
    short = [reading.removeprefix("a ").replace(" ", "\n", 1) for reading in readings]
    short = ["\n".join(r.rsplit(" ", 2)) if " " in r else r for r in short]
    draw.image_grid(figure, drawn, short, columns=4)
    print(f"  picture: {draw.save(figure, show.out / f'{show.name}_prompt.png')}")
    sys.exit()

# %% Measure: the judge's own error, on real drawings
asked = {
    "seen": seen * show.choose(quick=1, default=2, pretrained=1),
    "held out": held_out * show.choose(quick=1, default=4, pretrained=1),
}
EXAMPLES = {  # the pictures shown: each shape and each colour once
    "seen": (
        "a small red circle top left",
        "a large blue square top right",
        "a small green triangle bottom right",
        "a large yellow cross bottom left",
    ),
    "held out": (
        "a large yellow circle top right",
        "a small red square bottom left",
        "a large blue triangle top left",
        "a small green cross bottom right",
    ),
}
if show.quick:
    asked = {kind: [scene_of(text) for text in texts] for kind, texts in EXAMPLES.items()}
real = {name: draw_scenes(scenes, seed=show.seed + 1000) for name, scenes in asked.items()}
everything = asked["seen"] + asked["held out"]
own_error = 1 - judge.right(np.concatenate(list(real.values())), everything)["all"].mean()
show.measured("the judge's own error on real drawings", own_error, "", "<= 0.005")
ATTRIBUTES = "shape", "colour", "size", "place"
REAL = "real drawings: 0.58"


def deviation(images):
    """How much the place of the thing varies, in px: the mean over x and y of the deviation. 0 if
    there is nothing in any picture."""
    offsets = judge.jitter(images)  # (N, 2), NaN where nothing is there
    offsets = offsets[np.isfinite(offsets).all(axis=1)]
    return offsets.std(axis=0).mean() if len(offsets) else 0.0


def measure(name, images, targets=("", ""), reference=""):
    """Figures of images by seen or held out. Returns the shares that are all right."""
    shares = []
    for kind, target in zip(asked, targets, strict=True):
        right = judge.right(images[kind], asked[kind])
        shares.append(right["all"].mean())
        show.measured(f"{name}: all right, {kind}", shares[-1], reference, target)
        by_attribute = [right[attribute].mean() for attribute in ATTRIBUTES]
        show.measured(f"{name}: {', '.join(ATTRIBUTES)} right, {kind}", by_attribute)
        residual = judge.residual(images[kind]).mean()
        show.measured(f"{name}: distance to the nearest clean drawing, {kind}", residual)
        spread = deviation(images[kind])
        show.measured(f"{name}: deviation of the place, px, {kind}", spread, REAL)
    return shares


def drawn_by(model, w=GUIDANCE, language="en"):
    """Pictures of all asked scenes, by seen or held out."""
    images = sampled(model, ids_of(everything, language), w)
    count = len(asked["seen"])
    return {"seen": images[:count], "held out": images[count:]}


# %% Measure: guidance w makes captions hold, then wrecks the pictures
by_strength = {w: drawn_by(model, w) for w in STRENGTHS}
shares = {}  # (seen, held out) by w
for w, images in by_strength.items():
    targets = (">= 0.95", ">= 0.85") if w == GUIDANCE else ("", "")
    shares[w] = measure(f"diffusion, w = {w:g}", images, targets)
in_zh = drawn_by(model, language="zh")
for kind in asked:
    right = judge.right(in_zh[kind], asked[kind])["all"].mean()
    show.measured(f"diffusion, w = 2, Chinese captions: all right, {kind}", right)

# %% Measure: the noise levels of training. The same network, trained equally long twice
short_steps = show.as_trained(quick=2, default=300)
RUNS = {
    "ours": ((0.3, 1.5), "noise levels ln sigma ~ N(0.3, 1.5^2)"),
    "EDM": ((-1.2, 1.2), "noise levels of EDM's default, N(-1.2, 1.2^2)"),
}
by_run = {}  # the shares right of seen captions, by attribute and all
unread = {}  # the share of pictures in which the judge reads nothing
for run, (levels, what) in RUNS.items():
    short_run = f"{short_steps} steps, {what}"
    if show.pretrained:  # as measured by the run that wrote the weights
        figure_of = show.pretrained.value
        by_run[run] = list(figure_of(f"{short_run}: {', '.join(ATTRIBUTES)} right, seen"))
        by_run[run].append(figure_of(f"{short_run}: all right, seen"))
        unread[run] = figure_of(f"{short_run}: pictures in which nothing is read")
        continue
    other = new_model(*levels)
    seconds[f"{run}, {short_steps} steps"] = train_diffusion(other, short_steps)
    images = drawn_by(other)
    measure(short_run, images)
    right = judge.right(images["seen"], asked["seen"])
    by_run[run] = [right[attribute].mean() for attribute in (*ATTRIBUTES, "all")]
    unread[run] = np.mean([scene is None for scene in judge.read(images["seen"])])
    show.measured(f"{short_run}: pictures in which nothing is read", unread[run])

# %% Control: the pictures of w = 2 judged by the captions of other pictures, which must be chance
rng = np.random.default_rng(show.seed)
by_shuffle = []
for _ in range(10):
    others = [asked["seen"][i] for i in rng.permutation(len(asked["seen"]))]
    right = judge.right(by_strength[GUIDANCE]["seen"], others)
    by_shuffle.append([right[attribute].mean() for attribute in (*ATTRIBUTES, "all")])
by_run["shuffled"] = np.mean(by_shuffle, axis=0)


def chance(attribute):
    """How often the attribute of a random seen scene is that of another one."""
    values = [getattr(scene.things[0], attribute) for scene in seen]
    counts = np.array([values.count(value) for value in set(values)])
    return (counts**2).sum() / len(values) ** 2


by_run["chance"] = [*map(chance, ATTRIBUTES), 1 / len(seen)]
names = f"{', '.join(ATTRIBUTES)} and all right"
show.measured(f"judged by shuffled captions: {names}", list(by_run["shuffled"]))
show.measured(f"chance: {names}", by_run["chance"])
show.measured(
    "shuffled captions: the mean of the four attributes, divided by chance",
    np.mean(by_run["shuffled"][:4]) / np.mean(by_run["chance"][:4]),
    "1: the captions say nothing about the pictures",
    "0.9 to 1.1",
)


# %% Measure: DALL-E 1, that is a GPT over the codes of the discrete VAE
def drawn_by_gpt(ids):
    """A picture of each caption by the GPT, (N, 3, 16, 16) with pixels from 0 to 1."""
    with tinycv.no_grad():
        images = dvae.images_of(gpt.eval().sample(ids))
    return np.clip(images.numpy() / 2 + 0.5, 0, 1)


def drawn_again(images):
    """Pictures encoded and decoded: the most that the GPT could reach."""
    x = Tensor((2 * images - 1).astype(np.float32), device=show.device)
    with tinycv.no_grad():
        return np.clip(dvae.images_of(dvae.codes_of(x)).numpy() / 2 + 0.5, 0, 1)


if not show.pretrained:  # counted over all pictures of the training
    used, _ = codes_in_use(codes_of_pictures(), CODES)
    show.measured("discrete VAE: codes in use", used, f"of {CODES}")
measure("discrete VAE, real drawings encoded and decoded", {k: drawn_again(real[k]) for k in real})
tinycv.manual_seed(show.seed)
gpt_images = {kind: drawn_by_gpt(ids_of(scenes)) for kind, scenes in asked.items()}
gpt_shares = measure("GPT over codes", gpt_images, (">= 0.88", ">= 0.7"))

# %% Measure: CLIP chooses the best of 16 pictures of the GPT
K = show.choose(quick=2, default=16)
reranked = {}  # all right: a picture at random, the best by CLIP, by a perfect ranker
prompts_of = {"seen": seen[::3], "held out": held_out}  # 32 scenes each, of all shapes and colours
for kind, prompts in prompts_of.items():
    prompts = prompts[: show.choose(quick=2, default=32)]
    prompt_ids = ids_of(prompts)
    candidates = drawn_by_gpt(Tensor(np.repeat(prompt_ids.numpy(), K, axis=0), device=show.device))
    repeated = [scene for scene in prompts for _ in range(K)]
    right = judge.right(candidates, repeated)["all"].reshape(-1, K)
    candidates = 2 * candidates.reshape(-1, K, 3, 16, 16) - 1
    best = [
        rerank(clip, Tensor(images, device=show.device), row)[0]
        for images, row in zip(candidates, prompt_ids, strict=True)
    ]
    by_clip = right[np.arange(len(right)), best].mean()
    reranked[kind] = right.mean(), by_clip, right.any(axis=1).mean()
    show.measured(f"GPT, best of {K} by CLIP: all right, {kind}", by_clip)
    show.measured(f"GPT, one of these {K} at random: all right, {kind}", right.mean())
    show.measured(f"GPT, best of {K} by a perfect ranker: all right, {kind}", reranked[kind][2])
    bound = perfect_ranker(right.mean(), K)
    show.measured(f"GPT, 1 - (1 - p)^{K} for the mean p, {kind}", bound)

# %% Attention maps: where does each word look? All cross-attentions, on a 4 x 4 grid
LEVEL = 1.0  # the noise level sigma of the drawings that the network reads


def word_maps(scenes):
    """The attention of each of 4 x 4 patches to each word, the mean over blocks and heads,
    (N, 4, 4, 6), and the drawings, (N, 3, 16, 16), from -1 to 1."""
    tinycv.manual_seed(show.seed)
    x = Tensor(2 * draw_scenes(scenes, seed=show.seed + 2000) - 1, device=show.device)
    noised = x + LEVEL * tinycv.randn_like(x)
    maps = model.attention_maps(ids_of(scenes), noised, LEVEL)  # (N, H, 16, 6) of each block
    attention = np.mean([part.numpy() for part in maps], axis=(0, 2))  # (N, 16, 6)
    return attention.reshape(-1, 4, 4, LENGTH), x.numpy()


with_maps = seen * show.choose(quick=1, default=4)
attention, drawings = word_maps(with_maps)
ink = (drawings + 1).max(axis=1).reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)) > 0.4  # (N, 4, 4)
WORDS = "a", "size", "colour", "shape", "place (vertical)", "place (across)"
elsewhere = attention[~ink].mean(axis=0)  # (6,), the weight of each word on empty patches
on_thing = attention[ink].mean(axis=0) / elsewhere  # its weight on the thing, divided by that
show.measured(f"attention of empty patches to {', '.join(WORDS)}", list(elsewhere))
show.measured(f"attention on the thing / elsewhere, of {', '.join(WORDS)}", list(on_thing))

# %% Measure: time
for name, value in seconds.items():
    show.measured(f"seconds of training: {name}", value)

# %% Draw: prompts with their pictures, both ways
(seen_w0, held_w0), (seen_w2, held_w2) = shares[0.0], shares[GUIDANCE]
figure = draw.figure(
    "With guidance w = 2, the share of pictures that follow their caption is "
    f"{100 * seen_w2:.0f} % instead of {100 * seen_w0:.0f} %,\n"
    f"and {100 * held_w2:.0f} % instead of {100 * held_w0:.0f} % where shape and colour were never "
    f"seen together (seed {show.seed})",
    9.6,
    13,
)
parts = figure.subfigures(4, 1, height_ratios=(3.5, 3.2, 2.7, 2.4))
top = parts[0].subplots()
columns, rows = [], {"diffusion,\nw = 2": [], "GPT over\ncodes": [], "real": []}
chosen = {}
for kind, texts in EXAMPLES.items():
    chosen[kind] = [asked[kind].index(scene_of(text)) for text in texts]
    sources = by_strength[GUIDANCE][kind], gpt_images[kind], real[kind]
    for row, source in zip(rows.values(), sources, strict=True):
        row += list(source[chosen[kind]])
    for i in chosen[kind]:
        _, size, colour, shape, *place = caption(asked[kind][i]).split()
        columns.append(f"{size}\n{colour}\n{shape}\n{' '.join(place)}")
draw.image_rows(top, {name: np.clip(row, 0, 1) for name, row in rows.items()}, columns)
top.set_title("Four captions of the training, and four with a held-out pair", fontsize=11)

# %% Draw: guidance
sweep_axes, share_axes, clean_axes, spread_axes = parts[1].subplots(
    1, 4, width_ratios=(1.5, 1.2, 1, 1)
)
pictures_by_w = {
    f"w = {w:g}": np.clip(images["seen"][chosen["seen"]], 0, 1) for w, images in by_strength.items()
}
draw.image_rows(sweep_axes, pictures_by_w)
sweep_axes.set_title("Guidance: the same noise", fontsize=11)
places = np.arange(len(STRENGTHS))
lines = {
    "seen": (places, [shares[w][0] for w in STRENGTHS]),
    "held out": (places, [shares[w][1] for w in STRENGTHS]),
}
draw.curves(share_axes, lines, "guidance w", "all right")
residuals = [judge.residual(images["seen"]).mean() for images in by_strength.values()]
draw.curves(clean_axes, {"": (places, residuals)}, "guidance w", "distance from a clean drawing")
spreads = [deviation(images["seen"]) for images in by_strength.values()]
draw.curves(spread_axes, {"": (places, spreads)}, "guidance w", "deviation of the place, px")
dashed = {"real": deviation(real["seen"]), "GPT": deviation(gpt_images["seen"])}
for (name, value), colour in zip(dashed.items(), (draw.INK, draw.ORANGE), strict=True):
    side = "bottom" if value == max(dashed.values()) else "top"
    spread_axes.axhline(value, color=colour, linestyle="--", linewidth=1)
    spread_axes.text(0, value, f"{name} {value:.2f}", color=colour, fontsize=9, va=side)
spread_axes.set_ylim(0, 1.2 * max(*spreads, *dashed.values(), 0.1))
for ax in (share_axes, clean_axes, spread_axes):
    ax.set_xticks(places, [f"{w:g}" for w in STRENGTHS])

# %% Draw: noise levels and reranking, as bars
noise_axes, rank_axes = parts[2].subplots(1, 2, width_ratios=(1.7, 1))
LOOKS = {
    "ours": ("ln sigma ~ N(0.3, 1.5²)", draw.BLUE),
    "EDM": ("EDM's N(-1.2, 1.2²)", draw.RED),
    "shuffled": ("judged by shuffled captions", draw.ORANGE),
    "chance": ("chance", draw.PALE),
}
for i, (run, (label, colour)) in enumerate(LOOKS.items()):
    noise_axes.bar(np.arange(5) + 0.2 * (i - 1.5), by_run[run], 0.2, color=colour, label=label)
noise_axes.set_xticks(np.arange(5), [*ATTRIBUTES, "all"])
noise_axes.set(ylim=(0, 1.38), yticks=(0, 0.5, 1), ylabel="right, seen captions")
noise_axes.legend(fontsize=8, ncols=2, loc="upper center", frameon=False)
noise_axes.set_title(
    f"Noise levels of training, after {short_steps} steps\n"
    f"(EDM's: nothing can be read in {100 * unread['EDM']:.0f} % of the pictures)",
    fontsize=11,
)
labels = "at random", "by CLIP", "perfect"
for i, (kind, colour) in enumerate(zip(asked, (draw.BLUE, draw.RED), strict=True)):
    rank_axes.bar(np.arange(3) + 0.36 * (i - 0.5), reranked[kind], 0.36, color=colour, label=kind)
rank_axes.set_xticks(np.arange(3), labels)
rank_axes.set(ylim=(0, 1.38), yticks=(0, 0.5, 1), ylabel="all right")
rank_axes.legend(fontsize=8, ncols=2, loc="upper center", frameon=False)
rank_axes.set_title(f"GPT: which one\nof {K} pictures", fontsize=11)

# %% Draw: where each word looks
wanted = scene_of("a small red circle top left")
attention, drawings = word_maps([wanted] * show.choose(quick=2, default=64))
mean_maps = attention.mean(axis=0)  # (4, 4, 6)
mean_picture = np.clip(drawings.mean(axis=0) / 2 + 0.5, 0, 1)
map_axes = parts[3].subplots(1, LENGTH + 1)
draw.image(map_axes[0], mean_picture, "the mean\ndrawing")
for word, (ax, text) in enumerate(zip(map_axes[1:], caption(wanted).split(), strict=True)):
    ax.imshow(mean_maps[..., word], cmap="inferno", vmin=0)
    ax.set(xticks=[], yticks=[], xlabel=f"{on_thing[word]:.2g} x")
    ax.set_title(f'"{text}"', fontsize=10)
rest = WORDS[elsewhere.argmax()]
parts[3].suptitle(
    f'Where each word of "{caption(wanted)}" is read, each map with a scale of its own.\n'
    "Below: weight on the thing / elsewhere, over all captions of the training. "
    f"Empty patches read the {rest} most",
    fontsize=11,
)
show.finish(figure)


# %% Draw: eight prompts come out of noise
def frames():
    eight = [asked[kind][i] for kind in asked for i in chosen[kind]]
    tinycv.manual_seed(show.seed)
    start = model.centre + model.schedule.last * tinycv.randn(8, 3, 16, 16, device=show.device)
    step = model.step(ids_of(eight), GUIDANCE)
    times = model.schedule.times(show.choose(quick=2, default=20))
    for sigma, x in trajectory(step, start, times):
        sheet = np.clip(x.numpy() / 2 + 0.5, 0, 1).reshape(2, 4, 3, 16, 16)
        sheet = sheet.transpose(2, 0, 3, 1, 4).reshape(3, 32, 64)
        large = sheet.repeat(5, axis=1).repeat(5, axis=2)
        yield captioned(large, f"Eight prompts come out of noise: level {sigma:.2f}", 13)


path_of_gif = save_gif(frames(), show.out / f"{show.name}.gif", 0.15, last=3, colours=48)
print(f"  moving picture: {path_of_gif}")
if group:
    group.close()
