"""A slab: parameters of one group side by side, with what the optimiser remembers of them.

Optimisers change many parameters by the same rule. Laid side by side in one flat array, small ones
cost one call of NumPy together (engine/flat.py has the figures); a large one is changed where it
lies. A slab hands out the pieces, and counts the steps of each parameter.
Used by: optimizer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import groupby

import numpy as np

from tinycv.engine.flat import Flat
from tinycv.engine.reduce import blocks
from tinycv.engine.tensor import Tensor
from tinycv.optim.inputs import Group, Options, checked_options, lasting
from tinycv.optim.state import wide

MISSING = object()
# weights. From here on copying costs more than calls of its own
LARGE = 1 << 15


class Slab(Flat):
    """Parameters of one group side by side, with what the optimiser remembers of them; the smallest
    first."""

    def __init__(
        self,
        kind: str,
        names: list[str],
        group: Group,
        tensors: list[Tensor],
        arrays: tuple[str, ...],
        counts: Callable[[Options], bool],
    ):
        super().__init__(sorted(tensors, key=lambda t: t.size), wide(tensors[0].dtype))
        self.kind, self.group, self.steps = kind, group, [0] * len(tensors)
        self.counts = counts
        self.names, self.given, self.checked = names, None, {}
        self.alone = [
            i if len(blocks(self.xp, t.size, size=LARGE)) > 1 else None
            for i, t in enumerate(self.tensors)
        ]
        self.state = {name: self.zeros() for name in arrays}
        self.views_of_state = {name: self.views(array) for name, array in self.state.items()}

    # not needed where a GPU does all at once
    p = cached_property(lambda self: self.zeros())
    g = cached_property(lambda self: self.zeros())
    views_of_p = cached_property(lambda self: self.views(self.p))

    def options(self) -> Options:
        """The group's options as Python's numbers; checked again where one was set anew."""
        given = [self.group.get(name, MISSING) for name in self.names]
        if any(value is MISSING for value in given):
            raise ValueError(
                f"{self.kind}: a group of param_groups lacks one of its options {self.names}"
            )
        if self.given is None or any(
            new is not old for new, old in zip(given, self.given, strict=True)
        ):
            self.checked = checked_options(self.kind, dict(zip(self.names, given, strict=True)))
            # nothing is the same object as MISSING: what may change in place is looked at each time
            self.given = [value if lasting(value) else MISSING for value in given]
        return self.checked

    def at_once(
        self,
    ) -> Iterator[tuple[list[int], int, list[np.ndarray], list[np.ndarray], list[int]]]:
        """(places, step, ps, gs, offsets into the state) of all that have a gradient and as many
        steps behind them."""
        by_step: dict[int, list[int]] = {}
        for i, t in enumerate(self.tensors):
            if t.grad is not None:
                by_step.setdefault(self.steps[i], []).append(i)
        for step, places in by_step.items():
            some = [self.tensors[i] for i in places]
            yield (
                places,
                step + 1,
                [t._data for t in some],
                [t.grad._data for t in some if t.grad is not None],
                [self.bounds[i] for i in places],
            )
            self.counted(places)

    def whole(self) -> bool:
        """Does each parameter lie in one piece of memory?"""
        return all(t._data.flags.c_contiguous for t in self.tensors)

    def counted(self, places: list[int]) -> None:
        """Note that these parameters were changed, and that they have one more step behind them."""
        more = int(self.counts(self.checked))  # the options of this step: ``options`` looked first
        for i in places:
            self.tensors[i].mark_changed()
            self.steps[i] += more

    def runs(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, list[np.ndarray]]]:
        """(step, p, g, state), flat, of neighbours that have a gradient and the same number of
        steps behind them.

        All small parameters together in an ordinary training; a frozen part splits them. A large
        one comes alone, and is changed where it lies.
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

    def load(self, places: list[int], here: slice) -> tuple[np.ndarray, np.ndarray]:
        """The weights and gradients of these neighbours, flat; a large one as it lies."""
        tensors = [self.tensors[i] for i in places]
        weights = [t._data for t in tensors]
        gradients = [t.grad._data for t in tensors if t.grad is not None]
        if len(tensors) == 1:  # a copy too, if its memory is not in order, or of halves
            p, g = weights[0].reshape(-1), gradients[0].reshape(-1)
            return p.astype(self.wide, copy=False), g.astype(self.wide, copy=False)
        self.gather(weights, self.p[here])
        self.gather(gradients, self.g[here])
        return self.p[here], self.g[here]

    def store(self, places: list[int], p: np.ndarray) -> None:
        """Write the changed weights ``p`` back to where they belong."""
        for i in places:
            t = self.tensors[i]
            if len(places) > 1:
                t._data[...] = self.views_of_p[i]
            elif not t._data.flags.c_contiguous or self.wide != self.dtype:
                t._data[...] = p.reshape(t.shape)
        self.counted(places)


def counting(slab: Slab, places: list[int]) -> Callable[[], int]:
    """A function that counts a recorded step before its launch, and says its number. The first time
    it only says it: the call that recorded has counted, perhaps further steps too."""
    first = slab.steps[places[0]] + 1 if places else 0

    def count() -> int:
        nonlocal first
        step, first = first, None
        if step is None:
            slab.counted(places)
            step = slab.steps[places[0]] if places else 0
        return step

    return count
