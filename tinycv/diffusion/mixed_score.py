"""The mixed score of LSGM: a prior that starts as N(0, I) and learns where the codes are.

    ε̂(z_t, t) = σ(t) (1 - α) z_t + α ε'(z_t, t)                         Vahdat, Kreis & Kautz 2021
    score     = -ε̂(z_t, t) / σ(t) = -(1 - α) z_t - α ε'(z_t, t) / σ(t)

With α = 0 the prior is N(0, I), exactly, for then ∇ log p_t(z) = -z at all t.  Training starts with
a small α, so the network adds to a good guess instead of learning it.  Each latent has its own α.

Read first: cross_entropy.py.   Used in: latent.py.
Shapes: codes z (B, D), times t (B,).
"""

from __future__ import annotations

from tinycv.diffusion.cross_entropy import LatentVP, noise_error
from tinycv.diffusion.denoising import denoiser
from tinycv.diffusion.tweedie import Denoiser
from tinycv.engine import ops
from tinycv.engine.arguments import shown
from tinycv.engine.create import full
from tinycv.engine.ops import sigmoid
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.inputs import Examples, batch, finite, whole
from tinycv.nn.module import Module


class MixedScore(Module):
    """The noise in z_t that the prior predicts, ε̂ = σ (1 - α) z_t + α ε'(z_t, t), with one learned
    α = sigmoid(mixing_logit) per latent.

    network: a module, ε'(z_t (B, D), t (B,)) -> (B, D), such as ScoreMLP(D).
    mixing_logit: where the logit of α starts; None fixes α = 1, the network alone.
    """

    def __init__(
        self,
        network: Module,
        latent: int,
        sde: LatentVP | None = None,
        mixing_logit: float | None = -3.0,
    ):
        (latent,) = whole("MixedScore", 1, latent=latent)
        self.network, self.latent = module_in(network, "MixedScore"), latent
        self.sde = latent_vp(sde, "MixedScore")
        self.mixing_logit: Parameter | None = None
        if mixing_logit is not None:
            logit = finite(mixing_logit, "MixedScore: mixing_logit")
            self.mixing_logit = Parameter(full((latent,), logit))

    def forward(self, z: Examples, t: Examples) -> Tensor:
        """z_t (B, D), t (B,). Returns ε̂ (B, D)."""
        if batch(z, "MixedScore: z", 2).shape[1] != self.latent:
            raise ValueError(
                f"MixedScore: z has shape {tuple(z.shape)}; this prior takes codes "
                f"(B, {self.latent})"
            )
        learned = self.network(z, t)
        if self.mixing_logit is None:
            return learned
        _, sigma = self.sde.marginal_for(z, t)  # (B, 1)
        alpha = sigmoid(self.mixing_logit)  # (D,)
        return sigma * (1 - alpha) * z + alpha * learned

    def loss(self, z: Examples, weighting: str = "ll") -> Tensor:
        """½ w(t) |ε - ε̂|² for codes z (B, D) and random times, a mean over the codes. With "ll"
        it is the cross entropy without its constants."""
        t, weight = self.sde.weighted_times(z, weighting)
        z = z if isinstance(z, Tensor) else Tensor(z)
        return (0.5 * weight * noise_error(self, self.sde, z, t)).mean()

    def denoiser(self) -> Denoiser:
        """D(z, t), for the samplers, and for the score with tweedie.score_of."""
        return denoiser(self, self.sde)


class VelocityNoise(Module):
    """The network of an EDM as the ε' of a MixedScore: ε'(z_t, t) = σ z_t - a F(z_t, ¼ ln(σ / a)).

    VP and EDM (edm.py) are the same process in other units: z_t / a is the code with noise of level
    σ / a, F gets it divided by √(1 + σ²/a²) = 1 / a, and -F predicts v = a ε - σ z_0. Then σ z_t +
    a v = ε, since a² + σ² = 1 up to σ_0². With F = 0 this is the score of N(0, I) again; the factor
    a keeps its error small where nearly nothing is left of the code.
    """

    def __init__(self, network: Module, sde: LatentVP | None = None):
        self.network = module_in(network, "VelocityNoise")
        self.sde = latent_vp(sde, "VelocityNoise")

    def forward(self, z: Examples, t: Examples) -> Tensor:
        """z_t (B, D), t (B,). Returns (B, D)."""
        a, sigma = self.sde.marginal_for(z, t)  # (B, 1)
        c_noise = (ops.log(sigma / a) / 4).reshape((len(z),))
        return sigma * z - a * self.network(z, c_noise)


# ── argument checks ───────────────────────────────────────────────────────────────────────────────


def module_in(network: Module, who: str) -> Module:
    """The argument ``network`` of the class ``who``; TypeError unless it is a Module."""
    if not isinstance(network, Module):
        raise TypeError(
            f"{who}: network is {shown(network)}; it must be a Module, such as ScoreMLP(8)"
        )
    return network


def latent_vp(sde: LatentVP | None, who: str) -> LatentVP:
    """The argument ``sde`` of the class ``who``; None: LatentVP()."""
    if sde is not None and not isinstance(sde, LatentVP):
        raise TypeError(f"{who}: sde is {shown(sde)}; it must be a LatentVP, or None")
    return LatentVP() if sde is None else sde
