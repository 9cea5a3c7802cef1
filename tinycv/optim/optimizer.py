"""Optimizer, the base class: parameter groups, options, step, and saving and loading the state.

The update rules themselves are in sgd.py and adam.py. They run on flat arrays (engine/flat.py says
why), one block after another: a rule passes over its weights a dozen times, and the weights should
stay in the cache between the passes. One NumPy call costs about as much time as updating 10,000
weights, so the blocks are long, and the cache they fit is the large one that the cores share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
from tinycv.optim.slab import Slab, step_counter
from tinycv.optim.state import fitting_state, plain

# Weights per block. AdamW on 4 million weights takes 11.6 ms in blocks, and 16 ms in one piece;
# for fewer weights there is no difference.
BLOCK = 1 << 18
SENT = 8  # how many float64 numbers are sent to the GPU before each launch of a recorded step


class Optimizer:
    """Base class of the optimisers.

    params: Parameters, or (name, Parameter) pairs (``model.named_parameters()``, for readable
    state_dict keys), or groups: dicts with "params" and options for this group alone.
    ``param_groups`` lists the groups; "lr" may be changed between steps. A parameter whose ``grad``
    is None stays as it is.
    ValueError for options out of range and for a parameter given twice; TypeError for anything that
    is not a leaf Tensor of floats. pickle and deepcopy copy the parameters too: to copy a model
    with its optimiser, write deepcopy((model, optimizer)).

    A subclass names the ``arrays`` that it keeps for each parameter, which start at 0, and defines
    ``definition``, (p, g, *arrays, step, **options) -> (p, *arrays), a pure function of flat
    arrays. step counts from 1; ``counts`` decides which steps count.

    differs: float16 parameters are updated in float32, and their state is kept in float32. PyTorch
    does both in float16, where Adam's eps of 1e-8 is 0 and a gradient of 0 makes a weight NaN.
    """

    arrays: tuple[str, ...] = ()  # PyTorch's names
    definition: Callable[..., tuple[Array, ...]]
    needs_closure = False  # whether ``step`` calls its closure several times, as LBFGS does
    # after this many steps, the definition gives the same result for every later step number
    steady = math.inf

    def __init__(self, params: Iterable[Parameters], defaults: Options):
        kind = type(self).__name__
        if not isinstance(defaults, dict):
            raise TypeError(f"{kind}: defaults is {shown(defaults)}; it must be a dict of options")
        self.defaults = checked_options(kind, defaults)
        self.param_groups: list[Group] = []
        self.names: dict[Tensor, str] = {}  # in the order in which the parameters were given
        self.shapes: list[tuple[int, ...]] = []
        self._slabs: list[Slab] = []
        groups = list_of_parameters(kind, params)
        if not groups or not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        if not self.names:
            raise ValueError(
                f"{kind}: params has no parameters: are the model's Parameters and layers its "
                f"attributes?"
            )

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, a dict with "params" and options for this group alone, for
        example to unfreeze a model layer by layer.

        It raises the same errors as the constructor, and then the optimiser stays as it was.
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
                f"{kind}: two parameters have the same name: pass model.named_parameters(), or "
                "parameters without names"
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
        """All parameters that this optimiser updates, in the order in which they were given."""
        return list(self.names)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to None; with set_to_none=False, the existing ones become zeros."""
        if flag(set_to_none, f"{type(self).__name__}.zero_grad: set_to_none"):
            capturing.forget_gradients(self.names)
            return
        for p in self.names:
            if p.grad is not None:
                p.grad = Tensor(array_module(p.grad._data).zeros_like(p.grad._data))

    def backward(self, loss: Tensor) -> None:
        """loss.backward(). Half (training/half.py) has a method of this name that scales the loss
        first, so a training loop can call optimizer.backward(loss) for both.
        """
        loss.backward()

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient, in place.

        closure: a function that computes the gradients and returns the loss. It is called once,
        before the update, with recording on even inside ``no_grad``; step returns its loss, or None
        without a closure.
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
            # the new layout may have more slabs or fewer
            every_option = [slab.options() for slab in self._slabs]
        recording = capturing.current()
        if recording is not None:
            recording.reads(self.names)
            recording.reads_gradients(self.names)
            recording.depends(lambda: len(self._slabs))
        for slab, options in zip(self._slabs, every_option, strict=True):
            gpu_rule = None if slab.xp is np else self._gpu_rule()
            if gpu_rule is not None and slab.all_contiguous():
                for indices, step, ps, gs, offsets in slab.batches_of_equal_step():
                    extra = {}
                    if capturing.current() is not None:
                        extra = {"sent": self._sent_at_each_launch(slab, indices)}
                    state = slab.state.values()
                    gpu_rule(slab.xp, ps, gs, offsets, *state, step, **extra, **options)
                continue
            self._tell_recording(slab)
            for step, p, g, state in slab.runs():
                for block in blocks(slab.xp, p.size, size=BLOCK):
                    state_block = [array[block] for array in state]
                    self.run(slab.xp, p[block], g[block], *state_block, step, **options)
        return loss

    @classmethod
    def kernel(cls, run: Callable[..., None]) -> Callable[..., None]:
        """Decorator for ``run(xp, p, g, *arrays, step, **options)``, which computes the definition
        in place; it changes p and the arrays, and leaves g as it is."""
        cls.run = staticmethod(run)
        return run

    def _sent_at_each_launch(self, slab: Slab, indices: list[int]) -> Any:
        """For a step that is being recorded with a GPU rule: the array from which it reads the step
        number and the options. Before each launch the step is counted, and the array is filled."""
        recording: Any = capturing.current()
        state = next(iter(slab.state.values()))
        sent = recording.room(SENT, "float64")
        next_step = step_counter(slab, indices)
        gpu_rule = self._gpu_rule()

        def send() -> None:
            gpu_rule.send(state, sent, next_step(), **slab.options())

        recording.before_launch(send)
        recording.depends(lambda: (slab in self._slabs, len({slab.steps[i] for i in indices})))
        return sent

    def _tell_recording(self, slab: Slab) -> None:
        """For a step that is being recorded as plain array calls: the options are recorded as
        constants, so the recording is valid only while they stay the same."""
        recording: Any = capturing.current()
        if recording is not None:
            if self._gpu_rule():
                raise RuntimeError(
                    f"{type(self).__name__}: a step can be recorded only if each parameter is "
                    "contiguous in memory: write p.data = p.data.copy() before it"
                )
            indices = [i for i, t in enumerate(slab.tensors) if t.grad is not None]
            recording.before_launch(step_counter(slab, indices))
            recording.depends(
                lambda: (
                    slab.options(),
                    slab in self._slabs,
                    [min(slab.steps[i], self.steady) for i in indices],
                )
            )

    def __init_subclass__(cls) -> None:
        """A subclass that overrides the definition does not inherit its parent's kernel."""
        super().__init_subclass__()
        if "definition" in vars(cls) and "run" not in vars(cls):
            cls.run = vars(Optimizer)["run"]

    @classmethod
    def _gpu_rule(cls) -> Any:
        """The CUDA version of the definition, which updates many parameters in one launch, such as
        those in gpu/adam.py. None if there is none, or if a subclass overrides the kernel."""
        defined = next(kind for kind in cls.__mro__ if "definition" in vars(kind))
        runs = next(kind for kind in cls.__mro__ if "run" in vars(kind))
        return member(place(cls.definition)) if defined is runs else None

    @staticmethod
    def counts(options: Options) -> bool:
        """Whether a step with these options counts."""
        return True

    @classmethod
    def run(cls, xp: Any, p: Array, g: Array, *rest: Array, **options: Any) -> None:
        """The update of a subclass without a kernel: the definition, copied into place."""
        for array, new in zip((p, *rest), cls.definition(p, g, *rest, **options), strict=False):
            array[...] = new

    def state_dict(self) -> StateDict:
        """{"state": {name: {"step": int, array name: array}}, "param_groups": [options, "params":
        names]}.

        The arrays share memory with the optimiser; the options are Python numbers, which JSON can
        hold. A parameter for which no step has counted has no state.
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

    def saved_shapes(self, p: Tensor, entry: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays that ``state_dict`` holds for a parameter that has had a step.
        entry: what was saved for it."""
        return {name: p.shape for name in self.arrays}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue from ``state_dict``; its arrays are copied to the device of the parameters.

        ValueError lists everything that does not fit, and values from which no training could
        continue (NaN, infinity, means of squares below 0); the optimiser then stays as it was.
        """
        self.loading(state_dict)()

    def loading(self, state_dict: StateDict) -> Callable[[], None]:
        """Check ``state_dict``, and return the function that loads it and can no longer fail. The
        errors are those of load_state_dict.
        """
        groups, kept = fitting_state(self, state_dict)

        def load() -> None:
            for group, saved in zip(self.param_groups, groups, strict=True):
                group.update(saved)
            self._lay_out()
            self._put(kept)

        return load

    def _put(self, kept: dict[str, dict]) -> None:
        """Copy the saved state of each parameter, by name, into a fresh layout."""
        for slab in self._slabs:
            for i, p in enumerate(slab.tensors):
                saved = kept.get(self.names[p], {"step": 0})
                slab.steps[i] = saved["step"]
                for key in self.arrays if saved["step"] else ():
                    slab.views_of_state[key][i][...] = to_device(saved[key], slab.device)

    def __getstate__(self) -> StateDict:
        """For pickle and copy: everything except the slabs, which are rebuilt around the copied
        parameters."""
        return {**vars(self), "_slabs": [], "state": self.state_dict()["state"]}

    def __setstate__(self, saved: StateDict) -> None:
        kept = saved["state"]
        vars(self).update({name: value for name, value in saved.items() if name != "state"})
        self._lay_out()
        self._put(kept)


def loss_of(closure: Callable[[], Tensor] | None, kind: str) -> Tensor | None:
    """Call the closure of a step with recording on. Returns its loss, or None without a closure."""
    if closure is None:
        return None
    with enable_grad():
        return function(closure, f"{kind}.step: closure")()
