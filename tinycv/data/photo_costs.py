"""What a photo would cost, from its bytes: of how many pieces it is made, counted before Pillow
opens it.

A JPEG may be drawn in many scans, each over the whole picture, and a scan of a few bytes costs as
much as another. A TIFF may be cut into strips or tiles, and Pillow makes an object of each as soon
as the file is opened. The header of a JPEG 2000 may claim any length, and Pillow makes room for all
of it before it reads.
Sources: ITU-T T.81 (JPEG), B.1.1; TIFF 6.0, section 2; BigTIFF is a TIFF with longer numbers; ITU-T
T.800 (JPEG 2000), annex I.4.
"""

import re
import struct
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

MOST_SCANS = 32  # a progressive JPEG has about 10
MOST_STRIPS, MOST_ENTRIES = 2**15, 2**16  # of a TIFF; its directory has about 15 entries
# of JPEG, all but those without a length: 00 is no marker, 01 and D0 to D8 stand alone
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
JPEG_2000 = b"\0\0\0\x0cjP  \r\n\x87\n"  # how such a file begins
STRIP_OFFSETS, TILE_OFFSETS = 273, 324  # tags, of which each has an entry for each piece


def pieces(path: Path) -> str:
    """ "" or the sentence about a file of more scans, strips or entries of a directory than any
    picture needs, or with a header that is longer than the file."""
    with open(path, "rb") as file:
        start = file.read(len(JPEG_2000))
        if start == JPEG_2000:
            return _header_beyond_the_end(file)
        if start[:3] == b"\xff\xd8\xff":
            found, most, what = _scans(start + file.read()), MOST_SCANS, "scans"
        elif start[:2] in (b"II", b"MM"):
            entries, strips = _directory(file)
            if entries > MOST_ENTRIES:
                return (
                    f"its directory has {entries} entries, and {MOST_ENTRIES} are the most: "
                    "save it again"
                )
            found, most, what = strips, MOST_STRIPS, "strips or tiles"
        else:
            return ""
    return (
        f"it is made of {found} {what}, and {most} are the most: save it again"
        if found > most
        else ""
    )


def _scans(data: bytes) -> int:
    """How many scans the first picture of a JPEG file has: a segment is a marker, its length and
    its content."""
    count, at = 0, 2
    while (marker := MARKER.search(data, at)) and marker[0] != END_OF_IMAGE:
        count += marker[0] == START_OF_SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return count


def _header_beyond_the_end(file: BinaryIO) -> str:
    """ "" or the sentence about a JPEG 2000 whose header box reaches beyond the end of the file. A
    box is its length, its type and its content; a length of 1 says that 8 bytes of length follow.
    """
    end, at = file.seek(0, SEEK_END), 0
    while at + 16 <= end:
        file.seek(at)
        length, kind, longer = struct.unpack(">I4sQ", file.read(16))
        length = longer if length == 1 else length
        if kind == b"jp2h" and at + length > end:
            return f"its header claims {length} bytes, and the file has {end}: it is damaged"
        if kind == b"jp2h" or length < 8:  # Pillow says what is wrong with the second
            break
        at += length
    return ""


def _directory(file: BinaryIO) -> tuple[int, int]:
    """How many entries the directory of a TIFF's first picture claims to have, and how many strips
    or tiles the picture; 0 and 0 where the file is cut short. The entries are read only if they are
    not too many."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:3] == b"+"  # 43, where Pillow looks for it; a TIFF has 42
    count, entry, place = ("Q", "HHQQ", head[8:16]) if big else ("H", "HHII", head[4:8])
    try:
        file.seek(struct.unpack(order + ("Q" if big else "I"), place)[0])
        entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
        if entries > MOST_ENTRIES:
            return entries, 0
        rows = file.read(entries * struct.calcsize(order + entry))
        whole = len(rows) // struct.calcsize(order + entry) * struct.calcsize(order + entry)
        tags = list(struct.iter_unpack(order + entry, rows[:whole]))
    # ValueError: a place beyond every file
    except (struct.error, ValueError, OverflowError, OSError):
        return 0, 0  # Pillow says what is wrong with it
    return entries, max(
        (n for tag, _, n, _ in tags if tag in (STRIP_OFFSETS, TILE_OFFSETS)), default=0
    )
