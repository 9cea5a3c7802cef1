"""Basic layers: what each computes, which arguments it refuses, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor, nn
from tinycv.nn import functional as F


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ── Linear ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (2, 4, 5, 3), (0, 3)])
def test_linear_is_a_product_with_the_transposed_weight_plus_the_bias(device, shape):
    layer, x = nn.Linear(3, 4).to(device), draw(*shape)
    expected = x @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(
        layer(Tensor(x, device=device)).numpy(), expected, rtol=1e-5, atol=1e-6
    )


def test_linear_without_bias_maps_zero_to_zero(device):
    layer = nn.Linear(3, 4, bias=False).to(device)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert (layer(tinycv.zeros(2, 3, device=device)).numpy() == 0).all()


def test_linear_names_both_shapes_when_features_do_not_match(device):
    with pytest.raises(ValueError, match=r"linear.*\(2, 5\).*5 features.*\(4, 3\)"):
        nn.Linear(3, 4).to(device)(tinycv.ones(2, 5, device=device))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 5, 3)])
def test_linear_is_certified(shape, bias):
    certify_layer(nn.Linear(3, 4, bias), draw(*shape))


# ── Embedding ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ids", [np.array(2), np.array([1, 0]), np.array([[4, 4, 0], [1, 2, 3]])])
def test_embedding_looks_up_rows_for_ids_of_any_shape(device, ids):
    table = nn.Embedding(5, 3).to(device)
    assert (table(ids).numpy() == table.weight.numpy()[ids]).all()
    assert (table(Tensor(ids, device=device)).numpy() == table.weight.numpy()[ids]).all()


@pytest.mark.parametrize("bad", [5, -1])
def test_embedding_names_the_id_that_is_out_of_range(bad):
    with pytest.raises(IndexError, match=rf"id {bad} is out of range: the table has 5 rows"):
        nn.Embedding(5, 3)(np.array([0, bad]))


def test_an_id_that_repeats_gets_the_sum_of_its_gradients(device):
    table = nn.Embedding(4, 2).to(device)
    weight = np.array([[1.0, 10], [2, 20], [3, 30]], np.float32)
    (table(np.array([1, 3, 1])) * Tensor(weight, device=device)).sum().backward()
    assert table.weight.grad.numpy().tolist() == [[0, 0], [4, 40], [0, 0], [2, 20]]


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_on_a_gpu_an_id_out_of_range_is_nan_and_gets_no_gradient_nor_does_another_row(
    double, dtype
):
    table = nn.Embedding(3, 2).to("gpu")
    ids = np.array([[1, 3], [2, 200 if dtype == "uint8" else -1]], dtype)
    y = table(tinycv.Tensor(ids, device="gpu"))
    assert np.isnan(y.numpy()).all(axis=-1).tolist() == [[False, True], [False, True]]
    y.sum().backward()
    assert table.weight.grad.numpy().tolist() == [[0, 0], [1, 1], [1, 1]]


def test_embedding_is_certified():
    certify_layer(nn.Embedding(4, 2), np.array([[1, 3, 1], [0, 0, 2]]))


# ── LayerNorm ────────────────────────────────────────────────────────────────────────────────────


def test_layer_norm_gives_every_row_mean_0_and_variance_1(device):
    y = nn.LayerNorm(64).to(device)(Tensor(5 * draw(3, 7, 64) + 2, device=device)).numpy()
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-4)


def test_layer_norm_ignores_the_scale_and_offset_of_a_row():
    x, layer = draw(4, 16).astype(np.float64), nn.LayerNorm(16, eps=0.0).to("float64")
    np.testing.assert_allclose(
        layer(Tensor(3 * x + 100)).numpy(), layer(Tensor(x)).numpy(), rtol=1e-9, atol=1e-12
    )


def test_layer_norm_of_a_constant_row_is_the_bias_with_finite_gradients(device):
    layer, x = nn.LayerNorm(4).to(device), tinycv.ones(2, 4, device=device, requires_grad=True)
    layer.bias.data = Tensor([1.0, 2, 3, 4], device=device).data
    y = layer(x)
    y[:, 0].sum().backward()
    assert y.numpy().tolist() == [[1, 2, 3, 4]] * 2
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(5), nn.LayerNorm(5, bias=False)], ids=["bias", "no bias"]
)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_layer_norm_is_certified(layer, shape):
    certify_layer(layer, draw(*shape))


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.statistical
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_a_share_p_and_scales_the_rest_by_one_over_1_minus_p(device, p):
    y = nn.Dropout(p)(tinycv.ones(100, 200, device=device)).numpy()
    assert abs((y == 0).mean() - p) < 5 * math.sqrt(p * (1 - p) / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-6)


def test_dropout_in_evaluation_is_the_identity(device):
    x = Tensor(draw(4, 5), device=device)
    assert (nn.Dropout(0.5).eval()(x).numpy() == x.numpy()).all()


def test_dropout_with_p_0_is_the_identity(device):
    x = Tensor(draw(4, 5), device=device)
    assert (nn.Dropout(0.0)(x).numpy() == x.numpy()).all()


def test_the_same_seed_drops_the_same_entries(device):
    def dropped(seed):
        tinycv.manual_seed(seed)
        return nn.Dropout(0.5)(tinycv.ones(8, 8, device=device)).numpy()

    assert (dropped(3) == dropped(3)).all()
    assert (dropped(3) != dropped(4)).any()


def test_dropout_drops_other_entries_at_every_call(device):
    layer, x = nn.Dropout(0.5), tinycv.ones(8, 8, device=device)
    assert (layer(x).numpy() != layer(x).numpy()).any()


def test_dropped_entries_get_no_gradient_and_the_others_a_scaled_one(device):
    x = tinycv.ones(8, 8, device=device, requires_grad=True)
    y = nn.Dropout(0.75)(x)
    y.sum().backward()
    assert (x.grad.numpy() == y.numpy()).all()
    assert set(np.unique(y.numpy())) == {0, 4}


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_probability_out_of_range_is_refused_by_name(p):
    with pytest.raises(ValueError, match=f"p is {p}"):
        nn.Dropout(p)(tinycv.ones(2))


def test_dropout_with_p_1_returns_zeros():
    x = tinycv.Tensor([1.0, float("inf")], requires_grad=True)
    y = nn.Dropout(1.0)(x)
    y.sum().backward()
    assert y.tolist() == x.grad.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_keeps_the_dtype(device, dtype):
    assert nn.Dropout(0.3)(tinycv.ones(2, dtype=dtype, device=device)).dtype == dtype


# ── Sequential, Flatten, Identity ────────────────────────────────────────────────────────────────


def test_sequential_runs_its_layers_in_order(device):
    first, last = nn.Linear(3, 4).to(device), nn.Linear(4, 2).to(device)
    x = Tensor(draw(5, 3), device=device)
    assert (nn.Sequential(first, nn.ReLU(), last)(x).numpy() == last(first(x).relu()).numpy()).all()


def test_sequential_has_an_index_and_a_length_like_a_list():
    layers = [nn.Tanh(), nn.ReLU()]
    model = nn.Sequential(*layers)
    assert len(model) == 2
    assert [model[0], model[1]] == layers


@pytest.mark.parametrize("batch", [2, 0])
def test_flatten_keeps_the_batch_and_the_order_of_the_rest(device, batch):
    x = np.arange(batch * 12, dtype=np.float32).reshape(batch, 3, 4)
    assert (nn.Flatten()(Tensor(x, device=device)).numpy() == x.reshape(batch, 12)).all()


def test_identity_returns_its_input():
    x = tinycv.ones(2)
    assert nn.Identity()(x) is x


def test_sequential_is_certified_through_every_layer():
    certify_layer(
        nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)),
        draw(3, 6),
    )


# ── activations ──────────────────────────────────────────────────────────────────────────────────


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


FORMULAS = {
    nn.ReLU: lambda x: max(x, 0.0),
    nn.Tanh: math.tanh,
    nn.Sigmoid: lambda x: 1 / (1 + math.exp(-x)),
    nn.Softplus: lambda x: math.log(1 + math.exp(x)),
    nn.GELU: lambda x: x * normal_cdf(x),
    nn.LeakyReLU: lambda x: x if x > 0 else 0.01 * x,
    nn.SiLU: lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("layer", FORMULAS)
def test_an_activation_follows_its_formula(device, layer):
    x = np.linspace(-6, 6, 41, dtype=np.float32)
    expected = [FORMULAS[layer](float(v)) for v in x]
    np.testing.assert_allclose(
        layer()(Tensor(x, device=device)).numpy(), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("layer", [*FORMULAS, nn.Softmax])
def test_an_activation_stays_finite_for_huge_inputs_and_so_does_its_gradient(device, layer):
    x = Tensor(np.array([[-1e4, 0, 1e4]], np.float32), device=device, requires_grad=True)
    y = layer()(x)
    y.sum().backward()
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()


def test_the_tanh_form_of_gelu_is_close_to_the_exact_one_but_differs():
    x = Tensor(np.linspace(-4, 4, 81, dtype=np.float32))
    apart = np.abs(nn.GELU("tanh")(x).numpy() - nn.GELU()(x).numpy()).max()
    assert 1e-5 < apart < 1e-3


def test_gelu_refuses_an_approximation_it_does_not_know():
    with pytest.raises(ValueError, match="approximate is 'fast'"):
        nn.GELU("fast")(tinycv.ones(2))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_makes_positive_numbers_that_sum_to_1_along_its_axis(device, axis):
    y = nn.Softmax(axis)(Tensor(draw(4, 5, 6), device=device)).numpy()
    assert (y > 0).all()
    np.testing.assert_allclose(y.sum(axis=axis), 1, rtol=1e-6)


def test_log_softmax_is_right_where_the_log_of_softmax_would_be_minus_infinity(device):
    y = F.log_softmax(Tensor([[0.0, 1000.0]], device=device)).numpy()
    assert y.tolist() == [[-1000, 0]]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Tanh(),
        nn.Sigmoid(),
        nn.Softplus(),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.Softmax(),
        nn.Softmax(0),
        nn.ReLU(),
        nn.LeakyReLU(0.2),
        nn.SiLU(),
    ],
    ids=repr,
)
def test_an_activation_is_certified(layer):
    x = draw(4, 5)
    certify_layer(layer, x + np.sign(x) * 0.1)  # a step aside of relu's corner
