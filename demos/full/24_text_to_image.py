"""24, the whole protocol: three seeds, two things, 32 x 32, edits, captions and few-step samplers.

The demo is run from each seed. Then, always judged by the same rules: two things with a relation;
a U-Net beside the DiT on 32 x 32 pixels; the noise levels of training; at which noise level each
attribute is decided; editing and inpainting by text; pictures between two noises and between two
prompts; the same GPT as a captioner, and the loop from text to picture to text; and a sampler of 1
to 4 steps, learned by consistency distillation.
python demos/24_text_to_image.py --full
"""

from dataclasses import replace
from functools import partial

import numpy as np

import tinycv
from tinycv import Tensor, concatenate, nn
from tinycv.data.shapes_and_words import (
    COLOURS,
    Scene,
    all_scenes,
    caption,
    draw_scenes,
    scene_of,
    words,
)
from tinycv.data.text import PAD
from tinycv.data.tokenizer import WordTokenizer
from tinycv.diffusion.cross_attention import TextDiT, TextUNet
from tinycv.diffusion.denoising import clipped
from tinycv.diffusion.distillation import ConsistencyModel, with_guidance
from tinycv.diffusion.edm import edm_denoiser
from tinycv.diffusion.text_to_image import TextToImage
from tinycv.engine.backend import Stopwatch
from tinycv.likelihood.dalle import DALLE
from tinycv.likelihood.vq_vae import VQVAE, DiscreteVAE, codes_in_use, falling_tau
from tinycv.nn.slerp import slerp
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.show.rule_judge import RuleJudge
from tinycv.training import parallel

show = Demo("24_text_to_image", __doc__, full=True)

# %% The demo from each seed
runs = show.repeat_demo(range(show.choose(quick=1, full=3)))
demo = runs[0]

# %% What all parts share: drawings with their captions, training, the judge's counts
BATCH, SMALL_BATCH = show.choose(quick=(4, 4), full=(64, 32))
COUNT = show.choose(quick=4, full=192)  # pictures that are judged
STEPS = show.choose(quick=2, full=10)  # of Heun's sampler
W = 2.0
LENGTH = 9  # words of the longest caption
tokenizer = WordTokenizer(words())
group = parallel.threads() if show.device == "cpu" else None
demo.group = group  # a run of the demo closes its own


def drawings(things, side, count, seed, held_out=False):
    """``count`` random scenes, and their drawings with pixels from -1 to 1: a list, and (count, 3,
    side, side)."""
    rng = np.random.default_rng((seed, held_out))
    scenes = all_scenes(things, held_out)
    chosen = [scenes[i] for i in rng.integers(0, len(scenes), count)]
    return chosen, 2 * draw_scenes(chosen, side, seed=seed) - 1


def in_words(scenes, tokenizer=demo.tokenizer, length=demo.LENGTH):
    """The English captions as word numbers (N, length)."""
    return tokenizer.encode([caption(scene) for scene in scenes], length)


def learn_to_paint(model, scenes, images, total, batch_size=BATCH):
    """Train a TextToImage, as in the demo, on drawings and English captions. Returns the
    seconds."""
    model.to(show.device)
    ids = in_words(scenes, model.tokenizer, model.network.length)
    return demo.train(
        model,
        lambda step, images, ids: model.loss(images, ids),
        [images, ids],
        total,
        2e-3,
        batch_size,
        beta2=0.999,
        decay=1 - 16 / (total + 16),
    )


def train_alone(*what, **options):
    """demo.train on one thread, for a loss that changes its module."""
    demo.group = None
    seconds = demo.train(*what, **options)
    demo.group = group
    return seconds


def noise_for(count, side):
    """Noise (count, 3, side, side), the same for all models that are compared."""
    tinycv.manual_seed(show.seed)
    return tinycv.randn(count, 3, side, side, device=show.device)


def pixels(images):
    """Pictures from -1 to 1 as NumPy, from 0 to 1."""
    return np.clip(images.numpy() / 2 + 0.5, 0, 1)


def in_parts(run, *rows):
    """run(*rows) in parts of 64 rows, on all cores: NumPy, with pixels from 0 to 1."""
    parts = []
    with tinycv.no_grad():
        for start in range(0, len(rows[0]), 64):
            part = [array[start : start + 64] for array in rows]
            parts.append(pixels(group.map(run, *part) if group else run(*part)))
    return np.concatenate(parts)


def paint(model, scenes, side=16, w=W):
    """One picture for each scene by its caption, with pixels from 0 to 1."""
    ids = model.ids_of([caption(scene) for scene in scenes])
    noise = noise_for(len(scenes), side)
    return in_parts(lambda noise, ids: model.sample(ids, noise, w, STEPS), noise, ids)


def spread(judge, images):
    """The standard deviation of where the things are, in pixels of 16: how varied pictures are."""
    offsets = judge.jitter(images)
    there = offsets[np.isfinite(offsets).all(axis=1)]  # (N, 2) of pictures with a thing
    return there.std(axis=0).mean() if len(there) else 0.0  # a quick run shows nothing


def shares(judge, images, scenes):
    """What the judge counts: the share of pictures that are right, by attribute."""
    return {name: right.mean() for name, right in judge.right(images, scenes).items()}


# %% Two things with a relation: "a red circle left of a blue square"
scenes_of_two, images_of_two = drawings(2, 16, show.choose(quick=8, full=12000), show.seed)
tinycv.manual_seed(show.seed)
width, depth = show.choose(quick=(8, 1), full=(96, 4))


def dit(side):
    """The network of the demo, for longer captions and pictures of any size."""
    return TextDiT(side, 4, 3, len(tokenizer), LENGTH, width, depth, 4)


two = TextToImage(dit(16), tokenizer, sigma_max=20.0, centre=-1.0)
total = show.choose(quick=2, full=3500)
seconds_of_two = learn_to_paint(two, scenes_of_two, images_of_two, total)
judge_of_two = RuleJudge(16, things=2)
own_error = []
for held_out in (False, True):
    scenes, images = drawings(2, 16, 3 * COUNT, show.seed + 100, held_out)
    own_error.append(1 - shares(judge_of_two, images / 2 + 0.5, scenes)["all"])
show.measured(
    "two things: the judge's own error on real drawings", np.mean(own_error), "", "<= 0.005"
)
WS = show.choose(quick=(0.0, 2.0), full=(0.0, 1.0, 2.0, 4.0))
all_right_of_two = {"seen": [], "held out": []}
shown_of_two = {}
for kind in all_right_of_two:
    scenes, _ = drawings(2, 16, COUNT, show.seed + 200, kind == "held out")
    for w in WS:
        images = paint(two, scenes, w=w)
        counts = shares(judge_of_two, images, scenes)
        all_right_of_two[kind].append(counts["all"])
        if w == W:
            shown_of_two[kind] = scenes, images
            for name, share in counts.items():
                show.measured(f"two things, {kind}, w = 2: {name}", share)
    show.measured(f"two things, {kind}: all right, w = {WS}", all_right_of_two[kind])
at_2 = WS.index(W)
gap_of_two = all_right_of_two["seen"][at_2] - all_right_of_two["held out"][at_2]
show.measured("two things, w = 2: all right, seen less held out", gap_of_two)
show.measured("two things: seconds of training", seconds_of_two)

# %% 32 x 32 pixels: a U-Net beside a DiT, one thing, about the same seconds of training
SIDE = show.choose(quick=16, full=32)
scenes_32, images_32 = drawings(1, SIDE, show.choose(quick=8, full=4000), show.seed)
WIDTHS = show.choose(quick=(4, 4), full=(32, 64))
NETWORKS = {  # name: (how it is made, steps)
    "DiT": (lambda: dit(SIDE), show.choose(quick=1, full=700)),
    "U-Net": (
        lambda: TextUNet(3, WIDTHS, len(tokenizer), LENGTH),
        show.choose(quick=1, full=700),
    ),
}
judge_32 = RuleJudge(SIDE)
for name, (make, total) in NETWORKS.items():
    tinycv.manual_seed(show.seed)
    large = TextToImage(make(), tokenizer, sigma_max=20.0, centre=-1.0)
    seconds = learn_to_paint(large, scenes_32, images_32, total, SMALL_BATCH)
    for kind in ("seen", "held out"):
        scenes, _ = drawings(1, SIDE, COUNT // 2, show.seed + 300, kind == "held out")
        images = paint(large, scenes, SIDE)
        right = shares(judge_32, images, scenes)["all"]
        show.measured(f"{SIDE} x {SIDE}, {name}, {kind}, w = 2: all right", right)
    residual = np.median(judge_32.residual(images))
    show.measured(f"{SIDE} x {SIDE}, {name}: distance from the nearest clean drawing", residual)
    show.measured(f"{SIDE} x {SIDE}, {name}: seconds of training", seconds)

# %% The noise levels of training: ln sigma ~ N(mean, 1.5^2); the demo has -1.2 and 0.3
MEANS = show.choose(quick=(0.3,), full=(-0.5, 1.0))
by_mean = []
for mean in MEANS:
    levelled = demo.new_model(mean)
    demo.train_diffusion(levelled, demo.short_steps)
    by_mean.append(shares(demo.judge, demo.drawn_by(levelled)["seen"], demo.asked["seen"])["all"])
show.measured(f"{demo.short_steps} steps, ln sigma of mean {MEANS}: all right, seen", by_mean)

# %% At which noise level is each attribute decided? Noise is added to a drawing and removed again,
# without any text: what is still as it was?
model, judge = demo.model, demo.judge
scenes_16, images_16 = drawings(1, 16, show.choose(quick=8, full=6000), show.seed)
test_scenes, test_images = drawings(1, 16, COUNT, show.seed + 400)
no_text = np.full((COUNT, model.network.length), PAD)
SIGMAS = show.choose(quick=(1.0, 4.0), full=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0))
old = Tensor(test_images, device=show.device)
kept_by_sigma = {name: [] for name in ("shape", "colour", "size", "place")}
for sigma in SIGMAS:
    tinycv.manual_seed(show.seed)
    with tinycv.no_grad():
        varied = pixels(model.edit(no_text, old, sigma, w=0.0, steps=STEPS))
    counts = shares(judge, varied, test_scenes)
    for name, kept in kept_by_sigma.items():
        kept.append(counts[name])
for name, kept in kept_by_sigma.items():
    by_chance = "half if drawn again" if name == "size" else "a quarter if drawn again"
    show.measured(f"noise of sigma {SIGMAS}, no text: {name} kept", kept, by_chance)

# %% Editing by text: another colour, everything else as it was
rng = np.random.default_rng(show.seed)


def recoloured(scene):
    """The scene with another colour, such that the pair of colour and shape was trained on."""
    thing = scene.things[0]
    others = [replace(thing, colour=colour) for colour in COLOURS if colour != thing.colour]
    allowed = [other for other in others if not other.held_out]
    return Scene((allowed[rng.integers(len(allowed))],))


new_scenes = [recoloured(scene) for scene in test_scenes]
new_ids = in_words(new_scenes)
obeyed, rest_kept, moved = [], [], []
edits = []
places = judge.jitter(test_images / 2 + 0.5)
for sigma in SIGMAS:
    tinycv.manual_seed(show.seed)
    with tinycv.no_grad():
        edited = pixels(model.edit(new_ids, old, sigma, W, STEPS))
    edits.append(edited)
    right = judge.right(edited, new_scenes)
    rest = right["shape"] & right["size"] & right["place"]
    obeyed.append(right["colour"].mean())
    rest_kept.append(rest.mean())
    distance = np.abs(judge.jitter(edited) - places)[rest]
    moved.append(distance.mean() if len(distance) else 0.0)
show.measured(f"edit, sigma {SIGMAS}: has the new colour", obeyed)
show.measured(f"edit, sigma {SIGMAS}: shape, size and place kept", rest_kept)
show.measured(f"edit, sigma {SIGMAS}: moved by, pixels", moved, "2/3 if drawn again")
both = [judge.right(edited, new_scenes)["all"].mean() for edited in edits]
best = int(np.argmax(both))
show.measured("edit, at the best sigma: new colour, and all else kept", both[best])
show.measured("edit: the best sigma", SIGMAS[best])

# %% Inpainting by text: the left or upper of two things stays, the other is painted by the prompt
kept_side = np.zeros((COUNT, 3, 16, 16), bool)
asked_for = []
pairs = all_scenes(2)
start_scenes, start_images = drawings(2, 16, COUNT, show.seed + 500)
for i, scene in enumerate(start_scenes):
    first = scene.relation in ("left of", "above")
    stays = scene.things[0 if first else 1]  # the left or upper thing
    half = np.s_[:, :, :8] if scene.relation in ("left of", "right of") else np.s_[:, :8]
    kept_side[(i, *half)] = True
    same_relation = "left of" if scene.relation in ("left of", "right of") else "above"
    choices = [s for s in pairs if s.things[0] == stays and s.relation == same_relation]
    asked_for.append(choices[rng.integers(len(choices))])
tinycv.manual_seed(show.seed)
with tinycv.no_grad():
    known = Tensor(kept_side, device=show.device)
    start = Tensor(start_images, device=show.device)
    texts = [caption(scene) for scene in asked_for]
    inpainted = pixels(two.inpaint(texts, start, known, W, STEPS, repeats=2))
counts = shares(judge_of_two, inpainted, asked_for)
for name in ("all", "shape", "colour"):
    show.measured(f"inpainting one of two things by text: {name} right", counts[name])
change = np.abs(inpainted - (start_images / 2 + 0.5))[kept_side].max()
show.measured("inpainting: largest change of a known pixel", change, target="<= 0.01")


# %% Between two noises, and between two prompts, along an arc (slerp)
class BetweenPrompts(nn.Module):
    """A text encoder that returns given tokens (B, T, E) for each prompt, and for "no text" what
    the encoder returns."""

    def __init__(self, encoder, tokens):
        self.encoder, self.tokens, self.length = encoder, tokens, encoder.length

    def forward(self, ids):
        tokens = self.encoder(ids)
        return concatenate([self.tokens, tokens[len(self.tokens) :]])

    def mask_of(self, ids):
        return self.encoder.mask_of(ids)

    def pooled(self, tokens, ids):
        return self.encoder.pooled(tokens, ids)


SHARES = np.linspace(0, 1, show.choose(quick=3, full=9))


def between_noises(scene, arc=True):
    """Pictures of one prompt, from noise to noise: along an arc, or for comparison on a line."""
    a, b = noise_for(2, 16)
    if arc:
        path = slerp(a, b, SHARES)
    else:
        t = Tensor(SHARES.astype(np.float32), device=show.device).reshape((-1, 1, 1, 1))
        path = (1 - t) * a + t * b
    with tinycv.no_grad():
        ids = np.repeat(in_words([scene]), len(SHARES), axis=0)
        return pixels(model.sample(ids, path, W, STEPS))


def between_prompts(first, second):
    """Pictures of one noise, from the tokens of one prompt to those of another."""
    encoder = model.network.embed.text
    with tinycv.no_grad():
        ids = model.ids_of([caption(first), caption(second)])
        a, b = encoder(ids)
        model.network.embed.text = BetweenPrompts(encoder, slerp(a, b, SHARES))
        noise = concatenate([noise_for(1, 16)] * len(SHARES))
        rows = concatenate([ids[:1]] * len(SHARES))
        images = pixels(model.sample(rows, noise, W, STEPS))
        model.network.embed.text = encoder
    return images


one_word_apart = scene_of("a large red circle top left"), scene_of("a large blue circle top left")
all_apart = scene_of("a small yellow cross top left"), scene_of("a large blue square bottom right")
strips = {
    "two noises": between_noises(one_word_apart[0]),
    "red, blue": between_prompts(*one_word_apart),
    "all words": between_prompts(*all_apart),
}
for path, arc in (("an arc", True), ("a line", False)):
    right, clean = [], []
    for scene in test_scenes[: show.choose(quick=1, full=12)]:
        images = between_noises(scene, arc)[1:-1]
        right.append(judge.right(images, [scene] * len(images))["all"].mean())
        clean.append(np.median(judge.residual(images)))
    show.measured(f"between two noises, along {path}: all right", np.mean(right))
    show.measured(f"between two noises, along {path}: distance from clean", np.mean(clean))
found = judge.read(strips["all words"])
steady = [scene in (*all_apart,) for scene in found]
show.measured("between two prompts: share of pictures that show one of the two", np.mean(steady))


# %% DALL-E 1: the weight of the KL, where the codes start, VQ-VAE, and patches of 4 x 4 pixels
def measure_codes(name, coder):
    """How many codes are in use, and what the codes keep of drawings that were not trained on."""
    used, perplexity = codes_in_use(codes_of(coder, images_16[:1000]), coder.codes)
    show.measured(f"{name}: codes in use of {coder.codes}", used)
    show.measured(f"{name}: perplexity of the codes", perplexity)
    for kind in ("seen", "held out"):
        scenes, images = drawings(1, 16, COUNT, show.seed + 700, kind == "held out")
        with tinycv.no_grad():
            again = pixels(coder.images_of(codes_of(coder, images)))
        show.measured(
            f"{name}, {kind}: drawn again, all right", shares(judge, again, scenes)["all"]
        )


def codes_of(coder, images):
    """Codes (N, tokens) of pictures with pixels from -1 to 1, 500 at a time."""
    parts = []
    for i in range(0, len(images), 500):
        part = Tensor(images[i : i + 500].astype(np.float32), device=show.device)
        parts.append(Tensor(coder.codes_of(part)).numpy())
    return np.concatenate(parts)


WIDTH = {"features": show.choose(quick=8, full=48), "blocks": 0}
coder_steps = show.choose(quick=2, full=500)
CODERS = {  # name: (beta, patch size, codes start at patches of the data)
    "discrete VAE, beta 0.3": (0.3, 2, True),
    "discrete VAE, beta 3": (3.0, 2, True),
    "discrete VAE, beta 0.3, codes start at random": (0.3, 2, False),
    "discrete VAE, beta 0.3, patches of 4": (0.3, 4, True),
    "VQ-VAE": (None, 2, True),
}
for name, (beta, patch_size, at_patches) in CODERS.items():
    tinycv.manual_seed(show.seed)
    kind = VQVAE if beta is None else DiscreteVAE
    coder = kind((3, 16, 16), demo.CODES, patch_size, **WIDTH).to(show.device)
    if at_patches:
        coder.start_at_patches(Tensor(images_16[:300], device=show.device))
    revived = []

    def loss_of_coder(step, images, coder=coder, beta=beta, revived=revived):
        if beta is None:  # VQ-VAE; codes that nothing is near to move to patches of the batch
            revived.append(coder.revive(images))
            return coder.loss(images)
        return coder.loss(images, falling_tau(step, max(1, int(0.8 * coder_steps))), beta)

    train_alone(coder, loss_of_coder, [images_16], coder_steps, 5e-3, SMALL_BATCH)
    measure_codes(name, coder)
    if beta is None:
        show.measured(f"{name}: dead codes revived", sum(revived))

# %% From a picture to its text: the same GPT with the image first
vae = demo.dvae
tinycv.manual_seed(show.seed)
captioner = DALLE(
    len(demo.tokenizer),
    demo.LENGTH,
    vae.codes,
    vae.tokens,
    dim=show.choose(quick=8, full=64),
    heads=2,
    layers=show.choose(quick=1, full=2),
    order="image first",
).to(show.device)
captioner.start_at_codebook(vae.codebook())
seconds_of_captioner = demo.train(
    captioner,
    lambda step, ids, codes: captioner.loss(ids, codes),
    [in_words(scenes_16), codes_of(vae, images_16)],
    show.choose(quick=2, full=1500),
    3e-3,
    SMALL_BATCH,
)
captioner.eval()


def captioned(images):
    """The scenes that the captioner describes for pictures with pixels from 0 to 1. None: its text
    is no caption of this world."""
    with tinycv.no_grad():
        codes = codes_of(vae, 2 * images - 1)
        texts = demo.tokenizer.decode(Tensor(captioner.sample(codes, top_k=1)).numpy())
    found = []
    for text in texts:
        try:
            found.append(scene_of(text))
        except ValueError:
            found.append(None)
    return found


for kind in ("seen", "held out"):
    scenes, images = drawings(1, 16, COUNT, show.seed + 600, kind == "held out")
    found = captioned(images / 2 + 0.5)
    exact = np.mean([a == b for a, b in zip(found, scenes, strict=True)])
    show.measured(f"captions of drawings, {kind}: exactly right", exact)
    images = paint(model, scenes)
    found = captioned(images)
    exact = np.mean([a == b for a, b in zip(found, scenes, strict=True)])
    show.measured(f"text to picture to text, {kind}: the same text", exact)
show.measured("captioner: seconds of training", seconds_of_captioner)

# %% Few steps: consistency distillation of the guided sampler
tinycv.manual_seed(show.seed)
student = ConsistencyModel(model.network, model.sigma_data, model.schedule, steps=17)
student.to(show.device)
guided_teacher = with_guidance(edm_denoiser(model.network, model.sigma_data), PAD, W)
black = model.centre  # the network sees pixels less this
teacher = clipped(guided_teacher, -1.0 - black, 1.0 - black)


def loss_of_student(step, images, ids):
    if step:
        student.update()  # the target follows the last step of the optimizer
    return student.loss(teacher, images - black, ids)


distillation_steps = show.choose(quick=2, full=800)
seconds_of_student = train_alone(
    student.network,
    loss_of_student,
    [images_16, in_words(scenes_16)],
    distillation_steps,
    1e-3,
    SMALL_BATCH,
    decay=1 - 10 / (distillation_steps + 10),
)


def with_student(count, noise, ids):
    """Pictures of the student in ``count`` steps."""
    return black + student.sample(noise, count, ids)


def with_teacher(count, noise, ids):
    """Pictures of Heun's method in ``count`` steps, guided."""
    return model.sample(ids, noise, W, count)


SAMPLERS = {  # name: (function, numbers of steps)
    "student": (with_student, show.choose(quick=(1, 2), full=(1, 2, 4))),
    "Heun": (with_teacher, show.choose(quick=(2, 3), full=(2, 3, 5, 10, 20))),
}
by_sampler = {}  # name: (seconds, all right) by number of steps
few_steps = {}
for name, (run, numbers) in SAMPLERS.items():
    found = []
    for count in numbers:
        ids = model.ids_of([caption(scene) for scene in test_scenes])
        noise = noise_for(COUNT, 16)
        with Stopwatch(show.device) as watch:
            images = in_parts(partial(run, count), noise, ids)
        few_steps[name, count] = images
        right = shares(judge, images, test_scenes)["all"]
        residual = np.median(judge.residual(images))
        found.append((watch.seconds, right, residual, spread(judge, images)))
    seconds, right, residual, spreads = map(list, zip(*found, strict=True))
    by_sampler[name] = np.array(seconds), np.array(right)
    show.measured(f"{name}, {numbers} steps: all right", right)
    show.measured(f"{name}, {numbers} steps: distance from clean", residual)
    show.measured(f"{name}, {numbers} steps: deviation of the place, pixels", spreads, "real: 0.58")
    show.measured(f"{name}, {numbers} steps: seconds for {COUNT} pictures", seconds)
show.measured("distillation: seconds of training", seconds_of_student)
faster = by_sampler["Heun"][0][-1] / by_sampler["student"][0]
show.measured("seconds of Heun with the most steps / seconds of the student", list(faster))

# %% Draw
one_step, many_steps = by_sampler["student"][1][0], by_sampler["Heun"][1][-1]
figure = draw.figure(
    f"A distilled sampler follows {100 * one_step:.0f} % of the captions in 1 step, Heun's method "
    f"{100 * many_steps:.0f} % in {SAMPLERS['Heun'][1][-1]};\n"
    f"of two things with a relation, {100 * all_right_of_two['seen'][at_2]:.0f} % are right, and "
    f"{100 * all_right_of_two['held out'][at_2]:.0f} % with a held-out pair of shape and colour",
    11,
    11,
)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.2, 3.0, 2.6))


def in_lines(scene):
    """The caption of a scene of two things, in three lines."""
    first, second = (caption(Scene((thing,))) for thing in scene.things)
    return f"{first}\n{scene.relation}\n{second}"


seen_axes, held_axes = top.subfigures(1, 2)
for place, kind in ((seen_axes, "seen"), (held_axes, "held out")):
    scenes, images = shown_of_two[kind]
    right = judge_of_two.right(images[:4], scenes[:4])["all"]
    colours = [draw.GOOD if is_right else draw.BAD for is_right in right]
    draw.image_grid(place, images[:4], [in_lines(s) for s in scenes[:4]], colours, columns=4)
    place.suptitle(f"Two things, {kind} pairs, w = 2, not selected", fontsize=11)

edit_axes, slerp_axes = middle.subplots(1, 2, width_ratios=(1, 1.35))
rows = {"before": test_images[:6] / 2 + 0.5}
for sigma, edited in zip(SIGMAS, edits, strict=True):
    rows[f"sigma {sigma:g}"] = edited[:6]
draw.image_rows(edit_axes, rows, [scene.things[0].colour for scene in new_scenes[:6]])
edit_axes.set_title("Editing: the prompt names another colour", fontsize=11, pad=22)
draw.image_rows(slerp_axes, strips)
slerp_axes.set_title("Between two noises, and between two prompts", fontsize=11)

decided_axes, few_axes, curve_axes = bottom.subplots(1, 3, width_ratios=(1.1, 1, 1.1))
draw.curves(
    decided_axes,
    {name: (np.log2(SIGMAS), kept) for name, kept in kept_by_sigma.items()},
    "noise added, and removed without text, sigma",
    "share that keeps it",
)
decided_axes.set_xticks(np.log2(SIGMAS), [f"{sigma:g}" for sigma in SIGMAS])
decided_axes.set_title("What is decided at which noise", fontsize=11)
rows = {}
for name, numbers in SAMPLERS.items():
    for count in numbers[1]:
        rows[f"{name}, {count}"] = few_steps[name, count][:5]
draw.image_rows(few_axes, rows)
few_axes.set_title("The same noise, by steps", fontsize=11)
for colour, (name, (seconds, right)) in zip(
    (draw.BLUE, draw.ORANGE), by_sampler.items(), strict=True
):
    curve_axes.plot(seconds / COUNT * 1000, right, "o-", color=colour, label=name)
    for x, y, count in zip(seconds / COUNT * 1000, right, SAMPLERS[name][1], strict=True):
        curve_axes.annotate(f"{count}", (x, y), (0, 6), textcoords="offset points", ha="center")
curve_axes.set_xscale("log")
curve_axes.minorticks_off()
curve_axes.set_xlabel("ms per picture (numbers: steps)")
curve_axes.set_ylabel("all right")
curve_axes.set_ylim(0, 1.1)
curve_axes.legend(frameon=False)
curve_axes.set_title("Distilled and not", fontsize=11)
show.finish(figure)
if group:
    group.close()
