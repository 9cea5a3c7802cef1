"""Twenty steps of every optimiser compared with PyTorch, from the same weights, on the same
batches."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, equal, randomised

from tinycv import Tensor, nn, optim
from tinycv.nn.functional import mse_loss

RNG = np.random.default_rng(0)
BATCHES = RNG.normal(size=(20, 8, 3))
TARGETS = np.sin(BATCHES @ RNG.normal(size=(3, 8)))

OPTIMISERS = {
    "SGD": ("SGD", {"lr": 0.05}),
    "SGD momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "SGD dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    "SGD nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "SGD weight decay": ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    "SGD all": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "Adam": ("Adam", {"lr": 0.01}),
    "Adam as if nothing were given": ("Adam", {}),
    "Adam weight decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "Adam betas, eps": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    "AdamW": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "AdamW as if nothing were given": ("AdamW", {}),
}

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


def both_models(dtype):
    theirs = randomised(
        torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 8))
    )
    theirs = theirs.to(getattr(torch, dtype))
    ours = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 8)).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def backward(ours, theirs, i, dtype):
    """Forward and backward of one batch in both models; returns both losses."""
    x, y = BATCHES[i].astype(dtype), TARGETS[i].astype(dtype)
    ours.zero_grad()
    theirs.zero_grad()
    losses = (
        mse_loss(ours(Tensor(x)), Tensor(y)),
        torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y)),
    )
    for loss in losses:
        loss.backward()
    return losses


def train(
    ours, theirs, name, dtype, between=lambda step: None, parts=lambda model: model.parameters()
):
    kind, options = OPTIMISERS[name]
    mine = getattr(optim, kind)(parts(ours), **options)
    yours = getattr(torch.optim, kind)(parts(theirs), **options)
    for i in range(len(BATCHES)):
        backward(ours, theirs, i, dtype)
        between(i)
        mine.step()
        yours.step()


def all_equal(ours, theirs):
    mine = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        equal(mine[name], p, name)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_twenty_steps_of_an_optimiser_match_pytorch(name, dtype):
    ours, theirs = both_models(dtype)
    start = ours[0].weight.numpy().copy()
    train(ours, theirs, name, dtype)
    all_equal(ours, theirs)
    assert not np.allclose(ours[0].weight.numpy(), start, rtol=1e-3)


@pytest.mark.parametrize("name", ["SGD all", "Adam", "AdamW"])
def test_a_parameter_without_gradient_stays_and_has_its_own_step_count(name, dtype):
    ours, theirs = both_models(dtype)

    # in every third step, the first layer has no gradient
    def forget(step):
        if step % 3 == 0:
            for model in (ours, theirs):
                for p in model[0].parameters():
                    p.grad = None

    train(ours, theirs, name, dtype, between=forget)
    all_equal(ours, theirs)


def test_options_of_parameter_groups_match_pytorch(dtype):
    ours, theirs = both_models(dtype)
    train(
        ours,
        theirs,
        "AdamW",
        dtype,
        parts=lambda model: [
            {"params": [model[0].weight, model[2].weight], "weight_decay": 0.3, "lr": 0.03},
            {"params": [model[0].bias, model[2].bias], "weight_decay": 0.0},
        ],
    )
    all_equal(ours, theirs)


@pytest.mark.parametrize("longest", [0.01, 1e6])
def test_clipped_gradients_and_the_norm_before_clipping_match_pytorch(longest, dtype):
    ours, theirs = both_models(dtype)
    losses = backward(ours, theirs, 0, dtype)
    equal(*losses)
    before = optim.clip_grad_norm_(ours.parameters(), longest)
    equal(before, torch.nn.utils.clip_grad_norm_(theirs.parameters(), longest))
    mine = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        equal(mine[name].grad, p.grad, name)
