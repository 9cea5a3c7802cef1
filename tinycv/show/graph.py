"""Draw the computation graph that autograd recorded for a Tensor, without Graphviz. Used as
draw.graph and draw.levels. As text or SVG, and for large graphs: graph_text.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from matplotlib.axes import Axes

from tinycv.engine.tensor import Node, Tensor
from tinycv.show import inputs
from tinycv.show.colours import INK
from tinycv.show.graph_text import LEAF_FILL, OP_FILL, levels_of
from tinycv.show.graph_text import levels as levels


def graph(ax: Axes, result: Tensor, names: Mapping[str, Tensor] | None = None) -> None:
    """Draw the Nodes behind ``result``: on the left the leaves in orange, with their names; the ops
    in blue; and arrows in the direction in which the data flowed.

    Draw before ``backward``, which releases the graph. It is legible up to about thirty Nodes.
    """
    ax, level = inputs.axes(ax, "graph"), levels_of(result, "graph")
    called: dict[int, str] = {}
    is_empty = names is None or (isinstance(names, dict) and not names)
    if not is_empty:
        called = {id(t): name for name, t in inputs.named(names, "graph: names", "Tensors").items()}
    place = _places(level)
    boxes = {}
    for node, (x, y) in place.items():
        box = {
            "boxstyle": "round,pad=0.4",
            "facecolor": LEAF_FILL if isinstance(node, Tensor) else OP_FILL,
            "edgecolor": INK,
        }
        text = called.get(id(node), "leaf") if isinstance(node, Tensor) else node.row.name
        boxes[node] = ax.text(
            x, y, text, ha="center", va="center", fontsize=12, zorder=2, bbox=box
        ).get_bbox_patch()
    for node, position in place.items():
        for parent in dict.fromkeys(p for p in node.parents if p is not None):
            # An arrow ends at the edges of the two boxes. Matplotlib knows where these are once
            # the texts are drawn, so the arrows have the greater zorder and are drawn after them.
            arrow = {
                "arrowstyle": "-|>",
                "color": INK,
                "patchA": boxes[parent],
                "patchB": boxes[node],
                "shrinkA": 0,
                "shrinkB": 1,
            }
            ax.annotate("", position, place[parent], zorder=3, arrowprops=arrow)
    tallest = max(Counter(level.values()).values())
    ax.set_xlim(-0.6, max(level.values()) + 0.6)
    ax.set_ylim(-tallest / 2 - 0.2, tallest / 2 + 0.2)
    ax.axis("off")


def _places(level: dict[Node | Tensor, int]) -> dict[Node | Tensor, tuple[int, float]]:
    """The position (x, y) of each Node: x is its level, and the Nodes of a level are stacked around
    y = 0, the oldest on top."""
    heights, used = Counter(level.values()), Counter()
    place = {}
    for node in sorted(level, key=lambda n: n.seq):
        x = level[node]
        place[node] = (x, (heights[x] - 1) / 2 - used[x])
        used[x] += 1
    return place
