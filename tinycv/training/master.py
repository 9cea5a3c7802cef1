"""Master weights: the float32 weights from which a model's float16 weights are rounded.

An optimiser updates the master weights, ``write_back`` rounds them into the model, and ``follow``
copies weights that others have put into the model since. All master weights lie side by side in one
array, so that each of these operations is one call.
Used by: half.py, which says why master weights are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from types import ModuleType
from typing import Any

from tinycv.engine import watch
from tinycv.engine.backend import Array, array_module, device_of
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.module import Module


class MasterWeights:
    """``masters`` are float32 copies of a model's parameters, each a leaf Tensor that has its own
    gradient. ``own`` are the parameters themselves, which ``round_model`` makes float16.

    ValueError if the parameters are not all on one device.
    """

    def __init__(self, model: Module):
        self.model = model
        self.own: list[Parameter] = list(model.parameters())
        devices = sorted({p.device for p in self.own})
        if len(devices) != 1:
            problem = (
                f"its parameters are on {devices}: move it to one device"
                if devices
                else "it has no parameters"
            )
            raise ValueError(f"Half: model is a {type(model).__name__}, and {problem}")
        self.full = self.side_by_side([p._data for p in self.own])
        self.masters = [Tensor(part, requires_grad=True) for part in self.cut(self.full, self.own)]

    @property
    def xp(self) -> ModuleType:
        """The module that owns the weights, numpy or cupy."""
        return array_module(self.own[0]._data)

    def side_by_side(self, arrays: list[Array]) -> Array:
        """The arrays, concatenated into one flat float32 array."""
        return self.xp.concatenate([a.reshape(-1) for a in arrays]).astype("float32")

    def cut(self, flat: Array, like: Sequence[Tensor]) -> list[Array]:
        """Cut a flat array into views with the shapes of the Tensors ``like``, in their order."""
        ends = list(accumulate((t.size for t in like), initial=0))
        return [flat[a:b].reshape(t.shape) for a, b, t in zip(ends, ends[1:], like, strict=False)]

    # -- The values -------------------------------------------------------------------------------

    def round_model(self) -> None:
        """Make the model float16, and give each parameter a reference to its master weight."""
        self.model.to("float16")
        self.write_back()
        self._link_parameters()

    def _link_parameters(self) -> None:
        for p, master in zip(self.own, self.masters, strict=True):
            p.master = master

    def write_back(self) -> None:
        """Round the master weights into the model."""
        self.halves = self.full.astype("float16")
        self.parts = self.cut(self.halves, self.own)
        for p, part in zip(self.own, self.parts, strict=True):
            p.data = part
        self.written = watch.tick()

    def follow(self) -> None:
        """Copy into the master weights what was put into the model since the last ``write_back``.

        Changes are found by the identity of the arrays and by the counter of changes
        (engine/watch.py), because comparing the numbers would take as long as a step. Only if there
        was a change are they compared: where a float16 weight still equals its rounded master
        weight, the master weight stays as it is.
        """
        if any(p.master is not master for p, master in zip(self.own, self.masters, strict=True)):
            raise RuntimeError(
                f"Half: the {type(self.model).__name__} has another Half since, so use that one"
            )
        pairs = list(zip(self.own, self.parts, strict=True))
        if all(p._data is part for p, part in pairs) and not watch.changed_since(
            self.written, self.halves
        ):
            return
        for p, part in pairs:
            now = p._data.shape, str(p._data.dtype), device_of(p._data)
            before = part.shape, str(part.dtype), device_of(part)
            if now != before:
                raise ValueError(
                    f"Half: a weight of the {type(self.model).__name__} is of {now} now, and was "
                    f"of {before}: make another Half after a move or a cast"
                )
        for p, master in zip(self.own, self.masters, strict=True):
            unchanged = p._data == master._data.astype("float16")
            master._data[...] = self.xp.where(unchanged, master._data, p._data)
            master.mark_changed()
        self.write_back()

    # -- The gradients ----------------------------------------------------------------------------

    def gradients(self) -> Array:
        """The gradients of the parameters that have one, side by side in float32."""
        gradients = [p.grad._data for p in self.own if p.grad is not None]
        return self.side_by_side(gradients) if gradients else self.full[:0]

    def take_gradients(self, flat: Array | None) -> None:
        """Move the gradients from the parameters to their master weights. flat: their values, in
        the order of ``gradients()``; None sets the master weights' gradients to None."""
        pairs = [(p, m) for p, m in zip(self.own, self.masters, strict=True) if p.grad is not None]
        parts = [None] * len(pairs) if flat is None else self.cut(flat, [p for p, _ in pairs])
        for (p, master), part in zip(pairs, parts, strict=True):
            master.grad, p.grad = None if part is None else Tensor(part), None

    # -- Copies -----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the master weights are saved one by one; __setstate__ lays them side
        by side again."""
        laid_out = "full", "halves", "parts", "written"
        return {name: value for name, value in vars(self).items() if name not in laid_out}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        vars(self).update(saved)
        self.full = self.side_by_side([master._data for master in self.masters])
        for master, part in zip(self.masters, self.cut(self.full, self.own), strict=True):
            master.data = part
        self._link_parameters()
        self.write_back()
