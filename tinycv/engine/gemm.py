"""Matrix products (GEMM): NumPy's BLAS on a CPU, and cuBLAS on a GPU.

gpu/gemm.py calls cuBLAS directly, so that transposed arrays are not copied first.
"""

from __future__ import annotations

import numpy as np

from tinycv.engine.backend import Array, array_module
from tinycv.engine.dispatch import on_gpu


def matrix_product(
    a: Array, b: Array, scale: float = 1.0, out: Array = None, add: bool = False
) -> Array:
    """scale * a @ b of arrays or Tensors, (..., M, K) @ (..., K, N).

    out: a CuPy array for the result; with ``add`` the result is added to what it holds.
    """
    if type(a) is np.ndarray or type(b) is not type(a) or (xp := array_module(a)) is np:
        return by_arrays(a, b, scale, out, add)
    run = on_gpu(matrix_product, (a, b))
    return by_arrays(a, b, scale, out, add) if run is None else run(xp, a, b, scale, out, add)


def by_arrays(a: Array, b: Array, scale: float, out: Array, add: bool) -> Array:
    """The same product with the operator @."""
    y = a @ b if scale == 1 else scale * (a @ b)
    if out is None:
        return y
    out[...] = out + y if add else y
    return out
