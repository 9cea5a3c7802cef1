"""One smoke test per chapter, in seconds, which needs only NumPy and safetensors."""

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import nn
from tinycv.nn.functional import cross_entropy
from tinycv.optim import AdamW
from tinycv.sequence import LSTM, MultiheadAttention
from tinycv.vision import ViT


def test_the_engine_differentiates_twice():
    x = tinycv.tensor(2.0, dtype="float64", requires_grad=True)
    (slope,) = tinycv.grad(tinycv.softplus(x) - 0.3 * x, x, create_graph=True)
    (bend,) = tinycv.grad(slope, x)
    chance = 1 / (1 + np.exp(-2.0))
    assert slope.item() == pytest.approx(chance - 0.3, rel=1e-12)
    assert bend.item() == pytest.approx(chance * (1 - chance), rel=1e-12)


@pytest.mark.statistical
def test_a_small_network_learns_xor():
    tinycv.manual_seed(SEED)
    x, y = tinycv.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), tinycv.tensor([0, 1, 1, 0])
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = AdamW(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model(x).numpy().argmax(axis=1) == y.numpy()).all()


@pytest.mark.statistical
def test_an_lstm_learns_to_repeat_its_first_input_at_the_end():
    tinycv.manual_seed(SEED)
    reader, head = LSTM(4, 24, batch_first=True), nn.Linear(24, 4)
    optimizer = AdamW([*reader.parameters(), *head.parameters()], lr=0.02)
    symbols = np.random.default_rng(SEED).integers(4, size=(64, 6))
    x, first = tinycv.tensor(np.eye(4, dtype=np.float32)[symbols]), tinycv.tensor(symbols[:, 0])
    for _ in range(80):
        optimizer.zero_grad()
        loss = cross_entropy(head(reader(x)[0][:, -1]), first)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_attention_averages_values_with_weights_that_sum_to_one():
    tinycv.manual_seed(SEED)
    attention = MultiheadAttention(8, 2)
    x = tinycv.randn(2, 5, 8)
    assert attention(x).shape == (2, 5, 8)
    assert np.allclose(attention.weights(x, is_causal=True).numpy().sum(axis=-1), 1, atol=1e-6)


@pytest.mark.statistical
def test_a_vit_lowers_its_loss_when_trained_on_one_batch():
    tinycv.manual_seed(SEED)
    model = ViT(image_size=8, patch_size=4, num_classes=3, dim=16, depth=2, heads=2)
    images, labels = tinycv.rand(6, 1, 8, 8), tinycv.tensor([0, 1, 2, 0, 1, 2])
    optimizer = AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] / losses[0] < 0.5


@pytest.mark.statistical
def test_a_gan_generates_points_near_the_data():
    from tinycv.adversarial import PointMLP, fit_gan
    from tinycv.data import DrawnLoader

    tinycv.manual_seed(SEED)
    generator, discriminator = PointMLP(1, 1, width=16, depth=1), PointMLP(1, 1, width=16, depth=1)
    loader = DrawnLoader(
        lambda n, rng: (rng.normal(3, 0.5, (n, 1)).astype(np.float32),), 64, 200, SEED
    )
    adams = (
        AdamW(side.parameters(), lr=1e-2, betas=(0.5, 0.9)) for side in (generator, discriminator)
    )
    fit_gan(generator, discriminator, *adams, loader, 1, progress=False)
    assert generator(tinycv.randn(1000, 1)).numpy().mean() == pytest.approx(3, abs=1)


def test_two_pixels_that_are_always_equal_cost_one_bit_in_a_tree_and_two_bits_alone():
    from tinycv.likelihood.baselines import ChowLiuTree, IndependentPixels
    from tinycv.likelihood.units import bits_per_dim

    x = np.array([[0, 0], [1, 1]])
    models = [model(x, pseudo=0) for model in (ChowLiuTree, IndependentPixels)]
    bits = [bits_per_dim(model.log_prob(x).mean(), 1) for model in models]
    np.testing.assert_allclose(bits, [1, 2])


def test_a_model_can_be_saved_and_loaded(tmp_path):
    from tinycv.training.checkpoint import load_model, save_model

    tinycv.manual_seed(SEED)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_model(tmp_path / "model.safetensors", one)
    load_model(tmp_path / "model.safetensors", other)
    assert (one.weight.numpy() == other.weight.numpy()).all()
