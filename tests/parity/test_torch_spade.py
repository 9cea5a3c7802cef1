"""SPADE's norm equals the two lines of PyTorch that the paper's equation 1 becomes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F

import tinycv
from tinycv.adversarial.spade import SPADE, label_planes


def test_spade_equals_pytorch_forward_and_backward():
    tinycv.manual_seed(0)
    rng = np.random.default_rng(0)
    layer = SPADE(3, 4, hidden=5)
    h = tinycv.tensor(rng.normal(size=(2, 3, 8, 8)).astype(np.float32), requires_grad=True)
    m = label_planes(rng.integers(0, 4, (2, 16, 16)), 4)
    g = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    y = layer(h, m)
    (y * g).sum().backward()

    p = {name: torch.tensor(t.numpy()) for name, t in layer.state_dict().items()}
    x = torch.tensor(h.numpy(), requires_grad=True)
    small = F.interpolate(torch.tensor(m.numpy()), size=(8, 8), mode="nearest")
    features = F.relu(F.conv2d(small, p["shared.weight"], p["shared.bias"], padding=1))
    gamma, beta = F.conv2d(features, p["gamma_beta.weight"], p["gamma_beta.bias"]).chunk(2, dim=1)
    expected = F.batch_norm(x, None, None, training=True) * (1 + gamma) + beta
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert h.grad is not None and x.grad is not None
    np.testing.assert_allclose(h.grad.numpy(), x.grad.numpy(), rtol=1e-3, atol=1e-5)
