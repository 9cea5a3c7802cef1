"""Creating Tensors: zeros, ones, randn, arange, one_hot, ...; the names follow PyTorch and NumPy.

Random numbers of ``rand`` and ``randn`` are drawn on the host, so that a CPU and a GPU start from
the same numbers; ``manual_seed`` sets their seed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend
from tinycv.engine.arguments import allocated, flag, number, shown, size, sizes
from tinycv.engine.tensor import ArrayLike, Tensor, as_array, kind_of

MOST = 2**60  # so many numbers of 8 bytes are 2**63 bytes, more than a computer can address


def tensor(
    data: ArrayLike,
    dtype: DTypeLike | None = None,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor with a copy of the data; ``Tensor(data)`` shares memory with an array instead."""
    requires_grad = flag(requires_grad, "tensor: requires_grad")
    original = data._data if isinstance(data, Tensor) else data
    array = as_array(data, None if dtype is None else kind_of(dtype, "tensor"), "tensor: data")
    # ``base`` is set if the array looks into the memory of something else, such as a memory map or
    # the array of another library.
    shared = array is original or array.base is not None
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
    """A Tensor with the same value everywhere. ValueError for a value that dtype cannot hold; 2.7
    as an integer becomes 2.

    differs: the arguments are called shape and value, not size and fill_value, and the default
    dtype is float32 even if value is an integer.
    """
    if not isinstance(value, (bool, np.bool, float)):  # a float may be NaN or infinite
        number(value, "full: value")
    return _full("full", (shape,), value, dtype, device, requires_grad)


def _full(
    name: str, shape: tuple, value: float, dtype: DTypeLike, device: str, requires_grad: bool
) -> Tensor:
    """``full`` for the public function ``name``, which error messages mention."""
    requires_grad, dtype = flag(requires_grad, f"{name}: requires_grad"), kind_of(dtype, name)
    xp, shape = backend.module_for(device, name), _shape(name, shape)
    if type(value) is not int or not 0 <= value <= 127:  # 0 to 127 fit into every dtype
        value = as_array(value, dtype, "full: value")
    if isinstance(value, np.ndarray):
        value = value.item()
    array = allocated(lambda: xp.full(shape, value, dtype), shape, f"{name}: shape")
    return Tensor(array, None, device, requires_grad)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape, dtype and device of x."""
    return _like(x, "zeros_like", 0)


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape, dtype and device of x."""
    return _like(x, "ones_like", 1)


def full_like(x: Tensor, value: float) -> Tensor:
    """The same value everywhere, in the shape and dtype of x, on its device.

    differs: the arguments are called x and value, not input and fill_value.
    """
    return _like(x, "full_like", value)


def randn_like(x: Tensor) -> Tensor:
    """Standard normal numbers in the shape and dtype of x, drawn on its device.

    Use it for the noise of a training step or a sampler. On a GPU these numbers are drawn on the
    GPU, so they are not those of ``randn``, which draws on the host.
    """
    array = _floats(x, "randn_like")._data
    return Tensor(backend.standard_normal(array.shape, array, array.dtype))


def rand_like(x: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), in the shape and dtype of x, drawn on its device."""
    array = _floats(x, "rand_like")._data
    return Tensor(backend.uniform(array.shape, array, array.dtype))


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Class numbers (...) as float32 (..., num_classes): 1 at the class, 0 elsewhere.

    IndexError for a number that is not a class. On a GPU its row is NaN instead, because a check
    would have to wait for the GPU. differs: in PyTorch the result is int64, and num_classes is
    optional.
    """
    num_classes = size(num_classes, "one_hot: num_classes", 1)
    if not isinstance(labels, Tensor) or labels.dtype.kind not in "iu":
        raise TypeError(f"one_hot: labels is {shown(labels)}; it must be a Tensor of whole numbers")
    array, xp = labels._data, backend.array_module(labels._data)
    outside = (array < 0) | (array >= num_classes)
    if xp is np and outside.any():
        raise IndexError(
            f"one_hot: labels holds {array[outside][0]}; {num_classes} classes are numbered from 0 "
            f"to {num_classes - 1}"
        )
    rows = (array[..., None] == xp.arange(num_classes)).astype("float32")
    if xp is not np:
        rows = xp.where(outside[..., None], np.nan, rows).astype("float32")
    return Tensor(rows)


def eye(n: int, dtype: DTypeLike = "float32", device: str = "cpu") -> Tensor:
    """The identity matrix (n, n). differs: it is always square, so the second argument is dtype and
    not the number of columns."""
    n = size(n, "eye: n")
    shape = _shape("eye", (n, n))
    dtype = kind_of(dtype, "eye")
    device = backend.resolve(device, "eye")
    return Tensor(allocated(lambda: np.eye(*shape, dtype=dtype), shape, "eye: shape"), None, device)


def arange(*limits: float, dtype: DTypeLike | None = None, device: str = "cpu") -> Tensor:
    """0, 1, ..., stop - 1; or with NumPy's arguments (start, stop, step).

    By default int64 if all arguments are whole numbers, otherwise float32. The numbers are computed
    in float64 and then converted.
    """
    if not 1 <= len(limits) <= 3:
        raise TypeError(
            f"arange takes (stop), (start, stop) or (start, stop, step), not {len(limits)} numbers"
        )
    for limit in limits:
        number(limit, "arange: limit", -MOST, MOST)
    if len(limits) == 3 and not limits[2]:
        raise ValueError("arange: step is 0, which never gets from start to stop")
    device = backend.resolve(device, "arange")
    chosen = None if dtype is None else kind_of(dtype, "arange")
    values: list[Any] = list(limits)
    numbers = [value.item() if hasattr(value, "item") else value for value in values]
    array = allocated(lambda: np.arange(*numbers), limits, "arange: limits")
    default = "float32" if array.dtype.kind == "f" else array.dtype
    return Tensor(array, chosen or default, device)


def randn(
    *shape: Any, dtype: DTypeLike = "float32", device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A Tensor of standard normal numbers, drawn on the host: ``randn(2, 3)``."""
    return _drawn("randn", "standard_normal", shape, dtype, device, requires_grad)


def rand(
    *shape: Any, dtype: DTypeLike = "float32", device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """A Tensor of uniform numbers in [0, 1), drawn on the host."""
    return _drawn("rand", "random", shape, dtype, device, requires_grad)


def _drawn(
    name: str, method: str, shape: tuple, dtype: DTypeLike, device: str, requires_grad: bool
) -> Tensor:
    """Random numbers by a method of NumPy's Generator, for the public function ``name``."""
    floats, device = kind_of(dtype, name), backend.resolve(device, name)
    if floats.kind != "f":
        raise TypeError(
            f"{name}: dtype is {shown(dtype)}; random numbers are floats, so it must be a dtype "
            "such as tinycv.float32"
        )
    shape, requires_grad = _shape(name, shape), flag(requires_grad, f"{name}: requires_grad")
    draw = getattr(backend.host_generator(), method)
    array = allocated(lambda: draw(shape).astype(floats), shape, f"{name}: shape")
    array = backend.below_one(array) if method == "random" else array
    return Tensor(array, None, device, requires_grad)


def _shape(name: str, shape: tuple) -> tuple[int, ...]:
    """The shape as a tuple of ints. randn(2, 3) and randn((2, 3)) mean the same."""
    shape = sizes(shape[0] if len(shape) == 1 else shape, f"{name}: shape")
    if math.prod(shape) > MOST or max(shape, default=0) > MOST:
        raise ValueError(
            f"{name}: shape is {shown(shape)}, which is more numbers than a computer can address"
        )
    return shape


def _like(x: Any, name: str, value: float) -> Tensor:
    """``full`` in the shape, dtype and device of x, for the public function ``name``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: x is {shown(x)}; it must be a Tensor")
    return full(x.shape, value, x.dtype, x.device)


def _floats(x: Any, name: str) -> Tensor:
    """x, if it is a Tensor of floats."""
    if not isinstance(x, Tensor) or x.dtype.kind != "f":
        raise TypeError(f"{name}: x is {shown(x)}; it must be a Tensor of floats")
    return x
