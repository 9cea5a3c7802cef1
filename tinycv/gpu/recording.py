"""One recorded step (capture.py): its CUDA graph, the memory that it reads and writes, and what
must still be so for it to be launched again.

    Notes        what Python does beside the graph. The rest of the package writes here while a step
                 is recorded (engine/capturing.py): what the step reads, what it changes
    Recording    Notes, with the graph; ``launched`` replays it for new arguments
    finished     what the step returns, as copies without a history

Where to read on: CUDA C++ Programming Guide, section "CUDA Graphs".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

import numpy as np

from tinycv.engine import backend, capturing, watch
from tinycv.engine.backend import Array
from tinycv.engine.tensor import LEAF, Node, Tensor, wrap
from tinycv.engine.watch import tick


class Notes:
    """Python's side of a recording: what is looked at and sent before a launch, and put back after
    it."""

    def __init__(self) -> None:
        self.changes: list[Callable[[], None]] = []
        self.seen: list[tuple[Callable[[], object], object]] = []
        # what it reads: where that lies, and if it is learned
        self.leaves: dict[Tensor, tuple] = {}
        # of leaves: what .grad is in the end
        self.grads: dict[Tensor, Tensor | None] = {}
        # whose .grad was forgotten in here, or that are new
        self.cleared: set[Tensor] = set()
        self.made: dict[int, ref] = {}  # gradients made in here, by id
        self.inputs: list[Any] = []

    def before_launch(self, change: Callable[[], None]) -> None:
        """Call ``change`` before every launch."""
        self.changes.append(change)

    def depends(self, look: Callable[[], object]) -> None:
        """The recording stands as long as ``look()`` answers what it answers now."""
        self.seen.append((look, look()))

    def reads(self, tensors: Iterable[Tensor]) -> None:
        """It stands as long as these leaves lie where they lie now (the arrays are held, lest
        others get their place), and require a gradient if they do now."""
        for t in tensors:
            if t.is_leaf:
                self.leaves.setdefault(t, (t._data, t._node))

    def makes(self, gradients: Iterable[Tensor]) -> None:
        """These were made in here."""
        self.made |= {id(g): ref(g) for g in gradients}

    def is_made(self, g: Tensor) -> bool:
        return id(g) in self.made and self.made[id(g)]() is g

    def gradient(self, leaf: Tensor) -> None:
        """A gradient is about to be added to the leaf's."""
        if leaf in self.grads:
            return
        self.reads([leaf])
        if leaf.grad is not None and not self.is_made(leaf.grad):
            raise RuntimeError(
                f"a leaf of shape {leaf.shape} has a gradient from before the step, and recording "
                "it would add to that one each time: zero_grad in the step, or before every call"
            )
        if leaf not in self.cleared and all(leaf is not own for own in self.inputs):
            self.depends(lambda: leaf.grad is None)
        self.grads[leaf] = None

    def reads_gradients(self, leaves: Iterable[Tensor]) -> None:
        """It stands as long as the gradients that it reads and has not made are these, or none."""
        for leaf in leaves:
            g = leaf.grad
            if leaf not in self.grads and (
                not self.is_made(g) if g is not None else leaf not in self.cleared
            ):
                array = None if g is None else g._data
                self.depends(
                    lambda leaf=leaf, g=g, array=array: (
                        leaf.grad is g and (g is None or g._data is array)
                    )
                )

    def stands(self) -> bool:
        return all(
            t._data is array and t._node is node for t, (array, node) in self.leaves.items()
        ) and all(look() == answer for look, answer in self.seen)


class Recording(Notes):
    """One graph, and the memory that it reads and writes."""

    def __init__(self, function: Callable, args: tuple, device: str, stream: Any):
        """stream: not the usual one, which cannot be recorded; it is the current one."""
        super().__init__()
        self.xp: Any = backend.module_for(device)
        # of its own: what is freed in here is used in here only
        self.pool = self.xp.cuda.MemoryPool()
        usual = self.xp.cuda.get_allocator()
        # memory that is not the recording's own
        self.outside = lambda: self.xp.cuda.using_allocator(usual)
        self.kept: list[Any] = []
        with self.xp.cuda.using_allocator(self.pool.malloc):
            self.inputs = [
                wrap(a._data.copy(), a._node) if isinstance(a, Tensor) else a for a in args
            ]
            self.places = [a._data if isinstance(a, Tensor) else None for a in self.inputs]
            self.graph = self.recorded(function, stream)
        self.grads = {leaf: leaf.grad for leaf in self.grads}

    def recorded(self, function: Callable, stream: Any) -> Any:
        """The graph of what the function launches; its result is put by."""
        begun = tick()
        stream.begin_capture()
        try:
            with capturing.by(self):
                self.result = finished(function(*self.inputs))
            self.refuse_changed_inputs(begun)
        except BaseException as error:
            # half a recording is no graph: the first error says why
            with contextlib.suppress(Exception):
                stream.end_capture()
            for leaf in self.grads:  # nothing was computed
                leaf.grad = None
            error.add_note(
                "while tinycv.captured recorded the function: tinycv/gpu/capture.py says what it "
                "may do"
            )
            raise
        return stream.end_capture()

    def refuse_changed_inputs(self, begun: int) -> None:
        """RuntimeError where the function has changed an argument in place since ``begun``."""
        for a in self.inputs:
            if isinstance(a, Tensor) and (a._moved or watch.changed_since(begun, a._data)):
                raise RuntimeError(
                    "an argument was changed in place, which a recorded step would do to its own "
                    "copy: return the new values, or change a Tensor that is no argument"
                )

    def room(self, size: int, dtype: str) -> Array:
        """An array that keeps from launch to launch what others put into it. (Memory that the
        recording itself gives out may have been a temporary's before: at every launch that one is
        written again.)"""
        with self.outside():
            self.kept.append(self.xp.empty(size, dtype))
        return self.kept[-1]

    def constant(self, array: np.ndarray) -> Array:
        """A table of the host, copied to the device now, and kept."""
        with self.outside(), self.xp.cuda.Stream(non_blocking=True) as beside:
            self.kept.append(self.xp.asarray(array))
            beside.synchronize()
        return self.kept[-1]

    def launched(self, args: tuple) -> Any:
        """The function's result for these arguments."""
        for place, given in zip(self.places, args, strict=True):
            if place is not None:
                place[...] = given._data
        for change in self.changes:
            change()
        self.graph.launch()
        for leaf, g in self.grads.items():
            leaf.grad = g
        for own, given in zip(self.inputs, args, strict=True):
            # the recorded ones are copies of the arguments
            if isinstance(own, Tensor) and own.grad is not None:
                g = wrap(own.grad._data.copy(), None)
                given.grad = g if given.grad is None else given.grad + g
        return finished(self.result, copy=True)


class Gone:
    """In place of the op that made a result whose history was not gone down before the function
    returned."""

    name = "captured"

    def pieces(self, *_: Any) -> Any:
        raise RuntimeError(
            "backward through what a captured function returned: its history stays in there. Call "
            "backward, or tinycv.grad, in the function"
        )


GONE = Gone()


def finished(result: Any, copy: bool = False) -> Any:
    """A function's result without a history. Tensors as copies if wanted, also within tuples, lists
    and dicts: the next launch writes to the recorded ones."""
    if isinstance(result, Tensor):
        array, node = result._data.copy() if copy else result._data, result._node
        open_end = node not in (None, LEAF) and node.saved is not None
        return wrap(array, Node(GONE, (), ((),), array.shape, array.dtype) if open_end else None)
    if isinstance(result, dict):
        return {key: finished(value, copy) for key, value in result.items()}
    if isinstance(result, (tuple, list)):
        parts = [finished(value, copy) for value in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if backend.array_module(result) is not np:
        return result.copy() if copy else result
    if result is None or isinstance(
        result, (bool, int, float, complex, str, np.generic, np.ndarray, np.dtype)
    ):
        return result
    raise TypeError(
        f"captured: the function returned a {type(result).__name__}; it may return Tensors and "
        "plain values, alone or within tuples, lists and dicts"
    )
