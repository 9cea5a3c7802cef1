"""Mutation tests of the gradient check: it fails for an engine with one mistake in it."""

from __future__ import annotations

import heapq
from math import prod

import numpy as np
import pytest

from tinycv import Tensor
from tinycv.certificate.cases import cases
from tinycv.engine import backend, backward
from tinycv.engine.check import CertificateError, agree, certify
from tinycv.engine.fused import PAIRS
from tinycv.engine.record import OPS

PULLS = [(name, i) for name, op in OPS.items() for i, pull in enumerate(op.row.pulls) if pull]
# Rows whose pull needs an input only to see on which side of a corner, or on which step, it lies:
# the derivative of the pull with respect to this input is 0.
SIDES_ONLY = {"remainder", "relu", "abs", "where", "maximum", "minimum", "clip", "max", "min"}
CURVED = [
    (name, i)
    for name, i in PULLS
    if name not in SIDES_ONLY | {"einsum"}
    and any(n == "y" or n in OPS[name].row.inputs for n in OPS[name].row.needs[i])
]


def certified(name: str, order: int = 2) -> None:
    for case in cases(name):
        certify(case.call, *case.inputs, order=order, name=name)


def refused(name: str, what: str | None = None) -> None:
    with pytest.raises(CertificateError, match=what):
        certified(name)


def replace_pull(monkeypatch: pytest.MonkeyPatch, name: str, i: int, mutate) -> None:
    """Replace the row's pull for input i by mutate(pull). The row still saves what the true pull
    needs."""
    pulls = OPS[name].row.pulls
    monkeypatch.setattr(OPS[name].row, "pulls", (*pulls[:i], mutate(pulls[i]), *pulls[i + 1 :]))


def detached(x):
    return x.detach() if isinstance(x, Tensor) else x


# ── mistakes in the table ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name, i", PULLS)
def test_a_flipped_sign_is_caught(monkeypatch, name, i):
    replace_pull(monkeypatch, name, i, lambda pull: lambda g, *saved: -pull(g, *saved))
    refused(name)


@pytest.mark.parametrize("name, i", PULLS)
def test_a_factor_that_is_wrong_by_a_thousandth_is_caught(monkeypatch, name, i):
    replace_pull(monkeypatch, name, i, lambda pull: lambda g, *saved: pull(g * 1.001, *saved))
    refused(name)


@pytest.mark.parametrize("name, i", PULLS)
def test_a_pull_that_cannot_be_differentiated_is_caught_at_order_2(monkeypatch, name, i):
    replace_pull(monkeypatch, name, i, lambda pull: lambda g, *saved: detached(pull(g, *saved)))
    certified(name, order=1)
    refused(name, "order 2")


@pytest.mark.parametrize("name, i", CURVED)
def test_a_saved_value_that_is_taken_for_a_constant_is_caught_at_order_2(monkeypatch, name, i):
    replace_pull(
        monkeypatch, name, i, lambda pull: lambda g, *saved: pull(g, *map(detached, saved))
    )
    certified(name, order=1)
    refused(name, "order 2")


@pytest.mark.parametrize(
    "name, options", [("mean", "axis"), ("sum", "axis"), ("cumsum", "axis"), ("flip", "axis")]
)
def test_an_ignored_axis_is_caught(monkeypatch, name, options):
    at = OPS[name].row.needs[0].index(options)
    replace_pull(
        monkeypatch,
        name,
        0,
        lambda pull: lambda g, *saved: pull(g, *saved[:at], 0, *saved[at + 1 :]),
    )
    with pytest.raises((CertificateError, ValueError, IndexError)):  # a shape may not even fit
        certified(name)


def test_an_into_with_a_flipped_sign_is_caught(monkeypatch):
    into = OPS["getitem"].row.into[0]
    monkeypatch.setattr(
        OPS["getitem"].row, "into", (lambda buffer, p, g, *saved: into(buffer, p, -g, *saved),)
    )
    refused("getitem")


def test_a_repeated_index_that_counts_only_once_is_caught(monkeypatch):
    def forgetful(xp, target, index, value):
        target[index] += value

    monkeypatch.setattr(backend, "add_at", forgetful)
    refused("getitem")
    refused("take_along_axis")
    refused("scatter")


# ── mistakes in the walk ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["add", "mul", "where", "einsum", "expand", "matmul"])
def test_broadcasting_that_is_cut_off_and_not_summed_is_caught(monkeypatch, name):
    monkeypatch.setattr(
        backward, "unbroadcast", lambda g, shape: g.reshape((-1,))[: prod(shape)].reshape(shape)
    )
    # ValueError where the array is empty, so that nothing can be cut off
    with pytest.raises((CertificateError, ValueError)):
        certified(name)


def diamond(x):
    y = x.exp()
    return y * y.tanh() + y


ORDERS = {
    "oldest first": (lambda heap, item: heapq.heappush(heap, (-item[0], item[1])), heapq.heappop),
    "first come, first served": (list.append, lambda heap: heap.pop(0)),
    "last come, first served": (list.append, list.pop),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_walk_that_does_not_visit_the_latest_node_first_is_caught(monkeypatch, order):
    certify(diamond, np.array([0.3, -0.2]))
    push, pop = ORDERS[order]
    monkeypatch.setattr(backward, "heappush", push)
    monkeypatch.setattr(backward, "heappop", pop)
    # RuntimeError where a Node is visited twice: it has already released what it saved.
    with pytest.raises((CertificateError, RuntimeError)):
        certify(diamond, np.array([0.3, -0.2]))


def test_a_forgotten_path_is_caught(monkeypatch):
    send = backward.add_piece

    def first_piece_only(piece, parent, grads, *rest):
        if parent not in grads:
            send(piece, parent, grads, *rest)

    monkeypatch.setattr(backward, "add_piece", first_piece_only)
    with pytest.raises(CertificateError):
        certify(diamond, np.array([0.3, -0.2]))


# ── mistakes in a pair ───────────────────────────────────────────────────────────────────────────
# how many inputs have a gradient, if not only the first
INPUTS = {
    "linear": 3,
    "layer_norm": 3,
    "scaled_dot_product_attention": 3,
    "cross_entropy": 2,
    "lstm": 7,
}
KERNELS = [(name, at) for name in sorted(PAIRS) for at in range(INPUTS.get(name, 1))]


def scaled(piece, factor):
    if piece is None:
        return None
    return (lambda: piece() * factor) if callable(piece) else piece * factor


@pytest.mark.parametrize("name, at", KERNELS)
def test_a_kernel_with_a_wrong_factor_in_its_pull_is_caught(monkeypatch, name, at):
    run = PAIRS[name].run

    def mutant(xp, *args):
        y, pull = run(xp, *args)

        def wrong(g):
            pieces = pull(g)
            pieces = pieces if isinstance(pieces, tuple) else (pieces,)
            return tuple(scaled(p, 1.001 if i == at else 1.0) for i, p in enumerate(pieces))

        return y, wrong

    monkeypatch.setattr(PAIRS[name], "run", mutant)
    refused(name)
    with pytest.raises(CertificateError, match=f"gradient of input {at}, by definition"):
        for kernel, definition in zip(
            cases(name), cases(name, PAIRS[name].definition), strict=True
        ):
            agree(kernel.call, definition.call, *kernel.inputs)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_definition_that_cannot_be_differentiated_twice_is_caught(monkeypatch, name):
    definition = PAIRS[name].definition

    def mutant(x, *rest):
        y, nothing = definition(x.detach(), *rest), 0 * x.sum()
        return tuple(part + nothing for part in y) if isinstance(y, tuple) else y + nothing

    monkeypatch.setattr(PAIRS[name], "definition", mutant)
    monkeypatch.setattr(PAIRS[name], "recorded_pull", None)
    certified(name, order=1)  # at first order only the kernel runs, which is correct
    refused(name, "recorded against plain")


@pytest.mark.parametrize("name", sorted(n for n, pair in PAIRS.items() if pair.recorded_pull))
def test_a_derivative_that_takes_an_argument_for_a_constant_is_caught(monkeypatch, name):
    pull = PAIRS[name].recorded_pull

    def mutant(g, *args):
        return pull(g, *map(detached, args))

    monkeypatch.setattr(PAIRS[name], "recorded_pull", mutant)
    certified(name, order=1)
    refused(name, "order 2")
