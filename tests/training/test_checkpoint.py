"""A checkpoint is written completely or not at all; a damaged or foreign file is refused with one
clear sentence."""

import enum
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from tinycv.engine.backend import to_device
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.module import Module
from tinycv.training import checkpoint
from tinycv.training.checkpoint import CheckpointError, load, load_model, save, save_model

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "mean": np.array(0.1),
    "half": np.ones(3, np.float16),
    "none": np.zeros((0, 4), np.float32),
    "labels": np.arange(5),
    "mask": np.array([True, False]),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(9)[::2],
    "foreign order": np.arange(3, dtype=">f4"),
}
STATE = {
    "step": 3,
    "rng": 2**127,
    "loss": [0.1, 1e-300, float("inf")],
    "name": "Zürich",
    "nested": {"a": [None, True]},
}


class Net(Module):
    def __init__(self, value=0.0, width=3):
        self.weight = Parameter(np.full((2, width), value, np.float32))
        self.scale = Tensor(np.full(1, value, np.float32))


def same(arrays, others):
    return arrays.keys() == others.keys() and all(
        a.dtype == others[name].dtype
        and a.shape == others[name].shape
        and a.tobytes() == others[name].tobytes()
        for name, a in arrays.items()
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "some.safetensors"


def test_saved_arrays_load_bit_for_bit(path):
    save(path, ARRAYS, STATE)
    arrays, state = load(path)
    assert (
        same(arrays, {name: a.astype(a.dtype.newbyteorder("=")) for name, a in ARRAYS.items()})
        and state == STATE
    )
    arrays["weight"][0] = 1  # the array is writable


def test_tensors_and_arrays_on_any_device_are_saved(path, device):
    array = to_device(ARRAYS["weight"], device)
    save(path, {"array": array, "tensor": Tensor(array, requires_grad=True)})
    arrays, state = load(path)
    assert same(arrays, {"array": ARRAYS["weight"], "tensor": ARRAYS["weight"]}) and state == {}


def test_safetensors_files_are_exchanged_with_other_programs(path):
    save(path, {"weight": ARRAYS["weight"]}, STATE)
    assert same(safetensors.numpy.load_file(path), {"weight": ARRAYS["weight"]})
    safetensors.numpy.save_file({"weight": ARRAYS["weight"]}, path, {"format": "pt"})
    arrays, state = load(path)
    assert same(arrays, {"weight": ARRAYS["weight"]}) and state == {}


@pytest.mark.parametrize(
    ("arrays", "state", "words"),
    [
        ({"a": np.ones(2, complex)}, {}, "complex128"),
        ({"a": np.array(["x"])}, {}, "a "),
        ({}, {"a": {1, 2}}, "set"),
    ],
)
def test_content_that_the_format_cannot_hold_is_refused_and_the_old_file_stays(
    arrays, state, words, path
):
    save(path, ARRAYS, STATE)
    with pytest.raises(TypeError, match=words):
        save(path, arrays, state)
    assert load(path)[1] == STATE and len(list(path.parent.iterdir())) == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_other(path, monkeypatch):
    save(path, ARRAYS, STATE)
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        save(path, {}, {})
    assert load(path)[1] == STATE and [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_is_synced_before_the_rename_and_the_folder_after_it(path, monkeypatch):
    path.parent.mkdir()
    calls = []
    for name in ("fsync", "replace"):
        true = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, true=true: (calls.append(name), true(*a))
        )
    save(path, ARRAYS)
    assert calls == ["fsync", "replace", "fsync"]


def test_leftovers_of_killed_writes_are_removed_and_other_files_are_not(path):
    path.parent.mkdir()
    keep = [
        path.parent / ".other.safetensors.12345678.partial",
        path.parent / f"{path.name}.partial",
    ]
    for leftover in (path.parent / f".{path.name}.12345678.partial", *keep):
        leftover.write_bytes(b"half")
    save(path, ARRAYS)
    assert {p.name for p in path.parent.iterdir()} == {path.name, *(p.name for p in keep)}


# ── files that are not what they should be ──


def archive(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zipped(buffer):
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02.")


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(**change):
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}})


FOREIGN = {
    "pickle": (pickle.dumps({"a": 1}), "refused: it is a pickle.*run code"),
    "old pickle": (pickle.dumps({"weights": [1.0] * 9}, protocol=2), "refused: it is a pickle"),
    "old torch file": (
        bytes.fromhex("80028a0a6cfc9c46f9206aa850192e"),
        "Old PyTorch files are pickles; convert one with python -c",
    ),
    "empty torch file": (archive(zipped), "damaged: pop from empty list"),
    "npz": (
        archive(lambda b: np.savez(b, a=np.ones(2))),
        "a zip file, but not one that torch.save wrote",
    ),
    "npy": (archive(lambda b: np.save(b, np.ones(2))), "not a safetensors file, but a .npy array"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a safetensors file, but a PNG picture"),
    "html": (b"<!DOCTYPE html><html>404</html>", "HTML"),
    "zeros": (bytes(400), "unknown kind"),
    "empty": (b"", "cut short: 0 bytes"),
    "huge header": (struct.pack("<Q", 2**60) + b"{}", "unknown kind"),
    "long header": (struct.pack("<Q", 2**20) + b"{}", "cut short: the header"),
    "not json": (header("{oops}"), "header is not JSON"),
    "deep json": (header('{"a":' * 50_000), "header is not JSON"),
    "not utf-8": (struct.pack("<Q", 4) + b'{"\xff"', "header is not JSON"),
    "shape lies": (header(entry(shape=[3]), bytes(8)), "damaged"),
    "shape overflows": (header(entry(shape=[2**40, 2**40]), bytes(8)), "damaged"),
    "offsets lie": (header(entry(data_offsets=[0, 80]), bytes(8)), "damaged"),
    "offsets backwards": (header(entry(data_offsets=[8, 0]), bytes(8)), "damaged"),
    "bytes left over": (header(entry(), bytes(16)), "damaged"),
    "float8": (
        header(entry(dtype="F8_E4M3", data_offsets=[0, 2]), bytes(2)),
        "a holds .* F8_E4M3; the types that can be read",
    ),
    "unknown dtype": (header(entry(dtype="F99"), bytes(8)), "damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_or_malformed_file_is_refused(name, tmp_path):
    content, words = FOREIGN[name]
    file = tmp_path / "file.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("state", ["[1]", "{", "[" * 100_000])
def test_a_state_that_is_not_a_json_dict_is_refused(state, path, monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda _: state)
    save(path, ARRAYS)
    with pytest.raises(CheckpointError, match="state is"):
        load(path)


@pytest.mark.parametrize(
    "notes",
    [
        {"state": "x"},
        {"crc32": "7"},
        {"tinycv": "trained with it"},
        {"state": "{}", "format": "pt"},
        {"state": ""},
    ],
    ids=["state", "crc32", "tinycv", "state and format", "empty state"],
)
def test_a_foreign_file_may_have_metadata_of_its_own(notes, path):
    path.parent.mkdir(exist_ok=True)
    safetensors.numpy.save_file({"a": np.ones(1, np.float32)}, path, notes)
    arrays, state = load(path)
    assert state == {} and arrays["a"].tolist() == [1]


@pytest.mark.parametrize("key", checkpoint.METADATA_KEYS)
def test_a_tinycv_file_without_one_metadata_key_is_damaged(key, path):
    save(path, ARRAYS, STATE)
    whole = path.read_bytes()
    assert whole.count(f'"{key}":'.encode()) == 1
    path.write_bytes(whole.replace(f'"{key}":'.encode(), f'"{key[:-1]}_":'.encode()))
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


def test_a_file_of_version_1_is_read_and_its_checksum_compared(path):
    arrays, text = {name: ARRAYS[name] for name in ("weight", "mean")}, json.dumps(STATE)
    notes = {"tinycv": "1", "state": text, "crc32": str(checkpoint._checksum(arrays, text))}
    whole = bytearray(safetensors.numpy.save(arrays, notes))
    path.parent.mkdir()
    path.write_bytes(whole)
    loaded, state = load(path)
    assert same(loaded, arrays) and state == STATE
    whole[-1] ^= 64  # a weight
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


@pytest.mark.parametrize("length", range(1, 17))
def test_deleting_bytes_never_makes_a_file_of_ours_look_like_one_of_another_program(length, path):
    """Bytes deleted between two keys of the metadata may run both into one, and a second fault then
    changes a weight: with the keys gone, nobody would compare the checksum."""
    weight = np.zeros(3, np.float32)
    save(path, {"weight": weight}, STATE)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 64  # the last weight
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(8, start - length):
        header = whole[8:place] + whole[place + length : start]
        path.write_bytes(len(header).to_bytes(8, "little") + header + whole[start:])
        with pytest.raises(CheckpointError):
            load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for place in (tmp_path / "no", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load(place)


def test_another_version_is_refused(path, monkeypatch):
    monkeypatch.setattr("tinycv.training.checkpoint.VERSION", "0")
    save(path, ARRAYS)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="another version"):
        load(path)


def test_a_file_cut_short_anywhere_is_refused(path):
    save(path, {"weight": ARRAYS["weight"], "mask": ARRAYS["mask"]}, STATE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load(path)


def damaged(whole, rng):
    data = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data)))
        length = int(rng.integers(1, 9))
        part, random = slice(place, place + length), rng.bytes(length)
        kind = rng.integers(4)
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[part] = random[: len(data[part])]
        elif kind == 2:
            del data[part]
        else:
            data[place:place] = random
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_refused_and_never_loads_other_values(seed, path):
    arrays = {name: ARRAYS[name] for name in ("weight", "mean", "mask")}
    save(path, arrays, STATE)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(seed), 0
    for _ in range(250):
        path.write_bytes(damaged(whole, rng))
        try:
            loaded, state = load(path)
        except CheckpointError:
            refused += 1
        else:
            assert same(loaded, arrays) and state == STATE
    assert refused > 200


def test_bfloat16_becomes_the_float32_of_the_same_value(path):
    path.parent.mkdir()
    # 0x3fc0, 0xc000
    path.write_bytes(header(entry(dtype="BF16", data_offsets=[0, 4]), bytes.fromhex("c03f 00c0")))
    assert same(load(path)[0], {"a": np.array([1.5, -2], np.float32)})


# ── models ──


def test_a_saved_model_loads_again(path):
    save_model(path, Net(2.0))
    model = Net(0.0)
    load_model(path, model)
    assert (model.weight._data == 2).all() and (model.scale._data == 2).all()


def test_load_model_reads_the_weights_in_a_training_checkpoint(path):
    save(
        path,
        {
            "model/weight": np.ones((2, 3)),
            "model/scale": np.ones(1),
            "optimizer/weight/exp_avg": np.zeros(1),
        },
    )
    model = Net(0.0)
    load_model(path, model)
    assert (model.weight._data == 1).all()


def test_weights_that_are_nan_are_refused_by_name_and_nothing_changes(path):
    save(path, {"weight": np.full((2, 3), np.nan, np.float32), "scale": np.ones(1)})
    model = Net(0.0)
    with pytest.raises(CheckpointError, match="Net was left unchanged; NaN in: weight$"):
        load_model(path, model)
    assert (model.scale._data == 0).all()


@pytest.mark.parametrize("name", ["weight", "scale"])
def test_a_model_with_a_nan_is_not_saved_over_a_good_file(name, path, device):
    model = Net(2.0).to(device)
    save_model(path, model)
    good, array = path.read_bytes(), getattr(model, name).numpy().copy()
    array.flat[-1] = np.nan
    model.load_state_dict({name: array}, strict=False)
    with pytest.raises(ValueError, match=f"^save_model: Net was not saved; NaN in: {name}$"):
        save_model(path, model)
    assert path.read_bytes() == good and list(path.parent.iterdir()) == [path]


def test_a_tuple_loads_as_a_list_and_an_enum_as_its_number(path):
    class Kind(enum.IntEnum):
        ONE = 1

    save(path, {}, {"shape": (1, (2, 3)), "kind": Kind.ONE})
    assert load(path)[1] == {"shape": [1, [2, 3]], "kind": 1} and type(load(path)[1]["kind"]) is int


def test_the_weights_of_another_model_are_refused_by_name_and_nothing_changes(path):
    save_model(path, Net(2.0, width=4))
    model = Net(0.0)
    with pytest.raises(CheckpointError, match=r"weight is \(2, 4\), should be \(2, 3\)"):
        load_model(path, model)
    assert (model.scale._data == 0).all()
