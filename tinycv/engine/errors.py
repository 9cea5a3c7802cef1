"""Errors that teach: what was wrong, with which values, and what to do.

Ops do not check their inputs beforehand, which would cost every call; when NumPy or CuPy refuses, ``explain`` looks
at the inputs and says it in the op's own terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.engine.backend import device_of


def explain(row: Any, args: tuple, options: dict, error: Exception) -> Exception:
    """The error to raise in place of ``error``, which the array library raised inside ``row``'s forward function."""
    arrays = [getattr(a, "_data", a) for a in args if hasattr(a, "shape")]
    devices = [device_of(a) for a in arrays]
    said = f"{row.name}: "
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MemoryError(f"{said}out of memory on {devices[0] if devices else 'cpu'} with {listed(args)}: {error}")
    foreign = ("nsupported type", "mplicit conversion", "was handed a cupy", "Only cupy arrays")
    if len(set(devices)) > 1 and isinstance(error, TypeError) and any(words in str(error) for words in foreign):
        return ValueError(f"{said}inputs live on different devices ({listed(args)}); move one: x.to({devices[0]!r})")
    shapes = [a.shape for a in arrays]
    if row.name == "matmul" and len(shapes) == 2 and isinstance(error, ValueError):
        return ValueError(said + unmultipliable(*shapes))
    clash = broadcast_clash(shapes)
    if "broadcast" in str(error) and clash:
        return ValueError(said + clash)
    kind = type(error) if type(error) in (ValueError, TypeError, IndexError) else (
        ValueError if isinstance(error, ValueError) else TypeError if isinstance(error, TypeError) else RuntimeError)
    given = "".join(f", {k}={v!r}" for k, v in options.items() if not hasattr(v, "shape"))
    return kind(f"{said}{error} (inputs: {listed(args)}{given})")


def listed(args: tuple) -> str:
    """float32 (3, 4) on cpu, 2.0, ..."""
    return ", ".join(f"{a.dtype} {tuple(a.shape)} on {device_of(getattr(a, '_data', a))}" if hasattr(a, "shape")
                     else f"{a!r:.40}" for a in args)


def broadcast_clash(shapes: list[tuple]) -> str:
    """Which axis keeps these shapes from broadcasting; empty where they do."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        for axis in range(-1, -max(map(len, shapes)) - 1, -1):
            sizes = [s[axis] for s in shapes if len(s) >= -axis]
            if len({n for n in sizes if n != 1}) > 1:
                return (f"shapes {' and '.join(map(str, shapes))} do not broadcast: axis {axis} has sizes "
                        f"{' and '.join(map(str, sizes))}; they must be equal, or one of them 1")
    return ""


def unmultipliable(a: tuple, b: tuple) -> str:
    """Why a @ b has no meaning for these shapes."""
    if not a or not b:
        return f"shapes {a} @ {b}: a single number cannot be matrix-multiplied; use *"
    rows = -2 if len(b) > 1 else -1
    if a[-1] != b[rows]:
        return (f"shapes {a} @ {b} do not multiply: axis -1 of the first has {a[-1]}, axis {rows} of the second has "
                f"{b[rows]}; they must be equal")
    return f"shapes {a} @ {b} do not multiply: " + broadcast_clash([a[:-2], b[:-2]])


def changed_in_place(node: Any, tensor: Any) -> str:
    """What to say where a saved array is no longer what it was."""
    return (f"backward: a tensor of shape {tensor.shape}, saved by {node.row.name!r}, was changed in place after the "
            "op ran, so the derivative would be of other values. Change it after backward, or change a copy "
            "(x.detach().numpy().copy())")
