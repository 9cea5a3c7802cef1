"""The weights of a ViT, read from and written to the layouts of timm, torchvision and Hugging Face,
give the same scores."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import safetensors.torch
from torch_vits import SMALL, TWINS, small
from twin import randomised

import tinycv
from tinycv import Tensor, no_grad
from tinycv.engine.backend import resolve
from tinycv.vision import ViT, load_vit, save_vit
from tinycv.vision.resize import resized

IMAGES = np.random.default_rng(0).normal(size=(3, 3, 24, 24)).astype(np.float32)
LAYOUT = pytest.mark.parametrize("layout", TWINS)
CLOSE = 1e-4


def ours_say(model, images=IMAGES, device="cpu"):
    with no_grad():
        return model(Tensor(images, device=device)).numpy()


def theirs_say(model, images=IMAGES):
    with torch.no_grad():
        return model.eval()(torch.tensor(images)).numpy()


def assert_close(a, b):
    """The scores agree within CLOSE; they are also large enough for that to mean something, and
    differ from image to image."""
    assert np.abs(b).max() > 0.5 and b.std(axis=0).min() > 0.05
    assert np.abs(a - b).max() < CLOSE


SAVES = {"safetensors": safetensors.torch.save_file, "pt": torch.save}


@LAYOUT
@pytest.mark.parametrize("ending", SAVES)
def test_a_vit_with_weights_from_another_library_has_the_same_scores(
    layout, ending, tmp_path, device
):
    theirs = randomised(small[layout]())
    SAVES[ending](theirs.state_dict(), tmp_path / f"a.{ending}")
    model, about = load_vit(tmp_path / f"a.{ending}", heads=2)
    assert_close(ours_say(model.to(resolve(device)), device=device), theirs_say(theirs))
    assert about["layout"] == layout and about["heads_from"] == "the argument"


@LAYOUT
def test_exported_weights_give_the_same_scores_in_pytorch(layout, tmp_path):
    tinycv.manual_seed(0)
    model = ViT(
        24, 4, 5, 3, 16, 3, 2, 24, layer_norm_eps=1e-12 if layout == "huggingface" else 1e-6
    ).eval()
    for p in model.parameters():
        p.data = p.data + np.random.default_rng(p.size).normal(0, 0.3, p.shape).astype(np.float32)
    save_vit(tmp_path / "a.safetensors", model, layout)
    theirs = small[layout]()
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "a.safetensors"), strict=True)
    assert_close(ours_say(model), theirs_say(theirs))
    again, about = load_vit(tmp_path / "a.safetensors")
    assert (ours_say(again) == ours_say(model)).all() and about[
        "heads_from"
    ] == "a note in the file"


@pytest.mark.parametrize("source", TWINS)
@pytest.mark.parametrize("target", TWINS)
def test_weights_convert_from_every_library_to_every_other(source, target, tmp_path):
    theirs, others = randomised(small[source]()), small[target](eps=1e-6)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "a.safetensors")
    save_vit(tmp_path / "b.safetensors", load_vit(tmp_path / "a.safetensors", heads=2)[0], target)
    others.load_state_dict(safetensors.torch.load_file(tmp_path / "b.safetensors"), strict=True)
    assert_close(theirs_say(others), theirs_say(theirs))


@pytest.mark.parametrize(
    "layout, eps", [("timm", 1e-6), ("torchvision", 1e-6), ("huggingface", 1e-12)]
)
def test_each_layout_uses_the_layer_norm_epsilon_of_its_library(layout, eps, tmp_path):
    """The epsilon matters if the variance is as small as epsilon."""
    theirs = small[layout]()
    with torch.no_grad():
        for p in theirs.parameters():
            p.mul_(1e-3 if p.ndim > 1 else 1)
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    model, about = load_vit(tmp_path / "a.pt", heads=2)
    assert about["layer_norm_eps"] == model.norm.eps == model.blocks[2].norm2.eps == eps
    np.testing.assert_allclose(ours_say(model), theirs_say(theirs), rtol=1e-3, atol=1e-7)


@LAYOUT
@pytest.mark.parametrize("image", [12, 16, 36, 44])
def test_for_another_image_size_positions_are_resized_as_by_hugging_face(layout, image, tmp_path):
    theirs = randomised(small["huggingface"](eps=1e-6))
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    save_vit(tmp_path / "a.safetensors", load_vit(tmp_path / "a.pt", heads=2)[0], layout)
    model, _ = load_vit(tmp_path / "a.safetensors", image_size=image)
    images = np.random.default_rng(1).normal(size=(3, 3, image, image)).astype(np.float32)
    model.norm.eps = 1e-6
    for block in model.blocks:
        block.norm1.eps = block.norm2.eps = 1e-6
    assert_close(ours_say(model, images), theirs_say(theirs, images))


@pytest.mark.parametrize("old, new", [(1, 3), (2, 5), (14, 24), (24, 14), (5, 5)])
def test_positions_are_interpolated_like_bicubic_in_pytorch(old, new):
    known = np.random.default_rng(0).normal(size=(1, 1 + old * old, 6))
    grid = torch.tensor(known[:, 1:]).unflatten(1, (old, old)).permute(0, 3, 1, 2)
    theirs = (
        torch.nn.functional.interpolate(grid, size=(new, new), mode="bicubic")
        .permute(0, 2, 3, 1)
        .flatten(1, 2)
    )
    ours = resized(known, new)
    np.testing.assert_allclose(ours[:, 1:], theirs.numpy(), atol=1e-12)
    np.testing.assert_array_equal(ours[:, 0], known[:, 0])


def test_the_older_parameter_names_of_torchvision_are_read(tmp_path):
    theirs = randomised(small["torchvision"]())
    older = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t
        for name, t in theirs.state_dict().items()
    }
    assert older.keys() != theirs.state_dict().keys()
    torch.save(older, tmp_path / "a.pth")
    assert_close(ours_say(load_vit(tmp_path / "a.pth", heads=2)[0]), theirs_say(theirs))


def test_half_and_bfloat16_weights_are_read(tmp_path):
    theirs = randomised(small["timm"]())
    for dtype in (torch.float16, torch.bfloat16):
        halves = {name: t.to(dtype) for name, t in theirs.state_dict().items()}
        safetensors.torch.save_file(halves, tmp_path / "a.safetensors")
        theirs.load_state_dict(halves)
        assert_close(ours_say(load_vit(tmp_path / "a.safetensors", heads=2)[0]), theirs_say(theirs))


def test_the_sizes_of_the_model_are_read_from_the_file(tmp_path):
    torch.save(small["huggingface"]().state_dict(), tmp_path / "a.pt")
    model, _ = load_vit(tmp_path / "a.pt", heads=2)
    assert {
        "image": model.image_size,
        "patch": model.patch_size,
        "channels": model.channels,
        "dim": model.cls_token.shape[2],
        "depth": len(model.blocks),
        "heads": model.blocks[0].self_attn.num_heads,
        "mlp": model.blocks[0].linear1.weight.shape[0],
        "classes": model.head.weight.shape[0],
    } == SMALL
