"""Files of weights: what is written comes back, float16 costs nothing unannounced, and a wrong file
is refused in words."""

import json

import numpy as np
import pytest

from tinycv import nn
from tinycv.engine.tensor import Tensor
from tinycv.training import checkpoint, pretrained
from tinycv.training.checkpoint import CheckpointError

CONFIG = {"in_features": 3, "out_features": 2}
RECORD = {
    "demo": "00_none",
    "script": "0123",
    "size": "default",
    "seed": 7,
    "config": {"layer": CONFIG},
    "training": {"seconds": 1.5},
    "rows": [{"metric": "share", "value": 0.25}],
    "versions": {},
    "cpu": {},
}


def layer():
    model = nn.Linear(3, 2)
    pretrained.round_to_half(model)
    return model


def written(path, model, **changes):
    pretrained.write(path, pretrained.arrays_of({"layer": model}), RECORD | changes)
    return pretrained.read(path)


def test_a_file_gives_back_the_model_and_the_record_of_its_training(tmp_path):
    model = layer()
    weights = written(tmp_path / "a.safetensors", model)
    again = weights.build("layer", nn.Linear)
    x = Tensor(np.ones((4, 3), np.float32))
    assert (again(x).numpy() == model(x).numpy()).all() and not again.training
    assert again.weight.dtype == np.float32
    assert weights.config["layer"] == CONFIG and weights.training == {"seconds": 1.5}
    assert weights.value("share") == 0.25 and weights.record["seed"] == 7
    assert str(weights) == str(tmp_path / "a.safetensors")


def test_rounded_parameters_are_two_bytes_on_disk_and_others_keep_their_four(tmp_path):
    rounded, exact = layer(), nn.Linear(3, 2)
    arrays = pretrained.arrays_of({"rounded": rounded, "exact": exact})
    assert arrays["rounded/weight"].dtype == np.float16
    assert arrays["exact/weight"].dtype == np.float32


def test_the_buffers_of_batch_norm_are_not_rounded(tmp_path):
    norm = nn.BatchNorm2d(1)
    norm.running_var.data = np.array([1e-9], np.float32)  # float16 would make it 0
    pretrained.round_to_half(norm)
    weights = pretrained.arrays_of({"norm": norm})
    assert weights["norm/running_var"] == np.float32(1e-9)


def test_a_parameter_beyond_the_range_of_float16_stays_float32():
    model = nn.Linear(1, 1)
    model.weight.data = np.array([[70_000.3]], np.float32)
    pretrained.round_to_half(model)
    assert model.weight.numpy() == np.float32(70_000.3)
    assert pretrained.arrays_of({"m": model})["m/weight"].dtype == np.float32


def test_a_copy_is_taken_so_that_a_later_step_does_not_change_what_is_written():
    model = layer()
    arrays = pretrained.arrays_of({"layer": model})
    before = arrays["layer/weight"].copy()
    model.weight.data = model.weight.data + 1
    assert (arrays["layer/weight"] == before).all()


def test_sizes_that_json_keeps_as_lists_come_back_as_tuples(tmp_path):
    config = {"layer": {"widths": (8, 16), "stages": [(1, 2), (3, 4)]}}
    found = written(tmp_path / "a.safetensors", layer(), config=config).config["layer"]
    assert found == {"widths": (8, 16), "stages": ((1, 2), (3, 4))}


def test_a_demo_without_a_file_gets_the_command_that_makes_it():
    with pytest.raises(FileNotFoundError, match=r"`python demos/00_none\.py`.* trains them"):
        pretrained.read("00_none")


def test_a_path_with_another_ending_is_not_taken_for_the_name_of_a_demo(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"my\.pt: the name of a file .* \.safetensors"):
        pretrained.read(tmp_path / "my.pt")


def test_the_installed_package_comes_before_the_clone(tmp_path, monkeypatch):
    folders = tmp_path / "installed", tmp_path / "clone"
    monkeypatch.setattr(pretrained, "FOLDERS", folders)
    written(folders[1] / "00_none.safetensors", layer(), seed=1)
    assert pretrained.read("00_none").record["seed"] == 1
    written(folders[0] / "00_none.safetensors", layer(), seed=2)
    assert pretrained.read("00_none").record["seed"] == 2


def test_a_model_of_another_size_is_left_as_it_was(tmp_path):
    weights = written(tmp_path / "a.safetensors", layer())
    wide = nn.Linear(4, 2)
    before = wide.weight.numpy().copy()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .*weight"):
        weights.load("layer", wide)
    assert (wide.weight.numpy() == before).all()


def test_a_name_that_the_file_does_not_have_is_answered_with_those_it_has(tmp_path):
    weights = written(tmp_path / "a.safetensors", layer())
    with pytest.raises(ValueError, match="no model 'vit'; it has layer"):
        weights.build("vit", nn.Linear)
    with pytest.raises(ValueError, match="no figure 'recall'; it has 'share'"):
        weights.value("recall")


def test_a_model_whose_config_was_not_kept_cannot_be_built_but_loaded(tmp_path):
    weights = written(tmp_path / "a.safetensors", layer(), config={})
    with pytest.raises(ValueError, match="does not say how its model 'layer' is built"):
        weights.build("layer", nn.Linear)
    weights.load("layer", nn.Linear(3, 2))


def test_a_safetensors_file_that_no_demo_wrote_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save_model(path, layer())
    with pytest.raises(CheckpointError, match="no demo wrote this file: its state has no demo"):
        pretrained.read(path)


def test_a_record_that_lacks_something_is_not_written(tmp_path):
    record = {key: value for key, value in RECORD.items() if key not in ("seed", "rows")}
    with pytest.raises(ValueError, match="record has no seed, rows"):
        pretrained.write(tmp_path / "a.safetensors", {}, record)
    assert not list(tmp_path.iterdir())


def test_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    written(path, layer())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        pretrained.read(path)


def test_nan_is_refused(tmp_path):
    model = layer()
    model.weight.data = np.full((2, 3), np.nan, np.float32)
    with pytest.raises(CheckpointError, match="NaN in layer/?weight|NaN in weight"):
        written(tmp_path / "a.safetensors", model).load("layer", nn.Linear(3, 2))


def test_the_record_is_json_that_other_programs_read(tmp_path):
    import safetensors

    path = tmp_path / "a.safetensors"
    written(path, layer())
    with safetensors.safe_open(path, "numpy") as file:
        state = json.loads(file.metadata()["tinycv_state"])
    assert state["demo"] == "00_none" and state["config"]["layer"]["in_features"] == 3
