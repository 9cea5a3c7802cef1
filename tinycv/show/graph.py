"""The recorded graph behind a Tensor, drawn without Graphviz. Used as draw.graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from tinycv.engine.arguments import shown
from tinycv.engine.tensor import LEAF, Node, Tensor
from tinycv.show import inputs
from tinycv.show.colours import INK

LEAF_FILL, OP_FILL = "#fde0b0", "#d1e5f0"  # pale ORANGE and pale BLUE


def graph(ax: Axes, result: Tensor, names: Mapping[str, Tensor] | None = None) -> None:
    """The Nodes behind ``result``: leaves on the left (green, named), ops in the order of time,
    arrows with the data.

    Draw before ``backward``, which releases the graph. For graphs of up to some thirty Nodes.
    """
    ax, level = inputs.axes(ax, "graph"), _levels(result, "graph")
    called: dict[int, str] = {}
    is_empty = names is None or (isinstance(names, dict) and not names)
    if not is_empty:
        called = {id(t): name for name, t in inputs.named(names, "graph: names", "Tensors").items()}
    place = _places(level)
    boxes = {}
    for node, (x, y) in place.items():
        is_leaf = isinstance(node, Tensor)
        box = {
            "boxstyle": "round,pad=0.4",
            "facecolor": LEAF_FILL if is_leaf else OP_FILL,
            "edgecolor": INK,
        }
        text = called.get(id(node), "leaf") if is_leaf else node.row.name
        boxes[node] = ax.text(
            x, y, text, ha="center", va="center", fontsize=12, zorder=2, bbox=box
        ).get_bbox_patch()
    for node, spot in place.items():
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
            ax.annotate("", spot, place[parent], zorder=3, arrowprops=arrow)
    tallest = max(Counter(level.values()).values())
    ax.set_xlim(-0.6, max(level.values()) + 0.6)
    ax.set_ylim(-tallest / 2 - 0.2, tallest / 2 + 0.2)
    ax.axis("off")


def _places(level: dict[Node | Tensor, int]) -> dict[Node | Tensor, tuple[int, float]]:
    """Where each is drawn, (x, y): x is its level, and those of one level lie one under the other
    in the order of time, around y = 0."""
    heights, used = Counter(level.values()), Counter()
    place = {}
    for spot in sorted(level, key=lambda s: s.seq):
        x = level[spot]
        place[spot] = (x, (heights[x] - 1) / 2 - used[x])
        used[x] += 1
    return place


def levels(result: Tensor) -> dict[Node | Tensor, int]:
    """How many ops lie between each Node and the leaves, at most."""
    return _levels(result, "levels")


def _levels(result: Any, who: str) -> dict[Node | Tensor, int]:
    if not isinstance(result, Tensor):
        raise TypeError(
            f"{who}: result is {shown(result)}; it must be a Tensor that an op computed"
        )
    if result._node is None or result._node is LEAF:
        raise ValueError(
            f"{who}: this tensor was not computed by a recorded op: there is no graph to draw"
        )
    reached, stack = set(), [result._node]
    while stack:
        spot = stack.pop()
        if spot not in reached:
            reached.add(spot)
            stack.extend(p for p in spot.parents if p is not None)
    level: dict[Node | Tensor, int] = {}
    # parents are older, so they come first
    for spot in sorted(reached, key=lambda s: s.seq):
        level[spot] = 1 + max((level[p] for p in spot.parents if p is not None), default=-1)
    return level
