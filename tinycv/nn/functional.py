"""torch.nn.functional in tinycv: every function of nn, under PyTorch's name for it if it has one.

Each function is explained in the file that it is imported from.

differs, in all of them: the first argument is called x (ids for an embedding, input for a loss),
and an axis is called axis, not dim. There is no argument inplace. Arguments that PyTorch has after
the last one here (ceil_mode, max_norm, beta, dtype, ...) are refused with a TypeError. Differences
of a single function are stated in its docstring.
"""

from tinycv.engine.ops import relu, sigmoid, softplus, tanh
from tinycv.engine.torch_names import give_hints
from tinycv.nn.activation import gelu, leaky_relu, silu
from tinycv.nn.batch_norm import batch_norm
from tinycv.nn.binary_cross_entropy import binary_cross_entropy_with_logits
from tinycv.nn.conv import conv2d, conv_transpose2d
from tinycv.nn.dropout import dropout
from tinycv.nn.group_norm import group_norm
from tinycv.nn.gumbel import gumbel_softmax
from tinycv.nn.instance_norm import adaptive_instance_norm, instance_norm
from tinycv.nn.linear import embedding, linear
from tinycv.nn.losses import cross_entropy, mse_loss
from tinycv.nn.norm import layer_norm
from tinycv.nn.padding import pad
from tinycv.nn.pool import avg_pool2d, max_pool2d
from tinycv.nn.shuffle import pixel_shuffle, pixel_unshuffle
from tinycv.nn.softmax import log_softmax, softmax
from tinycv.nn.upsample import interpolate

give_hints(__name__)  # what to type instead of a name of PyTorch

__all__ = [
    "adaptive_instance_norm",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "group_norm",
    "gumbel_softmax",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
