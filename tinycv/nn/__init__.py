"""nn: what networks share.

Read in this order: module.py (how parameters are found), linear.py, activation.py (softmax, gelu), norm.py, batch_norm.py,
losses.py, dropout.py, init.py. ``tinycv.nn.functional`` has the functions under PyTorch's names.
"""

from tinycv.engine.tensor import Parameter
from tinycv.nn import functional, init
from tinycv.nn.activation import GELU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from tinycv.nn.batch_norm import BatchNorm1d, BatchNorm2d
from tinycv.nn.dropout import Dropout
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.losses import CrossEntropyLoss, MSELoss
from tinycv.nn.module import Flatten, Identity, Module, Sequential
from tinycv.nn.norm import GroupNorm, LayerNorm

__all__ = ["BatchNorm1d", "BatchNorm2d", "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "GELU", "GroupNorm",
           "Identity", "LayerNorm", "Linear", "MSELoss", "Module", "Parameter", "ReLU", "Sequential", "Sigmoid", "Softmax",
           "Softplus", "Tanh", "functional", "init"]
