"""Loading a small malicious file needs little memory and work: what a file of weights claims is
checked before anything is built from it.

Memory is the peak that tracemalloc measures, compared with the size of the file. Work is the number
of instructions and entries, not seconds.
"""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from torch_archive import archive, tensor

from tinycv.training import checkpoint, safetensors_header, torch_pickle
from tinycv.training.checkpoint import CheckpointError, load, save

MEGABYTE = 1_000_000


def safetensors_file(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def peak(path):
    """(peak memory of loading in bytes, the error message or None)."""
    tracemalloc.start()
    try:
        load(path)
        error = None
    except CheckpointError as caught:
        error = str(caught)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most, error


SIZE = 2 * MEGABYTE
LONG = {
    "empty objects": b"{" + b",".join(b'"%x":{}' % i for i in range(SIZE // 12)) + b"}",
    "one name again and again": b"{" + b",".join([b'"a":{}'] * (SIZE // 7)) + b"}",
    "nested lists": b'{"a":' + b"[" * SIZE,
    "nested objects": b'{"a":' * (SIZE // 5),
    "lists in a description": b'{"a":{"dtype":"F32","shape":[' + b"[]," * (SIZE // 3) + b"[]]}}",
    "a long number": b'{"a":{"shape":[' + b"9" * SIZE + b"]}}",
    "notes": b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(SIZE // 12)) + b"}}",
    "notes that are no text": b'{"__metadata__":{"a":[' + b"{}," * (SIZE // 3) + b"{}]}}",
    "an open string": b'{"' + b'\\"' * (SIZE // 2),
    "spaces": b"{" + b" " * SIZE,
    "not ASCII": b'{"' + "\U0001f600".encode() * (SIZE // 4) + b'":{}}',
    "empty tensors": b"{"
    + b",".join(
        b'"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(SIZE // 58)
    )
    + b"}",
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_header_needs_only_a_few_times_its_length_in_memory(name, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_file(LONG[name]))
    most, error = peak(path)
    assert error is not None and "\n" not in error and len(error) < 400
    assert most < 4 * len(LONG[name]) + 2 * MEGABYTE


def ours(state):
    """A tinycv file with this text as its state, and the correct checksum."""
    crc = checkpoint._checksum({}, state)
    notes = zip(checkpoint.METADATA_KEYS, (checkpoint.VERSION, state, str(crc)), strict=True)
    return safetensors_file(json.dumps({"__metadata__": dict(notes)}).encode())


@pytest.mark.parametrize("part", ["[],", "{},", '"",', "1,", "[[]],"])
def test_a_state_of_many_small_values_is_refused_before_it_is_built(part, tmp_path):
    state = '{"a": [' + part * (SIZE // len(part)) + "0]}"
    path = tmp_path / "a.safetensors"
    path.write_bytes(ours(state))
    most, error = peak(path)
    assert "values in" in error and most < 8 * len(state)


def test_a_long_history_is_saved_and_loaded(tmp_path):
    losses = np.random.default_rng(0).random(100_000).tolist()
    state = {
        "losses": losses,
        "pairs": [[a, b] for a, b in zip(losses, losses, strict=True)],
        "small": [0] * 150_000,
    }
    # more values than any state may have, however short it is
    assert 4 * len(losses) + len(state["small"]) > safetensors_header.FREE_VALUES
    save(tmp_path / "a", {"w": np.ones(2)}, state)
    assert load(tmp_path / "a")[1] == state


def test_a_state_that_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="save large lists as tensors"):
        save(tmp_path / "a", {}, {"a": [0] * 1_000_000})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [[0, 2**40], [0, 2**63], [2**62, 0, 2**62], [1] * 65, [0] * 70, [2**64, 0]]
)
def test_a_shape_that_numpy_cannot_have_is_refused(shape, tmp_path):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0 if 0 in shape else 4]}
    (tmp_path / "a").write_bytes(
        safetensors_file(json.dumps({"a": entry}).encode(), b"" if 0 in shape else bytes(4))
    )
    try:
        arrays, _ = load(tmp_path / "a")
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert arrays["a"].shape == tuple(shape) and arrays["a"].size == 0


def test_as_many_tensors_as_models_have_are_read(tmp_path):
    arrays = {f"layer.{i}.weight": np.ones(1, np.float32) for i in range(9_000)}
    safetensors.numpy.save_file(arrays, tmp_path / "a")
    assert load(tmp_path / "a")[0].keys() == arrays.keys()


def test_the_scanner_agrees_with_json(tmp_path):
    header = {
        "__metadata__": {'a"b\\': "c\n\u00e9{[,", "": ""},
        "x {} [": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        'y\\"': {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
    }
    for space in ({}, {"indent": 1}, {"separators": (" ,\t", " :\r\n")}):
        text = json.dumps(header, **space).encode() + b"   "
        assert safetensors_header.notes_of(text, 8) == header["__metadata__"]
        (tmp_path / "a").write_bytes(safetensors_file(text, bytes(8)))
        assert load(tmp_path / "a")[0].keys() == {"x {} [", 'y\\"'}


# ── .pt files ──


def counted(monkeypatch):
    """A list with one number: how many instructions the machine has read."""
    seen, genops = [0], torch_pickle.genops

    def counting(program):
        for step in genops(program):
            seen[0] += 1
            yield step

    monkeypatch.setattr(torch_pickle, "genops", counting)
    return seen


@pytest.mark.parametrize("code", [b"(", b"]", b"}", b")", b"N", b"(d", b"]q\x00h\x00"])
def test_a_pickle_of_many_instructions_ends_early(code, tmp_path, monkeypatch):
    seen, path = counted(monkeypatch), tmp_path / "a.pt"
    path.write_bytes(archive(code * (3_900_000 // len(code)) + b"."))
    most, error = peak(path)
    assert "instructions" in error or "refused" in error or "damaged" in error
    assert seen[0] < 110_000 and most < 30 * MEGABYTE


def test_a_directory_of_many_entries_is_refused_before_it_is_built(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("archive/data/12345", b"")
        # its list of entries names one empty file 40,000 times
        zipped.filelist *= 40_000
    (tmp_path / "a.pt").write_bytes(file.getvalue())
    most, error = peak(tmp_path / "a.pt")
    assert "its list of entries has" in error and most < MEGABYTE


def test_a_storage_of_two_types_is_refused(tmp_path):
    tree = {"a": tensor("0", (2,)), "b": tensor("0", (2,), kind="IntStorage")}
    (tmp_path / "a.pt").write_bytes(archive(tree, [np.ones(2, np.float32)]))
    with pytest.raises(CheckpointError, match="storage 0 has two types"):
        load(tmp_path / "a.pt")
