"""Freed memory is kept where the C library allows it, and the user's own word wins."""

import os
import subprocess
import sys

import pytest


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


def status(**settings: str) -> str:
    return run("import tinycv.engine.memory as m; print(m.STATUS)", **settings)


def test_it_can_be_turned_off():
    assert status(TINYCV_KEEP_MEMORY="0") == "off (TINYCV_KEEP_MEMORY=0)"


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_users_own_malloc_settings_are_left_alone(name):
    assert (
        status(**{name: "131072" if name.startswith("MALLOC") else ""})
        == "left to the user's own malloc settings"
    )


def test_it_says_what_it_did():
    said = status()
    assert (
        ("kept and reused" in said)
        if sys.platform.startswith("linux")
        else ("not available" in said)
    ), said


FAULTS = """
import resource, threading, tinycv, numpy as np
def faults():
    np.empty({size} << 18, "float32").fill(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty({size} << 18, "float32").fill(1)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
worker = threading.Thread(target=faults)
worker.start(); worker.join(); faults()
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or "kept" not in status(), reason="only glibc keeps memory"
)
@pytest.mark.parametrize("size", [4, 100], ids="{} MiB".format)
def test_a_temporary_takes_no_new_pages_from_the_kernel_in_no_thread(size):
    """100 MiB is more than one of glibc's heaps for threads holds. Small pages, so that each fresh
    one is counted."""
    pages = size * 256
    kept = [float(n) for n in run(FAULTS.format(size=size), NUMPY_MADVISE_HUGEPAGE="0").split()]
    assert all(n < pages / 100 for n in kept), (kept, pages)
    if size == 100:
        fresh = [
            float(n)
            for n in run(
                FAULTS.format(size=size), NUMPY_MADVISE_HUGEPAGE="0", TINYCV_KEEP_MEMORY="0"
            ).split()
        ]
        assert all(n > pages / 10 for n in fresh), (
            "without the setting pages are fresh: the count can tell"
        )
