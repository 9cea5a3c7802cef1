"""Grad mode: do ops leave Nodes behind? And do they check their results?

    with tinycv.no_grad():          @tinycv.no_grad()        the same, as a block and as a decorator
        y = model(x)                def sample(...): ...

The mode belongs to a thread (in truth to a context, so that asyncio's tasks have one each). Only
the bit that a block is about is set, and put back after it: ``no_grad`` inside ``debug`` still
checks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import ContextVar
from functools import wraps
from inspect import (
    isasyncgenfunction,
    isclass,
    iscoroutinefunction,
    isfunction,
    isgeneratorfunction,
)
from typing import Any

# bits: leave Nodes behind; check every result
OFF, RECORD, DEBUG = 0, 1, 2

# each thread begins with the default
mode: ContextVar[int] = ContextVar("tinycv_mode", default=RECORD)
# (block, its RECORD bit from before), ...
entered: ContextVar[tuple] = ContextVar("tinycv_entered", default=())


def recording() -> bool:
    """Do ops leave Nodes behind, in this thread, now?"""
    return bool(mode.get() & RECORD)


class _GradMode:
    """A block inside which the RECORD bit is ``bit``. It may be entered again, also inside itself,
    by other threads and by other tasks: what was before belongs to the context, not to this object.
    """

    bit = OFF

    def __new__(cls, function: Callable | None = None) -> Any:
        made = super().__new__(cls)
        # @no_grad without parentheses decorates at once
        return made if function is None else made(function)

    def __enter__(self) -> _GradMode:
        now = mode.get()
        entered.set((*entered.get(), (self, now & RECORD)))
        mode.set(now & ~RECORD | self.bit)
        return self

    def __exit__(self, *_: object) -> None:
        blocks = entered.get()
        for i in reversed(range(len(blocks))):
            if blocks[i][0] is self:
                entered.set(blocks[:i] + blocks[i + 1 :])
                mode.set(mode.get() & ~RECORD | blocks[i][1])
                return

    def __call__(self, function: Callable) -> Callable:
        """Decorator: the mode holds while the function runs, and a generator while its own lines
        run."""
        name = type(self).__name__
        if isclass(function) or not callable(function):
            raise TypeError(
                f"{name}: the decorator takes a function, not {function!r:.60}; decorate a class's "
                "methods"
            )
        if is_one(isgeneratorfunction, function):

            @wraps(function)
            def resumed(*args: Any, **options: Any) -> Generator:
                return self._step_by_step(function(*args, **options))

            return resumed
        if is_one(isasyncgenfunction, function):
            raise TypeError(
                f"{name}: the decorator takes no asynchronous generator, whose lines run between "
                f"others' lines; put `with {name}():` around the lines of {function.__qualname__} "
                "that it is about"
            )
        if is_one(iscoroutinefunction, function):

            @wraps(function)
            async def awaited(*args: Any, **options: Any) -> Any:
                with type(self)():
                    return await function(*args, **options)

            return awaited

        # no copy of an object's attributes
        @wraps(function, updated=("__dict__",) if isfunction(function) else ())
        def call(*args: Any, **options: Any) -> Any:
            with type(self)():
                return function(*args, **options)

        return call

    def _step_by_step(self, generator: Generator) -> Generator:
        """The same generator, each of its steps in the mode, and whoever waits for the next one in
        his own."""
        step = generator.__next__
        while True:
            try:
                with type(self)():
                    made = step()
            except StopIteration as end:
                return end.value
            try:
                sent = yield made
            except GeneratorExit:
                with type(self)():
                    generator.close()
                raise
            except BaseException as error:
                step = _bound(generator.throw, error)
            else:
                step = generator.__next__ if sent is None else _bound(generator.send, sent)


def is_one(asked: Callable, function: Callable) -> bool:
    """Does inspect say so of the function, of the one in a staticmethod, or of an object's
    __call__?"""
    return any(map(asked, (function, getattr(function, "__func__", None), type(function).__call__)))


def _bound(function: Callable, value: Any) -> Callable:
    return lambda: function(value)


class no_grad(_GradMode):
    """``with no_grad():`` or ``@no_grad()``: ops leave no Nodes behind, in this thread."""

    bit = OFF


class enable_grad(_GradMode):
    """``with enable_grad():`` or ``@enable_grad()``: record again inside a ``no_grad`` block."""

    bit = RECORD
