"""no_grad and enable_grad: switch the recording of the graph off and on.

    with tinycv.no_grad():          @tinycv.no_grad()        the same, as a block and as a decorator
        y = model(x)                def sample(...): ...

Each thread has its own mode, and so has each asyncio task (it is a context variable).  The mode has
two bits: are ops recorded, and does ``debug`` check their results?  A block sets only its own bit
and restores it at the end: ``no_grad`` inside ``debug`` still checks.
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

# The bits of the mode. RECORD: ops create Nodes. DEBUG: every result is checked for NaN.
OFF, RECORD, DEBUG = 0, 1, 2

# Each new thread begins with the default.
mode: ContextVar[int] = ContextVar("tinycv_mode", default=RECORD)
# For each block that is open: (the block, the RECORD bit before it)
entered: ContextVar[tuple] = ContextVar("tinycv_entered", default=())


def recording() -> bool:
    """Are ops recorded in this thread now?"""
    return bool(mode.get() & RECORD)


class _GradMode:
    """A block inside which the RECORD bit is ``bit``. One object may be entered several times, even
    inside itself, in other threads and in other tasks: the old bit is stored in the context, not in
    the object."""

    bit = OFF

    def __new__(cls, function: Callable | None = None) -> Any:
        block = super().__new__(cls)
        # ``@no_grad`` without parentheses passes the function here: decorate it at once.
        return block if function is None else block(function)

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
        """Decorator: the mode holds while the function runs. For a generator it holds while its own
        lines run, but not while the code that uses the generator does."""
        name = type(self).__name__
        if isclass(function) or not callable(function):
            raise TypeError(
                f"{name}: the decorator takes a function, not {function!r:.60}; to apply it to a "
                "class, decorate the methods"
            )
        if is_one(isgeneratorfunction, function):

            @wraps(function)
            def resumed(*args: Any, **options: Any) -> Generator:
                return self._step_by_step(function(*args, **options))

            return resumed
        if is_one(isasyncgenfunction, function):
            raise TypeError(
                f"{name}: the decorator does not take an asynchronous generator, because lines of "
                f"other tasks run between its own; write `with {name}():` around the lines of "
                f"{function.__qualname__} that need it"
            )
        if is_one(iscoroutinefunction, function):

            @wraps(function)
            async def awaited(*args: Any, **options: Any) -> Any:
                with type(self)():
                    return await function(*args, **options)

            return awaited

        # The attributes of a callable object are not copied onto the wrapper.
        @wraps(function, updated=("__dict__",) if isfunction(function) else ())
        def call(*args: Any, **options: Any) -> Any:
            with type(self)():
                return function(*args, **options)

        return call

    def _step_by_step(self, generator: Generator) -> Generator:
        """The same generator, with each of its steps in this mode; between two steps the caller's
        mode is back."""
        step = generator.__next__
        while True:
            try:
                with type(self)():
                    value = step()
            except StopIteration as end:
                return end.value
            try:
                sent = yield value
            except GeneratorExit:
                with type(self)():
                    generator.close()
                raise
            except BaseException as error:
                step = _bound(generator.throw, error)
            else:
                step = generator.__next__ if sent is None else _bound(generator.send, sent)


def is_one(predicate: Callable, function: Callable) -> bool:
    """Is the predicate (such as inspect.isgeneratorfunction) true of the function, of the function
    in a staticmethod, or of the __call__ of an object?"""
    functions = function, getattr(function, "__func__", None), type(function).__call__
    return any(map(predicate, functions))


def _bound(function: Callable, value: Any) -> Callable:
    """function(value) as a function without arguments."""
    return lambda: function(value)


class no_grad(_GradMode):
    """``with no_grad():`` or ``@no_grad()``: ops in this thread are not recorded."""

    bit = OFF


class enable_grad(_GradMode):
    """``with enable_grad():`` or ``@enable_grad()``: ops are recorded, even inside ``no_grad``."""

    bit = RECORD
