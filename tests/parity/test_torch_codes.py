"""Gumbel-softmax and vector quantisation compared with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinycv import Tensor
from tinycv.nn import VectorQuantizer
from tinycv.nn import functional as F

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_gumbel_softmax_and_its_gradient(hard, axis, tau):
    """With PyTorch's own noise: it draws -log of exponential numbers."""
    logits, weight = RNG.normal(size=(2, 3, 4, 5))
    theirs = torch.tensor(logits, requires_grad=True)
    torch.manual_seed(3)
    noise = -torch.empty_like(theirs).exponential_().log()
    torch.manual_seed(3)
    expected = torch.nn.functional.gumbel_softmax(theirs, tau, hard, dim=axis)
    (expected * torch.tensor(weight)).sum().backward()
    ours = Tensor(logits, requires_grad=True)
    y = F.gumbel_softmax(ours, tau, hard, axis, noise.detach().numpy())
    (y * weight).sum().backward()
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-8, atol=1e-12)


def test_the_losses_of_a_codebook_and_their_gradients():
    layer = VectorQuantizer(6, 3, commitment=0.4).to("float64")
    layer.weight.data = RNG.normal(size=(6, 3))
    z, weight = RNG.normal(size=(2, 7, 3))
    their_z = torch.tensor(z, requires_grad=True)
    table = torch.tensor(layer.weight.numpy().copy(), requires_grad=True)
    codes = torch.cdist(their_z, table).argmin(dim=1)
    nearest = table[codes]
    mse = torch.nn.functional.mse_loss
    loss = mse(nearest, their_z.detach()) + 0.4 * mse(their_z, nearest.detach())
    q = their_z + (nearest - their_z).detach()
    (loss + (q * torch.tensor(weight)).sum()).backward()
    our_z = Tensor(z, requires_grad=True)
    our_q, our_codes, our_loss = layer(our_z)
    (our_loss + (our_q * weight).sum()).backward()
    np.testing.assert_array_equal(our_codes, codes.numpy())
    np.testing.assert_allclose(our_loss.numpy(), loss.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(our_z.grad.numpy(), their_z.grad.numpy(), rtol=1e-10)
    np.testing.assert_allclose(layer.weight.grad.numpy(), table.grad.numpy(), rtol=1e-10)
