"""Half precision: weights and activations of 16 bits, half the memory, and tensor cores where a GPU
has them.

float16 has 10 bits of fraction, and its numbers end at 65504 and at 6e-8.  Three things keep a
training with it on the way of one in float32 (Micikevicius et al. 2018, "Mixed Precision Training",
section 3):

    master weights    kept in float32: a step is often less than a thousandth of a weight, which
                      float16 would round away
    a scaled loss     L times S has gradients times S, so that small ones do not become 0; they are
                      divided by S in float32
    sums in float32   in products (cuBLAS does), and in softmax and norms (the kernels for the GPU
                      do: gpu/cuda.py)

S begins large. A step whose gradients overflowed is left out and S halved; after many good ones S
doubles.

    half = Half(model, partial(AdamW, lr=1e-3))     # the model is in float16 from here on
    loss = cross_entropy(model(x), labels)          # it takes floats of any kind, returns float32
    half.zero_grad()                                # half stands for the optimiser,
    half.backward(loss)                             # also in fit(model, half, ...)
    half.step()

It is meant for a GPU, where a ViT-Base's step took 42 ms in place of 174 (H100): NumPy converts
every half to float32 and back, which is slow.
See at work: demos/06_vit.py --half, demos/17_diffusion_digits.py --half.
differs: every layer's weights are halves, norms' too.
No bfloat16, though ml_dtypes brings it and CuPy 14 takes it: to NumPy (2.4) it is a foreign type,
so that of bfloat16 arrays a * 2.0 and a @ b are float32 and where(c, a, 0.0) is float64. One
definition would mean two things on CPU and GPU, and no test without a GPU could tell; and CuPy
14.2's own product of stacks fails on it (cupy/cupy, pull request 10317).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinycv.engine import capturing
from tinycv.engine.arguments import flag, number, shown, size
from tinycv.engine.tensor import Parameter, Tensor
from tinycv.nn.module import Module
from tinycv.optim.optimizer import Optimizer, loss_of
from tinycv.optim.state import brief, fitting_array
from tinycv.training.master import MasterWeights

LARGEST = 2.0**24  # of S: it grows no further
UNCHANGED = "load_state_dict: Half was left unchanged; "
# of S at first, and in a file: a loss of 2 times it is no float32
GREATEST = 2.0**127
SMALLEST = 2.0**-64  # below it no finite gradient can have overflowed


def cast(value: Any, dtype: DTypeLike) -> Any:
    """A Tensor of floats in another dtype, alone or within tuples and lists; all else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(cast(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype.kind == "f" else value


class Half:
    """``model`` in float16, trained by ``make(named parameters)``, an optimiser of its float32
    master weights.

    Make it after the model has its weights and its device. Called from here on, the model casts the
    floats it is given to the dtype of its weights, and its answer to float32. scale: S at first; it
    doubles after ``interval`` good steps. ``parameters()`` are the master weights: after
    ``backward`` they have the gradients, no longer scaled. ``skipped`` counts the steps that this
    object has left out. Weights that are put into the model later, by load_model or by hand, are
    taken over at the next step; of several Halves of one model only the last may be used.
    ValueError if the parameters are not all on one device. pickle and deepcopy copy the model too,
    which is bound to its Half from both sides.
    """

    def __init__(
        self,
        model: Module,
        make: Callable[[list[tuple[str, Tensor]]], Optimizer],
        scale: float = 2.0**16,
        interval: int = 2000,
    ):
        if not isinstance(model, Module):
            raise TypeError(f"Half: model is {shown(model)}; it must be a Module")
        if not callable(make):
            raise TypeError(
                f"Half: make is {shown(make)}; it must make an optimiser of (name, parameter) "
                "pairs, as partial(AdamW, lr=1e-3) does"
            )
        self.scale = positive(scale, "Half: scale")
        self.interval = size(interval, "Half: interval", 1)
        self.weights = MasterWeights(model)
        self.model, self.good, self.skipped, self.overflowed = model, 0, 0, False
        names = [name for name, _ in model.named_parameters()]
        self.optimizer = make(list(zip(names, self.masters, strict=True)))
        if not isinstance(self.optimizer, Optimizer) or set(self.optimizer.names) != set(
            self.masters
        ):
            raise TypeError(
                f"Half: make returned {shown(self.optimizer)}; it must return an optimiser of all "
                "the parameters that it is given"
            )
        self.weights.round_model()
        self.before = vars(model).get("forward")  # None: what its class says
        model.forward = self.at_the_door

    @property
    def own(self) -> list[Parameter]:
        """The model's parameters, in halves."""
        return self.weights.own

    @property
    def masters(self) -> list[Tensor]:
        """The master weights, in the order of the model's parameters."""
        return self.weights.masters

    def at_the_door(self, *args: Any, **options: Any) -> Any:
        """What the model does when it is called."""
        kept = self.own[0].dtype
        given = {name: cast(value, kept) for name, value in options.items()}
        forward = self.before or type(self.model).forward.__get__(self.model)
        return cast(forward(*cast(args, kept), **given), "float32")

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss to the master weights: of the loss times S, divided by S in
        float32.

        FloatingPointError where they still overflow with an S that is far too small for that.
        There are none if they overflowed. To know that is to wait for the device, the one wait of a
        step: optimisers count their steps on the host (Adam's corrections need the number), and a
        step that is left out does not count.
        """
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"Half.backward: loss is {shown(loss)}; it must be a Tensor of one number"
            )
        if self.scale < SMALLEST:
            raise FloatingPointError(
                f"Half.backward: the gradients overflowed {self.skipped} times, down to a scale of "
                f"{self.scale:g}: look for a NaN with `with tinycv.debug():`"
            )
        capturing.refuse(
            "Half.backward, which waits to know whether gradients overflowed,",
            "record the forward pass alone",
        )
        with np.errstate(over="ignore", invalid="ignore"):
            (loss * self.scale).backward()
            found = self.weights.gradients()
            self.overflowed = not bool(self.weights.xp.isfinite(found.sum()))
        found *= 1 / self.scale
        self.weights.take_gradients(None if self.overflowed else found)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change the master weights and the model's, or leave both and halve S where the gradients
        overflowed.

        closure: as the optimiser's, but it calls half.backward(loss), which scales, and not
        loss.backward(). Its loss is returned, not scaled.
        """
        loss = loss_of(closure, "Half")
        if any(p.grad is not None for p in self.own):
            raise RuntimeError(
                "Half.step: the model has gradients of its own: with halves call "
                "half.backward(loss), not loss.backward(), and train on one thread"
            )
        self.weights.follow()
        if self.overflowed:
            self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
            return loss
        self.optimizer.step()
        self.weights.write_back()
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = min(2 * self.scale, LARGEST), 0
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, whatever ``set_to_none`` is: the next backward replaces them, and
        adds to none.
        """
        flag(set_to_none, "Half.zero_grad: set_to_none")
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
        """As the optimiser's; each parameter's state has its "master" weights too, and the first
        group S."""
        self.weights.follow()
        state = self.optimizer.state_dict()
        for master in self.masters:
            state["state"].setdefault(self.optimizer.names[master], {"step": 0})["master"] = (
                master._data.copy()
            )
        state["param_groups"][0] |= {"loss_scale": self.scale, "good_steps": self.good}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``. ValueError says what does not fit; all is then left as it
        was."""
        self.loading(state_dict)()

    def loading(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """The function that loads ``state_dict``, which has been checked and converted whole.
        Errors as there.
        """
        names = [self.optimizer.names[master] for master in self.masters]
        plain, found = _without_masters(state_dict, names)
        masters = [
            fitting_array(array, m.shape, m.dtype, m.device, f"{UNCHANGED}{name}: master")
            for array, name, m in zip(found, names, self.masters, strict=True)
        ]
        with np.errstate(over="ignore"):
            broken = [
                name
                for name, array in zip(names, masters, strict=True)
                if not self.weights.xp.isfinite(array.astype("float16")).all()
            ]
        if broken:
            raise ValueError(
                f"{UNCHANGED}master weights of {brief(broken)} are not finite as float16"
            )
        first = state_dict["param_groups"][0]
        scale = positive(first["loss_scale"], f"{UNCHANGED}loss_scale")
        if (good := size(first["good_steps"], f"{UNCHANGED}good_steps")) >= self.interval:
            raise ValueError(
                f"{UNCHANGED}good_steps is {good}; it must be less than the interval "
                f"of {self.interval}"
            )
        load_optimizer = self.optimizer.loading(plain)

        def load() -> None:
            load_optimizer()
            for master, array in zip(self.masters, masters, strict=True):
                master._data[...] = array
            self.scale, self.good = scale, good
            self.weights.write_back()

        return load

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy, which then find the master weights up to date."""
        self.weights.follow()
        return vars(self).copy()


def positive(scale: Any, what: str) -> float:
    """A factor of the loss, with which that neither vanishes nor overflows in float32."""
    return number(scale, what, SMALLEST / 2, GREATEST)


def _without_masters(state_dict: Any, names: list[str]) -> tuple[dict[str, Any], list[Any]]:
    """(the optimiser's own state dict, the master weights in the order of ``names``) of a Half's
    state dict.
    """
    try:
        if not isinstance(state_dict, dict):
            raise TypeError
        first, *groups = state_dict["param_groups"]
        kept = {name: dict(entry) for name, entry in state_dict["state"].items()}
        own = {
            key: value for key, value in first.items() if key not in ("loss_scale", "good_steps")
        }
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        raise ValueError(
            f"{UNCHANGED}saved is {shown(state_dict)}, which no Half has written"
        ) from None
    missing = [name for name in names if "master" not in kept.get(name, {})]
    if missing:
        raise ValueError(f"{UNCHANGED}no master weights of {brief(missing)}")
    if len(own) + 2 != len(first):
        raise ValueError(f"{UNCHANGED}its first group lacks loss_scale or good_steps")
    masters = [kept[name].pop("master") for name in names]
    entries = {name: entry for name, entry in kept.items() if entry != {"step": 0}}
    return {**state_dict, "param_groups": [own, *groups], "state": entries}, masters
