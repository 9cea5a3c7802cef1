"""The container of the data does not matter: lists, Tensors, other memory layouts and dtypes give
the same result or are refused. Small files that would be expensive to read are refused too."""

import gzip
import io
import pickle
import struct
import threading
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinycv
from tinycv.data import (
    DataLoader,
    affine,
    cifar_folder,
    cutmix,
    halved,
    idx_folder,
    mixup,
    one_hot,
    rand_augment,
    random_affine,
    random_crop,
    random_flip,
    random_shift,
    read_idx,
    stacked_digits,
)
from tinycv.data.disk_cache import cached

# exact in float16 too
X = (np.random.default_rng(0).integers(0, 65, (4, 3, 6, 8)) / 64).astype(np.float32)
Y = np.eye(4, dtype=np.float32)


class Foreign:
    """An array of another library, which NumPy can read: PyTorch's tensors are such."""

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype

    def __array__(self, dtype=None, copy=None):
        return np.array(self.a, dtype=dtype)


class Elsewhere(Foreign):
    """An array that refuses to be read, as CuPy's do."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.\nUse get().")


def strided(a):
    room = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    view = room[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


HOLDERS = {
    "list": lambda a: a.tolist(),
    "Tensor": tinycv.tensor,
    "foreign": Foreign,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}
MOVES = {
    "flip": random_flip,
    "crop": lambda x, rng: random_crop(x, rng, np.int64(4), np.int8(1)),
    "shift": random_shift,
    "halved": lambda x, rng: halved(x),
    "stacked": lambda x, rng: stacked_digits(np.asarray(x)[:, :1], range(4), 5, rng)[0],
    "cutmix": lambda x, rng: cutmix(x, Y, rng)[0],
}
BLENDS = {
    "mixup": lambda x, rng: mixup(x, Y, rng)[0],
    "affine": random_affine,
    "rand_augment": rand_augment,
    "plain affine": lambda x, rng: affine(x, [3] * 4, [[1, 0]] * 4, np.ones(4, int), 2),
}


@settings(max_examples=60, deadline=None)
@given(
    change=st.sampled_from([*MOVES, *BLENDS]),
    holder=st.sampled_from(list(HOLDERS)),
    seed=st.integers(0, 99),
)
def test_the_container_of_the_images_does_not_matter(change, holder, seed):
    function = (MOVES | BLENDS)[change]
    want, found = (function(x, np.random.default_rng(seed)) for x in (X, HOLDERS[holder](X)))
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, want, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    change=st.sampled_from([*MOVES, *BLENDS]),
    kind=st.sampled_from(["u1", "i2", "i8", "?", "f2", "f4", "f8"]),
    seed=st.integers(0, 99),
)
def test_no_dtype_wraps_around(change, kind, seed):
    """Integers are moved unchanged, or refused if pixels are mixed; floats of every width give the
    same result."""
    function = (MOVES | BLENDS)[change]
    if change == "rand_augment" and kind == "f2":
        # posterize rounds down: a half may reach another step
        return
    x = X if kind.startswith("f") else np.rint(X * 255)
    x = x > 100 if kind == "?" else x.astype(kind)
    if change in BLENDS and not kind.startswith("f"):
        with pytest.raises(TypeError, match="takes float images, not"):
            function(x, np.random.default_rng(seed))
        return
    found, want = (function(a, np.random.default_rng(seed)) for a in (x, x.astype(np.float64)))
    assert found.dtype == x.dtype or change == "halved"
    np.testing.assert_allclose(
        found.astype(float), want, atol=5e-3 if kind == "f2" else 1e-4 if kind == "f4" else 0
    )


@pytest.mark.parametrize("change", [*MOVES, *BLENDS])
def test_masks_and_arrays_that_cannot_be_read_are_refused(change):
    function = (MOVES | BLENDS)[change]
    if change == "stacked":
        function = lambda x, rng: stacked_digits(x, range(4), 5, rng)  # noqa: E731
    for x, words in (
        (np.ma.masked_array(X, X > 0.5), "is a masked array"),
        (Elsewhere(X), "Implicit conversion"),
        (X.astype(complex), "complex128"),
        (X.astype(str), "<U"),
        (X.astype(object), "object"),
    ):
        with pytest.raises(TypeError, match=words):
            function(x, np.random.default_rng(0))


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_loader_gives_the_same_batches_for_every_container(holder):
    want = list(DataLoader(X, np.arange(4), batch_size=3).epoch(1))
    found = list(
        DataLoader(HOLDERS[holder](X), HOLDERS[holder](np.arange(4)), batch_size=np.int64(3)).epoch(
            np.int8(1)
        )
    )
    for a, b in zip(found, want, strict=True):
        assert type(a[0]) is np.ndarray
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_a_loader_refuses_masked_and_unreadable_arrays():
    for x, words in (
        (np.ma.masked_array(X, X > 0.5), "array 0 is a masked array"),
        (Elsewhere(X), "Implicit conversion"),
        ([[1, 2], [3]], "array 0 is .*its rows are not equally long"),
    ):
        with pytest.raises(TypeError, match=words):
            DataLoader(x, np.arange(len(X)), batch_size=2)


def test_a_transform_that_loses_samples_or_the_batch_is_refused():
    for transform, kind, words in (
        (lambda x, rng: x[1:], ValueError, "transform returned 1 samples for 2"),
        (lambda x, rng: None, TypeError, "transform returned None"),
    ):
        with pytest.raises(kind, match=words):
            list(DataLoader(X, np.arange(4), batch_size=2, transform=transform))
    for mix, kind, words in (
        (lambda x, y, rng: x, TypeError, "mix returned .* a tuple of two"),
        (lambda x, y, rng: (x, y[:1]), ValueError, "mix returned 1 samples for 2"),
    ):
        with pytest.raises(kind, match=words):
            list(DataLoader(X, np.arange(4), batch_size=2, mix=mix))


def test_epochs_read_by_several_threads_equal_those_of_one_thread():
    batches = {}
    a_loader = DataLoader(X, np.arange(4), batch_size=2, transform=random_affine)

    def read(epoch):
        batches[epoch] = [x.tobytes() for x, _ in a_loader.epoch(epoch)]

    threads = [threading.Thread(target=read, args=(epoch,)) for epoch in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert batches == {epoch: [x.tobytes() for x, _ in a_loader.epoch(epoch)] for epoch in range(6)}


@given(
    labels=st.lists(st.integers(-3, 9), min_size=1, max_size=6),
    classes=st.integers(1, 7),
    kind=st.sampled_from(["i1", "i4", "i8", "u1", "u8"]),
)
def test_class_numbers_out_of_range_are_refused_and_never_wrap_around(labels, classes, kind):
    labels = np.array(labels).astype(kind)
    if labels.min() < 0 or labels.max() >= classes:
        with pytest.raises(
            IndexError, match=f"one_hot: labels run from .*; {classes} classes are numbered from 0"
        ):
            one_hot(labels, np.int64(classes))
    else:
        assert (one_hot(labels, np.int64(classes)) == (labels[:, None] == np.arange(classes))).all()


# ── small files that would be expensive to read ──────────────────────────────────────────────────


def grown(call):
    """How many MiB Python and NumPy held at most during the call."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(">" + "I" * len(shape), *shape)


@pytest.fixture(scope="module")
def zeros():
    """A quarter of a gigabyte of zeros, gzipped: a megabyte."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        for _ in range(16):
            file.write(bytes(1 << 24))
    return buffer.getvalue()


def refused(kind, words, call):
    with pytest.raises(kind, match=words):
        call()


def test_a_gzip_stream_is_unpacked_no_further_than_its_header_says(zeros, tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(header(8, 2, 3)) + zeros)
    assert (
        grown(
            lambda: refused(
                ValueError, "too long: its header says .2, 3.", lambda: read_idx(tmp_path / "a.gz")
            )
        )
        < 20
    )


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (header(14, 1000, 400, 400), header(8, 1000), "expected uint8 with 3 axes, found float64"),
        (header(8, 1000, 1000, 1000), header(8, 7), "1000 images and .* holds 7 labels"),
        (header(8, 10**9), header(8, 10**9), "expected uint8 with 3 axes, found uint8 of shape"),
    ],
)
def test_a_folder_of_idx_files_is_refused_by_their_headers(zeros, images, labels, words, tmp_path):
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images) + zeros)
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels) + zeros)
    assert grown(lambda: refused(ValueError, words, lambda: idx_folder(tmp_path))) < 20


def test_a_cifar_file_of_a_terabyte_is_refused_by_its_length(tmp_path):
    for name in ("train.bin", "test.bin"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(3074 * 10**8)  # a hole: no block of the disk is used
    words = "100000000 rows, and no file of CIFAR has"
    assert grown(lambda: refused(ValueError, words, lambda: cifar_folder(tmp_path))) < 20


def test_the_pickles_and_the_tar_of_cifar_are_refused_unread(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(BOOM))
    (tmp_path / "cifar.tar.gz").write_bytes(b"")
    refused(ValueError, "pickles could run code", lambda: cifar_folder(tmp_path))
    refused(
        FileNotFoundError,
        "this is a file, not a folder; .* unpacked",
        lambda: cifar_folder(tmp_path / "cifar.tar.gz"),
    )
    assert not RAN


RAN = []


class Boom:
    def __reduce__(self):
        return RAN.append, (1,)


BOOM = Boom()


def npy(array=None, header_bytes=None, version=(1, 0), body=b""):
    buffer = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(buffer, array, version=version)
        return buffer.getvalue()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header_bytes))
    return b"\x93NUMPY" + bytes(version) + length + header_bytes + body


def hostile():
    """(name, bytes of an .npz member): none of them is a byte array of shape (4,), and each would
    be expensive or dangerous to load."""
    claim = "{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }\n"
    yield "a pickle in an array of objects", npy(np.array([BOOM], dtype=object))
    yield "a pickle", pickle.dumps(BOOM)
    yield (
        "a shape that is not expected",
        npy(header_bytes=(claim % 2**32).encode(), body=bytes(1 << 28)),
    )
    yield "a body that is too long", npy(header_bytes=(claim % 4).encode(), body=bytes(1 << 28))
    yield "a body that is too short", npy(header_bytes=(claim % 4).encode(), body=b"12")
    yield "a header of 256 MiB", npy(header_bytes=b" " * (1 << 28), version=(2, 0))
    yield "a header that nests", npy(header_bytes=b"(" * 9000)
    yield (
        "Fortran order",
        npy(header_bytes=claim.replace("False", "True").encode() % 4, body=bytes(4)),
    )


@pytest.mark.parametrize("name, member", hostile(), ids=[name for name, _ in hostile()])
def test_a_hostile_cache_runs_no_code_costs_no_memory_and_is_replaced(
    name, member, tmp_path, monkeypatch
):
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path))
    with zipfile.ZipFile(
        tmp_path / "some.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        archive.writestr("labels.npy", member)
    del member
    source = {"labels": np.arange(4, dtype=np.uint8)}
    found = {}
    assert grown(lambda: found.update(cached("some", lambda: source, {"labels": (4,)}))) < 30
    assert (found["labels"] == source["labels"]).all() and not RAN
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the new cache is whole
        again = cached("some", lambda: 1 / 0, {"labels": (4,)})
    assert (again["labels"] == source["labels"]).all()
    again["labels"][0] = 7  # and can be written to


def test_a_cache_that_is_a_folder_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path))
    (tmp_path / "some.npz").mkdir()
    with pytest.warns(RuntimeWarning, match="is no file"):
        cached("some", lambda: {"labels": np.zeros(4, np.uint8)}, {"labels": (4,)})
