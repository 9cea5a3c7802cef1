"""A safe reader for the pickle inside a .pt file, which can only build dicts of tensors.

A pickle is a program for a small stack machine, and two of its instructions import any function by
its name and call it. So loading a stranger's pickle means running a stranger's program. The machine
here has only the instructions that are needed to build a dict of tensors. To this machine a
function is just a name: a few names have a meaning, and any other name ends the reading with an
error that contains it. Python's own unpickler is never used.

Read next: torch_file.py, which reads the file around the pickle.
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
# rebuilds tensors whose dtype has no storage class; the dtype is an argument instead
BY_TYPE = "torch._utils._rebuild_tensor_v3"
ORDERED = "collections.OrderedDict"
TENSOR = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"


class Refused(ValueError):
    """The file is refused; the message says why."""


class Named(str):
    """The name of a function or a class, which is never looked up."""


class Machine:
    """Runs the instructions of a pickle; STEPS defines what each does to the stack.

    store: a torch_file.Storages, which makes the arrays. most: the largest number of instructions
    that it runs. Each takes about a microsecond, and may leave an object in memory.
    """

    def __init__(self, store: Any, most: int):
        self.store, self.most = store, most
        self.stack: list = []
        self.memo: dict[int, Any] = {}
        # the stacks below the current one: each MARK starts a new stack
        self.marks: list[list] = []

    def run(self, program: bytes) -> Any:
        """What the program builds: dicts, lists, tuples, strings, numbers, and an array for each
        tensor."""
        for count, (opcode, argument, _) in enumerate(genops(program)):
            if count >= self.most:
                raise Refused(
                    f"refused: its pickle has more than {self.most} instructions, too many for "
                    "so few tensors"
                )
            if opcode.name == "STOP":
                return self.pop()
            if opcode.name not in STEPS:
                raise Refused(
                    f"refused: its pickle uses {opcode.name}, which no dict of tensors needs"
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
        """Take everything since the last MARK off the stack, and return it."""
        above_mark = self.stack
        self.stack = self.marks.pop()
        return above_mark

    def take(self, count: int) -> tuple:
        """Take the top ``count`` values off the stack. The last one that was pushed comes last."""
        return tuple([self.pop() for _ in range(count)][::-1])

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused(
                f"damaged: its pickle uses {kind(module)} and {kind(name)} as a function's name"
            )
        full = f"{module}.{name}"
        if full not in STORAGES and full not in (ORDERED, TENSOR, PARAMETER):
            unread = unread_tensor(full)
            if unread:
                raise Refused(
                    f"refused: it holds a tensor {unread} ({short(full)}); only dense tensors of "
                    f"{READ} can be read"
                )
            raise Refused(
                f"refused: its pickle names {short(full)}, which is not part of a dict of "
                "tensors; nothing was run. Save model.state_dict() alone"
            )
        self.push(Named(full))

    def call(self) -> None:
        name, arguments = self.take(2)
        if not isinstance(name, Named) or not isinstance(arguments, tuple):
            raise Refused(f"damaged: its pickle calls {kind(name)}")
        if name == ORDERED and not arguments:
            self.push({})
        # storage, offset, shape, strides, requires_grad, hooks, and in some files metadata
        elif name == TENSOR and len(arguments) in (6, 7):
            self.refuse_lazy_view(*arguments[6:])
            self.push(self.store.view(*arguments[:4]))
        elif name == PARAMETER and len(arguments) == 3 and isinstance(arguments[0], np.ndarray):
            self.push(arguments[0])
        else:
            raise Refused(
                f"damaged: its pickle calls {name} with arguments that torch.save does not write"
            )

    def refuse_lazy_view(self, metadata: Any = None) -> None:
        """Refuse a tensor whose numbers are not those in its storage. PyTorch negates or conjugates
        some views only when they are read, and says so in the metadata: {"neg": True}.
        """
        if metadata:
            raise Refused(
                f"refused: a tensor's numbers are not those in its storage "
                f"({short(metadata)}): call .resolve_neg().resolve_conj() before saving"
            )

    def set_items(self, pairs: list | tuple) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Refused(f"damaged: its pickle sets items of {kind(target)}")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, int):
                raise Refused(
                    f"refused: a key in its pickle is {kind(key)}; it must be a string or an int"
                )
            target[key] = value

    def append(self, values: list | tuple) -> None:
        if not isinstance(self.stack[-1], list):
            raise Refused(f"damaged: its pickle appends to {kind(self.stack[-1])}")
        self.stack[-1].extend(values)

    def build(self) -> None:
        """Drop the attributes of an OrderedDict. PyTorch's state_dict() has one, ``_metadata``,
        with the versions of its layers, which is not needed here."""
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
        ("BINPUT", "LONG_BINPUT"), lambda m, index: m.memo.update({index: m.stack[-1]})
    ),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, index: m.push(m.memo[index])),
    "GLOBAL": lambda m, names: m.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.take(2)),
    "BINPERSID": lambda m, _: m.push(m.store.storage(m.pop())),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}


def unread_tensor(name: str) -> str:
    """Describes the kind of tensor, which tinycv does not read, that torch.save writes with a
    function or storage of this name; "" if the name has nothing to do with tensors."""
    if name == BY_TYPE:
        return "of uint16, uint32, uint64, complex32 or of floats of 8 bits or fewer"
    if re.fullmatch(r"torch\._utils\._rebuild_\w+", name):
        return "that is sparse, quantised or of a special class"
    storage = re.fullmatch(r"torch\.(\w+)Storage", name)
    return f"with numbers of type {storage[1]}" if storage else ""


def kind(value: Any) -> str:
    """How an error message calls a value of the file: "the name ..." or "a TYPE"."""
    return f"the name {value}" if isinstance(value, Named) else f"a {type(value).__name__}"


def short(value: Any) -> str:
    """``value`` as at most 80 printable characters, for an error message; computed quickly, however
    large the value is."""
    text = str(value) if isinstance(value, (str, int, Exception)) else reprlib.repr(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 80 else text[:77] + "..."
