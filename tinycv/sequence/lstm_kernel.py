"""The LSTM's kernel on bare arrays: the sequence forward, and the walk back along it. lstm.py is
what it must equal.

Everything is kept as columns, (4H, B) in place of (B, 4H). One product then makes all gates of a
step, and each gate lies in one piece of memory, through which NumPy runs several times faster than
through pieces of rows. The product is of [W_h W_x b] with the column [h; x; 1]: no sum is left to
do, forward or back. A step's block of memory holds

    o, i, f, g, c        g the candidate, c the cell before:
                         then i g and f c are one product, of [i; f] and [g; c]

PyTorch's order, i, f, g, o, is rolled on by one. One tanh makes all gates, since σ(z) = (1 + tanh(z
/ 2)) / 2: the weights of o, i and f are halved.

Where a sequence is over, o, i and g are set to 0 and f to 1: then the cell stays as it is. h, which
is not made of the h before, has to be carried, forward and back. x counts as 0 there, and so does
every slope of the gates.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tinycv.engine.reduce import BLOCK, blocks


def forward(xp, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, mask):
    """Every column, (T + 1, H + I + 1, B), the last with h alone; every block; tanh of every cell;
    where sequences are over, (T, B) or None."""
    (steps, batch, width), hidden, dtype = x.shape, h0.shape[1], x.dtype
    weight = joined(xp, weight_ih, weight_hh, bias_ih, bias_hh)
    # [h; x; 1] before each step
    column = xp.empty((steps + 1, hidden + width + 1, batch), dtype)
    x = x if mask is None else xp.where(mask, x, 0)
    column[0, :hidden], column[:-1, hidden:-1], column[:, -1] = h0.T, x.swapaxes(1, 2), 1
    block = xp.empty((steps + 1, 5, hidden, batch), dtype)
    shown = xp.empty((steps, hidden, batch), dtype)
    block[0, 4], flat = c0.T, block.reshape(steps + 1, 5 * hidden, batch)
    parts, over = xp.empty((2, hidden, batch), dtype), None if mask is None else ~mask[..., 0]
    for t, (before, now, gates, after, tanh_c, h) in enumerate(
        zip(
            column,
            block,
            flat[:, : 4 * hidden],
            block[1:, 4],
            shown,
            column[1:, :hidden],
            strict=False,
        )
    ):
        xp.matmul(weight, before, out=gates)
        xp.tanh(gates, out=gates)
        sigmoids = now[:3]
        sigmoids *= 0.5
        sigmoids += 0.5
        if over is not None:
            xp.copyto(now[:2], 0, where=over[t])
            xp.copyto(now[2], 1, where=over[t])
            # the candidate is NaN where h is
            xp.copyto(now[3], 0, where=over[t])
        xp.multiply(now[1:3], now[3:5], out=parts)
        xp.add(parts[0], parts[1], out=after)
        xp.tanh(after, out=tanh_c)
        xp.multiply(now[0], tanh_c, out=h)
        if over is not None:
            xp.copyto(h, before[:hidden], where=over[t])
    return column, block, shown, over


def joined(xp, weight_ih, weight_hh, bias_ih, bias_hh):
    """[W_h W_x b], (4H, H + I + 1), in the block's order, halved for the gates that are
    sigmoids."""
    (rows, hidden), width = weight_hh.shape, weight_ih.shape[1]
    weight = xp.zeros((rows, hidden + width + 1), weight_hh.dtype)
    weight[:, :hidden], weight[:, hidden:-1] = weight_hh, weight_ih
    for bias in (bias_ih, bias_hh):
        if bias is not None:
            weight[:, -1] += bias
    weight = xp.roll(weight, hidden, axis=0)
    weight[: 3 * hidden] *= 0.5
    return weight


def back(xp, g, block, shown, over, weight_hh):
    """(dL/d(what enters the gates), dL/dh0, dL/dc0), in columns; the first (4H, T, B), in the
    block's order."""
    dy, dc_n = g
    steps, hidden, batch = shown.shape
    told = (
        [False] * steps
        if dy is None
        else dy.any(axis=(1, 2)).tolist()
        if xp is np
        else [True] * steps
    )
    rows = xp.empty((4 * hidden, steps, batch), shown.dtype)
    dh, by_h = xp.zeros((hidden, batch), rows.dtype), xp.empty((hidden, batch), rows.dtype)
    dc = xp.zeros_like(dh) if dc_n is None else dc_n.T.copy()
    across = xp.roll(weight_hh, hidden, axis=0).T.copy()
    for at in reversed(blocks(xp, steps, 4 * hidden * batch, 4 * BLOCK)):
        d, to_c = slopes(xp, block[:-1][at], shown[at])
        if over is not None:
            xp.copyto(to_c, 0, where=over[at][:, None])  # NaN where c is not finite
        for t in reversed(range(steps)[at]):
            now = d[t - at.start]
            if dy is not None and told[t]:  # often the last step alone is
                dh += dy[t].T
            dc += xp.multiply(dh, to_c[t - at.start], out=by_h)
            now[0] *= dh
            now[1:] *= dc
            dc *= block[t, 2]
            carried = None if over is None else xp.where(over[t], dh, 0)
            if over is not None:
                xp.copyto(now, 0, where=over[t])
            xp.matmul(across, now.reshape(4 * hidden, batch), out=dh)
            if over is not None:
                dh += carried
        # now, while it is in the cache
        rows[:, at] = d.reshape(len(d), 4 * hidden, batch).swapaxes(0, 1)
    return rows, dh, dc


def slopes(xp, block, shown):
    """What does not depend on the step after, for some steps at once: dL/d(what enters the gates)
    as it is where dh and dc are 1, and dh/dc."""
    gates = block[:, :4]
    d = gates * gates
    xp.subtract(gates[:, :3], d[:, :3], out=d[:, :3])  # σ' = σ - σ²
    xp.subtract(1, d[:, 3], out=d[:, 3])  # tanh' = 1 - tanh²
    d[:, 0] *= shown  # do = tanh(c) dh
    d[:, 1:3] *= block[:, 3:]  # di = g dc,    df = c dc
    d[:, 3] *= gates[:, 1]  # dg = i dc
    to_c = shown * shown
    xp.subtract(1, to_c, out=to_c)
    to_c *= gates[:, 0]  # dh/dc = o tanh'(c)
    return d, to_c


def to_arguments(xp, rows, column, weight_ih, over):
    """Functions that return dL/dx, dL/dweight_ih, dL/dweight_hh and dL/dbias, from rows (4H, T, B)
    of ``back``."""
    (gates, steps, batch), hidden, width = rows.shape, rows.shape[0] // 4, weight_ih.shape[1]
    flat = rows.reshape(gates, steps * batch)

    def to_x():
        return (flat.T @ xp.roll(weight_ih, hidden, axis=0)).reshape(steps, batch, width)

    @cache
    # all three are one product, as on the way forward
    def to_weights():
        seen = xp.ascontiguousarray(column[:-1].swapaxes(1, 2))  # (T, B, H + I + 1)
        if over is not None:
            xp.copyto(seen, 0, where=over[..., None])  # h may be NaN there
        return xp.roll(flat @ seen.reshape(steps * batch, hidden + width + 1), -hidden, axis=0)

    return (
        to_x,
        lambda: to_weights()[:, hidden:-1],
        lambda: to_weights()[:, :hidden],
        lambda: to_weights()[:, -1],
    )
