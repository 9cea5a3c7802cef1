"""The header of a safetensors file, scanned for nonsense before it is parsed.

A header is JSON, {"__metadata__": {name: text}, tensor: {"dtype": ..., "shape": ...,
"data_offsets": ...}, ...}. The Python objects that JSON becomes take thirty times the memory of the
text, so a malicious header of 40 MB could cost 1.2 GB before anyone sees that it is nonsense. The
functions here scan the text from left to right, and keep only the names and the metadata. Once the
length of the header and the number of tensors are known to be plausible, the safetensors library
parses the descriptions of the tensors.
"""

from __future__ import annotations

import re
from json.decoder import scanstring  # pyright: ignore[reportAttributeAccessIssue]

LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
# a file may have this many tensors, and one more for every 256 bytes of the file
FREE_TENSORS, BYTES_EACH = 10_000, 256
MOST_NOTES = 10_000  # entries of the metadata
# a state may have this many values, and one more for every 16 characters of its JSON
FREE_VALUES, LETTERS_EACH = 500_000, 16

SPACE = re.compile(r"[ \t\n\r]*")
# the description of one tensor: no objects inside it, and at most 64 axes
DESCRIPTION = re.compile(r"\{[^{}]{0,2000}\}")


class BadHeader(ValueError):
    """The header is refused; the message says why."""


def notes_of(header: bytes, file_size: int) -> dict[str, str]:
    """The ``__metadata__`` of the header. BadHeader if the header does not describe tensors, or
    describes more than a file of this size can hold.

    The bytes are decoded as Latin-1, which needs one byte of memory per character. That is safe:
    the metadata that ``save`` writes are ASCII, and those of other programs are not used.
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
                raise _not_json()
            at = _skip_space(text, found.end())
        if len(names) > most:
            raise BadHeader(
                f"refused: it names more than {most} tensors, which is too many for a file of "
                f"{file_size} bytes"
            )
    if _skip_space(text, at + 1) < len(text):
        raise _not_json()
    return notes


def too_many_values(state: str) -> str:
    """An error message if the JSON of a state has so many values that parsing it would take many
    times its length in memory; "" if it does not.
    """
    values = sum(state.count(character) for character in ",[{")
    most = FREE_VALUES + len(state) // LETTERS_EACH
    return (
        f"its state has {values} values in {len(state)} letters; at most {most} are allowed"
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
            raise BadHeader(f"refused: its metadata has more than {MOST_NOTES} entries")
    return notes, _skip_space(text, at + 1)


def _string(text: str, at: int) -> tuple[str, int]:
    """(the string that begins at ``at``, the position of the next character after it)."""
    if text[at : at + 1] != '"':
        raise _not_json()
    try:
        string, at = scanstring(text, at + 1)
    except ValueError:
        raise _not_json() from None
    return string, _skip_space(text, at)


def _after(text: str, at: int, character: str) -> int:
    """The position after ``character``, which must be at ``at``, and after any space."""
    if text[at : at + 1] != character:
        raise _not_json()
    return _skip_space(text, at + 1)


def _skip_space(text: str, at: int) -> int:
    spaces = SPACE.match(text, at)
    return at if spaces is None else spaces.end()


def _not_json() -> BadHeader:
    return BadHeader("damaged: its header is not JSON of tensors")
