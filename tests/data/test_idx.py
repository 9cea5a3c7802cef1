import gzip
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tinycv.data import idx_folder, read_idx, write_idx

DTYPES = ["u1", "i1", "i2", "i4", "f4", "f8"]
FILES = ["train-images.idx3", "train-labels.idx1", "t10k-images.idx3", "t10k-labels.idx1"]
NAMES = {  # MNIST's own names, and those some mirrors unpack to
    "dashes": [name.replace(".", "-") + "-ubyte" for name in FILES],
    "dots": [name + "-ubyte" for name in FILES],
}


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def put(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(params=["a.idx", "a.idx.gz"])
def path(request, tmp_path):
    return tmp_path / request.param


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_every_type_survives_the_round_trip(path, dtype, order):
    array = (np.arange(24) - 5).astype(np.dtype(dtype).newbyteorder(order)).reshape(2, 3, 4)
    write_idx(path, array)
    again = read_idx(path)
    assert again.dtype == np.dtype(dtype)
    assert (again == array).all()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(
    arrays_of.arrays(
        arrays_of.integer_dtypes(endianness=">", sizes=(16, 32)),
        arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0),
    )
)
def test_every_shape_survives_the_round_trip(path, array):
    write_idx(path, array[..., ::-1] if array.ndim else array)
    again = read_idx(path)
    assert again.shape == array.shape
    assert (again == (array[..., ::-1] if array.ndim else array)).all()


def test_a_file_written_by_hand_is_read_by_the_format(path):
    put(path, header(0x0B, 2, 2) + bytes.fromhex("0001 0100 ffff 7fff"))
    assert read_idx(path).tolist() == [[1, 256], [-1, 32767]]


def test_the_array_that_was_read_is_writable(path):
    write_idx(path, np.zeros(3, np.uint8))
    read_idx(path)[0] = 1


def test_gzip_is_recognised_by_its_content_not_its_name(tmp_path):
    put(tmp_path / "a.gz", header(8, 1) + b"\7").rename(tmp_path / "a")
    assert read_idx(tmp_path / "a").tolist() == [7]


@pytest.mark.parametrize(
    "begin", [b"", b"\0\0\x08", b"\x89PNG....", b"\0\0\x0a\x01...", b"\0\0\x08\x41..."]
)
def test_a_wrong_magic_number_is_reported_with_the_right_one(path, begin):
    with pytest.raises(
        ValueError, match=r"a\.idx.*begins with .*, expected 00 00, a type \(08, 09, 0b"
    ):
        read_idx(put(path, begin))


def test_a_header_cut_short_is_refused(path):
    with pytest.raises(
        ValueError, match=r"a\.idx.*cut short: 2 axes need 8 bytes of sizes, and it holds 4"
    ):
        read_idx(put(path, header(8, 2, 2)[:-4]))


def test_a_body_cut_short_is_refused_with_both_lengths(path):
    with pytest.raises(
        ValueError, match=r"cut short.*\(2, 3\) of int16, which is 12 bytes, and it holds 11"
    ):
        read_idx(put(path, header(0x0B, 2, 3) + bytes(11)))


def test_a_body_too_long_is_refused(path):
    with pytest.raises(
        ValueError, match=r"too long.*\(2, 3\) of uint8, which is 6 bytes, and it holds more"
    ):
        read_idx(put(path, header(8, 2, 3) + bytes(7)))


@pytest.mark.parametrize("shape", [(2**32 - 1,), (2**31, 2**20), (2**32 - 1,) * 3])
def test_a_header_that_claims_too_much_costs_no_memory(path, shape):
    put(path, header(0x0E, *shape) + bytes(100))
    tracemalloc.start()
    with pytest.raises(ValueError, match="fetch the file again"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


def test_a_shape_beyond_any_memory_is_refused_even_with_a_side_of_0(path):
    with pytest.raises(ValueError, match="more than any memory holds; fetch the file again"):
        read_idx(put(path, header(0x0E, 0, *(2**32 - 1,) * 3)))


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    put(tmp_path / "a.gz", header(8, 10) + bytes(20_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="too long"):
        read_idx(tmp_path / "a.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize(
    "damage",
    [
        lambda zipped: zipped[:-9],  # cut
        lambda zipped: zipped[:-8] + b"\0\0\0\0" + zipped[-4:],  # a wrong checksum
        lambda zipped: zipped[:300] + bytes(20) + zipped[320:],  # a damaged body
        lambda zipped: zipped + b"something after the end",
    ],
)
def test_a_damaged_gzip_stream_is_refused(tmp_path, damage):
    path = tmp_path / "a.gz"
    noise = np.random.default_rng(0).bytes(1000)
    path.write_bytes(damage(gzip.compress(header(8, 1000) + noise)))
    with pytest.raises(
        ValueError, match=r"a\.gz: the gzip stream is damaged \(.+\); fetch the file again"
    ):
        read_idx(path)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(
    st.binary(max_size=300),
    st.lists(st.integers(0, 400), max_size=4),
    st.integers(0, 99),
    st.booleans(),
)
def test_a_gzip_file_may_have_several_parts_a_name_and_trailing_zeros(
    tmp_path, body, cuts, zeros, named
):
    content = header(8, len(body)) + body
    places = [0, *sorted(cuts), len(content)]
    packed = b""
    for start, stop in zip(places, places[1:], strict=False):
        part = gzip.compress(content[start:stop])
        if named:
            part = part[:3] + b"\x08" + part[4:10] + b"a name\0" + part[10:]
        packed += part + bytes(zeros)
    (tmp_path / "a.gz").write_bytes(packed)
    assert read_idx(tmp_path / "a.gz").tobytes() == body
    # as Python's own reader finds
    assert gzip.decompress(packed) == content


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(st.data())
def test_a_gzip_file_with_any_byte_changed_is_refused_or_the_same(tmp_path, data):
    body = np.random.default_rng(0).bytes(200)
    packed = bytearray(gzip.compress(header(8, 200) + body, mtime=0))
    where = data.draw(st.integers(2, len(packed) - 1))
    packed[where] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "a.gz").write_bytes(packed)
    try:
        assert read_idx(tmp_path / "a.gz").tobytes() == body
        # a flag, the time, the system; and at 10 bits that nobody reads, before bytes stored as
        # they are
        assert where <= 10
    except ValueError as error:
        # damaged, or too long, or of no type
        assert "a.gz: " in str(error)


LONG = 30_000_000
# a gzip file whose name follows
NAMED = b"\x1f\x8b\x08\x08" + bytes(6)


@pytest.mark.parametrize(
    "content, words",
    [
        (gzip.compress(header(8, 1) + b"7") + bytes(LONG), None),
        (gzip.compress(header(8, 1) + b"7") + bytes(LONG) + b"x", "damaged"),
        (NAMED + b"a" * LONG, "damaged .it is cut short."),
        (
            gzip.compress(b"") * (LONG // 20) + gzip.compress(header(8, 1) + b"7"),
            "more than 31000 parts",
        ),
    ],
    ids=["zeros", "zeros and one more", "a name", "empty parts"],
)
def test_a_long_gzip_file_of_empty_parts_takes_little_time(content, words, tmp_path):
    (tmp_path / "a.gz").write_bytes(content)
    began = time.process_time()
    if words:
        with pytest.raises(ValueError, match=words):
            read_idx(tmp_path / "a.gz")
    else:
        assert read_idx(tmp_path / "a.gz").tolist() == [55]
    # 8 s before, of a fast machine
    assert time.process_time() - began < 3


@pytest.mark.parametrize("code, shape", [(8, (10, 8000, 8000)), (0x0E, (2**25,)), (8, (2**28,))])
def test_a_gzip_file_that_would_unpack_to_too_much_is_refused_before_it_is_unpacked(
    code, shape, tmp_path
):
    squeeze = zlib.compressobj(1, wbits=31)
    size = int(np.prod(shape)) * (8 if code == 0x0E else 1)
    packed = squeeze.compress(header(code, *shape))
    packed += b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20))
    (tmp_path / "a.gz").write_bytes(
        packed + squeeze.compress(bytes(size % (1 << 20))) + squeeze.flush()
    )
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=f"a.gz: {size} bytes in a gzip file of .*gunzip if you expect"
    ):
        read_idx(tmp_path / "a.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_a_good_file_is_not_replaced_by_one_that_read_idx_would_refuse(tmp_path):
    even = np.zeros((2**26 + 1,), np.uint8)
    write_idx(tmp_path / "a.gz", even[: 2**26])
    good = (tmp_path / "a.gz").read_bytes()
    assert read_idx(tmp_path / "a.gz").shape == (2**26,)
    with pytest.raises(ValueError, match="write_idx to a name without .gz"):
        write_idx(tmp_path / "a.gz", even)
    assert (tmp_path / "a.gz").read_bytes() == good
    write_idx(tmp_path / "a", even)
    assert read_idx(tmp_path / "a").shape == even.shape


FULL_DISK = """
import resource, signal, sys
import numpy as np
from tinycv.data import write_idx
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_idx(sys.argv[1], np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8))
except OSError as error:
    print(error.strerror)
"""


def test_a_full_disk_leaves_the_old_file_and_no_partial_file(path):
    write_idx(path, np.arange(9, dtype=np.uint8))
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True)
    assert done.stdout == "File too large\n", done.stderr
    assert read_idx(path).tolist() == list(range(9)) and list(path.parent.iterdir()) == [path]


def test_equal_arrays_give_equal_files_at_any_time_of_day(path, monkeypatch):
    write_idx(path, np.arange(9, dtype=np.uint8))
    first = path.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    write_idx(path, np.arange(9, dtype=np.uint8))
    assert path.read_bytes() == first


@pytest.mark.parametrize("dtype", ["i8", "u2", "?", "c8"])
def test_a_type_that_idx_lacks_is_refused_with_the_types_it_has(path, dtype):
    with pytest.raises(
        TypeError, match=rf"no {np.dtype(dtype)}, only uint8, int8, int16, .*astype"
    ):
        write_idx(path, np.zeros(3, dtype))
    assert not path.exists()


def put_folder(folder, names, ending="", labels=3):
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5) * 4
    for image_name, label_name in zip(names[::2], names[1::2], strict=True):
        write_idx(folder / (image_name + ending), images)
        write_idx(folder / (label_name + ending), np.arange(labels, dtype=np.uint8))
    return images


@pytest.mark.parametrize("style", NAMES)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_files_of_a_folder_are_found_under_all_their_usual_names(tmp_path, style, ending):
    images = put_folder(tmp_path, NAMES[style], ending)
    train_x, train_y, test_x, test_y = idx_folder(str(tmp_path))
    assert (train_x.dtype, train_x.shape, train_y.dtype) == ("f4", (3, 1, 4, 5), "i8")
    assert (train_x[:, 0] == images / np.float32(255)).all()
    assert train_y.tolist() == test_y.tolist() == [0, 1, 2]
    assert (test_x == train_x).all()


def test_a_missing_file_is_reported_with_all_the_names_looked_for(tmp_path):
    put_folder(tmp_path, NAMES["dashes"])
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as error:
        idx_folder(tmp_path)
    assert str(tmp_path) in str(error.value)
    for name in ["t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"]:
        assert f"{name}, {name}.gz" in str(error.value)


def test_images_and_labels_of_different_number_are_refused_with_both_numbers(tmp_path):
    put_folder(tmp_path, NAMES["dashes"], labels=4)
    with pytest.raises(
        ValueError, match=r"train-images.*holds 3 images and .*train-labels.* holds 4 labels"
    ):
        idx_folder(tmp_path)


def test_labels_instead_of_images_are_refused(tmp_path):
    put_folder(tmp_path, NAMES["dashes"])
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(
        ValueError, match=r"expected uint8 with 3 axes, found uint8 of shape \(3,\)"
    ):
        idx_folder(tmp_path)
