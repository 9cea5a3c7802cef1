"""L-BFGS compared with torch.optim.LBFGS: the same path without a line search, and the same minimum
for about as many evaluations with one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import randomised

from tinycv import Tensor, nn
from tinycv.nn.functional import mse_loss
from tinycv.optim import LBFGS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.sin(X @ RNG.normal(size=(3, 2)))


def both(dtype="float64"):
    """(our model, our function of a closure, PyTorch's model, its function of a closure)."""
    theirs = randomised(
        torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    ).to(getattr(torch, dtype))
    ours = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def minimised(steps, dtype="float64", unused=False, **options):
    """Both models after ``steps`` calls of step, and all losses that each closure computed."""
    ours, theirs = both(dtype)
    x, y = X.astype(dtype), Y.astype(dtype)
    mine, yours = [], []
    my_extra = [nn.Linear(2, 2).to(dtype).weight] if unused else []
    your_extra = [torch.nn.Linear(2, 2).to(getattr(torch, dtype)).weight] if unused else []
    my_optimizer = LBFGS([*ours.parameters(), *my_extra], **options)
    your_optimizer = torch.optim.LBFGS([*theirs.parameters(), *your_extra], **options)

    def my_closure():
        my_optimizer.zero_grad()
        loss = mse_loss(ours(Tensor(x)), Tensor(y))
        loss.backward()
        mine.append(loss.item())
        return loss

    def your_closure():
        your_optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        yours.append(loss.item())
        return loss

    for _ in range(steps):
        first, same_first = my_optimizer.step(my_closure), your_optimizer.step(your_closure)
        assert first.item() == pytest.approx(same_first.item(), rel=1e-4)
    return ours, theirs, mine, yours


OPTIONS = {
    "defaults": {"lr": 1.0},
    "short steps": {"lr": 0.3, "max_iter": 7},
    "a short history": {"lr": 0.5, "history_size": 3},
    "few evaluations": {"lr": 0.5, "max_iter": 10, "max_eval": 4},
    "one iteration": {"lr": 0.5, "max_iter": 1},
    "tolerances": {"lr": 0.5, "tolerance_grad": 1e-2, "tolerance_change": 1e-3},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_without_a_line_search_every_loss_and_every_weight_matches(name):
    ours, theirs, mine, yours = minimised(2, **OPTIONS[name])
    assert len(mine) == len(yours)
    np.testing.assert_allclose(mine, yours, rtol=1e-6)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-5, atol=1e-7)
    assert mine[-1] < 0.9 * mine[0]


def test_in_float32_the_first_iterations_match():
    _, _, mine, yours = minimised(1, "float32", lr=0.5, max_iter=8)
    np.testing.assert_allclose(mine, yours, rtol=1e-3)


def test_a_parameter_without_gradient_changes_nothing():
    _, _, mine, yours = minimised(2, unused=True, lr=0.5)
    np.testing.assert_allclose(mine, yours, rtol=1e-6)


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def quartic(p):
    return ((p - 1) ** 4).sum() + 0.5 * ((p.sum() - 2) ** 2)


@pytest.mark.parametrize("start", [[-1.2, 1.0], [3.0, -2.0], [0.1, 0.1]], ids=str)
@pytest.mark.parametrize("loss", [rosenbrock, quartic])
def test_with_a_line_search_the_minimum_is_the_same_for_about_as_many_evaluations(loss, start):
    options = {
        "max_iter": 200,
        "max_eval": 400,
        "tolerance_grad": 1e-8,
        "tolerance_change": 1e-16,
        "line_search_fn": "strong_wolfe",
    }
    p = nn.Parameter(np.array(start))
    q = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    counts = []
    for x, optimizer in ((p, LBFGS([p], **options)), (q, torch.optim.LBFGS([q], **options))):
        losses = []

        def closure(x=x, optimizer=optimizer, losses=losses):
            optimizer.zero_grad()
            value = loss(x)
            value.backward()
            losses.append(value.item())
            return value

        optimizer.step(closure)
        counts.append(len(losses))
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), atol=1e-3)
    assert loss(p).item() == pytest.approx(loss(q).item(), abs=1e-8)
    assert counts[0] <= 2 * counts[1] + 5, counts


def test_with_a_line_search_a_network_learns_as_much_for_as_many_evaluations():
    _, _, mine, yours = minimised(3, line_search_fn="strong_wolfe")
    count = min(len(mine), len(yours))
    assert min(mine[:count]) < 2 * min(yours[:count]) < 0.2 * yours[0]
