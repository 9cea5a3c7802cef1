"""Input checks for arrays and indices: what may become a Tensor, in which dtype, and what may
index one.

    arrays and Tensors            keep their dtype and share memory; in a list they keep their dtype
    Python numbers                floats become float32, or the dtype of the Tensor beside them;
                                  integers become int64
    a number that does not fit    is refused: 1e300 in float32, NaN or 300 in uint8
    2.7 as an integer             becomes 2, as in PyTorch and NumPy

A NumPy float64 scalar is treated like a Python number here and in every op; otherwise a single
np.sqrt would turn a whole network into float64.  (differs: PyTorch turns such a scalar into a
float64 tensor, and 1e300 in a list into infinity.)  Refused are masked arrays, whose mask would be
lost, np.matrix, whose ``*`` is another operation, and complex numbers, objects, text and dates.
One case cannot be refused: with a masked array on the left of a comparison, NumPy computes it
without calling the Tensor, and the result keeps the mask.

An index x[...] may consist of slices, whole numbers, arrays of whole numbers, and masks, as in
NumPy.  Lists, tuples and ranges inside an index become arrays here, so that ops can tell from the
dtype whether an entry may occur twice: x[:, (0, 0, 2)] takes column 0 twice, so its gradient has to
be added twice.

convert.py handles lists and the arrays of other libraries.
"""

from __future__ import annotations

from operator import index as whole_number
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend
from tinycv.engine.arguments import is_array, shown
from tinycv.engine.backend import Array, Index
from tinycv.engine.convert import cast, from_library, from_python
from tinycv.engine.signatures import TensorBase

FLOAT32 = np.dtype("float32")
# Names of devices, also as "gpu:N". NumPy has no dtypes with these names.
DEVICES = "cpu", "gpu", "cuda", "auto"
# types that an index may contain without conversion
PLAIN = (int, slice, EllipsisType, type(None), bool, np.integer, np.bool)


def as_array(
    data: Any, dtype: DTypeLike | None = None, what: str = "", floats: np.dtype = FLOAT32
) -> Array:
    """``data`` as a NumPy or CuPy array of floats, integers or bools.

    An array in the machine's byte order is returned as it is, and so shares memory. Arrays of other
    libraries are converted as NumPy does it. TypeError or ValueError for data that is refused; see
    the top of this file.
    what: the function and its argument, such as "grad: inputs", at the start of the error message.
    floats: the dtype that Python floats become if ``dtype`` is None.
    """
    target = None if dtype is None else kind_of(dtype)
    try:
        if isinstance(data, TensorBase):
            array = data._data
        elif type(data) is np.ndarray or backend.array_module(data) is not np:
            array = _checked(data)
        elif hasattr(data, "__array__") and not isinstance(data, (np.generic, type)):
            array = _checked(from_library(data))
        else:
            array = from_python(data, target, floats if floats.kind == "f" else FLOAT32)
        return array if target is None or array.dtype == target else cast(array, target, data)
    except (TypeError, ValueError) as error:
        if what:
            raise type(error)(f"{what}: {error}") from None
        raise


def array_like(function: str, x: Any, what: str = "x", floats: np.dtype = FLOAT32) -> Any:
    """x itself if it is a Tensor; otherwise an array made from an array, a list or a number.

    function, what: the names of the function and the argument, for error messages.
    floats: the dtype that Python floats become."""
    return (
        x if isinstance(x, TensorBase) else as_array(x, what=f"{function}: {what}", floats=floats)
    )


def kind_of(dtype: DTypeLike, who: str = "Tensor") -> np.dtype:
    """``dtype`` as a NumPy dtype object, in the machine's byte order. TypeError, in the name of the
    function ``who``, unless it is a float, integer or bool dtype."""
    dtype = str(dtype) if isinstance(dtype, np.str_) else dtype
    # np.dtype(array) would return the array's dtype, which hides that the argument is wrong.
    try:
        numpy_dtype = (
            None if isinstance(dtype, (np.generic, np.ndarray, TensorBase)) else np.dtype(dtype)
        )
    except (TypeError, ValueError):
        numpy_dtype = None
    if numpy_dtype is None or numpy_dtype.kind not in "fiub" or dtype is None:
        raise TypeError(
            f"{who}: dtype is {shown(dtype)}; it must be a dtype of floats, integers or bools, "
            "such as tinycv.float32"
        )
    return numpy_dtype if numpy_dtype.isnative else numpy_dtype.newbyteorder("=")


def device_named(target: DTypeLike, who: str) -> str | None:
    """The device if ``target`` is the name of one; None if it may be a dtype.

    ValueError for a string that is neither the name of a device nor that of a dtype.
    """
    if not isinstance(target, str):
        return None
    try:
        if target.split(":")[0] in DEVICES:
            return backend.resolve(target)
        # str() is needed for a np.str_, which np.dtype would take for an array of text.
        np.dtype(str(target))
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(
            f"{who}: unknown device or dtype {shown(target)}: choose 'cpu', 'gpu', 'gpu:N' or "
            "'auto', or a dtype such as 'float32'"
        ) from None
    return None


def bare(value: Any) -> Any:
    """The value with arrays in place of Tensors, also inside tuples (such as an index) and
    lists."""
    if isinstance(value, TensorBase):
        return value._data
    if isinstance(value, (tuple, list)) and any(
        isinstance(v, (TensorBase, tuple, list)) for v in value
    ):
        return type(value)(bare(v) for v in value)
    return value


def _checked(array: Array) -> Array:
    """The array itself, if a Tensor may have its dtype; in the machine's byte order."""
    if array.dtype.kind not in "fiub":
        if array.dtype == object:
            hint = "if it was made from a nested list, the rows of the list must be equally long"
        elif array.dtype.kind == "c":
            hint = "use its real and its imaginary part separately"
        else:
            hint = "turn it into numbers first"
        raise TypeError(
            f"an array of {array.dtype} and shape {array.shape} cannot become a Tensor, which "
            f"holds floats, integers or bools: {hint}"
        )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


# ── what may be an index, x[index] ───────────────────────────────────────────────────────────────


def plain_index(index: Index, array: Array) -> Index:
    """``index`` in the form that NumPy or CuPy takes: Tensors and sequences become arrays on the
    device of ``array``. IndexError for anything that is not an index.

    CuPy silently wraps an index that is out of range. So one that comes from the host is checked
    here.
    """
    kind = type(index)
    if kind is int:
        return index
    if kind is slice:
        return _slice(index)
    try:
        index = bare(index)
    except RecursionError:
        raise IndexError(f"x[index]: index is {shown(index)}, which is nested too deeply") from None
    parts = tuple([_part(i) for i in index]) if kind is tuple else (_part(index),)
    xp = backend.array_module(array)
    if xp is not np:
        if (
            len(parts) == 1
            and isinstance(parts[0], np.ndarray)
            and parts[0].dtype.kind in "iu"
            and parts[0].size
        ):
            within(parts[0], array.shape[0])
        parts = tuple([backend.from_host(xp, i) for i in parts])
    return parts if kind is tuple else parts[0]


def _part(index: Index) -> Index:
    """One part of an index, such as a slice."""
    if type(index) is np.ndarray and index.dtype.kind in "iub":
        return index
    if type(index) is slice:
        return _slice(index)
    if isinstance(index, PLAIN):
        return index
    if isinstance(index, (list, tuple, range)):
        try:
            index = np.asarray(index) if len(index) else np.zeros(0, np.int64)
        except ValueError:
            raise IndexError(
                f"x[index]: index is {shown(index)}; its rows must be equally long"
            ) from None
    if is_array(index):
        # an array of another library, such as torch
        if not hasattr(index.dtype, "kind"):
            index = np.asarray(index)
        if isinstance(index, np.ndarray) and type(index) is not np.ndarray:
            # as_array refuses masked arrays and np.matrix
            index = as_array(index, what="x[index]: index")
        if index.dtype.kind not in "iub":
            raise IndexError(
                f"x[index]: index is {shown(index)} ({index.dtype}); it must hold whole numbers or "
                "bools"
            )
        return index
    try:
        return whole_number(index)
    except TypeError:
        raise IndexError(
            f"x[index]: index is {shown(index)}; it must be a whole number, a slice, None, ..., or "
            "an array or list of whole numbers or bools"
        ) from None


def _slice(index: slice) -> slice:
    """The slice itself. IndexError if one of its three parts is not a whole number."""
    for part in (index.start, index.stop, index.step):
        if part is not None and type(part) is not int:
            try:
                whole_number(part)
            except TypeError:
                raise IndexError(
                    f"x[index]: index is {shown(index)}; the parts of a slice must be whole numbers"
                ) from None
    if index.step is not None and whole_number(index.step) == 0:
        raise ValueError(
            f"x[index]: {shown(index)} has a step of 0, which never gets from start to stop"
        )
    return index


def within(index: np.ndarray, size: int) -> None:
    """IndexError if an index lies outside an axis of this size."""
    low, high = int(index.min()), int(index.max())
    if low < -size or high >= size:
        raise IndexError(
            f"index {low if low < -size else high} is out of range for an axis of size {size}"
        )
