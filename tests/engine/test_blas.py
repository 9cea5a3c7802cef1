"""The OpenBLAS kernel is chosen by the processor's flags, never one that it does not support; the
user's settings take precedence."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tinycv.engine import blas

ZEN3 = "fpu sse2 lm fma avx avx2 vaes"
SKYLAKE = f"{ZEN3} avx512f avx512dq avx512cd avx512bw avx512vl"
ZEN4 = f"{SKYLAKE} avx512ifma avx512_vnni avx512_bf16"


def cpuinfo(vendor: str, family: int, flags: str) -> str:
    """A /proc/cpuinfo with two processors, the second without flags: only the first is read."""
    one = "processor\t: {}\nvendor_id\t: " + f"{vendor}\ncpu family\t: {family}\nflags\t\t: "
    return one.format(0) + flags + "\nbugs\t\t: a: b\n\n" + one.format(1) + "\n\n"


TEXTS = {
    "Zen 3": (cpuinfo("AuthenticAMD", 25, ZEN3), None),
    "Zen 4": (cpuinfo("AuthenticAMD", 25, ZEN4), "COOPERLAKE"),
    "Zen 5": (cpuinfo("AuthenticAMD", 26, ZEN4 + " avx_vnni avx512_vp2intersect"), "COOPERLAKE"),
    "no bfloat16": (cpuinfo("AuthenticAMD", 26, SKYLAKE), "SKYLAKEX"),
    "one of five gone": (cpuinfo("AuthenticAMD", 26, ZEN4.replace("avx512vl", "")), None),
    "Skylake-X": (cpuinfo("GenuineIntel", 6, SKYLAKE), None),
    "Sapphire Rapids": (cpuinfo("GenuineIntel", 6, ZEN4 + " amx_bf16 amx_tile"), None),
    "ARM": ("processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\n", None),
    "nonsense": ("nothing of use", None),
}


@pytest.fixture
def alone(monkeypatch):
    """As in a process without NumPy and without settings; changes are undone after the test."""
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.delenv("TINYCV_BLAS_KERNEL", raising=False)
    # so that monkeypatch restores the variable, whatever the test sets
    monkeypatch.setenv(blas.VARIABLE, "")
    del os.environ[blas.VARIABLE]
    return monkeypatch


def reads(monkeypatch, text: str) -> None:
    monkeypatch.setattr(
        Path, "read_text", lambda path, **_: text if str(path) == "/proc/cpuinfo" else 1 / 0
    )


@pytest.mark.parametrize("name", TEXTS)
def test_the_kernel_fits_the_processor(alone, name):
    text, kernel = TEXTS[name]
    reads(alone, text)
    assert blas.choose() == (f"{kernel} asked for" if kernel else "left to OpenBLAS")
    assert os.environ.get(blas.VARIABLE) == kernel


def test_openblas_chooses_if_the_processor_cannot_be_read(alone):
    def refuse(path, **_):
        raise PermissionError(path)

    alone.setattr(Path, "read_text", refuse)
    assert blas.choose() == "left to OpenBLAS" and blas.VARIABLE not in os.environ


def test_the_users_kernel_setting_takes_precedence_and_is_kept(alone):
    reads(alone, TEXTS["Zen 5"][0])
    alone.setenv(blas.VARIABLE, "HASWELL")
    alone.setattr(blas, "STATUS", blas.choose())
    blas.clear()
    assert blas.STATUS == "left to the user's own OPENBLAS_CORETYPE=HASWELL"
    assert os.environ[blas.VARIABLE] == "HASWELL"


def test_the_setting_is_removed_for_other_programs(alone):
    reads(alone, TEXTS["Zen 5"][0])
    alone.setattr(blas, "STATUS", blas.choose())
    assert os.environ[blas.VARIABLE] == "COOPERLAKE"
    blas.clear()
    assert blas.VARIABLE not in os.environ


def test_it_can_be_turned_off(alone):
    reads(alone, TEXTS["Zen 5"][0])
    alone.setenv("TINYCV_BLAS_KERNEL", "0")
    assert blas.choose() == "off (TINYCV_BLAS_KERNEL=0)" and blas.VARIABLE not in os.environ


def test_nothing_is_set_if_numpy_is_already_imported(alone):
    reads(alone, TEXTS["Zen 4"][0])
    alone.setitem(sys.modules, "numpy", sys)
    assert blas.choose() == "too late for COOPERLAKE: NumPy was imported before tinycv"
    assert blas.VARIABLE not in os.environ


# ── whole processes ──────────────────────────────────────────────────────────────────────────────


def process(code: str, **settings: str) -> str:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_CORETYPE", "TINYCV_"))
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


# Simulates a Zen 5. When NumPy is imported, it prints the kernel that was chosen, and loads another
# one instead, which every x86_64 can run.
ZEN5 = f"""
import os, pathlib, sys
pathlib.Path.read_text = lambda path, **_: {TEXTS["Zen 5"][0]!r}
def hook(event, arguments):
    if event == "import" and arguments[0] == "numpy" and "numpy" not in seen:
        seen.add("numpy"), print(os.environ.get("OPENBLAS_CORETYPE"))
        if "OPENBLAS_CORETYPE" in os.environ: os.environ["OPENBLAS_CORETYPE"] = "NEHALEM"
seen = set(); sys.addaudithook(hook)
"""
USED = """
import os, threadpoolctl
print(threadpoolctl.threadpool_info()[0].get("architecture"), os.environ.get("OPENBLAS_CORETYPE"))
"""


def obeys() -> bool:
    """Does the BLAS of this NumPy respond to the variable at all?"""
    return platform.machine() == "x86_64" and "Nehalem" in process(
        "import numpy" + USED, OPENBLAS_CORETYPE="NEHALEM"
    )


@pytest.mark.skipif(not obeys(), reason="this NumPy's BLAS knows no OPENBLAS_CORETYPE")
def test_numpy_loads_the_kernel_that_was_chosen_only_if_tinycv_comes_first():
    assert process(ZEN5 + "import tinycv" + USED).split() == ["COOPERLAKE", "Nehalem", "None"]
    own = process("import numpy" + USED).split()
    assert process(ZEN5 + "import numpy, tinycv" + USED).split() == ["None", *own]


def test_nothing_changes_if_there_is_no_kernel_to_choose():
    text = "import pathlib; pathlib.Path.read_text = lambda path, **_: ''\n"
    assert process(text + "import tinycv" + USED) == process("import numpy" + USED)


def test_blas_does_not_import_numpy_and_tinycv_does_not_import_threadpoolctl():
    alone = f"import runpy, sys; runpy.run_path({blas.__file__!r}); print('numpy' in sys.modules)"
    assert process(alone) == "False"
    assert process("import tinycv, sys; print('threadpoolctl' in sys.modules)") == "False"
