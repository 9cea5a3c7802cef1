"""Convolution on a GPU: runs the kernels of nn/conv.py, also for float16.

Those kernels call three linear maps and a sum over rows.  Each of these has a CUDA version
(conv_kernel.py, reduce.py), which takes float16 and adds it up in float32.  Without this file, the
arrays of a float16 convolution would first be converted to float32 (engine/fused.py).
"""

from __future__ import annotations

from tinycv.nn import conv as by_arrays


def conv2d(xp, *arguments):
    """The kernel of nn/conv.py, whose linear maps run in conv_kernel.py."""
    return by_arrays.conv2d.run(xp, *arguments)


def conv_transpose2d(xp, *arguments):
    """The kernel of nn/conv.py. It uses the same linear maps in other roles: its result is computed
    by the map for conv2d's dL/dx."""
    return by_arrays.conv_transpose2d.run(xp, *arguments)
