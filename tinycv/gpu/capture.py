"""CUDA graphs: ``captured(step)`` records a training step once and replays it with one launch.

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
recorded arrays and launches the graph.  Each combination keeps its own memory, so drop an
incomplete last batch, and do not pass a number that changes at every call.

A graph holds kernels, addresses and numbers, but no Python.  Whatever else Python does in the step
(``losses.append``, a counter, ``print``) happens in the first calls and never again.  The things
that a step may read or change behave as follows:

    a number, a flag, a shape     keeps the value that it had when the step was recorded. If it is
                                  an argument, another value selects another recording. Whether a
                                  module is in train() or eval() mode is checked before each launch
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
    a NumPy array as an operand   would be copied to the GPU once, and be out of date at every later
                                  launch: RuntimeError
    t.data = another array        RuntimeError inside the step. Outside, it discards the recording
                                  if t is a Module's or an optimiser's (of a Tensor that belongs to
                                  neither, this goes unnoticed)
    p.grad                        is the recorded gradient array, with the values of this launch;
                                  the next launch overwrites it. Gradients cannot be accumulated
                                  over calls: zero_grad in the step, or before every call
    allow_tf32                    as it was when the step was recorded: call it first

A step with Half (training/half.py) cannot be recorded, because it has to wait for the GPU to learn
whether gradients overflowed.  On a CPU, and with a CuPy that cannot capture, ``captured`` just
calls the function, so the same program runs everywhere.

Read next: recording.py, one recording; CUDA C++ Programming Guide, section "CUDA Graphs".
differs: with torch.cuda.graph the caller has to copy the arguments and pass capturable=True to
Adam. torch.cuda.make_graphed_callables and torch.compile(mode="reduce-overhead") are closer to
this.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tinycv.engine import backend, capturing
from tinycv.engine.tensor import Tensor, recording
from tinycv.gpu.recording import Recording, finished

WARM = 3  # calls that run normally before one is recorded


def captured(function: Callable, device: str | None = None) -> Captured:
    """A function that does the same as ``function``, but as a CUDA graph from the fourth call on.
    See the top of this file.

    The arguments are Tensors and plain values, and are passed by position. device: where it runs;
    needed only if no argument is a Tensor. The result is copied and has no history (Tensors, or
    tuples, lists and dicts of Tensors), so losses that are collected in a list keep their values
    when the next launch overwrites the recorded arrays.
    """
    return Captured(function, device)


class Captured:
    """What ``captured`` returns. ``recordings`` holds one Recording for each combination of
    argument shapes, dtypes and plain values."""

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
        # inside another captured function, this one becomes a part of that recording
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
            # The next call runs normally once: it may compile kernels for another dtype, or make
            # the generator for another seed. The call after it is recorded.
            self.calls[kind] = WARM - 1
        if kind not in self.recordings:
            self.calls[kind] = self.calls.get(kind, 0) + 1
            if self.calls[kind] <= WARM:
                return self.on_own_stream(cuda, lambda: finished(self.function(*args)))
            self.recordings[kind] = self.on_own_stream(
                cuda, lambda: Recording(self.function, args, device, self.stream)
            )
        return self.recordings[kind].launched(args)

    def on_own_stream(self, cuda: ModuleType, work: Callable[[], object]) -> Any:
        """Do the work on a separate stream, because the default stream cannot be recorded. The
        separate stream first waits for the current one, and afterwards the other way round."""
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
    """What has to be equal for an argument to be served by the same recording. 1, 1.0 and True
    differ, since their results may differ in dtype."""
    if isinstance(argument, Tensor):
        if recording() and not argument.is_leaf:
            raise ValueError(
                f"captured: an argument of shape {argument.shape} has a history, and no gradient "
                "would flow back into it; detach() it, or compute it in the function"
            )
        return argument.shape, str(argument.dtype), argument.requires_grad
    if isinstance(argument, tuple):
        if any(isinstance(a, Tensor) for a in argument):
            raise TypeError(
                "captured: a Tensor in a tuple is not an argument; pass it as a separate argument"
            )
        return tuple, tuple(map(kind_of, argument))
    try:
        hash(argument)
    except TypeError:
        raise TypeError(
            f"captured takes Tensors and plain values, not {type(argument).__name__}"
        ) from None
    return type(argument), repr(argument) if isinstance(argument, float) else argument
