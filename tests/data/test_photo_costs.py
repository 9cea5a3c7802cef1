"""A small file that claims to be a huge picture, or one of very many pieces, is refused before it
costs time or memory."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tinycv.data import image_folder
from tinycv.data.photo_costs import MOST_ENTRIES, MOST_SCANS, MOST_STRIPS, pieces
from tinycv.data.photos import UNSCALED_PIXELS, open_photo, pixels

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 56, 3)).astype(np.uint8)
SOS = b"\xff\xda"


def written(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# ── scans of a JPEG ──────────────────────────────────────────────────────────────────────────────

PROGRESSIVE = written(Image.fromarray(NOISE), "JPEG", progressive=True)


def with_scans(count):
    """The progressive picture, with its last scan so often that it has ``count``."""
    last = PROGRESSIVE[PROGRESSIVE.rindex(SOS) : -2]
    return PROGRESSIVE[:-2] + last * (count - 10) + PROGRESSIVE[-2:]


@pytest.mark.parametrize("count", [10, 11, MOST_SCANS])
def test_a_jpeg_with_the_largest_allowed_number_of_scans_is_read(count, tmp_path):
    (tmp_path / "a.jpg").write_bytes(with_scans(count))
    assert pieces(tmp_path / "a.jpg") == ""
    assert open_photo(tmp_path / "a.jpg").size == (56, 40)


@pytest.mark.parametrize("count", [MOST_SCANS + 1, 5000])
def test_a_jpeg_of_more_scans_is_refused_with_their_number(count, tmp_path):
    # the content decides, not the name
    (tmp_path / "a.png").write_bytes(with_scans(count))
    with pytest.raises(
        ValueError, match=f"a.png: it is made of {count} scans; at most {MOST_SCANS} are allowed"
    ):
        open_photo(tmp_path / "a.png")


@settings(max_examples=40, deadline=None)
@given(note=st.binary(max_size=200), inner=st.integers(1, 60), filling=st.integers(0, 3))
def test_scans_in_comments_thumbnails_and_other_pictures_are_not_counted(
    note, inner, filling, tmp_path_factory
):
    # as a thumbnail has them
    note += SOS * inner + b"\xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note
    whole = PROGRESSIVE[:2] + segment + b"\xff" * filling + PROGRESSIVE[2:] + SOS * 100
    file = tmp_path_factory.getbasetemp() / "note.jpg"
    file.write_bytes(whole)
    assert pieces(file) == ""
    file.write_bytes(PROGRESSIVE[:2] + segment + b"\xff" * filling + with_scans(MOST_SCANS + 1)[2:])
    assert f"made of {MOST_SCANS + 1} scans" in pieces(file)


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"II", b"MM", b""]),
    rest=st.binary(max_size=100),
)
# its first picture lies beyond every file
@example(start=b"II+\0", rest=bytes(11) + b"\x80")
def test_counting_ends_for_any_bytes(start, rest, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(start + rest)
    assert isinstance(pieces(file), str)


# ── strips and tiles of a TIFF ───────────────────────────────────────────────────────────────────


def tiff(strips, order="<", big=False, tag=273, others=0):
    """A TIFF with one pixel per row and strip, all strips at the same position. others: the number
    of further directory entries, which have no meaning."""
    entry, number = ("HHQQ", "Q") if big else ("HHII", "I")
    head = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    tags = [(256, 1), (257, strips), (258, 8), (259, 1), (262, 1), (273, None), (277, 1), (278, 1)]
    if tag == 324:
        tags = [*tags[:5], (277, 1), (322, 1), (323, 1), (324, None)]
    tags = [(1, 1)] * others + tags
    start = (
        2
        + len(head)
        + struct.calcsize(order + ("Q" if big else "H"))
        + len(tags) * struct.calcsize(order + entry)
    )
    start += struct.calcsize(order + number)
    rows = b"".join(
        struct.pack(order + entry, which, 4, strips if n is None else 1, start if n is None else n)
        for which, n in tags
    )
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return (
        (b"II" if order == "<" else b"MM")
        + head
        + count
        + rows
        + bytes(struct.calcsize(order + number))
        + struct.pack(f"{order}{strips}I", *[8] * strips)
    )


@pytest.mark.parametrize("order, big", [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("tag", [273, 324])
def test_a_tiff_of_more_strips_or_tiles_is_refused_with_their_number(order, big, tag, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(MOST_STRIPS, order, big, tag))
    # Pillow reads the same number of them
    with Image.open(tmp_path / "a.tif") as picture:
        assert picture.size == (1, MOST_STRIPS) and len(picture.tile) == MOST_STRIPS
    assert pieces(tmp_path / "a.tif") == ""
    (tmp_path / "a.tif").write_bytes(tiff(1_000_000, order, big, tag))
    began = time.process_time()
    with pytest.raises(
        ValueError,
        match=f"it is made of 1000000 strips or tiles; at most {MOST_STRIPS} are allowed",
    ):
        open_photo(tmp_path / "a.tif")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("tag", [273, 324])
@pytest.mark.parametrize("entries", [MOST_ENTRIES + 1, 66_009, 200_000])
def test_a_tiff_of_more_entries_is_refused_with_their_number(entries, tag, tmp_path):
    """Entries after them would not be read: 40,000 tiles, for instance."""
    own = 9 if tag == 324 else 8
    (tmp_path / "a.tif").write_bytes(tiff(40_000, "<", True, tag, entries - own))
    with pytest.raises(
        ValueError, match=f"its directory has {entries} entries; at most {MOST_ENTRIES} are allowed"
    ):
        open_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("big, entries", [(False, 2**16 - 1), (True, MOST_ENTRIES)])
def test_strips_are_found_after_the_largest_allowed_number_of_entries(big, entries, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(40_000, big=big, others=entries - 8))
    with pytest.raises(ValueError, match="it is made of 40000 strips or tiles"):
        open_photo(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(tiff(5, big=big, others=entries - 8))
    assert pieces(tmp_path / "a.tif") == ""


@pytest.mark.parametrize("entries", [MOST_ENTRIES + 1, 2**40, 2**64 - 1])
def test_entries_claimed_by_a_short_file_are_refused_without_being_read(entries, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II" + struct.pack("<HHHQQ", 43, 8, 0, 16, entries))
    assert f"its directory has {entries} entries" in pieces(tmp_path / "a.tif")


def test_a_tiff_with_one_strip_per_row_is_read(tmp_path):
    grey = RNG.integers(0, 256, (300, 7)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.tif", tiffinfo={278: 1})
    np.testing.assert_array_equal(
        pixels(open_photo(tmp_path / "a.tif", 1))[0], grey / np.float32(255)
    )


# ── the header of a JPEG 2000 ────────────────────────────────────────────────────────────────────

JPEG_2000 = written(Image.fromarray(NOISE), "JPEG2000")


def test_a_jpeg_2000_whose_header_claims_more_than_the_file_is_refused(tmp_path):
    # A length of 1 makes Pillow read a longer one from the bytes behind the type: here 96 GB.
    place = JPEG_2000.index(b"jp2h")
    (tmp_path / "a.jp2").write_bytes(JPEG_2000[: place - 4] + b"\0\0\0\x01" + JPEG_2000[place:])
    words = (
        rf"its header claims 96257729\d* bytes, and the file has {len(JPEG_2000)}: it is damaged"
    )
    with pytest.raises(ValueError, match=words):
        open_photo(tmp_path / "a.jp2")


def test_a_whole_jpeg_2000_is_read(tmp_path):
    (tmp_path / "a.jp2").write_bytes(JPEG_2000)
    np.testing.assert_array_equal(np.asarray(open_photo(tmp_path / "a.jp2")), NOISE)


# ── a folder of photos without a size ────────────────────────────────────────────────────────────


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def flat_png(width, height, bits):
    squeeze, row = zlib.compressobj(9), bytes(1 + (width * bits + 7) // 8)
    body = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def screen_gif(width, height):
    """A GIF whose screen is large and whose picture is one pixel."""
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes([0, 0, 0, 255, 255, 255])
        + b","
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
        + b"\x02\x02\x4c\x01\x00;"
    )


def flat_tiff(width, height):
    return written(Image.new("L", (width, height)), "TIFF", compression="tiff_adobe_deflate")


PEAK = """
import resource, sys
from pathlib import Path
def peak():
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from PIL import Image
from tinycv.data import image_folder
size = int(sys.argv[2]) or None
before = peak()
try:
    image_folder(sys.argv[1], size)
except ValueError as error:
    print(error)
print((peak() - before) // 1024)
"""


def cost(folder, size):
    """(error message, MiB used) of image_folder, called in a separate process."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, folder, str(size)], capture_output=True, text=True
    )
    *said, more = done.stdout.splitlines()
    return " ".join(said), int(more)


@pytest.mark.parametrize(
    "kind, sides",
    [
        ("png1", (4097, 4096)),
        ("png16", (4097, 4096)),
        ("tiff", (4096, 4097)),
        ("gif", (9400, 9400)),
        ("gif", (65535, 257)),
        ("png1", (2**24 + 1, 1)),
    ],
)
def test_a_huge_photo_without_a_size_is_refused_and_costs_no_memory(kind, sides, tmp_path):
    make = {
        "png1": lambda: flat_png(*sides, 1),
        "png16": lambda: flat_png(*sides, 16),
        "gif": lambda: screen_gif(*sides),
        "tiff": lambda: flat_tiff(*sides),
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.png").write_bytes(make[kind]())
    said, more = cost(tmp_path, 0)
    assert (
        f"x.png: {sides[0]} x {sides[1]} are more pixels than a photo may have" in said
        and "give size=" in said
    )
    assert more < 40


@pytest.mark.parametrize("bits", [1, 16])
def test_the_largest_photo_costs_its_array_and_what_pillow_needs(bits, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.png").write_bytes(flat_png(4096, 4096, bits))
    said, more = cost(tmp_path, 0)
    array, colour = 3 * 4 * UNSCALED_PIXELS >> 20, 3 * UNSCALED_PIXELS >> 20  # MiB
    assert not said and more < array + 5 * colour


def test_photos_are_read_into_one_array_whatever_their_depth(tmp_path):
    (tmp_path / "a").mkdir()
    for i, mode in enumerate(("L", "RGB", "I;16")):
        grey = RNG.integers(0, 256, (6, 8)).astype(np.uint8)
        picture = (
            Image.fromarray(grey.astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(grey).convert(mode)
        )
        picture.save(tmp_path / "a" / f"{i}.png")
    for channels in (1, 3):
        images, _, _ = image_folder(tmp_path, channels=channels)
        assert (
            images.shape == (3, channels, 6, 8)
            and images.dtype == np.float32
            and images.flags.c_contiguous
        )
        for i, image in enumerate(images):
            np.testing.assert_array_equal(
                image, pixels(open_photo(tmp_path / "a" / f"{i}.png", channels))
            )
