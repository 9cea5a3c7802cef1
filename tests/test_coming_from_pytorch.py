"""The page "Coming from PyTorch": its column of tinycv runs, and what it says of silent differences
holds. (tests/parity/test_torch_columns.py runs the column of PyTorch and compares.)"""

import contextlib
import io
import re

import columns
import numpy as np
import pytest

import tinycv
from tinycv import nn, optim


@pytest.fixture
def typed():
    w = tinycv.tensor([1.0, 2.0], requires_grad=True)
    (w**2).sum().backward()
    functions = {"tinycv": tinycv, "nn": nn, "optim": optim, "F": nn.functional, "w": w}
    return {**columns.given(tinycv.Tensor), **functions}


def test_there_are_about_twenty_differences():
    assert len(columns.rows("columns")) + len(columns.rows("silent")) == 26


@pytest.mark.parametrize("subject, _, line", columns.rows("columns") + columns.rows("silent"))
def test_the_line_of_tinycv_runs(subject, _, line, typed):
    assert np.isfinite(np.asarray(tinycv.Tensor(eval(line, typed)).numpy(), float)).all(), subject


@pytest.mark.parametrize("subject, torch_line, line", columns.rows("silent"))
def test_a_silent_difference_raises_no_error_and_gives_another_result(
    subject, torch_line, line, typed
):
    expected, found = eval(line, typed).numpy(), eval(torch_line, typed).numpy()
    assert found.shape != expected.shape or not np.allclose(found, expected), subject


def test_the_program_prints_the_loss_of_the_page():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(columns.programs()[1], {})
    (shown,) = re.findall(r"Both print `([\d.]+)`", columns.PAGE.read_text(encoding="utf-8"))
    assert abs(float(printed.getvalue()) - float(shown)) < 2e-3
