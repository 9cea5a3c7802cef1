"""What an exercise is: functions with a blank, what they must equal, and known mistakes.

The answer is an ordinary function in the exercise's file.  Everything else is made from its source:
the blank (the function without its body) and the mutants (the function with one planted mistake).
What the answer must equal is a function of the package, so the exercise cannot drift away from it.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from inspect import Parameter, Signature, signature
from typing import Any

import numpy as np

from demos.exercises import ORDER
from demos.exercises.allowed import tensor_methods
from tinycv import Tensor, grad, zeros_like
from tinycv.engine.check import certify
from tinycv.engine.record import op

BLANK = "    # Write your answer here, in place of the next line.\n    raise NotImplementedError\n"


class WrongResult(Exception):
    """An answer returned something that cannot be compared; the text says what, in one clause."""


@dataclass(frozen=True)
class Wrong:
    """A known mistake: in the answer's source the text ``right`` becomes ``wrong``.

    fault: a few words that name it, such as "the sign". words: one or two whole sentences that
    explain it.
    """

    fault: str
    right: str
    wrong: str
    words: str


@dataclass(frozen=True)
class Definition:
    """A function that the learner writes, compared with ``reference``, a function of the package.

    function: the answer. cases: tuples of arguments; float arrays are in float64. extremes: more
    cases, with large numbers for example, that are compared but not differentiated. order: how
    often the certificate differentiates (0: not at all). constant: the arguments that it does not
    differentiate by.
    gradient_by: an argument, or "". The derivative of the result's sum by it is then compared too,
    because some mistakes change only the derivative.
    """

    function: Callable
    reference: Callable
    cases: Sequence[tuple]
    wrong: Sequence[Wrong]
    extremes: Sequence[tuple] = ()
    order: int = 2
    constant: Sequence[str] = ()
    gradient_by: str = ""

    @property
    def name(self) -> str:
        """The name of the function that the learner writes."""
        return self.function.__name__

    @property
    def reference_name(self) -> str:
        """The name of the package's own answer."""
        row = getattr(self.reference, "row", self.reference)
        return getattr(row, "name", None) or getattr(row, "__name__", "")

    @property
    def parameters(self) -> list[str]:
        """The names of its arguments."""
        return list(signature(self.function).parameters)

    def arguments(self, case: tuple, dtype: str) -> dict[str, Any]:
        """The arguments of the learner's function by name, with Tensors for arrays."""
        values = [as_tensor(value, dtype) for value in case]
        return dict(zip(self.parameters, values, strict=True))

    def describe(self, case: tuple) -> str:
        """The arguments in words: the shapes of Tensors, other values as they are."""
        words = []
        for name, value in self.arguments(case, "float64").items():
            if isinstance(value, Tensor):
                words.append(f"{name} {value.shape}")
            elif not callable(value):
                words.append(f"{name} = {value}")
        return ", ".join(words)

    def call(self, function: Callable, arguments: dict[str, Any]) -> Any:
        """What the learner's function returns, Tensors, and the gradient if it is compared too."""
        if not self.gradient_by:
            return function(**arguments)
        x = arguments[self.gradient_by]
        x.requires_grad = True
        y = function(**arguments)
        if not isinstance(y, Tensor) or not y.requires_grad:
            return y, zeros_like(x)
        (slope,) = grad(y.sum(), x, allow_unused=True)
        return y.detach(), zeros_like(x) if slope is None else slope

    def result_name(self, i: int, count: int) -> str:
        """The name of result i of ``count``, or "" if there is only one."""
        if self.gradient_by:
            return ("the result itself", f"its gradient by {self.gradient_by}")[i]
        return f"result {i + 1}" if count > 1 else ""

    def expected(self, case: tuple, dtype: str) -> Any:
        """What the package's function returns."""

        def reference(**arguments):  # its arguments may have other names
            return self.reference(*arguments.values())

        return self.call(reference, self.arguments(case, dtype))

    def certify(self, function: Callable, case: tuple) -> tuple[float, ...]:
        """The errors of the function's derivatives against finite differences, order by order."""
        if not self.order:
            return ()
        by_name = dict(zip(self.parameters, case, strict=True))
        fixed = {
            name: as_tensor(value, "float64")
            for name, value in by_name.items()
            if name in self.constant or callable(value)
        }
        varying = {name: value for name, value in by_name.items() if name not in fixed}

        def of_varying(*values):
            return function(**fixed, **dict(zip(varying, values, strict=True)))

        return certify(of_varying, *varying.values(), order=self.order, name=self.name)


@dataclass(frozen=True)
class Pull(Definition):
    """A derivative that the learner writes, as in a row of tinycv/engine/ops.py.

    function: the pull. Its parameters name what it needs: g, y, an input, or x_shape, the shape of
    input x (see the top of tinycv/engine/record.py). reference: the op or pair of the package; a
    case holds its inputs. inputs: their names. to: the input whose gradient the pull returns.
    """

    inputs: tuple[str, ...] = ("x",)
    to: str = "x"

    def arguments(self, case: tuple, dtype: str) -> dict[str, Any]:
        values = dict(zip(self.inputs, (as_tensor(v, dtype) for v in case), strict=True))
        y = self.reference(*values.values())
        shapes = {
            f"{name}_shape": np.shape(value) for name, value in zip(self.inputs, case, strict=True)
        }
        known = {**values, **shapes, "y": y, "g": self.gradient(y)}
        return {name: known[name] for name in self.parameters}

    def gradient(self, y: Tensor) -> Tensor:
        """Some dL/dy: the same for the same shape, and different for each entry."""
        g = np.random.default_rng(y.size).standard_normal(y.shape)
        return Tensor(g.astype(y.dtype))

    def expected(self, case: tuple, dtype: str) -> Tensor:
        """What the package's own backward pass returns."""
        values = [as_tensor(value, dtype) for value in case]
        x = values[self.inputs.index(self.to)]
        x.requires_grad = True
        y = self.reference(*values)
        return grad(y, x, self.gradient(y.detach()))[0]

    def certify(self, function: Callable, case: tuple) -> tuple[float, ...]:
        """Puts the learner's pull into the op's row, and certifies the op."""
        return certify(self.op_with(on_tensors(function)), *case, order=self.order, name=self.name)

    def op_with(self, function: Callable) -> Callable:
        """The op, in which the learner's function is the pull of input ``to``."""
        row = getattr(self.reference, "row", None)
        if row is not None:
            pulls = dict(zip(row.inputs, row.pulls, strict=True))
            return op(row.forward, wide=row.wide, **{**pulls, self.to: function})

        def forward(xp, *arrays):
            return self.reference(*arrays)

        # ``op`` reads the names of the inputs from the signature
        names = ("xp", *self.inputs)
        kind = Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = Signature([Parameter(name, kind) for name in names])
        return op(forward, **{self.to: function})


@dataclass(frozen=True)
class Exercise:
    """One exercise: its parts, which the learner writes in this order, and what the page says.

    names: what an answer may import from tinycv. hint: one sentence. read: where the package does
    the same, to compare with afterwards. methods: further Tensor attributes that an answer may use
    (the usual ones are in allowed.py). forbidden: usual ones that would be the answer.
    """

    parts: Sequence[Definition]
    hint: str
    read: str
    names: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What users type: the name of the exercise's file."""
        return self.parts[0].function.__module__.rpartition(".")[2]

    @property
    def text(self) -> str:
        """The docstring of the exercise's file."""
        return inspect.cleandoc(sys.modules[self.parts[0].function.__module__].__doc__ or "")

    @property
    def title(self) -> str:
        """The first line of the file."""
        return self.text.splitlines()[0]

    @property
    def number(self) -> int:
        """Its place in the lecture's order, from 1."""
        return ORDER.index(self.name) + 1

    def blank(self) -> str:
        """The file that the learner gets."""
        return self.page() + "".join(f"\n\n{blank_of(part.function)}" for part in self.parts)

    def solution(self) -> str:
        """The same file with the answer in it."""
        return self.page() + "".join(f"\n\n{source_of(part.function)}" for part in self.parts)

    def mutant(self, part: Definition, *mistakes: Wrong) -> str:
        """The solution with planted mistakes in one of its parts."""
        right = source = source_of(part.function)
        for mistake in mistakes:
            if source.count(mistake.right) != 1:
                raise ValueError(
                    f"{self.name}: {mistake.right!r} occurs {source.count(mistake.right)} times in "
                    f"{part.name}; it must occur once"
                )
            source = source.replace(mistake.right, mistake.wrong)
        return self.solution().replace(right, source)

    def page(self) -> str:
        """The top of the learner's file: what to write, from what, and how to check it."""
        head, _, body = self.text.partition("\n")
        names = f", the functions {', '.join(self.names)} of tinycv" if self.names else ""
        tools = (
            f"plain Python, + - * / ** @, indexing{names}, and these methods and attributes: "
            f"{', '.join(tensor_methods(self))}. You will not need all of them."
        )
        notes = [f"Hint: {self.hint}", f"You may use {tools}"]
        command = f"Check your answer:    python -m demos exercise check {self.name}"
        afterwards = f"When it is solved, compare it with {self.read}"
        text = "\n\n".join(filled(note) for note in (*notes, command, afterwards))
        title = f"Exercise {self.number} of {len(ORDER)}. {head}"
        top = f'"""{title}\n{body}\n\n{text}\n"""\n'
        return top + (f"\nfrom tinycv import {', '.join(self.names)}\n" if self.names else "")


def filled(note: str) -> str:
    """A note of the page, in lines of at most 96 characters."""
    return textwrap.fill(
        note, 96, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def load(name: str) -> Exercise:
    """The exercise with this name."""
    return import_module(f"demos.exercises.{name}").EXERCISE


def source_of(function: Callable) -> str:
    """The text of a function."""
    return inspect.getsource(function)


def blank_of(function: Callable) -> str:
    """The text of a function, with a blank for everything below its docstring."""
    source = source_of(function)
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.FunctionDef)
    last = definition.body[0].end_lineno
    return "".join(source.splitlines(keepends=True)[:last]) + BLANK


def on_tensors(pull: Callable) -> Callable:
    """The pull with Tensors for arrays. In the first derivative, the engine calls pulls on bare
    arrays; a learner need not know that they lack some methods of Tensors, such as exp."""

    @wraps(pull)  # ``op`` reads the names of the arguments
    def wrapped(*values):
        if any(isinstance(value, Tensor) for value in values):
            return pull(*values)
        tensors = [Tensor(np.asarray(v)) if hasattr(v, "dtype") else v for v in values]
        return pull(*tensors).numpy()

    return wrapped


@contextmanager
def drawing(module: Any, name: str, noise: Any) -> Iterator[None]:
    """``with drawing(module, name, noise):`` lets ``module.name``, which draws random numbers,
    return ``noise`` instead. So a function of the package that draws its own noise can be compared
    with an answer that receives the noise as an argument."""
    draw = getattr(module, name)
    setattr(module, name, lambda *shape_and_dtype: noise)
    try:
        yield
    finally:
        setattr(module, name, draw)


def as_tensor(value: Any, dtype: str) -> Any:
    """An array as a Tensor, of this dtype if it holds floats; any other value as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return Tensor(value.astype(dtype) if value.dtype.kind == "f" else value)
