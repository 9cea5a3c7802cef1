"""The tables and programs of tinycv/coming_from_pytorch.md, for the tests that run its columns."""

from __future__ import annotations

import re

import numpy as np
import pages

PAGE = pages.ROOT / "tinycv/coming_from_pytorch.md"
ARRAY = np.array([[1.5, -2.0, 3.0], [4.0, 5.0, -6.5]], np.float32)


def rows(name: str) -> list[tuple[str, str, str]]:
    """(subject, line of PyTorch, line of tinycv) of the table between <!-- name --> marks."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)[1]
    found = []
    for line in table.splitlines()[2:]:
        subject, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        left, right = (re.match(r"`([^`]+)`", cell)[1] for cell in cells[:2])
        found.append((subject, left, right))
    return found


def programs() -> list[str]:
    """The program of PyTorch and that of tinycv."""
    return [block.code for block in pages.blocks(PAGE) if block.language == "python"]


def given(make) -> dict:
    """The arrays that the lines use, each made a tensor by ``make``."""
    rng = np.random.default_rng(0)
    return {
        "x": make(ARRAY),
        "y": make(ARRAY[::-1].copy()),
        "batch": make(rng.normal(size=(2, 3, 3)).astype("float32")),
        "image": make(rng.normal(size=(1, 3, 4, 4)).astype("float32")),
        "labels": make(np.array([0, 2])),
        "array": ARRAY,
    }
