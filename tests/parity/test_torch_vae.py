"""A whole VAE equals the same networks in PyTorch: what it decodes, the two terms of the ELBO, the
IWAE bound, and their gradients, through the names of state_dict."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

import tinycv
from tinycv import Tensor
from tinycv.likelihood.vae import SIGMA_FLOOR, VAE, elbo_terms, log_weights

X = (np.random.default_rng(0).random((7, 12)) < 0.5).astype(np.float64)
NOISE = np.random.default_rng(1).standard_normal((7, 3))


class TorchVAE(nn.Module):
    """The same VAE, with PyTorch's layers and distributions."""

    def __init__(self, gaussian: bool):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 6)
        )
        self.decoder = nn.Sequential(
            nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 12)
        )
        if gaussian:
            self.log_variance = nn.Parameter(torch.zeros(1))
        self.gaussian = gaussian

    def q(self, x):
        mean, log_var = self.encoder(x).chunk(2, dim=-1)
        return Normal(mean, (0.5 * log_var).exp())

    def p(self, z):
        decoded = self.decoder(z)
        if not self.gaussian:
            return Bernoulli(logits=decoded)
        return Normal(decoded, (self.log_variance.exp() + SIGMA_FLOOR**2).sqrt())

    def terms(self, x, noise):
        q = self.q(x)
        z = q.mean + q.stddev * noise
        prior = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
        return self.p(z).log_prob(x).sum(-1), kl_divergence(q, prior).sum(-1)


def both(decoder: str) -> tuple[VAE, TorchVAE]:
    """A VAE, and its twin in PyTorch with the same weights, in float64."""
    vae = VAE(12, 3, (5, 4), decoder).to("float64")
    twin = TorchVAE(decoder == "gaussian").double()
    twin.load_state_dict({n: torch.tensor(t.numpy()) for n, t in vae.state_dict().items()})
    return vae, twin


def gradients_agree(vae: VAE, twin: TorchVAE) -> None:
    for name, parameter in twin.named_parameters():
        ours = dict(vae.named_parameters())[name].grad
        assert ours is not None
        np.testing.assert_allclose(ours.numpy(), parameter.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_the_elbo_and_its_gradients_equal_those_of_pytorch(decoder):
    vae, twin = both(decoder)
    log_likelihood, kl = elbo_terms(vae, Tensor(X), noise=Tensor(NOISE))
    (kl - log_likelihood).mean().backward()
    expected, expected_kl = twin.terms(torch.tensor(X), torch.tensor(NOISE))
    (expected_kl - expected).mean().backward()
    np.testing.assert_allclose(log_likelihood.numpy(), expected.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(kl.numpy(), expected_kl.detach().numpy(), rtol=1e-10)
    gradients_agree(vae, twin)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_the_weights_of_importance_sampling_equal_those_of_pytorch(decoder):
    vae, twin = both(decoder)
    tinycv.manual_seed(3)
    weights = log_weights(vae, Tensor(X), 4)
    (-iwae_bound_of(weights)).mean().backward()
    tinycv.manual_seed(3)
    noise = tinycv.randn_like(Tensor(np.zeros((4, 7, 3)))).numpy()
    x, q = torch.tensor(X), twin.q(torch.tensor(X))
    z = q.mean + q.stddev * torch.tensor(noise)
    prior = Normal(torch.zeros_like(z), torch.ones_like(z))
    expected = twin.p(z).log_prob(x).sum(-1) + prior.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
    (-(torch.logsumexp(expected, 0) - np.log(4))).mean().backward()
    np.testing.assert_allclose(weights.numpy(), expected.detach().numpy(), rtol=1e-10)
    gradients_agree(vae, twin)


def iwae_bound_of(weights: Tensor) -> Tensor:
    return tinycv.logsumexp(weights, axis=0) - np.log(4)


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_what_is_decoded_equals_pytorch(decoder):
    vae, twin = both(decoder)
    z = np.random.default_rng(2).standard_normal((2, 7, 3))
    expected = twin.decoder(torch.tensor(z)).detach().numpy()
    np.testing.assert_allclose(vae.decode(Tensor(z)).numpy(), expected, rtol=1e-10, atol=1e-12)
