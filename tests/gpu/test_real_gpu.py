"""On a real GPU only (skipped elsewhere): what a double of CuPy cannot show."""

import numpy as np
import pytest

import tinycv
from tinycv import doctor
from tinycv.engine import backend, check
from tinycv.nn.functional import cross_entropy
from tinycv.optim import AdamW, clip_grad_norm_
from tinycv.vision import ViT

pytestmark = pytest.mark.skipif(backend.gpu_problem() is not None, reason=f"no GPU: {backend.gpu_problem()}")


def test_every_derivative_is_certified_on_the_gpu(capsys):
    assert check.main(["--device", "gpu"]) == 0, capsys.readouterr().out


def trained(device, steps=20):
    """The losses and the weights of a small ViT after some steps on one batch."""
    tinycv.manual_seed(0)
    model = ViT(image_size=8, patch_size=2, num_classes=10, dim=32, depth=2, heads=4).to(device)
    images, labels = tinycv.rand(32, 1, 8, 8).to(device), tinycv.tensor(np.arange(32) % 10, device=device)
    optimizer, losses = AdamW(model.parameters(), lr=1e-3), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels, label_smoothing=0.1)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: t.numpy() for name, t in model.state_dict().items()}


def test_a_vit_learns_on_the_gpu_as_on_the_cpu():
    (cpu_losses, cpu), (gpu_losses, gpu) = trained("cpu"), trained("gpu")
    assert cpu_losses[-1] < cpu_losses[0]
    np.testing.assert_allclose(gpu_losses, cpu_losses, rtol=1e-3)
    for name, weights in cpu.items():
        np.testing.assert_allclose(gpu[name], weights, atol=5e-3, err_msg=name)


def test_noise_drawn_on_the_gpu_is_standard_normal_and_repeats_by_its_seed():
    xp = backend.module_for(backend.resolve("gpu"))
    draws = []
    for _ in range(2):
        tinycv.manual_seed((1, 2))
        draws.append(backend.to_numpy(backend.standard_normal((200_000,), xp)))
    assert (draws[0] == draws[1]).all()
    assert abs(draws[0].mean()) < 0.01 and abs(draws[0].std() - 1) < 0.01 and abs((draws[0] ** 4).mean() - 3) < 0.1


def test_the_doctor_names_the_gpu():
    assert doctor.report()["gpu"]["usable"] and doctor.report()["gpu"]["names"]
