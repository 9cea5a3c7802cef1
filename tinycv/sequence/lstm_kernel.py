"""LSTM kernel on bare arrays: all steps forward, then all steps backward. It computes the same
function as the definition in lstm.py.

Everything is stored as columns: (4H, B) instead of (B, 4H).  Then all gates of a step come from one
product, and each gate is one contiguous piece of memory, which NumPy processes several times faster
than pieces of rows.  The product is [W_h W_x b] times the column [h; x; 1], so nothing is left to
add, neither forward nor backward.

    columns   (T + 1, H + I + 1, B)   [h; x; 1] as step t reads them
    blocks    (T + 1, 5, H, B)        o, i, f, g, c of step t: the gates, the candidate g, and the
                                      cell c *before* the step. Step t writes c' into block t + 1

PyTorch orders the gates i, f, g, o.  Rotated by one place they are o, i, f, g, and c follows.  In
this order [i; f] lies beside [g; c], so one multiplication of two slices gives both i g and f c,
whose sum is c'.  The three sigmoids o, i and f are neighbours too.

One tanh computes all gates, since σ(z) = (1 + tanh(z / 2)) / 2: the weights of o, i and f are
halved.

After a sequence has ended, o, i and g are set to 0 and f to 1, so that the cell stays as it is.
The formula of h does not contain the h before it, so h (and dL/dh, in the backward pass) has to be
copied.  In these steps x counts as 0, and so does every gradient of the gates.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from tinycv.engine.reduce import BLOCK
from tinycv.engine.reduce import blocks as slices_of_steps

# Positions in a block, on its axis of 5.
OUTPUT, INPUT, FORGET, CANDIDATE, CELL = range(5)
SIGMOIDS = slice(OUTPUT, CANDIDATE)  # o, i, f
INPUT_AND_FORGET = slice(INPUT, CANDIDATE)  # [i; f], the factors of ...
CANDIDATE_AND_CELL = slice(CANDIDATE, CELL + 1)  # ... [g; c]
OUTPUT_AND_INPUT = slice(OUTPUT, FORGET)  # o, i
GATES = slice(OUTPUT, CELL)  # o, i, f, g


def forward_steps(xp, x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, mask, keep=True):
    """Returns columns (T + 1, H + I + 1, B), of which the last holds only h; blocks (T + 1, 5, H,
    B), of which the last holds only c; tanh of the cell after each step, (T, H, B); and where a
    sequence has ended, bool (T, B), or None without a mask.

    keep: False if no backward pass will follow. Then every step writes to the same block, which
    stays in the cache, and only the columns and the last c are valid.
    """
    (steps, batch, width), hidden, dtype = x.shape, h0.shape[1], x.dtype
    weight = joined_weight(xp, weight_ih, weight_hh, bias_ih, bias_hh)
    x = x if mask is None else xp.where(mask, x, 0)
    ended = None if mask is None else ~mask[..., 0]
    empty = xp.empty if keep else partial(empty_for_one_step, xp)

    columns = xp.empty((steps + 1, hidden + width + 1, batch), dtype)
    columns[0, :hidden] = h0.T
    columns[:-1, hidden:-1] = x.swapaxes(1, 2)
    columns[:, -1] = 1
    # The same memory twice: with everything of a step stacked on one axis, as the product writes
    # the gates, and with an axis of 5.
    stacked = empty((steps + 1, 5 * hidden, batch), dtype)
    blocks = stacked.reshape(steps + 1, 5, hidden, batch)
    blocks[0, CELL] = c0.T
    tanh_cells = empty((steps, hidden, batch), dtype)
    written, retained = summands = xp.empty((2, hidden, batch), dtype)  # i g and f c
    half = xp.asarray(0.5, dtype)  # a Python number would be converted again at every step

    for t, (column, next_h) in enumerate(zip(columns[:-1], columns[1:, :hidden], strict=True)):
        if keep or t == 0:  # else every step has the same block, and these slices of it
            block, gates = blocks[t], stacked[t, : 4 * hidden]
            next_c, tanh_c = blocks[t + 1, CELL], tanh_cells[t]
            sigmoids, output = block[SIGMOIDS], block[OUTPUT]
            factors, factors_of = block[INPUT_AND_FORGET], block[CANDIDATE_AND_CELL]
        xp.matmul(weight, column, out=gates)
        xp.tanh(gates, out=gates)
        sigmoids *= half
        sigmoids += half
        if ended is not None:
            xp.copyto(block[OUTPUT_AND_INPUT], 0, where=ended[t])
            xp.copyto(block[FORGET], 1, where=ended[t])
            # Where h is NaN the candidate is NaN, and 0 * NaN would make the cell NaN.
            xp.copyto(block[CANDIDATE], 0, where=ended[t])
        xp.multiply(factors, factors_of, out=summands)
        xp.add(written, retained, out=next_c)
        xp.tanh(next_c, out=tanh_c)
        xp.multiply(output, tanh_c, out=next_h)
        if ended is not None:
            xp.copyto(next_h, column[:hidden], where=ended[t])
    return columns, blocks, tanh_cells, ended


def empty_for_one_step(xp, shape, dtype):
    """An array of ``shape`` whose first axis, the steps, has stride 0: what looks like many steps
    is the memory of one."""
    one = xp.empty(shape[1:], dtype)
    return xp.lib.stride_tricks.as_strided(one, shape, (0, *one.strides))


def joined_weight(xp, weight_ih, weight_hh, bias_ih, bias_hh):
    """[W_h W_x b], (4H, H + I + 1), with the rows in the order o, i, f, g; the rows of the three
    sigmoids are halved."""
    (rows, hidden), width = weight_hh.shape, weight_ih.shape[1]
    weight = xp.zeros((rows, hidden + width + 1), weight_hh.dtype)
    weight[:, :hidden], weight[:, hidden:-1] = weight_hh, weight_ih
    for bias in (bias_ih, bias_hh):
        if bias is not None:
            weight[:, -1] += bias
    weight = xp.roll(weight, hidden, axis=0)  # i, f, g, o -> o, i, f, g
    weight[: 3 * hidden] *= 0.5
    return weight


def backward_steps(xp, g, blocks, tanh_cells, ended, weight_hh):
    """Returns dL/d(inputs of the gates' activations), (4H, T, B) in the order o, i, f, g; dL/dh0
    and dL/dc0, (H, B) each. g: the gradients of y and c_n."""
    dy, dc_n = g
    steps, hidden, batch = tanh_cells.shape
    nonzero = steps_with_gradient(xp, dy, steps)
    d_gates = xp.empty((4 * hidden, steps, batch), tanh_cells.dtype)
    dh = xp.zeros((hidden, batch), d_gates.dtype)
    dc_through_h = xp.empty((hidden, batch), d_gates.dtype)
    dc = xp.zeros_like(dh) if dc_n is None else dc_n.T.copy()
    weight_to_h = xp.roll(weight_hh, hidden, axis=0).T.copy()
    # A few steps at once: ``local_slopes`` computes, for a whole chunk of steps, the factors that
    # do not depend on other steps, in arrays that are small enough to stay in the cache.
    for chunk in reversed(slices_of_steps(xp, steps, 4 * hidden * batch, 4 * BLOCK)):
        d, dh_dc = local_slopes(xp, blocks[:-1][chunk], tanh_cells[chunk])
        if ended is not None:
            xp.copyto(dh_dc, 0, where=ended[chunk][:, None])  # it is NaN where c is not finite
        for t in reversed(range(steps)[chunk]):
            d_step = d[t - chunk.start]  # (4, H, B)
            if dy is not None and nonzero[t]:
                dh += dy[t].T
            dc += xp.multiply(dh, dh_dc[t - chunk.start], out=dc_through_h)
            d_step[OUTPUT] *= dh
            d_step[INPUT:] *= dc
            dc *= blocks[t, FORGET]
            carried = None if ended is None else xp.where(ended[t], dh, 0)
            if ended is not None:
                xp.copyto(d_step, 0, where=ended[t])
            xp.matmul(weight_to_h, d_step.reshape(4 * hidden, batch), out=dh)
            if ended is not None:
                dh += carried
        # Copied here, chunk by chunk, because d is still in the cache.
        d_gates[:, chunk] = d.reshape(len(d), 4 * hidden, batch).swapaxes(0, 1)
    return d_gates, dh, dc


def steps_with_gradient(xp, dy, steps):
    """For each step, False if its dy is known to be all zeros. A loss on the last step alone is
    common, and then the other steps need no addition. On a GPU this check would have to wait for
    the device, so the answer there is True for every step."""
    if dy is None:
        return [False] * steps
    if xp is np:
        return dy.any(axis=(1, 2)).tolist()
    return [True] * steps


def local_slopes(xp, blocks, tanh_cells):
    """The derivatives of some steps that do not depend on later steps: dL/d(inputs of the gates'
    activations) as it would be if dh and dc were 1, (steps, 4, H, B), and dh'/dc', (steps, H,
    B)."""
    gates = blocks[:, GATES]
    d = gates * gates
    xp.subtract(gates[:, SIGMOIDS], d[:, SIGMOIDS], out=d[:, SIGMOIDS])  # σ' = σ - σ²
    xp.subtract(1, d[:, CANDIDATE], out=d[:, CANDIDATE])  # tanh' = 1 - tanh²
    d[:, OUTPUT] *= tanh_cells  # do = tanh(c') dh
    d[:, INPUT_AND_FORGET] *= blocks[:, CANDIDATE_AND_CELL]  # di = g dc,    df = c dc
    d[:, CANDIDATE] *= gates[:, INPUT]  # dg = i dc
    dh_dc = tanh_cells * tanh_cells
    xp.subtract(1, dh_dc, out=dh_dc)
    dh_dc *= gates[:, OUTPUT]  # dh'/dc' = o tanh'(c')
    return d, dh_dc


def argument_gradients(xp, d_gates, columns, weight_ih, ended):
    """Four functions that return dL/dx, dL/dweight_ih, dL/dweight_hh and dL/dbias. d_gates (4H, T,
    B) comes from ``backward_steps``."""
    (rows, steps, batch), width = d_gates.shape, weight_ih.shape[1]
    hidden = rows // 4
    flat = d_gates.reshape(rows, steps * batch)

    def to_x():
        return (flat.T @ xp.roll(weight_ih, hidden, axis=0)).reshape(steps, batch, width)

    @cache
    def to_joined_weight():
        """The gradient of [W_h W_x b], as one product; rolled back to the order i, f, g, o."""
        inputs = xp.ascontiguousarray(columns[:-1].swapaxes(1, 2))  # (T, B, H + I + 1)
        if ended is not None:
            xp.copyto(inputs, 0, where=ended[..., None])  # h may be NaN there
        inputs = inputs.reshape(steps * batch, hidden + width + 1)
        return xp.roll(flat @ inputs, -hidden, axis=0)

    return (
        to_x,
        lambda: to_joined_weight()[:, hidden:-1],
        lambda: to_joined_weight()[:, :hidden],
        lambda: to_joined_weight()[:, -1],
    )
