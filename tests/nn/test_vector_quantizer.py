"""Vector quantisation: the nearest code, exact on the codebook's own vectors; straight-through
gradients; the two losses; dead codes come back."""

from __future__ import annotations

import numpy as np
import pytest

import tinycv
from tinycv import Tensor
from tinycv.nn.vector_quantizer import VectorQuantizer

RNG = np.random.default_rng(0)


def quantizer(codes=6, dim=3, **options):
    layer = VectorQuantizer(codes, dim, **options).to("float64")
    layer.weight.data = RNG.normal(size=(codes, dim))
    return layer


def test_the_vectors_of_the_codebook_are_their_own_codes_exactly():
    layer = quantizer(50, 4)
    order = RNG.permutation(50)
    q, codes, loss = layer(Tensor(layer.weight.numpy()[order]))
    np.testing.assert_array_equal(codes, order)
    np.testing.assert_array_equal(q.numpy(), layer.weight.numpy()[order])
    assert loss.numpy() == 0


def test_the_code_is_that_of_the_nearest_vector():
    layer, z = quantizer(), RNG.normal(size=(40, 3))
    distances = ((z[:, None] - layer.weight.numpy()) ** 2).sum(axis=2)
    np.testing.assert_array_equal(layer.codes_of(z), distances.argmin(axis=1))


def test_codes_keep_the_axes_of_their_vectors():
    q, codes, _ = quantizer()(RNG.normal(size=(2, 4, 5, 3)))
    assert codes.shape == (2, 4, 5) and q.shape == (2, 4, 5, 3)


def test_the_straight_through_gradient_is_the_identity():
    layer, z = quantizer(), Tensor(RNG.normal(size=(5, 3)), requires_grad=True)
    weight = RNG.normal(size=(5, 3))
    (layer(z)[0] * weight).sum().backward()
    np.testing.assert_array_equal(z.grad.numpy(), weight)
    assert layer.weight.grad is None


def test_the_codebook_loss_moves_codes_and_the_commitment_loss_vectors():
    layer, z = quantizer(commitment=0.5), Tensor(RNG.normal(size=(5, 3)), requires_grad=True)
    _, codes, loss = layer(z)
    loss.backward()
    difference = z.numpy() - layer.weight.numpy()[codes]
    np.testing.assert_allclose(z.grad.numpy(), 0.5 * 2 * difference / 15, rtol=1e-9)
    expected = np.zeros((6, 3))
    np.add.at(expected, codes, -2 * difference / 15)
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_without_commitment_the_loss_has_no_gradient_by_the_vectors():
    layer, z = quantizer(commitment=0), Tensor(RNG.normal(size=(5, 3)), requires_grad=True)
    layer(z)[2].backward()
    assert (z.grad.numpy() == 0).all()


def test_a_code_is_revived_only_after_as_many_idle_calls_as_patience_says():
    layer = quantizer()
    z = np.tile(layer.weight.numpy()[2], (4, 1))  # all choose code 2
    assert [layer.revive(z, patience=3) for _ in range(4)] == [0, 0, 5, 0]


def test_a_revived_code_is_a_vector_of_the_batch_and_used_codes_stay():
    layer, z = quantizer(), RNG.normal(size=(9, 3)) + 100
    before = layer.weight.numpy().copy()
    used = layer.codes_of(z)[0]
    layer.revive(z, patience=1)
    for code in range(6):
        row = layer.weight.numpy()[code]
        if code in layer.codes_of(before[None, used]) or (row == before[code]).all():
            assert code == used
        else:
            assert (row == z).all(axis=1).any()


def test_reviving_brings_dead_codes_into_use():
    """Vectors of eight clusters, and a codebook that starts far away from them: without the revival
    one code moves to their mean, and no other code is ever chosen."""
    centres = 5 * RNG.normal(size=(8, 2))
    z = centres[RNG.integers(0, 8, 400)] + 0.01 * RNG.normal(size=(400, 2))
    used = {}
    for revive in (False, True):
        tinycv.manual_seed(0)
        layer = VectorQuantizer(8, 2).to("float64")
        layer.weight.data = 100 + layer.weight.numpy()
        for _ in range(60):
            _, _, loss = layer(z)
            layer.weight.grad = None
            loss.backward()
            layer.weight.data = layer.weight.numpy() - layer.weight.grad.numpy()
            if revive:
                layer.revive(z, patience=5)
        used[revive] = len(np.unique(layer.codes_of(z)))
    assert used[True] >= 5 and used[False] == 1


def test_the_idle_counts_are_saved():
    layer = quantizer()
    layer.revive(RNG.normal(size=(1, 3)), patience=9)
    other = quantizer()
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other.idle.numpy(), layer.idle.numpy())
    assert layer.idle.numpy().sum() == 5


def test_the_layer_runs_on_each_device(device):
    layer = VectorQuantizer(5, 3).to(device)
    z = tinycv.randn(7, 3, device=device, requires_grad=True)
    q, codes, loss = layer(z)
    (q.sum() + loss).backward()
    layer.revive(z, patience=1)
    assert q.device == z.grad.device == layer.weight.grad.device == layer.weight.device
    assert layer.vectors_at(codes).device == layer.idle.device == z.device


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VectorQuantizer(0, 3), "VectorQuantizer: codes is 0; it must be a whole number"),
        (lambda: VectorQuantizer(4, 3, -1), "VectorQuantizer: commitment is -1; it must be"),
        (lambda: quantizer()(np.zeros((2, 4))), r"z has shape \(2, 4\); it must be \(..., 3\)"),
        (
            lambda: quantizer()(np.zeros((2, 3, 4, 5))),
            r"VectorQuantizer: z .*\(\.\.\., 3\), channels last: .* z.transpose\(\(0, 2, 3, 1\)\)$",
        ),
        (lambda: quantizer().codes_of(np.zeros((2, 3, 4))), r"transpose\(\(0, 2, 1\)\)$"),
        (lambda: quantizer()(np.zeros((2, 4, 5, 6))), r"it must be \(..., 3\)$"),
        (lambda: quantizer().revive(np.zeros((0, 3))), "z is .*; it holds no vector"),
        (lambda: quantizer().vectors_at([9]), "id 9 is out of range"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, IndexError), match=message):
        call()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_near_to_what_is_not_finite_and_it_becomes_no_code(value):
    layer, z = quantizer(), RNG.normal(size=(4, 3))
    z[2, 1] = value
    before = layer.weight.numpy().copy()
    with pytest.raises(ValueError, match=r"codes_of: z, or the codebook, holds NaN"):
        layer.codes_of(z)
    with pytest.raises(ValueError, match=r"revive: z holds NaN"):
        layer.revive(z, patience=1)
    np.testing.assert_array_equal(layer.weight.numpy(), before)


def test_the_nearest_vector_is_found_far_from_zero_too():
    layer = VectorQuantizer(50, 3)
    codebook = (1000 + RNG.normal(size=(50, 3))).astype(np.float32)
    layer.weight.data = codebook
    np.testing.assert_array_equal(layer.codes_of(codebook), np.arange(50))
