"""What goes into an op or a pair: one rule for numbers of different kinds, PyTorch's.

    exp, mean, every pair, ...      results are real numbers: integers and bools go in as float32
    integers beside floats          take the dtype of the floats: float32 * int64 is float32
                                    (NumPy would say float64)
    a Python float beside integers  makes float32, and beside floats it takes their dtype
    a 0-d array beside arrays       does not widen arrays that have axes, of the same kind of
                                    numbers
    integers among themselves       NumPy's rule: they stay integers, and wrap where they grow too
                                    large; uint64 beside signed integers is refused, as no integer
                                    dtype holds both
    a Python integer beside them    takes their dtype, and is refused where that cannot hold it
    sums of integers and bools      are int64, as PyTorch's; so are powers, // and % of bools
                                    (NumPy's would be int8)
    float16                         is summed in float32, and answered in float16; a number beside
                                    it that float16 does not hold exactly (1e5, 1e-8) is not
                                    rounded first: only the result is

differs: PyTorch refuses the mean, the norm and the softmax of integers; here they are float32 as
all real results are. Bare arrays, with no Tensor among them, follow NumPy's rule, but for the first
line; np.matrix and masked arrays, to which ``*`` and ``where`` mean something else, are refused
there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.engine.arguments import flag, is_array, shown
from tinycv.engine.backend import array_module
from tinycv.engine.tensor import ArrayLike, Tensor, as_array
from tinycv.engine.wrong_shapes import MEANT

if TYPE_CHECKING:
    from tinycv.engine.record import Row

FLOAT16, FLOAT32 = np.dtype("float16"), np.dtype("float32")
LARGEST_HALF = 65504
NUMBERS = "exponent", "value", "low", "high"  # options that are numbers: see ``setting``
COUNTING = "pow", "power", "floor_divide", "remainder"  # of bools they are numbers
# options that take the dtype of integers beside them; a bound of clip need not
FITTING = "value", "exponent"


def operands(row: Row, arrays: list, options: dict) -> tuple[list, Callable]:
    """The inputs of an op in the dtypes in which it takes them, and the function of them that
    computes its result. TypeError for what is no Tensor, array or number."""
    steps = not any(row.pulls)
    if steps and not row.mixes:
        # comparisons: NumPy knows how, of any dtypes
        pairs = zip(row.inputs, arrays, strict=True)
        return [compared(a, name, row) for name, a in pairs], row.forward
    names = row.inputs * len(arrays) if row.variadic else row.inputs
    for i, a in enumerate(arrays):
        if type(a) is not np.ndarray or a.dtype.kind not in "biuf":
            arrays[i] = operand(a, f"{row.name}: {names[i]}")
    if not row.mixes:
        return arrays, row.forward
    # a mask has no pull, and no say in the dtype
    counts = [row.variadic or steps or row.pulls[i] is not None for i in range(len(arrays))]
    counted = [a for a, yes in zip(arrays, counts, strict=True) if yes]
    numbers = [options[name] for name in row.numbers]
    dtype = common(counted + [v for v in numbers if isinstance(v, float)], row.real)
    if dtype is None:
        return in_integers(row, arrays, counts, options), row.forward
    run = row.forward
    if dtype == FLOAT16 and row.wide and not all(map(is_half, [*arrays, *numbers])):
        dtype, run = FLOAT32, in_halves(row.forward)
    alone = not any(hasattr(a, "dtype") for a in counted)
    return [cast(a, dtype, alone) if yes else a for a, yes in zip(arrays, counts, strict=True)], run


def in_integers(row: Row, arrays: list, counts: list[bool], options: dict) -> list:
    """The inputs of an op without floats: bools as numbers where the op counts with them, and
    refused where no integer dtype holds them all."""
    if row.name in COUNTING and {a.dtype.char for a in arrays if hasattr(a, "dtype")} == {"?"}:
        arrays = [a.astype(np.int64) if hasattr(a, "dtype") else a for a in arrays]
    counted = [a for a, yes in zip(arrays, counts, strict=True) if yes]
    names = row.inputs * len(arrays) if row.variadic else row.inputs
    named = dict(zip(names, arrays, strict=False))
    named |= {name: options[name] for name in row.numbers if name in FITTING}
    refuse_what_does_not_fit(row.name, counted, named)
    return arrays


def refuse_what_does_not_fit(name: str, values: list, named: dict) -> None:
    """ValueError where the integers of an op have no integer dtype together, or a number does not
    fit into theirs."""
    dtypes = {a.dtype for a in values if hasattr(a, "dtype")}
    if not dtypes:
        return
    dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
    if dtype.kind == "f":
        raise ValueError(
            f"{name}: its inputs are of uint64 and of signed integers, which no integer dtype "
            "holds both; bring them to one, as by x.astype(tinycv.int64)"
        )
    if dtype.kind == "b":
        # a number beside bools makes int64
        return
    for which, number in named.items():
        if type(number) is int and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
            wider = "int64" if dtype.itemsize < 8 else "float64"
            raise ValueError(
                f"{name}: {which} is {shown(number)}, which is outside of {dtype}, "
                f"{np.iinfo(dtype).min} to {np.iinfo(dtype).max}; widen the tensor first, as by "
                f"x.astype(tinycv.{wider})"
            )


def is_half(a: Any) -> bool:
    """Is it float16, or a number that float16 holds exactly?  0.5 and 3 are, 0.1 and 1e5 are
    not."""
    if hasattr(a, "dtype"):
        return a.dtype == FLOAT16 or a.dtype.kind == "b"
    if abs(a) > LARGEST_HALF:
        return False
    digits, exponent = math.frexp(a)
    # 11 binary digits, none below the smallest power
    return (digits * 2**11).is_integer() and exponent > -14


def in_halves(forward: Callable) -> Callable:
    """The same function of wider numbers, with its result rounded to float16."""

    def rounded(xp: Any, *arrays: Any, **options: Any) -> Any:
        y = forward(xp, *arrays, **options)
        with np.errstate(over="ignore"):  # infinity is the right answer
            return y.astype(FLOAT16)

    return rounded


def compared(a: ArrayLike, name: str, row: Row) -> Any:
    """One side of a comparison, as ``operand``."""
    if type(a) is np.ndarray and a.dtype.kind in "biuf":
        return a
    return (
        as_array(a, what=row.name)
        if hasattr(a, "shape") and getattr(a, "ndim", 0)
        else operand(a, f"{row.name}: {name}")
    )


def operand(a: Any, what: str) -> Any:
    """An array, or a number of Python's."""
    if isinstance(a, (bool, int, float)):
        return float(a) if isinstance(a, np.generic) else a  # np.float64 is a float, too
    if isinstance(a, np.generic) and a.dtype.kind in "biuf":
        return a.item()
    if isinstance(a, np.ndarray) and a.dtype.kind in "biuf":
        # refuses masked arrays and np.matrix
        a = as_array(a, what=what)
    if (isinstance(a, np.ndarray) or array_module(a) is not np) and a.dtype.kind in "biuf":
        return a
    raise TypeError(f"{what} is {shown(a)}; it must be a Tensor, an array or a number")


def common(values: list, real: bool = False) -> np.dtype | None:
    """The float dtype that arrays and numbers have together by the rule above; None where they stay
    integers."""
    dtypes = {a.dtype for a in values if hasattr(a, "dtype")}
    if len(dtypes) == 1 and (only := dtypes.pop()).kind == "f":
        return only
    floats = [
        a
        for a in values
        if getattr(a, "dtype", FLOAT32).kind == "f" and not isinstance(a, (bool, int))
    ]
    wide = {a.dtype for a in floats if getattr(a, "ndim", 0)} or {
        a.dtype for a in floats if hasattr(a, "dtype")
    }
    if wide:
        return np.result_type(*wide)
    return FLOAT32 if floats or real else None


def cast(a: Any, dtype: np.dtype, alone: bool = False) -> Any:
    """An array in that dtype. A number stays Python's, which takes the dtype of the array beside
    it, unless ``alone``."""
    if hasattr(a, "dtype"):
        return a if a.dtype == dtype else a.astype(dtype)
    return dtype.type(a) if alone else a


def real_numbers(a: Any, what: str) -> Any:
    """An input of an op that got no Tensor: arrays, numbers and lists of real numbers pass,
    np.memmap and another library's array as NumPy's. TypeError for complex numbers, text, dates,
    objects, np.matrix and masked arrays."""
    kind = getattr(getattr(a, "dtype", None), "kind", None)
    if kind is None and is_array(a) or isinstance(a, np.ndarray) and type(a) is not np.ndarray:
        return as_array(a, what=what)
    if (kind if is_array(a) else np.asarray(a).dtype.kind) not in ("f", "i", "u", "b"):
        raise TypeError("an input is not of real numbers")  # errors.py says which
    return a


def in_float(a: Any) -> Any:
    """Integers and bools as float32; anything else as it is."""
    if isinstance(a, bool):
        return float(a)
    return a.astype(FLOAT32) if hasattr(a, "dtype") and a.dtype.kind in "biu" else a


def setting(value: Any, what: str) -> Any:
    """An option of an op or a pair, which is no input of the graph: a Tensor there would lose its
    gradient in silence."""
    if isinstance(value, Tensor):
        raise TypeError(
            f"{what} is {shown(value)}; it must be a number of Python's: no gradient would reach a "
            "Tensor there"
        )
    if is_array(value) and not isinstance(value, np.generic):
        value = as_array(value, what=what)
    real = is_array(value) and value.dtype.kind in ("b", "i", "u", "f")
    if real and (isinstance(value, np.generic) or isinstance(value, np.ndarray) and not value.ndim):
        # NumPy's own kind would promote what it meets
        return value.item()
    if not (real or value is None or isinstance(value, (bool, int, float))):
        raise TypeError(f"{what} is {shown(value)}; it must be a number")
    return value


def option(value: Any, who: str, name: str) -> Any:
    """An option of an op as Python's own: a number, True or False, an axis or a tuple of them.
    TypeError for what NumPy would take for one in silence, as 5 for keepdims and "" for no axes."""
    if name in NUMBERS:
        return setting(value, f"{who}: {name}")
    if name == "keepdims":
        return flag(value, f"{who}: keepdims")
    try:
        # x.flip([0]), as PyTorch's
        several = isinstance(value, tuple) or isinstance(value, list) and value
        return tuple([axis_of(v) for v in value]) if several else axis_of(value)
    except TypeError:
        takes = "a whole number, a tuple of whole numbers or None"
        hint = MEANT.get(who, "") if name == "axis" else ""
        raise TypeError(f"{who}: {name} is {shown(value)}; it must be {takes}{hint}") from None


def axis_of(value: Any) -> int:
    """One axis. TypeError for a bool, and for what is no whole number."""
    if isinstance(value, (bool, np.bool)):
        raise TypeError
    return index(value)
