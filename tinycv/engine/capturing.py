"""CUDA graph capture, as the rest of the package sees it: what to register and what to refuse.

While ``tinycv.captured`` records a step (gpu/recording.py), ``current()`` is the Recording in
progress; otherwise it is None.  A CUDA graph repeats what the GPU did, but not what Python did.  So
code whose result depends on Python state registers that state with the Recording, and code that a
CUDA graph cannot repeat calls ``refuse``.
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
current = _current.get  # current() is the Recording in progress in this thread, or None


@contextmanager
def by(recording: Recording) -> Iterator[None]:
    """Inside the block, ``current()`` is this Recording."""
    token = _current.set(recording)
    try:
        yield
    finally:
        _current.reset(token)


def forget_gradients(leaves: Iterable[Tensor]) -> None:
    """Set ``leaf.grad = None`` for all leaves, and register that with the Recording in progress."""
    leaves, recording = list(leaves), current()
    for leaf in leaves:
        leaf.grad = None
    if recording is not None:
        recording.cleared.update(leaves)


def refuse(what: str, instead: str) -> None:
    """RuntimeError while a step is recorded, because ``what`` would happen once and not at every
    launch. instead: what the user can do."""
    if current() is not None:
        raise RuntimeError(
            f"{what} cannot be part of a step that tinycv.captured records, because a recorded "
            f"step repeats what the GPU did but not what Python did: {instead}"
        )
