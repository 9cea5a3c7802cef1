"""Tensor: an array that remembers how it was computed, for automatic differentiation (autograd).

Reverse-mode differentiation (backpropagation).  If y = f(x) and L is a number computed from y, then

    dL/dx = (dy/dx)ᵀ dL/dy                        (the chain rule, read from the result backwards)

so an op needs only one thing: a ``pull``, a function that turns dL/dy, written ``g``, into dL/dx.
(Other texts call it the vector-Jacobian product, or VJP.)  Every op that runs on Tensors leaves a
``Node`` in the graph, which holds the op, the Nodes of its inputs, and the few values that its
pulls will need.  ``backward`` visits the Nodes from the newest to the oldest.  A Node is always
newer than the Nodes of its inputs, so in this order its own gradient is complete before it passes
anything on to them.

Read next: walk.py (the backward pass), ops.py (the pulls, one row per op), record.py (how a row
creates Nodes).
Demo: demos/01_autograd.py.   Griewank & Walther 2008, "Evaluating Derivatives", chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend, capturing, watch
from tinycv.engine.arguments import shown
from tinycv.engine.as_number import AsNumber
from tinycv.engine.backend import Array
from tinycv.engine.door import as_array, bare, kind_of
from tinycv.engine.mode import DEBUG, OFF, RECORD, enable_grad, mode, no_grad, recording
from tinycv.engine.torch_names import Count, of_object
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

# The value of ``_node`` in a leaf: a Tensor that no op computed and that requires a gradient. So
# ``_node`` is one of three things:
#     None      no gradient: ops do not record this Tensor
#     LEAF      the graph begins here, and the gradient ends up in ``.grad``
#     a Node    an op computed this Tensor
LEAF: Any = type("Leaf", (), {"__repr__": lambda self: "leaf"})()


class Tensor(AsNumber):
    """An n-dimensional array that can be differentiated.

    data: an array, a number or a nested list. Python floats become float32. An array keeps its
    dtype, and the Tensor shares its memory. From another Tensor only the values are taken, not the
    history. door.py lists what is refused.
    dtype: a float, integer or bool dtype. TypeError for any other (complex numbers, objects, text,
    dates).
    requires_grad: True adds d(result)/d(this tensor) to ``.grad`` when ``result.backward()`` runs.
    device: "cpu", "gpu" or "gpu:1"; None leaves the data where it is.

    differs: x.size is the number of entries, as in NumPy; in PyTorch x.size() is x.shape. NumPy's
    elementwise functions refuse a Tensor ("operand 'Tensor' does not support ufuncs"), because
    otherwise NumPy, and not the Tensor, would compute array * tensor. Write tinycv.exp(x) for
    np.exp(x), or np.exp(x.numpy()) where no gradient is needed.
    """

    __slots__ = ("_moved", "grad", "__weakref__")
    _moved: int
    grad: Tensor | None
    __array_ufunc__ = None  # array * tensor calls Tensor.__rmul__, with NumPy and with CuPy
    # The walk also meets leaves, which have no Node. With these two values a leaf looks to the walk
    # like the oldest Node of all, without inputs.
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

    # -- attributes -------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, required: bool) -> None:
        if not isinstance(required, (bool, np.bool)):
            raise TypeError(f"Tensor: requires_grad is {shown(required)}; it must be True or False")
        if required and self._data.dtype.kind != "f":
            raise TypeError(
                f"a tensor of {self._data.dtype} cannot require a gradient, because only floats "
                "have a derivative; make it with dtype=tinycv.float32"
            )
        if required and self._node is None:
            capture = capturing.current()
            if capture is not None:
                # This leaf was created inside the captured step, so its .grad is still empty.
                capture.cleared.add(self)
        if self.is_leaf:
            self._node = LEAF if required else None
        elif not required:
            raise ValueError(
                "requires_grad = False: this tensor was computed from tensors that require a "
                "gradient; use x.detach() to get the same values without the graph"
            )

    @property
    def is_leaf(self) -> bool:
        return self._node is None or self._node is LEAF

    @property
    def data(self) -> Array:
        """The array itself, a NumPy or CuPy array; it shares memory with the Tensor.

        If this tensor requires a gradient and you write into the array before ``backward``, then
        ``backward`` notices and raises an error. Two kinds of writes are noticed only under
        ``debug()``: into a tensor that requires no gradient, and through an array that was taken
        from the tensor before the op ran.
        """
        if self._node is not None:
            watch.look(self._data)
        return self._data

    @data.setter
    def data(self, array: ArrayLike) -> None:
        new = as_array(array, what="t.data = array", floats=self.dtype)
        if self._node is not None and new.dtype.kind != "f":
            raise TypeError(
                f"t.data = array: the array is of {new.dtype}, but this tensor requires a "
                "gradient, so it must hold floats"
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
        """Note that the values in this memory have changed: ``backward`` through a graph that used
        the old values then raises an error."""
        watch.mark(self._data)

    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: Count(self._data.size))
    dtype = property(lambda self: self._data.dtype)
    device = property(lambda self: backend.device_of(self._data))

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError(
                "len: a tensor of shape () is a single number, which has no length; x.size is 1"
            )
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError(
                "iteration: a tensor of shape () is a single number, which cannot be looped over; "
                "use x.item()"
            )
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        text = np.array2string(
            backend.to_numpy(self._data), separator=", ", prefix="tensor(", precision=4
        )
        dtype = "" if self._data.dtype == np.float32 else f", dtype={self._data.dtype}"
        if self._node is LEAF:
            origin = ", requires_grad=True"
        else:
            origin = "" if self.is_leaf else f", op={self._node.row.name}"
        device = "" if self.device == "cpu" else f", device='{self.device}'"
        return f"tensor({text}{dtype}{origin}{device})"

    if not TYPE_CHECKING:  # or type checkers would accept any name

        def __getattr__(self, name: str) -> Any:
            """Called for names that do not exist: those of PyTorch get a hint (torch_names.py)."""
            return of_object(self, "Tensor", name)

    # -- leaving the graph ------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (shared memory), with no history."""
        return wrap(self._data, None)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shares memory on the CPU, copies from a GPU."""
        return backend.to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._node is not None and recording():
            raise RuntimeError(
                f"a tensor of shape {self.shape} that requires a gradient is not turned into a "
                "NumPy array automatically, because its gradient would be lost: use x.numpy() for "
                "the values, or the tinycv function of the same name"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # -- copies: deepcopy and pickle --------------------------------------------------------------

    def __reduce__(self) -> tuple:
        if not self.is_leaf:
            raise RuntimeError(
                f"a tensor of shape {self.shape} that an op computed cannot be copied or pickled, "
                "because the copy would lose its graph: copy x.detach() instead"
            )
        if self.grad is not None and not getattr(self.grad, "is_leaf", True):
            raise RuntimeError(
                f"a leaf of shape {self.shape} cannot be copied or pickled, because its .grad was "
                "computed with create_graph=True and has a graph: first set x.grad = None, or "
                "x.grad = x.grad.detach()"
            )
        # Subclasses, such as Parameter, add slots that the copy needs too.
        subclasses = type(self).__mro__[: type(self).__mro__.index(Tensor)]
        slots = ["grad", *[name for kind in subclasses for name in vars(kind).get("__slots__", ())]]
        state = {name: getattr(self, name) for name in slots if hasattr(self, name)}
        return (
            _copied,
            (type(self), self._data, self._node is LEAF),
            (getattr(self, "__dict__", None), state),
        )


class Parameter(Tensor):
    """A Tensor that a Module learns: it requires a gradient, and ``Module.parameters()`` lists it.

    master: in float16 training (training/half.py), the float32 weights that this Parameter is
    rounded from; otherwise None.
    """

    __slots__ = ("master",)

    def __init__(self, data: ArrayLike, requires_grad: bool = True):
        super().__init__(data, requires_grad=requires_grad)
        self.master: Tensor | None = None


# What functions accept as input: a Tensor, an array, or anything NumPy can turn into an array.
# (CuPy arrays are accepted too, but cannot be named here: CuPy may not be installed.)
ArrayLike = Tensor | np.ndarray | np.generic | bool | int | float | Sequence


# What travels back through the graph: arrays, or Tensors if the backward pass is itself recorded.
Gradient = Array | Tensor
# What an op contributes to the gradient of one parent; walk.py lists the possibilities.
Piece = Gradient | Callable


class NodeRow(Protocol):
    """What the walk needs from the op that made a Node: a name, and ``pieces``, which yields
    (parent, piece of the parent's gradient); walk.py says what a piece may be."""

    name: str

    def pieces(
        self, node: Node, g: Gradient, needed: set | None, record: bool, /
    ) -> Iterator[tuple]: ...


class Node:
    """One recorded op: ``row`` has its pulls, ``saved`` the values they will need, and ``parents``
    says where its inputs came from.

    There is one parent per input: the Node that made the input, the input itself if it is a leaf,
    or None if the input needs no gradient. Inputs are saved as Tensors. The op's own result is
    saved as a bare array: its Tensor holds this Node, so saving that Tensor would make a reference
    cycle, which only Python's garbage collector could free.
    """

    __slots__ = ("row", "parents", "saved", "shape", "dtype", "seq", "line")

    def __init__(
        self, row: NodeRow, parents: tuple, saved: Any, shape: Any = None, dtype: Any = None
    ):
        self.row, self.parents, self.saved = row, parents, saved
        # Those of the result. A function with several results has None here: each of its results
        # has a Node of its own (OneOf in fused.py).
        self.shape, self.dtype = shape, dtype
        self.seq = tick()  # a larger number means a newer Node
        self.line: str | None = None  # the line of the user's code, under debug()


# How a Tensor is identified in the graph: by the Node that made it, or by itself if it is a leaf.
GraphKey = Node | Tensor


def _copied(kind: type[Tensor], array: Array, requires_grad: bool) -> Tensor:
    """A new leaf of class ``kind`` around an array. ``copy`` and ``pickle`` call this first, and
    then set the other attributes."""
    tensor = kind.__new__(kind)
    tensor._data = array
    tensor._node = LEAF if requires_grad else None
    tensor._moved = 0
    tensor.grad = None
    return tensor


def graph_key(x: Tensor) -> GraphKey:
    """The key of x in the graph: the Node that made it, or x itself if it is a leaf."""
    return x if x._node is LEAF else x._node


def wrap(array: Array, node: Node | None) -> Tensor:
    """A Tensor around an array without any checks: the fast constructor that ops use."""
    if isinstance(array, np.generic):  # NumPy turns 0-d results into scalars
        array = np.asarray(array)
    tensor = Tensor.__new__(Tensor)
    tensor._data, tensor._node, tensor._moved, tensor.grad = array, node, 0, None
    return tensor
