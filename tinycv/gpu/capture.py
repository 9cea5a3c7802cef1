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

Read next: recording.py, one recording.   CUDA C++ Programming Guide, section "CUDA Graphs".
differs: with torch.cuda.graph the caller copies the arguments and passes capturable=True to Adam.
Closer to this are
    torch.cuda.make_graphed_callables and torch.compile(mode="reduce-overhead").
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tinycv.engine import backend, capturing
from tinycv.engine.tensor import Tensor, recording
from tinycv.gpu.recording import Recording, finished

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

    def beside(self, cuda: ModuleType, work: Callable[[], object]) -> Any:
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


def kind_of(argument: object) -> tuple:
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
