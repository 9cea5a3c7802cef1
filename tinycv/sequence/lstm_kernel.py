"""The LSTM's kernel on bare arrays: the sequence forward, and the walk back along it. lstm.py is what it must equal.

Everything is kept as columns, (4H, B) in place of (B, 4H). One product then makes all gates of a step, and each gate
lies in one piece of memory, through which NumPy runs several times faster than through pieces of rows. The product
is of [W_h W_x b] with the column [h; x; 1]: no sum is left to do. A step's block of memory holds

    o, i, f, g, c        g the candidate, c the cell before: then i g and f c are one product, of [i; f] and [g; c]

PyTorch's order, i, f, g, o, is rolled on by one. The weights of o, i and f are negated: σ(z) = 1 / (1 + exp(-z)), and
exp takes half of tanh's time.

Where a sequence is over, o and i are set to 0 and f to 1: then the cell stays as it is, and every slope of the gates is 0
by its own formula. Only h, which is not made of the h before, has to be carried, forward and back.
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.reduce import few, sum_last


def forward(xp, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, mask):
    """Every h, h0 first, (T + 1, B, H); every block; tanh of every cell; where sequences are over, (T, B) or None."""
    (steps, batch, width), hidden, dtype = x.shape, h0.shape[1], x.dtype
    weight = joined(xp, weight_ih, weight_hh, bias_ih, bias_hh)
    column = xp.empty((steps + 1, hidden + width + 1, batch), dtype)            # [h; x; 1] before each step
    column[0, :hidden], column[:-1, hidden:-1], column[:, -1] = h0.T, x.swapaxes(1, 2), 1
    block, shown = xp.empty((steps + 1, 5, hidden, batch), dtype), xp.empty((steps, hidden, batch), dtype)
    block[0, 4], flat = c0.T, block.reshape(steps + 1, 5 * hidden, batch)
    parts, over = xp.empty((2, hidden, batch), dtype), None if mask is None else ~mask[..., 0]
    with np.errstate(over="ignore"):                                            # exp is inf where a gate is 0
        for t, (before, now, gates, after, tanh_c, h) in enumerate(zip(
                column, block, flat[:, :4 * hidden], block[1:, 4], shown, column[1:, :hidden], strict=False)):
            xp.matmul(weight, before, out=gates)
            sigmoids = now[:3]
            xp.exp(sigmoids, out=sigmoids)
            sigmoids += 1
            xp.reciprocal(sigmoids, out=sigmoids)
            xp.tanh(now[3], out=now[3])
            if over is not None:
                xp.copyto(now[:2], 0, where=over[t])
                xp.copyto(now[2], 1, where=over[t])
            xp.multiply(now[1:3], now[3:5], out=parts)
            xp.add(parts[0], parts[1], out=after)
            xp.tanh(after, out=tanh_c)
            xp.multiply(now[0], tanh_c, out=h)
            if over is not None:
                xp.copyto(h, before[:hidden], where=over[t])
    return column[:, :hidden].swapaxes(1, 2).copy(), block, shown, over


def joined(xp, weight_ih, weight_hh, bias_ih, bias_hh):
    """[W_h W_x b], (4H, H + I + 1), in the block's order, negated for the gates that are sigmoids."""
    (rows, hidden), width = weight_hh.shape, weight_ih.shape[1]
    weight = xp.zeros((rows, hidden + width + 1), weight_hh.dtype)
    weight[:, :hidden], weight[:, hidden:-1] = weight_hh, weight_ih
    for bias in (bias_ih, bias_hh):
        if bias is not None:
            weight[:, -1] += bias
    weight = xp.roll(weight, hidden, axis=0)
    sigmoids = weight[:3 * hidden]
    xp.negative(sigmoids, out=sigmoids)
    return weight


def back(xp, g, block, shown, over, weight_hh):
    """(dL/d(what enters the gates), dL/dh0, dL/dc0), in columns; the first (T, 4, H, B), in the block's order."""
    dy, dc_n = g
    steps, hidden, batch = shown.shape
    d = xp.empty((steps, 4, hidden, batch), shown.dtype)
    dh, by_h = xp.zeros((hidden, batch), d.dtype), xp.empty((hidden, batch), d.dtype)
    dc, across = xp.zeros_like(dh) if dc_n is None else dc_n.T.copy(), xp.roll(weight_hh, hidden, axis=0).T.copy()
    for at in reversed(few(xp, steps, 4 * hidden * batch)):
        to_c = slopes(xp, block[:-1][at], shown[at], d[at])
        for t in reversed(range(steps)[at]):
            now = d[t]
            if dy is not None:
                dh += dy[t].T
            dc += xp.multiply(dh, to_c[t - at.start], out=by_h)
            now[0] *= dh
            now[1:] *= dc
            dc *= block[t, 2]
            carried = None if over is None else dh * over[t]
            xp.matmul(across, now.reshape(4 * hidden, batch), out=dh)
            if over is not None:
                dh += carried
    return d, dh, dc


def slopes(xp, block, shown, d):
    """What does not depend on the step after, for some steps at once: d as it is where dh and dc are 1, and dh/dc."""
    gates = block[:, :4]
    xp.multiply(gates, gates, out=d)
    xp.subtract(gates[:, :3], d[:, :3], out=d[:, :3])               # σ' = σ - σ²
    xp.subtract(1, d[:, 3], out=d[:, 3])                            # tanh' = 1 - tanh²
    d[:, 0] *= shown                                                # do = tanh(c) dh
    d[:, 1:3] *= block[:, 3:]                                       # di = g dc,    df = c dc
    d[:, 3] *= gates[:, 1]                                          # dg = i dc
    to_c = shown * shown
    xp.subtract(1, to_c, out=to_c)
    to_c *= gates[:, 0]                                             # dh/dc = o tanh'(c)
    return to_c


def to_parameters(xp, d, x, h):
    """(d as rows (T B, 4H) in PyTorch's order, dL/dweight_ih, dL/dweight_hh, dL/dbias); the weights' when asked for."""
    steps, _, hidden, batch = d.shape
    rows = xp.empty((4, hidden, steps, batch), d.dtype)
    rows[:3], rows[3] = d[:, 1:].transpose(1, 2, 0, 3), d[:, 0].swapaxes(0, 1)
    rows = rows.reshape(4 * hidden, steps * batch)
    return (rows.T, lambda: rows @ x.reshape(steps * batch, x.shape[2]),
            lambda: rows @ h[:-1].reshape(steps * batch, hidden), sum_last(xp, rows)[:, 0])
