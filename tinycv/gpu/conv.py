"""nn/conv.py on a GPU: the kernels as they stand there, in halves too.

What they call, three linear maps and a sum over rows, has CUDA members of its own (conv_kernel.py,
reduce.py), which take halves and add them up in float32.
"""

from __future__ import annotations

from tinycv.nn import conv as by_arrays


def conv2d(xp, *arguments):
    """A product, or a launch, of conv_kernel.py for y and for each gradient."""
    return by_arrays.conv2d.run(xp, *arguments)


def conv_transpose2d(xp, *arguments):
    """The same maps in other places: y is what conv2d's gradient is."""
    return by_arrays.conv_transpose2d.run(xp, *arguments)
