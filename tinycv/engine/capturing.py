"""What the rest of the package tells a recording in progress (gpu/recording.py), and what it
must refuse while there is one.

``current()`` is the Recording being made in this thread, or None.  Code that depends on Python's
state registers that with it; code that a CUDA graph cannot hold calls ``refuse``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinycv.engine.tensor import Tensor
    from tinycv.gpu.recording import Recording

_current: ContextVar[Recording | None] = ContextVar("tinycv_recording", default=None)
# the Recording that is being made in this thread, or None
current = _current.get


@contextmanager
def by(recording: Recording) -> Iterator[None]:
    """Inside, ``current()`` is this one."""
    token = _current.set(recording)
    try:
        yield
    finally:
        _current.reset(token)


def forget_gradients(leaves: Iterable[Tensor]) -> None:
    """Set ``leaf.grad = None``, and tell the recording in progress."""
    leaves, recording = list(leaves), current()
    for leaf in leaves:
        leaf.grad = None
    if recording is not None:
        recording.cleared.update(leaves)


def refuse(what: str, instead: str) -> None:
    """RuntimeError while a step is recorded: ``what`` would happen once, and not at every
    launch."""
    if current() is not None:
        raise RuntimeError(
            f"{what} cannot be part of a step that tinycv.captured records, which keeps what the "
            f"GPU does and forgets what Python does: {instead}"
        )
