"""EMA: an exponential moving average of the weights, which is often a better model than the weights
themselves.

    average <- decay * average + (1 - decay) * w              after every step of the optimiser

Late in training the weights still bounce around a minimum of the loss; their average is closer to
the minimum.
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
    """The averaged weights of ``model``, starting from its current weights. Buffers are copied, not
    averaged.

    For a model trained in half precision (training/half.py), the float32 master weights are
    averaged. Averages of other float16 weights are kept in float32 too, because a thousandth of a
    step would be rounded away in float16.
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
        model._by_name()  # raises ValueError if two tensors have the same name
        self.names = {t: name for name, t in model.named_tensors()}
        learned = list(model.parameters())
        self.buffers = {t: t._data.copy() for t in self.names if not isinstance(t, Parameter)}
        self._lay_out(learned)
        # A float16 weight that is not its rounded master weight was set after the last step, and
        # the Half has not copied it yet: the average starts from this newer value.
        for p, average in self.views.items():
            if average.dtype != p.dtype:
                unchanged = p._data == average.astype(p.dtype)
                average[...] = array_module(average).where(unchanged, average, p._data)

    def _lay_out(self, learned: Sequence[Parameter]) -> None:
        # the Tensor whose numbers are averaged (a float32 master weight if there is one) -> its
        # Parameter
        parameter_of = {
            p if p.master is None or p.dtype != "float16" else p.master: p for p in learned
        }
        self.layouts = [Flat(tensors, wide(tensors[0].dtype)) for tensors in alike(parameter_of)]
        self.averages = [layout.zeros() for layout in self.layouts]
        self.scratch = [layout.zeros() for layout in self.layouts]
        self.views = {}
        for layout, average in zip(self.layouts, self.averages, strict=True):
            layout.gather([t._data for t in layout.tensors], average)
            for t, view in zip(layout.tensors, layout.views(average), strict=True):
                self.views[parameter_of[t]] = view

    def update(self) -> None:
        """Move the average towards the model's current weights. ValueError if the shape of a weight
        has changed.
        """
        self._follow_moves()
        for layout, average, scratch in zip(self.layouts, self.averages, self.scratch, strict=True):
            # average + (1 - decay) (w - average)
            layout.gather([t._data for t in layout.tensors], scratch)
            scratch -= average
            scratch *= 1 - self.decay
            average += scratch
        for t, average in self.buffers.items():
            # the buffer has moved to another device, or has another dtype or shape
            if alike([t, wrap(average, None)])[1:] or average.shape != t.shape:
                self.buffers[t] = t._data.copy()
            else:
                average[...] = t._data  # in place, so that a recorded step does it too

    def _follow_moves(self) -> None:
        """Move the averages to the device and dtype of the model, if those have changed."""
        for t, average in self.views.items():
            if t._data.shape != average.shape:
                raise ValueError(
                    f"EMA: {self.names[t]} has shape {t.shape} now, and its average has shape "
                    f"{average.shape}: make another EMA"
                )
        if any(layout.moved() for layout in self.layouts):
            old_views = dict(self.views)
            self._lay_out(list(old_views))
            for t, average in self.views.items():
                average[...] = to_device(old_views[t], t.device)

    def _refuse_new_parameters(self, method: str) -> None:
        """ValueError if the model has Parameters that it did not have when this EMA was made: they
        have no averages.

        ``update`` does not check this, because that would take about as long as the averaging.
        """
        new = [name for name, p in self.model.named_parameters() if p not in self.views]
        if new:
            raise ValueError(
                f"EMA.{method}: the {type(self.model).__name__} has new Parameters, and there are "
                f"no averages of {brief(new)}: make another EMA"
            )

    @contextmanager
    def applied(self) -> Iterator[Module]:
        """Inside this context the model has the averaged weights, in its own dtype; afterwards it
        has its own weights again. Changes made to the weights inside are lost.

        ValueError if the model has Parameters that it did not have when this EMA was made.
        """
        self._refuse_new_parameters("applied")
        self._follow_moves()
        model_arrays = {t: t._data for t in self.names}
        try:
            for t, array in (self.views | self.buffers).items():
                t.data = array.astype(t.dtype)  # a copy
            yield self.model
        finally:
            for t, array in model_arrays.items():
                t.data = array

    def state_dict(self) -> dict[str, Array]:
        """The averages, and the copies of the buffers, under the model's names. The arrays share
        memory with this object.

        ValueError if the model has Parameters that it did not have when this EMA was made.
        """
        self._refuse_new_parameters("state_dict")
        return self._by_name()

    def _by_name(self) -> dict[str, Array]:
        return {self.names[t]: array for t, array in (self.views | self.buffers).items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy arrays in by name. ValueError lists what does not fit; the averages then stay as
        they were.

        differs: the averages must be finite, because no training can continue from NaN; a Module
        does load NaN.
        """
        self.loading(state)()

    def loading(self, state: Mapping[str, ArrayLike]) -> Callable[[], None]:
        """Check ``state``, and return the function that loads it and can no longer fail. The errors
        are those of load_state_dict.
        """
        if not isinstance(state, Mapping):
            raise ValueError(
                f"load_state_dict: EMA was left unchanged; the state is "
                f"{shown(state)}; it must be a dict"
            )
        averages = self._by_name()
        arrays, problems = self._fitting(state, averages)
        if problems:
            raise ValueError(
                f"load_state_dict: EMA was left unchanged; {listed(problems, join='; ')}"
            )

        def load() -> None:
            for name, array in averages.items():
                array[...] = arrays[name]

        return load

    def _fitting(
        self, state: Mapping[str, ArrayLike], averages: Mapping[str, Array]
    ) -> tuple[dict[str, Array], list[str]]:
        """(the arrays of ``state`` by the first name of each weight, a list of sentences about what
        does not fit into ``averages``)."""
        arrays: dict[str, Array] = {}
        problems: list[str] = []
        # A tied weight has several names. This maps each of them to the first one, under which the
        # average is kept.
        first_name = {
            name: self.names[t] for name, t in self.model._by_name().items() if t in self.names
        }
        present = {first_name[name] for name in state if name in first_name}
        missing = [name for name in averages if name not in present]
        unexpected = [name for name in state if name not in first_name]
        if missing:
            problems.append(f"missing: {brief(missing)}")
        if unexpected:
            problems.append(f"unexpected: {brief(unexpected)}")
        learned = {self.names[t] for t in self.views}
        for name in (name for name in first_name if name in state):
            average = averages[first_name[name]]
            try:
                array = fitting_array(
                    state[name], average.shape, average.dtype, device_of(average), name
                )
                if first_name[name] in learned and not array_module(array).isfinite(array).all():
                    raise ValueError(f"{name} is not finite")
            except ValueError as error:
                problems.append(str(error))
                continue
            if not same_values(arrays.setdefault(first_name[name], array), array):
                problems.append(
                    f"{first_name[name]} and {name} are one tied weight, but have two values"
                )
        return arrays, problems

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the layout is rebuilt around the weights of the copied model."""
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
