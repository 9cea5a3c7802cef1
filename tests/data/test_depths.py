"""Images of every mode and bit depth: a grey ramp that is saved and read again is unchanged, within
the precision of its file format."""

import io
import resource
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinycv.data import image_folder
from tinycv.data.photos import open_photo, pixels, square
from tinycv.vision.classify import prepared

RAMP = np.linspace(0, 1, 48).reshape(6, 8)
ABOUT = {"mean": [0], "std": [1], "crop": 1.0, "resample": "bicubic"}
# mode, the formats that keep it, how far grey may be off after a trip through that mode
MODES = [
    ("1", "png tiff ppm bmp", 0.5),
    ("L", "png tiff ppm bmp jpeg2000 sgi gif webp", 1 / 255),
    ("P", "png tiff gif bmp", 1 / 255),
    ("LA", "png tiff jpeg2000", 1 / 255),
    ("RGB", "png tiff ppm bmp webp jpeg2000", 1 / 255),
    ("RGBA", "png tiff webp jpeg2000", 1 / 255),
    ("CMYK", "tiff", 1 / 255),
    ("YCbCr", "tiff", 3 / 255),
    ("LAB", "tiff", 6 / 255),
    ("I;16", "png tiff jpeg2000", 1 / 65535),
    ("I;16B", "tiff png", 1 / 65535),
    ("I;16L", "tiff", 1 / 65535),
    ("F", "tiff", 1e-7),
]
EACH = [(mode, kind, room) for mode, kinds, room in MODES for kind in kinds.split()]


def image_of(values, mode):
    """Grey values 0 to 1 (H, W) as a Pillow image of a mode."""
    if mode.startswith("I;16"):
        whole = np.rint(values * 65535).astype(">u2" if mode.endswith("B") else "<u2")
        return Image.frombytes(mode, values.shape[::-1], whole.tobytes())
    if mode == "F":
        return Image.fromarray(values.astype(np.float32))
    if mode == "1":
        return Image.fromarray(values > 0.5)
    grey = Image.fromarray(np.rint(values * 255).astype(np.uint8))
    # L* of a linear ramp of lightness: 0 to 100 in 8 bits
    if mode == "LAB":
        lightness = np.stack(
            [np.rint(values * 255), np.zeros(values.shape), np.zeros(values.shape)], -1
        )
        return Image.frombytes("LAB", values.shape[::-1], lightness.astype(np.uint8).tobytes())
    return grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)


def wanted(values, mode):
    if mode == "LAB":  # CIE 1976, then sRGB's curve
        f = (np.rint(values * 255) / 255 * 100 + 16) / 116
        y = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2)
        return np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    return (values > 0.5) if mode == "1" else values


@pytest.mark.parametrize(
    "mode, kind, room", EACH, ids=[f"{mode} as {kind}" for mode, kind, _ in EACH]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_ramp_survives_every_mode_and_format(mode, kind, room, channels, tmp_path):
    (tmp_path / "class").mkdir()
    # Pillow reads by content, not by name
    file = tmp_path / "class" / "a.png"
    options = {"webp": {"lossless": True}, "jpeg2000": {"irreversible": False}}.get(kind, {})
    image_of(RAMP, mode).save(file, kind, **options)
    room = max(room, 1 / 255) if channels == 3 else room
    found = pixels(open_photo(file, channels))
    assert found.shape == (channels, 6, 8) and found.dtype == np.float32
    np.testing.assert_allclose(
        found, np.broadcast_to(wanted(RAMP, mode), found.shape), atol=0.51 * room + 1e-7
    )
    # image_folder and open_photo read it by the same function
    np.testing.assert_array_equal(image_folder(tmp_path, channels=channels)[0][0], found)
    if channels == 1:
        np.testing.assert_allclose(
            prepared(file, 6, 1, ABOUT), square(open_photo(file, 1), 6), atol=1e-7
        )
        assert square(open_photo(file, 1), 6, resample="nearest").max() > 0.8 or mode == "LAB"


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    most=st.sampled_from([255, 65535, 1023, 4095, 300]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_a_pgm_of_any_depth_is_divided_by_its_maximal_value(
    data, most, height, width, tmp_path_factory
):
    values = np.array(
        data.draw(st.lists(st.integers(0, most), min_size=height * width, max_size=height * width))
    )
    body = values.astype(np.uint8 if most < 256 else ">u2").tobytes()
    file = tmp_path_factory.mktemp("pgm") / "a.pgm"
    file.write_bytes(f"P5 {width} {height} {most}\n".encode() + body)
    found = pixels(open_photo(file, 1))[0]
    np.testing.assert_allclose(
        found, (values / most).reshape(height, width), atol=0.51 / (255 if most < 256 else 65535)
    )


def tiff(values, bits, photometric, sample_format=1, order="<"):
    """A TIFF of one strip, written by hand; values are its bytes. TIFF 6.0, section 2."""
    height, width, body = values
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(body)),
        (339, 3, sample_format),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(
        order + "HI", 42, 8 + len(body) + len(body) % 2
    )
    rows = b"".join(
        struct.pack(order + "HHII", tag, kind, 1, n)
        if kind == 4
        else struct.pack(order + "HHIHH", tag, kind, 1, n, 0)
        for tag, kind, n in tags
    )
    return (
        head
        + body
        + b"\0" * (len(body) % 2)
        + struct.pack(order + "H", len(tags))
        + rows
        + b"\0" * 4
    )


def test_a_tiff_whose_white_is_0_is_inverted(tmp_path):
    body = np.rint(RAMP * 65535).astype("<u2").tobytes()
    for photometric, want in ((0, 1 - RAMP), (1, RAMP)):
        (tmp_path / "a.tif").write_bytes(tiff((6, 8, body), 16, photometric))
        np.testing.assert_allclose(pixels(open_photo(tmp_path / "a.tif", 1))[0], want, atol=1e-5)


def test_a_tiff_of_12_bits_is_divided_by_4095(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff((6, 8, tiff12(RAMP)), 12, 1))
    np.testing.assert_allclose(pixels(open_photo(tmp_path / "a.tif", 1))[0], RAMP, atol=1 / 4095)


@pytest.mark.parametrize(
    "values, words",
    [
        (RAMP * 255, "run from 0 to 255"),
        (RAMP - 0.5, "run from -0.5 to 0.5"),
        (RAMP * np.nan, "run from nan"),
        (np.full((6, 8), np.inf), "run from inf"),
        ((RAMP * 65535).astype(np.int32), "32-bit integers"),
        (-(RAMP * 9).astype(np.int32), "32-bit"),
    ],
)
def test_values_without_a_known_white_are_refused(values, words, tmp_path):
    with np.errstate(all="ignore"):
        picture = Image.fromarray(values if values.dtype == np.int32 else values.astype(np.float32))
    picture.save(tmp_path / "a.tif")
    for call in (
        lambda: open_photo(tmp_path / "a.tif", 3),
        lambda: prepared(tmp_path / "a.tif", 4, 1, ABOUT),
        lambda: pixels(picture),
        lambda: square(picture, 4),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_deep_photo_is_rotated_by_its_exif_tag(turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = turn
    for name in ("a.png", "a.tif"):
        image_of(RAMP, "I;16").save(tmp_path / name, exif=exif)
        grey = Image.fromarray(np.rint(RAMP * 255).astype(np.uint8))
        grey.save(tmp_path / f"grey_{name}", exif=exif)
        np.testing.assert_allclose(
            pixels(open_photo(tmp_path / name, 1)),
            pixels(open_photo(tmp_path / f"grey_{name}", 1)),
            atol=0.51 / 255,
        )


def tiff12(values):
    """The strip of a TIFF of 12 bits: two numbers in three bytes."""
    whole = np.rint(values * 4095).astype(int).ravel()
    pairs = zip(whole[::2], whole[1::2], strict=True)
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


SIXTEEN = np.rint(RAMP * 65535).astype("<u2").tobytes()
DEEP = {
    "12 bits": (tiff12(RAMP), 12, 1, 1),
    "16 bits": (SIXTEEN, 16, 1, 1),
    "turned round": (SIXTEEN, 16, 0, 1),
    "floats": (RAMP.astype("<f4").tobytes(), 32, 1, 3),
    "floats, turned round": (RAMP.astype("<f4").tobytes(), 32, 0, 3),
}
HANDLED = {
    "crop": lambda im: im.crop((0, 0, 8, 6)),
    "copy": lambda im: im.copy(),
    "resize": lambda im: im.resize((8, 6)),
    "turned": lambda im: im.rotate(180).rotate(180),
    "of a copy": lambda im: im.copy().crop((0, 0, 8, 6)),
}


@pytest.mark.parametrize("deep", DEEP)
@pytest.mark.parametrize("handled", HANDLED)
def test_a_deep_tiff_processed_by_pillow_is_refused_unless_open_photo_opened_it(
    handled, deep, tmp_path
):
    body, bits, photometric, kind = DEEP[deep]
    (tmp_path / "a.tif").write_bytes(tiff((6, 8, body), bits, photometric, kind))
    want = RAMP if photometric else 1 - RAMP
    with Image.open(tmp_path / "a.tif") as picture:
        np.testing.assert_allclose(pixels(picture)[0], want, atol=1 / 4095)
        for call in (
            lambda: pixels(HANDLED[handled](picture)),
            lambda: square(HANDLED[handled](picture), 4),
        ):
            with pytest.raises(
                ValueError, match="cut out of a TIFF, and lost the tags .* open_photo"
            ):
                call()
    found = pixels(HANDLED[handled](open_photo(tmp_path / "a.tif", 1)))
    np.testing.assert_allclose(found[0], want, atol=1 / 4095)


@pytest.mark.parametrize(
    "mode, kind", [("I;16", "png"), ("L", "tiff"), ("RGB", "tiff"), ("L", "bmp")]
)
def test_other_images_processed_by_pillow_are_read(mode, kind, tmp_path):
    image_of(RAMP, mode).save(tmp_path / "a", kind)
    with Image.open(tmp_path / "a") as picture:
        np.testing.assert_array_equal(pixels(picture.copy()), pixels(picture))


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_signed_integers_of_any_depth_is_refused(bits, order, tmp_path):
    body = np.arange(48).astype(f"{order}i{bits // 8}").tobytes()
    (tmp_path / "a.tif").write_bytes(tiff((6, 8, body), bits, 1, 2, order))
    for channels in (1, 3):
        with pytest.raises(ValueError, match="a.tif: it holds signed or 32-bit integers"):
            open_photo(tmp_path / "a.tif", channels)
    with (
        Image.open(tmp_path / "a.tif") as picture,
        pytest.raises(ValueError, match="pixels: photo: it holds signed"),
    ):
        pixels(picture)


def test_overshoot_of_a_filter_is_clipped():
    steps = np.repeat(np.repeat([[0.0, 1.0], [1.0, 0.0]], 8, 0), 8, 1)
    found = square(image_of(steps, "F"), 9, resample="lanczos")
    assert found.min() == 0 and found.max() == 1


def test_palettes_with_transparency_and_animations_are_read_in_colour(tmp_path):
    red = Image.new("P", (8, 6), 1)
    red.putpalette([0, 0, 255, 255, 0, 0])
    red.save(tmp_path / "a.png", transparency=1)
    red.save(
        tmp_path / "a.gif", save_all=True, append_images=[Image.new("P", (8, 6), 0)], transparency=0
    )
    for name in ("a.png", "a.gif"):
        np.testing.assert_allclose(pixels(open_photo(tmp_path / name, 3))[:, 0, 0], [1, 0, 0])
    # given as it is, without a file
    np.testing.assert_allclose(pixels(red)[:, 0, 0], [1, 0, 0])


# ── small files that would be expensive to read ──────────────────────────────────────────────────


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG_KINDS = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (0, 16),
    (2, 8),
    (2, 16),
    (4, 8),
    (4, 16),
    (6, 8),
    (6, 16),
]


@pytest.mark.parametrize("colour, bits", PNG_KINDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_png_of_every_colour_type_and_depth_is_divided_by_its_maximal_value(
    colour, bits, data, tmp_path_factory
):
    most, bands = 2**bits - 1, {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    drawn = data.draw(st.lists(st.integers(0, most), min_size=16 * bands, max_size=16 * bands))
    values = np.array(drawn).reshape(2, 8, bands)
    in_bits = ["".join(f"{v:0{bits}b}" for v in row.ravel()) for row in values]
    rows = b"".join(b"\0" + int(row, 2).to_bytes(bands * bits, "big") for row in in_bits)
    file = tmp_path_factory.getbasetemp() / "kind.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 2, bits, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    # what follows is alpha, which is left out
    of_colour = 3 if colour in (2, 6) else 1
    want = np.broadcast_to((values[..., :of_colour] / most).transpose(2, 0, 1), (3, 2, 8))
    np.testing.assert_allclose(pixels(open_photo(file, 3)), want, atol=1.01 / 255)
    if (colour, bits) == (0, 16):
        np.testing.assert_allclose(pixels(open_photo(file, 1)), want[:1], atol=1e-7)


def flat_png(path, width, height, bits=8):
    """A black PNG that claims width x height, in a thousandth of its bytes."""
    squeeze, row = zlib.compressobj(9), bytes(1 + width * bits // 8)
    body = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )
    return path


PEAK = """
import resource, sys
from pathlib import Path
# KiB; ru_maxrss would count the process that started this one, until exec
def peak():
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from tinycv.data import image_folder
from tinycv.data.photos import open_photo, square
from tinycv.vision.classify import prepared
about = {"mean": [0], "std": [1], "crop": float(sys.argv[2]), "resample": "bicubic"}
before = peak()
for call in (lambda: image_folder(sys.argv[1], size=224, channels=1),
             lambda: prepared(sys.argv[1] + "/a/x.png", 224, 1, about)):
    try:
        call()
    except ValueError as error:
        print(error)
print(peak() - before)
"""


@pytest.mark.parametrize(
    "sides, crop, words",
    [
        ((1, 65000), 1, "1 x 65000"),
        ((65000, 1), 0.9, "65000 x 1"),
        ((12000, 9000), 1, "12000 x 9000"),
        ((60000, 60000), 1, "3600000000"),
    ],
)
def test_a_huge_picture_is_refused_with_its_size_and_costs_no_memory(sides, crop, words, tmp_path):
    if sides[0] * sides[1] < 10**9:
        flat_png(tmp_path / "a/x.png", *sides)
    else:  # the header alone
        flat_png(tmp_path / "a/x.png", 8, 1)
        whole = (tmp_path / "a/x.png").read_bytes()
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", *sides, 8, 0, 0, 0, 0))
        (tmp_path / "a/x.png").write_bytes(whole[:8] + head + whole[33:])
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path, str(crop)], capture_output=True, text=True
    )
    *said, more = done.stdout.splitlines()
    assert len(said) == 2 and all(words in line for line in said), done.stdout + done.stderr
    assert int(more) < 60 * 1024, more  # KiB; 4 GB before


def test_the_same_picture_squeezed_is_read_with_little_memory(tmp_path):
    flat_png(tmp_path / "a.png", 1, 65000)
    assert square(open_photo(tmp_path / "a.png", 1), 32, crop=0).shape == (1, 32, 32)


def test_a_panorama_is_cut_as_before():
    wide = np.random.default_rng(0).integers(0, 256, (20, 200, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        square(Image.fromarray(wide), 20), wide[:, 90:110].transpose(2, 0, 1) / np.float32(255)
    )


def test_postscript_is_not_run(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "eps")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"a\.png: PostScript is a program"):
        open_photo(tmp_path / "a.png")


# Pillow's, of tags that it skips
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_picture_is_refused_and_never_costs_much_memory(data, tmp_path_factory):
    mode, kind, _ = data.draw(st.sampled_from(EACH))
    buffer = io.BytesIO()
    image_of(RAMP, mode).save(buffer, kind)
    whole = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.png"
    file.write_bytes(whole)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = square(open_photo(file, 1), 8)
        assert np.isfinite(found).all() and 0 <= found.min() <= found.max() <= 1
    except ValueError as error:
        assert "damaged.png" in str(error) or "square: photo" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
