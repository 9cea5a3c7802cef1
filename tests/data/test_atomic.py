"""Atomic writes never destroy a good file: what cannot be written is refused first, and links and
permissions are kept.
"""

import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycv.data import atomic
from tinycv.engine.tensor import Tensor
from tinycv.training.checkpoint import CheckpointError, load, save

GOOD = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and locks are POSIX's")


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "run", GOOD, {"step": 1})
    return tmp_path / "run"


def untouched(path):
    arrays, state = load(path)
    return (
        state == {"step": 1}
        and (arrays["weight"] == GOOD["weight"]).all()
        and list(path.parent.iterdir()) == [path]
    )


BAD_NAMES = [1, None, ("a",), b"a", "__metadata__", "\ud800"]
BAD_VALUES = [
    None,
    1.5,
    3,
    "word",
    [1.0, 2.0],
    (1,),
    {"a": 1},
    object(),
    np.array(["a"]),
    np.array([None]),
    np.ones(2, complex),
    np.array(["2020-01-01"], "datetime64[D]"),
    np.ma.masked_array([1.0], [True]),
    np.ones((1, 1)).view(np.matrix),
    np.ones(2, np.longdouble),
    np.zeros(2, [("a", "f4")]),
]
BAD_STATES = [
    [],
    [1],
    "word",
    3,
    0,
    False,
    {1: 2},
    {None: 1},
    {"a": {3: 4}},
    {"a": [{True: 1}]},
    {"a": {1, 2}},
    {"a": np.float32(1)},
    {"a": np.ones(2)},
    {"a": Tensor(1.0)},
    {"a": object()},
    {"a": 1j},
]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_state_that_cannot_be_saved_is_refused_before_any_file_changes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("a") / "run"
    save(path, GOOD, {"step": 1})
    tensors, state = dict(GOOD), {"step": 2}
    what = data.draw(st.sampled_from(["name", "value", "state", "tensors"]))
    if what == "name":
        tensors[data.draw(st.sampled_from(BAD_NAMES))] = np.ones(2)
    elif what == "value":
        tensors[data.draw(st.sampled_from(["weight", "other"]))] = data.draw(
            st.sampled_from(BAD_VALUES)
        )
    elif what == "state":
        state = data.draw(st.sampled_from(BAD_STATES))
    else:
        tensors = data.draw(st.sampled_from([None, [], [np.ones(2)], "word", np.ones(2), 3]))
    with pytest.raises((TypeError, ValueError), match="^save: ") as caught:
        save(path, tensors, state)
    assert "\n" not in str(caught.value) and untouched(path)


def test_a_state_that_holds_itself_or_is_too_deep_is_refused(path):
    loop = {}
    loop["loop"] = loop
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for state in (loop, {"deep": deep}):
        with pytest.raises((TypeError, ValueError), match="save: state cannot be written"):
            save(path, GOOD, state)
    assert untouched(path)


@pytest.mark.parametrize(
    "name", ["", "folder/", "new/.", ".", "..", "a/..", "a\0b", b"run", None, 3, ["run"]]
)
def test_a_path_that_names_no_file_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match="save: path is"):
        save(name, GOOD)
    with pytest.raises((TypeError, ValueError), match="load: path is"):
        load(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["a", "new/a"])
def test_a_path_below_a_file_is_refused_and_the_file_stays(below, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotADirectoryError, match=f"cannot be written, {file} is a file, not a"):
        save(file / below, GOOD)
    assert file.read_text() == "mine"


def test_a_folder_is_refused_and_stays(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for place in (tmp_path / "folder", tmp_path / "folder" / ".", str(tmp_path)):
        with pytest.raises(IsADirectoryError, match="folder"):
            save(place, GOOD)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "inner"]


def test_saving_leaves_the_partial_files_of_other_names_alone(path):
    others = [
        ".run.best.12345678.partial",
        ".run.12345678.0123abcd.partial",
        ".run.partial",
        ".run.1234567g.partial",
        ".run.1234567.partial",
        "run.12345678.partial",
        ".runs.12345678.partial",
    ]
    for name in (*others, ".run.0123abcd.partial"):
        (path.parent / name).write_bytes(b"half")
    (path.parent / ".run.aaaaaaaa.partial").mkdir()
    save(path, GOOD)
    assert {p.name for p in path.parent.iterdir()} == {"run", ".run.aaaaaaaa.partial", *others}


@posix
@pytest.mark.parametrize("letter", ["a", "ä", "字"])
@given(short=st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_a_name_may_be_as_long_as_the_file_system_allows(letter, short, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a")
    bytes_each = len(letter.encode())
    path = folder / (letter * ((255 - short) // bytes_each))
    # as long, and differs at its end
    sibling = path.with_name(path.name[:-1] + "b")
    begun = atomic._stem(sibling) + ".12345678.partial"
    abandoned = atomic._stem(path) + ".12345678.partial"
    for name in (begun, abandoned):
        (folder / name).write_bytes(b"half")
    for step in range(2):
        save(path, GOOD, {"step": step})
    assert load(path)[1] == {"step": 1}
    assert {p.name for p in folder.iterdir()} == {path.name, begun}


@posix
def test_a_hard_link_keeps_the_old_content(path):
    os.link(path, path.with_name("other"))
    save(path, GOOD, {"step": 2})
    assert load(path)[1] == {"step": 2} and load(path.with_name("other"))[1] == {"step": 1}


@posix
def test_a_link_is_written_through_and_stays_a_link(path, tmp_path):
    (tmp_path / "there").mkdir()
    link, chain, dangling = tmp_path / "link", tmp_path / "chain", tmp_path / "dangling"
    link.symlink_to("run")
    chain.symlink_to(link)
    dangling.symlink_to(tmp_path / "there" / "deeper" / "new")
    for i, place in enumerate((link, chain)):
        save(place, GOOD, {"step": i})
        assert place.is_symlink() and load(path)[1] == {"step": i} and not path.is_symlink()
    save(dangling, GOOD, {"step": 7})
    assert dangling.is_symlink() and load(tmp_path / "there" / "deeper" / "new")[1] == {"step": 7}


@posix
def test_a_link_to_itself_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    for name in ("a", "pipe"):
        with pytest.raises(OSError, match="cannot be written"):
            save(tmp_path / name, GOOD)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(tmp_path / name)
    assert (tmp_path / "a").is_symlink() and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o666])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_an_old_file_keeps_its_permissions_and_a_new_one_follows_the_umask(mode, umask, path):
    os.chmod(path, mode)
    before = os.umask(umask)
    try:
        save(path, GOOD, {"step": 2})
        save(path.with_name("new"), GOOD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode and load(path)[1] == {"step": 2}
    assert stat.S_IMODE(path.with_name("new").stat().st_mode) == 0o666 & ~umask


@posix
def test_the_partial_file_of_a_private_file_is_private(path, monkeypatch):
    os.chmod(path, 0o600)
    seen, replace = [], os.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda _: seen.extend(stat.S_IMODE(p.stat().st_mode) for p in path.parent.glob(".run.*")),
    )
    monkeypatch.setattr(os, "replace", replace)
    save(path, GOOD)
    assert seen == [0o600]


def test_a_protected_file_is_unchanged(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, how: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="protected"):
        save(path, GOOD, {"step": 2})
    monkeypatch.undo()
    assert untouched(path)


@pytest.mark.parametrize("refusing", ["open", "mkdir"])
def test_a_folder_without_write_permission_is_unchanged(refusing, path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, refusing, refuse)
    with pytest.raises(PermissionError):
        save(path if refusing == "open" else path.parent / "new" / "run", GOOD, {"step": 2})
    monkeypatch.undo()
    assert untouched(path)


@pytest.mark.parametrize("broken", ["write", "fsync", "replace", "chmod"])
def test_a_failing_disk_leaves_the_old_file_and_no_partial_file(broken, path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    if broken == "write":
        open_partial = atomic._open_partial

        class Full:
            def __init__(self, file):
                self.file = file

            write = refuse

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

        monkeypatch.setattr(
            atomic, "_open_partial", lambda *a: (lambda f, p: (Full(f), p))(*open_partial(*a))
        )
    else:
        monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(OSError, match="No space"):
        save(path, GOOD, {"step": 2})
    assert untouched(path)


WRITER = """
import sys
import numpy as np
from tinycv.training.checkpoint import save
for step in range(15):
    by = int(sys.argv[2])
    save(sys.argv[1], {"weight": np.full(20_000, by, np.float32)}, {"by": by})
"""


def test_two_processes_that_save_to_one_path_both_succeed(tmp_path):
    path = tmp_path / "run"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)], stderr=subprocess.PIPE)
        for i in range(2)
    ]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            arrays, state = load(path)
            assert (arrays["weight"] == state["by"]).all()
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_save_to_one_path_all_succeed(tmp_path):
    path, errors = tmp_path / "run", []

    def work(i):
        try:
            for _ in range(20):
                save(path, {"weight": np.full(1000, i, np.float32)}, {"by": i})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    arrays, state = load(path)
    assert (
        not errors
        and (arrays["weight"] == state["by"]).all()
        and list(tmp_path.iterdir()) == [path]
    )


@pytest.mark.parametrize(
    "name", ["x" * 300, "d/" * 3000 + "x", "\ud800"], ids=["name", "path", "surrogate"]
)
def test_a_path_that_no_file_can_have_is_refused(name):
    with pytest.raises(ValueError, match="save: path is .*; it must be a path"):
        atomic.file_path(name, "save: path")
