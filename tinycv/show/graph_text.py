"""Computation graph as text: DOT for Graphviz, Mermaid for Markdown pages, and SVG.

    open("graph.svg", "w").write(to_svg(loss, model))      # no Graphviz is needed
    print(to_dot(loss, model))                             # for dot -Tpng
    print(to_mermaid(loss, model))                         # for a ```mermaid block

A vertex is a Node that autograd recorded (engine/tensor.py), with its op and the shape of its
result, or a leaf, with its name and shape. Arrows point in the direction in which the data flowed.
Draw before ``backward``, which releases the graph. The layout of the SVG: graph_layout.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tinycv.engine.arguments import shown
from tinycv.engine.fused import OneOf
from tinycv.engine.tensor import LEAF, Node, Tensor
from tinycv.nn.module import Module
from tinycv.show.colours import INK
from tinycv.show.graph_layout import Box, layout

LEAF_FILL, OP_FILL = "#fde0b0", "#d1e5f0"  # pale ORANGE and pale BLUE
MOST = 1000  # vertices of an SVG
FONT, LETTER, LINE = 12, 7.3, 16  # pixels: the size of the font, a letter's width, a line's height
Names = Module | Mapping[str, Tensor] | None


@dataclass
class Vertex:
    """A Node or a leaf. key: its identifier in the text. lines: what is written in its box. module:
    the path of the module whose parameter it is, or uses; "" if there is none."""

    key: str
    lines: list[str]
    is_leaf: bool
    level: int
    module: str = ""


@dataclass
class Graph:
    """Vertices in the order in which they were computed, and edges (from, to) as keys."""

    vertices: list[Vertex]
    edges: list[tuple[str, str]]


def to_dot(result: Tensor, names: Names = None) -> str:
    """The graph behind ``result`` in DOT, the language of Graphviz.

    names: the model, its state_dict(), or any dict of Tensors by name; leaves that are not among
    them are called "leaf". A parameter and the ops that use it are in one cluster per module.
    """
    graph = graph_of(result, names, "to_dot")
    lines = ["digraph {", '  node [shape=box, style="rounded,filled", fontname="monospace"];']
    for i, (module, vertices) in enumerate(by_module(graph).items()):
        indent = "  "
        if module:
            lines += [f"  subgraph cluster_{i} {{", f"    label={dot_quoted([module])};"]
            indent = "    "
        for vertex in vertices:
            fill = LEAF_FILL if vertex.is_leaf else OP_FILL
            label = dot_quoted(vertex.lines)
            lines.append(f'{indent}{vertex.key} [label={label}, fillcolor="{fill}"];')
        if module:
            lines.append("  }")
    lines += [f"  {start} -> {end};" for start, end in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(result: Tensor, names: Names = None) -> str:
    """The graph behind ``result`` in Mermaid, which GitHub draws in a ```mermaid block. The
    arguments are those of ``to_dot``."""
    graph = graph_of(result, names, "to_mermaid")
    lines = ["flowchart TD"]
    for i, (module, vertices) in enumerate(by_module(graph).items()):
        indent = "  "
        if module:
            lines.append(f"  subgraph m{i}[{mermaid_quoted([module])}]")
            indent = "    "
        for vertex in vertices:
            kind = "leaf" if vertex.is_leaf else "op"
            lines.append(f"{indent}{vertex.key}[{mermaid_quoted(vertex.lines)}]:::{kind}")
        if module:
            lines.append("  end")
    lines += [f"  {start} --> {end}" for start, end in graph.edges]
    for kind, fill in (("leaf", LEAF_FILL), ("op", OP_FILL)):
        lines.append(f"  classDef {kind} fill:{fill},stroke:{INK},color:{INK}")
    return "\n".join(lines) + "\n"


def to_svg(result: Tensor, names: Names = None) -> str:
    """The graph behind ``result`` as a picture, an SVG: leaves in orange, ops in blue, the data
    flows downwards. The arguments are those of ``to_dot``; ValueError for more than 1000
    vertices."""
    graph = graph_of(result, names, "to_svg")
    if len(graph.vertices) > MOST:
        raise ValueError(
            f"to_svg: the graph has {len(graph.vertices)} vertices; at most {MOST} are drawn: "
            "draw the graph of one layer, or use to_dot"
        )
    height = LINE * max(len(vertex.lines) for vertex in graph.vertices) + 12
    boxes = {
        v.key: Box(v.level, LETTER * max(map(len, v.lines)) + 16, height) for v in graph.vertices
    }
    placed = layout(boxes, graph.edges)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {placed.width:.0f} '
        f'{placed.height:.0f}" width="{placed.width:.0f}" height="{placed.height:.0f}" '
        f'font-family="monospace" font-size="{FONT}" text-anchor="middle">',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for path in placed.paths:
        parts.append(
            f'<path d="{path}" fill="none" stroke="{INK}" stroke-opacity="0.6" '
            'marker-end="url(#arrow)"/>'
        )
    for vertex in graph.vertices:
        parts += box_svg(vertex, boxes[vertex.key], *placed.centres[vertex.key])
    return "\n".join([*parts, "</svg>"]) + "\n"


def box_svg(vertex: Vertex, box: Box, x: float, y: float) -> list[str]:
    """A rounded rectangle around (x, y), and its lines of text."""
    fill = LEAF_FILL if vertex.is_leaf else OP_FILL
    parts = [
        f'<rect x="{x - box.width / 2:.1f}" y="{y - box.height / 2:.1f}" width="{box.width:.1f}" '
        f'height="{box.height}" rx="6" fill="{fill}" stroke="{INK}"/>'
    ]
    first = y - LINE * (len(vertex.lines) - 1) / 2 + FONT / 3
    for i, line in enumerate(vertex.lines):
        parts.append(f'<text x="{x:.1f}" y="{first + i * LINE:.1f}">{escape(line)}</text>')
    return parts


# ── the graph ────────────────────────────────────────────────────────────────────────────────────


def levels(result: Tensor) -> dict[Node | Tensor, int]:
    """The level of each Node: the length of the longest path to it from a leaf."""
    return levels_of(result, "levels")


def levels_of(result: Any, who: str) -> dict[Node | Tensor, int]:
    """``levels``. who: the function that the user called."""
    if not isinstance(result, Tensor):
        raise TypeError(
            f"{who}: result is {shown(result)}; it must be a Tensor that an op computed"
        )
    if result._node is None or result._node is LEAF:
        raise ValueError(
            f"{who}: this tensor was not computed by a recorded op: there is no graph to draw"
        )
    reached, to_visit = {}, [result._node]  # a dict, because a set has no order
    while to_visit:
        node = to_visit.pop()
        if node not in reached:
            reached[node] = True
            to_visit.extend(p for p in reversed(node.parents) if p is not None)
    if any(isinstance(node, Node) and node.saved is None for node in reached):
        raise ValueError(
            f"{who}: backward has released this graph, or a part of it: draw it before backward, "
            "or call backward(retain_graph=True)"
        )
    level: dict[Node | Tensor, int] = {}
    # Parents are older than their children, so in the order of ``seq`` their level is known.
    for node in sorted(reached, key=lambda n: n.seq):
        level[node] = 1 + max((level[p] for p in node.parents if p is not None), default=-1)
    return level


def graph_of(result: Any, names: Any, who: str) -> Graph:
    """The graph behind a Tensor. A leaf is one level above the first op that uses it."""
    level = levels_of(result, who)
    called = names_of(names, who)
    vertices: dict[Any, Vertex] = {}
    edges = []
    for node in level:
        if not isinstance(node, Node):
            continue
        parents = list(dict.fromkeys(p for p in node.parents if p is not None))
        for parent in parents:
            if isinstance(parent, Tensor) and parent not in vertices:
                name = called.get(id(parent._data), "leaf")
                lines, module = [name, str(parent.shape)], name.rpartition(".")[0]
                key = f"n{len(vertices)}"
                vertices[parent] = Vertex(key, lines, True, level[node] - 1, module)
        key = f"n{len(vertices)}"
        vertices[node] = Vertex(key, described(node), False, level[node])
        vertices[node].module = common_module([vertices[p] for p in parents])
        edges += [(vertices[p].key, key) for p in parents]
        for parent in parents:
            if isinstance(parent, Tensor):
                vertices[parent].level = min(vertices[parent].level, level[node] - 1)
    return Graph(list(vertices.values()), edges)


def names_of(names: Any, who: str) -> dict[int, str]:
    """Names by the id of the array: a state_dict holds other Tensors with the same arrays."""
    if names is None:
        return {}
    takes = "it must be a Module, a dict of Tensors by name, or None"
    if isinstance(names, Module):
        named: Any = dict(names.named_tensors())
    elif isinstance(names, Mapping):
        named = names
    else:
        raise TypeError(f"{who}: names is {shown(names)}; {takes}")
    for name, t in named.items():
        if not isinstance(name, str) or not isinstance(t, Tensor):
            raise TypeError(f"{who}: names has {shown(name)}: {shown(t)}; {takes}")
    return {id(t._data): printable(name) for name, t in reversed(named.items())}


def described(node: Node) -> list[str]:
    """The op of a Node and the shape of its result."""
    if isinstance(node.row, OneOf):
        return [f"result {node.saved[0]}", str(node.shape)]
    if node.shape is None:
        return [printable(node.row.name)]
    return [printable(node.row.name), str(node.shape)]


def common_module(parents: list[Vertex]) -> str:
    """The module of the named leaves among the parents, if they all belong to one."""
    modules = {parent.module for parent in parents if parent.is_leaf and parent.lines[0] != "leaf"}
    return modules.pop() if len(modules) == 1 else ""


def by_module(graph: Graph) -> dict[str, list[Vertex]]:
    """The vertices of each module, by its path."""
    groups: dict[str, list[Vertex]] = {}
    for vertex in graph.vertices:
        groups.setdefault(vertex.module, []).append(vertex)
    return groups


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


def printable(text: str) -> str:
    """The text on one line: a line break or another control character is written as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def dot_quoted(lines: list[str]) -> str:
    """A quoted string of DOT. \\n separates lines, so a backslash in the text is doubled."""
    quoted = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(quoted) + '"'


def mermaid_quoted(lines: list[str]) -> str:
    """A quoted label of Mermaid, in which all characters with a meaning are written by number."""
    safe = set(" .,:()_-+=/")
    quoted = [
        "".join(c if c.isalnum() or c in safe else f"#{ord(c)};" for c in line) for line in lines
    ]
    return '"' + "<br/>".join(quoted) + '"'
