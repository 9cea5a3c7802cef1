"""Half precision: training in float16, with master weights and loss scaling (mixed precision).

16-bit weights and activations need half the memory, and a GPU multiplies them on its tensor cores.
But float16 has only 10 bits of fraction, and its positive numbers range from 6e-8 to 65504. Three
measures make training in float16 behave like training in float32 (Micikevicius et al. 2018, "Mixed
Precision Training", section 3):

    master weights    the weights are kept in float32: a step is often less than a thousandth of a
                      weight, and float16 would round it away
    a scaled loss     the gradients of S · L are S times as large, so that small ones do not become
                      0 in float16; they are divided by S in float32
    sums in float32   inside matrix products (cuBLAS does this), and in softmax and norms (the
                      kernels for the GPU do: gpu/cuda.py)

S starts large. When gradients overflow, the step is skipped and S is halved; after many good steps,
S is doubled.

    half = Half(model, partial(AdamW, lr=1e-3))     # from here on the model is in float16
    loss = cross_entropy(model(x), labels)          # the model takes any floats, returns float32
    half.zero_grad()                                # half takes the optimiser's role,
    half.backward(loss)                             # also in fit(model, half, ...)
    half.step()

It is meant for a GPU, where a step of ViT-Base took 42 ms instead of 174 (H100). On a CPU it is
slow, because NumPy converts every float16 number to float32 and back.
Used in: demos/06_vit.py --half, demos/17_diffusion_digits.py --half.
differs: the weights of every layer are float16, those of norms too.
There is no bfloat16, although the package ml_dtypes provides it and CuPy 14 accepts it. NumPy (2.4)
treats it as a foreign type: for bfloat16 arrays, a * 2.0 and a @ b are float32, and
where(c, a, 0.0) is float64. So one definition would compute different things on CPU and GPU, and no
test without a GPU could notice. Also, CuPy 14.2's batched matrix product fails on bfloat16
(cupy/cupy, pull request 10317).
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

UNCHANGED = "load_state_dict: Half was left unchanged; "
# S stops doubling here
LARGEST = 2.0**24
# the largest S that a user or a file may set: twice this is infinite in float32
GREATEST = 2.0**127
# if S is below this and gradients still overflow, they are not finite even without S
SMALLEST = 2.0**-64


def cast(value: Any, dtype: DTypeLike) -> Any:
    """A Tensor of floats converted to ``dtype``, also inside tuples and lists; anything else as it
    is."""
    if isinstance(value, (tuple, list)):
        return type(value)(cast(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype.kind == "f" else value


class Half:
    """``model`` in float16, trained by the optimiser ``make(named master weights)``, which updates
    the float32 master weights.

    Create it once the model has its weights and is on its device. From then on the model casts the
    floats that it receives to the dtype of its weights, and its result to float32.
    scale: the initial S, which doubles after ``interval`` good steps.
    ``parameters()`` returns the master weights; after ``backward`` they hold the gradients, already
    divided by S. ``skipped`` counts the skipped steps. Weights that are put into the model later,
    by load_model or by hand, are copied into the master weights at the next step. If a model has
    several Halves, only the last may be used.
    ValueError if the parameters are not all on one device. pickle and deepcopy copy the model too,
    because Half and model refer to each other.
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
                f"Half: make is {shown(make)}; it must be a function that makes an optimiser from "
                "(name, parameter) pairs, such as partial(AdamW, lr=1e-3)"
            )
        self.scale = positive(scale, "Half: scale")
        self.interval = size(interval, "Half: interval", 1)
        self.weights = MasterWeights(model)
        self.model = model
        self.good, self.skipped = 0, 0  # good steps since S last changed; steps skipped in all
        self.overflowed = False
        names = [name for name, _ in model.named_parameters()]
        self.optimizer = make(list(zip(names, self.masters, strict=True)))
        if not isinstance(self.optimizer, Optimizer) or set(self.optimizer.names) != set(
            self.masters
        ):
            raise TypeError(
                f"Half: make returned {shown(self.optimizer)}; it must return an optimiser of all "
                "the parameters that it receives"
            )
        if self.optimizer.needs_closure:
            raise TypeError(
                f"Half: make returned a {type(self.optimizer).__name__}, which evaluates the loss "
                "several times per step, and Half computes gradients once per step: train in "
                "float32"
            )
        self.weights.round_model()
        # a forward that was set on this model alone; None if it uses the one of its class
        self.own_forward = vars(model).get("forward")
        model.forward = self.casting_forward

    @property
    def own(self) -> list[Parameter]:
        """The model's parameters, in float16."""
        return self.weights.own

    @property
    def masters(self) -> list[Tensor]:
        """The master weights, in the order of the model's parameters."""
        return self.weights.masters

    def casting_forward(self, *args: Any, **options: Any) -> Any:
        """The model's forward: floats are cast to the weights' dtype, the result to float32."""
        dtype = self.own[0].dtype
        options = {name: cast(value, dtype) for name, value in options.items()}
        forward = self.own_forward or type(self.model).forward.__get__(self.model)
        return cast(forward(*cast(args, dtype), **options), "float32")

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of S · loss, divide them by S in float32, and store them as the
        gradients of the master weights.

        If they overflowed, the master weights get no gradients. To find that out, the host waits
        for the device once per step. It has to know, because optimisers count their steps on the
        host (Adam's bias corrections need the number), and a skipped step does not count.
        FloatingPointError if they still overflow when S is so small that S cannot be the reason.
        """
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"Half.backward: loss is {shown(loss)}; it must be a Tensor of one number"
            )
        if self.scale < SMALLEST:
            raise FloatingPointError(
                f"Half.backward: the gradients overflowed {self.skipped} times, down to a scale of "
                f"{self.scale:g}: look for a NaN inside `with tinycv.debug():`"
            )
        capturing.refuse(
            "Half.backward, which waits for the GPU to see whether gradients overflowed,",
            "record the forward pass alone",
        )
        with np.errstate(over="ignore", invalid="ignore"):
            (loss * self.scale).backward()
            gradients = self.weights.gradients()
            self.overflowed = not bool(self.weights.xp.isfinite(gradients.sum()))
        gradients *= 1 / self.scale
        self.weights.take_gradients(None if self.overflowed else gradients)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update the master weights and round them into the model; if the gradients overflowed,
        halve S instead.

        closure: as for an optimiser, but it must call half.backward(loss), which scales the loss,
        not loss.backward(). step returns its loss, not scaled.
        """
        loss = loss_of(closure, "Half")
        if any(p.grad is not None for p in self.own):
            raise RuntimeError(
                "Half.step: the model's float16 parameters have gradients: in half precision call "
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
        """Set all gradients to None, whatever ``set_to_none`` is: ``backward`` replaces gradients
        and never adds to them.
        """
        flag(set_to_none, "Half.zero_grad: set_to_none")
        for p in (*self.own, *self.masters):
            p.grad = None

    def parameters(self) -> list[Tensor]:
        """The master weights."""
        return self.optimizer.parameters()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The param_groups of the optimiser."""
        return self.optimizer.param_groups

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state_dict, with the "master" weights of each parameter in its state, and
        S and the number of good steps in the first group."""
        self.weights.follow()
        state = self.optimizer.state_dict()
        for master in self.masters:
            state["state"].setdefault(self.optimizer.names[master], {"step": 0})["master"] = (
                master._data.copy()
            )
        state["param_groups"][0] |= {"loss_scale": self.scale, "good_steps": self.good}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``. ValueError lists what does not fit; everything then stays
        as it was."""
        self.loading(state_dict)()

    def loading(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """Check and convert ``state_dict``, and return the function that loads it and can no longer
        fail. The errors are those of load_state_dict.
        """
        names = [self.optimizer.names[master] for master in self.masters]
        plain, saved_masters = _without_masters(state_dict, names)
        masters = [
            fitting_array(array, m.shape, m.dtype, m.device, f"{UNCHANGED}{name}: master")
            for array, name, m in zip(saved_masters, names, self.masters, strict=True)
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
        good = size(first["good_steps"], f"{UNCHANGED}good_steps")
        if good >= self.interval:
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
        """For pickle and copy: the master weights are brought up to date first."""
        self.weights.follow()
        return vars(self).copy()


def positive(scale: Any, what: str) -> float:
    """``scale``, checked to be a factor with which a loss neither vanishes nor overflows in
    float32."""
    return number(scale, what, SMALLEST / 2, GREATEST)


def _without_masters(state_dict: Any, names: list[str]) -> tuple[dict[str, Any], list[Any]]:
    """Split the state dict of a Half into (the optimiser's state dict, the master weights in the
    order of ``names``).
    """
    try:
        if not isinstance(state_dict, dict):
            raise TypeError
        first, *groups = state_dict["param_groups"]
        entries = {name: dict(entry) for name, entry in state_dict["state"].items()}
        options = {
            key: value for key, value in first.items() if key not in ("loss_scale", "good_steps")
        }
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        raise ValueError(
            f"{UNCHANGED}the saved state is {shown(state_dict)}, which is not the state of a Half"
        ) from None
    missing = [name for name in names if "master" not in entries.get(name, {})]
    if missing:
        raise ValueError(f"{UNCHANGED}no master weights of {brief(missing)}")
    if len(options) + 2 != len(first):
        raise ValueError(f"{UNCHANGED}its first group lacks loss_scale or good_steps")
    masters = [entries[name].pop("master") for name in names]
    counted = {name: entry for name, entry in entries.items() if entry != {"step": 0}}
    return {**state_dict, "param_groups": [options, *groups], "state": counted}, masters
