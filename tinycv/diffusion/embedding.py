"""Time and label embedding: how a denoiser learns how noisy the image is and what it should show.

    e = W_2 SiLU(W_1 PE(t) + b_1) + b_2 + table[label]

PE is the sinusoidal encoding that the Transformer uses for positions.  A single number t would have
little influence among hundreds of features.  From its sines and cosines at many frequencies a
linear map can tell neighbouring times apart.
Ho et al. 2020, appendix B;   Peebles & Xie 2023, section 3.2 (the table of labels).

Read first: sequence/positions.py.   Read next: unet.py, dit.py.   Shapes: B images, E width.
"""

from __future__ import annotations

from tinycv.engine.arguments import size
from tinycv.engine.backend import Array, array_module
from tinycv.engine.tensor import Tensor
from tinycv.nn.activation import silu
from tinycv.nn.inputs import Examples, known, labels, times_in
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.module import Module
from tinycv.sequence.positions import sinusoidal

Labels = Tensor | Array  # (B,) integers: the classes from 0 on, and num_classes for "no label"


def check_time_and_label(
    name: str, x: Examples, t: Examples, label: Labels | None, num_classes: int
) -> None:
    """ValueError unless there is one time per example of x (B, ...), and one label or None at all.
    ``name`` is the network that the errors name."""
    if times_in(t, f"{name}: t").shape != (len(x),):
        raise ValueError(
            f"{name}: t has shape {tuple(t.shape)} and x {tuple(x.shape)}; t must be ({len(x)},)"
        )
    if label is not None and num_classes:
        labels(label, f"{name}: label", num_classes, len(x))


class TimeAndLabel(Module):
    """The embedding (B, dim) of times (B,), which are numbers up to 1,000 or so, and of labels
    (B,), if there are classes.

    Row ``num_classes`` of the table means "no label"; it is used when label is None.
    """

    def __init__(self, dim: int, num_classes: int = 0):
        self.dim = dim = size(dim, "TimeAndLabel: dim", 1)
        self.num_classes = num_classes = size(num_classes, "TimeAndLabel: num_classes")
        self.linear1, self.linear2 = Linear(dim, dim), Linear(dim, dim)
        self.table = Embedding(num_classes + 1, dim) if num_classes else None

    def forward(self, t: Examples, label: Labels | None = None) -> Tensor:
        """t (B,) numbers, label (B,) integers 0 ... num_classes. Returns (B, dim).

        A label out of range raises an IndexError that names it. On a GPU its row is NaN instead,
        because a check would have to wait for the device.
        """
        t = times_in(t, "TimeAndLabel: t")
        xp = array_module(t)
        waves = Tensor(sinusoidal(xp, t, self.dim).astype(self.linear1.weight.dtype))  # (B, E)
        e = self.linear2(silu(self.linear1(waves)))  # (B, E)
        if self.table is None:
            if label is not None:
                raise ValueError(
                    "TimeAndLabel: a label was given to a model that was built without classes; "
                    "build it with num_classes"
                )
            return e
        if label is None:
            return e + self.table(xp.full(len(t), self.num_classes))
        rows = labels(label, "TimeAndLabel: label", self.num_classes, len(t))
        return e + known(rows, self.num_classes, self.table(Tensor(rows)))
