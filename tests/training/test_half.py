"""Half precision learns as well as float32, thanks to master weights and a scaled loss; without
either of them it does not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from cupy_double import counting
from seeds import SEED

import tinycv
from tinycv import Tensor, nn
from tinycv.data import DataLoader
from tinycv.engine import backend
from tinycv.nn.functional import cross_entropy
from tinycv.optim import SGD, AdamW, clip_grad_norm_
from tinycv.optim.averaged import EMA
from tinycv.training import parallel
from tinycv.training.checkpoint import CheckpointError, load
from tinycv.training.half import Half
from tinycv.training.loop import fit
from tinycv.vision import ViT

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(32, 1, 8, 8)).astype("float32"), np.arange(32) % 4


def vit(device="cpu"):
    tinycv.manual_seed(SEED)
    return ViT(image_size=8, patch_size=4, num_classes=4, dim=16, depth=1, heads=2).to(device)


def loss_of(model, x, y):
    return cross_entropy(model(x), y)


def trained(model, optimizer, steps=40):
    x, y, losses = (
        Tensor(IMAGES, device=model.head.weight.device),
        Tensor(LABELS, device=model.head.weight.device),
        [],
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        optimizer.backward(loss)
        clip_grad_norm_(optimizer.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.statistical
def test_a_vit_in_half_precision_learns_like_one_in_float32(device):
    model, other = vit(device), vit(device)
    full = trained(model, AdamW(model.parameters(), lr=3e-3))
    half = trained(other, Half(other, partial(AdamW, lr=3e-3), scale=2.0**8))
    assert {p.dtype for p in other.parameters()} == {np.dtype("float16")}
    assert full[-1] / full[0] < 0.5
    assert np.abs(np.subtract(half, full)).max() < 0.02


def line(scale=2.0**10, lr=0.1, start=1.0, interval=2000, device="cpu"):
    """(a model with one weight, its Half)."""
    model = nn.Linear(1, 1, bias=False).to(device)
    model.weight.data[...] = start
    return model, Half(model, partial(SGD, lr=lr), scale=scale, interval=interval)


def step(model, half, factor=1.0):
    half.zero_grad()
    half.backward((model(Tensor(np.ones((1, 1)), device=model.weight.device)) * factor).sum())
    half.step()


def test_an_overflow_skips_the_step_and_halves_the_scale(device):
    model, half = line(scale=2.0**20, device=device)  # 2**20 is no float16
    for i in range(5):
        step(model, half)
        assert (
            model.weight.item() == 1.0 and half.skipped == i + 1 and half.scale == 2.0 ** (19 - i)
        )
    step(model, half)
    assert (
        half.skipped == 5
        and half.scale == 2.0**15
        and model.weight.item() == pytest.approx(0.9, abs=1e-3)
    )


def test_the_scale_doubles_after_interval_good_steps():
    model, half = line(scale=4.0, interval=3, lr=0.0)
    for _ in range(7):
        step(model, half)
    assert half.scale == 16.0


def test_small_gradients_become_0_unless_the_loss_is_scaled():
    moved = {}
    for scale in (1.0, 2.0**12):
        model, half = line(scale=scale, lr=1e7, start=0.0)
        step(model, half, factor=1e-8)  # float16 ends at 6e-8
        moved[scale] = -half.masters[0].item()
    assert moved[1.0] == 0 and moved[2.0**12] == pytest.approx(0.1, rel=1e-3)


def test_small_steps_add_up_only_in_the_master_weights():
    model, half = line(lr=1e-4, scale=1.0)
    for _ in range(100):
        step(model, half)
    assert half.masters[0].item() == pytest.approx(
        0.99, abs=1e-5
    ) and model.weight.item() == pytest.approx(0.99, abs=1e-3)
    assert np.float16(1.0) - np.float16(1e-4) == 1  # a hundred times over


def test_gradients_that_were_not_scaled_are_refused():
    model, half = line()
    model(Tensor(np.ones((1, 1), "float16"))).sum().backward()
    with pytest.raises(RuntimeError, match=r"half.backward\(loss\), not loss.backward\(\)"):
        half.step()


def test_a_parameter_without_a_gradient_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    half = Half(model, partial(AdamW, lr=0.1), scale=2.0**8)
    before = [p.numpy().copy() for p in model.parameters()]
    half.backward(model[1](Tensor(np.ones((3, 2), "float16"))).to("float32").sum())
    half.step()
    same = [
        np.allclose(p.numpy(), b, rtol=1e-3)
        for p, b in zip(model.parameters(), before, strict=True)
    ]
    assert same == [True, True, False, False]


def test_a_half_continues_from_its_saved_state():
    model, other = vit(), vit()
    half = Half(model, partial(AdamW, lr=3e-3))
    trained(model, half, 5)
    kept = half.state_dict()
    again = Half(other, partial(AdamW, lr=3e-3))
    again.load_state_dict(kept)
    assert trained(model, half, 5) == trained(other, again, 5)


def test_a_state_without_master_weights_is_refused_and_changes_nothing():
    model, half = line()
    with pytest.raises(ValueError, match="no master weights of weight"):
        half.load_state_dict({"state": {}, "param_groups": half.state_dict()["param_groups"]})
    assert model.weight.item() == 1.0


def test_a_model_in_half_precision_takes_any_floats_and_returns_float32(device):
    class Both(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 3)

        def forward(self, pair, number, scale):
            assert {pair[0].dtype, scale.dtype} == {
                self.layer.weight.dtype
            } and number.dtype == np.int64
            return self.layer(pair[0]) * scale, [number]

    model = Both().to(device)
    Half(model, partial(SGD, lr=0.1))
    for dtype in ("float32", "float64", "float16"):
        x, scale = (Tensor(np.ones((4, 2)), dtype=dtype, device=device), Tensor(2.0, device=device))
        y, [number] = model((x,), Tensor(3, device=device), scale=scale)
        assert y.dtype == np.float32 and number.dtype == np.int64
    model.to("float32")
    assert model((x,), Tensor(3, device=device), scale=scale)[0].dtype == np.float32


@pytest.mark.parametrize("first", [True, False], ids=["EMA made first", "Half made first"])
def test_ema_averages_the_master_weights(first, device):
    model = nn.Linear(1, 1, bias=False).to(device)
    model.weight.data[...] = 1.0
    ema = EMA(model, decay=0.99) if first else None
    half = Half(model, partial(SGD, lr=1e-4), scale=1.0)
    ema, average, weight = ema or EMA(model, decay=0.99), 1.0, 1.0
    for _ in range(100):
        step(model, half)
        ema.update()
        weight -= 1e-4
        average = 0.99 * average + 0.01 * weight
    kept = backend.to_numpy(ema.state_dict()["weight"])
    # an average kept in float16 would be 1, or wrong by 5e-4
    assert kept.dtype == np.float32 and kept.item() == pytest.approx(average, abs=1e-6)
    with ema.applied():
        assert model.weight.dtype == np.float16 and model.weight.item() == np.float16(average)
    assert model.weight.item() == np.float16(weight)


def test_fit_resumes_in_half_precision_with_the_same_bits(tmp_path, device):
    def ended(file, *stops):
        for epochs, every in stops:
            model = vit(device)
            # some steps overflow
            half, ema = Half(model, partial(AdamW, lr=3e-3), scale=2.0**30), EMA(model, 0.9)
            fit(
                model,
                half,
                loss_of,
                DataLoader(IMAGES, LABELS, batch_size=8),
                epochs,
                clip=1.0,
                ema=ema,
                progress=False,
                checkpoint=tmp_path / file,
                checkpoint_every=every,
            )
        return load(tmp_path / file)

    (at_once, state), (twice, other) = ended("once", (3, None)), ended("twice", (1, 3), (3, None))
    assert (
        len(state["history"]["losses"]) == 12
        and state["history"]["losses"] == other["history"]["losses"]
    )
    assert at_once.keys() == twice.keys() and all(
        (at_once[name] == twice[name]).all() for name in at_once
    )
    assert {name.split("/")[0]: a.dtype for name, a in at_once.items()} == {
        "model": np.float16,
        "ema": np.float32,
        "optimizer": np.float32,
    }
    assert 2.0**16 < state["optimizer"]["param_groups"][0]["loss_scale"] < 2.0**30


def test_a_float32_training_does_not_resume_in_half_precision(tmp_path):
    model, loader = vit(), DataLoader(IMAGES, LABELS, batch_size=32)
    fit(
        model,
        AdamW(model.parameters()),
        loss_of,
        loader,
        1,
        progress=False,
        checkpoint=tmp_path / "a",
    )
    half = Half(model, AdamW)
    with pytest.raises(CheckpointError, match="optimizer is 'AdamW' there and 'Half' here"):
        fit(model, half, loss_of, loader, 2, progress=False, checkpoint=tmp_path / "a")


def test_a_half_precision_step_waits_once_for_the_gpu(double):
    model = vit("gpu:0")
    half = Half(model, partial(AdamW, lr=1e-3))
    x, y = Tensor(IMAGES, device="gpu"), Tensor(LABELS, device="gpu")
    for _ in range(2):
        with counting() as seen:
            half.zero_grad()
            half.backward(loss_of(model, x, y))
            half.step()
    assert seen.count == 1


# ── Weights that are put into the model later ──


def assigned(model, arrays):
    for p, a in zip(model.parameters(), arrays, strict=True):
        p.data = a


def in_place(model, arrays):
    with tinycv.no_grad():
        for p, a in zip(model.parameters(), arrays, strict=True):
            p[...] = Tensor(a)


def through_data(model, arrays):
    for p, a in zip(model.parameters(), arrays, strict=True):
        p.data[...] = a


def loaded(model, arrays):
    model.load_state_dict(
        {
            name: backend.to_numpy(a)
            for (name, _), a in zip(model.named_parameters(), arrays, strict=True)
        }
    )


@pytest.mark.parametrize("put", [assigned, in_place, loaded])
@pytest.mark.parametrize("steps", [0, 2])
def test_weights_put_into_the_model_later_are_trained(put, steps, device):
    model = vit(device)
    put_and_train(model, put, steps, device)


def test_weights_written_through_data_are_trained_on_a_cpu():
    # on a GPU such a write cannot be noticed: engine/watch.py
    put_and_train(vit(), through_data, 2, "cpu")


def put_and_train(model, put, steps, device):
    half = Half(model, partial(SGD, lr=1e-3), scale=2.0**8)
    if steps:
        trained(model, half, steps)
    fresh = [
        backend.to_device(np.full(p.shape, 0.25, "float16"), device) for p in model.parameters()
    ]
    put(model, fresh)
    saved = half.state_dict()["state"]  # state_dict copies the new weights into the masters
    assert all((backend.to_numpy(kept["master"]) == 0.25).all() for kept in saved.values())
    put(model, [2 * a for a in fresh])
    trained(model, half, 1)
    for p, master in zip(model.parameters(), half.masters, strict=True):
        for t in (p, master):
            assert np.abs(backend.to_numpy(t._data).astype("float32") - 0.5).max() < 0.01


def test_reading_averaging_or_restoring_weights_keeps_the_digits_of_the_masters():
    model, other = vit(), vit()
    half, plain = (Half(m, partial(AdamW, lr=1e-3), scale=2.0**8) for m in (model, other))
    ema = EMA(model)
    for _ in range(3):
        assert trained(model, half, 2) == trained(other, plain, 2)
        ema.update()
        with ema.applied():
            model(Tensor(IMAGES))
        assert all(p.data.dtype == "float16" for p in model.parameters())
        model.load_state_dict(model.state_dict())
        model.to("cpu")
    for a, b in zip(half.masters, plain.masters, strict=True):
        assert (a.numpy() == b.numpy()).all()


@pytest.mark.parametrize("move", ["float32", "gpu"])
def test_casting_or_moving_a_model_after_its_half_was_made_is_refused(move, double):
    model, half = line()
    model.to(move)
    with pytest.raises(
        ValueError,
        match="Half: a weight of the Linear is of .* now, and was of .*float16.*another Half",
    ):
        half.step()


def test_only_the_last_of_two_halves_of_a_model_may_be_used():
    model, half = line()
    again = Half(model, partial(SGD, lr=0.1), scale=2.0**10)
    with pytest.raises(RuntimeError, match="the Linear has another Half since"):
        half.step()
    again.backward(model(Tensor(np.ones((1, 1), "float16"))).sum())
    again.step()
    assert again.masters[0].item() == pytest.approx(0.9, abs=1e-5)


def test_fit_refuses_half_precision_with_several_workers():
    model = vit()
    with (
        parallel.threads(2) as group,
        pytest.raises(ValueError, match="fit: optimizer is a Half, .* with one worker"),
    ):
        loader = DataLoader(IMAGES, LABELS, batch_size=8)
        fit(model, Half(model, SGD), loss_of, loader, 1, progress=False, parallel=group)
