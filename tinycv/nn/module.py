"""Module: the base class of layers and models, which finds, saves and moves their parameters.

A Module looks for its parameters in its own attributes, so nothing has to be registered. A
Parameter is learned, any other Tensor is a buffer (saved and moved, but not learned), and a Module
is a submodule. Lists, tuples, deques and dicts are searched too, at any depth. A set or another
container that holds such a part raises a TypeError, because the part would have no name. Names are
paths joined by dots, as in PyTorch: ``blocks.0.norm1.weight``.

differs: in PyTorch a Parameter in a plain list or dict is not found, and so never learns. Here it
is found, under the name that PyTorch's ParameterList or ParameterDict would give it.
"""

from __future__ import annotations

from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from reprlib import recursive_repr
from types import FunctionType, MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinycv.engine import backend, capturing, state
from tinycv.engine.arguments import flag, shown
from tinycv.engine.arguments import function as taken_function
from tinycv.engine.door import device_named
from tinycv.engine.tensor import ArrayLike, Parameter, Tensor
from tinycv.engine.torch_names import of_object, renamed
from tinycv.nn.loading import float_type, load_by_name

# The types of most attributes. They hold no parts, so they are skipped first.
PLAIN = {type(None), bool, int, float, str}
# Containers in which parts have no lasting name: parts inside them are refused.
UNSEARCHED = (
    set,
    frozenset,
    UserDict,
    UserList,
    ChainMap,
    MappingProxyType,
    KeysView,
    ValuesView,
    ItemsView,
)


class Module:
    """Base class of every layer and model. Set the attributes in ``__init__`` and compute in
    ``forward``."""

    training = True

    def __init_subclass__(cls, **options: Any):
        """Refuses Parameters in the body of a class: all objects of the class would share them, and
        no search through an object's attributes would find them."""
        super().__init_subclass__(**options)
        for name, value in vars(cls).items():
            for _, part in parts_in(name, value):
                learned = part.parameters() if isinstance(part, Module) else [part]
                if any(isinstance(p, Parameter) for p in learned):
                    raise TypeError(
                        f"{cls.__name__}: {name} has Parameters but is defined in the body "
                        "of the class, where it is not found; set it in __init__"
                    )

    def __init__(self, *args: Any, **options: Any):
        """For layers that take no arguments and so have no ``__init__`` of their own. If another
        base class comes after Module, the arguments are for that class."""
        following = super().__init__
        if getattr(following, "__objclass__", None) is not object:
            following(*args, **options)
        elif args or options:
            given = ", ".join([*map(shown, args), *options])
            raise TypeError(
                f"{type(self).__name__}: it takes no arguments, but got {given}{renamed(options)}"
            )

    if not TYPE_CHECKING:  # or type checkers would accept any name

        def __getattr__(self, name: str) -> Any:
            """Called for names that do not exist: those of PyTorch get a hint."""
            return of_object(self, "Module", name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. A subclass without it has other methods, and a call is a
        TypeError that names them."""
        name = type(self).__name__
        methods = sorted(
            method
            for method in set(dir(type(self))) - set(dir(Module))
            if callable(getattr(type(self), method)) and not method.startswith("_")
        )
        if not methods:
            raise TypeError(f"{name} must define forward()")
        raise TypeError(
            f"{name} has no forward(), so it cannot be called like a function; it has the methods "
            f"{', '.join(methods)}"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (recording := capturing.current()) is not None:
            recording.reads(t for _, t in self.named_tensors())
            recording.depends(lambda: self.training)
        if state.journal() is not None:
            state.same(self.training, "a layer's mode (training)")
        return self.forward(*args, **kwargs)

    # -- parts (Modules and Tensors) by name ------------------------------------------------------

    def named_parts(self) -> Iterator[tuple[str, Module | Tensor]]:
        """The Modules and Tensors in this module's own attributes, by name. Does not look inside
        those Modules."""
        for name, value in vars(self).items():
            if type(value) not in PLAIN:
                yield from parts_in(name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The Modules among ``named_parts``, each by its name."""
        return ((name, part) for name, part in self.named_parts() if isinstance(part, Module))

    def children(self) -> Iterator[Module]:
        """The Modules of ``named_children``, without their names. A shared one comes once."""
        return iter({id(module): module for _, module in self.named_children()}.values())

    def named_modules(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all modules inside it, the outer ones first. A shared module comes once,
        or under each of its names with remove_duplicate=False. differs: the first argument is
        prefix, where PyTorch has memo."""
        if not isinstance(prefix, str):
            raise TypeError(f"named_modules: prefix is {shown(prefix)}; it must be a string")
        return self._named_modules(
            prefix, flag(remove_duplicate, "named_modules: remove_duplicate")
        )

    def _named_modules(self, prefix: str, remove_duplicate: bool) -> Iterator[tuple[str, Module]]:
        visited: set[int] = set()
        stack: list[tuple[str, Module, tuple[int, ...]]] = [(prefix, self, ())]
        while stack:
            # ancestors: ids of the modules around this one. A submodule may refer back to one of
            # them, and following that reference would never end.
            path, module, ancestors = stack.pop()
            if id(module) in (visited if remove_duplicate else ancestors):
                continue
            visited.add(id(module))
            yield path, module
            lineage = (*ancestors, id(module))
            children = [(joined(path, name), m, lineage) for name, m in module.named_children()]
            stack.extend(reversed(children))

    def modules(self) -> Iterator[Module]:
        """The modules of ``named_modules``, without their names."""
        return (module for _, module in self.named_modules())

    def apply(self, function: Callable[[Module], object]) -> Module:
        """Call ``function`` on every module inside this one, the inner ones first, and last on this
        one. Returns this module. differs: PyTorch's argument is called fn.
        """
        call = taken_function(function, "apply: function")
        for module in reversed(list(self.modules())):
            call(module)
        return self

    def named_tensors(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers by name. A shared one comes under its first name, or under each of
        its names with remove_duplicate=False."""
        return self._named_tensors(flag(remove_duplicate, "named_tensors: remove_duplicate"))

    def _named_tensors(self, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        yielded: set[int] = set()
        for path, module in self.named_modules(remove_duplicate=remove_duplicate):
            for name, value in module.named_parts():
                if isinstance(value, Tensor) and not (remove_duplicate and id(value) in yielded):
                    yielded.add(id(value))
                    yield joined(path, name), value

    def named_parameters(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The Parameters among ``named_tensors``. differs: has no arguments prefix and recurse."""
        tensors = self.named_tensors(flag(remove_duplicate, "named_parameters: remove_duplicate"))
        return ((name, t) for name, t in tensors if isinstance(t, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """The Parameters of ``named_parameters``, without their names."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The Tensors among ``named_tensors`` that are not Parameters. differs: has no arguments
        prefix and recurse."""
        tensors = self.named_tensors(flag(remove_duplicate, "named_buffers: remove_duplicate"))
        return ((name, t) for name, t in tensors if not isinstance(t, Parameter))

    def buffers(self) -> Iterator[Tensor]:
        """The Tensors of ``named_buffers``, without their names."""
        return (t for _, t in self.named_buffers())

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """The same as ``self.name = tensor``, for a Tensor that is saved and moved but not
        learned."""
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError(
                f"register_buffer: name is {shown(name)}; it must be a name, such as 'mask'"
            )
        if tensor is not None and (not isinstance(tensor, Tensor) or isinstance(tensor, Parameter)):
            raise TypeError(
                f"register_buffer: {name} is {shown(tensor)}; it must be a Tensor that is not a "
                "Parameter, or None"
            )
        setattr(self, name, tensor)

    def num_parameters(self) -> int:
        """How many numbers all Parameters hold in total."""
        return sum(p.size for p in self.parameters())

    # -- training and evaluation mode, gradients, devices -----------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Switch to training mode (dropout is active) or, with False, to evaluation mode. Returns
        the module."""
        mode = flag(mode, "train: mode")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation mode: the same as ``train(False)``. Returns the module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the gradients of all Parameters to None."""
        capturing.forget_gradients(self.parameters())

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or unfreeze (True) every parameter. Returns the module."""
        requires_grad = flag(requires_grad, "requires_grad_: requires_grad")
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def to(self, target: str | type | np.dtype) -> Module:
        """Move to a device ("cpu", "gpu") or cast floats to a dtype, in place. Gradients are
        dropped. Returns the module. differs: takes either a device or a dtype, by position.
        """
        device = device_named(target, f"{type(self).__name__}.to")
        dtype = float_type(target, type(self).__name__) if device is None else None
        for _, t in self.named_tensors():
            moved = t._data
            if device is not None:
                moved = backend.to_device(t._data, device)
            elif t.dtype.kind == "f":
                moved = t._data.astype(dtype, copy=False)
            # Assigning t.data marks t as changed, which would invalidate a graph that has saved it.
            # So a Tensor that is already where it should be is left alone.
            if moved is not t._data:
                t.data = moved
            t.grad = None
        return self

    # -- saved state ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and buffer by name, sharing memory with the module. A tied weight appears
        under each of its names."""
        return {name: t.detach() for name, t in self._by_name().items()}

    def _by_name(self) -> dict[str, Tensor]:
        """Every Tensor under each of its names. ValueError if two Tensors have the same name, since
        one of them would be lost."""
        named: dict[str, Tensor] = {}
        for name, t in self.named_tensors(remove_duplicate=False):
            if named.setdefault(name, t) is not t:
                raise ValueError(
                    f"{type(self).__name__}: two tensors have the name {name!r}; give their dict "
                    "other keys"
                )
        return named

    def load_state_dict(
        self, state: Mapping[str, ArrayLike], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Copy arrays or Tensors into the module by name. Returns the names (missing, unexpected);
        with ``strict`` both have to be empty. differs: PyTorch's argument is called state_dict.

        A tied weight may be given under all of its names or only some of them. NaN is accepted.
        If anything does not fit, the module is left unchanged and a ValueError lists every name
        that is missing, unexpected, of another shape or of another kind of number.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"load_state_dict: state is {shown(state)}; it must be a dict of arrays by name"
            )
        strict = flag(strict, "load_state_dict: strict")
        return load_by_name(self._by_name(), state, strict, type(self).__name__)

    @recursive_repr("...")  # a submodule may refer back to a module around it
    def __repr__(self) -> str:
        parts = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self.named_children()]
        tensors = ", ".join(
            f"{n}{tuple(v.shape)}" for n, v in self.named_parts() if isinstance(v, Tensor)
        )
        inner = "".join(f"\n  {line}" for line in parts) + ("\n" if parts else "")
        return f"{type(self).__name__}({tensors}{inner})"


def joined(path: str, name: str) -> str:
    """ "blocks" and "0" make "blocks.0"."""
    return f"{path}.{name}" if path and name else path or name


def contents(value: Any) -> Iterable[tuple[Any, Any]]:
    """(key, item) for everything in a list, tuple, deque or dict, the containers in which parts are
    found; nothing for any other value."""
    if isinstance(value, (list, tuple, deque)):
        return enumerate(value)
    return value.items() if isinstance(value, dict) else ()


def parts_in(name: str, value: Any) -> Iterator[tuple[str, Module | Tensor]]:
    """The Modules and Tensors in the value of an attribute, by name: the value itself, or what it
    holds at any depth if it is a container."""
    if isinstance(value, (Module, Tensor)):
        yield name, value
    elif isinstance(value, (list, tuple, deque, dict)):
        for key, item in contents(value):
            if type(item) not in PLAIN:
                yield from parts_in(joined(name, str(key)), item)
    elif isinstance(value, FunctionType):
        if _has_part(getattr(value, "checkpointed", None)):
            raise TypeError(
                f"the attribute {name} of a Module is nn.checkpoint of a part, which is not "
                f"found in there; keep the part, and call nn.checkpoint(self.{name})(x)"
            )
    elif any(map(_has_part, hidden_in(value))):
        kind = "an array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise TypeError(
            f"the attribute {name} of a Module is {kind} of parts, where they are not "
            "found by name; make it a list or a dict"
        )


def _has_part(value: Any) -> bool:
    """Is the value a Module or a Tensor, or a searched container that holds one?"""
    if isinstance(value, (Module, Tensor)):
        return True
    return any(_has_part(item) for _, item in contents(value))


def hidden_in(value: Any) -> Iterable[Any]:
    """The items of a container that is not searched for parts (a set, a UserDict, an array of
    objects, a dataclass, ...). Looking must not change anything, so generators are not started.
    Functions and all other objects are not looked into.
    """
    if isinstance(value, UNSEARCHED):
        return value.values() if isinstance(value, Mapping) else value
    if isinstance(value, np.ndarray):
        return value.flat if value.dtype == object else ()
    if isinstance(value, SimpleNamespace):
        return vars(value).values()
    names = getattr(type(value), "__dataclass_fields__", ())
    return [getattr(value, name, None) for name in names]
