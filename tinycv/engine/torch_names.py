"""PyTorch's names that tinycv spells differently, each with what to type instead: a table of hints.

    >>> x.view(3, 2)
    AttributeError: 'Tensor' object has no attribute 'view': type x.reshape(3, 2)

Arrays use the names of NumPy here (axis, concatenate, astype), networks those of PyTorch, and each
thing has one name.  So a name of PyTorch that is missing is not added as a second one; the error
says what to type.  ``tinycv``, ``tinycv.nn``, ``nn.functional``, ``nn.init``, ``optim``, ``data``,
Tensor and Module look here when they have no attribute of that name: Python calls ``__getattr__``
only after it has found nothing, so attributes that exist are as fast as before.

Each hint is a line of code, some with a remark (tests/engine/test_torch_names.py runs all), with
    x, y, a, b   Tensors of floats, x and y (2, 3)       labels   two class numbers
    w, loss      a leaf, and a number computed from it   array    a NumPy array of floats
    image        a Tensor (1, 3, 4, 4)                   batch    a Tensor (2, 3, 3)
    images       a NumPy array (2, 3, 4, 4)              model, optimizer, path
The page ../coming_from_pytorch.md explains the differences, also those that raise no error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# what to type instead of a name, by the place where it was looked for
HINTS: dict[str, dict[str, str | tuple[str, str]]] = {
    "tinycv": {
        "FloatTensor": "tinycv.tensor([1.0, 2.0])",
        "LongTensor": "tinycv.tensor([1, 2])",
        "allclose": "np.allclose(x.numpy(), y.numpy())",
        "argsort": "np.argsort(x.numpy(), axis=-1)",
        "as_tensor": "tinycv.Tensor(array)",
        "autograd": "tinycv.grad(loss, w)",
        "bmm": "batch @ batch",
        "bool": 'x.astype("bool")',
        "cat": "tinycv.concatenate([x, y], axis=0)",
        "chunk": "x.split(2)",
        "clamp": "x.clip(0, 1)",
        "clone": "x * 1",
        "compile": ("model(x)", "nothing is compiled"),
        "concat": "tinycv.concatenate([x, y], axis=0)",
        "cuda": ('x.to("gpu")', "python -m tinycv.show.doctor says whether there is one"),
        "device": ('"cpu"', "a device is a string"),
        "dot": "(a * b).sum()",
        "double": "tinycv.float64",
        "empty": "tinycv.zeros(2, 3)",
        "empty_like": "tinycv.zeros_like(x)",
        "equal": "(x == y).all()",
        "flatten": "x.reshape(-1)",
        "float": "tinycv.float32",
        "float16": '"float16"',
        "from_numpy": "tinycv.Tensor(array)",
        "gather": "tinycv.take_along_axis(x, labels[:, None], axis=1)",
        "get_default_dtype": ("tinycv.float32", "it is always the default"),
        "half": '"float16"',
        "hstack": "tinycv.concatenate([x, y], axis=1)",
        "inference_mode": "tinycv.no_grad()",
        "int": '"int32"',
        "int32": '"int32"',
        "is_tensor": "isinstance(x, tinycv.Tensor)",
        "isfinite": "abs(x) < np.inf",
        "isnan": "x != x",
        "linalg": "tinycv.norm(x)",
        "linspace": 'tinycv.tensor(np.linspace(0, 1, 5, dtype="float32"))',
        "load": "tinycv.training.checkpoint.load_model(path, model)",
        "long": "tinycv.int64",
        "masked_fill": "tinycv.where(x > 0, 0.0, x)",
        "masked_select": "x[x > 0]",
        "mm": "x @ y.T",
        "mul": "x * y",
        "multinomial": "np.random.default_rng(0).choice(3, 5)",
        "nan_to_num": "tinycv.where(x == x, x, 0.0)",
        "numel": "x.size",
        "outer": "a[:, None] * b",
        "permute": "x.transpose(1, 0)",
        "pow": "x**2",
        "randint": "tinycv.tensor(np.random.default_rng(0).integers(0, 10, (2, 3)))",
        "randperm": "np.random.default_rng(0).permutation(5)",
        "reshape": "x.reshape(3, 2)",
        "rsqrt": "1 / tinycv.sqrt(abs(x))",
        "save": "tinycv.training.checkpoint.save_model(path, model)",
        "set_default_dtype": (
            "tinycv.zeros(3, dtype=tinycv.float64)",
            "the default is float32",
        ),
        "set_grad_enabled": ("tinycv.no_grad()", "or tinycv.enable_grad()"),
        "sigmoid_": "x = tinycv.sigmoid(x)",
        "softmax": "nn.functional.softmax(x, axis=1)",
        "sort": "tinycv.take_along_axis(x, np.argsort(x.numpy(), axis=-1), axis=-1)",
        "square": "x**2",
        "squeeze": "x.squeeze()",
        "t": "x.T",
        "topk": "np.argsort(-x.numpy(), axis=-1)[:, :2]",
        "transpose": "x.swapaxes(0, 1)",
        "tril": "tinycv.where(np.tri(2, 3) > 0, x, 0.0)",
        "triu": "tinycv.where(np.tri(2, 3, -1) > 0, 0.0, x)",
        "unbind": "list(x)",
        "unique": "np.unique(labels.numpy())",
        "unsqueeze": "x[:, None]",
        "utils": "tinycv.data.DataLoader(images, labels.numpy(), batch_size=2)",
        "vstack": "tinycv.concatenate([x, y], axis=0)",
    },
    "Tensor": {
        "add": "x + y",
        "add_": "x += y",
        "argsort": "np.argsort(x.numpy(), axis=-1)",
        "bmm": "batch @ batch",
        "bool": "x != 0",
        "chunk": "x.split(2)",
        "clamp": "x.clip(0, 1)",
        "clamp_": "x = x.clip(0, 1)",
        "clone": "x * 1",
        "contiguous": ("x", "the layout in memory never matters"),
        "copy_": "x[...] = y",
        "cpu": 'x.to("cpu")',
        "cuda": 'x.to("gpu")',
        "dim": "x.ndim",
        "div": "x / y",
        "div_": "x /= y",
        "dot": "(a * b).sum()",
        "double": "x.astype(tinycv.float64)",
        "eq": "x == y",
        "exp_": "x = x.exp()",
        "fill_": "x[...] = 0.0",
        "flatten": "x.reshape(len(x), -1)",
        "float": "x.astype(tinycv.float32)",
        "gather": "tinycv.take_along_axis(x, labels[:, None], axis=1)",
        "get_device": "x.device",
        "gt": "x > y",
        "half": 'x.astype("float16")',
        "indices": "x.argmax(axis=1)",
        "int": 'x.astype("int32")',
        "is_contiguous": ("True", "the layout in memory never matters"),
        "is_cuda": 'x.device != "cpu"',
        "isnan": "x != x",
        "long": "x.astype(tinycv.int64)",
        "lt": "x < y",
        "mT": "x.swapaxes(-2, -1)",
        "masked_fill": "tinycv.where(x > 0, 0.0, x)",
        "masked_fill_": "x[x > 0] = 0.0",
        "matmul": "x @ y.T",
        "mm": "x @ y.T",
        "mul": "x * y",
        "mul_": "x *= y",
        "narrow": "x[:, 0:2]",
        "nelement": "x.size",
        "numel": "x.size",
        "permute": "x.transpose(1, 0)",
        "pow": "x**2",
        "repeat": "tinycv.concatenate([x, x], axis=0)",
        "repeat_interleave": "x[[0, 0, 1, 1]]",
        "requires_grad_": "x.requires_grad = True",
        "scatter_": "tinycv.one_hot(labels, 3)",
        "sigmoid_": "x = x.sigmoid()",
        "softmax": "nn.functional.softmax(x, axis=1)",
        "log_softmax": "nn.functional.log_softmax(x, axis=1)",
        "sort": "tinycv.take_along_axis(x, np.argsort(x.numpy(), axis=-1), axis=-1)",
        "square": "x**2",
        "sub": "x - y",
        "sub_": "x -= y",
        "t": "x.T",
        "topk": "np.argsort(-x.numpy(), axis=-1)[:, :2]",
        "type": "x.astype(tinycv.float64)",
        "type_as": "x.astype(y.dtype)",
        "unbind": "list(x)",
        "unique": "np.unique(labels.numpy())",
        "unsqueeze_": "x = x.unsqueeze(0)",
        "values": ("x.max(axis=1)", "max and min return the values alone"),
        "view": "x.reshape(3, 2)",
        "view_as": "x.reshape(y.shape)",
        "zero_": "x[...] = 0.0",
    },
    "Module": {
        "add_module": "model.name = nn.Linear(3, 2)",
        "cpu": 'model.to("cpu")',
        "cuda": 'model.to("gpu")',
        "double": "model.to(tinycv.float64)",
        "float": "model.to(tinycv.float32)",
        "half": 'model.to("float16")',
        "register_module": "model.name = nn.Linear(3, 2)",
        "register_parameter": "model.name = nn.Parameter(tinycv.zeros(3))",
    },
    "nn": {
        "AdaptiveAvgPool2d": "image.mean(axis=(2, 3), keepdims=True)",
        "BCELoss": ("nn.BCEWithLogitsLoss()", "it takes scores before the sigmoid"),
        "Conv1d": ("nn.Conv2d(3, 8, (1, 3))", "with inputs (B, C, 1, L)"),
        "Conv3d": ("nn.Conv2d(3, 8, 3)", "for each frame: convolutions are 2-d here"),
        "DataParallel": ("tinycv.parallel.threads(2)", "and pass it to fit(parallel=...)"),
        "Dropout2d": ("nn.Dropout(0.5)", "it drops single numbers, not whole channels"),
        "ELU": "tinycv.where(x > 0, x, tinycv.expm1(x))",
        "GRU": "tinycv.sequence.GRU(3, 4)",
        "GRUCell": "tinycv.sequence.GRUCell(3, 4)",
        "L1Loss": "abs(x - y).mean()",
        "LSTM": "tinycv.sequence.LSTM(3, 4)",
        "LSTMCell": "tinycv.sequence.LSTMCell(3, 4)",
        "LogSoftmax": "nn.functional.log_softmax(x, axis=1)",
        "ModuleDict": ('{"a": nn.Linear(3, 2)}', "a Module finds layers in a plain dict"),
        "ModuleList": ("[nn.Linear(3, 2)]", "a Module finds layers in a plain list"),
        "MultiheadAttention": "tinycv.sequence.MultiheadAttention(4, 2)",
        "NLLLoss": ("nn.CrossEntropyLoss()", "it takes raw scores"),
        "ParameterList": ("[nn.Parameter(tinycv.zeros(3))]", "a Module finds it in a plain list"),
        "RNN": "tinycv.sequence.RNN(3, 4)",
        "RNNCell": "tinycv.sequence.RNNCell(3, 4)",
        "SmoothL1Loss": ("tinycv.sqrt((x - y) ** 2 + 1).mean() - 1", "which is smooth too"),
        "Transformer": (
            "tinycv.sequence.Transformer",
            "it includes embeddings",
        ),
        "TransformerDecoder": "tinycv.sequence.TransformerDecoder",
        "TransformerDecoderLayer": "tinycv.sequence.TransformerDecoderLayer(4, 2)",
        "TransformerEncoder": "tinycv.sequence.TransformerEncoder",
        "TransformerEncoderLayer": "tinycv.sequence.TransformerEncoderLayer(4, 2)",
        "Unflatten": "image.reshape(1, 3, 2, 8)",
        "utils": "tinycv.optim.clip_grad_norm_(model.parameters(), 1.0)",
    },
    "nn.functional": {
        "adaptive_avg_pool2d": "image.mean(axis=(2, 3), keepdims=True)",
        "binary_cross_entropy": "nn.functional.binary_cross_entropy_with_logits(x, y * 0)",
        "cosine_similarity": "(x * y).sum(axis=1) / (x.norm(axis=1) * y.norm(axis=1))",
        "elu": "tinycv.where(x > 0, x, tinycv.expm1(x))",
        "kl_div": ("(y.exp() * (y - x)).sum()", "for log-probabilities x of the model and y"),
        "l1_loss": "abs(x - y).mean()",
        "logsigmoid": "-nn.functional.softplus(-x)",
        "nll_loss": (
            "nn.functional.cross_entropy(x, labels)",
            "it takes raw scores",
        ),
        "normalize": "x / x.norm(axis=1, keepdims=True)",
        "one_hot": "tinycv.one_hot(labels, 3)",
        "scaled_dot_product_attention": (
            "tinycv.sequence.scaled_dot_product_attention(batch, batch, batch)"
        ),
        "smooth_l1_loss": ("tinycv.sqrt((x - y) ** 2 + 1).mean() - 1", "which is smooth too"),
        "unfold": "np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(2, 3))",
        "upsample": "nn.functional.interpolate(image, scale_factor=2)",
    },
    "nn.init": {
        "constant_": "model.bias.data[...] = 0.5",
        "kaiming_normal_": "model.weight = nn.init.kaiming_normal((2, 3))",
        "kaiming_uniform_": "model.weight = nn.init.kaiming_uniform((2, 3))",
        "normal_": "model.weight = nn.init.normal((2, 3), std=0.02)",
        "ones_": "model.bias = nn.init.ones(2)",
        "orthogonal_": "model.weight.data[...] = np.linalg.qr(np.random.randn(3, 2))[0].T",
        "trunc_normal_": "model.weight = nn.init.trunc_normal((2, 3), std=0.02)",
        "uniform_": "model.weight = nn.init.uniform((2, 3), 0.1)",
        "xavier_normal_": "model.weight = nn.init.xavier_normal((2, 3))",
        "xavier_uniform_": "model.weight = nn.init.xavier_uniform((2, 3))",
        "zeros_": "model.bias = nn.init.zeros(2)",
    },
    "optim": {
        "Adadelta": ("tinycv.optim.Adam(model.parameters(), lr=1e-3)", "the nearest one"),
        "Adagrad": ("tinycv.optim.Adam(model.parameters(), lr=1e-3)", "the nearest one"),
        "NAdam": ("tinycv.optim.Adam(model.parameters(), lr=1e-3)", "the nearest one"),
        "RMSprop": (
            "tinycv.optim.Adam(model.parameters(), betas=(0.0, 0.99))",
            "the nearest one",
        ),
        "lr_scheduler": (
            "tinycv.optim.warmup_cosine(100)",
            "the factor of lr by step; pass it to fit(schedule=...)",
        ),
        "swa_utils": "tinycv.optim.EMA(model, decay=0.99)",
    },
    "data": {
        "Dataset": (
            "tinycv.data.DataLoader(images, labels.numpy(), batch_size=2)",
            "it takes arrays",
        ),
        "ImageFolder": 'tinycv.data.image_folder("photos", size=32)',
        "Subset": "images[[0, 1]]",
        "TensorDataset": "tinycv.data.DataLoader(images, labels.numpy(), batch_size=2)",
        "random_split": "tinycv.data.split_by_class(images, labels.numpy(), held_out=0.5)",
        "transforms": "tinycv.data.random_flip(images, np.random.default_rng(0))",
    },
}

# what to type instead of an argument
RENAMED = {
    "correction": "ddof=",
    "dim": "axis=",
    "dim0": "axis1=",
    "dim1": "axis2=",
    "dims": "axis=",
    "input": "the input by position",
    "keepdim": "keepdims=",
    "unbiased": "ddof=1 or ddof=0",
}
# arguments without a counterpart, and why they are not needed
LEFT_OUT = {
    "end_dim": "all axes but the first are flattened; x.reshape(...) does the rest",
    "inplace": "the result is a new Tensor",
    "memory_format": "the layout in memory never matters",
    "non_blocking": "a GPU is waited for only where its values are read",
    "num_workers": "the arrays are in memory",
    "persistent_workers": "the arrays are in memory",
    "pin_memory": "the arrays are in memory",
    "start_dim": "all axes but the first are flattened; x.reshape(...) does the rest",
}


def hint(place: str, name: str) -> str:
    """What to type instead of a name of PyTorch, as the end of a sentence; "" for other names.
    place: where the name was looked for, a key of HINTS."""
    suggestion = HINTS[place].get(name, "")
    if isinstance(suggestion, tuple):
        return f": type {suggestion[0]} ({suggestion[1]})"
    return f": type {suggestion}" if suggestion else ""


def give_hints(module: str) -> None:
    """Give the module of this name a ``__getattr__`` that knows the hints. (In the text of the
    module, it would make type checkers accept any name.)"""
    place = module.removeprefix("tinycv.")

    def __getattr__(name: str) -> Any:
        raise AttributeError(f"module {module!r} has no attribute {name!r}{hint(place, name)}")

    vars(sys.modules[module])["__getattr__"] = __getattr__


def of_object(self: Any, place: str, name: str) -> Any:
    """What ``__getattr__`` of Tensor and Module does: an AttributeError, with a hint if there is
    one. Without one, the error is Python's own, also if a property has raised it."""
    advice = hint(place, name)
    if not advice or hasattr(type(self), name):  # a property of a subclass
        return object.__getattribute__(self, name)
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{advice}")


def renamed(unknown: Iterable[str]) -> str:
    """What to type instead of arguments of PyTorch, as the end of a sentence; "" for others."""
    names = sorted(set(unknown))
    advice = [f"{RENAMED[name]} instead of {name}=" for name in names if name in RENAMED]
    advice += [f"the call without {name}= ({LEFT_OUT[name]})" for name in names if name in LEFT_OUT]
    return f": type {' and '.join(advice)}" if advice else ""


def with_hints(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with a TypeError that says what to type instead of an argument of PyTorch. For
    functions that are not ops (errors.py does this for ops)."""
    takes = set(signature(function).parameters)

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        unknown = [name for name in options if name not in takes] if options else []
        advice = renamed(unknown)
        if advice:
            name = function.__qualname__.removesuffix(".__init__")
            raise TypeError(f"{name}: there is no argument {', '.join(unknown)}{advice}")
        return function(*args, **options)

    return call


class Count(int):
    """The number of entries of a Tensor, ``x.size`` as in NumPy. PyTorch's ``x.size()`` is the
    shape, so calling it says what to type."""

    __slots__ = ()

    def __call__(self, *axis: int) -> int:
        wanted = f"x.shape[{axis[0]}]" if axis else "x.shape"
        raise TypeError(
            f"x.size is the number of entries, as in NumPy, and not a method: type {wanted}"
        )
