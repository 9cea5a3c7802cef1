"""Names, order and defaults of arguments compared with PyTorch: if they differ, the docstring says
so.

A function that has only the first of PyTorch's arguments needs no remark, because a call with one
of the others fails. But if arguments have another order or other defaults, a call written for
PyTorch would silently mean something else.
"""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tinycv
from tinycv import nn, optim, sequence
from tinycv.engine import methods
from tinycv.nn import functional

EMPTY = inspect.Parameter.empty
# differences by PyTorch's argument name that functional.py and methods.py state once at the top
SAME = {
    "input": ("x", "ids", "a", "c"),
    "dim": ("axis",),
    "dims": ("axis",),
    "keepdim": ("keepdims",),
    "min": ("low",),
    "max": ("high",),
    "axis0": ("axis1",),
    "axis1": ("axis2",),
    "other": ("b", "x"),
    "condition": ("c",),
    "tensor": ("x",),
}
IN_C = {
    torch.nn.functional.max_pool2d: torch.nn.functional.max_pool2d_with_indices,
    torch.nn.LSTM: torch.nn.RNNBase,
    torch.nn.GRU: torch.nn.RNNBase,
    torch.nn.RNN: torch.nn.RNNBase,
    # the docstring has no signature that Python can parse
    torch.full_like: lambda input, fill_value: None,
}
# in PyTorch, these have only (*args)
UNKNOWN = {"nn.Module", "nn.Parameter", "nn.Sequential", "tinycv.einsum"}


def arguments(function):
    """[(name, default)] of the arguments that may be passed by position, up to *args."""
    if hasattr(function, "row"):
        return [(name, EMPTY) for name in function.row.inputs] + list(function.row.options.items())
    if inspect.isclass(function):
        function = (
            function.__init__ if function.__init__ is not object.__init__ else lambda self: None
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return of_a_docstring(function)
    found = []
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY, p.VAR_KEYWORD):
            break
        # mode ("LSTM", ...) is an argument of RNNBase only
        if p.name not in ("self", "mode"):
            found.append((p.name, p.default))
    return found


def of_a_docstring(function):
    """As ``arguments``, for PyTorch's C functions, whose docstrings start with a signature."""
    found = re.search(r"\w+\((.*?)\) ->", function.__doc__ or "", re.S)
    parts = [part.strip() for part in found[1].split(",")] if found else []
    made = []
    for part in parts:
        if part.startswith("*"):
            break
        made.append(
            (re.split("[:= ]", part)[0], eval(part.partition("=")[2] or "EMPTY", {"EMPTY": EMPTY}))
        )
    return made


def differences(ours, theirs):
    """The arguments that would mean something else in tinycv if a PyTorch call passes them by
    position."""
    found = []
    for (name, default), (other, theirs_default) in zip(ours, theirs, strict=False):
        if name != other and name not in SAME.get(other, ()):
            found.append(f"{name} stands where PyTorch has {other}")
        elif (
            default != theirs_default
            and default != getattr(theirs_default, "__name__", None)
            and (name != "retain_graph" and EMPTY is not theirs_default)
        ):
            found.append(f"{name} is {default}, PyTorch's is {theirs_default}")
    return found


def pairs():
    for name in functional.__all__:
        if hasattr(torch.nn.functional, name):
            yield (
                f"functional.{name}",
                getattr(functional, name),
                getattr(torch.nn.functional, name),
            )
    for chapter in (nn, sequence):
        for name, ours in vars(chapter).items():
            theirs = getattr(torch.nn, name, None)
            if inspect.isclass(ours) and inspect.isclass(theirs):
                yield f"nn.{name}", ours, theirs
    for name in ("SGD", "Adam", "AdamW", "LBFGS"):
        yield f"optim.{name}", getattr(optim, name), getattr(torch.optim, name)
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        yield f"optim.{name}", getattr(optim, name), getattr(torch.nn.utils, name)
    for kind, other in (
        (tinycv.Tensor, torch.Tensor),
        (tinycv, torch),
        (nn.Module, torch.nn.Module),
    ):
        for name in dir(kind):
            ours, theirs = getattr(kind, name), getattr(other, name, None)
            is_method_too = kind is tinycv and hasattr(tinycv.Tensor, name)
            if (
                name[0] != "_"
                and not inspect.isclass(ours)
                and callable(ours)
                and callable(theirs)
                and not is_method_too
            ):
                yield f"{kind.__name__}.{name}", ours, theirs


PAIRS = {name: (ours, theirs) for name, ours, theirs in pairs() if name not in UNKNOWN}


@pytest.mark.parametrize("name", PAIRS)
def test_arguments_have_the_order_of_pytorch_or_the_docstring_says_so(name):
    ours, theirs = PAIRS[name]
    mine, other = arguments(ours), arguments(IN_C.get(theirs, theirs))
    if name.startswith("Tensor."):
        mine, other = (
            [p for i, p in enumerate(a) if i or p[0] not in ("x", "self")] for a in (mine, other)
        )
    said = f"{ours.__doc__} {getattr(ours, '__init__', None).__doc__}"
    listed = name.startswith("Tensor.") and f"x.{name[7:]}(" in methods.__doc__
    assert not differences(mine, other) or "differs:" in said or listed, differences(mine, other)


def test_the_comparison_finds_differences():
    assert len(PAIRS) > 100
    assert [
        n for n, (o, t) in PAIRS.items() if differences(arguments(o), arguments(IN_C.get(t, t)))
    ] != []


X = np.arange(24, dtype=np.float32).reshape(4, 6) % 7


def listed(made):
    return [v.tolist() for v in made] if isinstance(made, (tuple, list)) else made.tolist()


# the table at the top of methods.py: (a call that both libraries accept, what it means in PyTorch)
TABLE = {
    "transpose": (lambda x: x.transpose(0, 1), lambda x: x.swapaxes(0, 1)),
    "split, a number": (lambda x: x.split(2), lambda x: [x[0:2], x[2:4]]),
    "split, a list": (lambda x: x.split([1, 3]), lambda x: [x[0:1], x[1:4]]),
    "std": (lambda x: x.std(), lambda x: x.std(ddof=1)),
    "var": (lambda x: x.var(), lambda x: x.var(ddof=1)),
    "norm": (lambda x: x.norm(1), lambda x: abs(x).sum()),
    "max": (lambda x: x.max(0), lambda x: [x.max(0), x.argmax(0)]),
    "min": (lambda x: x.min(0), lambda x: [x.min(0), x.argmin(0)]),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_differences_from_pytorch_is_true(name):
    call, meant = TABLE[name]
    ours, theirs = tinycv.Tensor(X), torch.tensor(X)
    # PyTorch: sizes that add up to 4; NumPy and tinycv: cut before index 1
    if name == "split, a list":
        assert [tuple(v.shape) for v in theirs.split([1, 3])] == [
            tuple(v.shape) for v in meant(ours)
        ]
        assert len(call(ours)) == 3
    elif name == "split, a number":
        assert [tuple(v.shape) for v in theirs.split(3)] == [(3, 6), (1, 6)] and len(
            call(ours)
        ) == 2
    else:
        np.testing.assert_allclose(
            np.asarray(listed(call(theirs))), np.asarray(listed(meant(ours))), rtol=1e-5
        )
        assert listed(call(ours)) != listed(call(theirs))
