"""The recorded graph as DOT, Mermaid and SVG: every vertex and edge is there, names are escaped,
and in the picture nothing overlaps."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinycv
from tinycv import nn, sequence, vision
from tinycv.show.graph_layout import Box, spread
from tinycv.show.graph_text import graph_of, to_dot, to_mermaid, to_svg

WRITERS = [to_dot, to_mermaid, to_svg]
SVG = "{http://www.w3.org/2000/svg}"


def small():
    x = tinycv.tensor([2.0, 1.0], requires_grad=True)
    return tinycv.tanh(x) * x, x


def of_vit():
    model = vision.ViT(8, 4, 3, dim=8, depth=2, heads=2)
    y = model(tinycv.tensor(np.ones((2, 1, 8, 8), np.float32)))
    return nn.functional.cross_entropy(y, tinycv.tensor([0, 1])), model


def of_gru():
    model = sequence.GRU(3, 4)
    y, _ = model(tinycv.tensor(np.ones((3, 2, 3), np.float32)))
    return y.sum(), model


def of_mlp():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return model(tinycv.tensor(np.ones((2, 3), np.float32))).sum(), model


MODELS = {"MLP": of_mlp, "ViT": of_vit, "GRU": of_gru}

# ── DOT ──────────────────────────────────────────────────────────────────────────────────────────


def read_dot(text):
    """({vertex: its lines of text}, edges, labels of the clusters) of a DOT file of to_dot. Every
    line has to be of one of the forms below; braces have to match."""
    quoted = r'"((?:[^"\\]|\\.)*)"'
    vertices, edges, clusters, depth = {}, [], [], 0
    for line in text.splitlines():
        line = line.strip()
        if match := re.fullmatch(rf"(n\d+) \[label={quoted}, fillcolor=\"#\w{{6}}\"\];", line):
            vertices[match[1]] = unescaped(match[2])
        elif match := re.fullmatch(r"(n\d+) -> (n\d+);", line):
            edges.append(match.groups())
        elif match := re.fullmatch(rf"label={quoted};", line):
            clusters += unescaped(match[1])
        elif re.fullmatch(r"digraph \{|subgraph cluster_\d+ \{", line):
            depth += 1
        elif line == "}":
            depth -= 1
        else:
            assert line.startswith("node ["), line
    assert depth == 0
    return vertices, edges, clusters


def unescaped(text):
    """The lines of a label."""
    parts = re.findall(r"\\.|[^\\]", text)
    return "".join({"\\n": "\n"}.get(part, part[-1]) for part in parts).split("\n")


def test_dot_has_every_op_leaf_shape_and_edge():
    y, x = small()
    vertices, edges, _ = read_dot(to_dot(y, {"x": x}))
    assert list(vertices.values()) == [["x", "(2,)"], ["tanh", "(2,)"], ["mul", "(2,)"]]
    named = [(vertices[a][0], vertices[b][0]) for a, b in edges]
    assert sorted(named) == [("tanh", "mul"), ("x", "mul"), ("x", "tanh")]


def test_dot_puts_the_parameters_of_a_module_and_the_op_that_uses_them_into_one_cluster():
    y, model = of_mlp()
    text = to_dot(y, model)
    vertices, _, clusters = read_dot(text)
    assert clusters == ["0", "2"]
    first = text[text.index("cluster") : text.index("}", text.index("cluster"))]
    inside = [vertices[key][0] for key in re.findall(r"(n\d+) \[", first)]
    assert inside == ["0.weight", "0.bias", "linear"]


@given(name=st.text(min_size=1).filter(lambda name: "." not in name))
def test_any_name_survives_dot(name):
    y, x = small()
    (lines,) = [
        v for v in read_dot(to_dot(y, {name: x}))[0].values() if v[0] not in ("tanh", "mul")
    ]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert lines == [shown, "(2,)"]


# ── Mermaid ──────────────────────────────────────────────────────────────────────────────────────


def test_mermaid_has_every_op_leaf_shape_and_edge():
    y, x = small()
    lines = [line.strip() for line in to_mermaid(y, {"x": x}).splitlines()]
    assert lines[:7] == [
        "flowchart TD",
        'n0["x<br/>(2,)"]:::leaf',
        'n1["tanh<br/>(2,)"]:::op',
        'n2["mul<br/>(2,)"]:::op',
        "n0 --> n1",
        "n1 --> n2",
        "n0 --> n2",
    ]


@given(name=st.text(min_size=1).filter(lambda name: "." not in name))
def test_a_name_in_mermaid_has_no_character_with_a_meaning_there(name):
    y, x = small()
    (label,) = re.findall(r'^  n0\["(.*)<br/>\(2,\)"\]:::leaf$', to_mermaid(y, {name: x}), re.M)
    assert not set(label) & set('"<>[]{}|&`\\\n')
    written = re.sub(r"#(\d+);", lambda number: chr(int(number[1])), label)
    assert written == "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )


# ── SVG ──────────────────────────────────────────────────────────────────────────────────────────


def boxes_of(svg):
    """[(left, top, right, bottom), ...] of the boxes, without the background."""
    found = []
    for rect in svg.iter(f"{SVG}rect"):
        if rect.get("width") != "100%":
            x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


def points_of(path, count=20):
    """Points on the curves of a path."""
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", path)]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    for i in range(0, len(pairs), 4):
        a, b, c, d = (np.array(p) for p in pairs[i : i + 4])
        for t in np.linspace(0, 1, count):
            s = 1 - t
            yield s**3 * a + 3 * s * s * t * b + 3 * s * t * t * c + t**3 * d


@pytest.mark.parametrize("name", MODELS)
def test_no_two_boxes_overlap_and_all_are_inside_the_picture(name):
    svg = ElementTree.fromstring(to_svg(*MODELS[name]()))
    boxes = boxes_of(svg)
    width, height = float(svg.get("width")), float(svg.get("height"))
    assert len(boxes) >= 8
    for a, b in combinations(boxes, 2):
        assert a[2] + 5 < b[0] or b[2] + 5 < a[0] or a[3] + 5 < b[1] or b[3] + 5 < a[1]
    assert all(x >= 0 and y >= 0 and r <= width and b <= height for x, y, r, b in boxes)


@pytest.mark.parametrize("name", MODELS)
def test_no_edge_runs_through_a_box(name):
    svg = ElementTree.fromstring(to_svg(*MODELS[name]()))
    boxes = np.array(boxes_of(svg)) + [1, 1, -1, -1]  # an edge may touch its own two boxes
    paths = [p.get("d") for p in svg.iter(f"{SVG}path") if p.get("marker-end")]
    assert paths
    for path in paths:
        for x, y in points_of(path):
            left, top, right, bottom = boxes.T
            assert not ((left < x) & (x < right) & (top < y) & (y < bottom)).any()


def test_the_picture_has_an_edge_for_every_edge_and_a_text_for_every_line():
    y, model = of_vit()
    graph = graph_of(y, model, "to_svg")
    svg = ElementTree.fromstring(to_svg(y, model))
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts == [line for vertex in graph.vertices for line in vertex.lines]
    assert len([p for p in svg.iter(f"{SVG}path") if p.get("marker-end")]) == len(graph.edges)
    assert "blocks.0.self_attn.in_proj_weight" in texts and len(graph.vertices) > 50


def test_every_text_fits_into_its_box():
    svg = ElementTree.fromstring(to_svg(*of_vit()))
    boxes, texts = boxes_of(svg), list(svg.iter(f"{SVG}text"))
    for text in texts:
        x, y = float(text.get("x")), float(text.get("y"))
        # a letter of a monospaced font is at most 0.61 of its size wide
        half = len(text.text) * 0.61 * float(svg.get("font-size")) / 2
        assert any(l < x - half and x + half < r and t < y < b for l, t, r, b in boxes)  # noqa: E741


def test_a_name_with_markup_is_escaped_in_the_svg():
    y, x = small()
    svg = ElementTree.fromstring(to_svg(y, {'<script>&"\x00': x}))
    assert next(svg.iter(f"{SVG}text")).text == '<script>&"\\x00'


# ── names, order, wrong calls ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("write", WRITERS)
def test_a_model_and_its_state_dict_give_the_same_names(write):
    y, model = of_mlp()
    assert write(y, model) == write(y, model.state_dict())
    assert "0.weight" in write(y, model) and "0.weight" not in write(y)


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_graph_gives_the_same_text(write):
    y, model = of_vit()
    assert write(y, model) == write(y, model)


def test_results_of_a_function_with_several_are_numbered():
    model = sequence.LSTM(3, 4)
    y, _ = model(tinycv.tensor(np.ones((3, 2, 3), np.float32)))
    texts = [lines[0] for lines in read_dot(to_dot(y, model))[0].values()]
    assert "lstm" in texts and "result 0" in texts


def test_a_chain_of_3000_ops_is_written_without_recursion():
    y = tinycv.tensor(1.0, requires_grad=True)
    for _ in range(3000):
        y = y + 1.0
    assert to_dot(y).count("->") == 3000
    with pytest.raises(ValueError, match="to_svg: the graph has 3001 vertices; at most 1000"):
        to_svg(y)


@pytest.mark.parametrize("write", WRITERS)
def test_anything_without_a_graph_is_refused_in_one_sentence(write):
    who = write.__name__
    with pytest.raises(TypeError, match=f"{who}: result is 3; it must be a Tensor"):
        write(3)
    with pytest.raises(ValueError, match=f"{who}: this tensor was not computed by a recorded op"):
        write(tinycv.tensor(1.0))
    with pytest.raises(TypeError, match=f"{who}: names is 3; it must be a Module, a dict"):
        write(small()[0], 3)
    with pytest.raises(TypeError, match=f"{who}: names has 'x': 3"):
        write(small()[0], {"x": 3})


@pytest.mark.parametrize("write", WRITERS)
def test_a_graph_that_backward_has_released_is_not_drawn_as_a_part_of_itself(write):
    y, _ = small()
    loss = y.sum()
    loss.backward(retain_graph=True)
    before = write(loss)
    assert "tanh" in before
    loss.backward()
    with pytest.raises(ValueError, match=f"{write.__name__}: backward has released this graph"):
        write(loss)


# ── the positions in a row ───────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(1, 90)), min_size=1, max_size=8))
def test_positions_keep_their_order_and_distance_and_none_can_be_improved(wanted_and_widths):
    wanted = [w for w, _ in wanted_and_widths]
    row = [Box(0, width, 10.0) for _, width in wanted_and_widths]
    spread(row, wanted)
    slack = [
        after.x - before.x - (after.width + before.width) / 2 - 18
        for before, after in zip(row, row[1:], strict=False)
    ]
    assert all(space > -1e-6 for space in slack)
    # boxes that touch move as one block, and the best position of a block is the mean of its wishes
    start = 0
    for end in range(1, len(row) + 1):
        if end == len(row) or slack[end - 1] > 1e-6:
            moved = [b.x - w for b, w in zip(row[start:end], wanted[start:end], strict=True)]
            assert abs(sum(moved)) < 1e-5 * (1 + len(moved))
            start = end
