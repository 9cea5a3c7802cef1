"""The machine that reads the pickle in a .pt file, and can do nothing else.

A pickle is a program for a small stack machine, and one of its instructions is: take a function by
its name, whichever Python can import, and call it.  So to load a stranger's pickle is to run a
stranger's program.  Here is a machine that has only the instructions of which a dict of tensors is
built.  A function is nothing but a name to it: a few names have a meaning, and at any other the
reading ends, with that name.  Python's own unpickler is never used.

Read next: torch_file.py, which has the file around it.
The instructions: ``python -m pickletools``, and its source.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from pickletools import genops
from typing import Any

import numpy as np

STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": "f4",
        "Double": "f8",
        "Half": "f2",
        "BFloat16": "bfloat16",
        "Long": "i8",
        "Int": "i4",
        "Short": "i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}
READ = "float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool"
# of what has no storage of its own: the dtype is an argument
BY_TYPE = "torch._utils._rebuild_tensor_v3"
ORDERED, TENSOR, PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)


class Refused(ValueError):
    """The sentence that says why a file is not read."""


class Named(str):
    """The name of a function or a type, which is never looked up."""


class Machine:
    """Runs a pickle's instructions; STEPS says what each does to the stack. store: makes arrays, as
    torch_file.Storages.

    most: how many instructions it runs. Each takes about a microsecond, and may leave an object
    behind.
    """

    def __init__(self, store: Any, most: int):
        self.store, self.most, self.stack, self.memo = store, most, [], {}
        # the stacks that lie below: each MARK begins a new one
        self.marks: list[list] = []

    def run(self, program: bytes) -> Any:
        """What the program builds: dicts, lists, tuples, words, numbers, and arrays in the place of
        tensors."""
        for count, (opcode, argument, _) in enumerate(genops(program)):
            if count >= self.most:
                raise Refused(
                    f"refused: its pickle has more than {self.most} instructions, which "
                    "so few tensors do not need"
                )
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name not in STEPS:
                raise Refused(
                    f"refused: its pickle uses {opcode.name}, of which no dict of tensors has need"
                )
            STEPS[opcode.name](self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def to_mark(self) -> list:
        """Everything since the last MARK, taken off."""
        above, self.stack = self.stack, self.marks.pop()
        return above

    def take(self, count: int) -> tuple:
        return tuple([self.pop() for _ in range(count)][::-1])

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused(
                f"damaged: its pickle takes {kind(module)} and {kind(name)} for a function's name"
            )
        full = f"{module}.{name}"
        if full not in STORAGES and full not in (ORDERED, TENSOR, PARAMETER):
            if what := other_tensor(full):
                raise Refused(
                    f"refused: it holds a tensor {what} ({short(full)}); dense tensors of {READ} "
                    "are read"
                )
            raise Refused(
                f"refused: its pickle asks for {short(full)}, which is no part of a dict of "
                "tensors; nothing was run. Save model.state_dict() alone"
            )
        self.push(Named(full))

    def call(self) -> None:
        name, arguments = self.take(2)
        if not isinstance(name, Named) or not isinstance(arguments, tuple):
            raise Refused(f"damaged: its pickle calls {kind(name)}")
        if name == ORDERED and not arguments:
            self.push({})
        # then requires_grad, hooks, metadata
        elif name == TENSOR and len(arguments) in (6, 7):
            self.as_stored(*arguments[6:])
            self.push(self.store.view(*arguments[:4]))
        elif name == PARAMETER and len(arguments) == 3 and isinstance(arguments[0], np.ndarray):
            self.push(arguments[0])
        else:
            raise Refused(
                f"damaged: its pickle calls {name} with arguments that torch.save does not write"
            )

    def as_stored(self, metadata: Any = None) -> None:
        """Refused unless a tensor's numbers are those of its storage. PyTorch negates or conjugates
        some views only when they are read, and notes that in the metadata: {"neg": True}.
        """
        if metadata:
            raise Refused(
                f"refused: a tensor's numbers are not those in its storage "
                f"({short(metadata)}): save it after .resolve_neg().resolve_conj()"
            )

    def set_items(self, pairs: list | tuple) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Refused(f"damaged: its pickle sets items of {kind(target)}")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, int):
                raise Refused(
                    f"refused: {kind(key)} is a key in its pickle; keys are words or numbers"
                )
            target[key] = value

    def append(self, values: list | tuple) -> None:
        if not isinstance(self.stack[-1], list):
            raise Refused(f"damaged: its pickle appends to {kind(self.stack[-1])}")
        self.stack[-1].extend(values)

    def build(self) -> None:
        """state_dict() hangs the versions of its layers, ``_metadata``, on its OrderedDict: nothing
        that is needed here."""
        self.pop()
        if not isinstance(self.stack[-1], dict):
            raise Refused(f"refused: its pickle sets attributes of {kind(self.stack[-1])}")


STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        Machine.push,
    ),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "MARK": lambda m, _: m.mark(),
    "TUPLE": lambda m, _: m.push(tuple(m.to_mark())),
    "TUPLE1": lambda m, _: m.push(m.take(1)),
    "TUPLE2": lambda m, _: m.push(m.take(2)),
    "TUPLE3": lambda m, _: m.push(m.take(3)),
    "APPEND": lambda m, _: m.append(m.take(1)),
    "APPENDS": lambda m, _: m.append(m.to_mark()),
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.to_mark()),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"), lambda m, place: m.memo.update({place: m.stack[-1]})
    ),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[place])),
    "GLOBAL": lambda m, names: m.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.take(2)),
    "BINPERSID": lambda m, _: m.push(m.store.storage(m.pop())),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}


def other_tensor(name: str) -> str:
    """Of what kind a tensor is that torch.save writes by a function, or with a storage, of this
    name; empty if of none."""
    if name == BY_TYPE:
        return "of uint16, uint32, uint64, complex32 or of floats of 8 bits or fewer"
    if re.fullmatch(r"torch\._utils\._rebuild_\w+", name):
        return "that is sparse, quantised or of a class of its own"
    storage = re.fullmatch(r"torch\.(\w+)Storage", name)
    return f"with numbers of type {storage[1]}" if storage else ""


def kind(value: Any) -> str:
    """What a value of the file is, in an error message: a name that it refers to, or an object of a
    type."""
    return f"the name {value}" if isinstance(value, Named) else f"a {type(value).__name__}"


def short(value: Any) -> str:
    """In so few letters, all of which can be printed, that it fits an error message; soon, whatever
    hides in it."""
    text = str(value) if isinstance(value, (str, int, Exception)) else reprlib.repr(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 80 else text[:77] + "..."
