"""Input checks of the optimisers: the parameters, the options, and the gradients before each step.

Options come from users, from learning-rate schedules and from saved files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.engine.arguments import choice, number, shown, size
from tinycv.engine.tensor import Parameter, Tensor

if TYPE_CHECKING:
    from tinycv.optim.optimizer import Optimizer

LARGEST = float(np.finfo(np.float32).max)  # of an option: it multiplies float32 weights
Options = dict[str, Any]  # lr, betas, eps, weight_decay, ...: PyTorch's names
Group = dict[str, Any]  # "params": a list of parameters, and options for this group alone
StateDict = dict[str, Any]  # what an optimiser saves, for all parameters or for one
# what an optimiser takes: parameters, (name, parameter) pairs, or groups
Parameters = Tensor | tuple[str, Tensor] | Group
# keys of every group, beside its options; learning-rate schedules set the second
ALWAYS = {"params", "initial_lr"}


def finite(value: Any, what: str, low: float = -math.inf) -> float:
    """``value`` as a float that is finite, in float32 too, and at least ``low``."""
    real = number(value, what, low)
    if abs(real) > LARGEST:
        raise ValueError(
            f"{what} is {shown(value)}; it must be a finite number, at most {LARGEST:.3g}, which "
            "float32 holds"
        )
    return real


def checked_options(kind: str, options: Mapping[str, Any]) -> Options:
    """The options as Python numbers. kind: the optimiser's name, with which an error message
    begins.

    An option that only a subclass knows stays as it is.
    """
    checked = dict(options)
    for name in ("lr", "initial_lr", "momentum", "eps", "weight_decay"):
        if name in options:
            checked[name] = finite(options[name], f"{kind}: {name}", 0)
    if "dampening" in options:
        checked["dampening"] = finite(options["dampening"], f"{kind}: dampening")
    if "betas" in options:
        checked["betas"] = _pair(options["betas"], f"{kind}: betas")
    if "line_search_fn" in options:
        _check_lbfgs(kind, checked)
    if "nesterov" in options:
        nesterov = options["nesterov"]
        if not isinstance(nesterov, (bool, np.bool)):
            raise TypeError(f"{kind}: nesterov is {shown(nesterov)}; it must be True or False")
        if nesterov and not (checked["momentum"] > 0 and checked["dampening"] == 0):
            raise ValueError(
                f"{kind}: nesterov needs momentum above 0 and dampening 0; momentum is "
                f"{checked['momentum']}, dampening is {checked['dampening']}"
            )
    return checked


def _check_lbfgs(kind: str, checked: Options) -> None:
    """Check the options of LBFGS, and replace each by a Python number."""
    if checked["lr"] == 0:
        raise ValueError(f"{kind}: lr is 0; it must be above 0, because it is the first step tried")
    for name in ("max_iter", "history_size"):
        checked[name] = size(checked[name], f"{kind}: {name}", 1)
    if checked["max_eval"] is None:
        checked["max_eval"] = checked["max_iter"] * 5 // 4
    checked["max_eval"] = size(checked["max_eval"], f"{kind}: max_eval", 1)
    for name in ("tolerance_grad", "tolerance_change"):
        checked[name] = finite(checked[name], f"{kind}: {name}", 0)
    names = None, "strong_wolfe"
    checked["line_search_fn"] = choice(checked["line_search_fn"], f"{kind}: line_search_fn", names)


def _pair(betas: Any, what: str) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(
            f"{what} is {shown(betas)}; it must be two numbers, each at least 0 and less than 1"
        )
    first, second = (number(beta, f"{what}[{i}]", 0, below=1) for i, beta in enumerate(betas))
    return first, second


def immutable(option: Any) -> bool:
    """Whether an option cannot change in place: a Python number, or a tuple of them."""
    if type(option) is tuple:
        return all(map(immutable, option))
    return type(option) in (float, int, bool)


def list_of_parameters(kind: str, params: Any, group: bool = False) -> list[Any]:
    """The entries of ``params``, which is any iterable; in a group it may also be one Parameter."""
    if isinstance(params, Tensor) and group:
        return [params]
    if isinstance(params, Tensor):
        raise TypeError(
            f"{kind}: params is one Tensor; it must be an iterable of Parameters: [tensor]"
        )
    if (
        isinstance(params, (str, dict, set, frozenset))
        or not isinstance(params, Iterable)
        or hasattr(params, "dtype")
    ):
        raise TypeError(
            f"{kind}: params is {shown(params)}; it must be a list of Parameters, of (name, "
            "Parameter) pairs or of groups, such as model.parameters()"
        )
    return list(params)


def named_parameter(kind: str, entry: Any, number: int) -> tuple[str, Tensor]:
    """(name, parameter) of one entry of params; a parameter without a name gets its number as the
    name.
    """
    if isinstance(entry, tuple) and (len(entry) != 2 or not isinstance(entry[0], str)):
        raise TypeError(f"{kind}: params holds {shown(entry)}; a pair is (name, Parameter)")
    name, p = entry if isinstance(entry, tuple) else (str(number), entry)
    takes = f"{kind}: an optimiser takes Parameters (or leaf Tensors that require a gradient)"
    if not isinstance(p, Tensor) or not p.is_leaf:
        what = (
            f"a computed tensor of shape {p.shape}" if isinstance(p, Tensor) else type(p).__name__
        )
        raise TypeError(f"{takes}, not {what}")
    if p.dtype.kind != "f" or not (p.requires_grad or isinstance(p, Parameter)):
        raise TypeError(
            f"{takes}; this Tensor of {p.dtype} and shape {p.shape} does not require a gradient"
        )
    if isinstance(p._data, np.ndarray) and not p._data.flags.writeable:
        raise ValueError(
            f"{takes}; this one, of shape {p.shape}, is in read-only memory: pass "
            "Parameter(array.copy())"
        )
    return name, p


def refuse_unfit(optimizer: Optimizer) -> None:
    """ValueError or TypeError if a parameter has changed its shape or dtype since the optimiser was
    made, or has a gradient that does not match it.
    """
    kind = type(optimizer).__name__
    if sum(len(group["params"]) for group in optimizer.param_groups) != len(optimizer.shapes):
        raise ValueError(
            f"{kind}.step: the parameters in param_groups are not those that the optimiser was "
            "given: add parameters with add_param_group"
        )
    for p, shape in zip(optimizer.names, optimizer.shapes, strict=True):
        data, g = p._data, p.grad
        parameter_fits = data.shape == shape and data.dtype.kind == "f"
        gradient_fits = g is None or (
            isinstance(g, Tensor)
            and g._data.shape == shape
            and g._data.dtype == data.dtype
            and isinstance(g._data, np.ndarray) == isinstance(data, np.ndarray)
        )
        if not (parameter_fits and gradient_fits):
            which = f"{kind}.step: parameter {optimizer.names[p]} of shape {p.shape}"
            raise _unfit(p, shape, which)


def _unfit(p: Tensor, shape: tuple[int, ...], which: str) -> TypeError | ValueError:
    """The error that says what is wrong with a parameter, or with its gradient. shape: the
    parameter's shape when the optimiser was made.
    """
    if p.shape != shape:
        return ValueError(
            f"{which} had shape {shape} when the optimiser was made: make another optimiser"
        )
    if p.dtype.kind != "f":
        return TypeError(f"{which} is now of dtype {p.dtype}; it must be floats")
    g = p.grad
    if not isinstance(g, Tensor):
        return TypeError(
            f"{which} has a gradient that is {shown(g)}; it must be a Tensor of that shape, or None"
        )
    return ValueError(
        f"{which} is {p.dtype} on {p.device}, and its gradient has shape {g.shape} and is "
        f"{g.dtype} on {g.device}; shape, dtype and device must be equal"
    )
