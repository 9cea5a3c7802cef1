"""The benchmarked models for HIPS autograd and MyGrad: networks as functions of a dict of weights,
and Adam.

Neither library has modules or Adam. ``lib`` holds the few functions that the two libraries name
differently, each written in the fastest way for its library. Linear layers multiply all tokens of a
batch as the rows of one matrix, because BLAS is fastest at that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import tasks
from benchmarks.row import Work
from benchmarks.work import LR

Shapes, Weights = dict[str, tuple], dict[str, Any]
HIDDEN = -1e30  # a score whose softmax weight is 0
# MyGrad treats a Python float as float64, which would turn all results into float64
f32 = np.float32


def network(task: tasks.Task, lib: Any, w: Weights, x: Any) -> Any:
    return NETWORKS[type(task)](task, lib, w, x)


def loss(task: tasks.Task, lib: Any, w: Weights, x: Any, target: Any = None) -> Any:
    if isinstance(task, tasks.Score):
        return match_score(task, lib, w, x)
    scores = network(task, lib, w, x)
    return lib.cross_entropy(scores.reshape(-1, scores.shape[-1]), target.reshape(-1))


def linear(w: Weights, name: str | int, x: Any) -> Any:
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    y = rows @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], -1)


def mlp(task: tasks.Mlp, lib: Any, w: Weights, x: Any) -> Any:
    last = len(task.widths) - 2
    for i in range(last):
        x = lib.relu(linear(w, 2 * i, x))
    return linear(w, 2 * last, x)


def lstm(task: tasks.Lstm, lib: Any, w: Weights, x: Any) -> Any:
    into, across = w["lstm.weight_ih_l0"].T, w["lstm.weight_hh_l0"].T
    bias = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    h = c = np.zeros((task.batch, task.hidden), np.float32)
    for t in range(task.steps):
        i, f, g, o = lib.split(x[:, t] @ into + h @ across + bias, 4)
        c = lib.sigmoid(f) * c + lib.sigmoid(i) * lib.np.tanh(g)
        h = lib.sigmoid(o) * lib.np.tanh(c)
    return linear(w, "head", h)


def layer_norm(lib: Any, w: Weights, name: str, x: Any) -> Any:
    centred = x - lib.mean(x, -1)
    scale = lib.np.sqrt(lib.mean(centred * centred, -1) + f32(1e-5))
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(lib: Any, w: Weights, name: str, x: Any, heads: int, mask: Any = None) -> Any:
    b, t, e = x.shape
    rows = x.reshape(b * t, e) @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]
    q, k, v = (
        lib.np.transpose(part.reshape(b, t, heads, e // heads), (0, 2, 1, 3))
        for part in lib.split(rows, 3)
    )
    score = lib.np.matmul(q, lib.np.transpose(k, (0, 1, 3, 2))) * f32(1 / sqrt(e // heads))
    weight = lib.softmax(score if mask is None else score + mask)  # (B, H, T, T)
    y = lib.np.transpose(lib.np.matmul(weight, v), (0, 2, 1, 3)).reshape(b, t, e)
    return linear(w, f"{name}.out_proj", y)


def transformer(task: tasks.Transformer, lib: Any, w: Weights, ids: Any) -> Any:
    mask = np.triu(np.full((task.tokens, task.tokens), HIDDEN, np.float32), 1)
    x = w["embed.weight"][ids] + w["position"]
    for i in range(task.layers):
        at = f"blocks.{i}"
        attended = attention(lib, w, f"{at}.self_attn", x, task.heads, mask)
        x = layer_norm(lib, w, f"{at}.norm1", x + attended)
        hidden = lib.relu(linear(w, f"{at}.linear1", x))
        x = layer_norm(lib, w, f"{at}.norm2", x + linear(w, f"{at}.linear2", hidden))
    return linear(w, "head", x)


def vit(task: tasks.Vit, lib: Any, w: Weights, images: Any) -> Any:
    n, p = task.image // task.patch, task.patch
    cut = images.reshape(task.batch, n, p, n, p).transpose(0, 1, 3, 2, 4)
    patches = cut.reshape(task.batch, n * n, p * p)
    cls = w["cls_token"] + np.zeros((task.batch, 1, 1), np.float32)  # one for each image
    x = lib.np.concatenate([cls, linear(w, "patch_embed", patches)], axis=1) + w["pos_embed"]
    for i in range(task.layers):
        at = f"blocks.{i}"
        normed = layer_norm(lib, w, f"{at}.norm1", x)
        x = x + attention(lib, w, f"{at}.self_attn", normed, task.heads)
        normed = layer_norm(lib, w, f"{at}.norm2", x)
        hidden = lib.gelu(linear(w, f"{at}.linear1", normed))
        x = x + linear(w, f"{at}.linear2", hidden)
    return linear(w, "head", layer_norm(lib, w, "norm", x[:, 0]))


def lenet(task: tasks.LeNet, lib: Any, w: Weights, x: Any) -> Any:
    for name in ("conv1", "conv2"):
        x = lib.relu(lib.conv(x, w[f"{name}.weight"]) + w[f"{name}.bias"].reshape(1, -1, 1, 1))
        b, c, side, _ = x.shape
        cut = x.reshape(b, c, side // 2, 2, side // 2, 2)
        # mean pooling of 2 x 2
        x = cut.sum(axis=(3, 5)) * f32(0.25)
    x = x.reshape(task.batch, -1)
    return linear(w, "fc3", lib.relu(linear(w, "fc2", lib.relu(linear(w, "fc1", x)))))


def score(task: tasks.Score, lib: Any, w: Weights, x: Any) -> Any:
    return linear(w, 4, lib.softplus(linear(w, 2, lib.softplus(linear(w, 0, x)))))


def match_score(task: tasks.Score, lib: Any, w: Weights, x: Any) -> Any:
    pull, scores = lib.vjp(lambda x: score(task, lib, w, x))(x)  # (B, 2)
    unit = np.eye(2, dtype=np.float32)
    trace = sum(pull(np.tile(unit[i], (task.batch, 1)))[:, i] for i in range(2))
    return ((scores * scores).sum(axis=-1) * 0.5 + trace).sum() * (1 / task.batch)


NETWORKS: dict[type, Callable[[Any, Any, Weights, Any], Any]] = {
    tasks.Mlp: mlp,
    tasks.Lstm: lstm,
    tasks.Transformer: transformer,
    tasks.Vit: vit,
    tasks.LeNet: lenet,
    tasks.Score: score,
}


# ── The two libraries ─────────────────────────────────────────────────────────────────────────────


def autograd_parts() -> SimpleNamespace:
    import autograd.numpy as anp
    from autograd import make_vjp
    from autograd.extend import defvjp, primitive
    from autograd.scipy.signal import convolve
    from autograd.scipy.special import logsumexp
    from scipy import special

    erf = primitive(special.erf)  # autograd's own erf makes gradients float64
    defvjp(erf, lambda y, x: lambda g: g * (2 / sqrt(np.pi)) * anp.exp(-x * x))

    def softmax(x: Any) -> Any:
        e = anp.exp(x - anp.max(x, axis=-1, keepdims=True))
        return e / anp.sum(e, axis=-1, keepdims=True)

    def cross_entropy(scores: Any, labels: Any) -> Any:
        rows = np.arange(len(labels))
        return (logsumexp(scores, axis=-1) - scores[rows, labels]).sum() * (1 / len(labels))

    # the gradient of anp.mean divides by an int64, which turns float32 into float64
    def mean(x: Any, axis: int) -> Any:
        return anp.sum(x, axis=axis, keepdims=True) * (1 / x.shape[axis])

    return SimpleNamespace(
        np=anp,
        relu=lambda x: anp.maximum(x, 0),
        sigmoid=lambda x: 0.5 * anp.tanh(0.5 * x) + 0.5,
        softmax=softmax,
        split=lambda x, n: anp.split(x, n, axis=-1),
        cross_entropy=cross_entropy,
        mean=mean,
        vjp=make_vjp,
        gelu=lambda x: 0.5 * x * (1 + erf(x * (1 / sqrt(2)))),
        softplus=lambda x: anp.logaddexp(0, x),
        conv=lambda x, w: convolve(
            x, w[:, :, ::-1, ::-1], axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid"
        ),
    )


def mygrad_parts() -> SimpleNamespace:
    import mygrad
    from mygrad import nnet

    def split(x: Any, n: int) -> list:
        width = x.shape[-1] // n
        return [x[..., i * width : (i + 1) * width] for i in range(n)]

    return SimpleNamespace(
        np=mygrad,
        relu=nnet.relu,
        sigmoid=nnet.sigmoid,
        softmax=nnet.softmax,
        split=split,
        cross_entropy=nnet.softmax_crossentropy,
        mean=lambda x, axis: x.mean(axis=axis, keepdims=True),
        conv=lambda x, w: nnet.conv_nd(x, w, stride=1),
    )


# ── Training steps and inference ──────────────────────────────────────────────────────────────────


def by_autograd(task: tasks.Task, train: bool, shapes: Shapes) -> Work:
    """Training steps or inference by HIPS autograd. shapes: those of the parameters, by PyTorch's
    names, as networks.shapes_of returns them."""
    from autograd import value_and_grad

    lib = autograd_parts()
    start, batch = task.weights(shapes), task.examples()
    if not train:
        return lambda: {"result": network(task, lib, start, batch[0])}
    loss_and_gradients = value_and_grad(partial(loss, task, lib))
    adam = Adam(start, LR)

    def work() -> dict[str, Any]:
        value, gradients = loss_and_gradients(start, *batch)
        adam.step(gradients)
        return {"loss": value, **named(gradients)}

    return work


def by_mygrad(task: tasks.Task, train: bool, shapes: Shapes) -> Work:
    import mygrad

    # MyGrad's manual recommends this for speed
    mygrad.turn_memory_guarding_off()
    lib = mygrad_parts()
    start, batch = task.weights(shapes), task.examples()
    adam = Adam(start, LR)

    def tensors() -> Weights:
        return {name: mygrad.tensor(a, copy=False) for name, a in start.items()}

    fixed = tensors()

    def infer() -> dict[str, Any]:
        with mygrad.no_autodiff:
            return {"result": network(task, lib, fixed, batch[0]).data}

    def work() -> dict[str, Any]:
        leaves = tensors()
        value = loss(task, lib, leaves, *batch)
        value.backward()
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        adam.step(gradients)
        return {"loss": value.data, **named(gradients)}

    return work if train else infer


def named(gradients: Weights) -> dict[str, Any]:
    return {f"gradient of {name}": gradient for name, gradient in gradients.items()}


class Adam:
    """Adam (Kingma & Ba 2015, end of section 2) with PyTorch's defaults. It changes the arrays of
    ``weights`` in place."""

    def __init__(self, weights: Mapping[str, np.ndarray], lr: float):
        self.weights, self.lr, self.steps = weights, lr, 0
        self.m = {name: np.zeros_like(w) for name, w in weights.items()}
        self.v = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, gradients: Mapping[str, np.ndarray]) -> None:
        self.steps += 1
        correction = sqrt(1 - 0.999**self.steps)
        for name, g in gradients.items():
            m, v = self.m[name], self.v[name]
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            self.weights[name] -= (
                self.lr * correction / (1 - 0.9**self.steps) * m / (np.sqrt(v) + 1e-8 * correction)
            )
