import warnings
from pathlib import Path

import numpy as np
import pytest

from tinycv.data.disk_cache import cache_folder, cached

SHAPES = {"images": (50, 4), "labels": (50,)}


def source():
    rng = np.random.default_rng(0)
    return {key: rng.integers(0, 256, shape, np.uint8) for key, shape in SHAPES.items()}


def never():
    raise AssertionError("the source was read although the cache was whole")


def assert_is_source(arrays):
    assert arrays.keys() == SHAPES.keys()
    assert all((arrays[key] == array).all() for key, array in source().items())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path / "made" / "when needed"))
    return tmp_path / "made" / "when needed"


def test_the_source_is_read_once(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_source(cached("some", source, SHAPES))
        assert_is_source(cached("some", never, SHAPES))


def test_writing_leaves_one_file(folder):
    cached("some", source, SHAPES)
    assert [path.name for path in folder.iterdir()] == ["some.npz"]


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    return content[:100] + bytes([content[100] ^ 255]) + content[101:]


@pytest.mark.parametrize(
    "damage", [cut, flip, lambda content: b"", lambda content: b"not a zip at all"]
)
def test_a_damaged_cache_is_reported_and_replaced(folder, damage):
    cached("some", source, SHAPES)
    path = folder / "some.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="could not be read and is made again"):
        assert_is_source(cached("some", source, SHAPES))
    assert_is_source(cached("some", never, SHAPES))


def test_a_cache_of_other_shapes_is_not_used(folder):
    cached("some", lambda: {key: array[:9] for key, array in source().items()}, SHAPES)
    with pytest.warns(RuntimeWarning, match=r"\(9, 4\).*expected.*\(50, 4\)"):
        assert_is_source(cached("some", source, SHAPES))


def test_a_cache_of_another_dtype_is_not_used(folder):
    cached("some", source, SHAPES)
    with pytest.warns(RuntimeWarning, match="uint8.*expected.*float32"):
        arrays = cached(
            "some", lambda: {k: a.astype("f4") for k, a in source().items()}, SHAPES, "float32"
        )
    assert_is_source(arrays)
    assert_is_source(cached("some", never, SHAPES, "float32"))


def test_a_cache_that_cannot_be_written_is_reported_and_the_data_are_returned(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TINYCV_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="could not be cached.*set TINYCV_CACHE"):
        assert_is_source(cached("some", source, SHAPES))


def test_a_failed_write_leaves_the_old_cache_and_no_partial_file(folder, monkeypatch):
    cached("some", source, SHAPES)
    before = (folder / "some.npz").read_bytes()

    def disk_full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", disk_full)
    with pytest.warns(RuntimeWarning):
        cached("some", source, {"images": (1, 1)})
    assert [path.read_bytes() for path in folder.iterdir()] == [before]


def test_the_cache_folder_is_tinycv_cache_then_xdg_then_home(monkeypatch):
    monkeypatch.setenv("TINYCV_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("TINYCV_CACHE")
    assert cache_folder() == Path("/xdg/tinycv")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path("/home/me/.cache/tinycv")
