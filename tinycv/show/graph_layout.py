"""Layered layout of a directed graph (Sugiyama, Tagawa & Toda 1981): boxes in rows, edges down.

Every box has a level, and edges go from lower to higher levels.  Four steps:

    1. An edge over several levels is cut by a bend in each level that it passes. A bend is a narrow
       box without content, so that no edge runs behind a box.
    2. The order within a row: each box goes to the mean position of its neighbours in the row
       above, then in the row below, a few times (the barycentre method). This removes most
       crossings.
    3. The position in the row: as near as possible to the mean of its neighbours, in the order of
       step 2 and without overlap. The nearest such positions in the sense of least squares are an
       isotonic regression, which pooling adjacent violators computes exactly.
    4. Between two rows, an edge is a curve that starts and ends vertically.

Used by: graph_text.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GAP, ROW_GAP, MARGIN, BEND = 18.0, 34.0, 14.0, 8.0  # pixels
SWEEPS = 12


@dataclass
class Box:
    """A box of the graph, or a bend of an edge. up, down: its neighbours in the rows beside."""

    level: int
    width: float
    height: float
    x: float = 0.0
    up: list[Box] = field(default_factory=list, repr=False)
    down: list[Box] = field(default_factory=list, repr=False)


@dataclass
class Layout:
    """The size of the picture, the centre (x, y) of each box by its key, and the edges as paths of
    SVG."""

    width: float
    height: float
    centres: dict[str, tuple[float, float]]
    paths: list[str]


def layout(boxes: dict[str, Box], edges: Sequence[tuple[str, str]]) -> Layout:
    """Place the boxes; all have the same height."""
    rows: list[list[Box]] = [[] for _ in range(1 + max(box.level for box in boxes.values()))]
    for box in boxes.values():
        rows[box.level].append(box)
    routes = [route(boxes[start], boxes[end], rows) for start, end in edges]
    for sweep in range(SWEEPS):
        order_rows(rows, downwards=sweep % 2 == 0)
    place_rows(rows)
    left = min(box.x - box.width / 2 for row in rows for box in row) - MARGIN
    right = max(box.x + box.width / 2 for row in rows for box in row) + MARGIN
    height = next(iter(boxes.values())).height
    for row in rows:
        for box in row:
            box.x -= left
    centres = {
        key: (box.x, MARGIN + height / 2 + box.level * (height + ROW_GAP))
        for key, box in boxes.items()
    }
    total = 2 * MARGIN + len(rows) * height + (len(rows) - 1) * ROW_GAP
    return Layout(right - left, total, centres, [path(passed, height) for passed in routes])


def route(start: Box, end: Box, rows: list[list[Box]]) -> list[Box]:
    """The boxes that an edge passes: its start, a new bend in each level between, its end."""
    bends = [Box(level, BEND, 0.0) for level in range(start.level + 1, end.level)]
    for bend in bends:
        rows[bend.level].append(bend)
    passed = [start, *bends, end]
    for upper, lower in zip(passed, passed[1:], strict=False):
        upper.down.append(lower)
        lower.up.append(upper)
    return passed


def order_rows(rows: list[list[Box]], downwards: bool) -> None:
    """Sort each row by the mean position of the neighbours in the row before."""
    for row in rows if downwards else reversed(rows):
        for position, box in enumerate(row):
            box.x = float(position)
        wanted = {}
        for box in row:
            beside = box.up if downwards else box.down
            # the row before is already sorted, so x there is the new position
            wanted[id(box)] = mean([b.x for b in beside]) if beside else box.x
        row.sort(key=lambda box: wanted[id(box)])
        for position, box in enumerate(row):
            box.x = float(position)


def place_rows(rows: list[list[Box]]) -> None:
    """Set x of every box, near its neighbours above and below, without overlap."""
    for row in rows:
        spread(row, [0.0] * len(row))
    for sweep in range(2 * SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = []
            for box in row:
                beside = [*box.up, *box.down]
                wanted.append(mean([b.x for b in beside]) if beside else box.x)
            spread(row, wanted)


def spread(row: list[Box], wanted: list[float]) -> None:
    """The positions in the given order, without overlap, that are nearest to those wanted.

    Without the widths (offset), the condition is x_1 <= x_2 <= ...: neighbours that violate it are
    pooled, and share their mean.
    """
    offsets = [0.0]
    for before, after in zip(row, row[1:], strict=False):
        offsets.append(offsets[-1] + (before.width + after.width) / 2 + GAP)
    pools: list[list[float]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append([value - offset])
        while len(pools) > 1 and mean(pools[-2]) > mean(pools[-1]):
            last = pools.pop()
            pools[-1].extend(last)
    shifts = [mean(pool) for pool in pools for _ in pool]
    for box, offset, shift in zip(row, offsets, shifts, strict=True):
        box.x = offset + shift


def path(passed: list[Box], height: float) -> str:
    """An edge as a path of SVG: curves between rows, straight lines through rows."""
    parts = []
    for upper, lower in zip(passed, passed[1:], strict=False):
        top = MARGIN + upper.level * (height + ROW_GAP) + height
        bottom = top + ROW_GAP
        middle = (top + bottom) / 2
        parts.append(f"{'M' if not parts else 'L'}{upper.x:.1f} {top:.1f}")
        parts.append(
            f"C{upper.x:.1f} {middle:.1f} {lower.x:.1f} {middle:.1f} {lower.x:.1f} {bottom:.1f}"
        )
    return "".join(parts)


def mean(values: Sequence[float]) -> float:
    """The mean of at least one number."""
    return sum(values) / len(values)
