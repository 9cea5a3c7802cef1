"""Every sampler returns points of the dtype that it was given, whatever its score or denoiser
returns."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tinycv.diffusion import edm, inpaint, langevin, ode, samplers, sde
from tinycv.diffusion.schedule import linear_schedule
from tinycv.engine import backend
from tinycv.engine.tensor import bare

SCHEDULE = linear_schedule(10, 0.01, 0.5)
VP = sde.VP()


def mala(f, x):
    return langevin.mala(lambda x: f(x)[:, 0], f, x, 0.1, 2).x


def inpainted(f, x, image_dtype):
    step = partial(samplers.ddim_step, f, SCHEDULE)
    paint = inpaint.inpainting(step, SCHEDULE, x.astype(image_dtype), x > 0, repeats=2)
    return samplers.sample(paint, x, [9, 4])


# f(x, anything): what a score, a velocity or a denoiser returns
SAMPLERS = {
    "ula": lambda f, x: langevin.ula(f, x, 0.1, 2).x,
    "mala": mala,
    "annealed": lambda f, x: langevin.annealed(f, x, [2.0, 1.0], 2, 0.1).x,
    "perturb": lambda f, x: VP.perturb(x, -f(0.5 + 0 * x[:, 0]), x),
    "euler_maruyama": lambda f, x: sde.euler_maruyama(VP.reverse(f), x, [1.0, 0.5, 0.1])[0],
    "predictor_corrector": lambda f, x: sde.predictor_corrector(VP, f, x, [1.0, 0.5, 0.1]),
    "euler": lambda f, x: ode.euler(f, x, 0.0, 0.5),
    "heun": lambda f, x: ode.heun(f, x, 0.0, 0.5),
    "rk4": lambda f, x: ode.rk4(f, x, 0.0, 0.5),
    "solve": lambda f, x: ode.solve(
        f, x, [0.0, 0.5], lambda v, x, t, then: x + (then - t) * v(x, t)
    ),
    "heun_step": lambda f, x: samplers.sample(partial(edm.heun_step, f), x, [2.0, 1.0, 0.0]),
    "ddpm_step": lambda f, x: samplers.ddpm_step(f, SCHEDULE, x, 9, 4),
    "ddpm_step to 0": lambda f, x: samplers.ddpm_step(f, SCHEDULE, x, 9, 0),
    "ddim_step": lambda f, x: samplers.ddim_step(f, SCHEDULE, x, 9, 4, eta=0.5),
    "ddim_step to 0": lambda f, x: samplers.ddim_step(f, SCHEDULE, x, 9, 0),
    "sample": lambda f, x: samplers.sample(lambda x, t, s: f(x), x, [9, 4, 0]),
    "inpainting": partial(inpainted, image_dtype="float64"),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("answered", ["float16", "float32", "float64", "int64"])
def test_points_keep_their_dtype(name, dtype, answered, device):
    seen = []

    def f(x, *rest):
        seen.append(x.dtype)
        return (-x).astype(answered)

    x = backend.to_device(np.linspace(-2, 2, 10).reshape(5, 2).astype(dtype), device)
    made = bare(SAMPLERS[name](f, x))
    assert (type(made), made.dtype, backend.device_of(made)) == (type(x), dtype, device)
    assert set(seen) == {np.dtype(dtype)} or name == "perturb"
    assert np.isfinite(backend.to_numpy(made)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_mala_never_accepts_an_impossible_step(dtype):
    def log_density(x):
        return np.where((np.abs(x.astype("float32")) < 1).all(axis=-1), 0.0, -1e4).astype(dtype)

    x = langevin.mala(log_density, lambda x: 0 * x, np.zeros((200_000, 1), dtype), 0.5, 1).x
    assert x.dtype == dtype and (np.abs(x) <= 1).all() and (x != 0).mean() > 0.5


def test_mala_in_float16_computes_step_lengths_in_float32():
    x = np.zeros((1000, 3), "float16")  # the squares of such steps are infinite in float16
    chain = langevin.mala(
        lambda x: -0.5e-6 * (x.astype("float32") ** 2).sum(axis=-1), lambda x: -1e-6 * x, x, 5e4, 1
    )
    assert 0.9 < chain.history("acceptance")[0] <= 1 and np.isfinite(chain.history("drift")[0])


def test_the_corrector_computes_lengths_in_float32():
    x = np.ones((2, 300_000), "float16")  # their squared lengths are beyond float16
    assert np.isfinite(sde.predictor_corrector(VP, lambda x, t: -x, x, [0.5, 0.4])).all()
