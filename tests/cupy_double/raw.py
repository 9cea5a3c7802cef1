"""cupy.RawModule for the double: compiles CUDA C++ with g++ and runs it on the host."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .array import MemoryPointer, ndarray
from .world import WORLD

HEADER = Path(__file__).with_name("cuda_on_host.h")
SIGNATURE = re.compile(
    r"^KERNEL\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(([^)]*)\)", re.MULTILINE
)
# in a text whose kernels are run by fibers, see fibers.h
TOGETHER = "__syncthreads"
INTEGERS = ctypes.c_uint * 3
SCALARS = {
    bool: (ctypes.c_bool, "bool"),
    int: (ctypes.c_longlong, "Int"),
    float: (ctypes.c_double, "double"),
}


class RawModule:
    """cupy.RawModule: ``code`` is compiled at the first launch of one of its kernels."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()):
        if options[:1] != ("-std=c++17",) or not set(options[1:]) <= {
            "--fmad=true",
            "--fmad=false",
        }:
            raise NotImplementedError(f"the double compiles C++17 only, without {options}")
        self.code = code

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self.code, name)


class RawKernel:
    """cupy.RawKernel: called with a grid, a block and arguments. It converts the arguments as CuPy
    does."""

    def __init__(self, code: str, name: str):
        self.code, self.name = code, name

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]
    ) -> None:
        parameters = dict(SIGNATURE.findall(self.code)).get(self.name)
        if parameters is None:
            raise AttributeError(f"the module has no kernel {self.name!r}")
        kinds = [" ".join(p.split()[:-1]) for p in parameters.split(",")]
        if len(kinds) != len(args):
            raise TypeError(
                f"{self.name} has {len(kinds)} parameters, and {len(args)} arguments were given"
            )
        held = [_held(self.name, kind, a) for kind, a in zip(kinds, args, strict=True)]
        pointers = (ctypes.c_void_p * len(held))(*[ctypes.addressof(h) for h in held])
        sizes = [INTEGERS(*(tuple(map(int, given)) + (1, 1))[:3]) for given in (grid, block)]
        WORLD.launches += 1
        launch = getattr(
            library(self.code, 32 if TOGETHER in self.code else WORLD.lanes), f"launch_{self.name}"
        )
        launch.restype = ctypes.c_bool
        if not launch(*sizes, pointers):
            raise RuntimeError(f"{self.name}: threads of a block wait for each other forever")


# What an argument of CuPy's is on the way, and for which C parameters it may stand. CuPy itself
# does not look.
def _held(name: str, kind: str, a: Any) -> Any:
    if a is None or isinstance(a, ndarray):
        if "*" not in kind:
            raise TypeError(f"{name}: an array stands where C has {kind}")
        if a is not None and not (a.flags.c_contiguous or a.size <= 1):
            raise ValueError(
                f"{name}: an array of shape {a.shape} and strides {a.strides} lies in pieces; a "
                "kernel reads memory as it lies"
            )
        _check_dtype(name, kind, a)
        return ctypes.c_void_p(None if a is None else a._a.ctypes.data)
    # whoever passes one tells the kernel the steps too
    if isinstance(a, MemoryPointer) and "*" in kind:
        return ctypes.c_void_p(a.ptr)
    if isinstance(a, np.ndarray) and a.size == 1 and a.dtype.kind == "V":  # a struct, by value
        return (ctypes.c_char * a.nbytes).from_buffer_copy(a.tobytes())
    if type(a) not in SCALARS:
        raise TypeError(f"{name}: Unsupported type {type(a)}")
    ctype, c = SCALARS[type(a)]
    if kind.removeprefix("const ") != c:
        raise TypeError(f"{name}: {a!r} arrives as {c} where C has {kind}")
    return ctype(a)


def _check_dtype(name: str, kind: str, a: ndarray | None) -> None:
    wanted = {"Int": "int64", "bool": "bool", "double": "float64"}.get(
        kind.replace("const ", "").rstrip("* ")
    )
    if a is not None and wanted and a.dtype != wanted:
        raise TypeError(f"{name}: an array of {a.dtype} stands where C has {kind}")


@cache
def library(code: str, lanes: int) -> ctypes.CDLL:
    """The compiled text with a launcher for each kernel. It is kept in the temporary folder, for
    later processes."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise RuntimeError(
            "the double of CuPy runs CUDA kernels compiled by g++, and there is no g++ here: "
            "install it (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install)"
        )
    header = HEADER.read_text().replace(
        '#include "fibers.h"', HEADER.with_name("fibers.h").read_text()
    )
    fibers = "#define FIBERS\n" if TOGETHER in code else ""
    text = f"{fibers}#define LANES {lanes}\n{header}\n" + code.replace("#include <cuda_fp16.h>", "")
    text += "".join(_launcher(name, parameters) for name, parameters in SIGNATURE.findall(code))
    folder = Path(tempfile.gettempdir()) / f"tinycv-double-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    if not made.exists():
        partial = made.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [
                compiler,
                "-x",
                "c++",
                "-std=c++20",
                "-O2",
                "-w",
                "-fPIC",
                "-shared",
                "-pthread",
                "-o",
                str(partial),
                "-",
            ],
            input=text,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"g++ refused a CUDA kernel:\n{done.stderr[:4000]}")
        os.replace(partial, made)
    return ctypes.CDLL(str(made))


def _launcher(name: str, parameters: str) -> str:
    kinds = [" ".join(p.split()[:-1]) for p in parameters.split(",")]
    given = ", ".join(f"*({kind}*)arguments[{i}]" for i, kind in enumerate(kinds))
    return (
        f'extern "C" bool launch_{name}'
        "(const unsigned* grid, const unsigned* block, void** arguments) "
        f"{{ return launch(grid, block, [&] {{ {name}({given}); }}); }}\n"
    )
