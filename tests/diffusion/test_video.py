"""VideoDiT and VideoDiffusion: tokens see what they should, unknown frames reach nothing, videos of
any length and size fit one network, and an exact network gives exact velocities."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest
from certified import certify_layer

import tinycv
from tinycv import Tensor
from tinycv.diffusion.dit import DiTBlock
from tinycv.diffusion.edm import preconditioning
from tinycv.diffusion.video import VideoDiffusion, first_frames, video_loss
from tinycv.diffusion.video_dit import VideoBlock, VideoDiT
from tinycv.likelihood.vae import VAE
from tinycv.sequence.positions import grid_positions

RNG = np.random.default_rng(0)
VIDEOS: Any = RNG.normal(size=(3, 4, 1, 4, 6)).astype(np.float32)
TIMES = np.array([-0.5, 0.2, 0.7], np.float32)
SEEN = np.arange(4) < np.array([[1], [2], [3]])
IDS = np.array([[3, 4, 0], [5, 3, 4], [0, 0, 0]])
KINDS = [
    {"attention": "joint"},
    {"attention": "joint", "summary": True},
    {"attention": "factorised"},
    {"attention": "frames"},
    {"attention": "joint", "positions": "rotary"},
    {"attention": "factorised", "positions": "rotary"},
]


def network_of(seed=0, patch=(2, 2, 3), **options):
    """A small network in which every part affects the result: the layers that start at 0 get random
    weights."""
    tinycv.manual_seed(seed)
    options = {"dim": 12, "depth": 2, "heads": 2, **options}
    network = VideoDiT(patch, **options)
    for p in network.parameters():
        if not p.data.any():
            p.data = tinycv.randn(*p.shape).data * 0.3
    return network


def answer(network, x=VIDEOS, t=TIMES, given=None, seen=None, ids=None, device="cpu"):
    x, t = Tensor(x, device=device), Tensor(t[: len(x)], device=device)
    given = None if given is None else Tensor(given, device=device)
    return network(x, t, given, seen, ids).numpy()


def diffusion_of(network, vae=None, videos: Any = VIDEOS):
    model = VideoDiffusion(network, vae)
    model.standardise(videos)
    return model


def grid_of(frames, columns):
    """Coordinates (F, S, 3) of tokens in one row."""
    return grid_positions((frames, 1, columns)).reshape(frames, columns, 3)


@pytest.fixture(params=KINDS, ids=lambda kind: " ".join(map(str, kind.values())))
def network(request):
    return network_of(**request.param)


# ── the network ──────────────────────────────────────────────────────────────────────────────────


def test_the_network_returns_zeros_of_the_shape_of_the_video_at_first(device):
    network = VideoDiT((2, 2, 3), dim=12, depth=2, heads=2).to(device)
    out = answer(network, device=device)
    assert out.shape == VIDEOS.shape and out.dtype == np.float32
    assert not out.any()


@pytest.mark.parametrize("frames, height, width", [(2, 2, 3), (4, 4, 6), (10, 2, 9), (6, 8, 3)])
def test_one_network_takes_videos_of_any_length_and_size(network, frames, height, width):
    x = RNG.normal(size=(2, frames, 1, height, width)).astype(np.float32)
    out = answer(network, x, given=x, seen=np.arange(frames) < np.array([[1], [2]]))
    assert out.shape == x.shape and np.isfinite(out).all()


def test_a_video_does_not_depend_on_its_batch(network, device):
    network.to(device)
    together = answer(network, given=VIDEOS, seen=SEEN, device=device)
    alone = answer(network, VIDEOS[:1], given=VIDEOS[:1], seen=SEEN[:1], device=device)
    np.testing.assert_allclose(alone, together[:1], rtol=1e-3, atol=1e-4)


def test_the_values_of_unknown_frames_never_reach_the_result(network, device):
    network.to(device)
    other = np.where(SEEN[:, :, None, None, None], VIDEOS, np.nan)
    np.testing.assert_array_equal(
        answer(network, given=VIDEOS, seen=SEEN, device=device),
        answer(network, given=other, seen=SEEN, device=device),
    )


def test_a_known_frame_of_zeros_differs_from_an_unknown_frame(network):
    zeros = 0 * VIDEOS
    known = answer(network, given=zeros, seen=SEEN)
    assert np.abs(known - answer(network, given=zeros, seen=SEEN & False)).max() > 1e-3


def test_no_known_frames_and_no_given_video_are_the_same(network):
    np.testing.assert_array_equal(
        answer(network), answer(network, given=VIDEOS, seen=np.zeros((3, 4), bool))
    )


@pytest.mark.parametrize("look", ["joint", "space", "time"])
def test_the_derivatives_of_a_block_are_certified(look):
    class Block(VideoBlock):
        def forward(self, z, e):
            return super().forward(z, e, grid_of(3, 2), look)

    tinycv.manual_seed(0)
    block = Block(6, 1, rotary=look == "joint")
    block.modulation.weight.data = RNG.normal(size=block.modulation.weight.shape) * 0.3
    certify_layer(block, RNG.normal(size=(1, 6, 6)), RNG.normal(size=(1, 6)))


def test_a_block_with_joint_attention_is_a_block_of_dit():
    """PyTorch is the reference of DiTBlock (tests/parity/test_torch_denoisers.py)."""
    block, plain = network_of(depth=1).blocks[0], DiTBlock(12, 2)
    plain.load_state_dict(block.state_dict())
    z = Tensor(RNG.normal(size=(2, 6, 12)).astype(np.float32))
    e = Tensor(RNG.normal(size=(2, 12)).astype(np.float32))
    np.testing.assert_array_equal(block(z, e, grid_of(3, 2)).numpy(), plain(z, e).numpy())


# ── which tokens see which ───────────────────────────────────────────────────────────────────────


def reached(network, x: Any = VIDEOS):
    """bool (F, S): which tokens of the input the output at the first frame and place depends on."""
    x = Tensor(x, requires_grad=True)
    network(x, Tensor(TIMES[: len(x)]))[0, 0, 0, 0, 0].backward()
    t, p, q = network.patch
    _, frames, _, height, width = x.shape
    slopes = np.abs(x.grad.numpy()[0, :, 0]).reshape(frames // t, t, height // p, p, width // q, q)
    return (slopes.max(axis=(1, 3, 5)) > 0).reshape(frames // t, -1)


def test_joint_attention_reaches_every_token_in_one_block():
    assert reached(network_of(depth=1)).all()


def test_the_first_factorised_block_sees_only_its_frame():
    seen = reached(network_of(depth=1, attention="factorised"))
    assert seen[0].all() and not seen[1:].any()


def test_two_factorised_blocks_see_every_token():
    assert reached(network_of(depth=2, attention="factorised")).all()


def test_with_the_attention_of_frames_no_frame_sees_another_one():
    seen = reached(network_of(depth=3, attention="frames"))
    assert seen[0].all() and not seen[1:].any()


def test_with_the_attention_of_frames_a_known_frame_changes_only_itself():
    network = network_of(depth=3, attention="frames", patch=(1, 2, 3))
    first = first_frames(np.array([1, 1, 1]), 4)
    change = np.abs(answer(network, given=VIDEOS, seen=first) - answer(network))
    assert change[:, 0].max() > 1e-3 and change[:, 1:].max() < 1e-5


def test_factorised_attention_equals_joint_attention_for_a_single_frame_and_one_block():
    x = VIDEOS[:, :2]
    joint, factorised = (network_of(depth=1, attention=a) for a in ("joint", "factorised"))
    np.testing.assert_allclose(answer(joint, x), answer(factorised, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_attention_in_time_equals_joint_attention_if_there_is_one_place(positions):
    block = network_of(depth=1, positions=positions).blocks[0].to("float64")
    z, e = Tensor(RNG.normal(size=(2, 5, 12))), Tensor(RNG.normal(size=(2, 12)))
    in_time, joint = (block(z, e, grid_of(5, 1), look).numpy() for look in ("time", "joint"))
    np.testing.assert_allclose(in_time, joint, rtol=1e-9)


# ── positions ────────────────────────────────────────────────────────────────────────────────────


def reverse_in_time(network):
    """The largest difference between the result of a reversed video and the reversed result."""
    out = answer(network, VIDEOS)
    return np.abs(answer(network, VIDEOS[:, ::-1].copy())[:, ::-1] - out).max()


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_without_time_positions_a_network_does_not_know_the_order_of_the_frames(positions):
    options = {"patch": (1, 2, 3), "positions": positions}
    assert reverse_in_time(network_of(time_positions=False, **options)) < 1e-4
    assert reverse_in_time(network_of(**options)) > 1e-3


def test_rotary_positions_depend_only_on_distances():
    block = network_of(depth=1, positions="rotary").blocks[0].to("float64")
    z, e = Tensor(RNG.normal(size=(2, 6, 12))), Tensor(RNG.normal(size=(2, 12)))
    here = block(z, e, grid_of(3, 2)).numpy()
    moved = block(z, e, grid_of(3, 2) + np.array([5.0, -2.0, 7.0])).numpy()
    stretched = block(z, e, 2 * grid_of(3, 2)).numpy()
    np.testing.assert_allclose(here, moved, rtol=1e-8)
    assert np.abs(here - stretched).max() > 1e-3


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_changes_the_result_of_its_own_video_alone():
    network = network_of(words=7, length=3)
    other = IDS.copy()
    other[1] = [6, 6, 6]
    change = np.abs(answer(network, ids=IDS) - answer(network, ids=other))
    assert change[1].max() > 1e-3 and change[[0, 2]].max() < 1e-5


def test_a_text_of_pad_alone_is_no_text():
    network = network_of(words=7, length=3)
    np.testing.assert_allclose(
        answer(network, ids=np.zeros((3, 3), int)), answer(network), rtol=1e-4, atol=1e-5
    )


# ── training ─────────────────────────────────────────────────────────────────────────────────────


def test_first_frames_marks_as_many_frames_as_it_is_told():
    np.testing.assert_array_equal(first_frames(np.array([0, 2, 3]), 3).sum(axis=1), [0, 2, 3])


def test_the_loss_of_a_network_that_returns_0_is_about_1():
    """The target of F has variance 1 at every noise level, if the video has."""
    y = RNG.normal(size=(400, 4, 1, 2, 3)).astype(np.float32)
    tinycv.manual_seed(0)
    loss = float(video_loss(VideoDiT((2, 2, 3), dim=12, depth=0, heads=2), y).numpy())
    assert 0.9 < loss < 1.1


def test_the_given_frames_do_not_count_in_the_loss(device):
    """Their noise is the same in both calls, and their clean values are large; if they counted, the
    loss would be large too."""
    network = VideoDiT((1, 2, 3), dim=12, depth=0, heads=2)
    network.to(device)
    y = VIDEOS.copy()
    y[SEEN] *= 1000
    tinycv.manual_seed(1)
    assert float(video_loss(network, Tensor(y, device=device), SEEN).numpy()) < 10


def test_the_loss_is_a_number_if_all_frames_are_given():
    assert float(video_loss(network_of(), VIDEOS, np.ones((3, 4), bool)).numpy()) == 0


def test_the_loss_of_codes_gives_no_gradient_to_the_vae():
    vae, network = VAE(24, 3, (5,)), network_of(patch=(2, 1, 1), channels=3)
    model = diffusion_of(network, vae, 1 / (1 + np.exp(-VIDEOS)))
    model.loss(1 / (1 + np.exp(-VIDEOS)), SEEN).backward()
    assert all(p.grad is None for p in vae.parameters())
    assert network.head.weight.grad is not None


# ── sampling ─────────────────────────────────────────────────────────────────────────────────────


def test_a_prediction_begins_with_the_given_frames(device):
    model = diffusion_of(network_of())
    model.to(device)
    made = model.predict(Tensor(VIDEOS[:, :3], device=device), 6, steps=2)
    assert made.shape == (3, 6, 1, 4, 6)
    np.testing.assert_array_equal(made.numpy()[:, :3], VIDEOS[:, :3])
    assert np.isfinite(made.numpy()).all()


@pytest.mark.parametrize("ids, w", [(None, 0.0), (IDS, 2.0)])
def test_the_denoiser_returns_the_given_frames_at_every_noise_level(ids, w):
    # The loss does not train the network there, so its answer must not steer the sampler.
    model = diffusion_of(network_of(words=6, length=3))
    noised = Tensor(VIDEOS + 1)
    denoised = model.denoiser(Tensor(VIDEOS), SEEN, ids, w)(noised, 3.0).numpy()
    np.testing.assert_allclose(denoised[SEEN], VIDEOS[SEEN], rtol=1e-5, atol=1e-6)
    assert np.abs(denoised[~SEEN] - VIDEOS[~SEEN]).min() > 1e-6


def test_a_prediction_from_no_frame_is_a_new_video():
    made = diffusion_of(network_of()).predict(VIDEOS[:, :0], 4, steps=2).numpy()
    assert made.shape == VIDEOS.shape and np.isfinite(made).all()


def test_extend_equals_predictions_of_one_window_after_the_other():
    model = diffusion_of(network_of())
    tinycv.manual_seed(3)
    whole = model.extend(VIDEOS[:, :3], 9, window=6, keep=2, steps=2).numpy()
    tinycv.manual_seed(3)
    video = VIDEOS[:, :3]
    for _ in range(2):
        longer = model.predict(video[:, -2:], 6, steps=2).numpy()
        video = np.concatenate([video, longer[:, 2:]], axis=1)
    np.testing.assert_allclose(whole, video[:, :9], rtol=1e-4, atol=1e-5)


def test_a_model_that_is_loaded_from_its_state_predicts_the_same():
    model = diffusion_of(network_of())
    other = VideoDiffusion(network_of(seed=1))
    other.load_state_dict(model.state_dict())
    made = []
    for each in (model, other):
        tinycv.manual_seed(5)
        made.append(each.predict(VIDEOS[:, :2], 4, steps=2).numpy())
    np.testing.assert_array_equal(*made)


def test_decode_is_the_inverse_of_encode_for_pixels():
    model = diffusion_of(network_of())
    back = model.decode(model.encode(VIDEOS), (1, 4, 6)).numpy()
    np.testing.assert_allclose(back, VIDEOS, rtol=1e-4, atol=1e-5)


def test_encoded_videos_have_mean_0_and_variance_1():
    videos = 1 / (1 + np.exp(-VIDEOS))
    model = diffusion_of(network_of(patch=(2, 1, 1), channels=3), VAE(24, 3, (5,)), videos)
    y = model.encode(videos).numpy()
    assert y.shape == (3, 4, 3, 1, 1)
    np.testing.assert_allclose(y.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(axis=(0, 1)), 1, rtol=1e-4)


def test_the_guidance_of_weight_0_is_the_conditional_model():
    model = diffusion_of(network_of(words=7, length=3))
    made = []
    for options in ({"w": 0.0}, {"w": 1e-7}):
        tinycv.manual_seed(4)
        made.append(model.predict(VIDEOS[:, :2], 4, IDS, steps=3, **options).numpy())
    np.testing.assert_allclose(made[0], made[1], rtol=1e-3, atol=1e-3)


class LinearMotion(VideoDiT):
    """The exact network for videos of one number per frame, a + b t with a and b from N(0, 1)."""

    def forward(self, x, t, given: Any = None, seen=None, ids=None):
        x, t = x.numpy().astype(float), t.numpy().astype(float)
        frames = x.shape[1]
        basis = np.stack([np.ones(frames), np.arange(frames)], axis=1)  # (T, 2)
        out = np.empty_like(x)
        for i, c_noise in enumerate(t):
            sigma = np.exp(4 * c_noise)
            c_skip, c_out, c_in = preconditioning(sigma, 1.0)
            noisy = x[i].ravel() / c_in
            known = np.zeros(frames, bool) if seen is None else seen[i]
            # least squares with the prior N(0, 1) of a and b; known frames have nearly no noise
            values = np.where(known, given.numpy()[i].ravel(), noisy)
            weight = np.where(known, 1e10, 1 / sigma**2)[:, None]
            precision = np.eye(2) + basis.T @ (weight * basis)
            line = basis @ np.linalg.solve(precision, basis.T @ (weight[:, 0] * values))
            out[i] = ((line - c_skip * noisy) / c_out).reshape(x.shape[1:])
        return Tensor(out)


def linear_motion(frames_given):
    model = VideoDiffusion(LinearMotion((1, 1, 1), 1, 6, 0, 1))
    model.to("float64")
    model.mean, model.std = Tensor(np.zeros((1, 1, 1))), Tensor(np.ones((1, 1, 1)))
    start = RNG.normal(size=(200, 2))
    lines = start[:, :1] + start[:, 1:] * np.arange(6)
    lines = lines[:, :, None, None, None]
    tinycv.manual_seed(0)
    return lines[:, :, 0, 0, 0], model.predict(lines[:, :frames_given], 6, steps=20).numpy()[
        :, :, 0, 0, 0
    ]


def test_an_exact_network_gives_exact_velocities_from_two_frames():
    lines, made = linear_motion(2)
    np.testing.assert_allclose(np.diff(made), np.diff(lines), atol=1e-4)


def test_an_exact_network_draws_motion_of_constant_velocity_from_nothing():
    """With σ from 20 to 0.01 the second differences are at most of the order of the last noise, and
    the velocity has the variance 1 of the world."""
    _, made = linear_motion(0)
    velocity = np.diff(made)
    assert np.abs(np.diff(velocity)).max() < 0.05
    assert 0.7 < velocity.mean(axis=1).std() < 1.3


# ── wrong calls ──────────────────────────────────────────────────────────────────────────────────


def test_17_frames_for_patches_of_2_are_refused_in_one_sentence():
    x = np.zeros((1, 17, 1, 4, 6), np.float32)
    with pytest.raises(ValueError, match="17 frames.*multiple of 2") as error:
        answer(network_of(), x)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: VideoDiT(dim=10, heads=4), "heads"),
        (lambda: VideoDiT(attention="all"), "attention"),
        (lambda: VideoDiT(attention="frames", summary=True), "no frame may know another"),
        (lambda: VideoDiffusion(network_of(), VAE(24, 3)), "codes of vae"),
        (lambda: VideoDiffusion(network_of()).encode(VIDEOS), "standardise"),
        (lambda: network_of()(Tensor(VIDEOS), Tensor(TIMES), Tensor(VIDEOS)), "belong together"),
        (
            lambda: VideoBlock(6, 1)(
                Tensor(np.ones((1, 2, 6))), Tensor(np.ones((1, 6))), grid_of(2, 1), "all"
            ),
            "look",
        ),
        (
            lambda: diffusion_of(network_of()).predict(VIDEOS[:, :2], 4, w=1.0),
            "guidance needs texts",
        ),
        (lambda: diffusion_of(network_of()).predict(VIDEOS, 2), "more than frames"),
        (
            lambda: diffusion_of(network_of()).predict(VIDEOS[:, :3], 17),
            "^VideoDiffusion.predict: frames is 17, which counts the given ones; this network "
            "needs a multiple of 2$",
        ),
        (
            lambda: diffusion_of(network_of()).predict(VIDEOS[:, :3].repeat(2, axis=2), 8),
            "^VideoDiffusion.predict: given has shape .* takes frames of",
        ),
        (
            lambda: diffusion_of(network_of()).predict(VIDEOS[:, :3, :, :-1], 8),
            "^VideoDiffusion.predict: given has shape .* whose H is a multiple",
        ),
        (
            lambda: diffusion_of(network_of()).predict(VIDEOS[:, :3], 8, IDS),
            "^VideoDiffusion.predict: ids .* without words",
        ),
        (
            lambda: diffusion_of(network_of()).predict(VIDEOS[:, :3], 8, steps=1),
            "^VideoDiffusion.predict: steps is 1; .* at least 2",
        ),
        (lambda: diffusion_of(network_of()).extend(VIDEOS[:, :1], 8), "keep"),
        (lambda: first_frames(np.array([5]), 4), "from 0 to 4"),
        (lambda: network_of()(Tensor(VIDEOS), Tensor(TIMES), ids=IDS), "without words"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_a_gradient_reaches_the_known_frames_and_only_them():
    given = Tensor(np.where(SEEN[:, :, None, None, None], VIDEOS, np.nan), requires_grad=True)
    network_of()(VIDEOS, TIMES, given, SEEN).sum().backward()
    moved = given.grad.numpy()
    assert (moved[~SEEN] == 0).all() and (moved[SEEN] != 0).any()


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_videos_that_never_change_cannot_be_standardised(value):
    model = VideoDiffusion(network_of())
    with pytest.raises(ValueError, match=r"standardise: a channel of videos"):
        model.standardise(np.full_like(VIDEOS, value))


def test_the_example_of_the_docstring_runs():
    lines = [line for line in VideoDiffusion.__doc__.splitlines() if line.startswith(" " * 8)]
    names = {"tinycv": tinycv, "np": np, "first_frames": first_frames}
    names |= {"VideoDiT": VideoDiT, "VideoDiffusion": VideoDiffusion}
    exec(textwrap.dedent("\n".join(lines)), names)
    assert names["longer"].shape == (3, 8, 1, 16, 16) and np.isfinite(names["loss"].item())
