"""Times, noise levels, labels and weights out of range: a clear error on the CPU, NaN on a GPU; an
index is never wrapped, a result never complex, and values with weight 0 are ignored even if NaN."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from near import near

import tinycv
from tinycv import Tensor, data, nn
from tinycv.adversarial import gan
from tinycv.adversarial import networks as gan_networks
from tinycv.diffusion import denoising as diffusion
from tinycv.diffusion import edm, guidance, langevin, ode, samplers, schedule, score, sde
from tinycv.diffusion import mlp as networks
from tinycv.diffusion.dit import DiT
from tinycv.diffusion.embedding import TimeAndLabel
from tinycv.diffusion.inpaint import inpainting
from tinycv.vision import ViT

SCHEDULE = schedule.linear_schedule(7)
ENDS_IN_NOISE = schedule.DDPM(np.array([1.0, 0.5, 0.0]))
INTEGERS = ["int8", "uint8", "int32", "int64"]
quick = settings(max_examples=40, deadline=None)


def half(x, *_):
    return 0.5 * x


# ── Times of a noise schedule ─────────────────────────────────────────────────────────────────────


@quick
@given(
    st.lists(st.integers(-9, 16), min_size=1, max_size=4), st.sampled_from(INTEGERS), st.booleans()
)
def test_times_outside_the_noise_schedule_are_refused(times, dtype, as_tensor):
    if dtype == "uint8":
        times = [abs(t) for t in times]
    t, x = np.array(times, dtype), np.ones((len(times), 2), np.float32)
    given_t = Tensor(t) if as_tensor else t
    if min(times) >= 0 and max(times) <= 7:
        got = SCHEDULE.perturb(Tensor(x), given_t, Tensor(0 * x)).numpy()
        np.testing.assert_allclose(got[:, 0], SCHEDULE.alpha_bar[t] ** 0.5, rtol=1e-6)
    else:
        with pytest.raises(
            IndexError, match="DDPM.marginal: t holds .*; the schedule has the times 0 to 7"
        ):
            SCHEDULE.perturb(Tensor(x), given_t, Tensor(0 * x))


@pytest.mark.parametrize("t", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_one_time_for_all_may_be_any_whole_number(t):
    x = Tensor(np.ones((2, 2), np.float32))
    left = SCHEDULE.perturb(x, t, 0 * x).numpy()
    assert left[0, 0] == pytest.approx(SCHEDULE.alpha_bar[3] ** 0.5)
    assert diffusion.denoiser(half, SCHEDULE, "x0")(x, t).shape == (2, 2)
    assert samplers.ddim_step(half, SCHEDULE, x, t, t - 1).shape == (2, 2)


@pytest.mark.parametrize(
    "t",
    [
        -1,
        8,
        np.int64(-1),
        2.0,
        0.5,
        np.float32(2),
        True,
        None,
        "3",
        np.array([1.0, 2.0]),
        np.array([True, False]),
        np.array([1, 2, 3]),
        np.array([[1], [2]]),
    ],
)
def test_negative_and_other_wrong_times_are_refused(t):
    x = Tensor(np.ones((2, 2), np.float32))
    with pytest.raises((IndexError, TypeError, ValueError), match=r"DDPM\.\w+: t "):
        SCHEDULE.perturb(x, t, 0 * x)


def test_on_a_gpu_a_time_out_of_range_is_nan_and_the_others_are_right(cp):
    x = Tensor(np.ones((3, 2), np.float32), device="gpu")
    got = SCHEDULE.perturb(x, Tensor(np.array([-1, 3, 8]), device="gpu"), 0 * x).numpy()
    assert np.isnan(got[[0, 2]]).all() and got[1] == pytest.approx(SCHEDULE.alpha_bar[3] ** 0.5)


@quick
@given(st.lists(st.floats(-0.5, 1.5) | st.sampled_from([np.nan, np.inf, 0.0, 1.0]), max_size=4))
def test_betas_outside_0_to_1_are_refused(betas):
    if betas and all(0 < beta < 1 for beta in betas):
        assert (np.diff(schedule.alpha_bar_of(np.array(betas))) <= 0).all()
    else:
        with pytest.raises((TypeError, ValueError), match="alpha_bar_of: betas"):
            schedule.alpha_bar_of(np.array(betas))


@pytest.mark.parametrize(
    "alpha_bar",
    [[1.0], [0.9, 0.5], [1, 0.5, 0.6], [1, -0.1], [1, np.nan], [[1, 0.5]], "x", [1, 0.5j]],
)
def test_a_wrong_alpha_bar_is_refused(alpha_bar):
    with pytest.raises((TypeError, ValueError), match="DDPM: alpha_bar"):
        schedule.DDPM(np.array(alpha_bar) if isinstance(alpha_bar, list) else alpha_bar)


@pytest.mark.parametrize(
    "use",
    [
        lambda a: samplers.sampling_times(a),
        lambda a: diffusion.denoiser(half, a),
        lambda a: samplers.ddim_step(half, a, tinycv.ones(2, 2), 1, 0),
        lambda a: diffusion.diffusion_loss(half, tinycv.ones(2, 2), schedule=a),
    ],
)
def test_a_bare_array_is_refused_as_a_noise_schedule(use):
    with pytest.raises(TypeError, match=r"\w+: schedule is .*; it must be a Schedule"):
        use(SCHEDULE.alpha_bar)


def test_a_schedule_of_one_step_and_one_that_ends_in_pure_noise_can_be_walked():
    for noise in (schedule.linear_schedule(1), ENDS_IN_NOISE):
        for step in (
            partial(samplers.ddpm_step, half),
            partial(samplers.ddim_step, half),
            partial(samplers.ddim_step, half, eta=1.0),
        ):
            x = samplers.sample(partial(step, noise), tinycv.ones(3, 2), noise.times())
            assert np.isfinite(x.numpy()).all() and x.dtype == np.float32
    with pytest.raises(ValueError, match="nothing is left of the image"):
        diffusion.denoiser(half, ENDS_IN_NOISE, "eps")(tinycv.ones(3, 2), 2)


@quick
@given(st.integers(0, 7), st.integers(0, 7), st.floats(-0.5, 3) | st.just(np.nan))
def test_wrong_sampling_steps_are_refused(t, s, eta):
    x = tinycv.ones(2, 2)
    if s < t and 0 <= eta <= 1:
        got = samplers.ddim_step(half, SCHEDULE, x, t, s, eta).numpy()
        assert got.dtype == np.float32 and np.isfinite(got).all()
    else:
        with pytest.raises(ValueError, match="ddim_step: (eta is|t is)"):
            samplers.ddim_step(half, SCHEDULE, x, t, s, eta)


# ── Times of a diffusion process, and its steps ───────────────────────────────────────────────────

PROCESSES = [sde.VE(), sde.VP(), sde.SubVP()]


@quick
@given(
    st.sampled_from(PROCESSES),
    st.floats(-1, 2) | st.sampled_from([np.nan, np.inf, 0.0, 1.0]),
    st.sampled_from(
        [
            float,
            np.float32,
            np.float64,
            np.array,
            Tensor,
            lambda t: np.array([t, 0.5]),
            lambda t: Tensor(np.array([t, 0.5])),
        ]
    ),
)
def test_a_process_is_defined_from_time_0_to_1_and_is_never_complex(process, t, kind):
    value = kind(t)
    if 0 <= np.asarray(value).flat[0] <= 1:
        for part in process.marginal(value):
            part = np.asarray(part)
            assert part.dtype.kind == "f" and np.isfinite(part).all()
    else:
        with pytest.raises(ValueError, match=f"{type(process).__name__}.marginal: t "):
            process.marginal(value)
    for what in (process.diffusion, process.rate):
        if 0 <= t <= 1:
            assert isinstance(what(t), float)
        else:
            with pytest.raises(ValueError, match=r"\.(rate|diffusion): t is"):
                what(t)


def test_on_a_gpu_times_outside_are_nan(cp):
    t = Tensor(np.array([-0.1, 0.5, 1.1, np.nan], np.float32), device="gpu")
    for process in PROCESSES:
        for part in process.marginal(t):
            assert np.isnan(part.numpy()).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    "process",
    [*PROCESSES, sde.VP(0.1, 80.0), sde.SubVP(0.1, 80.0), sde.VE(1e-3, 3e4)],
    ids=lambda process: type(process).__name__,
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_marginal_is_as_exact_as_its_dtype_at_both_ends(process, dtype, device):
    """Compared with Python floats. float16 has 11 bits, and the exponent of VP is several units
    large, so its error is multiplied by that."""
    times = np.array([0.0, 1e-3, 0.25, 0.5, 1.0], dtype)
    for found, exact in zip(
        process.marginal(Tensor(times, device=device)),
        zip(*[process.marginal(float(t)) for t in times], strict=True),
        strict=True,
    ):
        size = float(np.abs(exact).max())
        tolerance = {np.float16: 4e-2, np.float32: 1e-4, np.float64: 1e-12}[dtype]
        np.testing.assert_allclose(
            found.numpy().astype(float),
            exact,
            rtol=tolerance,
            atol=size * (1e-7 if dtype is np.float16 else 0),
        )


def test_a_score_of_0_corrects_nothing(device):
    x = Tensor(np.ones((3, 2), np.float32), device=device)
    found = sde.predictor_corrector(sde.VE(), lambda x, t: 0 * x, x, [1.0, 0.9])
    assert np.isfinite(Tensor(found).numpy()).all()


def test_the_less_noisy_process_is_less_noisy_at_every_time_but_0():
    t = np.linspace(0, 1, 101)
    more, less = sde.VP().marginal(t)[1], sde.SubVP().marginal(t)[1]
    assert less[0] == more[0] == 0 and (less[1:] < more[1:]).all()


@pytest.mark.parametrize(
    "times", [[], [0.0, np.nan], [0.0, np.inf], "01", None, [[0, 1]], [0.0, 1j]]
)
def test_times_that_are_not_finite_are_refused(times):
    x = np.zeros((2, 2), np.float32)
    for walk in (
        lambda: ode.solve(half, x, times),
        lambda: sde.euler_maruyama(sde.VP(), x, times),
        lambda: sde.predictor_corrector(sde.VP(), half, x, times),
        lambda: ode.log_likelihood(sde.VP(), half, x, times),
    ):
        with pytest.raises((TypeError, ValueError), match=r"\w+: times"):
            walk()


@pytest.mark.parametrize("times", [[0.1, 0.5], [0.5, 0.4, 1.0], [-0.1, 1.0], [1.0]])
def test_a_likelihood_goes_all_the_way_to_the_noise(times):
    with pytest.raises(ValueError, match="log_likelihood: times"):
        ode.log_likelihood(sde.VP(), half, np.zeros((2, 2), np.float32), times)


@quick
@given(
    st.floats(-1, 1) | st.sampled_from([np.nan, np.inf]),
    st.integers(-2, 2),
    st.sampled_from([None, -1, 0, 1, 2]),
)
def test_langevin_refuses_steps_that_are_not_above_0(step, steps, keep_every):
    x, right = (
        np.ones((3, 2), np.float32),
        0 < step < np.inf and steps >= 0 and (keep_every is None or keep_every > 0),
    )
    if right:
        assert langevin.ula(half, x, step, steps, keep_every).x.shape == (3, 2)
    else:
        with pytest.raises(ValueError, match="ula: (step|steps|keep_every) is"):
            langevin.ula(half, x, step, steps, keep_every)


def test_a_chain_that_could_never_move_is_refused():
    with pytest.raises(ValueError, match="mala: log_density is NaN at 1 of the 2 points"):
        langevin.mala(lambda x: x[:, 0], half, np.array([[0.0], [np.nan]]), 0.1, 3)
    with pytest.raises(ValueError, match="mala: score is NaN at 1 of the 2 points"):
        langevin.mala(
            lambda x: x[:, 0],
            lambda x: np.where(x > 0, x, np.nan),
            np.array([[0.0], [1.0]]),
            0.1,
            3,
        )
    with pytest.raises(ValueError, match="noise levels must not rise"):
        langevin.annealed(half, np.zeros((2, 1)), [1.0, 2.0], 3, 0.1)


# ── noise levels ──────────────────────────────────────────────────────────────────────────────────

LEVELS = {
    "int": lambda s, n: 2,
    "float": lambda s, n: s,
    "float32": lambda s, n: np.float32(s),
    "0-d array": lambda s, n: np.array(s),
    "0-d Tensor": lambda s, n: Tensor(s),
    "(N,)": lambda s, n: np.full(n, s),
    "(N, 1)": lambda s, n: np.full((n, 1), s, np.float32),
    "Tensor (N,)": lambda s, n: Tensor(np.full(n, s)),
    "Tensor (N, 1)": lambda s, n: Tensor(np.full((n, 1), s)),
}


@pytest.mark.parametrize("kind", LEVELS)
def test_a_noise_level_may_be_a_number_or_one_for_each_in_any_container(kind, device):
    x = Tensor(np.arange(6, dtype=np.float32).reshape(3, 2), device=device)
    seen = []
    denoise = edm.edm_denoiser(lambda x, c: (seen.append(c.numpy()), 0.25 * x)[1])
    sigma = LEVELS[kind](2.0, 3)
    if isinstance(sigma, Tensor):
        sigma = Tensor(sigma, device=device)
    want = edm.edm_denoiser(lambda x, c: 0.25 * x)(x, 2.0).numpy()
    near(denoise(x, sigma).numpy(), want)
    np.testing.assert_allclose(seen[0], np.full(3, np.log(2) / 4), rtol=1e-6)


def test_the_gradient_by_a_noise_level_is_kept():
    sigma = Tensor(np.array([0.5, 1.0, 2.0]), requires_grad=True)
    x = np.random.default_rng(0).standard_normal((3, 2))

    def total(s):
        return (edm.edm_denoiser(lambda x, c: x * c[:, None])(Tensor(x), s) ** 2).sum()

    total(sigma).backward()
    h = 1e-6
    for i, slope in enumerate(sigma.grad.numpy()):
        up, down = (total(sigma.numpy() + sign * h * np.eye(3)[i]).item() for sign in (1, -1))
        assert slope == pytest.approx((up - down) / (2 * h), rel=1e-6)


@quick
@given(
    st.sampled_from([0.0, -1.0, np.nan, np.inf, 0, -2]),
    st.sampled_from(["float", "0-d array", "(N,)", "(N, 1)", "0-d Tensor"]),
)
def test_a_noise_level_that_is_not_above_0_is_refused(value, kind):
    with pytest.raises(ValueError, match="edm_denoiser: sigma "):
        edm.edm_denoiser(half)(tinycv.ones(3, 2), LEVELS[kind](value, 3))
    with pytest.raises(ValueError, match="denoising: sigma "):
        score.denoising(half, tinycv.ones(3, 2), LEVELS[kind](value, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rho": 0},
        {"rho": -1},
        {"rho": np.nan},
        {"sigma_min": 0},
        {"sigma_max": np.inf},
        {"sigma_max": np.nan},
        {"steps": 1},
        {"steps": 2.0},
    ],
)
def test_wrong_edm_sigmas_are_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=f"edm_sigmas: .*{next(iter(wrong))}"):
        edm.edm_sigmas(**{"steps": 4, **wrong})


def test_a_float32_array_of_noise_levels_can_be_walked(device):
    sigmas = np.array(edm.edm_sigmas(4), np.float32)
    x = samplers.sample(
        partial(edm.heun_step, edm.edm_denoiser(half)), tinycv.ones(3, 2, device=device), sigmas
    )
    assert x.shape == (3, 2) and x.dtype == np.float32


# ── labels ────────────────────────────────────────────────────────────────────────────────────────

LABELLED = {
    "Conditional": lambda labels: gan.Conditional(half, 3)(tinycv.ones(2, 1), labels),
    "TimeAndLabel": lambda labels: TimeAndLabel(4, 2)(tinycv.ones(2), labels),
    "guided": lambda labels: guidance.guided(half, labels, 2, 1.0)(tinycv.ones(2, 1), 3),
    "without_some": lambda labels: guidance.without_some(labels, 2),
}


@quick
@given(
    st.sampled_from(sorted(LABELLED)),
    st.lists(st.integers(-2, 4), min_size=2, max_size=2),
    st.sampled_from(INTEGERS[::2]),
)
def test_labels_that_are_no_classes_are_refused(name, labels, dtype):
    array = np.array(labels, dtype)
    in_range = min(labels) >= 0 and (max(labels) <= 2 or name in ("guided", "without_some"))
    for given_labels in (array, Tensor(array)):
        if in_range:
            LABELLED[name](given_labels)
        else:
            with pytest.raises(IndexError, match=f"{name}: labels? "):
                LABELLED[name](given_labels)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.0, 1.0], np.float32),
        np.array([True, False]),
        [0, 1],
        np.array([[0], [1]]),
        np.array(["a", "b"]),
        None,
        1,
        np.array([0, 1], object),
    ],
)
def test_labels_of_other_kinds_are_refused(name, labels):
    if labels is None and name == "TimeAndLabel":
        return  # None means "no label"
    if name in ("guided", "without_some") and np.shape(labels) == (2, 1):
        return  # two texts of one word each
    with pytest.raises((TypeError, ValueError), match=f"{name}: labels? "):
        LABELLED[name](labels)


def test_on_a_gpu_a_class_out_of_range_is_nan(cp):
    x, labels = tinycv.ones(3, 1, device="gpu"), Tensor(np.array([0, 3, -1]), device="gpu")
    output = gan.Conditional(half, 3)(x, labels).numpy()
    assert output[0].tolist() == [0.5, 0.5, 0, 0] and np.isnan(output[1:, 1:]).all()


OUTSIDE = [-3, -1, 3, 12, 2**40]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_on_a_gpu_results_for_a_class_out_of_range_are_nan(cp, dtype):
    """Only the rows of these labels are NaN. guidance.without_some replaces labels by "no label",
    but keeps a negative one visible."""
    labels = Tensor(np.array([0, *OUTSIDE[:4], 2], dtype), device="gpu")
    e = TimeAndLabel(2, 2).to("gpu")(tinycv.ones(6, device="gpu"), labels).numpy()
    assert (
        np.isnan(e).all(axis=1).tolist()
        == np.isnan(e).any(axis=1).tolist()
        == [False, *[True] * 4, False]
    )
    left = guidance.without_some(labels, 2, 1.0).numpy()
    assert left.tolist() == [2, -3, -1, 2, 2, 2]


NOISE = np.array([-1.0, 0.5, np.nan, np.inf, -np.inf, 2.0], np.float32)
ON_NOISE = {
    "denoising": lambda x, s: score.denoising(half, x, s),
    "noise_levels": lambda x, s: edm.noise_levels(s, x)[0],
    "edm_denoiser": lambda x, s: edm.edm_denoiser(half)(x, s).sum(axis=-1),
    "preconditioning": lambda x, s: sum(edm.preconditioning(s, 0.5)),
    "Mixture": lambda x, s: data.Mixture([[0.0, 0], [1, 1]], 0.5).log_density(x, s),
    "Mixture.score": lambda x, s: data.Mixture([[0.0, 0], [1, 1]], 0.5).score(x, s).sum(axis=-1),
    "Boxes": lambda x, s: data.Boxes([[0.0, 0]], [[1, 1]]).log_density(x, s),
}


@pytest.mark.parametrize(
    "kind", [Tensor, lambda s, device: Tensor(s, device=device)._data], ids=["Tensor", "array"]
)
@pytest.mark.parametrize("name", ON_NOISE)
def test_a_noise_level_out_of_range_is_refused_on_the_host_and_nan_on_a_gpu(name, kind, cp):
    x, right = np.full((6, 2), 0.25, np.float32), np.isfinite(NOISE) & (NOISE > 0)
    for i, noise in enumerate(NOISE):
        one = kind(np.full(1, noise, np.float32), device="cpu")
        if right[i]:
            ON_NOISE[name](Tensor(x[:1]), one)
        else:
            with pytest.raises(ValueError, match=r"(sigma|noise) holds"):
                ON_NOISE[name](Tensor(x[:1]), one)
    found = ON_NOISE[name](Tensor(x, device="gpu"), kind(NOISE, device="gpu"))
    assert (np.isnan(Tensor(found).numpy()) == ~right).all()


def test_on_a_gpu_predicted_noise_gives_nan_for_an_image_of_pure_noise(cp):
    x = tinycv.ones(2, 3, device="gpu")
    t = Tensor(np.array([2, 1]), device="gpu")
    found = diffusion.clipped(diffusion.denoiser(half, ENDS_IN_NOISE))(x, t).numpy()
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    for times in (2, np.array([1, 2]), Tensor(np.array([2, 2]))):
        with pytest.raises(ValueError, match="denoiser: at time .* nothing is left of the image"):
            diffusion.denoiser(half, ENDS_IN_NOISE)(tinycv.ones(2, 3), times)


def test_integer_and_float_times_give_the_same_embedding():
    whole, real = np.array([0, 1, 3]), np.array([0, 1, 3], np.float32)
    np.testing.assert_array_equal(
        networks.fourier_features(whole, 8), networks.fourier_features(real, 8)
    )


# ── Values with weight 0 are not multiplied ───────────────────────────────────────────────────────


@pytest.mark.parametrize("w, poisoned", [(0.0, 2), (-1.0, 0)])
def test_guidance_of_weight_0_ignores_the_other_prediction(w, poisoned):
    def denoise(x, t, labels):
        return x + Tensor(
            np.where(np.asarray(labels)[:, None] == poisoned, np.nan, 1.0).astype(np.float32)
        )

    got = guidance.guided(denoise, np.array([0, 0]), 2, w)(tinycv.zeros(2, 1), 3)
    assert got.numpy().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_values_with_weight_0_at_either_end_of_a_noise_schedule_are_ignored(poison, device):
    lost = Tensor(np.full((2, 3), poison, np.float32), device=device)
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3), device=device)
    for at_end in (
        ENDS_IN_NOISE.perturb(x, 0, lost),
        ENDS_IN_NOISE.perturb(lost, 2, x),
        samplers.ddim_step(lambda *_: x, ENDS_IN_NOISE, lost, 2, 0),
        samplers.ddim_step(lambda *_: x, ENDS_IN_NOISE, lost, 1, 0, eta=1.0),
        samplers.ddpm_step(lambda *_: x, ENDS_IN_NOISE, lost, 1, 0),
    ):
        assert (at_end.numpy() == x.numpy()).all() and at_end.dtype == np.float32


@quick
@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 5))
def test_values_behind_the_mask_reach_nothing(value, at):
    known = np.ones(6, bool)
    known[at] = False
    image = np.where(known, 0.5, value).astype(np.float32)[None]
    step = inpainting(
        partial(samplers.ddpm_step, half, SCHEDULE), SCHEDULE, Tensor(image), Tensor(known[None])
    )
    x = samplers.sample(step, tinycv.zeros(1, 6), samplers.sampling_times(SCHEDULE)).numpy()
    assert np.isfinite(x).all() and (x[0, known] == 0.5).all()


@pytest.mark.parametrize(
    "known", [np.ones((1, 6), np.float32), np.ones((1, 6), int), np.ones(6, bool), None]
)
def test_a_mask_must_be_bool_with_the_shape_of_the_image(known):
    with pytest.raises((TypeError, ValueError), match="inpainting: (known is|image has shape)"):
        inpainting(lambda x, t, s: x, SCHEDULE, tinycv.ones(1, 6), known)


def test_the_last_step_of_ddpm_returns_the_image_whatever_x_is():
    x = samplers.ddpm_step(
        lambda x, t: tinycv.ones(*x.shape), SCHEDULE, Tensor([[np.inf, np.nan]]), 3, 0
    )
    assert x.numpy().tolist() == [[1.0, 1.0]]


# ── Samplers and penalties ────────────────────────────────────────────────────────────────────────


def test_samplers_record_no_graph_for_any_network():
    network = nn.Linear(2, 2)
    x = np.ones((3, 2), np.float32)
    for result in (
        langevin.ula(lambda x: network(Tensor(x)), x, 0.1, 2).x,
        ode.solve(lambda x, t: network(Tensor(x)), x, [0, 1]),
        samplers.sample(lambda x, t, s: network(x), Tensor(x), [1, 0]),
    ):
        assert not getattr(result, "requires_grad", False)


@pytest.mark.parametrize("penalty", [gan.GradientPenalty(0.0), gan.R1(0)])
def test_a_penalty_of_weight_0_ignores_the_gradient(penalty, device):
    x = tinycv.ones(3, 2, device=device)
    assert penalty(lambda x: (x * np.nan).sum(axis=1), x, x).item() == 0.0


MANY = 10**12


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: DiT(8, 4, depth=MANY), "DiT: depth"),
        (lambda: gan_networks.PointGenerator(depth=MANY), "PointGenerator: depth"),
        (lambda: gan_networks.PointDiscriminator(depth=MANY), "PointDiscriminator: depth"),
        (lambda: gan_networks.PointMLP(2, 2, depth=MANY), "PointMLP: depth"),
        (lambda: networks.ScoreMLP(2, depth=MANY), "ScoreMLP: depth"),
        (lambda: gan_networks.DCGANDiscriminator(MANY), "DCGANDiscriminator: side"),
        (lambda: gan_networks.DCGANGenerator(MANY), "DCGANGenerator: side"),
        (lambda: langevin.geometric(1.0, 0.1, MANY), "geometric: count"),
        (lambda: ViT(8, 4, 3, depth=MANY), "ViT: depth"),
    ],
    ids=[
        "DiT",
        "PointGenerator",
        "PointDiscriminator",
        "PointMLP",
        "ScoreMLP",
        "DCGANDiscriminator",
        "DCGANGenerator",
        "geometric",
        "ViT",
    ],
)
def test_a_call_that_would_never_end_is_refused_at_once(call, words):
    with pytest.raises(
        ValueError, match=words + " is 10{12}; it must be a whole number, at least . and at most"
    ):
        call()
