"""Tensor: an array that remembers how it was computed.

Reverse-mode differentiation.  If y = f(x) and L is a number computed from y, then

    dL/dx = (dy/dx)ᵀ dL/dy                        (the chain rule, read from the result backwards)

so every op needs one thing only: a ``pull`` that turns dL/dy, written ``g``, into dL/dx.  Running
an op on Tensors leaves a ``Node`` behind: the op, its inputs' nodes, and the few values its pulls
will ask for. ``backward`` visits the nodes from the last made to the first, which is an order in
which every node has its whole gradient before it is asked for its inputs' (a node can only be made
after its inputs were).

Read next: walk.py (the walk back), ops.py (the pulls, one row per op), record.py (how a row leaves
Nodes behind).
See at work: demos/01_autograd.py.   Griewank & Walther 2008, "Evaluating Derivatives", chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend, capturing, watch
from tinycv.engine.arguments import shown
from tinycv.engine.as_number import AsNumber
from tinycv.engine.backend import Array
from tinycv.engine.door import as_array, bare, kind_of
from tinycv.engine.mode import DEBUG, OFF, RECORD, enable_grad, mode, no_grad, recording
from tinycv.engine.watch import tick

__all__ = [
    "ArrayLike",
    "Array",
    "DEBUG",
    "Gradient",
    "GraphKey",
    "LEAF",
    "OFF",
    "RECORD",
    "Node",
    "Parameter",
    "Piece",
    "Tensor",
    "as_array",
    "bare",
    "enable_grad",
    "graph_key",
    "kind_of",
    "mode",
    "no_grad",
    "recording",
    "wrap",
]

# in place of a node: "start recording here"
LEAF: Any = type("Leaf", (), {"__repr__": lambda self: "leaf"})()


class Tensor(AsNumber):
    """An n-dimensional array that can be differentiated.

    data: array, number or nested list. Python floats become float32; arrays keep their dtype, and
    share memory. Of a Tensor the values alone are taken. What is refused: door.py.
    dtype: of floats, integers or bools. TypeError for anything else (complex numbers, objects,
    text, dates).
    requires_grad: collect d(result)/d(this) in ``.grad`` when a result is sent ``backward()``.
    device: "cpu", "gpu" or "gpu:1"; None leaves the data where it is.

    differs: x.size is the number of entries, as NumPy's; PyTorch's x.size() is x.shape. NumPy's
    elementwise functions refuse a Tensor ("operand 'Tensor' does not support ufuncs"), because
    array * tensor has to ask the Tensor and not NumPy: write tinycv.exp(x) for np.exp(x), and
    np.exp(x.numpy()) where no gradient is wanted.
    """

    __slots__ = ("_moved", "grad", "__weakref__")
    _moved: int
    grad: Tensor | None
    __array_ufunc__ = None  # array * tensor asks the Tensor, on NumPy and on CuPy alike
    # a leaf stands in the graph for itself: the oldest, made from nothing
    seq, parents = 0, ()

    def __init__(
        self,
        data: ArrayLike,
        dtype: DTypeLike | None = None,
        device: str | None = None,
        requires_grad: bool = False,
    ):
        array = as_array(data, dtype)
        self._data = (
            array if device is None else backend.to_device(array, backend.resolve(device, "Tensor"))
        )
        self._node, self._moved, self.grad = None, 0, None
        self.requires_grad = requires_grad

    # -- what it is -------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if not isinstance(wanted, (bool, np.bool)):
            raise TypeError(f"Tensor: requires_grad is {shown(wanted)}; it must be True or False")
        if wanted and self._data.dtype.kind != "f":
            raise TypeError(
                f"a tensor of {self._data.dtype} cannot require a gradient: only floats vary "
                "smoothly; make it with dtype=tinycv.float32"
            )
        if wanted and self._node is None and (recording := capturing.current()) is not None:
            # a leaf of the step's own: no gradient waits in it
            recording.cleared.add(self)
        if self.is_leaf:
            self._node = LEAF if wanted else None
        elif not wanted:
            raise ValueError(
                "this tensor was computed by a recorded op; use detach() to cut it off its graph"
            )

    @property
    def is_leaf(self) -> bool:
        return self._node is None or self._node is LEAF

    @property
    def data(self) -> Array:
        """The bare array, NumPy's or CuPy's.

        A later write into it is noticed by ``backward``, and refused there, if this tensor requires
        a gradient. Otherwise, and through an array that was taken before the op, only ``debug()``
        notices.
        """
        if self._node is not None:
            watch.look(self._data)
        return self._data

    @data.setter
    def data(self, array: ArrayLike) -> None:
        new = as_array(array, what="t.data = array", floats=self.dtype)
        if self._node is not None and new.dtype.kind != "f":
            raise TypeError(
                f"t.data = array: this tensor requires a gradient, so it holds floats; "
                f"the array is of {new.dtype}"
            )
        if new is not self._data:
            capturing.refuse(
                "t.data = another array",
                "write into its memory, t.data[...] = values or t.data -= step",
            )
            self._data, self._moved = new, watch.moved()
        else:
            self.mark_changed()

    def mark_changed(self) -> None:
        """Tell graphs recorded so far that this memory's values are no longer the ones they saw."""
        watch.mark(self._data)

    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    dtype = property(lambda self: self._data.dtype)
    device = property(lambda self: backend.device_of(self._data))

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError(
                "len: a tensor of shape (), a single number, has no axis to count along"
            )
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError(
                "iteration over a tensor of shape (): it is a single number; use x.item()"
            )
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        text = np.array2string(
            backend.to_numpy(self._data), separator=", ", prefix="tensor(", precision=4
        )
        made = "" if self.is_leaf else f", op={self._node.row.name}"
        extras = ("" if self._data.dtype == np.float32 else f", dtype={self._data.dtype}") + (
            ", requires_grad=True" if self._node is LEAF else made
        )
        return (
            f"tensor({text}{extras}"
            + ("" if self.device == "cpu" else f", device='{self.device}'")
            + ")"
        )

    # -- out of the graph -------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (shared memory), with no history."""
        return wrap(self._data, None)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shares memory on the CPU, copies from a GPU."""
        return backend.to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._node is not None and recording():
            raise RuntimeError(
                f"a tensor of shape {self.shape} that requires a gradient becomes no NumPy array "
                "by itself, as its gradient would be lost: take x.numpy(), or tinycv's own "
                "function"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # -- copies: deepcopy and pickle --------------------------------------------------------------

    def __reduce__(self) -> tuple:
        if not self.is_leaf:
            raise RuntimeError(
                f"a tensor of shape {self.shape} that an op computed cannot be copied or pickled: "
                "its graph would be cut off. Copy x.detach(), or compute it again"
            )
        if self.grad is not None and not getattr(self.grad, "is_leaf", True):
            raise RuntimeError(
                f"a leaf of shape {self.shape} cannot be copied or pickled, as its .grad was "
                "computed with create_graph=True: set x.grad = None, or x.grad = x.grad.detach()"
            )
        # a subclass may have attributes of its own
        own = type(self).__mro__[: type(self).__mro__.index(Tensor)]
        slots = ["grad", *[name for kind in own for name in vars(kind).get("__slots__", ())]]
        state = {name: getattr(self, name) for name in slots if hasattr(self, name)}
        return (
            _copied,
            (type(self), self._data, self._node is LEAF),
            (getattr(self, "__dict__", None), state),
        )


class Parameter(Tensor):
    """A Tensor that a Module learns: it requires a gradient, and ``Module.parameters()`` lists it.

    master: the float32 weights that these are rounded from, where training/half.py trains them.
    """

    __slots__ = ("master",)

    def __init__(self, data: ArrayLike, requires_grad: bool = True):
        super().__init__(data, requires_grad=requires_grad)
        self.master: Tensor | None = None


# What functions take where they calculate: a Tensor, an array, or what NumPy makes an array of.
# (CuPy's arrays too; its types are not known where it is not installed.)
ArrayLike = Tensor | np.ndarray | np.generic | bool | int | float | Sequence


# What passes back along the graph: an array, or a Tensor where the walk itself is recorded.
Gradient = Array | Tensor
# What an op sends to one of its parents; walk.py says what it may be.
Piece = Gradient | Callable


class NodeRow(Protocol):
    """What the walk asks of the op that made a Node: its name, and the pieces of the gradient that
    its parents get (walk.py says what a piece may be)."""

    name: str

    def pieces(
        self, node: Node, g: Gradient, needed: set | None, record: bool, /
    ) -> Iterator[tuple]: ...


class Node:
    """One recorded op: ``row`` knows its pulls, ``saved`` is what they will ask for, ``parents``
    come before it.

    A parent is the Node that made an input, the input itself where it is a leaf, or None where no
    gradient goes. Inputs are saved as Tensors, the op's own result as a bare array: its Tensor
    holds this Node, and would make a cycle.
    """

    __slots__ = ("row", "parents", "saved", "shape", "dtype", "seq", "line")

    def __init__(
        self, row: NodeRow, parents: tuple, saved: Any, shape: Any = None, dtype: Any = None
    ):
        self.row, self.parents, self.saved = row, parents, saved
        # of the result; None where there are several, which have Nodes of their own
        self.shape, self.dtype = shape, dtype
        self.seq = tick()
        self.line: str | None = None


# Where a Tensor stands in the graph: the Node that made it, or itself where it is a leaf.
GraphKey = Node | Tensor


def _copied(kind: type[Tensor], array: Array, requires_grad: bool) -> Tensor:
    """A leaf of that class around an array: the first half of a copy, which then gets its other
    attributes."""
    tensor = kind.__new__(kind)
    tensor._data, tensor._node, tensor._moved, tensor.grad = (
        array,
        LEAF if requires_grad else None,
        0,
        None,
    )
    return tensor


def graph_key(x: Tensor) -> GraphKey:
    """Where x stands in the graph: its Node, or x itself where it is a leaf."""
    return x if x._node is LEAF else x._node


def wrap(array: Array, node: Node | None) -> Tensor:
    """A Tensor around an array that is known to be good: the fast way in, for ops."""
    if isinstance(array, np.generic):  # NumPy turns 0-d results into scalars
        array = np.asarray(array)
    tensor = Tensor.__new__(Tensor)
    tensor._data, tensor._node, tensor._moved, tensor.grad = array, node, 0, None
    return tensor
