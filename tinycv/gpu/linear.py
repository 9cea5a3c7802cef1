"""Linear layer on a GPU: a launch writes the bias into every row, and cuBLAS adds the product.

Adding the bias afterwards would read and write the whole result once more.  Written first, it costs
one writing, and cuBLAS reads it while it multiplies anyway.

Definition: nn/linear.py.   How kernels are written: cuda.py.
"""

from __future__ import annotations

from typing import Any

from tinycv.engine.backend import Array
from tinycv.engine.gemm import matrix_product
from tinycv.engine.reduce import as_rows, sum_rows
from tinycv.gpu.cuda import Kernels, packed
from tinycv.nn.linear import refuse_misfit

kernels = Kernels(r"""
// Copies x into every row of y, four entries at a time if x and all rows start at a multiple of
// four.
KERNEL rows_of(Int rows, Int width, const T* x, T* y) {
    const bool even = width % 4 == 0 && (size_t(x) | size_t(y)) % sizeof(Four) == 0;
    EACH_ROW(row, rows) {
        if (even) EACH(j, width / 4) ((Four*)(y + row * width))[j] = ((const Four*)x)[j];
        else EACH(j, width) y[row * width + j] = x[j];
    }
}
""")


def product_and_bias(xp: Any, rows: Array, weight: Array, bias: Array | None) -> Array:
    """rows (N, in) @ weight (out, in)ᵀ + bias (out,) or None: (N, out)."""
    if bias is None:
        return matrix_product(rows, weight.T)
    if bias.shape != (len(weight),):  # the kernel would read past the end of a shorter bias
        return matrix_product(rows, weight.T) + bias
    y, (bias,) = xp.empty((len(rows), len(weight)), rows.dtype), packed(xp, bias)
    kernels.rows_of(y, len(y) if y.size else 0, len(y), y.shape[1], bias, y)
    return matrix_product(rows, weight.T, out=y, add=True)


def linear(xp, x, weight, bias=None):
    """One launch that writes the bias into every row, and one product that is added to it. The
    backward pass takes one product for x, one for weight, and the sums of g for bias, each only if
    it is needed. x and weight are saved.

    Definition: nn/linear.py.
    """
    refuse_misfit(x, weight, bias)
    rows = as_rows(x)
    y = product_and_bias(xp, rows, weight, bias)

    def pull(g):
        g = as_rows(g)
        return (
            lambda: matrix_product(g, weight).reshape(x.shape),
            lambda: matrix_product(g.T, rows),
            lambda: sum_rows(xp, g),
        )

    return y.reshape(*x.shape[:-1], weight.shape[0]), pull
