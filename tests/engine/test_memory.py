"""Freed memory is kept where the C library allows it, and the user's own word wins."""

import os
import subprocess
import sys

import pytest


def status(**settings: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "TINYCV_"))}
    code = "import tinycv.engine.memory as m; print(m.STATUS)"
    return subprocess.run([sys.executable, "-c", code], env={**environment, **settings}, capture_output=True, text=True,
                          check=True).stdout.strip()


def test_it_can_be_turned_off():
    assert status(TINYCV_KEEP_MEMORY="0") == "off (TINYCV_KEEP_MEMORY=0)"


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_users_own_malloc_settings_are_left_alone(name):
    assert status(**{name: "131072" if name.startswith("MALLOC") else ""}) == "left to the user's own malloc settings"


def test_it_says_what_it_did():
    said = status()
    assert ("kept and reused" in said) if sys.platform.startswith("linux") else ("not available" in said), said
