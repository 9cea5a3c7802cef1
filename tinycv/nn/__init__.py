"""nn: the layers and losses that all networks share, with PyTorch's names.

A file first defines its function in plain differentiable ops, then the layer (a Module) that holds
the parameters.  Below a ruled line follows the kernel, the fast version that runs in its place
(engine/fused.py explains such pairs).

In reading order:

    module.py                 Module: finds its parameters by name, saves and loads them
    sequential.py             Sequential, Flatten, Identity
    linear.py                 fully connected layer; embedding
    init.py                   initial weights: Xavier (Glorot), Kaiming (He)
    activation.py             GELU, SiLU, leaky ReLU; ReLU, tanh, sigmoid, softplus as layers
    softmax.py                softmax and log-softmax
    losses.py                 cross-entropy, mean squared error
    binary_cross_entropy.py   binary cross-entropy, the loss of a GAN
    contrastive.py            contrastive loss of CLIP: each image finds its text, and back
    distributions.py          normal, Bernoulli, categorical, logistic: log-probability, KL
    discretized.py            discretised logistic, mixture and normal, for pixels of a few levels
    gumbel.py                 Gumbel-softmax and the straight-through estimator
    vector_quantizer.py       vector quantisation: the nearest vector of a learned codebook
    dropout.py                dropout
    norm.py                   layer norm
    group_norm.py             group norm
    batch_norm.py             batch norm
    window.py                 how a window moves over an image, and how large the result is
    conv.py                   convolution, transposed convolution
    masked.py                 masked linear layer, masked convolution (MADE, PixelCNN)
    pool.py                   max pooling, average pooling
    instance_norm.py          instance norm, adaptive instance norm (AdaIN)
    upsample.py               upsampling and resizing: nearest, bilinear
    shuffle.py                pixel shuffle and unshuffle: pixels become channels and back
    slerp.py                  spherical linear interpolation between two vectors (slerp)
    padding.py                padding by a constant, by reflection, by repeating the edge
    spectral_norm.py          spectral norm
    functional.py             all functions of this folder under PyTorch's names

How the files above do it, for a second reading:

    conv_kernel.py            fast convolution on a CPU: one matrix product (im2col)
    conv_few.py               fast convolution of few channels: images last in memory
    gelu_kernel.py            GELU in float32 on a CPU, from one fit of the normal distribution
    image_rows.py             sums over the pixels of images, for group norm and batch norm
    winograd.py               fast convolution with 3 x 3 kernels: fewer multiplications
    layout.py                 memory layouts, such as channels last
    loading.py                load_state_dict, name by name
    parts.py                  replaces the layers or Tensors inside a Module
    checks.py                 argument checks of layers and losses
    inputs.py                 argument checks of the generative chapters

``nn.checkpoint(block)(x)`` recomputes activations to save memory: see engine/recompute.py.
(``tinycv.training.checkpoint`` is something else: it saves a model to a file.)

Symbols:

    x, y, g      input, result, gradient of the loss by the result (dL/dy)
    N, C, O      images in a batch, channels that come in, channels that come out
    H, W         height and width of an image; H', W' those of the result
    kH, kW       height and width of a convolution's window, the taps
    D            features of a vector; (..., D) has any number of axes before them
    s, p, d      stride, padding and dilation of a window (only in formulas)
    W, b         in formulas of the linear layer, its weight and bias; ``weight``, ``bias`` in code
    γ, β, ε      weight and bias of a norm; ``eps``, which keeps a divisor from being 0
    p, q         in losses: predicted probabilities and target probabilities, (N, C)
    xp, pull     in kernels: numpy or cupy; the function from g to the inputs' gradients
"""

from tinycv.engine.recompute import checkpoint
from tinycv.engine.tensor import Parameter
from tinycv.engine.torch_names import give_hints
from tinycv.nn import functional, init
from tinycv.nn.activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from tinycv.nn.batch_norm import BatchNorm1d, BatchNorm2d
from tinycv.nn.binary_cross_entropy import BCEWithLogitsLoss
from tinycv.nn.conv import Conv2d, ConvTranspose2d
from tinycv.nn.dropout import Dropout
from tinycv.nn.group_norm import GroupNorm
from tinycv.nn.instance_norm import InstanceNorm2d
from tinycv.nn.linear import Embedding, Linear
from tinycv.nn.losses import CrossEntropyLoss, MSELoss
from tinycv.nn.masked import MaskedConv2d, MaskedLinear
from tinycv.nn.module import Module
from tinycv.nn.norm import LayerNorm
from tinycv.nn.padding import ReflectionPad2d, ReplicationPad2d, ZeroPad2d
from tinycv.nn.pool import AvgPool2d, MaxPool2d
from tinycv.nn.sequential import Flatten, Identity, Sequential
from tinycv.nn.shuffle import PixelShuffle, PixelUnshuffle
from tinycv.nn.softmax import Softmax
from tinycv.nn.spectral_norm import SpectralNorm
from tinycv.nn.upsample import Upsample
from tinycv.nn.vector_quantizer import VectorQuantizer

give_hints(__name__)  # what to type instead of a name of PyTorch

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
    "InstanceNorm2d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaskedConv2d",
    "MaskedLinear",
    "MaxPool2d",
    "Module",
    "Parameter",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReLU",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpectralNorm",
    "Tanh",
    "Upsample",
    "VectorQuantizer",
    "ZeroPad2d",
    "checkpoint",
    "functional",
    "init",
]
