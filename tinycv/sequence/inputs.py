"""Argument checks of the sequence chapter: tokens (B, T, E), ids (B, T), and the state that a step
returns.

The checks look only at types, shapes and dtypes, so they do not have to wait for a GPU
(whole_numbers does).
Shapes: B batch, T tokens, S tokens of the encoder output, E width, H heads, D width of a head.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinycv.data.inputs import whole
from tinycv.engine.arguments import flag, number_kind, shown, size
from tinycv.engine.tensor import Tensor
from tinycv.nn.checks import MOST_LAYERS

Ids = Tensor | np.ndarray  # integers: the numbers of symbols in a vocabulary
State = Tensor | tuple[Tensor, ...]  # of recurrent layers: h, or (h, c) for an LSTM


def is_numeric(x: Any) -> bool:
    """Whether x is an array or Tensor of real numbers."""
    return hasattr(x, "shape") and number_kind(x) in ("f", "i", "u", "b")


def check_tokens(owner: str, may_be_none: tuple[str, ...] = (), **tokens: Any) -> None:
    """Raises TypeError or ValueError for tokens, passed by name, that are not (B, T, E)."""
    for name, x in tokens.items():
        if x is None and name in may_be_none:
            continue
        if x is None or not is_numeric(x):
            raise TypeError(
                f"{owner}: {name} is {shown(x)}; it must be a Tensor of numbers, (B, T, E)"
            )
        if len(x.shape) != 3:
            raise ValueError(
                f"{owner}: {name} has shape {x.shape}; it must have three axes, (B, T, E)"
            )


def score_shape(q: Any, k: Any, v: Any) -> tuple[int, ...]:
    """The shape of the scores, (..., T, S). Raises ValueError if the shapes of queries, keys and
    values do not fit together."""
    are_matrices = all([is_numeric(x) and len(x.shape) > 1 for x in (q, k, v)])
    if are_matrices and q.shape[-1] == k.shape[-1] > 0 and k.shape[-2] == v.shape[-2]:
        lead = common_shape(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        if lead is not None:
            return *lead, q.shape[-2], k.shape[-2]
    numeric = all(is_numeric(x) for x in (q, k, v))
    description = ", ".join(
        f"{name} {x.shape if numeric else shown(x)}"
        for name, x in zip("qkv", (q, k, v), strict=True)
    )
    raise (ValueError if numeric else TypeError)(
        f"{description}: they must be Tensors of numbers, (..., T, D), (..., S, D) and (..., S, "
        "Dv), the axes before the last two equal or 1, and D, the width of a head, at least 1"
    )


def common_shape(*shapes: tuple) -> tuple | None:
    """The shape to which all shapes broadcast, or None."""
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def check_axes(owner: str, x: Any, letters: str) -> None:
    """Raises TypeError or ValueError unless x has as many axes as there are letters."""
    if not is_numeric(x):
        raise TypeError(f"{owner}: x is {shown(x)}; it must be a Tensor of numbers, {letters}")
    if len(x.shape) != letters.count(",") + 1:
        named = {2: "two", 3: "three"}[letters.count(",") + 1]
        raise ValueError(f"{owner}: x has shape {x.shape}; it must have {named} axes, {letters}")


def check_ids(ids: Any, what: str, least: int = 1) -> None:
    """Raises unless ids are integers (B, at least ``least``). Without a symbol there would be no
    state to start from and nothing to score."""
    if number_kind(ids) not in ("i", "u") or len(ids.shape) != 2:
        raise TypeError(
            f"{what} is {shown(ids)}; it must be integers of shape (batch, symbols){ids_hint(ids)}"
        )
    if ids.shape[1] < least:
        lack = "no symbol at all" if least == 1 else "too few symbols"
        raise ValueError(
            f"{what} has shape {ids.shape}, {lack}; a source needs at least EOS, a target SOS"
            f"{'' if least == 1 else ' and one more symbol'}"
        )


def ids_hint(value: Any) -> str:
    """How texts become ids, if ``value`` is a text or a list of texts; otherwise nothing."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not any(isinstance(text, str) for text in texts):
        return ""
    return "; a tokenizer makes them from texts, as in WordTokenizer(words).encode(texts, length)"


def check_last_tokens(tokens: Any, what: str) -> None:
    """Raises unless tokens, the symbols written last, are integers (B,)."""
    if number_kind(tokens) not in ("i", "u") or len(tokens.shape) != 1:
        raise TypeError(f"{what} is {shown(tokens)}; it must be integers of shape (B,)")


def whole_numbers(values: Any, what: str) -> np.ndarray:
    """values as integers (B,) on the host; an empty list is allowed. Raises TypeError or ValueError
    for anything else."""
    if isinstance(values, (list, tuple)):
        values = np.array(
            [size(v, f"{what}[{i}]", -(2**63)) for i, v in enumerate(values)], np.int64
        )
    if number_kind(values) not in ("i", "u") or values.ndim != 1:
        raise TypeError(f"{what} is {shown(values)}; it must be integers of shape (B,)")
    return Tensor(values).numpy()


def state_of(value: Any, what: str, *names: str) -> dict:
    """The state that a model carries from symbol to symbol. Raises unless value is a dict with
    these entries, as ``start`` returned it."""
    if not isinstance(value, dict):
        raise TypeError(f"{what} is {shown(value)}; it must be the dict that start(...) returned")
    missing = [name for name in names if name not in value]
    if missing:
        raise ValueError(
            f"{what} has no {missing[0]!r}; it must be the dict that start(...) returned, with "
            f"{', '.join(map(repr, names))}"
        )
    return value


def check_past(past: Any, shape: tuple) -> None:
    """Raises TypeError or ValueError unless past is None, or (keys, values) of the same shape (B,
    H, S, D). shape: (B, H, D)."""
    if past is None:
        return
    b, h, d = shape
    pair = (
        isinstance(past, (tuple, list))
        and len(past) == 2
        and all(is_numeric(part) for part in past)
    )
    if (
        not pair
        or any(len(x.shape) != 4 or (*x.shape[:2], x.shape[3]) != shape for x in past)
        or (past[0].shape != past[1].shape)
    ):
        description = [shown(x) for x in past] if pair else shown(past)
        raise (ValueError if pair else TypeError)(
            f"MultiheadAttention.follow: past is {description}; it must be None, or (keys, "
            f"values) of the tokens before, ({b}, {h}, S, {d}) each"
        )


def check_remembered(remembered: Any, heads: int, width: int) -> None:
    """Raises TypeError or ValueError for what cannot be the (keys, values) that ``remember``
    returned."""
    pair = (
        isinstance(remembered, (tuple, list))
        and len(remembered) == 2
        and all(map(is_numeric, remembered))
    )
    if (
        not pair
        or any(len(x.shape) != 4 or (x.shape[1], x.shape[3]) != (heads, width) for x in remembered)
        or (remembered[0].shape != remembered[1].shape)
    ):
        description = [shown(x) for x in remembered] if pair else shown(remembered)
        raise (ValueError if pair else TypeError)(
            f"MultiheadAttention.recall: remembered is {description}; it must be the (keys, "
            f"values) that remember(memory) returned, (B, {heads}, S, {width}) each"
        )


def check_one_per_block(owner: str, layers: list, **lists: Any) -> None:
    """Raises TypeError or ValueError for lists, passed by name, that do not have one entry per
    block."""
    for name, value in lists.items():
        if not isinstance(value, (list, tuple)) or len(value) != len(layers):
            raise (ValueError if isinstance(value, (list, tuple)) else TypeError)(
                f"{owner}: {name} is {shown(value)}; it must be a list of {len(layers)}, one entry "
                "per block"
            )


def length_of(owner: str, layers: list, past: Any, batch: int) -> int:
    """The number of tokens that the blocks have read. past: one entry per block, as ``step``
    returned it, or None at the start."""
    check_one_per_block(owner, layers, past=past)
    first = layers[0].self_attn
    check_past(past[0], (batch, first.num_heads, first.embed_dim // first.num_heads))
    return 0 if past[0] is None else past[0][0].shape[2]


def require_batch_first(batch_first: Any, owner: str) -> None:
    """Raises for batch_first=False, the default of PyTorch. Here the batch is always the first
    axis."""
    if not flag(batch_first, f"{owner}: batch_first"):
        raise ValueError(
            f"{owner}: batch_first is False; it must be True: tokens are (B, T, E). Convert (T, B, "
            "E) with x.swapaxes(0, 1)"
        )


def checked_sizes(
    owner: str, vocabulary: Any, embedding_dim: Any, hidden_size: Any, num_layers: Any
) -> tuple[int, int, int, int]:
    """The sizes of an encoder or decoder as Python ints."""
    return (
        size(vocabulary, f"{owner}: vocabulary", 1),
        size(embedding_dim, f"{owner}: embedding_dim", 1),
        size(hidden_size, f"{owner}: hidden_size", 1),
        whole(num_layers, f"{owner}: num_layers", 1, MOST_LAYERS),
    )
