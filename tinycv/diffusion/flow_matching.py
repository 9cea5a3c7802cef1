"""Flow matching and rectified flow: learn a velocity from noise to data by regression, without a
log-determinant (Lipman et al. 2023; Liu, Gong & Liu 2023).

    x_t = (1 - t) x_0 + t z,   z ~ N(0, I)               a straight line from data to noise
    loss = E |v(x_t, t) - (z - x_0)|²,   t ~ U[0, 1]     z - x_0 = dx_t/dt, the velocity on it
    minimum: v(x, t) = E[z - x_0 | x_t = x]              the mean over all lines through x

The lines of many pairs (x_0, z) pass through the same point, and the network learns the mean of
their velocities.  The flow of this mean, dx/dt = v(x, t), does not follow the lines: they cross,
and the paths of a flow cannot.  But at each t its points have the density of x_t, as both papers
prove.  So it turns N(0, I) at t = 1 into the data at t = 0, and ode.py draws samples from it and
computes their likelihood:

    v = velocity(model)
    x = solve(v, z, np.linspace(1, 0, 21))                      samples: from noise to data
    log_p = flow_log_likelihood(v, x, np.linspace(0, 1, 41))    log p in nats: from data to noise

FFJORD (Grathwohl et al. 2019) has the same model: any network can be the velocity, and no layer has
to be invertible, because an ODE can be solved in both directions.  FFJORD learns v by maximum
likelihood; the mean of log_p above is its whole objective.  So each step of its training solves an
ODE together with the divergence of v, and differentiates through the solution.  Flow matching
replaces this by one evaluation of the network at one random point of a line.

The velocity also gives the denoiser D(x, t) = E[x_0 | x_t = x]: z - x_0 = (x_t - x_0) / t, so
v(x, t) = (x - D(x, t)) / t.  So flow matching is diffusion with the noise schedule a = 1 - t,
σ = t, and a loss that weights the squared error of D by 1 / t².

Rectified flow adds a second training: the flow takes each z to a sample, and the network is trained
again on these pairs (``noise=z``).  The paths become straighter, so fewer steps of the solver are
enough.

differs: in both papers t = 0 is noise and t = 1 is data; here it is the other way round, as in all
files of this chapter.  Lipman et al. leave noise of a small sigma_min in the data; here, as in Liu
et al., none is left.
Read first: ode.py.   See at work: demos/21_flow.py.
Shapes: B examples of any shape, x (B, ...); t (B,).
"""

from __future__ import annotations

from typing import Any

from tinycv.diffusion.denoising import Network
from tinycv.diffusion.sde import Velocity
from tinycv.engine.backend import uniform
from tinycv.engine.create import randn_like
from tinycv.engine.tensor import Tensor, bare
from tinycv.nn.inputs import Examples, answering, batch, finite, per_example
from tinycv.nn.losses import mse_loss


def flow_matching_loss(
    model: Network, x0: Examples, *condition: Any, noise: Examples | None = None
) -> Tensor:
    """The mean squared error of model(x_t, t, *condition) against z - x_0, at one random t for each
    example of x0 (B, ...).

    noise: z, in the shape of x0; by default drawn from N(0, I). With the z from which a trained
    flow made x0, this is the loss of a rectified flow.
    """
    model = answering(model, "flow_matching_loss: model")
    batch(x0, "flow_matching_loss: x0")
    z = randn_like(Tensor(x0)) if noise is None else batch(noise, "flow_matching_loss: noise")
    if tuple(z.shape) != tuple(x0.shape):
        raise ValueError(
            f"flow_matching_loss: noise has shape {tuple(z.shape)} and x0 {tuple(x0.shape)}; they "
            "must be equal"
        )
    t = Tensor(uniform(len(x0), bare(x0), x0.dtype))  # (B,)
    column = t.reshape((len(x0),) + (1,) * (x0.ndim - 1))  # (B, 1, ...)
    x_t = (1 - column) * x0 + column * z
    return mse_loss(model(x_t, t, *condition), z - x0)


def velocity(model: Network, *condition: Any) -> Velocity:
    """The network as a velocity (x (B, ...), t) -> dx/dt, t a number, for ode.py."""
    model = answering(model, "velocity: model")

    def v(x: Examples, t: float) -> Examples:
        times = per_example(finite(t, "velocity: t"), batch(x, "velocity: x"), "velocity: t")
        return model(x, Tensor(times), *condition)

    return v
