"""Half precision: weights and activations of 16 bits, half the memory, and tensor cores where a GPU has them.

float16 has 10 bits of fraction, and its numbers end at 65504 and at 6e-8.  Three things keep a training with it on the way
of one in float32 (Micikevicius et al. 2018, "Mixed Precision Training", section 3):

    master weights    kept in float32: a step is often less than a thousandth of a weight, which float16 would round away
    a scaled loss     L times S has gradients times S, so that small ones do not become 0; they are divided by S in float32
    sums in float32   in products (cuBLAS does), and in softmax and norms (the kernels for the GPU do: engine/cuda.py)

S begins large. A step whose gradients overflowed is left out and S halved; after many good ones S doubles.

    half = Half(model, partial(AdamW, lr=1e-3))             model is in float16 from here on; half stands for the optimiser
    loss = cross_entropy(model(x), labels)                  it takes floats of any kind, and answers in float32
    half.zero_grad(); half.backward(loss); half.step()      or train.fit(model, half, ...)

It is meant for a GPU, where a ViT-Base's step took 42 ms in place of 174 (H100): NumPy converts every half to float32 and
back, which is slow.
See at work: demos/06_vit.py --half, demos/17_diffusion_digits.py --half.
differs: every layer's weights are halves, norms' too.
No bfloat16, though ml_dtypes brings it and CuPy 14 takes it: to NumPy (2.4) it is a foreign type, so that of bfloat16 arrays
a * 2.0 and a @ b are float32 and where(c, a, 0.0) is float64. One definition would mean two things on CPU and GPU, and no
test without a GPU could tell; and CuPy 14.2's own product of stacks fails on it (cupy/cupy, pull request 10317).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from tinycv.engine import backend, capturing
from tinycv.engine.backend import array_module
from tinycv.engine.tensor import Tensor
from tinycv.nn.module import Module
from tinycv.optimizer import Optimizer

LARGEST = 2.0 ** 24                             # of S: it grows no further


def cast(value: Any, dtype: Any) -> Any:
    """A Tensor of floats in another dtype, alone or within tuples and lists; all else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(cast(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype.kind == "f" else value


class Half:
    """``model`` in float16, trained by ``make(named parameters)``, an optimiser of its float32 master weights.

    Make it after the model has its weights and its device. Called from here on, the model casts the floats it is given to
    the dtype of its weights, and its answer to float32. scale: S at first; it doubles after ``interval`` good steps.
    ``parameters()`` are the master weights: after ``backward`` they have the gradients, no longer scaled.
    ``skipped`` counts the steps that were left out.
    ValueError if the parameters are not all on one device.
    """

    def __init__(self, model: Module, make: Callable[[Any], Optimizer], scale: float = 2.0 ** 16, interval: int = 2000):
        named = list(model.named_parameters())
        if len({p.device for _, p in named}) > 1:
            raise ValueError(f"the model's parameters are on {sorted({p.device for _, p in named})}: move it to one device")
        self.scale, self.interval, self.good, self.skipped, self.overflowed = float(scale), interval, 0, 0, False
        self.own = [p for _, p in named]
        self.xp = array_module(self.own[0]._data)
        self.full = self.side_by_side([p._data for p in self.own])                  # all master weights in one array
        self.masters = [Tensor(part, requires_grad=True) for part in self.cut(self.full, self.own)]
        self.optimizer = make([(name, master) for (name, _), master in zip(named, self.masters, strict=True)])
        model.to("float16")
        self.write_back()
        for p, master in zip(self.own, self.masters, strict=True):
            p.master = master
        self.forward, model.forward = model.forward, self.at_the_door

    def at_the_door(self, *args: Any, **options: Any) -> Any:
        """What the model does when it is called."""
        kept = self.own[0].dtype
        given = {name: cast(value, kept) for name, value in options.items()}
        return cast(self.forward(*cast(args, kept), **given), "float32")

    def side_by_side(self, arrays: list[Any]) -> Any:
        return self.xp.concatenate([a.reshape(-1) for a in arrays]).astype("float32")

    def cut(self, flat: Any, like: list[Tensor]) -> list[Any]:
        """Parts of a flat array in the shapes of some Tensors; they share its memory."""
        ends = list(accumulate((t.size for t in like), initial=0))
        return [flat[a:b].reshape(t.shape) for a, b, t in zip(ends, ends[1:], like, strict=False)]

    def write_back(self) -> None:
        """The model's weights anew from the master weights."""
        for p, part in zip(self.own, self.cut(self.full.astype("float16"), self.own), strict=True):
            p.data = part

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss to the master weights: of the loss times S, divided by S in float32.

        There are none if they overflowed. To know that is to wait for the device, the one wait of a step: optimisers count
        their steps on the host (Adam's corrections need the number), and a step that is left out does not count.
        """
        capturing.refuse("Half.backward, which waits to know whether gradients overflowed,", "record the forward pass alone")
        with np.errstate(over="ignore", invalid="ignore"):
            (loss * self.scale).backward()
            found = [(p, master) for p, master in zip(self.own, self.masters, strict=True) if p.grad is not None]
            flat = self.side_by_side([p.grad._data for p, _ in found]) if found else self.full[:0]
            self.overflowed = not bool(self.xp.isfinite(flat.sum()))
        flat *= 1 / self.scale
        for (p, master), part in zip(found, self.cut(flat, [p for p, _ in found]), strict=True):
            master.grad, p.grad = None if self.overflowed else Tensor(part), None

    def step(self) -> None:
        """Change the master weights and the model's, or leave both and halve S where the gradients overflowed."""
        if any(p.grad is not None for p in self.own):
            raise RuntimeError("the model has gradients of its own: with halves call half.backward(loss), not "
                               "loss.backward(), and train on one thread")
        if self.overflowed:
            self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
            return
        self.optimizer.step()
        self.write_back()
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = min(2 * self.scale, LARGEST), 0

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in (*self.own, *self.masters):
            p.grad = None

    def parameters(self) -> list[Tensor]:
        """The master weights."""
        return self.optimizer.parameters()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimiser's."""
        return self.optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        """As the optimiser's; each parameter's state has its "master" weights too, and the first group S."""
        state = self.optimizer.state_dict()
        for name, master in zip(self.optimizer.names.values(), self.masters, strict=True):
            state["state"].setdefault(name, {"step": 0})["master"] = master._data.copy()
        state["param_groups"][0] |= {"loss_scale": self.scale, "good_steps": self.good}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``. ValueError says what does not fit; all is then left as it was."""
        names = list(self.optimizer.names.values())
        if missing := [n for n in names if "master" not in state_dict["state"].get(n, {})]:
            raise ValueError(f"load_state_dict: Half was left unchanged; no master weights of {', '.join(missing[:4])}")
        first, *groups = state_dict["param_groups"]
        plain = {k: v for k, v in first.items() if k not in ("loss_scale", "good_steps")}
        self.optimizer.load_state_dict({"param_groups": [plain, *groups], "state": {
            n: {k: v for k, v in kept.items() if k != "master"} for n, kept in state_dict["state"].items() if kept["step"]}})
        for name, master in zip(names, self.masters, strict=True):
            master._data[...] = backend.to_device(state_dict["state"][name]["master"], master.device)
        self.scale, self.good = first["loss_scale"], first["good_steps"]
        self.write_back()
