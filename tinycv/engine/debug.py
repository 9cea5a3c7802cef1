"""NaN hunting: the first op, forward or backward, whose result is not finite although its inputs
are.

    with tinycv.debug():                 # or tinycv.debug() alone, to leave it on
        loss = model(x); loss.backward()

Every op waits for its result and reads it twice, so this is for hunting, not for training. It also
fingerprints what ops save, and so notices writes into an array that plain mode cannot see (through
a NumPy view made earlier).
"""

from __future__ import annotations

import os
import sys

from tinycv.engine import watch
from tinycv.engine.arguments import flag, listed
from tinycv.engine.backend import Array, array_module, to_numpy
from tinycv.engine.tensor import DEBUG, OFF, Gradient, Node, Tensor, mode

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class debug:
    """Check every op until the block ends (``with tinycv.debug():``), or from now on
    (``tinycv.debug()``; ``tinycv.debug(False)`` stops it), in this thread and in the shards of its
    batches. Raises FloatingPointError at the first result that is NaN or infinite. One object may
    be entered again."""

    def __init__(self, on: bool = True):
        on = flag(on, "debug: on")
        self.bit, self.before = DEBUG if on else OFF, [mode.get() & DEBUG]
        # made just now, for the block that may follow
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
    """file:line of the nearest frame outside the package: the user's line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(
        PACKAGE
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def check_forward(name: str, args: tuple, result: Tensor) -> None:
    """Raise FloatingPointError if an op's result is not finite; note the user's line for the walk
    back."""
    line = caller_line()
    if result._node is not None:
        result._node.line = line
        for a in args:
            if isinstance(a, Tensor) and a.device == "cpu":
                watch.look(a._data)
    if finite(result._data):
        return
    already = [i for i, a in enumerate(args) if not finite(getattr(a, "_data", a))]
    cause = (
        f"input {already[0]} was not finite before: it did not come from a recorded op, look where "
        "it was made"
        if already
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
    """Has x no NaN and no Inf? True of what is not a float array."""
    x = getattr(x, "_data", x)
    if getattr(x, "dtype", None) is None or x.dtype.kind != "f":
        return True
    return bool(array_module(x).isfinite(x).all())


def census(x: Array) -> str:
    """How many NaN and Inf there are, in words."""
    x = to_numpy(x)
    nans, infs = int((x != x).sum()), int((abs(x) == float("inf")).sum())
    return f"{nans} NaN and {infs} Inf among {x.size} values of shape {x.shape}"


def ranges(a: Array) -> str:
    """dtype, shape and the interval of the values, in words."""
    a = getattr(a, "_data", a)
    if not hasattr(a, "shape"):
        return repr(a)[:60]
    a = to_numpy(a)
    span = f" in [{a.min():.4g}, {a.max():.4g}]" if a.size and a.dtype.kind in "fiu" else ""
    return f"{a.dtype} {a.shape}{span}"
