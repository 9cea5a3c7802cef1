"""nn: what networks share.

Read in this order: module.py (how parameters are found), linear.py, activation.py (softmax, gelu), norm.py, losses.py,
dropout.py, init.py. ``tinycv.nn.functional`` has the functions under PyTorch's names.
``nn.checkpoint(block)(x)`` saves memory for time: engine/recompute.py. (``tinycv.checkpoint`` is about files.)
"""

from tinycv.engine.recompute import checkpoint
from tinycv.engine.tensor import Parameter
from tinycv.nn import functional, init
from tinycv.nn.activation import GELU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from tinycv.nn.dropout import Dropout
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.losses import CrossEntropyLoss, MSELoss
from tinycv.nn.module import Flatten, Identity, Module, Sequential
from tinycv.nn.norm import LayerNorm

__all__ = ["CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "GELU", "Identity", "LayerNorm", "Linear", "MSELoss",
           "Module", "Parameter", "ReLU", "Sequential", "Sigmoid", "Softmax", "Softplus", "Tanh", "checkpoint", "functional",
           "init"]
