"""Checks of a saved optimiser state: everything is checked before anything is changed.

``fitting_state`` reads a whole state dict, and its error lists everything that does not fit.
Used by: optimizer.py, training/half.py, averaged.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import backend
from tinycv.engine.arguments import listed, shown, size
from tinycv.engine.tensor import Tensor, as_array
from tinycv.optim.inputs import Options, StateDict, checked_options

if TYPE_CHECKING:
    from tinycv.optim.optimizer import Optimizer

MOST_STEPS = 2**53  # beyond this, float64 cannot represent every whole number


def plain(value: Any) -> Any:
    """``value`` with every NumPy number, and every Tensor or array of shape (), turned into a
    Python number, inside dicts, lists and tuples too, so that JSON can hold it.
    """
    if isinstance(value, dict):
        return {name: plain(option) for name, option in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    number = getattr(value, "ndim", None) == 0 and hasattr(value, "dtype")
    return value.item() if number else value


def fitting_array(
    value: Any, shape: tuple[int, ...], dtype: DTypeLike, device: str, what: str
) -> np.ndarray:
    """``value`` as an array of this dtype on this device. ValueError if it has another shape or
    another kind of numbers.

    Integers become floats where floats are needed. Floats do not become integers, nor complex
    numbers real ones.
    """
    array: Any
    try:
        array = as_array(value, floats=np.dtype(dtype))
    except (TypeError, ValueError):
        array = None
    is_array = isinstance(array, np.ndarray) or backend.array_module(array) is not np
    if not is_array or isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{what} is {shown(value)}; it must be an array of shape {shape}")
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{what} has shape {tuple(array.shape)}; it must have {tuple(shape)}")
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{what} is of dtype {array.dtype}, which does not fit into {dtype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype, copy=False)
    if (
        isinstance(array, np.ndarray)
        and array.dtype.itemsize > converted.dtype.itemsize
        and converted.dtype.kind == "f"
        and (np.isinf(converted) & np.isfinite(array)).any()
    ):
        raise ValueError(f"{what} has numbers of {array.dtype} that {converted.dtype} cannot hold")
    return backend.to_device(converted, device)


def fitting_state(
    optimizer: Optimizer, state_dict: Any
) -> tuple[list[Options], dict[str, StateDict]]:
    """(the options of every group, the state of every parameter by name) for ``optimizer``,
    converted and ready to be copied in.

    ValueError with one sentence that lists everything that does not fit. Nothing is changed.
    """
    problems: list[str] = []
    if not isinstance(state_dict, Mapping) or set(state_dict) != {"state", "param_groups"}:
        what = shown(
            sorted(map(str, state_dict)) if isinstance(state_dict, Mapping) else state_dict
        )
        problems.append(f'a state dict has "state" and "param_groups"; the saved one is {what}')
        groups, entries = [], {}
    else:
        groups = _fitting_groups(optimizer, state_dict["param_groups"], problems)
        entries = _fitting_entries(optimizer, state_dict["state"], problems)
    if problems:
        raise ValueError(
            f"load_state_dict: {type(optimizer).__name__} was left unchanged; "
            f"{listed(problems, join='; ')}"
        )
    return groups, entries


def _fitting_groups(optimizer: Optimizer, saved: Any, problems: list[str]) -> list[Options]:
    if not isinstance(saved, (list, tuple)) or not all(
        isinstance(group, Mapping) for group in saved
    ):
        problems.append(f"param_groups is {shown(saved)}; it must be a list of dicts")
        return []
    if len(saved) != len(optimizer.param_groups):
        problems.append(
            f"the optimiser has {len(optimizer.param_groups)} groups, saved are {len(saved)}"
        )
    groups = []
    for i, (current, group) in enumerate(zip(optimizer.param_groups, saved, strict=False)):
        names = [optimizer.names[p] for p in current["params"]]
        if list_of(group.get("params")) != names:
            problems.append(
                f"group {i} has parameters {quoted(names)}, saved are {quoted(group.get('params'))}"
            )
        if set(current) - {"initial_lr"} != set(group) - {"initial_lr"}:
            problems.append(
                f"group {i} has options {sorted(current)}, saved are "
                f"{shown(sorted(map(str, group)))}"
            )
            continue
        try:
            groups.append(
                checked_options(f"group {i}", {k: v for k, v in group.items() if k != "params"})
            )
        except (TypeError, ValueError) as error:
            problems.append(str(error))
    return groups


def _fitting_entries(optimizer: Optimizer, saved: Any, problems: list[str]) -> dict[str, StateDict]:
    if not isinstance(saved, Mapping):
        problems.append(f"state is {shown(saved)}; it must be a dict")
        return {}
    unknown = [name for name in saved if name not in set(optimizer.names.values())]
    if unknown:
        problems.append(f"no parameters are called {quoted(unknown)}")
    entries = {}
    for p, name in optimizer.names.items():
        if name in saved:
            try:
                entries[name] = _fitting_entry(optimizer, p, name, saved[name])
            except (TypeError, ValueError) as error:
                problems.append(str(error))
    return entries


def _fitting_entry(optimizer: Optimizer, p: Tensor, name: str, entry: Any) -> StateDict:
    """The saved state of one parameter: its step, and all arrays unless the step is 0."""
    shapes = optimizer.saved_shapes(p, entry if isinstance(entry, Mapping) else {})
    if not isinstance(entry, Mapping) or "step" not in entry:
        raise ValueError(
            f"{name} of shape {p.shape} needs a step and {list(shapes)}, saved is {shown(entry)}"
        )
    step = size(entry["step"], f"{name}: step")
    if step > MOST_STEPS:
        raise ValueError(f"{name}: step is {step}; it must be at most {MOST_STEPS}")
    needed = {"step", *shapes} if step else {"step"}
    if set(entry) != needed:
        raise ValueError(
            f"{name} of shape {p.shape} needs {sorted(needed)}, saved are "
            f"{shown(sorted(map(str, entry)))}"
        )
    converted = {
        key: fitting_array(entry[key], shape, wide(p.dtype), p.device, f"{name}: {key}")
        for key, shape in shapes.items()
        if step
    }
    for key, array in converted.items():
        if not backend.array_module(array).isfinite(array).all():
            raise ValueError(f"{name}: {key} is not finite")
        if key == "exp_avg_sq" and (array < 0).any():
            raise ValueError(f"{name}: {key} has means of squares below 0")
    return {"step": step, **converted}


def wide(dtype: DTypeLike) -> np.dtype:
    """The dtype in which sums of such numbers are kept: float32 for float16, else ``dtype``
    itself.
    """
    return np.promote_types(dtype, np.float32)


def list_of(names: Any) -> Any:
    """A list or tuple as a list, because JSON turns tuples into lists; anything else as it is."""
    return list(names) if isinstance(names, (list, tuple)) else names


def brief(names: Any) -> str:
    """The first four names, for an error message, and how many there are if there are more."""
    if not isinstance(names, (list, tuple)):
        return shown(names)
    return ", ".join(str(name)[:60] for name in names[:4]) + (
        f", ... ({len(names)})" if len(names) > 4 else ""
    )


def quoted(names: Any) -> str:
    """As ``brief``, with quotes around strings: PyTorch saves the numbers 0, 1 where tinycv saves
    the names '0', '1'."""
    return (
        brief([repr(name) for name in names]) if isinstance(names, (list, tuple)) else shown(names)
    )
