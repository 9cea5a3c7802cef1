"""NaN and infinity in images reach the same results as in the definitions; empty arrays; ids."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv import Tensor, nn
from tinycv.engine.fused import PAIRS
from tinycv.nn import functional as F

pytestmark = pytest.mark.filterwarnings(
    "ignore:invalid value", "ignore:divide by zero", "ignore:Mean of empty slice"
)
BAD = [np.nan, np.inf, -np.inf]
# Winograd; taps filled up with 0; groups; few channels out or in; few out without padding
WALKS = [
    ((32, 32), {}),
    ((3, 4), {"stride": (2, 3)}),
    ((16, 16), {"stride": 2, "groups": 2}),
    ((9, 1), {}),
    ((1, 9), {}),
    ((20, 2), {"padding": 0}),
]


def poisoned(rng, bad, *shape):
    a = rng.normal(size=shape).astype("f4")
    a[tuple(rng.integers(n) for n in shape)] = bad
    return a


def results(f, inputs, seed, bad, options):
    tensors = [Tensor(a, requires_grad=True) for a in inputs]
    y = f(*tensors, **options)
    rng = np.random.default_rng(seed)
    g = rng.normal(size=y.shape).astype("f4") if bad is None else poisoned(rng, bad, *y.shape)
    return [y.numpy(), *(t.numpy() for t in tinycv.grad(y, tensors, Tensor(g)))]


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("channels, options", WALKS)
@pytest.mark.parametrize("place", ["image", "gradient"])
def test_a_bad_pixel_spoils_the_same_results_as_in_the_definition(
    name, bad, channels, options, place
):
    rng, (c, o) = np.random.default_rng(0), channels
    options = {"padding": 1, **options}
    groups = options.get("groups", 1)
    weight = rng.normal(
        size=(o, c // groups, 3, 3) if name == "conv2d" else (c, o // groups, 3, 3)
    ).astype("f4")
    x = (
        poisoned(rng, bad, 2, c, 9, 10)
        if place == "image"
        else rng.normal(size=(2, c, 9, 10)).astype("f4")
    )
    to_y = bad if place == "gradient" else None
    got = results(PAIRS[name], (x, weight), 1, to_y, options)
    for a, b in zip(
        got, results(PAIRS[name].definition, (x, weight), 1, to_y, options), strict=True
    ):
        assert (np.isfinite(a) == np.isfinite(b)).all()
        np.testing.assert_allclose(
            np.where(np.isfinite(b), a, 0), np.where(np.isfinite(b), b, 0), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("half", ["kernel", "definition"])
@pytest.mark.parametrize("window, stride, padding", [(2, 2, 0), (3, 1, 1), (3, 2, 1)])
def test_a_nan_is_the_maximum_of_its_windows_and_alone_gets_their_gradient(
    half, window, stride, padding
):
    x = np.random.default_rng(0).permutation(49).reshape(1, 1, 7, 7).astype("f4")
    x[0, 0, 3, 3] = np.nan
    f = F.max_pool2d if half == "kernel" else F.max_pool2d.definition
    y, g = results(f, (x,), 1, None, {"kernel_size": window, "stride": stride, "padding": padding})
    assert np.isfinite(g).all() and g[0, 0, 3, 3] != 0 and np.isnan(y).any()


@pytest.mark.parametrize(
    "f, shapes",
    [
        (F.softmax, [(3, 0)]),
        (F.log_softmax, [(3, 0)]),
        (F.softmax, [(0, 3)]),
        (F.layer_norm, [(3, 0), (0,), (0,)]),
        (F.layer_norm, [(0, 3), (3,), (3,)]),
        (lambda x, w, b: F.group_norm(x, 2, w, b), [(2, 0, 3), (0,), (0,)]),
        (lambda x, w, b: F.group_norm(x, 2, w, b), [(2, 4, 0), (4,), (4,)]),
        (F.linear, [(2, 0), (3, 0), (3,)]),
    ],
)
def test_empty_arrays_give_empty_results_and_gradients_of_zero(device, f, shapes):
    tensors = [tinycv.ones(*s, device=device, requires_grad=True) for s in shapes]
    y = f(*tensors)
    y.sum().backward()
    assert y.shape[0] == shapes[0][0]
    assert all(
        t.grad.shape == t.shape
        and (t.grad.numpy() == (2 if t.shape == (3,) and f is F.linear else 0)).all()
        for t in tensors
    )


# ── Embedding and LayerNorm ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "ids",
    [
        True,
        None,
        1.0,
        slice(0, 2),
        [True, False],
        (0.0, 1.0),
        "word",
        {1},
        [None],
        [[1], [1, 2]],
        np.array([0.0, 1.0]),
        np.array([True] * 3),
        Tensor([True, False, True]),
        np.array([1j]),
    ],
)
def test_ids_that_are_not_integers_are_refused(ids):
    for call in (lambda: nn.Embedding(3, 2)(ids), lambda: F.embedding(ids, tinycv.ones(3, 2))):
        with pytest.raises(
            TypeError, match="embedding: ids is .*; it must be an array of integers"
        ):
            call()


@pytest.mark.parametrize(
    "ids", [2, (2, 0), [[2], [0]], range(3), [], np.uint8([2]), np.uint64([1]), Tensor([1])]
)
def test_ids_may_be_whole_numbers_in_any_container(ids):
    table = nn.Embedding(3, 2)
    plain = np.asarray(
        list(ids) if isinstance(ids, range) else ids.numpy() if isinstance(ids, Tensor) else ids
    ).astype(int)
    assert (table(ids).numpy() == table.weight.numpy()[plain]).all()


@pytest.mark.parametrize("padding", [0, 2, -1, np.int64(1)])
def test_the_padding_row_starts_at_0_and_gets_no_gradient(device, padding):
    table = nn.Embedding(3, 2, padding_idx=padding).to(device)
    y = table(np.array([0, 1, 2, 2]))
    g = np.arange(8, dtype="f4").reshape(4, 2) + 1
    g[np.array([0, 1, 2, 2]) == padding % 3] = np.nan
    y.backward(Tensor(g, device=device))
    grad, row = table.weight.grad.numpy(), padding % 3
    assert (
        (table.weight.numpy()[row] == 0).all()
        and (grad[row] == 0).all()
        and np.isfinite(grad).all()
    )
    assert (grad[[i for i in range(3) if i != row]] != 0).all()


def test_layer_norm_over_several_axes_equals_layer_norm_over_the_joined_axis(device):
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype("f4")
    several, one = nn.LayerNorm((4, 5)).to(device), nn.LayerNorm(20).to(device)
    assert several.weight.shape == several.bias.shape == (4, 5)
    expected = one(Tensor(x.reshape(2, 20), device=device)).numpy().reshape(x.shape)
    assert (several(Tensor(x, device=device)).numpy() == expected).all()
    with pytest.raises(
        ValueError, match=r"LayerNorm: x has shape \(2, 5, 4\); its last axes must be \(4, 5\)"
    ):
        several(tinycv.ones(2, 5, 4, device=device))
