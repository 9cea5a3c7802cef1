"""Type promotion: the dtype of an op's result when its inputs have different dtypes, as in PyTorch.

    exp, mean, every pair, ...      results are real numbers: integers and bools go in as float32
    integers with floats            take the dtype of the floats: float32 * int64 is float32
                                    (in NumPy: float64)
    a Python float with integers    gives float32; with floats it takes their dtype
    a 0-d array with other arrays   does not widen arrays that have axes, if both are floats or both
                                    are integers
    integers with integers          NumPy's rule: they stay integers, and overflow wraps around.
                                    uint64 with signed integers is refused, because no integer dtype
                                    holds both
    a Python integer with integers  takes their dtype, and is refused if that cannot hold it
    sums of integers and bools      are int64, as in PyTorch; so are powers, // and % of bools
                                    (in NumPy: int8)
    float16                         sums are computed in float32, and rounded to float16. A Python
                                    number that float16 cannot represent exactly (1e5, 1e-8) is not
                                    rounded itself; only the result is

differs: PyTorch refuses the mean, the norm and the softmax of integers; here they are float32, like
all results that are real numbers.  If no input is a Tensor, only the first line applies, and
otherwise NumPy's rules.  np.matrix and masked arrays, for which ``*`` and ``where`` mean something
else, are refused there too.
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
LARGEST_HALF = 65504  # the largest float16 number
NUMBERS = "exponent", "value", "low", "high"  # options that are numbers: see ``setting``
COUNTING = "pow", "power", "floor_divide", "remainder"  # ops that treat bools as numbers
# Options that must fit into the dtype of integer inputs. The bounds of clip need not.
FITTING = "value", "exponent"


def operands(row: Row, arrays: list, options: dict) -> tuple[list, Callable]:
    """(the inputs of an op in the right dtypes, the function to run on them). TypeError for
    anything but a Tensor, an array or a number."""
    no_gradient = not any(row.pulls)
    if no_gradient and not row.mixes:
        # Comparisons and the like: NumPy takes any combination of dtypes.
        pairs = zip(row.inputs, arrays, strict=True)
        return [compared(a, name, row) for name, a in pairs], row.forward
    names = row.inputs * len(arrays) if row.variadic else row.inputs
    for i, a in enumerate(arrays):
        if type(a) is not np.ndarray or a.dtype.kind not in "biuf":
            arrays[i] = operand(a, f"{row.name}: {names[i]}")
    if not row.mixes:
        return arrays, row.forward
    # The dtype of a mask (an input without a pull) does not count.
    counts = [row.variadic or no_gradient or row.pulls[i] is not None for i in range(len(arrays))]
    counted = [a for a, yes in zip(arrays, counts, strict=True) if yes]
    numbers = [options[name] for name in row.numbers]
    dtype = common(counted + [v for v in numbers if isinstance(v, float)], row.real)
    if dtype is None:
        return in_integers(row, arrays, counts, options), row.forward
    run = row.forward
    if dtype == FLOAT16 and row.wide and not all(map(fits_float16, [*arrays, *numbers])):
        dtype, run = FLOAT32, rounded_to_float16(row.forward)
    alone = not any(hasattr(a, "dtype") for a in counted)
    return [cast(a, dtype, alone) if yes else a for a, yes in zip(arrays, counts, strict=True)], run


def in_integers(row: Row, arrays: list, counts: list[bool], options: dict) -> list:
    """The inputs of an op that has no float input. Bools become numbers if the op treats them so;
    inputs that no integer dtype can hold are refused."""
    if row.name in COUNTING and {a.dtype.char for a in arrays if hasattr(a, "dtype")} == {"?"}:
        arrays = [a.astype(np.int64) if hasattr(a, "dtype") else a for a in arrays]
    counted = [a for a, yes in zip(arrays, counts, strict=True) if yes]
    names = row.inputs * len(arrays) if row.variadic else row.inputs
    named = dict(zip(names, arrays, strict=False))
    named |= {name: options[name] for name in row.numbers if name in FITTING}
    refuse_what_does_not_fit(row.name, counted, named)
    return arrays


def refuse_what_does_not_fit(name: str, values: list, named: dict) -> None:
    """ValueError if no integer dtype can hold all inputs of an op, or a number does not fit into
    the dtype of the arrays. named: the inputs and number options, by name."""
    dtypes = {a.dtype for a in values if hasattr(a, "dtype")}
    if not dtypes:
        return
    dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
    if dtype.kind == "f":
        raise ValueError(
            f"{name}: its inputs are of uint64 and of signed integers, and no integer dtype holds "
            "both; convert one of them first, for example with x.astype(tinycv.int64)"
        )
    if dtype.kind == "b":
        # With bools, a number makes the result int64, so it always fits.
        return
    for which, number in named.items():
        if type(number) is int and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
            wider = "int64" if dtype.itemsize < 8 else "float64"
            raise ValueError(
                f"{name}: {which} is {shown(number)}, which is outside of {dtype}, "
                f"{np.iinfo(dtype).min} to {np.iinfo(dtype).max}; convert the tensor to a wider "
                f"dtype first, with x.astype(tinycv.{wider})"
            )


def fits_float16(a: Any) -> bool:
    """Is it a float16 array, or a number that float16 holds exactly? 0.5 and 3 are, 0.1 and 1e5 are
    not. (Bools fit too.)"""
    if hasattr(a, "dtype"):
        return a.dtype == FLOAT16 or a.dtype.kind == "b"
    if abs(a) > LARGEST_HALF:
        return False
    digits, exponent = math.frexp(a)
    # float16 has 11 binary digits; smaller exponents are subnormal, where it has fewer.
    return (digits * 2**11).is_integer() and exponent > -14


def rounded_to_float16(forward: Callable) -> Callable:
    """The same function, with its result rounded to float16."""

    def rounded(xp: Any, *arrays: Any, **options: Any) -> Any:
        y = forward(xp, *arrays, **options)
        with np.errstate(over="ignore"):  # a result that is too large becomes infinity
            return y.astype(FLOAT16)

    return rounded


def compared(a: ArrayLike, name: str, row: Row) -> Any:
    """One side of a comparison as an array or a number; lists and other arrays are converted."""
    if type(a) is np.ndarray and a.dtype.kind in "biuf":
        return a
    return (
        as_array(a, what=row.name)
        if hasattr(a, "shape") and getattr(a, "ndim", 0)
        else operand(a, f"{row.name}: {name}")
    )


def operand(a: Any, what: str) -> Any:
    """An input as an array or a Python number; NumPy scalars become Python numbers. TypeError, with
    ``what`` at the start, for anything else."""
    if isinstance(a, (bool, int, float)):
        return float(a) if isinstance(a, np.generic) else a  # np.float64 is a subclass of float
    if isinstance(a, np.generic) and a.dtype.kind in "biuf":
        return a.item()
    if isinstance(a, np.ndarray) and a.dtype.kind in "biuf":
        # as_array refuses masked arrays and np.matrix
        a = as_array(a, what=what)
    if (isinstance(a, np.ndarray) or array_module(a) is not np) and a.dtype.kind in "biuf":
        return a
    raise TypeError(f"{what} is {shown(a)}; it must be a Tensor, an array or a number")


def common(values: list, real: bool = False) -> np.dtype | None:
    """The common float dtype of arrays and numbers, by the rules above; None if they stay integers.
    real: the result is a real number in any case."""
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
    """An array in that dtype. A Python number is left as it is, because it takes the dtype of the
    arrays in the same op; if there are none (``alone``), it becomes a NumPy scalar of ``dtype``."""
    if hasattr(a, "dtype"):
        return a if a.dtype == dtype else a.astype(dtype)
    return dtype.type(a) if alone else a


def real_numbers(a: Any, what: str) -> Any:
    """An input of an op that got no Tensor. Arrays, numbers and lists of real numbers are returned
    as they are; a np.memmap or the array of another library as a NumPy array. TypeError for complex
    numbers, text, dates, objects, np.matrix and masked arrays."""
    kind = getattr(getattr(a, "dtype", None), "kind", None)
    if kind is None and is_array(a) or isinstance(a, np.ndarray) and type(a) is not np.ndarray:
        return as_array(a, what=what)
    if (kind if is_array(a) else np.asarray(a).dtype.kind) not in ("f", "i", "u", "b"):
        raise TypeError("an input does not hold real numbers")  # errors.py finds out which
    return a


def in_float(a: Any) -> Any:
    """Integers and bools as float32 (a Python bool as a float); anything else as it is."""
    if isinstance(a, bool):
        return float(a)
    return a.astype(FLOAT32) if hasattr(a, "dtype") and a.dtype.kind in "biu" else a


def setting(value: Any, what: str) -> Any:
    """An option that is a number. Options are not inputs of the graph, so a Tensor is refused: it
    would silently lose its gradient."""
    if isinstance(value, Tensor):
        raise TypeError(
            f"{what} is {shown(value)}; it must be a Python number, because no gradient would "
            "reach a Tensor there"
        )
    if is_array(value) and not isinstance(value, np.generic):
        value = as_array(value, what=what)
    real = is_array(value) and value.dtype.kind in ("b", "i", "u", "f")
    if real and (isinstance(value, np.generic) or isinstance(value, np.ndarray) and not value.ndim):
        # A NumPy scalar would promote arrays in the same op; a Python number does not.
        return value.item()
    if not (real or value is None or isinstance(value, (bool, int, float))):
        raise TypeError(f"{what} is {shown(value)}; it must be a number")
    return value


def option(value: Any, who: str, name: str) -> Any:
    """An option of an op as a Python value: a number, True or False, an axis or a tuple of axes.
    TypeError for other values, also for those that NumPy would accept silently, such as keepdims=5
    or axis=""."""
    if name in NUMBERS:
        return setting(value, f"{who}: {name}")
    if name == "keepdims":
        return flag(value, f"{who}: keepdims")
    try:
        # A list is accepted because PyTorch users write x.flip([0]).
        several = isinstance(value, tuple) or isinstance(value, list) and value
        return tuple([axis_of(v) for v in value]) if several else axis_of(value)
    except TypeError:
        takes = "a whole number, a tuple of whole numbers or None"
        hint = MEANT.get(who, "") if name == "axis" else ""
        raise TypeError(f"{who}: {name} is {shown(value)}; it must be {takes}{hint}") from None


def axis_of(value: Any) -> int:
    """One axis as an int. TypeError for a bool, and for anything that is not a whole number."""
    if isinstance(value, (bool, np.bool)):
        raise TypeError
    return index(value)
