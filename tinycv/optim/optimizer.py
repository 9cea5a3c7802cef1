"""What every optimiser shares: groups of parameters, their options, the state of each, and its
saving.

The rules themselves are in sgd.py and adam.py. They run on flat arrays, for which engine/flat.py
has the reason, and over one block after the other: a rule passes a dozen times over its weights,
which should not leave the cache meanwhile. Its calls cost about as much as 10,000 weights each, so
that cache is the one that cores share, and the blocks are long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinycv.engine import capturing
from tinycv.engine.arguments import flag, function, shown
from tinycv.engine.backend import Array, array_module, to_device
from tinycv.engine.dispatch import member, place
from tinycv.engine.flat import alike
from tinycv.engine.mode import enable_grad
from tinycv.engine.reduce import blocks
from tinycv.engine.tensor import Tensor
from tinycv.optim.inputs import (
    ALWAYS,
    Group,
    Options,
    Parameters,
    StateDict,
    checked_options,
    list_of_parameters,
    named_parameter,
    refuse_unfit,
)
from tinycv.optim.slab import Slab, counting
from tinycv.optim.state import fitting_state, plain

# weights. 4 million in AdamW: 11.6 ms, in one piece 16; fewer: no difference
BLOCK = 1 << 18
SENT = 8  # float64 numbers that a recorded step may read


class Optimizer:
    """Base of the optimisers.

    params: Parameters, or (name, Parameter) pairs (``model.named_parameters()``, for readable
    state_dict keys), or groups, each a dict {"params": ..., and options for these alone}.
    ``param_groups`` lists the groups; their "lr" may be changed between steps. A parameter whose
    ``grad`` is None is left as it is.
    ValueError for options out of range and parameters given twice; TypeError for what is not a leaf
    Tensor of floats. pickle and deepcopy copy the parameters too: to copy a model with its
    optimiser, write deepcopy((model, optimizer)).

    A subclass says which ``arrays`` it remembers of each parameter (they begin at 0), and gives a
    ``definition``, (p, g, *arrays, step, **options) -> (p, *arrays), a pure function of flat
    arrays; step counts from 1, and ``counts`` says which steps it counts.

    differs: float16 parameters are updated in float32, and what is remembered of them is kept in
    float32. PyTorch does both in float16, where Adam's eps of 1e-8 is 0 and a gradient of 0 makes a
    weight NaN.
    """

    arrays: tuple[str, ...] = ()  # by PyTorch's names
    definition: Callable[..., tuple[Array, ...]]
    # from how many steps on their number plays no part in the definition
    steady = math.inf

    def __init__(self, params: Iterable[Parameters], defaults: Options):
        kind = type(self).__name__
        if not isinstance(defaults, dict):
            raise TypeError(f"{kind}: defaults is {shown(defaults)}; it must be a dict of options")
        self.defaults = checked_options(kind, defaults)
        self.param_groups: list[Group] = []
        self.names: dict[Tensor, str] = {}  # in the order given
        self.shapes: list[tuple[int, ...]] = []
        self._slabs: list[Slab] = []
        groups = list_of_parameters(kind, params)
        if not groups or not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        if not self.names:
            raise ValueError(
                f"{kind}: params has no parameters: does the model keep its "
                f"Parameters as attributes?"
            )

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters, {"params": ..., and options for these alone}: to thaw a model layer by
        layer, for instance.

        Errors as when the optimiser is made; it is then left as it was.
        """
        kind = type(self).__name__
        takes = f'{kind}: a group has "params" and options among {sorted(self.defaults)}'
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise ValueError(f"{takes}; it is {shown(param_group)}")
        unknown = sorted(str(name) for name in set(param_group) - set(self.defaults) - ALWAYS)
        if unknown:
            raise ValueError(f"{takes}; unknown: {shown(unknown)}")
        names: dict[Tensor, str] = {}
        for entry in list_of_parameters(kind, param_group["params"], group=True):
            name, p = named_parameter(kind, entry, len(self.names) + len(names))
            if p in names or p in self.names:
                raise ValueError(f"{kind}: parameter {name} of shape {p.shape} was given twice")
            names[p] = name
        every = [*self.names.values(), *names.values()]
        if len(set(every)) < len(every):
            raise ValueError(
                f"{kind}: two parameters have the same name: give model.named_parameters(), or "
                "parameters alone"
            )
        group = checked_options(kind, {**self.defaults, **param_group}) | {"params": list(names)}
        self.param_groups.append(group)
        self.names |= names
        self.shapes += [p.shape for p in names]
        self._slabs += self._slabs_of(group)

    def _slabs_of(self, group: Group) -> list[Slab]:
        return [
            Slab(type(self).__name__, list(self.defaults), group, tensors, self.arrays, self.counts)
            for tensors in alike(group["params"])
        ]

    def _lay_out(self) -> None:
        self._slabs = [slab for group in self.param_groups for slab in self._slabs_of(group)]

    def parameters(self) -> list[Tensor]:
        """All that it changes, in the order given."""
        return list(self.names)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with set_to_none=False those that are there become zeros."""
        if flag(set_to_none, f"{type(self).__name__}.zero_grad: set_to_none"):
            capturing.forget_gradients(self.names)
            return
        for p in self.names:
            if p.grad is not None:
                p.grad = Tensor(array_module(p.grad._data).zeros_like(p.grad._data))

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss to the parameters. training/half.py has another way."""
        loss.backward()

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change every parameter that has a gradient, in place.

        closure: a function that makes the gradients and returns the loss. It is called once, before
        the change, with recording on also inside ``no_grad``; its loss is returned (None without).
        ValueError or TypeError for a gradient or an option that does not fit; then no parameter is
        changed.
        """
        loss = loss_of(closure, type(self).__name__)
        refuse_unfit(self)
        every_option = [slab.options() for slab in self._slabs]
        if any(slab.moved() for slab in self._slabs):
            kept = self.state_dict()["state"]
            self._lay_out()
            self._put(kept)
            # there may be another number of them
            every_option = [slab.options() for slab in self._slabs]
        if (recording := capturing.current()) is not None:
            recording.reads(self.names)
            recording.reads_gradients(self.names)
            recording.depends(lambda: len(self._slabs))
        for slab, options in zip(self._slabs, every_option, strict=True):
            if slab.xp is not np and (at_once := self._at_once()) and slab.whole():
                for places, step, ps, gs, offsets in slab.at_once():
                    more = (
                        {}
                        if capturing.current() is None
                        else {"sent": self._sent_at_each_launch(slab, places)}
                    )
                    at_once(slab.xp, ps, gs, offsets, *slab.state.values(), step, **more, **options)
                continue
            self._note_what_is_recorded(slab)
            for step, p, g, state in slab.runs():
                for at in blocks(slab.xp, p.size, size=BLOCK):
                    self.run(
                        slab.xp, p[at], g[at], *[array[at] for array in state], step, **options
                    )
        return loss

    @classmethod
    def kernel(cls, run: Callable[..., None]) -> Callable[..., None]:
        """Decorator: ``run(xp, p, g, *arrays, step, **options)`` does in place what the definition
        says, all but g."""
        cls.run = staticmethod(run)
        return run

    def _sent_at_each_launch(self, slab: Slab, places: list[int]) -> Any:
        """Of a step that is being recorded: where it reads what changes. Before each launch this is
        counted and sent."""
        recording: Any = capturing.current()
        state = next(iter(slab.state.values()))
        sent, step, rule = recording.room(SENT, "float64"), counting(slab, places), self._at_once()

        def send() -> None:
            rule.send(state, sent, step(), **slab.options())

        recording.before_launch(send)
        recording.depends(lambda: (slab in self._slabs, len({slab.steps[i] for i in places})))
        return sent

    def _note_what_is_recorded(self, slab: Slab) -> None:
        """Of a step that is being recorded by array calls: it has its options for good, and stands
        while they are these."""
        recording: Any = capturing.current()
        if recording is not None:
            if self._at_once():
                raise RuntimeError(
                    f"{type(self).__name__}: a step can be recorded only where each parameter lies "
                    "in one piece of memory: p.data = p.data.copy() before"
                )
            places = [i for i, t in enumerate(slab.tensors) if t.grad is not None]
            recording.before_launch(counting(slab, places))
            recording.depends(
                lambda: (
                    slab.options(),
                    slab in self._slabs,
                    [min(slab.steps[i], self.steady) for i in places],
                )
            )

    def __init_subclass__(cls) -> None:
        """A class with a definition of its own does not inherit the kernel of another one."""
        super().__init_subclass__()
        if "definition" in vars(cls) and "run" not in vars(cls):
            cls.run = vars(Optimizer)["run"]

    @classmethod
    def _at_once(cls) -> Any:
        """The CUDA member of the definition, which takes many parameters at once: gpu/adam.py's;
        None if there is none, and where a class has a kernel of its own for the definition."""
        defined = next(kind for kind in cls.__mro__ if "definition" in vars(kind))
        runs = next(kind for kind in cls.__mro__ if "run" in vars(kind))
        return member(place(cls.definition)) if defined is runs else None

    @staticmethod
    def counts(options: Options) -> bool:
        """Whether a step with these options is counted."""
        return True

    @classmethod
    def run(cls, xp: Any, p: Array, g: Array, *rest: Array, **options: Any) -> None:
        """What a subclass without a kernel runs."""
        for array, new in zip((p, *rest), cls.definition(p, g, *rest, **options), strict=False):
            array[...] = new

    def state_dict(self) -> StateDict:
        """{"state": {name: {"step": int, array name: array}}, "param_groups": [options, "params":
        names]}.

        The arrays share memory with the optimiser; options are Python's numbers, as JSON takes
        them. Parameters that have no counted step have no state.
        """
        state = {
            self.names[p]: {
                "step": slab.steps[i],
                **{k: views[i] for k, views in slab.views_of_state.items()},
            }
            for slab in self._slabs
            for i, p in enumerate(slab.tensors)
            if slab.steps[i]
        }
        groups = [
            {
                name: [self.names[p] for p in option] if name == "params" else plain(option)
                for name, option in group.items()
            }
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue from ``state_dict``; its arrays are copied, to where the parameters are.

        ValueError says everything that does not fit, or that no training goes on from (NaN,
        infinity, means of squares below 0); the optimiser is then left as it was.
        """
        self.loading(state_dict)()

    def loading(self, state_dict: StateDict) -> Callable[[], None]:
        """The function that loads ``state_dict``, which has been checked whole. Errors as there."""
        groups, kept = fitting_state(self, state_dict)

        def load() -> None:
            for group, saved in zip(self.param_groups, groups, strict=True):
                group.update(saved)
            self._lay_out()
            self._put(kept)

        return load

    def _put(self, kept: dict[str, dict]) -> None:
        """Copy what is remembered of each parameter, by name, into a fresh layout."""
        for slab in self._slabs:
            for i, p in enumerate(slab.tensors):
                saved = kept.get(self.names[p], {"step": 0})
                slab.steps[i] = saved["step"]
                for key in self.arrays if saved["step"] else ():
                    slab.views_of_state[key][i][...] = to_device(saved[key], slab.device)

    def __getstate__(self) -> StateDict:
        """For pickle and copy: all but the layout, which is made again around copied parameters."""
        return {**vars(self), "_slabs": [], "state": self.state_dict()["state"]}

    def __setstate__(self, saved: StateDict) -> None:
        kept = saved["state"]
        vars(self).update({name: value for name, value in saved.items() if name != "state"})
        self._lay_out()
        self._put(kept)


def loss_of(closure: Callable[[], Tensor] | None, kind: str) -> Tensor | None:
    """What the closure of a step returns, called with recording on; None where there is none."""
    if closure is None:
        return None
    with enable_grad():
        return function(closure, f"{kind}.step: closure")()
