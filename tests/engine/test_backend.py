"""One interface to NumPy and CuPy: devices, missing GPUs, transfers, timing, add_at."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings

import cupy_double
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinycv.engine import backend


@pytest.fixture
def broken(request):
    """A machine whose GPU cannot be used; the parameter says why."""
    cupy_double.install(request.param)
    backend.forget_probe()
    yield request.param
    cupy_double.uninstall()
    backend.forget_probe()


every_cause = pytest.mark.parametrize("broken", cupy_double.CAUSES, indirect=True)

# ── devices ────────────────────────────────────────────────────────────────────────────────────

CURES = {
    "package": 'pip install "cupy-cuda13x[ctk]"',
    "driver": "install the driver",
    "old_driver": 'pip install "cupy-cuda12x[ctk]"',
    "device": "CUDA_VISIBLE_DEVICES",
    "library": "libcublas",
}


def test_importing_the_engine_does_not_import_cupy():
    code = (
        "import sys, tinycv.engine.backend as b; b.array_module([1]); b.resolve('cpu'); "
        "assert 'cupy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_cause
def test_gpu_raises_with_cause_and_cure(broken):
    with pytest.raises(backend.GpuUnavailable) as caught:
        backend.resolve("gpu")
    assert caught.value.cause == broken
    assert CURES[broken] in str(caught.value)
    assert "\n" not in str(caught.value)


@every_cause
def test_auto_falls_back_to_the_cpu_with_one_warning_that_says_why(broken):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert backend.resolve("auto") == "cpu"
    assert len(said) == 1
    assert CURES[broken] in str(said[0].message)
    assert said[0].filename == __file__


@pytest.mark.parametrize("broken", ["library"], indirect=True)
def test_the_first_error_stays_chained(broken):
    with pytest.raises(backend.GpuUnavailable) as caught:
        backend.resolve("gpu")
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize("broken", ["old_driver"], indirect=True)
def test_a_driver_too_old_for_cuda_12_should_be_updated(broken, monkeypatch):
    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "driverGetVersion", lambda: 11080)
    with pytest.raises(backend.GpuUnavailable, match="install a newer driver"):
        backend.resolve("gpu")


def test_the_gpu_check_runs_once(double, monkeypatch):
    asked = []
    monkeypatch.setattr(double, "ones", lambda *a, ones=double.ones: asked.append(a) or ones(*a))
    for _ in range(3):
        backend.resolve("gpu")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("gpu", "gpu:0"),
        ("gpu:1", "gpu:1"),
        ("cuda", "gpu:0"),
        ("cuda:1", "gpu:1"),
        ("auto", "gpu:0"),
        ("cpu", "cpu"),
    ],
)
def test_device_synonyms_resolve_to_one_name(double, word, name):
    assert backend.resolve(word) == name


@pytest.mark.parametrize("word", ["tpu", "gpu:", "gpu:x", "GPU", "", "cuda:-1", None, 0])
def test_an_unknown_device_is_refused_with_the_choices(word):
    with pytest.raises(
        ValueError, match='resolve: device is .*; it must be "cpu", "gpu", "gpu:N" or "auto"'
    ) as caught:
        backend.resolve(word)
    assert repr(word) in str(caught.value)


def test_the_error_for_a_missing_gpu_lists_those_that_exist(double):
    with pytest.raises(backend.GpuUnavailable, match='"gpu:0", "gpu:1" and no "gpu:7"') as caught:
        backend.resolve("gpu:7")
    assert caught.value.cause == "device"


# ── the library and the device of an array; transfers ──────────────────────────────────────────


def test_arrays_know_their_module_and_device(device):
    x = backend.to_device(np.ones(3), device)
    assert backend.array_module(x) is backend.module_for(device)
    assert backend.device_of(x) == device


@pytest.mark.parametrize("value", [1, 2.0, [1, 2], np.float32(3), np.ma.ones(2), None], ids=repr)
def test_everything_but_a_cupy_array_belongs_to_numpy(double, value):
    assert backend.array_module(value) is np
    assert backend.device_of(value) == "cpu"


def test_a_round_trip_changes_nothing(device):
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    back = backend.to_numpy(backend.to_device(x, device))
    assert type(back) is np.ndarray
    assert back.dtype == x.dtype
    assert (back == x).all()


def test_an_array_already_on_the_device_is_not_copied(device):
    x = backend.to_device(np.ones(3), device)
    assert backend.to_device(x, device) is x
    x = np.ones(3)
    assert backend.to_numpy(x) is backend.to_device(x, "cpu") is x


def test_an_array_moves_between_gpus(double):
    x = backend.to_device(np.ones(3), "gpu:1")
    assert backend.device_of(x) == "gpu:1"
    assert backend.device_of(backend.to_device(x, "gpu:0")) == "gpu:0"
    assert backend.device_of(backend.to_device(x, "cpu")) == "cpu"


# ── timing ─────────────────────────────────────────────────────────────────────────────────────


def test_a_stopwatch_measures_the_time_of_its_block(device):
    with backend.Stopwatch(device) as watch:
        time.sleep(0.02)
    assert 0.02 <= watch.seconds < 5
    assert 0.02 <= watch.host_seconds <= watch.seconds + 0.01


def test_a_stopwatch_waits_for_the_gpu_before_and_after(double):
    backend.resolve("gpu")  # the probe waits too
    with cupy_double.counting() as waits:
        watch = backend.Stopwatch("gpu").__enter__()
    assert waits.count == 1
    with cupy_double.counting() as waits:
        watch.__exit__(None, None, None)
    assert waits.count == 1


def test_synchronize_waits_only_for_a_gpu(double):
    with cupy_double.counting() as waits:
        backend.synchronize("cpu")
        backend.synchronize()
    assert waits.count == 0
    backend.resolve("gpu")  # the probe waits too
    with cupy_double.counting() as waits:
        backend.synchronize("gpu")
    assert waits.count == 1


# ── add_at ─────────────────────────────────────────────────────────────────────────────────────


def add_at(device, target, index, value):
    xp = backend.module_for(device)
    target, value = (backend.to_device(part, device) for part in (target, value))
    index = backend.to_device(index, device) if isinstance(index, np.ndarray) else index
    backend.add_at(xp, target, index, value)
    return backend.to_numpy(target)


@pytest.mark.parametrize(
    "rows", [[0, 2, 2, -1], [], [[1, 1], [3, -4]]], ids=["repeats", "none", "2-D"]
)
def test_add_at_counts_repeated_rows(device, rows):
    rows = np.array(rows, dtype=np.int64)
    value = np.random.default_rng(0).standard_normal((*rows.shape, 3)).astype(np.float32)
    expected = np.ones((4, 3), np.float32)
    np.add.at(expected, rows, value)
    assert np.allclose(
        add_at(device, np.ones((4, 3), np.float32), rows, value), expected, atol=1e-6
    )


@given(
    st.integers(1, 5),
    st.integers(0, 20),
    st.sampled_from(["int8", "uint8", "int32", "int64"]),
    st.data(),
)
def test_the_fast_path_of_add_at_equals_numpys_add_at(count, width, kind, data):
    low = 0 if kind == "uint8" else -count
    rows = np.array(data.draw(st.lists(st.integers(low, count - 1), max_size=30)), dtype=kind)
    value = np.random.default_rng(0).standard_normal((len(rows), width))
    got, expected = np.ones((count, width)), np.ones((count, width))
    np.add.at(expected, rows, value)
    backend.add_at(np, got, rows, value)
    assert (got == expected).all()


def test_add_at_broadcasts_a_value_over_the_rows():
    target = np.zeros((3, 2, 2))
    backend.add_at(np, target, np.array([1, 1]), np.array([1.0, 2.0]))
    assert target[1].tolist() == [[2, 4], [2, 4]]


def test_add_at_works_on_a_target_that_is_not_contiguous():
    base = np.zeros((3, 4))
    backend.add_at(np, base[:, ::2], np.array([0, 0]), 1.0)
    assert base[0].tolist() == [2, 0, 2, 0]


def test_add_at_counts_repeated_columns(device):
    index = slice(None), backend.to_device(np.array([0, 0, 1]), device)
    assert add_at(device, np.zeros((2, 3)), index, np.ones((1, 3))).tolist() == [[2, 1, 0]] * 2


@pytest.mark.parametrize("row", [3, -4])
def test_a_row_out_of_range_raises_an_error_and_adds_nothing(row):
    target = np.zeros((3, 2))
    with pytest.raises(IndexError, match="out of range: there are 3 rows"):
        backend.add_at(np, target, np.array([0, row]), 1.0)
    assert (target == 0).all()


@pytest.mark.parametrize("dtype, bound", [(np.float32, 3e-7), (np.float64, 3e-16)])
def test_log1p_keeps_the_digits_of_small_numbers_and_is_silent(dtype, bound):
    x = np.concatenate([[0.0, 1.0], np.geomspace(1e-37, 1, 20_001)]).astype(dtype)
    true = np.log1p(x.astype(np.longdouble))
    with np.errstate(all="raise", under="ignore"):
        assert (np.abs(backend.log1p(np, x) - true) <= bound * true).all()
    assert backend.log1p(np, np.float32(0.5)) == pytest.approx(np.log(1.5))
