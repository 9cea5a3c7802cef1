"""A training step recorded once as a CUDA graph, and then launched as one.

A small model's step is some hundred kernels of a few microseconds each, and Python needs longer to launch one than the
GPU to run it.  CUDA can note the launches in place of running them, and later run the whole list at one call:

    step = tinycv.captured(step)                # step(images, labels): zero_grad, forward, backward, optimizer.step
    for images, labels in loader:
        loss = step(images, labels)             # a Tensor; everything that step changes is changed as ever

The first WARM calls with arguments of new shapes run as they are: kernels are compiled, and memory is asked for.  The next
is recorded, and launched.  From then on a call copies its arguments to where the recorded ones lie, and launches the list.

What is noted are kernels, addresses and numbers, not Python.  So of what a step reads on the host:

    a shape, a flag, a number     stays as it was when the step was recorded
    Adam's and AdamW's options    may change between calls, "lr" too: they are sent to the device before each launch
    other optimisers' options     are looked at before each launch: where one has changed, the step is recorded anew
    random numbers                go on from call to call, for the generator lives on the device
    loss.item(), a host's array   would be a wait, or a copy of what has long changed: refused, in words

On the CPU ``captured`` calls the function and does nothing else, so that a program runs on either.
Where to read on: CUDA C++ Programming Guide, section "CUDA Graphs".
differs: PyTorch's torch.cuda.graph leaves it to its caller to copy the arguments and to make Adam capturable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from tinycv.engine import backend, capturing
from tinycv.engine.tensor import Tensor, wrap

WARM = 3                                        # calls that run as they are


def captured(function: Callable, device: str | None = None) -> Captured:
    """``function``, of Tensors and plain values, as a CUDA graph from its fourth call on. See the top of this file.

    device: where it runs; needed only where no argument is a Tensor.
    It returns Tensors, or tuples, lists and dicts of them: copies without a history, so that a list of losses is one.
    """
    return Captured(function, device)


class Captured:
    """What ``captured`` returns. ``recordings`` has one for each kind of arguments: by shape, dtype, and plain value."""

    def __init__(self, function: Callable, device: str | None = None):
        self.function, self.device = function, None if device is None else backend.resolve(device)
        self.recordings: dict[tuple, Recording] = {}
        self.calls: dict[tuple, int] = {}
        self.stream: Any = None

    def __call__(self, *args: Any) -> Any:
        device = next((a.device for a in args if isinstance(a, Tensor)), self.device)
        if device is None:
            raise ValueError("captured: no argument is a Tensor, so say where it runs: captured(function, device)")
        if device == "cpu" or capturing.current() is not None:      # within another one it is a part of that
            return self.function(*args)
        cuda = backend.module_for(device).cuda
        if not hasattr(cuda.Stream, "begin_capture"):               # a CuPy that cannot
            return self.function(*args)
        kind = tuple([(a.shape, str(a.dtype), a.device) if isinstance(a, Tensor) else a for a in args])
        if kind in self.recordings and not self.recordings[kind].stands():
            del self.recordings[kind]
        if kind not in self.recordings:
            self.calls[kind] = self.calls.get(kind, 0) + 1
            if self.calls[kind] <= WARM:
                return self.beside(cuda, lambda: self.function(*args))
            self.recordings[kind] = self.beside(cuda, lambda: Recording(self.function, args, device, self.stream))
        return self.recordings[kind].launched(args)

    def beside(self, cuda: Any, work: Callable[[], Any]) -> Any:
        """Do the work on a stream of our own, for the usual one cannot be recorded. Each stream waits for the other."""
        if self.stream is None:
            self.stream = cuda.Stream(non_blocking=True)
        usual = cuda.get_current_stream()
        self.stream.wait_event(usual.record())
        try:
            with self.stream:
                return work()
        finally:
            usual.wait_event(self.stream.record())


class Recording:
    """One graph, the memory that it reads and writes, and what is looked at or sent before a launch."""

    def __init__(self, function: Callable, args: tuple, device: str, stream: Any):
        xp = backend.module_for(device)
        self.pool = xp.cuda.MemoryPool()                            # of its own: what is freed in here is used in here only
        self.xp, self.kept, usual = xp, [], xp.cuda.get_allocator()
        self.outside = lambda: xp.cuda.using_allocator(usual)       # memory that is not the recording's own
        self.changes: list[Callable[[], None]] = []
        self.seen: list[tuple[Callable[[], Any], Any]] = []
        with xp.cuda.using_allocator(self.pool.malloc):
            self.inputs = [wrap(a._data.copy(), a._node) if isinstance(a, Tensor) else a for a in args]
            stream.begin_capture()
            try:
                with capturing.by(self):
                    self.result = function(*self.inputs)
            except Exception as error:
                with contextlib.suppress(Exception):                # half a recording is no graph: the first error says why
                    stream.end_capture()
                error.add_note("while tinycv.captured recorded the function: tinycv/engine/capture.py says what it may do")
                raise
            self.graph = stream.end_capture()

    def before_launch(self, change: Callable[[], None]) -> None:
        """Call ``change`` before every launch."""
        self.changes.append(change)

    def room(self, size: int, dtype: str) -> Any:
        """An array that keeps from launch to launch what others put into it. (Memory that the recording itself gives out may
        have been a temporary's before: at every launch that one is written again.)"""
        with self.outside():
            self.kept.append(self.xp.empty(size, dtype))
        return self.kept[-1]

    def constant(self, array: Any) -> Any:
        """A table of the host, copied to the device now, and kept."""
        with self.outside(), self.xp.cuda.Stream(non_blocking=True) as beside:
            self.kept.append(self.xp.asarray(array))
            beside.synchronize()
        return self.kept[-1]

    def depends(self, look: Callable[[], Any]) -> None:
        """The recording stands as long as ``look()`` answers what it answers now."""
        self.seen.append((look, look()))

    def stands(self) -> bool:
        return all(look() == answer for look, answer in self.seen)

    def launched(self, args: tuple) -> Any:
        """The function's result for these arguments."""
        for own, given in zip(self.inputs, args, strict=True):
            if isinstance(own, Tensor):
                own._data[...] = given._data
        for change in self.changes:
            change()
        self.graph.launch()
        return copied(self.result)


def copied(result: Any) -> Any:
    """Tensors as copies, also within tuples, lists and dicts: the next launch writes to the recorded ones."""
    if isinstance(result, Tensor):
        return wrap(result._data.copy(), None)
    if isinstance(result, dict):
        return {key: copied(value) for key, value in result.items()}
    return type(result)(map(copied, result)) if isinstance(result, (tuple, list)) else result
