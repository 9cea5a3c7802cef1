"""Randomly damaged weight files: a clear error, or the correct weights; no crash and no hang."""

from __future__ import annotations

import json

import numpy as np
import pytest
from torch_archive import archive, program, tensor

import tinycv
from tinycv.training import checkpoint
from tinycv.training.checkpoint import CheckpointError
from tinycv.vision import ViT, load_vit, save_vit

COUNT = 200  # damaged copies of each kind of file


def weights(folder):
    """A tiny ViT as safetensors and as .pt: {suffix: the bytes of the file}, and its weights."""
    tinycv.manual_seed(0)
    save_vit(folder / "a.safetensors", ViT(4, 2, 3, 1, 4, 1, 2, 5))
    arrays, _ = checkpoint.load(folder / "a.safetensors")
    tree = {name: tensor(str(i), a.shape) for i, (name, a) in enumerate(arrays.items())}
    return {
        "safetensors": (folder / "a.safetensors").read_bytes(),
        "pt": archive(tree, list(arrays.values())),
    }, arrays


def flipped(data, rng):
    """The bytes with one to three bits flipped, most often where the file describes itself."""
    for _ in range(rng.integers(1, 4)):
        data[place(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def cut(data, rng):
    return data[: int(rng.integers(len(data)))]


def overwritten(data, rng):
    start = place(data, rng)
    part = slice(start, start + int(rng.integers(1, 9)))
    data[part] = rng.choice([bytes(8), b"\xff" * 8, rng.bytes(8)])[: len(data[part])]
    return data


def inserted_or_taken_out(data, rng):
    start, length = place(data, rng), int(rng.integers(1, 9))
    data[start : start + (length if rng.random() < 0.5 else 0)] = (
        rng.bytes(length) if rng.random() < 0.5 else b""
    )
    return data


def place(data, rng):
    """A random position, two times out of three in the first or last 1500 bytes, where header,
    pickle and directory are."""
    anywhere, near = int(rng.integers(len(data))), int(rng.integers(min(1500, len(data))))
    return (anywhere, near, len(data) - 1 - near)[rng.integers(3)]


def swapped_in_safetensors(data, rng):
    """The file with the offsets, sizes, types or names of two header entries exchanged."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    a, b = rng.choice([name for name in header if name != "__metadata__"], 2, replace=False)
    what = rng.choice(["data_offsets", "shape", "dtype", "all"])
    if what == "all":
        header[a], header[b] = header[b], header[a]
    elif what == "dtype":
        header[a]["dtype"] = str(rng.choice(["F16", "BF16", "I32", "F64", "BOOL", "F99"]))
    else:
        header[a][what], header[b][what] = header[b][what], header[a][what]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def swapped_in_pt(data, rng):
    """The file with two names in the zip directory, or the bytes of two storages, exchanged."""
    names = [f"archive/data/{i}".encode() for i in rng.choice(10, 2, replace=False)]
    places = [data.rindex(name) if rng.random() < 0.5 else data.index(name) for name in names]
    for at, name in zip(places, reversed(names), strict=True):
        data[at : at + len(name)] = name
    return data


DAMAGES = {
    "safetensors": [flipped, cut, overwritten, inserted_or_taken_out, swapped_in_safetensors],
    "pt": [flipped, cut, overwritten, inserted_or_taken_out, swapped_in_pt],
}


def outcome(path, data):
    """None if the file was refused in one line that names it; otherwise the weights."""
    path.write_bytes(data)
    try:
        model, _ = load_vit(path, heads=2)
    except CheckpointError as error:
        assert (
            str(error).startswith(f"{path}: ") and "\n" not in str(error) and len(str(error)) < 4000
        ), error
        return None
    return {name: t.numpy() for name, t in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("ending", DAMAGES)
def test_a_damaged_file_is_refused_or_loaded_as_it_was(ending, tmp_path):
    files, _ = weights(tmp_path)
    whole, path, refused = files[ending], tmp_path / f"b.{ending}", 0
    true, rng = outcome(path, whole), np.random.default_rng(0)
    assert true is not None
    for i in range(COUNT):
        kind = DAMAGES[ending][i % 5]
        loaded = outcome(path, bytes(kind(bytearray(whole), rng)))
        refused += loaded is None
        for name in loaded or ():
            np.testing.assert_array_equal(
                loaded[name], true[name], f"{name}, after damage {i}, {kind.__name__}"
            )
    assert refused > COUNT * 2 / 3


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_a_damaged_pickle_with_a_correct_checksum_is_refused_or_gives_arrays(tmp_path):
    """Here the pickle reader gets programs that make no sense. For programs that do, see
    tests/training/test_torch_file.py."""
    _, arrays = weights(tmp_path)
    whole = program({name: tensor(str(i), a.shape) for i, (name, a) in enumerate(arrays.items())})
    path, rng, refused = tmp_path / "b.pt", np.random.default_rng(1), 0
    for i in range(COUNT):
        path.write_bytes(
            archive(bytes(DAMAGES["pt"][i % 4](bytearray(whole), rng)), list(arrays.values()))
        )
        try:
            loaded, _ = checkpoint.load(path)
            # every number can be read; none lies outside the file
            assert all(len(a.tobytes()) == a.nbytes for a in loaded.values())
        except CheckpointError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > COUNT / 2
