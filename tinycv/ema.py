"""EMA: an exponential moving average of the weights, which is often a better model than the weights themselves.

    average <- decay * average + (1 - decay) * w              after every step of the optimiser

Late in training the weights still jump about their valley; the average sits nearer to its bottom.
Polyak & Juditsky 1992; the exponential form as in Ho et al. 2020 (diffusion), section 4 and appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tinycv.engine import backend
from tinycv.engine.flat import Flat, alike
from tinycv.engine.tensor import Parameter, wrap
from tinycv.nn.module import Module


class EMA:
    """The averaged weights of ``model``, starting from its present ones. Buffers are copied, not averaged.

    Of a model in halves (half.py) the float32 master weights are averaged: a thousandth of a step would not move a half.

        ema = EMA(model)
        ...; optimizer.step(); ema.update()
        with ema.applied():
            accuracy = evaluate(model)

    differs: PyTorch's AveragedModel starts from the weights after the first step.
    """

    def __init__(self, model: Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must lie in [0, 1): it is the share of the average that a step keeps")
        self.model, self.decay = model, decay
        self.names = {t: name for name, t in model.named_tensors()}
        learned = list(model.parameters())
        self.buffers = {t: t._data.copy() for t in self.names if not isinstance(t, Parameter)}
        self._lay_out(learned)

    def _lay_out(self, learned: list[Any]) -> None:
        exact = {p if p.master is None or p.dtype != "float16" else p.master: p for p in learned}
        self.parts = [Flat(tensors) for tensors in alike(exact)]
        self.averages, self.spares = ([part.zeros() for part in self.parts] for _ in range(2))
        self.views = {}
        for part, average in zip(self.parts, self.averages, strict=True):
            part.gather([t._data for t in part.tensors], average)
            self.views |= {exact[t]: view for t, view in zip(part.tensors, part.views(average), strict=True)}

    def update(self) -> None:
        """Take the model's present weights into the average."""
        self._follow()
        for part, average, spare in zip(self.parts, self.averages, self.spares, strict=True):
            part.gather([t._data for t in part.tensors], spare)
            spare -= average
            spare *= 1 - self.decay
            average += spare
        for t, average in self.buffers.items():
            if alike([t, wrap(average, None)])[1:] or average.shape != t.shape:     # it was moved, or cast
                self.buffers[t] = t._data.copy()
            else:
                average[...] = t._data          # in place, so that a recorded step does it too

    def _follow(self) -> None:
        """Go where the model has been moved since."""
        if any(part.moved() for part in self.parts):
            saved = self.state_dict()
            self._lay_out(list(self.views))
            self.load_state_dict(saved)

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Inside, the model has the averaged weights, in its own dtype; after, its own again. What trains inside is lost."""
        self._follow()
        own = {t: t._data for t in self.names}
        for t, array in (self.views | self.buffers).items():
            t.data = array.astype(t.dtype)                      # a copy
        try:
            yield self.model
        finally:
            for t, array in own.items():
                t.data = array

    def state_dict(self) -> dict[str, Any]:
        """The averages and the buffers' copies, by the model's names; arrays that share memory with this object."""
        return {self.names[t]: array for t, array in (self.views | self.buffers).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy arrays in by name. ValueError says what does not fit; the averages are then left as they were."""
        own = self.views | self.buffers
        shapes = {self.names[t]: tuple(array.shape) for t, array in own.items()}
        given = {name: tuple(array.shape) for name, array in state.items()}
        wrong = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
        if wrong:
            raise ValueError("load_state_dict: EMA was left unchanged; " + "; ".join(
                f"{name} is {given.get(name, 'missing')}, should be {shapes.get(name, 'absent')}" for name in wrong))
        for t, array in own.items():
            array[...] = backend.to_device(state[self.names[t]], backend.device_of(array))
