"""EMA: an exponential moving average of the weights, which is often a better model than the weights
themselves.

    average <- decay * average + (1 - decay) * w              after every step of the optimiser

Late in training the weights still jump about their valley; the average sits nearer to its bottom.
Polyak & Juditsky 1992; the exponential form as in Ho et al. 2020 (diffusion), section 4 and
appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tinycv.engine.arguments import listed, number, shown
from tinycv.engine.backend import Array, array_module, device_of, to_device
from tinycv.engine.flat import Flat, alike
from tinycv.engine.tensor import ArrayLike, Parameter, wrap
from tinycv.nn.loading import same_values
from tinycv.nn.module import Module
from tinycv.optim.state import brief, fitting_array, wide


class EMA:
    """The averaged weights of ``model``, starting from its present ones. Buffers are only copied.

    Of a model in halves (training/half.py) the float32 master weights are averaged. Averages of
    other float16 weights are kept in float32 too: a thousandth of a step would not move a half.
    pickle and deepcopy copy the model too; deepcopy((model, ema)) averages the copied model.

        ema = EMA(model)
        ...; optimizer.step(); ema.update()
        with ema.applied():
            accuracy = evaluate(model)

    differs: PyTorch's AveragedModel starts from the weights after the first step.
    """

    def __init__(self, model: Module, decay: float = 0.999):
        if not isinstance(model, Module):
            raise TypeError(f"EMA: model is {shown(model)}; it must be a Module")
        self.model, self.decay = model, number(decay, "EMA: decay", 0, below=1)
        model._by_name()  # ValueError where two have one name
        self.names = {t: name for name, t in model.named_tensors()}
        learned = list(model.parameters())
        self.buffers = {t: t._data.copy() for t in self.names if not isinstance(t, Parameter)}
        self._lay_out(learned)
        # weights that a Half has not yet taken over are newer
        for p, average in self.views.items():
            if average.dtype != p.dtype:
                kept = p._data == average.astype(p.dtype)
                average[...] = array_module(average).where(kept, average, p._data)

    def _lay_out(self, learned: Sequence[Parameter]) -> None:
        exact = {p if p.master is None or p.dtype != "float16" else p.master: p for p in learned}
        self.parts = [Flat(tensors, wide(tensors[0].dtype)) for tensors in alike(exact)]
        self.averages, self.spares = ([part.zeros() for part in self.parts] for _ in range(2))
        self.views = {}
        for part, average in zip(self.parts, self.averages, strict=True):
            part.gather([t._data for t in part.tensors], average)
            self.views |= {
                exact[t]: view for t, view in zip(part.tensors, part.views(average), strict=True)
            }

    def update(self) -> None:
        """Take the model's present weights into the average. ValueError if a weight has another
        shape than it had.
        """
        self._follow()
        for part, average, spare in zip(self.parts, self.averages, self.spares, strict=True):
            part.gather([t._data for t in part.tensors], spare)
            spare -= average
            spare *= 1 - self.decay
            average += spare
        for t, average in self.buffers.items():
            # it was moved, or cast
            if alike([t, wrap(average, None)])[1:] or average.shape != t.shape:
                self.buffers[t] = t._data.copy()
            else:
                average[...] = t._data  # in place, so that a recorded step does it too

    def _follow(self) -> None:
        """Go where the model has been moved since."""
        for t, average in self.views.items():
            if t._data.shape != average.shape:
                raise ValueError(
                    f"EMA: {self.names[t]} has shape {t.shape} now, and its average has shape "
                    f"{average.shape}: make another EMA"
                )
        if any(part.moved() for part in self.parts):
            before = dict(self.views)
            self._lay_out(list(before))
            for t, average in self.views.items():
                average[...] = to_device(before[t], t.device)

    def _refuse_strangers(self, who: str) -> None:
        """ValueError where the model has Parameters that were not there when it was made: their
        averages are nowhere.

        ``update`` does not look, as that would cost about as much as the averaging.
        """
        strangers = [name for name, p in self.model.named_parameters() if p not in self.views]
        if strangers:
            raise ValueError(
                f"EMA.{who}: the {type(self.model).__name__} has other Parameters than it had, and "
                f"no averages of {brief(strangers)}: make another EMA"
            )

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Inside, the model has the averaged weights, in its own dtype; after, its own again. What
        trains inside is lost.

        ValueError where the model has Parameters that were not there when the averages began.
        """
        self._refuse_strangers("applied")
        self._follow()
        own = {t: t._data for t in self.names}
        try:
            for t, array in (self.views | self.buffers).items():
                t.data = array.astype(t.dtype)  # a copy
            yield self.model
        finally:
            for t, array in own.items():
                t.data = array

    def state_dict(self) -> dict[str, Array]:
        """The averages and the buffers' copies, by the model's names; arrays that share memory with
        this object.

        ValueError where the model has Parameters that were not there when it was made.
        """
        self._refuse_strangers("state_dict")
        return self._by_name()

    def _by_name(self) -> dict[str, Array]:
        return {self.names[t]: array for t, array in (self.views | self.buffers).items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy arrays in by name. ValueError says what does not fit; the averages are then left as
        they were.

        differs: averages of weights must be finite, where a Module takes NaN: no training goes on
        from them.
        """
        self.loading(state)()

    def loading(self, state: Mapping[str, ArrayLike]) -> Callable[[], None]:
        """The function that loads ``state``, which has been checked whole. Errors as there."""
        if not isinstance(state, Mapping):
            raise ValueError(
                f"load_state_dict: EMA was left unchanged; the state is "
                f"{shown(state)}, should be a dict"
            )
        own = self._by_name()
        arrays, problems = self._fitting(state, own)
        if problems:
            raise ValueError(
                f"load_state_dict: EMA was left unchanged; {listed(problems, join='; ')}"
            )

        def load() -> None:
            for name, array in own.items():
                array[...] = arrays[name]

        return load

    def _fitting(
        self, state: Mapping[str, ArrayLike], own: Mapping[str, Array]
    ) -> tuple[dict[str, Array], list[str]]:
        """The arrays of ``state`` by the first name of each weight, and in words what does not fit
        into the averages ``own``."""
        arrays: dict[str, Array] = {}
        problems: list[str] = []
        # a tied weight has several names: all of them, and the first of them
        first = {
            name: self.names[t] for name, t in self.model._by_name().items() if t in self.names
        }
        given = {first[name] for name in state if name in first}
        missing = [name for name in own if name not in given]
        unexpected = [name for name in state if name not in first]
        if missing:
            problems.append(f"missing: {brief(missing)}")
        if unexpected:
            problems.append(f"unexpected: {brief(unexpected)}")
        learned = {self.names[t] for t in self.views}
        for name in (name for name in first if name in state):
            average = own[first[name]]
            try:
                array = fitting_array(
                    state[name], average.shape, average.dtype, device_of(average), name
                )
                if first[name] in learned and not array_module(array).isfinite(array).all():
                    raise ValueError(f"{name} is not finite")
            except ValueError as error:
                problems.append(str(error))
                continue
            if not same_values(arrays.setdefault(first[name], array), array):
                problems.append(
                    f"{first[name]} and {name} are one tied weight, but have two values"
                )
        return arrays, problems

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the layout is made again around the copied model's weights."""
        return {
            "model": self.model,
            "decay": self.decay,
            "names": self.names,
            "learned": list(self.views),
            "buffers": list(self.buffers.items()),
            "averages": [array.copy() for array in self.views.values()],
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.model, self.decay, self.names = saved["model"], saved["decay"], saved["names"]
        self.buffers = dict(saved["buffers"])
        self._lay_out(saved["learned"])
        for view, average in zip(self.views.values(), saved["averages"], strict=True):
            view[...] = average
