"""Targets and durations, as the records of demos/gallery hold them and the READMEs show them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

GALLERY = Path(__file__).parent / "gallery"
NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"
# Forms of a target, each with the test that a value v must pass
FORMS: list[tuple[str, Callable[..., bool]]] = [
    (rf">= *{NUMBER}", lambda v, a: v >= a),
    (rf"<= *{NUMBER}", lambda v, a: v <= a),
    (rf"> *{NUMBER}", lambda v, a: v > a),
    (rf"< *{NUMBER}", lambda v, a: v < a),
    (rf"{NUMBER} \+- {NUMBER}", lambda v, a, b: abs(v - a) <= b),
    (rf"{NUMBER} to {NUMBER}", lambda v, a, b: a <= v <= b),
    (rf"{NUMBER} within {NUMBER} %", lambda v, a, b: abs(v - a) <= b / 100 * abs(a)),
    (rf"within {NUMBER}$", lambda v, a: abs(v) <= a),
    (rf"\|\.\| <= {NUMBER}", lambda v, a: abs(v) <= a),
    (rf"{NUMBER}$", lambda v, a: v == a),
]


def met(value: float | list, target: str) -> bool | None:
    """Does every value meet a target of one of the FORMS, such as ">= 0.99"? None where the target
    has no such form."""
    values = value if isinstance(value, list) else [value]
    for form, holds in FORMS:
        if found := re.match(form, target):
            return all(holds(v, *map(float, found.groups())) for v in values)
    return None


def shown_value(row: dict) -> str:
    """The value of a row of a record; bold where its target was missed."""
    value = row["value"]
    if isinstance(value, list):
        text = ", ".join(f"{v:.4g}" for v in value)
    else:
        text = f"{value:.5g}"
    return f"**{text}**" if met(value, row["target"]) is False else text


def duration(seconds: float) -> str:
    """Seconds, or minutes from 100 seconds on."""
    if seconds < 0.95:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.0f} min"


def took(record: dict) -> str:
    """How long a run took and on what, such as "4 min on two cores", as demos' headers say it."""
    cores = {1: "one core", 2: "two cores"}.get(record["cpu"]["cores"])
    return f"{duration(record['seconds'])} on {cores or str(record['cpu']['cores']) + ' cores'}"


def records(stem: str) -> dict[str, dict]:
    """The committed records of a demo, by size: default, and full where there is one."""
    read = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(GALLERY.glob(f"{stem}*.json"))
    ]
    return {record["size"]: record for record in read}
