"""One recorded training step: its CUDA graph, its memory, and what must hold for the next launch.

    Notes        what the graph does not hold. While a step is recorded, the rest of the package
                 notes here what the step reads and changes (engine/capturing.py)
    Recording    Notes together with the graph; ``launched`` replays it for new arguments
    finished     what the step returns, as copies without a history

Read first: capture.py.   Read next: CUDA C++ Programming Guide, section "CUDA Graphs".
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
    """The part of a recording that Python does: conditions to check and values to send before a
    launch, and gradients to assign after it."""

    def __init__(self) -> None:
        # called before every launch
        self.changes: list[Callable[[], None]] = []
        # functions that look at Python's state, each with what it returned while recording
        self.conditions: list[tuple[Callable[[], object], object]] = []
        # the leaves that the step reads, each with its array and its node (LEAF if it is learned)
        self.leaves: dict[Tensor, tuple] = {}
        # the leaves that get a gradient, each with its .grad at the end of the step
        self.grads: dict[Tensor, Tensor | None] = {}
        # leaves without a .grad from before: set to None in the step, or created in it
        self.cleared: set[Tensor] = set()
        # gradients that the step itself has made, by id
        self.made: dict[int, ref] = {}
        self.inputs: list[Any] = []

    def before_launch(self, change: Callable[[], None]) -> None:
        """Call ``change`` before every launch."""
        self.changes.append(change)

    def depends(self, look: Callable[[], object]) -> None:
        """The recording is valid as long as ``look()`` returns what it returns now."""
        self.conditions.append((look, look()))

    def reads(self, tensors: Iterable[Tensor]) -> None:
        """The recording is valid as long as these leaves keep their arrays, and go on to require a
        gradient or not. The arrays are kept alive, so that no other array can get their
        addresses."""
        for t in tensors:
            if t.is_leaf:
                self.leaves.setdefault(t, (t._data, t._node))

    def makes(self, gradients: Iterable[Tensor]) -> None:
        """Note that the step has made these gradients."""
        self.made |= {id(g): ref(g) for g in gradients}

    def is_made(self, g: Tensor) -> bool:
        return id(g) in self.made and self.made[id(g)]() is g

    def gradient(self, leaf: Tensor) -> None:
        """Note that a gradient is about to be added to leaf.grad."""
        if leaf in self.grads:
            return
        self.reads([leaf])
        if leaf.grad is not None and not self.is_made(leaf.grad):
            raise RuntimeError(
                f"a leaf of shape {leaf.shape} has a gradient from before the step, and recording "
                "it would add to that one each time: zero_grad in the step, or before every call"
            )
        if leaf not in self.cleared and all(leaf is not argument for argument in self.inputs):
            self.depends(lambda: leaf.grad is None)
        self.grads[leaf] = None

    def reads_gradients(self, leaves: Iterable[Tensor]) -> None:
        """The recording is valid as long as each leaf keeps the .grad that it has now, if the step
        reads this .grad and has neither made nor cleared it."""
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
        ) and all(look() == recorded for look, recorded in self.conditions)


class Recording(Notes):
    """One graph, and the memory that it reads and writes."""

    def __init__(self, function: Callable, args: tuple, device: str, stream: Any):
        """stream: the current stream. It is not the default stream, which cannot be recorded."""
        super().__init__()
        self.xp: Any = backend.module_for(device)
        # A separate pool: memory that the step frees may be used again by the step, but by nothing
        # else, since every launch writes to it again.
        self.pool = self.xp.cuda.MemoryPool()
        usual = self.xp.cuda.get_allocator()
        # ``with self.outside():`` allocates from the usual pool again
        self.outside = lambda: self.xp.cuda.using_allocator(usual)
        self.kept: list[Any] = []
        with self.xp.cuda.using_allocator(self.pool.malloc):
            self.inputs = [
                wrap(a._data.copy(), a._node) if isinstance(a, Tensor) else a for a in args
            ]
            self.input_arrays = [a._data if isinstance(a, Tensor) else None for a in self.inputs]
            self.graph = self.recorded(function, stream)
        self.grads = {leaf: leaf.grad for leaf in self.grads}

    def recorded(self, function: Callable, stream: Any) -> Any:
        """Runs the function and returns the graph of its launches. Its result is kept in
        self.result."""
        begun = tick()
        stream.begin_capture()
        try:
            with capturing.by(self):
                self.result = finished(function(*self.inputs))
            self.refuse_changed_inputs(begun)
        except BaseException as error:
            # Ending an unfinished capture raises an error too, but the first error is the cause.
            with contextlib.suppress(Exception):
                stream.end_capture()
            # the gradients have arrays, but nothing was computed in them
            for leaf in self.grads:
                leaf.grad = None
            error.add_note(
                "while tinycv.captured recorded the function: tinycv/gpu/capture.py says what it "
                "may do"
            )
            raise
        return stream.end_capture()

    def refuse_changed_inputs(self, begun: int) -> None:
        """RuntimeError if the function has changed an argument in place since ``begun``."""
        for a in self.inputs:
            if isinstance(a, Tensor) and (a._moved or watch.changed_since(begun, a._data)):
                raise RuntimeError(
                    "an argument was changed in place, which a recorded step would do to its own "
                    "copy: return the new values, or change a Tensor that is no argument"
                )

    def room(self, size: int, dtype: str) -> Array:
        """An array that keeps its values from launch to launch. It is allocated outside the
        recording's pool, where its memory might first have belonged to a temporary array of the
        step, which every launch writes again."""
        with self.outside():
            self.kept.append(self.xp.empty(size, dtype))
        return self.kept[-1]

    def constant(self, array: np.ndarray) -> Array:
        """A table from the host, copied to the device now, and kept as long as the recording. The
        copy uses another stream, so it does not become part of the graph."""
        with self.outside(), self.xp.cuda.Stream(non_blocking=True) as copy_stream:
            self.kept.append(self.xp.asarray(array))
            copy_stream.synchronize()
        return self.kept[-1]

    def launched(self, args: tuple) -> Any:
        """The function's result for these arguments: copies them in and launches the graph."""
        for recorded_array, argument in zip(self.input_arrays, args, strict=True):
            if recorded_array is not None:
                recorded_array[...] = argument._data
        for change in self.changes:
            change()
        self.graph.launch()
        for leaf, g in self.grads.items():
            leaf.grad = g
        # The recorded inputs are copies, so their gradients have to be added to the arguments'.
        for recorded_input, argument in zip(self.inputs, args, strict=True):
            if isinstance(recorded_input, Tensor) and recorded_input.grad is not None:
                g = wrap(recorded_input.grad._data.copy(), None)
                argument.grad = g if argument.grad is None else argument.grad + g
        return finished(self.result, copy=True)


class Gone:
    """Takes the place of the op behind a result whose graph was still alive when the function
    returned. backward from such a result raises an error that says what to do."""

    name = "captured"

    def pieces(self, *_: Any) -> Any:
        raise RuntimeError(
            "backward through what a captured function returned: its history stays in there. Call "
            "backward, or tinycv.grad, in the function"
        )


GONE = Gone()


def finished(result: Any, copy: bool = False) -> Any:
    """A function's result without its history. With ``copy`` all Tensors in it are copied, also
    within tuples, lists and dicts, because the next launch overwrites the recorded ones."""
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
