"""Draw two diagrams for the README: how scaled dot-product attention is computed, and how a GAN
trains.

    python -m demos.diagrams           writes both to demos/gallery/
    python -m demos.diagrams FOLDER    writes both to FOLDER

The numbers of the first diagram are computed by tinycv (sequence/attention.py). The second follows
adversarial/turns.py; the lecture calls the generator a painter, and the discriminator an art
teacher and connoisseur.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.text import Text

import tinycv
from tinycv.nn.functional import softmax
from tinycv.sequence import scaled_dot_product_attention
from tinycv.show import draw

GALLERY = Path(__file__).parent / "gallery"
TOKENS = ("I", "go", "home")

# One query, one key and one value for each token, of d = 4 numbers each. In a Transformer they are
# linear projections of the tokens; these are made up.
QUERIES = [[2.0, 0.0, 1.0, -1.0], [0.0, 2.0, 0.0, 1.0], [1.0, -1.0, 2.0, 0.0]]
KEYS = [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, -1.0, 1.0], [2.0, 1.0, 0.0, -1.0]]
VALUES = [[1.0, 0.0, 0.0, 2.0], [0.0, 3.0, 1.0, 0.0], [-1.0, 0.0, 2.0, 1.0]]


# ── How attention is computed ────────────────────────────────────────────────────────────────────


def attention_stages() -> dict[str, np.ndarray]:
    """Every table of the first diagram, by name."""
    q, k, v = (tinycv.tensor(rows, dtype="float32") for rows in (QUERIES, KEYS, VALUES))
    scores = q @ k.swapaxes(0, 1) / np.sqrt(q.shape[1])  # (T, T)
    weights = softmax(scores, axis=-1)
    with_batch_and_head = [x.reshape((1, 1, *x.shape)) for x in (q, k, v)]
    output = scaled_dot_product_attention(*with_batch_and_head)
    return {
        "Q": q.numpy(),
        "K": k.numpy().T,
        "V": v.numpy(),
        "scores": scores.numpy(),
        "weights": weights.numpy(),
        "output": output.numpy()[0, 0],
    }


def attention_diagram() -> Figure:
    """Q and K give scores, the softmax makes them weights, and the weights average V."""
    stages = attention_stages()
    figure = draw.figure("Scaled dot-product attention:  softmax(Q Kᵀ / √d) V", 9, 6.6)
    axes = figure.subplot_mosaic(
        [["Q", "K", "V"], ["scores", "weights", "output"]],
        gridspec_kw={"hspace": 0.22, "wspace": 0.12},
    )
    titles = {
        "Q": "Q\na query for each token",
        "K": "Kᵀ\na key for each token (column)",
        "V": "V\na value for each token",
        "scores": "scores = Q Kᵀ / √d,  d = 4\nquery · key, for each pair",
        "weights": "weights = softmax(scores)\neach row sums to 1",
        "output": "output = weights V\nan average of the values",
    }
    for name, ax in axes.items():
        _table(ax, stages[name], titles[name], shade=name == "weights")
    for name in ("Q", "V", "scores", "weights", "output"):
        axes[name].set_yticks(range(3), TOKENS)
    for name in ("K", "scores", "weights"):
        axes[name].set_xticks(range(3), TOKENS)
    for start, end in (("Q", "scores"), ("K", "scores"), ("V", "output")):
        _arrow(figure, axes[start], (0.5, -0.03), axes[end], (0.5, 1.42))
    _arrow(figure, axes["scores"], (1.02, 0.5), axes["weights"], (-0.3, 0.5))
    _arrow(figure, axes["weights"], (1.02, 0.5), axes["output"], (-0.25, 0.5))
    return figure


def _table(ax: Axes, values: np.ndarray, title: str, shade: bool) -> None:
    """Draw numbers in cells. With ``shade``, a larger number from 0 to 1 makes its cell bluer."""
    colours = 0.75 * values if shade else np.zeros_like(values)
    ax.imshow(colours, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        digits = f"{value:.2f}" if np.abs(values - values.round()).max() > 1e-6 else f"{value:.0f}"
        ax.text(column, row, digits, ha="center", va="center", fontsize=13)
    rows, columns = values.shape
    ax.set_xticks([])
    ax.set_yticks([])
    ax.hlines(
        np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=draw.INK, linewidth=0.8, clip_on=False
    )
    ax.vlines(
        np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=draw.INK, linewidth=0.8, clip_on=False
    )
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=12, labeltop=True, labelbottom=False)
    ax.set_title(title, fontsize=12)


def _arrow(
    figure: Figure, start: Axes, leaves: tuple[float, float], end: Axes, enters: tuple[float, float]
) -> None:
    """An arrow from a point of one table to a point of another, both in units of their axes."""
    figure.add_artist(
        ConnectionPatch(
            leaves,
            enters,
            start.transAxes,
            end.transAxes,
            arrowstyle="-|>",
            mutation_scale=14,
            color=draw.BLUE,
            linewidth=1.5,
        )
    )


# ── How a GAN trains ─────────────────────────────────────────────────────────────────────────────


def gan_diagram() -> Figure:
    """The two turns of GAN training: which loss trains which network, and where ``detach`` stops
    the gradient."""
    figure = draw.figure("GAN: the painter and the art teacher learn in turns", 9, 5.8)
    upper, lower = figure.subplots(2, 1)
    _discriminator_turn(upper)
    _generator_turn(lower)
    return figure


def _discriminator_turn(ax: Axes) -> None:
    _empty(ax, "1  The discriminator's turn: tell real from fake. The generator stands still")
    noise = _box(ax, 0.6, 1, "noise z")
    generator = _box(ax, 2.5, 1, "generator G\n(painter)")
    fake = _box(ax, 4.6, 1, "fake images\nG(z)")
    real = _box(ax, 4.6, 3, "real images\nx")
    discriminator = _box(ax, 7.0, 2, "discriminator D\n(art teacher,\nconnoisseur)", draw.SKY)
    loss = _box(ax, 9.3, 2, "loss of D:\nreal → 1\nfake → 0")
    _data(ax, noise, generator)
    _data(ax, generator, fake)
    _data(ax, fake, discriminator)
    _data(ax, real, discriminator)
    _data(ax, discriminator, loss)
    _gradient(ax, loss, discriminator)
    ax.text(
        5.75, 0.85, "detach: no gradient\nflows back to G", fontsize=11, va="top", color=draw.RED
    )
    ax.plot([5.72, 5.88], [1.7, 1.2], color=draw.RED, linewidth=2.5)


def _generator_turn(ax: Axes) -> None:
    _empty(ax, "2  The generator's turn: be taken for real. The discriminator stands still")
    noise = _box(ax, 0.6, 2, "noise z")
    generator = _box(ax, 2.5, 2, "generator G\n(painter)", draw.SKY)
    fake = _box(ax, 4.6, 2, "fake images\nG(z)")
    discriminator = _box(ax, 7.0, 2, "discriminator D\n(art teacher,\nconnoisseur)")
    loss = _box(ax, 9.3, 2, "loss of G:\nfake → 1")
    boxes = (noise, generator, fake, discriminator, loss)
    for start, end in zip(boxes, boxes[1:], strict=False):
        _data(ax, start, end)
    for start, end in ((loss, discriminator), (discriminator, fake), (fake, generator)):
        _gradient(ax, start, end)
    ax.text(
        7.0, 0.75, "passes the gradient on,\nits weights stay", ha="center", fontsize=11, va="top"
    )
    ax.plot([0.1, 0.7], [0.35, 0.35], color=draw.INK, linewidth=1.5)
    ax.text(0.85, 0.35, "data", fontsize=11, va="center")
    ax.plot([1.8, 2.4], [0.35, 0.35], color=draw.RED, linewidth=1.5, linestyle="--")
    ax.text(2.55, 0.35, "gradient;  blue: is updated", fontsize=11, va="center")


def _empty(ax: Axes, title: str) -> None:
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 3.6)
    ax.axis("off")
    ax.set_title(title, fontsize=13)


def _box(ax: Axes, x: float, y: float, text: str, colour: str = "white") -> Text:
    box = {"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": draw.INK}
    return ax.text(x, y, text, ha="center", va="center", fontsize=12, bbox=box, zorder=2)


def _data(ax: Axes, start: Text, end: Text) -> None:
    _link(ax, start, end, 0.0, {"color": draw.INK})


def _gradient(ax: Axes, start: Text, end: Text) -> None:
    _link(ax, start, end, -0.45, {"color": draw.RED, "linestyle": "--"})


def _link(ax: Axes, start: Text, end: Text, bend: float, style: dict) -> None:
    """An arrow between the edges of two boxes. It is drawn after them (zorder), when matplotlib
    knows where their edges are."""
    arrow = {
        "arrowstyle": "-|>",
        "linewidth": 1.6,
        "mutation_scale": 14,
        "patchA": start.get_bbox_patch(),
        "patchB": end.get_bbox_patch(),
        "connectionstyle": f"arc3,rad={bend}",
        "shrinkA": 1,
        "shrinkB": 1,
        **style,
    }
    ax.annotate("", end.get_position(), start.get_position(), zorder=3, arrowprops=arrow)


def main(folder: Path) -> None:
    print(draw.save(attention_diagram(), folder / "diagram_attention.png", dpi=100))
    print(draw.save(gan_diagram(), folder / "diagram_gan.png", dpi=100))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demos.diagrams")
    parser.add_argument("folder", nargs="?", type=Path, default=GALLERY)
    main(parser.parse_args().folder)
