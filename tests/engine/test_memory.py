"""Freed memory is kept if the C library allows it; the user's settings take precedence."""

import os
import subprocess
import sys

import pytest

from tinycv.engine import memory


def run(code: str, **settings: str) -> str:
    environment = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "TINYCV_"))
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


FAULTS = """
import resource, threading, tinycv, numpy as np
from tinycv.engine.memory import STATUS
def faults(size, times):
    np.empty(size << 18, "float32").fill(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.empty(size << 18, "float32").fill(1)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times)
print(STATUS)
for size, times in ((4, 20), (100, 5)):
    worker = threading.Thread(target=faults, args=(size, times))
    worker.start(); worker.join(); faults(size, times)
"""
LINUX = sys.platform.startswith("linux")


def faults(**settings: str) -> tuple[str, dict[int, list[float]]]:
    """(the status, {size of a temporary array in MiB: how many new pages it takes from the kernel,
    in a second thread and in the main thread}). Small pages, so that each new one is counted."""
    said, *pages = run(FAULTS, NUMPY_MADVISE_HUGEPAGE="0", **settings).splitlines()
    numbers = [float(n) for n in pages]
    return said, {4: numbers[:2], 100: numbers[2:]}


@pytest.fixture(scope="module")
def kept():
    return faults()


@pytest.fixture(scope="module")
def turned_off():
    return faults(TINYCV_KEEP_MEMORY="0")


def test_it_can_be_turned_off(turned_off):
    assert turned_off[0] == "off (TINYCV_KEEP_MEMORY=0)"


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_users_own_malloc_settings_are_left_alone(name):
    # Only this file is imported, because all of tinycv would take longer.
    code = f"import runpy; print(runpy.run_path({memory.__file__!r})['STATUS'])"
    value = "131072" if name.startswith("MALLOC") else ""
    assert run(code, **{name: value}) == "left to the user's own malloc settings"


def test_the_status_says_what_was_done(kept):
    assert ("kept and reused" if LINUX else "not available") in kept[0]


@pytest.mark.parametrize("size", [4, 100], ids="{} MiB".format)
def test_a_temporary_array_takes_no_new_pages_from_the_kernel_in_any_thread(size, kept, turned_off):
    """100 MiB is more than one of glibc's heaps for threads can hold."""
    if not LINUX or "kept" not in kept[0]:
        pytest.skip("only glibc keeps memory")
    pages, taken = size * 256, kept[1][size]
    assert all(n < pages / 100 for n in taken), (taken, pages)
    if size == 100:
        fresh = turned_off[1][size]
        assert all(n > pages / 10 for n in fresh), (
            "without the setting pages are fresh: the count can tell"
        )
