"""The page "Coming from PyTorch": both columns give the same, and the idioms are of PyTorch."""

import contextlib
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import columns
from torch_idioms import IDIOMS, names

import tinycv
from tinycv import nn, optim

ROWS = columns.rows("columns") + columns.rows("silent")


def results_of(line: str, module, layers, optimisers, make) -> np.ndarray:
    w = make(np.array([1.0, 2.0], np.float32))
    w.requires_grad = True
    (w**2).sum().backward()
    modules = {module.__name__: module, "nn": layers, "optim": optimisers, "F": layers.functional}
    found = eval(line, {**columns.given(make), **modules, "w": w})
    return np.asarray(found.detach().numpy() if hasattr(found, "detach") else found)


@pytest.mark.parametrize("subject, left, right", ROWS)
def test_both_columns_give_the_same(subject, left, right):
    expected = results_of(left, torch, torch.nn, torch.optim, torch.from_numpy)
    found = results_of(right, tinycv, nn, optim, tinycv.Tensor)
    assert found.shape == expected.shape, subject
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=subject)


def test_both_trainings_end_with_the_same_loss():
    losses = []
    for program in columns.programs():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, {})
        losses.append(float(printed.getvalue()))
    assert abs(losses[0] - losses[1]) < 2e-3


@pytest.mark.parametrize("line", IDIOMS)
def test_an_idiom_is_one_of_pytorch(line, tmp_path, capsys):
    array = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)
    typed = names(torch, tmp_path / "model.pt", array)
    torch.save(typed["model"].state_dict(), typed["path"])
    eval(line, typed)
