"""Layers, activations and losses compared with PyTorch, forward and backward, with weights loaded
by name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twin import DTYPES, agree, agree_as_layers, equal, twins

import tinycv
from tinycv import nn
from tinycv.nn import functional as F

TF = torch.nn.functional
RNG = np.random.default_rng(0)
X, SCORES, CUBE, WEIGHT = (
    RNG.normal(size=shape) for shape in ((5, 6), (7, 4), (2, 3, 6), (2, 3, 6))
)
CLASSES, SHARES = np.array([0, 3, 1, 1, 2, 0, 3]), RNG.dirichlet(np.ones(4), size=7)

pytestmark = pytest.mark.parametrize("dtype", DTYPES)

LAYERS = {
    "Linear": (lambda: nn.Linear(6, 4), lambda: torch.nn.Linear(6, 4), [CUBE]),
    "Linear without bias": (
        lambda: nn.Linear(6, 4, bias=False),
        lambda: torch.nn.Linear(6, 4, bias=False),
        [X],
    ),
    "Embedding": (
        lambda: nn.Embedding(9, 5),
        lambda: torch.nn.Embedding(9, 5),
        [np.array([[3, 0, 3], [8, 3, 1]])],
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6), lambda: torch.nn.LayerNorm(6), [CUBE]),
    "LayerNorm without bias": (
        lambda: nn.LayerNorm(6, bias=False),
        lambda: torch.nn.LayerNorm(6, bias=False),
        [X],
    ),
    "LayerNorm with a large eps": (
        lambda: nn.LayerNorm(6, eps=0.5),
        lambda: torch.nn.LayerNorm(6, eps=0.5),
        [X],
    ),
    "GELU": (nn.GELU, torch.nn.GELU, [3 * X]),
    "GELU by tanh": (lambda: nn.GELU("tanh"), lambda: torch.nn.GELU("tanh"), [3 * X]),
    "ReLU": (nn.ReLU, torch.nn.ReLU, [X]),
    "Tanh": (nn.Tanh, torch.nn.Tanh, [X]),
    "Sigmoid": (nn.Sigmoid, torch.nn.Sigmoid, [X]),
    "Softplus": (nn.Softplus, torch.nn.Softplus, [X]),
    "Softmax": (lambda: nn.Softmax(1), lambda: torch.nn.Softmax(1), [CUBE]),
    "Flatten": (nn.Flatten, torch.nn.Flatten, [CUBE]),
    "Identity": (nn.Identity, torch.nn.Identity, [X]),
    "Dropout of nothing": (lambda: nn.Dropout(0.0), lambda: torch.nn.Dropout(0.0), [X]),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 2)),
        lambda: torch.nn.Sequential(
            torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.LayerNorm(5), torch.nn.Linear(5, 2)
        ),
        [CUBE],
    ),
}
FUNCTIONS = {
    "softmax": (F.softmax, lambda x: TF.softmax(x, -1), [SCORES]),
    "softmax along another axis": (lambda x: F.softmax(x, 0), lambda x: TF.softmax(x, 0), [SCORES]),
    "softmax of large scores": (F.softmax, lambda x: TF.softmax(x, -1), [1e4 * SCORES]),
    "log_softmax": (F.log_softmax, lambda x: TF.log_softmax(x, -1), [SCORES]),
    "log_softmax along another axis": (
        lambda x: F.log_softmax(x, 1),
        lambda x: TF.log_softmax(x, 1),
        [CUBE],
    ),
    "log_softmax of large scores": (F.log_softmax, lambda x: TF.log_softmax(x, -1), [1e4 * SCORES]),
    "gelu": (F.gelu, TF.gelu, [np.linspace(-9, 9, 50)]),
    "gelu by tanh": (
        lambda x: F.gelu(x, "tanh"),
        lambda x: TF.gelu(x, approximate="tanh"),
        [np.linspace(-9, 9, 50)],
    ),
    "layer_norm without weight": (F.layer_norm, lambda x: TF.layer_norm(x, (6,)), [CUBE]),
    "linear": (F.linear, TF.linear, [X, RNG.normal(size=(4, 6)), RNG.normal(size=4)]),
    "embedding": (F.embedding, TF.embedding, [np.array([2, 2, 0]), SCORES]),
}
REDUCTIONS = ["mean", "sum", "none"]
OPTIONS = [
    {"reduction": r, "label_smoothing": s, "ignore_index": i}
    for r, s, i in itertools.product(REDUCTIONS, [0.0, 0.1], [-100, 1])
]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_the_weights_of_pytorch_has_its_value_and_gradients(name, dtype):
    ours, theirs, inputs = LAYERS[name]
    agree_as_layers(ours(), theirs(), inputs, dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradients_match_pytorch(name, dtype):
    agree(*FUNCTIONS[name], dtype)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_cross_entropy_with_class_indices_matches_pytorch(options, dtype):
    agree(
        lambda x, t: F.cross_entropy(x, t, **options),
        lambda x, t: TF.cross_entropy(x, t, **options),
        [SCORES, CLASSES],
        dtype,
    )


@pytest.mark.parametrize(
    "options",
    [o for o in OPTIONS if o["ignore_index"] == -100],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_cross_entropy_with_probabilities_and_both_gradients_match_pytorch(options, dtype):
    agree(
        lambda x, t: F.cross_entropy(x, t, **options),
        lambda x, t: TF.cross_entropy(x, t, **options),
        [SCORES, SHARES],
        dtype,
    )


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_the_mean_over_no_rows_is_nan_with_zero_gradients_as_in_pytorch(dtype):
    (a, b), target = twins(SCORES, dtype), np.ones(7, int)
    y, z = (
        F.cross_entropy(a, target, ignore_index=1),
        TF.cross_entropy(b, torch.tensor(target), ignore_index=1),
    )
    equal(y, z)
    y.backward()
    z.backward()
    assert np.isnan(y.item()) and (a.grad.numpy() == 0).all()
    assert (b.grad == 0).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["classes", "shares"])
def test_cross_entropy_with_class_weights_matches_pytorch(reduction, smoothing, kind, dtype):
    weight = np.array([0.5, 2.0, 0.0, 1.25])
    options = {"reduction": reduction, "label_smoothing": smoothing}
    given, theirs = weight.astype(dtype), torch.tensor(weight, dtype=getattr(torch, dtype))
    if kind == "classes":
        for ignored in (-100, 1):
            agree(
                lambda x, t, i=ignored: F.cross_entropy(x, t, given, i, **options),
                lambda x, t, i=ignored: TF.cross_entropy(x, t, theirs, ignore_index=i, **options),
                [SCORES, CLASSES],
                dtype,
            )
    else:
        agree(
            lambda x, t: F.cross_entropy(x, t, weight=given, **options),
            lambda x, t: TF.cross_entropy(x, t, weight=theirs, **options),
            [SCORES, SHARES],
            dtype,
        )
    layer = nn.CrossEntropyLoss(given, reduction=reduction, label_smoothing=smoothing)
    equal(
        layer(tinycv.Tensor(SCORES.astype(dtype)), CLASSES),
        torch.nn.CrossEntropyLoss(theirs, reduction=reduction, label_smoothing=smoothing)(
            torch.tensor(SCORES.astype(dtype)), torch.tensor(CLASSES)
        ),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_squared_error_and_both_gradients_match_pytorch(reduction, dtype):
    agree(
        lambda x, y: F.mse_loss(x, y, reduction),
        lambda x, y: TF.mse_loss(x, y, reduction=reduction),
        [SCORES, SHARES],
        dtype,
    )


@pytest.mark.parametrize(
    "name", ["softmax", "log_softmax", "gelu", "gelu by tanh", "layer_norm without weight"]
)
def test_the_second_derivative_matches_pytorch(name, dtype):
    ours, theirs, _ = FUNCTIONS[name]
    (a, b), weight = twins(CUBE, dtype), WEIGHT.astype(dtype)
    (g,) = tinycv.grad(((ours(a) * weight) ** 2).sum(), a, create_graph=True)
    (h,) = torch.autograd.grad(
        ((theirs(b) * torch.tensor(weight)) ** 2).sum(), b, create_graph=True
    )
    equal(g, h)
    equal(*tinycv.grad((g**3).sum(), a), *torch.autograd.grad((h**3).sum(), b))


@pytest.mark.parametrize("sizes", [(300, 400), (7, 900)], ids=str)
def test_initial_weights_of_linear_fill_the_same_range_as_in_pytorch(sizes, dtype):
    ours, theirs = nn.Linear(*sizes).to(dtype), torch.nn.Linear(*sizes, dtype=getattr(torch, dtype))
    for name in ("weight", "bias"):
        a, b = (np.abs(getattr(m, name).detach().numpy()).max() for m in (ours, theirs))
        assert a <= sizes[0] ** -0.5 * (1 + 1e-6)
        assert a == pytest.approx(b, rel=0.1)  # the largest of 400 draws or more
