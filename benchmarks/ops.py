"""The suite "ops": single ops, the pairs, reductions, AdamW, and the training step of a ViT.

Every row compares tinycv with what one would write instead: PyTorch, the definition of the pair, or
plain NumPy. A kernel or a helper stays in the library only while it wins here. All contenders start
from the same numbers, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contenders import by_tinycv, by_torch
from benchmarks.inputs import INPUTS, OPTIONS, SIZES, TINY, Size, normal, weights
from benchmarks.optimisers import optimisers
from benchmarks.row import Contender, Row, Work
from benchmarks.tasks import Vit
from benchmarks.work import forward_and_backward, pair_by, pytorch, threads

CHAIN = 200  # ops in one chain: so many that the cost of the call around them does not count
KEEPS_NOTHING = {"TINYCV_KEEP_MEMORY": "0"}  # malloc's default: freed memory goes to the system


def rows(quick: bool = False) -> list[Row]:
    """All rows; if quick, one row per group, with tiny sizes."""
    sizes, batches = (TINY, (2,)) if quick else (SIZES, (64, 128))
    groups = (
        one_op(),
        pairs(sizes),
        attention_in_its_layer(sizes),
        long_attention(quick),
        reductions(sizes),
        optimisers(quick),
        train_steps(batches),
    )
    return [row for group in groups for row in (group[:1] if quick else group)]


# ── One op: the cost of recording and of the backward pass, with almost no arithmetic ─────────────


def one_op() -> list[Row]:
    result = []
    for what, back in (("forward and backward", True), ("forward", False)):
        contenders = Contender("tinycv", chain_by_tinycv, (back,)), pytorch(chain_by_torch, back)
        result.append(Row("one op", f"8 x 8, {what}", contenders, of="op", per=CHAIN))
    return result


def chain(x: Any, w: Any, tanh: Callable) -> Any:
    y = x
    for _ in range(CHAIN // 4):
        y = tanh(y * w + x) - w
    return y


def chained(leaves: list, tanh: Callable, back: bool) -> Work:
    if back:
        return forward_and_backward(lambda x, w: chain(x, w, tanh).sum(), leaves)
    return lambda: {"result": chain(*leaves, tanh)}


def chain_by_tinycv(back: bool) -> Work:
    import tinycv

    leaves = [tinycv.Tensor(a, requires_grad=True) for a in normal((8, 8), (8, 8))]
    return chained(leaves, tinycv.tanh, back)


def chain_by_torch(back: bool) -> Work:
    import torch

    torch.set_num_threads(1)
    leaves = [torch.tensor(a, requires_grad=True) for a in normal((8, 8), (8, 8))]
    return chained(leaves, torch.tanh, back)


# ── Pairs: kernel against definition against PyTorch ──────────────────────────────────────────────


def pairs(sizes: dict[str, Size]) -> list[Row]:
    """One row per pair and size. A test makes sure that inputs.py has inputs for every pair."""
    from tinycv.engine.fused import PAIRS

    result = []
    for name in PAIRS:
        for label, size in sizes.items():
            contenders = *kernel_and_definition(name, size), pytorch(pair_by_torch, name, size)
            result.append(Row("pair", f"{name}, {label}", contenders))
    return result


def attention_in_its_layer(sizes: dict[str, Size]) -> list[Row]:
    """Attention as models call it: q, k and v are slices of one product, and the heads are merged
    afterwards. The kernel arranges its result in memory so that merging copies nothing; the row of
    the pair alone cannot show that gain."""
    result = []
    for label, size in sizes.items():
        for is_causal in (False, True):
            halves = [
                Contender(half, layer_by_tinycv, (half, size, is_causal))
                for half in ("kernel", "definition")
            ]
            contenders = *halves, pytorch(layer_by_torch, size, is_causal)
            result.append(Row("MultiheadAttention", label + ", causal" * is_causal, contenders))
    return result


def long_attention(quick: bool = False) -> list[Row]:
    """Attention whose matrix of scores no longer fits the cache. The definition keeps several such
    matrices, so it is left out at 8,192 tokens."""
    name, result = "scaled_dot_product_attention", []
    for tokens in (5, 7) if quick else (1024, 8192):
        size = SIZES["MNIST ViT"]._replace(batch=1, tokens=tokens, width=128, heads=4)
        halves = kernel_and_definition(name, size)
        if tokens > 1024:
            halves = halves[:1]
        contenders = *halves, pytorch(pair_by_torch, name, size)
        label = f"{tokens:,} tokens, 4 heads of 32"
        result.append(Row("long attention", label, contenders, memory=True))
    return result


def kernel_and_definition(name: str, size: Size) -> list[Contender]:
    return [
        Contender(half, pair_by_tinycv, (name, half, size)) for half in ("kernel", "definition")
    ]


def pair_by_tinycv(name: str, half: str, size: Size) -> Work:
    from tinycv import Tensor
    from tinycv.engine.fused import PAIRS

    function = partial(
        PAIRS[name] if half == "kernel" else PAIRS[name].definition, **OPTIONS.get(name, {})
    )
    return pair_by(function, INPUTS[name](size), Tensor)


def pair_by_torch(name: str, size: Size) -> Work:
    import torch

    torch.set_num_threads(threads())
    return pair_by(torch_function(name), INPUTS[name](size), torch.tensor)


def layer_by_tinycv(half: str, size: Size, is_causal: bool) -> Work:
    """For half = "definition", the module's attention is replaced and not restored, because the
    process ends with this row."""
    from tinycv import Tensor
    from tinycv.sequence import attention

    if half == "definition":
        pair = attention.scaled_dot_product_attention
        attention.scaled_dot_product_attention = pair.definition
    layer = attention.MultiheadAttention(size.width, size.heads)
    layer.load_state_dict(weights({name: p.shape for name, p in layer.named_parameters()}))
    x = normal((size.batch, size.tokens, size.width))
    return pair_by(partial(layer, is_causal=is_causal), x, Tensor)


def layer_by_torch(size: Size, is_causal: bool) -> Work:
    import torch

    torch.set_num_threads(threads())
    layer = torch.nn.MultiheadAttention(size.width, size.heads, batch_first=True)
    start = weights({name: tuple(p.shape) for name, p in layer.named_parameters()})
    layer.load_state_dict({name: torch.from_numpy(a) for name, a in start.items()})
    mask = torch.nn.Transformer.generate_square_subsequent_mask(size.tokens) if is_causal else None

    def attend(x: Any) -> Any:
        return layer(x, x, x, need_weights=False, attn_mask=mask, is_causal=is_causal)

    x = normal((size.batch, size.tokens, size.width))
    return pair_by(attend, x, torch.tensor)


def torch_function(name: str) -> Callable:
    """PyTorch's counterpart of a pair, with the pair's arguments."""
    import torch

    F = torch.nn.functional
    adapted = {  # where the arguments differ
        "softmax": lambda x: F.softmax(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1),
        "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
        "lstm": torch_lstm,
        "batch_standard": lambda x, count, weight, bias: F.batch_norm(
            x, None, None, weight, bias, training=True
        ),
    }
    return partial(adapted.get(name) or getattr(F, name), **OPTIONS.get(name, {}))


def torch_lstm(x: Any, h0: Any, c0: Any, *weights: Any) -> tuple:
    """The function that torch.nn.LSTM calls, with the weights as arguments."""
    import torch

    y, _, c = torch._VF.lstm(
        x, (h0[None], c0[None]), list(weights), True, 1, 0.0, True, False, False
    )
    return y, c[0]


# ── Reductions: the helpers of engine/reduce.py against plain NumPy ───────────────────────────────

PLAIN = {
    "sum_last": lambda xp, a: a.sum(axis=-1, keepdims=True),
    "dot_last": lambda xp, a, b: (a * b).sum(axis=-1, keepdims=True),
    "sum_rows": lambda xp, a: a.sum(axis=0),
    "max_last": lambda xp, a: a.max(axis=-1, keepdims=True),
}


def reductions(sizes: dict[str, Size]) -> list[Row]:
    result = []
    for label, s in sizes.items():
        rows, scores = (s.batch * s.tokens, s.width), (s.batch, s.heads, s.tokens, s.tokens)
        heads = (s.batch, s.heads, s.tokens, s.width // s.heads)
        reductions_used = [
            ("sum_last", rows),
            ("sum_last", scores),
            ("dot_last", rows),
            ("dot_last", heads),
            ("sum_rows", rows),
            ("sum_rows", (rows[0], s.mlp)),
            ("max_last", scores),
            ("max_last", (s.batch, s.classes)),
        ]
        for name, shape in reductions_used:
            contenders = (
                Contender("helper", reduction, (name, True, shape)),
                Contender("plain NumPy", reduction, (name, False, shape)),
            )
            sides = "x".join(map(str, shape))
            result.append(Row("reduce", f"{name} {sides}, {label}", contenders))
    return result


def reduction(name: str, helper: bool, shape: tuple) -> Work:
    # imported for plain NumPy too, so that both contenders have the same malloc setting
    from tinycv.engine import reduce

    function = getattr(reduce, name) if helper else PLAIN[name]
    arrays = normal(*[shape] * (2 if name == "dot_last" else 1))
    return lambda: {"result": function(np, *arrays)}


# ── A training step: forward, backward and Adam, with the ViT of demos/06_vit.py ──────────────────


def train_steps(batches: tuple[int, ...]) -> list[Row]:
    """What tinycv's malloc setting gains. The training steps of other models are in "models"."""
    result = []
    for batch in batches:
        task = Vit(batch)
        contenders = (
            Contender("tinycv", by_tinycv, (task, True)),
            pytorch(by_torch, task, True),
            Contender("tinycv, KEEP_MEMORY=0", by_tinycv, (task, True), KEEPS_NOTHING),
        )
        result.append(Row("ViT train step", f"ViT(28, 7, 10), batch {batch}", contenders, "step"))
    return result
