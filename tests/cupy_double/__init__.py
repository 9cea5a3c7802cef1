"""A strict double of CuPy 14.2 on NumPy, with which the tests run a second time without a GPU.

It has the names of cupy-14.2.0-names.json and refuses all others.  It refuses to mix with NumPy
arrays, returns 0-d arrays where CuPy does, and counts how often Python had to wait for the "GPU".
It is stricter than CuPy where CuPy would hide a mistake: it refuses NumPy's functions on its
arrays, in-place @=, and lists as values.

    cupy = install()          # or install(cause="driver"), ... : a machine whose GPU is unusable
    with counting() as waits: ...
    waits.count
    uninstall()
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tinycv.gpu import cublas

from . import blas
from . import distributed as nccl
from .array import ndarray, unwrap, wrap
from .cuda import MemoryPool, cuda_modules, random_module
from .functions import SPECIAL, function, ufunc
from .raw import RawModule
from .world import NAMES, WORLD

CAUSES = ("package", "driver", "old_driver", "device", "library")
# types CuPy takes from NumPy
_SCALAR_LIKE = np.generic | np.dtype | np.finfo | np.iinfo | np.ndindex
_displaced: dict[str, ModuleType | None] = {}
_true_library = cublas.library


class StrictModule(ModuleType):
    """A module that explains a missing name: not in CuPy, or not in the double."""

    def __getattr__(self, name: str) -> Any:
        if name in NAMES.get(self.__name__, {}):
            raise AttributeError(
                f"{self.__name__}.{name} exists, but the double does not simulate it"
            )
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r} in CuPy {NAMES['version']}"
        )

    synchronisations = property(lambda self: WORLD.synchronisations)


class _NoKernel:
    """Stands in for CuPy's other kinds of kernels. tinycv only uses RawModule, whose text g++ can
    compile too."""

    def __init__(self, *_: Any, **__: Any):
        raise NotImplementedError("the double runs CUDA C++ by RawModule only: see raw.py")


def _plain_function(module: str, home: Any, name: str) -> Any:
    """NumPy's object of this name, made to follow CuPy's rules; None if the double has none."""
    found, params = getattr(home, name, None), NAMES[module][name]
    if isinstance(found, type) and issubclass(found, _SCALAR_LIKE):
        return found
    if found is None or isinstance(found, ModuleType | type):
        return None
    if isinstance(found, float | int):
        return found
    return function(name, found, params) if callable(found) else None


def _fill(module: StrictModule, home: Any) -> StrictModule:
    for name in NAMES[module.__name__]:
        thing = _plain_function(module.__name__, home, name)
        if thing is not None and not name.startswith("_"):
            setattr(module, name, thing)
    return module


def _build_cupy() -> StrictModule:
    cupy = _fill(StrictModule("cupy"), np)
    for name, arity in NAMES["ufuncs"].items():
        if hasattr(np, name):
            setattr(cupy, name, ufunc(name, arity["nin"], arity["nout"]))
    for name in ("ElementwiseKernel", "RawKernel", "ReductionKernel", "fuse"):
        setattr(cupy, name, _NoKernel)
    pool = MemoryPool()
    cupy.__dict__.update(
        SPECIAL,
        __version__=NAMES["version"],
        ndarray=ndarray,
        RawModule=RawModule,
        ufunc=ufunc,
        newaxis=None,
        s_=np.s_,
        index_exp=np.index_exp,
        get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: pool,
        is_available=lambda: WORLD.cause in (None, "library"),
        get_array_module=lambda *args: _owner(cupy, args),
    )
    return cupy


def _owner(cupy: ModuleType, args: tuple[Any, ...]) -> ModuleType:
    return cupy if any(isinstance(a, ndarray) for a in args) else np


def _build_special() -> StrictModule:
    special = StrictModule("cupyx.scipy.special")
    for name, act in {
        "erf": math.erf,
        "erfc": math.erfc,
        "gammaln": math.lgamma,
        "ndtr": lambda x: 0.5 * math.erfc(-x * 0.5**0.5),
    }.items():
        each = np.vectorize(act, otypes=[np.float64])
        setattr(special, name, lambda x, out=None, each=each: _special(each, x, out))
    return special


def _special(each: Any, x: Any, out: Any) -> ndarray:
    if not isinstance(x, ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    result = each(unwrap(x)).astype(x.dtype if x.dtype.kind == "f" else np.float64)
    if out is None:
        return wrap(result)
    out._a[...] = result
    return out


def _build_cupyx() -> StrictModule:
    cupyx = StrictModule("cupyx")
    cupyx.rsqrt = lambda x: wrap(1 / np.sqrt(unwrap(x)))
    cupyx.errstate = lambda **_: np.errstate()
    return cupyx


def _build() -> dict[str, ModuleType]:
    cupy, cupyx, scipy = _build_cupy(), _build_cupyx(), ModuleType("cupyx.scipy")
    lib, tricks = (
        ModuleType("cupy.lib"),
        _fill(StrictModule("cupy.lib.stride_tricks"), np.lib.stride_tricks),
    )
    cupy.linalg, cupy.random, cupy.lib = (
        _fill(StrictModule("cupy.linalg"), np.linalg),
        random_module(),
        lib,
    )
    cuda = cuda_modules()
    cupy.cuda, lib.stride_tricks = cuda["cupy.cuda"], tricks
    # not an attribute of cupyx: it has to be imported by its full name, as in CuPy
    distributed = ModuleType("cupyx.distributed")
    distributed.NCCLBackend = nccl.NCCLBackend
    cupyx.scipy, scipy.special = scipy, _build_special()
    return {
        "cupy": cupy,
        "cupy.linalg": cupy.linalg,
        "cupy.random": cupy.random,
        "cupy.lib": lib,
        "cupy.lib.stride_tricks": tricks,
        **cuda,
        "cupyx": cupyx,
        "cupyx.distributed": distributed,
        "cupyx.scipy": scipy,
        "cupyx.scipy.special": scipy.special,
        **blas.modules(),
    }


_MODULES = _build()


def install(cause: str | None = None) -> ModuleType:
    """Install the double so that ``import cupy`` finds it, and return it. ``cause``: why its GPU
    cannot be used, None if it can."""
    if cause is not None and cause not in CAUSES:
        raise ValueError(f"unknown cause {cause!r}: choose from {CAUSES}")
    uninstall()
    WORLD.cause, WORLD.synchronisations, WORLD.device = cause, 0, 0
    _displaced.update(
        {
            name: module
            for name, module in sys.modules.items()
            if name.split(".")[0] in ("cupy", "cupyx", "cupy_backends")
        }
    )
    for name in _displaced:
        del sys.modules[name]
    sys.modules.update({"cupy": None} if cause == "package" else _MODULES)
    cublas.library = lambda xp: blas.Cublas()
    return _MODULES["cupy"]


def uninstall() -> None:
    """Remove the double and restore the modules that it replaced."""
    if sys.modules.get("cupy", ...) not in (None, _MODULES["cupy"]):
        return
    for name in _MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(_displaced)
    _displaced.clear()
    cublas.library = _true_library
    WORLD.cause = None


@contextmanager
def counting() -> Iterator[SimpleNamespace]:
    """Counts the waits and launches in a block of code: ``with counting() as waits: ...``, then
    read ``waits.count`` and ``waits.launches``."""
    waits, before, launched = (
        SimpleNamespace(count=0, launches=0),
        WORLD.synchronisations,
        WORLD.launches,
    )
    yield waits
    waits.count, waits.launches = WORLD.synchronisations - before, WORLD.launches - launched
