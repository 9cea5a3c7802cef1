"""The table of a model summary, as ASCII text and as HTML for a notebook; numbers in short form."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tinycv.engine.arguments import listed

if TYPE_CHECKING:
    from tinycv.show.summary import Row, Summary

HEAD = ("layer", "output", "parameters", "multiply-adds", "saved")
LONGEST = 44  # characters of a cell


def as_text(summary: Summary) -> str:
    """The table in ASCII. The first two columns are aligned on the left, the numbers on the
    right."""
    table = [HEAD, *[cells(row, "  " * row.depth) for row in summary.rows]]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    lines = []
    for line in table:
        padded = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    rule = "-" * max(map(len, lines))
    text = [rule, lines[0], rule, *lines[1:], rule, *totals(summary), rule]
    return "\n".join(text).encode("ascii", "backslashreplace").decode()


def as_html(summary: Summary) -> str:
    """The table in HTML. The colours are those of the notebook, light or dark."""
    cell = '<td style="text-align:{};padding-left:{}em;font-family:monospace">{}</td>'
    body = []
    for row in summary.rows:
        first, *rest = cells(row, "")
        body.append(
            cell.format("left", 0.5 + 1.2 * row.depth, escape(first))
            + cell.format("left", 0.5, escape(rest[0]))
            + "".join(cell.format("right", 0.5, escape(text)) for text in rest[1:])
        )
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in HEAD)
    rows = "".join(f"<tr>{line}</tr>" for line in body)
    below = "<br>".join(map(escape, totals(summary)))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{below}</p>"


def cells(row: Row, indent: str) -> tuple[str, ...]:
    """The cells of one row: the layer, its output, and three numbers."""
    kind = "" if row.label == row.kind else f": {row.kind}"
    times = f" (x {row.calls})" if row.calls > 1 else ""
    return (
        indent + shortened(f"{row.label}{kind}{times}"),
        shortened(output(row)),
        parameters(row),
        f"{row.multiply_adds:,}" if row.multiply_adds else "-",
        memory(row.saved) if row.saved else "-",
    )


def output(row: Row) -> str:
    """The shape of a layer's result. If it had several, the first one and their number."""
    if not row.calls:
        return "was not called"
    others = len(row.shapes) - 1
    return row.shapes[0] + (f" and {others} more" if others else "")


def parameters(row: Row) -> str:
    """The number of parameters, and whether they are frozen or counted in another row."""
    notes = ["shared"] if row.shared else []
    frozen = row.parameters - row.trainable
    if frozen:
        notes.append("frozen" if frozen == row.parameters else f"{frozen:,} frozen")
    if not row.parameters and not notes:
        return "-"
    words = f" ({', '.join(notes)})" if notes else ""
    return f"{row.parameters:,}{words}"


def totals(summary: Summary) -> list[str]:
    """The lines below the table."""
    frozen = summary.parameters - summary.trainable
    lines = [
        f"parameters: {summary.parameters:,} ({memory(summary.parameter_bytes)}), of which "
        f"{summary.trainable:,} are trainable and {frozen:,} are frozen",
        f"FLOPs of a forward pass: {summary.flops:,} (2 x {summary.multiply_adds:,} multiply-adds "
        f"and {summary.other:,} other operations)",
        f"memory: {memory(summary.saved)} saved for the backward pass, and inputs of "
        f"{memory(summary.input_bytes)}",
    ]
    if any(row.shared for row in summary.rows):
        lines.append("shared: counted in the row in which the parameters come first")
    if summary.uncounted:
        lines.append(
            f"no rule counts {listed(summary.uncounted)}: one operation per element is assumed"
        )
    return lines


def memory(count: int) -> str:
    """A number of bytes, as in 1.5 MB, with units of 1000."""
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def shortened(text: str) -> str:
    """The text, cut to LONGEST letters; three dots show that it was cut."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
