"""Slab: the parameters of one group in one flat array, with the optimiser's state for them.

An optimiser updates many parameters by the same rule. Small ones are copied side by side into one
flat array, so that all of them cost one NumPy call (engine/flat.py says why); a large one is
updated in its own memory. A slab yields these pieces, and counts the steps of each parameter.
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
from tinycv.optim.inputs import Group, Options, checked_options, immutable
from tinycv.optim.state import wide

MISSING = object()
# A parameter with more weights than this is updated alone: copying it would cost more than a
# NumPy call.
LARGE = 1 << 15


class Slab(Flat):
    """The parameters of one group and one dtype side by side, smallest first, with the optimiser's
    state for them: one flat array per name in ``arrays``, and a step count per parameter."""

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
        self.option_names = names
        self.last_values: list | None = None  # the options when they were last checked
        self.checked: Options = {}
        # a large parameter has its own index here, so that it forms a run of its own; others None
        self.own_run_index = [
            i if len(blocks(self.xp, t.size, size=LARGE)) > 1 else None
            for i, t in enumerate(self.tensors)
        ]
        self.state = {name: self.zeros() for name in arrays}
        self.views_of_state = {name: self.views(array) for name, array in self.state.items()}

    # made at first use: a GPU that updates all parameters in one launch does not need them
    p = cached_property(lambda self: self.zeros())
    g = cached_property(lambda self: self.zeros())
    views_of_p = cached_property(lambda self: self.views(self.p))

    def options(self) -> Options:
        """The group's options as Python numbers. They are checked again only after one changed."""
        values = [self.group.get(name, MISSING) for name in self.option_names]
        if any(value is MISSING for value in values):
            raise ValueError(
                f"{self.kind}: a group of param_groups lacks one of its options {self.option_names}"
            )
        if self.last_values is None or any(
            new is not old for new, old in zip(values, self.last_values, strict=True)
        ):
            self.checked = checked_options(
                self.kind, dict(zip(self.option_names, values, strict=True))
            )
            # An array may change in place and still be the same object. MISSING is stored instead,
            # which no value is, so such an option is checked at every step.
            self.last_values = [value if immutable(value) else MISSING for value in values]
        return self.checked

    def batches_of_equal_step(
        self,
    ) -> Iterator[tuple[list[int], int, list[np.ndarray], list[np.ndarray], list[int]]]:
        """(indices, step, ps, gs, offsets into the state) of the parameters that have a gradient,
        grouped by the number of steps they have had."""
        by_step: dict[int, list[int]] = {}
        for i, t in enumerate(self.tensors):
            if t.grad is not None:
                by_step.setdefault(self.steps[i], []).append(i)
        for step, indices in by_step.items():
            tensors = [self.tensors[i] for i in indices]
            yield (
                indices,
                step + 1,
                [t._data for t in tensors],
                [t.grad._data for t in tensors if t.grad is not None],
                [self.bounds[i] for i in indices],
            )
            self.count_step(indices)

    def all_contiguous(self) -> bool:
        """Whether every parameter is contiguous in memory."""
        return all(t._data.flags.c_contiguous for t in self.tensors)

    def count_step(self, indices: list[int]) -> None:
        """Note that these parameters were changed, and add one to their step counts."""
        # ``options`` ran at the start of this step, so ``checked`` holds the step's options
        increment = int(self.counts(self.checked))
        for i in indices:
            self.tensors[i].mark_changed()
            self.steps[i] += increment

    def runs(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, list[np.ndarray]]]:
        """(step, p, g, state) as flat arrays, for each run of neighbours that have a gradient and
        the same step count.

        In an ordinary training, all small parameters form one run; frozen ones split it. A large
        parameter is a run of its own, and is updated in its own memory.
        """

        def key(i: int) -> tuple | None:
            return None if self.tensors[i].grad is None else (self.steps[i], self.own_run_index[i])

        for run_key, neighbours in groupby(range(len(self.tensors)), key):
            if run_key is not None:
                indices = list(neighbours)
                span = slice(self.bounds[indices[0]], self.bounds[indices[-1] + 1])
                p, g = self.read_run(indices, span)
                yield run_key[0] + 1, p, g, [array[span] for array in self.state.values()]
                self.write_run(indices, p)

    def read_run(self, indices: list[int], span: slice) -> tuple[np.ndarray, np.ndarray]:
        """The weights and gradients of these neighbours as flat arrays. A single parameter is not
        copied, if its memory allows that.
        """
        tensors = [self.tensors[i] for i in indices]
        weights = [t._data for t in tensors]
        gradients = [t.grad._data for t in tensors if t.grad is not None]
        if len(tensors) == 1:
            # reshape copies an array that is not contiguous, and astype copies float16;
            # write_run copies the result back in these two cases
            p, g = weights[0].reshape(-1), gradients[0].reshape(-1)
            return p.astype(self.wide, copy=False), g.astype(self.wide, copy=False)
        self.gather(weights, self.p[span])
        self.gather(gradients, self.g[span])
        return self.p[span], self.g[span]

    def write_run(self, indices: list[int], p: np.ndarray) -> None:
        """Copy the changed weights ``p`` back into their parameters, and count the step."""
        for i in indices:
            t = self.tensors[i]
            if len(indices) > 1:
                t._data[...] = self.views_of_p[i]
            elif not t._data.flags.c_contiguous or self.wide != self.dtype:
                t._data[...] = p.reshape(t.shape)
        self.count_step(indices)


def step_counter(slab: Slab, indices: list[int]) -> Callable[[], int]:
    """A function that counts a recorded step before its launch, and returns the step's number.

    Its first call does not count: the call that made the recording already counted that step, and
    may have counted further steps since.
    """
    first = slab.steps[indices[0]] + 1 if indices else 0

    def count() -> int:
        nonlocal first
        step, first = first, None
        if step is None:
            slab.count_step(indices)
            step = slab.steps[indices[0]] if indices else 0
        return step

    return count
