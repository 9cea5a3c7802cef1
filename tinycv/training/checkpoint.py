"""Checkpoints: arrays and a small state, saved in one safetensors file by an atomic write.

The file is written under another name in the same folder, flushed to disk, and renamed: a program
killed at any moment leaves the old file or the new one, never half of one. A checksum covers the
whole content, so a damaged file is refused and never loaded as slightly different weights.
safetensors holds only numbers and text, so loading a file cannot run code.
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
# how files of other kinds begin
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
# The keys that ``save`` writes into the metadata: of the version, the state and the checksum.
# Any key that begins like them marks a file of ours: where deleted bytes ran two keys together, the
# rest still begins so. In version 1 they had no prefix; there, two of the three are the mark.
OUR_PREFIX = "tinycv_"
VERSION, METADATA_KEYS = "2", ("tinycv_version", "tinycv_state", "tinycv_crc32")
VERSION_1, KEYS_OF_VERSION_1 = "1", ("tinycv", "state", "crc32")
# safetensors' names of dtypes -> NumPy's
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


class CheckpointError(ValueError):
    """A file cannot be loaded, or does not fit what it is loaded into; the message says which file,
    and why."""


def save(
    path: str | os.PathLike,
    tensors: Mapping[str, Tensor | np.ndarray],
    state: dict[str, Any] | None = None,
) -> None:
    """Write arrays (of NumPy, CuPy or Tensors) and ``state``, anything that JSON can hold, to one
    file, atomically.

    JSON has one kind of list and one kind of number: a tuple in the state comes back as a list, and
    a member of an IntEnum as its number.
    Missing folders are created. A symbolic link is followed, and an existing file keeps its
    permissions. Leftovers of killed writes (".NAME.xxxxxxxx.partial" in the same folder) are
    removed first, unless another process is still writing them. If two processes write one path at
    the same time, the last one wins, and the file is whole.
    TypeError or ValueError for what safetensors or JSON cannot hold, before anything is touched;
    OSError if the disk refuses. The old file then stays.
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
        raise TypeError(f"save: a checkpoint can only hold arrays of numbers, not {listed(odd)}")
    text = _as_json(state or {})
    metadata = dict(
        zip(METADATA_KEYS, (VERSION, text, str(_checksum(arrays, text))), strict=True), format="pt"
    )
    data = safetensors.numpy.save(arrays, metadata)
    _refuse_unloadable(data)
    atomic.write(path, data)


def _refuse_unloadable(data: bytes) -> None:
    """ValueError for a file that ``load`` would refuse."""
    length = int.from_bytes(data[:8], "little")
    try:
        if length > LONGEST_HEADER:
            raise BadHeader(f"its header has {length} bytes; at most {LONGEST_HEADER} are allowed")
        notes_of(data[8 : 8 + length], len(data))
    except BadHeader as error:
        raise ValueError(f"save: this does not fit into one file: {error}") from None


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, state) of a file that ``save`` wrote. It also reads other safetensors files
    and the .pt files of torch.save; their state is {}. bfloat16 becomes float32.

    CheckpointError for a file that is missing, cut short, damaged, or of another kind.
    """
    try:
        path = atomic.file_path(path, "load: path")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(
                f"{path}: cannot be read: it is a folder, or something else that "
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
    """Write the model's parameters and buffers, by name. It raises the errors of ``save``, and
    ValueError for a weight that is NaN, which ``load_model`` would refuse; the old file then stays.
    """
    _require_module("save_model", model)
    path = atomic.file_path(path, "save_model: path")
    arrays = {name: to_numpy(t._data) for name, t in model.state_dict().items()}
    nans = with_nan(arrays)
    if nans:
        raise ValueError(
            f"save_model: {type(model).__name__} was not saved; NaN in: {listed(nans)}"
        )
    save(path, arrays, {"model": type(model).__name__})


def load_model(path: str | os.PathLike, model: Module) -> None:
    """Copy weights by name into ``model``, from a file written by ``save_model``, by ``fit``, or as
    safetensors by another program.

    CheckpointError as in ``load``, and if names or shapes do not fit or a weight is NaN; the model
    then stays as it was.
    """
    _require_module("load_model", model)
    tensors, _ = load(path)
    # in fit's checkpoint, the weights of the model are called "model/NAME"
    in_checkpoint_of_fit = {
        name.removeprefix("model/"): a for name, a in tensors.items() if name.startswith("model/")
    }
    tensors = in_checkpoint_of_fit or tensors
    try:
        nans = with_nan(tensors)
        if nans:
            raise ValueError(f"{type(model).__name__} was left unchanged; NaN in: {listed(nans)}")
        model.load_state_dict(tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _require_module(caller: str, model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: model is {shown(model)}; it must be a Module")


def with_nan(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """The names of arrays that hold a NaN, such as weights that were saved after a training had
    diverged."""
    return [name for name, a in tensors.items() if a.dtype.kind == "f" and np.isnan(a).any()]


# ── Reading a file that may be damaged or malicious ───────────────────────────────────────────────


def _notes(path: Path, file: BinaryIO) -> dict[str, str]:
    """The metadata in the JSON header. The file begins with the header's length, in 8 bytes, and
    the brace with which JSON begins. Nothing after the header is read yet.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > LONGEST_HEADER:
        raise CheckpointError(f"{path}: {_why_not_safetensors(start)}")
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
            f"{path}: {short(name)} holds numbers of type {code}; the types that can be "
            f"read are {', '.join(DTYPES)}"
        )
    try:
        # the array is writable, because deserialize returns the data as a bytearray
        array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    except (ValueError, OverflowError, TypeError):
        raise CheckpointError(
            f"{path}: {short(name)} has shape {short(entry['shape'])}, which NumPy cannot have"
        ) from None
    return from_bfloat16(array) if code == "BF16" else array


def _why_not_safetensors(data: bytes) -> str:
    if len(data) < 9:
        return f"cut short: {len(data)} bytes are too few for a safetensors file"
    kind = next(
        (kind for start, kind in KNOWN.items() if data.startswith(start)), "of an unknown kind"
    )
    if not data.startswith(b"\x80"):
        return f"not a safetensors file, but {kind}"
    return (
        f"refused: it is {kind}, which could run code when loaded. Old PyTorch files are pickles; "
        "convert one with python -c \"import torch; torch.save(torch.load('old.pt', "
        "weights_only=True), 'new.pt')\""
    )


def _state(path: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if any(key.startswith(OUR_PREFIX) for key in metadata):
        keys, known = METADATA_KEYS, VERSION
    elif sum(key in metadata for key in KEYS_OF_VERSION_1) >= 2:
        keys, known = KEYS_OF_VERSION_1, VERSION_1
    else:
        return {}  # a file of another program, which has no checksum
    missing = [key for key in keys if key not in metadata]
    if missing:
        raise CheckpointError(f"{path}: damaged: its metadata have no {listed(missing)}")
    version, text, checksum = (metadata[key] for key in keys)
    if checksum != str(_checksum(arrays, text)):
        raise CheckpointError(f"{path}: damaged: its checksum does not match its contents")
    if version != known:
        raise CheckpointError(
            f"{path}: written by another version of tinycv (format {shown(version)})"
        )
    problem = too_many_values(text)
    if problem:
        raise CheckpointError(f"{path}: refused: {problem}")
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its state is not JSON") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: its state is a {type(state).__name__}; it must be a dict")
    return state


def _checksum(arrays: dict[str, np.ndarray], text: str) -> int:
    """The CRC-32 of the state and of every array with its name, dtype and shape."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        crc = zlib.crc32(
            f"{name} {a.dtype.name} {a.shape}".encode("utf-8", "backslashreplace"), crc
        )
        crc = zlib.crc32(np.ascontiguousarray(a).data, crc)
    return crc


# ── Checks of what is written ─────────────────────────────────────────────────────────────────────


def _good_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"save: a tensor is called {shown(name)}; a name must be a string")
    if name == "__metadata__":
        raise ValueError(
            "save: a tensor is called __metadata__, the name under which safetensors keeps its "
            "metadata; choose another name"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"save: a tensor is called {name!r:.60}, which UTF-8 cannot encode"
        ) from None
    return name


def _packed(name: str, value: Any) -> np.ndarray:
    """The array in C order and this machine's byte order, because safetensors copies the memory as
    it is."""
    array = value._data if isinstance(value, Tensor) else value
    is_array = isinstance(array, (np.ndarray, np.generic)) or array_module(array) is not np
    if not is_array or isinstance(array, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(
            f"save: {short(name)} is {type(value).__name__} {shown(value)}; it must be "
            f"an array or a Tensor"
        )
    array = to_numpy(array)
    if array.dtype.kind not in "fiub":
        return array  # ``save`` refuses it next, because of its dtype
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=None)


def _as_json(state: dict[str, Any]) -> str:
    """The state as JSON text. TypeError or ValueError for what JSON cannot hold, and for keys that
    are not strings, because JSON would return them as strings.
    """
    try:
        text = json.dumps(state)
    except (TypeError, ValueError, RecursionError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"save: state cannot be written as JSON: {short(error)}") from error
    odd = _odd_key(state)
    if odd is not None:
        raise TypeError(
            f"save: {shown(odd)} is a key in state; keys in JSON are strings, so it would "
            f"come back as a string"
        )
    problem = too_many_values(text)
    if problem:
        raise ValueError(f"save: {problem}; save large lists as tensors")
    return text


def _odd_key(state: Any) -> Any:
    """A key that is not a string, anywhere in the state; None if there is none."""
    to_visit = [state]
    while to_visit:
        value = to_visit.pop()
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    return "None" if key is None else key
            to_visit.extend(value.values())
        elif isinstance(value, (list, tuple)):
            to_visit.extend(value)
    return None
