"""The header of a safetensors file, looked through before anything is built of it.

A header is JSON, {"__metadata__": {name: text}, tensor: {"dtype": ..., "shape": ...,
"data_offsets": ...}, ...}. Objects that Python makes of JSON take thirty times the memory of its
text, so a header of 40 MB could cost 1.2 GB before anybody sees that it is nonsense. Here it is
scanned from left to right, and nothing is kept but names and notes. What a tensor's description
says is left to the safetensors library, once its length and the number of tensors are known to be
sane.
"""

from __future__ import annotations

import re
from json.decoder import scanstring  # pyright: ignore[reportAttributeAccessIssue]

LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
# so many tensors, and one more for every 256 bytes of the file
FREE_TENSORS, BYTES_EACH = 10_000, 256
MOST_NOTES = 10_000
# so many values of a state, and one more for every 16 letters of its JSON
FREE_VALUES, LETTERS_EACH = 500_000, 16

SPACE = re.compile(r"[ \t\n\r]*")
# of one tensor: it has no objects within, and at most 64 axes
DESCRIPTION = re.compile(r"\{[^{}]{0,2000}\}")


class BadHeader(ValueError):
    """The sentence that says what is wrong with it."""


def notes_of(header: bytes, file_size: int) -> dict[str, str]:
    """The header's ``__metadata__``. BadHeader if it is not one of tensors, or of too many for a
    file of this size.

    Bytes are read as Latin-1, which takes one byte each: our own notes are ASCII, and those of
    others are not used.
    """
    text = header.decode("latin-1")
    most = FREE_TENSORS + file_size // BYTES_EACH
    names: set[str] = set()
    notes: dict[str, str] = {}
    at = _after(text, 0, "{")
    while text[at : at + 1] != "}":
        if names:
            at = _after(text, at, ",")
        name, at = _string(text, at)
        if name in names:
            raise BadHeader(f"damaged: two of its tensors are called {name[:60]!r}")
        names.add(name)
        at = _after(text, at, ":")
        if name == "__metadata__":
            notes, at = _notes(text, at)
        else:
            found = DESCRIPTION.match(text, at)
            if found is None:
                raise _no_json()
            at = _skip(text, found.end())
        if len(names) > most:
            raise BadHeader(
                f"refused: it names more than {most} tensors, which a file of "
                f"{file_size} bytes does not hold"
            )
    if _skip(text, at + 1) < len(text):
        raise _no_json()
    return notes


def too_many_values(state: str) -> str:
    """ "" or the sentence about a state whose JSON has so many values that it would take many times
    its length to read.
    """
    values = sum(state.count(sign) for sign in ",[{")
    most = FREE_VALUES + len(state) // LETTERS_EACH
    return (
        f"its state has {values} values in {len(state)} letters; {most} are the most"
        if values > most
        else ""
    )


def _notes(text: str, at: int) -> tuple[dict[str, str], int]:
    notes: dict[str, str] = {}
    at = _after(text, at, "{")
    while text[at : at + 1] != "}":
        if notes:
            at = _after(text, at, ",")
        name, at = _string(text, at)
        notes[name], at = _string(text, _after(text, at, ":"))
        if len(notes) > MOST_NOTES:
            raise BadHeader(f"refused: its metadata has more than {MOST_NOTES} notes")
    return notes, _skip(text, at + 1)


def _string(text: str, at: int) -> tuple[str, int]:
    """(the string that begins here, where the next sign is)."""
    if text[at : at + 1] != '"':
        raise _no_json()
    try:
        string, at = scanstring(text, at + 1)
    except ValueError:
        raise _no_json() from None
    return string, _skip(text, at)


def _after(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise _no_json()
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    spaces = SPACE.match(text, at)
    return at if spaces is None else spaces.end()


def _no_json() -> BadHeader:
    return BadHeader("damaged: its header is not JSON of tensors")
