"""The functions of nn under PyTorch's names: a map. Each is read in the file that it comes from."""

from tinycv.engine.ops import relu, sigmoid, softplus, tanh
from tinycv.nn.activation import gelu, log_softmax, softmax
from tinycv.nn.batch_norm import batch_norm
from tinycv.nn.dropout import dropout
from tinycv.nn.linear import embedding, linear
from tinycv.nn.losses import cross_entropy, mse_loss
from tinycv.nn.norm import group_norm, layer_norm

__all__ = ["batch_norm", "cross_entropy", "dropout", "embedding", "gelu", "group_norm", "layer_norm", "linear",
           "log_softmax", "mse_loss", "relu", "sigmoid", "softmax", "softplus", "tanh"]
