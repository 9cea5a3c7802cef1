"""Is a step being recorded as a CUDA graph (capture.py)?  What a recording must know of, or could not hold, asks here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinycv.engine.capture import Recording

_current: ContextVar[Recording | None] = ContextVar("tinycv_recording", default=None)
current = _current.get                          # the Recording that is being made in this thread, or None


@contextmanager
def by(recording: Recording) -> Iterator[None]:
    """Inside, ``current()`` is this one."""
    token = _current.set(recording)
    try:
        yield
    finally:
        _current.reset(token)


def refuse(what: str, instead: str) -> None:
    """RuntimeError while a step is recorded: ``what`` would happen once, and not at every launch."""
    if current() is not None:
        raise RuntimeError(f"{what} cannot be part of a step that tinycv.captured records, which keeps what the GPU does "
                           f"and forgets what Python does: {instead}")
