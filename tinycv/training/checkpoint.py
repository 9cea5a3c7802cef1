"""Checkpoints: arrays and a small state in one safetensors file, which is either there whole or not
at all.

The file is written beside its place under another name, forced to disk, and renamed: a program
killed at any moment leaves the old file or the new one, never half of one.  A checksum covers
everything, so that a damaged file is refused and never loaded as slightly other weights.
safetensors holds numbers only: loading one cannot run code.
Format: https://huggingface.co/docs/safetensors/index#format.   PyTorch's own format: torch_file.py
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, deserialize

from tinycv.data import atomic
from tinycv.engine.arguments import listed, shown
from tinycv.engine.backend import array_module, to_numpy
from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module
from tinycv.training.safetensors_header import LONGEST_HEADER, BadHeader, notes_of, too_many_values
from tinycv.training.torch_file import from_bfloat16, read_torch
from tinycv.training.torch_pickle import short

ZIP = b"PK\x03\x04"
KNOWN = {
    b"\x80": "a pickle",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x93NUMPY": "a .npy array",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"GGUF": "a GGUF file",
    b"{": "JSON text",
    b"<": "an HTML or XML page",
}
# the keys of our metadata; a foreign file may have one of them, as a note
OURS = ("tinycv", "state", "crc32")
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    # safetensors' names for them
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
VERSION = "1"


class CheckpointError(ValueError):
    """A file that cannot be loaded, or does not belong to what it is loaded into; the message says
    which and why."""


def save(
    path: str | os.PathLike,
    tensors: Mapping[str, Tensor | np.ndarray],
    state: dict[str, Any] | None = None,
) -> None:
    """Write arrays (NumPy's, CuPy's or Tensors) and ``state``, anything that JSON holds, to one
    file, atomically.

    JSON has one kind of list and one of number: a tuple in the state comes back as a list, and a
    number of an enum as that number.
    Folders are made. A symbolic link is written through, and an old file's permissions stay.
    Leftovers of killed writes (".NAME.xxxxxxxx.partial" beside it) are removed first, those that
    another process is writing are not; of two who write one path at the same time the last wins,
    and the file is whole.
    TypeError or ValueError for what safetensors or JSON cannot hold, before anything is
    touched; OSError when the disk refuses. The old file then stays.
    """
    path = atomic.file_path(path, "save: path")
    if not isinstance(tensors, Mapping):
        raise TypeError(f"save: tensors is {shown(tensors)}; it must be a dict of arrays by name")
    if state is not None and not isinstance(state, dict):
        raise TypeError(f"save: state is {shown(state)}; it must be a dict, or None")
    arrays = {_good_name(name): _packed(name, value) for name, value in tensors.items()}
    odd = [
        f"{short(name)} ({a.dtype})"
        for name, a in arrays.items()
        if a.dtype.kind not in "fiub" or a.dtype.itemsize > 8
    ]
    if odd:
        raise TypeError(f"save: a checkpoint holds arrays of numbers, not {listed(odd)}")
    text = _as_json(state or {})
    metadata = dict(
        zip(OURS, (VERSION, text, str(_checksum(arrays, text))), strict=True), format="pt"
    )
    data = safetensors.numpy.save(arrays, metadata)
    _refuse_unloadable(data)
    atomic.write(path, data)


def _refuse_unloadable(data: bytes) -> None:
    """ValueError for a file that ``load`` would refuse."""
    length = int.from_bytes(data[:8], "little")
    try:
        if length > LONGEST_HEADER:
            raise BadHeader(f"its header has {length} bytes, and {LONGEST_HEADER} are the most")
        notes_of(data[8 : 8 + length], len(data))
    except BadHeader as error:
        raise ValueError(f"save: this cannot become one file: {error}") from None


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, state) of a file that ``save`` wrote; of any other safetensors file or .pt
    of torch.save, whose state is {}. bfloat16 becomes float32.

    CheckpointError for a file that is missing, cut short, damaged, or of another kind.
    """
    try:
        path = atomic.file_path(path, "load: path")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(
                f"{path}: cannot be read: it is a folder, or another thing that "
                f"is not an ordinary file"
            )
        with open(path, "rb") as file:
            if file.read(4) == ZIP:
                return read_torch(path), {}
            notes = _notes(path, file)
            file.seek(0)
            data = file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    try:
        arrays = {name: _array(path, name, entry) for name, entry in deserialize(data)}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short: {short(error)}") from error
    return arrays, _state(path, notes, arrays)


def save_model(path: str | os.PathLike, model: Module) -> None:
    """Write the model's parameters and buffers, by name. Errors as ``save``, and ValueError for a
    weight that is NaN, which ``load_model`` would refuse; the old file then stays.
    """
    _refuse_what_is_no_model("save_model", model)
    path = atomic.file_path(path, "save_model: path")
    arrays = {name: to_numpy(t._data) for name, t in model.state_dict().items()}
    if nans := with_nan(arrays):
        raise ValueError(
            f"save_model: {type(model).__name__} was not saved; NaN in: {listed(nans)}"
        )
    save(path, arrays, {"model": type(model).__name__})


def load_model(path: str | os.PathLike, model: Module) -> None:
    """Copy weights by name into ``model``, from ``save_model``, ``fit``'s checkpoint, or
    another's safetensors.

    CheckpointError as ``load``, and when names or shapes do not fit or a weight is NaN; the model
    is then left as it was.
    """
    _refuse_what_is_no_model("load_model", model)
    tensors, _ = load(path)
    tensors = {
        name.removeprefix("model/"): a for name, a in tensors.items() if name.startswith("model/")
    } or tensors
    try:
        if nans := with_nan(tensors):
            raise ValueError(f"{type(model).__name__} was left unchanged; NaN in: {listed(nans)}")
        model.load_state_dict(tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _refuse_what_is_no_model(who: str, model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"{who}: model is {shown(model)}; it must be a Module")


def with_nan(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """The names of arrays that hold a NaN: weights that somebody saved after a training had
    failed."""
    return [name for name, a in tensors.items() if a.dtype.kind == "f" and np.isnan(a).any()]


# ── reading, with suspicion ───────────────────────────────────────────────────────────────────────


def _notes(path: Path, file: BinaryIO) -> dict[str, str]:
    """The notes of the JSON header: 8 bytes give its length, then it begins with a brace. Nothing
    else is read yet.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > LONGEST_HEADER:
        raise CheckpointError(f"{path}: {_what_it_is(start)}")
    if 8 + length > size:
        raise CheckpointError(
            f"{path}: cut short: the header should have {length} bytes, the file has {size}"
        )
    file.seek(8)
    return notes_of(file.read(length), size)


def _array(path: Path, name: str, entry: dict[str, Any]) -> np.ndarray:
    code = entry["dtype"]  # "F32", "I64", ...
    dtype = DTYPES.get(code)
    if dtype is None:
        raise CheckpointError(
            f"{path}: {short(name)} holds numbers of type {code}; those that are "
            f"read are {', '.join(DTYPES)}"
        )
    try:
        # writable: the data are a bytearray
        array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    except (ValueError, OverflowError, TypeError):
        raise CheckpointError(
            f"{path}: {short(name)} has shape {short(entry['shape'])}, which NumPy lacks"
        ) from None
    return from_bfloat16(array) if code == "BF16" else array


def _what_it_is(data: bytes) -> str:
    if len(data) < 9:
        return f"cut short: {len(data)} bytes are too few for a safetensors file"
    kind = next(
        (kind for start, kind in KNOWN.items() if data.startswith(start)), "of an unknown kind"
    )
    if not data.startswith(b"\x80"):
        return f"not a safetensors file, but {kind}"
    return (
        f"refused: it is {kind}, which could run code when loaded. PyTorch's old files are; "
        "convert one by python -c \"import torch; torch.save(torch.load('old.pt', "
        "weights_only=True), 'new.pt')\""
    )


def _state(path: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    found = [key for key in OURS if key in metadata]
    # another program's file, with nothing to check: one flipped bit takes one key at most
    if len(found) < 2:
        return {}
    if len(found) < len(OURS) or metadata["crc32"] != str(_checksum(arrays, metadata["state"])):
        raise CheckpointError(f"{path}: damaged: its checksum does not fit its contents")
    if metadata["tinycv"] != VERSION:
        raise CheckpointError(
            f"{path}: written by another version of tinycv (format {shown(metadata['tinycv'])})"
        )
    if problem := too_many_values(metadata["state"]):
        raise CheckpointError(f"{path}: refused: {problem}")
    try:
        state = json.loads(metadata["state"])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its state is not JSON") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: its state is a {type(state).__name__}, should be a dict")
    return state


def _checksum(arrays: dict[str, np.ndarray], text: str) -> int:
    """Of the state, and of every array with its name, dtype and shape."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        crc = zlib.crc32(
            f"{name} {a.dtype.name} {a.shape}".encode("utf-8", "backslashreplace"), crc
        )
        crc = zlib.crc32(np.ascontiguousarray(a).data, crc)
    return crc


# ── what may be written ───────────────────────────────────────────────────────────────────────────


def _good_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"save: {shown(name)} is a tensor's name; names are words")
    if name == "__metadata__":
        raise ValueError(
            "save: a tensor is called __metadata__, where safetensors keeps its "
            "notes; give it another name"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"save: {name!r:.60} is a tensor's name, and no text that UTF-8 can write"
        ) from None
    return name


def _packed(name: str, value: Any) -> np.ndarray:
    """In C order and this machine's byte order: safetensors copies memory as it lies."""
    array = value._data if isinstance(value, Tensor) else value
    known = isinstance(array, (np.ndarray, np.generic)) or array_module(array) is not np
    if not known or isinstance(array, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(
            f"save: {short(name)} is {type(value).__name__} {shown(value)}; it must be "
            f"an array or a Tensor"
        )
    array = to_numpy(array)
    if array.dtype.kind not in "fiub":
        return array  # refused by its dtype
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=None)


def _as_json(state: dict[str, Any]) -> str:
    """The state's text. TypeError or ValueError for what JSON lacks, and for keys that it would
    give back as words.
    """
    try:
        text = json.dumps(state)
    except (TypeError, ValueError, RecursionError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"save: state cannot be written as JSON: {short(error)}") from error
    if (odd := _odd_key(state)) is not None:
        raise TypeError(
            f"save: {shown(odd)} is a key in state; JSON's keys are words, so it would "
            f"come back as one"
        )
    if problem := too_many_values(text):
        raise ValueError(f"save: {problem}; large lists are for tensors")
    return text


def _odd_key(state: Any) -> Any:
    """A key that is not a word, anywhere in the state; None if there is none."""
    parts = [state]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, str):
                    return "None" if key is None else key
            parts.extend(part.values())
        elif isinstance(part, (list, tuple)):
            parts.extend(part)
    return None
