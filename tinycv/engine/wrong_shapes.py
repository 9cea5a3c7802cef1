"""Error messages about shapes: broadcasting, axes, indices, matrix products, concatenation.

Each function returns the reason as text, or an empty string if it finds nothing wrong.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from tinycv.engine.arguments import shown

# A hint for ops whose second argument is something else in PyTorch than an axis
MEANT = {
    "norm": "; it is the Euclidean norm, and takes no p",
    "max": "; tinycv.maximum compares two arrays",
    "min": "; tinycv.minimum compares two arrays",
}


def wrong_axes_option(op: str, name: str, value: Any, ndim: int) -> str:
    """What is wrong with the value of an axis option of an op, whose input has ``ndim`` axes."""
    many = len(value) if isinstance(value, tuple) else 1
    added = many if op in ("stack", "unsqueeze") else 0
    why = f"the result has {ndim + added} axes, so" if added else ""
    problem = wrong_axes(name, value, ndim + added, why)
    if problem:
        return problem + MEANT.get(op, "")
    if name == "axes" and many != ndim:
        return (
            f"axes is {shown(value)}; it must name each of the {ndim} axes once; "
            "x.swapaxes(0, 1) exchanges two axes"
        )
    return ""


def wrong_axes(name: str, value: Any, ndim: int, of: str = "") -> str:
    """What is wrong with an axis, or a tuple of axes, of an array with ``ndim`` axes; empty if
    nothing is. of: a phrase that says which array that is."""
    axes = value if isinstance(value, tuple) else (value,)
    if not all(map(is_whole, axes)):
        return (
            f"{name} is {shown(value)}; it must be a whole number, a tuple of whole numbers or None"
        )
    if not all(-ndim <= int(a) < ndim for a in axes):
        of = of or ("with 1 axis" if ndim == 1 else f"with {ndim} axes")
        return f"{name} is {shown(value)}; " + (
            f"{of} it must lie between {-ndim} and {ndim - 1}"
            if ndim
            else "a single number has no axis"
        )
    return (
        f"{name} is {shown(value)}; it names an axis twice"
        if len({int(a) % ndim for a in axes}) < len(axes)
        else ""
    )


def is_whole(value: Any) -> bool:
    """Is it a whole number, which may be an index or an axis?"""
    try:
        return not isinstance(value, (bool, np.bool)) and index(value) is not None
    except TypeError:
        return False


def wrong_shape(name: str, value: Any, array: Any) -> str:
    """What is wrong with the shape that an array was to be reshaped or expanded to."""
    unsized = name == "expand" and isinstance(value, tuple) and -1 in value
    return (
        f"an array of shape {array.shape}, which holds {array.size} numbers, does not fit into "
        f"shape={shown(value)}" + ("; expand does not take -1 for a size" if unsized else "")
    )


def wrong_width(value: Any, ndim: int) -> str:
    """What is wrong with the widths of padding for an array with ``ndim`` axes; empty if nothing
    is."""
    try:
        widths = np.broadcast_to(np.asarray(value), (ndim, 2))
    except ValueError:
        widths = np.zeros(0)
    if widths.dtype.kind not in "iu":
        return (
            f"width is {shown(value)}; it must be a whole number, a pair of them (before, after), "
            f"or such a pair for each of the {ndim} axes of x"
        )
    if (widths < 0).any():
        takes = "it must not be negative; to remove entries use a slice, such as x[1:-1]"
        return f"width is {shown(value)}; {takes}"
    return ""


def broadcast_clash(shapes: list[tuple]) -> str:
    """Which axis prevents these shapes from broadcasting; empty if they do broadcast."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        for axis in range(-1, -max(map(len, shapes)) - 1, -1):
            sizes = [s[axis] for s in shapes if len(s) >= -axis]
            if len({n for n in sizes if n != 1}) > 1:
                return (
                    f"shapes {' and '.join(map(str, shapes))} do not broadcast: axis {axis} has "
                    f"sizes {' and '.join(map(str, sizes))}; they must be equal, or one of them 1"
                )
    return ""


def index_clash(index: Any) -> str:
    """Why the arrays of an index do not broadcast; empty if they do."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [i for i in parts if getattr(i, "ndim", 0)]
    shapes = [(int(i.sum()),) if i.dtype.kind == "b" else i.shape for i in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return (
            f"the arrays in the index choose entries of shapes {' and '.join(map(str, shapes))}, "
            "which do not broadcast; to combine every row with every column write "
            "x[rows][:, columns]"
        )
    return ""


def unjoinable(name: str, shapes: list[tuple], axis: Any) -> str:
    """Why tensors of these shapes cannot be concatenated or stacked along an axis; empty if nothing
    is found."""
    if not is_whole(axis):
        return f"axis is {shown(axis)}; it must be a whole number"
    first, rule = shapes[0], "be equal"
    if name == "stack":
        other = next((s for s in shapes if s != first), None)
    elif not first:
        return (
            "the tensors are single numbers, which have no axis to join them along; use "
            "tinycv.stack instead"
        )
    elif {len(s) for s in shapes} != {len(first)}:
        other = next(s for s in shapes if len(s) != len(first))
        rule = "have equally many axes"
    else:
        along = index(axis) % len(first)
        other = next(
            (
                s
                for s in shapes
                if any(n != m for i, (n, m) in enumerate(zip(s, first, strict=True)) if i != along)
            ),
            None,
        )
        rule = f"be equal, except along axis {axis}"
    return "" if other is None else f"the tensors have shapes {first} and {other}; they must {rule}"


def unmultipliable(a: tuple, b: tuple) -> str:
    """Why matrices of these shapes cannot be multiplied, a @ b."""
    if not a or not b:
        return f"shapes {a} @ {b}: a single number cannot be matrix-multiplied; use *"
    rows = -2 if len(b) > 1 else -1
    if a[-1] != b[rows]:
        return (
            f"shapes {a} @ {b} do not multiply: axis -1 of the first has {a[-1]}, axis {rows} of "
            f"the second has {b[rows]}; they must be equal"
        )
    return f"shapes {a} @ {b} do not multiply: " + broadcast_clash([a[:-2], b[:-2]])
