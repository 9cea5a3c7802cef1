"""Image files that are too expensive to open: their pieces are counted before Pillow sees them.

A JPEG may have many scans, each over the whole picture, and decoding a scan takes as long if it has
only a few bytes. A TIFF may be cut into strips or tiles, and Pillow makes an object for each as
soon as it opens the file. The header of a JPEG 2000 may claim any length, and Pillow allocates that
much memory before it reads.
Sources: ITU-T T.81 (JPEG), B.1.1; TIFF 6.0, section 2; BigTIFF is a TIFF with longer numbers; ITU-T
T.800 (JPEG 2000), annex I.4.
"""

import re
import struct
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

MOST_SCANS = 32  # a progressive JPEG has about 10
MOST_STRIPS, MOST_ENTRIES = 2**15, 2**16  # of a TIFF; its directory usually has about 15 entries
# the JPEG markers that are followed by a length: FF00 is no marker, FF01 and FFD0 to FFD8 have none
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
JPEG_2000 = b"\0\0\0\x0cjP  \r\n\x87\n"  # the first bytes of such a file
STRIP_OFFSETS, TILE_OFFSETS = 273, 324  # TIFF tags that list the position of every strip or tile


def pieces(path: Path) -> str:
    """What is wrong with the file, as text, or "": more scans, strips or directory entries than any
    picture needs, or a header that is longer than the file."""
    with open(path, "rb") as file:
        start = file.read(len(JPEG_2000))
        if start == JPEG_2000:
            return _header_beyond_the_end(file)
        if start[:3] == b"\xff\xd8\xff":
            count, most, what = _scans(start + file.read()), MOST_SCANS, "scans"
        elif start[:2] in (b"II", b"MM"):
            entries, strips = _directory(file)
            if entries > MOST_ENTRIES:
                return (
                    f"its directory has {entries} entries; at most {MOST_ENTRIES} are allowed: "
                    "save it again"
                )
            count, most, what = strips, MOST_STRIPS, "strips or tiles"
        else:
            return ""
    if count > most:
        return f"it is made of {count} {what}; at most {most} are allowed: save it again"
    return ""


def _scans(data: bytes) -> int:
    """The number of scans of the first picture in a JPEG file. The file is a sequence of segments:
    a marker, the length of the segment and its content."""
    count, at = 0, 2
    marker = MARKER.search(data, at)
    while marker and marker[0] != END_OF_IMAGE:
        count += marker[0] == START_OF_SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        marker = MARKER.search(data, at)
    return count


def _header_beyond_the_end(file: BinaryIO) -> str:
    """What is wrong with a JPEG 2000 file whose header box reaches beyond its end, as text, or "".

    A box is its length, its type and its content; a length of 1 means that the real length follows
    in 8 bytes.
    """
    end, at = file.seek(0, SEEK_END), 0
    while at + 16 <= end:
        file.seek(at)
        length, kind, longer = struct.unpack(">I4sQ", file.read(16))
        length = longer if length == 1 else length
        if kind == b"jp2h" and at + length > end:
            return f"its header claims {length} bytes, and the file has {end}: it is damaged"
        if kind == b"jp2h" or length < 8:  # Pillow reports what is wrong with so short a box
            break
        at += length
    return ""


def _directory(file: BinaryIO) -> tuple[int, int]:
    """The number of directory entries of the first picture in a TIFF, and the number of its strips
    or tiles; 0 and 0 if the file is cut short. The entries are read only if there are not too
    many."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    # a BigTIFF has 43 ("+") at byte 2, where Pillow looks for it; a TIFF has 42
    big = head[2:3] == b"+"
    count, entry, offset = ("Q", "HHQQ", head[8:16]) if big else ("H", "HHII", head[4:8])
    try:
        file.seek(struct.unpack(order + ("Q" if big else "I"), offset)[0])
        entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
        if entries > MOST_ENTRIES:
            return entries, 0
        rows = file.read(entries * struct.calcsize(order + entry))
        whole = len(rows) // struct.calcsize(order + entry) * struct.calcsize(order + entry)
        tags = list(struct.iter_unpack(order + entry, rows[:whole]))
    # ValueError: the offset is larger than any file
    except (struct.error, ValueError, OverflowError, OSError):
        return 0, 0  # Pillow reports what is wrong with the file
    return entries, max(
        (n for tag, _, n, _ in tags if tag in (STRIP_OFFSETS, TILE_OFFSETS)), default=0
    )
