"""PyTorch tensors as arguments of tinycv: accepted if NumPy can read them, otherwise refused with a
clear error."""

import numpy as np
import pytest

import tinycv
from tinycv.data import (
    DataLoader,
    mixup,
    one_hot,
    rand_augment,
    random_affine,
    random_crop,
    random_flip,
)
from tinycv.vision import ViT, accuracy

torch = pytest.importorskip("torch")

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CHANGES = [
    random_flip,
    random_affine,
    rand_augment,
    lambda x, rng: random_crop(x, rng, 5),
    lambda x, rng: mixup(x, torch.eye(4), rng)[0],
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_pytorch_tensor_is_converted_like_its_array(change):
    found = change(X, np.random.default_rng(0))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, change(X.numpy(), np.random.default_rng(0)))


def test_loaders_models_and_losses_accept_pytorch_tensors():
    x, y = next(iter(DataLoader(X, torch.arange(4), batch_size=4, shuffle=False)))
    assert (x == X.numpy()).all() and y.tolist() == [0, 1, 2, 3] and type(x) is np.ndarray
    assert (one_hot(torch.tensor([1, 0]), 2) == [[0, 1], [1, 0]]).all()
    model = ViT(8, 4, 4, dim=8, depth=1, heads=2).eval()
    np.testing.assert_array_equal(model(X).numpy(), model(X.numpy()).numpy())
    assert accuracy(model, X, torch.arange(4)) == accuracy(model, X.numpy(), np.arange(4))


@pytest.mark.parametrize(
    "x, words",
    [
        (X.clone().requires_grad_(), "requires grad"),
        (X.bfloat16(), "BFloat16"),
        (X.to_sparse(), "sparse|layout"),
        (X.to("meta"), "meta"),
    ],
)
def test_a_tensor_that_numpy_cannot_read_is_refused_with_a_clear_error(x, words):
    for name, call in (
        ("random_flip: x", lambda: random_flip(x, np.random.default_rng(0))),
        ("DataLoader: array 0", lambda: DataLoader(x, batch_size=2)),
        ("ViT: images", lambda: ViT(8, 4, 4, dim=8, depth=1, heads=2)(x)),
    ):
        with pytest.raises(TypeError, match=f"(?s){name} is .*({words})"):
            call()


@pytest.mark.parametrize("index", [[0, 0], [True, False], [[1], [0]]], ids=str)
def test_a_pytorch_tensor_works_as_an_index_like_an_array(index):
    values = np.array([1.0, 2.0])
    x = tinycv.tensor(values)
    assert (x[torch.tensor(index)].numpy() == values[np.array(index)]).all()
    assert (x[None][:, torch.tensor(index)].numpy() == values[None][:, np.array(index)]).all()
    x[torch.tensor(index)] = 5.0
    values[np.array(index)] = 5.0
    assert (x.numpy() == values).all()
