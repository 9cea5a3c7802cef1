"""nn: what networks share.

Read in this order: module.py (how parameters are found), sequential.py, linear.py, activation.py
(gelu), softmax.py, norm.py, batch_norm.py, losses.py, binary_cross_entropy.py, conv.py (with
window.py: where a window looks), pool.py, dropout.py, init.py, spectral_norm.py.
checks.py: what they refuse; inputs.py: what the generative chapters refuse.
layout.py: how kernels see images in memory. loading.py: how a state dict is loaded.
``tinycv.nn.functional`` has the functions under PyTorch's names. ``nn.checkpoint(block)(x)`` saves
memory for time: engine/recompute.py. (``tinycv.training.checkpoint`` is about files.)
"""

from tinycv.engine.recompute import checkpoint
from tinycv.engine.tensor import Parameter
from tinycv.nn import functional, init
from tinycv.nn.activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from tinycv.nn.batch_norm import BatchNorm1d, BatchNorm2d
from tinycv.nn.binary_cross_entropy import BCEWithLogitsLoss
from tinycv.nn.conv import Conv2d, ConvTranspose2d
from tinycv.nn.dropout import Dropout
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.losses import CrossEntropyLoss, MSELoss
from tinycv.nn.module import Module
from tinycv.nn.norm import GroupNorm, LayerNorm
from tinycv.nn.pool import AvgPool2d, MaxPool2d
from tinycv.nn.sequential import Flatten, Identity, Sequential
from tinycv.nn.softmax import Softmax
from tinycv.nn.spectral_norm import SpectralNorm

__all__ = [
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GELU",
    "GroupNorm",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpectralNorm",
    "Tanh",
    "checkpoint",
    "functional",
    "init",
]
