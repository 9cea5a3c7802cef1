"""The suite "models": training steps and inference of whole models, by tinycv and by other
libraries.

"tinycv" is the way that its manual recommends (tinycv.training.parallel): the batch is split among
processes, one per core, unless the call is too short for it (``way``). Threads and the other way
are measured too, so that the advice can be checked. A training step is forward, backward and Adam.
PyTorch is used at its best: all cores, its fused Adam, its own attention and LSTM, and both memory
layouts for convolutions. torch.compile, which needs a minute of compiling per row, has separate
groups:

    python -m benchmarks run models --only "training step"
    python -m benchmarks run models --only compiled
"""

from __future__ import annotations

import importlib.util
import shutil
from functools import partial

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.functional import by_autograd, by_mygrad
from benchmarks.networks import shapes_of
from benchmarks.row import Contender, Row
from benchmarks.tasks import Gan, LeNet, Lstm, Mlp, Score, Task, Transformer, UNet, Vit
from benchmarks.work import NO_FORK, NO_TORCH, pytorch

TASKS: dict[str, Task] = {
    "MLP 784-256-256-10": Mlp(),
    "LSTM, 28 steps of 28": Lstm(),
    "LSTM, 100 steps of 2": Lstm(32, 100, 2),
    "Transformer, 64 tokens": Transformer(),
    "ViT, 17 tokens of 64": Vit(),
    "ViT, 50 tokens of 128": Vit(patch=4, width=128, heads=8),
    "LeNet": LeNet(),
    "GAN, 32 x 32": Gan(),
    "U-Net, 28 x 28": UNet(),
    "Score matching in the plane": Score(),
}
TINY: dict[str, Task] = {
    "tiny MLP": Mlp(4, (6, 5, 5, 3)),
    "tiny LSTM": Lstm(4, 3, 2, 5, 3),
    "tiny Transformer": Transformer(4, 5, 8, 2, 16, 2, 7),
    "tiny ViT": Vit(4, 4, 2, 8, 2, 2, 3),
    "tiny LeNet": LeNet(4, (2, 3)),
    "tiny GAN": Gan(4, 5, 2),
    "tiny U-Net": UNet(4, 8, 16),
    "tiny score matching": Score(4, 8),
}
# models to compile, one of each kind, because each takes a minute; the other models gain similarly
COMPILED = (Mlp, Transformer, Vit, UNet)
# the names of the ways that are not the recommended one
WAYS = {None: "tinycv, not split", "threads": "tinycv, threads", "processes": "tinycv, processes"}
NO_TRANSPOSED = "has no transposed convolution"
CANNOT: dict[str, dict[type[Task], str]] = {
    "autograd": {task: f"HIPS autograd {NO_TRANSPOSED}" for task in (Gan, UNet)},
    "mygrad": {
        Gan: f"MyGrad {NO_TRANSPOSED}",
        UNet: f"MyGrad {NO_TRANSPOSED}",
        Vit: "MyGrad has no erf, which GELU needs",
        Score: "MyGrad has no second derivatives",
    },
}
NO_COMPILER = "" if shutil.which("g++") or shutil.which("clang++") else "no C++ compiler"


def rows(quick: bool = False) -> list[Row]:
    """All rows; if quick, only a training step and an inference of the tiny MLP, and nothing
    compiled."""
    return every(TINY)[:2] if quick else every(TASKS) + compiled(TASKS)


def every(of: dict[str, Task]) -> list[Row]:
    return [row(name, task, train) for name, task in of.items() for train in (True, False)]


def row(name: str, task: Task, train: bool) -> Row:
    work = (task, train)
    contenders = [*tinycv_ways(task, train), pytorch(by_torch, *work)]
    if isinstance(task, (LeNet, Gan, UNet)):
        way = partial(by_torch, channels_last=True)
        contenders.append(Contender("PyTorch, channels last", way, work, missing=NO_TORCH))
    for title, library, make in (
        ("HIPS autograd", "autograd", by_autograd),
        ("MyGrad", "mygrad", by_mygrad),
    ):
        missing = lacks(task, train, library)
        args = work if missing else (*work, shapes_of(task))
        contenders.append(Contender(title, make, args, missing=missing, memory=False))
    return Row(
        name,
        f"{'training step' if train else 'inference'}, batch {task.batch}",
        tuple(contenders),
        "step" if train else "batch",
        flops=task.flops(train),
        memory=train,
    )


def way(task: Task, train: bool) -> str | None:
    """What should split the batch. The rule of the manual: processes, if the call takes 4 ms or
    more without a group; None, a group costs more than it gains, if it takes less. The MLP takes
    less, and so does the inference of the score network."""
    if NO_FORK:
        return "threads"
    is_short = isinstance(task, Mlp) or (isinstance(task, Score) and not train)
    return None if is_short else "processes"


def tinycv_ways(task: Task, train: bool) -> list[Contender]:
    """The recommended way first, under the name "tinycv"; then the other ways."""
    best = way(task, train)
    others = [
        Contender(
            name,
            by_tinycv,
            (task, train, carrier),
            missing=NO_FORK if carrier == "processes" else "",
        )
        for carrier, name in WAYS.items()
        if carrier != best
    ]
    return [Contender("tinycv", by_tinycv, (task, train, best)), *others]


def lacks(task: Task, train: bool, library: str) -> str:
    """Why this library is not measured in the row; "" if it is."""
    if isinstance(task, Score) and not train and library == "mygrad":
        return "MyGrad is left out: this inference is that of an MLP"
    if type(task) in CANNOT[library]:
        return CANNOT[library][type(task)]
    needed = {"autograd": ("autograd", "scipy"), "mygrad": ("mygrad",)}[library]
    absent = [name for name in needed if not importlib.util.find_spec(name)]
    return f"{' and '.join(absent)} not installed" if absent else ""


def compiled(of: dict[str, Task]) -> list[Row]:
    """Training steps of a few models by torch.compile, which turns forward and loss, and their
    backward, into C++.

    Memory is not measured: in a fresh process it would be the memory of the compiler.
    """
    # the last of each kind
    kinds = {type(task): (name, task) for name, task in of.items() if isinstance(task, COMPILED)}
    missing, result = NO_TORCH or NO_COMPILER, []
    for name, task in kinds.values():
        way = partial(by_torch, compiled=True)
        compiled_by_torch = Contender("PyTorch compile", way, (task, True), missing=missing)
        contenders = tinycv_ways(task, True)[0], compiled_by_torch
        label = f"training step, batch {task.batch}"
        flops = task.flops(True)
        result.append(Row(f"compiled: {name}", label, contenders, "step", flops=flops))
    return result
