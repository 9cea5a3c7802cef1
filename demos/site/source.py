"""Source code as HTML: highlighted by Pygments, each line with its number and an anchor (#L12), and
each name of the package a link to the line that defines it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from pygments.lexers import get_lexer_for_filename
from pygments.token import STANDARD_TYPES, Token
from pygments.util import ClassNotFound

from demos.site import names

Link = Callable[[names.Definition], str]


def shown(file: str, link: Link, first: int = 1, last: int | None = None) -> str:
    """The lines ``first`` to ``last`` of a file as HTML. link: the address of a definition."""
    links = {}
    if file.endswith(".py"):
        links = {place: link(definition) for place, definition in names.uses(file).items()}
    lines = list(html_lines(file, links))[first - 1 : last]
    while lines and not lines[-1].strip():
        lines.pop()
    numbered = [
        f'<span class="line" id="L{number}"><a class="number" href="#L{number}" '
        f'data-line="{number}" aria-label="line {number}"></a>{line}\n</span>'
        for number, line in enumerate(lines, first)
    ]
    label = f"source of {escape(file)}"
    return (
        f'<div class="highlight source"><pre tabindex="0" role="region" aria-label="{label}">'
        f"{''.join(numbered)}</pre></div>\n"
    )


def html_lines(file: str, links: dict[tuple[int, int], str]) -> Iterator[str]:
    """The lines of a file, each as HTML of its own: a token of several lines is divided."""
    line, column, parts = 1, 0, []
    for kind, value in tokens(file):
        pieces = value.split("\n")
        for i, piece in enumerate(pieces):
            if i:
                yield "".join(parts)
                line, column, parts = line + 1, 0, []
            if piece:
                parts.append(html_token(kind, piece, links.get((line, column))))
                column += len(piece)
    if parts:
        yield "".join(parts)


def tokens(file: str) -> Iterator[tuple[type, str]]:
    """What Pygments finds in a file; a file of no known language is one piece of text."""
    text = names.text(file)
    try:
        lexer = get_lexer_for_filename(file, stripnl=False, ensurenl=False)
    except ClassNotFound:
        yield Token.Text, text
        return
    for _, kind, value in lexer.get_tokens_unprocessed(text):
        yield kind, value


def html_token(kind, text: str, address: str | None) -> str:
    """One token: its text in the colour of its kind, and a link if there is an address."""
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    short, text = STANDARD_TYPES[kind], escape(text, quote=False)
    if address is not None:
        return f'<a class="{short}" href="{escape(address)}">{text}</a>'
    return f'<span class="{short}">{text}</span>' if short else text
