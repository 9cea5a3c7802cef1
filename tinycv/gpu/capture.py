"""CUDA graphs: ``captured(step)`` records a training step once, and then replays it with one
launch.

A small model's step launches hundreds of kernels of a few microseconds each, and Python needs
longer to launch a kernel than the GPU needs to run it.  CUDA can record the launches instead of
running them, and later replay the whole list in one call:

    # step(images, labels): zero_grad, forward, backward, optimizer.step
    step = tinycv.captured(step)
    for images, labels in loader:               # a DataLoader yields NumPy arrays
        loss = step(Tensor(images, device="gpu"), Tensor(labels, device="gpu"))

A recording serves one combination of argument shapes, dtypes and plain values.  For each
combination the first WARM calls run normally, so that kernels are compiled and memory is allocated.
The next call is recorded and then launched.  Every later call copies its arguments into the
recorded arrays and launches the graph.  Each combination keeps its own memory: drop an incomplete
last batch, and pass no number that changes at every call.

A graph holds kernels, addresses and numbers, not Python.  What Python does besides
(``losses.append``, a counter, ``print``) happens in the first calls and never again.  Of what a
step reads:

    a number, a flag, a shape     keeps the value that it had when the step was recorded. One that
                                  is passed as an argument selects a recording; a module's train()
                                  or eval() is checked before each launch
    Adam's and AdamW's options    may change between calls, "lr" too: they are sent to the GPU
                                  before each launch
    SGD's options                 are compared before each launch. A change discards the recording:
                                  that call runs normally, and the next one is recorded. So a
                                  schedule that changes lr at every step never replays
    random numbers                continue from call to call, because the generator lives on the
                                  GPU. manual_seed discards the recording of a step that draws some,
                                  so do not seed before every step
    loss.item(), print(loss)      would have to wait for the GPU: RuntimeError. Return the Tensor
                                  and read it after the call
    a NumPy array as an operand   would be copied once, and be out of date at every later launch:
                                  RuntimeError
    t.data = another array        RuntimeError inside the step. Outside, it discards the recording
                                  if t is a Module's or an optimiser's (of a Tensor that belongs to
                                  neither, this goes unnoticed)
    p.grad                        is the recorded gradient array, with the values of this launch;
                                  the next launch overwrites it. Gradients cannot be accumulated
                                  over calls: zero_grad in the step, or before every call
    allow_tf32                    as it was when the step was recorded: call it first

Half cannot be recorded: it has to wait, to learn whether gradients overflowed.  On the CPU, and
with a CuPy that cannot capture, ``captured`` only calls the function, so that a program runs on
either.

Where to read on: CUDA C++ Programming Guide, section "CUDA Graphs".
differs: with torch.cuda.graph the caller copies the arguments and passes capturable=True to Adam.
Closer to this are
    torch.cuda.make_graphed_callables and torch.compile(mode="reduce-overhead").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np

from tinycv.engine import backend, capturing, watch
from tinycv.engine.tensor import LEAF, Node, Tensor, recording, wrap
from tinycv.engine.watch import tick

WARM = 3  # calls that run as they are


def captured(function: Callable, device: str | None = None) -> Captured:
    """``function``, of Tensors and plain values, as a CUDA graph from its fourth call on. See the
    top of this file.

    device: where it runs; needed only where no argument is a Tensor. Arguments are positional.
    It returns copies without a history (Tensors, or tuples, lists and dicts of them), so losses
    collected in a list keep their values when the next launch overwrites the recorded arrays.
    """
    return Captured(function, device)


class Captured:
    """What ``captured`` returns. ``recordings`` has one for each kind of arguments: by shape,
    dtype, and plain value."""

    def __init__(self, function: Callable, device: str | None = None):
        if not callable(function):
            raise TypeError(f"captured takes a function, not {type(function).__name__}")
        self.function, self.device = function, None if device is None else backend.resolve(device)
        self.recordings: dict[tuple, Recording] = {}
        self.calls: dict[tuple, int] = {}
        self.stream: Any = None

    def __call__(self, *args: Any) -> Any:
        devices = {a.device for a in args if isinstance(a, Tensor)}
        device = max(devices, default=self.device)  # "gpu:0" before "cpu"
        if device is None:
            raise ValueError(
                "captured: no argument is a Tensor, so say where it runs: captured(function, "
                "device)"
            )
        # within another one it is a part of that
        if device == "cpu" or capturing.current() is not None:
            return self.function(*args)
        cuda = backend.module_for(device).cuda
        if not hasattr(cuda.Stream, "begin_capture"):  # a CuPy that cannot
            return self.function(*args)
        if len(devices) > 1:
            raise ValueError(
                f"captured: arguments lie on {sorted(devices)}: a Tensor on the GPU, or a plain "
                "number"
            )
        kind = (recording(), *[kind_of(a) for a in args])
        if kind in self.recordings and not self.recordings[kind].stands():
            del self.recordings[kind]
            # once as it is: another dtype's kernels, another seed's generator are made
            self.calls[kind] = WARM - 1
        if kind not in self.recordings:
            self.calls[kind] = self.calls.get(kind, 0) + 1
            if self.calls[kind] <= WARM:
                return self.beside(cuda, lambda: finished(self.function(*args)))
            self.recordings[kind] = self.beside(
                cuda, lambda: Recording(self.function, args, device, self.stream)
            )
        return self.recordings[kind].launched(args)

    def beside(self, cuda: Any, work: Callable[[], Any]) -> Any:
        """Do the work on a stream of our own, for the usual one cannot be recorded. Each stream
        waits for the other."""
        if self.stream is None:
            self.stream = cuda.Stream(non_blocking=True)
        usual = cuda.get_current_stream()
        self.stream.wait_event(usual.record())
        try:
            with self.stream:
                return work()
        finally:
            usual.wait_event(self.stream.record())


def kind_of(argument: Any) -> Any:
    """What must be equal for a recording to serve. 1, 1.0 and True are not: results differ in
    dtype."""
    if isinstance(argument, Tensor):
        if recording() and not argument.is_leaf:
            raise ValueError(
                f"captured: an argument of shape {argument.shape} has a history, which no gradient "
                "would go down: detach() it, or compute it in the function"
            )
        return argument.shape, str(argument.dtype), argument.requires_grad
    if isinstance(argument, tuple):
        if any(isinstance(a, Tensor) for a in argument):
            raise TypeError(
                "captured: a Tensor in a tuple is none of the arguments: give it as one of its own"
            )
        return tuple, tuple(map(kind_of, argument))
    try:
        hash(argument)
    except TypeError:
        raise TypeError(
            f"captured takes Tensors and plain values, not {type(argument).__name__}"
        ) from None
    return type(argument), repr(argument) if isinstance(argument, float) else argument


class Notes:
    """Python's side of a recording: what is looked at and sent before a launch, and put back after
    it."""

    def __init__(self) -> None:
        self.changes: list[Callable[[], None]] = []
        self.seen: list[tuple[Callable[[], Any], Any]] = []
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

    def depends(self, look: Callable[[], Any]) -> None:
        """The recording stands as long as ``look()`` answers what it answers now."""
        self.seen.append((look, look()))

    def reads(self, tensors: Any) -> None:
        """It stands as long as these leaves lie where they lie now (the arrays are held, lest
        others get their place), and require a gradient if they do now."""
        for t in tensors:
            if t.is_leaf:
                self.leaves.setdefault(t, (t._data, t._node))

    def makes(self, gradients: Any) -> None:
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

    def reads_gradients(self, leaves: Any) -> None:
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
        super().__init__()
        xp = backend.module_for(device)
        # of its own: what is freed in here is used in here only
        self.pool = xp.cuda.MemoryPool()
        self.xp, self.kept, usual = xp, [], xp.cuda.get_allocator()
        # memory that is not the recording's own
        self.outside = lambda: xp.cuda.using_allocator(usual)
        with xp.cuda.using_allocator(self.pool.malloc):
            self.inputs = [
                wrap(a._data.copy(), a._node) if isinstance(a, Tensor) else a for a in args
            ]
            self.places = [a._data if isinstance(a, Tensor) else None for a in self.inputs]
            begun = tick()
            stream.begin_capture()
            try:
                with capturing.by(self):
                    self.result = finished(function(*self.inputs))
                if any(
                    isinstance(a, Tensor) and (a._moved or watch.changed_since(begun, a._data))
                    for a in self.inputs
                ):
                    raise RuntimeError(
                        "an argument was changed in place, which a recorded step would do to its "
                        "own copy: return the new values, or change a Tensor that is no argument"
                    )
            except BaseException as error:
                # half a recording is no graph: the first error says why
                with contextlib.suppress(Exception):
                    stream.end_capture()
                for leaf in self.grads:  # nothing was computed
                    leaf.grad = None
                error.add_note(
                    "while tinycv.captured recorded the function: tinycv/gpu/capture.py says what "
                    "it may do"
                )
                raise
            self.graph = stream.end_capture()
        self.grads = {leaf: leaf.grad for leaf in self.grads}

    def room(self, size: int, dtype: str) -> Any:
        """An array that keeps from launch to launch what others put into it. (Memory that the
        recording itself gives out may have been a temporary's before: at every launch that one is
        written again.)"""
        with self.outside():
            self.kept.append(self.xp.empty(size, dtype))
        return self.kept[-1]

    def constant(self, array: Any) -> Any:
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
