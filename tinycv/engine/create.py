"""Tensors from nothing: names as PyTorch's and NumPy's. Random ones are drawn on the host, so that
every backend starts from the same numbers (``manual_seed`` sets them)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend
from tinycv.engine.arguments import allocated, flag, number, shown, size, sizes
from tinycv.engine.tensor import ArrayLike, Tensor, as_array, kind_of

# numbers of 8 bytes, beyond which no address reaches
MOST = 2**60


def tensor(
    data: ArrayLike,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor with a copy of data (``Tensor(data)`` shares memory with an array)."""
    given, requires_grad = (
        data._data if isinstance(data, Tensor) else data,
        flag(requires_grad, "tensor: requires_grad"),
    )
    array = as_array(data, None if dtype is None else kind_of(dtype, "tensor"), "tensor: data")
    # a memory map, a buffer, another library's array
    shared = array is given or array.base is not None
    device = backend.resolve(device, "tensor")
    return Tensor(
        backend.to_device(array.copy() if shared else array, device), None, None, requires_grad
    )


def zeros(
    *shape: Any, dtype: DTypeLike = "float32", device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A Tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``."""
    return _full("zeros", shape, 0, dtype, device, requires_grad)


def ones(
    *shape: Any, dtype: DTypeLike = "float32", device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A Tensor of ones."""
    return _full("ones", shape, 1, dtype, device, requires_grad)


def full(
    shape: tuple,
    value: float,
    dtype: DTypeLike = "float32",
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor of one value everywhere. ValueError for one that dtype cannot hold; 2.7 as an
    integer is 2.

    differs: the names are shape and value, not size and fill_value, and the numbers float32
    whatever value is.
    """
    if not isinstance(value, (bool, np.bool, float)):  # a float may be NaN or infinite
        number(value, "full: value")
    return _full("full", (shape,), value, dtype, device, requires_grad)


def _full(
    name: str, shape: tuple, value: float, dtype: DTypeLike, device: str, requires_grad: bool
) -> Tensor:
    """As ``full``, for the function of that name."""
    requires_grad, dtype = flag(requires_grad, f"{name}: requires_grad"), kind_of(dtype, name)
    xp, shape = backend.module_for(device, name), _shape(name, shape)
    if type(value) is not int or not 0 <= value <= 127:  # these fit into every dtype
        value = as_array(value, dtype, "full: value")
    if isinstance(value, np.ndarray):
        value = value.item()
    made = allocated(lambda: xp.full(shape, value, dtype), shape, f"{name}: shape")
    return Tensor(made, None, device, requires_grad)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape, dtype and device of x."""
    return _like(x, "zeros_like", 0)


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape, dtype and device of x."""
    return _like(x, "ones_like", 1)


def full_like(x: Tensor, value: float) -> Tensor:
    """One value everywhere, in the shape and dtype of x, on its device.

    differs: the names are x and value, not input and fill_value.
    """
    return _like(x, "full_like", value)


def randn_like(x: Tensor) -> Tensor:
    """Standard normal numbers of the shape and dtype of x, drawn on its device.

    This is the noise of a training step or a sampler: on a GPU it does not pass through the host,
    and so differs from ``randn``'s.
    """
    own = _floats(x, "randn_like")._data
    return Tensor(backend.standard_normal(own.shape, own, own.dtype))


def rand_like(x: Tensor) -> Tensor:
    """Uniform on [0, 1), of the shape and dtype of x, drawn on its device."""
    own = _floats(x, "rand_like")._data
    return Tensor(backend.uniform(own.shape, own, own.dtype))


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Class numbers (...) as float32 (..., num_classes): 1 at the class, 0 elsewhere.

    IndexError for a class that is not there; on a GPU its row is NaN instead, as to look would be
    to wait. differs: PyTorch's is int64, and may count the classes itself.
    """
    num_classes = size(num_classes, "one_hot: num_classes", 1)
    if not isinstance(labels, Tensor) or labels.dtype.kind not in "iu":
        raise TypeError(f"one_hot: labels is {shown(labels)}; it must be a Tensor of whole numbers")
    own, xp = labels._data, backend.array_module(labels._data)
    outside = (own < 0) | (own >= num_classes)
    if xp is np and outside.any():
        raise IndexError(
            f"one_hot: labels holds {own[outside][0]}; {num_classes} classes are numbered from 0 "
            f"to {num_classes - 1}"
        )
    made = (own[..., None] == xp.arange(num_classes)).astype("float32")
    return Tensor(
        made if xp is np else xp.where(outside[..., None], np.nan, made).astype("float32")
    )


def eye(n: int, dtype: DTypeLike = "float32", device: str = "cpu") -> Tensor:
    """The identity matrix (n, n). differs: it is square; the second argument is dtype, not a number
    of columns."""
    n = size(n, "eye: n")
    shape, dtype, device = (
        _shape("eye", (n, n)),
        kind_of(dtype, "eye"),
        backend.resolve(device, "eye"),
    )
    return Tensor(allocated(lambda: np.eye(*shape, dtype=dtype), shape, "eye: shape"), None, device)


def arange(*limits: float, dtype: DTypeLike | None = None, device: str = "cpu") -> Tensor:
    """0, 1, ... below a limit; NumPy's arguments (start, stop, step).

    Of whole numbers int64, of others float32, unless dtype says otherwise. The steps are counted in
    float64.
    """
    if not 1 <= len(limits) <= 3:
        raise TypeError(
            f"arange takes (stop), (start, stop) or (start, stop, step), not {len(limits)} numbers"
        )
    for limit in limits:
        number(limit, "arange: limit", -MOST, MOST)
    if len(limits) == 3 and not limits[2]:
        raise ValueError("arange: step is 0; it must lead from start to stop")
    device = backend.resolve(device, "arange")
    wanted = None if dtype is None else kind_of(dtype, "arange")
    given: list[Any] = list(limits)
    numbers = [limit.item() if hasattr(limit, "item") else limit for limit in given]
    made = allocated(lambda: np.arange(*numbers), limits, "arange: limits")
    return Tensor(made, wanted or ("float32" if made.dtype.kind == "f" else made.dtype), device)


def randn(
    *shape: Any, dtype: DTypeLike = "float32", device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Standard normal numbers."""
    return _drawn("randn", "standard_normal", shape, dtype, device, requires_grad)


def rand(
    *shape: Any, dtype: DTypeLike = "float32", device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Uniform on [0, 1)."""
    return _drawn("rand", "random", shape, dtype, device, requires_grad)


def _drawn(
    name: str, method: str, shape: tuple, dtype: DTypeLike, device: str, requires_grad: bool
) -> Tensor:
    """Numbers by a method of NumPy's Generator, on the host."""
    wanted, device = kind_of(dtype, name), backend.resolve(device, name)
    if wanted.kind != "f":
        raise TypeError(
            f"{name}: dtype is {shown(dtype)}; random numbers are floats, as tinycv.float32"
        )
    shape, requires_grad = _shape(name, shape), flag(requires_grad, f"{name}: requires_grad")
    draw = getattr(backend.host_generator(), method)
    made = allocated(lambda: draw(shape).astype(wanted), shape, f"{name}: shape")
    made = backend.below_one(made) if method == "random" else made
    return Tensor(made, None, device, requires_grad)


def _shape(name: str, shape: tuple) -> tuple[int, ...]:
    """randn(2, 3) and randn((2, 3)) mean the same."""
    shape = sizes(shape[0] if len(shape) == 1 else shape, f"{name}: shape")
    if math.prod(shape) > MOST or max(shape, default=0) > MOST:
        raise ValueError(
            f"{name}: shape is {shown(shape)}; that is more numbers than a computer can address"
        )
    return shape


def _like(x: Any, name: str, value: float) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: x is {shown(x)}; it must be a Tensor")
    return full(x.shape, value, x.dtype, x.device)


def _floats(x: Any, name: str) -> Tensor:
    """x, if it is a Tensor of floats."""
    if not isinstance(x, Tensor) or x.dtype.kind != "f":
        raise TypeError(f"{name}: x is {shown(x)}; it must be a Tensor of floats")
    return x
