"""Writes .pt files as torch.save does, but without PyTorch, with classes that imitate PyTorch's.

So the tests of the reader need no PyTorch, and can write files that PyTorch never would.
"""

import io
import pickle
import zipfile

import numpy as np


class Function:
    """Pickles as the function of this name. Calling it gives an object that pickles as the call."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *arguments):
        return Call(self, arguments)


class Call:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Storage:
    """reference: what the pickle of a tensor says about its storage."""

    def __init__(self, key, count, kind="FloatStorage", first="storage"):
        self.reference = (first, Function("torch", kind), key, "cpu", count)


# the pickler that is written in Python, because its methods can be overridden
class Pickler(pickle._Pickler):
    def persistent_id(self, thing):
        return thing.reference if isinstance(thing, Storage) else None

    def save(self, thing, save_persistent_id=True):
        if isinstance(thing, Function):
            self.write(f"c{thing.module}\n{thing.name}\n".encode())
        else:
            super().save(thing, save_persistent_id)

    def save_reduce(self, func, args, state=None, *others, obj=None, **more):
        self.save(func)
        self.save(args)
        self.write(pickle.REDUCE)


REBUILD = Function("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Function("torch._utils", "_rebuild_parameter")
ORDERED = Function("collections", "OrderedDict")


def tensor(key, shape, strides=None, offset=0, count=None, kind="FloatStorage", metadata=()):
    """A tensor in the archive. metadata: () or a tuple with the argument that torch.save writes
    after the hooks of some tensors."""
    strides = strides or tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    count = int(np.prod(shape)) if count is None else count
    return REBUILD(Storage(key, count, kind), offset, shape, strides, False, ORDERED(), *metadata)


def program(tree):
    file = io.BytesIO()
    Pickler(file, protocol=2).dump(tree)
    return file.getvalue()


def archive(tree, storages=(), **entries):
    """The bytes of a .pt file with this tree. entries: additional entries of the zip file, or
    replacements."""
    names = {
        "data.pkl": tree if isinstance(tree, bytes) else program(tree),
        "byteorder": b"little",
        "version": b"3\n",
    }
    names.update({f"data/{i}": array.tobytes() for i, array in enumerate(storages)}, **entries)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in names.items():
            zipped.writestr(f"archive/{name}", content)
    return file.getvalue()
