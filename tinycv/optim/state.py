"""Saved states of optimisers and averages: checked whole, before anything is changed.

``fitting_state`` looks at a state dict, and lists everything in it that does not fit.
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

MOST_STEPS = 2**53  # from here on a float64 cannot count them


def plain(value: Any) -> Any:
    """A single number of NumPy's, a Tensor's or an array's as Python's, also inside dicts, lists
    and tuples; all else as it is. JSON takes it then.
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
    """``value`` as an array of this dtype on this device. ValueError if its shape or its kind of
    numbers is another.

    Integers become floats where floats are needed. Floats do not become integers, nor complex
    numbers real ones.
    """
    array: Any
    try:
        array = as_array(value, floats=np.dtype(dtype))
    except (TypeError, ValueError):
        array = None
    known = isinstance(array, np.ndarray) or backend.array_module(array) is not np
    if not known or isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{what} is {shown(value)}; it must be an array of shape {shape}")
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{what} is {tuple(array.shape)}, should be {tuple(shape)}")
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{what} is of {array.dtype}, which does not fit into {dtype}")
    with np.errstate(over="ignore"):
        made = array.astype(dtype, copy=False)
    if (
        isinstance(array, np.ndarray)
        and array.dtype.itemsize > made.dtype.itemsize
        and made.dtype.kind == "f"
        and (np.isinf(made) & np.isfinite(array)).any()
    ):
        raise ValueError(f"{what} has numbers of {array.dtype} that {made.dtype} cannot hold")
    return backend.to_device(made, device)


def fitting_state(
    optimizer: Optimizer, state_dict: Any
) -> tuple[list[Options], dict[str, StateDict]]:
    """(options of every group, state of every parameter by name) for an Optimizer, converted and
    ready to be copied.

    ValueError with one sentence that lists whatever does not fit. Nothing is changed.
    """
    problems: list[str] = []
    if not isinstance(state_dict, Mapping) or set(state_dict) != {"state", "param_groups"}:
        what = shown(
            sorted(map(str, state_dict)) if isinstance(state_dict, Mapping) else state_dict
        )
        problems.append(f'a state dict has "state" and "param_groups", saved is {what}')
        groups, kept = [], {}
    else:
        groups = _fitting_groups(optimizer, state_dict["param_groups"], problems)
        kept = _fitting_entries(optimizer, state_dict["state"], problems)
    if problems:
        raise ValueError(
            f"load_state_dict: {type(optimizer).__name__} was left unchanged; "
            f"{listed(problems, join='; ')}"
        )
    return groups, kept


def _fitting_groups(optimizer: Optimizer, saved: Any, problems: list[str]) -> list[Options]:
    if not isinstance(saved, (list, tuple)) or not all(
        isinstance(group, Mapping) for group in saved
    ):
        problems.append(f"param_groups is {shown(saved)}; it must be a list of dicts")
        return []
    if len(saved) != len(optimizer.param_groups):
        problems.append(f"{len(optimizer.param_groups)} groups, saved are {len(saved)}")
    groups = []
    for i, (own, group) in enumerate(zip(optimizer.param_groups, saved, strict=False)):
        names = [optimizer.names[p] for p in own["params"]]
        if list_of(group.get("params")) != names:
            problems.append(
                f"group {i} has parameters {quoted(names)}, saved are {quoted(group.get('params'))}"
            )
        if set(own) - {"initial_lr"} != set(group) - {"initial_lr"}:
            problems.append(
                f"group {i} has options {sorted(own)}, saved are {shown(sorted(map(str, group)))}"
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
    kept = {}
    for p, name in optimizer.names.items():
        if name in saved:
            try:
                kept[name] = _fitting_entry(optimizer.arrays, p, name, saved[name])
            except (TypeError, ValueError) as error:
                problems.append(str(error))
    return kept


def _fitting_entry(arrays: tuple[str, ...], p: Tensor, name: str, entry: Any) -> StateDict:
    """What is remembered of one parameter: its step, and unless that is 0 all arrays."""
    if not isinstance(entry, Mapping) or "step" not in entry:
        raise ValueError(
            f"{name} of shape {p.shape} needs a step and {list(arrays)}, saved is {shown(entry)}"
        )
    step = size(entry["step"], f"{name}: step")
    if step > MOST_STEPS:
        raise ValueError(f"{name}: step is {step}; it must be at most {MOST_STEPS}")
    wanted = {"step", *arrays} if step else {"step"}
    if set(entry) != wanted:
        raise ValueError(
            f"{name} of shape {p.shape} needs {sorted(wanted)}, saved are "
            f"{shown(sorted(map(str, entry)))}"
        )
    kept = {
        key: fitting_array(entry[key], p.shape, wide(p.dtype), p.device, f"{name}: {key}")
        for key in arrays
        if step
    }
    for key, array in kept.items():
        if not backend.array_module(array).isfinite(array).all():
            raise ValueError(f"{name}: {key} is not finite")
        if key == "exp_avg_sq" and (array < 0).any():
            raise ValueError(f"{name}: {key} has means of squares below 0")
    return {"step": step, **kept}


def wide(dtype: DTypeLike) -> np.dtype:
    """The dtype that sums of such numbers are kept in: float32 for float16, else the dtype
    itself.
    """
    return np.promote_types(dtype, np.float32)


def list_of(names: Any) -> Any:
    """A list or tuple as a list, which JSON keeps; anything else as it is."""
    return list(names) if isinstance(names, (list, tuple)) else names


def brief(names: Any) -> str:
    """The first four names in a sentence, and how many there are."""
    if not isinstance(names, (list, tuple)):
        return shown(names)
    return ", ".join(str(name)[:60] for name in names[:4]) + (
        f", ... ({len(names)})" if len(names) > 4 else ""
    )


def quoted(names: Any) -> str:
    """The same with quotes around words, which tell PyTorch's numbers 0, 1 from the names '0',
    '1'."""
    return (
        brief([repr(name) for name in names]) if isinstance(names, (list, tuple)) else shown(names)
    )
