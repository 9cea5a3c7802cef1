"""Checks for the optimisers: parameters and options as users, schedules and files give them, and
gradients before each step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.engine.arguments import number, shown
from tinycv.engine.tensor import Parameter, Tensor

if TYPE_CHECKING:
    from tinycv.optim.optimizer import Optimizer

MOST = float(np.finfo(np.float32).max)  # of what multiplies weights and gradients
Options = dict[str, Any]  # by PyTorch's names: lr, betas, eps, weight_decay, ...
Group = dict[str, Any]  # {"params": parameters, and options for these alone}
StateDict = dict[str, Any]  # what an optimiser saves, or remembers of one parameter
# what an optimiser takes: parameters, pairs of a name and one, or groups with options of their own
Parameters = Tensor | tuple[str, Tensor] | Group
ALWAYS = {"params", "initial_lr"}  # what a group has beside its options; schedules keep the second


def finite(value: Any, what: str, low: float = -math.inf) -> float:
    """A real number that is neither NaN nor infinite, not in float32 either, and at least
    ``low``."""
    real = number(value, what, low)
    if abs(real) > MOST:
        raise ValueError(
            f"{what} is {shown(value)}; it must be a finite number, at most {MOST:.3g}, which "
            "float32 holds"
        )
    return real


def checked_options(kind: str, options: Mapping[str, Any]) -> Options:
    """The options as Python's own numbers. kind: the optimiser's name, which begins the sentence of
    an error.

    An option that only a subclass knows is left as it is.
    """
    checked = dict(options)
    for name in ("lr", "initial_lr", "momentum", "eps", "weight_decay"):
        if name in options:
            checked[name] = finite(options[name], f"{kind}: {name}", 0)
    if "dampening" in options:
        checked["dampening"] = finite(options["dampening"], f"{kind}: dampening")
    if "betas" in options:
        checked["betas"] = _pair(options["betas"], f"{kind}: betas")
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


def _pair(betas: Any, what: str) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(
            f"{what} is {shown(betas)}; it must be two numbers, each at least 0 and less than 1"
        )
    first, second = (number(beta, f"{what}[{i}]", 0, below=1) for i, beta in enumerate(betas))
    return first, second


def lasting(option: Any) -> bool:
    """Whether an option cannot change while it is the same object: a number of Python's, or a tuple
    of such."""
    return type(option) in (float, int, bool) or type(option) is tuple and all(map(lasting, option))


def list_of_parameters(kind: str, params: Any, group: bool = False) -> list[Any]:
    """The entries of ``params``: a list, a generator, or in a group also one Parameter alone."""
    if isinstance(params, Tensor) and group:
        return [params]
    if isinstance(params, Tensor):
        raise TypeError(f"{kind}: params is one Tensor; an optimiser takes an iterable: [tensor]")
    if (
        isinstance(params, (str, dict, set, frozenset))
        or not isinstance(params, Iterable)
        or hasattr(params, "dtype")
    ):
        raise TypeError(
            f"{kind}: params is {shown(params)}; it must be a list of Parameters, of (name, "
            "Parameter) pairs or of groups: model.parameters()"
        )
    return list(params)


def named_parameter(kind: str, entry: Any, number: int) -> tuple[str, Tensor]:
    """(name, parameter) of what a user gave; a parameter without a name is called by its number."""
    if isinstance(entry, tuple) and (len(entry) != 2 or not isinstance(entry[0], str)):
        raise TypeError(f"{kind}: params holds {shown(entry)}; a pair is (name, Parameter)")
    name, p = entry if isinstance(entry, tuple) else (str(number), entry)
    takes = f"{kind}: an optimiser changes Parameters (or leaf Tensors that require a gradient)"
    if not isinstance(p, Tensor) or not p.is_leaf:
        what = (
            f"a computed tensor of shape {p.shape}" if isinstance(p, Tensor) else type(p).__name__
        )
        raise TypeError(f"{takes}, not {what}")
    if p.dtype.kind != "f" or not (p.requires_grad or isinstance(p, Parameter)):
        raise TypeError(f"{takes}; this Tensor of {p.dtype} and shape {p.shape} requires none")
    if isinstance(p._data, np.ndarray) and not p._data.flags.writeable:
        raise ValueError(
            f"{takes}; this one, of shape {p.shape}, is in read-only memory: give "
            "Parameter(array.copy())"
        )
    return name, p


def refuse_unfit(optimizer: Optimizer) -> None:
    """ValueError or TypeError where a user set a gradient, or a parameter's array, that cannot be
    right.
    """
    kind = type(optimizer).__name__
    if sum(len(group["params"]) for group in optimizer.param_groups) != len(optimizer.shapes):
        raise ValueError(
            f"{kind}.step: param_groups has other parameters than the optimiser was given: "
            "add_param_group adds some"
        )
    for p, shape in zip(optimizer.names, optimizer.shapes, strict=True):
        data, g = p._data, p.grad
        as_made = data.shape == shape and data.dtype.kind == "f"
        has_its_gradient = g is None or (
            isinstance(g, Tensor)
            and g._data.shape == shape
            and g._data.dtype == data.dtype
            and isinstance(g._data, np.ndarray) == isinstance(data, np.ndarray)
        )
        if not (as_made and has_its_gradient):
            which = f"{kind}.step: parameter {optimizer.names[p]} of shape {p.shape}"
            raise _unfit(p, shape, which)


def _unfit(p: Tensor, shape: tuple[int, ...], which: str) -> TypeError | ValueError:
    """What is wrong with a parameter that had this shape, or with its gradient."""
    if p.shape != shape:
        return ValueError(
            f"{which} had shape {shape} when the optimiser was made: make another optimiser"
        )
    if p.dtype.kind != "f":
        return TypeError(f"{which} is of {p.dtype} now; an optimiser changes floats")
    g = p.grad
    if not isinstance(g, Tensor):
        return TypeError(
            f"{which} has a gradient that is {shown(g)}; it must be a Tensor of that shape, or None"
        )
    return ValueError(
        f"{which} is {p.dtype} on {p.device}, and has a gradient of shape {g.shape}, {g.dtype} "
        f"on {g.device}: they must be equal"
    )
