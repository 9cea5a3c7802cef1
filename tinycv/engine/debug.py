"""Debug mode: find the first op, forward or backward, that produces NaN or infinity.

    with tinycv.debug():                 # or tinycv.debug() alone, to leave it on
        loss = model(x)
        loss.backward()

Every result is checked as soon as it is computed, which is slow: use it to find a bug, not to
train.  Debug mode also takes a fingerprint of the values that ops save.  So it notices writes that
are missed otherwise: those through a NumPy view that was made before the op ran.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from tinycv.engine import watch
from tinycv.engine.arguments import flag, listed
from tinycv.engine.backend import Array, array_module, to_numpy
from tinycv.engine.tensor import DEBUG, OFF, Gradient, Node, Tensor, mode

# In debug mode, observer(row, args, options, result) is called after every op, in place of the
# check, if there is one. tinycv.summary counts with it (show/summary.py).
observer: ContextVar[Callable[..., None] | None] = ContextVar("tinycv_observer", default=None)
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class debug:
    """Check the result of every op inside a block (``with tinycv.debug():``), or from now on
    (``tinycv.debug()``, until ``tinycv.debug(False)``), in this thread and in the threads that
    compute its shards. Raises FloatingPointError at the first result with a NaN or an infinity. One
    object may be used for several blocks."""

    def __init__(self, on: bool = True):
        on = flag(on, "debug: on")
        self.bit, self.before = DEBUG if on else OFF, [mode.get() & DEBUG]
        # True until the first block: the constructor has already saved and set the mode for it.
        self.fresh = True
        mode.set(mode.get() & ~DEBUG | self.bit)

    def __enter__(self) -> debug:
        if not self.fresh:
            self.before.append(mode.get() & DEBUG)
            mode.set(mode.get() & ~DEBUG | self.bit)
        self.fresh = False
        return self

    def __exit__(self, *_: object) -> None:
        mode.set(mode.get() & ~DEBUG | self.before.pop())


def caller_line() -> str:
    """file:line of the user's code: the innermost call that is not inside the package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(
        PACKAGE
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def after_op(row: Any, args: tuple, options: dict, result: Any) -> None:
    """What debug mode does after an op. result: a Tensor, or a tuple of Tensors."""
    observe = observer.get()
    if observe is not None:
        observe(row, args, options, result)
        return
    for part in result if isinstance(result, tuple) else (result,):
        check_forward(row.name, args, part)


def check_forward(name: str, args: tuple, result: Tensor) -> None:
    """Raise FloatingPointError if the result of an op is not finite. Also notes the line of the
    user's code, for errors in the backward pass."""
    line = caller_line()
    if result._node is not None:
        result._node.line = line
        for a in args:
            if isinstance(a, Tensor) and a.device == "cpu":
                watch.look(a._data)
    if finite(result._data):
        return
    not_finite = [i for i, a in enumerate(args) if not finite(getattr(a, "_data", a))]
    cause = (
        f"input {not_finite[0]} was not finite already; no checked op computed it, so look where "
        "it was created"
        if not_finite
        else "all its inputs are finite"
    )
    raise FloatingPointError(
        f"forward: {name!r} at {line} made {census(result._data)}; {cause}. "
        f"Inputs: {listed(map(ranges, args), join='; ')}"
    )


def check_backward(node: Node, g: Gradient, piece: object) -> None:
    """Raise FloatingPointError if a piece of the gradient is not finite."""
    piece = getattr(piece, "_data", piece)
    if piece is None or finite(piece):
        return
    g = getattr(g, "_data", g)
    cause = (
        "although the gradient that reached it is finite"
        if finite(g)
        else "from a gradient that was not finite"
    )
    saved = [s for args in node.saved if args for s in args if hasattr(s, "shape")]
    raise FloatingPointError(
        f"backward: the derivative of {node.row.name!r}, recorded at {node.line}, is "
        f"{census(piece)}, {cause}. Gradient: {ranges(g)}. It had saved: "
        f"{listed(map(ranges, saved), join='; ') or 'nothing'}"
    )


def finite(x: Array) -> bool:
    """Has x neither NaN nor infinity? True for anything that is not a float array."""
    x = getattr(x, "_data", x)
    if getattr(x, "dtype", None) is None or x.dtype.kind != "f":
        return True
    return bool(array_module(x).isfinite(x).all())


def census(x: Array) -> str:
    """How many NaN and Inf there are in x, as text."""
    x = to_numpy(x)
    nans, infs = int((x != x).sum()), int((abs(x) == float("inf")).sum())
    return f"{nans} NaN and {infs} Inf among {x.size} values of shape {x.shape}"


def ranges(a: Array) -> str:
    """dtype, shape and the range of the values, as text."""
    a = getattr(a, "_data", a)
    if not hasattr(a, "shape"):
        return repr(a)[:60]
    a = to_numpy(a)
    span = f" in [{a.min():.4g}, {a.max():.4g}]" if a.size and a.dtype.kind in "fiu" else ""
    return f"{a.dtype} {a.shape}{span}"
