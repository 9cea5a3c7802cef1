"""12 · Can one photo be painted in the style of another, without a trained network?
python demos/12_style_transfer.py      89 s on one core

Style transfer (风格迁移). A Gram matrix says which filters respond together,
wherever they do, and so it describes texture. The pixels of a picture are optimised until its Gram
matrices are close to those of the style and its brightness follows the content. The filters are
random; other random filters, which the optimisation never saw, judge the result. Then the fast way:
a decoder is trained, and paints in styles that it has never seen, in one pass (AdaIN).
Your own photos: --content me.jpg --style painting.png; with VGG-19: --vgg vgg19.safetensors
Read first: tinycv/vision/style.py, tinycv/vision/adain.py.
Gatys et al. 2016; Ustyuzhaninov et al. 2016 (random filters); Huang & Belongie 2017 (AdaIN).
Photographs: danielbuechele (temple) and vultilion (flower), CC BY 2.0, as they ship with
scikit-learn; CMMI (tissue), CC0Textures (gravel), with scikit-image.
"""

import numpy as np

import tinycv
from tinycv import Tensor
from tinycv.data import DrawnLoader, PhotoCrops, credit, sample_photo
from tinycv.data.photos import open_photo, square
from tinycv.engine.backend import Stopwatch
from tinycv.nn.functional import adaptive_instance_norm
from tinycv.optim import LBFGS, Adam, clip_grad_norm_
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import read_loss, say, steps
from tinycv.vision import (
    AdaINTransfer,
    Canvas,
    RandomFilters,
    StyleObjective,
    VGG19Features,
    adain_loss,
    gram_matrix,
    luminance,
    match_luminance,
    style_loss,
)

show = Demo(
    "12_style_transfer",
    __doc__,
    content="your photo, of which the square in the middle is scaled to 96 x 96 pixels",
    style="the photo or painting whose style is taken, also scaled to 96 x 96",
    vgg="weights of VGG-19 by the names of torchvision, in place of random filters; slower",
)
SIDE = show.choose(quick=32, default=96)
EVALUATIONS = show.choose(quick=3, default=100)  # of the loss and its gradient, per picture
ALPHAS = (0.1, 0.01, 0.001, 0.0001)  # the weight of the content
ALPHA = 0.01


# %% Data: the content, the style, and three styles for the fast way
def photo(name, box, path=None):
    """A sample photo, or the user's own: (1, 3, SIDE, SIDE)."""
    pixels = square(open_photo(path), SIDE) if path else sample_photo(name, SIDE, box)
    if np.ptp(pixels) < 0.05:
        raise ValueError(
            f"all pixels of {path} have nearly one colour, so nothing can be transferred"
        )
    return Tensor(pixels[None], device=show.device)


with show.reading("content"):
    content = photo("china", (20, 60, 380), show.content)
with show.reading("style"):
    style = photo("flower", (150, 260, 110), show.style)
    if np.array_equal(style.numpy(), content.numpy()):
        raise ValueError("it is the content photo itself")
unseen = [
    style,
    photo("immunohistochemistry", (0, 0, 200)),
    photo("gravel", (0, 0, 300)),
]


# %% Filters for the optimisation, and fresh ones of another seed, which only judge
def random_filters(seed):
    tinycv.manual_seed(seed)
    levels = show.choose(quick=2, default=4)
    return RandomFilters(show.choose(quick=4, default=24), levels=levels).to(show.device)


fresh = random_filters(1000 + show.seed)
filters = random_filters(show.seed)
scale = 1
if show.vgg:
    with show.reading("vgg"):
        filters = VGG19Features(show.vgg, pooling="average").to(show.device)
    # The paper sums over the content features, and content_loss takes their mean. With this scale
    # the four weights are ratios alpha / beta as in the paper, where they are about 0.001.
    scale = filters(content).content.size


def gram_distance(image, style):
    """The squared distance of the Gram matrices of fresh filters from those of the style."""
    with tinycv.no_grad():
        grams = [gram_matrix(maps) for maps in fresh(style).style]
        return style_loss(fresh(image).style, grams).item()


def gain(image, style, content=content):
    """The gram_distance of the content photo to the style, divided by that of the image."""
    return gram_distance(content, style) / gram_distance(image, style)


def likeness(image, content=content):
    """The correlation of the brightness of all pixels with that of the content."""
    a, b = luminance(image).numpy().ravel(), luminance(content).numpy().ravel()
    return np.corrcoef(a, b)[0, 1]


# %% The optimisation: the whole loop. The parameters are the pixels
def lbfgs(parameters):
    return LBFGS(
        parameters,
        max_iter=EVALUATIONS,
        max_eval=EVALUATIONS,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )


def adam(rate):
    return lambda parameters: Adam(parameters, lr=rate)


def paint(goal, start, optimizer_of):
    """Optimise a picture. Returns it, and the loss at each evaluation. A step of Adam is one
    evaluation; a step of L-BFGS makes up to EVALUATIONS, or a few more to end a line search.
    """
    canvas = Canvas(start)
    optimizer = optimizer_of(canvas.parameters())
    losses = []

    def loss_and_gradient():
        optimizer.zero_grad()
        loss = goal(canvas())
        loss.backward()
        losses.append(read_loss(loss, len(losses)))
        return loss

    while len(losses) < EVALUATIONS:
        optimizer.step(loss_and_gradient)
    return canvas().detach(), losses


# %% Style against content: four weights
grey = match_luminance(content, style)
pictures = {}  # by alpha
for alpha in ALPHAS:
    goal = StyleObjective(grey, style, filters, scale * alpha)
    with Stopwatch(show.device) as watch:
        pictures[alpha], losses = paint(goal, content, lbfgs)
    if alpha == ALPHA:
        seconds, losses_of_lbfgs = watch.seconds, losses
    say(f"alpha {alpha}: distance to the style / {gain(pictures[alpha], style):.0f}")
curve = {alpha: gain(image, style) for alpha, image in pictures.items()}
likenesses = {alpha: likeness(image) for alpha, image in pictures.items()}
painted = pictures[ALPHA]

# %% Adam on the same loss, at three rates: how low does each get with as many evaluations?
losses_of_adam = {}  # by rate
for rate in (0.1, 0.3, 1.0):
    goal = StyleObjective(grey, style, filters, scale * ALPHA)
    _, losses_of_adam[rate] = paint(goal, content, adam(rate))

# %% Controls: colours alone (AdaIN of the pixels), and the pixels of the style in a random order
recoloured = tinycv.clip(adaptive_instance_norm(content, style), 0, 1)
order = np.random.default_rng(show.seed).permutation(SIDE * SIDE)
shuffled = style.reshape(1, 3, -1)[:, :, order].reshape(style.shape)

# %% Texture synthesis, from noise: the Gram matrices of one level, and of all levels up to one
texture = unseen[1]
noise = tinycv.clip(0.5 + 0.2 * tinycv.randn_like(content), 0, 1)
levels = len(filters(content).style)


def synthesise(used):
    """A texture from the Gram matrices of these levels."""
    weights = [1.0 if level in used else 0.0 for level in range(levels)]
    goal = StyleObjective(None, texture, filters, weights=weights)
    image, _ = paint(goal, noise, lbfgs)
    return image


alone = [synthesise([level]) for level in range(levels)]
up_to = [alone[0], *(synthesise(range(level + 1)) for level in range(1, levels))]

# %% The fast way: a decoder learns from crops of other photos. The whole loop
TRAINING_PHOTOS = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "hubble_deep_field",
    "grass",
    "brick",
)
total = show.choose(quick=2, default=250)
crops = PhotoCrops(
    [sample_photo(name) for name in TRAINING_PHOTOS[: show.choose(quick=1, default=8)]],
    show.choose(quick=16, default=64),
)


def pairs(n, rng):
    """Contents, and styles whose R, G and B are exchanged at random: (n, 3, 64, 64) each."""
    (contents,), (styles,) = crops(n, rng), crops(n, rng)
    return contents, np.stack([image[rng.permutation(3)] for image in styles])


tinycv.manual_seed(show.seed)
model = AdaINTransfer(width=show.choose(quick=2, default=32)).to(show.device)
critic = RandomFilters(show.choose(quick=2, default=12), levels=show.choose(quick=1, default=4))
critic = critic.to(show.device)
RATE = 5e-3
optimizer = Adam(model.parameters(), lr=RATE)
loader = DrawnLoader(pairs, show.choose(quick=1, default=4), total, show.seed)
with Stopwatch(show.device) as watch:
    for step, (contents, styles) in steps(loader, 1, seed=show.seed, device=show.device):
        optimizer.param_groups[0]["lr"] = RATE * min(1, 2 * (1 - step / total))
        optimizer.zero_grad()
        loss = adain_loss(model, contents, styles, critic)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % max(1, total // 8) == 0:
            say(f"AdaIN, step {step + 1}/{total}  loss {read_loss(loss, step):.4g}")
training_seconds = watch.seconds
with tinycv.no_grad():
    with Stopwatch(show.device) as watch:
        in_one_pass = [model(content, one) for one in unseen]
    seconds_of_a_pass = watch.seconds / len(unseen)
    inverted = [model.encoder.inverse(model.target(content, one)) for one in unseen]


# %% Measure
show.measured(
    "Gram distance to the style, fresh filters: the content photo's, divided by the painted one's",
    curve[ALPHA],
    "both distances are squared, as E_l is in the paper",
    ">= 25",
)
show.measured(
    "correlation of the painted picture's brightness with the content",
    likenesses[ALPHA],
    "",
    ">= 0.9",
)
weights_in_words = ", ".join(map(str, ALPHAS))
show.measured(
    f"the same ratio for content weights {weights_in_words}",
    list(curve.values()),
    target="grows as the weight falls",
)
show.measured(
    f"the same correlation for content weights {weights_in_words}",
    list(likenesses.values()),
    target="falls as the weight falls",
)
by_colour, by_shuffling = gain(recoloured, style), gain(shuffled, style)
show.measured(
    "control, colours alone (mean and deviation of red, green and blue): the same ratio",
    by_colour,
)
show.measured("control, colours alone: correlation", likeness(recoloured))
show.measured(
    "control, pixels of the style in random order: the same ratio",
    by_shuffling,
)
show.measured("control, pixels of the style in random order: correlation", likeness(shuffled))
show.measured(
    "ratio of the painted picture, divided by that of the better control",
    curve[ALPHA] / max(by_colour, by_shuffling),
    target=">= 3",
)
end_of_adam = {rate: min(losses) for rate, losses in losses_of_adam.items()}
show.measured(
    f"lowest loss after {EVALUATIONS} evaluations: that of Adam, at the best of three rates, "
    "divided by that of L-BFGS",
    min(end_of_adam.values()) / min(losses_of_lbfgs[:EVALUATIONS]),
    "Gatys et al. 2016 use L-BFGS",
    "> 1",
)
show.measured(
    f"the same for each rate of Adam: {', '.join(map(str, end_of_adam))}",
    [end / min(losses_of_lbfgs[:EVALUATIONS]) for end in end_of_adam.values()],
)
of_one = [1 / gram_distance(image, texture) for image in (*alone, *up_to, noise)]
texture_gain = [value / of_one[-1] for value in of_one[:-1]]
show.measured(
    "texture from noise, Gram matrices of one level alone: distance of noise / of the result",
    texture_gain[:levels],
)
show.measured(
    "texture from noise, all levels up to one: distance of noise / of the result",
    texture_gain[levels:],
    "Gatys et al. 2015: more layers, more of the structure",
    "grows with every level",
)
fast = [gain(image, one) for image, one in zip(in_one_pass, unseen, strict=True)]
fast_likeness = [likeness(image) for image in in_one_pass]
show.measured("AdaIN, three styles never seen: the same ratio", fast)
show.measured(
    "control, colours alone, in the same three styles: the same ratio",
    [gain(tinycv.clip(adaptive_instance_norm(content, one), 0, 1), one) for one in unseen],
)
show.measured("AdaIN, three styles never seen: correlation", fast_likeness)
show.measured(
    "AdaIN with the encoder's exact inverse in place of the decoder, same styles: the same ratio",
    [gain(tinycv.clip(x, 0, 1), one) for x, one in zip(inverted, unseen, strict=True)],
)
show.measured("seconds for one picture by optimisation", seconds)
show.measured(
    "seconds for one picture by AdaIN",
    seconds_of_a_pass,
    "Huang & Belongie: one pass is about three orders of magnitude faster than optimisation",
)
show.measured("seconds to train AdaIN", training_seconds)


# %% Draw
def draw_images(axes, images, captions):
    """Images (1, 3, H, W), each below its caption."""
    for ax, picture, caption in zip(axes, images, captions, strict=True):
        draw.image(ax, np.clip(picture.numpy()[0], 0, 1), caption)


def divided(ratio):
    return f"distance / {ratio:,.0f}" if ratio >= 10 else f"distance / {ratio:.1f}"


def caption_of(name, ratio, correlation):
    return f"{name}\n{divided(ratio)}, r = {correlation:.2f}"


figure = draw.figure(
    "The squared distance of a photo to the style, by fresh filters, falls to "
    f"1/{curve[ALPHA]:,.0f} if its pixels are optimised (r = {likenesses[ALPHA]:.2f} with the "
    f"photo),\nto 1/{by_colour:.0f} if it takes the colours alone, and to 1/{fast[0]:.0f} by "
    f"AdaIN, in {seconds_of_a_pass:.2f} s instead of {seconds:.1f} s",
    12.6,
    15.2,
)
one, two, three, four = figure.subfigures(4, 1, height_ratios=(1.12, 1.12, 1.12, 2.0))

one.suptitle("Style transfer by optimisation: the less the content weighs, the nearer to the style")
captions = [
    caption_of(f"content weight {alpha:g}", curve[alpha], likenesses[alpha]) for alpha in ALPHAS
]
draw_images(
    one.subplots(1, 6), [content, style, *pictures.values()], ["content", "style", *captions]
)

two.suptitle("Controls, the curve of style against content, and the two optimisers")
*controls, of_style, of_loss = two.subplots(1, 4, width_ratios=(1, 1, 2, 2))
draw_images(
    controls,
    [recoloured, shuffled],
    [
        caption_of("colours alone", by_colour, likeness(recoloured)),
        caption_of("shuffled style", by_shuffling, likeness(shuffled)),
    ],
)
draw.curves(
    of_style,
    {"Gram matrices": (list(likenesses.values()), list(curve.values()))},
    "correlation with the content",
    "distance: content / result",
    log=True,
)
of_style.scatter(list(likenesses.values()), list(curve.values()), color=draw.BLUE, s=16)
for name, image in (("colours alone", recoloured), ("AdaIN", in_one_pass[0])):
    place = likeness(image), gain(image, style)
    of_style.scatter(*place, color=draw.RED, s=22)
    of_style.annotate(name, place, (3, 6), textcoords="offset points", ha="right", fontsize=9)
of_style.text(
    0.04, 0.3, "Gram matrices,\nfour weights", transform=of_style.transAxes, color=draw.BLUE
)
lines = {"L-BFGS": losses_of_lbfgs}
for rate, losses in losses_of_adam.items():
    lines[f"Adam, rate {rate:g}"] = losses
draw.curves(
    of_loss,
    {name: (np.arange(len(ls)), np.minimum.accumulate(ls)) for name, ls in lines.items()},
    "evaluations of the loss",
    "lowest loss so far",
    log=True,
)

three.suptitle("AdaIN: styles never seen, in one pass through a decoder trained on other photos")
shown, captions = [], []
for style_photo, image, ratio, correlation in zip(
    unseen, in_one_pass, fast, fast_likeness, strict=True
):
    shown += [style_photo, image]
    captions += ["style, never seen", caption_of("AdaIN", ratio, correlation)]
draw_images(three.subplots(1, 6), shown, captions)

four.suptitle("Texture synthesis from noise: the Gram matrices of some levels of the pyramid")
above, below = four.subplots(2, levels + 2)
gains = [divided(ratio) for ratio in texture_gain]
names = ["level 1", *(f"levels 1 to {level}" for level in range(2, levels + 1))]
captions = [f"{name}\n{text}" for name, text in zip(names, gains[levels:], strict=True)]
draw_images(above, [texture, noise, *up_to], ["the texture", "noise: the start", *captions])
captions = [f"level {level + 1} alone\n{text}" for level, text in enumerate(gains[:levels])]
draw_images(below[2:], alone, captions)
for ax in below[:2]:
    ax.axis("off")
names = ["immunohistochemistry", "gravel"]
names += ["flower"] * (not show.style) + ["china"] * (not show.content)
authors = credit(names).replace("; ", "\n")
below[0].text(0, 1, f"Photographs\n{authors}", va="top", fontsize=8)
show.finish(figure)
