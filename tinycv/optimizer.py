"""What every optimiser shares: groups of parameters, their options, the state of each, and its saving.

The rules themselves are in optim.py. They run on flat arrays, for which engine/flat.py has the reason, and over one
block after the other: a rule passes a dozen times over its weights, which should not leave the cache meanwhile. Its
calls cost about as much as 10,000 weights each, so that cache is the one that cores share, and the blocks are long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from tinycv.engine import backend, capturing
from tinycv.engine.flat import Flat, alike
from tinycv.engine.reduce import blocks
from tinycv.engine.tensor import Tensor

BLOCK = 1 << 18                                 # weights. 4 million in AdamW: 11.6 ms, in one piece 16; fewer: no difference
SENT = 8                                        # float64 numbers that a recorded step may read
LARGE = 1 << 15                                 # weights. From here on copying costs more than calls of its own


class Optimizer:
    """Base of the optimisers.

    params: Parameters, or (name, Parameter) pairs (``model.named_parameters()``, for readable state_dict keys), or
    groups, each a dict {"params": ..., and options for these alone}. ``param_groups`` lists the groups; their "lr"
    may be changed between steps. A parameter whose ``grad`` is None is left as it is.
    ValueError for options out of range and parameters given twice; TypeError for what is not a leaf Tensor.

    A subclass says which ``arrays`` it remembers of each parameter (they begin at 0), and gives a ``definition``,
    (p, g, *arrays, step, **options) -> (p, *arrays), a pure function of flat arrays; step counts from 1.
    """

    arrays: tuple[str, ...] = ()                # by PyTorch's names
    definition: Callable[..., tuple]
    steady = math.inf                           # from how many steps on their number plays no part in the definition
    run_on_gpu: Callable[..., None] | None = None
    send: Callable[..., None]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError("params is one Tensor; an optimiser takes an iterable: [tensor]")
        groups = list(params)
        if not groups or not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        self.defaults = defaults
        self.param_groups = [{**defaults, **group} for group in groups]
        self.names: dict[Tensor, str] = {}      # in the order given
        for group in self.param_groups:
            _check_options(group, defaults)
            group["params"] = [self._named(entry) for entry in group["params"]]
        if not self.names:
            raise ValueError("the optimiser got no parameters: does the model keep its Parameters as attributes?")
        if len(set(self.names.values())) < len(self.names):
            raise ValueError("two parameters have the same name: give model.named_parameters(), or parameters alone")
        self._lay_out()

    def _named(self, entry: Any) -> Tensor:
        name, p = entry if isinstance(entry, tuple) else (str(len(self.names)), entry)
        if not isinstance(p, Tensor) or not p.is_leaf:
            what = f"a computed tensor of shape {p.shape}" if isinstance(p, Tensor) else type(p).__name__
            raise TypeError(f"an optimiser changes Parameters (or leaf Tensors that require a gradient), not {what}")
        if p in self.names:
            raise ValueError(f"parameter {name} of shape {p.shape} was given twice")
        self.names[p] = name
        return p

    def _lay_out(self) -> None:
        self._slabs = [Slab(group, tensors, self.arrays) for group in self.param_groups
                       for tensors in alike(group["params"])]

    def parameters(self) -> list[Tensor]:
        """All that it changes, in the order given."""
        return list(self.names)

    def zero_grad(self) -> None:
        """Forget the gradients (None, not zeros)."""
        capturing.forget_gradients(self.names)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss to the parameters. half.py has another way."""
        loss.backward()

    def step(self) -> None:
        """Change every parameter that has a gradient, in place. ValueError for a gradient of another shape: then none."""
        for p in self.names:
            if p.grad is not None and p.grad.shape != p.shape:
                raise ValueError(f"a parameter of shape {p.shape} has a gradient of shape {p.grad.shape}")
        if any(slab.moved() for slab in self._slabs):
            self.load_state_dict(self.state_dict())
        if (recording := capturing.current()) is not None:
            recording.reads(self.names)
            recording.reads_gradients(self.names)
        for slab in self._slabs:
            options = {name: slab.group[name] for name in self.defaults}
            if slab.xp is not np and self.run_on_gpu and slab.whole():
                for places, step, ps, gs, offsets in slab.at_once():
                    more = {} if capturing.current() is None else {"sent": self._sent_at_each_launch(slab, places)}
                    self.run_on_gpu(slab.xp, ps, gs, offsets, *slab.state.values(), step, **more, **options)
                continue
            self._note_what_is_recorded(slab)
            for step, p, g, state in slab.runs():
                for at in blocks(slab.xp, p.size, size=BLOCK):
                    self.run(slab.xp, p[at], g[at], *[array[at] for array in state], step, **options)

    @classmethod
    def kernel(cls, run: Callable[..., None]) -> Callable[..., None]:
        """Decorator: ``run(xp, p, g, *arrays, step, **options)`` does in place what the definition says, all but g."""
        cls.run = staticmethod(run)
        return run

    @classmethod
    def cuda(cls, run: Callable[..., None], send: Callable[..., None]) -> None:
        """``run(xp, ps, gs, offsets, *arrays, step, **options)`` does the same on a GPU, to many parameters at once.

        sent=array: it reads step and options there, where ``send(state, array, step, **options)`` has put them.
        """
        cls.run_on_gpu, cls.send = staticmethod(run), staticmethod(send)

    def _sent_at_each_launch(self, slab: Slab, places: list[int]) -> Any:
        """Of a step that is being recorded: where it reads what changes. Before each launch this is counted and sent."""
        recording, state = capturing.current(), next(iter(slab.state.values()))
        sent, step = recording.room(SENT, "float64"), counting(slab, places)

        def send() -> None:
            self.send(state, sent, step(), **{name: slab.group[name] for name in self.defaults})
        recording.before_launch(send)
        recording.depends(lambda: (slab in self._slabs, len({slab.steps[i] for i in places})))
        return sent

    def _note_what_is_recorded(self, slab: Slab) -> None:
        """Of a step that is being recorded by array calls: it has its options for good, and stands while they are these."""
        if (recording := capturing.current()) is not None:
            if self.run_on_gpu:
                raise RuntimeError(f"{type(self).__name__}: a step can be recorded only where each parameter lies in one "
                                   "piece of memory: p.data = p.data.copy() before")
            places = [i for i, t in enumerate(slab.tensors) if t.grad is not None]
            recording.before_launch(counting(slab, places))
            recording.depends(lambda: ({name: slab.group[name] for name in self.defaults}, slab in self._slabs,
                                       [min(slab.steps[i], self.steady) for i in places]))

    @classmethod
    def run(cls, xp: Any, p: Any, g: Any, *rest: Any, **options: Any) -> None:
        """What a subclass without a kernel runs."""
        for array, new in zip((p, *rest), cls.definition(p, g, *rest, **options), strict=False):
            array[...] = new

    def state_dict(self) -> dict[str, Any]:
        """{"state": {name: {"step": int, array name: array}}, "param_groups": [options, "params": names]}.

        The arrays share memory with the optimiser. Parameters that have not yet had a gradient have no state.
        """
        state = {self.names[p]: {"step": slab.steps[i], **{k: views[i] for k, views in slab.views_of_state.items()}}
                 for slab in self._slabs for i, p in enumerate(slab.tensors) if slab.steps[i]}
        groups = [group | {"params": [self.names[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``; its arrays are copied, to where the parameters are.

        ValueError says everything that does not fit; the optimiser is then left as it was.
        """
        problems = list(self._misfits(state_dict))
        if problems:
            raise ValueError(f"load_state_dict: {type(self).__name__} was left unchanged; " + "; ".join(problems))
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})
        self._lay_out()
        for slab in self._slabs:
            for i, p in enumerate(slab.tensors):
                saved = state_dict["state"].get(self.names[p], {"step": 0})
                slab.steps[i] = saved["step"]
                for key in self.arrays if saved["step"] else ():
                    slab.views_of_state[key][i][...] = backend.to_device(saved[key], p.device)

    def _misfits(self, state_dict: dict[str, Any]) -> Iterator[str]:
        for i, (own, saved) in enumerate(zip(self.state_dict()["param_groups"], state_dict["param_groups"],
                                             strict=False)):
            if own["params"] != saved["params"]:
                yield f"group {i} has parameters {_brief(own['params'])}, saved are {_brief(saved['params'])}"
            if set(own) - {"initial_lr"} != set(saved) - {"initial_lr"}:
                yield f"group {i} has options {sorted(own)}, saved are {sorted(saved)}"
        if len(self.param_groups) != len(state_dict["param_groups"]):
            yield f"{len(self.param_groups)} groups, saved are {len(state_dict['param_groups'])}"
        for p, name in self.names.items():
            saved = state_dict["state"].get(name, {"step": 0})
            shapes = {key: tuple(array.shape) for key, array in saved.items() if key != "step"}
            if type(saved.get("step")) is not int or saved["step"] and shapes != dict.fromkeys(self.arrays, p.shape):
                yield f"{name} of shape {p.shape} needs a step and {list(self.arrays)}, saved are {shapes}"


def counting(slab: Slab, places: list[int]) -> Callable[[], int]:
    """A function that counts a recorded step before its launch, and says its number. The first time it only says it: the
    call that recorded has counted, perhaps further steps too."""
    first = slab.steps[places[0]] + 1 if places else 0

    def count() -> int:
        nonlocal first
        step, first = first, None
        if step is None:
            slab.counted(places)
            step = slab.steps[places[0]] if places else 0
        return step
    return count


class Slab(Flat):
    """Parameters of one group side by side, with what the optimiser remembers of them; the smallest first."""

    def __init__(self, group: dict[str, Any], tensors: list[Tensor], arrays: tuple[str, ...]):
        super().__init__(sorted(tensors, key=lambda t: t.size))
        self.group, self.steps = group, [0] * len(tensors)
        self.alone = [i if len(blocks(self.xp, t.size, size=LARGE)) > 1 else None for i, t in enumerate(self.tensors)]
        self.state = {name: self.zeros() for name in arrays}
        self.views_of_state = {name: self.views(array) for name, array in self.state.items()}

    p = cached_property(lambda self: self.zeros())                  # not needed where a GPU does all at once
    g = cached_property(lambda self: self.zeros())
    views_of_p = cached_property(lambda self: self.views(self.p))

    def at_once(self) -> Iterator[tuple[int, list[Any], list[Any], list[int]]]:
        """(places, step, ps, gs, offsets into the state) of all that have a gradient and as many steps behind them."""
        by_step: dict[int, list[int]] = {}
        for i, t in enumerate(self.tensors):
            if t.grad is not None:
                by_step.setdefault(self.steps[i], []).append(i)
        for step, places in by_step.items():
            some = [self.tensors[i] for i in places]
            yield (places, step + 1, [t._data for t in some], [t.grad._data for t in some],
                   [self.bounds[i] for i in places])
            self.counted(places)

    def whole(self) -> bool:
        """Does each parameter lie in one piece of memory?"""
        return all(t._data.flags.c_contiguous for t in self.tensors)

    def counted(self, places: list[int]) -> None:
        for i in places:
            self.tensors[i].mark_changed()
            self.steps[i] += 1

    def runs(self) -> Iterator[tuple[int, Any, Any, list[Any]]]:
        """(step, p, g, state), flat, of neighbours that have a gradient and the same number of steps behind them.

        All small parameters together in an ordinary training; a frozen part splits them. A large one comes alone, and
        is changed where it lies.
        """
        def key(i: int) -> tuple | None:
            return None if self.tensors[i].grad is None else (self.steps[i], self.alone[i])
        for shared, places in groupby(range(len(self.tensors)), key):
            if shared is not None:
                places = list(places)
                here = slice(self.bounds[places[0]], self.bounds[places[-1] + 1])
                p, g = self.load(places, here)
                yield shared[0] + 1, p, g, [array[here] for array in self.state.values()]
                self.store(places, p)

    def load(self, places: list[int], here: slice) -> tuple[Any, Any]:
        tensors = [self.tensors[i] for i in places]
        if len(tensors) == 1:                   # a copy too, if its memory is not in order
            return tensors[0]._data.reshape(-1), tensors[0].grad._data.reshape(-1)
        self.gather([t._data for t in tensors], self.p[here])
        self.gather([t.grad._data for t in tensors], self.g[here])
        return self.p[here], self.g[here]

    def store(self, places: list[int], p: Any) -> None:
        for i in places:
            t = self.tensors[i]
            if len(places) > 1:
                t._data[...] = self.views_of_p[i]
            elif not t._data.flags.c_contiguous:
                t._data[...] = p.reshape(t.shape)
        self.counted(places)


def _check_options(group: dict[str, Any], defaults: dict[str, Any]) -> None:
    unknown = set(group) - set(defaults) - {"params", "initial_lr"}
    if unknown or "params" not in group:
        raise ValueError(f"a group has \"params\" and options among {sorted(defaults)}; unknown: {sorted(unknown)}")
    for name in ("lr", "momentum", "eps", "weight_decay"):
        if not group.get(name, 0) >= 0:                         # so written, NaN is refused too
            raise ValueError(f"{name}={group[name]} must be at least 0")
    if not all(0 <= beta < 1 for beta in group.get("betas", ())):
        raise ValueError(f"betas={group['betas']} must lie in [0, 1)")
    if group.get("nesterov") and not (group["momentum"] > 0 and group["dampening"] == 0):
        raise ValueError("nesterov needs momentum above 0, and dampening=0")


def _brief(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")
