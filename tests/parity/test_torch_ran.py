"""The parity tests really ran, with the printed version of PyTorch, and notice differences."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, equal

from tinycv import Tensor


def test_pytorch_was_imported_and_computed_a_gradient(capsys):
    x = torch.tensor([3.0], requires_grad=True)
    (x**2).sum().backward()
    with capsys.disabled():
        print(f"\nparity against PyTorch {torch.__version__}, {torch.__file__}")
    assert x.grad.item() == 6.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_value_is_noticed(dtype):
    x = np.array([1.0, -4.0], dtype)
    with pytest.raises(AssertionError, match="apart"):
        equal(Tensor(x * (1 + (4e-5 if dtype == "float32" else 4e-10))), torch.tensor(x))


@pytest.mark.parametrize(
    "wrong", [np.ones(3), np.ones((2, 1)), np.ones(2, np.float32), np.array([1.0, np.nan])]
)
def test_a_wrong_shape_or_dtype_or_a_nan_is_noticed(wrong):
    with pytest.raises(AssertionError):
        equal(Tensor(wrong), torch.ones(2, dtype=torch.float64))


def test_a_wrong_gradient_with_a_correct_value_is_noticed():
    with pytest.raises(AssertionError, match="gradient of input 0"):
        agree(lambda x: x * 2 + x.detach(), lambda x: x * 3, [np.ones(2)], "float64")
