"""Tensor: an array that remembers how it was computed.

Reverse-mode differentiation.  If y = f(x) and L is a number computed from y, then

    dL/dx = (dy/dx)ᵀ dL/dy                        (the chain rule, read from the result backwards)

so every op needs one thing only: a ``pull`` that turns dL/dy, written ``g``, into dL/dx.  Running an op
on Tensors leaves a ``Node`` behind: the op, its inputs' nodes, and the few values its pulls will ask for.
``backward`` visits the nodes from the last made to the first, which is an order in which every node has
its whole gradient before it is asked for its inputs' (a node can only be made after its inputs were).

Read next: walk.py (the walk back), ops.py (the pulls, one row an op), record.py (how a row leaves Nodes behind).
See at work: demos/01_autograd.py.   Griewank & Walther 2008, "Evaluating Derivatives", chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinycv.engine import backend, capturing
from tinycv.engine.watch import Watch, tick

LEAF: Any = type("Leaf", (), {"__repr__": lambda self: "leaf"})()   # in place of a node: "start recording here"
OFF, RECORD, DEBUG = 0, 1, 2                                        # bits: leave Nodes behind; check every result

mode: ContextVar[int] = ContextVar("tinycv_mode", default=RECORD)   # each thread begins with the default


class Tensor:
    """An n-dimensional array that can be differentiated.

    data: array, number or nested list. Python floats become float32; arrays keep their dtype, and share memory.
    requires_grad: collect d(result)/d(this) in ``.grad`` when a result is sent ``backward()``.
    device: "cpu", "gpu" or "gpu:1"; None leaves the data where it is.
    """

    __slots__ = ("_data", "_node", "_watch", "grad", "__weakref__")
    __array_ufunc__ = None              # array * tensor asks the Tensor, on NumPy and on CuPy alike
    seq, parents = 0, ()                # a leaf stands in the graph for itself: the oldest, made from nothing

    def __init__(self, data: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False):
        array = data._data if isinstance(data, Tensor) else as_array(data, dtype)
        if dtype is not None and array.dtype != dtype:
            array = array.astype(dtype)
        self._data = array if device is None else backend.to_device(array, backend.resolve(device))
        self._node, self._watch, self.grad = None, None, None
        self.requires_grad = requires_grad

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and self._data.dtype.kind != "f":
            raise TypeError(f"a tensor of {self._data.dtype} cannot require a gradient: only floats vary smoothly; "
                            "make it with dtype=tinycv.float32")
        if wanted and self._node is None and (recording := capturing.current()) is not None:
            recording.cleared.add(self)                     # a leaf of the step's own: no gradient waits in it
        if self.is_leaf:
            self._node = LEAF if wanted else None
        elif not wanted:
            raise ValueError("this tensor was computed by a recorded op; use detach() to cut it off its graph")

    @property
    def is_leaf(self) -> bool:
        return self._node is None or self._node is LEAF

    @property
    def data(self) -> Any:
        """The bare array, NumPy's or CuPy's. A change in place is noticed by ``backward``, and refused there."""
        if self._node is not None and type(self._data) is np.ndarray:
            self._watched(self._data)
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        array = as_array(array)
        if array is not self._data:
            capturing.refuse("t.data = another array", "write into its memory, t.data[...] = values or t.data -= step")
        self._data = array
        self.mark_changed()

    def mark_changed(self) -> None:
        """Tell graphs recorded so far that this tensor's values are no longer the ones they saw."""
        self._watched(None)

    def _watched(self, array: Any) -> None:
        self._watch = Watch(self._watch, array)
        if not self.is_leaf:                            # the op that made it may have saved it too, as its result
            self._node.touched = (self._watch, self._data)

    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    dtype = property(lambda self: self._data.dtype)
    device = property(lambda self: backend.device_of(self._data))

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        text = np.array2string(backend.to_numpy(self._data), separator=", ", prefix="tensor(", precision=4)
        made = "" if self.is_leaf else f", op={self._node.row.name}"
        extras = ("" if self._data.dtype == np.float32 else f", dtype={self._data.dtype}") + (
            ", requires_grad=True" if self._node is LEAF else made)
        return f"tensor({text}{extras}" + ("" if self.device == "cpu" else f", device='{self.device}'") + ")"

    # -- out of the graph -----------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (shared memory), with no history."""
        return wrap(self._data, None)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shares memory on the CPU, copies from a GPU."""
        return backend.to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The one value as a Python number (waits for a GPU)."""
        if capturing.current() is not None:
            self._refuse_to_wait()
        return self._data.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if capturing.current() is not None:
            self._refuse_to_wait()
        return bool(self._data)

    def _refuse_to_wait(self) -> None:
        if type(self._data) is not np.ndarray:
            capturing.refuse("a number that is read from the GPU", "return the Tensor, and read it after the call")

    # -- in place: allowed where no graph would be falsified ---------------------------------------------

    def __setitem__(self, index: Any, value: Any) -> None:
        self._refuse_if_recorded("x[index] = value", "build the result with tinycv.where or concatenate", value)
        self._data[bare(index)] = bare(value)
        self.mark_changed()

    def _in_place(self, symbol: str, change: Any, other: Any) -> Tensor | None:
        """Change the values where that is safe; None asks the caller to make a new tensor instead."""
        if recording() and (self._node not in (None, LEAF) or (self._node is None and _has_history(other))):
            return None
        self._refuse_if_recorded(f"x {symbol} value", f"write x = x {symbol[0]} value for a new tensor", other)
        change(bare(other))
        self.mark_changed()
        return self

    def _refuse_if_recorded(self, what: str, instead: str, value: Any) -> None:
        if recording() and (self._node is not None or _has_history(value)):
            raise RuntimeError(f"{what} would change a tensor of shape {self.shape} that requires a gradient, behind "
                               f"its graph's back: wrap it in `with tinycv.no_grad():`, or {instead}")

    def __reduce__(self) -> tuple:
        return Tensor, (self._data, None, None, self._node is LEAF)


class Parameter(Tensor):
    """A Tensor that a Module learns: it requires a gradient, and ``Module.parameters()`` lists it.

    master: the float32 weights that these are rounded from, where half.py trains them.
    """

    __slots__ = ("master",)

    def __init__(self, data: Any, requires_grad: bool = True):
        super().__init__(data, requires_grad=requires_grad)
        self.master: Tensor | None = None

    def __reduce__(self) -> tuple:
        return Parameter, (self._data, self._node is LEAF)


class Node:
    """One recorded op: ``row`` knows its pulls, ``saved`` is what they will ask for, ``parents`` come before it.

    A parent is the Node that made an input, the input itself where it is a leaf, or None where no gradient goes.
    Inputs are saved as Tensors, the op's own result as a bare array: its Tensor holds this Node, and would make a cycle.
    """

    __slots__ = ("row", "parents", "saved", "shape", "dtype", "seq", "line", "touched")

    def __init__(self, row: Any, parents: tuple, saved: Any, shape: tuple, dtype: Any):
        self.row, self.parents, self.saved, self.shape, self.dtype = row, parents, saved, shape, dtype
        self.seq, self.line, self.touched = tick(), None, None


def wrap(array: Any, node: Any) -> Tensor:
    """A Tensor around an array that is known to be good: the fast way in, for ops."""
    if isinstance(array, np.generic):                        # NumPy turns 0-d results into scalars
        array = np.asarray(array)
    tensor = Tensor.__new__(Tensor)
    tensor._data, tensor._node, tensor._watch, tensor.grad = array, node, None, None
    return tensor


def bare(value: Any) -> Any:
    """Arrays in place of Tensors, also inside tuples (an index) and lists."""
    if isinstance(value, Tensor):
        return value._data
    if isinstance(value, (tuple, list)) and any(isinstance(v, (Tensor, tuple, list)) for v in value):
        return type(value)(bare(v) for v in value)
    return value


def as_array(data: Any, dtype: Any = None) -> Any:
    """An array of whatever was given; Python floats become float32, arrays are left as they are."""
    if hasattr(data, "dtype") and hasattr(data, "shape") and not isinstance(data, np.generic):
        return data._data if isinstance(data, Tensor) else data
    array = np.asarray(bare(data), dtype=dtype)
    if array.dtype == object:
        raise TypeError(f"cannot make an array of numbers from {type(data).__name__}: are its rows equally long?")
    return array.astype(np.float32) if dtype is None and array.dtype == np.float64 else array


def recording() -> bool:
    """Do ops leave Nodes behind, in this thread, now?"""
    return bool(mode.get() & RECORD)


def _has_history(value: Any) -> bool:
    """Was it computed from, or is it itself, something that requires a gradient?"""
    return isinstance(value, Tensor) and value._node is not None


@contextmanager
def _switch(value: int) -> Iterator[None]:
    """Another mode inside the block, in this thread alone."""
    token = mode.set(value)
    try:
        yield
    finally:
        mode.reset(token)


def no_grad() -> Any:
    """``with no_grad():`` or ``@no_grad()``: ops leave no Nodes behind, in this thread."""
    return _switch(mode.get() & ~RECORD)


def enable_grad() -> Any:
    """Record again inside a ``no_grad`` block."""
    return _switch(mode.get() | RECORD)
