"""Consistency distillation on Gaussian data, for which the ODE of the teacher, the consistency
function and the guided denoiser are known in closed form."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.diffusion import ConsistencyModel, ScoreMLP
from tinycv.diffusion.distillation import (
    consistency_function,
    consistency_loss,
    consistency_sigmas,
    consistency_step,
    teacher_step,
    with_guidance,
)
from tinycv.diffusion.edm import EDM, edm_denoiser, edm_sigmas, heun_step
from tinycv.diffusion.guidance import guided
from tinycv.diffusion.samplers import sample
from tinycv.optim import Adam

RNG = np.random.default_rng(SEED)
MEAN, STD = 0.7, 0.5  # of the data
LAST, FIRST = 0.01, 20.0  # noise levels
DATA = MEAN + STD * RNG.normal(size=(400, 1))


def column(sigma, x):
    """A noise level, or one per example, in the shape of x (B, 1)."""
    sigma = sigma.numpy() if isinstance(sigma, Tensor) else np.asarray(sigma, float)
    return np.broadcast_to(sigma.reshape(-1, 1), x.shape)


def best(x, sigma):
    """E[y | y + σ n = x], the exact denoiser."""
    spread = column(sigma, x) ** 2
    return MEAN + STD**2 / (STD**2 + spread) * (x - MEAN)


def moved(x, sigma, lower):
    """The ODE dx/dσ = (x - best)/σ, solved exactly from the level sigma to ``lower``: the distance
    to the mean shrinks like the deviation of the noised data."""
    before, after = column(sigma, x) ** 2, column(lower, x) ** 2
    return MEAN + (x - MEAN) * np.sqrt((STD**2 + after) / (STD**2 + before))


def exact(x, sigma):
    """The consistency function: the end, at the level LAST, of the path through x."""
    return moved(x, sigma, LAST)


def loss_of(step, steps):
    """The loss of the exact consistency function, with this step of a teacher."""
    tinycv.manual_seed(SEED)
    levels = edm_sigmas(steps + 1, LAST, FIRST)[:-1]
    return consistency_loss(exact, exact, step, Tensor(DATA), levels=levels).item()


# ── the function and its boundary condition ──────────────────────────────────────────────────────


def test_at_the_lowest_level_the_function_returns_its_input_whatever_the_network_says(device):
    x = Tensor(RNG.normal(size=(3, 2)).astype("f4"), device=device)
    f = consistency_function(lambda x, c_noise: 1e6 * x + 5, 0.5, 0.3)
    np.testing.assert_array_equal(f(x, 0.3).numpy(), x.numpy())


@pytest.mark.parametrize("sigma", [0.3, 2.0, 40.0])
def test_far_above_the_lowest_level_the_function_is_the_denoiser(sigma, device):
    """c_skip and c_out differ from EDM's only by σ_min, so a student starts as its teacher."""
    x = Tensor(RNG.normal(size=(3, 2)), device=device)
    f = consistency_function(lambda x, c_noise: x, 0.5, 1e-7)
    denoise = edm_denoiser(lambda x, c_noise: x, 0.5)
    np.testing.assert_allclose(f(x, sigma).numpy(), denoise(x, sigma).numpy(), rtol=1e-5)


def test_the_network_gets_the_noise_level_and_the_condition():
    got = []

    def model(x, c_noise, label):
        got.append((c_noise.numpy(), label))
        return x

    consistency_function(model)(Tensor(DATA[:2]), np.array([3.0, 0.5]), "label")
    np.testing.assert_allclose(got[0][0], np.log([3.0, 0.5]) / 4)
    assert got[0][1] == "label"


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────


def test_the_exact_consistency_function_has_loss_0():
    assert loss_of(moved, 10) < 1e-24


def test_a_function_that_ignores_the_paths_has_a_loss():
    levels = edm_sigmas(11, LAST, FIRST)[:-1]
    assert consistency_loss(best, best, moved, Tensor(DATA), levels=levels).item() > 1e-3


@pytest.mark.parametrize("second_order, order", [(False, 2), (True, 3)])
def test_the_loss_of_the_exact_function_falls_with_the_order_of_the_teachers_solver(
    second_order, order
):
    """One step of a solver of order p errs by about 1/N^(p + 1), and the loss is its square: half
    the step divides it by 4^(p + 1), that is 16 for Euler and 64 for Heun."""
    step = partial(teacher_step, best, second_order=second_order)
    coarse, fine = loss_of(step, 60), loss_of(step, 120)
    assert np.log2(coarse / fine) / 2 == pytest.approx(order, abs=0.35)


def test_no_gradient_reaches_the_target_or_the_teacher():
    weights = [nn.Parameter(np.ones(1)) for _ in range(3)]
    of_student, of_target, of_teacher = weights

    def step(x, sigma, lower):
        return of_teacher * x

    loss = consistency_loss(
        lambda x, s: of_student * x,
        lambda x, s: of_target * x,
        step,
        Tensor(DATA),
        levels=[2.0, 1.0],
    )
    loss.backward()
    assert [w.grad is not None for w in weights] == [True, False, False]


def test_a_step_of_the_teacher_is_heuns_step(device):
    x = Tensor(RNG.normal(size=(5, 2)), device=device)

    def denoise(x, sigma):
        return x / (1 + sigma.reshape((len(x), 1)))

    own = teacher_step(denoise, x, 2.0, 0.7).numpy()
    np.testing.assert_allclose(own, heun_step(denoise, x, 2.0, 0.7).numpy(), rtol=1e-12)


def test_every_example_has_its_own_levels():
    sigma, lower = np.array([3.0, 0.5]), np.array([1.0, 0.2])
    both = teacher_step(best, DATA[:2], sigma, lower)
    alone = [teacher_step(best, DATA[i : i + 1], sigma[i], lower[i]) for i in range(2)]
    np.testing.assert_allclose(both, np.concatenate(alone), rtol=1e-12)


@pytest.mark.parametrize("labels", [np.array([0, 1, 2]), np.array([[3, 4], [3, 0], [4, 4]])])
def test_a_guided_teacher_is_the_guided_denoiser(labels):
    x, sigma = Tensor(RNG.normal(size=(3, 2))), np.array([0.5, 1.0, 2.0])

    def denoise(x, sigma, labels):
        return x + labels.reshape((len(x), -1)).sum(axis=1, keepdims=True)

    own = with_guidance(denoise, 0, 1.5)(x, sigma, labels).numpy()
    np.testing.assert_allclose(own, guided(denoise, labels, 0, 1.5)(x, sigma).numpy())


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────


def test_one_step_is_the_end_of_the_teachers_ode():
    x = MEAN + FIRST * RNG.normal(size=(50, 1))
    times = consistency_sigmas(1, LAST, FIRST)
    one_step = sample(partial(consistency_step, exact), x, times)
    many = sample(partial(heun_step, best), x, edm_sigmas(200, LAST, FIRST)[:-1])
    np.testing.assert_allclose(one_step, many, atol=1e-3)


@pytest.mark.statistical
def test_more_steps_sample_the_data_too():
    tinycv.manual_seed(SEED)
    x = MEAN + (STD**2 + FIRST**2) ** 0.5 * RNG.normal(size=(100_000, 1))
    images = sample(partial(consistency_step, exact), x, consistency_sigmas(4, LAST, FIRST))
    assert images.mean() == pytest.approx(MEAN, abs=0.01)
    assert images.std() == pytest.approx(STD, rel=0.02)


def test_the_noise_levels_of_a_sampler_divide_those_of_the_teacher():
    assert consistency_sigmas(1) == [80.0, 0.0]
    np.testing.assert_allclose(consistency_sigmas(4, 0.002), [*edm_sigmas(17)[:16:4], 0])


# ── the student ──────────────────────────────────────────────────────────────────────────────────


def test_the_target_is_the_moving_average_of_the_student():
    student = ConsistencyModel(nn.Linear(1, 1), decay=0.75)
    start = student.target.weight.numpy().copy()
    student.network.weight.data = start + 1.0
    student.update()
    np.testing.assert_allclose(student.target.weight.numpy(), start + 0.25, rtol=1e-6)


def test_the_student_is_a_copy_of_the_teacher():
    tinycv.manual_seed(SEED)
    network = ScoreMLP(2, 4, 1)
    student = ConsistencyModel(network)
    optimizer = Adam(student.network.parameters(), lr=0.1)
    before = {name: weight.numpy().copy() for name, weight in network.state_dict().items()}
    student.loss(edm_denoiser(network), Tensor(RNG.normal(size=(8, 2)).astype("f4"))).backward()
    optimizer.step()
    for name, weight in network.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), before[name])


class Shifted(nn.Module):
    """F(x, c_noise, label) = weight · x + label."""

    def __init__(self):
        self.weight = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x, c_noise, label):
        return self.weight * x + label.reshape((len(x), 1)).astype(x.dtype)


def test_images_come_in_the_shape_of_the_noise_and_depend_on_the_condition(device):
    student = ConsistencyModel(Shifted().to(device))
    noise = tinycv.randn(4, 2, device=device)
    labels = [Tensor(np.full(4, label), device=device) for label in (0, 1)]
    one, other = (student.sample(noise, 1, label).numpy() for label in labels)
    assert one.shape == (4, 2)
    np.testing.assert_allclose(other - one, 0.5, rtol=1e-3)  # c_out of σ_max, about σ_d


@pytest.mark.statistical
def test_a_trained_student_draws_in_one_step_what_the_teacher_draws_in_many():
    """The teacher is the exact denoiser of N(0, 0.5²) in one dimension. The end of each path is
    known, and a step of the untrained student (about the denoiser) is far from it: it ends at the
    mean."""
    tinycv.manual_seed(SEED)
    student = ConsistencyModel(ScoreMLP(1, 16, 1), STD, EDM(0.05, 5.0), steps=8, decay=0.9)
    optimizer = Adam(student.network.parameters(), lr=5e-3)
    data = Tensor((DATA[:200] - MEAN).astype("f4"))

    def teacher(x, sigma):
        return x * (STD**2 / (STD**2 + sigma.reshape((len(x), 1)) ** 2))

    for _ in range(400):
        optimizer.zero_grad()
        student.loss(teacher, data).backward()
        optimizer.step()
        student.update()
    noise = np.linspace(-2, 2, 41, dtype="f4")[:, None]
    drawn = student.sample(Tensor(noise), 1).numpy()
    goal = 5.0 * noise * ((STD**2 + 0.05**2) / (STD**2 + 5.0**2)) ** 0.5
    assert np.abs(drawn - goal).mean() < 0.08  # the mean of |goal| is 0.5


def test_a_model_that_cannot_be_called_is_no_network():
    with pytest.raises(
        TypeError, match=r"^ConsistencyModel: [^\n]* cannot be called; it must be the network"
    ):
        ConsistencyModel(ConsistencyModel(ScoreMLP(2, 4, 1)))


def test_a_network_is_no_teacher():
    student = ConsistencyModel(ScoreMLP(2, 4, 1))
    with pytest.raises(TypeError, match=r"a network; it must be a denoiser .* edm_denoiser"):
        student.loss(student.network, np.zeros((3, 2), np.float32))
