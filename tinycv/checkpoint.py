"""Checkpoints: arrays and a small state in one safetensors file, which is either there whole or not at all.

The file is written beside its place under another name, forced to disk, and renamed: a program killed at any moment
leaves the old file or the new one, never half of one.  A checksum covers everything, so that a damaged file is refused
and never loaded as slightly other weights.  safetensors holds numbers only: loading one cannot run code.
Format: https://huggingface.co/docs/safetensors/index#format.   PyTorch's own format: torch_file.py
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, deserialize

from tinycv.engine.backend import to_numpy
from tinycv.engine.tensor import bare
from tinycv.nn.module import Module
from tinycv.torch_file import from_bfloat16, read_torch

ZIP = b"PK\x03\x04"
KNOWN = {b"\x80": "a pickle", b"\x89PNG": "a PNG picture",
         b"\xff\xd8\xff": "a JPEG picture", b"\x93NUMPY": "a .npy array", b"\x89HDF": "an HDF5 file",
         b"\x1f\x8b": "a gzip file", b"GGUF": "a GGUF file", b"{": "JSON text", b"<": "an HTML or XML page"}
OURS = ("tinycv", "state", "crc32")             # the keys of our metadata; a foreign file has none of them
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}            # safetensors' names for them
VERSION = "1"
LONGEST_HEADER = 100_000_000                    # bytes; the limit of the safetensors library


class CheckpointError(ValueError):
    """A file that cannot be loaded, or does not belong to what it is loaded into; the message says which and why."""


def save(path: str | os.PathLike, tensors: Mapping[str, Any], state: dict[str, Any] | None = None) -> None:
    """Write arrays (NumPy's, CuPy's or Tensors) and ``state``, anything that JSON holds, to one file, atomically.

    Folders are made. One writer a path: leftovers of killed writes (".NAME.*.partial" beside it) are removed first.
    TypeError for what safetensors or JSON cannot hold; OSError when the disk refuses. The old file then stays.
    """
    path = Path(path)
    arrays = {name: _packed(to_numpy(bare(t))) for name, t in tensors.items()}
    odd = [f"{name} ({a.dtype})" for name, a in arrays.items() if a.dtype.kind not in "fiub" or a.dtype.itemsize > 8]
    if odd:
        raise TypeError(f"a checkpoint holds arrays of numbers, not {', '.join(odd)}")
    text = json.dumps(state or {})
    metadata = dict(zip(OURS, (VERSION, text, str(_checksum(arrays, text))), strict=True), format="pt")
    _write(path, safetensors.numpy.save(arrays, metadata))


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, state) of a file that ``save`` wrote; of any other safetensors file or .pt of torch.save, whose
    state is {}. bfloat16 becomes float32.

    CheckpointError for a file that is missing, cut short, damaged, or of another kind.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(4) == ZIP:
                return read_torch(path), {}
            file.seek(0)
            data = file.read()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    header = _header(path, data)
    try:
        arrays = {name: _array(path, name, entry) for name, entry in deserialize(data)}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short: {error}") from error
    return arrays, _state(path, header.get("__metadata__") or {}, arrays)


def save_model(path: str | os.PathLike, model: Module) -> None:
    """Write the model's parameters and buffers, by name."""
    save(path, model.state_dict(), {"model": type(model).__name__})


def load_model(path: str | os.PathLike, model: Module) -> None:
    """Copy weights by name into ``model``, from ``save_model``, ``train.fit``'s checkpoint, or another's safetensors.

    CheckpointError as ``load``, and when names or shapes do not fit or a weight is NaN; the model is then left as it was.
    """
    tensors, _ = load(path)
    tensors = {name.removeprefix("model/"): a for name, a in tensors.items() if name.startswith("model/")} or tensors
    try:
        if nans := with_nan(tensors):
            raise ValueError(f"{type(model).__name__} was left unchanged; NaN in: {', '.join(nans)}")
        model.load_state_dict(tensors)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def with_nan(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """The names of arrays that hold a NaN: weights that somebody saved after a training had failed."""
    return [name for name, a in tensors.items() if a.dtype.kind == "f" and np.isnan(a).any()]


# ── reading, with suspicion ───────────────────────────────────────────────────────────────────────

def _header(path: Path, data: bytes) -> dict[str, Any]:
    """The JSON header: 8 bytes give its length, then it begins with a brace."""
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or length > LONGEST_HEADER:
        raise CheckpointError(f"{path}: {_what_it_is(data)}")
    if 8 + length > len(data):
        raise CheckpointError(f"{path}: cut short: the header should have {length} bytes, the file has {len(data)}")
    try:
        header = json.loads(data[8:8 + length])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: its header is not JSON") from error
    return header if isinstance(header, dict) else {}           # safetensors has its own sentence for that


def _array(path: Path, name: str, entry: dict[str, Any]) -> np.ndarray:
    code = entry["dtype"]                                       # "F32", "I64", ...
    dtype = DTYPES.get(code)
    if dtype is None:
        raise CheckpointError(f"{path}: {name} holds numbers of type {code}, which NumPy lacks")
    array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])         # writable: the data are a bytearray
    return from_bfloat16(array) if code == "BF16" else array


def _what_it_is(data: bytes) -> str:
    if len(data) < 9:
        return f"cut short: {len(data)} bytes are too few for a safetensors file"
    kind = next((kind for start, kind in KNOWN.items() if data.startswith(start)), "of an unknown kind")
    if not data.startswith(b"\x80"):
        return f"not a safetensors file, but {kind}"
    return (f"refused: it is {kind}, which could run code when loaded. PyTorch's old files are; convert one by "
            "python -c \"import torch; torch.save(torch.load('old.pt', weights_only=True), 'new.pt')\"")


def _state(path: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    found = [key for key in OURS if key in metadata]
    if not found:
        return {}                                               # another program's file: there is nothing to check
    if len(found) < len(OURS) or metadata["crc32"] != str(_checksum(arrays, metadata["state"])):
        raise CheckpointError(f"{path}: damaged: its checksum does not fit its contents")
    if metadata["tinycv"] != VERSION:
        raise CheckpointError(f"{path}: written by another version of tinycv (format {metadata['tinycv']!r})")
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
        crc = zlib.crc32(f"{name} {a.dtype.name} {a.shape}".encode("utf-8", "backslashreplace"), crc)
        crc = zlib.crc32(np.ascontiguousarray(a), crc)
    return crc


# ── writing, all or nothing ───────────────────────────────────────────────────────────────────────

def _packed(array: np.ndarray) -> np.ndarray:
    """In C order and this machine's byte order: safetensors copies memory as it lies."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=None)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{path.name}.", ".partial"
    for name in os.listdir(path.parent):
        if name.startswith(prefix) and name.endswith(suffix):
            (path.parent / name).unlink(missing_ok=True)
    partial = path.parent / f"{prefix}{uuid.uuid4().hex[:8]}{suffix}"
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())                             # the bytes first, or the name may point at none
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)                         # still there only where something failed
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force the rename to disk too; Windows has no such call, and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
