"""The doctor prints facts in ASCII, and its advice is something to measure."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import cupy_double
import numpy as np
import pytest
import threadpoolctl

from tinycv.engine import backend, blas
from tinycv.show import doctor

AVX512 = ["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"]
HASWELL = {
    "library": "openblas",
    "version": "0.3",
    "kernel": "Haswell",
    "threads": 2,
    "source": "threadpoolctl",
}


def test_the_command_prints_ascii_and_names_the_versions():
    command = [sys.executable, "-m", "tinycv.show.doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.isascii()
    assert f"NumPy       {np.__version__}" in done.stdout
    assert "BLAS kernel " in done.stdout
    assert f"Python      {platform.python_version()}" in done.stdout


def test_the_report_survives_json():
    facts = doctor.report()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cpu"]["cores"] >= 1


@pytest.mark.parametrize("cause", cupy_double.CAUSES)
def test_an_unusable_gpu_is_printed_with_its_cause_and_cure(cause):
    cupy_double.install(cause)
    backend.forget_probe()
    try:
        facts = doctor.report()
        text = "\n".join(doctor._lines(facts))
    finally:
        cupy_double.uninstall()
        backend.forget_probe()
    assert facts["device"] == "cpu"
    assert facts["gpu"]["cause"] == cause
    assert f"{cause}: " in text


def test_a_usable_gpu_is_named(double):
    facts = doctor.report()
    assert facts["device"] == "gpu:0"
    assert facts["gpu"]["names"] == ["strict double of a GPU"] * 2
    assert facts["versions"]["CuPy"] == "14.2.0"


def test_numpy_names_a_blas_that_threadpoolctl_does_not_know(monkeypatch):
    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    facts = doctor.report()
    assert facts["blas"]["source"] == "numpy.show_config"
    assert (
        facts["blas"]["library"]
        == np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    )
    assert facts["blas"]["kernel"] == "unknown"


def test_an_older_kernel_on_a_cpu_with_avx512_is_a_lead_to_measure(monkeypatch):
    monkeypatch.setattr(
        blas, "STATUS", "left to OpenBLAS"
    )  # whatever the status is on this machine
    [lead] = doctor._leads(HASWELL, AVX512)
    assert "OPENBLAS_CORETYPE=SKYLAKEX" in lead
    assert "before Python starts" in lead
    assert "measure" in lead
    assert "import tinycv" not in lead


def test_numpy_imported_before_tinycv_is_reported_with_the_cure(monkeypatch):
    monkeypatch.setattr(
        blas, "STATUS", f"{blas.LATE} for COOPERLAKE: NumPy was imported before tinycv"
    )
    [lead] = doctor._leads(HASWELL, AVX512)
    assert "import tinycv before numpy, or set OPENBLAS_CORETYPE=" in lead


@pytest.mark.parametrize(
    ("blas", "flags"),
    [
        (HASWELL, AVX512[:-1]),
        (HASWELL, []),
        (HASWELL | {"kernel": "SkylakeX"}, AVX512),
        (HASWELL | {"library": "mkl"}, AVX512),
        (HASWELL | {"kernel": "neoversen1"}, []),
    ],
    ids=["one instruction set short", "no flags", "kernel fits", "no OpenBLAS", "ARM"],
)
def test_a_kernel_that_is_in_use_or_cannot_run_is_not_suggested(blas, flags):
    assert doctor._leads(blas, flags) == []


def test_a_machine_without_cpuinfo_still_reports(monkeypatch):
    monkeypatch.setattr(blas, "processor", dict)
    facts = doctor.report()
    assert facts["cpu"]["model"]
    assert not any("CORETYPE" in lead for lead in facts["leads"])


def test_tinycv_run_from_its_source_says_so(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert doctor.report()["versions"]["tinycv"] == "not installed, run from its source"


# ── the name ─────────────────────────────────────────────────────────────────────────────────────

ROOT = Path(__file__).parent.parent.parent
OF_INDEX = re.compile(
    r"""(pip3? +install|uv +(pip +install|add|tool +install)|conda +install|poetry +add)"""
    r"""[^\n;|&`]*?[ \t"'\\=]tinycv(\[|["'\s`.,;)<>=~!]|$)"""
)


def hints(text):
    return [found[0] for found in OF_INDEX.finditer(text)]


def test_no_file_recommends_installing_the_tinycv_of_the_public_index():
    # written in two parts, so that the search does not find this file
    name = "tiny" + "cv"
    assert all(
        map(
            hints,
            (
                f"pip install '{name}[gpu]'",
                f"pip install -U {name}",
                f'pip install \\"{name}[a]',
                f"uv add {name}",
            ),
        )
    )
    assert not any(
        map(
            hints,
            (
                'pip install -e ".[gpu]" && python -m tinycv.show.doctor',
                "pip install mlxtend\ntinycv",
            ),
        )
    )
    kinds = [
        ".py",
        ".md",
        ".toml",
        ".json",
        ".cfg",
        ".cff",
        ".yml",
        ".yaml",
        ".txt",
        ".sh",
        ".ipynb",
    ]
    files = [
        path
        for path in ROOT.rglob("*")
        if (path.suffix in kinds or not path.suffix)
        and path.is_file()
        and not {".git", "venv", ".venv"} & set(path.relative_to(ROOT).parts)
    ]
    assert len(files) > 200
    wrong = [
        f"{path}: {hint}"
        for path in files
        for hint in hints(path.read_bytes().decode("utf-8", "replace"))
    ]
    assert not wrong, wrong


def test_the_doctor_looks_up_the_name_of_the_distribution_in_setup_py():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert re.search(r'name="([^"]*)"', setup)[1] == doctor.DISTRIBUTION != "tinycv"


def test_the_version_of_somebody_elses_tinycv_is_not_reported_as_ours(monkeypatch):
    def version(name):
        if name == doctor.DISTRIBUTION:
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor.report()["versions"]["tinycv"] == "not installed, run from its source"
