"""Checkpoints: arrays and a small state in one safetensors file, which is either there whole or not at all.

The file is written beside its place under another name, forced to disk, and renamed: a program killed at any moment
leaves the old file or the new one, never half of one.  A checksum covers everything, so that a damaged file is refused
and never loaded as slightly other weights.  safetensors holds numbers only: loading one cannot run code.
Format: https://huggingface.co/docs/safetensors/index#format
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
from safetensors import SafetensorError

from tinycv.engine.backend import to_numpy
from tinycv.engine.tensor import bare
from tinycv.nn.module import Module

KNOWN = {b"PK\x03\x04": "a zip file: PyTorch's or NumPy's", b"\x80": "a pickle", b"\x89PNG": "a PNG picture",
         b"\xff\xd8\xff": "a JPEG picture", b"\x93NUMPY": "a .npy array", b"\x89HDF": "an HDF5 file",
         b"\x1f\x8b": "a gzip file", b"GGUF": "a GGUF file", b"{": "JSON text", b"<": "an HTML or XML page"}
OURS = ("tinycv", "state", "crc32")             # the keys of our metadata; a foreign file has none of them
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
    metadata = dict(zip(OURS, (VERSION, text, str(_checksum(arrays, text))), strict=True))
    _write(path, safetensors.numpy.save(arrays, metadata))


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, state) of a file that ``save`` wrote, or of any safetensors file, whose state is {}.

    CheckpointError for a file that is missing, cut short, damaged, or of another kind.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    header = _header(path, data)
    try:
        arrays = safetensors.numpy.load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short: {error}") from error
    except KeyError as error:
        raise CheckpointError(f"{path}: holds numbers of type {error}, which NumPy does not have") from error
    return arrays, _state(path, header.get("__metadata__") or {}, arrays)


def save_model(path: str | os.PathLike, model: Module) -> None:
    """Write the model's parameters and buffers, by name."""
    save(path, model.state_dict(), {"model": type(model).__name__})


def load_model(path: str | os.PathLike, model: Module) -> None:
    """Copy weights by name into ``model``, from ``save_model``, ``train.fit``'s checkpoint, or another's safetensors.

    CheckpointError as ``load``, and when names or shapes do not fit; the model is then left as it was.
    """
    tensors, _ = load(path)
    trained = {name.removeprefix("model/"): a for name, a in tensors.items() if name.startswith("model/")}
    try:
        model.load_state_dict(trained or tensors)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


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


def _what_it_is(data: bytes) -> str:
    if len(data) < 9:
        return f"cut short: {len(data)} bytes are too few for a safetensors file"
    kind = next((kind for start, kind in KNOWN.items() if data.startswith(start)), "of an unknown kind")
    if not data.startswith((b"PK\x03\x04", b"\x80")):
        return f"not a safetensors file, but {kind}"
    return (f"refused: it is {kind}, which could run code when loaded; where you trust it, convert it with "
            "safetensors.torch.save_file(model.state_dict(), ...) (safetensors.numpy for arrays)")


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
