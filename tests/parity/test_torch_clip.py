"""The contrastive loss of CLIP equals PyTorch's, with every gradient, and so does a training."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as TF
from twin import DTYPES, agree, equal

from tinycv import Tensor, nn
from tinycv.nn.contrastive import contrastive_loss, normalize
from tinycv.optim import SGD

RNG = np.random.default_rng(0)
U, V, SCALE = RNG.normal(size=(7, 5)), RNG.normal(size=(7, 5)), np.array(1.3)
GROUPS = np.array([0, 1, 0, 2, 3, 1, 0])


def torch_loss(u, v, log_scale, groups=None):
    """CLIP's loss as its figure 3 describes it; groups: shares of the target."""
    logits = log_scale.exp() * TF.normalize(u) @ TF.normalize(v).T
    if groups is None:
        target = torch.arange(len(u))
    else:
        same = (torch.tensor(groups)[:, None] == torch.tensor(groups)).to(u.dtype)
        target = same / same.sum(dim=1, keepdim=True)
    return (TF.cross_entropy(logits, target) + TF.cross_entropy(logits.T, target)) / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["pairs", "groups"])
def test_the_loss_and_its_gradients_are_pytorchs(dtype, groups):
    agree(
        lambda u, v, s: contrastive_loss(u, v, s, groups),
        lambda u, v, s: torch_loss(u, v, s, groups),
        [U, V, SCALE],
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_unit_vectors_are_pytorchs(dtype, axis):
    agree(lambda x: normalize(x, axis), lambda x: TF.normalize(x, dim=axis), [U], dtype)


def test_five_steps_of_training_two_projections_are_pytorchs():
    ours = [nn.Linear(5, 3).to("float64") for _ in range(2)]
    theirs = [torch.nn.Linear(5, 3).double() for _ in range(2)]
    for a, b in zip(ours, theirs, strict=True):
        b.load_state_dict({n: torch.tensor(t.numpy()) for n, t in a.state_dict().items()})
    optimizer = SGD([p for layer in ours for p in layer.parameters()], lr=0.3)
    reference = torch.optim.SGD([p for layer in theirs for p in layer.parameters()], lr=0.3)
    scale = torch.tensor(1.3, dtype=torch.float64)
    for _ in range(5):
        optimizer.zero_grad()
        reference.zero_grad()
        contrastive_loss(ours[0](Tensor(U)), ours[1](Tensor(V)), Tensor(SCALE)).backward()
        torch_loss(theirs[0](torch.tensor(U)), theirs[1](torch.tensor(V)), scale).backward()
        optimizer.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        equal(a.weight, b.weight)
        equal(a.bias, b.bias)
