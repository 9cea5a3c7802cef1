"""Windows, macOS and a Linux without glibc, simulated: a new Python loses what these systems lack,
then imports every file of the package and runs the guarded code. (The tests themselves run on Linux
only: tests/README.md, "Other systems".)"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinycv.data import atomic

PACKAGE = Path(__file__).parent.parent / "tinycv"
WITHOUT = """
import builtins, ctypes, os, pathlib, select, signal, sys
# imported first, because they look at the system too
import asyncio, multiprocessing, platform, shutil, socket, subprocess, sysconfig, tempfile
import matplotlib.font_manager, numpy, safetensors.numpy, threadpoolctl

sysconfig.get_paths()
sys.modules["cupy"] = None

def without(module, *names):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

opened = pathlib.Path.read_text

def without_proc(path, *arguments, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return opened(path, *arguments, **options)

pathlib.Path.read_text = without_proc
"""
WINDOWS = """
without(os, "fork", "register_at_fork", "sched_getaffinity", "memfd_create", "MFD_CLOEXEC")
without(os, "waitstatus_to_exitcode", "getuid", "uname")
without(select, "poll", "epoll")
without(signal, "SIGKILL", "SIGALRM", "SIGUSR1")
sys.modules["fcntl"] = sys.modules["resource"] = None  # importing them is an ImportError
sys.platform = "win32"
open_file = os.open

def open_no_folder(path, *arguments, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return open_file(path, *arguments, **options)

os.open = open_no_folder
"""
MACOS = """
without(os, "sched_getaffinity", "memfd_create", "MFD_CLOEXEC")
without(select, "epoll")
sys.platform = "darwin"
"""
MUSL = """
real = ctypes.CDLL
ctypes.CDLL = lambda name, *rest, **more: object() if name is None else real(name, *rest, **more)
"""
# Every file of the package, and what a user does first
USE = """
import importlib, pkgutil, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="tinycv")
import tinycv
for found in pkgutil.walk_packages(tinycv.__path__, "tinycv."):
    importlib.import_module(found.name)
from tinycv import nn
from tinycv.optim import SGD
from tinycv.show import doctor
from tinycv.show.demo import Demo
from tinycv.training import parallel
from tinycv.training.checkpoint import load, save

def trained(group=None):
    tinycv.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    x = tinycv.randn(8, 3)
    for _ in range(3):
        optimizer.zero_grad()
        if group is None:
            loss = (model(x) ** 2).mean()
            loss.backward()
        else:
            group.backward(lambda part: (model(part) ** 2).mean(), x)
        optimizer.step()
    return model.weight.numpy()

alone = trained()
with parallel.threads(2) as group:
    assert numpy.allclose(trained(group), alone, atol=1e-6)
try:
    with parallel.processes(2) as group:
        assert numpy.allclose(trained(group), alone, atol=1e-6)
    print("processes: the same weights")
except RuntimeError as error:
    print(error)
for step in range(2):  # a new file, then one that exists
    save("run.safetensors", {"weight": alone}, {"step": step})
arrays, state = load("run.safetensors")
assert state == {"step": 1} and (arrays["weight"] == alone).all()
doctor.main()
demo = Demo("01_name", "01 \\u00b7 a story", ["--quick"])
demo.measured("figure", 1.5)
print("peak", demo.finish()["peak_memory_mib"])
print("files", sorted(os.listdir()))
"""


ASK_THE_DOCTOR = """
import tinycv
from tinycv.show import doctor
doctor.main()
"""


def run_on(system: str, folder: Path, use: str = USE) -> str:
    """What ``use`` prints on a console that shows only the letters of cp1252."""
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "TINYCV_CACHE": str(folder / "cache")}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    for name in [name for name in environment if name.startswith(("MALLOC_", "TINYCV_KEEP"))]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", WITHOUT + system + use],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="cp1252",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(folder.glob("*.partial"))
    return done.stdout


def test_on_windows_threads_train_and_processes_are_refused_in_a_sentence(tmp_path):
    said = run_on(WINDOWS, tmp_path)
    assert "processes: this system cannot fork a process" in said and "parallel.threads()" in said
    assert "memory      not available on win32" in said
    assert "peak memory unknown" in said and "peak None" in said
    assert "files ['out', 'run.safetensors']" in said


def test_on_macos_processes_share_a_temporary_file_without_a_name(tmp_path):
    said = run_on(MACOS, tmp_path)
    assert "processes: the same weights" in said
    assert "memory      not available on darwin" in said and "CPU         " in said
    assert "files ['out', 'run.safetensors']" in said


def test_a_c_library_without_mallopt_is_left_as_it_is(tmp_path):
    said = run_on(MUSL, tmp_path, ASK_THE_DOCTOR)
    assert "memory      not available: this C library has no mallopt" in said


# ── atomic writes where the system is less helpful ────────────────────────────────────────────────


@pytest.fixture
def path(tmp_path):
    atomic.write(tmp_path / "run", b"old")
    return tmp_path / "run"


def test_without_locks_a_file_is_replaced_and_leftovers_are_removed(path, monkeypatch):
    monkeypatch.setattr(atomic, "fcntl", None)
    (path.parent / ".run.01234567.partial").write_bytes(b"left by a killed process")
    atomic.write(path, b"new")
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


def test_a_file_that_another_program_has_open_stays_as_it_was(path, monkeypatch):
    def in_use(*_):
        raise PermissionError(errno.EACCES, "The process cannot access the file")  # WinError 32

    monkeypatch.setattr(atomic, "fcntl", None)
    monkeypatch.setattr(atomic.os, "replace", in_use)
    with pytest.raises(PermissionError, match="cannot access the file"):
        atomic.write(path, b"new")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synced_does_not_stop_a_write(number, path, monkeypatch):
    sync_after(monkeypatch, number)
    atomic.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_disk_that_fails_while_a_folder_is_synced_is_reported(path, monkeypatch):
    sync_after(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="failed"):
        atomic.write(path, b"new")


def sync_after(monkeypatch, number):
    """fsync of a file works, fsync of a folder fails with this error."""
    real = os.fsync

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, "failed")
        real(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", fsync)


def test_the_package_names_an_encoding_wherever_it_reads_or_writes_text():
    """On Windows the default is not UTF-8."""
    bare = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if ".read_text()" in line or (".write_text(" in line and "encoding" not in line)
    ]
    assert not bare
