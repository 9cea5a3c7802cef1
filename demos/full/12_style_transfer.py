"""12, the whole protocol: three sets of random filters, and four more pairs of photos.

The demo from three seeds: other filters, other judges, another training of AdaIN. Then the same
settings, which were chosen for none of these pairs, on four that the demo does not show.
python demos/12_style_transfer.py --full
Photographs: Stefan van der Walt, Rachel Michetti, SpaceX, NASA (contents); CMMI, CC0Textures,
Mikael Haggstrom (styles), as they ship with scikit-image.
"""

import numpy as np

import tinycv
from tinycv.nn.functional import adaptive_instance_norm
from tinycv.show import draw
from tinycv.show.demo import Demo
from tinycv.training.progress import say
from tinycv.vision import StyleObjective, match_luminance

show = Demo("12_style_transfer", __doc__, full=True)
runs = show.repeat_demo(seeds=range(show.choose(quick=1, full=3)))

# %% More pairs: a content and a style, each with the square of the photo that is taken. The retina
# has little contrast, so there is little brightness in its style that could follow a content
PAIRS = {
    "cat, tissue": (("chelsea", (10, 130, 280)), ("immunohistochemistry", (150, 0, 220))),
    "coffee, gravel": (("coffee", (20, 100, 380)), ("gravel", (100, 100, 300))),
    "rocket, brick": (("rocket", (0, 130, 420)), ("brick", (0, 0, 300))),
    "astronaut, retina": (("astronaut", (0, 60, 320)), ("retina", (400, 200, 600))),
}
all_ratios, all_correlations = [], []
pictures = {}  # by pair: content, style, colours alone, and what each seed paints
for name, (of_content, of_style) in PAIRS.items():
    content, style = runs[0].photo(*of_content), runs[0].photo(*of_style)
    recoloured = tinycv.clip(adaptive_instance_norm(content, style), 0, 1)
    row = [content, style, recoloured]
    ratios, by_colour, correlations = [], [], []
    for run in runs:
        goal = StyleObjective(match_luminance(content, style), style, run.filters, run.ALPHA)
        painted, _ = run.paint(goal, content, run.lbfgs)
        row.append(painted)
        ratios.append(run.gain(painted, style, content))
        by_colour.append(run.gain(recoloured, style, content))
        correlations.append(run.likeness(painted, content))
    pictures[name] = [np.clip(picture.numpy()[0], 0, 1) for picture in row]
    all_ratios += ratios
    all_correlations += correlations
    say(f"{name}: distance to the style / {np.mean(ratios):.0f}, r = {np.mean(correlations):.2f}")
    show.measured(
        f"{name}: Gram distance to the style, the content's / the painted one's, by seed",
        ratios,
        "fresh filters",
        ">= 25",
    )
    show.measured(f"{name}: correlation with the content, by seed", correlations, "", ">= 0.9")
    show.measured(f"{name}: colours alone, the same ratio, by seed", by_colour)
    show.measured(
        f"{name}: the first of these rows divided by the last, by seed",
        list(np.divide(ratios, by_colour)),
        target=">= 3",
    )

# %% Draw
lowest, least_r = np.floor(min(all_ratios)), np.floor(100 * min(all_correlations)) / 100
figure = draw.figure(
    f"For {len(PAIRS)} more pairs, the squared distance to the style, by fresh filters, falls to\n"
    f"1/{lowest:.0f} or less, at r >= {least_r:.2f} with the content",
    2 * (3 + len(runs)),
    9,
)
captions = ["content", "style", "colours alone", *(f"filters {run.show.seed}" for run in runs)]
draw.image_rows(figure.subplots(), pictures, captions)
show.finish(figure)
