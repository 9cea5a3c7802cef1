"""The doctor tells facts, in ASCII, and words its advice as something to measure."""
from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys

import cupy_double
import numpy as np
import pytest
import threadpoolctl

from tinycv import doctor
from tinycv.engine import backend, blas

AVX512 = ["avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"]
HASWELL = {"library": "openblas", "version": "0.3", "kernel": "Haswell", "threads": 2,
           "source": "threadpoolctl"}


def test_the_command_prints_ascii_and_names_the_versions():
    command = [sys.executable, "-m", "tinycv.doctor"]
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


def test_of_a_blas_that_threadpoolctl_does_not_know_numpy_tells_the_name(monkeypatch):
    monkeypatch.setattr(threadpoolctl, "threadpool_info", list)
    facts = doctor.report()
    assert facts["blas"]["source"] == "numpy.show_config"
    assert facts["blas"]["library"] == np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert facts["blas"]["kernel"] == "unknown"


def test_an_older_kernel_on_a_cpu_with_avx512_is_a_lead_to_measure(monkeypatch):
    monkeypatch.setattr(blas, "STATUS", "left to OpenBLAS")     # whatever this machine's is
    [lead] = doctor._leads(HASWELL, AVX512)
    assert "OPENBLAS_CORETYPE=SKYLAKEX" in lead
    assert "before Python starts" in lead
    assert "measure" in lead
    assert "import tinycv" not in lead


def test_numpy_imported_before_tinycv_is_told_with_the_cure(monkeypatch):
    monkeypatch.setattr(blas, "STATUS", f"{blas.LATE} for COOPERLAKE: NumPy was imported before tinycv")
    [lead] = doctor._leads(HASWELL, AVX512)
    assert "import tinycv before numpy, or set OPENBLAS_CORETYPE=" in lead


@pytest.mark.parametrize(("blas", "flags"), [
    (HASWELL, AVX512[:-1]), (HASWELL, []), (HASWELL | {"kernel": "SkylakeX"}, AVX512),
    (HASWELL | {"library": "mkl"}, AVX512), (HASWELL | {"kernel": "neoversen1"}, [])],
    ids=["one instruction set short", "no flags", "kernel fits", "no OpenBLAS", "ARM"])
def test_no_kernel_is_suggested_that_is_in_use_or_cannot_run(blas, flags):
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
